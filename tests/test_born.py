"""IPs that are born with a port: which ports have one, what it looks like, and when it is another."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from builders import MAC, NOW, Cloud, context, wanted
from hypothesis import given
from hypothesis import strategies as st

from ovnreserve.engine.batch import Batch
from ovnreserve.engine.published import Published, document, labels
from ovnreserve.engine.publisher import Publisher
from ovnreserve.engine.work import Work
from ovnreserve.model.errors import Conflict, NotFound, Refused
from ovnreserve.model.steps import DeletePort
from ovnreserve.model.topology import port_of
from ovnreserve.plan.bind import judge
from ovnreserve.plan.born import ANY, Born, addresses_of, born
from ovnreserve.plan.outcome import Event
from ovnreserve.plan.release import plan_delete_port
from ovnreserve.plan.reserve import plan_create
from ovnreserve.plan.world import Touched

NAME = "vm-1.default"
OTHER = "0a:00:00:00:00:02"


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def has(cloud: Cloud, name: str = NAME) -> tuple[str, str, str] | None:
    """(MAC, IPv4, IPv6) of the IP that was born with the port of that name."""
    found = of_port(cloud, name)
    if found is None:
        return None
    spec = document(found).spec
    return spec.macAddress, spec.v4IpAddress, spec.v6IpAddress


def of_port(cloud: Cloud, name: str = NAME) -> Born | None:
    port = cloud.world.port(name)
    assert port is not None
    return born(cloud.world, port)


# ---- which ports -----------------------------------------------------------------------------------------------------

BOTH = {"subnet": "10.0.0.0/24", "v6": "fd00::/64"}


@pytest.mark.parametrize(
    ("subnet", "addresses", "assigned", "expected"),
    [
        ({}, [f"{MAC} 10.0.0.5"], None, (MAC, "10.0.0.5", "")),
        ({}, ["0A:0:0:0:0:1 10.0.0.5"], None, (MAC, "10.0.0.5", "")),
        ({}, [f"{MAC} 10.0.0.5", "unknown"], None, (MAC, "10.0.0.5", "")),
        ({}, [f"{MAC} 10.0.0.6 10.0.0.5"], None, (MAC, "10.0.0.6", "")),
        ({}, [f"{MAC} 10.0.0.5", f"{OTHER} 10.0.0.6"], None, (MAC, "10.0.0.5", "")),
        ({}, ["dynamic"], f"{MAC} 10.0.0.5", (MAC, "10.0.0.5", "")),
        ({}, [f"{MAC} dynamic"], f"{MAC} 10.0.0.5", (MAC, "10.0.0.5", "")),
        ({}, ["dynamic", f"{OTHER} 10.0.0.7"], f"{MAC} 10.0.0.5", (MAC, "10.0.0.5", "")),
        (BOTH, [f"{MAC} 10.0.0.5 fd00::5"], None, (MAC, "10.0.0.5", "fd00::5")),
        (BOTH, [f"{MAC} fd00::5", f"{MAC} 10.0.0.5"], None, (MAC, "10.0.0.5", "fd00::5")),
        (BOTH, [f"{MAC} fd00::5"], None, (MAC, "", "fd00::5")),
        (BOTH, ["dynamic"], f"{MAC} 10.0.0.5 fd00::5", (MAC, "10.0.0.5", "fd00::5")),
        ({"subnet": None, "v6": "fd00::/64"}, [f"{MAC} fd00::5"], None, (MAC, "", "fd00::5")),
        ({}, [f"{MAC} 10.0.0.5 fd00::5"], None, (MAC, "10.0.0.5", "")),  # the subnet has no IPv6
        ({}, [f"{MAC} 10.0.1.5"], None, None),  # outside
        ({}, ["unknown"], None, None),
        ({}, [MAC], None, None),
        ({}, ["10.0.0.5"], None, None),  # malformed
        ({}, [], None, None),
        ({}, ["dynamic"], None, None),  # pending
        ({}, ["dynamic", f"{OTHER} 10.0.0.7"], None, None),  # pending
        ({}, ["dynamic"], "dynamic 10.0.0.5", None),  # nobody's answer
        ({}, [f"{MAC} 10.0.0.5"], f"{OTHER} 10.0.0.6", (MAC, "10.0.0.5", "")),  # left over
    ],
)
def test_a_port_with_an_address_on_a_subnet_is_an_ip(
    cloud: Cloud,
    subnet: dict[str, Any],
    addresses: list[str],
    assigned: str | None,
    expected: tuple[str, str, str] | None,
) -> None:
    cloud.port(cloud.switch(**subnet), NAME, *addresses, assigned=assigned)
    assert has(cloud) == expected


def test_a_port_to_a_router_is_none(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.port(switch, NAME, f"{MAC} 10.0.0.5", type="router", options={"router-port": "lrp"})
    assert has(cloud) is None


@pytest.mark.parametrize("type_", ["localport", "virtual", "localnet"])
def test_a_port_of_another_type_with_an_address_is_one(cloud: Cloud, type_: str) -> None:
    cloud.port(cloud.switch(), NAME, f"{MAC} 10.0.0.5", type=type_)
    assert has(cloud) == (MAC, "10.0.0.5", "")


def test_a_port_on_a_switch_without_a_network_is_none(cloud: Cloud) -> None:
    cloud.port(cloud.switch(subnet=None), NAME, f"{MAC} 10.0.0.5")
    assert has(cloud) is None


def test_a_port_of_no_switch_is_none(cloud: Cloud) -> None:
    cloud.port(None, NAME, f"{MAC} 10.0.0.5")
    assert has(cloud) is None


# ---- what is reserved is what was shown ------------------------------------------------------------------------------

addresses = st.lists(
    st.sampled_from([
        f"{MAC} 10.0.0.5", f"{MAC} 10.0.0.6 fd00::6", f"{MAC} fe80::1 fd00::9", f"{MAC} 10.9.9.9", f"{MAC} fd00::8",
        f"{OTHER} 10.0.0.7", f"{OTHER} fd00::7", MAC, "unknown", "dynamic", f"{MAC} dynamic",
    ]), max_size=3, unique=True,
)  # fmt: skip


@given(addresses, st.sampled_from([None, f"{MAC} 10.0.0.9", f"{OTHER} 10.0.0.9 fd00::9"]))
def test_reserving_the_name_of_a_port_reserves_the_addresses_that_were_shown(
    elements: list[str], assigned: str | None
) -> None:
    cloud = Cloud()
    cloud.port(cloud.switch(**BOTH), NAME, *elements, assigned=assigned)
    shown = of_port(cloud)
    try:
        r = plan_create(cloud.world, wanted(), context(patient=False)).resource
    except Refused:
        assert shown is None
        return
    assert r is not None
    if shown is not None:
        assert (r.mac, r.v4, r.v6) == (shown.mac, shown.v4, shown.v6)
        cloud.world.put(r)
        assert judge(cloud.world, r).status or any("dynamic" in element for element in elements)


@given(st.text(max_size=40), st.lists(st.text(alphabet="0123456789abf:. dynamicunkow/", max_size=40), max_size=4))
def test_whatever_stands_in_a_port_it_has_addresses_or_none(assigned: str, elements: list[str]) -> None:
    port = port_of("uuid", port_row(elements, assigned), "switch")
    found = addresses_of(port, ANY)
    assert found is None or (found.mac and (found.v4 is not None or found.v6 is not None))


def port_row(elements: list[str], assigned: str) -> dict[str, Any]:
    return {
        "name": NAME, "type": "", "addresses": frozenset(elements), "dynamic_addresses": assigned, "up": False,
        "enabled": None, "external_ids": {}, "port_security": frozenset(), "dhcpv4_options": None,
        "dhcpv6_options": None,
        "health_checks": frozenset(),
    }  # fmt: skip


# ---- its document ----------------------------------------------------------------------------------------------------


def test_its_document_is_an_ip_like_any_other(cloud: Cloud) -> None:
    uid = cloud.port(
        cloud.switch(**BOTH), NAME, f"{MAC} 10.0.0.5 fd00::5", ids={"pod": "default/virt-launcher-vm-1-x7k2p"}
    )
    found = born(cloud.world, cloud.world.ports[uid], None, NOW + 0.5, 12)
    assert found is not None
    since = "2027-01-15T08:00:00Z"
    assert msgspec.to_builtins(document(found)) == {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {
            "creationTimestamp": since,
            "generation": 1,
            "labels": labels(found),
            "name": NAME,
            "resourceVersion": "12",
            "uid": uid,
        },
        "spec": {
            "attachIps": (), "attachMacs": (), "attachSubnets": (), "containerID": "", "nodeName": "",
            "ipAddress": "10.0.0.5,fd00::5", "macAddress": MAC, "namespace": "default", "podName": "vm-1",
            "podType": "VirtualMachine", "subnet": "net", "v4IpAddress": "10.0.0.5", "v6IpAddress": "fd00::5",
        },
        "status": {
            "phase": "Bound",
            "conditions": (
                {
                    "type": "Reserved", "status": "False", "reason": "NotReserved",
                    "message": f"lives as long as its port {NAME}", "lastTransitionTime": since,
                },
                {
                    "type": "Bound", "status": "True", "reason": "Bound",
                    "message": f"port {NAME} has {MAC} 10.0.0.5 fd00::5", "lastTransitionTime": since,
                },
            ),
        },
    }  # fmt: skip
    assert labels(found) == {
        "ovn.kubernetes.io/ip_reserved": "false",
        "ovn.kubernetes.io/node-name": "",
        "ovn.kubernetes.io/subnet": "net",
    }


def test_it_refers_to_what_the_port_has_and_holds_little_of_its_own(cloud: Cloud) -> None:
    uid = cloud.port(cloud.switch(), NAME, f"{MAC} 10.0.0.5", ids={"pod": f"default/{NAME}"})
    port = cloud.world.ports[uid]
    found = born(cloud.world, port)
    assert found is not None
    assert (found.uid, found.name, found.external_ids) == (port.uuid, port.name, port.external_ids)
    assert found.external_ids is port.external_ids
    assert found.__sizeof__() <= 128


# ---- published -------------------------------------------------------------------------------------------------------


class Site:
    """A cloud with the publisher that follows it; each `look` publishes with the next version."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.published = Published()
        self.version = 0
        self.publisher = Publisher(self.cloud.world, self.published, self._next_version)

    def _next_version(self) -> int:
        self.version += 1
        return self.version

    def follow(self, touched: Touched) -> None:
        self.publisher.changed(touched.names)
        self.publisher.publish()

    def publish_all(self) -> None:
        self.publisher.changed([*self.cloud.world.port_names, *self.cloud.world.reservations])
        self.publisher.publish()

    def shown(self) -> dict[str, tuple[str, str]]:
        """(subnet, addresses) of each IP that was born with a port."""
        return {name: (ip.subnet, " ".join(ip.addresses)) for name, ip in self.published.born.items()}


@pytest.fixture
def site() -> Site:
    return Site()


def test_it_comes_changes_and_goes_with_its_port(site: Site) -> None:
    cloud = site.cloud
    port = cloud.port(cloud.switch(), NAME, f"{MAC} 10.0.0.5")
    site.publish_all()
    assert site.shown() == {NAME: ("net", "10.0.0.5")}
    site.follow(cloud.change("Logical_Switch_Port", port, addresses=frozenset({f"{MAC} 10.0.0.6"})))
    assert site.shown() == {NAME: ("net", "10.0.0.6")}
    site.follow(cloud.change("Logical_Switch_Port", port, name="vm-2.default"))
    assert site.shown() == {"vm-2.default": ("net", "10.0.0.6")}
    site.follow(cloud.delete_port(port))
    assert site.shown() == {}


def test_its_version_grows_only_when_something_of_it_changes(site: Site) -> None:
    cloud = site.cloud
    port = cloud.port(cloud.switch(), NAME, f"{MAC} 10.0.0.5")
    site.publish_all()
    first = site.published.born[NAME]
    site.follow(cloud.change("Logical_Switch_Port", port, up=True))
    assert site.published.born[NAME] is first
    site.follow(cloud.change("Logical_Switch_Port", port, external_ids={"pod": "default/vm-1"}))
    second = site.published.born[NAME]
    assert second.resource_version == site.published.version > first.resource_version
    assert second.created == first.created


def test_a_port_made_anew_is_another_ip(site: Site) -> None:
    cloud = site.cloud
    switch = cloud.switch()
    old = cloud.port(switch, NAME, f"{MAC} 10.0.0.5")
    site.publish_all()
    first = site.published.born[NAME]
    site.follow(cloud.delete_port(old))
    new = cloud.port(switch, NAME, f"{MAC} 10.0.0.5")
    site.publish_all()
    assert (first.uid, site.published.born[NAME].uid) == (old, new)


def test_what_is_reserved_is_no_ip_of_its_port_and_becomes_one_when_it_is_gone(site: Site) -> None:
    cloud = site.cloud
    switch = cloud.switch()
    cloud.port(switch, NAME, f"{MAC} 10.0.0.5")
    site.publish_all()
    cloud.reserve(switch, NAME, v4="10.0.0.5", mac=MAC)
    site.publish_all()
    assert (site.published.ips.keys(), site.published.born.keys()) == ({NAME}, set())
    cloud.world.drop(NAME)
    site.publish_all()
    assert (site.published.ips.keys(), site.published.born.keys()) == (set(), {NAME})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "renamed"}, ("renamed", "10.0.0.5")),
        ({"other_config": {"subnet": "10.0.0.0/16"}}, ("net", "10.0.0.5")),
        ({"other_config": {"subnet": "10.0.1.0/24"}}, None),
        ({"other_config": {"subnet": "10.0.0.0/24", "ipv6_prefix": "fd00::"}}, ("net", "10.0.0.5 fd00::5")),
        ({"other_config": {}}, None),
    ],
)
def test_when_its_switch_is_another_subnet_it_is_published_anew(
    site: Site, change: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    cloud = site.cloud
    switch = cloud.switch()
    cloud.port(switch, NAME, f"{MAC} 10.0.0.5 fd00::5")
    site.publish_all()
    site.follow(cloud.change("Logical_Switch", switch, **change))
    assert site.shown() == ({} if expected is None else {NAME: expected})


def test_when_the_provider_of_its_switch_changes_it_is_for_another_namespace(site: Site) -> None:
    cloud = site.cloud
    switch = cloud.switch()
    cloud.port(switch, "vm-1.default.net1", f"{MAC} 10.0.0.5")
    site.publish_all()
    assert document(site.published.born["vm-1.default.net1"]).spec.namespace == "net1"
    site.follow(cloud.change("Logical_Switch", switch, external_ids={"ovnreserve/provider": "net1"}))
    assert document(site.published.born["vm-1.default.net1"]).spec.namespace == "default"


def test_a_switch_that_names_no_network_has_its_routers(site: Site) -> None:
    cloud = site.cloud
    switch = cloud.switch(subnet=None)
    cloud.port(switch, NAME, f"{MAC} 10.0.0.5 fd00::5")
    site.publish_all()
    assert site.shown() == {}
    cloud.router(switch, "10.0.0.1/24")
    site.publisher.publish()
    assert site.shown() == {NAME: ("net", "10.0.0.5")}
    [router_port] = cloud.tables["Logical_Router_Port"]
    cloud.change("Logical_Router_Port", router_port, networks=frozenset({"10.0.0.1/24", "fd00::1/64"}))
    due(site)
    assert site.shown() == {NAME: ("net", "10.0.0.5 fd00::5")}
    [to_router] = [uuid for uuid, row in cloud.tables["Logical_Switch_Port"].items() if row["type"] == "router"]
    cloud.delete_port(to_router)
    due(site)
    assert site.shown() == {}


def due(site: Site) -> None:
    """Publish once what else holds addresses may be looked at again, which is done a tenth of the time."""
    while site.cloud.world.has_unreviewed:
        site.publisher.publish()
    site.publisher.publish()


def test_a_switch_whose_own_network_goes_has_its_routers(site: Site) -> None:
    cloud = site.cloud
    switch = cloud.switch()
    cloud.port(switch, NAME, f"{MAC} 10.0.0.5")
    cloud.router(switch, "10.0.0.1/16")
    site.publish_all()
    due(site)
    site.follow(cloud.change("Logical_Switch", switch, other_config={}))
    due(site)
    assert site.shown() == {NAME: ("net", "10.0.0.5")}


def test_looking_at_a_port_builds_nothing_for_its_switch(site: Site) -> None:
    """Ten thousand switches with a port each are not ten thousand indexes of free addresses."""
    cloud = site.cloud
    switch = cloud.switch()
    cloud.port(switch, NAME, f"{MAC} 10.0.0.5")
    site.publish_all()
    assert site.shown()
    assert cloud.world.segments[switch].settled_for is None


# ---- deleting it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "assigned"), [([f"{MAC} 10.0.0.5"], None), (["dynamic", "unknown"], f"{MAC} 10.0.0.5")]
)
def test_to_delete_it_is_to_delete_its_port_as_it_was_seen(
    cloud: Cloud, elements: list[str], assigned: str | None
) -> None:
    switch = cloud.switch()
    port = cloud.port(switch, NAME, *elements, assigned=assigned)
    shown = born(cloud.world, cloud.world.ports[port], None, NOW, 12)
    plan = plan_delete_port(cloud.world, NAME, context(), shown)
    assert (plan.result, plan.resource, plan.born) == ("deleted", None, shown)
    assert plan.steps == (DeletePort(port, switch, (frozenset(elements), assigned, "")),)
    message = f"deleted port {NAME} of subnet net, which had {MAC} 10.0.0.5"
    assert plan.events == (Event("Normal", "PortDeleted", NAME, message),)


def test_a_port_that_is_no_workloads_is_not_deleted(cloud: Cloud) -> None:
    cloud.port(cloud.switch(), NAME, f"{MAC} 10.0.0.5", type="localport")
    with pytest.raises(Conflict, match=r"is of type localport.*ovn-nbctl lsp-del") as refused:
        plan_delete_port(cloud.world, NAME, context())
    assert refused.value.code == 409


def test_what_is_no_ip_is_not_deleted(cloud: Cloud) -> None:
    cloud.port(cloud.switch(), "no-address", "unknown")
    for name in ("no-address", "nobody"):
        with pytest.raises(NotFound):
            plan_delete_port(cloud.world, name, context())


def test_a_batch_that_deletes_ports_has_nothing_for_the_ledger(cloud: Cloud) -> None:
    cloud.port(cloud.switch(), NAME, f"{MAC} 10.0.0.5")
    batch = Batch(cloud.world)
    plan = plan_delete_port(cloud.world, NAME, context())
    batch.accept(Work(NAME, lambda _context: plan), plan, float(NOW), needs_barrier=False)
    assert (batch.puts(), batch.drops(), batch.before) == ([], [], {})
    assert [entry.reason for entry in batch.entries(float(NOW))] == ["PortDeleted"]
    batch.undo()
    assert of_port(cloud) is not None


# ---- readers ---------------------------------------------------------------------------------------------------------


def test_readers_find_reservations_and_what_was_born_with_ports(site: Site) -> None:
    cloud = site.cloud
    switch = cloud.switch()
    cloud.port(switch, NAME, f"{MAC} 10.0.0.5")
    cloud.reserve(switch, "vm-2.default", v4="10.0.0.9", mac=OTHER)
    site.publish_all()
    assert site.published.all_ips().keys() == {NAME, "vm-2.default"}
    for name, address in ((NAME, "10.0.0.5"), ("vm-2.default", "10.0.0.9")):
        ip = site.published.ip(name)
        assert ip is not None
        assert (ip.metadata.name, ip.spec.v4IpAddress) == (name, address)
    assert site.published.ip("nobody") is None
