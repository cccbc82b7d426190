"""One group commit at a time: ledger, northbound, and what may become of it.

begin ──ledger──> (intent is durable) ──northbound──> under way
under way ── committed ──> answers, journal; what is to be awaited of ovn-northd
── refused (a guard failed), not sent, rejected ──> taken back from world and ledger; planned again, or refused
── unknown (the connection broke) ──> stands until the stores are compared
"""

from __future__ import annotations

import time
from functools import partial
from typing import Final

import structlog

from ovnreserve.engine import points
from ovnreserve.engine.barrier import Awaited, Barriers
from ovnreserve.engine.batch import Batch, Planned
from ovnreserve.engine.events import Events, log_events
from ovnreserve.engine.points import Point
from ovnreserve.engine.published import Published
from ovnreserve.engine.publisher import Publisher
from ovnreserve.engine.queue import Queue
from ovnreserve.engine.settlement import Settlement
from ovnreserve.engine.tasks import Tasks
from ovnreserve.engine.work import Answer, Work
from ovnreserve.ledger.ledger import Ledger, LedgerError
from ovnreserve.model.errors import Unavailable
from ovnreserve.model.pace import paced
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Resource, State
from ovnreserve.model.steps import UpdateRecord
from ovnreserve.northbound.connection import Northbound, Outcome
from ovnreserve.northbound.transactions import REVISION_BLAME, Operations
from ovnreserve.plan import revision
from ovnreserve.plan.holders import conflicts
from ovnreserve.plan.outcome import Event, Plan
from ovnreserve.plan.world import World

_log = structlog.get_logger(__name__)

PATIENCE: Final = 2.0
"""Seconds that a plan waits for ovn-northd to choose for pending ports (design, Reserve), or for the others to let its
guards hold.
"""
RELEASE_BARRIER: Final = 5.0
"""Seconds that a release waits for ovn-northd before it goes on."""
_BACKOFF: Final = (0.0, 0.0, 0.001, 0.005, 0.02, 0.1, 0.25)
_LEDGER_RETRY: Final = 1.0
_NOT_ENFORCED: Final = "ovn-northd has not answered yet: it is committed, condition Enforced is Unknown"


class Commits:
    """`batch` is the one under way; `must_compare` says that the stores have to be compared before the next."""

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        northbound: Northbound,
        *,
        queue: Queue,
        tasks: Tasks,
        settlement: Settlement,
        publisher: Publisher,
        published: Published,
        events: Events,
    ) -> None:
        self.batch: Batch | None = None
        self.must_compare = False
        self.barriers = Barriers()
        self._world = world
        self._ledger = ledger
        self._northbound = northbound
        self._queue = queue
        self._tasks = tasks
        self._settlement = settlement
        self._publisher = publisher
        self._published = published
        self._events = events

    @property
    def under_way(self) -> list[Work]:
        return [work for work, _plan in self.batch.planned] if self.batch is not None else []

    def begin(self, batch: Batch, wall: float) -> None:
        """Write the batch's intent to the ledger and send its transaction; what needs neither is answered at once."""
        needs_northbound = bool(batch.steps) or batch.barrier
        puts, drops = batch.puts(), batch.drops()
        journal = [] if needs_northbound else batch.entries(wall)
        if puts or drops or needs_northbound:
            points.reached(Point.PLANNED, batch.all_steps)
            try:
                self._settlement.commit_with(puts, drops, journal, count=needs_northbound)
            except LedgerError as error:
                _log.error("ledger_failed", error=str(error))
                batch.undo()
                for work, _plan in batch.planned:
                    if work.ticket is None:
                        self._queue.waiting.append(work)
                    else:
                        self._queue.refuse(work, Unavailable(f"nothing was changed: {error}"))
                self._queue.waiting.extend(batch.doubtful)
                self._queue.pause(_LEDGER_RETRY)
                return
            points.reached(Point.INTENDED, batch.all_steps)
        self._world.beat()
        self._publisher.leaving = frozenset(work.name for work, plan in batch.planned if plan.ends)
        self._publisher.changed(work.name for work, plan in batch.planned if not plan.ends)
        operations = Operations(self._northbound.replica, self._northbound.writer)
        if needs_northbound:
            operations.build(
                batch.steps,
                batch.excludes(),
                revision.encode(self._ledger.revision),
                self._ledger.ceiling,
                barrier=batch.barrier,
            )
        else:
            log_events(journal)
            if not (puts or drops):
                self._settlement.note(journal)
            for work, plan in batch.planned:
                self._queue.answer(work, Answer(plan.result, plan.resource, plan.warnings))
            if not batch.doubtful:
                return
            batch.planned.clear()
            operations.look()
        batch.transaction = self._northbound.commit(operations)
        points.reached(Point.SENT, batch.all_steps)
        self.batch = batch
        self.advance()

    def advance(self) -> None:
        """Has the transaction under way come to an end?"""
        batch = self.batch
        if batch is None or batch.transaction is None:
            return
        outcome = batch.transaction.outcome()
        if outcome is Outcome.PENDING:
            return
        self.batch = None
        self._publisher.leaving = frozenset()
        culprit, error = batch.transaction.culprit, batch.transaction.error
        match outcome:
            case Outcome.COMMITTED:
                self._committed(batch)
            case Outcome.UNKNOWN:
                self._unknown(batch)
            case Outcome.REFUSED:
                self._take_back(batch)
                self._plan_again(batch, culprit)
            case Outcome.NOT_SENT:
                self._take_back(batch)
                for work, _plan in batch.planned:  # our own tasks are found again by comparing
                    self._queue.refuse(work, unavailable(self._published, self._northbound))
            case _:
                self._take_back(batch)
                self._reject(batch, culprit, error)
        for work in batch.doubtful:
            work.certain = outcome not in (Outcome.NOT_SENT, Outcome.UNKNOWN)
        self._queue.put_first(batch.doubtful)

    # ---- how a transaction may end ---------------------------------------------------------------------------------

    def _committed(self, batch: Batch) -> None:
        points.reached(Point.COMMITTED, batch.all_steps)
        now, wall = time.monotonic(), time.time()
        row = self._northbound.replica.nb_global()
        target = row["nb_cfg"] if row is not None else None
        if batch.planned:
            self._ledger.confirm()
        entries = batch.entries(wall)
        self._settlement.note(entries)
        log_events(entries)
        self._queue.not_before = 0.0
        held: list[str] = []
        releasing: list[Resource] = []
        waiting: list[tuple[Work, Answer]] = []
        before = batch.before
        for planned in paced(batch.planned, self._world.beat):
            work, plan = planned
            self._tasks.done(work)
            answer = self._acknowledge(planned, before.get(work.name), held, releasing)
            if batch.barrier and work.wait_sb and plan.result != "deleted":
                waiting.append((work, answer))
                if work.ticket is not None:
                    late = answer._replace(warnings=(*answer.warnings, _NOT_ENFORCED))
                    work.ticket.fallback[work.index] = late
            else:
                self._queue.answer(work, answer)
        self._tasks.told(batch.names)
        self._tasks.look_after(batch.names, batch.switches)
        self._publisher.committed(held)
        self._publisher.changed(work.name for work, _plan in batch.planned)
        self._publisher.changed(e.name for e in entries)  # whom a repair of a switch withheld
        self._publisher.subnets_changed(batch.switches)
        self._published.revision = self._ledger.vector
        if releasing:
            seen = partial(self._released, releasing, self._publisher.mark)
            self.barriers.add(Awaited(target, now + RELEASE_BARRIER, seen))
        if waiting:
            until = max(work.ticket.deadline for work, _answer in waiting if work.ticket is not None)
            self.barriers.add(Awaited(target, until, partial(self._enforced, waiting, target, self._publisher.mark)))

    def _acknowledge(
        self, planned: Planned, before: Resource | None, held: list[str], releasing: list[Resource]
    ) -> Answer:
        """The plan is carried out: its resource is held, or on its way out, or gone."""
        work, plan = planned
        r = plan.resource
        if plan.ends:
            r = None
            if before is not None:
                self._settlement.drop(before)
                self._tasks.freed(before)
        elif r is not None and r.state is State.INTENDED and self._world.resource(r.name) is r:
            r = r.with_(state=State.HELD)
            self._world.acknowledge(r)
            self._settlement.hold(r)
            held.append(r.name)
            rivals = conflicts(self._world, r) if isinstance(r, Reservation) else ()
            late = [rival for rival in rivals if not any(rival.who in warning for warning in plan.warnings)]
            warnings = (f"{rival}, which came at the same time" for rival in late)
            return Answer(plan.result, r, (*plan.warnings, *warnings))
        elif r is not None and r.state is State.RELEASING and plan.steps:
            r = self._on_its_way(r, plan)
            releasing.append(r)
        elif plan.result == "unchanged":
            r = self._world.resource(work.name)
        return Answer(plan.result, r, plan.warnings, born=plan.born)

    def _on_its_way(self, r: Resource, plan: Plan) -> Resource:
        """What is let go is so for certain now, and is what its record says."""
        record = next((step.resource for step in plan.steps if isinstance(step, UpdateRecord)), r)
        if record != r:
            self._world.acknowledge(record)
            self._settlement.owe({record.name: record})
        return record

    def _unknown(self, batch: Batch) -> None:
        """The connection broke, or the schema was converted. What is in the ledger stands until the stores are
        compared; then the requests are looked at again.
        """
        _log.warning("outcome_unknown", requests=len(batch.planned))
        self.must_compare = True
        batch.undo_released()
        for work, plan in batch.planned:
            self._tasks.done(work)
            if work.ticket is not None:
                work.attempt = plan
                self._queue.waiting.append(work)

    def _take_back(self, batch: Batch) -> None:
        """The northbound database took nothing of the batch: neither shall world and ledger have it."""
        batch.undo()
        before = batch.before
        self._publisher.changed(before)
        points.reached(Point.TAKING_BACK, batch.all_steps)
        try:
            self._ledger.commit(
                [r for r in before.values() if r is not None], [name for name, r in before.items() if r is None]
            )
        except LedgerError as error:
            _log.error("ledger_failed", error=str(error))
            self._settlement.owe(before)
        points.reached(Point.TAKEN_BACK, batch.all_steps)

    def _plan_again(self, batch: Batch, culprit: str) -> None:
        """A guard failed: somebody changed what a plan had looked at. The change has been received; plan everything
        anew. Those it happens to again and again wait, each longer, and the others do not wait with them.
        """
        _log.debug("guard_failed", culprit=culprit, requests=len(batch.planned))
        if culprit == REVISION_BLAME:
            self.must_compare = True
        now = time.monotonic()
        for work in batch.offenders(culprit):
            work.attempts += 1
            work.not_before = now + _BACKOFF[min(work.attempts, len(_BACKOFF) - 1)]
            if work.patience is None:
                work.patience = now + PATIENCE
        self._queue.put_first([work for work, _plan in batch.planned])

    def _reject(self, batch: Batch, culprit: str, error: str) -> None:
        """The server did not accept an operation. Whose it is gets the error; the others go again."""
        _log.error("transaction_failed", culprit=culprit, error=error)
        everybody = len(batch.planned) == 1 or not any(work.name == culprit for work, _plan in batch.planned)
        for work, _plan in batch.planned:
            if not (everybody or work.name == culprit):
                self._queue.waiting.append(work)
            elif work.ticket is None:
                self._queue.retry(work)
            else:
                message = f"nothing was changed: the northbound database did not accept it: {error}"
                self._queue.refuse(work, Unavailable(message, name=work.name))

    # ---- ovn-northd has answered -----------------------------------------------------------------------------------

    def _released(self, releasing: list[Resource], mark: int, seen: bool) -> None:
        points.reached(Point.RELEASED)
        if seen:
            self._publisher.enforced([], mark)
        else:
            message = f"ovn-northd did not answer within {RELEASE_BARRIER:g} s; the release goes on without"
            self._events.note(*(Event("Warning", "BarrierTimeout", r.name, message) for r in releasing))
        self._tasks.release_seen(releasing)

    def _enforced(self, waiting: list[tuple[Work, Answer]], target: int | None, mark: int, seen: bool) -> None:
        if not seen:
            # Each had its answer at its own deadline. What becomes true once ovn-northd answers is still to be seen.
            self.barriers.go_on(Awaited(target, float("inf"), partial(self._enforced, [], target, mark)))
            return
        self._publisher.enforced([work.name for work, _answer in waiting], mark)
        for work, answer in waiting:
            self._queue.answer(work, answer)


def unavailable(published: Published, northbound: Northbound) -> Unavailable:
    """Why nothing can be written now."""
    if published.state == "standby":
        others = published.writer and published.writer != northbound.writer
        who = f"{published.writer} wrote last" if others else "another one holds the OVSDB lock"
        return Unavailable(f"this ovnreserved is standby; {who}: ask that one")
    if published.state == "foreign":
        return Unavailable(f"nothing was changed: {published.problem}")
    problem = northbound.last_error or f"{northbound.remote}: not connected yet"
    return Unavailable(f"nothing was changed: {problem}")
