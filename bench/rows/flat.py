"""The cost of a reservation from none to tens of thousands in one /16: automatic choice, in bulk, without ovn-northd.

The peers and the limit get exclude_ips as each would have made it after as many reservations: the peers one token an
address, the limit one range.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from bench import limit, peers
from bench.harness import (
    Clock,
    Contender,
    Deadline,
    Failed,
    Sample,
    Table,
    expect,
    interleave,
    number,
    percentile,
    ratio,
    times,
)
from bench.rows import LIMIT, NBCTL, OURS, OVSDBAPP, Scale, fails_somewhere, rounds
from bench.rows.single import posts
from bench.site import NETWORK, Ours, Site, answered, document, dotted, names
from bench.unixhttp import BULK, parse, request

NAME = "flat"
FLAT = 1.25
"""How many times the first figure the last may be and still be called flat."""
SINGLE = "ours, one by one"
_CHUNK = 1000
_SINGLE = 100
_FILL = 5000
_MOST_REPEATS = 5
_SLOW_FROM = 10_000


def run(scale: Scale, deadline: Deadline, tell: Callable[[str], None]) -> Table:
    result = Table(
        NAME,
        f"6. Cost of a reservation in a /16 as it fills, us each (bulk of {_CHUNK:,}; without ovn-northd)",
        ("reserved before", "ours, bulk", "our daemon's CPU", "ours, one by one", "ovn-nbctl", "ovsdbapp", "limit",
         "bulk : first line", "CPU : first line", "one by one : first line", "goal", ""),
    )  # fmt: skip
    taken = {}
    with Site(0, northd=False) as site:
        reserved = 0
        for checkpoint in scale.checkpoints:
            while reserved < checkpoint:
                count = min(_FILL, checkpoint - reserved)
                site.ours.http.bulk("create", [document(pod) for pod in names(count)])
                reserved += count
            before = site.ours.total()
            repeats = min(scale.repeats, _MOST_REPEATS)
            share = deadline.left / (len(scale.checkpoints) - len(taken))
            taken[checkpoint] = interleave(
                _contenders(site, checkpoint, scale),
                repeats,
                Deadline(share),
                lambda text, n=checkpoint: tell(f"{n}: {text}"),
            )
            reserved += site.ours.total() - before
    first = taken[scale.checkpoints[0]]
    for checkpoint, row in taken.items():
        result.keep(str(checkpoint), row)
        bulk, single = (ratio(row[name]["us"], first[name]["us"]) for name in (OURS, SINGLE))
        cells = [row[OURS].shown("us"), row[OURS].shown("cpu"), row[SINGLE].shown("us")]
        cells += [row[name].shown("us") for name in (NBCTL, OVSDBAPP, LIMIT)]
        words = [
            result.judge(
                value is not None and value <= FLAT, f"{checkpoint:,} reserved: {what} {times(value)} the first"
            )
            for what, value in (("bulk", bulk), ("one by one", single))
        ]
        result.lines.append(
            [
                f"{checkpoint:,}",
                *cells,
                times(bulk),
                times(ratio(row[OURS]["cpu"], first[OURS]["cpu"])),
                times(single),
                f"<= {number(FLAT)} x",
                "; ".join(words),
            ]
        )
    result.notes += [f"one by one: the median of {_SINGLE} POSTs", *rounds(taken, "us"), *fails_somewhere(taken)[:1]]
    return result


def _contenders(site: Site, reserved: int, scale: Scale) -> dict[str, Contender]:
    theirs = site.theirs

    def with_base(text: str, measure: Contender) -> Contender:
        def contender() -> Sample:
            theirs.base = text
            theirs.reset()
            return _microseconds(measure())

        return contender

    tokens = " ".join(dotted(NETWORK + 2 + i) for i in range(reserved))
    one_range = f"{dotted(NETWORK + 2)}..{dotted(NETWORK + 1 + reserved)}" if reserved else ""
    pairs = with_base(tokens, lambda: peers.nbctl_pairs(theirs, scale.pairs))
    script = with_base(tokens, lambda: peers.ovsdbapp_script(theirs, _CHUNK, scale.patience))
    slow = reserved > _SLOW_FROM
    return {
        OURS: lambda: _bulk(site.ours),
        SINGLE: lambda: {"us": percentile(posts(site.ours, _SINGLE)[0], 50) * 1000},
        NBCTL: _once(pairs) if slow else pairs,
        OVSDBAPP: _once(script) if slow else script,
        LIMIT: with_base(one_range, lambda: limit.batches(theirs, _CHUNK, _CHUNK)),
    }


def _once(contender: Contender) -> Contender:
    """A sample in the first round only: a single operation takes seconds."""
    rest = [contender]

    def first() -> Sample:
        return rest.pop()() if rest else {}

    return first


def _microseconds(sample: Sample) -> Sample:
    return sample if isinstance(sample, Failed) else {"us": 1e6 / sample["rate"]}


def _bulk(site: Ours) -> Sample:
    """`us` of wall time and `cpu` of the daemon a reservation; the answers bring the whole objects."""
    items = [document(pod) for pod in names(_CHUNK)]
    message = request("POST", BULK, json.dumps({"verb": "create", "items": items}).encode())
    before = site.cpu()
    with Clock() as clock:
        answer = site.http.exchange(message)
    cpu = site.cpu() - before
    _, told = parse(answer)
    expect(all(result["result"] == "created" for result in told["results"]), "a reservation was refused")
    site.check(answered(result["object"] for result in told["results"]))
    return {"us": clock.seconds / _CHUNK * 1e6, "cpu": cpu / _CHUNK * 1e6}
