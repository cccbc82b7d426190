"""Waiting for ovn-northd: all who wait share what comes first, and a number that starts again at 0 fools nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnreserve.engine.barrier import Awaited, Barriers

INT64_MAX = 2**63 - 1


class Waiting:
    """Barriers and what those who wait were told."""

    def __init__(self) -> None:
        self.barriers = Barriers()
        self.told: list[tuple[str, bool]] = []

    def add(self, name: str, target: int, until: float = 100.0) -> None:
        self.barriers.add(Awaited(target, until, lambda seen: self.told.append((name, seen))))

    def check(self, sb_cfg: int | None, now: float = 0.0) -> list[tuple[str, bool]]:
        self.told = []
        self.barriers.check(sb_cfg, now)
        return self.told


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


def test_who_waits_is_told_once_when_northd_has_come_so_far(waiting: Waiting) -> None:
    waiting.add("a", 5)
    assert waiting.check(4) == []
    assert waiting.check(5) == [("a", True)]
    assert waiting.check(6) == []


def test_all_whose_number_is_reached_are_told_in_the_order_they_came(waiting: Waiting) -> None:
    for name, target in (("b", 7), ("a", 5), ("c", 9), ("d", 7)):
        waiting.add(name, target)
    assert waiting.check(8) == [("b", True), ("a", True), ("d", True)]
    assert waiting.check(9) == [("c", True)]


def test_who_has_waited_long_enough_is_told_that_it_was_not_seen(waiting: Waiting) -> None:
    waiting.add("a", 5, until=10.0)
    waiting.add("b", 5, until=20.0)
    assert waiting.check(4, now=9.9) == []
    assert waiting.check(4, now=10.0) == [("a", False)]
    assert waiting.check(5, now=30.0) == [("b", True)], "seen at last, though late"


def test_while_the_number_is_not_known_only_time_counts(waiting: Waiting) -> None:
    waiting.add("a", 0, until=10.0)
    assert waiting.check(None, now=5.0) == []
    assert waiting.check(None, now=float("inf")) == [("a", False)]


@pytest.mark.parametrize(
    ("sb_cfg", "target", "seen"), [(INT64_MAX, 1, False), (1, 1, True), (0, INT64_MAX, False), (2**31, 1, False)]
)
def test_a_number_that_started_again_is_not_taken_for_a_later_one(
    waiting: Waiting, sb_cfg: int, target: int, *, seen: bool
) -> None:
    waiting.add("a", target)
    assert waiting.check(sb_cfg) == ([("a", True)] if seen else [])


def test_who_is_told_may_wait_again(waiting: Waiting) -> None:
    waiting.barriers.add(Awaited(5, 100.0, lambda _seen: waiting.add("again", 6)))
    assert waiting.check(5) == []
    assert waiting.check(6) == [("again", True)]


def test_the_next_deadline_is_the_earliest(waiting: Waiting) -> None:
    assert waiting.barriers.next_deadline == float("inf")
    waiting.add("a", 5, until=20.0)
    waiting.add("b", 6, until=10.0)
    assert waiting.barriers.next_deadline == 10.0
    waiting.check(None, now=10.0)
    assert waiting.barriers.next_deadline == 20.0


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=6),
    st.lists(st.tuples(st.none() | st.integers(0, 9), st.integers(0, 9)), max_size=6),
)
def test_everybody_is_told_exactly_once_and_the_truth(
    waits: list[tuple[int, int]], checks: list[tuple[int | None, int]]
) -> None:
    waiting = Waiting()
    for number, (target, until) in enumerate(waits):
        waiting.add(str(number), target, float(until))
    told: dict[str, bool] = {}
    now = 0
    for sb_cfg, seconds in [*checks, (None, 100)]:
        now += seconds
        for name, seen in waiting.check(sb_cfg, now):
            assert name not in told
            told[name] = seen
            target, until = waits[int(name)]
            assert (sb_cfg is not None and sb_cfg >= target) if seen else now >= until
    assert len(told) == len(waits)


def test_without_a_row_of_nb_global_nothing_is_taken_for_an_answer() -> None:
    told: list[bool] = []
    barriers = Barriers()
    barriers.add(Awaited(None, 10.0, told.append))
    barriers.check(0, 0.0)
    barriers.check(INT64_MAX, 9.9)
    assert told == []
    barriers.check(INT64_MAX, 10.0)
    assert told == [False]


def test_what_goes_on_being_awaited_is_the_last_of_its_kind_and_ends_only_when_it_is_reached() -> None:
    told: list[str] = []
    barriers = Barriers()
    for target in (5, 7):
        barriers.go_on(Awaited(target, float("inf"), lambda seen, target=target: told.append(f"{target} {seen}")))
    barriers.check(6, 1e12)
    assert told == []
    barriers.check(7, 1e12)
    assert told == ["7 True"]
    assert barriers.next_deadline == float("inf")
