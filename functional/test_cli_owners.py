"""Labels, owners and pools on the command line against a real daemon, with kubectl's words and exit status."""

from __future__ import annotations

import json

import pytest
import yaml
from support import wait_until

RESERVED = "ovn.kubernetes.io/ip_reserved"
SUBNET = "other_config:subnet=10.0.0.0/24"


def ip(name: str, **labels: str) -> dict:
    pod, namespace = name.split(".")
    spec = {"subnet": "lan", "podName": pod, "namespace": namespace}
    return {"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": {"name": name, "labels": labels}, "spec": spec}


def stateful_set(name: str = "web", namespace: str = "", replicas: int = 2) -> dict:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": {"replicas": replicas}}


def machine(name: str = "vm1", namespace: str = "prod") -> dict:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata, "spec": {"running": True}}


def pool(name: str = "pool-1") -> dict:
    spec = {"subnet": "lan", "ips": ["10.0.0.20..10.0.0.29"], "namespaces": ["prod"]}
    return {"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec}


def given(*documents: dict) -> str:
    return yaml.safe_dump_all(documents)


def make_lan(servers) -> None:
    servers.nbctl("ls-add", "lan", "--", "set", "logical_switch", "lan", SUBNET)


def applied(servers, cli, *documents: dict) -> None:
    make_lan(servers)
    done = cli("apply", "-f", "-", stdin=given(*documents))
    assert (done.code, done.stderr) == (0, ""), done


def labels_of(cli, name: str) -> dict:
    return json.loads(cli("get", "ip", name, "-o", "json").stdout)["metadata"]["labels"]


# ---- manifests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_owners_come_in_lists_and_files_of_either_kind(servers, cli, tmp_path, suffix):
    make_lan(servers)
    listed = {"apiVersion": "v1", "kind": "List", "items": [stateful_set(), machine()]}
    file = tmp_path / f"owners.{suffix}"
    file.write_text(json.dumps(listed) if suffix == "json" else yaml.safe_dump(listed))
    assert cli("apply", "-f", str(file)) == (
        0, "statefulset.apps/web created\nvirtualmachine.kubevirt.io/vm1 created\n", "",
    )  # fmt: skip
    table = cli("get", "vm", "-A").stdout.splitlines()
    assert [line.split()[:2] for line in table] == [["NAMESPACE", "NAME"], ["prod", "vm1"]]
    assert cli("delete", "-f", str(file)).code == 0
    assert cli("get", "sts,vm", "-A").stdout == ""


# ---- label ----------------------------------------------------------------------------------------------------------


def test_labels_are_set_changed_and_removed_as_kubectl_does_it(servers, cli):
    applied(servers, cli, ip("a.default"), ip("b.default", team="red"))
    assert cli("label", "ip", "a.default", "b.default", "team=red") == (
        0,
        "ip.kubeovn.io/a.default labeled\nip.kubeovn.io/b.default not labeled\n",
        "",
    )
    assert cli("label", "ip/a.default", "team=blue", "tier=db") == (
        1,
        "",
        "error: 'team' already has a value (red), and --overwrite is false\n",
    )
    assert labels_of(cli, "a.default")["team"] == "red"
    assert cli("label", "--overwrite", "ip/a.default", "team=blue", "tier=db").stdout == (
        "ip.kubeovn.io/a.default labeled\n"
    )
    assert cli("label", "ip", "-l", "team=blue", "tier-", "no-such-") == (
        0,
        'label "no-such" not found.\nip.kubeovn.io/a.default unlabeled\n',
        "",
    )
    assert labels_of(cli, "a.default").items() >= {("team", "blue"), (RESERVED, "true")}
    assert "tier" not in labels_of(cli, "a.default")


def test_a_label_that_is_none_is_refused_and_the_others_are_labelled(servers, cli):
    applied(servers, cli, ip("a.default"), ip("b.default"))
    bad = cli("label", "ip/a.default", "team=not a label")
    assert (bad.code, bad.stdout) == (1, "")
    assert bad.stderr.startswith('The IP "a.default" is invalid: metadata.labels: Invalid value: "not a label": ')
    missing = cli("label", "ip", "x.default", "b.default", "team=red")
    assert missing == (
        1,
        "ip.kubeovn.io/b.default labeled\n",
        'Error from server (NotFound): ips.kubeovn.io "x.default" not found\n',
    )


def test_owners_and_pools_are_labelled_too(servers, cli):
    applied(servers, cli, stateful_set(), machine(), pool())
    assert cli("label", "sts/web", "ippool/pool-1", "team=red").stdout == (
        "statefulset.apps/web labeled\nippool.kubeovn.io/pool-1 labeled\n"
    )
    assert cli("label", "vm/vm1", "team=red").stderr == (
        'Error from server (NotFound): virtualmachines.kubevirt.io "vm1" not found\n'
    )
    assert cli("label", "-n", "prod", "vm/vm1", "team=red").stdout == "virtualmachine.kubevirt.io/vm1 labeled\n"
    names = cli("get", "sts,vm,ippool", "-A", "-l", "team=red", "-o", "name").stdout
    assert names == "statefulset.apps/web\nvirtualmachine.kubevirt.io/vm1\nippool.kubeovn.io/pool-1\n"


def test_an_ip_that_lives_with_its_port_is_reserved_by_its_label_and_given_back(servers, cli):
    make_lan(servers)
    servers.nbctl("--wait=sb", "lsp-add", "lan", "a.default", "--", "lsp-set-addresses", "a.default", "dynamic")
    wait_until(lambda: cli("get", "ip", "a.default").code == 0, what="born")
    refused = cli("label", "ip", "a.default", f"{RESERVED}=true")
    assert refused.stderr == f"error: '{RESERVED}' already has a value (false), and --overwrite is false\n"
    done = cli("label", "ip", "a.default", f"{RESERVED}=true", "--overwrite")
    assert done == (0, "ip.kubeovn.io/a.default labeled\n", "")
    assert labels_of(cli, "a.default")[RESERVED] == "true"
    assert cli("label", "ip", "a.default", f"{RESERVED}=false", "--overwrite").code == 0
    wait_until(lambda: labels_of(cli, "a.default")[RESERVED] == "false", what="given back")
    servers.nbctl("lsp-del", "a.default")
    wait_until(lambda: cli("get", "ip", "a.default").code == 1, what="gone with its port")


# ---- scale ----------------------------------------------------------------------------------------------------------


def test_a_set_is_scaled_from_any_number_or_from_the_one_that_was_said(servers, cli):
    applied(servers, cli, stateful_set(), stateful_set(namespace="prod"))

    def replicas(namespace: str) -> int:
        found = cli("get", "sts", "web", "-n", namespace, "-o", "json").stdout
        return json.loads(found)["spec"]["replicas"]

    assert cli("scale", "sts/web", "--replicas=5") == (0, "statefulset.apps/web scaled\n", "")
    assert (replicas("default"), replicas("prod")) == (5, 2)
    assert cli("scale", "-n", "prod", "statefulset", "web", "--current-replicas=3", "--replicas=1") == (
        1,
        "",
        "error: Expected replicas to be 3, was 2\n",
    )
    assert cli("scale", "-n", "prod", "statefulset", "web", "--current-replicas=2", "--replicas=1").code == 0
    assert (replicas("default"), replicas("prod")) == (5, 1)
    assert "1 replica; before: 2 replicas" in cli("describe", "sts", "web", "-n", "prod").stdout
    assert cli("scale", "sts/db", "sts/web", "--replicas=3") == (
        1,
        "statefulset.apps/web scaled\n",
        'Error from server (NotFound): statefulsets.apps "db" not found\n',
    )


def test_a_set_that_shrinks_lets_go_and_the_events_say_why(servers, cli):
    applied(servers, cli, stateful_set())
    servers.nbctl("lsp-add", "lan", "web-1.default", "--", "lsp-set-addresses", "web-1.default", "dynamic")

    def events() -> str:
        return cli("get", "events", "--for=ip/web-1.default").stdout

    wait_until(lambda: "Retained" in events(), what="retained")
    servers.nbctl("lsp-del", "web-1.default")
    cli("scale", "sts/web", "--replicas=1")
    wait_until(lambda: cli("get", "ip", "web-1.default").code == 1, what="let go")
    why = "StatefulSet default/web has 1 replica, its ordinals end below 1"
    wait_until(lambda: why in events(), what="said in the journal")


# ---- get, describe, delete, wait ------------------------------------------------------------------------------------


def test_owners_are_got_of_one_namespace_or_of_all(servers, cli):
    applied(servers, cli, stateful_set(), stateful_set("db", "prod", 3), machine())
    assert cli("get", "sts", "-o", "name").stdout == "statefulset.apps/web\n"
    assert cli("get", "sts", "-n", "prod", "-o", "name").stdout == "statefulset.apps/db\n"
    head, *rows = cli("get", "sts", "-A").stdout.splitlines()
    assert head.split()[:3] == ["NAMESPACE", "NAME", "REPLICAS"]
    assert [row.split()[:3] for row in rows] == [["default", "web", "2"], ["prod", "db", "3"]]
    for command in ("get", "describe"):
        assert cli(command, "vm") == (0, "", "No resources found in default namespace.\n")
    assert cli("get", "vm,sts", "-n", "dev") == (0, "", "No resources found in dev namespace.\n")
    assert cli("get", "ip,sts", "-n", "dev") == (0, "", "No resources found\n")
    assert cli("get", "sts", "-A", "-l", "a=b") == (0, "", "No resources found\n")
    named = cli("get", "sts", "web", "-A")
    assert named == (1, "", "error: a resource cannot be retrieved by name across all namespaces\n")
    assert cli("get", "vm", "vm1", "-n", "prod", "-o", "name").stdout == "virtualmachine.kubevirt.io/vm1\n"
    described = cli("describe", "vm", "vm1", "-n", "prod").stdout
    for words in ("vm1", "prod", "Events:", "Created"):
        assert words in described
    assert cli("describe", "sts", "db") == (
        1,
        "",
        'Error from server (NotFound): statefulsets.apps "db" not found\n',
    )


def test_several_kinds_are_got_together_each_with_its_table(servers, cli):
    applied(servers, cli, ip("a.default"), stateful_set(), pool())
    assert cli("get", "ip,sts,ippool", "-o", "name").stdout == (
        "ip.kubeovn.io/a.default\nstatefulset.apps/web\nippool.kubeovn.io/pool-1\n"
    )
    tables = cli("get", "ip,sts,ippool").stdout.split("\n\n")
    assert [table.splitlines()[1].split()[0] for table in tables] == [
        "ip.kubeovn.io/a.default", "statefulset.apps/web", "ippool.kubeovn.io/pool-1",
    ]  # fmt: skip


def test_what_one_file_made_of_several_kinds_it_deletes(servers, cli):
    documents = [ip("a.default"), stateful_set(), machine(), pool(), ip("p.prod")]
    applied(servers, cli, *documents)
    done = cli("delete", "-f", "-", stdin=given(*documents))
    assert (done.code, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == [
        'ip.kubeovn.io "a.default" deleted',
        'ip.kubeovn.io "p.prod" deleted',
        'ippool.kubeovn.io "pool-1" deleted',
        'statefulset.apps "web" deleted',
        'virtualmachine.kubevirt.io "vm1" deleted',
    ]
    assert cli("get", "ip,sts,vm,ippool", "-A", "-o", "name").stdout == ""
    again = cli("delete", "-f", "-", stdin=given(*documents))
    assert (again.code, again.stderr.count("(NotFound)")) == (1, 5)
    assert cli("delete", "--ignore-not-found", "-f", "-", stdin=given(*documents)) == (0, "", "")


def test_owners_are_deleted_by_name_in_their_namespace_and_waited_for(servers, cli):
    applied(servers, cli, stateful_set(), machine())
    assert cli("delete", "vm", "vm1").stderr == (
        'Error from server (NotFound): virtualmachines.kubevirt.io "vm1" not found\n'
    )
    assert cli("delete", "vm/vm1", "-n", "prod") == (0, 'virtualmachine.kubevirt.io "vm1" deleted\n', "")
    late = cli("wait", "--for=delete", "sts/web", "--timeout=0.2s")
    assert late == (1, "", "error: timed out waiting for the condition on statefulsets/web\n")
    assert cli("delete", "sts", "web", "--wait=false").code == 0
    assert cli("wait", "--for=delete", "sts/web") == (0, "", "")
    assert cli("get", "sts,vm", "-A", "-o", "name").stdout == ""
