"""Squatters: ports that hold what is reserved for another. With `squatters = "block"` they are disabled meanwhile.

    port                                  noted in the reservation      written
    squats, enabled                       what `enabled` was            enabled=false
    squats, blocked for another too       the same, once it is seen     nothing
    squats, disabled by somebody else     nothing                       nothing, until somebody enables it
    squats, blocked, is enabled again     overridden                    nothing: nobody is fought
    squats no more, blocked               taken out                     `enabled` as it was, unless it is blocked for
                                                                        another too, or is not disabled any more
    is gone                               taken out                     nothing

Only a workload's port (type "") is blocked, and only for what it has itself: that port_security lets it use an address,
or that it asks ovn-northd for one and has another, disturbs nobody. A reservation that is not held, or is being
released, blocks nobody, and when the option is `report` nobody squats. The note is written in one transaction with the
port, so whatever happens in between, the record says what is blocked.
"""

from __future__ import annotations

from typing import Final

from ovnreserve.model.reservation import Blocked, Reservation
from ovnreserve.model.resource import Resource, State
from ovnreserve.model.steps import SetEnabled, UpdateRecord
from ovnreserve.model.topology import Port
from ovnreserve.plan.bind import seen
from ovnreserve.plan.outcome import Context, Event, Plan
from ovnreserve.plan.world import World

_BEFORE: Final[dict[bool | None, Blocked]] = {None: "absent", True: "true"}
_ENABLED: Final[dict[Blocked, bool | None]] = {"absent": None, "true": True}


def squatters(world: World, r: Reservation) -> list[Port]:
    """The workloads' ports, besides its own, that have an address or the MAC of a reservation; by uuid."""
    segment = world.segments.get(r.switch)
    if segment is None:
        return []
    uuids = set(segment.port_macs.get(r.mac, ()))
    for family, address in ((4, r.v4), (6, r.v6)):
        uuids.update(segment.port_addresses.get((family, address), ()) if address is not None else ())
    ports = [world.ports[uuid] for uuid in sorted(uuids)]
    return [port for port in ports if not port.type and port.name != r.name and _has(port, r)]


def _has(port: Port, r: Reservation) -> bool:
    has_address = any((r.v4 is not None and r.v4 in e.v4) or (r.v6 is not None and r.v6 in e.v6) for e in port.has)
    return has_address or any(e.mac == r.mac for e in (*port.has, *port.elements))


def blocked_from_now(world: World, r: Reservation, *, block: bool) -> dict[str, Blocked]:
    """What the reservation is to have noted (`Reservation.blocked`), as things are. Only looks things up."""
    if r.state not in (State.HELD, State.FAILED):
        return r.blocked
    if r.state is State.HELD and r.switch not in world.segments:
        return {uuid: noted for uuid, noted in r.blocked.items() if not _is_elsewhere(world, uuid)}
    found: dict[str, Blocked] = {}
    for port in squatters(world, r) if block and r.state is State.HELD else ():
        noted = r.blocked.get(port.uuid)
        if noted is not None:
            found[port.uuid] = noted if port.enabled is False else "overridden"
        elif (elsewhere := _noted_elsewhere(world, r, port.uuid)) is not None:
            if port.enabled is False or elsewhere == "overridden":
                found[port.uuid] = elsewhere
        elif port.enabled is not False:
            found[port.uuid] = _BEFORE[port.enabled]
    return found


def _is_elsewhere(world: World, port: str) -> bool:
    """Is it on a switch that is there? The reservation's is not, so that there is nothing to squat on."""
    return port in world.ports and world.ports[port].switch in world.segments


def plan_squatters(world: World, r: Reservation, context: Context, *, block: bool) -> Plan:
    """Block who squats, and unblock who does no more."""
    blocked = blocked_from_now(world, r, block=block)
    if blocked == r.blocked:
        return Plan("unchanged")
    steps, events = unblocked(world, r, keep=blocked)
    for uuid, noted in blocked.items():
        port = world.ports[uuid]
        if noted == "overridden" and r.blocked.get(uuid) != noted:
            message = f"{_named(world, port)} was enabled by somebody else though it has what is reserved: left alone"
            events.append(Event("Warning", "SquatterLeftAlone", r.name, message))
        elif uuid not in r.blocked:
            if _noted_elsewhere(world, r, uuid) is None:
                steps.append(SetEnabled(uuid, seen(port), port.enabled, False, r.name))
            message = f"{_named(world, port)} is disabled while it has what is reserved: {r.port_addresses}"
            events.append(Event("Warning", "SquatterBlocked", r.name, message))
    changed = r.with_(blocked=blocked, **context.stamp)
    return Plan("blocked", changed, (*steps, UpdateRecord(changed)), tuple(events))


def unblocked(
    world: World, r: Resource, keep: dict[str, Blocked] | None = None
) -> tuple[list[SetEnabled | UpdateRecord], list[Event]]:
    """What gives the ports that a reservation has blocked their `enabled` back, but for those to `keep`."""
    steps: list[SetEnabled | UpdateRecord] = []
    events: list[Event] = []
    if not isinstance(r, Reservation):
        return steps, events
    for uuid, noted in r.blocked.items():
        port = world.ports.get(uuid)
        if uuid in (keep or {}) or port is None or port.enabled is not False or noted not in _ENABLED:
            continue
        if _noted_elsewhere(world, r, uuid) is None:
            steps.append(SetEnabled(uuid, seen(port), False, _ENABLED[noted], r.name))
            message = f"{_named(world, port)} is enabled again"
            events.append(Event("Normal", "SquatterUnblocked", r.name, message))
    return steps, events


def still_blocked(world: World, r: Reservation) -> dict[str, Blocked]:
    """What may be true of a reservation's note whose record is lost: a port that is enabled was not blocked."""
    ports = world.ports
    return {
        uuid: noted
        for uuid, noted in r.blocked.items()
        if noted == "overridden" or (uuid in ports and ports[uuid].enabled is False)
    }


def _noted_elsewhere(world: World, r: Reservation, port: str) -> Blocked | None:
    """What another reservation has noted of the port."""
    others = (world.reservations[name] for name in sorted(world.blockers.get(port, ())))
    return next((other.blocked[port] for other in others if other.uid != r.uid), None)


def _named(world: World, port: Port) -> str:
    return f"logical switch port {port.name} on logical switch {world.switch_name(port.switch)}"
