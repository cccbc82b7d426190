"""Foreigners: other people who work on the same database, and know what they have written.

What they keep is what the database must show, byte for byte, whenever all stand still: `ports`, `tails` (the
operator's exclude_ips), and `keys` and `rows` of their own beside ours.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from typing import Any, Final, NamedTuple

from ovsdb import add_port

from bench.harness import expect
from bench.rpc import set_exclude_ips, where_name
from bench.soak.ground import NETS, Ground, Neighbour, Net, plain
from bench.soak.workers import Gate, Worker

PREFIX: Final = "foreign-"
PORTS: Final = 40
"""At most so many ports of theirs are there at once."""
_TOKENS: Final = 8
_PACE: Final = 0.03
_WITH_V4: Final = tuple(net for net in NETS if net.v4)


class Port(NamedTuple):
    """A port as its owner left it; `address` is that of a static one."""

    switch: str
    addresses: tuple[str, ...]
    external_ids: dict[str, str]
    address: str = ""


class Foreigner(Worker):
    """All the foreigners are one, so that what they want never contradicts itself."""

    def __init__(self, ground: Ground, gate: Gate, seed: int) -> None:
        super().__init__("foreigner", gate, seed, _PACE)
        self.ports: dict[str, Port] = {}
        self.tokens: dict[str, list[str]] = {net.name: [net.base] for net in _WITH_V4}
        self.switch_ids: dict[str, dict[str, str]] = {net.name: {} for net in NETS}
        self.switch_config: dict[str, dict[str, str]] = {net.name: {} for net in NETS}
        self.global_ids: dict[str, str] = {}
        self.dns: dict[str, str] = {}
        """`records` of a DNS row that is attached to a switch."""
        self.dns_row = ""
        self.count: Counter[str] = Counter()
        self.wants_overwrite = threading.Event()
        """Set by the chaos: the next step shall be one that overwrites exclude_ips."""
        self._nb = Neighbour(ground.servers)
        self._numbers = itertools.count(1)
        self._acts = (
            (self._add_static, 5), (self._add_dynamic, 5), (self._remove, 5), (self._identify, 3), (self._add_token, 4),
            (self._remove_token, 4), (self._write_key, 3), (self._write_row, 2),
        )  # fmt: skip

    def settle_in(self) -> None:
        """Before the soak: a DNS row of theirs, attached to a switch as theirs are."""
        [inserted, *_] = self._nb.transact(
            {"op": "insert", "table": "DNS", "row": {"external_ids": ["map", [["cms", "theirs"]]]}, "uuid-name": "dns"},
            {
                "op": "mutate", "table": "Logical_Switch", "where": where_name(NETS[0].name),
                "mutations": [["dns_records", "insert", ["set", [["named-uuid", "dns"]]]]],
            },
        )  # fmt: skip
        self.dns_row = inserted["uuid"][1]

    def step(self) -> None:
        if self.wants_overwrite.is_set():
            self.wants_overwrite.clear()
            self._overwrite()
            return
        acts, weights = zip(*self._acts, strict=True)
        self.dice.choices(acts, weights)[0]()

    def close(self) -> None:
        self._nb.close()

    def tail(self, switch: str) -> str:
        """The operator's text of exclude_ips."""
        return " ".join(self.tokens[switch])

    # ---- ports -----------------------------------------------------------------------------------------------------

    def _add_static(self) -> None:
        net = self.dice.choice(NETS)
        taken = {port.address for port in self.ports.values()}
        host = self.dice.randint(1, 250)
        v4, v6 = net.given_v4(4, host), f"{net.v6}4:{host:x}" if net.v6 else ""
        if (v4 or v6) not in taken:
            mac = f"0a:f0:00:00:{NETS.index(net):02x}:{host:02x}"
            self._add(net, " ".join(filter(None, (mac, v4, v6))), address=v4 or v6)

    def _add_dynamic(self) -> None:
        self._add(self.dice.choice(NETS), "dynamic")

    def _add(self, net: Net, addresses: str, address: str = "") -> None:
        if len(self.ports) >= PORTS:
            return
        name = f"{PREFIX}{next(self._numbers)}"
        absent = {
            "op": "wait", "timeout": 0, "table": "Logical_Switch_Port", "where": where_name(name),
            "columns": ["name"], "until": "==", "rows": [],
        }  # fmt: skip
        self._nb.committed(absent, *add_port(net.name, name, addresses))
        self.ports[name] = Port(net.name, (addresses,), {}, address)
        self.count["foreign ports"] += 1

    def _remove(self) -> None:
        if not self.ports:
            return
        name = self.dice.choice(sorted(self.ports))
        for row in self._nb.select("Logical_Switch_Port", where_name(name)):
            mutation = ["ports", "delete", ["set", [row["_uuid"]]]]
            where = where_name(self.ports[name].switch)
            self._nb.transact({"op": "mutate", "table": "Logical_Switch", "where": where, "mutations": [mutation]})
        del self.ports[name]

    def _identify(self) -> None:
        """Say something of a port in its external_ids."""
        if self.ports:
            name = self.dice.choice(sorted(self.ports))
            ids = {"cms/serial": str(next(self._numbers)), "cms/note": "kept, byte for byte: \"'\\ \u00e9"}
            self._update("Logical_Switch_Port", where_name(name), external_ids=["map", [*map(list, ids.items())]])
            self.ports[name] = self.ports[name]._replace(external_ids=ids)

    # ---- the operator ----------------------------------------------------------------------------------------------

    def _add_token(self) -> None:
        net = self.dice.choice(_WITH_V4)
        tokens = self.tokens[net.name]
        if len(tokens) <= _TOKENS:
            first = self.dice.randint(1, 240)
            last = self.dice.choice(("", f"..{net.given_v4(12, first + self.dice.randint(0, 8))}"))
            self._edit(net, [*tokens, net.given_v4(12, first) + last])

    def _remove_token(self) -> None:
        net = self.dice.choice(_WITH_V4)
        tokens = self.tokens[net.name]
        if len(tokens) > 1:
            at = self.dice.randrange(1, len(tokens))
            self._edit(net, [*tokens[:at], *tokens[at + 1 :]])

    def _edit(self, net: Net, tokens: list[str]) -> None:
        """A careful operator: reads, changes the end, which is his, and writes if nobody has written meanwhile."""
        before, after = self.tail(net.name), " ".join(tokens)
        while True:
            [row] = self._nb.select("Logical_Switch", where_name(net.name), "other_config")
            value = plain(row["other_config"])["exclude_ips"]
            if value.endswith(f" {after}") or value == after:
                break  # the first attempt's reply was lost
            expect(value.endswith(before), f"{net.name}: exclude_ips is {value!r}, and the operator's was {before!r}")
            unchanged = ["other_config", "includes", ["map", [["exclude_ips", value]]]]
            wait = {
                "op": "wait", "timeout": 0, "table": "Logical_Switch", "where": [*where_name(net.name), unchanged],
                "columns": ["name"], "until": "==", "rows": [{"name": net.name}],
            }  # fmt: skip
            new = value.removesuffix(before) + after
            if self._nb.committed(wait, set_exclude_ips(net.name, new)):
                break
        self.tokens[net.name] = tokens
        self.count["operator's edits"] += 1

    def _overwrite(self) -> None:
        """A careless one: sets exclude_ips to what he knows of, as configuration tools do."""
        net = self.dice.choice(_WITH_V4)
        self._nb.transact(set_exclude_ips(net.name, self.tail(net.name)))

    # ---- keys and rows beside ours ---------------------------------------------------------------------------------

    def _write_key(self) -> None:
        """By key, as we do, beside our keys."""
        net = self.dice.choice(NETS)
        key, value = f"cms/{self.dice.randint(1, 5)}", str(next(self._numbers))
        column, kept = self.dice.choice(
            (("external_ids", self.switch_ids[net.name]), ("other_config", self.switch_config[net.name]))
        )
        mutations = [[column, "delete", ["set", [key]]], [column, "insert", ["map", [[key, value]]]]]
        where = where_name(net.name)
        self._nb.transact({"op": "mutate", "table": "Logical_Switch", "where": where, "mutations": mutations})
        kept[key] = value

    def _write_row(self) -> None:
        text = str(next(self._numbers))
        if self.dice.random() < 0.5:
            self.dns = {f"host-{text}": "192.0.2.1"}
            is_theirs = [["_uuid", "==", ["uuid", self.dns_row]]]
            self._update("DNS", is_theirs, records=["map", [*map(list, self.dns.items())]])
        else:
            self.global_ids = {"cms/serial": text}
            self._update("NB_Global", [], external_ids=["map", [["cms/serial", text]]])

    def _update(self, table: str, where: list[Any], **row: Any) -> None:
        self._nb.transact({"op": "update", "table": table, "where": where, "row": row})
