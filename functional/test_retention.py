"""Retention: which IPs outlive their ports, and for how long."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sites import NETWORK, PREFIX, Answer, Site
from support import wait_until

from ovnreserve.cli.errors import StatusError
from ovnreserve.sandbox import Daemon, Servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESERVED = "ovn.kubernetes.io/ip_reserved"


@pytest.fixture(scope="session")
def shared_keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    keep = {"ENABLE_KEEP_VM_IP": "true"}
    state = tmp_path_factory.mktemp("keeper") / "state"
    with Servers() as servers, Daemon(servers, state, environment=keep) as daemon:
        yield Site(servers, daemon, follow=True)


@pytest.fixture
def keeper(shared_keeper: Site) -> Iterator[Site]:
    """A site whose daemon keeps the IPs of VMs."""
    logged = shared_keeper.daemon.log.stat().st_size
    yield shared_keeper
    print(shared_keeper.daemon.log.read_bytes()[logged:].decode())
    forget_owners(shared_keeper)
    shared_keeper.clean()


@pytest.fixture
def here(site: Site) -> Iterator[Site]:
    """The site, whose owners are forgotten afterwards."""
    yield site
    forget_owners(site)


def forget_owners(site: Site) -> None:
    for path in ("/apis/apps/v1/statefulsets", "/apis/kubevirt.io/v1/virtualmachines"):
        for item in site.client.get(path)["items"]:
            tell(site, item["kind"], item["metadata"]["name"], verb="delete")


def tell(site: Site, kind: str, name: str, *, verb: str = "apply", **spec: Any) -> Answer:
    """Apply or delete an owner's manifest, with more in it than is needed."""
    version = {"StatefulSet": "apps/v1", "VirtualMachine": "kubevirt.io/v1"}[kind]
    spec = {**spec, "template": {"spec": {"containers": [{"name": "x", "ports": [{"containerPort": 80}]}]}}}
    metadata = {"name": name, "namespace": "default"}
    [answer] = site.bulk(verb, [{"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}])
    assert not answer.status, answer
    return answer


def grow(site: Site, switch: str, name: str, addresses: str = "dynamic", **columns: Any) -> str:
    """A port of a pod in namespace default; its IPv4 address."""
    site.port(switch, addresses, name=f"{name}.default", **columns)
    words = (site.dynamic_addresses(f"{name}.default") or " ".join(site.addresses(f"{name}.default"))).split()
    return next(word for word in words if word.count(".") == 3)


def retained(site: Site, name: str) -> dict[str, Any]:
    """The IP of that pod, once it is kept by its owner's rule only."""
    wait_until(lambda: kept(site, name), what=f"{name} retained")
    ip = site.ip(f"{name}.default")
    assert ip is not None
    assert ip["metadata"]["labels"][RESERVED] == "false"
    return ip


def kept(site: Site, name: str) -> bool:
    """Is there a record of it, so that it outlives its port?"""
    return bool(site.nb("--bare", "--columns=_uuid", "find", "dns", f'external_ids:ovnreserve/name="{name}.default"'))


def gone(site: Site, name: str) -> None:
    wait_until(lambda: not kept(site, name), what=f"{name} let go")


def seen_since(site: Site, switch: str) -> None:
    """Whatever came before has been looked at: a port that came later has been, and is retained."""
    tell(site, "StatefulSet", "later", replicas=1)
    grow(site, switch, "later-0", "0a:00:00:00:00:fe 10.16.0.200")
    retained(site, "later-0")
    site.nb("lsp-del", "later-0.default")
    tell(site, "StatefulSet", "later", verb="delete")
    gone(site, "later-0")


def test_a_port_without_an_owner_takes_its_ip_with_it(here: Site) -> None:
    switch = here.switch()
    grow(here, switch, "plain-0")
    seen_since(here, switch)
    assert not kept(here, "plain-0")
    assert not here.exclude_ips(switch)
    here.nb("lsp-del", "plain-0.default")
    assert not kept(here, "plain-0")


@pytest.mark.parametrize("addresses", ["dynamic", "0a:00:00:00:00:05 10.16.0.5"])
def test_a_stateful_sets_ip_is_pinned_and_excluded_when_its_port_is_first_seen(here: Site, addresses: str) -> None:
    switch = here.switch(NETWORK, PREFIX)
    tell(here, "StatefulSet", "web", replicas=3)
    address = grow(here, switch, "web-0", addresses)
    ip = retained(here, "web-0")
    assert ip["spec"]["podType"] == "StatefulSet"
    assert ip["spec"]["v4IpAddress"] == address
    assert here.exclude_ips(switch) == address
    assert f"{ip['spec']['macAddress']} {address}" in " ".join(here.addresses("web-0.default"))
    here.nb("--wait=sb", "sync")
    assert here.dynamic_addresses("web-0.default") == ""


def test_the_port_recreated_gets_the_same_address_and_mac(here: Site) -> None:
    switch = here.switch()
    tell(here, "StatefulSet", "web", replicas=1)
    address = grow(here, switch, "web-0")
    mac = retained(here, "web-0")["spec"]["macAddress"]
    here.nb("--wait=sb", "lsp-del", "web-0.default")
    assert [grow(here, switch, f"other-{n}") for n in range(5)].count(address) == 0
    here.nb("lsp-add", switch, "web-0.default", "--", "lsp-set-addresses", "web-0.default", "dynamic")
    wait_until(lambda: here.addresses("web-0.default") == {f"{mac} {address}"}, what="bound again")


def fail(site: Site, *names: str) -> str:
    """Have the IPs of these pods fail: their switch is made anew, with a network that they do not fit; the switch."""
    switch = site.switch()
    tell(site, "StatefulSet", "web", replicas=3)
    for octet, name in enumerate(names, 200):
        grow(site, switch, name, f"0a:00:00:00:00:{octet:x} 10.16.0.{octet}")
        retained(site, name)
    anew = ("ls-add", switch, "--", "set", "logical_switch", switch, "other_config:subnet=10.16.0.0/25")
    site.nb("ls-del", switch, "--", *anew)
    for name in names:
        wait_until(lambda name=name: site.ip(f"{name}.default")["status"]["phase"] == "Failed", what=f"{name} fails")
    return switch


def test_one_that_has_failed_makes_room_for_what_its_port_has_now(here: Site) -> None:
    switch = fail(here, "web-0")
    address = grow(here, switch, "web-0")
    wait_until(lambda: here.ip("web-0.default")["spec"]["v4IpAddress"] == address, what="what the port has is shown")
    assert retained(here, "web-0")["spec"]["v4IpAddress"] == address
    assert here.exclude_ips(switch) == address


def test_one_that_has_failed_is_deleted_as_any_other(here: Site) -> None:
    fail(here, "web-0")
    assert here.command("delete", "ip", "web-0.default") == (0, 'ip.kubeovn.io "web-0.default" deleted\n', "")
    assert not kept(here, "web-0")


def test_one_that_has_failed_goes_with_its_owner(here: Site) -> None:
    fail(here, "web-0", "web-1")
    tell(here, "StatefulSet", "web", replicas=1)
    gone(here, "web-1")
    tell(here, "StatefulSet", "web", verb="delete")
    gone(here, "web-0")
    wait_until(lambda: not here.nb("--bare", "find", "dns", "external_ids:ovnreserve/kind=owner"), what="forgotten")


def test_scaled_down_its_ips_are_released_and_scaled_up_they_are_new(here: Site) -> None:
    switch = here.switch()
    tell(here, "StatefulSet", "web", replicas=3)
    addresses = [grow(here, switch, f"web-{n}") for n in range(3)]
    for n in range(3):
        retained(here, f"web-{n}")
        here.nb("lsp-del", f"web-{n}.default")
    tell(here, "StatefulSet", "web", replicas=1)
    gone(here, "web-1")
    gone(here, "web-2")
    assert here.exclude_ips(switch) == addresses[0]
    tell(here, "StatefulSet", "web", replicas=3)
    again = [grow(here, switch, f"web-{n}") for n in range(1, 3)]
    assert addresses[0] not in again
    for n in range(3):
        retained(here, f"web-{n}")


def test_a_manifest_as_a_cluster_shows_it_can_be_applied_again_and_again(here: Site) -> None:
    """With what its API server has written there, and without `replicas`, which an autoscaler sees to."""
    switch = here.switch()
    metadata = {"name": "web", "namespace": "default", "resourceVersion": "112233", "uid": "89d05a26", "generation": 7}
    metadata |= {"managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}], "ownerReferences": [{"uid": 1}]}
    spec = {"serviceName": "nginx", "volumeClaimTemplates": [{"metadata": {"name": "www"}}], "minReadySeconds": 10}
    manifest = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec, "status": {"x": 1}}
    assert [answer.result for answer in here.bulk("apply", [manifest])] == ["created"]
    assert here.command("scale", "statefulset", "web", "--replicas=3").code == 0
    grow(here, switch, "web-2")
    retained(here, "web-2")
    assert [answer.result for answer in here.bulk("apply", [manifest])] == ["unchanged"]
    assert kept(here, "web-2")
    metadata["resourceVersion"] = "112299"
    [answer] = here.bulk("apply", [{**manifest, "spec": {**spec, "replicas": 4}}])
    assert (answer.result, answer.status) == ("configured", {})


def test_scaled_down_while_it_runs_a_port_keeps_its_address_until_it_goes(here: Site) -> None:
    switch = here.switch()
    tell(here, "StatefulSet", "web", replicas=2)
    address = grow(here, switch, "web-1")
    retained(here, "web-1")
    tell(here, "StatefulSet", "web", replicas=1)
    gone(here, "web-1")
    here.nb("--wait=sb", "sync")
    assert address in " ".join(here.addresses("web-1.default"))
    assert not here.exclude_ips(switch)


def test_ordinals_may_start_at_ten(here: Site) -> None:
    switch = here.switch()
    tell(here, "StatefulSet", "web", replicas=2, ordinals={"start": 10})
    for n in (10, 11, 12):
        grow(here, switch, f"web-{n}")
    retained(here, "web-10")
    retained(here, "web-11")
    seen_since(here, switch)
    assert not kept(here, "web-12")


def test_two_sets_whose_names_are_prefixes_of_each_other_are_told_apart(here: Site) -> None:
    switch = here.switch()
    tell(here, "StatefulSet", "web", replicas=1)
    tell(here, "StatefulSet", "web-1", replicas=2)
    for name in ("web-0", "web-1", "web-1-0", "web-1-1"):
        grow(here, switch, name)
    for name in ("web-0", "web-1-0", "web-1-1"):
        retained(here, name)
    assert not kept(here, "web-1")  # the second pod of web, of which there is one
    tell(here, "StatefulSet", "web-1", verb="delete")
    gone(here, "web-1-0")
    gone(here, "web-1-1")
    assert kept(here, "web-0")


def test_the_deletion_of_a_set_releases_its_ips_and_is_remembered_while_ports_are_left(here: Site) -> None:
    switch = here.switch()
    tell(here, "StatefulSet", "web", replicas=2)
    typed = {"external_ids:ovnreserve/pod-type": "StatefulSet"}
    grow(here, switch, "web-0", **typed)
    grow(here, switch, "web-1", **typed)
    retained(here, "web-0")
    retained(here, "web-1")
    here.nb("lsp-del", "web-1.default")
    tell(here, "StatefulSet", "web", verb="delete")
    with pytest.raises(StatusError, match=r'statefulsets\.apps "web" not found'):
        here.client.get("/apis/apps/v1/namespaces/default/statefulsets/web")
    gone(here, "web-0")
    gone(here, "web-1")
    here.nb("lsp-set-options", "web-0.default", "x=y")  # looked at anew: the set is known to be gone
    assert not kept(here, "web-0")
    here.restart()
    assert not kept(here, "web-0")
    here.nb("lsp-del", "web-0.default")
    wait_until(lambda: not here.nb("find", "dns", "external_ids:ovnreserve/kind=owner"), what="the set forgotten")


def test_an_owner_applied_after_its_ports_covers_them(here: Site) -> None:
    switch = here.switch()
    addresses = [grow(here, switch, f"web-{n}") for n in range(2)]
    assert not kept(here, "web-0")
    tell(here, "StatefulSet", "web", replicas=2)
    assert [retained(here, f"web-{n}")["spec"]["v4IpAddress"] for n in range(2)] == addresses


def test_what_could_not_be_retained_is_once_nothing_is_in_the_way_any_more(here: Site) -> None:
    switch = here.switch()
    here.reserve(switch, "rival", macAddress="0a:00:00:00:00:05")
    tell(here, "StatefulSet", "web", replicas=1)
    grow(here, switch, "web-0", "0a:00:00:00:00:05 10.16.0.5")
    wait_until(lambda: "NotRetained" in dict(here.events("web-0.default")), what="told")
    here.release("rival.default")
    assert retained(here, "web-0")["spec"]["v4IpAddress"] == "10.16.0.5"


def test_a_missing_fact_keeps(here: Site) -> None:
    switch = here.switch()
    address = grow(here, switch, "db-7", **{"external_ids:ovnreserve/pod-type": "StatefulSet"})
    retained(here, "db-7")
    here.nb("lsp-del", "db-7.default")
    here.restart()
    assert kept(here, "db-7")
    assert here.exclude_ips(switch) == address
    tell(here, "StatefulSet", "db", replicas=7)
    gone(here, "db-7")


def test_a_vms_ip_outlives_its_port_until_its_machine_is_deleted(keeper: Site) -> None:
    switch = keeper.switch()
    tell(keeper, "VirtualMachine", "vm1", running=True)
    address = grow(keeper, switch, "vm1")
    assert retained(keeper, "vm1")["spec"]["podType"] == "VirtualMachine"
    keeper.nb("lsp-del", "vm1.default")
    keeper.restart()
    assert kept(keeper, "vm1")
    assert keeper.exclude_ips(switch) == address
    tell(keeper, "VirtualMachine", "vm1", verb="delete")
    gone(keeper, "vm1")
    wait_until(lambda: not keeper.exclude_ips(switch), what="nothing excluded")


def test_kubevirts_launcher_port_is_known_as_a_vms_without_any_manifest(keeper: Site) -> None:
    switch = keeper.switch()
    ids = {"external_ids:pod": '"default/virt-launcher-vm2-abcde"', "external_ids:vendor": "kube-ovn"}
    grow(keeper, switch, "vm2", **ids)
    retained(keeper, "vm2")


def test_without_keep_vm_ip_a_vms_ip_goes_with_its_port(here: Site) -> None:
    switch = here.switch()
    tell(here, "VirtualMachine", "vm1")
    grow(here, switch, "vm1")
    seen_since(here, here.switch())
    assert not kept(here, "vm1")


def test_a_machine_that_is_applied_after_its_port_covers_it(keeper: Site) -> None:
    switch = keeper.switch()
    address = grow(keeper, switch, "vm1")
    tell(keeper, "VirtualMachine", "vm1")
    assert retained(keeper, "vm1")["spec"]["v4IpAddress"] == address


def test_keep_vm_ip_is_read_from_the_configuration_file_and_holds_until_a_start_without_it(
    servers: Servers, tmp_path: Path
) -> None:
    config = tmp_path / "ovnreserved.toml"
    config.write_text("keep_vm_ip = true\n")
    with Daemon(servers, tmp_path / "state", "--config", str(config)) as daemon:
        site = Site(servers, daemon, follow=True)
        switch = site.switch()
        tell(site, "VirtualMachine", "vm1")
        address = grow(site, switch, "vm1")
        retained(site, "vm1")
        site.nb("lsp-del", "vm1.default")
        site.restart()
        assert site.exclude_ips(switch) == address
        config.write_text("keep_vm_ip = false\n")
        site.restart()
        gone(site, "vm1")
        wait_until(lambda: not site.exclude_ips(switch), what="nothing excluded")


def test_what_an_owner_retains_in_a_pool_is_of_the_pool_until_and_after_it_is_let_go(here: Site) -> None:
    switch = here.switch()
    spec = {"subnet": switch, "ips": ["10.16.0.10..10.16.0.13"], "namespaces": ["default"]}
    pool = {"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": "pool-1"}, "spec": spec}

    def counts() -> tuple[int, int]:
        status = here.client.get("/apis/kubeovn.io/v1/ippools/pool-1")["status"]
        return status["v4UsingIPs"], status["v4AvailableIPs"]

    assert here.apply(pool).result == "created"
    tell(here, "StatefulSet", "web", replicas=1)
    grow(here, switch, "web-0", "0a:00:00:00:00:05 10.16.0.12")
    retained(here, "web-0")
    here.nb("lsp-del", "web-0.default")
    assert counts() == (1, 3), "it is used by who is retained"
    assert here.reserve(switch, "other").v4 != "10.16.0.12"
    tell(here, "StatefulSet", "web", replicas=0)
    gone(here, "web-0")
    wait_until(lambda: counts() == (1, 3), what="let go, and `other` has one")
    assert here.exclude_ips(switch) == "10.16.0.10..10.16.0.13", "the pool's addresses stay excluded"


# ---- the label -----------------------------------------------------------------------------------------------------


def label(site: Site, name: str, value: str | None, **more: Any) -> dict[str, Any]:
    """Set the label with a merge patch, as `kubectl label` does."""
    patch = {"metadata": {"labels": {RESERVED: value}, **more}}
    return site.client.patch(f"/apis/kubeovn.io/v1/ips/{name}", patch)


def test_labelled_as_reserved_the_ip_of_a_running_port_is_reserved_and_nothing_is_renumbered(here: Site) -> None:
    switch = here.switch()
    before = {name: grow(here, switch, name) for name in ("a", "b", "c")}
    transactions = len(here.ours())
    ip = label(here, "b.default", "true")
    assert len(here.ours()) == transactions + 1, "pinned and excluded at once"
    assert ip["metadata"]["labels"][RESERVED] == "true"
    assert ip["spec"]["v4IpAddress"] == before["b"]
    here.nb("--wait=sb", "sync")
    assert here.exclude_ips(switch) == before["b"]
    assert before["b"] in " ".join(here.addresses("b.default"))
    for name in "ac":
        assert before[name] in here.dynamic_addresses(f"{name}.default")
    here.nb("lsp-del", "b.default")
    assert kept(here, "b")


def test_labelled_as_reserved_in_a_pool_of_others_it_is_kept_and_that_is_said(here: Site) -> None:
    switch = here.switch()
    grow(here, switch, "a", "0a:00:00:00:00:05 10.16.0.12")
    spec = {"subnet": switch, "ips": ["10.16.0.10..10.16.0.13"], "namespaces": ["red"]}
    pool = {"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": "pool-1"}, "spec": spec}
    assert here.apply(pool).result == "created"
    done = here.command("label", "ip", "a.default", f"{RESERVED}=true", "--overwrite")
    assert done.code == 0
    assert "10.16.0.12, which port a.default has, is of IPPool pool-1, which is for namespace red" in done.stderr
    here.nb("lsp-del", "a.default")
    assert kept(here, "a")


def test_labelled_as_not_reserved_it_is_its_ports_again(here: Site) -> None:
    switch = here.switch()
    address = grow(here, switch, "a")
    label(here, "a.default", "true")
    label(here, "a.default", "false")
    gone(here, "a")
    here.nb("--wait=sb", "sync")
    assert not here.exclude_ips(switch)
    assert address in " ".join(here.addresses("a.default"))
    here.nb("lsp-del", "a.default")
    assert not kept(here, "a")


def test_labelled_as_not_reserved_without_a_port_it_is_released(here: Site) -> None:
    switch = here.switch()
    answer = here.reserve(switch, "a")
    label(here, answer.name, "false")
    wait_until(lambda: here.ip(answer.name) is None, what="released")
    assert not here.exclude_ips(switch)


def test_what_is_being_let_go_stays_so_whatever_is_labelled_meanwhile_and_whoever_dies(here: Site) -> None:
    switch = here.switch()
    answer = here.reserve(switch, "a")

    def record() -> dict[str, Any]:
        return json.loads(here.records()[answer.name]["external_ids"]["ovnreserve/record"])

    with here.northd_paused():
        label(here, answer.name, "false")
        wait_until(lambda: "deleted" in record(), what="the first transaction")
        wait_until(lambda: "deletionTimestamp" in here.ip(answer.name)["metadata"], what="it is seen")
        assert here.command("verify") == (0, "", "")
        here.client.patch(f"/apis/kubeovn.io/v1/ips/{answer.name}", {"metadata": {"labels": {"color": "blue"}}})
        assert "deleted" in record()
        here.daemon.kill()
        here.client.close()
        here.daemon.start()
    wait_until(lambda: here.ip(answer.name) is None, 20, what="released")
    assert not here.exclude_ips(switch)


def test_labelled_as_not_reserved_it_stays_for_as_long_as_its_owner_says(here: Site) -> None:
    switch = here.switch()
    tell(here, "StatefulSet", "web", replicas=1)
    answer = here.reserve(switch, "web-0", podType="StatefulSet")
    label(here, answer.name, "false")
    retained(here, "web-0")
    label(here, answer.name, "true")
    tell(here, "StatefulSet", "web", verb="delete")
    assert kept(here, "web-0")
    label(here, answer.name, "false")
    gone(here, "web-0")


def test_a_label_for_another_version_of_a_ports_ip_is_refused(here: Site) -> None:
    grow(here, here.switch(), "a")
    shown = wait_until(lambda: here.ip("a.default"))
    version = shown["metadata"]["resourceVersion"]
    with pytest.raises(StatusError, match="the object has been modified"):
        label(here, "a.default", "true", resourceVersion=f"{version}0")
    assert label(here, "a.default", "true", resourceVersion=version)["metadata"]["labels"][RESERVED] == "true"


def test_the_ip_of_a_port_that_is_no_workloads_cannot_be_reserved_and_that_is_said(here: Site) -> None:
    here.port(here.switch(), "0a:00:00:00:00:05 10.16.0.5", name="local", type="localport")
    assert wait_until(lambda: here.ip("local"))
    with pytest.raises(StatusError, match="logical switch port local is of type localport, not a workload's"):
        label(here, "local", "true")


def test_a_port_of_another_cms_is_reserved_under_its_own_name(here: Site) -> None:
    switch = here.switch()
    here.port(switch, name="default_pod-1", **{"external_ids:namespace": "default", "external_ids:pod": "true"})
    ip = label(here, "default_pod-1", "true")
    assert (ip["spec"]["podName"], ip["spec"]["namespace"]) == ("pod-1", "default")
    here.restart()
    again = here.ip("default_pod-1")
    assert again is not None
    assert again["spec"] == ip["spec"]
    here.nb("lsp-del", "default_pod-1")
    here.nb("lsp-add", switch, "default_pod-1", "--", "lsp-set-addresses", "default_pod-1", "dynamic")
    wait_until(lambda: ip["spec"]["v4IpAddress"] in " ".join(here.addresses("default_pod-1")), what="bound again")


@pytest.mark.parametrize("port", [True, False])
def test_applied_with_the_label_false_it_is_configured_whatever_that_comes_to(here: Site, *, port: bool) -> None:
    switch = here.switch()
    if port:
        grow(here, switch, "a")
    document = here.document(switch, "a")
    assert here.apply(document).result == "created"
    document["metadata"]["labels"] = {RESERVED: "false"}
    assert here.apply(document).result == "configured"
    gone(here, "a")
    assert (here.ip("a.default") is not None) is port


@pytest.mark.parametrize("value", ["maybe", "True"])
def test_the_label_is_true_or_false(here: Site, value: str) -> None:
    answer = here.reserve(here.switch(), "a")
    with pytest.raises(StatusError, match="Unsupported value"):
        label(here, answer.name, value)


# ---- owners survive what reservations survive ----------------------------------------------------------------------


def test_owners_come_back_from_the_database_without_the_ledger(here: Site) -> None:
    tell(here, "StatefulSet", "web", replicas=5, ordinals={"start": 2})
    here.daemon.stop()
    for file in here.daemon.state_dir.glob("ledger*"):
        file.unlink()
    here.daemon.start()
    here.client.close()
    found = here.client.get("/apis/apps/v1/namespaces/default/statefulsets/web")
    assert found["spec"] == {"replicas": 5, "ordinals": {"start": 2}}


def test_owners_come_back_into_a_database_that_lost_them(here: Site) -> None:
    tell(here, "StatefulSet", "web", replicas=5)
    here.nb("--", "--all", "destroy", "dns")
    wait_until(
        lambda: here.nb("find", "dns", "external_ids:ovnreserve/name=statefulset/default/web"), what="written again"
    )


def test_a_backup_has_owners_and_what_they_retain_and_a_restore_brings_both_back(
    servers: Servers, tmp_path: Path
) -> None:
    with Daemon(servers, tmp_path / "first") as first:
        site = Site(servers, first, follow=True)
        switch = site.switch()
        tell(site, "StatefulSet", "web", replicas=2, ordinals={"start": 1})
        tell(site, "VirtualMachine", "vm1")
        address = grow(site, switch, "web-1")
        retained(site, "web-1")
        site.nb("lsp-del", "web-1.default")
        assert site.command("backup", str(tmp_path / "backup")).stdout.endswith("1 reservation and 2 owners\n")
    servers.nbctl("--", "--all", "destroy", "dns", "--", "clear", "logical_switch", switch, "other_config")
    servers.nbctl("set", "logical_switch", switch, f"other_config:subnet={NETWORK}")
    with Daemon(servers, tmp_path / "second") as second:
        site = Site(servers, second, follow=True)
        done = site.command("restore", str(tmp_path / "backup"))
        assert (done.code, done.stderr) == (0, "")
        assert site.client.get("/apis/apps/v1/namespaces/default/statefulsets/web")["spec"]["replicas"] == 2
        assert retained(site, "web-1")["spec"]["v4IpAddress"] == address
        again = site.command("restore", str(tmp_path / "backup"))
        assert again.stdout.splitlines()[-1].endswith("0 restored, 3 unchanged, 0 not restored")
        tell(site, "StatefulSet", "web", verb="delete")
        gone(site, "web-1")
