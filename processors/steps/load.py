"""The step `load`: inserts the record into a ClickHouse table; the compensation inserts a delete marker.

A row's version is the `seq` of the command that writes it, which only grows within a job. So the last command wins,
whatever the order in which writes arrive: an insert that was delayed until after its compensation stays invisible.

While steps that can fail are still to come the row waits unseen; `confirm` makes it visible when the saga completes.
A redrive replaces the row of the earlier run at once, so the job is not visible until the new run completes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import msgspec

from processors.clickhouse.client import RowValues, Server, Warehouse
from processors.clickhouse.errors import may_be_one_row
from processors.clickhouse.insert_batcher import Batches
from processors.clickhouse.table import TableLayout, TableMismatch, is_table_name, table_name
from processors.durations import parse_duration
from processors.errors import PipelineError, StepFailed
from processors.step import EffectKind, Host, Step, StepCall, StepOutput, StepParams
from processors.steps.record import record_of, record_schema_of
from schemas.record import RecordSchema


class LoadParams(StepParams, frozen=True):
    """Parameters of `load`.

    `table` defaults to the pipeline's name (shop-prices: `shop_prices`), `database` to SCRAPESAGA_CLICKHOUSE_DATABASE.
    Rows that come within `batch_wait` of an insert go together in the next one, `batch_rows` at most.
    """

    table: str = ""
    database: str = ""
    batch_rows: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 500
    batch_wait: str = "200ms"


class Load(Step):
    """Insert the record as one row per job; the compensation hides it with a delete marker of a higher version."""

    Params: ClassVar[type[StepParams]] = LoadParams
    params: LoadParams
    effect = EffectKind.ROW
    #: Makes the connection; tests keep tables in memory.
    open_warehouse: Callable[[Server], Warehouse] = Warehouse

    def __init__(self, name: str, params: LoadParams, host: Host) -> None:
        super().__init__(name, params, host)
        self._server: Server | None = None
        self._warehouse: Warehouse | None = None
        self._batches: dict[tuple[TableLayout, bool], Batches[RowValues]] = {}
        self._layouts: dict[tuple[str, str], TableLayout] = {}

    @classmethod
    def check(cls, params: LoadParams) -> None:
        """Refuse names that cannot be a table's or a database's, and a wait that is no duration."""
        for key, value in (("table", params.table), ("database", params.database)):
            if value and not is_table_name(value):
                raise PipelineError(f"{key}: {value!r} is not a name; use letters, digits and underscores")
        try:
            parse_duration(params.batch_wait)
        except ValueError as error:
            raise PipelineError(f"batch_wait: {error}") from error

    @classmethod
    def check_record(cls, params: LoadParams, schema: RecordSchema) -> None:
        """Refuse a record schema that no table can hold; for `pipeline lint`, which knows the schema."""
        try:
            TableLayout.of(params.database, params.table, schema)
        except TableMismatch as mismatch:
            raise PipelineError(str(mismatch)) from mismatch

    async def open(self) -> None:
        """Read the settings; connect with the first row."""
        self._server = Server.of(self.host)
        self._warehouse = self.open_warehouse(self._server)

    async def close(self) -> None:
        """Insert what waits, then disconnect."""
        for batches in self._batches.values():
            await batches.drain()
        if self._warehouse is not None:
            await self._warehouse.close()

    async def run(self, call: StepCall) -> StepOutput:
        """Write the row: visible at once, unless the saga will confirm it."""
        layout = await self._write(call, live=not call.confirms)
        self._count("pending" if call.confirms else "live")
        return StepOutput(data={"database": layout.database, "table": layout.table, "version": call.seq})

    async def confirm(self, call: StepCall) -> None:
        """Write the row again, visible, with a higher version."""
        await self._write(call, live=True)
        self._count("confirmed")

    async def compensate(self, call: StepCall) -> None:
        """Write the delete marker, whether or not a row is known: an insert may still be on its way."""
        layout = self._layout(call, record_schema_of(call))
        await self._ready().prepare(layout, markers_only=True)
        await self._batch(layout, markers=True).add((*_who(call), 0, call.seq, 1))
        self._count("deleted")

    async def _write(self, call: StepCall, *, live: bool) -> TableLayout:
        schema = record_schema_of(call)
        layout = self._layout(call, schema)
        values = schema.row(record_of(call, schema))
        url = (call.url,) if layout.has_own_url else ()
        await self._ready().prepare(layout)
        await self._batch(layout, markers=False).add((*_who(call), *url, *values, int(live), call.seq, 0))
        return layout

    def _count(self, kind: str) -> None:
        self.host.count("rows", step=self.name, kind=kind)

    def _ready(self) -> Warehouse:
        if self._warehouse is None:
            raise RuntimeError(f"step {self.name}: open() comes before the first command")
        return self._warehouse

    def _layout(self, call: StepCall, schema: RecordSchema) -> TableLayout:
        # Not by fingerprint, which is the same for decimals of another scale.
        known = self._layouts.get((call.pipeline, schema.text))
        if known is None:
            database = self.params.database or (self._server.database if self._server else "")
            try:
                known = TableLayout.of(database, self.params.table or table_name(call.pipeline), schema)
            except TableMismatch as mismatch:
                raise StepFailed(str(mismatch)) from mismatch
            self._layouts[call.pipeline, schema.text] = known
        return known

    def _batch(self, layout: TableLayout, *, markers: bool) -> Batches[RowValues]:
        # Markers have batches of their own: a compensation never queues behind new rows.
        batches = self._batches.get((layout, markers))
        if batches is None:
            warehouse = self._ready()
            columns = layout.marker_columns if markers else layout.row_columns
            batches = self._batches[layout, markers] = Batches(
                lambda rows: warehouse.insert(layout, columns, rows),
                rows=self.params.batch_rows,
                wait=parse_duration(self.params.batch_wait),
                divisible=may_be_one_row,
            )
        return batches


def _who(call: StepCall) -> tuple[object, ...]:
    return call.job_id, call.pipeline, call.run
