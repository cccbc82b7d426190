"""Release: two transactions, and what of others is left alone."""

from __future__ import annotations

from typing import Any

import pytest
from builders import MAC, NOW, Cloud, contents, context, uuid_of

from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.model.steps import Barrier, DeletePort, DropRecord, UpdateRecord
from ovnreserve.plan.outcome import Event, Plan
from ovnreserve.plan.release import plan_drop, plan_release

NAME = "vm-1.default"
OURS = "02:6f:76:00:00:09"


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def release(cloud: Cloud, r: Reservation) -> Plan:
    before = contents(cloud.world)
    plan = plan_release(cloud.world, r, context())
    assert contents(cloud.world) == before
    return plan


def releasing(r: Reservation) -> Reservation:
    return r.with_(state=State.RELEASING, deleted=NOW + 60, resource_version=77)


RELEASING = Event("Normal", "Releasing", NAME, f"releasing {OURS} 10.0.0.9 on subnet net")


def test_without_a_port_the_record_is_marked_and_northd_is_awaited(cloud: Cloud) -> None:
    r = cloud.reserve(cloud.switch())
    assert release(cloud, r) == Plan("deleted", releasing(r), (UpdateRecord(releasing(r)), Barrier()), (RELEASING,))


@pytest.mark.parametrize("addresses", [f"{OURS} 10.0.0.9", "dynamic", f"{MAC} 10.0.0.5", "unknown"])
def test_its_port_is_deleted_in_the_first_transaction_whatever_its_addresses_are(cloud: Cloud, addresses: str) -> None:
    switch = cloud.switch()
    r = cloud.reserve(switch)
    port = cloud.port(switch, NAME, addresses, assigned="x")
    seen = (frozenset({addresses}), "x", "")
    steps = (UpdateRecord(releasing(r)), DeletePort(port, switch, seen), Barrier())
    deleted = Event("Normal", "PortDeleted", NAME, f"deleted port {NAME} of subnet net")
    assert release(cloud, r) == Plan("deleted", releasing(r), steps, (RELEASING, deleted))


def elsewhere(cloud: Cloud) -> str:
    return cloud.port(cloud.switch("other"), NAME, "dynamic")


def recreated(cloud: Cloud) -> str:
    return cloud.port(cloud.switch("net"), NAME, "dynamic")


def port(**columns: Any) -> Any:
    def add(cloud: Cloud) -> str:
        [switch] = cloud.world.segments
        return cloud.port(switch, NAME, "dynamic", **columns)

    return add


@pytest.mark.parametrize(
    ("add", "why"),
    [
        (elsewhere, "logical switch other, the IP is on net"),
        (recreated, f"logical switch net ({uuid_of(2)}), the IP is on another of that name ({uuid_of(1)})"),
        (lambda cloud: cloud.port(None, NAME, "dynamic"), "logical switch (none), the IP is on net"),
        (port(type="router"), "type router"),
        (port(ids={"pod": "default/other"}), "external_ids:pod=default/other, the reservation is for default/vm-1"),
    ],
)
def test_a_port_that_is_not_ours_is_left_alone_and_that_is_said(cloud: Cloud, add: Any, why: str) -> None:
    r = cloud.reserve(cloud.switch())
    add(cloud)
    plan = release(cloud, r)
    assert plan.steps == (UpdateRecord(releasing(r)), Barrier())
    message = f"port {NAME} is left alone: it has {why}"
    assert plan.events == (RELEASING, Event("Warning", "PortNotOurs", NAME, message))


def test_a_switch_that_is_gone_is_no_error(cloud: Cloud) -> None:
    r = cloud.reserve("gone")
    assert release(cloud, r).steps == (UpdateRecord(releasing(r)), Barrier())


def test_what_is_being_released_is_not_released_again(cloud: Cloud) -> None:
    r = cloud.reserve(cloud.switch(), state=State.RELEASING, deleted=NOW)
    assert release(cloud, r) == Plan("deleted", r)


def test_what_failed_held_nothing_and_just_goes_with_its_record_if_it_has_one(cloud: Cloud) -> None:
    switch = cloud.switch()
    r = cloud.reserve(switch, state=State.FAILED)
    cloud.port(switch, NAME, "dynamic")
    event = Event("Normal", "Released", NAME, "had failed, held nothing")
    assert release(cloud, r) == Plan("deleted", None, (DropRecord(r),), (event,))


def test_the_second_transaction_drops_the_record_and_the_address(cloud: Cloud) -> None:
    r = cloud.reserve(cloud.switch(), state=State.RELEASING)
    event = Event("Normal", "Released", NAME, f"released {OURS} 10.0.0.9 on subnet net")
    assert plan_drop(cloud.world, r) == Plan("released", None, (DropRecord(r),), (event,))
