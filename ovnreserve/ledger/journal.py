"""The journal: what was decided, when, for whom and why; and how long that is kept.

Entries that are older than `Keep.seconds`, or not among the last `Keep.entries` that were written, are pruned, but:

- never one of what lives (its name and uid are in a table of RESOURCES);
- of what is gone none before its end may be pruned too, so that no tenure (model/history.py) loses its beginning.

So the journal may have more than it is to keep, by what lives and by the beginnings of what ended lately.

**What was released stays released.** When a copy of the northbound database turns up again, `was_released` tells by
the uid that a record in it is of something that is gone. Nobody knows how old a copy may be that somebody restores. So
when an entry of GONE is pruned its uid goes to the table `released`, for ever.

Pruning is done in pieces, each a transaction of its own, by the one who writes; SQLite uses the pages
again that become free, so that the file stops growing, but does not shrink.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from ovnreserve.ledger.guard import LedgerError
from ovnreserve.model.history import ENDINGS, GONE, MEANING, Entry

RESOURCES: Final = ("reservation", "fact")
"""The tables, each with `name` and `uid`, of what lives."""

PIECE: Final = 500
MOST: Final = 50
"""How many of a piece are pruned at once: each is in several pages of several indexes, and all of these are written."""
LIMIT: Final = 500
"""How many entries are read at once, unless more are asked for."""

_COLUMNS: Final = ", ".join(Entry._fields)
INSERT: Final = f"INSERT INTO journal ({_COLUMNS}) VALUES ({', '.join('?' * len(Entry._fields))})"  # noqa: S608

_ENDED: Final = f"reason IN ({', '.join(map(repr, ENDINGS))})"
"""As the index `journal_ended` has it, word for word, or SQLite would not use that."""
WAS_RELEASED: Final = (
    f"SELECT 1 FROM journal WHERE uid = :uid AND {_ENDED} AND reason IN {GONE} "  # noqa: S608
    "UNION ALL SELECT 1 FROM released WHERE uid = :uid"
)
CONFLICTS: Final = (
    "SELECT uid, at, reason, message FROM journal AS j WHERE reason IN ('Conflicted', 'ConflictResolved') "
    "AND EXISTS (SELECT 1 FROM reservation AS r WHERE r.name = j.name AND r.uid = j.uid) ORDER BY name, id"
)
"""Of the reservations that there are, as the index `journal_conflicts` has them."""
_NEXT: Final = "SELECT max(id), min(id), min(at) FROM (SELECT id, at FROM journal WHERE id > ? ORDER BY id LIMIT ?)"
_LIVES: Final = " OR ".join(
    f"EXISTS (SELECT 1 FROM {table} AS r WHERE r.name = j.name AND r.uid = j.uid)"  # noqa: S608
    for table in RESOURCES
)
_OUTDATED: Final = (
    "SELECT id, uid, reason FROM journal AS j WHERE id > :after AND id <= :upto AND (at < :before OR id <= :floor) "  # noqa: S608
    "AND (uid = '' OR NOT EXISTS (SELECT 1 FROM journal AS e WHERE e.uid = j.uid "
    f"AND e.{_ENDED} AND e.at >= :before AND e.id > :floor) AND NOT ({_LIVES})) ORDER BY id LIMIT :most"
)


class Keep(NamedTuple):
    """How long entries are kept: for how many seconds, and how many of the last."""

    seconds: float = math.inf
    entries: float = math.inf

    @property
    def is_all(self) -> bool:
        return self == Keep()


_AGE: Final = re.compile(r"(\d+)([dhms])").fullmatch
_UNITS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def parse_keep(text: str) -> Keep:
    """`90d` (d, h, m or s), `100000` entries, both with a comma between them, or `all`. Raises ValueError."""
    if text == "all":
        return Keep()
    keep = Keep()
    for word in text.split(","):
        age = _AGE(word)
        field, value = ("seconds", float(age[1]) * _UNITS[age[2]]) if age else ("entries", _count(word))
        if getattr(keep, field) != math.inf:
            raise ValueError(f"{text!r} says twice how long")
        keep = keep._replace(**{field: value})
    return keep


def _count(word: str) -> float:
    if not word.isascii() or not word.isdecimal():
        raise ValueError(f"{word!r} is no age such as 90d, no number such as 100000, and not all")
    return float(word)


DEFAULT_KEEP: Final = "90d,1000000"
"""A quarter of a year is what is asked back after an incident or by an audit. A million entries are some 250,000
reservations that came and went.
"""


def prune(db: sqlite3.Connection, keep: Keep, now: float, after: int) -> tuple[int | None, int]:
    """Prune a piece, of the entries that come after the one of that number; return where the next begins, None at the
    end, and how many were pruned. Raises what SQLite raises.
    """
    last, first, oldest = db.execute(_NEXT, (after, PIECE)).fetchone()
    before = now - keep.seconds
    [(newest,)] = db.execute("SELECT max(id) FROM journal")
    floor = newest - keep.entries if newest is not None else 0
    if last is None or (oldest >= before and first > floor):
        return None, 0
    where = {"after": after, "upto": last, "before": before, "floor": floor, "most": MOST}
    outdated = db.execute(_OUTDATED, where).fetchall()
    if outdated:
        db.execute("BEGIN IMMEDIATE")
        try:
            released = ((uid,) for _, uid, reason in outdated if reason in GONE)
            db.executemany("INSERT OR IGNORE INTO released VALUES (?)", released)
            db.executemany("DELETE FROM journal WHERE id = ?", ((number,) for number, _, _ in outdated))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    return (outdated[-1][0] if len(outdated) == MOST else last), len(outdated)


def select(equal: Mapping[str, Sequence[str]], limit: int, *, tenures: bool = False) -> tuple[str, list[str | int]]:
    """The query of `search`, and its values."""
    wanted = {column: tuple(values) for column, values in equal.items()}
    if tenures:
        wanted["reason"] = tuple(MEANING)
    terms = [f"{column} IN ({', '.join('?' * len(values))})" for column, values in wanted.items()]
    # The indexes of these are over values that are not '', which is to be said for them to be used.
    terms += [f"{column} <> ''" for column in ("v4", "v6", "mac") if column in wanted]
    where = f"WHERE {' AND '.join(terms)}" if terms else ""
    query = f"SELECT id, {_COLUMNS} FROM journal {where} ORDER BY id DESC LIMIT ?"  # noqa: S608
    return query, [*(value for some in wanted.values() for value in some), limit]


def search(
    path: Path, equal: Mapping[str, Sequence[str]], limit: int = LIMIT, *, tenures: bool = False
) -> list[tuple[int, Entry]]:
    """The last entries, oldest first, each with its number, whose columns have one of the values given; of `tenures`
    only what they are told from. Any thread, while the daemon writes. Raises LedgerError.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            found = db.execute(*select(equal, limit, tenures=tenures))
            return [(number, Entry(*row)) for number, *row in found][::-1]
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: cannot be read ({error})") from None


def read_journal(path: Path, name: str | None = None, limit: int = LIMIT) -> list[Entry]:
    """The last entries, oldest first, under one name or of all. As `search`."""
    equal = {} if name is None else {"name": (name,)}
    return [entry for _number, entry in search(path, equal, limit)]
