"""Events: whom `--for` means, and their order."""

from __future__ import annotations

from ovnreserve.cli import resources
from ovnreserve.cli.client import quote
from ovnreserve.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OTHERS = {"ledger": "Ledger", "database": "Database"}


def query(about: str) -> str:
    """The query for the events of `KIND/NAME`, or of all. Raises CommandError."""
    if not about:
        return ""
    word, slash, name = about.partition("/")
    if not slash or not name:
        raise CommandError("--for must be in resource/name form, such as ip/vm-1.default")
    kind = _OTHERS.get(word.lower()) or resources.find_kind(word).kind
    fields = {"kind": kind, "name": name}
    if kind in resources.BY_KIND and resources.BY_KIND[kind].namespaced and "/" in name:
        fields["namespace"], _, fields["name"] = name.partition("/")
    selector = ",".join(f"involvedObject.{field}={value}" for field, value in fields.items())
    return f"fieldSelector={quote(selector)}"


def in_order(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By the time at which each was seen last."""
    return sorted(events, key=lambda event: str(event.get("lastTimestamp") or ""))
