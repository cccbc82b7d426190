"""The daemon with its engine's turns under cProfile: `python -m bench.profiled DIR OPTION...`.

While DIR/now exists, turns are recorded under the name that stands in it, and written to DIR/NAME.prof when the daemon
ends. Being recorded makes Python's own functions about twice as slow: believe the shares.
"""

from __future__ import annotations

import cProfile
import sys
import time
from collections import defaultdict
from pathlib import Path

from ovnreserve.daemon import main
from ovnreserve.engine.writer import Engine


def record(directory: Path) -> None:
    profiles: defaultdict[str, cProfile.Profile] = defaultdict(lambda: cProfile.Profile(time.thread_time))
    now = directory / "now"
    turn, run = Engine._turn, Engine.run

    def recorded_turn(engine: Engine) -> None:
        name = now.read_text() if now.exists() else ""
        if name:
            profiles[name].runcall(turn, engine)
        else:
            turn(engine)

    def recorded_run(engine: Engine) -> None:
        try:
            run(engine)
        finally:
            for name, profile in profiles.items():
                profile.dump_stats(directory / f"{name}.prof")

    Engine._turn, Engine.run = recorded_turn, recorded_run


if __name__ == "__main__":
    record(Path(sys.argv[1]))
    main(sys.argv[2:])
