"""A resource: what the ledger keeps, and what its record in the northbound database rebuilds.

Three kinds are kept, and all go the same way through both stores: reservations of IPs, the owners that say how long an
IP is retained (`Owner`), and pools of addresses (`Pool`). A resource is known by its name everywhere: a reservation by
its port's, the others by `KIND/...`, with a slash, which no name of what is reserved has.

States, and who moves them:

    intended --northbound commit seen--> held --DELETE--> releasing --second commit seen--> (gone)
       └──> failed <──what was given away twice, or does not fit its switch any more
              └──DELETE──> (gone)

`intended` is durable in the ledger before the northbound database is touched; a resource is acknowledged only once
`held`. Everything else a user sees (Bound, Conflicted, Enforced) is derived from the world.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Self

import msgspec

KIND: Final = "ovnreserve/kind"
NAME: Final = "ovnreserve/name"
UID: Final = "ovnreserve/uid"
SWITCH: Final = "ovnreserve/switch"
RECORD: Final = "ovnreserve/record"
REVISION: Final = "ovnreserve/revision"
RESOURCE_VERSION: Final = "ovnreserve/resource-version"
WRITER: Final = "ovnreserve/writer"

KIND_RESERVATION: Final = "reservation"
KIND_OWNER: Final = "owner"
KIND_POOL: Final = "pool"
KIND_LEDGER: Final = "ledger"
RECORD_KINDS: Final = (KIND_RESERVATION, KIND_OWNER, KIND_POOL)


class State(enum.StrEnum):
    INTENDED = "intended"
    HELD = "held"
    RELEASING = "releasing"
    FAILED = "failed"


class Dot(NamedTuple):
    """One commit: which ledger's, by its incarnation, and its number there, from 1; 0 where it is not known."""

    incarnation: str = ""
    number: int = 0


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """`created` and `deleted` are seconds since the epoch.

    `written` is the commit that made it what it is: a side whose version vector covers it has known it (plan/revision).
    """

    name: str
    uid: str
    state: State
    created: int
    resource_version: int
    generation: int = 1
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deleted: int | None = None
    message: str = ""
    written: Dot = Dot()

    @property
    def live(self) -> bool:
        """Is it in force?"""
        return self.state is not State.FAILED

    @property
    def home(self) -> str:
        """The uuid of the switch that it is of, "" if of none."""
        return ""

    @property
    def what(self) -> str:
        """What it is, in words, for the journal."""
        return self.name

    def claims(self) -> Iterable[tuple[str, str, int | str]]:
        """What nobody else may have at the same time."""
        return ()

    def with_(self, **changes: Any) -> Self:
        return msgspec.structs.replace(self, **changes)


_FACTS: Final = ("ippool/", "statefulset/", "virtualmachine/")


def is_fact(name: str) -> bool:
    """Is that the name of an owner or a pool, not of an IP? (Names of ports that others have made may have slashes.)"""
    return name.startswith(_FACTS)
