"""A subnet's addresses against plain sets: who has which, which is chosen next, and how many there are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ovnreserve.model.addresses import Cidr, eui64, is_eui64, parse_cidr, parse_v4, parse_v6
from ovnreserve.plan.quarantine import Quarantine
from ovnreserve.plan.space import Space

Ranges = list[tuple[int, int]]


def cidr(text: str) -> Cidr:
    found = parse_cidr(text)
    assert found is not None
    return found


def space_of(text: str) -> Space:
    return Space(cidr(text))


def choosable(network: Cidr) -> list[int]:
    """What may be chosen in a network small enough to be written down."""
    addresses = range(network.first, network.last + 1)
    if network.bits - network.prefixlen < 2:
        return []
    if network.bits == 32:
        return list(addresses[2:-1])  # network, first host, broadcast
    lowest = addresses[1:] if network.prefixlen < 120 else addresses[2:]
    top = set(addresses[-128:]) if network.prefixlen < 120 else set()
    return [address for address in lowest if address not in top and not is_eui64(address)]


# Of an IPv6 subnet the part round an EUI-64 block: below it 0xff:fd..., above it 0xff:ff....
NETWORKS = [
    "10.0.0.0/28",
    "10.0.0.0/30",
    "10.0.0.0/31",
    "10.0.0.0/32",
    "fd00::/119",
    "fd00::/122",
    "fd00::fffe:ff00:0/119",
]


class AddressesOfASubnet(RuleBasedStateMachine):
    """`holders`, `infrastructure`, `operator`, `pools` and `released` are the model: plain sets of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.holders: list[int] = []
        self.infrastructure: set[int] = set()
        self.operator: set[int] = set()
        self.pools: set[int] = set()
        self.released: dict[int, int] = {}
        self.now = 0

    @initialize(text=st.sampled_from(NETWORKS))
    def begin(self, text: str) -> None:
        self.network = cidr(text)
        self.quarantine = Quarantine()
        self.space = Space(self.network, self.quarantine)
        self.choosable = choosable(self.network)
        first, last = self.network.hosts
        self.hosts = range(first, last + 1)

    def _address(self, data: st.DataObject) -> int:
        """One of both ends of the network or just outside, so that something happens often."""
        size = self.network.last - self.network.first
        near = data.draw(st.integers(-1, 12))
        return self.network.first + near if data.draw(st.booleans()) else self.network.first + size - near

    def _range(self, data: st.DataObject) -> tuple[int, int]:
        one, other = self._address(data), self._address(data)
        return min(one, other), max(one, other)

    @property
    def taken(self) -> set[int]:
        return {a for a in (*self.holders, *self.infrastructure, *self.operator) if a in self.hosts}

    @property
    def resting(self) -> dict[int, int]:
        return {a: since for a, since in self.released.items() if a in self.hosts and a not in self.taken}

    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        address = self._address(data)
        self.space.hold(address)
        self.holders.append(address)

    @rule()
    def hold_what_would_be_chosen(self) -> None:
        address = self.space.choose()
        if address is not None:
            self.space.hold(address)
            self.holders.append(address)

    @rule(data=st.data(), quarantined=st.booleans())
    def let_go(self, data: st.DataObject, quarantined: bool) -> None:
        if self.holders:
            address = self.holders.pop(data.draw(st.integers(0, len(self.holders) - 1)))
            if quarantined:
                self.quarantine.add(address, float(self.now))
                self.released[address] = self.now
            self.space.let_go(address)

    @rule(data=st.data())
    def let_go_of_what_nobody_holds(self, data: st.DataObject) -> None:
        address = self._address(data)
        if address not in self.holders:
            self.space.let_go(address)

    @rule(data=st.data(), count=st.integers(0, 3))
    def set_others(self, data: st.DataObject, count: int) -> None:
        self.infrastructure = {self._address(data) for _ in range(count)}
        ranges = [self._range(data) for _ in range(data.draw(st.integers(0, 2)))]
        self.operator = {address for first, last in ranges for address in range(first, last + 1)}
        self.space.set_others(dict.fromkeys(self.infrastructure, "somebody"), ranges)

    @rule(data=st.data(), count=st.integers(0, 3))
    def set_pools(self, data: st.DataObject, count: int) -> None:
        ranges = [self._range(data) for _ in range(count)]
        self.pools = {a for first, last in ranges for a in range(first, last + 1) if a in self.hosts}
        self.space.set_pools(ranges)

    @rule(seconds=st.integers(0, 5))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        for address in self.quarantine.end(self.now - 5):
            self.space.wake(address)
        self.released = {a: since for a, since in self.released.items() if since > self.now - 5}

    @rule(data=st.data())
    def what_was_released_before_a_restart_is_remembered(self, data: st.DataObject) -> None:
        address = self._address(data)
        self.quarantine.add(address, float(self.now))
        self.released[address] = self.now
        self.space.rest(address)

    @rule()
    def it_is_made_anew_from_what_is_known(self) -> None:
        operator = [(address, address) for address in sorted(self.operator)]
        self.space = Space(self.network, self.quarantine)
        for address in self.holders:
            self.space.hold(address)
        self.space.set_pools([(address, address) for address in sorted(self.pools)])
        self.space.set_others(dict.fromkeys(self.infrastructure, "somebody"), operator)

    @rule(data=st.data(), count=st.integers(1, 3))
    def choose_within_ranges(self, data: st.DataObject, count: int) -> None:
        ranges = [self._range(data) for _ in range(count)]
        within = {address for first, last in ranges for address in range(first, last + 1)}
        self._check_choice(self.space.choose(ranges), [a for a in self.choosable if a in within])

    @rule(data=st.data(), count=st.integers(1, 3))
    def choose_from_a_pool(self, data: st.DataObject, count: int) -> None:
        """Any host of it may be chosen, but what EUI-64 could make."""
        pool = [self._range(data) for _ in range(count)]
        within = sorted({a for first, last in pool for a in range(first, last + 1) if a in self.hosts})
        fit = [a for a in within if self.network.bits == 32 or not is_eui64(a)]
        self._check_choice(self.space.choose(pool=pool), fit, pooled=True)
        used = [a for a in within if a in self.taken]
        assert self.space.count_free(pool) == (len(used), len(within) - len(used))

    @invariant()
    def the_highest_free_address_is_chosen_and_one_in_quarantine_last(self) -> None:
        self._check_choice(self.space.choose(), self.choosable)

    def _check_choice(self, chosen: int | None, choosable: list[int], *, pooled: bool = False) -> None:
        taken = self.taken
        free = [a for a in choosable if a not in taken and (pooled or a not in self.pools)]
        rested = [a for a in free if a not in self.resting]
        if rested:
            assert chosen == max(rested)
        elif chosen is None:
            assert not free
        else:
            assert chosen in free
            assert self.released[chosen] == min(self.released[a] for a in free)

    @invariant()
    def counts_are_the_sizes_of_the_sets(self) -> None:
        holders = set(self.holders)
        excluded = {a for a in self.operator if a in self.hosts} - holders | self.pools - self.taken
        used = {a for a in holders | self.infrastructure if a in self.hosts} - excluded
        assert self.space.excluded == len(excluded)
        assert self.space.used == len(used)
        assert self.space.free == len(self.hosts) - len(used) - len(excluded)
        assert self.space.used + self.space.free + self.space.excluded == self.network.size
        assert self.space.at_once == len(set(self.hosts) - self.taken - self.resting.keys() - self.pools)

    @invariant()
    def each_class_is_known(self) -> None:
        assert self.space.quarantined == self.resting
        assert self.space.resting == len(self.resting)
        assert {a for a in self.hosts[:300] if self.space.is_resting(a)} <= self.resting.keys()
        for address in (a for a in self.infrastructure if a in self.hosts):
            assert self.space.infrastructure_holder(address) == "somebody"

    @rule(count=st.integers(1, 6))
    def what_northd_would_choose_next(self, count: int) -> None:
        """From the bottom up; it knows nothing of quarantine, but that only makes it choose lower."""
        if self.network.bits == 32:
            taken = self.taken
            free = [a for a in self.choosable if a not in taken | self.resting.keys() | self.pools]
            assert self.space.lowest_free(count) == (free[count - 1] if len(free) >= count else None)


TestAddressesOfASubnet = AddressesOfASubnet.TestCase
TestAddressesOfASubnet.settings = settings(max_examples=150, stateful_step_count=30)


# ---- choosing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("10.0.0.0/24", "10.0.0.254"),
        ("10.0.0.0/29", "10.0.0.6"),
        ("10.0.0.0/30", "10.0.0.2"),
        ("10.0.0.0/31", None),
        ("10.0.0.0/32", None),
        ("0.0.0.0/0", "255.255.255.254"),
    ],
)
def test_an_empty_ipv4_subnet_gives_its_last_host(text: str, chosen: str | None) -> None:
    assert space_of(text).choose() == (None if chosen is None else parse_v4(chosen))


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("fd00::/64", "fd00::ffff:ffff:ffff:ff7f"),
        ("fd00::/48", "fd00::ffff:ffff:ffff:ffff:ff7f"),
        ("fd00::/120", "fd00::ff"),
        ("fd00::/126", "fd00::3"),
        ("fd00::/127", None),
        ("fd00::/128", None),
    ],
)
def test_an_empty_ipv6_subnet_gives_the_one_below_the_anycast_addresses(text: str, chosen: str | None) -> None:
    assert space_of(text).choose() == (None if chosen is None else parse_v6(chosen))


def test_all_that_eui64_could_make_is_passed_over() -> None:
    space = space_of("fd00::/64")
    block = parse_v6("fd00::ff:fe00:0")
    assert space.choose([(block - 5, block + (1 << 24) - 1)]) == block - 1
    space.hold(block - 1)
    assert space.choose([(block - 5, block + (1 << 24) - 1)]) == block - 2
    assert space.choose([(block, block + (1 << 24) - 1)]) is None


@given(st.binary(min_size=6, max_size=6))
def test_no_address_is_chosen_that_a_mac_gives(octets: bytes) -> None:
    space = space_of("fd00::/64")
    at = eui64(parse_v6("fd00::"), octets.hex(":"))
    chosen = space.choose([(at - 3, at + 3)])
    assert chosen is None or not is_eui64(chosen)


def test_of_overlapping_ranges_the_highest_address_is_chosen() -> None:
    first, last = parse_v4("10.0.0.20"), parse_v4("10.0.0.40")
    for ranges in ([(first, last), (first + 5, last - 5)], [(first + 5, last - 5), (first, last)]):
        assert space_of("10.0.0.0/24").choose(ranges) == last


def test_a_range_beside_the_subnet_has_nothing_to_give() -> None:
    assert space_of("10.0.0.0/24").choose([(parse_v4("10.0.1.1"), parse_v4("10.0.1.9"))]) is None


def quarantined(text: str, since: dict[int, float]) -> tuple[Space, Quarantine]:
    released = Quarantine()
    for address, at in since.items():
        released.add(address, at)
    return Space(cidr(text), released), released


def test_one_in_quarantine_is_chosen_before_none_and_the_one_released_first() -> None:
    octets = (4, 2, 6, 3, 5)
    since = {parse_v4(f"10.0.0.{octet}"): 100.0 + number for number, octet in enumerate(octets)}
    space, released = quarantined("10.0.0.0/29", since)
    assert space.choose() == parse_v4("10.0.0.4")
    assert space.free == 6
    assert all(map(space.wake, released.end(101.0)))
    assert space.choose() == parse_v4("10.0.0.4")
    space.hold(parse_v4("10.0.0.4"))
    assert space.choose() == parse_v4("10.0.0.2")


class Counted(float):
    """A time that counts how often it is compared with another."""

    compared = 0

    def __lt__(self, other: float) -> bool:
        Counted.compared += 1
        return float(self) < float(other)

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return float(self) == other

    __hash__ = float.__hash__


def test_what_comes_into_quarantine_again_is_put_in_its_place_without_a_look_at_all_the_others() -> None:
    """As a comparison of the stores adds all of them again."""
    many, first = 4_000, parse_v4("10.0.0.2")
    space, released = quarantined("10.0.0.0/16", {first + n: Counted(100.0 + n) for n in range(many)})
    Counted.compared = 0
    for n in range(many):
        released.add(first + n, Counted(99.5 + n))
        space.rest(first + n)
    for n in range(many):
        assert space.choose([(first, first + many - 1)]) == first + n, "the oldest"
        space.hold(first + n)
    assert Counted.compared < many * many / 10


def test_what_eui64_could_make_is_not_chosen_when_it_was_given_and_released_either() -> None:
    address = parse_v6("fd00::200:ff:fe00:1")
    space, _released = quarantined("fd00::/64", {address: 100.0})
    assert space.quarantined == {address: 100.0}
    assert space.choose([(address, address)]) is None


def test_a_time_in_the_future_counts_as_now_once_the_clock_was_set_back() -> None:
    released = Quarantine()
    for address, since in ((4, 9000.0), (5, 100.0), (6, 101.0)):
        released.add(address, since)
    assert [(address, released.since(address)) for address in released] == [(5, 100.0), (6, 101.0), (4, 9000.0)]
    assert released.end(100.0, 102.0) == [5]
    assert [(address, released.since(address)) for address in released] == [(6, 101.0), (4, 102.0)]
    assert released.end(102.0, 104.0) == [6, 4]
    assert not list(released)


def test_an_address_that_somebody_has_meanwhile_rests_on_when_it_is_left() -> None:
    address = parse_v4("10.0.0.254")
    space, released = quarantined("10.0.0.0/24", {address: 100.0})
    for _ in range(2):
        space.hold(address)
    assert not space.quarantined
    space.let_go(address)
    assert not space.quarantined
    space.let_go(address)
    assert space.quarantined == {address: 100.0}
    space.set_others({address: "somebody"}, ())
    assert not space.quarantined
    space.set_others({}, [(address, address)])
    assert not space.quarantined
    space.set_others({}, ())
    assert space.quarantined == {address: 100.0}
    space.hold(address)
    assert [space.wake(each) for each in released.end(100.0)] == [False]
    space.let_go(address)
    assert space.choose() == address


def test_counts_of_an_ipv6_subnet_are_exact() -> None:
    space = space_of("fd00::/64")
    space.hold(parse_v6("fd00::5"))
    assert (space.used, space.free) == (1, 2**64 - 2)
