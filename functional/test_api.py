"""The HTTP API as any client meets it: patches, options, bounds, and too many of something."""

from __future__ import annotations

import json
import resource
import socket
import sys
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

import pytest
from support import wait_until

from ovnreserve.sandbox import Daemon, Servers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sites import Site

IPS = "/apis/kubeovn.io/v1/ips"
SUBNETS = "/apis/kubeovn.io/v1/subnets"
BULK = "/apis/ovnreserve.io/v1/bulk"
MERGE = "application/merge-patch+json"
JSON = "application/json"


def ask(
    daemon: Daemon, method: str, path: str, content: Any = None, media: str | None = None
) -> tuple[int, dict[str, Any]]:
    """One request on a connection of its own: code and decoded body."""
    connection = HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    try:
        connection.sock.connect(daemon.client_environment["OVNRESERVE_SERVER"])
        text = content if isinstance(content, bytes) or content is None else json.dumps(content).encode()
        media = media or (MERGE if method == "PATCH" else JSON)
        connection.request(method, path, text, {"Content-Type": media, "Host": "localhost"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.fixture
def api(site: Site) -> Callable[..., tuple[int, dict[str, Any]]]:
    """`api(method, path, content=None) -> (code, body)`, on the daemon of `site`."""

    def call(*arguments: Any) -> tuple[int, dict[str, Any]]:
        return ask(site.daemon, *arguments)

    return call


def fields(status: dict[str, Any]) -> list[str]:
    return [cause["field"] for cause in status["details"]["causes"]]


def document(switch: str, **spec: Any) -> dict[str, Any]:
    spec = {"subnet": switch, "podName": "web-0", "namespace": "default", **spec}
    return {"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": {"name": "web-0.default"}, "spec": spec}


# ---- patches ---------------------------------------------------------------------------------------------------------


def test_a_patch_that_says_the_same_of_any_field_changes_nothing(site: Site, api: Any) -> None:
    ip = site.reserve(site.switch(ipv6_prefix="fd00:16::"), attachIps=["10.1.0.1"], nodeName="node-1").ip
    path = f"{IPS}/{ip['metadata']['name']}"
    for field, value in ip["spec"].items():
        assert api("PATCH", path, {"spec": {field: value}}) == (200, ip), field
    assert api("PATCH", path, {"spec": ip["spec"], "status": {"phase": "Bound"}}) == (200, ip)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("v4IpAddress", "10.16.0.99"),
        ("v6IpAddress", "fd00:16::99"),
        ("macAddress", "0a:00:00:00:00:99"),
        ("podType", "StatefulSet"),
        ("podName", "other"),
        ("attachIps", ["10.1.0.1"]),
        ("nodeName", "node-2"),
    ],
)
def test_a_patch_that_says_something_else_names_that_field_only(site: Site, api: Any, field: str, value: Any) -> None:
    answer = site.reserve(site.switch(ipv6_prefix="fd00:16::"))
    code, status = api("PATCH", f"{IPS}/{answer.name}", {"spec": {field: value}})
    assert (code, fields(status)) == (422, [f"spec.{field}"])
    assert status["message"].endswith("field is immutable")


def test_a_patch_of_spec_and_labels_is_one(site: Site, api: Any) -> None:
    answer = site.reserve(site.switch())
    path = f"{IPS}/{answer.name}"
    patch = {"metadata": {"labels": {"app": "web"}}, "spec": {"v4IpAddress": "10.16.0.99"}}
    assert api("PATCH", path, patch)[0] == 422
    assert "app" not in api("GET", path)[1]["metadata"]["labels"]
    patch["spec"] = {"v4IpAddress": answer.v4}
    assert api("PATCH", path, patch)[1]["metadata"]["labels"]["app"] == "web"


def test_a_patch_never_creates(site: Site, api: Any) -> None:
    switch = site.switch()
    with site.nothing_written():
        code, _ = api("PATCH", f"{IPS}/web-0.default", {"spec": document(switch)["spec"]})
        assert code == 404


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ({"kind": "Pod"}, 400),
        ({"apiVersion": "v1"}, 400),
        ([], 400),
        ({"sepc": {}}, 422),
        ({"metadata": {"lables": {}}}, 422),
        ({"spec": []}, 422),
        ({"spec": {"colour": "red"}}, 422),
        ({"metadata": {"resourceVersion": 5}}, 422),
        ({"metadata": {"resourceVersion": "1"}}, 409),
    ],
)
def test_a_patch_that_makes_no_sense_is_refused(site: Site, api: Any, patch: Any, code: int) -> None:
    answer = site.reserve(site.switch())
    with site.nothing_written():
        assert api("PATCH", f"{IPS}/{answer.name}", patch)[0] == code


# ---- what is not supported yet is refused ----------------------------------------------------------------------------


def test_a_dry_run_is_refused_and_changes_nothing(site: Site, api: Any) -> None:
    answer, wanted = site.reserve(site.switch()), document(site.switch("10.17.0.0/24"))
    path = f"{IPS}/{answer.name}"
    with site.nothing_written():
        for request in (
            ("POST", f"{IPS}?dryRun=All", wanted),
            ("POST", f"{BULK}?dryRun=All", {"verb": "apply", "items": [wanted]}),
            ("PATCH", f"{path}?dryRun=All", {"metadata": {"labels": {"a": "b"}}}),
            ("DELETE", f"{path}?dryRun=All"),
            ("DELETE", path, {"kind": "DeleteOptions", "dryRun": ["All"]}),
            ("DELETE", path, {"preconditions": {"uid": "another"}}),
            ("DELETE", path, []),
        ):
            code, status = api(*request)
            assert (code, status["reason"]) == (400, "BadRequest"), request


def test_a_delete_takes_the_options_of_kubectl_and_answers_with_what_is_going(site: Site, api: Any) -> None:
    answer = site.reserve(site.switch())
    code, ip = api("DELETE", f"{IPS}/{answer.name}", {"kind": "DeleteOptions", "propagationPolicy": "Background"})
    assert (code, ip["kind"], ip["metadata"]["uid"]) == (200, "IP", answer.ip["metadata"]["uid"])
    assert ip["metadata"]["deletionTimestamp"]


def test_a_list_can_be_of_one_name(site: Site, api: Any) -> None:
    switch = site.switch()
    one, two = site.reserve(switch), site.reserve(switch)
    for selector, expected in ((f"metadata.name={one.name}", {one.name}), (f"metadata.name!={one.name}", {two.name})):
        items = api("GET", f"{IPS}?fieldSelector={selector}")[1]["items"]
        assert {item["metadata"]["name"] for item in items} == expected
    [found] = api("GET", f"{SUBNETS}?fieldSelector=metadata.name={switch}")[1]["items"]
    assert found["metadata"]["name"] == switch
    for path in (f"{IPS}?fieldSelector=spec.subnet=a", f"{IPS}?watch=true", f"{SUBNETS}?fieldSelector=x"):
        code, status = api("GET", path)
        assert (code, status["reason"]) == (400, "BadRequest"), path


def test_events_are_selected_by_what_kubectl_describe_asks(site: Site, api: Any) -> None:
    answer = site.reserve(site.switch())
    uid = answer.ip["metadata"]["uid"]
    events = "/api/v1/events?fieldSelector=involvedObject.kind=IP,involvedObject.namespace="
    mine = f"{events},involvedObject.name={answer.name},involvedObject.uid={uid}"
    wait_until(lambda: api("GET", mine)[1]["items"], what="the event is in the journal")
    assert api("GET", f"{events},involvedObject.name={answer.name},involvedObject.uid=other")[1]["items"] == []


# ---- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nodeName", "n" * 254),
        ("nodeName", "a node"),
        ("containerID", "c" * 254),
        ("attachIps", ["a"] * 65),
        ("attachMacs", ["a" * 254]),
        ("attachSubnets", [None]),
        ("attachSubnets", {}),
    ],
)
def test_what_is_too_much_for_a_field_is_refused(site: Site, api: Any, field: str, value: Any) -> None:
    code, status = api("POST", IPS, document(site.switch(), **{field: value}))
    assert (code, fields(status)) == (422, [f"spec.{field}"])


@pytest.mark.parametrize("content", [None, [], {"kind": None}, {"kind": []}, document("x", subnet=[])])
def test_messages_are_in_the_words_of_json(api: Any, content: Any) -> None:
    message = api("POST", IPS, content if content is not None else b"null")[1]["message"]
    assert not any(word in message for word in ("NoneType", "[]", "()", "dict", "not list", "kind list")), message


def test_a_body_that_is_too_large_is_413(api: Any) -> None:
    code, status = api("POST", IPS, b" " * (64 * 1024 * 1024 + 1))
    assert (code, status["reason"]) == (413, "RequestEntityTooLarge")


def test_a_bulk_with_more_than_is_ever_taken_says_how_many_are(api: Any) -> None:
    code, status = api("POST", BULK, {"verb": "delete", "items": [{}] * 50_001})
    assert (code, status["reason"]) == (413, "RequestEntityTooLarge")
    assert "at most 50000 items" in status["message"]


# ---- names, the journal ----------------------------------------------------------------------------------------------


def test_two_switches_of_one_name_are_both_listed_and_neither_is_the_one(site: Site, api: Any) -> None:
    site.switch(name="twin")
    other = 'other_config:subnet="10.17.0.0/24"'
    site.nb("--id=@new", "create", "logical_switch", "name=twin", other)
    listed = [item for item in api("GET", SUBNETS)[1]["items"] if item["metadata"]["name"] == "twin"]
    assert len(listed) == 2
    code, status = api("GET", f"{SUBNETS}/twin")
    assert (code, status["reason"]) == (409, "Conflict")
    assert "ambiguous" in status["message"]
    assert all(item["metadata"]["uid"] in status["message"] for item in listed)


def test_a_journal_that_cannot_be_read_is_503_without_a_traceback(daemon: Daemon) -> None:
    ledger = daemon.state_dir / "ledger.db"
    ledger.rename(ledger.with_name("elsewhere"))
    code, status = ask(daemon, "GET", "/api/v1/events")
    assert (code, status["reason"]) == (503, "ServiceUnavailable")
    assert "cannot be read" in status["message"]
    assert "Traceback" not in daemon.log.read_text()


# ---- too many clients ------------------------------------------------------------------------------------------------

LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 256))
sys.argv = sys.argv[1:]
runpy.run_module("ovnreserve.daemon", run_name="__main__", alter_sys=True)
"""


class LimitedDaemon(Daemon):
    """A daemon that may have 256 file descriptors, and began with half of them."""

    def __init__(self, servers: Servers, state: Path) -> None:
        super().__init__(servers, state)
        self.command = (sys.executable, "-c", LIMITED, "ovnreserved", *self.command[3:])


def test_idle_clients_beyond_the_limit_are_turned_away_without_a_flood(servers: Servers, tmp_path: Path) -> None:
    with LimitedDaemon(servers, tmp_path / "state") as daemon:
        assert resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE) == (256, 256)
        path = daemon.client_environment["OVNRESERVE_SERVER"]
        with ExitStack() as opened:
            clients = [opened.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(400)]
            for client in clients:
                client.settimeout(20)
                client.connect(path)
            assert clients[-1].recv(65536).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            code, status = ask_busy(daemon)
            assert (code, status["reason"]) == (503, "ServiceUnavailable")
        wait_until(lambda: ask_busy(daemon)[0] == 200, what="it answers when they have gone")
        log = daemon.log.read_text()
        assert "connection_refused" in log
        assert len(log.splitlines()) < 50, log


def ask_busy(daemon: Daemon) -> tuple[int, dict[str, Any]]:
    """A request to a daemon that may hang up on whoever is still asking."""
    try:
        return ask(daemon, "GET", "/version")
    except (OSError, HTTPException):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(daemon.client_environment["OVNRESERVE_SERVER"])
            answer = client.recv(65536)
            return (503, json.loads(answer.partition(b"\r\n\r\n")[2]))
