"""Coverage: the ports and reservations of each owner that somebody has told of.

Kept up to date as ports, reservations and owners come and go, so that what follows from one that is scaled or deleted
costs what is of it, however many ports there are. Who has no owners pays nothing: the ports are gone through once, when
the first owner is told of, and followed from then on. They are not looked up by names that the owner's pods may have:
each CMS names them in its own way, and a set that grows has pods that it had none for before.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from ovnreserve.model.owner import possible_owners
from ovnreserve.model.reservation import Reservation
from ovnreserve.plan.identity import Identity

_NOTHING: Final[AbstractSet[str]] = frozenset()


class Coverage:
    def __init__(self) -> None:
        self._known: set[str] = set()
        self._reservations: dict[str, set[str]] = {}
        """Of each owner that they may have, known or not; only those whom an owner may concern."""
        self._ports: dict[str, set[str]] = {}
        """Of each owner that they may have, known or not."""
        self._owners: dict[str, tuple[str, ...]] = {}
        """By port: under whom it stands, whatever has become of its switch meanwhile."""
        self.follows_ports = False
        self._emptied: set[str] = set()

    def of(self, owner: str) -> AbstractSet[str]:
        """The names of its ports and reservations; none of an owner that is not known."""
        if owner not in self._known:
            return _NOTHING
        ports, reservations = self._ports.get(owner, _NOTHING), self._reservations.get(owner, _NOTHING)
        return ports | reservations if ports and reservations else ports or reservations

    def take_emptied(self) -> set[str]:
        """The owners of which nothing is left any more, since the last call."""
        emptied, self._emptied = self._emptied, set()
        return {owner for owner in emptied if not self.of(owner)}

    def know(self, owner: str) -> None:
        """Somebody has told of the owner."""
        self._known.add(owner)

    def forget(self, owner: str) -> None:
        self._known.discard(owner)

    def follow_ports(self, ports: Iterable[tuple[str, Identity]]) -> None:
        """From now on every port is added and removed; these are there."""
        self.follows_ports = True
        for name, who in ports:
            self.add_port(name, who)

    def add_port(self, name: str, who: Identity) -> None:
        """Also one whose identity has changed."""
        self.remove_port(name)
        owners = possible_owners(who.pod_name, who.namespace)
        if owners:
            self._owners[name] = owners
        for owner in owners:
            self._ports.setdefault(owner, set()).add(name)

    def remove_port(self, name: str) -> None:
        for owner in self._owners.pop(name, ()):
            self._discard(self._ports, owner, name)

    def add_reservation(self, r: Reservation) -> None:
        for owner in _owners(r):
            self._reservations.setdefault(owner, set()).add(r.name)

    def remove_reservation(self, r: Reservation) -> None:
        for owner in _owners(r):
            self._discard(self._reservations, owner, r.name)

    def _discard(self, index: dict[str, set[str]], owner: str, name: str) -> None:
        names = index[owner]
        names.discard(name)
        if not names:
            del index[owner]
            if owner in self._known:
                self._emptied.add(owner)


def _owners(r: Reservation) -> tuple[str, ...]:
    """A missing fact keeps only what has a type, and one that is deleted has to be remembered only for that."""
    return possible_owners(r.pod_name, r.namespace) if r.pod_type or not r.reserved else ()
