"""What goes wrong and when, as a function of a seed: the same seed gives the same schedule, to the millisecond."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from random import Random

# One block holds every kind at least once; longer runs are several blocks with other draws.
BLOCK_S = 120.0
KILLS_A_BLOCK = 22


class Kind(StrEnum):
    """How something is broken; the value is what the report calls it."""

    KILL = "processor killed (SIGKILL)"
    FREEZE = "processor frozen beyond its session, then woken"
    SECOND = "second worker of a role joins and leaves"
    BROKER_RESTART = "broker restarted in order"
    BROKER_KILL = "broker killed (SIGKILL)"
    CLICKHOUSE_KILL = "ClickHouse killed (SIGKILL)"
    API_HANG = "paid API hangs"
    API_DOWN = "paid API drops every connection"
    API_ERRORS = "paid API answers 503, or 500 after doing it"
    INSERT_REFUSED = "ClickHouse refuses"
    INSERT_DROPPED = "ClickHouse drops connections after the insert"
    INSERT_HANGS = "ClickHouse hangs"
    TOPIC_FULL = "topic takes no writes"
    POISON = "poison records"


KILLS = frozenset({Kind.KILL, Kind.BROKER_KILL, Kind.CLICKHOUSE_KILL})


@dataclass(frozen=True, slots=True, order=True)
class ChaosFault:
    """One thing that goes wrong, from `at_s` after the start on, for `lasting_s`; the target says where."""

    at_s: float
    kind: Kind
    target: str = ""
    lasting_s: float = 0.0


def schedule(seed: int, seconds: float, roles: Sequence[str], session_s: float) -> tuple[ChaosFault, ...]:
    """Return the faults of a run in the order of time. `roles` are the processors, the coordinator first."""
    rng = Random(seed)
    blocks = max(1, round(seconds / BLOCK_S))
    length = seconds / blocks
    found: list[ChaosFault] = []
    for block in range(blocks):
        # The end of a block is left in peace: what lasts is over before the next begins.
        found += _block(rng, block * length, length, roles, session_s)
    return tuple(sorted(found))


def _block(rng: Random, begin: float, length: float, roles: Sequence[str], session_s: float) -> Iterator[ChaosFault]:
    coordinator, steps = roles[0], [role for role in roles if role not in (roles[0], "intake")]

    def slots(count: int) -> Iterator[tuple[float, float]]:
        size = (length - 4) / count
        for number in range(count):
            yield begin + 2 + number * size, size

    def track(*faults: tuple[Kind, str, float, float]) -> Iterator[ChaosFault]:
        """One after the other, each at a random moment of its slot and for a time between two bounds."""
        for (start, size), (kind, target, least, most) in zip(
            slots(len(faults)), rng.sample(faults, len(faults)), strict=True
        ):
            lasting = min(rng.uniform(least, most), size * 0.8)
            yield ChaosFault(start + rng.uniform(0, size - lasting), kind, target, round(lasting, 3))

    yield from _kills(rng, slots(KILLS_A_BLOCK), roles)
    yield from track((Kind.API_HANG, "", 3, 8), (Kind.API_DOWN, "", 2, 6), (Kind.API_ERRORS, "", 4, 10))
    yield from track((Kind.INSERT_REFUSED, "", 2, 6), (Kind.INSERT_DROPPED, "", 3, 8), (Kind.INSERT_HANGS, "", 3, 8))
    yield from track(
        *((Kind.TOPIC_FULL, topic, 1.5, 4) for topic in ("events", "sagas", f"{rng.choice(steps)}.commands"))
    )
    yield from track(*((Kind.POISON, topic, 0, 0) for topic in ("urls", "events", f"{rng.choice(steps)}.commands")))
    yield from track((Kind.BROKER_RESTART, "", 0, 0))
    shared = rng.choice(steps)
    for (start, size), role in zip(slots(2), rng.sample([coordinator, shared], 2), strict=True):
        # A second worker makes the frozen one a true zombie: its partitions go on elsewhere while it believes to own them.
        yield ChaosFault(start, Kind.SECOND, role, round(size * 0.85, 3))
        frozen = rng.uniform(1.4, 2.0) * session_s
        yield ChaosFault(start + size * rng.uniform(0.3, 0.4), Kind.FREEZE, role, round(min(frozen, size * 0.4), 3))
    alone = rng.choice([role for role in roles if role not in (coordinator, shared)])
    yield from track((Kind.FREEZE, alone, 1.4 * session_s, 2.0 * session_s))


def _kills(rng: Random, slots: Iterator[tuple[float, float]], roles: Sequence[str]) -> Iterator[ChaosFault]:
    """Kill every role in turn, in an order that is drawn anew each round, the broker and ClickHouse among them once."""
    rounds = ceil(KILLS_A_BLOCK / len(roles))
    targets = [(Kind.KILL, role) for _ in range(rounds) for role in rng.sample(roles, len(roles))]
    targets = targets[: KILLS_A_BLOCK - 2]
    for server in (Kind.BROKER_KILL, Kind.CLICKHOUSE_KILL):
        targets.insert(rng.randrange(len(targets) + 1), (server, ""))
    for (start, size), (kind, target) in zip(slots, targets, strict=True):
        yield ChaosFault(start + rng.uniform(0, size * 0.8), kind, target)
