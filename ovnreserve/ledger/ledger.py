"""The ledger: intent and state, durable before the northbound database is touched.

SQLite in WAL mode with synchronous=FULL: one commit is one fsync, within 7 % of a bare append (facts/performance,
section 2). One thread owns the connection and writes whole batches; readers of the journal open their own connection.

The ledger counts its commits that precede a northbound transaction under its incarnation (plan/revision.py):
`attempted` is the last one's number, `vector` what it has known the database to have, `published` what the database
says it has now; while more than that is missing there, `is_complete` is false. resourceVersions are taken from
a counter whose ceiling is stored in blocks before any of a block is used, so that it only ever grows, also over a
crash; it jumps past what other daemons gave away.

That nobody else counts under this incarnation, and what happens to a ledger that was copied, damaged or deleted, is
the business of its guard (guard.py).
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from ovnreserve.ledger.guard import (
    BUSY_TIMEOUT,
    Guard,
    LedgerError,
    LedgerLost,
    Malformed,
    check,
    is_malformed,
    move_aside,
)
from ovnreserve.ledger.journal import CONFLICTS, INSERT, WAS_RELEASED, Keep, prune, read_journal
from ovnreserve.ledger.rows import (
    FACT_HELD,
    HELD,
    PUT,
    PUT_FACT,
    Quarantined,
    fact_row_of,
    facts,
    reservations,
    row_of,
)
from ovnreserve.ledger.schema import MIGRATIONS
from ovnreserve.model.history import DAEMON, Entry
from ovnreserve.model.involved import LEDGER
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Dot, Resource, is_fact

__all__ = [
    "BLOCK",
    "LEDGER",
    "Entry",
    "Ledger",
    "LedgerError",
    "LedgerLost",
    "read_journal",
]

_log = structlog.get_logger(__name__)

BLOCK: Final = 100_000
"""How many resourceVersions one stored ceiling is good for."""

_OPENING_TIMEOUT: Final = 5.0
_ANEW: Final = "a new ledger is made, and comparing with the northbound database fills it"
_SET: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_UNVOUCHED: Final = 1000
"""How many resourceVersions are given before the ledger is asked again, once it could not store a ceiling."""


class Ledger:
    """Open with `Ledger(path)`; every method from one thread only, but for `read_journal`.

    A ledger that is damaged is moved aside and made anew, one that was copied takes a new incarnation; both are logged
    and journalled. Whatever finds later that the ledger is lost raises LedgerLost.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with ExitStack() as opened:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._guard = Guard(path)
                opened.callback(self._guard.close)
                notes = self._open()
                opened.callback(self._db.close)
                notes += self._identify()
                self._guard.watch()
                self._guard.vouch(self.incarnation, self.attempted)
                self._db.execute(f"PRAGMA busy_timeout = {round(BUSY_TIMEOUT * 1000)}")
                if notes:
                    with suppress(LedgerError):  # they were logged
                        self.commit(journal=notes)
            except (OSError, sqlite3.Error) as error:
                raise LedgerError(f"{path}: cannot be opened ({error})") from None
            self._opened = opened.pop_all()

    def close(self) -> None:
        self._opened.close()

    def _open(self) -> list[Entry]:
        """Connect, and bring the file up to date, or a new one where there is none or a damaged one; what there is to
        be noted about that.
        """
        known = bool(self._guard.incarnation)
        if not self.path.exists():
            move_aside(self.path)  # what else there may be left of it, which SQLite would delete
            self._connect(known=False)
            if not known:
                return []
            _log.error("ledger_missing", path=str(self.path), hint=_ANEW)
            return [_note("LedgerMissing", f"{self.path} was gone; {_ANEW}")]
        try:
            self._connect(known=known)
        except Malformed as error:
            aside = move_aside(self.path)
            _log.error("ledger_corrupt", path=str(self.path), problem=str(error), moved_to=str(aside), hint=_ANEW)
            self._db.close()  # only now: SQLite touches no file that was renamed
            self._connect(known=False)
            return [_note("LedgerCorrupt", f"{self.path} was corrupt ({error}) and is now {aside}; {_ANEW}")]
        return []

    def _connect(self, *, known: bool) -> None:
        """Open the file, of which is `known` that it was a ledger. Raises Malformed with the connection still open."""
        db = self._db = sqlite3.connect(
            self.path, timeout=_OPENING_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            os.chmod(self.path, 0o600)  # noqa: PTH101
            if self._guard.was_lost and known:
                raise Malformed("it was found corrupt when it was in use")
            db.execute("PRAGMA locking_mode = NORMAL")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA temp_store = MEMORY")
            if known and not _schema_version(db):
                raise Malformed("it is empty")
            migrate(db, self.path)
            check(db)
            vector = json.loads(self._meta("vector", "{}"))
            self.vector = self._stored = {str(i): int(n) for i, n in vector.items()}
            self.attempted = int(self._meta("attempted", "0"))
            self.published: dict[str, int] = {}
            self.is_complete = True
            self._version = self._ceiling = int(self._meta("resource_version", "0"))
        except (ValueError, TypeError, AttributeError) as error:
            raise Malformed(f"what it says of itself cannot be read ({error})") from None
        except sqlite3.Error as error:
            # An SQL error: the tables are not ours.
            if is_malformed(error) or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR:
                raise Malformed(str(error)) from None
            db.close()
            raise
        except (OSError, LedgerError):
            db.close()
            raise

    def _identify(self) -> list[Entry]:
        """The incarnation: its own, or a new one if the ledger has none or was restored; what there is to be noted."""
        self.incarnation = before = self._meta("incarnation", "")
        self.attempted = max(self.attempted, self.vector.get(before, 0))
        why = self._guard.why_restored(before, self.attempted) if before else ""
        if before and not why:
            return []
        self._take_new_incarnation()
        if not before:
            return []
        _log.warning("ledger_restored", path=str(self.path), why=why, incarnation=self.incarnation, before=before)
        return [_note("LedgerRestored", f"{self.path} counts anew as {self.incarnation}, no longer {before}: {why}")]

    def _meta(self, key: str, default: str) -> str:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else default

    # ---- reading ---------------------------------------------------------------------------------------------------

    def load(self) -> list[Resource]:
        """Every resource: reservations by name, then owners and pools by name."""
        return [*self._reservations("ORDER BY name"), *self.load_facts()]

    def load_some(self, after: str, most: int) -> Sequence[Resource]:
        """At most so many resources behind a name, in the order of `load`: none only at the end."""
        which = "WHERE name > ? ORDER BY name LIMIT ?"
        if is_fact(after):
            return self._facts(which, after, most)
        return self._reservations(which, after, most) or self._facts(which, "", most)

    def find(self, name: str) -> Resource | None:
        """The resource of that name."""
        read = self._facts if is_fact(name) else self._reservations
        return next(iter(read("WHERE name = ?", name)), None)

    def _reservations(self, which: str, *values: str | int) -> list[Reservation]:
        with self._reading():
            try:
                return reservations(self._db, which, *values)
            except (ValueError, TypeError, AttributeError) as error:
                raise self._guard.lost(f"a resource cannot be read: {error}") from None

    def load_facts(self) -> list[Resource]:
        """Every owner and pool, by name."""
        return self._facts("ORDER BY name")

    def _facts(self, which: str, *values: str | int) -> list[Resource]:
        with self._reading():
            try:
                return facts(self._db, which, *values)
            except ValueError as error:
                raise self._guard.lost(f"a resource cannot be read: {error}") from None

    def quarantined(self) -> list[Quarantined]:
        """Released addresses, the oldest first."""
        query = "SELECT switch, address, since FROM quarantine ORDER BY since"
        with self._reading():
            return [Quarantined(*row) for row in self._db.execute(query)]

    def conflicts(self) -> list[tuple[str, float, str, str]]:
        """(uid, at, reason, message) of what was journalled of conflicts of the reservations, in that order."""
        with self._reading():
            return self._db.execute(CONFLICTS).fetchall()

    def was_released(self, uid: str) -> bool:
        """Does the journal say, or did it once, that the reservation with that uid is gone for good?"""
        with self._reading():
            return self._db.execute(WAS_RELEASED, {"uid": uid}).fetchone() is not None

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Nothing is decided on what cannot be read."""
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerLost(str(self._guard.failure(error, "read"))) from error

    def next_version(self) -> int:
        """A resourceVersion greater than any before. With a full disk it goes on all the same: a crash just then
        would repeat some.
        """
        if self._version >= self._ceiling:
            try:
                self.commit()
            except LedgerError:
                self._ceiling = self._version + _UNVOUCHED
        self._version += 1
        return self._version

    # ---- the revision ----------------------------------------------------------------------------------------------

    @property
    def next_dot(self) -> Dot:
        """The next commit that is counted."""
        return Dot(self.incarnation, self.attempted + 1)

    @property
    def revision(self) -> dict[str, int]:
        """What the database's vector is to be once the last counted commit's transaction is in it."""
        return {**(self.vector if self.is_complete else self.published), self.incarnation: self.attempted}

    @property
    def ceiling(self) -> int:
        """No resourceVersion that was given away is greater."""
        return self._ceiling

    def confirm(self) -> None:
        """The last counted commit is in the database. Stored with the next commit."""
        self.published = self.revision
        self.vector = {**self.vector, self.incarnation: self.attempted}

    def renew(self) -> None:
        """Count under a new incarnation from now on. Raises LedgerError."""
        try:
            self._take_new_incarnation()
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise self._guard.failure(error, "written") from error
        self._guard.vouch(self.incarnation, self.attempted)

    def _take_new_incarnation(self) -> None:
        incarnation = uuid.uuid4().hex[:12]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(_SET, (("incarnation", incarnation), ("attempted", "0")))
        self._db.execute("COMMIT")
        self.incarnation, self.attempted = incarnation, 0

    def learn(self, vector: Mapping[str, int]) -> None:
        """The database has this vector, and the ledger all that it covers. Stored with the next commit."""
        self.vector = dict(vector)
        self.attempted = max(self.attempted, self.vector.get(self.incarnation, 0))

    @property
    def is_behind(self) -> bool:
        """Has it learned something that is not stored yet?"""
        return bool(self.vector != self._stored)

    # ---- writing ---------------------------------------------------------------------------------------------------

    def commit(
        self,
        puts: Iterable[Resource] = (),
        drops: Iterable[str] = (),
        held: Iterable[str] = (),
        journal: Sequence[Entry] = (),
        quarantine: Iterable[Quarantined] = (),
        *,
        count: bool = False,
        vector: Mapping[str, int] | None = None,
        version: int = 0,
    ) -> None:
        """One durable transaction: `drops`, then `held` (names of what was intended), then `puts`.

        `count` it where a northbound transaction follows; `vector` is what the database is known to have had from now
        on, `version` a resourceVersion that all that come shall be greater than. Raises LedgerError, and nothing of it
        was stored; LedgerLost, and it may have been.
        """
        new_vector = self.vector if vector is None else dict(vector)
        attempted = max(self.attempted + count, new_vector.get(self.incarnation, 0))
        puts, drops, held = list(puts), list(drops), list(held)
        rows = [r for r in puts if isinstance(r, Reservation)]
        facts = [r for r in puts if not isinstance(r, Reservation)]
        version = max((version, self._version, *(r.resource_version for r in puts)))
        ceiling = self._ceiling if version + BLOCK // 2 < self._ceiling else version + BLOCK
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            try:
                db.executemany("DELETE FROM reservation WHERE name = ?", ((name,) for name in drops))
                db.executemany(HELD, ((name,) for name in held))
                db.executemany(PUT, map(row_of, rows))
                if facts or any(map(is_fact, (*drops, *held))):
                    db.executemany("DELETE FROM fact WHERE name = ?", ((name,) for name in drops))
                    db.executemany(FACT_HELD, ((name,) for name in held))
                    db.executemany(PUT_FACT, map(fact_row_of, facts))
                db.executemany(INSERT, journal)
                db.executemany("INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?)", quarantine)
                if new_vector != self._stored:
                    db.execute(_SET, ("vector", json.dumps(new_vector)))
                if attempted != self.attempted or count:
                    db.execute(_SET, ("attempted", str(attempted)))
                if ceiling != self._ceiling:
                    db.execute(_SET, ("resource_version", str(ceiling)))
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._guard.failure(error, "written") from error
        self.vector = self._stored = new_vector
        self.attempted = attempted
        self._version, self._ceiling = version, ceiling
        self._guard.vouch(self.incarnation, self.attempted)

    def prune_quarantine(self, before: float, now: float = math.inf) -> None:
        """Forget what was released by then; what was released after `now`, as there is once the clock was set back,
        was now. What cannot be forgotten this time is the next time.
        """
        try:
            self._db.execute("UPDATE quarantine SET since = ? WHERE since > ?", (now, now))
            self._db.execute("DELETE FROM quarantine WHERE since <= ?", (before,))
        except sqlite3.Error as error:
            failure = self._guard.failure(error, "written")
            if isinstance(failure, LedgerLost):
                raise failure from error

    def prune_journal(self, keep: Keep, now: float, after: int) -> tuple[int | None, int]:
        """Prune a piece of the journal: what follows the entry of that number. Where the next piece begins, None at
        the end, and how many entries went. Raises LedgerError, and nothing was pruned; LedgerLost.
        """
        try:
            return prune(self._db, keep, now, after)
        except sqlite3.Error as error:
            raise self._guard.failure(error, "written") from error


def _note(reason: str, message: str) -> Entry:
    return Entry(time.time(), "Warning", reason, LEDGER, "", message, DAEMON)


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring a ledger's tables to this version. Raises LedgerError if they are of a later one."""
    applied = _schema_version(db)
    if applied > len(MIGRATIONS):
        raise LedgerError(f"{path}: is of version {applied}, this program knows {len(MIGRATIONS)}; install a later one")
    for number, script in enumerate(MIGRATIONS[applied:], applied + 1):
        db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")


def _schema_version(db: sqlite3.Connection) -> int:
    [(version,)] = db.execute("PRAGMA user_version")
    return int(version)
