"""One reservation through the socket: one client with a kept-alive connection, one POST after the other."""

from __future__ import annotations

import json
import time

from bench import limit, peers
from bench.harness import Contender, Sample, Table, expect, percentile, ratio, times
from bench.rows import LIMIT, NBCTL, OURS, OVSDBAPP, Scale, Taken, fails_somewhere, reference, rounds
from bench.site import Ours, Site, answered, document, names
from bench.unixhttp import IPS, parse, request

NAME = "single"
GOAL_LIMIT = 5
GOAL_NBCTL = 5


def contenders(site: Site, scale: Scale) -> dict[str, Contender]:
    return {
        OURS: lambda: ours(site.ours, scale.requests),
        NBCTL: lambda: peers.nbctl_pairs(site.theirs, scale.pairs),
        OVSDBAPP: lambda: peers.ovsdbapp_script(site.theirs, scale.requests, scale.patience),
        LIMIT: lambda: limit.one_by_one(site.theirs, scale.requests),
    }


def ours(site: Ours, count: int) -> Sample:
    """`p50` and `p99` in ms, and `cpu` of the daemon in ms."""
    before = site.cpu()
    taken, reserved = posts(site, count)
    cpu = site.cpu() - before
    site.check(reserved)
    site.release(reserved)
    return {"p50": percentile(taken, 50), "p99": percentile(taken, 99), "cpu": cpu / count * 1000}


def posts(site: Ours, count: int) -> tuple[list[float], dict[str, str]]:
    """Milliseconds of each POST, and what was reserved."""
    messages = [request("POST", IPS, json.dumps(document(pod)).encode()) for pod in names(count)]
    taken: list[float] = []
    answers: list[bytes] = []
    site.total()  # so that the connection is there
    for message in messages:
        begun = time.perf_counter()
        answer = site.http.exchange(message)
        taken.append((time.perf_counter() - begun) * 1000)
        answers.append(bytes(answer))
    told = [parse(answer) for answer in answers]
    expect(all(code == 201 for code, _ in told), "a POST was refused")
    return taken, answered(ip for _, ip in told)


def table(taken: Taken, _scale: Scale) -> Table:
    result = Table(
        NAME,
        "2. One reservation through the socket, one client, ms",
        ("reserved before", "ours p50", "ours p99", "daemon's CPU", "ovn-nbctl p50", "ovsdbapp p50", "limit p50",
         "ledger + database", "ours : limit", "ovn-nbctl : ours", "ovsdbapp : ours", "goal", ""),
    )  # fmt: skip
    for level, row in taken.items():
        result.keep(str(level), row)
        p50 = row[OURS]["p50"]
        peer, mark = reference(taken, level, NBCTL, "p50")
        above, faster = ratio(p50, row[LIMIT]["p50"]), ratio(peer, p50)
        near = result.judge(above is not None and above <= GOAL_LIMIT, f"{level:,} reserved: {times(above)} the limit")
        fast = result.judge(
            faster is not None and faster >= GOAL_NBCTL, f"{level:,} reserved: {times(faster)} faster than ovn-nbctl"
        )
        parts = [row[LIMIT][part] for part in ("ledger", "database")]
        cells = [row[OURS].shown("p50"), row[OURS].shown("p99"), row[OURS].shown("cpu")]
        cells += [row[name].shown("p50") for name in (NBCTL, OVSDBAPP, LIMIT)]
        cells.append(" + ".join(f"{part.median:.2f}" if part else "-" for part in parts))
        cells += [times(above), times(faster) + mark, times(ratio(row[OVSDBAPP]["p50"], p50))]
        goal = f"<= {GOAL_LIMIT} x limit; {GOAL_NBCTL} x faster than ovn-nbctl"
        result.lines.append([f"{level:,}", *cells, goal, f"{near}; {fast}"])
    result.notes += [
        "limit: a row in a ledger (WAL, FULL), then exclude_ips in one durable transaction, one client",
        *rounds(taken, "p50"),
        *fails_somewhere(taken),
    ]
    return result
