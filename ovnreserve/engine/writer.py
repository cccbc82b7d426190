"""The engine's loop: receive, look, commit, answer.

    northbound rows ──┐
                      ├──> world ──> plan ──> ledger (one fsync) ──> northbound (one transaction) ──> answers, journal
    requests ─────────┘                          what arrives meanwhile is the next batch

One thread runs it. While a northbound transaction is under way the loop goes on: rows are received, requests are
gathered and time out, but nothing is planned. There is no timer in the way of a commit: a batch is whatever has come
by the time the last one is done.

The states, and what moves between them:

    disconnected --connected--> syncing --stores compared--> active    (holds the lock, writes)
         ^                                             └──> standby   (another daemon holds it)
         └──────────── connection lost ──────────────────────┘
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from random import Random, SystemRandom
from typing import Any, Final

import structlog

from ovnreserve.engine.barrier import Awaited, Barriers
from ovnreserve.engine.batch import Batch, Planned
from ovnreserve.engine.compare import compare_stores
from ovnreserve.engine.inbox import Inbox
from ovnreserve.engine.published import Published
from ovnreserve.engine.publisher import Publisher
from ovnreserve.engine.settlement import Settlement, entry
from ovnreserve.engine.tasks import Tasks
from ovnreserve.engine.work import Answer, Apply, Create, Delete, Refresh, Request, Ticket, Work
from ovnreserve.ledger.ledger import Entry, Ledger, LedgerError, read_journal
from ovnreserve.model.errors import Refused, Unavailable
from ovnreserve.model.reservation import State
from ovnreserve.model.topology import Port
from ovnreserve.northbound.connection import Northbound, Outcome
from ovnreserve.northbound.transactions import REVISION_BLAME, Operations
from ovnreserve.plan import revision
from ovnreserve.plan.outcome import Context, Defer, Event, Plan
from ovnreserve.plan.reserve import plan_apply, plan_create
from ovnreserve.plan.update import Patch, plan_patch
from ovnreserve.plan.world import World

_log = structlog.get_logger(__name__)

PATIENCE: Final = 2.0
"""Seconds that a given address waits for ovn-northd to choose for pending ports (design, Reserve)."""
RELEASE_BARRIER: Final = 5.0
"""Seconds that a release waits for ovn-northd before it goes on."""
QUARANTINE: Final = 300.0
MAX_BATCH: Final = 20_000
_LOG_SINGLY: Final = 32
_LEDGER_RETRY: Final = 1.0
_BACKOFF: Final = (0.0, 0.0, 0.001, 0.005, 0.02, 0.1, 0.25)
_NOT_TOPOLOGY: Final = frozenset({"Logical_Switch", "Logical_Switch_Port", "NB_Global", "DNS"})


class Engine:
    """Owns the ledger and the northbound connection.

    `submit` from any thread; complete tickets go to `deliver`, states to `on_state`, both in the engine's thread.
    """

    def __init__(
        self,
        ledger: Ledger,
        northbound: Northbound,
        *,
        quarantine: float = QUARANTINE,
        random: Random | None = None,
        on_state: Callable[[str], None] = lambda _state: None,
    ) -> None:
        self.published = Published()
        self.world = World()
        self.deliver: Callable[[list[Ticket]], None] = lambda _tickets: None
        self._on_state = on_state
        self._ledger = ledger
        self._northbound = northbound
        self._quarantine = quarantine
        self._random = random or Random(SystemRandom().getrandbits(256))  # noqa: S311 - uids and MACs are no secrets
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = threading.Event()
        self._inbox = Inbox()
        self._tasks = Tasks(self.world, northbound.replica)
        self._settlement = Settlement(ledger)
        self._publisher = Publisher(self.world, self.published, ledger.next_version)
        self._barriers = Barriers()
        self._queue: deque[Work] = deque()
        self._deferred: list[Work] = []
        self._batch: Batch | None = None
        self._not_before = 0.0
        self._compared = 0
        for r in ledger.load():
            self.world.put(r)
            self._publisher.changed((r.name,))
        self._publisher.publish()

    # ---- any thread ------------------------------------------------------------------------------------------------

    def submit(self, requests: list[Request], key: Any, *, timeout: float = 30.0, wait_sb: bool = False) -> None:
        """Queue a client's requests; a Ticket with `key` and their answers in order is delivered, whatever happens.

        The engine looks at them in its next turn: `wake` it once all that is at hand has been submitted.
        """
        self._inbox.submit(requests, key, timeout, wait_sb=wait_sb)

    def journal(self, name: str | None = None) -> list[Entry]:
        """The journal's last entries, oldest first, of one reservation or of all. Reads the ledger's file: slow."""
        return read_journal(self._ledger.path, name)

    def stop(self) -> None:
        """Have `run` finish what is under way and return."""
        self._stopping.set()
        self.wake()

    def wake(self) -> None:
        """Have the engine take its next turn at once."""
        os.eventfd_write(self._event, 1)

    # ---- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The loop, until `stop`."""
        while not self._stopping.is_set():
            self._turn()
            self._block(self._pause())
        self._finish()

    def _turn(self) -> None:
        arrived = list(self._inbox.take())  # before the news, so that a client finds what it did before it asked
        self._northbound.run()
        self._look()
        self._take_requests(arrived)
        self._advance()
        self._follow_state()
        self._start_batch()
        self._inbox.expire(time.monotonic(), self._uncertain)
        self._publisher.publish()
        self._note(*self._publisher.take_remarks())
        self._deliver()
        if self._batch is None and time.monotonic() >= self._settlement.due:
            self._settlement.write()

    def _block(self, seconds: float) -> None:
        self._northbound.block(self._event, seconds)
        with suppress(BlockingIOError):
            os.eventfd_read(self._event)

    def _pause(self) -> float:
        """How long there is nothing to do unless something happens."""
        if self._inbox.has_come or self._publisher.has_more:
            return 0.0
        now = time.monotonic()
        until = min(now + 60, self._inbox.next_deadline, self._barriers.next_deadline)
        if self._batch is None:
            until = min(until, self._settlement.due)
            if self.published.state == "syncing":
                until = min(until, now + 1)  # the ledger could not be written
            if self.published.state == "active" and (self._queue or self._tasks.waiting):
                until = min(until, self._not_before)
        for work in self._deferred:
            if work.patience is not None and work.patience > now:
                until = min(until, work.patience)
        return max(0.0, until - now)

    def _finish(self) -> None:
        """Wait a moment for a transaction under way, write down what is known, and refuse the rest."""
        until = time.monotonic() + 2
        while self._batch is not None and time.monotonic() < until:
            self._northbound.run()
            self._look()
            self._advance()
            if self._batch is not None:
                self._block(0.05)
        for _request, ticket, index in self._inbox.take():
            self._inbox.reply(ticket, index, Answer("error", refused=_STOPPING))
        doubtful = self._batch.doubtful if self._batch is not None else ()
        uncertain = self._uncertain()
        for work in (*self._queue, *self._deferred, *doubtful):
            if work.ticket not in uncertain:
                self._refuse(work, _STOPPING)
        self._inbox.expire(float("inf"), lambda: uncertain)
        self._publisher.publish()
        self._note(*self._publisher.take_remarks())
        self._settlement.write()
        self._deliver()
        self._northbound.close()
        self._ledger.close()

    def _deliver(self) -> None:
        delivered = self._inbox.delivered()
        if delivered:
            self.deliver(delivered)

    # ---- what changed in the database ------------------------------------------------------------------------------

    def _look(self) -> None:
        replica = self._northbound.replica
        changes = replica.take_changes()
        records = replica.take_records()
        if changes.rows or changes.members:
            touched = self.world.apply(replica.tables, changes)
            self._tasks.look_at(touched, records)
            if records and self.published.state == "standby":
                self._follow(records)
            self._publisher.changed(touched.names)
            self._publisher.subnets_changed(
                self.world.segments if changes.rows.keys() - _NOT_TOPOLOGY else touched.switches
            )
            for before, after in touched.moved:
                self._report_moved(before, after)
            self.published.ports = len(self.world.ports)
            self.published.subnet_count = len(self.world.segments)
        row = replica.nb_global()
        sb_cfg = row["sb_cfg"] if row is not None and self._northbound.complete else None
        self._barriers.check(sb_cfg, time.monotonic())

    def _report_moved(self, before: Port, after: Port) -> None:
        """ovn-northd gave a dynamic port another address. Did it have one that is reserved?"""
        segment = self.world.segments.get(before.switch or "")
        for address in before.assigned.v4 if before.assigned else ():
            name = segment.reserved.get((4, address)) if segment is not None else None
            if name is None or name == before.name or after.assigned is None or address in after.assigned.v4:
                continue
            message = (
                f"ovn-northd moved port {before.name} from {before.dynamic_addresses} to {after.dynamic_addresses}: "
                "it had chosen the address while that was being reserved"
            )
            self._note(Event("Warning", "PortMoved", name, message))

    def _note(self, *events: Event) -> None:
        """Log and journal what happened outside of a batch."""
        if events:
            reservations, now = self.world.reservations, time.time()
            uids = (r.uid if (r := reservations.get(event.name)) is not None else "" for event in events)
            entries = [entry(event, uid, now) for event, uid in zip(events, uids, strict=True)]
            _log_events(entries)
            self._settlement.note(entries)

    # ---- states ----------------------------------------------------------------------------------------------------

    def _follow_state(self) -> None:
        northbound = self._northbound
        if not northbound.complete:
            self._set_state("disconnected")
            return
        if self._batch is not None:
            return  # its outcome comes first
        won = northbound.has_lock and self.published.state == "standby"
        if self._compared != northbound.dumps or won:
            self._set_state("syncing")
            dumps = northbound.dumps
            if not self._settlement.write() or not self._compare():
                return
            self._compared = dumps
        self._set_state("active" if northbound.has_lock else "standby")

    def _compare(self) -> bool:
        compared = compare_stores(self._ledger, self._northbound.replica, self.world, self._quarantine)
        if compared is None:
            return False
        verdicts, names = compared
        self._tasks.follow(verdicts)
        self._publisher.changed(names)
        self._publisher.committed(self.world.reservations)
        self.published.revision = dict(self._ledger.vector)
        return True

    def _follow(self, names: set[str]) -> None:
        """As standby: take what the active daemon did to the records of that name."""
        compared = compare_stores(self._ledger, self._northbound.replica, self.world, self._quarantine, names)
        if compared is None:
            self._compared = -1
            return
        self._publisher.changed(compared[1])
        self.published.revision = dict(self._ledger.vector)

    def _set_state(self, state: str) -> None:
        published = self.published
        published.problem = self._northbound.last_error
        if state == published.state:
            return
        _log.info("state_changed", state=state, before=published.state)
        published.state = state
        published.since = time.time()
        published.schema = self._northbound.schema_version
        self._on_state(state)

    # ---- the queue -------------------------------------------------------------------------------------------------

    def _take_requests(self, arrived: Iterable[tuple[Request, Ticket, int]]) -> None:
        for request, ticket, index in arrived:
            if isinstance(request, Refresh):
                self._publisher.publish_subnets()
                self._inbox.reply(ticket, index, Answer("refreshed"))
            else:
                self._queue.append(Work(request.name, self._planner(request), ticket, index))

    def _planner(self, request: Apply | Create | Patch | Delete) -> Callable[[Context], Plan]:
        world = self.world
        match request:
            case Apply(wanted):
                return lambda context: plan_apply(world, wanted, context)
            case Create(wanted):
                return lambda context: plan_create(world, wanted, context)
            case Patch():
                return lambda context: plan_patch(world.reservations.get(request.name), request, context)
            case Delete(name):
                return lambda context: self._tasks.release(name, context)

    def _refuse_all(self) -> None:
        """While not active, requests are refused at once, but for those whose outcome is still to be looked up: while
        disconnected it cannot be, and once the stores were compared it is what the ledger says.
        """
        works = [*self._queue, *self._deferred]
        self._queue.clear()
        self._deferred = []
        for work in works:
            if work.attempt is not None and self.published.state == "disconnected":
                self._queue.append(work)
            elif work.attempt is None or not self._was_done(work):
                self._refuse(work, self._unavailable())

    def _unavailable(self) -> Unavailable:
        if self.published.state == "standby":
            return Unavailable("this ovnreserved is standby: another one holds the OVSDB lock; ask that one")
        problem = self._northbound.last_error or f"{self._northbound.remote}: not connected yet"
        return Unavailable(f"nothing was changed: {problem}")

    # ---- a batch: plan, ledger, northbound -------------------------------------------------------------------------

    def _start_batch(self) -> None:
        if self.published.state in ("disconnected", "standby"):
            self._refuse_all()
        if self._batch is not None or self.published.state != "active":
            return
        now = time.monotonic()
        if now < self._not_before:
            return
        deferred, self._deferred = self._deferred, []
        tasks = list(self._tasks.take())
        self._queue.extendleft(work for work in reversed(deferred) if not work.repairs)
        self._queue.extendleft(work for work in (*deferred, *tasks) if work.repairs)  # before what is written there
        self._queue.extend(work for work in tasks if not work.repairs)
        if not self._queue:
            return
        wall = time.time()
        self.world.end_quarantine(wall - self._quarantine)
        self.published.busy_at = now
        batch = Batch(self.world)
        for _ in range(min(len(self._queue), MAX_BATCH)):
            self._plan(self._queue.popleft(), batch, now, wall)
        if batch:
            self._carry_out(batch, wall)

    def _plan(self, work: Work, batch: Batch, now: float, wall: float) -> None:
        if work.given_up or (work.attempt is not None and self._was_done(work)):
            self._tasks.done(work)
            return
        patient = work.patience is None or now < work.patience
        try:
            plan = work.plan(Context(wall, self._random, self._ledger.next_version(), patient))
        except Refused as refused:
            if work.certain or work.ticket is None:
                self._refuse(work, refused)
            else:
                batch.doubtful.append(work)
        except Defer:
            if work.patience is None:
                work.patience = now + PATIENCE
            self._deferred.append(work)
            if work.repairs:
                batch.unrepaired.add(work.repairs)
        except Exception:  # noqa: BLE001 - planning changes nothing, so one request's trouble is its own
            _log.exception("plan_failed", name=work.name)
            self._refuse(work, Refused("internal error; the log of ovnreserved says more", name=work.name))
        else:
            if batch.has_to_wait(plan):
                self._deferred.append(work)
                return
            needs_barrier = work.wait_sb and not (plan.result == "unchanged" and self._publisher.is_enforced(work.name))
            batch.accept(work, plan, wall, needs_barrier=needs_barrier)

    def _was_done(self, work: Work) -> bool:
        """An earlier attempt has an unknown outcome. Is what it wanted there now? Then that is the answer."""
        attempt = work.attempt
        r = self.world.reservations.get(work.name)
        assert attempt is not None  # noqa: S101 - the caller has looked
        if attempt.result == "deleted" and (r is None or r.state is State.RELEASING):
            self._answer(work, Answer("deleted", r or attempt.reservation, attempt.warnings))
            return True
        same = r is not None and attempt.reservation is not None and r.uid == attempt.reservation.uid
        if same and r is not None and r.state is State.INTENDED:
            self._deferred.append(work)  # being resumed
            return True
        work.attempt = None
        if same and r is not None and r.state is State.HELD:
            self._answer(work, Answer(attempt.result, r, attempt.warnings))
            return True
        return False

    def _carry_out(self, batch: Batch, wall: float) -> None:
        needs_northbound = bool(batch.steps) or batch.barrier
        puts, drops = batch.puts(), batch.drops()
        if puts or drops or needs_northbound:
            journal = [] if needs_northbound else batch.entries(wall)
            try:
                self._settlement.commit_with(puts, drops, journal, count=needs_northbound)
            except LedgerError as error:
                _log.error("ledger_failed", error=str(error))
                batch.undo()
                for work, _plan in batch.planned:
                    if work.ticket is None:
                        self._queue.append(work)
                    else:
                        self._refuse(work, Unavailable(f"nothing was changed: {error}"))
                self._queue.extend(batch.doubtful)
                self._not_before = time.monotonic() + _LEDGER_RETRY
                return
        self._publisher.changed(work.name for work, _plan in batch.planned)
        operations = Operations(self._northbound.replica)
        if needs_northbound:
            operations.build(batch.steps, batch.excludes(), revision.encode(self._ledger.vector), barrier=batch.barrier)
        else:
            for work, plan in batch.planned:
                self._answer(work, Answer(plan.result, plan.reservation, plan.warnings))
            if not batch.doubtful:
                return
            batch.planned.clear()
            operations.look()
        batch.transaction = self._northbound.commit(operations)
        self._batch = batch
        self._advance()

    def _advance(self) -> None:
        """Has the transaction under way come to an end?"""
        batch = self._batch
        if batch is None or batch.transaction is None:
            return
        outcome = batch.transaction.outcome()
        if outcome is Outcome.PENDING:
            return
        self._batch = None
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
                for work, _plan in batch.planned:
                    self._refuse(work, self._unavailable())
            case _:
                self._take_back(batch)
                self._reject(batch, culprit, error)
        for work in batch.doubtful:
            work.certain = outcome not in (Outcome.NOT_SENT, Outcome.UNKNOWN)
        self._queue.extendleft(reversed(batch.doubtful))

    # ---- how a transaction may end ---------------------------------------------------------------------------------

    def _committed(self, batch: Batch) -> None:
        now, wall = time.monotonic(), time.time()
        row = self._northbound.replica.nb_global()
        target = row["nb_cfg"] if row is not None else 0
        entries = batch.entries(wall)
        self._settlement.note(entries)
        _log_events(entries)
        self._not_before = 0.0
        held: list[str] = []
        releasing: list[str] = []
        waiting: list[tuple[Work, Answer]] = []
        for planned in batch.planned:
            work, plan = planned
            self._tasks.done(work)
            answer = self._acknowledge(batch, planned, held, releasing)
            if batch.barrier and work.wait_sb and plan.result != "deleted":
                waiting.append((work, answer))
                if work.ticket is not None:
                    late = answer._replace(warnings=(*answer.warnings, _NOT_ENFORCED))
                    work.ticket.fallback[work.index] = late
            else:
                self._answer(work, answer)
        self._tasks.port_may_wait(held)
        self._tasks.wrote(work.name for work, _plan in batch.planned)
        self._publisher.committed(held)
        self._publisher.changed(work.name for work, _plan in batch.planned)
        self._publisher.subnets_changed(batch.switches)
        self.published.revision = self._ledger.vector
        if releasing:
            self._barriers.add(Awaited(target, now + RELEASE_BARRIER, partial(self._released, releasing)))
        if waiting:
            until = max(work.ticket.deadline for work, _answer in waiting if work.ticket is not None)
            self._barriers.add(Awaited(target, until, partial(self._enforced, waiting, self._publisher.mark)))

    def _acknowledge(self, batch: Batch, planned: Planned, held: list[str], releasing: list[str]) -> Answer:
        """The plan is carried out: its reservation is held, or on its way out, or gone."""
        work, plan = planned
        r = plan.reservation
        if plan.result == "released":
            before = batch.before.get(work.name)
            if before is not None:
                self._settlement.drop(before)
        elif r is not None and r.state is State.INTENDED and plan.result != "unchanged":
            r = r.with_(state=State.HELD)
            self.world.acknowledge(r)
            self._settlement.hold(r)
            held.append(r.name)
        elif r is not None and r.state is State.RELEASING and plan.steps:
            releasing.append(r.name)
        elif plan.result == "unchanged":
            r = self.world.reservations.get(work.name)
        return Answer(plan.result, r, plan.warnings)

    def _unknown(self, batch: Batch) -> None:
        """The connection broke. What is in the ledger stands until the stores are compared; then the requests are
        looked at again.
        """
        _log.warning("outcome_unknown", requests=len(batch.planned))
        batch.undo_released()
        for work, plan in batch.planned:
            self._tasks.done(work)
            if work.ticket is not None:
                work.attempt = plan
                self._queue.append(work)

    def _take_back(self, batch: Batch) -> None:
        """The northbound database took nothing of the batch: neither shall world and ledger have it."""
        batch.undo()
        before = batch.before
        self._publisher.changed(before)
        try:
            self._ledger.commit(
                [r for r in before.values() if r is not None], [name for name, r in before.items() if r is None]
            )
        except LedgerError as error:  # comparing will find these intents, and nobody was told that they were done
            _log.error("ledger_failed", error=str(error))
            self._compared = -1

    def _plan_again(self, batch: Batch, culprit: str) -> None:
        """A guard failed: somebody changed what a plan had looked at. The change has been received; plan everything
        anew.
        """
        _log.debug("guard_failed", culprit=culprit, requests=len(batch.planned))
        if culprit == REVISION_BLAME:
            self._compared = -1
        for work, _plan in reversed(batch.planned):
            work.attempts += 1
            self._queue.appendleft(work)
        attempts = max(work.attempts for work, _plan in batch.planned)
        self._not_before = time.monotonic() + _BACKOFF[min(attempts, len(_BACKOFF) - 1)]

    def _reject(self, batch: Batch, culprit: str, error: str) -> None:
        """The server did not accept an operation. Whose it is gets the error; the others go again."""
        _log.error("transaction_failed", culprit=culprit, error=error)
        everybody = len(batch.planned) == 1 or not any(work.name == culprit for work, _plan in batch.planned)
        for work, _plan in batch.planned:
            if everybody or work.name == culprit:
                self._refuse(work, Refused(f"the northbound database did not accept it: {error}", name=work.name))
            else:
                self._queue.append(work)

    # ---- ovn-northd has answered -----------------------------------------------------------------------------------

    def _released(self, names: list[str], seen: bool) -> None:
        if not seen:
            for name in names:
                message = f"ovn-northd did not answer within {RELEASE_BARRIER:g} s; the release goes on without"
                self._note(Event("Warning", "BarrierTimeout", name, message))
        self._tasks.release_seen(names)

    def _enforced(self, waiting: list[tuple[Work, Answer]], mark: int, seen: bool) -> None:
        if not seen:
            return  # each has had its answer at its own deadline
        self._publisher.enforced([work.name for work, _answer in waiting], mark)
        for work, answer in waiting:
            self._answer(work, answer)

    # ---- answers ---------------------------------------------------------------------------------------------------

    def _answer(self, work: Work, answer: Answer) -> None:
        self._tasks.done(work)
        if work.ticket is not None:
            self._inbox.reply(work.ticket, work.index, answer)

    def _refuse(self, work: Work, refused: Refused) -> None:
        if work.ticket is None:
            _log.warning("task_refused", task=work.name, reason=refused.reason, message=refused.message)
        self._answer(work, Answer("error", refused=refused))

    def _uncertain(self) -> set[Ticket]:
        """Tickets of which something may or may not have been done."""
        works = [work for work, _plan in self._batch.planned] if self._batch is not None else []
        works += [work for work in (*self._queue, *self._deferred) if work.attempt is not None]
        return {work.ticket for work in works if work.ticket is not None}


_STOPPING: Final = Unavailable("ovnreserved is stopping; ask again when it is back")
_NOT_ENFORCED: Final = "ovn-northd has not answered yet: it is committed, condition Enforced is Unknown"


def _log_events(entries: list[Entry]) -> None:
    """One line a decision; a bulk request's, which the journal has one by one, in one line a kind."""
    if len(entries) <= _LOG_SINGLY:
        for e in entries:
            (_log.info if e.type == "Normal" else _log.warning)(_snake(e.reason), name=e.name, message=e.message)
        return
    for reason, count in Counter(e.reason for e in entries).items():
        _log.info(_snake(reason), count=count)


def _snake(reason: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in reason).lstrip("_")
