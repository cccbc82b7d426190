"""What functional tests share: waiting for a condition, and running the command line.

Here is the only sleep of the functional tests, between two looks at a condition.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ovnreserve.sandbox import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


class Result(NamedTuple):
    """What a command came to."""

    code: int
    stdout: str
    stderr: str


def wait_until(condition: Callable[[], T], timeout: float = 10, what: str = "") -> T:
    """The condition's first true value; AssertionError saying what was awaited when there is none in time."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}")
        time.sleep(0.01)
    return value


def until_true(assertions: Callable[[], T], timeout: float = 10) -> T:
    """What the function gives once none of its assertions fails; in the end the failure that is left."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return assertions()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used, all threads: its clock by clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)  # CPUCLOCK_SCHED, linux/posix-timers.h


def ovnreserve(
    *arguments: str, environment: Mapping[str, str] | None = None, stdin: str = "", timeout: float = 60
) -> Result:
    """Run the command line `ovnreserve` as its own process, with `environment` added to ours."""
    done = subprocess.run(
        [sys.executable, "-m", "ovnreserve.cli.main", *arguments],
        input=stdin,
        env=clean_environment(environment or {}),
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)
