"""The HTTP resources, by the Kubernetes API conventions (docs/api.md).

Reads are answered from what the engine has published, at any time. Writes are checked here, field by field, and go
through the engine's queue; a request that is refused never reaches it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from ovnreserve import __version__
from ovnreserve.api import selectors
from ovnreserve.engine import (
    Answer,
    Apply,
    Create,
    Delete,
    Engine,
    Entry,
    Patch,
    Refresh,
    Request,
    Ticket,
    document,
)
from ovnreserve.model.errors import (
    BadRequest,
    MethodNotAllowed,
    NotFound,
    OutcomeUnknown,
    Refused,
    UnsupportedMediaType,
)
from ovnreserve.model.ip import API_VERSION, read, read_metadata, timestamp

_log = structlog.get_logger(__name__)

MAX_BODY: Final = 64 * 1024 * 1024
MAX_TIMEOUT: Final = 600.0
DEFAULT_TIMEOUT: Final = 30.0

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

Handler = Callable[[HttpRequest], Awaitable[Response]]


class Desk:
    """Hands requests to the engine and the answers back to the coroutines that wait for them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._loop = asyncio.get_running_loop()
        engine.deliver = self._deliver

    def _deliver(self, tickets: list[Ticket]) -> None:
        """In the engine's thread: one call into the event loop for all answers of a batch."""
        self._loop.call_soon_threadsafe(_resolve, tickets)

    async def ask(self, requests: list[Request], seconds: float, *, wait_sb: bool = False) -> list[Answer]:
        """The answers, in order. OutcomeUnknown if the engine itself does not answer in time."""
        future: asyncio.Future[list[Answer]] = self._loop.create_future()
        self.engine.submit(requests, future, timeout=seconds, wait_sb=wait_sb)
        try:
            async with asyncio.timeout(seconds + 1):
                return await future
        except TimeoutError:
            raise OutcomeUnknown("the daemon's writer is held up; it may still be done: look with get") from None


def _resolve(tickets: list[Ticket]) -> None:
    for ticket in tickets:
        if not ticket.key.done():
            ticket.key.set_result(ticket.answers)


class Api:
    """The routes over one engine. Make it inside the event loop that serves them."""

    def __init__(self, engine: Engine, ledger: Path, remote: str) -> None:
        self._published = engine.published
        self._desk = Desk(engine)
        self._ledger = ledger
        self._remote = remote
        self._started = time.monotonic()

    def application(self) -> Starlette:
        group = "/apis/kubeovn.io/v1"
        routes = [
            Route(f"{group}/ips", self._guard(self._ips), methods=["GET", "POST"]),
            Route(f"{group}/ips/{{name}}", self._guard(self._ip), methods=["GET", "PATCH", "DELETE"]),
            Route("/apis/ovnreserve.io/v1/bulk", self._guard(self._bulk), methods=["POST"]),
            Route("/apis/ovnreserve.io/v1/status", self._guard(self._status), methods=["GET"]),
            Route(f"{group}/subnets", self._guard(self._subnets), methods=["GET"]),
            Route(f"{group}/subnets/{{name}}", self._guard(self._subnet), methods=["GET"]),
            Route("/api/v1/events", self._guard(self._events), methods=["GET"]),
            Route("/version", self._guard(_version), methods=["GET"]),
            Route("/api", self._guard(_api), methods=["GET"]),
            Route("/apis", self._guard(_groups), methods=["GET"]),
            Route(group, self._guard(_resources), methods=["GET"]),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _http_error, Exception: _internal_error})

    @staticmethod
    def _guard(handler: Handler) -> Handler:
        async def guarded(request: HttpRequest) -> Response:
            try:
                return await handler(request)
            except Refused as refused:
                return _refusal(refused)
            except ClientDisconnect:
                return Response(status_code=499)

        return guarded

    # ---- IPs -------------------------------------------------------------------------------------------------------

    async def _ips(self, request: HttpRequest) -> Response:
        if request.method == "POST":
            return await self._create(request)
        wanted = selectors.parse(request.query_params.get("labelSelector", ""))
        version = self._published.version
        found = [document(r, seen) for r, seen in self._published.all_ips()]
        items = [ip for ip in found if selectors.matches(wanted, ip.metadata.labels)]
        return _json({
            "apiVersion": API_VERSION, "kind": "IPList", "metadata": {"resourceVersion": str(version)}, "items": items,
        })  # fmt: skip

    async def _create(self, request: HttpRequest) -> Response:
        wanted = read(await _body(request))
        [answer] = await self._ask(request, [Create(wanted)])
        return self._one(answer, created=201)

    async def _ip(self, request: HttpRequest) -> Response:
        name = request.path_params["name"]
        if request.method == "PATCH":
            return await self._patch(request, name)
        if request.method == "DELETE":
            [answer] = await self._ask(request, [Delete(name)])
            return self._one(answer)
        ip = self._published.ip(name)
        if ip is None:
            raise NotFound.of("ips", _shown(name))
        return _json(ip)

    async def _patch(self, request: HttpRequest, name: str) -> Response:
        media = request.headers.get("content-type", "").partition(";")[0]
        if media != "application/merge-patch+json":
            raise UnsupportedMediaType(
                f"the body of the request was in an unknown format - accepted media types include: "
                f"application/merge-patch+json, not {_shown(media)}"
            )
        patch = await _body(request, media)
        labels, annotations = read_metadata(patch, name)
        version = (patch.get("metadata") or {}).get("resourceVersion") or ""
        requests: list[Request] = [Patch(name, labels, annotations, str(version))]
        spec = patch.get("spec")
        if spec:
            ip = self._published.ip(name)
            if ip is None:
                raise NotFound.of("ips", _shown(name))
            if not isinstance(spec, dict):
                raise BadRequest("spec is not a mapping")
            merged = {**msgspec.to_builtins(ip.spec), **spec}
            metadata = {"name": name, "labels": {}, "annotations": {}}
            wanted = read({"apiVersion": API_VERSION, "kind": "IP", "metadata": metadata, "spec": merged})
            requests.insert(0, Apply(wanted))
        answers = await self._ask(request, requests)
        return self._one(next((a for a in answers if a.refused), answers[-1]))

    def _one(self, answer: Answer, created: int = 200) -> Response:
        if answer.refused is not None:
            raise answer.refused
        body = self._document(answer)
        response = _json(body, created)
        for warning in answer.warnings:
            response.headers.append("warning", f'299 - "{_quoted(warning)}"')
        return response

    def _document(self, answer: Answer) -> Any:
        """The answer's reservation with the status that has been published since, or a Success status if it is gone."""
        r = answer.reservation
        if r is None:
            return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 200}
        found = self._published.ips.get(r.name)
        return document(*found) if found is not None else _success(r.name, r.uid)

    async def _ask(self, request: HttpRequest, requests: list[Request]) -> list[Answer]:
        timeout, wait_sb = _waiting(request)
        return await self._desk.ask(requests, timeout, wait_sb=wait_sb)

    # ---- many at once ----------------------------------------------------------------------------------------------

    async def _bulk(self, request: HttpRequest) -> Response:
        body = await _body(request)
        verb = body.get("verb") if isinstance(body, dict) else None
        items = body.get("items") if isinstance(body, dict) else None
        if verb not in ("apply", "create", "delete") or not isinstance(items, list):
            raise BadRequest('a bulk request is {"verb": "apply" | "create" | "delete", "items": [...]}')
        results: list[Any] = [None] * len(items)
        requests: list[Request] = []
        places: list[int] = []
        for index, item in enumerate(items):
            try:
                requests.append(_request(verb, item))
                places.append(index)
            except Refused as refused:
                results[index] = {"result": "error", "status": refused.status()}
        answers = await self._ask(request, requests) if requests else []
        whole = request.query_params.get("objects", "true") == "true"
        for index, answer in zip(places, answers, strict=True):
            results[index] = self._result(answer, whole=whole)
        return _json({"results": results})

    def _result(self, answer: Answer, *, whole: bool) -> dict[str, Any]:
        if answer.refused is not None:
            return {"result": "error", "status": answer.refused.status()}
        result: dict[str, Any] = {"result": answer.result}
        if answer.warnings:
            result["warnings"] = answer.warnings
        if whole:
            result["object"] = self._document(answer)
        return result

    # ---- the rest --------------------------------------------------------------------------------------------------

    async def _subnets(self, _request: HttpRequest) -> Response:
        await self._refresh()
        items = [subnet.document() for subnet in self._published.all_subnets()]
        return _big_json({"apiVersion": API_VERSION, "kind": "SubnetList", "metadata": {}, "items": items})

    async def _subnet(self, request: HttpRequest) -> Response:
        name = request.path_params["name"]
        await self._refresh()
        found = [subnet for subnet in self._published.all_subnets() if subnet.name == name]
        if not found:
            raise NotFound.of("subnets", _shown(name))
        return _big_json(found[0].document())

    async def _refresh(self) -> None:
        """Let the engine bring the counts up to date; if it is held up, what it published last has to do."""
        try:
            await self._desk.ask([Refresh()], 1.0)
        except Refused as refused:
            _log.warning("subnets_not_refreshed", reason=refused.reason)

    async def _events(self, request: HttpRequest) -> Response:
        name = None
        for word in request.query_params.get("fieldSelector", "").split(","):
            key, _, value = word.partition("=")
            if key == "involvedObject.name":
                name = value
        entries = await run_in_threadpool(self._desk.engine.journal, name)
        items = [_event(number, entry) for number, entry in enumerate(entries)]
        return _json({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": items})

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
            "problem": "" if connected else published.problem,
        }
        status = {
            "version": __version__,
            "pid": os.getpid(),
            "state": published.state,
            "database": database,
            "reservations": phases,
            "subnets": published.subnet_count,
            "ports": published.ports,
            "revision": published.revision,
            "ledger": str(self._ledger),
            "json": "fast",
            "uptime": round(time.monotonic() - self._started, 1),
        }
        return _json(status)


def _request(verb: str, item: Any) -> Request:
    if verb != "delete":
        wanted = read(item)
        return Apply(wanted) if verb == "apply" else Create(wanted)
    metadata = item.get("metadata") if isinstance(item, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise BadRequest("metadata.name is required")
    if item.get("kind", "IP") != "IP":
        raise BadRequest(f"kind {_shown(str(item.get('kind')))} cannot be deleted")
    return Delete(name)


def _waiting(request: HttpRequest) -> tuple[float, bool]:
    wait = request.query_params.get("wait", "none")
    if wait not in ("none", "sb"):
        raise BadRequest(f"wait={_shown(wait)}: must be none or sb")
    text = request.query_params.get("timeout", "")
    try:
        timeout = float(text.removesuffix("s")) if text else DEFAULT_TIMEOUT
    except ValueError:
        timeout = -1.0
    if not 0 < timeout <= MAX_TIMEOUT:
        raise BadRequest(f"timeout={_shown(text)}: must be a number of seconds, above 0 and at most {MAX_TIMEOUT:g}")
    return timeout, wait == "sb"


async def _body(request: HttpRequest, media: str = "application/json") -> Any:
    """The decoded body. Raises BadRequest for what is no JSON or too large."""
    declared = request.headers.get("content-type", media).partition(";")[0].strip()
    if declared != media:
        raise UnsupportedMediaType(f"the body must be {media}, not {_shown(declared)}")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise BadRequest(f"the body is larger than {MAX_BODY >> 20} MiB")
        chunks.append(chunk)
    try:
        return _decode(b"".join(chunks))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {_shown(str(error))}") from None


def _json(value: Any, code: int = 200) -> Response:
    return Response(_encode(value), code, media_type="application/json")


def _big_json(value: Any) -> Response:
    """For integers of any size, such as how many addresses an IPv6 subnet has."""
    return Response(json.dumps(value, separators=(",", ":")), 200, media_type="application/json")


def _refusal(refused: Refused) -> Response:
    return _json(refused.status(), refused.code)


async def _http_error(_request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    if error.status_code == 405:
        return _refusal(MethodNotAllowed("the server does not allow this method on the requested resource", kind=""))
    if error.status_code == 404:
        return _refusal(NotFound("the server could not find the requested resource", kind=""))
    return _refusal(BadRequest(_shown(str(error.detail)), kind=""))


async def _internal_error(_request: HttpRequest, error: Exception) -> Response:
    _log.error("request_failed", exc_info=error)
    return _refusal(Refused("internal error; the daemon's log says more", kind=""))


def _success(name: str, uid: str) -> dict[str, Any]:
    details = {"name": name, "group": "kubeovn.io", "kind": "ips", "uid": uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details, "code": 200}


def _event(number: int, entry: Entry) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": f"{entry.name}.{int(entry.at * 1e6):x}.{number}", "namespace": "default"},
        "type": entry.type, "reason": entry.reason, "message": entry.message, "count": 1,
        "firstTimestamp": timestamp(entry.at), "lastTimestamp": timestamp(entry.at),
        "source": {"component": "ovnreserved"},
        "involvedObject": {"apiVersion": API_VERSION, "kind": "IP", "name": entry.name, "uid": entry.uid},
    }  # fmt: skip


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:253])


def _quoted(text: str) -> str:
    return _shown(text).replace("\\", "\\\\").replace('"', '\\"').encode("ascii", "replace").decode()


# ---- discovery -----------------------------------------------------------------------------------------------------


async def _version(_request: HttpRequest) -> Response:
    major, minor = __version__.split(".")[:2]
    return _json({"major": major, "minor": minor, "gitVersion": f"v{__version__}", "platform": "linux"})


async def _api(_request: HttpRequest) -> Response:
    return _json({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})


async def _groups(_request: HttpRequest) -> Response:
    version = {"groupVersion": API_VERSION, "version": "v1"}
    group = {"name": "kubeovn.io", "versions": [version], "preferredVersion": version}
    return _json({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]})


async def _resources(_request: HttpRequest) -> Response:
    ip = {
        "name": "ips", "singularName": "ip", "shortNames": ["ip"], "namespaced": False, "kind": "IP",
        "verbs": ["create", "delete", "get", "list", "patch"],
    }  # fmt: skip
    subnet = {
        "name": "subnets", "singularName": "subnet", "namespaced": False, "kind": "Subnet", "verbs": ["get", "list"],
    }  # fmt: skip
    return _json(
        {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": [ip, subnet]}
    )
