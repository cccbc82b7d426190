"""The HTTP resources, by the Kubernetes API conventions (docs/api.md).

Reads are answered from what the engine has published, at any time. Writes are checked here, field by field, and go
through the engine's queue; a request that is refused never reaches it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from ovnreserve import __version__
from ovnreserve.api import discovery, limits, selectors
from ovnreserve.api.desk import Desk
from ovnreserve.api.http import (
    MAX_BODY,
    Download,
    Handler,
    Resource,
    actor,
    big_json,
    body,
    check_delete_options,
    fields,
    in_turns,
    json,
    json_list,
    merge_patch,
    quoted,
    waiting,
)
from ovnreserve.api.journal import Journal, Read
from ovnreserve.api.kinds import IP, IP_POOL, Kind, document_of, request_of, wanted_of
from ovnreserve.api.owners import Owners
from ovnreserve.api.questions import Questions
from ovnreserve.engine import Answer, Create, Delete, Engine, Patch, Refresh, Request, Settle, Shown, document, labels
from ovnreserve.model.documents import read_metadata, timestamp
from ovnreserve.model.errors import (
    BadRequest,
    Conflict,
    NotFound,
    OutcomeUnknown,
    Refused,
    RequestEntityTooLarge,
    Unavailable,
    shown,
)
from ovnreserve.model.ip import API_VERSION, merged, patched_label, read_patch
from ovnreserve.model.owner import API_VERSIONS

_log = structlog.get_logger(__name__)

MAX_ITEMS = 50_000
"""Of one bulk request. Well below what the engine lets wait (inbox.MAX_WAITING), or it would be refused for ever."""

SETTLED_WITHIN = 10.0
"""Seconds in which the engine has to write down what it has acknowledged, before a backup."""
_PATIENCE: Final = 0.5
"""Seconds that a read of subnets waits for the engine to count."""

CopyLedger = Callable[[], BinaryIO]


class Api:
    """The routes over one engine. Make it inside the event loop that serves them. `journal` (see Read) and
    `copy_ledger` (an open file; never asked twice at once) are slow and may raise Refused.
    """

    def __init__(
        self, engine: Engine, journal: Read, copy_ledger: CopyLedger, ledger: Path, remote: str
    ) -> None:
        self._copy_ledger = copy_ledger
        self._copying = asyncio.Lock()
        self._published = engine.published
        self._desk = Desk(engine)
        self._questions = Questions(self._desk)
        self._journal = Journal(journal, self._desk)
        self._ledger = ledger
        self._remote = remote
        self._started = time.monotonic()

    def application(self) -> ASGIApp:
        group = "/apis/kubeovn.io/v1"
        turns = asyncio.Semaphore(limits.LISTS)
        resources = {
            f"{group}/ips": self._all(IP, self._list, turns),
            f"{group}/ips/{{name}}": self._each(IP, self._get),
            f"{group}/ippools": self._all(IP_POOL, self._pools, turns),
            f"{group}/ippools/{{name}}": self._each(IP_POOL, self._pool),
            "/apis/ovnreserve.io/v1/bulk": Resource(POST=self._bulk),
            "/apis/ovnreserve.io/v1/backup": Resource(GET=self._backup),
            "/apis/ovnreserve.io/v1/history": Resource(turns=turns, GET=self._journal.history),
            "/apis/ovnreserve.io/v1/status": Resource(GET=self._status),
            "/apis/ovnreserve.io/v1/suggest": Resource(GET=self._questions.suggest),
            "/apis/ovnreserve.io/v1/verify": Resource(GET=self._questions.verify, POST=self._questions.repair),
            f"{group}/subnets": Resource(turns=turns, GET=self._subnets),
            f"{group}/subnets/{{name}}": Resource(GET=self._subnet),
            "/api/v1/events": Resource(turns=turns, GET=self._journal.events),
            "/version": Resource(GET=discovery.version),
            "/api": Resource(GET=discovery.api),
            "/apis": Resource(GET=discovery.groups),
            **{f"/apis/{version}": Resource(GET=discovery.resources) for version in discovery.VERSIONS},
        }
        for kind in API_VERSIONS:
            resources |= Owners(kind, self._published, self._ask).resources()
        routes = [Route(path, resource) for path, resource in resources.items()]
        return Router(routes, redirect_slashes=False, default=Resource())

    def _all(self, kind: Kind, show: Handler, turns: asyncio.Semaphore) -> Resource:
        return Resource(turns=turns, GET=show, POST=partial(self._create, kind))

    def _each(self, kind: Kind, show: Handler) -> Resource:
        return Resource(GET=show, PATCH=partial(self._patch, kind), DELETE=partial(self._delete, kind))

    # ---- what can be written ---------------------------------------------------------------------------------------

    async def _list(self, request: HttpRequest) -> Response:
        wanted = selectors.parse(request.query_params.get("labelSelector", ""))
        wanted_fields = fields(request, "metadata.name")
        head = {"metadata": {"resourceVersion": str(self._published.version)}}

        def is_asked_for(name: str, shown: Shown) -> bool:
            return selectors.matches_fields(wanted_fields, {"metadata": {"name": name}}) and (
                not wanted or selectors.matches(wanted, labels(shown))
            )

        found = self._published.all_ips()
        if wanted_fields or wanted:
            found = {name: shown async for name, shown in in_turns(found.items()) if is_asked_for(name, shown)}
        by_name = (found[name] for name in sorted(found))
        return await json_list({"apiVersion": API_VERSION, "kind": "IPList", **head}, map(document, by_name))

    async def _create(self, kind: Kind, request: HttpRequest) -> Response:
        wanted = wanted_of(await body(request), kind)
        [answer] = await self._ask(request, [Create(wanted)])
        return self._one(answer, created=201)

    async def _get(self, request: HttpRequest) -> Response:
        name = request.path_params["name"]
        ip = self._published.ip(name)
        if ip is None:
            raise NotFound.of("ips", name)
        return json(ip)

    async def _delete(self, kind: Kind, request: HttpRequest) -> Response:
        await check_delete_options(request)
        [answer] = await self._ask(request, [Delete(kind.key(request.path_params["name"], ""))])
        return self._one(answer)

    async def _patch(self, kind: Kind, request: HttpRequest) -> Response:
        name = request.path_params["name"]
        patch = await merge_patch(request)
        spec = read_patch(patch, name, kind.name)
        patched, annotations, version = read_metadata(patch, name, kind.name)
        if kind is not IP:
            [answer] = await self._ask(request, [Patch(kind.key(name, ""), patched, annotations, version, spec=spec)])
            return self._one(answer)
        wanted = None
        if spec:
            there = self._published.ips.get(name) or self._published.born.get(name)
            if there is None:
                raise NotFound.of("ips", name)
            wanted = merged(document(there), spec)
        change = Patch(name, patched, annotations, version, wanted, reserved=patched_label(patched, name))
        [answer] = await self._ask(request, [change])
        if answer.refused is None and answer.resource is None:
            return await self._get(request)  # it is its port's again, or was and is
        return self._one(answer)

    def _one(self, answer: Answer, created: int = 200) -> Response:
        if answer.refused is not None:
            raise answer.refused
        response = json(document_of(self._published, answer), created)
        for warning in answer.warnings:
            response.headers.append("warning", f'299 - "{quoted(warning)}"')
        return response

    async def _ask(self, request: HttpRequest, requests: list[Request]) -> list[Answer]:
        timeout, wait_sb = waiting(request)
        return await self._desk.ask(requests, timeout, wait_sb=wait_sb, actor=actor(request))

    async def _pools(self, request: HttpRequest) -> Response:
        wanted = selectors.parse(request.query_params.get("labelSelector", ""))
        wanted_fields = fields(request, "metadata.name", "spec.subnet")
        await self._refresh()
        version = self._published.version
        found = [pool.document() for pool in self._published.all_pools() if selectors.matches(wanted, pool.pool.labels)]
        items = [pool for pool in found if selectors.matches_fields(wanted_fields, pool)]
        metadata = {"resourceVersion": str(version)}
        return big_json({"apiVersion": API_VERSION, "kind": "IPPoolList", "metadata": metadata, "items": items})

    async def _pool(self, request: HttpRequest) -> Response:
        name = request.path_params["name"]
        await self._refresh()
        pool = self._published.pools.get(IP_POOL.key(name, ""))
        if pool is None:
            raise NotFound.of(IP_POOL.plural, name)
        return big_json(pool.document())

    # ---- many at once ----------------------------------------------------------------------------------------------

    async def _bulk(self, request: HttpRequest) -> Response:
        bulk = await body(request, most=MAX_BODY)
        verb = bulk.get("verb") if isinstance(bulk, dict) else None
        items = bulk.get("items") if isinstance(bulk, dict) else None
        if verb not in ("apply", "create", "delete") or not isinstance(items, list):
            raise BadRequest('a bulk request is {"verb": "apply" | "create" | "delete", "items": [...]}')
        if len(items) > MAX_ITEMS:
            raise RequestEntityTooLarge(
                f"one bulk request may have at most {MAX_ITEMS} items, not {len(items)}; nothing was changed: "
                "send them in several"
            )
        results: list[Any] = [None] * len(items)
        requests: list[Request] = []
        places: list[int] = []
        for index, item in enumerate(items):
            try:
                requests.append(request_of(verb, item))
                places.append(index)
            except Refused as refused:
                results[index] = {"result": "error", "status": refused.status()}
        del bulk, items  # several times as large as the body was, and it may be long until the answers are there
        answers = await self._ask(request, requests) if requests else []
        whole = request.query_params.get("objects", "true") == "true"
        for index, answer in zip(places, answers, strict=True):
            results[index] = self._result(verb, answer, whole=whole)
        return json({"results": results})

    def _result(self, verb: str, answer: Answer, *, whole: bool) -> dict[str, Any]:
        if answer.refused is not None:
            return {"result": "error", "status": answer.refused.status()}
        # What a label of the document has let go is changed by it, in the words of apply.
        is_let_go = verb == "apply" and answer.result not in ("created", "configured", "unchanged")
        result: dict[str, Any] = {"result": "configured" if is_let_go else answer.result}
        if answer.warnings:
            result["warnings"] = [shown(warning, 1024) for warning in answer.warnings]
        if whole:
            result["object"] = document_of(self._published, answer)
        return result

    # ---- the rest --------------------------------------------------------------------------------------------------

    async def _subnets(self, request: HttpRequest) -> Response:
        wanted_fields = fields(request, "metadata.name")
        await self._refresh()
        found = [subnet.document() for subnet in self._published.all_subnets()]
        items = [subnet for subnet in found if selectors.matches_fields(wanted_fields, subnet)]
        return big_json({"apiVersion": API_VERSION, "kind": "SubnetList", "metadata": {}, "items": items})

    async def _subnet(self, request: HttpRequest) -> Response:
        name = request.path_params["name"]
        await self._refresh()
        found = [subnet for subnet in self._published.all_subnets() if subnet.name == name]
        if not found:
            raise NotFound.of("subnets", name)
        if len(found) > 1:
            raise Conflict.ambiguous(name, [subnet.uid for subnet in found])
        return big_json(found[0].document())

    async def _refresh(self) -> None:
        """Let the engine bring the counts up to date; if it is held up, by a change of 100,000 ports or a disk that
        hangs, what it published last has to do.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._desk.ask([Refresh()], _PATIENCE)
        except (Refused, TimeoutError) as error:
            _log.warning("subnets_not_refreshed", reason=type(error).__name__)

    async def _backup(self, _request: HttpRequest) -> Response:
        """The ledger as a file, with everything in it that was acknowledged before this request came."""
        try:
            [answer] = await self._desk.ask([Settle()], SETTLED_WITHIN)
        except OutcomeUnknown:
            raise Unavailable("the daemon is held up; the ledger cannot be copied now", kind="") from None
        if answer.refused is not None:
            raise answer.refused
        async with self._copying:
            copy = await run_in_threadpool(self._copy_ledger)
        return Download(copy, "application/vnd.sqlite3")

    async def _status(self, _request: HttpRequest) -> Response:
        published = self._published
        phases = {"total": 0, "bound": 0, "pending": 0, "releasing": 0, "failed": 0, "conflicted": 0}
        for r, seen in list(published.ips.values()):
            phases["total"] += 1
            phases["conflicted"] += bool(seen.conflicts)
            match r.state:
                case "held":
                    phases["bound"] += seen.bound.status
                case "intended":
                    phases["pending"] += 1
                case state:
                    phases[state] += 1
        connected = published.state != "disconnected"
        database = {
            "remote": self._remote,
            "connected": connected,
            "since": timestamp(published.since) if published.since else None,
            "schema": published.schema,
            "problem": published.problem if published.state in ("disconnected", "foreign") else "",
        }
        status = {
            "version": __version__,
            "pid": os.getpid(),
            "state": published.state,
            "database": database,
            "reservations": phases,
            "subnets": published.subnet_count,
            "ports": published.ports,
            "findings": [finding._asdict() for finding in published.findings],
            "born": len(published.born),
            "revision": published.revision,
            "writer": published.writer,
            "ledger": str(self._ledger),
            "uptime": round(time.monotonic() - self._started, 1),
        }
        return json(status)


