"""How a bug is planted: for a while, one function of the engine or one row of the protocol is another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from processors.saga import handlers, moves, protocol
from processors.saga.handlers import Transition
from processors.saga.protocol import PROTOCOL, ProtocolRow
from processors.saga.state import Phase

Patch = Callable[[], AbstractContextManager[None]]


class Bug(NamedTuple):
    """A planted bug."""

    name: str
    plant: Patch


def swapped(place: Any, name: str, value: Any) -> Patch:
    """Plant by putting another function in a module or class."""

    @contextmanager
    def planted() -> Iterator[None]:
        kept = getattr(place, name)
        setattr(place, name, value)
        try:
            yield
        finally:
            setattr(place, name, kept)

    return planted


def handler(rows: Sequence[tuple[Phase, type]], function: Callable[[Any, Any, int], Transition]) -> Patch:
    """Plant by answering some rows of the protocol otherwise; the table then allows any phase."""

    @contextmanager
    def planted() -> Iterator[None]:
        kept = {row: PROTOCOL[row] for row in rows}
        PROTOCOL.update({row: ProtocolRow(function, frozenset(Phase)) for row in rows})
        try:
            yield
        finally:
            PROTOCOL.update(kept)

    return planted


def everywhere(name: str, value: Any) -> Patch:
    """Plant a move in both modules that use it."""

    @contextmanager
    def planted() -> Iterator[None]:
        places = [place for place in (moves, handlers, protocol) if hasattr(place, name)]
        kept = [(place, getattr(place, name)) for place in places]
        for place in places:
            setattr(place, name, value)
        try:
            yield
        finally:
            for place, old in kept:
                setattr(place, name, old)

    return planted


def both(one: Patch, other: Patch) -> Patch:
    """Plant two at once, which only together are the bug."""

    @contextmanager
    def planted() -> Iterator[None]:
        with one(), other():
            yield

    return planted
