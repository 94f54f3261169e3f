"""What was looked for once, and no further than somebody asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """The items of an iterator, any number of times; each is made when it is first asked for."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._known: list[T] = []

    def __iter__(self) -> Iterator[T]:
        at = 0
        while True:
            if at == len(self._known):
                try:
                    self._known.append(next(self._items))
                except StopIteration:
                    return
            yield self._known[at]
            at += 1
