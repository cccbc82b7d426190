"""A proxy between a daemon and the northbound database that a test tells what to do to which transaction.

Messages pass as they are, in order, until a transaction comes whose comment contains what a test looks for:

    cut_before    the connection breaks, and the database never gets it
    cut_after     the database carries it out, and the connection breaks before the reply
    late          the database gets it when the test says so, however often the client has reconnected meanwhile
    hold          the reply, and whatever comes after it, waits
    between       something is done between the client's last look and its transaction

Each meets one transaction, and returns a Meeting, which says when that was. All connections together are made slow
with `delay` (seconds, each way) and `rate` (bytes a second towards the client); with `silent`, nothing passes any more
and nobody is told, as when a cable is pulled.

The comments are ours: `ovnreserve: reserve NAME`, `bind`, `release`, `free` (the second transaction of a release),
`republish`, `repair SWITCH`, `delete port NAME`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ovnreserve.sandbox import Servers

_PIECE = 1 << 16


class Meeting:
    """One transaction that a test waits for."""

    def __init__(self, comment: str, deliver: Callable[[list[dict[str, Any]]], list[Any]]) -> None:
        self.comment = comment
        self.transaction: list[dict[str, Any]] = []
        """Its operations, once it has come."""
        self.held = threading.Event()
        """Set once what is held may pass."""
        self._came = threading.Event()
        self._deliver = deliver

    def wait(self, timeout: float = 20) -> Self:
        """Return once the transaction has come, and what is to be done to it is done, or is going on (late, hold)."""
        assert self._came.wait(timeout), f"no transaction {self.comment!r} within {timeout:g} s"
        return self

    @property
    def has_come(self) -> bool:
        return self._came.is_set()

    def come(self) -> None:
        self._came.set()

    def let_go(self) -> None:
        """Let pass what is held."""
        self.held.set()

    def deliver(self) -> list[Any]:
        """Let the database have a late transaction now; its results (RFC 7047, 4.1.3).

        Without the `assert` on the lock: that is the server's which was asked, and in a cluster it holds there still
        when the client has gone to another member, and has the lock of that one (facts/ovn, section 7).
        """
        return self._deliver([operation for operation in self.transaction if operation["op"] != "assert"])


class _Order(NamedTuple):
    """What is to be done when the transaction of the meeting comes; False if it is not to be forwarded."""

    meeting: Meeting
    act: Callable[[_Link, Any], bool]


class Proxy:
    """Listens at `remote` in the servers' run directory. A daemon takes it as `--db`."""

    def __init__(self, servers: Servers, name: str = "proxy.sock") -> None:
        path = servers.run_dir / name
        self.remote = f"unix:{path}"
        self.delay = 0.0
        self.rate = float("inf")
        self.silent = False
        self.connections = 0
        """How many there have been."""
        self.ending = threading.Event()
        self._server = servers.nb.removeprefix("unix:")
        self._orders: list[_Order] = []
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept, name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.ending.set()
        self.reset()
        self.cut()
        for link in self._links:
            link.join()

    # ---- what a test tells it --------------------------------------------------------------------------------------

    def cut_before(self, comment: str) -> Meeting:
        def act(link: _Link, _message: Any) -> bool:
            link.close()
            meeting.come()
            return False

        meeting = self._order(comment, act)
        return meeting

    def cut_after(self, comment: str) -> Meeting:
        """Nor does the client hear of what the transaction changed."""

        def carried_out(link: _Link) -> None:
            link.close()
            meeting.come()

        def act(link: _Link, message: Any) -> bool:
            link.deaf = True
            link.at_reply(message["id"], partial(carried_out, link))
            return True

        meeting = self._order(comment, act)
        return meeting

    def late(self, comment: str, *, cut: bool = False) -> Meeting:
        """With `cut` the connection breaks at once; else it stays, and the client waits for a reply."""

        def act(link: _Link, _message: Any) -> bool:
            if cut:
                link.close()
            meeting.come()
            return False

        meeting = self._order(comment, act)
        return meeting

    def hold(self, comment: str) -> Meeting:
        """What the transaction changed, which comes before its reply, passes."""

        def carried_out() -> None:
            meeting.come()
            meeting.held.wait()

        def act(link: _Link, message: Any) -> bool:
            link.at_reply(message["id"], carried_out)
            return True

        meeting = self._order(comment, act)
        return meeting

    def between(self, comment: str, work: Callable[[], object]) -> Meeting:
        def act(_link: _Link, _message: Any) -> bool:
            work()
            meeting.come()
            return True

        meeting = self._order(comment, act)
        return meeting

    def cut(self) -> None:
        """Break every connection."""
        for link in list(self._links):
            link.close()

    def reset(self) -> None:
        """Hold nothing, look for nothing, be fast."""
        self.delay, self.rate, self.silent = 0.0, float("inf"), False
        with self._lock:
            orders, self._orders = self._orders, []
        for order in orders:
            order.meeting.let_go()

    def _order(self, comment: str, act: Callable[[_Link, Any], bool]) -> Meeting:
        meeting = Meeting(comment, self._deliver)
        with self._lock:
            self._orders.append(_Order(meeting, act))
        return meeting

    # ---- what it does ----------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._server)
            except OSError:
                client.close()
                server.close()
                continue
            self.connections += 1
            self._links = [link for link in self._links if link.alive]
            self._links.append(_Link(self, client, server))

    def _deliver(self, operations: list[dict[str, Any]]) -> list[Any]:
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(30)
            server.connect(self._server)
            request = {"method": "transact", "params": ["OVN_Northbound", *operations], "id": "late"}
            server.sendall(json.dumps(request).encode())
            reply = next(message for message, _text in _messages(server) if message.get("id") == "late")
        assert reply["error"] is None, reply
        return reply["result"]

    def met(self, link: _Link, message: Any) -> bool:
        """Is this message of the client to be forwarded?"""
        comment = next((o["comment"] for o in message["params"][1:] if o["op"] == "comment"), "")
        with self._lock:
            order = next((order for order in self._orders if order.meeting.comment in comment), None)
            if order is None:
                return True
            self._orders.remove(order)
        order.meeting.transaction = message["params"][1:]
        return order.act(link, message)


class _Link:
    """One connection of a client, and its own to the server: a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self.deaf = False
        """Does the client hear nothing more?"""
        self._at_reply: dict[Any, Callable[[], object]] = {}
        self._threads = [threading.Thread(target=self._up), threading.Thread(target=self._down)]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def at_reply(self, id_: Any, work: Callable[[], object]) -> None:
        """Do this when the reply is here, before it is forwarded."""
        self._at_reply[_key(id_)] = work

    def close(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _up(self) -> None:
        with contextlib.suppress(OSError):
            for message, text in _messages(self._client):
                if message.get("method") == "transact" and not self._proxy.met(self, message):
                    continue
                self._pass(self._server, text, float("inf"))
        self._end()

    def _down(self) -> None:
        with contextlib.suppress(OSError):
            for message, text in _messages(self._server):
                work = self._at_reply.pop(_key(message.get("id")), None) if "method" not in message else None
                if work is not None:
                    work()
                if not self.deaf:
                    self._pass(self._client, text, self._proxy.rate)
        self._end()

    def _pass(self, end: socket.socket, text: str, rate: float) -> None:
        if self._proxy.silent:
            return
        if self._proxy.delay:
            self._proxy.ending.wait(self._proxy.delay)
        data = text.encode()
        size = min(_PIECE, max(1, round(rate / 20))) if rate != float("inf") else len(data)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            end.sendall(piece)
            if rate != float("inf"):
                self._proxy.ending.wait(len(piece) / rate)

    def _end(self) -> None:
        self.close()
        if threading.current_thread() is self._threads[0]:
            self._threads[1].join()
            self._client.close()
            self._server.close()


def _key(id_: Any) -> str:
    return json.dumps(id_)


def _messages(source: socket.socket) -> Iterator[tuple[dict[str, Any], str]]:
    """Each JSON-RPC message and its text, until the connection ends.

    What is there is looked at again with each piece that comes, so a message should not have very many megabytes.
    """
    decode = json.JSONDecoder().raw_decode
    text = ""
    rest = b""
    while data := source.recv(1 << 20):
        rest += data
        try:
            text, rest = text + rest.decode(), b""
        except UnicodeDecodeError as error:
            text, rest = text + rest[: error.start].decode(), rest[error.start :]
        while text:
            try:
                message, end = decode(text)
            except ValueError:
                break
            yield message, text[:end]
            text = text[end:].lstrip()
