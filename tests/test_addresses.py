"""Addresses, networks and MACs against the standard library and what ovn-northd takes for one."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ovnreserve.model.addresses import (
    Cidr,
    eui64,
    eui64_mac,
    format_v4,
    format_v6,
    is_eui64,
    parse_cidr,
    parse_either,
    parse_mac,
    parse_v4,
    parse_v6,
)

v4s = st.integers(0, (1 << 32) - 1)
v6s = st.integers(0, (1 << 128) - 1)
macs = st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":"))
anything = st.one_of(
    st.text(),
    st.text(st.sampled_from("0123456789abcdef.:/ x-%"), max_size=40),
    st.from_regex(r"\A\d{1,4}(\.\d{1,4}){0,4}(/\d{1,3})?\Z"),
)


@given(v4s)
def test_ipv4_goes_to_text_and_back(address: int) -> None:
    assert format_v4(address) == str(IPv4Address(address))
    assert parse_v4(format_v4(address)) == address
    assert parse_either(format_v4(address)) == (address, None)


@given(v6s)
@example(0)
@example(int(IPv6Address("::ffff:10.0.0.5")))
@example(int(IPv6Address("1:0:0:2::3")))
def test_ipv6_goes_to_text_and_back_from_every_notation(address: int) -> None:
    assert parse_v6(format_v6(address)) == address
    assert parse_v6(IPv6Address(address).exploded.upper()) == address
    assert parse_either(format_v6(address)) == (None, address)


@pytest.mark.parametrize(
    "text", ["", "10.0.0", "10.0.0.256", "10.0.0.05", "0x0a.0.0.5", "10.0.0.5 ", " 10.0.0.5", "10.0.0.5\n", "167772165",
             "10.0.0.5/24", "\u0661\u0660.\u0660.\u0660.\u0665", "fd00::5", "10.0.0.5\0"],
)  # fmt: skip
def test_what_is_no_dotted_quad_is_no_ipv4(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IPv4 address"):
        parse_v4(text)


@pytest.mark.parametrize(
    "text", ["", "10.0.0.5", "fd00::1%eth0", "fd00::g", "fd00:::1", "fd00::1/64", "::1\0", "\ud800"]
)
def test_what_has_a_scope_or_no_sense_is_no_ipv6(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IPv6 address"):
        parse_v6(text)


@given(anything)
def test_no_text_raises_anything_but_value_error(text: str) -> None:
    for parse in (parse_v4, parse_v6, parse_mac):
        with suppress(ValueError):
            parse(text)
    parse_cidr(text)
    v4, v6 = parse_either(text)
    assert v4 is None or v6 is None


# ---- MACs ------------------------------------------------------------------------------------------------------------


@given(macs)
def test_a_mac_in_any_notation_is_stored_in_lower_case_with_colons(mac: str) -> None:
    octets = bytes.fromhex(mac.replace(":", ""))
    notations = [mac, mac.upper(), mac.replace(":", "-"), octets.hex(), octets.hex(".", 2)]
    for notation in notations:
        if octets[0] & 1 or not any(octets):
            with pytest.raises(ValueError, match="must not be"):
                parse_mac(notation)
        else:
            assert parse_mac(notation) == mac


def test_the_macs_of_kube_ovn_are_allowed() -> None:
    assert parse_mac("00:00:00:86:C6:36") == "00:00:00:86:c6:36"


@pytest.mark.parametrize("text", ["", "0a:00:00:00:00", "0a:00:00:00:00:00:01", "0a:00:00:00:00:zz", "hello"])
def test_what_is_no_mac_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="must be a MAC address such as 0a:00:00:00:00:01"):
        parse_mac(text)


# ---- networks --------------------------------------------------------------------------------------------------------


@given(v4s, st.integers(0, 32))
def test_an_ipv4_network_has_the_standard_librarys_edges(address: int, prefixlen: int) -> None:
    expected = ip_network((address, prefixlen), strict=False)
    for text in (f"{format_v4(address)}/{prefixlen}", f"{format_v4(address)}/{expected.netmask}"):
        cidr = parse_cidr(text)
        assert cidr is not None
        assert (cidr.first, cidr.last) == (int(expected[0]), int(expected[-1]))
        assert str(cidr) == str(expected)
        assert address in cidr


@given(v6s, st.integers(0, 128))
def test_an_ipv6_network_has_the_standard_librarys_edges(address: int, prefixlen: int) -> None:
    expected = IPv6Network((address, prefixlen), strict=False)
    cidr = parse_cidr(f"{format_v6(address)}/{prefixlen}")
    assert cidr is not None
    assert (cidr.first, cidr.last, cidr.bits) == (int(expected[0]), int(expected[-1]), 128)
    assert address in cidr
    assert (cidr.last + 1 in cidr, cidr.first - 1 in cidr) == (False, False)


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "/24", "10.0.0.0/-1", "x/24", "10.0.0.0/24/24", "fd00::/129",
     "10.0.0.300/24",
     "10/8", "10.0.0/24", "10.0.0.0/0.0.0.255", "10.0.0.0/255.0.255.0", "10.0.0.0/ 24", "10.0.0.0/٢٤"],
)  # fmt: skip
def test_what_northd_takes_for_no_network_is_none(text: str) -> None:
    assert parse_cidr(text) is None


@pytest.mark.parametrize(
    ("text", "first", "last", "size"),
    [
        ("10.0.0.0/24", "10.0.0.1", "10.0.0.254", 254),
        ("10.0.0.0/30", "10.0.0.1", "10.0.0.2", 2),
        ("10.0.0.0/31", "10.0.0.0", "10.0.0.1", 2),
        ("10.0.0.7/32", "10.0.0.7", "10.0.0.7", 1),
        ("fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:ffff", 2**64 - 1),
        ("fd00::/127", "fd00::", "fd00::1", 2),
        ("fd00::7/128", "fd00::7", "fd00::7", 1),
    ],
)
def test_hosts_leave_out_what_nobody_can_be_given(text: str, first: str, last: str, size: int) -> None:
    cidr = parse_cidr(text)
    assert cidr is not None
    assert [cidr.format(address) for address in cidr.hosts] == [first, last]
    assert cidr.size == size


def test_only_numbers_are_in_a_network() -> None:
    assert "10.0.0.1" not in Cidr(10 << 24, 24, 32)


# ---- EUI-64 ----------------------------------------------------------------------------------------------------------


@given(v6s, macs)
def test_what_northd_derives_from_a_mac_is_told_and_leads_back_to_it(prefix: int, mac: str) -> None:
    address = eui64(prefix, mac)
    assert address >> 64 == prefix >> 64
    assert is_eui64(address)
    assert eui64_mac(address) == mac


def test_eui64_is_that_of_the_standard() -> None:
    assert format_v6(eui64(parse_v6("fd00:1::"), "0a:00:00:00:00:01")) == "fd00:1::800:ff:fe00:1"


@given(v6s)
def test_an_address_is_eui64_shaped_only_if_its_mac_gives_it_again(address: int) -> None:
    assert is_eui64(address) == (eui64(address, eui64_mac(address)) == address)
