"""ClickHouse as `load` uses it: connected when first needed, tables kept in shape, errors told apart.

Every method raises StepFailed or RetryLater, with what an operator can do about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.asyncclient import AsyncClient

from processors.clickhouse.errors import DRIVER_ERRORS, explained, table_changed
from processors.clickhouse.table import ActualTable, TableLayout, TableMismatch
from processors.errors import ConfigurationError, RetryLater, StepFailed
from processors.step import Host

RowValues = tuple[object, ...]

# Longer than any insert of a batch takes. Without it a connection that died without a word would hold up every batch
# behind it until the worker restarts.
_ANSWER_SECONDS = 30
_CONNECT_SECONDS = 5
# One more than the longest way: make the table, add columns, make the view, find all well.
_ROUNDS = 5
_INSERT_SETTINGS = {
    # We batch ourselves; a server that batches again adds its own delay, or acknowledges before the rows are safe.
    "async_insert": 0,
    # Deduplication by content would drop a row that is loaded, taken back and loaded again. The newer setting
    # overrides the older one where both exist.
    "insert_deduplicate": 0,
    "deduplicate_insert": "disable",
    # A null where the table allows none is an error, never silently the type's empty value.
    "input_format_null_as_default": 0,
}
_LOOK_AT_TABLES = """
    SELECT name, engine_full, sorting_key, engine, comment FROM system.tables
    WHERE database = {database:String} AND name IN ({table:String}, {view:String})
"""
_LOOK_AT_COLUMNS = """
    SELECT table, name, type FROM system.columns
    WHERE database = {database:String} AND table IN ({table:String}, {view:String})
    ORDER BY table, position
"""


@dataclass(frozen=True, slots=True)
class Server:
    """Where ClickHouse answers HTTP, and as whom we ask."""

    https: bool
    host: str
    port: int
    path: str
    user: str
    password: str = field(repr=False)
    database: str

    @classmethod
    def of(cls, host: Host) -> Server:
        """The server in the worker's settings; raises ConfigurationError that names the setting."""
        url = host.setting("CLICKHOUSE_URL")
        if not url:
            raise ConfigurationError(
                "SCRAPESAGA_CLICKHOUSE_URL is not set, and the step `load` needs it: for example http://clickhouse:8123"
            )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(f"SCRAPESAGA_CLICKHOUSE_URL is not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError("SCRAPESAGA_CLICKHOUSE_URL must be http://HOST:8123 or https://HOST:8443")
        if parts.username or parts.password or parts.query:
            raise ConfigurationError(
                "SCRAPESAGA_CLICKHOUSE_URL must hold no user, password or query: set SCRAPESAGA_CLICKHOUSE_USER and "
                "SCRAPESAGA_CLICKHOUSE_PASSWORD"
            )
        https = parts.scheme == "https"
        return cls(
            https,
            parts.hostname,
            port or (8443 if https else 8123),
            parts.path.strip("/"),
            host.setting("CLICKHOUSE_USER", "default"),
            host.setting("CLICKHOUSE_PASSWORD"),
            host.setting("CLICKHOUSE_DATABASE", "default"),
        )

    def __str__(self) -> str:
        return f"{'https' if self.https else 'http'}://{self.host}:{self.port}"


class Warehouse:
    """A connection to one ClickHouse server, shared by all calls of a step."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()
        self._preparing = asyncio.Lock()
        self._prepared: set[tuple[TableLayout, bool]] = set()

    async def close(self) -> None:
        """Close the connections; the next call would open new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def prepare(self, layout: TableLayout, *, markers_only: bool = False) -> None:
        """Make the table take rows of this layout, and its view show them; looked up once, then remembered."""
        if (layout, markers_only) in self._prepared:
            return
        async with self._preparing:
            if (layout, markers_only) in self._prepared:
                return
            try:
                await self._shape(layout, markers_only)
            except TableMismatch as mismatch:
                raise StepFailed(str(mismatch)) from mismatch
            except DRIVER_ERRORS as error:
                raise explained(error, f"{self._server}, preparing {layout.full_name}", effect_unknown=False) from error
            self._prepared.add((layout, markers_only))

    async def insert(self, layout: TableLayout, columns: Sequence[tuple[str, str]], rows: Sequence[RowValues]) -> None:
        """Insert rows of (name, type) columns; returns once ClickHouse has acknowledged them.

        Raises StepFailed if one of the rows cannot be stored, which says nothing about the others.
        """
        client = await self._connected()
        try:
            await client.insert(
                layout.table,
                rows,
                [name for name, _ in columns],
                layout.database,
                column_type_names=[kind for _, kind in columns],
                settings={name: value for name, value in _INSERT_SETTINGS.items() if name in client.server_settings},
            )
        except Exception as error:
            # The driver serialises rows itself, and lets whatever a wrong value causes through as it is.
            if table_changed(error):
                self._prepared = {(known, markers) for known, markers in self._prepared if known != layout}
            raise explained(error, f"{self._server}, inserting into {layout.full_name}", effect_unknown=True) from error

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                server = self._server
                try:
                    self._client = await clickhouse_connect.get_async_client(
                        host=server.host,
                        port=server.port,
                        interface="https" if server.https else "http",
                        proxy_path=server.path,
                        username=server.user,
                        password=server.password,
                        # Not the database: to connect must work before somebody has made it, for the error to say so.
                        database="default",
                        connect_timeout=_CONNECT_SECONDS,
                        send_receive_timeout=_ANSWER_SECONDS,
                        client_name="scrapesaga",
                    )
                except DRIVER_ERRORS as error:
                    raise explained(error, f"{self._server}, connecting", effect_unknown=False) from error
            return self._client

    async def _shape(self, layout: TableLayout, markers_only: bool) -> None:
        client = await self._connected()
        for _ in range(_ROUNDS):
            statements = layout.statements(await self._look(client, layout), markers_only=markers_only)
            if not statements:
                return
            for statement in statements:
                await client.command(statement)
        raise RetryLater(f"{layout.full_name} keeps changing: somebody else alters it or its view {layout.view}")

    async def _look(self, client: AsyncClient, layout: TableLayout) -> ActualTable:
        names = {"database": layout.database, "table": layout.table, "view": layout.view}
        tables = {row[0]: row[1:] for row in (await client.query(_LOOK_AT_TABLES, names)).result_rows}
        columns = (await client.query(_LOOK_AT_COLUMNS, names)).result_rows
        engine, sorting_key, _, _ = tables.get(layout.table, ("", "", "", ""))
        _, _, view_engine, view_comment = tables.get(layout.view, ("", "", "", ""))
        return ActualTable(
            engine,
            sorting_key,
            {name: kind for table, name, kind in columns if table == layout.table},
            view_engine,
            view_comment,
            {name: kind for table, name, kind in columns if table == layout.view},
        )
