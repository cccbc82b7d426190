"""What else holds addresses on a switch: routers, NAT, load balancers, DHCP and other rows of the database.

Theory. ovn-northd's own allocation avoids the `addresses` of ports and the networks of router ports and
nothing else; all that follows here it hands out although it is in use (measured with OVN 23.03), so we look
ourselves.

============================ ===================================== ======================================
holder                       columns                               on which switches
============================ ===================================== ======================================
logical router port          networks, ipv6_prefix, EUI-64 of mac  those its router is attached to
- its MAC                    mac                                   those it is itself attached to
DHCP relay                   servers                               those its router is attached to
NAT                          external_ip (or a range of them),     those its router is attached to
                             external_mac
static route, policy         nexthop, nexthops                     those its router is attached to
BFD, static MAC binding      dst_ip; ip, mac                       those its router is attached to
load balancer, or its group  keys of vips                          its switch, those its router is
                                                                   attached to
- health check source        values of ip_port_mappings            the same, and its backend's port's
forwarding group             vip, vmac                             its switch
port of type virtual         options:virtual-ip                    its switch
port of type router          options:arp_proxy                     its switch
port                         port_security, health_checks          its switch
DHCP options                 server_id, router, dns_server,        those with ports that use them; used by
                             server_mac                            no port at all: each they are meant for
NB_Global                    options:svc_monitor_mac, ..._mac_dst  all
============================ ===================================== ======================================

A router is attached to a switch by a port of type `router` whose options:router-port names one of the
router's ports. Only addresses inside the switch's subnets count; a MAC that stands with an address counts
where that does. What does not read as OVN reads it names nothing: it is somebody else's text, and never an
error here.

Cost. Building the index is linear in router ports, BFD and static MAC bindings. A router, load balancer or
group is read when first asked about and kept as a sorted list, so another switch costs a bisection and its
own answer, however much the router carries. A switch costs what is attached to it: all of its ports or,
with `special` and `dhcp` from a caller who keeps an index, only those of interest. Two questions need a
pass over all ports, once and only if they come up: which DHCP options are used at all, and where a port of
ip_port_mappings is. A caller who knows spares them with `dhcp_in_use` and `port_names`.
"""

from __future__ import annotations

from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from ovnreserve.model import ovn_text
from ovnreserve.model.addresses import Cidr, eui64, parse_cidr
from ovnreserve.model.topology import parse_element
from ovnreserve.plan.holdings import Claims, Found, Holdings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    Row = Mapping[str, Any]
    Tables = Mapping[str, Mapping[str, Row]]
    """By table and row uuid the columns, as Python values of their kinds (northbound/columns.py)."""

_REFERENCES: Final = (
    "next hop of ",
    "BFD peer of ",
    "static MAC binding of ",
    "DHCP relay server of ",
    "DHCP options (router)",
    "DHCP options (dns_server)",
)

_LINK_LOCAL: Final = 0xFE80 << 112


def claims(tables: Tables, switch: str, subnet4: Cidr | None, subnet6: Cidr | None) -> Claims:
    """The claims on one switch, by uuid. For several, build one Infrastructure and ask that."""
    return Infrastructure(tables).claims(switch, subnet4, subnet6)


def refers_only(holder: str) -> bool:
    """Does this holder only say where an address is, and have it not itself? A router, say, that is a workload."""
    return holder.startswith(_REFERENCES)


class Infrastructure:
    """The northbound tables, indexed for questions about any switch; valid until one of the tables changes.

    Tables and columns that are missing (an older schema) read as empty. For callers who have them:
    `port_names` is the uuid of each port by its name, `dhcp_in_use` the uuids of the DHCP_Options that some
    port uses.
    """

    def __init__(
        self,
        tables: Tables,
        *,
        port_names: Mapping[str, str] | None = None,
        dhcp_in_use: Collection[str] | None = None,
    ) -> None:
        self._tables = tables
        self._port_names = port_names
        self._dhcp_in_use = dhcp_in_use
        self._router_of: dict[str, str] = {}
        for router, row in self._table("Logical_Router").items():
            self._router_of.update(dict.fromkeys(row.get("ports", ()), router))
        self._router_port_named = {row.get("name"): uuid for uuid, row in self._table("Logical_Router_Port").items()}
        self._peers: dict[str, list[tuple[str, str, str | None]]] = {}
        for row in self._table("BFD").values():
            self._add_peer(row, "BFD peer", row.get("dst_ip", ""), None)
        for row in self._table("Static_MAC_Binding").values():
            self._add_peer(row, "static MAC binding", row.get("ip", ""), row.get("mac"))
        self._routers: dict[str, Holdings] = {}
        self._balancers: dict[str, Holdings] = {}
        self._groups: dict[str, Holdings] = {}

    def claims(
        self,
        switch: str,
        subnet4: Cidr | None,
        subnet6: Cidr | None,
        *,
        special: Collection[str] | None = None,
        dhcp: Collection[str] | None = None,
    ) -> Claims:
        """Who holds what on `switch` (uuid) besides its ports' own addresses and our reservations.

        For a caller who keeps an index: `special` is the switch's ports that are of type router or virtual
        or have health checks, `dhcp` the DHCP_Options that its ports use. Other ports are not looked at
        then, and port_security is left to the caller.
        """
        found = Found(subnet4, subnet6)
        row = self._table("Logical_Switch").get(switch, {})
        ports = self._ports(row.get("ports", ()) if special is None else special)
        attached = [(port, uuid) for port in ports if (uuid := self._peer_of(port)) is not None]
        for _, uuid in attached:
            self._claim_router_port(found, uuid)
        for router in dict.fromkeys(self._router_of[uuid] for _, uuid in attached if uuid in self._router_of):
            self._router(router).claim_on(found)
        for uuid in sorted(row.get("load_balancer", ())):
            self._balancer(uuid).claim_on(found)
        for uuid in sorted(row.get("load_balancer_group", ())):
            self._group(uuid).claim_on(found)
        for uuid in self._sources_on(row):
            for text, holder in self._sources[uuid]:
                found.claim(text, holder)
        for uuid, group in self._rows("Forwarding_Group", row.get("forwarding_groups", ())):
            holder = f"forwarding group {_name(group, uuid)}"
            found.claim(group.get("vip", ""), holder)
            found.claim_mac(group.get("vmac"), holder)
        for port in ports:
            self._claim_port(found, port, port_security=special is None)
        if dhcp is None:
            dhcp = {uuid for port in ports for uuid in _dhcp_of(port)}
        self._claim_dhcp(found, dhcp)
        for globals_ in self._table("NB_Global").values():
            for key in ("svc_monitor_mac", "svc_monitor_mac_dst"):
                found.claim_mac(globals_.get("options", {}).get(key), f"service monitor ({key})")
        return Claims(found.v4, found.v6, found.macs)

    @cached_property
    def router_macs(self) -> frozenset[str]:
        """The MACs of all router ports."""
        macs = (ovn_text.mac_of(row.get("mac")) for row in self._table("Logical_Router_Port").values())
        return frozenset(mac for mac in macs if mac is not None)

    def router_ports(self, switch: str, special: Collection[str] | None = None) -> list[tuple[Row, Row]]:
        """(Logical_Router_Port, its Logical_Router) of each that is attached; `special` as for claims()."""
        row = self._table("Logical_Switch").get(switch, {})
        ports = self._ports(row.get("ports", ()) if special is None else special)
        peers = (self._peer_of(port) for port in ports)
        routers = self._table("Logical_Router")
        return [
            (row, routers.get(self._router_of.get(uuid, ""), {}))
            for uuid, row in self._rows("Logical_Router_Port", (uuid for uuid in peers if uuid))
        ]

    # -- rows

    def _table(self, name: str) -> Mapping[str, Row]:
        return self._tables.get(name, {})

    def _rows(self, table: str, uuids: Iterable[str]) -> Iterator[tuple[str, Row]]:
        """The rows that exist, always in one order: of several holders of an address the first is named."""
        rows = self._table(table)
        return ((uuid, rows[uuid]) for uuid in sorted(uuids) if uuid in rows)

    def _ports(self, uuids: Iterable[str]) -> list[Row]:
        return [row for _, row in self._rows("Logical_Switch_Port", uuids)]

    def _peer_of(self, port: Row) -> str | None:
        """The router port that a switch port leads to."""
        if port.get("type") != "router":
            return None
        return self._router_port_named.get(port.get("options", {}).get("router-port"))

    # -- routers

    def _add_peer(self, row: Row, what: str, address: str, mac: str | None) -> None:
        port = row.get("logical_port", "")
        self._peers.setdefault(port, []).append((address, f"{what} of logical router port {port}", mac))

    def _claim_router_port(self, found: Found, uuid: str) -> None:
        """What is here because this very router port is attached; its addresses come with its router's."""
        row = self._table("Logical_Router_Port")[uuid]
        holder = f"logical router port {_name(row, uuid)}"
        mac = found.claim_mac(row.get("mac"), holder)
        if mac is not None and found.subnet6 is not None:
            found.claim_address(6, eui64(found.subnet6.first, mac), holder)

    def _hold_router_port(self, holdings: Holdings, row: Row, holder: str) -> None:
        prefixes = sorted(row.get("ipv6_prefix", ()))
        for text in (*sorted(row.get("networks", ())), *prefixes):
            holdings.claim(text, holder)
        mac = ovn_text.mac_of(row.get("mac"))
        if mac is not None:
            delegated = (address for family, address in map(ovn_text.address_of, prefixes) if family == 6)
            for prefix in (_LINK_LOCAL, *delegated):
                holdings.claim_address(6, eui64(prefix, mac), holder)

    def _router(self, router: str) -> Holdings:
        holdings = self._routers.get(router)
        if holdings is None:
            holdings = self._routers[router] = Holdings()
            self._hold_router(holdings, router)
        return holdings

    def _hold_router(self, holdings: Holdings, router: str) -> None:
        row = self._table("Logical_Router")[router]
        name = f"logical router {_name(row, router)}"
        relays = []
        for uuid, port in self._rows("Logical_Router_Port", row.get("ports", ())):
            holder = f"logical router port {_name(port, uuid)}"
            self._hold_router_port(holdings, port, holder)
            relays += [(relay, holder) for _, relay in self._rows("DHCP_Relay", _some(port.get("dhcp_relay")))]
            for address, peer, mac in sorted(self._peers.get(port.get("name", ""), ()), key=itemgetter(0, 1)):
                holdings.claim(address, peer, mac)
        for _, nat in self._rows("NAT", row.get("nat", ())):
            holder = f"NAT {nat.get('type', '')} of {name}"
            span = ovn_text.span_of(nat.get("external_ip", ""))
            if span is not None:
                holdings.claim_range(*span, holder, nat.get("external_mac"))
        for _, route in self._rows("Logical_Router_Static_Route", row.get("static_routes", ())):
            holdings.claim(route.get("nexthop", ""), f"next hop of a static route of {name}")
        for _, policy in self._rows("Logical_Router_Policy", row.get("policies", ())):
            for hop in (*_some(policy.get("nexthop")), *sorted(policy.get("nexthops", ()))):
                holdings.claim(hop, f"next hop of a policy of {name}")
        for relay, holder in relays:
            for server in ovn_text.words(relay.get("servers")):
                holdings.claim(server, f"DHCP relay server of {holder}")
        for uuid in sorted(row.get("load_balancer", ())):
            holdings.add(self._balancer(uuid))
        for uuid in sorted(row.get("load_balancer_group", ())):
            holdings.add(self._group(uuid))

    # -- load balancers

    def _balancer(self, uuid: str) -> Holdings:
        holdings = self._balancers.get(uuid)
        if holdings is None:
            holdings = self._balancers[uuid] = Holdings()
            row = self._table("Load_Balancer").get(uuid, {})
            holder = f"load balancer {_name(row, uuid)}"
            for vip in sorted(row.get("vips", {})):
                holdings.claim(ovn_text.without_port(vip), holder)
            for mapping in sorted(row.get("ip_port_mappings", {}).values()):
                holdings.claim(ovn_text.source_of(mapping)[1], f"{holder} health check source")
        return holdings

    def _group(self, uuid: str) -> Holdings:
        holdings = self._groups.get(uuid)
        if holdings is None:
            holdings = self._groups[uuid] = Holdings()
            for balancer in sorted(self._table("Load_Balancer_Group").get(uuid, {}).get("load_balancer", ())):
                holdings.add(self._balancer(balancer))
        return holdings

    def mentions(self, port: str) -> bool:
        """Does the index depend on whether there is a port of that name?"""
        return "_sources_by_name" in self.__dict__ and port in self._sources_by_name

    @cached_property
    def _sources_by_name(self) -> dict[str, list[tuple[str, str]]]:
        """Health check sources as (address, holder), by the name of the port whose backend they probe."""
        by_name: dict[str, list[tuple[str, str]]] = {}
        for uuid, row in sorted(self._table("Load_Balancer").items(), key=itemgetter(0)):
            for mapping in sorted(row.get("ip_port_mappings", {}).values()):
                port, address = ovn_text.source_of(mapping)
                holder = f"load balancer {_name(row, uuid)} health check source"
                by_name.setdefault(port, []).append((address, holder))
        return by_name

    @cached_property
    def _sources(self) -> dict[str, list[tuple[str, str]]]:
        """The same by the port's uuid."""
        by_name = self._sources_by_name
        if not by_name:
            return {}
        names = self._port_names
        if names is None:
            names = {row.get("name", ""): uuid for uuid, row in self._table("Logical_Switch_Port").items()}
        return {names[name]: sources for name, sources in by_name.items() if name in names}

    def _sources_on(self, switch: Row) -> list[str]:
        here, sources = switch.get("ports", ()), self._sources
        if len(sources) < len(here):
            return sorted(uuid for uuid in sources if uuid in here)
        return sorted(uuid for uuid in here if uuid in sources)

    # -- ports

    def _claim_port(self, found: Found, port: Row, *, port_security: bool) -> None:
        name = port.get("name", "")
        options = port.get("options", {})
        kind = port.get("type")
        if kind == "virtual":
            found.claim(options.get("virtual-ip", ""), f"virtual-ip of port {name}")
        elif kind == "router" and "arp_proxy" in options:
            holder = f"arp_proxy of port {name}"
            for word in options["arp_proxy"].split():
                network = ovn_text.network_of(word)
                if found.claim_mac(word, holder) is None and network and not found.is_all(*network):
                    found.claim_range(*network, holder)
        checks = port.get("health_checks", ())
        secured = port.get("port_security", ()) if port_security else ()
        if not checks and not secured:
            return
        own = {*port.get("addresses", ()), *_some(port.get("dynamic_addresses"))}
        # Most ports have in port_security the very text of their address.
        others = [text for text in secured if text not in own]
        if not checks and not others:
            return
        elements = [parse_element(text) for text in own]
        theirs = {address for element in elements for address in (*element.v4, *element.v6)}
        macs = {element.mac for element in elements}
        for _, check in self._rows("Logical_Switch_Port_Health_Check", checks):
            found.claim(check.get("src_ip", ""), f"health check source of port {name}")
            if ovn_text.address_of(check.get("address", ""))[1] not in theirs:
                found.claim(check.get("address", ""), f"health check of port {name}")
        for text in sorted(others):
            for word in text.split():
                mac, host = ovn_text.mac_of(word), ovn_text.host_of(word)
                if mac is not None and mac not in macs:
                    found.claim_mac(mac, f"port_security of port {name}")
                elif host is not None and host[1] not in theirs:
                    found.claim_address(*host, f"port_security of port {name}")

    # -- DHCP

    def _claim_dhcp(self, found: Found, used_here: Iterable[str]) -> None:
        rows = self._table("DHCP_Options")
        uuids = {uuid for uuid in used_here if uuid in rows}
        if rows:
            uuids.update(self._idle_dhcp.holders_in(found))
        for uuid in sorted(uuids):
            for option, text in _dhcp_values(rows[uuid]):
                holder = f"DHCP options ({option})"
                if option == "server_mac" or ovn_text.mac_of(text) is not None:
                    found.claim_mac(text, holder)
                else:
                    found.claim(text, holder)

    @cached_property
    def _idle_dhcp(self) -> Holdings:
        """The uuids of DHCP_Options that no port uses, by their addresses and the start of their network."""
        used = self._dhcp_in_use
        if used is None:
            used = {uuid for row in self._table("Logical_Switch_Port").values() for uuid in _dhcp_of(row)}
        idle = Holdings()
        for uuid, row in self._table("DHCP_Options").items():
            if uuid not in used:
                cidr = parse_cidr(row.get("cidr", ""))
                if cidr is not None:
                    idle.claim_address(4 if cidr.bits == 32 else 6, cidr.first, uuid)
                for _, text in _dhcp_values(row):
                    idle.claim(text, uuid)
        return idle


def _name(row: Row, uuid: str) -> str:
    return row.get("name") or uuid


def _some(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _dhcp_of(port: Row) -> Iterator[str]:
    for column in ("dhcpv4_options", "dhcpv6_options"):
        uuid = port.get(column)
        if uuid:
            yield uuid


def _dhcp_values(row: Row) -> Iterator[tuple[str, str]]:
    """(option, address or MAC); DHCPv6's server_id is a MAC."""
    options = row.get("options", {})
    for option in ("server_id", "router", "dns_server", "server_mac"):
        for word in ovn_text.words(options.get(option)):
            yield option, word
