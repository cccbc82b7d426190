"""Worlds for tests: a northbound database that sends what a server sends, and what is looked at in it.

`Cloud` holds rows as Python values. What is changed in them is sent by `sync` as ovsdb-server would send it (update2),
through the product's own Replica into its own World, so that a test's world comes about as a daemon's does.
"""

from __future__ import annotations

import copy
import itertools
import re
from random import Random
from typing import Any

from ovnreserve.model import exclude_ips
from ovnreserve.model.addresses import parse_v4, parse_v6
from ovnreserve.model.ip import Wanted
from ovnreserve.model.pool import Pool, WantedPool, pool_name, ranges_of
from ovnreserve.model.reservation import Reservation, dns_records_of, external_ids_of
from ovnreserve.model.resource import KIND, KIND_LEDGER, REVISION, State
from ovnreserve.northbound.columns import COLUMNS, INTEGER, MAP, OPTIONAL, SCALAR, SET, Kind
from ovnreserve.northbound.replica import Replica
from ovnreserve.plan.outcome import Context
from ovnreserve.plan.segment import Segment
from ovnreserve.plan.space import Space
from ovnreserve.plan.world import Touched, World

Row = dict[str, Any]
Tables = dict[str, dict[str, Row]]

MAC = "0a:00:00:00:00:01"
NOW = 1_800_000_000

_EMPTY: dict[Kind, Any] = {SCALAR: "", INTEGER: 0, OPTIONAL: None, SET: frozenset(), MAP: {}}
_is_uuid = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


def uuid_of(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


# ---- what a server sends (RFC 7047, 5.1; ovsdb-server(7), update2) ---------------------------------------------------


def to_json(kind: Kind, value: Any) -> Any:
    """The JSON of a column's value. A set of one is sent as a lone atom."""
    if kind is MAP:
        return ["map", [[key, item] for key, item in sorted(value.items())]]
    if kind in (SCALAR, INTEGER):
        return value
    members = sorted(value) if kind is SET else [] if value is None else [value]
    atoms = [["uuid", member] if isinstance(member, str) and _is_uuid(member) else member for member in members]
    return atoms[0] if len(atoms) == 1 else ["set", atoms]


def diff_to_json(kind: Kind, old: Any, new: Any) -> Any:
    """The JSON of a column in `modify`: of maps and sets what differs, of others the new value."""
    if kind is SET:
        return to_json(SET, old ^ new)
    if kind is MAP:
        changed = {key: new.get(key, old.get(key)) for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        return to_json(MAP, changed)
    return to_json(kind, new)


def initial(tables: Tables) -> dict[str, Any]:
    """A full dump."""
    return {table: {uuid: {"initial": _inserted(table, row)} for uuid, row in rows.items()} for table, rows in
            tables.items() if rows}  # fmt: skip


def update2(before: Tables, after: Tables) -> dict[str, Any]:
    """The changes from one state to another, as those of one transaction."""
    updates: dict[str, Any] = {}
    for table in before.keys() | after.keys():
        old, new = before.get(table, {}), after.get(table, {})
        rows: dict[str, Any] = {uuid: {"delete": None} for uuid in old.keys() - new.keys()}
        rows |= {uuid: {"insert": _inserted(table, new[uuid])} for uuid in new.keys() - old.keys()}
        for uuid in old.keys() & new.keys():
            if old[uuid] != new[uuid]:
                rows[uuid] = {"modify": _modified(table, old[uuid], new[uuid])}
        if rows:
            updates[table] = rows
    return updates


def _inserted(table: str, row: Row) -> Row:
    """Columns that have their type's default value are not sent."""
    kinds = COLUMNS[table]
    return {column: to_json(kinds[column], value) for column, value in row.items() if value != _EMPTY[kinds[column]]}


def _modified(table: str, old: Row, new: Row) -> Row:
    kinds = COLUMNS[table]
    return {
        column: diff_to_json(kinds[column], old[column], new[column]) for column in old if old[column] != new[column]
    }


# ---- a northbound database -------------------------------------------------------------------------------------------


class Cloud:
    """A northbound database with the Replica and the World that follow it.

    Methods that add something return the new row's uuid and send it at once; `tables` may be changed directly, too,
    and sent with `sync`.
    """

    def __init__(self) -> None:
        self.tables: Tables = {table: {} for table in COLUMNS}
        self.replica = Replica()
        self.world = World()
        self._sent = copy.deepcopy(self.tables)
        self._numbers = itertools.count(1)

    def send(self) -> None:
        """Let the replica have what changed since the last time."""
        self.replica.update(update2(self._sent, self.tables))
        self._sent = copy.deepcopy(self.tables)

    def send_all(self) -> None:
        """Let the replica have a full dump, as after a connection was lost."""
        self.replica.replace(initial(self.tables))
        self._sent = copy.deepcopy(self.tables)

    def look(self) -> Touched:
        """Let the world have what has come."""
        return self.world.apply(self.replica.tables, self.replica.take_changes())

    def sync(self) -> Touched:
        self.send()
        return self.look()

    def new_uuid(self) -> str:
        return uuid_of(next(self._numbers))

    def insert(self, table: str, **columns: Any) -> str:
        uuid = self.new_uuid()
        self.tables[table][uuid] = row_of(table, **columns)
        self.sync()
        return uuid

    def change(self, table: str, uuid: str, **columns: Any) -> Touched:
        self.tables[table][uuid].update(columns)
        return self.sync()

    def switch(
        self,
        name: str = "net",
        subnet: str | None = "10.0.0.0/24",
        *,
        v6: str | None = None,
        excludes: str | None = None,
        ids: dict[str, str] | None = None,
    ) -> str:
        config = {"subnet": subnet, "ipv6_prefix": v6, "exclude_ips": excludes}
        given = {key: value for key, value in config.items() if value is not None}
        return self.insert("Logical_Switch", name=name, other_config=given, external_ids=ids or {})

    def port(
        self,
        switch: str | None,
        name: str,
        *addresses: str,
        assigned: str | None = None,
        security: tuple[str, ...] = (),
        ids: dict[str, str] | None = None,
        **columns: Any,
    ) -> str:
        uuid = self.new_uuid()
        self.tables["Logical_Switch_Port"][uuid] = row_of(
            "Logical_Switch_Port", name=name, addresses=frozenset(addresses), dynamic_addresses=assigned,
            port_security=frozenset(security), external_ids=ids or {}, **columns,
        )  # fmt: skip
        if switch is not None:
            self.tables["Logical_Switch"][switch]["ports"] |= {uuid}
        self.sync()
        return uuid

    def delete_port(self, uuid: str) -> Touched:
        del self.tables["Logical_Switch_Port"][uuid]
        for row in self.tables["Logical_Switch"].values():
            row["ports"] -= {uuid}
        return self.sync()

    def router(self, switch: str, *networks: str, name: str = "lr0", mac: str = MAC, **columns: Any) -> str:
        """A router with one port, `NAME-PORT` to the switch, which has these networks; the router's uuid."""
        port = self.insert("Logical_Router_Port", name=f"{name}-port", mac=mac, networks=frozenset(networks))
        router = self.insert("Logical_Router", name=name, ports=frozenset({port}), **columns)
        self.port(switch, f"to-{name}", "router", type="router", options={"router-port": f"{name}-port"})
        return router

    def mac_prefix(self, prefix: str) -> None:
        self.insert("NB_Global", options={"mac_prefix": prefix})

    def record(self, r: Reservation) -> str:
        """The row of a reservation's record."""
        return self.insert("DNS", external_ids=external_ids_of(r))

    def ledger_row(self, revision: str) -> str:
        return self.insert("DNS", external_ids={KIND: KIND_LEDGER, REVISION: revision})

    def reserve(self, switch: str, name: str = "vm-1.default", **fields: Any) -> Reservation:
        """A reservation, in the world and nowhere else."""
        r = reservation(switch, name, **fields)
        self.world.put(r)
        return r

    def pool(self, switch: str, *ips: str, name: str = "pool-1", **fields: Any) -> Pool:
        """A pool, in the world and nowhere else."""
        made = pool(switch, *ips, name=name, **fields)
        self.world.put(made)
        return made

    def write_excludes(self, switch: str) -> None:
        """Have our part of exclude_ips be what the world says it should be."""
        row = self.tables["Logical_Switch"][switch]
        segment = self.world.segments[switch]
        value, mark = exclude_ips.join(segment.excluded.text(), segment.theirs)
        row["other_config"] = {**row["other_config"], "exclude_ips": value}
        row["external_ids"] = {**row["external_ids"], "ovnreserve/excluded": mark}
        for column, key in (("other_config", "exclude_ips"), ("external_ids", "ovnreserve/excluded")):
            if not row[column][key]:
                del row[column][key]
        self.sync()

    def segment(self, switch: str) -> Segment:
        return self.world.settled(self.world.segments[switch])

    def rebuilt(self) -> World:
        """A world made of the same rows, resources, quarantine and what is withheld from scratch."""
        world = world_of(self.tables, self.world.resources())
        for uuid, segment in self.world.segments.items():
            world.segments[uuid].withhold(frozenset(segment.withheld))
            for family, released in segment.released.items():
                for address in released:
                    world.quarantine(uuid, family, address, released.since(address))
        return world


def row_of(table: str, **columns: Any) -> Row:
    kinds = COLUMNS[table]
    assert columns.keys() <= kinds.keys(), columns.keys() - kinds.keys()
    return {column: columns.get(column, copy.copy(_EMPTY[kind])) for column, kind in kinds.items()}


def world_of(tables: Tables, reservations: Any = ()) -> World:
    replica = Replica()
    replica.replace(initial(tables))
    world = World()
    for r in reservations:
        world.put(r)
    world.apply(replica.tables, replica.take_changes())
    return world


# ---- what is in a world ----------------------------------------------------------------------------------------------


def contents(world: World) -> dict[str, Any]:
    """Every index of a world, settled, as plain values that can be compared."""
    segments = {uuid: _segment(world.settled(segment)) for uuid, segment in world.segments.items()}
    return copy.deepcopy({
        "segments": segments, "by_name": world.by_name, "ports": world.ports, "port_names": world.port_names,
        "reservations": world.reservations, "macs": world.macs, "switch_of": world._switch_of, "dhcp": world._dhcp,
        "blockers": world.blockers, "owners": world.owners, "pools": world.pools, "homes": world._homes,
        "whose": world.coverage._reservations, "covered": {name: world.coverage.of(name) for name in world.owners},
    })  # fmt: skip


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "switch": segment.switch,
        "excluded": list(segment.excluded),
        "text": segment.excluded.text(),
        "withheld": segment.withheld,
        "pools": list(segment.pools),
        "pooled": [list(segment.pools.runs(family)) for family in (4, 6)],
        "pending": segment.pending,
        "failed": segment.failed,
        "port_addresses": segment.port_addresses,
        "reserved": segment.reserved,
        "reserved_macs": segment.reserved_macs,
        "port_macs": segment.port_macs,
        "special": segment.special,
        "dhcp": segment.dhcp,
        "reservations": segment.reservations,
        "claims": segment.claims,
        "shared": segment.shared,
        "claimants": segment._claimants,
        "ours": segment.ours,
        "theirs": segment.theirs,
        "v4": _space(segment.v4),
        "v6": _space(segment.v6),
    }


def _space(space: Space | None) -> dict[str, Any] | None:
    if space is None:
        return None
    assert space.used + space.free + space.excluded == space.cidr.size
    return {
        "cidr": space.cidr,
        "taken": list(space.taken),
        "workload": space._workload,
        "infrastructure": space._infrastructure,
        "operator": list(space._operator),
        "quarantine": space.quarantined,
        "counts": (space.used, space.free, space.excluded),
    }


# ---- what goes into plans --------------------------------------------------------------------------------------------


def _identity(name: str) -> tuple[str, str]:
    pod, _, namespace = name.rpartition(".")
    return pod, namespace


def reservation(switch: str, name: str = "vm-1.default", **fields: Any) -> Reservation:
    """A held reservation of 10.0.0.9; addresses may be given as text."""
    pod, namespace = _identity(name)
    values: dict[str, Any] = {
        "name": name, "uid": f"uid-of-{name}", "switch": switch, "subnet": "net", "pod_name": pod,
        "namespace": namespace, "pod_type": "", "v4": "10.0.0.9", "v6": None, "mac": "02:6f:76:00:00:09",
        "state": State.HELD, "created": NOW, "resource_version": 5,
    }  # fmt: skip
    return Reservation(**_numbers({**values, **fields}))


def pool(switch: str, *ips: str, name: str = "pool-1", **fields: Any) -> Pool:
    """A held pool of subnet `net`, for namespace `red`."""
    v4, v6 = ranges_of(ips)
    values: dict[str, Any] = {
        "name": pool_name(name), "title": name, "uid": f"uid-of-{name}", "switch": switch, "subnet": "net",
        "namespaces": ("red",), "ips": ips, "v4": v4, "v6": v6, "state": State.HELD, "created": NOW,
        "resource_version": 5,
    }  # fmt: skip
    return Pool(**{**values, **fields})


def wanted_pool(*ips: str, name: str = "pool-1", **fields: Any) -> WantedPool:
    """A document for a pool of subnet `net`, for namespace `red`."""
    v4, v6 = ranges_of(ips)
    values: dict[str, Any] = {"title": name, "subnet": "net", "namespaces": ("red",), "ips": ips, "v4": v4, "v6": v6}
    return WantedPool(**{**values, **fields})


def wanted(name: str = "vm-1.default", **fields: Any) -> Wanted:
    """A document for an automatic address on subnet `net`; addresses may be given as text."""
    pod, namespace = _identity(name)
    values = {"name": name, "subnet": "net", "pod_name": pod, "namespace": namespace, "pod_type": ""}
    return Wanted(**_numbers({**values, **fields}))


def _numbers(fields: dict[str, Any]) -> dict[str, Any]:
    for key, parse in (("v4", parse_v4), ("v6", parse_v6)):
        if isinstance(fields.get(key), str):
            fields[key] = parse(fields[key])
    return fields


def context(*, patient: bool = True, version: int = 77, now: float = NOW + 60.0) -> Context:
    return Context(now, Random(7), version, patient)


__all__ = [
    "MAC", "NOW", "Cloud", "Row", "Tables", "contents", "context", "diff_to_json", "dns_records_of", "initial",
    "pool", "reservation", "row_of", "to_json", "update2", "uuid_of", "wanted", "wanted_pool", "world_of",
]  # fmt: skip
