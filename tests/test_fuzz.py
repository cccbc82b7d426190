"""Whatever text comes from outside, every parser takes it or refuses it as documented, and raises nothing else.

What each parser makes of good and bad input stands in the tests of its own module; here is what holds for all input.
The same parsers are given more by `tools/fuzz`, whose targets check what these tests check.
"""

from __future__ import annotations

import importlib
import json
import re
from typing import Any

import msgspec
import pytest
from builders import MAC, uuid_of
from hypothesis import example, given
from hypothesis import strategies as st

import fuzz
from ovnreserve.api import selectors
from ovnreserve.api.http import _decoded
from ovnreserve.cli import manifests
from ovnreserve.cli.errors import ManifestError
from ovnreserve.model import exclude_ips
from ovnreserve.model.addresses import format_v4, parse_v4
from ovnreserve.model.documents import read_metadata
from ovnreserve.model.errors import MOST_CAUSES, Invalid, Refused
from ovnreserve.model.ip import Status, Wanted, read, read_patch, render
from ovnreserve.model.reservation import Reservation, external_ids_of, reservation_of
from ovnreserve.model.resource import RECORD, State
from ovnreserve.model.topology import Port, Switch, port_of, switch_of
from ovnreserve.plan import revision

GOOD: dict[str, Any] = {
    "apiVersion": "kubeovn.io/v1",
    "kind": "IP",
    "metadata": {"name": "vm-1.default", "labels": {"a": "b"}, "annotations": {"c": "d"}, "resourceVersion": "7"},
    "spec": {
        "subnet": "net", "podName": "vm-1", "namespace": "default", "podType": "VirtualMachine",
        "v4IpAddress": "10.0.0.9", "v6IpAddress": "fd00::9", "ipAddress": "10.0.0.9,fd00::9", "macAddress": MAC,
        "nodeName": "node-1", "containerID": "c", "attachIps": ["10.1.0.1"], "attachMacs": [MAC],
        "attachSubnets": ["other"],
    },
}  # fmt: skip
texts = st.text(st.characters(codec="utf-8"), max_size=40)
hostile = st.sampled_from(
    [
        "",
        "\n",
        "\x1b[2J",
        "\x00",
        "\u202e",
        "\u2028",
        "é",
        "A",
        "a b",
        "x" * 300,
        "a\n2026-01-01 injected",
        "-",
        ".",
        "a..b",
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts | hostile,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | hostile, inner, max_size=3),
    max_leaves=8,
)
# RFC 1123, 2.1, as the Kubernetes API conventions have it, written down here once more.
LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*").fullmatch


def places(document: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every field."""
    found = []
    for key, value in document.items():
        found.append((*path, key))
        if isinstance(value, dict):
            found += places(value, (*path, key))
    return found


@st.composite
def nearly_valid(draw: st.DrawFn) -> Any:
    """A good document of which some fields are gone, are something else, or are new."""
    document = json.loads(json.dumps(GOOD))
    for path in draw(st.lists(st.sampled_from(places(GOOD)), max_size=3)):
        place: Any = document
        for key in path[:-1]:
            place = place.get(key) if isinstance(place, dict) else None
        if isinstance(place, dict):
            match draw(st.sampled_from(["change", "remove", "add"])):
                case "change":
                    place[path[-1]] = draw(json_values)
                case "remove":
                    place.pop(path[-1], None)
                case "add":
                    place[draw(texts | hostile)] = draw(json_values)
    return document


def refused(call: Any, *arguments: Any) -> Any:
    """What it returns; None where it refuses, as a client may be told."""
    try:
        return call(*arguments)
    except Refused as refusal:
        status = refusal.status()
        assert 400 <= status["code"] < 500
        assert json.loads(msgspec.json.encode(status)) == json.loads(json.dumps(status))
        causes = status["details"].get("causes", ())
        assert len(causes) <= MOST_CAUSES
        for text in (status["message"], status["details"].get("name", ""), *(t for c in causes for t in c.values())):
            assert text.isprintable()
            assert len(text) <= 8192 * 8
        return None


# ---- what fuzzing runs -----------------------------------------------------------------------------------------------

MODULES = {name: importlib.import_module(f"fuzz.{name}") for name in fuzz.TARGETS}


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name, target in MODULES.items() for seed in target.SEEDS])
def test_every_target_of_fuzzing_takes_its_seeds(name: str, seed: bytes) -> None:
    MODULES[name].check(seed)


@given(st.sampled_from(fuzz.TARGETS), st.binary(max_size=60) | texts.map(str.encode))
def test_every_target_of_fuzzing_takes_any_bytes(name: str, data: bytes) -> None:
    MODULES[name].check(data)


# ---- documents -------------------------------------------------------------------------------------------------------


@given(nearly_valid() | json_values)
@example(GOOD)
def test_a_document_is_wanted_or_refused_and_a_name_that_is_let_in_follows_rfc_1123(document: Any) -> None:
    wanted = refused(read, document)
    if wanted is not None:
        assert SUBDOMAIN(wanted.name)
        assert len(wanted.name) <= 253
        assert SUBDOMAIN(wanted.pod_name)
        assert re.fullmatch(LABEL, wanted.namespace)
        assert wanted.node_name == "" or SUBDOMAIN(wanted.node_name)
        assert all(text.isprintable() for text in (wanted.subnet, wanted.container_id, *wanted.attach_ips))
        assert wanted.mac is None or re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", wanted.mac)


@given(nearly_valid().filter(lambda document: isinstance(document, dict)))
def test_what_is_let_in_comes_back_from_its_record_as_it_was(document: Any) -> None:
    wanted = refused(read, document)
    if wanted is not None and wanted.name == f"{wanted.pod_name}.{wanted.namespace}":
        r = reserved(wanted)
        assert reservation_of(external_ids_of(r)) == r
        msgspec.json.encode(render(r, Status("Reserved", ())))


def reserved(wanted: Wanted) -> Reservation:
    return Reservation(
        name=wanted.name, uid="uid", switch=uuid_of(1), subnet=wanted.subnet, pod_name=wanted.pod_name,
        namespace=wanted.namespace, pod_type=wanted.pod_type, v4=wanted.v4 or 1, v6=wanted.v6, mac=wanted.mac or MAC,
        state=State.HELD, created=0, resource_version=1, labels=wanted.labels, annotations=wanted.annotations,
        node_name=wanted.node_name, container_id=wanted.container_id, attach_ips=wanted.attach_ips,
        attach_macs=wanted.attach_macs, attach_subnets=wanted.attach_subnets,
    )  # fmt: skip


@given(nearly_valid() | json_values, texts | hostile)
def test_a_patch_is_read_or_refused_whatever_the_name_it_is_for(patch: Any, name: str) -> None:
    refused(read_patch, patch, name)
    found = refused(read_metadata, patch, name)
    if found is not None:
        assert all(value is None or isinstance(value, str) for part in found[:2] for value in part.values())


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()) | texts.map(str.encode))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"9" * 5000)
@example(b"1e999")
@example(b'"\\ud800"')
@example(b"\xef\xbb\xbf{}")
def test_a_body_is_decoded_or_a_bad_request(content: bytes) -> None:
    refused(_decoded, content)


@pytest.mark.parametrize("unit", [b"[],", b"{},", b'{"a":1},'])
def test_a_body_of_too_many_values_is_refused_before_they_are_made(unit: bytes) -> None:
    with pytest.raises(Refused) as caught:
        _decoded(b"[" + unit * 4_000_001 + b"0]")
    assert caught.value.code == 413


@pytest.mark.parametrize("path", ["", "spec", "metadata"])
def test_of_what_nobody_knows_only_so_much_is_named(path: str) -> None:
    document = json.loads(json.dumps(GOOD))
    (document[path] if path else document).update({f"field-{number}": 1 for number in range(10_000)})
    with pytest.raises(Invalid) as caught:
        read(document)
    assert len(caught.value.causes) == MOST_CAUSES
    assert caught.value.message.endswith("and more]")


@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_a_map_has_at_most_a_thousand_keys(field: str) -> None:
    for count, is_refused in ((1000, False), (1001, True)):
        metadata = {"name": "vm-1.default", field: {f"key-{number}": "" for number in range(count)}}
        assert (refused(read, {**GOOD, "metadata": metadata}) is None) == is_refused


# ---- what is said of it ----------------------------------------------------------------------------------------------


@given(texts | hostile, texts | hostile)
def test_no_refusal_can_end_its_line(message: str, name: str) -> None:
    status = Refused(message * 3000, name=name).status()
    assert status["message"].isprintable()
    assert len(status["message"]) <= 8192 * 8  # as \\uXXXXXX
    assert status["details"].get("name", "").isprintable()


@given(texts | hostile | st.text(st.sampled_from("ab=!,() intom\n\x1b"), max_size=30))
def test_a_selector_is_read_or_refused_on_one_line(text: str) -> None:
    wanted = refused(selectors.parse, text)
    if wanted is not None:
        selectors.matches(wanted, {"a": "b"})
    refused(selectors.parse_fields, text, ("metadata.name",))


@pytest.mark.parametrize("text", ["a{}x", "a={}(", "a{}=b{}c", "a in (b){}c", "!{}", "{}a{}", "a=b{}{}c", "a,{}!a{}!"])
def test_a_long_selector_is_read_in_linear_time(text: str) -> None:
    refused(selectors.parse, text.format(" " * 200_000, " " * 200_000))  # quadratic, it takes minutes


# ---- manifests -------------------------------------------------------------------------------------------------------

lines = st.sampled_from(
    ["a: b", "a:", "- x", "  b: *x", "  c: &x y", "---", "...", "!!str a: b", "? [a]", "<<: *x", "{a: [b", "]}", "|",
     "  \t", "%YAML 1.1", "a: !!python/none x",
     "'", '"\\x00"', '"\\uD800"', "a: \u2028", "\x07", "\ufeff", "a: {a: b, a: c}"]
)  # fmt: skip


@given(
    st.lists(lines | texts, max_size=8).map(lambda some: "\n".join(some).encode())
    | st.binary(max_size=60)
    | texts.map(lambda text: text.encode("utf-16"))
    | json_values.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(["x.yaml", "x.json"]),
)
def test_a_manifest_is_read_or_refused_on_one_line(content: bytes, source: str) -> None:
    try:
        documents = [
            document for value in manifests.parse(content, source) for document in manifests._flatten(value, source)
        ]
    except ManifestError as error:
        assert str(error).replace("\t", " ").isprintable()
    else:
        for document in documents:
            refused(read, json.loads(json.dumps(document)))


# ---- what others write -----------------------------------------------------------------------------------------------

words = st.sampled_from(
    ["10.0.0.5", "10.0.0.9..10.0.0.12", "..", " ", "\n", "//", "/*", "*/", '"', ",", "0x", ":", "::1", "/24", "x"]
)
others = texts.filter(lambda text: "\0" not in text) | st.lists(words, max_size=12).map("".join)
addresses = st.frozensets(st.integers(parse_v4("10.0.0.2"), parse_v4("10.0.0.30")), max_size=8)
NETWORK = parse_v4("10.0.0.0"), 24


def text_of(ours: frozenset[int]) -> str:
    return exclude_ips.TokenRuns((address, address) for address in ours).text()


@given(addresses, addresses, others)
def test_others_text_stays_byte_for_byte_and_ours_is_read_by_northd(
    before: frozenset[int], after: frozenset[int], theirs: str
) -> None:
    value, mark = exclude_ips.join(text_of(before), theirs)
    for ours in (after, frozenset[int](), before, frozenset[int]()):
        value, mark = exclude_ips.join(text_of(ours), exclude_ips.split(value, mark)[1])
        assert exclude_ips.split(value, mark)[1] == theirs
        read_by_northd = exclude_ips.parse(value, *NETWORK).ranges
        assert ours <= {address for first, last in read_by_northd for address in range(first, last + 1)}
    assert (value, mark) == (theirs, "")


@given(others, st.none() | others | st.integers(0, 99).map(lambda length: f"{length} {'0' * 64}"))
def test_whatever_the_mark_says_nothing_of_the_value_is_lost(value: str, mark: str | None) -> None:
    ours, theirs = exclude_ips.split(value, mark)
    assert value in (theirs, f"{ours} {theirs}", ours + theirs)


@given(others, st.integers(0, (1 << 32) - 1), st.integers(0, 32))
def test_any_text_is_read_for_any_network(text: str, network: int, prefixlen: int) -> None:
    parsed = exclude_ips.parse(text, network, prefixlen)
    assert text.endswith(parsed.ignored)
    for first, last in parsed.ranges:
        assert format_v4(first)
        assert first <= last < 1 << 32
    for token in exclude_ips.tokens(text):
        for address in token.split(".."):
            parse_v4(address)


sets = st.frozensets(others, max_size=3)
maps = st.dictionaries(
    st.sampled_from(["subnet", "ipv6_prefix", "exclude_ips", "ovnreserve/excluded", "ovnreserve/provider", "x"]), others
)


@given(st.fixed_dictionaries({
    "name": others, "type": others, "addresses": sets, "dynamic_addresses": st.none() | others, "port_security": sets,
    "options": maps, "external_ids": maps, "up": st.none() | st.booleans(), "enabled": st.none() | st.booleans(),
    "dhcpv4_options": st.none() | others, "dhcpv6_options": st.none() | others, "health_checks": sets,
}))  # fmt: skip
def test_any_row_of_a_port_is_a_port(row: dict[str, Any]) -> None:
    port = port_of(uuid_of(1), row, None)
    assert isinstance(port, Port)
    assert port.addresses == row["addresses"]
    macs, v4, v6 = port.own()
    assert all(re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac) for mac in macs)
    assert all(0 <= address < 1 << 32 for address in v4)
    assert all(0 <= address < 1 << 128 for address in v6)
    assert port.pending in (True, False)


@given(st.fixed_dictionaries({"name": others, "other_config": maps, "external_ids": maps}))
def test_any_row_of_a_switch_is_a_switch(row: dict[str, Any]) -> None:
    switch = switch_of(uuid_of(1), row)
    assert isinstance(switch, Switch)
    assert switch.name == row["name"]
    assert switch.provider
    assert switch.v4 is None or switch.v4.bits == 32


IDS = external_ids_of(reserved(read(GOOD)))


@given(st.sampled_from(sorted(IDS)), others | json_values.map(json.dumps))
def test_a_garbled_record_is_none_or_one_that_could_be_ours(key: str, text: str) -> None:
    r = reservation_of({**IDS, key: text})
    if r is not None:
        assert SUBDOMAIN(r.name)
        assert reservation_of(external_ids_of(r)) == r


@given(st.dictionaries(st.sampled_from(sorted(json.loads(IDS[RECORD]))), json_values, max_size=3))
def test_a_garbled_field_of_a_record_is_none_or_one_that_could_be_ours(fields: dict[str, Any]) -> None:
    r = reservation_of({**IDS, RECORD: json.dumps({**json.loads(IDS[RECORD]), **fields})})
    if r is not None:
        assert SUBDOMAIN(r.name)
        assert r.subnet.isprintable()
        assert reservation_of(external_ids_of(r)) == r
        msgspec.json.encode(render(r, Status("Reserved", ())))


@given(others | json_values.map(json.dumps) | st.dictionaries(texts, st.integers()).map(json.dumps))
@example('{"a":' + "9" * 4300 + "}")
@example('{"a":1e400,"b":true,"c":-1,"d":2}')
def test_any_text_of_the_ledger_row_is_a_vector_that_can_be_counted_on(text: str) -> None:
    vector = revision.decode(text)
    following = {incarnation: count + 1 for incarnation, count in vector.items()}
    assert revision.decode(revision.encode(vector)) == vector
    assert revision.compare(following, vector) in (revision.Relation.GREATER, revision.Relation.EQUAL)
    assert json.loads(revision.encode(following)) == following
