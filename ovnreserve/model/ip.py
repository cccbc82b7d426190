"""The IP resource: documents in, documents out.

A document is checked field by field, and every field's error is reported at once (model/documents.py has what is the
same for other kinds).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ovnreserve.model.addresses import format_v4, format_v6, parse_mac, parse_v4, parse_v6
from ovnreserve.model.documents import (
    FINALIZER,
    TOP,
    Condition,
    brief,
    head,
    section,
    timestamp,
    unknown,
)
from ovnreserve.model.errors import BadRequest, FieldError, Invalid, in_json
from ovnreserve.model.names import LABEL_RULE, SUBDOMAIN_RULE, is_label, is_subdomain
from ovnreserve.model.reservation import Reservation

API_VERSION: Final = "kubeovn.io/v1"
LABEL_RESERVED: Final = "ovn.kubernetes.io/ip_reserved"
LABEL_SUBNET: Final = "ovn.kubernetes.io/subnet"
LABEL_NODE: Final = "ovn.kubernetes.io/node-name"
OUR_LABELS: Final = frozenset({LABEL_RESERVED, LABEL_SUBNET, LABEL_NODE})
POD_TYPES: Final = ("", "StatefulSet", "VirtualMachine")

_TEXTS: Final = frozenset(
    {
        "subnet",
        "podType",
        "namespace",
        "podName",
        "v4IpAddress",
        "v6IpAddress",
        "ipAddress",
        "macAddress",
        "nodeName",
        "containerID",
    }
)
_LISTS: Final = frozenset({"attachIps", "attachMacs", "attachSubnets"})
_LIMIT_TEXT: Final = 253
_LIMIT_ATTACHED: Final = 64


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A valid document: what somebody wants. None and "" mean that it was not given."""

    name: str
    subnet: str
    pod_name: str
    namespace: str
    pod_type: str
    v4: int | None = None
    v6: int | None = None
    mac: str | None = None
    node_name: str = ""
    container_id: str = ""
    attach_ips: tuple[str, ...] = ()
    attach_macs: tuple[str, ...] = ()
    attach_subnets: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    resource_version: str = ""
    reserved: bool | None = None
    """What the label says, None where it is not given."""


def read(document: Any) -> Wanted:
    """The valid form of a decoded document. Raises BadRequest if it is no IP at all, Invalid naming every bad field."""
    if not isinstance(document, dict):
        raise BadRequest(f"the object provided is not a mapping but {in_json(document)}")
    if document.get("kind") != "IP" or document.get("apiVersion") != API_VERSION:
        raise BadRequest(
            f"no resource for kind {brief(document.get('kind'))} in version {brief(document.get('apiVersion'))}: "
            f"this is kind IP of {API_VERSION}"
        )
    metadata = document.get("metadata")
    spec = document.get("spec")
    errors = unknown(document, TOP)
    given = head(metadata, errors)
    if not isinstance(spec, dict):
        errors.append(
            FieldError.required("spec") if spec is None else FieldError.invalid("spec", spec, "must be an object")
        )
        spec = {}
    texts = _spec_texts(spec, errors)
    lists = _spec_lists(spec, errors)
    errors += [FieldError.required(f"spec.{field}") for field in ("subnet", "podName", "namespace") if not texts[field]]
    if texts["podName"] and not is_subdomain(texts["podName"]):
        errors.append(FieldError.invalid("spec.podName", texts["podName"], SUBDOMAIN_RULE))
    if texts["namespace"] and not is_label(texts["namespace"]):
        errors.append(FieldError.invalid("spec.namespace", texts["namespace"], LABEL_RULE))
    if texts["podType"] not in POD_TYPES:
        errors.append(FieldError.unsupported("spec.podType", texts["podType"], POD_TYPES))
    if texts["nodeName"] and not is_subdomain(texts["nodeName"]):
        errors.append(FieldError.invalid("spec.nodeName", texts["nodeName"], SUBDOMAIN_RULE))
    if len(texts["containerID"]) > _LIMIT_TEXT:
        errors.append(FieldError.too_long("spec.containerID", f"{_LIMIT_TEXT} characters"))
    v4, v6, mac = _addresses(texts, errors)
    reserved = read_reserved(given.labels.get(LABEL_RESERVED), errors)
    if errors:
        raise Invalid.because(given.name, errors)
    return Wanted(
        name=given.name,
        subnet=texts["subnet"],
        pod_name=texts["podName"],
        namespace=texts["namespace"],
        pod_type=texts["podType"],
        v4=v4,
        v6=v6,
        mac=mac,
        node_name=texts["nodeName"],
        container_id=texts["containerID"],
        attach_ips=lists["attachIps"],
        attach_macs=lists["attachMacs"],
        attach_subnets=lists["attachSubnets"],
        labels=given.labels,
        annotations=given.annotations,
        resource_version=given.version,
        reserved=reserved,
    )


def read_reserved(value: str | None, errors: list[FieldError]) -> bool | None:
    """What the label ip_reserved says, None where it is not given."""
    if value in (None, "", "true", "false"):
        return None if not value else value == "true"
    errors.append(FieldError.unsupported(f"metadata.labels[{LABEL_RESERVED}]", value, ("true", "false")))
    return None


def patched_label(labels: dict[str, str | None], name: str) -> bool | None:
    """What a merge patch makes of the label ip_reserved, None if nothing; to remove it is "false". Raises Invalid."""
    if LABEL_RESERVED not in labels:
        return None
    errors: list[FieldError] = []
    reserved = read_reserved(labels[LABEL_RESERVED], errors)
    if errors:
        raise Invalid.because(name, errors)
    return bool(reserved)


def read_patch(document: Any, name: str, kind: str = "IP") -> dict[str, Any]:
    """`spec` of a merge patch, empty where not given; for `metadata` there is `read_metadata`. Raises Invalid or
    BadRequest.
    """
    if not isinstance(document, dict):
        raise BadRequest("the patch is not a mapping")
    for field, ours in (("kind", kind), ("apiVersion", API_VERSION)):
        if document.get(field, ours) != ours:
            what = f"{field} {brief(document[field])} cannot be patched"
            raise BadRequest(f"{what}: this is kind {kind} of {API_VERSION}")
    errors = unknown(document, TOP)
    spec = section(document, "spec", errors)
    if errors:
        raise Invalid.because(name, errors, kind)
    return spec


def merged(ip: IP, spec: dict[str, Any]) -> Wanted:
    """The document that a merge patch of `spec` makes of an IP. Raises Invalid."""
    fields = msgspec.structs.asdict(ip.spec)
    old = {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}
    if {"v4IpAddress", "v6IpAddress"} & spec.keys():
        del old["ipAddress"]  # it says the same in other words, and would only contradict
    elif "ipAddress" in spec:
        del old["v4IpAddress"], old["v6IpAddress"]
    metadata = {"name": ip.metadata.name}
    return read({"apiVersion": API_VERSION, "kind": "IP", "metadata": metadata, "spec": {**old, **spec}})


def _spec_texts(spec: dict[Any, Any], errors: list[FieldError]) -> dict[str, str]:
    texts = dict.fromkeys(_TEXTS, "")
    for key, value in spec.items():
        if key in _TEXTS:
            if isinstance(value, str):
                if not value.isprintable():
                    errors.append(FieldError.invalid(f"spec.{key}", value, "must not contain control characters"))
                else:
                    texts[key] = value
            elif value is not None:
                errors.append(FieldError.invalid(f"spec.{key}", value, "must be a string"))
    errors += unknown(spec, _TEXTS | _LISTS, "spec.")
    return texts


def _spec_lists(spec: dict[Any, Any], errors: list[FieldError]) -> dict[str, tuple[str, ...]]:
    lists: dict[str, tuple[str, ...]] = dict.fromkeys(_LISTS, ())
    for key in _LISTS & spec.keys():
        value = spec[key]
        if value in (None, ""):
            continue
        if not isinstance(value, list) or not all(isinstance(item, str) and item.isprintable() for item in value):
            errors.append(FieldError.invalid(f"spec.{key}", value, "must be a list of strings"))
        elif len(value) > _LIMIT_ATTACHED:
            errors.append(FieldError("FieldValueTooMany", f"spec.{key}", f"Too many: at most {_LIMIT_ATTACHED} items"))
        elif any(len(item) > _LIMIT_TEXT for item in value):
            errors.append(FieldError.too_long(f"spec.{key}", f"{_LIMIT_TEXT} characters in each item"))
        else:
            lists[key] = tuple(value)
    return lists


def _addresses(texts: dict[str, str], errors: list[FieldError]) -> tuple[int | None, int | None, str | None]:
    """spec.v4IpAddress, v6IpAddress and macAddress; ipAddress is both in one and may not say otherwise."""
    v4: int | None = None
    v6: int | None = None
    try:
        v4 = parse_v4(texts["v4IpAddress"]) if texts["v4IpAddress"] else None
    except ValueError:
        errors.append(FieldError.invalid("spec.v4IpAddress", texts["v4IpAddress"], "must be an IPv4 address"))
    try:
        v6 = parse_v6(texts["v6IpAddress"]) if texts["v6IpAddress"] else None
    except ValueError:
        errors.append(FieldError.invalid("spec.v6IpAddress", texts["v6IpAddress"], "must be an IPv6 address"))
    for word in texts["ipAddress"].split(",") if texts["ipAddress"] else ():
        text = word.strip()
        try:
            if ":" in text:
                both = parse_v6(text)
                agrees, v6 = v6 in (None, both), both
            else:
                both = parse_v4(text)
                agrees, v4 = v4 in (None, both), both
        except ValueError:
            errors.append(FieldError.invalid("spec.ipAddress", texts["ipAddress"], "must be IPv4, IPv6 or both"))
            break
        if not agrees:
            errors.append(FieldError.invalid("spec.ipAddress", texts["ipAddress"], "contradicts the other fields"))
    mac: str | None = None
    if texts["macAddress"]:
        try:
            mac = parse_mac(texts["macAddress"])
        except ValueError as error:
            errors.append(FieldError.invalid("spec.macAddress", texts["macAddress"], str(error)))
    return v4, v6, mac


# ---- documents out -------------------------------------------------------------------------------------------------


class Status(msgspec.Struct, frozen=True):
    """Pending, Reserved, Bound, Releasing or Failed, and the conditions behind it."""

    phase: str
    conditions: tuple[Condition, ...]


class Metadata(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    annotations: dict[str, str] = {}
    creation_timestamp: str
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] = ()
    generation: int
    labels: dict[str, str]
    name: str
    resource_version: str
    uid: str


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    attachIps: tuple[str, ...]  # noqa: N815 - kube-ovn's names
    attachMacs: tuple[str, ...]  # noqa: N815
    attachSubnets: tuple[str, ...]  # noqa: N815
    containerID: str  # noqa: N815
    ipAddress: str  # noqa: N815
    macAddress: str  # noqa: N815
    namespace: str
    nodeName: str  # noqa: N815
    podName: str  # noqa: N815
    podType: str  # noqa: N815
    subnet: str
    v4IpAddress: str  # noqa: N815
    v6IpAddress: str  # noqa: N815


class IP(msgspec.Struct, frozen=True, kw_only=True):
    """An IP as it goes out: frozen, so that readers need no lock."""

    apiVersion: str = API_VERSION  # noqa: N815
    kind: str = "IP"
    metadata: Metadata
    spec: Spec
    status: Status


def our_labels(reserved: str, subnet: str, node: str) -> dict[str, str]:
    """The labels that are ours to say."""
    return {LABEL_RESERVED: reserved, LABEL_NODE: node, LABEL_SUBNET: subnet}


def render(r: Reservation, status: Status) -> IP:
    """The document of a reservation."""
    addresses = r.addresses
    return IP(
        metadata=Metadata(
            annotations=r.annotations,
            creation_timestamp=timestamp(r.created),
            deletion_timestamp=None if r.deleted is None else timestamp(r.deleted),
            finalizers=(FINALIZER,),
            generation=r.generation,
            labels=labels_of(r),
            name=r.name,
            resource_version=str(r.resource_version),
            uid=r.uid,
        ),
        spec=Spec(
            attachIps=r.attach_ips,
            attachMacs=r.attach_macs,
            attachSubnets=r.attach_subnets,
            containerID=r.container_id,
            ipAddress=",".join(addresses),
            macAddress=r.mac,
            namespace=r.namespace,
            nodeName=r.node_name,
            podName=r.pod_name,
            podType=r.pod_type,
            subnet=r.subnet,
            v4IpAddress="" if r.v4 is None else format_v4(r.v4),
            v6IpAddress="" if r.v6 is None else format_v6(r.v6),
        ),
        status=status,
    )


def labels_of(r: Reservation) -> dict[str, str]:
    """All labels of a reservation, its own and those that say what it is."""
    return {**r.labels, **our_labels("true" if r.reserved else "false", r.subnet, r.node_name)}


class Subnet(msgspec.Struct, frozen=True, kw_only=True):
    """A logical switch as kube-ovn's Subnet. Counts are exact integers of any size, so the JSON is made by hand."""

    name: str
    uid: str
    provider: str
    vpc: str
    v4: str
    v6: str
    gateways: tuple[str, ...]
    exclude_ips: tuple[str, ...]
    counts: tuple[int, int, int, int]
    conditions: tuple[Condition, ...] = ()
    quarantined: tuple[int, int]

    def document(self) -> dict[str, Any]:
        """`counts` are V4USED, V4AVAILABLE, V6USED, V6AVAILABLE; `quarantined` are how many of each family's available
        ones were released a short while ago.
        """
        protocol = "Dual" if self.v4 and self.v6 else "IPv6" if self.v6 else "IPv4"
        return {
            "apiVersion": API_VERSION,
            "kind": "Subnet",
            "metadata": {"name": self.name, "uid": self.uid},
            "spec": {
                "cidrBlock": ",".join(cidr for cidr in (self.v4, self.v6) if cidr),
                "excludeIps": list(self.exclude_ips),
                "gateway": ",".join(self.gateways),
                "protocol": protocol,
                "provider": self.provider,
                "vpc": self.vpc,
            },
            "status": {
                "v4usingIPs": self.counts[0],
                "v4availableIPs": self.counts[1],
                "v6usingIPs": self.counts[2],
                "v6availableIPs": self.counts[3],
                "conditions": [msgspec.to_builtins(condition) for condition in self.conditions],
                "v4quarantinedIPs": self.quarantined[0],
                "v6quarantinedIPs": self.quarantined[1],
            },
        }
