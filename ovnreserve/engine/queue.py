"""The queue: work that waits for its turn, and the answers of work that is done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import structlog

from ovnreserve.engine.inbox import Inbox
from ovnreserve.engine.tasks import Tasks
from ovnreserve.engine.work import Answer, Ticket, Work
from ovnreserve.model.errors import Refused

_log = structlog.get_logger(__name__)


_LONGEST_RETRY: Final = 30.0


class Queue:
    """`waiting` is planned in order; `deferred` waits for ovn-northd or for another plan, and then goes first."""

    def __init__(self, inbox: Inbox, tasks: Tasks) -> None:
        self.waiting: deque[Work] = deque()
        self.deferred: list[Work] = []
        self.not_before = 0.0
        """Until then nothing is planned (monotonic): the ledger cannot be written."""
        self._later: list[tuple[float, Work]] = []
        self._inbox = inbox
        self._tasks = tasks

    def gather(self, now: float) -> None:
        """Bring in what was deferred, and our own tasks, which go first: repairs of exclude_ips before whatever else is
        written there, and what is missing in the database before whatever else is counted there.
        """
        deferred = [work for work in self.deferred if work.not_before <= now]
        self.deferred = [work for work in self.deferred if work.not_before > now]
        tasks = list(self._tasks.take())
        now = time.monotonic()
        tasks += [work for due, work in self._later if due <= now]
        self._later = [(due, work) for due, work in self._later if due > now]
        self.waiting.extendleft(work for work in (*reversed(deferred), *tasks) if not work.repairs)
        self.waiting.extendleft(work for work in (*deferred, *tasks) if work.repairs)

    @property
    def unrepaired(self) -> Iterator[str]:
        """The switches whose repair waits, since its guards have failed or somebody undoes it: until it is done nobody
        else writes there what it was to look at first.
        """
        yield from self._tasks.unrepaired
        yield from (work.repairs for work in self.deferred if work.repairs is not None)

    def take_all(self) -> list[Work]:
        works = [*self.waiting, *self.deferred, *(work for _due, work in self._later)]
        self.waiting.clear()
        self.deferred, self._later = [], []
        return works

    def put_first(self, works: list[Work]) -> None:
        self.waiting.extendleft(reversed(works))

    def retry(self, work: Work) -> None:
        """A task of our own that the database did not accept: again after a while, ever longer."""
        work.attempts += 1
        delay = min(2.0 ** min(work.attempts, 10), _LONGEST_RETRY)
        _log.warning("task_failed", task=work.name, retry_in=delay)
        self._later.append((time.monotonic() + delay, work))

    @property
    def due(self) -> float:
        """When there is work (monotonic)."""
        if self.waiting:
            return self.not_before
        return max(self.not_before, min((due for due, _work in self._later), default=float("inf")))

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.deferred or self._later)

    def pause(self, seconds: float) -> None:
        self.not_before = time.monotonic() + seconds

    def answer(self, work: Work, answer: Answer) -> None:
        """The work is over."""
        self._tasks.done(work)
        if work.ticket is not None:
            self._inbox.reply(work.ticket, work.index, answer)

    def refuse(self, work: Work, refused: Refused) -> None:
        if work.ticket is None:
            _log.info("task_dropped", task=work.name, message=refused.message)
        self.answer(work, Answer("error", refused=refused))

    def uncertain(self, under_way: Iterable[Work]) -> set[Ticket]:
        """Tickets of which something may or may not have been done: under way, or with an unknown outcome."""
        works = [*under_way, *(work for work in (*self.waiting, *self.deferred) if work.attempt is not None)]
        return {work.ticket for work in works if work.ticket is not None}
