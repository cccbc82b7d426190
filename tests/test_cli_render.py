"""What is printed has kubectl's words and layout; texts that are also kubectl's were taken from kubectl 1.32."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnreserve.cli import durations, render, resources, yamlout
from ovnreserve.cli.errors import (
    CommandError,
    StatusError,
    UnreachableError,
    UsageError,
    printable,
    status_text,
)

IP = {
    "apiVersion": "kubeovn.io/v1",
    "kind": "IP",
    "metadata": {
        "name": "vm-1.default",
        "uid": "89d05a26-294a-450b-ab63-1eaa957984d7",
        "creationTimestamp": "2026-11-23T19:00:00Z",
        "labels": {"ovn.kubernetes.io/subnet": "ovn-default", "ovn.kubernetes.io/ip_reserved": "true"},
        "annotations": {},
        "finalizers": ["ovnreserve/release"],
    },
    "spec": {
        "podName": "vm-1",
        "namespace": "default",
        "podType": "VirtualMachine",
        "subnet": "ovn-default",
        "v4IpAddress": "10.16.0.13",
        "v6IpAddress": "",
        "macAddress": "02:6f:76:12:34:56",
        "nodeName": "",
        "attachIps": ["10.17.0.2", "10.17.0.3"],
    },
    "status": {
        "phase": "Reserved",
        "conditions": [
            {"type": "Reserved", "status": "True", "reason": "Reserved", "message": "10.16.0.13"},
            {"type": "Enforced", "status": "Unknown", "reason": "", "message": "nobody\nhas waited"},
        ],
    },
}
SUBNET = {
    "kind": "Subnet",
    "metadata": {"name": "ovn-default"},
    "spec": {
        "cidrBlock": "10.16.0.0/16",
        "gateway": "10.16.0.1",
        "excludeIps": ["10.16.0.1", "10.16.0.5..10.16.0.9"],
        "provider": "ovn",
        "protocol": "IPv4",
    },
    "status": {"v4usingIPs": 7, "v4availableIPs": 65526, "v6usingIPs": 0, "v6availableIPs": 2**64},
}
STATUS = {
    "version": "0.1.0",
    "pid": 4711,
    "state": "active",
    "database": {"remote": "unix:/run/ovn/ovnnb_db.sock", "connected": True, "since": "x", "schema": "7.0.0"},
    "reservations": {"total": 12, "bound": 3, "pending": 0},
    "subnets": 4,
    "ports": 0,
    "revision": {"a1b2": 17, "c3": 1},
    "ledger": "/var/lib/ovnreserve/ledger.db",
    "uptime": 125.5,
}


EXPECTED_YAML = """\
metadata:
  annotations:
    colon: 'a: b'
    json: |
      {"a": 1}
    lines: |-
      a
       b
    text: 'it''s #1'
  creationTimestamp: "2026-11-23T19:00:00Z"
  labels:
    reserved: "true"
    sexagesimal: "11:22:33:44:55:06"
spec:
  a: []
  b: ""
  d: {}
  list:
  - x:
    - a
    "y": 1
  - []
  mac: 00:00:00:86:C6:36
  "n": null
"""


def test_the_table_of_ips():
    assert render.table("IP", [IP]).split("\n") == [
        "NAME           V4IP         V6IP     MAC                 NODE     SUBNET",
        "vm-1.default   10.16.0.13   <none>   02:6f:76:12:34:56   <none>   ovn-default",
    ]


def test_the_wide_table_of_ips():
    header, row = render.table("IP", [IP], wide=True).split("\n")
    assert (
        header == render.table("IP", [IP]).split("\n")[0] + "        PHASE      PODTYPE          NAMESPACE   POD    AGE"
    )
    assert row.split()[6:10] == ["Reserved", "VirtualMachine", "default", "vm-1"]


def test_the_table_of_subnets():
    header, row = render.table("Subnet", [SUBNET]).split("\n")
    assert header.split() == [
        *("NAME", "PROVIDER", "VPC", "PROTOCOL", "CIDR", "GATEWAY", "V4USED", "V4AVAILABLE", "V6USED"),
        *("V6AVAILABLE", "EXCLUDEIPS"),
    ]
    assert row.split() == [
        *("ovn-default", "ovn", "<none>", "IPv4", "10.16.0.0/16", "10.16.0.1", "7", "65526", "0"),
        *("18446744073709551616", '["10.16.0.1","10.16.0.5..10.16.0.9"]'),
    ]


def test_the_wide_table_of_subnets_counts_what_is_in_quarantine():
    wide = {**SUBNET, "status": {**SUBNET["status"], "v4quarantinedIPs": 3, "v6quarantinedIPs": 0}}
    header, row = render.table("Subnet", [wide], wide=True).split("\n")
    assert header.split()[11:] == ["V4QUARANTINED", "V6QUARANTINED", "AGE"]
    assert row.split()[11:13] == ["3", "0"]


def test_a_pool_is_shown_as_kube_ovn_does_and_its_namespaces_where_there_is_room() -> None:
    pool = {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IPPool",
        "metadata": {"name": "pool-1"},
        "spec": {"subnet": "lan", "namespaces": ["red"], "ips": ["10.0.0.9", "fd00::/64"]},
        "status": {"v4UsingIPs": 1, "v4AvailableIPs": 0, "v6UsingIPs": 0, "v6AvailableIPs": (1 << 64) - 1},
    }
    header, row = render.table("IPPool", [pool]).split("\n")
    assert header.split() == ["NAME", "SUBNET", "IPS", "V4USED", "V4AVAILABLE", "V6USED", "V6AVAILABLE"]
    assert row.split() == ["pool-1", "lan", '["10.0.0.9","fd00::/64"]', "1", "0", "0", "18446744073709551615"]
    assert render.table("IPPool", [pool], wide=True).split("\n")[1].split()[7] == '["red"]'
    assert "  V6 Available IPs:  18446744073709551615" in render.describe(pool, [])


def test_a_table_without_headers_and_with_kinds():
    assert render.table("IP", [IP], headers=False, full_names=True).startswith("ip.kubeovn.io/vm-1.default   10.16")


def test_a_narrow_column_is_six_wide():
    assert render.align([("A", "b")], space=3, minimum=6) == "A     b"


@pytest.mark.parametrize("broken", [{}, {"spec": None, "metadata": [], "status": "x"}, {"spec": {"subnet": {"a": 1}}}])
def test_an_object_of_an_odd_shape_is_shown_all_the_same(broken):
    assert render.table("IP", [broken], wide=True)
    assert render.describe(broken, [])
    assert render.status(broken)


def test_nothing_from_the_server_drives_the_terminal():
    evil = {"metadata": {"name": "a\x1b[31m\nb"}, "spec": {"subnet": "c\rd"}}
    assert "\x1b" not in render.table("IP", [evil])
    assert len(render.table("IP", [evil]).split("\n")) == 2
    assert "\x1b" not in render.describe(evil, [{"message": "\x1b[2J"}])
    assert printable("\x1b[31mé\x9b\t\n") == "\\x1b[31mé\\x9b\t\n"


def test_a_description():
    event = {
        "type": "Warning",
        "reason": "Squatter",
        "message": "port x holds it",
        "count": 3,
        "source": {"component": "ovnreserved"},
    }
    assert render.describe(IP, [event]).split("\n") == [
        "Name:         vm-1.default",
        "Labels:       ovn.kubernetes.io/ip_reserved=true",
        "              ovn.kubernetes.io/subnet=ovn-default",
        "Annotations:  <none>",
        "API Version:  kubeovn.io/v1",
        "Kind:         IP",
        "UID:          89d05a26-294a-450b-ab63-1eaa957984d7",
        "Created:      2026-11-23T19:00:00Z",
        "Finalizers:   ovnreserve/release",
        "Spec:",
        "  Pod Name:       vm-1",
        "  Namespace:      default",
        "  Pod Type:       VirtualMachine",
        "  Subnet:         ovn-default",
        "  V4 IP Address:  10.16.0.13",
        "  V6 IP Address:  <none>",
        "  MAC Address:    02:6f:76:12:34:56",
        "  Node Name:      <none>",
        "  Attach IPs:     10.17.0.2",
        "                  10.17.0.3",
        "Status:",
        "  Phase:  Reserved",
        "Conditions:",
        "  Type      Status   Reason    Age        Message",
        "  ----      ------   ------    ---        -------",
        "  Reserved  True     Reserved  <unknown>  10.16.0.13",
        "  Enforced  Unknown  <none>    <unknown>  nobody...",
        "Events:",
        "  Type     Reason    Age                            From         Message",
        "  ----     ------    ---                            ----         -------",
        "  Warning  Squatter  <unknown> (x3 over <unknown>)  ovnreserved  port x holds it",
    ]


def test_a_description_without_events():
    assert render.describe(SUBNET, []).endswith("  V6 Available IPs:  18446744073709551616\nEvents:  <none>")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("podName", "Pod Name"),
        ("v4IpAddress", "V4 IP Address"),
        ("v4usingIPs", "V4 Using IPs"),
        ("containerID", "Container ID"),
        ("attachMacs", "Attach MACs"),
        ("cidrBlock", "CIDR Block"),
        ("excludeIps", "Exclude IPs"),
        ("phase", "Phase"),
    ],
)
def test_labels_of_fields(name, label):
    assert render.title(name) == label


def test_the_status_of_the_daemon():
    assert render.status(STATUS).split("\n") == [
        "Status: active",
        "Version: 0.1.0",
        "PID: 4711",
        "Uptime: 2m5s",
        "Database: unix:/run/ovn/ovnnb_db.sock (connected since x, schema 7.0.0)",
        "Reservations: 12 (3 bound, 0 pending)",
        "Subnets: 4",
        "Ports: 0",
        "Revision: a1b2:17, c3:1",
        "Ledger: /var/lib/ovnreserve/ledger.db",
    ]


def test_what_is_found_wrong_with_the_database_is_a_warning_in_the_status():
    text = render.status(STATUS | {"findings": [{"reason": "MacPrefixIsOurs", "message": "it is\x1bours"}]})
    assert "Warning: it is\\x1bours" in text.split("\n")
    assert "Warning" not in render.status(STATUS | {"findings": []})


def test_the_status_counts_the_ports_that_have_an_ip_that_is_not_reserved():
    lines = render.status({**STATUS, "ports": 120, "born": 100}).split("\n")
    assert "Ports: 120 (100 with an IP that is not reserved)" in lines


def test_the_status_of_a_standby_names_who_wrote_last():
    standby = STATUS | {"state": "standby", "writer": "host-a (pid 4711, /run/ovn/ovnreserved.sock)\x1b[2J"}
    last = render.status(standby).split("\n")[-1]
    assert last == "Last Writer: host-a (pid 4711, /run/ovn/ovnreserved.sock)\\x1b[2J"
    assert "Last Writer" not in render.status(standby | {"state": "active"})
    assert "Last Writer" not in render.status(standby | {"writer": ""})


def test_the_status_of_a_daemon_without_database():
    text = render.status({"state": "disconnected", "database": {"remote": "tcp:[::1]:6641", "connected": False}})
    assert "Status: disconnected\n" in text
    assert "Database: tcp:[::1]:6641 (not connected)\n" in text


def invalid(*causes: tuple[str, str]) -> dict[str, object]:
    return {
        "reason": "Invalid",
        "code": 422,
        "message": 'IP.kubeovn.io "x" is invalid: [spec.subnet: Required value]',
        "details": {
            "name": "x",
            "kind": "IP",
            "causes": [{"field": field, "message": message} for field, message in causes],
        },
    }


def test_one_cause_stands_on_the_same_line():
    status = invalid(("spec.subnet", 'Invalid value: "b": field is immutable'))
    assert status_text(status) == 'The IP "x" is invalid: spec.subnet: Invalid value: "b": field is immutable'


def test_several_causes_stand_on_lines_of_their_own_each_once():
    causes = [
        ("spec.subnet", "Required value"),
        ("spec.podName", "Required value"),
        ("spec.subnet", "Required value"),
    ]
    assert status_text(invalid(*causes)) == (
        'The IP "x" is invalid: \n* spec.subnet: Required value\n* spec.podName: Required value'
    )


def test_one_of_many_that_are_invalid_stands_on_one_line():
    assert status_text(invalid(("a", "b"), ("c", "d")), 'error when creating "f": ', alone=False) == (
        'Error from server (Invalid): error when creating "f": IP.kubeovn.io "x" is invalid: '
        "[spec.subnet: Required value]"
    )


def test_an_invalid_request_without_details_still_says_something():
    assert status_text({"reason": "Invalid", "message": "no"}) == "The request is invalid: no"
    assert status_text(invalid()).startswith('The IP "x" is invalid: IP.kubeovn.io "x" is invalid')


@pytest.mark.parametrize("reason", ["NotFound", "AlreadyExists", "Conflict", "ServiceUnavailable", "Timeout"])
def test_other_refusals(reason):
    error = StatusError({"reason": reason, "message": 'ips.kubeovn.io "x" …'})
    assert str(error) == f'Error from server ({reason}): ips.kubeovn.io "x" …'


def test_a_refusal_without_reason():
    assert str(StatusError({"message": "HTTP 502: bad gateway"})) == "Error from server: HTTP 502: bad gateway"


def test_the_words_of_our_own_errors():
    assert str(CommandError("no objects passed to apply")) == "error: no objects passed to apply"
    assert str(UsageError("unknown flag: --x", "get")) == (
        "error: unknown flag: --x\nSee 'ovnreserve get --help' for usage."
    )
    assert str(UsageError("unknown flag: --x")).endswith("See 'ovnreserve --help' for usage.")
    assert str(UnreachableError("/s", "connection failed (x)")) == "ovnreserve: /s: connection failed (x)"
    assert str(UnreachableError("/s", "x", "hint")) == "ovnreserve: /s: x\nhint"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1.5, "0s"),
        (0, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (599, "9m59s"),
        (600, "10m"),
        (179 * 60 + 59, "179m"),
        (3 * 3600, "3h"),
        (8 * 3600 - 1, "7h59m"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (8 * 86400 - 1, "7d23h"),
        (8 * 86400, "8d"),
        (729 * 86400, "729d"),
        (730 * 86400, "2y"),
        (731 * 86400, "2y1d"),
        (8 * 365 * 86400, "8y"),
    ],
)
def test_ages(seconds, text):
    assert durations.human(seconds) == text


@pytest.mark.parametrize("text", [None, "", "yesterday", "2026-11-23", "9999"])
def test_an_age_of_nothing_is_unknown(text):
    assert durations.since(text) == "<unknown>"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1m30s", 90),
        ("1.5h", 5400),
        ("100ms", 0.1),
        ("-1s", -1),
        ("0", 0),
        ("30", 30),
        (".5s", 0.5),
        ("1h2m3s4ms5us6ns", 3723.004005006),
    ],
)
def test_durations(text, seconds):
    assert durations.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "-", "+", "x", "1x", "s", "1.2.3s", ".s", "1m30x", "1 s", "٣s", "--1s", "1s-", "inf"]
)
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="time: invalid duration"):
        durations.parse(text)


@given(st.text("0123456789.hmsun-+x", max_size=8))
def test_a_duration_is_read_or_refused(text):
    try:
        assert isinstance(durations.parse(text), float)
    except ValueError as error:
        assert str(error) == f'time: invalid duration "{text}"'  # noqa: PT017 -- both ways are right


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["ip"], [("IP", [])]),
        (["ips", "a", "b"], [("IP", ["a", "b"])]),
        (
            ["ip.kubeovn.io/a", "IP/b", "subnet/c", "ip/d"],
            [("IP", ["a", "b"]), ("Subnet", ["c"]), ("IP", ["d"])],
        ),
        (["ip,subnets"], [("IP", []), ("Subnet", [])]),
        (["ippool,ip"], [("IPPool", []), ("IP", [])]),
        (["ippools.kubeovn.io", "x"], [("IPPool", ["x"])]),
        (["subnets.v1.kubeovn.io", "x"], [("Subnet", ["x"])]),
    ],
)
def test_how_resources_are_named(arguments, found):
    assert [(kind.kind, names) for kind, names in resources.targets(arguments)] == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pod"], 'error: the server doesn\'t have a resource type "pod"'),
        (["ip", "a", "ip/b"], "error: there is no need to specify a resource type as a separate argument"),
        (["ip/"], "error: arguments in resource/name form must have a single resource and name"),
        (["ip/a/b"], "error: arguments in resource/name form must have a single resource and name"),
        (["ip", ""], "error: resource name may not be empty"),
    ],
)
def test_how_resources_are_not_named(arguments, message):
    with pytest.raises(CommandError) as caught:
        resources.targets(arguments)
    assert str(caught.value).startswith(message)


def test_yaml_looks_as_kubectl_writes_it():
    value = {
        "spec": {
            "b": "",
            "a": [],
            "d": {},
            "mac": "00:00:00:86:C6:36",
            "n": None,
            "list": [{"y": 1, "x": ["a"]}, []],
        },
        "metadata": {
            "creationTimestamp": "2026-11-23T19:00:00Z",
            "labels": {"reserved": "true", "sexagesimal": "11:22:33:44:55:06"},
            "annotations": {"json": '{"a": 1}\n', "text": "it's #1", "lines": "a\n b", "colon": "a: b"},
        },
    }
    assert yamlout.dump(value) == EXPECTED_YAML


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_a_scalar_is_one_line(value):
    assert "\n" not in yamlout.scalar(value)


def test_status_says_what_the_problem_with_the_database_is_if_there_is_one() -> None:
    answer = {"state": "foreign", "database": {"remote": "unix:/x", "connected": True, "problem": "not\x1bours"}}
    assert "Problem: not\\x1bours" in render.status(answer).splitlines()
    answer["database"]["problem"] = ""
    assert "Problem" not in render.status(answer)
