"""Pools: addresses of a subnet that are kept for some namespaces, or for nobody. ovn-nbctl is the witness."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sites import NETWORK, PREFIX, Answer, Site
from stores import active, restart
from support import wait_until

from ovnreserve.cli.errors import StatusError
from ovnreserve.sandbox import Daemon

if TYPE_CHECKING:
    from ovnreserve.sandbox import Servers

POOL = "ovn.kubernetes.io/ip_pool"
TEN = "10.16.0.10..10.16.0.13"


def document(subnet: str, *ips: str, name: str = "pool-1", namespaces: tuple[str, ...] = ()) -> dict[str, Any]:
    spec = {"subnet": subnet, "ips": list(ips), "namespaces": list(namespaces)}
    return {"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec}


def apply(site: Site, subnet: str, *ips: str, name: str = "pool-1", namespaces: tuple[str, ...] = ()) -> Answer:
    return site.apply(document(subnet, *ips, name=name, namespaces=namespaces))


def pool(site: Site, name: str = "pool-1") -> dict[str, Any] | None:
    try:
        return site.client.get(f"/apis/kubeovn.io/v1/ippools/{name}")
    except StatusError as error:
        if error.not_found:
            return None
        raise


def counts(site: Site, name: str = "pool-1") -> tuple[int, ...]:
    found = pool(site, name)
    assert found is not None
    return tuple(found["status"][f"{v}{what}IPs"] for v in ("v4", "v6") for what in ("Using", "Available"))


def ready(site: Site, name: str = "pool-1") -> str:
    found = pool(site, name)
    assert found is not None
    [condition] = found["status"]["conditions"]
    return condition["reason"]


def delete(site: Site, name: str = "pool-1") -> Answer:
    [answer] = site.bulk("delete", [{"kind": "IPPool", "metadata": {"name": name}}])
    return answer


def gone(site: Site, name: str = "pool-1") -> None:
    assert delete(site, name).result == "deleted"
    wait_until(lambda: pool(site, name) is None, what=f"{name} released")


def annotated(site: Site, subnet: str, name: str = "pool-1", **spec: Any) -> Answer:
    wanted = site.document(subnet, **spec)
    wanted["metadata"]["annotations"] = {POOL: name}
    return site.apply(wanted)


def events(site: Site, uid: str) -> list[tuple[str, str]]:
    """(reason, message) of what the journal has of the pool, which it has a moment later."""
    items = site.client.get(f"/api/v1/events?fieldSelector=involvedObject.uid%3D{uid}")["items"]
    assert {item["involvedObject"]["kind"] for item in items} <= {"IPPool"}
    return [(event["reason"], event["message"]) for event in items]


def journalled(site: Site, answer: Answer, *wanted: str) -> None:
    """The journal has these reasons or messages of the pool that was made so."""
    uid = answer.ip["metadata"]["uid"]
    wait_until(lambda: {*wanted} <= {word for event in events(site, uid) for word in event}, what=f"{wanted} noted")


def record(site: Site, name: str = "pool-1") -> str:
    """The uuid of the pool's DNS row."""
    return site.nb("--bare", "--columns=_uuid", "find", "dns", f"external_ids:ovnreserve/name=ippool/{name}").strip()


@pytest.fixture
def own(servers: Servers, daemon: Daemon) -> Site:
    return Site(servers, daemon, follow=True)


# ---- making one ----------------------------------------------------------------------------------------------------


def test_a_pools_addresses_are_excluded_and_ovn_northd_gives_none_of_them_away(site):
    switch = site.switch("10.16.0.0/29")
    assert site.apply(document(switch, "10.16.0.2..10.16.0.4"), wait="sb").result == "created"
    assert site.exclude_ips(switch) == "10.16.0.2..10.16.0.4"
    assert site.dynamic_addresses(site.port(switch)).endswith(" 10.16.0.5")


def test_a_pool_may_have_addresses_cidrs_and_ranges_of_both_families(site):
    switch = site.switch(NETWORK, PREFIX)
    answer = apply(site, switch, "10.16.0.201", "10.16.0.208/30", TEN, f"{PREFIX}1:0:0:0/96", f"{PREFIX}5")
    assert answer.result == "created", answer.status
    assert site.exclude_ips(switch) == f"{TEN} 10.16.0.201 10.16.0.208..10.16.0.211"
    assert counts(site) == (0, 9, 0, (1 << 32) + 1)
    assert answer.ip["spec"]["ips"] == ["10.16.0.201", "10.16.0.208/30", TEN, f"{PREFIX}1:0:0:0/96", f"{PREFIX}5"]


def test_a_pool_of_a_whole_ipv6_subnet_is_counted_exactly(site):
    switch = site.switch(None, PREFIX)
    answer = apply(site, switch, f"{PREFIX}/64", namespaces=("default",))
    [warning] = answer.warnings
    where = f"{PREFIX} (Subnet-Router anycast address) of {PREFIX}/64"
    assert warning == f"spec.ips[0]: {PREFIX}/64 is without {where}, which nobody can have"
    assert site.reserve(switch).result == "created"
    assert counts(site) == (0, 0, 1, (1 << 64) - 2)
    assert site.exclude_ips(switch) is None


def test_network_and_broadcast_address_are_nobodys_and_that_is_said(site):
    switch = site.switch()
    answer = apply(site, switch, "10.16.0.0/24")
    [warning] = answer.warnings
    where = "10.16.0.0 and 10.16.0.255 (network and broadcast address) of 10.16.0.0/24"
    assert warning == f"spec.ips[0]: 10.16.0.0/24 is without {where}, which nobody can have"
    assert site.exclude_ips(switch) == "10.16.0.1..10.16.0.254"
    assert counts(site) == (0, 254, 0, 0)


def test_every_bad_field_is_named_and_nothing_is_written(site):
    switch = site.switch()
    with site.nothing_written():
        answer = apply(site, switch, "10.16.1.5", "10.16.0.255", "fd00::5", "10.16.0.250..10.16.1.3", "10.16.0.9")
        assert answer.code == 422
        assert {field: message.rpartition(": ")[2] for field, message in answer.causes.items()} == {
            "spec.ips[0]": "must be within 10.16.0.0/24",
            "spec.ips[1]": "is 10.16.0.255 (network and broadcast address) of 10.16.0.0/24",
            "spec.ips[2]": f"subnet {switch} has no IPv6 CIDR",
            "spec.ips[3]": "must be within 10.16.0.0/24",
        }
        assert "no logical switch has this name" in apply(site, "nowhere", "10.16.0.9").causes["spec.subnet"]
        assert "has no CIDR" in apply(site, site.switch(None), "10.16.0.9").causes["spec.subnet"]


def test_a_subnet_whose_name_two_switches_have_is_refused(site):
    for _ in range(2):
        site.nb("create", "logical_switch", "name=twin", "other_config:subnet=10.16.0.0/24")
    answer = apply(site, "twin", "10.16.0.9")
    assert "2 logical switches have this name" in answer.causes["spec.subnet"]


def test_pools_of_a_subnet_are_disjoint_and_the_other_one_is_named(site):
    switch = site.switch()
    apply(site, switch, TEN)
    answer = apply(site, switch, "10.16.0.5", "10.16.0.13..10.16.0.20", name="pool-2")
    assert (answer.code, answer.causes) == (409, {"spec.ips[1]": "IPPool pool-1 has 10.16.0.13"})
    assert pool(site, "pool-2") is None
    assert apply(site, site.switch(), TEN, name="pool-3").result == "created", "of another subnet"


def test_the_same_again_is_unchanged_and_create_says_that_it_is_there(site):
    switch = site.switch()
    assert apply(site, switch, TEN).result == "created"
    assert apply(site, switch, TEN).result == "unchanged"
    [answer] = site.bulk("create", [document(switch, TEN)])
    assert answer.status["reason"] == "AlreadyExists"
    assert answer.message == 'ippools.kubeovn.io "pool-1" already exists'


def test_namespaces_and_ips_may_change_the_subnet_may_not(site):
    switch = site.switch()
    first = apply(site, switch, TEN).ip["metadata"]
    answer = apply(site, switch, "10.16.0.12..10.16.0.15", namespaces=("red",))
    second = answer.ip["metadata"]
    assert (answer.result, second["generation"], second["uid"]) == ("configured", 2, first["uid"])
    assert int(second["resourceVersion"]) > int(first["resourceVersion"])
    assert site.exclude_ips(switch) == "10.16.0.12..10.16.0.15"
    message = f"ips 10.16.0.12..10.16.0.15, were {TEN}; namespaces red, were none"
    journalled(site, answer, "PoolCreated", "PoolChanged", message)
    other = apply(site, site.switch(), "10.16.0.12..10.16.0.15", namespaces=("red",))
    assert other.causes["spec.subnet"].endswith("field is immutable")


def test_a_merge_patch_changes_what_it_names(site):
    switch = site.switch()
    apply(site, switch, TEN, namespaces=("red",))
    path = "/apis/kubeovn.io/v1/ippools/pool-1"
    patch = {"spec": {"namespaces": ["red", "blue"]}, "metadata": {"labels": {"tier": "gold"}}}
    answer = patched(site, path, patch)
    assert answer["spec"] == {"subnet": switch, "ips": [TEN], "namespaces": ["red", "blue"]}
    assert answer["metadata"]["labels"] == {"tier": "gold"}
    listed = site.client.get("/apis/kubeovn.io/v1/ippools?labelSelector=tier%3Dgold")
    assert (listed["kind"], [item["metadata"]["name"] for item in listed["items"]]) == ("IPPoolList", ["pool-1"])
    for selector in ("labelSelector=tier%3Dtin", "fieldSelector=metadata.name%3Dother"):
        assert site.client.get(f"/apis/kubeovn.io/v1/ippools?{selector}")["items"] == []
    with pytest.raises(StatusError) as refused:
        patched(site, path, {"spec": {"ips": []}})
    assert refused.value.status["details"]["causes"][0]["field"] == "spec.ips"
    with pytest.raises(StatusError) as refused:
        patched(site, path, {"metadata": {"resourceVersion": "1"}})
    assert "has been modified" in refused.value.status["message"]


def patched(site: Site, path: str, patch: dict[str, Any]) -> dict[str, Any]:
    """As kubectl patch --type=merge does."""
    client = site.new_client()
    plain, merge = b"Content-Type: application/json", b"Content-Type: application/merge-patch+json"
    message = client._message("PATCH", path, patch).replace(plain, merge)
    code, answer = client._exchange("PATCH", message)
    client.close()
    if code >= 400:
        raise StatusError(json.loads(answer))
    return json.loads(answer)


# ---- addresses of it -----------------------------------------------------------------------------------------------


def test_an_ip_of_a_bound_namespace_has_its_address_from_the_pool_and_no_other_has(site):
    switch = site.switch()
    apply(site, switch, TEN, namespaces=("red",))
    red = [site.reserve(switch, namespace="red") for _ in range(4)]
    assert [answer.v4 for answer in red] == [f"10.16.0.{n}" for n in (13, 12, 11, 10)]
    full = site.reserve(switch, namespace="red")
    assert (full.code, full.reasons) == (409, {"NoAvailableAddress"})
    assert f"no IPv4 address is available in IPPool pool-1 of subnet {switch}" in full.message
    assert site.reserve(switch).v4 == "10.16.0.254"
    assert counts(site) == (4, 0, 0, 0)


def test_automatic_choice_outside_never_enters_a_pool_but_says_that_nothing_is_left(site):
    switch = site.switch("10.16.0.0/29")
    apply(site, switch, "10.16.0.3..10.16.0.6", namespaces=("red",))
    assert site.reserve(switch).v4 == "10.16.0.2"
    assert site.reserve(switch).reasons == {"NoAvailableAddress"}
    assert site.reserve(switch, namespace="red").v4 == "10.16.0.6"


def test_of_several_pools_the_first_by_name_that_has_an_address_gives_it(site):
    switch = site.switch()
    apply(site, switch, "10.16.0.20", name="b", namespaces=("red",))
    apply(site, switch, "10.16.0.30", name="a", namespaces=("red", "blue"))
    assert [site.reserve(switch, namespace="red").v4 for _ in range(2)] == ["10.16.0.30", "10.16.0.20"]
    assert f"in IPPools a, b of subnet {switch}" in site.reserve(switch, namespace="red").message


def test_a_family_of_which_the_pool_has_no_addresses_is_chosen_outside(site):
    switch = site.switch(NETWORK, PREFIX)
    apply(site, switch, TEN, namespaces=("red",))
    answer = site.reserve(switch, namespace="red")
    assert (answer.v4, answer.v6) == ("10.16.0.13", f"{PREFIX}ffff:ffff:ffff:ff7f")


def test_the_annotation_names_the_pool_and_opens_one_that_is_for_nobody(site):
    switch = site.switch()
    apply(site, switch, "10.16.0.20..10.16.0.22")
    apply(site, switch, "10.16.0.30", name="reds", namespaces=("red",))
    assert annotated(site, switch).v4 == "10.16.0.22"
    assert annotated(site, switch, v4IpAddress="10.16.0.20").result == "created"
    assert annotated(site, switch, "reds", namespace="red").v4 == "10.16.0.30"
    foreign = annotated(site, switch, "reds")
    assert (foreign.code, foreign.causes) == (
        409, {f"metadata.annotations[{POOL}]": "IPPool reds is for namespace red, not default"},
    )  # fmt: skip
    missing = annotated(site, switch, "nothing")
    assert missing.code == 422
    assert missing.causes[f"metadata.annotations[{POOL}]"].endswith(f"IPPool nothing of subnet {switch} does not exist")


def test_changing_the_annotation_later_moves_nothing(site):
    switch = site.switch()
    apply(site, switch, TEN)
    wanted = site.document(switch, "pod")
    before = site.apply(wanted)
    wanted["metadata"]["annotations"] = {POOL: "pool-1"}
    after = site.apply(wanted)
    assert (after.result, after.v4) == ("configured", before.v4) == ("configured", "10.16.0.254")


def test_a_given_address_of_a_pool_is_for_its_namespaces_only(site):
    switch = site.switch()
    apply(site, switch, TEN, namespaces=("red", "blue"))
    refused = site.reserve(switch, v4IpAddress="10.16.0.10")
    what = "10.16.0.10 is of IPPool pool-1, which is for namespaces red, blue"
    assert (refused.code, refused.causes) == (409, {"spec.v4IpAddress": what})
    assert site.reserve(switch, v4IpAddress="10.16.0.10", namespace="blue").result == "created"
    assert site.reserve(switch, v4IpAddress="10.16.0.99", namespace="red").result == "created", "outside of pools"


def test_a_given_address_of_a_pool_for_nobody_is_refused(site):
    switch = site.switch()
    apply(site, switch, TEN)
    refused = site.reserve(switch, v4IpAddress="10.16.0.10")
    assert (refused.code, "which is for nobody" in refused.message) == (409, True)


def test_adopting_a_port_that_runs_in_a_foreign_pool_is_allowed_and_said(site):
    switch = site.switch()
    site.port(switch, "0a:00:00:00:00:07 10.16.0.11", name="pod-a.default")
    apply(site, switch, TEN, namespaces=("red",))
    answer = site.reserve(switch, "pod-a")
    assert (answer.result, answer.v4) == ("created", "10.16.0.11")
    what = "10.16.0.11, which port pod-a.default has, is of IPPool pool-1, which is for namespace red"
    assert answer.warnings == [what]


def test_a_pool_and_ips_of_it_come_in_one_request(site):
    switch = site.switch()
    wanted = site.document(switch, namespace="red")
    made, answer = site.bulk("apply", [document(switch, TEN, namespaces=("red",)), wanted])
    assert (made.result, answer.result, answer.v4) == ("created", "created", "10.16.0.13")


def test_ips_wait_with_the_pool_that_was_asked_for_before_them(site):
    switch = site.switch()
    with site.northd_paused():
        site.nb("lsp-add", switch, "pending", "--", "lsp-set-addresses", "pending", "dynamic")
        wanted = site.document(switch, namespace="red")
        made, answer = site.bulk("apply", [document(switch, TEN, namespaces=("red",)), wanted])
    assert (made.result, answer.result, answer.v4) == ("created", "created", "10.16.0.13")


# ---- counts --------------------------------------------------------------------------------------------------------


def test_what_nobody_has_of_a_pool_counts_as_excluded_in_its_subnet(site):
    switch = site.switch("10.16.0.0/28")
    apply(site, switch, TEN, namespaces=("red",))
    assert (site.subnet(switch)["status"]["v4usingIPs"], site.subnet(switch)["status"]["v4availableIPs"]) == (0, 10)
    site.reserve(switch, namespace="red")
    site.port(switch, "0a:00:00:00:00:07 10.16.0.11")
    assert counts(site) == (2, 2, 0, 0)
    assert (site.subnet(switch)["status"]["v4usingIPs"], site.subnet(switch)["status"]["v4availableIPs"]) == (2, 10)


# ---- ports that run there ------------------------------------------------------------------------------------------


def test_a_dynamic_port_that_runs_there_is_not_renumbered_and_its_address_excluded_when_it_leaves(site):
    switch = site.switch()
    port = site.port(switch)
    has = site.dynamic_addresses(port)
    answer = apply(site, switch, "10.16.0.2..10.16.0.5")
    assert answer.warnings == [f"port {port} runs on 10.16.0.2, which is not excluded until it leaves"]
    journalled(site, answer, "Withheld", f"ovn-northd gave {has} to port {port}; not excluded until it leaves")
    assert site.exclude_ips(switch) == "10.16.0.3..10.16.0.5"
    assert apply(site, switch, "10.16.0.2..10.16.0.5", namespaces=("red",)).result == "configured"
    assert site.exclude_ips(switch) == "10.16.0.3..10.16.0.5", "a change of namespaces excludes nothing more"
    site.nb("--wait=sb", "sync")
    assert site.dynamic_addresses(port) == has
    site.nb("lsp-del", port)
    wait_until(lambda: site.exclude_ips(switch) == "10.16.0.2..10.16.0.5", what="excluded")


def test_an_ip_of_the_pool_adopts_the_port_that_runs_on_a_withheld_address(site):
    switch = site.switch()
    port = site.port(switch, name="pod-a.red")
    has = site.dynamic_addresses(port)
    apply(site, switch, "10.16.0.2..10.16.0.5", namespaces=("red",))
    answer = site.reserve(switch, "pod-a", namespace="red")
    assert (answer.result, answer.addresses, site.addresses(port)) == ("created", has, {has})
    assert site.exclude_ips(switch) == "10.16.0.2..10.16.0.5"
    site.release("pod-a.red")
    assert site.exclude_ips(switch) == "10.16.0.2..10.16.0.5", "it is the pool's"


def test_a_pool_waits_for_a_pending_port_and_sees_what_it_is_given(site):
    switch = site.switch()
    with ThreadPoolExecutor() as executor:
        with site.northd_paused():
            site.nb("lsp-add", switch, "late", "--", "lsp-set-addresses", "late", "dynamic")
            asked = executor.submit(apply, site, switch, "10.16.0.2..10.16.0.5")
        answer = asked.result()
    assert answer.warnings == ["port late runs on 10.16.0.2, which is not excluded until it leaves"]
    assert site.exclude_ips(switch) == "10.16.0.3..10.16.0.5"
    site.nb("--wait=sb", "sync")
    assert site.dynamic_addresses("late").endswith(" 10.16.0.2")


# ---- letting go ----------------------------------------------------------------------------------------------------


def test_a_pool_in_use_is_not_deleted_and_its_users_are_named(site):
    switch = site.switch()
    apply(site, switch, "10.16.0.10..10.16.0.19", namespaces=("red",))
    names = [site.reserve(switch, f"pod-{n}", namespace="red").name for n in range(6)]
    port = site.port(switch, "0a:00:00:00:00:07 10.16.0.10")
    refused = delete(site)
    assert refused.code == 409
    shown = ", ".join(f"IP pod-{n}.red (10.16.0.{19 - n})" for n in (5, 4, 3, 2))
    assert f"in use by logical switch port {port} (10.16.0.10), {shown} and 2 more" in refused.message
    for name in names:
        site.release(name)
    site.nb("lsp-del", port)
    gone(site)
    assert site.exclude_ips(switch) is None
    assert record(site) == ""


def test_deleting_a_pool_gives_back_all_but_what_is_reserved(site):
    switch = site.switch()
    made = apply(site, switch, TEN, namespaces=("red",))
    site.reserve(switch, v4IpAddress="10.16.0.14")
    gone(site)
    assert site.exclude_ips(switch) == "10.16.0.14"
    assert site.reserve(switch, namespace="red").v4 == "10.16.0.254"
    journalled(site, made, "PoolCreated", "Releasing", "Released")


def test_a_pool_does_not_shrink_below_an_address_that_an_ip_has(site):
    switch = site.switch()
    apply(site, switch, TEN, namespaces=("red",))
    site.reserve(switch, "pod", namespace="red")
    refused = apply(site, switch, "10.16.0.10..10.16.0.12", namespaces=("red",))
    assert (refused.code, refused.causes) == (
        409, {"spec.ips": "addresses that are to leave the pool are in use by IP pod.red (10.16.0.13)"},
    )  # fmt: skip
    assert apply(site, switch, "10.16.0.12..10.16.0.20", namespaces=("red",)).result == "configured"


def test_what_is_not_there_cannot_be_deleted(site):
    answer = delete(site, "nobody")
    assert (answer.code, answer.message) == (404, 'ippools.kubeovn.io "nobody" not found')


# ---- whatever happens to the stores --------------------------------------------------------------------------------


def test_a_pool_outlives_the_daemon(own):
    switch = own.switch()
    before = apply(own, switch, TEN, namespaces=("red",)).ip["metadata"]["uid"]
    own.daemon.kill()
    restart(own)
    found = pool(own)
    assert (found or {})["metadata"]["uid"] == before
    assert own.reserve(switch, namespace="red").v4 == "10.16.0.13"
    assert ready(own) == "InForce"


def test_a_pool_is_taken_from_the_database_by_a_daemon_without_a_ledger(own):
    switch = own.switch()
    port = own.port(switch)
    before = apply(own, switch, "10.16.0.2..10.16.0.5", namespaces=("red",)).ip["metadata"]["uid"]
    own.daemon.stop()
    own.client.close()
    for file in own.daemon.state_dir.glob("ledger.db*"):
        file.unlink()
    restart(own)
    assert (pool(own) or {})["metadata"]["uid"] == before
    own.nb("--wait=sb", "sync")
    assert own.dynamic_addresses(port).endswith(" 10.16.0.2")
    assert own.exclude_ips(switch) == "10.16.0.3..10.16.0.5"


def test_a_standby_has_the_pools_and_takes_over_with_them(servers, tmp_path):
    with Daemon(servers, tmp_path / "a") as first:
        site = Site(servers, first)
        switch = site.switch()
        port = site.port(switch)
        apply(site, switch, "10.16.0.2..10.16.0.5", namespaces=("red",))
        with Daemon(servers, tmp_path / "b", run_dir=servers.run_dir / "b") as second:
            other = Site(servers, second)
            wait_until(lambda: pool(other) is not None, what="followed")
            first.kill()
            active(other)
            assert other.reserve(switch, namespace="red").v4 == "10.16.0.5"
            other.nb("--wait=sb", "sync")
            assert other.dynamic_addresses(port).endswith(" 10.16.0.2")
            assert other.exclude_ips(switch) == "10.16.0.3..10.16.0.5"
            other.nb("lsp-del", port)
            wait_until(lambda: other.exclude_ips(switch) == "10.16.0.2..10.16.0.5", what="excluded")


def test_a_record_that_was_wiped_is_written_again(site):
    switch = site.switch()
    apply(site, switch, TEN)
    site.nb("destroy", "dns", record(site))
    wait_until(lambda: record(site), what="written again")
    assert site.exclude_ips(switch) == TEN


def test_exclude_ips_that_was_wiped_is_written_again_and_nobody_is_renumbered(site):
    switch = site.switch()
    apply(site, switch, "10.16.0.2..10.16.0.5")
    site.daemon.pause()
    site.servers.nbctl("remove", "logical_switch", switch, "other_config", "exclude_ips")
    site.servers.nbctl("--wait=sb", "lsp-add", switch, "lucky", "--", "lsp-set-addresses", "lucky", "dynamic")
    site.daemon.resume()
    wait_until(lambda: site.exclude_ips(switch) == "10.16.0.3..10.16.0.5", what="repaired")
    site.nb("--wait=sb", "sync")
    assert site.dynamic_addresses("lucky").endswith(" 10.16.0.2")
    site.nb("lsp-del", "lucky")
    wait_until(lambda: site.exclude_ips(switch) == "10.16.0.2..10.16.0.5", what="excluded again")


def test_a_pool_moves_to_a_switch_made_anew_if_it_still_fits(site):
    switch = site.switch()
    made = apply(site, switch, TEN, namespaces=("red",))
    site.nb("ls-del", switch)
    wait_until(lambda: ready(site) == "SubnetMissing", what="the subnet is missed")
    site.switch("10.16.0.0/16", name=switch)
    wait_until(lambda: site.exclude_ips(switch) == TEN, what="moved")
    assert site.reserve(switch, namespace="red").v4 == "10.16.0.13"
    journalled(site, made, "SubnetMissing", "Rehomed")


def test_a_pool_that_does_not_fit_the_switch_made_anew_fails_and_says_why(site):
    switch = site.switch()
    apply(site, switch, TEN, namespaces=("red",))
    site.nb("ls-del", switch)
    site.switch("10.17.0.0/24", name=switch)
    wait_until(lambda: ready(site) == "Failed", what="failed")
    [condition] = (pool(site) or {})["status"]["conditions"]
    assert f'"{TEN}": must be within 10.17.0.0/24' in condition["message"]
    assert "delete it first" in apply(site, switch, "10.17.0.9").message
    gone(site)


def test_a_subnet_that_is_changed_leaves_the_pool_outside_and_that_is_said(site):
    switch = site.switch()
    made = apply(site, switch, TEN, namespaces=("red",))
    site.nb("set", "logical_switch", switch, "other_config:subnet=10.17.0.0/24")
    wait_until(lambda: ready(site) == "OutsideSubnet", what="said")
    assert site.reserve(switch, namespace="red").reasons == {"NoAvailableAddress"}
    assert site.reserve(switch).v4 == "10.17.0.254"
    journalled(site, made, "OutsideSubnet")
    site.nb("set", "logical_switch", switch, "other_config:subnet=10.16.0.0/24")
    wait_until(lambda: ready(site) == "InForce", what="in force again")


# ---- the command line ----------------------------------------------------------------------------------------------


def test_the_command_line_shows_pools_as_kube_ovn_does(site):
    switch = site.switch()
    text = json.dumps(document(switch, "10.16.0.20", TEN, namespaces=("red",)))
    assert site.command("apply", "-f", "-", stdin=text) == (0, "ippool.kubeovn.io/pool-1 created\n", "")
    shown = site.command("get", "ippools").stdout.splitlines()
    titles = ["NAME", "SUBNET", "IPS", "V4USED", "V4AVAILABLE", "V6USED", "V6AVAILABLE"]
    assert [line.split() for line in shown] == [
        titles, ["pool-1", switch, f'["10.16.0.20","{TEN}"]', "0", "5", "0", "0"],
    ]  # fmt: skip
    wide = site.command("get", "ippool", "pool-1", "-o", "wide").stdout.splitlines()
    assert wide[0].split() == [*titles, "NAMESPACES", "AGE"]
    assert '["red"]' in wide[1]
    assert site.command("get", "ippool.kubeovn.io", "-o", "name").stdout == "ippool.kubeovn.io/pool-1\n"
    assert json.loads(site.command("get", "ippool/pool-1", "-o", "json").stdout)["spec"]["namespaces"] == ["red"]
    assert "namespaces:\n  - red\n" in site.command("get", "ippool", "pool-1", "-o", "yaml").stdout
    described = site.command("describe", "ippool", "pool-1").stdout
    assert "V4 Available IPs:  5" in described
    assert "PoolCreated" in described
    assert site.command("delete", "ippool", "pool-1") == (0, 'ippool.kubeovn.io "pool-1" deleted\n', "")
    assert pool(site) is None


def test_kinds_in_one_file_are_made_and_deleted_together(site, tmp_path):
    switch = site.switch()
    file = tmp_path / "both.yaml"
    file.write_text(
        "apiVersion: kubeovn.io/v1\nkind: IPPool\nmetadata: {name: pool-1}\n"
        f"spec: {{subnet: {switch}, namespaces: [red], ips: [10.16.0.10..10.16.0.13]}}\n---\n"
        "apiVersion: kubeovn.io/v1\nkind: IP\nmetadata: {name: pod-a.red}\n"
        f"spec: {{subnet: {switch}, podName: pod-a, namespace: red, podType: ''}}\n"
    )
    made = "ippool.kubeovn.io/pool-1 created\nip.kubeovn.io/pod-a.red created\n"
    assert site.command("create", "-f", str(file)) == (0, made, "")
    assert (site.ip("pod-a.red") or {})["spec"]["v4IpAddress"] == "10.16.0.13"
    deleted = 'ip.kubeovn.io "pod-a.red" deleted\nippool.kubeovn.io "pool-1" deleted\n'
    assert site.command("delete", "-f", str(file)) == (0, deleted, "")
    assert (pool(site), site.exclude_ips(switch)) == (None, None)


def test_a_backup_has_the_pools_and_a_restore_makes_them_before_the_ips(site, tmp_path):
    switch = site.switch()
    apply(site, switch, TEN, namespaces=("red",))
    apply(site, switch, "10.16.0.99", name="kept")
    site.reserve(switch, "pod", namespace="red")
    file = str(tmp_path / "backup")
    assert site.command("backup", file).stdout == f"{file} saved with 1 reservation and 2 pools\n"
    site.release("pod.red")
    gone(site)
    done = site.command("restore", file)
    assert done.code == 0
    assert done.stdout.splitlines() == [
        "ippool.kubeovn.io/kept unchanged",
        "ippool.kubeovn.io/pool-1 restored",
        "ip.kubeovn.io/pod.red restored",
        "2 restored, 1 unchanged, 0 not restored",
    ]
    assert (site.ip("pod.red") or {})["spec"]["v4IpAddress"] == "10.16.0.13"
    assert (pool(site) or {})["spec"]["namespaces"] == ["red"]
