"""A daemon's engine over a model of the northbound servers, so that every interleaving of the two can be had.

The engine, its tasks, its ledger and its World are the product's own; what stands in for the network is `Wire`: the
engine's transactions wait in it until the test has the server take them (`Site.serve`), and what others did to the
rows meanwhile (`Site.database`) has happened before. So a look, a commit of ours, a write of somebody else's and a
thought of ovn-northd's may come in any order. Time passes only where a test says so.

Each of our transactions is judged when it was carried out (lifecycle_commits.py), what users see when somebody looks
(lifecycle_pools.py), and everything once nothing is left to do (lifecycle_settled.py).
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from builders import NOW, Cloud, Tables, initial, update2
from lifecycle_commits import wrong_with
from lifecycle_pools import miscounted
from ovsdb_model import execute, snapshot, thoughts, write_thoughts

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
from ovnreserve.engine.work import Answer, Delete, Look, Refresh, Request, Ticket
from ovnreserve.engine.writer import Engine
from ovnreserve.ledger.ledger import Ledger
from ovnreserve.model.resource import NAME
from ovnreserve.northbound.connection import Northbound, Outcome, Transaction
from ovnreserve.northbound.transactions import Operations
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
        self.condemned: set[str] = set()
        """Names of which somebody has asked that IP and port be deleted, until both are gone."""
        self.answers: list[tuple[Request, Answer]] = []
        self.vouched: dict[str, tuple[str | None, ...]] = {}
        """What switches say of what they exclude that excluded all that is kept when they were last looked at."""
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
        self.vouched.clear()  # what the ledger says and nobody was told may be there again
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
            if isinstance(request, Delete):
                self.condemned.add(request.name)
            self.engine.submit([request], request, timeout=1e6)

    def look(self) -> None:
        """Hold what users see of subnets and pools against what there is."""
        def look_at(world: World) -> None:
            if self.engine._commits.batch is None:  # else the world has what is not published yet
                self.wrong += miscounted(self, world)

        self.ask(Refresh(), Look(look_at))
        self.turn()

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
        there = {row["external_ids"].get(NAME) for row in self.tables["DNS"].values()}
        there |= {row["name"] for row in self.tables["Logical_Switch_Port"].values()}
        self.condemned &= there | {request.name for request in self.asked if isinstance(request, Delete)}

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
