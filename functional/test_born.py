"""IPs that are born with a port: they come and go with it, whoever made the port, and nothing of them is stored."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from sites import NETWORK, PREFIX, Site
from stores import active, restart, state
from support import wait_until

from ovnreserve.cli.client import quote
from ovnreserve.cli.errors import StatusError
from ovnreserve.sandbox import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ovnreserve.sandbox import Servers

MAC = "0a:00:00:00:00:01"
DEVICE = "4ca39c15-7a1c-4f58-9a5e-5b1a3f0c8d10"
UUID = "6f0c8bc5-1f55-4a6e-8a8c-0c1f6e8ad6c5"
PROJECT = "3c1d5087f3ac4a268b7c72bc31f3a0f4"


def born(site: Site) -> dict[str, dict[str, Any]]:
    """What is not reserved, by name."""
    return {ip["metadata"]["name"]: ip for ip in site.ips("false")}


def appears(site: Site, name: str) -> dict[str, Any]:
    return wait_until(lambda: born(site).get(name), what=f"the IP of port {name}")


def goes(site: Site, name: str) -> None:
    wait_until(lambda: name not in born(site), what=f"the IP of port {name} is gone")
    assert site.ip(name) is None


def ids(given: dict[str, str]) -> str:
    return json.dumps(given).replace('": "', '"="')  # in OVSDB's notation of a map


def delete(site: Site, name: str) -> dict[str, Any]:
    return site.client.request("DELETE", f"/apis/kubeovn.io/v1/ips/{quote(name)}")


# ---- created and deleted with its port -------------------------------------------------------------------------------

FAMILIES = {
    "IPv4": {"subnet": NETWORK},
    "IPv6": {"subnet": None, "ipv6_prefix": PREFIX},
    "dual stack": {"subnet": NETWORK, "ipv6_prefix": PREFIX},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_an_ip_is_created_with_its_port_and_deleted_with_it(site: Site, family: str, kind: str) -> None:
    switch = site.switch(**FAMILIES[family])
    v4 = "10.16.0.7" if "subnet" in FAMILIES[family] and FAMILIES[family]["subnet"] else ""
    v6 = "fd00:16::7" if "ipv6_prefix" in FAMILIES[family] else ""
    name = "web-0.shop"
    ours = len(site.ours())
    site.port(switch, "dynamic" if kind == "dynamic" else " ".join(filter(None, (MAC, v4, v6))), name=name)
    ip = appears(site, name)
    port = site.row("Logical_Switch_Port", name)
    has = port["dynamic_addresses"] if kind == "dynamic" else port["addresses"]
    spec = ip["spec"]
    assert " ".join(filter(None, (spec["macAddress"], spec["v4IpAddress"], spec["v6IpAddress"]))) == has
    assert (bool(spec["v4IpAddress"]), bool(spec["v6IpAddress"])) == (bool(v4), bool(v6))
    assert (spec["podName"], spec["namespace"], spec["podType"], spec["subnet"]) == ("web-0", "shop", "", switch)
    metadata = ip["metadata"]
    assert metadata["uid"] == port["_uuid"]
    assert metadata["labels"] == {
        "ovn.kubernetes.io/ip_reserved": "false",
        "ovn.kubernetes.io/node-name": "",
        "ovn.kubernetes.io/subnet": switch,
    }
    assert "finalizers" not in metadata
    assert ip["status"]["phase"] == "Bound"
    assert site.ip(name) == ip
    site.nb("lsp-del", name)
    goes(site, name)
    assert (len(site.ours()), site.ips()) == (ours, [])


@pytest.mark.parametrize(
    ("addresses", "shown"),
    [
        (f"{MAC} fe80::1 fd00:16::61", "fd00:16::61"),
        (f"{MAC} 10.99.9.9 10.16.0.60", "10.16.0.60"),
        (f"{MAC} 10.16.0.63 fe80::3", "10.16.0.63"),
        ([f"{MAC} 10.99.9.9", f"{MAC} 10.16.0.63 fd00:1::3"], "10.16.0.63"),
    ],
)
def test_of_a_port_that_has_addresses_outside_too_the_first_on_the_subnet_is_shown_and_can_be_reserved(
    site: Site, addresses: str | list[str], shown: str
) -> None:
    switch = site.switch(NETWORK, PREFIX)
    site.port(switch, addresses, name="web-0.shop")
    assert appears(site, "web-0.shop")["spec"]["ipAddress"] == shown
    patch = {"metadata": {"labels": {"ovn.kubernetes.io/ip_reserved": "true"}}}
    assert site.client.patch("/apis/kubeovn.io/v1/ips/web-0.shop", patch)["spec"]["ipAddress"] == shown
    wait_until(lambda: site.condition("web-0.shop", "Bound")["status"] == "True", what="bound")
    assert site.addresses("web-0.shop") == set([addresses] if isinstance(addresses, str) else addresses)


def test_it_is_of_the_same_shape_as_a_reserved_one(site: Site) -> None:
    switch = site.switch()
    reserved = site.reserve(switch).ip
    site.port(switch, f"{MAC} 10.16.0.7", name="web-0.shop")
    ip = appears(site, "web-0.shop")
    assert ip["spec"].keys() == reserved["spec"].keys()
    assert ip["metadata"].keys() == reserved["metadata"].keys() - {"finalizers"}


@pytest.mark.parametrize("addresses", [["unknown"], [], ["router"], [MAC], [f"{MAC} 192.0.2.7"]])
def test_a_port_without_an_address_on_the_subnet_has_none(site: Site, addresses: list[str]) -> None:
    switch = site.switch()
    site.port(switch, addresses, name="web-0.shop")
    site.port(switch, f"{MAC} 10.16.0.8", name="web-1.shop")
    assert born(site).keys() == {"web-1.shop"}


def test_a_port_that_waits_for_its_address_has_one_when_it_has_it(site: Site) -> None:
    switch = site.switch()
    with site.northd_paused():
        site.nb("lsp-add", switch, "web-0.shop", "--", "lsp-set-addresses", "web-0.shop", "dynamic")
        assert "web-0.shop" not in born(site)
    assert appears(site, "web-0.shop")["spec"]["v4IpAddress"] == "10.16.0.2"


def test_it_follows_what_its_port_has(site: Site) -> None:
    switch = site.switch()
    site.port(switch, f"{MAC} 10.16.0.7", name="web-0.shop")
    first = appears(site, "web-0.shop")
    site.nb("lsp-set-addresses", "web-0.shop", f"{MAC} 10.16.0.8")
    wait_until(lambda: born(site)["web-0.shop"]["spec"]["v4IpAddress"] == "10.16.0.8", what="the other address")
    second = born(site)["web-0.shop"]
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    site.nb("lsp-set-addresses", "web-0.shop", "unknown")
    goes(site, "web-0.shop")


def test_the_counts_of_the_subnet_are_what_they_were(site: Site) -> None:
    switch = site.switch()
    site.port(switch, f"{MAC} 10.16.0.7", name="web-0.shop")
    appears(site, "web-0.shop")
    assert site.subnet(switch)["status"]["v4usingIPs"] == 1


# ---- whoever made the port -------------------------------------------------------------------------------------------

NEUTRON = {
    "neutron:cidrs": "10.16.0.7/24", "neutron:device_id": DEVICE, "neutron:device_owner": "compute:nova",
    "neutron:network_name": "neutron-net", "neutron:port_name": "vm1p", "neutron:project_id": PROJECT,
    "neutron:revision_number": "6", "neutron:security_group_ids": "",
}  # fmt: skip
MADE_BY = {
    "kube-ovn": (
        "web-0.shop", {"vendor": "kube-ovn", "ls": "ovn-default", "pod": "shop/web-0"}, ("web-0", "shop", ""),
    ),
    "kube-ovn, a VM": (
        "vm-1.shop.net1.default.ovn", {"vendor": "kube-ovn", "ls": "net1", "pod": "shop/virt-launcher-vm-1-x7k2p"},
        ("vm-1", "shop", "VirtualMachine"),
    ),
    "ovn-kubernetes": ("shop_web-0", {"namespace": "shop", "pod": "true"}, ("web-0", "shop", "")),
    "Neutron": (UUID, NEUTRON, (DEVICE, PROJECT, "VirtualMachine")),
    "LXD": (f"lxd-net2-instance-{DEVICE}-eth0", {"lxd_switch": "lxd-net2-ls-int"}, (DEVICE, "", "")),
    "Incus": (f"incus-net2-instance-{DEVICE}-eth0", {"incus_switch": "incus-net2-ls-int"}, (DEVICE, "", "")),
    "a StatefulSet's": (
        "db-0.shop", {"pod": "shop/db-0", "ovnreserve/pod-type": "StatefulSet"}, ("db-0", "shop", "StatefulSet"),
    ),
    "nobody": ("sw0-port1", {}, ("sw0-port1", "", "")),
}  # fmt: skip


@pytest.mark.parametrize("cms", MADE_BY)
def test_who_it_is_for_is_what_the_cms_says_of_the_port(site: Site, cms: str) -> None:
    name, said, who = MADE_BY[cms]
    site.port(site.switch(), f"{MAC} 10.16.0.7", name=name, external_ids=ids(said))
    spec = appears(site, name)["spec"]
    assert (spec["podName"], spec["namespace"], spec["podType"]) == who
    assert site.ip(name) is not None


@pytest.mark.parametrize("name", ["a/b", "a b", "a\tb\x1b[31m", "ä%2F?#", "x" * 300])
def test_a_port_of_any_name_is_listed(site: Site, name: str) -> None:
    site.port(site.switch(), f"{MAC} 10.16.0.7", name="web-0.shop")
    site.nb("set", "logical_switch_port", "web-0.shop", f"name={json.dumps(name)}")
    appears(site, name)
    shown = site.command("get", "ip")
    assert (shown.code, shown.stderr) == (0, "")
    assert "10.16.0.7" in shown.stdout
    assert "\x1b" not in shown.stdout
    [result] = site.bulk("delete", [{"kind": "IP", "metadata": {"name": name}}])
    assert result.result == "deleted"
    assert name not in born(site)


# ---- its switch ------------------------------------------------------------------------------------------------------


def test_it_is_on_another_subnet_when_its_switch_is(site: Site) -> None:
    switch = site.switch()
    site.port(switch, f"{MAC} 10.16.0.7 fd00:16::7", name="web-0.shop")
    assert appears(site, "web-0.shop")["spec"]["ipAddress"] == "10.16.0.7"
    site.nb("set", "logical_switch", switch, f'other_config:ipv6_prefix="{PREFIX}"')
    wait_until(lambda: born(site)["web-0.shop"]["spec"]["ipAddress"] == "10.16.0.7,fd00:16::7", what="both families")
    site.nb("set", "logical_switch", switch, "name=renamed")
    wait_until(lambda: born(site)["web-0.shop"]["spec"]["subnet"] == "renamed", what="the subnet's new name")
    assert born(site)["web-0.shop"]["metadata"]["labels"]["ovn.kubernetes.io/subnet"] == "renamed"
    site.nb("clear", "logical_switch", "renamed", "other_config")
    goes(site, "web-0.shop")


def test_a_switch_without_a_network_of_its_own_has_its_routers(site: Site) -> None:
    """As Neutron's are."""
    switch = site.switch(subnet=None)
    site.port(switch, f"{MAC} 10.16.0.7", name=UUID, external_ids=ids(NEUTRON))
    assert born(site) == {}
    router = site.router(switch, "10.16.0.1/24")
    assert appears(site, UUID)["spec"]["subnet"] == switch
    site.nb("set", "logical_router_port", f"{router}-{switch}", 'networks="10.17.0.1/24"')
    goes(site, UUID)
    assert born(site) == {}, "the router's own port is none"


def test_its_switch_goes_and_it_with_it(site: Site) -> None:
    switch = site.switch()
    site.port(switch, f"{MAC} 10.16.0.7", name="web-0.shop")
    appears(site, "web-0.shop")
    site.nb("ls-del", switch)
    goes(site, "web-0.shop")


# ---- looking at it ---------------------------------------------------------------------------------------------------


def test_selectors_tell_the_reserved_from_the_others(site: Site) -> None:
    switch, other = site.switch(), site.switch("10.17.0.0/24")
    reserved = site.reserve(switch).name
    site.port(switch, f"{MAC} 10.16.0.7", name="web-0.shop")
    site.port(other, "0a:00:00:00:00:02 10.17.0.7", name="web-1.shop")
    appears(site, "web-1.shop")

    def listed(query: str) -> list[str]:
        answer = site.client.get(f"/apis/kubeovn.io/v1/ips{query}")
        assert answer["kind"] == "IPList"
        return [ip["metadata"]["name"] for ip in answer["items"]]

    assert listed("") == sorted([reserved, "web-0.shop", "web-1.shop"])
    assert listed("?labelSelector=ovn.kubernetes.io/ip_reserved%3Dfalse") == ["web-0.shop", "web-1.shop"]
    assert listed("?labelSelector=ovn.kubernetes.io/ip_reserved%21%3Dfalse") == [reserved]
    assert listed(f"?labelSelector=ovn.kubernetes.io/subnet%3D{other}") == ["web-1.shop"]
    assert listed("?fieldSelector=metadata.name%3Dweb-0.shop") == ["web-0.shop"]
    assert listed("?fieldSelector=metadata.name%21%3Dweb-0.shop") == sorted([reserved, "web-1.shop"])
    assert listed("?labelSelector=color") == []


def test_the_command_line_shows_it(site: Site) -> None:
    switch = site.switch()
    site.port(switch, f"{MAC} 10.16.0.7", name="vm-1.shop", external_ids=ids({"pod": "shop/virt-launcher-vm-1-abcde"}))
    appears(site, "vm-1.shop")
    row = site.command("get", "ip", "-l", "ovn.kubernetes.io/ip_reserved=false", "-o", "wide").stdout.splitlines()[1]
    assert row.split()[:-1] == [
        "vm-1.shop", "10.16.0.7", "<none>", MAC, "<none>", switch, "Bound", "VirtualMachine", "shop", "vm-1",
    ]  # fmt: skip
    yaml = site.command("get", "ip", "vm-1.shop", "-o", "yaml").stdout
    assert '    ovn.kubernetes.io/ip_reserved: "false"\n' in yaml
    assert "  phase: Bound\n" in yaml
    described = site.command("describe", "ip", "vm-1.shop").stdout
    assert re.search(r"Reserved +False +NotReserved .* lives as long as its port vm-1.shop", described)
    assert re.search(rf"Bound +True +Bound .* port vm-1.shop has {MAC} 10.16.0.7", described)
    assert "Finalizers" not in described
    assert "Ports: 1 (1 with an IP that is not reserved)\n" in site.command("status").stdout
    assert site.command("wait", "--for=condition=Bound", "ip/vm-1.shop").code == 0


# ---- deleting it -----------------------------------------------------------------------------------------------------


def test_to_delete_it_is_to_delete_its_port(site: Site) -> None:
    switch = site.switch()
    site.port(switch, "dynamic", name="web-0.shop")
    ip = appears(site, "web-0.shop")
    done = site.command("delete", "ip", "web-0.shop")
    assert done == (0, 'ip.kubeovn.io "web-0.shop" deleted\n', "")
    assert site.row("Logical_Switch", switch)["ports"] == []
    assert site.ip("web-0.shop") is None
    has = f"{ip['spec']['macAddress']} {ip['spec']['ipAddress']}"
    expected = ("PortDeleted", f"deleted port web-0.shop of subnet {switch}, which had {has}")
    wait_until(lambda: expected in site.events("web-0.shop"), what="the event")
    assert site.ours()[-1]["_comment"] == "ovnreserve: delete port web-0.shop"


def test_what_is_answered_is_the_ip_that_is_gone(site: Site) -> None:
    site.port(site.switch(), f"{MAC} 10.16.0.7", name="web-0.shop")
    ip = appears(site, "web-0.shop")
    assert delete(site, "web-0.shop") == ip
    with pytest.raises(StatusError, match=r'ips\.kubeovn\.io "web-0\.shop" not found'):
        delete(site, "web-0.shop")


def test_a_port_that_is_no_workloads_is_not_deleted(site: Site) -> None:
    site.port(site.switch(), f"{MAC} 10.16.0.7", name="metadata", type="localport")
    appears(site, "metadata")
    with pytest.raises(StatusError, match=r"is of type localport, .* ovn-nbctl lsp-del metadata") as refused:
        delete(site, "metadata")
    assert refused.value.status["code"] == 409
    assert site.addresses("metadata") == {f"{MAC} 10.16.0.7"}
    appears(site, "metadata")


def test_many_are_deleted_in_one_transaction(site: Site) -> None:
    switch = site.switch()
    names = [f"web-{number}.shop" for number in range(5)]
    for number, name in enumerate(names):
        site.nb("lsp-add", switch, name, "--", "lsp-set-addresses", name, f"0a:00:00:00:00:0{number} 10.16.0.1{number}")
    kept = site.reserve(switch).name
    ours = len(site.ours())
    answers = site.bulk("delete", [{"kind": "IP", "metadata": {"name": name}} for name in [*names, "nobody", kept]])
    assert [answer.result for answer in answers] == [*["deleted"] * 5, "error", "deleted"]
    assert site.row("Logical_Switch", switch)["ports"] == []
    wait_until(lambda: not site.ips(), what="released")
    ports = [t for t in site.ours()[ours:] if f"delete port {names[0]}" in t["_comment"]]
    assert len(ports) == 1
    assert all(name in ports[0]["_comment"] for name in names)


# ---- reserving it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("addresses", ["dynamic", f"{MAC} 10.16.0.7"])
def test_to_apply_a_document_of_its_name_is_to_reserve_it(site: Site, addresses: str) -> None:
    switch = site.switch()
    site.port(switch, addresses, name="web-0.default")
    before = appears(site, "web-0.default")
    answer = site.reserve(switch, "web-0")
    assert (answer.result, answer.name) == ("created", "web-0.default")
    assert (answer.v4, answer.mac) == (before["spec"]["v4IpAddress"], before["spec"]["macAddress"])
    assert born(site) == {}
    assert site.ips() == [site.ip("web-0.default")]
    assert answer.ip["metadata"]["uid"] != before["metadata"]["uid"]


def test_to_post_a_document_of_its_name_is_to_reserve_it(site: Site) -> None:
    switch = site.switch()
    site.port(switch, f"{MAC} 10.16.0.7", name="web-0.default")
    appears(site, "web-0.default")
    answer = site.create(site.document(switch, "web-0"))
    assert (answer.result, answer.v4, answer.mac) == ("created", "10.16.0.7", MAC)
    assert born(site) == {}


def test_what_it_is_shown_as_can_be_applied(site: Site) -> None:
    site.port(site.switch(), f"{MAC} 10.16.0.7", name="web-0.default")
    ip = appears(site, "web-0.default")
    del ip["metadata"]["resourceVersion"]
    assert site.apply(ip).result == "unchanged"  # it says that it is not reserved
    assert appears(site, "web-0.default")["spec"] == ip["spec"]
    del ip["metadata"]["labels"]
    assert site.apply(ip).result == "created"
    assert born(site) == {}


def test_a_port_that_is_left_alone_when_its_ip_is_released_has_one_of_its_own(site: Site) -> None:
    switch = site.switch()
    answer = site.reserve(switch, "web-0")
    site.port(switch, answer.addresses, name=answer.name, external_ids=ids({"pod": "other/web-0"}))
    wait_until(lambda: site.condition(answer.name, "Bound")["reason"] == "IdentityMismatch", what="it is not ours")
    assert born(site) == {}
    site.release(answer.name)
    assert appears(site, answer.name)["spec"]["namespace"] == "other"


@pytest.mark.parametrize("patch", [{"metadata": {"labels": {"a": "b"}}}, {"metadata": {"annotations": {"a": "b"}}}])
def test_a_patch_of_it_that_would_have_to_be_stored_is_refused(site: Site, patch: dict[str, Any]) -> None:
    site.port(site.switch(), f"{MAC} 10.16.0.7", name="web-0.default")
    before = appears(site, "web-0.default")
    headers = {"content-type": "application/merge-patch+json"}
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    with contextlib.closing(connection):
        connection.sock.connect(site.daemon.client_environment["OVNRESERVE_SERVER"])
        connection.request("PATCH", "/apis/kubeovn.io/v1/ips/web-0.default", json.dumps(patch), headers)
        assert connection.getresponse().status == 422
    assert born(site) == {"web-0.default": before}


# ---- while we are away -----------------------------------------------------------------------------------------------


@pytest.fixture
def own(servers: Servers, tmp_path: Path) -> Iterator[Site]:
    """Servers of this test's own: the database and the daemon may be stopped."""
    with Daemon(servers, tmp_path / "state") as daemon:
        yield Site(servers, daemon)
        print(daemon.log.read_text())


def test_after_a_restart_all_are_there_as_they_are_then(own: Site) -> None:
    switch, routed = own.switch(), own.switch(subnet=None)
    own.router(routed, "10.17.0.1/24")
    for number in range(1, 4):
        own.port(switch, f"0a:00:00:00:00:0{number} 10.16.0.1{number}", name=f"web-{number}.shop")
    own.port(routed, "0a:00:00:00:00:09 10.17.0.9", name="web-9.shop")
    appears(own, "web-9.shop")
    before = born(own)
    own.daemon.kill()
    own.nb("lsp-del", "web-1.shop")
    restart(own)
    after = born(own)
    assert after.keys() == before.keys() - {"web-1.shop"}
    for name, ip in after.items():
        assert (ip["spec"], ip["metadata"]["uid"]) == (before[name]["spec"], before[name]["metadata"]["uid"])


def test_a_standby_shows_them_and_deletes_none(own: Site, tmp_path: Path) -> None:
    with Daemon(own.servers, tmp_path / "other", run_dir=tmp_path / "run") as daemon:
        standby = Site(own.servers, daemon)
        assert state(standby) == "standby"
        own.port(own.switch(), f"{MAC} 10.16.0.7", name="web-0.shop")
        assert appears(standby, "web-0.shop")["spec"] == appears(own, "web-0.shop")["spec"]
        with pytest.raises(StatusError, match="standby") as refused:
            delete(standby, "web-0.shop")
        assert refused.value.status["code"] == 503
        delete(own, "web-0.shop")
        goes(standby, "web-0.shop")


def test_while_the_database_is_away_they_are_as_they_were(own: Site) -> None:
    own.port(own.switch(), f"{MAC} 10.16.0.7", name="web-0.shop")
    before = appears(own, "web-0.shop")
    own.servers.nb_server.stop()
    wait_until(lambda: state(own) == "disconnected", what="disconnected")
    assert born(own) == {"web-0.shop": before}
    own.servers.nb_server.start()
    active(own)
    assert born(own)["web-0.shop"]["spec"] == before["spec"]
