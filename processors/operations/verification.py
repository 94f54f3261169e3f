"""Runs the auditor for operators: over what the log holds by now, or beside a running engine.

`verify` is the auditor over events, states and commands alone: does the log explain every decision? What lies outside of
the decisions, such as published records and the ledger, is judged by `audit`, which reads every topic.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import Self

from processors.auditor.auditor import Auditor
from processors.auditor.follow import Beginning, Follower
from processors.auditor.scope import Scope
from processors.auditor.violations import Invariant, label_of
from processors.kafka.record import Record
from processors.messages.wire import FindPlan
from processors.operations.engine import Engine, Session
from processors.pipeline.plan_store import UnknownPlan
from processors.saga.invariants import Violation
from processors.saga.state import Saga

# How long a follower waits for records before it looks whether it is to end.
_STEP_S = 0.1
_STATUS_EVERY_S = 5.0
# What the topics hold, compared with what follows from the events. The other invariants are about what follows itself, about
# time, and about topics that `verify` doesn't read.
_DIVERGENCES = frozenset(
    {Invariant.FOLD, Invariant.NO_GAPS, Invariant.COMMAND, Invariant.SENT, Invariant.FORGOTTEN, Invariant.READABLE}
)


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared, and each divergence from what follows from the events."""

    events: int
    undecodable: int
    states: int
    commands: int
    repeats: int
    expired: int
    pending: int
    before_log: int
    divergences: list[str]

    @classmethod
    def of(cls, auditor: Auditor, divergences: Iterable[str]) -> Self:
        """Return what an auditor says that has read to the ends of the topics."""
        counts = auditor.counts()
        return cls(
            events=counts.events,
            undecodable=counts.unreadable,
            states=counts.states,
            commands=counts.commands,
            repeats=counts.repeats,
            expired=counts.expired,
            pending=counts.pending,
            before_log=counts.unjudged,
            divergences=list(divergences),
        )


@dataclass(frozen=True, slots=True)
class AuditStatus:
    """How far an audit is, and what it rests on."""

    events: int
    lag: int
    unjudged: int
    stuck: int
    taken_over: int
    states: dict[str, int]
    violations: dict[str, int]
    """By the invariant's label."""

    @classmethod
    def of(cls, follower: Follower) -> Self:
        """Return where a follower is."""
        auditor = follower.auditor
        return cls(
            events=auditor.events,
            lag=follower.lag,
            unjudged=auditor.unjudged,
            stuck=auditor.stuck,
            taken_over=follower.taken_over,
            states=auditor.conservation(),
            violations={label_of(rule): number for rule, number in auditor.violations.items()},
        )


async def verify(engine: Engine) -> Verification:
    """Fold the events, and compare every state and command with what follows from them, byte for byte."""
    return await engine.run(verify_in)


async def audit(
    engine: Engine, *, since_ms: int = 0, to_end: bool = False, seconds: float | None = None, ended: Event | None = None
) -> AsyncIterator[Violation | AuditStatus]:
    """Judge the topics while the engine runs: yield violations as they are found, and now and then how far it is.

    The first item is the status at the beginning and the last one that at the end. It ends once `ended` is set, after some
    seconds, or with `to_end` once all was judged that lay there when it began.
    """
    give_up = None if seconds is None else time.monotonic() + seconds

    def over() -> bool:
        return (ended is not None and ended.is_set()) or (give_up is not None and time.monotonic() > give_up)

    judging: AsyncIterator[Violation | AuditStatus] = engine.stream(
        lambda session: _audited(session, since_ms, to_end, over)
    )
    async for one in judging:
        yield one


def verify_in(session: Session) -> Verification:
    """Read the topics to their present ends, and return what the audit found."""
    settings = session.settings
    begin = Beginning(
        session.catalogue, 0, settings.retention_history, settings.retention_commands, decisions_only=True
    )
    found: list[str] = []
    follower = Follower(session.reader, begin, lambda violation: found.extend(_divergence(violation)))
    try:
        follower.to_end()
        return Verification.of(follower.auditor, found)
    finally:
        follower.close()


def verify_records(
    scope: Scope,
    plans: FindPlan,
    events: Iterable[Record],
    others: Iterable[Record],
    seeds: Iterable[tuple[int, Saga]] = (),
) -> Verification:
    """Return what the audit finds in records that lie elsewhere than on Kafka: all events, then all states and commands.

    `seeds` are the sagas in flight, with their partitions, from before the events.
    """
    found: list[str] = []
    auditor = Auditor(scope, plans, lambda violation: found.extend(_divergence(violation)))
    topics = {scope.events, scope.sagas, *scope.command_topics.values()}
    for partition, saga in seeds:
        auditor.seed(partition, saga)
    for record in events:
        try:
            auditor.event(record)
        except UnknownPlan:
            auditor.unreadable(record)
    for record in others:
        auditor.other(record)
    auditor.settle_at_rest(topics, int(time.time() * 1000))
    return Verification.of(auditor, found)


def _divergence(violation: Violation) -> Iterator[str]:
    if violation.rule in _DIVERGENCES:
        whose = f"job {violation.job_id}: " if violation.job_id else ""
        yield f"{violation.position}: {whose}{violation.detail} ({violation.rule})"


def _audited(
    session: Session, since_ms: int, to_end: bool, over: Callable[[], bool]
) -> Iterator[Violation | AuditStatus | None]:
    settings = session.settings
    begin = Beginning(session.catalogue, since_ms, settings.retention_history, settings.retention_commands)
    found: list[Violation] = []
    follower = Follower(session.reader, begin, found.append)
    try:
        yield AuditStatus.of(follower)
        told = time.monotonic()
        for _ in follower.steps_to_end() if to_end else _for_ever(follower.step):
            yield from found
            found.clear()
            yield None
            if over():
                break
            if time.monotonic() - told > _STATUS_EVERY_S:
                told = time.monotonic()
                yield AuditStatus.of(follower)
        yield from found
        yield AuditStatus.of(follower)
    finally:
        follower.close()


def _for_ever(step: Callable[[float], int]) -> Iterator[int]:
    while True:
        yield step(_STEP_S)
