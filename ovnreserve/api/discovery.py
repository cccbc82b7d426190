"""Discovery: what the server is and which resources it has."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ovnreserve import __version__
from ovnreserve.api.http import json
from ovnreserve.model.ip import API_VERSION

_READ: Final = ["get", "list"]
_SCALE: Final = ["get", "patch", "update"]
_WRITE: Final = ["create", "delete", "get", "list", "patch"]


def _resource(plural: str, kind: str, verbs: list[str], *, namespaced: bool = False, **more: Any) -> dict[str, Any]:
    singular = "" if "/" in plural else kind.lower()
    return {
        "name": plural, "singularName": singular, "namespaced": namespaced, "kind": kind, "verbs": verbs, **more,
    }  # fmt: skip


VERSIONS: Final[dict[str, list[dict[str, Any]]]] = {
    API_VERSION: [
        _resource("ips", "IP", _WRITE, shortNames=["ip"]),
        _resource("ippools", "IPPool", _WRITE, shortNames=["ippool"]),
        _resource("subnets", "Subnet", _READ),
    ],
    "apps/v1": [
        _resource("statefulsets", "StatefulSet", _WRITE, namespaced=True, shortNames=["sts"]),
        _resource("statefulsets/scale", "Scale", _SCALE, namespaced=True, group="autoscaling", version="v1"),
    ],
    "kubevirt.io/v1": [
        _resource("virtualmachines", "VirtualMachine", _WRITE, namespaced=True, shortNames=["vm", "vms"]),
    ],
}
"""By group and version, the resources."""


async def version(_request: HttpRequest) -> Response:
    major, minor = __version__.split(".")[:2]
    return json({"major": major, "minor": minor, "gitVersion": f"v{__version__}", "platform": "linux"})


async def api(_request: HttpRequest) -> Response:
    return json({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})


async def groups(_request: HttpRequest) -> Response:
    found = []
    for group_version in VERSIONS:
        group, _slash, name = group_version.partition("/")
        version = {"groupVersion": group_version, "version": name}
        found.append({"name": group, "versions": [version], "preferredVersion": version})
    return json({"kind": "APIGroupList", "apiVersion": "v1", "groups": found})


async def resources(request: HttpRequest) -> Response:
    group_version = request.url.path.removeprefix("/apis/")
    found = VERSIONS[group_version]
    return json({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": found})
