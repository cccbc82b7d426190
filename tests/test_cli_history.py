"""`history` and `get events` on the command line: what is asked for, and how the answer looks."""

from __future__ import annotations

import contextlib
import re
import time
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cli_commands import run, server

from ovnreserve.cli import events, flags, history, moments, render
from ovnreserve.cli.errors import CommandError, UsageError

__all__ = ["run", "server"]

HISTORY = "/apis/ovnreserve.io/v1/history"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("vm-1.default", "name"),
        ("vm-1.default.provider", "name"),
        ("statefulset/prod/db", "name"),
        ("subnet/net", "name"),
        ("10.16.0.13", "address"),
        ("fd00::D", "address"),
        ("::ffff:10.0.0.1", "address"),
        ("02:6f:76:12:34:56", "mac"),
        ("02-6F-76-12-34-56", "mac"),
        ("2:6f:76:12:34:6", "mac"),
        ("026f.7612.3456", "mac"),
        ("026f76123456", "mac"),
    ],
)
def test_whether_a_name_an_address_or_a_mac_is_meant(text: str, key: str) -> None:
    assert history.subject(text) == (key, text)


@pytest.mark.parametrize("name", ["026f.7612.3456", "10.0.0.1", "vm-1.default"])
def test_a_name_that_looks_like_something_else_is_said_to_be_one(name: str) -> None:
    assert history.subject(f"ip/{name}") == ("name", name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("sts/web", "statefulset/default/web"),
        ("StatefulSets/prod/web", "statefulset/prod/web"),
        ("ippools.kubeovn.io/db", "ippool/db"),
        ("subnet/a/b", "subnet/a/b"),
        ("port/with/slashes", "port/with/slashes"),
        ("ippool/", "ippool/"),
    ],
)
def test_other_kinds_are_asked_for_as_the_journal_names_them(text: str, name: str) -> None:
    assert history.subject(text) == ("name", name)


def test_what_is_no_ip_has_events_instead_of_tenures(server, run):
    server.on(f"GET {HISTORY}?name=statefulset%2Fprod%2Fweb", {"tenures": [], "events": [{}]})
    assert run("history", "sts/prod/web") == (
        0, "", "No resources found: only IPs are held; see 'ovnreserve get events --for=statefulset/prod/web'\n",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["", "ip/"])
def test_an_empty_name_is_refused_before_anybody_is_asked(run, name):
    assert run("history", name) == (1, "", "error: resource name may not be empty\n")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-27T08:00:00Z", 1795766400.0),
        ("2026-11-27T08:00:00.25Z", 1795766400.25),
        ("2026-11-27T10:00:00+02:00", 1795766400.0),
        ("2026-11-27 08:00", 1795766400.0),
        ("2026-11-27T08:00:00", 1795766400.0),
        ("2026-11-27", 1795737600.0),
    ],
)
def test_a_time_is_utc_unless_it_says_otherwise(text: str, seconds: float) -> None:
    assert moments.parse(text) == seconds


@pytest.mark.parametrize(
    ("text", "ago"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("3d", 259200), ("1d2h", 93600)]
)
def test_a_duration_is_that_long_ago(text: str, ago: float) -> None:
    assert abs(time.time() - ago - moments.parse(text)) < 5


@pytest.mark.parametrize("text", ["1969-12-31", "0001-01-01", "99999d", "99999999999999999d"])
def test_a_time_before_1970_is_refused_as_it_was_written(text: str) -> None:
    with pytest.raises(UsageError, match=f'invalid argument "{text}" for "--at" flag: must not be before 1970'):
        flags.parse(["history", "a.default", "--at", text])


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "5", "d", "h", "-2h", "2x", "1.5d", "08:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r'invalid argument ".*" for "--at" flag'):
        flags.parse(["history", "a.default", "--at", text])


@given(st.text(max_size=20))
def test_a_time_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(moments.parse(text), float)


def test_the_table_of_tenures_has_absolute_times_and_says_what_is_not_known() -> None:
    tenures = [
        {
            "name": "a.default", "uid": "u1", "subnet": "net", "v4IpAddress": "10.16.0.13", "v6IpAddress": "",
            "macAddress": "02:6f:76:12:34:56", "since": None, "until": "2026-11-27T08:00:00.999999Z", "actor": "",
            "endedBy": "uid 0 (root)",
        },
        {
            "name": "b.default", "uid": "u2", "subnet": "net", "v4IpAddress": "10.16.0.13", "v6IpAddress": "fd00::d",
            "macAddress": "02:6f:76:12:34:57", "since": "2026-11-27T09:00:00.000001Z", "until": None,
            "actor": "uid 7 (eve)", "endedBy": "",
        },
    ]  # fmt: skip
    head, a, b = history.table(tenures, wide=False).split("\n")
    assert head.split() == ["SINCE", "UNTIL", "NAME", "SUBNET", "V4IP", "V6IP", "MAC", "ACTOR"]
    assert a.split() == [
        "<unknown>", "2026-11-27T08:00:00Z", "a.default", "net", "10.16.0.13", "<none>", "02:6f:76:12:34:56", "<none>",
    ]  # fmt: skip
    assert b.split("  ")[-1].strip() == "uid 7 (eve)"
    assert b.split()[:2] == ["2026-11-27T09:00:00Z", "<none>"]
    assert history.table(tenures, wide=True).split("\n")[0].endswith("ACTOR         ENDED BY       UID")


@pytest.mark.parametrize("arguments", [[], ["a.default", "b.default"]])
def test_history_is_of_one_subject(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="exactly one NAME, ADDRESS or MAC is required"):
        history.history(flags.parse(["history", *arguments]), None, None)  # type: ignore[arg-type]


def test_history_has_no_names_to_print() -> None:
    with pytest.raises(CommandError, match='output format "name", allowed formats are: json,wide,yaml'):
        history.history(flags.parse(["history", "a.default", "-o", "name"]), None, None)  # type: ignore[arg-type]


# ---- events ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "selector"),
    [
        ("ip/a.default", "involvedObject.kind=IP,involvedObject.name=a.default"),
        ("IPs/a.default", "involvedObject.kind=IP,involvedObject.name=a.default"),
        ("subnet/net", "involvedObject.kind=Subnet,involvedObject.name=net"),
        ("ippool/web", "involvedObject.kind=IPPool,involvedObject.name=web"),
        ("ledger/ledger", "involvedObject.kind=Ledger,involvedObject.name=ledger"),
        (
            "sts/prod/db",
            "involvedObject.kind=StatefulSet,involvedObject.name=db,involvedObject.namespace=prod",
        ),
        ("vm/db", "involvedObject.kind=VirtualMachine,involvedObject.name=db"),
    ],
)
def test_whose_events_are_asked_for(about: str, selector: str) -> None:
    assert unquote(events.query(about)) == f"fieldSelector={selector}"


def test_events_of_one_namespace_are_asked_for_if_it_is_named(server, run):
    seen = {"involvedObject": {"kind": "StatefulSet", "namespace": "prod", "name": "web"}, "reason": "Scaled"}
    server.on("GET /api/v1/events?fieldSelector=metadata.namespace%3Dprod", {"items": [seen]})
    assert "Scaled" in run("get", "events", "-n", "prod")[1]
    server.on("GET /api/v1/events", {"items": []})
    assert run("get", "events", "-A", "-n", "prod") == (0, "", "No resources found\n")
    assert unquote(events.query("sts/web", "prod")).startswith("fieldSelector=metadata.namespace=prod,involvedObject.")


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("a.default", "--for must be in resource/name form"),
        ("ip/", "--for must be in resource/name form"),
        ("pod/a", 'the server doesn\'t have a resource type "pod"'),
    ],
)
def test_whose_events_cannot_be_asked_for(about: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        events.query(about)


def event(at: str, **changes: object) -> dict:
    return {
        "apiVersion": "v1", "kind": "Event", "type": "Normal", "reason": "Reserved", "message": "m", "count": 1,
        "firstTimestamp": at, "lastTimestamp": at, "source": {"component": "ovnreserved"},
        "metadata": {"name": "a.default.1", "annotations": {"ovnreserve.io/actor": "uid 0 (root)"}},
        "involvedObject": {"kind": "IP", "name": "a.default"},
    } | changes  # fmt: skip


def test_events_are_in_the_order_of_their_times() -> None:
    first, second, third = (event(f"2026-11-27T08:00:0{n}Z") for n in range(3))
    assert events.in_order([second, third, first]) == [first, second, third]


def test_the_table_of_events_is_kubectls_and_the_wide_one_names_the_actor() -> None:
    about = {"kind": "StatefulSet", "namespace": "prod", "name": "db"}
    told = [event("no time"), event("no time", involvedObject=about)]
    head, one, other = render.table("Event", told).split("\n")
    assert head == "LAST SEEN   TYPE     REASON     OBJECT                MESSAGE"
    assert one == "<unknown>   Normal   Reserved   ip/a.default          m"
    assert other.split()[3] == "statefulset/prod/db"
    head, one, _ = render.table("Event", told, wide=True).split("\n")
    assert re.split("  +", head)[4:] == ["MESSAGE", "ACTOR", "SOURCE", "FIRST SEEN", "COUNT", "NAME"]
    assert "uid 0 (root)" in one
    assert one.endswith("1       a.default.1")
