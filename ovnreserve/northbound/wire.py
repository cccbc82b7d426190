"""A fast way in and out under python-ovs: JSON-RPC over its streams, with the standard library's json.

Theory. PyPI's `ovs` parses JSON a character at a time in Python and reads 4096 bytes a call; what it has to
send it slices and encodes anew for each piece that goes, which is quadratic. Here bytes stay bytes until a
whole message is there, and then the decoder written in C takes it in one go.

Where a message ends is found without parsing, in a few passes in C over each piece as it arrives, so that
every byte is looked at once, however messages and pieces fall:

1. Escaped backslashes go, then escaped quotes; they occur in strings only. A piece that ends in half an
   escape lends that backslash to the next.
2. All but braces and quotes goes. UTF-8 needs no decoding for that: its longer sequences hold no ASCII byte.
3. Two quotes side by side go: what stands after them is inside a string, or outside, as it was before.
4. Of the rest, every second part between quotes is outside strings. A message ends where its braces come to
   depth 0. Pairs that close inside the piece are dropped first: in most pieces of a large message nothing
   is left that could end it.

A message is decoded when it is whole, so what is wrong inside it shows only then; what does not begin like
an object, or closes more than it opened, is refused at once. The peer is a database server: certainty comes
before speed of refusal.

The session differs from python-ovs' in three ways: its connections are the above; it probes `unix:` remotes
also; and it comes back within a
second, without a line in the log for each attempt.
"""

from __future__ import annotations

import collections
import errno
import gc
import json
import os
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import ovs.jsonrpc
import ovs.reconnect
import ovs.stream
import ovs.timeval
import ovs.vlog
import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

EOF: Final[int] = ovs.jsonrpc.EOF

PROBE_INTERVAL: Final = 5000
"""Milliseconds of silence before the peer is asked for an echo, and again before it is given up."""
MAX_BACKOFF: Final = 1000
"""Milliseconds between two rounds of attempts to connect; python-ovs allows no less."""

# More than a TLS record (16 kB), so that none is ever left over in the TLS layer, where poll() cannot see it.
_RECEIVE: Final = 1 << 20
# TLS counts a piece as sent only when all of it is: this size lets the inactivity probe see progress.
_SEND: Final = 1 << 18
# Text from this size is decoded without the garbage collector: 0.3 s against 2.5 s for 35 MB.
_LARGE: Final = 1 << 16

_CLOSED: Final = "closed by us"

# A remote that accepts and drops in turn is logged that many times, then once in so many milliseconds.
_LOG_BURST: Final = 6
_LOG_PERIOD: Final = 10_000

_BEGINNING: Final = re.compile(rb'[ \t\r\n]*(?:\{[ \t\r\n]*(?:["}]|\Z)|\Z)')
_BLANK: Final = re.compile(r"[ \t\r\n]*")
_NOT_STRUCTURE: Final = bytes(byte for byte in range(256) if byte not in b'{}"')
_OPEN: Final = ord("{")

# Under the name that administrators know from `vlog/set jsonrpc:dbg`.
_vlog = ovs.vlog.Vlog("jsonrpc")
_log = structlog.get_logger()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decode: Final = json.JSONDecoder(parse_constant=_no_constant).raw_decode
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


class Connection(ovs.jsonrpc.Connection):  # type: ignore[misc]
    """A JSON-RPC connection over a connected stream, unix, tcp or ssl: python-ovs', but for the bytes.

    recv() and send() return an errno, or EOF, as there; what is no JSON-RPC ends the connection with EPROTO.
    """

    def __init__(self, stream: ovs.stream.Stream) -> None:
        super().__init__(stream)
        self.output = bytearray()
        self._input = bytearray()
        self._messages: collections.deque[Any] = collections.deque()
        self._depth = 0
        self._in_string = False
        self._half_escape = False
        self._broken = ""

    # -- out

    def send(self, msg: ovs.jsonrpc.Message) -> int:
        """Queue `msg` and send what goes; 0, or the error that ended the connection.

        ValueError, with nothing queued, if it cannot be JSON (infinities, halves of surrogate pairs).
        """
        if self.status:
            return int(self.status)
        if _vlog.dbg_is_enabled():
            _vlog.dbg(f"{self.name}: send {msg}")
        idle = not self.output
        self.output += _encode(msg.to_json()).encode()
        if idle:
            self.run()
        return int(self.status)

    def run(self) -> None:
        if self.status:
            return
        while self.output:
            # TLS wants a piece that was refused again, at least as long: the same offset with the same limit.
            sent = self.stream.send(self.output[:_SEND])
            if sent < 0:
                if sent != -errno.EAGAIN:
                    _vlog.warn(f"{self.name}: send error: {os.strerror(-sent)}")
                    self.error(-sent)
                return
            del self.output[:sent]

    # -- in

    def recv(self) -> tuple[int, ovs.jsonrpc.Message | None]:
        """The next message; EAGAIN when none is whole yet; else the error that ended the connection."""
        if self.status:
            return self.status, None
        while not self._messages:
            if not self._broken and not _BEGINNING.match(self._input):
                self._broken = "a message does not begin like an object"
            if self._broken:
                return self._refuse(f"error parsing stream: {self._broken}")
            error, data = self.stream.recv(_RECEIVE)
            if error == errno.EAGAIN:
                return error, None
            if error:
                _vlog.warn(f"{self.name}: receive error: {os.strerror(error)}")
                self.error(error)
                return self.status, None
            if not data:
                self.error(EOF)
                return EOF, None
            self.received_bytes += len(data)
            self._input += data
            if ended := self._scan(data):
                self._take(ended)
            elif not self._depth and _BEGINNING.fullmatch(self._input):
                self._input.clear()
        message = ovs.jsonrpc.Message.from_json(self._messages.popleft())
        if not isinstance(message, ovs.jsonrpc.Message):
            return self._refuse(f"received bad JSON-RPC message: {message}")
        if _vlog.dbg_is_enabled():
            _vlog.dbg(f"{self.name}: received {message}")
        return 0, message

    def recv_wait(self, poller: ovs.poller.Poller) -> None:
        if self.status or self._messages or self._broken:
            poller.immediate_wake()
        else:
            self.stream.recv_wait(poller)

    def error(self, error: int) -> None:
        super().error(error)
        self.output = bytearray()
        self._input = bytearray()
        self._messages.clear()

    def _refuse(self, why: str) -> tuple[int, None]:
        _vlog.warn(f"{self.name}: {why}")
        self.error(errno.EPROTO)
        return self.status, None

    def _scan(self, data: bytes) -> int:
        """The number of messages that end in `data`, the piece just received."""
        if self._half_escape:
            data = b"\\" + data
            self._half_escape = False
        if b"\\" in data:
            data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
            self._half_escape = data.endswith(b"\\")
        parts = data.translate(None, _NOT_STRUCTURE).replace(b'""', b"").split(b'"')
        braces = b"".join(parts[self._in_string :: 2])
        if len(parts) % 2 == 0:
            self._in_string = not self._in_string
        unpaired = braces.replace(b"{}", b"").replace(b"{}", b"").replace(b"{}", b"")
        if self._depth > unpaired.count(b"}"):
            self._depth += 2 * unpaired.count(b"{") - len(unpaired)
            return 0
        ended = 0
        for brace in braces:
            self._depth += 1 if brace == _OPEN else -1
            if self._depth == 0:
                ended += 1
            elif self._depth < 0:
                self._broken = "unbalanced braces"
                break
        return ended

    def _take(self, count: int) -> None:
        """Decode the `count` messages that are whole; a broken one is refused when its turn comes."""
        try:
            text = self._input.decode()
        except UnicodeDecodeError as error:
            # Half a character at the end, or rubbish: messages before it count.
            text = self._input[: error.start].decode()
        at = 0
        collect = len(text) >= _LARGE and gc.isenabled()
        if collect:
            # JSON has no cycles; to look for them among millions of new objects takes longer than to decode.
            gc.disable()
        try:
            for _ in range(count):
                blank = _BLANK.match(text, at)
                value, at = _decode(text, blank.end() if blank else at)
                self._messages.append(value)
        except (ValueError, RecursionError) as error:
            self._broken = str(error)
        finally:
            if collect:
                gc.enable()
        del self._input[: at if text.isascii() else len(text[:at].encode())]


class _Reconnect(ovs.reconnect.Reconnect):  # type: ignore[misc]
    """Knows why there is no connection, and waits once for each round of the remotes; python-ovs' waits before each of
    them, so that in a cluster a new leader is found that many seconds later.
    """

    def __init__(self, now: float, remotes: int) -> None:
        super().__init__(now)
        self._remotes = remotes
        self.set_quiet(True)
        self.last_error = ""
        self.why_closed = _CLOSED

    def connected(self, now: float) -> None:
        if not self.is_connected():
            self.last_error = ""
        super().connected(now)

    def disconnected(self, now: float, error: int) -> None:
        self.failed(now, error, self._reason(error))

    def failed(self, now: float, error: int, reason: str) -> None:
        """As disconnected(), for a reason that no errno expresses."""
        if self.state not in (ovs.reconnect.Reconnect.Backoff, ovs.reconnect.Reconnect.Void):
            self.last_error = f"{self.name}: database connection failed ({reason})"
        super().disconnected(now, error)
        if self.backoff:
            self.set_backoff_free_tries(self._remotes)

    def _reason(self, error: int) -> str:
        if error == EOF:
            return "End of file"
        if error:
            return os.strerror(error)
        if self.state is ovs.reconnect.Reconnect.Idle:
            return "no response to inactivity probe"
        if self.state is ovs.reconnect.Reconnect.ConnectInProgress:
            return os.strerror(errno.ETIMEDOUT)
        return self.why_closed


class Session(ovs.jsonrpc.Session):  # type: ignore[misc]
    """A JSON-RPC session that reconnects, made by `to` or `like`; otherwise python-ovs'."""

    reconnect: _Reconnect
    rpc: Connection | None
    announces = True
    """Does it log that it is connected? A session for one question need not."""

    def __init__(self, reconnect: _Reconnect, rpc: Connection | None, remotes: list[str]) -> None:
        super().__init__(reconnect, rpc, remotes)
        self._told: set[str] = set()
        self._lines = float(_LOG_BURST)
        self._lines_at = ovs.timeval.msec()

    @classmethod
    def to(
        cls, remotes: Sequence[str], *, probe_interval: int = PROBE_INTERVAL, max_backoff: int = MAX_BACKOFF
    ) -> Self:
        """A session to one of `remotes` at a time.

        `probe_interval` is in milliseconds, at least 1000, or 0 for no probe, for every kind of remote;
        `max_backoff` likewise, and below 1000 counts as 1000.
        """
        now = ovs.timeval.msec()
        session = cls(_Reconnect(now, len(remotes)), None, list(remotes))
        session.pick_remote()
        session.reconnect.enable(now)
        session.reconnect.set_backoff_free_tries(len(remotes))
        session.reconnect.set_backoff(1000, max_backoff)
        session.reconnect.set_probe_interval(probe_interval)
        return session

    @classmethod
    def like(
        cls,
        stock: ovs.jsonrpc.Session,
        *,
        probe_interval: int = PROBE_INTERVAL,
        max_backoff: int = MAX_BACKOFF,
    ) -> Self:
        """A session in place of one that python-ovs made (Idl.__init__), which is closed."""
        stock.close()
        return cls.to(stock.remotes, probe_interval=probe_interval, max_backoff=max_backoff)

    @property
    def last_error(self) -> str:
        """Why there is no connection, in ovn-nbctl's words; empty while connected and before any attempt."""
        return self.reconnect.last_error

    def force_reconnect(self, why: str = _CLOSED) -> None:
        """Leave this remote, which becomes last_error for the reason `why`, and try the next."""
        self.reconnect.why_closed = why
        super().force_reconnect()

    def run(self) -> None:
        try:
            super().run()
        except OSError as error:
            # A certificate or key that cannot be read just now (they are read anew for each connection).
            now = ovs.timeval.msec()
            self.reconnect.connecting(now)
            self.reconnect.failed(now, error.errno or errno.EPROTO, error.strerror or str(error))
            self.pick_remote()
        if self.rpc is not None and not isinstance(self.rpc, Connection):
            # Connected in this very call, so nothing has gone over it yet.
            self.rpc = Connection(self.rpc.stream)
        self._tell()

    def _tell(self) -> None:
        """Log what the connection has come to: each failure once until it works again, and not too often."""
        error = "" if self.is_connected() else self.last_error
        if error in self._told or not (error or (self.is_connected() and self.announces)):
            return
        now = ovs.timeval.msec()
        self._lines = min(_LOG_BURST, self._lines + (now - self._lines_at) / _LOG_PERIOD)
        self._lines_at = now
        if self._lines < 1:
            return  # the next run() asks again
        self._lines -= 1
        if error:
            self._told = self._told - {""} | {error}
            _log.warning("northbound_not_connected", error=error)
        else:
            self._told = {""}
            _log.info("northbound_connected", remote=self.get_name())


def parse_remotes(text: str) -> list[str]:
    """The remotes in a `--db` option: split at commas; a part without a colon belongs to the one before."""
    remotes: list[str] = []
    for part in text.split(","):
        if remotes and ":" not in part:
            remotes[-1] += "," + part
        else:
            remotes.append(part)
    return remotes
