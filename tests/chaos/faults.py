"""Commits what the schedule says on a running engine, and ends what lasts."""

from __future__ import annotations

import heapq
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import httpx
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not listed in its __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from processors.demo.kills import BROKER, CLICKHOUSE, kill, running
from processors.demo.paid_faults import PaidFault
from processors.demo.sample_servers import SampleServers
from processors.local.engine import LocalEngine
from processors.local.errors import LocalError
from processors.saga.invariants import LogPosition
from tests.chaos.schedule import ChaosFault, Kind

_log = logging.getLogger(__name__)

_WAREHOUSE = {Kind.INSERT_REFUSED: "refuse", Kind.INSERT_DROPPED: "drop-mid-insert", Kind.INSERT_HANGS: "hang"}
_API: dict[Kind, dict[str, object]] = {
    Kind.API_HANG: {"mode": "hang"},
    Kind.API_DOWN: {"mode": "down"},
    # Beyond the number of attempts that a key's faults usually end after: a real outage knows no such mercy.
    Kind.API_ERRORS: {
        **dict.fromkeys(map(str, PaidFault), 0.0),
        PaidFault.UNAVAILABLE.value: 0.5,
        PaidFault.ERROR_AFTER.value: 0.5,
        "faulty_attempts": 1_000,
    },
}
#: Kinds whose end calls off any other of the same place: the schedule keeps them apart.
CALL_OFF = (frozenset(_API), frozenset(_WAREHOUSE))
_AT_THE_BROKER = frozenset({Kind.BROKER_KILL, Kind.BROKER_RESTART, Kind.TOPIC_FULL, Kind.POISON})
_POISON = (b"", b"\xc3\x01 no message of ours", b'{"url": 5}', bytes(range(64)))


class Committer:
    """Breaks things at their time, and counts what was broken.

    What talks to the broker runs beside the rest, one after the other: processors are killed while the broker is away, too.
    """

    def __init__(self, engine: LocalEngine, world: SampleServers) -> None:
        self.committed: Counter[Kind] = Counter()
        self.poison: set[LogPosition] = set()
        self.notes: list[str] = []
        self._engine = engine
        self._world = world
        self._prefix = engine.settings().topic_prefix
        self._api_before = httpx.get(f"{world.api_url}/_faults", timeout=20).json()
        self._full: dict[str, str] = {}
        self._frozen: dict[str, int] = {}
        self._seconds: set[str] = set()
        self._due: list[tuple[float, int, ChaosFault, bool]] = []
        self._broker = ThreadPoolExecutor(1, "broker-faults")
        self._began = 0.0

    def run(self, faults: Sequence[ChaosFault], seconds: float) -> None:
        """Commit everything; returns after that time, once all is as it was before. Raises if that can't be had."""
        self._began = time.monotonic()
        self._due = [(fault.at_s, number, fault, True) for number, fault in enumerate(faults)]
        heapq.heapify(self._due)
        while self._due and self._due[0][0] < seconds:
            at_s, number, fault, begins = heapq.heappop(self._due)
            self._sleep_until(at_s)
            act = partial(self._begin if begins else self._end, fault)
            if fault.kind in _AT_THE_BROKER:
                self._broker.submit(act)
            else:
                act()
            if begins and fault.lasting_s:
                heapq.heappush(self._due, (self._now() + fault.lasting_s, number, fault, False))
        self._sleep_until(seconds)
        self._broker.shutdown()
        self._calm()

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _sleep_until(self, at_s: float) -> None:
        time.sleep(max(0.0, at_s - self._now()))

    def _begin(self, fault: ChaosFault) -> None:
        about = f"{fault.kind}{f': {fault.target}' if fault.target else ''}"
        try:
            self._commit(fault)
        except Exception as error:
            # No finding about the engine: what could not be broken is missing from the counts.
            self._note(f"NOT COMMITTED {about}: {error!r}")
            return
        self.committed[fault.kind] += 1
        self._note(f"{about}{f' for {fault.lasting_s:.1f} s' if fault.lasting_s else ''}")

    def _end(self, fault: ChaosFault) -> None:
        try:
            match fault.kind:
                case Kind.FREEZE:
                    self._wake(fault.target)
                case Kind.SECOND:
                    self._dismiss(f"{fault.target}-2")
                case Kind.API_HANG | Kind.API_DOWN | Kind.API_ERRORS:
                    self._set_api(self._api_before)
                case Kind.INSERT_REFUSED | Kind.INSERT_DROPPED | Kind.INSERT_HANGS:
                    self._set_warehouse("ok")
                case Kind.TOPIC_FULL:
                    self._accept_writes(fault.target)
                case _:
                    return
        except (httpx.HTTPError, KafkaException) as error:
            # What was to be mended is away; _calm() does it in the end.
            self._note(f"not ended yet: {fault.kind}: {error!r}")

    def _calm(self) -> None:
        """End whatever lasts, and start what didn't come back in its time."""
        for server in (self._engine.kafka, self._engine.clickhouse):
            if server is not None:
                server.start()
        for name in [*self._frozen]:
            self._wake(name)
        for name in [*self._seconds]:
            self._dismiss(name)
        self._set_api(self._api_before)
        self._set_warehouse("ok")
        for topic in [*self._full]:
            self._accept_writes(topic)
        self._note("all is calm")

    def _note(self, text: str) -> None:
        line = f"{self._now():7.2f} s  {text}"
        self.notes.append(line)
        _log.info("%s", line)

    def _commit(self, fault: ChaosFault) -> None:
        match fault.kind:
            case Kind.KILL:
                kill(self._engine, fault.target)
            case Kind.BROKER_KILL:
                kill(self._engine, BROKER)
            case Kind.CLICKHOUSE_KILL:
                kill(self._engine, CLICKHOUSE)
            case Kind.BROKER_RESTART:
                if self._engine.kafka is None:
                    raise LocalError("The broker isn't run by this engine.")
                self._engine.kafka.restart()
            case Kind.FREEZE:
                pid = self._frozen[fault.target] = running(self._engine, fault.target)
                os.kill(pid, signal.SIGSTOP)
            case Kind.SECOND:
                self._engine.start_process(fault.target, name=f"{fault.target}-2")
                self._seconds.add(f"{fault.target}-2")
            case Kind.API_HANG | Kind.API_DOWN | Kind.API_ERRORS:
                self._set_api(_API[fault.kind])
            case Kind.INSERT_REFUSED | Kind.INSERT_DROPPED | Kind.INSERT_HANGS:
                self._set_warehouse(_WAREHOUSE[fault.kind])
            case Kind.TOPIC_FULL:
                self._refuse_writes(fault.target)
            case Kind.POISON:
                self._produce_poison(fault.target)

    def _wake(self, name: str) -> None:
        pid = self._frozen.pop(name, None)
        if pid is not None:
            # Killed while it was frozen: then there is nobody to wake.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                self._note(f"woken: {name}")

    def _dismiss(self, name: str) -> None:
        if name in self._seconds:
            by_itself = self._engine.stop_process(name)
            self._seconds.discard(name)
            self._note(f"stopped: {name}{'' if by_itself else ', by force'}")

    def _set_api(self, faults: dict[str, object]) -> None:
        httpx.post(f"{self._world.api_url}/_faults", json=faults, timeout=20).raise_for_status()

    def _set_warehouse(self, mode: str) -> None:
        warehouse = self._engine.warehouse
        login = (warehouse.user, warehouse.password)
        httpx.post(f"{warehouse.url}/_faults", json={"mode": mode}, auth=login, timeout=20).raise_for_status()

    # A full disk can't be had for one topic, and a broker whose disk is full stops: the broker's kill stands for that.
    # A topic whose limit is a byte refuses every write, at once and for all producers, and takes them again later.
    def _refuse_writes(self, topic: str) -> None:
        name = f"{self._prefix}.{topic}"
        admin = self._admin()
        found = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)])
        (configs,) = [described.result(20) for described in found.values()]
        self._full[topic] = configs["max.message.bytes"].value
        self._limit(name, "1")

    def _accept_writes(self, topic: str) -> None:
        if topic in self._full:
            self._limit(f"{self._prefix}.{topic}", self._full[topic])
            del self._full[topic]

    def _limit(self, name: str, limit: str) -> None:
        entry = ConfigEntry("max.message.bytes", limit, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        admin = self._admin()
        for altered in admin.incremental_alter_configs([resource]).values():
            altered.result(20)

    def _admin(self) -> AdminClient:
        # Not kept: the client may crash when its broker restarts.
        return AdminClient({**self._engine.client, "log_level": 0})

    def _produce_poison(self, topic: str) -> None:
        producer = Producer(
            {
                **self._engine.client,
                "acks": "all",
                "enable.idempotence": True,
                "log_level": 0,
            }
        )
        errors: list[object] = []

        def delivered(error: object, message: object) -> None:
            if error is not None:
                errors.append(error)
            else:
                self.poison.add(LogPosition(message.topic(), message.partition(), message.offset()))  # type: ignore[attr-defined]

        for number, value in enumerate(_POISON):
            key = None if number % 2 else f"poison-{number}".encode()
            producer.produce(f"{self._prefix}.{topic}", value, key, on_delivery=delivered)
        producer.flush(60)
        if errors:
            raise KafkaException(errors[0])
