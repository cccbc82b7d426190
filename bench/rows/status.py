"""`ovnreserve status` as a process, beside processes that do less."""

from __future__ import annotations

import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.harness import Contender, Sample, Table, process_seconds, ratio, times
from bench.rows import OURS, Scale, Taken, rounds
from bench.site import Site
from ovnreserve.sandbox import clean_environment, find_program

NAME = "status"
GOAL = 35.0
_PATIENCE = 30.0
OVNRESERVE = str(Path(sysconfig.get_path("scripts"), "ovnreserve"))
_BARE, _EMPTY, _VERSION, _GET = "python -I -S", "python -c pass", "ovn-nbctl --version", "ovn-nbctl get"


def contenders(site: Site, scale: Scale) -> dict[str, Contender]:
    ours = clean_environment(site.ours.environment)
    theirs = clean_environment(site.theirs.servers.environment)
    nbctl = find_program("ovn-nbctl")

    def process(environment: Mapping[str, str], *command: str) -> Contender:
        return lambda: _run(command, environment, scale.processes)

    return {
        OURS: process(ours, OVNRESERVE, "status"),
        _EMPTY: process(ours, sys.executable, "-c", "pass"),
        _BARE: process(ours, sys.executable, "-I", "-S", "-c", "pass"),
        _VERSION: process(theirs, nbctl, "--version"),
        _GET: process(theirs, nbctl, "get", "nb_global", ".", "nb_cfg"),
    }


def _run(command: Sequence[str], environment: Mapping[str, str], count: int) -> Sample:
    """The median wall time of `count` processes, in ms."""
    taken = [process_seconds(command, environment, subprocess.DEVNULL, _PATIENCE) * 1000 for _ in range(count)]
    return {"ms": statistics.median(taken)}


def table(taken: Taken, _scale: Scale) -> Table:
    others = (_EMPTY, _BARE, _VERSION, _GET)
    result = Table(
        NAME, "5. `ovnreserve status`, wall time in ms",
        ("reserved before", "ours", *others, "ours : empty python", "goal", ""),
    )  # fmt: skip
    for level, row in taken.items():
        result.keep(str(level), row)
        mine = row[OURS]["ms"]
        word = result.judge(mine is not None and mine.median <= GOAL, f"{level:,} reserved: {mine} ms")
        cells = [row[name].shown("ms") for name in (OURS, *others)]
        cells.append(times(ratio(mine, row[_EMPTY]["ms"])))
        result.lines.append([f"{level:,}", *cells, f"<= {GOAL:g}", word])
    result.notes += rounds(taken, "ms")
    return result
