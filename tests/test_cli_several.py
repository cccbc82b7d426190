"""`--server a,b`: what is asked of whom, and what the answers mean."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
from test_cli_commands import IPS, STATUS, WRITE, Server, ip, manifest, not_found, refusal

from ovnreserve.cli import several
from ovnreserve.cli.main import main
from ovnreserve.cli.several import AGAIN, DONE, DOUBT, GONE, THERE, Errand, is_as_asked, judge, preferred

ACTIVE = {"state": "active"}
STANDBY = {"state": "standby", "writer": "host-a (pid 1, a)"}
REFUSED = {"result": "error", "status": refusal("ServiceUnavailable", 503, "this ovnreserved is standby")}
UNKNOWN = {"result": "error", "status": refusal("Timeout", 504, "it may still be done")}
EXISTS = {"result": "error", "status": refusal("AlreadyExists", 409, "already exists")}
MISSING = {"result": "error", "status": not_found("x")[1]}
DOCUMENT = {"kind": "IP", "metadata": {"name": "x"}, "spec": {"subnet": "lan"}}


# What an answer means


@pytest.mark.parametrize("verb", ["apply", "create", "delete"])
@pytest.mark.parametrize("doubted", [False, True])
@pytest.mark.parametrize("result", ["created", "configured", "unchanged", "deleted"])
def test_what_was_done_is_done(verb, doubted, result):
    assert judge(verb, {"result": result}, doubted=doubted) == DONE


@pytest.mark.parametrize("verb", ["apply", "create", "delete"])
@pytest.mark.parametrize("doubted", [False, True])
def test_what_changed_nothing_is_asked_again_and_what_may_have_is_doubted(verb, doubted):
    assert judge(verb, REFUSED, doubted=doubted) == AGAIN
    assert judge(verb, UNKNOWN, doubted=doubted) == DOUBT


def test_only_after_a_doubt_is_what_is_there_or_gone_perhaps_our_own_doing():
    assert judge("delete", MISSING, doubted=True) == GONE
    assert judge("create", EXISTS, doubted=True) == THERE
    assert judge("delete", MISSING, doubted=False) == judge("create", EXISTS, doubted=False) == DONE
    assert judge("apply", MISSING, doubted=True) == judge("delete", EXISTS, doubted=True) == DONE


def test_the_same_as_asked_for_is_whatever_was_given_and_nothing_else():
    spec = {"subnet": "lan", "v4IpAddress": "10.0.0.9", "podType": "VirtualMachine"}
    found = {"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": spec}
    assert is_as_asked({"spec": {"subnet": "lan", "v4IpAddress": "", "macAddress": None, "attachIps": []}}, found)
    assert is_as_asked({"metadata": {"labels": {"a": "1"}}, "spec": spec}, found)
    assert not is_as_asked({"spec": {"subnet": "wan"}}, found)
    assert not is_as_asked({"spec": {"subnet": "lan", "podType": ""}}, found)  # a Pod's
    assert not is_as_asked({"metadata": {"labels": {"a": "2"}}, "spec": spec}, found)
    assert not is_as_asked({"metadata": {"annotations": {"a": "2"}}, "spec": spec}, found)


def test_one_reads_from_the_active_one_else_from_who_answers():
    assert preferred({"a": "standby", "b": "active", "c": ""}) == "b"
    assert preferred({"a": "", "b": "standby", "c": "disconnected"}) == "b"
    assert preferred({"a": "", "b": ""}) == ""


# An errand


def test_only_what_is_left_is_asked_again_and_results_keep_their_places():
    errand = Errand("apply", [{"n": n} for n in range(3)])
    why = errand.take([REFUSED, {"result": "created"}, UNKNOWN], lambda _: None)
    assert why == "it may still be done"
    assert errand.to_ask() == [{"n": 0}, {"n": 2}]
    assert errand.doubted == {2}
    assert errand.take([{"result": "unchanged"}, {"result": "created"}], lambda _: None) == ""
    assert [result["result"] for result in errand.results] == ["unchanged", "created", "created"]
    assert errand.left == []


def test_a_create_that_is_there_after_a_silence_is_taken_for_ours_if_it_is_as_asked():
    errand = Errand("create", [DOCUMENT, DOCUMENT, DOCUMENT])
    errand.fell_silent()
    found = {**DOCUMENT, "metadata": {"name": "x", "uid": "u", "labels": {"of": "the server"}}}
    there = [found, {"spec": {"subnet": "wan"}}, None]
    assert errand.take([EXISTS, EXISTS, EXISTS], lambda _: there.pop(0)) == ""
    ours, *others = errand.results
    assert (ours["result"], ours["object"]["metadata"]["uid"]) == ("created", "u")
    assert "taken for ours" in ours["warnings"][0]
    assert others == [EXISTS, EXISTS]


def test_a_delete_of_what_is_gone_after_a_silence_has_succeeded():
    errand = Errand("delete", [DOCUMENT])
    errand.fell_silent()
    assert errand.take([MISSING], lambda _: None) == ""
    assert errand.results == [{"result": "deleted"}]


def test_who_gives_up_says_of_each_whether_anything_may_have_been_done():
    errand = Errand("apply", [{"n": n} for n in range(3)])
    errand.take([{"result": "created"}, UNKNOWN, REFUSED], lambda _: None)
    errand.results[2] = {}
    errand.give_up("nobody is active")
    assert [result.get("status", {}).get("reason") for result in errand.results] == [
        None,
        "Timeout",
        "ServiceUnavailable",
    ]
    assert errand.results[2]["status"]["message"] == "nothing was changed: nobody is active"


# Two servers


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Two servers with canned answers, a and b."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OVNRESERVE_SERVER", "a,b")
    (tmp_path / "x.yaml").write_text(manifest("x"))
    with contextlib.ExitStack() as stack:
        servers = []
        for path in ("a", "b"):
            server = stack.enter_context(Server(path))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            servers.append(server)
        yield servers


@pytest.fixture
def run(capsys):
    def run(*argv: str) -> tuple[int, str, str]:
        code = main(list(argv))
        out, err = capsys.readouterr()
        return code, out, err

    return run


CREATED = {"results": [{"result": "created"}]}


def test_a_write_goes_to_the_active_one_only(pair, run):
    a, b = pair
    a.on(f"GET {STATUS}", STANDBY)
    b.on(f"GET {STATUS}", ACTIVE)
    b.on(f"POST {WRITE}", CREATED)
    assert run("apply", "-f", "x.yaml") == (0, "ip.kubeovn.io/x created\n", "")
    assert a.asked == [f"GET {STATUS}"]


def test_a_write_waits_while_there_is_no_active_one(pair, run):
    a, b = pair
    a.on(f"GET {STATUS}", STANDBY)
    b.on(f"GET {STATUS}", STANDBY, {"state": "syncing"}, ACTIVE)
    b.on(f"POST {WRITE}", CREATED)
    assert run("apply", "-f", "x.yaml")[0] == 0
    assert b.asked == [f"GET {STATUS}"] * 3 + [f"POST {WRITE}"]


def test_a_write_goes_on_to_the_next_when_the_active_one_is_so_no_longer(pair, run):
    a, b = pair
    a.on(f"GET {STATUS}", ACTIVE, STANDBY)
    a.on(f"POST {WRITE}", {"results": [REFUSED]})
    b.on(f"GET {STATUS}", ACTIVE)
    b.on(f"POST {WRITE}", CREATED)
    assert run("apply", "-f", "x.yaml") == (0, "ip.kubeovn.io/x created\n", "")


def test_without_an_active_one_it_fails_in_time_and_says_what_each_has_said(pair, run):
    a, b = pair
    a.on(f"GET {STATUS}", STANDBY)
    b.on(f"GET {STATUS}", {"state": "disconnected", "database": {"problem": "no\x1b route"}})
    began = time.monotonic()
    code, out, err = run("apply", "-f", "x.yaml", "--server", "a,b,c", "--timeout", "200ms")
    assert time.monotonic() - began < 5
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "ovnreserve: a,b,c: none of them has become active within 0.2 s",
        "  a: standby; host-a (pid 1, a) wrote last",
        "  b: disconnected: no\\x1b route",
        "  c: connection failed (No such file or directory)",
    ]


def test_a_read_prefers_the_active_one_and_does_without(pair, run):
    a, b = pair
    for server in pair:
        server.on(f"GET {IPS}/x", ip("x"))
    a.on(f"GET {STATUS}", STANDBY)
    b.on(f"GET {STATUS}", ACTIVE)
    assert run("get", "ip", "x", "-o", "name") == (0, "ip.kubeovn.io/x\n", "")
    assert (a.asked.count(f"GET {IPS}/x"), b.asked.count(f"GET {IPS}/x")) == (0, 1)
    b.on(f"GET {STATUS}", {"state": "disconnected"})
    assert run("get", "ip", "x", "-o", "name")[0] == 0
    assert run("get", "ip", "x", "-o", "name", "--server", "c,b")[0] == 0


def test_a_read_that_nobody_answers_fails_at_once(run, tmp_path):
    code, _, err = run("get", "ip", "--server", f"{tmp_path}/a,{tmp_path}/b")
    assert code == 1
    assert err.splitlines() == [
        f"ovnreserve: {tmp_path}/a,{tmp_path}/b: none of them answers",
        f"  {tmp_path}/a: connection failed (No such file or directory)",
        f"  {tmp_path}/b: connection failed (No such file or directory)",
    ]


class Mute:
    """An active server that takes every request for a write and says nothing."""

    def __init__(self, path: str, *, hangs_up: bool) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._hangs_up = hangs_up
        self._kept = []
        self.writes = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                while data := connection.recv(65536):
                    if data.startswith(b"GET"):
                        content = b'{"state":"active"}'
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))
                        continue
                    self.writes += 1
                    self._listener.shutdown(socket.SHUT_RDWR)  # so that it is not active any more
                    if self._hangs_up:
                        connection.close()
                    self._kept.append(connection)
                    return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for connection in self._kept:
            connection.close()
        self._listener.close()


@pytest.mark.parametrize("hangs_up", [True, False])
@pytest.mark.parametrize(
    ("command", "answer", "told"),
    [
        ("apply", {"result": "unchanged"}, "ip.kubeovn.io/x unchanged\n"),
        ("create", EXISTS, "ip.kubeovn.io/x created\n"),
        ("delete", MISSING, 'ip.kubeovn.io "x" deleted\n'),
    ],
)
def test_a_server_that_falls_silent_is_left_for_the_one_that_becomes_active(pair, run, command, answer, told, hangs_up):
    _, b = pair
    mute = Mute("m", hangs_up=hangs_up)
    b.on(f"GET {STATUS}", STANDBY, ACTIVE)
    b.on(f"POST {WRITE}", {"results": [answer]})
    b.on("POST /apis/ovnreserve.io/v1/bulk", {"results": [answer]})
    b.on(f"GET {IPS}/x", *([not_found("x")] if command == "delete" else [ip("x")]))
    try:
        code, out, err = run(command, "-f", "x.yaml", "--server", "m,b")
    finally:
        mute.close()
    assert (code, out) == (0, told)
    assert ("taken for ours" in err) == (command == "create")
    assert mute.writes == 1


def test_the_word_for_several_is_a_comma():
    from ovnreserve.cli.client import Client, connect

    assert type(connect("a", print)) is type(connect("a,", print)) is Client
    both = connect(" a, http://b:1 ", print, 5.0)
    assert isinstance(both, several.Several)
    assert (both.address, both.persistence) == ("a,http://b:1", 5.0)
