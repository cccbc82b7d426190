"""What clients may have of the API at once, with a real server on a socket: who stalls is given up."""

from __future__ import annotations

import asyncio
import json
import select
import socket
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from ovnreserve.api import http, limits, server
from ovnreserve.api.http import MAX_BODY, Resource
from ovnreserve.api.limits import Bodies
from ovnreserve.model.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MIB = 1024 * 1024
STALLED = 0.3


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], socket.socket]]:
    """Connections to a server that answers a GET with 32 MiB, and a POST with the size of what it decoded."""
    monkeypatch.setattr(limits, "STALLED", STALLED)

    async def long(_request: Request) -> Response:
        return Response(b"x" * 32 * MIB)

    async def size(request: Request) -> Response:
        return http.json(len(await http.body(request)))

    path = tmp_path / "api.sock"
    running = server.Server(server.listen(path), path, lambda: Resource(GET=long, POST=size))
    running.start()
    opened: list[socket.socket] = []

    def connection() -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        opened.append(client)
        client.settimeout(20)
        client.connect(str(path))
        return client

    yield connection
    for client in opened:
        client.close()
    running.stop()


def rest(client: socket.socket) -> bytes:
    """Everything until the connection is closed."""
    found = bytearray()
    while piece := client.recv(MIB):
        found += piece
    return bytes(found)


def request(method: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} / HTTP/1.1", "host: x", *headers, "", ""]).encode()


def test_who_does_not_read_its_answer_is_given_up(connect: Callable[[], socket.socket]) -> None:
    client = connect()
    client.sendall(request("GET"))
    poll = select.poll()
    poll.register(client, 0)
    assert poll.poll(20_000) == [(client.fileno(), select.POLLHUP)]
    found = rest(client)
    assert found.startswith(b"HTTP/1.1 200")
    assert len(found) < 32 * MIB


def test_who_reads_slowly_gets_all_of_it(connect: Callable[[], socket.socket]) -> None:
    client = connect()
    client.sendall(request("GET", "connection: close"))
    assert len(rest(client).partition(b"\r\n\r\n")[2]) == 32 * MIB


def test_who_does_not_go_on_with_a_large_body_is_told(connect: Callable[[], socket.socket]) -> None:
    client = connect()
    client.sendall(request("POST", f"content-length: {MIB}") + b" " * (MIB // 2))
    answer = b""
    while not answer.endswith(b"}"):
        answer += client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400")
    status: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert status["message"] == f"the body did not go on within {STALLED:g} s; nothing was changed"


def test_one_body_too_large_is_refused_and_is_let_go_what_it_had(connect: Callable[[], socket.socket]) -> None:
    for _ in range(3):  # more than all bodies together may have
        client = connect()
        client.sendall(request("POST", f"content-length: {MAX_BODY + MIB}"))
        for _ in range(MAX_BODY // MIB + 1):
            client.sendall(b" " * MIB)
        assert client.recv(65536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_while_a_long_list_is_made_the_others_have_their_turns(count: int) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def made() -> Response:
        waiting = asyncio.create_task(others())
        try:
            return await http.json_list({"kind": "List"}, ({"number": number} for number in range(count)))
        finally:
            waiting.cancel()

    response = asyncio.run(made())
    assert json.loads(response.body) == {"kind": "List", "items": [{"number": number} for number in range(count)]}
    assert response.headers["content-length"] == str(len(response.body))
    assert turns >= count // 250


def test_bodies_have_so_many_bytes_together_and_a_request_is_let_go_its_share() -> None:
    bodies = Bodies(10)
    with bodies.share() as first:
        first.grow(6)
        with bodies.share() as second:
            second.grow(4)
            with pytest.raises(Unavailable, match="nothing was changed: too much is being sent at the same time"):
                second.grow(1)
        first.grow(4)
        with bodies.share() as third, pytest.raises(Unavailable):
            third.grow(1)
    with bodies.share() as fourth:
        fourth.grow(10)
