"""Who has an address or a MAC on a switch: ports, reservations, and whatever else the database names.

Each answer names the holder as a user knows it, since a conflict that does not say with whom helps nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, NoReturn

from ovnreserve.model.addresses import eui64_mac, format_v4, format_v6, is_eui64
from ovnreserve.model.errors import Conflict
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.topology import Port
from ovnreserve.plan.infrastructure import refers_only
from ovnreserve.plan.segment import Segment
from ovnreserve.plan.world import World

CONFLICTED: Final = "Conflicted"
RESOLVED: Final = "ConflictResolved"
"""Reasons of the events that tell of it."""


def holders(world: World, segment: Segment, family: int, address: int, own: Port | None, name: str) -> Iterable[str]:
    """Who else has the address on this switch, in words, besides the port `own` and the reservation `name`."""
    yield from _workloads(world, segment, family, address, own, name)
    infrastructure = _infrastructure(segment, family, address)
    if infrastructure is not None:
        yield infrastructure


class Rival(NamedTuple):
    """Somebody else who has something of a reservation: `what` it is, who that is in words, the uuid of the port if it
    is one, and `since` when (seconds since the epoch).
    """

    what: str
    who: str
    port: str = ""
    since: float = 0.0

    def __str__(self) -> str:
        return f"{self.what}{_COMES}{self.who}"

    @property
    def gone(self) -> str:
        """What is said when it has left."""
        return f"{self.what}{_LEAVES}{self.who}"


_COMES: Final = " is also held by "
_LEAVES: Final = " is not held any more by "


def told(journal: Iterable[tuple[str, float, str, str]]) -> dict[str, tuple[Rival, ...]]:
    """By uid, whom the journal says to have come and not to have left: of (uid, at, reason, message), the oldest
    first.
    """
    found: dict[str, dict[tuple[str, str], Rival]] = {}
    for uid, at, reason, message in journal:
        rivals = found.setdefault(uid, {})
        what, _, who = message.partition(_COMES if reason == CONFLICTED else _LEAVES)
        if reason == CONFLICTED:
            rivals.setdefault((what, who), Rival(what, who, since=at))
        else:
            rivals.pop((what, who), None)
    return {uid: tuple(rivals.values()) for uid, rivals in found.items() if rivals}


def conflicts(world: World, r: Reservation) -> tuple[Rival, ...]:
    """Everybody else who has an address or the MAC of a reservation. Who only says where an address is, such as a
    route, does not have it. Only looks things up.
    """
    segment = world.segments.get(r.switch)
    if segment is None:
        return ()
    port = world.port(r.name)
    own = port if port is not None and port.switch == r.switch else None
    found: list[Rival] = []
    for family, address in ((4, r.v4), (6, r.v6)):
        if address is not None:
            ports = segment.port_addresses.get((family, address), ())
            others = segment.reserved.get((family, address)), _infrastructure(segment, family, address)
            found += _rivals(world, segment, _shown(family, address), own, r.name, address, ports, *others)
    ports = segment.port_macs.get(r.mac, ())
    infrastructure = segment.claims.macs.get(r.mac) if segment.claims else None
    others = segment.reserved_macs.get(r.mac), infrastructure
    found += _rivals(world, segment, f"MAC {r.mac}", own, r.name, r.mac, ports, *others)
    return tuple(found)


def _rivals(
    world: World,
    segment: Segment,
    shown: str,
    own: Port | None,
    name: str,
    what: int | str,
    ports: Iterable[str],
    reserved: str | None,
    infrastructure: str | None,
) -> Iterable[Rival]:
    if reserved is not None and reserved != name:
        yield Rival(shown, f"IP {reserved}")
    for port in _others(world, ports, own):
        yield Rival(shown, f"{_holder(port, what)} on logical switch {segment.switch.name}", port.uuid)
    if infrastructure is not None and not refers_only(infrastructure):
        yield Rival(shown, infrastructure)


def _infrastructure(segment: Segment, family: int, address: int) -> str | None:
    space = segment.space(family)
    return space.infrastructure_holder(address) if space else None


def _workloads(world: World, segment: Segment, family: int, address: int, own: Port | None, name: str) -> Iterable[str]:
    holder = segment.reserved.get((family, address))
    if holder is not None and holder != name:
        yield f"IP {holder}"
    for port in _others(world, segment.port_addresses.get((family, address), ()), own):
        yield _holder(port, address)


def _others(world: World, ports: Iterable[str], own: Port | None) -> Iterable[Port]:
    return (world.ports[uuid] for uuid in sorted(ports) if own is None or uuid != own.uuid)


def _holder(port: Port, what: int | str) -> str:
    """A port that has an address or MAC, in words: has it that itself, or is it only let use it?"""
    elements = (*port.elements, *filter(None, (port.assigned,)))
    itself = any(what == e.mac or what in e.v4 or what in e.v6 for e in elements)
    return f"{'' if itself else 'port_security of '}logical switch port {port.name}"


def check_free(world: World, segment: Segment, name: str, family: int, address: int, own: Port | None) -> None:
    """Raises Conflict unless nobody but `own` and `name` has the address."""
    for holder in holders(world, segment, family, address, own, name):
        _conflict(name, family, address, holder)
    _check_derived(world, segment, name, family, address, own)


def check_adoptable(
    world: World, segment: Segment, name: str, family: int, address: int, own: Port, warnings: list[str]
) -> None:
    """Raises Conflict if another workload has the address too. What else the database names does not keep a port
    that runs on it from being protected, but is worth a warning.
    """
    for holder in _workloads(world, segment, family, address, own, name):
        _conflict(name, family, address, holder)
    _check_derived(world, segment, name, family, address, own)
    infrastructure = _infrastructure(segment, family, address)
    if infrastructure is not None and not refers_only(infrastructure):
        warnings.append(f"{_shown(family, address)}, which port {own.name} has, is held by {infrastructure} too")


def _conflict(name: str, family: int, address: int, holder: str) -> NoReturn:
    field = "spec.v4IpAddress" if family == 4 else "spec.v6IpAddress"
    raise Conflict.over(name, field, f"{_shown(family, address)} is held by {holder}")


def _shown(family: int, address: int) -> str:
    return format_v4(address) if family == 4 else format_v6(address)


def _check_derived(world: World, segment: Segment, name: str, family: int, address: int, own: Port | None) -> None:
    if family == 6 and is_eui64(address):
        mac = eui64_mac(address)
        users = segment.port_macs.get(mac, set()) - ({own.uuid} if own else set())
        for uuid_ in users:
            port = world.ports[uuid_]
            if port.dynamic is not None:
                shown = format_v6(address)
                what = f"ovn-northd makes {shown} of {mac}, the MAC of logical switch port {port.name}"
                raise Conflict.over(name, "spec.v6IpAddress", what)


def check_mac(
    world: World, segment: Segment, name: str, mac: str, warnings: list[str], own: Port | None, *, given: bool
) -> None:
    """Raises Conflict if somebody else on the switch has the MAC; `given` or not, as for addresses."""
    holder = segment.reserved_macs.get(mac)
    if holder is not None:
        raise Conflict.over(name, "spec.macAddress", f"{mac} is held by IP {holder}")
    others = segment.port_macs.get(mac, set()) - ({own.uuid} if own else set())
    for uuid_ in sorted(others):
        raise Conflict.over(name, "spec.macAddress", f"{mac} is held by logical switch port {world.ports[uuid_].name}")
    infrastructure = segment.claims.macs.get(mac) if segment.claims else None
    if infrastructure is not None and given:
        raise Conflict.over(name, "spec.macAddress", f"{mac} is held by {infrastructure}")
    if infrastructure is not None and not refers_only(infrastructure):
        warnings.append(f"{mac}, which port {own.name if own else name} has, is held by {infrastructure} too")
    if given and (
        world.macs.get(mac, 0) > (1 if own and mac in own.own()[0] else 0) or mac in world.infrastructure.router_macs
    ):
        warnings.append(f"MAC {mac} is in use on another logical switch")
