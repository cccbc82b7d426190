"""Bad input: whatever comes through the socket, in manifests, or from others who write into the database.

All tests share one daemon and look at it after each: it lives, is active, still reserves, has answered nothing with
5xx, and no line of its log was written by anybody else.
"""

from __future__ import annotations

import itertools
import json
import re
import selectors
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sites import Raw, Site
from support import wait_until

from ovnreserve.model import exclude_ips
from ovnreserve.sandbox import Daemon, Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IPS = "/apis/kubeovn.io/v1/ips"
BULK = "/apis/ovnreserve.io/v1/bulk"
MIB = 1 << 20

INJECTED = "2026-01-01T00:00:00Z info     injected"
HOSTILE = (
    f"a\n{INJECTED}",
    f"a\r\n{INJECTED}",
    f"a\u2028{INJECTED}",
    "a\x1b[2J\x1b]0;owned\x07",
    "a\x00b",
    "a\x7f\x9b31m",
    "\u202efdp.exe",
    "größe",
    "名前",
    "😀",
    "A",
    "a b",
    "-a",
    "a..b",
    "../../etc/passwd",
    "'; DROP TABLE reservation; --",
    "%s%n{0}",
    "x" * 300,
)
_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z (debug|info|warning|error|critical) +[a-z_]+( \w+=.*)?"
).fullmatch
_FAULTS = ("request_failed", "plan_failed", "engine_failed", "transaction_failed", "northbound_update_unreadable",
           "Traceback")  # fmt: skip

few = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Servers() as servers, Daemon(servers, tmp_path_factory.mktemp("attacked") / "state") as daemon:
        yield Site(servers, daemon, follow=True)


@pytest.fixture
def site(attacked: Site) -> Iterator[Site]:
    """The daemon under attack; what it has come to is looked at after the test."""
    logged = attacked.daemon.log.stat().st_size
    yield attacked
    lines = attacked.daemon.log.read_bytes()[logged:].decode().split("\n")
    print(*lines, sep="\n")
    assert attacked.daemon.alive
    wait_until(lambda: attacked.client.get("/apis/ovnreserve.io/v1/status")["state"] == "active", what="it is active")
    answer = attacked.reserve(attacked.switch(), wait="sb")
    assert answer.result == "created", answer.status
    for line in filter(None, lines):
        assert _LINE(line), line
        assert line.isprintable(), line
        assert not any(fault in line for fault in _FAULTS), line
    attacked.clean()


class Reply(NamedTuple):
    """One answer: its code and its decoded body."""

    code: int
    body: Any


def ask(site: Site, *pieces: bytes, patience: float = 20) -> list[Reply]:
    """Send the pieces, as far as somebody reads them, and return the answers once the connection is closed."""
    received = bytearray()
    with socket.socket(socket.AF_UNIX) as client, selectors.DefaultSelector() as selector:
        client.connect(site.daemon.client_environment["OVNRESERVE_SERVER"])
        client.setblocking(False)
        selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
        waiting = [memoryview(piece) for piece in pieces if piece][::-1]
        deadline = time.monotonic() + patience
        while True:
            assert time.monotonic() < deadline, f"no end of the answer: {bytes(received[-500:])!r}"
            for _key, events in selector.select(1):
                try:
                    if events & selectors.EVENT_READ:
                        data = client.recv(1 << 20)
                        if not data:
                            return replies(bytes(received))
                        received += data
                    elif waiting:
                        sent = client.send(waiting[-1][: 1 << 20])
                        waiting[-1:] = [waiting[-1][sent:]] if sent < len(waiting[-1]) else []
                except (BrokenPipeError, ConnectionResetError):
                    return replies(bytes(received))
                if not waiting:
                    selector.modify(client, selectors.EVENT_READ)


def replies(received: bytes) -> list[Reply]:
    """The answers in these bytes: all of HTTP/1.1, whole, JSON, and none of them 5xx."""
    found = []
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        assert end, received
        first, *headers = head.decode("ascii").split("\r\n")
        fields = dict(header.lower().split(": ", 1) for header in headers)
        length = int(fields.get("content-length", 0))
        assert len(rest) >= length, received
        code = int(first.split()[1])
        assert code < 500, received[:2000]
        if code >= 200:
            found.append(Reply(code, json.loads(rest[:length])))
        received = rest[length:]
    return found


def request(method: str, path: str, content: Any = None, *headers: str, media: str = "application/json") -> bytes:
    """The bytes of a request after which the connection ends."""
    body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
    if content is not None:
        lines += [f"Content-Type: {media}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def one(site: Site, *pieces: bytes) -> Reply:
    [reply] = ask(site, *pieces)
    message = reply.body.get("message", "")
    assert message.isprintable(), message
    return reply


@pytest.fixture
def memory(site: Site) -> Callable[[], float]:
    """How many MiB more than at the start of the test the daemon has had at its worst."""

    def peak() -> int:
        return int(re.search(r"VmHWM:\s+(\d+)", (proc / "status").read_text())[1]) // 1024

    proc = Path(f"/proc/{site.daemon.pid}")
    (proc / "clear_refs").write_text("5")  # proc(5): reset the peak
    before = peak()
    return lambda: peak() - before


# ---- too much ------------------------------------------------------------------------------------------------------


def in_chunks(content: bytes, size: int = 1 << 16) -> Iterator[bytes]:
    for at in range(0, len(content), size):
        piece = content[at : at + size]
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


@pytest.mark.parametrize(("path", "most"), [(IPS, 16), (BULK, 160)])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_100_megabytes_is_413_and_is_not_kept(
    site: Site, memory: Callable[[], float], path: str, most: int, *, chunked: bool
) -> None:
    content = b'{"verb":"apply","items":["' + b"x" * 100_000_000 + b'"]}'
    if chunked:
        head = request("POST", path, None, "Content-Type: application/json", "Transfer-Encoding: chunked")
        reply = one(site, head, *in_chunks(content))
    else:
        reply = one(site, request("POST", path, content))
    assert (reply.code, reply.body["reason"]) == (413, "RequestEntityTooLarge")
    assert memory() < (most if chunked else 16)


def test_a_declared_body_that_never_comes_is_refused_at_once(site: Site) -> None:
    head = request("POST", BULK, None, "Content-Type: application/json", f"Content-Length: {10**11}")
    assert one(site, head).code == 413


@pytest.mark.parametrize("unit", [b"[],", b"{},", b'{"a":[]},', b"[[[[]]]],"])
def test_a_body_that_would_become_gigabytes_is_413(site: Site, memory: Callable[[], float], unit: bytes) -> None:
    content = b'{"verb":"apply","items":[' + unit * (60 * MIB // len(unit)) + b"[]]}"
    reply = one(site, request("POST", BULK, content))
    assert (reply.code, reply.body["reason"]) == (413, "RequestEntityTooLarge")
    assert "values" in reply.body["message"]
    assert memory() < 200


@pytest.mark.parametrize("document", [b"[" * 200_000, b'{"a":' * 200_000, b"[" * 900 + b"]" * 900])
def test_deep_nesting_is_refused(site: Site, document: bytes) -> None:
    spec = b'{"apiVersion":"kubeovn.io/v1","kind":"IP","metadata":{"name":"a.b"},"spec":{"attachIps":%b}}' % document
    for content in (document, spec):
        assert one(site, request("POST", IPS, content)).code in (400, 422)
        assert one(site, request("POST", BULK, b'{"verb":"apply","items":[%b]}' % content)).code in (200, 400)
        patch = request("PATCH", f"{IPS}/a.b", content, media="application/merge-patch+json")
        assert one(site, patch).code in (400, 404, 422)
        assert one(site, request("DELETE", f"{IPS}/a.b", content)).code in (400, 404)


def endless(what: str) -> Iterator[bytes]:
    """10 MB of a request that has no end."""
    start = {
        "header": b"GET /version HTTP/1.1\r\nX: ",
        "headers": b"GET /version HTTP/1.1\r\n",
        "path": b"GET /",
        "query": b"GET /apis/kubeovn.io/v1/ips?labelSelector=",
        "method": b"",
        "trailer": b"POST /version HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        "chunk extension": b"POST /version HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=",
    }
    return itertools.chain([start[what]], [b"X: y\r\n" * 1000 if what == "headers" else b"x" * 6000] * 1700)


@pytest.mark.parametrize("what", ["header", "headers", "path", "query", "method", "trailer", "chunk extension"])
def test_a_head_without_end_is_refused_and_not_kept(site: Site, memory: Callable[[], float], what: str) -> None:
    assert {reply.code for reply in ask(site, *endless(what))} <= {400, 405, 431}
    assert memory() < 16


def test_a_long_selector_is_answered_at_once(site: Site) -> None:
    for text in ("a" + "%20" * 15_000 + "x", "a=" + "%20" * 15_000 + "(", "a," * 25_000, "a in (" + "x," * 20_000):
        started = time.monotonic()
        assert one(site, request("GET", f"{IPS}?labelSelector={text.replace(' ', '%20')}")).code == 400
        assert time.monotonic() - started < 5


def test_what_is_wrong_is_named_up_to_a_bound(site: Site) -> None:
    spec = {f"field{number}": 1 for number in range(50_000)}
    document = {"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": {"name": "a.b"}, "spec": spec}
    for labels in ({}, {f"-{number}": "" for number in range(50_000)}):
        document["metadata"]["labels"] = labels
        reply = one(site, request("POST", IPS, document))
        assert reply.code == 422
        assert len(json.dumps(reply.body)) < 20_000


# ---- wrong types, and text that would be something else --------------------------------------------------------------

WRONG = (None, True, 0, -1, 1.5, 10**30, "", "x", [], [None], {}, {"a": {"b": []}}, [["a"]])
FIELDS = (
    *("apiVersion", "kind", "metadata", "spec", "status", "more", "metadata.name", "metadata.labels"),
    *("metadata.annotations", "metadata.resourceVersion", "metadata.labels.a", "metadata.annotations.a"),
    *("metadata.uid", "metadata.creationTimestamp", "metadata.managedFields", "metadata.more", "spec.subnet"),
    *("spec.podType", "spec.namespace", "spec.podName", "spec.v4IpAddress", "spec.v6IpAddress", "spec.ipAddress"),
    *("spec.macAddress", "spec.nodeName", "spec.containerID", "spec.attachIps", "spec.attachMacs"),
    *("spec.attachSubnets", "spec.more"),
)


def with_field(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = json.loads(json.dumps(document))
    *parents, last = path.split(".")
    place = changed
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    return changed


def test_a_wrong_type_in_any_field_is_refused_or_means_nothing(site: Site) -> None:
    switch = site.switch()
    good = site.document(switch)
    documents = [with_field(good, path, value) for path in FIELDS for value in WRONG]
    for verb in ("create", "apply", "delete"):
        reply = one(site, request("POST", BULK, {"verb": verb, "items": documents + list(WRONG)}))
        assert reply.code == 200
        statuses = [result["status"] for result in reply.body["results"] if result["result"] == "error"]
        assert statuses
        assert all(400 <= status["code"] < 500 and status["message"].isprintable() for status in statuses)
    for path in FIELDS:
        for value in WRONG:
            patch = with_field({}, path, value)
            code = one(site, request("PATCH", f"{IPS}/a.b", patch, media="application/merge-patch+json")).code
            assert code in (400, 404, 422), patch
    for bulk in (*WRONG, {"verb": []}, {"verb": "apply", "items": {}}, {"verb": "apply", "items": None}):
        assert one(site, request("POST", BULK, bulk)).code == 400


@pytest.mark.parametrize("body", [[], 5, True, [{}], "text"], ids=ascii)
@pytest.mark.parametrize(
    "path",
    [
        f"{IPS}/x.default",
        "/apis/kubeovn.io/v1/ippools/x",
        "/apis/apps/v1/namespaces/default/statefulsets/x",
        "/apis/apps/v1/namespaces/default/statefulsets/x/scale",
        "/apis/kubevirt.io/v1/namespaces/default/virtualmachines/x",
    ],
)
def test_a_patch_that_is_no_object_is_a_bad_request(site: Site, path: str, body: Any) -> None:
    assert one(site, request("PATCH", path, body, media="application/merge-patch+json")).code == 400


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_names_follow_rfc_1123_and_no_other_text_gets_further_than_its_refusal(site: Site, text: str) -> None:
    switch = site.switch()
    good = site.document(switch)
    with site.nothing_written():
        for path in ("metadata.name", "spec.podName", "spec.namespace", "spec.nodeName", "spec.v4IpAddress",
                     "spec.macAddress", "spec.podType", "metadata.labels.a", "spec.subnet"):  # fmt: skip
            if path == "metadata.labels.a" and text in ("A", "a..b"):
                continue  # as the value of a label that is good
            reply = one(site, request("POST", IPS, with_field(good, path, text)))
            assert reply.code == 422, (path, text)
            assert all(cause["message"].isprintable() for cause in reply.body["details"]["causes"])
        for key in ("labels", "annotations"):
            document = {**good, "metadata": {"name": good["metadata"]["name"], key: {f"{text}/{text}": "a"}}}
            assert one(site, request("POST", IPS, document)).code == 422
        for document in (with_field(good, text, 1), with_field(good, f"spec.{text}", 1)):
            if "." not in text:
                assert one(site, request("POST", IPS, document)).code == 422


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_any_text_in_paths_queries_and_headers_is_answered(site: Site, text: str) -> None:
    quoted = "".join(f"%{octet:02x}" for octet in text.encode())
    for path in (f"{IPS}/{quoted}", f"/apis/kubeovn.io/v1/subnets/{quoted}", f"/{quoted}"):
        assert one(site, request("GET", path)).code == 404
        assert one(site, request("DELETE", path)).code in (404, 405)
        patch = {"metadata": {"labels": {"a": "b"}}}
        assert one(site, request("PATCH", path, patch, media="application/merge-patch+json")).code in (404, 405)
    for query in ("labelSelector", "fieldSelector", "watch"):
        assert one(site, request("GET", f"{IPS}?{query}={quoted}")).code in (200, 400)
        assert one(site, request("GET", f"{IPS}?{quoted}={quoted}&{query}")).code in (200, 400)
    for query in ("wait", "timeout", "dryRun"):
        assert one(site, request("DELETE", f"{IPS}/a.b?{query}={quoted}")).code == 400
    events = one(site, request("GET", f"/api/v1/events?fieldSelector=involvedObject.name%3D{quoted}"))
    assert events.body.get("items", []) == []
    bare = text.replace("\r", "").replace("\n", " ")
    for header in (f"Accept: {bare}", f"X-{bare}: a", f"Host: {bare}", f"Content-Type: {bare}"):
        assert {reply.code for reply in ask(site, request("GET", "/version", None, header))} <= {200, 400}
        assert {reply.code for reply in ask(site, request("POST", IPS, None, header))} <= {400, 415}


def test_an_annotation_may_be_any_text_and_comes_back_as_it_was(site: Site) -> None:
    switch = site.switch()
    annotations = {f"a{number}": text for number, text in enumerate(HOSTILE)}
    document = site.document(switch)
    document["metadata"]["annotations"] = annotations
    assert one(site, request("POST", IPS, document)).code == 201
    assert site.ip(document["metadata"]["name"])["metadata"]["annotations"] == annotations
    site.restart()
    assert site.ip(document["metadata"]["name"])["metadata"]["annotations"] == annotations
    shown = site.command("describe", "ip", document["metadata"]["name"])
    assert INJECTED not in shown.stdout.splitlines()
    assert "\x1b" not in shown.stdout


# ---- what is hardly HTTP ---------------------------------------------------------------------------------------------

GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # a TLS hello
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x00" * 1000,
    b"\n" * 1000 + b"x\n\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
    b"POST /version HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /version HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST /version HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST /version HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"POST /version HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"POST /version HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b'{"method":"transact","params":[],"id":0}',
)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: ascii(garbage[:30]))
def test_garbage_has_a_status_or_no_answer_and_ends_the_connection(site: Site, garbage: bytes) -> None:
    for reply in ask(site, garbage + b"\r\n\r\n\r\nx\r\n\r\n"):
        assert reply.code in (400, 404, 405)
        assert reply.body["kind"] == "Status"


@few
@given(
    st.lists(st.binary(max_size=60) | st.sampled_from([*GARBAGE, b"GET /version HTTP/1.1\r\n", b"\r\n"]), max_size=6)
)
def test_no_bytes_are_answered_with_5xx(site: Site, pieces: list[bytes]) -> None:
    end = b"\r\n\r\nx\r\n\r\n"  # ends whatever it was
    for reply in ask(site, *pieces, b"0" + end, b"GET /version HTTP/1.1\r\nConnection: close\r\n\r\n", end * 5):
        assert reply.code < 500


def test_what_was_asked_before_garbage_has_its_own_answer(site: Site) -> None:
    document = site.document(site.switch())
    whole = request("POST", IPS, document).replace(b"Connection: close\r\n", b"")
    codes = [reply.code for reply in ask(site, whole + b"\x00\x01garbage\r\n\r\n")]
    assert codes in ([201], [201, 400])
    assert site.ip(document["metadata"]["name"]) is not None


def test_pipelined_requests_are_answered_in_order_up_to_the_garbage(site: Site) -> None:
    ask_for = [f"GET {IPS}/pod-{number}.default HTTP/1.1\r\nHost: x\r\n\r\n".encode() for number in range(200)]
    found = ask(site, b"".join(ask_for) + b"{garbage}\r\n\r\n")
    asked = [reply for reply in found if reply.code == 404]
    assert [reply.body["details"]["name"] for reply in asked] == [f"pod-{n}.default" for n in range(len(asked))]
    assert len(asked) in (199, 200)


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "rubbish"])
def test_a_request_to_upgrade_is_answered_as_if_it_had_not_been_made(site: Site, protocol: str) -> None:
    asked = f"GET /version HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n".encode()
    assert [reply.code for reply in ask(site, asked + asked)] == [200]


def test_others_are_served_while_some_send_half_of_a_request_and_nothing_more(site: Site) -> None:
    path = site.daemon.client_environment["OVNRESERVE_SERVER"]
    whole = request("POST", IPS, site.document(site.switch()))
    with ExitStack() as opened:
        for number in range(100):
            client = opened.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(path)
            client.sendall(whole[: 1 + number * len(whole) // 101])
        assert site.reserve(site.switch()).result == "created"
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(path)
            for octet in whole:
                slow.sendall(bytes([octet]))
            received = b"".join(iter(lambda: slow.recv(65536), b""))
    assert [reply.code for reply in replies(received)] == [201]


# ---- manifests -------------------------------------------------------------------------------------------------------

BOMB = "a: &a [x, x]\n" + "".join(
    f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n" for p, c in itertools.pairwise("abcdefghi")
)
BAD_MANIFESTS = {
    "aliases": BOMB.encode(),
    "merge key": b"a: &a {b: c}\nd:\n  <<: *a\n",
    "tag": b"!!python/object/apply:os.system ['touch /tmp/owned']\n",
    "tag in a field": b"metadata: {name: !!python/name:os.system x}\n",
    "key twice": b"kind: IP\nkind: IP\n",
    "key twice in JSON": b'{"kind": "IP", "kind": "IP"}',
    "no UTF-8": b"kind: IP\nmetadata: {name: \xff\xfe}\n",
    "NUL": b"kind: IP\x00\n",
    "escape": b"kind: \x1b[2JIP\n",
    "UTF-16 cut short": "kind: IP".encode("utf-16")[:-1],
    "a scalar": b"just text\n",
    "a list": b"- kind: IP\n",
    "deep": b"[" * 100_000,
    "deep JSON": b'{"a":' * 100_000,
    "no document end": b'{"kind": "IP"',
    "newline in a key": b'{"a\\n2026 injected": 1, "a\\n2026 injected": 2}',
    "half a character": b'{"apiVersion":"kubeovn.io/v1","kind":"IP","metadata":{"name":"\\ud800"},"spec":{}}',
    "not ours": b"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
    "name of another alphabet": "apiVersion: kubeovn.io/v1\nkind: IP\nmetadata: {name: 名前}\n".encode(),
    "name in two lines": b'apiVersion: kubeovn.io/v1\nkind: IP\nmetadata: {name: "a\\n2026 injected"}\nspec: {}\n',
}


@pytest.mark.parametrize("what", BAD_MANIFESTS)
def test_a_bad_manifest_is_refused_in_a_few_lines_and_nothing_is_written(site: Site, tmp_path: Path, what: str) -> None:
    manifest = tmp_path / "bad.yaml"
    manifest.write_bytes(BAD_MANIFESTS[what])
    with site.nothing_written():
        done = site.command("apply", "-f", str(manifest))
    assert (done.code, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert 1 <= len(lines) <= 6, done.stderr
    assert all(line.isprintable() and not line.startswith("2026") for line in lines), done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert len(done.stderr) < 2000


def test_the_good_documents_of_a_file_are_applied_and_the_bad_ones_named(site: Site, tmp_path: Path) -> None:
    switch = site.switch()
    good, bad = site.document(switch), site.document(switch, podName="Not\x1bOk")
    manifest = tmp_path / "several.yaml"
    manifest.write_text("\n---\n".join(["", json.dumps(good), "# nothing", json.dumps(bad), "null"]))
    done = site.command("apply", "-f", str(manifest))
    assert done.code == 1
    assert done.stdout == f"ip.kubeovn.io/{good['metadata']['name']} created\n"
    assert "spec.podName" in done.stderr
    assert "\x1b" not in done.stderr


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@few
@given(
    st.lists(st.lists(st.tuples(st.sampled_from(FIELDS), values | st.sampled_from(HOSTILE)), max_size=3), max_size=8)
)
def test_mutated_manifests_are_carried_out_or_refused(site: Site, mutations: list[list[tuple[str, Any]]]) -> None:
    documents = []
    for changes in mutations:
        document = site.document("nowhere")
        for path, value in changes:
            try:
                document = with_field(document, path, value)
            except (AttributeError, TypeError):  # an earlier change has made the parent something else
                continue
        documents.append(document)
    for verb in ("apply", "create", "delete"):
        reply = one(site, request("POST", BULK, {"verb": verb, "items": documents}))
        assert reply.code == 200
        for result in reply.body["results"]:
            assert 400 <= result["status"]["code"] < 500
            assert result["status"]["message"].isprintable()


# ---- what others write into the database -----------------------------------------------------------------------------

THEIRS = (
    "10.16.0.5..",
    "10.16.0.5 ..",
    "..",
    ".. 10.16.0.3",
    "..10.16.0.3 // comment\n10.16.0.4",
    "10.16.0.7,10.16.0.8",
    "/* open",
    "// only a comment",
    '"quoted',
    " ",
    "\n\n10.16.0.9\n",
    "\x1b[2J\x07\x7f",
    f"10.16.0.9\n{INJECTED}",
    "::1 fd00::a10:5 0x0a100006 168820743",
    "0.0.0.0..255.255.255.255",
    "名前 😀 \u202e",
    "10.16.0.300 99999999999999999999999",
    " ".join(f"10.16.{n >> 8}.{n & 255}" for n in range(0, 20_000, 2)),
    "x" * MIB,
    "(" * 100_000,
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)
excludes = texts | st.lists(
    st.sampled_from(["10.16.0.5", "10.16.0.9", "..", " ", "//", "\n", "/*", "*/", '"', ",", "0x", ":", "/24", "a"]),
    max_size=12,
).map("".join)


def set_map(switch: str, column: str, key: str, text: str) -> dict[str, Any]:
    mutations = [[column, "delete", ["set", [key]]], [column, "insert", ["map", [[key, text]]]]]
    return {"op": "mutate", "table": "Logical_Switch", "where": [["name", "==", switch]], "mutations": mutations}


def stays_theirs(site: Site, text: str) -> None:
    """Reserve beside somebody's text, which stays byte for byte, before and after we have ever written there."""
    switch = site.switch(subnet="10.16.0.0/16")
    with Raw(site.servers) as raw:
        raw.transact(set_map(switch, "other_config", "exclude_ips", text))
        answer = site.reserve(switch, wait="sb")
        assert answer.result == "created", answer.status
        value, mark = theirs_of(site, switch)
        assert exclude_ips.split(value, mark)[1] == text
        assert value.startswith(answer.v4)
        assert site.subnet(switch)["metadata"]["name"] == switch
        raw.transact(set_map(switch, "other_config", "exclude_ips", text))  # ours is gone: it comes back in front
        wait_until(lambda: theirs_of(site, switch)[0].startswith(answer.v4), what="repaired")
        value, mark = theirs_of(site, switch)
        assert exclude_ips.split(value, mark)[1] == text
    site.release(answer.name)
    assert theirs_of(site, switch)[0] == text
    site.nb("ls-del", switch)


def theirs_of(site: Site, switch: str) -> tuple[str, str | None]:
    row = site.row("Logical_Switch", switch)
    return row["other_config"].get("exclude_ips", ""), row["external_ids"].get("ovnreserve/excluded")


@pytest.mark.parametrize("text", THEIRS, ids=lambda text: ascii(text[:30]))
def test_exclude_ips_of_any_form_stay_byte_for_byte(site: Site, text: str) -> None:
    stays_theirs(site, text)


@settings(few, max_examples=12)
@given(excludes)
def test_exclude_ips_of_any_text_stay_byte_for_byte(site: Site, text: str) -> None:
    stays_theirs(site, text)


@pytest.mark.parametrize(
    "mark", ["", "0 ", "9 zz", "8 " + "0" * 64, "999999999999 " + "a" * 64, f"x\n{INJECTED}", "名"]
)
def test_a_garbled_mark_loses_nobodys_address(site: Site, mark: str) -> None:
    switch = site.switch(exclude_ips="10.16.0.5")
    answer = site.reserve(switch)
    with Raw(site.servers) as raw:
        raw.transact(set_map(switch, "external_ids", "ovnreserve/excluded", mark))
    wait_until(lambda: exclude_ips.split(*theirs_of(site, switch))[0] == answer.v4, what="marked again")
    assert site.exclude_ips(switch).endswith("10.16.0.5")
    site.release(answer.name)
    assert "10.16.0.5" in site.exclude_ips(switch)


def like_ours(good: dict[str, str]) -> list[dict[str, str]]:
    """external_ids of rows that look like `good`, or like the ledger's, and are not."""
    record = json.loads(good["ovnreserve/record"])

    def like(**changes: Any) -> dict[str, str]:
        return {**good, "ovnreserve/record": json.dumps({**record, **changes})}

    return [
        {"ovnreserve/kind": "reservation"},
        {"ovnreserve/kind": "reservation", "ovnreserve/name": f"a\n{INJECTED}"},
        {"ovnreserve/kind": "reservation", "ovnreserve/name": "\x1b[2J", "ovnreserve/record": "{"},
        {**good, "ovnreserve/name": f"x\n{INJECTED}", "ovnreserve/uid": "1"},
        {**good, "ovnreserve/name": "名前.default", "ovnreserve/uid": "2"},
        {**good, "ovnreserve/name": "other.default", "ovnreserve/uid": "3"},
        {**good, "ovnreserve/record": "[" * 100_000},
        {**good, "ovnreserve/record": ""},
        {**good, "ovnreserve/uid": ""},
        {**good, "ovnreserve/switch": "no uuid", "ovnreserve/name": "y.default"},
        like(mac="rubbish"),
        like(v4="fd00::1"),
        like(v4=None),
        like(created=-1),
        like(rv=10**40),
        like(subnet=f"a\n{INJECTED}"),
        like(labels=[]),
        like(pod="Ä"),
        *({"ovnreserve/kind": "ledger", "ovnreserve/revision": text} for text in
          ("", "{", "[]", '{"a":' * 10_000, '{"x": ' + "9" * 4299 + "}", '{"x":1e999}', f"a\n{INJECTED}", "null")),
        *({"ovnreserve/kind": "ledger", "ovnreserve/resource-version": text} for text in
          ("-1", "9" * 40, "²", f"a\n{INJECTED}")),
        like(by=[f"a\n{INJECTED}", 1]),
        like(by=["a", -1]),
        {"ovnreserve/kind": f"a\n{INJECTED}"},
    ]  # fmt: skip


def test_rows_that_look_like_ours_change_nothing_and_are_left_alone(site: Site) -> None:
    switch = site.switch()
    expected = {name: site.ip(name)["spec"] for name in (site.reserve(switch).name for _ in range(3))}
    rubbish = like_ours(next(iter(site.records().values()))["external_ids"])
    with Raw(site.servers) as raw:
        for ids in rubbish:
            raw.insert("DNS", external_ids=["map", list(ids.items())])
        try:
            for _ in range(2):  # they are looked at as they come, and as a whole with the start
                assert {ip["metadata"]["name"]: ip["spec"] for ip in site.ips()} == expected
                made = site.reserve(switch)
                assert made.result == "created", made.status
                expected[made.name] = made.ip["spec"]
                site.restart()
                wait_until(lambda: status(site)["state"] == "active", 20, what="it is active again")
            rows = [row["external_ids"] for row in site.rows("DNS")]
            for ids in rubbish:
                if ids["ovnreserve/kind"] != "ledger" and ids.get("ovnreserve/name") not in expected:
                    assert ids in rows
        finally:
            raw.transact({"op": "delete", "table": "DNS", "where": [["external_ids", "excludes", ["map", []]]]})
    wait_until(lambda: set(site.records()) == set(expected), what="its own records are written again")


def status(site: Site) -> dict[str, Any]:
    return site.client.get("/apis/ovnreserve.io/v1/status")


@pytest.mark.parametrize("key", ["record", "uid", "name", "switch", "kind"])
@pytest.mark.parametrize("text", ["", "{", f"a\n{INJECTED}", "名"], ids=ascii)
def test_a_record_that_was_garbled_is_written_again(site: Site, key: str, text: str) -> None:
    answer = site.reserve(site.switch())
    [before] = site.records().values()
    where = [["_uuid", "==", ["uuid", before["_uuid"]]]]
    name = f"ovnreserve/{key}"
    mutations = [["external_ids", "delete", ["set", [name]]], ["external_ids", "insert", ["map", [[name, text]]]]]
    with Raw(site.servers) as raw:
        raw.transact({"op": "mutate", "table": "DNS", "where": where, "mutations": mutations})
        ids = before["external_ids"]
        wait_until(lambda: [row for row in site.rows("DNS") if row["external_ids"] == ids], what="it is written again")
        assert site.ip(answer.name)["spec"] == answer.ip["spec"]
        site.release(answer.name)
        rows = [row for row in site.rows("DNS") if row["external_ids"].get("ovnreserve/kind") != "ledger"]
        # What is no record of ours any more is somebody's, and stays.
        assert [row["external_ids"] for row in rows] == ([] if key in ("record", "switch") else [{**ids, name: text}])
        raw.transact({"op": "delete", "table": "DNS", "where": where})


rubbish = texts | st.lists(
    st.sampled_from(
        ["0a:00:00:00:00:09", "10.16.0.9", "dynamic", "unknown", "router", "fd00::9", " ", "/24", ".", "\n", "x"]
    ),
    max_size=8,
).map(" ".join)


@settings(few, max_examples=25)
@given(st.lists(st.tuples(st.frozensets(rubbish, max_size=3), rubbish, st.frozensets(rubbish, max_size=2)), max_size=6))
def test_ports_with_any_text_in_them_are_left_as_they_are(site: Site, ports: list[tuple[Any, str, Any]]) -> None:
    switch = site.switch()
    answer = site.reserve(switch, "mine", v4IpAddress="10.16.0.200")
    with Raw(site.servers) as raw:
        for number, (addresses, dynamic, secured) in enumerate(ports):
            named = {0: "mine.default", 1: f"a\n{INJECTED}"}.get(number, f"port-{number}")
            row = {
                "name": named, "addresses": ["set", sorted(addresses)], "dynamic_addresses": dynamic,
                "port_security": ["set", sorted(secured)], "options": ["map", [["virtual-ip", dynamic]]],
                "external_ids": ["map", [["pod", dynamic], ["ovnreserve/pod-type", dynamic]]],
            }  # fmt: skip
            ours = {"op": "insert", "table": "Logical_Switch_Port", "row": row, "uuid-name": "port"}
            mutations = [["ports", "insert", ["named-uuid", "port"]]]
            where = [["name", "==", switch]]
            raw.transact(ours, {"op": "mutate", "table": "Logical_Switch", "where": where, "mutations": mutations})
    assert site.reserve(switch).result == "created"
    assert site.ip(answer.name)["spec"] == answer.ip["spec"]
    site.nb("--wait=sb", "sync")
    rows = {row["name"]: row for row in site.rows("Logical_Switch_Port")}
    for number, (addresses, _dynamic, secured) in enumerate(ports):
        named = {0: "mine.default", 1: f"a\n{INJECTED}"}.get(number, f"port-{number}")
        found = rows[named]
        assert as_set(found["port_security"]) == secured
        if number:  # the one named like the reservation may be bound
            assert as_set(found["addresses"]) == addresses
    site.clean()


def as_set(value: Any) -> frozenset[str]:
    return frozenset([value] if isinstance(value, str) else value)


@pytest.mark.parametrize(
    "name", [f"net\n{INJECTED}", "\x1b[2Jnet", "名前", "", " ", "n" * 5000, "\u202enet"], ids=ascii
)
def test_a_switch_may_have_any_name(site: Site, name: str) -> None:
    with Raw(site.servers) as raw:
        config = ["map", [["subnet", "10.16.0.0/24"], ["exclude_ips", "10.16.0.9"]]]
        ids = ["map", [["ovnreserve/provider", name], ["ovnreserve/auto", name]]]
        for _ in range(2):
            raw.insert("Logical_Switch", name=name, other_config=config, external_ids=ids)
    site.nb("--wait=sb", "sync")
    refused = one(site, request("POST", IPS, site.document(name)))
    assert refused.code == 422
    assert all(cause["message"].isprintable() for cause in refused.body["details"]["causes"])
    listed = [
        item for item in site.client.get("/apis/kubeovn.io/v1/subnets")["items"] if item["metadata"]["name"] == name
    ]
    assert len(listed) == 2
    shown = site.command("get", "subnets")
    assert shown.code == 0
    assert not any(line.startswith("2026") for line in shown.stdout.splitlines())
    assert "\x1b" not in shown.stdout


# ---- the control socket ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [b"\x00\xff\n", b"{" * 10_000, b'{"method":"status","params":["\\n"],"id":0}', b'{"method":1,"params":{},"id":[]}',
     b'{"method":"vlog/set","params":["\\u001b[2J\\n2026"],"id":0}', b'{"method":"no\\nsuch","params":[],"id":0}'],
    ids=lambda garbage: ascii(garbage[:30]),
)  # fmt: skip
def test_garbage_on_the_control_socket_does_no_harm(site: Site, garbage: bytes) -> None:
    path = str(site.daemon.run_dir / f"ovnreserved.{site.daemon.pid}.ctl")
    for content in (garbage, b'{"method":"version","params":[],"id":7}'):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(path)
            answer = b""
            with suppress(ConnectionResetError, BrokenPipeError):  # it need not hear us out
                client.sendall(content)
                client.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda client=client: client.recv(65536), b""))
    assert b"ovnreserved" in answer
