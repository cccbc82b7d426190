"""The HTTP resources, by the Kubernetes API conventions (docs/api.md).

Reads are answered from what the engine has published, at any time. Writes are checked here, field by field, and go
through the engine's queue; a request that is refused never reaches it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import msgspec
import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from ovnreserve import __version__
from ovnreserve.api import selectors
from ovnreserve.api.desk import Desk
from ovnreserve.api.http import Resource, big_json, body, json, quoted, shown, waiting
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
    document,
)
from ovnreserve.model.errors import BadRequest, NotFound, Refused, UnsupportedMediaType
from ovnreserve.model.ip import API_VERSION, read, read_metadata, timestamp

_log = structlog.get_logger(__name__)


class Api:
    """The routes over one engine. Make it inside the event loop that serves them."""

    def __init__(self, engine: Engine, ledger: Path, remote: str) -> None:
        self._published = engine.published
        self._desk = Desk(engine)
        self._ledger = ledger
        self._remote = remote
        self._started = time.monotonic()

    def application(self) -> ASGIApp:
        group = "/apis/kubeovn.io/v1"
        resources = {
            f"{group}/ips": Resource(GET=self._list, POST=self._create),
            f"{group}/ips/{{name}}": Resource(GET=self._get, PATCH=self._patch, DELETE=self._delete),
            "/apis/ovnreserve.io/v1/bulk": Resource(POST=self._bulk),
            "/apis/ovnreserve.io/v1/status": Resource(GET=self._status),
            f"{group}/subnets": Resource(GET=self._subnets),
            f"{group}/subnets/{{name}}": Resource(GET=self._subnet),
            "/api/v1/events": Resource(GET=self._events),
            "/version": Resource(GET=_version),
            "/api": Resource(GET=_api),
            "/apis": Resource(GET=_groups),
            group: Resource(GET=_resources),
        }
        routes = [Route(path, resource) for path, resource in resources.items()]
        return Router(routes, redirect_slashes=False, default=Resource())

    # ---- IPs -------------------------------------------------------------------------------------------------------

    async def _list(self, request: HttpRequest) -> Response:
        wanted = selectors.parse(request.query_params.get("labelSelector", ""))
        version = self._published.version
        found = [document(r, seen) for r, seen in self._published.all_ips()]
        items = [ip for ip in found if selectors.matches(wanted, ip.metadata.labels)]
        metadata = {"resourceVersion": str(version)}
        return json({"apiVersion": API_VERSION, "kind": "IPList", "metadata": metadata, "items": items})

    async def _create(self, request: HttpRequest) -> Response:
        wanted = read(await body(request))
        [answer] = await self._ask(request, [Create(wanted)])
        return self._one(answer, created=201)

    async def _get(self, request: HttpRequest) -> Response:
        name = request.path_params["name"]
        ip = self._published.ip(name)
        if ip is None:
            raise NotFound.of("ips", shown(name))
        return json(ip)

    async def _delete(self, request: HttpRequest) -> Response:
        [answer] = await self._ask(request, [Delete(request.path_params["name"])])
        return self._one(answer)

    async def _patch(self, request: HttpRequest) -> Response:
        name = request.path_params["name"]
        media = request.headers.get("content-type", "").partition(";")[0]
        if media != "application/merge-patch+json":
            raise UnsupportedMediaType(
                f"the body of the request was in an unknown format - accepted media types include: "
                f"application/merge-patch+json, not {shown(media)}"
            )
        patch = await body(request, media)
        labels, annotations = read_metadata(patch, name)
        version = (patch.get("metadata") or {}).get("resourceVersion") or ""
        requests: list[Request] = [Patch(name, labels, annotations, str(version))]
        spec = patch.get("spec")
        if spec:
            ip = self._published.ip(name)
            if ip is None:
                raise NotFound.of("ips", shown(name))
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
        content = self._document(answer)
        response = json(content, created)
        for warning in answer.warnings:
            response.headers.append("warning", f'299 - "{quoted(warning)}"')
        return response

    def _document(self, answer: Answer) -> Any:
        """The answer's reservation with the status that has been published since, or a Success status if it is gone."""
        r = answer.reservation
        if r is None:
            return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 200}
        found = self._published.ips.get(r.name)
        return document(*found) if found is not None else _success(r.name, r.uid)

    async def _ask(self, request: HttpRequest, requests: list[Request]) -> list[Answer]:
        timeout, wait_sb = waiting(request)
        return await self._desk.ask(requests, timeout, wait_sb=wait_sb)

    # ---- many at once ----------------------------------------------------------------------------------------------

    async def _bulk(self, request: HttpRequest) -> Response:
        bulk = await body(request)
        verb = bulk.get("verb") if isinstance(bulk, dict) else None
        items = bulk.get("items") if isinstance(bulk, dict) else None
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
        return json({"results": results})

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
        return big_json({"apiVersion": API_VERSION, "kind": "SubnetList", "metadata": {}, "items": items})

    async def _subnet(self, request: HttpRequest) -> Response:
        name = request.path_params["name"]
        await self._refresh()
        found = [subnet for subnet in self._published.all_subnets() if subnet.name == name]
        if not found:
            raise NotFound.of("subnets", shown(name))
        return big_json(found[0].document())

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
        return json({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": items})

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
        return json(status)


def _request(verb: str, item: Any) -> Request:
    if verb != "delete":
        wanted = read(item)
        return Apply(wanted) if verb == "apply" else Create(wanted)
    metadata = item.get("metadata") if isinstance(item, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise BadRequest("metadata.name is required")
    if item.get("kind", "IP") != "IP":
        raise BadRequest(f"kind {shown(str(item.get('kind')))} cannot be deleted")
    return Delete(name)


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


# ---- discovery -----------------------------------------------------------------------------------------------------


async def _version(_request: HttpRequest) -> Response:
    major, minor = __version__.split(".")[:2]
    return json({"major": major, "minor": minor, "gitVersion": f"v{__version__}", "platform": "linux"})


async def _api(_request: HttpRequest) -> Response:
    return json({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})


async def _groups(_request: HttpRequest) -> Response:
    version = {"groupVersion": API_VERSION, "version": "v1"}
    group = {"name": "kubeovn.io", "versions": [version], "preferredVersion": version}
    return json({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]})


async def _resources(_request: HttpRequest) -> Response:
    ip = {
        "name": "ips", "singularName": "ip", "shortNames": ["ip"], "namespaced": False, "kind": "IP",
        "verbs": ["create", "delete", "get", "list", "patch"],
    }  # fmt: skip
    subnet = {
        "name": "subnets", "singularName": "subnet", "namespaced": False, "kind": "Subnet", "verbs": ["get", "list"],
    }  # fmt: skip
    return json({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": [ip, subnet]})
