"""Discovery: what the server is and which resources it has."""

from __future__ import annotations

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ovnreserve import __version__
from ovnreserve.api.http import json
from ovnreserve.model.ip import API_VERSION


async def version(_request: HttpRequest) -> Response:
    major, minor = __version__.split(".")[:2]
    return json({"major": major, "minor": minor, "gitVersion": f"v{__version__}", "platform": "linux"})


async def api(_request: HttpRequest) -> Response:
    return json({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})


async def groups(_request: HttpRequest) -> Response:
    version = {"groupVersion": API_VERSION, "version": "v1"}
    group = {"name": "kubeovn.io", "versions": [version], "preferredVersion": version}
    return json({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]})


async def resources(_request: HttpRequest) -> Response:
    ip = {
        "name": "ips", "singularName": "ip", "shortNames": ["ip"], "namespaced": False, "kind": "IP",
        "verbs": ["create", "delete", "get", "list", "patch"],
    }  # fmt: skip
    subnet = {
        "name": "subnets", "singularName": "subnet", "namespaced": False, "kind": "Subnet", "verbs": ["get", "list"],
    }  # fmt: skip
    return json({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": [ip, subnet]})
