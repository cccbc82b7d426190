"""ovnreserved on a disk that hangs: once $HANGS_ON is there (a FIFO that nobody writes to), no commit of the ledger
returns; the engine's thread is in a system call.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ovnreserve.daemon import main
from ovnreserve.ledger.ledger import Ledger

_FIFO = Path(os.environ["HANGS_ON"])
_commit = Ledger.commit


def _commit_or_hang(self: Ledger, *arguments: Any, **options: Any) -> None:
    if _FIFO.exists():
        _FIFO.read_bytes()
    _commit(self, *arguments, **options)


Ledger.commit = _commit_or_hang

if __name__ == "__main__":
    main()
