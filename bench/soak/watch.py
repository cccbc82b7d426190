"""A witness of every state of every port, who comes again when the database does.

A dynamic port of a foreigner keeps for its life what ovn-northd chose for it. It may be renumbered by nobody's fault in
one case only: it waited for ovn-northd, which was away, for longer than the two seconds that the daemon waits for
choices that are under way (design, Reserve); then it was given an address that was reserved in the same moment, and is
moved. Whoever waited that long is `excused`.

Foreigners make no move legitimate by themselves: their static ports and the operator's tokens keep to parts of the
networks where ovn-northd does not choose, and the names of their ports are never used again.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final, NamedTuple

from ovsdb import DATABASE, Connection, Seen, Witness

from bench.soak.ground import Ground

DAEMON_WAITS: Final = 2.0
_RETRY: Final = 0.01
_COLUMNS: Final = {"columns": ["name", "addresses", "dynamic_addresses"]}


class Move(NamedTuple):
    """A port that had `before` has `after`; it had waited for its first address for `waited` seconds."""

    name: str
    before: str
    after: str
    waited: float

    @property
    def excused(self) -> bool:
        return self.waited > DAEMON_WAITS


class Watch(Witness):
    """`moves` of ports whose names begin with `prefix`."""

    def __init__(self, ground: Ground, prefix: str) -> None:
        self.moves: list[Move] = []
        self._prefix = prefix
        self._ground = ground
        self._came: dict[str, float] = {}
        self._has: dict[str, tuple[str, float]] = {}
        super().__init__(ground.servers)

    def _watch(self) -> None:
        while not self._stopping:
            try:
                super()._watch()
            except OSError:
                self._connection.close()
                self._come_again()

    def _come_again(self) -> None:
        while not self._stopping:
            with contextlib.suppress(OSError):
                connection = Connection(self._ground.servers)
                connection.send("monitor", DATABASE, "ports", {"Logical_Switch_Port": _COLUMNS})
                messages = connection.messages()
                dump = next(messages)["result"]
                self._connection, self._messages = connection, messages
                self._take(dump)
                return
            time.sleep(_RETRY)

    def _take(self, updates: dict[str, Any]) -> None:
        super()._take(updates)
        for seen in self.history:
            if seen.name.startswith(self._prefix) and "dynamic" in seen.addresses:
                self._look(seen)
        self.history.clear()

    def _look(self, seen: Seen) -> None:
        now = time.monotonic()
        came = self._came.setdefault(seen.name, now)
        if not seen.dynamic_addresses:
            return
        before, waited = self._has.setdefault(seen.name, (seen.dynamic_addresses, now - came))
        if before != seen.dynamic_addresses:
            self.moves.append(Move(seen.name, before, seen.dynamic_addresses, waited))
            self._has[seen.name] = seen.dynamic_addresses, waited
