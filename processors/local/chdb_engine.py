"""One chDB engine, asked as an HTTP request asks the server: statement, data, database, settings, parameters.

Every request gets a connection of its own (0.2 ms), so that no setting or USE leaks into another one; a session keeps
its connection between requests, as temporary tables and SET need it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from chdb.state.sqlitelike import Connection

from processors.local.chdb_guard import StatementRefused, check
from processors.local.chdb_rights import CONFIG_FILE

_MAX_SESSIONS = 1024
_NAME = re.compile(r"[A-Za-z_]\w*")
# INSERT INTO target (columns) SETTINGS … FORMAT name: what follows the name is data and may be any bytes.
_INSERT_WITH_DATA = re.compile(
    rb"""\s*(?P<head>INSERT\s+INTO\s+(?:TABLE\s+)?(?:`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*"|[\w.])+
    \s*(?:\((?:`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*"|[^()`"])*\))?(?:\s*SETTINGS\s[^()`"]*?)?)
    \s*\bFORMAT\s+(?P<format>\w+)[ \t]*(?:\r?\n|;|\s|\Z)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_FORMAT_AT_END = re.compile(rb"\bFORMAT\s+(\w+)\s*(?:SETTINGS\s[^;]*)?;?\s*\Z", re.IGNORECASE)
_IS_INSERT = re.compile(rb"\s*INSERT\s", re.IGNORECASE)
_IS_SET = re.compile(rb"\s*SET\s", re.IGNORECASE)
_CODE = re.compile(r"Code: (\d+)\.")
_SESSION_IS_LOCKED = 373
_BAD_ARGUMENTS = 36
_ACCESS_DENIED = 497
DATABASE = "default"


class EngineError(RuntimeError):
    """The engine refused a statement; `code` is ClickHouse's error number."""

    def __init__(self, message: str) -> None:
        start = message.find("Code: ")
        self.message = message[max(start, 0) :].strip()
        found = _CODE.match(self.message)
        self.code = int(found[1]) if found else 1002  # UNKNOWN_EXCEPTION
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class Query:
    """One statement; `data` follows it, or is the tail of `sql` itself."""

    sql: bytes
    data: bytes = b""
    database: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    default_format: str | None = None
    session_id: str | None = None
    session_timeout: timedelta = timedelta(seconds=60)

    @property
    def is_insert(self) -> bool:
        return _IS_INSERT.match(self.sql) is not None


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What a statement gave; `format` is None where there is no result set, as after DDL."""

    body: bytes
    format: str | None
    summary: Mapping[str, int]


@dataclass(slots=True)
class _Session:
    connection: Connection
    expires_at: float = 0.0
    # Reading them back costs more than most statements: done only once a SET has been seen.
    has_own_settings: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class ChdbEngine:
    """The one chDB engine that a process can host, on a folder that it keeps its tables in.

    It does what the configuration in the current directory allows, see `chdb_rights`.
    """

    def __init__(self, path: Path) -> None:
        self._path = f"{path}?config-file={CONFIG_FILE}"
        before = _leave_default_to_us(path)
        # Held open: the engine shuts down with its last connection.
        self._anchor = Connection(self._path)
        for statement in before:
            self._anchor.query(statement, "TabSeparated")
        self._sessions: dict[str, _Session] = {}
        self._idle = threading.Condition()
        self._running = 0
        answer = self.execute(Query(b"SELECT version(), timezone()"))
        self.version, self.timezone = answer.body.decode().strip().split("\t")

    def execute(self, request: Query) -> QueryResult:
        """Carry out a statement; once this returns, what it wrote is there for good.

        Raises EngineError.
        """
        insert = _INSERT_WITH_DATA.match(request.sql)
        try:
            _check(request, insert)
        except StatementRefused as refused:
            raise EngineError(f"Code: {_ACCESS_DENIED}. DB::Exception: {refused}. (ACCESS_DENIED)") from refused
        with self._counted(), self._connection(request) as (connection, session):
            try:
                with _request_settings(connection, request, session):
                    return _insert(connection, insert, request) if insert else _query(connection, request)
            except RuntimeError as error:
                raise error if isinstance(error, EngineError) else EngineError(str(error)) from error

    def close(self, within: timedelta) -> None:
        """Wait for the statements that run, at most `within` that time, and shut the engine down."""
        with self._idle:
            if self._idle.wait_for(lambda: self._running == 0, within.total_seconds()):
                for session in self._sessions.values():
                    session.connection.close()
                self._anchor.close()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._idle:
            self._running += 1
        try:
            yield
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    @contextmanager
    def _connection(self, request: Query) -> Iterator[tuple[Connection, _Session | None]]:
        if request.session_id is None:
            connection = Connection(self._path)
            try:
                yield connection, None
            finally:
                connection.close()
            return
        session = self._session(request.session_id)
        session.has_own_settings |= _IS_SET.match(request.sql) is not None
        try:
            yield session.connection, session
        finally:
            session.expires_at = time.monotonic() + request.session_timeout.total_seconds()
            session.lock.release()

    def _session(self, session_id: str) -> _Session:
        """Return the session, locked for this request."""
        with self._idle:
            self._drop_expired_sessions()
            session = self._sessions.get(session_id)
            if session is None:
                if len(self._sessions) >= _MAX_SESSIONS:
                    raise EngineError(
                        f"Code: 203. DB::Exception: {_MAX_SESSIONS} sessions are open: use fewer. (NO_FREE_CONNECTION)"
                    )
                session = self._sessions[session_id] = _Session(Connection(self._path))
            if not session.lock.acquire(blocking=False):
                raise EngineError(
                    f"Code: {_SESSION_IS_LOCKED}. DB::Exception: Session {session_id} is used by another client: "
                    f"give each its own. (SESSION_IS_LOCKED)"
                )
            return session

    def _drop_expired_sessions(self) -> None:
        now = time.monotonic()
        for session_id, session in list(self._sessions.items()):
            if session.expires_at < now and session.lock.acquire(blocking=False):
                session.connection.close()
                del self._sessions[session_id]


def _leave_default_to_us(path: Path) -> tuple[str, ...]:
    """Return the statements that make `default` a database like any other.

    As the library makes it, it shows every file of the machine as a table, and nobody without the right to read files
    can use it. The same tables are attached again, without the files.
    """
    link = path / "metadata" / DATABASE
    # What the last start wrote; the library makes the database itself and would find it there twice.
    link.with_suffix(".sql").unlink(missing_ok=True)
    detach = f"DETACH DATABASE {DATABASE}"
    if not link.is_symlink():
        return detach, f"CREATE DATABASE {DATABASE} ENGINE = Atomic"
    return detach, f"ATTACH DATABASE {DATABASE} UUID '{link.readlink().name}' ENGINE = Atomic"


def _check(request: Query, insert: re.Match[bytes] | None) -> None:
    """Raise StatementRefused; what follows an INSERT's format is data, but Values may be expressions."""
    if insert is None:
        check(request.sql + b"\n" + request.data)
        return
    check(insert["head"])
    if insert["format"].lower() == b"values":
        check(request.sql[insert.end() :] + request.data)


def _insert(connection: Connection, insert: re.Match[bytes], request: Query) -> QueryResult:
    data = request.sql[insert.end() :] + request.data
    with connection.send_insert(insert["head"].decode(), insert["format"].decode()) as stream:
        stream.append(data)
        done = stream.finish()
    return QueryResult(b"", None, {"written_rows": done.rows_written, "written_bytes": done.bytes_written})


def _query(connection: Connection, request: Query) -> QueryResult:
    sql = request.sql + b"\n" + request.data if request.data else request.sql
    parameters: dict[str, Any] = dict(request.parameters)
    in_statement = _FORMAT_AT_END.search(sql)
    known = in_statement[1].decode() if in_statement else request.default_format
    # Without a format the engine does not say whether a statement has a result set. With column names on top, one
    # without rows still has that line, and DDL has nothing.
    result = connection.query(
        sql,  # type: ignore[arg-type]  # declared str, takes bytes too, which need not be UTF-8
        known or "TabSeparatedWithNames",
        params=parameters,
    )
    body: bytes = result.bytes() or b""
    summary = {
        "read_rows": result.rows_read(),
        "read_bytes": result.bytes_read(),
        "elapsed_ns": int(result.elapsed() * 1e9),
    }
    if request.is_insert:
        # INSERT … VALUES and INSERT … SELECT write what they read.
        summary |= {"written_rows": result.rows_read(), "written_bytes": result.bytes_read()}
    if known is not None:
        return QueryResult(body, known, summary)
    if not body:
        return QueryResult(b"", None, summary)
    return QueryResult(body.partition(b"\n")[2], "TabSeparated", summary)


@contextmanager
def _request_settings(connection: Connection, request: Query, session: _Session | None) -> Iterator[None]:
    """Apply database and settings; a session gets back the settings that it had."""
    if request.database:
        name = request.database.replace("\\", "\\\\").replace("`", "\\`")
        connection.query(f"USE `{name}`", "TabSeparated")
    if not request.settings:
        yield
        return
    for name in request.settings:
        if not _NAME.fullmatch(name):
            raise EngineError(f"Code: {_BAD_ARGUMENTS}. DB::Exception: {name!r} is no setting's name. (BAD_ARGUMENTS)")
    before = _values(connection, request.settings) if session and session.has_own_settings else {}
    try:
        _set(connection, {name: _quoted(value) for name, value in request.settings.items()})
        yield
    finally:
        if session:
            _set(
                connection, {name: _quoted(before[name]) if name in before else "DEFAULT" for name in request.settings}
            )


def _set(connection: Connection, literals: Mapping[str, str]) -> None:
    pairs = ", ".join(f"{name} = {literal}" for name, literal in literals.items())
    connection.query(f"SET {pairs}", "TabSeparated")


def _values(connection: Connection, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the values of those settings that the session has changed."""
    names = ", ".join(_quoted(name) for name in settings)
    sql = f"SELECT name, value FROM system.settings WHERE changed AND name IN ({names})"
    lines = connection.query(sql, "TabSeparatedRaw").bytes().decode().splitlines()
    return dict(line.split("\t", 1) for line in lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
