"""Rehome: a logical switch was deleted, and one of its name was made anew, with another uuid.

A CMS that rebuilds its networks does that. A reservation is for a subnet, and the subnet's name is the switch's name:
so what still fits moves to the new switch, and the rest fails, saying why.

    its addresses are no hosts of the new networks        Failed
    another reservation has an address or the MAC there   Failed
    its port would have another name there                Failed
    a pool's addresses are another's, or of no network    Failed
    else                                                  written and excluded there, as by plan/repair.py: our own
                                                          dynamic port is pinned, somebody else's not renumbered

While no switch has the name, or several have, it stays where it was: the old switch may come back.
"""

from __future__ import annotations

from ovnreserve.model.addresses import format_v4, format_v6
from ovnreserve.model.names import port_name
from ovnreserve.model.pool import Pool
from ovnreserve.model.reservation import Reservation, is_named_after
from ovnreserve.model.resource import Resource, State
from ovnreserve.model.steps import MembersUnchanged, PutRecord, Step, WriteAddresses, WriteExcludes
from ovnreserve.plan.bind import judge, seen, withheld_of
from ovnreserve.plan.outcome import Context, Defer, Event, Plan
from ovnreserve.plan.pools import excluding, fitted, misfit_of
from ovnreserve.plan.segment import FEW_PORTS, Segment
from ovnreserve.plan.world import World


def new_home(world: World, r: Resource) -> Segment | None:
    """The switch that has taken the place of the reservation's or the pool's, if that is gone."""
    if not isinstance(r, Reservation | Pool) or r.switch in world.segments:
        return None
    found = world.switches_named(r.subnet)
    return found[0] if len(found) == 1 else None


def plan_rehome(world: World, r: Resource, context: Context) -> Plan:
    """Raises Defer while ovn-northd is about to choose addresses there."""
    segment = new_home(world, r)
    if segment is None or r.state is not State.HELD:
        return Plan("unchanged")
    world.settled(segment)
    if isinstance(r, Pool):
        return _rehome_pool(segment, world, r, context)
    return _rehome(segment, world, r, context) if isinstance(r, Reservation) else Plan("unchanged")


def _rehome_pool(segment: Segment, world: World, pool: Pool, context: Context) -> Plan:
    switch = segment.switch
    anew = f"logical switch {switch.name} was made anew ({switch.uuid}, was {pool.switch})"
    misfit = misfit_of(world, segment, pool)
    if misfit:
        message = f"{anew}: {misfit}"
        failed = pool.with_(state=State.FAILED, message=message, **context.stamp)
        return Plan("failed", failed, (PutRecord(failed),), (Event("Warning", "Failed", pool.name, message),))
    fit = fitted(segment, pool)
    moved = pool.with_(switch=switch.uuid, v4=fit.v4, v6=fit.v6, **context.stamp)
    steps, events, _warnings = excluding(world, segment, moved, moved.v4, context)
    event = Event("Normal", "Rehomed", pool.name, f"{pool.what}: kept, though {anew}")
    return Plan("rehomed", moved, (PutRecord(moved), *steps), (event, *events))


def _rehome(segment: Segment, world: World, r: Reservation, context: Context) -> Plan:
    switch = segment.switch
    misfit = _misfit(segment, r)
    if misfit is not None:
        message = f"logical switch {switch.name} was made anew ({switch.uuid}, was {r.switch}): {misfit}"
        failed = r.with_(state=State.FAILED, message=message, **context.stamp)
        return Plan("failed", failed, (PutRecord(failed),), (Event("Warning", "Failed", r.name, message),))
    if context.patient and r.v4 is not None and segment.pending and switch.has_ipam:
        raise Defer(switch.uuid)
    moved = r.with_(switch=switch.uuid, **context.stamp)
    steps: list[Step] = [PutRecord(moved)]
    what = f"{r.port_addresses} is kept on logical switch {switch.name}, which was made anew ({switch.uuid})"
    events = [Event("Normal", "Rehomed", r.name, what)]
    kept = () if r.v4 is None else (r.v4,)
    for port in (port for address in kept for port in world.running_on(segment, address)):
        verdict = judge(world, moved)
        if port.name == r.name and verdict.addresses is not None:
            steps.append(WriteAddresses(port.uuid, seen(port), verdict.addresses, r.name))
        else:
            steps.append(WriteExcludes(switch.uuid, frozenset(segment.withheld.union(kept))))
            events.append(withheld_of(r.name, port))
    if context.patient and r.v4 is not None and segment.members <= FEW_PORTS:
        steps.append(MembersUnchanged(switch.uuid))
    return Plan("rehomed", moved, tuple(steps), tuple(events))


def _misfit(segment: Segment, r: Reservation) -> str | None:
    """Why the reservation cannot be had on that switch."""
    expected = port_name(r.pod_name, r.namespace, segment.switch.provider)
    if expected != r.name and is_named_after(r.name, r.pod_name, r.namespace):
        return f"its port would be called {expected} there"
    for family, address in ((4, r.v4), (6, r.v6)):
        if address is None:
            continue
        shown = format_v4(address) if family == 4 else format_v6(address)
        space = segment.space(family)
        if space is None:
            return f"{shown} has no network there"
        first, last = space.cidr.hosts
        if not first <= address <= last:
            return f"{shown} is no host of {space.cidr}"
        holder = segment.reserved.get((family, address))
        if holder is not None:
            return f"IP {holder} has {shown}"
    holder = segment.reserved_macs.get(r.mac)
    return f"IP {holder} has MAC {r.mac}" if holder is not None else None
