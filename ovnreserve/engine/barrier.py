"""Waiting for ovn-northd.

A transaction increments NB_Global.nb_cfg; when sb_cfg has reached that number, ovn-northd has seen everything up to
it (facts/ovn.md, section 5). All who wait share what comes first. Not to be answered in time is no failure: what was
committed stays committed, and is only not known to be enforced yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

_INT32_MAX = 2**31 - 1


class Awaited(NamedTuple):
    """Call `then(True)` once sb_cfg has reached `target`, `then(False)` at the time `until` (monotonic).

    Without a target (there is no NB_Global row yet) it is never reached.
    """

    target: int | None
    until: float
    then: Callable[[bool], Any]


class Barriers:
    def __init__(self) -> None:
        self._awaited: list[Awaited] = []

    def add(self, awaited: Awaited) -> None:
        self._awaited.append(awaited)

    def go_on(self, awaited: Awaited) -> None:
        """Await this without end, in place of what was awaited so before: the later target is reached after both."""
        self._awaited = [other for other in self._awaited if other.until != float("inf")]
        self._awaited.append(awaited)

    def check(self, sb_cfg: int | None, now: float) -> None:
        """`sb_cfg` as it is now, None while that is not known."""
        ended: list[tuple[Awaited, bool]] = []
        waiting: list[Awaited] = []
        for awaited in self._awaited:
            if sb_cfg is not None and awaited.target is not None and _reached(sb_cfg, awaited.target):
                ended.append((awaited, True))
            elif now >= awaited.until:
                ended.append((awaited, False))
            else:
                waiting.append(awaited)
        self._awaited = waiting
        for awaited, reached in ended:
            awaited.then(reached)

    @property
    def next_deadline(self) -> float:
        return min((awaited.until for awaited in self._awaited), default=float("inf"))


def _reached(current: int, target: int) -> bool:
    """As ovn-nbctl compares, since nb_cfg starts again at 0 after its maximum."""
    return current >= target and current - target < _INT32_MAX
