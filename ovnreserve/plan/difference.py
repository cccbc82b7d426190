"""A difference: what is not as it should be, in one line, with the ovn-nbctl command that shows it."""

from __future__ import annotations

import json
import shlex
from typing import Final, NamedTuple

from ovnreserve.model.errors import shown
from ovnreserve.model.involved import involved
from ovnreserve.model.resource import NAME

NOT_OURS: Final = "what is not ours is never changed"


class Difference(NamedTuple):
    """`command` shows it; `left` is why a repair leaves it as it is, "" where it does not."""

    what: str
    command: str
    left: str = ""


def titled(name: str) -> str:
    """The resource of that name as a user calls it: `IP vm-1.default`, `IPPool pool-1`, `StatefulSet default/web`."""
    return shown(str(involved(name)))


def record_of(name: str) -> str:
    """The command that shows the resource's record."""
    return find("dns", f"external_ids:{NAME}", name)


def find(table: str, column: str, value: str) -> str:
    """The command that finds what has this value there, for a shell."""
    plain = value.replace(".", "").replace("-", "").isalnum() and value.isascii()
    return f"ovn-nbctl find {table} {shlex.quote(f'{column}={value if plain else json.dumps(value)}')}"
