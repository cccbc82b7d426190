"""How long a fail-over takes, for each way of dying: `python -m bench.failover [--runs N] [WAY...]`.

Each run has an OVN and two daemons of its own, as shipped (watchdog 30 s, the server's inactivity probe 5 s). One
client writes to both, as `--server a,b` does, one reservation after the other; another asks the standby alone, until
that has done a write. Then the active one dies. Measured are

    fail over     from the death to the first write that the other acknowledges
    unavailable   the longest time between two acknowledgements that the client of both has got

and printed as `median [lowest..highest]`, in seconds. What was acknowledged has to be there at the end.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import ways
from bench.harness import Table, expect
from bench.site import SUBNET, SWITCH, document, names
from functional.link import Link
from ovnreserve.cli.client import Client
from ovnreserve.cli.errors import CommandError
from ovnreserve.cli.several import Several
from ovnreserve.sandbox import Daemon, Servers

_LONGEST = 120.0
_PAUSE = 0.005


class Pair(NamedTuple):
    """What a way of dying has to do with: the active daemon, its link to the database, a FIFO its disk may hang on."""

    active: Daemon
    link: Link
    fifo: Path


class Way(NamedTuple):
    """`remote` is how the daemons reach the database: unix, tcp, ssl or link (a TCP proxy)."""

    title: str
    remote: str
    die: Callable[[Pair], None]
    main: str = "ovnreserve.daemon"


WAYS = {
    "exit": Way("SIGTERM", "unix", lambda pair: pair.active.stop() and None),
    "kill": Way("kill -9", "unix", lambda pair: pair.active.kill()),
    "stop-tcp": Way("SIGSTOP, tcp", "tcp", lambda pair: pair.active.pause()),
    "stop-ssl": Way("SIGSTOP, ssl", "ssl", lambda pair: pair.active.pause()),
    "stop-unix": Way("SIGSTOP, unix", "unix", lambda pair: pair.active.pause()),
    "disk": Way("the ledger's disk hangs, unix", "unix", lambda pair: os.mkfifo(pair.fifo), "functional.hung_disk"),
    "cut": Way("connection cut", "link", lambda pair: pair.link.cut()),
    "hole": Way("connection in a black hole", "link", lambda pair: pair.link.hold()),
}


def pki(directory: Path) -> list[str]:
    """The options of a key, a certificate and the authority that signed it, of the names that both sides know."""
    openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", f"{directory}/key.pem", "-out", f"{directory}/cert.pem", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*openssl, *files, "-days", "2"], check=True, capture_output=True)
    return [
        f"--private-key={directory}/key.pem",
        f"--certificate={directory}/cert.pem",
        f"--ca-cert={directory}/cert.pem",
    ]


@contextmanager
def _pair(way: Way) -> Iterator[tuple[Pair, Daemon]]:
    """Two daemons with a switch to reserve on, the first of them active."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ovnreserve-")))
        tls = pki(directory) if way.remote == "ssl" else []
        remotes = ["pssl:0:127.0.0.1"] if tls else ["ptcp:0:127.0.0.1"]
        servers = stack.enter_context(Servers(extra_remotes=remotes, nb_options=tls))
        servers.nbctl("ls-add", SWITCH, "--", "set", "logical_switch", SWITCH, f"other_config:subnet={SUBNET}")
        link = stack.enter_context(Link(servers, "" if tls else servers.nb_remotes[1]))
        remote = {"unix": servers.nb, "link": link.remote}.get(way.remote, servers.nb_remotes[1])
        fifo = directory / "fifo"
        active, standby = (
            Daemon(servers, directory / name, "--db", db, *tls, run_dir=servers.run_dir / name,
                   environment={"HANGS_ON": str(fifo)})
            for name, db in (("a", remote), ("b", servers.nb if way.remote == "link" else remote))
        )  # fmt: skip
        active.command = tuple(way.main if word == "ovnreserve.daemon" else word for word in active.command)
        for daemon in (active, standby):
            stack.enter_context(daemon)
        yield Pair(active, link, fifo), standby


def _socket(daemon: Daemon) -> str:
    return f"{daemon.run_dir}/ovnreserved.sock"


class Writer:
    """Writes one reservation after the other and notes when each was acknowledged (monotonic)."""

    def __init__(self, client: Client) -> None:
        self.acknowledged: list[float] = []
        self.names: list[str] = []
        self.enough = threading.Event()
        self._client = client
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        for pod in itertools.chain.from_iterable(map(names, itertools.repeat(1))):
            if self.enough.is_set():
                break
            item = document(pod)
            try:
                [result] = self._client.bulk("apply", [item])
            except CommandError:
                result = {}
            if result.get("result") in ("created", "unchanged"):
                self.acknowledged.append(time.monotonic())
                self.names.append(item["metadata"]["name"])
            time.sleep(_PAUSE)
        self._client.close()

    def wait_for(self, count: int) -> None:
        """Until so many have been acknowledged."""
        until = time.monotonic() + _LONGEST
        while len(self.acknowledged) < count:
            expect(time.monotonic() < until, f"no write was acknowledged within {_LONGEST:g} s")
            time.sleep(_PAUSE)

    def stop(self) -> None:
        self.enough.set()
        self.thread.join()


def measure(way: Way) -> dict[str, float]:
    """One run: seconds by figure."""
    with _pair(way) as (pair, standby):
        both = Writer(Several([_socket(pair.active), _socket(standby)], lambda _warning: None, _LONGEST))
        other = None
        try:
            both.wait_for(50)
            other = Writer(Client(_socket(standby), lambda _warning: None))
            time.sleep(0.5)  # the pace before, which a fail-over interrupts
            expect(not other.acknowledged, "the standby has acknowledged a write before the active one died")
            died = time.monotonic()
            way.die(pair)
            other.wait_for(1)
            before = len(both.acknowledged)
            both.wait_for(before + 20)
        finally:
            for client in (both, other):
                if client is not None:
                    client.stop()
        items = Client(_socket(standby), lambda _warning: None).get("/apis/kubeovn.io/v1/ips")["items"]
        there = {item["metadata"]["name"] for item in items}
        expect(there >= {*both.names, *other.names}, "what was acknowledged is not there")
        gaps = (later - earlier for earlier, later in itertools.pairwise(both.acknowledged))
        return {"fail over": other.acknowledged[0] - died, "unavailable": max(gaps)}


if __name__ == "__main__":
    table = Table("failover", "Fail-over (seconds)", ["way of dying", "fail over", "unavailable", "runs"])
    sys.exit(ways.main(table, WAYS, measure, ("fail over", "unavailable"), __doc__))
