"""Suggest: which addresses of a subnet are free, and of one that is not, why.

What is suggested is what automatic choices would take one after the other: from the top of the subnet down, within
`external_ids:ovnreserve/auto`, those in quarantine when nothing else is left. Everything works on runs, so that what
costs is how many there are, and never how large a subnet is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ovnreserve.model import exclude_ips
from ovnreserve.model.addresses import Cidr, eui64_mac, format_v4, format_v6, is_eui64, parse_either
from ovnreserve.model.documents import timestamp
from ovnreserve.model.errors import Conflict, FieldError, Invalid, NotFound, shown
from ovnreserve.model.topology import AUTO_RANGE, auto_ranges
from ovnreserve.plan import status
from ovnreserve.plan.allot import kept_for
from ovnreserve.plan.holders import check_free, holders
from ovnreserve.plan.reserve import unfit
from ovnreserve.plan.segment import Segment
from ovnreserve.plan.space import RESERVED_ANYCAST, Space
from ovnreserve.plan.world import World

_Runs = list[tuple[int, int]]


class Suggestion(NamedTuple):
    """`runs` are (first, last), to be taken in this order, each from its last down; `quarantined` are those among them
    that are in quarantine, each with the time of its release.
    """

    cidr: Cidr
    runs: _Runs
    quarantined: dict[int, float]

    @property
    def addresses(self) -> list[int]:
        return [address for first, last in self.runs for address in range(last, first - 1, -1)]


class Explanation(NamedTuple):
    """`reasons` are why an automatic choice does not take the address, none if it is free; `refusal` why a document
    may not name it either, "" if it may; where it is a pool's, one may that is of whom the pool is for. Each reads
    behind "ADDRESS is ".
    """

    address: str
    reasons: tuple[str, ...]
    refusal: str


def suggest(
    world: World, subnet: str, count: int, *, contiguous: bool = False, family: int | None = None
) -> Suggestion:
    """That many addresses, or as many as there are; `contiguous`: of one run, the highest that is long enough, else
    the longest. Of IPv4, unless the subnet has none or the family is given. Raises NotFound, Conflict or Invalid.
    """
    segment = _subnet(world, subnet)
    space = segment.space(family) if family is not None else segment.v4 or segment.v6
    if space is None:
        raise _invalid(subnet, "spec.cidrBlock", f"has no IPv{family} CIDR")
    ranges = _auto_ranges(segment, space)
    runs = _one_run(space, ranges, count) if contiguous else list(_one_by_one(space, ranges, count))
    resting = space.quarantined
    among = (a for first, last in runs for a in range(first, last + 1) if a in resting) if resting else ()
    return Suggestion(space.cidr, runs, {address: resting[address] for address in among})


def _one_by_one(space: Space, ranges: _Runs, count: int) -> Iterator[tuple[int, int]]:
    for first, last in space.choosable(ranges):
        bottom = max(first, last - count + 1)
        yield bottom, last
        count -= last - bottom + 1
        if not count:
            return
    for address, _ in zip(space.rested(ranges), range(count), strict=False):
        yield address, address


def _one_run(space: Space, ranges: _Runs, count: int) -> _Runs:
    longest: tuple[int, int] | None = None
    for rested in (False, True) if space.resting else (False,):
        for first, last in space.choosable(ranges, rested=rested):
            if last - first + 1 >= count:
                return [(last - count + 1, last)]
            if longest is None or last - first > longest[1] - longest[0]:
                longest = first, last
    return [longest] if longest is not None else []


def explain(world: World, subnet: str, address: str, quarantine: float) -> Explanation:
    """Why the address is not free; `quarantine` is for how many seconds one that was released is not. Raises NotFound,
    Conflict or Invalid.
    """
    segment = _subnet(world, subnet)
    v4, v6 = parse_either(address)
    number = v6 if v4 is None else v4
    if number is None:
        raise _invalid(subnet, "explain", f'"{shown(address)}" is neither an IPv4 nor an IPv6 address')
    text = format_v4(number) if v6 is None else format_v6(number)
    space = segment.v6 if v4 is None else segment.v4
    if space is None or number not in space.cidr:
        outside = "outside of " + ", ".join(str(each.cidr) for each in segment.spaces)
        return Explanation(text, (outside,), outside)
    reasons = tuple(_reasons(world, segment, space, number, quarantine))
    return Explanation(text, reasons, _refusal(world, segment, space, number))


def _reasons(world: World, segment: Segment, space: Space, address: int, quarantine: float) -> Iterator[str]:
    family = 4 if space.cidr.bits == 32 else 6
    reserved = segment.reserved.get((family, address))
    for who in holders(world, segment, family, address, None, ""):
        yield f"held by {who}" + (f" ({_phase(world, reserved)})" if reserved and who == f"IP {reserved}" else "")
    pool = segment.pools.at(family, address)
    if pool is not None:
        yield f"in IPPool {pool.title}, for {pool.whom}"
    if space.is_excluded(address):
        yield f"excluded by the operator ({_token(segment, space, address)} in other_config:exclude_ips)"
    yield from _by_its_place(world, space, address)
    ranges = _auto_ranges(segment, space)
    if ranges and not any(first <= address <= last for first, last in ranges):
        yield f"outside of external_ids:{AUTO_RANGE} ({segment.switch.auto})"
    if space.is_resting(address):
        yield f"in quarantine until {timestamp(space.quarantined[address] + quarantine)}"


def _by_its_place(world: World, space: Space, address: int) -> Iterator[str]:
    """Why it is not chosen automatically whoever may hold it, but for what the operator says."""
    cidr = space.cidr
    first, last = space.window()
    why = unfit(world, space, address)
    if why:
        yield why.removeprefix("is ")
    elif first > last:
        yield f"on a subnet too small for automatic choices ({cidr})"
    elif address < first:
        yield f"the first host of {cidr}, which is kept back"
    elif address > last:
        yield f"one of the {RESERVED_ANYCAST} highest of {cidr}, which RFC 2526 keeps for anycast"
    elif cidr.bits == 128 and is_eui64(address):
        yield f"what ovn-northd would make of MAC {eui64_mac(address)} (EUI-64)"


def _phase(world: World, name: str) -> str:
    r = world.reservations[name]
    return status.phase(r, status.observe(world, r, None, 0.0, awaited=False))


def _token(segment: Segment, space: Space, address: int) -> str:
    """The operator's entry that names the address."""
    for token in exclude_ips.tokens(segment.theirs):
        parsed = exclude_ips.parse(token, space.cidr.first, space.cidr.prefixlen)
        if any(first <= address <= last for first, last in parsed.ranges):
            return token
    return segment.theirs


def _refusal(world: World, segment: Segment, space: Space, address: int) -> str:
    why = unfit(world, space, address)
    if why:
        return why.removeprefix("is ")
    family = 4 if space.cidr.bits == 32 else 6
    try:
        check_free(world, segment, "", family, address, None)
    except Conflict as conflict:
        return conflict.causes[0].message.removeprefix(f"{space.cidr.format(address)} is ")
    pool = segment.pools.at(family, address)
    return "" if pool is None else kept_for(pool)


def _subnet(world: World, name: str) -> Segment:
    found = [world.settled(segment) for segment in world.switches_named(name)]
    subnets = [segment for segment in found if segment.v4 is not None or segment.v6 is not None]
    if not subnets:
        raise NotFound.of("subnets", name)
    if len(subnets) > 1:
        raise Conflict.ambiguous(name, [segment.switch.uuid for segment in subnets])
    return subnets[0]


def _auto_ranges(segment: Segment, space: Space) -> _Runs:
    try:
        return auto_ranges(segment.switch.auto, 4 if space.cidr.bits == 32 else 6)
    except ValueError as error:
        raise _invalid(segment.switch.name, "metadata", str(error)) from None


def _invalid(subnet: str, field: str, why: str) -> Invalid:
    message = f'Subnet.kubeovn.io "{subnet}" is invalid: {field}: {why}'
    return Invalid(message, kind="Subnet", name=subnet, causes=(FieldError("FieldValueInvalid", field, why),))
