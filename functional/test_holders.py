"""Everything in the northbound database that holds an address or a MAC: never chosen, and named when it is given.

ovn-northd itself avoids only the addresses of ports and the networks of router ports; the rest it hands out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import pytest
from sites import NETWORK, PREFIX, Site

from ovnreserve.model.addresses import eui64, format_v6, parse_v6

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

MAC = "0a:00:00:00:00:01"
GATEWAY = {4: "10.16.0.1/24", 6: "fd00:16::1/64"}
TAKEN = {4: "10.16.0.50", 6: "fd00:16::50"}
BELOW = {4: "10.16.0.49", 6: "fd00:16::4f"}
FIELD = {4: "v4IpAddress", 6: "v6IpAddress"}
OUTSIDE = {4: "192.168.0.5", 6: "fd00:99::5"}
MASK = {4: 24, 6: 64}

Setup = Callable[[Site, str, str], str]
"""(site, switch, address) -> how the holder is named."""


class Holder(NamedTuple):
    setup: Setup
    families: tuple[int, ...]


HOLDERS: dict[str, Holder] = {}


def holder(name: str, *families: int) -> Callable[[Setup], Setup]:
    def add(setup: Setup) -> Setup:
        HOLDERS[name] = Holder(setup, families or (4, 6))
        return setup

    return add


def each(*names: str) -> list[ParameterSet]:
    return [
        pytest.param(HOLDERS[name].setup, version, id=f"{name}-IPv{version}")
        for name in names or HOLDERS
        for version in HOLDERS[name].families
    ]


def family(address: str) -> int:
    return 6 if ":" in address else 4


def quoted(address: str, port: int = 80) -> str:
    """As a VIP: `IP:PORT` or `[IP]:PORT`."""
    return f"[{address}]:{port}" if family(address) == 6 else f"{address}:{port}"


# ---- ports and reservations ----------------------------------------------------------------------------------------


@holder("reservation")
def _(site: Site, switch: str, address: str) -> str:
    return f"IP {site.reserve(switch, **{FIELD[family(address)]: address}).name}"


@holder("static port")
def _(site: Site, switch: str, address: str) -> str:
    return f"logical switch port {site.port(switch, f'{MAC} {OUTSIDE[family(address)]} {address}')}"


@holder("static port, second element")
def _(site: Site, switch: str, address: str) -> str:
    elements = [f"{MAC} {OUTSIDE[family(address)]}", f"0a:00:00:00:00:02 {address}"]
    return f"logical switch port {site.port(switch, elements)}"


@holder("static port with a mask")
def _(site: Site, switch: str, address: str) -> str:
    return f"logical switch port {site.port(switch, f'{MAC} {address}/{MASK[family(address)]}')}"


@holder("dynamic port")
def _(site: Site, switch: str, address: str) -> str:
    port = site.port(switch, f"dynamic {address}")
    assert address in site.dynamic_addresses(port)
    site.nb("set", "logical_switch_port", port, "addresses=dynamic")
    site.nb("--wait=sb", "sync")
    return f"logical switch port {port}"


@holder("port with a MAC that we would give nobody")
def _(site: Site, switch: str, address: str) -> str:
    return f"logical switch port {site.port(switch, f'01:00:5e:00:00:01 {address}')}"


@holder("disabled port")
def _(site: Site, switch: str, address: str) -> str:
    return f"logical switch port {site.port(switch, f'{MAC} {address}', enabled='false')}"


@holder("localport")
def _(site: Site, switch: str, address: str) -> str:
    return f"logical switch port {site.port(switch, f'{MAC} {address}', type='localport')}"


@holder("child port")
def _(site: Site, switch: str, address: str) -> str:
    parent = site.port(switch, "unknown")
    return f"logical switch port {site.port(switch, f'{MAC} {address}', parent_name=parent, tag='5')}"


@holder("port of type router with an address of its own")
def _(site: Site, switch: str, address: str) -> str:
    return f"logical switch port {site.port(switch, f'{MAC} {address}', type='router')}"


@holder("port_security")
def _(site: Site, switch: str, address: str) -> str:
    port = site.port(switch, "unknown", port_security=json.dumps([f"{MAC} {OUTSIDE[family(address)]} {address}"]))
    return f"port_security of logical switch port {port}"


@holder("virtual-ip")
def _(site: Site, switch: str, address: str) -> str:
    port = site.port(switch, [], type="virtual", options=f"virtual-ip={json.dumps(address)}")
    return f"virtual-ip of port {port}"


# ---- routers -------------------------------------------------------------------------------------------------------


@holder("router port")
def _(site: Site, switch: str, address: str) -> str:
    router = site.router(switch, f"{address}/{MASK[family(address)]}")
    return f"logical router port {router}-{switch}"


@holder("router port, secondary network")
def _(site: Site, switch: str, address: str) -> str:
    router = site.router(switch, GATEWAY[family(address)], f"{address}/{MASK[family(address)]}")
    return f"logical router port {router}-{switch}"


@holder("NAT snat")
def _(site: Site, switch: str, address: str) -> str:
    router = site.router(switch, GATEWAY[family(address)])
    site.nb("lr-nat-add", router, "snat", address, "192.168.0.0/24" if family(address) == 4 else "fd00:99::/64")
    return f"NAT snat of logical router {router}"


@holder("NAT dnat_and_snat")
def _(site: Site, switch: str, address: str) -> str:
    router = site.router(switch, GATEWAY[family(address)])
    site.nb("lr-nat-add", router, "dnat_and_snat", address, OUTSIDE[family(address)])
    return f"NAT dnat_and_snat of logical router {router}"


@holder("NAT dnat")
def _(site: Site, switch: str, address: str) -> str:
    router = site.router(switch, GATEWAY[family(address)])
    site.nb("lr-nat-add", router, "dnat", address, OUTSIDE[family(address)])
    return f"NAT dnat of logical router {router}"


@holder("next hop of a static route")
def _(site: Site, switch: str, address: str) -> str:
    router = site.router(switch, GATEWAY[family(address)])
    site.nb("lr-route-add", router, "0.0.0.0/0" if family(address) == 4 else "::/0", address)
    return f"next hop of a static route of logical router {router}"


@holder("next hop of a policy")
def _(site: Site, switch: str, address: str) -> str:
    router = site.router(switch, GATEWAY[family(address)])
    match = f"ip{family(address)}.src == {OUTSIDE[family(address)]}"
    site.nb("lr-policy-add", router, "10", match, "reroute", address)
    return f"next hop of a policy of logical router {router}"


@holder("one of several next hops of a policy")
def _(site: Site, switch: str, address: str) -> str:
    router = site.router(switch, GATEWAY[family(address)])
    match = f"ip{family(address)}.src == {OUTSIDE[family(address)]}"
    other = "10.16.0.60" if family(address) == 4 else "fd00:16::60"
    site.nb("lr-policy-add", router, "10", match, "reroute", f"{other},{address}")
    return f"next hop of a policy of logical router {router}"


@holder("BFD peer")
def _(site: Site, switch: str, address: str) -> str:
    port = f"{site.router(switch, GATEWAY[family(address)])}-{switch}"
    site.nb("create", "bfd", f"logical_port={port}", f"dst_ip={json.dumps(address)}")
    return f"BFD peer of logical router port {port}"


@holder("static MAC binding")
def _(site: Site, switch: str, address: str) -> str:
    port = f"{site.router(switch, GATEWAY[family(address)])}-{switch}"
    site.nb("static-mac-binding-add", port, address, MAC)
    return f"static MAC binding of logical router port {port}"


@holder("arp_proxy")
def _(site: Site, switch: str, address: str) -> str:
    router = site.router(switch, GATEWAY[family(address)])
    proxied = f"options:arp_proxy={json.dumps(f'0a:00:00:00:00:77 {address}')}"
    site.nb("set", "logical_switch_port", f"{switch}-{router}", proxied)
    return f"arp_proxy of port {switch}-{router}"


# ---- load balancers ------------------------------------------------------------------------------------------------


def balancer(site: Site, vip: str) -> str:
    site.nb("lb-add", "balancer", quoted(vip), quoted(OUTSIDE[family(vip)]))
    return "load balancer balancer"


@holder("VIP of the switch's load balancer")
def _(site: Site, switch: str, address: str) -> str:
    named = balancer(site, address)
    site.nb("ls-lb-add", switch, "balancer")
    return named


@holder("VIP of the router's load balancer")
def _(site: Site, switch: str, address: str) -> str:
    named = balancer(site, address)
    site.nb("lr-lb-add", site.router(switch, GATEWAY[family(address)]), "balancer")
    return named


@holder("VIP of a load balancer group of the switch")
def _(site: Site, switch: str, address: str) -> str:
    named = balancer(site, address)
    group = (
        "create",
        "load_balancer_group",
        "name=group",
        f"load_balancer={site.row('Load_Balancer', 'balancer')['_uuid']}",
    )
    uuid = site.nb(*group).strip()
    site.nb("add", "logical_switch", switch, "load_balancer_group", uuid)
    return named


@holder("health check source of the switch's load balancer")
def _(site: Site, switch: str, address: str) -> str:
    named = balancer(site, OUTSIDE[family(address)])
    site.nb("ls-lb-add", switch, "balancer")
    source = json.dumps(f"nobody:{quoted(address)[:-3]}")
    site.nb("set", "load_balancer", "balancer", f"ip_port_mappings:{json.dumps(OUTSIDE[family(address)])}={source}")
    return f"{named} health check source"


@holder("health check source of a load balancer elsewhere")
def _(site: Site, switch: str, address: str) -> str:
    named = balancer(site, OUTSIDE[family(address)])
    source = json.dumps(f"backend:{quoted(address)[:-3]}")
    site.nb("set", "load_balancer", "balancer", f"ip_port_mappings:{json.dumps(OUTSIDE[family(address)])}={source}")
    site.reserve(switch)  # looked at before the backend is there
    site.port(switch, f"{MAC} {OUTSIDE[family(address)]}", name="backend")
    return f"{named} health check source"


# ---- the rest ------------------------------------------------------------------------------------------------------


@holder("forwarding group", 4)
def _(site: Site, switch: str, address: str) -> str:
    port = site.port(switch, "unknown")
    site.nb("fwd-group-add", "group", switch, address, "0a:00:00:00:00:66", port)
    return "forwarding group group"


def dhcp(site: Site, switch: str, version: int, options: str, *, used: bool) -> None:
    cidr = NETWORK if version == 4 else f"{PREFIX}/64"
    uuid = site.nb("create", "dhcp_options", f"cidr={json.dumps(cidr)}", f"options={{{options}}}").strip()
    if used:
        port = site.port(switch, "unknown")
        site.nb("set", "logical_switch_port", port, f"dhcpv{version}_options={uuid}")


@holder("DHCP server_id in use", 4)
def _(site: Site, switch: str, address: str) -> str:
    dhcp(site, switch, family(address), f'server_id="{address}"', used=True)
    return "DHCP options (server_id)"


@holder("DHCP server_id of nobody yet", 4)
def _(site: Site, switch: str, address: str) -> str:
    dhcp(site, switch, family(address), f'server_id="{address}"', used=False)
    return "DHCP options (server_id)"


@holder("DHCP router", 4)
def _(site: Site, switch: str, address: str) -> str:
    dhcp(site, switch, family(address), f'router="{address}"', used=True)
    return "DHCP options (router)"


@holder("DHCP dns_server")
def _(site: Site, switch: str, address: str) -> str:
    dhcp(site, switch, family(address), f'dns_server="{{{OUTSIDE[family(address)]}, {address}}}"', used=True)
    return "DHCP options (dns_server)"


# ---- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("setup", "version"), each())
def test_an_address_that_somebody_holds_is_not_chosen_and_when_given_its_holder_is_named(site, setup, version):
    subnet, prefix = (NETWORK, None) if version == 4 else (None, PREFIX)
    switch = site.switch(subnet, prefix)
    named = setup(site, switch, TAKEN[version])
    site.nb("set", "logical_switch", switch, f'external_ids:ovnreserve/auto="{BELOW[version]}..{TAKEN[version]}"')
    chosen = site.reserve(switch)
    assert (chosen.v4 or chosen.v6) == BELOW[version]
    with site.nothing_written():
        assert site.reserve(switch).reasons == {"NoAvailableAddress"}
        refused = site.reserve(switch, **{FIELD[version]: TAKEN[version]})
    assert (refused.code, refused.status["reason"]) == (409, "Conflict")
    [(field, message)] = refused.causes.items()
    assert field == f"spec.{FIELD[version]}"
    assert message == f"{TAKEN[version]} is held by {named}"


@pytest.mark.parametrize(
    ("setup", "version"),
    each("static port", "port_security", "virtual-ip", "NAT snat", "VIP of the router's load balancer", "arp_proxy")
    + each("health check source of a load balancer elsewhere", "forwarding group", "DHCP server_id in use", "BFD peer"),
)
def test_when_the_holder_is_gone_the_address_can_be_had(site, setup, version):
    switch = site.switch(NETWORK, PREFIX)
    setup(site, switch, TAKEN[version])
    assert site.reserve(switch, **{FIELD[version]: TAKEN[version]}).code == 409
    site.remove_holders(switch)
    assert site.reserve(switch, **{FIELD[version]: TAKEN[version]}).result == "created"


@pytest.mark.parametrize(
    ("setup", "version"), each("static port", "port_security", "virtual-ip", "router port", "NAT snat")
)
def test_holders_on_another_switch_of_the_same_cidr_hold_nothing_here(site, setup, version):
    here, there = site.switch(NETWORK, PREFIX), site.switch(NETWORK, PREFIX)
    setup(site, there, TAKEN[version])
    assert site.reserve(here, **{FIELD[version]: TAKEN[version]}).result == "created"


def test_what_a_router_has_counts_on_every_switch_that_it_is_attached_to(site):
    inside, outside = site.switch("10.17.0.0/24"), site.switch()
    router = site.router(inside, "10.17.0.1/24")
    site.attach(router, outside, "10.16.0.1/24", mac="0a:00:00:00:00:fd")
    site.nb("lr-nat-add", router, "snat", TAKEN[4], "10.17.0.0/24")
    assert f"NAT snat of logical router {router}" in site.reserve(outside, v4IpAddress=TAKEN[4]).message


def test_the_address_that_a_router_port_makes_of_its_mac_is_its_own(site):
    switch = site.switch(None, PREFIX)
    router = site.router(switch, GATEWAY[6], mac="0a:00:00:00:00:fe")
    made = format_v6(eui64(parse_v6(PREFIX), "0a:00:00:00:00:fe"))
    assert f"{made} is held by logical router port {router}-{switch}" in site.reserve(switch, v6IpAddress=made).message


def test_an_arp_proxy_of_a_network_holds_all_of_it(site):
    switch = site.switch(external_ids={"ovnreserve/auto": "10.16.0.60..10.16.0.70"})
    router = site.router(switch, "10.16.0.1/24")
    site.nb("set", "logical_switch_port", f"{switch}-{router}", 'options:arp_proxy="10.16.0.64/29 169.254.0.1"')
    assert site.reserve(switch).v4 == "10.16.0.63"
    assert "arp_proxy" in site.reserve(switch, v4IpAddress="10.16.0.70").message


def test_an_address_that_a_pending_port_asks_for_is_its_own(site):
    switch = site.switch()
    with site.northd_paused():
        site.nb("lsp-add", switch, "vm-9", "--", "set", "logical_switch_port", "vm-9", 'addresses="dynamic 10.16.0.50"')
        refused = site.reserve(switch, v4IpAddress="10.16.0.50")
    assert refused.code == 409
    assert "10.16.0.50 is held by logical switch port vm-9" in refused.message


def test_of_two_families_the_one_that_is_held_is_named_and_neither_is_reserved(site):
    switch = site.switch(NETWORK, PREFIX)
    site.port(switch, f"{MAC} {TAKEN[6]}", name="vm-9")
    with site.nothing_written():
        refused = site.reserve(switch, v4IpAddress=TAKEN[4], v6IpAddress=TAKEN[6])
    assert list(refused.causes) == ["spec.v6IpAddress"]
    assert site.reserve(switch, v4IpAddress=TAKEN[4]).result == "created"


def test_the_command_line_shows_who_holds_the_address(site, tmp_path):
    switch = site.switch()
    site.port(switch, f"{MAC} {TAKEN[4]}", name="vm-9")
    manifest = tmp_path / "ip.yaml"
    manifest.write_text(json.dumps(site.document(switch, "vm-1", v4IpAddress=TAKEN[4])))
    result = site.command("apply", "-f", str(manifest))
    assert result.code == 1
    assert result.stdout == ""
    assert f"{TAKEN[4]} is held by logical switch port vm-9" in result.stderr
    assert "Traceback" not in result.stderr


# ---- MACs ----------------------------------------------------------------------------------------------------------

MACS: dict[str, Callable[[Site, str, str], tuple[str, str]]] = {}
"""(site, switch, MAC) -> the MAC held, which may be another, and how its holder is named."""


def mac_holder(name: str) -> Callable[[Callable[[Site, str, str], tuple[str, str]]], None]:
    def add(setup: Callable[[Site, str, str], tuple[str, str]]) -> None:
        MACS[name] = setup

    return add


@mac_holder("reservation")
def _(site: Site, switch: str, mac: str) -> tuple[str, str]:
    return mac, f"IP {site.reserve(switch, macAddress=mac).name}"


@mac_holder("static port")
def _(site: Site, switch: str, mac: str) -> tuple[str, str]:
    return mac, f"logical switch port {site.port(switch, f'{mac} 10.16.0.9')}"


@mac_holder("dynamic port")
def _(site: Site, switch: str, _mac: str) -> tuple[str, str]:
    port = site.port(switch)
    return site.dynamic_addresses(port).partition(" ")[0], f"logical switch port {port}"


@mac_holder("port_security")
def _(site: Site, switch: str, mac: str) -> tuple[str, str]:
    return mac, f"logical switch port {site.port(switch, 'unknown', port_security=json.dumps(mac))}"


@mac_holder("router port")
def _(site: Site, switch: str, mac: str) -> tuple[str, str]:
    return mac, f"logical router port {site.router(switch, '10.16.0.1/24', mac=mac)}-{switch}"


@mac_holder("NAT external_mac")
def _(site: Site, switch: str, mac: str) -> tuple[str, str]:
    router = site.router(switch, "10.16.0.1/24")
    inside = site.port(site.switch("10.17.0.0/24"), "0a:00:00:00:00:02 10.17.0.9")
    site.nb("lr-nat-add", router, "dnat_and_snat", "10.16.0.50", "10.17.0.9", inside, mac)
    return mac, f"NAT dnat_and_snat of logical router {router}"


@mac_holder("forwarding group vmac")
def _(site: Site, switch: str, mac: str) -> tuple[str, str]:
    site.nb("fwd-group-add", "group", switch, "10.16.0.50", mac, site.port(switch, "unknown"))
    return mac, "forwarding group group"


@mac_holder("service monitor")
def _(site: Site, _switch: str, _mac: str) -> tuple[str, str]:
    return site.rows("NB_Global")[0]["options"]["svc_monitor_mac"], "service monitor (svc_monitor_mac)"


@mac_holder("DHCP server_mac")
def _(site: Site, switch: str, mac: str) -> tuple[str, str]:
    dhcp(site, switch, 4, f'server_id="10.16.0.1", server_mac="{mac}"', used=True)
    return mac, "DHCP options (server_mac)"


@mac_holder("DHCPv6 server_id")
def _(site: Site, switch: str, mac: str) -> tuple[str, str]:
    dhcp(site, switch, 6, f'server_id="{mac}"', used=True)
    return mac, "DHCP options (server_id)"


@mac_holder("static MAC binding")
def _(site: Site, switch: str, mac: str) -> tuple[str, str]:
    port = f"{site.router(switch, '10.16.0.1/24')}-{switch}"
    site.nb("static-mac-binding-add", port, "10.16.0.50", mac)
    return mac, f"static MAC binding of logical router port {port}"


@mac_holder("arp_proxy")
def _(site: Site, switch: str, mac: str) -> tuple[str, str]:
    router = site.router(switch, "10.16.0.1/24")
    site.nb("set", "logical_switch_port", f"{switch}-{router}", f"options:arp_proxy={json.dumps(f'{mac} 10.16.0.50')}")
    return mac, f"arp_proxy of port {switch}-{router}"


@pytest.mark.parametrize("setup", [pytest.param(setup, id=name) for name, setup in MACS.items()])
def test_when_a_mac_is_given_that_somebody_holds_its_holder_is_named(site, setup):
    switch = site.switch(NETWORK, PREFIX)
    mac, named = setup(site, switch, "0a:00:00:00:00:77")
    with site.nothing_written():
        refused = site.reserve(switch, macAddress=mac.upper())
    assert (refused.code, refused.causes) == (409, {"spec.macAddress": f"{mac} is held by {named}"})
