"""One group commit: everything that was waiting, planned one after the other, goes into the stores together.

Planning puts each plan's outcome into the world at once, so that the next plan sees it; `undo` takes all of it back
if the northbound database refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ovnreserve.engine.settlement import entry
from ovnreserve.engine.work import Ticket, Work
from ovnreserve.ledger.ledger import Entry
from ovnreserve.model.pool import Pool
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Resource
from ovnreserve.model.steps import (
    Barrier,
    DeletePort,
    DropRecord,
    MembersUnchanged,
    PutRecord,
    Step,
    UpdateRecord,
    WriteExcludes,
)
from ovnreserve.northbound.connection import Transaction
from ovnreserve.plan.outcome import Plan
from ovnreserve.plan.world import World


class Planned(NamedTuple):
    work: Work
    plan: Plan


class Batch:
    def __init__(self, world: World) -> None:
        self.planned: list[Planned] = []
        self.names: set[str] = set()
        """Whom its plans are for: one plan for each, for a plan looks at what the one before has come to."""
        self.later: list[Work] = []
        self.doubtful: list[Work] = []
        """Requests to be refused, if they still are when the database's latest has been seen: somebody may have made
        what is missing, or removed what is in the way, just before asking.
        """
        self.transaction: Transaction | None = None
        self.barrier = False
        self._world = world
        self._before: list[tuple[str, Resource | None]] = []
        self._withheld: dict[str, frozenset[int]] = {}
        self._switches: dict[str, None] = {}
        self._freed: set[tuple[str, str, int | str]] = set()
        self.held_up: set[Ticket] = set()
        """Whose requests wait for one of theirs that was put off."""
        self.unrepaired: set[str] = set()
        """Switches whose repair waits for ovn-northd. Their exclude_ips is left alone until then: it may lack an
        address that somebody is about to be given.
        """

    def __bool__(self) -> bool:
        return bool(self.planned or self.doubtful)

    def has_to_wait(self, plan: Plan) -> bool:
        """Would the plan have exclude_ips written of a switch that is not repaired yet, or give away what another plan
        of the batch lets go, and the ledger has still on its list?
        """
        if self._freed and plan.resource is not None and not self._freed.isdisjoint(plan.resource.claims()):
            return True
        return bool(self.unrepaired_of(plan))

    def unrepaired_of(self, plan: Plan) -> set[str]:
        """The switches not repaired yet whose exclude_ips the plan would have written."""
        if not self.unrepaired:
            return set()
        return self.unrepaired.intersection(
            step.resource.home for step in plan.steps if isinstance(step, PutRecord | UpdateRecord | DropRecord)
        )

    def offenders(self, culprit: str) -> list[Work]:
        """Whose guard failed: the work of that name, or all that concerns the switch of that uuid; else everybody's."""
        found = [work for work, plan in self.planned if work.name == culprit or culprit in _switches_of(plan)]
        return found or [work for work, _plan in self.planned]

    def accept(self, work: Work, plan: Plan, now: float, *, needs_barrier: bool) -> None:
        """Take a plan, and make the world what it will be once it is carried out."""
        self.planned.append(Planned(work, plan))
        self.names.add(work.name)
        self.barrier |= needs_barrier
        world = self._world
        if plan.resource is not None and plan.result != "unchanged":
            self._keep(plan.resource.name)
            self._keep_switch(plan.resource.home)
            world.put(plan.resource)
        elif plan.result == "deleted" and plan.born is None:
            self._keep(work.name)
            world.drop(work.name)
        for step in plan.steps:
            match step:
                case PutRecord(r) | UpdateRecord(r):
                    self._touch(r)
                case DropRecord(r):
                    self._touch(r)
                    if world.resource(r.name) is r:
                        self._keep(r.name)
                        self._keep_switch(r.home)
                        self._freed.update(r.claims())
                        world.drop(r.name, quarantined_at=now)
                case WriteExcludes(switch, withheld):
                    self._switches[switch] = None
                    segment = world.segments.get(switch)
                    if segment is not None:
                        self._keep_switch(switch)
                        segment.withhold(withheld)
                case Barrier():
                    self.barrier = True

    def _touch(self, r: Resource) -> None:
        if isinstance(r, Pool) or (isinstance(r, Reservation) and r.v4):
            self._switches[r.switch] = None

    def _keep(self, name: str) -> None:
        self._before.append((name, self._world.resource(name)))

    def _keep_switch(self, switch: str) -> None:
        segment = self._world.segments.get(switch)
        if segment is not None and switch not in self._withheld:
            self._withheld[switch] = frozenset(segment.withheld)

    def undo(self) -> None:
        """Make the world what it was before the first plan."""
        for name, before in reversed(self._before):
            if before is None:
                self._world.drop(name)
            else:
                self._world.put(before)
        for switch, withheld in self._withheld.items():
            segment = self._world.segments.get(switch)
            if segment is not None:  # perhaps one that came meanwhile
                segment.withhold(frozenset(a for a in withheld if segment.is_ours(a)))

    def undo_released(self) -> None:
        """Put back what was to be gone: whether it is, will be found by comparing."""
        for work, plan in self.planned:
            before = plan.resource or self.before.get(work.name)
            if plan.ends and before is not None:
                self._world.put(before)

    @property
    def switches(self) -> set[str]:
        """The switches whose reservations the batch changes."""
        homes = {r.home for _work, plan in self.planned if (r := plan.resource) is not None and r.home}
        return homes | self._switches.keys()

    @property
    def before(self) -> dict[str, Resource | None]:
        """What each resource was before the batch, by name."""
        found: dict[str, Resource | None] = {}
        for name, resource in self._before:
            found.setdefault(name, resource)
        return found

    @property
    def steps(self) -> list[tuple[str, Step]]:
        return [(work.name, step) for work, plan in self.planned for step in plan.steps]

    @property
    def all_steps(self) -> Iterator[Step]:
        return (step for _name, step in self.steps)

    def excludes(self) -> dict[str, str]:
        """Our text for each switch whose exclude_ips may have to change."""
        segments = self._world.segments
        return {uuid: segments[uuid].excluded.text() for uuid in self._switches if uuid in segments}

    def puts(self) -> list[Resource]:
        """What the ledger has to say before the northbound database is touched."""
        return [
            plan.resource
            for _work, plan in self.planned
            if plan.resource is not None and plan.result != "unchanged"
        ]

    def drops(self) -> list[str]:
        """Resources that go at once: they had failed."""
        return [
            work.name
            for work, plan in self.planned
            if plan.result == "deleted" and plan.resource is None and plan.born is None
        ]

    def entries(self, now: float) -> list[Entry]:
        """The journal of the batch."""
        before = self.before
        lines = []
        for work, plan in self.planned:
            for event in plan.events:
                r = plan.resource or before.get(event.name) or self._world.resource(event.name)
                lines.append(entry(event, r, now, work.actor))
        return lines


def _switches_of(plan: Plan) -> set[str]:
    switches = {plan.resource.home} - {""} if plan.resource is not None else set()
    for step in plan.steps:
        match step:
            case PutRecord(r) | UpdateRecord(r) | DropRecord(r):
                switches.add(r.home)
            case WriteExcludes(switch) | MembersUnchanged(switch) | DeletePort(_, switch):
                switches.add(switch)
    return switches
