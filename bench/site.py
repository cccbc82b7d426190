"""Where it is measured: two private OVNs side by side, one for us and one for the others.

Each has its northbound and southbound ovsdb-server and its ovn-northd, as in production; ours has ovnreserved on top.
The peers and the limit have an OVN of their own, so that our daemon does not follow what they write while they are
measured. Both begin with one switch that excludes the same addresses: given ones, scattered (even addresses only, so
that no two merge), reserved through our own bulk API before anything is measured. Samples take theirs above these,
and give them back afterwards, which is not measured; then ovn-northd is awaited.

The daemon runs as shipped, but for a quarantine of 0 s, so that each sample finds the subnet as the one before did.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

from bench.harness import expect
from bench.rpc import Rpc, exclude_ips_of, set_exclude_ips
from bench.unixhttp import BULK, Http
from ovnreserve.sandbox import Daemon, Servers

SWITCH = "bench"
SUBNET = "10.16.0.0/16"
NETWORK = 10 << 24 | 16 << 16
SCATTERED = range(NETWORK + (64 << 8), NETWORK + (192 << 8), 2)
"""The middle half of the subnet; automatic choices and the peers take the quarter above it."""
TOP = NETWORK + (255 << 8) + 254
_CHUNK = 5000
_PATIENCE = 120.0
_CPU_OF_PROCESS = 2  # CPUCLOCK_SCHED, linux/posix-timers.h
_names = itertools.count()


def dotted(address: int) -> str:
    return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))


def from_top(count: int) -> list[str]:
    """The highest addresses, the first of them first."""
    return [dotted(TOP - i) for i in range(count)]


def names(count: int) -> list[str]:
    """New pod names."""
    return [f"pod-{next(_names)}" for _ in range(count)]


def document(pod: str, address: str = "") -> dict[str, Any]:
    spec = {"podName": pod, "namespace": "bench", "podType": "VirtualMachine", "subnet": SWITCH}
    if address:
        spec["v4IpAddress"] = address
    return {"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": {"name": f"{pod}.bench"}, "spec": spec}


def addresses_in(text: str) -> set[str]:
    """What an exclude_ips text of plain tokens names."""
    return set(_expanded(text))


def _expanded(text: str) -> Iterator[str]:
    for token in text.split():
        first, _, last = token.partition("..")
        if last:
            low, high = (int.from_bytes(map(int, a.split("."))) for a in (first, last))
            yield from map(dotted, range(low, high + 1))
        else:
            yield token


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used, all threads: its clock by clock_getcpuclockid(3).

    Those in /proc/PID/stat come in steps of 10 ms, which is as long as 100 reservations.
    """
    return time.clock_gettime(~pid << 3 | _CPU_OF_PROCESS)


class Ours:
    """ovnreserved on its OVN."""

    def __init__(self, servers: Servers, daemon: Daemon) -> None:
        self.servers = servers
        self.daemon = daemon
        self.environment = daemon.environment | daemon.client_environment
        self.http = Http(self.socket)
        self.rpc = Rpc(servers.nb)

    @property
    def socket(self) -> Path:
        return self.daemon.run_dir / "ovnreserved.sock"

    @property
    def ledger(self) -> Path:
        return self.daemon.state_dir / "ledger.db"

    def close(self) -> None:
        self.http.close()
        self.rpc.close()

    def cpu(self) -> float:
        """Seconds of CPU that the daemon has used."""
        return cpu_of(self.daemon.pid)

    def total(self) -> int:
        return int(self.http.ask("GET", "/apis/ovnreserve.io/v1/status")["reservations"]["total"])

    def reserve(self, addresses: Iterable[int]) -> None:
        """Given addresses, in bulk."""
        wanted = list(addresses)
        for at in range(0, len(wanted), _CHUNK):
            chunk = wanted[at : at + _CHUNK]
            pods = names(len(chunk))
            self.http.bulk("create", [document(pod, dotted(a)) for pod, a in zip(pods, chunk, strict=True)])

    def release(self, reserved: Iterable[str]) -> None:
        """Delete IPs and wait until they are gone and ovn-northd has nothing to do."""
        condemned = [{"kind": "IP", "metadata": {"name": name}} for name in reserved]
        left = self.total() - len(condemned)
        for at in range(0, len(condemned), _CHUNK):
            self.http.bulk("delete", condemned[at : at + _CHUNK])
        until = time.monotonic() + _PATIENCE
        while self.total() != left:
            expect(time.monotonic() < until, f"a release of {len(condemned)} was not done within {_PATIENCE:g} s")
            time.sleep(0.01)
        self._wait_idle()
        settle(self.servers)

    def _wait_idle(self) -> None:
        """Return once the daemon's writer has done all that was to be done before this: it has a queue."""
        nobody = {"kind": "IP", "metadata": {"name": "nobody"}}
        answer = self.http.ask("POST", BULK, {"verb": "delete", "items": [nobody]})
        expect(answer["results"][0]["status"]["reason"] == "NotFound", "what does not exist was deleted")

    def check(self, acknowledged: dict[str, str]) -> None:
        """Every acknowledged reservation (name to address) is in the database and in the ledger, and none shares its
        address.
        """
        expect(len(set(acknowledged.values())) == len(acknowledged), "an address was given twice")
        query = {"op": "select", "table": "DNS", "where": [], "columns": ["records"]}
        records = dict(pair for row in self.rpc.transact(query)[0]["rows"] for pair in row["records"][1])
        excluded = addresses_in(exclude_ips_of(self.rpc, SWITCH))
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT name, v4 FROM reservation WHERE live")
            ledger = {name: dotted(v4) for name, v4 in rows}
        for name, address in acknowledged.items():
            expect(records.get(name) == address, f"{name}: lost from the database")
            expect(address in excluded, f"{name}: {address} is not excluded")
            expect(ledger.get(name) == address, f"{name}: lost from the ledger")


class Theirs:
    """An OVN without us, for the peers and the limit."""

    def __init__(self, servers: Servers, base: str) -> None:
        self.servers = servers
        self.base = base
        self.rpc = Rpc(servers.nb)
        self.reset()

    def close(self) -> None:
        self.rpc.close()

    def appended(self) -> list[str]:
        """The addresses that are excluded beyond those at the beginning, as they stand in the text."""
        text = exclude_ips_of(self.rpc, SWITCH)
        expect(text.startswith(self.base), "what was excluded before has been overwritten")
        return list(_expanded(text[len(self.base) :]))

    def reset(self) -> None:
        self.rpc.transact(set_exclude_ips(SWITCH, self.base))
        settle(self.servers)


class Site:
    """Both of them, with `reserved` addresses. Use as a context."""

    def __init__(self, reserved: int, *, northd: bool = True) -> None:
        self.reserved = reserved
        self._northd = northd
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            servers = self._servers()
            daemon = self._stack.enter_context(Daemon(servers, servers.run_dir / "state", "--quarantine", "0s"))
            self.ours = self._stack.enter_context(closing(Ours(servers, daemon)))
            if not self._northd:
                servers.northd.stop()
            chosen = random.Random(self.reserved).sample(SCATTERED, self.reserved)
            self.ours.reserve(chosen)
            others = self._servers()
            if not self._northd:
                others.northd.stop()
            settle(servers)
            base = exclude_ips_of(self.ours.rpc, SWITCH)
            expect(addresses_in(base) == set(map(dotted, chosen)), "not what was reserved is excluded")
            self.theirs = self._stack.enter_context(closing(Theirs(others, base)))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _servers(self) -> Servers:
        servers = self._stack.enter_context(Servers())
        servers.nbctl("ls-add", SWITCH, "--", "set", "logical_switch", SWITCH, f"other_config:subnet={SUBNET}")
        return servers


def settle(servers: Servers) -> None:
    """Wait until ovn-northd, if it runs, has nothing to do."""
    if servers.northd.alive:
        servers.nbctl("--wait=sb", "sync")


def answered(results: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Name to address of IPs as the API shows them."""
    return {ip["metadata"]["name"]: ip["spec"]["v4IpAddress"] for ip in results}
