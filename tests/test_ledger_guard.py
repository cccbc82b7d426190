"""The ledger's guard, on real files: what was copied, damaged, deleted or taken is noticed, and nothing else is."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders import reservation

from ovnreserve.ledger.guard import _CLOCK_SKEW, BUSY_TIMEOUT, move_aside
from ovnreserve.ledger.ledger import LEDGER, Entry, Ledger, LedgerError, LedgerLost, read_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SWITCH = "switch"
A = reservation(SWITCH, "a", v4="10.0.0.1", mac="02:6f:76:00:00:01")
B = reservation(SWITCH, "b", v4="10.0.0.2", mac="02:6f:76:00:00:02")
PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger(path)
    yield opened
    opened.close()


def closed(path: Path, commits: int = 1) -> str:
    """A ledger that was used and closed; its incarnation."""
    ledger = Ledger(path)
    for _ in range(commits):
        ledger.commit([A], count=True)
        ledger.confirm()
        ledger.commit()
    ledger.close()
    return ledger.incarnation


def line_of(path: Path) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(path.with_name("ledger.db.lock").read_text())
    return line


def write_line(path: Path, **fields: Any) -> None:
    path.with_name("ledger.db.lock").write_text(json.dumps(line_of(path) | fields) + "\n")


def reopened(path: Path) -> tuple[str, dict[str, int], list[tuple[str, str]]]:
    """The incarnation and vector of the ledger when it is opened again, and what its journal says of it."""
    ledger = Ledger(path)
    ledger.close()
    return ledger.incarnation, ledger.vector, notes(path)


def notes(path: Path) -> list[tuple[str, str]]:
    return [(entry.reason, entry.message) for entry in read_journal(path, LEDGER)]


# ---- the line --------------------------------------------------------------------------------------------------------


def test_the_lock_file_says_in_one_line_who_has_the_ledger_and_how_far_it_has_counted(path: Path) -> None:
    ledger = Ledger(path)
    for commits in (1, 2):
        ledger.commit([A], count=True)
        text = path.with_name("ledger.db.lock").read_text()
        line = json.loads(text)
        assert len(text.splitlines()) == 1
        assert (line["pid"], line["incarnation"], line["commits"]) == (os.getpid(), ledger.incarnation, commits)
        assert line["inode"] == path.with_name("ledger.db.lock").stat().st_ino
    ledger.close()


def test_who_is_second_is_told_the_pid_of_who_has_the_ledger(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ovnreserve.ledger.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        assert first.stdin
        assert first.stdout.readline() == "open\n"
        with pytest.raises(LedgerError, match=f"ovnreserved, pid {first.pid}, uses this ledger; give each its own"):
            Ledger(path)
        first.stdin.close()
    Ledger(path).close()


# ---- restored by hand ------------------------------------------------------------------------------------------------


def test_a_ledger_that_was_closed_or_whose_program_was_killed_is_the_same_again(path: Path) -> None:
    incarnation = closed(path)
    assert reopened(path) == (incarnation, {incarnation: 1}, [])
    child = os.fork()
    if child == 0:
        Ledger(path).commit([B], count=True)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert reopened(path) == (incarnation, {incarnation: 1}, [])
    ledger = Ledger(path)
    assert ledger.attempted == 2
    ledger.close()


def test_a_program_killed_between_its_commit_and_the_line_leaves_the_same_ledger(path: Path) -> None:
    incarnation = closed(path, 3)
    line = line_of(path)
    closed(path, 2)
    # As it was before the last two commits, but for the moment of writing it.
    write_line(path, commits=line["commits"], changed=time.time_ns())
    assert reopened(path) == (incarnation, {incarnation: 5}, [])


def put_back_the_ledger(backup: Path, state: Path) -> None:
    shutil.copy(backup / "ledger.db", state / "ledger.db")


def put_back_everything_in_place(backup: Path, state: Path) -> None:
    for file in backup.iterdir():
        shutil.copy2(file, state / file.name)


def put_back_the_directory(backup: Path, state: Path) -> None:
    shutil.rmtree(state)
    shutil.copytree(backup, state)


def put_back_without_the_lock_file(backup: Path, state: Path) -> None:
    put_back_the_directory(backup, state)
    (state / "ledger.db.lock").unlink()


@pytest.mark.parametrize(
    "put_back",
    [
        put_back_the_ledger,
        put_back_everything_in_place,
        put_back_the_directory,
        put_back_without_the_lock_file,
    ],
)
def test_a_ledger_that_was_put_back_counts_under_a_new_incarnation(
    path: Path, tmp_path: Path, put_back: Callable[[Path, Path], None]
) -> None:
    incarnation = closed(path, 2)
    write_line(path, changed=time.time_ns())
    shutil.copytree(path.parent, tmp_path / "backup")
    copied = json.loads((tmp_path / "backup" / "ledger.db.lock").read_text())["changed"]
    closed(path, 3)
    while time.time_ns() < copied + 2 * _CLOCK_SKEW:  # what is put back in the same moment is no backup
        pass
    put_back(tmp_path / "backup", path.parent)
    new, vector, journal = reopened(path)
    assert new != incarnation
    assert vector == {incarnation: 2}
    [(reason, message)] = journal
    assert reason == "LedgerRestored"
    assert new in message
    assert incarnation in message
    # Once, and then it is its own.
    ledger = Ledger(path)
    ledger.commit([B], count=True)
    ledger.confirm()
    ledger.commit()
    ledger.close()
    assert reopened(path) == (new, {incarnation: 2, new: 1}, journal)


def test_a_copy_of_the_directory_elsewhere_is_another_ledger(path: Path, tmp_path: Path) -> None:
    incarnation = closed(path)
    shutil.copytree(path.parent, tmp_path / "copy")
    new, vector, _ = reopened(tmp_path / "copy" / "ledger.db")
    assert new != incarnation
    assert vector == {incarnation: 1}
    assert reopened(path)[0] == incarnation


@pytest.mark.parametrize("line", ["", "{}", "[" * 500, '{"pid": 1', "\0" * 256, "[1, 2, 3, 4, 5, 6]"])
def test_a_line_that_cannot_be_read_is_a_doubt(path: Path, line: str) -> None:
    incarnation = closed(path)
    path.with_name("ledger.db.lock").write_text(line)
    new, vector, journal = reopened(path)
    assert new != incarnation
    assert vector == {incarnation: 1}
    assert [reason for reason, _ in journal] == ["LedgerRestored"]


def test_a_doubt_outlives_a_program_that_is_killed_before_it_has_taken_a_new_incarnation(path: Path) -> None:
    incarnation = closed(path)
    write_line(path, inode=1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    code = "import sys, pathlib; from ovnreserve.ledger.ledger import Ledger; Ledger(pathlib.Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 10
        while line_of(path)["pid"] != child.pid:
            assert time.monotonic() < deadline
        child.kill()
    other.close()
    assert reopened(path)[0] != incarnation


# ---- corrupt ---------------------------------------------------------------------------------------------------------


def header(file: Path, dice: random.Random) -> None:
    overwrite(file, 0, dice.randbytes(100))


def no_magic(file: Path, _dice: random.Random) -> None:
    overwrite(file, 0, b"\0" * 16)


def random_page(file: Path, dice: random.Random) -> None:
    overwrite(file, PAGE * dice.randrange(file.stat().st_size // PAGE), dice.randbytes(PAGE))


def zeroed_pages(file: Path, dice: random.Random) -> None:
    first = dice.randrange(1, file.stat().st_size // PAGE)
    overwrite(file, PAGE * first, b"\0" * (file.stat().st_size - PAGE * first))


def truncated(file: Path, dice: random.Random) -> None:
    os.truncate(file, dice.randrange(1, file.stat().st_size - PAGE))


def empty(file: Path, _dice: random.Random) -> None:
    os.truncate(file, 0)


def text(file: Path, _dice: random.Random) -> None:
    file.write_text("this is no database\n" * 1000)


def somebody_elses(file: Path, _dice: random.Random) -> None:
    file.unlink()
    db = sqlite3.connect(file)
    db.execute("CREATE TABLE meta (name TEXT)")
    db.execute("PRAGMA user_version = 1")
    db.close()


def garbled_vector(file: Path, _dice: random.Random) -> None:
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("INSERT OR REPLACE INTO meta VALUES ('vector', '[')")
    db.close()


def overwrite(file: Path, offset: int, content: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(content)


DAMAGES = [
    header, no_magic, random_page, zeroed_pages, truncated, empty, text, somebody_elses, garbled_vector,
]  # fmt: skip


def fill(path: Path) -> str:
    """A ledger of some pages, closed; its incarnation."""
    ledger = Ledger(path)
    many = [reservation(SWITCH, f"p{n}", v4=f"10.0.1.{n}", mac=f"02:6f:76:00:01:{n:02x}") for n in range(250)]
    journal = [Entry(1.0, "Normal", "Reserved", r.name, r.uid, r.port_addresses) for r in many]
    ledger.commit(many, journal=journal, count=True)
    ledger.close()
    return ledger.incarnation


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ledger_is_moved_aside_and_made_anew(
    path: Path, damage: Callable[[Path, random.Random], None]
) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    incarnation = fill(path)
    damage(path, random.Random(seed))
    damaged = path.read_bytes()
    ledger = Ledger(path)
    assert (ledger.load(), ledger.vector) == ([], {})
    assert ledger.incarnation != incarnation
    ledger.commit([A], count=True)
    ledger.close()
    [aside] = [file for file in path.parent.glob("ledger.db.corrupt-*") if not file.name.endswith(("-wal", "-shm"))]
    if damage not in (empty, somebody_elses):  # to which SQLite has written on opening them
        assert aside.read_bytes() == damaged
    [(reason, message)] = notes(path)
    assert reason == "LedgerCorrupt"
    assert str(aside) in message
    assert reopened(path)[0] == ledger.incarnation


def test_a_ledger_that_is_gone_is_made_anew_and_said(path: Path) -> None:
    incarnation = fill(path)
    path.unlink()
    new, vector, journal = reopened(path)
    assert new != incarnation
    assert vector == {}
    assert [reason for reason, _ in journal] == ["LedgerMissing"]


def test_what_is_moved_aside_overwrites_nothing(path: Path) -> None:
    names = set()
    for number in range(3):
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))
        Path(f"{path}-wal").write_text(f"wal of {number}")
        names.add(move_aside(path))
    assert {name.read_text() for name in names} == {"0", "1", "2"}
    assert {Path(f"{name}-wal").read_text() for name in names} == {"wal of 0", "wal of 1", "wal of 2"}


@pytest.mark.parametrize("reading", [True, False])
def test_damage_that_shows_in_use_ends_it_and_is_put_right_when_it_is_opened_again(path: Path, reading: bool) -> None:
    fill(path)
    ledger = Ledger(path)
    overwrite(path, PAGE, b"\0" * (path.stat().st_size - PAGE))
    ledger._db.execute("PRAGMA shrink_memory")  # a ledger of some size is not in SQLite's cache as a whole
    with pytest.raises(LedgerLost, match="is corrupt"):
        ledger.load() if reading else ledger.commit([A], count=True)
    ledger.close()
    assert line_of(path)["lost"]
    _, vector, journal = reopened(path)
    assert vector == {}
    assert [reason for reason, _ in journal] == ["LedgerCorrupt"]
    assert not line_of(path)["lost"]


def test_a_reservation_that_cannot_be_read_is_corruption(path: Path) -> None:
    closed(path)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE reservation SET more = '{'")
    db.close()
    ledger = Ledger(path)
    with pytest.raises(LedgerLost, match="a resource cannot be read"):
        ledger.load()
    ledger.close()
    again = Ledger(path)
    assert again.load() == []
    again.close()
    assert [reason for reason, _ in notes(path)] == ["LedgerCorrupt"]


# ---- deleted or replaced while it is open ----------------------------------------------------------------------------


def delete(file: Path) -> None:
    file.unlink()


def replace(file: Path) -> None:
    shutil.copy(file, f"{file}.new")
    os.rename(f"{file}.new", file)  # noqa: PTH104


@pytest.mark.parametrize("name", ["ledger.db", "ledger.db-wal", "ledger.db.lock"])
@pytest.mark.parametrize("act", [delete, replace])
def test_a_file_that_was_deleted_or_replaced_is_noticed_before_anything_is_answered(
    path: Path, name: str, act: Callable[[Path], None]
) -> None:
    ledger = Ledger(path)
    ledger.commit([A], count=True)
    act(path.with_name(name))
    with pytest.raises(LedgerLost, match=f"{name}: was deleted or replaced while it was in use"):
        ledger.commit([B], count=True)
    ledger.close()
    Ledger(path).close()


def test_a_directory_that_was_moved_away_is_noticed(path: Path) -> None:
    ledger = Ledger(path)
    path.parent.rename(path.parent.with_name("elsewhere"))
    with pytest.raises(LedgerLost, match="deleted or replaced"):
        ledger.commit([A], count=True)
    ledger.close()


# ---- locked by another -----------------------------------------------------------------------------------------------


def test_who_holds_the_write_lock_is_named_and_not_waited_for_long(ledger: Ledger) -> None:
    code = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); db.execute('BEGIN IMMEDIATE')\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(ledger.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == "locked\n"
        start = time.monotonic()
        with pytest.raises(LedgerError, match=rf"cannot be written \(locked by \S+, pid {other.pid}\)"):
            ledger.commit([A], count=True)
        assert time.monotonic() - start < BUSY_TIMEOUT + 1
        other.stdin.close()
    ledger.commit([A], count=True)
    assert ledger.load() == [A]
