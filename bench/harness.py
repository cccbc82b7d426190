"""Samples and what is made of them: interleaving, spread, tables.

A row of the table has contenders: ours, its peers, the limit. Each is asked for one sample after the other, in an
order that moves on with each round, so that whatever else the machine does falls on all of them alike. What is
printed is the median of the samples and their lowest and highest.
"""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple, Self


class BenchError(Exception):
    """A benchmark did not do what it claims to measure."""


def expect(condition: object, message: str) -> None:
    if not condition:
        raise BenchError(message)


class Failed(NamedTuple):
    """A sample of a contender that cannot do it at all."""

    why: str


Sample = dict[str, float] | Failed
"""Named figures of one measurement."""


class Spread(NamedTuple):
    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        return f"{number(self.median)} [{number(self.low)}..{number(self.high)}]"


def number(value: float) -> str:
    """Three digits that count, without exponents."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def percentile(values: Sequence[float], per_cent: float) -> float:
    """The smallest value that is not exceeded by that share of all."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * per_cent / 100))]


class Clock:
    """`with Clock() as clock: ...`, then `clock.seconds`: of wall time, or of `timer`."""

    seconds = 0.0

    def __init__(self, timer: Callable[[], float] = time.perf_counter) -> None:
        self._timer = timer

    def __enter__(self) -> Self:
        self._start = self._timer()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = self._timer() - self._start


def process_seconds(
    command: Sequence[str], environment: Mapping[str, str], stdout: IO[bytes] | int, within: float
) -> float:
    """Wall time of a process from its start to its end; BenchError if it fails or is late.

    The end is seen through a pidfd. Popen.wait(timeout) and subprocess.run(timeout) will not do: they look again after
    0.5, 1, 2 ... 50 ms, so that what takes 20 ms appears to take 32, and what takes 23 the same.
    """
    begun = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=stdout) as child:
        ended = os.pidfd_open(child.pid)
        try:
            poll = select.poll()
            poll.register(ended, select.POLLIN)
            in_time = poll.poll(within * 1000)
            taken = time.perf_counter() - begun
            if not in_time:
                child.kill()
        finally:
            os.close(ended)
    expect(in_time, f"{command[0]}: not done within {within:g} s")
    expect(child.returncode == 0, f"{command[0]}: ended with status {child.returncode}")
    return taken


def check_clock() -> None:
    """See that processes of different lengths are told apart: `process_seconds` against sleep(1), which knows its own.

    BenchError if the figures come in steps, as they do when the end of a process is polled for.
    """
    for asked in (0.020, 0.026, 0.070):
        taken = min(process_seconds(["sleep", str(asked)], os.environ, subprocess.DEVNULL, 10) for _ in range(5))
        expect(
            asked <= taken < asked + 0.009, f"a process of {asked * 1000:g} ms was measured as {taken * 1000:.1f} ms"
        )


class Deadline:
    """A bound on the time that something may go on; what is under way ends by itself."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self._until - time.monotonic()

    def allows(self, seconds: float) -> bool:
        return self.left >= seconds


class Samples:
    """What one contender measured, sample by sample."""

    def __init__(self) -> None:
        self.all: list[Sample] = []

    @property
    def failed(self) -> Failed | None:
        return next((sample for sample in self.all if isinstance(sample, Failed)), None)

    def __getitem__(self, figure: str) -> Spread | None:
        """The spread of a figure; None where there is none."""
        values = [sample[figure] for sample in self.all if isinstance(sample, dict) and figure in sample]
        return Spread.of(values) if values and not self.failed else None

    def count(self, figure: str) -> int:
        """How many samples have the figure."""
        return sum(isinstance(sample, dict) and figure in sample for sample in self.all)

    def total(self, figure: str) -> float:
        return sum(sample.get(figure, 0.0) for sample in self.all if isinstance(sample, dict))

    def shown(self, figure: str) -> str:
        spread = self[figure]
        return self.failed.why if self.failed else str(spread) if spread else "-"


Contender = Callable[[], Sample]


def interleave(
    contenders: dict[str, Contender], repeats: int, deadline: Deadline, tell: Callable[[str], None]
) -> dict[str, Samples]:
    """Rounds of one sample each. A round begins only if the deadline has room for one like the longest yet."""
    samples = {name: Samples() for name in contenders}
    names = list(contenders)
    longest = 0.0
    for turn in range(repeats):
        if turn and not deadline.allows(longest):
            tell(f"out of time after {turn} of {repeats} rounds")
            break
        with Clock() as clock:
            for place in range(len(names)):
                name = names[(turn + place) % len(names)]
                with Clock() as one:
                    samples[name].all.append(contenders[name]())
                tell(f"round {turn + 1}: {name}, {one.seconds:.1f} s")
        longest = max(longest, clock.seconds)
    return samples


def ratio(ours: Spread | None, other: Spread | None) -> float | None:
    return None if ours is None or other is None or not other.median else ours.median / other.median


def times(value: float | None) -> str:
    return "-" if value is None else f"{number(value)} x"


@dataclass
class Table:
    """One row of the benchmarks as it is printed: `lines` under `columns`, the first of them what the line is
    about.
    """

    name: str
    title: str
    columns: Sequence[str]
    lines: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def judge(self, met: bool, what: str) -> str:
        """The word for the last column; what is missed is listed at the end."""
        if not met:
            self.missed.append(what)
        return "met" if met else "MISSED"

    def keep(self, key: str, samples: dict[str, Samples]) -> None:
        """Every sample, for --json."""
        self.raw[key] = {
            name: [{"failed": s.why} if isinstance(s, Failed) else s for s in taken.all]
            for name, taken in samples.items()
        }

    def text(self, *, markdown: bool) -> str:
        widths = [max(len(cell) for cell in cells) for cells in zip(self.columns, *self.lines, strict=True)]
        edge, gap = ("| ", " | ") if markdown else ("", "  ")
        rows = [self.columns, ["-" * width for width in widths], *self.lines]
        drawn = [
            (edge + gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + edge[::-1]).rstrip()
            for row in rows
        ]
        head = f"### {self.title}" if markdown else self.title
        blank = [""] if markdown else []
        notes = [f"{'- ' if markdown else '  '}{note}" for note in self.notes]
        return "\n".join([head, *blank, *drawn, *blank, *notes])
