"""The server's schema: fetched without blocking, and cut down to the columns we read.

python-ovs wants the whole schema before an Idl can be made, and its own way to fetch it blocks.
`SchemaRequest` is one question over the same kind of session as the Idl's, asked from the caller's loop until
it is answered:

    request = SchemaRequest(parse_remotes("unix:/run/ovn/ovnnb_db.sock"))
    while (schema := request.run()) is None:
        request.wait(poller)
        poller.block()
    request.close()
    idl = ovs.db.idl.Idl(remote, helper_for(schema))

It goes on trying for ever; meanwhile `last_error` says why it has to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import ovs.db.idl
import ovs.jsonrpc
import ovs.poller

from ovnreserve.northbound.columns import COLUMNS, REQUIRED
from ovnreserve.northbound.wire import PROBE_INTERVAL, Session

if TYPE_CHECKING:
    from collections.abc import Sequence

DATABASE: Final = "OVN_Northbound"


class UnsupportedSchema(Exception):  # noqa: N818 - it says what is the matter with the server's schema
    """The server's schema lacks what we cannot do without.

    `missing` names it, as `Table.column`.
    """

    def __init__(self, version: str, missing: tuple[str, ...]) -> None:
        super().__init__(
            f"schema {version or 'without a version'} of database {DATABASE} lacks {', '.join(missing)}; "
            "use the database of OVN 20.03 or newer"
        )
        self.missing = missing


class SchemaRequest:
    """Asks one of `remotes` after another for the schema of OVN_Northbound (RFC 7047, section 4.1.2).

    `probe_interval` is in milliseconds, as for Session.to().
    """

    def __init__(self, remotes: Sequence[str], *, probe_interval: int = PROBE_INTERVAL) -> None:
        self._session = Session.to(remotes, probe_interval=probe_interval)
        self._session.announces = False
        self._asked_at: int | None = None
        self._id: int | None = None
        self._schema: dict[str, Any] | None = None

    @property
    def last_error(self) -> str:
        """Why there is no schema yet, in ovn-nbctl's words; empty while nothing went wrong."""
        return self._session.last_error

    def run(self) -> dict[str, Any] | None:
        """The schema as JSON, or None while there is none. Call it again when wait() said so."""
        if self._schema is not None:
            return self._schema
        session = self._session
        session.run()
        if session.is_connected() and session.get_seqno() != self._asked_at:
            request = ovs.jsonrpc.Message.create_request("get_schema", [DATABASE])
            self._asked_at, self._id = session.get_seqno(), request.id
            session.send(request)
        while self._schema is None and (reply := session.recv()) is not None:
            if reply.id == self._id and reply.type in (
                ovs.jsonrpc.Message.T_REPLY,
                ovs.jsonrpc.Message.T_ERROR,
            ):
                self._answered(reply)
        return self._schema

    def wait(self, poller: ovs.poller.Poller) -> None:
        """Have `poller` wake when run() has something to do."""
        if self._schema is not None:
            poller.immediate_wake()
            return
        self._session.wait(poller)
        self._session.recv_wait(poller)

    def close(self) -> None:
        self._session.close()

    def _answered(self, reply: ovs.jsonrpc.Message) -> None:
        self._id = None
        if isinstance(reply.result, dict) and isinstance(reply.result.get("tables"), dict):
            self._schema = reply.result
            return
        # A server that has not, or not yet, got the database: {"error": "unknown database", "details": ...}.
        why = reply.error.get("error") if isinstance(reply.error, dict) else None
        self._session.force_reconnect(f"{why or 'no schema'}: {DATABASE}")


def helper_for(schema: dict[str, Any]) -> ovs.db.idl.SchemaHelper:
    """A helper for one Idl, with exactly those of our columns that the server has.

    UnsupportedSchema if a required one is missing. `schema` is the answer to get_schema, and stays as it is.
    """
    there = columns_in(schema)
    missing = tuple(
        f"{table}.{column}"
        for table, columns in REQUIRED.items()
        for column in sorted(columns)
        if column not in there.get(table, ())
    )
    if missing:
        raise UnsupportedSchema(str(schema.get("version", "")), missing)
    helper = ovs.db.idl.SchemaHelper(schema_json=schema)
    for table, columns in there.items():
        if columns:  # none would mean all of them
            helper.register_columns(table, columns)
    return helper


def columns_in(schema: dict[str, Any]) -> dict[str, list[str]]:
    """By table, those of our columns that the schema has."""
    tables: dict[str, Any] = schema["tables"]
    return {
        table: [column for column in columns if column in tables[table].get("columns", {})]
        for table, columns in COLUMNS.items()
        if table in tables
    }
