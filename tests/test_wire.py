"""The fast path under python-ovs, over real sockets: whole, in order, and never an exception."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import ovs.jsonrpc
import ovs.poller
import ovs.stream
import ovs.timeval
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ovnreserve.northbound.wire import EOF, Connection, Session, parse_remotes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Message = ovs.jsonrpc.Message

TEXT = st.text(st.one_of(st.sampled_from('{}[]"\\,:\n\0é€😀'), st.characters(exclude_categories=["Cs"])), max_size=12)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=12,
)
NESTED = st.integers(1, 150).map(lambda depth: json.loads('{"}":[' * depth + '"{"' + "]}" * depth))
PARAMS = st.lists(st.one_of(VALUE, NESTED), max_size=3)


@contextlib.contextmanager
def connected() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = Connection(ovs.stream.Stream(ours, "unix:pair", 0))
    try:
        yield connection, theirs
    finally:
        connection.close()
        theirs.close()


def everything(connection: Connection) -> list[Any]:
    """The messages that are there; the last element is the error when it is not EAGAIN."""
    found: list[Any] = []
    while True:
        error, message = connection.recv()
        if error:
            return found if error == errno.EAGAIN else [*found, error]
        found.append(message.to_json())


def wakes_at_once(connection: Connection) -> bool:
    poller = ovs.poller.Poller()
    connection.recv_wait(poller)
    return poller.timeout == 0


def notify(*params: object) -> dict[str, Any]:
    return {"method": "update", "params": list(params), "id": None}


@settings(max_examples=300)
@given(
    st.lists(PARAMS, min_size=1, max_size=5),
    st.lists(st.integers(0, 2000), max_size=12),
    st.booleans(),
    st.sampled_from(["", " ", "\r\n\t "]),
)
def test_messages_arrive_equal_and_in_order_however_the_bytes_are_cut(lists, cuts, ascii_only, between):
    messages = [notify(*params) for params in lists]
    data = between.join(json.dumps(message, ensure_ascii=ascii_only) for message in messages).encode()
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    with connected() as (connection, peer):
        received = []
        for start, end in itertools.pairwise(edges):
            peer.sendall(data[start:end])
            received += everything(connection)
        assert received == messages
        peer.close()
        assert everything(connection) == [EOF]


@given(PARAMS)
def test_one_byte_at_a_time(params):
    message = notify(*params)
    data = json.dumps(message, ensure_ascii=False).encode() * 2
    with connected() as (connection, peer):
        received = []
        for at in range(len(data)):
            peer.sendall(data[at : at + 1])
            received += everything(connection)
        assert received == [message, message]


def test_messages_of_one_piece_come_one_a_call_and_the_poller_does_not_sleep_on_them():
    with connected() as (connection, peer):
        assert not wakes_at_once(connection)
        peer.sendall(b'{"method":"a","params":[],"id":null}{"method":"b","params":[],"id":null}{"met')
        assert connection.recv()[1].method == "a"
        assert wakes_at_once(connection)
        assert connection.recv()[1].method == "b"
        assert not wakes_at_once(connection)
        assert connection.recv() == (errno.EAGAIN, None)
        peer.sendall(b'hod":"c","params":[],"id":null}')
        assert connection.recv()[1].method == "c"


def test_blank_space_between_messages_is_not_kept():
    with connected() as (connection, peer):
        for _ in range(100):
            peer.sendall(b" \n" * 500)
            assert everything(connection) == []
        assert not connection._input
        peer.sendall(b'{"method":"a","params":[],"id":null}')
        assert len(everything(connection)) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\xff\xfe{}",
        b"}",
        b"]",
        b"[1,2]",
        b"17",
        b'"text"',
        b"{a:1}",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1]}',
        b'{"a" 1}',
        b'{"a":"\xff"}',
        b'{"a":"\xc3"}',
        b'{"a":"\x01"}',
        b'{"a":"\\q"}',
        b'{"a":"\\ud8"}',
        b"{}",
        b'{"unexpected":1}',
        b'{"method":7,"params":[]}',
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b'{"a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
    ],
    ids=lambda garbage: garbage[:20].decode("latin-1"),
)
@pytest.mark.parametrize("before", [b"", b'{"method":"a","params":["\xc3\xa9"],"id":null} '])
def test_garbage_ends_the_connection_with_eproto_after_what_came_before_it(garbage, before):
    with connected() as (connection, peer):
        writer = threading.Thread(target=send_all, args=(peer, before + garbage))
        writer.start()
        received = []
        poller = ovs.poller.Poller()
        while errno.EPROTO not in received:
            received += everything(connection)
            connection.recv_wait(poller)
            poller.block()
        writer.join()
        assert len(received) == (2 if before else 1)
        assert connection.get_status() == errno.EPROTO
        assert connection.recv() == (errno.EPROTO, None)
        assert wakes_at_once(connection)


def send_all(peer: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the other end hangs up when it has had enough
        peer.sendall(data)


@settings(max_examples=500)
@given(st.lists(st.one_of(st.binary(max_size=30), st.sampled_from([b"{", b"}", b'"', b"\\", b'{"', b"[", b"1"]))))
def test_no_bytes_raise(pieces):
    with connected() as (connection, peer):
        for piece in pieces:
            send_all(peer, piece)
            everything(connection)
        assert connection.get_status() in (0, errno.EPROTO)


def test_a_peer_that_leaves_in_the_middle_is_an_end_of_file():
    with connected() as (connection, peer):
        peer.sendall(b'{"method":"a","params":[],"id":null}{"method')
        peer.close()
        received = everything(connection)
        assert received == [{"method": "a", "params": [], "id": None}, EOF]


def test_a_string_of_50_megabytes_is_looked_at_once():
    text = '{"\\' * (17 << 20)
    data = json.dumps(notify(text, "end")).encode()
    with connected() as (connection, peer):
        writer = threading.Thread(target=send_all, args=(peer, data))
        writer.start()
        scanned = 0
        scan = connection._scan

        def counted(piece):
            nonlocal scanned
            scanned += len(piece)
            return scan(piece)

        connection._scan = counted
        error, message = connection.recv_block()
        writer.join()
        assert (error, message.params) == (0, [text, "end"])
        assert scanned == len(data)


def test_large_and_small_messages_interleave_both_ways():
    big = notify(["x{" * 700_000, {"a": ["é" * 100_000]}])
    small = notify("}")
    sent = [big, small, small, big, big, small]
    with connected() as (connection, peer):
        peer.setblocking(False)
        other = Connection(ovs.stream.Stream(peer, "unix:other", 0))
        received: dict[Connection, list[Any]] = {connection: [], other: []}
        for message in sent:
            for end in received:
                assert end.send(Message.from_json(message)) == 0
        while any(len(messages) < len(sent) for messages in received.values()):
            for end, messages in received.items():
                end.run()
                messages.extend(everything(end))
        assert received == {connection: sent, other: sent}
        assert connection.get_backlog() == other.get_backlog() == 0


def test_20_megabytes_arrive_whole_at_a_slow_reader_and_the_backlog_only_shrinks():
    message = notify("é" * 10_000_000, "\\" * 10)
    whole = len(json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode())
    with connected() as (connection, peer):
        assert connection.send(Message.from_json(message)) == 0
        backlog = connection.get_backlog()
        assert 19_000_000 < backlog < whole
        poller = ovs.poller.Poller()
        received = bytearray()
        while len(received) < whole:
            received += peer.recv(65536)
            connection.run()
            assert connection.get_backlog() <= backlog
            backlog = connection.get_backlog()
            connection.wait(poller)
        assert json.loads(received) == message
        assert connection.get_backlog() == 0


def test_sending_needs_no_second_copy_of_what_waits():
    message = Message.from_json(notify("x" * 8_000_000))
    with connected() as (connection, peer):
        connection.send(message)
        tracemalloc.start()
        while connection.get_backlog():
            peer.recv(1 << 20)
            connection.run()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 6_000_000


@pytest.mark.parametrize("value", [float("nan"), "\ud800"])
def test_what_cannot_be_json_is_refused_before_anything_is_queued(value):
    with connected() as (connection, peer):
        with pytest.raises(ValueError, match=r"."):
            connection.send(Message.from_json(notify("x" * 1000, value)))
        assert connection.get_backlog() == 0
        connection.send(Message.from_json(notify("next")))
        assert json.loads(peer.recv(4096)) == notify("next")


def test_sending_to_a_peer_that_left_is_an_error_not_an_exception():
    with connected() as (connection, peer):
        peer.close()
        assert connection.send(Message.from_json(notify())) == errno.EPIPE
        assert connection.get_backlog() == 0
        assert connection.recv() == (errno.EPIPE, None)


# -- sessions


class Clock:
    """Milliseconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ovs.timeval, "msec", clock)
    return clock


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "sock"))
        sock.listen()
        sock.settimeout(5)
        yield sock


def name(listener: socket.socket) -> str:
    return f"unix:{listener.getsockname()}"


def test_a_session_makes_our_connections_and_takes_over_what_idl_made(listener):
    session = Session.like(ovs.jsonrpc.Session.open_multiple([name(listener)]))
    while not session.is_connected():
        session.run()
    assert isinstance(session.rpc, Connection)
    peer, _ = listener.accept()
    peer.sendall(b'{"method":"a","params":[],"id":null}')
    assert session.recv().method == "a"
    assert session.last_error == ""
    session.close()
    peer.close()


def test_a_server_that_stops_answering_is_left_within_two_probe_intervals_on_unix_too(listener, clock):
    session = Session.to([name(listener)], probe_interval=3000)
    session.run()
    session.run()
    peer, _ = listener.accept()
    assert session.is_connected()
    clock.now += 3001
    session.recv()
    session.run()
    assert json.loads(peer.recv(4096)) == {"method": "echo", "params": [], "id": "echo"}
    peer.sendall(b'{"result":[],"error":null,"id":"echo"}')
    assert session.recv() is None
    for _ in range(2):
        clock.now += 3001
        session.recv()
        session.run()
    assert not session.is_connected()
    assert session.last_error == f"{name(listener)}: database connection failed (no response to inactivity probe)"
    session.close()
    peer.close()


def test_a_session_is_back_within_a_second_and_says_little_meanwhile(tmp_path, clock):
    path = tmp_path / "sock"
    with capture_logs() as logs:
        session = Session.to([f"unix:{path}"])
        for _ in range(600):
            session.run()
            clock.now += 100
        assert session.last_error == f"unix:{path}: database connection failed (No such file or directory)"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            for _ in range(12):
                session.run()
                clock.now += 100
            assert session.is_connected()
        assert session.last_error == ""
        session.close()
    assert [line["event"] for line in logs] == ["northbound_not_connected", "northbound_connected"]


def test_a_remote_that_accepts_and_drops_does_not_flood_the_log(listener, clock):
    with capture_logs() as logs:
        session = Session.to([name(listener)])
        dropped = 0
        while dropped < 100:
            session.run()
            if session.is_connected():
                peer, _ = listener.accept()
                peer.close()
                dropped += 1
                session.recv()
            clock.now += 500
        flood = len(logs)
        clock.now += 60_000
        while not session.is_connected():
            session.run()
        session.close()
    assert flood < 30
    assert logs[-1]["event"] == "northbound_connected"


def test_remotes_are_tried_in_turn(listener, tmp_path):
    session = Session.to([f"unix:{tmp_path}/none", name(listener)])
    for _ in range(6):
        session.run()
    assert session.is_connected()
    session.close()


def test_all_remotes_are_tried_each_second_and_not_one_of_them(listener, tmp_path, clock):
    missing = [f"unix:{tmp_path}/{number}" for number in range(2)]
    session = Session.to([*missing, name(listener)])
    calls = 0
    for _ in range(100):  # 10 s
        session.run()
        if session.is_connected():
            listener.accept()[0].close()
            calls += 1
            session.force_reconnect("it is not the one")
        clock.now += 100
    session.close()
    assert 7 <= calls <= 10


def test_an_unreadable_certificate_is_an_error_of_the_session_not_an_exception(tmp_path, monkeypatch, clock):
    monkeypatch.setattr(ovs.stream.Stream, "_SSL_ca_cert_file", str(tmp_path / "ca.pem"))
    session = Session.to(["ssl:127.0.0.1:1"])
    for _ in range(20):
        session.run()
        clock.now += 100
    assert session.last_error.startswith("ssl:127.0.0.1:1: database connection failed (No such file or directory")
    session.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl(1)")
def test_the_same_over_tls(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=test -days 2"
        f" -keyout {key} -out {certificate}",
        shell=True,
        check=True,
        capture_output=True,
    )
    monkeypatch.setattr(ovs.stream.Stream, "_SSL_ca_cert_file", str(certificate))
    monkeypatch.setattr(ovs.stream.Stream, "_SSL_certificate_file", str(certificate))
    monkeypatch.setattr(ovs.stream.Stream, "_SSL_private_key_file", str(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    message = notify("é{" * 1_000_000)
    data = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    received = bytearray()

    def serve(server: socket.socket) -> None:
        raw, _ = server.accept()
        with context.wrap_socket(raw, server_side=True) as peer:
            peer.sendall(data + data)
            while len(received) < len(data):
                received.extend(peer.recv(1 << 16))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        session = Session.to([f"ssl:127.0.0.1:{server.getsockname()[1]}"])
        found = []
        deadline = time.monotonic() + 30
        while (len(found) < 2 or session.get_backlog()) and time.monotonic() < deadline:
            session.run()
            if (got := session.recv()) is not None:
                found.append(got.to_json())
                if len(found) == 2:
                    session.send(Message.from_json(message))
            poller = ovs.poller.Poller()
            session.wait(poller)
            session.recv_wait(poller)
            poller.timer_wait(1000)
            poller.block()
        thread.join(10)
        session.close()
    assert found == [message, message]
    assert bytes(received) == data


def test_commas_in_a_socket_path_do_not_split_a_remote():
    assert parse_remotes("tcp:10.0.0.1:6641,unix:/run/a,b.sock,ssl:[::1]:6641") == [
        "tcp:10.0.0.1:6641",
        "unix:/run/a,b.sock",
        "ssl:[::1]:6641",
    ]
