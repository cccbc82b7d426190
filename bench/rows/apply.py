"""Many documents through `ovnreserve apply -f FILE`: the command as a process, from its start to its end."""

from __future__ import annotations

import resource
from pathlib import Path

from bench import limit, peers
from bench.harness import Contender, Sample, Table, expect, number, process_seconds, ratio, times
from bench.rows import LIMIT, NBCTL, OURS, OVSDBAPP, Scale, Taken, fails_somewhere, reference, rounds
from bench.rows.status import OVNRESERVE
from bench.site import SWITCH, Ours, Site, answered, names
from bench.unixhttp import IPS
from ovnreserve.sandbox import clean_environment

NAME = "apply"
GOAL = 100
_BATCH = 1000
_PATIENCE = 120.0
_MANIFEST = """\
---
apiVersion: kubeovn.io/v1
kind: IP
metadata:
  name: {pod}.bench
spec:
  podName: {pod}
  namespace: bench
  podType: VirtualMachine
  subnet: {switch}
"""


def contenders(site: Site, scale: Scale) -> dict[str, Contender]:
    return {
        OURS: lambda: ours(site.ours, scale.documents),
        NBCTL: lambda: peers.nbctl_pairs(site.theirs, scale.pairs),
        OVSDBAPP: lambda: peers.ovsdbapp_script(site.theirs, scale.documents, scale.patience),
        LIMIT: lambda: limit.batches(site.theirs, scale.documents, _BATCH),
    }


def write(path: Path, count: int) -> list[str]:
    """A file of new documents; the names of their IPs."""
    pods = names(count)
    path.write_text("".join(_MANIFEST.format(pod=pod, switch=SWITCH) for pod in pods))
    return [f"{pod}.bench" for pod in pods]


def command(site: Ours, file: Path) -> float:
    """Seconds of `ovnreserve apply -f FILE`; its output, one line a document, goes to a file as well."""
    with file.with_suffix(".out").open("wb") as out:
        return process_seconds(
            [OVNRESERVE, "apply", "-f", str(file)], clean_environment(site.environment), out, _PATIENCE
        )


def ours(site: Ours, count: int) -> Sample:
    """`rate` of documents a second, `seconds`, and us of CPU a document: the daemon's `cpu`, the `command`'s."""
    file = site.daemon.state_dir / "documents.yaml"
    wanted = write(file, count)
    before, client_before = site.cpu(), _children()
    seconds = command(site, file)
    cpu, client = site.cpu() - before, _children() - client_before
    said = file.with_suffix(".out").read_text().splitlines()
    expect(said == [f"ip.kubeovn.io/{name} created" for name in wanted], "apply did not say that all were created")
    found = answered(site.http.ask("GET", IPS)["items"])
    site.check({name: found[name] for name in wanted})
    site.release(wanted)
    return {"rate": count / seconds, "seconds": seconds, "cpu": cpu / count * 1e6, "command": client / count * 1e6}


def _children() -> float:
    """Seconds of CPU of processes that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(taken: Taken, scale: Scale) -> Table:
    result = Table(
        NAME,
        f"1. {scale.documents:,} documents through `ovnreserve apply -f FILE`, reservations a second",
        ("reserved before", "ours", "s", "CPU us each: command", "daemon", "ovn-nbctl", "ovsdbapp", "limit",
         "ours : ovn-nbctl", "ours : ovsdbapp", "ours : limit", "goal", ""),
    )  # fmt: skip
    for level, row in taken.items():
        result.keep(str(level), row)
        rate = row[OURS]["rate"]
        peer, mark = reference(taken, level, NBCTL, "rate")
        faster = ratio(rate, peer)
        word = result.judge(faster is not None and faster >= GOAL, f"{level:,} reserved: {times(faster)} ovn-nbctl")
        cells = [
            row[OURS].shown("rate"),
            row[OURS].shown("seconds"),
            row[OURS].shown("command"),
            row[OURS].shown("cpu"),
        ]
        cells += [row[name].shown("rate") for name in (NBCTL, OVSDBAPP, LIMIT)]
        cells += [
            times(faster) + mark,
            times(ratio(rate, row[OVSDBAPP]["rate"])),
            times(ratio(rate, row[LIMIT]["rate"])),
        ]
        result.lines.append([f"{level:,}", *cells, f"{number(GOAL)} x ovn-nbctl", word])
    result.notes += [
        f"limit: batches of {_BATCH:,}, one fsync of a ledger and one durable commit each, pipelined",
        *rounds(taken, "rate"),
        *fails_somewhere(taken),
    ]
    return result
