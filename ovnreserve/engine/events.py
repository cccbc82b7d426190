"""What happened outside of a batch: logged and journalled."""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

import structlog

from ovnreserve.engine.settlement import Settlement, entry
from ovnreserve.ledger.ledger import Entry
from ovnreserve.plan.outcome import Event
from ovnreserve.plan.world import World

_log = structlog.get_logger(__name__)

_LOG_SINGLY: Final = 32


class Events:
    def __init__(self, world: World, settlement: Settlement) -> None:
        self._world = world
        self._settlement = settlement

    def note(self, *events: Event) -> None:
        """Log them, and write them to the journal with the next settlement."""
        if events:
            now = time.time()
            entries = [entry(event, self._world.resource(event.name), now) for event in events]
            log_events(entries)
            self._settlement.note(entries)


def log_events(entries: list[Entry]) -> None:
    """One line a decision; a bulk request's, which the journal has one by one, in one line a kind."""
    if len(entries) <= _LOG_SINGLY:
        for e in entries:
            log = _log.info if e.type == "Normal" else _log.warning
            log(_snake(e.reason), name=e.name, message=e.message, actor=e.actor)
        return
    for reason, count in Counter(e.reason for e in entries).items():
        _log.info(_snake(reason), count=count)


def _snake(reason: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in reason).lstrip("_")
