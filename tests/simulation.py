"""A simulation of daemons that die, fail over, are restored, and of a database that is, over the pure comparison.

Each schedule is a random sequence of what may happen to some ledgers and one database. What the simulation does itself
is only what stores do: keep what was committed, refuse a transaction whose guard on the vector fails, and forget. What
to do after each accident is decided by the product's `standing` and `reconcile`. It keeps account of what clients were
told, so that it can say at the end what of it is not true.

The guard is that on the ledger row, which every transaction has (northbound/transactions.py).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from random import Random

from builders import reservation

from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Dot, State
from ovnreserve.plan.reconcile import reconcile
from ovnreserve.plan.revision import Relation, Standing, covers, standing

NAMES = ("a", "b", "c")
ADDRESSES = range(10, 16)
Compare = Callable[[Mapping[str, int], Mapping[str, int], str, int], Standing]


class Killed(Exception):  # noqa: N818 - nobody's fault
    """The daemon ends here."""


class Database:
    def __init__(self) -> None:
        self.records: dict[str, Reservation] = {}
        self.vector: dict[str, int] = {}


class Ledger:
    def __init__(self, incarnation: str) -> None:
        self.rows: dict[str, Reservation] = {}
        self.released: set[str] = set()
        self.vector: dict[str, int] = {}
        self.incarnation = incarnation
        self.attempted = 0
        self.is_complete = True
        self.seen: dict[str, int] | None = None
        """The database's vector as this daemon knows it: it has compared since; None if it has yet to."""


class Late:
    """A transaction whose client has given up: the database may get to see it later."""

    def __init__(self, guard: dict[str, int], vector: dict[str, int], change: Callable[[Database], None]) -> None:
        self.guard, self.vector, self.change = guard, vector, change


class Simulation:
    """`run` a schedule, then ask `lost()` and `undead()`. With `restores`, stores are also put back and destroyed."""

    def __init__(self, seed: int, *, restores: bool, compare: Compare = standing) -> None:
        self.random = Random(seed)
        self.restores = restores
        self.compare = compare
        self._numbers = itertools.count(1)
        self.database = Database()
        self.ledgers = [self._new_ledger() for _ in range(self.random.choice([1, 2, 2, 3]))]
        self.late: list[Late] = []
        self.backups: list[Database] = []
        self.ledger_backups: list[Ledger] = []
        self.told: dict[str, Reservation] = {}
        """Reservations whose clients were told that they are created, by uid."""
        self.asked_to_go: set[str] = set()
        self.gone: set[str] = set()
        """Uids whose release was asked for, and those of which it was acknowledged."""
        self.destroyed: set[str] = set()
        """Uids that no store had any more after somebody destroyed one: nobody could know of them."""
        self.unsettled: set[str] = set()
        """Acknowledged by a daemon that was killed before it wrote that down."""
        self.abandoned: dict[str, dict[str, int]] = {}
        """By the uid of a reservation that was never sent, since its daemon was killed: the database's vector then."""
        self.superseded: set[str] = set()
        """Those of them to which others got ahead: nobody may make them any more."""
        self.displaced: set[str] = set()
        """Uids of the one of two that were given one name on both sides of a fork: the journal says so."""
        self.deaths = 0

    def _new_ledger(self) -> Ledger:
        return Ledger(f"i{next(self._numbers)}")

    # ---- schedules ---------------------------------------------------------------------------------------------------

    def run(self, length: int) -> None:
        accidents: list[Callable[[], None]] = [self._arrive_late]
        if self.restores:
            accidents += [
                self._backup, self._restore_database, self._wipe, self._backup_ledger, self._restore_ledger,
                self._lose_ledger,
            ]  # fmt: skip
        for _ in range(length):
            if self.random.random() < 0.15:
                self.random.choice(accidents)()
            else:
                self._turn(self.random.choice(self.ledgers))
        for _ in range(3):  # in the end each daemon has its turn without an accident, so that all is driven to its end
            for ledger in self.ledgers:
                ledger.seen = None
                self._agree(ledger, 0.0)
                self._drive_releases(ledger)

    def _turn(self, ledger: Ledger) -> None:
        """One daemon does something, if it may: another one may have worked since it looked."""
        try:
            if ledger.seen != self.database.vector:
                self._agree(ledger, 0.1)
            else:
                self._work(ledger)
        except Killed:
            self.deaths += 1
            ledger.seen = None

    # ---- what a daemon does ------------------------------------------------------------------------------------------

    def _agree(self, ledger: Ledger, danger: float) -> None:
        """Compare, write down what it comes to, and carry out what is left to do in the database."""
        known = self.compare(self.database.vector, ledger.vector, ledger.incarnation, ledger.attempted)
        found = reconcile(
            list(ledger.rows.values()), self.database.records, known, ledger.released.__contains__
        )
        for r in ledger.rows.values():
            if r.state is State.INTENDED and self.abandoned.get(r.uid, self.database.vector) != self.database.vector:
                self.superseded.add(r.uid)
        if known.relation is Relation.INCOMPARABLE:
            twins = [r for r in found.remove if r.name in ledger.rows]
            there = self.database.records
            twins += [r for r in found.drops if r.name in there and not covers(known.database, r.written)]
            self.displaced.update(r.uid for r in twins)
        for drop in found.drops:
            ledger.rows.pop(drop.name, None)
            if drop.state is State.RELEASING and drop.name not in found.superseded:
                ledger.released.add(drop.uid)
        for put in found.puts:
            ledger.rows[put.name] = put
        ledger.vector = known.merged
        ledger.attempted = max(ledger.attempted, ledger.vector.get(ledger.incarnation, 0))
        ledger.seen = dict(self.database.vector)
        lacking = known.relation in (Relation.SMALLER, Relation.INCOMPARABLE)
        ledger.is_complete = not (lacking and any((found.resume, found.release, found.remove)))
        if not ledger.is_complete and known.database.get(ledger.incarnation, 0) < ledger.attempted:
            ledger.incarnation, ledger.attempted = f"i{next(self._numbers)}", 0
        for name in found.resume:
            r = ledger.rows[name]
            if r.state is State.INTENDED:
                r = ledger.rows[name] = r.with_(state=State.FAILED if self._is_taken(ledger, r) else State.HELD)
            self._commit(ledger, {name: r}, danger)
        for name in found.release:
            self._commit(ledger, {name: ledger.rows[name]}, danger)
        for r in found.remove:
            if self.database.records.get(r.name) == r:
                self._commit(ledger, {r.name: None}, danger)
        ledger.is_complete = True
        if ledger.vector != self.database.vector and ledger.seen == self.database.vector:
            self._commit(ledger, {}, danger)

    def _work(self, ledger: Ledger) -> None:
        name = self.random.choice(NAMES)
        r = ledger.rows.get(name)
        stamp = Dot(ledger.incarnation, ledger.attempted + 1)
        if r is None:
            address = self.random.choice(ADDRESSES)
            new = reservation(
                "switch", name, uid=f"u{next(self._numbers)}", v4=f"10.0.0.{address}",
                mac=f"02:6f:76:00:00:{address:02x}", state=State.INTENDED, created=next(self._numbers), written=stamp,
            )  # fmt: skip
            if not self._is_taken(ledger, new):
                self._create(ledger, new)
        elif r.state is State.FAILED:
            self.asked_to_go.add(r.uid)
            self._finish(ledger, r)
        elif r.state is State.HELD and self.random.random() < 0.4:
            changed = r.with_(labels={"n": str(next(self._numbers))}, written=stamp)
            ledger.rows[name] = changed
            if not self._commit(ledger, {name: changed}, 0.2):
                ledger.rows[name] = r
        elif r.state is State.HELD:
            releasing = r.with_(state=State.RELEASING, deleted=1, written=stamp)
            ledger.rows[name] = releasing
            self.asked_to_go.add(r.uid)
            if not self._commit(ledger, {name: releasing}, 0.2):
                ledger.rows[name] = r
            else:
                self.gone.add(r.uid)
        elif r.state is State.RELEASING and name in self.database.records:
            self._finish(ledger, r)

    def _create(self, ledger: Ledger, new: Reservation) -> None:
        held = new.with_(state=State.HELD)
        ledger.rows[new.name] = new
        if not self._commit(ledger, {new.name: held}, 0.2):
            del ledger.rows[new.name]
            return
        self.told[new.uid] = held
        if self.random.random() < 0.1:  # killed between the answer and writing down that it was given
            self.unsettled.add(new.uid)
            ledger.vector = {**ledger.vector, ledger.incarnation: ledger.attempted - 1}
            raise Killed
        ledger.rows[new.name] = held

    def _finish(self, ledger: Ledger, r: Reservation, danger: float = 0.2) -> None:
        if self._commit(ledger, {r.name: None}, danger):
            del ledger.rows[r.name]
            ledger.released.add(r.uid)

    def _drive_releases(self, ledger: Ledger) -> None:
        for r in list(ledger.rows.values()):
            if r.state is State.RELEASING and r.name in self.database.records and ledger.seen == self.database.vector:
                self._finish(ledger, r, 0.0)

    def _is_taken(self, ledger: Ledger, r: Reservation) -> bool:
        others = [*ledger.rows.values(), *self.database.records.values()]
        return any(other.uid != r.uid and other.live and other.v4 == r.v4 for other in others)

    def _commit(self, ledger: Ledger, changes: dict[str, Reservation | None], danger: float) -> bool:
        """Count it in the ledger, then change the database: True once that is known, False if the guard has failed.

        Killed at any moment: before the database had it, after, or while it is under way and may be had later.
        """
        ledger.attempted += 1
        published = ledger.vector if ledger.is_complete else ledger.seen or {}
        vector = {**published, ledger.incarnation: ledger.attempted}

        def change(database: Database) -> None:
            for name, r in changes.items():
                if r is None:
                    database.records.pop(name, None)
                else:
                    database.records[name] = r

        fate = self.random.random()
        if fate < danger / 3:
            self.abandoned.update((r.uid, dict(ledger.seen or {})) for r in changes.values() if r is not None)
            raise Killed
        transaction = Late(dict(ledger.seen or {}), vector, change)
        if fate < danger * 2 / 3:
            self.late.append(transaction)
            raise Killed
        if not self._carry_out(transaction):
            ledger.seen = None
            return False
        if fate < danger:
            raise Killed
        ledger.vector = {**ledger.vector, ledger.incarnation: ledger.attempted}
        ledger.seen = dict(vector)
        return True

    def _carry_out(self, transaction: Late) -> bool:
        if transaction.guard != self.database.vector:
            return False
        transaction.change(self.database)
        self.database.vector = dict(transaction.vector)
        return True

    # ---- accidents ---------------------------------------------------------------------------------------------------

    def _arrive_late(self) -> None:
        if self.late:
            self._carry_out(self.late.pop(self.random.randrange(len(self.late))))

    def _backup(self) -> None:
        self.backups.append(copy.deepcopy(self.database))

    def _restore_database(self) -> None:
        if self.backups:
            self._replace_database(copy.deepcopy(self.random.choice(self.backups)))

    def _wipe(self) -> None:
        self._replace_database(Database())

    def _replace_database(self, database: Database) -> None:
        before = self._kept()
        self.database = database
        self.late.clear()
        for ledger in self.ledgers:
            ledger.seen = None  # they have lost the connection
        self._account(before)
        self.destroyed |= self.unsettled & before

    def _backup_ledger(self) -> None:
        self.ledger_backups.append(copy.deepcopy(self.random.choice(self.ledgers)))

    def _restore_ledger(self) -> None:
        """By hand, over whichever ledger: it takes a new incarnation when it is opened."""
        if not self.ledger_backups:
            return
        restored = copy.deepcopy(self.random.choice(self.ledger_backups))
        restored.incarnation, restored.attempted, restored.seen = f"i{next(self._numbers)}", 0, None
        self._replace_ledger(restored)

    def _lose_ledger(self) -> None:
        self._replace_ledger(self._new_ledger())

    def _replace_ledger(self, ledger: Ledger) -> None:
        before = self._kept()
        self.ledgers[self.random.randrange(len(self.ledgers))] = ledger
        self._account(before)

    # ---- the account -------------------------------------------------------------------------------------------------

    def _kept(self) -> set[str]:
        """The uids that some store has."""
        stores = [self.database.records, *(ledger.rows for ledger in self.ledgers)]
        return {r.uid for rows in stores for r in rows.values()}

    def _account(self, before: set[str]) -> None:
        self.destroyed |= before - self._kept()

    def lost(self) -> list[str]:
        """Uids that were acknowledged and not asked to go, and that are nowhere, though no accident took them.

        Of two that were given one address on both sides of a fork, one is Failed, and is there; of two that were given
        one name, one has to go.
        """
        there = {r.uid for r in self.database.records.values() if r.state in (State.HELD, State.FAILED)}
        return [uid for uid in self.told if uid not in there | self.asked_to_go | self.destroyed | self.displaced]

    def doubled(self) -> list[str]:
        """Names that hold an address which another one holds too."""
        held = [r for r in self.database.records.values() if r.live]
        return [r.name for r in held if sum(other.v4 == r.v4 for other in held) > 1]

    def undead(self) -> list[str]:
        """Uids that are there though their release was acknowledged."""
        return [r.uid for r in self.database.records.values() if r.uid in self.gone]

    def driven(self) -> list[str]:
        """Uids that are there, though they were only an intent and others had worked since."""
        return [r.uid for r in self.database.records.values() if r.uid in self.superseded - self.told.keys()]

    def disagreeing(self) -> list[str]:
        """Incarnations of ledgers that do not say what the database says."""
        return [
            ledger.incarnation
            for ledger in self.ledgers
            if ledger.rows != self.database.records
        ]
