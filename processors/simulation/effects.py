"""The world outside a saga, as its steps change it: archived pages, paid calls, warehouse rows, published records."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from processors.saga.invariants import Effect
from processors.saga.plan import StepPlan


class Kind(StrEnum):
    """How an effect is addressed, and what protects it from a command that comes too late."""

    PAGE = "page"
    """By idempotency key; the last write wins."""
    PAID = "paid"
    """By idempotency key; paid once, and a command that is older than the last one is refused."""
    ROW = "row"
    """By job; the highest version wins."""
    RECORD = "record"
    """By job; the last write wins."""
    NONE = "none"
    """Nothing outside."""

    @property
    def told(self) -> str:
        """The kind in words."""
        return _TOLD[self]


_TOLD = {
    Kind.PAGE: "an effect by idempotency key, without a fence",
    Kind.PAID: "a paid call, by idempotency key and with a fence",
    Kind.ROW: "a row by job, with a version",
    Kind.RECORD: "a published record by job, without a fence",
    Kind.NONE: "nothing outside",
}
_KINDS = {"fetch": Kind.PAGE, "parse": Kind.NONE, "enrich": Kind.PAID, "load": Kind.ROW, "notify": Kind.RECORD}


def kind_of(planned: StepPlan) -> Kind:
    """Return what a step does outside: by the built-in step it uses, else a page of its own if it can be undone."""
    if planned.use.startswith("sim:"):
        return Kind(planned.use[4:])
    return _KINDS.get(planned.use, Kind.PAGE if planned.undoable else Kind.NONE)


class Paid(NamedTuple):
    """A paid call: how often it was charged, whether its result is in use, and the newest command that acted."""

    charged: int = 0
    used: bool = False
    fence: int = 0


class Row(NamedTuple):
    """A warehouse row, or its delete marker."""

    version: int
    run: int
    live: bool
    deleted: bool


Thing = int | Paid | Row
#: Everything outside, by address. Replaced, never changed.
Outside = dict[str, Thing]


class Refused(Exception):
    """The outside knows a newer command for this effect."""


def execute(outside: Outside, kind: Kind, key: str, step: str, run: int, seq: int, confirms: bool) -> Outside:
    """Return the outside after an action. Raises Refused."""
    match kind:
        case Kind.PAGE:
            return {**outside, key: seq}
        case Kind.RECORD:
            return {**outside, step: run}
        case Kind.PAID:
            paid = outside.get(key, Paid())
            if not isinstance(paid, Paid) or seq < paid.fence:
                raise Refused
            # Charged once under a key; a result that lies about unused is taken up again.
            return {**outside, key: Paid(max(paid.charged, 1), True, seq)}
        case Kind.ROW:
            return _write(outside, step, Row(seq, run, not confirms, False))
        case Kind.NONE:
            return outside


def confirm(outside: Outside, kind: Kind, step: str, run: int, seq: int) -> Outside:
    """Return the outside after a confirmation: the row becomes visible."""
    return _write(outside, step, Row(seq, run, True, False)) if kind is Kind.ROW else outside


def compensate(outside: Outside, kind: Kind, key: str, step: str, run: int, seq: int) -> Outside:
    """Return the outside after a compensation; it finds nothing to undo, or leaves a mark for what comes late."""
    match kind:
        case Kind.PAGE | Kind.RECORD:
            address = key if kind is Kind.PAGE else step
            return {name: thing for name, thing in outside.items() if name != address}
        case Kind.PAID:
            paid = outside.get(key, Paid())
            charged = paid.charged if isinstance(paid, Paid) else 0
            fence = max(seq, paid.fence) if isinstance(paid, Paid) else seq
            return {**outside, key: Paid(charged, False, fence)}
        case Kind.ROW:
            return _write(outside, step, Row(seq, run, False, True))
        case Kind.NONE:
            return outside


def _write(outside: Outside, step: str, row: Row) -> Outside:
    standing = outside.get(step)
    if isinstance(standing, Row) and standing.version >= row.version:
        return outside
    return {**outside, step: row}


def effect_of(outside: Outside, kind: Kind, key: str, step: str, run: int, since_run: int, ended_well: bool) -> Effect:
    """Return what stands for a step of a run; after a failed one also what earlier runs since `since_run` left."""
    match kind:
        case Kind.PAGE:
            return Effect(int(key in outside))
        case Kind.PAID:
            paid = outside.get(key)
            return Effect(int(paid.used), paid.charged) if isinstance(paid, Paid) else Effect(0)
        case Kind.ROW:
            row = outside.get(step)
            if not isinstance(row, Row) or row.deleted:
                return Effect(0)
            return Effect(int(row.run == run and row.live) if ended_well else int(row.run >= since_run))
        case Kind.RECORD:
            at = outside.get(step)
            if not isinstance(at, int):
                return Effect(0)
            return Effect(int(at == run) if ended_well else int(at >= since_run))
        case Kind.NONE:
            return Effect(1 if ended_well else 0)
