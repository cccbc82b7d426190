"""A northbound cluster of three, whose members can be killed, paused, and cut off from one another.

How a member is cut off without being root: the address by which the others know a member is not the one it listens
on, but that of a relay of ours, which leads there. In the first message of a connection (`hello_request`) the caller
says who it is, so the relay knows both ends, and holds what one sends to the other as long as they are cut: nothing
is lost or refused, nothing arrives, as when a cable is pulled. To get there, each member joins under its address, and
is then told by an edit of its database's first record to listen on another (raft keeps the two apart: its own in that
record, everybody's in the log). Clients do not go through relays.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Final

from functional.support import wait_until
from ovnreserve.sandbox import Process, Servers, find_schema

if TYPE_CHECKING:
    from pathlib import Path

DATABASE: Final = "OVN_Northbound"
_CALLER = re.compile(rb'"from":"([0-9a-f-]{36})"')


class Relays:
    """TCP relays before the members, in a thread of their own. Members go by their server ids."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._cut: set[tuple[str, str]] = set()
        self._mended = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def lead(self, port: int, to: int, member: str) -> None:
        """Whatever comes to `port` goes to the member at the port `to`."""

        async def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._relay(reader, writer, to, member)

        asyncio.run_coroutine_threadsafe(asyncio.start_server(call, "127.0.0.1", port), self._loop).result()

    def cut(self, *ways: tuple[str, str]) -> None:
        """From now on nothing passes on these ways (from, to)."""
        self._loop.call_soon_threadsafe(self._cut.update, ways)

    def mend(self) -> None:
        """What was held arrives."""

        def mend() -> None:
            self._cut.clear()
            self._mended.set()
            self._mended = asyncio.Event()

        self._loop.call_soon_threadsafe(mend)

    def stop(self) -> None:
        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: int, member: str) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to)
        except OSError:
            writer.close()
            return
        hello = await reader.read(65536)
        found = _CALLER.search(hello)
        caller = found[1].decode() if found else ""
        await asyncio.gather(
            self._pump(hello, reader, far_writer, (caller, member)),
            self._pump(b"", far_reader, writer, (member, caller)),
        )

    async def _pump(
        self, data: bytes, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: tuple[str, str]
    ) -> None:
        try:
            while data or (data := await source.read(65536)):
                while way in self._cut:
                    await self._mended.wait()
                sink.write(data)
                data = b""
                await sink.drain()
            while way in self._cut:
                await self._mended.wait()
        except ConnectionError:
            pass
        finally:
            sink.close()


class Member:
    """One server of the cluster. `remote` is for clients, over TLS or TCP; `local` its Unix socket."""

    def __init__(self, server: Process, database: Path, remote: str, address: str, listens: str) -> None:
        self.server = server
        self.database = database
        self.remote = remote
        self.address = address
        self.listens = listens
        self.paused = False
        self.sid = ""
        self._socket = database.with_suffix(".sock")
        self._ctl = database.with_suffix(".ctl")

    @property
    def local(self) -> str:
        return f"unix:{self._socket}"

    @property
    def answers(self) -> bool:
        return self.server.alive and not self.paused

    def appctl(self, command: str, *arguments: str) -> str:
        done = subprocess.run(
            ["ovs-appctl", "--timeout=10", "-t", str(self._ctl), command, *arguments],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    @property
    def status(self) -> dict[str, str]:
        """`cluster/status`, such as `Role: leader`."""
        lines = self.appctl("cluster/status", DATABASE).splitlines()
        return dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith(" "))

    @property
    def leads(self) -> bool:
        return self.answers and self.status["Role"] == "leader"

    @property
    def applied(self) -> int:
        """The log's last index that this member has applied."""
        [first, last] = re.findall(r"\d+", self.status["Log"])
        return int(last) - 1 - int(self.status["Entries not yet applied"]) if int(first) else 0

    def fail(self, scenario: str) -> None:
        """Let it fail at a certain moment to come, such as `crash-after-sending-append-request` (raft.c)."""
        self.appctl("cluster/failure-test", scenario)

    def kill(self) -> None:
        self.server.kill()
        self.paused = False

    def start(self) -> None:
        """Start it; it is ready when it has found the cluster again."""
        self.server.start()

    def pause(self) -> None:
        self.server.pause()
        self.paused = True

    def resume(self) -> None:
        self.server.resume()
        self.paused = False

    def readdress(self) -> None:
        """While it is down: have it listen where its relay leads to."""
        content = self.database.read_bytes()
        end = content.index(b"\n")
        length = int(content[:end].split()[2])
        header: dict[str, Any] = json.loads(content[end + 1 : end + 1 + length])
        text = json.dumps(header | {"local_address": self.listens}).encode() + b"\n"
        magic = f"OVSDB CLUSTER {len(text)} {hashlib.sha1(text).hexdigest()}\n".encode()
        self.database.write_bytes(magic + text + content[end + 1 + length :])

    def log(self) -> list[dict[str, Any]]:
        """The transactions in its log since the last snapshot, in order, as raft has agreed on them or may yet:
        `_comment`, and tables of rows.
        """
        entries: dict[int, Any] = {}
        for line in self.database.read_text().split("\n"):
            record = json.loads(line) if line.startswith("{") else {}
            if "index" in record:  # whatever stood there or behind, nobody had agreed on
                entries = {index: data for index, data in entries.items() if index < record["index"]}
                entries[record["index"]] = record.get("data")
        return [data[1] for data in entries.values() if data and data[1]]


class Cluster(Servers):
    """The northbound database as a cluster of three, a southbound one alone, and ovn-northd, in one directory.

    With `pki`, a directory of key.pem, cert.pem and ca.pem, clients come over TLS, else over TCP.
    `election_timer` in milliseconds, as for ovsdb-tool; none means its default, 1000.
    """

    def __init__(self, pki: Path | None = None, *, election_timer: int | None = None) -> None:
        super().__init__()
        self.tls = [f"--private-key={pki}/key.pem", f"--certificate={pki}/cert.pem", f"--ca-cert={pki}/ca.pem"]
        if pki is None:
            self.tls = []
        self._election_timer = election_timer
        self._relays = Relays()
        self._ports: list[socket.socket] = []
        self.members = [self._member(number) for number in (1, 2, 3)]
        self.nb = ",".join(member.remote for member in self.members)
        self.environment["OVN_NB_DB"] = self.nb
        pidfile = f"--pidfile={self.run_dir}/ovn-northd.pid"
        options = [pidfile, f"--ovnnb-db={self.nb}", f"--ovnsb-db={self.sb}", *self.tls]
        self.northd = self._process("ovn-northd", "ovn-northd", options, self._northd_answers)

    @property
    def children(self) -> tuple[Process, ...]:
        return (*(member.server for member in self.members), self.sb_server, self.northd)

    def start(self) -> None:
        self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._create("ovnsb", "ovn-sb.ovsschema")
            self.sb_server.start()
            self._create_cluster()
            self.northd.start()
            self.nbctl("--wait=sb", "sync")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._relays.mend()
        super().stop()
        self._relays.stop()
        for held in self._ports:
            held.close()

    def nbctl(self, *arguments: str, stdin: str | None = None, timeout: float = 30) -> str:
        """By the Unix sockets of those that answer: one that is paused would keep ovn-nbctl waiting."""
        local = ",".join(member.local for member in self.members if member.answers)
        options = (f"--db={local}", f"--timeout={max(1, round(timeout))}")
        return self._run("ovn-nbctl", *options, *arguments, stdin=stdin or "", timeout=timeout + 5)

    def leader(self, among: list[Member] | None = None) -> Member:
        """The leader, as soon as there is one. One that has just been cut off may think that it still leads."""
        members = among if among is not None else self.members
        return wait_until(lambda: next((member for member in members if member.leads), None), 30, what="a leader")  # type: ignore[return-value]

    def others(self, member: Member) -> list[Member]:
        return [other for other in self.members if other is not member]

    def cut_off(self, member: Member) -> None:
        """Cut a member off from the others; whose clients it has it keeps."""
        for other in self.others(member):
            self._relays.cut((member.sid, other.sid), (other.sid, member.sid))

    def cut(self, *ways: tuple[Member, Member]) -> None:
        """Hold what one member sends to another."""
        self._relays.cut(*((one.sid, other.sid) for one, other in ways))

    def mend(self) -> None:
        """Nobody is cut off any more."""
        self._relays.mend()

    def heal(self) -> None:
        """All three run, see each other and agree on a leader."""
        self.mend()
        for member in self.members:
            if member.paused:
                member.resume()
            if not member.server.alive:
                member.start()
        leader = self.leader()
        for member in self.members:
            wait_until(lambda member=member: member.applied >= leader.applied, 30, what="it has caught up")

    def convert(self, schema: Path) -> None:
        """As ovsdb-client convert does."""
        local = ",".join(member.local for member in self.members if member.answers)
        self._run("ovsdb-client", "convert", local, str(schema))

    def rebuild(self) -> Member:
        """As an administrator does who has lost two of three: a new cluster of one, from what one member has."""
        first = self.members[0]
        for member in self.members:
            member.kill()
        saved = self.run_dir / "saved.db"
        self._run("ovsdb-tool", "cluster-to-standalone", str(saved), str(first.database))
        first.database.unlink()
        self._run("ovsdb-tool", "create-cluster", str(first.database), str(saved), first.address)
        first.readdress()
        first.start()
        return first

    def _create_cluster(self) -> None:
        first, *others = self.members
        timer = [f"--election-timer={self._election_timer}"] if self._election_timer else []
        schema = str(find_schema("ovn-nb.ovsschema"))
        self._run("ovsdb-tool", *timer, "create-cluster", str(first.database), schema, first.address)
        self._behind_relay(first)
        for member in others:
            self._run("ovsdb-tool", "join-cluster", str(member.database), DATABASE, member.address, first.address)
            member.start()
            member.server.stop()
            self._behind_relay(member)
        wait_until(lambda: all(m.status["Status"] == "cluster member" for m in self.members), 30, what="joined")

    def _behind_relay(self, member: Member) -> None:
        member.readdress()
        member.sid = self._run("ovsdb-tool", "db-sid", str(member.database)).strip()
        self._relays.lead(_port_of(member.address), _port_of(member.listens), member.sid)
        member.start()

    def _member(self, number: int) -> Member:
        name = f"ovnnb{number}"
        port = self._free_port()
        kind = "ssl" if self.tls else "tcp"
        server = self._server(name, [f"--remote=p{kind}:{port}:127.0.0.1", *self.tls])
        database = self.run_dir / f"{name}_db.db"
        joined = Process(
            server.name, server.command, server.log, server.environment,
            lambda: _is_connected(database.with_suffix(".sock")),
        )  # fmt: skip
        address, listens = (f"tcp:127.0.0.1:{self._free_port()}" for _ in range(2))
        return Member(joined, database, f"{kind}:127.0.0.1:{port}", address, listens)

    def _free_port(self) -> int:
        """Bound but not listened at: nobody else is given it, and who sets SO_REUSEADDR can listen there."""
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        self._ports.append(held)
        return held.getsockname()[1]


def _port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def _is_connected(path: Path) -> bool:
    """Is this server part of its cluster, and does it know a leader?"""
    where = [["name", "==", DATABASE]]
    select = {"op": "select", "table": "Database", "where": where, "columns": ["connected"]}
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        try:
            client.connect(str(path))
            client.sendall(json.dumps({"method": "transact", "params": ["_Server", select], "id": 0}).encode())
            return b'"connected":true' in client.recv(65536)
        except OSError:
            return False
