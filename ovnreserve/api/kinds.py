"""The kinds that can be written, each with what tells it from the others: how its documents are read, and how what
became of one is shown.

    kind        read                          shown
    IP          model/ip.py                   with its conditions, as published
    IPPool      model/pool.py                 with its counts, as published
    StatefulSet, VirtualMachine
                model/owner.py                as it is kept

Everything else about a request is the same for all: the bulk resource, and what carries a document to the engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from ovnreserve.api.http import big
from ovnreserve.engine import Answer, Apply, Create, Delete, Request, document
from ovnreserve.engine.published import Published
from ovnreserve.engine.work import AnyWanted
from ovnreserve.model.documents import DEFAULT_NAMESPACE, Condition, brief, timestamp
from ovnreserve.model.errors import PLURALS, BadRequest, in_json, shown
from ovnreserve.model.ip import API_VERSION, Status, read, render
from ovnreserve.model.owner import API_VERSIONS, Owner, owner_name, read_owner
from ovnreserve.model.pool import Pool, pool_name, read_pool
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Resource, State

SUCCESS: Final = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 200}


class Kind(NamedTuple):
    """`key` makes of name and namespace in its metadata the name by which the engine knows it."""

    name: str
    plural: str
    api_version: str
    read: Callable[[dict[str, Any]], AnyWanted]
    key: Callable[[str, str], str]


def _owner_kind(name: str) -> Kind:
    def key(title: str, namespace: str) -> str:
        return owner_name(name, namespace or DEFAULT_NAMESPACE, title)

    return Kind(name, PLURALS[name], API_VERSIONS[name], read_owner, key)


IP: Final = Kind("IP", "ips", API_VERSION, read, lambda name, _namespace: name)
IP_POOL: Final = Kind("IPPool", "ippools", API_VERSION, read_pool, lambda name, _namespace: pool_name(name))
KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in (IP, IP_POOL, *map(_owner_kind, API_VERSIONS))}


def wanted_of(item: Any, expected: Kind | None = None) -> AnyWanted:
    """The valid form of a document, of whatever kind or of the one that is expected. Raises BadRequest, Invalid."""
    if not isinstance(item, dict):
        raise BadRequest(f"the object provided is not a mapping but {in_json(item)}")
    name = item.get("kind")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None or item.get("apiVersion") != kind.api_version or expected not in (None, kind):
        known = ", ".join(f"{each.name} of {each.api_version}" for each in KINDS.values())
        there = f"those that there are: {known}"
        if expected is not None:
            there = f"this is kind {expected.name} of {expected.api_version}"
        raise BadRequest(f"no resource for kind {brief(name)} in version {brief(item.get('apiVersion'))}: {there}")
    return kind.read(item)


def request_of(verb: str, item: Any) -> Request:
    """What an item of a bulk request asks of the engine. Raises BadRequest, Invalid."""
    if verb != "delete":
        wanted = wanted_of(item)
        return Apply(wanted) if verb == "apply" else Create(wanted)
    metadata = item.get("metadata") if isinstance(item, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise BadRequest("metadata.name is required")
    given = item.get("kind", "IP")
    kind = KINDS.get(given) if isinstance(given, str) else None
    if kind is None:
        raise BadRequest(f"kind {shown(given) if isinstance(given, str) else in_json(given)} cannot be deleted")
    namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
    return Delete(kind.key(name, namespace if isinstance(namespace, str) else ""))


def document_of(published: Published, answer: Answer) -> Any:
    """The answer's resource with the status that has been published since. Where that has gone, or is another's
    of the same name, as it was when the answer was given; a Success status for what held nothing. What went with its
    port is shown as it was.
    """
    if answer.born is not None:
        return document(answer.born)
    r = answer.resource
    if r is None:
        return SUCCESS
    if answer.result == "deleted" and r.deleted is None:
        r = r.with_(deleted=int(time.time()))
    return _document(published, r)


def _document(published: Published, r: Resource) -> Any:
    match r:
        case Reservation():
            found = published.ips.get(r.name)
            if found is not None and found[0].uid == r.uid:
                return document(found)
            return render(r, Status(_PHASES[r.state] if r.deleted is None else "Releasing", ()))
        case Pool():
            pool = published.pools.get(r.name)
            if pool is not None and pool.pool.uid == r.uid:
                return big(pool.document())
            gone = Condition("Ready", "False", "Releasing", "it is gone", timestamp(time.time()))
            return big(r.document((0, 0, 0, 0), gone))
        case Owner():
            return r.document()
    return SUCCESS


_PHASES: Mapping[State, str] = {
    State.INTENDED: "Reserved",  # when it was answered, it was carried out
    State.HELD: "Reserved",
    State.RELEASING: "Releasing",
    State.FAILED: "Failed",
}
