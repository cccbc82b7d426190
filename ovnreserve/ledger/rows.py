"""Rows: a ledger's resources and quarantined addresses as SQLite has them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from ovnreserve.model.addresses import format_v4, format_v6, parse_v6
from ovnreserve.model.record import record_ids, resource_of
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Dot, Resource, State

_COLUMNS: Final = (
    "name", "uid", "switch", "subnet", "pod_name", "namespace", "pod_type", "v4", "v6", "mac", "state", "created",
    "deleted", "resource_version", "message", "more", "live", "incarnation", "number",
)  # fmt: skip
HELD: Final = "UPDATE reservation SET state = 'held' WHERE name = ? AND state = 'intended'"
PUT: Final = (
    f"INSERT INTO reservation ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "  # noqa: S608
    "ON CONFLICT (name) DO UPDATE SET " + ", ".join(f"{c} = excluded.{c}" for c in _COLUMNS[1:])
)
FACT_HELD: Final = "UPDATE fact SET state = 'held' WHERE name = ? AND state = 'intended'"
PUT_FACT: Final = "INSERT OR REPLACE INTO fact (name, uid, state, record) VALUES (?, ?, ?, ?)"
_MORE: Final = (
    "labels", "annotations", "generation", "node_name", "container_id", "attach_ips", "attach_macs", "attach_subnets",
    "reserved", "blocked",
)  # fmt: skip
_DEFAULTS: Final[dict[str, Any]] = {
    "labels": {}, "annotations": {}, "generation": 1, "node_name": "", "container_id": "",
    "attach_ips": (), "attach_macs": (), "attach_subnets": (), "reserved": True, "blocked": {},
}  # fmt: skip


class Quarantined(NamedTuple):
    """An address that was released; `address` as text."""

    switch: str
    address: str
    since: float


def reservations(db: sqlite3.Connection, which: str = "ORDER BY name", *values: str | int) -> list[Reservation]:
    """A ledger's reservations: every one by name, or `which` in SQL. Raises what SQLite raises, ValueError, TypeError
    and AttributeError.
    """
    query = f"SELECT {', '.join(_COLUMNS)} FROM reservation {which}"  # noqa: S608
    return [_reservation(row) for row in db.execute(query, values)]


def facts(db: sqlite3.Connection, which: str = "ORDER BY name", *values: str | int) -> list[Resource]:
    """A ledger's owners and pools: every one by name, or `which` in SQL. Raises what SQLite raises, and ValueError."""
    found: list[Resource] = []
    for name, state, record in db.execute(f"SELECT name, state, record FROM fact {which}", values):  # noqa: S608
        resource = resource_of(json.loads(record))
        if resource is None:
            raise ValueError(f"the record of {name} is garbled")
        found.append(resource.with_(state=State(state)))
    return found


def row_of(r: Reservation) -> tuple[Any, ...]:
    more = {key: value for key in _MORE if (value := getattr(r, key)) != _DEFAULTS[key]}
    return (
        r.name, r.uid, r.switch, r.subnet, r.pod_name, r.namespace, r.pod_type, r.v4,
        None if r.v6 is None else format_v6(r.v6), r.mac, r.state.value, r.created, r.deleted,
        r.resource_version, r.message, json.dumps(more) if more else "{}", r.live, *r.written,
    )  # fmt: skip


def fact_row_of(resource: Resource) -> tuple[str, str, str, str]:
    return resource.name, resource.uid, resource.state.value, json.dumps(record_ids(resource))


def _reservation(row: Sequence[Any]) -> Reservation:
    values = dict(zip(_COLUMNS, row, strict=True))
    more: dict[str, Any] = json.loads(values.pop("more"))
    del values["live"]
    written = Dot(values.pop("incarnation"), values.pop("number"))
    for key in ("attach_ips", "attach_macs", "attach_subnets"):
        if key in more:
            more[key] = tuple(more[key])
    values["state"] = State(values["state"])
    values["v6"] = None if values["v6"] is None else parse_v6(values["v6"])
    return Reservation(**values, **more, written=written)


def quarantine_of(r: Resource, since: float) -> list[Quarantined]:
    """The entries that keep a released reservation's addresses from being chosen for a while."""
    if not isinstance(r, Reservation):
        return []
    texts = [format_v4(r.v4)] if r.v4 is not None else []
    if r.v6 is not None:
        texts.append(format_v6(r.v6))
    return [Quarantined(r.switch, text, since) for text in texts]
