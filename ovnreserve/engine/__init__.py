"""The one writer: a queue in, a group commit out. It owns both stores.

`writer.Engine` is its loop; `work` what goes through the queue; `batch` one group commit; `barrier` waiting for
ovn-northd; `published` what readers see.
"""

from ovnreserve.engine.published import document
from ovnreserve.engine.work import Answer, Apply, Create, Delete, Refresh, Request, Ticket
from ovnreserve.engine.writer import Engine
from ovnreserve.ledger.ledger import Entry
from ovnreserve.plan.update import Patch

__all__ = [
    "Answer",
    "Apply",
    "Create",
    "Delete",
    "Engine",
    "Entry",
    "Patch",
    "Refresh",
    "Request",
    "Ticket",
    "document",
]
