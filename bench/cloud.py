"""Where ports are many: a northbound database as kube-ovn leaves it, 100 ports to a switch, and who follows it.

A private OVN without ovn-northd, which would take the CPU for itself; where a daemon waits for it, we say that it has
seen all. Each switch has a /20 and leads to one router. Half of the ports are static, the others are dynamic and have
what ovn-northd chose for them. The same numbers of IPs are reserved and of pods are a StatefulSet's whatever the number
of ports is, so that two clouds differ in ports only.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple, Self

from bench.harness import BenchError, expect
from bench.rpc import Rpc, where_name
from bench.site import Ours, document, dotted
from ovnreserve.sandbox import Daemon, Servers

DAEMON = ("-m", "ovnreserve.daemon")
PER_SWITCH = 100
RESERVED = 200
"""So many IPs are reserved: every other one for a port that is there."""
SETS, REPLICAS = 10, 20
"""Of StatefulSets; each of their pods is there."""
KEPT = "kept"
"""The StatefulSet of the pods that come and go while it is measured."""
_NAMESPACE = "bench"
_CHUNK = 200
_MOVED = 1000
"""By how much an address grows when it is changed."""
_PATIENCE = 60.0
_PORT = "Logical_Switch_Port"
_STATEFUL_SETS = f"/apis/apps/v1/namespaces/{_NAMESPACE}/statefulsets"
_EVERYTHING = "/apis/kubeovn.io/v1/ips"


class Port(NamedTuple):
    """One of the measured ones or of those that were there before. `address` is an integer."""

    name: str
    switch: str
    address: int
    dynamic: bool

    @property
    def pod(self) -> str:
        return self.name.removesuffix(f".{_NAMESPACE}")

    @property
    def elsewhere(self) -> Port:
        return self._replace(address=self.address + _MOVED)

    @property
    def addresses(self) -> dict[str, Any]:
        """The columns that say what it has."""
        has = (
            f"0a:00:{':'.join(f'{self.address >> shift & 255:02x}' for shift in (24, 16, 8, 0))} {dotted(self.address)}"
        )
        return {"addresses": "dynamic", "dynamic_addresses": has} if self.dynamic else {"addresses": has}


def _network(switch: int) -> int:
    return (10 << 24) + (switch << 12)


def there_before(count: int) -> list[Port]:
    """The first of them are the StatefulSets', `RESERVED // 2` of the others are reserved."""
    members = [f"set{i}-{ordinal}" for ordinal in range(REPLICAS) for i in range(SETS)]
    pods = itertools.chain(members, (f"web-5d4f8b7c9-{_letters(i)}" for i in itertools.count()))
    return [
        Port(
            f"{pod}.{_NAMESPACE}", f"ls{at // PER_SWITCH}", _network(at // PER_SWITCH) + 2 + at % PER_SWITCH, at % 2 > 0
        )
        for at, pod in zip(range(count), pods, strict=False)
    ]


def measured(prefix: str, count: int, switches: int) -> list[Port]:
    """Ports that come, and go again: spread over all switches."""
    above = 2 + PER_SWITCH + (200 if prefix == KEPT else 0)
    return [
        Port(
            f"{prefix}-{i}.{_NAMESPACE}", f"ls{i % switches}", _network(i % switches) + above + i // switches, i % 2 > 0
        )
        for i in range(count)
    ]


def _letters(number: int) -> str:
    """A name's last part that is no ordinal."""
    return "".join(chr(ord("a") + number // 26**place % 26) for place in range(5))


class Cloud:
    """A northbound database of `ports` ports, and our daemon on it while `started`. Use as a context.

    With `tree` the daemon is that directory's: one of before StatefulSets were known. `program` is what Python is to
    run in the daemon's place. `after` is called after each change.
    """

    def __init__(self, ports: int, tree: str = "", program: Sequence[str] = ()) -> None:
        fewest = SETS * REPLICAS + RESERVED
        expect(ports >= fewest, f"{ports} ports: at least {fewest} are needed, for those that are reserved or retained")
        self.tree = tree
        self.after: Callable[[], None] = lambda: None
        self._program = program or (_of_tree(tree) if tree else DAEMON)
        self.ports = there_before(ports)
        self.switches = max(1, ports // PER_SWITCH)
        self._count = ports
        """How many ports there are now."""
        self._uuids: dict[str, list[str]] = {}
        """Of the ports that came, as OVSDB writes them."""
        self.marked = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self.servers = self._stack.enter_context(Servers())
            self.servers.northd.stop()
            self.rpc = self._stack.enter_context(closing(Rpc(self.servers.nb)))
            self._fill()
            self.daemon = Daemon(self.servers, self.servers.run_dir / "state", program=self._program)
            self._reserve()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # ---- what is there before --------------------------------------------------------------------------------------

    def _fill(self) -> None:
        router = {"op": "insert", "table": "Logical_Router", "uuid-name": "router", "row": {"name": "ovn-cluster"}}
        lrps = [f"ovn-cluster-ls{s}" for s in range(self.switches)]
        operations = [router]
        for s, lrp in enumerate(lrps):
            network, name = _network(s), f"ls{s}"
            config = {
                "subnet": f"{dotted(network)}/20",
                "gateway": dotted(network + 1),
                "exclude_ips": dotted(network + 1),
            }
            mac = f"0a:01:00:00:{s >> 8:02x}:{s & 255:02x}"
            row = {"name": lrp, "mac": mac, "networks": f"{dotted(network + 1)}/20"}
            operations += [
                {"op": "insert", "table": "Logical_Router_Port", "uuid-name": f"lrp{s}", "row": row},
                _insert(f"lsp{s}", {
                    "name": f"ls{s}-ovn-cluster", "type": "router", "addresses": "router",
                    "options": ["map", [["router-port", lrp]]],
                }),
                {"op": "insert", "table": "Logical_Switch", "row": {
                    "name": name, "other_config": ["map", list(config.items())],
                    "external_ids": ["map", [["vendor", "kube-ovn"]]], "ports": ["named-uuid", f"lsp{s}"],
                }},
            ]  # fmt: skip
        router["row"]["ports"] = ["set", [["named-uuid", f"lrp{s}"] for s in range(self.switches)]]
        self.rpc.transact(*operations)
        for at in range(0, len(self.ports), _CHUNK):
            self.rpc.transact(*itertools.chain.from_iterable(map(_come, self.ports[at : at + _CHUNK])))
        self._count += self.switches

    def _reserve(self) -> None:
        """Have the daemon reserve and retain what is so from the beginning."""
        others = self.ports[SETS * REPLICAS :: 2]  # static ones
        taken = [document(port.pod) | {"spec": _spec(port.pod, port.switch)} for port in others[: RESERVED // 2]]
        free = [f"later-{_letters(i)}" for i in range(RESERVED // 2)]
        taken += [document(pod) | {"spec": _spec(pod, f"ls{i % self.switches}")} for i, pod in enumerate(free)]
        self.reserved = others[0]
        with self.daemon, closing(Ours(self.servers, self.daemon)) as ours:
            self.await_active(ours)
            ours.http.bulk("create", taken)
            if not self.tree:
                for name, replicas in [*((f"set{i}", REPLICAS) for i in range(SETS)), (KEPT, 1 << 20)]:
                    body = {"kind": "StatefulSet", "metadata": {"name": name}, "spec": {"replicas": replicas}}
                    ours.http.ask("POST", _STATEFUL_SETS, body)
            total = RESERVED if self.tree else RESERVED + SETS * REPLICAS
            await_(lambda: ours.total() == total, f"{total} IPs to be reserved or retained")

    # ---- the daemon ------------------------------------------------------------------------------------------------

    def start(self) -> Ours:
        """The daemon, as soon as it listens. Stop it by `daemon.stop()`."""
        self.daemon.start(wait=False)
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return Ours(self.servers, self.daemon)
            except OSError as error:
                if not self.daemon.alive or time.monotonic() > until:
                    raise BenchError(f"the daemon does not listen: {error}") from error
                time.sleep(0.002)

    def await_active(self, ours: Ours) -> None:
        """Until it has seen every port, and works."""
        await_(lambda: _sees(ours, self._count), f"{self._count} ports to be seen")

    def listed(self, ours: Ours) -> dict[str, str]:
        """Address of every IP by its name."""
        items = ours.http.ask("GET", _EVERYTHING)["items"]
        return {item["metadata"]["name"]: item["spec"]["v4IpAddress"] for item in items}

    def say_seen(self) -> None:
        """In ovn-northd's place: all that was written has been seen."""
        [found] = self.rpc.transact({"op": "select", "table": "NB_Global", "where": [], "columns": ["nb_cfg"]})
        cfg = found["rows"][0]["nb_cfg"]
        self.rpc.transact({"op": "update", "table": "NB_Global", "where": [], "row": {"sb_cfg": cfg}})

    # ---- changes: one transaction each -----------------------------------------------------------------------------

    def come(self, ports: Sequence[Port]) -> None:
        for port in ports:
            self._uuids[port.name] = self._change(*_come(port))[0]["uuid"]
        self._count += len(ports)

    def move(self, ports: Sequence[Port]) -> None:
        for port in ports:
            row = port.elsewhere.addresses
            self._change({"op": "update", "table": _PORT, "where": self._where(port), "row": row})

    def come_up(self, ports: Sequence[Port]) -> None:
        """They come up, as ovn-northd says when a chassis has them."""
        for port in ports:
            self._change({"op": "update", "table": _PORT, "where": self._where(port), "row": {"up": True}})

    def go(self, ports: Sequence[Port]) -> None:
        for port in ports:
            members: list[Any] = [["ports", "delete", self._uuids[port.name]]]
            where = where_name(port.switch)
            self._change({"op": "mutate", "table": "Logical_Switch", "where": where, "mutations": members})
        self._count -= len(ports)

    def _change(self, *operations: dict[str, Any]) -> list[Any]:
        results = self.rpc.transact(*operations)
        self.after()
        return results

    def _where(self, port: Port) -> list[Any]:
        """By uuid: to find a name, ovsdb-server looks at every row, and answers nobody meanwhile."""
        return [["_uuid", "==", self._uuids[port.name]]]

    def mark(self, token: str) -> None:
        """Something that a follower of everything sees last."""
        mutations = [
            ["external_ids", "delete", ["set", ["bench"]]],
            ["external_ids", "insert", ["map", [["bench", token]]]],
        ]
        self.rpc.transact({"op": "mutate", "table": "NB_Global", "where": [], "mutations": mutations})


def _of_tree(tree: str) -> tuple[str, str]:
    return "-c", f"import sys; sys.path.insert(0, {tree!r}); from ovnreserve.daemon import main; main()"


def _spec(pod: str, switch: str) -> dict[str, str]:
    return {"podName": pod, "namespace": _NAMESPACE, "podType": "", "subnet": switch}


def _sees(ours: Ours, ports: int) -> bool:
    status = ours.http.ask("GET", "/apis/ovnreserve.io/v1/status")
    return status["ports"] == ports and status["state"] == "active"


def await_(condition: Any, what: str) -> None:
    until = time.monotonic() + _PATIENCE
    while not condition():
        expect(time.monotonic() < until, f"not within {_PATIENCE:g} s: {what}")
        time.sleep(0.02)


def _insert(name: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"op": "insert", "table": _PORT, "uuid-name": name, "row": row}


def _come(port: Port) -> Iterator[dict[str, Any]]:
    ids = {"pod": f"{_NAMESPACE}/{port.pod}", "vendor": "kube-ovn", "ls": port.switch}
    key = f"p{port.address}"
    yield _insert(key, {"name": port.name, "external_ids": ["map", list(ids.items())], **port.addresses})
    yield {
        "op": "mutate", "table": "Logical_Switch", "where": where_name(port.switch),
        "mutations": [["ports", "insert", ["named-uuid", key]]],
    }  # fmt: skip


def rss(pid: int) -> float:
    """MiB of memory that a process has resident."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024
