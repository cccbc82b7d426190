"""Sets of addresses, kept as runs.

A run is a pair (first, last) of numbers, both included. A set of numbers has exactly one shortest list of
runs: sorted, disjoint, and with a gap of at least one number between neighbours. `Runs` keeps that list at
every moment (the invariant), as a sorted dictionary from each run's first number to its last. So:

- whether a number is in the set is asked of one run only, the last that starts at or below it;
- the neighbour *above* a number needs no search: it starts at that number plus one or does not touch it;
- the highest number missing below a limit is the limit itself, or the one just below the run that holds it,
  for next to a run there is always a gap: an address is chosen as fast in a full subnet as in an empty one.

Nothing is ever enumerated: what costs is the number of runs, not of addresses, so an IPv6 /64 is no larger
than an IPv4 /24. With 100k scattered runs (facts/performance.md section 5) a change costs 3 to 5 us.
With two plain sorted lists it costs 16, with one integer as a bit mask 600 to 1700, with netaddr.IPSet up to
290,000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sortedcontainers import SortedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Runs:
    """A set of non-negative integers of any size. Not to be changed while it is iterated."""

    __slots__ = ("_count", "_lasts")

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        """The union of `runs`, in any order, overlapping or not."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted(runs):
            _check(first, last)
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = merged[-1][0], max(last, merged[-1][1])
            else:
                merged.append((first, last))
        self._lasts: SortedDict[int, int] = SortedDict(merged)
        self._count = sum(last - first + 1 for first, last in merged)

    def __contains__(self, number: int) -> bool:
        return self._run_with(number) is not None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The runs as (first, last), lowest first."""
        return iter(self._lasts.items())

    def __bool__(self) -> bool:
        return bool(self._lasts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)})"

    def count(self) -> int:
        """How many numbers are in the set. A method, since len() ends at 2**63."""
        return self._count

    def add(self, number: int) -> None:
        """Put `number` in; nothing happens if it is there."""
        first = self._start_at_or_below(number)
        if first is None or self._lasts[first] < number - 1:
            first = number
        elif self._lasts[first] >= number:
            return
        last = number
        if number + 1 in self._lasts:
            last = self._lasts[number + 1]
            self._drop(number + 1)
        self._put(first, last)
        self._count += 1

    def remove(self, number: int) -> None:
        """Take `number` out. KeyError if it is not there."""
        first = number if number in self._lasts else self._start_at_or_below(number)
        if first is None or self._lasts[first] < number:
            raise KeyError(number)
        last = self._lasts[first]
        if first == number:
            self._drop(first)
        else:
            self._put(first, number - 1)
        if number < last:
            self._put(number + 1, last)
        self._count -= 1

    def add_range(self, first: int, last: int) -> None:
        """Put in every number from `first` to `last`, there already or not."""
        _check(first, last)
        for start, end in list(self._overlapping(first - 1, last + 1)):
            self._drop(start)
            self._count -= end - start + 1
            first, last = min(first, start), max(last, end)
        self._put(first, last)
        self._count += last - first + 1

    def remove_range(self, first: int, last: int) -> None:
        """Take out every number from `first` to `last`, there or not."""
        _check(first, last)
        for start, end in list(self._overlapping(first, last)):
            self._drop(start)
            if start < first:
                self._put(start, first - 1)
            if end > last:
                self._put(last + 1, end)
            self._count -= min(end, last) - max(start, first) + 1

    def highest_absent(self, first: int, last: int) -> int | None:
        """The highest number from `first` to `last` that is not in the set, or None."""
        run = self._run_with(last)
        candidate = last if run is None else run[0] - 1
        return candidate if candidate >= first else None

    def lowest_absent(self, first: int, last: int) -> int | None:
        """The lowest number from `first` to `last` that is not in the set, or None."""
        run = self._run_with(first)
        candidate = first if run is None else run[1] + 1
        return candidate if candidate <= last else None

    def runs_in(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The runs between `first` and `last`, lowest first, cut off at these two."""
        for start, end in self._overlapping(first, last):
            yield max(start, first), min(end, last)

    def count_in(self, first: int, last: int) -> int:
        """How many numbers from `first` to `last` are in the set. Grows with the runs between the two."""
        return sum(end - start + 1 for start, end in self.runs_in(first, last))

    # A run comes, ends elsewhere, or goes in these two only: what is kept beside the runs follows them.

    def _put(self, first: int, last: int) -> None:
        self._lasts[first] = last

    def _drop(self, first: int) -> None:
        del self._lasts[first]

    def _start_at_or_below(self, number: int) -> int | None:
        # irange() needs no positional index, as keys()[i] does, which is rebuilt after a sublist has split.
        start: int | None = next(self._lasts.irange(maximum=number, reverse=True), None)
        return start

    def _run_with(self, number: int) -> tuple[int, int] | None:
        first = self._start_at_or_below(number)
        if first is None:
            return None
        last = self._lasts[first]
        return (first, last) if number <= last else None

    def _overlapping(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        if first > last:
            return
        start = self._start_at_or_below(first)
        for begin in self._lasts.irange(first if start is None else start, last):
            end = self._lasts[begin]
            if end >= first:
                yield begin, end


def _check(first: int, last: int) -> None:
    if first > last:
        raise ValueError(f"{first}..{last} is no run: it ends before it begins")
