"""How many clients may be connected at once, so that the daemon never runs out of file descriptors.

Connections beyond `most_connections` are answered 503 and closed at once, whether they ask anything or not. asyncio
accepts up to AT_ONCE of them before it hands over the first, so that the limit leaves room for these, and for the
daemon's own files.
"""

from __future__ import annotations

import asyncio
import resource
import time
from typing import Any, Final

import msgspec
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ovnreserve.model.errors import Unavailable

_log = structlog.get_logger(__name__)

BACKLOG: Final = 1024
"""Connections that the kernel keeps for us. A client with a timeout has EAGAIN at once where it is full."""

AT_ONCE: Final = 64
"""Connections that asyncio accepts in one turn of its loop."""

MAX_DESCRIPTORS: Final = 65_536
_QUIET: Final = 1.0
_SHARE: Final = 4

_BUSY: Final = Unavailable("too many clients are connected; ask again", kind="")


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


def on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Asyncio's exception handler: what it says when it cannot accept, a traceback each, is one line a second."""
    if "accept" in context.get("message", "") and isinstance(context.get("exception"), OSError):
        _accept_failed.warn(problem=str(context["exception"]))
    else:
        loop.default_exception_handler(context)


def _busy() -> bytes:
    content = msgspec.json.encode(_BUSY.status())
    head = (
        f"HTTP/1.1 {_BUSY.code} Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
        f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + content


class Protocol(HttpToolsProtocol):
    """uvicorn's, but for the limit: a connection too many has its answer before it asks."""

    most: int = 16

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            _refused.warn(connections=len(self.connections) - 1, most=self.most)
            transport.write(_busy())
            transport.close()


def protocol() -> type[Protocol]:
    """The protocol with the limit of this process."""
    return type("LimitedProtocol", (Protocol,), {"most": most_connections()})
