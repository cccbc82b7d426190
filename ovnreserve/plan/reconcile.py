"""Reconcile: two stores that should say the same are compared as a whole.

First the version vectors tell what happened (plan/revision.py), then each reservation is looked at. "Others worked"
where the database has commits that the ledger has not. An *intent* is what the ledger has and the database was not
seen to have: it was written down before the database was asked, and nobody was told that it was done.

    ledger          record        others worked              nobody else worked
    intended        none          superseded: dropped        resumed
    intended        same uid      committed: held            the same
    held, failed    other text    as intent: superseded      written again
                                  else by the dots: followed,
                                  or written again
    held, failed    none          by the dots: released      written again
                                  there, or written again
    releasing       none          done: dropped              the same
    releasing       releasing     finished                   the same
    releasing       held, failed  as intent: superseded; does the release not know the record: followed, as
                                  an owner is that was deleted and applied again; else released again
    let go          any           followed: nobody was told of it, and who wants it asks or decides again
    held, failed    releasing     followed, unless it does not know the ledger's: written again
    any             another uid   `_keeps_name`: one takes the name, the other is removed or superseded
    none            any           followed; but removed where the journal says that it is released, unless the
                                  database is greater, and after a fork only if the record is unchanged since;
                                  and where the database is smaller, if the ledger has known it

Where the database is greater it has known all that the ledger was told of, where it is smaller or equal nobody else
worked, so the dots decide only after a fork. Without a dot (of version 1) the answer is what keeps the reservation.
Which ports are blocked for a reservation is what its record says, whoever worked: it was written with the ports.
A record that cannot be read is none that was released: it is written again. Both sides of a fork may have given one
address or MAC away. Then the one whose port has it stays, else the older; the other is Failed, which its record says,
and was it being released, gone.

Whatever is republished or resumed is planned like a new reserve (plan/repair.py), so it never renumbers a port that
got the address meanwhile. An acknowledged reservation ends by comparing only as the table says, since another daemon
released it or gave its name or address away, and the journal tells of each. Where in doubt, both sides' stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Resource, State
from ovnreserve.plan.revision import Relation, Standing, covers

_Claim = tuple[str, str, int | str]


class Verdicts(NamedTuple):
    """What the comparison comes to.

    `puts` and `drops` concern the ledger only and are to be committed at once; then `resume` (write the record
    again), `release` (from the first transaction), `finish` (from the second) and `remove` (records nobody should
    have) go through the engine's queue. `superseded` are those whose intent or name is given up: dropped, or followed.
    """

    puts: list[Resource]
    drops: list[Resource]
    resume: list[str]
    release: list[str]
    finish: list[str]
    remove: list[Resource]
    superseded: list[str]


def reconcile(
    ledger: Collection[Resource],
    records: Mapping[str, Resource],
    standing: Standing,
    was_released: Callable[[str], bool],
    *,
    unreadable: Collection[str] = (),
    is_bound: Callable[[Resource], bool] = lambda _r: False,
) -> Verdicts:
    """Compare the ledger's reservations with the readable records (by name); `unreadable` are the names of the others.
    Pure but for the look into the journal.
    """
    sides = _Sides(standing, was_released, is_bound)
    verdicts = Verdicts([], [], [], [], [], [], [])
    known: set[str] = set()
    for r in ledger:
        known.add(r.name)
        record = records.get(r.name)
        if record is not None and record.uid != r.uid:
            if sides.keeps_name(r, record):
                verdicts.remove.append(record)
                _compare(verdicts, r, None, sides, is_missing=False)  # nor does it say that ours was released
            else:
                verdicts.drops.append(r)
                verdicts.superseded.append(r.name)
                _follow(verdicts, record)
        else:
            _compare(verdicts, r, record, sides, is_missing=record is None and r.name not in unreadable)
    for name, record in records.items():
        if name in known:
            continue
        if sides.is_gone(record):
            verdicts.remove.append(record)
        else:
            _follow(verdicts, record)
    _settle_claims(verdicts, ledger, sides)
    return verdicts


def is_foreign(ledger: Collection[Resource], switches: Collection[str], standing: Standing) -> bool:
    """Does the database seem to be of another cloud? It has none of the switches (uuids) that the ledger knows, and
    nobody of whom the ledger knows has ever worked there.
    """
    homes = {r.home for r in ledger if r.home}
    if not homes or standing.database.keys() & standing.ledger.keys():
        return False
    return homes.isdisjoint(switches)


class _Sides:
    """What each side has known of the other's work."""

    def __init__(
        self, standing: Standing, was_released: Callable[[str], bool], is_bound: Callable[[Resource], bool]
    ) -> None:
        self._standing = standing
        self._was_released = was_released
        self._is_bound = is_bound
        self.relation = standing.relation
        self.fork = self.relation is Relation.INCOMPARABLE
        self.others_worked = self.fork or self.relation is Relation.GREATER

    def is_intent(self, r: Resource) -> bool:
        """Has the database not been seen to have it as the ledger does?"""
        if not r.written.number:
            return r.state is State.INTENDED
        return not covers(self._standing.ledger, r.written)

    def database_knew(self, r: Resource) -> bool:
        return covers(self._standing.database, r.written)

    def ledger_knew(self, record: Resource) -> bool:
        return covers(self._standing.ledger, record.written)

    def is_gone(self, record: Resource) -> bool:
        """Was it released on our side, and not kept on the other by who knew that? Where nobody else has worked, what
        the ledger has known and has no more was let go, whoever did it and however.
        """
        if self.relation is Relation.SMALLER and record.written.number and self.ledger_knew(record):
            return True
        if self.relation is Relation.GREATER or not self._was_released(record.uid):
            return False
        return not self.fork or not record.written.number or self.ledger_knew(record)

    def was_dropped_there(self, r: Resource) -> bool:
        """A reservation has no record: was it released by another daemon?"""
        return self.database_knew(r) if self.fork else self.relation is Relation.GREATER

    def keeps_name(self, r: Resource, record: Resource) -> bool:
        """Of two reservations under one name, does the ledger's keep it?"""
        if self.is_gone(record):
            return True
        if r.state not in (State.HELD, State.FAILED):
            return False
        if not self.fork:
            return not self.others_worked
        if r.state is State.FAILED:
            return False
        if record.state is State.RELEASING:
            return True
        ours, theirs = self.database_knew(r), self.ledger_knew(record)
        if ours is not theirs:
            return theirs  # who has known the other's had let it go before
        return self.seniority(r, is_new=False) < self.seniority(record, is_new=True)

    def seniority(self, r: Resource, *, is_new: bool) -> tuple[bool, bool, bool, int, str]:
        """Of those that claim the same, the least has it: what is not being released, is bound, is not `is_new` to a
        ledger that has known it once and has it no more, is older.
        """
        has_been_let_go = is_new and self.ledger_knew(r)
        return r.state is State.RELEASING, not self._is_bound(r), has_been_let_go, r.created, r.uid


def _compare(
    verdicts: Verdicts, r: Resource, record: Resource | None, sides: _Sides, *, is_missing: bool
) -> None:
    """One reservation of the ledger with its own record, if there is one that can be read; `is_missing` if there is
    none at all.
    """
    if record is None:
        if r.state is State.RELEASING:
            verdicts.drops.append(r)
        elif sides.others_worked and r.state is State.INTENDED and sides.is_intent(r):
            verdicts.drops.append(r)
            verdicts.superseded.append(r.name)
        elif is_missing and sides.was_dropped_there(r):
            verdicts.drops.append(r)
        else:
            verdicts.resume.append(r.name)
        return
    if isinstance(r, Reservation) and isinstance(record, Reservation) and r.blocked != record.blocked:
        r = r.with_(blocked=record.blocked)
        verdicts.puts.append(r)
    superseded = sides.others_worked and sides.is_intent(r) and r.state is not State.INTENDED
    match r.state, record.state:
        case State.RELEASING, _ if isinstance(r, Reservation) and r.is_let_go:
            _follow(verdicts, record)
        case State.RELEASING, State.RELEASING:
            verdicts.finish.append(r.name)
        case State.RELEASING, _:
            changed_since = sides.others_worked and record.written.number and not sides.ledger_knew(record)
            if superseded or (changed_since and sides.fork):
                verdicts.puts.append(record)
                verdicts.superseded.append(r.name)
            elif changed_since:
                _follow(verdicts, record)
            else:
                verdicts.release.append(r.name)
        case _, State.RELEASING if sides.fork and r.written.number and not superseded and not sides.database_knew(r):
            verdicts.resume.append(r.name)
        case _, State.RELEASING:
            _follow(verdicts, record)
        case _:
            _agree(verdicts, r, record, sides)
            if superseded and record != r:
                verdicts.superseded.append(r.name)


def _agree(verdicts: Verdicts, r: Resource, record: Resource, sides: _Sides) -> None:
    """Both sides have it; they may differ in what may be changed of it, or in whether it has failed."""
    behind = sides.ledger_knew(record) and not sides.database_knew(r) and not sides.is_intent(r)
    ours = r.with_(state=State.HELD) if r.state is State.INTENDED else r
    agreed = record if sides.others_worked and not behind else ours
    if agreed != r:
        verdicts.puts.append(agreed)
    if agreed != record:
        verdicts.resume.append(r.name)


def _follow(verdicts: Verdicts, record: Resource) -> None:
    """Let the ledger have what the record says, and finish a release that another has begun."""
    verdicts.puts.append(record)
    if record.state is State.RELEASING:
        verdicts.finish.append(record.name)


def _settle_claims(verdicts: Verdicts, ledger: Iterable[Resource], sides: _Sides) -> None:
    """Let nothing be held twice after this."""
    dropped = {r.name for r in verdicts.drops}
    after = {r.name: r for r in ledger if r.name not in dropped} | {r.name: r for r in verdicts.puts}
    claims = Counter(claim for r in after.values() for claim in r.claims())
    if len(claims) == claims.total():
        return
    contested = [r for r in after.values() if any(claims[claim] > 1 for claim in r.claims())]
    ours = {r.uid for r in ledger}
    contested.sort(key=lambda r: sides.seniority(r, is_new=r.uid not in ours))
    holders: dict[_Claim, Resource] = {}
    for r in contested:
        winner = next((holders[claim] for claim in r.claims() if claim in holders), None)
        if winner is None:
            holders.update(dict.fromkeys(r.claims(), r))
        else:
            _lose(verdicts, r, winner)


def _lose(verdicts: Verdicts, r: Resource, winner: Resource) -> None:
    for names in (verdicts.resume, verdicts.release, verdicts.finish):
        if r.name in names:
            names.remove(r.name)
    verdicts.puts[:] = [put for put in verdicts.puts if put.name != r.name]
    if r.state is State.RELEASING:
        verdicts.drops.append(r)
        verdicts.remove.append(r)
    else:
        message = f"IP {winner.name} has {winner.what}: both were given away while nobody saw both sides"
        verdicts.puts.insert(0, r.with_(state=State.FAILED, message=message))  # before the winner takes its place
        verdicts.resume.append(r.name)
