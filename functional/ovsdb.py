"""A small OVSDB client of other people (RFC 7047): it sends what it is told, and watches who says what in order."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovnreserve.sandbox import Servers

DATABASE = "OVN_Northbound"


class Connection:
    """One connection to the northbound database. Not to be shared by threads."""

    def __init__(self, servers: Servers) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(servers.nb.removeprefix("unix:"))
        self._socket.settimeout(30)
        self._text = ""
        self._ids = itertools.count()
        self._decode = json.JSONDecoder().raw_decode

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, method: str, *params: Any) -> int:
        """Send a request and do not wait; its id."""
        id_ = next(self._ids)
        self._write({"method": method, "params": params, "id": id_})
        return id_

    def transact(self, *operations: dict[str, Any]) -> list[Any]:
        """The result of each operation, and perhaps of the commit."""
        id_ = self.send("transact", DATABASE, *operations)
        return next(m["result"] for m in self.messages() if m.get("id") == id_ and "method" not in m)

    def committed(self, *operations: dict[str, Any]) -> bool:
        """Were they carried out? False if one of their `wait` failed."""
        errors = [result for result in self.transact(*operations) if result and "error" in result]
        assert all(error["error"] == "timed out" for error in errors), errors
        return not errors

    def messages(self) -> Iterator[dict[str, Any]]:
        """Whatever comes, for ever."""
        while True:
            try:
                message, end = self._decode(self._text)
            except ValueError:
                more = self._socket.recv(1 << 16)
                if not more:
                    raise ConnectionError("the server has closed the connection") from None
                self._text += more.decode()
                continue
            self._text = self._text[end:].lstrip()
            if message.get("method") == "echo":
                self._write({"id": message["id"], "result": message["params"], "error": None})
            else:
                yield message

    def _write(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode())


def add_port(switch: str, name: str, *addresses: str) -> list[dict[str, Any]]:
    """The operations of `lsp-add` and `lsp-set-addresses`."""
    row = {"name": name, "addresses": ["set", list(addresses)]}
    return [
        {"op": "insert", "table": "Logical_Switch_Port", "row": row, "uuid-name": "port"},
        {
            "op": "mutate", "table": "Logical_Switch", "where": [["name", "==", switch]],
            "mutations": [["ports", "insert", ["named-uuid", "port"]]],
        },
    ]  # fmt: skip


class Seen(NamedTuple):
    """A port as some transaction left it."""

    name: str
    addresses: frozenset[str]
    dynamic_addresses: str


class Witness:
    """Sees every state of every port, in the order in which the database had them."""

    def __init__(self, servers: Servers) -> None:
        self.history: list[Seen] = []
        self.ports: dict[str, Seen] = {}
        """Each port as it is now, by name."""
        self._connection = Connection(servers)
        self._stopping = False
        columns = {"columns": ["name", "addresses", "dynamic_addresses"]}
        self._connection.send("monitor", DATABASE, "ports", {"Logical_Switch_Port": columns})
        self._messages = self._connection.messages()
        self._take(next(self._messages)["result"])
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._connection.send("echo", "enough")
        self._thread.join()
        self._connection.close()

    def addresses_of(self, name: str) -> list[str]:
        """Each address the port was ever given, static or dynamic, in order and without repetitions."""
        found: list[str] = []
        for seen in self.history:
            if seen.name == name:
                for text in (*seen.addresses, seen.dynamic_addresses):
                    found += [word for word in text.split() if "." in word and word not in found]
        return found

    def moved(self) -> dict[str, list[str]]:
        """The ports that had more than one address in their lives."""
        names = {seen.name for seen in self.history}
        return {name: addresses for name in names if len(addresses := self.addresses_of(name)) > 1}

    def settled(self, switch_ports: int) -> None:
        """Wait until so many ports have an address."""
        wait_until(
            lambda: sum(bool(self.addresses_of_now(port)) for port in list(self.ports.values())) >= switch_ports,
            timeout=20,
            what=f"{switch_ports} ports have an address",
        )

    @staticmethod
    def addresses_of_now(seen: Seen) -> list[str]:
        return [word for text in (*seen.addresses, seen.dynamic_addresses) for word in text.split() if "." in word]

    def _watch(self) -> None:
        for message in self._messages:
            if message.get("method") == "update":
                self._take(message["params"][1])
            elif self._stopping:
                return

    def _take(self, updates: dict[str, Any]) -> None:
        for update in updates.get("Logical_Switch_Port", {}).values():
            row = update.get("new")
            if row is None:
                self.ports.pop(update["old"]["name"], None)
                continue
            [dynamic] = _members(row["dynamic_addresses"]) or [""]
            seen = Seen(row["name"], frozenset(_members(row["addresses"])), dynamic)
            self.history.append(seen)
            self.ports[seen.name] = seen


def _members(value: Any) -> list[str]:
    return value[1] if isinstance(value, list) else [value]
