"""Records that nobody can read, on every topic: they are set aside or passed over, and their partitions go on."""

from __future__ import annotations

import pytest

from processors.demo import observations as outside
from processors.demo.demo import STEPS
from processors.demo.kills import kill
from processors.messages.wire import encode_event
from processors.process.roles import COORDINATOR, INTAKE
from processors.saga.events import Cancelled
from processors.saga.invariants import LogPosition
from schemas.codec import codec
from tests.broker.saga_rig import PREFIX, Rig

pytestmark = [pytest.mark.broker, pytest.mark.timeout(600)]

GARBAGE: tuple[tuple[bytes | None, bytes | None], ...] = (
    (None, b""),
    (b"poison", b"\x00\x00\x00\x00\x07Confluent's wire format, perhaps"),
    (b"poison", b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08 a schema of nobody's"),
    (b"\xff\xfe no text", b'{"half": '),
    # Read as a state it would be due at once, for a job whose name is no text.
    (b"\xff\xfe no text", b"\xc3\x01\x01\x02\x03\x04\x05\x06\x07\x08\x02\x04\x02\x02"),
    (b"poison", bytes(200_000)),
)
# Read by a processor as its input: each record there gets a dead letter that says where it lay and why.
INPUTS = {
    "urls": (
        *GARBAGE,
        (b"poison", None),
        (None, b'{"url": "ftp://nowhere"}'),
        (None, b'{"url": "http://127.0.0.1:1/", "pipeline": "none of ours"}'),
        (None, b'{"url": "http://127.0.0.1:1/", "pipeline": "patient", "job_id": "\\u0000"}'),
    ),
    "events": (
        *GARBAGE,
        (b"poison", None),
        (b"poison", codec("scrape_request").encode({"url": "u", "pipeline": None, "job_id": None, "payload": None, "label": None})),
        (b"another's key", encode_event(Cancelled("whose", "a test", ""), request_id="x")),
    ),
    **{f"{step}.commands": (*GARBAGE, (b"poison", None)) for step in STEPS},
}  # fmt: skip
# Logs that processes read back when they start: nobody but the engine writes them, and nothing there may stop a start.
LOGS = ("sagas", "plans", "pages", "records", *(f"{step}.results" for step in STEPS))


#: Where the poison of each input lies.
LAID: dict[str, set[LogPosition]] = {}


@pytest.fixture(scope="module")
def poisoned(rig: Rig) -> Rig:
    """The engine with poison on every topic, and a few jobs behind it."""
    for topic, records in INPUTS.items():
        LAID[topic] = set(rig.poison(topic, records))
    for topic in LOGS:
        # A compacted topic takes no record without a key.
        rig.poison(topic, [(key or b"no key", value) for key, value in GARBAGE])
    return rig


def test_partitions_go_on_behind_poison(poisoned: Rig) -> None:
    """Jobs whose records lie behind poison on every topic complete as if it weren't there."""
    jobs = [f"behind-{number}" for number in range(12)]
    poisoned.submit({job: {} for job in jobs})
    states = poisoned.ended(jobs)
    assert {state["phase"] for state in states.values()} == {"COMPLETED"}


@pytest.mark.parametrize("topic", INPUTS)
def test_poison_is_set_aside_with_where_it_lay_and_why(poisoned: Rig, topic: str) -> None:
    """Each unreadable record of an input is found in the dead-letter topic, by topic, partition and offset."""
    mine = LAID[topic]
    assert len(mine) == len(INPUTS[topic])

    def letters() -> dict[LogPosition, str]:
        found = outside.dead_letters(poisoned.reader, f"{PREFIX}.dead-letters")
        return {place: reason for place, reason in found.items() if place in mine}

    poisoned.wait_for(lambda: letters().keys() == mine, f"the dead letters of {topic}")
    assert all(letters().values())


def test_processes_start_again_over_poisoned_logs(poisoned: Rig) -> None:
    """Every processor is killed and restores what it keeps from logs with poison in them; jobs go on."""
    for role in (COORDINATOR, INTAKE, *STEPS):
        kill(poisoned.engine, role)
    jobs = [f"restored-{number}" for number in range(12)]
    poisoned.submit({job: {} for job in jobs})
    states = poisoned.ended(jobs)
    assert {state["phase"] for state in states.values()} == {"COMPLETED"}
    poisoned.wait_for(lambda: not poisoned.engine.not_ready(), "readiness of all")
    poisoned.check(jobs)


def test_an_unreadable_ledger_stops_spending_until_it_is_mended(poisoned: Rig) -> None:
    """Sums that can't be trusted pay for nothing: jobs park, visibly, and end once a tombstone has mended the ledger."""
    charged = poisoned.charged()
    poisoned.produce(f"{PREFIX}.spend", [(b"poison", b"no entry")])
    poisoned.submit({"unpaid": {}})
    poisoned.until(lambda states: states.get("unpaid", {}).get("phase") == "PARKED", "the parking")
    assert poisoned.charged() == charged
    assert "the sums may be wrong" in poisoned.status("unpaid")["reason"]
    poisoned.produce(f"{PREFIX}.spend", [(b"poison", None)])
    said = poisoned.cli("resume", "unpaid", "--reason", "the ledger is mended")
    assert said.returncode == 0, said.stderr
    assert poisoned.ended(["unpaid"])["unpaid"]["phase"] == "COMPENSATED"
    poisoned.submit({"paid": {}})
    assert poisoned.ended(["paid"])["paid"]["phase"] == "COMPLETED"
    poisoned.check(["unpaid", "paid"])


def test_the_command_line_reads_poisoned_topics(poisoned: Rig) -> None:
    """Looking at jobs and replaying works over the same topics."""
    for arguments, shown in (
        (("list", "--json"), "behind-0"),
        (("status", "behind-0", "--json"), "behind-0"),
        (("audit", "behind-0"), "COMPLETED"),
        (("replay", "--from", "0", "--topic", "sagas"), "COMPLETED"),
    ):
        said = poisoned.cli(*arguments)
        assert said.returncode == 0, (arguments, said.stderr)
        assert shown in said.stdout
