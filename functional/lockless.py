"""ovnreserved with a lock of its own: run twice on one database, both are active, and only the guards are left."""

from __future__ import annotations

import os

import ovnreserve.northbound.connection as northbound
from ovnreserve.daemon import main

northbound.LOCK = f"ovnreserve-{os.getpid()}"

if __name__ == "__main__":
    main()
