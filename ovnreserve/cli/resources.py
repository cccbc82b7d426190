"""The kinds of resource, the words a user may call them by, and how they are addressed."""

from __future__ import annotations

from ovnreserve.cli.client import quote
from ovnreserve.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GROUP = "kubeovn.io"
RESERVED = "ovn.kubernetes.io/ip_reserved"
DEFAULT_NAMESPACE = "default"


class Kind:
    """One kind of resource: `IP`, `ip`, `ips` of the group, or of Kubernetes' own if it has none.

    Where one of a namespaced kind is meant, `namespace/name` stands for its name.
    """

    __slots__ = ("group", "kind", "namespaced", "plural", "short", "singular")

    def __init__(
        self,
        kind: str,
        singular: str,
        plural: str,
        *,
        group: str = GROUP,
        short: tuple[str, ...] = (),
        namespaced: bool = False,
    ) -> None:
        self.kind = kind
        self.singular = singular
        self.plural = plural
        self.group = group
        self.short = short
        self.namespaced = namespaced

    def path(self, name: str = "", namespace: str = "") -> str:
        """Where the API has all of them, those of a namespace, or the one of that name."""
        base = f"/apis/{self.group}/v1" if self.group else "/api/v1"
        if self.namespaced and "/" in name:
            namespace, _, name = name.partition("/")
        if self.namespaced and namespace:
            base += f"/namespaces/{quote(namespace)}"
        return f"{base}/{self.plural}/{quote(name)}" if name else f"{base}/{self.plural}"

    def words(self) -> tuple[str, ...]:
        if not self.group:
            return (self.singular, self.plural, *self.short)
        groups = (f"{word}.{self.group}" for word in (self.singular, self.plural, f"{self.plural}.v1"))
        return (self.singular, self.plural, *self.short, *groups)


IP = Kind("IP", "ip", "ips")
SUBNET = Kind("Subnet", "subnet", "subnets")
IP_POOL = Kind("IPPool", "ippool", "ippools")
STATEFUL_SET = Kind("StatefulSet", "statefulset", "statefulsets", group="apps", short=("sts",), namespaced=True)
VIRTUAL_MACHINE = Kind(
    "VirtualMachine", "virtualmachine", "virtualmachines", group="kubevirt.io", short=("vm", "vms"), namespaced=True
)
EVENT = Kind("Event", "event", "events", group="", short=("ev",))
BY_KIND = {kind.kind: kind for kind in (IP, IP_POOL, SUBNET, STATEFUL_SET, VIRTUAL_MACHINE)}
_BY_WORD = {word: kind for kind in (*BY_KIND.values(), EVENT) for word in kind.words()}


def kind_of(word: str) -> Kind | None:
    """The kind called that, if there is one."""
    return _BY_WORD.get(word.lower())


def find_kind(word: str) -> Kind:
    """The kind called that; CommandError where there is none."""
    kind = kind_of(word)
    if kind is None:
        raise CommandError(f'the server doesn\'t have a resource type "{word}"')
    return kind


def targets(arguments: list[str], namespace: str = "") -> list[tuple[Kind, list[str]]]:
    """What `ip`, `ip,subnet`, `ip NAME NAME` or `ip/NAME subnet/NAME` mean; no names: all. Names of a namespaced kind
    are those of the namespace.
    """
    return [
        (kind, [f"{namespace or DEFAULT_NAMESPACE}/{name}" if kind.namespaced else name for name in names])
        for kind, names in _targets(arguments)
    ]


def _targets(arguments: list[str]) -> list[tuple[Kind, list[str]]]:
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


def name_of(item: dict[str, Any]) -> str:
    """The object's name, `namespace/name` if its kind has namespaces."""
    name = str(metadata(item).get("name") or "")
    kind = BY_KIND.get(str(item.get("kind")))
    if kind is None or not kind.namespaced:
        return name
    return f"{metadata(item).get('namespace') or DEFAULT_NAMESPACE}/{name}"


def bare(name: str) -> str:
    """What of it is shown."""
    return name.rpartition("/")[2]


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
