"""Who else holds addresses on a switch: each row of the table, its scope, and text that makes no sense."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnreserve.model.addresses import Cidr, eui64, parse_cidr, parse_v4
from ovnreserve.plan.holdings import RANGE_LIMIT, Claims
from ovnreserve.plan.infrastructure import Infrastructure, claims

Tables = dict[str, dict[str, dict[str, Any]]]


def cidr(text: str) -> Cidr:
    found = parse_cidr(text)
    assert found is not None
    return found


V4 = cidr("10.0.0.0/24")
V6 = cidr("fd00:1::/64")
MAC = "0a:00:00:00:00:01"


class Database:
    """Tables of rows; `add` gives the new row's uuid."""

    def __init__(self) -> None:
        self.tables: Tables = {}
        self._numbers = itertools.count(1)

    def add(self, table: str, **columns: Any) -> str:
        uuid = f"{table}-{next(self._numbers):04}"
        self.tables.setdefault(table, {})[uuid] = columns
        return uuid

    def port(self, name: str, **columns: Any) -> str:
        return self.add("Logical_Switch_Port", name=name, **columns)

    def switch(self, *ports: str, **columns: Any) -> str:
        return self.add("Logical_Switch", name="ls0", ports=frozenset(ports), **columns)

    def router(self, *ports: str, name: str = "lr0", **columns: Any) -> str:
        return self.add("Logical_Router", name=name, ports=frozenset(ports), **columns)

    def attached(self, router_port: str = "lrp0", **columns: Any) -> str:
        """A switch with a port to the router port of that name, whatever router that is on."""
        link = self.port(f"to-{router_port}", type="router", options={"router-port": router_port})
        return self.switch(link, **columns)

    def routed(self, *, mac: str = "", networks: frozenset[str] = frozenset(), **columns: Any) -> str:
        """A switch attached to the router lr0, which has these columns, by its port lrp0."""
        port = self.add("Logical_Router_Port", name="lrp0", mac=mac, networks=networks)
        self.router(port, **columns)
        return self.attached()

    def claims(self, switch: str, v4: Cidr | None = V4, v6: Cidr | None = V6) -> Claims:
        before = copy.deepcopy(self.tables)
        found = claims(self.tables, switch, v4, v6)
        assert self.tables == before
        assert all(address in V4 for address in found.v4)
        assert all(address in V6 for address in found.v6)
        return found


@pytest.fixture
def db() -> Database:
    return Database()


def shown(found: Claims) -> dict[str, str]:
    """Everything claimed, by text."""
    v4 = {V4.format(address): holder for address, holder in found.v4.items()}
    v6 = {V6.format(address): holder for address, holder in found.v6.items()}
    return v4 | v6 | found.macs


def test_a_switch_without_anything_has_no_claims(db):
    assert db.claims(db.switch()) == Claims({}, {}, {})
    assert db.claims("no such switch") == Claims({}, {}, {})
    assert claims({}, "x", V4, V6) == Claims({}, {}, {})


# -- routers


def test_router_ports_hold_their_networks_their_mac_and_its_eui64(db):
    switch = db.routed(mac=MAC, networks=frozenset({"10.0.0.1/24", "10.0.0.254/24", "fd00:1::1/64"}))
    holder = "logical router port lrp0"
    derived = V6.format(eui64(V6.first, MAC))
    assert shown(db.claims(switch)) == dict.fromkeys(("10.0.0.1", "10.0.0.254", "fd00:1::1", derived, MAC), holder)


def test_a_delegated_prefix_of_a_router_port_makes_an_address_of_its_mac(db):
    far = db.add("Logical_Router_Port", name="far", mac="0A:0:0:0:0:2", ipv6_prefix=frozenset({"fd00:1::/64"}))
    near = db.add("Logical_Router_Port", name="near", mac=MAC)
    db.router(far, near)
    found = shown(db.claims(db.attached("near")))
    assert found["fd00:1::800:ff:fe00:2"] == "logical router port far"


def test_another_port_of_the_router_holds_its_addresses_here_but_not_its_mac(db):
    near = db.add("Logical_Router_Port", name="near", mac=MAC)
    far = db.add("Logical_Router_Port", name="far", mac="0a:00:00:00:00:99", networks=frozenset({"10.0.0.9/24"}))
    db.router(near, far)
    found = db.claims(db.attached("near"), v6=None)
    assert shown(found) == {"10.0.0.9": "logical router port far", MAC: "logical router port near"}


def test_only_ports_of_type_router_attach(db):
    port = db.add("Logical_Router_Port", name="lrp0", mac=MAC, networks=frozenset({"10.0.0.1/24"}))
    db.router(port)
    plain = db.port("plain", type="", options={"router-port": "lrp0"})
    astray = db.port("astray", type="router", options={"router-port": "nowhere"})
    unset = db.port("unset", type="router", options={})
    switch = db.switch(plain, astray, unset, "a port that is gone")
    assert db.claims(switch) == Claims({}, {}, {})
    assert Infrastructure(db.tables).router_ports(switch) == []


def test_the_router_ports_of_a_switch_come_with_their_routers(db):
    switch = db.routed(networks=frozenset({"10.0.0.1/24"}))
    [(port, router)] = Infrastructure(db.tables).router_ports(switch)
    assert (port["networks"], router["name"]) == (frozenset({"10.0.0.1/24"}), "lr0")


@pytest.mark.parametrize("kind", ["snat", "dnat", "dnat_and_snat"])
def test_nat_holds_its_external_address_and_mac(db, kind):
    four = db.add("NAT", type=kind, external_ip="10.0.0.3", external_mac="AA:BB:CC:00:00:01", logical_port="vm")
    six = db.add("NAT", type=kind, external_ip="fd00:1::3", external_mac=None)
    outside = db.add("NAT", type=kind, external_ip="192.0.2.1", external_mac="aa:bb:cc:00:00:02")
    switch = db.routed(nat=frozenset({four, six, outside}))
    holder = f"NAT {kind} of logical router lr0"
    assert shown(db.claims(switch)) == dict.fromkeys(("10.0.0.3", "fd00:1::3", "aa:bb:cc:00:00:01"), holder)


@pytest.mark.parametrize("text", ["10.0.0.254-10.0.1.7", "10.0.0.254..10.0.1.7"])
def test_a_nat_range_is_claimed_as_far_as_it_is_in_the_subnet(db, text):
    switch = db.routed(nat=frozenset({db.add("NAT", type="snat", external_ip=text)}))
    assert list(shown(db.claims(switch))) == ["10.0.0.254", "10.0.0.255"]


def test_a_huge_range_is_bounded(db):
    nat = db.add("NAT", type="snat", external_ip="fd00:1::-fd00:1::ffff:ffff:ffff")
    assert len(db.claims(db.routed(nat=frozenset({nat}))).v6) == RANGE_LIMIT


def test_a_nat_of_a_whole_network_is_an_error_for_ovn_and_holds_nothing(db):
    nats = {db.add("NAT", type="snat", external_ip=text) for text in ("10.0.0.0/28", "10.0.0.7/32")}
    assert list(shown(db.claims(db.routed(nat=frozenset(nats))))) == ["10.0.0.7"]


def test_next_hops_are_held_by_what_goes_through_them(db):
    routes = frozenset(
        db.add("Logical_Router_Static_Route", nexthop=hop) for hop in ("10.0.0.4", "fd00:1::4", "discard", "10.9.9.9")
    )
    policies = frozenset(
        {
            db.add("Logical_Router_Policy", nexthop="10.0.0.5", nexthops=frozenset()),
            db.add("Logical_Router_Policy", nexthop=None, nexthops=frozenset({"10.0.0.6", "fd00:1::6"})),
        }
    )
    switch = db.routed(static_routes=routes, policies=policies)
    route, policy = (f"next hop of a {what} of logical router lr0" for what in ("static route", "policy"))
    assert shown(db.claims(switch)) == {
        "10.0.0.4": route,
        "fd00:1::4": route,
        "10.0.0.5": policy,
        "10.0.0.6": policy,
        "fd00:1::6": policy,
    }


def test_bfd_and_static_mac_bindings_belong_where_their_router_port_does(db):
    switch = db.routed()
    db.add("BFD", logical_port="lrp0", dst_ip="10.0.0.7")
    db.add("BFD", logical_port="other", dst_ip="10.0.0.8")
    db.add("Static_MAC_Binding", logical_port="lrp0", ip="fd00:1::9", mac="0A:00:00:00:00:09")
    db.add("Static_MAC_Binding", logical_port="lrp0", ip="10.9.9.9", mac="0a:00:00:00:00:08")
    binding = "static MAC binding of logical router port lrp0"
    assert shown(db.claims(switch)) == {
        "10.0.0.7": "BFD peer of logical router port lrp0",
        "fd00:1::9": binding,
        "0a:00:00:00:00:09": binding,
    }


def test_dhcp_relay_servers(db):
    relay = db.add("DHCP_Relay", name="relay", servers="10.0.0.11")
    port = db.add("Logical_Router_Port", name="lrp0", dhcp_relay=relay)
    db.router(port)
    assert shown(db.claims(db.attached())) == {"10.0.0.11": "DHCP relay server of logical router port lrp0"}


# -- load balancers


VIPS = {
    "10.0.0.5:80": "10.0.0.2:80",
    "[fd00:1::5]:80": "[fd00:1::2]:80",
    "10.0.0.6": "10.0.0.2",
    "fd00:1::6": "",
}
HELD = {
    **dict.fromkeys(("10.0.0.5", "fd00:1::5", "10.0.0.6", "fd00:1::6"), "load balancer lb0"),
    **dict.fromkeys(("10.0.0.12", "fd00:1::12"), "load balancer lb0 health check source"),
}
SOURCES = {"10.0.0.2": "vm1:10.0.0.12", "fd00:1::2": "vm1:[fd00:1::12]", "10.0.0.3": "vm2:10.0.0.12:az1"}


@pytest.mark.parametrize("through", ["switch", "router", "switch group", "router group"])
def test_load_balancers_hold_their_vips_and_health_check_sources(db, through):
    balancer = frozenset({db.add("Load_Balancer", name="lb0", vips=VIPS, ip_port_mappings=SOURCES)})
    group = frozenset({db.add("Load_Balancer_Group", name="group", load_balancer=balancer)})
    columns = {"load_balancer_group": group} if "group" in through else {"load_balancer": balancer}
    switch = db.switch(**columns) if "switch" in through else db.routed(**columns)
    assert shown(db.claims(switch)) == HELD


@pytest.mark.parametrize("names_known", [False, True])
def test_a_health_check_source_is_held_on_the_switch_of_the_backend_also(db, names_known):
    db.add("Load_Balancer", name="lb0", vips=VIPS, ip_port_mappings=SOURCES)
    port = db.port("vm1")
    here, elsewhere = db.switch(port, db.port("vm3")), db.switch(db.port("vm4"))
    index = Infrastructure(db.tables, port_names={"vm1": port} if names_known else None)
    assert shown(index.claims(here, V4, V6)) == {
        address: holder for address, holder in HELD.items() if "source" in holder
    }
    assert index.claims(elsewhere, V4, V6) == Claims({}, {}, {})


# -- the switch and its ports


def test_forwarding_groups_hold_their_virtual_address_and_mac(db):
    group = db.add("Forwarding_Group", name="fg", vip="10.0.0.13", vmac="0A:00:00:00:00:13")
    switch = db.switch(forwarding_groups=frozenset({group}))
    assert shown(db.claims(switch)) == dict.fromkeys(("10.0.0.13", "0a:00:00:00:00:13"), "forwarding group fg")


@pytest.mark.parametrize("address", ["10.0.0.14", "fd00:1::14"])
def test_virtual_ports_hold_their_virtual_ip(db, address):
    virtual = db.port("vip1", type="virtual", options={"virtual-ip": address})
    other = db.port("not", type="", options={"virtual-ip": "10.0.0.99"})
    assert shown(db.claims(db.switch(virtual, other))) == {address: "virtual-ip of port vip1"}


def test_arp_proxy_holds_what_it_names_but_not_the_whole_subnet(db):
    text = f"{MAC} 10.0.0.15 fd00:1::15 10.0.0.128/31 10.0.0.0/16 fd00:1::/64 169.254.1.1"
    port = db.port("up", type="router", options={"router-port": "x", "arp_proxy": text})
    assert shown(db.claims(db.switch(port))) == dict.fromkeys(
        ("10.0.0.15", "fd00:1::15", "10.0.0.128", "10.0.0.129", MAC), "arp_proxy of port up"
    )


def test_port_security_holds_hosts_that_are_not_the_ports_own(db):
    port = db.port(
        "p",
        addresses=frozenset({f"{MAC} 10.0.0.16"}),
        dynamic_addresses=None,
        port_security=frozenset(
            {
                f"{MAC} 10.0.0.16 10.0.0.17 10.0.0.18/24 10.0.0.19/32 10.0.0.64/26 fd00:1::/64 fd00:1::16/64",
                "0a:00:00:00:00:16",
            }
        ),
    )
    assert shown(db.claims(db.switch(port))) == dict.fromkeys(
        ("10.0.0.17", "10.0.0.18", "10.0.0.19", "fd00:1::16", "0a:00:00:00:00:16"), "port_security of port p"
    )


def test_port_security_that_repeats_the_dynamic_address_holds_nothing(db):
    text = f"{MAC} 10.0.0.16"
    port = db.port("p", addresses=frozenset({"dynamic"}), dynamic_addresses=text, port_security=frozenset({text}))
    assert db.claims(db.switch(port)) == Claims({}, {}, {})


def test_health_checks_of_a_port_hold_their_source_and_an_address_that_is_not_its_own(db):
    check = db.add("Logical_Switch_Port_Health_Check", src_ip="10.0.0.20", address="fd00:1::20")
    own = db.add("Logical_Switch_Port_Health_Check", src_ip="10.0.0.20", address="10.0.0.21")
    port = db.port("p", addresses=frozenset({f"{MAC} 10.0.0.21"}), health_checks=frozenset({check, own}))
    assert shown(db.claims(db.switch(port))) == {
        "10.0.0.20": "health check source of port p",
        "fd00:1::20": "health check of port p",
    }


# -- DHCP and the service monitor


def test_dhcp_options_belong_to_the_switches_whose_ports_use_them(db):
    four = db.add(
        "DHCP_Options",
        cidr="10.0.0.0/24",
        options={
            "server_id": "10.0.0.8",
            "server_mac": "C0:FF:EE:00:00:01",
            "router": "10.0.0.1",
            "dns_server": "{10.0.0.53, 8.8.8.8,10.0.0.54}",
            "lease_time": "3600",
        },
    )
    six = db.add(
        "DHCP_Options",
        cidr="fd00:1::/64",
        options={"server_id": "c0:ff:ee:00:00:02", "dns_server": "{fd00:1::53}"},
    )
    switch = db.switch(db.port("p", dhcpv4_options=four, dhcpv6_options=six))
    other = db.switch(db.port("q", dhcpv4_options=None))
    assert shown(db.claims(switch)) == {
        "10.0.0.8": "DHCP options (server_id)",
        "10.0.0.1": "DHCP options (router)",
        "10.0.0.53": "DHCP options (dns_server)",
        "10.0.0.54": "DHCP options (dns_server)",
        "fd00:1::53": "DHCP options (dns_server)",
        "c0:ff:ee:00:00:01": "DHCP options (server_mac)",
        "c0:ff:ee:00:00:02": "DHCP options (server_id)",
    }
    assert db.claims(other) == Claims({}, {}, {})


def test_dhcp_options_that_no_port_uses_belong_to_every_switch_they_fit(db):
    db.add("DHCP_Options", cidr="10.0.0.0/24", options={"server_id": "10.0.0.8", "server_mac": MAC})
    db.add("DHCP_Options", cidr="fd00:1::/64", options={"server_id": "c0:ff:ee:00:00:02"})
    db.add(
        "DHCP_Options",
        cidr="192.0.2.0/24",
        options={"server_id": "192.0.2.1", "server_mac": "0a:00:00:00:00:77"},
    )
    for switch in (db.switch(db.port("p")), db.switch()):
        assert shown(db.claims(switch)) == {
            "10.0.0.8": "DHCP options (server_id)",
            MAC: "DHCP options (server_mac)",
            "c0:ff:ee:00:00:02": "DHCP options (server_id)",
        }
    assert db.claims(db.switch(), v4=None, v6=None) == Claims({}, {}, {})


def test_the_service_monitors_macs_are_held_everywhere(db):
    db.add(
        "NB_Global",
        options={"svc_monitor_mac": "AE:00:00:00:00:01", "svc_monitor_mac_dst": "ae:00:00:00:00:02"},
    )
    assert db.claims(db.switch(), v4=None, v6=None).macs == {
        "ae:00:00:00:00:01": "service monitor (svc_monitor_mac)",
        "ae:00:00:00:00:02": "service monitor (svc_monitor_mac_dst)",
    }


# -- scope, hints, cost


def tenant(db: Database, name: str, host: int) -> str:
    """A switch of 10.0.0.0/24 with one of everything, all on addresses of its own."""
    address = f"10.0.0.{host}"
    port = db.add("Logical_Router_Port", name=f"lrp-{name}", networks=frozenset({f"10.0.0.{host + 1}/24"}), mac="")
    db.router(
        port,
        name=f"lr-{name}",
        nat=frozenset({db.add("NAT", type="snat", external_ip=address)}),
        static_routes=frozenset({db.add("Logical_Router_Static_Route", nexthop=f"10.0.0.{host + 2}")}),
        load_balancer=frozenset({db.add("Load_Balancer", name=name, vips={f"10.0.0.{host + 3}:1": ""})}),
    )
    db.add("BFD", logical_port=f"lrp-{name}", dst_ip=f"10.0.0.{host + 4}")
    options = db.add("DHCP_Options", cidr="10.0.0.0/24", options={"server_id": f"10.0.0.{host + 5}"})
    link = db.port(
        f"to-{name}", type="router", options={"router-port": f"lrp-{name}", "arp_proxy": f"10.0.0.{host + 6}"}
    )
    virtual = db.port(f"vip-{name}", type="virtual", options={"virtual-ip": f"10.0.0.{host + 7}"})
    vm = db.port(f"vm-{name}", dhcpv4_options=options, port_security=frozenset({f"{MAC} 10.0.0.{host + 8}"}))
    return db.switch(link, virtual, vm)


def test_two_tenants_with_the_same_cidr_do_not_disturb_each_other(db):
    one, two = tenant(db, "one", 10), tenant(db, "two", 110)
    index = Infrastructure(db.tables)
    first, second = (index.claims(switch, V4, None) for switch in (one, two))
    assert sorted(first.v4) == [parse_v4(f"10.0.0.{host}") for host in range(10, 19)]
    assert sorted(second.v4) == [parse_v4(f"10.0.0.{host}") for host in range(110, 119)]
    assert all("two" not in holder for holder in first.v4.values())


def test_a_router_on_two_switches_counts_on_both(db):
    inside, outside = (
        db.add("Logical_Router_Port", name=name, mac=mac, networks=frozenset({network}))
        for name, mac, network in (("in", MAC, "10.0.0.1/24"), ("out", "0a:00:00:00:00:02", "192.0.2.1/24"))
    )
    db.router(inside, outside, nat=frozenset({db.add("NAT", type="snat", external_ip="192.0.2.5")}))
    index = Infrastructure(db.tables)
    assert shown(index.claims(db.attached("in"), V4, None)) == dict.fromkeys(
        ("10.0.0.1", MAC), "logical router port in"
    )
    assert index.claims(db.attached("out"), cidr("192.0.2.0/24"), None).v4 == {
        parse_v4("192.0.2.1"): "logical router port out",
        parse_v4("192.0.2.5"): "NAT snat of logical router lr0",
    }


def test_with_hints_the_same_is_found_but_for_port_security(db):
    switch = tenant(db, "one", 10)
    row = db.tables["Logical_Switch"][switch]
    ports = db.tables["Logical_Switch_Port"]
    special = {uuid for uuid in row["ports"] if ports[uuid].get("type") in ("router", "virtual")}
    dhcp = {uuid for port in row["ports"] if (uuid := ports[port].get("dhcpv4_options"))}
    index = Infrastructure(db.tables, dhcp_in_use=dhcp)
    found = index.claims(switch, V4, V6, special=special, dhcp=dhcp)
    full = db.claims(switch)
    assert {a: h for a, h in full.v4.items() if "port_security" not in h} == found.v4
    assert len(full.v4) == len(found.v4) + 1


class CountedPorts(dict[str, Any]):
    """A table that counts how often a row is read."""

    reads = 0

    def __getitem__(self, key: str) -> Any:
        self.reads += 1
        return super().__getitem__(key)


def test_a_switch_costs_its_own_ports_not_all_ports(db):
    one = db.switch(*(db.port(f"a{number}") for number in range(10)))
    db.switch(*(db.port(f"b{number}") for number in range(1000)))
    ports = db.tables["Logical_Switch_Port"] = CountedPorts(db.tables["Logical_Switch_Port"])
    claims(db.tables, one, V4, V6)
    assert ports.reads <= 10


# -- what others write


JUNK = st.one_of(
    st.text(max_size=20),
    st.text(alphabet="0123456789abcdef.:/-[]{}, \0", max_size=30),
    st.sampled_from(
        "10.0.0.1 10.0.0.0/0 0.0.0.0-255.255.255.255 ::/0 ::-ffff:: 10.0.0.9-10.0.0.1 fd00:1::5/200"
        f" 10.0.0.1/-1 / [ []:1 {{{{10.0.0.1}} : {MAC} {MAC},{MAC} dynamic".split()
    ),
)


@settings(max_examples=400)
@given(st.data())
def test_no_text_of_others_raises(data):
    def junk() -> str:
        return data.draw(JUNK)

    def some() -> frozenset[str]:
        return data.draw(st.frozensets(JUNK, max_size=3))

    db = Database()
    port = db.add("Logical_Router_Port", name="lrp0", mac=junk(), networks=some(), ipv6_prefix=some())
    db.tables["Logical_Router_Port"][port]["dhcp_relay"] = db.add("DHCP_Relay", name="", servers=junk())
    balancer = db.add("Load_Balancer", name=junk(), vips={junk(): junk()}, ip_port_mappings={junk(): junk()})
    group = db.add("Load_Balancer_Group", name="", load_balancer=frozenset({balancer, "gone"}))
    db.router(
        port,
        "gone",
        name="",
        nat=frozenset({db.add("NAT", type="snat", external_ip=junk(), external_mac=junk()), "gone"}),
        static_routes=frozenset({db.add("Logical_Router_Static_Route", nexthop=junk())}),
        policies=frozenset({db.add("Logical_Router_Policy", nexthop=junk(), nexthops=some())}),
        load_balancer_group=frozenset({group, "gone"}),
    )
    db.add("BFD", logical_port="lrp0", dst_ip=junk())
    db.add("Static_MAC_Binding", logical_port="lrp0", ip=junk(), mac=junk())
    keys = ("server_id", "router", "dns_server", "server_mac")
    options, idle = (db.add("DHCP_Options", cidr=junk(), options={key: junk() for key in keys}) for _ in range(2))
    check = db.add("Logical_Switch_Port_Health_Check", src_ip=junk(), address=junk())
    router = db.port("r", type="router", options={"router-port": "lrp0", "arp_proxy": junk()})
    virtual = db.port("v", type="virtual", options={"virtual-ip": junk()}, health_checks=frozenset({check}))
    vm = db.port(
        "vm",
        addresses=some(),
        dynamic_addresses=junk(),
        port_security=some(),
        dhcpv4_options=options,
        dhcpv6_options="gone",
    )
    db.add("NB_Global", options={"svc_monitor_mac": junk()})
    forwarding = frozenset({db.add("Forwarding_Group", name="", vip=junk(), vmac=junk())})
    switch = db.switch(router, virtual, vm, forwarding_groups=forwarding, load_balancer=frozenset({balancer, "gone"}))
    assert idle
    found = db.claims(switch)
    assert all(isinstance(holder, str) and holder for part in found for holder in part.values())
