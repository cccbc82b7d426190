"""The choice of an address, and its release, in the allocator alone (ovnreserve/plan/space.py), without servers.

A sample lets a number of addresses go that are held, in random order, and then chooses and holds as many; each half
is timed, in CPU time of the thread, since nothing here waits. Then the space is made what it was. Beside it stands what
one would take from the shelf: netaddr.IPSet, and the runs in a sortedcontainers.SortedDict, without anything around it
(one search, one removal and one insertion).
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import netaddr
from sortedcontainers import SortedDict

from bench.harness import Clock, Contender, Deadline, Sample, Table, expect, interleave
from bench.rows import OURS, Scale
from ovnreserve.model.addresses import Cidr, parse_cidr
from ovnreserve.plan.space import Space

NAME = "allocator"
GOAL = 5.0
IPSET = "netaddr.IPSet"
SORTED_DICT = "SortedDict"
_SCATTERED = 100_000
_QUARANTINED = 10_000
_now = itertools.count(1.0)
"""Times of release; they only grow, as they do unless the clock is set back."""
_IPSET_OPERATIONS = 5


class Case(NamedTuple):
    """A fill: who holds what, and optionally what the operator excludes and what is in quarantine."""

    cidr: str
    what: str
    held: Callable[[Cidr, random.Random], list[int]]
    excluded: Callable[[Cidr], list[tuple[int, int]]] = lambda _cidr: []
    quarantined: int = 0


def _nobody(_cidr: Cidr, _rng: random.Random) -> list[int]:
    return []


def _share(part: float) -> Callable[[Cidr, random.Random], list[int]]:
    def held(cidr: Cidr, rng: random.Random) -> list[int]:
        first, last = cidr.hosts
        return rng.sample(range(first + 1, last + 1), int((last - first) * part))

    return held


def _alternate(count: int) -> Callable[[Cidr, random.Random], list[int]]:
    """Every second address from the top: the runs cannot merge, and each choice splits or joins some."""

    def held(cidr: Cidr, rng: random.Random) -> list[int]:
        top = cidr.hosts[1] - 256
        found = [top - 2 * i for i in range(min(count, (cidr.size - 512) // 2))]
        rng.shuffle(found)
        return found

    return held


def _random(count: int) -> Callable[[Cidr, random.Random], list[int]]:
    def held(cidr: Cidr, rng: random.Random) -> list[int]:
        first, last = cidr.hosts
        found = {rng.randrange(first + 256, last - 256) & ~1 for _ in range(count)}
        return list(found)

    return held


def _below_top(cidr: Cidr) -> list[tuple[int, int]]:
    """The operator excludes 99 % from the top down."""
    first, last = cidr.hosts
    return [(first + (last - first) // 100, last)]


CASES = (
    Case("10.16.0.0/16", "empty", _nobody),
    Case("10.16.0.0/16", "50 % random", _share(0.5)),
    Case("10.16.0.0/16", "99 % random", _share(0.99)),
    Case("10.16.0.0/16", "every second (32k runs)", _alternate(_SCATTERED)),
    Case("10.16.0.0/16", "full but for 10k in quarantine", _share(1.0), quarantined=_QUARANTINED),
    Case("10.0.0.0/8", "empty", _nobody),
    Case("10.0.0.0/8", "100k scattered", _random(_SCATTERED)),
    Case("10.0.0.0/8", "100k alternate at the top", _alternate(_SCATTERED)),
    Case("10.0.0.0/8", "99 % excluded", _nobody, _below_top),
    Case("fd00::/64", "empty", _nobody),
    Case("fd00::/64", "100k scattered", _random(_SCATTERED)),
    Case("fd00::/64", "100k alternate at the top", _alternate(_SCATTERED)),
    Case("fd00::/64", "99 % excluded", _nobody, _below_top),
)


def run(scale: Scale, deadline: Deadline, tell: Callable[[str], None]) -> Table:
    result = Table(
        NAME,
        "4. Choice of an address, and its release, in the allocator, us of CPU each",
        (
            *("network", "fill", "runs", "choose", "release", "IPSet: choose", "IPSet: release"),
            *("SortedDict: choose", "SortedDict: release", "goal", ""),
        ),
    )
    share = deadline.left / len(CASES)
    for case in CASES:
        contenders, runs = _contenders(case, scale.operations)
        taken = interleave(contenders, scale.repeats, Deadline(share), partial(_told, tell, case))
        result.keep(f"{case.cidr} {case.what}", taken)
        cells = [
            taken[name].shown(figure) if name in taken else "-"
            for name in (OURS, IPSET, SORTED_DICT)
            for figure in _FIGURES
        ]
        words = [taken[OURS][figure] for figure in _FIGURES]
        good = all(spread is not None and spread.median <= GOAL for spread in words)
        word = result.judge(good, f"{case.cidr} {case.what}: choose {words[0]}, release {words[1]} us")
        result.lines.append([case.cidr, case.what, f"{runs:,}", *cells, f"<= {GOAL:g}", word])
    result.notes.append("IPSet: netaddr.IPSet of the free addresses, up to a /16: beyond, it would not end in time")
    return result


_FIGURES = ("choose", "release")


def _told(tell: Callable[[str], None], case: Case, text: str) -> None:
    tell(f"{case.cidr} {case.what}: {text}")


def _contenders(case: Case, operations: int) -> tuple[dict[str, Contender], int]:
    cidr = parse_cidr(case.cidr)
    assert cidr is not None
    rng = random.Random(1)
    held = case.held(cidr, rng)
    space = Space(cidr)
    space.set_others({}, case.excluded(cidr))
    for address in held:
        space.hold(address)
    for address in rng.sample(held, case.quarantined):
        space.let_go(address, next(_now))
    if not held:  # something has to be there to be released
        held = [_take(space) for _ in range(operations)]
        for address in held:
            space.let_go(address)
    runs = list(space.taken)
    contenders: dict[str, Contender] = {SORTED_DICT: lambda: _sorted_dict(runs, operations)}
    if case.quarantined:
        contenders[OURS] = lambda: _from_quarantine(space, operations // 10)
        return contenders, len(runs)
    contenders[OURS] = lambda: _ours(space, held, operations, random.Random(2))
    if cidr.size < 1 << 17:
        used = [netaddr.IPAddress(address) for address in held]
        free = netaddr.IPSet(netaddr.IPNetwork(case.cidr)) - netaddr.IPSet(used)
        contenders[IPSET] = lambda: _ipset(free, used[:_IPSET_OPERATIONS])
    return contenders, len(runs)


def _take(space: Space) -> int:
    address = space.choose()
    expect(address is not None, "no address is left")
    assert address is not None
    space.hold(address)
    return address


def _ours(space: Space, held: list[int], operations: int, rng: random.Random) -> Sample:
    count = space.taken.count()
    empty = not any(address in space.taken for address in held[:1])
    victims = rng.sample(held, min(operations, len(held)))
    if empty:
        for address in victims:
            space.hold(address)
    with Clock(time.thread_time) as release:
        for address in victims:
            space.let_go(address)
    chosen: list[int] = []
    with Clock(time.thread_time) as choose:
        for _ in victims:
            address = space.choose()
            space.hold(address)  # type: ignore[arg-type]
            chosen.append(address)  # type: ignore[arg-type]
    expect(len(set(chosen)) == len(victims), "an address was chosen twice")
    for address in chosen:
        space.let_go(address)
    if not empty:
        for address in victims:
            space.hold(address)
    expect(space.taken.count() == count, "the space is not what it was")
    return {"choose": choose.seconds / len(victims) * 1e6, "release": release.seconds / len(victims) * 1e6}


def _from_quarantine(space: Space, operations: int) -> Sample:
    """Nothing is free but what was released a moment ago: the oldest of these is chosen, and released again."""
    chosen: list[int] = []
    with Clock(time.thread_time) as choose:
        for _ in range(operations):
            address = space.choose()
            space.hold(address)  # type: ignore[arg-type]
            chosen.append(address)  # type: ignore[arg-type]
    expect(len(set(chosen)) == operations, "an address was chosen twice")
    with Clock(time.thread_time) as release:
        for address in chosen:
            space.let_go(address, next(_now))
    return {"choose": choose.seconds / operations * 1e6, "release": release.seconds / operations * 1e6}


def _sorted_dict(runs: list[tuple[int, int]], operations: int) -> Sample:
    """Some runs begin one lower, then again where they did; as often as it takes to have that many operations."""
    kept = SortedDict(runs or [(1, 1)])
    lasts = [last for _, last in runs[:: max(1, len(runs) // operations)]] or [1]
    random.Random(3).shuffle(lasts)
    passes = max(1, operations // len(lasts))
    choose = release = 0.0
    for _ in range(passes):
        with Clock(time.thread_time) as clock:
            for last in lasts:
                first = next(kept.irange(maximum=last, reverse=True))
                kept[first - 1] = kept.pop(first)
        choose += clock.seconds
        with Clock(time.thread_time) as clock:
            for last in lasts:
                first = next(kept.irange(maximum=last, reverse=True))
                kept[first + 1] = kept.pop(first)
        release += clock.seconds
    expect(list(kept.items()) == (runs or [(1, 1)]), "the sorted dictionary is not what it was")
    done = passes * len(lasts)
    return {"choose": choose / done * 1e6, "release": release / done * 1e6}


def _ipset(free: netaddr.IPSet, victims: list[netaddr.IPAddress]) -> Sample:
    """The set of the free ones; its highest is chosen."""
    size = free.size
    with Clock(time.thread_time) as release:
        for address in victims:
            free.add(address)
    chosen = []
    with Clock(time.thread_time) as choose:
        for _ in victims:
            chosen.append(netaddr.IPAddress(free.iter_cidrs()[-1].last))
            free.remove(chosen[-1])
    for address in chosen:
        free.add(address)
    for address in victims:
        free.remove(address)
    expect(free.size == size, "the IPSet is not what it was")
    return {"choose": choose.seconds / len(victims) * 1e6, "release": release.seconds / len(victims) * 1e6}
