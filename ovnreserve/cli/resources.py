"""The kinds of resource, the words a user may call them by, and how they are addressed."""

from __future__ import annotations

from ovnreserve.cli.client import quote
from ovnreserve.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GROUP = "kubeovn.io"
RESERVED = "ovn.kubernetes.io/ip_reserved"


class Kind:
    """One kind of resource: `IP`, `ip`, `ips` of the group, or of Kubernetes' own if it has none."""

    __slots__ = ("group", "kind", "plural", "short", "singular")

    def __init__(self, kind: str, singular: str, plural: str, group: str = GROUP, short: str = "") -> None:
        self.kind = kind
        self.singular = singular
        self.plural = plural
        self.group = group
        self.short = short

    def path(self, name: str = "") -> str:
        """Where the API has all of them, or the one of that name."""
        base = f"/apis/{self.group}/v1/{self.plural}" if self.group else f"/api/v1/{self.plural}"
        return f"{base}/{quote(name)}" if name else base

    def words(self) -> tuple[str, ...]:
        if not self.group:
            return (self.singular, self.plural, self.short)
        return (
            self.singular,
            self.plural,
            f"{self.singular}.{GROUP}",
            f"{self.plural}.{GROUP}",
            f"{self.plural}.v1.{GROUP}",
        )


IP = Kind("IP", "ip", "ips")
SUBNET = Kind("Subnet", "subnet", "subnets")
EVENT = Kind("Event", "event", "events", group="", short="ev")
IP_POOL = Kind("IPPool", "ippool", "ippools")
BY_KIND = {kind.kind: kind for kind in (IP, IP_POOL, SUBNET)}
_BY_WORD = {word: kind for kind in (*BY_KIND.values(), EVENT) for word in kind.words()}


def find_kind(word: str) -> Kind:
    """The kind called that; CommandError where there is none."""
    kind = _BY_WORD.get(word.lower())
    if kind is None:
        raise CommandError(f'the server doesn\'t have a resource type "{word}"')
    return kind


def targets(arguments: list[str]) -> list[tuple[Kind, list[str]]]:
    """What `ip`, `ip,subnet`, `ip NAME NAME` or `ip/NAME subnet/NAME` mean; no names: all."""
    if not any("/" in argument for argument in arguments):
        names = arguments[1:]
        if "" in names:
            raise CommandError("resource name may not be empty")
        return [(find_kind(word), names) for word in arguments[0].split(",")]
    result: list[tuple[Kind, list[str]]] = []
    for argument in arguments:
        word, slash, name = argument.partition("/")
        if not slash:
            raise CommandError(
                "there is no need to specify a resource type as a separate argument when passing arguments "
                "in resource/name form (e.g. 'ovnreserve get resource/<resource_name>' instead of "
                "'ovnreserve get resource resource/<resource_name>')"
            )
        if not word or not name or "/" in name:
            raise CommandError("arguments in resource/name form must have a single resource and name")
        kind = find_kind(word)
        if result and result[-1][0] is kind:
            result[-1][1].append(name)
        else:
            result.append((kind, [name]))
    return result


def full_name(item: dict[str, Any]) -> str:
    """`ip.kubeovn.io/NAME` of an object."""
    return f"{full_kind(item)}/{metadata(item).get('name') or ''}"


def full_kind(item: dict[str, Any]) -> str:
    """`ip.kubeovn.io` of an object."""
    group, slash, _ = str(item.get("apiVersion") or "").partition("/")
    kind = str(item.get("kind") or "").lower()
    return f"{kind}.{group}" if slash else kind


def metadata(item: dict[str, Any]) -> dict[str, Any]:
    return section(item, "metadata")


def section(item: dict[str, Any], name: str) -> dict[str, Any]:
    """A mapping within an object; an empty one where there is none."""
    value = item.get(name)
    return value if isinstance(value, dict) else {}
