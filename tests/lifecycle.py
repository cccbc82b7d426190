"""A daemon's engine over a model of the northbound servers, so that every interleaving of the two can be had.

The engine, its tasks, its ledger and its World are the product's own; what stands in for the network is `Wire`: the
engine's transactions wait in it until the test has the server take them (`Site.serve`), and what others did to the
rows meanwhile (`Site.database`) has happened before. So a look, a commit of ours, a write of somebody else's and a
thought of ovn-northd's may come in any order. Time passes only where a test says so.

Each of our transactions is judged when it was carried out: what it has changed (`foreign_changes`), whom it has taken
an address from (`moved`, `doubled`) and whether what is kept is excluded (`unexcluded`). `unsettled` tells what is not
as it should be once nothing is left to do.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from builders import NOW, Cloud, Tables, contents, initial, update2
from ovsdb_model import PORTS, SWITCHES, execute, snapshot, thoughts, write_thoughts

import ovnreserve.engine.commits
import ovnreserve.engine.compare
import ovnreserve.engine.events
import ovnreserve.engine.inbox
import ovnreserve.engine.publisher
import ovnreserve.engine.queue
import ovnreserve.engine.settlement
import ovnreserve.engine.states
import ovnreserve.engine.tasks
import ovnreserve.engine.writer
from ovnreserve.engine.batch import Batch
from ovnreserve.engine.work import Answer, Request, Ticket
from ovnreserve.engine.writer import Engine
from ovnreserve.ledger.ledger import Ledger
from ovnreserve.model import exclude_ips
from ovnreserve.model.addresses import format_v4
from ovnreserve.model.owner import set_of
from ovnreserve.model.record import resource_of
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import KIND, KIND_LEDGER, NAME, State
from ovnreserve.model.topology import EXCLUDE_IPS, EXCLUDED_MARK, Port, parse_element, port_of, switch_of
from ovnreserve.northbound.connection import Northbound, Outcome, Transaction
from ovnreserve.northbound.transactions import Operations
from ovnreserve.plan.bind import judge
from ovnreserve.plan.holders import conflicts
from ovnreserve.plan.repair import is_written
from ovnreserve.plan.world import World

ENGINE = [getattr(ovnreserve.engine, name) for name in (
    "commits", "compare", "events", "inbox", "publisher", "queue", "settlement", "states", "tasks", "writer",
)]  # fmt: skip
"""The engine's modules that ask for the time."""
TURNS = 400
"""In so many turns at most everything has to be done."""
_MEMORY = Path("/dev/shm")


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return NOW + self.now


class Sent:
    """A transaction on its way, or with its outcome. `seen` is what the rows were when it was planned."""

    def __init__(self, operations: Operations, seen: Tables) -> None:
        self.operations = operations
        self.seen = seen
        self.culprit = ""
        self.error = ""
        self.result = Outcome.PENDING

    def outcome(self) -> Outcome:
        return self.result


class Wire(Northbound):
    """The connection: what happened at the server arrives when the engine looks."""

    complete = True  # type: ignore[assignment]
    has_lock = True  # type: ignore[assignment]
    dumps = 1  # type: ignore[assignment]
    last_error = ""  # type: ignore[assignment]

    def __init__(self, database: Tables) -> None:
        super().__init__("model", writer="machine")
        self.database = database
        self.replica.replace(initial(database))
        self._sent = snapshot(database)
        self.transaction: Sent | None = None

    def run(self) -> None:
        self.replica.update(update2(self._sent, self.database))
        self._sent = snapshot(self.database)

    def contend(self, wanted: bool) -> None:
        """There is no other daemon."""

    def close(self) -> None:
        """There is nothing to close."""

    def commit(self, operations: Operations) -> Transaction:
        self.transaction = Sent(operations, self._sent)
        return self.transaction  # type: ignore[return-value]


class Database(Cloud):
    """Rows at the server: whoever changes them need not send anything."""

    def sync(self) -> Any:
        return None


class Site:
    """One daemon, one database. `wrong` is what was found of our transactions so far."""

    def __init__(self, *, keep_vm_ip: bool = False, block_squatters: bool = False) -> None:
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock()
        for module in ENGINE:
            self.patch.setattr(module, "time", self.clock)
        self._directory = tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None)
        self.database = Database()
        self.database.insert("NB_Global")
        self.tables = self.database.tables
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.asked: list[Request] = []
        """What has not been answered yet, and will not be by a daemon that was killed."""
        self.answers: list[tuple[Request, Answer]] = []
        self.options = {"keep_vm_ip": keep_vm_ip, "block_squatters": block_squatters}
        self._random = Random(7)  # not begun again with the daemon: it would give uids that others have
        self._thought: dict[str, str | None] | None = None
        self._start()

    # ---- the daemon --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.wire = Wire(self.tables)
        self.ledger = Ledger(Path(self._directory.name) / "ledger.db")
        self.engine = Engine(  # that all its switches went with the ledger row makes it nobody else's database
            self.ledger, self.wire, random=self._random, adopt_database=True, **self.options
        )
        self.engine.deliver = self._delivered

    def restart(self) -> None:
        """The daemon is killed, whatever is under way, and started again."""
        self.ledger.close()
        os.close(self.engine._event)
        self._start()

    def close(self) -> None:
        self.ledger.close()
        os.close(self.engine._event)
        self._directory.cleanup()
        self.patch.undo()

    @property
    def world(self) -> World:
        return self.engine.world

    def ask(self, *requests: Request) -> None:
        """Ask for all of these at once."""
        for request in requests:
            self.asked.append(request)
            self.engine.submit([request], request, timeout=1e6)

    def _delivered(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            self.asked = [request for request in self.asked if request is not ticket.key]
            self.answers += [(ticket.key, answer) for answer in ticket.answers if answer is not None]

    def turn(self) -> None:
        """The engine receives, looks, plans, and sends its transaction."""
        self.engine._turn()

    @property
    def is_under_way(self) -> bool:
        sent = self.wire.transaction
        return sent is not None and sent.result is Outcome.PENDING

    # ---- the servers -------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """The server takes our transaction, if there is one."""
        sent = self.wire.transaction
        if sent is None or sent.result is not Outcome.PENDING:
            return
        before = snapshot(self.tables)
        failed = execute(self.tables, sent.operations.operations, self.database.new_uuid)
        if failed is not None:
            sent.culprit = sent.operations.blame[failed]
            sent.result = Outcome.REFUSED
            self.counts["refused"] += 1
            return
        sent.result = Outcome.COMMITTED
        self.counts["committed"] += 1
        batch = self.engine._commits.batch
        if batch is not None and batch.planned:
            self.wrong += wrong_with(self, batch, before, sent.seen)

    def northd_looks(self) -> None:
        self._thought = thoughts(self.tables)

    def northd_writes(self) -> None:
        """Write what was thought at the last look, and answer who waits."""
        if self._thought is not None:
            write_thoughts(self.tables, self._thought)
            self._thought = None

    def northd_runs(self) -> None:
        """Look and write until there is nothing more to write."""
        write_thoughts(self.tables, thoughts(self.tables))
        for row in self.tables["NB_Global"].values():
            row["sb_cfg"] = row["nb_cfg"]

    def settle(self) -> None:
        """Let everybody do whatever there is to do."""
        self._thought = None
        for _ in range(TURNS):
            self.northd_runs()
            self.turn()
            if self.is_under_way:
                self.serve()
                continue
            pause = self.engine._pause()
            if pause > 20:
                return
            self.clock.now += pause + 0.001
        raise AssertionError(f"not done in {TURNS} turns: {self._doing()}")

    def _doing(self) -> str:
        queue = self.engine._queue
        return f"waiting {[w.name for w in queue.waiting]}, deferred {[w.name for w in queue.deferred]}"


# ---- what a transaction of ours has done -----------------------------------------------------------------------------


def wrong_with(site: Site, batch: Batch, before: Tables, seen: Tables) -> list[str]:
    """`before` is what the rows were just before it, `seen` what they were when it was planned."""
    after = site.tables
    comment = next(o["comment"] for o in site.wire.transaction.operations.operations if o["op"] == "comment")  # type: ignore[union-attr]
    found = [
        *foreign_changes(site, batch, before, after),
        *moved(site, before, seen, after),
        *doubled(site, batch, seen, after),
        *unexcluded(site, batch, seen, after),
    ]
    return [f"{comment}: {what}" for what in found]


def foreign_changes(site: Site, batch: Batch, before: Tables, after: Tables) -> Iterator[str]:
    """Rows, columns, keys or text of somebody else that are not what they were."""
    bound = {step.reservation for step in batch.all_steps if hasattr(step, "reservation")}
    ours = batch.names | bound
    for table, rows in before.items():
        for uuid in rows.keys() | after[table].keys():
            old, new = rows.get(uuid), after[table].get(uuid)
            if old == new:
                continue
            match table:
                case "DNS":
                    ids = (new or old or {})["external_ids"]
                    if ids.get(KIND) != KIND_LEDGER and ids.get(NAME) not in ours:
                        yield f"DNS row {ids} was changed"
                case "NB_Global":
                    if {**(old or {}), "nb_cfg": 0} != {**(new or {}), "nb_cfg": 0}:
                        yield f"NB_Global was {old}, is {new}"
                case "Logical_Switch_Port":
                    yield from _changes_of_port(site, batch, ours, old, new)
                case "Logical_Switch":
                    yield from _changes_of_switch(old, new, before)
                case _:
                    yield f"{table} was {old}, is {new}"


def _changes_of_port(site: Site, batch: Batch, ours: set[str], old: Any, new: Any) -> Iterator[str]:
    if old is not None and new is not None and {**old, "enabled": None} == {**new, "enabled": None}:
        if not site.options["block_squatters"] or old["type"]:
            yield f"port {old['name']} was disabled or enabled"
        return
    if old is None or old["name"] not in ours:
        yield f"port was {old}, is {new}"
        return
    name = old["name"]
    if new is None and any(work.name == name and plan.result == "deleted" for work, plan in batch.planned):
        return  # somebody has asked for it, by the name of its IP
    known = site.world.reservations.get(name) or batch.before.get(name)
    if not isinstance(known, Reservation):
        yield f"port {name} of no reservation of ours was changed"
    elif new is None:
        yield f"port {name} was deleted"
    else:
        if {**old, "addresses": ()} != {**new, "addresses": ()}:
            yield f"port {name} was {old}, is {new}"
        elements = [parse_element(text) for text in old["addresses"]]
        lost = {e.text for e in elements if not e.dynamic and (e.v4 or e.v6 or e.mac is None)} - new["addresses"]
        if lost:
            yield f"port {name} has lost {lost}"


def _changes_of_switch(old: Any, new: Any, before: Tables) -> Iterator[str]:
    if old is None or new is None:
        yield f"switch was {old}, is {new}"
        return
    name = old["name"]
    if new["ports"] - old["ports"]:
        yield f"switch {name} has more ports"
    yield from (f"switch {name} lost a port" for uuid in old["ports"] - new["ports"] if uuid not in before[PORTS])
    rest = [
        {column: row[column] for column in row if column not in ("ports", "other_config", "external_ids")}
        | {"config": {key: value for key, value in row["other_config"].items() if key != EXCLUDE_IPS}}
        | {"ids": {key: value for key, value in row["external_ids"].items() if key != EXCLUDED_MARK}}
        for row in (old, new)
    ]
    if rest[0] != rest[1]:
        yield f"switch {name} was {rest[0]}, is {rest[1]}"
    theirs = [_split(row)[1] for row in (old, new)]
    if theirs[0] != theirs[1]:
        yield f"the operator's exclude_ips of {name} was {theirs[0]!r}, is {theirs[1]!r}"
    for column, key in (("other_config", EXCLUDE_IPS), ("external_ids", EXCLUDED_MARK)):
        if new[column].get(key) == "" != old[column].get(key):
            yield f"switch {name} has an empty {key}"


def _split(row: Any) -> tuple[str, str]:
    return exclude_ips.split(row["other_config"].get(EXCLUDE_IPS, ""), row["external_ids"].get(EXCLUDED_MARK))


def moved(site: Site, before: Tables, seen: Tables, after: Tables) -> Iterator[str]:
    """Running dynamic ports that would have stayed where they are, but for our transaction."""
    without, now = thoughts(before), thoughts(after)
    for uuid, row in before[PORTS].items():
        has = row["dynamic_addresses"]
        if not has or without.get(uuid) != has or uuid not in after[PORTS]:
            continue
        new = after[PORTS][uuid]
        static = [parse_element(text) for text in new["addresses"] if "dynamic" not in text]
        if now.get(uuid) == has:
            continue
        was = parse_element(has)
        if not was.v4:
            continue  # there was none left for it
        if now.get(uuid) is None and any(
            e.mac == was.mac and set(was.v4) <= set(e.v4) and set(was.v6) <= set(e.v6) for e in static
        ):
            site.counts["pinned"] += 1
            continue
        if now.get(uuid) is None and not row["up"]:
            site.counts["given another before it was up"] += 1
            continue
        asks = next((e.v4 for e in map(parse_element, sorted(row["addresses"])) if e.dynamic), ())
        if asks and asks != was.v4 and not _takes(before, after, uuid, was.v4):
            site.counts["asked for another: ovn-northd chooses anew whenever it looks"] += 1
            continue
        if seen[PORTS].get(uuid) != row:
            site.counts["moved, changed since we looked"] += 1
            if seen[PORTS].get(uuid) is not None or not _is_guarded(site):
                continue
        yield f"port {row['name']} was moved from {has} to {now.get(uuid) or sorted(new['addresses'])}"


def _takes(before: Tables, after: Tables, port: str, addresses: Sequence[int]) -> bool:
    """Does the transaction exclude what the port has, or give it to another? Else ovn-northd moved it itself."""
    switch = next(uuid for uuid, row in after[SWITCHES].items() if port in row["ports"])
    was, now = (_excluded_by_us(tables[SWITCHES][switch]) for tables in (before, after))
    others = [e for other in _ports_on(after, switch) if other.uuid != port for e in other.elements if not e.dynamic]
    return not set(addresses).isdisjoint((now - was) | {address for e in others for address in e.v4})


def _is_guarded(site: Site) -> bool:
    """Did the transaction insist on the ports of a switch?"""
    sent = site.wire.transaction
    return sent is not None and any(o.get("columns") == ["ports"] for o in sent.operations.operations)


def doubled(site: Site, batch: Batch, seen: Tables, after: Tables) -> Iterator[str]:
    """Addresses that were given to a new reservation while somebody else had them."""
    before = batch.before
    for _work, plan in batch.planned:
        r = plan.resource
        if not isinstance(r, Reservation) or plan.result == "unchanged" or not r.live or r.state is State.RELEASING:
            continue
        old = before.get(r.name)
        is_new, is_moved = old is None, old is not None and old.home != r.home
        if not (is_new or is_moved):
            continue
        for other in site.world.reservations.values():
            if other.name != r.name and set(other.claims()) & set(r.claims()):
                yield f"IP {r.name} has what IP {other.name} has"
        for port in _ports_on(after, r.switch) if is_new else ():
            macs, v4, v6 = port.own()
            if port.name != r.name and (r.v4 in v4 or r.v6 in v6 or r.mac in macs):
                if seen[PORTS].get(port.uuid) == after[PORTS][port.uuid]:
                    yield f"IP {r.name} has what port {port.name} has"
                else:
                    site.counts["doubled, came as we committed"] += 1


def _ports_on(tables: Tables, switch: str) -> Iterator[Port]:
    row = tables[SWITCHES].get(switch)
    for uuid in row["ports"] if row is not None else ():
        yield port_of(uuid, tables[PORTS][uuid], switch)


def unexcluded(site: Site, batch: Batch, seen: Tables, after: Tables) -> Iterator[str]:
    """Kept addresses that a switch whose exclude_ips we have written does not exclude, though nobody else runs there.
    Where there was nothing to write, somebody may just have rewritten it: that is repaired later.
    """
    new = {r.home for _work, plan in batch.planned if (r := plan.resource) is not None and r.state is State.INTENDED}
    for uuid in batch.excludes():
        if not (_writes_excludes(site, uuid) or uuid in new):
            continue
        row = after[SWITCHES].get(uuid)
        segment = site.world.segments.get(uuid)
        if row is None or segment is None:
            continue
        excluded = _excluded_by_us(row)
        for r in _kept_on(site.world, uuid, row):
            assert r.v4 is not None
            shown = f"{format_v4(r.v4)} of IP {r.name}"
            if r.v4 in excluded and r.v4 in segment.withheld:
                yield f"{shown} is excluded and withheld"
            elif r.v4 not in excluded and r.v4 not in segment.withheld:
                yield f"{shown} is not excluded"
            elif r.v4 in segment.withheld and not any(r.v4 in p.own()[1] for p in _ports_on(seen, uuid)):
                yield f"{shown} is withheld for nobody"


def _writes_excludes(site: Site, switch: str) -> bool:
    sent = site.wire.transaction
    is_it = [["_uuid", "==", ["uuid", switch]]]
    return sent is not None and any(
        o["op"] == "mutate" and o["where"] == is_it and o["mutations"][0][0] == "other_config"
        for o in sent.operations.operations
    )


def _excluded_by_us(row: Any) -> set[int]:
    v4 = switch_of("", row).v4
    if v4 is None:
        return set()
    ranges = exclude_ips.parse(_split(row)[0], v4.first, v4.prefixlen).ranges
    return {address for first, last in ranges for address in range(first, last + 1)}


def _kept_on(world: World, uuid: str, row: Any) -> list[Reservation]:
    v4 = switch_of("", row).v4
    on = (r for r in world.reservations.values() if r.switch == uuid and r.live and r.v4 is not None)
    return [r for r in on if v4 is not None and r.v4 in v4 and r.v4 not in (v4.first, v4.last)]


# ---- what is so once nothing is left to do ---------------------------------------------------------------------------


def unsettled(site: Site, reserved: dict[str, str]) -> Iterator[str]:
    """`reserved` are the uids of what was reserved by label and not deleted since, by name."""
    world = site.world
    yield from _lost(world, reserved)
    yield from _records(site)
    yield from _retained(site)
    yield from _excluded(site)
    yield from _counted(site)
    yield from _published(site)
    for r in world.reservations.values():
        if r.state is State.RELEASING:
            yield f"IP {r.name} is still being released"
        if r.state is State.HELD and judge(world, r).addresses is not None:
            yield f"port {r.name} is not bound: {judge(world, r).message}"
    if thoughts(site.tables) != {uuid: row["dynamic_addresses"] for uuid, row in site.tables[PORTS].items()}:
        yield "ovn-northd has not come to an end"
    if contents(world) != contents(rebuilt(site)):
        differences = "; ".join(_differences(contents(world), contents(rebuilt(site))))
        yield f"the world is not what it would be anew: {differences}"


def _differences(now: Any, anew: Any, path: str = "") -> Iterator[str]:
    if isinstance(now, dict) and isinstance(anew, dict):
        for key in now.keys() | anew.keys():
            yield from _differences(now.get(key), anew.get(key), f"{path}.{key}")
    elif now != anew:
        yield f"{path}: {now} != {anew}"


def _lost(world: World, reserved: dict[str, str]) -> Iterator[str]:
    for name, uid in reserved.items():
        r = world.reservations.get(name)
        if r is None or r.uid != uid:
            yield f"IP {name} was reserved and is not there"
        elif r.state is not State.FAILED and not r.reserved:
            yield f"IP {name} was reserved and is not any more"


def _records(site: Site) -> Iterator[str]:
    """The database says of each resource what the world says."""
    rows = [row["external_ids"] for row in site.tables["DNS"].values()]
    said: dict[str, list[Any]] = {}
    for ids in rows:
        if ids.get(KIND) not in (None, KIND_LEDGER):
            said.setdefault(ids.get(NAME, ""), []).append(resource_of(ids))
    for resource in site.world.resources():
        if resource.home and resource.home not in site.world.segments:
            continue
        if resource.state is State.RELEASING:
            continue  # an owner that is remembered as gone: its record is written again only when all is compared
        if resource not in said.get(resource.name, ()):
            yield f"the record of {resource.name} says {said.get(resource.name)}, not {resource}"
    for name in said.keys() - {resource.name for resource in site.world.resources()}:
        if any(said[name]):
            yield f"there is a record of {name}, which nobody knows"
    held = {r.name: r for r in site.ledger.load()}
    for resource in site.world.resources():
        if held.pop(resource.name, None) != resource:
            yield f"the ledger does not have {resource}"
    yield from (f"the ledger has {name}" for name in held)


def keeps(site: Site, pod_name: str, namespace: str, pod_type: str) -> bool:
    """Does an owner keep the IP of that workload? The rule of plan/retain.py, told once more."""
    known = {(o.kind, o.namespace, o.title): o for o in site.world.owners.values()}
    machine = known.get(("VirtualMachine", namespace, pod_name))
    found = set_of(pod_name)
    stateful_set = known.get(("StatefulSet", namespace, found[0])) if found else None
    says = [False]
    if pod_type == "VirtualMachine" or (not pod_type and machine):
        says.append(site.world.keep_vm_ip and not (machine and machine.state is State.RELEASING))
    if pod_type == "StatefulSet" or (not pod_type and stateful_set):
        gone = stateful_set is not None and stateful_set.state is State.RELEASING
        is_unknown = not stateful_set or not found
        says.append(is_unknown or (not gone and found[1] < stateful_set.start + stateful_set.replicas))
    return any(says)


def _retained(site: Site) -> Iterator[str]:
    world = site.world
    for r in world.reservations.values():
        if not r.reserved and r.state is State.HELD and not keeps(site, r.pod_name, r.namespace, r.pod_type):
            yield f"IP {r.name} is retained, and nobody retains it"
    for port in world.ports.values():
        if port.name in world.reservations or port.type or port.switch is None or port.pending:
            continue
        if not keeps(site, *world.identity(port)) or not any(
            e.mac and (e.v4 or e.v6) for e in (*port.elements, *filter(None, (port.assigned,)))
        ):
            continue
        if port.name not in site.engine._tasks._not_retained:
            yield f"port {port.name} has an owner, and its IP is not retained: {port}, {_doing(site)}"
    for owner in world.owners.values():
        if owner.state is State.RELEASING and not any(True for _ in _of_owner(world, owner)):
            yield f"{owner.name} is gone, and still known, because of {sorted(world.coverage.of(owner.name))}"


def _doing(site: Site) -> str:
    tasks = site.engine._tasks
    return f"births {tasks._births}, ready {tasks._ready}, under way {tasks._under_way}"


def _of_owner(world: World, owner: Any) -> Iterator[str]:
    """The ports and the IPs with a type, or retained, that are the owner's by their names."""
    whose = [world.identity(port) for port in world.ports.values()]
    whose += [(r.pod_name, r.namespace, "") for r in world.reservations.values() if r.pod_type or not r.reserved]  # type: ignore[misc]
    for pod_name, namespace, _type in whose:
        found = set_of(pod_name)
        title = pod_name if owner.kind == "VirtualMachine" else found[0] if found else None
        if (title, namespace) == (owner.title, owner.namespace):
            yield pod_name


def _excluded(site: Site) -> Iterator[str]:
    world = site.world
    for uuid, segment in world.segments.items():
        row = site.tables[SWITCHES][uuid]
        if not is_written(segment):
            yield f"exclude_ips of {segment.switch.name} is {row['other_config'].get(EXCLUDE_IPS)!r}"
        excluded = _excluded_by_us(row)
        for r in _kept_on(world, uuid, row):
            if r.v4 in excluded:
                continue
            thieves = [p for p in _ports_on(site.tables, uuid) if p.assigned and r.v4 in p.assigned.v4]
            if not thieves:
                yield f"{r.what} is not excluded, and no dynamic port has it"
            if not conflicts(world, r) and not any(p.name == r.name for p in thieves):
                yield f"{r.what} is not excluded, and not conflicted"


def _counted(site: Site) -> Iterator[str]:
    """Used + available + excluded is the whole, address by address."""
    world = site.world
    for uuid, segment in world.segments.items():
        world.settled(segment)
        space = segment.v4
        if space is None:
            continue
        first, last = space.cidr.hosts
        holders = {a for port in _ports_on(site.tables, uuid) for a in port.own()[1]}
        holders |= {r.v4 for r in world.reservations.values() if r.switch == uuid and r.live and r.v4 is not None}
        row = site.tables[SWITCHES][uuid]
        ranges = exclude_ips.parse(_split(row)[1], space.cidr.first, space.cidr.prefixlen).ranges
        theirs = {address for first, last in ranges for address in range(first, last + 1)}
        infrastructure = set(segment.claims.v4) if segment.claims else set()
        used = excluded = free = 0
        for address in range(first, last + 1):
            if address in holders:
                used += 1
            elif address in theirs:
                excluded += 1
            elif address in infrastructure:
                used += 1
            else:
                free += 1
        counts = space.used, space.free, space.excluded
        if counts != (used, free, excluded):
            yield f"subnet {segment.switch.name} counts {counts}, not {(used, free, excluded)}"


def _published(site: Site) -> Iterator[str]:
    """What users see is of now."""
    ips, world = site.engine.published.ips, site.world
    if ips.keys() != world.reservations.keys():
        yield f"published are {sorted(ips)}, there are {sorted(world.reservations)}"
        return
    for name, (r, seen) in ips.items():
        if r.state is State.RELEASING:
            continue
        rivals = conflicts(world, r) if r.switch in world.segments else ()
        now = world.reservations[name], judge(world, r), [rival._replace(since=0.0) for rival in rivals]
        then = r, seen.bound, [rival._replace(since=0.0) for rival in seen.conflicts]
        if then != now:
            yield f"published of {name} is {then}, not {now}"


def rebuilt(site: Site) -> World:
    """A world made from scratch of the same rows, resources, quarantine and what is withheld."""
    site.database.world = site.world
    return site.database.rebuilt()
