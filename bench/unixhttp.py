"""A client of the daemon's socket that costs next to nothing: one kept-alive connection, no headers looked at but
one.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from bench.harness import BenchError

IPS = "/apis/kubeovn.io/v1/ips"
BULK = "/apis/ovnreserve.io/v1/bulk"
_TIMEOUT = 120.0
_IDLE = 2.0
"""Seconds after which a connection is not trusted any more: the server closes those that are idle for 5."""
_BLANK = b"\r\n\r\n"


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answer_length(buffer: bytearray) -> int:
    """How many bytes the answer in the buffer has, 0 while its head is not whole."""
    end = buffer.find(_BLANK)
    if end < 0:
        return 0
    at = buffer.lower().index(b"\r\ncontent-length:", 0, end + 2) + 17
    return end + 4 + int(buffer[at : buffer.index(b"\r\n", at)])


def parse(answer: bytes | bytearray) -> tuple[int, Any]:
    """Code and decoded body."""
    return int(answer[9:12]), json.loads(answer[answer.index(_BLANK) + 4 :])


class Http:
    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_TIMEOUT)
        self._socket.connect(self._path)
        self._used = time.monotonic()

    def close(self) -> None:
        self._socket.close()

    def exchange(self, message: bytes) -> bytearray:
        """Send a whole request, return the whole answer."""
        if time.monotonic() - self._used > _IDLE:
            self.close()
            self._connect()
        self._socket.sendall(message)
        buffer = bytearray()
        length = 0
        while True:
            data = self._socket.recv(1 << 20)
            if not data:
                raise BenchError("the daemon closed the connection")
            buffer += data
            length = length or answer_length(buffer)
            if length and len(buffer) >= length:
                self._used = time.monotonic()
                return buffer

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A request that has to succeed; its answer."""
        code, answer = parse(self.exchange(request(method, path, b"" if body is None else json.dumps(body).encode())))
        if code >= 300:
            raise BenchError(f"{method} {path}: {code} {answer.get('message')}")
        return answer

    def bulk(self, verb: str, items: list[dict[str, Any]], *, objects: bool = False) -> list[dict[str, Any]]:
        """Every item has to succeed; the results."""
        query = "" if objects else "?objects=false"
        results: list[dict[str, Any]] = self.ask("POST", BULK + query, {"verb": verb, "items": items})["results"]
        wrong = [result for result in results if result["result"] == "error"]
        if wrong:
            raise BenchError(f"bulk {verb}: {len(wrong)} of {len(items)} refused: {wrong[0]['status']['message']}")
        return results
