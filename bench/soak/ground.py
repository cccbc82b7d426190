"""What it soaks in: both databases and ovn-northd, two daemons on them, and three networks.

Each network with IPv4 is a /20 whose parts are kept apart by the third octet, so that nobody has to give way to
anybody but by somebody's mistake:

    0    ovn-northd's choices for dynamic ports, from the bottom up
    4    foreigners' static ports
    8    given addresses of reservations
    12   the operator's exclude_ips, in which reservations are given too
    15   automatic choices, from the top down

Adopted reservations keep what ovn-northd chose, so at the bottom both meet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from ovsdb import Connection
from sites import Site

from bench.harness import BenchError, expect
from ovnreserve.cli.client import Client
from ovnreserve.cli.errors import CommandError
from ovnreserve.sandbox import Daemon, Process, Servers

QUARANTINE: Final = 10
"""Seconds that a released address is not chosen again: what is in quarantine is live data, which is to be bounded."""
_NB_PATIENCE: Final = 60.0
_RETRY: Final = 0.01


class Net(NamedTuple):
    """A logical switch. `v4`: its first two octets, `v6`: its prefix; each empty where it has none. `base`: what the
    operator's exclude_ips begins with, always.
    """

    name: str
    v4: str
    v6: str
    base: str = ""

    def given_v4(self, third: int, last: int) -> str:
        return f"{self.v4}.{third}.{last}" if self.v4 else ""


NETS: Final = (
    Net("lan", "10.1", "", "10.1.12.250..10.1.12.254 // the operator's\n10.1.12.249"),
    Net("dual", "10.2", "fd00:2::", "10.2.12.254"),
    Net("six", "", "fd00:3::"),
)


class Ground:
    """Use as a context: everything runs in it, and nothing is left of it afterwards but what `keep` has copied."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self.servers = self._stack.enter_context(Servers())
            self.daemons = tuple(self._stack.enter_context(_daemon(self.servers, name)) for name in ("a", "b"))
            site = Site(self.servers, self.daemons[0])
            for net in NETS:
                subnet = f"{net.v4}.0.0/20" if net.v4 else None
                more = {"exclude_ips": net.base} if net.base else {}
                site.switch(subnet, net.v6 or None, name=net.name, **more)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.alive:
                process.resume()
        self._stack.close()

    @property
    def processes(self) -> tuple[Process, ...]:
        return (*self.servers.children, *self.daemons)

    def state(self, daemon: Daemon) -> str:
        """What the daemon says it is; empty if it does not answer."""
        client = Client(str(socket_of(daemon)), lambda _warning: None)
        client.patience = 1.0
        try:
            return str(client.get("/apis/ovnreserve.io/v1/status")["state"]) if daemon.alive else ""
        except CommandError:
            return ""
        finally:
            client.close()

    def active(self) -> Daemon | None:
        return next((daemon for daemon in self.daemons if self.state(daemon) == "active"), None)


def socket_of(daemon: Daemon) -> Path:
    return daemon.run_dir / "ovnreserved.sock"


def ledger_of(daemon: Daemon) -> Path:
    return daemon.state_dir / "ledger.db"


def name_of(daemon: Daemon) -> str:
    return daemon.run_dir.name


def _daemon(servers: Servers, name: str) -> Daemon:
    state_dir = servers.run_dir / f"{name}-state"
    return Daemon(servers, state_dir, "--quarantine", f"{QUARANTINE}s", run_dir=servers.run_dir / name)


class Neighbour:
    """Somebody else's connection to the northbound database, made again when the server is.

    A transaction whose reply did not come is sent again, so it must do nothing where it was done before.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._connection: Connection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def transact(self, *operations: dict[str, Any]) -> list[Any]:
        """The results. BenchError if there are none within a minute, or one is an error."""
        results: list[Any] = self._patiently(lambda connection: connection.transact(*operations))
        errors = [result for result in results if result and "error" in result]
        expect(not errors, f"the northbound database refused: {errors}")
        return results

    def committed(self, *operations: dict[str, Any]) -> bool:
        """Were they carried out, this time? False if one of their `wait` failed."""
        return bool(self._patiently(lambda connection: connection.committed(*operations)))

    def select(self, table: str, where: list[Any], *columns: str) -> list[dict[str, Any]]:
        [found] = self.transact({"op": "select", "table": table, "where": where, "columns": ["_uuid", *columns]})
        rows: list[dict[str, Any]] = found["rows"]
        return rows

    def _patiently(self, ask: Callable[[Connection], Any]) -> Any:
        until = time.monotonic() + _NB_PATIENCE
        while True:
            try:
                self._connection = self._connection or Connection(self._servers)
                return ask(self._connection)
            except OSError as error:
                self.close()
                expect(time.monotonic() < until, f"the northbound database did not answer: {error}")
                time.sleep(_RETRY)


def plain(value: Any) -> Any:
    """OVSDB's JSON (RFC 7047, 5.1) as a dict, a sorted list, or the atom; of a uuid its text."""
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "map":
        return {plain(key): plain(item) for key, item in content}
    return sorted(plain(item) for item in content) if kind == "set" else content


def expect_alive(processes: tuple[Process, ...]) -> None:
    """Nobody has ended but whom we have ended."""
    for process in processes:
        if not process.alive:
            raise BenchError(str(process.failure("ended by itself")))
