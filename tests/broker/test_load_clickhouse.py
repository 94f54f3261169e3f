"""`load` on a real ClickHouse engine: what users see in the view, whatever the order in which writes arrive."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.client import Client

from processors.errors import RetryLater, StepFailed
from processors.step import StepCall
from processors.steps.load import Load
from processors.testing import MemoryHost, open_step, step_call
from tests.providers import ClickHouseAddress

PRODUCT = {"url": "https://shop.example/1", "title": "Lamp", "price": {"amount": "12.99", "currency": "EUR"}}
EVERYTHING = json.dumps(
    {
        "type": "record",
        "name": "Everything",
        "fields": [
            {"name": "flag", "type": "boolean"},
            {"name": "small", "type": "int"},
            {"name": "big", "type": "long"},
            {"name": "real", "type": "double"},
            {"name": "raw", "type": "bytes"},
            {"name": "mark", "type": {"type": "fixed", "name": "Mark", "size": 2}},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
            {"name": "exact", "type": {"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 6}},
            {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "day", "type": {"type": "int", "logicalType": "date"}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "maybe", "type": ["null", "long"]},
            {"name": "many", "type": {"type": "array", "items": ["null", "string"]}},
            {"name": "keyed", "type": {"type": "map", "values": "double"}},
            {
                "name": "inner",
                "type": ["null", {"type": "record", "name": "I", "fields": [{"name": "x", "type": "int"}]}],
            },
            {"name": "inners", "type": {"type": "array", "items": "I"}},
        ],
    }
)


@dataclass(frozen=True, slots=True)
class ClickHouse:
    """The engine as a user and as an administrator sees it."""

    address: ClickHouseAddress
    sql: Client

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Answer a query."""
        return [tuple(row) for row in self.sql.query(query).result_rows]

    @property
    def _login(self) -> tuple[str, str]:
        return self.address.user, self.address.password

    def misbehave(self, mode: str, count: int | None = None) -> None:
        """Commit a fault; a test that needs one is skipped where the engine can't be told to."""
        if not self.address.has_faults:
            pytest.skip("only the embedded engine misbehaves when told to")
        fault = {"mode": mode, "count": count}
        httpx.post(f"{self.address.url}/_faults", json=fault, auth=self._login).raise_for_status()

    def hanging(self) -> int:
        """How many requests hang now."""
        return int(httpx.get(f"{self.address.url}/_faults", auth=self._login).json()["hanging"])


@pytest.fixture(scope="module")
def clickhouse(clickhouse_address: ClickHouseAddress) -> Iterator[ClickHouse]:
    """A database of this module's own; each test has tables of its own in it."""
    database = f"load_{uuid4().hex[:8]}"
    with connected(clickhouse_address) as sql:
        sql.command(f"CREATE DATABASE {database}")
    own = replace(clickhouse_address, database=database)
    with connected(own) as sql:
        yield ClickHouse(own, sql)


@contextmanager
def connected(address: ClickHouseAddress) -> Iterator[Client]:
    """A client of the engine."""
    sql = clickhouse_connect.get_client(
        dsn=address.url, username=address.user, password=address.password, database=address.database
    )
    try:
        yield sql
    finally:
        sql.close()


def loading(address: ClickHouseAddress, table: str, **params: Any) -> AbstractAsyncContextManager[Load]:
    """An open step that loads into the table."""
    host = MemoryHost(settings=address.settings)
    return open_step(Load, {"table": table, **params}, name="load", host=host)


def call(job_id: str, seq: int, *, confirms: bool = False, schema: str = "product", **record: Any) -> StepCall:
    """A command of the step for a job."""
    return step_call(
        "load",
        job_id=job_id,
        pipeline="shop-prices",
        seq=seq,
        timeout=timedelta(seconds=10),
        record=record if schema != "product" else {**PRODUCT, **record},
        record_schema=schema,
        confirms=confirms,
    )


def running(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario; one that hangs fails."""

    async def limited() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(limited())


def schema(*fields: dict[str, Any]) -> str:
    """A record schema of these fields, as a plan pins it."""
    return json.dumps({"type": "record", "name": "T", "fields": list(fields)})


def test_every_type_arrives_as_it_was(clickhouse: ClickHouse) -> None:
    """A record of all types is in the view with its values, nulls and empty values kept apart."""

    async def scenario() -> None:
        async with loading(clickhouse.address, "everything") as load:
            await load.run(
                call(
                    "a",
                    1,
                    schema=EVERYTHING,
                    flag=True,
                    small=-1,
                    big=2**62,
                    real=0.5,
                    raw="AP8=",
                    mark="AAE=",
                    kind="B",
                    exact="123456789012345678901234567890.123456",
                    id="00000000-0000-0000-0000-000000000001",
                    day="2024-05-06",
                    at="2024-05-06T07:08:09.123+02:00",
                    maybe=None,
                    many=[None, "x"],
                    keyed={"a": 1.5},
                    inner=None,
                    inners=[{"x": 1}],
                )
            )

    running(scenario)
    [row] = clickhouse.rows(
        "SELECT flag, small, big, real, hex(raw), hex(mark), kind, toString(exact), toString(id), toString(day), "
        "toString(at), maybe, many, toString(keyed), inner_x, toString(inners), pipeline, run, url FROM everything_live"
    )
    assert row == (
        *(True, -1, 2**62, 0.5, "00FF", "0001", "B", "123456789012345678901234567890.123456"),
        *("00000000-0000-0000-0000-000000000001", "2024-05-06", "2024-05-06 05:08:09.123", None),
        *([None, "x"], "{'a':1.5}", None, "[(1)]", "shop-prices", 1, "https://shop.example/1"),
    )


def test_an_insert_that_arrives_after_the_delete_marker_stays_invisible(clickhouse: ClickHouse) -> None:
    """An insert hangs on its way, the step gives up and is compensated, then the insert is carried out after all."""

    async def scenario() -> None:
        async with loading(clickhouse.address, "late") as load:
            await load.run(call("other", 1))
            clickhouse.misbehave("hang", 1)
            attempt = asyncio.create_task(load.run(call("a", 1)))
            while not await asyncio.to_thread(clickhouse.hanging):
                await asyncio.sleep(0)
            attempt.cancel()
            await load.compensate(call("a", 2))
            assert clickhouse.rows("SELECT count() FROM late WHERE job_id = 'a'") == [(1,)]
            clickhouse.misbehave("ok")

    running(scenario)
    assert clickhouse.rows("SELECT _version, _deleted FROM late WHERE job_id = 'a' ORDER BY _version") == [
        (1, 0),
        (2, 1),
    ]
    assert clickhouse.rows("SELECT job_id FROM late_live") == [("other",)]


def test_a_compensation_that_comes_first_holds_against_the_insert(clickhouse: ClickHouse) -> None:
    """The marker makes the table if it must; the row that it is about may come later."""

    async def scenario() -> None:
        async with loading(clickhouse.address, "early") as load:
            await load.compensate(call("a", 2))
            await load.compensate(call("a", 3))
            await load.run(call("a", 1))

    running(scenario)
    assert clickhouse.rows("SELECT count() FROM early_live") == [(0,)]


def test_a_row_that_is_loaded_again_is_visible_again(clickhouse: ClickHouse) -> None:
    """Load, compensate, load the same values with a higher seq: no deduplication swallows it."""

    async def scenario() -> None:
        async with loading(clickhouse.address, "again") as load:
            for seq in (1, 3):
                await load.run(call("a", seq))
                assert clickhouse.rows("SELECT job_id, price_amount FROM again_live")[0][0] == "a"
                await load.compensate(call("a", seq + 1))
                assert clickhouse.rows("SELECT count() FROM again_live") == [(0,)]
            await load.run(call("a", 5))

    running(scenario)
    assert clickhouse.rows("SELECT job_id, title FROM again_live") == [("a", "Lamp")]


def test_a_pending_row_is_invisible_until_it_is_confirmed(clickhouse: ClickHouse) -> None:
    """Readers see a row once its saga is complete, with what later steps have added; a repeat of run hides nothing."""

    async def scenario() -> None:
        async with loading(clickhouse.address, "pending") as load:
            await load.run(call("a", 4, confirms=True))
            await load.run(call("b", 4, confirms=True))
            assert clickhouse.rows("SELECT count() FROM pending_live") == [(0,)]
            await load.confirm(call("a", 6, confirms=True, label="lighting"))
            await load.run(call("a", 4, confirms=True))
            await load.compensate(call("b", 7, confirms=True))

    running(scenario)
    assert clickhouse.rows("SELECT job_id, label FROM pending_live") == [("a", "lighting")]


def test_a_bad_row_among_a_hundred_fails_alone(clickhouse: ClickHouse) -> None:
    """A row that ClickHouse refuses fails its own job, for good; its neighbours in the batch are visible."""

    async def scenario() -> None:
        async with loading(clickhouse.address, "bad") as load:
            await load.run(call("first", 1))
            # Behind the worker's back. A CHECK constraint would do as well, but chDB's streamed inserts pass over those.
            clickhouse.sql.command("ALTER TABLE bad MODIFY COLUMN title FixedString(7)")
            calls = [call(f"job-{n}", 1, title=f"Lamp {n}" if n != 42 else "Much too long") for n in range(100)]
            results = await asyncio.gather(*map(load.run, calls), return_exceptions=True)
            failed = [n for n, result in enumerate(results) if isinstance(result, BaseException)]
            assert failed == [42]
            assert isinstance(results[42], StepFailed)
            assert "TOO_LARGE_STRING_SIZE" in str(results[42])

    running(scenario)
    assert clickhouse.rows("SELECT count() FROM bad_live") == [(100,)]
    assert clickhouse.rows("SELECT count() FROM bad_live WHERE job_id = 'job-42'") == [(0,)]


def test_a_record_that_does_not_fit_its_schema_never_reaches_the_batch(clickhouse: ClickHouse) -> None:
    """The error names the field."""

    async def scenario() -> None:
        async with loading(clickhouse.address, "unfit") as load:
            with pytest.raises(StepFailed, match=r"price\.amount: 'a lot' is not a number"):
                await load.run(call("a", 1, price={"amount": "a lot", "currency": None}))

    running(scenario)


def test_concurrent_jobs_share_inserts(clickhouse: ClickHouse) -> None:
    """Five hundred jobs at once make a handful of inserts, not five hundred."""

    async def scenario() -> None:
        async with loading(clickhouse.address, "shared") as load:
            await load.run(call("first", 1))
            await asyncio.gather(*(load.run(call(f"job-{n}", 1)) for n in range(500)))

    running(scenario)
    assert clickhouse.rows("SELECT count() FROM shared_live") == [(501,)]
    # Each insert makes a part with a number of its own, which merges keep.
    [(inserts,)] = clickhouse.rows("SELECT max(max_block_number) FROM system.parts WHERE table = 'shared'")
    assert inserts <= 4


def test_a_new_field_becomes_a_column_of_table_and_view(clickhouse: ClickHouse) -> None:
    """Sagas with the old schema and the new one load side by side; old rows have the new column's null."""
    old = schema({"name": "title", "type": "string"})
    new = schema({"name": "title", "type": "string"}, {"name": "brand", "type": ["null", "string"], "default": None})

    async def scenario() -> None:
        async with loading(clickhouse.address, "grown") as load:
            await load.run(call("a", 1, schema=old, title="A"))
            await load.run(call("b", 1, schema=new, title="B", brand="X"))
            await load.run(call("c", 1, schema=old, title="C"))
        async with loading(clickhouse.address, "grown") as restarted:
            await restarted.run(call("d", 1, schema=old, title="D"))

    running(scenario)
    expected = [("a", "A", None), ("b", "B", "X"), ("c", "C", None), ("d", "D", None)]
    assert clickhouse.rows("SELECT job_id, title, brand FROM grown_live ORDER BY job_id") == expected


def test_a_wider_column_takes_a_narrower_value(clickhouse: ClickHouse) -> None:
    """A column that an administrator has widened is used as it is."""
    narrow = schema({"name": "n", "type": "int"}, {"name": "s", "type": ["null", "string"]})

    async def scenario() -> None:
        async with loading(clickhouse.address, "wider") as load:
            await load.run(call("a", 1, schema=narrow, n=1, s=None))
        clickhouse.sql.command("ALTER TABLE wider MODIFY COLUMN n Nullable(Int64)")
        clickhouse.sql.command("ALTER TABLE wider MODIFY COLUMN s LowCardinality(Nullable(String))")
        async with loading(clickhouse.address, "wider") as load:
            await load.run(call("b", 1, schema=narrow, n=2, s="x"))

    running(scenario)
    assert clickhouse.rows("SELECT n, s FROM wider_live ORDER BY n") == [(1, None), (2, "x")]


def test_a_column_of_another_type_fails_the_load_but_not_its_compensation(clickhouse: ClickHouse) -> None:
    """The error holds the repair, which works; rows of before can be taken back meanwhile."""
    old, new = schema({"name": "n", "type": "string"}), schema({"name": "n", "type": ["null", "long"]})

    async def scenario() -> None:
        async with loading(clickhouse.address, "other_type") as load:
            await load.run(call("a", 1, schema=old, n="1"))
            with pytest.raises(StepFailed, match="is String, but the record needs") as caught:
                await load.run(call("b", 1, schema=new, n=2))
            await load.compensate(call("b", 2, schema=new))
            repair = str(caught.value).partition("run ")[2].partition(", or")[0]
            clickhouse.sql.command(repair)
            await load.run(call("b", 3, schema=new, n=2))

    running(scenario)
    assert clickhouse.rows("SELECT job_id, n FROM other_type_live ORDER BY n") == [("a", 1), ("b", 2)]


def test_a_table_that_cannot_take_back_rows_is_refused(clickhouse: ClickHouse) -> None:
    """Nothing is written into a plain MergeTree table of that name."""
    clickhouse.sql.command("CREATE TABLE plain (job_id String) ENGINE = MergeTree ORDER BY job_id")

    async def scenario() -> None:
        async with loading(clickhouse.address, "plain") as load:
            with pytest.raises(StepFailed, match="cannot take back a row"):
                await load.run(call("a", 1))

    running(scenario)
    assert clickhouse.rows("SELECT count() FROM plain") == [(0,)]


def test_a_table_that_was_dropped_is_made_again(clickhouse: ClickHouse) -> None:
    """The attempt that finds it gone is to be repeated, and then works."""

    async def scenario() -> None:
        async with loading(clickhouse.address, "dropped") as load:
            await load.run(call("a", 1))
            clickhouse.sql.command("DROP TABLE dropped")
            with pytest.raises(RetryLater, match="UNKNOWN_TABLE"):
                await load.run(call("b", 1))
            await load.run(call("b", 1))

    running(scenario)
    assert clickhouse.rows("SELECT job_id FROM dropped_live") == [("b",)]


def test_a_missing_database_is_named(clickhouse: ClickHouse) -> None:
    """The attempt is to be repeated, for the operator to make the database meanwhile."""

    async def scenario() -> None:
        async with loading(clickhouse.address, "anywhere", database="nowhere") as load:
            with pytest.raises(RetryLater, match="nowhere"):
                await load.run(call("a", 1))
            clickhouse.sql.command("CREATE DATABASE nowhere")
            await load.run(call("a", 1))

    running(scenario)
    assert clickhouse.rows("SELECT job_id FROM nowhere.anywhere_live") == [("a",)]


def test_an_insert_without_an_answer_may_have_worked(clickhouse: ClickHouse) -> None:
    """The outcome is unknown; the next attempt leaves one row."""

    async def scenario() -> None:
        async with loading(clickhouse.address, "dropping") as load:
            await load.run(call("first", 1))
            # The driver itself tries a closed connection once more.
            clickhouse.misbehave("drop-mid-insert", 4)
            with pytest.raises(RetryLater) as caught:
                await load.run(call("a", 1))
            assert caught.value.effect_unknown
            assert clickhouse.rows("SELECT count() FROM dropping_live") == [(2,)]
            clickhouse.misbehave("ok")
            await load.run(call("a", 2))

    running(scenario)
    assert clickhouse.rows("SELECT job_id FROM dropping_live ORDER BY job_id") == [("a",), ("first",)]


def test_a_server_in_trouble_is_tried_again_later(clickhouse: ClickHouse) -> None:
    """A 503 fails for now; the connection goes on afterwards."""

    async def scenario() -> None:
        async with loading(clickhouse.address, "refusing") as load:
            clickhouse.misbehave("refuse")
            with pytest.raises(RetryLater):
                await load.run(call("a", 1))
            clickhouse.misbehave("ok")
            await load.run(call("a", 1))

    running(scenario)
    assert clickhouse.rows("SELECT count() FROM refusing_live") == [(1,)]


def test_nobody_listening_has_no_effect() -> None:
    """A refused connection says where nobody answers, and that nothing can have happened."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    async def scenario() -> None:
        async with loading(ClickHouseAddress(url), "nobody") as load:
            with pytest.raises(RetryLater, match="SCRAPESAGA_CLICKHOUSE_URL") as caught:
                await load.run(call("a", 1))
            assert not caught.value.effect_unknown

    running(scenario)


def test_users_keep_a_view_of_their_own(clickhouse: ClickHouse) -> None:
    """A view without our comment is never replaced, even when the table grows."""
    clickhouse.sql.command("CREATE VIEW mine_live AS SELECT 1 AS one")

    async def scenario() -> None:
        async with loading(clickhouse.address, "mine") as load:
            await load.run(call("a", 1))

    running(scenario)
    assert clickhouse.rows("SELECT * FROM mine_live") == [(1,)]
    assert clickhouse.rows("SELECT job_id FROM mine FINAL") == [("a",)]
