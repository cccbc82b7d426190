"""A batch: plans put into the world one after the other, and all of it taken back."""

from __future__ import annotations

from random import Random

import pytest
from builders import Cloud, contents, context, wanted
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnreserve.engine.batch import Batch
from ovnreserve.engine.work import Work
from ovnreserve.model.addresses import parse_v4
from ovnreserve.model.errors import Refused
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.model.steps import Barrier, DropRecord, PutRecord, UpdateRecord, WriteExcludes
from ovnreserve.plan.bind import plan_bind
from ovnreserve.plan.outcome import Defer, Event, Plan
from ovnreserve.plan.patch import Patch
from ovnreserve.plan.release import plan_drop, plan_release
from ovnreserve.plan.repair import plan_repair, plan_resume
from ovnreserve.plan.reserve import plan_apply, plan_create
from ovnreserve.plan.squatters import plan_squatters
from ovnreserve.plan.update import plan_patch

NOW = 2_000_000_000.0
NAMES = [f"vm-{number}.default" for number in range(5)]


def work(name: str) -> Work:
    return Work(name, lambda _context: Plan("unchanged"))


def accept(batch: Batch, plan: Plan, name: str = "vm-1.default", *, needs_barrier: bool = False) -> None:
    batch.accept(work(name), plan, NOW, needs_barrier=needs_barrier)


# ---- taking back -----------------------------------------------------------------------------------------------------


def a_world(random: Random) -> Cloud:
    """A small, nearly full subnet with ports and reservations in every state, some withheld, some in quarantine."""
    cloud = Cloud()
    switch = cloud.switch(subnet="10.0.0.0/28", v6="fd00::/64")
    for number, name in enumerate(NAMES):
        if random.random() < 0.6:
            v4 = f"10.0.0.{number + 3}" if random.random() < 0.8 else None
            v6 = f"fd00::{number + 3}" if v4 is None or random.random() < 0.5 else None
            state = random.choice([State.HELD, State.HELD, State.INTENDED, State.RELEASING, State.FAILED])
            cloud.reserve(switch, name, v4=v4, v6=v6, mac=f"02:6f:76:00:00:0{number}", state=state)
        if random.random() < 0.4:
            mac = f"0a:00:00:00:00:0{number}"
            assigned = random.choice([None, f"{mac} 10.0.0.{random.randrange(3, 9)}"])
            cloud.port(switch, name, random.choice(["dynamic", f"{mac} 10.0.0.1{number % 4}"]), assigned=assigned)
    segment = cloud.segment(switch)
    reserved = sorted(address for family, address in segment.reserved if family == 4)
    segment.withhold(frozenset(random.sample(reserved, random.randrange(len(reserved) + 1))))
    for octet in range(2, 15):
        if random.random() < 0.2:
            cloud.world.quarantine(switch, 4, parse_v4(f"10.0.0.{octet}"), NOW - octet)
    return cloud


def some_plan(cloud: Cloud, name: str, random: Random) -> Plan:
    world = cloud.world
    r = world.reservations.get(name)
    [segment] = world.segments.values()
    given_v4 = random.choice([None, None, f"10.0.0.{random.randrange(2, 15)}"])
    document = wanted(name, v4=given_v4, labels={"color": random.choice(["red", "blue"])})
    now = context(patient=random.random() < 0.2)
    labels: dict[str, str | None] = {"color": random.choice(["red", "green", None])}
    plans = [
        lambda: plan_apply(world, document, now),
        lambda: plan_create(world, document, now),
        lambda: plan_patch(world, Patch(name, labels, {}), now),
        lambda: plan_repair(world, world.settled(segment), now),
    ]
    if r is not None:
        plans += [
            lambda: plan_release(world, r, now),
            lambda: plan_drop(world, r),
            lambda: plan_resume(world, r, now),
            lambda: plan_squatters(world, r, now, block=random.random() < 0.8),
            lambda: plan_bind(world, r),
        ]
    return random.choice(plans)()


@settings(max_examples=300)
@given(seed=st.integers(0, 1 << 32), names=st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
def test_accepting_any_plans_and_undoing_them_leaves_the_world_as_it_was(seed: int, names: list[str]) -> None:
    random = Random(seed)
    cloud = a_world(random)
    before = contents(cloud.world)
    batch = Batch(cloud.world)
    for name in names:
        planned = contents(cloud.world)
        try:
            plan = some_plan(cloud, name, random)
        except (Refused, Defer):
            continue
        finally:
            assert contents(cloud.world) == planned, "planning changes nothing"
        accept(batch, plan, name)
    batch.undo()
    assert contents(cloud.world) == before


def test_undoing_survives_a_switch_that_went_meanwhile() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    cloud.reserve(switch)
    batch = Batch(cloud.world)
    accept(batch, plan_create(cloud.world, wanted("vm-2.default"), context()), "vm-2.default")
    accept(batch, Plan("repaired", None, (WriteExcludes(switch, frozenset({parse_v4("10.0.0.9")})),)), switch)
    del cloud.tables["Logical_Switch"][switch]
    cloud.sync()
    batch.undo()
    assert set(cloud.world.reservations) == {"vm-1.default"}


def test_undoing_survives_a_switch_that_came_again_meanwhile() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    cloud.reserve(switch)
    batch = Batch(cloud.world)
    accept(batch, Plan("repaired", None, (WriteExcludes(switch, frozenset({parse_v4("10.0.0.9")})),)), switch)
    row = cloud.tables["Logical_Switch"].pop(switch)
    cloud.sync()
    cloud.tables["Logical_Switch"][switch] = row
    cloud.sync()
    batch.undo()
    assert cloud.segment(switch).excluded.text() == "10.0.0.9"


# ---- what a batch comes to -------------------------------------------------------------------------------------------


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def test_the_next_plan_sees_what_the_one_before_will_do(cloud: Cloud) -> None:
    cloud.switch(subnet="10.0.0.0/29")
    batch = Batch(cloud.world)
    taken = []
    for name in NAMES[:2]:
        plan = plan_create(cloud.world, wanted(name), context())
        accept(batch, plan, name)
        assert plan.resource is not None
        taken.append(plan.resource.addresses)
    assert taken == [("10.0.0.6",), ("10.0.0.5",)]


def test_the_text_of_each_switch_that_loses_or_gets_an_address_is_written_once(cloud: Cloud) -> None:
    switch, other = cloud.switch(), cloud.switch("other")
    leaving = cloud.reserve(switch, state=State.RELEASING)
    cloud.reserve(other, "vm-9.default", subnet="other")
    batch = Batch(cloud.world)
    accept(batch, plan_drop(cloud.world, leaving))
    accept(batch, plan_create(cloud.world, wanted("vm-2.default", v4="10.0.0.20"), context()), "vm-2.default")
    assert batch.excludes() == {switch: "10.0.0.20"}
    assert batch.switches == {switch}


def test_a_reservation_without_ipv4_touches_nobodys_exclude_ips(cloud: Cloud) -> None:
    cloud.switch(subnet=None, v6="fd00::/64")
    batch = Batch(cloud.world)
    accept(batch, plan_create(cloud.world, wanted(), context()))
    assert batch.excludes() == {}


def test_a_withheld_address_stays_withheld_when_its_reservation_is_labelled(cloud: Cloud) -> None:
    switch = cloud.switch()
    r = cloud.reserve(switch)
    cloud.segment(switch).withhold(frozenset({parse_v4("10.0.0.9")}))
    batch = Batch(cloud.world)
    accept(batch, plan_patch(cloud.world, Patch(r.name, {"color": "red"}, {}), context()))
    assert cloud.world.reservations[r.name].labels == {"color": "red"}
    assert batch.excludes() == {switch: ""}
    accept(batch, plan_release(cloud.world, cloud.world.reservations[r.name], context()))
    assert batch.excludes() == {switch: ""}


def test_a_released_address_is_in_quarantine_even_where_nobody_had_asked_about_the_switch(cloud: Cloud) -> None:
    switch = cloud.switch(subnet="10.0.0.0/29")
    leaving = cloud.reserve(switch, v4="10.0.0.6", state=State.RELEASING)
    accept(Batch(cloud.world), plan_drop(cloud.world, leaving))
    plan = plan_create(cloud.world, wanted("vm-2.default"), context())
    assert plan.resource is not None
    assert plan.resource.addresses == ("10.0.0.5",)


def test_what_the_ledger_gets_before_the_database_is_touched(cloud: Cloud) -> None:
    switch = cloud.switch()
    kept, failed = cloud.reserve(switch), cloud.reserve(switch, "vm-2.default", state=State.FAILED)
    batch = Batch(cloud.world)
    created = plan_create(cloud.world, wanted("vm-3.default"), context())
    accept(batch, created, "vm-3.default")
    accept(batch, Plan("unchanged", kept))
    accept(batch, plan_release(cloud.world, failed, context()), failed.name)
    assert batch.puts() == [created.resource]
    assert batch.drops() == ["vm-2.default"]
    assert batch.before == {"vm-3.default": None, "vm-2.default": failed}


def test_before_is_what_was_before_the_first_of_several_plans(cloud: Cloud) -> None:
    r = cloud.reserve(cloud.switch())
    batch = Batch(cloud.world)
    for color in ("red", "blue"):
        accept(batch, plan_patch(cloud.world, Patch(r.name, {"color": color}, {}), context()))
    assert batch.before == {r.name: r}
    batch.undo()
    assert cloud.world.reservations[r.name] is r


def test_what_one_plan_lets_go_another_of_the_same_batch_has_to_wait_for(cloud: Cloud) -> None:
    """The ledger lets go once the database has, and will not have it twice."""
    switch = cloud.switch()
    batch = Batch(cloud.world)
    leaving = cloud.reserve(switch, v6="fd00::9", state=State.RELEASING)
    fields: list[dict[str, str]] = [{"v4": "10.0.0.9"}, {"mac": leaving.mac}, {"v4": "10.0.0.10"}, {}]
    accept(batch, plan_drop(cloud.world, leaving))
    plans = [plan_create(cloud.world, wanted("vm-2.default", **given_), context()) for given_ in fields]
    assert [batch.has_to_wait(plan) for plan in plans] == [True, True, False, False]
    assert not any(Batch(cloud.world).has_to_wait(plan) for plan in plans)


def test_what_would_write_exclude_ips_of_a_switch_waits_for_its_repair(cloud: Cloud) -> None:
    switch = cloud.switch()
    r = cloud.reserve(cloud.switch("other"), "vm-3.default")
    batch = Batch(cloud.world)
    batch.unrepaired.add(switch)
    assert batch.has_to_wait(plan_create(cloud.world, wanted("vm-2.default"), context()))
    assert not batch.has_to_wait(plan_patch(cloud.world, Patch(r.name, {"a": "b"}, {}), context()))
    assert not batch.has_to_wait(Plan("unchanged"))


def test_a_barrier_is_asked_for_by_a_step_or_by_a_client_that_waits(cloud: Cloud) -> None:
    cloud.switch()
    nobody, client, step = Batch(cloud.world), Batch(cloud.world), Batch(cloud.world)
    accept(nobody, Plan("unchanged"))
    accept(client, Plan("unchanged"), needs_barrier=True)
    accept(step, Plan("deleted", None, (Barrier(),)))
    assert (nobody.barrier, client.barrier, step.barrier) == (False, True, True)


def test_steps_go_with_the_name_of_the_request_they_are_for(cloud: Cloud) -> None:
    r = cloud.reserve(cloud.switch())
    batch = Batch(cloud.world)
    assert not batch
    accept(batch, Plan("configured", r, (UpdateRecord(r),)), "a")
    accept(batch, Plan("created", r, (PutRecord(r),)), "b")
    accept(batch, Plan("released", None, (DropRecord(r),)), "c")
    assert batch
    assert batch.steps == [("a", UpdateRecord(r)), ("b", PutRecord(r)), ("c", DropRecord(r))]


def test_the_journal_names_the_uid_of_what_went_and_of_what_came(cloud: Cloud) -> None:
    switch = cloud.switch()
    leaving: Reservation = cloud.reserve(switch, state=State.RELEASING)
    batch = Batch(cloud.world)
    accept(batch, plan_drop(cloud.world, leaving))
    created = plan_create(cloud.world, wanted("vm-2.default"), context())
    accept(batch, created, "vm-2.default")
    accept(batch, Plan("repaired", None, (), (Event("Warning", "Withheld", "vm-9.default", "?"),)), switch)
    lines = [(entry.at, entry.reason, entry.name, entry.uid) for entry in batch.entries(NOW)]
    assert created.resource is not None
    assert lines == [
        (NOW, "Released", "vm-1.default", leaving.uid),
        (NOW, "Reserved", "vm-2.default", created.resource.uid),
        (NOW, "Withheld", "vm-9.default", ""),
    ]


def test_releases_of_unknown_outcome_are_put_back_alone(cloud: Cloud) -> None:
    switch = cloud.switch()
    leaving = cloud.reserve(switch, state=State.RELEASING)
    batch = Batch(cloud.world)
    accept(batch, plan_drop(cloud.world, leaving))
    accept(batch, plan_create(cloud.world, wanted("vm-2.default"), context()), "vm-2.default")
    batch.undo_released()
    assert cloud.world.reservations["vm-1.default"] == leaving
    assert cloud.world.reservations["vm-2.default"].state is State.INTENDED


def test_what_failed_is_not_given_back_over_who_has_the_address() -> None:
    cloud = Cloud()
    switch = cloud.switch()
    winner = cloud.reserve(switch, "winner.default")
    failed = cloud.reserve(switch, "vm-1.default", v4="10.0.0.9", mac=winner.mac, state=State.FAILED)
    assert failed.addresses == winner.addresses
    cloud.port(switch, "vm-1.default", failed.port_addresses)
    plan = plan_patch(cloud.world, Patch("vm-1.default", {}, {}, reserved=False), context())
    batch = Batch(cloud.world)
    before = contents(cloud.world)
    accept(batch, plan)
    assert cloud.world.resource("vm-1.default") is None
    assert cloud.segment(switch).reserved == {(4, winner.v4): "winner.default"}
    batch.undo()
    assert contents(cloud.world) == before
