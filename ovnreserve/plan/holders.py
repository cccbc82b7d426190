"""Who has an address or a MAC on a switch: ports, reservations, and whatever else the database names.

Each answer names the holder as a user knows it, since a conflict that does not say with whom helps nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from ovnreserve.model.addresses import eui64_mac, format_v4, format_v6, is_eui64
from ovnreserve.model.errors import Conflict
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.topology import Port
from ovnreserve.plan.infrastructure import refers_only
from ovnreserve.plan.segment import Segment
from ovnreserve.plan.world import World


def holders(world: World, segment: Segment, family: int, address: int, own: Port | None, name: str) -> Iterable[str]:
    """Who else has the address on this switch, in words, besides the port `own` and the reservation `name`."""
    yield from _workloads(world, segment, family, address, own, name)
    infrastructure = _infrastructure(segment, family, address)
    if infrastructure is not None:
        yield infrastructure


def rivals(world: World, segment: Segment, family: int, address: int, own: Port | None, name: str) -> Iterable[str]:
    """The same for an address that `name` has: who only says where the address is, such as a route, is no rival."""
    return (who for who in holders(world, segment, family, address, own, name) if not refers_only(who))


def conflicts(world: World, r: Reservation) -> tuple[str, ...]:
    """Who else, in words, has an address or the MAC of a reservation. Only looks things up."""
    segment = world.segments.get(r.switch)
    if segment is None:
        return ()
    port = world.port(r.name)
    own = port if port is not None and port.switch == r.switch else None
    found: dict[str, None] = {}
    for family, address in ((4, r.v4), (6, r.v6)):
        if address is not None:
            found |= dict.fromkeys(rivals(world, segment, family, address, own, r.name))
    holder = segment.reserved_macs.get(r.mac, r.name)
    if holder != r.name:
        found[f"IP {holder} (MAC {r.mac})"] = None
    for uuid_ in segment.port_macs.get(r.mac, ()):
        if own is None or uuid_ != own.uuid:
            found[f"logical switch port {world.ports[uuid_].name} (MAC {r.mac})"] = None
    return tuple(found)


def _infrastructure(segment: Segment, family: int, address: int) -> str | None:
    space = segment.space(family)
    return space.infrastructure_holder(address) if space else None


def _workloads(world: World, segment: Segment, family: int, address: int, own: Port | None, name: str) -> Iterable[str]:
    holder = segment.reserved.get((family, address))
    if holder is not None and holder != name:
        yield f"IP {holder}"
    for uuid_ in sorted(segment.port_addresses.get((family, address), ())):
        if own is None or uuid_ != own.uuid:
            port = world.ports[uuid_]
            secured = any(address in element.v4 or address in element.v6 for element in port.secured)
            holds = any(address in e.v4 or address in e.v6 for e in (*port.elements, *filter(None, (port.assigned,))))
            yield (
                f"port_security of logical switch port {port.name}"
                if secured and not holds
                else (f"logical switch port {port.name}")
            )


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
