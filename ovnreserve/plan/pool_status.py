"""What a user sees of a pool beyond its spec: how much of it is used, and whether it is in force; never stored."""

from __future__ import annotations

from typing import Final, NamedTuple

from ovnreserve.model.addresses import format_v4
from ovnreserve.model.pool import Pool, format_ranges
from ovnreserve.model.resource import State
from ovnreserve.plan.outcome import Event
from ovnreserve.plan.world import World


class PoolStatus(NamedTuple):
    """`counts` are V4USING, V4AVAILABLE, V6USING, V6AVAILABLE; the rest is its condition Ready."""

    counts: tuple[int, int, int, int]
    ready: bool
    reason: str
    message: str


def describe_pool(world: World, pool: Pool) -> PoolStatus:
    """What is to be seen of a pool. Costs what of its addresses is taken, by runs."""
    segment = world.segments.get(pool.switch)
    if segment is None:
        return PoolStatus((0, 0, 0, 0), *condition(world, pool))
    world.settled(segment)
    v4 = segment.v4.count_free(pool.v4) if segment.v4 is not None else (0, 0)
    v6 = segment.v6.count_free(pool.v6) if segment.v6 is not None else (0, 0)
    return PoolStatus((*v4, *v6), *condition(world, pool))


def condition(world: World, pool: Pool) -> tuple[bool, str, str]:
    """Its condition Ready, with reason and message. The switch's segment is to be settled."""
    segment = world.segments.get(pool.switch)
    match pool.state:
        case State.INTENDED:
            return False, "Pending", "not yet seen in the northbound database"
        case State.RELEASING:
            return False, "Releasing", "excluded until ovn-northd has seen the release"
        case State.FAILED:
            return False, "Failed", pool.message
    if segment is None:
        if not world.tables:  # until the database was seen once
            return True, "InForce", pool.what
        message = f"logical switch {pool.subnet} ({pool.switch}) does not exist; kept until it is back"
        return False, "SubnetMissing", message
    for family in (4, 6):
        space = segment.space(family)
        for first, last in pool.ranges(family):
            [shown] = format_ranges(family, [(first, last)])
            if space is None or first not in space.cidr or last not in space.cidr:
                network = f"{space.cidr}, which subnet {pool.subnet} is now" if space is not None else "every network"
                return False, "OutsideSubnet", f"{shown} is outside of {network}"
            for other, *_ in segment.pools.overlapping(pool.name, family, first, last):
                return False, "Overlapping", f"IPPool {other.title} has addresses of {shown} too"
    left = sorted(address for address in segment.withheld if _has(pool, address))
    ports = f"; not excluded while a port runs on it: {', '.join(map(format_v4, left))}" if left else ""
    return True, "InForce", pool.what + ports


def _has(pool: Pool, address: int) -> bool:
    return any(first <= address <= last for first, last in pool.v4)


_TROUBLE: Final = frozenset({"SubnetMissing", "OutsideSubnet", "Overlapping"})


def remark(pool: Pool, before: PoolStatus | None, now: PoolStatus) -> Event | None:
    """What is worth the journal of the change from one look to the next."""
    if now.reason in _TROUBLE and (before is None or before[2:] != now[2:]):
        return Event("Warning", now.reason, pool.name, now.message)
    if before is not None and before.reason in _TROUBLE and now.ready:
        return Event("Normal", now.reason, pool.name, f"not so any more: {before.message}")
    return None
