"""Claims while they are gathered: of one switch (`Found`), and of what may be attached to any (`Holdings`)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from operator import itemgetter
from typing import Final, NamedTuple

from ovnreserve.model import ovn_text
from ovnreserve.model.addresses import Cidr

RANGE_LIMIT: Final = 1 << 16
"""No more addresses than this are claimed of one range, its first ones."""

_BITS: Final = {4: 32, 6: 128}


class Claims(NamedTuple):
    """Addresses inside the switch's subnets, and MACs, with their holders as a user knows them."""

    v4: dict[int, str]
    v6: dict[int, str]
    macs: dict[str, str]


class Found:
    """The claims on one switch while they are gathered. The first holder of an address or MAC stays."""

    def __init__(self, subnet4: Cidr | None, subnet6: Cidr | None) -> None:
        self.subnet6 = subnet6
        self.subnets = {4: subnet4, 6: subnet6}
        self.v4: dict[int, str] = {}
        self.v6: dict[int, str] = {}
        self.macs: dict[str, str] = {}

    def claim(self, text: str, holder: str, mac: str | None = None) -> None:
        family, address = ovn_text.address_of(text)
        if family:
            self.claim_address(family, address, holder, mac)

    def claim_address(self, family: int, address: int, holder: str, mac: str | None = None) -> None:
        self.claim_range(family, address, address, holder, mac)

    def claim_range(self, family: int, first: int, last: int, holder: str, mac: str | None = None) -> None:
        """Claim what of the range is in the subnet, and `mac` if anything is."""
        subnet = self.subnets[family]
        if subnet is None:
            return
        first, last = max(first, subnet.first), min(last, subnet.last)
        if first > last:
            return
        addresses = self.v4 if family == 4 else self.v6
        for address in range(first, min(last + 1, first + RANGE_LIMIT)):
            addresses.setdefault(address, holder)
        self.claim_mac(mac, holder)

    def claim_mac(self, text: str | None, holder: str) -> str | None:
        """Claim a MAC in any case, and return it as written here; None if it is none."""
        mac = ovn_text.mac_of(text)
        if mac is not None:
            self.macs.setdefault(mac, holder)
        return mac

    def is_all(self, family: int, first: int, last: int) -> bool:
        """Does the range hold the whole subnet? Who answers for all of it holds none of it."""
        subnet = self.subnets[family]
        return subnet is not None and first <= subnet.first and subnet.last <= last


class _Holding(NamedTuple):
    first: int
    last: int
    holder: str
    mac: str | None


class Holdings:
    """Who holds what, anywhere. Sorted when first asked: a subnet costs a bisection and its answer."""

    def __init__(self) -> None:
        self._singles: dict[int, list[_Holding]] = {4: [], 6: []}
        self._ranges: dict[int, list[_Holding]] = {4: [], 6: []}
        self._sorted = False

    def claim(self, text: str, holder: str, mac: str | None = None) -> None:
        family, address = ovn_text.address_of(text)
        if family:
            self.claim_address(family, address, holder, mac)

    def claim_address(self, family: int, address: int, holder: str, mac: str | None = None) -> None:
        self.claim_range(family, address, address, holder, mac)

    def claim_range(self, family: int, first: int, last: int, holder: str, mac: str | None = None) -> None:
        where = self._singles if first == last else self._ranges
        where[family].append(_Holding(first, last, holder, mac))

    def add(self, others: Holdings) -> None:
        for family in _BITS:
            self._singles[family] += others._singles[family]
            self._ranges[family] += others._ranges[family]

    def claim_on(self, found: Found) -> None:
        for family, holding in self._inside(found):
            found.claim_range(family, *holding)

    def holders_in(self, found: Found) -> set[str]:
        return {holding.holder for _, holding in self._inside(found)}

    def _inside(self, found: Found) -> Iterator[tuple[int, _Holding]]:
        if not self._sorted:
            for singles in self._singles.values():
                singles.sort(key=itemgetter(0))  # stable: of two holders the first stays the first
            self._sorted = True
        for family, subnet in found.subnets.items():
            if subnet is not None:
                singles = self._singles[family]
                start = bisect_left(singles, subnet.first, key=itemgetter(0))
                end = bisect_left(singles, subnet.last + 1, key=itemgetter(0))
                for holding in (*singles[start:end], *self._ranges[family]):
                    yield family, holding
