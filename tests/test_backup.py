"""Backups on real SQLite: a copy has what was committed, and what is no whole ledger of ours is never taken for one."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import reservation

from ovnreserve.ledger.backup import copy_ledger, read_backup
from ovnreserve.ledger.ledger import Entry, Ledger, LedgerError
from ovnreserve.ledger.schema import MIGRATIONS
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State

SWITCH = "switch"
A = reservation(
    SWITCH, "a", v4="10.0.0.1", v6="fd00::1", mac="02:6f:76:00:00:01", labels={"team": "red"}, attach_ips=("10.9.0.1",)
)
B = reservation(SWITCH, "b", v4="10.0.0.2", mac="02:6f:76:00:00:02", state=State.INTENDED)
C = reservation(SWITCH, "c", v4="10.0.0.1", mac="02:6f:76:00:00:01", state=State.FAILED, message="taken")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger(path)
    yield opened
    opened.close()


def saved(path: Path, target: Path) -> Path:
    with copy_ledger(path) as copy, target.open("wb") as out:
        shutil.copyfileobj(copy, out)
    return target


def many(count: int) -> list[Reservation]:
    return [
        reservation(SWITCH, f"pod-{i}", v4=(10 << 24) + i, mac=f"02:6f:76:00:{i >> 8:02x}:{i & 255:02x}")
        for i in range(count)
    ]


def test_a_copy_has_all_that_was_committed_while_the_ledger_is_open(ledger: Ledger, path: Path, tmp_path: Path):
    ledger.commit([A, B, C], journal=[Entry(1.0, "Normal", "Reserved", "a", A.uid, "")])
    backup = saved(path, tmp_path / "backup")
    ledger.commit([], ["a"])
    assert read_backup(backup) == [A, B, C]
    assert ledger.load() == [B, C]


def test_a_ledger_may_be_written_while_it_is_copied_and_neither_waits(ledger: Ledger, path: Path, tmp_path: Path):
    reservations = many(2000)
    ledger.commit(reservations)
    with copy_ledger(path) as copy:
        ledger.commit([], [r.name for r in reservations])
        (tmp_path / "backup").write_bytes(copy.read())
    assert len(read_backup(tmp_path / "backup")) == len(reservations)


def test_nothing_is_left_beside_the_ledger_nor_of_a_copy_that_was_broken_off(ledger: Ledger, path: Path):
    ledger.commit([A])
    path.with_name("ledger.db.copy").write_text("half of one")
    files = {file.name for file in path.parent.iterdir()}
    with copy_ledger(path) as copy:
        found = os.fstat(copy.fileno())
        assert {file.name for file in path.parent.iterdir()} == files - {"ledger.db.copy"}
    assert stat.S_IMODE(found.st_mode) == 0o600


def test_a_ledger_that_cannot_be_copied_is_told(tmp_path: Path):
    with pytest.raises(LedgerError, match=r"ledger\.db: cannot be copied \(unable to open database file\)"):
        copy_ledger(tmp_path / "ledger.db")
    assert list(tmp_path.iterdir()) == []


def test_a_backup_may_take_the_place_of_the_ledger(ledger: Ledger, path: Path, tmp_path: Path):
    ledger.commit([A, B], count=True)
    another = Ledger(saved(path, tmp_path / "another.db"))
    try:
        assert another.load() == [A, B]
        assert another.next_version() > ledger.next_version()
    finally:
        another.close()


def test_reading_leaves_a_backup_as_it_is(ledger: Ledger, path: Path, tmp_path: Path):
    ledger.commit([A])
    (tmp_path / "kept").mkdir()
    backup = saved(path, tmp_path / "kept" / "backup")
    content = backup.read_bytes()
    read_backup(backup)
    assert backup.read_bytes() == content
    assert list(backup.parent.iterdir()) == [backup]


def test_a_backup_of_the_first_version_is_read(tmp_path: Path):
    backup = tmp_path / "backup"
    change(backup, f"{MIGRATIONS[0]}; PRAGMA user_version = 1")
    change(
        backup,
        "INSERT INTO reservation VALUES ('a', 'uid-of-a', 'switch', 'net', 'a', 'default', '', 167772161, 'fd00::1', "
        "'02:6f:76:00:00:01', 'held', 1, NULL, 5, '', '{\"labels\": {\"team\": \"red\"}}', 1)",
    )
    [r] = read_backup(backup)
    assert (r.name, r.addresses, r.labels) == ("a", ("10.0.0.1", "fd00::1"), {"team": "red"})


def test_a_backup_of_a_later_version_is_refused(ledger: Ledger, path: Path, tmp_path: Path):
    ledger.commit([A])
    backup = saved(path, tmp_path / "backup")
    change(backup, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    what = f"is of version {len(MIGRATIONS) + 1}, this program knows {len(MIGRATIONS)}; install a later one"
    with pytest.raises(LedgerError, match=what):
        read_backup(backup)


def change(file: Path, sql: str) -> None:
    db = sqlite3.connect(file)
    db.executescript(sql)
    db.close()


def directory(file: Path) -> None:
    file.mkdir()


def another_database(file: Path) -> None:
    change(file, f"CREATE TABLE t (x); PRAGMA user_version = {len(MIGRATIONS)}")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda _file: None, "No such file or directory"),
        (directory, "Is a directory"),
        (Path.touch, "is no ledger"),
        (lambda file: file.write_text("apiVersion: kubeovn.io/v1\n"), "is no ledger"),
        (lambda file: file.write_bytes(b"SQLite format 3\0"), "is damaged (file is not a database)"),
        (another_database, "is no ledger"),
    ],
)
def test_what_is_no_ledger_is_refused(tmp_path: Path, make: Callable[[Path], object], what: str):
    make(tmp_path / "file")
    with pytest.raises(LedgerError, match=re.escape(f"{tmp_path}/file: {what}")):
        read_backup(tmp_path / "file")


def truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def with_a_page_of_zeros(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[8192:12288] = bytes(4096)
    file.write_bytes(content)


def with_another_address(file: Path) -> None:
    """As a bit that turned over would leave it: the row no longer says what its index says."""
    content = file.read_bytes()
    address = (10 << 24 | 77).to_bytes(4, "big")
    assert content.count(address) == 2
    file.write_bytes(content.replace(address, (10 << 24 | 78).to_bytes(4, "big"), 1))


def with_labels_that_are_no_json(file: Path) -> None:
    change(file, "UPDATE reservation SET more = '{\"labels\": '")


@pytest.mark.parametrize(
    "damage", [truncated, with_a_page_of_zeros, with_another_address, with_labels_that_are_no_json]
)
def test_a_damaged_backup_is_refused(ledger: Ledger, path: Path, tmp_path: Path, damage: Callable[[Path], None]):
    ledger.commit(many(200))
    backup = saved(path, tmp_path / "backup")
    assert len(read_backup(backup)) == 200
    damage(backup)
    with pytest.raises(LedgerError, match=f"{backup}: is damaged") as refused:
        read_backup(backup)
    assert "\n" not in str(refused.value)
