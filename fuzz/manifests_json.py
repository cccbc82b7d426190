"""The body of a request: JSON, and what a document or a patch of it means. A name that is let in follows RFC 1123."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from ovnreserve.api.http import _decoded
from ovnreserve.cli import manifests
from ovnreserve.cli.errors import ManifestError
from ovnreserve.model.documents import read_metadata
from ovnreserve.model.errors import Refused
from ovnreserve.model.ip import read, read_patch

_DOCUMENT: Final[dict[str, Any]] = {
    "apiVersion": "kubeovn.io/v1",
    "kind": "IP",
    "metadata": {"name": "vm-1.default", "labels": {"app": "web"}, "annotations": {"a/b": "c"}, "resourceVersion": "7"},
    "spec": {
        "subnet": "ovn-default", "podName": "vm-1", "namespace": "default", "podType": "VirtualMachine",
        "v4IpAddress": "10.16.0.9", "v6IpAddress": "fd00::9", "ipAddress": "10.16.0.9,fd00::9",
        "macAddress": "0A-00-00-00-00-01", "nodeName": "node-1", "containerID": "c0ffee", "attachIps": ["10.1.0.1"],
        "attachMacs": ["0a:00:00:00:00:02"], "attachSubnets": ["other"],
    },
}  # fmt: skip
SEEDS: Final = (
    json.dumps(_DOCUMENT).encode(),
    json.dumps({"verb": "apply", "items": [_DOCUMENT]}).encode(),
    json.dumps({"metadata": {"labels": {"app": None}, "annotations": {"a": "b"}}, "spec": {"nodeName": "n"}}).encode(),
    json.dumps({"kind": "List", "apiVersion": "v1", "items": [_DOCUMENT]}).encode(),
    b'{"kind":"IP","apiVersion":"kubeovn.io/v1","metadata":{"name":"\\u001b[2J\\n"},"spec":{"podName":"\\ud83d\\ude00"}}',
    b"[[[[[[[[1e999, -0, 1E400, 123456789012345678901234567890]]]]]]]]",
)
_is_subdomain: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*").fullmatch


def check(data: bytes) -> None:
    try:
        for document in manifests.parse(data, "x.json"):
            list(manifests._flatten(document, "x.json"))
    except ManifestError as error:
        assert str(error).replace("\t", " ").isprintable()
    value = _or_refused(_decoded, data)
    items = value.get("items") if isinstance(value, dict) else None
    for document in items if isinstance(items, list) else [value]:
        wanted = _or_refused(read, document)
        assert wanted is None or (_is_subdomain(wanted.name) and _is_subdomain(wanted.pod_name))
        _or_refused(read_patch, document, "vm-1.default")
        _or_refused(read_metadata, document, "vm-1.default")


def _or_refused(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Refused as refused:
        assert 400 <= refused.code < 500
        assert refused.message.isprintable()
        assert all(text.isprintable() for cause in refused.causes for text in cause)
        return None
