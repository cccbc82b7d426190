"""What clients may have of us, whatever they send: neither file descriptors nor memory run out.

Connections beyond `most_connections` are answered 503 and closed at once, whether they ask anything or not. asyncio
accepts up to AT_ONCE of them before it hands over the first, so that the limit leaves room for these, and for the
daemon's own files. The limit of descriptors is looked up each time, since it may be changed from outside.

Memory, for any number of clients: what may stand before and behind a request's body is MAX_HEAD bytes; the bodies of
all requests that are being read or carried out are BODIES bytes at most, one too many is answered 503; a request counts
until its answer has been handed over. What the engine lets wait is bounded by numbers (inbox.MAX_WAITING). Of answers
that may be as long as all there is, LISTS are made at once, and the others wait for their turn. A client that neither
sends nor reads for STALLED seconds is given up.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

import httptools
import msgspec
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ovnreserve.api.peer import actor_of
from ovnreserve.model.errors import BadRequest, HeadTooLarge, Refused, Unavailable

_log = structlog.get_logger(__name__)

BACKLOG: Final = 1024
"""Connections that the kernel keeps for us. A client with a timeout has EAGAIN at once where it is full."""

AT_ONCE: Final = 64
"""Connections that asyncio accepts in one turn of its loop."""

MAX_DESCRIPTORS: Final = 65_536

BODIES: Final = 128 * 1024 * 1024
"""Two of the largest (http.MAX_BODY), or 400,000 documents of a bulk request."""
LISTS: Final = 4
STALLED: Final = 60.0
PIECE: Final = 65_536
"""Bytes of an answer that are handed to the connection at once: as many as it takes without being full."""
_QUIET: Final = 1.0
_SHARE: Final = 4

MAX_HEAD: Final = 64 * 1024
"""Bytes that may come without being part of a body or the end of a request: request line, headers, trailers."""

ACTOR: Final = "actor"
"""In the state of each request's scope: who asks."""

_BUSY: Final = Unavailable("too many clients are connected; ask again", kind="")
_FULL: Final = Unavailable("nothing was changed: too much is being sent at the same time; ask again", kind="")
_NO_HTTP: Final = BadRequest("this is no request of HTTP/1.1", kind="")
_LONG_HEAD: Final = HeadTooLarge(f"request line and headers are larger than {MAX_HEAD >> 10} KiB", kind="")


def raise_descriptor_limit() -> int:
    """Use as many file descriptors as we may, up to MAX_DESCRIPTORS. Returns how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def most_connections() -> int:
    """How many clients may be connected, by the present limit of descriptors."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        soft = MAX_DESCRIPTORS
    return max(16, min(soft, MAX_DESCRIPTORS) // _SHARE)


class Quiet:
    """An event that may come thousands of times a second, logged once a second at most."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._until = 0.0

    def warn(self, **fields: Any) -> None:
        now = time.monotonic()
        if now >= self._until:
            self._until = now + _QUIET
            _log.warning(self._event, **fields)


_accept_failed: Final = Quiet("accept_failed")
_refused: Final = Quiet("connection_refused")
_unreadable: Final = Quiet("request_unreadable")
_stalled: Final = Quiet("client_stalled")


def on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Asyncio's exception handler: what it says when it cannot accept, a traceback each, is one line a second."""
    if "accept" in context.get("message", "") and isinstance(context.get("exception"), OSError):
        _accept_failed.warn(problem=str(context["exception"]))
    else:
        loop.default_exception_handler(context)


def _last_answer(refused: Refused) -> bytes:
    content = msgspec.json.encode(refused.status())
    retry = "retry-after: 1\r\n" if isinstance(refused, Unavailable) else ""
    head = (
        f"HTTP/1.1 {refused.code} {HTTPStatus(refused.code).phrase}\r\ncontent-type: application/json\r\n{retry}"
        f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content


class Protocol(HttpToolsProtocol):
    """uvicorn's, but for the limits: a connection too many has its answer before it asks, a head without end is
    refused, and a connection whose client reads nothing of its answer is closed. What is no HTTP has a Status object
    for an answer, and a line a second in the log, not one each.
    """

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, ACTOR: actor_of(transport.get_extra_info("socket"))}
        self._idle = 0  # bytes since there was something to do for anybody
        most = most_connections()
        if len(self.connections) > most:
            _refused.warn(connections=len(self.connections) - 1, most=most)
            transport.write(_last_answer(_BUSY))
            transport.close()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._idle += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end_after_answers()  # which are HTTP/1.1: we know nothing else, and the parser reads no further
        except httptools.HttpParserError as error:
            self._end(_NO_HTTP, problem=str(error))
        else:
            if self._idle > MAX_HEAD:
                self._end(_LONG_HEAD, problem=_LONG_HEAD.message)

    def on_body(self, body: bytes) -> None:
        self._idle = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._idle = 0
        super().on_message_complete()

    def _end(self, refused: Refused, *, problem: str) -> None:
        """Nothing more can be read. Whatever was asked before has its answer first, if it was whole."""
        _unreadable.warn(problem=problem)
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_last_answer(refused))
            self.transport.close()
        elif self.cycle.more_body:
            if not (self.pipeline or self.cycle.response_started):
                self.transport.write(_last_answer(refused))
            self.transport.close()
        else:
            self._end_after_answers()

    def _end_after_answers(self) -> None:
        self.flow.pause_reading()
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The connection is full."""
        super().pause_writing()
        self._patience = self.loop.call_later(STALLED, self._give_up)

    def resume_writing(self) -> None:
        self._stop_waiting()
        super().resume_writing()

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()

    def _give_up(self) -> None:
        _stalled.warn(seconds=STALLED)
        self.transport.abort()  # to close it would be to wait until the rest has been read


class Bodies:
    """How many bytes the bodies of all requests under way have together."""

    def __init__(self, most: int = BODIES) -> None:
        self._most = most
        self._held = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """One request's, given back when it ends."""
        share = Share(self)
        try:
            yield share
        finally:
            self._held -= share.size

    def grow(self, size: int) -> None:
        """Raises Unavailable where that is too much."""
        if self._held + size > self._most:
            raise _FULL
        self._held += size


class Share:
    """What the body of one request has of it."""

    def __init__(self, bodies: Bodies) -> None:
        self.size = 0
        self._bodies = bodies

    def grow(self, size: int) -> None:
        """Raises Unavailable where that is too much."""
        self._bodies.grow(size)
        self.size += size
