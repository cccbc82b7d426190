"""Pools on worlds without servers: what becomes of a document, what is excluded, and whose an address is."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from builders import MAC, Cloud, contents, context, pool, reservation, uuid_of, wanted, wanted_pool
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ovnreserve.engine.batch import Batch
from ovnreserve.engine.work import Work
from ovnreserve.model.addresses import format_v4, parse_v4, parse_v6
from ovnreserve.model.errors import AlreadyExists, Conflict, Invalid, NoAvailableAddress
from ovnreserve.model.exclude_ips import TokenRuns, parse
from ovnreserve.model.pool import IP_POOL, Pool, WantedPool, format_ranges, pool_ids, pool_of, read_pool
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Dot, State
from ovnreserve.model.runs import Runs
from ovnreserve.model.steps import (
    Barrier,
    DropRecord,
    MembersUnchanged,
    PutRecord,
    UpdateRecord,
    WriteAddresses,
    WriteExcludes,
)
from ovnreserve.plan.outcome import Defer, Event, Plan
from ovnreserve.plan.pool_status import PoolStatus, describe_pool, remark
from ovnreserve.plan.pooled import Pools
from ovnreserve.plan.pools import plan_pool, plan_pool_patch
from ovnreserve.plan.reconcile import reconcile
from ovnreserve.plan.rehome import plan_rehome
from ovnreserve.plan.release import plan_finish, plan_release
from ovnreserve.plan.repair import plan_repair, plan_resume
from ovnreserve.plan.reserve import plan_create
from ovnreserve.plan.revision import Relation, standing
from ovnreserve.plan.update import Patch

RANGE = "10.0.0.10..10.0.0.13"
NAME = "vm-1.red"


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def make(cloud: Cloud, asked: WantedPool, *, patient: bool = True, create: bool = False) -> Plan:
    """Plan it, and prove that planning changes nothing."""
    before = contents(cloud.world)
    try:
        return plan_pool(cloud.world, asked, context(patient=patient), create=create)
    finally:
        assert contents(cloud.world) == before


def carried_out(cloud: Cloud, plan: Plan, name: str = "ippool/pool-1") -> None:
    """Make the world what it is once the plan has been committed."""
    batch = Batch(cloud.world)
    batch.accept(Work(name, lambda _context: plan), plan, 5.0, needs_barrier=False)


def reserve(cloud: Cloud, name: str = NAME, **fields: Any) -> Plan:
    before = contents(cloud.world)
    try:
        return plan_create(cloud.world, wanted(name, **fields), context())
    finally:
        assert contents(cloud.world) == before


def chosen(cloud: Cloud, name: str = NAME, **fields: Any) -> Reservation:
    r = reserve(cloud, name, **fields).resource
    assert isinstance(r, Reservation)
    return r


def numbers(*texts: str) -> frozenset[int]:
    return frozenset(parse_v4(text) for text in texts)


# ---- documents and records -----------------------------------------------------------------------------------------


def document(**spec: Any) -> dict[str, Any]:
    given = {"subnet": "net", "ips": [RANGE], **spec}
    return {"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": "pool-1"}, "spec": given}


def test_ranges_are_merged_however_they_are_written() -> None:
    read = read_pool(document(ips=["10.0.0.4/30", "10.0.0.8", "10.0.0.1 .. 10.0.0.4", "fd00::/126", "FD00:0::4"]))
    assert format_ranges(4, read.v4) == ("10.0.0.1..10.0.0.8",)
    assert format_ranges(6, read.v6) == ("fd00::..fd00::4",)
    assert (read.name, read.namespaces) == ("ippool/pool-1", ())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.9..10.0.0.5", "must not end before it begins"),
        ("10.0.0.5-10.0.0.9", "must be an address, a CIDR or ADDRESS..ADDRESS"),
        ("10.0.0.5..fd00::9", "must be an address, a CIDR or ADDRESS..ADDRESS"),
        ("10.0.0.0/33", "must be an address, a CIDR or ADDRESS..ADDRESS"),
        ("", "must be an address, a CIDR or ADDRESS..ADDRESS"),
    ],
)
def test_what_is_no_range_is_named(text: str, why: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_pool(document(ips=["10.0.0.4", text]))
    assert [(cause.field, cause.message.rpartition(": ")[2]) for cause in caught.value.causes] == [("spec.ips[1]", why)]


def test_every_bad_field_of_a_document_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        read_pool(document(subnet="", ips=None, namespaces=["Red"], color="blue"))
    fields = {cause.field for cause in caught.value.causes}
    assert fields == {"spec.subnet", "spec.ips", "spec.namespaces", "spec.color"}


def test_a_record_rebuilds_the_pool() -> None:
    made = pool(uuid_of(1), RANGE, "fd00::/64", labels={"a": "b"}, annotations={"c": "d"}, generation=3)
    assert pool_of(pool_ids(made)) == made


@pytest.mark.parametrize("ips", ["x", "10.0.0.9..10.0.0.5", ""])
def test_a_record_whose_addresses_cannot_be_read_is_none(ips: str) -> None:
    ids = pool_ids(pool(uuid_of(1), RANGE))
    garbled = {**ids, "ovnreserve/record": ids["ovnreserve/record"].replace(f'"ips":["{RANGE}"]', f'"ips":["{ips}"]')}
    assert garbled != ids
    assert pool_of(garbled) is None


# ---- what becomes of a document ------------------------------------------------------------------------------------


def test_a_new_pool_is_intended_and_guarded_against_ports_that_come(cloud: Cloud) -> None:
    switch = cloud.switch()
    plan = make(cloud, wanted_pool(RANGE))
    made = plan.resource
    assert isinstance(made, Pool)
    assert made == pool(switch, RANGE, uid=made.uid, state=State.INTENDED, created=made.created, resource_version=77)
    assert (plan.result, plan.steps, plan.warnings) == ("created", (PutRecord(made), MembersUnchanged(switch)), ())
    message = f"keeps IPPool pool-1 of subnet net: {RANGE} for namespace red"
    assert plan.events == (Event("Normal", "PoolCreated", made.name, message),)


def test_a_pool_of_ipv6_addresses_concerns_no_port(cloud: Cloud) -> None:
    cloud.switch(v6="fd00::/64")
    cloud.port(next(iter(cloud.world.segments)), "pending", "dynamic")
    assert [type(step) for step in make(cloud, wanted_pool("fd00::5")).steps] == [PutRecord]


def test_while_a_port_is_pending_a_pool_waits_and_then_goes_on(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.port(switch, "pending", "dynamic")
    with pytest.raises(Defer):
        make(cloud, wanted_pool(RANGE))
    assert make(cloud, wanted_pool(RANGE), patient=False).result == "created"


def test_the_address_of_a_running_dynamic_port_is_withheld(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.port(switch, "runs", "dynamic", assigned=f"{MAC} 10.0.0.11")
    cloud.port(switch, "static", "0a:00:00:00:00:02 10.0.0.12")
    cloud.port(switch, "elsewhere", "dynamic", assigned="0a:00:00:00:00:03 10.0.0.20")
    plan = make(cloud, wanted_pool(RANGE))
    assert WriteExcludes(switch, numbers("10.0.0.11")) in plan.steps
    assert plan.warnings == ("port runs runs on 10.0.0.11, which is not excluded until it leaves",)
    assert [(event.type, event.reason) for event in plan.events] == [("Normal", "PoolCreated"), ("Warning", "Withheld")]
    carried_out(cloud, plan)
    assert cloud.segment(switch).excluded.text() == "10.0.0.10 10.0.0.12..10.0.0.13"


def test_what_is_withheld_stays_so_when_the_pool_changes_and_goes_with_its_address(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.port(switch, "runs", "dynamic", assigned=f"{MAC} 10.0.0.11")
    carried_out(cloud, make(cloud, wanted_pool(RANGE)))
    cloud.world.acknowledge(cloud.world.pools["ippool/pool-1"].with_(state=State.HELD))
    carried_out(cloud, make(cloud, wanted_pool(RANGE, namespaces=())))
    assert cloud.segment(switch).excluded.text() == "10.0.0.10 10.0.0.12..10.0.0.13"
    carried_out(cloud, make(cloud, wanted_pool("10.0.0.10..10.0.0.20")))
    assert cloud.segment(switch).withheld == numbers("10.0.0.11")
    carried_out(cloud, make(cloud, wanted_pool("10.0.0.12..10.0.0.13")))
    assert (cloud.segment(switch).withheld, cloud.segment(switch).excluded.text()) == (set(), "10.0.0.12..10.0.0.13")


def test_only_new_addresses_are_looked_at_when_a_pool_grows(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.pool(switch, RANGE)
    cloud.port(switch, "runs", "dynamic", assigned=f"{MAC} 10.0.0.15")
    plan = make(cloud, wanted_pool("10.0.0.12..10.0.0.15"))
    assert plan.resource is not None
    excludes = WriteExcludes(switch, numbers("10.0.0.15"))
    assert plan.steps == (UpdateRecord(plan.resource), excludes, MembersUnchanged(switch))
    assert (plan.result, plan.resource.generation, plan.resource.resource_version) == ("configured", 2, 77)


def test_the_same_is_unchanged_and_labels_alone_are_no_new_generation(cloud: Cloud) -> None:
    made = cloud.pool(cloud.switch(), RANGE, labels={"a": "b"})
    assert make(cloud, wanted_pool(RANGE)) == Plan("unchanged", made)
    plan = make(cloud, wanted_pool(RANGE, labels={"c": "d"}))
    assert plan.resource is not None
    assert (plan.resource.labels, plan.resource.generation) == ({"a": "b", "c": "d"}, 1)


def test_a_patch_is_merged_with_what_the_pool_is_when_its_turn_comes(cloud: Cloud) -> None:
    made = cloud.pool(cloud.switch(), RANGE, labels={"a": "b"})
    patch = Patch(made.name, {"a": None}, {}, "", None, {"namespaces": ["blue"]})
    plan = plan_pool_patch(cloud.world, made, patch, context())
    changed = plan.resource
    assert isinstance(changed, Pool)
    assert (changed.namespaces, changed.ips, changed.labels) == (("blue",), (RANGE,), {})
    with pytest.raises(Conflict, match="has been modified"):
        plan_pool_patch(cloud.world, made, patch._replace(version="4"), context())
    with pytest.raises(Invalid, match="field is immutable"):
        plan_pool_patch(cloud.world, made, patch._replace(spec={"subnet": "other"}), context())


def test_create_refuses_what_is_there_and_apply_what_is_on_its_way_out_or_has_failed(cloud: Cloud) -> None:
    made = cloud.pool(cloud.switch(), RANGE)
    with pytest.raises(AlreadyExists):
        make(cloud, wanted_pool(RANGE), create=True)
    for state, what in ((State.RELEASING, "is being deleted"), (State.FAILED, "delete it first")):
        cloud.world.put(made.with_(state=state))
        with pytest.raises(Conflict, match=what):
            make(cloud, wanted_pool(RANGE))


def test_another_pool_that_has_an_address_of_the_range_is_named(cloud: Cloud) -> None:
    switch = cloud.switch(v6="fd00::/64")
    cloud.pool(switch, "10.0.0.20..10.0.0.30", "fd00::1:0:0:0/96", name="other")
    for ips, what in ((["10.0.0.5", "10.0.0.28/30"], "10.0.0.28..10.0.0.30"), (["fd00::1:0:0:7"], "fd00::1:0:0:7")):
        with pytest.raises(Conflict) as caught:
            make(cloud, wanted_pool(*ips))
        [cause] = caught.value.causes
        assert (cause.field, cause.message) == (f"spec.ips[{len(ips) - 1}]", f"IPPool other has {what}")


def test_a_pool_that_has_failed_is_in_nobodys_way(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.pool(switch, RANGE, name="other", state=State.FAILED)
    assert cloud.segment(switch).excluded.text() == ""
    assert make(cloud, wanted_pool(RANGE)).result == "created"


# ---- letting go ----------------------------------------------------------------------------------------------------


def test_a_pool_is_released_in_two_transactions_as_everything_is(cloud: Cloud) -> None:
    switch = cloud.switch()
    made = cloud.pool(switch, RANGE)
    plan = plan_release(cloud.world, made, context())
    assert plan.resource is not None
    assert plan.steps == (UpdateRecord(plan.resource), Barrier())
    carried_out(cloud, plan)
    assert cloud.segment(switch).excluded.text() == RANGE
    last = plan_finish(cloud.world, cloud.world.pools[made.name])
    assert [type(step) for step in last.steps] == [DropRecord]
    carried_out(cloud, last)
    assert (cloud.segment(switch).excluded.text(), cloud.world.pools) == ("", {})


def test_users_of_a_pool_are_named_and_counted(cloud: Cloud) -> None:
    switch = cloud.switch(v6="fd00::/64")
    made = cloud.pool(switch, "10.0.0.10..10.0.0.19", "fd00::/96")
    for n in range(5):
        cloud.reserve(switch, f"vm-{n}.red", v4=f"10.0.0.{10 + n}", mac=f"02:6f:76:00:00:0{n}")
    cloud.port(switch, "vm-1.red", "02:6f:76:00:00:01 10.0.0.11")
    cloud.port(switch, "lsp", f"{MAC} fd00::5")
    cloud.reserve(switch, "vm-9.red", v4="10.0.0.99", mac="02:6f:76:00:00:99")
    with pytest.raises(Conflict) as caught:
        plan_release(cloud.world, made, context())
    users = ", ".join(f"IP vm-{n}.red (10.0.0.{10 + n})" for n in range(5))
    assert caught.value.message.endswith(f"spec.ips: the pool is in use by {users} and 1 more")


def test_a_pool_without_its_switch_can_be_released(cloud: Cloud) -> None:
    cloud.reserve(uuid_of(99), v4="10.0.0.99")
    assert plan_release(cloud.world, cloud.pool(uuid_of(99), RANGE), context()).result == "deleted"


def test_a_pool_without_its_switch_is_in_use_while_an_ip_that_waits_for_the_switch_has_its_address(
    cloud: Cloud,
) -> None:
    made = cloud.pool(uuid_of(99), RANGE, "fd00::/64")
    cloud.reserve(uuid_of(99), v4="10.0.0.11", v6="fd00::5")
    with pytest.raises(Conflict, match=r"in use by IP vm-1\.default \(10\.0\.0\.11, fd00::5\)$"):
        plan_release(cloud.world, made, context())
    cloud.reserve(uuid_of(99), v4="10.0.0.11", v6="fd00::5", state=State.FAILED)
    assert plan_release(cloud.world, made, context()).result == "deleted"


def test_pools_that_overlap_can_be_put_right_while_an_ip_has_what_both_have(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.pool(switch, "10.0.0.10..10.0.0.15", name="a")
    other = cloud.pool(switch, "10.0.0.14..10.0.0.20", name="b")
    cloud.reserve(switch, "vm-1.red", v4="10.0.0.15", namespace="red")
    shrunk = plan_pool(cloud.world, wanted_pool("10.0.0.10..10.0.0.13", name="a"), context(), create=False)
    assert shrunk.result == "configured"
    assert plan_release(cloud.world, other, context()).result == "deleted"
    cloud.world.drop("ippool/a")
    with pytest.raises(Conflict, match=r"in use by IP vm-1\.red"):
        plan_release(cloud.world, other, context())


# ---- whose an address is -------------------------------------------------------------------------------------------


def test_a_pools_address_is_neither_deferred_nor_guarded(cloud: Cloud) -> None:
    switch = cloud.switch("net", "10.0.0.0/27")
    cloud.pool(switch, "10.0.0.2..10.0.0.4")
    cloud.port(switch, "pending", "dynamic")
    plan = reserve(cloud)
    assert isinstance(plan.resource, Reservation)
    assert (plan.resource.addresses, plan.steps) == (("10.0.0.4",), (PutRecord(plan.resource),))
    with pytest.raises(Defer):
        reserve(cloud, v4="10.0.0.9")


def test_a_pool_gives_the_first_host_too_but_last(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.pool(switch, "10.0.0.0/30", v4=((parse_v4("10.0.0.1"), parse_v4("10.0.0.2")),))
    for octet in (2, 1):
        r = chosen(cloud, f"vm-{octet}.red")
        assert r.addresses == (f"10.0.0.{octet}",)
        cloud.world.put(r)


def test_a_namespace_whose_pool_has_failed_has_no_address_from_elsewhere(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.pool(switch, RANGE, name="a", state=State.FAILED, message="it does not fit")
    with pytest.raises(Conflict, match=r"IPPool a, which is for namespace red, has failed \(it does not fit\); delete"):
        chosen(cloud)
    assert chosen(cloud, v4="10.0.0.99").addresses == ("10.0.0.99",), "given, it is as if there were none"
    cloud.port(switch, "vm-1.red", f"{MAC} 10.0.0.50")
    assert chosen(cloud).addresses == ("10.0.0.50",), "nor is it chosen what a port has"
    cloud.pool(switch, "10.0.0.20", name="b")
    assert chosen(cloud, "vm-2.red").addresses == ("10.0.0.20",), "another one has some"


def test_one_in_quarantine_is_chosen_when_no_pool_has_another(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.pool(switch, "10.0.0.10", name="a")
    cloud.pool(switch, "10.0.0.20", name="b")
    cloud.world.quarantine(switch, 4, parse_v4("10.0.0.10"), 5.0)
    assert chosen(cloud).addresses == ("10.0.0.20",)
    cloud.world.quarantine(switch, 4, parse_v4("10.0.0.20"), 4.0)
    assert chosen(cloud).addresses == ("10.0.0.10",)


def test_a_pool_that_is_released_gives_no_more_and_keeps_what_it_has_until_it_is_gone(cloud: Cloud) -> None:
    switch = cloud.switch("net", "10.0.0.0/29")
    made = cloud.pool(switch, "10.0.0.6", state=State.RELEASING)
    assert chosen(cloud).addresses == ("10.0.0.5",)
    with pytest.raises(Invalid, match="is releasing"):
        reserve(cloud, annotations={IP_POOL: made.title})


def test_a_given_address_beside_the_named_pool_is_said(cloud: Cloud) -> None:
    cloud.pool(cloud.switch(), RANGE)
    plan = reserve(cloud, v4="10.0.0.99", annotations={IP_POOL: "pool-1"})
    assert len(plan.warnings) == 1
    assert plan.warnings[0].startswith("10.0.0.99 is given, and not of IPPool pool-1")


def test_a_running_port_beside_the_named_pool_is_adopted_and_that_is_said(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.pool(switch, RANGE)
    cloud.port(switch, NAME, f"{MAC} 10.0.0.99")
    plan = reserve(cloud, annotations={IP_POOL: "pool-1"})
    assert plan.warnings == (f"10.0.0.99, which port {NAME} has, is not of IPPool pool-1",)


def test_a_port_that_asks_for_an_address_of_a_foreign_pool_is_refused(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.pool(switch, RANGE)
    cloud.port(switch, "vm-1.blue", "dynamic 10.0.0.11")
    with pytest.raises(Conflict, match=r"10\.0\.0\.11 is of IPPool pool-1, which is for namespace red"):
        reserve(cloud, "vm-1.blue")


def test_a_port_without_an_address_is_given_one_of_its_namespaces_pool(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.pool(switch, RANGE)
    cloud.port(switch, NAME)
    [write] = [step for step in reserve(cloud).steps if isinstance(step, WriteAddresses)]
    assert next(iter(write.addresses)).endswith(" 10.0.0.13")


def test_no_pool_has_an_address_left_and_all_are_named(cloud: Cloud) -> None:
    switch = cloud.switch()
    for name, address in (("b", "10.0.0.20"), ("a", "10.0.0.10")):
        cloud.pool(switch, address, name=name)
        cloud.port(switch, f"lsp-{name}", f"{MAC} {address}")
    with pytest.raises(NoAvailableAddress, match="no IPv4 address is available in IPPools a, b of subnet net"):
        reserve(cloud)


# ---- repair, resume, rehome ----------------------------------------------------------------------------------------


def test_a_repair_withholds_what_a_dynamic_port_got_meanwhile(cloud: Cloud) -> None:
    switch = cloud.switch()
    made = cloud.pool(switch, RANGE)
    cloud.write_excludes(switch)
    assert plan_repair(cloud.world, cloud.segment(switch), context()) == Plan("unchanged")
    port = cloud.port(switch, "lucky", "dynamic", assigned=f"{MAC} 10.0.0.11")
    assert plan_repair(cloud.world, cloud.segment(switch), context()) == Plan("unchanged"), "it is excluded"
    row = cloud.tables["Logical_Switch"][switch]
    cloud.change("Logical_Switch", switch, other_config={"subnet": row["other_config"]["subnet"]})
    plan = plan_repair(cloud.world, cloud.segment(switch), context())
    assert plan.steps == (WriteExcludes(switch, numbers("10.0.0.11")), MembersUnchanged(switch))
    message = f"ovn-northd gave {MAC} 10.0.0.11 to port lucky; not excluded until it leaves"
    assert plan.events[1:] == (Event("Warning", "Withheld", made.name, message),)
    carried_out(cloud, plan, "net")
    cloud.write_excludes(switch)
    assert plan_repair(cloud.world, cloud.segment(switch), context()) == Plan("unchanged")
    assert cloud.delete_port(port).excludes == {switch}, "which brings the repair about"
    again = plan_repair(cloud.world, cloud.segment(switch), context())
    assert again.steps == (WriteExcludes(switch, frozenset()), MembersUnchanged(switch))


def test_a_port_that_keeps_its_withheld_address_brings_no_repair_about(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.pool(switch, RANGE)
    port = cloud.port(switch, "runs", "dynamic", assigned=f"{MAC} 10.0.0.11")
    cloud.segment(switch).withhold(numbers("10.0.0.11"))
    assert cloud.change("Logical_Switch_Port", port, up=True).excludes == set()
    assert cloud.change("Logical_Switch_Port", port, dynamic_addresses=f"{MAC} 10.0.0.30").excludes == {switch}


def test_a_repair_waits_for_a_pending_port_only_where_something_is_missing(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.pool(switch, RANGE)
    cloud.port(switch, "pending", "dynamic")
    with pytest.raises(Defer):
        plan_repair(cloud.world, cloud.segment(switch), context())
    cloud.write_excludes(switch)
    assert plan_repair(cloud.world, cloud.segment(switch), context()) == Plan("unchanged")


def test_a_pool_outside_of_its_subnet_is_missed_nowhere(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.pool(switch, "10.5.0.5..10.5.0.9")
    cloud.write_excludes(switch)
    cloud.port(switch, "pending", "dynamic")
    assert plan_repair(cloud.world, cloud.segment(switch), context()) == Plan("unchanged")


def test_what_was_never_acknowledged_fails_if_it_cannot_be_had_any_more(cloud: Cloud) -> None:
    switch = cloud.switch()
    intended = cloud.pool(switch, RANGE, state=State.INTENDED)
    assert plan_resume(cloud.world, intended, context()).steps == (PutRecord(intended.with_(state=State.HELD)),)
    cloud.pool(switch, "10.0.0.13", name="other")
    failed = plan_resume(cloud.world, intended, context())
    assert failed.result == "failed"
    assert failed.resource is not None
    assert failed.resource.message == "spec.ips[0]: IPPool other has 10.0.0.13"
    lost = cloud.pool(uuid_of(99), RANGE, name="lost")
    assert plan_resume(cloud.world, lost, context()) == Plan("unchanged")
    assert plan_resume(cloud.world, lost.with_(state=State.INTENDED), context()).result == "failed"


def test_a_pool_moves_to_the_switch_made_anew_without_renumbering_anybody(cloud: Cloud) -> None:
    made = cloud.pool(uuid_of(99), RANGE)
    switch = cloud.switch()
    cloud.port(switch, "runs", "dynamic", assigned=f"{MAC} 10.0.0.11")
    plan = plan_rehome(cloud.world, made, context())
    moved = made.with_(switch=switch, resource_version=77)
    assert (plan.result, plan.resource) == ("rehomed", moved)
    excludes = WriteExcludes(switch, numbers("10.0.0.11"))
    assert plan.steps == (PutRecord(moved), excludes, MembersUnchanged(switch))
    carried_out(cloud, plan)
    assert cloud.segment(switch).excluded.text() == "10.0.0.10 10.0.0.12..10.0.0.13"
    cloud.pool(uuid_of(98), "10.0.0.13", name="other")
    other = plan_rehome(cloud.world, cloud.world.pools["ippool/other"], context())
    assert other.result == "failed"
    assert other.resource is not None
    assert other.resource.message.endswith("spec.ips[0]: IPPool pool-1 has 10.0.0.13")


# ---- how it is seen ------------------------------------------------------------------------------------------------


def test_counts_are_exact_and_everybody_who_has_an_address_uses_it(cloud: Cloud) -> None:
    switch = cloud.switch(v6="fd00::/64", excludes="10.0.0.12")
    cloud.router(switch, "10.0.0.10/24")
    made = cloud.pool(switch, RANGE, "fd00::/65")
    cloud.reserve(switch, v4="10.0.0.13", v6="fd00::7")
    cloud.world.quarantine(switch, 6, parse_v6("fd00::8"), 5.0)
    counts = describe_pool(cloud.world, made).counts
    assert counts == (3, 1, 2, (1 << 63) - 3), "the router's EUI-64 address too"


SPANS = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted).map(tuple)


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(SPANS, min_size=1, max_size=3))), st.integers(0, 4), SPANS)
def test_what_others_have_of_a_range_is_found_whether_pools_are_disjoint_or_not(
    changes: list[tuple[int, list[tuple[int, int]]]], asker: int, span: tuple[int, int]
) -> None:
    pools = Pools()
    for number, ranges in changes:
        pools.put(pool("s", name=f"p{number}", v4=tuple(Runs(ranges))))
    has = {each.name: {a for first, last in each.v4 for a in range(first, last + 1)} for each in pools}
    asked = {*range(span[0], span[1] + 1)}
    expected = {(name, a) for name in has.keys() - {f"ippool/p{asker}"} for a in has[name] & asked}
    found = pools.overlapping(f"ippool/p{asker}", 4, *span)
    assert {(other.name, a) for other, first, last in found for a in range(first, last + 1)} == expected


def test_pools_that_overlap_after_a_fork_are_said_and_both_stay(cloud: Cloud) -> None:
    switch = cloud.switch()
    a = cloud.pool(switch, RANGE, name="a")
    b = cloud.pool(switch, "10.0.0.13..10.0.0.15", name="b")
    for made, other in ((a, "b"), (b, "a")):
        seen = describe_pool(cloud.world, made)
        assert (seen.ready, seen.reason) == (False, "Overlapping")
        assert seen.message.startswith(f"IPPool {other} has addresses of ")
        assert remark(made, None, seen) == Event("Warning", "Overlapping", made.name, seen.message)
        assert remark(made, seen, seen) is None
    assert cloud.segment(switch).excluded.text() == "10.0.0.10..10.0.0.15"
    cloud.world.drop(a.name)
    assert cloud.segment(switch).excluded.text() == "10.0.0.13..10.0.0.15"
    again = describe_pool(cloud.world, b)
    event = remark(b, seen, again)
    assert event is not None
    assert (event.type, event.message) == ("Normal", f"not so any more: {seen.message}")


def test_both_sides_pools_stay_after_a_fork() -> None:
    ours = pool(uuid_of(1), RANGE, name="ours", written=Dot("a", 2))
    theirs = pool(uuid_of(1), "10.0.0.13", name="theirs", written=Dot("b", 2))
    fork = standing({"a": 1, "b": 2}, {"a": 2, "b": 1}, "a", 2)
    assert fork.relation is Relation.INCOMPARABLE
    verdicts = reconcile([ours], {theirs.name: theirs}, fork, lambda _uid: False)
    assert (verdicts.puts, verdicts.drops, verdicts.resume) == ([theirs], [], [ours.name])


@pytest.mark.parametrize(
    ("state", "reason"),
    [(State.INTENDED, "Pending"), (State.RELEASING, "Releasing"), (State.FAILED, "Failed"), (State.HELD, "InForce")],
)
def test_what_a_pool_is_can_be_read_from_its_condition(cloud: Cloud, state: State, reason: str) -> None:
    made = cloud.pool(cloud.switch(), RANGE, state=state, message="because")
    assert describe_pool(cloud.world, made).reason == reason
    assert isinstance(describe_pool(cloud.world, made), PoolStatus)


def test_a_withheld_address_is_said_in_the_condition(cloud: Cloud) -> None:
    switch = cloud.switch()
    made = cloud.pool(switch, RANGE)
    cloud.segment(switch).withhold(numbers("10.0.0.11"))
    assert describe_pool(cloud.world, made).message.endswith("; not excluded while a port runs on it: 10.0.0.11")


# ---- against plain sets --------------------------------------------------------------------------------------------

_OCTETS = st.integers(2, 14)
_RANGES = st.lists(st.tuples(_OCTETS, _OCTETS).map(sorted), max_size=3)


class Excluded(RuleBasedStateMachine):
    """Pools, overlapping or not, and reservations come, change and go; `withheld` is drawn from what is ours."""

    def __init__(self) -> None:
        super().__init__()
        self.cloud = Cloud()
        self.switch = self.cloud.switch("net", "10.0.0.0/28")
        self.base = parse_v4("10.0.0.0")
        self.pools: dict[str, tuple[set[int], bool]] = {}
        self.reserved: dict[str, int] = {}
        self.withheld: set[int] = set()
        self.segment = self.cloud.segment(self.switch)

    @property
    def pooled(self) -> set[int]:
        return {address for addresses, live in self.pools.values() if live for address in addresses}

    @property
    def ours(self) -> set[int]:
        return self.pooled | set(self.reserved.values())

    @rule(name=st.sampled_from("abc"), ranges=_RANGES, live=st.booleans(), bound=st.booleans())
    def put_pool(self, name: str, ranges: list[list[int]], live: bool, bound: bool) -> None:
        runs = tuple(Runs((self.base + first, self.base + last) for first, last in ranges))
        texts = format_ranges(4, runs) or ("fd00::1",)
        state = State.HELD if live else State.FAILED
        self.cloud.pool(self.switch, *texts, name=name, v4=runs, state=state, namespaces=("red",) if bound else ())
        self.pools[name] = ({a for first, last in runs for a in range(first, last + 1)}, live)
        self.withheld &= self.ours

    @rule(name=st.sampled_from("abc"))
    def drop_pool(self, name: str) -> None:
        self.cloud.world.drop(f"ippool/{name}")
        self.pools.pop(name, None)
        self.withheld &= self.ours

    @rule(octet=_OCTETS)
    def put_reservation(self, octet: int) -> None:
        address, name = self.base + octet, f"vm-{octet}.red"
        if name not in self.reserved:
            mac = f"02:6f:76:00:00:{octet:02x}"
            self.cloud.world.put(reservation(self.switch, name, v4=address, mac=mac))
            self.reserved[name] = address
            self.withheld.discard(address)

    @rule(octet=_OCTETS)
    def drop_reservation(self, octet: int) -> None:
        name = f"vm-{octet}.red"
        self.cloud.world.drop(name)
        self.reserved.pop(name, None)
        self.withheld &= self.ours

    @rule(seed=st.integers(0, 1 << 16))
    def withhold(self, seed: int) -> None:
        ours = sorted(self.ours)
        self.withheld = set(Random(seed).sample(ours, Random(seed).randint(0, len(ours))))
        self.segment.withhold(frozenset(self.withheld))

    @invariant()
    def what_is_excluded_is_what_is_ours_but_for_what_is_withheld(self) -> None:
        assert self.segment.withheld == self.withheld
        left = sorted(self.ours - self.withheld)
        assert list(self.segment.excluded) == list(Runs((a, a) for a in left))
        text = self.segment.excluded.text()
        assert text == TokenRuns((a, a) for a in left).text()
        assert [a for first, last in parse(text, self.base, 28).ranges for a in range(first, last + 1)] == left

    @invariant()
    def the_pools_know_whose_an_address_is(self) -> None:
        for address in range(self.base, self.base + 16):
            having = sorted(name for name, (addresses, live) in self.pools.items() if live and address in addresses)
            found = self.segment.pools.at(4, address)
            assert (found.title if found is not None else None) == (having[0] if having else None), format_v4(address)
            assert self.segment.is_ours(address) == (address in self.ours)
        bound = sorted(name for name in self.pools if self.cloud.world.pools[f"ippool/{name}"].namespaces)
        assert [found.title for found in self.segment.pools.bound_to("red")] == bound

    @invariant()
    def the_subnet_is_whole(self) -> None:
        space = self.segment.v4
        assert space is not None
        assert space.used + space.free + space.excluded == 14
        assert space.excluded == len(self.pooled - set(self.reserved.values()))

    @invariant()
    def a_world_made_anew_is_the_same(self) -> None:
        again = contents(self.cloud.rebuilt())["segments"][self.switch]
        ours = contents(self.cloud.world)["segments"][self.switch]
        for key in ("excluded", "text", "withheld"):
            del again[key], ours[key]
        assert again == ours


TestExcluded = Excluded.TestCase
TestExcluded.settings = settings(max_examples=30, stateful_step_count=25)


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=200)
def test_a_batch_with_pools_is_taken_back_as_a_whole(seed: int) -> None:
    random = Random(seed)
    cloud = Cloud()
    switch = cloud.switch("net", "10.0.0.0/28")
    for octet in range(2, 7):
        if random.random() < 0.5:
            cloud.port(switch, f"lsp-{octet}", "dynamic", assigned=f"0a:00:00:00:00:0{octet} 10.0.0.{octet}")
    cloud.pool(switch, "10.0.0.8..10.0.0.10", name="b", state=random.choice(list(State)))
    segment = cloud.segment(switch)
    segment.withhold(frozenset(a for a in map(parse_v4, ("10.0.0.8", "10.0.0.9")) if segment.is_ours(a)))
    before = contents(cloud.world)
    batch = Batch(cloud.world)
    for _ in range(6):
        name = random.choice("abc")
        first = random.randrange(2, 14)
        asked = wanted_pool(f"10.0.0.{first}..10.0.0.{random.randrange(first, 15)}", name=name)
        present = cloud.world.pools.get(asked.name)
        try:
            if present is not None and random.random() < 0.3:
                plan = plan_release(cloud.world, present, context())
            elif random.random() < 0.3:
                plan = plan_create(cloud.world, wanted(f"vm-{random.randrange(3)}.red"), context())
            else:
                plan = plan_pool(cloud.world, asked, context(), create=False)
        except (Conflict, Invalid, AlreadyExists):
            continue
        key = plan.resource.name if plan.resource is not None else asked.name
        if key not in batch.names:
            batch.accept(Work(key, lambda _context, plan=plan: plan), plan, 5.0, needs_barrier=False)  # type: ignore[misc]
    batch.undo()
    after = contents(cloud.world)
    before["segments"][switch].pop("v4")["quarantine"].clear()
    after["segments"][switch].pop("v4")["quarantine"].clear()
    assert after == before
