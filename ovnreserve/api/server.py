"""Serving the API on the run directory's socket, in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from ovnreserve.api import limits


def listen(path: Path) -> socket.socket:
    """A listening Unix socket of mode 0600; a stale one in its place is removed. Raises OSError."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(limits.BACKLOG)
    listener.setblocking(False)
    return listener


class _Uvicorn(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Uvicorn has one number for the kernel's backlog and for how many are accepted at once."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(limits.BACKLOG)


class Server:
    """uvicorn with httptools over a socket that is already listening. `make` is called in its event loop."""

    def __init__(self, listener: socket.socket, path: Path, make: Callable[[], ASGIApp]) -> None:
        self._listener = listener
        self._path = path
        self._make = make
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._run, name="api", daemon=True)
        self._ready = threading.Event()

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Let requests under way end, for a moment, and close the socket."""
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(5)
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        try:
            application = self._make()
        finally:
            self._ready.set()
        asyncio.get_running_loop().set_exception_handler(limits.on_loop_error)
        config = uvicorn.Config(
            application, http=limits.Protocol, ws="none", loop="asyncio", lifespan="off", log_config=None,
            access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=3,
            timeout_keep_alive=75, backlog=limits.AT_ONCE,
        )  # fmt: skip
        self._server = _Uvicorn(config)
        await self._server.serve(sockets=[self._listener])
