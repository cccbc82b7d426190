"""What goes through the engine's queue: requests of clients, and tasks of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ovnreserve.model.errors import Refused
from ovnreserve.model.history import DAEMON
from ovnreserve.model.ip import Wanted
from ovnreserve.model.owner import WantedOwner
from ovnreserve.model.pool import WantedPool
from ovnreserve.model.resource import Resource
from ovnreserve.plan.born import Born
from ovnreserve.plan.outcome import Context, Plan
from ovnreserve.plan.owners import Scale
from ovnreserve.plan.patch import Patch
from ovnreserve.plan.world import World

AnyWanted = Wanted | WantedOwner | WantedPool
"""A valid document, by whose `name` its resource is known."""


class Apply(NamedTuple):
    """Create, or bring up to date."""

    wanted: AnyWanted

    @property
    def name(self) -> str:
        return self.wanted.name


class Create(NamedTuple):
    """Create; AlreadyExists if it is there."""

    wanted: AnyWanted

    @property
    def name(self) -> str:
        return self.wanted.name


class Delete(NamedTuple):
    """Release."""

    name: str


class Refresh(NamedTuple):
    """Bring the published subnets, and the counts of pools, up to date."""

    name: str = ""


class Settle(NamedTuple):
    """Let the ledger have everything that has been acknowledged."""

    name: str = ""


class Look(NamedTuple):
    """Ask the world something. It is answered in the engine's next turn, whatever is under way. The question changes
    nothing, and may raise Refused.
    """

    question: Callable[[World], Any]
    name: str = ""


class Verify(NamedTuple):
    """Hold the stores against each other, or begin to repair them."""

    repair: bool = False
    name: str = ""


Request = Apply | Create | Patch | Scale | Delete | Refresh | Settle | Look | Verify


class Answer(NamedTuple):
    """What a request came to: created, configured, unchanged or deleted, and the resource, or the IP that went with its
    port; or why it was refused. `found` is what a Look has found.
    """

    result: str
    resource: Resource | None = None
    warnings: tuple[str, ...] = ()
    refused: Refused | None = None
    found: Any = None
    born: Born | None = None


class Ticket:
    """One call of a client with its requests; delivered when every one has its answer, or at its deadline
    (monotonic).
    """

    __slots__ = ("actor", "answers", "deadline", "done", "fallback", "key", "missing", "wait_sb")

    def __init__(self, key: Any, count: int, deadline: float, *, wait_sb: bool, actor: str = "") -> None:
        self.key = key
        self.answers: list[Answer | None] = [None] * count
        self.missing = count
        self.fallback: dict[int, Answer] = {}
        """What is true at the deadline of requests that are carried out and wait for ovn-northd only."""
        self.deadline = deadline
        self.wait_sb = wait_sb
        self.actor = actor
        """Who asks, as the journal has it."""
        self.done = False


class Work:
    """One thing to plan and carry out: a request, or without a ticket a task of the engine's own.

    `patience` is until when ovn-northd is waited for, set at the first time that a plan asks for it. `attempt` is a
    plan whose commit has an unknown outcome: should its reservation turn up, that was this work's success. `certain`
    once the database has been asked for its latest since a plan was refused. `repairs` is the switch whose exclude_ips
    it repairs, `task` what it is and for whom. `not_before` is when it may be planned again after guards of it have
    failed.
    """

    __slots__ = (
        *("attempt", "attempts", "certain", "index", "name", "not_before", "patience", "plan", "repairs", "task"),
        "ticket",
    )

    def __init__(
        self,
        name: str,
        plan: Callable[[Context], Plan],
        ticket: Ticket | None = None,
        index: int = 0,
        *,
        repairs: str | None = None,
        task: tuple[str, str] = ("", ""),
    ) -> None:
        self.name = name
        self.plan = plan
        self.ticket = ticket
        self.index = index
        self.patience: float | None = None
        self.attempt: Plan | None = None
        self.attempts = 0
        self.not_before = 0.0
        self.certain = False
        self.repairs = repairs
        self.task = task

    @property
    def wait_sb(self) -> bool:
        return self.ticket is not None and self.ticket.wait_sb

    @property
    def actor(self) -> str:
        """At whose wish it is done."""
        return self.ticket.actor if self.ticket is not None else DAEMON

    @property
    def given_up(self) -> bool:
        """Has its client been told already that nothing was done?"""
        return self.ticket is not None and self.ticket.done
