"""The schema, fetched from real servers and cut to our columns."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import ovs.db.idl
import ovs.poller
import pytest
from support import wait_until

from ovnreserve.northbound.columns import COLUMNS, REQUIRED, Kind
from ovnreserve.northbound.schema import DATABASE, SchemaRequest, UnsupportedSchema, helper_for
from ovnreserve.sandbox import find_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ovnreserve.sandbox import Servers


def run_until(request: SchemaRequest, condition: Callable[[], object], timeout: float = 10) -> None:
    """Drive `request` as a loop would, which never waits but in its poller."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, request.last_error
        request.run()
        if condition():
            return
        poller = ovs.poller.Poller()
        request.wait(poller)
        poller.timer_wait(100)
        poller.block()


def fetch(remote: str) -> dict[str, Any]:
    request = SchemaRequest([remote])
    try:
        run_until(request, request.run)
        schema = request.run()
        assert schema is not None
        assert request.last_error == ""
        return schema
    finally:
        request.close()


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], str]]:
    """`private(schema) -> remote`: an ovsdb-server of its own with a database of that schema, answering."""
    started: list[subprocess.Popen[bytes]] = []

    def start(schema: dict[str, Any]) -> str:
        (tmp_path / "cut.ovsschema").write_text(json.dumps(schema))
        subprocess.run([find_program("ovsdb-tool"), "create", "cut.db", "cut.ovsschema"], cwd=tmp_path, check=True)
        socket = tmp_path / "cut.sock"
        options = [f"--unixctl={tmp_path}/cut.ctl", f"--remote=punix:{socket}", "--no-chdir"]
        command = [find_program("ovsdb-server"), "-vconsole:off", *options, "cut.db"]
        started.append(subprocess.Popen(command, cwd=tmp_path))
        wait_until(socket.exists)
        return f"unix:{socket}"

    yield start
    for server in started:
        server.kill()
        server.wait()


@pytest.fixture
def full(ovn: Servers) -> dict[str, Any]:
    """The schema of the OVN that is installed."""
    return fetch(ovn.nb)


def registered(helper: ovs.db.idl.SchemaHelper) -> dict[str, set[str]]:
    return {name: set(table.columns) for name, table in helper.get_idl_schema().tables.items()}


def test_the_helper_has_exactly_our_columns_that_the_server_has(ovn: Servers):
    schema = fetch(ovn.nb)
    assert schema["name"] == DATABASE
    before = json.dumps(schema)
    there = {
        table: columns & schema["tables"][table]["columns"].keys()
        for table, columns in ((table, set(columns)) for table, columns in COLUMNS.items())
        if table in schema["tables"]
    }
    assert registered(helper_for(schema)) == {table: columns for table, columns in there.items() if columns}
    assert json.dumps(schema) == before


def test_each_column_has_the_kind_that_we_keep_it_in(ovn: Servers):
    for table, definition in fetch(ovn.nb)["tables"].items():
        for column, kind in COLUMNS.get(table, {}).items():
            if column in definition["columns"]:
                assert kind is kind_of(definition["columns"][column]["type"]), f"{table}.{column}"


def kind_of(type_: Any) -> Kind:
    if isinstance(type_, str):
        return Kind.INTEGER if type_ == "integer" else Kind.SCALAR
    if "value" in type_:
        return Kind.MAP
    least, most = type_.get("min", 1), type_.get("max", 1)
    if most == 1:
        return Kind.SCALAR if least else Kind.OPTIONAL
    return Kind.SET


def test_an_older_schema_that_lacks_optional_tables_and_columns_is_served(private, full):
    del full["tables"]["Static_MAC_Binding"]
    del full["tables"]["NAT"]
    del full["tables"]["Logical_Router"]["columns"]["nat"]
    del full["tables"]["Logical_Switch"]["columns"]["forwarding_groups"]
    full["tables"]["Load_Balancer_Group"] = {"columns": {"none_of_ours": {"type": "string"}}}
    columns = registered(helper_for(fetch(private(full))))
    assert not columns.keys() & {"Static_MAC_Binding", "NAT", "Load_Balancer_Group"}
    assert columns["Logical_Switch"] == COLUMNS["Logical_Switch"].keys() - {"forwarding_groups"}


def test_what_is_missing_and_required_is_named(private, full):
    del full["tables"]["Logical_Switch_Port"]["columns"]["dynamic_addresses"]
    del full["tables"]["DNS"]
    del full["tables"]["Logical_Switch"]["columns"]["dns_records"]
    full["version"] = "5.0.0"
    schema = fetch(private(full))
    with pytest.raises(UnsupportedSchema) as refusal:
        helper_for(schema)
    assert refusal.value.missing == ("Logical_Switch_Port.dynamic_addresses", "DNS.external_ids")
    assert str(refusal.value) == (
        "schema 5.0.0 of database OVN_Northbound lacks"
        " Logical_Switch_Port.dynamic_addresses, DNS.external_ids; use the database of OVN 20.03 or newer"
    )


def test_what_is_required_is_read():
    assert all(columns <= COLUMNS[table].keys() for table, columns in REQUIRED.items())


def test_a_server_that_is_not_there_is_told_in_the_words_of_ovn_nbctl_and_awaited(tmp_path, private, full):
    socket = tmp_path / "cut.sock"
    request = SchemaRequest([f"unix:{socket}"])
    run_until(request, lambda: request.last_error)
    assert request.last_error == f"unix:{socket}: database connection failed (No such file or directory)"
    private(full)
    run_until(request, request.run)
    assert request.last_error == ""
    request.close()


def test_a_server_without_the_database_is_told_and_asked_again(private, full):
    full["name"] = "Other"
    remote = private(full)
    request = SchemaRequest([remote])
    told = f"{remote}: database connection failed (unknown database: OVN_Northbound)"
    run_until(request, lambda: request.last_error)
    assert request.last_error == told
    assert request.run() is None
    request.close()


def test_the_next_remote_is_asked_when_one_does_not_answer(ovn: Servers, tmp_path):
    request = SchemaRequest([f"unix:{tmp_path}/none", ovn.nb])
    run_until(request, request.run)
    request.close()
