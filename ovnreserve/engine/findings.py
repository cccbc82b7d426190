"""What is found wrong with subnets and the database, kept up to date by what changes, for readers and the journal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from ovnreserve.engine.published import Published
from ovnreserve.model.documents import Condition
from ovnreserve.model.pace import paced
from ovnreserve.plan.findings import (
    Health,
    database_findings,
    examine,
    remarks,
    remarks_of_database,
    render,
)
from ovnreserve.plan.outcome import Event
from ovnreserve.plan.world import World


class Findings:
    def __init__(self, world: World, published: Published) -> None:
        self._world = world
        self._published = published
        self._changed: set[str] = set()
        self._health: dict[str, Health] = {}

    def changed(self, switches: Iterable[str]) -> None:
        """Something of these switches (uuids) or of the database changed."""
        self._changed.update(switches)

    def look(self) -> Iterator[Event]:
        """Look again at what changed since the last call, and tell what came and went of it."""
        now = time.time()
        segments = self._world.segments
        for uuid in paced(self._changed, self._world.beat):
            segment = segments.get(uuid)
            if segment is None:
                self._health.pop(uuid, None)
                continue
            before, stirred = self._health.get(uuid), segment.take_stirred()
            health = self._health[uuid] = examine(self._world, segment, before, stirred, now)
            yield from remarks(segment.switch.name, before, health, stirred)
        self._changed.clear()
        found = database_findings(self._world)
        yield from remarks_of_database(self._published.findings, found)
        self._published.findings = found

    def conditions(self, switch: str) -> tuple[Condition, ...]:
        """Of the Subnet of a switch that has been looked at."""
        health = self._health.get(switch)
        return () if health is None else render(health)
