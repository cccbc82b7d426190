"""What a user sees of a reservation: its phase and conditions, derived from the world."""

from __future__ import annotations

from typing import Any

import pytest
from builders import MAC, Cloud, contents, reservation

from ovnreserve.model.addresses import parse_v4
from ovnreserve.model.documents import Condition, timestamp
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.plan.holders import Rival, told
from ovnreserve.plan.outcome import Event
from ovnreserve.plan.status import Observed, observe, remarks, render
from ovnreserve.plan.world import World

NAME = "vm-1.default"
OURS = "02:6f:76:00:00:09"
PORT = "logical switch port p on logical switch net"


class Site:
    """A switch with one reservation on it, and what was seen of it last."""

    def __init__(self, *, subnet: str | None = "10.0.0.0/24", prefix: str | None = None, **fields: Any) -> None:
        self.cloud = Cloud()
        self.switch = self.cloud.switch(subnet=subnet, v6=prefix)
        self.r: Reservation = self.cloud.reserve(self.switch, **fields)
        self.seen: Observed | None = None

    def look(self, now: float = 100.0, *, awaited: bool = False) -> Observed:
        self.cloud.segment(self.switch)
        before = contents(self.cloud.world)
        self.seen = observe(self.cloud.world, self.r, self.seen, now, awaited=awaited)
        assert contents(self.cloud.world) == before
        return self.seen

    def phase(self, **asked: Any) -> str:
        return render(self.r, self.look(**asked)).phase

    def condition(self, type_: str, **asked: Any) -> Condition:
        [found] = [c for c in render(self.r, self.look(**asked)).conditions if c.type == type_]
        return found

    def said(self, type_: str, **asked: Any) -> tuple[str, str]:
        found = self.condition(type_, **asked)
        return found.status, found.reason


# ---- the phase -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "phase"),
    [(State.INTENDED, "Pending"), (State.HELD, "Reserved"), (State.RELEASING, "Releasing"), (State.FAILED, "Failed")],
)
def test_the_phase_is_that_of_its_state(state: State, phase: str) -> None:
    assert Site(state=state).phase() == phase


def test_what_is_held_is_bound_while_its_port_has_the_address() -> None:
    site = Site()
    port = site.cloud.port(site.switch, NAME, f"{OURS} 10.0.0.9")
    assert site.phase() == "Bound"
    site.cloud.delete_port(port)
    assert site.phase() == "Reserved"


def test_conditions_stand_in_one_order() -> None:
    site = Site()
    assert [c.type for c in render(site.r, site.look()).conditions] == ["Reserved", "Enforced", "Bound", "Conflicted"]


# ---- Reserved --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "status", "reason", "message"),
    [
        (State.INTENDED, "False", "Pending", "not yet seen in the northbound database"),
        (State.HELD, "True", "Reserved", "10.0.0.9, fd00::9 is kept for vm-1.default"),
        (State.RELEASING, "True", "Releasing", "excluded until ovn-northd has seen the release"),
        (State.FAILED, "False", "Failed", "why it failed"),
    ],
)
def test_reserved_says_what_keeps_the_address(state: State, status: str, reason: str, message: str) -> None:
    site = Site(prefix="fd00::/64", state=state, v6="fd00::9", message="why it failed")
    assert site.condition("Reserved") == Condition("Reserved", status, reason, message, timestamp(100))


def test_what_is_held_waits_for_its_switch_and_says_so() -> None:
    site = Site()
    site.look()
    row = site.cloud.tables["Logical_Switch"].pop(site.switch)
    assert site.cloud.sync().names == {NAME}
    seen, site.seen = site.seen, observe(site.cloud.world, site.r, site.seen, 200.0, awaited=True)
    message = f"logical switch net ({site.switch}) does not exist; kept until it is back"
    status = render(site.r, site.seen)
    assert status.phase == "Pending"
    assert status.conditions[0] == Condition("Reserved", "False", "SubnetMissing", message, timestamp(200))
    assert (status.conditions[1].status, status.conditions[1].reason) == ("False", "NotEnforceable")
    assert list(remarks(NAME, seen, site.seen)) == [Event("Warning", "SubnetMissing", NAME, message)]
    site.cloud.tables["Logical_Switch"][site.switch] = row
    assert site.cloud.sync().names == {NAME}
    assert notes(site) == [Event("Normal", "SubnetBack", NAME, f"not so any more: {message}")]
    assert site.phase() == "Reserved"


def test_before_the_database_was_seen_no_switch_is_missing() -> None:
    world, r = World(), reservation("unseen")
    world.put(r)
    assert render(r, observe(world, r, None, 100.0, awaited=False)).phase == "Reserved"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"subnet": "10.0.1.0/24", "ipv6_prefix": "fd00::"}, "10.0.0.9 is outside of 10.0.1.0/24, which"),
        ({"subnet": "10.0.0.0/24", "ipv6_prefix": "fd01::"}, "fd00::9 is outside of fd01::/64, which"),
        ({"subnet": "10.0.0.9/29", "ipv6_prefix": "fd00::"}, ""),
        ({"subnet": "10.0.0.10/31", "ipv6_prefix": "fd00::"}, "10.0.0.9 is outside of 10.0.0.10/31, which"),
        ({"ipv6_prefix": "fd00::"}, "10.0.0.9 is outside of every network: subnet net has no IPv4 CIDR now"),
        ({"subnet": "10.0.0.0/24"}, "fd00::9 is outside of every network: subnet net has no IPv6 CIDR now"),
        ({}, "10.0.0.9 is outside of every network: subnet net has no IPv4 CIDR now"),
    ],
)
def test_what_the_subnet_does_not_hold_any_more_is_not_reserved(config: dict[str, str], message: str) -> None:
    site = Site(prefix="fd00::/64", v6="fd00::9")
    assert site.said("Reserved") == ("True", "Reserved")
    assert site.cloud.change("Logical_Switch", site.switch, other_config=config).names == {NAME}
    found = site.condition("Reserved", now=200.0)
    if not message:
        assert found.status == "True"
        return
    assert (found.status, found.reason, found.last_transition_time) == ("False", "OutsideSubnet", timestamp(200))
    assert found.message == message.replace("which", "which subnet net is now")
    assert site.phase() == "Pending"


def test_what_became_the_broadcast_address_is_not_reserved() -> None:
    site = Site(v4="10.0.0.15")
    site.cloud.change("Logical_Switch", site.switch, other_config={"subnet": "10.0.0.8/29"})
    assert site.condition("Reserved").message == "10.0.0.15 is no host of 10.0.0.8/29, which subnet net is now"


# ---- Enforced --------------------------------------------------------------------------------------------------------


def test_enforced_is_unknown_until_somebody_waited() -> None:
    site = Site()
    assert site.said("Enforced") == ("Unknown", "NotAwaited")
    assert site.said("Enforced", awaited=True) == ("True", "Seen")


@pytest.mark.parametrize(
    "where",
    [
        {"subnet": None, "prefix": "fd00::/64", "v4": None, "v6": "fd00::9"},
        {"prefix": "fd00::/64", "v4": None, "v6": "fd00::9"},
        {"subnet": None},
        {"subnet": "10.0.0.9/32"},
    ],
)
def test_where_northd_excludes_nothing_nothing_is_enforced(where: dict[str, Any]) -> None:
    site = Site(**where)
    assert site.said("Enforced", awaited=True) == ("False", "NotEnforceable")


@pytest.mark.parametrize("config", [{}, {"subnet": "10.0.1.0/24"}])
def test_what_northd_excludes_no_more_is_enforced_no_more(config: dict[str, str]) -> None:
    site = Site()
    assert site.said("Enforced", awaited=True) == ("True", "Seen")
    assert site.cloud.change("Logical_Switch", site.switch, other_config=config).names == {NAME}
    assert site.said("Enforced", awaited=True) == ("False", "NotEnforceable")


def test_what_is_withheld_is_not_enforced_and_the_time_of_that_is_told() -> None:
    site = Site()
    assert site.said("Enforced", now=100.0) == ("Unknown", "NotAwaited")
    site.cloud.segment(site.switch).withhold(frozenset({parse_v4("10.0.0.9")}))
    found = site.condition("Enforced", now=200.0, awaited=True)
    assert (found.status, found.reason, found.last_transition_time) == ("False", "Withheld", timestamp(200))


def test_what_failed_is_enforced_by_nobody() -> None:
    assert Site(state=State.FAILED).said("Enforced", awaited=True) == ("False", "Failed")


# ---- Bound -----------------------------------------------------------------------------------------------------------


def test_bound_says_why_the_port_cannot_use_the_ip() -> None:
    site = Site()
    assert site.said("Bound") == ("False", "NoPort")
    site.cloud.port(site.switch, NAME, f"{MAC} 10.0.0.5")
    found = site.condition("Bound")
    assert (found.status, found.reason) == ("False", "AddressMismatch")
    assert found.message == f'port {NAME} has addresses "{MAC} 10.0.0.5", the IP is {OURS} 10.0.0.9'


# ---- Conflicted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("add", "holder"),
    [
        (lambda c, s: c.port(s, "p", f"{MAC} 10.0.0.9"), f"10.0.0.9 is also held by {PORT}"),
        (lambda c, s: c.port(s, "p", "dynamic 10.0.0.9"), f"10.0.0.9 is also held by {PORT}"),
        (lambda c, s: c.port(s, "p", "dynamic", assigned=f"{MAC} 10.0.0.9"), f"10.0.0.9 is also held by {PORT}"),
        (
            lambda c, s: c.port(s, "p", "unknown", security=(f"{MAC} 10.0.0.9",)),
            f"10.0.0.9 is also held by port_security of {PORT}",
        ),
        (lambda c, s: c.port(s, "p", f"{OURS} 10.0.0.5"), f"MAC {OURS} is also held by {PORT}"),
        (lambda c, s: c.port(s, "p", f"{OURS} dynamic"), f"MAC {OURS} is also held by {PORT}"),
        (lambda c, s: c.router(s, "10.0.0.9/24"), "10.0.0.9 is also held by logical router port lr0-port"),
        (
            lambda c, s: c.router(s, "10.0.0.1/24", mac=OURS),
            f"MAC {OURS} is also held by logical router port lr0-port",
        ),
    ],
)
def test_whoever_has_the_address_too_is_named(add: Any, holder: str) -> None:
    site = Site()
    assert site.condition("Conflicted").message == "nobody else has the addresses"
    add(site.cloud, site.switch)
    found = site.condition("Conflicted", now=200.0)
    message = f"{holder} since {timestamp(200)}"
    assert found == Condition("Conflicted", "True", "AddressTaken", message, timestamp(200))
    assert site.condition("Conflicted", now=300.0).message == message, "it is there since then"


def test_its_own_port_is_no_conflict_and_one_of_that_name_elsewhere_neither() -> None:
    site = Site()
    site.cloud.port(site.switch, NAME, f"{OURS} 10.0.0.9")
    assert site.said("Conflicted") == ("False", "NoConflict")
    site = Site()
    site.cloud.port(site.cloud.switch("other"), NAME, f"{OURS} 10.0.0.9")
    assert site.said("Conflicted") == ("False", "NoConflict")


def test_who_only_refers_to_the_address_does_not_have_it() -> None:
    site = Site()
    route = site.cloud.insert("Logical_Router_Static_Route", nexthop="10.0.0.9")
    site.cloud.router(site.switch, "10.0.0.1/24", static_routes=frozenset({route}))
    assert site.said("Conflicted") == ("False", "NoConflict")


@pytest.mark.parametrize(
    ("fields", "holder"),
    [
        ({}, "10.0.0.9 is also held by IP winner.default"),
        ({"v4": "10.0.0.10", "mac": OURS}, f"MAC {OURS} is also held by IP winner.default"),
    ],
)
def test_what_lost_its_address_to_another_reservation_is_failed_and_conflicted(
    fields: dict[str, str], holder: str
) -> None:
    site = Site(state=State.FAILED)
    site.cloud.reserve(site.switch, "winner.default", **{"mac": "02:6f:76:00:00:10", **fields})
    assert site.phase() == "Failed"
    assert site.condition("Conflicted").message == f"{holder} since {timestamp(100)}"


def test_everybody_is_named_with_all_that_they_have() -> None:
    site = Site(prefix="fd00::/64", v6="fd00::9")
    site.cloud.port(site.switch, "p", f"{MAC} 10.0.0.9 fd00::9")
    site.cloud.port(site.switch, "q", "0a:00:00:00:00:02 10.0.0.9")
    assert [str(rival) for rival in site.look().conflicts] == [
        f"10.0.0.9 is also held by {PORT}",
        "10.0.0.9 is also held by logical switch port q on logical switch net",
        f"fd00::9 is also held by {PORT}",
    ]


# ---- since when ------------------------------------------------------------------------------------------------------


def test_each_condition_keeps_the_time_of_its_own_last_change() -> None:
    site = Site()
    assert site.look(100.0).since == (100.0, 100.0, 100.0, 100.0)
    port = site.cloud.port(site.switch, NAME, f"{OURS} 10.0.0.9")
    assert site.look(200.0).since == (100.0, 100.0, 200.0, 100.0)
    site.cloud.port(site.switch, "p", f"{MAC} 10.0.0.9")
    assert site.look(300.0, awaited=True).since == (100.0, 300.0, 200.0, 300.0)
    site.cloud.change("Logical_Switch_Port", port, up=True)
    assert site.look(400.0, awaited=True).since == (100.0, 300.0, 200.0, 300.0)
    site.r = site.r.with_(state=State.RELEASING)
    site.cloud.world.put(site.r)
    assert site.look(500.0).since == (500.0, 500.0, 200.0, 500.0)


# ---- what is worth the journal ---------------------------------------------------------------------------------------


def notes(site: Site, **asked: Any) -> list[Event]:
    before = site.seen
    return list(remarks(NAME, before, site.look(**asked)))


def test_a_port_that_cannot_use_the_ip_is_remarked_once() -> None:
    site = Site()
    assert notes(site) == []
    port = site.cloud.port(site.switch, NAME, f"{MAC} 10.0.0.5")
    [event] = notes(site)
    assert (event.type, event.reason) == ("Warning", "AddressMismatch")
    assert notes(site) == []
    site.cloud.change("Logical_Switch_Port", port, addresses=frozenset({f"{MAC} 10.0.0.6"}))
    assert [e.reason for e in notes(site)] == ["AddressMismatch"]
    site.cloud.change("Logical_Switch_Port", port, addresses=frozenset({f"{OURS} 10.0.0.9"}))
    assert notes(site) == []


def test_a_port_that_is_about_to_be_written_is_judged_when_that_is_done() -> None:
    site = Site(state=State.INTENDED)
    port = site.cloud.port(site.switch, NAME, f"{MAC} 10.0.0.9", "dynamic", assigned=f"{OURS} 10.0.0.8")
    assert site.said("Bound") == ("False", "AddressMismatch")
    assert notes(site) == []
    site.r = site.r.with_(state=State.HELD)
    site.cloud.world.put(site.r)
    assert [e.reason for e in notes(site)] == ["AddressMismatch"], "it was not written"
    site.cloud.change("Logical_Switch_Port", port, addresses=frozenset({f"{OURS} 10.0.0.9"}))
    assert notes(site) == []


def test_each_holder_is_remarked_when_it_comes_and_when_it_leaves() -> None:
    site = Site()
    other = PORT.replace("port p", "port q")
    first = site.cloud.port(site.switch, "p", f"{MAC} 10.0.0.9")
    assert notes(site) == [Event("Warning", "Conflicted", NAME, f"10.0.0.9 is also held by {PORT}")]
    second = site.cloud.port(site.switch, "q", "0a:00:00:00:00:02 10.0.0.9")
    assert notes(site, now=200.0) == [Event("Warning", "Conflicted", NAME, f"10.0.0.9 is also held by {other}")]
    message = site.condition("Conflicted", now=300.0).message
    assert message == "; ".join(
        f"10.0.0.9 is also held by {who} since {timestamp(at)}" for who, at in ((PORT, 100), (other, 200))
    )
    site.cloud.delete_port(first)
    assert notes(site) == [Event("Normal", "ConflictResolved", NAME, f"10.0.0.9 is not held any more by {PORT}")]
    site.cloud.delete_port(second)
    assert notes(site) == [Event("Normal", "ConflictResolved", NAME, f"10.0.0.9 is not held any more by {other}")]
    assert notes(site) == []


def test_a_port_that_is_renamed_to_the_reservations_is_no_conflict_any_more_and_the_other_way_round() -> None:
    site = Site()
    port = site.cloud.port(site.switch, "p", f"{OURS} 10.0.0.9")
    assert [event.reason for event in notes(site)] == ["Conflicted", "Conflicted"]
    assert NAME in site.cloud.change("Logical_Switch_Port", port, name=NAME).names
    assert [event.reason for event in notes(site)] == ["ConflictResolved", "ConflictResolved"]
    assert NAME in site.cloud.change("Logical_Switch_Port", port, name="p").names
    assert [event.reason for event in notes(site)] == ["Conflicted", "Conflicted"]


# ---- over a restart --------------------------------------------------------------------------------------------------


def test_who_is_there_is_whoever_came_and_did_not_leave_in_the_journal() -> None:
    a, b = Rival("10.0.0.9", "port a"), Rival("10.0.0.9", "port b")
    journal = [
        ("one", 1.0, "Conflicted", str(a)),
        ("one", 2.0, "Conflicted", str(b)),
        ("one", 3.0, "ConflictResolved", a.gone),
        ("one", 4.0, "Conflicted", str(b)),  # told again by a daemon that knew no better
        ("two", 5.0, "Conflicted", str(a)),
        ("two", 6.0, "ConflictResolved", a.gone),
    ]
    assert told(journal) == {"one": (b._replace(since=2.0),)}


def test_what_was_told_before_stays_until_the_database_was_seen_and_is_not_told_again() -> None:
    site = Site()
    site.cloud.port(site.switch, "squatter", "0a:00:00:00:00:07 10.0.0.9")
    there = Rival("10.0.0.9", "logical switch port squatter on logical switch net")
    gone = Rival("10.0.0.9", "NAT snat of router")
    was = there._replace(since=50.0), gone._replace(since=60.0)
    unseen = World()
    unseen.put(site.r)
    before = observe(unseen, site.r, None, 100.0, awaited=False, told=was)
    assert (before.conflicts, before.since[3]) == (was, 50.0)
    assert list(remarks(NAME, None, before, was)) == []
    site.cloud.segment(site.switch)
    now = observe(site.cloud.world, site.r, before, 200.0, awaited=False)
    assert [rival.since for rival in now.conflicts] == [50.0]
    assert [event.message for event in remarks(NAME, before, now)] == [gone.gone]
    assert now.since[3] == 50.0
