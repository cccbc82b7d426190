"""The figures of a soak, as they are printed."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bench.soak.chaos import Injected
from bench.soak.compare import KINDS, Difference, count

_SHOWN = 40


class Window(NamedTuple):
    """A time of chaos (monotonic): between two, everything stands still, which is nobody's outage."""

    begin: float
    end: float


def pauses(
    faults: Sequence[Injected], acknowledged: Sequence[float], windows: Iterable[Window]
) -> dict[str, list[float]]:
    """By kind of fault, for each fault the longest time without anything acknowledged to anybody, that began before
    the next fault and ended after this one did begin. Seconds.
    """
    found: dict[str, list[float]] = {}
    for window in windows:
        times = [t for t in acknowledged if window.begin <= t <= window.end]
        edges = [window.begin, *times, window.end]
        here = [fault for fault in faults if window.begin <= fault.at <= window.end]
        for at, fault in enumerate(here):
            until = here[at + 1].at if at + 1 < len(here) else window.end
            longest = max(b - a for a, b in itertools.pairwise(edges) if b >= fault.at and a <= until)
            found.setdefault(fault.kind, []).append(longest)
    return found


def pauses_table(found: dict[str, list[float]]) -> str:
    """One line a kind."""
    lines = [f"{'without an acknowledgement, ms':32} {'times':>6} {'median':>8} {'longest':>8}"]
    for kind, taken in sorted(found.items(), key=lambda item: statistics.median(item[1])):
        lines.append(f"{kind:32} {len(taken):6} {statistics.median(taken) * 1e3:8.0f} {max(taken) * 1e3:8.0f}")
    return "\n".join(lines)


def faults_line(faults: Iterable[Injected]) -> str:
    counted = Counter(fault.kind for fault in faults if fault.kind != "no fault")
    return f"{counted.total()}: " + ", ".join(f"{kind} {number}" for kind, number in counted.most_common())


def counts_line(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {number:,}" for what, number in sorted(counts.items()))


def verdict(found: Sequence[Difference]) -> str:
    """What has to be nothing, and what differs."""
    told = [", ".join(f"{kind} {number}" for kind, number in count(found).items())]
    told += [f"  {kind}: {what}" for kind in KINDS for what in [d.what for d in found if d.kind == kind][:_SHOWN]]
    return "\n".join(told)
