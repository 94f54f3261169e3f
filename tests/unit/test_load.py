"""What `load` does without a warehouse: table layouts, batches, settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from processors.clickhouse.client import Server
from processors.clickhouse.errors import may_be_one_row
from processors.clickhouse.insert_batcher import Batches
from processors.clickhouse.table import ActualTable, TableLayout, TableMismatch, holds, table_name
from processors.errors import ConfigurationError, PipelineError, RetryLater, StepFailed
from processors.steps.load import Load, LoadParams
from processors.testing import MemoryHost
from schemas.record import RecordSchema

LAYOUT = TableLayout("shop", "prices", (("url", "String"), ("amount", "Nullable(Decimal(18, 4))")))
COLUMNS = {**dict(LAYOUT.row_columns), "_loaded_at": "DateTime64(3, 'UTC')"}
SHOWN = {name: COLUMNS[name] for name in ("job_id", "pipeline", "run", "url", "amount", "_loaded_at")}
ENGINE = "ReplacingMergeTree(_version, _deleted) ORDER BY job_id SETTINGS index_granularity = 8192"
AN_HOUR = timedelta(hours=1)


def found(**changes: object) -> ActualTable:
    """A table that is as it should be, with its view, but for the changes."""
    whole: dict[str, object] = {
        "engine": ENGINE,
        "sorting_key": "job_id",
        "columns": COLUMNS,
        "view_engine": "View",
        "view_comment": "Kept by scrapesaga. Drop this comment to keep a view of your own under this name.",
        "view_columns": SHOWN,
    }
    return ActualTable(**{**whole, **changes})  # type: ignore[arg-type]  # a test's changes are of the field's type


def test_a_table_that_is_as_it_should_be_is_left_alone() -> None:
    """No statement is run against a table and a view that fit."""
    assert LAYOUT.statements(found()) == ()


def test_a_missing_table_is_made_of_the_records_columns() -> None:
    """The table holds one row a job, the highest version of it; the server stamps when it was loaded."""
    (statement,) = LAYOUT.statements(ActualTable())
    assert statement.startswith("CREATE TABLE IF NOT EXISTS `shop`.`prices` (`job_id` String, ")
    assert "`amount` Nullable(Decimal(18, 4)), `_live` UInt8, `_version` UInt64, `_deleted` UInt8, " in statement
    assert statement.endswith("now64(3)) ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY job_id")


def test_a_record_with_an_address_of_its_own_needs_no_second_one() -> None:
    """The job's URL has a column only where the record has no field `url`."""
    without = TableLayout("shop", "prices", (("title", "String"),))
    assert [name for name, _ in without.row_columns].count("url") == 1
    assert [name for name, _ in LAYOUT.row_columns].count("url") == 1
    assert (without.has_own_url, LAYOUT.has_own_url) == (True, False)


def test_the_view_follows_the_tables_own_columns() -> None:
    """A view with other columns, or types, is made anew with all of them, but for what only the engine reads."""
    (statement,) = LAYOUT.statements(found(view_columns={**SHOWN, "amount": "Nullable(Decimal(9, 4))"}))
    assert statement.startswith(
        "CREATE OR REPLACE VIEW `shop`.`prices_live` AS SELECT `job_id`, `pipeline`, `run`, `url`, "
    )
    assert "`_version`" not in statement
    assert "FINAL WHERE _live = 1 AND _deleted = 0" in statement


def test_a_view_that_somebody_made_their_own_stays_as_it_is() -> None:
    """Without our comment a view is the user's."""
    assert LAYOUT.statements(found(view_columns={"job_id": "String"}, view_comment="mine")) == ()


def test_a_table_is_never_replaced_by_the_view() -> None:
    """Where the view's name is taken by a table, nothing is run."""
    with pytest.raises(TableMismatch, match="`prices_live` exists and is no view"):
        LAYOUT.statements(found(view_columns={}, view_engine="MergeTree", view_comment=""))


def test_new_fields_become_columns() -> None:
    """A field that the table does not have yet is added."""
    columns = {name: kind for name, kind in COLUMNS.items() if name != "amount"}
    (statement,) = LAYOUT.statements(found(columns=columns))
    assert statement == ("ALTER TABLE `shop`.`prices` ADD COLUMN IF NOT EXISTS `amount` Nullable(Decimal(18, 4))")


def test_a_column_of_another_type_is_named_with_its_repair() -> None:
    """The error has the statement to run, ready to be pasted."""
    with pytest.raises(TableMismatch, match=r"MODIFY COLUMN `amount` Nullable\(Decimal\(18, 4\)\)"):
        LAYOUT.statements(found(columns={**COLUMNS, "amount": "String"}))


def test_a_delete_marker_passes_over_columns_that_do_not_fit() -> None:
    """A compensation never fails for a column that it does not write."""
    other = {"columns": {**COLUMNS, "amount": "String"}, "view_columns": {**SHOWN, "amount": "String"}}
    assert LAYOUT.statements(found(**other), markers_only=True) == ()


@pytest.mark.parametrize(
    ("engine", "sorting_key"),
    [
        ("MergeTree ORDER BY job_id", "job_id"),
        ("ReplacingMergeTree ORDER BY job_id", "job_id"),
        (ENGINE, "pipeline, job_id"),
        ("Distributed('c', 'shop', 'prices')", ""),
    ],
)
def test_a_table_that_cannot_take_back_a_row_is_refused(engine: str, sorting_key: str) -> None:
    """Any other engine or key would leave a compensated row visible."""
    with pytest.raises(TableMismatch, match="cannot take back a row"):
        LAYOUT.statements(found(engine=engine, sorting_key=sorting_key))


@pytest.mark.parametrize("engine", ["Replicated", "Shared"])
def test_replicated_tables_are_taken(engine: str) -> None:
    """A table that an administrator made, replicated, does as well."""
    full = f"{engine}ReplacingMergeTree('/clickhouse/{{uuid}}', '{{replica}}', _version, _deleted) ORDER BY job_id"
    assert LAYOUT.statements(found(engine=full)) == ()


@pytest.mark.parametrize(
    ("column", "value", "fits"),
    [
        ("String", "LowCardinality(String)", True),
        ("LowCardinality(Nullable(String))", "Nullable(String)", True),
        ("Nullable(String)", "String", True),
        ("String", "Nullable(String)", False),
        ("Int64", "Int32", True),
        ("Int32", "Int64", False),
        ("Float64", "Float32", True),
        ("Decimal(20, 6)", "Decimal(18, 4)", True),
        ("Decimal(18, 6)", "Decimal(18, 4)", False),
        ("Array(Nullable(String))", "Array(String)", False),
        ("Tuple(\n    x Int32,\n    y String)", "Tuple(x Int32, y String)", True),
    ],
)
def test_a_column_holds_its_type_and_narrower_ones(column: str, value: str, fits: bool) -> None:
    """Nothing is inserted into a column that would cut it, or turn null into an empty value."""
    assert holds(column, value) is fits


def test_a_record_may_not_use_the_names_of_our_own_columns() -> None:
    """The clash is found when the pipeline is checked, with the field's name."""
    text = '{"type": "record", "name": "T", "fields": [{"name": "run", "type": "int"}]}'
    with pytest.raises(PipelineError, match="has the field run"):
        Load.check_record(LoadParams(), RecordSchema.parse(text))
    Load.check_record(LoadParams(), RecordSchema.load("product"))


@pytest.mark.parametrize(
    ("pipeline", "table"), [("shop-prices", "shop_prices"), ("2nd", "_2nd"), ("a.b", "a_b"), ("plain", "plain")]
)
def test_a_pipelines_name_becomes_a_table(pipeline: str, table: str) -> None:
    """What an SQL name may not have becomes an underscore."""
    assert table_name(pipeline) == table


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (LoadParams(table="a b"), "table: 'a b'"),
        (LoadParams(database="x;"), "database"),
        (LoadParams(batch_wait="200"), "batch_wait"),
    ],
)
def test_parameters_that_cannot_work_are_refused_by_lint(params: LoadParams, says: str) -> None:
    """The error names the key."""
    with pytest.raises(PipelineError, match=says):
        Load.check(params)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "SCRAPESAGA_CLICKHOUSE_URL is not set"),
        ("clickhouse:8123", "must be http"),
        ("http://u:p@clickhouse:8123", "must hold no user"),
        ("http://clickhouse:port", "is not a URL"),
    ],
)
def test_a_wrong_address_stops_the_worker_at_its_start(url: str, says: str) -> None:
    """open() names the setting; no password is ever shown."""
    step = Load("load", LoadParams(), MemoryHost(settings={"CLICKHOUSE_URL": url}))
    with pytest.raises(ConfigurationError, match=says):
        asyncio.run(step.open())


def test_the_server_is_what_the_settings_say() -> None:
    """Defaults are ClickHouse's own; the password does not show."""
    plain = Server.of(MemoryHost(settings={"CLICKHOUSE_URL": "http://ch"}))
    assert (plain.host, plain.port, plain.user, plain.password, plain.database) == (
        "ch",
        8123,
        "default",
        "",
        "default",
    )
    settings = {"CLICKHOUSE_URL": "https://ch/proxy/", "CLICKHOUSE_USER": "u", "CLICKHOUSE_PASSWORD": "s3cret"}
    secure = Server.of(MemoryHost(settings=settings))
    assert (secure.port, secure.path, secure.user, secure.password) == (8443, "proxy", "u", "s3cret")
    assert "s3cret" not in f"{secure} {secure!r}"


@pytest.mark.parametrize(
    ("code", "helps"),
    [(469, True), (27, True), (49, True), (252, False), (241, False), (60, False), (516, False), (None, False)],
)
def test_only_what_may_be_a_rows_fault_is_looked_for_in_halves(code: int | None, helps: bool) -> None:
    """Bad data, and errors that nobody knows; not a server that is full, out of memory, or does not know us."""
    error = RetryLater("")
    error.__cause__ = DatabaseError("", code=code)
    assert may_be_one_row(error) is helps


class Inserts:
    """An insert that waits to be let through, and knows which rows are bad."""

    def __init__(self, error: Exception | None = None, bad: frozenset[int] = frozenset()) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._error, self._bad = error, bad

    async def __call__(self, rows: Sequence[int]) -> None:
        """Insert the rows."""
        self.batches.append(list(rows))
        await self.gate.wait()
        if self._error is not None and (not self._bad or self._bad & set(rows)):
            raise self._error


def running(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario; one that hangs fails."""

    async def limited() -> None:
        async with asyncio.timeout(5):
            await scenario()

    asyncio.run(limited())


def batches(inserts: Inserts, rows: int = 100, wait: timedelta = timedelta(0), divisible: bool = True) -> Batches[int]:
    """Batches of numbers into `inserts`."""
    return Batches(inserts, rows=rows, wait=wait, divisible=lambda _: divisible)


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_row_goes_at_once_when_idle_and_with_others_under_load() -> None:
    """While one insert is under way the next rows gather, and go together."""

    async def scenario() -> None:
        inserts = Inserts()
        inserts.gate.clear()
        many = batches(inserts)
        adding = [asyncio.create_task(many.add(row)) for row in range(5)]
        adding.insert(0, asyncio.create_task(many.add(99)))
        await settled()
        later = [asyncio.create_task(many.add(row)) for row in (5, 6)]
        inserts.gate.set()
        await asyncio.gather(*adding, *later)
        assert sorted(row for batch in inserts.batches for row in batch) == [0, 1, 2, 3, 4, 5, 6, 99]
        assert inserts.batches[-1] == [5, 6]
        assert len(inserts.batches) == 2

    running(scenario)


def test_after_an_insert_rows_wait_for_company_until_there_are_enough() -> None:
    """With a wait of an hour only a full batch goes; no more rows than allowed go together."""

    async def scenario() -> None:
        inserts = Inserts()
        many = batches(inserts, rows=3, wait=AN_HOUR)
        await many.add(0)
        waiting = [asyncio.create_task(many.add(row)) for row in (1, 2)]
        await settled()
        assert inserts.batches == [[0]]
        waiting.append(asyncio.create_task(many.add(3)))
        await asyncio.gather(*waiting)
        assert inserts.batches == [[0], [1, 2, 3]]

    running(scenario)


def test_the_end_of_a_worker_does_not_wait_for_company() -> None:
    """drain() inserts what waits."""

    async def scenario() -> None:
        inserts = Inserts()
        many = batches(inserts, wait=AN_HOUR)
        await many.add(0)
        waiting = asyncio.create_task(many.add(1))
        await settled()
        await many.drain()
        await waiting
        assert inserts.batches == [[0], [1]]

    running(scenario)


def test_a_caller_that_gives_up_takes_its_row_out() -> None:
    """A cancelled attempt that still waits for its batch has no effect."""

    async def scenario() -> None:
        inserts = Inserts()
        many = batches(inserts, wait=AN_HOUR)
        await many.add(0)
        given_up, waiting = (asyncio.create_task(many.add(row)) for row in (1, 2))
        await settled()
        given_up.cancel()
        await settled()
        await many.drain()
        await waiting
        assert inserts.batches == [[0], [2]]

    running(scenario)


def test_bad_rows_fail_alone() -> None:
    """Of a hundred rows the two bad ones get the error, the others are inserted."""

    async def scenario() -> None:
        inserts = Inserts(StepFailed("no"), bad=frozenset({17, 64}))
        many = batches(inserts)
        results = await asyncio.gather(*(many.add(row) for row in range(100)), return_exceptions=True)
        assert [row for row, result in enumerate(results) if result is not None] == [17, 64]
        assert all(isinstance(results[row], StepFailed) for row in (17, 64))
        assert len(inserts.batches) < 40

    running(scenario)


def test_an_error_of_the_server_is_every_rows_error_at_once() -> None:
    """A server in trouble is not asked again for each half of the batch."""

    async def scenario() -> None:
        inserts = Inserts(RetryLater("too many parts"))
        many = batches(inserts, divisible=False)
        results = await asyncio.gather(*(many.add(row) for row in range(50)), return_exceptions=True)
        assert all(isinstance(result, RetryLater) for result in results)
        assert len(inserts.batches) == 1

    running(scenario)


def test_the_next_rows_go_on_after_an_error() -> None:
    """An insert that failed does not stop the batches."""

    async def scenario() -> None:
        inserts = Inserts(StepFailed("no"), bad=frozenset({1}))
        many = batches(inserts)
        with pytest.raises(StepFailed):
            await many.add(1)
        await many.add(2)
        assert inserts.batches == [[1], [2]]

    running(scenario)
