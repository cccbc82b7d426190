"""The engine's loop: receive, look, commit, answer.

    northbound rows ──┐
                      ├──> world ──> plan ──> ledger (one fsync) ──> northbound (one transaction) ──> answers, journal
    requests ─────────┘                          what arrives meanwhile is the next batch

One thread runs it. While a northbound transaction is under way the loop goes on: rows are received, requests are
gathered and time out, but nothing is planned. There is no timer in the way of a commit: a batch is whatever has come
by the time the last one is done.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from random import Random, SystemRandom
from typing import Any, BinaryIO, Final

import structlog

from ovnreserve.engine import points
from ovnreserve.engine.batch import Batch
from ovnreserve.engine.commits import PATIENCE, Commits, unavailable
from ovnreserve.engine.events import Events
from ovnreserve.engine.inbox import Inbox
from ovnreserve.engine.looks import look
from ovnreserve.engine.planners import planner
from ovnreserve.engine.points import Point
from ovnreserve.engine.pruning import Pruning
from ovnreserve.engine.published import Published
from ovnreserve.engine.publisher import Publisher
from ovnreserve.engine.queue import Queue
from ovnreserve.engine.settlement import UNSETTLED, Settlement
from ovnreserve.engine.states import States
from ovnreserve.engine.tasks import Tasks
from ovnreserve.engine.verifier import Verifier
from ovnreserve.engine.work import Answer, Look, Refresh, Request, Settle, Ticket, Verify, Work
from ovnreserve.ledger.backup import copy_ledger
from ovnreserve.ledger.journal import Keep, search
from ovnreserve.ledger.ledger import Entry, Ledger
from ovnreserve.model.errors import OutcomeUnknown, Refused, Unavailable, shown
from ovnreserve.model.pace import Beat, no_beat, paced
from ovnreserve.model.record import resource_of
from ovnreserve.model.resource import State, is_fact
from ovnreserve.model.topology import Port
from ovnreserve.northbound.connection import Northbound
from ovnreserve.plan.holders import told
from ovnreserve.plan.outcome import Context, Defer, Event
from ovnreserve.plan.world import NOT_TOPOLOGY, World

_log = structlog.get_logger(__name__)

QUARANTINE: Final = 300.0
IDLE: Final = 60.0
"""Seconds after which the loop takes a turn though nothing happens."""
MAX_BATCH: Final = 20_000
_LONGEST_WRITER: Final = 253


class Engine:
    """Owns the ledger and the northbound connection.

    `submit` from any thread; complete tickets go to `deliver`, states to `on_state`, both in the engine's thread, which
    calls `beat` each turn, at least every `beat_every` seconds, and between the parts of a long one: so that somebody
    knows that it does not hang.
    """

    def __init__(
        self,
        ledger: Ledger,
        northbound: Northbound,
        *,
        quarantine: float = QUARANTINE,
        journal_keep: Keep = Keep(),  # noqa: B008 - frozen
        adopt_database: bool = False,
        keep_vm_ip: bool = False,
        block_squatters: bool = False,
        random: Random | None = None,
        on_state: Callable[[str], None] = lambda _state: None,
        beat: Beat = no_beat,
        beat_every: float = IDLE,
    ) -> None:
        self.published = Published()
        self.quarantine = quarantine
        """Seconds for which a released address is not chosen while another is free."""
        self.ended = False
        """Nobody takes requests any more."""
        self.world = World(beat, keep_vm_ip=keep_vm_ip)
        self.deliver: Callable[[list[Ticket]], None] = lambda _tickets: None
        self._beat = beat
        self._beat_every = beat_every
        self._ledger = ledger
        self._northbound = northbound
        self._random = random or Random(SystemRandom().getrandbits(256))  # noqa: S311 - uids and MACs are no secrets
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = threading.Event()
        self._inbox = Inbox()
        self._tasks = Tasks(self.world, northbound.replica, block=block_squatters)
        self._settlement = Settlement(ledger)
        self._publisher = Publisher(self.world, self.published, ledger.next_version, told(ledger.conflicts()))
        self._events = Events(self.world, self._settlement)
        self._queue = Queue(self._inbox, self._tasks)
        self._commits = Commits(
            self.world,
            ledger,
            northbound,
            queue=self._queue,
            tasks=self._tasks,
            settlement=self._settlement,
            publisher=self._publisher,
            published=self.published,
            events=self._events,
        )
        self._pruning = Pruning(ledger, journal_keep)
        self._states = States(
            self.world,
            ledger,
            northbound,
            tasks=self._tasks,
            settlement=self._settlement,
            commits=self._commits,
            publisher=self._publisher,
            published=self.published,
            quarantine=quarantine,
            adopt_database=adopt_database,
            on_state=on_state,
        )
        self._verifier = Verifier(
            self.world,
            ledger,
            northbound,
            settlement=self._settlement,
            commits=self._commits,
            queue=self._queue,
            tasks=self._tasks,
            states=self._states,
            published=self.published,
        )
        for r in ledger.load():
            self.world.put(r)
            self._publisher.changed((r.name,))
        self._publisher.publish()

    # ---- any thread ------------------------------------------------------------------------------------------------

    def submit(
        self, requests: list[Request], key: Any, *, timeout: float = 30.0, wait_sb: bool = False, actor: str = ""
    ) -> None:
        """Queue requests of a client, whom the journal calls `actor`; a Ticket with `key` and their answers in order
        is delivered, whatever happens.

        The engine looks at them in its next turn: `wake` it once all that is at hand has been submitted.
        """
        refused = self._inbox.submit(requests, key, timeout, wait_sb=wait_sb, actor=actor)
        if refused is not None:
            self.deliver([refused])

    def journal(
        self, equal: Mapping[str, Sequence[str]], limit: int, *, tenures: bool = False
    ) -> list[tuple[int, Entry]]:
        """The journal's last entries, as `ledger.journal.search` has them. Any thread; slow. Raises LedgerError."""
        return search(self._ledger.path, equal, limit, tenures=tenures)

    def copy_ledger(self) -> BinaryIO:
        """What the ledger's file holds now (`Settle` first). Any thread, one at a time; slow. Raises LedgerError."""
        return copy_ledger(self._ledger.path)

    def stop(self) -> None:
        """Have `run` finish what is under way and return."""
        self._stopping.set()
        self.wake()

    def wake(self) -> None:
        """Have the engine take its next turn at once."""
        os.eventfd_write(self._event, 1)

    # ---- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The loop, until `stop`. What is raised is the engine's end, LedgerLost too: nobody is told any more that
        anything was done.
        """
        try:
            while not self._stopping.is_set():
                self._turn()
                self._block(self._pause())
            self._finish()
        except BaseException:
            self._inbox.close(_FAILED)
            self._inbox.abandon(_FAILED)
            self._deliver()
            raise
        finally:
            self.ended = True

    def _turn(self) -> None:
        self._beat()
        arrived = list(self._inbox.take())  # before the news, so that a client finds what it did before it asked
        self._northbound.run()
        self._beat()
        self._look()
        self._beat()
        self._take_requests(arrived)
        self._verifier.go_on()
        self._commits.advance()
        self._check_barriers()  # ovn-northd's answer may have come together with the commit's
        self._states.follow()
        self._beat()
        self._start_batch()
        self._beat()
        self._publisher.publish()
        self._events.note(*self._publisher.take_remarks())
        self._answer_in_time()
        if self._commits.batch is None and time.monotonic() >= self._settlement.due:
            self._settlement.write()
        if self._is_idle and time.monotonic() >= self._pruning.due:
            self._pruning.go_on()

    @property
    def _is_idle(self) -> bool:
        """Does nobody wait for anything of us?"""
        waiting = self._queue.waiting or self._queue.deferred or self._inbox.has_come or self._publisher.has_more
        return self._commits.batch is None and self._settlement.due == inf and not waiting

    def _block(self, seconds: float) -> None:
        self._northbound.block(self._event, seconds)
        with suppress(BlockingIOError):
            os.eventfd_read(self._event)

    def _pause(self) -> float:
        """How long there is nothing to do unless something happens."""
        if self._inbox.has_come or self._publisher.has_more:
            return 0.0
        now = time.monotonic()
        until = min(now + self._beat_every, self._inbox.next_deadline)
        until = min(until, self._commits.barriers.next_deadline, self._publisher.due, self._verifier.due)
        if self._is_idle:
            until = min(until, self._pruning.due)
        if self._commits.batch is None:
            until = min(until, self._settlement.due)
            if self.published.state == "syncing":
                until = min(until, now + 1)  # the ledger could not be written
            if self.published.state == "active":
                until = min(until, max(self._queue.not_before, min(self._queue.due, self._tasks.due)))
                until = min(until, self._states.compare_at)
        for work in self._queue.deferred:
            for moment in (work.not_before, work.patience or 0.0):
                if moment > now:
                    until = min(until, moment)
        return max(0.0, until - now)

    def _finish(self) -> None:
        """Wait a moment for a transaction under way, write down what is known, and refuse the rest."""
        until = time.monotonic() + 2
        while self._commits.batch is not None and time.monotonic() < until:
            self._beat()
            self._northbound.run()
            self._look()
            self._commits.advance()
            if self._commits.batch is not None:
                self._block(0.05)
        self._inbox.close(_STOPPING)
        for _request, ticket, index in self._inbox.take():
            self._inbox.reply(ticket, index, Answer("error", refused=_STOPPING))
        doubtful = self._commits.batch.doubtful if self._commits.batch is not None else ()
        uncertain = self._uncertain()
        for work in (*self._queue.take_all(), *doubtful):
            if work.ticket not in uncertain:
                self._queue.refuse(work, _STOPPING)
        self._inbox.expire(float("inf"), lambda: uncertain)
        self._publisher.publish()
        self._events.note(*self._publisher.take_remarks())
        self._settlement.write()
        self._deliver()
        self._northbound.close()
        self._ledger.close()

    def _answer_in_time(self) -> None:
        self._inbox.expire(time.monotonic(), self._uncertain)
        self._deliver()

    def _deliver(self) -> None:
        delivered = self._inbox.delivered()
        if delivered:
            self.deliver(delivered)
            points.reached(Point.ANSWERED)

    # ---- what changed in the database ------------------------------------------------------------------------------

    def _look(self) -> None:
        replica = self._northbound.replica
        changes = replica.take_changes()
        records = replica.take_records()
        if changes.rows or changes.members:
            touched = self.world.apply(replica.tables, changes, self._answer_in_time)
            self._tasks.look_at(touched, records)
            self._states.look_at(changes.rows.keys(), records)
            self._publisher.changed(touched.names)
            concerns_all = changes.rows.keys() - NOT_TOPOLOGY
            self._publisher.subnets_changed(touched.switches | (self.world.segments.keys() if concerns_all else set()))
            self._publisher.findings.changed(touched.switches)
            for before, after in touched.moved:
                self._report_moved(before, after)
            if "DNS" in changes.rows:
                self.published.writer = shown(replica.writer, _LONGEST_WRITER)
            self.published.ports = len(self.world.ports)
            self.published.subnet_count = len(self.world.segments)
        self._check_barriers()

    def _check_barriers(self) -> None:
        row = self._northbound.replica.nb_global()
        sb_cfg = row["sb_cfg"] if row is not None and self._northbound.complete else None
        self._commits.barriers.check(sb_cfg, time.monotonic())

    def _report_moved(self, before: Port, after: Port) -> None:
        """ovn-northd gave a dynamic port another address. Did it have one that is reserved, or of a pool?"""
        segment = self.world.segments.get(before.switch or "")
        for address in before.assigned.v4 if before.assigned else ():
            name = segment.kept_by(address) if segment is not None else None
            if name is None or name == before.name or after.assigned is None or address in after.assigned.v4:
                continue
            message = (
                f"ovn-northd moved port {before.name} from {before.dynamic_addresses} to {after.dynamic_addresses}: "
                "it had chosen the address while that was being reserved"
            )
            self._events.note(Event("Warning", "PortMoved", name, message))

    # ---- the queue -------------------------------------------------------------------------------------------------

    def _take_requests(self, arrived: Iterable[tuple[Request, Ticket, int]]) -> None:
        for request, ticket, index in arrived:
            if isinstance(request, Refresh):
                self._events.note(*self._publisher.take_remarks())
                self._end_quarantine(time.time())
                self._publisher.publish_subnets()
                self._inbox.reply(ticket, index, Answer("refreshed"))
            elif isinstance(request, Look):
                self._end_quarantine(time.time())
                self._inbox.reply(ticket, index, look(request, self.world, self._states))
            elif isinstance(request, Verify):
                self._verifier.take(request, partial(self._inbox.reply, ticket, index))
            elif isinstance(request, Settle):
                settled = self._settlement.write()
                self._inbox.reply(ticket, index, Answer("settled") if settled else Answer("error", refused=UNSETTLED))
            else:
                plan = planner(self.world, self._tasks, self.published, request)
                self._queue.waiting.append(Work(request.name, plan, ticket, index))

    def _end_quarantine(self, wall: float) -> None:
        """Let what was released long enough ago be as free as the rest."""
        self._publisher.subnets_changed(self.world.end_quarantine(wall - self.quarantine, wall))

    def _refuse_all(self) -> None:
        """While not active, requests are refused at once, but for those whose outcome is still to be looked up: while
        disconnected it cannot be, and once the stores were compared it is what the ledger says.
        """
        for work in self._queue.take_all():
            if work.attempt is not None and self.published.state == "disconnected":
                self._queue.waiting.append(work)
            elif work.attempt is None or not self._was_done(work):
                self._queue.refuse(work, unavailable(self.published, self._northbound))

    # ---- a batch: plan, ledger, northbound -------------------------------------------------------------------------

    def _start_batch(self) -> None:
        if self.published.state in ("disconnected", "standby", "foreign"):
            self._refuse_all()
        if self._commits.batch is not None or self.published.state != "active":
            return
        now = time.monotonic()
        if now < self._queue.not_before:
            return
        self._queue.gather(now)
        waiting = self._queue.waiting
        if not waiting:
            return
        wall = time.time()
        self._end_quarantine(wall)
        self.published.busy_at = now
        batch = Batch(self.world)
        batch.unrepaired.update(self._queue.unrepaired)
        for _ in paced(range(min(len(waiting), MAX_BATCH)), self._beat):
            self._plan(waiting.popleft(), batch, now, wall)
        self._queue.put_first(batch.later)
        if batch:
            self._commits.begin(batch, wall)

    def _plan(self, work: Work, batch: Batch, now: float, wall: float) -> None:
        if work.not_before > now:
            self._put_off(work, batch)
            return
        if work.given_up or (work.attempt is not None and self._was_done(work)):
            self._tasks.done(work)
            return
        if work.name in batch.names:
            batch.later.append(work)
            return
        if work.ticket is not None and (work.ticket in batch.held_up or self._is_unsaid(work.name)):
            self._put_off(work, batch)
            return
        patient = work.patience is None or now < work.patience
        try:
            plan = work.plan(Context(wall, self._random, self._ledger.next_version(), patient, self._ledger.next_dot))
        except Refused as refused:
            if work.certain or work.ticket is None:
                self._queue.refuse(work, refused)
            else:
                batch.doubtful.append(work)
        except Defer:
            if work.patience is None:
                work.patience = now + PATIENCE
            self._put_off(work, batch)
            if work.repairs:
                batch.unrepaired.add(work.repairs)
        except Exception:  # noqa: BLE001 - planning changes nothing, so one request's trouble is its own
            _log.exception("plan_failed", name=work.name)
            self._queue.refuse(work, Refused("internal error; the log of ovnreserved says more", name=work.name))
        else:
            if batch.has_to_wait(plan):
                self._tasks.hurry(batch.unrepaired_of(plan))
                self._put_off(work, batch)
                return
            needs_barrier = work.wait_sb and not (plan.result == "unchanged" and self._publisher.is_enforced(work.name))
            batch.accept(work, plan, wall, needs_barrier=needs_barrier)

    def _put_off(self, work: Work, batch: Batch) -> None:
        """Not now. What a client asked for after a pool or an owner may depend on that, and comes after it."""
        self._queue.deferred.append(work)
        if work.ticket is not None and is_fact(work.name):
            batch.held_up.add(work.ticket)

    def _was_done(self, work: Work) -> bool:
        """An earlier attempt has an unknown outcome. Is what it wanted there now? Then that is the answer."""
        attempt = work.attempt
        r = self.world.resource(work.name)
        assert attempt is not None  # noqa: S101 - the caller has looked
        if self._is_unsaid(work.name):
            self._queue.deferred.append(work)
            return True
        wanted = attempt.resource
        same = r is not None and wanted is not None and r.uid == wanted.uid
        if attempt.born is not None:
            done = attempt.born.uid not in self.world.ports
        elif attempt.result == "deleted":
            done = r is None or r.state is State.RELEASING or (wanted is not None and not same)
        elif attempt.ends or r is None or wanted is None or not same:
            done = False  # what was given back is found to be its port's when it is planned again
        else:
            said = r.with_(written=wanted.written, resource_version=wanted.resource_version, state=wanted.state)
            changed = said != wanted
            done = r.state is State.HELD and not (attempt.result == "configured" and changed)
        work.attempt = None
        if done:
            answer = Answer(attempt.result, r if same else wanted, attempt.warnings, born=attempt.born)
            self._queue.answer(work, answer)
        return done

    def _is_unsaid(self, name: str) -> bool:
        """Is there something of the reservation in the ledger that the database does not say yet? A task is on its way
        to write it; until then nobody may be told that it is so, for should this daemon end now, it never will be.
        """
        r = self.world.resource(name)
        if r is None or r.state is State.FAILED:
            return False
        record = self._northbound.replica.record(name, r.uid)
        said = resource_of(record[1]) if record is not None else None
        match r.state:
            case State.HELD:  # without its switch it is kept as it is
                return said != r and (not r.home or r.home in self.world.segments)
            case State.RELEASING:
                return said is not None and said.state is not State.RELEASING
        return True

    def _uncertain(self) -> set[Ticket]:
        return self._queue.uncertain(self._commits.under_way)


_STOPPING: Final = Unavailable("ovnreserved is stopping; ask again when it is back")
_FAILED: Final = OutcomeUnknown("ovnreserved has failed and ends; it may still be done: look with get when it is back")
