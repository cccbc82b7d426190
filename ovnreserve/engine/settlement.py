"""Settlement: writing down what the northbound database has confirmed.

It costs an fsync that nobody waits for: what is not written down after a crash is found again by comparing. So it
goes with the next batch's ledger transaction, or on its own once there has been nothing to do for a moment.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final

import structlog

from ovnreserve.engine import points
from ovnreserve.engine.points import Point
from ovnreserve.ledger.ledger import Entry, Ledger, LedgerError
from ovnreserve.ledger.rows import Quarantined, quarantine_of
from ovnreserve.model.addresses import format_v4, format_v6
from ovnreserve.model.errors import Unavailable
from ovnreserve.model.history import DAEMON
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Resource
from ovnreserve.plan.outcome import Event

_log = structlog.get_logger(__name__)

AFTER: Final = 0.01
RETRY: Final = 1.0
UNSETTLED: Final = Unavailable("the ledger cannot be written now; the log of ovnreserved says why", kind="")


class Settlement:
    """`due` is when it should be written (monotonic), infinite while there is nothing to write."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: dict[str, None] = {}
        self._gone: dict[str, Resource] = {}
        self._journal: list[Entry] = []
        self._owed: dict[str, Resource | None] = {}
        """What the ledger should have in place of what it has, by name."""
        self.due = float("inf")

    def hold(self, r: Resource) -> None:
        """The resource's record has been seen in the northbound database."""
        self._held[r.name] = None
        self.soon()

    def drop(self, r: Resource) -> None:
        """The resource is released."""
        self._held.pop(r.name, None)
        self._owed.pop(r.name, None)
        self._gone[r.name] = r
        self.soon()

    def owe(self, before: Mapping[str, Resource | None]) -> None:
        """The ledger has an intent that came to nothing and could not be told, or to something else: these it should
        have, by name.
        """
        self._owed |= before
        self.soon()

    def note(self, entries: Iterable[Entry]) -> None:
        self._journal.extend(entries)
        self.soon()

    def soon(self) -> None:
        """There is something to settle."""
        self.due = min(self.due, time.monotonic() + AFTER)

    def commit_with(self, puts: list[Resource], drops: list[str], journal: list[Entry], *, count: bool) -> None:
        """Commit these, and everything to be settled with them, in one ledger transaction. Raises LedgerError; then
        none was.
        """
        points.reached(Point.SETTLING)
        new = {*drops, *(r.name for r in puts)}
        owed = {name: r for name, r in self._owed.items() if name not in new}
        self._ledger.commit(
            [*(r for r in owed.values() if r is not None), *puts],
            [*self._gone, *(name for name, r in owed.items() if r is None), *drops],
            self._held,
            [*self._journal, *journal],
            self._quarantine(),
            count=count,
        )
        points.reached(Point.SETTLED)
        self._held, self._gone, self._journal, self._owed = {}, {}, [], {}
        self.due = float("inf")

    def write(self) -> bool:
        """Settle now. False if the ledger cannot be written; it is tried again."""
        if not (self._held or self._gone or self._journal or self._owed or self._ledger.is_behind):
            self.due = float("inf")
            return True
        try:
            self.commit_with([], [], [], count=False)
        except LedgerError as error:
            _log.error("ledger_failed", error=str(error))
            self.due = time.monotonic() + RETRY
            return False
        return True

    def _quarantine(self) -> list[Quarantined]:
        now = time.time()
        return [quarantined for r in self._gone.values() for quarantined in quarantine_of(r, now)]


def entry(event: Event, r: Resource | None, now: float, actor: str = DAEMON) -> Entry:
    """The journal's line of an event: about which resource, if any, and at whose wish."""
    if not isinstance(r, Reservation):
        return Entry(now, event.type, event.reason, event.name, r.uid if r is not None else "", event.message, actor)
    return Entry(
        now, event.type, event.reason, event.name, r.uid, event.message, actor, r.subnet,
        "" if r.v4 is None else format_v4(r.v4), "" if r.v6 is None else format_v6(r.v6), r.mac,
    )  # fmt: skip
