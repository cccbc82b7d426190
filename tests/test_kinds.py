"""The table of kinds: what a document is taken for, and what the engine knows it by."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from builders import pool, uuid_of

from ovnreserve.api import kinds
from ovnreserve.engine import Answer, Apply, Create, Delete
from ovnreserve.engine.published import Published, PublishedPool
from ovnreserve.model.errors import BadRequest
from ovnreserve.model.pool import WantedPool
from ovnreserve.plan.pool_status import PoolStatus

DOCUMENT = {
    "apiVersion": "kubeovn.io/v1",
    "kind": "IPPool",
    "metadata": {"name": "pool-1"},
    "spec": {"subnet": "net", "ips": ["10.0.0.9"]},
}


@pytest.mark.parametrize(("verb", "kind"), [("apply", Apply), ("create", Create)])
def test_a_document_is_read_as_its_kind_says(verb: str, kind: type[Apply | Create]) -> None:
    request = kinds.request_of(verb, DOCUMENT)
    assert isinstance(request, kind)
    assert isinstance(request.wanted, WantedPool)
    assert request.name == "ippool/pool-1"


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"kind": "Pod"}, 'no resource for kind "Pod" in version "kubeovn.io/v1"'),
        ({"kind": ["IP"]}, "no resource for kind a list in version"),
        ({"apiVersion": "v1"}, 'no resource for kind "IPPool" in version "v1"'),
    ],
)
def test_a_kind_that_nobody_knows_is_named_with_those_that_are_known(changed: dict[str, Any], what: str) -> None:
    with pytest.raises(BadRequest) as caught:
        kinds.wanted_of({**DOCUMENT, **changed})
    assert caught.value.message.startswith(what)
    assert caught.value.message.endswith("StatefulSet of apps/v1, VirtualMachine of kubevirt.io/v1")


def test_a_path_takes_its_own_kind_only() -> None:
    with pytest.raises(BadRequest, match=r"this is kind IP of kubeovn\.io/v1$"):
        kinds.wanted_of(DOCUMENT, kinds.IP)
    with pytest.raises(BadRequest, match="not a mapping but a list"):
        kinds.wanted_of([], kinds.IP)


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ({"metadata": {"name": "a"}}, "a"),
        ({"kind": "IP", "metadata": {"name": "a"}}, "a"),
        ({"kind": "IPPool", "metadata": {"name": "a"}}, "ippool/a"),
        ({"kind": "StatefulSet", "metadata": {"name": "a"}}, "statefulset/default/a"),
        ({"kind": "VirtualMachine", "metadata": {"name": "a", "namespace": "b"}}, "virtualmachine/b/a"),
    ],
)
def test_what_is_to_be_deleted_is_known_by_its_kind_and_name(item: dict[str, Any], name: str) -> None:
    assert kinds.request_of("delete", item) == Delete(name)


@pytest.mark.parametrize("kind", ["Subnet", []])
def test_what_cannot_be_written_cannot_be_deleted(kind: Any) -> None:
    with pytest.raises(BadRequest, match="cannot be deleted"):
        kinds.request_of("delete", {"kind": kind, "metadata": {"name": "a"}})


def test_counts_of_any_size_go_out_as_they_are() -> None:
    made = pool(uuid_of(1), "fd00::/64")
    published = Published()
    shown = json.loads(msgspec.json.encode(kinds.document_of(published, Answer("deleted", made))))
    assert (shown["kind"], bool(shown["metadata"]["deletionTimestamp"])) == ("IPPool", True)
    status = PoolStatus((0, 0, 0, 1 << 64), True, "InForce", "")
    published.pools[made.name] = PublishedPool(made, status, 5.0)
    shown = json.loads(msgspec.json.encode(kinds.document_of(published, Answer("created", made))))
    assert shown["status"]["v6AvailableIPs"] == 1 << 64
    assert shown["status"]["conditions"][0]["status"] == "True"
