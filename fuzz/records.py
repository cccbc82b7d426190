"""Our own rows, as somebody may have left them: records, and the ledger row's version vector."""

from __future__ import annotations

import json
from typing import Final

import msgspec

from ovnreserve.model.ip import Status, render
from ovnreserve.model.names import is_subdomain
from ovnreserve.model.reservation import external_ids_of, reservation_of
from ovnreserve.model.resource import NAME, RECORD, SWITCH, UID
from ovnreserve.plan import revision

_RECORD: Final = {
    "subnet": "net", "pod": "vm-1", "ns": "default", "mac": "0a:00:00:00:00:01", "created": 1, "rv": 5,
    "v4": "10.0.0.9", "v6": "fd00::9", "type": "VirtualMachine", "labels": {"a": "b"}, "annotations": {"c": "d"},
    "node": "n", "container": "c", "attach": [["10.1.0.1"], ["0a:00:00:00:00:02"], ["other"]], "deleted": 7, "gen": 2,
}  # fmt: skip
SEEDS: Final = (
    json.dumps(_RECORD).encode(),
    json.dumps({key: _RECORD[key] for key in ("subnet", "pod", "ns", "mac", "created", "rv", "v4")}).encode(),
    b'{"0123456789ab":7,"ba9876543210":12}',
    b'{"a":1e400,"b":true,"c":-1,"d":99999999999999999999}',
    b'{"a":' + b"9" * 4300 + b"}",
)


def check(data: bytes) -> None:
    text = data.decode("utf-8", "ignore")
    ids = {NAME: "vm-1.default", UID: "uid", SWITCH: "switch", RECORD: text}
    for garbled in (ids, {**ids, RECORD: SEEDS[0].decode(), NAME: text}, {**ids, RECORD: SEEDS[0].decode(), UID: text}):
        r = reservation_of(garbled)
        if r is not None:
            assert is_subdomain(r.name)
            assert r.uid.isprintable()
            assert reservation_of(external_ids_of(r)) == r
            msgspec.json.encode(render(r, Status("Reserved", ())))
    vector = revision.decode(text)
    assert revision.decode(revision.encode(vector)) == vector
    revision.encode({incarnation: count + 1 for incarnation, count in vector.items()})
