"""Quarantine: which addresses were released a short while ago, so that others are chosen first.

An address stays in it until its time is over, whatever happens to it meanwhile: somebody may take it and leave it
again, the operator may exclude it for a moment, the subnet may lose its network and get it back.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from math import inf


class Quarantine:
    """Addresses of one family on one switch with the times of their release, in seconds since the epoch. Iterates over
    the addresses, the oldest release first.
    """

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._order: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._since)

    def __iter__(self) -> Iterator[int]:
        return (address for _since, address in self._order)

    def __contains__(self, address: int) -> bool:
        return address in self._since

    def since(self, address: int) -> float:
        return self._since[address]

    def add(self, address: int, since: float) -> None:
        """One that is there already has the new time."""
        if self._since.get(address) != since:
            self.discard(address)
            self._since[address] = since
            insort(self._order, (since, address))  # nearly always the last

    def discard(self, address: int) -> bool:
        """Was it there?"""
        since = self._since.pop(address, None)
        if since is None:
            return False
        del self._order[bisect_left(self._order, (since, address))]
        return True

    def clear(self) -> None:
        self._since.clear()
        self._order.clear()

    def end(self, before: float, now: float = inf) -> list[int]:
        """Forget the addresses released until that time, and return them. A time in the future, as there is once the
        clock was set back, counts as now. Costs what it forgets.
        """
        if self._order and self._order[-1][0] > now:
            self._since = {address: min(since, now) for address, since in self._since.items()}
            self._order = sorted((since, address) for address, since in self._since.items())
        count = bisect_left(self._order, (before, inf))
        ended = [address for _since, address in self._order[:count]]
        del self._order[:count]
        for address in ended:
            del self._since[address]
        return ended
