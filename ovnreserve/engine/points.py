"""Where the process may die: every boundary of a step, before and after each store's commit.

    planned ─> LEDGER ─> intended ─> NORTHBOUND ─> sent ─> committed ─> answered ─> settling ─> LEDGER ─> settled
                                         └──(refused)──> taking back ─> LEDGER ─> taken back
    comparing ─> LEDGER ─> compared                          released: ovn-northd has answered between two commits

The engine says where it is, and nothing listens: `reached` does nothing, and no option or variable makes it do
anything. The tests run the daemon with another function in its place (functional/crash/), one that kills it there.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from ovnreserve.model.steps import Step


class Point(enum.StrEnum):
    PLANNED = "planned"
    INTENDED = "intended"
    SENT = "sent"
    COMMITTED = "committed"
    ANSWERED = "answered"
    SETTLING = "settling"
    SETTLED = "settled"
    TAKING_BACK = "taking back"
    TAKEN_BACK = "taken back"
    COMPARING = "comparing"
    COMPARED = "compared"
    RELEASED = "released"


def reached(_point: Point, _steps: Iterable[Step] = ()) -> None:
    """The engine is at this point of a commit that consists of these steps."""
