"""Many ports: from the daemon's start to its first answer, its memory, and its CPU for a change of a port.

Each sample starts a process beside a northbound database of that many ports, has it follow changes of 1,000 ports in
transactions of their own, one after the other, and stops it. What is retained of the ports that came is deleted
afterwards, so that the next sample finds the database and the ledger as this one did.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from bench.cloud import KEPT, Cloud, Port, await_, measured, rss
from bench.harness import (
    BenchError,
    Clock,
    Contender,
    Deadline,
    Sample,
    Samples,
    Spread,
    Table,
    expect,
    interleave,
    number,
)
from bench.rows import LIMIT, OURS, OVSDBAPP, Scale
from bench.site import Ours, cpu_of
from bench.unixhttp import Http, parse, request
from ovnreserve.sandbox import clean_environment

NAME = "ports"
FLAT = 1.2
"""How many times the cost of a change may be what it is with the fewest ports."""
SLOWER = 1.15
"""How many times the start may take what it took before (`--before`)."""
BEFORE = "before"
_MOMENT, _IDLE = 0.1, 0.001
"""Seconds: who uses less CPU than that in a moment is idle."""
_ROOT = Path(__file__).parents[2]
_IP = "/apis/kubeovn.io/v1/ips"
_PEERS = {OVSDBAPP: "ovsdbapp", LIMIT: "bare"}
CHANGES = {
    "comes": "a port comes",
    "moves": "changes its address",
    "up": "comes up",
    "goes": "goes",
    "retained": "one comes whose IP is retained",
    "left": "goes",
    "returns": "comes again",
}
_PLAIN = ("comes", "moves", "up", "goes")
_tokens = itertools.count()


def run(scale: Scale, deadline: Deadline, tell: Callable[[str], None]) -> Table:
    with ExitStack() as stack:
        contenders: dict[str, Contender] = {}
        for count in scale.ports:
            cloud = stack.enter_context(Cloud(count))
            contenders[f"{OURS}/{count}"] = lambda c=cloud: ours(c, scale.changes)
            for name, kind in _PEERS.items():
                contenders[f"{name}/{count}"] = lambda c=cloud, k=kind: follower(c, k, scale.changes)
            if scale.before:
                old = stack.enter_context(Cloud(count, scale.before))
                contenders[f"{BEFORE}/{count}"] = lambda c=old: ours(c, scale.changes)
        taken = interleave(contenders, scale.repeats, deadline, tell)
    return table(taken, scale)


# ---- one sample ----------------------------------------------------------------------------------------------------


def ours(cloud: Cloud, changes: int) -> Sample:
    """Start: seconds from exec to the `first` answer about a port's IP, `cpu` seconds and MiB of `rss` then; seconds to
    `all` IPs, MiB once they were `listed`. `wait`: the longest ms that a GET of one IP took while all were listed. By
    kind of change, us of the daemon's CPU.
    """
    with started(cloud) as (site, sample):
        if not cloud.tree:
            sample["wait"] = _while_listing(site)
        for kind, work in work_of(cloud, site, changes):
            before = site.cpu()
            work()
            _await_idle(site)
            sample[kind] = (site.cpu() - before) / changes * 1e6
    return sample


@contextmanager
def started(cloud: Cloud) -> Iterator[tuple[Ours, dict[str, float]]]:
    """The daemon, and what its start took; it is stopped afterwards."""
    begun = time.perf_counter()
    asked = cloud.reserved if cloud.tree else cloud.ports[-1]
    with closing(cloud.start()) as site:
        try:
            message = request("GET", f"{_IP}/{asked.name}")
            first = _answered_at(site.http, message) - begun
            sample = {"first": first, "cpu": site.cpu(), "rss": rss(cloud.daemon.pid)}
            if cloud.tree:
                cloud.await_active(site)
            else:
                _check(cloud, site, {port.name: _text(port) for port in cloud.ports})
            sample |= {"all": time.perf_counter() - begun, "listed": rss(cloud.daemon.pid)}
            cloud.await_active(site)
            _await_idle(site)
            yield site, sample
        finally:
            cloud.daemon.stop()


def _await_idle(site: Ours) -> None:
    """Until the daemon has nothing to do: it has used next to no CPU for a moment."""
    before, now = -1.0, site.cpu()
    until = time.monotonic() + 60
    while now - before > _IDLE:
        expect(time.monotonic() < until, "the daemon goes on working")
        time.sleep(_MOMENT)
        before, now = now, site.cpu()


def _answered_at(http: Http, message: bytes) -> float:
    """When the IP was there, bound."""
    until = time.perf_counter() + 120
    while True:
        code, answer = parse(http.exchange(message))
        now = time.perf_counter()
        if code == 200 and answer["status"]["phase"] == "Bound":
            return now
        expect(now < until, f"no answer about a port's IP: {code}")
        time.sleep(0.002)


def _text(port: Port) -> str:
    return ".".join(map(str, port.address.to_bytes(4)))


def work_of(cloud: Cloud, site: Ours, changes: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each kind of change, and what makes that many of them and waits until the daemon is done; checked in between."""
    came = measured("come", changes, cloud.switches)
    yield "comes", lambda: _seen(cloud, site, cloud.come, came)
    _check(cloud, site, {port.name: _text(port) for port in came})
    yield "moves", lambda: _seen(cloud, site, cloud.move, came)
    _check(cloud, site, {port.name: _text(port.elsewhere) for port in came})
    yield "up", lambda: _seen(cloud, site, cloud.come_up, came)
    yield "goes", lambda: _seen(cloud, site, cloud.go, came)
    if cloud.tree:
        return
    kept = measured(KEPT, changes, cloud.switches)
    counted = _counts(site)

    def until(figure: str, more: int) -> None:
        await_(lambda: _counts(site)[figure] == counted[figure] + more, f"{more} more {figure}")

    yield "retained", lambda: (_seen(cloud, site, cloud.come, kept), until("bound", changes))[1]
    _check(cloud, site, {port.name: _text(port) for port in kept})
    yield "left", lambda: (_seen(cloud, site, cloud.go, kept), until("bound", 0))[1]
    _check(cloud, site, {port.name: _text(port) for port in kept})
    yield "returns", lambda: (_seen(cloud, site, cloud.come, kept), until("bound", changes))[1]
    _seen(cloud, site, cloud.go, kept)
    until("bound", 0)
    site.http.bulk("delete", [{"kind": "IP", "metadata": {"name": port.name}} for port in kept])
    while _counts(site)["total"] != counted["total"]:
        cloud.say_seen()
        time.sleep(0.02)


def _seen(cloud: Cloud, site: Ours, work: Callable[[list[Port]], None], ports: list[Port]) -> None:
    """Make changes, and have one port more go or come, which the daemon sees last."""
    mark = [Port("mark.bench", "ls0", cloud.ports[0].address + 900, dynamic=False)]
    work(ports)
    (cloud.go if cloud.marked else cloud.come)(mark)
    cloud.marked = not cloud.marked
    cloud.await_active(site)


def _counts(site: Ours) -> dict[str, int]:
    counts: dict[str, int] = site.http.ask("GET", "/apis/ovnreserve.io/v1/status")["reservations"]
    return counts


def _check(cloud: Cloud, site: Ours, wanted: dict[str, str]) -> None:
    if not cloud.tree:
        await_(lambda: cloud.listed(site).items() >= wanted.items(), "the IPs of what changed to be shown")


def _while_listing(site: Ours) -> float:
    """The longest ms of a GET of one IP by another client while all are listed three times."""
    over = threading.Event()

    def list_all() -> None:
        try:
            with closing(Http(site.socket)) as http:
                for _ in range(3):
                    http.exchange(request("GET", _IP))
        finally:
            over.set()

    message = request("GET", f"{_IP}/nobody.bench")
    lister = threading.Thread(target=list_all)
    lister.start()
    taken = []
    while not over.is_set():
        with Clock() as clock:
            site.http.exchange(message)
        taken.append(clock.seconds * 1000)
        time.sleep(0.001)
    lister.join()
    return max(taken)


def follower(cloud: Cloud, kind: str, changes: int) -> Sample:
    """The same of a process that follows the database and does nothing with it."""
    command = [sys.executable, "-m", "bench.peers.followers", kind, cloud.servers.nb]
    begun = time.perf_counter()
    with subprocess.Popen(
        command, cwd=_ROOT, env=clean_environment({}), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        _told(process, "all")
        sample = {"first": time.perf_counter() - begun, "cpu": cpu_of(process.pid), "rss": rss(process.pid)}
        came = measured("come", changes, cloud.switches)
        for figure, work in zip(_PLAIN, (cloud.come, cloud.move, cloud.come_up, cloud.go), strict=True):
            before = cpu_of(process.pid)
            work(came)
            token = f"seen{next(_tokens)}"
            cloud.mark(token)
            print(token, file=process.stdin, flush=True)
            _told(process, token)
            sample[figure] = (cpu_of(process.pid) - before) / changes * 1e6
        process.stdin.close()
        process.wait(60)
    return sample


def _told(process: subprocess.Popen[str], word: str) -> None:
    line = process.stdout.readline().strip()
    if line != word:
        process.kill()
        raise BenchError(f"follower: {line or 'ended'}")


# ---- the table -----------------------------------------------------------------------------------------------------


def table(taken: dict[str, Samples], scale: Scale) -> Table:
    few, *_ = scale.ports
    result = Table(
        NAME,
        "7. Many ports: start, memory, and CPU for a change of a port",
        ("what", "ports", "ours", OVSDBAPP, LIMIT, BEFORE, f"ours : {few:,} ports", f"ours : {BEFORE}", "goal", ""),
    )
    for key, samples in taken.items():
        result.keep(key, {key.partition("/")[0]: samples})
    starts = {
        "first": "start to the first answer, s",
        "cpu": "CPU until then, s",
        "rss": "memory then, MiB",
        "all": "start to a list of all IPs, s",
        "listed": "memory then, MiB",
        "wait": "longest GET of one IP while all are listed, ms",
    }
    for figure, title in (starts | {kind: f"{words}, us" for kind, words in CHANGES.items()}).items():
        for count in scale.ports:
            mine = taken[f"{OURS}/{count}"]
            grown = _paired(mine, taken[f"{OURS}/{few}"], figure) if figure in CHANGES and count != few else None
            old = taken.get(f"{BEFORE}/{count}")
            above = _paired(mine, old, figure) if old is not None else None
            goal, word = "", ""
            if grown is not None:
                what = f"{CHANGES[figure]}, {count:,} ports: {grown} x the CPU of {few:,}"
                goal, word = f"<= {number(FLAT)} x", result.judge(grown.median <= FLAT, what)
            elif above is not None and figure in ("first", "cpu"):
                what = f"{title}, {count:,} ports: {above} x before"
                goal, word = f"<= {number(SLOWER)} x before", result.judge(above.median <= SLOWER, what)
            others = [
                taken[key].shown(figure) if (key := f"{name}/{count}") in taken else "-" for name in (*_PEERS, BEFORE)
            ]
            cells = [title, f"{count:,}", mine.shown(figure), *others, _times(grown), _times(above), goal, word]
            result.lines.append(cells)
    counts = ", ".join(
        f"{key} ports: {samples.count('first')}" for key, samples in taken.items() if key.startswith(OURS)
    )
    result.notes += [
        f"changes: {scale.changes:,} of each kind, a transaction each; CPU is the daemon's, all threads, for one",
        "ovsdbapp: follows all tables and does nothing; limit: receives and parses what our daemon monitors",
        "ratios are of the samples of one round each",
        f"samples of {counts}",
    ]
    return result


def _paired(mine: Samples, others: Samples, figure: str) -> Spread | None:
    """The ratio of a figure within each round."""
    pairs = [
        one[figure] / other[figure]
        for one, other in zip(mine.all, others.all, strict=False)
        if isinstance(one, dict) and isinstance(other, dict) and figure in one and figure in other
    ]
    return Spread.of(pairs) if pairs else None


def _times(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread} x"
