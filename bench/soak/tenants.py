"""Tenants: each reserves, plugs, labels and releases under names of its own, and keeps account of what it was told."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from ovsdb import add_port

from bench.soak.account import LABEL, Account, Held, held_of
from bench.soak.asking import BULK, IPS, Asker, Refused, Unknown
from bench.soak.ground import NETS, Ground, Neighbour, Net, socket_of
from bench.soak.workers import Gate, Worker

NAMES: Final = 60
LIVE: Final = 30
"""A tenant has so many names, and keeps at most about so many reserved: the live set is bounded, so memory can be."""
_BULK: Final = 12
_PACE: Final = 0.01
_NORTHD_CHOOSES: Final = 1.0
"""Seconds that a tenant waits for ovn-northd to choose before it has its port adopted."""

_SPECIAL_MAC: Final = "0a:50:a0"


class Tenant(Worker):
    def __init__(self, number: int, ground: Ground, gate: Gate, seed: int, acknowledged: list[float]) -> None:
        """The monotonic times of what is acknowledged go to `acknowledged`."""
        super().__init__(f"tenant {number}", gate, seed, _PACE)
        self.account = Account()
        self._number = number
        self._names = [f"t{number}-{i}.soak" for i in range(NAMES)]
        self._asker = Asker([socket_of(daemon) for daemon in ground.daemons])
        self._nb = Neighbour(ground.servers)
        self._acknowledged = acknowledged
        self._serial = 0
        self._acts: tuple[tuple[Callable[[], None], int], ...] = (
            (self._reserve, 6), (self._reserve_many, 2), (self._adopt, 2), (self._plug, 5), (self._unplug, 2),
            (self._label, 3), (self._release, 4), (self._release_many, 1), (self._ask_again, 6),
        )  # fmt: skip

    @property
    def told_no(self) -> int:
        return self._asker.told_no

    def step(self) -> None:
        acts, weights = zip(*self._acts, strict=True)
        self.dice.choices(acts, weights)[0]()

    def close(self) -> None:
        self._asker.close()
        self._nb.close()

    # ---- requests --------------------------------------------------------------------------------------------------

    def _reserve(self) -> None:
        name = self._free_name()
        if name is not None:
            self._apply(self._document(name), create=self.dice.random() < 0.5)

    def _reserve_many(self) -> None:
        room = min(_BULK, LIVE - len(self.account.held))
        free = self._free_names()
        if room > 1 and len(free) >= room:
            self._bulk("apply", [self._document(name) for name in self.dice.sample(free, self.dice.randint(2, room))])

    def _release(self) -> None:
        name = self._held_name()
        if name is not None:
            self._delete(name)

    def _release_many(self) -> None:
        held = sorted(self.account.held)
        some = self.dice.sample(held, min(len(held) // 2, _BULK))
        if some:
            self._bulk("delete", [{"kind": "IP", "metadata": {"name": name}} for name in some])

    def _label(self) -> None:
        name = self._held_name()
        if name is None:
            return
        self._serial += 1
        document = {"metadata": {"labels": {LABEL: str(self._serial)}}}
        try:
            answer = self._asked("PATCH", f"{IPS}/{name}", document)
        except Unknown:
            self.account.may_be(name, "label", document)
        except Refused as refused:
            self.account.wrong.append(f"lost: {name} was acknowledged, and a new label answered with: {refused}")
        else:
            self._is_same(name, held_of(answer))
            self.account.was_labelled(name, held_of(answer))

    def _ask_again(self) -> None:
        """As clients do that were not answered. What is refused then stays in doubt until it is looked up."""
        doubts = [name for name, doubt in sorted(self.account.doubts.items()) if doubt.verb != "label"]
        if not doubts:
            return
        name = self.dice.choice(doubts)
        doubt = self.account.doubts[name]
        if doubt.verb == "release":
            self._delete(name)
        else:
            self._apply(doubt.document, create=False)

    def _apply(self, document: dict[str, Any], *, create: bool) -> Held | None:
        """What was acknowledged."""
        name = document["metadata"]["name"]
        try:
            if create:
                answer = self._asked("POST", IPS, document)
            else:
                [result] = self._asked("POST", BULK, {"verb": "apply", "items": [document]})["results"]
                if result["result"] == "error":
                    self._refused(name, "reserve", document, result["status"])
                    return None
                answer = result["object"]
        except Unknown:
            self.account.may_be(name, "reserve", document)
            return None
        except Refused as refused:
            self.account.count[f"refused {refused.code}"] += 1
            return None
        held = held_of(answer)
        self._is_asked(name, held, document)
        self.account.was_reserved(name, held)
        return held

    def _delete(self, name: str) -> None:
        try:
            self._asked("DELETE", f"{IPS}/{name}")
        except Unknown:
            self.account.may_be(name, "release", {})
        except Refused as refused:
            if refused.code == 404 and name in self.account.doubts:
                self.account.was_released(name)
            elif refused.code == 404:
                self.account.wrong.append(f"lost: {name} was acknowledged, and its release answered with: {refused}")
            else:
                self.account.wrong.append(f"wrong: the release of {name} was refused: {refused}")
        else:
            self.account.was_released(name)

    def _bulk(self, verb: str, items: list[dict[str, Any]]) -> None:
        meant = "reserve" if verb == "apply" else "release"
        try:
            results = self._asked("POST", BULK, {"verb": verb, "items": items})["results"]
        except Unknown:
            for item in items:
                self.account.may_be(item["metadata"]["name"], meant, item)
            return
        for item, result in zip(items, results, strict=True):
            name = item["metadata"]["name"]
            if result["result"] == "error":
                self._refused(name, meant, item, result["status"])
            elif verb == "delete":
                self.account.was_released(name)
            else:
                held = held_of(result["object"])
                self._is_asked(name, held, item)
                self.account.was_reserved(name, held)

    def _refused(self, name: str, verb: str, document: dict[str, Any], status: dict[str, Any]) -> None:
        """One item of a bulk request was."""
        if status["code"] == 504:
            self.account.may_be(name, verb, document)
        elif verb == "release" and status["code"] == 404:
            self.account.wrong.append(f"lost: {name} was acknowledged, and its release: {status['message']}")
        else:
            self.account.count[f"refused {status['code']}"] += 1

    def _asked(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        self.account.count["requests"] += 1
        answer = self._asker.ask(method, path, body)
        self._acknowledged.append(time.monotonic())
        return answer

    def _is_asked(self, name: str, held: Held, document: dict[str, Any]) -> None:
        """Was it given what it asked for?"""
        spec = document["spec"]
        asked = Held("", spec["subnet"], spec.get("v4IpAddress", ""), spec.get("v6IpAddress", ""), spec["macAddress"])
        for field in ("subnet", "v4", "v6", "mac"):
            if getattr(asked, field) not in ("", getattr(held, field)):
                self.account.wrong.append(f"wrong: {name} asked for {asked}, was given {held}")

    def _is_same(self, name: str, now: Held) -> None:
        was = self.account.held[name]
        if was._replace(label="") != now._replace(label=""):
            self.account.wrong.append(f"lost: {name} was acknowledged as {was}, and labelled as {now}")

    # ---- ports -----------------------------------------------------------------------------------------------------

    def _plug(self) -> None:
        """The workload comes: the port of a reservation, to be bound."""
        bare = sorted(self.account.held.keys() - self.account.plugged)
        if bare:
            name = self.dice.choice(bare)
            self._add_port(self.account.held[name].subnet, name, *self.dice.choice((("dynamic",), ())))

    def _unplug(self) -> None:
        """The workload goes; its reservation stays."""
        there = sorted(self.account.plugged - self.account.doubts.keys())
        if there:
            self._remove_port(self.dice.choice(there))

    def _adopt(self) -> None:
        """A running dynamic port is reserved as it is: with whatever ovn-northd chose, if it has."""
        name = self._free_name()
        if name is None:
            return
        net = self.dice.choice(NETS)
        self._add_port(net.name, name, "dynamic")
        chosen = self._chosen(name)
        held = self._apply(self._document(name, net, given=False), create=True)
        if held is None and name not in self.account.doubts:
            self._remove_port(name)
        elif held is not None and chosen and held.addresses != chosen:
            self.account.wrong.append(f"foreign: {name} was running on {chosen} and was adopted as {held.addresses}")

    def _chosen(self, name: str) -> str:
        until = time.monotonic() + _NORTHD_CHOOSES
        while time.monotonic() < until:
            [row] = self._nb.select("Logical_Switch_Port", [["name", "==", name]], "dynamic_addresses")
            if isinstance(row["dynamic_addresses"], str):
                return row["dynamic_addresses"]
            time.sleep(0.01)
        return ""

    def _add_port(self, switch: str, name: str, *addresses: str) -> None:
        absent = {
            "op": "wait", "timeout": 0, "table": "Logical_Switch_Port", "where": [["name", "==", name]],
            "columns": ["name"], "until": "==", "rows": [],
        }  # fmt: skip
        self._nb.committed(absent, *add_port(switch, name, *addresses))
        self.account.plugged.add(name)
        self.account.count["ports plugged"] += 1

    def _remove_port(self, name: str) -> None:
        for row in self._nb.select("Logical_Switch_Port", [["name", "==", name]]):
            uuid = row["_uuid"]
            where = [["ports", "includes", ["set", [uuid]]]]
            mutation = ["ports", "delete", ["set", [uuid]]]
            self._nb.transact({"op": "mutate", "table": "Logical_Switch", "where": where, "mutations": [mutation]})
        self.account.plugged.discard(name)

    # ---- choices ---------------------------------------------------------------------------------------------------

    def _free_names(self) -> list[str]:
        """Neither reserved nor in doubt."""
        used = self.account.held.keys() | self.account.doubts.keys() | self.account.plugged
        return [name for name in self._names if name not in used]

    def _free_name(self) -> str | None:
        free = self._free_names()
        return self.dice.choice(free) if free and len(self.account.held) < LIVE else None

    def _held_name(self) -> str | None:
        return self.dice.choice(sorted(self.account.held)) if self.account.held else None

    def _document(self, name: str, net: Net | None = None, *, given: bool = True) -> dict[str, Any]:
        """Automatic or, half of the time where it may be, given addresses and sometimes a given MAC."""
        dice = self.dice
        net = net or dice.choice(NETS)
        spec = {"podName": name.partition(".")[0], "namespace": "soak", "podType": "", "subnet": net.name}
        spec |= {"macAddress": "", "v4IpAddress": "", "v6IpAddress": ""}
        if given and dice.random() < 0.5:
            if net.v4 and dice.random() < 0.8:
                spec["v4IpAddress"] = net.given_v4(dice.choice((8, 8, 8, 12)), dice.randint(1, 240))
            if net.v6 and dice.random() < 0.8:
                spec["v6IpAddress"] = f"{net.v6}8:{dice.randint(1, 4000):x}"
            if dice.random() < 0.3:
                spec["macAddress"] = f"{_SPECIAL_MAC}:{self._number:02x}:{dice.randrange(256):02x}:01"
        metadata = {"name": name, "labels": {LABEL: "new"}}
        return {"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": metadata, "spec": spec}
