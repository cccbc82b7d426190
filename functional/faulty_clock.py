"""ovnreserved on a machine whose clock jumps: its arguments come after a FILE that says by how many seconds.

Only the wall clock does; whoever steps a real clock does not step CLOCK_MONOTONIC either.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ovnreserve import daemon
from ovnreserve.sandbox import Daemon

if TYPE_CHECKING:
    from ovnreserve.sandbox import Servers

_time = time.time


class DaemonWithClock(Daemon):
    """The daemon with a clock that `jump` sets, against the right one."""

    def __init__(self, servers: Servers, state_dir: Path, *arguments: str) -> None:
        super().__init__(servers, state_dir, *arguments)
        self._shift = servers.run_dir / "clock"
        self.jump(0)
        # By -c, so that it finds the package where the daemon of other tests finds it.
        run = f"import runpy; runpy.run_path({__file__!r}, run_name='__main__')"
        self.command = (sys.executable, "-c", run, str(self._shift), *self.command[3:])

    def jump(self, seconds: float) -> None:
        new = self._shift.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self._shift)


def main() -> None:
    shift = Path(sys.argv[1])
    time.time = lambda: _time() + float(shift.read_text())
    daemon.main(sys.argv[2:])


if __name__ == "__main__":
    main()
