"""What clients may take of the daemon, whatever they send: how many may be connected at once, so that it never runs
out of file descriptors, and how much a request may have in front of its body and behind it.

Connections beyond `most_connections` are answered 503 and closed at once, whether they ask anything or not. asyncio
accepts up to AT_ONCE of them before it hands over the first, so that the limit leaves room for these, and for the
daemon's own files.
"""

from __future__ import annotations

import asyncio
import resource
import time
from http import HTTPStatus
from typing import Any, Final

import httptools
import msgspec
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ovnreserve.model.errors import BadRequest, HeadTooLarge, Refused, Unavailable

_log = structlog.get_logger(__name__)

BACKLOG: Final = 1024
"""Connections that the kernel keeps for us. A client with a timeout has EAGAIN at once where it is full."""

AT_ONCE: Final = 64
"""Connections that asyncio accepts in one turn of its loop."""

MAX_DESCRIPTORS: Final = 65_536
_QUIET: Final = 1.0
_SHARE: Final = 4

MAX_HEAD: Final = 64 * 1024
"""Bytes that may come without being part of a body or the end of a request: request line, headers, trailers."""

_BUSY: Final = Unavailable("too many clients are connected; ask again", kind="")
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
    """uvicorn's, but for the limits: a connection too many has its answer before it asks, and a head without end is
    refused. What is no HTTP has a Status object for an answer, and a line a second in the log, not one each.
    """

    most: int = 16

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle = 0  # bytes since there was something to do for anybody
        if len(self.connections) > self.most:
            _refused.warn(connections=len(self.connections) - 1, most=self.most)
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


def protocol() -> type[Protocol]:
    """The protocol with the limit of this process."""
    return type("LimitedProtocol", (Protocol,), {"most": most_connections()})
