"""What a user would run instead: ovn-nbctl in a shell loop, and a script with ovsdbapp.

Both do less than we do: they read exclude_ips, append one address and commit. They check no conflict, know no owner
and keep no ledger; nor do they choose the address, which is given to them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.harness import BenchError, Failed, Sample, expect, percentile
from bench.site import SWITCH, Theirs, from_top
from ovnreserve.sandbox import clean_environment

NBCTL = Path(__file__).with_name("nbctl.sh")
THREADS = 8
"""Of the ovsdbapp script where many clients ask at once: its one connection thread takes them one by one anyway."""
_TIMEOUT = 60.0
_ROOT = Path(__file__).parents[2]


def nbctl_pairs(theirs: Theirs, count: int) -> Sample:
    """One after the other: `rate` a second, `p50` and `p99` in ms."""
    begun, failed = _shell(theirs, [from_top(count)])
    if failed:
        return failed
    expect(theirs.appended() == from_top(count), "ovn-nbctl: not what was appended is there")
    theirs.reset()
    return _sample(begun, count)


def nbctl_workers(theirs: Theirs, workers: int, count: int) -> Sample:
    """Several loops at once: `rate`, and how many of all their updates were `lost` (0 to 1)."""
    addresses = from_top(workers * count)
    begun, failed = _shell(theirs, [addresses[at::workers] for at in range(workers)])
    if failed:
        return failed
    lost = set(addresses) - set(theirs.appended())
    theirs.reset()
    return {**_sample(begun, len(addresses)), "lost": len(lost) / len(addresses)}


def _shell(theirs: Theirs, shares: Sequence[list[str]]) -> tuple[list[tuple[float, float]], Failed | None]:
    """(begin, end) of every reservation, in seconds."""
    loops = [
        subprocess.Popen(
            ["bash", str(NBCTL), SWITCH, *share],
            env=clean_environment(theirs.servers.environment) | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for share in shares
    ]
    begun: list[tuple[float, float]] = []
    for loop in loops:
        out, err = loop.communicate(timeout=_TIMEOUT)
        if "Argument list too long" in err:
            return [], Failed("E2BIG")
        if loop.returncode:
            raise BenchError(f"ovn-nbctl: {err.strip()}")
        begun += [(float(start), float(end)) for start, end in map(str.split, out.splitlines())]
    return begun, None


def _sample(begun: list[tuple[float, float]], count: int) -> dict[str, float]:
    elapsed = max(end for _, end in begun) - min(start for start, _ in begun)
    taken = [(end - start) * 1000 for start, end in begun]
    return {"rate": count / elapsed, "p50": percentile(taken, 50), "p99": percentile(taken, 99)}


def ovsdbapp_script(theirs: Theirs, count: int, seconds: float, *, threads: int = 1) -> Sample:
    """One transaction a reservation, at most `count` within about `seconds`: `rate`, `p50` and `p99` in ms."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.peers.ovsdbapp_script", theirs.servers.nb, SWITCH, str(threads), str(seconds)],
        input="\n".join(from_top(count)),
        env=clean_environment(theirs.servers.environment),
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"ovsdbapp: {done.stderr.strip()}")
    told: dict[str, Any] = json.loads(done.stdout)
    expect(sorted(theirs.appended()) == sorted(told["done"]), "ovsdbapp: not what was appended is there")
    theirs.reset()
    taken = [value * 1000 for value in told["taken"]]
    return {"rate": len(taken) / told["elapsed"], "p50": percentile(taken, 50), "p99": percentile(taken, 99)}
