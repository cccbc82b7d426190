"""The guard: the ledger is used by one program, is whole, and is the one that was used last.

A file beside the ledger, `ledger.db.lock`, is locked (flock(2)) for as long as the ledger is open, and holds one line
of JSON: who has it open (pid), the ledger's incarnation, how many commits of its own that has counted, the lock file's
own inode, and when this was written. It is written after each commit, without fsync.

**Restored by hand.** A ledger that was put back from a copy would count the same numbers under the same incarnation
once more, and nobody could tell the two apart (plan/revision.py). It must count under a new incarnation. So one is
taken whenever it is in doubt that the ledger is the one that was last open:

- the line names another incarnation, or more commits than the ledger has: the ledger alone was put back;
- there is no line that can be read: the ledger came without it;
- the inode is another than the one named, or changed (ctime) at another time than the one named: the lock file was
  copied too, with whatever is beside it. A copy over the file in place keeps the inode, and so may a new file just
  after the old one was deleted; but no program can set the time of the change.

Why that is safe: the line is never ahead of the ledger, for it is written after the ledger's commit is on the disk;
so a ledger that nobody touched is never behind it. And to take a new incarnation for nothing, as after a power failure
that tore the line, loses nothing: the vector keeps the counts under the old one. Not covered is what puts the whole
file system back below us, a snapshot of the machine or of the volume: both files are then as they were, to the inode
and the time.

**Corrupt.** What SQLite finds malformed on opening (PRAGMA integrity_check: 0.18 s with 60k reservations and 180k lines
of journal) or later is moved aside, never deleted, and the ledger is made anew: comparing with the northbound database
fills it. What is found later ends the daemon, which is not to answer from it; the line then says so for the next start.
SQLite keeps no checksums: a value that was changed into another valid one is found only where an index has it too.

**Deleted or replaced while it is open.** SQLite would go on writing into a file that nobody will find again. So after
each commit the three names are looked up: they have to lead to the files that were opened. (With writing the line that
is 10 us, of 190 for a commit with an fsync of 150.)
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

BUSY_TIMEOUT: Final = 0.1
"""Seconds that a commit waits for another program to let go of the ledger; the engine does nothing else meanwhile."""

_WIDTH: Final = 256
"""Bytes of the line, so that each one covers the one before."""
_CLOCK_SKEW: Final = 100_000_000
"""Nanoseconds that the change of the lock file may differ from the time it names: the kernel's own clock for it goes in
steps of up to 10 ms, and where a thread had to wait between asking for the time and writing, it writes again.
"""
_ATTEMPTS: Final = 3
_MALFORMED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_UNREADABLE: Final = frozenset(
    {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}
)
_NOT_DURABLE: Final = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})
_WAL_WRITE_LOCK: Final = 120
"""The byte of `ledger.db-shm` that who writes has locked (SQLite, walformat.html, section 2.3.1)."""


class LedgerError(Exception):
    """The ledger cannot be used, or cannot be written now. The message says what to do."""


class LedgerLost(Exception):  # noqa: N818 - it says what is the case
    """The ledger that was opened is not to be believed any more. Who has it open must answer nothing and end; opening
    it again puts it right. No LedgerError: nobody shall go on after it.
    """


class Malformed(Exception):  # noqa: N818 - it says what is the case
    """The file is no ledger. The message says what was found."""


class Line(NamedTuple):
    """What the lock file says; `changed` in nanoseconds since the epoch, `lost` if the ledger was found corrupt."""

    pid: int
    incarnation: str
    commits: int
    inode: int
    changed: int
    lost: bool


class Guard:
    """Holds the lock of the ledger at `path` until it is closed. Raises LedgerError if another has it.

    `doubt` says why the lock file cannot be believed, "" if it can.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_path = path.with_name(f"{path.name}.lock")
        self._lock = _locked(self._lock_path)
        found = os.fstat(self._lock)
        self._inode = found.st_ino
        line = _line(os.pread(self._lock, _WIDTH, 0))
        self.doubt = _doubt(line, found)
        self.incarnation = line.incarnation if line is not None else ""
        self.commits = line.commits if line is not None else 0
        self.was_lost = line is not None and line.lost
        self._files: dict[str, int] = {}
        # From now on it names us; what could not be believed is not said again.
        self._write("" if self.doubt else self.incarnation, self.commits, lost=self.was_lost)

    def close(self) -> None:
        os.close(self._lock)

    def why_restored(self, incarnation: str, commits: int) -> str:
        """Why the ledger that was found here with that incarnation and count has to take a new incarnation, or ""."""
        if self.doubt:
            return self.doubt
        if incarnation != self.incarnation:
            return "it is not the ledger that was last open here"
        if commits < self.commits:
            return f"it has counted {commits} commits, and had counted {self.commits} when it was last open here"
        return ""

    def watch(self) -> None:
        """From now on the files have to stay those that they are now. Raises OSError if one is missing."""
        paths = (self._path, f"{self._path}-wal", self._lock_path)
        self._files = {str(path): os.stat(path).st_ino for path in paths}  # noqa: PTH116

    def vouch(self, incarnation: str, commits: int) -> None:
        """Call it after each commit, with the count of its own. Raises LedgerLost if that went into a file that nobody
        will find again.
        """
        for path, inode in self._files.items():
            try:
                same = os.stat(path).st_ino == inode  # noqa: PTH116
            except OSError:
                same = False
            if not same:
                raise LedgerLost(f"{path}: was deleted or replaced while it was in use")
        self._write(incarnation, commits)

    def lost(self, problem: str) -> LedgerLost:
        """The ledger was found corrupt; it is moved aside when it is opened the next time."""
        self._write(self.incarnation, self.commits, lost=True)
        return LedgerLost(f"{self._path}: is corrupt ({problem})")

    def failure(self, error: sqlite3.Error, doing: str) -> LedgerError | LedgerLost:
        """What an error of SQLite means, `doing` being what could not be done."""
        if is_malformed(error):
            return self.lost(str(error))
        if getattr(error, "sqlite_errorcode", 0) in _NOT_DURABLE:
            # The disk may have it or not, and to ask once more says nothing: what failed is not tried again.
            return LedgerLost(f"{self._path}: the disk does not confirm what was written ({error})")
        busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
        what = f"locked by {_writer(f'{self._path}-shm')}" if busy else str(error)
        return LedgerError(f"{self._path}: cannot be {doing} ({what})")

    def _write(self, incarnation: str, commits: int, *, lost: bool = False) -> None:
        """A line that cannot be written stays behind the ledger, which does no harm."""
        self.incarnation, self.commits = incarnation, commits
        for _ in range(_ATTEMPTS):
            now = time.time_ns()
            line = (
                f'{{"pid": {os.getpid()}, "incarnation": "{incarnation}", "commits": {commits}, '
                f'"inode": {self._inode}, "changed": {now}, "lost": {"true" if lost else "false"}}}'
            )
            with contextlib.suppress(OSError):
                os.pwrite(self._lock, f"{line:<{_WIDTH - 1}}\n".encode(), 0)
            if time.time_ns() - now < _CLOCK_SKEW // 2:
                return


def is_malformed(error: sqlite3.Error) -> bool:
    """Does it mean that the file is damaged? A full disk, a lock or a missing permission does not."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _MALFORMED or code in _UNREADABLE


def check(db: sqlite3.Connection) -> None:
    """Raises Malformed, or what SQLite raises, if the database is damaged."""
    [(found,)] = db.execute("PRAGMA integrity_check(1)").fetchall()
    if found != "ok":
        raise Malformed(" ".join(found.split()))


def move_aside(path: Path) -> Path:
    """Rename what there is of the ledger; the new name of its main file. Nothing is overwritten."""
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    names = [f"{path.name}.corrupt-{stamp}{again}" for again in ("", *(f".{n}" for n in range(2, 100)))]
    taken = {found.name for found in path.parent.glob(f"{path.name}.corrupt-*")}
    aside = path.with_name(next(name for name in names if name not in taken and f"{name}-wal" not in taken))
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")  # noqa: PTH104
    return aside


def _locked(path: Path) -> int:
    """The file descriptor that keeps the lock. Raises LedgerError if another has it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        line = _line(os.pread(lock, _WIDTH, 0))
        os.close(lock)
        holder = f"ovnreserved, pid {line.pid}," if line is not None else "another ovnreserved"
        raise LedgerError(f"{path}: {holder} uses this ledger; give each its own --state-dir") from None
    return lock


def _line(text: bytes) -> Line | None:
    """None for what is no such line."""
    try:
        found: dict[str, Any] = json.loads(text)
        line = Line(**found)
    except (ValueError, TypeError, RecursionError):
        return None
    types = (int, str, int, int, int, bool)
    return line if all(type(value) is wanted for value, wanted in zip(line, types, strict=True)) else None


def _doubt(line: Line | None, found: os.stat_result) -> str:
    if line is None:
        return "its lock file does not say whose it is"
    if line.inode != found.st_ino:
        return "its lock file was copied"
    if abs(found.st_ctime_ns - line.changed) > _CLOCK_SKEW:
        return "its lock file was changed when it was not in use, as by copying over it"
    return "" if line.incarnation else "its lock file does not say whose it is"


def _writer(path: str) -> str:
    """Who writes to the ledger whose `-shm` this is, by /proc/locks. (To ask the file itself would be to open it, and
    closing it again would drop our own locks, fcntl(2).)
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        inode = os.stat(path).st_ino  # noqa: PTH116
        for entry in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            # 1: POSIX  ADVISORY  WRITE 1234 08:01:5678 120 120
            words = entry.split()
            if words[1] != "POSIX" or words[3] != "WRITE" or int(words[5].rpartition(":")[2]) != inode:
                continue
            last = int(words[7]) if words[7] != "EOF" else _WAL_WRITE_LOCK
            if int(words[6]) <= _WAL_WRITE_LOCK <= last and int(words[4]) > 0:
                name = Path(f"/proc/{words[4]}/comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"{name}, pid {words[4]}"
    return "another program"
