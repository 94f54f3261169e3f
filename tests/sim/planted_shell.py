"""Bugs planted in what is around the rules: coordinator, workers and the outside, as the model of them has it."""

from __future__ import annotations

from typing import Any, cast

from msgspec.structs import replace

from processors.saga import events as ev
from processors.saga import protocol
from processors.saga.replies import failed
from processors.saga.state import Action, Saga
from processors.simulation.rules import effects as outside
from processors.simulation.rules import moves as choices
from processors.simulation.rules import world
from processors.simulation.rules.effects import EffectKind, Paid
from processors.simulation.rules.faults import RuleFault
from processors.simulation.rules.values import succeeded
from tests.sim.planting import Bug, swapped

advance = protocol.advance

World = world.World


def applies_twice(saga: Saga | None, offset: int, event: ev.Event, now: int) -> Any:
    before = saga if saga is None or offset > saga.offset else replace(saga, offset=offset - 1)
    return advance(before, offset, event, now)


def saves_first(self: world.World) -> None:
    """The crash comes after saving and before sending; the record was saved, so nothing is sent when it comes again."""
    record = self.inbox[0]
    before = self.saga
    self._save(before, self._decide(before, record), record)
    self.inbox = self.inbox[1:]
    self.recent = ()


def acknowledges_first(self: world.World) -> None:
    """The crash comes after the acknowledgement and before saving: the record is gone."""
    self._decide(self.saga, self.inbox[0])
    self.inbox = self.inbox[1:]
    self._restart()


def last_write_wins(newest: Saga | None, last_written: Saga | None) -> Saga | None:
    return last_written or newest


def restores_nothing(newest: Saga | None, last_written: Saga | None) -> Saga | None:
    return None


def vouches(again: bool) -> bool:
    return False


def no_tombstone(things: Any, kind: EffectKind, key: str, step: str, run: int, seq: int) -> Any:
    return things if kind is EffectKind.RECORD else outside.compensate(things, kind, key, step, run, seq)


def keeps_pages(things: Any, kind: EffectKind, key: str, step: str, run: int, seq: int) -> Any:
    return things if kind is EffectKind.PAGE else outside.compensate(things, kind, key, step, run, seq)


def unversioned(things: Any, step: str, row: Any) -> Any:
    return {**things, step: row}


def pays_each_time(things: Any, kind: EffectKind, key: str, step: str, run: int, seq: int, confirms: bool) -> Any:
    after = outside.execute(things, kind, key, step, run, seq, confirms)
    if kind is EffectKind.PAID:
        before = things.get(key, Paid())
        return {**after, key: cast(Paid, after[key])._replace(charged=before.charged + 1)}
    return after


def marks_version_zero(things: Any, kind: EffectKind, key: str, step: str, run: int, seq: int) -> Any:
    """A delete that carries no version of its own: the late insert comes back, the delete never takes."""
    return outside.compensate(things, kind, key, step, run, 0 if kind is EffectKind.ROW else seq)


_time, _do_work = choices._time, choices._do_work


def timers_die_with_the_owner(world_: world.World, moves_: list[Any], ordinary: bool) -> None:
    if RuleFault.UNACKNOWLEDGED not in world_.hit:
        _time(world_, moves_, ordinary)


def lies_about_the_unknown(command: Any, reason: str, *, outcome_unknown: bool = False, **how: Any) -> Any:
    return failed(command, reason, **how)


def skips_the_undo(world_: world.World, place: int, fault: RuleFault | None) -> None:
    """A worker that hasn't seen the action answers its compensation without doing it."""
    topic = world_.commands[place]
    if fault is None and topic[0].command.action is Action.COMPENSATE and not topic[0].command.output:
        world_.take(place)
        world_.remember(place, topic[0].command.seq, None)
        world_.reply(succeeded(topic[0].command))
        return
    _do_work(world_, place, fault)


IN_THE_SHELL = [
    Bug("a redelivered event applied twice", swapped(world, "advance", applies_twice)),
    Bug("saved before sent", swapped(World, "apply_unsaved", saves_first)),
    Bug("offset committed before saved", swapped(World, "apply_unsaved", acknowledges_first)),
    Bug("a stale owner's state wins on restore", swapped(world, "restored", last_write_wins)),
    Bug("the new owner restores nothing", swapped(world, "restored", restores_nothing)),
    Bug("timers die with their owner", swapped(choices, "_time", timers_die_with_the_owner)),
    Bug("a worker vouches for its predecessor", swapped(choices, "may_have_begun", vouches)),
    Bug("a worker says failed where it doesn't know", swapped(choices, "failed", lies_about_the_unknown)),
    Bug("undo skipped where the output is unknown", swapped(choices, "_do_work", skips_the_undo)),
    Bug("the tombstone is missing", swapped(world, "compensate", no_tombstone)),
    Bug("the archived page stays", swapped(world, "compensate", keeps_pages)),
    Bug("a row's delete marker without a version", swapped(world, "compensate", marks_version_zero)),
    Bug("rows without versions", swapped(outside, "_write", unversioned)),
    Bug("paid once per attempt", swapped(world, "execute", pays_each_time)),
]
