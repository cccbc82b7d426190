"""What pools promise (docs/pools.md), told once more and held against what the daemon does.

`misallotted` and `mispooled` judge a transaction of the daemon's, `miscounted` what users see of subnets and pools, and
`pools_unsettled` what is so once nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from builders import NOW, Tables
from ovsdb_model import PORTS, SWITCHES

from ovnreserve.engine.batch import Batch
from ovnreserve.engine.work import Apply, Create
from ovnreserve.model import exclude_ips
from ovnreserve.model.addresses import format_v4, format_v6
from ovnreserve.model.errors import NoAvailableAddress
from ovnreserve.model.ip import Wanted
from ovnreserve.model.names import port_name
from ovnreserve.model.pool import IP_POOL, Pool, Ranges, ranges_of
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.model.topology import Port, port_of, switch_of
from ovnreserve.plan.outcome import Context
from ovnreserve.plan.pool_status import describe_pool
from ovnreserve.plan.reserve import plan_create
from ovnreserve.plan.segment import Segment
from ovnreserve.plan.world import World

if TYPE_CHECKING:
    from lifecycle import Site

def is_within(address: int, ranges: Iterable[tuple[int, int]]) -> bool:
    return any(first <= address <= last for first, last in ranges)


def clipped(ranges: Ranges, hosts: tuple[int, int]) -> Ranges:
    """What of the ranges lies within the hosts of a network."""
    cut = ((max(first, hosts[0]), min(last, hosts[1])) for first, last in ranges)
    return tuple((first, last) for first, last in cut if first <= last)


def size(ranges: Ranges) -> int:
    return sum(last - first + 1 for first, last in ranges)


def pools_of(pools: Iterable[Pool], switch: str) -> list[Pool]:
    """The pools in force on the switch, by name."""
    return sorted((pool for pool in pools if pool.switch == switch and pool.live), key=lambda pool: pool.name)


def giving(pools: Iterable[Pool], wanted: Wanted, family: int) -> list[Pool]:
    """The pools in force of the IP's subnet that its automatic address of the family has to be from, by name."""
    named = wanted.annotations.get(IP_POOL)
    return [
        pool for pool in pools
        if pool.state in (State.INTENDED, State.HELD) and pool.ranges(family)
        and (pool.title == named if named else wanted.namespace in pool.namespaces)
    ]  # fmt: skip


def _shown(family: int, address: int) -> str:
    return format_v4(address) if family == 4 else format_v6(address)


# ---- of a transaction ------------------------------------------------------------------------------------------------


def misallotted(site: Site, batch: Batch, seen: Tables) -> Iterator[str]:
    """Addresses of new IPs that the pools, as they were when each was planned, have for others. What a running port
    has, it keeps.
    """
    before = batch.before
    pools = dict(site.world.pools)
    pools.update((name, pool) for name, pool in before.items() if isinstance(pool, Pool))
    for name, old in before.items():
        if old is None:
            pools.pop(name, None)
    for work, plan in batch.planned:
        r = plan.resource
        if isinstance(r, Pool):
            pools[r.name] = r
        elif plan.ends or plan.result == "deleted":
            pools.pop(work.name, None)
        if isinstance(r, Reservation) and before.get(r.name) is None and plan.result == "created" and r.live:
            asked = work.ticket.key if work.ticket is not None else None
            wanted = asked.wanted if isinstance(asked, Apply | Create) and isinstance(asked.wanted, Wanted) else None
            yield from _misallotted(r, wanted, _port_named(seen, r), pools_of(pools.values(), r.switch))


def _port_named(seen: Tables, r: Reservation) -> Port | None:
    members = seen[SWITCHES].get(r.switch, {"ports": ()})["ports"]
    found = (uuid for uuid in members if seen[PORTS][uuid]["name"] == r.name)
    return next((port_of(uuid, seen[PORTS][uuid], r.switch) for uuid in found), None)


def _misallotted(r: Reservation, wanted: Wanted | None, port: Port | None, pools: list[Pool]) -> Iterator[str]:
    runs_on = {a for e in (port.has if port is not None else ()) for a in (*e.v4, *e.v6)}
    asks = {a for e in (port.elements if port is not None else ()) for a in (*e.v4, *e.v6)}
    for family, address in ((4, r.v4), (6, r.v6)):
        if address is None or address in runs_on:
            continue
        shown = f"{_shown(family, address)} of IP {r.name}"
        if wanted is None:
            yield f"{shown} is not what its port has"
            continue
        its = next((pool for pool in pools if is_within(address, pool.ranges(family))), None)
        named = wanted.annotations.get(IP_POOL)
        if address in (wanted.v4, wanted.v6, *asks):
            is_its = its is None or (r.namespace in its.namespaces if its.namespaces else its.title == named)
        else:
            those = giving(pools, wanted, family)
            is_its = its in those if those else its is None
            if named and any(pool.namespaces and r.namespace not in pool.namespaces for pool in those):
                yield f"{shown} is of an IPPool {named} that is for others"
        if not is_its:
            yield f"{shown} ({wanted}) is of {its and its.what}"


def mispooled(site: Site, batch: Batch, seen: Tables) -> Iterator[str]:
    """Pools that overlap, that are not what was asked for, or that have let go of what somebody has."""
    before = batch.before
    for one, other in combinations(site.world.pools.values(), 2):
        if one.switch == other.switch and one.live and other.live:
            for family in (4, 6):
                ends = [end for run in other.ranges(family) for end in run]
                more = [end for run in one.ranges(family) for end in run]
                if any(is_within(end, one.ranges(family)) for end in ends) or any(
                    is_within(end, other.ranges(family)) for end in more
                ):
                    yield f"{one.what} overlaps {other.what}"
    for _work, plan in batch.planned:
        pool = plan.resource
        if not isinstance(pool, Pool) or plan.result == "unchanged":
            continue
        old = before.get(pool.name)
        lost = [old.ranges(family) for family in (4, 6)] if isinstance(old, Pool) and old.live else [(), ()]
        if plan.result == "deleted" and isinstance(old, Pool) and old.state is not State.RELEASING:
            users = [*_ips_in(site.world, batch, old, lost), *_ports_in(seen, old, lost)]
            if users:
                yield f"{pool.what} was deleted, though it is in use by {users}"
        elif pool.live and (not isinstance(old, Pool) or (old.ips, old.switch) != (pool.ips, pool.switch)):
            yield from _not_as_asked(pool, seen)
            if isinstance(old, Pool) and old.switch == pool.switch:
                users = [
                    user for user, family, address in _addresses_of(site.world, batch, pool)
                    if is_within(address, old.ranges(family)) and not is_within(address, pool.ranges(family))
                ]  # fmt: skip
                if users:
                    yield f"{pool.what} was {', '.join(old.ips)}, and lost addresses of {users}"


def _not_as_asked(pool: Pool, seen: Tables) -> Iterator[str]:
    switch = switch_of("", seen[SWITCHES].get(pool.switch, {"other_config": {}, "external_ids": {}, "name": ""}))
    for family, cidr, asked in zip((4, 6), (switch.v4, switch.v6), ranges_of(pool.ips), strict=True):
        has = clipped(asked, cidr.hosts) if cidr is not None else ()
        if switch.is_subnet and pool.ranges(family) != has:
            yield f"{pool.what} has {pool.ranges(family)} of IPv{family}, not {has}"


def _addresses_of(world: World, batch: Batch, pool: Pool) -> Iterator[tuple[str, int, int]]:
    """(IP, family, address) of the live reservations of the pool's switch that the batch has left alone."""
    for r in world.reservations.values():
        if r.switch == pool.switch and r.live and r.name not in batch.names:
            yield from ((r.name, family, a) for family, a in ((4, r.v4), (6, r.v6)) if a is not None)


def _ips_in(world: World, batch: Batch, pool: Pool, ranges: list[Ranges]) -> Iterator[str]:
    for name, family, address in _addresses_of(world, batch, pool):
        if is_within(address, ranges[family == 6]):
            yield name


def _ports_in(seen: Tables, pool: Pool, ranges: list[Ranges]) -> Iterator[str]:
    for uuid in seen[SWITCHES].get(pool.switch, {"ports": ()})["ports"]:
        _macs, v4, v6 = port_of(uuid, seen[PORTS][uuid], pool.switch).own()
        if any(is_within(a, ranges[0]) for a in v4) or any(is_within(a, ranges[1]) for a in v6):
            yield seen[PORTS][uuid]["name"]


# ---- what is counted -------------------------------------------------------------------------------------------------


class Taken(NamedTuple):
    """The addresses of one family that somebody has on a switch: `holders` are ports and IPs, `theirs` is what the
    operator excludes, `others` what else the database names.
    """

    hosts: tuple[int, int]
    holders: set[int]
    theirs: set[int]
    others: set[int]

    @property
    def all(self) -> set[int]:
        return self.holders | self.theirs | self.others

    def used_of(self, ranges: Ranges) -> tuple[int, int]:
        """(used, available) of a pool's."""
        within = clipped(ranges, self.hosts)
        used = sum(is_within(address, within) for address in self.all)
        return used, size(within) - used

    def classes(self, pooled: Ranges) -> tuple[int, int, int]:
        """(used, free, excluded), which are the whole."""
        used = len(self.holders | (self.others - self.theirs))
        excluded = len(self.theirs - self.holders) + self.used_of(pooled)[1]
        return used, self.hosts[1] - self.hosts[0] + 1 - used - excluded, excluded


def taken_on(world: World, segment: Segment, family: int) -> Taken | None:
    """Address by address, from the ports and reservations that the world knows."""
    space = world.settled(segment).space(family)
    if space is None:
        return None
    uuid, hosts = segment.switch.uuid, space.cidr.hosts
    holders = {a for p in world.ports.values() if p.switch == uuid for a in p.own()[1 if family == 4 else 2]}
    kept = [r for r in world.reservations.values() if r.switch == uuid and r.live]
    holders |= {a for r in kept for a in ((r.v4 if family == 4 else r.v6),) if a is not None}
    theirs: set[int] = set()
    if family == 4:
        ranges = exclude_ips.parse(segment.theirs, space.cidr.first, space.cidr.prefixlen).ranges
        theirs = {address for first, last in ranges for address in range(first, last + 1)}
    claims = segment.claims
    others: Mapping[int, str] = {} if claims is None else claims.v4 if family == 4 else claims.v6
    sets = ({a for a in addresses if hosts[0] <= a <= hosts[1]} for addresses in (holders, theirs, others))
    return Taken(hosts, *sets)


def miscounted(site: Site, world: World) -> Iterator[str]:
    """Used + available + excluded is the whole of each subnet, and used + available of each pool, as published."""
    published = site.engine.published
    for uuid, segment in world.segments.items():
        pools = pools_of(world.pools.values(), uuid)
        counts: dict[str, list[int]] = {pool.name: [] for pool in pools}
        shown: list[int] = []
        for family in (4, 6):
            space, taken = segment.space(family), taken_on(world, segment, family)
            if space is None or taken is None:
                shown += [0, 0]
                for pool in pools:
                    counts[pool.name] += [0, 0]
                continue
            classes = taken.classes(tuple(run for pool in pools for run in pool.ranges(family)))
            if (space.used, space.free, space.excluded) != classes:
                has = space.used, space.free, space.excluded
                yield f"subnet {segment.switch.name} counts {has} of IPv{family}, not {classes}"
            shown += classes[:2]
            for pool in pools:
                counts[pool.name] += taken.used_of(pool.ranges(family))
        if any(segment.networks) and published.subnets[uuid].counts != tuple(shown):
            yield f"published of subnet {segment.switch.name} is {published.subnets[uuid].counts}, not {shown}"
        for pool in pools:
            if published.pools[pool.name].status.counts != tuple(counts[pool.name]):
                yield f"{pool.what} counts {published.pools[pool.name].status.counts}, not {counts[pool.name]}"


# ---- once nothing is left to do --------------------------------------------------------------------------------------


def pools_unsettled(site: Site, acknowledged: Mapping[str, Pool]) -> Iterator[str]:
    """`acknowledged` is what clients were told of pools that were not deleted since, by name."""
    world = site.world
    for name, told in acknowledged.items():
        pool = world.pools.get(name)
        if pool is None or pool.uid != told.uid:
            yield f"{told.what}: it was acknowledged and is not there"
        elif (pool.ips, pool.namespaces, pool.labels) != (told.ips, told.namespaces, told.labels):
            yield f"{told.what} was acknowledged, it is {pool.what}"
    published = site.engine.published.pools
    if published.keys() != world.pools.keys():
        yield f"published are {sorted(published)}, there are {sorted(world.pools)}"
    for name, pool in world.pools.items():
        if pool.state is State.RELEASING:
            yield f"{pool.what} is still being released"
        elif name in published and (published[name].pool, published[name].status) != (pool, describe_pool(world, pool)):
            yield f"published of {pool.what} is {published[name]}"
    for segment in world.segments.values():
        yield from _choices(world, segment)


def _choices(world: World, segment: Segment) -> Iterator[str]:
    """An automatic address can be had exactly if one is left: of the pools, where there are some for the namespace."""
    pools = pools_of(world.pools.values(), segment.switch.uuid)
    switch, taken = segment.switch, [taken_on(world, segment, family) for family in (4, 6)]
    if not any(taken):
        return
    whom = {("other", ""), ("default", ""), ("prod", "")}
    for namespace, named in whom | {((*pool.namespaces, "other")[0], pool.title) for pool in pools}:
        wanted = Wanted(
            name=port_name("probe", namespace, switch.provider), subnet=switch.name, pod_name="probe",
            namespace=namespace, pod_type="", annotations={IP_POOL: named} if named else {},
        )  # fmt: skip
        left = [t is None or _is_left(t, family, pools, wanted) for family, t in zip((4, 6), taken, strict=True)]
        try:
            plan_create(world, wanted, Context(NOW, Random(7), 1, patient=False))
        except NoAvailableAddress as refused:
            if all(left):
                yield f"{refused.message}, though there are"
        else:
            if not all(left):
                yield f"an address of {switch.name} was chosen for {namespace} {named}, though none is left"


def _is_left(taken: Taken, family: int, pools: list[Pool], wanted: Wanted) -> bool:
    its = giving(pools, wanted, family)
    if its:
        return any(taken.used_of(pool.ranges(family))[1] for pool in its)
    pooled = clipped(tuple(run for pool in pools for run in pool.ranges(family)), taken.hosts)
    first, last = taken.hosts[0] + 1, taken.hosts[1]  # the first host is only given
    if family == 6:  # never all taken, but pools may have all of it
        return last - first > size(pooled)
    return any(not is_within(address, pooled) for address in set(range(first, last + 1)) - taken.all)
