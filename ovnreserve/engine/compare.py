"""Comparing the stores: on start, on each full dump after a reconnect, and on winning the lock.

A standby compares what changes, as it changes: so it follows the active daemon.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

import structlog

from ovnreserve.engine import points
from ovnreserve.engine.points import Point
from ovnreserve.engine.settlement import entry
from ovnreserve.ledger.ledger import Entry, Ledger, LedgerError
from ovnreserve.ledger.rows import quarantine_of
from ovnreserve.model.addresses import parse_either
from ovnreserve.model.pace import paced
from ovnreserve.model.record import resource_of
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Resource, State
from ovnreserve.northbound.replica import Replica
from ovnreserve.plan import revision
from ovnreserve.plan.bind import judge
from ovnreserve.plan.outcome import Event
from ovnreserve.plan.reconcile import Verdicts, reconcile
from ovnreserve.plan.revision import Relation, Standing
from ovnreserve.plan.world import World

_log = structlog.get_logger(__name__)

_NEVER_ACKNOWLEDGED: Final = "another daemon worked meanwhile, and this had never been acknowledged"
_CHANGED_SINCE: Final = "another daemon changed it while this one let it go: it stays"
_RELEASED_ELSEWHERE: Final = "another daemon let it go: {}"
_NAME_KEPT: Final = "another daemon gave the name to another, {}, while nobody saw both sides: its record is removed"
_NAME_TAKEN: Final = "another daemon worked meanwhile, and gave the name to another"


def standing_of(ledger: Ledger, replica: Replica) -> Standing:
    database = revision.decode(replica.revision)
    return revision.standing(database, ledger.vector, ledger.incarnation, ledger.attempted)


def compare_stores(
    ledger: Ledger, replica: Replica, world: World, quarantine: float, names: set[str] | None = None
) -> tuple[Verdicts, set[str]] | None:
    """Bring ledger and world up to what the database says, of everything or of the reservations of these names; return
    what is left to do there, and the names concerned.

    None if the ledger cannot be written: nothing is decided on half a view.

    Where the database lacks what the ledger has known it to have, its vector says so until all of that is written
    again: one that covers what is not there would tell other daemons that it was released. If our own commits may be
    among what it lacks, we go on counting under another incarnation, since no number of the old one leaves them out.
    """
    written = replica.records.keys() if names is None else replica.records.keys() & names
    records = _records(replica, world, written)
    standing = standing_of(ledger, replica)
    if names is None:
        before = {r.name: r for r in world.resources()}
    else:
        before = {name: r for name in names if (r := world.resource(name)) is not None}
    verdicts = reconcile(
        before.values(),
        records,
        standing,
        ledger.was_released,
        unreadable=written - records.keys(),
        is_bound=lambda r: isinstance(r, Reservation) and judge(world, r).status,
    )
    if not _publishes(ledger, standing, verdicts, whole=names is None):
        return None
    now = time.time()
    given_up = set(verdicts.superseded)
    never_held = {r.name for r in verdicts.drops if r.name in given_up and r.state is State.INTENDED}
    if not (verdicts.puts or verdicts.drops or replica.resource_version > ledger.ceiling):
        ledger.learn(standing.merged)
    else:
        drops = [r.name for r in verdicts.drops]
        released = [r for r in verdicts.drops if r.name not in never_held]
        kept = [address for r in released for address in quarantine_of(r, now)]
        points.reached(Point.COMPARING)
        try:
            ledger.commit(
                verdicts.puts,
                drops,
                journal=_journal(verdicts, before, standing, now),
                quarantine=kept,
                vector=standing.merged,
                version=replica.resource_version,
            )
        except LedgerError as error:
            _log.error("ledger_failed", error=str(error))
            return None
        points.reached(Point.COMPARED)
    for r in verdicts.drops:
        world.drop(r.name, None if r.name in never_held else now)
    for r in paced(verdicts.puts, world.beat):
        world.put(r)
    if names is None:
        _restore_quarantine(ledger, world, now, quarantine)
    if names is None and (standing.relation is not Relation.EQUAL or any(verdicts)):
        counts = {k: len(v) for k, v in verdicts._asdict().items()}
        _log.info("stores_compared", database=standing.relation.value, **counts)
    return verdicts, {r.name for r in (*verdicts.puts, *verdicts.drops)}


def _publishes(ledger: Ledger, standing: Standing, verdicts: Verdicts, *, whole: bool) -> bool:
    """Settle what the next transactions say of themselves. False if the ledger cannot be written."""
    ledger.published = dict(standing.database)
    if not whole:
        return True
    lacking = standing.relation in (Relation.SMALLER, Relation.INCOMPARABLE)
    ledger.is_complete = not (lacking and any((verdicts.resume, verdicts.release, verdicts.remove)))
    if not ledger.is_complete and standing.database.get(ledger.incarnation, 0) < ledger.attempted:
        try:
            ledger.renew()
        except LedgerError as error:
            _log.error("ledger_failed", error=str(error))
            return False
    return True


def _records(replica: Replica, world: World, names: Iterable[str]) -> dict[str, Resource]:
    records: dict[str, Resource] = {}
    for name in paced(names, world.beat):
        known = world.resource(name)
        found = (replica.record(name, known.uid) if known else None) or replica.record(name)
        r = resource_of(found[1]) if found is not None else None
        if r is None:
            _log.warning("record_unreadable", name=name, hint="it is written again if the ledger knows it")
        else:
            records[name] = r
    return records


def _journal(verdicts: Verdicts, before: dict[str, Resource], standing: Standing, now: float) -> list[Entry]:
    lines = []
    puts = {put.name: put for put in reversed(verdicts.puts)}
    for name in verdicts.superseded:
        r = before[name]
        followed = puts.get(name)
        stays = followed is not None and followed.uid == r.uid
        reason = "Overruled" if stays else "Superseded"  # which ends its tenure
        if followed is not None and followed.uid != r.uid and r.state is not State.INTENDED:
            message = _NAME_TAKEN
        elif r.state is State.RELEASING and revision.covers(standing.ledger, r.written):
            message = _CHANGED_SINCE
        else:
            message = _NEVER_ACKNOWLEDGED
        lines.append(entry(Event("Warning", reason, name, message), r, now))
    for record in verdicts.remove:
        ours = before.get(record.name)
        if ours is not None and ours.uid != record.uid and record.state is State.HELD:
            event = Event("Warning", "Superseded", record.name, _NAME_KEPT.format(record.what))
            lines.append(entry(event, record, now))
    superseded = set(verdicts.superseded)
    lines += [entry(_gone(r), r, now) for r in verdicts.drops if r.name not in superseded]
    for r in verdicts.puts:
        known = before.get(r.name)
        is_known = known is not None and known.uid == r.uid
        if is_known and isinstance(known, Reservation) and known.is_let_go and r.state is State.HELD:
            continue  # nothing has become of it
        if known is None or not is_known or known.state is not r.state:
            lines.append(entry(_found(r, is_known=is_known), r, now))
    return lines


def _gone(r: Resource) -> Event:
    """Only what was seen on its way out is known to be released, should its record ever turn up again."""
    if isinstance(r, Reservation) and r.is_let_go:
        return Event("Normal", "GivenBack", r.name, f"found let go, its port's again if there is one: {r.what}")
    if r.state is State.RELEASING:
        return Event("Normal", "Released", r.name, f"found released: {r.what}")
    return Event("Normal", "ReleasedElsewhere", r.name, _RELEASED_ELSEWHERE.format(r.what))


def _found(r: Resource, *, is_known: bool) -> Event:
    what = r.what
    match r.state:
        case State.FAILED:
            return Event("Warning", "Failed", r.name, r.message)
        case State.RELEASING:
            return Event("Normal", "Releasing", r.name, f"found being released: {what}")
    if is_known:
        return Event("Normal", "Reserved", r.name, f"found committed: {what}")
    return Event("Normal", "Followed", r.name, f"found in the database: {what}")


def _restore_quarantine(ledger: Ledger, world: World, now: float, seconds: float) -> None:
    """Only the wall clock survives a restart: a time in the future counts as now."""
    ledger.prune_quarantine(now - seconds, now)
    for switch, text, since in paced(ledger.quarantined(), world.beat):
        v4, v6 = parse_either(text)
        if v4 is not None:
            world.quarantine(switch, 4, v4, min(since, now))
        elif v6 is not None:
            world.quarantine(switch, 6, v6, min(since, now))
