"""The command: `python -m bench.soak`."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections import Counter
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from bench.harness import BenchError
from bench.soak import compare, report
from bench.soak.asking import BULK, Asker, Unknown
from bench.soak.chaos import Chaos
from bench.soak.compare import Difference
from bench.soak.foreigners import PREFIX, Foreigner
from bench.soak.ground import NETS, Ground, Neighbour, name_of, socket_of
from bench.soak.seen import look
from bench.soak.sizes import Files, Memory, files, growth, rss
from bench.soak.tenants import Tenant
from bench.soak.watch import Watch
from bench.soak.workers import Gate, Worker, stand_still
from ovnreserve.cli.errors import CommandError
from ovnreserve.sandbox import SandboxError

TENANTS = 4
_ONCE = "once"
_ROUND = 20.0
"""Seconds between two checkpoints."""
_CALM = 1 / 3
"""The share of the time, at the end, in which nobody ends a daemon, so that its memory can be judged."""
_SETTLES_WITHIN = 30.0
_DESCRIPTION = """\
Soak two ovnreserved, active and standby, on private servers: tenants reserve, plug, label and release, foreigners work
on the same database, and chaos kills, hangs and restarts everything and spoils records by hand. Every 20 s all stand
still, and everything acknowledged is held against both APIs, both ledgers, the records, exclude_ips and the ports.
"""
_EPILOG = "Exit status: 0 if nothing was lost, doubled or returned, and nothing of others changed; else 1."


class Soak:
    """One run. `differences` is what was wrong, from all checkpoints."""

    def __init__(self, ground: Ground, seed: int, stack: ExitStack) -> None:
        self.ground = ground
        self.gate = Gate()
        self.acknowledged: list[float] = []
        self.tenants = [Tenant(number, ground, self.gate, seed, self.acknowledged) for number in range(TENANTS)]
        self.foreigner = Foreigner(ground, self.gate, seed)
        self.chaos = Chaos(ground, self.foreigner, seed)
        self.watch = stack.enter_context(Watch(ground, PREFIX))
        self.nb = stack.enter_context(closing(Neighbour(ground.servers)))
        for closed in (*self.tenants, self.foreigner, self.chaos):
            stack.enter_context(closing(closed))
        stack.callback(self._end)
        self._asker = stack.enter_context(closing(Asker([socket_of(daemon) for daemon in ground.daemons])))
        self.windows: list[report.Window] = []
        self.differences: list[Difference] = []
        self.foreigner.settle_in()
        for worker in self._workers:
            worker.start()

    @property
    def _workers(self) -> list[Worker]:
        return [*self.tenants, self.foreigner]

    def _end(self) -> None:
        self.gate.end()
        for worker in self._workers:
            worker.join()

    def round(self, seconds: float, *, daemons: bool) -> None:
        """Let all work for so long, with faults."""
        begin = time.monotonic()
        self.gate.open()
        self.chaos.run(begin + seconds, daemons=daemons)
        end = time.monotonic()
        stand_still(self.gate, self._workers)
        self.windows.append(report.Window(begin, end))

    def check(self) -> float:
        """Wait until nothing differs, at most for a while; what still does is wrong. Returns the seconds it took."""
        accounts = [tenant.account for tenant in self.tenants]
        begin = time.monotonic()
        self._work_once()
        while True:
            try:
                seen = look(self.ground, self.nb)
                found = compare.differences(accounts, self.foreigner, seen)
            except CommandError as error:
                found = [Difference("wrong", str(error))]
            taken = time.monotonic() - begin
            if not found or taken > _SETTLES_WITHIN:
                break
            time.sleep(0.05)
        found += [Difference("foreign", str(move)) for move in self.watch.moves if not move.excused]
        self.differences += found
        if not found:
            settled = compare.expected(accounts, seen).settled
            for account in accounts:
                for name in list(account.doubts):
                    account.settle(name, settled[name])
        return taken

    def _work_once(self) -> None:
        """Reserve and release something: by that a standby knows that what it had not committed itself, when it was
        the active one, is not going to be.
        """
        spec = {"podName": _ONCE, "namespace": "soak", "podType": "", "subnet": NETS[0].name}
        metadata = {"name": f"{_ONCE}.soak"}
        document = {"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": metadata, "spec": spec}
        for verb, wanted in (("apply", {"created", "unchanged"}), ("delete", {"deleted"})):
            done = False
            while not done:
                with suppress(Unknown):
                    [result] = self._asker.ask("POST", BULK, {"verb": verb, "items": [document]})["results"]
                    gone = verb == "delete" and result.get("status", {}).get("code") == 404
                    done = result["result"] in wanted or gone

    @property
    def counts(self) -> Counter[str]:
        total = sum((tenant.account.count for tenant in self.tenants), Counter[str]())
        total += self.foreigner.count
        total["asked again after 503 or nobody there"] = sum(tenant.told_no for tenant in self.tenants)
        return total


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=3.0, metavar="M", help="how long (default: 3)")
    parser.add_argument("--seed", type=int, metavar="N", help="of all choices (default: the time); printed")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="if something is wrong, copy logs and databases there")
    options = parser.parse_args()
    if options.minutes <= 0:
        parser.error("--minutes: more than nothing")
    return options


def main() -> int:
    options = _options()
    seed = time.time_ns() % 1_000_000 if options.seed is None else options.seed
    print(f"seed {seed}, {options.minutes:g} minutes, {TENANTS} tenants", flush=True)
    try:
        with Ground() as ground, ExitStack() as stack:
            return soak(Soak(ground, seed, stack), options.minutes * 60, options.keep)
    except (BenchError, SandboxError) as error:
        print(f"soak, seed {seed}: {error}", file=sys.stderr)
        return 1


def soak(run: Soak, seconds: float, keep: Path | None) -> int:
    """The whole of it; the exit status."""
    begin = time.monotonic()
    run.check()
    before = files(run.ground)
    while run.differences == [] and (left := seconds * (1 - _CALM) - (time.monotonic() - begin)) > 1:
        run.round(min(_ROUND, left), daemons=True)
        _checkpoint(run, begin)
    memory = Memory(run.ground)
    while run.differences == [] and (left := seconds - (time.monotonic() - begin)) > 1:
        run.round(min(_ROUND, left), daemons=False)
        _checkpoint(run, begin)
    memory.stop()
    after = files(run.ground)
    if not run.differences:
        for daemon in run.ground.daemons:
            daemon.kill()
        for daemon in run.ground.daemons:
            daemon.start(wait=False)
        _checkpoint(run, begin)
    _tell(run, memory, (before, after), time.monotonic() - begin)
    if run.differences and keep is not None:
        shutil.copytree(run.ground.servers.run_dir, keep, ignore=lambda _at, names: [n for n in names if _special(n)])
    return 1 if run.differences else 0


def _special(name: str) -> bool:
    """Sockets and the like cannot be copied."""
    return not name.endswith((".db", ".log", "-wal", "-shm", "-state", "a", "b"))


def _checkpoint(run: Soak, begin: float) -> None:
    taken = run.check()
    sizes = ", ".join(f"{name_of(daemon)} {rss(daemon.pid) / 1024:.1f}" for daemon in run.ground.daemons)
    held = sum(len(tenant.account.held) for tenant in run.tenants)
    told = f"{time.monotonic() - begin:5.0f} s: settled in {taken:.1f} s, {held} held, RSS MiB {sizes}"
    print(f"{told}, {len(run.chaos.injected)} faults, {len(run.differences)} differences", flush=True)


def _tell(run: Soak, memory: Memory, sizes: tuple[Files, Files], seconds: float) -> None:
    print(f"\nseconds {seconds:.0f}")
    print(f"faults {report.faults_line(run.chaos.injected)}")
    print(f"tenants and foreigners: {report.counts_line(run.counts)}")
    print(f"files at the start: {sizes[0]}")
    print(f"files at the end:   {sizes[1]}")
    for name, samples in memory.samples.items():
        print(f"memory of {name}: {growth(samples) or 'too short to be judged'}")
    excused = sum(move.excused for move in run.watch.moves)
    print(f"foreign ports renumbered after ovn-northd was away for longer than a plan waits: {excused}")
    print(report.pauses_table(report.pauses(run.chaos.injected, run.acknowledged, run.windows)))
    print(report.verdict(run.differences), flush=True)


if __name__ == "__main__":
    sys.exit(main())
