"""What ovsdb-server and ovn-northd do to northbound rows, as far as we need it, over the plain rows of builders.py.

`execute` carries out a transaction of the operations that we send (RFC 7047, 5.2): all of it or nothing.
`thoughts` is what ovn-northd's IPAM makes of the rows (facts/ovn.md, sections 1 and 2):

    static addresses, router ports, exclude_ips, network, first host and broadcast are taken
    a dynamic port keeps its address, unless that is taken or outside: then it is moved
    a pending one gets what it asks for, if that is free, else the lowest free address; one that asked in vain is chosen
    for anew each time (seen of OVN 23.03)
    IPv6 is EUI-64 of the port's MAC; a port that is not dynamic loses its dynamic_addresses
"""

from __future__ import annotations

from typing import Any

from builders import Row, Tables, row_of

from ovnreserve.model import exclude_ips
from ovnreserve.model.addresses import eui64, format_v4, format_v6, parse_either
from ovnreserve.model.topology import Element, parse_element, switch_of
from ovnreserve.northbound.columns import COLUMNS, MAP, OPTIONAL, SET, Kind

PORTS = "Logical_Switch_Port"
SWITCHES = "Logical_Switch"


def snapshot(tables: Tables) -> Tables:
    """A copy that stays as it is while rows of the original change; column values are never changed in place."""
    return {table: {uuid: dict(row) for uuid, row in rows.items()} for table, rows in tables.items()}


# ---- ovsdb-server ----------------------------------------------------------------------------------------------------


def execute(tables: Tables, operations: list[dict[str, Any]], new_uuid: Any) -> int | None:
    """The index of the operation that failed, and nothing was done; None once everything was."""
    work = snapshot(tables)
    for index, operation in enumerate(operations):
        if not _do(work, operation, new_uuid):
            return index
    members = {uuid for row in work[SWITCHES].values() for uuid in row["ports"]}
    work[PORTS] = {uuid: row for uuid, row in work[PORTS].items() if uuid in members}  # what no switch has is collected
    tables.update(work)
    return None


def _do(tables: Tables, operation: dict[str, Any], new_uuid: Any) -> bool:
    """Was it possible?"""
    name = operation["op"]
    if name in ("comment", "commit"):
        return True
    kinds, rows = COLUMNS[operation["table"]], tables[operation["table"]]
    if name == "insert":
        rows[new_uuid()] = row_of(operation["table"], **_values(kinds, operation["row"]))
        return True
    found = {uuid: row for uuid, row in rows.items() if all(_holds(kinds, uuid, row, c) for c in operation["where"])}
    match name:
        case "wait":
            assert operation["timeout"] == 0, "the server would hold back the reply"
            columns = [column for column in operation["columns"] if column != "_uuid"]
            has = [{column: row[column] for column in columns} for row in found.values()]
            wanted = [_values(kinds, row) for row in operation["rows"]]
            return (has == wanted) is (operation["until"] == "==")
        case "update":
            for row in found.values():
                row.update(_values(kinds, operation["row"]))
        case "mutate":
            for row in found.values():
                for column, mutator, value in operation["mutations"]:
                    row[column] = _mutated(kinds[column], row[column], mutator, value)
        case "delete":
            for uuid in found:
                del rows[uuid]
        case _:
            raise ValueError(f"{name} is none of the operations that we send")
    return True


def _holds(kinds: dict[str, Kind], uuid: str, row: Row, clause: list[Any]) -> bool:
    column, function, value = clause
    if column == "_uuid":
        assert function == "=="
        return bool(value == ["uuid", uuid])
    assert function == "includes"
    return bool(_value(kinds[column], value).items() <= row[column].items())


def _mutated(kind: Kind, old: Any, mutator: str, value: Any) -> Any:
    match kind, mutator:
        case Kind.MAP, "insert":
            return {**_value(kind, value), **old}  # a key that is there stays as it is
        case Kind.MAP, "delete":
            return {key: item for key, item in old.items() if key not in _members(value)}
        case Kind.SET, "delete":
            return frozenset(old) - frozenset(_members(value))
        case Kind.INTEGER, "+=":
            return old + value
    raise ValueError(f"{mutator} of {kind} is none of the mutations that we send")


def _values(kinds: dict[str, Kind], row: Row) -> Row:
    """Without the columns that nobody reads."""
    return {column: _value(kinds[column], value) for column, value in row.items() if column in kinds}


def _value(kind: Kind, value: Any) -> Any:
    if kind is MAP:
        return dict(value[1])
    if kind is SET:
        return frozenset(_members(value))
    if kind is OPTIONAL:
        return next(iter(_members(value)), None)
    return value


def _members(value: Any) -> list[Any]:
    atoms = value[1] if isinstance(value, list) and value[0] == "set" else [value]
    return [atom[1] if isinstance(atom, list) else atom for atom in atoms]


# ---- ovn-northd ------------------------------------------------------------------------------------------------------


def thoughts(tables: Tables) -> dict[str, str | None]:
    """What `dynamic_addresses` of each port should be, by the port's uuid."""
    wanted: dict[str, str | None] = {}
    macs = {word for row in tables[PORTS].values() for text in _texts(row) for word in text.split()[:1] if ":" in word}
    for uuid, switch in sorted(tables[SWITCHES].items()):
        wanted |= _assigned(tables, uuid, switch, macs)
    return wanted


def write_thoughts(tables: Tables, wanted: dict[str, str | None]) -> None:
    """As ovn-northd writes, unconditionally: whatever has happened to these ports since it looked at them."""
    for uuid, text in wanted.items():
        row = tables[PORTS].get(uuid)
        if row is not None:
            row["dynamic_addresses"] = text


def _texts(row: Row) -> list[str]:
    return [*row["addresses"], *([row["dynamic_addresses"]] if row["dynamic_addresses"] else [])]


def _assigned(tables: Tables, uuid: str, row: Row, macs: set[str]) -> dict[str, str | None]:
    switch = switch_of(uuid, row)
    ports = {port: tables[PORTS][port] for port in sorted(row["ports"]) if port in tables[PORTS]}
    wanted: dict[str, str | None] = dict.fromkeys(ports)
    dynamic: dict[str, Element] = {}
    taken = _excluded(row)
    for port, columns in ports.items():
        elements = [parse_element(text) for text in sorted(columns["addresses"])]
        taken.update(address for e in elements if not e.dynamic for address in e.v4)
        taken.update(_router_addresses(tables, columns))
        first = next((e for e in elements if e.dynamic), None)
        if first is not None and columns["type"] != "router" and (switch.has_ipam or switch.v6 is not None):
            dynamic[port] = first
    chosen: dict[str, int] = {}
    had = {port: parse_element(ports[port]["dynamic_addresses"] or "") for port in dynamic}
    for port, asks in dynamic.items():  # those that have one first
        address = had[port].v4[0] if had[port].v4 else None
        if _is_free(switch, taken, address) and (not asks.v4 or asks.v4[0] == address):
            chosen[port] = address  # type: ignore[assignment]
            taken.add(chosen[port])
    for port, asks in dynamic.items():
        if port in chosen or not switch.has_ipam:
            continue
        address = asks.v4[0] if asks.v4 else None
        if not _is_free(switch, taken, address):
            assert switch.v4 is not None
            address = next((a for a in range(switch.v4.first + 2, switch.v4.last) if a not in taken), None)
        if address is not None:
            chosen[port] = address
            taken.add(address)
    for port, asks in dynamic.items():
        mac = asks.mac or had[port].mac or _new_mac(chosen.get(port, 0), macs)
        words = [mac] + ([format_v4(chosen[port])] if port in chosen else [])
        if switch.v6 is not None:
            words.append(format_v6(asks.v6[0] if asks.v6 else eui64(switch.v6.first, mac)))
        wanted[port] = " ".join(words)
    return wanted


def _excluded(row: Row) -> set[int]:
    switch = switch_of("", row)
    if not switch.has_ipam or switch.v4 is None:
        return set()
    ranges = exclude_ips.parse(switch.exclude_ips or "", switch.v4.first, switch.v4.prefixlen).ranges
    kept = {switch.v4.first, switch.v4.first + 1, switch.v4.last}
    return kept | {address for first, last in ranges for address in range(first, last + 1)}


def _router_addresses(tables: Tables, port: Row) -> set[int]:
    name = port["options"].get("router-port") if port["type"] == "router" else None
    networks = [n for row in tables["Logical_Router_Port"].values() if row["name"] == name for n in row["networks"]]
    found = (parse_either(network.partition("/")[0])[0] for network in networks)
    return {address for address in found if address is not None}


def _is_free(switch: Any, taken: set[int], address: int | None) -> bool:
    return switch.has_ipam and address is not None and address in switch.v4 and address not in taken


def _new_mac(address: int, macs: set[str]) -> str:
    """Of the prefix that ovn-northd makes up where NB_Global has none, and the low bits of the address."""
    low = address & 0xFFFFFF
    while (mac := "5e:1f:34:" + low.to_bytes(3, "big").hex(":")) in macs:
        low = low + 1 & 0xFFFFFF
    macs.add(mac)
    return mac
