"""The one writer: a queue in, a group commit out. It owns both stores.

`writer.Engine` is its loop. `inbox` and `queue`: what waits (`work`). `tasks`: what others did becomes work of ours.
`commits`: one `batch` after the other, and what it may come to. `barrier`: waiting for ovn-northd. `states`: what the
daemon is, and when it has to `compare` the stores. `looks`: questions about the world. `verifier`: the stores held
against each other. `points`: where the process may die. `settlement`, `events`: what is written down afterwards.
`publisher`: what readers see (`published`).
"""

from ovnreserve.engine.published import Published, Shown, document, labels
from ovnreserve.engine.verifier import Verified
from ovnreserve.engine.work import Answer, Apply, Create, Delete, Look, Refresh, Request, Settle, Ticket, Verify
from ovnreserve.engine.writer import Engine
from ovnreserve.ledger.ledger import Entry
from ovnreserve.plan.owners import Scale
from ovnreserve.plan.patch import Patch
from ovnreserve.plan.suggest import explain, suggest

__all__ = [
    "Answer",
    "Apply",
    "Create",
    "Delete",
    "Engine",
    "Entry",
    "Look",
    "Patch",
    "Published",
    "Refresh",
    "Request",
    "Scale",
    "Settle",
    "Shown",
    "Ticket",
    "Verified",
    "Verify",
    "document",
    "explain",
    "labels",
    "suggest",
]
