"""Verifying: the stores are held against each other, and repaired if somebody asks for it.

It is done in the engine's thread, where nothing changes meanwhile, but in slices, one each turn: each reservation and
each switch is looked at as it is at one moment, and whoever writes waits for one slice at most.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from math import inf
from typing import Final, NamedTuple

import structlog

from ovnreserve.engine.commits import Commits, unavailable
from ovnreserve.engine.looks import not_seen
from ovnreserve.engine.published import Published
from ovnreserve.engine.queue import Queue
from ovnreserve.engine.settlement import UNSETTLED, Settlement
from ovnreserve.engine.states import States
from ovnreserve.engine.tasks import Tasks
from ovnreserve.engine.work import Answer, Verify
from ovnreserve.ledger.ledger import Ledger, LedgerError, LedgerLost
from ovnreserve.model.errors import Refused, Unavailable
from ovnreserve.model.resource import REVISION, Resource
from ovnreserve.northbound.connection import Northbound
from ovnreserve.plan.difference import Difference
from ovnreserve.plan.verify import Stores, verify_database, verify_ledger_row, verify_names
from ovnreserve.plan.verify_switch import verify_switches
from ovnreserve.plan.world import World

_log = structlog.get_logger(__name__)

MOST: Final = 1000
"""Differences that one answer names."""
SLICE: Final = 100
"""Resources, or switches, in one turn: about 3 ms."""
_LOGGED: Final = 10


class Verified(NamedTuple):
    """The first of so many differences; `is_busy` while something is being written that may be one."""

    differences: list[Difference]
    total: int
    is_busy: bool


class Verifier:
    def __init__(
        self,
        world: World,
        ledger: Ledger,
        northbound: Northbound,
        *,
        settlement: Settlement,
        commits: Commits,
        queue: Queue,
        tasks: Tasks,
        states: States,
        published: Published,
    ) -> None:
        self._world = world
        self._ledger = ledger
        self._northbound = northbound
        self._settlement = settlement
        self._commits = commits
        self._queue = queue
        self._tasks = tasks
        self._states = states
        self._published = published
        self._waiting: deque[tuple[Iterator[Answer | None], Callable[[Answer], None]]] = deque()
        self._go_on_at = 0.0
        self._strays: set[str] = set()
        """Names of which the ledger's file was found to say something else than the daemon knows."""

    def take(self, request: Verify, reply: Callable[[Answer], None]) -> None:
        """Reply with a Verified, some turns later, or that the repair has been begun."""
        if not self._states.has_compared:
            reply(Answer("error", refused=not_seen(self._states)))
        elif not request.repair:
            self._waiting.append((self._verify(), reply))
        elif self._published.state != "active":
            reply(Answer("error", refused=unavailable(self._published, self._northbound)))
        else:
            reply(self._repair())

    @property
    def due(self) -> float:
        """When to go on (monotonic); infinite while nobody has asked."""
        return self._go_on_at if self._waiting else inf

    def go_on(self) -> None:
        """One slice of what was asked first. It takes half of the time at most, the rest is for those who write."""
        started = time.monotonic()
        if started < self.due:
            return
        steps, reply = self._waiting[0]
        try:
            found = self._unseen() or next(steps)
        except Refused as refused:
            found = Answer("error", refused=refused)
        except LedgerLost:
            raise
        except Exception:  # noqa: BLE001 - nothing was changed, so one question's trouble is its own
            _log.exception("verify_failed")
            found = Answer("error", refused=Refused("internal error; the log of ovnreserved says more", kind=""))
        if found is not None:
            self._waiting.popleft()
            reply(found)
        now = time.monotonic()
        self._go_on_at = now + (now - started)

    def _unseen(self) -> Answer | None:
        """What is to be said while the database is not seen as it is."""
        if self._northbound.complete:
            return None
        return Answer("error", refused=unavailable(self._published, self._northbound))

    def _verify(self) -> Iterator[Answer | None]:
        """The answer, after as many times None as there are slices."""
        total, first = 0, list[Difference]()
        self._strays.clear()
        for found in self._slices():
            total += len(found)
            first += found[: MOST - len(first)]
            yield None
        yield Answer("found", found=Verified(first, total, self._is_busy))

    def _slices(self) -> Iterator[list[Difference]]:
        """The differences of the ledger row and of the database, then those of each few resources or switches."""
        replica, world = self._northbound.replica, self._world
        if not self._busy:
            revisions = [replica.tables["DNS"][uuid]["external_ids"].get(REVISION, "") for uuid in replica.ledger_rows]
            yield list(verify_ledger_row(revisions, self._ledger.vector))
        yield list(verify_database(world))
        seen: set[str] = set()
        after = ""
        while rows := self._ledger.load_some(after, SLICE):
            yield self._names({r.name: r for r in rows})
            seen.update(r.name for r in rows)
            after = rows[-1].name
        known = chain(world.reservations, world.owners, world.pools, replica.records)
        others = sorted({name for name in known if name not in seen})
        for at in range(0, len(others), SLICE):
            yield self._names(dict.fromkeys(others[at : at + SLICE]))
        switches = sorted(world.segments)
        for at in range(0, len(switches), SLICE):
            yield list(verify_switches(world, switches[at : at + SLICE], self._busy))

    def _names(self, kept: dict[str, Resource | None]) -> list[Difference]:
        """The differences of these names. Where the ledger's file says something else than the daemon knows, it is read
        again once everything is settled. Raises Unavailable where that cannot be written.
        """
        known, busy = self._world.resource, self._busy
        astray = [name for name, r in kept.items() if r != known(name) and name not in busy]
        if astray:
            if not self._settlement.write():
                raise UNSETTLED
            kept |= {name: self._ledger.find(name) for name in astray}
            self._strays.update(name for name in astray if kept[name] != known(name))
        return list(verify_names(self._world, self._stores(kept, busy), kept))

    def _stores(self, kept: Mapping[str, Resource | None], busy: Collection[str]) -> Stores:
        """What there is of these names."""
        replica = self._northbound.replica
        rows = replica.tables["DNS"]
        records = {
            name: [(uuid, rows[uuid]["external_ids"]) for uuid in sorted(replica.records.get(name, ()))]
            for name in kept
        }
        return Stores(kept, records, busy)

    @property
    def _busy(self) -> Collection[str]:
        """The names and switches that are being written."""
        batch = self._commits.batch
        return frozenset() if batch is None else batch.names | batch.switches

    @property
    def _is_busy(self) -> bool:
        waiting = self._commits.batch is not None or self._commits.must_compare or self._queue.has_work
        return waiting or self._tasks.due < float("inf") or self._tasks.is_catching_up

    def _repair(self) -> Answer:
        """Have the ledger's file say what the daemon knows, where it was found to differ, and have the stores compared:
        after that, whatever the database lacks is written again.
        """
        busy = self._busy
        strays = [name for name in self._strays if name not in busy]
        if strays:
            _log.warning("ledger_repaired", names=sorted(strays)[:_LOGGED], count=len(strays))
            try:
                known = (self._world.resource(name) for name in strays)
                self._ledger.commit([r for r in known if r is not None], strays)
            except LedgerError as error:
                return Answer("error", refused=Unavailable(str(error), kind=""))
        self._commits.must_compare = True
        return Answer("repairing")


