"""Quarantine: which addresses were released a short while ago, so that others are chosen first.

An address stays in it until its time is over, whatever happens to it meanwhile: somebody may take it and leave it
again, the operator may exclude it for a moment, the subnet may lose its network and get it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from operator import itemgetter


class Quarantine:
    """The addresses of one family on one switch with the times of their release, in seconds since the epoch. Iterates
    over the addresses, the oldest release first.
    """

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def __iter__(self) -> Iterator[int]:
        return iter(self._since)

    def __contains__(self, address: int) -> bool:
        return address in self._since

    def since(self, address: int) -> float:
        return self._since[address]

    def add(self, address: int, since: float) -> None:
        self._since.pop(address, None)
        is_older = bool(self._since) and since < next(reversed(self._since.values()))
        self._since[address] = since
        if is_older:  # the clock was set back
            self._since = dict(sorted(self._since.items(), key=itemgetter(1)))

    def end(self, before: float, now: float = inf) -> list[int]:
        """Forget the addresses released until that time, and return them. Stops at the first that was not. A time in
        the future, as there is once the clock was set back, counts as now.
        """
        if self._since and next(reversed(self._since.values())) > now:
            self._since = {address: min(since, now) for address, since in self._since.items()}
        ended = []
        for address, since in self._since.items():
            if since > before:
                break
            ended.append(address)
        for address in ended:
            del self._since[address]
        return ended
