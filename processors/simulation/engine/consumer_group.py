"""Consumer groups: processes that share the partitions of a topic, lose them, get them back, and may not know it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol

from processors.errors import DeliveryFailed
from processors.kafka.record import Batch
from processors.saga_table.fencing import OwnershipLost
from processors.saga_table.store import PartitionNotHeld
from processors.simulation.engine.environment import SimulatedEnvironment
from processors.simulation.engine.event_loop import SimulatedProcess
from processors.simulation.engine.faults import EngineFault, Planned
from processors.simulation.engine.kafka import START_S, Stored, Wire
from processors.transport.offset_tracker import OffsetTracker
from processors.transport.record_queue import RecordQueue

#: Who isn't heard of for this long has lost its partitions.
SESSION_S = 6.0
#: Records in flight get this long when their partition is revoked.
SETTLE_S = 2.0
#: Later processes of a role are not exposed to what happens at turns: a history must end.
FEW_MEMBERS = 3
#: Errors that stop a process on purpose: it starts anew, and what it hasn't acknowledged comes again.
STOPS = (DeliveryFailed, PartitionNotHeld, OwnershipLost)


class SimulatedRole(Protocol):
    """What a process does: the production code, given its simulated surroundings."""

    async def open(self) -> None:
        """Get ready, before any partition is held."""

    async def hold(self, partitions: Sequence[int]) -> None:
        """Hold exactly these partitions from now on."""

    async def work(self, batches: AsyncIterator[Batch]) -> None:
        """Handle batches for ever."""

    def beside(self) -> list[Coroutine[Any, Any, None]]:
        """What else runs for ever."""


class Member(SimulatedProcess):
    """One process of a group, with its way to Kafka and its clock."""

    def __init__(self, group: Group, name: str) -> None:
        super().__init__(group.environment.loop, name)
        self.group = group
        self.environment = group.environment
        self.clock_error_s = 0.0
        self.wire = Wire(self.environment.broker, self, self._meets_at_send)
        #: May not be killed any more: it holds work of a partition that went to somebody else.
        self.superseded = False
        self.wanted: frozenset[int] = frozenset()
        self._granted: dict[int, int] = {}
        self.role = group.make_role(self)
        self._queue = RecordQueue()
        self._trackers: dict[int, OffsetTracker] = {}
        # By partition the term in which it was granted: a later one's owner may be this process again.
        self._terms: dict[int, int] = {}
        self._changed = asyncio.Event()
        self._applied = asyncio.Event()
        self._done = asyncio.Event()
        # Counts assignments: what was fetched for an earlier one is not handed out.
        self._assignment = 0
        self._batch_size = self.environment.chance.choice((1, 2, 500))

    def clock(self) -> float:
        """The process's own clock, as time.time() tells it."""
        return START_S + self.loop.elapsed + self.clock_error_s

    @property
    def in_flight(self) -> int:
        """Records that were handed out and not acknowledged."""
        return sum(tracker.in_flight for tracker in self._trackers.values())

    def start(self) -> None:
        """Begin."""
        self.spawn(self._live()).add_done_callback(self._ended)

    async def want(self, partitions: frozenset[int]) -> None:
        """Have the process hold these partitions; returns once it does, or is dead or silent for a session."""
        self.wanted = partitions
        self._granted = {partition: self.group.term[partition] for partition in partitions}
        self._applied.clear()
        self._changed.set()
        try:
            await asyncio.wait_for(self._applied.wait(), SESSION_S)
        except TimeoutError:
            return

    # --- inside of the process ----------------------------------------------------------------------------------

    async def _live(self) -> None:
        await self.role.open()
        batches = self._queue.batches(self._batch_size)
        await asyncio.gather(self.role.work(batches), self._control(), self._commit_often(), *self.role.beside())

    def _ended(self, main: asyncio.Task[None]) -> None:
        if not self.alive or main.cancelled():
            return
        error = main.exception()
        if not isinstance(error, STOPS):
            self.environment.violate("a process does not die of a bug", self.name, repr(error))
        self.environment.say(f"{self.name} stops: {error}")
        self.kill()
        self.group.lost(self)

    async def _control(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted, granted = self.wanted, self._granted
            self._assignment += 1
            self._queue.drop()
            await self._settle()
            self._commit()
            if self.in_flight:
                self.superseded = True
            for tracker in self._trackers.values():
                tracker.close()
            self._trackers.clear()
            starts = await self.take_over(sorted(wanted))
            self._terms = granted
            for partition, start in starts.items():
                end = self.environment.broker.end(self.group.topic, partition)
                tracker = self._trackers[partition] = OffsetTracker(self._done.set, end)
                self.spawn(self._fetch(partition, tracker, start, self._assignment))
            if wanted == self.wanted:
                self._applied.set()

    async def take_over(self, partitions: Sequence[int]) -> dict[int, int]:
        """Restore what is to be held; return where to read on, as it was committed before the restore.

        As the real consumer does it: a process that was halted in between may have lost its partitions, and a position
        that the next owner committed doesn't fit the table of before.
        """
        starts = await self.positions(partitions)
        await self.role.hold(partitions)
        return starts

    async def positions(self, partitions: Sequence[int]) -> dict[int, int]:
        """Ask Kafka for the committed offsets."""
        await self._reach_kafka()
        return {partition: self.group.committed[partition] for partition in partitions}

    async def _settle(self) -> None:
        until = self.loop.elapsed + SETTLE_S
        while self.in_flight and self.loop.elapsed < until:
            await asyncio.sleep(0.05)

    async def _fetch(self, partition: int, tracker: OffsetTracker, at: int, assignment: int) -> None:
        broker, topic = self.environment.broker, self.group.topic
        while assignment == self._assignment:
            await self._reach_kafka()
            if assignment != self._assignment:
                return
            fresh = broker.logs[topic, partition][at : at + 20]
            if not fresh:
                await broker.news(topic, partition)
                continue
            self.group.handed_out(fresh)
            self._queue.put(tracker, fresh)
            at = fresh[-1].offset + 1

    async def _reach_kafka(self) -> None:
        await asyncio.sleep(self.environment.broker.latency() + max(0.0, self.wire.cut_until - self.loop.elapsed))

    async def _commit_often(self) -> None:
        while True:
            await self._done.wait()
            self._done.clear()
            # What is done and not committed yet is what a crash has delivered again.
            await asyncio.sleep(self.environment.chance.random() * 0.8)
            await self._reach_kafka()
            self._commit()

    def _commit(self) -> None:
        for partition, tracker in self._trackers.items():
            offset = tracker.committable
            if offset is not None and self.group.commit(self, partition, self._terms[partition], offset):
                tracker.committed = offset

    def _meets_at_send(self, number: int) -> EngineFault | None:
        return None if self.superseded or self.halted else self.environment.meets_at_send(self.group.name, number)


class Group:
    """The processes of one role, and which of them owns which partition."""

    def __init__(
        self, environment: SimulatedEnvironment, name: str, topic: str, make_role: Callable[[Member], SimulatedRole]
    ) -> None:
        self.environment = environment
        self.name = name
        self.topic = topic
        self.make_role = make_role
        self.committed = dict.fromkeys(range(environment.partitions), 0)
        self.owner: dict[int, Member | None] = dict.fromkeys(range(environment.partitions))
        self.term = dict.fromkeys(range(environment.partitions), 0)
        self.members: list[Member] = []
        self._made = 0
        self._one_at_a_time = asyncio.Lock()
        # Per partition the highest offset handed out; over all, the latest record.
        self._handed: dict[int, int] = dict.fromkeys(range(environment.partitions), -1)
        self._latest = -1

    def start(self) -> None:
        """Start with one process that owns everything."""
        member = self._new_member()
        for partition in self.owner:
            self.owner[partition] = member
        self.environment.do(member.want(frozenset(self.owner)))

    @property
    def busy(self) -> bool:
        """Whether there is anything that was not acknowledged, or a process that stands still."""
        ends = any(self.committed[p] < self.environment.broker.end(self.topic, p) for p in self.committed)
        return ends or any(member.alive and (member.halted or member.in_flight) for member in self.members)

    def commit(self, member: Member, partition: int, term: int, offset: int) -> bool:
        """Note an offset, if it comes from the owner, of what it was handed in its present term."""
        if self.owner[partition] is not member or self.term[partition] != term:
            return False
        self.committed[partition] = offset
        return True

    def handed_out(self, records: Sequence[Stored]) -> None:
        """Notice what comes again, and what comes out of order over all partitions."""
        for record in records:
            if record.offset <= self._handed[record.partition]:
                self.environment.hit(EngineFault.REDELIVERED)
            elif record.order < self._latest:
                self.environment.hit(EngineFault.REORDERED)
            self._handed[record.partition] = max(self._handed[record.partition], record.offset)
            self._latest = max(self._latest, record.order)

    # --- processes come and go ------------------------------------------------------------------------------------

    def lost(self, member: Member) -> None:
        """A process is dead: after a while somebody else gets its partitions."""
        self.environment.later(0.3 + self.environment.chance.random() * SESSION_S, self._hand_over, member)

    def unheard(self, member: Member) -> None:
        """A process can't be heard: after a session somebody else gets its partitions, and it may not know."""
        self.environment.later(SESSION_S, self._expire, member)

    def move(self, how: float) -> bool:
        """Move a partition to another process, in order; False if there is nobody to take it from."""
        partition = int(how * len(self.owner))
        owner = self.owner[partition]
        if owner is None or not owner.alive or owner.halted:
            return False
        others = [one for one in self.members if one.alive and not one.halted and one is not owner]
        self.environment.do(self._give([partition], others[0] if others else self._new_member()))
        return True

    def _expire(self, member: Member) -> None:
        cut = member.wire.cut_until > self.environment.loop.elapsed
        if member.alive and (member.halted or cut):
            member.superseded = True
            self._hand_over(member)

    def _hand_over(self, member: Member) -> None:
        owned = [partition for partition, owner in self.owner.items() if owner is member]
        if owned:
            others = [one for one in self.members if one.alive and not one.halted and one is not member]
            self.environment.do(self._give(owned, others[0] if others else self._new_member()))

    def woken(self, member: Member) -> None:
        """A process that was out of reach notices in the end what it has lost."""
        self.environment.later(self.environment.chance.random() * 1.5, self._learn, member)

    def _learn(self, member: Member) -> None:
        own = frozenset(partition for partition, owner in self.owner.items() if owner is member)
        if member.alive and own != member.wanted:
            self.environment.do(member.want(own))

    async def _give(self, partitions: Sequence[int], new: Member) -> None:
        async with self._one_at_a_time:
            old = {owner for partition in partitions if (owner := self.owner[partition]) is not None}
            for owner in sorted(old - {new}, key=lambda one: one.name):
                if owner.alive and not owner.halted:
                    await owner.want(owner.wanted - frozenset(partitions))
            for partition in partitions:
                self.owner[partition] = new
                self.term[partition] += 1
            self.environment.say(f"{self.group_name(partitions)} to {new.name}")
            await new.want(frozenset(p for p, owner in self.owner.items() if owner is new))
        if not new.alive:
            self._hand_over(new)

    def group_name(self, partitions: Sequence[int]) -> str:
        """Return what is handed over, for a story."""
        return f"{self.topic}[{', '.join(map(str, partitions))}] goes"

    def _new_member(self) -> Member:
        self._made += 1
        member = Member(self, f"{self.name}-{self._made}")
        self.members.append(member)
        if self._made <= FEW_MEMBERS:
            expose(member)
        member.start()
        return member


def expose(member: Member) -> None:
    """Let the faults that are planned for a role happen at the turns of one of its processes."""
    for planned in member.environment.at_turns(member.group.name):
        turn = int(planned.at)
        while turn in member.at_turn:
            turn += 1
        member.at_turn[turn] = lambda planned=planned: _strike(member, planned)  # type: ignore[misc]
    for planned in member.environment.of(frozenset({EngineFault.CLOCK_SKEWED}), member.group.name):
        if member.environment.strikes(planned):
            member.clock_error_s += _error_s(planned)


def _error_s(planned: Planned) -> float:
    return (planned.how - 0.5) * 20


def _strike(member: Member, planned: Planned) -> None:
    environment, group = member.environment, member.group
    # A worker that was replaced and dies without a word after its effect is a known limit: see docs/guarantees.md.
    if member.superseded or not environment.strikes(planned):
        return
    match planned.kind:
        case EngineFault.COORDINATOR_KILLED | EngineFault.WORKER_KILLED:
            member.kill()
            group.lost(member)
        case EngineFault.COORDINATOR_ZOMBIE | EngineFault.WORKER_ZOMBIE:
            member.halt()
            group.unheard(member)
            environment.later(SESSION_S + 0.2 + planned.how * 6, _wake, member)
        case EngineFault.PAUSED:
            member.halt()
            environment.later(SESSION_S * 0.8 * planned.how, _wake, member)
        case EngineFault.CUT_OFF:
            lasts = 0.2 + planned.how * 8
            member.wire.cut_until = environment.loop.elapsed + lasts
            if lasts > SESSION_S:
                group.unheard(member)
            environment.later(lasts, group.woken, member)
        case _:
            member.clock_error_s += _error_s(planned)


def _wake(member: Member) -> None:
    member.environment.say(f"{member.name} goes on")
    member.wake()
    member.group.woken(member)
