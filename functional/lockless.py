"""ovnreserved with a lock of its own: run twice on one database, both are active, and only the guards are left.

Where $HANGS_ON names a FIFO, a transaction is sent only when whoever writes to that closes it: the intent is in the
ledger, and the database does not know.
"""

from __future__ import annotations

import os
from pathlib import Path

import ovnreserve.northbound.connection as northbound
from ovnreserve.daemon import main
from ovnreserve.northbound.connection import Northbound, Transaction
from ovnreserve.northbound.transactions import Operations

_FIFO = Path(os.environ.get("HANGS_ON", "/nowhere"))
_commit = Northbound.commit

northbound.LOCK = f"ovnreserve_{os.getpid()}"


def _commit_later(self: Northbound, operations: Operations) -> Transaction:
    if _FIFO.exists():
        _FIFO.read_bytes()
    return _commit(self, operations)


Northbound.commit = _commit_later

if __name__ == "__main__":
    main()
