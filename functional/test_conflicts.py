"""Conflicts: whoever takes what is reserved is named, with switch and time, until it leaves; so is what is wrong with a
subnet or the database.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from sites import NETWORK, PREFIX, Site
from stores import active
from support import wait_until

from ovnreserve.model.documents import timestamp
from ovnreserve.sandbox import Daemon, Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sites import Answer

OTHER_MAC = "0a:00:00:00:00:77"
SQUATTER = "squatter.default"


def reserve(site: Site, **spec: Any) -> tuple[str, Answer]:
    """A reservation of both families on a switch of its own."""
    switch = site.switch(NETWORK, PREFIX)
    answer = site.reserve(switch, **spec)
    assert answer.result == "created", answer
    return switch, answer


def conflicted(site: Site, answer: Answer, what: str, switch: str, port: str = SQUATTER) -> None:
    """The condition names what is taken, port, switch and time; so does a Warning event."""
    holder = f"{what} is also held by logical switch port {port} on logical switch {switch}"
    wait_until(lambda: holder in site.condition(answer.name, "Conflicted")["message"], what=holder)
    condition = site.condition(answer.name, "Conflicted")
    assert (condition["status"], condition["reason"]) == ("True", "AddressTaken")
    assert re.search(rf"{re.escape(holder)} since \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ", condition["message"])
    journalled(site, answer.name, "IP", "Warning", "Conflicted", holder)


def resolved(site: Site, answer: Answer, what: str, switch: str, port: str = SQUATTER) -> None:
    wait_until(lambda: site.condition(answer.name, "Conflicted")["status"] == "False", what="no conflict any more")
    message = f"{what} is not held any more by logical switch port {port} on logical switch {switch}"
    journalled(site, answer.name, "IP", "Normal", "ConflictResolved", message)


def journalled(site: Site, name: str, *expected: str) -> None:
    """(kind, type, reason, message) is in the journal, which is written when there is a moment for it."""
    wait_until(lambda: expected in events(site, name), what=f"the event {expected}")


def events(site: Site, name: str) -> list[tuple[str, str, str, str]]:
    answer = site.client.get(f"/api/v1/events?fieldSelector=involvedObject.name%3D{name}")
    return [(e["involvedObject"]["kind"], e["type"], e["reason"], e["message"]) for e in answer["items"]]


# ---- every way to take an address or a MAC, and every way to leave it ----------------------------------------------

WAYS = {
    "a static IPv4 address": (f"{OTHER_MAC} {{v4}}", "{v4}"),
    "one of several": (f"{OTHER_MAC} 10.16.0.77 {{v4}}/24", "{v4}"),
    "a static IPv6 address": (f"{OTHER_MAC} {{v6}}", "{v6}"),
    "an IPv6 address in another notation": (f"{OTHER_MAC} {{V6}}", "{v6}"),
    "the MAC alone": ("{mac}", "MAC {mac}"),
    "the MAC in upper case": ("{MAC} 10.16.0.77", "MAC {mac}"),
    "the MAC, and an address from ovn-northd": ("{mac} dynamic", "MAC {mac}"),
    "dynamic IPv4": ("dynamic {v4}", "{v4}"),
    "dynamic IPv6": ("dynamic {v6}", "{v6}"),
}
LEAVES: dict[str, Callable[[Site, Answer], object]] = {
    "deleted": lambda site, _answer: site.nb("lsp-del", SQUATTER),
    "given another": lambda site, _answer: site.nb("lsp-set-addresses", SQUATTER, f"{OTHER_MAC} 10.16.0.88"),
    "given none": lambda site, _answer: site.nb("lsp-set-addresses", SQUATTER),
}


def words(answer: Answer) -> dict[str, str]:
    v6 = answer.v6.upper().replace("::", ":0:0:")
    return {"v4": answer.v4, "v6": answer.v6, "V6": v6, "mac": answer.mac, "MAC": answer.mac.upper()}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_is_taken_is_named_with_port_switch_and_time_until_it_is_left(site: Site, way: str) -> None:
    switch, answer = reserve(site)
    addresses, what = (text.format(**words(answer)) for text in WAYS[way])
    site.port(switch, addresses, name=SQUATTER)
    conflicted(site, answer, what, switch)
    site.nb("lsp-del", SQUATTER)
    resolved(site, answer, what, switch)


@pytest.mark.parametrize("leaves", LEAVES)
def test_however_it_is_left_it_is_told(site: Site, leaves: str) -> None:
    switch, answer = reserve(site)
    site.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER)
    conflicted(site, answer, answer.v4, switch)
    LEAVES[leaves](site, answer)
    resolved(site, answer, answer.v4, switch)


def test_a_port_that_only_may_use_the_address_is_named_as_that(site: Site) -> None:
    switch, answer = reserve(site)
    site.port(switch, "unknown", name=SQUATTER, port_security=json.dumps(f"{OTHER_MAC} {answer.v4}"))
    what = f"{answer.v4} is also held by port_security of logical switch port {SQUATTER} on logical switch {switch}"
    journalled(site, answer.name, "IP", "Warning", "Conflicted", what)


def test_a_port_that_comes_from_another_switch_is_named_and_forgotten_when_it_goes_back(site: Site) -> None:
    switch, answer = reserve(site)
    other = site.switch("10.17.0.0/24")
    site.port(other, f"{OTHER_MAC} {answer.v4}", name=SQUATTER)
    assert site.condition(answer.name, "Conflicted")["status"] == "False"
    uuid = site.row("Logical_Switch_Port", SQUATTER)["_uuid"]
    move = ("remove", "logical_switch", other, "ports", uuid, "--", "add", "logical_switch", switch, "ports", uuid)
    site.nb(*move)
    conflicted(site, answer, answer.v4, switch)
    site.nb("remove", "logical_switch", switch, "ports", uuid, "--", "add", "logical_switch", other, "ports", uuid)
    resolved(site, answer, answer.v4, switch)


def test_its_own_port_that_is_renamed_is_named_until_it_has_its_name_again(site: Site) -> None:
    switch, answer = reserve(site)
    site.port(switch, answer.addresses, name=answer.name)
    assert site.condition(answer.name, "Conflicted")["status"] == "False"
    site.nb("set", "logical_switch_port", answer.name, f"name={SQUATTER}")
    for what in (answer.v4, answer.v6, f"MAC {answer.mac}"):
        conflicted(site, answer, what, switch)
    site.nb("set", "logical_switch_port", SQUATTER, f"name={answer.name}")
    for what in (answer.v4, answer.v6, f"MAC {answer.mac}"):
        resolved(site, answer, what, switch)


def test_its_own_port_on_another_switch_is_told_and_no_conflict(site: Site) -> None:
    switch, answer = reserve(site)
    other = site.switch("10.17.0.0/24")
    site.port(other, f"{OTHER_MAC} {answer.v4}", name=answer.name)
    message = f"port {answer.name} is on logical switch {other}, the IP on {switch}"
    journalled(site, answer.name, "IP", "Warning", "WrongSubnet", message)
    bound = site.condition(answer.name, "Bound")
    assert (bound["status"], bound["reason"], bound["message"]) == ("False", "WrongSubnet", message)
    assert site.condition(answer.name, "Conflicted")["status"] == "False"
    site.nb("lsp-del", answer.name)
    wait_until(lambda: site.condition(answer.name, "Bound")["reason"] == "NoPort", what="forgotten")


def test_a_dynamic_port_that_got_the_address_while_it_was_not_excluded_is_named_until_it_leaves(site: Site) -> None:
    switch, answer = reserve(site, v4IpAddress="10.16.0.2")
    site.daemon.pause()
    try:
        site.servers.nbctl("remove", "logical_switch", switch, "other_config", "exclude_ips")
        add = ("lsp-add", switch, SQUATTER, "--", "lsp-set-addresses", SQUATTER, "dynamic")
        site.servers.nbctl("--wait=sb", *add)
    finally:
        site.daemon.resume()
    assert site.dynamic_addresses(SQUATTER).split()[1] == answer.v4
    conflicted(site, answer, answer.v4, switch)
    assert site.condition(answer.name, "Enforced")["reason"] == "Withheld"
    site.nb("lsp-del", SQUATTER)
    resolved(site, answer, answer.v4, switch)
    wait_until(lambda: site.exclude_ips(switch) == answer.v4, what="excluded again")


def test_each_squatter_has_its_own_time_and_the_conflict_lasts_until_the_last_has_left(site: Site) -> None:
    switch, answer = reserve(site)
    site.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER)
    conflicted(site, answer, answer.v4, switch)
    first = site.condition(answer.name, "Conflicted")["message"]
    site.port(switch, f"0a:00:00:00:00:78 {answer.v4}", name="another.default")
    conflicted(site, answer, answer.v4, switch, "another.default")
    assert first in site.condition(answer.name, "Conflicted")["message"]
    site.nb("lsp-del", SQUATTER)
    wait_until(lambda: SQUATTER not in site.condition(answer.name, "Conflicted")["message"], what="one left")
    assert site.condition(answer.name, "Conflicted")["status"] == "True"
    site.nb("lsp-del", "another.default")
    resolved(site, answer, answer.v4, switch, "another.default")


# ---- what is wrong with a subnet -----------------------------------------------------------------------------------


def subnet_says(site: Site, switch: str, type_: str, *expected: str) -> str:
    """The message of the Subnet's condition, once it has this status and reason."""

    def found() -> dict[str, str]:
        conditions = site.subnet(switch)["status"]["conditions"]
        [condition] = [condition for condition in conditions if condition["type"] == type_]
        return condition

    wait_until(lambda: (found()["status"], found()["reason"]) == expected, what=f"{switch} {type_} {expected}")
    return found()["message"]


def test_two_ports_with_one_address_are_told_of_their_subnet(site: Site) -> None:
    switch = site.switch(NETWORK, PREFIX)
    subnet_says(site, switch, "Conflicted", "False", "NoConflict")
    site.port(switch, f"{OTHER_MAC} 10.16.0.5 fd00:16::5", name="a")
    site.port(switch, "0a:00:00:00:00:78 10.16.0.6 fd00:16::5", name="b")
    what = f"fd00:16::5 is held by logical switch ports a and b on logical switch {switch}"
    assert subnet_says(site, switch, "Conflicted", "True", "DuplicateAddress") == what
    journalled(site, switch, "Subnet", "Warning", "DuplicateAddress", what)
    described = site.command("describe", "subnet", switch).stdout
    assert re.search(rf"Conflicted +True +DuplicateAddress +\S+ +{what}", described), described
    assert re.search(rf"Warning +DuplicateAddress +\S+ +ovnreserved +{what}", described), described
    assert f"message: {what}" in site.command("get", "subnet", switch, "-o", "yaml").stdout
    site.nb("lsp-del", "a")
    subnet_says(site, switch, "Conflicted", "False", "NoConflict")
    journalled(site, switch, "Subnet", "Normal", "DuplicateResolved", f"not so any more: {what}")


def test_what_ports_share_on_purpose_is_no_duplicate(site: Site) -> None:
    switch = site.switch()
    site.port(switch, f"{OTHER_MAC} 10.16.0.5", name="parent", port_security=json.dumps(f"{OTHER_MAC} 10.16.0.9"))
    virtual = {"options:virtual-ip": "10.16.0.5"}
    site.port(switch, "unknown", name="other-parent", port_security=json.dumps("0a:00:00:00:00:78 10.16.0.9"))
    site.port(switch, "0a:00:00:00:00:79 10.16.0.5", name="vip", type="virtual", **virtual)
    site.port(switch, "0a:00:00:00:00:80 10.16.0.5", name="off", enabled="false")
    site.router(switch, "10.16.0.1/24")
    subnet_says(site, switch, "Conflicted", "False", "NoConflict")
    assert events(site, switch) == []


def test_exclude_ips_that_ovn_northd_cannot_read_are_told_with_token_and_place(site: Site) -> None:
    switch, answer = reserve(site)
    subnet_says(site, switch, "ExcludeIPsRead", "True", "Read")
    value = json.dumps(f"{answer.v4} 10.16.0.9 foo 10.16.0.11")
    site.nb("set", "logical_switch", switch, f"other_config:exclude_ips={value}")
    message = subnet_says(site, switch, "ExcludeIPsRead", "False", "BadExcludeIPs")
    assert '"foo", character 11 of the operator\'s part' in message
    assert '"foo 10.16.0.11"' in message
    assert message.endswith("; what ovnreserve excludes stands in front of it, where it is read")
    journalled(site, switch, "Subnet", "Warning", "BadExcludeIPs", message)
    site.reserve(switch)  # our part grows, and nothing is said of that
    assert subnet_says(site, switch, "ExcludeIPsRead", "False", "BadExcludeIPs") == message
    value = json.dumps((site.exclude_ips(switch) or "").replace("foo ", ""))
    site.nb("set", "logical_switch", switch, f"other_config:exclude_ips={value}")
    subnet_says(site, switch, "ExcludeIPsRead", "True", "Read")
    journalled(site, switch, "Subnet", "Normal", "ExcludeIPsRead", f"not so any more: {message}")
    assert [reason for _kind, _type, reason, _message in events(site, switch)].count("BadExcludeIPs") == 1


def test_a_subnet_that_is_changed_leaves_its_reservations_outside_and_says_so(site: Site) -> None:
    switch, answer = reserve(site)
    site.nb("set", "logical_switch", switch, "other_config:subnet=10.17.0.0/24")
    message = f"{answer.v4} is outside of 10.17.0.0/24, which subnet {switch} is now"
    journalled(site, answer.name, "IP", "Warning", "OutsideSubnet", message)
    reserved = site.condition(answer.name, "Reserved")
    assert (reserved["status"], reserved["reason"], reserved["message"]) == ("False", "OutsideSubnet", message)
    site.nb("set", "logical_switch", switch, f"other_config:subnet={NETWORK}")
    wait_until(lambda: site.condition(answer.name, "Reserved")["status"] == "True", what="it is back")
    journalled(site, answer.name, "IP", "Normal", "SubnetBack", f"not so any more: {message}")


def test_a_conflict_is_as_old_as_it_was_after_a_restart_and_is_told_once(site: Site) -> None:
    switch, answer = reserve(site)
    site.router(switch, f"{answer.v4}/24")
    site.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER)
    wait_until(lambda: [r for r, _ in site.events(answer.name)].count("Conflicted") == 2, what="both are told")
    since = site.condition(answer.name, "Conflicted")["lastTransitionTime"]
    message = site.condition(answer.name, "Conflicted")["message"]
    wait_until(lambda: timestamp(time.time()) > since, what="a later second")
    site.restart()
    site.reserve(switch)  # it has looked at everything
    assert site.condition(answer.name, "Conflicted")["lastTransitionTime"] == since
    assert site.condition(answer.name, "Conflicted")["message"] == message
    assert [r for r, _ in site.events(answer.name)].count("Conflicted") == 2


def test_a_conflict_that_ended_while_nobody_looked_is_told_to_be_over(site: Site) -> None:
    switch, answer = reserve(site)
    site.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER)
    conflicted(site, answer, answer.v4, switch)
    site.daemon.kill()
    site.client.close()
    site.nb("lsp-del", SQUATTER)
    site.daemon.start()
    resolved(site, answer, answer.v4, switch)


@pytest.mark.parametrize("address", ["10.16.0.1", "fd00:16::1"])
@pytest.mark.parametrize("first", ["router", "port"])
def test_a_port_that_takes_a_routers_address_is_told(site: Site, address: str, first: str) -> None:
    switch = site.switch(NETWORK, PREFIX)
    if first == "port":
        site.port(switch, f"{OTHER_MAC} {address}", name=SQUATTER)
    lrp = f"{site.router(switch, '10.16.0.1/24', 'fd00:16::1/64')}-{switch}"
    if first == "router":
        subnet_says(site, switch, "Conflicted", "False", "NoConflict")
        site.port(switch, f"{OTHER_MAC} {address}", name=SQUATTER)
    holder = f"logical switch port {SQUATTER} on logical switch {switch}"
    message = f"{address} is held by {holder}, and by logical router port {lrp}"
    assert subnet_says(site, switch, "Conflicted", "True", "DuplicateAddress") == message
    journalled(site, switch, "Subnet", "Warning", "DuplicateAddress", message)
    differences = site.command("verify")
    assert differences.code == 1
    assert message in differences.stdout
    assert f"list logical_router_port {lrp}" in differences.stdout
    if first == "router":
        site.nb("lsp-set-addresses", SQUATTER, f"{OTHER_MAC} 10.16.0.9")
    else:
        site.nb("set", "logical_router_port", lrp, "networks=[10.16.0.254/24,fd00\\:16\\:\\:fe/64]")
    subnet_says(site, switch, "Conflicted", "False", "NoConflict")
    journalled(site, switch, "Subnet", "Normal", "DuplicateResolved", f"not so any more: {message}")


def test_a_mac_prefix_that_is_ours_is_told_of_the_database_and_no_mac_is_given_from_it(site: Site) -> None:
    switch = site.switch()
    theirs = site.rows("NB_Global")[0]["options"]["mac_prefix"]
    assert site.client.get("/apis/ovnreserve.io/v1/status")["findings"] == []
    try:
        site.nb("--wait=sb", "set", "nb_global", ".", 'options:mac_prefix="02:6f:76"')
        [finding] = wait_until(lambda: site.client.get("/apis/ovnreserve.io/v1/status")["findings"], what="found")
        assert finding["reason"] == "MacPrefixIsOurs"
        assert f"Warning: {finding['message']}" in site.command("status").stdout.splitlines()
        journalled(site, "database", "Database", "Warning", "MacPrefixIsOurs", finding["message"])
        assert site.reserve(switch).mac.startswith("06:6f:76:")
    finally:
        site.nb("--wait=sb", "set", "nb_global", ".", f"options:mac_prefix={json.dumps(theirs)}")
    wait_until(lambda: not site.client.get("/apis/ovnreserve.io/v1/status")["findings"], what="not so any more")
    message = f"not so any more: {finding['message']}"
    journalled(site, "database", "Database", "Normal", "MacPrefixChanged", message)


# ---- squatters = "block" -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blocking_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        Servers() as servers,
        Daemon(servers, tmp_path_factory.mktemp("blocking") / "state", "--squatters", "block") as daemon,
    ):
        yield Site(servers, daemon, follow=True)


@pytest.fixture
def blocking(blocking_site: Site) -> Iterator[Site]:
    """A site whose daemon blocks."""
    logged = blocking_site.daemon.log.stat().st_size
    yield blocking_site
    print(blocking_site.daemon.log.read_bytes()[logged:].decode())
    blocking_site.clean()


def enabled(site: Site, port: str = SQUATTER) -> bool | None:
    """What the port's `enabled` is; None where it is absent."""
    found = site.row("Logical_Switch_Port", port)["enabled"]
    return None if found == [] else found


def blocked(site: Site, answer: Answer, switch: str, port: str = SQUATTER) -> None:
    """It is disabled, which the record, the condition and a Warning event say."""
    wait_until(lambda: enabled(site, port) is False, what=f"{port} is blocked")
    uuid = site.row("Logical_Switch_Port", port)["_uuid"]
    assert uuid in json.loads(site.records()[answer.name]["external_ids"]["ovnreserve/record"])["blocked"]
    message = (
        f"logical switch port {port} on logical switch {switch} is disabled while it has what is reserved: "
        f"{answer.addresses}"
    )
    journalled(site, answer.name, "IP", "Warning", "SquatterBlocked", message)
    wait_until(
        lambda: "(disabled meanwhile)" in site.condition(answer.name, "Conflicted")["message"], what="it is said"
    )


def unblocked(site: Site, answer: Answer, switch: str, was: bool | None = None) -> None:
    wait_until(lambda: enabled(site) is was, what="unblocked")
    message = f"logical switch port {SQUATTER} on logical switch {switch} is enabled again"
    journalled(site, answer.name, "IP", "Normal", "SquatterUnblocked", message)
    if site.ip(answer.name):
        assert "blocked" not in site.records()[answer.name]["external_ids"]["ovnreserve/record"]


@pytest.mark.parametrize("was", [None, True])
def test_a_squatter_is_disabled_and_has_what_it_had_when_it_takes_another_address(
    blocking: Site, was: bool | None
) -> None:
    switch, answer = reserve(blocking)
    columns = {} if was is None else {"enabled": "true"}
    blocking.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER, **columns)
    blocked(blocking, answer, switch)
    blocking.nb("lsp-set-addresses", SQUATTER, f"{OTHER_MAC} 10.16.0.77")
    unblocked(blocking, answer, switch, was)
    assert blocking.addresses(SQUATTER) == {f"{OTHER_MAC} 10.16.0.77"}


@pytest.mark.parametrize("way", [way for way in WAYS if way != "dynamic IPv4"])
def test_whatever_is_taken_its_taker_is_blocked(blocking: Site, way: str) -> None:
    switch, answer = reserve(blocking)
    blocking.port(switch, WAYS[way][0].format(**words(answer)), name=SQUATTER)
    blocked(blocking, answer, switch)


def test_who_asks_for_the_address_and_is_given_another_is_not_blocked_in_the_end(blocking: Site) -> None:
    switch, answer = reserve(blocking)
    blocking.port(switch, f"dynamic {answer.v4}", name=SQUATTER)
    wait_until(lambda: answer.v4 not in blocking.dynamic_addresses(SQUATTER), what="it has another")
    wait_until(lambda: enabled(blocking) is None, what="it is enabled")
    conflicted(blocking, answer, answer.v4, switch)


def test_who_is_no_workload_is_only_reported(blocking: Site) -> None:
    switch, answer = reserve(blocking)
    blocking.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER, type="localport")
    conflicted(blocking, answer, answer.v4, switch)
    blocking.reserve(switch)  # the daemon has done something since
    assert enabled(blocking) is None


def test_a_port_that_was_disabled_before_stays_so(blocking: Site) -> None:
    switch, answer = reserve(blocking)
    blocking.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER, enabled="false")
    conflicted(blocking, answer, answer.v4, switch)
    blocking.nb("lsp-set-addresses", SQUATTER, f"{OTHER_MAC} 10.16.0.77")
    resolved(blocking, answer, answer.v4, switch)
    blocking.reserve(switch)
    assert enabled(blocking) is False


def test_a_port_that_somebody_enables_again_is_left_alone(blocking: Site) -> None:
    switch, answer = reserve(blocking)
    blocking.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER)
    blocked(blocking, answer, switch)
    blocking.nb("lsp-set-enabled", SQUATTER, "enabled")
    message = (
        f"logical switch port {SQUATTER} on logical switch {switch} was enabled by somebody else though it has what "
        "is reserved: left alone"
    )
    journalled(blocking, answer.name, "IP", "Warning", "SquatterLeftAlone", message)
    blocking.nb("set", "logical_switch_port", SQUATTER, "external_ids:touched=yes")
    blocking.reserve(switch)
    assert enabled(blocking) is True
    reasons = [reason for _kind, _type, reason, _message in events(blocking, answer.name)]
    assert (reasons.count("SquatterBlocked"), reasons.count("SquatterLeftAlone")) == (1, 1)


@pytest.mark.parametrize("meanwhile", ["works", "is down"])
def test_who_moved_when_the_switch_went_is_unblocked(blocking: Site, meanwhile: str) -> None:
    switch, answer = reserve(blocking)
    other = blocking.switch("10.17.0.0/24")
    blocking.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER)
    blocked(blocking, answer, switch)
    if meanwhile == "is down":
        blocking.daemon.stop()
        blocking.client.close()
    uuid = blocking.row("Logical_Switch_Port", SQUATTER)["_uuid"]
    moved = ("remove", "logical_switch", switch, "ports", uuid, "--", "add", "logical_switch", other, "ports", uuid)
    addresses = ("lsp-set-addresses", SQUATTER, f"{OTHER_MAC} 10.17.0.9")
    blocking.nb(*moved, "--", *addresses, "--", "ls-del", switch)
    if meanwhile == "is down":
        blocking.daemon.start()
        active(blocking)
    wait_until(lambda: enabled(blocking) is None, what="unblocked")


def test_the_release_of_the_reservation_unblocks(blocking: Site) -> None:
    switch, answer = reserve(blocking)
    blocking.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER)
    blocked(blocking, answer, switch)
    blocking.release(answer.name)
    unblocked(blocking, answer, switch)


@pytest.mark.parametrize("first", [0, 1])
def test_who_squats_on_two_is_blocked_until_both_are_left(blocking: Site, first: int) -> None:
    switch, one = reserve(blocking)
    two = blocking.reserve(switch)
    blocking.port(switch, [f"{OTHER_MAC} {one.v4}", f"{two.mac} 10.16.0.77"], name=SQUATTER)
    for answer in (one, two):
        blocked(blocking, answer, switch)
    left, kept = ((one, two), (two, one))[first]
    blocking.release(left.name)
    assert enabled(blocking) is False
    blocking.release(kept.name)
    unblocked(blocking, kept, switch)


def test_a_workload_that_moves_in_on_its_own_reservation_is_bound_while_the_squatter_is_blocked(
    blocking: Site,
) -> None:
    switch, answer = reserve(blocking)
    blocking.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER)
    blocked(blocking, answer, switch)
    blocking.port(switch, "dynamic", name=answer.name)
    wait_until(lambda: blocking.condition(answer.name, "Bound")["status"] == "True", what="bound")
    assert (enabled(blocking), enabled(blocking, answer.name)) == (False, None)


def test_what_is_blocked_is_undone_by_a_daemon_that_only_reports(servers: Servers, tmp_path: Path) -> None:
    config = tmp_path / "ovnreserved.toml"
    config.write_text('squatters = "block"\n')
    with Daemon(servers, tmp_path / "state", "--config", str(config)) as daemon:
        site = Site(servers, daemon, follow=True)
        switch, answer = reserve(site)
        site.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER)
        blocked(site, answer, switch)
        site.restart()
        blocked(site, answer, switch)
        config.write_text('squatters = "report"\n')
        site.restart()
        unblocked(site, answer, switch)
        conflicted(site, answer, answer.v4, switch)


def test_another_daemon_that_takes_over_knows_what_is_blocked(servers: Servers, tmp_path: Path) -> None:
    with Daemon(servers, tmp_path / "first", "--squatters", "block") as first:
        site = Site(servers, first, follow=True)
        switch, answer = reserve(site)
        site.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER)
        blocked(site, answer, switch)
        first.kill()
    servers.nbctl("lsp-set-addresses", SQUATTER, f"{OTHER_MAC} 10.16.0.77")
    with Daemon(servers, tmp_path / "second", "--squatters", "block") as second:
        unblocked(Site(servers, second), answer, switch)


def test_what_is_blocked_is_known_also_when_its_record_was_deleted(blocking: Site) -> None:
    switch, answer = reserve(blocking)
    blocking.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER)
    blocked(blocking, answer, switch)
    blocking.nb("destroy", "dns", blocking.records()[answer.name]["_uuid"])
    wait_until(lambda: answer.name in blocking.records(), what="the record is written again")
    blocked(blocking, answer, switch)
    blocking.nb("lsp-del", SQUATTER)
    resolved(blocking, answer, answer.v4, switch)
    wait_until(
        lambda: "blocked" not in blocking.records()[answer.name]["external_ids"]["ovnreserve/record"],
        what="it is forgotten",
    )


def test_what_was_restored_from_before_the_squatter_came_is_blocked_anew(servers: Servers, tmp_path: Path) -> None:
    """The database forgets port and record, the ledger does not."""
    with Daemon(servers, tmp_path / "state", "--squatters", "block") as daemon:
        site = Site(servers, daemon, follow=True)
        switch, answer = reserve(site)
        site.port(switch, f"{OTHER_MAC} {answer.v4}", name=SQUATTER)
        blocked(site, answer, switch)
        daemon.stop()
        uuids = [row["_uuid"] for row in site.rows("DNS")]
        servers.nbctl("clear", "logical_switch_port", SQUATTER, "enabled", "--", "destroy", "dns", *uuids)
        site.client.close()
        daemon.start()
        blocked(site, answer, switch)
        reasons = [reason for _kind, _type, reason, _message in events(site, answer.name)]
        assert "SquatterLeftAlone" not in reasons
        site.nb("lsp-set-addresses", SQUATTER, f"{OTHER_MAC} 10.16.0.77")
        unblocked(site, answer, switch)
