"""Subnets as users see them: networks, gateways, whose excludes, and counts that add up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from builders import MAC, Cloud, reservation, wanted
from lifecycle import Site

from ovnreserve.engine.work import Apply, Delete, Refresh
from ovnreserve.model.ip import Subnet
from ovnreserve.plan.subnets import describe_subnet


def described(cloud: Cloud, switch: str) -> Subnet:
    found = describe_subnet(cloud.world, cloud.world.segments[switch])
    assert found is not None
    return found


def test_an_empty_subnet_has_nothing_in_use() -> None:
    cloud = Cloud()
    found = described(cloud, cloud.switch(v6="fd00::/64"))
    assert (found.v4, found.v6) == ("10.0.0.0/24", "fd00::/64")
    assert found.counts == (0, 254, 0, 2**64 - 1)
    assert (found.provider, found.vpc, found.gateways, found.exclude_ips) == ("ovn", "", (), ())


def test_only_the_operators_excludes_are_shown_and_ours_count_as_in_use() -> None:
    cloud = Cloud()
    switch = cloud.switch(excludes="10.0.0.1 10.0.0.100..10.0.0.109 // mine")
    cloud.reserve(switch)
    cloud.write_excludes(switch)
    found = described(cloud, switch)
    assert found.exclude_ips == ("10.0.0.1", "10.0.0.100..10.0.0.109")
    assert found.counts == (1, 254 - 1 - 11, 0, 0)


def test_each_address_counts_once_for_whoever_has_it_first() -> None:
    cloud = Cloud()
    switch = cloud.switch(excludes="10.0.0.1..10.0.0.5")
    cloud.port(switch, "p", f"{MAC} 10.0.0.2")
    cloud.port(switch, "q", f"{MAC} 10.0.0.2 10.0.0.9")
    cloud.reserve(switch, v4="10.0.0.9")
    cloud.router(switch, "10.0.0.1/24")
    assert described(cloud, switch).counts == (2, 254 - 2 - 4, 0, 0)


def test_what_was_released_a_short_while_ago_is_available_and_counted_by_itself() -> None:
    cloud = Cloud()
    switch = cloud.switch(v6="fd00::/64")
    cloud.reserve(switch, v4="10.0.0.9", v6="fd00::9")
    cloud.reserve(switch, "vm-2.default", v4="10.0.0.8", mac="02:6f:76:00:00:08")
    assert described(cloud, switch).quarantined == (0, 0)
    cloud.world.drop("vm-1.default", quarantined_at=100.0)
    cloud.world.drop("vm-2.default", quarantined_at=101.0)
    found = described(cloud, switch)
    assert found.quarantined == (2, 1)
    assert found.counts == (0, 254, 0, 2**64 - 1)
    assert cloud.world.end_quarantine(99.0) == set()
    assert cloud.world.end_quarantine(100.0) == {switch}
    assert described(cloud, switch).quarantined == (1, 0)


def test_gateways_are_the_router_ports_addresses_within_the_subnet_ipv4_first() -> None:
    cloud = Cloud()
    switch = cloud.switch(v6="fd00::/64", ids={"ovnreserve/provider": "net1.default.ovn"})
    cloud.router(switch, "fd00::1/64", "10.0.0.1/24", "192.168.0.1/24", name="lr1")
    cloud.router(switch, "10.0.0.254/24", name="lr0")
    found = described(cloud, switch)
    assert found.gateways == ("10.0.0.1", "10.0.0.254", "fd00::1")
    assert (found.vpc, found.provider) == ("lr0,lr1", "net1.default.ovn")


def test_a_switch_without_a_cidr_is_no_subnet() -> None:
    cloud = Cloud()
    switch = cloud.switch(subnet=None)
    assert describe_subnet(cloud.world, cloud.world.segments[switch]) is None
    cloud.router(switch, "10.9.0.1/24")
    assert described(cloud, switch).v4 == "10.9.0.0/24"


@pytest.mark.parametrize(
    "change",
    [
        lambda c, s: c.port(s, "p", f"{MAC} 10.0.0.9"),
        lambda c, s: c.reserve(s),
        lambda c, s: c.change("Logical_Switch", s, other_config={"subnet": "10.0.0.0/24", "exclude_ips": "10.0.0.9"}),
        lambda c, s: c.router(s, "10.0.0.9/24"),
    ],
)
def test_whatever_comes_is_counted(change: Any) -> None:
    cloud = Cloud()
    switch = cloud.switch()
    assert described(cloud, switch).counts[1] == 254
    change(cloud, switch)
    assert described(cloud, switch).counts[1] == 253


# ---- as published ----------------------------------------------------------------------------------------------------


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    found.close()


def used(site: Site, switch: str) -> int:
    """How many IPv6 addresses users see in use."""
    site.ask(Refresh())
    site.turn()
    return site.engine.published.subnets[switch].counts[2]


def test_an_ip_of_ipv6_alone_is_counted_until_it_is_released(site: Site) -> None:
    switch = site.database.switch(subnet=None, v6="fd00::/64")
    site.ask(Apply(wanted()))
    site.settle()
    site.ask(Delete("vm-1.default"))
    site.turn()
    site.serve()
    site.turn()
    assert used(site, switch) == 1  # until ovn-northd has seen it
    site.settle()
    assert used(site, switch) == 0


def test_a_standby_counts_what_the_active_daemon_has_reserved_of_ipv6_alone(site: Site) -> None:
    switch = site.database.switch(subnet=None, v6="fd00::/64")
    site.settle()
    site.wire.has_lock = False
    assert (used(site, switch), site.engine.published.state) == (0, "standby")
    site.database.record(reservation(switch, v4=None, v6="fd00::5"))
    assert used(site, switch) == 1
