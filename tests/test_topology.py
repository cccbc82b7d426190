"""Switches and ports as they are read from rows: the forms of facts/ovn.md section 2.2."""

from __future__ import annotations

from typing import Any

import pytest
from builders import row_of
from hypothesis import given
from hypothesis import strategies as st

from ovnreserve.model.addresses import parse_either
from ovnreserve.model.topology import Element, Port, Switch, parse_element, port_of, switch_of

MAC = "0a:00:00:00:00:01"


def port(*addresses: str, assigned: str | None = None, **columns: Any) -> Port:
    row = row_of("Logical_Switch_Port", addresses=set(addresses), dynamic_addresses=assigned, **columns)
    return port_of("uuid", row, "switch")


def switch(config: dict[str, str], **ids: str) -> Switch:
    names = {f"ovnreserve/{key}": value for key, value in ids.items()}
    return switch_of("uuid", row_of("Logical_Switch", name="net", other_config=config, external_ids=names))


def said(element: Element) -> tuple[bool, str | None, list[str]]:
    from ovnreserve.model.addresses import format_v4, format_v6

    return element.dynamic, element.mac, [*map(format_v4, element.v4), *map(format_v6, element.v6)]


# ---- elements of a port's addresses ----------------------------------------------------------------------------------

NOTHING = (False, None, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MAC, (False, MAC, [])),
        (f"{MAC} 10.0.0.5", (False, MAC, ["10.0.0.5"])),
        (f"{MAC} 10.0.0.5/24", (False, MAC, ["10.0.0.5"])),
        (f"{MAC} 10.0.0.5 10.0.0.6 fd00::5 fd00::6", (False, MAC, ["10.0.0.5", "10.0.0.6", "fd00::5", "fd00::6"])),
        (f"{MAC} fd00::5/64 10.0.0.5", (False, MAC, ["10.0.0.5", "fd00::5"])),
        (f"  {MAC.upper()}   10.0.0.5 ", (False, MAC, ["10.0.0.5"])),
        ("a:0:0:0:0:1 10.0.0.5", (False, MAC, ["10.0.0.5"])),
        ("10.0.0.5", NOTHING),
        ("fd00::5", NOTHING),
        ("1:2:3:4::5 10.0.0.5", NOTHING),
        ("dynamic", (True, None, [])),
        (f"{MAC} dynamic", (True, MAC, [])),
        ("dynamic 10.0.0.5", (True, None, ["10.0.0.5"])),
        ("dynamic fd00::5", (True, None, ["fd00::5"])),
        ("dynamic 10.0.0.5 fd00::5", (True, None, ["10.0.0.5", "fd00::5"])),
        (f"{MAC} dynamic 10.0.0.5", NOTHING),
        ("unknown", NOTHING),
        ("router", NOTHING),
        ("", NOTHING),
        ("dynamically", NOTHING),
    ],
)
def test_an_element_reads_as_northd_reads_it(text: str, expected: tuple[bool, str | None, list[str]]) -> None:
    element = parse_element(text)
    assert said(element) == expected
    assert element.text == text
    assert element.names_nothing is (expected == NOTHING)


@pytest.mark.parametrize("mac", ["00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"])
def test_addresses_beside_a_mac_that_we_would_not_give_are_taken_all_the_same(mac: str) -> None:
    """ovn-northd puts them into its IPAM whatever the MAC is; an address that we took for free would be double."""
    assert said(parse_element(f"{mac} 10.0.0.5")) == (False, mac, ["10.0.0.5"])


@given(st.text() | st.text(st.sampled_from("0a1: .dynamicf/"), max_size=40))
def test_no_text_raises(text: str) -> None:
    element = parse_element(text)
    assert element.names_nothing or element.dynamic or element.mac


@given(st.text())
def test_no_port_security_or_dynamic_addresses_raises(text: str) -> None:
    port(assigned=text, port_security={text})


# ---- ports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "assigned", "pending"),
    [
        (["dynamic"], None, True),
        (["dynamic"], f"{MAC} 10.0.0.5", False),
        (["dynamic", "unknown"], None, True),
        ([f"{MAC} dynamic"], None, True),
        (["dynamic 10.0.0.5"], None, True),
        ([f"{MAC} dynamic 10.0.0.5"], None, False),
        ([f"{MAC} 10.0.0.5"], None, False),
        (["unknown"], None, False),
        ([], None, False),
    ],
)
def test_a_port_is_pending_while_northd_has_yet_to_answer(
    addresses: list[str], assigned: str, *, pending: bool
) -> None:
    assert port(*addresses, assigned=assigned).pending is pending


def test_of_several_dynamic_elements_northd_honours_the_first() -> None:
    found = port("dynamic 10.0.0.6", "dynamic 10.0.0.5").dynamic
    assert found is not None
    assert found.text == "dynamic 10.0.0.5"


def test_a_port_holds_what_it_has_what_it_asks_for_and_what_it_may_use() -> None:
    macs, v4, v6 = port(
        f"{MAC} 10.0.0.5 fd00::5", "dynamic 10.0.0.6", assigned="0a:00:00:00:00:02 10.0.0.7",
        port_security={"0a:00:00:00:00:03 10.0.0.8"},
    ).own()  # fmt: skip
    assert macs == {MAC, "0a:00:00:00:00:02", "0a:00:00:00:00:03"}
    assert v4 == {parse_either(f"10.0.0.{octet}")[0] for octet in (5, 6, 7, 8)}
    assert v6 == {parse_either("fd00::5")[1]}


@pytest.mark.parametrize(
    ("secured", "held"),
    [
        (f"{MAC} 10.0.0.5", ["10.0.0.5"]),
        (f"{MAC} 10.0.0.5/24", ["10.0.0.5"]),
        (f"{MAC} 10.0.0.5/32 fd00::5/128", ["10.0.0.5", "fd00::5"]),
        (f"{MAC} 10.0.0.0/24", []),
        (f"{MAC} fd00::/64 10.0.0.5", ["10.0.0.5"]),
        (MAC, []),
    ],
)
def test_allowing_a_network_in_port_security_claims_no_address_of_it(secured: str, held: list[str]) -> None:
    _macs, v4, v6 = port(port_security={secured}).own()
    addresses = [parse_either(text) for text in held]
    assert v4 == {four for four, _ in addresses if four is not None}
    assert v6 == {six for _, six in addresses if six is not None}


@pytest.mark.parametrize(
    ("columns", "special"),
    [
        ({}, False), ({"type": "router"}, True), ({"type": "virtual"}, True), ({"type": "localnet"}, False),
        ({"health_checks": {"x"}}, True),
    ],
)  # fmt: skip
def test_ports_that_say_more_about_addresses_are_special(columns: dict[str, Any], *, special: bool) -> None:
    assert port(**columns).special is special


def test_a_port_uses_the_dhcp_options_of_both_families() -> None:
    assert port(dhcpv4_options="a", dhcpv6_options=None).dhcp == ("a",)
    assert port(dhcpv4_options="a", dhcpv6_options="b").dhcp == ("a", "b")


# ---- switches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "v4", "v6", "has_ipam"),
    [
        ({}, None, None, False),
        ({"subnet": "10.0.0.5/28"}, "10.0.0.0/28", None, True),
        ({"subnet": "10.0.0.0/255.255.255.0"}, "10.0.0.0/24", None, True),
        ({"subnet": "10.0.0.0"}, None, None, False),
        ({"subnet": "fd00::/64"}, None, None, False),
        ({"subnet": ""}, None, None, False),
        ({"subnet": "10.0.0.0/24", "ipv6_prefix": "fd00::/64"}, "10.0.0.0/24", "fd00::/64", True),
        ({"ipv6_prefix": "fd00::5"}, None, "fd00::/64", False),
        ({"ipv6_prefix": "fd00::/56"}, None, None, False),
        ({"ipv6_prefix": "fd00::/128"}, None, None, False),
        ({"ipv6_prefix": "10.0.0.0"}, None, None, False),
        ({"ipv6_prefix": "nonsense"}, None, None, False),
    ],
)
def test_a_switch_is_the_subnet_that_northd_takes_it_for(
    config: dict[str, str], v4: str | None, v6: str | None, *, has_ipam: bool
) -> None:
    found = switch(config)
    assert (found.v4 and str(found.v4), found.v6 and str(found.v6), found.has_ipam) == (v4, v6, has_ipam)
    assert found.is_subnet is bool(v4 or v6)


def test_a_switch_says_its_provider_and_where_to_choose() -> None:
    assert (switch({}).provider, switch({}).auto) == ("ovn", "")
    found = switch({}, provider="net1.default.ovn", auto="10.0.0.100..10.0.0.200")
    assert (found.provider, found.auto) == ("net1.default.ovn", "10.0.0.100..10.0.0.200")
    assert switch({}, provider="").provider == "ovn"


def test_a_switch_without_exclude_ips_differs_from_one_whose_are_empty() -> None:
    assert switch({}).exclude_ips is None
    assert switch({"exclude_ips": ""}, excluded="1 x").exclude_ips == ""
    assert switch({"exclude_ips": ""}, excluded="1 x").mark == "1 x"
