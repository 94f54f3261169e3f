"""The saga table as Faust sees it: a table whose partitions follow those of its changelog, read by people like any other.

Faust says which partitions this process owns, and when; processors/saga_table does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from datetime import timedelta
from typing import Any, NoReturn, cast

import faust
from faust.stores import memory
from faust.types import TP, AppT, EventT
from mode import Service

from processors.saga_table.recovery import TableRecovery
from processors.saga_table.store import is_locked
from processors.saga_table.table import SagaTable

#: How often the end of each partition is looked at. A zombie's record is healed long before compaction can reach it: the
#: topic's min.compaction.lag.ms has to be far above this.
LOOK_EVERY = timedelta(seconds=10)
# A process that ends on the same machine keeps its databases locked until then.
_UNLOCKED_WITHIN_S = 30
_LOCKED_POLL_S = 1.0


class FaustSagaTable(faust.Table[bytes, bytes]):
    """Drives a SagaTable by Faust's rebalances. Faust's own ways of writing a table are refused."""

    def __init__(self, app: AppT, sagas: SagaTable, look_every: timedelta) -> None:
        changelog = app.topic(
            sagas.topic,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            allow_empty=True,
        )
        # Without the beacon a crash here would not be the app's.
        super().__init__(
            app,
            name="sagas",
            changelog_topic=changelog,
            key_type=bytes,
            value_type=bytes,
            beacon=app.tables.beacon,
        )
        self.sagas = sagas
        self.recovery = TableRecovery(sagas)
        self._look_every = look_every

    def __setitem__(self, key: bytes, value: bytes) -> NoReturn:
        raise TypeError("A saga table is written by save(): assignment would not wait for Kafka.")

    def __delitem__(self, key: bytes) -> NoReturn:
        raise TypeError("A saga table is written by save(): deletion would not wait for Kafka.")

    def update(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: use save()."""
        raise TypeError("A saga table is written by save(): update would not wait for Kafka.")

    def clear(self) -> NoReturn:
        """Refused: sagas are forgotten one by one."""
        raise TypeError("A saga table is never cleared: forget sagas by save().")

    def _new_store(self) -> Any:
        return _View("memory://", self.app, self, table_name=self.name, loop=self.loop)

    def persisted_offset(self, tp: TP) -> int | None:
        """None: Faust has nothing to go on from."""
        return None

    def apply_changelog_batch(self, batch: Iterable[EventT[Any]]) -> None:
        """Nothing: what Faust hands over of a changelog may have holes. What it lost is read by TableRecovery."""

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Call who asked to be told of the end of a recovery; an error stops the process."""
        try:
            await self.call_recover_callbacks()
        except Exception as error:  # noqa: BLE001  # whatever it is, the process must not go on
            # Faust only waits for this, and would go on without a word.
            await self.crash(error)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Let go of what goes, and open what comes."""
        mine = self.changelog_topic_name
        self.sagas.release({tp.partition for tp in assigned if tp.topic == mine})
        standbys = self.app.assignor.assigned_standbys()
        for tp in newly_assigned:
            if tp.topic == mine and tp not in standbys:
                await self._open(tp.partition, generation_id)

    async def _open(self, partition: int, generation_id: int) -> None:
        give_up = asyncio.get_running_loop().time() + _UNLOCKED_WITHIN_S
        while True:
            try:
                return self.sagas.hold(partition)
            except Exception as error:
                # RocksDB's errors have no type of their own.
                if not is_locked(error) or asyncio.get_running_loop().time() > give_up:
                    raise
                self.log.info("Partition %d of the saga table is locked by another process: waiting.", partition)
            if generation_id != self.app.consumer_generation_id:
                # The next rebalance says anew what is to be opened.
                return
            await self.sleep(_LOCKED_POLL_S)

    @Service.task
    async def _look_at_ends(self) -> None:
        """Look for what somebody else wrote after this process's last write; an error here stops the process."""
        async for _ in self.itertimer(self._look_every.total_seconds(), name="SagaTable.look_at_ends"):
            await self.sagas.fence_other_writers()

    async def on_stop(self) -> None:
        """Close connections and databases."""
        await self.sagas.close()


class _View(memory.Store[bytes, bytes]):
    """The announced partitions as the mapping that Faust shows to people."""

    def __post_init__(self) -> None:
        """Nothing: Faust's would make the one dict that `data` is here."""

    @property
    def data(self) -> MutableMapping[bytes, bytes]:  # type: ignore[override]  # an attribute there, computed here
        # Nothing writes to it: the table refuses.
        return cast("MutableMapping[bytes, bytes]", _States(cast(FaustSagaTable, self.table).sagas))


class _States(Mapping[bytes, bytes]):
    def __init__(self, sagas: SagaTable) -> None:
        self._sagas = sagas

    def __getitem__(self, key: bytes) -> bytes:
        for partition in self._sagas.active:
            value = self._sagas.get(key, partition)
            if value is not None:
                return value
        raise KeyError(key)

    def __iter__(self) -> Iterator[bytes]:
        for partition in self._sagas.active:
            for key, _ in self._sagas.items(partition):
                yield key

    def __len__(self) -> int:
        return len(self._sagas)
