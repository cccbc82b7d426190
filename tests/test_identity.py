"""Who a port is for, as each CMS says it; and it agrees with the reservation that the port is bound to."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from builders import row_of
from hypothesis import assume, given
from hypothesis import strategies as st

from ovnreserve.model.names import port_name
from ovnreserve.model.topology import Port, port_of
from ovnreserve.plan.identity import Identity, contradiction, identity

UUID = "6f0c8bc5-1f55-4a6e-8a8c-0c1f6e8ad6c5"
DEVICE = "4ca39c15-7a1c-4f58-9a5e-5b1a3f0c8d10"
PROJECT = "3c1d5087f3ac4a268b7c72bc31f3a0f4"
NIC = "net1.default.ovn"


def port(name: str, ids: dict[str, str]) -> Port:
    return port_of("uuid", row_of("Logical_Switch_Port", name=name, external_ids=ids), "switch")


def kube_ovn(pod: str) -> dict[str, str]:
    return {"vendor": "kube-ovn", "ls": "ovn-default", "pod": pod}


def neutron(**ids: str) -> dict[str, str]:
    """As Neutron writes them: all of them always, and empty where there is nothing to say."""
    always = {"device_id": "", "device_owner": "", "port_name": "", "project_id": PROJECT, "cidrs": "10.0.0.11/26"}
    return {f"neutron:{key}": value for key, value in {**always, **ids}.items()}


# Each row: what it is, the port's name, its external_ids, its switch's provider, and who it is for.
CASES = {
    "kube-ovn, a pod": ("web-0.shop", kube_ovn("shop/web-0"), "ovn", Identity("web-0", "shop", "")),
    "kube-ovn, a pod with dots": ("web.a.b.shop", kube_ovn("shop/web.a.b"), "ovn", Identity("web.a.b", "shop", "")),
    "kube-ovn, a second nic": (f"web-0.shop.{NIC}", kube_ovn("shop/web-0"), NIC, Identity("web-0", "shop", "")),
    "kube-ovn, a VM that keeps its IP": ("vm-1.shop", kube_ovn("shop/vm-1"), "ovn", Identity("vm-1", "shop", "")),
    "kube-ovn, a VM by its launcher": (
        "vm-1.shop", kube_ovn("shop/virt-launcher-vm-1-x7k2p"), "ovn", Identity("vm-1", "shop", "VirtualMachine"),
    ),
    "kube-ovn, a VM's second nic on a switch that does not say so": (
        f"vm-1.shop.{NIC}", kube_ovn("shop/virt-launcher-vm-1-x7k2p"), "ovn",
        Identity("vm-1", "shop", "VirtualMachine"),
    ),
    "kube-ovn, the launcher itself": (
        "virt-launcher-vm-1-x7k2p.shop", kube_ovn("shop/virt-launcher-vm-1-x7k2p"), "ovn",
        Identity("virt-launcher-vm-1-x7k2p", "shop", ""),
    ),
    "kube-ovn, a VM with a long name": (
        f"{'m' * 60}.shop", kube_ovn(f"shop/virt-launcher-{'m' * 44}x7k2p"), "ovn",
        Identity("m" * 60, "shop", "VirtualMachine"),
    ),
    "kube-ovn, a node": ("node-n1", {"vendor": "kube-ovn", "ls": "join"}, "ovn", Identity("node-n1", "", "")),
    "ovn-kubernetes, a pod": (
        "shop_web-0", {"namespace": "shop", "pod": "true"}, "ovn", Identity("web-0", "shop", ""),
    ),
    "ovn-kubernetes, a pod with dots": (
        "shop_web.a.b", {"namespace": "shop", "pod": "true"}, "ovn", Identity("web.a.b", "shop", ""),
    ),
    "ovn-kubernetes, a user defined network": (
        "shop.blue_shop_web-0", {"namespace": "shop", "pod": "true", "k8s.ovn.org/nad": "shop/blue"}, "ovn",
        Identity("web-0", "shop", ""),
    ),
    "ovn-kubernetes, a port named otherwise": (
        "stor-worker", {"namespace": "shop", "pod": "true"}, "ovn", Identity("", "shop", ""),
    ),
    "Neutron, a VM": (
        UUID, neutron(device_id=DEVICE, device_owner="compute:nova", port_name="vm1p"), "ovn",
        Identity(DEVICE, PROJECT, "VirtualMachine"),
    ),
    "Neutron, a DHCP port": (
        UUID, neutron(device_id="ovnmeta-1", device_owner="network:distributed"), "ovn",
        Identity("ovnmeta-1", PROJECT, ""),
    ),
    "Neutron, a port of no device": (UUID, neutron(port_name="vip"), "ovn", Identity("vip", PROJECT, "")),
    "LXD": (
        f"lxd-net2-instance-{DEVICE}-eth0", {"lxd_switch": "lxd-net2-ls-int", "lxd_location": "none"}, "ovn",
        Identity(DEVICE, "", ""),
    ),
    "Incus": (
        f"incus-net17-instance-{DEVICE}-eth0.100", {"incus_switch": "incus-net17-ls-int"}, "ovn",
        Identity(DEVICE, "", ""),
    ),
    "an old LXD": ("lxd-net2-instance-12-eth0", {}, "ovn", Identity("12", "", "")),
    "plain": ("vm-1.default", {}, "ovn", Identity("vm-1", "default", "")),
    "plain, a pod with dots": ("a.b.default", {}, "ovn", Identity("a.b", "default", "")),
    "plain, of a provider": (f"vm-1.default.{NIC}", {}, NIC, Identity("vm-1", "default", "")),
    "plain, without a dot": ("sw0-port1", {}, "ovn", Identity("sw0-port1", "", "")),
    "plain, without a name": ("", {}, "ovn", Identity("", "", "")),
    "whoever says its type": ("vm-1.default", {"ovnreserve/pod-type": "StatefulSet"}, "ovn",
                              Identity("vm-1", "default", "StatefulSet")),
    "a VM of Neutron that is said to be none": (
        UUID, neutron(device_id=DEVICE, device_owner="compute:nova") | {"ovnreserve/pod-type": ""}, "ovn",
        Identity(DEVICE, PROJECT, ""),
    ),
    "a launcher that is said to be a pod": (
        "vm-1.shop", kube_ovn("shop/virt-launcher-vm-1-x7k2p") | {"ovnreserve/pod-type": ""}, "ovn",
        Identity("virt-launcher-vm-1-x7k2p", "shop", ""),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_who_a_port_is_for_is_what_its_cms_says(case: str) -> None:
    name, ids, provider, expected = CASES[case]
    assert identity(port(name, ids), provider) == expected


@pytest.mark.parametrize("case", CASES)
def test_what_a_port_says_of_itself_contradicts_nothing_that_was_read_from_it(case: str) -> None:
    name, ids, _provider, who = CASES[case]
    assert contradiction(port(name, ids), who.pod_name, who.namespace, who.pod_type) is None


# ---- any port, and any reservation that it may be bound to -----------------------------------------------------------

labels = st.from_regex(r"[a-z0-9](?:[-a-z0-9]{0,3}[a-z0-9])?", fullmatch=True)
subdomains = st.lists(labels, min_size=1, max_size=3).map(".".join)
pods = subdomains | st.sampled_from(["vm", "virt-launcher-vm-abcde", "m" * 60, "a.ns.b"])
namespaces = labels | st.just("ns")
providers = st.just("ovn") | subdomains
types = st.sampled_from(["", "StatefulSet", "VirtualMachine", "Job"])


class Bound(NamedTuple):
    """A reservation, by what it says of its workload, and a port of its name."""

    port: Port
    pod_name: str
    namespace: str
    pod_type: str
    provider: str


@st.composite
def named_alike(draw: st.DrawFn) -> Bound:
    pod, namespace, provider, pod_type = draw(pods), draw(namespaces), draw(providers), draw(types)
    launcher = f"virt-launcher-{pod}-"[:58] + "x7k2p"
    ids = {}
    if draw(st.booleans()):
        ids["pod"] = draw(
            st.sampled_from([f"{namespace}/{pod}", f"{namespace}/{launcher}", "true", "", f"other/{pod}"])
            | st.builds("{}/{}".format, namespaces, pods)
        )
    if draw(st.booleans()):
        ids["namespace"] = draw(st.just(namespace) | namespaces)
    if draw(st.booleans()):
        ids["ovnreserve/pod-type"] = draw(types)
    return Bound(port(port_name(pod, namespace, provider), ids), pod, namespace, pod_type, provider)


@given(named_alike())
def test_a_port_is_for_whom_the_reservation_is_for_that_it_is_bound_to(it: Bound) -> None:
    assume(contradiction(it.port, it.pod_name, it.namespace, it.pod_type) is None)
    who = identity(it.port, it.provider)
    assert (who.pod_name, who.namespace) == (it.pod_name, it.namespace)
    assert contradiction(it.port, *who) is None


@given(named_alike(), st.text(max_size=8))
def test_no_port_contradicts_what_was_read_from_it_unless_it_contradicts_everything(it: Bound, name: str) -> None:
    """It does where `pod` and `namespace` name two namespaces, which no CMS does."""
    ids = it.port.external_ids
    two = "/" in ids.get("pod", "") and ids.get("namespace") and ids["pod"].partition("/")[0] != ids["namespace"]
    for each in (it.port, port(name, ids)):
        assert (contradiction(each, *identity(each, it.provider)) is None) == (not two)
