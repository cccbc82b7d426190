"""What benchmarks of losing something share: each way of it several times, and a table of the figures."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Protocol, TypeVar

from bench.harness import BenchError, Spread, Table
from ovnreserve.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Way(Protocol):
    """One way of losing it; `title` begins its line."""

    @property
    def title(self) -> str: ...


W = TypeVar("W", bound=Way)


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def main(
    table: Table,
    ways: Mapping[str, W],
    measure: Callable[[W], Mapping[str, float]],
    figures: tuple[str, ...],
    about: str | None,
) -> int:
    """Read the command line, measure, and print. `figures` are keys of what `measure` finds, in the table's order."""
    parser = argparse.ArgumentParser(
        prog=f"python -m bench.{table.name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ways", nargs="*", choices=[[], *ways], metavar="WAY", help=", ".join(ways))
    parser.add_argument("--runs", type=count, default=5, metavar="N")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    try:
        for key in options.ways or ways:
            runs: list[Mapping[str, float]] = []
            for number in range(options.runs):
                runs.append(measure(ways[key]))
                print(f"{key} {number + 1}: {runs[-1]}", file=sys.stderr)
            spreads = [str(Spread.of([run[figure] for run in runs])) for figure in figures]
            table.lines.append([ways[key].title, *spreads, str(len(runs))])
    except (BenchError, SandboxError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(table.text(markdown=options.markdown))
    return 0
