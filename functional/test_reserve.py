"""Reserving: the choice of addresses, what is refused, and what is written. ovn-nbctl is the witness."""

from __future__ import annotations

import hashlib
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sites import NETWORK, PREFIX, TOP, Answer, Raw, Site
from support import wait_until

from ovnreserve.model.addresses import eui64, format_v6, parse_v6

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ovnreserve.sandbox import Daemon, Servers

AUTO = "ovnreserve/auto"
PROVIDER = "ovnreserve/provider"


def last_octets(*answers: Answer) -> list[int]:
    return [int(answer.v4.rpartition(".")[2]) for answer in answers]


def timed(ask: Callable[[], Answer]) -> tuple[Answer, float]:
    started = time.monotonic()
    return ask(), time.monotonic() - started


# ---- the choice ----------------------------------------------------------------------------------------------------


def test_automatic_addresses_go_from_the_top_of_the_subnet_down_and_make_one_range(site):
    switch = site.switch()
    assert last_octets(*(site.reserve(switch) for _ in range(3))) == [254, 253, 252]
    assert site.exclude_ips(switch) == "10.16.0.252..10.16.0.254"


def test_reserving_creates_no_port(site):
    switch = site.switch()
    site.reserve(switch, wait="sb")
    assert site.rows("Logical_Switch_Port") == []
    assert site.row("Logical_Switch", switch)["ports"] == []


def test_ovn_northd_does_not_hand_out_a_reserved_address(site):
    switch = site.switch("10.16.0.0/29")
    reserved = {site.reserve(switch, v4IpAddress=f"10.16.0.{n}").v4 for n in (2, 4, 6)}
    ports = [site.port(switch) for _ in range(3)]
    assert [site.dynamic_addresses(port).partition(" ")[2] for port in ports] == ["10.16.0.3", "10.16.0.5", ""]
    assert reserved == {"10.16.0.2", "10.16.0.4", "10.16.0.6"}


@pytest.mark.parametrize(
    ("subnet", "prefix", "v4", "v6"),
    [(NETWORK, None, "10.16.0.254", ""), (None, PREFIX, "", TOP), (NETWORK, PREFIX, "10.16.0.254", TOP)],
    ids=["IPv4", "IPv6", "dual"],
)
def test_without_an_address_each_family_of_the_subnet_gets_one(site, subnet, prefix, v4, v6):
    answer = site.reserve(site.switch(subnet, prefix))
    assert (answer.v4, answer.v6) == (v4, v6)
    assert answer.ip["spec"]["ipAddress"] == ",".join(filter(None, (v4, v6)))


def test_one_given_family_leaves_the_other_automatic(site):
    switch = site.switch(NETWORK, PREFIX)
    given_v4 = site.reserve(switch, v4IpAddress="10.16.0.7")
    given_v6 = site.reserve(switch, v6IpAddress="fd00:16::7")
    both = site.reserve(switch, ipAddress="10.16.0.8,fd00:16::8")
    assert (given_v4.v4, given_v4.v6) == ("10.16.0.7", TOP)
    assert (given_v6.v4, given_v6.v6) == ("10.16.0.254", "fd00:16::7")
    assert (both.v4, both.v6) == ("10.16.0.8", "fd00:16::8")


def test_documents_of_one_request_get_different_addresses(site):
    switch = site.switch("10.16.0.0/27", PREFIX)
    answers = site.bulk("apply", [site.document(switch) for _ in range(29)])
    assert {answer.result for answer in answers} == {"created"}
    assert last_octets(*answers) == list(range(30, 1, -1))
    assert len({answer.v6 for answer in answers}) == len({answer.mac for answer in answers}) == 29


def test_of_two_documents_that_give_the_same_address_the_second_is_refused(site):
    switch = site.switch()
    first, second = site.bulk("apply", [site.document(switch, v4IpAddress="10.16.0.9") for _ in range(2)])
    assert (first.result, second.code) == ("created", 409)
    assert f"held by IP {first.name}" in second.message


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("10.16.0.20..10.16.0.22", [22, 21, 20]),
        ("10.16.0.20 10.16.0.40..10.16.0.41", [41, 40, 20]),
        ("10.16.0.254..10.16.1.9 10.16.0.0..10.16.0.3", [254, 3, 2]),
    ],
)
def test_automatic_choice_stays_within_the_operators_ranges(site, text, chosen):
    switch = site.switch(external_ids={AUTO: text})
    assert last_octets(*(site.reserve(switch) for _ in range(3))) == chosen
    refused = site.reserve(switch)
    assert (refused.code, refused.reasons) == (409, {"NoAvailableAddress"})
    assert site.reserve(switch, v4IpAddress="10.16.0.99").result == "created"


def test_a_range_of_one_family_leaves_the_other_free(site):
    switch = site.switch(NETWORK, PREFIX, external_ids={AUTO: "fd00:16::10..fd00:16::20"})
    answer = site.reserve(switch)
    assert (answer.v4, answer.v6) == ("10.16.0.254", "fd00:16::20")


@pytest.mark.parametrize("text", ["10.16.0.9-10.16.0.20", "10.16.0.20..10.16.0.9", "10.16.0.0/28", "10.16.0.9.. ", "x"])
def test_ranges_that_cannot_be_read_are_said_and_not_ignored(site, text):
    switch = site.switch(external_ids={AUTO: text})
    with site.nothing_written():
        refused = site.reserve(switch)
    assert refused.code == 422
    assert AUTO in refused.causes["spec.subnet"]
    assert site.reserve(switch, v4IpAddress="10.16.0.9").result == "created"


def test_an_automatic_address_beside_a_localnet_port_comes_with_a_warning(site):
    plain, ranged, excluding = (
        site.switch(),
        site.switch(external_ids={AUTO: "10.16.0.100..10.16.0.200"}),
        site.switch(exclude_ips="10.16.0.240..10.16.0.254"),
    )
    assert site.reserve(plain).warnings == []
    for switch in (plain, ranged, excluding):
        site.port(switch, "unknown", type="localnet", options="network_name=physnet")
    [warning] = site.reserve(plain).warnings
    assert "localnet" in warning
    assert "10.16.0.253" in warning
    assert site.reserve(plain, v4IpAddress="10.16.0.9").warnings == []
    assert site.reserve(ranged).warnings == site.reserve(excluding).warnings == []
    site.nb("set", "logical_switch", plain, f'external_ids:{AUTO}="fd00:16::1..fd00:16::9"')
    assert len(site.reserve(plain).warnings) == 1, "a range of IPv6 says nothing of IPv4"


def test_operators_excludes_are_never_chosen_and_may_be_given(site):
    switch = site.switch("10.16.0.0/29", exclude_ips="10.16.0.4..10.16.0.6 10.16.0.2")
    assert site.reserve(switch).v4 == "10.16.0.3"
    assert site.reserve(switch).reasons == {"NoAvailableAddress"}
    given = site.reserve(switch, v4IpAddress="10.16.0.5")
    assert (given.result, given.v4) == ("created", "10.16.0.5")
    assert site.exclude_ips(switch) == "10.16.0.3 10.16.0.5 10.16.0.4..10.16.0.6 10.16.0.2"


def test_an_address_that_both_name_stays_excluded_when_ours_is_released(site):
    switch = site.switch(exclude_ips="10.16.0.5")
    given = site.reserve(switch, v4IpAddress="10.16.0.5")
    assert site.exclude_ips(switch) == "10.16.0.5 10.16.0.5"
    site.release(given.name)
    assert site.exclude_ips(switch) == "10.16.0.5"


@pytest.mark.parametrize(
    ("subnet", "automatic", "only_given"),
    [
        ("10.16.0.0/29", [6, 5, 4, 3, 2], [1]),
        ("10.16.0.8/30", [10], [9]),
        ("10.16.0.6/31", [], [6, 7]),
        ("10.16.0.6/32", [], [6]),
        ("10.16.0.5/255.255.255.248", [6, 5, 4, 3, 2], [1]),
    ],
)
def test_the_first_host_and_subnets_without_a_second_are_only_had_when_given(site, subnet, automatic, only_given):
    switch = site.switch(subnet)
    assert last_octets(*(site.reserve(switch) for _ in automatic)) == automatic
    assert site.reserve(switch).reasons == {"NoAvailableAddress"}
    given = [site.reserve(switch, v4IpAddress=f"10.16.0.{number}") for number in only_given]
    assert last_octets(*given) == only_given


def test_when_no_address_is_left_nothing_is_written(site):
    switch = site.switch("10.16.0.0/30", PREFIX)
    site.reserve(switch)
    with site.nothing_written():
        refused = site.reserve(switch)
    assert (refused.code, refused.status["reason"], refused.reasons) == (409, "Conflict", {"NoAvailableAddress"})
    assert f"no IPv4 address is available on subnet {switch}" in refused.message


def test_clients_that_ask_at_once_all_get_an_address_of_their_own(site):
    switch = site.switch(NETWORK, PREFIX)
    clients = [Site(site.servers, site.daemon) for _ in range(8)]
    documents = [site.document(switch) for _ in range(80)]
    answers: list[Answer] = []
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, 80, 8):
            answers += pool.map(Site.apply, clients, documents[start : start + 8])
    assert {answer.result for answer in answers} == {"created"}
    assert sorted(last_octets(*answers)) == list(range(175, 255))
    assert len({answer.v6 for answer in answers}) == len({answer.mac for answer in answers}) == 80
    assert site.exclude_ips(switch) == "10.16.0.175..10.16.0.254"


def test_of_clients_that_give_the_same_address_at_once_one_gets_it(site):
    switch = site.switch()
    clients = [Site(site.servers, site.daemon) for _ in range(8)]
    documents = [site.document(switch, v4IpAddress="10.16.0.9") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(Site.apply, clients, documents))
    [winner] = [answer for answer in answers if answer.result == "created"]
    refused = [answer for answer in answers if answer is not winner]
    assert {answer.code for answer in refused} == {409}
    assert all(f"held by IP {winner.name}" in answer.message for answer in refused)


def test_a_reservation_is_in_the_journal(site):
    answer = site.reserve(site.switch("10.16.0.0/24"), macAddress="0a:00:00:00:00:01")
    wait_until(lambda: site.events(answer.name))
    [(reason, message)] = site.events(answer.name)
    assert (reason, message.startswith("reserved 0a:00:00:00:00:01 10.16.0.254 on subnet ")) == ("Reserved", True)


# ---- quarantine ----------------------------------------------------------------------------------------------------


def test_a_released_address_is_not_chosen_while_others_are_free(site):
    switch = site.switch(NETWORK, PREFIX)
    released = site.reserve(switch)
    site.release(released.name)
    following = site.reserve(switch)
    assert following.v4 == "10.16.0.253"
    assert parse_v6(following.v6) == parse_v6(TOP) - 1


def test_a_released_address_may_be_given(site):
    switch = site.switch()
    released = site.reserve(switch)
    site.release(released.name)
    assert site.reserve(switch, v4IpAddress=released.v4).v4 == released.v4
    assert site.reserve(switch).v4 == "10.16.0.253"


def test_released_addresses_are_chosen_when_nothing_else_is_left_the_oldest_first(site):
    switch = site.switch("10.16.0.0/29")
    answers = [site.reserve(switch) for _ in range(5)]
    for answer in (answers[3], answers[1], answers[4]):
        site.release(answer.name)
    assert [site.reserve(switch).v4 for _ in range(3)] == [answers[3].v4, answers[1].v4, answers[4].v4]
    assert site.reserve(switch).reasons == {"NoAvailableAddress"}


def test_quarantine_survives_a_restart_of_the_daemon(site):
    switch = site.switch(NETWORK, PREFIX)
    released = site.reserve(switch)
    site.release(released.name)
    site.restart()
    following = site.reserve(switch)
    assert following.v4 == "10.16.0.253"
    assert parse_v6(following.v6) == parse_v6(TOP) - 1


def test_what_another_daemon_released_while_we_were_away_is_in_quarantine_too(site):
    switch = site.switch()
    name = site.reserve(switch).name
    with site.northd_paused():
        site.client.request("DELETE", f"/apis/kubeovn.io/v1/ips/{name}")
        site.daemon.kill()
    site.nb("destroy", "dns", site.records()[name]["_uuid"])
    site.daemon.start()
    site.client.close()
    wait_until(lambda: site.exclude_ips(switch) is None)
    assert site.ip(name) is None
    assert site.reserve(switch).v4 == "10.16.0.253"


def test_quarantine_survives_a_change_of_the_subnet(site):
    switch = site.switch("10.16.0.0/25")
    site.release(site.reserve(switch, v4IpAddress="10.16.0.100").name)
    site.nb("set", "logical_switch", switch, f"external_ids:{AUTO}=10.16.0.99..10.16.0.100")
    site.nb("set", "logical_switch", switch, f"other_config:subnet={NETWORK}")
    assert [site.reserve(switch).v4 for _ in range(2)] == ["10.16.0.99", "10.16.0.100"]


# ---- addresses that cannot be had ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "text", "why"),
    [
        ("v4IpAddress", "10.16.0.0", "is the network address of 10.16.0.0/24"),
        ("v4IpAddress", "10.16.0.255", "is the broadcast address of 10.16.0.0/24"),
        ("v4IpAddress", "10.16.1.5", "must be within 10.16.0.0/24"),
        ("v4IpAddress", "10.16.0.300", "must be an IPv4 address"),
        ("v4IpAddress", "10.16.0.05", "must be an IPv4 address"),
        ("v4IpAddress", "fd00:16::5", "must be an IPv4 address"),
        ("v4IpAddress", "10.16.0.5/24", "must be an IPv4 address"),
        ("v4IpAddress", 5, "must be a string"),
        ("v6IpAddress", "fd00:16::", "is the Subnet-Router anycast address of fd00:16::/64"),
        ("v6IpAddress", "fd00:17::5", "must be within fd00:16::/64"),
        ("v6IpAddress", "fd00:16:::5", "must be an IPv6 address"),
        ("v6IpAddress", "fe80::5%eth0", "must be an IPv6 address"),
        ("v6IpAddress", "10.16.0.5", "must be an IPv6 address"),
        ("ipAddress", "10.16.0.5,10.16.0.6", "contradicts the other fields"),
        ("ipAddress", "10.16.0.5;fd00:16::5", "must be IPv4, IPv6 or both"),
    ],
)
def test_an_address_that_nobody_can_have_is_invalid(site, field, text, why):
    switch = site.switch(NETWORK, PREFIX)
    with site.nothing_written():
        refused = site.reserve(switch, **{field: text})
    assert (refused.code, refused.status["reason"]) == (422, "Invalid")
    assert list(refused.causes) == [f"spec.{field}"]
    assert why in refused.causes[f"spec.{field}"]


@pytest.mark.parametrize(
    ("subnet", "prefix", "spec", "why"),
    [
        (NETWORK, None, {"v6IpAddress": "fd00:16::5"}, "has no IPv6 CIDR"),
        (None, PREFIX, {"v4IpAddress": "10.16.0.5"}, "has no IPv4 CIDR"),
    ],
)
def test_an_address_of_a_family_that_the_subnet_has_not_is_invalid(site, subnet, prefix, spec, why):
    refused = site.reserve(site.switch(subnet, prefix), **spec)
    assert refused.code == 422
    assert why in refused.causes[f"spec.{next(iter(spec))}"]


# ---- MACs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "notation",
    ["0A:00:00:AB:CD:EF", "0a-00-00-ab-cd-ef", "0a00.00ab.cdef", "0a0000abcdef", "a:0:0:ab:cd:ef", "0a0000-abcdef"],
)
def test_a_mac_in_any_notation_is_kept_in_lower_case_with_colons(site, notation):
    answer = site.reserve(site.switch(), macAddress=notation)
    assert answer.mac == "0a:00:00:ab:cd:ef"
    assert json.loads(site.records()[answer.name]["external_ids"]["ovnreserve/record"])["mac"] == answer.mac


@pytest.mark.parametrize(
    ("mac", "why"),
    [
        ("00:00:00:00:00:00", "must not be zero"),
        ("01:00:5e:00:00:01", "must not be a multicast address"),
        ("ff:ff:ff:ff:ff:ff", "must not be a multicast address"),
        ("0a:00:00:00:00", "must be a MAC address"),
        ("0a:00:00:00:00:0g", "must be a MAC address"),
        ("10", "must be a MAC address"),
    ],
)
def test_a_mac_that_nobody_can_have_is_invalid(site, mac, why):
    with site.nothing_written():
        refused = site.reserve(site.switch(), macAddress=mac)
    assert (refused.code, list(refused.causes)) == (422, ["spec.macAddress"])
    assert why in refused.causes["spec.macAddress"]


def test_kube_ovns_own_macs_that_begin_with_zeros_are_allowed(site):
    assert site.reserve(site.switch(), macAddress="00:00:00:86:C6:36").mac == "00:00:00:86:c6:36"


def test_a_mac_that_is_in_use_on_another_switch_comes_with_a_warning(site):
    here, there = site.switch(), site.switch()
    site.port(there, "0a:00:00:00:00:01 10.16.0.5")
    reserved = site.reserve(there, macAddress="0a:00:00:00:00:02")
    site.router(there, "10.16.0.1/24", mac="0a:00:00:00:00:03")
    for mac in ("0a:00:00:00:00:01", reserved.mac, "0a:00:00:00:00:03"):
        answer = site.reserve(here, macAddress=mac)
        assert (answer.result, answer.mac) == ("created", mac)
        [warning] = answer.warnings
        assert warning == f"MAC {mac} is in use on another logical switch"


def test_automatic_macs_are_ours_and_all_different(site):
    switch = site.switch("10.16.0.0/22")
    answers = site.bulk("apply", [site.document(switch) for _ in range(500)])
    assert len({answer.mac for answer in answers}) == 500
    assert {answer.mac[:8] for answer in answers} == {"02:6f:76"}


@pytest.mark.parametrize("prefix", ["02:6f:76", "02:6F:76"])
def test_automatic_macs_never_have_ovn_northds_prefix_even_if_it_is_set_to_ours(site, prefix):
    theirs = site.rows("NB_Global")[0]["options"]["mac_prefix"]
    switch = site.switch()
    try:
        site.nb("--wait=sb", "set", "nb_global", ".", f"options:mac_prefix={json.dumps(prefix)}")
        macs = [site.reserve(switch).mac for _ in range(3)]
        assert {mac[:8] for mac in macs} == {"06:6f:76"}
    finally:
        site.nb("--wait=sb", "set", "nb_global", ".", f"options:mac_prefix={json.dumps(theirs)}")
    assert site.reserve(switch).mac[:8] == "02:6f:76"


# ---- IPv6 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["FD00:16::AB", "fd00:0016:0000:0000:0000:0000:0000:00ab", "fd00:16::0.0.0.171"])
def test_an_ipv6_address_in_any_notation_is_kept_in_the_canonical_one(site, text):
    answer = site.reserve(site.switch(None, PREFIX), v6IpAddress=text)
    assert answer.v6 == "fd00:16::ab"
    assert site.records()[answer.name]["records"] == {answer.name: "fd00:16::ab"}


@pytest.mark.parametrize(
    ("ranges", "chosen"),
    [
        ("fd00:16::..fd00:16::0", None),
        ("fd00:16::ffff:ffff:ffff:ff80..fd00:16::ffff:ffff:ffff:ffff", None),
        ("fd00:16::ff:fe00:1..fd00:16::ff:feff:ffff", None),
        ("fd00:16::..fd00:16::ffff:ffff:ffff:ffff", TOP),
        ("fd00:16::ff:fd00:0..fd00:16::ff:fe00:5", "fd00:16::ff:fdff:ffff"),
    ],
    ids=["zero", "anycast", "EUI-64", "all", "below EUI-64"],
)
def test_automatic_ipv6_avoids_zero_and_anycast_interface_ids_and_what_eui_64_can_make(site, ranges, chosen):
    answer = site.reserve(site.switch(None, PREFIX, external_ids={AUTO: ranges}))
    if chosen is None:
        assert answer.reasons == {"NoAvailableAddress"}
    else:
        assert answer.v6 == chosen


def test_the_anycast_interface_ids_may_be_given(site):
    answer = site.reserve(site.switch(None, PREFIX), v6IpAddress="fd00:16::ffff:ffff:ffff:fffe")
    assert answer.result == "created"


def test_an_address_that_ovn_northd_may_make_of_its_own_macs_is_refused(site):
    prefix = site.rows("NB_Global")[0]["options"]["mac_prefix"]
    switch = site.switch(None, PREFIX)
    made = format_v6(eui64(parse_v6(PREFIX), f"{prefix}:00:00:09"))
    with site.nothing_written():
        refused = site.reserve(switch, v6IpAddress=made)
    assert refused.code == 422
    assert f"{prefix}:00:00:09" in refused.causes["spec.v6IpAddress"]
    assert "mac_prefix" in refused.causes["spec.v6IpAddress"]


def test_an_eui_64_address_of_another_vendor_is_allowed_unless_a_port_has_that_mac(site):
    switch = site.switch(None, PREFIX)
    made = format_v6(eui64(parse_v6(PREFIX), "0a:00:00:00:00:09"))
    assert site.reserve(switch, v6IpAddress=made).result == "created"
    other = format_v6(eui64(parse_v6(PREFIX), "0a:00:00:00:00:0a"))
    port = site.port(switch, "0a:00:00:00:00:0a dynamic")
    assert site.dynamic_addresses(port) == f"0a:00:00:00:00:0a {other}"
    refused = site.reserve(switch, v6IpAddress=other)
    assert refused.code == 409
    assert port in refused.message


# ---- where ---------------------------------------------------------------------------------------------------------


def test_a_switch_without_a_subnet_has_that_of_its_router_port(site):
    switch = site.switch(None)
    site.router(switch, "10.17.0.1/24", "fd00:17::1/64", name="gateway")
    answer = site.reserve(switch)
    assert (answer.v4, answer.v6) == ("10.17.0.254", "fd00:17::ffff:ffff:ffff:ff7f")
    assert site.subnet(switch)["spec"]["cidrBlock"] == "10.17.0.0/24,fd00:17::/64"
    assert site.reserve(switch, v4IpAddress="10.17.0.1").code == 409
    site.release(answer.name)
    assert site.exclude_ips(switch) is None


def test_a_switch_with_a_subnet_does_not_take_its_router_ports(site):
    switch = site.switch("10.16.0.0/25")
    site.router(switch, "10.16.0.1/24", "fd00:17::1/64")
    answer = site.reserve(switch)
    assert (answer.v4, answer.v6) == ("10.16.0.126", "")


@pytest.mark.parametrize("subnet", [None, "nonsense", "10.16.0.0", "10.16.0.0/33", "fd00:16::/64"])
def test_a_switch_without_a_cidr_is_no_subnet(site, subnet):
    switch = site.switch(subnet)
    with site.nothing_written():
        refused = site.reserve(switch)
    assert (refused.code, list(refused.causes)) == (422, ["spec.subnet"])
    assert "no CIDR" in refused.message


@pytest.mark.parametrize(
    ("subnet", "prefix", "cidrs"),
    [
        ("10.16.0.77/24", "fd00:16::77", "10.16.0.0/24,fd00:16::/64"),
        ("10.16.0.0/255.255.255.0", "fd00:16::/64", "10.16.0.0/24,fd00:16::/64"),
        ("10.16.0.0/24", "fd00:16::/56", "10.16.0.0/24"),
        ("10.16.0.0/24", "fd00:16::/128", "10.16.0.0/24"),
        ("10.16.0.0/24", "nonsense", "10.16.0.0/24"),
        ("10.16.0.0/33", "fd00:16::", "fd00:16::/64"),
    ],
)
def test_cidrs_are_read_as_ovn_northd_reads_them(site, subnet, prefix, cidrs):
    switch = site.switch(subnet, prefix)
    assert site.reserve(switch).result == "created"
    assert site.subnet(switch)["spec"]["cidrBlock"] == cidrs


def test_a_switch_that_does_not_exist_is_invalid(site):
    with site.nothing_written():
        refused = site.reserve("no-such-switch")
    assert (refused.code, list(refused.causes)) == (422, ["spec.subnet"])
    assert '"no-such-switch": no logical switch has this name' in refused.message


def test_a_name_that_two_switches_have_is_invalid_and_both_are_shown(site):
    switch = site.switch()
    site.nb("--add-duplicate", "ls-add", switch)
    with site.nothing_written():
        refused = site.reserve(switch)
    assert (refused.code, list(refused.causes)) == (422, ["spec.subnet"])
    for row in site.rows("Logical_Switch"):
        assert row["_uuid"] in refused.message


def test_a_name_that_is_not_the_ports_is_invalid_and_the_right_one_is_shown(site):
    switch = site.switch()
    with site.nothing_written():
        refused = site.apply(site.document(switch, "vm-1", name="vm-1.other"))
    assert (refused.code, list(refused.causes)) == (422, ["metadata.name"])
    assert "vm-1.default" in refused.causes["metadata.name"]


def test_a_providers_name_is_part_of_the_ports_and_of_no_other(site):
    switch = site.switch(external_ids={PROVIDER: "attach1.default"})
    plain = site.apply(site.document(switch, "vm-1"))
    assert (plain.code, list(plain.causes)) == (422, ["metadata.name"])
    assert "vm-1.default.attach1.default" in plain.message
    answer = site.apply(site.document(switch, "vm-1", name="vm-1.default.attach1.default"))
    assert answer.result == "created"
    assert site.subnet(switch)["spec"]["provider"] == "attach1.default"
    record = site.records()["vm-1.default.attach1.default"]
    assert record["records"] == {"vm-1.default": answer.v4}
    ordinary = site.switch(external_ids={PROVIDER: "ovn"})
    assert site.apply(site.document(ordinary, "vm-2")).result == "created"


# ---- the document --------------------------------------------------------------------------------------------------


def test_every_wrong_field_of_a_document_is_named_at_once(site):
    document = site.document(
        "", "Pod_1", podType="Job", namespace="", v4IpAddress="10.16.0", v6IpAddress="::x", macAddress="0", replicas=3,
        attachIps="10.0.0.1", name="Pod_1.x",
    )  # fmt: skip
    document["metadata"] |= {"colour": "red", "labels": {"a b": "c", "a": "-"}}
    document["data"] = {}
    with site.nothing_written():
        refused = site.apply(document)
    assert (refused.code, refused.status["reason"]) == (422, "Invalid")
    assert refused.causes.keys() == {
        *("data", "metadata.colour", "metadata.name", "metadata.labels", "spec.subnet", "spec.podName"),
        *("spec.podType", "spec.namespace", "spec.v4IpAddress", "spec.v6IpAddress", "spec.macAddress"),
        *("spec.replicas", "spec.attachIps"),
    }
    assert 'spec.podType: Unsupported value: "Job"' in refused.message
    assert 'unknown field "spec.replicas"' in refused.message
    assert "spec.namespace: Required value" in refused.message


def test_everything_that_does_not_fit_the_subnet_is_named_at_once(site):
    switch = site.switch(NETWORK, PREFIX)
    document = site.document(switch, v4IpAddress="10.16.0.255", v6IpAddress="fd00:17::1", name="somebody.else")
    refused = site.apply(document)
    assert refused.causes.keys() == {"metadata.name", "spec.v4IpAddress", "spec.v6IpAddress"}


def test_a_wrong_name_is_named_with_a_switch_that_does_not_exist(site):
    refused = site.apply(site.document("no-such-switch", "vm-1", name="vm-2.default"))
    assert refused.causes.keys() == {"metadata.name", "spec.subnet"}


@pytest.mark.parametrize("pod_type", ["Job", "Deployment", "statefulset", "Pod"])
def test_an_unknown_pod_type_is_invalid_and_the_known_ones_are_shown(site, pod_type):
    refused = site.reserve(site.switch(), podType=pod_type)
    assert (refused.code, list(refused.causes)) == (422, ["spec.podType"])
    assert '"StatefulSet", "VirtualMachine"' in refused.message


@pytest.mark.parametrize("pod_type", ["", "StatefulSet", "VirtualMachine"])
def test_the_known_pod_types_are_kept(site, pod_type):
    answer = site.reserve(site.switch(), podType=pod_type)
    assert answer.ip["spec"]["podType"] == pod_type


def test_a_document_of_another_kind_is_refused(site):
    document = site.document(site.switch()) | {"apiVersion": "kubeovn.io/v2"}
    refused = site.apply(document)
    assert (refused.code, refused.status["reason"]) == (400, "BadRequest")


# ---- the same again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [None, ""], ids=["null", "empty"])
def test_the_same_document_again_is_unchanged_and_writes_nothing(site, nothing):
    switch = site.switch(NETWORK, PREFIX)
    document = site.document(switch)
    first = site.apply(document)
    fields = ("v4IpAddress", "v6IpAddress", "ipAddress", "macAddress", "nodeName", "containerID", "attachIps")
    with site.nothing_written():
        assert site.apply(document).result == "unchanged"
        document["spec"] |= dict.fromkeys(fields, nothing)
        assert site.apply(document).result == "unchanged"
        document["spec"] |= {key: first.ip["spec"][key] for key in fields}
        assert site.apply(document).result == "unchanged"
        document["spec"] |= {"podType": nothing}
        assert site.apply(document).result == "unchanged"
        assert site.apply(first.ip).result == "unchanged", "what get -o yaml shows"


def test_what_differs_in_notation_only_is_unchanged(site):
    switch = site.switch(NETWORK, PREFIX)
    document = site.document(switch, v6IpAddress="fd00:16::ab", macAddress="0a:00:00:ab:cd:ef")
    site.apply(document)
    document["spec"] |= {"v6IpAddress": "FD00:16:0::00AB", "macAddress": "0A-00-00-AB-CD-EF"}
    assert site.apply(document).result == "unchanged"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subnet", "another"),
        ("podType", "StatefulSet"),
        ("v4IpAddress", "10.16.0.9"),
        ("v6IpAddress", "fd00:16::9"),
        ("macAddress", "0a:00:00:00:00:09"),
        ("nodeName", "node-9"),
        ("containerID", "c9"),
        ("attachIps", ["10.0.0.9"]),
        ("attachMacs", ["0a:00:00:00:00:09"]),
        ("attachSubnets", ["other"]),
    ],
)
def test_a_spec_field_cannot_be_changed(site, field, value):
    document = site.document(site.switch(NETWORK, PREFIX))
    site.apply(document)
    document["spec"][field] = value
    with site.nothing_written():
        refused = site.apply(document)
    assert (refused.code, list(refused.causes)) == (422, [f"spec.{field}"])
    assert "field is immutable" in refused.message


def test_creating_what_exists_is_refused(site):
    document = site.document(site.switch())
    assert site.create(document).result == "created"
    with site.nothing_written():
        refused = site.create(document)
    assert (refused.code, refused.status["reason"]) == (409, "AlreadyExists")


def test_warnings_of_a_single_document_are_headers(site):
    here, there = site.switch(), site.switch()
    site.port(there, "0a:00:00:00:00:01 10.16.0.5")
    answer = site.create(site.document(here, macAddress="0a:00:00:00:00:01"))
    assert answer.warnings == ["MAC 0a:00:00:00:00:01 is in use on another logical switch"]


# ---- what is written -----------------------------------------------------------------------------------------------


def test_a_record_is_one_row_of_the_dns_table_that_no_switch_refers_to(site):
    switch = site.switch(NETWORK, PREFIX)
    answer = site.reserve(
        switch, "vm-1", podType="VirtualMachine", v4IpAddress="10.16.0.9", v6IpAddress="fd00:16::9",
        macAddress="0a:00:00:00:00:09", nodeName="node-1",
    )  # fmt: skip
    row = site.records()["vm-1.default"]
    ids = row["external_ids"]
    assert row["records"] == {"vm-1.default": "10.16.0.9 fd00:16::9"}
    assert ids.keys() == {f"ovnreserve/{key}" for key in ("kind", "name", "uid", "switch", "record")}
    assert ids["ovnreserve/kind"] == "reservation"
    assert ids["ovnreserve/name"] == "vm-1.default"
    assert ids["ovnreserve/uid"] == answer.ip["metadata"]["uid"]
    assert ids["ovnreserve/switch"] == site.row("Logical_Switch", switch)["_uuid"]
    record = json.loads(ids["ovnreserve/record"])
    assert ids["ovnreserve/record"] == json.dumps(record, separators=(",", ":"))
    assert record.items() >= {
        "subnet": switch, "pod": "vm-1", "ns": "default", "type": "VirtualMachine", "v4": "10.16.0.9",
        "v6": "fd00:16::9", "mac": "0a:00:00:00:00:09", "node": "node-1",
    }.items()  # fmt: skip
    assert site.row("Logical_Switch", switch)["dns_records"] == []


def test_beside_the_records_there_is_one_row_with_the_ledgers_revision(site):
    switch = site.switch()
    for _ in range(2):
        site.reserve(switch)
    [row] = [r for r in site.rows("DNS") if r["external_ids"]["ovnreserve/kind"] == "ledger"]
    revision = json.loads(row["external_ids"]["ovnreserve/revision"])
    assert revision
    assert revision == site.client.get("/apis/ovnreserve.io/v1/status")["revision"]
    assert row["records"] == {}


def test_the_switch_has_the_length_and_sha_256_of_our_text_beside_it(site):
    switch = site.switch(exclude_ips="10.16.0.5")
    for number in (20, 22, 21, 30):
        site.reserve(switch, v4IpAddress=f"10.16.0.{number}")
    row = site.row("Logical_Switch", switch)
    ours = "10.16.0.20..10.16.0.22 10.16.0.30"
    assert row["other_config"] == {"subnet": NETWORK, "exclude_ips": f"{ours} 10.16.0.5"}
    digest = hashlib.sha256(ours.encode()).hexdigest()
    assert row["external_ids"] == {"ovnreserve/excluded": f"{len(ours)} {digest}"}


TEXTS = [
    "10.16.0.5 10.16.0.9..10.16.0.20",
    "  10.16.0.5   10.16.0.9 .. 10.16.0.20\t",
    "10.16.0.5 // the printer\n10.16.0.9 /* two */ 10.16.0.11",
    "// nothing",
    "10.16.0.5,10.16.0.6",
    "10.16.0.5 foo 10.16.0.7",
    "fd00::a00:5 0x0a100007",
    " ",
    'a "quoted" \N{SNOWMAN}\\',
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_the_operators_text_stays_byte_for_byte_behind_ours_and_is_restored_after_the_release(site, text):
    switch = site.switch(exclude_ips=text, mcast_snoop="true", external_ids={"owner": "me"})
    answers = [site.reserve(switch, v4IpAddress=f"10.16.0.{number}") for number in (100, 102)]
    assert site.exclude_ips(switch) == f"10.16.0.100 10.16.0.102 {text}"
    for answer in answers:
        site.release(answer.name)
    row = site.row("Logical_Switch", switch)
    assert row["other_config"] == {"subnet": NETWORK, "exclude_ips": text, "mcast_snoop": "true"}
    assert row["external_ids"] == {"owner": "me"}


@pytest.mark.parametrize("text", [".. 10.16.0.20", "/* from */ ..10.16.0.20"])
def test_a_text_of_the_operators_that_begins_with_a_range_takes_no_hold_of_ours(site, text):
    switch = site.switch(exclude_ips=text)
    answer = site.reserve(switch, v4IpAddress="10.16.0.100")
    assert site.exclude_ips(switch) == f"10.16.0.100..10.16.0.100 {text}"
    site.release(answer.name)
    assert site.exclude_ips(switch) == text


def test_the_keys_are_deleted_when_nothing_of_ours_is_left_and_nothing_was_there(site):
    switch = site.switch()
    site.release(site.reserve(switch).name)
    row = site.row("Logical_Switch", switch)
    assert (row["other_config"], row["external_ids"]) == ({"subnet": NETWORK}, {})
    assert site.records() == {}


def test_what_the_operator_writes_beside_ours_is_kept(site):
    switch = site.switch()
    answer = site.reserve(switch)
    value = f"{site.exclude_ips(switch)} 10.16.0.5 // mine"
    site.nb("set", "logical_switch", switch, f"other_config:exclude_ips={json.dumps(value)}")
    second = site.reserve(switch)
    assert site.exclude_ips(switch) == "10.16.0.253..10.16.0.254 10.16.0.5 // mine"
    for name in (answer.name, second.name):
        site.release(name)
    assert site.exclude_ips(switch) == "10.16.0.5 // mine"


def test_on_an_ipv6_subnet_nothing_of_the_switch_is_written(site):
    switch = site.switch(None, PREFIX)
    site.reserve(switch)
    row = site.row("Logical_Switch", switch)
    assert (row["other_config"], row["external_ids"]) == ({"ipv6_prefix": PREFIX}, {})


def test_every_transaction_says_in_its_comment_what_we_did_to_what(site):
    before = len(site.ours())
    switch = site.switch()
    document = site.document(switch, "vm-1")
    site.apply(document)
    document["metadata"]["labels"] = {"tier": "db"}
    assert site.apply(document).result == "configured"
    port = site.port(switch, name="vm-1.default")
    wait_until(lambda: site.addresses(port) != {"dynamic"})
    site.release("vm-1.default")
    site.bulk("apply", [site.document(switch, f"vm-{n}") for n in (2, 3)])
    site.nb("remove", "logical_switch", switch, "other_config", "exclude_ips")
    wait_until(lambda: site.exclude_ips(switch))
    assert [t["_comment"] for t in site.ours()][before:] == [
        "ovnreserve: reserve vm-1.default",
        "ovnreserve: update vm-1.default",
        "ovnreserve: bind vm-1.default",
        "ovnreserve: release vm-1.default",
        "ovnreserve: free vm-1.default",
        "ovnreserve: reserve vm-2.default, vm-3.default",
        f"ovnreserve: repair {switch}",
    ]


def test_a_transaction_that_only_awaits_ovn_northd_says_so(site):
    switch = site.switch()
    document = site.document(switch)
    site.apply(document)
    assert site.apply(document, wait="sb").result == "unchanged"
    assert site.ours()[-1]["_comment"] == "ovnreserve: await ovn-northd"


def test_the_tool_shows_who_wrote_what(site):
    site.reserve(site.switch(), "vm-1")
    database = site.servers.run_dir / "ovnnb_db.db"
    shown = site.servers._run("ovsdb-tool", "show-log", str(database))
    assert re.search(r'^record \d+: \S+ \S+ "ovnreserve: reserve vm-1\.default"$', shown, re.MULTILINE)


# ---- enforced ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [None, PREFIX], ids=["IPv4", "dual"])
def test_a_reservation_is_known_to_be_enforced_once_somebody_has_waited_for_ovn_northd(site, prefix):
    switch = site.switch(NETWORK, prefix)
    document = site.document(switch)
    answer = site.apply(document)
    assert (site.condition(answer.name, "Enforced")["status"]) == "Unknown"
    awaited = site.reserve(switch, wait="sb")
    assert site.condition(awaited.name, "Enforced")["status"] == "True"
    wait_until(lambda: site.condition(answer.name, "Enforced")["status"] == "True", what="both, since it was before")


def test_waiting_for_what_is_there_already_tells_that_it_is_enforced(site):
    document = site.document(site.switch())
    site.apply(document)
    again = site.apply(document, wait="sb")
    assert again.result == "unchanged"
    assert site.condition(again.name, "Enforced")["status"] == "True"


def test_what_is_reserved_after_somebody_asked_is_not_enforced_by_the_answer_to_him(site):
    switch = site.switch()
    waiter = Site(site.servers, site.daemon)
    with ThreadPoolExecutor() as pool:
        with site.northd_paused():
            waiting = pool.submit(waiter.reserve, switch, "early", wait="sb")
            wait_until(lambda: site.ip("early.default"))
            late = site.reserve(switch, "late")
        assert waiting.result(10).result == "created"
    assert site.condition("early.default", "Enforced")["status"] == "True"
    assert site.condition(late.name, "Enforced")["status"] == "Unknown"


@pytest.mark.parametrize(
    ("subnet", "prefix"), [(None, PREFIX), ("10.16.0.6/32", None)], ids=["IPv6 only", "too small for IPAM"]
)
def test_what_ovn_northd_does_not_exclude_is_not_enforceable(site, subnet, prefix):
    spec = {"v4IpAddress": "10.16.0.6"} if subnet else {}
    answer = site.reserve(site.switch(subnet, prefix), wait="sb", **spec)
    condition = site.condition(answer.name, "Enforced")
    assert (condition["status"], condition["reason"]) == ("False", "NotEnforceable")


def test_on_a_switch_that_ovn_northd_does_no_ipam_for_nothing_is_enforceable(site):
    switch = site.switch(None)
    site.router(switch, "10.17.0.1/24")
    answer = site.reserve(switch, wait="sb")
    condition = site.condition(answer.name, "Enforced")
    assert (condition["status"], condition["reason"]) == ("False", "NotEnforceable")


def test_an_ovn_northd_that_does_not_answer_in_time_leaves_the_reservation_and_a_warning(site):
    document = site.document(site.switch())
    with site.northd_paused():
        answer = site.create(document, "?wait=sb&timeout=0.3")
    assert (answer.result, answer.v4) == ("created", "10.16.0.254")
    assert ["ovn-northd has not answered yet" in warning for warning in answer.warnings] == [True]
    assert site.condition(answer.name, "Enforced")["status"] == "Unknown"


# ---- while ovn-northd is choosing ----------------------------------------------------------------------------------


@pytest.fixture
def pending(site: Site) -> Iterator[Callable[[str, int], list[str]]]:
    """`pending(switch, n) -> ports`: dynamic ports that get no address, since ovn-northd is paused from then on."""
    with site.northd_paused():

        def create(switch: str, count: int) -> list[str]:
            ports = [f"{switch}-{number}" for number in range(count)]
            for port in ports:
                site.nb("lsp-add", switch, port, "--", "lsp-set-addresses", port, "dynamic")
            return ports

        yield create


def test_a_given_address_waits_a_bounded_time_for_ovn_northd_to_choose(site, pending):
    switch = site.switch()
    pending(switch, 1)
    answer, seconds = timed(lambda: site.reserve(switch, v4IpAddress="10.16.0.9"))
    assert answer.result == "created"
    assert 1.5 < seconds < 4


def test_an_automatic_address_does_not_wait_since_it_is_at_the_other_end(site, pending):
    switch = site.switch()
    pending(switch, 3)
    answer, seconds = timed(lambda: site.reserve(switch))
    assert answer.v4 == "10.16.0.254"
    assert seconds < 1.5


@pytest.mark.parametrize("addresses", ["dynamic x", "dynamic 10.16.0.5/24", "dynamic fd00:16::5 10.16.0.5"])
def test_a_port_for_which_ovn_northd_will_never_choose_is_not_waited_for(site, addresses):
    switch = site.switch()
    port = site.port(switch, addresses)
    router = site.router(switch, "10.16.0.1/24")
    site.nb("--wait=sb", "set", "logical_switch_port", f"{switch}-{router}", "addresses=dynamic")
    assert site.dynamic_addresses(port) == site.dynamic_addresses(f"{switch}-{router}") == ""
    answer, seconds = timed(lambda: site.reserve(switch, v4IpAddress="10.16.0.9"))
    assert answer.result == "created"
    assert seconds < 1.5


def test_a_given_ipv6_address_does_not_wait(site, pending):
    switch = site.switch(None, PREFIX)
    pending(switch, 1)
    answer, seconds = timed(lambda: site.reserve(switch, v6IpAddress="fd00:16::9"))
    assert answer.result == "created"
    assert seconds < 1.5


def test_with_an_ovn_northd_that_works_a_given_address_hardly_waits(site):
    switch = site.switch()
    site.nb("lsp-add", switch, "p1", "--", "lsp-set-addresses", "p1", "dynamic")
    answer, seconds = timed(lambda: site.reserve(switch, v4IpAddress="10.16.0.9"))
    assert answer.result == "created"
    assert seconds < 1.5


def test_what_ovn_northd_chose_meanwhile_is_not_taken_away(site, pending):
    switch = site.switch()
    [port] = pending(switch, 1)
    waiter = Site(site.servers, site.daemon)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(timed, lambda: waiter.reserve(switch, v4IpAddress="10.16.0.2"))
        site.subnet(switch)
        site.servers.northd.resume()
        refused, seconds = waiting.result(10)
    assert refused.code == 409
    assert f"held by logical switch port {port}" in refused.message
    assert seconds < 1.5
    assert site.dynamic_addresses(port).endswith(" 10.16.0.2")


def test_with_more_pending_ports_than_free_addresses_an_automatic_one_waits_too(site, pending):
    switch = site.switch("10.16.0.0/29")
    ports = pending(switch, 6)
    answer, seconds = timed(lambda: site.reserve(switch))
    assert answer.v4 == "10.16.0.6"
    assert 1.5 < seconds < 4
    site.servers.northd.resume()
    site.nb("--wait=sb", "sync")
    got = sorted(site.dynamic_addresses(port).partition(" ")[2] for port in ports)
    assert got == ["", "", "10.16.0.2", "10.16.0.3", "10.16.0.4", "10.16.0.5"]


def test_an_automatic_address_that_ovn_northd_would_choose_next_waits_too(site, pending):
    switch = site.switch(external_ids={AUTO: "10.16.0.2..10.16.0.3"})
    pending(switch, 2)
    answer, seconds = timed(lambda: site.reserve(switch))
    assert answer.v4 == "10.16.0.3"
    assert 1.5 < seconds < 4


def test_a_port_that_was_moved_all_the_same_is_reported(site):
    switch = site.switch()
    port = site.port(switch, "0a:00:00:00:00:01 dynamic")
    with site.northd_paused():
        answer = site.reserve(switch, v4IpAddress="10.16.0.9")
        # ovn-northd's answer, computed before it knew of the reservation, may arrive after it.
        late = json.dumps("0a:00:00:00:00:01 10.16.0.9")
        site.nb("set", "logical_switch_port", port, f"dynamic_addresses={late}")
        wait_until(lambda: site.condition(answer.name, "Conflicted")["status"] == "True")
        assert port in site.condition(answer.name, "Conflicted")["message"]
    wait_until(lambda: "PortMoved" in dict(site.events(answer.name)))
    message = dict(site.events(answer.name))["PortMoved"]
    assert message.startswith(
        f"ovn-northd moved port {port} from 0a:00:00:00:00:01 10.16.0.9 to 0a:00:00:00:00:01 10.16.0.2"
    )
    wait_until(lambda: site.condition(answer.name, "Conflicted")["status"] == "False")


# ---- the database is away ------------------------------------------------------------------------------------------


@pytest.fixture
def own_site(servers: Servers, daemon: Daemon) -> Site:
    """A site whose servers may be stopped."""
    return Site(servers, daemon, follow=True)


def test_without_a_connection_to_the_database_a_request_is_refused_at_once(own_site):
    switch = own_site.switch()
    own_site.servers.nb_server.stop()
    wait_until(lambda: own_site.client.get("/apis/ovnreserve.io/v1/status")["state"] == "disconnected")
    refused, seconds = timed(lambda: own_site.create(own_site.document(switch)))
    assert (refused.code, refused.status["reason"]) == (503, "ServiceUnavailable")
    assert "nothing was changed" in refused.message
    assert "ovnnb_db.sock" in refused.message
    assert seconds < 1.5
    assert own_site.ips() == []


def test_when_the_database_does_not_answer_in_time_the_outcome_is_unknown_and_shows_later(own_site):
    document = own_site.document(own_site.switch())
    own_site.servers.nb_server.pause()
    unknown = own_site.create(document, "?timeout=0.5")
    own_site.servers.nb_server.resume()
    assert (unknown.code, unknown.status["reason"]) == (504, "Timeout")
    assert "get" in unknown.message
    name = document["metadata"]["name"]
    wait_until(lambda: own_site.ip(name) and own_site.condition(name, "Reserved")["status"] == "True")
    assert own_site.apply(document).result == "unchanged"


# ---- subnets -------------------------------------------------------------------------------------------------------


def counts(site: Site, switch: str) -> tuple[int, int, int]:
    """(used, available, excluded): an address of the operator's counts as excluded if nobody holds it."""
    status = site.subnet(switch)["status"]
    size = 254
    return status["v4usingIPs"], status["v4availableIPs"], size - status["v4usingIPs"] - status["v4availableIPs"]


def test_used_available_and_excluded_addresses_make_up_the_subnet(site):
    switch = site.switch()
    assert counts(site, switch) == (0, 254, 0)
    site.nb("set", "logical_switch", switch, 'other_config:exclude_ips="10.16.0.10..10.16.0.19 10.16.0.0..10.16.0.1"')
    assert counts(site, switch) == (0, 243, 11)
    reserved = site.reserve(switch)
    inside = site.reserve(switch, v4IpAddress="10.16.0.10")
    assert counts(site, switch) == (2, 242, 10)
    port = site.port(switch)
    site.port(switch, "0a:00:00:00:00:01 10.16.0.20 10.16.0.11 192.168.0.1", enabled="false")
    assert counts(site, switch) == (5, 240, 9)
    router = site.router(switch, "10.16.0.1/24")
    site.nb("lr-nat-add", router, "snat", "10.16.0.30", "192.168.0.0/24")
    site.nb("lb-add", "lb", "10.16.0.12:80", "192.168.0.1:80", "--", "ls-lb-add", switch, "lb")
    assert counts(site, switch) == (6, 239, 9), "the router's and the VIP are in the operator's excludes"
    another = site.reserve(switch, v4IpAddress="10.16.0.21")
    assert counts(site, switch) == (7, 238, 9)
    for answer in (reserved, inside, another):
        site.release(answer.name)
    assert counts(site, switch) == (4, 240, 10), "what is in quarantine is free"
    site.nb("lsp-del", port)
    assert counts(site, switch) == (3, 241, 10)
    site.nb("remove", "logical_switch", switch, "other_config", "exclude_ips")
    assert counts(site, switch) == (5, 249, 0)


def test_the_counts_of_an_ipv6_subnet_are_exact(site):
    switch = site.switch(NETWORK, PREFIX)
    status = site.subnet(switch)["status"]
    assert (status["v6usingIPs"], status["v6availableIPs"]) == (0, 2**64 - 1)
    site.reserve(switch)
    status = site.subnet(switch)["status"]
    assert (status["v6usingIPs"], status["v6availableIPs"]) == (1, 2**64 - 2)
    assert site.subnet(switch)["spec"]["protocol"] == "Dual"


def test_a_subnet_shows_the_operators_excludes_and_not_ours(site):
    switch = site.switch(exclude_ips="10.16.0.1 10.16.0.10 .. 10.16.0.19")
    site.reserve(switch)
    site.router(switch, "10.16.0.1/24", name="vpc-1")
    spec = site.subnet(switch)["spec"]
    assert spec == {
        "cidrBlock": NETWORK, "excludeIps": ["10.16.0.1", "10.16.0.10..10.16.0.19"], "gateway": "10.16.0.1",
        "protocol": "IPv4", "provider": "ovn", "vpc": "vpc-1",
    }  # fmt: skip


# ---- how new the view is -------------------------------------------------------------------------------------------


def test_what_was_made_or_removed_just_before_asking_is_known(site):
    switch = site.switch("10.16.0.0/16")
    with Raw(site.servers) as database:
        for number in range(1, 101):
            name = f"fresh-{number}"
            database.insert("Logical_Switch", name=name, other_config=["map", [["subnet", NETWORK]]])
            assert site.reserve(name).result == "created"
        for number in range(1, 101):
            address = f"10.16.1.{number}"
            database.attach(switch, f"holder-{number}", f"0a:00:00:00:01:{number:02x} {address}")
            database.detach(switch, f"holder-{number}")
            assert site.reserve(switch, v4IpAddress=address).result == "created"
