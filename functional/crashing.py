"""The daemon that dies where it is told to: `python crashing.py ORDER [option...]`, ORDER being a file.

Production code only says where it is (ovnreserve/engine/points.py). Here another function stands in that one's place:
as soon as the file ORDER says `POINT` or `POINT: STEP, ...`, and the engine is at that point, of a commit with such
steps where some are named, the file goes and the process kills itself as kill -9 would.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))  # this tree's program, whichever is installed

from ovnreserve import daemon
from ovnreserve.engine import points

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ovnreserve.engine.points import Point
    from ovnreserve.model.steps import Step


def main() -> None:
    order = Path(sys.argv.pop(1))

    def reached(point: Point, steps: Iterable[Step] = ()) -> None:
        with contextlib.suppress(FileNotFoundError):
            wanted, _colon, names = order.read_text().partition(": ")
            asked = set(filter(None, names.split(", ")))
            if wanted == point and asked <= {type(step).__name__ for step in steps}:
                order.unlink()
                os.kill(os.getpid(), signal.SIGKILL)

    points.reached = reached
    daemon.main()


if __name__ == "__main__":
    main()
