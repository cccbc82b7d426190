"""The record in the northbound database rebuilds the reservation, and text that was garbled rebuilds nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import NOW, reservation, uuid_of
from hypothesis import example, given
from hypothesis import strategies as st

from ovnreserve.model.ip import Status, render
from ovnreserve.model.reservation import Reservation, dns_records_of, external_ids_of, reservation_of
from ovnreserve.model.resource import NAME, RECORD, SWITCH, UID, State

words = st.text(st.characters(codec="utf-8"), max_size=8)
maps = st.dictionaries(words, words, max_size=3)
lines = words.filter(str.isprintable)
somethings = lines.filter(bool)
labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,5}[a-z0-9])?", fullmatch=True)
lists = st.lists(lines, max_size=2).map(tuple)
macs = st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":"))
times = st.integers(0, 253_402_300_799)


@st.composite
def recorded(draw: st.DrawFn) -> Reservation:
    """Any reservation that a record may be of: one that is held or being released."""
    deleted = draw(st.none() | times)
    pod_name, namespace = ".".join(draw(st.lists(labels, min_size=1, max_size=2))), draw(labels)
    v4, v6 = draw(st.none() | st.integers(0, (1 << 32) - 1)), draw(st.none() | st.integers(0, (1 << 128) - 1))
    return Reservation(
        name=f"{pod_name}.{namespace}{draw(st.just('') | labels.map('.{}'.format))}", uid=draw(somethings),
        switch=draw(somethings), subnet=draw(somethings), pod_name=pod_name, namespace=namespace,
        pod_type=draw(st.sampled_from(["", "StatefulSet", "VirtualMachine"])),
        v4=v4, v6=v6 if v4 is not None else v6 or 1,
        mac=draw(macs), state=State.HELD if deleted is None else State.RELEASING, created=draw(times), deleted=deleted,
        resource_version=draw(st.integers(0, 1 << 60)), generation=draw(st.integers(0, 99)), labels=draw(maps),
        annotations=draw(maps), node_name=draw(lines), container_id=draw(lines), attach_ips=draw(lists),
        attach_macs=draw(lists), attach_subnets=draw(lists), reserved=draw(st.booleans()),
    )  # fmt: skip


@given(recorded())
def test_a_record_rebuilds_the_reservation_that_it_was_made_of(r: Reservation) -> None:
    assert reservation_of(external_ids_of(r)) == r


@given(recorded(), st.sampled_from(["default_web-0", "blue_default_web-0", "lsp-1", "UPPER", "é", "x" * 253]), lines)
def test_so_does_that_of_a_port_that_its_cms_calls_otherwise(r: Reservation, name: str, namespace: str) -> None:
    r = r.with_(name=name, namespace=namespace, pod_name=f"Pod of {name}")
    assert reservation_of(external_ids_of(r)) == r
    assert json.loads(external_ids_of(r)[RECORD])["port"] == name


def test_what_was_intended_is_held_once_its_record_is_found() -> None:
    r = reservation(uuid_of(1), state=State.INTENDED)
    assert reservation_of(external_ids_of(r)) == r.with_(state=State.HELD)


IDS = external_ids_of(reservation(uuid_of(1)))


@pytest.mark.parametrize("key", [NAME, UID, SWITCH, RECORD])
def test_without_one_of_its_keys_a_record_rebuilds_nothing(key: str) -> None:
    assert reservation_of({k: v for k, v in IDS.items() if k != key}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"v4": "10.0.0.300"}, {"v4": 5}, {"v6": "x"}, {"mac": None}, {"created": "yesterday"}, {"created": -1},
        {"created": 10**30}, {"created": 10**15}, {"deleted": 10**15}, {"rv": -1}, {"rv": 2**64}, {"gen": 10**30},
        {"labels": {"a": 1}}, {"attach": [[], []]}, {"subnet": None}, {"blocked": {"p": "x"}}, {"blocked": ["p"]},
    ],
)  # fmt: skip
def test_a_record_that_nobody_of_us_wrote_rebuilds_nothing(change: dict[str, Any]) -> None:
    assert reservation_of({**IDS, RECORD: json.dumps({**json.loads(IDS[RECORD]), **change})}) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("pod", value) for value in ("", "VM-1", "vm-1\n", "vm 1", "vm-2", "é")),
        *(("ns", value) for value in ("", "a.b", "default\x1b")),
        *(("mac", value) for value in ("", "rubbish", "02:6F:76:00:00:09", "2:6f:76:0:0:9", "02:6f:76:00:00:09\n")),
        *(("subnet", value) for value in ("", "net\n2026-01-01 injected")),
        ("node", "\u202e"),
        ("container", "\x00"),
        ("attach", [["a\n"], [], []]),
        ("by", ["a\n", 1]),
        ("v4", None),
    ],
)
def test_a_record_of_what_is_never_let_in_rebuilds_nothing(key: str, value: Any) -> None:
    record = {**json.loads(IDS[RECORD]), key: value}
    assert reservation_of({**IDS, RECORD: json.dumps(record)}) is None


@pytest.mark.parametrize(
    "name", ["", "vm-1", "vm-1.defaults", "vm-1.default.", "vm-1.default\n", "VM-1.default", "vm-2.default"]
)
def test_a_record_under_a_name_that_is_not_its_workloads_rebuilds_nothing(name: str) -> None:
    assert reservation_of({**IDS, NAME: name}) is None
    assert reservation_of({**IDS, NAME: "vm-1.default.net1.ovn"}) is not None


def test_only_what_is_not_reserved_says_that_it_is_retained() -> None:
    assert "retained" not in json.loads(IDS[RECORD])
    ids = external_ids_of(reservation(uuid_of(1), reserved=False))
    assert json.loads(ids[RECORD])["retained"] is True
    found = reservation_of(ids)
    assert found is not None
    assert not found.reserved


@pytest.mark.parametrize("value", [None, 0, "true", []])
def test_whether_it_is_retained_is_told_by_a_boolean(value: Any) -> None:
    assert reservation_of({**IDS, RECORD: json.dumps({**json.loads(IDS[RECORD]), "retained": value})}) is None


PORT = external_ids_of(reservation(uuid_of(1), "default_web-0", pod_name="web-0", namespace="default"))


@pytest.mark.parametrize(
    ("ids", "change"),
    [
        ({NAME: "default_web-1"}, {}),  # the name of another
        ({}, {"port": "default_web-1"}),
        ({}, {"port": None}),  # it is not named after its pod
        *(({NAME: name}, {"port": name}) for name in ("", "a b", "statefulset/default/web", "a\n", "x" * 254)),
        ({}, {"pod": ""}),
        ({}, {"pod": "web\n0"}),
        ({}, {"ns": "a\x1bb"}),
    ],
)
def test_a_record_of_a_port_says_its_name_and_whose_it_is(ids: dict[str, str], change: dict[str, Any]) -> None:
    assert reservation_of(PORT) is not None
    assert reservation_of({**PORT, **ids, RECORD: json.dumps({**json.loads(PORT[RECORD]), **change})}) is None


@given(st.text(max_size=40))
@example("{" * 5000)
@example('{"x":' + "[" * 5000)
@example("null")
@example("\ud800")
def test_no_text_raises(text: str) -> None:
    assert reservation_of({**IDS, RECORD: text}) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(json.loads(IDS[RECORD]))), json_values)
def test_whatever_it_rebuilds_can_be_shown(key: str, value: Any) -> None:
    r = reservation_of({**IDS, RECORD: json.dumps({**json.loads(IDS[RECORD]), key: value})})
    if r is not None:
        render(r, Status("Reserved", ()))


@given(st.dictionaries(st.sampled_from([NAME, UID, SWITCH, RECORD, "other"]), st.text()))
def test_no_external_ids_raise(ids: dict[str, str]) -> None:
    assert reservation_of(ids) is None


def test_a_record_of_a_later_program_with_more_in_it_is_read() -> None:
    more = {**json.loads(IDS[RECORD]), "new": [1, 2]}
    assert reservation_of({**IDS, RECORD: json.dumps(more)}) == reservation(uuid_of(1))


def test_the_record_is_small_and_says_nothing_that_is_empty() -> None:
    assert json.loads(IDS[RECORD]) == {
        "subnet": "net", "pod": "vm-1", "ns": "default", "mac": "02:6f:76:00:00:09", "created": NOW, "rv": 5,
        "v4": "10.0.0.9",
    }  # fmt: skip


def test_what_a_port_is_given_names_the_mac_and_then_the_addresses() -> None:
    assert reservation(uuid_of(1), v6="fd00::9").port_addresses == "02:6f:76:00:00:09 10.0.0.9 fd00::9"
    assert reservation(uuid_of(1), v4=None, v6="fd00::9").port_addresses == "02:6f:76:00:00:09 fd00::9"


def test_an_operator_who_attaches_the_row_to_a_switch_can_ask_for_the_name() -> None:
    assert dns_records_of(reservation(uuid_of(1), v6="fd00::9")) == {"vm-1.default": "10.0.0.9 fd00::9"}


@pytest.mark.parametrize(("state", "live"), [(state, state is not State.FAILED) for state in State])
def test_only_a_failed_reservation_keeps_nothing_from_anybody(state: State, *, live: bool) -> None:
    assert reservation(uuid_of(1), state=state).live is live
