"""The engine's own tasks: what others did to the database becomes work, once, and planned when its turn comes."""

from __future__ import annotations

from typing import Any

import pytest
from builders import MAC, Cloud, context, reservation, row_of, uuid_of

from ovnreserve.engine.tasks import Tasks
from ovnreserve.engine.work import Work
from ovnreserve.model.addresses import parse_v4
from ovnreserve.model.errors import NotFound
from ovnreserve.model.owner import STATEFUL_SET
from ovnreserve.model.reservation import Reservation, external_ids_of
from ovnreserve.model.resource import RECORD, State
from ovnreserve.model.steps import (
    Barrier,
    DropRecord,
    MembersUnchanged,
    PutRecord,
    SetEnabled,
    Step,
    UpdateRecord,
    WriteAddresses,
    WriteExcludes,
)
from ovnreserve.plan.identity import POD_TYPE
from ovnreserve.plan.outcome import Plan
from ovnreserve.plan.reconcile import Verdicts

NAME = "vm-1.default"
INFINITE = float("inf")
NOTHING = Verdicts([], [], [], [], [], [], [])


class Site:
    """A held reservation with its record and its exclusion, and the tasks of a daemon that follows."""

    def __init__(self, **fields: Any) -> None:
        self.cloud = Cloud()
        self.switch = self.cloud.switch()
        self.r: Reservation = self.cloud.reserve(self.switch, **fields)
        self.record = self.cloud.record(self.r)
        self.cloud.write_excludes(self.switch)
        self.cloud.replica.take_records()
        self.tasks = Tasks(self.cloud.world, self.cloud.replica)

    def port(self, name: str, *addresses: str, **columns: Any) -> str:
        """A port that comes while the daemon looks."""
        uuid = self.cloud.port(self.switch, name, **columns)
        self.change("Logical_Switch_Port", uuid, addresses=frozenset(addresses))
        return uuid

    def change(self, table: str, uuid: str, **columns: Any) -> None:
        touched = self.cloud.change(table, uuid, **columns)
        self.tasks.look_at(touched, self.cloud.replica.take_records())

    def delete(self, table: str, uuid: str) -> None:
        del self.cloud.tables[table][uuid]
        self.tasks.look_at(self.cloud.sync(), self.cloud.replica.take_records())

    def rewrite_excludes(self) -> None:
        config = {**self.cloud.tables["Logical_Switch"][self.switch]["other_config"], "exclude_ips": "10.0.0.1"}
        self.change("Logical_Switch", self.switch, other_config=config)

    def take(self) -> list[Work]:
        return list(self.tasks.take())

    def planned(self) -> list[list[type[Step]]]:
        """Which steps each task comes to; then all are done."""
        works = self.take()
        kinds = [[type(step) for step in work.plan(context(patient=False)).steps] for work in works]
        for work in works:
            self.tasks.done(work)
        return kinds


@pytest.fixture
def site() -> Site:
    return Site()


# ---- what becomes work -----------------------------------------------------------------------------------------------


def test_where_nothing_happened_nothing_is_to_be_done(site: Site) -> None:
    assert site.tasks.due == INFINITE
    assert site.take() == []


def test_a_switch_that_is_back_has_the_records_written_that_are_missing(site: Site) -> None:
    row = site.cloud.tables["Logical_Switch"].pop(site.switch)
    site.delete("DNS", site.record)
    assert site.planned() == [[]], "it waits for its switch"
    site.cloud.tables["Logical_Switch"][site.switch] = row
    site.tasks.look_at(site.cloud.sync(), site.cloud.replica.take_records())
    assert site.planned() == [[PutRecord]]


def test_a_reservations_port_that_comes_is_bound(site: Site) -> None:
    site.port(NAME, "dynamic")
    assert site.tasks.due == 0
    assert site.planned() == [[WriteAddresses]]
    assert site.tasks.due == INFINITE


def test_however_many_ports_are_to_be_retained_they_are_looked_at_some_at_a_time(site: Site) -> None:
    members = {f"db-{ordinal}.shop" for ordinal in range(2500)}
    ports = {uuid_of(1000 + at): name for at, name in enumerate(sorted(members))}
    ids, addresses = {POD_TYPE: STATEFUL_SET}, frozenset({f"{MAC} 10.0.0.7"})
    tables = site.cloud.tables
    for uuid, name in ports.items():
        row = row_of("Logical_Switch_Port", name=name, addresses=addresses, external_ids=ids)
        tables["Logical_Switch_Port"][uuid] = row
    tables["Logical_Switch"][site.switch]["ports"] |= ports.keys()
    site.tasks.look_at(site.cloud.sync(), ())
    first = {work.name for work in site.take()}
    assert first < members
    assert site.tasks.due == 0, "there is more"
    assert first | {work.name for work in site.take()} == members
    assert site.tasks.due == INFINITE


@pytest.mark.parametrize(("name", "addresses"), [("other", "dynamic"), (NAME, f"{MAC} 10.0.0.5"), (NAME, "unknown")])
def test_a_port_that_is_not_to_be_written_is_no_work(site: Site, name: str, addresses: str) -> None:
    site.port(name, addresses)
    assert site.planned() == []


def test_a_squatter_is_work_until_it_is_blocked_and_when_it_leaves(site: Site) -> None:
    site.port("squatter", f"{MAC} 10.0.0.9")
    assert site.planned() == [], "it is only reported"
    site.tasks = Tasks(site.cloud.world, site.cloud.replica, block=True)
    port = site.port("another", f"{MAC} 10.0.0.9")
    [work] = site.take()
    plan = work.plan(context())
    assert [type(step) for step in plan.steps] == [SetEnabled, SetEnabled, UpdateRecord]
    assert plan.resource is not None
    site.cloud.world.put(plan.resource)
    site.tasks.done(work)
    for step in plan.steps[:2]:
        assert isinstance(step, SetEnabled)
        site.change("Logical_Switch_Port", step.port, enabled=False)
    assert site.planned() == []
    site.delete("Logical_Switch_Port", port)
    assert site.planned() == [[UpdateRecord]]
    site.tasks.follow(NOTHING)
    assert site.planned() == [[UpdateRecord]], "comparing finds it again"


def test_a_port_that_came_before_its_reservation_was_held_is_bound_then() -> None:
    site = Site(state=State.INTENDED)
    site.port(NAME, "dynamic")
    assert site.planned() == []
    site.cloud.world.put(site.r.with_(state=State.HELD))
    site.tasks.look_after([NAME], [])
    assert site.planned() == [[WriteAddresses]]


def test_exclude_ips_that_somebody_rewrote_are_repaired_before_anything_is_written_there(site: Site) -> None:
    site.rewrite_excludes()
    [work] = site.take()
    assert work.repairs == site.switch
    assert [type(step) for step in work.plan(context()).steps] == [WriteExcludes, MembersUnchanged]


def test_a_withheld_address_is_looked_at_again_when_the_port_that_has_it_changes(site: Site) -> None:
    thief = site.cloud.port(site.switch, "thief", "dynamic", assigned=f"{MAC} 10.0.0.9")
    site.cloud.segment(site.switch).withhold(frozenset({parse_v4("10.0.0.9")}))
    site.cloud.write_excludes(site.switch)
    site.tasks.look_at(site.cloud.delete_port(thief), ())
    assert site.planned() == [[WriteExcludes]]


def test_a_record_that_somebody_deleted_or_changed_is_written_again(site: Site) -> None:
    ids = external_ids_of(site.r)
    by_hand = external_ids_of(site.r.with_(labels={"by": "hand"}))
    for spoilt in ({**ids, RECORD: "{"}, by_hand, {}):
        site.change("DNS", site.record, external_ids=spoilt)
        assert site.planned() == [[PutRecord]], spoilt
        site.change("DNS", site.record, external_ids=ids)
        assert site.planned() == []
    site.delete("DNS", site.record)
    assert site.planned() == [[PutRecord]]


@pytest.mark.parametrize(
    ("state", "needed"), [(State.INTENDED, False), (State.RELEASING, False), (State.HELD, True), (State.FAILED, True)]
)
def test_what_is_held_or_has_failed_needs_its_record(state: State, needed: bool) -> None:
    site = Site(state=state)
    site.delete("DNS", site.record)
    assert site.planned() == ([[PutRecord]] if needed else [])


def test_what_we_have_written_is_looked_at_again_and_is_no_news_if_it_stands(site: Site) -> None:
    site.tasks.look_after([NAME], [site.switch])
    assert site.planned() == []


def test_what_somebody_undid_in_the_moment_we_wrote_it_is_done_again(site: Site) -> None:
    before = dict(site.cloud.tables["Logical_Switch"][site.switch]["other_config"])
    site.cloud.change("Logical_Switch", site.switch, other_config={**before, "exclude_ips": "10.0.0.1"})
    del site.cloud.tables["DNS"][site.record]
    site.cloud.sync()
    site.cloud.replica.take_records()
    site.tasks.look_after([NAME], [site.switch])
    kinds = site.planned()
    assert any(PutRecord in steps for steps in kinds)
    assert any(WriteExcludes in steps for steps in kinds)


def test_a_record_of_somebody_elses_is_none_of_our_business(site: Site) -> None:
    other = reservation(site.switch, "other.default")
    site.cloud.record(other)
    site.tasks.look_at(site.cloud.sync(), site.cloud.replica.take_records())
    assert site.planned() == []


# ---- once ------------------------------------------------------------------------------------------------------------


def test_what_is_asked_for_again_while_it_waits_or_is_under_way_is_done_once(site: Site) -> None:
    port = site.port(NAME, "dynamic")
    site.change("Logical_Switch_Port", port, up=True)
    [work] = site.take()
    site.change("Logical_Switch_Port", port, up=False)
    assert site.take() == []
    site.tasks.done(work)
    site.change("Logical_Switch_Port", port, up=True)
    assert len(site.take()) == 1


def test_one_task_for_a_reservation_does_not_swallow_another(site: Site) -> None:
    """While its bind is being planned again, its record goes."""
    site.port(NAME, "dynamic")
    [bind] = site.take()
    site.delete("DNS", site.record)
    [resume] = site.take()
    assert [type(step) for step in resume.plan(context()).steps] == [PutRecord, WriteAddresses]
    site.tasks.done(bind)
    site.tasks.done(resume)


def test_a_task_is_planned_in_the_world_as_it_is_when_its_turn_comes(site: Site) -> None:
    port = site.port(NAME, "dynamic")
    [bind] = site.take()
    site.cloud.delete_port(port)
    assert bind.plan(context()).result == "unchanged"
    site.rewrite_excludes()
    site.delete("DNS", site.record)
    works = site.take()
    site.cloud.world.drop(NAME)
    del site.cloud.tables["Logical_Switch"][site.switch]
    site.cloud.sync()
    assert {work.plan(context()).result for work in works} == {"unchanged"}


# ---- after a comparison ----------------------------------------------------------------------------------------------


def test_what_a_comparison_asks_for_is_done_and_every_port_and_switch_looked_at(site: Site) -> None:
    site.cloud.reserve(site.switch, "going.default", v4="10.0.0.10", mac="02:6f:76:00:00:10", state=State.RELEASING)
    stray = reservation(site.switch, "stray.default", uid="stray")
    site.cloud.port(site.switch, NAME, "dynamic")
    site.tasks.follow(NOTHING._replace(resume=[NAME], finish=["going.default"], remove=[stray]))
    kinds = site.planned()
    assert sorted(kinds, key=str) == sorted(
        [[PutRecord, WriteAddresses], [WriteAddresses], [Barrier], [DropRecord], [WriteExcludes]], key=str
    )


def test_a_release_that_is_found_waits_for_northd_before_its_end() -> None:
    """Whoever began it may have died before ovn-northd had seen that."""
    site = Site(state=State.RELEASING, deleted=5)
    site.tasks.follow(NOTHING._replace(finish=[NAME]))
    [work] = site.take()
    assert work.plan(context()) == Plan("deleted", site.r, (Barrier(),))


def test_a_release_of_which_the_first_transaction_was_lost_begins_again() -> None:
    site = Site(state=State.RELEASING, deleted=5)
    site.tasks.follow(NOTHING._replace(release=[NAME]))
    [work] = site.take()
    plan = work.plan(context())
    assert [type(step) for step in plan.steps] == [UpdateRecord, Barrier]
    assert plan.resource is not None
    assert plan.resource.deleted == 5


def test_a_release_that_northd_has_seen_is_finished_once() -> None:
    site = Site(state=State.RELEASING, deleted=5)
    gone = site.r.with_(name="gone.default", uid="gone")
    another = site.r.with_(uid="another")
    site.tasks.release_seen([site.r])
    site.tasks.release_seen([site.r, gone, another])
    assert site.planned() == [[DropRecord], [], []]


def test_a_port_that_came_while_an_ip_of_its_name_was_released_is_retained_once_that_is_gone() -> None:
    site = Site(state=State.RELEASING, deleted=5)
    site.port(NAME, f"{MAC} 10.0.0.5", ids={"ovnreserve/pod-type": "StatefulSet"})
    assert site.planned() == []
    site.cloud.world.drop(NAME)
    site.tasks.told([NAME])
    [work] = site.take()
    plan = work.plan(context())
    assert plan.resource is not None
    assert (plan.resource.name, [event.reason for event in plan.events][:1]) == (NAME, ["Retained"])


def test_why_an_ip_is_not_retained_is_said_once_for_each_port_of_its_name(site: Site) -> None:
    said = []
    for _ in range(2):
        port = site.port("web-0.default", f"{MAC} 10.0.0.9", ids={"ovnreserve/pod-type": "StatefulSet"})
        for _ in range(2):
            site.tasks.told(["web-0.default"])
            for work in site.take():
                said.append([event.reason for event in work.plan(context()).events])
                site.tasks.done(work)
        site.cloud.delete_port(port)
        site.tasks.told(["web-0.default"])
        assert site.take() == []
    assert said == [["NotRetained"], [], ["NotRetained"], []]


def test_deleting_what_does_not_exist_is_not_found(site: Site) -> None:
    with pytest.raises(NotFound, match=r'ips\.kubeovn\.io "gone\.default" not found'):
        site.tasks.release("gone.default", context())
    assert site.tasks.release(NAME, context()).result == "deleted"
