"""Comparing the stores: on start, on each full dump after a reconnect, and on winning the lock.

A standby compares what changes, as it changes: so it follows the active daemon.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

import structlog

from ovnreserve.engine.settlement import entry
from ovnreserve.ledger.ledger import Entry, Ledger, LedgerError, quarantine_of
from ovnreserve.model.addresses import parse_either
from ovnreserve.model.reservation import Reservation, State, reservation_of
from ovnreserve.northbound.replica import Replica
from ovnreserve.plan import revision
from ovnreserve.plan.bind import judge
from ovnreserve.plan.outcome import Event
from ovnreserve.plan.reconcile import Verdicts, reconcile
from ovnreserve.plan.revision import Relation
from ovnreserve.plan.world import World

_log = structlog.get_logger(__name__)

_NEVER_ACKNOWLEDGED: Final = "another daemon worked meanwhile, and this had never been acknowledged"
_NAME_TAKEN: Final = "another daemon worked meanwhile, and gave the name to another"


def compare_stores(
    ledger: Ledger, replica: Replica, world: World, quarantine: float, names: set[str] | None = None
) -> tuple[Verdicts, set[str]] | None:
    """Bring ledger and world up to what the database says, of everything or of the reservations of these names; return
    what is left to do there, and the names concerned.

    None if the ledger cannot be written: nothing is decided on half a view.
    """
    written = replica.records.keys() if names is None else replica.records.keys() & names
    records = _records(replica, world, written)
    theirs = revision.decode(replica.revision)
    relation = revision.compare(theirs, ledger.vector)
    before = world.reservations
    before = dict(before) if names is None else {name: before[name] for name in names if name in before}
    verdicts = reconcile(
        before.values(),
        records,
        relation,
        ledger.was_released,
        unreadable=written - records.keys(),
        is_bound=lambda r: judge(world, r).status,
    )
    now = time.time()
    merged = revision.merge(theirs, ledger.vector)
    if verdicts.puts or verdicts.drops or merged != ledger.vector:
        drops = [r.name for r in verdicts.drops]
        released = [r for r in verdicts.drops if r.name not in verdicts.superseded]
        kept = [address for r in released for address in quarantine_of(r, now)]
        try:
            ledger.commit(verdicts.puts, drops, journal=_journal(verdicts, before, now), quarantine=kept, vector=merged)
        except LedgerError as error:
            _log.error("ledger_failed", error=str(error))
            return None
    for r in verdicts.drops:
        world.drop(r.name)
    for r in verdicts.puts:
        world.put(r)
    if names is None:
        _restore_quarantine(ledger, world, now, quarantine)
    if names is None and (relation is not Relation.EQUAL or any(verdicts)):
        _log.info("stores_compared", database=relation.value, **{k: len(v) for k, v in verdicts._asdict().items()})
    return verdicts, {r.name for r in (*verdicts.puts, *verdicts.drops)}


def _records(replica: Replica, world: World, names: Iterable[str]) -> dict[str, Reservation]:
    records: dict[str, Reservation] = {}
    for name in names:
        known = world.reservations.get(name)
        found = (replica.record(name, known.uid) if known else None) or replica.record(name)
        r = reservation_of(found[1]) if found is not None else None
        if r is None:
            _log.warning("record_unreadable", name=name, hint="it is written again if the ledger knows it")
        else:
            records[name] = r
    return records


def _journal(verdicts: Verdicts, before: dict[str, Reservation], now: float) -> list[Entry]:
    lines = []
    for name in verdicts.superseded:
        r = before[name]
        message = _NEVER_ACKNOWLEDGED if r.state is State.INTENDED else _NAME_TAKEN
        lines.append(entry(Event("Warning", "Superseded", name, message), r.uid, now))
    for r in verdicts.puts:
        known = before.get(r.name)
        is_known = known is not None and known.uid == r.uid
        if known is None or not is_known or known.state is not r.state:
            lines.append(entry(_found(r, is_known=is_known), r.uid, now))
    lines += [
        entry(Event("Normal", "Released", r.name, f"found released: {r.port_addresses}"), r.uid, now)
        for r in verdicts.drops
        if r.name not in verdicts.superseded
    ]
    return lines


def _found(r: Reservation, *, is_known: bool) -> Event:
    what = f"{r.port_addresses} on subnet {r.subnet}"
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
    ledger.prune_quarantine(now - seconds)
    for switch, text, since in ledger.quarantined():
        v4, v6 = parse_either(text)
        if v4 is not None:
            world.quarantine(switch, 4, v4, min(since, now))
        elif v6 is not None:
            world.quarantine(switch, 6, v6, min(since, now))
