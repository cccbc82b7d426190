"""Publishing: after each turn of the loop, readers see what changed in it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from ovnreserve.engine.findings import Findings
from ovnreserve.engine.published import Published, PublishedPool
from ovnreserve.model.pace import paced
from ovnreserve.model.resource import is_fact
from ovnreserve.plan.born import born
from ovnreserve.plan.holders import Rival
from ovnreserve.plan.outcome import Event
from ovnreserve.plan.pool_status import describe_pool, remark
from ovnreserve.plan.status import observe, remarks
from ovnreserve.plan.subnets import describe_subnet
from ovnreserve.plan.world import World

_CHUNK: Final = 500
"""How many reservations that ovn-northd has seen are published in one turn: nobody waits for them."""
_SWITCHES: Final = 32
"""How many switches are brought up to date in one turn."""


class Publisher:
    """`told` are those of whom was told before, by the uid of the reservation that they are in conflict with."""

    def __init__(
        self,
        world: World,
        published: Published,
        next_version: Callable[[], int],
        told: dict[str, tuple[Rival, ...]] | None = None,
    ) -> None:
        self._world = world
        self._told = told or {}
        self._published = published
        self._next_version = next_version
        self.findings = Findings(world, published)
        self.leaving: frozenset[str] = frozenset()
        """Reservations whose end is under way: they are there until the database says that they are gone."""
        self._ips: set[str] = set()
        self._subnets: set[str] = set()
        self._enforced: set[str] = set()
        self._not_enforced: deque[str] = deque()
        self._passed = 0
        """How many have left `_not_enforced`."""
        self._to_enforce: deque[str] = deque()
        self._remarks: list[Event] = []
        self._review_at = 0.0

    def changed(self, names: Iterable[str]) -> None:
        """Something about these resources or ports is, or may be, different, and so is what their subnets count."""
        ips, pools = self._published.ips, self._published.pools
        for name in names:
            self._ips.add(name)
            before, pool, now = ips.get(name), pools.get(name), self._world.resource(name)
            was = before[0] if before is not None else pool.pool if pool is not None else None
            self._subnets.update(r.home for r in (was, now) if r is not None and r.home)

    def subnets_changed(self, switches: Iterable[str]) -> None:
        for switch in switches:
            self._subnets.add(switch)
            segment = self._world.segments.get(switch)
            if segment is not None:
                self._ips |= segment.failed  # they hold nothing, so that nothing tells who has what they were to have

    def committed(self, names: Iterable[str]) -> None:
        """ovn-northd will have seen these once a later barrier has passed."""
        self._not_enforced.extend(names)

    def compared(self) -> None:
        """Whatever is held may be enforced or not: the next barrier tells."""
        self._passed = self.mark
        self._not_enforced = deque(name for name in self._world.reservations if name not in self._enforced)

    @property
    def mark(self) -> int:
        """Stands for all that has been committed so far."""
        return self._passed + len(self._not_enforced)

    def enforced(self, first: Iterable[str], mark: int) -> None:
        """ovn-northd has seen what was committed up to the mark; `first` are those whose clients wait for it."""
        for name in first:
            self._enforced.add(name)
            self._ips.add(name)
        while self._passed < mark and self._not_enforced:
            self._to_enforce.append(self._not_enforced.popleft())
            self._passed += 1

    def is_enforced(self, name: str) -> bool:
        return name in self._enforced

    @property
    def has_more(self) -> bool:
        return bool(self._to_enforce)

    @property
    def due(self) -> float:
        """When to look on at what else holds addresses (monotonic); infinite while nothing of that changed."""
        return self._review_at if self._world.has_unreviewed else inf

    def _review(self) -> None:
        """Find the reservations that a change of routers, NAT and so on concerns. That may mean to look at each switch
        that has any, so it takes no more than a tenth of the time.
        """
        started = time.monotonic()
        if started >= self.due:
            self._world.review(_SWITCHES)
            now = time.monotonic()
            self._review_at = now + 9 * (now - started)
        self._ips |= self._world.take_stale()
        disturbed = self._world.take_disturbed()
        self.findings.changed(disturbed)
        self.subnets_changed(disturbed)

    def publish(self) -> None:
        """Let readers see all that changed. The cost is that of the changes."""
        self._review()
        reservations = self._world.reservations
        for _ in range(min(_CHUNK, len(self._to_enforce))):
            name = self._to_enforce.popleft()
            if name in reservations:
                self._enforced.add(name)
                self._ips.add(name)
        names = self._ips - self.leaving
        if not names:
            return
        ips = self._published.ips
        now = time.time()
        version = self._next_version()
        for name in paced(names, self._world.beat):
            if is_fact(name):
                self._publish_fact(name, now)
                self._publish_born(name, now, version)  # a port may be called anything
                continue
            r = reservations.get(name)
            if r is None:
                self._publish_born(name, now, version)
                ips.pop(name, None)
                self._enforced.discard(name)
                continue
            before = ips.get(name)
            told = () if before else self._told.pop(r.uid, ())
            last = before[1] if before else None
            seen = observe(self._world, r, last, now, awaited=name in self._enforced, told=told)
            ips[name] = (r, seen)
            self._published.born.pop(name, None)
            if seen.lost is not None:
                self._enforced.discard(name)
            elif before is not None and before[1].lost is not None:
                self.committed((name,))
            self._remarks.extend(remarks(name, last, seen, told))
        self._ips &= self.leaving
        self._published.version = version

    def _publish_born(self, name: str, now: float, version: int) -> None:
        """Nothing is reserved under the name. Is there an IP that was born with a port?"""
        ips = self._published.born
        port = self._world.port(name)
        ip = None if port is None else born(self._world, port, ips.get(name), now, version)
        if ip is None:
            ips.pop(name, None)
        else:
            ips[name] = ip

    def _publish_fact(self, name: str, now: float) -> None:
        self._publish_pool(name, now)
        owner = self._world.owners.get(name)
        if owner is None:
            self._published.owners.pop(name, None)
        else:
            self._published.owners[name] = owner

    def take_remarks(self) -> list[Event]:
        """What is worth the journal of what was published and found since the last call."""
        remarks_, self._remarks = [*self._remarks, *self.findings.look()], []
        return remarks_

    def _publish_pool(self, name: str, now: float) -> None:
        pools = self._published.pools
        pool = self._world.pools.get(name)
        if pool is None:
            pools.pop(name, None)
            self._enforced.discard(name)
            return
        before = pools.get(name)
        known = before.status if before is not None else None
        status = describe_pool(self._world, pool)
        same = before is not None and before.status.ready == status.ready
        pools[name] = PublishedPool(pool, status, before.since if before is not None and same else now)
        event = remark(pool, known, status)
        if event is not None:
            self._remarks.append(event)

    def publish_subnets(self) -> None:
        """Bring the subnets that changed and their pools up to date: only done when somebody asks."""
        subnets = self._published.subnets
        segments = self._world.segments
        now = time.time()
        for uuid in self._subnets:
            segment = segments.get(uuid)
            subnet = None if segment is None else describe_subnet(self._world, segment, self.findings.conditions(uuid))
            if subnet is None:
                subnets.pop(uuid, None)
            else:
                subnets[uuid] = subnet
            for name in segment.pools.names if segment is not None else ():
                self._publish_pool(name, now)
        self._subnets.clear()
