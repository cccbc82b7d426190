"""Which IPs outlive their ports: the table of plan/retain.py, line by line, and what it is to let go of one."""

from __future__ import annotations

from typing import Any

import pytest
from builders import MAC, NOW, Cloud, context

from ovnreserve.model.owner import STATEFUL_SET, VIRTUAL_MACHINE, Owner, owner_name
from ovnreserve.model.resource import State
from ovnreserve.model.steps import Barrier, DropRecord, MembersUnchanged, PutRecord, UpdateRecord, WriteAddresses
from ovnreserve.plan.adopt import plan_retain, wants_retaining
from ovnreserve.plan.identity import POD_TYPE, Identity
from ovnreserve.plan.outcome import Plan
from ovnreserve.plan.retain import retainer
from ovnreserve.plan.world import World

NONE: dict[str, Any] = {}
MACHINE: dict[str, Any] = {"kind": VIRTUAL_MACHINE, "title": "vm-1"}
SET: dict[str, Any] = {"kind": STATEFUL_SET, "title": "web"}
GONE = {"state": State.RELEASING, "deleted": NOW}


def owner(**fields: Any) -> Owner:
    values = {"namespace": "default", "replicas": 3, "uid": "u", "state": State.HELD, "created": NOW}
    values = {**values, "resource_version": 1, **fields}
    return Owner(name=owner_name(values["kind"], values["namespace"], values["title"]), **values)


def who_keeps(pod: str, pod_type: str, *owners: dict[str, Any], keep_vm_ip: bool = True) -> str | None:
    """The type of whom keeps the IP of that pod in namespace default."""
    world = World(keep_vm_ip=keep_vm_ip)
    for fields in owners:
        world.put(owner(**fields))
    found = retainer(world, Identity(pod, "default", pod_type))
    return None if found is None else found[0]


# ---- VirtualMachine, with keep_vm_ip: until the VirtualMachine is deleted --------------------------------------------


@pytest.mark.parametrize(
    ("pod_type", "known", "keep_vm_ip", "kept"),
    [
        (VIRTUAL_MACHINE, MACHINE, True, True),
        (VIRTUAL_MACHINE, NONE, True, True),  # a missing fact keeps
        (VIRTUAL_MACHINE, {**MACHINE, **GONE}, True, False),
        (VIRTUAL_MACHINE, {**MACHINE, "namespace": "prod", **GONE}, True, True),
        (VIRTUAL_MACHINE, {**MACHINE, "title": "vm-2", **GONE}, True, True),
        ("", MACHINE, True, True),  # its port does not say what it is, but somebody has
        ("", {**MACHINE, **GONE}, True, False),
        ("", {**MACHINE, "namespace": "prod"}, True, False),
        ("", NONE, True, False),
        (STATEFUL_SET, {**MACHINE, **GONE}, True, True),  # its type is what counts
        ("Deployment", MACHINE, True, False),
        (VIRTUAL_MACHINE, MACHINE, False, False),
        (VIRTUAL_MACHINE, NONE, False, False),
        ("", MACHINE, False, False),
    ],
)
def test_a_virtual_machines_ip_is_kept_until_it_is_deleted_where_that_is_wanted(
    pod_type: str, known: dict[str, Any], *, keep_vm_ip: bool, kept: bool
) -> None:
    found = who_keeps("vm-1", pod_type, *([known] if known else []), keep_vm_ip=keep_vm_ip)
    assert (found is not None) is kept


# ---- StatefulSet: while ordinal < ordinals.start + replicas; not once the set is deleted -----------------------------


@pytest.mark.parametrize(
    ("pod", "pod_type", "known", "kept"),
    [
        *((f"web-{ordinal}", STATEFUL_SET, SET, ordinal < 3) for ordinal in (0, 2, 3, 10)),
        *((f"web-{ordinal}", "", SET, ordinal < 3) for ordinal in (0, 2, 3, 10)),
        ("web-0", STATEFUL_SET, {**SET, "replicas": 0}, False),
        ("web-4", STATEFUL_SET, {**SET, "start": 2}, True),
        ("web-5", STATEFUL_SET, {**SET, "start": 2}, False),
        ("web-0", STATEFUL_SET, {**SET, "start": 2}, True),  # below its start: what a set begins with may change
        ("web-0", STATEFUL_SET, {**SET, **GONE}, False),
        ("web-0", "", {**SET, **GONE}, False),
        ("web-7", STATEFUL_SET, NONE, True),  # a missing fact keeps
        ("web-7", STATEFUL_SET, {**SET, "namespace": "prod"}, True),
        ("web-7", STATEFUL_SET, {**SET, "title": "web-7"}, True),
        ("web-7", "", NONE, False),
        ("web-0", "", {**SET, "namespace": "prod"}, False),
        ("web", STATEFUL_SET, SET, True),  # no pod of a set is called so: nothing is known of it
        ("web", "", SET, False),
        ("web-x", "", SET, False),
        ("web-01", "", SET, False),
        ("web-0-0", "", SET, False),
        ("web-0", "Deployment", SET, False),
        ("web-0", VIRTUAL_MACHINE, {**SET, **GONE}, True),  # its type is what counts
    ],
)  # fmt: skip
def test_a_stateful_sets_ip_is_kept_while_it_has_such_a_pod(
    pod: str, pod_type: str, known: dict[str, Any], *, kept: bool
) -> None:
    found = who_keeps(pod, pod_type, *([known] if known else []))
    assert (found is not None) is kept


# ---- neither: goes with its port -------------------------------------------------------------------------------------


def test_what_has_no_owner_goes_with_its_port() -> None:
    assert who_keeps("pod-1", "") is None
    assert who_keeps("pod-1", "", SET, MACHINE) is None


@pytest.mark.parametrize(
    ("machine", "stateful_set", "kept_by"),
    [
        (NONE, NONE, VIRTUAL_MACHINE),
        (GONE, NONE, STATEFUL_SET),
        (GONE, GONE, None),
        (NONE, {"replicas": 0}, VIRTUAL_MACHINE),
    ],
)
def test_a_pod_that_may_be_of_either_is_kept_while_one_of_them_keeps_it(
    machine: dict[str, Any], stateful_set: dict[str, Any], kept_by: str | None
) -> None:
    assert who_keeps("web-0", "", {**MACHINE, "title": "web-0", **machine}, {**SET, **stateful_set}) == kept_by


# ---- what that comes to ----------------------------------------------------------------------------------------------


class Site:
    def __init__(self, *owners: dict[str, Any]) -> None:
        self.cloud = Cloud()
        self.world = self.cloud.world
        self.switch = self.cloud.switch()
        for fields in owners:
            self.world.put(owner(**fields))

    def plan(self, name: str = "web-0.default") -> Plan:
        plan = plan_retain(self.world, name, context())
        assert wants_retaining(self.world, name) is bool(plan.steps)
        return plan


def test_an_ip_is_retained_when_its_port_is_first_seen_pinned_and_excluded_in_one_transaction() -> None:
    site = Site(SET)
    port = site.cloud.port(site.switch, "web-0.default", "dynamic", assigned=f"{MAC} 10.0.0.2")
    plan = site.plan()
    put, pin, *guards = plan.steps
    assert isinstance(put, PutRecord)
    assert put.resource is plan.resource
    assert plan.resource is not None
    r = plan.resource
    assert (r.reserved, r.pod_type, r.addresses, r.mac) == (False, STATEFUL_SET, ("10.0.0.2",), MAC)  # type: ignore[attr-defined]
    assert isinstance(pin, WriteAddresses)
    assert (pin.port, pin.addresses) == (port, {f"{MAC} 10.0.0.2"})
    assert guards == [MembersUnchanged(site.switch)]
    assert [event.reason for event in plan.events][:2] == ["Retained", "Reserved"]


@pytest.mark.parametrize(
    ("addresses", "columns"),
    [
        (("dynamic",), {}),  # ovn-northd has yet to choose
        (("unknown",), {"type": "localnet"}),
        (("router",), {"type": "router"}),
        ((), {}),
        ((MAC,), {}),  # who knows what addresses it uses
        (("unknown",), {}),
        ((MAC, "unknown"), {}),
    ],
)
def test_a_port_without_an_address_or_of_no_workload_has_nothing_to_retain(
    addresses: tuple[str, ...], columns: dict[str, Any]
) -> None:
    site = Site(SET)
    site.cloud.port(site.switch, "web-0.default", *addresses, **columns)
    assert site.plan() == Plan("unchanged")


def test_what_cannot_be_kept_is_said_and_nothing_is_done() -> None:
    site = Site(SET)
    site.cloud.port(site.switch, "web-0.default", f"{MAC} 10.0.0.5")
    site.cloud.port(site.switch, "twin", "0a:00:00:00:00:02 10.0.0.5")
    plan = plan_retain(site.world, "web-0.default", context())
    assert plan.steps == ()
    [event] = plan.events
    assert (event.type, event.reason) == ("Warning", "NotRetained")
    assert "logical switch port twin" in event.message


def test_what_is_reserved_by_label_is_left_alone_whatever_its_owner_says() -> None:
    site = Site({**SET, **GONE})
    site.cloud.reserve(site.switch, "web-0.default", pod_type=STATEFUL_SET)
    assert site.plan() == Plan("unchanged")


@pytest.mark.parametrize("state", [State.INTENDED, State.RELEASING])
def test_only_what_is_held_is_let_go(state: State) -> None:
    site = Site({**SET, **GONE})
    site.cloud.reserve(site.switch, "web-0.default", pod_type=STATEFUL_SET, reserved=False, state=state)
    assert site.plan() == Plan("unchanged")


def test_once_nobody_retains_it_an_ip_without_a_port_is_released() -> None:
    site = Site({**SET, "replicas": 0})
    r = site.cloud.reserve(site.switch, "web-0.default", pod_type=STATEFUL_SET, reserved=False)
    plan = site.plan()
    leaving = r.with_(state=State.RELEASING, resource_version=77)
    assert plan.resource == leaving
    assert leaving.is_let_go, "so says the ledger: should the record still say otherwise, nothing has become of it"
    assert plan.steps == (UpdateRecord(leaving.with_(deleted=NOW + 60)), Barrier())
    assert [event.reason for event in plan.events] == ["LetGo", "Releasing"]


def test_once_nobody_retains_it_an_ip_is_given_back_to_the_port_that_has_it() -> None:
    site = Site({**SET, "replicas": 0})
    r = site.cloud.reserve(site.switch, "web-0.default", pod_type=STATEFUL_SET, reserved=False)
    site.cloud.port(site.switch, "web-0.default", r.port_addresses)
    plan = site.plan()
    giving = r.with_(state=State.RELEASING, resource_version=77)
    assert giving.is_let_go, "the ledger says so first"
    assert (plan.resource, plan.steps) == (giving, (DropRecord(giving),)), "the port is left as it is"
    assert plan.ends


@pytest.mark.parametrize(
    ("addresses", "assigned", "what"),
    [
        ("02:6f:76:00:00:09 10.0.0.9", None, "is its port's again"),
        ("dynamic", "02:6f:76:00:00:09 10.0.0.9", "is its port's again"),
        ("02:6f:76:00:00:09 10.0.0.77", None, "is free, for its port does not use it"),
        ("dynamic", f"{MAC} 10.0.0.77", "is free, for its port does not use it"),
    ],
)
def test_it_is_said_whether_the_port_uses_what_it_is_given_back(
    addresses: str, assigned: str | None, what: str
) -> None:
    site = Site({**SET, "replicas": 0})
    r = site.cloud.reserve(site.switch, "web-0.default", pod_type=STATEFUL_SET, reserved=False)
    site.cloud.port(site.switch, "web-0.default", addresses, assigned=assigned, up=True)
    [event] = site.plan().events
    assert event.message == f"{r.port_addresses} {what}: StatefulSet default/web has 0 replicas"


def test_a_port_of_the_name_that_is_not_its_own_does_not_get_it() -> None:
    site = Site({**SET, "replicas": 0})
    r = site.cloud.reserve(site.switch, "web-0.default", pod_type=STATEFUL_SET, reserved=False)
    site.cloud.port(site.switch, "web-0.default", "dynamic", ids={POD_TYPE: "Deployment"})
    plan = site.plan()
    assert [type(step) for step in plan.steps] == [UpdateRecord, Barrier]
    assert plan.resource is not None
    assert plan.resource.uid == r.uid
