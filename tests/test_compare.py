"""Comparing the stores: with a real ledger, after whatever happened on both sides, both and the world agree."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from builders import Cloud, contents, reservation
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnreserve.engine.compare import compare_stores
from ovnreserve.engine.settlement import entry
from ovnreserve.ledger.ledger import Entry, Ledger, read_journal
from ovnreserve.ledger.rows import Quarantined
from ovnreserve.model.history import tenures
from ovnreserve.model.reservation import Reservation, external_ids_of
from ovnreserve.model.resource import RECORD, UID, Dot, State
from ovnreserve.plan import revision
from ovnreserve.plan.outcome import Event
from ovnreserve.plan.reconcile import Verdicts

NAME = "vm-1.default"


class Site:
    """A ledger, a database, and the world that a daemon makes of both."""

    def __init__(self, path: Path, *ledger: Reservation) -> None:
        self.cloud = Cloud()
        self.switch = self.cloud.switch()
        self.ledger = Ledger(path)
        self.ledger.commit(ledger, count=True)
        self.ledger.learn(self.ledger.revision)
        for r in ledger:
            self.cloud.world.put(r)

    def write(self, *records: Reservation, vector: dict[str, int] | None = None) -> None:
        for r in records:
            self.cloud.record(r)
        self.cloud.ledger_row(revision.encode(self.ledger.vector if vector is None else vector))

    def remove(self, records: list[Reservation]) -> None:
        rows = self.cloud.tables["DNS"]
        uids = {r.uid for r in records}
        for uuid in [uuid for uuid, row in rows.items() if row["external_ids"].get(UID) in uids]:
            del rows[uuid]
        self.cloud.sync()

    def compare(self) -> Verdicts:
        compared = compare_stores(self.ledger, self.cloud.replica, self.cloud.world, 300.0)
        assert compared is not None
        self.agrees()
        return compared[0]

    def agrees(self) -> None:
        assert self.ledger.load() == sorted(self.cloud.world.reservations.values(), key=lambda r: r.name)
        assert contents(self.cloud.world) == contents(self.cloud.rebuilt())

    def journal(self) -> list[tuple[str, str, str]]:
        return [(line.reason, line.name, line.uid) for line in read_journal(self.ledger.path)]


def switch_of_a_new_cloud() -> str:
    """Every Cloud gives its first row the same uuid."""
    return Cloud().switch()


SWITCH = switch_of_a_new_cloud()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "ledger.db"


def r(name: str = NAME, **fields: Any) -> Reservation:
    return reservation(SWITCH, name, **fields)


# ---- what happened, and what the journal says of it ------------------------------------------------------------------


def test_two_stores_that_agree_are_left_alone(path: Path) -> None:
    site = Site(path, r())
    site.write(r())
    assert not any(site.compare())
    assert site.journal() == []


def test_a_commit_whose_answer_was_lost_is_found(path: Path) -> None:
    site = Site(path, r(state=State.INTENDED))
    site.write(r())
    site.compare()
    assert site.cloud.world.reservations[NAME] == r()
    assert site.journal() == [("Reserved", NAME, r().uid)]


def test_a_new_ledger_follows_what_is_in_the_database(path: Path) -> None:
    site = Site(path)
    releasing = r("b.default", v4="10.0.0.10", mac="02:6f:76:00:00:10", state=State.RELEASING, deleted=1)
    site.write(r(), releasing, vector={"other": 9})
    assert site.compare().finish == ["b.default"]
    assert site.ledger.vector == {"other": 9, site.ledger.incarnation: 1}
    assert sorted(site.journal()) == [("Followed", NAME, r().uid), ("Releasing", "b.default", releasing.uid)]


@pytest.mark.parametrize("seen", [False, True])
def test_what_another_daemon_released_is_gone_and_in_quarantine(path: Path, seen: bool) -> None:
    """Only if it was seen on its way out, a record of it that turns up again is removed: else it may live there."""
    site = Site(path, r(state=State.RELEASING, deleted=1) if seen else r())
    site.write(vector={**site.ledger.vector, "other": 1})
    site.compare()
    assert site.cloud.world.reservations == {}
    assert site.journal() == [("Released" if seen else "ReleasedElsewhere", NAME, r().uid)]
    assert [q.address for q in site.ledger.quarantined()] == ["10.0.0.9"]
    space = site.cloud.segment(site.switch).v4
    assert space is not None
    assert list(space.quarantined) == [r().v4]
    site.cloud.record(r())
    assert site.compare().remove == ([r()] if seen else [])


def test_what_is_free_is_journalled_before_whoever_has_it_next(path: Path) -> None:
    site = Site(path, r())
    site.write(r("b.default", uid="b1"), vector={**site.ledger.vector, "other": 1})
    site.compare()
    assert site.journal() == [("ReleasedElsewhere", NAME, r().uid), ("Followed", "b.default", "b1")]
    held, holds = tenures(read_journal(site.ledger.path))
    assert (held.name, held.until, held.ended_by) == (NAME, holds.since, "ovnreserved")
    assert (holds.name, holds.v4, holds.until) == ("b.default", "10.0.0.9", None)


def test_a_release_that_another_daemon_got_ahead_of_ends_no_tenure(path: Path) -> None:
    site = Site(path, r(state=State.RELEASING, deleted=1, written=Dot("me", 7)))
    site.ledger.commit(journal=[entry(Event("Normal", "Reserved", NAME, ""), r(), 1.0, "uid 0 (root)")])
    site.write(r(), vector={**site.ledger.vector, "other": 1})
    site.compare()
    assert site.journal()[1:] == [("Overruled", NAME, r().uid), ("Reserved", NAME, r().uid)]
    [tenure] = tenures(read_journal(site.ledger.path))
    assert (tenure.since, tenure.until, tenure.actor) == (1.0, None, "uid 0 (root)")


def test_a_wiped_database_is_written_again_and_its_vector_says_what_it_has_meanwhile(path: Path) -> None:
    site = Site(path, r())
    before = site.ledger.incarnation
    assert site.compare().resume == [NAME]
    ledger = site.ledger
    assert ledger.vector == {before: 1}
    assert not ledger.is_complete
    ledger.commit(count=True)
    assert ledger.revision == {ledger.incarnation: 1}  # whoever sees that, does not take what is not there for released
    ledger.confirm()
    site.write(r(), vector=ledger.published)
    assert not any(site.compare())
    assert ledger.is_complete
    ledger.commit(count=True)
    assert ledger.revision == {before: 1, ledger.incarnation: 2}


def test_a_ledger_that_has_begun_to_write_again_goes_on_under_its_new_incarnation(path: Path) -> None:
    site = Site(path, r(), r("b.default", v4="10.0.0.10", mac="02:6f:76:00:00:10"))
    site.compare()
    incarnation = site.ledger.incarnation
    site.ledger.commit(count=True)
    site.ledger.confirm()
    site.write(r(), vector=site.ledger.published)
    assert site.compare().resume == ["b.default"]
    assert site.ledger.incarnation == incarnation


@pytest.mark.parametrize("key", [RECORD, UID])
def test_a_record_that_somebody_garbled_is_no_release(path: Path, key: str) -> None:
    site = Site(path, r())
    ids = {**external_ids_of(r()), key: "{"}
    site.cloud.insert("DNS", external_ids=ids)
    site.write(vector={**site.ledger.vector, "other": 1})
    site.compare()
    assert (NAME in site.cloud.world.reservations) or key == UID


def test_a_name_that_claims_what_another_has_is_not_followed_before_all_is_compared(path: Path) -> None:
    site = Site(path, r())
    site.write(r(), vector={**site.ledger.vector, "other": 1})
    copy = r("copy.default", uid="copy", created=r().created + 1)
    site.cloud.record(copy)
    assert compare_stores(site.ledger, site.cloud.replica, site.cloud.world, 300.0, {"copy.default"}) is None
    site.compare()
    assert {name: found.live for name, found in site.cloud.world.reservations.items()} == {
        NAME: True,
        "copy.default": False,
    }
    for name in ("copy.default", NAME):
        site.cloud.world.drop(name)
    assert not site.cloud.segment(site.switch).excluded


def test_both_sides_of_a_fork_stay_and_of_two_claims_one_fails(path: Path) -> None:
    mine = r("mine.default", v4="10.0.0.10", mac="02:6f:76:00:00:10")
    site = Site(path, r(created=100), mine)
    theirs = r("theirs.default", created=200, mac="02:6f:76:00:00:11")
    site.write(theirs, vector={"other": 1})
    assert sorted(site.compare().resume) == ["mine.default", "theirs.default", NAME]
    states = {name: x.state for name, x in site.cloud.world.reservations.items()}
    assert states == {NAME: State.HELD, "mine.default": State.HELD, "theirs.default": State.FAILED}
    assert site.journal() == [("Failed", "theirs.default", theirs.uid)]


def test_the_bound_one_stays_though_it_is_younger(path: Path) -> None:
    site = Site(path, r(created=100))
    theirs = r("theirs.default", created=200, mac="02:6f:76:00:00:11")
    site.cloud.port(site.switch, "theirs.default", theirs.port_addresses)
    site.write(theirs, vector={"other": 1})
    site.compare()
    assert site.cloud.world.reservations["theirs.default"].state is State.HELD
    assert site.cloud.world.reservations[NAME].state is State.FAILED


def test_names_that_swapped_their_addresses_are_followed(path: Path) -> None:
    a = r("a.default", uid="a1", v4="10.0.0.1", mac="02:6f:76:00:00:01")
    b = r("b.default", uid="b1", v4="10.0.0.2", mac="02:6f:76:00:00:02")
    site = Site(path, a, b)
    anew = [r("a.default", uid="a2", v4="10.0.0.2", mac=b.mac), r("b.default", uid="b2", v4="10.0.0.1", mac=a.mac)]
    site.write(*anew, vector={**site.ledger.vector, "other": 1})
    site.compare()
    assert site.ledger.load() == anew
    assert site.journal() == [
        ("Superseded", "a.default", "a1"), ("Superseded", "b.default", "b1"),
        ("Followed", "a.default", "a2"), ("Followed", "b.default", "b2"),
    ]  # fmt: skip


def test_as_standby_only_the_names_that_changed_are_looked_at(path: Path) -> None:
    site = Site(path, r())
    b = r("b.default", v4="10.0.0.10", mac="02:6f:76:00:00:10")
    site.write(b, vector={**site.ledger.vector, "other": 1})
    compared = compare_stores(site.ledger, site.cloud.replica, site.cloud.world, 300.0, {"b.default"})
    assert compared is not None
    assert compared[1] == {"b.default"}
    assert set(site.cloud.world.reservations) == {NAME, "b.default"}
    site.agrees()


def test_a_ledger_that_cannot_be_written_decides_nothing(path: Path) -> None:
    site = Site(path)
    site.write(r(), vector={"other": 1})
    site.ledger._db.execute("PRAGMA query_only = ON")
    assert compare_stores(site.ledger, site.cloud.replica, site.cloud.world, 300.0) is None
    assert site.cloud.world.reservations == {}
    site.ledger._db.execute("PRAGMA query_only = OFF")
    site.compare()


def test_quarantine_that_is_over_is_forgotten_and_one_from_the_future_counts_as_now(path: Path) -> None:
    site = Site(path)
    now = time.time()
    quarantined = [
        Quarantined(site.switch, "10.0.0.1", now - 400),
        Quarantined(site.switch, "10.0.0.2", now + 10**6),
    ]
    site.ledger.commit(quarantine=quarantined)
    site.compare()
    space = site.cloud.segment(site.switch).v4
    assert space is not None
    assert [space.cidr.format(address) for address in space.quarantined] == ["10.0.0.2"]
    assert now <= next(iter(space.quarantined.values())) <= time.time()


# ---- a law -----------------------------------------------------------------------------------------------------------

NAMES = ["a.default", "b.default", "c.default"]


def some(name: str, random: Random) -> Reservation:
    """One of two that may have had the name; what is of one uid has always the same addresses."""
    uid = f"{name[0]}{random.randrange(2)}"
    octet = 1 + sum(map(ord, uid)) % 3
    state = random.choice(list(State))
    return r(
        name, uid=uid, v4=f"10.0.0.{octet}", mac=f"02:6f:76:00:00:0{octet + ord(uid[0]) % 2}", state=state,
        created=ord(uid[1]), labels=random.choice([{}, {"k": "v"}]), deleted=1 if state is State.RELEASING else None,
    )  # fmt: skip


@settings(max_examples=60)
@given(st.integers(0, 1 << 32))
def test_after_whatever_happened_ledger_and_world_agree_and_nothing_is_held_twice(seed: int) -> None:
    random = Random(seed)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        held: list[Reservation] = []
        for name in NAMES:
            new = some(name, random)
            claims = {claim for other in held if other.live for claim in (other.v4, other.mac)}
            if random.random() < 0.7 and not (new.live and claims & {new.v4, new.mac}):
                held.append(new)
        site = Site(Path(directory) / "ledger.db", *held)
        site.ledger.commit(journal=[Entry(1.0, "Normal", "Released", "a.default", f"a{random.randrange(2)}", "")])
        written = [some(name, random) for name in NAMES if random.random() < 0.7]
        mine = {site.ledger.incarnation: 1}
        vector = random.choice([mine, {}, {**mine, "other": 1}, {"other": 1}])
        site.write(*(x for x in written if x.state in (State.HELD, State.RELEASING)), vector=vector)
        for x in random.sample(held, min(1, len(held))):
            site.cloud.port(site.switch, x.name, x.port_addresses)
        site.remove(site.compare().remove)
        settled = dict(site.cloud.world.reservations)
        assert site.compare().superseded == []
        assert site.cloud.world.reservations == settled
        site.ledger.close()
