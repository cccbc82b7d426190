"""Retain: an IP that was born with a port and outlives it, because its owner has said so.

    VirtualMachine, with keep_vm_ip     until the VirtualMachine is deleted
    StatefulSet                         while ordinal < ordinals.start + replicas; not once the set is deleted
    neither                             goes with its port

Whose an IP is, is told by its pod's type, where the port says it (`ovnreserve/pod-type`, or as its CMS does), else by
an owner of that name that somebody has applied. An owner that nobody has told of keeps: a fact that is missing must
cost no address.

A retained IP is a reservation whose label is "false", made when its port is first seen, since afterwards is too late:
adopted, pinned and excluded as any other. When nothing retains it any more it is given back to its port, and released
if there is none. What is reserved, by label, is none of this module's business until the label is taken away.
"""

from __future__ import annotations

from typing import NamedTuple

from ovnreserve.model.owner import STATEFUL_SET, VIRTUAL_MACHINE, owner_name, set_of
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.model.steps import DropRecord
from ovnreserve.plan.bind import judge, own_port
from ovnreserve.plan.identity import Identity
from ovnreserve.plan.outcome import Context, Event, Plan
from ovnreserve.plan.release import plan_release
from ovnreserve.plan.squatters import unblocked
from ovnreserve.plan.world import World


class Rule(NamedTuple):
    """What becomes of an IP when its port goes: the podType of the owner that keeps it, "" if none does; and why, in
    words.
    """

    pod_type: str
    why: str


def retainer(world: World, who: Identity) -> Rule | None:
    """Who keeps the IP of that workload when its port goes; None if nobody does."""
    found = rule(world, who)
    return found if found.pod_type else None


def rule(world: World, who: Identity) -> Rule:
    """The table above, for one workload."""
    name, namespace, pod_type = who
    against: list[str] = []
    machine = world.owners.get(owner_name(VIRTUAL_MACHINE, namespace, name))
    if pod_type == VIRTUAL_MACHINE or (not pod_type and machine is not None):
        if not world.keep_vm_ip:
            against.append("keep_vm_ip is off")
        elif machine is None:
            return Rule(VIRTUAL_MACHINE, f"VirtualMachine {_shown(who)}, which is not known to be gone")
        elif machine.state is State.RELEASING:
            against.append(f"{machine.what} is deleted")
        else:
            return Rule(VIRTUAL_MACHINE, machine.what)
    member = set_of(name)
    stateful_set = None if member is None else world.owners.get(owner_name(STATEFUL_SET, namespace, member[0]))
    if pod_type == STATEFUL_SET or (not pod_type and stateful_set is not None):
        if member is None or stateful_set is None:
            unknown = f"the StatefulSet of {_shown(who)}, which is not known to have shrunk"
            return Rule(STATEFUL_SET, unknown)
        if stateful_set.state is State.RELEASING:
            against.append(f"{stateful_set.what} is deleted")
        elif member[1] < stateful_set.end:
            return Rule(STATEFUL_SET, f"{stateful_set.what}, ordinals below {stateful_set.end}")
        else:
            ends = f", its ordinals end below {stateful_set.end}" if stateful_set.replicas else ""
            against.append(f"{stateful_set.what} has {stateful_set.scale}{ends}")
    return Rule("", " and ".join(against) or "it has no owner")


def _shown(who: Identity) -> str:
    return f"{who.namespace}/{who.pod_name}" if who.namespace else who.pod_name


def identity_of(r: Reservation) -> Identity:
    return Identity(r.pod_name, r.namespace, r.pod_type)


def plan_let_go(world: World, r: Reservation, context: Context, why: str) -> Plan:
    """Give the IP back to its port, whose it is from then on as if nothing had been reserved; release it if there is
    none, or nothing to give back since it had failed. Nobody has asked for its deletion, which would be that of a port
    that comes meanwhile.
    """
    if not r.live or own_port(world, r) is None:
        plan = plan_release(world, r, context)
        leaving = plan.resource
        return plan._replace(
            resource=leaving.with_(deleted=None) if leaving is not None else None,
            events=(Event("Normal", "LetGo", r.name, why), *plan.events),
        )
    verdict = judge(world, r)
    uses_it = verdict.status or verdict.addresses is not None
    what = "is its port's again" if uses_it else "is free, for its port does not use it"
    event = Event("Normal", "GivenBack", r.name, f"{r.port_addresses} {what}: {why}")
    steps, events = unblocked(world, r)
    giving = r.with_(state=State.RELEASING, blocked={}, **context.stamp)
    return Plan("given back", giving, (*steps, DropRecord(giving)), (event, *events))
