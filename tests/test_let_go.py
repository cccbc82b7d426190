"""When an IP is let go, its journal says what has become of its owner."""

from __future__ import annotations

from typing import Any

import pytest
from builders import MAC, NOW, Cloud, context

from ovnreserve.model.owner import STATEFUL_SET, VIRTUAL_MACHINE, Owner, owner_name
from ovnreserve.model.resource import State
from ovnreserve.plan.adopt import plan_retain
from ovnreserve.plan.identity import Identity
from ovnreserve.plan.retain import retainer, rule

GONE = {"state": State.RELEASING, "deleted": NOW}


def owner(kind: str = STATEFUL_SET, title: str = "web", **fields: Any) -> Owner:
    values = {"namespace": "default", "uid": "u", "state": State.HELD, "created": NOW, "resource_version": 1, **fields}
    return Owner(name=owner_name(kind, values["namespace"], title), kind=kind, title=title, **values)


@pytest.mark.parametrize(
    ("pod", "pod_type", "owners", "keep_vm_ip", "why"),
    [
        ("web-1", "", [owner()], True, "StatefulSet default/web has 1 replica, its ordinals end below 1"),
        ("web-3", STATEFUL_SET, [owner(replicas=3)], True,
         "StatefulSet default/web has 3 replicas, its ordinals end below 3"),
        ("web-9", STATEFUL_SET, [owner(replicas=2, start=4)], True,
         "StatefulSet default/web has 2 replicas from ordinal 4, its ordinals end below 6"),
        ("web-0", STATEFUL_SET, [owner(replicas=0)], True, "StatefulSet default/web has 0 replicas"),
        ("web-0", STATEFUL_SET, [owner(**GONE)], True, "StatefulSet default/web is deleted"),
        ("vm1", VIRTUAL_MACHINE, [owner(VIRTUAL_MACHINE, "vm1", **GONE)], True,
         "VirtualMachine default/vm1 is deleted"),
        ("vm1", VIRTUAL_MACHINE, [owner(VIRTUAL_MACHINE, "vm1")], False, "keep_vm_ip is off"),
        ("vm1", VIRTUAL_MACHINE, [], False, "keep_vm_ip is off"),
        ("web-1", "", [owner(VIRTUAL_MACHINE, "web-1", **GONE), owner()], True,
         "VirtualMachine default/web-1 is deleted and StatefulSet default/web has 1 replica, its ordinals end below 1"),
        ("pod", "", [], True, "it has no owner"),
        ("pod-1", "Deployment", [owner(title="pod")], True, "it has no owner"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("has_port", [True, False])
def test_the_journal_says_why_nobody_keeps_it(
    pod: str, pod_type: str, owners: list[Owner], why: str, *, keep_vm_ip: bool, has_port: bool
) -> None:
    cloud = Cloud()
    cloud.world.keep_vm_ip = keep_vm_ip
    r = cloud.reserve(cloud.switch(), f"{pod}.default", pod_type=pod_type, reserved=False)
    for each in owners:
        cloud.world.put(each)
    if has_port:
        cloud.port(r.switch, r.name, r.port_addresses)
    event = plan_retain(cloud.world, r.name, context()).events[0]
    given_back = f"{r.port_addresses} is its port's again: {why}"
    assert (event.reason, event.message) == (("GivenBack", given_back) if has_port else ("LetGo", why))


@pytest.mark.parametrize(
    ("pod", "pod_type", "owners", "keeper", "why"),
    [
        ("web-0", "", [owner()], STATEFUL_SET, "StatefulSet default/web, ordinals below 1"),
        ("web-9", STATEFUL_SET, [], STATEFUL_SET,
         "the StatefulSet of default/web-9, which is not known to have shrunk"),
        ("vm1", "", [owner(VIRTUAL_MACHINE, "vm1")], VIRTUAL_MACHINE, "VirtualMachine default/vm1"),
        ("vm1", VIRTUAL_MACHINE, [], VIRTUAL_MACHINE, "VirtualMachine default/vm1, which is not known to be gone"),
    ],
)  # fmt: skip
def test_the_journal_says_who_keeps_it(pod: str, pod_type: str, owners: list[Owner], keeper: str, why: str) -> None:
    cloud = Cloud()
    cloud.world.keep_vm_ip = True
    for each in owners:
        cloud.world.put(each)
    who = Identity(pod, "default", pod_type)
    assert rule(cloud.world, who) == (keeper, why)
    assert retainer(cloud.world, who) == (keeper, why)
    cloud.port(
        cloud.switch(), f"{pod}.default", f"{MAC} 10.0.0.9", ids={"ovnreserve/pod-type": pod_type} if pod_type else {}
    )
    event = plan_retain(cloud.world, f"{pod}.default", context()).events[0]
    assert (event.reason, event.message) == ("Retained", f"kept by {why}")


@pytest.mark.parametrize(
    ("replicas", "start", "words"),
    [(0, 0, "0 replicas"), (1, 0, "1 replica"), (2, 0, "2 replicas"), (1, 5, "1 replica from ordinal 5")],
)
def test_how_many_pods_a_set_has_is_said_in_words(replicas: int, start: int, words: str) -> None:
    assert owner(replicas=replicas, start=start).scale == words
