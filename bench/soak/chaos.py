"""Chaos: one fault after the other, at random; each is healed after a moment, and the next does not wait for recovery.

    kill       SIGKILL, and started again
    hang       SIGSTOP, and SIGCONT
    restart    SIGTERM, and started again
    by hand    a record is deleted or garbled, exclude_ips is overwritten as a whole

A record is deleted only while a daemon is active, and the next fault waits until it is written again: a record that
goes while no daemon looks cannot be told from one that another daemon has released.

All in the main thread: children of the sandbox end with the thread that started them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from bench.soak.foreigners import Foreigner
from bench.soak.ground import Ground, Neighbour, expect_alive, plain
from bench.soak.seen import in_ledger
from ovnreserve.model.resource import KIND, KIND_RESERVATION, RECORD, UID
from ovnreserve.sandbox import Daemon, Process

_IDS: Final = "external_ids"
_SHORTEST, _LONGEST = 0.0, 1.0
"""Seconds that something stays down or hangs."""
_BETWEEN: Final = (0.2, 1.5)
_REPAIRED_WITHIN: Final = 10.0


class Injected(NamedTuple):
    """A fault, and when it began (monotonic)."""

    kind: str
    at: float


class Chaos:
    def __init__(self, ground: Ground, foreigner: Foreigner, seed: int) -> None:
        self.injected: list[Injected] = []
        self._ground = ground
        self._foreigner = foreigner
        self._dice = random.Random(f"{seed} chaos")
        self._nb = Neighbour(ground.servers)
        servers = ground.servers
        nb, sb, northd = servers.nb_server, servers.sb_server, servers.northd
        self._calm: tuple[tuple[str, Callable[[], None]], ...] = (
            ("ovn-northd killed", lambda: self._kill(northd)),
            ("ovn-northd hangs", lambda: self._hang(northd)),
            ("SB server killed", lambda: self._kill(sb)),
            ("NB server hangs", lambda: self._hang(nb)),
            ("record deleted", self._delete_record),
            ("record garbled", self._garble_record),
            ("exclude_ips overwritten", self._overwrite),
            ("no fault", self._rest),
        )
        self._storm = (
            *self._calm,
            ("SB server hangs", lambda: self._hang(sb)),
            ("NB server killed", lambda: self._kill(nb)),
            ("active killed", lambda: self._kill(self._active())),
            ("active killed", lambda: self._kill(self._active())),
            ("active hangs", lambda: self._hang(self._active())),
            ("active restarted", lambda: self._restart(self._active())),
            ("standby killed", lambda: self._kill(self._standby())),
            ("standby hangs", lambda: self._hang(self._standby())),
            ("both daemons killed", lambda: self._kill(*ground.daemons)),
            ("active and NB killed", lambda: self._kill(self._active(), nb)),
        )

    def run(self, until: float, *, daemons: bool) -> None:
        """Faults until that time (monotonic); without `daemons`, those that leave daemons and their database alone."""
        while time.monotonic() < until:
            expect_alive(self._ground.processes)
            kind, inject = self._dice.choice(self._storm if daemons else self._calm)
            self.injected.append(Injected(kind, time.monotonic()))
            inject()
            time.sleep(self._dice.uniform(*_BETWEEN))

    def close(self) -> None:
        self._nb.close()

    # ---- processes -------------------------------------------------------------------------------------------------

    def _kill(self, *processes: Process) -> None:
        for process in processes:
            process.kill()
        self._moment()
        for process in processes:
            process.start(wait=not isinstance(process, Daemon))

    def _restart(self, process: Process) -> None:
        process.stop()
        self._moment()
        process.start(wait=False)

    def _hang(self, process: Process) -> None:
        process.pause()
        self._moment()
        process.resume()

    def _rest(self) -> None:
        self._moment()

    def _moment(self) -> None:
        time.sleep(self._dice.uniform(_SHORTEST, _LONGEST))

    def _active(self) -> Daemon:
        """The active daemon, or any while there is none."""
        return self._ground.active() or self._dice.choice(self._ground.daemons)

    def _standby(self) -> Daemon:
        active = self._active()
        return next(daemon for daemon in self._ground.daemons if daemon is not active)

    # ---- by hand ---------------------------------------------------------------------------------------------------

    def _record(self) -> tuple[str, str] | None:
        """The uuid of one, and the uid of its reservation."""
        where = [["external_ids", "includes", ["map", [[KIND, KIND_RESERVATION]]]]]
        rows = self._nb.select("DNS", where, _IDS)
        records = [(plain(row["_uuid"]), plain(row[_IDS])[UID]) for row in rows]
        return self._dice.choice(sorted(records)) if records else None

    def _delete_record(self) -> None:
        self._await(lambda: self._ground.active() is not None)
        record = self._record()
        if record is not None:
            uuid, uid = record
            self._nb.transact({"op": "delete", "table": "DNS", "where": _is(uuid)})
            self._await(lambda: self._has_record(uid) or not self._is_held(uid))

    def _has_record(self, uid: str) -> bool:
        return bool(self._nb.select("DNS", [[_IDS, "includes", ["map", [[UID, uid]]]]]))

    def _is_held(self, uid: str) -> bool:
        """Does an active daemon hold it, or is there none?"""
        active = self._ground.active()
        return active is None or uid in {held.uid for held in in_ledger(active).held.values()}

    def _await(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + _REPAIRED_WITHIN
        while not condition() and time.monotonic() < until:
            time.sleep(0.01)

    def _garble_record(self) -> None:
        record = self._record()
        if record is not None:
            text = self._dice.choice(("{}", "", '{"v4":', "10.0.0.1"))
            mutations = [[_IDS, "delete", ["set", [RECORD]]], [_IDS, "insert", ["map", [[RECORD, text]]]]]
            self._nb.transact({"op": "mutate", "table": "DNS", "where": _is(record[0]), "mutations": mutations})

    def _overwrite(self) -> None:
        self._foreigner.wants_overwrite.set()


def _is(uuid: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", uuid]]]
