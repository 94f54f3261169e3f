"""What may happen next in a world: the ordinary moves, and the faults for which there is budget left."""

from __future__ import annotations

from typing import NamedTuple

from processors.saga.events import Event, Failed, Redriven, Reply, ResumeMode, Submitted, TimedOut
from processors.saga.replies import failed
from processors.saga.state import ENDED, Action, Phase
from processors.simulation.rules.effects import EffectKind, kind_of
from processors.simulation.rules.faults import LIMIT_OF, RuleFault
from processors.simulation.rules.values import Delivery, succeeded
from processors.simulation.rules.world import RETRY_AFTER_MS, World

#: A longer inbox adds interleavings that differ in nothing but the order of independent records.
INBOX_LIMIT = 3


class Move(NamedTuple):
    """One atomic step of a world: its name, what it is about, and the fault that it is, if it is one."""

    name: str
    about: int | str = 0
    fault: RuleFault | None = None


SUBMIT = Move("submit")
APPLY = Move("apply")
WAKE_ZOMBIE = Move("wake_zombie")
FIRE = Move("fire_timer")


def choices(world: World, *, ordinary: bool = False) -> list[Move]:
    """Return every possible move; with `ordinary` only those that no fault needs."""
    if world.offset == 0:
        return [SUBMIT]
    moves: list[Move] = []
    room = len(world.inbox) < INBOX_LIMIT
    ready = bool(world.inbox) and not (_starts_a_run(world) and _unfenced(world))
    if ready:
        moves.append(APPLY)
    if world.zombie is not None:
        moves.append(WAKE_ZOMBIE)
    if room:
        for place, topic in enumerate(world.commands):
            if topic:
                _work(world, moves, place, topic, ordinary)
        _time(world, moves, ordinary)
    for which, delivery in enumerate(world.flights):
        moves.append(Move("land", which))
        if not ordinary and delivery.command.action is Action.EXECUTE:
            moves.append(Move("land_unknown", which))
    if not ordinary:
        _coordinator(world, moves, ready)
        if room:
            _operators(world, moves)
    return moves


def _left(world: World, fault: RuleFault) -> bool:
    return world.budget[LIMIT_OF[fault]] > 0


_EXECUTE_FAULTS = (
    RuleFault.STEP_FAILS,
    RuleFault.STEP_RETRIES,
    RuleFault.STEP_RETRIES_LATER,
    RuleFault.UNKNOWN_DONE,
    RuleFault.UNKNOWN_NOT_DONE,
)
_UNDO_FAULTS = (RuleFault.UNDO_FAILS, RuleFault.UNDO_GIVES_UP)
_WORKER_FAULTS = (
    RuleFault.CRASH_BEFORE_EFFECT,
    RuleFault.CRASH_AFTER_EFFECT,
    RuleFault.CRASH_AFTER_REPLY,
    RuleFault.HANG,
    RuleFault.ZOMBIE,
)


def _work(world: World, moves: list[Move], place: int, topic: tuple[Delivery, ...], ordinary: bool) -> None:
    command = topic[0].command
    if command.seq <= world.memories[place].seq:
        moves.append(Move("repeat_answer", place))
        return
    moves.append(Move("work", place))
    if ordinary:
        return
    budget = world.budget
    if command.action is Action.EXECUTE:
        if len(topic) > 1:
            moves.append(Move("supersede", place))
        if world.now >= command.expires_ms:
            moves.append(Move("expire", place))
        faults: tuple[RuleFault, ...] = _EXECUTE_FAULTS
    else:
        faults = _UNDO_FAULTS
    if budget[LIMIT_OF[faults[0]]] > 0:
        moves.extend(Move("work", place, fault) for fault in faults)
    moves.extend(Move("work", place, fault) for fault in _WORKER_FAULTS if budget[LIMIT_OF[fault]] > 0)


def _time(world: World, moves: list[Move], ordinary: bool) -> None:
    saga = world.saga
    if saga is None or not saga.due_ms:
        return
    if any(isinstance(one.event, TimedOut) and one.event.seq == saga.seq for one in world.inbox):
        return
    if saga.phase in ENDED:
        if not ordinary and not world.pending and _left(world, RuleFault.FORGET):
            moves.append(Move("fire_timer", 0, RuleFault.FORGET))
            if _left(world, RuleFault.EARLY_TIMER):
                moves.append(Move("fire_timer_early", 0, RuleFault.EARLY_TIMER))
        return
    if not world.pending:
        moves.append(FIRE)
    elif not ordinary and _left(world, RuleFault.TIMEOUT):
        moves.append(Move("fire_timer", 0, RuleFault.TIMEOUT))
    if not ordinary and _left(world, RuleFault.EARLY_TIMER):
        if world.now < saga.due_ms:
            moves.append(Move("fire_timer_early", 0, RuleFault.EARLY_TIMER))
        if saga.phase is Phase.RUNNING and world.now < saga.deadline_ms:
            moves.append(Move("run_out_of_time", 0, RuleFault.DEADLINE))


def _coordinator(world: World, moves: list[Move], ready: bool) -> None:
    if not _left(world, RuleFault.UNSAVED):
        return
    if ready:
        moves.append(Move("apply_unsaved", 0, RuleFault.UNSAVED))
        if world.inbox[0].offset > world.decided:
            # Deciding is deterministic: what was decided once doesn't raise the next time.
            moves.append(Move("apply_poison", 0, RuleFault.POISON))
    if world.recent:
        moves.append(Move("restart", 0, RuleFault.UNACKNOWLEDGED))
        if world.zombie is None:
            moves.append(Move("replace_owner", 0, RuleFault.ZOMBIE_COORDINATOR))


def _operators(world: World, moves: list[Move]) -> None:
    saga = world.saga
    if _left(world, RuleFault.SUBMITTED_TWICE):
        moves.append(Move("submit", 0, RuleFault.SUBMITTED_TWICE))
        moves.extend(Move("repeat_reply", which, RuleFault.REPLY_REPEATED) for which in range(len(world.said)))
        if saga is not None and not (saga.phase in ENDED and world.now >= saga.due_ms):
            # Not of a forgotten job: intake's redelivery is over long before a retention is.
            moves.append(Move("submit", 0, RuleFault.SUBMITTED_AGAIN))
            moves.append(Move("submit_older", 0, RuleFault.SUBMITTED_AGAIN))
            moves.append(Move("submit", 0, RuleFault.OTHER_CONTENT))
    if saga is None:
        return
    if saga.phase in (Phase.RUNNING, Phase.PARKED, Phase.COMPENSATING) and _left(world, RuleFault.CANCEL):
        moves.append(Move("cancel", 0, RuleFault.CANCEL))
    if not _left(world, RuleFault.RETRY_BY_HAND):
        return
    if saga.phase is Phase.PARKED:
        moves.append(Move("resume", "RETRY", RuleFault.RETRY_BY_HAND))
        moves.append(Move("resume", "SKIP", RuleFault.SKIP_BY_HAND))
    elif saga.phase in ENDED:
        moves.extend(Move("redrive", planned.name, RuleFault.REDRIVE) for planned in world.plan.steps)


def _starts_a_run(world: World) -> bool:
    """True if the next record may start another run."""
    ended = world.saga is None or world.saga.phase in ENDED
    return ended and world.offset > 1 and isinstance(world.inbox[0].event, Submitted | Redriven)


def _unfenced(world: World) -> bool:
    """True if a hung worker, or a stale coordinator's command, may yet write the record of the run that is over.

    The records topic has no fence: such a write could land upon a later run's record. So a new run waits here until
    it has landed; docs/verification.md says that this is not covered.
    """
    plan = world.plan
    return world.zombie is not None or any(
        kind_of(plan.steps[plan.index(one.command.step)]) is EffectKind.RECORD for one in world.flights
    )


# --- moves ------------------------------------------------------------------------------------------------------------


def perform(world: World, move: Move) -> None:
    """Make a move; at rest afterwards, the outside is compared with what was promised."""
    name, about, fault = move
    if world.traced:
        world.say(describe(world, move))
    if fault is not None:
        world.suffer(fault)
    match name, about:
        case "work", int(place):
            _do_work(world, place, fault)
        case "supersede", int(place):
            _answer_without_work(world, place, "superseded")
        case "expire", int(place):
            _answer_without_work(world, place, "expired")
        case "repeat_answer", int(place):
            delivery = world.take(place)
            memory = world.memories[place]
            if memory.seq == delivery.command.seq and memory.reply is not None:
                world.reply(memory.reply)
        case (("land" | "land_unknown"), int(which)):
            _land(world, which, known=name == "land")
        case "submit", _:
            world.submit(fault)
        case "resume", str(mode):
            world.resume(ResumeMode(mode))
        case "redrive", str(step):
            world.redrive(step)
        case "repeat_reply", int(which):
            world.repeat_reply(which)
        case _:
            getattr(world, name)()
    if world.traced and name in ("apply", "apply_unsaved", "apply_poison"):
        world.say(f"    {world.note}: {_standing(world)}")
    if world.at_rest:
        world.judge()


def describe(world: World, move: Move) -> str:
    """Return what a move is about to do, for a story."""
    name, about, fault = move
    with_fault = f" ({fault})" if fault else ""
    match name, about:
        case (("work" | "supersede" | "expire" | "repeat_answer"), int(place)):
            return f"worker {_command(world.commands[place][0])}: {name.replace('_', ' ')}{with_fault}"
        case (("land" | "land_unknown"), int(which)):
            return f"worker {_command(world.flights[which])}: {name.replace('_', ' ')}, late"
        case (("apply" | "apply_unsaved" | "apply_poison"), _):
            record = world.inbox[0]
            return f"coordinator: offset {record.offset}, {_event(record.event)}{with_fault}"
        case "repeat_reply", int(which):
            return f"{_event(world.said[which])}{with_fault}"
        case _:
            return f"{name.replace('_', ' ')} {about or ''}".rstrip() + with_fault


def _command(delivery: Delivery) -> str:
    command = delivery.command
    return f"{command.action.lower()} {command.step}, seq {command.seq}, attempt {command.attempt}"


def _event(event: Event) -> str:
    step, seq = getattr(event, "step", ""), getattr(event, "seq", 0)
    outcome_unknown = " unknown" if isinstance(event, Failed) and event.outcome_unknown else ""
    return f"{type(event).__name__}{outcome_unknown}" + (f" {step}" if step else "") + (f" seq {seq}" if seq else "")


def _standing(world: World) -> str:
    saga = world.saga
    if saga is None:
        return "no saga"
    return f"{saga.phase}, seq {saga.seq}, at {saga.at or 'rest'}"


def _do_work(world: World, place: int, fault: RuleFault | None) -> None:
    match fault:
        case RuleFault.CRASH_BEFORE_EFFECT:
            world.crash_worker(place)
            return
        case RuleFault.CRASH_AFTER_EFFECT:
            world.do(world.commands[place][0].command)
            world.crash_worker(place)
            return
        case RuleFault.CRASH_AFTER_REPLY:
            delivery = world.commands[place][0]
            world.reply(_worked(world, delivery))
            world.crash_worker(place)
            return
        case RuleFault.HANG:
            delivery = world.take(place)
            world.remember(place, delivery.command.seq, None)
            world.flights = (*world.flights, delivery)
            return
        case RuleFault.ZOMBIE:
            world.flights = (*world.flights, world.commands[place][0])
            world.crash_worker(place)
            return
    delivery = world.take(place)
    command, again = delivery
    match fault:
        case RuleFault.STEP_FAILS:
            reply = failed(command, "no", outcome_unknown=may_have_begun(again))
        case RuleFault.STEP_RETRIES:
            reply = failed(command, "not now", retryable=True, outcome_unknown=may_have_begun(again))
        case RuleFault.STEP_RETRIES_LATER:
            outcome_unknown = may_have_begun(again)
            reply = failed(command, "later", retryable=True, outcome_unknown=outcome_unknown, after_ms=RETRY_AFTER_MS)
        case RuleFault.UNKNOWN_DONE:
            world.do(command)
            reply = failed(command, "connection lost", retryable=True, outcome_unknown=True)
        case RuleFault.UNKNOWN_NOT_DONE:
            reply = failed(command, "connection lost", retryable=True, outcome_unknown=True)
        case RuleFault.UNDO_FAILS:
            reply = failed(command, "not now", retryable=True)
        case RuleFault.UNDO_GIVES_UP:
            reply = failed(command, "never")
        case _:
            reply = _worked(world, delivery)
    world.remember(place, command.seq, reply)
    world.reply(reply)


def may_have_begun(again: bool) -> bool:
    """A worker's word for "no effect" covers only its own attempt: an earlier owner may have begun this very command."""
    return again


def _worked(world: World, delivery: Delivery) -> Reply:
    command = delivery.command
    if world.do(command):
        return succeeded(command)
    return failed(command, "a newer command has acted", outcome_unknown=may_have_begun(delivery.again))


def _answer_without_work(world: World, place: int, why: str) -> None:
    command, again = world.take(place)
    reply = failed(command, why, retryable=True, outcome_unknown=may_have_begun(again))
    world.remember(place, command.seq, reply)
    world.reply(reply)


def _land(world: World, which: int, *, known: bool) -> None:
    delivery = world.flights[which]
    world.flights = (*world.flights[:which], *world.flights[which + 1 :])
    reply = _worked(world, delivery)
    if not known:
        reply = failed(delivery.command, "connection lost", retryable=True, outcome_unknown=True)
    world.reply(reply)
