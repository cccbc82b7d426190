"""Merge patches (RFC 7386) of resources, whatever their kind."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from ovnreserve.model.errors import Conflict, shown
from ovnreserve.model.ip import Wanted
from ovnreserve.model.resource import Resource
from ovnreserve.plan.born import Born
from ovnreserve.plan.outcome import Event

_Change = tuple[Mapping[str, str], Mapping[str, str]]
_SHOWN: Final = 500
"""Characters of labels and annotations in an event."""


class Patch(NamedTuple):
    """A merge patch of labels and annotations; None removes one. `version` is the resourceVersion it is for, "" for
    any. Where it says something of the spec, `wanted` is the document that it makes of an IP, whose spec never changes;
    of other kinds `spec` is what it says, and is merged when its turn comes. `reserved` is what the label ip_reserved
    of an IP is to be, None as it is.
    """

    name: str
    labels: dict[str, str | None]
    annotations: dict[str, str | None]
    version: str = ""
    wanted: Wanted | None = None
    spec: Mapping[str, Any] = MappingProxyType({})
    reserved: bool | None = None


def merged(old: dict[str, str], changes: dict[str, str | None]) -> dict[str, str]:
    """Labels or annotations after a merge patch; None removes one."""
    both: dict[str, str | None] = {**old, **changes}
    return {key: value for key, value in both.items() if value is not None}


def relabelled(name: str, labels: _Change, annotations: _Change) -> Event:
    """What has become of a resource's labels and annotations: each is (before, after)."""
    what = "; ".join(
        f"{word} {', '.join(keys)}"
        for word, keys in (("label", _differing(*labels)), ("annotation", _differing(*annotations)))
        if keys
    )
    return Event("Normal", "Relabelled", name, f"changed {shown(what, _SHOWN)}")


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Keys with what they have become: `color=blue`, `color-` where it is gone."""
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return [f"{key}={new[key]}" if key in new else f"{key}-" for key in keys]


def check_version(r: Resource | Born, version: str, title: str = "", kind: str = "ips") -> None:
    """Raises Conflict if it is not of the version that somebody has seen, if they say one."""
    if version and version != str(r.resource_version):
        raise Conflict.over(
            title or r.name, "metadata.resourceVersion",
            "the object has been modified; please apply your changes to the latest version and try again", kind,
        )  # fmt: skip
