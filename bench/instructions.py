"""Instructions that the daemon takes for a change of a port, by number of ports: `python -m bench.instructions`.

They say what there is to do, whatever else the machine does and however far from the processor the daemon's memory
lies: time does not (docs/performance.md). The daemon runs under valgrind's callgrind (Debian: valgrind), which counts
in all its threads. Each change is waited for before the next one, so that none is done together with another. Not
counted are the first look at a switch, which costs what it has of ports, once; the watchdog, for a system call that
valgrind does not know; and the collection of garbage when there is nothing else to do, every 30 seconds.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.cloud import Cloud
from bench.harness import BenchError, Table, number
from bench.rows import ports
from bench.site import cpu_of
from ovnreserve.sandbox import SandboxError

_CHANGES = 300
_QUIET = 0.02
"""Seconds without any work after which a change is done."""
_PATIENCE = 60.0
_VALGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no")
_LAUNCH = """
import os, sys
valgrind, directory = sys.argv[1:3]
os.environ["PYTHONHASHSEED"] = "0"
daemon = "import sys, ovnreserve.daemon as d; d.TIDY_EVERY = 1e6; d.main()"
command = [*valgrind.split(), f"--callgrind-out-file={directory}/out", sys.executable, "-c", daemon, "--watchdog=0"]
os.execvp(command[0], [*command, *sys.argv[3:]])
"""


def counted(count: int, changes: int) -> dict[str, float]:
    """Thousands of instructions of one change, by kind."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ovnreserve-"))
        cloud = stack.enter_context(Cloud(count, program=("-c", _LAUNCH, " ".join(_VALGRIND), directory)))
        site, _ = stack.enter_context(ports.started(cloud))
        pid = cloud.daemon.pid
        cloud.after = partial(_await_quiet, pid)
        site.http.ask("GET", "/apis/kubeovn.io/v1/subnets")
        found = {}
        for kind, work in ports.work_of(cloud, site, changes):
            _control(pid, "--instr=on")
            _control(pid, "--zero")
            work()
            _control(pid, "--dump")
            _control(pid, "--instr=off")
            found[kind] = _total(Path(directory)) / changes / 1000
        return found


def _await_quiet(pid: int) -> None:
    until = time.monotonic() + _PATIENCE
    before, now = -1.0, cpu_of(pid)
    while now != before:
        if time.monotonic() > until:
            raise BenchError("the daemon goes on working")
        time.sleep(_QUIET)
        before, now = now, cpu_of(pid)


def _control(pid: int, what: str) -> None:
    done = subprocess.run(
        ["callgrind_control", what, str(pid)], capture_output=True, text=True, check=False, timeout=_PATIENCE
    )
    if done.returncode or "Error" in done.stderr:
        raise BenchError(f"callgrind_control {what}: {(done.stderr or done.stdout).strip()}")


def _total(directory: Path) -> int:
    """What the last dump counted."""
    newest = max(directory.glob("out.*"), key=lambda path: int(path.suffix[1:]))
    found = re.search(r"^summary: (\d+)$", newest.read_text(), re.MULTILINE)
    if found is None:
        raise BenchError(f"{newest.name}: no summary")
    return int(found[1])


def table(found: dict[int, dict[str, float]]) -> Table:
    few, *more = found
    columns = ["a port", *(f"{count:,} ports" for count in found), *(f"{count:,} : {few:,}" for count in more)]
    result = Table("instructions", "Thousands of instructions of the daemon for a change of a port", columns)
    for kind, words in ports.CHANGES.items():
        here = [by_kind[kind] for by_kind in found.values()]
        result.lines.append([words, *map(number, here), *(f"{number(value / here[0])} x" for value in here[1:])])
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=__doc__.partition("\n")[0])
    parser.add_argument("ports", nargs="*", type=int, default=[1_000, 10_000], help="numbers of ports, rising")
    parser.add_argument("--changes", type=int, default=_CHANGES, help=f"of each kind (default: {_CHANGES})")
    options = parser.parse_args()
    if options.changes < 1:
        parser.error("argument --changes: at least 1 is needed")
    if not shutil.which(_VALGRIND[0]):
        print("bench: valgrind: not found (install valgrind)", file=sys.stderr)
        return 1
    try:
        print(table({count: counted(count, options.changes) for count in options.ports}).text(markdown=True))
    except (BenchError, SandboxError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
