"""The revision: a version vector, {incarnation: number of commits}, on both sides.

Each ledger counts its own commits under a random incarnation, new whenever a ledger is created or restored; what it
learns of others' counts it carries along. The northbound database carries the vector of the last writer. Comparing
the two tells what happened meanwhile, and unlike a plain counter it can see forks: a ledger restored from a backup
while another daemon worked has its own entry, so neither side covers the other.

A commit is counted in the ledger before the database is asked, and what became of it may never be told. So a ledger
has two numbers: its vector says what the database is known to have had, and `attempted` how far its own count has
gone. Were they one, a daemon that was killed in the middle of a commit would come back as if after a fork: the
others' releases would look like losses, and be undone.

Each reservation carries the commit that made it what it is (its *dot*). A side whose vector covers the dot has known
the reservation in that state, so after a fork each one is decided for itself:

    not there on a side that has known it           released there
    not there on a side that has not known it       never was there
    different, and one side has not known theirs    that side is behind

which is what an observed-remove set does (Almeida, Baquero and others: dotted version vectors).
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Final, NamedTuple

from ovnreserve.model.resource import Dot

Vector = Mapping[str, int]

_MOST: Final = 1 << 62
"""No ledger commits that often. Of a number that somebody wrote there of 4300 digits, the next could not be printed."""


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


def covers(vector: Vector, dot: Dot) -> bool:
    """Has whoever has this vector known that commit? Never one without a number."""
    return 0 < dot.number <= vector.get(dot.incarnation, 0)


class Standing(NamedTuple):
    """Where the two sides stand: the vectors of the database and of the ledger."""

    database: Vector
    ledger: Vector

    @property
    def relation(self) -> Relation:
        return compare(self.database, self.ledger)

    @property
    def merged(self) -> dict[str, int]:
        return merge(self.database, self.ledger)


def standing(database: Vector, ledger: Vector, incarnation: str, attempted: int) -> Standing:
    """Compare a database with the ledger of this incarnation that has attempted so many commits.

    Where the database has had more of them than the ledger was told, their answers were lost, and the ledger has known
    them all the same.
    """
    had = database.get(incarnation, 0)
    if ledger.get(incarnation, 0) < had <= attempted:
        ledger = {**ledger, incarnation: had}
    return Standing(database, ledger)


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
    return {i: n for i, n in found.items() if isinstance(n, int) and not isinstance(n, bool) and 0 < n < _MOST}
