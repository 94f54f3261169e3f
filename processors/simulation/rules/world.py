"""A world around one saga: its inbox, the coordinator, a worker per step, timers, people, and the effects outside.

The coordinator's decisions are made by the production rules; everything here is the shell around them, with its promises
(sent before saved, saved before acknowledged, at least once everywhere) and its faults. A world changes by moves, each
one atomic; which moves are possible is told by processors/simulation/rules/moves.py. Everything in a world is an immutable
value, so that a copy costs one assignment a field.
"""

from __future__ import annotations

from collections.abc import Mapping

from processors.errors import ProtocolViolation
from processors.saga.commands import Note, Reject, StepCommand
from processors.saga.events import (
    Cancelled,
    Event,
    Failed,
    Redriven,
    Reply,
    Resumed,
    ResumeMode,
    Submitted,
    Succeeded,
    TimedOut,
)
from processors.saga.invariants import Effect, EventRecord, Violation, check_decision, check_rest
from processors.saga.plan import Plan
from processors.saga.protocol import Decision, advance, poisoned
from processors.saga.state import ENDED, Action, Origin, Phase, Saga
from processors.simulation.rules.effects import (
    EffectKind,
    EffectRefused,
    Effects,
    compensate,
    confirm,
    effect_of,
    execute,
    kind_of,
)
from processors.simulation.rules.faults import LIMIT_OF, Limit, RuleFault
from processors.simulation.rules.values import Applied, Delivery, WorkerMemory, restored

JOB = "job"
START_MS = 1_700_000_000_000
RETRY_AFTER_MS = 1_000
POISON = "ValueError()"
#: How many applied records a coordinator may have acknowledged late, and a worker's replies may come again.
REMEMBERED = 2


class World:
    """Everything that there is, at one moment."""

    __slots__ = (
        "accepted",
        "budget",
        "commands",
        "decided",
        "effects",
        "excused",
        "flights",
        "hit",
        "inbox",
        "last_run",
        "last_seq",
        "life_run",
        "log",
        "memories",
        "note",
        "now",
        "offset",
        "old_write",
        "plan",
        "poison",
        "recent",
        "saga",
        "said",
        "sent",
        "trace",
        "traced",
        "violations",
        "zombie",
    )

    def __init__(self, plan: Plan, budget: Mapping[Limit, int], *, traced: bool = False) -> None:
        self.plan = plan
        self.budget: dict[Limit, int] = dict(budget)
        self.now = START_MS
        self.offset = 0
        self.decided = 0
        # --- Kafka
        self.inbox: tuple[EventRecord, ...] = ()
        self.commands: tuple[tuple[Delivery, ...], ...] = tuple(() for _ in plan.steps)
        # --- the coordinator
        self.saga: Saga | None = None
        self.recent: tuple[Applied, ...] = ()
        self.old_write: Saga | None = None
        self.zombie: Applied | None = None
        # --- the workers
        self.memories: tuple[WorkerMemory, ...] = tuple(WorkerMemory() for _ in plan.steps)
        self.flights: tuple[Delivery, ...] = ()
        self.said: tuple[Reply, ...] = ()
        # --- the outside
        self.effects: Effects = {}
        self.accepted = 0
        # --- what is known about this history
        self.life_run = 0
        self.last_run = self.last_seq = 0
        self.excused: frozenset[str] = frozenset()
        self.violations: tuple[Violation, ...] = ()
        self.hit: tuple[RuleFault, ...] = ()
        self.note: Note | None = None
        # Kept only while a history is told or its log is to be checked.
        self.traced = traced
        self.trace: tuple[str, ...] = ()
        self.log: tuple[EventRecord, ...] = ()
        self.poison: dict[int, str] = {}
        self.sent: tuple[tuple[Saga | None, tuple[StepCommand, ...]], ...] = ()

    def fork(self) -> World:
        """Return an independent copy."""
        other = World.__new__(World)
        for name in World.__slots__:
            setattr(other, name, getattr(self, name))
        other.budget = dict(self.budget)
        return other

    # --- bookkeeping ------------------------------------------------------------------------------------------------

    def suffer(self, fault: RuleFault) -> None:
        """Note a fault and take it from its budget."""
        self.budget[LIMIT_OF[fault]] -= 1
        self.hit = (*self.hit, fault)

    def violate(self, rule: str, detail: str) -> None:
        """Note a broken promise."""
        self.violations = (*self.violations, Violation(rule, JOB, detail))

    def say(self, line: str) -> None:
        """Add a line to the story."""
        if self.traced:
            self.trace = (*self.trace, line)

    def append(self, event: Event) -> None:
        """Let the broker take an event into the inbox, stamped with its own clock."""
        self.offset += 1
        record = EventRecord(self.offset, self.now, event)
        self.inbox = (*self.inbox, record)
        if self.traced:
            self.log = (*self.log, record)

    # --- the coordinator --------------------------------------------------------------------------------------------

    def apply(self) -> None:
        """Handle the next record: decide, send, save; its acknowledgement comes later."""
        record, *rest = self.inbox
        before = self.saga
        decision = self._decide(before, record)
        self._send(decision, record)
        self._save(before, decision, record)
        self.inbox = tuple(rest)
        if before is not None and decision.saga is None:
            self._forgotten()

    def apply_unsaved(self) -> None:
        """Handle the next record up to the sending, then crash: the record will come again."""
        record = self.inbox[0]
        decision = self._decide(self.saga, record)
        self._send(decision, record)
        self._restart()

    def apply_poison(self) -> None:
        """Fail to decide the next record: it becomes a dead letter, its job is parked."""
        record, *rest = self.inbox
        self.inbox = tuple(rest)
        if self.saga is None or record.offset > self.saga.offset:
            self._excuse_effect(record.event)
            self.poison = {**self.poison, record.offset: POISON}
        if self.saga is not None and record.offset > self.saga.offset:
            self.saga = poisoned(self.saga, record.offset, POISON, record.timestamp_ms)
            # The dead letter is acknowledged at once here, and with it what came before.
            self.recent = ()

    def restart(self) -> None:
        """Crash before the last records are acknowledged: a new owner restores the state and gets them again."""
        again = tuple(one.record for one in self.recent)
        self.inbox = again + self.inbox
        self._restart()

    def _restart(self) -> None:
        self.saga = restored(self.saga, self.old_write)
        self.old_write = None
        self.recent = ()

    def replace_owner(self) -> None:
        """Let another coordinator take over, while this one hasn't noticed and is still at its last record."""
        self.zombie = self.recent[-1]

    def wake_zombie(self) -> None:
        """The old coordinator sends and saves once more what it decided by its old state."""
        stale = self.zombie
        if stale is None:
            return
        self.zombie = None
        decision = advance(stale.before, stale.record.offset, stale.record.event, stale.record.timestamp_ms)
        if decision.saga != stale.after:
            self.violate("state is the fold of its events", "two owners decided otherwise on the same record")
        for command in decision.commands:
            if isinstance(command, StepCommand):
                self._queue(command)
        if decision.changed and decision.saga is not None:
            self.old_write = decision.saga

    def _decide(self, before: Saga | None, record: EventRecord) -> Decision:
        try:
            decision = advance(before, record.offset, record.event, record.timestamp_ms)
        except ProtocolViolation as error:
            self.violate("no transition outside the table", str(error))
            return Decision(before, (), Note.IGNORED, False)
        self.note, self.decided = decision.note, max(self.decided, record.offset)
        if decision.note is not Note.REPEATED:
            violations = check_decision(before, record.event, record.timestamp_ms, decision)
            if violations:
                self.violations = (*self.violations, *violations)
        return decision

    def _send(self, decision: Decision, record: EventRecord) -> None:
        for command in decision.commands:
            if isinstance(command, Reject):
                self._excuse_effect(record.event)
            else:
                self._queue(command)

    def _queue(self, command: StepCommand) -> None:
        place = self.plan.index(command.step)
        topic = (*self.commands[place], Delivery(command))
        self.commands = (*self.commands[:place], topic, *self.commands[place + 1 :])

    def _save(self, before: Saga | None, decision: Decision, record: EventRecord) -> None:
        after = decision.saga
        self.saga = after
        self.recent = (*self.recent, Applied(before, record, after))[-REMEMBERED:]
        if not decision.changed:
            return
        # The owner writes the present state after whatever a stale one wrote.
        self.old_write = None
        if self.traced:
            steps = tuple(one for one in decision.commands if isinstance(one, StepCommand))
            self.sent = (*self.sent, (after, steps))
        if after is None:
            return
        if before is None:
            if after.run <= self.last_run:
                self.violate("a forgotten job comes back with new keys", f"run {after.run} was there before")
            if after.seq <= self.last_seq:
                self.violate("a forgotten job comes back with higher numbers", f"{after.seq} after {self.last_seq}")
            self.life_run = after.run
        self.last_run, self.last_seq = after.run, after.seq
        if isinstance(record.event, Resumed) and record.event.mode is ResumeMode.SKIP and before is not None:
            self.excused |= {before.plan.steps[place].name for place in before.in_flight}

    def _forgotten(self) -> None:
        # What a forgotten saga left outside stays there: its next life answers only for its own.
        self.excused = frozenset()
        self.life_run = 0
        # Acknowledged long before: a retention outlasts every redelivery.
        self.recent = ()

    def _excuse_effect(self, event: Event) -> None:
        """An effect that was reported in a dead letter is a person's to settle."""
        if isinstance(event, Succeeded) or (isinstance(event, Failed) and event.outcome_unknown):
            self.excused |= {event.step}

    # --- time and people ----------------------------------------------------------------------------------------------

    def fire_timer(self) -> None:
        """The timer of the saved state rings, at its time or later."""
        if self.saga is not None:
            self.now = max(self.now, self.saga.due_ms)
            self.append(TimedOut(JOB, self.saga.seq))

    def fire_timer_early(self) -> None:
        """The timer of the saved state rings before its time, by the broker's clock."""
        if self.saga is not None:
            self.append(TimedOut(JOB, self.saga.seq))

    def run_out_of_time(self) -> None:
        """Let the clock reach the saga's deadline."""
        if self.saga is not None:
            self.now = max(self.now, self.saga.deadline_ms)

    def submit(self, kind: RuleFault | None) -> None:
        """A request comes: the first one, that one delivered again, the same again, or another."""
        if kind is not RuleFault.SUBMITTED_AGAIN:
            self.accepted += 1
        content_hash = "other" if kind is RuleFault.OTHER_CONTENT else "content"
        self.append(Submitted(JOB, self.plan, "http://x/", b"", content_hash, Origin(0, self.accepted)))

    def submit_older(self) -> None:
        """An early submission is delivered again, long after."""
        self.append(Submitted(JOB, self.plan, "http://x/", b"", "content", Origin(0, 1)))

    def cancel(self) -> None:
        """An operator cancels."""
        self.append(Cancelled(JOB, "ann"))

    def resume(self, mode: ResumeMode) -> None:
        """An operator resumes or skips."""
        self.append(Resumed(JOB, mode, "ann", "checked by hand"))

    def redrive(self, step: str) -> None:
        """An operator redrives from a step."""
        self.append(Redriven(JOB, step, self.plan, "ann"))

    def repeat_reply(self, which: int) -> None:
        """A reply is delivered again."""
        self.append(self.said[which])

    # --- workers ------------------------------------------------------------------------------------------------------

    def take(self, place: int) -> Delivery:
        """Take the next command off a step's topic."""
        first, *rest = self.commands[place]
        self.commands = (*self.commands[:place], tuple(rest), *self.commands[place + 1 :])
        return first

    def remember(self, place: int, seq: int, reply: Reply | None) -> None:
        """Let a worker remember the last command and its reply."""
        self.memories = (*self.memories[:place], WorkerMemory(seq, reply), *self.memories[place + 1 :])

    def crash_worker(self, place: int) -> None:
        """A worker dies: its memory is gone, what it hasn't committed is delivered again, as possibly begun."""
        self.remember(place, 0, None)
        topic = tuple(Delivery(one.command, True) for one in self.commands[place])
        self.commands = (*self.commands[:place], topic, *self.commands[place + 1 :])

    def reply(self, reply: Reply) -> None:
        """Publish a reply."""
        self.said = (*self.said, reply)[-REMEMBERED:]
        self.append(reply)

    def do(self, command: StepCommand) -> bool:
        """Change the outside as a command says; False if the outside refuses."""
        planned = self.plan.steps[self.plan.index(command.step)]
        kind = kind_of(planned)
        where = (command.key, command.step, command.run, command.seq)
        try:
            match command.action:
                case Action.EXECUTE:
                    self.effects = execute(self.effects, kind, *where, planned.confirms)
                case Action.COMPENSATE:
                    self.effects = compensate(self.effects, kind, *where)
                case Action.CONFIRM:
                    self.effects = confirm(self.effects, kind, command.step, command.run, command.seq)
        except EffectRefused:
            return False
        return True

    # --- judgement ----------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """True while anything but a timer or a person could move the saga."""
        return bool(self.inbox or self.flights or self.zombie is not None or any(self.commands))

    @property
    def at_rest(self) -> bool:
        """True if nothing moves this saga any more but a person, a new submission or its retention."""
        return not self.pending and (self.saga is None or self.saga.phase in ENDED or self.saga.phase is Phase.PARKED)

    def judge(self) -> None:
        """At rest, compare the outside with what the saga's phase promises."""
        saga = self.saga
        if saga is None and self.life_run:
            self.violate("nothing is lost", "a saga that was never forgotten has no state")
        if saga is None or saga.phase not in ENDED:
            return
        ended_well = saga.phase is Phase.COMPLETED
        effects: dict[str, Effect] = {}
        for planned in saga.plan.steps:
            key = f"{saga.job_id}:{saga.run}:{planned.name}"
            kind = kind_of(planned)
            if kind is not EffectKind.NONE:
                effects[planned.name] = effect_of(
                    self.effects, kind, key, planned.name, saga.run, self.life_run, ended_well
                )
        violations = check_rest(saga, effects, self.excused)
        if violations:
            self.violations = (*self.violations, *violations)
