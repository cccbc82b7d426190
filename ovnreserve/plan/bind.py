"""Bind: the port of a reservation is there. What is it to get?

The port must be on the reserved subnet and its identity must not contradict. Then its addresses, compared as sets,
decide:

    none; `dynamic`; `dynamic IP` of ours; `MAC dynamic` of ours    written: `MAC v4 v6`      Binding, then Bound
    the reserved ones                                               nothing to write          Bound
    `dynamic`, up on another address, or on more than the reserved  not touched               RunningElsewhere
    anything else                                                   not touched               AddressMismatch
    what would be written, but ovn-northd gave the
      IPv4 address to somebody else's dynamic port                  not touched yet           HeldByAnother

The last can be where somebody had taken the address out of exclude_ips: a static address there would renumber that
port, which runs on it. Once it leaves, the address is written.
A port that has the reserved MAC and addresses and more besides is Bound: it does use the IP.
Only the `dynamic` element is replaced, since `unknown` beside it is the operator's wish.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.model.steps import Seen, WriteAddresses
from ovnreserve.model.topology import Element, Port
from ovnreserve.plan.identity import contradiction
from ovnreserve.plan.outcome import Event, Plan
from ovnreserve.plan.world import World


class Verdict(NamedTuple):
    """`status` and `reason` are those of the Bound condition; `addresses` what the port is to be given, if anything."""

    status: bool
    reason: str
    message: str
    addresses: frozenset[str] | None = None


def judge(world: World, r: Reservation) -> Verdict:
    """What the reservation's port is to this reservation."""
    port = world.port(r.name)
    if port is None:
        return Verdict(False, "NoPort", f"logical switch port {r.name} does not exist")
    if port.switch != r.switch:
        where, ours = elsewhere(world, port, r)
        return Verdict(False, "WrongSubnet", f"port {r.name} is on logical switch {where}, the IP on {ours}")
    contradicts = contradiction(port, r.pod_name, r.namespace, r.pod_type)
    if contradicts:
        return Verdict(False, "IdentityMismatch", f"port {r.name} has {contradicts}")
    if port.type:
        return Verdict(False, "NotAWorkload", f"port {r.name} is of type {port.type}")
    verdict = _judge_addresses(port, r)
    other = _running_on(world, r, port) if verdict.addresses is not None else None
    if other is None:
        return verdict
    message = f"ovn-northd gave {other.dynamic_addresses} to port {other.name}: port {r.name} waits until that leaves"
    return Verdict(False, "HeldByAnother", message)


def _running_on(world: World, r: Reservation, own: Port) -> Port | None:
    """The dynamic port of somebody else that runs on the IPv4 address. Of IPv6 ovn-northd compares none (facts)."""
    segment = world.segments.get(r.switch)
    found = world.running_on(segment, r.v4) if segment is not None and r.v4 is not None else ()
    return next((other for other in found if other.uuid != own.uuid), None)


def withheld_of(name: str, port: Port) -> Event:
    """An address of the IP or pool of that name is not excluded, for the sake of the port that runs on it."""
    message = f"ovn-northd gave {port.dynamic_addresses} to port {port.name}; not excluded until it leaves"
    return Event("Warning", "Withheld", name, message)


def own_port(world: World, r: Reservation) -> Port | None:
    """The port that the reservation is for, if it is there, where it should be, and nothing of it contradicts."""
    port = world.port(r.name)
    if port is None or port.switch != r.switch or port.type:
        return None
    return None if contradiction(port, r.pod_name, r.namespace, r.pod_type) else port


def elsewhere(world: World, port: Port, r: Reservation) -> tuple[str, str]:
    """The switches of the port and of the IP, in words that differ also where their names do not."""
    name = world.switch_name(port.switch)
    return (f"{name} ({port.switch})", f"another of that name ({r.switch})") if name == r.subnet else (name, r.subnet)


def _judge_addresses(port: Port, r: Reservation) -> Verdict:
    dynamic = port.dynamic
    static = [element for element in port.elements if not element.dynamic and not element.names_nothing]
    wanted = {a for a in (r.v4,) if a is not None}, {a for a in (r.v6,) if a is not None}
    if dynamic is None and static:
        if _covers(static, r):
            return Verdict(True, "Bound", f"port {r.name} has {r.port_addresses}")
        return _mismatch(port, r)
    if dynamic is None and port.addresses:
        return _mismatch(port, r)
    if static:
        return _mismatch(port, r)
    if dynamic is not None:
        asks = set(dynamic.v4) <= wanted[0] and set(dynamic.v6) <= wanted[1]
        if not asks or dynamic.mac not in (None, r.mac):
            return _mismatch(port, r)
        runs = port.assigned
        if port.up and runs is not None and (
            not _covers((runs,), r) or not (set(runs.v4) <= wanted[0] and set(runs.v6) <= wanted[1])
        ):
            message = f"port {r.name} is up on {port.dynamic_addresses}, the IP is {r.port_addresses}"
            return Verdict(False, "RunningElsewhere", message)
    return Verdict(False, "Binding", f"port {r.name} is being given {r.port_addresses}", given(port, r))


def given(port: Port, r: Reservation) -> frozenset[str]:
    """The port's `addresses` with the reservation's in place of what is dynamic."""
    kept = {element.text for element in port.elements if not element.dynamic}
    return frozenset(kept | {r.port_addresses})


def _covers(elements: Iterable[Element], r: Reservation) -> bool:
    """Do those of the elements that have the reserved MAC have the reserved addresses?"""
    ours = [element for element in elements if element.mac == r.mac]
    has_v4 = r.v4 is None or any(r.v4 in element.v4 for element in ours)
    has_v6 = r.v6 is None or any(r.v6 in element.v6 for element in ours)
    return bool(ours) and has_v4 and has_v6


def _mismatch(port: Port, r: Reservation) -> Verdict:
    has = ", ".join(sorted(port.addresses))
    return Verdict(False, "AddressMismatch", f'port {r.name} has addresses "{has}", the IP is {r.port_addresses}')


def plan_bind(world: World, r: Reservation) -> Plan:
    """What to do now that the port of the reservation came or changed."""
    if r.state is not State.HELD:
        return Plan("unchanged")
    verdict = judge(world, r)
    port = world.port(r.name)
    if verdict.addresses is None or port is None:
        return Plan("unchanged")
    event = Event("Normal", "Binding", r.name, verdict.message)
    return Plan("bound", None, (WriteAddresses(port.uuid, seen(port), verdict.addresses, r.name),), (event,))


def seen(port: Port) -> Seen:
    """What a write to the port is guarded by."""
    return port.addresses, port.dynamic_addresses, port.type
