"""Findings: what is wrong with a subnet or with the database that no reservation brings about.

    DuplicateAddress    several ports of one switch hold one address
    BadExcludeIPs       ovn-northd does not read the operator's exclude_ips to its end
    MacPrefixIsOurs     ovn-northd derives MACs from the prefix that ours begin with

A port holds an address that is in its `addresses`, or that ovn-northd chose for it. One that port_security only lets it
use it does not hold (several may take turns with that), nor does a port of type `virtual`, whose address is for its
parents to take, nor one that is disabled, which neither sends nor receives. The port of an attached router holds the
addresses of its networks. Where all that hold one are routers, they share it on purpose. A localport is a port like any
other: what it answers for, nobody else can have.

A switch's findings cost a look-up for each of the addresses of which something changed (`Segment.take_stirred`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from ovnreserve.model.addresses import format_v4, format_v6
from ovnreserve.model.documents import Condition, timestamp
from ovnreserve.model.errors import shown
from ovnreserve.model.involved import DATABASE
from ovnreserve.plan.macs import PREFIXES, our_prefix
from ovnreserve.plan.outcome import Event
from ovnreserve.plan.segment import Key, Segment
from ovnreserve.plan.world import World

_ROUTERS: Final = frozenset({"router", "remote"})
_NAMED: Final = 10
"""So many ports are named of those that hold one address, and so many addresses in a condition."""
_SINGLY: Final = 20
"""So many addresses of one switch are journalled one by one when they are found together."""
_QUOTED: Final = 60
"""Characters of somebody's exclude_ips that are quoted."""


class Finding(NamedTuple):
    reason: str
    message: str


def findings(world: World, segment: Segment) -> tuple[Finding, ...]:
    """Everything that is wrong with a switch."""
    health = examine(world, segment, None, segment.contested, 0.0)
    found = [health.duplicates[key] for key in sorted(health.duplicates)]
    return tuple(found if health.excludes is None else [health.excludes, *found])


def database_findings(world: World) -> tuple[Finding, ...]:
    """What is wrong with the database as a whole."""
    theirs = world.mac_prefix()
    if theirs not in PREFIXES:
        return ()
    message = (
        f"NB_Global options:mac_prefix is {theirs}, which ovnreserve gives MACs from: ovn-northd may give any dynamic "
        f"port a MAC that is reserved; new reservations get theirs from {our_prefix(world)}. Set another mac_prefix, "
        "which changes the MACs of all dynamic ports"
    )
    return (Finding("MacPrefixIsOurs", message),)


def duplicate(world: World, segment: Segment, key: Key) -> Finding | None:
    """Do several ports hold this address?"""
    ports = [world.ports[uuid] for uuid in segment.port_addresses.get(key, ())]
    ports = [port for port in ports if key in port.held]
    router = segment.routers.get(key)
    if len(ports) + (router is not None) < 2 or all(port.type in _ROUTERS for port in ports):
        return None
    names = sorted(port.name for port in ports)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    *most, last = names[:_NAMED]
    listed = f"{', '.join(names[:_NAMED])}{more}" if more else " and ".join(filter(None, (", ".join(most), last)))
    if router is not None and not any(port.type in _ROUTERS for port in ports):
        router = f", and by logical router port {router}"
    else:
        router = ""
    return Finding(
        "DuplicateAddress",
        f"{_address(key)} is held by logical switch port{'s' * (len(names) > 1)} {listed} on logical switch "
        f"{segment.switch.name}{router}",
    )


def bad_excludes(segment: Segment) -> Finding | None:
    """Does ovn-northd stop before the end of the operator's exclude_ips? Where it has no IPAM it does not read them."""
    switch = segment.switch
    if not switch.has_ipam or switch.v4 is None:
        return None
    parsed = segment.parsed(switch.v4)
    if not parsed.ignored:
        return None
    position = len(segment.theirs) - len(parsed.ignored) + parsed.offset + 1
    where = f'"{shown(parsed.fault, _QUOTED)}"' if parsed.fault else "the end of the text"
    front = (
        "ovnreserve's own part does not stand in front of it any more"
        if switch.mark and not segment.ours
        else "what ovnreserve excludes stands in front of it, where it is read"
    )
    return Finding(
        "BadExcludeIPs",
        f"ovn-northd cannot read other_config:exclude_ips of logical switch {switch.name} at {where}, character "
        f"{position} of the operator's part, and ignores all of it from there on: "
        f'"{shown(parsed.ignored, _QUOTED)}" ({shown(parsed.error or "", 2 * _QUOTED)}); {front}',
    )


# ---- kept up to date, and shown ------------------------------------------------------------------------------------


class Health(NamedTuple):
    """What was found when a switch was looked at last. `since` when the conditions Conflicted and ExcludeIPsRead are
    what they are (seconds since the epoch).
    """

    duplicates: dict[Key, Finding]
    excludes: Finding | None
    since: tuple[float, float]


def examine(world: World, segment: Segment, before: Health | None, stirred: Collection[Key], now: float) -> Health:
    """Look at a switch again, of whose addresses something may have changed for those `stirred`."""
    duplicates = before.duplicates if before is not None else {}
    if stirred:
        found = {key: duplicate(world, segment, key) for key in stirred}
        kept = {key: finding for key, finding in duplicates.items() if key not in found}
        duplicates = kept | {key: finding for key, finding in found.items() if finding is not None}
    excludes = bad_excludes(segment)
    if before is None:
        return Health(duplicates, excludes, (now, now))
    since = (
        before.since[0] if bool(before.duplicates) == bool(duplicates) else now,
        before.since[1] if (before.excludes is None) == (excludes is None) else now,
    )
    return Health(duplicates, excludes, since)


def remarks(name: str, before: Health | None, now: Health, stirred: Collection[Key]) -> Iterator[Event]:
    """What is worth the journal of the change from one look at the switch of that name to the next."""
    name = f"subnet/{name}"
    was = before.duplicates if before is not None else {}
    came = [now.duplicates[key] for key in sorted(stirred) if now.duplicates.get(key, was.get(key)) != was.get(key)]
    yield from _singly(name, "Warning", "DuplicateAddress", [finding.message for finding in came])
    gone = [f"not so any more: {was[key].message}" for key in sorted(stirred) if key in was.keys() - now.duplicates]
    yield from _singly(name, "Normal", "DuplicateResolved", gone)
    excludes = before.excludes if before is not None else None
    if now.excludes is not None and now.excludes != excludes:
        yield Event("Warning", now.excludes.reason, name, now.excludes.message)
    elif excludes is not None and now.excludes is None:
        yield Event("Normal", "ExcludeIPsRead", name, f"not so any more: {excludes.message}")


def _singly(name: str, type_: str, reason: str, messages: list[str]) -> Iterator[Event]:
    for message in messages[:_SINGLY]:
        yield Event(type_, reason, name, message)
    if len(messages) > _SINGLY:
        yield Event(type_, reason, name, f"the same of {len(messages) - _SINGLY} more addresses")


def remarks_of_database(before: tuple[Finding, ...], now: tuple[Finding, ...]) -> Iterator[Event]:
    """The same for the database."""
    for finding in now:
        if finding not in before:
            yield Event("Warning", finding.reason, DATABASE, finding.message)
    for finding in before:
        if finding.reason not in {each.reason for each in now}:
            yield Event("Normal", "MacPrefixChanged", DATABASE, f"not so any more: {finding.message}")


def render(health: Health) -> tuple[Condition, Condition]:
    """The conditions of a Subnet's status."""
    conflicted, read = (timestamp(since) for since in health.since)
    if health.duplicates:
        messages = [health.duplicates[key].message for key in sorted(health.duplicates)]
        more = f"; and {len(messages) - _NAMED} more addresses" if len(messages) > _NAMED else ""
        duplicates = Condition(
            "Conflicted", "True", "DuplicateAddress", "; ".join(messages[:_NAMED]) + more, conflicted
        )
    else:
        message = "no address is held by several ports"
        duplicates = Condition("Conflicted", "False", "NoConflict", message, conflicted)
    if health.excludes is not None:
        return duplicates, Condition("ExcludeIPsRead", "False", *health.excludes, read)
    message = "ovn-northd reads other_config:exclude_ips to its end"
    return duplicates, Condition("ExcludeIPsRead", "True", "Read", message, read)


def _address(key: Key) -> str:
    family, address = key
    return format_v4(address) if family == 4 else format_v6(address)
