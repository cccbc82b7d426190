"""Whom an entry of the journal is about: an IP by its name, all else by a key that begins with its kind."""

from __future__ import annotations

from typing import Final, NamedTuple

_KINDS: Final[dict[str, tuple[str, str]]] = {
    "subnet": ("kubeovn.io/v1", "Subnet"),
    "ippool": ("kubeovn.io/v1", "IPPool"),
    "statefulset": ("apps/v1", "StatefulSet"),
    "virtualmachine": ("kubevirt.io/v1", "VirtualMachine"),
}
_NAMESPACED: Final = frozenset({"statefulset", "virtualmachine"})
DATABASE: Final = "database"
"""Whom the journal names when it is about the northbound database as a whole."""
LEDGER: Final = "ledger"
"""Whom the journal names when something happened to the ledger itself. No IP has it, nor DATABASE (model/names.py)."""


class Involved(NamedTuple):
    """Whom an entry is about, as Kubernetes has it."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """As a user names it: `IP vm-1.default`, `StatefulSet default/web`."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def involved(key: str) -> Involved:
    """Whom the journal means by a name: an IP's own, LEDGER, or `kind/name`, `kind/namespace/name` of something else.
    (No IP's name has a slash, but a logical switch's may have more.)
    """
    word, slash, name = key.partition("/")
    if key in (LEDGER, DATABASE):
        return Involved("ovnreserve.io/v1", key.capitalize(), "", key)
    if not slash or word not in _KINDS:
        return Involved("kubeovn.io/v1", "IP", "", key)
    namespace, slash, rest = name.partition("/") if word in _NAMESPACED else ("", "/", name)
    return Involved(*_KINDS[word], namespace, rest) if slash else Involved(*_KINDS[word], "", name)


def keys_of(name: str, kind: str = "", namespace: str = "") -> list[str] | None:
    """By which names the journal may mean it, given what is known of kind and namespace; None if it may be any."""
    plain = [key for key in (name, f"subnet/{name}", f"ippool/{name}") if kind in ("", involved(key).kind)]
    owners = [word for word in sorted(_NAMESPACED) if kind in ("", _KINDS[word][1])]
    if namespace:
        return [f"{word}/{namespace}/{name}" for word in owners]
    return plain if not owners or not kind else None
