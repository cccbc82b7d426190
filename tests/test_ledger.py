"""The ledger, on real SQLite: what was committed is there, whatever happens, and nothing is held twice."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from builders import pool, reservation
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnreserve.engine.settlement import Settlement
from ovnreserve.ledger.journal import CONFLICTS, WAS_RELEASED, Keep, parse_keep, select
from ovnreserve.ledger.ledger import BLOCK, Entry, Ledger, LedgerError, read_journal
from ovnreserve.ledger.rows import Quarantined, quarantine_of
from ovnreserve.ledger.schema import MIGRATIONS
from ovnreserve.model.addresses import format_v6
from ovnreserve.model.history import ENDINGS
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Dot, State

SWITCH = "switch"
A = reservation(SWITCH, "a", v4="10.0.0.1", v6="fd00::1", mac="02:6f:76:00:00:01")
B = reservation(SWITCH, "b", v4="10.0.0.2", v6="fd00::2", mac="02:6f:76:00:00:02")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger(path)
    yield opened
    opened.close()


def versions_of_a_killed_daemon(path: Path, commits: Sequence[Reservation | None], count: int) -> list[int]:
    """What a process with the ledger was given before it was killed: first it commits, then it asks for versions."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        ledger = Ledger(path)
        for r in commits:
            ledger.commit([] if r is None else [r])
        os.write(writing, json.dumps([ledger.next_version() for _ in range(count)]).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        versions: list[int] = json.load(answer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return versions


# ---- the file --------------------------------------------------------------------------------------------------------


def test_a_new_ledger_is_private_empty_and_has_an_incarnation(path: Path) -> None:
    ledger = Ledger(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (ledger.load(), ledger.quarantined(), ledger.vector) == ([], [], {})
    incarnation = ledger.incarnation
    ledger.close()
    again = Ledger(path)
    assert again.incarnation == incarnation
    again.close()
    other = Ledger(path.with_name("other.db"))
    assert other.incarnation != incarnation
    other.close()


def test_each_commit_is_on_the_disk_before_it_returns(ledger: Ledger) -> None:
    def pragma(name: str) -> object:
        return ledger._db.execute(f"PRAGMA {name}").fetchone()[0]

    assert (pragma("journal_mode"), pragma("synchronous")) == ("wal", 2)
    assert pragma("user_version") == len(MIGRATIONS)


def test_a_ledger_of_a_later_program_is_refused_and_left_alone(path: Path) -> None:
    Ledger(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(
            LedgerError, match=f"is of version {len(MIGRATIONS) + 1}, this program knows {len(MIGRATIONS)}"
        ):
            Ledger(path)
    assert path.read_bytes() == before


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(tmp_path / "file" / "ledger.db")


def test_a_second_program_is_refused_until_the_first_lets_go(path: Path) -> None:
    """Both would count under one incarnation, and neither would see the other's commits."""
    first = Ledger(path)
    with pytest.raises(LedgerError, match="uses this ledger; give each its own --state-dir"):
        Ledger(path)
    code = (
        "import sys; from pathlib import Path; from ovnreserve.ledger.ledger import Ledger; Ledger(Path(sys.argv[1]))"
    )
    second = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "uses this ledger; give each its own --state-dir" in second.stderr
    first.commit([A])
    first.close()
    again = Ledger(path)
    assert again.load() == [A]
    again.close()


def test_a_ledger_that_somebody_else_holds_locked_says_so_and_stores_nothing(path: Path) -> None:
    ledger = Ledger(path)
    ledger._db.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match=r"cannot be written \(locked by .*python.*, pid \d+\)"):
        ledger.commit([A], count=True)
    assert (ledger.load(), ledger.vector) == ([], {})
    other.rollback()
    other.close()
    ledger.commit([A], count=True)
    assert ledger.attempted == 1
    ledger.close()


# ---- reservations ----------------------------------------------------------------------------------------------------

words = st.text(max_size=6)
times = st.integers(0, 1 << 40)
maps = st.dictionaries(words, words, max_size=2)
lists = st.lists(words, max_size=2).map(tuple)


@st.composite
def any_reservation(draw: st.DrawFn, name: str, number: int) -> Reservation:
    """Whatever its state is, it holds what none of another number holds."""
    return Reservation(
        name=name, uid=draw(words), switch=draw(words), subnet=draw(words), pod_name=draw(words), namespace=draw(words),
        pod_type=draw(words), v4=draw(st.sampled_from([None, number, 2**32 - 1 - number])),
        v6=draw(st.sampled_from([None, number, 2**128 - 1 - number])), mac=f"02:6f:76:00:00:0{number}",
        state=draw(st.sampled_from(State)), created=draw(times), deleted=draw(st.none() | times),
        resource_version=draw(st.integers(0, 2**60)), message=draw(words), generation=draw(st.integers(0, 9)),
        labels=draw(maps), annotations=draw(maps), node_name=draw(words), container_id=draw(words),
        attach_ips=draw(lists), attach_macs=draw(lists), attach_subnets=draw(lists),
        blocked=draw(st.dictionaries(words, st.sampled_from(["absent", "true", "overridden"]), max_size=2)),
        written=Dot(draw(words), draw(st.integers(0, 2**60))),
    )  # fmt: skip


NAMES = "abc"
some = st.sampled_from(range(3)).flatmap(lambda number: any_reservation(NAMES[number], number))
commits = st.lists(
    st.tuples(st.lists(some, max_size=3), st.lists(st.sampled_from(NAMES), max_size=2), st.booleans()), max_size=5
)


@settings(max_examples=60)
@given(commits, st.booleans())
def test_what_is_loaded_is_what_was_committed(
    history: list[tuple[list[Reservation], list[str], bool]], reopened: bool
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        path = Path(directory) / "ledger.db"
        ledger = Ledger(path)
        expected: dict[str, Reservation] = {}
        counted = 0
        for puts, drops, count in history:
            ledger.commit(puts, drops, count=count)
            for name in drops:
                expected.pop(name, None)
            expected.update({r.name: r for r in puts})
            counted += count
            if reopened:
                ledger.close()
                ledger = Ledger(path)
            assert ledger.load() == [expected[name] for name in sorted(expected)]
            assert (ledger.vector, ledger.attempted) == ({}, counted)
        ledger.close()


@pytest.mark.parametrize("fields", [{"v4": A.v4}, {"v6": A.v6}, {"mac": A.mac}])
@pytest.mark.parametrize("state", [State.INTENDED, State.HELD, State.RELEASING])
def test_nothing_is_held_twice_on_a_switch_whatever_we_decide(
    ledger: Ledger, fields: dict[str, object], state: State
) -> None:
    ledger.commit([A], count=True)
    second = B.with_(state=state, **fields)
    with pytest.raises(LedgerError, match="UNIQUE"):
        ledger.commit([second], ["x"], journal=[Entry(1.0, "Normal", "Reserved", "b", "u", "")], count=True)
    assert ledger.load() == [A]
    assert ledger.attempted == 1
    assert read_journal(ledger.path) == []
    ledger.commit([second.with_(state=State.FAILED)])
    ledger.commit([second.with_(switch="another")])


def test_who_failed_holds_nothing_and_cannot_come_back_to_what_is_taken(ledger: Ledger) -> None:
    failed = B.with_(v4=A.v4, state=State.FAILED)
    ledger.commit([failed])
    ledger.commit([A])
    with pytest.raises(LedgerError, match="UNIQUE"):
        ledger.commit([failed.with_(state=State.HELD)])


def test_who_goes_makes_room_for_who_comes_in_the_same_transaction(ledger: Ledger) -> None:
    ledger.commit([A])
    ledger.commit([B.with_(v4=A.v4)], [A.name])
    assert ledger.load() == [B.with_(v4=A.v4)]


def test_only_what_was_intended_becomes_held_by_its_name(ledger: Ledger) -> None:
    releasing = B.with_(state=State.RELEASING)
    ledger.commit([A.with_(state=State.INTENDED), releasing])
    ledger.commit(held=["a", "b", "nobody"])
    assert ledger.load() == [A, releasing]


def test_what_was_dropped_does_not_become_held(ledger: Ledger) -> None:
    ledger.commit([A.with_(state=State.INTENDED)])
    ledger.commit(drops=["a"], held=["a"])
    assert ledger.load() == []


# ---- resourceVersions ------------------------------------------------------------------------------------------------


def test_versions_only_grow_also_over_a_crash(path: Path) -> None:
    given_ = [v for times in (0, 1, 0, 3) for v in versions_of_a_killed_daemon(path, [None] * times, 10)]
    assert given_ == sorted(set(given_))


def test_more_versions_than_a_block_without_a_commit_are_vouched_for(path: Path) -> None:
    given_ = versions_of_a_killed_daemon(path, [], BLOCK + 10)
    assert given_ == list(range(given_[0], given_[0] + BLOCK + 10))
    assert versions_of_a_killed_daemon(path, [], 1)[0] > given_[-1]


def test_versions_go_on_past_those_of_what_is_taken_over(path: Path) -> None:
    [version] = versions_of_a_killed_daemon(path, [A.with_(resource_version=7_000_000)], 1)
    assert version > 7_000_000
    assert versions_of_a_killed_daemon(path, [], 1)[0] > version


def test_what_a_killed_daemon_had_committed_is_there(path: Path) -> None:
    versions_of_a_killed_daemon(path, [A, B], 0)
    ledger = Ledger(path)
    assert ledger.load() == [A, B]
    ledger.close()


def test_versions_go_on_while_the_disk_is_full(path: Path) -> None:
    ledger = Ledger(path)
    ledger._db.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path)
    other.execute("BEGIN IMMEDIATE")
    assert ledger.next_version() < ledger.next_version()
    other.close()
    ledger.close()


# ---- the vector ------------------------------------------------------------------------------------------------------


def test_only_commits_that_precede_a_northbound_transaction_are_counted(ledger: Ledger) -> None:
    ledger.commit([A], count=True)
    ledger.commit([B])
    assert ledger.next_dot == Dot(ledger.incarnation, 2)
    ledger.commit(count=True)
    assert (ledger.attempted, ledger.revision) == (2, {ledger.incarnation: 2})


def test_an_attempt_is_no_part_of_the_vector_until_the_database_is_known_to_have_it(path: Path) -> None:
    ledger = Ledger(path)
    ledger.commit(count=True)
    assert (ledger.vector, ledger.is_behind) == ({}, False)
    ledger.learn(ledger.revision)
    assert (ledger.vector, ledger.is_behind) == ({ledger.incarnation: 1}, True)
    ledger.commit()
    assert not ledger.is_behind
    ledger.commit(count=True)
    ledger.close()
    again = Ledger(path)
    assert (again.vector, again.attempted) == ({ledger.incarnation: 1}, 2)
    again.close()


def test_what_is_known_of_others_is_kept_and_counted_beside(path: Path) -> None:
    ledger = Ledger(path)
    ledger.commit(count=True)
    ledger.commit(vector={"other": 7, ledger.incarnation: 1})
    ledger.commit(count=True)
    assert ledger.revision == {"other": 7, ledger.incarnation: 2}
    ledger.close()
    again = Ledger(path)
    assert (again.vector, again.attempted) == ({"other": 7, ledger.incarnation: 1}, 2)
    again.close()


def test_a_database_that_is_ahead_of_what_a_ledger_has_counted_moves_its_count_on(ledger: Ledger) -> None:
    ledger.commit(vector={ledger.incarnation: 9})
    assert ledger.next_dot.number == 10
    ledger.learn({ledger.incarnation: 12})
    assert ledger.next_dot.number == 13
    ledger.commit()
    assert ledger.attempted == 12


def test_versions_go_on_past_what_another_daemon_gave_away(path: Path) -> None:
    ledger = Ledger(path)
    ledger.commit(version=8_000_000)
    assert ledger.next_version() > 8_000_000
    assert ledger.ceiling > 8_000_000
    ledger.close()


def old_ledger(path: Path, version: int, *reservations: Reservation) -> sqlite3.Connection:
    """A ledger as a program of that version left it, still open."""
    path.parent.mkdir()
    db = sqlite3.connect(path)
    for script in MIGRATIONS[:version]:
        db.executescript(script)
    db.execute(f"PRAGMA user_version = {version}")
    for r in reservations:
        values = (
            r.name, r.uid, r.switch, r.subnet, r.pod_name, r.namespace, r.pod_type, r.v4,
            None if r.v6 is None else format_v6(r.v6), r.mac, r.state.value, r.created, r.deleted, r.resource_version,
            r.message, "{}", r.live, *r.written,
        )  # fmt: skip
        values = values[: 17 if version == 1 else 19]
        db.execute(f"INSERT INTO reservation VALUES ({', '.join('?' * len(values))})", values)
    db.commit()
    return db


def test_a_ledger_of_version_1_is_read_and_its_reservations_have_no_commit(path: Path) -> None:
    old_ledger(path, 1, A).close()
    again = Ledger(path)
    assert again.load() == [A.with_(written=Dot())]
    again.close()


# ---- reading parts of it ---------------------------------------------------------------------------------------------


def test_reservations_are_read_some_at_a_time_and_one_by_its_name(ledger: Ledger) -> None:
    kept = [A.with_(name=f"{letter}.default", v4=number, mac=f"02:00:00:00:00:0{number}", v6=None)
            for number, letter in enumerate("abcde", 1)]  # fmt: skip
    ledger.commit(kept[::-1])
    assert ledger.load() == kept
    assert ledger.load_some("", 2) == kept[:2]
    assert ledger.load_some("b.default", 2) == kept[2:4]
    assert ledger.load_some("e.default", 2) == []
    assert ledger.find("c.default") == kept[2]
    assert ledger.find("c") is None


def test_owners_and_pools_are_read_so_behind_the_reservations(ledger: Ledger) -> None:
    pools = [pool("s", "10.0.0.9", name=name) for name in ("a", "b", "c")]
    ledger.commit([*pools, A])
    assert ledger.load_some("", 2) == [A]
    assert ledger.load_some(A.name, 2) == pools[:2]
    assert ledger.load_some("ippool/b", 2) == pools[2:]
    assert ledger.load_some("ippool/c", 2) == []
    assert ledger.find("ippool/b") == pools[1]
    assert ledger.find("ippool/d") is None


# ---- journal and quarantine ------------------------------------------------------------------------------------------


def test_a_journal_that_is_not_there_or_no_database_is_an_error_of_the_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be read"):
        read_journal(tmp_path / "gone?mode=rw")
    (tmp_path / "text").write_text("no database" * 100)
    with pytest.raises(LedgerError, match="cannot be read"):
        read_journal(tmp_path / "text")


def test_the_journal_is_read_from_beside_while_the_daemon_writes(ledger: Ledger) -> None:
    lines = [Entry(float(n), "Normal", "Reserved", "ab"[n % 2], f"u{n}", f"line {n}") for n in range(10)]
    ledger.commit(journal=lines[:5])
    ledger.commit(journal=lines[5:])
    assert read_journal(ledger.path) == lines
    assert read_journal(ledger.path, "a") == lines[::2]
    assert read_journal(ledger.path, limit=3) == lines[-3:]
    assert read_journal(ledger.path, "nobody") == []


def test_the_journal_knows_by_its_uid_what_was_released(ledger: Ledger) -> None:
    ledger.commit(
        journal=[Entry(1.0, "Normal", "Released", "a", "one", ""), Entry(1.0, "Normal", "Reserved", "a", "two", "")]
    )
    assert (ledger.was_released("one"), ledger.was_released("two"), ledger.was_released("")) == (True, False, False)


def test_a_journal_of_version_2_is_read_and_of_what_lives_it_says_what_is_held(path: Path) -> None:
    b = B.with_(v4=None)
    db = old_ledger(path, 2, A, b)
    for r, uid in ((A, A.uid), (b, b.uid), (A, "gone")):
        values = (1.5, "Normal", "Reserved", r.name, uid, "why")
        db.execute("INSERT INTO journal (at, type, reason, name, uid, message) VALUES (?, ?, ?, ?, ?, ?)", values)
    db.execute("UPDATE journal SET reason = 'Released' WHERE uid = 'gone'")
    db.commit()
    db.close()
    ledger = Ledger(path)
    assert [(line.uid, line.subnet, line.v4, line.v6, line.mac, line.actor) for line in read_journal(path)][:3] == [
        (A.uid, "net", "10.0.0.1", "fd00::1", A.mac, ""),
        (b.uid, "net", "", "fd00::2", b.mac, ""),
        ("gone", "", "", "", "", ""),
    ]
    assert ledger.was_released("gone")
    ledger.close()


def plan_of(db: sqlite3.Connection, query: str, values: Any) -> str:
    return " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", values))


@pytest.mark.parametrize("column", ["name", "v4", "v6", "mac"])
def test_what_the_journal_has_about_one_name_address_or_mac_is_found_by_an_index(ledger: Ledger, column: str) -> None:
    for tenures in (True, False):
        assert f"INDEX journal_{column}" in plan_of(ledger._db, *select({column: ["x"]}, 5, tenures=tenures))


def test_whether_it_was_released_is_found_by_an_index(ledger: Ledger) -> None:
    assert "INDEX journal_ended" in plan_of(ledger._db, WAS_RELEASED, {"uid": "x"})


def test_conflicts_of_what_lives_are_found_by_an_index(ledger: Ledger) -> None:
    told = [Entry(at, "Warning", "Conflicted", A.name, uid, "x") for at, uid in ((1.0, A.uid), (2.0, "gone"))]
    ledger.commit([A], journal=[*told, Entry(3.0, "Normal", "Reserved", A.name, A.uid, "")])
    assert ledger.conflicts() == [(A.uid, 1.0, "Conflicted", "x")]
    assert "INDEX journal_conflicts" in plan_of(ledger._db, CONFLICTS, {})


# ---- pruning ---------------------------------------------------------------------------------------------------------


def lines_of(r: Reservation, *told: tuple[float, str]) -> list[Entry]:
    return [Entry(at, "Normal", reason, r.name, r.uid, "", "", r.subnet, "10.0.0.1", "", r.mac) for at, reason in told]


def pruned(ledger: Ledger, keep: Keep, now: float) -> int:
    """Prune all of it, piece by piece; how many entries went."""
    count, after = 0, 0
    while True:
        begins, some = ledger.prune_journal(keep, now, after)
        count += some
        if begins is None:
            return count
        assert begins > after
        after = begins


def left(ledger: Ledger) -> list[tuple[str, float]]:
    return [(line.uid, line.at) for line in read_journal(ledger.path, limit=100_000)]


def test_what_ended_long_ago_is_pruned_and_what_lives_never_is(ledger: Ledger) -> None:
    gone = reservation(SWITCH, "gone", v4="10.0.0.9", mac="02:6f:76:00:00:09")
    ledger.commit([A], journal=lines_of(A, (1, "Reserved"), (2, "Binding")))
    ledger.commit(journal=lines_of(gone, (3, "Reserved"), (4, "Releasing"), (5, "Released")))
    ledger.commit(journal=[Entry(6, "Warning", "Repaired", "subnet/net", "", "")])
    assert pruned(ledger, Keep(seconds=100), 105) == 0
    assert pruned(ledger, Keep(seconds=100), 105.5) == 3
    assert left(ledger) == [(A.uid, 1), (A.uid, 2), ("", 6)]
    assert pruned(ledger, Keep(seconds=100), 1e9) == 1
    assert left(ledger) == [(A.uid, 1), (A.uid, 2)]


def test_what_ended_lately_keeps_its_beginning_however_old(ledger: Ledger) -> None:
    ledger.commit(journal=lines_of(A, (1, "Reserved"), (900, "Releasing"), (901, "Released")))
    ledger.commit(journal=lines_of(B, (902, "Reserved")))
    for keep in (Keep(seconds=100), Keep(entries=2)):
        assert pruned(ledger, keep, 1000) == 0
    assert pruned(ledger, Keep(entries=1), 1000) == 3


def test_what_was_released_is_known_as_released_when_the_journal_has_forgotten_it(path: Path) -> None:
    ledger = Ledger(path)
    ledger.commit(journal=[*lines_of(A, (1, "Reserved"), (2, "Released")), *lines_of(B, (1, "ReleasedElsewhere"))])
    assert pruned(ledger, Keep(entries=0), 10) == 3
    ledger.close()
    again = Ledger(path)
    assert left(again) == []
    assert (again.was_released(A.uid), again.was_released(B.uid)) == (True, False)
    again.close()


def test_a_name_that_lives_again_does_not_keep_its_earlier_lives(ledger: Ledger) -> None:
    ledger.commit(journal=lines_of(A.with_(uid="before"), (1, "Reserved"), (2, "Released")))
    ledger.commit([A], journal=lines_of(A, (3, "Reserved")))
    assert pruned(ledger, Keep(entries=0), 10) == 2
    assert left(ledger) == [(A.uid, 3)]


def test_pruning_that_is_broken_off_goes_on_from_the_start(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovnreserve.ledger.journal.PIECE", 3)
    ledger.commit(journal=[Entry(float(n), "Normal", "Repaired", "subnet/net", "", "") for n in range(10)])
    assert ledger.prune_journal(Keep(seconds=1), 100, 0) == (3, 3)
    assert pruned(ledger, Keep(seconds=1), 100) == 7


def test_a_journal_that_is_locked_is_pruned_later(ledger: Ledger) -> None:
    ledger._db.execute("PRAGMA busy_timeout = 1")
    ledger.commit(journal=lines_of(A, (1, "Released")))
    with closing(sqlite3.connect(ledger.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="locked by"):
            pruned(ledger, Keep(entries=0), 10)
    assert (left(ledger), ledger.was_released(A.uid)) == ([(A.uid, 1)], True)
    assert pruned(ledger, Keep(entries=0), 10) == 1


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.sampled_from(["Reserved", "Releasing", "Failed", "Released", "Conflicted"]),
                  st.sampled_from(["", "a", "b", "u1", "u2"])),
        max_size=40,
    ),
    st.integers(0, 20), st.integers(0, 30), st.sampled_from([1, 3, 500]), st.sampled_from([1, 2, 50]),
)  # fmt: skip
def test_what_is_pruned_is_what_the_rule_says(
    told: list[tuple[int, str, str]], age: int, count: int, piece: int, most: int
) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr("ovnreserve.ledger.journal.PIECE", piece)
        patch.setattr("ovnreserve.ledger.journal.MOST", most)
        ledger = Ledger(Path(directory) / "ledger.db")
        journal = [
            Entry(float(at), "Normal", reason, uid if uid in "ab" else "c", f"uid-of-{uid}" if uid in "ab" else uid, "")
            for at, reason, uid in sorted(told, key=lambda line: line[0])
        ]
        ledger.commit([A, B], journal=journal)

        def is_outdated(number: int) -> bool:
            return journal[number].at < 20 - age or number < len(journal) - count

        def is_kept(number: int) -> bool:
            line = journal[number]
            lives = line.uid in (A.uid, B.uid) and line.name in ("a", "b")
            ends = [n for n, other in enumerate(journal) if other.uid == line.uid and other.reason in ENDINGS]
            ended_lately = bool(line.uid) and any(not is_outdated(n) for n in ends)
            return lives or ended_lately or not is_outdated(number)

        released = {line.uid for line in journal if line.reason == "Released" and line.uid}
        expected = [(journal[n].uid, journal[n].at) for n in range(len(journal)) if is_kept(n)]
        pruned(ledger, Keep(age, count), 20)
        assert left(ledger) == expected
        assert all(ledger.was_released(uid) for uid in released)
        ledger.close()


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("90d", Keep(seconds=90 * 86400)), ("12h", Keep(seconds=43200)), ("5m", Keep(seconds=300)),
        ("100000", Keep(entries=100_000)), ("0", Keep(entries=0)), ("90d,10", Keep(90 * 86400, 10)),
        ("10,1s", Keep(1, 10)), ("all", Keep()),
    ],
)  # fmt: skip
def test_how_long_the_journal_is_kept(text: str, keep: Keep) -> None:
    assert parse_keep(text) == keep


@pytest.mark.parametrize("text", ["", "-1", "1y", "90d,", "90d,80d", "5,6", "all,5", "1.5d", "٣", "9 d"])
def test_what_is_no_length_of_time_or_number_of_entries(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no age such as 90d|says twice"):
        parse_keep(text)


def test_released_addresses_are_remembered_until_their_time_is_over(path: Path) -> None:
    ledger = Ledger(path)
    ledger.commit(quarantine=[*quarantine_of(A, 200.0), *quarantine_of(B.with_(v6=None), 100.0)])
    ledger.close()
    again = Ledger(path)
    oldest = Quarantined(SWITCH, "10.0.0.2", 100.0)
    assert again.quarantined() == [
        oldest,
        Quarantined(SWITCH, "10.0.0.1", 200.0),
        Quarantined(SWITCH, "fd00::1", 200.0),
    ]
    again.prune_quarantine(100.0)
    assert oldest not in again.quarantined()
    again.commit(quarantine=[Quarantined(SWITCH, "10.0.0.1", 300.0)])
    assert again.quarantined()[-1] == Quarantined(SWITCH, "10.0.0.1", 300.0)
    again.close()


def test_what_was_released_in_the_future_was_released_now_and_stays_so(path: Path) -> None:
    """Or it would begin its time anew whenever the stores are compared."""
    ledger = Ledger(path)
    ledger.commit(quarantine=[Quarantined(SWITCH, "10.0.0.1", 9000.0), Quarantined(SWITCH, "10.0.0.2", 90.0)])
    ledger.prune_quarantine(50.0, 100.0)
    ledger.close()
    again = Ledger(path)
    assert again.quarantined() == [Quarantined(SWITCH, "10.0.0.2", 90.0), Quarantined(SWITCH, "10.0.0.1", 100.0)]
    again.prune_quarantine(100.0, 150.0)
    assert again.quarantined() == []
    again.close()


# ---- settling --------------------------------------------------------------------------------------------------------


def test_what_was_taken_back_while_the_ledger_could_not_be_written_is_made_good(path: Path) -> None:
    """Or nobody else could have the address, and the daemon would do after a restart what it had refused."""
    with closing(Ledger(path)) as ledger:
        settlement = Settlement(ledger)
        intended = reservation("switch", "taken.default", state=State.INTENDED)
        settlement.commit_with([intended], [], [], count=True)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        settlement.owe({intended.name: None})
        assert not settlement.write()
        assert settlement.due < float("inf"), "it is tried again"
        other.execute("ROLLBACK")
        other.close()
        next_one = reservation("switch", "next.default", state=State.INTENDED)
        assert next_one.addresses == intended.addresses
        settlement.commit_with([next_one], [], [], count=True)
        assert ledger.load() == [next_one]
        assert settlement.write()
        assert settlement.due == float("inf")


def test_what_is_owed_gives_way_to_what_came_since(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        settlement = Settlement(ledger)
        held = reservation("switch", "a.default")
        settlement.commit_with([held], [], [], count=True)
        settlement.owe({held.name: held})
        labelled = held.with_(labels={"a": "b"})
        settlement.commit_with([labelled], [], [], count=True)
        assert ledger.load() == [labelled]
        settlement.owe({held.name: held})
        settlement.commit_with([], [held.name], [], count=False)
        assert ledger.load() == []


def test_what_is_owed_of_what_is_gone_by_then_does_not_bring_it_back(path: Path) -> None:
    """Both transactions of a release may be over before there is a moment to write down the first."""
    with closing(Ledger(path)) as ledger:
        settlement = Settlement(ledger)
        leaving = reservation("switch", "a.default", state=State.RELEASING)
        settlement.commit_with([leaving], [], [], count=True)
        settlement.owe({leaving.name: leaving.with_(deleted=5)})
        settlement.drop(leaving)
        assert settlement.write()
        assert ledger.load() == []
