"""The inbox: requests come in from any thread, answers go out together, and nobody waits for ever."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from ovnreserve.engine.work import Answer, Request, Ticket
from ovnreserve.model.errors import OutcomeUnknown, Refused, Unavailable

MAX_WAITING: Final = 200_000
"""Requests beyond this many are refused at once: memory stays bounded whatever clients do."""

_LATE: Final = Unavailable("nothing was changed: the northbound database is busy or keeps changing; ask again")
_UNKNOWN: Final = OutcomeUnknown(
    "the northbound database has not answered in time; it may still be done: look with get"
)
_TOO_MANY: Final = Unavailable("too many requests are waiting; ask again")


class Inbox:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = 0
        self._incoming: deque[tuple[list[Request], Ticket]] = deque()
        self._registered: deque[tuple[list[Request], Ticket]] = deque()
        """The first of what is incoming, whose deadlines are known."""
        self._deadlines: list[tuple[float, int, Ticket]] = []
        self._order = itertools.count()
        self._delivered: list[Ticket] = []
        self._closed: Refused | None = None

    def submit(
        self, requests: list[Request], key: Any, timeout: float, *, wait_sb: bool, actor: str = ""
    ) -> Ticket | None:
        """Any thread. The Ticket with `key` and an Answer for each request is delivered in about `timeout` seconds at
        most; once the inbox is closed it is returned at once, refused.
        """
        ticket = Ticket(key, len(requests), time.monotonic() + timeout, wait_sb=wait_sb, actor=actor)
        with self._lock:
            if self._closed is None:
                self._waiting += len(requests)
                self._incoming.append((requests, ticket))
                return None
        ticket.answers = [Answer("error", refused=self._closed)] * len(requests)
        ticket.done = True
        return ticket

    def close(self, refused: Refused) -> None:
        """From now on nobody will take anything; what has come before is still to be taken."""
        with self._lock:
            self._closed = refused

    def take(self) -> Iterator[tuple[Request, Ticket, int]]:
        """What has come since, in order."""
        self._register()
        while self._registered:
            requests, ticket = self._registered.popleft()
            if ticket.done:
                continue
            if not requests:
                self._finish(ticket)
            if self._waiting > MAX_WAITING:
                for index in range(len(requests)):
                    self.reply(ticket, index, Answer("error", refused=_TOO_MANY))
                continue
            for index, request in enumerate(requests):
                yield request, ticket, index

    def _register(self) -> None:
        while self._incoming:
            requests, ticket = self._incoming.popleft()
            heapq.heappush(self._deadlines, (ticket.deadline, next(self._order), ticket))
            self._registered.append((requests, ticket))

    def reply(self, ticket: Ticket, index: int, answer: Answer) -> None:
        """Answer one request. An answer that comes after its client was told something is dropped."""
        if ticket.done or ticket.answers[index] is not None:
            return
        ticket.answers[index] = answer
        ticket.missing -= 1
        if not ticket.missing:
            self._finish(ticket)

    def expire(self, now: float, under_way: Callable[[], set[Ticket]]) -> None:
        """Tell clients that cannot wait any longer, also those whose requests were not taken yet; those `under_way`
        that the outcome is unknown.
        """
        self._register()
        uncertain: set[Ticket] | None = None
        while self._deadlines and self._deadlines[0][0] <= now:
            ticket = heapq.heappop(self._deadlines)[2]
            if ticket.done:
                continue
            if uncertain is None:
                uncertain = under_way()
            refused: Refused = _UNKNOWN if ticket in uncertain else _LATE
            for index, answer in enumerate(ticket.answers):
                if answer is None:
                    ticket.answers[index] = ticket.fallback.get(index) or Answer("error", refused=refused)
            self._finish(ticket)

    def abandon(self, refused: Refused) -> None:
        """Tell every client that still waits the same."""
        for _ in self.take():
            pass
        for _deadline, _order, ticket in self._deadlines:
            if not ticket.done:
                for index, answer in enumerate(ticket.answers):
                    if answer is None:
                        ticket.answers[index] = ticket.fallback.get(index) or Answer("error", refused=refused)
                self._finish(ticket)

    def _finish(self, ticket: Ticket) -> None:
        ticket.done = True
        with self._lock:
            self._waiting -= len(ticket.answers)
        self._delivered.append(ticket)

    def delivered(self) -> list[Ticket]:
        """Tickets that are complete since the last call."""
        delivered, self._delivered = self._delivered, []
        return delivered

    @property
    def has_come(self) -> bool:
        return bool(self._incoming or self._registered)

    @property
    def next_deadline(self) -> float:
        while self._deadlines and self._deadlines[0][2].done:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else float("inf")
