"""Copier processes that are killed, crash, stop and share partitions: nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from processors.local.kafka import EmbeddedKafka
from tests.broker.transport_world import Copy, World, wait_for

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]


@pytest.fixture
def world(kafka_servers: str) -> Iterator[World]:
    with World(kafka_servers) as made:
        yield made


def numbered(count: int, partitions: int, first: int = 0) -> list[tuple[int, bytes]]:
    return [(i % partitions, str(i).encode()) for i in range(first, first + count)]


def in_order(copies: list[Copy]) -> bool:
    """Whether first copies of each partition rise."""
    by_partition: dict[int, list[int]] = {}
    seen: set[int] = set()
    for copy in copies:
        number = int(copy.value)
        if number not in seen:
            seen.add(number)
            by_partition.setdefault(copy.partition, []).append(number)
    return all(numbers == sorted(numbers) for numbers in by_partition.values())


def values(copies: list[Copy]) -> set[int]:
    return {int(copy.value) for copy in copies}


def test_records_are_copied_in_order_and_committed(world: World) -> None:
    """Each partition is handled in order, once, and its end is committed by the stop at the latest."""
    world.create(4)
    world.produce(numbered(2_000, 4))
    copier = world.copier()
    copier.until("ready")
    wait_for(lambda: world.committed(4) == [500] * 4, seconds=40, what="the commit of all records")
    assert copier.stop() == 0, "".join(copier.errors)
    copies = world.copies(4)
    assert len(copies) == 2_000
    assert values(copies) == set(range(2_000))
    assert in_order(copies)


def test_a_stop_commits_what_is_done(world: World) -> None:
    """With commits by time switched off, SIGTERM commits: a second process gets nothing again."""
    world.create(2)
    world.produce(numbered(500, 2))
    copier = world.copier("--commit-ms=3600000")
    copier.until("ready")
    wait_for(lambda: len(world.copies(2)) == 500, seconds=40, what="the copies")
    assert world.committed(2) == [-1001, -1001]
    assert copier.stop() == 0, "".join(copier.errors)
    assert world.committed(2) == [250, 250]


def test_a_kill_in_mid_batch_loses_nothing(world: World) -> None:
    """A process killed with a batch in work leaves it uncommitted; the next process copies all of it."""
    world.create(2)
    world.produce(numbered(400, 2))
    first = world.copier("--tell", "--pause-ms=60000")
    first.until("got")
    first.kill()
    assert world.committed(2) == [-1001, -1001]
    second = world.copier()
    second.until("ready")
    wait_for(lambda: world.committed(2) == [200, 200], seconds=40, what="the second process's work")
    assert second.stop() == 0
    assert values(world.copies(2)) == set(range(400))


def test_repeated_kills_under_load_lose_nothing(world: World) -> None:
    """Three kills, each amid work that is partly committed: every record is copied."""
    world.create(4)
    produced = 0
    for _ in range(3):
        copier = world.copier("--max-records=20", "--pause-ms=20", "--commit-ms=100", "--tell")
        copier.until("ready")
        world.produce(numbered(2_000, 4, first=produced))
        produced += 2_000
        wait_for(lambda copier=copier: len(copier.lines) > 500, seconds=30, what="some work")  # type: ignore[misc]
        copier.kill()
        assert sum(max(0, offset) for offset in world.committed(4)) < produced
    last = world.copier()
    last.until("ready")
    wait_for(lambda: world.committed(4) == [produced // 4] * 4, seconds=60, what="the rest")
    assert last.stop() == 0
    copies = world.copies(4)
    assert values(copies) == set(range(produced))
    assert in_order(copies)


def test_an_exception_commits_nothing_past_it_and_ends_the_process(world: World) -> None:
    """The records before the failing one are committed, it and what follows are not, and the exit code says so."""
    world.create(1)
    world.produce(numbered(100, 1))
    copier = world.copier("--fail-at=42")
    assert copier.wait() == 1
    assert "told to fail" in "".join(copier.errors)
    assert world.committed(1) == [42]
    second = world.copier()
    second.until("ready")
    wait_for(lambda: world.committed(1) == [100], seconds=30, what="the second process's work")
    assert second.stop() == 0
    assert values(world.copies(1)) == set(range(100))


def test_an_exception_in_another_partition_holds_back_only_its_own(world: World) -> None:
    """Of several partitions in one batch, each is committed up to its own first unfinished record."""
    world.create(2)
    world.produce([(0, b"0"), (1, b"42"), (1, b"1")])
    copier = world.copier("--fail-at=42")
    assert copier.wait() == 1
    assert world.committed(2)[1] == -1001
    assert world.committed(2)[0] in (-1001, 1)


def test_processes_that_come_and_go_under_load_lose_nothing_and_never_share_a_partition(world: World) -> None:
    """1 -> 2 -> 1 processes: every record is copied, and each partition passes from one process to the next."""
    world.create(4)
    first = world.copier("--max-records=20", "--pause-ms=5")
    first.until("ready")
    world.produce(numbered(2_000, 4))
    second = world.copier("--max-records=20", "--pause-ms=5")
    second.until("ready")
    world.produce(numbered(2_000, 4, first=2_000))
    wait_for(lambda: any(c.pid == second.pid for c in world.copies(4)), seconds=30, what="work of the second process")
    assert second.stop() == 0, "".join(second.errors)
    world.produce(numbered(400, 4, first=4_000))
    wait_for(lambda: world.committed(4) == [1_100] * 4, seconds=60, what="the rest")
    assert first.stop() == 0, "".join(first.errors)
    copies = world.copies(4)
    assert values(copies) == set(range(4_400))
    assert in_order(copies)
    for partition in range(4):
        owners = [pid for pid, _ in groupby(c.pid for c in copies if c.partition == partition)]
        assert owners in ([first.pid], [first.pid, second.pid, first.pid]), owners
    # Graceful hand-over: what was in work was finished and committed, so hardly anything came twice.
    assert len(copies) - 4_400 <= 4 * 20


def test_a_restart_of_the_broker_under_load_loses_nothing(tmp_path: Path) -> None:
    """The broker is killed amid copying and comes back: the same process goes on to the end."""
    with EmbeddedKafka(tmp_path, login=False) as broker, World(broker.bootstrap_servers) as world:
        world.create(4)
        world.produce(numbered(4_000, 4))
        copier = world.copier("--max-records=20", "--pause-ms=10", "--commit-ms=100", "--tell")
        copier.until("ready")
        wait_for(lambda: len(copier.lines) > 500, seconds=30, what="some work")
        broker.kill()
        broker.start()
        assert len(copier.lines) < 4_000
        wait_for(lambda: world.committed(4) == [1_000] * 4, seconds=60, what="the rest")
        assert copier.stop() == 0, "".join(copier.errors)
        copies = world.copies(4)
    assert values(copies) == set(range(4_000))
    assert in_order(copies)


def test_what_does_not_finish_within_the_bound_is_delivered_again(kafka_servers: str) -> None:
    """A stop waits for records in work only so long; their offsets stay uncommitted and the exit is in order."""
    with World(kafka_servers) as world:
        world.create(1)
        world.produce(numbered(10, 1))
        copier = world.copier("--hang-at=7", "--settle-ms=300")
        copier.until("ready")
        wait_for(lambda: world.committed(1) == [7], seconds=40, what="the commit before the hanging record")
        assert copier.stop() == 0, "".join(copier.errors)
        assert "delivered again" in "".join(copier.errors)
        assert world.committed(1) == [7]


def test_a_broker_that_is_not_there_ends_the_process_with_a_plain_message() -> None:
    """Without Kafka the process ends with code 1 and says where it looked for it."""
    with World("127.0.0.1:9") as world:
        copier = world.copier()
        assert copier.wait() == 1
        assert "Kafka at 127.0.0.1:9 can't be reached" in "".join(copier.errors)
        assert "Traceback" not in "".join(copier.errors)
