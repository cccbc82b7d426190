"""The model: what one tenant was told. Only the tenant writes in it, and all read it while the tenants stand still."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple


class Held(NamedTuple):
    """A reservation. Addresses as text, empty where the subnet has none; `label` is the value of the tenant's label."""

    uid: str
    subnet: str
    v4: str
    v6: str
    mac: str
    label: str = ""

    @property
    def addresses(self) -> str:
        """As an element of `Logical_Switch_Port.addresses`."""
        return " ".join(filter(None, (self.mac, self.v4, self.v6)))


class Doubt(NamedTuple):
    """A request with an unknown outcome: what it was, what was there before, and what it asked for."""

    verb: str
    before: Held | None
    document: dict[str, Any]


LABEL = "soak"


def held_of(ip: dict[str, Any]) -> Held:
    spec, metadata = ip["spec"], ip["metadata"]
    return Held(
        metadata["uid"], spec["subnet"], spec["v4IpAddress"], spec["v6IpAddress"], spec["macAddress"],
        metadata["labels"].get(LABEL, ""),
    )  # fmt: skip


class Account:
    """Each name is in one of `held`, `released` and `doubts`, or was never used.

    `plugged` are the names whose ports are there, `wrong` what an answer has said that cannot be true. `count` has
    requests and their outcomes.
    """

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.released: set[str] = set()
        self.doubts: dict[str, Doubt] = {}
        self.plugged: set[str] = set()
        self.wrong: list[str] = []
        self.count: Counter[str] = Counter()

    def was_reserved(self, name: str, held: Held) -> None:
        self._forget(name)
        self.held[name] = held
        self.count["reservations acknowledged"] += 1

    def was_labelled(self, name: str, held: Held) -> None:
        self._forget(name)
        self.held[name] = held
        self.count["labels acknowledged"] += 1

    def was_released(self, name: str) -> None:
        """Its port goes with it."""
        self._forget(name)
        self.plugged.discard(name)
        self.released.add(name)
        self.count["releases acknowledged"] += 1

    def may_be(self, name: str, verb: str, document: dict[str, Any]) -> None:
        """The outcome of a request is unknown."""
        before = self.doubts[name].before if name in self.doubts else self.held.get(name)
        self._forget(name)
        self.doubts[name] = Doubt(verb, before, document)
        self.count["outcomes unknown"] += 1

    def settle(self, name: str, held: Held | None) -> None:
        """What was in doubt has turned out to be so."""
        verb = self.doubts[name].verb
        self._forget(name)
        if held is not None:
            self.held[name] = held
        else:
            self.released.add(name)
            if verb == "release":
                self.plugged.discard(name)

    def _forget(self, name: str) -> None:
        self.held.pop(name, None)
        self.released.discard(name)
        self.doubts.pop(name, None)
