"""Coverage: the ports and reservations of each owner that somebody has told of.

Kept up to date as ports, reservations and owners come and go, so that what follows from one that is scaled or deleted
costs what is of it, however many ports there are. Of owners that nobody has told of only the reservations are known,
since there are few of them; the ports are looked up by their names when the owner is told of.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from ovnreserve.model.owner import possible_owners
from ovnreserve.model.reservation import Reservation
from ovnreserve.plan.identity import Identity


class Coverage:
    def __init__(self) -> None:
        self._reservations: dict[str, set[str]] = {}
        """Of each owner that they may have, known or not; only those whom an owner may concern."""
        self._covered: dict[str, set[str]] = {}
        """Ports and those reservations of each owner that is known."""
        self._emptied: set[str] = set()

    def __bool__(self) -> bool:
        """Is any owner known?"""
        return bool(self._covered)

    def of(self, owner: str) -> AbstractSet[str]:
        """The names of its ports and reservations; none of an owner that is not known."""
        return self._covered.get(owner, frozenset())

    def take_emptied(self) -> set[str]:
        """The owners of which nothing is left any more, since the last call."""
        emptied, self._emptied = self._emptied, set()
        return {owner for owner in emptied if not self.of(owner)}

    def know(self, owner: str, ports: Iterable[str]) -> None:
        """Somebody has told of the owner, whose ports these are."""
        self._covered[owner] = self._reservations.get(owner, set()).union(ports)

    def knows(self, owner: str) -> bool:
        return owner in self._covered

    def forget(self, owner: str) -> None:
        del self._covered[owner]

    def add_port(self, name: str, who: Identity) -> None:
        for owner in possible_owners(who.pod_name, who.namespace):
            if owner in self._covered:
                self._covered[owner].add(name)

    def remove_port(self, name: str, who: Identity) -> None:
        for owner in possible_owners(who.pod_name, who.namespace):
            if owner in self._covered and name not in self._reservations.get(owner, ()):
                self._discard(owner, name)

    def add_reservation(self, r: Reservation) -> None:
        for owner in _owners(r):
            self._reservations.setdefault(owner, set()).add(r.name)
            if owner in self._covered:
                self._covered[owner].add(r.name)

    def remove_reservation(self, r: Reservation, *, has_port: bool) -> None:
        for owner in _owners(r):
            names = self._reservations[owner]
            names.discard(r.name)
            if not names:
                del self._reservations[owner]
            if owner in self._covered and not has_port:
                self._discard(owner, r.name)

    def _discard(self, owner: str, name: str) -> None:
        covered = self._covered[owner]
        covered.discard(name)
        if not covered:
            self._emptied.add(owner)


def _owners(r: Reservation) -> tuple[str, ...]:
    """A missing fact keeps only what has a type, and one that is deleted has to be remembered only for that."""
    return possible_owners(r.pod_name, r.namespace) if r.pod_type or not r.reserved else ()
