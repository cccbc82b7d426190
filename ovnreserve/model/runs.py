"""Sets of addresses, kept as runs.

A run is a pair (first, last) of numbers, both included. A set of numbers has exactly one shortest list of
runs: sorted, disjoint, and with a gap of at least one number between neighbours. `Runs` keeps that list at
every moment (the invariant), as a sorted dictionary from each run's first number to its last. So:

- whether a number is in the set is asked of one run only, the last that starts at or below it;
- the neighbour *above* a number needs no search: it starts at that number plus one or does not touch it;
- the highest number missing below a limit is the limit itself, or the one just below the run that holds it,
  for next to a run there is always a gap: an address is chosen as fast in a full subnet as in an empty one.

Nothing is ever enumerated: what costs is the number of runs, not of addresses, so an IPv6 /64 is no larger
than an IPv4 /24. The first numbers are sorted in buckets, so that one that comes or goes moves a thousand others at
most. With 100k scattered runs a look-up costs 0.7 us and a change 2; with sortedcontainers.SortedDict, whose look-up
is a Python iterator, 1.7 and 4; with one sorted list 16, with one integer as a bit mask 600 to 1700, with
netaddr.IPSet up to 290,000 (facts/performance.md section 5).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from itertools import chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Runs:
    """A set of non-negative integers of any size. Not to be changed while it is iterated."""

    __slots__ = ("_count", "_firsts", "_lasts")

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        """The union of `runs`, in any order, overlapping or not."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted(runs):
            _check(first, last)
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = merged[-1][0], max(last, merged[-1][1])
            else:
                merged.append((first, last))
        self._lasts = dict(merged)
        self._firsts = _Sorted([first for first, _last in merged])
        self._count = sum(last - first + 1 for first, last in merged)

    def __contains__(self, number: int) -> bool:
        return self._run_with(number) is not None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The runs as (first, last), lowest first."""
        lasts = self._lasts
        return ((first, lasts[first]) for first in self._firsts)

    def __bool__(self) -> bool:
        return bool(self._lasts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)})"

    def count(self) -> int:
        """How many numbers are in the set. A method, since len() ends at 2**63."""
        return self._count

    def add(self, number: int) -> bool:
        """Put `number` in; False, and nothing happens, if it is there."""
        first = self._firsts.at_or_below(number)
        if first is None or self._lasts[first] < number - 1:
            first = number
        elif self._lasts[first] >= number:
            return False
        last = number
        if number + 1 in self._lasts:
            last = self._lasts[number + 1]
            self._drop(number + 1)
        self._put(first, last)
        self._count += 1
        return True

    def remove(self, number: int) -> None:
        """Take `number` out. KeyError if it is not there."""
        first = number if number in self._lasts else self._firsts.at_or_below(number)
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

    def gaps_down(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The gaps between the runs from `first` to `last`, highest first, cut off at these two."""
        top = last
        for start in self._firsts.down_from(last):
            end = self._lasts[start]
            if first <= top and end < top:
                yield max(first, end + 1), top
            top = min(top, start - 1)
            if end < first or top < first:
                return
        if first <= top:
            yield first, top

    def runs_in(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The runs between `first` and `last`, lowest first, cut off at these two."""
        for start, end in self._overlapping(first, last):
            yield max(start, first), min(end, last)

    def count_in(self, first: int, last: int) -> int:
        """How many numbers from `first` to `last` are in the set. Grows with the runs between the two."""
        return sum(end - start + 1 for start, end in self.runs_in(first, last))

    # A run comes, ends elsewhere, or goes in these two only: what is kept beside the runs follows them.

    def _put(self, first: int, last: int) -> None:
        if first not in self._lasts:
            self._firsts.add(first)
        self._lasts[first] = last

    def _drop(self, first: int) -> None:
        self._firsts.remove(first)
        del self._lasts[first]

    def _run_with(self, number: int) -> tuple[int, int] | None:
        first = self._firsts.at_or_below(number)
        if first is None:
            return None
        last = self._lasts[first]
        return (first, last) if number <= last else None

    def _overlapping(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        if first > last:
            return
        start = self._firsts.at_or_below(first)
        for begin in self._firsts.between(first if start is None else start, last):
            end = self._lasts[begin]
            if end >= first:
                yield begin, end


_LOAD: Final = 512


class _Sorted:
    """Numbers in order: buckets of at most 2 * _LOAD, none of them empty, and the highest number of each."""

    __slots__ = ("_buckets", "_highest")

    def __init__(self, numbers: list[int]) -> None:
        self._buckets = [numbers[i : i + _LOAD] for i in range(0, len(numbers), _LOAD)]
        self._highest = [bucket[-1] for bucket in self._buckets]

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._buckets)

    def add(self, number: int) -> None:
        """Put in a number that is not there."""
        highest = self._highest
        if not highest:
            self._buckets.append([number])
            highest.append(number)
            return
        at = bisect_left(highest, number)
        if at == len(highest):
            at -= 1
            highest[at] = number
        bucket = self._buckets[at]
        insort(bucket, number)
        if len(bucket) > 2 * _LOAD:
            self._buckets.insert(at + 1, bucket[_LOAD:])
            del bucket[_LOAD:]
            highest.insert(at, bucket[-1])

    def remove(self, number: int) -> None:
        """Take out a number that is there."""
        at = bisect_left(self._highest, number)
        bucket = self._buckets[at]
        del bucket[bisect_left(bucket, number)]
        if bucket:
            self._highest[at] = bucket[-1]
        else:
            del self._buckets[at], self._highest[at]

    def at_or_below(self, number: int) -> int | None:
        """The highest that is not above `number`, or None."""
        at = bisect_left(self._highest, number)
        if at < len(self._highest):
            bucket = self._buckets[at]
            found = bisect_right(bucket, number)
            if found:
                return bucket[found - 1]
        return self._highest[at - 1] if at else None

    def down_from(self, number: int) -> Iterator[int]:
        """Those that are not above `number`, highest first."""
        at = bisect_left(self._highest, number)
        if at < len(self._highest):
            bucket = self._buckets[at]
            yield from reversed(bucket[: bisect_right(bucket, number)])
        for bucket in reversed(self._buckets[:at]):
            yield from reversed(bucket)

    def between(self, first: int, last: int) -> Iterator[int]:
        """Those from `first` to `last`, lowest first."""
        at = bisect_left(self._highest, first)
        for bucket in self._buckets[at:]:
            for number in bucket[bisect_left(bucket, first) :] if bucket[0] < first else bucket:
                if number > last:
                    return
                yield number


def _check(first: int, last: int) -> None:
    if first > last:
        raise ValueError(f"{first}..{last} is no run: it ends before it begins")
