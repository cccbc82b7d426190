"""Our copy of the northbound database: rows as plain Python values, and what changed in them.

It takes the table-updates of `monitor_cond` and `monitor_cond_since` (ovsdb-server(7), sections 4.1.14 to 4.1.17) as
decoded JSON. python-ovs' own rows cost several times the CPU and memory (facts/performance: 17 s against 3 s for 100k
ports), and on a reconnect they are emptied without a word. Here a fresh dump is compared with what was there, so
nothing that happened meanwhile is missed.

Values are kept by kind (columns.py). A SET is a mutable set, changed in place: `Logical_Switch.ports` may have 10,000
members, and a port that comes costs one insertion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ovnreserve.model.pace import Beat, no_beat, paced
from ovnreserve.model.resource import KIND, KIND_LEDGER, NAME, RECORD_KINDS, RESOURCE_VERSION, REVISION, UID, WRITER
from ovnreserve.model.topology import RowChanges
from ovnreserve.northbound.columns import COLUMNS, INTEGER, MAP, OPTIONAL, SCALAR, SET, Kind

Row = dict[str, Any]

_DIGITS: Final = 18
"""Of a number that SQLite can store, whatever they are."""

_EMPTY: Final[dict[Kind, Callable[[], Any]]] = {
    SCALAR: str,
    INTEGER: int,
    OPTIONAL: lambda: None,
    SET: set,
    MAP: dict,
}
_LAYOUT: Final = {
    table: [(column, kind, _EMPTY[kind]) for column, kind in columns.items()] for table, columns in COLUMNS.items()
}
"""By table (column, kind, what makes its empty value): looked up once, since members of an Enum are slow to hash."""


def _atom(value: Any) -> Any:
    """["uuid", X] or ["named-uuid", X] is X, everything else itself (RFC 7047, 5.1)."""
    return value[1] if type(value) is list else value


def _members(value: Any) -> list[Any]:
    """The atoms of a <set> or of a lone <atom>."""
    if type(value) is list and value[0] == "set":
        return [_atom(member) for member in value[1]]
    return [_atom(value)]


def _value(kind: Kind, value: Any) -> Any:
    if kind is SCALAR or kind is INTEGER:
        return _atom(value)
    if kind is MAP:
        return {_atom(key): _atom(item) for key, item in value[1]}
    members = _members(value)
    if kind is OPTIONAL:
        return members[0] if members else None
    return set(members)


def _patched(kind: Kind, old: Any, diff: Any) -> Any:
    """The value after a `modify`: sets by symmetric difference, maps by key, the others replaced."""
    if kind is SET:
        old.symmetric_difference_update(_members(diff))
        return old
    if kind is MAP:
        new = dict(old)
        for key, item in diff[1]:
            if new.get(_atom(key)) == _atom(item):
                del new[_atom(key)]
            else:
                new[_atom(key)] = _atom(item)
        return new
    return _value(kind, diff)


class Replica:
    """`tables[TABLE][UUID]` is a row with every column of columns.COLUMNS. `beat` is called now and then while a whole
    dump is taken.
    """

    def __init__(self, beat: Beat = no_beat) -> None:
        self._beat = beat
        self.tables: dict[str, dict[str, Row]] = {table: {} for table in COLUMNS}
        self.records: dict[str, set[str]] = {}
        """Uuids of the DNS rows that are records, by the resource's name; more than one only by somebody's
        mistake.
        """
        self.ledger_rows: set[str] = set()
        self._changes = RowChanges({}, [])
        self._touched_records: set[str] = set()

    def take_records(self) -> set[str]:
        """The names of resources whose records came, went or changed since the last call."""
        touched, self._touched_records = self._touched_records, set()
        return touched

    def take_changes(self) -> RowChanges:
        """Everything that changed since the last call."""
        changes, self._changes = self._changes, RowChanges({}, [])
        return changes

    @property
    def revision(self) -> str | None:
        """The text of the ledger row's version vector; None where there is no ledger row."""
        return self._ledger_ids.get(REVISION, "") if self.ledger_rows else None

    @property
    def resource_version(self) -> int:
        """No resourceVersion that the last writer gave away is greater; 0 where that is not said."""
        text = self._ledger_ids.get(RESOURCE_VERSION, "")
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else 0

    @property
    def writer(self) -> str:
        """Who wrote the ledger row last, as that daemon calls itself; empty where nobody has said so."""
        return self._ledger_ids.get(WRITER, "")

    @property
    def _ledger_ids(self) -> dict[str, str]:
        """The external_ids of the ledger row; of the first one, should somebody have made copies."""
        ids: dict[str, str] = self.tables["DNS"][min(self.ledger_rows)]["external_ids"] if self.ledger_rows else {}
        return ids

    def record(self, name: str, uid: str = "") -> tuple[str, dict[str, str]] | None:
        """(row uuid, external_ids) of the record under that name: the one with the uid, if one is given."""
        rows = self.tables["DNS"]
        for uuid in sorted(self.records.get(name, ())):
            ids = rows[uuid]["external_ids"]
            if not uid or ids.get(UID) == uid:
                return uuid, ids
        return None

    def nb_global(self) -> Row | None:
        return next(iter(self.tables["NB_Global"].values()), None)

    # ---- updates ---------------------------------------------------------------------------------------------------

    def replace(self, updates: Mapping[str, Mapping[str, Any]]) -> None:
        """Take a full dump: what is not in it is gone."""
        for table, rows in self.tables.items():
            fresh = updates.get(table, {})
            for uuid in [uuid for uuid in rows if uuid not in fresh]:
                self._delete(table, uuid)
        for table, fresh in updates.items():
            for uuid, update in paced(fresh.items(), self._beat):
                self._insert(table, uuid, update["initial"])

    def update(self, updates: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the changes of one or more transactions."""
        for table, rows in updates.items():
            for uuid, update in rows.items():
                if "modify" in update:
                    self._modify(table, uuid, update["modify"])
                elif "delete" in update:
                    self._delete(table, uuid)
                else:
                    self._insert(table, uuid, update["insert"] if "insert" in update else update["initial"])

    def _insert(self, table: str, uuid: str, values: Mapping[str, Any]) -> None:
        row = {
            column: _value(kind, values[column]) if column in values else empty()
            for column, kind, empty in _LAYOUT[table]
        }
        old = self.tables[table].get(uuid)
        if old == row:
            return
        self.tables[table][uuid] = row
        self._changes.rows.setdefault(table, {})[uuid] = None
        if table == "Logical_Switch":
            before = old["ports"] if old is not None else set()
            self._changes.members.extend((port, uuid, False) for port in before - row["ports"])
            self._changes.members.extend((port, uuid, True) for port in row["ports"] - before)
        elif table == "DNS":
            if old is not None:
                self._forget_record(uuid, old)
            self._index_record(uuid, row)

    def _modify(self, table: str, uuid: str, diff: Mapping[str, Any]) -> None:
        row = self.tables[table][uuid]
        columns = COLUMNS[table]
        if table == "DNS":
            self._forget_record(uuid, row)
        elif table == "Logical_Switch" and "ports" in diff:
            ports: set[str] = row["ports"]
            self._changes.members.extend((port, uuid, port not in ports) for port in _members(diff["ports"]))
        for column, change in diff.items():
            row[column] = _patched(columns[column], row[column], change)
        if table == "DNS":
            self._index_record(uuid, row)
        seen = self._changes.rows.setdefault(table, {}).setdefault(uuid, set())
        if seen is not None:
            seen.update(diff)

    def _delete(self, table: str, uuid: str) -> None:
        row = self.tables[table].pop(uuid, None)
        if row is not None:
            self._forget(table, uuid, row)
            self._changes.rows.setdefault(table, {})[uuid] = None

    def _forget(self, table: str, uuid: str, row: Row) -> None:
        if table == "Logical_Switch":
            self._changes.members.extend((port, uuid, False) for port in row["ports"])
        elif table == "DNS":
            self._forget_record(uuid, row)

    def _index_record(self, uuid: str, row: Row) -> None:
        ids = row["external_ids"]
        if ids.get(KIND) in RECORD_KINDS:
            name = ids.get(NAME, "")
            self.records.setdefault(name, set()).add(uuid)
            self._touched_records.add(name)
        elif ids.get(KIND) == KIND_LEDGER:
            self.ledger_rows.add(uuid)

    def _forget_record(self, uuid: str, row: Row) -> None:
        self.ledger_rows.discard(uuid)
        name = row["external_ids"].get(NAME, "")
        rows = self.records.get(name)
        if rows is not None:
            self._touched_records.add(name)
            rows.discard(uuid)
            if not rows:
                del self.records[name]
