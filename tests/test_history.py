"""Who held what: told from the journal alone, whatever the clock did and whatever is missing in it."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnreserve.ledger.schema import MIGRATIONS
from ovnreserve.model.history import ENDINGS, MEANING, Entry, Tenure, tenures
from ovnreserve.model.involved import Involved, involved, keys_of

V4 = "10.0.0.9"
V6 = "fd00::9"
MAC = "02:6f:76:00:00:01"


def line(at: float, reason: str, name: str = "a.default", actor: str = "", **changes: str) -> Entry:
    facts = {"uid": f"uid of {name}", "subnet": "net", "v4": V4, "v6": V6, "mac": MAC} | changes
    uid = facts.pop("uid")
    return Entry(at, "Normal", reason, name, uid, "why", actor, **facts)


def old(at: float, reason: str, name: str = "a.default") -> Entry:
    """An entry from before the journal named what was held."""
    return Entry(at, "Normal", reason, name, f"uid of {name}", f"reserved {V4}")


def spans(*entries: Entry) -> list[tuple[str, float | None, float | None]]:
    return [(tenure.name, tenure.since, tenure.until) for tenure in tenures(entries)]


def test_a_tenure_is_from_the_reservation_to_the_release_and_names_who_asked_for_both() -> None:
    told = tenures(
        [
            line(1, "Reserved", actor="uid 0 (root)"),
            line(2, "Binding", actor="ovnreserved"),
            line(5, "Releasing", actor="uid 7 (eve)"),
            line(6, "Released", actor="ovnreserved"),
        ]
    )
    assert told == [Tenure("a.default", "uid of a.default", "net", V4, V6, MAC, 1, 6, "uid 0 (root)", "uid 7 (eve)")]


@pytest.mark.parametrize("reason", [reason for reason, meaning in MEANING.items() if meaning == "begins"])
def test_what_lives_is_held_until_now(reason: str) -> None:
    assert spans(line(1, reason), line(2, "Conflicted"), line(3, reason)) == [("a.default", 1, None)]


@pytest.mark.parametrize("reason", ENDINGS)
def test_every_end_is_one(reason: str) -> None:
    assert spans(line(1, "Reserved"), line(4, reason)) == [("a.default", 1, 4)]


def test_what_was_overruled_in_its_release_goes_on_and_what_had_failed_may_begin_again() -> None:
    overruled = [line(1, "Reserved"), line(2, "Releasing"), line(3, "Overruled"), line(3, "Reserved")]
    assert spans(*overruled) == [("a.default", 1, None)]
    failed = [line(1, "Reserved"), line(2, "Failed"), line(5, "Reserved"), line(6, "Failed"), line(7, "Released")]
    assert spans(*failed) == [("a.default", 1, 2), ("a.default", 5, 6)]


def test_who_asked_for_a_release_that_was_overruled_does_not_end_what_ends_later() -> None:
    told = tenures(
        [
            line(1, "Reserved"),
            line(2, "Releasing", actor="uid 7 (eve)"),
            line(3, "Reserved"),
            line(4, "ReleasedElsewhere", actor="ovnreserved"),
        ]
    )
    assert [tenure.ended_by for tenure in told] == ["ovnreserved"]


@pytest.mark.parametrize("reason", ["Failed", "Superseded"])
def test_what_never_came_about_held_nothing(reason: str) -> None:
    assert spans(line(1, reason), line(2, "Released")) == []


@pytest.mark.parametrize("reason", ["Released", "ReleasedElsewhere"])
def test_where_the_beginning_is_missing_it_was_held_for_longer_than_is_told(reason: str) -> None:
    assert spans(line(4, reason)) == [("a.default", None, 4)]
    assert spans(line(3, "Releasing"), line(4, reason)) == [("a.default", None, 4)]
    before = [line(1, "Reserved", "b.default"), line(2, "Released", "b.default")]
    assert spans(*before, line(4, reason)) == [("b.default", 1, 2), ("a.default", 2, 4)]


@pytest.mark.parametrize("shared", [{"v4": V4}, {"v6": V6}, {"mac": MAC}])
def test_where_the_end_is_missing_it_is_where_another_has_the_address(shared: dict[str, str]) -> None:
    others = {"v4": "10.0.0.8", "v6": "fd00::8", "mac": "02:6f:76:00:00:08"} | shared
    assert spans(line(1, "Reserved"), line(5, "Followed", "b.default", **others)) == [
        ("a.default", 1, 5), ("b.default", 5, None),
    ]  # fmt: skip
    assert spans(line(1, "Reserved"), line(5, "Reserved", "b.default", subnet="other", **others)) == [
        ("a.default", 1, None), ("b.default", 5, None),
    ]  # fmt: skip


def test_a_name_has_one_tenure_at_a_time() -> None:
    other = {"v4": "10.0.0.8", "v6": "", "mac": "02:6f:76:00:00:08"}
    assert spans(line(1, "Reserved"), line(5, "Reserved", uid="another", **other)) == [
        ("a.default", 1, 5), ("a.default", 5, None),
    ]  # fmt: skip


def test_entries_from_before_addresses_were_named_tell_of_names_and_learn_the_rest() -> None:
    [lived] = tenures([old(1, "Reserved"), old(2, "Releasing"), old(3, "Released")])
    assert (lived.name, lived.v4, lived.since, lived.until) == ("a.default", "", 1, 3)
    [learned] = tenures([old(1, "Reserved"), line(3, "Releasing"), line(4, "Released")])
    assert (learned.v4, learned.mac, learned.since, learned.until) == (V4, MAC, 1, 4)


def test_a_clock_that_was_set_back_makes_nothing_older_than_what_came_before() -> None:
    b = "b.default"
    told = spans(line(100, "Reserved"), line(200, "Released"), line(60, "Reserved", b), line(300, "Released", b))
    assert told == [("a.default", 100, 200), ("b.default", 200, 300)]


def test_what_is_about_no_reservation_begins_nothing() -> None:
    assert tenures([Entry(1, "Warning", "Reserved", "ledger", "", "")]) == []


# ---- against what really happened ------------------------------------------------------------------------------------

SUBNETS = ("net", "other")
ADDRESSES = ("10.0.0.7", "10.0.0.8")
NAMES = tuple(f"{letter}.default" for letter in "abcd")


class Life:
    """Reservations that come and go, what the journal gets of it, and who really held what after each entry."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.journal: list[Entry] = []
        self.truth: list[tuple[float, dict[tuple[str, str], str]]] = []
        self._holders: dict[tuple[str, str], str] = {}
        self._held: dict[str, tuple[str, str, str]] = {}  # name -> uid, subnet, address
        self._clock, self._latest = 1000.0, -math.inf

    def note(self, reason: str, name: str) -> None:
        uid, subnet, address = self._held[name]
        self._latest = max(self._latest, self._clock)
        mac = f"02:6f:76:00:00:{NAMES.index(name):02x}"
        self.journal.append(Entry(self._clock, "Normal", reason, name, uid, "", "", subnet, address, "", mac))
        self.truth.append((self._latest, dict(self._holders)))

    def go_on(self) -> None:
        chance = self.chance
        self._clock += chance.choice([0, 1, 1, 5])
        if chance.random() < 0.1:
            self._clock += chance.choice([-20, -3, 15])
        name = chance.choice(NAMES)
        if name not in self._held:
            place = chance.choice(SUBNETS), chance.choice(ADDRESSES)
            if place in self._holders:
                return
            self._held[name] = (f"uid {len(self.journal)}", *place)
            self._holders[place] = name
            self.note(chance.choice(["Reserved", "Followed"]), name)
            return
        place = self._held[name][1:]
        match chance.choice(["nothing", "leave", "release", "elsewhere", "fail", "again"]):
            case "nothing":
                self.note(chance.choice(["Conflicted", "PortMoved", "Relabelled", "Overruled"]), name)
            case "again":
                self.note(chance.choice(["Republished", "Rehomed", "Binding"]), name)
            case "leave":
                self.note("Releasing", name)
            case end:
                del self._holders[place]
                reason = {"release": "Released", "elsewhere": "ReleasedElsewhere", "fail": "Failed"}[end]
                self.note(reason, name)
                if end == "fail" and chance.random() < 0.5:
                    self.note("Released", name)
                del self._held[name]

    def holders_at(self, moment: float) -> dict[tuple[str, str], str]:
        return next((holders for at, holders in reversed(self.truth) if at <= moment), {})


def told_at(told: list[Tenure], moment: float) -> dict[tuple[str, str], str]:
    found = [t for t in told if t.held_within(moment, math.nextafter(moment, math.inf))]
    assert len({(t.subnet, t.v4) for t in found}) == len(found)
    return {(t.subnet, t.v4): t.name for t in found}


@settings(max_examples=200)
@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_who_held_what_at_any_time_is_what_really_was(chance: random.Random, steps: int) -> None:
    life = Life(chance)
    for _ in range(steps):
        life.go_on()
    told = tenures(life.journal)
    for moment in {at + part for at, _ in life.truth for part in (-0.5, 0, 0.5)}:
        assert told_at(told, moment) == life.holders_at(moment)


@settings(max_examples=200)
@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_an_answer_about_one_address_needs_the_entries_about_it_only(chance: random.Random, steps: int) -> None:
    life = Life(chance)
    for _ in range(steps):
        life.go_on()
    for address in ADDRESSES:
        about = [entry for entry in life.journal if entry.v4 == address]
        whole = [tenure for tenure in tenures(life.journal) if tenure.v4 == address]
        alone = tenures(about)
        assert [(t.name, t.uid) for t in alone] == [(t.name, t.uid) for t in whole]


entries = st.builds(
    Entry,
    st.floats(0, 100), st.just("Normal"), st.sampled_from([*MEANING, "Conflicted"]), st.sampled_from(NAMES),
    st.sampled_from(["", "u1", "u2", "u3"]), st.just(""), st.just(""), st.sampled_from(SUBNETS),
    st.sampled_from(["", *ADDRESSES]), st.just(""), st.sampled_from(["", MAC]),
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(entries, max_size=30))
def test_whatever_the_journal_says_no_two_hold_one_thing_at_once(journal: list[Entry]) -> None:
    by_claim: dict[tuple[str, str], list[Tenure]] = {}
    for tenure in tenures(journal):
        assert tenure.until is None or tenure.since is None or tenure.since <= tenure.until
        for what in filter(None, (tenure.v4, tenure.mac)):
            by_claim.setdefault((tenure.subnet, what), []).append(tenure)
    for held in by_claim.values():
        held.sort(key=lambda t: (-math.inf if t.since is None else t.since, math.inf if t.until is None else t.until))
        for before, after in pairwise(held):
            assert before.until is not None
            assert after.since is not None
            assert before.until <= after.since


# ---- names of the journal --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "about"),
    [
        ("vm-1.default", Involved("kubeovn.io/v1", "IP", "", "vm-1.default")),
        ("ledger", Involved("ovnreserve.io/v1", "Ledger", "", "ledger")),
        ("subnet/a/b", Involved("kubeovn.io/v1", "Subnet", "", "a/b")),
        ("ippool/web", Involved("kubeovn.io/v1", "IPPool", "", "web")),
        ("statefulset/prod/db", Involved("apps/v1", "StatefulSet", "prod", "db")),
        ("virtualmachine/prod/vm", Involved("kubevirt.io/v1", "VirtualMachine", "prod", "vm")),
        ("virtualmachine/vm", Involved("kubevirt.io/v1", "VirtualMachine", "", "vm")),
        ("what/ever", Involved("kubeovn.io/v1", "IP", "", "what/ever")),
    ],
)
def test_whom_an_entry_is_about(key: str, about: Involved) -> None:
    assert involved(key) == about
    found = keys_of(about.name, about.kind, about.namespace)
    assert found is None or key in found
    if not about.namespace:
        unsure = keys_of(about.name)
        assert about.kind in ("StatefulSet", "VirtualMachine") or (unsure is not None and key in unsure)


def test_the_index_of_ends_is_over_the_reasons_that_are() -> None:
    words = ", ".join(f"'{reason}'" for reason in ENDINGS)
    [*_, last] = [script for script in MIGRATIONS if "journal_ended" in script]
    assert f"WHERE reason IN ({words})" in last
