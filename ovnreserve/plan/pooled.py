"""The pools of one switch: which of them has an address, and which a namespace may have addresses from.

Pools of a switch are disjoint when they are made. After a fork two may overlap all the same: then both keep what they
say, and an address that both have counts as the first one's by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ovnreserve.model.pool import Pool, Ranges
from ovnreserve.model.resource import State
from ovnreserve.model.runs import Runs

NO_RANGES: Final[tuple[Ranges, Ranges]] = ((), ())


class Pools:
    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}
        self._bound: dict[str, set[str]] = {}
        """The names of a namespace's pools."""
        self._each: dict[str, dict[int, Runs]] = {}
        """The addresses of each pool that is or was in force, by family."""
        self._runs = {4: Runs(), 6: Runs()}
        self._are_disjoint = True

    def __iter__(self) -> Iterator[Pool]:
        """By name."""
        return (self._pools[name] for name in sorted(self._pools))

    def get(self, name: str) -> Pool | None:
        return self._pools.get(name)

    @property
    def names(self) -> Iterable[str]:
        return self._pools.keys()

    def runs(self, family: int) -> Runs:
        """The addresses of all pools in force. Not to be changed."""
        return self._runs[family]

    def ranges(self, name: str) -> tuple[Ranges, Ranges]:
        """The addresses of a pool in force, of IPv4 and of IPv6; none of any other."""
        pool = self._pools.get(name)
        return (pool.v4, pool.v6) if pool is not None and pool.live else NO_RANGES

    def put(self, pool: Pool) -> None:
        """Take a pool, in the place of the one of its name. If its addresses differ, costs what all pools of the switch
        have of runs.
        """
        before = self.ranges(pool.name)
        self._unbind(pool.name)
        self._pools[pool.name] = pool
        now = self.ranges(pool.name)
        if now != before:
            self._each[pool.name] = {4: Runs(now[0]), 6: Runs(now[1])}
            self._renew()
        for namespace in pool.namespaces:
            self._bound.setdefault(namespace, set()).add(pool.name)

    def remove(self, name: str) -> None:
        self._unbind(name)
        self._pools.pop(name, None)
        if self._each.pop(name, None) is not None:
            self._renew()

    def acknowledge(self, pool: Pool) -> None:
        """Only its state changed, and it stays in force."""
        self._pools[pool.name] = pool

    def at(self, family: int, address: int) -> Pool | None:
        """The pool that has the address."""
        if address not in self._runs[family]:
            return None
        return next((self._pools[name] for name in sorted(self._each) if address in self._each[name][family]), None)

    def bound_to(self, namespace: str) -> list[Pool]:
        """The pools that are for the namespace, by name, also those that give nothing at present."""
        return [self._pools[name] for name in sorted(self._bound.get(namespace, ()))]

    def overlapping(self, name: str, family: int, first: int, last: int) -> Iterator[tuple[Pool, int, int]]:
        """The pools in force, but the one of that name, that have something of the range, and what. Where pools are
        disjoint and nobody else has any of it, looks at that pool alone.
        """
        mine = self._each.get(name)
        own = 0 if mine is None else mine[family].count_in(first, last)
        if self._are_disjoint and own == self._runs[family].count_in(first, last):
            return
        for other in sorted(self._each):
            if other != name:
                for begin, end in self._each[other][family].runs_in(first, last):
                    yield self._pools[other], begin, end

    def _unbind(self, name: str) -> None:
        pool = self._pools.get(name)
        for namespace in pool.namespaces if pool is not None else ():
            self._bound[namespace].discard(name)
            if not self._bound[namespace]:
                del self._bound[namespace]

    def _renew(self) -> None:
        for family in self._runs:
            self._runs[family] = Runs(run for runs in self._each.values() for run in runs[family])
        self._are_disjoint = all(
            sum(runs[family].count() for runs in self._each.values()) == all_.count()
            for family, all_ in self._runs.items()
        )


def gives(pool: Pool) -> bool:
    """Are addresses chosen from the pool?"""
    return pool.state in (State.INTENDED, State.HELD)
