"""JSON-RPC to an ovsdb-server with nothing in between: the limit is measured with it, and everything is checked with
it.

Requests may be pipelined: `send` several, then `receive` as many replies, which come in order.
"""

from __future__ import annotations

import itertools
import json
import socket
from typing import Any

from bench.harness import BenchError

DATABASE = "OVN_Northbound"
DURABLE = {"op": "commit", "durable": True}
_TIMEOUT = 60.0


class Rpc:
    """A connection to `remote`, which is `unix:PATH`."""

    def __init__(self, remote: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_TIMEOUT)
        self._socket.connect(remote.removeprefix("unix:"))
        self._ids = itertools.count()
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._replies: list[Any] = []

    def close(self) -> None:
        self._socket.close()

    def send(self, *operations: dict[str, Any]) -> None:
        request = {"method": "transact", "params": [DATABASE, *operations], "id": next(self._ids)}
        self._socket.sendall(json.dumps(request, separators=(",", ":")).encode())

    def receive(self) -> list[Any]:
        """The results of the oldest transaction without a reply yet. BenchError if it failed."""
        while not self._replies:
            data = self._socket.recv(1 << 20)
            if not data:
                raise BenchError("ovsdb-server closed the connection")
            self._text += data.decode()  # all we read is ASCII
            if data.endswith(b"}"):
                self._decode_all()
        reply = self._replies.pop(0)
        results: list[Any] = reply["result"]
        wrong = [result for result in results if result and result.get("error")]
        if reply["error"] or wrong:
            raise BenchError(f"ovsdb-server refused: {reply['error'] or wrong[0]}")
        return results

    def _decode_all(self) -> None:
        try:
            while self._text:
                reply, end = self._decode(self._text)
                self._replies.append(reply)
                self._text = self._text[end:]
        except ValueError:
            return  # the last one is not whole yet

    def transact(self, *operations: dict[str, Any]) -> list[Any]:
        self.send(*operations)
        return self.receive()


def where_name(name: str) -> list[Any]:
    return [["name", "==", name]]


def set_exclude_ips(switch: str, text: str) -> dict[str, Any]:
    """The operation that replaces exclude_ips of a switch and nothing else."""
    mutations: list[Any] = [["other_config", "delete", ["set", ["exclude_ips"]]]]
    if text:
        mutations.append(["other_config", "insert", ["map", [["exclude_ips", text]]]])
    return {"op": "mutate", "table": "Logical_Switch", "where": where_name(switch), "mutations": mutations}


def exclude_ips_of(rpc: Rpc, switch: str) -> str:
    where = where_name(switch)
    [found] = rpc.transact({"op": "select", "table": "Logical_Switch", "where": where, "columns": ["other_config"]})
    return str(dict(found["rows"][0]["other_config"][1]).get("exclude_ips", ""))
