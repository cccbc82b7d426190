"""A site: OVN's servers with the daemon on them, what a user does there, and what a witness sees."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from support import Result, ovnreserve, wait_until

from ovnreserve.cli.client import Client
from ovnreserve.cli.errors import StatusError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ovnreserve.sandbox import Daemon, Servers

NETWORK = "10.16.0.0/24"
PREFIX = "fd00:16::"
TOP = "fd00:16::ffff:ffff:ffff:ff7f"  # below the 128 that RFC 2526 keeps for anycast

# Whoever refers stands before whom it refers to; rows that nobody refers to any more go by themselves.
_ROOTS = (
    *("Logical_Router", "Logical_Switch", "Load_Balancer_Group", "Load_Balancer", "DHCP_Options"),
    *("BFD", "Static_MAC_Binding"),
)


class Answer(NamedTuple):
    """What one document came to: `ip` is the object, `status` the refusal; each is empty where the other is not."""

    result: str
    ip: dict[str, Any]
    warnings: list[str]
    status: dict[str, Any]

    @property
    def name(self) -> str:
        return self.ip["metadata"]["name"]

    @property
    def v4(self) -> str:
        return self.ip["spec"]["v4IpAddress"]

    @property
    def v6(self) -> str:
        return self.ip["spec"]["v6IpAddress"]

    @property
    def mac(self) -> str:
        return self.ip["spec"]["macAddress"]

    @property
    def addresses(self) -> str:
        """As an element of `Logical_Switch_Port.addresses`."""
        return " ".join(filter(None, (self.mac, self.v4, self.v6)))

    @property
    def code(self) -> int:
        return self.status.get("code", 0)

    @property
    def message(self) -> str:
        return self.status.get("message", "")

    @property
    def causes(self) -> dict[str, str]:
        """By field, what is wrong with it."""
        return {cause["field"]: cause["message"] for cause in self.status.get("details", {}).get("causes", ())}

    @property
    def reasons(self) -> set[str]:
        return {cause["reason"] for cause in self.status.get("details", {}).get("causes", ())}


class Site:
    """Servers and a daemon that a session shares; `clean` makes it new for the next test."""

    def __init__(self, servers: Servers, daemon: Daemon, *, follow: bool = False) -> None:
        """With `follow`, ovn-nbctl's work is done only when the daemon has seen it."""
        self.servers = servers
        self.daemon = daemon
        self._follow = follow
        self._numbers = itertools.count(1)
        self._warnings: list[str] = []
        self.client = self.new_client()

    def nb(self, *arguments: str, stdin: str | None = None, timeout: float = 30) -> str:
        """Run ovn-nbctl, and return what it prints."""
        printed = self.servers.nbctl(*arguments, stdin=stdin, timeout=timeout)
        if self._follow and self.daemon.alive:
            # What is to be refused is looked at again after the database's latest has come in.
            [refused] = self.bulk("delete", [{"kind": "IP", "metadata": {"name": "nobody"}}])
            assert refused.code == 404, refused.status
        return printed

    def new_client(self) -> Client:
        return Client(self.daemon.client_environment["OVNRESERVE_SERVER"], self._warnings.append)

    def restart(self) -> None:
        """Stop the daemon and start it again, with the same ledger."""
        self.daemon.stop()
        self.daemon.start()
        self.client.close()

    def clean(self) -> None:
        """Release everything, and leave nothing in the northbound database but what the servers need."""
        self._release_all()
        self.nb(*itertools.chain.from_iterable(("--", "--all", "destroy", table) for table in _ROOTS))
        self._release_all()  # a port that was not its IP's was left alone, and may have been retained then
        pools = self.pools()
        if pools:
            self.bulk("delete", [{"kind": "IPPool", "metadata": {"name": name}} for name in pools])
            wait_until(lambda: not self.pools(), what="every pool released")
        self.client.close()  # the daemon would, by the time that somebody needs it again

    def _release_all(self) -> None:
        there = self.records()  # also of what is retained
        if there:
            self.bulk("delete", [{"kind": "IP", "metadata": {"name": name}} for name in there])
            uids = {row["external_ids"]["ovnreserve/uid"] for row in there.values()}
            wait_until(
                lambda: uids.isdisjoint(row["external_ids"]["ovnreserve/uid"] for row in self.records().values()),
                what="every IP released",
            )

    # ---- topology --------------------------------------------------------------------------------------------------

    def switch(
        self,
        subnet: str | None = NETWORK,
        ipv6_prefix: str | None = None,
        *,
        name: str = "",
        external_ids: dict[str, str] | None = None,
        **other_config: str,
    ) -> str:
        """A new logical switch; its name."""
        name = name or f"switch-{next(self._numbers)}"
        given = {"subnet": subnet, "ipv6_prefix": ipv6_prefix, **other_config}
        settings = [f"other_config:{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
        settings += [f"external_ids:{key}={json.dumps(value)}" for key, value in (external_ids or {}).items()]
        self.nb("ls-add", name, *(["--", "set", "logical_switch", name, *settings] if settings else []))
        return name

    def port(self, switch: str, addresses: str | list[str] = "dynamic", *, name: str = "", **columns: Any) -> str:
        """A new port, once ovn-northd has seen it; its name. Values of columns are in OVSDB's notation."""
        name = name or f"port-{next(self._numbers)}"
        given = {"addresses": json.dumps([addresses] if isinstance(addresses, str) else addresses), **columns}
        settings = [f"{column}={value}" for column, value in given.items()]
        self.nb("--wait=sb", "lsp-add", switch, name, "--", "set", "logical_switch_port", name, *settings)
        return name

    def router(self, switch: str, *networks: str, mac: str = "0a:00:00:00:00:fe", name: str = "") -> str:
        """A new logical router, attached to the switch by its port `NAME-SWITCH`; its name."""
        name = name or f"router-{next(self._numbers)}"
        self.nb("lr-add", name)
        self.attach(name, switch, *networks, mac=mac)
        return name

    def attach(self, router: str, switch: str, *networks: str, mac: str) -> None:
        port = f"{router}-{switch}"
        self.nb(
            *("lrp-add", router, port, mac, *networks),
            *("--", "lsp-add", switch, f"{switch}-{router}"),
            *("--", "lsp-set-type", f"{switch}-{router}", "router"),
            *("--", "lsp-set-addresses", f"{switch}-{router}", "router"),
            *("--", "lsp-set-options", f"{switch}-{router}", f"router-port={port}"),
        )

    def remove_holders(self, switch: str) -> None:
        """Leave nothing of the topology but switches, and this one empty."""
        roots = [table for table in _ROOTS if table != "Logical_Switch"]
        self.nb(
            *itertools.chain.from_iterable(("--", "--all", "destroy", table) for table in roots),
            *("--", "clear", "logical_switch", switch, "ports"),
            *("--", "clear", "logical_switch", switch, "forwarding_groups"),
        )

    # ---- what a user does ------------------------------------------------------------------------------------------

    def document(self, subnet: str, pod: str = "", *, name: str = "", **spec: Any) -> dict[str, Any]:
        """An IP's document. Without `pod`, one that nobody has used yet."""
        pod = pod or f"pod-{next(self._numbers)}"
        spec = {"subnet": subnet, "podName": pod, "namespace": "default", "podType": "", **spec}
        name = name or f"{spec['podName']}.{spec['namespace']}"
        return {"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": {"name": name}, "spec": spec}

    def reserve(self, subnet: str, pod: str = "", *, wait: str = "none", **spec: Any) -> Answer:
        """Apply a document of this spec."""
        return self.apply(self.document(subnet, pod, **spec), wait=wait)

    def apply(self, document: dict[str, Any], *, wait: str = "none") -> Answer:
        [answer] = self.bulk("apply", [document], wait=wait)
        return answer

    def bulk(
        self, verb: str, documents: list[dict[str, Any]], *, wait: str = "none", timeout: float = 30
    ) -> list[Answer]:
        query = f"?wait={wait}&timeout={timeout:g}"
        answer = self.client.post(f"/apis/ovnreserve.io/v1/bulk{query}", {"verb": verb, "items": documents})
        return [
            Answer(result["result"], result.get("object", {}), result.get("warnings", []), result.get("status", {}))
            for result in answer["results"]
        ]

    def create(self, document: dict[str, Any], query: str = "") -> Answer:
        """POST it, as kubectl create does."""
        self._warnings.clear()
        try:
            ip = self.client.post(f"/apis/kubeovn.io/v1/ips{query}", document)
        except StatusError as error:
            return Answer("error", {}, [], error.status)
        return Answer("created", ip, list(self._warnings), {})

    def command(self, *arguments: str, stdin: str = "") -> Result:
        """Run the command line `ovnreserve`."""
        return ovnreserve(*arguments, environment=self.daemon.client_environment, stdin=stdin)

    def release(self, name: str) -> None:
        """Delete the IP, and return when it is gone."""
        uid = self.client.request("DELETE", f"/apis/kubeovn.io/v1/ips/{name}")["metadata"]["uid"]

        def gone() -> bool:
            ip = self.ip(name)
            return ip is None or ip["metadata"]["uid"] != uid  # its port, where that stays, has an IP of its own

        wait_until(gone, what=f"{name} released")

    def ips(self, reserved: str = "true") -> list[dict[str, Any]]:
        """The IPs that are reserved, or those that are not ("false")."""
        query = f"?labelSelector=ovn.kubernetes.io/ip_reserved%3D{reserved}"
        return self.client.get(f"/apis/kubeovn.io/v1/ips{query}")["items"]

    def pools(self) -> list[str]:
        """The names of the pools."""
        return [pool["metadata"]["name"] for pool in self.client.get("/apis/kubeovn.io/v1/ippools")["items"]]

    def ip(self, name: str) -> dict[str, Any] | None:
        try:
            return self.client.get(f"/apis/kubeovn.io/v1/ips/{name}")
        except StatusError as error:
            if error.not_found:
                return None
            raise

    def reserved(self, name: str) -> dict[str, Any] | None:
        """The IP, if it is reserved and not only its port's."""
        ip = self.ip(name)
        return ip if ip and ip["metadata"]["labels"]["ovn.kubernetes.io/ip_reserved"] == "true" else None

    def condition(self, name: str, type_: str) -> dict[str, str]:
        ip = self.ip(name)
        assert ip is not None
        [condition] = [c for c in ip["status"]["conditions"] if c["type"] == type_]
        return condition

    def events(self, name: str) -> list[tuple[str, str]]:
        """(reason, message) of the IP's events."""
        answer = self.client.get(f"/api/v1/events?fieldSelector=involvedObject.name%3D{name}")
        return [(event["reason"], event["message"]) for event in answer["items"]]

    def subnet(self, name: str) -> dict[str, Any]:
        return self.client.get(f"/apis/kubeovn.io/v1/subnets/{name}")

    # ---- what a witness sees ---------------------------------------------------------------------------------------

    def rows(self, table: str, *records: str) -> list[dict[str, Any]]:
        """Rows as ovn-nbctl lists them: sets of one are the value, larger and empty ones lists."""
        found = json.loads(self.servers.nbctl("--format=json", "list", table, *records))
        return [dict(zip(found["headings"], map(_value, row), strict=True)) for row in found["data"]]

    def row(self, table: str, record: str) -> dict[str, Any]:
        [row] = self.rows(table, record)
        return row

    def exclude_ips(self, switch: str) -> str | None:
        return self.row("Logical_Switch", switch)["other_config"].get("exclude_ips")

    def addresses(self, port: str) -> set[str]:
        addresses = self.row("Logical_Switch_Port", port)["addresses"]
        return {addresses} if isinstance(addresses, str) else set(addresses)

    def dynamic_addresses(self, port: str) -> str:
        """As ovn-northd has given them; empty while it has not."""
        return self.row("Logical_Switch_Port", port)["dynamic_addresses"] or ""

    def records(self) -> dict[str, dict[str, Any]]:
        """Our records by the reservation's name: rows of the DNS table."""
        ids = "external_ids:ovnreserve/kind=reservation"
        found = json.loads(self.servers.nbctl("--format=json", "find", "dns", ids))
        rows = [dict(zip(found["headings"], map(_value, row), strict=True)) for row in found["data"]]
        return {row["external_ids"]["ovnreserve/name"]: row for row in rows}

    def transactions(self) -> list[dict[str, Any]]:
        """Every transaction of the northbound database from its log, ovsdb(5): `_comment`, and tables of rows."""
        lines = (self.servers.run_dir / "ovnnb_db.db").read_text().split("\n")
        return [json.loads(line) for line in lines if line and not line.startswith("OVSDB ")][1:]

    def ours(self) -> list[dict[str, Any]]:
        """The transactions that are ours, by their comments."""
        return [t for t in self.transactions() if t.get("_comment", "").startswith("ovnreserve:")]

    @contextlib.contextmanager
    def nothing_written(self) -> Iterator[None]:
        """Nothing is written to the database, nor shown as reserved, by what is done in this block."""
        before = len(self.ours()), self.ips()
        yield
        assert (len(self.ours()), self.ips()) == before

    @contextlib.contextmanager
    def northd_paused(self) -> Iterator[None]:
        self.servers.northd.pause()
        try:
            yield
        finally:
            self.servers.northd.resume()


def _value(value: Any) -> Any:
    """A Python value of OVSDB's JSON (RFC 7047, 5.1)."""
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "map":
        return {_value(key): _value(item) for key, item in content}
    return [_value(item) for item in content] if kind == "set" else content


class Raw:
    """A client of the northbound database that is as fast as can be: it has its reply and goes on at once."""

    def __init__(self, servers: Servers) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(servers.nb.removeprefix("unix:"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def insert(self, table: str, **row: Any) -> None:
        self.transact({"op": "insert", "table": table, "row": row})

    def attach(self, switch: str, port: str, addresses: str) -> None:
        """A new port with these addresses."""
        row = {"name": port, "addresses": addresses}
        self.transact(
            {"op": "insert", "table": "Logical_Switch_Port", "row": row, "uuid-name": "port"},
            self._ports(switch, "insert", ["named-uuid", "port"]),
        )

    def detach(self, switch: str, port: str) -> None:
        """Delete a port."""
        where = [["name", "==", port]]
        [found] = self.transact({"op": "select", "table": "Logical_Switch_Port", "where": where, "columns": ["_uuid"]})
        [row] = found["rows"]
        self.transact(self._ports(switch, "delete", row["_uuid"]))

    def _ports(self, switch: str, mutator: str, port: list[str]) -> dict[str, Any]:
        mutations = [["ports", mutator, ["set", [port]]]]
        return {"op": "mutate", "table": "Logical_Switch", "where": [["name", "==", switch]], "mutations": mutations}

    def transact(self, *operations: dict[str, Any]) -> list[dict[str, Any]]:
        request = {"method": "transact", "params": ["OVN_Northbound", *operations], "id": 1}
        self._socket.sendall(json.dumps(request).encode())
        text = ""
        while True:
            text += self._socket.recv(65536).decode()
            with contextlib.suppress(ValueError):
                results = json.loads(text)["result"]
                assert not [result for result in results if "error" in (result or {})], results
                return results
