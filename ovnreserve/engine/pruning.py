"""Pruning the journal while there is nothing else to do, a piece at a time, so that nobody has to wait for it.

Each piece takes the writer some milliseconds (docs/history.md), and after it comes a pause nine times as long. Nothing
of where it stands is stored: after a restart it begins at the oldest entry again.
"""

from __future__ import annotations

import time
from math import inf
from typing import Final

import structlog

from ovnreserve.ledger.journal import Keep
from ovnreserve.ledger.ledger import Ledger, LedgerError

_log = structlog.get_logger(__name__)

FIRST: Final = 1.0
"""Seconds after the start."""
EVERY: Final = 600.0
_SHARE: Final = 10
"""A tenth of the time may be spent on it."""


class Pruning:
    """`due` is when it should go on (monotonic), infinite where all is kept."""

    def __init__(self, ledger: Ledger, keep: Keep) -> None:
        self._ledger = ledger
        self._keep = keep
        self._after = 0
        self._pruned = 0
        self.due = inf if keep.is_all else time.monotonic() + FIRST

    def go_on(self) -> None:
        """Prune the next piece."""
        started = time.monotonic()
        try:
            after, pruned = self._ledger.prune_journal(self._keep, time.time(), self._after)
        except LedgerError as error:
            _log.warning("journal_not_pruned", error=str(error))
            after, pruned = None, 0
        self._pruned += pruned
        now = time.monotonic()
        if after is not None:
            self._after = after
            self.due = now + (_SHARE - 1) * (now - started)
            return
        if self._pruned:
            _log.info("journal_pruned", entries=self._pruned)
        self._after = self._pruned = 0
        self.due = now + EVERY
