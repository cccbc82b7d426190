"""Documents: what those of every kind have in common, read field by field and written.

Absent, null and "" mean the same: not given. What the server sets (uid, resourceVersion, status, ...) may stand in a
document, so that `get -o yaml` can be applied again, and is not read, but for `metadata.resourceVersion`, which makes
an update conditional.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from ovnreserve.model.errors import MOST_CAUSES, BadRequest, FieldError, Invalid, in_json, shown
from ovnreserve.model.names import (
    LABEL_RULE,
    LABEL_VALUE_RULE,
    SUBDOMAIN_RULE,
    is_label,
    is_label_key,
    is_label_value,
    is_subdomain,
)
from ovnreserve.model.resource import Resource

FINALIZER: Final = "ovnreserve/release"
DEFAULT_NAMESPACE: Final = "default"

TOP: Final = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
METADATA: Final = frozenset(
    {
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "managedFields",
        "selfLink",
    }
)
_LIMIT_ANNOTATIONS: Final = 256 * 1024
_LIMIT_KEYS: Final = 1000


def unknown(fields: dict[str, Any], known: frozenset[str], path: str = "") -> list[FieldError]:
    """What nobody knows, as far as it will be named."""
    strange = islice((key for key in fields if key not in known), MOST_CAUSES + 1)
    return [FieldError.unknown(f"{path}{shown(key, 200)}") for key in strange]


class Head(NamedTuple):
    """What a document's metadata says; "" and {} where it says nothing."""

    name: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]
    version: str
    uid: str = ""


def head(metadata: Any, errors: list[FieldError], *, strict: bool = True) -> Head:
    """Read it; `strict` about fields that nobody knows."""
    if not isinstance(metadata, dict):
        errors.append(FieldError.required("metadata.name"))
        return Head("", "", {}, {}, "")
    if strict:
        errors += unknown(metadata, METADATA, "metadata.")
    name = metadata.get("name")
    if name in (None, ""):
        errors.append(FieldError.required("metadata.name"))
    elif not isinstance(name, str) or not is_subdomain(name):
        errors.append(FieldError.invalid("metadata.name", name, SUBDOMAIN_RULE))
    namespace = metadata.get("namespace") or ""
    if not strict and namespace and not (isinstance(namespace, str) and is_label(namespace)):
        errors.append(FieldError.invalid("metadata.namespace", namespace, LABEL_RULE))
    labels = {k: v or "" for k, v in strings(metadata.get("labels"), "metadata.labels", errors).items()}
    check_labels(labels, errors)
    annotations = {k: v or "" for k, v in strings(metadata.get("annotations"), "metadata.annotations", errors).items()}
    check_annotations(annotations, errors)
    version = metadata.get("resourceVersion")
    if version is not None and not isinstance(version, str):
        errors.append(FieldError.invalid("metadata.resourceVersion", version, "must be a string"))
    return Head(
        name if isinstance(name, str) else "",
        namespace if isinstance(namespace, str) else "",
        labels,
        annotations,
        version if isinstance(version, str) else "",
        str(metadata.get("uid") or ""),
    )


class MetadataPatch(NamedTuple):
    """What a merge patch says of the metadata; None removes a key. `version` "" is any."""

    labels: dict[str, str | None]
    annotations: dict[str, str | None]
    version: str


def read_metadata(document: Any, name: str, kind: str = "IP") -> MetadataPatch:
    """Raises Invalid or BadRequest."""
    if not isinstance(document, dict):
        raise BadRequest("the patch is not a mapping")
    metadata = document.get("metadata")
    if metadata is None:
        return MetadataPatch({}, {}, "")
    if not isinstance(metadata, dict):
        raise Invalid.because(name, [FieldError.invalid("metadata", metadata, "must be an object")], kind)
    errors = unknown(metadata, METADATA, "metadata.")
    given = metadata.get("name")
    if given is not None and given != name:
        errors.append(FieldError.invalid("metadata.name", given, "field is immutable"))
    version = metadata.get("resourceVersion")
    if version is not None and not isinstance(version, str):
        errors.append(FieldError.invalid("metadata.resourceVersion", version, "must be a string"))
    labels = strings(metadata.get("labels"), "metadata.labels", errors, removable=True)
    annotations = strings(metadata.get("annotations"), "metadata.annotations", errors, removable=True)
    check_labels({k: v for k, v in labels.items() if v is not None}, errors)
    check_annotations({k: v for k, v in annotations.items() if v is not None}, errors)
    if errors:
        raise Invalid.because(name, errors, kind)
    return MetadataPatch(labels, annotations, version if isinstance(version, str) else "")


def section(document: Any, field: str, errors: list[FieldError], path: str = "") -> dict[str, Any]:
    """A mapping within a document, {} where it is not given."""
    value = document.get(field)
    if value is None or isinstance(value, dict):
        return value or {}
    errors.append(FieldError.invalid(f"{path}{field}", value, "must be an object"))
    return {}


def whole_number(value: Any, field: str, most: int, errors: list[FieldError]) -> int | None:
    """A number from 0, also as the text that YAML readers of strings make of it; None where it is not given."""
    if value is None or value == "":
        return None
    digits = value.removeprefix("-") if isinstance(value, str) else ""
    if digits.isascii() and digits.isdecimal() and len(digits) <= len(str(most)):
        value = int(value)
    if type(value) is not int or not 0 <= value <= most:
        errors.append(FieldError.invalid(field, value, f"must be a whole number from 0 to {most}"))
        return None
    return value


def check_labels(labels: dict[str, str], errors: list[FieldError]) -> None:
    """Are keys and values such as Kubernetes takes?"""
    for key, value in labels.items():
        if not is_label_key(key):
            errors.append(FieldError.invalid("metadata.labels", key, "name part must be a qualified name"))
        if not is_label_value(value):
            errors.append(FieldError.invalid("metadata.labels", value, LABEL_VALUE_RULE))


def check_annotations(annotations: dict[str, str], errors: list[FieldError]) -> None:
    """Are the keys such as Kubernetes takes, and is it not too much?"""
    errors += [
        FieldError.invalid("metadata.annotations", key, "name part must be a qualified name")
        for key in annotations
        if not is_label_key(key)
    ]
    if sum(len(key) + len(value) for key, value in annotations.items()) > _LIMIT_ANNOTATIONS:
        errors.append(FieldError("FieldValueTooLong", "metadata.annotations", "Too long: at most 262144 bytes"))


def strings(value: Any, field: str, errors: list[FieldError], *, removable: bool = False) -> dict[str, Any]:
    """A map of strings; null is "", but None, which removes a key, in what is `removable`."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        errors.append(FieldError.invalid(field, value, "must be a map of strings"))
        return {}
    if len(value) > _LIMIT_KEYS:
        errors.append(FieldError("FieldValueTooMany", field, f"Too many: at most {_LIMIT_KEYS} keys"))
        return {}
    found: dict[str, Any] = {}
    for key, text in value.items():
        if isinstance(text, str) or text is None:
            found[key] = text if removable else text or ""
        else:
            errors.append(FieldError.invalid(f"{field}[{shown(key)}]", text, "must be a string"))
    return found


def brief(value: Any) -> str:
    """A value that is quoted in a message."""
    return f'"{shown(value, 100)}"' if isinstance(value, str) else in_json(value)


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """One condition of a resource's status. `status` is True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: str


def metadata_of(resource: Resource, name: str, namespace: str = "") -> dict[str, Any]:
    """The metadata of a resource as it goes out, under the name that users know it by."""
    metadata: dict[str, Any] = {
        "creationTimestamp": timestamp(resource.created),
        "finalizers": [FINALIZER],
        "generation": resource.generation,
        "labels": resource.labels,
        "name": name,
        "resourceVersion": str(resource.resource_version),
        "uid": resource.uid,
    }
    if resource.annotations:
        metadata["annotations"] = resource.annotations
    if namespace:
        metadata["namespace"] = namespace
    if resource.deleted is not None:
        metadata["deletionTimestamp"] = timestamp(resource.deleted)
    return metadata
