"""ClickHouse in memory, as far as `load` relies on it: of the rows of one job the one with the highest version counts.

    warehouse = MemoryWarehouse()
    ...
    warehouse.rows("shop_prices")     # what the view shop_prices_live would show

Column types, table shapes and the server's own errors are ClickHouse's affair: test them against a real engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from processors.clickhouse.client import RowValues, Server, Warehouse
from processors.clickhouse.table import TableLayout

Row = Mapping[str, object]
#: What readers of the view don't see.
_ENGINES_OWN = frozenset({"_version", "_live", "_deleted"})


class MemoryWarehouse:
    """All tables, each with its newest row of each job."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[object, Row]] = {}

    def open(self, server: Server) -> Warehouse:
        """Return a step's connection."""
        return _Connection(server, self)

    def rows(self, table: str) -> list[Row]:
        """Return the finished rows of a table, by its name without the database."""
        return [_shown(row) for row in self._tables.get(table, {}).values() if row["_live"] and not row["_deleted"]]

    def rows_of(self, job_id: str) -> list[Row]:
        """Return a job's rows in all tables that are not deleted, those that wait for their saga's end too."""
        found = [rows[job_id] for rows in self._tables.values() if job_id in rows]
        return [_shown(row) for row in found if not row["_deleted"]]

    def take(self, table: str, row: Row) -> None:
        """Insert a row: it counts unless the job has one of a higher version."""
        rows = self._tables.setdefault(table, {})
        standing = rows.get(row["job_id"])
        if standing is None or _version(row) >= _version(standing):
            rows[row["job_id"]] = row


class _Connection(Warehouse):
    def __init__(self, server: Server, warehouse: MemoryWarehouse) -> None:
        super().__init__(server)
        self._memory = warehouse

    async def prepare(self, layout: TableLayout, *, markers_only: bool = False) -> None:
        """Nothing: a table is there once it has rows."""
        return None

    async def insert(self, layout: TableLayout, columns: Sequence[tuple[str, str]], rows: Sequence[RowValues]) -> None:
        """Insert rows."""
        for row in rows:
            self._memory.take(layout.table, {name: value for (name, _), value in zip(columns, row, strict=True)})


def _version(row: Row) -> int:
    version = row["_version"]
    if not isinstance(version, int):
        raise TypeError(f"_version is {version!r}, not a number")
    return version


def _shown(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in _ENGINES_OWN}
