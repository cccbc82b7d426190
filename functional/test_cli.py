"""The command line against a real daemon: the same words, tables and exit status as kubectl's."""

from __future__ import annotations

import json

import yaml

DOCUMENT = """\
apiVersion: kubeovn.io/v1
kind: IP
metadata:
  name: {name}.default
  labels: {{team: {team}}}
spec:
  subnet: {subnet}
  podName: {name}
  namespace: default
"""


def document(name: str, subnet: str = "lan", team: str = "red") -> str:
    return DOCUMENT.format(name=name, subnet=subnet, team=team)


def make_switch(servers, name: str = "lan", **other_config: str) -> None:
    settings = [f"other_config:{key}={json.dumps(value)}" for key, value in other_config.items()]
    servers.nbctl("ls-add", name, "--", "set", "logical_switch", name, *settings)


def test_each_document_has_its_answer_and_a_bad_one_does_not_stop_the_others(servers, cli):
    make_switch(servers, subnet="10.0.0.0/24")
    documents = "---\n".join([document("a"), document("b", subnet="nowhere"), document("c")])
    done = cli("apply", "-f", "-", stdin=documents)
    assert done.code == 1
    assert done.stdout == "ip.kubeovn.io/a.default created\nip.kubeovn.io/c.default created\n"
    assert done.stderr == (
        'The IP "b.default" is invalid: spec.subnet: Invalid value: "nowhere": '
        "no logical switch has this name (ovn-nbctl ls-list)\n"
    )


def test_several_documents_are_one_northbound_transaction(servers, cli):
    make_switch(servers, subnet="10.0.0.0/16")
    documents = "---\n".join(document(f"pod-{number}") for number in range(100))
    assert cli("create", "-f", "-", stdin=documents).stdout.count(" created\n") == 100
    revision = servers.nbctl("get", "dns", ledger_row(servers), "external_ids:ovnreserve/revision")
    assert list(json.loads(json.loads(revision)).values()) == [1]


def ledger_row(servers) -> str:
    return servers.nbctl("--bare", "--columns=_uuid", "find", "dns", "external_ids:ovnreserve/kind=ledger").strip()


def test_applying_again_changes_nothing_and_new_labels_configure(servers, cli):
    make_switch(servers, subnet="10.0.0.0/24")
    assert cli("apply", "-f", "-", stdin=document("a")).stdout == "ip.kubeovn.io/a.default created\n"
    assert cli("apply", "-f", "-", stdin=document("a")).stdout == "ip.kubeovn.io/a.default unchanged\n"
    done = cli("apply", "-f", "-", stdin=document("a", team="blue"))
    assert done.stdout == "ip.kubeovn.io/a.default configured\n"
    found = cli("create", "-f", "-", stdin=document("a"))
    assert (found.code, found.stderr) == (
        1,
        'Error from server (AlreadyExists): error when creating "STDIN": ips.kubeovn.io "a.default" already exists\n',
    )


def test_what_get_prints_can_be_applied(servers, cli):
    make_switch(servers, subnet="10.0.0.0/24")
    cli("apply", "-f", "-", stdin=document("a"))
    for form in ("yaml", "json"):
        printed = cli("get", "ip", "a.default", "-o", form).stdout
        assert cli("apply", "-f", "-", stdin=printed) == (0, "ip.kubeovn.io/a.default unchanged\n", "")


def test_get_prints_tables_names_yaml_and_json_of_one_of_all_and_of_those_with_a_label(servers, cli):
    make_switch(servers, subnet="10.0.0.0/24", ipv6_prefix="fd00::/64")
    cli("apply", "-f", "-", stdin=document("a") + "---\n" + document("b", team="blue"))
    one = json.loads(cli("get", "ip", "a.default", "-o", "json").stdout)
    assert one["spec"]["v4IpAddress"] == "10.0.0.254"
    assert one["spec"]["v6IpAddress"] == "fd00::ffff:ffff:ffff:ff7f"
    assert one["spec"]["ipAddress"] == "10.0.0.254,fd00::ffff:ffff:ffff:ff7f"
    assert yaml.safe_load(cli("get", "ip", "a.default", "-o", "yaml").stdout) == one
    everything = json.loads(cli("get", "ips", "-o", "json").stdout)
    assert [item["metadata"]["name"] for item in everything["items"]] == ["a.default", "b.default"]
    assert cli("get", "ip", "-o", "name").stdout == "ip.kubeovn.io/a.default\nip.kubeovn.io/b.default\n"
    assert cli("get", "ip", "-l", "team=blue", "-o", "name").stdout == "ip.kubeovn.io/b.default\n"
    assert cli("get", "ip", "-l", "team notin (blue)", "-o", "name").stdout == "ip.kubeovn.io/a.default\n"
    assert cli("get", "ip", "-l", "team=green") == (0, "", "No resources found\n")
    head, row = cli("get", "ip", "a.default").stdout.splitlines()
    assert head.split() == ["NAME", "V4IP", "V6IP", "MAC", "NODE", "SUBNET"]
    mac = one["spec"]["macAddress"]
    assert row.split() == ["a.default", "10.0.0.254", "fd00::ffff:ffff:ffff:ff7f", mac, "<none>", "lan"]
    assert "Reserved" in cli("get", "ip", "-o", "wide").stdout


def test_what_is_not_there_is_not_found(cli):
    assert cli("get", "ip", "x.default") == (
        1,
        "",
        'Error from server (NotFound): ips.kubeovn.io "x.default" not found\n',
    )
    assert cli("delete", "ip", "x.default").code == 1
    assert cli("delete", "ip", "x.default", "--ignore-not-found").code == 0
    assert cli("get", "ip") == (0, "", "No resources found\n")


def test_get_subnet_counts_every_address_once(servers, cli):
    make_switch(servers, subnet="10.0.0.0/24", exclude_ips="10.0.0.1 10.0.0.10..10.0.0.19")
    servers.nbctl("--wait=sb", "lsp-add", "lan", "other", "--", "lsp-set-addresses", "other", "dynamic")
    cli("apply", "-f", "-", stdin=document("a"))
    head, row = cli("get", "subnet", "lan").stdout.splitlines()
    columns = "NAME PROVIDER VPC PROTOCOL CIDR GATEWAY V4USED V4AVAILABLE V6USED V6AVAILABLE EXCLUDEIPS"
    assert head.split() == columns.split()
    used, excluded = 2, 11
    excludes = '["10.0.0.1","10.0.0.10..10.0.0.19"]'
    counts = [str(used), str(254 - used - excluded), "0", "0"]
    assert row.split() == ["lan", "ovn", "<none>", "IPv4", "10.0.0.0/24", "<none>", *counts, excludes]


def test_describe_tells_the_conditions_and_what_happened(servers, cli):
    make_switch(servers, subnet="10.0.0.0/24")
    cli("apply", "-f", "-", stdin=document("a"))
    servers.nbctl("lsp-add", "lan", "a.default", "--", "lsp-set-addresses", "a.default", "dynamic")
    assert cli("wait", "--for=condition=Bound", "ip/a.default", "--timeout=10s").code == 0
    described = cli("describe", "ip", "a.default").stdout
    for words in ("a.default", "Bound", "Conflicted", "Events:", "Reserved", "Binding"):
        assert words in described


def test_wait_meets_a_condition_a_deletion_or_its_timeout(servers, cli):
    make_switch(servers, subnet="10.0.0.0/24")
    cli("apply", "-f", "-", stdin=document("a"))
    met = cli("wait", "--for=condition=Reserved", "ip/a.default")
    assert met == (0, "ip.kubeovn.io/a.default condition met\n", "")
    late = cli("wait", "--for=condition=Bound", "ip/a.default", "--timeout=0.2s")
    assert late == (1, "", "error: timed out waiting for the condition on ips/a.default\n")
    assert cli("delete", "ip", "a.default", "--wait=false").code == 0
    assert cli("wait", "--for=delete", "ip/a.default").code == 0


def test_waiting_for_ovn_northd_makes_it_enforced(servers, cli):
    make_switch(servers, subnet="10.0.0.0/24")
    assert cli("apply", "-f", "-", "--wait=sb", stdin=document("a")) == (0, "ip.kubeovn.io/a.default created\n", "")
    met = cli("wait", "--for=condition=Enforced", "ip/a.default", "--timeout=0s")
    assert met.stdout == "ip.kubeovn.io/a.default condition met\n"


def test_waiting_for_an_ovn_northd_that_does_not_answer_ends_with_a_warning(servers, cli):
    make_switch(servers, subnet="10.0.0.0/24")
    servers.northd.pause()
    done = cli("apply", "-f", "-", "--wait=sb", "--timeout=0.5s", stdin=document("a"))
    servers.northd.resume()
    assert (done.code, done.stdout) == (0, "ip.kubeovn.io/a.default created\n")
    assert done.stderr.startswith("Warning: ovn-northd has not answered yet")


def test_a_daemon_that_is_not_there_is_told_in_one_line_and_a_hint(tmp_path, cli):
    done = cli("status", f"--server={tmp_path}/nothing.sock")
    assert done.code == 1
    assert done.stderr.splitlines()[0] == (
        f"ovnreserve: {tmp_path}/nothing.sock: connection failed (No such file or directory)"
    )
