"""What is suggested is what would be chosen, and of whatever is not free, it is said why."""

from __future__ import annotations

from typing import Any

import pytest
from builders import MAC, NOW, Cloud
from hypothesis import given, settings
from hypothesis import strategies as st
from test_space import NETWORKS, cidr

from ovnreserve.model.addresses import eui64, format_v4, format_v6, is_eui64, parse_v4, parse_v6
from ovnreserve.model.errors import Conflict, Invalid, NotFound, Refused
from ovnreserve.model.resource import State
from ovnreserve.plan.space import Space, without_eui64
from ovnreserve.plan.suggest import Explanation, Suggestion, explain, suggest

HOUR = 3600.0
AUTO = "ovnreserve/auto"


def texts(found: Suggestion) -> list[str]:
    return [found.cidr.format(address) for address in found.addresses]


def suggested(cloud: Cloud, count: int = 1, **how: Any) -> list[str]:
    return texts(suggest(cloud.world, "net", count, **how))


def explained(cloud: Cloud, address: str) -> Explanation:
    return explain(cloud.world, "net", address, HOUR)


# ---- suggest ---------------------------------------------------------------------------------------------------------


def chosen_one_after_the_other(space: Space, ranges: list[tuple[int, int]], count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count and (address := space.choose(ranges)) is not None:
        space.hold(address)
        found.append(address)
    return found


def near(text: str) -> st.SearchStrategy[int]:
    """Addresses at both ends of a network."""
    network = cidr(text)
    return st.one_of(
        st.integers(network.first, min(network.last, network.first + 16)),
        st.integers(max(network.first, network.last - 140), network.last),
    )


@st.composite
def filled(draw: st.DrawFn) -> tuple[Cloud, str, list[tuple[int, int]]]:
    """A subnet with ports' addresses, the operator's and some in quarantine; the ranges for automatic choices."""
    text = draw(st.sampled_from([*NETWORKS, "fd00::ff:fe00:0/103", "10.0.0.0/24", "fd00::/64"]))
    addresses = near(text)
    cloud = Cloud()
    is_v4 = cidr(text).bits == 32
    pairs = draw(st.lists(st.tuples(addresses, addresses).map(sorted), max_size=3))
    form = format_v4 if is_v4 else format_v6
    ids = {AUTO: " ".join(f"{form(first)}..{form(last)}" for first, last in pairs)}
    switch = cloud.switch(subnet="10.0.0.0/24" if is_v4 else None, v6=None if is_v4 else "fd00::/64", ids=ids)
    segment = cloud.segment(switch)
    family = 4 if is_v4 else 6
    space = segment._new_space(family, cidr(text))
    assert space is not None
    for address in draw(st.lists(addresses, max_size=30)):
        space.hold(address)
    at = 100.0
    for address in draw(st.lists(addresses, max_size=12)):
        segment.released[family].add(address, at)
        space.rest(address)
        at += 1.0
    if is_v4:
        segment.v4 = space
    else:
        segment.v6 = space
    return cloud, switch, [(first, last) for first, last in pairs]


@settings(max_examples=150)
@given(filled(), st.integers(1, 60))
def test_what_is_suggested_is_what_would_be_chosen_one_after_the_other(
    made: tuple[Cloud, str, list[tuple[int, int]]], count: int
) -> None:
    cloud, switch, ranges = made
    segment = cloud.world.segments[switch]
    space = segment.v4 or segment.v6
    assert space is not None
    resting = dict(space.quarantined)
    found = suggest(cloud.world, "net", count)
    assert found.quarantined == {a: resting[a] for a in found.addresses if a in resting}
    for address in found.addresses:
        reasons = explain(cloud.world, "net", space.cidr.format(address), HOUR).reasons
        assert len(reasons) == (address in resting)
        assert all(reason.startswith("in quarantine until ") for reason in reasons)
    assert found.addresses == chosen_one_after_the_other(space, ranges, count)


@settings(max_examples=150)
@given(filled(), st.integers(1, 40))
def test_a_run_is_the_highest_without_a_gap_and_free(
    made: tuple[Cloud, str, list[tuple[int, int]]], count: int
) -> None:
    cloud, switch, ranges = made
    segment = cloud.world.segments[switch]
    space = segment.v4 or segment.v6
    assert space is not None
    resting = dict(space.quarantined)
    found = suggest(cloud.world, "net", count, contiguous=True)
    free = set(chosen_one_after_the_other(space, ranges, 300))
    numbers = found.addresses
    assert numbers == list(range(numbers[0], numbers[0] - len(numbers), -1)) if numbers else not free
    assert set(numbers) <= free
    assert set(found.quarantined) == set(numbers) & resting.keys()

    def runs_among(addresses: set[int], length: int) -> list[int]:
        return [top for top in addresses if all(top - below in addresses for below in range(length))]

    awake = runs_among(free - resting.keys(), count)
    if awake:
        assert (numbers[0], len(numbers)) == (max(awake), count)
    elif whole := runs_among(free, count):
        assert (numbers[0], len(numbers)) == (max(whole), count)
    else:
        assert not runs_among(free, len(numbers) + 1)


@given(st.integers(0, 1 << 42), st.integers(0, 1 << 42))
def test_the_runs_between_what_eui64_makes_are_found_without_counting(one: int, other: int) -> None:
    first, last = min(one, other), max(one, other)
    runs = list(without_eui64(first, last))
    edge = last + 1
    for bottom, top in runs:
        assert first <= bottom <= top < edge
        assert not is_eui64(bottom)
        assert not is_eui64(top)
        assert top + 1 == edge or (is_eui64(top + 1) and is_eui64(edge - 1))
        edge = bottom
    assert edge == first or (is_eui64(first) and is_eui64(edge - 1))


def test_of_a_dual_stack_subnet_ipv4_is_suggested_and_ipv6_on_request() -> None:
    cloud = Cloud()
    cloud.switch(v6="fd00::/64")
    assert suggested(cloud, 2) == ["10.0.0.254", "10.0.0.253"]
    assert suggested(cloud, family=6) == ["fd00::ffff:ffff:ffff:ff7f"]


def test_of_an_ipv6_subnet_ipv6_is_suggested() -> None:
    cloud = Cloud()
    cloud.switch(subnet=None, v6="fd00::/64")
    assert suggested(cloud) == ["fd00::ffff:ffff:ffff:ff7f"]
    with pytest.raises(Invalid, match="has no IPv4 CIDR"):
        suggested(cloud, family=4)


def test_a_subnet_of_sixteen_million_addresses_is_never_counted() -> None:
    cloud = Cloud()
    switch = cloud.switch(subnet="10.0.0.0/8")
    cloud.port(switch, "p", f"{MAC} 10.255.255.200")
    assert suggested(cloud, 100, contiguous=True)[0] == "10.255.255.199"
    assert suggest(cloud.world, "net", 65536).runs[1] == (parse_v4("10.254.255.254"), parse_v4("10.255.255.199"))


def test_a_subnet_is_not_found_or_ambiguous_in_the_words_of_get() -> None:
    cloud = Cloud()
    with pytest.raises(NotFound, match=r'subnets\.kubeovn\.io "net" not found'):
        suggested(cloud)
    cloud.switch(subnet=None)
    with pytest.raises(NotFound):
        suggested(cloud)
    one = cloud.switch()
    assert suggested(cloud) == ["10.0.0.254"]
    other = cloud.switch()
    with pytest.raises(Conflict, match=f"ambiguous: 2 logical switches have this name: {one}, {other}"):
        suggested(cloud)


@pytest.mark.parametrize("ask", [suggested, lambda cloud: explained(cloud, "10.0.0.9")])
def test_a_range_of_the_operator_that_cannot_be_read_is_refused(ask: Any) -> None:
    cloud = Cloud()
    cloud.switch(ids={AUTO: "10.0.0.9-10.0.0.20"})
    with pytest.raises(Invalid, match="neither ADDRESS nor"):
        ask(cloud)


# ---- explain ---------------------------------------------------------------------------------------------------------


def test_a_free_address_has_nothing_against_it() -> None:
    cloud = Cloud()
    cloud.switch(v6="fd00::/64")
    assert explained(cloud, "10.0.0.9") == Explanation("10.0.0.9", (), "")
    assert explained(cloud, "FD00:0::9") == Explanation("fd00::9", (), "")


@pytest.mark.parametrize(
    ("state", "phase"),
    [(State.HELD, "Reserved"), (State.INTENDED, "Pending"), (State.RELEASING, "Releasing")],
)
def test_a_reservation_is_named_with_its_phase(state: State, phase: str) -> None:
    cloud = Cloud()
    cloud.reserve(cloud.switch(), state=state)
    found = explained(cloud, "10.0.0.9")
    assert found.reasons == (f"held by IP vm-1.default ({phase})",)
    assert found.refusal == "held by IP vm-1.default"


def test_everybody_who_has_it_is_named() -> None:
    cloud = Cloud()
    switch = cloud.switch(excludes="10.0.0.1 10.0.0.5..10.0.0.9 // mine")
    r = cloud.reserve(switch)
    cloud.port(switch, r.name, r.port_addresses)
    cloud.port(switch, "squatter", f"{MAC} 10.0.0.9")
    cloud.router(switch, "10.0.0.9/24")
    assert explained(cloud, "10.0.0.9").reasons == (
        "held by IP vm-1.default (Bound)",
        "held by logical switch port vm-1.default",
        "held by logical switch port squatter",
        "held by logical router port lr0-port",
        "excluded by the operator (10.0.0.5..10.0.0.9 in other_config:exclude_ips)",
    )


@pytest.mark.parametrize(
    ("address", "reason", "may_be_given"),
    [
        ("10.0.0.0", "the network address of 10.0.0.0/24", False),
        ("10.0.0.255", "the broadcast address of 10.0.0.0/24", False),
        ("10.0.0.1", "the first host of 10.0.0.0/24, which is kept back", True),
        ("10.0.1.1", "outside of 10.0.0.0/24, fd00::/64", False),
        ("fe80::1", "outside of 10.0.0.0/24, fd00::/64", False),
        ("fd00::", "the Subnet-Router anycast address of fd00::/64", False),
        ("fd00::ffff:ffff:ffff:ff80", "one of the 128 highest of fd00::/64, which RFC 2526 keeps for anycast", True),
        ("fd00::200:ff:fe00:1", "what ovn-northd would make of MAC 00:00:00:00:00:01 (EUI-64)", True),
    ],
)
def test_an_address_may_be_none_to_choose_because_of_where_it_is(address: str, reason: str, may_be_given: bool) -> None:
    cloud = Cloud()
    cloud.switch(v6="fd00::/64")
    found = explained(cloud, address)
    assert found.reasons == (reason,)
    assert (not found.refusal) is may_be_given


def test_an_address_that_northd_may_make_of_a_mac_of_its_own_prefix_may_not_be_given() -> None:
    cloud = Cloud()
    cloud.switch(v6="fd00::/64")
    cloud.mac_prefix("0a:bb:cc")
    found = explained(cloud, format_v6(eui64(parse_v6("fd00::"), "0a:bb:cc:00:00:01")))
    assert found.refusal in found.reasons
    assert "MAC 0a:bb:cc:00:00:01" in found.refusal


def test_the_operators_own_may_be_given_all_the_same() -> None:
    cloud = Cloud()
    cloud.switch(excludes="10.0.0.5 .. 10.0.0.9", ids={AUTO: "10.0.0.9..10.0.0.20 fd00::1..fd00::9"})
    assert explained(cloud, "10.0.0.5") == Explanation(
        "10.0.0.5",
        (
            "excluded by the operator (10.0.0.5..10.0.0.9 in other_config:exclude_ips)",
            "outside of external_ids:ovnreserve/auto (10.0.0.9..10.0.0.20 fd00::1..fd00::9)",
        ),
        "",
    )


@pytest.mark.parametrize("subnet", ["10.0.0.8/31", "10.0.0.9/32"])
def test_of_the_smallest_subnets_nothing_is_chosen_but_may_be_given(subnet: str) -> None:
    cloud = Cloud()
    cloud.switch(subnet=subnet)
    assert explained(cloud, "10.0.0.9") == Explanation(
        "10.0.0.9", (f"on a subnet too small for automatic choices ({subnet})",), ""
    )


def test_what_was_released_is_in_quarantine_until_then() -> None:
    cloud = Cloud()
    cloud.reserve(cloud.switch())
    cloud.world.drop("vm-1.default", quarantined_at=float(NOW))
    [reason] = explained(cloud, "10.0.0.9").reasons
    assert reason.startswith("in quarantine until 20")
    assert explained(cloud, "10.0.0.9").refusal == ""


@pytest.mark.parametrize(
    ("namespaces", "reason", "refusal"),
    [
        (("prod",), "in IPPool pool-1, for namespace prod", "of IPPool pool-1, which is for namespace prod"),
        (
            (),
            "in IPPool pool-1, for nobody",
            "of IPPool pool-1, which is for nobody but whom annotation ovn.kubernetes.io/ip_pool gives it",
        ),
    ],
)
def test_what_a_pool_has_is_not_free_and_only_for_whom_the_pool_is_for(
    namespaces: tuple[str, ...], reason: str, refusal: str
) -> None:
    cloud = Cloud()
    switch = cloud.switch(v6="fd00::/64")
    cloud.pool(switch, "10.0.0.9..10.0.0.20", "fd00::1:0/112", namespaces=namespaces)
    assert explained(cloud, "10.0.0.9") == Explanation("10.0.0.9", (reason,), refusal)
    assert explained(cloud, "fd00::1:9") == Explanation("fd00::1:9", (reason,), refusal)
    assert explained(cloud, "10.0.0.21").reasons == ()
    cloud.reserve(switch)
    found = explained(cloud, "10.0.0.9")
    assert found.reasons == ("held by IP vm-1.default (Reserved)", reason)
    assert found.refusal == "held by IP vm-1.default"


@pytest.mark.parametrize("address", ["", "10.0.0", "10.0.0.256", "x" * 10_000, "10.0.0.9/24", "fe80::1%eth0"])
def test_what_is_no_address_is_refused(address: str) -> None:
    cloud = Cloud()
    cloud.switch()
    with pytest.raises(Refused, match="neither an IPv4 nor an IPv6 address"):
        explained(cloud, address)


@settings(max_examples=150)
@given(filled(), st.data())
def test_nothing_is_said_against_an_address_exactly_if_it_would_be_chosen(
    made: tuple[Cloud, str, list[tuple[int, int]]], data: st.DataObject
) -> None:
    cloud, switch, ranges = made
    segment = cloud.world.segments[switch]
    space = segment.v4 or segment.v6
    assert space is not None
    address = data.draw(near(str(space.cidr)))
    found = explain(cloud.world, "net", space.cidr.format(address), HOUR)
    within = not ranges or any(first <= address <= last for first, last in ranges)
    free = within and address not in space.quarantined and space.choose([(address, address)]) == address
    held = address in space._workload  # of whom only the space knows here
    assert (found.reasons == () and not held) is free
