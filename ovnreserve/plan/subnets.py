"""Subnets as users see them: a switch's networks, what of them is used, and by whose will."""

from __future__ import annotations

from ovnreserve.model import exclude_ips
from ovnreserve.model.addresses import Cidr, parse_either
from ovnreserve.model.documents import Condition
from ovnreserve.model.ip import Subnet
from ovnreserve.plan.segment import Segment
from ovnreserve.plan.world import World


def describe_subnet(world: World, segment: Segment, conditions: tuple[Condition, ...] = ()) -> Subnet | None:
    """The Subnet of a switch with these conditions; None if it has no CIDR. `exclude_ips` holds the operator's excludes
    only, not ours.

    used + available + excluded is what the CIDR holds: an address that a port or reservation has counts as used, else
    one that the operator excludes as excluded, else one that something else of the database has as used. What is in
    quarantine is available: it is chosen when nothing else is left, and may be given at any time.
    """
    world.settled(segment)
    if segment.v4 is None and segment.v6 is None:
        return None
    switch = segment.switch
    counts = (
        *((segment.v4.used, segment.v4.free) if segment.v4 is not None else (0, 0)),
        *((segment.v6.used, segment.v6.free) if segment.v6 is not None else (0, 0)),
    )
    gateways, routers = _routers(world, segment)
    return Subnet(
        name=switch.name,
        uid=switch.uuid,
        provider=switch.provider,
        vpc=",".join(routers),
        v4="" if segment.v4 is None else str(segment.v4.cidr),
        v6="" if segment.v6 is None else str(segment.v6.cidr),
        gateways=gateways,
        exclude_ips=tuple(exclude_ips.tokens(segment.theirs)),
        counts=counts,
        conditions=conditions,
        quarantined=(
            segment.v4.resting if segment.v4 is not None else 0,
            segment.v6.resting if segment.v6 is not None else 0,
        ),
    )


def _routers(world: World, segment: Segment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Addresses of the attached router ports within the subnet, IPv4 first, and the names of their routers."""
    found: list[tuple[int, str]] = []
    names: set[str] = set()
    for port, router in world.attached_routers(segment):
        if router:
            names.add(router["name"])
        for network in port["networks"]:
            text = network.partition("/")[0]
            v4, v6 = parse_either(text)
            if _within(v4, segment.v4.cidr if segment.v4 else None):
                found.append((4, text))
            elif _within(v6, segment.v6.cidr if segment.v6 else None):
                found.append((6, text))
    return tuple(text for _family, text in sorted(found)), tuple(sorted(names))


def _within(address: int | None, cidr: Cidr | None) -> bool:
    return address is not None and cidr is not None and address in cidr
