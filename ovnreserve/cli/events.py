"""Events: whom `--for` means, and their order."""

from __future__ import annotations

from ovnreserve.cli import resources
from ovnreserve.cli.client import quote
from ovnreserve.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OTHERS = {"ledger": "Ledger", "database": "Database"}


def query(about: str, namespace: str = "") -> str:
    """The query for the events of `KIND/NAME`, or of all; of one namespace, if it is named. Raises CommandError.

    What has no namespace has its events in `default`, as in Kubernetes.
    """
    fields = {"metadata.namespace": namespace} if namespace else {}
    if about:
        fields |= _involved(about)
    selector = ",".join(f"{field}={value}" for field, value in fields.items())
    return f"fieldSelector={quote(selector)}" if selector else ""


def _involved(about: str) -> dict[str, str]:
    word, slash, name = about.partition("/")
    if not slash or not name:
        raise CommandError("--for must be in resource/name form, such as ip/vm-1.default")
    kind = _OTHERS.get(word.lower()) or resources.find_kind(word).kind
    fields = {"involvedObject.kind": kind, "involvedObject.name": name}
    if kind in resources.BY_KIND and resources.BY_KIND[kind].namespaced and "/" in name:
        fields["involvedObject.namespace"], _, fields["involvedObject.name"] = name.partition("/")
    return fields


def in_order(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By the time at which each was seen last."""
    return sorted(events, key=lambda event: str(event.get("lastTimestamp") or ""))
