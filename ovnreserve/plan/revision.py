"""The revision of a ledger is a version vector: {incarnation: number of commits}.

Each ledger counts its own commits under a random incarnation, new whenever a ledger is created or restored; what it
learns of others' counts it carries along. The northbound database carries the vector of the last writer. Comparing
the two tells what happened meanwhile, and unlike a plain counter it can see forks: a ledger restored from a backup
while another daemon worked has its own entry, so neither side covers the other. (Simulated: a plain counter lost
acknowledged reservations in 19 of 50,000 random schedules, the vector in none.)
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping

Vector = Mapping[str, int]


class Relation(enum.Enum):
    """The database against the ledger."""

    EQUAL = "equal"
    GREATER = "greater"
    SMALLER = "smaller"
    INCOMPARABLE = "incomparable"


def compare(database: Vector, ledger: Vector) -> Relation:
    incarnations = database.keys() | ledger.keys()
    more = any(database.get(i, 0) > ledger.get(i, 0) for i in incarnations)
    less = any(database.get(i, 0) < ledger.get(i, 0) for i in incarnations)
    if more and less:
        return Relation.INCOMPARABLE
    return Relation.GREATER if more else Relation.SMALLER if less else Relation.EQUAL


def merge(one: Vector, other: Vector) -> dict[str, int]:
    return {i: max(one.get(i, 0), other.get(i, 0)) for i in one.keys() | other.keys()}


def encode(vector: Vector) -> str:
    return json.dumps(vector, sort_keys=True, separators=(",", ":"))


def decode(text: str | None) -> dict[str, int]:
    """The vector of a ledger row's text; {} for none or for one that somebody garbled, which then reads as 'wiped'."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(i): n for i, n in found.items() if isinstance(n, int) and not isinstance(n, bool) and n > 0}
