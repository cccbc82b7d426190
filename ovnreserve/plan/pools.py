"""Pools: what becomes of a document for one.

A pool's IPv4 addresses are excluded, all of them at once, so that ovn-northd gives none of them to anybody. A dynamic
port that runs on one of them would be renumbered by that, so such an address is withheld until the port leaves, as a
repair does (plan/repair.py). The subnet of a pool never changes; its addresses and namespaces may, as long as nobody
has an address that is to leave it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from ovnreserve.model.addresses import format_v4, format_v6
from ovnreserve.model.errors import AlreadyExists, Conflict, FieldError, Invalid
from ovnreserve.model.pool import Pool, Ranges, WantedPool, format_ranges, pool_name, read_pool, read_range, without
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.model.runs import Runs
from ovnreserve.model.steps import MembersUnchanged, PutRecord, Step, UpdateRecord, WriteExcludes
from ovnreserve.model.topology import Port
from ovnreserve.plan.bind import withheld_of
from ovnreserve.plan.outcome import Context, Defer, Event, Plan
from ovnreserve.plan.patch import Patch, check_version, merged
from ovnreserve.plan.segment import FEW_PORTS, Segment
from ovnreserve.plan.world import World

KIND = "ippools"
NAMED = 5
"""So many of a pool's users are named."""
_Use = tuple[str, str]
"""Who has which address, in words."""


def plan_pool(world: World, wanted: WantedPool, context: Context, *, create: bool) -> Plan:
    """Make the pool, or bring the one that is there up to date, unless it has to be new (`create`). Raises Invalid,
    Conflict, AlreadyExists or Defer; nothing was written then.
    """
    present = world.pools.get(wanted.name)
    if present is None:
        return _create(world, wanted, context)
    if create:
        raise AlreadyExists.of(KIND, wanted.title)
    _check_present(present, wanted.resource_version)
    labels, annotations = {**present.labels, **wanted.labels}, {**present.annotations, **wanted.annotations}
    return _change(world, present, wanted, labels, annotations, context)


def plan_pool_patch(world: World, pool: Pool, patch: Patch, context: Context) -> Plan:
    """A merge patch: what it says of the spec replaces what was said before. Raises as `plan_pool`."""
    _check_present(pool, patch.version)
    old = {"subnet": pool.subnet, "namespaces": list(pool.namespaces), "ips": list(pool.ips)}
    wanted = read_pool({"metadata": {"name": pool.title}, "spec": {**old, **patch.spec}})
    labels, annotations = merged(pool.labels, patch.labels), merged(pool.annotations, patch.annotations)
    return _change(world, pool, wanted, labels, annotations, context)


def _check_present(pool: Pool, version: str) -> None:
    """Raises Conflict if the pool is not to be changed, or not of the version that somebody has seen."""
    if pool.state is State.RELEASING:
        raise _conflict(pool.title, "metadata.name", "the pool is being deleted; apply again when it is gone")
    if pool.state is State.FAILED:
        raise _conflict(pool.title, "metadata.name", f"the pool has failed ({pool.message}); delete it first")
    check_version(pool, version, pool.title, KIND)


def _create(world: World, wanted: WantedPool, context: Context) -> Plan:
    segment = _segment(world, wanted)
    fit = fitted(segment, wanted)
    _check_fit(wanted, fit)
    pool = Pool(
        name=wanted.name,
        uid=str(uuid.UUID(int=context.random.getrandbits(128), version=4)),
        title=wanted.title,
        switch=segment.switch.uuid,
        subnet=wanted.subnet,
        namespaces=wanted.namespaces,
        ips=wanted.ips,
        v4=fit.v4,
        v6=fit.v6,
        state=State.INTENDED,
        created=int(context.now),
        **context.stamp,
        labels=wanted.labels,
        annotations=wanted.annotations,
    )
    steps, events, warnings = excluding(world, segment, pool, pool.v4, context)
    event = Event("Normal", "PoolCreated", pool.name, f"keeps {pool.what}")
    return Plan("created", pool, (PutRecord(pool), *steps), (event, *events), (*fit.clipped, *warnings))


def _change(
    world: World,
    pool: Pool,
    wanted: WantedPool,
    labels: dict[str, str],
    annotations: dict[str, str],
    context: Context,
) -> Plan:
    if wanted.subnet != pool.subnet:
        error = FieldError.invalid("spec.subnet", wanted.subnet, "field is immutable")
        raise Invalid.because(pool.title, [error], "IPPool")
    v4, v6 = pool.v4, pool.v6
    clipped: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    events: tuple[Event, ...] = ()
    warnings: tuple[str, ...] = ()
    said: list[str] = []
    if wanted.ips != pool.ips:
        segment = world.segments.get(pool.switch)
        if segment is None:
            raise _conflict(pool.title, "spec.ips", f"logical switch {pool.subnet} ({pool.switch}) does not exist")
        world.settled(segment)
        fit = fitted(segment, wanted)
        _check_fit(wanted, fit)
        v4, v6, clipped = fit.v4, fit.v6, fit.clipped
        leaving = _only_in(segment, pool.name, without(pool.v4, v4), without(pool.v6, v6))
        found = list(_users(world, segment, *leaving, ports=False))
        if found:
            raise _conflict(pool.title, "spec.ips", f"addresses that are to leave the pool are {_in_use(found)}")
        changed = pool.with_(v4=v4, v6=v6)
        steps, events, warnings = excluding(world, segment, changed, without(v4, pool.v4), context)
        said.append(f"ips {', '.join(wanted.ips)}, were {', '.join(pool.ips)}")
    if wanted.namespaces != pool.namespaces:
        said.append(f"namespaces {', '.join(wanted.namespaces) or 'none'}, were {', '.join(pool.namespaces) or 'none'}")
    if not said and labels == pool.labels and annotations == pool.annotations:
        return Plan("unchanged", pool, (), (), clipped)
    changed = pool.with_(
        ips=wanted.ips, v4=v4, v6=v6, namespaces=wanted.namespaces, labels=labels, annotations=annotations,
        generation=pool.generation + bool(said), **context.stamp,
    )  # fmt: skip
    event = Event("Normal", "PoolChanged", pool.name, "; ".join(said) or "labels or annotations")
    return Plan("configured", changed, (UpdateRecord(changed), *steps), (event, *events), (*clipped, *warnings))


def _conflict(title: str, field: str, what: str) -> Conflict:
    return Conflict.over(title, field, what, KIND)


# ---- what a pool may be --------------------------------------------------------------------------------------------


def _segment(world: World, wanted: WantedPool) -> Segment:
    """The one switch of that name, which must be a subnet."""
    found = world.switches_named(wanted.subnet)
    why = ""
    if not found:
        why = "no logical switch has this name (ovn-nbctl ls-list)"
    elif len(found) > 1:
        uuids = ", ".join(segment.switch.uuid for segment in found)
        why = f"{len(found)} logical switches have this name: {uuids}"
    elif not any(world.settled(found[0]).networks):
        why = "the logical switch has no CIDR: no valid other_config:subnet or ipv6_prefix, and no router port"
    if why:
        error = FieldError.invalid("spec.subnet", wanted.subnet, why)
        raise Invalid.because(wanted.title, [error], "IPPool")
    return found[0]


class Fit(NamedTuple):
    """What of a pool's addresses is to be had on a switch; else what is wrong, and who has them: (field, what)."""

    v4: Ranges
    v6: Ranges
    errors: tuple[FieldError, ...]
    taken: tuple[tuple[str, str], ...]
    clipped: tuple[str, ...]


def fitted(segment: Segment, asked: WantedPool | Pool) -> Fit:
    """Hold a pool's addresses against the networks of the switch and its other pools."""
    errors: list[FieldError] = []
    taken: list[tuple[str, str]] = []
    clipped: list[str] = []
    runs = {4: Runs(), 6: Runs()}
    for index, text in enumerate(asked.ips):
        field = f"spec.ips[{index}]"
        family, first, last = read_range(text)
        space = segment.space(family)
        if space is None:
            errors.append(FieldError.invalid(field, text, f"subnet {segment.switch.name} has no IPv{family} CIDR"))
            continue
        if first not in space.cidr or last not in space.cidr:
            errors.append(FieldError.invalid(field, text, f"must be within {space.cidr}"))
            continue
        begin, end = max(first, space.cidr.hosts[0]), min(last, space.cidr.hosts[1])
        nobodys = _nobodys(family, [a for a, kept in ((first, begin), (last, end)) if a != kept])
        if begin > end:
            errors.append(FieldError.invalid(field, text, f"is {nobodys} of {space.cidr}"))
            continue
        if nobodys:
            clipped.append(f"{field}: {text} is without {nobodys} of {space.cidr}, which nobody can have")
        for other, a, b in segment.pools.overlapping(pool_name(asked.title), family, begin, end):
            [shared] = format_ranges(family, [(a, b)])
            taken.append((field, f"IPPool {other.title} has {shared}"))
        runs[family].add_range(begin, end)
    return Fit(tuple(runs[4]), tuple(runs[6]), tuple(errors), tuple(taken), tuple(clipped))


def _nobodys(family: int, addresses: Iterable[int]) -> str:
    what = "network and broadcast address" if family == 4 else "Subnet-Router anycast address"
    shown = " and ".join(dict.fromkeys(_shown(family, address) for address in addresses))
    return f"{shown} ({what})" if shown else ""


def _check_fit(wanted: WantedPool, fit: Fit) -> None:
    """Raises Invalid naming every bad field, else Conflict naming the first other pool."""
    if fit.errors:
        raise Invalid.because(wanted.title, fit.errors, "IPPool")
    for field, what in fit.taken:
        raise _conflict(wanted.title, field, what)


def misfit_of(world: World, segment: Segment | None, pool: Pool) -> str:
    """Why the pool cannot be had on the switch; "" if it can."""
    if segment is None:
        return f"logical switch {pool.subnet} ({pool.switch}) does not exist any more"
    fit = fitted(world.settled(segment), pool)
    whats = (*(f"{error.field}: {error.message}" for error in fit.errors), *(f"{f}: {what}" for f, what in fit.taken))
    return next(iter(whats), "")


def pooled_without(segment: Segment, excluded: Runs) -> Ranges:
    """What of the pools' IPv4 addresses within the subnet is not among these."""
    if segment.v4 is None:
        return ()
    lacking = Runs(segment.pools.runs(4).runs_in(*segment.v4.cidr.hosts))
    for run in tuple(lacking):
        for first, last in excluded.runs_in(*run):
            lacking.remove_range(first, last)
    return tuple(lacking)


# ---- who is there --------------------------------------------------------------------------------------------------


def running_in(world: World, segment: Segment, ranges: Ranges) -> Iterator[tuple[int, Port]]:
    """The dynamic ports that ovn-northd has given IPv4 addresses of these ranges, which nobody has reserved."""
    for address in segment.holders_in(4, ranges):
        if (4, address) not in segment.reserved:
            yield from ((address, port) for port in world.running_on(segment, address))


def excluding(
    world: World, segment: Segment, pool: Pool, added: Ranges, context: Context
) -> tuple[tuple[Step, ...], tuple[Event, ...], tuple[str, ...]]:
    """What it takes to exclude the pool's new addresses and renumber nobody, and what is to be said of it. Raises Defer
    while ovn-northd is about to choose addresses there.
    """
    if not added:
        return (), (), ()
    if context.patient and segment.pending and segment.switch.has_ipam:
        raise Defer(segment.switch.uuid)
    steps: list[Step] = []
    found = list(running_in(world, segment, added))
    if found:
        kept = {a for a in segment.withheld if (4, a) in segment.reserved or _is_pooled_after(segment, pool, a)}
        steps.append(WriteExcludes(segment.switch.uuid, frozenset(kept.union(address for address, _port in found))))
    if context.patient and segment.members <= FEW_PORTS:
        steps.append(MembersUnchanged(segment.switch.uuid))
    events = tuple(withheld_of(pool.name, port) for _address, port in found)
    warnings = tuple(
        f"port {port.name} runs on {format_v4(address)}, which is not excluded until it leaves"
        for address, port in found
    )
    return tuple(steps), events, warnings


def _is_pooled_after(segment: Segment, changed: Pool, address: int) -> bool:
    pool = segment.pools.at(4, address)
    mine = any(first <= address <= last for first, last in changed.v4)
    return mine or (pool is not None and pool.name != changed.name)


def check_unused(world: World, pool: Pool) -> None:
    """Raises Conflict if an IP or a port has one of the pool's addresses."""
    segment = world.segments.get(pool.switch)
    if segment is None:
        found = list(_awaiting(world, pool))
    else:
        found = list(_users(world, segment, *_only_in(segment, pool.name, pool.v4, pool.v6)))
    if found:
        raise _conflict(pool.title, "spec.ips", f"the pool is {_in_use(found)}")


def _only_in(segment: Segment, name: str, v4: Ranges, v6: Ranges) -> tuple[Ranges, Ranges]:
    """Those of a pool's addresses that no other pool has too: these stay pooled whatever becomes of this one."""

    def alone(family: int, ranges: Ranges) -> Ranges:
        shared = (segment.pools.overlapping(name, family, first, last) for first, last in ranges)
        others = Runs((begin, end) for each in shared for _pool, begin, end in each)
        return without(ranges, tuple(others))

    return alone(4, v4), alone(6, v6)


def _users(world: World, segment: Segment, v4: Ranges, v6: Ranges, *, ports: bool = True) -> Iterator[_Use]:
    for family, ranges in ((4, v4), (6, v6)):
        for address in segment.holders_in(family, ranges, ports=ports):
            name = segment.reserved.get((family, address))
            if name is not None:
                yield f"IP {name}", _shown(family, address)
                continue
            for uuid_ in sorted(segment.port_addresses[family, address]):
                yield f"logical switch port {world.ports[uuid_].name}", _shown(family, address)


def _awaiting(world: World, pool: Pool) -> Iterator[_Use]:
    """The IPs that have addresses of a pool whose switch is gone: they wait for it to be back, as the pool does."""
    kept = (world.resource(name) for name in world.kept_for(pool.switch))
    for r in (r for r in kept if isinstance(r, Reservation) and r.live):
        for family, address in ((4, r.v4), (6, r.v6)):
            if address is not None and any(first <= address <= last for first, last in pool.ranges(family)):
                yield f"IP {r.name}", _shown(family, address)


def _in_use(found: list[_Use]) -> str:
    """`in use by A (its addresses), B, C and 3 more`."""
    has: dict[str, list[str]] = {}
    for who, address in found:
        has.setdefault(who, []).append(address)
    more = f" and {len(has) - NAMED} more" if len(has) > NAMED else ""
    named = (f"{who} ({', '.join(addresses)})" for who, addresses in islice(has.items(), NAMED))
    return f"in use by {', '.join(named)}{more}"


def _shown(family: int, address: int) -> str:
    return format_v4(address) if family == 4 else format_v6(address)
