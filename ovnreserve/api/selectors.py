"""Label selectors: `a=b,c!=d,e in (x,y),f notin (z),g,!h` (Kubernetes, "Labels and Selectors")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from ovnreserve.model.errors import BadRequest
from ovnreserve.model.names import is_label_key

_REQUIREMENT: Final = re.compile(
    r"\s*(?:(?P<absent>!)\s*)?(?P<key>[^\s,!=()]+)\s*"
    r"(?:(?P<equal>==|=|!=)\s*(?P<value>[^\s,()=!]*)|(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?\s*(?:,|$)"
)


class Requirement(NamedTuple):
    """The label `key` must have one of `values` (any, if None); `wanted` False turns that round."""

    key: str
    values: frozenset[str] | None
    wanted: bool


def parse(text: str) -> list[Requirement]:
    """The requirements of a selector, all of which must hold. Raises BadRequest."""
    found: list[Requirement] = []
    position = 0
    while position < len(text.rstrip()):
        match = _REQUIREMENT.match(text, position)
        if match is None or not is_label_key(match["key"]) or (match["absent"] and (match["equal"] or match["set"])):
            raise BadRequest(f"unable to parse labelSelector: {text[:200]!r}")
        position = match.end()
        if match["equal"]:
            found.append(Requirement(match["key"], frozenset({match["value"]}), match["equal"] != "!="))
        elif match["set"]:
            values = frozenset(value.strip() for value in match["values"].split(","))
            found.append(Requirement(match["key"], values, match["set"] == "in"))
        else:
            found.append(Requirement(match["key"], None, not match["absent"]))
    return found


def matches(requirements: list[Requirement], labels: Mapping[str, str]) -> bool:
    return all(
        (r.key in labels if r.values is None else labels.get(r.key) in r.values) == r.wanted for r in requirements
    )
