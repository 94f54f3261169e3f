"""The embedded ClickHouse among strangers: other users, web pages, and statements that would leave the engine."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from processors.local.chdb_rights import write_rights
from processors.local.clickhouse import EmbeddedClickHouse
from processors.local.confine import landlock_version

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

CANARY = "canary-of-the-operator"

# Every way out that the engine's library has, by what it leads to.
WAYS_OUT = {
    "file function": "SELECT file('{secret}')",
    "file table": "SELECT * FROM file('{secret}', 'LineAsString')",
    "quoted path": "SELECT * FROM '{secret}'",
    "path as table": "SELECT * FROM `{secret}`",
    "path as table of default": "SELECT * FROM default.`{secret}`",
    "file engine": "CREATE TABLE t (a String) ENGINE = File(LineAsString, '{secret}')",
    "file write": "INSERT INTO FUNCTION file('{out}', 'TSV', 'a String') VALUES ('x')",
    "file system": "SELECT * FROM filesystem('{folder}')",
    "database of files": "CREATE DATABASE d ENGINE = Filesystem('{folder}')",
    "overlay of files": "CREATE DATABASE d ENGINE = Overlay('default')",
    "outfile": "SELECT 1 INTO OUTFILE '{out}'",
    "infile": "INSERT INTO kept FROM INFILE '{secret}' FORMAT LineAsString",
    "template": "SELECT 1 AS a FORMAT Template SETTINGS format_template_row = '{secret}'",
    "template of a set": "SELECT 1 AS a FORMAT Template SETTINGS format_template_resultset = '{secret}'",
    "schema": "SELECT 1 AS a FORMAT Protobuf SETTINGS format_schema = '{secret}:M'",
    "error file": "SELECT * FROM format(TSV, 'a UInt8', 'x') SETTINGS input_format_record_errors_file_path = '{out}'",
    "disk": "CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local, path = '{out}/')",
    "attach": "ATTACH TABLE t FROM '{folder}/' (a String) ENGINE = MergeTree ORDER BY a",
    "backup": "BACKUP TABLE kept TO File('{out}')",
    "dictionary": "CREATE DICTIONARY d (k UInt64) PRIMARY KEY k SOURCE(FILE(path '{secret}' format 'TSV')) "
    "LAYOUT(FLAT()) LIFETIME(0)",
    "log of files": "CREATE TABLE t (a String) ENGINE = FileLog('{secret}', 'LineAsString')",
    "sqlite": "SELECT * FROM sqlite('{secret}', 't')",
    "iceberg": "SELECT * FROM icebergLocal('{folder}')",
    "delta lake": "SELECT * FROM deltaLakeLocal('{folder}')",
    "url": "SELECT * FROM url('http://127.0.0.1:{port}/', 'LineAsString')",
    "url engine": "CREATE TABLE t (a String) ENGINE = URL('http://127.0.0.1:{port}/', 'LineAsString')",
    "registry": "SELECT 1 SETTINGS format_avro_schema_registry_url = 'http://127.0.0.1:{port}/'",
    "s3": "SELECT * FROM s3('http://127.0.0.1:{port}/bucket/key', 'LineAsString')",
    "s3 engine": "CREATE TABLE t (a String) ENGINE = S3('http://127.0.0.1:{port}/bucket/key', 'LineAsString')",
    "s3 queue": "CREATE TABLE t (a String) ENGINE = S3Queue('http://127.0.0.1:{port}/bucket/key', 'LineAsString')",
    "azure": "SELECT * FROM azureBlobStorage('http://127.0.0.1:{port}/', 'c', 'b', 'n', 'a2V5')",
    "hdfs": "SELECT * FROM hdfs('hdfs://127.0.0.1:{port}/x', 'TSV', 'a String')",
    "remote": "SELECT * FROM remote('127.0.0.1:{port}', system.one)",
    "distributed": "CREATE TABLE t (a String) ENGINE = Distributed('default', 'default', 'kept')",
    "mysql": "SELECT * FROM mysql('127.0.0.1:{port}', 'a', 'b', 'c', 'd')",
    "postgresql": "SELECT * FROM postgresql('127.0.0.1:{port}', 'a', 'b', 'c', 'd')",
    "mongodb": "SELECT * FROM mongodb('127.0.0.1:{port}', 'a', 'b', 'c', 'd', 'x String')",
    "redis": "SELECT * FROM redis('127.0.0.1:{port}', 'k', 'k String')",
    "kafka": "CREATE TABLE t (a String) ENGINE = Kafka('127.0.0.1:{port}', 't', 'g', 'LineAsString')",
    "flight": "SELECT * FROM arrowflight('127.0.0.1:{port}', 'd')",
    "executable": "SELECT * FROM executable('../../bin/true', 'TSV', 'a String')",
    "executable engine": "CREATE TABLE t (a String) ENGINE = Executable('true', 'TSV')",
    "function": "CREATE FUNCTION f AS (x) -> x",
    "python": "SELECT * FROM Python(password)",
    "eval": "SELECT * FROM eval('SELECT 1') SETTINGS allow_experimental_eval_table_function = 1",
    "other language": "SELECT 1 SETTINGS dialect = 'kusto'",
    "introspection": "SELECT addressToLine(1) SETTINGS allow_introspection_functions = 1",
    "user": "CREATE USER u",
    "grant": "GRANT ALL ON *.* TO default",
    "named collection": "CREATE NAMED COLLECTION c AS a = 1",
    "system": "SYSTEM FLUSH LOGS",
}
# What the library does for everybody, or tries: the check before it refuses these, and the kernel what they lead to.
NO_RIGHT_NEEDED = frozenset({"file function", "outfile", "infile", "executable engine", "disk", "attach"})


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouse]:
    """An engine whose parent has a secret in its environment."""
    os.environ["OPERATORS_SECRET"] = CANARY
    try:
        with EmbeddedClickHouse(tmp_path_factory.mktemp("clickhouse")) as running:
            yield running
    finally:
        del os.environ["OPERATORS_SECRET"]


@pytest.fixture(scope="module")
def client(engine: EmbeddedClickHouse) -> Client:
    made = clickhouse_connect.get_client(
        host="127.0.0.1", port=engine.port, username=engine.user, password=engine.password
    )
    made.command("CREATE TABLE kept (a String) ENGINE = MergeTree ORDER BY a")
    return made


def answer(engine: EmbeddedClickHouse, method: str = "POST", path: str = "/", **headers: str) -> tuple[int, bytes]:
    """Ask SELECT 1 with exactly these headers; `_` stands for `-`."""
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Host": f"127.0.0.1:{engine.port}", "Content-Length": "8", **given}.items():
            connection.putheader(name, value)
        connection.endheaders(b"SELECT 1")
        response = connection.getresponse()
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
        return response.status, response.read()
    finally:
        connection.close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def key(engine: EmbeddedClickHouse) -> dict[str, str]:
    return {"X_ClickHouse_User": engine.user, "X_ClickHouse_Key": engine.password}


def test_whoever_knows_the_password_is_answered(engine: EmbeddedClickHouse) -> None:
    """As a header, as Basic, as parameters: all three ways of the server."""
    assert answer(engine, **key(engine)) == (200, b"1\n")
    assert answer(engine, Authorization=basic(engine.user, engine.password)) == (200, b"1\n")
    assert answer(engine, path=f"/?user={engine.user}&password={engine.password}") == (200, b"1\n")


def test_strangers_are_not(engine: EmbeddedClickHouse) -> None:
    """Without the password, or with another, nothing is carried out: 403 with ClickHouse's code; /ping says only Ok."""
    for headers in (
        {},
        {"Authorization": basic("default", "")},
        {"Authorization": basic("default", "wrong")},
        {"Authorization": basic("admin", engine.password)},
        {"Authorization": "Basic !"},
        {"X_ClickHouse_User": "default"},
        {"X_ClickHouse_User": "default", "X_ClickHouse_Key": "ü"},
    ):
        status, body = answer(engine, **headers)
        assert status == 403 and b"AUTHENTICATION_FAILED" in body, headers
        assert engine.password.encode() not in body
    assert answer(engine, path="/?user=default&password=")[0] == 403
    assert answer(engine, "GET", "/ping") == (200, b"Ok.\n")


def test_the_driver_is_told_that_the_password_is_wrong(engine: EmbeddedClickHouse) -> None:
    """As the server says it: code 516."""
    with pytest.raises(DatabaseError, match="AUTHENTICATION_FAILED") as refused:
        clickhouse_connect.get_client(host="127.0.0.1", port=engine.port, username="default", password="wrong")
    assert refused.value.code == 516


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1.nip.io:{port}", "localhost.evil:{port}", ""])
def test_a_foreign_host_is_refused(engine: EmbeddedClickHouse, host: str) -> None:
    """A page whose name leads to 127.0.0.1 gets nothing, with the password neither, and not even /ping."""
    named = host.format(port=engine.port)
    assert answer(engine, Host=named, **key(engine))[0] == 403
    assert answer(engine, "GET", "/ping", Host=named)[0] == 403
    assert answer(engine, Host=f"LOCALHOST:{engine.port}", **key(engine)) == (200, b"1\n")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:{port}", ""])
def test_a_web_page_is_refused(engine: EmbeddedClickHouse, origin: str) -> None:
    """Whatever its origin, and what a browser sends for an image of it."""
    assert answer(engine, Origin=origin.format(port=engine.port), **key(engine))[0] == 403
    assert answer(engine, "GET", "/ping", Sec_Fetch_Site="cross-site")[0] == 403


def test_a_preflight_is_refused(engine: EmbeddedClickHouse) -> None:
    """No header of the answer lets a page send more."""
    asked = {"Origin": "https://evil.example", "Access_Control_Request_Method": "POST"}
    assert answer(engine, "OPTIONS", **asked)[0] == 403
    assert answer(engine, "OPTIONS")[0] == 403


def test_a_stranger_s_body_is_not_read(engine: EmbeddedClickHouse) -> None:
    """Who isn't known is answered without holding what it sends in memory."""
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as connection:
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{engine.port}\r\nContent-Length: 1000000000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 65_536)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 403")


def test_the_folder_is_its_owner_s_alone(engine: EmbeddedClickHouse) -> None:
    """Folder 0700, password and rights 0600; the password is on no command line."""
    folder = engine.log_path.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("password", "config.xml", "users.xml"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    if sys.platform == "linux":
        assert engine.password.encode() not in Path(f"/proc/{engine.pid}/cmdline").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_environment_holds_no_secret(engine: EmbeddedClickHouse, client: Client) -> None:
    """Neither the process's own, nor what the engine's tables show of it."""
    assert CANARY.encode() not in Path(f"/proc/{engine.pid}/environ").read_bytes()
    tables = [name for (name,) in client.query("SELECT name FROM system.tables WHERE database = 'system'").result_rows]
    unread = []
    for table in tables:
        # Whatever else a statement is found in: it does not hold the canary.
        try:
            assert CANARY.encode() not in client.raw_query(f"SELECT * FROM system.`{table}` LIMIT 10000"), table
        except DatabaseError:
            unread.append(table)
    assert len(tables) - len(unread) > 50


@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_statement_does_not_leave_the_engine(client: Client, tmp_path: Path, way: str) -> None:
    """Files, addresses, programs and other databases: each is refused with ClickHouse's error, nothing is read or written."""
    with listening() as (port, strangers):
        statement = prepared(WAYS_OUT[way], tmp_path, port)
        with pytest.raises(DatabaseError) as refused:
            client.raw_query(statement)
        assert CANARY not in str(refused.value)
        assert not (tmp_path / "out").exists()
        strangers.settimeout(0)
        with pytest.raises(BlockingIOError):
            strangers.accept()
    assert client.command("SELECT count() FROM kept") == 0


def test_data_in_values_is_no_way_out(client: Client, tmp_path: Path) -> None:
    """Expressions among the rows of FORMAT Values are checked as the statement is."""
    with pytest.raises(DatabaseError, match="turned off here"):
        client.raw_insert("kept", ["a"], prepared("(file('{secret}'))", tmp_path, 1), fmt="Values")
    assert client.command("SELECT count() FROM kept") == 0


@pytest.mark.parametrize("way", sorted(WAYS_OUT.keys() - NO_RIGHT_NEEDED))
def test_the_engine_s_own_rights_refuse_it_too(way: str, tmp_path: Path, unguarded: Unguarded) -> None:
    """Without the check of statements, and without the kernel: the list of rights is enough for all but six."""
    (tmp_path / "secret").write_text(CANARY)
    said = unguarded.ask(prepared(WAYS_OUT[way], tmp_path, 9))
    assert said.startswith("Code: "), said
    assert CANARY not in said and not (tmp_path / "out").exists()


@pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no Landlock")
@pytest.mark.parametrize("way", sorted(NO_RIGHT_NEEDED))
def test_the_kernel_stops_the_others(way: str, tmp_path: Path, confined: Unguarded) -> None:
    """Without the check, what needs no right gets nowhere: no file outside is read, written or moved, nothing is run."""
    confined.ask(prepared(WAYS_OUT[way], tmp_path, 9))
    found = confined.ask("SELECT * FROM t") if way == "executable engine" else confined.ask("SELECT * FROM kept")
    assert CANARY not in found and ("Code: " in found) is (way == "executable engine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret"]


@pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no Landlock")
def test_the_kernel_keeps_the_engine_to_its_folder(engine: EmbeddedClickHouse) -> None:
    """The log says that the process is confined; tests/unit/test_confine.py shows what that means."""
    assert engine.log_path.read_text().startswith("confined by Landlock")


def test_tables_of_an_earlier_version_are_there(tmp_path: Path) -> None:
    """A folder that the library alone has written keeps its tables and views, under the same names."""
    made = """
from chdb.state.sqlitelike import Connection
import sys
old = Connection(sys.argv[1])
old.query("CREATE TABLE kept (a String) ENGINE = ReplacingMergeTree ORDER BY a")
old.query("INSERT INTO kept VALUES ('from before')")
old.query("CREATE VIEW kept_live AS SELECT * FROM kept FINAL")
old.close()
"""
    folder = tmp_path / "engine"
    folder.mkdir(mode=0o755)
    subprocess.run([sys.executable, "-c", made, str(folder / "data")], check=True, timeout=60, cwd=tmp_path)
    for start in range(2):
        with EmbeddedClickHouse(folder) as engine:
            client = clickhouse_connect.get_client(
                host="127.0.0.1", port=engine.port, username=engine.user, password=engine.password
            )
            assert client.query("SELECT a FROM kept_live").result_rows == [("from before",)], start
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


class Unguarded:
    """The library with the same rights, asked without the front, its check and the kernel's."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, statement: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(statement.replace("\n", " ") + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


UNGUARDED = """
import sys
from pathlib import Path
from processors.local import chdb_server
if sys.argv[1] == "confined":
    Path("data").mkdir()
    Path("tmp").mkdir()
    chdb_server.give_up_rights(1)
from chdb.state.sqlitelike import Connection
from processors.local.chdb_engine import _leave_default_to_us
before = _leave_default_to_us(Path("data"))
engine = Connection("data?config-file=config.xml")
for statement in (*before, "CREATE TABLE kept (a String) ENGINE = MergeTree ORDER BY a"):
    engine.query(statement, "TabSeparated")
for line in sys.stdin:
    try:
        print(repr(engine.query(line, "TabSeparated").bytes()), flush=True)
    except Exception as error:
        found = str(error).replace("\\n", " ")
        print(found[max(0, found.find("Code: ")):], flush=True)
"""


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unguarded]:
    with library(tmp_path_factory.mktemp("unguarded"), "free") as running:
        yield running


@pytest.fixture(scope="module")
def confined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unguarded]:
    with library(tmp_path_factory.mktemp("confined"), "confined") as running:
        yield running


@contextmanager
def library(folder: Path, how: str) -> Iterator[Unguarded]:
    write_rights(folder)
    root = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", UNGUARDED, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root, "TMPDIR": str(folder / "tmp") if how == "confined" else "/tmp"},
    ) as process:
        yield Unguarded(process)
        process.kill()


@contextmanager
def listening() -> Iterator[tuple[int, socket.socket]]:
    """A port on which nobody should call."""
    with socket.create_server(("127.0.0.1", 0)) as strangers:
        yield strangers.getsockname()[1], strangers


def prepared(statement: str, folder: Path, port: int) -> str:
    (folder / "secret").write_text(CANARY)
    names: Mapping[str, object] = {
        "secret": folder / "secret",
        "out": folder / "out",
        "folder": folder,
        "port": port,
    }
    return statement.format(**names)
