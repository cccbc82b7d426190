"""Reconcile: two stores that should say the same are compared as a whole.

First the version vectors tell what happened (plan/revision.py), then each reservation is looked at:

    ledger      record      database against ledger      what happens
    intended    same uid    any                          it was committed: held
    intended    none        equal, smaller               begun and not done: resumed
    intended    none        greater, incomparable        superseded: dropped, journalled (it was never acknowledged)
    held        same uid    greater, incomparable        its labels are followed, also of what was intended
    held        other text  equal, smaller               republished
    held        none        equal, smaller, incomparable republished
    held        none        greater                      another daemon released it: dropped
    releasing   none        any                          the release is done: dropped
    releasing   any         any                          the release goes on where it was
    held        another uid equal, smaller               the record is removed, ours republished
    held        another uid incomparable, releasing      the same
    any         another uid journalled as released       the record is removed, and there is none
    any         another uid otherwise                    the other takes the name: ours is superseded
    none        any         journalled as released       the record is removed
    none        any         otherwise                    followed: the ledger takes it

A record that cannot be read is none that was released: it is written again. Both sides of a fork may have given one
address or MAC away. Then the one whose port has it stays, else the older; the other is Failed, and was it being
released, gone.

Whatever is republished or resumed is planned like a new reserve (plan/repair.py), so it never renumbers a port that
got the address meanwhile. An acknowledged reservation ends by comparing only as the table says, since another daemon
released it or gave its name or address away, and the journal tells of each. Where in doubt, both sides' stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from ovnreserve.model.reservation import Reservation, State
from ovnreserve.plan.revision import Relation

_Claim = tuple[str, str, int | str]


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
    ledger: Collection[Reservation],
    records: Mapping[str, Reservation],
    relation: Relation,
    was_released: Callable[[str], bool],
    *,
    unreadable: Collection[str] = (),
    is_bound: Callable[[Reservation], bool] = lambda _r: False,
) -> Verdicts:
    """Compare the ledger's reservations with the readable records (by name); `unreadable` are the names of the others.
    Pure but for the look into the journal.
    """
    verdicts = Verdicts([], [], [], [], [], [], [])
    others_worked = relation in (Relation.GREATER, Relation.INCOMPARABLE)
    known: set[str] = set()
    for r in ledger:
        known.add(r.name)
        record = records.get(r.name)
        if record is not None and record.uid != r.uid:  # of another reservation under this name
            going = record.state is State.RELEASING and relation is Relation.INCOMPARABLE
            stays = r.state is State.HELD and (going or not others_worked)
            if not stays and not was_released(record.uid):
                verdicts.drops.append(r)
                verdicts.superseded.append(r.name)
                _follow(verdicts, record)
                continue
            verdicts.remove.append(record)
            record = None  # nor does it say that ours was released
        if r.state is State.FAILED:
            continue
        if r.state is State.RELEASING:
            _releasing(verdicts, r, record)
        elif record is not None and record.state is State.RELEASING:
            _follow(verdicts, record)
        elif record is not None:
            held = record if others_worked else r.with_(state=State.HELD)
            if held != r:
                verdicts.puts.append(held)
            if held != record:
                verdicts.resume.append(r.name)
        elif r.state is State.INTENDED and others_worked:
            verdicts.drops.append(r)
            verdicts.superseded.append(r.name)
        elif relation is Relation.GREATER and r.name not in unreadable and r.name not in records:
            verdicts.drops.append(r)
        else:
            verdicts.resume.append(r.name)
    for name, record in records.items():
        if name in known:
            continue
        if was_released(record.uid):
            verdicts.remove.append(record)
        else:
            _follow(verdicts, record)
    _settle_claims(verdicts, ledger, is_bound)
    return verdicts


def _follow(verdicts: Verdicts, record: Reservation) -> None:
    """Let the ledger have what the record says, and finish a release that another has begun."""
    verdicts.puts.append(record)
    if record.state is State.RELEASING:
        verdicts.finish.append(record.name)


def _releasing(verdicts: Verdicts, r: Reservation, record: Reservation | None) -> None:
    if record is None:
        verdicts.drops.append(r)
    elif record.state is State.RELEASING:
        verdicts.finish.append(r.name)
    else:
        verdicts.release.append(r.name)


def _settle_claims(verdicts: Verdicts, ledger: Iterable[Reservation], is_bound: Callable[[Reservation], bool]) -> None:
    """Let nothing be held twice after this."""
    dropped = {r.name for r in verdicts.drops}
    after = {r.name: r for r in ledger if r.name not in dropped} | {r.name: r for r in verdicts.puts}
    claims = Counter(claim for r in after.values() for claim in _claims(r))
    if len(claims) == claims.total():
        return
    contested = [r for r in after.values() if any(claims[claim] > 1 for claim in _claims(r))]
    contested.sort(key=lambda r: (r.state is State.RELEASING, not is_bound(r), r.created, r.uid))
    holders: dict[_Claim, Reservation] = {}
    for r in contested:
        winner = next((holders[claim] for claim in _claims(r) if claim in holders), None)
        if winner is None:
            holders.update(dict.fromkeys(_claims(r), r))
        else:
            _lose(verdicts, r, winner)


def _claims(r: Reservation) -> list[_Claim]:
    """What it keeps from everyone."""
    held = (("IPv4", r.v4), ("IPv6", r.v6), ("MAC", r.mac)) if r.live else ()
    return [(r.switch, kind, what) for kind, what in held if what is not None]


def _lose(verdicts: Verdicts, r: Reservation, winner: Reservation) -> None:
    for names in (verdicts.resume, verdicts.release, verdicts.finish):
        if r.name in names:
            names.remove(r.name)
    verdicts.puts[:] = [put for put in verdicts.puts if put.name != r.name]
    if r.state is State.RELEASING:
        verdicts.drops.append(r)
        verdicts.remove.append(r)
    else:
        message = f"IP {winner.name} has {winner.port_addresses}: both were given away while nobody saw both sides"
        verdicts.puts.insert(0, r.with_(state=State.FAILED, message=message))  # before the winner takes its place
