"""Questions about the world: answered between two steps of the engine's loop, behind nothing and before nothing.

While the database is not connected the world is as it was seen last, and so are the answers. There are none before it
was seen as a whole and compared with the ledger, since half a world would call taken addresses free.
"""

from __future__ import annotations

import structlog

from ovnreserve.engine.states import States
from ovnreserve.engine.work import Answer, Look
from ovnreserve.model.errors import Refused, Unavailable
from ovnreserve.plan.world import World

_log = structlog.get_logger(__name__)


def look(request: Look, world: World, states: States) -> Answer:
    """What the question finds, or why it is refused."""
    if not states.has_compared:
        return Answer("error", refused=not_seen(states))
    try:
        return Answer("found", found=request.question(world))
    except Refused as refused:
        return Answer("error", refused=refused)
    except Exception:  # noqa: BLE001 - a question changes nothing, so its trouble is its own
        _log.exception("look_failed")
        return Answer("error", refused=Refused("internal error; the log of ovnreserved says more", kind=""))


def not_seen(states: States) -> Unavailable:
    """Why there is nothing to be looked at yet."""
    problem = states.problem or "ask again in a moment"
    message = f"the northbound database has not been seen as a whole since the daemon started: {problem}"
    return Unavailable(message, kind="")
