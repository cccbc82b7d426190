"""JSON-RPC of the database server: the same messages come out however the bytes are cut, and nothing raises."""

from __future__ import annotations

import errno
import json
from typing import Any, Final

import ovs.jsonrpc

from ovnreserve.northbound.wire import Connection

_UPDATE: Final = {
    "method": "update3",
    "params": [["monid", "OVN_Northbound"], "id", {"Logical_Switch": {"uuid": {"modify": {"name": 'a"b\\{é'}}}}],
    "id": None,
}
SEEDS: Final = (
    b"\x05" + json.dumps(_UPDATE).encode() + b"\n" + json.dumps(_UPDATE, ensure_ascii=False).encode(),
    b'\x01{"id":1,"result":[{"rows":[]},{}],"error":null}{"id":"echo","method":"echo","params":[]}',
    b'\x03{"method":"a","params":["\\\\\\"}{",{"}":"{"}],"id":null} \r\n\t{"result',
    b'\x02{"method":"a","params":[],"id":null}}',
    b"\x07\xff\xfe{}",
)


class _Stream:
    """The bytes in pieces, as a socket may have them."""

    name = "fuzz"

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces[::-1]

    def recv(self, _size: int) -> tuple[int, bytes]:
        return (0, self._pieces.pop()) if self._pieces else (errno.EAGAIN, b"")

    def close(self) -> None:
        self._pieces.clear()


def check(data: bytes) -> None:
    size, data = (data[0] % 32 + 1 if data else 1), data[1:]
    if data:
        whole = _received([data])
        assert _received([data[at : at + size] for at in range(0, len(data), size)]) == whole


def _received(pieces: list[bytes]) -> tuple[list[Any], int]:
    """The messages, and the status in the end."""
    connection = Connection(_Stream(pieces))
    messages = []
    while True:
        error, message = connection.recv()
        if isinstance(message, ovs.jsonrpc.Message):
            messages.append(message.to_json())
        else:
            assert error in (errno.EAGAIN, errno.EPROTO)
            return messages, connection.get_status()
