"""A small HTTP/1.1 client: one kept-alive connection to a Unix socket, or to an http:// URL.

It exists because http.client alone takes longer to import than a whole command may (it draws in email, ssl).
It knows what docs/api.md needs: JSON both ways, bodies by Content-Length or in chunks, and Warning headers.
A request that fails on a connection that was idle before is asked once more on a new one, but only a GET:
whether anything else has been done is not known.
"""

from __future__ import annotations

import json
import os
import socket

from ovnreserve import __version__
from ovnreserve.cli.errors import CommandError, StatusError, UnreachableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

PATIENCE = 60.0  # seconds without a byte from the server; the daemon's own deadlines are much shorter
BULK = "/apis/ovnreserve.io/v1/bulk"
_SLICE = 1.0  # seconds of waiting after which `while_waiting` is asked
_HEAD_LIMIT = 65536
_READ = 262144
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def default_server() -> str:
    """$OVNRESERVE_SERVER, else the daemon's socket in $OVN_RUNDIR or /run/ovn."""
    rundir = os.environ.get("OVN_RUNDIR") or "/run/ovn"
    return os.environ.get("OVNRESERVE_SERVER") or f"{rundir}/ovnreserved.sock"


def _go_on() -> None:
    """Nothing but patience."""


def connect(server: str, warn: Callable[[str], None], timeout: float | None = None) -> Client:
    """A client of the server, or of several between commas. `timeout`: the command's own, in seconds, if it has one."""
    addresses = [address for part in (server or default_server()).split(",") if (address := part.strip())]
    if len(addresses) < 2:
        return Client(server, warn)
    from ovnreserve.cli.several import PERSISTENCE, Several

    return Several(addresses, warn, timeout if timeout is not None and timeout > 0 else PERSISTENCE)


def quote(text: str) -> str:
    """Percent-encode for one segment of a path or one value of a query."""
    return "".join(chr(b) if b in _UNRESERVED else f"%{b:02X}" for b in os.fsencode(text))


class Client:
    """Asks one server. `server` is a socket's path (`unix:` may stand before it) or `http://HOST[:PORT]`.

    `patience`: seconds without any progress before giving up; every second of them `while_waiting` is called, which may
    raise. `warn` is told the texts of Warning headers.
    Raises StatusError for a refusal, UnreachableError where there is no answer.
    """

    def __init__(self, server: str, warn: Callable[[str], None]) -> None:
        self.address = server or default_server()
        self.patience = PATIENCE
        self.while_waiting: Callable[[], None] = _go_on
        self._warn = warn
        self._socket: socket.socket | None = None
        self._buffer = bytearray()
        self._target: str | tuple[str, int]
        self._host = "localhost"
        self._prefix = ""
        if self.address.startswith("http://"):
            self._host, slash, path = self.address[7:].partition("/")
            self._prefix = (slash + path).rstrip("/")
            self._target = _host_and_port(self._host, self.address)
        elif "://" in self.address and not self.address.startswith("unix://"):
            raise CommandError(f"{self.address}: not supported; name the daemon's socket or an http:// URL")
        else:
            self._target = self.address.removeprefix("unix://").removeprefix("unix:")

    def get(self, path: str) -> dict[str, Any]:
        return self.request("GET", path)

    def post(self, path: str, body: object) -> dict[str, Any]:
        return self.request("POST", path, body)

    def patch(self, path: str, body: object) -> dict[str, Any]:
        """A merge patch (RFC 7386)."""
        return self.request("PATCH", path, body)

    def bulk(self, verb: str, items: list[dict[str, Any]], query: str = "") -> list[dict[str, Any]]:
        """Send all items in one request; what became of each, in their order."""
        results = self.post(BULK + query, {"verb": verb, "items": items}).get("results")
        if not isinstance(results, list) or len(results) != len(items):
            raise self._nonsense(f"not one result for each of {len(items)}")
        return results

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Ask, and decode the answer's JSON."""
        code, answer = self._exchange(method, self._message(method, path, body))
        if code >= 400:
            raise StatusError(self._as_status(code, answer))
        return self._decode(answer)

    def download(self, path: str) -> Iterator[bytes]:
        """GET a body that is no JSON, piece by piece as it comes, on a connection of its own."""
        self.close()
        try:
            connection = self._connect()
            connection.settimeout(min(self.patience, _SLICE))
            self._send(connection, self._message("GET", path))
            code, headers = self._head()
            left = self._number(headers.get("content-length", ""), 10)
            if code >= 400:
                raise StatusError(self._as_status(code, self._exactly(left)))
            while left:
                if not self._buffer:
                    self._fill()
                piece = bytes(self._buffer[:left])
                self._buffer.clear()
                left -= len(piece)
                yield piece
        except (OSError, EOFError) as error:
            raise self._broken(error) from error
        finally:
            self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._buffer.clear()

    def _exchange(self, method: str, message: bytes) -> tuple[int, bytes]:
        again = method == "GET" and self._socket is not None
        try:
            connection = self._socket or self._connect()
            connection.settimeout(min(self.patience, _SLICE))
            self._send(connection, message)
            return self._answer()
        except (OSError, EOFError) as error:
            self.close()
            if again and not isinstance(error, TimeoutError):
                return self._exchange(method, message)
            raise self._broken(error) from error
        except BaseException:  # an answer half read, Ctrl-C included, would be taken for the next one's
            self.close()
            raise

    def _message(self, method: str, path: str, body: object = None) -> bytes:
        content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        head = (
            f"{method} {self._prefix}{path} HTTP/1.1\r\nHost: {self._host}\r\n"
            f"User-Agent: ovnreserve/{__version__}\r\nAccept: application/json\r\n"
        )
        if body is not None:
            media = "application/merge-patch+json" if method == "PATCH" else "application/json"
            head += f"Content-Type: {media}\r\nContent-Length: {len(content)}\r\n"
        return f"{head}\r\n".encode("ascii", "replace") + content

    def _broken(self, error: BaseException) -> UnreachableError:
        what = f"the connection broke off ({_reason(error)})"
        if isinstance(error, TimeoutError):
            what = f"no answer within {self.patience:g} s"
        return UnreachableError(self.address, f"{what}; the outcome is unknown", doubtful=True)

    def _connect(self) -> socket.socket:
        try:
            if isinstance(self._target, tuple):
                self._socket = socket.create_connection(self._target, timeout=self.patience)
            else:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._socket.settimeout(self.patience)
                self._socket.connect(self._target)
        except (OSError, ValueError) as error:
            self.close()
            hint = "Is ovnreserved running? Another socket or URL goes in --server or $OVNRESERVE_SERVER."
            if isinstance(error, PermissionError):
                hint = "The socket is open to its owner only: run this as the user the daemon runs as."
            raise UnreachableError(self.address, f"connection failed ({_reason(error)})", hint) from error
        return self._socket

    def _send(self, connection: socket.socket, message: bytes) -> None:
        """Send. Whoever hangs up on a long request has often said why, so that is left to the answer."""
        rest = memoryview(message)
        try:
            while rest:
                rest = rest[self._patiently(connection.send, rest) :]
        except (BrokenPipeError, ConnectionResetError):
            return

    def _patiently(self, step: Callable[[Any], Any], asked: object) -> Any:
        """Send or receive something. While there is no progress, `while_waiting` may find that there is no point."""
        left = self.patience
        while True:
            try:
                return step(asked)
            except TimeoutError:
                left -= _SLICE
                if left <= 0:
                    raise
                self.while_waiting()

    def _answer(self) -> tuple[int, bytes]:
        """Read one answer: its code and its whole body."""
        code = 100
        while 100 <= code < 200:
            code, headers = self._head()
        if code in (204, 304):
            body = b""
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            body = self._chunks()
        elif "content-length" in headers:
            body = self._exactly(self._number(headers["content-length"], 10))
        else:
            body = self._rest()
        if headers.get("connection", "").lower() == "close":
            self.close()
        return code, body

    def _head(self) -> tuple[int, dict[str, str]]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _HEAD_LIMIT:
                raise self._nonsense("a header without end")
            self._fill()
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        version, _, status = first.partition(" ")
        if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
            raise self._nonsense("it does not speak HTTP")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            if name.lower() == "warning":
                self._warn(_warning(value.strip()))
            else:
                headers[name.lower()] = value.strip()
        return int(status[:3]), headers

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            size = self._number(self._line().partition(";")[0].strip(), 16)
            if not size:
                while self._line():
                    pass  # trailers say nothing we use
                return bytes(body)
            body += self._exactly(size)
            if self._line():
                raise self._nonsense("a chunk longer than its size")

    def _line(self) -> str:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _HEAD_LIMIT:
                raise self._nonsense("a line without end")
            self._fill()
        line = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + 2]
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        body = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return body

    def _rest(self) -> bytes:
        try:
            while True:
                self._fill()
        except EOFError:
            body = bytes(self._buffer)
        self.close()
        return body

    def _fill(self) -> None:
        if self._socket is None or not (data := self._patiently(self._socket.recv, _READ)):
            raise EOFError("closed by the server")
        self._buffer += data

    def _number(self, text: str, base: int) -> int:
        try:
            number = int(text, base)
        except ValueError:
            number = -1
        if number < 0:
            raise self._nonsense(f"a length of {text!r}")
        return number

    def _decode(self, body: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._nonsense("it is not JSON") from error
        if not isinstance(answer, dict):
            raise self._nonsense("it is not a JSON object")
        return answer

    def _as_status(self, code: int, body: bytes) -> dict[str, Any]:
        try:
            status = json.loads(body)
        except (ValueError, RecursionError):
            status = None
        if isinstance(status, dict) and status.get("kind") == "Status":
            return status
        return {"code": code, "message": f"HTTP {code}: {body[:200].decode('utf-8', 'replace').strip()}"}

    def _nonsense(self, what: str) -> UnreachableError:
        return UnreachableError(self.address, f"this is no answer of ovnreserved: {what}")


def _host_and_port(netloc: str, address: str) -> tuple[str, int]:
    host, colon, port = netloc.rpartition(":")
    if not colon or netloc.endswith("]"):
        host, port = netloc, "80"
    if not host or not port.isdecimal():
        raise CommandError(f"{address}: not a URL of the form http://HOST[:PORT]")
    return host.strip("[]"), int(port)


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _warning(value: str) -> str:
    """The text of `299 - "TEXT"` (RFC 7234, 5.5); a bare text stays as it is."""
    start, end = value.find('"'), value.rfind('"')
    if start < 0 or end <= start:
        return value
    return value[start + 1 : end].replace('\\"', '"').replace("\\\\", "\\")
