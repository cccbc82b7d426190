"""Label selectors: `a=b,c!=d,e in (x,y),f notin (z),g,!h` (Kubernetes, "Labels and Selectors")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from ovnreserve.model.errors import BadRequest
from ovnreserve.model.names import is_label_key, is_label_value

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
        requirement = _requirement(match) if match is not None else None
        if match is None or requirement is None:
            raise _unreadable(text)
        found.append(requirement)
        position = match.end()
    if text.rstrip().endswith(","):
        raise _unreadable(text)
    return found


def _requirement(match: re.Match[str]) -> Requirement | None:
    key, equal, set_ = match["key"], match["equal"], match["set"]
    if not is_label_key(key) or (match["absent"] and (equal or set_)) or (set_ and not match["values"].strip()):
        return None
    if not equal and not set_:
        return Requirement(key, None, not match["absent"])
    values = frozenset(value.strip() for value in (match["values"].split(",") if set_ else [match["value"]]))
    return Requirement(key, values, equal != "!=" and set_ != "notin") if all(map(is_label_value, values)) else None


def _unreadable(text: str) -> BadRequest:
    return BadRequest(f"unable to parse labelSelector: {text[:200]!r}")


def matches(requirements: list[Requirement], labels: Mapping[str, str]) -> bool:
    return all(
        (r.key in labels if r.values is None else labels.get(r.key) in r.values) == r.wanted for r in requirements
    )
