"""Verify a switch: our part of its exclude_ips, the operator's part, and addresses that several ports have.

A pool may have a whole /8: everything works on runs, and on who is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from shlex import quote
from typing import Final

from ovnreserve.model import exclude_ips
from ovnreserve.model.addresses import format_v4
from ovnreserve.model.errors import shown
from ovnreserve.model.runs import Runs
from ovnreserve.model.topology import EXCLUDE_IPS, EXCLUDED_MARK
from ovnreserve.plan.difference import NOT_OURS, Difference, titled
from ovnreserve.plan.findings import bad_excludes, duplicate
from ovnreserve.plan.repair import is_written
from ovnreserve.plan.segment import Key, Segment
from ovnreserve.plan.world import World

_NAMED: Final = 3
"""How many addresses of a switch one line names."""
_LISTED: Final = 10
"""How many ports one command shows."""


def verify_switches(world: World, uuids: Iterable[str], busy: Collection[str]) -> Iterator[Difference]:
    """What is not as it should be of these switches."""
    for uuid in uuids:
        segment = world.segments.get(uuid)
        if segment is not None and uuid not in busy:
            world.settled(segment)
            yield from _excludes(world, segment)
            yield from _duplicates(world, segment)


def _excludes(world: World, segment: Segment) -> Iterator[Difference]:
    switch = segment.switch
    columns = f"other_config:{EXCLUDE_IPS} external_ids:{EXCLUDED_MARK}"
    command = f"ovn-nbctl --if-exists get logical_switch {switch.uuid} {columns}"
    where = f"exclude_ips of logical switch {shown(switch.name)} ({switch.uuid})"
    missing, surplus = (Runs(), Runs()) if is_written(segment) else _ours(segment)
    differs = bool(missing or surplus)
    there = chain(segment.holders_in(4, tuple(missing)), segment.withheld)
    withheld = {address: who for address in there if (who := _runs_on(world, segment, address))}
    for address, who in sorted(withheld.items()):
        kept = titled(segment.kept_by(address) or "")
        left = f"to exclude it would renumber port {who}; it is excluded once that port leaves"
        yield Difference(f"{kept}: {format_v4(address)} is withheld from {where}: port {who} has it", command, left)
        missing.remove_range(address, address)
    if missing:
        yield Difference(f"{where}: {_some(missing)} not in our part", command)
    if surplus:
        yield Difference(f"{where}: {_some(surplus)} in our part, and nobody has that reserved", command)
    if not (differs or is_written(segment)):
        yield Difference(f"{where}: our part is not written as it should be", command)
    excludes = bad_excludes(segment)
    if excludes is not None:
        yield Difference(excludes.message, command, NOT_OURS)


def _ours(segment: Segment) -> tuple[Runs, Runs]:
    """The addresses that our part of exclude_ips should have and has not, and those that it has and should not."""
    ours = Runs(exclude_ips.parse(segment.ours, 0, 0).ranges)  # whatever the network is now
    missing = Runs(gap for first, last in segment.excluded for gap in ours.gaps_down(first, last))
    return missing, Runs(gap for first, last in ours for gap in segment.excluded.gaps_down(first, last))


def _runs_on(world: World, segment: Segment, address: int) -> str:
    """The port that ovn-northd gave a kept address and that is not the reservation's own; "" if there is none."""
    name = segment.reserved.get((4, address), "")
    return next((port.name for port in world.running_on(segment, address) if port.name != name), "")


def _some(addresses: Runs) -> str:
    """The first of them, and how many more there are."""
    first = islice((address for low, high in addresses for address in range(low, high + 1)), _NAMED)
    count = addresses.count()
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    return f"{', '.join(map(format_v4, first))}{more} {'is' if count == 1 else 'are'}"


def _duplicates(world: World, segment: Segment) -> Iterator[Difference]:
    """Of the addresses that nobody has reserved: who else has one that is reserved is told of the IP."""
    for key in sorted(segment.contested - segment.reserved.keys()):
        found = duplicate(world, segment, key)
        if found is not None:
            yield Difference(found.message, _holders(world, segment, key), NOT_OURS)


def _holders(world: World, segment: Segment, key: Key) -> str:
    """The command that shows the ports that hold the address, or the first of them."""
    ports = (world.ports[uuid] for uuid in segment.port_addresses[key])
    names = sorted((port.name, port.uuid) for port in ports if key in port.held)
    router = f" -- list logical_router_port {quote(segment.routers[key])}" if key in segment.routers else ""
    return f"ovn-nbctl list logical_switch_port {' '.join(uuid for _name, uuid in names[:_LISTED])}{router}"
