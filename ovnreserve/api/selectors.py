"""Label selectors: `a=b,c!=d,e in (x,y),f notin (z),g,!h` (Kubernetes, "Labels and Selectors"); and field selectors,
`path.to.field=value,other!=value`, of fields that are named where they may be used.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from ovnreserve.model.errors import BadRequest
from ovnreserve.model.names import is_label_key, is_label_value

_REQUIREMENT: Final = re.compile(
    # No two parts that match the same space stand side by side: 20 kB of spaces took 3 s to refuse.
    r"\s*(?:(?P<absent>!)\s*)?(?P<key>[^\s,!=()]+)\s*"
    r"(?:(?P<equal>==|=|!=)\s*(?:(?P<value>[^\s,()=!]+)\s*)?|(?P<set>in|notin)\s*\((?P<values>[^()]*)\)\s*)?(?:,|$)"
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
    values = frozenset(value.strip() for value in (match["values"].split(",") if set_ else [match["value"] or ""]))
    return Requirement(key, values, equal != "!=" and set_ != "notin") if all(map(is_label_value, values)) else None


def _unreadable(text: str) -> BadRequest:
    return BadRequest(f"unable to parse labelSelector: {text[:200]!r}")


def matches(requirements: list[Requirement], labels: Mapping[str, str]) -> bool:
    return all(
        (r.key in labels if r.values is None else labels.get(r.key) in r.values) == r.wanted for r in requirements
    )


class Field(NamedTuple):
    """The field at `path` must be `value`; `wanted` False turns that round."""

    path: str
    value: str
    wanted: bool


def parse_fields(text: str, supported: Collection[str]) -> list[Field]:
    """The requirements of a field selector. Raises BadRequest, also for a field that is not supported."""
    found: list[Field] = []
    for word in filter(None, text.split(",")):
        path, equal, value = word.partition("=")
        wanted = not path.endswith("!")
        path = path.removesuffix("!").strip()
        if not equal or path not in supported:
            raise BadRequest(
                f"unable to use fieldSelector: {text[:200]!r}: what is supported is FIELD=VALUE and FIELD!=VALUE "
                f"with {', '.join(supported)}"
            )
        found.append(Field(path, value.removeprefix("=").strip(), wanted))
    return found


def matches_fields(fields: list[Field], document: Mapping[str, Any]) -> bool:
    return all((_at(document, field.path) == field.value) == field.wanted for field in fields)


def _at(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for key in path.split("."):
        value = value.get(key, "") if isinstance(value, Mapping) else ""
    return value
