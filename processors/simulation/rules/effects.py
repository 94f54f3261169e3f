"""The effects of steps outside a saga: archived pages, paid calls, warehouse rows, published records."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from processors.errors import PipelineError
from processors.pipeline.pipeline import find_step
from processors.saga.invariants import Effect
from processors.saga.plan import StepPlan
from processors.step import EffectKind

#: Each kind of effect in words.
DESCRIPTIONS = {
    EffectKind.PAGE: "an effect by idempotency key, without a fence",
    EffectKind.PAID: "a paid call, by idempotency key and with a fence",
    EffectKind.ROW: "a row by job, with a version",
    EffectKind.RECORD: "a published record by job, without a fence",
    EffectKind.NONE: "nothing outside",
}


def kind_of(planned: StepPlan) -> EffectKind:
    """Return the kind of effect that a step declares; without a declaration, a page if the step can be undone."""
    if planned.use.startswith("sim:"):
        return EffectKind(planned.use[4:])
    return _declared(planned.use) or (EffectKind.PAGE if planned.undoable else EffectKind.NONE)


@cache
def _declared(use: str) -> EffectKind | None:
    # A simulation asks for each move, and the class of a step stays the same.
    try:
        return find_step(use).effect
    except PipelineError:
        # A plan of another installation, whose step is not installed here.
        return None


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
#: All effects by address. Never changed, only replaced.
Effects = dict[str, Thing]


class EffectRefused(Exception):
    """The target has seen a newer command for this effect."""


def execute(effects: Effects, kind: EffectKind, key: str, step: str, run: int, seq: int, confirms: bool) -> Effects:
    """Return the effects after an action. Raises EffectRefused."""
    match kind:
        case EffectKind.PAGE:
            return {**effects, key: seq}
        case EffectKind.RECORD:
            return {**effects, step: run}
        case EffectKind.PAID:
            paid = effects.get(key, Paid())
            if not isinstance(paid, Paid) or seq < paid.fence:
                raise EffectRefused
            # A key is charged once; a result that is not in use is used again.
            return {**effects, key: Paid(max(paid.charged, 1), True, seq)}
        case EffectKind.ROW:
            return _write(effects, step, EffectRow(seq, run, not confirms, False))
        case EffectKind.NONE:
            return effects


def confirm(effects: Effects, kind: EffectKind, step: str, run: int, seq: int) -> Effects:
    """Return the effects after a confirmation: the row becomes visible."""
    return _write(effects, step, EffectRow(seq, run, True, False)) if kind is EffectKind.ROW else effects


def compensate(effects: Effects, kind: EffectKind, key: str, step: str, run: int, seq: int) -> Effects:
    """Return the effects after a compensation. Paid calls and rows keep a marker against late commands."""
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
    """Return the effect of a step in a run; after a failed run, also effects of the runs since `since_run`."""
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
