"""The IP resource: documents in, checked field by field, and documents out, in the shape of docs/api.md."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import reservation, uuid_of
from hypothesis import given
from hypothesis import strategies as st

from ovnreserve.model.addresses import parse_v4, parse_v6
from ovnreserve.model.documents import Condition, read_metadata, timestamp
from ovnreserve.model.errors import BadRequest, Invalid, Refused
from ovnreserve.model.ip import Status, Subnet, Wanted, read, render

SPEC = {"subnet": "net", "podName": "vm-1", "namespace": "default"}


def document(spec: Any = None, metadata: Any = None, **top: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": metadata or {"name": "vm-1.default"},
        "spec": SPEC if spec is None else spec, **top,
    }  # fmt: skip


def with_spec(**fields: Any) -> Wanted:
    return read(document({**SPEC, **fields}))


def causes(bad: dict[str, Any]) -> list[tuple[str, str, str]]:
    with pytest.raises(Invalid) as caught:
        read(bad)
    status = caught.value.status()
    assert status["code"] == 422
    assert status["reason"] == "Invalid"
    return [(cause["field"], cause["reason"], cause["message"]) for cause in status["details"]["causes"]]


def cause(**fields: Any) -> tuple[str, str, str]:
    [only] = causes(document({**SPEC, **fields}))
    return only


def refusal(check: Callable[..., object], *arguments: Any) -> Refused | None:
    """Why the arguments were refused, if they were; it can be sent."""
    try:
        check(*arguments)
    except Refused as refused:
        found = refused
    else:
        return None
    assert found.code in (400, 422)
    msgspec.json.encode(found.status())
    return found


# ---- good documents --------------------------------------------------------------------------------------------------


def test_the_least_document_gives_nothing_that_it_does_not_say() -> None:
    assert with_spec() == Wanted(name="vm-1.default", subnet="net", pod_name="vm-1", namespace="default", pod_type="")


def test_a_document_with_everything_is_read_whole() -> None:
    metadata = {
        "name": "vm-1.default", "labels": {"app": "x"}, "annotations": {"note": "any\ntext"}, "resourceVersion": "12",
    }  # fmt: skip
    found = read(document({
        **SPEC, "podType": "VirtualMachine", "v4IpAddress": "10.0.0.5", "v6IpAddress": "FD00:0::5",
        "macAddress": "0A-00-00-00-00-05", "nodeName": "node", "containerID": "c", "attachIps": ["10.1.0.5"],
        "attachMacs": ["0a:00:00:00:00:06"], "attachSubnets": ["other"],
    }, metadata))  # fmt: skip
    assert found == Wanted(
        name="vm-1.default", subnet="net", pod_name="vm-1", namespace="default", pod_type="VirtualMachine",
        v4=parse_v4("10.0.0.5"), v6=parse_v6("fd00::5"), mac="0a:00:00:00:00:05", node_name="node", container_id="c",
        attach_ips=("10.1.0.5",), attach_macs=("0a:00:00:00:00:06",), attach_subnets=("other",), labels={"app": "x"},
        annotations={"note": "any\ntext"}, resource_version="12",
    )  # fmt: skip


@pytest.mark.parametrize(
    "field", ["podType", "v4IpAddress", "v6IpAddress", "ipAddress", "macAddress", "nodeName", "containerID"]
)
@pytest.mark.parametrize("empty", [None, ""])
def test_absent_null_and_empty_are_the_same(field: str, empty: Any) -> None:
    assert with_spec(**{field: empty}) == with_spec()


@pytest.mark.parametrize("field", ["attachIps", "attachMacs", "attachSubnets"])
@pytest.mark.parametrize("empty", [None, "", []])
def test_absent_null_empty_and_no_members_are_the_same(field: str, empty: Any) -> None:
    assert with_spec(**{field: empty}) == with_spec()


@pytest.mark.parametrize(
    "metadata", [{"labels": None}, {"labels": {}}, {"annotations": None}, {"resourceVersion": None}]
)
def test_metadata_that_says_nothing_says_nothing(metadata: dict[str, Any]) -> None:
    assert read(document(metadata={"name": "vm-1.default", **metadata})) == with_spec()


def test_a_label_without_a_value_has_an_empty_one() -> None:
    assert read(document(metadata={"name": "vm-1.default", "labels": {"a": None}})).labels == {"a": ""}


@pytest.mark.parametrize(
    ("text", "v4", "v6"),
    [
        ("10.0.0.5", "10.0.0.5", None),
        ("fd00::5", None, "fd00::5"),
        ("10.0.0.5,fd00::5", "10.0.0.5", "fd00::5"),
        ("fd00::5, 10.0.0.5", "10.0.0.5", "fd00::5"),
    ],
)
def test_ip_address_is_both_addresses_in_one(text: str, v4: str | None, v6: str | None) -> None:
    found = with_spec(ipAddress=text)
    assert (found.v4, found.v6) == (v4 and parse_v4(v4), v6 and parse_v6(v6))
    assert with_spec(ipAddress=text, v4IpAddress=v4, v6IpAddress=v6) == found


def test_what_get_prints_can_be_applied_again() -> None:
    r = reservation(uuid_of(1), v6="fd00::9", pod_type="StatefulSet", labels={"app": "x"}, annotations={"n": "1"})
    printed = json.loads(msgspec.json.encode(render(r, Status("Bound", ()))))
    found = read(printed)
    assert (found.name, found.v4, found.v6, found.mac, found.pod_type) == (r.name, r.v4, r.v6, r.mac, r.pod_type)
    assert found.resource_version == str(r.resource_version)


# ---- bad documents ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [None, [], "IP", 5, True])
def test_what_is_no_mapping_is_a_bad_request(bad: Any) -> None:
    with pytest.raises(BadRequest, match="the object provided is not a mapping"):
        read(bad)


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("Pod", "v1"),
        ("IP", "kubeovn.io/v2"),
        ("ip", "kubeovn.io/v1"),
        (None, None),
        (["IP"], {}),
        ("I\nP", "kubeovn.io/v1"),
    ],
)
def test_what_is_no_ip_is_a_bad_request_that_names_what_it_is(kind: Any, version: Any) -> None:
    with pytest.raises(BadRequest, match=r"no resource for kind .* in version .*: this is kind IP of kubeovn\.io/v1"):
        read({"kind": kind, "apiVersion": version})


def test_every_field_that_is_wrong_is_named_at_once() -> None:
    found = causes({
        "apiVersion": "kubeovn.io/v1", "kind": "IP", "extra": 1,
        "metadata": {"name": "Not A Name", "shoe": 1, "labels": {"-": "x", "ok": "not ok"}, "annotations": {"/": ""}},
        "spec": {"subnet": 5, "podName": "A", "namespace": "a.b", "podType": "Job", "v4IpAddress": "10.0.0", "hat": 1,
                 "v6IpAddress": "x", "macAddress": "01:00:00:00:00:00", "attachIps": [1]},
    })  # fmt: skip
    assert [(field, reason) for field, reason, _message in found] == [
        ("extra", "FieldValueInvalid"),
        ("metadata.shoe", "FieldValueInvalid"),
        ("metadata.name", "FieldValueInvalid"),
        ("metadata.labels", "FieldValueInvalid"),
        ("metadata.labels", "FieldValueInvalid"),
        ("metadata.annotations", "FieldValueInvalid"),
        ("spec.subnet", "FieldValueInvalid"),
        ("spec.hat", "FieldValueInvalid"),
        ("spec.attachIps", "FieldValueInvalid"),
        ("spec.subnet", "FieldValueRequired"),
        ("spec.podName", "FieldValueInvalid"),
        ("spec.namespace", "FieldValueInvalid"),
        ("spec.podType", "FieldValueNotSupported"),
        ("spec.v4IpAddress", "FieldValueInvalid"),
        ("spec.v6IpAddress", "FieldValueInvalid"),
        ("spec.macAddress", "FieldValueInvalid"),
    ]


def test_an_empty_document_lacks_all_that_is_required() -> None:
    assert [field for field, _reason, _message in causes({"apiVersion": "kubeovn.io/v1", "kind": "IP"})] == [
        "metadata.name", "spec", "spec.subnet", "spec.podName", "spec.namespace",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"subnet": None}, ("spec.subnet", "FieldValueRequired", "Required value")),
        ({"podName": ""}, ("spec.podName", "FieldValueRequired", "Required value")),
        ({"podType": "Job"}, ("spec.podType", "FieldValueNotSupported",
                              'Unsupported value: "Job": supported values: "", "StatefulSet", "VirtualMachine"')),
        ({"staticIP": "x"}, ("spec.staticIP", "FieldValueInvalid", 'unknown field "spec.staticIP"')),
        ({"v4IpAddress": "fd00::5"}, ("spec.v4IpAddress", "FieldValueInvalid",
                                      'Invalid value: "fd00::5": must be an IPv4 address')),
        ({"v6IpAddress": "10.0.0.5"}, ("spec.v6IpAddress", "FieldValueInvalid",
                                       'Invalid value: "10.0.0.5": must be an IPv6 address')),
        ({"v4IpAddress": 5}, ("spec.v4IpAddress", "FieldValueInvalid", "Invalid value: 5: must be a string")),
        ({"nodeName": ["a"]}, ("spec.nodeName", "FieldValueInvalid", "Invalid value: a list: must be a string")),
        ({"ipAddress": "10.0.0.5,x"}, ("spec.ipAddress", "FieldValueInvalid",
                                       'Invalid value: "10.0.0.5,x": must be IPv4, IPv6 or both')),
        ({"ipAddress": "10.0.0.5", "v4IpAddress": "10.0.0.6"},
         ("spec.ipAddress", "FieldValueInvalid", 'Invalid value: "10.0.0.5": contradicts the other fields')),
        ({"ipAddress": "10.0.0.5,10.0.0.6"},
         ("spec.ipAddress", "FieldValueInvalid", 'Invalid value: "10.0.0.5,10.0.0.6": contradicts the other fields')),
        ({"macAddress": "00:00:00:00:00:00"},
         ("spec.macAddress", "FieldValueInvalid", 'Invalid value: "00:00:00:00:00:00": must not be zero')),
        ({"macAddress": "01:00:5e:00:00:01"},
         ("spec.macAddress", "FieldValueInvalid",
          'Invalid value: "01:00:5e:00:00:01": must not be a multicast address')),
        ({"attachIps": "10.0.0.5"},
         ("spec.attachIps", "FieldValueInvalid", 'Invalid value: "10.0.0.5": must be a list of strings')),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_value_and_what_it_must_be(
    fields: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    assert cause(**fields) == expected


@pytest.mark.parametrize("control", ["\n", "\x00", "\x1b", "\u2028", "\x7f", "\u202e"])
@pytest.mark.parametrize("field", ["subnet", "nodeName", "containerID"])
def test_control_characters_are_refused_and_shown_escaped(field: str, control: str) -> None:
    found = causes(document({**SPEC, field: f"a{control}b"}))
    name, _reason, message = found[0]
    assert name == f"spec.{field}"
    assert message.endswith("must not contain control characters")
    assert message.isprintable()


def test_a_resource_version_is_text() -> None:
    [(field, _reason, message)] = causes(document(metadata={"name": "vm-1.default", "resourceVersion": 12}))
    assert (field, message) == ("metadata.resourceVersion", "Invalid value: 12: must be a string")


def test_annotations_have_their_limit() -> None:
    metadata = {"name": "vm-1.default", "annotations": {"a": "x" * 300_000}}
    [(field, reason, _message)] = causes(document(metadata=metadata))
    assert (field, reason) == ("metadata.annotations", "FieldValueTooLong")


def test_what_somebody_sent_comes_back_on_one_line_of_bounded_length() -> None:
    with pytest.raises(Invalid) as caught:
        read(document({**SPEC, "podName": 'a"\\\n' + "b" * 10_000}, {"name": "x" * 10_000 + "\n"}))
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 2_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [*SPEC, "podType", "v4IpAddress", "v6IpAddress", "ipAddress", "macAddress", "nodeName", "containerID",
          "attachIps",
          "attachMacs", "attachSubnets"]  # fmt: skip
addresses = st.text(st.sampled_from("0123456789abcdef.:, "), max_size=20)


@given(
    st.fixed_dictionaries(
        {"apiVersion": st.just("kubeovn.io/v1"), "kind": st.just("IP")},
        optional={
            "metadata": json_values
            | st.dictionaries(st.sampled_from(["name", "labels", "annotations", "resourceVersion", "x"]), json_values),
            "spec": json_values | st.dictionaries(st.sampled_from(FIELDS), json_values | addresses),
            "status": json_values,
            "more": json_values,
        },
    )
    | json_values
)
def test_no_json_raises_anything_but_a_refusal_that_can_be_sent(value: Any) -> None:
    refused = refusal(read, value)
    assert refused is None or refused.message.isprintable()


@pytest.mark.parametrize("depth", [100, 900, 960])
def test_what_is_nested_deeper_than_anybody_looks_is_refused(depth: int) -> None:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    for bad in ({"nodeName": value}, {"attachIps": value}):
        with pytest.raises(Invalid):
            read(document({**SPEC, **bad}))
    with pytest.raises(Invalid):
        read(document(metadata={"name": "vm-1.default", "labels": value}))


def test_a_number_of_any_length_is_refused_in_few_words() -> None:
    _field, _reason, message = cause(nodeName=10**4000)
    assert len(message) < 100


@given(
    json_values | st.fixed_dictionaries({"metadata": st.dictionaries(st.sampled_from(["name", "labels"]), json_values)})
)
def test_no_patch_raises_anything_but_a_refusal(value: Any) -> None:
    refusal(read_metadata, value, "vm-1.default")


# ---- patches ---------------------------------------------------------------------------------------------------------


def test_a_patch_gives_and_removes_labels_and_annotations() -> None:
    patch = {"metadata": {"labels": {"a": "1", "b": None}, "annotations": {"c": None}}}
    assert read_metadata(patch, "vm-1.default") == ({"a": "1", "b": None}, {"c": None}, "")
    assert read_metadata({}, "vm-1.default") == ({}, {}, "")
    assert read_metadata({"metadata": {"name": "vm-1.default"}}, "vm-1.default") == ({}, {}, "")


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"name": "other"}, "metadata.name"),
        ({"labels": {"a": "not ok"}}, "metadata.labels"),
        ({"labels": {"-": "x"}}, "metadata.labels"),
        ({"labels": {"a": 5}}, "metadata.labels[a]"),
        ({"labels": "a=b"}, "metadata.labels"),
        ({"annotations": []}, "metadata.annotations"),
        ({"annotations": {"/": "x"}}, "metadata.annotations"),
        ({"annotations": {"a": "x" * 300_000}}, "metadata.annotations"),
        ("a", "metadata"),
    ],
)
def test_a_bad_patch_names_its_field(metadata: Any, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_metadata({"metadata": metadata}, "vm-1.default")
    assert [error.field for error in caught.value.causes] == [field]


# ---- documents out ---------------------------------------------------------------------------------------------------


def documented(title: str) -> dict[str, Any]:
    """The JSON under a heading of docs/api.md."""
    text = (Path(__file__).parent.parent / "docs" / "api.md").read_text()
    block = re.search(rf"## {title}\n.*?```json\n(.*?)```", text, re.DOTALL)
    assert block is not None
    found: dict[str, Any] = json.loads(block[1].replace(", …]", "]"))
    return found


CONDITION = Condition("Reserved", "True", "Reserved", "…", "…")
OPTIONAL = {"annotations", "deletionTimestamp"}  # left out where there are none, as Kubernetes does


def test_an_ip_is_rendered_in_the_documented_shape() -> None:
    expected = documented("IP")
    r = reservation(
        uuid_of(1), v4="10.16.0.13", subnet="ovn-default", pod_type="VirtualMachine", mac="02:6f:76:12:34:56", uid="…",
        resource_version=12, created=1795460400,
    )  # fmt: skip
    found = json.loads(msgspec.json.encode(render(r, Status("Reserved", (CONDITION,)))))
    expected["metadata"] = {key: value for key, value in expected["metadata"].items() if key not in OPTIONAL}
    assert found == expected


def test_annotations_and_the_time_of_deletion_are_rendered_where_there_are_any() -> None:
    r = reservation(uuid_of(1), annotations={"a": "b"}, deleted=0, created=0)
    metadata = json.loads(msgspec.json.encode(render(r, Status("Releasing", ())).metadata))
    assert metadata["annotations"] == {"a": "b"}
    assert metadata["deletionTimestamp"] == metadata["creationTimestamp"] == "1970-01-01T00:00:00Z"


def test_both_addresses_stand_in_ip_address_and_own_labels_beside_ours() -> None:
    labels = {"app": "x", "ovn.kubernetes.io/subnet": "lie"}
    found = render(reservation(uuid_of(1), v6="fd00::9", labels=labels, node_name="n"), Status("Bound", ()))
    assert (found.spec.v4IpAddress, found.spec.v6IpAddress) == ("10.0.0.9", "fd00::9")
    assert found.spec.ipAddress == "10.0.0.9,fd00::9"
    assert found.metadata.labels == {
        "app": "x", "ovn.kubernetes.io/ip_reserved": "true", "ovn.kubernetes.io/node-name": "n",
        "ovn.kubernetes.io/subnet": "net",
    }  # fmt: skip


@given(st.integers(0, 253_402_300_799))
def test_a_time_is_rfc_3339_in_utc(seconds: int) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", timestamp(seconds))


@pytest.mark.parametrize(
    ("v4", "v6", "block", "protocol"),
    [
        ("10.16.0.0/16", "", "10.16.0.0/16", "IPv4"),
        ("", "fd00::/64", "fd00::/64", "IPv6"),
        ("10.16.0.0/16", "fd00::/64", "10.16.0.0/16,fd00::/64", "Dual"),
    ],
)
def test_a_subnet_is_rendered_with_exact_counts_of_any_size(v4: str, v6: str, block: str, protocol: str) -> None:
    subnet = Subnet(
        name="net", uid="u", provider="ovn", vpc="lr0", v4=v4, v6=v6, gateways=("10.16.0.1", "fd00::1"),
        exclude_ips=("10.16.0.1", "10.16.0.5..10.16.0.9"), counts=(1, 2, 3, 2**64 - 5),
        conditions=(Condition("Conflicted", "False", "NoConflict", "nobody", "2026-01-01T00:00:00Z"),),
        quarantined=(1, 2),
    )  # fmt: skip
    assert subnet.document() == {
        "apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": "net", "uid": "u"},
        "spec": {"cidrBlock": block, "gateway": "10.16.0.1,fd00::1",
                 "excludeIps": ["10.16.0.1", "10.16.0.5..10.16.0.9"],
                 "provider": "ovn", "protocol": protocol, "vpc": "lr0"},
        "status": {"v4usingIPs": 1, "v4availableIPs": 2, "v6usingIPs": 3, "v6availableIPs": 18446744073709551611,
                   "conditions": [{"type": "Conflicted", "status": "False", "reason": "NoConflict",
                                   "message": "nobody", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                   "v4quarantinedIPs": 1, "v6quarantinedIPs": 2},
    }  # fmt: skip
