"""Logical switches and their ports as we see them: frozen values made from northbound rows.

A port's `addresses` is a set of strings, each one of (ovn-nb(5), measured in facts of OVN 23.03)

    MAC [IP...]            static; every IP is taken
    dynamic [IP...]        ovn-northd chooses, or honours the IP where it is free
    MAC dynamic            ovn-northd chooses the IP, IPv6 from the MAC
    unknown, router        no address of their own

and what ovn-northd chose stands in `dynamic_addresses`, as `MAC [IPv4] [IPv6]`. A port whose `dynamic` element has no
answer there yet is *pending*. Anything else is malformed and names no address, as for ovn-northd.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ovnreserve.model.addresses import Cidr, parse_cidr, parse_either, scan_mac
from ovnreserve.model.names import DEFAULT_PROVIDER

EXCLUDE_IPS = "exclude_ips"
EXCLUDED_MARK = "ovnreserve/excluded"
PROVIDER = "ovnreserve/provider"
AUTO_RANGE = "ovnreserve/auto"


class RowChanges(NamedTuple):
    """What changed in the northbound tables.

    `rows`: by table and row uuid the columns that changed, None where the row came or went. `members`: which ports
    joined (True) or left a switch, as (port uuid, switch uuid, joined) in order, since `Logical_Switch.ports` is too
    long to compare as a whole.
    """

    rows: dict[str, dict[str, set[str] | None]]
    members: list[tuple[str, str, bool]]


class Element(NamedTuple):
    """One element of a port's `addresses`, read as ovn-northd reads it."""

    text: str
    dynamic: bool = False
    mac: str | None = None
    v4: tuple[int, ...] = ()
    v6: tuple[int, ...] = ()

    @property
    def names_nothing(self) -> bool:
        return not (self.dynamic or self.mac or self.v4 or self.v6)


def parse_element(text: str) -> Element:
    words = text.split()
    mac = scan_mac(words[0]) if words else None
    if mac is not None:
        words = words[1:]
    dynamic = bool(words) and words[0] == "dynamic"
    if dynamic:
        words = words[1:]
        if mac and words:
            return Element(text)  # `MAC dynamic IP` is not in the grammar
    elif mac is None:
        return Element(text)  # unknown, router, or an address without a MAC
    v4: list[int] = []
    v6: list[int] = []
    for word in words:
        four, six = parse_either(word if dynamic else word.partition("/")[0])
        if four is not None and not (dynamic and (v4 or v6)):
            v4.append(four)
        elif six is not None and not (dynamic and v6):
            v6.append(six)
        elif dynamic:
            return Element(text)  # ovn-northd passes over all of it
    return Element(text, dynamic, mac, tuple(v4), tuple(v6))


class Port(NamedTuple):
    """A Logical_Switch_Port. `switch` is the uuid of the switch whose `ports` holds it, None while in none; `enabled`
    is None where it says nothing of that, which enables it.

    `secured` is its port_security, `dhcp` the uuids of the DHCP_Options that it uses; a `special` port says something
    about addresses beyond these: it leads to a router, is virtual, or has health checks (plan/infrastructure.py reads
    the row).
    """

    uuid: str
    name: str
    type: str
    addresses: frozenset[str]
    dynamic_addresses: str | None
    up: bool
    enabled: bool | None
    external_ids: dict[str, str]
    switch: str | None
    elements: tuple[Element, ...]
    assigned: Element | None
    secured: tuple[Element, ...]
    dhcp: tuple[str, ...]
    special: bool

    @property
    def dynamic(self) -> Element | None:
        """The element that lets ovn-northd choose (it honours the first only)."""
        return next((element for element in self.elements if element.dynamic), None)

    @property
    def pending(self) -> bool:
        """ovn-northd has yet to choose an address for it, which it never does where a router is behind the port."""
        return self.assigned is None and self.dynamic is not None and self.type != "router"

    def own(self) -> tuple[set[str], set[int], set[int]]:
        """MACs, IPv4 and IPv6 addresses that it holds, that it says it will, and that port_security lets it use."""
        macs: set[str] = set()
        v4: set[int] = set()
        v6: set[int] = set()
        for element in (*self.elements, *self.secured, *((self.assigned,) if self.assigned else ())):
            if element.mac:
                macs.add(element.mac)
            v4.update(element.v4)
            v6.update(element.v6)
        return macs, v4, v6

    @property
    def has(self) -> list[Element]:
        """What it has now: its static elements, and what ovn-northd has chosen for it."""
        static = [element for element in self.elements if not element.dynamic]
        return static if self.assigned is None else [*static, self.assigned]

    @property
    def held(self) -> set[tuple[int, int]]:
        """(family, address) of what it has to itself while it is enabled: what several ports may not have. A virtual
        port's address is for its parents to take.
        """
        found: set[tuple[int, int]] = set()
        if self.type != "virtual" and self.enabled is not False:
            for element in self.has:
                for address in element.v4:
                    found.add((4, address))
                for address in element.v6:
                    found.add((6, address))
        return found


def port_of(uuid: str, row: Mapping[str, Any], switch: str | None) -> Port:
    """The Port of a northbound row (Python values by column kind, see northbound/columns.py)."""
    dynamic = row["dynamic_addresses"]
    addresses = frozenset(row["addresses"])
    elements = tuple(parse_element(text) for text in sorted(addresses))
    chosen = dynamic and any(element.dynamic for element in elements)  # else it is left over until ovn-northd looks
    dhcp = (row["dhcpv4_options"], row["dhcpv6_options"])
    return Port(
        uuid,
        row["name"],
        row["type"],
        addresses,
        dynamic,
        bool(row["up"]),
        row["enabled"],
        row["external_ids"],
        switch,
        elements,
        parse_element(dynamic) if chosen else None,
        tuple(_single_hosts(text) for text in sorted(row["port_security"])),
        tuple(options for options in dhcp if options),
        row["type"] in ("router", "virtual") or bool(row["health_checks"]),
    )


def _single_hosts(port_security: str) -> Element:
    """`MAC [IP[/LEN]...]` without the networks in it: allowing a whole network claims no address of it (ovn-nb(5))."""
    mac, *words = port_security.split() or [""]
    hosts = [word for word in words if "/" not in word or not _is_network(word)]
    return parse_element(" ".join((mac, *hosts)))


def _is_network(text: str) -> bool:
    cidr = parse_cidr(text)
    if cidr is None or cidr.prefixlen == cidr.bits:
        return False
    address = parse_either(text.partition("/")[0])
    return cidr.first == (address[0] if cidr.bits == 32 else address[1])


class Switch(NamedTuple):
    """A Logical_Switch: the subnet it is, where it is one.

    `v4` and `v6` are its own `other_config:subnet` and `ipv6_prefix`; a switch that has neither takes the networks of
    its attached router ports, which `world` fills in. `has_ipam`: ovn-northd chooses IPv4 addresses here.
    """

    uuid: str
    name: str
    v4: Cidr | None
    v6: Cidr | None
    has_ipam: bool
    exclude_ips: str | None
    mark: str | None
    provider: str
    auto: str

    @property
    def is_subnet(self) -> bool:
        return self.v4 is not None or self.v6 is not None


def switch_of(uuid: str, row: Mapping[str, Any]) -> Switch:
    config: dict[str, str] = row["other_config"]
    ids: dict[str, str] = row["external_ids"]
    v4 = parse_cidr(config["subnet"]) if "subnet" in config else None
    if v4 is not None and v4.bits != 32:
        v4 = None
    return Switch(
        uuid,
        row["name"],
        v4,
        _ipv6_prefix(config.get("ipv6_prefix")),
        v4 is not None and v4.prefixlen < 32,  # ovn-northd: bad 'subnet'
        config.get(EXCLUDE_IPS),
        ids.get(EXCLUDED_MARK),
        ids.get(PROVIDER) or DEFAULT_PROVIDER,
        ids.get(AUTO_RANGE, ""),
    )


def auto_ranges(text: str, family: int) -> list[tuple[int, int]]:
    """The ranges of one family that `external_ids:ovnreserve/auto` names: `a..b` or `a`, several of them separated by
    spaces, of either family. ValueError for anything else, since to ignore it would be to choose where the operator
    wants none chosen.
    """
    ranges = []
    for word in text.split():
        first, dots, last = word.partition("..")
        low, high = parse_either(first), parse_either(last if dots else first)
        if low[0] is not None and high[0] is not None and low[0] <= high[0]:
            ranges += [(low[0], high[0])] if family == 4 else []
        elif low[1] is not None and high[1] is not None and low[1] <= high[1]:
            ranges += [(low[1], high[1])] if family == 6 else []
        else:
            raise ValueError(
                f'its external_ids:{AUTO_RANGE} has "{word}", which is neither ADDRESS nor ADDRESS..ADDRESS'
            )
    return ranges


def _ipv6_prefix(text: str | None) -> Cidr | None:
    """ovn-northd takes a /64, or an address whose lower half it masks off; nothing else (facts: IPv6)."""
    if not text:
        return None
    cidr = parse_cidr(text if "/" in text else f"{text}/64")
    return cidr if cidr is not None and cidr.bits == 128 and cidr.prefixlen == 64 else None
