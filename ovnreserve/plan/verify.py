"""Verify: ledger, records, exclude_ips and ports held against each other, as they are now.

Each difference is one line, with the ovn-nbctl command that shows it, and says what keeps a repair from it, if
anything does: what belongs to others is never changed. What is merely so is no difference: a reservation without its
port, one that is being released, an operator's own excludes.

Each reservation and each switch is looked at by itself, so that the engine can do something else between two of them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from ovnreserve.model import exclude_ips
from ovnreserve.model.addresses import format_v4
from ovnreserve.model.errors import shown
from ovnreserve.model.reservation import Reservation, external_ids_of, reservation_of
from ovnreserve.model.resource import KIND, KIND_LEDGER, NAME, State
from ovnreserve.model.runs import Runs
from ovnreserve.model.topology import EXCLUDE_IPS, EXCLUDED_MARK
from ovnreserve.plan import revision
from ovnreserve.plan.findings import bad_excludes
from ovnreserve.plan.holders import Rival
from ovnreserve.plan.repair import is_written
from ovnreserve.plan.segment import Segment
from ovnreserve.plan.status import observe
from ovnreserve.plan.world import World

Records = Mapping[str, Sequence[tuple[str, dict[str, str]]]]
"""By name the rows that are its record, (uuid, external_ids)."""

_NORMAL: Final = frozenset({"Bound", "NoPort"})
_NAMED: Final = 3
"""How many addresses of a switch one line names."""
_NOT_OURS: Final = "what is not ours is never changed"
_TABLES: Final = (
    ("logical router port ", "logical_router_port"),
    ("NAT ", "nat"),
    ("load balancer ", "load_balancer"),
    ("forwarding group ", "forwarding_group"),
    ("DHCP options", "dhcp_options"),
    ("service monitor", "nb_global"),
)
"""Where who holds an address is found, by the words that plan/holders has for it."""


class Difference(NamedTuple):
    """`command` shows it; `left` is why a repair leaves it as it is, "" where it does not."""

    what: str
    command: str
    left: str = ""


class Stores(NamedTuple):
    """What the world is held against: `ledger` is what its file says. What is `busy`, names and switches, is being
    written now and passed over.
    """

    ledger: Mapping[str, Reservation | None]
    records: Records
    busy: Collection[str] = frozenset()


def verify_names(world: World, stores: Stores, names: Iterable[str]) -> Iterator[Difference]:
    """What is not as it should be of the reservations, or records, of these names."""
    for name in names:
        if name not in stores.busy:
            yield from _reservation(world, stores, name)


def verify_switches(world: World, uuids: Iterable[str], busy: Collection[str]) -> Iterator[Difference]:
    """What is not as it should be of the exclude_ips of these switches."""
    for uuid in uuids:
        segment = world.segments.get(uuid)
        if segment is not None and uuid not in busy:
            yield from _switch(world, world.settled(segment))


# ---- the ledger ------------------------------------------------------------------------------------------------------


def verify_ledger_row(revisions: Sequence[str], vector: Mapping[str, int]) -> Iterator[Difference]:
    """`revisions` are the texts of the ledger rows that there are, `vector` is what the ledger knows."""
    command = _find("dns", f"external_ids:{KIND}", KIND_LEDGER)
    if len(revisions) > 1:
        yield Difference(f"the ledger row is there {len(revisions)} times", command, _surplus())
    elif not revisions and vector:
        yield Difference("the ledger row is missing", command)
    elif revisions and (found := revision.decode(revisions[0])) != dict(vector):
        yield Difference(f"the ledger row has revision {_vector(found)}, the ledger {_vector(vector)}", command)


def _vector(vector: Mapping[str, int]) -> str:
    return shown(", ".join(f"{who}:{count}" for who, count in sorted(vector.items()))) or "none"


def _reservation(world: World, stores: Stores, name: str) -> Iterator[Difference]:
    r = world.reservations.get(name)
    rows = stores.records.get(name, ())
    kept = stores.ledger.get(name)
    if kept != r:
        command = _record_of(name)
        what = _fields(kept, r) if kept is not None and r is not None else ""
        if kept is None:
            yield Difference(f"IP {name}: it is not in the ledger's file", command)
        elif r is None:
            yield Difference(f"IP {shown(name)}: it is in the ledger's file and nowhere else", command)
        else:
            yield Difference(f"IP {name}: the ledger's file has another {what}", command)
    if r is None:
        yield from _unknown(name, rows)
        return
    yield from _record(r, rows)
    yield from _port(world, r)


# ---- records ---------------------------------------------------------------------------------------------------------


def _unknown(name: str, rows: Sequence[tuple[str, dict[str, str]]]) -> Iterator[Difference]:
    for uuid, ids in rows:
        if reservation_of(ids) is None:
            left = f"nobody knows whose it was; ovn-nbctl destroy dns {uuid} removes it"
            what = f'record {uuid} of "{shown(name)}": it cannot be read, and no IP has its name'
            yield Difference(what, f"ovn-nbctl list dns {uuid}", left)
        else:
            yield Difference(f"record {uuid} of IP {name}: the ledger does not know it", f"ovn-nbctl list dns {uuid}")


def _record(r: Reservation, rows: Sequence[tuple[str, dict[str, str]]]) -> Iterator[Difference]:
    if len(rows) == 1 and r.state is not State.INTENDED and rows[0][1] == external_ids_of(r):
        return  # the quick way for nearly all of them
    own = [(uuid, found) for uuid, ids in rows if (found := reservation_of(ids)) is not None and found.uid == r.uid]
    command = _record_of(r.name)
    if not rows:
        if r.state is State.INTENDED:
            yield Difference(f"IP {r.name}: it is in the ledger, and not yet in the database", command)
        elif r.state is not State.RELEASING:
            yield Difference(f"IP {r.name}: its record is missing", command)
        return
    if not own:
        uuid, ids = rows[0]
        found = reservation_of(ids)
        what = "its record cannot be read" if found is None else f"its record is of another uid, {found.uid}"
        yield Difference(f"IP {r.name}: {what}", f"ovn-nbctl list dns {uuid}")
    elif own[0][1] != r and r.state is not State.INTENDED:
        what = f"its record has another {_fields(own[0][1], r)}"
        yield Difference(f"IP {r.name}: {what}", f"ovn-nbctl list dns {own[0][0]}")
    if len(rows) > 1:
        yield Difference(f"IP {r.name}: its record is there {len(rows)} times", command, _surplus())


def _surplus() -> str:
    return "the daemon uses one of them; ovn-nbctl destroy dns UUID removes another"


def _fields(one: Reservation, other: Reservation) -> str:
    """Those in which the two differ."""
    return ", ".join(field for field in one.__struct_fields__ if getattr(one, field) != getattr(other, field))


# ---- ports and holders -----------------------------------------------------------------------------------------------


def _port(world: World, r: Reservation) -> Iterator[Difference]:
    """What keeps the reservation from being used, or somebody else from leaving it alone."""
    if r.state is State.FAILED:
        yield Difference(
            f"IP {r.name}: it has failed: {r.message}", _record_of(r.name), "it stays so until it is deleted"
        )
        return
    if r.state is not State.HELD:
        return
    segment = world.segments.get(r.switch)
    if segment is not None:
        world.settled(segment)
    seen = observe(world, r, None, 0.0, awaited=False)
    if seen.lost is not None:
        here = f"ovn-nbctl --if-exists --columns=_uuid,name,other_config list logical_switch {r.switch}"
        left = "it is kept, and written again once the subnet is back as it was"
        yield Difference(f"IP {r.name}: {seen.lost[1]}", here, left)
        return
    port = world.port(r.name)
    if port is not None and seen.bound.reason not in _NORMAL:
        left = "" if seen.bound.addresses is not None else "a port that has something else is not touched"
        yield Difference(
            f"IP {r.name}: not bound: {seen.bound.message}", f"ovn-nbctl list logical_switch_port {port.uuid}", left
        )
    for rival in seen.conflicts:
        yield Difference(f"IP {r.name}: {rival}", _shows(rival), _NOT_OURS)


def _shows(rival: Rival) -> str:
    """The command that shows who else has it."""
    if rival.port:
        return f"ovn-nbctl list logical_switch_port {rival.port}"
    if rival.who.startswith("IP "):
        return _record_of(rival.who.removeprefix("IP "))
    table = next((table for words, table in _TABLES if rival.who.startswith(words)), "")
    return f"ovn-nbctl list {table}" if table else "ovn-nbctl show"


# ---- exclude_ips -----------------------------------------------------------------------------------------------------


def _switch(world: World, segment: Segment) -> Iterator[Difference]:
    switch = segment.switch
    columns = f"other_config:{EXCLUDE_IPS} external_ids:{EXCLUDED_MARK}"
    command = f"ovn-nbctl --if-exists get logical_switch {switch.uuid} {columns}"
    where = f"exclude_ips of logical switch {shown(switch.name)} ({switch.uuid})"
    missing, surplus = ([], Runs()) if is_written(segment) else _ours(segment)
    withheld = {address: who for address in (*missing, *segment.withheld) if (who := _runs_on(world, segment, address))}
    for address, who in sorted(withheld.items()):
        name = segment.reserved[4, address]
        left = f"to exclude it would renumber port {who}; it is excluded once that port leaves"
        yield Difference(f"IP {name}: {format_v4(address)} is withheld from {where}: port {who} has it", command, left)
    lacking = Runs((address, address) for address in missing if address not in withheld)
    if lacking:
        yield Difference(f"{where}: {_some(lacking)} not in our part", command)
    if surplus:
        yield Difference(f"{where}: {_some(surplus)} in our part, and nobody has that reserved", command)
    if not (missing or surplus or is_written(segment)):
        yield Difference(f"{where}: our part is not written as it should be", command)
    excludes = bad_excludes(segment)
    if excludes is not None:
        yield Difference(excludes.message, command, _NOT_OURS)


def _ours(segment: Segment) -> tuple[list[int], Runs]:
    """The addresses that our part of exclude_ips should have and has not, and those that it has and should not."""
    ours = Runs(exclude_ips.parse(segment.ours, 0, 0).ranges)  # whatever the network is now
    gaps = (gap for first, last in segment.excluded for gap in ours.gaps_down(first, last))
    missing = [address for first, last in gaps for address in range(first, last + 1)]
    return missing, Runs(gap for first, last in ours for gap in segment.excluded.gaps_down(first, last))


def _runs_on(world: World, segment: Segment, address: int) -> str:
    """The port that ovn-northd gave a reserved address and that is not the reservation's own; "" if there is none."""
    name = segment.reserved.get((4, address), "")
    for uuid in sorted(segment.port_addresses.get((4, address), ())):
        port = world.ports[uuid]
        if port.assigned is not None and address in port.assigned.v4 and port.name != name:
            return port.name
    return ""


def _some(addresses: Runs) -> str:
    """The first of them, and how many more there are."""
    first = islice((address for low, high in addresses for address in range(low, high + 1)), _NAMED)
    count = addresses.count()
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    return f"{', '.join(map(format_v4, first))}{more} {'is' if count == 1 else 'are'}"


def _record_of(name: str) -> str:
    return _find("dns", f"external_ids:{NAME}", name)


def _find(table: str, column: str, value: str) -> str:
    """The ovn-nbctl command that finds what has this value there, for a shell."""
    plain = value.replace(".", "").replace("-", "").isalnum() and value.isascii()
    return f"ovn-nbctl find {table} {shlex.quote(f'{column}={value if plain else json.dumps(value)}')}"
