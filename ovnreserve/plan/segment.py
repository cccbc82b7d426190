"""One logical switch with all that holds addresses on it.

It answers who has an address or a MAC by look-ups, and is kept up to date by the world, holder by holder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final

from ovnreserve.model import exclude_ips
from ovnreserve.model.addresses import Cidr
from ovnreserve.model.exclude_ips import Parsed, TokenRuns
from ovnreserve.model.pool import Pool, Ranges, without
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.runs import Runs
from ovnreserve.model.topology import Port, Switch
from ovnreserve.plan.holdings import Claims
from ovnreserve.plan.pooled import NO_RANGES, Pools
from ovnreserve.plan.quarantine import Quarantine
from ovnreserve.plan.space import Space

FEW_PORTS: Final = 1000
"""Up to so many ports, a switch's are compared as a whole when an address is given or a port is pinned: 50 kB."""
Key = tuple[int, int]
"""(family, address)."""


class Segment:
    """One logical switch with all that holds addresses on it."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.v4: Space | None = None
        self.v6: Space | None = None
        self.excluded = TokenRuns()
        """What our part of exclude_ips should be: the IPv4 addresses of live reservations and of pools in force, but
        for those withheld.
        """
        self.withheld: set[int] = set()
        """Reserved or pooled addresses that would renumber somebody's running dynamic port if they were excluded."""
        self.pools = Pools()
        self.members = 0
        """How many ports the switch has."""
        self.pending: set[str] = set()
        self.port_addresses: dict[Key, set[str]] = {}
        self.shared: set[Key] = set()
        """Addresses that several ports hold (`Port.held`)."""
        self.reserved: dict[Key, str] = {}
        self.reserved_macs: dict[str, str] = {}
        self.port_macs: dict[str, set[str]] = {}
        self.special: set[str] = set()
        """Ports that say something about addresses beyond their own, and localnet ports."""
        self.dhcp: dict[str, int] = {}
        """DHCP_Options that ports of the switch use, with the number of ports."""
        self.reservations: set[str] = set()
        self.failed: set[str] = set()
        """Those of them that hold nothing."""
        self.routed: tuple[Cidr | None, Cidr | None] = (None, None)
        """The networks of the attached router ports, as they were last looked up."""
        self.routers: dict[Key, str] = {}
        """The addresses of these router ports, each with the port's name."""
        self.claims: Claims | None = None
        self.settled_for: Any = None
        self.released = {4: Quarantine(), 6: Quarantine()}
        """What is in quarantine, by family."""
        self._others: tuple[str, Claims] | None = None
        self._claimants: dict[Key, int] = {}
        """How many ports that are in `port_addresses` for an address do not hold it."""
        self._stirred: set[Key] = set()
        self._parsed: tuple[str, Cidr | None, Parsed] = ("", None, Parsed())
        self._split: tuple[tuple[str | None, str | None], tuple[str, str]] = ((None, None), ("", ""))

    @property
    def ours(self) -> str:
        """Our part of exclude_ips, as it is in the database."""
        return self._parts()[0]

    @property
    def theirs(self) -> str:
        """The operator's part of exclude_ips, byte for byte."""
        return self._parts()[1]

    def _parts(self) -> tuple[str, str]:
        whole = (self.switch.exclude_ips, self.switch.mark)
        if self._split[0] != whole:
            self._split = (whole, exclude_ips.split(whole[0] or "", whole[1]))
        return self._split[1]

    def parsed(self, cidr: Cidr) -> Parsed:
        """The operator's part of exclude_ips as ovn-northd reads it for that subnet: read when it has changed."""
        theirs = self.theirs
        if self._parsed[:2] != (theirs, cidr):
            self._parsed = theirs, cidr, exclude_ips.parse(theirs, cidr.first, cidr.prefixlen)
        return self._parsed[2]

    def take_stirred(self) -> set[Key]:
        """The addresses that several ports hold or held, and of whose ports one has changed since the last call. Ports
        of routers are among them.
        """
        stirred, self._stirred = self._stirred, set()
        return stirred

    @property
    def contested(self) -> set[Key]:
        """The addresses that several ports hold, or a port and a router."""
        return self.shared | (self.routers.keys() & self.port_addresses.keys())

    @property
    def kept(self) -> Iterator[str]:
        """The names of its reservations and pools."""
        return chain(self.reservations, self.pools.names)

    @property
    def spaces(self) -> Iterator[Space]:
        return (space for space in (self.v4, self.v6) if space is not None)

    def space(self, family: int) -> Space | None:
        return self.v4 if family == 4 else self.v6

    @property
    def networks(self) -> tuple[Cidr | None, Cidr | None]:
        return self.v4.cidr if self.v4 else None, self.v6.cidr if self.v6 else None

    @property
    def own_or_routed(self) -> tuple[Cidr | None, Cidr | None]:
        """The networks of the subnet that the switch is: its own, or of a switch that names none its routers'."""
        switch = self.switch
        return (switch.v4, switch.v6) if switch.is_subnet else self.routed

    def concerned(self, networks: tuple[Cidr | None, Cidr | None], claims: Claims | None) -> set[str]:
        """The reservations and pools for which something is not as it was with these networks and claims."""
        if networks != self.networks:
            return set(self.kept)
        before, now = (((found.v4, found.v6) if found else ({}, {})) for found in (claims, self.claims))
        names: set[str] = set()
        for family, old, new in zip((4, 6), before, now, strict=True):
            if old is not new and old != new:
                changed = {address for address, _holder in old.items() ^ new.items()}
                names.update(self.reserved[family, a] for a in changed if (family, a) in self.reserved)
        macs = (claims.macs if claims else {}), (self.claims.macs if self.claims else {})
        if macs[0] != macs[1]:
            changed_macs = {mac for mac, _holder in macs[0].items() ^ macs[1].items()}
            names.update(self.reserved_macs[mac] for mac in changed_macs & self.reserved_macs.keys())
        return names | self.failed

    def set_routers(self, routers: dict[Key, str]) -> bool:
        """Take note of the attached router ports' addresses. Has one come to or left an address that a port has?"""
        changed = {key for key, _name in routers.items() ^ self.routers.items() if key in self.port_addresses}
        self.routers = routers
        self._stirred |= changed
        return bool(changed)

    def set_networks(self, v4: Cidr | None, v6: Cidr | None) -> None:
        """Take these networks; spaces of a changed network are built anew from the holders."""
        if (self.v4.cidr if self.v4 else None) != v4:
            self.v4 = self._new_space(4, v4)
            self._others = None
        if (self.v6.cidr if self.v6 else None) != v6:
            self.v6 = self._new_space(6, v6)
            self._others = None

    def _new_space(self, family: int, cidr: Cidr | None) -> Space | None:
        if cidr is None:
            return None
        space = Space(cidr, self.released[family])
        for (fam, address), ports in self.port_addresses.items():
            if fam == family:
                for _ in ports:
                    space.hold(address)
        for fam, address in self.reserved:
            if fam == family:
                space.hold(address)
        space.set_pools(self.pools.runs(family))
        return space

    def set_others(self, claims: Claims) -> None:
        """Take note of the infrastructure's addresses and of the operator's excludes."""
        theirs = self.theirs
        if self._others == (theirs, claims):
            return
        self._others = (theirs, claims)
        self.claims = claims
        if self.v4 is not None:
            self.v4.set_others(claims.v4, self.parsed(self.v4.cidr).ranges)
        if self.v6 is not None:
            self.v6.set_others(claims.v6, ())

    # ---- holders ---------------------------------------------------------------------------------------------------

    def add_port(self, port: Port) -> None:
        self.members += 1
        macs, v4, v6 = port.own()
        held = port.held
        for family, addresses in ((4, v4), (6, v6)):
            space = self.space(family)
            for address in addresses:
                key = family, address
                self.port_addresses.setdefault(key, set()).add(port.uuid)
                if space is not None:
                    space.hold(address)
                if key not in held:
                    count(self._claimants, key, +1)
                elif len(self.port_addresses[key]) > 1:
                    self._share(key)
                elif key in self.routers:
                    self._stirred.add(key)
        for mac in macs:
            self.port_macs.setdefault(mac, set()).add(port.uuid)
        if port.pending:
            self.pending.add(port.uuid)
        if port.special or port.type == "localnet":
            self.special.add(port.uuid)
        for options in port.dhcp:
            count(self.dhcp, options, +1)

    def remove_port(self, port: Port) -> None:
        self.members -= 1
        macs, v4, v6 = port.own()
        held = port.held
        for family, addresses in ((4, v4), (6, v6)):
            space = self.space(family)
            for address in addresses:
                key = family, address
                discard(self.port_addresses, key, port.uuid)
                if space is not None:
                    space.let_go(address)
                if key not in held:
                    count(self._claimants, key, -1)
                elif key in self.shared:
                    self._share(key)
                elif key in self.routers:
                    self._stirred.add(key)
        for mac in macs:
            discard(self.port_macs, mac, port.uuid)
        self.pending.discard(port.uuid)
        self.special.discard(port.uuid)
        for options in port.dhcp:
            count(self.dhcp, options, -1)

    def _share(self, key: Key) -> None:
        """One of the ports that hold this address came or left."""
        if len(self.port_addresses.get(key, ())) - self._claimants.get(key, 0) > 1:
            self.shared.add(key)
        else:
            self.shared.discard(key)
        self._stirred.add(key)

    def add_reservation(self, r: Reservation, *, withheld: bool = False) -> None:
        self.reservations.add(r.name)
        if not r.live:
            self.failed.add(r.name)
            return
        self.reserved_macs[r.mac] = r.name
        for family, address in ((4, r.v4), (6, r.v6)):
            if address is not None:
                self.reserved[family, address] = r.name
                space = self.space(family)
                if space is not None:
                    space.hold(address)
        if r.v4 is not None:
            (self._withhold if withheld else self._exclude)(r.v4)

    def quarantine(self, family: int, address: int, since: float) -> None:
        """It was released at that time, whoever has it now."""
        self.released[family].add(address, since)
        space = self.space(family)
        if space is not None:
            space.rest(address)

    def end_quarantine(self, before: float, now: float) -> bool:
        """Let addresses be chosen again that were released until that time; were there any? See `Quarantine.end`."""
        woken = False
        for family, released in self.released.items():
            space = self.space(family)
            for address in released.end(before, now):
                woken |= space is not None and space.wake(address)
        return woken

    @property
    def has_quarantined(self) -> bool:
        return any(map(len, self.released.values()))

    def remove_reservation(self, r: Reservation, quarantined_at: float | None) -> None:
        self.reservations.discard(r.name)
        if not r.live:
            self.failed.discard(r.name)
            return
        del self.reserved_macs[r.mac]
        for family, address in ((4, r.v4), (6, r.v6)):
            if address is not None:
                del self.reserved[family, address]
                if quarantined_at is not None:
                    self.released[family].add(address, quarantined_at)
                space = self.space(family)
                if space is not None:
                    space.let_go(address)
        if r.v4 is not None and r.v4 not in self.pools.runs(4):
            if r.v4 in self.withheld:
                self.withheld.discard(r.v4)
            else:
                self.excluded.remove(r.v4)

    def put_pool(self, pool: Pool) -> None:
        """Exclude a pool's addresses, and of the one that it takes the place of only those that are reserved. Costs
        what differs between the two.
        """
        before = self.pools.ranges(pool.name)
        self.pools.put(pool)
        self._repool(before, self.pools.ranges(pool.name))

    def remove_pool(self, name: str) -> None:
        """Exclude of a pool's addresses only those that are reserved."""
        before = self.pools.ranges(name)
        self.pools.remove(name)
        self._repool(before, NO_RANGES)

    def _repool(self, before: tuple[Ranges, Ranges], now: tuple[Ranges, Ranges]) -> None:
        """Bring what is excluded and what is not to be chosen up to date: a pool had the addresses `before`, and has
        these now.
        """
        if before == now:
            return
        gone = without(before[0], now[0])
        for first, last in gone:
            self.excluded.remove_range(first, last)
            for run in self.pools.runs(4).runs_in(first, last):
                self.excluded.add_range(*run)
        for address in self.holders_in(4, gone, ports=False):
            self.excluded.add(address)
        for run in without(now[0], before[0]):
            self.excluded.add_range(*run)
        self.withheld = {address for address in self.withheld if self.is_ours(address)}
        for address in self.withheld:
            if address in self.excluded:
                self.excluded.remove(address)
        for family in (4, 6):
            space = self.space(family)
            if space is not None:
                space.set_pools(self.pools.runs(family))

    def holders_in(self, family: int, ranges: Ranges, *, ports: bool = True) -> Iterator[int]:
        """The addresses of some ranges that a reservation or (with `ports`) a port has, from the lowest. Looks at the
        addresses, or at everything that is held, whatever is less.
        """
        held: list[Mapping[tuple[int, int], object]] = [self.reserved]
        if ports:
            held.append(self.port_addresses)
        if sum(last - first + 1 for first, last in ranges) <= sum(map(len, held)):
            addresses = (address for first, last in ranges for address in range(first, last + 1))
            return (address for address in addresses if any((family, address) in index for index in held))
        runs = Runs(ranges)
        return iter(sorted({address for index in held for f, address in index if f == family and address in runs}))

    def kept_by(self, address: int) -> str | None:
        """The name of the reservation or the pool that keeps the IPv4 address."""
        pool = self.pools.at(4, address)
        return self.reserved.get((4, address), None if pool is None else pool.name)

    def is_ours(self, address: int) -> bool:
        """Is the IPv4 address one that is reserved or in a pool?"""
        return (4, address) in self.reserved or address in self.pools.runs(4)

    def _exclude(self, address: int) -> None:
        if address in self.withheld or address not in self.pools.runs(4):
            self.withheld.discard(address)
            self.excluded.add(address)

    def _withhold(self, address: int) -> None:
        self.withheld.add(address)
        if address in self.excluded:
            self.excluded.remove(address)

    def withhold(self, addresses: frozenset[int]) -> None:
        """Leave exactly these reserved or pooled addresses out of our part of exclude_ips."""
        for address in addresses - self.withheld:
            self.excluded.remove(address)
        for address in self.withheld - addresses:
            self.excluded.add(address)
        self.withheld = set(addresses)


def discard(index: dict[Any, set[str]], key: Any, member: str) -> None:
    members = index.get(key)
    if members is not None:
        members.discard(member)
        if not members:
            del index[key]


def count(counts: dict[Any, int], key: Any, sign: int) -> None:
    number = counts.get(key, 0) + sign
    if number:
        counts[key] = number
    else:
        counts.pop(key, None)
