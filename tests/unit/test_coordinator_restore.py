"""A coordinator that restores a table in which somebody else has written."""

from __future__ import annotations

from typing import cast

import pytest

from processors.errors import ConfigurationError
from processors.kafka.record import Batch, Part, Record
from processors.messages.wire import encode_event, encode_saga
from processors.pipeline.plan_store import Plans, UnknownPlan
from processors.roles.coordinator import Coordinator
from processors.saga.events import Submitted
from processors.saga.plan import Plan, encode_plan
from processors.saga.protocol import advance
from processors.saga.state import Origin
from processors.saga_table.changelog import plan_hash_of
from processors.testing import MemoryHost
from schemas.codec import MARKER
from tests.fuzz.test_one_record import Kafka, Offsets
from tests.sagas import START_MS, plan, running
from tests.unit.test_coordinator_gauges import MemoryTable, Nowhere
from topics.catalogue import Catalogue

# seq 1, due at 2 ms: long due; and a phase that there isn't.
FOREIGN = MARKER + b"\x01\x02\x03\x04\x05\x06\x07\x08" + b"\x02\x04\x7e\x02"


@pytest.mark.parametrize("key", [b"job", b"\xff\xfe no text"])
async def test_what_is_no_state_of_ours_stops_no_restore(key: bytes) -> None:
    """A record of a schema that nobody knows sets no timer and counts as no saga, and the states beside it do."""
    catalogue = Catalogue(steps=("s1", "s2"))
    coordinator = Coordinator(MemoryTable(), Nowhere(), Plans(MemoryHost().log("plans")), catalogue)
    submitted = Submitted("ours", plan("ab"), "http://x/", b"", "c", Origin(0, 0), "", "")
    saga = advance(None, 0, submitted, START_MS).saga
    assert saga is not None
    coordinator.restored(0, [(key, FOREIGN), (b"ours", encode_saga(saga))])
    assert [timer for timer, _ in coordinator._timers[0].due(2**60)] == [b"ours"]


async def restored_with(steps: tuple[str, ...]) -> Coordinator:
    """A coordinator whose catalogue has these steps, and whose table has one saga in flight of the steps a and b."""
    log = MemoryHost().log("plans")
    flown = plan("ab")
    await log.append(b"plan:" + flown.hash.encode(), encode_plan(flown))
    plans = Plans(log)
    await plans.refresh()
    coordinator = Coordinator(MemoryTable(), Nowhere(), plans, Catalogue(steps=steps))
    saga = advance(None, 0, Submitted("ours", flown, "http://x/", b"", "c", Origin(0, 0), "", ""), START_MS).saga
    assert saga is not None
    coordinator.restored(0, [(b"ours", encode_saga(saga))])
    return coordinator


async def test_a_step_that_sagas_in_flight_need_is_not_given_up() -> None:
    """A coordinator refuses a catalogue without it, and names the setting that helps; with the setting it goes on."""
    with pytest.raises(ConfigurationError, match="1 sagas in flight .* Set SCRAPESAGA_RETIRED_STEPS=b"):
        await restored_with(("a",))
    await restored_with(("a", "b"))


def test_the_plan_of_a_state_is_read_without_decoding_it() -> None:
    """The fifth field of a state is its plan's hash."""
    saga = running().state
    assert plan_hash_of(encode_saga(saga)) == saga.plan.hash
    assert plan_hash_of(MARKER) == ""


class Outage(Exception):
    """What a table or a broker that is away raises."""


class AwayTable(MemoryTable):
    """A table whose partition is not here any more."""

    def get(self, key: bytes, partition: int) -> bytes | None:
        """Refuse."""
        raise Outage


class AwayPlans:
    """Plans that can't be read, as Kafka is away."""

    def __call__(self, plan_hash: str) -> Plan:
        """Know none."""
        raise UnknownPlan(plan_hash)

    async def refresh(self) -> None:
        """Refuse."""
        raise Outage


@pytest.mark.parametrize("away", ["table", "plans"])
async def test_an_outage_is_no_fault_of_the_record(away: str) -> None:
    """While a table or Kafka is away, no event is set aside or acknowledged: it has to be delivered again."""
    flown, offsets, sent = plan("ab"), Offsets(), Kafka()
    log = MemoryHost().log("plans")
    await log.append(b"plan:" + flown.hash.encode(), encode_plan(flown))
    plans = Plans(log)
    await plans.refresh()
    table = AwayTable() if away == "table" else MemoryTable()
    known = plans if away == "table" else cast(Plans, AwayPlans())
    coordinator = Coordinator(table, sent, known, Catalogue(steps=("a", "b")))
    event = encode_event(Submitted("ours", flown, "http://x/", b"", "c", Origin(0, 0), "", ""))
    records = [Record("scrape.events", 0, 0, START_MS, b"ours", event, ())]
    with pytest.raises(Outage):
        await coordinator.handle(Batch(records, [Part(0, offsets, [0])]))
    assert (sent.sent, offsets.acknowledged) == ([], set())
