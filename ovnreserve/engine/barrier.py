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
    """Call `then(True)` once sb_cfg has reached `target`, `then(False)` at the time `until` (monotonic)."""

    target: int
    until: float
    then: Callable[[bool], Any]


class Barriers:
    def __init__(self) -> None:
        self._awaited: list[Awaited] = []

    def add(self, awaited: Awaited) -> None:
        self._awaited.append(awaited)

    def check(self, sb_cfg: int | None, now: float) -> None:
        """`sb_cfg` as it is now, None while that is not known."""
        waiting, self._awaited = self._awaited, []
        for awaited in waiting:
            if sb_cfg is not None and _reached(sb_cfg, awaited.target):
                awaited.then(True)
            elif now >= awaited.until:
                awaited.then(False)
            else:
                self._awaited.append(awaited)

    @property
    def next_deadline(self) -> float:
        return min((awaited.until for awaited in self._awaited), default=float("inf"))


def _reached(current: int, target: int) -> bool:
    """As ovn-nbctl compares, since nb_cfg starts again at 0 after its maximum."""
    return current >= target and current - target < _INT32_MAX
