"""The command: `python -m bench`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.harness import BenchError, Clock, Contender, Deadline, Samples, Table, check_clock, interleave
from bench.rows import FULL, QUICK, OwnRow, Scale, SiteRow, allocator, apply, concurrent, flat, ports, single, status
from bench.site import Site
from ovnreserve.sandbox import SandboxError

SITE_ROWS: tuple[SiteRow, ...] = (apply, single, concurrent, status)
OWN_ROWS: tuple[OwnRow, ...] = (allocator, flat, ports)
ORDER = (apply, single, concurrent, allocator, status, flat, ports)
NAMES = [row.NAME for row in ORDER]
_WEIGHT = {
    apply.NAME: 5,
    single.NAME: 3,
    concurrent.NAME: 5,
    allocator.NAME: 4,
    status.NAME: 2,
    flat.NAME: 4,
    ports.NAME: 8,
}
"""What share of the time each row gets."""
_DESCRIPTION = """\
Measure ovnreserved beside what a user would otherwise run, and beside the limit, on private servers in temporary
directories. All contenders are asked in turn, sample by sample; figures are `median [lowest..highest]` of the samples.
Everything is checked: what a contender says it did has to be in the database afterwards.

rows:
  1 apply        documents through `ovnreserve apply -f FILE`
  2 single       one reservation through the socket, one client
  3 concurrent   64 clients at once
  4 allocator    choice of an address and its release, without servers
  5 status       wall time of `ovnreserve status`
  6 flat         cost of a reservation as a /16 fills
  7 ports        start, memory and the cost of a port's change with 1,000 and with 10,000 ports
Rows 1, 2, 3 and 5 are measured with 0, 1,000 and 10,000 scattered addresses reserved before.

python -m bench.soak is the endurance test: not how fast it is, but whether all stays true (docs/soak.md).
"""
_EPILOG = "Exit status: 0, also where a goal is missed; 1 if a benchmark could not be run or a check failed."


def _row(text: str) -> str:
    if text.isdecimal() and 1 <= int(text) <= len(NAMES):
        return NAMES[int(text) - 1]
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(NAMES)} or 1 to {len(NAMES)}")
    return text


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="less of everything, within a minute; for a first look")
    parser.add_argument(
        "--rows", nargs="+", type=_row, metavar="ROW", default=NAMES, help="only these, by name or number"
    )
    parser.add_argument("--repeats", type=int, metavar="N", help="rounds (default: 5, with --quick 3), if time allows")
    parser.add_argument("--ports", nargs="+", type=int, metavar="N", help="row 7: so many ports (default: 1000 10000)")
    parser.add_argument("--before", metavar="DIR", help="row 7: another tree of this program, measured in turn with it")
    parser.add_argument("--seconds", type=float, metavar="N", help="how long all of it may take")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every sample, and what the machine is, as JSON")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown, for docs/performance.md")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line on stderr for each sample")
    options = parser.parse_args()
    if options.repeats is not None and options.repeats < 1:
        parser.error("--repeats: at least 1")
    return options


def main() -> int:
    options = _options()
    scale = QUICK if options.quick else FULL
    if options.repeats:
        scale = scale._replace(repeats=options.repeats)
    if options.seconds:
        scale = scale._replace(seconds=options.seconds)
    if options.ports:
        scale = scale._replace(ports=tuple(sorted(options.ports)))
    if options.before:
        scale = scale._replace(before=str(Path(options.before).absolute()))
    facts = machine()
    try:
        check_clock()
        with Clock() as clock:
            tables = run(options.rows, scale, _tell_all if options.verbose else _tell)
    except (BenchError, SandboxError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    facts["seconds"] = round(clock.seconds)
    print(_report(tables, facts, markdown=options.markdown))
    if options.json:
        content = {"machine": facts, "rows": {t.name: {"missed": t.missed, "samples": t.raw} for t in tables}}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def _tell_all(text: str) -> None:
    print(f"# {text}", file=sys.stderr, flush=True)


def _tell(text: str) -> None:
    """Where we are, for somebody who watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K# {text}", end="", file=sys.stderr, flush=True)


def run(names: list[str], scale: Scale, tell: Callable[[str], None]) -> list[Table]:
    """The tables of these rows, in their order."""
    weights = {name: _WEIGHT[name] for name in names}
    second = scale.seconds / sum(weights.values())
    tables: dict[str, Table] = {}
    at_sites = [row for row in SITE_ROWS if row.NAME in names]
    if at_sites:
        seconds = second * sum(weights[row.NAME] for row in at_sites)
        taken = _at_sites(at_sites, scale, seconds, tell)
        tables.update({row.NAME: row.table(taken[row.NAME], scale) for row in at_sites})
    for row in OWN_ROWS:
        if row.NAME in names:
            deadline = Deadline(second * weights[row.NAME])
            tables[row.NAME] = row.run(scale, deadline, lambda text, r=row: tell(f"{r.NAME}, {text}"))
    tell("")
    return [tables[name] for name in NAMES if name in tables]


def _at_sites(
    rows: list[SiteRow], scale: Scale, seconds: float, tell: Callable[[str], None]
) -> dict[str, dict[int, dict[str, Samples]]]:
    """Samples by row, level and contender: at each level all contenders of all rows take turns."""
    taken: dict[str, dict[int, dict[str, Samples]]] = {row.NAME: {} for row in rows}
    end = Deadline(seconds)
    for at, level in enumerate(scale.levels):
        deadline = Deadline(end.left / (len(scale.levels) - at))
        with Site(level) as site:
            contenders: dict[str, Contender] = {
                f"{row.NAME}/{name}": contender
                for row in rows
                for name, contender in row.contenders(site, scale).items()
            }
            tell_more = lambda text, n=level: tell(f"{n:,} reserved, {text}")  # noqa: E731
            for key, samples in interleave(contenders, scale.repeats, deadline, tell_more).items():
                row_name, _, name = key.partition("/")
                taken[row_name].setdefault(level, {})[name] = samples
    return taken


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "revision": _revision(),
        "cpus": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "ovs": metadata.version("ovs"),
        "ovsdbapp": metadata.version("ovsdbapp"),
        "json parser of ovs": _parser(),
    }


def _revision() -> str:
    """Of the tree that is measured, with a + if it has been changed since."""
    asked = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _parser() -> str:
    import ovs.json

    return str(ovs.json.PARSER)


def _report(tables: list[Table], facts: dict[str, Any], *, markdown: bool) -> str:
    missed = [f"{table.name}: {what}" for table in tables for what in table.missed]
    end = ["Missed: " + ("nothing" if not missed else ""), *(f"- {what}" for what in missed)]
    head = ", ".join(f"{name} {value}" for name, value in facts.items())
    return "\n\n".join([head, *(table.text(markdown=markdown) for table in tables), "\n".join(end)])


if __name__ == "__main__":
    sys.exit(main())
