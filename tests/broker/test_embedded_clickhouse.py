"""The embedded ClickHouse: a real engine, asked by the real client, that loses nothing it acknowledged."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from processors.local.clickhouse import EmbeddedClickHouse
from processors.local.errors import DataDirInUse, LocalError, StartFailed

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouse]:
    with EmbeddedClickHouse(tmp_path_factory.mktemp("clickhouse"), faults=True) as running:
        yield running


@pytest.fixture
def client(engine: EmbeddedClickHouse) -> Iterator[Client]:
    """A client in a database of its own, with no fault in force."""
    database = f"test_{time.monotonic_ns()}"
    connect(engine).command(f"CREATE DATABASE {database}")
    yield connect(engine, database=database)
    commit_fault(engine, "ok")


def connect(engine: EmbeddedClickHouse, **options: Any) -> Client:
    return clickhouse_connect.get_client(
        host="127.0.0.1", port=engine.port, username=engine.user, password=engine.password, **options
    )


def ask(engine: EmbeddedClickHouse, path: str, body: bytes | None = None, **headers: str) -> urllib.request.Request:
    """A request of somebody who knows the password."""
    login = {"X-ClickHouse-User": engine.user, "X-ClickHouse-Key": engine.password}
    return urllib.request.Request(f"{engine.url}{path}", data=body, headers={**login, **headers})


def commit_fault(engine: EmbeddedClickHouse, mode: str, count: int | None = None) -> None:
    body = json.dumps({"mode": mode, "count": count}).encode()
    with urllib.request.urlopen(ask(engine, "/_faults", body), timeout=5) as answer:
        assert answer.status == 200


def hanging(engine: EmbeddedClickHouse) -> int:
    with urllib.request.urlopen(ask(engine, "/_faults"), timeout=5) as answer:
        return int(json.load(answer)["hanging"])


def wait_for(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what} took over {seconds} s"
        time.sleep(0.02)


def test_the_types_of_a_record_round_trip(client: Client) -> None:
    """What goes in through Native comes out unchanged, nulls, zones and dictionaries included."""
    client.command(
        "CREATE TABLE record (id String, price Nullable(Decimal(18, 4)), shop LowCardinality(String), "
        "tags Array(String), seen DateTime64(3, 'UTC'), note LowCardinality(Nullable(String))) "
        "ENGINE = MergeTree ORDER BY id"
    )
    seen = datetime(2026, 2, 28, 23, 59, 59, 123000, tzinfo=UTC)
    rows: list[list[Any]] = [
        ["a", Decimal("1234567.8901"), "ÿ shop", ["x", "tab\tnew\nline"], seen, None],
        ["b", None, "", [], seen, "n"],
    ]
    client.insert("record", rows, column_names=["id", "price", "shop", "tags", "seen", "note"])
    result = client.query("SELECT * FROM record ORDER BY id")
    # The client hands out UTC without a zone.
    assert [list(row) for row in result.result_rows] == [[*row[:4], seen.replace(tzinfo=None), row[5]] for row in rows]
    assert [type_.name for type_ in result.column_types][2:] == [
        "LowCardinality(String)",
        "Array(String)",
        "DateTime64(3, 'UTC')",
        "LowCardinality(Nullable(String))",
    ]


def test_a_higher_version_deletes_behind_a_final_view(client: Client) -> None:
    """A delete marker wins over the row and over a late write of a lower version."""
    client.command(
        "CREATE TABLE raw (id String, v UInt8, _version UInt64, is_deleted UInt8) "
        "ENGINE = ReplacingMergeTree(_version, is_deleted) ORDER BY id"
    )
    client.command("CREATE VIEW current AS SELECT id, v FROM raw FINAL")
    names = ["id", "v", "_version", "is_deleted"]
    client.insert("raw", [["kept", 1, 1, 0], ["gone", 1, 1, 0]], column_names=names)
    client.insert("raw", [["gone", 1, 5, 1], ["kept", 2, 2, 0]], column_names=names)
    client.insert("raw", [["gone", 9, 4, 0]], column_names=names)
    assert client.query("SELECT * FROM current").result_rows == [("kept", 2)]


@pytest.mark.parametrize("compress", [False, "gzip", "zstd", "lz4"])
def test_every_compression_carries_an_insert_and_a_result(
    client: Client, engine: EmbeddedClickHouse, compress: str
) -> None:
    """Blocks of several frames arrive whole, and the answer is in the encoding that was asked for."""
    packed = connect(engine, compress=compress, database=client.database)
    client.command("CREATE TABLE many (n UInt32, s String) ENGINE = MergeTree ORDER BY n")
    rows = [[n, f"value {n}"] for n in range(200_000)]
    assert packed.insert("many", rows, column_names=["n", "s"]).written_rows == len(rows)
    assert packed.query("SELECT sum(n), uniqExact(s) FROM many").result_rows == [(sum(range(200_000)), 200_000)]
    assert packed.query("SELECT * FROM many ORDER BY n").result_rows == [tuple(row) for row in rows]


def test_the_answer_is_compressed_as_asked(engine: EmbeddedClickHouse) -> None:
    """A client that accepts zstd gets zstd; one that accepts nothing gets plain bytes."""
    path = "/?enable_http_compression=1&query=SELECT+1"
    with urllib.request.urlopen(ask(engine, path, None, **{"Accept-Encoding": "zstd"}), timeout=5) as answer:
        assert answer.headers["Content-Encoding"] == "zstd"
    with urllib.request.urlopen(ask(engine, path), timeout=5) as answer:
        assert (answer.headers["Content-Encoding"], answer.read()) == (None, b"1\n")


@pytest.mark.parametrize("form", [False, True])
def test_parameters_are_bound_and_not_pasted(engine: EmbeddedClickHouse, form: bool) -> None:
    """A value with quotes, tabs and a statement in it stays a value, in the URL as in a form."""
    asking = connect(engine, form_encode_query_params=form)
    value = "it's \t '; DROP TABLE x; \\ ü"
    assert asking.query("SELECT {v:String}, {n:UInt8} + 1", parameters={"v": value, "n": 41}).result_rows == [
        (value, 42)
    ]


def test_an_error_has_the_server_s_code(client: Client) -> None:
    """A refused statement raises with ClickHouse's number and name."""
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE") as refused:
        client.query("SELECT * FROM nowhere")
    assert refused.value.code == 60
    with pytest.raises(DatabaseError, match="UNKNOWN_DATABASE"):
        client.query("SELECT 1", settings={"database": "nowhere"})
    with pytest.raises(DatabaseError, match="SYNTAX_ERROR"):
        client.command("SELEKT 1")


def test_a_malformed_insert_writes_nothing(client: Client) -> None:
    """An insert whose data cannot be read is refused as a whole, and the session goes on."""
    client.command("CREATE TABLE numbers (n UInt32) ENGINE = MergeTree ORDER BY n")
    with pytest.raises(DatabaseError, match="CANNOT_PARSE"):
        client.raw_insert("numbers", ["n"], "1\nnot a number\n", fmt="TabSeparated")
    assert client.command("SELECT count() FROM numbers") == 0


@pytest.mark.parametrize("session", [True, False])
def test_settings_hold_for_one_request(engine: EmbeddedClickHouse, session: bool) -> None:
    """A setting of one request is not there in the next, and an unknown one is refused by name."""
    asking = connect(engine, autogenerate_session_id=session)
    setting = "SELECT value FROM system.settings WHERE name = 'max_result_rows'"
    assert asking.command(setting, settings={"max_result_rows": 7}) == 7
    assert asking.command(setting) == 0
    with urllib.request.urlopen(ask(engine, "/?query=SELECT+1&max_threads=1"), timeout=5) as answer:
        assert answer.read() == b"1\n"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(ask(engine, "/?query=SELECT+1&no_such_setting=1"), timeout=5)


def test_a_session_keeps_what_it_set(engine: EmbeddedClickHouse) -> None:
    """SET and temporary tables live in their session and nowhere else."""
    one, other = connect(engine), connect(engine)
    setting = "SELECT value FROM system.settings WHERE name = 'max_result_rows'"
    one.command("SET max_result_rows = 11")
    one.command("CREATE TEMPORARY TABLE mine (n UInt8)")
    assert one.command(setting, settings={"max_result_rows": 7}) == 7
    assert one.command(setting) == 11
    assert other.command(setting) == 0
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        other.command("SELECT count() FROM mine")


def test_concurrent_inserts_are_all_there(client: Client, engine: EmbeddedClickHouse) -> None:
    """Clients in several threads write and read at the same time without losing a row."""
    client.command("CREATE TABLE shared (n UInt32) ENGINE = MergeTree ORDER BY n")

    def write(worker: int) -> None:
        own = connect(engine, database=client.database)
        for n in range(10):
            own.insert("shared", [[worker * 10 + n]], column_names=["n"])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    assert client.query("SELECT n FROM shared ORDER BY n").result_columns == [list(range(60))]


def test_the_async_client_works(client: Client, engine: EmbeddedClickHouse) -> None:
    """The asyncio client inserts, binds, and runs queries at once."""

    async def talk() -> tuple[bool, int, list[int]]:
        asking = await clickhouse_connect.get_async_client(
            host="127.0.0.1",
            port=engine.port,
            username=engine.user,
            password=engine.password,
            database=client.database,
        )
        await asking.command("CREATE TABLE words (w String) ENGINE = MergeTree ORDER BY w")
        await asking.insert("words", [["a"], ["b"]], column_names=["w"])
        count = await asking.query("SELECT count() FROM words WHERE w = {w:String}", parameters={"w": "a"})
        several = await asyncio.gather(*(asking.query("SELECT {n:UInt8}", parameters={"n": n}) for n in range(6)))
        alive = await asking.ping()
        await asking.close()
        return alive, count.result_rows[0][0], [result.result_rows[0][0] for result in several]

    assert asyncio.run(talk()) == (True, 1, list(range(6)))


def test_acknowledged_rows_survive_a_kill(tmp_path: Path) -> None:
    """Whatever an insert reported before a SIGKILL is there after it, at the same address."""
    killed = EmbeddedClickHouse(tmp_path)
    killed.start()
    client = connect(killed)
    client.command("CREATE TABLE kept (n UInt32) ENGINE = MergeTree ORDER BY n")
    acknowledged = 0

    def write() -> None:
        nonlocal acknowledged
        for n in range(10_000):
            client.insert("kept", [[n]], column_names=["n"])
            acknowledged = n + 1

    writing = ThreadPoolExecutor(1).submit(write)
    try:
        wait_for(lambda: acknowledged >= 20, seconds=20, what="twenty inserts")
    finally:
        killed.kill()
    assert writing.exception(20) is not None
    with EmbeddedClickHouse(tmp_path) as revived:
        assert revived.url == killed.url
        rows = [n for (n,) in connect(revived).query("SELECT n FROM kept ORDER BY n").result_rows]
    # One more than was acknowledged may be there: applied, and killed before the answer.
    assert rows in (list(range(acknowledged)), list(range(acknowledged + 1)))


def test_a_stop_is_quick_with_clients_connected(tmp_path: Path) -> None:
    """Open connections and a running query do not hold a stop up."""
    engine = EmbeddedClickHouse(tmp_path)
    engine.start()
    client = connect(engine)
    query = ThreadPoolExecutor(1).submit(client.query, "SELECT sleep(3)")
    other = connect(engine)
    running = "SELECT 1 FROM system.processes WHERE query LIKE 'SELECT sleep%'"
    wait_for(lambda: len(other.query(running).result_rows) == 1, seconds=5, what="the query's start")
    began = time.monotonic()
    engine.stop()
    assert time.monotonic() - began < 2
    assert isinstance(query.exception(10), OperationalError)


def test_a_folder_in_use_is_refused(engine: EmbeddedClickHouse) -> None:
    """A second engine on the same folder is told which process has it."""
    with pytest.raises(DataDirInUse, match=f"in use by process {engine.pid}"):
        EmbeddedClickHouse(engine.log_path.parent).start()


def test_a_start_that_fails_shows_the_reason(tmp_path: Path) -> None:
    """An engine that cannot open its folder ends in one error with its own words."""
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(StartFailed, match=r"ended with status 1"):
        EmbeddedClickHouse(tmp_path).start()
    with pytest.raises(LocalError, match=r"call start\(\) first"):
        _ = EmbeddedClickHouse(tmp_path).url


def test_refusals_are_counted(client: Client, engine: EmbeddedClickHouse) -> None:
    """A refused request does nothing, and after `count` of them all is well."""
    client.command("CREATE TABLE refused (n UInt8) ENGINE = MergeTree ORDER BY n")
    commit_fault(engine, "refuse", 2)
    for _ in range(2):
        with pytest.raises(DatabaseError, match="503"):
            client.command("INSERT INTO refused VALUES (1)")
    client.command("INSERT INTO refused VALUES (2)")
    assert client.query("SELECT n FROM refused").result_rows == [(2,)]


def test_a_dropped_insert_was_applied(client: Client, engine: EmbeddedClickHouse) -> None:
    """The client of a dropped insert sees a broken connection, though its row is there; reads are left alone."""
    client.command("CREATE TABLE dropped (n UInt8) ENGINE = MergeTree ORDER BY n")
    commit_fault(engine, "drop-mid-insert", 1)
    assert client.command("SELECT count() FROM dropped") == 0
    with pytest.raises(OperationalError):
        client.command("INSERT INTO dropped VALUES (1)")
    assert client.command("SELECT count() FROM dropped") == 1


def test_a_hanging_insert_is_a_late_write(client: Client, engine: EmbeddedClickHouse) -> None:
    """A client that gave up on a hanging request finds its row there once the engine goes on."""
    client.command("CREATE TABLE late (n UInt8) ENGINE = MergeTree ORDER BY n")
    hasty = connect(engine, database=client.database, send_receive_timeout=1)
    commit_fault(engine, "hang", 1)
    with pytest.raises(OperationalError):
        hasty.command("INSERT INTO late VALUES (1)")
    assert hanging(engine) == 1
    assert client.command("SELECT count() FROM late") == 0
    commit_fault(engine, "ok")
    wait_for(lambda: client.command("SELECT count() FROM late") == 1, seconds=5, what="the late write")


def test_a_bad_fault_is_refused(engine: EmbeddedClickHouse) -> None:
    """An unknown mode is a 400 that lists the modes."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        commit_fault(engine, "explode")
    assert refused.value.code == 400
    assert b"drop-mid-insert" in refused.value.read()


def test_faults_are_off_by_default(tmp_path: Path) -> None:
    """Without the switch there is no such page."""
    with EmbeddedClickHouse(tmp_path) as engine, pytest.raises(urllib.error.HTTPError, match="404"):
        commit_fault(engine, "refuse")
