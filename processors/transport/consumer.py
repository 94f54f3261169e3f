"""Faust's consumer in the event loop of the app. It passes runs of records to agents.

Faust's own runs aiokafka in a thread and makes two tasks, an event and a queue entry of each message: thirty times the
cost of the fetch. Here a fetch goes to the agent's inbox as it came, and what an agent acknowledges is an offset.
Faust's group membership, assignor, rebalance callbacks and table recovery are used as they are.

What is promised: records of a revoked partition that wait are dropped, those in flight get `settle` to finish, then
what is done is committed and the rest is delivered again. An acknowledgement that comes after that is ignored.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any, cast

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as faust_driver
from faust.types import TP
from mode import Service
from mode.types import ServiceT

from processors.kafka.closing import close_consumer
from processors.transport.driver import LoopConsumer
from processors.transport.offset_tracker import OffsetTracker, moved
from processors.transport.record_queue import RecordQueue
from processors.transport.recovery import BulkTables

# Limits the time of one turn of the loop to about 5 ms.
_RECORDS_A_TURN = 2_000
# A fetch costs ~0.4 ms here and at the broker, as much as a hundred records. One that brought this many says that there is
# load; then the next is taken so much later and brings more. Below that nothing waits.
_MANY_RECORDS = 32
_PAUSE_UNDER_LOAD_S = 0.01
_COMMIT_WITHIN_S = 5.0
_LEAVE_WITHIN_S = 10.0
_IDLE_TURN_S = 1.0
# How often the broker is asked for a topic that it doesn't know. A broker that has just started may know none for a moment:
# whoever joins the group then is given nothing, and aiokafka asks again after five minutes.
_ASK_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How many records may be in flight, and for how long they may delay a rebalance or a stop."""

    max_undone: int = 10_000
    """The number of fetched, unacknowledged records of a topic at which its fetching pauses."""
    settle: timedelta = timedelta(seconds=5)
    """Time for records in flight to finish when their partition is revoked or the app stops."""


class FastConsumer(LoopConsumer):
    """One inbox a topic, one Progress a partition and assignment."""

    mundane_level = "debug"

    def __post_init__(self) -> None:
        self._limits = cast(FastTransport, self.transport).limits
        self._record_queues: dict[str, RecordQueue] = {}
        self._trackers: dict[TP, OffsetTracker] = {}
        self._committing = asyncio.Lock()
        # Where each partition ended when it was assigned.
        self._ends: dict[TP, int] = {}
        # Where fetching each partition began.
        self._begun: dict[TP, int] = {}
        # What was committed of each partition when it was assigned; None: nothing was.
        self._starts: dict[TP, int | None] = {}
        # Between an assignment and perform_seek(): Faust may resume partitions before it has set their positions.
        self._positioned = False
        # Some topic is not fetched because its inbox is full.
        self._held_back = False
        self._wake: asyncio.Future[None] | None = None
        self._settled: asyncio.Future[None] | None = None
        self.turned_at = monotonic()
        self.commit_failing_since: float | None = None

    # What agents and health checks use.

    def record_queue(self, topic: str) -> RecordQueue:
        """The inbox of a topic; made by whoever asks first, agent or fetch."""
        if topic not in self._record_queues:
            self._record_queues[topic] = RecordQueue()
        return self._record_queues[topic]

    @property
    def in_flight(self) -> int:
        """Records that agents have not acknowledged yet."""
        return sum(tracker.in_flight for tracker in self._trackers.values())

    @property
    def oldest_in_flight_s(self) -> float:
        """How long the oldest record in flight has been with its agent."""
        handed = [tracker.oldest_handed_at for tracker in self._trackers.values()]
        return max((monotonic() - at for at in handed if at is not None), default=0.0)

    def missing_topics(self) -> list[str]:
        """Subscribed topics that don't exist."""
        cluster = self.kafka._client.cluster
        return sorted(topic for topic in self.kafka.subscription() if not cluster.partitions_for_topic(topic))

    # Life.

    async def on_stop(self) -> None:
        """Commit finished records and leave the group; agents have ended by now."""
        await self.commit()
        for record_queue in self._record_queues.values():
            record_queue.close()
        if self._kafka is not None:
            try:
                await asyncio.wait_for(close_consumer(self._kafka), _LEAVE_WITHIN_S)
            except TimeoutError:
                self.log.warning(
                    "Kafka did not answer while leaving the group: the others wait for the session timeout."
                )

    @Service.task
    async def _ask_for_missing_topics(self) -> None:
        """Ask for metadata while a topic is missing: when the topic appears, aiokafka joins again, and gets its partitions."""
        while not self.should_stop:
            await self.sleep(_ASK_AGAIN_S)
            if self._kafka is not None and self.missing_topics():
                await self._kafka._client.force_metadata_update()

    # Fetching.

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        """Fetch until stopped; called by Faust's Fetcher."""
        kafka = self.kafka
        source = kafka._fetcher
        try:
            # Held open for good: with all inboxes full nothing is polled, and aiokafka would leave the group for it.
            # oldest_in_flight_s shows a stuck agent instead.
            with kafka._subscription.fetch_context():
                while not (self.should_stop or fetcher.should_stop):
                    self.turned_at = monotonic()
                    # Errors of the group's background tasks are only raised here, and they pause until somebody asks.
                    kafka._coordinator.check_errors()
                    # All that was fetched lies in the queues by now.
                    self._note_positions()
                    partitions = self._fetchable()
                    fetched = partitions and await source.fetched_records(partitions, 0, _RECORDS_A_TURN)
                    if fetched:
                        await self._deliver(fetched)
                        # What came meanwhile waits in aiokafka, which asks for nothing more of those partitions.
                        many = sum(map(len, fetched.values())) >= _MANY_RECORDS
                        await asyncio.sleep(_PAUSE_UNDER_LOAD_S if many else 0)
                    else:
                        await self._wait_for_news(source)
        except (ConsumerStoppedError, asyncio.CancelledError):
            # Faust's Fetcher would treat a stop in the middle of a rebalance as a crash.
            if not (self.app.should_stop or fetcher.should_stop):
                raise

    def _note_positions(self) -> None:
        """Tell the trackers how far was fetched: there may be a transaction marker after the last record."""
        if not self._positioned or self.kafka._subscription.reassignment_in_progress:
            return
        for tp in self._get_active_partitions():
            position = None if self._is_changelog_tp(tp) else self.position_now(tp)
            if position is None:
                continue
            tracker = self._trackers.get(tp)
            begun = self._begun.setdefault(tp, position)
            if tracker is None and position > begun:
                # Fetching advanced, but no record has come since.
                tracker = self._trackers[tp] = OffsetTracker(self._note_done, self._ends.get(tp, sys.maxsize))
                tracker.committed = begun
            if tracker is not None:
                tracker.fetched_to(position)

    def _fetchable(self) -> set[TP]:
        if not self.flow_active or self.kafka._subscription.reassignment_in_progress:
            return set()
        active = self._get_active_partitions()
        full = {
            topic
            for topic, record_queue in self._record_queues.items()
            if self._undone(topic, record_queue) >= self._limits.max_undone
        }
        self._held_back = bool(full)
        if not self._positioned:
            return {tp for tp in active if self._is_changelog_tp(tp)}
        return {tp for tp in active if tp.topic not in full} if full else active

    def _undone(self, topic: str, record_queue: RecordQueue) -> int:
        return record_queue.queued + sum(p.in_flight for tp, p in self._trackers.items() if tp.topic == topic)

    async def _deliver(self, fetched: Mapping[TopicPartition, list[Any]]) -> None:
        changelogs = self.app.tables.changelog_topics
        for found, records in fetched.items():
            tp = TP(found.topic, found.partition)
            if tp.topic in changelogs:
                await self._deliver_changelog(tp, records)
                continue
            tracker = self._trackers.get(tp)
            if tracker is None:
                tracker = self._trackers[tp] = OffsetTracker(self._note_done, self._ends.get(tp, sys.maxsize))
            self.record_queue(tp.topic).put(tracker, records)

    async def _deliver_changelog(self, tp: TP, records: list[Any]) -> None:
        """Pass records of a Faust table to Faust, one by one as it expects them."""
        for record in records:
            if not self.flow_active:
                return
            await self.wait_first(self.callback(self._to_message(tp, record)), self.suspend_flow.wait())
            self._read_offset[tp] = record.offset

    async def _wait_for_news(self, source: Any) -> None:
        """Wait for a fetch, or for a change of the partitions that may be fetched."""
        self._wake = asyncio.get_running_loop().create_future()
        arrival = source._create_fetch_waiter()
        try:
            await asyncio.wait(
                (arrival, self._wake),
                timeout=_IDLE_TURN_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            self._wake = None
            if not arrival.cancel():
                # An error of the group's, which check_errors() raises too.
                arrival.exception()

    def _turn_soon(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _note_done(self) -> None:
        if self._held_back:
            self._turn_soon()
        if self._settled is not None and not self._settled.done() and not self.in_flight:
            self._settled.set_result(None)

    # Rebalancing.

    @Service.transitions_to("PARTITIONS_REVOKED")
    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let records in flight finish within the limit, commit, forget the partitions; then call Faust."""
        self.stop_flow()
        self._drop_queued()
        await self._settle()
        await self.commit()
        self._forget()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start from the offsets that are committed now; Faust recovers the tables first."""
        self._leave_to_bulk_reads(assigned)
        self._positioned = False
        self._forget()
        self._starts = await self._committed_by_now(assigned)
        await super().on_partitions_assigned(assigned, generation_id)

    def _leave_to_bulk_reads(self, assigned: set[TP]) -> None:
        """Stop aiokafka from fetching them: it would keep a fetch of 2 MB for each, which nothing uses."""
        tables = self.app.tables
        if isinstance(tables, BulkTables):
            self.kafka.pause(*(TopicPartition(*tp) for tp in assigned if tp.topic in tables.bulk_topics))

    async def perform_seek(self) -> None:
        """Set the positions to the committed offsets, as Faust asks after recovery."""
        self._drop_queued()
        self._forget()
        await super().perform_seek()
        self._ends = await self._inherited_ends()
        self._positioned = True

    async def _committed_by_now(self, assigned: set[TP]) -> dict[TP, int | None]:
        streams = [tp for tp in assigned if not self._is_changelog_tp(tp)]
        try:
            committed = await self.committed_offsets(streams) if streams else {}
        except KafkaError as error:
            # Then positions are those committed after the recovery, which is right unless this process was suspended.
            self.log.warning("The committed offsets could not be read before the recovery: %r", error)
            return {}
        return {tp: committed.get(tp) for tp in streams}

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to the offsets that were committed before the tables were recovered.

        A process that stood still since may have lost its partitions without knowing: from what their next owner has
        committed it would apply events to the states of before.
        """
        starts, self._starts = self._starts, {}
        offsets = dict(await super().seek_to_committed())
        moved_on = moved(starts, offsets)
        beginnings = await self.earliest_offsets(*(tp for tp, at in moved_on.items() if at is None))
        for tp, at in moved_on.items():
            if tp in self.assignment():
                offsets[tp] = beginnings[tp] if at is None else at
                await self._seek(tp, offsets[tp])
        return offsets

    async def _inherited_ends(self) -> dict[TP, int]:
        """The ends of the partitions now, before the first fetch."""
        tps = [tp for tp in self.assignment() if not self._is_changelog_tp(tp)]
        if not tps:
            return {}
        try:
            return dict(await self.highwaters(*tps))
        except KafkaError as error:
            # Without them every record counts as started by an earlier owner: more is compensated than necessary, never less.
            self.log.warning("The ends of the assigned partitions could not be read: %r", error)
            return {}

    def _drop_queued(self) -> None:
        for record_queue in self._record_queues.values():
            record_queue.drop()

    def _forget(self) -> None:
        for tracker in self._trackers.values():
            tracker.close()
        self._trackers.clear()
        self._begun.clear()

    async def _settle(self) -> None:
        """Wait until agents have acknowledged their records, within the limit."""
        if not self.in_flight or self.app.crashed:
            return
        self._settled = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait_for(self._settled, self._limits.settle.total_seconds())
        except TimeoutError:
            self.log.warning(
                "%s records still in work after %s are delivered again.", self.in_flight, self._limits.settle
            )
        finally:
            self._settled = None

    async def wait_empty(self) -> None:
        """Let agents finish their records within the limit, and commit; when stopping, they get no more."""
        self._drop_queued()
        await self._settle()
        # Repeated in on_stop(), unless the stop is interrupted.
        await self.commit()
        if self.app.should_stop:
            for record_queue in self._record_queues.values():
                record_queue.close()

    def resume_flow(self) -> None:
        """Allow fetching."""
        super().resume_flow()
        self._turn_soon()

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Allow fetching from these partitions."""
        super().resume_partitions(tps)
        self._turn_soon()

    # Committing.

    async def commit(self, topics: object = None, start_new_transaction: bool = True) -> bool:
        """Commit finished records of all partitions. A failed commit is retried, or its records are delivered again."""
        async with self._committing:
            pending = {tp: (p, p.committable) for tp, p in self._trackers.items()}
            offsets = {tp: (p, offset) for tp, (p, offset) in pending.items() if offset is not None}
            if not offsets or self._kafka is None:
                return False
            if not await self._commit({tp: offset for tp, (_, offset) in offsets.items()}):
                return False
            for tracker, offset in offsets.values():
                tracker.committed = offset
            return True

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        wanted = {TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(at, "") for tp, at in offsets.items()}
        try:
            await asyncio.wait_for(self.kafka.commit(wanted), _COMMIT_WITHIN_S)
        except (CommitFailedError, IllegalStateError) as error:
            # The group continued without this process: the next owner starts from the last commit.
            self.log.info("Offsets of an earlier assignment were not committed: %s", error)
        except (KafkaError, TimeoutError) as error:
            self.commit_failing_since = self.commit_failing_since or monotonic()
            self.log.warning("Offsets could not be committed, to be tried again: %r", error)
        else:
            self.commit_failing_since = None
            self.app.tables.on_commit(dict(offsets))
            return True
        return False

    async def verify_all_partitions_active(self) -> None:
        """Do nothing: Faust would check all partitions each second for log lines; readiness is in health.py."""


class FastTransport(faust_driver.Transport):
    """Faust's aiokafka transport with a consumer in the app's loop."""

    Consumer = FastConsumer

    def __init__(self, *args: Any, limits: Limits, **options: Any) -> None:
        self.limits = limits
        super().__init__(*args, **options)
