"""The queue: work that waits for its turn, and the answers of work that is done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

import structlog

from ovnreserve.engine.inbox import Inbox
from ovnreserve.engine.tasks import Tasks
from ovnreserve.engine.work import Answer, Ticket, Work
from ovnreserve.model.errors import Refused

_log = structlog.get_logger(__name__)


class Queue:
    """`waiting` is planned in order; `deferred` waits for ovn-northd or for another plan, and then goes first."""

    def __init__(self, inbox: Inbox, tasks: Tasks) -> None:
        self.waiting: deque[Work] = deque()
        self.deferred: list[Work] = []
        self.not_before = 0.0
        """Until then nothing is planned (monotonic): others keep changing things, or the ledger fails."""
        self._inbox = inbox
        self._tasks = tasks

    def gather(self) -> None:
        """Bring in what was deferred, and our own tasks. Repairs of exclude_ips go before whatever is written there."""
        deferred, self.deferred = self.deferred, []
        tasks = list(self._tasks.take())
        self.waiting.extendleft(work for work in reversed(deferred) if not work.repairs)
        self.waiting.extendleft(work for work in (*deferred, *tasks) if work.repairs)
        self.waiting.extend(work for work in tasks if not work.repairs)

    def take_all(self) -> list[Work]:
        works = [*self.waiting, *self.deferred]
        self.waiting.clear()
        self.deferred = []
        return works

    def put_first(self, works: list[Work]) -> None:
        self.waiting.extendleft(reversed(works))

    def pause(self, seconds: float) -> None:
        self.not_before = time.monotonic() + seconds

    def answer(self, work: Work, answer: Answer) -> None:
        """The work is over."""
        self._tasks.done(work)
        if work.ticket is not None:
            self._inbox.reply(work.ticket, work.index, answer)

    def refuse(self, work: Work, refused: Refused) -> None:
        if work.ticket is None:
            _log.warning("task_refused", task=work.name, reason=refused.reason, message=refused.message)
        self.answer(work, Answer("error", refused=refused))

    def uncertain(self, under_way: Iterable[Work]) -> set[Ticket]:
        """Tickets of which something may or may not have been done: under way, or with an unknown outcome."""
        works = [*under_way, *(work for work in (*self.waiting, *self.deferred) if work.attempt is not None)]
        return {work.ticket for work in works if work.ticket is not None}
