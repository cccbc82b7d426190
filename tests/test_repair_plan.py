"""Repair: the database says again what the ledger says, and nobody who came meanwhile is renumbered."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from builders import MAC, Cloud, contents, context
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnreserve.model.addresses import parse_v4
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.model.steps import MembersUnchanged, PutRecord, WriteAddresses, WriteExcludes
from ovnreserve.plan.outcome import Defer, Event, Plan
from ovnreserve.plan.repair import is_written, plan_repair, plan_resume

NAME = "vm-1.default"
OURS = "02:6f:76:00:00:09"
NINE = frozenset({parse_v4("10.0.0.9")})


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def repair(cloud: Cloud, switch: str, *, patient: bool = True) -> Plan:
    before = contents(cloud.world)
    try:
        return plan_repair(cloud.world, cloud.segment(switch), context(patient=patient))
    finally:
        assert contents(cloud.world) == before


def resume(cloud: Cloud, r: Reservation, *, patient: bool = True) -> Plan:
    before = contents(cloud.world)
    try:
        return plan_resume(cloud.world, r, context(patient=patient))
    finally:
        assert contents(cloud.world) == before


def rewrite(cloud: Cloud, switch: str, excludes: str | None) -> None:
    """What a CMS does that knows nothing of us."""
    row = cloud.tables["Logical_Switch"][switch]
    config = {key: value for key, value in row["other_config"].items() if key != "exclude_ips"}
    cloud.change(
        "Logical_Switch", switch, other_config=config if excludes is None else {**config, "exclude_ips": excludes}
    )


# ---- exclude_ips -----------------------------------------------------------------------------------------------------


def test_what_is_as_it_should_be_is_not_written_again(cloud: Cloud) -> None:
    switch = cloud.switch(excludes="10.0.0.1 // the operator's")
    assert repair(cloud, switch) == Plan("unchanged")
    cloud.reserve(switch)
    cloud.write_excludes(switch)
    assert is_written(cloud.segment(switch))
    assert repair(cloud, switch) == Plan("unchanged")


@pytest.mark.parametrize("excludes", [None, "10.0.0.1", "10.0.0.10", "10.0.0.1 10.0.0.9", ""])
def test_what_somebody_rewrote_is_written_again(cloud: Cloud, excludes: str | None) -> None:
    switch = cloud.switch(excludes="10.0.0.2")
    cloud.reserve(switch)
    cloud.write_excludes(switch)
    rewrite(cloud, switch, excludes)
    plan = repair(cloud, switch)
    assert (plan.result, plan.resource) == ("repaired", None)
    assert plan.steps == (WriteExcludes(switch, frozenset()), MembersUnchanged(switch))
    message = f'exclude_ips of logical switch net ({switch}) was "{excludes or ""}": our part is written again'
    assert plan.events == (Event("Warning", "Repaired", "subnet/net", message),)
    cloud.write_excludes(switch)
    assert cloud.segment(switch).theirs == (excludes or "")
    assert repair(cloud, switch) == Plan("unchanged")


def test_our_own_dynamic_port_that_has_the_address_is_pinned_in_the_same_transaction(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.reserve(switch)
    port = cloud.port(switch, NAME, "dynamic", assigned=f"{OURS} 10.0.0.9", up=True)
    plan = repair(cloud, switch)
    pin = WriteAddresses(port, (frozenset({"dynamic"}), f"{OURS} 10.0.0.9", ""), frozenset({f"{OURS} 10.0.0.9"}), NAME)
    assert plan.steps == (WriteExcludes(switch, frozenset()), pin, MembersUnchanged(switch))


def test_the_address_of_somebody_elses_dynamic_port_is_withheld_and_that_is_said_once(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.reserve(switch)
    cloud.port(switch, "thief", "dynamic", assigned=f"{MAC} 10.0.0.9")
    plan = repair(cloud, switch)
    assert plan.steps == (WriteExcludes(switch, NINE), MembersUnchanged(switch))
    repaired, event = plan.events
    assert (repaired.reason, repaired.name) == ("Repaired", "subnet/net")
    assert (event.type, event.reason, event.name) == ("Warning", "Withheld", NAME)
    assert event.message == f"ovn-northd gave {MAC} 10.0.0.9 to port thief; not excluded until it leaves"
    cloud.segment(switch).withhold(NINE)
    assert repair(cloud, switch) == Plan("unchanged")


def test_a_withheld_address_is_excluded_once_its_port_has_left(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.reserve(switch)
    port = cloud.port(switch, "thief", "dynamic", assigned=f"{MAC} 10.0.0.9")
    cloud.segment(switch).withhold(NINE)
    cloud.delete_port(port)
    plan = repair(cloud, switch)
    assert plan.steps == (WriteExcludes(switch, frozenset()), MembersUnchanged(switch))
    [event] = plan.events
    message = f"exclude_ips of logical switch net ({switch}): 10.0.0.9, withheld until now, is excluded again"
    assert event == Event("Normal", "Repaired", "subnet/net", message)


@pytest.mark.parametrize("columns", [{"up": True}, {"ids": {"pod": "default/other"}}])
def test_our_own_port_that_may_not_be_pinned_is_not_renumbered_either(cloud: Cloud, columns: dict[str, Any]) -> None:
    """It has our address under a MAC that is not ours, or it is another's by what it says."""
    switch = cloud.switch()
    cloud.reserve(switch)
    cloud.port(switch, NAME, "dynamic", assigned=f"{MAC} 10.0.0.9", **columns)
    assert repair(cloud, switch).steps == (WriteExcludes(switch, NINE), MembersUnchanged(switch))


def test_a_port_of_a_reservation_that_is_being_released_is_not_bound_by_a_repair(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.reserve(switch, state=State.RELEASING)
    cloud.port(switch, NAME, "dynamic", assigned=f"{OURS} 10.0.0.9")
    assert repair(cloud, switch).steps == (WriteExcludes(switch, NINE), MembersUnchanged(switch))


@pytest.mark.parametrize("addresses", [f"{MAC} 10.0.0.9", "dynamic 10.0.0.9"])
def test_a_port_that_has_the_address_otherwise_is_not_renumbered_by_excluding_it(cloud: Cloud, addresses: str) -> None:
    switch = cloud.switch()
    cloud.reserve(switch)
    cloud.port(switch, "squatter", addresses, assigned=None)
    assert repair(cloud, switch, patient=False).steps == (WriteExcludes(switch, frozenset()),)


def test_a_repair_waits_while_northd_is_about_to_choose_and_then_goes_on(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.reserve(switch)
    cloud.port(switch, "pending", "dynamic")
    with pytest.raises(Defer):
        repair(cloud, switch)
    assert repair(cloud, switch, patient=False).steps == (WriteExcludes(switch, frozenset()),)
    cloud.write_excludes(switch)
    assert repair(cloud, switch) == Plan("unchanged"), "nothing is missing, so there is nothing to wait for"


def test_ipv6_is_in_nobodys_exclude_ips(cloud: Cloud) -> None:
    switch = cloud.switch(subnet=None, v6="fd00::/64")
    cloud.reserve(switch, v4=None, v6="fd00::9")
    assert repair(cloud, switch) == Plan("unchanged")


@settings(max_examples=150)
@given(st.integers(0, 1 << 32))
def test_no_repair_excludes_the_address_of_a_dynamic_port_that_it_does_not_pin(seed: int) -> None:
    random = Random(seed)
    cloud = Cloud()
    switch = cloud.switch(subnet="10.0.0.0/28")
    for number in range(3, 8):
        r = cloud.reserve(switch, f"vm-{number}.default", v4=f"10.0.0.{number}", mac=f"02:6f:76:00:00:0{number}")
        if random.random() < 0.6:
            name = random.choice([r.name, f"p-{number}"])
            mac = random.choice([r.mac, f"0a:00:00:00:00:0{number}"])
            v4 = random.choice([f"10.0.0.{number}", f"10.0.0.{number}", "10.0.0.12"])
            cloud.port(switch, name, "dynamic", assigned=f"{mac} {v4}", up=random.choice([None, True]))
    if random.random() < 0.3:
        cloud.write_excludes(switch)
        already = True
    else:
        already = False
    plan = repair(cloud, switch)
    segment = cloud.segment(switch)
    for step in plan.steps:
        if isinstance(step, WriteExcludes):
            segment.withhold(step.withheld)
    pinned = {step.port for step in plan.steps if isinstance(step, WriteAddresses)}
    for (_family, address), ports in segment.port_addresses.items():
        assert not ports - pinned or address not in segment.excluded or already
    held = {address for _family, address in segment.reserved}
    assert {a for first, last in segment.excluded for a in range(first, last + 1)} | segment.withheld == held


# ---- records ---------------------------------------------------------------------------------------------------------


def test_a_record_that_went_is_written_again(cloud: Cloud) -> None:
    """Its exclusion is the switch's repair's business."""
    switch = cloud.switch()
    r = cloud.reserve(switch)
    plan = resume(cloud, r)
    assert (plan.result, plan.resource, plan.steps) == ("created", r, (PutRecord(r),))
    assert [(event.type, event.reason) for event in plan.events] == [("Normal", "Republished")]


def test_what_was_intended_is_written_as_held(cloud: Cloud) -> None:
    r = cloud.reserve(cloud.switch(), state=State.INTENDED)
    plan = resume(cloud, r)
    assert plan.resource == r
    assert plan.steps[0] == PutRecord(r.with_(state=State.HELD))


@pytest.mark.parametrize(
    ("assigned", "addresses"), [(None, "dynamic"), (f"{OURS} 10.0.0.9", "dynamic"), (None, f"{OURS} dynamic")]
)
def test_its_port_is_bound_by_the_same_transaction_once(cloud: Cloud, assigned: str | None, addresses: str) -> None:
    switch = cloud.switch()
    r = cloud.reserve(switch)
    port = cloud.port(switch, NAME, addresses, assigned=assigned)
    writes = [step for step in resume(cloud, r, patient=False).steps if isinstance(step, WriteAddresses)]
    assert writes == [
        WriteAddresses(port, (frozenset({addresses}), assigned, ""), frozenset({f"{OURS} 10.0.0.9"}), NAME)
    ]


def test_what_was_acknowledged_waits_for_its_switch_to_be_back(cloud: Cloud) -> None:
    assert resume(cloud, cloud.reserve("gone")) == Plan("unchanged")


def test_without_its_switch_what_was_never_acknowledged_fails(cloud: Cloud) -> None:
    r = cloud.reserve("gone", state=State.INTENDED)
    plan = resume(cloud, r)
    message = "logical switch net (gone) does not exist any more"
    assert plan.resource == r.with_(state=State.FAILED, message=message, resource_version=77)
    assert plan.result == "failed"
    assert plan.steps == (PutRecord(plan.resource),)
    assert [(event.type, event.reason, event.message) for event in plan.events] == [("Warning", "Failed", message)]


def test_what_was_never_acknowledged_fails_where_somebody_has_its_address_now(cloud: Cloud) -> None:
    switch = cloud.switch()
    r = cloud.reserve(switch, state=State.INTENDED)
    cloud.port(switch, "thief", f"{MAC} 10.0.0.9")
    plan = resume(cloud, r)
    assert plan.result == "failed"
    assert plan.resource is not None
    assert "10.0.0.9 is held by logical switch port thief" in plan.resource.message


def test_what_was_acknowledged_stays_whoever_has_its_address_now(cloud: Cloud) -> None:
    switch = cloud.switch()
    r = cloud.reserve(switch)
    cloud.port(switch, "thief", f"{MAC} 10.0.0.9")
    assert resume(cloud, r).steps == (PutRecord(r),)
