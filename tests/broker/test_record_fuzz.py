"""Two thousand records that nobody asked for, on every input of a running engine: each is answered, and nothing stops."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from processors.demo import observations as outside
from processors.demo.demo import STEPS
from processors.messages.scrape_request import ScrapeRequest, encode_request
from processors.messages.wire import encode_event
from processors.saga.events import Cancelled
from processors.saga.invariants import LogPosition
from tests.broker.saga_rig import PREFIX, Rig

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]

SEED = 20261128
RECORDS = 2_000
INPUTS = ("urls", "events", *(f"{step}.commands" for step in STEPS))
NAMES = ("traceparent", "seq", "job_id", "dead-letter-partition", "dead-letter-topic", "é", "")


def damaged(chance: random.Random, whole: bytes) -> bytes:
    """Bytes that were right, cut, overwritten or repeated."""
    data = bytearray(whole)
    for _ in range(chance.randint(0, 4)):
        at = chance.randint(0, len(data))
        match chance.randrange(3):
            case 0:
                del data[at:]
            case 1:
                data[at : at + 4] = chance.randbytes(chance.randint(1, 4))
            case _:
                data[at:at] = data[at : at + 32] * chance.randint(1, 8)
    return bytes(data)


def values(chance: random.Random, number: int) -> bytes | None:
    """A value of some kind: none, noise, a damaged request or event, JSON that grows."""
    match chance.randrange(6):
        case 0:
            return None
        case 1:
            return chance.randbytes(chance.randint(0, 300))
        case 2:
            return damaged(
                chance, encode_request(ScrapeRequest("http://127.0.0.1:1/", "nobody's", f"f{number}", {}, "fuzz"))
            )
        case 3:
            return damaged(chance, encode_event(Cancelled(f"f{number}", "a test", "x" * 50), request_id="x"))
        case 4:
            grows = "1e9," * chance.randint(1, 60_000 if number % 50 == 0 else 50) + "0"
            return b'{"url": "http://127.0.0.1:1/", "pipeline": "%b", "payload": {"n": [%b]}}' % (
                b"no one's",
                grows.encode(),
            )
        case _:
            return b'{"url": "' + chance.randbytes(20).hex().encode() + b'"}'


def headers(chance: random.Random) -> list[tuple[str, str | bytes | None]]:
    """Up to three headers, null ones too."""
    count = chance.randrange(4)
    return [(chance.choice(NAMES), None if chance.random() < 0.3 else chance.randbytes(9)) for _ in range(count)]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """An engine of its own: what lies on its topics afterwards would be in the way of every other count."""
    with Rig(tmp_path_factory.mktemp("fuzzed")) as running:
        yield running


def test_two_thousand_records_stop_nothing(fuzzed: Rig) -> None:
    """Every record of an input that is no job of ours has a dead letter; jobs behind them complete; no process restarts."""
    rig = fuzzed
    pids = rig.engine.supervisor.pids()
    chance = random.Random(SEED)
    producer = Producer({**rig.engine.client, "acks": "all", "log_level": 0})
    places: set[LogPosition] = set()

    def delivered(error: object, message: object) -> None:
        assert error is None
        places.add(LogPosition(message.topic(), message.partition(), message.offset()))  # type: ignore[attr-defined]

    for number in range(RECORDS):
        topic = f"{PREFIX}.{INPUTS[number % len(INPUTS)]}"
        key = chance.choice((None, b"fuzz", chance.randbytes(6)))
        when = chance.choice((0, 1, 2**40))
        producer.produce(
            topic, values(chance, number), key, headers=headers(chance), timestamp=when, on_delivery=delivered
        )
        producer.poll(0)
    assert producer.flush(60) == 0
    rig.expect_letters(places)

    def unanswered() -> set[LogPosition]:
        return places - outside.dead_letters(rig.reader, f"{PREFIX}.dead-letters").keys()

    jobs = [f"after-fuzz-{number}" for number in range(8)]
    rig.submit({job: {} for job in jobs})
    assert {state["phase"] for state in rig.ended(jobs).values()} == {"COMPLETED"}
    rig.wait_for(lambda: not unanswered(), f"the dead letters, seed {SEED}")
    assert rig.engine.supervisor.pids() == pids
    assert Counter(one.topic for one in places).total() == RECORDS
    rig.check(jobs)
