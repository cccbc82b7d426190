"""The addresses of one family on one switch: who has which, and which to choose next.

Every address of the network is in one of these classes, and the counts of `get subnet` are their sizes:

    workload          held by a port or a reservation, with the number of holders
    infrastructure    held by anything else the database names (router ports, NAT, virtual IPs, ...)
    operator          in the operator's part of exclude_ips
    quarantine        released a short while ago; free, but not chosen while another is
    pool              free, but chosen only for an IP that is to be from that pool
    free

`taken` is the union of the first four as sorted runs, so that the highest free address of a window is one
look-up, at any fill and fragmentation, for IPv4 and IPv6 alike. A holder that comes or goes costs one run operation.
The operator's ranges and the infrastructure change seldom; then `taken` is built anew.

Choosing goes from the top down: ovn-northd chooses from the bottom up, so the race with it is closed, and what we
exclude merges into few ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import chain
from operator import itemgetter
from typing import Final

from ovnreserve.model.addresses import Cidr, is_eui64
from ovnreserve.model.runs import Runs
from ovnreserve.plan.quarantine import Quarantine

RESERVED_ANYCAST: Final = 128
"""Interface ids at the top of an IPv6 subnet that RFC 2526 keeps for anycast."""


class Space:
    """`released` is what is in quarantine on its switch; it is kept by the switch's segment."""

    def __init__(self, cidr: Cidr, released: Quarantine | None = None) -> None:
        self.cidr = cidr
        self.taken = Runs()
        self._first, self._last = cidr.hosts
        self._window = self.window()
        self._workload: dict[int, int] = {}
        self._infrastructure: Mapping[int, str] = {}
        self._operator = Runs()
        self._operator_workload = 0
        self._released = Quarantine() if released is None else released
        self._resting = Quarantine()
        """What of it nobody has."""
        self._pools = Runs()
        self._pooled_taken = 0
        """How many addresses of pools are taken."""
        self._rest_all()

    # ---- holders ---------------------------------------------------------------------------------------------------

    def hold(self, address: int) -> None:
        """One more port or reservation holds the address. Addresses outside the hosts of the network are none of
        ours.
        """
        if not self._first <= address <= self._last:
            return
        holders = self._workload.get(address, 0)
        self._workload[address] = holders + 1
        if holders or self._take(address):
            return
        self._resting.discard(address)
        self._operator_workload += address in self._operator

    def let_go(self, address: int) -> None:
        """One of its holders is gone."""
        holders = self._workload.get(address, 0)
        if holders > 1:
            self._workload[address] = holders - 1
        elif holders:
            del self._workload[address]
            if address in self._operator:
                self._operator_workload -= 1
            elif address in self._infrastructure:
                pass
            elif address in self._released:
                self._resting.add(address, self._released.since(address))
            else:
                self._give_back(address)

    def _take(self, address: int) -> bool:
        is_new = self.taken.add(address)
        self._pooled_taken += is_new and address in self._pools
        return is_new

    def _give_back(self, address: int) -> None:
        self.taken.remove(address)
        self._pooled_taken -= address in self._pools

    def set_pools(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Replace the pools' addresses (ranges, both ends included). Costs what the pools have of runs."""
        clipped = ((max(first, self._first), min(last, self._last)) for first, last in ranges)
        self._pools = Runs(run for run in clipped if run[0] <= run[1])
        self._count_pools()

    def _count_pools(self) -> None:
        self._pooled_taken = sum(self.taken.count_in(first, last) for first, last in self._pools)

    def set_others(self, infrastructure: Mapping[int, str], operator: Iterable[tuple[int, int]]) -> None:
        """Replace what the infrastructure holds and what the operator excludes (ranges, both ends included)."""
        self._infrastructure = {a: who for a, who in infrastructure.items() if self._first <= a <= self._last}
        self._operator = Runs()
        for first, last in operator:
            first, last = max(first, self._first), min(last, self._last)  # noqa: PLW2901
            if first <= last:
                self._operator.add_range(first, last)
        self.taken = Runs()
        for first, last in self._operator:
            self.taken.add_range(first, last)
        for addresses in (self._infrastructure, self._workload):
            for address in addresses:
                self.taken.add(address)
        self._operator_workload = sum(address in self._operator for address in self._workload)
        self._count_pools()
        self._resting.clear()
        self._rest_all()

    def _rest_all(self) -> None:
        for address in self._released:
            self.rest(address)

    def rest(self, address: int) -> None:
        """An address has come into quarantine, or has another time there."""
        if self._first <= address <= self._last and (address in self._resting or self._take(address)):
            self._resting.add(address, self._released.since(address))

    def wake(self, address: int) -> bool:
        """It is not in quarantine any more; is it free because of that?"""
        if not self._resting.discard(address):
            return False
        self._give_back(address)
        return True

    @property
    def quarantined(self) -> dict[int, float]:
        """The free addresses in quarantine, each with the time of its release; the oldest first."""
        return {address: self._resting.since(address) for address in self._resting}

    @property
    def resting(self) -> int:
        """How many these are."""
        return len(self._resting)

    def is_resting(self, address: int) -> bool:
        return address in self._resting

    def infrastructure_holder(self, address: int) -> str | None:
        return self._infrastructure.get(address)

    def is_excluded(self, address: int) -> bool:
        """Does the operator exclude it, whoever holds it?"""
        return address in self._operator

    # ---- choosing --------------------------------------------------------------------------------------------------

    def window(self) -> tuple[int, int]:
        """The addresses that may be chosen: not the first host, which ovn-northd keeps back; empty for /31 and /32."""
        host_bits = self.cidr.bits - self.cidr.prefixlen
        if host_bits < 2:
            return 1, 0
        if self.cidr.bits == 128 and host_bits > 8:
            return self._first, self._last - RESERVED_ANYCAST
        return self._first + 1, self._last

    def choose(self, ranges: Iterable[tuple[int, int]] = (), pool: Iterable[tuple[int, int]] = ()) -> int | None:
        """The highest free address of the pool, if there is one; else the highest that is in no pool, within the ranges
        if there are any. One in quarantine only if nothing else is left.
        """
        windows = self._within(ranges, pool)
        for first, last in sorted(windows, key=itemgetter(1), reverse=True):
            address = self._highest_free(first, last, pooled=bool(pool))
            if address is not None:
                return address
        return next(self._rested(windows, pooled=bool(pool)), None)

    def choosable(self, ranges: Sequence[tuple[int, int]] = (), *, rested: bool = False) -> Iterator[tuple[int, int]]:
        """The runs of addresses that `choose` would give one after the other outside of pools, highest first; with
        `rested` those in quarantine count as free. The cost is that of the runs that are taken from it, but with
        `rested` that of all.
        """
        windows = Runs((first, last) for first, last in self._within(ranges) if first <= last)
        gaps: Iterable[tuple[int, int]] = chain.from_iterable(
            self.taken.gaps_down(first, last) for first, last in reversed(list(windows))
        )
        if rested:
            resting = ((address, address) for address in self._resting if address in windows)
            gaps = reversed(list(Runs([*gaps, *resting])))
        for first, last in chain.from_iterable(self._pools.gaps_down(first, last) for first, last in gaps):
            yield from ((first, last),) if self.cidr.bits == 32 else without_eui64(first, last)

    def rested(self, ranges: Sequence[tuple[int, int]] = ()) -> Iterator[int]:
        """What `choose` would give after these: the addresses in quarantine, the oldest first."""
        return self._rested(self._within(ranges), pooled=False)

    def _within(
        self, ranges: Iterable[tuple[int, int]], pool: Iterable[tuple[int, int]] = ()
    ) -> list[tuple[int, int]]:
        lowest, highest = (self._first, self._last) if pool else self._window
        return [(max(first, lowest), min(last, highest)) for first, last in pool or ranges] or [self._window]

    def _rested(self, windows: list[tuple[int, int]], *, pooled: bool) -> Iterator[int]:
        for address in self._resting:  # the oldest stand first
            if (
                any(first <= address <= last for first, last in windows)
                and (self.cidr.bits == 32 or not is_eui64(address))
                and (pooled or address not in self._pools)
            ):
                yield address

    def lowest_free(self, count: int) -> int | None:
        """The last of that many addresses free, counted from below, as ovn-northd chooses; None if fewer are."""
        at, highest = self.window()
        for first, last in merge(self.taken.runs_in(at, highest), self._pools.runs_in(at, highest)):
            if first - at >= count:
                break
            count -= max(first - at, 0)
            at = max(at, last + 1)
        address = at + count - 1
        return address if address <= highest else None

    def _highest_free(self, first: int, last: int, *, pooled: bool) -> int | None:
        while first <= last:
            address = self.taken.highest_absent(first, last)
            if address is not None and not pooled and address in self._pools:
                below = self._pools.highest_absent(first, address)
                if below is None:
                    return None
                last = below
                continue
            if address is None or self.cidr.bits == 32 or not is_eui64(address):
                return address
            last = (address >> 24 << 24) - 1  # below all that EUI-64 could make of these upper bits
        return None

    # ---- counts ----------------------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many addresses nobody holds or excludes, and no pool has; those in quarantine are free."""
        return self.cidr.size - self.taken.count() + len(self._resting) - self._pooled_free

    @property
    def at_once(self) -> int:
        """How many addresses may be chosen without a pool and before those in quarantine; costs nothing to ask."""
        return self.cidr.size - self.taken.count() - (self._pools.count() - self._pooled_taken)

    @property
    def _pooled_free(self) -> int:
        resting = sum(address in self._pools for address in self._resting) if self._pools else 0
        return self._pools.count() - self._pooled_taken + resting

    def count_free(self, ranges: Iterable[tuple[int, int]]) -> tuple[int, int]:
        """(used, free) addresses of a pool's ranges: those that a port, a reservation or the infrastructure has or the
        operator excludes, and the others.
        """
        clipped = ((max(first, self._first), min(last, self._last)) for first, last in ranges)
        within = Runs(run for run in clipped if run[0] <= run[1])
        used = sum(self.taken.count_in(first, last) for first, last in within)
        used -= sum(address in within for address in self._resting) if within else 0
        return used, within.count() - used

    @property
    def excluded(self) -> int:
        """How many addresses the operator excludes, or only the IPs of a pool may have, that no port or reservation
        holds all the same.
        """
        return self._operator.count() - self._operator_workload + self._pooled_free

    @property
    def used(self) -> int:
        return self.cidr.size - self.free - self.excluded


def without_eui64(first: int, last: int) -> Iterator[tuple[int, int]]:
    """What is left of a run of IPv6 addresses without all that EUI-64 could make, highest first."""
    while first <= last:
        if is_eui64(last):
            last = (last >> 24 << 24) - 1
            continue
        top = last >> 40 << 40 | 0xFFFEFFFFFF  # the last of a block; the next one is 2**40 below
        if top > last:
            top -= 1 << 40
        yield max(first, top + 1), last
        last = top
