"""Backups: a copy of the ledger, taken while it is being written, and what is read out of one again.

`VACUUM INTO` reads one snapshot of the WAL and keeps no writer waiting; what it makes is one file without a WAL, which
can be read wherever it lies. The daemon hands it on as an open file without a name, so that nothing is left of it
however the transfer ends.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final

from ovnreserve.ledger.guard import LedgerError, Malformed, check
from ovnreserve.ledger.ledger import migrate
from ovnreserve.ledger.rows import facts, reservations
from ovnreserve.model.resource import Resource

_MAGIC: Final = b"SQLite format 3\0"


def copy_ledger(path: Path) -> BinaryIO:
    """A copy of the ledger at `path` as it is now, open for reading. Any thread, but one at a time: it has a name,
    beside the ledger, while it is made. Raises LedgerError.
    """
    copy = path.with_name(f"{path.name}.copy")
    try:
        copy.unlink(missing_ok=True)  # of a daemon that was killed while it made one
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            with closing(_open(path)) as db:
                db.execute("VACUUM INTO ?", (str(copy),))
            return copy.open("rb")
        finally:
            copy.unlink()
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(f"{path}: cannot be copied ({error})") from None


def read_backup(path: Path) -> list[Resource]:
    """Every resource of a backup or a ledger of this version or an earlier one: owners and pools by name, then the
    reservations, which may depend on them, by name. It stays as it is.

    It is looked at as a whole first: a page that was garbled may look like fewer reservations. Raises LedgerError.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise LedgerError(f"{path}: is no ledger")
        with closing(_open(path)) as there, closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
            there.backup(db)
            return _read(db, path)
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror}") from None
    except (sqlite3.Error, Malformed, ValueError, TypeError, AttributeError) as error:
        raise LedgerError(f"{path}: is damaged ({error})") from None


def _read(db: sqlite3.Connection, path: Path) -> list[Resource]:
    check(db)
    if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'reservation'").fetchone() is None:
        raise LedgerError(f"{path}: is no ledger")
    migrate(db, path)
    return [*facts(db), *reservations(db)]


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
