"""What is wrong with subnets and the database: found by looking at what changed, as by looking at everything."""

from __future__ import annotations

from typing import Any

import pytest
from builders import Cloud, contents
from hypothesis import given
from hypothesis import strategies as st

from ovnreserve.model.documents import Condition, timestamp
from ovnreserve.model.involved import DATABASE
from ovnreserve.plan.findings import (
    Finding,
    Health,
    database_findings,
    examine,
    findings,
    remarks,
    remarks_of_database,
    render,
)
from ovnreserve.plan.outcome import Event

A, B, C = (f"0a:00:00:00:00:0{number}" for number in range(1, 4))
ON_NET = "on logical switch net"


class Site:
    """A switch that is looked at as the daemon does: what changed of it, each time."""

    def __init__(self, **switch: Any) -> None:
        self.cloud = Cloud()
        self.switch = self.cloud.switch(**switch)
        self.health: Health | None = None

    def look(self, now: float = 100.0) -> list[Event]:
        segment = self.cloud.world.segments[self.switch]
        before, stirred = self.health, segment.take_stirred()
        self.health = examine(self.cloud.world, segment, before, stirred, now)
        again = examine(self.cloud.world, segment, None, segment.shared, now)
        assert (self.health.duplicates, self.health.excludes) == (again.duplicates, again.excludes)
        return list(remarks("net", before, self.health, stirred))

    def found(self) -> list[Finding]:
        before = contents(self.cloud.world)
        found = findings(self.cloud.world, self.cloud.world.segments[self.switch])
        assert contents(self.cloud.world) == before
        return list(found)

    def conditions(self) -> dict[str, Condition]:
        assert self.health is not None
        return {condition.type: condition for condition in render(self.health)}

    def port(self, name: str, *addresses: str, **columns: Any) -> str:
        return self.cloud.port(self.switch, name, *addresses, **columns)

    def excludes(self, text: str) -> None:
        config = {**self.cloud.tables["Logical_Switch"][self.switch]["other_config"], "exclude_ips": text}
        self.cloud.change("Logical_Switch", self.switch, other_config=config)


@pytest.fixture
def site() -> Site:
    return Site(v6="fd00::/64")


def duplicate(address: str, *ports: str) -> Finding:
    *most, last = ports
    listed = f"{', '.join(most)} and {last}"
    return Finding("DuplicateAddress", f"{address} is held by logical switch ports {listed} {ON_NET}")


# ---- two ports with one address --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "address"),
    [
        ({"addresses": f"{A} 10.0.0.5"}, {"addresses": f"{B} 10.0.0.5"}, "10.0.0.5"),
        ({"addresses": f"{A} 10.0.0.5"}, {"addresses": f"{B} 10.0.0.6 10.0.0.5/24"}, "10.0.0.5"),
        ({"addresses": f"{A} 10.0.0.5"}, {"addresses": "dynamic", "assigned": f"{B} 10.0.0.5"}, "10.0.0.5"),
        ({"addresses": f"{A} fd00::5"}, {"addresses": f"{B} 10.0.0.6 FD00::0:5"}, "fd00::5"),
        ({"addresses": "dynamic fd00::5", "assigned": f"{A} fd00::5"}, {"addresses": f"{B} fd00::5"}, "fd00::5"),
        ({"addresses": f"{A} 10.0.0.5"}, {"addresses": f"{B} 10.0.0.5", "type": "localport"}, "10.0.0.5"),
        ({"addresses": f"{A} 10.0.0.5"}, {"addresses": f"{B} 10.0.0.5", "type": "router"}, "10.0.0.5"),
        ({"addresses": f"{A} 192.168.7.7"}, {"addresses": f"{B} 192.168.7.7"}, "192.168.7.7"),
    ],
)
def test_two_ports_that_hold_one_address_are_found(
    site: Site, first: dict[str, Any], second: dict[str, Any], address: str
) -> None:
    site.port("a", first.pop("addresses"), **first)
    assert site.look() == []
    uuid = site.port("b", second.pop("addresses"), **second)
    assert site.found() == [duplicate(address, "a", "b")]
    assert site.look() == [Event("Warning", "DuplicateAddress", "subnet/net", site.found()[0].message)]
    assert site.look() == [], "once"
    site.cloud.delete_port(uuid)
    assert site.found() == []
    message = f"not so any more: {duplicate(address, 'a', 'b').message}"
    assert site.look() == [Event("Normal", "DuplicateResolved", "subnet/net", message)]


@pytest.mark.parametrize(
    "second",
    [
        {"addresses": "unknown", "security": (f"{B} 10.0.0.5",)},
        {"addresses": f"{B} 10.0.0.6", "security": (f"{B} 10.0.0.6 10.0.0.5",)},
        {"addresses": f"{B} 10.0.0.5", "type": "virtual"},
        {"addresses": f"{B} 10.0.0.5", "enabled": False},
        {"addresses": "dynamic 10.0.0.5", "assigned": f"{B} 10.0.0.6"},
        {"addresses": "dynamic 10.0.0.5"},
        {"addresses": "10.0.0.5"},
    ],
)
def test_a_port_that_does_not_hold_the_address_is_no_duplicate(site: Site, second: dict[str, Any]) -> None:
    site.port("a", f"{A} 10.0.0.5")
    site.port("b", second.pop("addresses"), **second)
    assert site.found() == []
    assert site.look() == []


@pytest.mark.parametrize("type_", ["router", "remote"])
def test_routers_may_share_an_address(site: Site, type_: str) -> None:
    site.port("a", f"{A} 10.0.0.1", type="router")
    site.port("b", f"{B} 10.0.0.1", type=type_)
    assert site.found() == []
    site.port("c", f"{C} 10.0.0.1")
    assert site.found() == [duplicate("10.0.0.1", "a", "b", "c")]


def test_one_address_on_two_switches_is_no_duplicate(site: Site) -> None:
    site.port("a", f"{A} 10.0.0.5")
    site.cloud.port(site.cloud.switch("other"), "b", f"{B} 10.0.0.5")
    assert site.found() == []


def test_what_is_enabled_moved_or_renamed_is_found_then(site: Site) -> None:
    site.port("a", f"{A} 10.0.0.5")
    uuid = site.port("b", f"{B} 10.0.0.5", enabled=False)
    assert site.look() == []
    site.cloud.change("Logical_Switch_Port", uuid, enabled=None)
    assert [event.reason for event in site.look()] == ["DuplicateAddress"]
    site.cloud.change("Logical_Switch_Port", uuid, name="c")
    assert [event.message for event in site.look()] == [duplicate("10.0.0.5", "a", "c").message]
    rows, other = site.cloud.tables["Logical_Switch"], site.cloud.switch("other")
    rows[site.switch]["ports"], rows[other]["ports"] = rows[site.switch]["ports"] - {uuid}, frozenset({uuid})
    site.cloud.sync()
    assert [event.reason for event in site.look()] == ["DuplicateResolved"]


def test_of_many_ports_and_addresses_some_are_named(site: Site) -> None:
    for number in range(12):
        site.port(f"p{number:02}", f"0a:00:00:00:01:{number:02x} 10.0.0.5")
    [found] = site.found()
    listed = ", ".join(f"p{number:02}" for number in range(10))
    assert found.message == f"10.0.0.5 is held by logical switch ports {listed} and 2 more {ON_NET}"
    for number in range(24):
        site.port(f"a{number}", f"0a:00:00:00:02:{number:02x} 10.0.0.{number + 50}")
        site.port(f"b{number}", f"0a:00:00:00:03:{number:02x} 10.0.0.{number + 50}")
    events = site.look()
    assert len(events) == 21
    assert events[-1].message == "the same of 5 more addresses"
    assert site.conditions()["Conflicted"].message.endswith("; and 15 more addresses")


# ---- exclude_ips -----------------------------------------------------------------------------------------------------


def test_the_token_that_northd_cannot_read_is_named_with_its_place_and_what_is_lost(site: Site) -> None:
    assert site.look(100.0) == []
    assert site.conditions()["ExcludeIPsRead"] == Condition(
        "ExcludeIPsRead", "True", "Read", "ovn-northd reads other_config:exclude_ips to its end", timestamp(100)
    )
    site.excludes("10.0.0.1 foo 10.0.0.7")
    [event] = site.look(200.0)
    message = (
        'ovn-northd cannot read other_config:exclude_ips of logical switch net at "foo", character 10 of the '
        "operator's part, and ignores all of it from there on: \"foo 10.0.0.7\" (Syntax error at `foo' expecting "
        "address.); what ovnreserve excludes stands in front of it, where it is read"
    )
    assert event == Event("Warning", "BadExcludeIPs", "subnet/net", message)
    assert site.found() == [Finding("BadExcludeIPs", message)]
    assert site.conditions()["ExcludeIPsRead"] == Condition(
        "ExcludeIPsRead", "False", "BadExcludeIPs", message, timestamp(200)
    )
    site.cloud.reserve(site.switch)
    site.cloud.write_excludes(site.switch)
    assert site.look(300.0) == [], "our part before it changes nothing"
    site.excludes("10.0.0.1")
    assert site.look(400.0) == [Event("Normal", "ExcludeIPsRead", "subnet/net", f"not so any more: {message}")]


def test_what_stands_in_front_of_our_part_is_said(site: Site) -> None:
    site.cloud.reserve(site.switch)
    site.cloud.write_excludes(site.switch)
    site.excludes("foo 10.0.0.9")
    [found] = site.found()
    assert 'at "foo", character 1 of' in found.message
    assert found.message.endswith("; ovnreserve's own part does not stand in front of it any more")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("10.0.0.5 10.0.0.7 ..", "the end of the text, character 21 of"),
        ("10.0.0.4/30 10.0.0.9", '"10.0.0.4/30", character 1 of'),
        ("10.0.0.5..  foo 10.0.0.9", '"foo", character 13 of'),
        ("10.0.0.5,\n10.0.0.6", '",", character 9 of'),
        ("10.0.0.5 " + 500 * "x", f'"{60 * "x"}", character 10 of'),
    ],
)
def test_wherever_it_stops_is_named(site: Site, text: str, where: str) -> None:
    site.excludes(text)
    [found] = site.found()
    assert f"at {where}" in found.message
    assert found.message.isprintable()
    assert len(found.message) < 600


@pytest.mark.parametrize("text", ["10.0.0.5 10.1.0.6", "10.0.0.9..10.0.0.7", "// nothing", ""])
def test_what_northd_reads_or_passes_over_is_not_bad(site: Site, text: str) -> None:
    site.excludes(text)
    assert site.found() == []


@pytest.mark.parametrize("subnet", [None, "10.0.0.9/32"])
def test_where_northd_has_no_ipam_it_reads_nothing(subnet: str | None) -> None:
    assert Site(subnet=subnet, v6="fd00::/64", excludes="foo").found() == []


# ---- the database ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "new"), [("02:6F:76", "06:6f:76"), ("2:6f:76", "06:6f:76"), ("06:6f:76", "02:6f:76")]
)
def test_a_mac_prefix_that_is_ours_is_found(site: Site, prefix: str, new: str) -> None:
    assert database_findings(site.cloud.world) == ()
    site.cloud.mac_prefix(prefix)
    [found] = now = database_findings(site.cloud.world)
    assert found.reason == "MacPrefixIsOurs"
    assert f"new reservations get theirs from {new}." in found.message
    assert list(remarks_of_database((), now)) == [Event("Warning", "MacPrefixIsOurs", DATABASE, found.message)]
    assert list(remarks_of_database(now, now)) == []
    gone = Event("Normal", "MacPrefixChanged", DATABASE, f"not so any more: {found.message}")
    assert list(remarks_of_database(now, ())) == [gone]


@pytest.mark.parametrize("prefix", ["0a:6f:76", "", "nonsense"])
def test_another_mac_prefix_is_fine(site: Site, prefix: str) -> None:
    site.cloud.mac_prefix(prefix)
    assert database_findings(site.cloud.world) == ()


# ---- step by step as at once -----------------------------------------------------------------------------------------

_ADDRESSES = st.lists(st.sampled_from(["10.0.0.5", "10.0.0.6", "fd00::5"]), max_size=3).map(lambda found: [A, *found])
_PORT = st.fixed_dictionaries({
    "name": st.sampled_from("abcd"),
    "addresses": st.sampled_from([["dynamic"], ["unknown"], ["dynamic", "10.0.0.5"]]) | _ADDRESSES,
    "dynamic_addresses": st.sampled_from([None, f"{B} 10.0.0.5", f"{B} 10.0.0.6 fd00::5"]),
    "port_security": st.sampled_from([[], [f"{B} 10.0.0.5 10.0.0.6"]]),
    "type": st.sampled_from(["", "", "router", "virtual", "localport"]),
    "enabled": st.sampled_from([None, True, False]),
})  # fmt: skip


@given(st.lists(st.tuples(_PORT, st.booleans()), max_size=12), st.integers(1, 3))
def test_whatever_ports_do_looking_at_what_changed_finds_what_looking_at_all_does(
    changes: list[tuple[dict[str, Any], bool]], every: int
) -> None:
    site = Site(v6="fd00::/64")
    ports: dict[str, str] = {}
    for number, (columns, there) in enumerate(changes):
        name = columns["name"]
        row = {**columns, "addresses": frozenset({" ".join(columns["addresses"])}),
               "port_security": frozenset(columns["port_security"])}  # fmt: skip
        if not there and name in ports:
            site.cloud.delete_port(ports.pop(name))
        elif there and name in ports:
            site.cloud.change("Logical_Switch_Port", ports[name], **row)
        elif there:
            ports[name] = site.port(name)
            site.cloud.change("Logical_Switch_Port", ports[name], **row)
        if number % every == 0:
            site.look()
    site.look()
    assert contents(site.cloud.world) == contents(site.cloud.rebuilt())
