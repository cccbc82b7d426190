"""The commands against a server with canned answers, on a Unix socket as the daemon's is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import yaml

from ovnreserve import __version__
from ovnreserve.cli import flags
from ovnreserve.cli.client import Client, default_server, quote
from ovnreserve.cli.errors import CommandError, StatusError, UnreachableError
from ovnreserve.cli.main import main

ROOT = Path(__file__).parent.parent
IPS = "/apis/kubeovn.io/v1/ips"
SUBNETS = "/apis/kubeovn.io/v1/subnets"
BULK = "/apis/ovnreserve.io/v1/bulk"
WRITE = f"{BULK}?objects=false"
STATUS = "/apis/ovnreserve.io/v1/status"


def ip(name: str, uid: str = "u", **status: object) -> dict:
    return {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {"name": name, "uid": uid},
        "spec": {"subnet": "ovn-default", "v4IpAddress": "10.16.0.13", "macAddress": "02:00:00:00:00:01"},
        "status": status,
    }


def refusal(reason: str, code: int, message: str, **details: object) -> dict:
    return {"kind": "Status", "reason": reason, "code": code, "message": message, "details": details}


def not_found(name: str) -> tuple[int, dict]:
    return 404, refusal("NotFound", 404, f'ips.kubeovn.io "{name}" not found')


def manifest(*names: str) -> str:
    return "---\n".join(
        f"apiVersion: kubeovn.io/v1\nkind: IP\nmetadata:\n  name: {name}\nspec:\n  subnet: ovn-default\n"
        for name in names
    )


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers what it was told to; of several answers for one request each is given once, the last for ever."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.answers: dict[str, list[tuple[int, object]]] = {}
        self.asked: list[str] = []
        self.bodies: list[object] = []
        self.headers: dict[str, str] = {}
        self.connections = 0
        super().__init__(path, Handler)

    def on(self, request: str, *answers: tuple[int, object] | dict) -> None:
        self.answers[request] = [answer if isinstance(answer, tuple) else (200, answer) for answer in answers]

    def process_request(self, request, client_address) -> None:
        self.connections += 1
        super().process_request(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection; `server` says what to answer."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        asked = f"{self.command} {self.path}"
        self.server.asked.append(asked)
        if self.command in ("POST", "PATCH"):
            self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        answers = self.server.answers.get(asked, [not_found(self.path.rsplit("/", 1)[1])])
        code, answer = answers.pop(0) if len(answers) > 1 else answers[0]
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PATCH = do_GET  # noqa: N815 -- the names that http.server looks for


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a short path, whatever tmp_path is
    with Server("sock") as server:
        monkeypatch.setenv("OVNRESERVE_SERVER", "sock")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def run(capsys):
    def run(*argv: str) -> tuple[int, str, str]:
        code = main(list(argv))
        out, err = capsys.readouterr()
        return code, out, err

    return run


# Writing


def test_apply_sends_all_documents_of_all_files_as_one_request(server, run, tmp_path):
    (tmp_path / "a.yaml").write_text(manifest("a", "b"))
    c = {"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": {"name": "c"}, "spec": {"n": 1}}
    (tmp_path / "c.json").write_text(json.dumps(c))
    results = [
        {"result": "created", "object": ip("a"), "warnings": ["too close"]},
        {"result": "unchanged", "object": ip("b"), "warnings": ["too close"]},
        {"result": "configured", "object": ip("c")},
    ]
    server.on(f"POST {WRITE}", {"results": results})
    assert run("apply", "-f", "a.yaml", "--filename=c.json") == (
        0,
        "ip.kubeovn.io/a created\nip.kubeovn.io/b unchanged\nip.kubeovn.io/c configured\n",
        "Warning: too close\n",
    )
    assert server.bodies == [
        {
            "verb": "apply",
            "items": [
                {
                    "apiVersion": "kubeovn.io/v1",
                    "kind": "IP",
                    "metadata": {"name": name},
                    "spec": {"subnet": "ovn-default"},
                }
                for name in "ab"
            ]
            + [c],
        }
    ]


def test_a_bad_document_does_not_stop_the_others(server, run, tmp_path):
    (tmp_path / "a.yaml").write_text(manifest("a", "b", "c"))
    status = refusal("Conflict", 409, "10.16.0.13 is held by port x")
    results = [{"result": "created", "object": ip("a")}, {"result": "error", "status": status}]
    server.on(f"POST {WRITE}", {"results": [*results, {"result": "created", "object": ip("c")}]})
    assert run("apply", "-f", "a.yaml") == (
        1,
        "ip.kubeovn.io/a created\nip.kubeovn.io/c created\n",
        'Error from server (Conflict): error when creating "a.yaml": 10.16.0.13 is held by port x\n',
    )


def test_an_invalid_object_is_told_by_its_causes_where_it_is_alone(server, run, tmp_path):
    (tmp_path / "a.yaml").write_text(manifest("a", "b"))
    causes = [{"field": "spec.subnet", "message": "Required value"}, {"field": "spec.x", "message": "unknown field"}]
    status = refusal("Invalid", 422, 'IP.kubeovn.io "b" is invalid: […]', name="b", kind="IP", causes=causes)
    error = {"result": "error", "status": status}
    server.on(f"POST {WRITE}", {"results": [{"result": "created", "object": ip("a")}, error]})
    assert run("create", "-f", "a.yaml")[2] == (
        'The IP "b" is invalid: \n* spec.subnet: Required value\n* spec.x: unknown field\n'
    )
    server.on(f"POST {WRITE}", {"results": [error, error]})
    line = 'Error from server (Invalid): error when creating "a.yaml": IP.kubeovn.io "b" is invalid: […]\n'
    assert run("create", "-f", "a.yaml") == (1, "", line + line)


def test_output_and_complaints_keep_their_order_in_one_file(server, tmp_path):
    (tmp_path / "a.yaml").write_text(manifest("a", "b", "c"))
    error = {"result": "error", "status": refusal("Conflict", 409, "no")}
    results = [{"result": "created", "object": ip("a")}, error, {"result": "created", "object": ip("c")}]
    server.on(f"POST {WRITE}", {"results": results})
    done = ovnreserve("apply", "-f", "a.yaml", cwd=tmp_path, stderr=subprocess.STDOUT)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ip.kubeovn.io/a", "Error", "ip.kubeovn.io/c"]


def test_wait_sb_is_asked_of_the_server(server, run, tmp_path):
    (tmp_path / "a.yaml").write_text(manifest("a"))
    server.on(f"POST {WRITE}&wait=sb&timeout=90", {"results": [{"result": "created", "object": ip("a")}]})
    assert run("apply", "-f", "a.yaml", "--wait=sb", "--timeout", "1m30s")[0] == 0
    server.on(f"POST {WRITE}&wait=sb&timeout=30", {"results": [{"result": "created", "object": ip("a")}]})
    assert run("create", "-f", "a.yaml", "--wait", "sb")[0] == 0


def test_nothing_is_sent_when_a_file_cannot_be_parsed(server, run, tmp_path):
    (tmp_path / "a.yaml").write_text(manifest("a"))
    (tmp_path / "b.yaml").write_text("a: b\nc: [d\ne: f\n")
    code, out, err = run("apply", "-f", "a.yaml", "-f", "b.yaml")
    assert (code, out) == (1, "")
    assert err.startswith("error: b.yaml: line 3, column 2: ")
    assert server.asked == []


@pytest.mark.parametrize("command", ["apply", "create"])
def test_without_objects_nothing_is_sent(server, run, tmp_path, command):
    (tmp_path / "a.yaml").write_text("# nothing\n---\n")
    assert run(command, "-f", "a.yaml") == (1, "", f"error: no objects passed to {command}\n")
    assert run(command)[2] == f"error: must specify -f\nSee 'ovnreserve {command} --help' for usage.\n"
    assert run(command, "-f", "a.yaml", "x")[2].startswith("error: Unexpected args: [x]\n")
    assert server.asked == []


def test_a_refusal_of_the_whole_request(server, run, tmp_path):
    (tmp_path / "a.yaml").write_text(manifest("a"))
    server.on(f"POST {WRITE}", (503, refusal("ServiceUnavailable", 503, "the database is not connected")))
    assert run("apply", "-f", "a.yaml") == (
        1,
        "",
        "Error from server (ServiceUnavailable): the database is not connected\n",
    )


@pytest.mark.parametrize("answer", [{}, {"results": []}, {"results": {"a": 1}}])
def test_an_answer_that_does_not_fit_the_request_is_an_error(server, run, tmp_path, answer):
    (tmp_path / "a.yaml").write_text(manifest("a"))
    server.on(f"POST {WRITE}", answer)
    assert run("apply", "-f", "a.yaml") == (
        1,
        "",
        "ovnreserve: sock: this is no answer of ovnreserved: not one result for each of 1\n",
    )


# Deleting


def test_delete_says_so_and_waits_until_they_are_gone(server, run):
    results = [{"result": "deleted", "object": ip("a")}, {"result": "deleted", "object": ip("b", "u1")}]
    server.on(f"POST {BULK}", {"results": results})
    server.on(f"GET {IPS}/a", ip("a"), ip("a"), not_found("a"))
    server.on(f"GET {IPS}/b", ip("b", "u2"))  # a new one of that name
    assert run("delete", "ip", "a", "b") == (0, 'ip.kubeovn.io "a" deleted\nip.kubeovn.io "b" deleted\n', "")
    assert server.bodies[0] == {
        "verb": "delete",
        "items": [{"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": {"name": name}} for name in "ab"],
    }
    assert server.asked.count(f"GET {IPS}/a") == 3
    assert server.connections == 1


def test_delete_does_not_wait_when_told_so(server, run):
    server.on(f"POST {BULK}", {"results": [{"result": "deleted", "object": ip("a")}]})
    assert run("delete", "--wait=false", "ip/a")[0] == 0
    assert server.asked == [f"POST {BULK}"]


def test_delete_gives_up_in_time(server, run):
    server.on(f"POST {BULK}", {"results": [{"result": "deleted", "object": ip("a")}]})
    server.on(f"GET {IPS}/a", ip("a"))
    assert run("delete", "ip", "a", "--timeout=20ms") == (
        1,
        'ip.kubeovn.io "a" deleted\n',
        "error: timed out waiting for the condition on ips/a\n",
    )


def test_delete_of_many_asks_for_the_list_when_the_first_is_gone(server, run):
    names = [f"n{i}" for i in range(40)]
    server.on(f"POST {BULK}", {"results": [{"result": "deleted", "object": ip(name)} for name in names]})
    server.on(f"GET {IPS}/n0", ip("n0"), ip("n0"), not_found("n0"))
    server.on(f"GET {IPS}", {"items": [ip("n7"), ip("n8", "other")]})
    server.on(f"GET {IPS}/n7", ip("n7"), not_found("n7"))
    assert run("delete", "ip", *names)[0] == 0
    assert server.asked == [f"POST {BULK}", *[f"GET {IPS}/n0"] * 3, f"GET {IPS}", *[f"GET {IPS}/n7"] * 2]


@pytest.mark.parametrize(
    ("reserved", "listed"),
    [
        (["true"] * 40, f"{IPS}?labelSelector=ovn.kubernetes.io%2Fip_reserved%3Dtrue"),
        (["true", *["false"] * 39], IPS),
    ],
)
def test_delete_of_many_lists_no_more_than_may_be_among_them(server, run, reserved, listed):
    gone = [ip(f"n{i}") for i in range(40)]
    for each, value in zip(gone, reserved, strict=True):
        each["metadata"]["labels"] = {"ovn.kubernetes.io/ip_reserved": value}
    server.on(f"POST {BULK}", {"results": [{"result": "deleted", "object": each} for each in gone]})
    server.on(f"GET {IPS}/n0", not_found("n0"))
    server.on(f"GET {listed}", {"items": []})
    assert run("delete", "ip", *[f"n{i}" for i in range(40)])[0] == 0
    assert server.asked == [f"POST {BULK}", f"GET {IPS}/n0", f"GET {listed}"]


def test_delete_of_many_names_those_left_when_time_is_up(server, run):
    names = [f"n{i}" for i in range(40)]
    server.on(f"POST {BULK}", {"results": [{"result": "deleted", "object": ip(name)} for name in names]})
    server.on(f"GET {IPS}/n0", ip("n0"))
    server.on(f"GET {IPS}", {"items": [ip("n0"), ip("n9")]})
    assert run("delete", "ip", *names, "--timeout=5ms")[2].splitlines() == [
        "error: timed out waiting for the condition on ips/n0",
        "error: timed out waiting for the condition on ips/n9",
    ]


def test_delete_of_what_is_not_there(server, run):
    error = {"result": "error", "status": not_found("x")[1]}
    server.on(f"POST {BULK}", {"results": [error]})
    assert run("delete", "ip", "x") == (1, "", 'Error from server (NotFound): ips.kubeovn.io "x" not found\n')
    assert run("delete", "ip", "x", "--ignore-not-found") == (0, "", "")


def test_delete_of_a_file(server, run, tmp_path):
    (tmp_path / "a.yaml").write_text(manifest("a", "x"))
    error = {"result": "error", "status": not_found("x")[1]}
    server.on(f"POST {BULK}", {"results": [{"result": "deleted", "object": ip("a")}, error]})
    assert run("delete", "-f", "a.yaml") == (
        1,
        'ip.kubeovn.io "a" deleted\n',
        'Error from server (NotFound): error when deleting "a.yaml": ips.kubeovn.io "x" not found\n',
    )


@pytest.mark.usefixtures("server")
def test_delete_of_an_empty_file_finds_nothing(run, tmp_path):
    (tmp_path / "a.yaml").write_text("")
    assert run("delete", "-f", "a.yaml") == (0, "", "No resources found\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["ip"], "error: resource(s) were provided, but no name was specified\n"),
        ([], "error: You must provide one or more resources by argument or filename.\n"),
        (["-f", "a", "ip", "b"], "error: when paths, URLs, or stdin is provided as resource input, you may not"),
    ],
)
def test_delete_wants_to_know_what(server, run, argv, message):
    code, out, err = run("delete", *argv)
    assert (code, out) == (1, "")
    assert err.startswith(message)
    assert server.asked == []


# Reading


def test_get_shows_a_table(server, run):
    server.on(f"GET {IPS}", {"apiVersion": "kubeovn.io/v1", "kind": "IPList", "items": [ip("a"), ip("bbb")]})
    code, out, err = run("get", "ips")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "NAME   V4IP         V6IP     MAC                 NODE     SUBNET",
        "a      10.16.0.13   <none>   02:00:00:00:00:01   <none>   ovn-default",
        "bbb    10.16.0.13   <none>   02:00:00:00:00:01   <none>   ovn-default",
    ]
    assert run("get", "ip", "--no-headers")[1].startswith("a     10.16")
    assert run("get", "ip", "-o", "name")[1] == "ip.kubeovn.io/a\nip.kubeovn.io/bbb\n"
    server.on(f"GET {IPS}", {"items": [ip("a\nip.kubeovn.io/b")]})
    assert run("get", "ip", "-o", "name")[1] == "ip.kubeovn.io/a\\nip.kubeovn.io/b\n"


def test_get_by_label_quotes_the_selector(server, run):
    server.on(f"GET {IPS}?labelSelector=a%2Fb%3Dc%2Cd", {"items": []})
    assert run("get", "ip", "-l", "a/b=c,d") == (0, "", "No resources found\n")


def test_get_of_names_shows_what_is_there_and_names_what_is_not(server, run):
    server.on(f"GET {IPS}/a", ip("a"))
    server.on(f"GET {IPS}/x%20%2Fy", ip("x y"))
    code, out, err = run("get", "ip", "a", "zz")
    assert (code, len(out.splitlines())) == (1, 2)
    assert err == 'Error from server (NotFound): ips.kubeovn.io "zz" not found\n'
    assert run("get", "ip", "zz", "-o", "json") == (1, "", err)


def test_one_object_by_name_stands_alone_and_more_are_a_list(server, run):
    server.on(f"GET {IPS}/a", ip("a"))
    server.on(f"GET {IPS}", {"apiVersion": "kubeovn.io/v1", "items": [{"metadata": {"name": "b"}}]})
    assert json.loads(run("get", "ip/a", "-o", "json")[1]) == ip("a")
    assert json.loads(run("get", "ip", "a", "zz", "-o", "json")[1])["items"] == [ip("a")]
    assert json.loads(run("get", "ip", "-ojson")[1]) == {
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {"resourceVersion": ""},
        "items": [{"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": {"name": "b"}}],
    }
    assert run("get", "ip", "-o=yaml")[1] == (
        "apiVersion: v1\nitems:\n- apiVersion: kubeovn.io/v1\n  kind: IP\n  metadata:\n    name: b\n"
        'kind: List\nmetadata:\n  resourceVersion: ""\n'
    )


def test_an_empty_list_is_a_list_all_the_same(server, run):
    server.on(f"GET {SUBNETS}", {"items": []})
    assert json.loads(run("get", "subnets", "-o", "json")[1])["items"] == []
    assert run("get", "subnets", "-o", "name") == (0, "", "")


def test_several_kinds_are_tables_of_full_names(server, run):
    server.on(f"GET {IPS}", {"apiVersion": "kubeovn.io/v1", "items": [ip("a")]})
    server.on(f"GET {SUBNETS}", {"apiVersion": "kubeovn.io/v1", "items": [{"metadata": {"name": "s"}}]})
    out = run("get", "ip,subnet")[1]
    assert [block.split("\n")[1].split()[0] for block in out.split("\n\n")] == [
        "ip.kubeovn.io/a",
        "subnet.kubeovn.io/s",
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "error: Required resource not specified.\nSee 'ovnreserve get --help' for usage.\n"),
        (["pods"], 'error: the server doesn\'t have a resource type "pods"\n'),
        (["ip", "-o", "x"], 'error: unable to match a printer suitable for the output format "x", allowed formats'),
        (["ip", "a", "-l", "x"], "error: name cannot be provided when a selector is specified\n"),
    ],
)
@pytest.mark.usefixtures("server")
def test_get_wants_to_know_what(run, argv, message):
    code, out, err = run("get", *argv)
    assert (code, out) == (1, "")
    assert err.startswith(message)


EVENTS = "/api/v1/events"


@pytest.mark.parametrize("word", ["events", "event", "ev"])
def test_get_events_shows_those_of_all(server, run, word):
    told = {"reason": "Reserved", "type": "Normal", "involvedObject": {"kind": "IP", "name": "a"}, "message": "why"}
    server.on(f"GET {EVENTS}", {"apiVersion": "v1", "items": [told]})
    code, out, err = run("get", word, "--no-headers")
    assert (code, out.split(), err) == (0, ["<unknown>", "Normal", "Reserved", "ip/a", "why"], "")


def test_get_events_of_one_object_asks_for_these_only(server, run):
    fields = quote("involvedObject.kind=IP,involvedObject.name=a")
    server.on(f"GET {EVENTS}?fieldSelector={fields}", {"apiVersion": "v1", "items": []})
    assert run("get", "events", "--for=ip/a") == (0, "", "No resources found\n")
    assert server.asked == [f"GET {EVENTS}?fieldSelector={fields}"]


def test_get_events_prints_names(server, run):
    server.on(f"GET {EVENTS}", {"apiVersion": "v1", "items": [{"metadata": {"name": "a.1"}}]})
    assert run("get", "ev", "-o", "name") == (0, "event/a.1\n", "")


@pytest.mark.parametrize("argv", [["get", "event", "a.1"], ["get", "event/a.1"], ["describe", "events"]])
def test_events_are_only_listed(server, run, argv):
    assert run(*argv) == (
        1, "", "error: events are shown by 'ovnreserve get events', of one object with --for=ip/NAME\n",
    )  # fmt: skip
    assert server.asked == []


def test_for_is_for_events(server, run):
    assert run("get", "ip", "--for=ip/a") == (1, "", "error: --for is for events only\n")
    assert server.asked == []


HISTORY = "/apis/ovnreserve.io/v1/history"


def test_history_of_a_name_that_never_was_is_not_found(server, run):
    message = 'the journal knows no "a.default"'
    server.on(f"GET {HISTORY}?name=a.default", (404, refusal("NotFound", 404, message)))
    assert run("history", "a.default") == (1, "", f"Error from server (NotFound): {message}\n")


def test_history_when_nobody_held_it_says_so_and_is_no_error(server, run):
    server.on(f"GET {HISTORY}?address=10.0.0.9&at=1795766400.0", {"tenures": [], "events": []})
    assert run("history", "10.0.0.9", "--at", "2026-11-27 08:00") == (0, "", "No resources found\n")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_history_prints_the_answer_as_it_is(server, run, form):
    answer = {"apiVersion": "ovnreserve.io/v1", "events": [], "kind": "History", "tenures": []}
    server.on(f"GET {HISTORY}?mac=026f76123456", answer)
    code, out, err = run("history", "026f76123456", "-o", form)
    assert (code, yaml.safe_load(out), err) == (0, answer, "")


def test_describe_shows_the_events_about_the_object(server, run):
    server.on(f"GET {IPS}/a", ip("a", phase="Reserved"))
    events = [{"reason": kind, "involvedObject": {"kind": kind, "name": "a"}} for kind in ("IP", "Subnet")]
    server.on("GET /api/v1/events?fieldSelector=involvedObject.kind%3DIP%2CinvolvedObject.name%3Da", {"items": events})
    code, out, err = run("describe", "ip", "a")
    assert (code, err) == (0, "")
    assert out.startswith("Name:         a\n")
    assert "  Phase:  Reserved\n" in out
    assert "<none>  IP " in out
    assert "<none>  Subnet " not in out


def test_describe_of_nothing(server, run):
    server.on(f"GET {SUBNETS}", {"items": []})
    assert run("describe", "subnets") == (0, "", "No resources found\n")
    assert run("describe", "ip", "x") == (1, "", 'Error from server (NotFound): ips.kubeovn.io "x" not found\n')


# Waiting


def condition(kind: str, status: str) -> dict:
    return ip("a", conditions=[{"type": "Reserved", "status": "True"}, {"type": kind, "status": status}])


def test_wait_for_a_condition(server, run):
    server.on(f"GET {IPS}/a", ip("a"), condition("Bound", "False"), condition("Bound", "True"))
    assert run("wait", "--for=condition=bound", "ip/a") == (0, "ip.kubeovn.io/a condition met\n", "")
    assert len(server.asked) == 3
    assert server.connections == 1
    server.on(f"GET {IPS}/a", condition("Bound", "Unknown"), condition("Bound", "False"))
    assert run("wait", "ip", "a", "--for", "condition=Bound=false", "--timeout=-1s")[0] == 0


def test_wait_gives_up_in_time(server, run):
    server.on(f"GET {IPS}/a", condition("Bound", "False"))
    assert run("wait", "--for=condition=Bound", "ip/a", "--timeout=20ms") == (
        1,
        "",
        "error: timed out waiting for the condition on ips/a\n",
    )


def test_wait_with_timeout_0_asks_once(server, run):
    server.on(f"GET {IPS}/a", condition("Bound", "False"))
    argv = ("wait", "--for=condition=Bound", "ip/a", "--timeout=0")
    assert run(*argv) == (1, "", "error: condition not met for ips/a\n")
    assert len(server.asked) == 1
    server.on(f"GET {IPS}/a", condition("Bound", "True"))
    assert run(*argv)[0] == 0


@pytest.mark.usefixtures("server")
def test_wait_for_what_is_not_there(run):
    assert run("wait", "--for=condition=Bound", "ip/x") == (
        1,
        "",
        'Error from server (NotFound): ips.kubeovn.io "x" not found\n',
    )
    assert run("wait", "--for=delete", "ip/x") == (0, "", "")  # as kubectl 1.32


def test_wait_until_deleted(server, run):
    server.on(f"GET {IPS}/a", ip("a"), ip("a"), not_found("a"))
    assert run("wait", "--for=delete", "ip/a") == (0, "ip.kubeovn.io/a condition met\n", "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["ip/a"], 'error: unrecognized condition: ""\n'),
        (["ip/a", "--for=condition"], 'error: unrecognized condition: "condition"\n'),
        (["ip/a", "--for=condition="], 'error: unrecognized condition: "condition="\n'),
        (["ip/a", "--for=phase=x"], 'error: unrecognized condition: "phase=x"\n'),
        (["ip", "--for=delete"], "error: resource(s) were provided, but no name was specified\n"),
        (["--for=delete"], "error: You must provide one or more resources by argument.\n"),
        (["ip/a", "--timeout=x"], 'error: invalid argument "x" for "--timeout" flag: time: invalid duration "x"\n'),
    ],
)
def test_wait_wants_to_know_what(server, run, argv, message):
    code, out, err = run("wait", *argv)
    assert (code, out) == (1, "")
    assert err.startswith(message)
    assert server.asked == []


# The daemon


def test_status(server, run):
    server.on(f"GET {STATUS}", {"version": "0.1.0", "state": "standby", "database": {"connected": False}})
    code, out, err = run("status")
    assert (code, err) == (0, "")
    assert out.startswith("Status: standby\nVersion: 0.1.0\n")
    assert json.loads(run("status", "-o", "json")[1])["state"] == "standby"
    assert run("status", "-o", "yaml")[0] == 1
    assert run("status", "x")[0] == 1


def test_versions(server, run):
    server.on(f"GET {STATUS}", {"version": "9.9"})
    assert run("version") == (0, f"Client Version: {__version__}\nServer Version: 9.9\n", "")
    assert run("--version") == (0, f"ovnreserve {__version__}\n", "")


def test_without_daemon_the_message_names_the_socket(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("--server", "none", "status")
    assert (code, out) == (1, "")
    assert err.startswith("ovnreserve: none: connection failed (No such file or directory)\nIs ovnreserved running?")
    code, out, err = run("version", "--server=none")
    assert (code, out) == (1, f"Client Version: {__version__}\n")
    assert run("--server", "x" * 200, "status")[2].startswith("ovnreserve: xxx")
    assert run("--server", "a\0b", "status")[2].startswith("ovnreserve: a\\x00b: connection failed")


def test_a_socket_of_others_says_so(run, tmp_path, monkeypatch):
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", denied)
    err = run("--server", str(tmp_path / "s"), "status")[2]
    assert "connection failed (Permission denied)\nThe socket is open to its owner only" in err


@pytest.mark.parametrize("url", ["https://x", "ftp://x", "http://", "http://x:y", "http://:80"])
def test_a_server_that_cannot_be_is_refused(run, url):
    code, out, err = run("--server", url, "status")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {url}: not ")


def test_where_the_server_is(monkeypatch):
    for name in ("OVNRESERVE_SERVER", "OVN_RUNDIR"):
        monkeypatch.delenv(name, raising=False)
    assert default_server() == "/run/ovn/ovnreserved.sock"
    monkeypatch.setenv("OVN_RUNDIR", "/x")
    assert default_server() == "/x/ovnreserved.sock"
    monkeypatch.setenv("OVNRESERVE_SERVER", "http://y")
    assert default_server() == "http://y"


# The flags


@pytest.mark.parametrize("argv", [["--help"], ["-h"], [], ["help"], ["help", "nothing"]])
def test_the_usage(run, argv):
    code, out, err = run(*argv)
    assert (code, err) == (0, "")
    assert all(f"\n  {name} " in out for name in flags.COMMANDS)


@pytest.mark.parametrize("command", flags.COMMANDS)
def test_the_usage_of_each_command_names_all_its_flags(run, command):
    out = run("help", command)[1]
    assert f"\nUsage:\n  ovnreserve {command}" in out
    assert all(f"--{name}" in out for name in flags.COMMANDS[command].flags | flags.GLOBAL)
    assert command == "sandbox" or run(command, "--help")[1] == out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["foo"], 'unknown command "foo" for "ovnreserve"\nSee \'ovnreserve --help\''),
        (["--foo"], "unknown flag: --foo\nSee 'ovnreserve --help'"),
        (["get", "--foo=1"], "unknown flag: --foo\nSee 'ovnreserve get --help'"),
        (["get", "-z"], "unknown shorthand flag: 'z' in -z\n"),
        (["get", "-o"], "flag needs an argument: 'o' in -o\n"),
        (["get", "--output"], "flag needs an argument: --output\n"),
        (["delete", "--wait=x"], 'invalid argument "x" for "--wait" flag: strconv.ParseBool: parsing "x": invalid'),
        (["apply", "--wait=nb"], 'invalid argument "nb" for "--wait" flag: must be none or sb\n'),
        (["get", "-h=x"], 'invalid argument "x" for "-h, --help" flag: strconv'),
        (["apply", "--no-headers"], "unknown flag: --no-headers\n"),
    ],
)
def test_usage_errors(run, argv, message):
    code, out, err = run(*argv)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {message}")


def test_how_flags_are_written():
    options = flags.parse(["--server=s", "delete", "ip", "--wait", "a", "-fx", "-f", "y", "-f=z", "-", "--", "-q"])
    assert options.arguments == ["ip", "a", "-", "-q"]
    assert options.filenames == ["x", "y", "z"]
    assert (options.server, options.wait) == ("s", True)
    assert flags.parse(["delete", "--wait=F", "-f-"]).filenames == ["-"]
    assert flags.parse(["get", "-owide", "--server", "t"]).output == "wide"


def test_what_follows_sandbox_is_its_own(run, monkeypatch):
    from ovnreserve import sandbox

    seen: list[list[str]] = []
    monkeypatch.setattr(sandbox, "main", lambda argv: seen.append(argv) or 7)
    assert run("sandbox", "-h", "--", "sh", "-c", "x")[0] == 7
    assert seen == [["-h", "--", "sh", "-c", "x"]]


# The client


@contextlib.contextmanager
def scripted(*answers: bytes):
    """A server that answers request after request with these bytes; an empty one closes the connection."""
    ours, path = socket.socket(socket.AF_UNIX), "raw"
    Path(path).unlink(missing_ok=True)
    ours.bind(path)
    ours.listen()

    def serve() -> None:
        connection = None
        for answer in answers:
            if connection is None:
                connection, _ = ours.accept()
            while b"\r\n\r\n" not in connection.recv(65536):
                pass
            connection.sendall(answer)
            if not answer or b"close" in answer or b"Length: 99" in answer:
                connection.close()
                connection = None
        if connection is not None:
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield path
    finally:
        thread.join()
        ours.close()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}',
        b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nCONTENT-LENGTH:8\r\n\r\n{"a": 1}',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n{"a\r\n5\r\n": 1}\r\n0\r\nX: y\r\n\r\n',
        b'HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n{"a": 1}',
    ],
)
@pytest.mark.usefixtures("here")
def test_bodies_of_every_kind(answer):
    with scripted(answer) as path:
        assert Client(path, print).get("/") == {"a": 1}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "this is no answer of ovnreserved: it does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\noops", "it is not JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "it is not a JSON object"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\noops", "a length of '-4'"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "a length of 'xyz'"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "a chunk longer than its size"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "closed by the server); the outcome is unknown"),
        (b"x" * 70000, "a header without end"),
        (b"", "the connection broke off"),
    ],
)
@pytest.mark.usefixtures("here")
def test_answers_that_are_none(answer, message):
    with scripted(answer) as path, pytest.raises(UnreachableError) as caught:
        Client(path, print).get("/")
    assert message in str(caught.value)


@pytest.mark.usefixtures("here")
def test_a_get_is_asked_again_when_the_idle_connection_was_closed():
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with scripted(good, b"", good) as path:
        client = Client(path, print)
        assert [client.get("/"), client.get("/")] == [{}, {}]
    with scripted(good, b"") as path:
        client = Client(path, print)
        client.get("/")
        with pytest.raises(UnreachableError, match="outcome is unknown"):
            client.post("/", {})


@pytest.mark.usefixtures("here")
def test_a_server_that_says_nothing_is_given_up():
    ours = socket.socket(socket.AF_UNIX)
    ours.bind("raw")
    ours.listen()
    client = Client("unix:raw", print)
    client.patience = 0.05
    with pytest.raises(UnreachableError, match=r"no answer within 0\.05 s; the outcome is unknown"):
        client.get("/")
    ours.close()


@pytest.mark.usefixtures("here")
def test_warnings_of_the_server_are_passed_on():
    warnings: list[str] = []
    answer = b'HTTP/1.1 200 OK\r\nWarning: 299 - "a \\"b\\""\r\nwarning: bare\r\nContent-Length: 2\r\n\r\n{}'
    with scripted(answer) as path:
        Client(f"unix://{path}", warnings.append).get("/")
    assert warnings == ['a "b"', "bare"]


@pytest.mark.usefixtures("here")
def test_an_error_that_is_no_status_is_shown_as_it_is():
    with scripted(b"HTTP/1.1 502 Bad\r\nContent-Length: 5\r\n\r\noops\n") as path, pytest.raises(StatusError) as caught:
        Client(path, print).get("/")
    assert str(caught.value) == "Error from server: HTTP 502: oops"


def test_an_http_url_works_too(run):
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                requests.append(connection.recv(65536))
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"state": "far"}')

        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        code, out, _ = run(f"--server=http://127.0.0.1:{port}/prefix/", "status")
        thread.join()
    assert code == 0
    assert out.startswith("Status: far\n")
    assert requests[0].startswith(f"GET /prefix{STATUS} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode())


@pytest.mark.usefixtures("here")
def test_why_a_server_hung_up_on_a_long_request_is_still_read():
    status = json.dumps(refusal("BadRequest", 400, "too long")).encode()
    answer = b"HTTP/1.1 413 Long\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(status), status)
    with scripted(answer) as path, pytest.raises(StatusError, match=r"\(BadRequest\): too long"):
        Client(path, print).post("/", "x" * 10_000_000)


def test_names_are_quoted():
    assert quote("vm-1.default_~") == "vm-1.default_~"
    assert quote("a/b c?ü\udcff") == "a%2Fb%20c%3F%C3%BC%FF"


def test_an_internal_error_is_no_traceback(server, run, monkeypatch):
    server.on(f"GET {IPS}", {"items": [1]})
    code, out, err = run("get", "ip")
    assert (code, out) == (1, "")
    assert err.startswith("error: internal error (TypeError: ")
    assert err.count("\n") == 1
    monkeypatch.setenv("OVNRESERVE_DEBUG", "1")
    with pytest.raises(TypeError):
        main(["get", "ip"])


def test_a_command_error_is_an_exception_of_one_tree():
    assert issubclass(UnreachableError, CommandError)
    assert issubclass(StatusError, CommandError)


# The process


def ovnreserve(*argv: str, **options) -> subprocess.CompletedProcess:
    defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 30}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "ovnreserve.cli.main", *argv], check=False, env=environment, **(defaults | options)
    )


def test_a_reader_that_goes_away_is_no_error_message(server, tmp_path):
    server.on(f"GET {IPS}", {"items": [ip(f"n{i}") for i in range(5000)]})
    reading, writing = os.pipe()
    os.close(reading)
    done = ovnreserve("get", "ips", stdout=writing, cwd=tmp_path)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_is_an_error_message(server, tmp_path):
    server.on(f"GET {IPS}", {"items": [ip("a")]})
    with Path("/dev/full").open("w") as full:
        done = ovnreserve("get", "ips", stdout=full, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "error: writing the output: No space left on device\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_traceback(server, tmp_path, closed):
    server.on(f"GET {STATUS}", {"state": "active"})
    for argv, code in (("status", 0), ("apply -f -", 1), ("get nothing", 1)):
        command = f"exec {sys.executable} -m ovnreserve.cli.main {argv} {closed}"
        done = subprocess.run(
            ["sh", "-c", command],
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == code
        assert "Traceback" not in done.stdout + done.stderr


def test_ctrl_c_ends_a_wait_quietly(server, tmp_path):
    server.on(f"GET {IPS}/a", ip("a"))
    waiting = subprocess.Popen(
        [sys.executable, "-m", "ovnreserve.cli.main", "wait", "--for=delete", "ip/a"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not server.asked and waiting.poll() is None:
        threading.Event().wait(0.005)
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate(timeout=30) == (b"", b"")
    assert waiting.returncode == 130


def test_a_terminal_of_another_encoding_gets_escapes(server, tmp_path):
    server.on(f"GET {IPS}", {"items": [ip("é☃")]})
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "ovnreserve.cli.main", "get", "ips", "-o", "name"]
    done = subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True, timeout=30)
    assert done.stdout == "ip/é\\u2603\n".encode("latin-1") or done.stdout.endswith(b"/\xe9\\u2603\n")


def test_status_imports_almost_nothing(server, tmp_path):
    server.on(f"GET {STATUS}", {"state": "active"})
    code = """if True:
        import sys
        before = set(sys.modules)  # an editable installation imports a lot by itself
        from ovnreserve.cli.main import main
        main(["status"])
        print(*set(sys.modules) - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    imported = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    costly = {"argparse", "asyncio", "contextlib", "dataclasses", "datetime", "email", "http", "logging", "pathlib"}
    assert imported & (costly | {"ssl", "tempfile", "typing", "urllib", "yaml"}) == set()
