"""Long work: a loop over 100,000 rows is no hung daemon, and what it leaves behind is not paid for ever after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

Beat = Callable[[], None]
"""What is called now and then; not more often than it likes to be, it sees to that itself."""

EVERY: Final = 1000


def no_beat() -> None:
    """Nobody wants to know."""


def paced(items: Iterable[T], beat: Beat) -> Iterator[T]:
    """The items, with a call of `beat` before each thousand of them."""
    for index, item in enumerate(items):
        if index % EVERY == 0:
            beat()
        yield item


def taken(items: set[T], most: int) -> Iterator[T]:
    """Take so many items out of the set, or all.

    An emptied set is cleared, which gives its memory back: else each later `pop` goes through the room for all that
    were ever in it at once, to find the one that came.
    """
    for _ in range(min(len(items), most)):
        yield items.pop()
    if not items:
        items.clear()
