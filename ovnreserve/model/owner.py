"""Owners: the StatefulSets and VirtualMachines that say how long an IP is retained when its port goes.

They are facts that somebody tells us, in the manifests that users have: whatever we do not need of one is accepted and
not read. An owner that is being deleted (`releasing`) is remembered as gone until no port and no IP of it is left,
since a fact that is missing means that its IPs are kept.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec

from ovnreserve.model.documents import DEFAULT_NAMESPACE, head, metadata_of, section, whole_number
from ovnreserve.model.errors import FieldError, Invalid
from ovnreserve.model.names import is_label, is_subdomain
from ovnreserve.model.resource import KIND, KIND_OWNER, NAME, RECORD, UID, Dot, Resource, State

STATEFUL_SET: Final = "StatefulSet"
VIRTUAL_MACHINE: Final = "VirtualMachine"
API_VERSIONS: Final = {STATEFUL_SET: "apps/v1", VIRTUAL_MACHINE: "kubevirt.io/v1"}
MOST_REPLICAS: Final = (1 << 31) - 1
"""What Kubernetes stores of `replicas` and `ordinals.start`."""

_ordinal = re.compile(r"(.+)-(0|[1-9][0-9]{0,9})", re.ASCII).fullmatch


def owner_name(kind: str, namespace: str, title: str) -> str:
    """By which it is known among the resources."""
    return f"{kind.lower()}/{namespace}/{title}"


def set_of(pod_name: str) -> tuple[str, int] | None:
    """The StatefulSet whose pod has that name, and the pod's ordinal; None if it can be of none."""
    match = _ordinal(pod_name)
    return (match[1], int(match[2])) if match is not None else None


def possible_owners(pod_name: str, namespace: str) -> tuple[str, ...]:
    """The names of the owners that a workload may have: the VirtualMachine of its name, and the set of its ordinal."""
    if not namespace:
        return ()
    machine = owner_name(VIRTUAL_MACHINE, namespace, pod_name)
    found = set_of(pod_name)
    return (machine,) if found is None else (machine, owner_name(STATEFUL_SET, namespace, found[0]))


class Owner(Resource, frozen=True, kw_only=True):
    """A StatefulSet or a VirtualMachine. `replicas` and `start` (of the ordinals) are those of a set."""

    kind: str
    namespace: str
    title: str
    replicas: int = 1
    start: int = 0

    @property
    def what(self) -> str:
        return f"{self.kind} {self.namespace}/{self.title}"

    @property
    def end(self) -> int:
        """The first ordinal that a set has no pod for any more."""
        return self.start + self.replicas

    @property
    def scale(self) -> str:
        """How many pods a set has, in words."""
        count = f"{self.replicas} replica{'' if self.replicas == 1 else 's'}"
        return f"{count} from ordinal {self.start}" if self.start else count

    def document(self, retained: int = 0) -> dict[str, Any]:
        """As it goes out. `retained` is how many IPs are kept for it and have no port."""
        document: dict[str, Any] = {
            "apiVersion": API_VERSIONS[self.kind],
            "kind": self.kind,
            "metadata": metadata_of(self, self.title, self.namespace),
            "status": {"retainedIPs": retained},
        }
        if self.kind == STATEFUL_SET:
            document["spec"] = {"ordinals": {"start": self.start}, "replicas": self.replicas}
        return document


class WantedOwner(msgspec.Struct, frozen=True, kw_only=True):
    """A valid document: what somebody says of an owner; `replicas` is None where it leaves that to whoever scales the
    set. `resource_version` is that of the object with this `uid`, which may be one of another API server.
    """

    kind: str
    namespace: str
    title: str
    replicas: int | None
    start: int
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    resource_version: str = ""
    uid: str = ""

    @property
    def name(self) -> str:
        return owner_name(self.kind, self.namespace, self.title)


def read_owner(document: dict[str, Any], namespace: str = "") -> WantedOwner:
    """The valid form of a StatefulSet's or VirtualMachine's document; `namespace` is the one of the request's path.
    Raises Invalid naming every bad field of those that are read.
    """
    kind = document["kind"]
    errors: list[FieldError] = []
    given = head(document.get("metadata"), errors, strict=False)
    if namespace and given.namespace not in ("", namespace):
        why = f"the request is for namespace {namespace}"
        errors.append(FieldError.invalid("metadata.namespace", given.namespace, why))
    replicas, start = _scale(document, errors) if kind == STATEFUL_SET else (None, None)
    if errors:
        raise Invalid.because(given.name, errors, kind)
    return WantedOwner(
        kind=kind,
        namespace=given.namespace or namespace or DEFAULT_NAMESPACE,
        title=given.name,
        replicas=replicas,
        start=start or 0,
        labels=given.labels,
        annotations=given.annotations,
        resource_version=given.version,
        uid=given.uid,
    )


def read_scale(patch: dict[str, Any], title: str) -> tuple[int | None, int | None]:
    """(replicas, start) of a merge patch of a StatefulSet; None where it says nothing of them. What takes the ordinals
    away has them start at 0. Raises Invalid.
    """
    errors: list[FieldError] = []
    replicas, start = _scale(patch, errors)
    if errors:
        raise Invalid.because(title, errors, STATEFUL_SET)
    spec = patch.get("spec") or {}
    said = "ordinals" in spec and (spec["ordinals"] is None or "start" in spec["ordinals"])
    return replicas, 0 if said and start is None else start


def _scale(document: dict[str, Any], errors: list[FieldError]) -> tuple[int | None, int | None]:
    spec = section(document, "spec", errors)
    ordinals = section(spec, "ordinals", errors, "spec.")
    return (
        whole_number(spec.get("replicas"), "spec.replicas", MOST_REPLICAS, errors),
        whole_number(ordinals.get("start"), "spec.ordinals.start", MOST_REPLICAS, errors),
    )


# ---- the record ----------------------------------------------------------------------------------------------------

_Seconds = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800)]
_Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_REPLICAS)]


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: str
    ns: str
    title: str
    created: _Seconds
    rv: _Number
    replicas: _Count = 1
    start: _Count = 0
    gen: _Number = 1
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deleted: _Seconds | None = None
    by: tuple[str, _Number] | None = None
    format: int = 1


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Record).decode


def owner_ids(owner: Owner) -> dict[str, str]:
    """The whole external_ids of an owner's DNS row."""
    record = _Record(
        owner.kind, owner.namespace, owner.title, owner.created, owner.resource_version, owner.replicas, owner.start,
        owner.generation, owner.labels, owner.annotations, owner.deleted,
        owner.written if owner.written.number else None,
    )  # fmt: skip
    return {KIND: KIND_OWNER, NAME: owner.name, UID: owner.uid, RECORD: _encode(record).decode()}


def owner_of(ids: dict[str, str]) -> Owner | None:
    """The owner that a DNS row's external_ids rebuild, None if they were garbled."""
    try:
        record = _decode(ids[RECORD])
        if not (
            record.kind in API_VERSIONS
            and is_label(record.ns)
            and is_subdomain(record.title)
            and ids[NAME] == owner_name(record.kind, record.ns, record.title)
            and ids[UID]
            and ids[UID].isprintable()
            and (record.by is None or record.by[0].isprintable())
        ):
            return None
        return Owner(
            name=ids[NAME],
            uid=ids[UID],
            kind=record.kind,
            namespace=record.ns,
            title=record.title,
            replicas=record.replicas,
            start=record.start,
            state=State.HELD if record.deleted is None else State.RELEASING,
            created=record.created,
            resource_version=record.rv,
            generation=record.gen,
            labels=record.labels,
            annotations=record.annotations,
            deleted=record.deleted,
            written=Dot(*record.by) if record.by is not None else Dot(),
        )
    except (KeyError, ValueError, RecursionError, msgspec.MsgspecError):
        return None
