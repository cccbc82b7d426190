"""Reserving for a port that is there already: its own addresses are taken, and a dynamic one is pinned to them."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sites import NETWORK, PREFIX, Raw, Site
from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

MAC = "0a:00:00:00:00:01"
VM = "vm-1.default"


def history(site: Site, port: str) -> list[dict[str, Any]]:
    """What the database's log has of the port's row, transaction by transaction."""
    uuid = site.row("Logical_Switch_Port", port)["_uuid"]
    tables = (transaction.get("Logical_Switch_Port", {}) for transaction in site.transactions())
    return [table[uuid] for table in tables if uuid in table]


def condition(site: Site, type_: str) -> tuple[str, str]:
    found = site.condition(VM, type_)
    return found["status"], found["reason"]


FAMILIES = pytest.mark.parametrize(
    ("subnet", "prefix", "addresses"),
    [(NETWORK, None, "10.16.0.5"), (None, PREFIX, "fd00:16::5"), (NETWORK, PREFIX, "10.16.0.5 fd00:16::5")],
    ids=["IPv4", "IPv6", "dual"],
)


# ---- static ports --------------------------------------------------------------------------------------------------


@FAMILIES
def test_a_static_ports_addresses_are_taken_and_the_port_is_left_as_it_is(site, subnet, prefix, addresses):
    switch = site.switch(subnet, prefix)
    site.port(switch, f"{MAC} {addresses}", name=VM)
    before = len(history(site, VM))
    answer = site.reserve(switch, "vm-1", wait="sb")
    assert (answer.result, answer.addresses, answer.warnings) == ("created", f"{MAC} {addresses}", [])
    assert condition(site, "Bound") == ("True", "Bound")
    assert site.exclude_ips(switch) == ("10.16.0.5" if subnet else None)
    assert len(history(site, VM)) == before


def test_of_a_static_port_with_one_family_only_that_one_is_reserved(site):
    switch = site.switch(NETWORK, PREFIX)
    site.port(switch, f"{MAC} 10.16.0.5", name=VM)
    answer = site.reserve(switch, "vm-1")
    assert (answer.v4, answer.v6) == ("10.16.0.5", "")


def test_a_static_ports_addresses_may_be_spread_over_elements(site):
    switch = site.switch(NETWORK, PREFIX)
    site.port(switch, [f"{MAC} 10.16.0.5", f"{MAC} fd00:16::5", "unknown"], name=VM)
    answer = site.reserve(switch, "vm-1")
    assert (answer.addresses, answer.warnings) == (f"{MAC} 10.16.0.5 fd00:16::5", [])
    assert condition(site, "Bound") == ("True", "Bound")


@pytest.mark.parametrize(
    "addresses",
    [
        f"{MAC} 10.16.0.5 10.16.0.6 fd00:16::5",
        f"{MAC} 10.16.0.5 fd00:16::5 fd00:16::6",
        [f"{MAC} 10.16.0.5 fd00:16::5", "0a:00:00:00:00:02 10.16.0.6"],
    ],
)
def test_of_more_addresses_the_first_of_each_family_is_reserved_with_a_warning(site, addresses):
    switch = site.switch(NETWORK, PREFIX)
    site.port(switch, addresses, name=VM)
    answer = site.reserve(switch, "vm-1")
    assert answer.addresses == f"{MAC} 10.16.0.5 fd00:16::5"
    [warning] = answer.warnings
    assert f"port {VM} has more addresses" in warning
    assert condition(site, "Bound") == ("True", "Bound")


@pytest.mark.parametrize("columns", [{"enabled": "false"}, {"external_ids": "pod=default/vm-1"}, {"up": "true"}])
def test_a_port_is_adopted_whether_enabled_or_not_and_whoever_made_it(site, columns):
    switch = site.switch()
    site.port(switch, f"{MAC} 10.16.0.5", name=VM, **columns)
    assert site.reserve(switch, "vm-1").v4 == "10.16.0.5"


def test_an_address_in_the_operators_excludes_is_adopted(site):
    switch = site.switch(exclude_ips="10.16.0.5")
    site.port(switch, f"{MAC} 10.16.0.5", name=VM)
    assert site.reserve(switch, "vm-1").v4 == "10.16.0.5"
    assert site.exclude_ips(switch) == "10.16.0.5 10.16.0.5"


def test_the_first_host_is_adopted(site):
    switch = site.switch()
    site.port(switch, f"{MAC} 10.16.0.1", name=VM)
    assert site.reserve(switch, "vm-1").v4 == "10.16.0.1"


def test_a_port_that_was_dynamic_a_moment_ago_is_static(site):
    switch = site.switch()
    port = site.port(switch, name=VM)
    with site.northd_paused():
        site.nb("set", "logical_switch_port", port, f'addresses="{MAC} 10.16.0.9"')
        assert site.dynamic_addresses(port) != "", "ovn-northd has not cleared it yet"
        answer = site.reserve(switch, "vm-1")
    assert answer.addresses == f"{MAC} 10.16.0.9"
    assert site.addresses(port) == {answer.addresses}


# ---- dynamic ports -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subnet", "prefix"), [(NETWORK, None), (None, PREFIX), (NETWORK, PREFIX)], ids=["IPv4", "IPv6", "dual"]
)
@pytest.mark.parametrize("asks", ["dynamic", f"{MAC} dynamic"])
def test_a_dynamic_port_is_pinned_to_what_ovn_northd_gave_it(site, subnet, prefix, asks):
    switch = site.switch(subnet, prefix)
    port = site.port(switch, asks, name=VM)
    given = site.dynamic_addresses(port)
    answer = site.reserve(switch, "vm-1", wait="sb")
    assert (answer.result, answer.addresses) == ("created", given)
    assert site.addresses(port) == {given}
    assert site.dynamic_addresses(port) == "", "ovn-northd leaves it to us"
    assert condition(site, "Bound") == ("True", "Bound")


@pytest.mark.parametrize("asks", ["dynamic 10.16.0.9", "dynamic 10.16.0.9 fd00:16::9", "dynamic fd00:16::9"])
def test_a_dynamic_port_that_asked_for_its_address_is_pinned_too(site, asks):
    switch = site.switch(NETWORK, PREFIX)
    port = site.port(switch, asks, name=VM)
    given = site.dynamic_addresses(port)
    assert asks.removeprefix("dynamic ") in given
    assert site.reserve(switch, "vm-1").addresses == given
    assert site.addresses(port) == {given}


def test_adopting_a_running_dynamic_port_never_changes_its_address(site):
    switch = site.switch()
    others = [site.port(switch) for _ in range(4)]
    port = site.port(switch, name=VM)
    given = site.dynamic_addresses(port)
    site.nb("--wait=sb", "lsp-del", others[1])  # there is room for it elsewhere, below and above
    site.reserve(switch, "vm-1", wait="sb")
    site.nb("--wait=sb", "set", "logical_switch", switch, "other_config:mcast_snoop=true")
    assert site.addresses(port) == {given}
    ever = set(re.findall(r"10\.16\.0\.\d+", json.dumps(history(site, port))))
    assert ever == {given.partition(" ")[2]}


def test_adopting_a_dynamic_port_pins_it_in_the_transaction_that_excludes_its_address(site):
    switch = site.switch()
    port = site.port(switch, name=VM)
    before = len(site.ours())
    site.reserve(switch, "vm-1", wait="sb")
    [transaction] = site.ours()[before:]
    [pinned] = transaction["Logical_Switch_Port"].values()
    [excluded] = transaction["Logical_Switch"].values()
    assert pinned.keys() == {"addresses"}
    assert "10.16.0.2" in json.dumps(pinned)
    assert ["exclude_ips", "10.16.0.2"] in excluded["other_config"][1]
    assert any("ovnreserve/record" in json.dumps(row) for row in transaction["DNS"].values())
    assert site.addresses(port) == {f"{site.ip(VM)['spec']['macAddress']} 10.16.0.2"}


def test_unknown_beside_dynamic_is_kept(site):
    switch = site.switch()
    port = site.port(switch, ["dynamic", "unknown"], name=VM)
    given = site.dynamic_addresses(port)
    assert site.reserve(switch, "vm-1").addresses == given
    assert site.addresses(port) == {given, "unknown"}


def test_a_static_element_beside_a_dynamic_one_is_kept_and_comes_with_a_warning(site):
    switch = site.switch()
    port = site.port(switch, ["dynamic", f"{MAC} 10.16.0.99"], name=VM)
    given = site.dynamic_addresses(port)
    answer = site.reserve(switch, "vm-1")
    assert answer.addresses == given
    assert ["has more addresses" in warning for warning in answer.warnings] == [True]
    assert site.addresses(port) == {given, f"{MAC} 10.16.0.99"}


def test_many_dynamic_ports_are_adopted_in_one_transaction_and_none_moves(site):
    switch = site.switch()
    names = [f"vm-{number}" for number in range(50)]
    for name in names:
        site.nb("lsp-add", switch, f"{name}.default", "--", "lsp-set-addresses", f"{name}.default", "dynamic")
    site.nb("--wait=sb", "sync")
    given = {row["name"]: row["dynamic_addresses"] for row in site.rows("Logical_Switch_Port")}
    before = len(site.ours())
    answers = site.bulk("apply", [site.document(switch, name) for name in names], wait="sb")
    assert {answer.name: answer.addresses for answer in answers} == given
    assert len(site.ours()) == before + 1
    assert {row["name"]: row["addresses"] for row in site.rows("Logical_Switch_Port")} == given
    assert site.exclude_ips(switch) == "10.16.0.2..10.16.0.51"


def test_whatever_happens_to_a_port_while_it_is_adopted_no_two_ports_have_one_address_unsaid(site):
    """Another client puts static ports on the addresses of the dynamic ones that are being adopted."""
    switch = site.switch()
    names = [f"vm-{number}" for number in range(40)]
    with Raw(site.servers) as database:
        for name in names:
            database.attach(switch, f"{name}.default", "dynamic")
        site.nb("--wait=sb", "sync")
        given = {row["name"]: row["dynamic_addresses"] for row in site.rows("Logical_Switch_Port")}

        def intrude() -> None:
            for number, name in enumerate(names):
                address = given[f"{name}.default"].partition(" ")[2]
                database.attach(switch, f"intruder-{number}", f"0a:00:00:00:01:{number:02x} {address}")

        with ThreadPoolExecutor() as pool:
            intruding = pool.submit(intrude)
            answers = [site.reserve(switch, name) for name in names]
            intruding.result(10)
    site.nb("--wait=sb", "sync")
    created = {answer.name: answer for answer in answers if answer.result == "created"}
    assert {answer.code for answer in answers if answer.result != "created"} <= {409}
    static = {
        row["name"]: row["addresses"] for row in site.rows("Logical_Switch_Port") if row["addresses"] != "dynamic"
    }
    for name, answer in created.items():
        rivals = [port for port, text in static.items() if port != name and text.endswith(f" {answer.v4}")]
        wait_until(lambda n=name, r=rivals: (site.condition(n, "Conflicted")["status"] == "True") == bool(r))
        assert static[name] == answer.addresses
        assert site.condition(name, "Bound")["status"] == "True"


# ---- ports without an address --------------------------------------------------------------------------------------


@pytest.fixture
def paused(site: Site) -> Iterator[None]:
    """ovn-northd does nothing, so dynamic ports stay pending."""
    with site.northd_paused():
        yield


def add_port(site: Site, switch: str, addresses: str | list[str]) -> None:
    """The port VM, without waiting for ovn-northd."""
    texts = json.dumps([addresses] if isinstance(addresses, str) else addresses)
    site.nb("lsp-add", switch, VM, "--", "set", "logical_switch_port", VM, f"addresses={texts}")


@pytest.mark.usefixtures("paused")
def test_a_pending_port_gets_what_is_chosen_in_the_same_transaction(site):
    switch = site.switch(NETWORK, PREFIX)
    add_port(site, switch, ["dynamic", "unknown"])
    before = len(site.ours())
    answer = site.reserve(switch, "vm-1")
    assert (answer.result, answer.v4) == ("created", "10.16.0.254")
    assert site.addresses(VM) == {answer.addresses, "unknown"}
    assert len(site.ours()) == before + 1
    assert condition(site, "Bound") == ("True", "Bound")
    site.servers.northd.resume()
    site.nb("--wait=sb", "sync")
    assert (site.addresses(VM), site.dynamic_addresses(VM)) == ({answer.addresses, "unknown"}, "")


@pytest.mark.usefixtures("paused")
def test_a_given_address_for_a_pending_port_does_not_wait_for_what_that_port_would_get(site):
    switch = site.switch()
    add_port(site, switch, "dynamic")
    started = time.monotonic()
    answer = site.reserve(switch, "vm-1", v4IpAddress="10.16.0.2", macAddress=MAC)
    assert time.monotonic() - started < 1.5
    assert site.addresses(VM) == {f"{MAC} 10.16.0.2"} == {answer.addresses}


@pytest.mark.usefixtures("paused")
@pytest.mark.parametrize(
    ("asks", "fields"),
    [
        ("dynamic 10.16.0.9", {"v4IpAddress": "10.16.0.9"}),
        ("dynamic fd00:16::9", {"v6IpAddress": "fd00:16::9", "v4IpAddress": "10.16.0.254"}),
        ("dynamic 10.16.0.9 fd00:16::9", {"v4IpAddress": "10.16.0.9", "v6IpAddress": "fd00:16::9"}),
        (f"{MAC} dynamic", {"macAddress": MAC, "v4IpAddress": "10.16.0.254"}),
    ],
)
def test_what_a_pending_port_asks_for_is_what_it_gets(site, asks, fields):
    switch = site.switch(NETWORK, PREFIX)
    add_port(site, switch, asks)
    answer = site.reserve(switch, "vm-1")
    assert answer.ip["spec"].items() >= fields.items()
    assert site.addresses(VM) == {answer.addresses}


@pytest.mark.usefixtures("paused")
@pytest.mark.parametrize(
    ("asks", "given"),
    [
        ("dynamic 10.16.0.9", {"v4IpAddress": "10.16.0.10"}),
        ("dynamic fd00:16::9", {"v6IpAddress": "fd00:16::10"}),
        (f"{MAC} dynamic", {"macAddress": "0a:00:00:00:00:02"}),
    ],
)
def test_what_a_pending_port_asks_for_and_the_document_does_not_is_a_conflict(site, asks, given):
    switch = site.switch(NETWORK, PREFIX)
    add_port(site, switch, asks)
    with site.nothing_written():
        refused = site.reserve(switch, "vm-1", **given)
    assert (refused.code, list(refused.causes)) == (409, [f"spec.{next(iter(given))}"])
    assert f'asks for "{asks}"' in refused.message


@pytest.mark.parametrize("addresses", [[], [MAC], [MAC, "unknown"], [MAC, "0a:00:00:00:00:02"]])
def test_a_port_without_an_ip_address_gets_one_and_keeps_what_it_has(site, addresses):
    switch = site.switch(NETWORK, PREFIX)
    site.port(switch, addresses, name=VM)
    answer = site.reserve(switch, "vm-1")
    assert (answer.result, answer.v4) == ("created", "10.16.0.254")
    assert (answer.mac == MAC) == bool(addresses)
    assert site.addresses(VM) == {answer.addresses, *addresses} - {MAC}
    assert condition(site, "Bound") == ("True", "Bound")


def test_on_a_switch_that_ovn_northd_does_no_ipam_for_a_dynamic_port_gets_what_is_chosen(site):
    switch = site.switch(None)
    site.router(switch, "10.17.0.1/24")
    port = site.port(switch, name=VM)
    assert site.dynamic_addresses(port) == ""
    answer = site.reserve(switch, "vm-1")
    assert answer.v4 == "10.17.0.254"
    assert site.addresses(port) == {answer.addresses}


def test_a_port_for_which_ovn_northd_had_no_address_keeps_the_mac_that_it_got(site):
    switch = site.switch("10.16.0.0/30")
    site.port(switch)
    port = site.port(switch, name=VM)
    mac = site.dynamic_addresses(port)
    assert " " not in mac
    assert site.reserve(switch, "vm-1").reasons == {"NoAvailableAddress"}
    answer = site.reserve(switch, "vm-1", v4IpAddress="10.16.0.1")
    assert answer.addresses == f"{mac} 10.16.0.1"
    assert site.addresses(port) == {answer.addresses}


@pytest.mark.parametrize("addresses", ["unknown", "10.16.0.5", f"{MAC} dynamic 10.16.0.5"])
def test_a_port_whose_addresses_name_no_ip_for_sure_is_left_alone(site, addresses):
    switch = site.switch()
    site.port(switch, addresses, name=VM)
    with site.nothing_written():
        refused = site.reserve(switch, "vm-1")
    assert refused.code == 409
    assert f'port {VM} has addresses "{addresses}"' in refused.message


# ---- ports that cannot be adopted ----------------------------------------------------------------------------------


def test_a_port_on_another_switch_is_a_conflict_that_names_it(site):
    here, there = site.switch(), site.switch()
    site.port(there, f"{MAC} 10.16.0.5", name=VM)
    with site.nothing_written():
        refused = site.reserve(here, "vm-1")
    assert (refused.code, refused.status["reason"], list(refused.causes)) == (409, "Conflict", ["spec.subnet"])
    assert f"port {VM} is on logical switch {there}, not on {here}" in refused.message


@pytest.mark.parametrize("addresses", [f"{MAC} 10.16.0.2 fd00:16::5", f"{MAC} dynamic"], ids=["static", "dynamic"])
@pytest.mark.parametrize(
    ("field", "value"),
    [("v4IpAddress", "10.16.0.9"), ("v6IpAddress", "fd00:16::9"), ("macAddress", "0a:00:00:00:00:02")],
)
def test_a_given_address_or_mac_that_is_not_the_ports_is_a_conflict(site, addresses, field, value):
    switch = site.switch(NETWORK, PREFIX)
    site.port(switch, addresses, name=VM)
    with site.nothing_written():
        refused = site.reserve(switch, "vm-1", **{field: value})
    assert (refused.code, list(refused.causes)) == (409, [f"spec.{field}"])
    assert f"port {VM} has" in refused.message
    assert "10.16.0.2" in refused.message


@pytest.mark.parametrize("addresses", [f"{MAC} 10.16.0.2 fd00:16::5", "dynamic"], ids=["static", "dynamic"])
def test_a_given_address_and_mac_that_are_the_ports_are_adopted(site, addresses):
    switch = site.switch(NETWORK, PREFIX)
    port = site.port(switch, addresses, name=VM)
    mac, v4, v6 = (site.dynamic_addresses(port) or addresses).split()
    answer = site.reserve(switch, "vm-1", v4IpAddress=v4, v6IpAddress=v6.upper(), macAddress=mac.upper())
    assert (answer.result, answer.addresses) == ("created", f"{mac} {v4} {v6}")


def test_a_family_that_the_port_has_not_cannot_be_given(site):
    switch = site.switch(NETWORK, PREFIX)
    site.port(switch, f"{MAC} 10.16.0.5", name=VM)
    assert list(site.reserve(switch, "vm-1", v6IpAddress="fd00:16::9").causes) == ["spec.v6IpAddress"]


@pytest.mark.parametrize("addresses", [f"{MAC} 10.17.0.5", f"{MAC} 10.17.0.5 fd00:17::5", f"{MAC} fe80::5"])
def test_a_port_with_addresses_outside_of_the_subnet_only_is_a_conflict(site, addresses):
    switch = site.switch(NETWORK, PREFIX)
    site.port(switch, addresses, name=VM)
    with site.nothing_written():
        refused = site.reserve(switch, "vm-1")
    assert refused.code == 409
    assert "is not in" in refused.message


@pytest.mark.parametrize("address", ["10.16.0.5", "fd00:16::5"])
def test_a_port_whose_address_another_port_has_too_is_a_conflict_that_names_it(site, address):
    switch = site.switch(NETWORK, PREFIX)
    site.port(switch, f"{MAC} {address}", name=VM)
    site.port(switch, f"0a:00:00:00:00:02 {address}", name="twin")
    refused = site.reserve(switch, "vm-1")
    assert refused.code == 409
    assert f"{address} is held by logical switch port twin" in refused.message


def test_a_port_whose_address_is_reserved_for_somebody_else_is_a_conflict_that_names_him(site):
    switch = site.switch()
    other = site.reserve(switch, v4IpAddress="10.16.0.5")
    site.port(switch, f"{MAC} 10.16.0.5", name=VM)
    refused = site.reserve(switch, "vm-1")
    assert refused.code == 409
    assert f"10.16.0.5 is held by IP {other.name}" in refused.message


@pytest.mark.parametrize("type_", ["router", "localport", "virtual", "localnet", "external"])
def test_a_port_that_is_no_workloads_is_a_conflict(site, type_):
    switch = site.switch()
    site.port(switch, f"{MAC} 10.16.0.5", name=VM, type=type_)
    refused = site.reserve(switch, "vm-1")
    assert refused.code == 409
    assert f"port {VM} is of type {type_}" in refused.message


@pytest.mark.parametrize(
    "ids",
    ["pod=default/vm-2", "pod=other/vm-1", "namespace=other", "ovnreserve/pod-type=VirtualMachine"],
)
def test_a_port_that_says_it_is_somebody_elses_is_a_conflict(site, ids):
    switch = site.switch()
    key, _, value = ids.partition("=")
    site.port(switch, f"{MAC} 10.16.0.5", name=VM, external_ids=f"{json.dumps(key)}={json.dumps(value)}")
    with site.nothing_written():
        refused = site.reserve(switch, "vm-1")
    assert (refused.code, list(refused.causes)) == (409, ["metadata.name"])
    assert f"external_ids:{ids}" in refused.message


# ---- what else names the port's address ----------------------------------------------------------------------------


def test_who_only_refers_to_the_ports_address_does_not_hold_it(site):
    """A workload may be a router or name server itself."""
    switch = site.switch()
    router = site.router(switch, "10.16.0.1/24")
    link = f"{router}-{switch}"
    site.port(switch, f"{MAC} 10.16.0.5", name=VM)
    site.nb("lr-route-add", router, "192.168.0.0/24", "10.16.0.5")
    site.nb("lr-policy-add", router, "10", "ip4.src == 192.168.1.0/24", "reroute", "10.16.0.5")
    site.nb("static-mac-binding-add", link, "10.16.0.5", MAC)
    site.nb("create", "bfd", f"logical_port={link}", "dst_ip=10.16.0.5")
    site.nb("create", "dhcp_options", "cidr=10.16.0.0/24", 'options={dns_server="10.16.0.5", router="10.16.0.5"}')
    answer = site.reserve(switch, "vm-1")
    assert (answer.result, answer.warnings) == ("created", [])
    assert condition(site, "Conflicted") == ("False", "NoConflict")


def test_who_answers_for_the_ports_address_too_is_named_in_a_warning_and_in_the_condition(site):
    switch = site.switch()
    router = site.router(switch, "10.16.0.1/24")
    site.nb("lr-nat-add", router, "snat", "10.16.0.5", "192.168.0.0/24")
    port = site.port(switch, f"{MAC} 10.16.0.5", name=VM)
    answer = site.reserve(switch, "vm-1")
    assert answer.result == "created"
    assert answer.warnings == [f"10.16.0.5, which port {port} has, is held by NAT snat of logical router {router} too"]
    assert condition(site, "Conflicted")[0] == "True"


def test_a_mac_that_a_router_port_has_too_comes_with_a_warning(site):
    switch = site.switch()
    site.router(switch, "10.16.0.1/24", mac=MAC)
    site.port(switch, f"{MAC} 10.16.0.5", name=VM)
    answer = site.reserve(switch, "vm-1")
    assert answer.result == "created"
    assert [f"{MAC}, which port {VM} has" in warning for warning in answer.warnings] == [True]


def test_the_adopted_mac_is_kept_whoever_made_it(site):
    switch = site.switch()
    port = site.port(switch, name=VM)
    prefix = site.rows("NB_Global")[0]["options"]["mac_prefix"]
    assert site.reserve(switch, "vm-1").mac == site.addresses(port).pop().partition(" ")[0]
    assert site.ip(VM)["spec"]["macAddress"].startswith(prefix)


def test_a_port_of_another_provider_is_adopted_under_its_name(site):
    switch = site.switch(external_ids={"ovnreserve/provider": "net1"})
    site.port(switch, f"{MAC} 10.16.0.5", name="vm-1.default.net1")
    answer = site.apply(site.document(switch, "vm-1", name="vm-1.default.net1"))
    assert answer.addresses == f"{MAC} 10.16.0.5"
