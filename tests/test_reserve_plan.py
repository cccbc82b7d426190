"""Reserve: the rows of its table, on worlds without servers."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import pytest
from builders import MAC, NOW, Cloud, contents, context, reservation, uuid_of, wanted
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnreserve.model.errors import AlreadyExists, Conflict, Invalid, NoAvailableAddress, NotFound, Refused
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State
from ovnreserve.model.steps import MembersUnchanged, PortUnchanged, PutRecord, UpdateRecord, WriteAddresses
from ovnreserve.plan import reserve
from ovnreserve.plan.outcome import Defer, Event, Plan
from ovnreserve.plan.patch import Patch
from ovnreserve.plan.reserve import plan_apply, plan_create
from ovnreserve.plan.update import plan_patch, plan_update
from ovnreserve.plan.world import World

NAME = "vm-1.default"


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def create(cloud: Cloud, *, patient: bool = True, **fields: Any) -> Plan:
    """Plan it, and prove that planning changes nothing."""
    before = contents(cloud.world)
    try:
        return plan_create(cloud.world, wanted(**fields), context(patient=patient))
    finally:
        assert contents(cloud.world) == before


def created(cloud: Cloud, **fields: Any) -> Reservation:
    r = create(cloud, **fields).resource
    assert r is not None
    return r


def refusal(cloud: Cloud, kind: type[Refused] = Conflict, **fields: Any) -> tuple[str, str]:
    """(field, what) of the only cause."""
    with pytest.raises(kind) as caught:
        create(cloud, **fields)
    [only] = caught.value.causes
    return only.field, only.message


def pinned(plan: Plan) -> list[WriteAddresses]:
    return [step for step in plan.steps if isinstance(step, WriteAddresses)]


# ---- no port of that name --------------------------------------------------------------------------------------------


def test_without_a_port_an_address_is_reserved_and_no_port_is_touched(cloud: Cloud) -> None:
    switch = cloud.switch(v6="fd00::/64")
    plan = create(cloud, labels={"app": "x", "ovn.kubernetes.io/subnet": "lie"}, annotations={"a": "b"}, node_name="n")
    r = plan.resource
    assert r is not None
    assert (plan.result, plan.steps, plan.warnings) == ("created", (PutRecord(r),), ())
    assert r == reservation(
        switch, v4="10.0.0.254", v6="fd00::ffff:ffff:ffff:ff7f", uid=r.uid, mac=r.mac, state=State.INTENDED,
        created=NOW + 60, resource_version=77, labels={"app": "x"}, annotations={"a": "b"}, node_name="n",
    )  # fmt: skip
    [event] = plan.events
    assert (event.type, event.reason, event.name) == ("Normal", "Reserved", NAME)
    assert event.message == f"reserved {r.mac} 10.0.0.254 fd00::ffff:ffff:ffff:ff7f on subnet net"


def test_each_reservation_has_a_uid_and_a_mac_of_our_own(cloud: Cloud) -> None:
    cloud.switch()
    r = created(cloud)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", r.uid)
    assert re.fullmatch(r"02:6f:76(:[0-9a-f]{2}){3}", r.mac)


@pytest.mark.parametrize("prefix", ["02:6F:76", "2:6f:76", " 02:6f:76:11:22:33", "0x02:06f:76"])
def test_our_mac_is_never_of_northds_prefix(cloud: Cloud, prefix: str) -> None:
    cloud.switch()
    cloud.mac_prefix(prefix)
    assert created(cloud).mac.startswith("06:6f:76")


def test_a_mac_that_anybody_has_anywhere_is_not_chosen_again(cloud: Cloud) -> None:
    first = Cloud()
    first.switch()
    taken = created(first).mac
    cloud.switch()
    cloud.port(cloud.switch("other"), "p", f"{taken} 10.5.0.5")
    assert created(cloud).mac != taken


def test_one_family_given_leaves_the_other_automatic(cloud: Cloud) -> None:
    cloud.switch(v6="fd00::/64")
    assert created(cloud, v4="10.0.0.9").addresses == ("10.0.0.9", "fd00::ffff:ffff:ffff:ff7f")
    assert created(cloud, v6="fd00::9").addresses == ("10.0.0.254", "fd00::9")


@pytest.mark.parametrize(
    ("auto", "addresses"),
    [
        ("10.0.0.100..10.0.0.110", ("10.0.0.110", "fd00::ffff:ffff:ffff:ff7f")),
        ("10.0.0.7", ("10.0.0.7", "fd00::ffff:ffff:ffff:ff7f")),
        ("10.0.0.20..10.0.0.30 10.0.0.5..10.0.0.40 fd00::1..fd00::9", ("10.0.0.40", "fd00::9")),
    ],
)
def test_automatic_addresses_stay_within_the_operators_ranges(
    cloud: Cloud, auto: str, addresses: tuple[str, ...]
) -> None:
    cloud.switch(v6="fd00::/64", ids={"ovnreserve/auto": auto})
    assert created(cloud).addresses == addresses


@pytest.mark.parametrize(
    "auto", ["10.0.0.9-10.0.0.20", "10.0.0.20..10.0.0.9", "10.0.0.9..fd00::9", "..", "10.0.0.0/24"]
)
def test_ranges_that_say_nothing_are_not_ignored(cloud: Cloud, auto: str) -> None:
    cloud.switch(ids={"ovnreserve/auto": auto})
    field, what = refusal(cloud, Invalid)
    assert field == "spec.subnet"
    assert f'"{auto}"' in what


@pytest.mark.parametrize(
    ("excludes", "auto", "warned"), [(None, "", True), ("10.0.0.254", "", False), (None, "10.0.0.9", False)]
)
def test_an_automatic_address_beside_a_localnet_port_is_warned_of(
    cloud: Cloud, excludes: str | None, auto: str, *, warned: bool
) -> None:
    switch = cloud.switch(excludes=excludes, ids={"ovnreserve/auto": auto} if auto else {})
    cloud.port(switch, "physical", "unknown", type="localnet")
    warnings = create(cloud).warnings
    assert bool(warnings) is warned
    assert all("may belong to a physical device" in warning for warning in warnings)


def test_the_operators_excludes_are_allowed_when_given_and_never_chosen(cloud: Cloud) -> None:
    cloud.switch(excludes="10.0.0.250..10.0.0.254")
    assert created(cloud).addresses == ("10.0.0.249",)
    assert created(cloud, v4="10.0.0.252").addresses == ("10.0.0.252",)


def test_the_first_host_and_those_of_tiny_subnets_are_had_only_when_given(cloud: Cloud) -> None:
    cloud.switch(subnet="10.0.0.0/30")
    cloud.switch("tiny", subnet="10.0.1.0/31")
    assert created(cloud).addresses == ("10.0.0.2",)
    assert created(cloud, v4="10.0.0.1").addresses == ("10.0.0.1",)
    with pytest.raises(NoAvailableAddress):
        create(cloud, subnet="tiny")
    assert created(cloud, subnet="tiny", v4="10.0.1.0").addresses == ("10.0.1.0",)


def test_when_nothing_is_left_the_family_is_named(cloud: Cloud) -> None:
    switch = cloud.switch(subnet="10.0.0.0/30")
    cloud.reserve(switch, "other.default", v4="10.0.0.2")
    with pytest.raises(NoAvailableAddress) as caught:
        create(cloud)
    assert caught.value.message == (
        f'Operation cannot be fulfilled on ips.kubeovn.io "{NAME}": no IPv4 address is available on subnet net'
    )
    status = caught.value.status()
    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert status["details"]["causes"][0]["reason"] == "NoAvailableAddress"


# ---- who else holds the address --------------------------------------------------------------------------------------


def _port(*addresses: str, **columns: Any) -> Any:
    return lambda cloud, switch: cloud.port(switch, "p", *addresses, **columns)


HOLDERS: list[tuple[Any, str]] = [
    (_port(f"{MAC} 10.0.0.9"), "logical switch port p"),
    (_port("dynamic", assigned=f"{MAC} 10.0.0.9"), "logical switch port p"),
    (_port("dynamic 10.0.0.9"), "logical switch port p"),
    (_port("01:00:5e:00:00:01 10.0.0.9"), "logical switch port p"),
    (_port("unknown", security=(f"{MAC} 10.0.0.9",)), "port_security of logical switch port p"),
    (_port(type="virtual", options={"virtual-ip": "10.0.0.9"}), "virtual-ip of port p"),
    (lambda cloud, switch: cloud.reserve(switch, "other.default"), "IP other.default"),
    (lambda cloud, switch: cloud.reserve(switch, "other.default", state=State.RELEASING), "IP other.default"),
    (lambda cloud, switch: cloud.router(switch, "10.0.0.9/24"), "logical router port lr0-port"),
    (lambda cloud, switch: cloud.router(switch, "10.0.0.1/24", nat=frozenset({
        cloud.insert("NAT", type="snat", external_ip="10.0.0.9")})), "NAT snat of logical router lr0"),
    (lambda cloud, switch: cloud.change("Logical_Switch", switch, load_balancer=frozenset({
        cloud.insert("Load_Balancer", name="lb", vips={"10.0.0.9:80": "x"})})), "load balancer lb"),
    (lambda cloud, switch: cloud.port(switch, "p", dhcpv4_options=cloud.insert(
        "DHCP_Options", cidr="10.0.0.0/24", options={"server_id": "10.0.0.9"})), "DHCP options (server_id)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("add", "holder"), HOLDERS, ids=[f"{number}-{holder}" for number, (_, holder) in enumerate(HOLDERS)]
)
def test_a_given_address_that_somebody_holds_is_a_conflict_that_names_the_holder(
    cloud: Cloud, add: Any, holder: str
) -> None:
    switch = cloud.switch()
    add(cloud, switch)
    assert refusal(cloud, v4="10.0.0.9", patient=False) == ("spec.v4IpAddress", f"10.0.0.9 is held by {holder}")


@pytest.mark.parametrize("add", [add for add, _holder in HOLDERS])
def test_an_address_that_somebody_holds_is_never_chosen(cloud: Cloud, add: Any) -> None:
    switch = cloud.switch(ids={"ovnreserve/auto": "10.0.0.9"})
    add(cloud, switch)
    with pytest.raises(NoAvailableAddress):
        create(cloud, patient=False)


def test_what_failed_holds_nothing(cloud: Cloud) -> None:
    cloud.reserve(cloud.switch(), "other.default", state=State.FAILED)
    assert created(cloud, v4="10.0.0.9").addresses == ("10.0.0.9",)


def test_the_same_address_on_another_switch_is_another_address(cloud: Cloud) -> None:
    cloud.switch()
    cloud.port(cloud.switch("other"), "p", f"{MAC} 10.0.0.9")
    assert created(cloud, v4="10.0.0.9").addresses == ("10.0.0.9",)


def test_a_conflict_is_worded_as_the_api_server_does_and_says_what_is_the_matter(cloud: Cloud) -> None:
    cloud.port(cloud.switch(), "p", f"{MAC} 10.0.0.9")
    with pytest.raises(Conflict) as caught:
        create(cloud, v4="10.0.0.9")
    assert caught.value.status() == {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Conflict", "code": 409,
        "message": f'Operation cannot be fulfilled on ips.kubeovn.io "{NAME}": spec.v4IpAddress: 10.0.0.9 is held by '
                   "logical switch port p",
        "details": {"group": "kubeovn.io", "kind": "ips", "name": NAME, "causes": [
            {"reason": "FieldValueDuplicate", "field": "spec.v4IpAddress",
             "message": "10.0.0.9 is held by logical switch port p"}]},
    }  # fmt: skip


# ---- MACs ------------------------------------------------------------------------------------------------------------

OURS = "0a:00:00:00:00:77"


@pytest.mark.parametrize(
    ("add", "holder"),
    [
        (_port(f"{OURS} 10.0.0.5"), "logical switch port p"),
        (_port(f"{OURS} dynamic"), "logical switch port p"),
        (lambda cloud, switch: cloud.reserve(switch, "other.default", mac=OURS), "IP other.default"),
        (lambda cloud, switch: cloud.router(switch, "10.0.0.1/24", mac=OURS), "logical router port lr0-port"),
    ],
)
def test_a_given_mac_that_is_on_the_switch_is_a_conflict(cloud: Cloud, add: Any, holder: str) -> None:
    add(cloud, cloud.switch())
    assert refusal(cloud, mac=OURS) == ("spec.macAddress", f"{OURS} is held by {holder}")


def test_a_given_mac_that_is_elsewhere_is_warned_of(cloud: Cloud) -> None:
    cloud.switch()
    other = cloud.switch("other")
    assert create(cloud, mac=OURS).warnings == ()
    cloud.port(other, "p", OURS)
    assert create(cloud, mac=OURS).warnings == (f"MAC {OURS} is in use on another logical switch",)
    assert created(cloud, mac=OURS).mac == OURS


# ---- addresses that nobody may have ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field", "why"),
    [
        ({"v4": "10.0.0.0"}, "spec.v4IpAddress", "is the network address of 10.0.0.0/24"),
        ({"v4": "10.0.0.255"}, "spec.v4IpAddress", "is the broadcast address of 10.0.0.0/24"),
        ({"v4": "10.0.1.1"}, "spec.v4IpAddress", "must be within 10.0.0.0/24"),
        ({"v6": "fd00::"}, "spec.v6IpAddress", "is the Subnet-Router anycast address of fd00::/64"),
        ({"v6": "fd01::1"}, "spec.v6IpAddress", "must be within fd00::/64"),
        ({"v6": "fd00::a:bbff:fe00:1"}, "spec.v6IpAddress",
         ("is what ovn-northd makes of MAC 02:0a:bb:00:00:01, which it may choose for any port "
          "(NB_Global options:mac_prefix)")),
    ],
)  # fmt: skip
def test_a_given_address_that_nobody_may_have_is_invalid(
    cloud: Cloud, fields: dict[str, Any], field: str, why: str
) -> None:
    cloud.switch(v6="fd00::/64")
    cloud.mac_prefix("02:0a:bb")
    found, message = refusal(cloud, Invalid, **fields)
    assert found == field
    assert message.endswith(why)


def test_an_eui64_address_of_another_prefix_is_refused_only_where_a_dynamic_port_has_its_mac(cloud: Cloud) -> None:
    switch = cloud.switch(v6="fd00::/64")
    cloud.mac_prefix("02:0a:bb")
    assert created(cloud, v6="fd00::800:ff:fe00:1", mac=OURS).addresses[1] == "fd00::800:ff:fe00:1"
    cloud.port(switch, "p", f"{MAC} dynamic")
    assert refusal(cloud, v6="fd00::800:ff:fe00:1") == (
        "spec.v6IpAddress", f"ovn-northd makes fd00::800:ff:fe00:1 of {MAC}, the MAC of logical switch port p",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("subnet", "v6", "fields"), [("10.0.0.0/24", None, {"v6": "fd00::1"}), (None, "fd00::/64", {"v4": "10.0.0.1"})]
)
def test_a_family_that_the_subnet_has_not_is_invalid(
    cloud: Cloud, subnet: str | None, v6: str | None, fields: dict[str, str]
) -> None:
    cloud.switch(subnet=subnet, v6=v6)
    assert "has no" in refusal(cloud, Invalid, **fields)[1]


def test_a_switch_that_is_missing_ambiguous_or_no_subnet_is_invalid(cloud: Cloud) -> None:
    assert refusal(cloud, Invalid)[1].endswith("no logical switch has this name (ovn-nbctl ls-list)")
    bare = cloud.switch(subnet=None)
    assert "the logical switch has no CIDR" in refusal(cloud, Invalid)[1]
    second = cloud.switch()
    assert refusal(cloud, Invalid)[1].endswith(f"2 logical switches have this name: {bare}, {second}")


def test_the_name_is_the_ports_name_on_a_subnet_of_that_provider(cloud: Cloud) -> None:
    cloud.switch()
    cloud.switch("attached", ids={"ovnreserve/provider": "net1.default.ovn"})
    long = f"{NAME}.net1.default.ovn"
    assert created(cloud, name=long, pod_name="vm-1", namespace="default", subnet="attached").name == long
    for fields, expected in (
        ({"subnet": "attached"}, long),
        ({"name": long, "pod_name": "vm-1", "namespace": "default"}, NAME),
    ):
        field, why = refusal(cloud, Invalid, **fields)
        assert field == "metadata.name"
        assert why.endswith(f"must be the port's name podName.namespace[.provider], which is {expected}")


def test_everything_that_is_wrong_is_named_at_once(cloud: Cloud) -> None:
    cloud.switch(v6="fd00::/64")
    with pytest.raises(Invalid) as caught:
        create(cloud, name="other.default", pod_name="vm-1", v4="10.0.1.1", v6="fd00::")
    assert [error.field for error in caught.value.causes] == ["metadata.name", "spec.v4IpAddress", "spec.v6IpAddress"]


# ---- the port exists on that switch ----------------------------------------------------------------------------------


def test_a_static_port_is_adopted_as_it_is(cloud: Cloud) -> None:
    switch = cloud.switch(v6="fd00::/64")
    port = cloud.port(switch, NAME, f"{MAC} 10.0.0.5 fd00::5")
    plan = create(cloud)
    assert plan.resource is not None
    assert plan.resource.port_addresses == f"{MAC} 10.0.0.5 fd00::5"
    seen = (frozenset({f"{MAC} 10.0.0.5 fd00::5"}), None, "")
    assert plan.steps == (PutRecord(plan.resource), PortUnchanged(port, seen))
    assert plan.warnings == ()


@pytest.mark.parametrize("kept", [[], ["unknown"]])
def test_adopting_a_dynamic_port_pins_it_in_the_transaction_that_excludes_its_address(
    cloud: Cloud, kept: list[str]
) -> None:
    switch = cloud.switch()
    port = cloud.port(switch, NAME, "dynamic", *kept, assigned=f"{MAC} 10.0.0.2", up=True)
    plan = create(cloud)
    assert plan.resource is not None
    assert plan.resource.port_addresses == f"{MAC} 10.0.0.2"
    seen = (frozenset({"dynamic", *kept}), f"{MAC} 10.0.0.2", "")
    assert plan.steps == (
        PutRecord(plan.resource),
        WriteAddresses(port, seen, frozenset({f"{MAC} 10.0.0.2", *kept}), NAME),
        MembersUnchanged(switch),
    )
    assert [event.reason for event in plan.events] == ["Reserved", "Binding"]
    assert plan.events[1].message == f"pinned port {NAME} {MAC} 10.0.0.2"


def test_what_ovn_northd_chose_for_a_port_that_is_static_by_now_is_not_adopted(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.port(switch, NAME, f"{MAC} 10.0.0.5", assigned=f"{MAC} 10.0.0.2")
    assert created(cloud).port_addresses == f"{MAC} 10.0.0.5"


def test_of_a_port_with_more_addresses_the_first_of_each_family_are_reserved_with_a_warning(cloud: Cloud) -> None:
    switch = cloud.switch(v6="fd00::/64")
    cloud.port(switch, NAME, f"{MAC} 10.0.0.7 10.0.0.5 fd00::9 fd00::5")
    plan = create(cloud)
    assert plan.resource is not None
    assert plan.resource.addresses == ("10.0.0.7", "fd00::9")
    assert len(plan.warnings) == 1
    assert "only the first of each family on the subnet is reserved" in plan.warnings[0]


@pytest.mark.parametrize("addresses", [[], [MAC], ["dynamic"], [f"{MAC} dynamic"], ["dynamic", "unknown"]])
def test_a_port_without_an_address_is_given_what_is_chosen(cloud: Cloud, addresses: list[str]) -> None:
    port = cloud.port(cloud.switch(), NAME, *addresses)
    plan = create(cloud)
    r = plan.resource
    assert r is not None
    assert r.addresses == ("10.0.0.254",)
    assert (r.mac == MAC) is (MAC in "".join(addresses))
    kept = {"unknown"} & set(addresses)
    [step] = pinned(plan)
    assert step == WriteAddresses(port, (frozenset(addresses), None, ""), frozenset({r.port_addresses, *kept}), NAME)
    assert plan.events[1].message == f"gave port {NAME} {r.port_addresses}"


def test_what_a_pending_port_asks_for_is_as_good_as_given(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.port(switch, NAME, "dynamic 10.0.0.9")
    assert created(cloud).addresses == ("10.0.0.9",)
    assert refusal(cloud, v4="10.0.0.8") == ("spec.v4IpAddress", f'port {NAME} asks for "dynamic 10.0.0.9"')
    cloud.reserve(switch, "other.default")
    assert refusal(cloud) == ("spec.v4IpAddress", "10.0.0.9 is held by IP other.default")


def test_a_pending_port_that_asks_for_what_nobody_may_have_is_a_conflict(cloud: Cloud) -> None:
    cloud.port(cloud.switch(), NAME, "dynamic 10.0.0.255")
    field, what = refusal(cloud)
    assert field == "spec.v4IpAddress"
    assert what.startswith(f'port {NAME} asks for "dynamic 10.0.0.255": ')


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"v4": "10.0.0.6"}, "spec.v4IpAddress"),
        ({"mac": OURS}, "spec.macAddress"),
        ({"v6": "fd00::6"}, "spec.v6IpAddress"),
    ],
)
def test_a_given_address_or_mac_that_is_not_the_ports_is_a_conflict(
    cloud: Cloud, fields: dict[str, str], field: str
) -> None:
    cloud.port(cloud.switch(v6="fd00::/64"), NAME, f"{MAC} 10.0.0.5 fd00::5")
    assert refusal(cloud, **fields) == (field, f'port {NAME} has "{MAC} 10.0.0.5 fd00::5"')
    assert created(cloud, v4="10.0.0.5", v6="fd00::5", mac=MAC).mac == MAC


@pytest.mark.parametrize(
    ("columns", "field", "what"),
    [
        ({"type": "router"}, "metadata.name", f"logical switch port {NAME} is of type router"),
        ({"ids": {"pod": "default/other"}}, "metadata.name",
         f"logical switch port {NAME} has external_ids:pod=default/other, the reservation is for default/vm-1"),
        ({"ids": {"namespace": "kube-system"}}, "metadata.name",
         (f"logical switch port {NAME} has external_ids:namespace=kube-system, "
          "the reservation is for namespace default")),
    ],
)  # fmt: skip
def test_a_port_that_is_no_workload_or_another_is_a_conflict(
    cloud: Cloud, columns: dict[str, Any], field: str, what: str
) -> None:
    cloud.port(cloud.switch(), NAME, "dynamic", **columns)
    assert refusal(cloud) == (field, what)


def test_a_port_whose_addresses_name_no_ip_is_a_conflict(cloud: Cloud) -> None:
    cloud.port(cloud.switch(), NAME, "unknown")
    assert refusal(cloud) == ("metadata.name", f'port {NAME} has addresses "unknown", which name no IP')


def test_a_port_on_another_switch_is_a_conflict_that_names_the_switch(cloud: Cloud) -> None:
    cloud.switch()
    cloud.port(cloud.switch("other"), NAME, "dynamic")
    assert refusal(cloud) == ("spec.subnet", f"logical switch port {NAME} is on logical switch other, not on net")


def test_a_port_whose_address_another_workload_has_too_is_a_conflict(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.port(switch, NAME, f"{MAC} 10.0.0.5")
    cloud.port(switch, "twin", "0a:00:00:00:00:02 10.0.0.5")
    assert refusal(cloud) == ("spec.v4IpAddress", "10.0.0.5 is held by logical switch port twin")


def test_a_port_with_an_address_from_outside_the_subnet_is_a_conflict(cloud: Cloud) -> None:
    cloud.port(cloud.switch(), NAME, f"{MAC} 10.9.0.5")
    assert refusal(cloud) == ("spec.v4IpAddress", f"port {NAME} has 10.9.0.5, which is not in 10.0.0.0/24")


def test_what_only_refers_to_a_ports_address_does_not_keep_it_from_being_adopted(cloud: Cloud) -> None:
    switch = cloud.switch()
    route = cloud.insert("Logical_Router_Static_Route", nexthop="10.0.0.5")
    cloud.router(switch, "10.0.0.1/24", static_routes=frozenset({route}), mac="0a:00:00:00:00:99")
    cloud.port(switch, NAME, f"{MAC} 10.0.0.5")
    assert created(cloud).addresses == ("10.0.0.5",)


# ---- waiting for ovn-northd ------------------------------------------------------------------------------------------


def test_a_given_address_waits_while_northd_is_about_to_choose_and_then_goes_on(cloud: Cloud) -> None:
    switch = cloud.switch()
    cloud.port(switch, "pending", "dynamic")
    with pytest.raises(Defer) as caught:
        create(cloud, v4="10.0.0.9")
    assert caught.value.switch == switch
    assert created(cloud, v4="10.0.0.9", patient=False).addresses == ("10.0.0.9",)


def test_an_automatic_address_waits_only_where_northd_might_choose_it(cloud: Cloud) -> None:
    switch = cloud.switch(subnet="10.0.0.0/29")
    cloud.port(switch, "pending-1", "dynamic")
    assert created(cloud).addresses == ("10.0.0.6",)
    for number in range(2, 6):
        cloud.port(switch, f"pending-{number}", "dynamic")
    with pytest.raises(Defer):
        create(cloud)


@pytest.mark.parametrize(("subnet", "v6"), [(None, "fd00::/64")])
def test_where_northd_chooses_no_ipv4_addresses_nobody_waits(cloud: Cloud, subnet: str | None, v6: str) -> None:
    cloud.port(cloud.switch(subnet=subnet, v6=v6), "pending", "dynamic")
    assert created(cloud, v6="fd00::9").addresses == ("fd00::9",)


def test_our_own_port_that_is_pending_is_not_waited_for(cloud: Cloud) -> None:
    cloud.port(cloud.switch(), NAME, "dynamic")
    assert created(cloud, v4="10.0.0.9").addresses == ("10.0.0.9",)


# ---- the IP exists ---------------------------------------------------------------------------------------------------


def apply(cloud: Cloud, **fields: Any) -> Plan:
    before = contents(cloud.world)
    try:
        return plan_apply(cloud.world, wanted(**fields), context())
    finally:
        assert contents(cloud.world) == before


def test_creating_what_exists_is_refused_in_the_api_servers_words(cloud: Cloud) -> None:
    cloud.reserve(cloud.switch())
    with pytest.raises(AlreadyExists, match=f'^ips.kubeovn.io "{NAME}" already exists$'):
        create(cloud)


def test_applying_what_does_not_exist_creates_it(cloud: Cloud) -> None:
    cloud.switch()
    assert apply(cloud).result == "created"


@pytest.mark.parametrize("fields", [{}, {"v4": "10.0.0.9"}, {"mac": "02:6f:76:00:00:09"}, {"resource_version": "5"}])
def test_the_same_document_again_is_unchanged(cloud: Cloud, fields: dict[str, Any]) -> None:
    r = cloud.reserve(cloud.switch())
    assert apply(cloud, **fields) == Plan("unchanged", r)


@pytest.mark.parametrize(
    ("fields", "field", "shown"),
    [
        ({"subnet": "other"}, "spec.subnet", "other"),
        ({"pod_name": "vm-2"}, "spec.podName", "vm-2"),
        ({"namespace": "other"}, "spec.namespace", "other"),
        ({"pod_type": "StatefulSet"}, "spec.podType", "StatefulSet"),
        ({"v4": "10.0.0.10"}, "spec.v4IpAddress", "10.0.0.10"),
        ({"v6": "fd00::1"}, "spec.v6IpAddress", "fd00::1"),
        ({"mac": OURS}, "spec.macAddress", OURS),
        ({"node_name": "n"}, "spec.nodeName", "n"),
        ({"container_id": "c"}, "spec.containerID", "c"),
        ({"attach_ips": ("10.1.0.1",)}, "spec.attachIps", "10.1.0.1"),
    ],
)
def test_a_spec_field_that_differs_is_immutable(cloud: Cloud, fields: dict[str, Any], field: str, shown: str) -> None:
    cloud.reserve(cloud.switch())
    with pytest.raises(Invalid) as caught:
        apply(cloud, **fields)
    [error] = caught.value.causes
    assert (error.field, error.message) == (field, f'Invalid value: "{shown}": field is immutable')


def test_labels_and_annotations_given_are_merged(cloud: Cloud) -> None:
    r = cloud.reserve(cloud.switch(), labels={"a": "1", "b": "2"}, annotations={"x": "y"})
    plan = apply(cloud, labels={"b": "3", "ovn.kubernetes.io/ip_reserved": "false"}, annotations={"z": "w"})
    changed = r.with_(labels={"a": "1", "b": "3"}, annotations={"x": "y", "z": "w"}, resource_version=77)
    event = Event("Normal", "Relabelled", NAME, "changed label b=3; annotation z=w")
    assert plan == Plan("configured", changed, (UpdateRecord(changed),), (event,))


def test_applying_to_what_is_being_deleted_is_refused(cloud: Cloud) -> None:
    cloud.reserve(cloud.switch(), state=State.RELEASING)
    with pytest.raises(Conflict, match="the IP is being deleted; apply again when it is gone"):
        apply(cloud)


def test_applying_to_what_has_failed_is_refused_with_the_reason(cloud: Cloud) -> None:
    cloud.reserve(cloud.switch(), state=State.FAILED, message="10.0.0.9 is held by another")
    with pytest.raises(Conflict, match=r"the IP has failed \(10\.0\.0\.9 is held by another\); delete it first"):
        apply(cloud)


def test_a_document_for_another_version_is_refused(cloud: Cloud) -> None:
    cloud.reserve(cloud.switch())
    with pytest.raises(Conflict, match="the object has been modified; please apply your changes to the latest version"):
        apply(cloud, resource_version="4")


# ---- patches ---------------------------------------------------------------------------------------------------------

R = reservation(uuid_of(1), labels={"a": "1"}, annotations={"x": "y"})


def patch_of(r: Reservation | None, patch: Patch) -> Plan:
    """What a patch comes to where there is nothing but this reservation."""
    world = World()
    if r is not None:
        world.put(r)
    return plan_patch(world, patch, context())


def test_a_patch_sets_and_removes() -> None:
    plan = patch_of(R, Patch(NAME, {"a": None, "b": "2"}, {"x": None}))
    changed = R.with_(labels={"b": "2"}, annotations={}, resource_version=77)
    event = Event("Normal", "Relabelled", NAME, "changed label a-, b=2; annotation x-")
    assert plan == Plan("configured", changed, (UpdateRecord(changed),), (event,))


def test_a_patch_that_says_what_is_there_is_unchanged() -> None:
    ours: dict[str, str | None] = {"a": "1", "gone": None, "ovn.kubernetes.io/subnet": "lie"}
    assert patch_of(R, Patch(NAME, ours, {})) == Plan("unchanged", R)


def test_a_patch_of_what_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound, match=f'^ips.kubeovn.io "{NAME}" not found$'):
        patch_of(None, Patch(NAME, {}, {}))


def test_a_patch_for_another_version_is_refused() -> None:
    with pytest.raises(Conflict):
        patch_of(R, Patch(NAME, {"b": "2"}, {}, "4"))
    assert patch_of(R, Patch(NAME, {"b": "2"}, {}, "5")).result == "configured"


def test_a_patch_of_the_spec_may_only_say_what_is_there() -> None:
    assert patch_of(R, Patch(NAME, {}, {}, wanted=wanted())) == Plan("unchanged", R)
    with pytest.raises(Invalid, match="field is immutable"):
        patch_of(R, Patch(NAME, {"b": "2"}, {}, wanted=wanted(subnet="other")))
    with pytest.raises(NotFound):
        patch_of(None, Patch(NAME, {}, {}, wanted=wanted()))


@pytest.mark.parametrize(
    "patch", [Patch(NAME, {}, {}, reserved=True), Patch(NAME, {}, {}, wanted=wanted())], ids=["label", "spec"]
)
def test_what_is_being_deleted_is_not_said_to_be_reserved(patch: Patch) -> None:
    releasing = R.with_(state=State.RELEASING, deleted=NOW)
    with pytest.raises(Conflict, match="the IP is being deleted; apply again when it is gone"):
        patch_of(releasing, patch)
    assert patch_of(releasing, Patch(NAME, {"b": "2"}, {})).result == "configured"


def test_labelling_what_failed_is_said_by_its_record_too() -> None:
    failed = R.with_(state=State.FAILED)
    plan = patch_of(failed, Patch(NAME, {"b": "2"}, {}))
    assert (plan.result, plan.steps) == ("configured", (UpdateRecord(plan.resource),))
    assert plan.resource is not None
    assert plan.resource.state is State.FAILED


def test_an_update_looks_at_every_field_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        plan_update(World(), R, wanted(v4="10.0.0.1", pod_type="StatefulSet", subnet="other"), context())
    assert [error.field for error in caught.value.causes] == ["spec.subnet", "spec.podType", "spec.v4IpAddress"]


# ---- a law -----------------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.integers(0, 1 << 32))
def test_whatever_is_reserved_was_nobodys(seed: int) -> None:
    random = Random(seed)
    cloud = Cloud()
    switch = cloud.switch(subnet="10.0.0.0/28", v6="fd00::/64", excludes=random.choice([None, "10.0.0.3..10.0.0.5"]))
    for number in range(random.randrange(6)):
        mac, v4 = f"0a:00:00:00:00:0{number}", f"10.0.0.{random.randrange(1, 15)}"
        text, assigned = random.choice([(f"{mac} {v4}", None), ("dynamic", f"{mac} {v4}"), (f"dynamic {v4}", None)])
        cloud.port(switch, f"p-{number}", text, assigned=assigned)
    if random.random() < 0.5:
        cloud.router(switch, f"10.0.0.{random.randrange(1, 15)}/28", "fd00::1/64")
    macs: set[str] = set()
    for number in range(8):
        v4 = random.choice([None, f"10.0.0.{random.randrange(16)}"])
        held = cloud.segment(switch)
        try:
            plan = create(cloud, name=f"vm-{number}.default", v4=v4, patient=False)
        except (Conflict, Invalid):
            continue
        r = plan.resource
        assert r is not None
        assert held.v4 is not None
        assert held.v6 is not None
        for family, address, space in ((4, r.v4, held.v4), (6, r.v6, held.v6)):
            assert address is not None
            assert address in space.cidr
            assert (family, address) not in held.reserved
            assert (family, address) not in held.port_addresses
            assert space.infrastructure_holder(address) is None
        assert r.mac not in held.port_macs.keys() | macs
        macs.add(r.mac)
        cloud.world.put(r)


# ---- what must not have changed by the time it is written ------------------------------------------------------------


def is_guarded(plan: Plan) -> bool:
    return any(isinstance(step, MembersUnchanged) for step in plan.steps)


@pytest.mark.parametrize("given_", [{"v4": "10.0.0.77"}, {"v6": "fd00::77"}])
def test_a_given_address_is_guarded_by_the_switchs_ports(cloud: Cloud, given_: dict[str, str]) -> None:
    cloud.switch(v6="fd00::/64")
    assert is_guarded(create(cloud, **given_))
    assert not is_guarded(create(cloud, **given_, patient=False))


def test_an_address_chosen_from_the_top_is_not_guarded(cloud: Cloud) -> None:
    cloud.switch()
    assert not is_guarded(create(cloud))


def test_an_automatic_address_that_ovn_northd_may_be_choosing_is_guarded(cloud: Cloud) -> None:
    cloud.switch(subnet="10.0.0.0/27")
    assert is_guarded(create(cloud))


def test_on_a_switch_of_many_ports_only_what_ovn_northd_may_be_choosing_is_guarded(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "FEW_PORTS", 2)
    switch = cloud.switch()
    for number in range(3):
        cloud.port(switch, f"port-{number}", "unknown")
    assert is_guarded(create(cloud, v4=f"10.0.0.{1 + reserve.REACH}"))
    assert not is_guarded(create(cloud, v4=f"10.0.0.{2 + reserve.REACH}"))
