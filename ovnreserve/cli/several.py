"""Several servers of which one is active: `--server a,b`.

Whoever is active is found by asking each for its status, and remembered for as long as this process runs. Reads go to
it too, else to whoever answers: a standby has everything as well. Writes go to the active one only, and during a
fail-over, while there is none, they wait for one.

A write may have been sent when its server falls silent, and then nobody knows what became of it. What is asked again of
the next server depends on the verb (`judge`):

    apply       again: by name, so that it comes to the same. It says `unchanged` where the first try had created
    delete      again: by name; what the next one does not know is gone, which is what was wanted
    create      again; should it be there by then, it is looked at. The same as was asked for: taken for ours, with a
                warning, since another may have created the very same. Anything else: AlreadyExists
    others      PATCH, PUT and DELETE again, POST not: its error says that the outcome is unknown

While an answer is awaited, the others are asked every second whether one of them has become active, so that a server
that hangs is left as soon as it has lost the lock.
"""

from __future__ import annotations

import time
from functools import partial

from ovnreserve.cli.client import PATIENCE, Client
from ovnreserve.cli.errors import CommandError, StatusError, UnreachableError, printable
from ovnreserve.cli.resources import BY_KIND, metadata, name_of, section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    Item = dict[str, Any]

PERSISTENCE = 30.0  # seconds that a write looks for an active server, as long as `apply --timeout`
GLANCE = 1.0  # seconds that a server has to say its status, which takes milliseconds
_PAUSE = 0.1
_STATUS = "/apis/ovnreserve.io/v1/status"

DONE, AGAIN, DOUBT, GONE, THERE = "done", "again", "doubt", "gone", "there"


def judge(verb: str, result: Item, *, doubted: bool) -> str:
    """What the result of one item of a bulk request means, given whether an earlier try of it had an unknown outcome.

    `done`: it stands. `again`: nothing was changed, another server may do it. `doubt`: the outcome is unknown.
    `gone`, `there`: it is as if an earlier try of ours had deleted, had created it.
    """
    if result.get("result") != "error":
        return DONE
    reason = section(result, "status").get("reason")
    if reason == "ServiceUnavailable":
        return AGAIN
    if reason == "Timeout":
        return DOUBT
    if doubted and (verb, reason) == ("delete", "NotFound"):
        return GONE
    if doubted and (verb, reason) == ("create", "AlreadyExists"):
        return THERE
    return DONE


def is_as_asked(document: Item, found: Item) -> bool:
    """Does the object say all that the document does? Two notations of one value count as different. What is absent,
    null or empty asks for nothing, but for the empty podType, which is one.
    """
    asked, there = metadata(document), metadata(found)
    spec = section(document, "spec")
    wanted = {field: value for field, value in spec.items() if value or (field == "podType" and value == "")}
    return _covers(wanted, section(found, "spec")) and all(
        _covers(section(asked, key), section(there, key)) for key in ("labels", "annotations")
    )


def _covers(asked: Item, there: Item) -> bool:
    return all(there.get(key) == value for key, value in asked.items())


def preferred(states: Mapping[str, str]) -> str:
    """Whom to read from: the server that is active, else the first that answers (has a state), else none."""
    answering = [address for address, state in states.items() if state]
    return next((address for address in answering if states[address] == "active"), answering[0] if answering else "")


class Errand:
    """A bulk request on its way from server to server. `left` are the places of items that still have to be asked for,
    `doubted` those of which a try may have succeeded; `results` has an empty one for what nobody has answered yet.
    """

    def __init__(self, verb: str, items: list[Item]) -> None:
        self.verb = verb
        self.items = items
        self.results: list[Item] = [{}] * len(items)
        self.left = list(range(len(items)))
        self.doubted: set[int] = set()

    def to_ask(self) -> list[Item]:
        return [self.items[index] for index in self.left]

    def fell_silent(self) -> None:
        """A server was asked, and there is no answer."""
        self.doubted.update(self.left)

    def take(self, answers: list[Item], look: Callable[[Item], Item | None]) -> str:
        """Note the answers to what was asked. `look` fetches what is there under a document's name. Returns why some
        are left, if any are.
        """
        why = ""
        still: list[int] = []
        for index, answer in zip(self.left, answers, strict=True):
            self.results[index] = answer
            verdict = judge(self.verb, answer, doubted=index in self.doubted)
            if verdict in (AGAIN, DOUBT):
                still.append(index)
                why = str(section(answer, "status").get("message") or "") or verdict
            if verdict == DOUBT:
                self.doubted.add(index)
            elif verdict == GONE:
                self.results[index] = {"result": "deleted"}
            elif verdict == THERE:
                found = look(self.items[index])
                if found is not None and is_as_asked(self.items[index], found):
                    self.results[index] = {"result": "created", "object": found, "warnings": [_taken_for_ours(found)]}
        self.left = still
        return why

    def give_up(self, what: str) -> None:
        """Let each item have a result: time is up."""
        for index in self.left:
            doubted = index in self.doubted
            reason = "Timeout" if doubted else "ServiceUnavailable"
            message = f"{'the outcome is unknown' if doubted else 'nothing was changed'}: {what}"
            self.results[index] = self.results[index] or {
                "result": "error",
                "status": {"reason": reason, "message": message},
            }


def _taken_for_ours(found: Item) -> str:
    name = metadata(found).get("name")
    return f"{name}: a server fell silent while it was being created; it is there as asked, and is taken for ours"


class Several(Client):
    """Is asked like one server. `persistence`: seconds that a write looks for one that does it."""

    def __init__(self, addresses: list[str], warn: Callable[[str], None], persistence: float) -> None:
        self.address = ",".join(addresses)
        self.patience = PATIENCE
        self.persistence = persistence
        self._members = {address: Client(address, warn) for address in addresses}
        self._active: Client | None = None
        self._said = dict.fromkeys(addresses, "not asked")
        for member in self._members.values():
            member.while_waiting = partial(self._look_elsewhere, member)

    def close(self) -> None:
        for member in self._members.values():
            member.close()

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        return self._read(path) if method == "GET" else self._write(method, path, body)

    def download(self, path: str) -> Iterator[bytes]:
        """From one of them: what it has begun is not taken up by another."""
        member = self._active or self._readable()
        if member is None:
            raise self._nobody("none of them answers")
        member.patience = self.patience
        return member.download(path)

    def bulk(self, verb: str, items: list[Item], query: str = "") -> list[Item]:
        until = time.monotonic() + self.persistence
        errand = Errand(verb, items)
        while True:
            trouble = None
            try:
                self._run(errand, query, until)
            except UnreachableError as error:
                trouble = error
            if not errand.left:
                return errand.results
            if time.monotonic() >= until:
                break
            time.sleep(_PAUSE)
        if trouble is not None and not any(errand.results):
            trouble.doubtful = bool(errand.doubted)
            raise trouble
        errand.give_up(str(trouble.what if trouble is not None else "time is up"))
        return errand.results

    def _run(self, errand: Errand, query: str, until: float) -> None:
        """Ask the active server for what is left."""
        member = self._find(until)
        try:
            answers = member.bulk(errand.verb, errand.to_ask(), query)
        except UnreachableError as error:
            if error.doubtful:
                errand.fell_silent()
            self._lost(member, error.what)
            raise
        except StatusError as error:
            if not error.unavailable:
                raise
            self._lost(member, error.message)
            raise UnreachableError(member.address, error.message) from error
        why = errand.take(answers, partial(_fetch, member))
        if why:
            self._lost(member, why)

    def _write(self, method: str, path: str, body: object) -> dict[str, Any]:
        until = time.monotonic() + self.persistence
        while True:
            member = self._find(until)
            try:
                return member.request(method, path, body)
            except UnreachableError as error:
                self._lost(member, error.what)
                if time.monotonic() >= until or (error.doubtful and method == "POST"):
                    raise
            except StatusError as error:
                if time.monotonic() >= until or not error.unavailable:
                    raise
                self._lost(member, error.message)
            time.sleep(_PAUSE)

    def _read(self, path: str) -> dict[str, Any]:
        for _ in self._members:
            member = self._active or self._readable()
            if member is None:
                break
            try:
                member.patience = self.patience
                return member.get(path)
            except UnreachableError as error:
                self._lost(member, error.what)
        raise self._nobody("none of them answers")

    def _readable(self) -> Client | None:
        states = {address: self._state(member) for address, member in self._members.items()}
        member = self._members.get(preferred(states))
        if member is not None and states[member.address] == "active":
            self._active = member
        return member

    def _find(self, until: float) -> Client:
        """The active server, as soon as there is one."""
        while self._active is None:
            self._active = next((m for m in self._members.values() if self._state(m) == "active"), None)
            if self._active is None:
                if time.monotonic() >= until:
                    raise self._nobody(f"none of them has become active within {self.persistence:g} s")
                time.sleep(_PAUSE)
        self._active.patience = self.patience
        return self._active

    def _state(self, member: Client) -> str:
        """What the server says that it is; empty where it does not answer."""
        member.patience = GLANCE
        try:
            status = member.get(_STATUS)
        except CommandError as error:
            self._said[member.address] = error.what if isinstance(error, UnreachableError) else str(error)
            return ""
        state, writer = str(status.get("state") or ""), status.get("writer")
        problem = section(status, "database").get("problem")
        more = f": {problem}" if problem else f"; {writer} wrote last" if writer else ""
        self._said[member.address] = state + more
        return state

    def _look_elsewhere(self, waiting_for: Client) -> None:
        """While one keeps us waiting: has another become active?"""
        for member in self._members.values():
            if member is not waiting_for and self._state(member) == "active":
                self._active = member
                what = f"no answer, and {member.address} is active now; the outcome is unknown"
                raise UnreachableError(waiting_for.address, what, doubtful=True)

    def _lost(self, member: Client, why: str) -> None:
        self._said[member.address] = why
        if self._active is member:
            self._active = None

    def _nobody(self, what: str) -> UnreachableError:
        said = "\n".join(f"  {printable(address)}: {printable(why)}" for address, why in self._said.items())
        return UnreachableError(self.address, what, said)


def _fetch(member: Client, document: Item) -> Item | None:
    kind = BY_KIND.get(str(document.get("kind")))
    try:
        return None if kind is None else member.get(kind.path(name_of(document)))
    except CommandError:
        return None
