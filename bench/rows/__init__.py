"""The rows of the table of benchmarks, one module each.

A row that needs servers says what its contenders are on a `Site`; all such rows share the sites, so that they are
interleaved too. The others run by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from bench.harness import Contender, Deadline, Failed, Samples, Spread, Table
from bench.site import Site

OURS, NBCTL, OVSDBAPP, LIMIT = "ours", "ovn-nbctl", "ovsdbapp", "limit"


class Scale(NamedTuple):
    """How much is measured. `seconds` bounds the whole run; `patience` a sample of a slow peer. `before` is
    another tree of the program, whose daemon is measured as well where a row can.
    """

    seconds: float
    repeats: int
    documents: int
    requests: int
    pairs: int
    patience: float
    per_client: int
    processes: int
    operations: int
    checkpoints: tuple[int, ...]
    changes: int
    levels: tuple[int, ...] = (0, 1_000, 10_000)
    ports: tuple[int, ...] = (1_000, 10_000)
    before: str = ""


FULL = Scale(440, 5, 10_000, 300, 30, 1.5, 60, 10, 2_000, (0, 10_000, 30_000, 60_000), 1_000)
QUICK = Scale(50, 3, 1_000, 60, 10, 0.4, 20, 3, 1_000, (0, 5_000, 10_000, 20_000), 100)

Taken = Mapping[int, dict[str, Samples]]
"""For each number of addresses reserved before, what each contender measured."""


class SiteRow(Protocol):
    NAME: str

    def contenders(self, site: Site, scale: Scale) -> dict[str, Contender]: ...

    def table(self, taken: Taken, scale: Scale) -> Table: ...


class OwnRow(Protocol):
    NAME: str

    def run(self, scale: Scale, deadline: Deadline, tell: Callable[[str], None]) -> Table: ...


def reference(taken: Taken, level: int, contender: str, figure: str) -> tuple[Spread | None, str]:
    """A peer's figure at this level or, where the peer fails, at the highest level below at which it worked, with
    a mark.
    """
    for other in sorted((n for n in taken if n <= level), reverse=True):
        spread = taken[other][contender][figure]
        if spread is not None:
            return spread, "" if other == level else "*"
    return None, ""


def rounds(taken: Taken, figure: str) -> list[str]:
    """A note on how many samples of ours each line rests on."""
    counts = ", ".join(f"{level:,}: {row[OURS].count(figure)}" for level, row in taken.items())
    return [f"samples of ours with as many reserved before: {counts}"]


def fails_somewhere(taken: Taken) -> list[str]:
    """The notes that explain the mark."""
    failed = {
        (name, samples.failed) for row in taken.values() for name, samples in row.items() if samples.failed is not None
    }
    notes = [f"{name}: {_WORDS.get(failure, failure.why)}" for name, failure in sorted(failed)]
    return [*notes, "* against its figure at the highest level at which it works"] if notes else []


_WORDS = {
    Failed("E2BIG"): "E2BIG, the value no longer fits into one argument of a process (131,072 bytes); it cannot go on",
}
