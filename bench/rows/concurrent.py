"""64 clients at once, each with its own connection, in a process of their own (bench/clients.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import limit, peers
from bench.harness import Contender, Failed, Sample, Table, expect, percentile, ratio, times
from bench.rows import LIMIT, NBCTL, OURS, OVSDBAPP, Scale, Taken, fails_somewhere, reference, rounds
from bench.site import Ours, Site, Theirs, document, names

NAME = "concurrent"
CLIENTS = 64
GOAL = 30
GOAL_P99 = 30.0
WORKERS = (2, 4, 8)
"""How many ovn-nbctl loops are tried; the best counts."""
_ROOT = Path(__file__).parents[2]


def contenders(site: Site, scale: Scale) -> dict[str, Contender]:
    count = CLIENTS * scale.per_client
    return {
        OURS: lambda: ours(site.ours, count),
        NBCTL: lambda: nbctl(site.theirs, scale.pairs),
        OVSDBAPP: lambda: peers.ovsdbapp_script(site.theirs, count, scale.patience, threads=peers.THREADS),
        LIMIT: lambda: limit.batches(site.theirs, count, CLIENTS),
    }


def ours(site: Ours, count: int) -> Sample:
    """`rate`, `p50` and `p99` in ms, `cpu` of the daemon in us each, `refused`; lost ones are an error."""
    before = site.cpu()
    told = drive(site, CLIENTS, count)
    cpu = site.cpu() - before
    reserved = {name: address for code, name, address in told["answers"] if code == 201}
    expect(len(reserved) > 0, f"every request was refused: {told['answers'][:1]}")
    site.check(reserved)
    site.release(reserved)
    taken = [value * 1000 for value in told["taken"]]
    return {
        "rate": len(reserved) / told["elapsed"], "p50": percentile(taken, 50), "p99": percentile(taken, 99),
        "cpu": cpu / count * 1e6, "refused": float(count - len(reserved)),
    }  # fmt: skip


def drive(site: Ours, clients: int, count: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.clients", str(site.socket), str(clients)],
        input="".join(json.dumps(document(pod)) + "\n" for pod in names(count)).encode(),
        stdout=subprocess.PIPE, cwd=_ROOT, check=True, timeout=120,
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def nbctl(theirs: Theirs, pairs: int) -> Sample:
    """The best number of loops."""
    tried: list[dict[str, float]] = []
    for workers in WORKERS:
        sample = peers.nbctl_workers(theirs, workers, max(2, pairs // 2))
        if isinstance(sample, Failed):
            return sample
        tried.append(sample)
    return max(tried, key=lambda sample: sample["rate"])


def table(taken: Taken, scale: Scale) -> Table:
    result = Table(
        NAME,
        f"3. {CLIENTS} clients at once, {CLIENTS * scale.per_client:,} reservations, a second",
        ("reserved before", "ours", "lost", "p50 ms", "p99 ms", "daemon's CPU, us each", "ovn-nbctl", "lost",
         "ovsdbapp", "limit", "ours : ovn-nbctl", "ours : limit", "goal", ""),
    )  # fmt: skip
    for level, row in taken.items():
        result.keep(str(level), row)
        mine = row[OURS]
        peer, mark = reference(taken, level, NBCTL, "rate")
        faster, p99 = ratio(mine["rate"], peer), mine["p99"]
        fast = result.judge(faster is not None and faster >= GOAL, f"{level:,} reserved: {times(faster)} ovn-nbctl")
        soon = result.judge(p99 is not None and p99.median <= GOAL_P99, f"{level:,} reserved: p99 {p99} ms")
        refused, lost = mine.total("refused"), row[NBCTL]["lost"]
        if refused:
            result.judge(False, f"{level:,} reserved: {refused:.0f} requests were refused")
        cells = [mine.shown("rate"), "0", mine.shown("p50"), mine.shown("p99"), mine.shown("cpu")]
        cells += [row[NBCTL].shown("rate"), "-" if lost is None else f"{lost.median:.0%}"]
        cells += [row[name].shown("rate") for name in (OVSDBAPP, LIMIT)]
        cells += [times(faster) + mark, times(ratio(mine["rate"], row[LIMIT]["rate"]))]
        goal = f"{GOAL} x ovn-nbctl; p99 <= {GOAL_P99:g}; none lost"
        result.lines.append([f"{level:,}", *cells, goal, f"{fast}; {soon}; met"])
    loops = ", ".join(map(str, WORKERS))
    result.notes += [
        "ours, lost: each acknowledged one was found in the database and in the ledger, with an address of its own",
        f"ovn-nbctl: the best of {loops} loops at once; lost updates count as done",
        f"ovsdbapp: {peers.THREADS} threads; more would only queue for its connection",
        f"limit: batches of {CLIENTS}, one fsync of a ledger and one durable commit each, pipelined",
        *rounds(taken, "rate"),
        *fails_somewhere(taken),
    ]
    return result
