"""StatefulSets and VirtualMachines over HTTP: what somebody tells of the owners of IPs (docs/retention.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ovnreserve.api import selectors
from ovnreserve.api.http import Resource, body, check_delete_options, json, merge_patch
from ovnreserve.api.http import fields as wanted_fields
from ovnreserve.engine import Answer, Create, Delete, Published, Request, Scale
from ovnreserve.model.documents import read_metadata
from ovnreserve.model.errors import PLURALS, BadRequest, FieldError, Invalid, NotFound
from ovnreserve.model.owner import (
    API_VERSIONS,
    STATEFUL_SET,
    Owner,
    owner_name,
    possible_owners,
    read_owner,
    read_scale,
)
from ovnreserve.model.resource import State

Ask = Callable[[HttpRequest, list[Request]], Awaitable[list[Answer]]]
_FIELDS: Final = ("metadata.name", "metadata.namespace")


class Owners:
    """The resources of one kind. `ask` hands requests to the engine."""

    def __init__(self, kind: str, published: Published, ask: Ask) -> None:
        self._kind = kind
        self._published = published
        self._ask = ask

    def resources(self) -> dict[str, Resource]:
        """By path."""
        plural = PLURALS[self._kind]
        group = f"/apis/{API_VERSIONS[self._kind]}"
        one = f"{group}/namespaces/{{namespace}}/{plural}/{{name}}"
        found = {
            f"{group}/{plural}": Resource(GET=self._list),
            f"{group}/namespaces/{{namespace}}/{plural}": Resource(GET=self._list, POST=self._create),
            one: Resource(GET=self._get, PATCH=self._patch, DELETE=self._delete),
        }
        if self._kind == STATEFUL_SET:
            change = partial(self._patch, scale=True)
            found[f"{one}/scale"] = Resource(GET=self._get_scale, PATCH=change, PUT=self._put_scale)
        return found

    async def _list(self, request: HttpRequest) -> Response:
        labels = selectors.parse(request.query_params.get("labelSelector", ""))
        fields = wanted_fields(request, *_FIELDS)
        namespace = request.path_params.get("namespace", "")
        retained = self._retained()
        items = []
        for owner in sorted(self._published.owners.values(), key=lambda owner: owner.name):
            if owner.kind == self._kind and owner.state is State.HELD and namespace in ("", owner.namespace):
                document = owner.document(retained[owner.name])
                if selectors.matches(labels, owner.labels) and selectors.matches_fields(fields, document):
                    items.append(document)
        metadata = {"resourceVersion": str(self._published.version)}
        version = API_VERSIONS[self._kind]
        return json({"apiVersion": version, "kind": f"{self._kind}List", "metadata": metadata, "items": items})

    def _retained(self) -> Counter[str]:
        """How many IPs are retained for each owner and have no port."""
        found: Counter[str] = Counter()
        for r, seen in list(self._published.ips.values()):
            if not r.reserved and seen.bound.reason == "NoPort":
                found.update(possible_owners(r.pod_name, r.namespace))
        return found

    def _name(self, request: HttpRequest) -> str:
        return owner_name(self._kind, request.path_params["namespace"], request.path_params["name"])

    def _owner(self, request: HttpRequest) -> Owner:
        owner = self._published.owners.get(self._name(request))
        if owner is None or owner.state is not State.HELD:
            raise NotFound.of(PLURALS[self._kind], request.path_params["name"])
        return owner

    def _shown(self, owner: Owner) -> Response:
        return json(owner.document(self._retained()[owner.name]))

    async def _get(self, request: HttpRequest) -> Response:
        return self._shown(self._owner(request))

    async def _create(self, request: HttpRequest) -> Response:
        document = await body(request)
        kind = document.get("kind") if isinstance(document, dict) else None
        if kind != self._kind:
            raise BadRequest(f"this is where a {self._kind} is created")
        [answer] = await self._ask(request, [Create(read_owner(document, request.path_params["namespace"]))])
        return json(self._document(answer), 201)

    async def _patch(self, request: HttpRequest, *, scale: bool = False) -> Response:
        title = request.path_params["name"]
        patch = await merge_patch(request)
        labels, annotations, version = read_metadata(patch, title, self._kind)
        replicas, start = read_scale(patch, title)
        if self._kind != STATEFUL_SET:
            replicas = start = None
        change = Scale(self._name(request), replicas, start, labels, annotations, version)
        return await self._change(request, change, scale=scale)

    async def _put_scale(self, request: HttpRequest) -> Response:
        document = await body(request)
        title = request.path_params["name"]
        replicas, _start = read_scale(document if isinstance(document, dict) else {}, title)
        if replicas is None:
            raise Invalid.because(title, [FieldError.required("spec.replicas")], "Scale")
        *_rest, version = read_metadata(document, title, "Scale")
        return await self._change(request, Scale(self._name(request), replicas, None, {}, {}, version), scale=True)

    async def _change(self, request: HttpRequest, change: Scale, *, scale: bool) -> Response:
        [answer] = await self._ask(request, [change])
        document = self._document(answer)
        return json(_scale(answer.resource) if scale and isinstance(answer.resource, Owner) else document)

    async def _get_scale(self, request: HttpRequest) -> Response:
        return json(_scale(self._owner(request)))

    async def _delete(self, request: HttpRequest) -> Response:
        await check_delete_options(request)
        [answer] = await self._ask(request, [Delete(self._name(request))])
        return json(self._document(answer))

    def _document(self, answer: Answer) -> dict[str, Any]:
        if answer.refused is not None:
            raise answer.refused
        assert isinstance(answer.resource, Owner)  # noqa: S101 - what plans about owners come to
        return answer.resource.document()


def _scale(owner: Owner) -> dict[str, Any]:
    """autoscaling/v1 Scale, as `kubectl scale` asks for it."""
    metadata = owner.document()["metadata"]
    shown = ("creationTimestamp", "name", "namespace", "resourceVersion", "uid")
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {key: metadata[key] for key in shown},
        "spec": {"replicas": owner.replicas},
        "status": {"replicas": owner.replicas},
    }
