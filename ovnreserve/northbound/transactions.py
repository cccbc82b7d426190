"""From steps to one northbound transaction: operations (RFC 7047, 5.2), each guarded by what the plan has seen.

`wait` operations with timeout 0 are the compare-and-swap: one that fails aborts everything. They guard the ledger
row's revision, our and the operator's exclude_ips of each switch that is written (a key that may be absent is first
inserted empty, which does nothing where it is there), and each port that is written. Everything is written by key or
by row; of somebody else's row never a whole map. The last operation makes the commit durable, which a standalone
server does not do by itself.

Every operation knows whom to blame should it fail: the reservation or switch it is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ovnreserve.model import exclude_ips
from ovnreserve.model.record import record_ids, record_names
from ovnreserve.model.resource import (
    KIND,
    KIND_LEDGER,
    RECORD,
    RESOURCE_VERSION,
    REVISION,
    UID,
    WRITER,
    Resource,
    State,
)
from ovnreserve.model.steps import (
    Barrier,
    DeletePort,
    DropRecord,
    MembersUnchanged,
    PortUnchanged,
    PublishRevision,
    PutRecord,
    Seen,
    SetEnabled,
    Step,
    UpdateRecord,
    WriteAddresses,
    WriteExcludes,
)
from ovnreserve.model.topology import EXCLUDE_IPS, EXCLUDED_MARK
from ovnreserve.northbound.replica import Replica

Operation = dict[str, Any]

REVISION_BLAME: Final = "(revision)"
_COMMENT_NAMES: Final = 20
_ONLY_BARRIER: Final = "await ovn-northd"


class Operations:
    """One transaction in the making. `operations[i]` is the fault of `blame[i]` if it fails. `writer` is who we are."""

    def __init__(self, replica: Replica, writer: str = "") -> None:
        self._replica = replica
        self._writer = writer
        self.operations: list[Operation] = []
        self.blame: list[str] = []
        self._guarded: set[str] = set()
        """Rows as they were seen before this transaction: a second guard would meet what the first step has written."""
        self._records: dict[str, Operation] = {}
        """What writes a resource's record, by uid: of several steps of one batch for it the last counts."""

    def build(
        self,
        steps: Iterable[tuple[str, Step]],
        excludes: Mapping[str, str],
        revision: str,
        resource_version: int = 0,
        *,
        barrier: bool = False,
    ) -> None:
        """Everything of a batch.

        `steps` come with the name of the request they are for, `excludes` is our text of each switch whose
        exclude_ips may change, `revision` the ledger's vector from this transaction on and `resource_version` what all
        that it gave away are not greater than; with `barrier`, ovn-northd is asked to answer.
        """
        verbs: dict[str, dict[str, None]] = {}
        said: set[str] = set()
        self._revision(revision, resource_version)
        steps = list(steps)
        for switch in {step.switch: None for _name, step in steps if isinstance(step, MembersUnchanged)}:
            self._guard_members(switch)
        for switch, ours in excludes.items():
            self._excludes(switch, ours)
        for name, step in steps:
            if name not in said:
                said.add(name)
                verb, what = self._saying(step)
                verbs.setdefault(verb, {})[what] = None
            match step:
                case PutRecord(r) | UpdateRecord(r):
                    self._write_record(name, r)
                case DropRecord(r):
                    self._drop_record(name, r)
                case WriteAddresses(port, seen, addresses, reservation):
                    self._guard_record(name, self._replica.record(reservation))
                    self._guard_port(name, port, seen)
                    row = {"addresses": ["set", sorted(addresses)]}
                    self._add(name, op="update", table="Logical_Switch_Port", where=_is(port), row=row)
                case SetEnabled(port, seen, was, enabled, reservation):
                    self._guard_record(name, self._replica.record(reservation))
                    self._guard_port(name, port, seen)
                    self._set_enabled(name, port, was, enabled)
                case DeletePort(port, switch, seen):
                    self._guard_port(name, port, seen)
                    mutation = ["ports", "delete", ["set", [["uuid", port]]]]
                    self._add(name, op="mutate", table="Logical_Switch", where=_is(switch), mutations=[mutation])
                case PortUnchanged(port, seen):
                    self._guard_port(name, port, seen)
                case WriteExcludes() | MembersUnchanged() | PublishRevision():
                    pass  # done above, for each switch once
                case Barrier():
                    barrier = True
        if barrier:
            self._add("", op="mutate", table="NB_Global", where=[], mutations=[["nb_cfg", "+=", 1]])
        self._add("", op="comment", comment=_comment(verbs))
        self._add("", op="commit", durable=True)

    def look(self) -> None:
        """Nothing but a question: whatever had changed before it is known when the reply is there."""
        self._add("", op="comment", comment="ovnreserve: look")

    def _saying(self, step: Step) -> tuple[str, str]:
        """Verb and name of the first step that is for a name: what the comment says of all of them."""
        match step:
            case PutRecord(r):
                return "reserve" if r.state is State.INTENDED else "republish", r.name
            case UpdateRecord(r):
                return "update" if r.deleted is None else "release", r.name
            case DropRecord(r):
                return "free", r.name
            case PortUnchanged(port):
                return "look at", port
            case WriteAddresses():
                return "bind", step.reservation
            case SetEnabled():
                return "block" if step.enabled is False else "unblock", step.reservation
            case DeletePort(port):
                row = self._replica.tables["Logical_Switch_Port"].get(port, {})
                return "delete port", row.get("name") or port
            case WriteExcludes(switch) | MembersUnchanged(switch):
                row = self._replica.tables["Logical_Switch"].get(switch, {})
                return "repair", row.get("name") or switch
            case PublishRevision():
                return "revision", ""
            case Barrier():
                return _ONLY_BARRIER, ""

    def _add(self, blame: str, **operation: Any) -> None:
        self.operations.append(operation)
        self.blame.append(blame)

    def _wait_exists(self, blame: str, table: str, where: list[Any]) -> None:
        """Fail unless a row is like that."""
        self._add(blame, op="wait", timeout=0, table=table, where=where, columns=["_uuid"], until="!=", rows=[])

    # ---- our rows --------------------------------------------------------------------------------------------------

    def _revision(self, revision: str, resource_version: int) -> None:
        said = {KIND: KIND_LEDGER, REVISION: revision, RESOURCE_VERSION: str(resource_version)}
        ids = _map(said | ({WRITER: self._writer} if self._writer else {}))
        for uuid in sorted(self._replica.ledger_rows):
            there = self._replica.tables["DNS"][uuid]["external_ids"]
            seen = {key: there[key] for key in (KIND, REVISION) if key in there}
            where = [*_is(uuid), ["external_ids", "includes", _map(seen)]]
            self._wait_exists(REVISION_BLAME, "DNS", where)
            self._add(REVISION_BLAME, op="update", table="DNS", where=_is(uuid), row={"external_ids": ids})
            return
        where = [["external_ids", "includes", _map({KIND: KIND_LEDGER})]]
        self._add(
            REVISION_BLAME, op="wait", timeout=0, table="DNS", where=where, columns=["_uuid"], until="==", rows=[]
        )
        self._add(REVISION_BLAME, op="insert", table="DNS", row={"external_ids": ids})

    def _write_record(self, name: str, r: Resource) -> None:
        row = {"records": _map(record_names(r)), "external_ids": _map(record_ids(r))}
        record = self._replica.record(r.name, r.uid)
        if r.uid in self._records:
            self._records[r.uid]["row"] = row
            return
        if record is None:
            self._add(name, op="insert", table="DNS", row=row)
        else:
            self._guard_record(name, record)
            self._add(name, op="update", table="DNS", where=_is(record[0]), row=row)
        self._records[r.uid] = self.operations[-1]

    def _drop_record(self, name: str, r: Resource) -> None:
        """Also where somebody has made copies of it."""
        for uuid in sorted(self._replica.records.get(r.name, ())):
            if self._replica.tables["DNS"][uuid]["external_ids"].get(UID) == r.uid:
                self._guarded.add(uuid)
                self._add(name, op="delete", table="DNS", where=_is(uuid))

    def _guard_record(self, name: str, record: tuple[str, dict[str, str]] | None) -> None:
        if record is not None and record[0] not in self._guarded:
            uuid, ids = record
            self._guarded.add(uuid)
            seen: dict[str, str] = {key: ids[key] for key in (UID, RECORD) if key in ids}
            self._wait_exists(name, "DNS", [*_is(uuid), ["external_ids", "includes", _map(seen)]])

    # ---- rows of others --------------------------------------------------------------------------------------------

    def _guard_port(self, name: str, port: str, seen: Seen) -> None:
        if port in self._guarded:
            return
        self._guarded.add(port)
        addresses, dynamic_addresses, type_ = seen
        row = {
            "addresses": ["set", sorted(addresses)],
            "dynamic_addresses": ["set", [] if dynamic_addresses is None else [dynamic_addresses]],
            "type": type_,
        }
        self._add(
            name, op="wait", timeout=0, table="Logical_Switch_Port", where=_is(port),
            columns=["addresses", "dynamic_addresses", "type"], until="==", rows=[row],
        )  # fmt: skip

    def _set_enabled(self, name: str, port: str, was: bool | None, enabled: bool | None) -> None:
        """Guarded on its own: another step of the transaction may write the port's addresses."""
        before, after = (["set", [] if value is None else [value]] for value in (was, enabled))
        self._add(
            name, op="wait", timeout=0, table="Logical_Switch_Port", where=_is(port), columns=["enabled"], until="==",
            rows=[{"enabled": before}],
        )  # fmt: skip
        self._add(name, op="update", table="Logical_Switch_Port", where=_is(port), row={"enabled": after})

    def _guard_members(self, switch: str) -> None:
        row = self._replica.tables["Logical_Switch"].get(switch)
        ports = ["set", [["uuid", uuid] for uuid in row["ports"]]] if row is not None else ["set", []]
        self._add(
            switch, op="wait", timeout=0, table="Logical_Switch", where=_is(switch), columns=["ports"], until="==",
            rows=[{"ports": ports}],
        )  # fmt: skip

    def _excludes(self, switch: str, ours: str) -> None:
        """Our part of exclude_ips and its mark, guarded by the whole value and the mark as they were seen."""
        row = self._replica.tables["Logical_Switch"].get(switch)
        if row is None:
            return
        value, mark = row["other_config"].get(EXCLUDE_IPS), row["external_ids"].get(EXCLUDED_MARK)
        new_value, new_mark = exclude_ips.join(ours, exclude_ips.split(value or "", mark)[1])
        if (new_value, new_mark) == (value or "", mark or ""):
            return
        absent = [
            [column, "insert", _map({key: ""})]
            for column, key, old in (("other_config", EXCLUDE_IPS, value), ("external_ids", EXCLUDED_MARK, mark))
            if old is None
        ]
        if absent:
            self._add(switch, op="mutate", table="Logical_Switch", where=_is(switch), mutations=absent)
        self._wait_exists(
            switch, "Logical_Switch",
            [
                *_is(switch),
                ["other_config", "includes", _map({EXCLUDE_IPS: value or ""})],
                ["external_ids", "includes", _map({EXCLUDED_MARK: mark or ""})],
            ],
        )  # fmt: skip
        mutations: list[Any] = []
        for column, key, new in (("other_config", EXCLUDE_IPS, new_value), ("external_ids", EXCLUDED_MARK, new_mark)):
            mutations.append([column, "delete", ["set", [key]]])
            if new:
                mutations.append([column, "insert", _map({key: new})])
        self._add(switch, op="mutate", table="Logical_Switch", where=_is(switch), mutations=mutations)


def _is(uuid: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", uuid]]]


def _map(values: Mapping[str, str]) -> list[Any]:
    return ["map", [[key, value] for key, value in values.items()]]


def _comment(verbs: Mapping[str, Iterable[str]]) -> str:
    """`ovnreserve: VERB NAME, NAME; VERB NAME`, of bounded length."""
    said = "; ".join(f"{verb} {_listed(list(names))}".rstrip() for verb, names in verbs.items())
    return f"ovnreserve: {said or _ONLY_BARRIER}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _COMMENT_NAMES} more" if len(names) > _COMMENT_NAMES else ""
    return ", ".join(names[:_COMMENT_NAMES]) + more
