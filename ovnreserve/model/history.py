"""History: who held what, and from when to when, told from the journal alone.

A *tenure* is the time for which one reservation kept its addresses from everyone. The journal's entries name what was
held, and this table says what they mean for it:

    BEGINS      it holds from here on, unless it did before
    LEAVES      it is about to end, and whoever asked for that ends it; until then it holds
    ENDS        it holds no more; if nothing of it was told before, it had held until here
    GIVES UP    it holds no more; if nothing of it was told before, it never had

Entries come in the order in which they were journalled, and that order is believed, not the clock: one that was set
back never makes an entry older than the one before. What one has another has no more: on one subnet an address or a
MAC, anywhere a name. So where an entry is missing a tenure ends where the next begins, and no two of them overlap.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

BEGINS: Final = "begins"
LEAVES: Final = "leaves"
ENDS: Final = "ends"
GIVES_UP: Final = "gives up"

MEANING: Final[dict[str, str]] = {
    "Reserved": BEGINS,
    "Followed": BEGINS,
    "Republished": BEGINS,
    "Rehomed": BEGINS,
    "Binding": BEGINS,
    "Releasing": LEAVES,
    "Released": ENDS,
    "GivenBack": ENDS,
    "ReleasedElsewhere": ENDS,
    "Failed": GIVES_UP,
    "Superseded": GIVES_UP,
}
"""By the entry's reason. All others tell of something else."""

GONE: Final = ("GivenBack", "Released")
"""After these it is gone for good, should its record ever turn up again."""

ENDINGS: Final = tuple(sorted(reason for reason, meaning in MEANING.items() if meaning in (ENDS, GIVES_UP)))

_NEVER: Final = float("-inf")

DAEMON: Final = "ovnreserved"
"""The actor of what nobody asked for: the daemon's own work."""


class Entry(NamedTuple):
    """One line of the journal. `at` is seconds since the epoch, `actor` who asked for it (`uid 0 (root)`) or DAEMON;
    `subnet`, `v4`, `v6` and `mac` are what the reservation had, as text, "" where there is none. Those from before the
    journal knew of these have none of them.
    """

    at: float
    type: str
    reason: str
    name: str
    uid: str
    message: str
    actor: str = ""
    subnet: str = ""
    v4: str = ""
    v6: str = ""
    mac: str = ""


class Tenure(NamedTuple):
    """Who held it from `since` (None: from before the journal tells) to `until` (None: still). `actor` asked for it,
    `ended_by` for its end; "" where that is not known.
    """

    name: str
    uid: str
    subnet: str
    v4: str
    v6: str
    mac: str
    since: float | None
    until: float | None
    actor: str
    ended_by: str

    def held_within(self, first: float, last: float) -> bool:
        """Was it held at some time from `first` on and before `last`?"""
        return (self.since is None or self.since < last) and (self.until is None or self.until > first)


def tenures(entries: Iterable[Entry]) -> list[Tenure]:
    """The tenures that the entries tell of, in the order in which they began."""
    history = _History()
    for entry in entries:
        if entry.uid:
            history.read(entry)
    return history.found


class _History:
    def __init__(self) -> None:
        self.found: list[Tenure] = []
        self._now = _NEVER
        self._open: dict[str, int] = {}  # uid -> index of its tenure that has not ended
        self._leaving: dict[str, str] = {}  # uid -> who asked for the end
        self._seen: set[str] = set()
        self._holders: dict[tuple[str, str], str] = {}  # claim -> uid of whoever had it last
        self._free_since: dict[tuple[str, str], float] = {}

    def read(self, entry: Entry) -> None:
        self._now = max(self._now, entry.at)
        meaning, uid = MEANING.get(entry.reason), entry.uid
        is_new = uid not in self._seen
        if meaning is not None:
            self._seen.add(uid)
        if meaning == BEGINS:
            self._leaving.pop(uid, None)  # it stays
            if uid not in self._open:
                self._begin(entry, self._now)
        elif is_new and meaning in (LEAVES, ENDS):
            self._begin(entry, None)
        if uid in self._open:
            self._learn(entry)
            if meaning == LEAVES:
                self._leaving[uid] = entry.actor
            elif meaning in (ENDS, GIVES_UP):
                self._end(uid, self._leaving.get(uid, entry.actor))

    def _begin(self, entry: Entry, since: float | None) -> None:
        found = Tenure(
            entry.name, entry.uid, entry.subnet, entry.v4, entry.v6, entry.mac, since, None,
            "" if since is None else entry.actor, "",
        )  # fmt: skip
        self._open[entry.uid] = len(self.found)
        self.found.append(found)
        self._claim(found)

    def _learn(self, entry: Entry) -> None:
        """Its first entries may be from before the journal named what is held."""
        tenure = self.found[self._open[entry.uid]]
        held = entry.subnet, entry.v4, entry.v6, entry.mac
        if any(held) and not any((tenure.subnet, tenure.v4, tenure.v6, tenure.mac)):
            known = tenure._replace(subnet=entry.subnet, v4=entry.v4, v6=entry.v6, mac=entry.mac)
            self.found[self._open[entry.uid]] = known
            self._claim(known)

    def _claim(self, tenure: Tenure) -> None:
        """Nobody else has what it has any more."""
        for claim in _claims(tenure):
            holder = self._holders.get(claim)
            if holder is not None and holder != tenure.uid and holder in self._open:
                self._end(holder, "")
            self._holders[claim] = tenure.uid
        free = max((self._free_since.get(claim, _NEVER) for claim in _claims(tenure)), default=_NEVER)
        if free > (_NEVER if tenure.since is None else tenure.since):
            self.found[self._open[tenure.uid]] = tenure._replace(since=free)

    def _end(self, uid: str, ended_by: str) -> None:
        index = self._open.pop(uid)
        self._leaving.pop(uid, None)
        ended = self.found[index] = self.found[index]._replace(until=self._now, ended_by=ended_by)
        self._free_since.update(dict.fromkeys(_claims(ended), self._now))


def _claims(tenure: Tenure) -> list[tuple[str, str]]:
    held = [(tenure.subnet, what) for what in (tenure.v4, tenure.v6, tenure.mac) if what]
    return [("", tenure.name), *held]
