"""Reserve: keep an address from everyone, for a named workload.

The logical switch port of that name decides first:

    no such port                 choose or check the address; the port is not created
    it is on the switch          adopt its addresses. A dynamic one is pinned in the same transaction that excludes its
                                 address, or ovn-northd would renumber the running workload
    ... and has none yet         choose or check, and give the port what was chosen
    it is on another switch      conflict

Then each address is checked against every holder the database knows. A given address waits a moment while ovn-northd
is about to choose addresses on that switch (facts: barrier): it may be choosing this one. An automatic choice need
not, since it is made at the other end of the subnet, unless what is free is so little that the two meet; or in a pool
(plan/allot.py), which is excluded as a whole.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from ovnreserve.model.addresses import eui64_mac, format_v4, format_v6, is_eui64
from ovnreserve.model.errors import (
    AlreadyExists,
    Conflict,
    FieldError,
    Invalid,
    NoAvailableAddress,
)
from ovnreserve.model.ip import LABEL_RESERVED, OUR_LABELS, POD_TYPES, Wanted
from ovnreserve.model.names import DEFAULT_PROVIDER, SUBDOMAIN_RULE, is_port_name, port_name
from ovnreserve.model.pool import Pool
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.model.steps import MembersUnchanged, PortUnchanged, PutRecord, Step, WriteAddresses
from ovnreserve.model.topology import Port, auto_ranges
from ovnreserve.plan.allot import check_given, choose_from, pools_for, remark_adopted
from ovnreserve.plan.bind import given, seen
from ovnreserve.plan.born import addresses_of
from ovnreserve.plan.holders import check_adoptable, check_free, check_mac
from ovnreserve.plan.identity import Identity, contradiction
from ovnreserve.plan.macs import choose_mac
from ovnreserve.plan.outcome import Context, Defer, Event, Plan
from ovnreserve.plan.retain import retainer
from ovnreserve.plan.segment import FEW_PORTS, Segment
from ovnreserve.plan.space import Space
from ovnreserve.plan.update import being_deleted, plan_update
from ovnreserve.plan.world import World

REACH = 64
"""How many of the lowest free addresses ovn-northd may give away between our look and our commit."""

_FIELDS = ((4, "v4IpAddress", "IPv4"), (6, "v6IpAddress", "IPv6"))


class _Choice(NamedTuple):
    v4: int | None
    v6: int | None
    mac: str


def plan_apply(world: World, wanted: Wanted, context: Context) -> Plan:
    """Create the IP, or bring the one that is there up to date."""
    present = world.reservations.get(wanted.name)
    if present is None and wanted.reserved is False and world.port(wanted.name) is not None:
        return Plan("unchanged")  # it lives with its port, as the document says
    if present is None:
        return plan_create(world, wanted, context)
    if present.state is State.RELEASING:
        raise being_deleted(wanted.name)
    if present.state is State.FAILED:
        raise Conflict.over(wanted.name, "metadata.name", f"the IP has failed ({present.message}); delete it first")
    return plan_update(world, present, wanted, context)


def plan_create(world: World, wanted: Wanted, context: Context) -> Plan:
    """Reserve. Raises Invalid, Conflict, AlreadyExists, NoAvailableAddress or Defer; nothing was written then."""
    if wanted.name in world.reservations:
        raise AlreadyExists.of("ips", wanted.name)
    who = Identity(wanted.pod_name, wanted.namespace, wanted.pod_type)
    if wanted.reserved is False and retainer(world, who) is None:
        raise _not_reserved(wanted.name)
    return _plan(world, _segment(world, wanted), wanted, context)


def plan_adopt(
    world: World, port: Port, who: Identity, context: Context, *, reserved: bool = True, **more: Any
) -> Plan:
    """Keep the addresses that a port has, whatever it is called; `more` goes into the reservation. Raises Conflict,
    Invalid or Defer.
    """
    segment = world.segments.get(port.switch or "")
    if segment is None:
        raise Conflict.over(port.name, "metadata.name", f"logical switch port {port.name} is on no logical switch")
    if not is_port_name(port.name):
        raise Invalid.because(port.name, [FieldError.invalid("metadata.name", port.name, SUBDOMAIN_RULE)])
    pod_name, namespace, pod_type = who
    wanted = Wanted(
        name=port.name, subnet=segment.switch.name, pod_name=pod_name or port.name, namespace=namespace,
        pod_type=pod_type if pod_type in POD_TYPES else "", reserved=reserved, **more,
    )  # fmt: skip
    return _plan(world, world.settled(segment), wanted, context)


def _plan(world: World, segment: Segment, wanted: Wanted, context: Context) -> Plan:
    pools = pools_for(segment, wanted)
    port = world.port(wanted.name)
    warnings: list[str] = []
    if port is not None:
        choice, pins = _adopt(world, segment, port, wanted, pools, context, warnings)
    else:
        choice, pins = _choose(world, segment, wanted, pools, context, warnings), None
    reservation = _reservation(wanted, segment, choice, context)
    steps: list[Step] = [PutRecord(reservation)]
    if port is not None and pins is not None:
        steps.append(WriteAddresses(port.uuid, seen(port), pins, reservation.name))
    steps += _guards(segment, port, wanted, reservation, context, pinned=pins is not None)
    return Plan("created", reservation, tuple(steps), tuple(_events(reservation, port, pins)), tuple(warnings))


def _not_reserved(name: str) -> Invalid:
    why = "an IP that no owner retains comes and goes with its port; leave the label out to reserve it"
    return Invalid.because(name, [FieldError.invalid(f"metadata.labels[{LABEL_RESERVED}]", "false", why)])


def _guards(
    segment: Segment, port: Port | None, wanted: Wanted, r: Reservation, context: Context, *, pinned: bool
) -> Iterable[Step]:
    """What must be as it was seen. Without end somebody may change it: then it is only reported who slipped in."""
    if port is not None and not pinned:
        yield PortUnchanged(port.uuid, seen(port))
    given = wanted.v4 is not None or wanted.v6 is not None
    few = segment.members <= FEW_PORTS
    if context.patient and (((pinned or given) and few) or (port is None and _within_reach(segment, wanted, r.v4))):
        yield MembersUnchanged(segment.switch.uuid)


def _within_reach(segment: Segment, wanted: Wanted, address: int | None) -> bool:
    """May ovn-northd be choosing this address, from the bottom up, for ports that nobody has seen yet?"""
    space = segment.v4
    if space is None or address is None or not segment.switch.has_ipam or address in segment.excluded:
        return False  # or it is of a pool: excluded already
    if wanted.v4 is None and not segment.switch.auto and space.at_once > REACH:
        return False  # chosen from the top
    return address <= (space.lowest_free(REACH) or address)


def _events(r: Reservation, port: Port | None, pins: frozenset[str] | None) -> Iterable[Event]:
    yield Event("Normal", "Reserved", r.name, f"reserved {r.port_addresses} on subnet {r.subnet}")
    if port is not None and pins is not None:
        verb = "pinned" if port.assigned and (port.assigned.v4 or port.assigned.v6) else "gave"
        yield Event("Normal", "Binding", r.name, f"{verb} port {port.name} {r.port_addresses}")


def _reservation(wanted: Wanted, segment: Segment, choice: _Choice, context: Context) -> Reservation:
    return Reservation(
        name=wanted.name,
        uid=str(uuid.UUID(int=context.random.getrandbits(128), version=4)),
        switch=segment.switch.uuid,
        subnet=wanted.subnet,
        pod_name=wanted.pod_name,
        namespace=wanted.namespace,
        pod_type=wanted.pod_type,
        v4=choice.v4,
        v6=choice.v6,
        mac=choice.mac,
        reserved=wanted.reserved is not False,
        state=State.INTENDED,
        created=int(context.now),
        **context.stamp,
        labels={key: value for key, value in wanted.labels.items() if key not in OUR_LABELS},
        annotations=wanted.annotations,
        node_name=wanted.node_name,
        container_id=wanted.container_id,
        attach_ips=wanted.attach_ips,
        attach_macs=wanted.attach_macs,
        attach_subnets=wanted.attach_subnets,
    )


# ---- where ---------------------------------------------------------------------------------------------------------


def _segment(world: World, wanted: Wanted) -> Segment:
    """The one switch of that name, which must be a subnet and make `wanted.name` the port's name."""
    found = world.switches_named(wanted.subnet)
    errors: list[FieldError] = []
    if len(found) != 1:
        uuids = ", ".join(segment.switch.uuid for segment in found)
        why = (
            f"{len(found)} logical switches have this name: {uuids}"
            if found
            else "no logical switch has this name (ovn-nbctl ls-list)"
        )
        shortest = port_name(wanted.pod_name, wanted.namespace, DEFAULT_PROVIDER)
        if wanted.name != shortest and not wanted.name.startswith(f"{shortest}."):
            errors.append(_misnamed(wanted, shortest))
        raise Invalid.because(wanted.name, [*errors, FieldError.invalid("spec.subnet", wanted.subnet, why)])
    segment = world.settled(found[0])
    expected = port_name(wanted.pod_name, wanted.namespace, segment.switch.provider)
    if wanted.name != expected:
        errors.append(_misnamed(wanted, expected))
    if segment.v4 is None and segment.v6 is None:
        why = "the logical switch has no CIDR: no valid other_config:subnet or ipv6_prefix, and no router port"
        errors.append(FieldError.invalid("spec.subnet", wanted.subnet, why))
    else:
        errors += _outside(world, segment, wanted)
    if errors:
        raise Invalid.because(wanted.name, errors)
    return segment


def _misnamed(wanted: Wanted, expected: str) -> FieldError:
    why = f"must be the port's name podName.namespace[.provider], which is {expected}"
    return FieldError.invalid("metadata.name", wanted.name, why)


def _outside(world: World, segment: Segment, wanted: Wanted) -> Iterable[FieldError]:
    """What is wrong with the given addresses, whoever may hold them."""
    port = world.port(wanted.name)
    has = port.own()[2] if port is not None else ()
    for family, field, title in _FIELDS:
        address = wanted.v4 if family == 4 else wanted.v6
        space = segment.space(family)
        if address is None:
            continue
        shown = format_v4(address) if family == 4 else format_v6(address)
        if space is None:
            yield FieldError.invalid(f"spec.{field}", shown, f"subnet {wanted.subnet} has no {title} CIDR")
            continue
        why = unfit(world, space, address, has)
        if why:
            yield FieldError.invalid(f"spec.{field}", shown, why)


def unfit(world: World, space: Space, address: int, has: Collection[int] = ()) -> str:
    """Why nobody may be given the address, whoever holds it, or "". `has` are addresses that a port has already."""
    cidr = space.cidr
    first, last = cidr.hosts
    if address not in cidr:
        return f"must be within {cidr}"
    if address < first:
        return f"is the {'network' if cidr.bits == 32 else 'Subnet-Router anycast'} address of {cidr}"
    if address > last:
        return f"is the broadcast address of {cidr}"
    if cidr.bits == 128 and address not in has and is_eui64(address) and eui64_mac(address)[:8] == world.mac_prefix():
        return (
            f"is what ovn-northd makes of MAC {eui64_mac(address)}, which it may choose for any port "
            "(NB_Global options:mac_prefix)"
        )
    return ""


# ---- adopt ---------------------------------------------------------------------------------------------------------


def _adopt(
    world: World,
    segment: Segment,
    port: Port,
    wanted: Wanted,
    pools: Sequence[Pool],
    context: Context,
    warnings: list[str],
) -> tuple[_Choice, frozenset[str] | None]:
    """The port's own addresses, or chosen ones where it has none; and what to write to the port, if anything."""
    if port.switch != segment.switch.uuid:
        where = world.switch_name(port.switch)
        raise Conflict.over(
            wanted.name,
            "spec.subnet",
            f"logical switch port {port.name} is on logical switch {where}, not on {wanted.subnet}",
        )
    if port.type:
        raise Conflict.over(wanted.name, "metadata.name", f"logical switch port {port.name} is of type {port.type}")
    contradicts = contradiction(port, wanted.pod_name, wanted.namespace, wanted.pod_type)
    if contradicts:
        raise Conflict.over(wanted.name, "metadata.name", f"logical switch port {port.name} has {contradicts}")
    has = addresses_of(port, segment.networks)
    if has is None:
        return _give(world, segment, port, wanted, pools, context, warnings)
    mac, v4, v6, elements = has
    text = ", ".join(e.text for e in elements)
    if len({a for e in elements for a in e.v4} - {v4}) + len({a for e in elements for a in e.v6} - {v6}):
        only = "only the first of each family on the subnet is reserved"
        warnings.append(f'port {port.name} has more addresses ("{text}"): {only}')
    own = {"v4IpAddress": v4, "v6IpAddress": v6, "macAddress": mac}
    asked = {"v4IpAddress": wanted.v4, "v6IpAddress": wanted.v6, "macAddress": wanted.mac}
    for field, value in asked.items():
        if value is not None and value != own[field]:
            raise Conflict.over(wanted.name, f"spec.{field}", f'port {port.name} has "{text}"')
    for family, field, title in _FIELDS:
        address = v4 if family == 4 else v6
        if address is None:
            continue
        space = segment.space(family)
        shown = format_v4(address) if family == 4 else format_v6(address)
        if space is None or address not in space.cidr:
            cidr = space.cidr if space else f"any {title} CIDR of {wanted.subnet}"
            raise Conflict.over(wanted.name, f"spec.{field}", f"port {port.name} has {shown}, which is not in {cidr}")
        check_adoptable(world, segment, wanted.name, family, address, port, warnings)
        remark_adopted(segment, wanted, family, address, warnings)
    check_mac(world, segment, wanted.name, mac, warnings, own=port, given=False)
    choice = _Choice(v4, v6, mac)
    if port.dynamic is None:
        return choice, None
    pinned = " ".join((mac, *(() if v4 is None else (format_v4(v4),)), *(() if v6 is None else (format_v6(v6),))))
    kept = {e.text for e in port.elements if not e.dynamic}
    return choice, frozenset(kept | {pinned})


def _give(
    world: World,
    segment: Segment,
    port: Port,
    wanted: Wanted,
    pools: Sequence[Pool],
    context: Context,
    warnings: list[str],
) -> tuple[_Choice, frozenset[str]]:
    """A port without an address, or still waiting for one: what it asks for is as good as given in the document."""
    asks = port.dynamic or next((e for e in port.elements if e.mac), None)
    if port.addresses and asks is None:
        has = ", ".join(sorted(port.addresses))
        raise Conflict.over(wanted.name, "metadata.name", f'port {port.name} has addresses "{has}", which name no IP')
    if asks is not None:
        v4 = asks.v4[0] if asks.v4 else None
        v6 = asks.v6[0] if asks.v6 else None
        mac = port.assigned.mac if port.assigned else asks.mac
        for field, theirs, ours in (
            ("v4IpAddress", v4, wanted.v4), ("v6IpAddress", v6, wanted.v6), ("macAddress", mac, wanted.mac),
        ):  # fmt: skip
            if theirs is not None and ours is not None and theirs != ours:
                raise Conflict.over(wanted.name, f"spec.{field}", f'port {port.name} asks for "{asks.text}"')
        wanted = _with_addresses(wanted, v4, v6, mac)
        errors = list(_outside(world, segment, wanted))
        if errors:
            raise Conflict.over(
                wanted.name, errors[0].field, f'port {port.name} asks for "{asks.text}": {errors[0].message}'
            )
    choice = _choose(world, segment, wanted, pools, context, warnings, own=port)
    preview = _reservation(wanted, segment, choice, context)
    if port.dynamic is None:
        kept = {e.text for e in port.elements if e is not asks}
        return choice, frozenset(kept | {preview.port_addresses})
    return choice, given(port, preview)


def _with_addresses(wanted: Wanted, v4: int | None, v6: int | None, mac: str | None) -> Wanted:
    return replace(wanted, v4=wanted.v4 or v4, v6=wanted.v6 or v6, mac=wanted.mac or mac)


# ---- choose --------------------------------------------------------------------------------------------------------


def _choose(
    world: World,
    segment: Segment,
    wanted: Wanted,
    pools: Sequence[Pool],
    context: Context,
    warnings: list[str],
    own: Port | None = None,
) -> _Choice:
    """Check the given addresses, choose the others, both families of a dual-stack subnet."""
    check_given(segment, wanted, warnings)
    for family in (4, 6):
        address = wanted.v4 if family == 4 else wanted.v6
        if address is not None:
            check_free(world, segment, wanted.name, family, address, own=own)
    mac = wanted.mac
    if mac is not None:
        check_mac(world, segment, wanted.name, mac, warnings, own=own, given=True)
    pending = _pending(segment, own) if context.patient else 0
    if pending and wanted.v4 is not None:
        raise Defer(segment.switch.uuid)
    chosen: list[int | None] = []
    for family, _field, title in _FIELDS:
        space = segment.space(family)
        address = wanted.v4 if family == 4 else wanted.v6
        if address is None:
            address = choose_from(segment, family, pools, wanted, title)
            if pending and address in segment.withheld:
                raise Defer(segment.switch.uuid)  # its port has just left, and it is not excluded yet
        if address is None and space is not None:
            ranges = _auto_ranges(wanted, segment.switch.auto, family)
            address = space.choose(ranges)
            if address is None:
                raise NoAvailableAddress.on(wanted.name, wanted.subnet, title)
            if family == 4 and pending and address <= (space.lowest_free(pending) or address):
                raise Defer(segment.switch.uuid)
            if family == 4 and not ranges and not segment.theirs and world.has_localnet(segment):
                warnings.append(
                    f"logical switch {wanted.subnet} has a localnet port and neither external_ids:ovnreserve/auto nor "
                    f"exclude_ips: {format_v4(address)} may belong to a physical device"
                )
        chosen.append(address)
    return _Choice(chosen[0], chosen[1], mac or choose_mac(world, segment, context.random))


def _pending(segment: Segment, own: Port | None) -> int:
    """For how many ports, besides our own, ovn-northd is about to choose an IPv4 address."""
    if segment.v4 is None or not segment.switch.has_ipam:
        return 0
    return len(segment.pending) - (own is not None and own.uuid in segment.pending)


def _auto_ranges(wanted: Wanted, text: str, family: int) -> list[tuple[int, int]]:
    """What the operator set of where to choose. Raises Invalid where that cannot be read."""
    try:
        return auto_ranges(text, family)
    except ValueError as error:
        raise Invalid.because(wanted.name, [FieldError.invalid("spec.subnet", wanted.subnet, str(error))]) from None
