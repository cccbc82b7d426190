"""What the journal tells: events as Kubernetes has them, and who held what.

What was decided a moment ago is written down before it is read, so that a client finds what it has just done. Of
a ledger that hangs is read what is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ovnreserve.api import selectors
from ovnreserve.api.desk import Desk
from ovnreserve.api.http import fields, json
from ovnreserve.engine import Entry, Settle
from ovnreserve.model.addresses import format_v4, format_v6, parse_either, parse_mac
from ovnreserve.model.documents import timestamp
from ovnreserve.model.errors import BadRequest, NotFound, Refused, shown
from ovnreserve.model.history import Tenure, tenures
from ovnreserve.model.involved import involved, keys_of

_log = structlog.get_logger(__name__)

ACTOR: Final = "ovnreserve.io/actor"
"""The annotation of an event that says at whose wish it came to that."""
MOST_EVENTS: Final = 500
MOST_READ: Final = 20_000
"""Entries that history is told from, the last ones: some 7,000 tenures of one address."""

_PATIENCE: Final = 0.5
_COLUMNS: Final = {"involvedObject.uid": "uid", "reason": "reason", "type": "type"}
_EVENT_FIELDS: Final = (
    *("involvedObject.name", "involvedObject.uid", "involvedObject.kind", "involvedObject.apiVersion"),
    *("involvedObject.namespace", "metadata.name", "metadata.namespace", "reason", "type"),
)


class Read(Protocol):
    """The journal's last entries, as `ledger.journal.search` has them. Slow; raises Refused."""

    def __call__(
        self, equal: dict[str, Sequence[str]], limit: int, *, tenures: bool = False
    ) -> list[tuple[int, Entry]]: ...


class Journal:
    def __init__(self, read: Read, desk: Desk) -> None:
        self._read = read
        self._desk = desk

    async def events(self, request: HttpRequest) -> Response:
        """The last MOST_EVENTS of those that a field selector wants."""
        wanted = fields(request, *_EVENT_FIELDS)
        labels = selectors.parse(request.query_params.get("labelSelector", ""))
        given = {field.path: field.value for field in wanted if field.wanted}
        equal: dict[str, Sequence[str]] = {column: [given[path]] for path, column in _COLUMNS.items() if path in given}
        if given.get("involvedObject.name"):
            kind, namespace = (given.get(f"involvedObject.{part}", "") for part in ("kind", "namespace"))
            keys = keys_of(given["involvedObject.name"], kind, namespace)
            if keys is not None:
                equal["name"] = keys
        await self._settle()
        found = await run_in_threadpool(self._read, equal, MOST_EVENTS)
        items = [_event(number, entry) for number, entry in found if selectors.matches(labels, {})]
        items = [event for event in items if selectors.matches_fields(wanted, event)]
        return json({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": items})

    async def history(self, request: HttpRequest) -> Response:
        """Who has held it, of a name, an address or a MAC; and who did at one time."""
        column, value = _subject(request)
        at = _moment(request.query_params.get("at", ""))
        await self._settle()
        told = await run_in_threadpool(self._read, {column: [value]}, MOST_READ, tenures=True)
        latest = await run_in_threadpool(self._read, {column: [value]}, MOST_EVENTS)
        if column == "name" and not latest:
            raise NotFound(f'the journal knows no "{shown(value)}"', kind="", name=value)
        found = tenures(entry for _number, entry in told if involved(entry.name).kind == "IP")
        if at is not None:
            found = [tenure for tenure in found if tenure.held_within(*at)]
        answer = {
            "apiVersion": "ovnreserve.io/v1",
            "kind": "History",
            "tenures": [_tenure(tenure) for tenure in found],
            "events": [_event(number, entry) for number, entry in latest],
        }
        response = json(answer)
        if len(told) == MOST_READ:
            first = _precise(told[0][1].at)
            warning = f"only the journal's last {MOST_READ} entries about it were read; they begin at {first}"
            response.headers.append("warning", f'299 - "{warning}"')
        return response

    async def _settle(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._desk.ask([Settle()], _PATIENCE)
        except (Refused, TimeoutError) as error:
            _log.warning("journal_not_settled", reason=type(error).__name__)


def _subject(request: HttpRequest) -> tuple[str, str]:
    """The journal's column and the value in it. Raises BadRequest."""
    given = {key: value for key in ("name", "address", "mac") if (value := request.query_params.get(key))}
    if len(given) != 1:
        raise BadRequest("history is of one name, address or mac: ?name=NAME, ?address=ADDRESS or ?mac=MAC")
    [(key, value)] = given.items()
    if key == "name":
        return "name", value
    if key == "address":
        v4, v6 = parse_either(value)
        if v4 is not None:
            return "v4", format_v4(v4)
        if v6 is not None:
            return "v6", format_v6(v6)
        raise BadRequest(f"address={shown(value)}: must be an IPv4 or IPv6 address")
    try:
        return "mac", parse_mac(value)
    except ValueError as error:
        raise BadRequest(f"mac={shown(value)}: {error}") from None


class Moment(NamedTuple):
    """From `first` on and before `last`: the whole second where no part of it was given, as tables show no parts."""

    first: float
    last: float


def _moment(text: str) -> Moment | None:
    """Seconds since the epoch, or RFC 3339. Raises BadRequest."""
    if not text:
        return None
    try:
        first = float(text) if text.replace(".", "", 1).isdecimal() else _rfc3339(text)
        timestamp(first)
    except (ValueError, OverflowError, OSError):
        raise BadRequest(
            f"at={shown(text)}: must be seconds since 1970 or an RFC 3339 time such as 2026-11-27T08:00:00Z"
        ) from None
    return Moment(first, first + (1.0 if first.is_integer() else 1e-6))


def _rfc3339(text: str) -> float:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("no time zone")
    return found.timestamp()


def _precise(seconds: float | None) -> str | None:
    """RFC 3339 with microseconds, Kubernetes' MicroTime."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _tenure(tenure: Tenure) -> dict[str, Any]:
    about = involved(tenure.name)
    return {
        "kind": about.kind, "name": tenure.name, "uid": tenure.uid, "subnet": tenure.subnet,
        "v4IpAddress": tenure.v4, "v6IpAddress": tenure.v6, "macAddress": tenure.mac,
        "since": _precise(tenure.since), "until": _precise(tenure.until),
        "actor": tenure.actor, "endedBy": tenure.ended_by,
    }  # fmt: skip


def _event(number: int, entry: Entry) -> dict[str, Any]:
    """`number` is the entry's in the journal: with it no two events have one name."""
    about = involved(entry.name)
    when = timestamp(entry.at)
    subject = {"apiVersion": about.api_version, "kind": about.kind, "name": about.name, "uid": entry.uid}
    if about.namespace:
        subject["namespace"] = about.namespace
    return {
        "apiVersion": "v1", "kind": "Event",
        "metadata": {
            "name": f"{about.name}.{number:x}", "namespace": about.namespace or "default", "creationTimestamp": when,
            "annotations": {ACTOR: entry.actor} if entry.actor else {},
        },
        "type": entry.type, "reason": entry.reason, "message": entry.message, "count": 1,
        "firstTimestamp": when, "lastTimestamp": when,
        "source": {"component": "ovnreserved"}, "reportingComponent": "ovnreserved",
        "involvedObject": subject,
    }  # fmt: skip
