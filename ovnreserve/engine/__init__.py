"""The one writer: a queue in, a group commit out. It owns both stores.

`writer.Engine` is its loop; `work` what goes through the queue; `batch` one group commit; `barrier` waiting for ovn-northd;
`published` what readers see.
"""

from ovnreserve.engine.work import Answer, Apply, Create, Delete, Patch, Refresh, Request
from ovnreserve.engine.writer import Engine

__all__ = ["Answer", "Apply", "Create", "Delete", "Engine", "Patch", "Refresh", "Request"]
