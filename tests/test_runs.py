"""Runs against what they stand for: a plain set of integers."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ovnreserve.model.runs import Runs

BASE = 0xFD00 << 112  # an IPv6 network, where 64-bit integers would not do
WINDOW = range(BASE, BASE + 48)

numbers = st.sampled_from(WINDOW)
spans = st.tuples(numbers, numbers).map(lambda pair: (min(pair), max(pair)))
sets = st.frozensets(numbers)


def runs_of(members: frozenset[int]) -> Runs:
    return Runs((member, member) for member in members)


class RunsBehaveAsASet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runs = Runs()
        self.members: set[int] = set()

    @rule(number=numbers)
    def add(self, number: int) -> None:
        self.runs.add(number)
        self.members.add(number)

    @rule(number=numbers)
    def remove(self, number: int) -> None:
        if number in self.members:
            self.runs.remove(number)
            self.members.remove(number)
        else:
            with pytest.raises(KeyError):
                self.runs.remove(number)

    @rule(span=spans)
    def add_range(self, span: tuple[int, int]) -> None:
        self.runs.add_range(*span)
        self.members.update(range(span[0], span[1] + 1))

    @rule(span=spans)
    def remove_range(self, span: tuple[int, int]) -> None:
        self.runs.remove_range(*span)
        self.members.difference_update(range(span[0], span[1] + 1))

    @invariant()
    def holds_the_same_members(self) -> None:
        assert {n for first, last in self.runs for n in range(first, last + 1)} == self.members
        assert all((number in self.runs) == (number in self.members) for number in WINDOW)

    @invariant()
    def is_sorted_and_merged(self) -> None:
        assert all(first <= last for first, last in self.runs)
        assert all(last + 1 < first for (_, last), (first, _) in pairwise(self.runs))

    @invariant()
    def counts_its_members(self) -> None:
        assert self.runs.count() == len(self.members)
        assert bool(self.runs) == bool(self.members)


TestRunsBehaveAsASet = RunsBehaveAsASet.TestCase


@given(sets, spans)
def test_highest_and_lowest_absent_are_the_ends_of_what_a_scan_finds_absent(members, span):
    runs, (first, last) = runs_of(members), span
    absent = [number for number in range(first, last + 1) if number not in members]
    assert runs.highest_absent(first, last) == max(absent, default=None)
    assert runs.lowest_absent(first, last) == min(absent, default=None)


@given(sets, spans)
def test_runs_in_a_window_are_the_runs_of_the_members_in_the_window(members, span):
    first, last = span
    inside = frozenset(member for member in members if first <= member <= last)
    assert list(runs_of(members).runs_in(first, last)) == list(runs_of(inside))
    assert runs_of(members).count_in(first, last) == len(inside)


@given(sets, spans)
def test_gaps_are_the_runs_of_what_is_absent_highest_first(members, span):
    first, last = span
    absent = frozenset(number for number in range(first, last + 1) if number not in members)
    assert list(runs_of(members).gaps_down(first, last)) == list(runs_of(absent))[::-1]


@given(st.lists(spans))
def test_runs_made_at_once_are_those_made_one_after_the_other(given_spans):
    runs = Runs()
    for span in given_spans:
        runs.add_range(*span)
    assert list(Runs(given_spans)) == list(runs)
    assert Runs(given_spans).count() == runs.count()


def test_an_empty_window_has_nothing_in_it():
    runs = Runs([(5, 9)])
    assert runs.highest_absent(4, 3) is None
    assert runs.lowest_absent(4, 3) is None
    assert list(runs.runs_in(8, 6)) == []
    assert list(runs.gaps_down(4, 3)) == []


def test_a_run_that_ends_before_it_begins_is_refused_and_changes_nothing():
    runs = Runs([(5, 9)])
    for change in runs.add_range, runs.remove_range:
        with pytest.raises(ValueError, match="ends before it begins"):
            change(7, 6)
    with pytest.raises(ValueError, match="ends before it begins"):
        Runs([(7, 6)])
    assert list(runs) == [(5, 9)]


def test_all_of_ipv6_is_one_run_with_an_exact_count():
    everything = Runs([(0, 2**128 - 1)])
    assert everything.count() == 2**128
    assert everything.highest_absent(0, 2**128 - 1) is None
    everything.remove(2**127)
    assert everything.count() == 2**128 - 1
    assert everything.highest_absent(0, 2**128 - 1) == everything.lowest_absent(0, 2**128 - 1) == 2**127
    assert repr(Runs([(1, 2)])) == "Runs([(1, 2)])"


def test_thousands_of_runs_are_kept_in_order_through_random_changes():
    """Enough of them that buckets split, run empty, and are looked up across their borders."""
    random = Random(7)
    numbers = {2 * number for number in range(4000)}
    runs = Runs((number, number) for number in numbers)
    for step in range(20_000):
        number = random.randrange(10_000)
        if number in numbers:
            numbers.remove(number)
            runs.remove(number)
        elif step % 3:
            assert runs.add(number)
            numbers.add(number)
        if step % 500 == 0:
            first, last = sorted((random.randrange(10_000), random.randrange(10_000)))
            inside = [number for number in range(first, last + 1) if number in numbers]
            assert [n for start, end in runs.runs_in(first, last) for n in range(start, end + 1)] == inside
            absent = [number for number in range(first, last + 1) if number not in numbers]
            assert runs.highest_absent(first, last) == max(absent, default=None)
            assert runs.lowest_absent(first, last) == min(absent, default=None)
            gaps = list(runs.gaps_down(first, last))
            assert [n for start, end in reversed(gaps) for n in range(start, end + 1)] == absent
    assert [n for start, end in runs for n in range(start, end + 1)] == sorted(numbers)
    for number in sorted(numbers):
        runs.remove(number)
    assert not runs
    assert runs.count() == 0
