"""From steps to operations: each write is guarded by what the plan has seen, and nothing else is written."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from builders import MAC, Cloud, context, reservation, wanted
from hypothesis import given, settings
from hypothesis import strategies as st

from ovnreserve.engine.batch import Batch
from ovnreserve.engine.work import Work
from ovnreserve.model import exclude_ips
from ovnreserve.model.errors import Refused
from ovnreserve.model.reservation import Reservation, dns_records_of, external_ids_of
from ovnreserve.model.resource import KIND, KIND_LEDGER, RECORD, RESOURCE_VERSION, REVISION, UID, WRITER, State
from ovnreserve.model.steps import (
    Barrier,
    DeletePort,
    DropRecord,
    PutRecord,
    SetEnabled,
    Step,
    UpdateRecord,
    WriteAddresses,
    WriteExcludes,
)
from ovnreserve.northbound.transactions import REVISION_BLAME, Operation, Operations
from ovnreserve.plan.outcome import Plan
from ovnreserve.plan.patch import Patch
from ovnreserve.plan.release import plan_drop, plan_release
from ovnreserve.plan.repair import plan_repair, plan_resume
from ovnreserve.plan.reserve import plan_apply
from ovnreserve.plan.squatters import plan_squatters
from ovnreserve.plan.update import plan_patch

NAME = "vm-1.default"
SEEN = (frozenset({"dynamic"}), f"{MAC} 10.0.0.2", "")


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def build(cloud: Cloud, *steps: Step, excludes: dict[str, str] | None = None, barrier: bool = False) -> Operations:
    operations = Operations(cloud.replica)
    operations.build([(NAME, step) for step in steps], excludes or {}, '{"me":1}', 100_000, barrier=barrier)
    return operations


def ours(operations: Operations) -> list[tuple[str, Operation]]:
    """(whose fault, operation) without the ledger row's, the comment and the commit."""
    both = list(zip(operations.blame, operations.operations, strict=True))
    return [pair for pair in both if pair[0] != REVISION_BLAME and pair[1]["op"] not in ("comment", "commit")]


def is_row(uuid: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", uuid]]]


def as_map(**values: str) -> list[Any]:
    return ["map", [[key, value] for key, value in values.items()]]


def as_json(values: dict[str, str]) -> list[Any]:
    return ["map", [[key, value] for key, value in values.items()]]


def waits_for(table: str, where: list[Any]) -> Operation:
    return {"op": "wait", "timeout": 0, "table": table, "where": where, "columns": ["_uuid"], "until": "!=", "rows": []}


# ---- the frame -------------------------------------------------------------------------------------------------------


def test_the_first_of_all_ledger_rows_is_made_where_there_is_none_in_between(cloud: Cloud) -> None:
    first, second, *_rest = build(cloud).operations
    where = [["external_ids", "includes", as_json({KIND: KIND_LEDGER})]]
    assert first == {
        "op": "wait", "timeout": 0, "table": "DNS", "where": where, "columns": ["_uuid"], "until": "==", "rows": [],
    }  # fmt: skip
    row = {"external_ids": as_json({KIND: KIND_LEDGER, REVISION: '{"me":1}', RESOURCE_VERSION: "100000"})}
    assert second == {"op": "insert", "table": "DNS", "row": row}


@pytest.mark.parametrize("ids", [{KIND: KIND_LEDGER, REVISION: '{"a":1}'}, {KIND: KIND_LEDGER}])
def test_the_revision_is_guarded_by_what_was_there_also_where_somebody_removed_it(
    cloud: Cloud, ids: dict[str, str]
) -> None:
    row = cloud.insert("DNS", external_ids=ids)
    operations = build(cloud)
    assert operations.operations[:2] == [
        waits_for("DNS", [*is_row(row), ["external_ids", "includes", as_json(ids)]]),
        {"op": "update", "table": "DNS", "where": is_row(row),
         "row": {"external_ids": as_json({KIND: KIND_LEDGER, REVISION: '{"me":1}', RESOURCE_VERSION: "100000"})}},
    ]  # fmt: skip
    assert operations.blame[:2] == [REVISION_BLAME, REVISION_BLAME]


def test_the_ledger_row_says_who_wrote_it_and_that_is_no_guard(cloud: Cloud) -> None:
    row = cloud.insert("DNS", external_ids={KIND: KIND_LEDGER, REVISION: '{"a":1}', WRITER: "another"})
    operations = Operations(cloud.replica, "host-b (pid 2, /run/ovn/ovnreserved.sock)")
    operations.build([], {}, '{"me":1}', 100_000)
    guard, write, *_rest = operations.operations
    assert guard["where"][-1] == ["external_ids", "includes", as_json({KIND: KIND_LEDGER, REVISION: '{"a":1}'})]
    assert write["where"] == is_row(row)
    said = {KIND: KIND_LEDGER, REVISION: '{"me":1}', RESOURCE_VERSION: "100000"}
    assert write["row"]["external_ids"] == as_json({**said, WRITER: "host-b (pid 2, /run/ovn/ovnreserved.sock)"})


def test_a_transaction_ends_with_a_comment_and_a_durable_commit(cloud: Cloud) -> None:
    *_rest, comment, commit = build(cloud, PutRecord(reservation("s", state=State.INTENDED))).operations
    assert comment == {"op": "comment", "comment": f"ovnreserve: reserve {NAME}"}
    assert commit == {"op": "commit", "durable": True}


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (PutRecord(reservation("s", state=State.INTENDED)), f"reserve {NAME}"),
        (PutRecord(reservation("s")), f"republish {NAME}"),
        (UpdateRecord(reservation("s")), f"update {NAME}"),
        (UpdateRecord(reservation("s", state=State.RELEASING, deleted=1)), f"release {NAME}"),
        (DropRecord(reservation("s")), f"free {NAME}"),
        (WriteAddresses("p", SEEN, frozenset(), NAME), f"bind {NAME}"),
        (Barrier(), "await ovn-northd"),
    ],
)
def test_the_comment_says_what_is_done_to_whom(cloud: Cloud, step: Step, said: str) -> None:
    assert build(cloud, step).operations[-2]["comment"] == f"ovnreserve: {said}"


def test_the_comment_of_a_repair_names_the_switch_and_that_of_many_is_short(cloud: Cloud) -> None:
    switch = cloud.switch()
    assert build(cloud, WriteExcludes(switch, frozenset())).operations[-2]["comment"] == "ovnreserve: repair net"
    many = Operations(cloud.replica)
    steps: list[tuple[str, Step]] = [
        (f"vm-{n}", PutRecord(reservation("s", f"vm-{n}.default", state=State.INTENDED))) for n in range(1000)
    ]
    many.build(steps, {}, "{}")
    comment = many.operations[-2]["comment"]
    assert comment.endswith(" and 980 more")
    assert len(comment) < 1000


@pytest.mark.parametrize(("steps", "asked"), [((), True), ((Barrier(),), False), ((Barrier(), Barrier()), True)])
def test_northd_is_asked_to_answer_once_a_transaction(cloud: Cloud, steps: tuple[Step, ...], *, asked: bool) -> None:
    assert ours(build(cloud, *steps, barrier=asked)) == [
        ("", {"op": "mutate", "table": "NB_Global", "where": [], "mutations": [["nb_cfg", "+=", 1]]})
    ]


def test_a_look_asks_and_writes_nothing(cloud: Cloud) -> None:
    operations = Operations(cloud.replica)
    operations.look()
    assert operations.operations == [{"op": "comment", "comment": "ovnreserve: look"}]


# ---- records ---------------------------------------------------------------------------------------------------------

R = reservation("s", v6="fd00::9")


def row_of(r: Reservation) -> dict[str, Any]:
    return {"records": as_json(dns_records_of(r)), "external_ids": as_json(external_ids_of(r))}


@pytest.mark.parametrize("step", [PutRecord(R), UpdateRecord(R)])
def test_a_record_that_is_not_there_is_inserted(cloud: Cloud, step: Step) -> None:
    assert ours(build(cloud, step)) == [(NAME, {"op": "insert", "table": "DNS", "row": row_of(R)})]


@pytest.mark.parametrize("make", [PutRecord, UpdateRecord])
def test_a_record_that_is_there_is_rewritten_if_it_is_as_it_was_seen(cloud: Cloud, make: Any) -> None:
    row = cloud.record(R)
    changed = R.with_(labels={"a": "b"})
    seen = {key: external_ids_of(R)[key] for key in (UID, RECORD)}
    assert ours(build(cloud, make(changed))) == [
        (NAME, waits_for("DNS", [*is_row(row), ["external_ids", "includes", as_json(seen)]])),
        (NAME, {"op": "update", "table": "DNS", "where": is_row(row), "row": row_of(changed)}),
    ]


@pytest.mark.parametrize("lost", [RECORD, UID])
def test_a_record_that_somebody_garbled_can_be_written_again(cloud: Cloud, lost: str) -> None:
    """A guard that waits for a key that is not there would never pass."""
    ids = {key: value for key, value in external_ids_of(R).items() if key != lost}
    cloud.insert("DNS", external_ids=ids)
    for _blame, operation in ours(build(cloud, PutRecord(R))):
        if operation["op"] == "wait":
            assert set(dict(operation["where"][1][2][1])) <= ids.keys()


def test_the_record_of_another_of_the_same_name_is_left_alone(cloud: Cloud) -> None:
    cloud.record(R.with_(uid="another"))
    assert ours(build(cloud, PutRecord(R))) == [(NAME, {"op": "insert", "table": "DNS", "row": row_of(R)})]
    assert ours(build(cloud, DropRecord(R))) == []


def test_a_record_is_deleted_with_all_copies_of_it(cloud: Cloud) -> None:
    rows = [cloud.record(R), cloud.record(R)]
    cloud.record(R.with_(uid="another"))
    assert ours(build(cloud, DropRecord(R))) == [
        (NAME, {"op": "delete", "table": "DNS", "where": is_row(row)}) for row in rows
    ]


def test_of_several_steps_for_one_record_the_last_counts(cloud: Cloud) -> None:
    labelled, released = R.with_(labels={"a": "b"}), R.with_(state=State.RELEASING, deleted=1)
    assert ours(build(cloud, PutRecord(R), UpdateRecord(labelled), UpdateRecord(released))) == [
        (NAME, {"op": "insert", "table": "DNS", "row": row_of(released)})
    ]
    row = cloud.record(R)
    operations = [operation for _blame, operation in ours(build(cloud, UpdateRecord(labelled), UpdateRecord(released)))]
    assert [operation["op"] for operation in operations] == ["wait", "update"]
    assert operations[1] == {"op": "update", "table": "DNS", "where": is_row(row), "row": row_of(released)}


def test_a_name_that_is_freed_and_taken_again_in_one_transaction_gets_a_new_row(cloud: Cloud) -> None:
    row = cloud.record(R)
    anew = R.with_(uid="another")
    assert ours(build(cloud, DropRecord(R), PutRecord(anew))) == [
        (NAME, {"op": "delete", "table": "DNS", "where": is_row(row)}),
        (NAME, {"op": "insert", "table": "DNS", "row": row_of(anew)}),
    ]


def test_a_port_that_comes_with_a_name_taken_again_is_not_guarded_by_the_record_that_went(cloud: Cloud) -> None:
    cloud.record(R)
    anew = R.with_(uid="another")
    bind = WriteAddresses("p", SEEN, frozenset({"x"}), NAME)
    operations = [operation for _blame, operation in ours(build(cloud, DropRecord(R), PutRecord(anew), bind))]
    assert [(operation["op"], operation["table"]) for operation in operations] == [
        ("delete", "DNS"), ("insert", "DNS"), ("wait", "Logical_Switch_Port"), ("update", "Logical_Switch_Port"),
    ]  # fmt: skip


# ---- ports -----------------------------------------------------------------------------------------------------------


def seen_port(port: str, dynamic: list[str]) -> Operation:
    row = {"addresses": ["set", ["dynamic"]], "dynamic_addresses": ["set", dynamic], "type": ""}
    return {
        "op": "wait", "timeout": 0, "table": "Logical_Switch_Port", "where": is_row(port),
        "columns": ["addresses", "dynamic_addresses", "type"], "until": "==", "rows": [row],
    }  # fmt: skip


def test_a_ports_addresses_are_written_if_it_and_the_record_are_as_they_were_seen(cloud: Cloud) -> None:
    record = cloud.record(R)
    guard, wait, update = ours(build(cloud, WriteAddresses("p", SEEN, frozenset({"b", "a"}), NAME)))
    assert guard[1]["where"][0] == is_row(record)[0]
    assert wait == (NAME, seen_port("p", [SEEN[1]]))
    row = {"addresses": ["set", ["a", "b"]]}
    assert update == (NAME, {"op": "update", "table": "Logical_Switch_Port", "where": is_row("p"), "row": row})


def test_a_port_without_dynamic_addresses_is_guarded_by_there_being_none(cloud: Cloud) -> None:
    seen = (frozenset({"dynamic"}), None, "")
    assert ours(build(cloud, WriteAddresses("p", seen, frozenset(), NAME)))[0] == (NAME, seen_port("p", []))


def test_a_port_is_deleted_from_its_switch_if_it_is_as_it_was_seen(cloud: Cloud) -> None:
    mutations = [["ports", "delete", ["set", [["uuid", "p"]]]]]
    assert ours(build(cloud, DeletePort("p", "s", SEEN))) == [
        (NAME, seen_port("p", [SEEN[1]])),
        (NAME, {"op": "mutate", "table": "Logical_Switch", "where": is_row("s"), "mutations": mutations}),
    ]


@pytest.mark.parametrize(
    ("was", "enabled", "guarded", "written"),
    [
        (None, False, [], [False]),
        (True, False, [True], [False]),
        (False, None, [False], []),
        (False, True, [False], [True]),
    ],
)
def test_a_port_is_enabled_or_disabled_if_it_and_the_record_are_as_they_were_seen(
    cloud: Cloud, was: bool | None, enabled: bool | None, guarded: list[bool], written: list[bool]
) -> None:
    record = cloud.record(R)
    cloud.send()
    found = [operation for _blame, operation in ours(build(cloud, SetEnabled("p", SEEN, was, enabled, NAME)))]
    assert found[0]["where"][0] == is_row(record)[0]
    table = {"table": "Logical_Switch_Port", "where": is_row("p")}
    assert found[1:] == [
        seen_port("p", [SEEN[1]]),
        {"op": "wait", "timeout": 0, **table, "columns": ["enabled"], "until": "==",
         "rows": [{"enabled": ["set", guarded]}]},
        {"op": "update", **table, "row": {"enabled": ["set", written]}},
    ]  # fmt: skip


def test_what_a_port_that_is_bound_in_the_same_transaction_has_enabled_is_guarded_too(cloud: Cloud) -> None:
    bind = WriteAddresses("p", SEEN, frozenset({"x"}), NAME)
    found = [operation for _blame, operation in ours(build(cloud, bind, SetEnabled("p", SEEN, None, False, NAME)))]
    assert [(operation["op"], operation.get("columns")) for operation in found] == [
        ("wait", ["addresses", "dynamic_addresses", "type"]), ("update", None), ("wait", ["enabled"]), ("update", None),
    ]  # fmt: skip


def test_a_row_is_guarded_once_since_a_second_guard_would_meet_what_was_written_in_between(cloud: Cloud) -> None:
    cloud.record(R)
    bind, bind_again = (WriteAddresses("p", SEEN, frozenset({text}), NAME) for text in "xy")
    steps = (PutRecord(R), bind, bind_again, UpdateRecord(R), DeletePort("p", "s", SEEN))  # fmt: skip
    operations = [operation["op"] for _blame, operation in ours(build(cloud, *steps))]
    assert operations == ["wait", "update", "wait", "update", "update", "mutate"]


# ---- exclude_ips -----------------------------------------------------------------------------------------------------

MARKED = exclude_ips.mark("10.0.0.9")


def write(cloud: Cloud, switch: str, text: str) -> list[Operation]:
    found = ours(build(cloud, excludes={switch: text}))
    assert {blame for blame, _operation in found} <= {switch}
    return [operation for _blame, operation in found]


def guard(switch: str, value: str, mark: str) -> Operation:
    return waits_for("Logical_Switch", [
        *is_row(switch), ["other_config", "includes", as_map(exclude_ips=value)],
        ["external_ids", "includes", as_json({"ovnreserve/excluded": mark})],
    ])  # fmt: skip


def mutate(switch: str, *mutations: list[Any]) -> Operation:
    return {"op": "mutate", "table": "Logical_Switch", "where": is_row(switch), "mutations": list(mutations)}


DELETE_VALUE = ["other_config", "delete", ["set", ["exclude_ips"]]]
DELETE_MARK = ["external_ids", "delete", ["set", ["ovnreserve/excluded"]]]


def insert_value(value: str) -> list[Any]:
    return ["other_config", "insert", as_map(exclude_ips=value)]


def insert_mark(mark: str) -> list[Any]:
    return ["external_ids", "insert", as_json({"ovnreserve/excluded": mark})]


def test_keys_that_are_absent_are_first_inserted_empty_which_does_nothing_if_they_have_come(cloud: Cloud) -> None:
    switch = cloud.switch()
    assert write(cloud, switch, "10.0.0.9") == [
        mutate(switch, insert_value(""), insert_mark("")),
        guard(switch, "", ""),
        mutate(switch, DELETE_VALUE, insert_value("10.0.0.9"), DELETE_MARK, insert_mark(MARKED)),
    ]


def test_the_operators_text_stays_behind_ours_byte_for_byte(cloud: Cloud) -> None:
    theirs = "10.0.0.1 // the router\n\t10.0.0.2"
    switch = cloud.switch(excludes=theirs)
    assert write(cloud, switch, "10.0.0.9") == [
        mutate(switch, insert_mark("")),
        guard(switch, theirs, ""),
        mutate(switch, DELETE_VALUE, insert_value(f"10.0.0.9 {theirs}"), DELETE_MARK, insert_mark(MARKED)),
    ]


def test_what_is_there_is_guarded_as_a_whole_and_replaced_with_its_mark(cloud: Cloud) -> None:
    switch = cloud.switch(excludes="10.0.0.9 10.0.0.1", ids={"ovnreserve/excluded": MARKED})
    text = "10.0.0.8..10.0.0.9"
    assert write(cloud, switch, text) == [
        guard(switch, "10.0.0.9 10.0.0.1", MARKED),
        mutate(
            switch, DELETE_VALUE, insert_value(f"{text} 10.0.0.1"), DELETE_MARK, insert_mark(exclude_ips.mark(text))
        ),
    ]


def test_keys_are_deleted_when_nothing_is_left_of_them(cloud: Cloud) -> None:
    switch = cloud.switch(excludes="10.0.0.9", ids={"ovnreserve/excluded": MARKED})
    assert write(cloud, switch, "") == [guard(switch, "10.0.0.9", MARKED), mutate(switch, DELETE_VALUE, DELETE_MARK)]


def test_of_an_address_that_both_name_only_ours_goes(cloud: Cloud) -> None:
    switch = cloud.switch(excludes="10.0.0.9 10.0.0.9", ids={"ovnreserve/excluded": MARKED})
    assert write(cloud, switch, "")[-1] == mutate(switch, DELETE_VALUE, insert_value("10.0.0.9"), DELETE_MARK)


@pytest.mark.parametrize("excludes", [None, "", "10.0.0.1"])
def test_what_is_right_already_is_not_written(cloud: Cloud, excludes: str | None) -> None:
    assert write(cloud, cloud.switch(excludes=excludes), "") == []
    marked = cloud.switch("marked", excludes="10.0.0.9 10.0.0.1", ids={"ovnreserve/excluded": MARKED})
    assert write(cloud, marked, "10.0.0.9") == []


def test_a_switch_that_is_gone_is_not_written(cloud: Cloud) -> None:
    assert write(cloud, "gone", "10.0.0.9") == []


# ---- laws ------------------------------------------------------------------------------------------------------------

NAMES = [f"vm-{number}.default" for number in range(4)]
WRITES = {
    ("insert", "DNS"): {"records", "external_ids"},
    ("update", "DNS"): {"records", "external_ids"},
    ("update", "Logical_Switch_Port"): {"addresses", "enabled"},
}


def a_database(random: Random) -> Cloud:
    cloud = Cloud()
    switch = cloud.switch(subnet="10.0.0.0/28", excludes=random.choice([None, "10.0.0.3 // theirs"]))
    if random.random() < 0.7:
        cloud.ledger_row('{"a":1}')
    for number, name in enumerate(NAMES):
        if random.random() < 0.6:
            state = random.choice([State.HELD, State.RELEASING, State.FAILED, State.INTENDED])
            deleted = 1 if state is State.RELEASING else None
            mac = f"02:6f:76:00:00:0{number}"
            r = cloud.reserve(switch, name, v4=f"10.0.0.{number + 5}", mac=mac, state=state, deleted=deleted)
            if random.random() < 0.7:
                cloud.record(r)
        if random.random() < 0.5:
            assigned = random.choice([None, f"0a:00:00:00:00:0{number} 10.0.0.{random.randrange(3, 14)}"])
            cloud.port(switch, name, "dynamic", assigned=assigned)
    if random.random() < 0.6:
        cloud.write_excludes(switch)
    return cloud


def a_plan(cloud: Cloud, name: str, random: Random) -> Plan:
    world = cloud.world
    r = world.reservations.get(name)
    [segment] = world.segments.values()
    now = context(patient=False)
    label: dict[str, str | None] = {"color": random.choice("abc")}
    plans = [
        lambda: plan_apply(world, wanted(name, labels={"color": random.choice("abc")}), now),
        lambda: plan_repair(world, world.settled(segment), now),
    ]
    if r is not None:
        plans += [
            lambda: plan_release(world, r, now),
            lambda: plan_drop(world, r),
            lambda: plan_resume(world, r, now),
            lambda: plan_squatters(world, r, now, block=random.random() < 0.8),
            lambda: plan_patch(world, Patch(name, label, {}), now),
        ]
    return random.choice(plans)()


def row_in(operation: Operation) -> str | None:
    """The one row that an operation is about."""
    clause = operation.get("where", [[None]])[:1]
    return clause[0][2][1] if clause and clause[0][0] == "_uuid" else None


@settings(max_examples=150)
@given(st.integers(0, 1 << 32), st.lists(st.sampled_from(NAMES), min_size=1, max_size=8))
def test_whatever_is_planned_each_row_is_guarded_before_it_is_written_and_only_ours_is_written(
    seed: int, names: list[str]
) -> None:
    random = Random(seed)
    cloud = a_database(random)
    batch = Batch(cloud.world)
    for name in names:
        try:
            plan = a_plan(cloud, name, random)
        except Refused:
            continue
        batch.accept(Work(name, lambda _context: Plan("unchanged")), plan, 0.0, needs_barrier=False)
    operations = Operations(cloud.replica)
    operations.build(batch.steps, batch.excludes(), '{"a":2}', barrier=batch.barrier)
    assert len(operations.blame) == len(operations.operations)
    json.dumps(operations.operations)

    [switch] = cloud.world.segments
    assert set(operations.blame) <= {REVISION_BLAME, switch, "", *NAMES}
    guarded: set[str] = set()
    looked: set[tuple[str, str]] = set()
    written: set[tuple[str, str]] = set()
    for operation in operations.operations:
        kind, table, row = operation["op"], operation.get("table"), row_in(operation)
        if kind == "wait":
            assert operation["timeout"] == 0
            cells = {(row, column) for column in operation["columns"]} if row is not None else set()
            assert not cells & (looked | written), "nothing is looked at that this transaction has written"
            looked |= cells
            guarded |= {row} if row is not None else set()
        elif kind in ("insert", "update"):
            assert operation["row"].keys() <= WRITES[kind, table or ""]
            assert kind == "insert" or row in guarded
        elif kind == "mutate" and table == "Logical_Switch":
            for column, mutator, value in operation["mutations"]:
                if column == "ports":
                    assert mutator == "delete"
                    assert {member[1] for member in value[1]} <= guarded
                    continue
                keys = value[1] if mutator == "delete" else [key for key, _value in value[1]]
                assert (column, keys) in [("other_config", ["exclude_ips"]), ("external_ids", ["ovnreserve/excluded"])]
                empty = mutator == "insert" and value[1][0][1] == ""
                assert row in guarded or empty
        elif kind == "mutate":
            assert (table, operation["mutations"]) == ("NB_Global", [["nb_cfg", "+=", 1]])
        elif kind == "delete":
            ids = cloud.tables["DNS"][row or ""]["external_ids"]
            assert (table, ids[KIND]) == ("DNS", "reservation")
        else:
            assert kind in ("comment", "commit")
        if kind in ("update", "delete") and row is not None:
            written |= {(row, column) for column in ("_uuid", *operation.get("row", {}))}
    assert operations.operations[-1] == {"op": "commit", "durable": True}
