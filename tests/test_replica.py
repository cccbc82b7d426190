"""The replica: what ovsdb-server sends, in every form it sends it, against python-ovs' own reading of it."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import ovs.db.data
import ovs.db.types
import pytest
from builders import Cloud, Tables, diff_to_json, initial, reservation, row_of, to_json, update2, uuid_of
from hypothesis import given
from hypothesis import strategies as st

from ovnreserve.model.reservation import external_ids_of
from ovnreserve.model.resource import (
    KIND,
    KIND_LEDGER,
    KIND_POOL,
    KIND_RESERVATION,
    NAME,
    RECORD_KINDS,
    REVISION,
    UID,
    WRITER,
)
from ovnreserve.model.topology import RowChanges
from ovnreserve.northbound.columns import COLUMNS, INTEGER, MAP, OPTIONAL, SCALAR, SET, Kind
from ovnreserve.northbound.replica import Replica

SWITCH, OTHER, PORT, SECOND = (uuid_of(number) for number in range(1, 5))

TYPES: dict[Kind, Any] = {
    SCALAR: "string",
    INTEGER: "integer",
    OPTIONAL: {"key": "string", "min": 0, "max": 1},
    SET: {"key": "string", "min": 0, "max": "unlimited"},
    MAP: {"key": "string", "value": "string", "min": 0, "max": "unlimited"},
}
COLUMN_OF: dict[Kind, tuple[str, str]] = {
    SCALAR: ("Logical_Switch_Port", "type"),
    INTEGER: ("NB_Global", "sb_cfg"),
    OPTIONAL: ("Logical_Switch_Port", "dynamic_addresses"),
    SET: ("Logical_Switch_Port", "addresses"),
    MAP: ("Logical_Switch_Port", "external_ids"),
}

texts = st.text(st.sampled_from("abc"), max_size=2)
values: dict[Kind, st.SearchStrategy[Any]] = {
    SCALAR: texts,
    INTEGER: st.integers(0, 9),
    OPTIONAL: st.none() | texts,
    SET: st.frozensets(texts, max_size=4),
    MAP: st.dictionaries(texts, texts, max_size=4),
}
kinds_and_values = st.sampled_from(list(Kind)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(values[kind], min_size=2, max_size=5))
)


def updates(table: str, **rows: Any) -> dict[str, Any]:
    """Rows by their short names a, b, c."""
    return {table: {uuid_of("abc".index(name)): row for name, row in rows.items()}}


# ---- values and their diffs ------------------------------------------------------------------------------------------


@given(kinds_and_values)
def test_a_column_follows_the_diffs_of_python_ovs(case: tuple[Kind, list[Any]]) -> None:
    """Datum.diff makes what is sent, as ovsdb-server's C does; reading it must give the new value each time."""
    kind, history = case
    table, column = COLUMN_OF[kind]
    type_ = ovs.db.types.Type.from_json(TYPES[kind])
    replica = Replica()
    replica.update({table: {PORT: {"insert": {column: to_json(kind, history[0])}}}})
    for old, new in pairwise(history):
        if old == new:
            continue
        datum = ovs.db.data.Datum.from_json(type_, to_json(kind, old))
        diff = datum.diff(ovs.db.data.Datum.from_json(type_, to_json(kind, new)))
        replica.update({table: {PORT: {"modify": {column: diff.to_json()}}}})
        assert replica.tables[table][PORT][column] == new


@given(kinds_and_values)
def test_a_value_reads_as_python_ovs_reads_it(case: tuple[Kind, list[Any]]) -> None:
    kind, [value, *_] = case
    table, column = COLUMN_OF[kind]
    datum = ovs.db.data.Datum.from_json(ovs.db.types.Type.from_json(TYPES[kind]), to_json(kind, value))
    replica = Replica()
    replica.update({table: {PORT: {"insert": {column: datum.to_json()}}}})
    assert replica.tables[table][PORT][column] == value


@pytest.mark.parametrize("form", [["uuid", PORT], ["set", [["uuid", PORT]]]])
def test_a_set_of_one_is_sent_with_or_without_its_wrapping(form: Any) -> None:
    replica = Replica()
    replica.update({"Logical_Switch": {SWITCH: {"insert": {"ports": form}}}})
    assert replica.tables["Logical_Switch"][SWITCH]["ports"] == {PORT}


def test_an_optional_value_goes_when_an_empty_set_comes() -> None:
    replica = Replica()
    replica.update(updates("Logical_Switch_Port", a={"insert": {"up": True, "dynamic_addresses": "x"}}))
    replica.update(updates("Logical_Switch_Port", a={"modify": {"up": ["set", []], "dynamic_addresses": "y"}}))
    row = replica.tables["Logical_Switch_Port"][uuid_of(0)]
    assert (row["up"], row["dynamic_addresses"]) == (None, "y")


def test_columns_that_are_not_sent_have_their_types_empty_value() -> None:
    replica = Replica()
    for table in COLUMNS:
        replica.update({table: {PORT: {"insert": {}}}})
        assert replica.tables[table][PORT] == row_of(table)


def test_a_map_whose_key_goes_and_another_comes_in_one_change() -> None:
    replica = Replica()
    replica.update(updates("DNS", a={"insert": {"external_ids": ["map", [["k", "1"], ["gone", "2"], ["same", "3"]]]}}))
    diff = ["map", [["k", "new"], ["gone", "2"], ["come", "4"]]]
    replica.update(updates("DNS", a={"modify": {"external_ids": diff}}))
    assert replica.tables["DNS"][uuid_of(0)]["external_ids"] == {"k": "new", "same": "3", "come": "4"}


def test_a_map_is_a_new_dict_after_a_change_so_that_readers_keep_what_they_had() -> None:
    replica = Replica()
    replica.update(updates("DNS", a={"insert": {"external_ids": ["map", [["k", "1"]]]}}))
    before = replica.tables["DNS"][uuid_of(0)]["external_ids"]
    replica.update(updates("DNS", a={"modify": {"external_ids": ["map", [["k", "2"]]]}}))
    assert before == {"k": "1"}


# ---- whole histories -------------------------------------------------------------------------------------------------

rows = st.fixed_dictionaries({
    "Logical_Switch_Port": st.dictionaries(
        st.sampled_from([PORT, SECOND]),
        st.builds(
            lambda name, addresses, up: row_of("Logical_Switch_Port", name=name, addresses=addresses, up=up),
            texts, values[SET], st.sampled_from([None, True, False]),
        ),
    ),
    "Logical_Switch": st.dictionaries(
        st.sampled_from([SWITCH, OTHER]),
        st.builds(
            lambda ports, config: row_of("Logical_Switch", ports=ports, other_config=config),
            st.frozensets(st.sampled_from([PORT, SECOND])), values[MAP],
        ),
    ),
    "DNS": st.dictionaries(
        st.sampled_from([uuid_of(8), uuid_of(9)]),
        st.builds(
            lambda kind, name, uid: row_of("DNS", external_ids={KIND: kind, NAME: name, UID: uid, REVISION: uid}),
            st.sampled_from([KIND_RESERVATION, KIND_RESERVATION, KIND_LEDGER, KIND_POOL, "other"]),
            st.sampled_from("ab"),
            texts,
        ),
    ),
})  # fmt: skip


def whole(tables: Tables) -> Tables:
    return {table: tables.get(table, {}) for table in COLUMNS}


def members_of(tables: Tables) -> set[tuple[str, str]]:
    return {(port, switch) for switch, row in tables["Logical_Switch"].items() for port in row["ports"]}


@given(st.lists(st.tuples(rows, st.sampled_from(["update", "replace", "wait"])), min_size=2, max_size=6))
def test_rows_and_indexes_follow_updates_and_dumps_alike(history: list[tuple[Tables, str]]) -> None:
    replica, sent = Replica(), whole({})
    joined: set[tuple[str, str]] = set()
    for tables, how in history:
        before, after = sent, whole(tables)
        sent = after
        if how == "replace":
            replica.replace(initial(after))
        else:
            replica.update(update2(before, after))
        assert replica.tables == after
        records = {uuid: row["external_ids"] for uuid, row in after["DNS"].items()}
        expected: dict[str, set[str]] = {}
        for uuid, ids in records.items():
            if ids[KIND] in RECORD_KINDS:
                expected.setdefault(ids[NAME], set()).add(uuid)
        assert replica.records == expected
        assert replica.ledger_rows == {uuid for uuid, ids in records.items() if ids[KIND] == KIND_LEDGER}
        if how != "wait":
            changes = replica.take_changes()
            for port, switch, is_member in changes.members:
                (joined.add if is_member else joined.discard)((port, switch))
            assert joined == members_of(after)
            assert replica.take_changes() == RowChanges({}, [])


@given(rows, rows)
def test_every_row_that_differs_is_named_with_the_columns_that_do(before: Tables, after: Tables) -> None:
    replica, old, new = Replica(), whole(before), whole(after)
    replica.replace(initial(old))
    replica.take_changes()
    replica.update(update2(old, new))
    changed = replica.take_changes().rows
    expected: dict[str, dict[str, set[str] | None]] = {}
    for table in COLUMNS:
        for uuid in old[table].keys() | new[table].keys():
            one, other = old[table].get(uuid), new[table].get(uuid)
            if one is None or other is None:
                expected.setdefault(table, {})[uuid] = None
            elif one != other:
                expected.setdefault(table, {})[uuid] = {c for c in one if one[c] != other[c]}
    assert changed == expected


@given(rows)
def test_a_dump_that_says_what_is_known_changes_nothing(tables: Tables) -> None:
    replica = Replica()
    replica.replace(initial(whole(tables)))
    replica.take_changes()
    replica.take_records()
    replica.replace(initial(whole(copy.deepcopy(tables))))
    assert replica.take_changes() == RowChanges({}, [])
    assert replica.take_records() == set()


def test_a_dump_in_which_ports_of_a_switch_came_and_went_names_only_these() -> None:
    replica, switch = Replica(), uuid_of(0)
    replica.replace(updates("Logical_Switch", a={"initial": {"ports": ["set", [["uuid", "p"], ["uuid", "q"]]]}}))
    replica.take_changes()
    replica.replace(updates("Logical_Switch", a={"initial": {"ports": ["set", [["uuid", "q"], ["uuid", "r"]]]}}))
    assert replica.take_changes().members == [("p", switch, False), ("r", switch, True)]


def test_a_row_that_came_and_changed_and_one_that_changed_and_went_are_both_wholly_changed() -> None:
    replica = Replica()
    replica.update(updates("NB_Global", a={"insert": {"nb_cfg": 1}}))
    replica.take_changes()
    replica.update(updates("NB_Global", a={"modify": {"nb_cfg": 2}}, b={"insert": {}}))
    replica.update(updates("NB_Global", a={"delete": None}, b={"modify": {"sb_cfg": 3}}))
    assert replica.take_changes().rows == {"NB_Global": {uuid_of(0): None, uuid_of(1): None}}


# ---- records and the ledger row --------------------------------------------------------------------------------------


def test_records_that_came_changed_or_went_are_named_once() -> None:
    cloud, r = Cloud(), reservation(SWITCH)
    replica = cloud.replica
    row = cloud.record(r)
    assert replica.take_records() == {r.name}
    assert replica.take_records() == set()
    cloud.change("DNS", row, external_ids={**external_ids_of(r), UID: "another"})
    assert replica.take_records() == {r.name}
    del cloud.tables["DNS"][row]
    cloud.sync()
    assert replica.take_records() == {r.name}
    assert replica.record(r.name) is None


def test_a_record_whose_name_is_changed_concerns_both_names() -> None:
    cloud, r = Cloud(), reservation(SWITCH)
    row = cloud.record(r)
    cloud.replica.take_records()
    cloud.change("DNS", row, external_ids={**external_ids_of(r), NAME: "other.default"})
    assert cloud.replica.take_records() == {r.name, "other.default"}
    assert cloud.replica.record(r.name) is None


def test_of_two_records_under_one_name_the_one_with_the_uid_is_found() -> None:
    cloud, one = Cloud(), reservation(SWITCH)
    other = one.with_(uid="other")
    rows_ = {r.uid: cloud.record(r) for r in (one, other)}
    for r in (one, other):
        assert cloud.replica.record(r.name, r.uid) == (rows_[r.uid], external_ids_of(r))
    assert cloud.replica.record(one.name, "a third") is None
    assert cloud.replica.record(one.name) is not None


def test_the_revision_is_that_of_the_ledger_row_and_none_without_one() -> None:
    cloud = Cloud()
    assert cloud.replica.revision is None
    row = cloud.ledger_row('{"a":1}')
    assert cloud.replica.revision == '{"a":1}'
    cloud.change("DNS", row, external_ids={KIND: KIND_LEDGER})
    assert cloud.replica.revision == ""
    cloud.change("DNS", row, external_ids={})
    assert cloud.replica.revision is None


def test_the_writer_is_who_the_ledger_row_names_if_anybody() -> None:
    cloud = Cloud()
    assert cloud.replica.writer == ""
    row = cloud.ledger_row('{"a":1}')
    assert cloud.replica.writer == ""
    cloud.change("DNS", row, external_ids={KIND: KIND_LEDGER, WRITER: "host-a"})
    assert cloud.replica.writer == "host-a"


def test_a_diff_is_sent_as_the_documentation_says() -> None:
    """Of the tests' own server: ovsdb-server(7), 4.1.15."""
    assert diff_to_json(SET, frozenset("ab"), frozenset("bc")) == ["set", ["a", "c"]]
    assert diff_to_json(SET, frozenset("ab"), frozenset("b")) == "a"
    assert diff_to_json(MAP, {"k": "1", "g": "2"}, {"k": "3"}) == ["map", [["g", "2"], ["k", "3"]]]
    assert diff_to_json(OPTIONAL, "x", None) == ["set", []]
