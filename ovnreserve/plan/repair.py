"""Repair: make the northbound database say again what the ledger says, without hurting anybody who came meanwhile.

Somebody rewrote exclude_ips and our text is gone; or a record is; or a reservation was begun and not done. An address
that is not excluded may have been given to a port by ovn-northd, and excluding it now would renumber that port. So
address by address, those of pools too:

    nobody dynamic has it             excluded again
    our own port has it, dynamic      pinned in the same transaction
    somebody else's dynamic port      withheld: not excluded, Conflicted=True, until that port leaves
"""

from __future__ import annotations

from typing import Final

from ovnreserve.model import exclude_ips
from ovnreserve.model.addresses import format_v4
from ovnreserve.model.errors import Conflict
from ovnreserve.model.pool import Pool
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Resource, State
from ovnreserve.model.runs import Runs
from ovnreserve.model.steps import MembersUnchanged, PutRecord, Step, WriteAddresses, WriteExcludes
from ovnreserve.plan.bind import judge, seen, withheld_of
from ovnreserve.plan.holders import check_free
from ovnreserve.plan.outcome import Context, Defer, Event, Plan
from ovnreserve.plan.pools import misfit_of, pooled_without, running_in
from ovnreserve.plan.segment import FEW_PORTS, Segment
from ovnreserve.plan.squatters import still_blocked
from ovnreserve.plan.world import World

_SHOWN: Final = 200
"""Characters of somebody's exclude_ips that the journal quotes."""


def plan_resume(world: World, r: Resource, context: Context, was: str = "the northbound database had none") -> Plan:
    """Write the resource's record again; `was` tells the journal what had become of it. A reservation that was never
    acknowledged and cannot be had any more fails; one that was waits for its switch to be back, however long:
    somebody may be about to restore the database.

    Where its address is not excluded, the switch's repair was planned before in the same batch.
    """
    if r.state is State.FAILED:
        return Plan("failed", r, (PutRecord(r),))
    if not isinstance(r, Reservation):
        return _resume_fact(world, r, context, was)
    segment = world.segments.get(r.switch)
    if segment is None and r.state is State.HELD:
        return Plan("unchanged")
    if segment is None:
        message = f"logical switch {r.subnet} ({r.switch}) does not exist any more"
        return _failed(r, message, context)
    world.settled(segment)
    port = world.port(r.name)
    own = port if port is not None and port.switch == r.switch else None
    if r.state is State.INTENDED:
        try:
            for family, address in ((4, r.v4), (6, r.v6)):
                if address is not None:
                    check_free(world, segment, r.name, family, address, own)
        except Conflict as conflict:
            return _failed(r, conflict.message, context)
    r = r.with_(blocked=still_blocked(world, r))
    held = r.with_(state=State.HELD)
    event = Event("Normal", "Republished", r.name, f"wrote the record of {r.port_addresses} again: {was}")
    verdict = judge(world, r)
    if own is None or verdict.addresses is None:
        return Plan("created", r, (PutRecord(held),), (event,))
    bind = WriteAddresses(own.uuid, seen(own), verdict.addresses, r.name)
    return Plan("created", r, (PutRecord(held), bind), (event,))


def _resume_fact(world: World, r: Resource, context: Context, was: str) -> Plan:
    if isinstance(r, Pool):
        segment = world.segments.get(r.switch)
        if segment is None and r.state is State.HELD:
            return Plan("unchanged")
        if r.state is State.INTENDED:
            misfit = misfit_of(world, segment, r)
            if misfit:
                return _failed(r, misfit, context)
    event = Event("Normal", "Republished", r.name, f"wrote the record of {r.what} again: {was}")
    return Plan("created", r, (PutRecord(r.with_(state=State.HELD)),), (event,))


def _failed(r: Resource, message: str, context: Context) -> Plan:
    failed = r.with_(state=State.FAILED, message=message, **context.stamp)
    return Plan("failed", failed, (PutRecord(failed),), (Event("Warning", "Failed", r.name, message),))


def plan_repair(world: World, segment: Segment, context: Context) -> Plan:
    """Bring our part of the switch's exclude_ips up to date. Result `unchanged` if it is."""
    excluded = Runs()
    if segment.v4 is not None:
        cidr = segment.v4.cidr
        for first, last in exclude_ips.parse(segment.ours, cidr.first, cidr.prefixlen).ranges:
            excluded.add_range(first, last)
    withheld: set[int] = set()
    pins: list[Step] = []
    events: list[Event] = []
    missing = False
    for (family, address), name in segment.reserved.items():
        if family != 4 or address in excluded:
            continue
        missing = True
        for port in world.running_on(segment, address):
            r = world.reservations[name]
            verdict = judge(world, r) if port.name == name and r.state is not State.RELEASING else None
            if verdict is not None and verdict.addresses is not None:
                pins.append(WriteAddresses(port.uuid, seen(port), verdict.addresses, name))
            else:
                withheld.add(address)
                if address not in segment.withheld:
                    events.append(withheld_of(name, port))
    lacking = pooled_without(segment, excluded)
    for address, port in running_in(world, segment, lacking):
        pool = segment.pools.at(4, address)
        withheld.add(address)
        if address not in segment.withheld and pool is not None:
            events.append(withheld_of(pool.name, port))
    missing = missing or bool(lacking)
    if missing and context.patient and segment.pending and segment.switch.has_ipam:
        raise Defer(segment.switch.uuid)
    if not pins and withheld == segment.withheld and is_written(segment):
        return Plan("unchanged")
    events.insert(0, _repaired(segment, withheld))
    steps: list[Step] = [WriteExcludes(segment.switch.uuid, frozenset(withheld)), *pins]
    if missing and context.patient and segment.members <= FEW_PORTS:
        steps.append(MembersUnchanged(segment.switch.uuid))  # one that has just come may run on what is missing
    return Plan("repaired", None, tuple(steps), tuple(events))


def _repaired(segment: Segment, withheld: set[int]) -> Event:
    """What the journal has under the switch's name."""
    switch = segment.switch
    about = f"subnet/{switch.name}"
    where = f"exclude_ips of logical switch {switch.name} ({switch.uuid})"
    left = ", ".join(format_v4(address) for address in sorted(segment.withheld - withheld))
    if is_written(segment):
        what = f"{left}, withheld until now, is excluded again" if left else "what it may not exclude is withheld"
        return Event("Normal", "Repaired", about, f"{where}: {what}")
    was = switch.exclude_ips or ""
    return Event("Warning", "Repaired", about, f'{where} was "{_short(was)}": our part is written again')


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def is_written(segment: Segment) -> bool:
    """Is our part of exclude_ips in the database what it should be?"""
    value, mark = exclude_ips.join(segment.excluded.text(), segment.theirs)
    return (value, mark) == (segment.switch.exclude_ips or "", segment.switch.mark or "")
