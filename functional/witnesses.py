"""Clients that know what they were told, and whether that is so."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from stores import specs

from ovnreserve.cli.errors import CommandError, StatusError

if TYPE_CHECKING:
    import random
    import threading
    from collections.abc import Iterable

    from sites import Site

Held = dict[str, tuple[str, str, str]]
"""By name: uid, IPv4 address and MAC."""


class Crowd:
    """A client that applies, creates and deletes, in bulk and one by one, over and over, and knows what it was told.

    `held` was acknowledged, `released` too; `refused` are those of which it was told that nothing was changed, and
    `unknown` those of which it was told that they may have been done, or nothing. Whatever else it was told is in
    `surprises`: nobody else uses these names, so nothing can be in its way.
    """

    def __init__(self, site: Site, switch: str, dice: random.Random, *, most: int = 60, prefix: str = "pod") -> None:
        """`most` is how many go together at most; `prefix` begins the names of all Pods."""
        self.held: Held = {}
        self.created = 0
        self.released: set[str] = set()
        self.refused: set[str] = set()
        self.unknown: set[str] = set()
        self.surprises: list[dict[str, Any]] = []
        self._site, self._switch, self._dice, self._most, self._prefix = site, switch, dice, most, prefix
        self._numbers = itertools.count(1)
        self._client = site.new_client()

    def run(self, enough: threading.Event | None = None) -> None:
        """Until there is enough, or the daemon is gone. Where the database is away, it asks less often."""
        try:
            while enough is None or not enough.is_set():
                refused = len(self.refused)
                self._apply()
                self._delete()
                if enough is not None and len(self.refused) > refused:
                    enough.wait(0.05)
        except CommandError as error:
            if enough is not None:
                self.surprises.append({"error": str(error)})
        finally:
            self._client.close()

    def learn(self, shown: Held) -> None:
        """What nobody was told of is known now."""
        self.held = {name: shown[name] for name in shown if name in self.held or name in self.unknown}
        self.unknown.clear()

    def _apply(self) -> None:
        pods = (f"{self._prefix}-{self._most}-{next(self._numbers)}" for _ in range(self._dice.randint(1, self._most)))
        documents = [self._site.document(self._switch, pod) for pod in pods]
        names = [document["metadata"]["name"] for document in documents]
        self.unknown.update(names)
        for name, result in zip(names, self._ask("apply", documents), strict=True):
            if result["result"] == "created":
                self.held |= specs([result["object"]])
                self.created += 1
                self.unknown.discard(name)
            elif self._refused(name, result):
                self.refused.add(name)

    def _delete(self) -> None:
        some = self._dice.sample(sorted(self.held), len(self.held) // 3)[: self._most]
        before = {name: self.held.pop(name) for name in some}
        self.unknown.update(some)
        results = self._ask("delete", [{"kind": "IP", "metadata": {"name": name}} for name in some])
        for name, result in zip(some, results, strict=True):
            if result["result"] == "deleted":
                self.released.add(name)
                self.unknown.discard(name)
            elif self._refused(name, result):
                self.held[name] = before[name]

    def _refused(self, name: str, result: dict[str, Any]) -> bool:
        """Was it told that nothing was changed?"""
        status = result.get("status", {})
        if status.get("code") == 503 and "nothing was changed" in status["message"]:
            self.unknown.discard(name)
            return True
        if status.get("code") != 504:
            self.surprises.append(result)
        return False

    def _ask(self, verb: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One alone goes the way of kubectl."""
        if len(items) != 1:
            return self._client.post("/apis/ovnreserve.io/v1/bulk", {"verb": verb, "items": items})["results"]
        [item] = items
        try:
            if verb == "apply":
                return [{"result": "created", "object": self._client.post("/apis/kubeovn.io/v1/ips", item)}]
            self._client.request("DELETE", f"/apis/kubeovn.io/v1/ips/{item['metadata']['name']}")
        except StatusError as error:
            return [{"result": "error", "status": error.status}]
        return [{"result": "deleted"}]


def told_the_truth(crowds: Iterable[Crowd], shown: Held) -> None:
    """Of `shown`, what all stores say, each crowd was told the truth, and nobody else has anything."""
    known: set[str] = set()
    for crowd in crowds:
        assert not crowd.surprises
        assert {name: shown.get(name) for name in crowd.held} == crowd.held
        assert not crowd.released & shown.keys(), "what was released is back"
        assert not crowd.refused & shown.keys(), "what was refused is there"
        known |= crowd.held.keys() | crowd.unknown
    assert shown.keys() <= known
