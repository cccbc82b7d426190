"""How a tenant asks: the daemon that answered last, and the other one when that says it is not the active one."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from bench.harness import BenchError

IPS: Final = "/apis/kubeovn.io/v1/ips"
BULK: Final = "/apis/ovnreserve.io/v1/bulk"
TIMEOUT: Final = 5
"""Seconds after which the daemon answers that the outcome is unknown."""
_PATIENCE: Final = 12.0
"""Seconds that a client waits for any answer: a daemon may hang."""
_GIVE_UP: Final = 60.0
_RETRY: Final = 0.01


class Unknown(Exception):  # noqa: N818 - it is an answer, not a fault
    """Whether it was done is not known: the connection broke, or the daemon said so."""


class Refused(Exception):  # noqa: N818
    """A definite no (4xx): nothing was changed."""

    def __init__(self, status: dict[str, Any]) -> None:
        super().__init__(status.get("message", ""))
        self.code = status.get("code", 0)


class Asker:
    """One tenant's. What a daemon refuses with 503 has changed nothing, by contract, and is asked again; `told_no`
    counts that.
    """

    def __init__(self, sockets: Sequence[Path]) -> None:
        self._sockets = sockets
        self._at = 0
        self._connection: HTTPConnection | None = None
        self.told_no = 0

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The answer. Raises Unknown or Refused; BenchError if no daemon is active for a minute."""
        until = time.monotonic() + _GIVE_UP
        content = None if body is None else json.dumps(body).encode()
        while True:
            code, answer = self._once(method, path, content)
            if 200 <= code < 300:
                return answer
            if code == 504:
                raise Unknown(answer.get("message", ""))
            if code not in (0, 503):
                raise Refused(answer)
            if time.monotonic() > until:
                raise BenchError(f"no daemon was active for {_GIVE_UP:g} s; the last one said: {answer}")
            self.told_no += 1
            self._at = (self._at + 1) % len(self._sockets)
            self.close()
            time.sleep(_RETRY)

    def _once(self, method: str, path: str, content: bytes | None) -> tuple[int, dict[str, Any]]:
        """Code and answer; code 0 if there is nobody, so that nothing was sent."""
        self.close()  # the daemon closes idle ones, which would look like an unknown outcome
        self._connection = connection = HTTPConnection("localhost", timeout=_PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(_PATIENCE)
        try:
            connection.sock.connect(str(self._sockets[self._at]))
        except OSError as error:
            return 0, {"message": str(error)}
        media = "application/merge-patch+json" if method == "PATCH" else "application/json"
        where = f"{path}?timeout={TIMEOUT}" if method != "GET" else path
        try:
            connection.request(method, where, content, {"Content-Type": media, "Host": "localhost"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, HTTPException, ValueError) as error:
            raise Unknown(str(error)) from None
        results = answer.get("results", ())  # in bulk each item has a code of its own
        if results and all(result.get("status", {}).get("code") == 503 for result in results):
            return 503, results[0]["status"]
        return response.status, answer
