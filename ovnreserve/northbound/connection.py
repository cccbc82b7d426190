"""The connection to the northbound database: a state machine that the engine's loop drives, and never blocks.

    waiting --schema fetched--> connecting --monitor reply--> monitoring
       ^                   ^        └──<── connection lost, reconnected by itself ──┘
       │                   └── the schema has been converted: begin anew with what is there now
       └── the schema lacks what we need

python-ovs' Idl (through ovsdbapp's) does what it is good at: remotes and reconnects, the leader of a cluster,
inactivity probes, locks, transactions. Its rows it never sees: the contents of updates are taken out of the messages
on their way to it and go to our replica, which is several times cheaper and forgets nothing on a reconnect.
"""

from __future__ import annotations

import enum
import json
import math
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import ovs.db.idl
import ovs.jsonrpc
import ovs.poller
import ovs.stream
import structlog
from ovsdbapp.backend.ovs_idl.connection import OvsdbIdl

from ovnreserve.model.pace import Beat, no_beat
from ovnreserve.model.resource import KIND, KIND_LEDGER, RECORD_KINDS
from ovnreserve.northbound.replica import Replica
from ovnreserve.northbound.schema import DATABASE, SchemaRequest, UnsupportedSchema, columns_in, helper_for
from ovnreserve.northbound.transactions import Operations
from ovnreserve.northbound.wire import Session, parse_remotes

_log = structlog.get_logger(__name__)

LOCK: Final = "ovnreserve"
_RETRY_SCHEMA: Final = 5.0
_RETRY_CHANGED: Final = 0.2
_NO_TRANSACTION: Final = "00000000-0000-0000-0000-000000000000"


class _Poll:
    """select.poll as python-ovs wants it: what is registered twice for one descriptor adds up."""

    def __init__(self) -> None:
        self._events: dict[int, int] = {}

    def register(self, fd: int | socket.socket, events: int) -> None:
        number = fd if isinstance(fd, int) else fd.fileno()
        self._events[number] = self._events.get(number, 0) | events

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        """`timeout` in milliseconds, -1 for none."""
        poll = select.poll()
        for number, events in self._events.items():
            poll.register(number, events)
        return poll.poll(timeout)


# python-ovs emulates poll by select, for the sake of eventlet, and select fails on descriptors from 1024 on.
ovs.poller.SelectPoll = _Poll


def use_tls(private_key: str | None, certificate: str | None, ca_cert: str | None) -> None:
    """The files for ssl: remotes, for all connections of the process (python-ovs keeps them so)."""
    if private_key and certificate and ca_cert:
        ovs.stream.Stream.ssl_set_private_key_file(private_key)
        ovs.stream.Stream.ssl_set_certificate_file(certificate)
        ovs.stream.Stream.ssl_set_ca_cert_file(ca_cert)


class _TappedSession(Session):
    """Shows each message to `tap` before the Idl gets it."""

    tap: Callable[[ovs.jsonrpc.Message], None]

    def recv(self) -> ovs.jsonrpc.Message | None:
        message = super().recv()
        if message is not None:
            self.tap(message)
        return message


class _Idl(OvsdbIdl):  # type: ignore[misc]
    """The Idl whose rows are our replica's."""

    def __init__(self, remote: str, schema: dict[str, Any], replica: Replica, *, leader_only: bool) -> None:
        """UnsupportedSchema if the schema lacks what we need."""
        super().__init__(remote, helper_for(schema), leader_only=leader_only)
        self._session: _TappedSession = _TappedSession.like(self._session)
        self._session.tap = self._tap
        self._replica = replica
        self.dumps = 0
        """How many times the whole contents were received."""
        self.outdated = False
        """Has the server's schema changed since, or has it the database no more?"""
        self._told: tuple[Any, ...] = ()
        """What we need of the schema, as the server's _Server database told it first."""
        self._cluster = ""
        self._server: dict[str, Any] = {}
        """What the server says of our database."""
        kinds = [[["external_ids", "includes", ["map", [[KIND, kind]]]]] for kind in (*RECORD_KINDS, KIND_LEDGER)]
        self.cond_change("DNS", [clause for [clause] in kinds])
        self.sync_conditions()

    def cooperative_yield(self) -> None:
        """Ovsdbapp's sleeps once per row, which at 100k rows costs 9 s (facts/performance, section 3)."""

    @property
    def session(self) -> _TappedSession:
        return self._session

    def _tap(self, message: ovs.jsonrpc.Message) -> None:
        try:
            if message.type == ovs.jsonrpc.Message.T_NOTIFY:
                self._take_update(message)
            elif message.type == ovs.jsonrpc.Message.T_REPLY and message.id == self._monitor_request_id:
                self._take_dump(message)
            elif message.type == ovs.jsonrpc.Message.T_REPLY and message.id == self._server_monitor_request_id:
                self._server = {}
                self._take_server(message.result)
                self.outdated |= not self._server
            elif message.type == ovs.jsonrpc.Message.T_ERROR and message.error != "unknown method":
                self.outdated |= message.id == self._monitor_request_id  # a column of ours is there no more
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            # Our copy is no longer the server's: start again from a full dump.
            _log.exception("northbound_update_unreadable", error=str(error))
            self.last_id = _NO_TRANSACTION
            self.force_reconnect()

    def _take_update(self, message: ovs.jsonrpc.Message) -> None:
        params = message.params
        if message.method == "update3" and len(params) == 3:
            self._replica.update(params[2])
            params[2] = {}
        elif message.method == "update2" and len(params) == 2:
            if params[0] == str(self.server_monitor_uuid):
                self._take_server(params[1])
            else:
                self._replica.update(params[1])
                params[1] = {}
        elif message.method == "monitor_canceled":
            self.outdated |= params[0] == str(self.uuid)

    def _take_server(self, updates: dict[str, Any]) -> None:
        """What the server says of our database, ovsdb-server(5): its schema, and the cluster it belongs to.

        The schema is compared with what was told before: where a database that is not clustered was converted, the old
        one is told until the server is started again (measured, OVS 3.1), while it cancels what was monitored.
        """
        for update in updates.get("Database", {}).values():
            values = update.get("modify") or update.get("insert") or update.get("initial") or {}
            if values.get("name", DATABASE) != DATABASE:
                continue
            self._server |= values
            schema = values.get("schema")
            if isinstance(schema, str):  # the empty set while it has not joined its cluster
                found = json.loads(schema)
                told = found.get("version"), columns_in(found)
                self._told = self._told or told
                self.outdated |= told != self._told
            match values.get("cid"):
                case ["uuid", cid] if cid != self._cluster:
                    # Built anew from a backup, it counts from the beginning; python-ovs would call it stale for ever.
                    self._min_index = 0
                    self._cluster = cid

    def force_reconnect(self) -> None:
        """As python-ovs does when it does not want this server; and tell why."""
        super().force_reconnect()
        if why := self._why_unwanted():
            self.session.reconnect.why_closed = why

    def _why_unwanted(self) -> str:
        server = self._server  # without what has its default value, such as `connected` where it is not
        if server.get("model") != "clustered":
            return ""
        if not isinstance(server.get("schema"), str):
            return "it has not joined its cluster"
        if not server.get("connected"):
            return "it is disconnected from its cluster"
        if self.leader_only and not server.get("leader"):
            return "it is not the leader of its cluster"
        index = server.get("index")
        return "it is behind its cluster" if isinstance(index, int) and index < self._min_index else ""

    def _take_dump(self, message: ovs.jsonrpc.Message) -> None:
        if self.state == self.IDL_S_DATA_MONITOR_COND_SINCE_REQUESTED:
            found, _transaction, updates = message.result
            (self._replica.update if found else self._replica.replace)(updates)
            message.result[2] = {}
        elif self.state == self.IDL_S_DATA_MONITOR_COND_REQUESTED:
            self._replica.replace(message.result)
            message.result = {}
        else:
            raise ValueError("the server knows neither monitor_cond_since nor monitor_cond")
        self.dumps += 1


class Outcome(enum.Enum):
    """What became of a transaction."""

    PENDING = "pending"
    COMMITTED = "committed"
    REFUSED = "refused"
    """A guard failed: `culprit` names whose."""
    NOT_SENT = "not sent"
    """There is no connection, or no lock."""
    UNKNOWN = "unknown"
    """The connection broke before the reply, or the server stopped following it. It may have been committed; look."""
    FAILED = "failed"
    """The server did not accept it; `error` says why."""


class Transaction(ovs.db.idl.Transaction):  # type: ignore[misc]
    """One transaction under way. Ask `outcome()` after each run of the connection."""

    def __init__(self, idl: _Idl, operations: Operations) -> None:
        super().__init__(idl)
        self._blame = operations.blame
        self._sequence = idl.session.get_seqno()
        self._offset = 1 if idl.lock_name else 0
        self._replied = False
        self._canceled = False
        self.culprit = ""
        self.error = ""
        for operation in operations.operations:
            self.add_op(operation)

    def outcome(self) -> Outcome:
        status = self.commit()
        if self._canceled:
            return Outcome.UNKNOWN
        match status:
            case self.SUCCESS | self.UNCHANGED:
                return Outcome.COMMITTED
            case self.INCOMPLETE:
                session = self.idl.session
                broken = not session.is_connected() or session.get_seqno() != self._sequence
                return Outcome.UNKNOWN if broken else Outcome.PENDING
            case self.TRY_AGAIN if self._replied:
                return Outcome.REFUSED
            case self.TRY_AGAIN | self.NOT_LOCKED:
                return Outcome.UNKNOWN if self._request_id is not None and not self._replied else Outcome.NOT_SENT
        self.error = self.get_error()
        return Outcome.FAILED

    def _process_reply(self, message: ovs.jsonrpc.Message) -> None:
        self._replied = True
        # The only error to a "transact" is "canceled" (RFC 7047, 4.1.3): the server stops following the transaction,
        # as it does for all that are under way when the schema is converted, but what it has sent to the other members
        # of its cluster may still be committed (ovsdb/trigger.c, ovsdb_trigger_cancel).
        self._canceled = message.type == ovs.jsonrpc.Message.T_ERROR
        super()._process_reply(message)
        results = message.result if isinstance(message.result, list) else []
        for index, result in enumerate(results):
            if isinstance(result, dict) and result.get("error"):
                position = index - self._offset
                self.culprit = self._blame[position] if 0 <= position < len(self._blame) else ""
                break


class Northbound:
    """The northbound database as the engine sees it. `run` often; nothing here blocks, but a dump of a large database
    takes its time, and calls `beat` meanwhile. `writer` is what we call ourselves in what we write.
    """

    def __init__(self, remote: str, *, leader_only: bool = True, writer: str = "", beat: Beat = no_beat) -> None:
        self.remote = remote
        self.writer = writer
        self.replica = Replica(beat)
        self.schema_version = ""
        self.problem = ""
        self._leader_only = leader_only
        self._idl: _Idl | None = None
        self._request: SchemaRequest | None = None
        self._retry_at = 0.0
        self._dumps_before = 0

    def run(self) -> None:
        """Receive and send what can be. Afterwards `replica.take_changes()` tells what is new."""
        if self._idl is None:
            self._fetch_schema()
        if self._idl is not None:
            self._idl.run()
            if self._idl.outdated:
                _log.info("northbound_schema_changed", before=self.schema_version)
                self._dumps_before = self.dumps
                self._idl.close()
                self._idl = None
                self._retry_at = time.monotonic() + _RETRY_CHANGED

    def block(self, wake: int, seconds: float) -> None:
        """Sleep until there is something for `run`, the file descriptor `wake` is readable, or the time is over."""
        poller = ovs.poller.Poller()
        poller.fd_wait(wake, ovs.poller.POLLIN)
        if seconds != float("inf"):
            poller.timer_wait(max(0, math.ceil(seconds * 1000)))
        if self._idl is not None:
            self._idl.wait(poller)
        elif self._request is not None:
            self._request.wait(poller)
        else:
            poller.timer_wait_until(math.ceil(self._retry_at * 1000))
        poller.block()

    def close(self) -> None:
        if self._request is not None:
            self._request.close()
        if self._idl is not None:
            self._idl.close()

    def _fetch_schema(self) -> None:
        if self._request is None:
            if time.monotonic() < self._retry_at:
                return
            self._request = SchemaRequest(parse_remotes(self.remote))
        schema = self._request.run()
        if schema is None:
            return
        self._request.close()
        self._request = None
        self._connect(schema)

    def _connect(self, schema: dict[str, Any]) -> None:
        try:
            self._idl = _Idl(self.remote, schema, self.replica, leader_only=self._leader_only)
        except UnsupportedSchema as error:
            if str(error) != self.problem:
                _log.error("northbound_schema_unsupported", error=str(error))
            self.problem = str(error)
            self._retry_at = time.monotonic() + _RETRY_SCHEMA
            return
        self.problem = ""
        self.schema_version = str(schema.get("version", ""))
        self._idl.set_lock(LOCK)

    @property
    def complete(self) -> bool:
        """Connected, and the replica is all that the server has."""
        idl = self._idl
        return idl is not None and idl.state == idl.IDL_S_MONITORING and idl.session.is_connected()

    @property
    def dumps(self) -> int:
        """Grows with each full dump: what is known by then has to be compared as a whole."""
        return self._dumps_before + (self._idl.dumps if self._idl is not None else 0)

    def contend(self, wanted: bool) -> None:
        """Ask for the lock, as from the start, or leave it to others."""
        lock = LOCK if wanted else None
        if self._idl is not None and self._idl.lock_name != lock:
            self._idl.set_lock(lock)

    @property
    def has_lock(self) -> bool:
        return self._idl is not None and bool(self._idl.has_lock)

    @property
    def last_error(self) -> str:
        """Why there is no connection, in ovn-nbctl's words."""
        if self.problem:
            return self.problem
        source = self._idl.session if self._idl is not None else self._request
        return source.last_error if source is not None else ""

    def commit(self, operations: Operations) -> Transaction:
        """Send a transaction; its first `outcome()` says whether it could be sent."""
        assert self._idl is not None  # noqa: S101 - only asked while complete
        transaction = Transaction(self._idl, operations)
        transaction.commit()
        return transaction
