"""The world outside a saga, as its steps change it: archived pages, paid calls, warehouse rows, published records."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from processors.saga.invariants import Effect
from processors.saga.plan import StepPlan


class EffectKind(StrEnum):
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
    def described(self) -> str:
        """The kind in words."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    EffectKind.PAGE: "an effect by idempotency key, without a fence",
    EffectKind.PAID: "a paid call, by idempotency key and with a fence",
    EffectKind.ROW: "a row by job, with a version",
    EffectKind.RECORD: "a published record by job, without a fence",
    EffectKind.NONE: "nothing outside",
}
_KINDS = {
    "fetch": EffectKind.PAGE,
    "parse": EffectKind.NONE,
    "enrich": EffectKind.PAID,
    "load": EffectKind.ROW,
    "notify": EffectKind.RECORD,
}


def kind_of(planned: StepPlan) -> EffectKind:
    """Return what a step does outside: by the built-in step it uses, else a page of its own if it can be undone."""
    if planned.use.startswith("sim:"):
        return EffectKind(planned.use[4:])
    return _KINDS.get(planned.use, EffectKind.PAGE if planned.undoable else EffectKind.NONE)


class Paid(NamedTuple):
    """A paid call: how often it was charged, whether its result is in use, and the newest command that acted."""

    charged: int = 0
    used: bool = False
    fence: int = 0


class EffectRow(NamedTuple):
    """A warehouse row, or its delete marker."""

    version: int
    run: int
    live: bool
    deleted: bool


Thing = int | Paid | EffectRow
#: Everything outside, by address. Replaced, never changed.
Effects = dict[str, Thing]


class EffectRefused(Exception):
    """The outside knows a newer command for this effect."""


def execute(effects: Effects, kind: EffectKind, key: str, step: str, run: int, seq: int, confirms: bool) -> Effects:
    """Return the outside after an action. Raises Refused."""
    match kind:
        case EffectKind.PAGE:
            return {**effects, key: seq}
        case EffectKind.RECORD:
            return {**effects, step: run}
        case EffectKind.PAID:
            paid = effects.get(key, Paid())
            if not isinstance(paid, Paid) or seq < paid.fence:
                raise EffectRefused
            # Charged once under a key; a result that lies about unused is taken up again.
            return {**effects, key: Paid(max(paid.charged, 1), True, seq)}
        case EffectKind.ROW:
            return _write(effects, step, EffectRow(seq, run, not confirms, False))
        case EffectKind.NONE:
            return effects


def confirm(effects: Effects, kind: EffectKind, step: str, run: int, seq: int) -> Effects:
    """Return the outside after a confirmation: the row becomes visible."""
    return _write(effects, step, EffectRow(seq, run, True, False)) if kind is EffectKind.ROW else effects


def compensate(effects: Effects, kind: EffectKind, key: str, step: str, run: int, seq: int) -> Effects:
    """Return the outside after a compensation; it finds nothing to undo, or leaves a mark for what comes late."""
    match kind:
        case EffectKind.PAGE | EffectKind.RECORD:
            address = key if kind is EffectKind.PAGE else step
            return {name: thing for name, thing in effects.items() if name != address}
        case EffectKind.PAID:
            paid = effects.get(key, Paid())
            charged = paid.charged if isinstance(paid, Paid) else 0
            fence = max(seq, paid.fence) if isinstance(paid, Paid) else seq
            return {**effects, key: Paid(charged, False, fence)}
        case EffectKind.ROW:
            return _write(effects, step, EffectRow(seq, run, False, True))
        case EffectKind.NONE:
            return effects


def _write(effects: Effects, step: str, row: EffectRow) -> Effects:
    standing = effects.get(step)
    if isinstance(standing, EffectRow) and standing.version >= row.version:
        return effects
    return {**effects, step: row}


def effect_of(
    effects: Effects, kind: EffectKind, key: str, step: str, run: int, since_run: int, ended_well: bool
) -> Effect:
    """Return what stands for a step of a run; after a failed one also what earlier runs since `since_run` left."""
    match kind:
        case EffectKind.PAGE:
            return Effect(int(key in effects))
        case EffectKind.PAID:
            paid = effects.get(key)
            return Effect(int(paid.used), paid.charged) if isinstance(paid, Paid) else Effect(0)
        case EffectKind.ROW:
            row = effects.get(step)
            if not isinstance(row, EffectRow) or row.deleted:
                return Effect(0)
            return Effect(int(row.run == run and row.live) if ended_well else int(row.run >= since_run))
        case EffectKind.RECORD:
            at = effects.get(step)
            if not isinstance(at, int):
                return Effect(0)
            return Effect(int(at == run) if ended_well else int(at >= since_run))
        case EffectKind.NONE:
            return Effect(1 if ended_well else 0)
