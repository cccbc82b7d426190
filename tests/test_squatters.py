"""Squatters: who is blocked, what is noted of it, and that everybody gets back what they had."""

from __future__ import annotations

from typing import Any

import pytest
from builders import MAC, Cloud, contents, context, reservation
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnreserve.model.reservation import Reservation, external_ids_of, reservation_of
from ovnreserve.model.resource import State
from ovnreserve.model.steps import Barrier, DropRecord, PutRecord, SetEnabled, UpdateRecord
from ovnreserve.plan.bind import seen
from ovnreserve.plan.outcome import Event, Plan
from ovnreserve.plan.reconcile import reconcile
from ovnreserve.plan.release import plan_finish, plan_release
from ovnreserve.plan.repair import plan_resume
from ovnreserve.plan.revision import Standing
from ovnreserve.plan.squatters import plan_squatters, squatters
from ovnreserve.plan.status import observe, render

NAME, OTHER = "vm-1.default", "vm-2.default"
OURS, THEIRS = "02:6f:76:00:00:09", "02:6f:76:00:00:10"
PORT = "logical switch port p on logical switch net"


class Site:
    """A switch with reservations, and a daemon that carries out at once what it plans."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.switch = self.cloud.switch(v6="fd00::/64")
        self.cloud.reserve(self.switch, v6="fd00::9")

    @property
    def r(self) -> Reservation:
        return self.cloud.world.reservations[NAME]

    def port(self, *addresses: str, name: str = "p", **columns: Any) -> str:
        return self.cloud.port(self.switch, name, *addresses, **columns)

    def enabled(self, port: str) -> bool | None:
        found: bool | None = self.cloud.tables["Logical_Switch_Port"][port]["enabled"]
        return found

    def change(self, port: str, **columns: Any) -> set[str]:
        return self.cloud.change("Logical_Switch_Port", port, **columns).names

    def plan(self, name: str = NAME, *, block: bool = True) -> Plan:
        before = contents(self.cloud.world)
        plan = plan_squatters(self.cloud.world, self.cloud.world.reservations[name], context(), block=block)
        assert contents(self.cloud.world) == before
        return plan

    def settle(self, name: str = NAME, *, block: bool = True) -> list[Event]:
        """Plan, and carry it out."""
        plan = self.plan(name, block=block)
        if plan.resource is not None:
            self.cloud.world.put(plan.resource)
        self.carry_out(plan)
        return list(plan.events)

    def carry_out(self, *plans: Plan) -> None:
        """In one transaction: no port is written twice, and what it is guarded by holds."""
        written: set[str] = set()
        for step in (step for plan in plans for step in plan.steps if isinstance(step, SetEnabled)):
            assert step.port not in written
            written.add(step.port)
            row = self.cloud.tables["Logical_Switch_Port"][step.port]
            assert (row["addresses"], row["enabled"]) == (step.seen[0], step.was)
            row["enabled"] = step.enabled
        self.cloud.sync()


@pytest.fixture
def site() -> Site:
    return Site()


# ---- who squats ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "columns"),
    [
        ((f"{MAC} 10.0.0.9",), {}),
        ((f"{MAC} 10.0.0.5 10.0.0.9/24",), {}),
        ((f"{MAC} fd00::9",), {}),
        ((f"{OURS} 10.0.0.5",), {}),
        ((OURS,), {}),
        ((f"{OURS} dynamic",), {}),
        (("dynamic",), {"assigned": f"{MAC} 10.0.0.9"}),
        (("dynamic fd00::9",), {"assigned": f"{MAC} 10.0.0.5 fd00::9"}),
        (("unknown", f"{MAC} 10.0.0.9"), {}),
    ],
)
def test_a_workloads_port_that_has_an_address_or_the_mac_squats(
    site: Site, addresses: tuple[str, ...], columns: dict[str, Any]
) -> None:
    uuid = site.port(*addresses, **columns)
    assert [port.uuid for port in squatters(site.cloud.world, site.r)] == [uuid]


@pytest.mark.parametrize(
    ("addresses", "columns"),
    [
        ((f"{MAC} 10.0.0.9",), {"type": "router"}),
        ((f"{MAC} 10.0.0.9",), {"type": "localport"}),
        ((f"{MAC} 10.0.0.9",), {"type": "virtual"}),
        (("unknown",), {"type": "localnet", "security": (f"{MAC} 10.0.0.9",)}),
        (("unknown",), {"security": (f"{OURS} 10.0.0.9",)}),
        (("dynamic 10.0.0.9",), {}),
        (("dynamic 10.0.0.9",), {"assigned": f"{MAC} 10.0.0.5"}),
        ((f"{MAC} 10.0.0.9",), {"name": NAME}),
        ((f"{MAC} 10.0.0.8",), {}),
    ],
)
def test_nobody_else_does(site: Site, addresses: tuple[str, ...], columns: dict[str, Any]) -> None:
    site.port(*addresses, **columns)
    assert squatters(site.cloud.world, site.r) == []
    assert site.plan() == Plan("unchanged")


def test_a_port_on_another_switch_does_not(site: Site) -> None:
    site.cloud.port(site.cloud.switch("other"), "p", f"{OURS} 10.0.0.9")
    assert site.plan() == Plan("unchanged")


# ---- blocked and unblocked -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("was", "noted"), [(None, "absent"), (True, "true")])
def test_a_squatter_is_disabled_until_it_leaves_and_has_then_what_it_had(
    site: Site, was: bool | None, noted: str
) -> None:
    uuid = site.port(f"{MAC} 10.0.0.9", enabled=was)
    port = site.cloud.world.ports[uuid]
    plan = site.plan()
    message = f"{PORT} is disabled while it has what is reserved: {OURS} 10.0.0.9 fd00::9"
    assert plan.events == (Event("Warning", "SquatterBlocked", NAME, message),)
    assert plan.resource is not None
    assert plan.resource.blocked == {uuid: noted}
    assert plan.resource.resource_version == 77
    assert plan.steps == (SetEnabled(uuid, seen(port), was, False, NAME), UpdateRecord(plan.resource))
    site.settle()
    assert site.plan() == Plan("unchanged")
    status = render(site.r, observe(site.cloud.world, site.r, None, 100.0, awaited=False))
    assert status.conditions[-1].message.endswith("1970-01-01T00:01:40Z (disabled meanwhile)")
    assert NAME in site.change(uuid, addresses=frozenset({f"{MAC} 10.0.0.5"}))
    assert site.settle() == [Event("Normal", "SquatterUnblocked", NAME, f"{PORT} is enabled again")]
    assert (site.enabled(uuid), site.r.blocked) == (was, {})


def test_what_only_reports_blocks_nobody_and_undoes_what_was_blocked(site: Site) -> None:
    uuid = site.port(f"{MAC} 10.0.0.9")
    assert site.plan(block=False) == Plan("unchanged")
    site.settle()
    assert [event.reason for event in site.settle(block=False)] == ["SquatterUnblocked"]
    assert (site.enabled(uuid), site.r.blocked) == (None, {})


def test_a_port_that_is_disabled_already_is_never_touched(site: Site) -> None:
    uuid = site.port(f"{MAC} 10.0.0.9", enabled=False)
    assert site.plan() == Plan("unchanged")
    site.change(uuid, addresses=frozenset())
    assert site.plan() == Plan("unchanged")


def test_who_is_enabled_by_somebody_else_is_left_alone_which_is_said_once(site: Site) -> None:
    uuid = site.port(f"{MAC} 10.0.0.9")
    site.settle()
    assert NAME in site.change(uuid, enabled=True)
    message = f"{PORT} was enabled by somebody else though it has what is reserved: left alone"
    assert site.settle() == [Event("Warning", "SquatterLeftAlone", NAME, message)]
    assert (site.enabled(uuid), site.r.blocked) == (True, {uuid: "overridden"})
    assert site.plan() == Plan("unchanged")
    status = render(site.r, observe(site.cloud.world, site.r, None, 100.0, awaited=False))
    assert status.conditions[-1].message.endswith(" (enabled by somebody else)")
    site.change(uuid, enabled=False)
    assert site.plan() == Plan("unchanged"), "that was somebody else, too"
    site.change(uuid, addresses=frozenset())
    assert site.settle() == []
    assert (site.enabled(uuid), site.r.blocked) == (False, {})
    site.change(uuid, addresses=frozenset({f"{MAC} 10.0.0.9"}), enabled=None)
    assert [event.reason for event in site.settle()] == ["SquatterBlocked"], "it is another conflict"


def test_a_port_that_is_gone_is_forgotten(site: Site) -> None:
    uuid = site.port(f"{MAC} 10.0.0.9")
    site.settle()
    assert NAME in site.cloud.delete_port(uuid).names
    assert site.settle() == []
    assert site.r.blocked == {}


def test_a_port_that_left_the_switch_is_unblocked_where_it_is(site: Site) -> None:
    uuid = site.port(f"{MAC} 10.0.0.9")
    site.settle()
    rows, other = site.cloud.tables["Logical_Switch"], site.cloud.switch("other")
    rows[site.switch]["ports"], rows[other]["ports"] = rows[site.switch]["ports"] - {uuid}, frozenset({uuid})
    assert NAME in site.cloud.sync().names
    [event] = site.settle()
    assert event.message == "logical switch port p on logical switch other is enabled again"
    assert site.enabled(uuid) is None


# ---- several reservations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [(NAME, OTHER), (OTHER, NAME)])
@pytest.mark.parametrize("leaving", [(NAME, OTHER), (OTHER, NAME)])
def test_who_squats_on_two_is_blocked_once_and_unblocked_by_the_last(
    site: Site, names: tuple[str, str], leaving: tuple[str, str]
) -> None:
    site.cloud.reserve(site.switch, OTHER, v4="10.0.0.10", mac=THEIRS)
    uuid = site.port(f"{MAC} 10.0.0.9", f"{THEIRS} 10.0.0.7")
    assert [event.reason for name in names for event in site.settle(name)] == ["SquatterBlocked"] * 2
    for name in names:
        assert site.cloud.world.reservations[name].blocked == {uuid: "absent"}
    first, last = leaving
    site.change(uuid, addresses=frozenset({f"{MAC} 10.0.0.9" if last == NAME else f"{THEIRS} 10.0.0.7"}))
    assert site.settle(first) == []
    assert site.enabled(uuid) is False
    assert site.settle(last) == []
    site.change(uuid, addresses=frozenset())
    assert [event.reason for event in site.settle(last)] == ["SquatterUnblocked"]
    assert site.enabled(uuid) is None


# ---- the end of a reservation ----------------------------------------------------------------------------------------


def test_a_release_unblocks(site: Site) -> None:
    uuid = site.port(f"{MAC} 10.0.0.9")
    site.settle()
    port = site.cloud.world.ports[uuid]
    plan = plan_release(site.cloud.world, site.r, context())
    assert plan.resource is not None
    assert plan.resource.blocked == {}
    step = SetEnabled(uuid, seen(port), False, None, NAME)
    assert plan.steps == (UpdateRecord(plan.resource), step, Barrier())
    assert plan.events[1:] == (Event("Normal", "SquatterUnblocked", NAME, f"{PORT} is enabled again"),)
    assert plan_finish(site.cloud.world, site.r).steps == (step, DropRecord(site.r))
    failed = site.r.with_(state=State.FAILED)
    assert plan_release(site.cloud.world, failed, context()).steps == (step, DropRecord(failed))


def test_what_failed_blocks_nobody(site: Site) -> None:
    uuid = site.port(f"{MAC} 10.0.0.9")
    site.settle()
    site.cloud.world.put(site.r.with_(state=State.FAILED))
    assert [event.reason for event in site.settle()] == ["SquatterUnblocked"]
    assert (site.enabled(uuid), site.r.blocked) == (None, {})


@pytest.mark.parametrize("state", [State.INTENDED, State.RELEASING])
def test_what_is_not_held_changes_nothing(site: Site, state: State) -> None:
    site.port(f"{MAC} 10.0.0.9")
    site.cloud.world.put(site.r.with_(state=state))
    assert site.plan() == Plan("unchanged")


# ---- what is noted survives ------------------------------------------------------------------------------------------


def test_the_record_says_what_is_blocked(site: Site) -> None:
    site.port(f"{MAC} 10.0.0.9")
    site.settle()
    assert reservation_of(external_ids_of(site.r)) == site.r
    assert '"blocked"' in external_ids_of(site.r)["ovnreserve/record"]
    assert '"blocked"' not in external_ids_of(reservation("s"))["ovnreserve/record"]


@pytest.mark.parametrize("standing", [({"a": 5}, {"a": 5}), ({"a": 4}, {"a": 5}), ({"a": 5, "b": 1}, {"a": 5})])
@pytest.mark.parametrize("state", [State.HELD, State.RELEASING])
@pytest.mark.parametrize(("ledger", "record"), [({}, {"p": "absent"}), ({"p": "absent"}, {})])
def test_after_a_crash_it_is_as_the_record_says_whatever_had_been_intended(
    standing: tuple[dict[str, int], dict[str, int]], state: State, ledger: Any, record: Any
) -> None:
    ours = reservation("s", state=state, blocked=ledger, deleted=None if state is State.HELD else 1)
    theirs = reservation("s", blocked=record)
    verdicts = reconcile([ours], {ours.name: theirs}, Standing(*standing), lambda _uid: False)
    assert [put.blocked for put in verdicts.puts][-1] == record


def test_where_the_record_is_lost_a_port_that_is_enabled_was_not_blocked(site: Site) -> None:
    blocked = site.port(f"{MAC} 10.0.0.9", enabled=False)
    enabled = site.port("0a:00:00:00:00:02 10.0.0.9", name="q")
    site.cloud.world.put(site.r.with_(blocked={blocked: "true", enabled: "absent", "gone": "absent"}))
    plan = plan_resume(site.cloud.world, site.r, context())
    [step] = plan.steps
    assert isinstance(step, PutRecord)
    assert plan.resource == step.resource == site.r.with_(blocked={blocked: "true"})


# ---- whatever happens ------------------------------------------------------------------------------------------------

NAMES = ("vm-0.default", "vm-1.default", "vm-2.default")
_ADDRESSES = (f"{MAC} 10.0.0.10", f"{MAC} 10.0.0.11", f"{MAC} 10.0.0.10 10.0.0.11", "02:6f:76:00:00:02 10.0.0.10",
              f"{MAC} 10.0.0.77", "dynamic")  # fmt: skip
_ACTS = st.one_of(
    st.tuples(st.just("addresses"), st.sampled_from("pqs"), st.sampled_from(_ADDRESSES)),
    st.tuples(st.just("type"), st.sampled_from("pqs"), st.sampled_from(["", "router"])),
    st.tuples(st.just("enabled"), st.sampled_from("pqs"), st.sampled_from([None, True, False])),
    st.tuples(st.just("enabled and off"), st.sampled_from("pqs"), st.sampled_from([None, True])),
    st.tuples(st.just("state"), st.sampled_from(NAMES), st.sampled_from([State.HELD, State.FAILED])),
    st.tuples(st.just("block"), st.none(), st.booleans()),
    st.tuples(st.just("look"), st.permutations(NAMES), st.sampled_from(["one by one", "at once", "in vain"])),
)


class Life(Site):
    """Ports of which somebody else wants each to be enabled as in `wish`, and a daemon that looks now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.cloud.world.drop(NAME)
        for number, name in enumerate(NAMES):
            self.cloud.reserve(self.switch, name, v4=f"10.0.0.1{number}", mac=f"02:6f:76:00:00:0{number}")
        self.ports = {name: self.port("dynamic", name=name) for name in "pqs"}
        self.wish: dict[str, bool | None] = dict.fromkeys(self.ports)
        self.block = True

    def reservations(self) -> list[Reservation]:
        return [self.cloud.world.reservations[name] for name in NAMES]

    def is_blocked(self, port: str) -> bool:
        return any(r.blocked.get(self.ports[port], "overridden") != "overridden" for r in self.reservations())

    def act(self, what: str, whom: Any, value: Any) -> None:
        match what:
            case "addresses":
                self.change(self.ports[whom], addresses=frozenset({value}))
            case "type":
                self.change(self.ports[whom], type=value)
            case "enabled" if value is not False or not self.is_blocked(whom):
                self.change(self.ports[whom], enabled=value)
                self.wish[whom] = value
            case "enabled and off":
                self.change(self.ports[whom], enabled=value, addresses=frozenset({f"{MAC} 10.0.0.77"}))
                self.wish[whom] = value
            case "state":
                self.cloud.world.put(self.cloud.world.reservations[whom].with_(state=value))
            case "block":
                self.block = value
            case "look":
                self.look(whom, value)

    def look(self, names: Any, how: str) -> None:
        before, plans = self.reservations(), []
        for name in names:
            plan = plan_squatters(self.cloud.world, self.cloud.world.reservations[name], context(), block=self.block)
            for step in plan.steps:
                if isinstance(step, SetEnabled) and step.enabled is False:
                    assert self.cloud.world.ports[step.port].type == ""
            if plan.resource is not None:
                self.cloud.world.put(plan.resource)
            plans.append(plan)
            if how == "one by one":
                self.carry_out(plan)
        if how == "at once":
            self.carry_out(*plans)
        elif how == "in vain":
            for r in before:
                self.cloud.world.put(r)
        for name, uuid in self.ports.items():
            assert self.enabled(uuid) == self.wish[name] or self.is_blocked(name)
            assert how == "in vain" or self.enabled(uuid) is False or not self.is_blocked(name)


@settings(max_examples=100)
@given(st.lists(_ACTS, min_size=15, max_size=40), st.permutations(NAMES))
def test_who_is_not_blocked_is_never_touched_and_in_the_end_everybody_has_what_they_had(
    acts: list[tuple[str, Any, Any]], names: list[str]
) -> None:
    life = Life()
    for act in acts:
        life.act(*act)
    for _ in range(3):  # unblocked by one, blocked by the next, and noted by the last
        life.look(names, "at once")
    for name in names:
        assert life.plan(name, block=life.block) == Plan("unchanged"), "it comes to rest"
    for number, uuid in enumerate(life.ports.values()):
        life.change(uuid, addresses=frozenset({f"{MAC} 10.0.0.5{number}"}))
    life.look(names, "at once")
    assert {name: life.enabled(uuid) for name, uuid in life.ports.items()} == life.wish
    assert [r.blocked for r in life.reservations()] == [{}, {}, {}]
    assert contents(life.cloud.world) == contents(life.cloud.rebuilt())
