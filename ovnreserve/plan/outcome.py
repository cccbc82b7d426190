"""What a plan is given besides the world, and what it comes to."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from ovnreserve.model.resource import Dot, Resource
from ovnreserve.model.steps import Step
from ovnreserve.plan.born import Born


class Event(NamedTuple):
    """Something worth the journal: `type` is Normal or Warning, `reason` one CamelCase word."""

    type: str
    reason: str
    name: str
    message: str


class Plan(NamedTuple):
    """What one request or change comes to.

    `resource` is its state from now on, None when it is gone or not concerned; `result` is what kubectl would print.
    `born` is the IP without a reservation that it is about.
    """

    result: str
    resource: Resource | None = None
    steps: tuple[Step, ...] = ()
    events: tuple[Event, ...] = ()
    warnings: tuple[str, ...] = ()
    born: Born | None = None

    @property
    def ends(self) -> bool:
        """Is its resource gone from the ledger once it is carried out? `resource` is what it is until then, if that is
        not what it was before.
        """
        return self.result in ("released", "given back")


class Context(NamedTuple):
    """What a plan may not find out for itself: the time, chance, the next resourceVersion, whether to wait for
    ovn-northd, and by which commit it will be carried out.
    """

    now: float
    random: Random
    resource_version: int
    patient: bool
    commit: Dot = Dot()

    @property
    def stamp(self) -> dict[str, Any]:
        """What a resource gets that is made or changed."""
        return {"resource_version": self.resource_version, "written": self.commit}


class Defer(Exception):  # noqa: N818 - a decision, not a fault
    """Not yet: ovn-northd is about to choose addresses on this switch. Plan again once it has, or patience ends."""

    def __init__(self, switch: str) -> None:
        super().__init__(switch)
        self.switch = switch
