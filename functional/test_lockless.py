"""With the lock out of play: two daemons work on one database at once, and only the guards keep them from harm."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from link import Link
from sites import Answer, Site
from support import wait_until
from test_failover import TAKEN_OVER, held_open, start
from test_restart import active, in_ledger, specs, state, stores_agree

from ovnreserve.cli.errors import CommandError, StatusError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from test_failover import Start

    from ovnreserve.sandbox import Servers

__all__ = ["start"]  # the fixture

SECONDS = 4.0
NAMES = 40


def both(start: Start, *options: str, **environment: str) -> tuple[Site, Site]:
    """Two that are active at once; the options are the first one's."""
    one = start("one", *options, main="functional.lockless", **environment)
    other = start("other", main="functional.lockless")
    assert (state(one), state(other)) == ("active", "active")
    return one, other


def asking(site: Site, verb: str, document: dict[str, Any], answers: list[Answer]) -> threading.Thread:
    """Ask in another thread, over another connection."""

    def ask() -> None:
        try:
            answers.extend(Site(site.servers, site.daemon).bulk(verb, [document]))
        except CommandError as error:
            answers.append(Answer("error", {}, [], {"message": str(error)}))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def give_up_deleting(site: Site, name: str) -> None:
    with pytest.raises(StatusError, match="may still be done"):
        site.new_client().request("DELETE", f"/apis/kubeovn.io/v1/ips/{name}?timeout=1")


class Held:
    """The first one's transaction, on its way for as long as the test wants."""

    def __init__(self, how: str, start: Start, servers: Servers, fifo: Path) -> None:
        self._fifo = fifo
        self._writer: int | None = None
        self._link = Link(servers).__enter__() if how == "in flight" else None
        if self._link is not None:
            self.one, self.other = both(start, "--db", self._link.remote)
        else:
            self.one, self.other = both(start, HANGS_ON=str(fifo))

    def hold(self) -> None:
        if self._link is not None:
            self._link.hold()
        else:
            os.mkfifo(self._fifo)

    def on_its_way(self) -> bool:
        if self._link is not None:
            return self._link.held_up > 0
        self._writer = self._writer or held_open(self._fifo)
        return self._writer is not None

    def release(self) -> None:
        if self._link is not None:
            self._link.mend()
        elif self._writer is not None:
            self._fifo.unlink()
            os.close(self._writer)

    def close(self) -> None:
        if self._link is not None:
            self._link.__exit__()


@pytest.fixture(params=["unsent", "in flight"])
def held(request: pytest.FixtureRequest, start: Start, servers: Servers, tmp_path: Path) -> Iterator[Held]:
    held = Held(request.param, start, servers, tmp_path / "fifo")
    yield held
    held.close()


def alone(held: Held, switch: str) -> dict[str, tuple[str, str, str]]:
    """What all stores say once the other has stopped, and what the first one has is all that there is."""
    held.other.daemon.stop()
    held.one.client.close()
    held.one.daemon.stop()
    held.release = lambda: None  # its daemon is gone
    held.one.daemon.start()
    active(held.one)
    return stores_agree(held.one, switch)


def test_a_reservation_that_comes_late_takes_neither_name_nor_address_from_another(held: Held) -> None:
    one, other = held.one, held.other
    switch = one.switch()
    kept = one.reserve(switch)
    held.hold()
    answers: list[Answer] = []
    asked = asking(one, "create", one.document(switch, "contested", v4IpAddress="10.16.0.9"), answers)
    wait_until(lambda: in_ledger(one).get("contested.default", ("", "", ""))[1] == "intended", what="the intent")
    wait_until(held.on_its_way, what="it is on its way")
    made = other.reserve(switch, "contested", v4IpAddress="10.16.0.77")
    taken = other.reserve(switch, v4IpAddress="10.16.0.9")
    assert (made.result, taken.result) == ("created", "created")
    held.release()
    asked.join()
    assert answers[0].status["reason"] in ("AlreadyExists", "Conflict"), answers[0]
    expected = specs([kept.ip, made.ip, taken.ip])
    assert stores_agree(other, switch) == expected
    assert alone(held, switch) == expected


def test_a_release_that_comes_late_does_not_take_what_another_has_made_since(held: Held) -> None:
    one, other = held.one, held.other
    switch = one.switch()
    old = one.reserve(switch, v4IpAddress="10.16.0.9")
    held.hold()
    asked = threading.Thread(target=give_up_deleting, args=(one, old.name))
    asked.start()
    wait_until(held.on_its_way, what="it is on its way")
    asked.join()  # else the request would be looked at anew, and it is by name
    other.release(old.name)
    made = other.reserve(switch, old.ip["spec"]["podName"], v4IpAddress="10.16.0.77")
    assert (made.name, made.result) == (old.name, "created")
    held.release()
    expected = specs([made.ip])
    assert stores_agree(other, switch) == expected
    assert alone(held, switch) == expected


def test_an_address_that_was_released_and_given_to_another_is_not_taken_back(held: Held) -> None:
    one, other = held.one, held.other
    switch = one.switch()
    old = one.reserve(switch, v4IpAddress="10.16.0.9")
    held.hold()
    answers: list[Answer] = []
    labelled = {**old.ip, "metadata": {**old.ip["metadata"], "labels": {"a": "b"}}}
    asked = asking(one, "apply", labelled, answers)
    wait_until(held.on_its_way, what="it is on its way")
    other.release(old.name)
    made = other.reserve(switch, v4IpAddress="10.16.0.9")
    assert made.result == "created"
    held.release()
    asked.join()
    expected = specs([made.ip])
    assert stores_agree(other, switch) == expected
    assert alone(held, switch) == expected


class Writer:
    """Applies and deletes names of its own, in a subnet it shares, and knows what was acknowledged."""

    def __init__(self, site: Site, switch: str, prefix: str, dice: random.Random) -> None:
        self.kept: dict[str, tuple[str, str, str]] = {}
        self.released: set[str] = set()
        self.refusals: list[dict[str, Any]] = []
        self._site, self._switch, self._prefix, self._dice = site, switch, prefix, dice
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._until = time.monotonic() + SECONDS
        self._thread.start()

    def join(self) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - for the thread that joins
            self._error = error

    def _work(self) -> None:
        site = Site(self._site.servers, self._site.daemon)
        while time.monotonic() < self._until:
            some = [f"{self._prefix}-{n}" for n in self._dice.sample(range(NAMES), self._dice.randint(1, 8))]
            if self._dice.random() < 0.6:
                for answer in site.bulk("apply", [site.document(self._switch, pod) for pod in some]):
                    self._note(answer)
            else:
                names = [f"{pod}.default" for pod in some if f"{pod}.default" in self.kept]
                documents = [{"kind": "IP", "metadata": {"name": name}} for name in names]
                for name, answer in zip(names, site.bulk("delete", documents), strict=True):
                    if answer.result == "deleted":
                        del self.kept[name]
                        self.released.add(name)
                    else:
                        self.refusals.append(answer.status)
                # Until it is gone, its name cannot be had again; its next port may be there already.
                wait_until(lambda names=names: not any(map(site.reserved, names)), TAKEN_OVER, what="gone")

    def _note(self, answer: Answer) -> None:
        if answer.result == "error":
            self.refusals.append(answer.status)
            return
        self.kept |= specs([answer.ip])
        self.released.discard(answer.name)


def test_two_that_write_at_random_lose_nothing_and_give_nothing_twice(start: Start) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    dice = random.Random(seed)
    one, other = both(start)
    switch = one.switch("10.16.0.0/22", exclude_ips="10.16.0.5..10.16.0.9")
    writers = [
        Writer(site, switch, prefix, random.Random(dice.random())) for site, prefix in ((one, "a"), (other, "b"))
    ]
    while any(writer._thread.is_alive() for writer in writers):
        pod = f"{dice.choice('ab')}-{dice.randrange(NAMES)}.default"
        one.nb("--may-exist", "lsp-add", switch, pod, "--", "lsp-set-addresses", pod, "dynamic")
        one.nb("--if-exists", "lsp-del", f"{dice.choice('ab')}-{dice.randrange(NAMES)}.default")
    for writer in writers:
        writer.join()
    for site in (one, other):
        site.client.close()
        site.daemon.stop()
    one.daemon.start()
    active(one)
    shown = stores_agree(one, switch, "10.16.0.5..10.16.0.9")
    kept = writers[0].kept | writers[1].kept
    released = writers[0].released | writers[1].released
    assert {name: shown.get(name) for name in kept} == kept
    assert not released & shown.keys(), "what was released has come back"
    assert shown.keys() == kept.keys()
    assert kept
    assert released
