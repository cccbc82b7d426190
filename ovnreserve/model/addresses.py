"""Addresses are integers inside; text is for the edges.

An IPv4 address is an int below 2**32, an IPv6 address an int below 2**128, and which of the two is always known from
where it stands. Parsing is strict (what inet_pton takes), formatting canonical (RFC 5952): hot paths use the
libc calls, which are 5 times faster than the ipaddress module and 10 times faster than netaddr; netaddr reads what
people write in freer forms: MACs.
"""

from __future__ import annotations

import re
from socket import AF_INET, AF_INET6, inet_aton, inet_ntoa, inet_ntop, inet_pton
from typing import NamedTuple

import netaddr

_PREFIX_LENGTH = re.compile(r"\d{1,3}", re.ASCII).fullmatch
_SIX_OCTETS = re.compile(r"[0-9a-f]{1,2}(?::[0-9a-f]{1,2}){5}", re.ASCII | re.IGNORECASE).fullmatch
_CANONICAL_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}").fullmatch
_DOTTED_QUAD = re.compile(r"(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}", re.ASCII).fullmatch


def parse_v4(text: str) -> int:
    """The address of a dotted quad. ValueError on anything else, leading zeros included."""
    if not _DOTTED_QUAD(text):
        raise ValueError(f"{text!r} is not an IPv4 address")
    try:
        return int.from_bytes(inet_aton(text), "big")
    except OSError:
        raise ValueError(f"{text!r} is not an IPv4 address") from None


def parse_v6(text: str) -> int:
    """The address of any RFC 4291 notation without a scope. ValueError on anything else."""
    try:
        return int.from_bytes(inet_pton(AF_INET6, text), "big")
    except (OSError, ValueError):
        raise ValueError(f"{text!r} is not an IPv6 address") from None


def format_v4(address: int) -> str:
    return inet_ntoa(address.to_bytes(4, "big"))


def format_v6(address: int) -> str:
    return inet_ntop(AF_INET6, address.to_bytes(16, "big"))


def parse_either(text: str) -> tuple[int | None, int | None]:
    """(v4, v6) with the one that `text` is, or (None, None)."""
    try:
        if ":" in text:
            return None, parse_v6(text)
        return int.from_bytes(inet_pton(AF_INET, text), "big"), None
    except (OSError, ValueError):
        return None, None


def parse_mac(text: str) -> str:
    """Any notation netaddr knows, as lower case with colons. ValueError if it is no MAC, is multicast or zero."""
    if _CANONICAL_MAC(text):
        mac = text
    else:
        try:
            eui = netaddr.EUI(text, version=48, dialect=netaddr.mac_unix_expanded)
        except (netaddr.AddrFormatError, ValueError, TypeError):
            raise ValueError("must be a MAC address such as 0a:00:00:00:00:01") from None
        mac = str(eui)
    if mac == "00:00:00:00:00:00":
        raise ValueError("must not be zero")
    if int(mac[1], 16) & 1:
        raise ValueError("must not be a multicast address")
    return mac


def scan_mac(text: str) -> str | None:
    """The MAC of a port as ovn-northd reads it: any six octets, also those that parse_mac gives nobody."""
    if _CANONICAL_MAC(text):
        return text
    return ":".join(octet.zfill(2) for octet in text.lower().split(":")) if _SIX_OCTETS(text) else None


class Cidr(NamedTuple):
    """A network: its first address, prefix length and width (32 or 128 bits)."""

    first: int
    prefixlen: int
    bits: int

    @property
    def last(self) -> int:
        return self.first + (1 << (self.bits - self.prefixlen)) - 1

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and (address ^ self.first) >> (self.bits - self.prefixlen) == 0

    def __str__(self) -> str:
        return f"{self.format(self.first)}/{self.prefixlen}"

    def format(self, address: int) -> str:
        return format_v4(address) if self.bits == 32 else format_v6(address)

    @property
    def hosts(self) -> tuple[int, int]:
        """First and last address that may be given to somebody.

        IPv4: without network and broadcast address (/31 and /32 have neither, RFC 3021). IPv6: without the
        Subnet-Router anycast address (RFC 4291, 2.6.1), /127 and /128 whole (RFC 6164).
        """
        if self.prefixlen >= self.bits - 1:
            return self.first, self.last
        return self.first + 1, self.last - (1 if self.bits == 32 else 0)

    @property
    def size(self) -> int:
        """How many addresses the network holds for use: the length of `hosts`."""
        first, last = self.hosts
        return last - first + 1


def parse_cidr(text: str) -> Cidr | None:
    """`ADDRESS/PREFIX` or `ADDRESS/NETMASK`, host bits ignored as ovn-northd does; None if it is neither."""
    address, slash, suffix = text.strip().partition("/")
    if not slash:
        return None
    v4, v6 = parse_either(address)
    first, bits = (v4, 32) if v4 is not None else (v6, 128)
    prefixlen = int(suffix) if _PREFIX_LENGTH(suffix) else _mask_length(suffix) if bits == 32 else None
    if first is None or prefixlen is None or prefixlen > bits:
        return None
    return Cidr(first >> bits - prefixlen << bits - prefixlen, prefixlen, bits)


def _mask_length(netmask: str) -> int | None:
    v4, _ = parse_either(netmask)
    if v4 is None:
        return None
    hosts = v4 ^ 0xFFFFFFFF
    return None if hosts & hosts + 1 else 32 - hosts.bit_length()


def is_eui64(address: int) -> bool:
    """Could ovn-northd derive this IPv6 address from some MAC (EUI-64: bytes 3 and 4 of the interface id are ff:fe)?"""
    return (address >> 24) & 0xFFFF == 0xFFFE


def eui64_mac(address: int) -> str:
    """The MAC that an EUI-64 interface id was made of (RFC 4291, appendix A)."""
    iid = (address & (1 << 64) - 1).to_bytes(8, "big")
    return ":".join(f"{byte:02x}" for byte in (iid[0] ^ 0x02, iid[1], iid[2], iid[5], iid[6], iid[7]))


def eui64(prefix: int, mac: str) -> int:
    """The IPv6 address that ovn-northd derives from a /64 prefix and a MAC (facts: in6_generate_eui64)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    iid = bytes((octets[0] ^ 0x02, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    return prefix >> 64 << 64 | int.from_bytes(iid, "big")
