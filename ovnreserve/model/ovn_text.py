"""Addresses as OVN's columns have them: `IP:PORT`, `IP-IP`, `{a, b}`, `MAC IP/LEN`.

What does not read so names nothing: it is somebody else's text.
"""

from __future__ import annotations

import re
from typing import Final

from ovnreserve.model.addresses import parse_cidr, parse_either

_MAC: Final = re.compile(r"[0-9A-Fa-f]{1,2}(?::[0-9A-Fa-f]{1,2}){5}").fullmatch


def words(text: str | None) -> list[str]:
    """Of `{a, b}`, `a, b` or `a`."""
    return (text or "").strip("{} ").replace(",", " ").split()


def mac_of(text: str | None) -> str | None:
    """In lower case with two digits each, as ovn-northd takes it with one or two."""
    if not text or not _MAC(text):
        return None
    return ":".join(byte.zfill(2) for byte in text.lower().split(":"))


def address_of(text: str) -> tuple[int, int]:
    """(family, address) of `IP` or `IP/LEN`; family 0 if it is none."""
    four, six = parse_either(text.strip().partition("/")[0])
    if four is not None:
        return 4, four
    return (0, 0) if six is None else (6, six)


def network_of(text: str) -> tuple[int, int, int] | None:
    """(family, first, last) of `IP` or `IP/LEN`, host bits ignored."""
    cidr = parse_cidr(text) if "/" in text else None
    if cidr is not None:
        return 4 if cidr.bits == 32 else 6, cidr.first, cidr.last
    family, address = address_of(text)
    return (family, address, address) if family and "/" not in text else None


def span_of(text: str) -> tuple[int, int, int] | None:
    """(family, first, last) of `IP`, `IP-IP` or `IP..IP`; of `IP/LEN` if that is one address only."""
    if "/" in text:
        network = network_of(text)
        return network if network and network[1] == network[2] else None
    start, _, end = text.replace("..", "-").partition("-")
    family, first = address_of(start)
    last_family, last = address_of(end) if end else (family, first)
    return (family, first, last) if family and family == last_family and first <= last else None


def host_of(text: str) -> tuple[int, int] | None:
    """(family, address) of port_security's `IP[/LEN]`; None for a network: it allows many and names none."""
    family, address = address_of(text)
    if not family:
        return None
    if "/" in text:
        cidr = parse_cidr(text)
        if cidr is None or (cidr.prefixlen < cidr.bits and address == cidr.first):
            return None
    return family, address


def without_port(vip: str) -> str:
    """The address of `IP`, `IP:PORT`, `[IP6]:PORT` or `IP6`."""
    if vip.startswith("["):
        return vip[1:].partition("]")[0]
    return vip if vip.count(":") > 1 else vip.partition(":")[0]


def source_of(mapping: str) -> tuple[str, str]:
    """(port name, source address) of a value of ip_port_mappings: `PORT:IP[:AZ]` or `PORT:[IP6][:AZ]`."""
    port, _, source = mapping.partition(":")
    return port, without_port(source)
