"""What goes through the engine's queue: requests of clients, and tasks of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ovnreserve.model.errors import Refused
from ovnreserve.model.ip import Wanted
from ovnreserve.model.reservation import Reservation
from ovnreserve.plan.outcome import Context, Plan


class Apply(NamedTuple):
    """Create, or bring up to date."""

    wanted: Wanted

    @property
    def name(self) -> str:
        return self.wanted.name


class Create(NamedTuple):
    """Create; AlreadyExists if it is there."""

    wanted: Wanted

    @property
    def name(self) -> str:
        return self.wanted.name


class Patch(NamedTuple):
    """Change labels and annotations; None removes one."""

    name: str
    labels: dict[str, str | None]
    annotations: dict[str, str | None]
    version: str


class Delete(NamedTuple):
    """Release."""

    name: str


class Refresh(NamedTuple):
    """Bring the published subnets up to date."""

    name: str = ""


Request = Apply | Create | Patch | Delete | Refresh


class Answer(NamedTuple):
    """What a request came to: created, configured, unchanged or deleted, with the reservation; or why it was refused."""

    result: str
    reservation: Reservation | None = None
    warnings: tuple[str, ...] = ()
    refused: Refused | None = None


class Ticket:
    """One call of a client with its requests; delivered when every one has its answer."""

    __slots__ = ("answers", "key", "missing")

    def __init__(self, key: Any, count: int) -> None:
        self.key = key
        self.answers: list[Answer | None] = [None] * count
        self.missing = count


class Work:
    """One thing to plan and carry out.

    `deadline` (monotonic) is when its client gives up; a task of our own has none and no ticket. `patience` is until when ovn-northd
    is waited for, set at the first time that a plan asks for it. `attempt` is the reservation of a plan whose commit has an unknown outcome:
    should it turn up, that was this work's success.
    """

    __slots__ = ("attempt", "attempts", "deadline", "index", "name", "patience", "plan", "ticket", "wait_sb")

    def __init__(
        self,
        name: str,
        plan: Callable[[Context], Plan],
        ticket: Ticket | None = None,
        index: int = 0,
        deadline: float = float("inf"),
        *,
        wait_sb: bool = False,
    ) -> None:
        self.name = name
        self.plan = plan
        self.ticket = ticket
        self.index = index
        self.deadline = deadline
        self.wait_sb = wait_sb
        self.patience: float | None = None
        self.attempt: Plan | None = None
        self.attempts = 0
