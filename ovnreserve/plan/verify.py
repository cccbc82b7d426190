"""Verify: ledger, records, exclude_ips (verify_switch.py) and ports held against each other, as they are now.

Each difference is one line, with the ovn-nbctl command that shows it, and says what keeps a repair from it, if
anything does: what belongs to others is never changed. What is merely so is no difference: a reservation without its
port, one that is being released, an owner that is remembered as gone while something of it is left, an operator's own
excludes.

Each resource and each switch is looked at by itself, so that the engine can do something else between two of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from ovnreserve.model.errors import shown
from ovnreserve.model.involved import involved
from ovnreserve.model.pool import Pool
from ovnreserve.model.record import record_ids, resource_of
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import KIND, KIND_LEDGER, KIND_POOL, Resource, State
from ovnreserve.plan import revision
from ovnreserve.plan.difference import NOT_OURS, Difference, find, record_of, titled
from ovnreserve.plan.findings import database_findings
from ovnreserve.plan.holders import Rival
from ovnreserve.plan.pool_status import condition
from ovnreserve.plan.status import observe
from ovnreserve.plan.world import World

Records = Mapping[str, Sequence[tuple[str, dict[str, str]]]]
"""By name the rows that are its record, (uuid, external_ids)."""

_NORMAL: Final = frozenset({"Bound", "NoPort"})
_UNTIL_DELETED: Final = "it stays so until it is deleted"
_UNTIL_BACK: Final = "it is kept, and written again once the subnet is back as it was"
_UNFIT: Final = {
    "SubnetMissing": _UNTIL_BACK,
    "OutsideSubnet": _UNTIL_BACK,
    "Overlapping": "both keep what they say until the ips of one are changed",
}
"""Why a repair leaves a pool that is not in force as it is."""
_TABLES: Final = (
    ("logical router port ", "logical_router_port"),
    ("NAT ", "nat"),
    ("load balancer ", "load_balancer"),
    ("forwarding group ", "forwarding_group"),
    ("DHCP options", "dhcp_options"),
    ("service monitor", "nb_global"),
)
"""Where who holds an address is found, by the words that plan/holders has for it."""


class Stores(NamedTuple):
    """What the world is held against: `ledger` is what its file says. What is `busy`, names and switches, is being
    written now and passed over.
    """

    ledger: Mapping[str, Resource | None]
    records: Records
    busy: Collection[str] = frozenset()


def verify_names(world: World, stores: Stores, names: Iterable[str]) -> Iterator[Difference]:
    """What is not as it should be of the resources, or records, of these names."""
    for name in names:
        if name not in stores.busy:
            yield from _resource(world, stores, name)


def verify_database(world: World) -> Iterator[Difference]:
    """What is wrong with the database as a whole."""
    for finding in database_findings(world):
        yield Difference(finding.message, "ovn-nbctl get nb_global . options:mac_prefix", NOT_OURS)


# ---- the ledger ------------------------------------------------------------------------------------------------------


def verify_ledger_row(revisions: Sequence[str], vector: Mapping[str, int]) -> Iterator[Difference]:
    """`revisions` are the texts of the ledger rows that there are, `vector` is what the ledger knows."""
    command = find("dns", f"external_ids:{KIND}", KIND_LEDGER)
    if len(revisions) > 1:
        yield Difference(f"the ledger row is there {len(revisions)} times", command, _surplus())
    elif not revisions and vector:
        yield Difference("the ledger row is missing", command)
    elif revisions and (found := revision.decode(revisions[0])) != dict(vector):
        yield Difference(f"the ledger row has revision {_vector(found)}, the ledger {_vector(vector)}", command)


def _vector(vector: Mapping[str, int]) -> str:
    return shown(", ".join(f"{who}:{count}" for who, count in sorted(vector.items()))) or "none"


def _resource(world: World, stores: Stores, name: str) -> Iterator[Difference]:
    r = world.resource(name)
    rows = stores.records.get(name, ())
    kept = stores.ledger.get(name)
    if kept != r:
        if kept is None:
            what = "it is not in the ledger's file"
        elif r is None:
            what = "it is in the ledger's file and nowhere else"
        else:
            what = f"the ledger's file has another {_fields(kept, r)}"
        yield Difference(f"{titled(name)}: {what}", record_of(name))
    if r is None:
        yield from _unknown(name, rows)
        return
    yield from _record(r, rows)
    if isinstance(r, Reservation):
        yield from _reservation(world, r)
    elif isinstance(r, Pool):
        yield from _pool(world, r)


# ---- records ---------------------------------------------------------------------------------------------------------


def _unknown(name: str, rows: Sequence[tuple[str, dict[str, str]]]) -> Iterator[Difference]:
    for uuid, ids in rows:
        if resource_of(ids) is None:
            left = f"nobody knows whose it was; ovn-nbctl destroy dns {uuid} removes it"
            what = f'record {uuid} of "{shown(name)}": it cannot be read, and no {involved(name).kind} has its name'
            yield Difference(what, f"ovn-nbctl list dns {uuid}", left)
        else:
            what = f"record {uuid} of {titled(name)}: the ledger does not know it"
            yield Difference(what, f"ovn-nbctl list dns {uuid}")


def _record(r: Resource, rows: Sequence[tuple[str, dict[str, str]]]) -> Iterator[Difference]:
    if len(rows) == 1 and r.state is not State.INTENDED and rows[0][1] == record_ids(r):
        return  # the quick way for nearly all of them
    own = [(uuid, found) for uuid, ids in rows if (found := resource_of(ids)) is not None and found.uid == r.uid]
    command = record_of(r.name)
    title = titled(r.name)
    if not rows:
        if r.state is State.INTENDED:
            yield Difference(f"{title}: it is in the ledger, and not yet in the database", command)
        elif r.state is not State.RELEASING:
            yield Difference(f"{title}: its record is missing", command)
        return
    if not own:
        uuid, ids = rows[0]
        found = resource_of(ids)
        what = "its record cannot be read" if found is None else f"its record is of another uid, {found.uid}"
        yield Difference(f"{title}: {what}", f"ovn-nbctl list dns {uuid}")
    elif own[0][1] != r and r.state is not State.INTENDED:
        what = f"its record has another {_fields(own[0][1], r)}"
        yield Difference(f"{title}: {what}", f"ovn-nbctl list dns {own[0][0]}")
    if len(rows) > 1:
        yield Difference(f"{title}: its record is there {len(rows)} times", command, _surplus())


def _surplus() -> str:
    return "the daemon uses one of them; ovn-nbctl destroy dns UUID removes another"


def _fields(one: Resource, other: Resource) -> str:
    """Those in which the two, of one kind, differ."""
    return ", ".join(field for field in one.__struct_fields__ if getattr(one, field) != getattr(other, field))


# ---- ports and holders -----------------------------------------------------------------------------------------------


def _reservation(world: World, r: Reservation) -> Iterator[Difference]:
    """What keeps the reservation from being used, or somebody else from leaving it alone."""
    if r.state is State.FAILED:
        yield Difference(f"IP {r.name}: it has failed: {r.message}", record_of(r.name), _UNTIL_DELETED)
        return
    if r.state is not State.HELD:
        return
    segment = world.segments.get(r.switch)
    if segment is not None:
        world.settled(segment)
    seen = observe(world, r, None, 0.0, awaited=False)
    if seen.lost is not None:
        yield Difference(f"IP {r.name}: {seen.lost[1]}", _switch(r.switch), _UNTIL_BACK)
        return
    port = world.port(r.name)
    if port is not None and seen.bound.reason not in _NORMAL:
        left = "" if seen.bound.addresses is not None else "a port that has something else is not touched"
        yield Difference(
            f"IP {r.name}: not bound: {seen.bound.message}", f"ovn-nbctl list logical_switch_port {port.uuid}", left
        )
    for rival in seen.conflicts:
        yield Difference(f"IP {r.name}: {rival}", _shows(rival), NOT_OURS)


def _switch(uuid: str) -> str:
    return f"ovn-nbctl --if-exists --columns=_uuid,name,other_config list logical_switch {uuid}"


def _pool(world: World, pool: Pool) -> Iterator[Difference]:
    """What keeps it from being in force. One that is not yet in the database is told of its record."""
    segment = world.segments.get(pool.switch)
    if segment is not None:
        world.settled(segment)
    _ready, reason, message = condition(world, pool)
    title = titled(pool.name)
    if pool.state is State.FAILED:
        yield Difference(f"{title}: it has failed: {message}", record_of(pool.name), _UNTIL_DELETED)
    elif reason in _UNFIT:
        command = find("dns", f"external_ids:{KIND}", KIND_POOL) if reason == "Overlapping" else _switch(pool.switch)
        yield Difference(f"{title}: {message}", command, _UNFIT[reason])


def _shows(rival: Rival) -> str:
    """The command that shows who else has it."""
    if rival.port:
        return f"ovn-nbctl list logical_switch_port {rival.port}"
    if rival.who.startswith("IP "):
        return record_of(rival.who.removeprefix("IP "))
    table = next((table for words, table in _TABLES if rival.who.startswith(words)), "")
    return f"ovn-nbctl list {table}" if table else "ovn-nbctl show"
