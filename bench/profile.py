"""Where the time goes: `python -m bench.profile ROW` runs a row's work under py-spy and prints functions inclusively.

py-spy (`pip install py-spy`; it needs the right to trace processes) is attached to the daemon only while it has the
row's work to do, again and again until there are enough samples. The share of a function is how many of the samples
have it anywhere on their stack: of those in which a thread held the interpreter's lock or, with --wall, did not sleep.
For `allocator` it watches the benchmark itself. `status` is over too soon for samples: there it is the interpreter's
own record of imports. For `ports` the engine's turns are recorded by cProfile, a profile for each kind of change.
"""

from __future__ import annotations

import argparse
import os
import pstats
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.cloud import Cloud
from bench.harness import BenchError, Clock
from bench.rows import FULL, allocator, apply, concurrent, flat, ports, single, status
from bench.rows.allocator import NAME as ALLOCATOR
from bench.site import Ours, Site, document, names
from ovnreserve.sandbox import SandboxError, clean_environment

RATE = 250
SECONDS = 8.0
TOP = 25
_ROUNDS = 40
_SINGLE = 500
_BULK = 5000
_ROOT = str(Path(__file__).parents[1])
_READY = b"Press Control-C to exit"

Stacks = Counter[tuple[str, ...]]


def _apply(site: Ours) -> tuple[Callable[[], None], list[str]]:
    file = site.daemon.state_dir / "documents.yaml"
    reserved = apply.write(file, FULL.documents)
    return lambda: (apply.command(site, file), None)[1], reserved


def _single(site: Ours) -> tuple[Callable[[], None], list[str]]:
    reserved: list[str] = []
    return lambda: reserved.extend(single.posts(site, _SINGLE)[1]), reserved


def _concurrent(site: Ours) -> tuple[Callable[[], None], list[str]]:
    reserved: list[str] = []

    def work() -> None:
        told = concurrent.drive(site, concurrent.CLIENTS, concurrent.CLIENTS * FULL.per_client)
        reserved.extend(name for code, name, _ in told["answers"] if code == 201)

    return work, reserved


def _flat(site: Ours) -> tuple[Callable[[], None], list[str]]:
    items = [document(pod) for pod in names(_BULK)]
    return lambda: (site.http.bulk("create", items), None)[1], [item["metadata"]["name"] for item in items]


_WORK = {apply.NAME: _apply, single.NAME: _single, concurrent.NAME: _concurrent, flat.NAME: _flat}
_RELEASE = "release"
ROWS = [*_WORK, _RELEASE, allocator.NAME, status.NAME, ports.NAME]


@contextmanager
def _watched(command: list[str], stacks: Stacks) -> Iterator[subprocess.Popen[bytes]]:
    """Have py-spy sample what `command` says until the end of the block; its samples go to `stacks`."""
    with tempfile.TemporaryDirectory(prefix="ovnreserve-") as directory:
        out = Path(directory, "stacks")
        spy = subprocess.Popen(
            [_py_spy(), "record", "--format", "raw", "--rate", str(RATE), "--threads", "--output", str(out), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=_ROOT,
        )
        told = b""
        while _READY not in told:
            line = spy.stdout.readline()
            if not line:
                raise BenchError(f"py-spy: {told.decode(errors='replace').strip()}")
            told += line
        try:
            yield spy
        finally:
            if spy.poll() is None:
                spy.send_signal(signal.SIGINT)
            spy.wait(60)
        for line in out.read_text().splitlines() if out.exists() else ():
            stack, _, count = line.rpartition(" ")
            stacks[tuple(stack.split(";"))] += int(count)


def _py_spy() -> str:
    beside = shutil.which("py-spy", path=f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ.get('PATH', '')}")
    if beside is None:
        raise BenchError("py-spy: not found (pip install py-spy)")
    return beside


def daemon(row: str, reserved: int, options: list[str]) -> tuple[Stacks, float]:
    """Stacks of the daemon at work, and the seconds of work."""
    stacks: Stacks = Counter()
    seconds = 0.0
    with Site(reserved, northd=row != flat.NAME) as site:
        ours = site.ours
        for _ in range(_ROUNDS):
            if row == _RELEASE:
                items = [document(pod) for pod in names(_BULK)]
                ours.http.bulk("create", items)
                made = [item["metadata"]["name"] for item in items]
                work: Callable[[], None] = partial(ours.release, made)
            else:
                work, made = _WORK[row](ours)
            with _watched(["--pid", str(ours.daemon.pid), *options], stacks), Clock() as clock:
                work()
            seconds += clock.seconds
            if row != _RELEASE:
                ours.release(made)
            if seconds > SECONDS:
                break
    return stacks, seconds


def inclusive(stacks: Stacks) -> list[tuple[str, int]]:
    """(function, samples that have it anywhere on their stack), the most first."""
    counts: Counter[str] = Counter()
    for stack, count in stacks.items():
        for function in {_function(frame) for frame in stack}:
            counts[function] += count
    return counts.most_common()


def _function(frame: str) -> str:
    """`name (file:line)` without the line and with a path that says enough; threads as they are."""
    name, _, place = frame.partition(" (")
    if name == "thread":
        return frame
    path = place.rstrip(")").rpartition(":")[0] or place.rstrip(")")
    for lead in ("site-packages/", f"{_ROOT}/", "lib/python3."):
        path = path.rpartition(lead)[2]
    return f"{name} ({path})" if place else name


def _print(title: str, stacks: Stacks) -> None:
    total = sum(stacks.values())
    if not total:
        raise BenchError("py-spy took no samples")
    print(f"{title}\n")
    threads = Counter({stack[0]: 0 for stack in stacks})
    for stack, count in stacks.items():
        threads[stack[0]] += count
    print("thread   ", ", ".join(f"{name} {count / total:.0%}" for name, count in threads.most_common(4)))
    print("itself   ", ", ".join(f"{name} {count / total:.0%}" for name, count in _own(stacks).most_common(10)), "\n")
    shown = [(name, count) for name, count in inclusive(stacks) if name not in threads and not _is_frame(name)]
    for name, count in shown[:TOP]:
        print(f"{count / total:6.1%}  {name}")


def _own(stacks: Stacks) -> Counter[str]:
    counts: Counter[str] = Counter()
    for stack, count in stacks.items():
        counts[_function(stack[-1])] += count
    return counts


def _is_frame(name: str) -> bool:
    """What every stack has at its root, and the layers of the event loop and of routing, say nothing."""
    return name.startswith(("_bootstrap", "<module>", "_run_module", "_run_code", "_Daemon._run_engine")) or any(
        part in name
        for part in ("(threading.py", "(asyncio/", "(starlette/", "(runpy.py", "Engine.run ", "Server._run ")
    )


def _imports() -> None:
    """What `ovnreserve status` imports, by the time that each import took with all that it drew in."""
    with Site(0) as site:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", status.OVNRESERVE, "status"],
            env=clean_environment(site.ours.environment),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    lines = [line.split("|") for line in done.stderr.splitlines() if line.startswith("import time:")][1:]
    found = sorted(((int(inclusive), name.strip()) for _, inclusive, name in lines), reverse=True)
    print("ovnreserve status: imports, ms with all that they draw in (slowed down by being recorded)\n")
    for microseconds, name in found[:TOP]:
        print(f"{microseconds / 1000:7.1f}  {name}")


def _ports(count: int) -> None:
    """What the engine's turns are spent on, by kind of change."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ovnreserve-"))
        cloud = stack.enter_context(Cloud(count, program=("-m", "bench.profiled", directory)))
        now = Path(directory, "now")
        with ports.started(cloud) as (site, _sample):
            for kind, work in ports.work_of(cloud, site, FULL.changes):
                now.write_text(kind)
                work()
                now.unlink()
        for kind, title in ports.CHANGES.items():
            stats: dict[Any, Any] = pstats.Stats(str(Path(directory, f"{kind}.prof"))).stats
            _print_stats(f"{title} ({count:,} ports)", stats)


def _print_stats(title: str, stats: dict[Any, Any]) -> None:
    """Microseconds a change by function: with all that it calls, and itself."""
    shown = [(_place(where), inclusive, own) for where, (_, _, own, inclusive, _) in stats.items()]
    each = 1e6 / FULL.changes
    print(f"{title}: us of a change, with what is called and without\n")
    for name, inclusive, own in sorted(shown, key=lambda row: -row[1])[: 2 * TOP]:
        print(f"{inclusive * each:7.1f} {own * each:7.1f}  {name}")
    print()


def _place(where: tuple[str, int, str]) -> str:
    file, line, function = where
    for lead in ("site-packages/", f"{_ROOT}/", "lib/python3."):
        file = file.rpartition(lead)[2]
    return f"{function} ({file}:{line})" if line else function


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.profile",
        description="Where the daemon's time goes while it does the work of a row of `python -m bench` (or `release`).",
    )
    parser.add_argument("row", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--reserved", type=int, default=0, metavar="N", help="scattered addresses reserved before")
    parser.add_argument("--ports", type=int, default=10_000, metavar="N", help="of row ports (default: 10000)")
    parser.add_argument("--wall", action="store_true", help="all threads that do not sleep, not only who has the lock")
    options = parser.parse_args()
    spy = [] if options.wall else ["--gil"]
    try:
        if options.row == status.NAME:
            _imports()
        elif options.row == ports.NAME:
            _ports(options.ports)
        elif options.row == ALLOCATOR:
            stacks: Stacks = Counter()
            command = [*spy, "--", sys.executable, "-m", "bench", "--rows", ALLOCATOR, "--quick"]
            with _watched(command, stacks) as spy:
                spy.stdout.read()  # to the end of the benchmark
            _print("allocator: the whole benchmark, preparations and peers included", stacks)
        else:
            stacks, seconds = daemon(options.row, options.reserved, spy)
            _print(f"{options.row}, {options.reserved:,} reserved before, {seconds:.1f} s of work", stacks)
    except (BenchError, SandboxError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
