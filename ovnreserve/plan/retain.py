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

from ovnreserve.model.owner import STATEFUL_SET, VIRTUAL_MACHINE, Owner, owner_name, set_of
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.model.steps import DropRecord
from ovnreserve.plan.bind import own_port
from ovnreserve.plan.identity import Identity
from ovnreserve.plan.outcome import Context, Event, Plan
from ovnreserve.plan.release import plan_release
from ovnreserve.plan.squatters import unblocked
from ovnreserve.plan.world import World


def retainer(world: World, who: Identity) -> tuple[str, str] | None:
    """Who keeps the IP of that workload when its port goes: (podType, in words); None if nobody does."""
    name, namespace, pod_type = who
    machine = world.owners.get(owner_name(VIRTUAL_MACHINE, namespace, name))
    if world.keep_vm_ip and (pod_type == VIRTUAL_MACHINE or (not pod_type and machine is not None)):
        if machine is None:
            return VIRTUAL_MACHINE, f"VirtualMachine {namespace}/{name}, which is not known to be gone"
        if machine.state is not State.RELEASING:
            return VIRTUAL_MACHINE, machine.what
    member = set_of(name)
    stateful_set = None if member is None else world.owners.get(owner_name(STATEFUL_SET, namespace, member[0]))
    if pod_type == STATEFUL_SET or (not pod_type and stateful_set is not None):
        if member is None or stateful_set is None:
            return STATEFUL_SET, f"the StatefulSet of {namespace}/{name}, which is not known to have shrunk"
        if _has_pod(stateful_set, member[1]):
            return STATEFUL_SET, f"{stateful_set.what}, ordinals below {stateful_set.end}"
    return None


def _has_pod(stateful_set: Owner, ordinal: int) -> bool:
    return stateful_set.state is not State.RELEASING and ordinal < stateful_set.end


def identity_of(r: Reservation) -> Identity:
    return Identity(r.pod_name, r.namespace, r.pod_type)


def plan_let_go(world: World, r: Reservation, context: Context, why: str) -> Plan:
    """Give the IP back to its port, whose it is from then on as if nothing had been reserved; release it if there is
    none.
    """
    port = own_port(world, r)
    if port is None:
        plan = plan_release(world, r, context)
        return plan._replace(events=(Event("Normal", "LetGo", r.name, why), *plan.events))
    event = Event("Normal", "GivenBack", r.name, f"{r.port_addresses} is its port's again: {why}")
    steps, events = unblocked(world, r)
    return Plan("given back", None, (*steps, DropRecord(r)), (event, *events))
