"""Faust's consumer interface over one aiokafka consumer in the app's own event loop.

What Faust's base class, rebalance callbacks and table recovery ask of a driver; no thread, no policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import ConsumerStoppedError
from faust.exceptions import ConsumerNotStarted
from faust.transport.consumer import Consumer, ensure_TPset
from faust.transport.drivers import aiokafka as faust_driver
from faust.types import TP, ConsumerMessage

from processors.kafka.partitioner import partition_for

# A fetch that waits at the broker for one partition holds up the others of that broker (aiokafka has one in flight at a
# time), so after back-pressure a partition may wait this long. Shorter costs idle fetches, ~0.4 ms of CPU each.
_FETCH_WAIT_MS = 200


class _RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    def __init__(self, consumer: LoopConsumer) -> None:
        self._consumer = consumer

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> Awaitable[None]:
        # Not in the coroutine: Faust must know this before any other code runs.
        self._consumer.app.on_rebalance_start()
        return cast(Awaitable[None], self._consumer.on_partitions_revoked(ensure_TPset(revoked)))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        generation = self._consumer.kafka._coordinator.generation
        self._consumer.app.consumer_generation_id = generation
        await self._consumer.on_partitions_assigned(ensure_TPset(assigned), generation)


class LoopConsumer(Consumer):
    """A Faust consumer without a thread of its own."""

    consumer_stopped_errors = (ConsumerStoppedError,)

    _kafka: AIOKafkaConsumer | None = None

    @property
    def kafka(self) -> AIOKafkaConsumer:
        """The aiokafka consumer; ConsumerNotStarted before it is there."""
        if self._kafka is None:
            raise ConsumerNotStarted("The consumer is not started.")
        return self._kafka

    async def on_start(self) -> None:
        """Connect."""
        self._kafka = kafka = self._new_kafka()
        try:
            await kafka.start()
        except BaseException:
            await kafka.stop()
            raise

    def _new_kafka(self) -> AIOKafkaConsumer:
        conf = self.app.conf
        transport = cast(faust_driver.Transport, self.transport)
        # Faust's own assignor keeps the changelog of a table with its partitions.
        has_tables = conf.table_standby_replicas > 0 or bool(self.app.tables.changelog_topics)
        return AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=faust_driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self.app.assignor if has_tables else RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            # Records of aborted transactions must not be read: otherwise a withdrawn request would be scraped.
            isolation_level="read_committed",
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **faust_driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    # The interface that Faust's base class and table recovery need.

    def close(self) -> None:
        """Do nothing: Faust calls this if a rebalance happens during a stop, and on_stop() still has to commit offsets."""

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe; a rebalance follows."""
        self.kafka.subscribe(topics=set(topics), listener=_RebalanceListener(self))

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every partition that has a committed offset to it, in one request."""
        offsets = await self.committed_offsets(self.assignment())
        for tp, offset in offsets.items():
            if tp in self.assignment():
                await self._seek(tp, offset)
        return offsets

    async def committed_offsets(self, partitions: Iterable[TP]) -> dict[TP, int]:
        """The committed offsets of these partitions, without those that have none."""
        tps = [TopicPartition(tp.topic, tp.partition) for tp in partitions]
        committed = await self.kafka._coordinator.fetch_committed_offsets(tps)
        return {TP(tp.topic, tp.partition): entry.offset for tp, entry in committed.items() if entry.offset >= 0}

    async def _seek(self, partition: TP, offset: int) -> None:
        self.kafka.seek(TopicPartition(partition.topic, partition.partition), offset)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Seek, and wait until the positions are set."""
        for tp, offset in partitions.items():
            await self.seek(tp, offset)
        async with asyncio.timeout(self.app.conf.broker_request_timeout):
            for tp in partitions:
                await self.position(tp)

    async def position(self, tp: TP) -> int | None:
        """The offset that will be fetched next."""
        return cast(int, await self.kafka.position(TopicPartition(tp.topic, tp.partition)))

    def position_now(self, tp: TP) -> int | None:
        """The known end of the fetched records; None before it is known."""
        state = self.kafka._subscription.subscription.assignment.state_value(TopicPartition(tp.topic, tp.partition))
        return state.position if state is not None and state.has_valid_position else None

    def assignment(self) -> set[TP]:
        """The partitions that this process owns."""
        return ensure_TPset(self.kafka.assignment())

    def highwater(self, tp: TP) -> int:
        """The offset after the last record, as of the last fetch."""
        return cast(int, self.kafka.highwater(TopicPartition(tp.topic, tp.partition)))

    def stable_end(self, tp: TP) -> int:
        """The offset up to which the partition could be read at the last fetch; -1 before it."""
        return cast("int | None", self.kafka.last_stable_offset(TopicPartition(tp.topic, tp.partition))) or -1

    def topic_partitions(self, topic: str) -> int | None:
        """How many partitions the topic has."""
        with suppress(ConsumerNotStarted):
            return cast("int | None", self.kafka._coordinator._metadata_snapshot.get(topic))
        return None

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """The first offset that each partition still has."""
        return cast(
            Mapping[TP, int],
            await self.kafka.beginning_offsets([TopicPartition(*tp) for tp in partitions]),
        )

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """The offset up to which each partition can be read; an open transaction limits it."""
        return cast(
            Mapping[TP, int],
            await self.kafka.end_offsets([TopicPartition(*tp) for tp in partitions]),
        )

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """The partition that Kafka's default partitioner gives the key; None if the topic or the key is."""
        count = self.topic_partitions(topic)
        if partition is not None or key is None or count is None:
            return partition
        return partition_for(key, count)

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    async def create_topic(self, topic: str, partitions: int, replication: int, **options: Any) -> None:
        """Refuse: topics are provisioned before processes start."""
        self.log.warning("Topic %s is not created here: provision the topics first.", topic)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        raise NotImplementedError("Records go to inboxes: iterate batches(stream).")

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        return ConsumerMessage(
            record.topic,
            record.partition,
            record.offset,
            record.timestamp / 1000,
            record.timestamp_type,
            record.headers,
            record.key,
            record.value,
            record.checksum,
            record.serialized_key_size,
            record.serialized_value_size,
            tp,
            generation_id=self.app.consumer_generation_id,
        )
