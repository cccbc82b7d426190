"""Bind: what the port of a reservation is given when it appears, and when it is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sites import NETWORK, PREFIX
from support import wait_until

if TYPE_CHECKING:
    from sites import Answer, Site

FAMILIES = {
    "IPv4": {"subnet": NETWORK},
    "IPv6": {"subnet": None, "ipv6_prefix": PREFIX},
    "dual stack": {"subnet": NETWORK, "ipv6_prefix": PREFIX},
}
ELSEWHERE = {"IPv4": "10.16.0.77", "IPv6": "fd00:16::77", "dual stack": "10.16.0.77 fd00:16::77"}
OTHER_MAC = "0a:00:00:00:00:77"


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def reserve(site: Site, family: str = "IPv4", pod: str = "", **spec: Any) -> tuple[str, Answer]:
    """(switch, what was reserved on it)."""
    switch = site.switch(**FAMILIES[family])
    answer = site.reserve(switch, pod, **spec)
    assert answer.result == "created", answer
    return switch, answer


def appear(site: Site, switch: str, answer: Answer, addresses: str | list[str], **columns: str) -> str:
    """The reservation's port is created with these addresses, in which {v4}, {v6} and {mac} are the reserved ones."""
    elements = [addresses] if isinstance(addresses, str) else addresses
    words = {"v4": answer.v4, "v6": answer.v6, "mac": answer.mac, "MAC": answer.mac.upper()}
    return site.port(switch, [element.format(**words).strip() for element in elements], name=answer.name, **columns)


def bound(site: Site, name: str) -> dict[str, Any]:
    """The IP, once it is bound."""
    wait_until(lambda: site.condition(name, "Bound")["status"] == "True", what=f"{name} bound")
    ip = site.ip(name)
    assert ip is not None
    assert ip["status"]["phase"] == "Bound"
    return ip


def not_bound(site: Site, name: str, reason: str) -> str:
    """What the Bound condition says, once it has this reason; the last of the Warning events says the same."""
    wait_until(lambda: site.condition(name, "Bound")["reason"] == reason, what=f"{name} {reason}")
    condition = site.condition(name, "Bound")
    assert condition["status"] == "False"
    journalled(site, name, "Warning", reason, condition["message"])
    return condition["message"]


def journalled(site: Site, name: str, *expected: str) -> None:
    """(type, reason, message) is in the journal, which is written when there is a moment for it."""
    wait_until(lambda: expected in events(site, name), what=f"the event {expected}")


def events(site: Site, name: str) -> list[tuple[str, str, str]]:
    """(type, reason, message) of what is journalled about the IP."""
    answer = site.client.get(f"/api/v1/events?fieldSelector=involvedObject.name%3D{name}")
    return [(event["type"], event["reason"], event["message"]) for event in answer["items"]]


def seen_by_northd(site: Site) -> None:
    site.nb("--wait=sb", "sync")


def excluded(site: Site, switch: str, answer: Answer) -> bool:
    return not answer.v4 or site.exclude_ips(switch) == answer.v4


# ---- written -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("addresses", [[], "dynamic", "{mac} dynamic", "{MAC} dynamic"])
def test_a_port_that_asks_for_no_other_address_is_given_the_reserved_one(
    site: Site, family: str, addresses: str | list[str]
) -> None:
    switch, answer = reserve(site, family)
    appear(site, switch, answer, addresses)
    bound(site, answer.name)
    seen_by_northd(site)
    assert site.addresses(answer.name) == {answer.addresses}
    assert site.dynamic_addresses(answer.name) == ""
    assert excluded(site, switch, answer)


@pytest.mark.parametrize(
    ("family", "addresses"),
    [
        ("IPv4", "dynamic {v4}"),
        ("IPv6", "dynamic {v6}"),
        ("dual stack", "dynamic {v4}"),
        ("dual stack", "dynamic {v6}"),
        ("dual stack", "dynamic {v4} {v6}"),
    ],
)
def test_a_port_that_asks_for_the_reserved_address_is_given_it(site: Site, family: str, addresses: str) -> None:
    switch, answer = reserve(site, family)
    appear(site, switch, answer, addresses)
    bound(site, answer.name)
    seen_by_northd(site)
    assert site.addresses(answer.name) == {answer.addresses}
    assert site.dynamic_addresses(answer.name) == ""
    assert excluded(site, switch, answer)


def test_unknown_beside_dynamic_stays(site: Site, family: str) -> None:
    switch, answer = reserve(site, family)
    appear(site, switch, answer, ["dynamic", "unknown"])
    bound(site, answer.name)
    assert site.addresses(answer.name) == {answer.addresses, "unknown"}


def test_a_port_that_asks_for_an_address_later_is_given_the_reserved_one(site: Site) -> None:
    switch, answer = reserve(site)
    site.port(switch, [], name=answer.name)
    bound(site, answer.name)
    site.nb("lsp-set-addresses", answer.name, "dynamic")
    wait_until(lambda: site.addresses(answer.name) == {answer.addresses}, what="bound again")
    bound(site, answer.name)


def test_a_port_of_another_provider_is_found_under_its_longer_name(site: Site) -> None:
    switch = site.switch(external_ids={"ovnreserve/provider": "net1.default.ovn"})
    answer = site.reserve(switch, "pod-a", name="pod-a.default.net1.default.ovn")
    appear(site, switch, answer, "dynamic")
    bound(site, "pod-a.default.net1.default.ovn")


def test_a_given_mac_and_address_is_what_the_port_is_given(site: Site) -> None:
    switch, answer = reserve(
        site, "dual stack", v4IpAddress="10.16.0.3", v6IpAddress="FD00:16::0:3", macAddress="00-00-00-4D-B4-36"
    )
    appear(site, switch, answer, "dynamic")
    bound(site, answer.name)
    assert site.addresses(answer.name) == {"00:00:00:4d:b4:36 10.16.0.3 fd00:16::3"}


# ---- right already -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "addresses"),
    [
        ("IPv4", "{mac} {v4}"),
        ("IPv4", "{MAC}   {v4}"),
        ("IPv4", "{mac} {v4}/24"),
        ("IPv4", ["{mac} {v4}", "unknown"]),
        ("IPv6", "{mac} {v6}"),
        ("IPv6", "{mac} fd00:0016:0:0000:0:0:0:9"),
        ("dual stack", "{mac} {v4} {v6}"),
        ("dual stack", "{mac} {v6} {v4}"),
        ("dual stack", ["unknown", "{MAC} FD00:16::0:9 {v4}"]),
    ],
)
def test_a_port_with_exactly_the_reserved_addresses_is_bound_as_it_is(
    site: Site, family: str, addresses: str | list[str]
) -> None:
    given = {} if family == "IPv4" else {"v6IpAddress": "fd00:16::9"}
    switch, answer = reserve(site, family, **given)
    written = len(site.ours())
    appear(site, switch, answer, addresses)
    before = site.addresses(answer.name)
    bound(site, answer.name)
    seen_by_northd(site)
    assert site.addresses(answer.name) == before
    assert len(site.ours()) == written
    assert excluded(site, switch, answer)


# ---- left alone ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "addresses",
    [
        "{mac} ELSEWHERE",
        f"{OTHER_MAC} {{v4}} {{v6}}",
        f"{OTHER_MAC} dynamic",
        "dynamic ELSEWHERE",
        "{mac}",
        "unknown",
        ["dynamic", f"{OTHER_MAC} ELSEWHERE"],
    ],
)
def test_a_port_with_any_other_address_is_left_alone(site: Site, family: str, addresses: str | list[str]) -> None:
    switch, answer = reserve(site, family)
    elements = [addresses] if isinstance(addresses, str) else addresses
    written = len(site.ours())
    appear(site, switch, answer, [element.replace("ELSEWHERE", ELSEWHERE[family]) for element in elements])
    before = site.addresses(answer.name)
    message = not_bound(site, answer.name, "AddressMismatch")
    assert all(address in message for address in (*before, answer.addresses))
    assert site.addresses(answer.name) == before
    assert len(site.ours()) == written
    assert excluded(site, switch, answer)


def test_half_of_a_dual_stack_reservation_is_not_bound(site: Site) -> None:
    switch, answer = reserve(site, "dual stack")
    appear(site, switch, answer, "{mac} {v4}")
    not_bound(site, answer.name, "AddressMismatch")


def test_a_port_that_came_while_we_were_away_and_runs_on_another_address_is_left_alone(site: Site, family: str) -> None:
    switch, answer = reserve(site, family)
    site.daemon.stop()
    site.client.close()
    site.port(switch, "dynamic", name=answer.name)
    runs_on = site.dynamic_addresses(answer.name)
    with site.northd_paused():  # there is no chassis here, so it would say that no port is up
        site.nb("set", "logical_switch_port", answer.name, "up=true")
        site.daemon.start()
        message = not_bound(site, answer.name, "RunningElsewhere")
        assert runs_on in message
        assert answer.addresses in message
        assert site.addresses(answer.name) == {"dynamic"}
        assert site.dynamic_addresses(answer.name) == runs_on
        assert excluded(site, switch, answer)


def test_a_port_that_came_while_we_were_away_and_does_not_run_yet_is_bound(site: Site, family: str) -> None:
    switch, answer = reserve(site, family)
    site.daemon.stop()
    site.client.close()
    site.port(switch, "dynamic", name=answer.name)
    assert site.dynamic_addresses(answer.name)
    site.daemon.start()
    bound(site, answer.name)
    assert site.addresses(answer.name) == {answer.addresses}


def test_a_port_that_stops_running_elsewhere_is_bound(site: Site) -> None:
    switch, answer = reserve(site)
    site.daemon.stop()
    site.client.close()
    site.port(switch, "dynamic", name=answer.name)
    with site.northd_paused():
        site.nb("set", "logical_switch_port", answer.name, "up=true")
        site.daemon.start()
        not_bound(site, answer.name, "RunningElsewhere")
        site.nb("set", "logical_switch_port", answer.name, "up=false")
        bound(site, answer.name)
    assert site.addresses(answer.name) == {answer.addresses}


@pytest.mark.parametrize(
    "said",
    [
        {"pod": "default/somebody-else"},
        {"pod": "elsewhere/pod-a"},
        {"namespace": "elsewhere", "pod": "true"},
        {"ovnreserve/pod-type": "StatefulSet"},
    ],
)
def test_a_port_that_says_it_is_somebody_else_is_left_alone(site: Site, said: dict[str, str]) -> None:
    switch, answer = reserve(site, pod="pod-a")
    ids = {f"external_ids:{key}": f'"{value}"' for key, value in said.items()}
    appear(site, switch, answer, "dynamic", **ids)
    message = not_bound(site, answer.name, "IdentityMismatch")
    assert any(value in message for value in said.values())
    assert site.addresses(answer.name) == {"dynamic"}
    assert excluded(site, switch, answer)


@pytest.mark.parametrize(
    ("pod_type", "said"),
    [
        ("", {"pod": "default/pod-a", "ls": "anything", "vendor": "kube-ovn"}),
        ("", {"namespace": "default", "pod": "true"}),
        ("StatefulSet", {"ovnreserve/pod-type": "StatefulSet"}),
        ("VirtualMachine", {"pod": "default/virt-launcher-pod-a-x7k2p"}),
    ],
)
def test_a_port_that_says_what_the_reservation_says_is_bound(site: Site, pod_type: str, said: dict[str, str]) -> None:
    switch, answer = reserve(site, pod="pod-a", podType=pod_type)
    ids = {f"external_ids:{key}": f'"{value}"' for key, value in said.items()}
    appear(site, switch, answer, "dynamic", **ids)
    bound(site, answer.name)


def test_a_port_that_takes_back_what_it_said_is_bound(site: Site) -> None:
    switch, answer = reserve(site)
    appear(site, switch, answer, "dynamic", **{"external_ids:pod": '"default/somebody-else"'})
    not_bound(site, answer.name, "IdentityMismatch")
    site.nb("remove", "logical_switch_port", answer.name, "external_ids", "pod")
    bound(site, answer.name)


def test_a_port_on_another_switch_is_left_alone(site: Site) -> None:
    switch, answer = reserve(site)
    other = site.switch("10.17.0.0/24")
    appear(site, other, answer, "dynamic")
    assert other in not_bound(site, answer.name, "WrongSubnet")
    assert site.addresses(answer.name) == {"dynamic"}
    assert excluded(site, switch, answer)
    site.nb("lsp-del", answer.name)
    wait_until(lambda: site.condition(answer.name, "Bound")["reason"] == "NoPort")


def test_a_port_that_is_no_workload_is_left_alone(site: Site) -> None:
    switch, answer = reserve(site)
    appear(site, switch, answer, "unknown", type="localnet")
    not_bound(site, answer.name, "NotAWorkload")


# ---- squatters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "addresses"),
    [
        ("IPv4", f"{OTHER_MAC} {{v4}}"),
        ("IPv6", f"{OTHER_MAC} {{v6}}"),
        ("dual stack", f"{OTHER_MAC} 10.16.0.9 {{v6}}"),
        ("IPv4", "{mac} 10.16.0.9"),
    ],
)
def test_a_squatter_is_named_until_it_leaves(site: Site, family: str, addresses: str) -> None:
    switch, answer = reserve(site, family)
    assert site.condition(answer.name, "Conflicted")["status"] == "False"
    site.port(switch, addresses.format(v4=answer.v4, v6=answer.v6, mac=answer.mac), name="squatter")
    wait_until(lambda: site.condition(answer.name, "Conflicted")["status"] == "True", what="conflicted")
    found, _, _since = site.condition(answer.name, "Conflicted")["message"].rpartition(" since ")
    assert found.endswith(f" is also held by logical switch port squatter on logical switch {switch}")
    journalled(site, answer.name, "Warning", "Conflicted", found)
    site.nb("lsp-del", "squatter")
    wait_until(lambda: site.condition(answer.name, "Conflicted")["status"] == "False", what="no conflict")
    journalled(site, answer.name, "Normal", "ConflictResolved", found.replace("also held by", "not held any more by"))
    assert excluded(site, switch, answer)


def test_a_squatter_that_takes_another_address_is_forgotten(site: Site) -> None:
    switch, answer = reserve(site)
    site.port(switch, f"{OTHER_MAC} {answer.v4}", name="squatter")
    wait_until(lambda: site.condition(answer.name, "Conflicted")["status"] == "True")
    site.nb("lsp-set-addresses", "squatter", f"{OTHER_MAC} 10.16.0.9")
    wait_until(lambda: site.condition(answer.name, "Conflicted")["status"] == "False")


def test_a_bound_port_s_squatter_is_named_and_the_port_stays_bound(site: Site) -> None:
    switch, answer = reserve(site)
    appear(site, switch, answer, "dynamic")
    bound(site, answer.name)
    site.port(switch, f"{OTHER_MAC} {answer.v4}", name="squatter")
    wait_until(lambda: site.condition(answer.name, "Conflicted")["status"] == "True")
    assert site.condition(answer.name, "Bound")["status"] == "True"
    assert site.addresses(answer.name) == {answer.addresses}


# ---- coming and going ----------------------------------------------------------------------------------------------


def test_the_reservation_outlives_its_port_and_waits_for_the_next(site: Site, family: str) -> None:
    switch, answer = reserve(site, family)
    for _ in range(2):
        appear(site, switch, answer, "dynamic")
        bound(site, answer.name)
        assert site.addresses(answer.name) == {answer.addresses}
        site.nb("--wait=sb", "lsp-del", answer.name)
        wait_until(lambda: site.condition(answer.name, "Bound")["reason"] == "NoPort")
        ip = site.ip(answer.name)
        assert ip is not None
        assert ip["status"]["phase"] == "Reserved"
        assert excluded(site, switch, answer)


def test_a_reservation_that_is_being_released_is_not_bound(site: Site) -> None:
    switch, answer = reserve(site)
    with site.northd_paused():
        site.client.request("DELETE", f"/apis/kubeovn.io/v1/ips/{answer.name}")
        written = len(site.ours())
        site.nb("lsp-add", switch, answer.name, "--", "lsp-set-addresses", answer.name, "dynamic")
        wait_until(lambda: site.condition(answer.name, "Bound")["reason"] != "NoPort", what="the port is seen")
        ip = site.ip(answer.name)
        assert ip is not None
        assert ip["status"]["phase"] == "Releasing"
        assert len(site.ours()) == written
    wait_until(lambda: not site.ips(), what="released")
    seen_by_northd(site)
    assert site.addresses(answer.name) == {"dynamic"}
    assert site.dynamic_addresses(answer.name)
    assert site.exclude_ips(switch) is None
