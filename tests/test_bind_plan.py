"""Bind: what the port of a reservation is to it, and what it is to be given."""

from __future__ import annotations

from typing import Any

import pytest
from builders import MAC, Cloud, contents
from hypothesis import given
from hypothesis import strategies as st

from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.model.steps import WriteAddresses
from ovnreserve.plan.bind import Verdict, judge, plan_bind
from ovnreserve.plan.outcome import Event, Plan

NAME = "vm-1.default"
OURS = "02:6f:76:00:00:09"
FULL = f"{OURS} 10.0.0.9 fd00::9"


class Site:
    """A dual-stack switch with one reservation on it; `port` makes its port."""

    def __init__(self, **fields: Any) -> None:
        self.cloud = Cloud()
        self.switch = self.cloud.switch(v6="fd00::/64")
        self.r: Reservation = self.cloud.reserve(self.switch, **{"v6": "fd00::9", **fields})

    def port(self, *addresses: str, **columns: Any) -> str:
        return self.cloud.port(columns.pop("on", self.switch), NAME, *addresses, **columns)

    def verdict(self) -> Verdict:
        return judge(self.cloud.world, self.r)

    def plan(self) -> Plan:
        before = contents(self.cloud.world)
        plan = plan_bind(self.cloud.world, self.r)
        assert contents(self.cloud.world) == before
        return plan


# ---- what is written -------------------------------------------------------------------------------------------------

GIVEN = [
    [], ["dynamic"], ["dynamic 10.0.0.9"], ["dynamic 10.0.0.9 fd00::9"], ["dynamic fd00::9"], [f"{OURS} dynamic"],
    [f"{OURS.upper()} dynamic"],
]  # fmt: skip


@pytest.mark.parametrize("addresses", GIVEN, ids=str)
def test_a_port_that_asks_for_no_other_address_is_given_the_reserved_ones(addresses: list[str]) -> None:
    site = Site()
    port = site.port(*addresses)
    verdict = site.verdict()
    assert (verdict.status, verdict.reason, verdict.addresses) == (False, "Binding", frozenset({FULL}))
    assert verdict.message == f"port {NAME} is being given {FULL}"
    assert site.plan() == Plan(
        "bound", None, (WriteAddresses(port, (frozenset(addresses), None, ""), frozenset({FULL}), NAME),),
        (Event("Normal", "Binding", NAME, verdict.message),),
    )  # fmt: skip


def test_unknown_beside_dynamic_stays() -> None:
    site = Site()
    site.port("dynamic", "unknown")
    assert site.verdict().addresses == {FULL, "unknown"}


@pytest.mark.parametrize("up", [None, False])
def test_a_dynamic_port_on_another_address_that_is_not_up_yet_is_given_the_reserved_ones(up: bool | None) -> None:
    site = Site()
    site.port("dynamic", assigned=f"{MAC} 10.0.0.2", up=up)
    assert site.verdict().addresses == {FULL}
    [write] = site.plan().steps
    assert isinstance(write, WriteAddresses)
    assert write.seen == (frozenset({"dynamic"}), f"{MAC} 10.0.0.2", "")


def test_a_dynamic_port_that_is_up_on_the_reserved_addresses_is_pinned_to_them() -> None:
    site = Site()
    site.port("dynamic", assigned=FULL, up=True)
    assert site.verdict().addresses == {FULL}


# ---- what is left as it is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("addresses", GIVEN, ids=str)
def test_a_port_waits_while_somebody_elses_dynamic_port_runs_on_the_address(addresses: list[str]) -> None:
    site = Site()
    thief = site.cloud.port(site.switch, "thief", "dynamic", assigned=f"{MAC} 10.0.0.9")
    site.port(*addresses)
    verdict = site.verdict()
    assert (verdict.status, verdict.reason, verdict.addresses) == (False, "HeldByAnother", None)
    assert f"ovn-northd gave {MAC} 10.0.0.9 to port thief" in verdict.message
    assert site.plan() == Plan("unchanged"), "a static address there would renumber it"
    touched = site.cloud.delete_port(thief)
    assert NAME in touched.names, "it is looked at again"
    assert site.verdict().addresses == {FULL}


def test_a_static_squatter_keeps_nobody_from_its_own_address() -> None:
    site = Site()
    site.cloud.port(site.switch, "squatter", f"{MAC} 10.0.0.9")
    site.port("dynamic")
    assert site.verdict().addresses == {FULL}



@pytest.mark.parametrize(
    "addresses",
    [
        [FULL],
        [f"{OURS.upper()} 10.0.0.9 fd00:0::9"],
        [f"{OURS} fd00::9 10.0.0.9"],
        [f"{OURS} 10.0.0.9/24 fd00::9/64"],
        [f"{OURS} 10.0.0.9 10.0.0.10 fd00::9"],
        [FULL, "unknown"],
        [f"{OURS} 10.0.0.9", f"{OURS} fd00::9"],
    ],
    ids=str,
)
def test_a_port_with_the_reserved_addresses_is_bound_however_they_are_written(addresses: list[str]) -> None:
    site = Site()
    site.port(*addresses)
    assert site.verdict() == Verdict(True, "Bound", f"port {NAME} has {FULL}")
    assert site.plan() == Plan("unchanged")


@pytest.mark.parametrize(
    "addresses",
    [
        ["unknown"],
        [OURS],
        [f"{OURS} 10.0.0.9"],
        [f"{OURS} fd00::9"],
        [f"{OURS} 10.0.0.10 fd00::9"],
        [f"{MAC} 10.0.0.9 fd00::9"],
        [f"{OURS} 10.0.0.9", f"{MAC} fd00::9"],
        ["dynamic 10.0.0.10"],
        ["dynamic 10.0.0.9 fd00::a"],
        [f"{MAC} dynamic"],
        ["dynamic", f"{MAC} 10.0.0.10"],
        [f"{OURS} dynamic 10.0.0.9"],
    ],
    ids=str,
)
def test_a_port_with_anything_else_is_left_alone(addresses: list[str]) -> None:
    site = Site()
    site.port(*addresses)
    has = ", ".join(sorted(addresses))
    assert site.verdict() == Verdict(False, "AddressMismatch", f'port {NAME} has addresses "{has}", the IP is {FULL}')
    assert site.plan() == Plan("unchanged")


def test_a_dynamic_port_that_runs_on_another_address_is_left_alone() -> None:
    site = Site()
    site.port("dynamic", assigned=f"{MAC} 10.0.0.2", up=True)
    message = f"port {NAME} is up on {MAC} 10.0.0.2, the IP is {FULL}"
    assert site.verdict() == Verdict(False, "RunningElsewhere", message)
    assert site.plan() == Plan("unchanged")


@pytest.mark.parametrize(("fields", "more"), [({"v4": None}, "the switch was given IPv4"), ({"v6": None}, "or IPv6")])
def test_a_dynamic_port_that_runs_on_more_than_the_reserved_loses_none_of_it(fields: dict[str, Any], more: str) -> None:
    site = Site(**fields)
    site.port("dynamic", assigned=FULL, up=True)
    message = f"port {NAME} is up on {FULL}, the IP is {site.r.port_addresses}"
    assert site.verdict() == Verdict(False, "RunningElsewhere", message), more
    assert site.plan() == Plan("unchanged")


def test_without_a_port_there_is_nothing_to_bind() -> None:
    site = Site()
    assert site.verdict() == Verdict(False, "NoPort", f"logical switch port {NAME} does not exist")
    assert site.plan() == Plan("unchanged")


@pytest.mark.parametrize("addresses", [["dynamic"], [FULL]])
def test_a_port_on_another_subnet_cannot_use_the_ip(addresses: list[str]) -> None:
    site = Site()
    site.port(*addresses, on=site.cloud.switch("other"))
    assert site.verdict() == Verdict(False, "WrongSubnet", f"port {NAME} is on logical switch other, the IP on net")


def test_a_port_on_another_switch_of_the_same_name_is_told_from_it() -> None:
    site = Site()
    other = site.cloud.switch("net")
    site.port("dynamic", on=other)
    where = f"logical switch net ({other}), the IP on another of that name ({site.r.switch})"
    assert site.verdict() == Verdict(False, "WrongSubnet", f"port {NAME} is on {where}")


def test_a_port_on_no_switch_cannot_use_the_ip() -> None:
    site = Site()
    site.port("dynamic", on=None)
    assert site.verdict().message == f"port {NAME} is on logical switch (none), the IP on net"


def test_a_port_that_is_no_workload_cannot_use_the_ip() -> None:
    site = Site()
    site.port("router", type="router")
    assert site.verdict() == Verdict(False, "NotAWorkload", f"port {NAME} is of type router")


@pytest.mark.parametrize(
    ("ids", "pod_type", "contradicts"),
    [
        ({}, "", None),
        ({"pod": "default/vm-1", "namespace": "default", "ovnreserve/pod-type": ""}, "", None),
        ({"pod": "something else"}, "", None),
        ({"pod": "default/vm-2"}, "", "external_ids:pod=default/vm-2, the reservation is for default/vm-1"),
        ({"pod": "default/vm-2"}, "StatefulSet", "external_ids:pod=default/vm-2, the reservation is for default/vm-1"),
        ({"pod": "default/virt-launcher-vm-1-x7z2k"}, "VirtualMachine", None),
        ({"pod": "other/virt-launcher-vm-1-x7z2k"}, "VirtualMachine",
         "external_ids:pod=other/virt-launcher-vm-1-x7z2k, the reservation is for default/vm-1"),
        ({"pod": "default/virt-launcher-vm-2-x7z2k"}, "VirtualMachine",
         "external_ids:pod=default/virt-launcher-vm-2-x7z2k, the reservation is for default/vm-1"),
        ({"pod": "default/virt-launcher-vm-10-x7z2k"}, "VirtualMachine",
         "external_ids:pod=default/virt-launcher-vm-10-x7z2k, the reservation is for default/vm-1"),
        ({"pod": "default/virt-launcher-vm-1-x7z2k"}, "",
         "external_ids:pod=default/virt-launcher-vm-1-x7z2k, the reservation is for default/vm-1"),
        ({"namespace": "other"}, "", "external_ids:namespace=other, the reservation is for namespace default"),
        ({"ovnreserve/pod-type": "VirtualMachine"}, "",
         'external_ids:ovnreserve/pod-type=VirtualMachine, the reservation is for podType ""'),
        ({"ovnreserve/pod-type": ""}, "StatefulSet",
         'external_ids:ovnreserve/pod-type=, the reservation is for podType "StatefulSet"'),
    ],
)  # fmt: skip
def test_a_port_whose_external_ids_contradict_is_left_alone(
    ids: dict[str, str], pod_type: str, contradicts: str | None
) -> None:
    site = Site(pod_type=pod_type)
    site.port("dynamic", ids=ids)
    verdict = site.verdict()
    if contradicts is None:
        assert verdict.reason == "Binding"
    else:
        assert verdict == Verdict(False, "IdentityMismatch", f"port {NAME} has {contradicts}")
        assert site.plan() == Plan("unchanged")


@pytest.mark.parametrize("state", [State.INTENDED, State.RELEASING, State.FAILED])
def test_only_what_is_held_is_bound(state: State) -> None:
    site = Site(state=state)
    site.port("dynamic")
    assert site.plan() == Plan("unchanged")


def test_a_reservation_of_one_family_is_bound_to_a_port_with_just_that() -> None:
    site = Site(v6=None)
    site.port(f"{OURS} 10.0.0.9")
    assert site.verdict().reason == "Bound"


# ---- a law -----------------------------------------------------------------------------------------------------------

elements = st.sampled_from(
    ["dynamic", "unknown", "dynamic 10.0.0.9", "dynamic 10.0.0.2", f"{OURS} dynamic", FULL, f"{MAC} 10.0.0.2", OURS]
)


@given(st.frozensets(elements, max_size=3), st.sampled_from([None, FULL, f"{MAC} 10.0.0.2"]), st.booleans())
def test_once_a_port_has_what_it_was_given_it_is_bound_and_nothing_is_written_again(
    addresses: frozenset[str], assigned: str | None, up: bool
) -> None:
    site = Site()
    port = site.port(*addresses, assigned=assigned, up=up)
    for step in site.plan().steps:
        assert isinstance(step, WriteAddresses)
        assert FULL in step.addresses
        assert {text for text in addresses if "dynamic" not in text} <= step.addresses
        site.cloud.change("Logical_Switch_Port", port, addresses=step.addresses, dynamic_addresses=None)
        assert site.verdict().status
        assert site.plan() == Plan("unchanged")
