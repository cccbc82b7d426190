"""A TCP connection to a Unix socket that a test can cut, hold up and mend: bytes in, bytes out."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from ovnreserve.sandbox import Servers


class Link:
    """`remote` is what a daemon gets as its --db. It leads to the server's Unix socket, or to `database` over TCP.
    What is held up is delivered when the link is mended.
    """

    def __init__(self, servers: Servers, database: str = "") -> None:
        self._database = database or servers.nb
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.remote = f"tcp:127.0.0.1:{self._listener.getsockname()[1]}"
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._orders: list[str] = []
        self._mode = "through"
        self._peers: dict[socket.socket, socket.socket] = {}
        self._held: dict[socket.socket, bytearray] = {}
        """What has come from one side and is not yet sent to the other, by the side it came from."""
        self._ended: set[socket.socket] = set()
        """Sides that were closed while the link was held up, of which the other shall not know yet."""
        self._clients: set[socket.socket] = set()
        self.held_up = 0
        """Bytes that clients have sent since the link was last held up."""
        self._done = threading.Condition()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._order("end")
        self._thread.join()
        for each in (*self._peers, self._listener, self._wake, self._woken):
            each.close()
        self._selector.close()

    def cut(self) -> None:
        """Close every connection, and each new one at once."""
        self._order("cut")

    def hold(self) -> None:
        """Deliver nothing more, in either direction; connections stay open, and new ones get no answer."""
        self._order("hold")

    def mend(self) -> None:
        """Deliver what was held up, and all that follows."""
        self._order("through")

    def _order(self, mode: str) -> None:
        with self._done:
            self._orders.append(mode)
            self._wake.send(b"!")
            self._done.wait_for(lambda: not self._orders)

    def _serve(self) -> None:
        while self._mode != "end":
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    self._obey()
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    self._receive(key.fileobj)

    def _obey(self) -> None:
        self._woken.recv(1)
        with self._done:
            self._mode = self._orders.pop(0)
            if self._mode == "cut":
                for each in list(self._peers):
                    self._close(each)
            elif self._mode == "hold":
                self.held_up = 0
            elif self._mode == "through":
                for each in list(self._held):
                    self._deliver(each)
                for each in list(self._ended):
                    self._close(each)
            self._done.notify_all()

    def _accept(self) -> None:
        client = self._listener.accept()[0]
        if self._mode == "cut":
            client.close()
            return
        kind, _, where = self._database.partition(":")
        database = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
        try:
            host, _, port = where.partition(":")
            database.connect(where if kind == "unix" else (host, int(port)))
        except OSError:
            client.close()
            database.close()
            return
        self._clients.add(client)
        for one, other in ((client, database), (database, client)):
            self._peers[one] = other
            self._held[one] = bytearray()
            self._selector.register(one, selectors.EVENT_READ)

    def _receive(self, one: socket.socket) -> None:
        if one not in self._peers:
            return  # closed by what came before it in this round
        try:
            data = one.recv(1 << 16)
        except OSError:
            data = b""
        if not data and self._mode == "hold":
            self._ended.add(one)
            self._selector.unregister(one)
            return
        if not data:
            self._close(one)
            return
        self._held[one] += data
        if self._mode == "through":
            self._deliver(one)
        elif one in self._clients:
            self.held_up += len(data)

    def _deliver(self, one: socket.socket) -> None:
        held = self._held.get(one)
        if held:
            try:
                self._peers[one].sendall(held)
            except OSError:
                self._close(one)
                return
            held.clear()

    def _close(self, one: socket.socket) -> None:
        other = self._peers.pop(one, None)
        for each in (one, other):
            if each is not None:
                self._peers.pop(each, None)
                self._held.pop(each, None)
                self._ended.discard(each)
                self._clients.discard(each)
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(each)
                each.close()
