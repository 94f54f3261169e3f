"""The simulated Kafka keeps the promises that the engine relies on, and breaks only what Kafka breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest

from processors.errors import DeliveryFailed, RecordGone, StepFailed
from processors.kafka.producer import Outgoing
from processors.simulation.engine.event_loop import SimulatedProcess, VirtualLoop
from processors.simulation.engine.faults import EngineFault
from processors.simulation.engine.kafka import Broker, SimulatedHost, SimulatedLog, Wire
from processors.simulation.engine.records import sample_record
from schemas.record import RecordSchema
from topics.catalogue import Catalogue


class Surroundings:
    """A broker, a process and its wire; the wire's sends meet what is put into `meets`."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.broker = Broker(self.loop, random.Random(1))
        self.meets: dict[int, EngineFault] = {}
        self.wire = Wire(self.broker, SimulatedProcess(self.loop, "p"), lambda number: self.meets.get(number))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run something to its end."""
        return self.loop.run_until_complete(coroutine)

    def values(self, topic: str, partition: int) -> list[bytes | None]:
        """Return what lies in a partition."""
        return [one.value for one in self.broker.logs[topic, partition]]


@pytest.fixture
def around() -> Iterator[Surroundings]:
    """Fresh surroundings."""
    made = Surroundings()
    yield made
    made.loop.finish()


def out(partition: int, value: bytes) -> Outgoing:
    """Return a record for the topic t."""
    return Outgoing("t", partition, b"k", value)


def test_records_of_a_partition_keep_the_order_of_the_calls(around: Surroundings) -> None:
    """Whatever each one's way takes; the offsets are those at which they lie."""

    async def both() -> list[list[int]]:
        first = asyncio.ensure_future(around.wire.send([out(0, b"1"), out(0, b"2")]))
        second = asyncio.ensure_future(around.wire.send([out(0, b"3")]))
        return list(await asyncio.gather(first, second))

    for _ in range(50):
        around.run(both())
    assert around.values("t", 0) == [b"1", b"2", b"3"] * 50


@pytest.mark.parametrize(
    ("fault", "written"),
    [(EngineFault.NOT_WRITTEN, []), (EngineFault.HALF_WRITTEN, [b"1"]), (EngineFault.UNACKNOWLEDGED, [b"1", b"2"])],
)
def test_what_is_not_acknowledged_may_be_written(
    around: Surroundings, fault: EngineFault, written: list[bytes]
) -> None:
    """Nothing, a part or all of it; and after that the producer is broken, as the real one is."""
    around.meets[1] = fault
    with pytest.raises(DeliveryFailed):
        around.run(around.wire.send([out(0, b"1"), out(0, b"2")]))
    assert around.values("t", 0) == written
    with pytest.raises(DeliveryFailed):
        around.run(around.wire.send([out(0, b"3")]))
    assert around.values("t", 0) == written


def test_who_is_cut_off_reaches_kafka_later_or_fails(around: Surroundings) -> None:
    """A short cut is only a delay; a long one is a delivery that fails, with nothing written."""
    around.wire.cut_until = 1.0
    around.run(around.wire.send([out(0, b"1")]))
    assert around.loop.time() > 1.0
    around.wire.cut_until = 100.0
    with pytest.raises(DeliveryFailed):
        around.run(around.wire.send([out(0, b"2")]))
    assert around.values("t", 0) == [b"1"]


def test_a_log_is_read_in_order_from_its_beginning(around: Surroundings) -> None:
    """Each reader has a place of its own, and can wait for an entry that is still on its way."""
    catalogue = Catalogue(steps=("s",))
    host = SimulatedHost(catalogue, around.broker, around.wire)

    async def course() -> tuple[Any, Any, Any]:
        log, other = host.log("spend"), host.log("spend")
        offset = await log.append(b"a", b"1")
        waiting = asyncio.ensure_future(other.catch_up(offset + 1))
        await log.append(b"b", None)
        return await log.catch_up(), await waiting, await log.catch_up()

    entries = [(0, b"a", b"1"), (1, b"b", None)]
    assert around.run(course()) == (entries, entries, [])
    assert isinstance(host.log("spend"), SimulatedLog)


def test_an_address_is_checked_when_it_is_redeemed(around: Surroundings) -> None:
    """By key, offset and digest, as with the real host; a tombstone is no value."""
    host = SimulatedHost(Catalogue(steps=("s",)), around.broker, around.wire)
    address = around.run(host.publish("pages", b"k", b"page"))
    assert around.run(host.read(address, b"k")) == b"page"
    gone = around.run(host.publish("pages", b"k", None))
    wrong = [
        (address, b"other"),
        (gone, b"k"),
        (replace(address, sha256="0"), b"k"),
        (replace(address, offset=9), b"k"),
    ]
    for at, key in wrong:
        with pytest.raises(RecordGone):
            around.run(host.read(at, key))


def test_a_record_over_its_topics_limit_fails_for_good(around: Surroundings) -> None:
    """As with the real host."""
    catalogue = Catalogue(steps=("s",))
    host = SimulatedHost(catalogue, around.broker, around.wire)
    with pytest.raises(StepFailed, match="its limit is"):
        around.run(host.publish("records", b"k", b"x" * (catalogue.topic("records").max_message_bytes + 1)))


def test_a_simulation_has_no_secrets_and_no_settings(around: Surroundings) -> None:
    """A step gets something to go on with, and its defaults."""
    host = SimulatedHost(Catalogue(steps=("s",)), around.broker, around.wire)
    assert host.secret("TOKEN") == "simulated-TOKEN"
    assert host.setting("URL", "http://default") == "http://default"
    host.count("rows")


def test_modelled_steps_hand_on_a_record_that_fits_its_schema() -> None:
    """So that a step that is really run behind them finds every field."""
    schema = RecordSchema.load("product")
    sample = sample_record(schema.text)
    assert schema.decode(schema.encode(schema.conform(sample)))
    assert set(sample) == {column.avro_path.split(".")[0] for column in schema.columns()}
    assert sample_record("") == {}
