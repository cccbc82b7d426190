"""Reconcile: two stores that should say the same are compared as a whole.

First the version vectors tell what happened (plan/revision.py), then each reservation is looked at:

    ledger      record      database against ledger      what happens
    intended    same uid    any                          it was committed: held
    intended    none        equal, smaller               begun and not done: resumed
    intended    none        greater, incomparable        superseded: dropped, journalled (it was never acknowledged)
    held        same uid    greater, incomparable        its labels are followed
    held        other text  equal, smaller               republished
    held        none        equal, smaller, incomparable republished
    held        none        greater                      another daemon released it: dropped
    releasing   none        any                          the release is done: dropped
    releasing   any         any                          the release goes on where it was
    none        any         journalled as released       the record is removed
    none        any         otherwise                    followed: the ledger takes it

Whatever is republished or resumed is planned like a new reserve (plan/repair.py), so it never renumbers a port that
got the address meanwhile. Nothing is ever lost by comparing: where in doubt, both sides' reservations stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ovnreserve.model.reservation import Reservation, State
from ovnreserve.plan.revision import Relation


class Verdicts(NamedTuple):
    """What the comparison comes to.

    `puts` and `drops` concern the ledger only and are to be committed at once; then `resume` (write the record
    again), `release` (from the first transaction), `finish` (from the second) and `remove` (records nobody should
    have) go through the engine's queue. `superseded` are among the drops.
    """

    puts: list[Reservation]
    drops: list[Reservation]
    resume: list[str]
    release: list[str]
    finish: list[str]
    remove: list[Reservation]
    superseded: list[str]


def reconcile(
    ledger: Iterable[Reservation],
    records: Mapping[str, Reservation],
    relation: Relation,
    was_released: Callable[[str], bool],
) -> Verdicts:
    """Compare the ledger's reservations with the readable records (by name). Pure but for the look into the journal."""
    verdicts = Verdicts([], [], [], [], [], [], [])
    others_worked = relation in (Relation.GREATER, Relation.INCOMPARABLE)
    known: set[str] = set()
    for r in ledger:
        known.add(r.name)
        record = records.get(r.name)
        same = record is not None and record.uid == r.uid
        if record is not None and not same:
            _another(verdicts, r, record, others_worked=others_worked, was_released=was_released)
        elif r.state is State.FAILED:
            pass
        elif r.state is State.RELEASING:
            _releasing(verdicts, r, record)
        elif record is not None and record.state is State.RELEASING:
            verdicts.puts.append(record)
            verdicts.finish.append(r.name)
        elif record is not None:
            if r.state is State.INTENDED:
                verdicts.puts.append(r.with_(state=State.HELD))
            elif record != r and others_worked:
                verdicts.puts.append(record)
            elif record != r:
                verdicts.resume.append(r.name)
        elif r.state is State.INTENDED and others_worked:
            verdicts.drops.append(r)
            verdicts.superseded.append(r.name)
        elif relation is Relation.GREATER:
            verdicts.drops.append(r)
        else:
            verdicts.resume.append(r.name)
    for name, record in records.items():
        if name in known:
            continue
        if was_released(record.uid):
            verdicts.remove.append(record)
        else:
            verdicts.puts.append(record)
            if record.state is State.RELEASING:
                verdicts.finish.append(name)
    return verdicts


def _releasing(verdicts: Verdicts, r: Reservation, record: Reservation | None) -> None:
    if record is None:
        verdicts.drops.append(r)
    elif record.state is State.RELEASING:
        verdicts.finish.append(r.name)
    else:
        verdicts.release.append(r.name)


def _another(
    verdicts: Verdicts,
    r: Reservation,
    record: Reservation,
    *,
    others_worked: bool,
    was_released: Callable[[str], bool],
) -> None:
    """The record under this name is of another reservation (another uid)."""
    if was_released(record.uid) or (r.state is State.HELD and not others_worked):
        verdicts.remove.append(record)
        verdicts.resume.append(r.name)
    else:
        verdicts.puts.append(record)
        verdicts.superseded.append(r.name)
