"""The desk between the event loop and the engine's thread."""

from __future__ import annotations

import asyncio
from typing import Final

from ovnreserve.engine import Answer, Engine, Request, Ticket
from ovnreserve.model.errors import OutcomeUnknown

_GRACE: Final = 0.5
_SWEEP: Final = 0.25
"""Seconds: how much later than its client wishes an engine may answer that is held up, and how often that is looked
after. Together they are within the second that clients allow beyond their timeout.
"""
_HELD_UP: Final = "the daemon is held up; it may still be done: look with get"
_ENDED: Final = "the daemon ends; it may still be done: look with get when it is back"


class Desk:
    """Hands requests to the engine and the answers back to the coroutines that wait for them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._loop = asyncio.get_running_loop()
        self._asked: dict[asyncio.Future[list[Answer]], float] = {}
        self._waking = False
        self._over = False
        engine.deliver = self._deliver
        self._sweep()

    def _deliver(self, tickets: list[Ticket]) -> None:
        """In the engine's thread: one call into the event loop for all answers of a batch."""
        self._loop.call_soon_threadsafe(_resolve, tickets)

    async def ask(
        self, requests: list[Request], seconds: float, *, wait_sb: bool = False, actor: str = ""
    ) -> list[Answer]:
        """The answers, in order. OutcomeUnknown if the engine itself does not answer in time."""
        future: asyncio.Future[list[Answer]] = self._loop.create_future()
        self._asked[future] = self._loop.time() + seconds + _GRACE
        self.engine.submit(requests, future, timeout=seconds, wait_sb=wait_sb, actor=actor)
        if not self._waking:
            # What else has come in this turn of the event loop goes along, and the two threads alternate instead of
            # contending: woken for each request, the engine began with a batch of one while 63 others were being read.
            self._waking = True
            self._loop.call_soon(self._wake)
        try:
            return await future
        finally:
            del self._asked[future]

    def _wake(self) -> None:
        self._waking = False
        self.engine.wake()

    def _sweep(self) -> None:
        """The engine answers in time, unless it is held up itself (by a disk that hangs), or has ended. One timer for
        all who ask.
        """
        now = self._loop.time()
        if self.engine.ended and not self._over:
            self._over = True  # what it has answered at the end is on its way
            self._asked = {future: min(until, now + _SWEEP) for future, until in self._asked.items()}
        for future, until in self._asked.items():
            if until <= now and not future.done():
                future.set_exception(OutcomeUnknown(_ENDED if self._over else _HELD_UP))
        self._loop.call_later(_SWEEP, self._sweep)


def _resolve(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        if not ticket.key.done():
            ticket.key.set_result(ticket.answers)
