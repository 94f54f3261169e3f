"""The warehouse table of a record schema: what it must look like, with the statements that take it there.

One row a job. Whatever is written later for the job, a delete marker too, replaces it by a higher `_version`, in
whichever order the writes arrive: ClickHouse keeps the highest version of a key. A plain DELETE could not do that,
because a write that arrives after it would stay.

Users query the view `<table>_live`: finished rows only. The table itself also holds rows of sagas that are not complete
yet (`_live` = 0), delete markers (`_deleted` = 1) and versions that were replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.record import RecordSchema

_BEFORE = (("job_id", "String"), ("pipeline", "LowCardinality(String)"), ("run", "UInt32"))
_URL = ("url", "String")
_AFTER = (("_live", "UInt8"), ("_version", "UInt64"), ("_deleted", "UInt8"))
_LOADED_AT = ("_loaded_at", "DateTime64(3, 'UTC')")
_REDACTED = frozenset(name for name, _ in _AFTER)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# Shared- and ReplicatedReplacingMergeTree have a path and a replica before the two columns.
_REPLACING = re.compile(r"(Shared|Replicated)?ReplacingMergeTree\(('[^']*', '[^']*', )?_version, _deleted\)")
_KEPT_BY = "Kept by scrapesaga. Drop this comment to keep a view of your own under this name."
_WIDER = {
    "Int32": ("Int64", "Int128", "Int256"),
    "Int64": ("Int128", "Int256"),
    "Float32": ("Float64",),
}


class TableMismatch(ValueError):
    """A table cannot take the records; the message says why, with the statement that repairs it."""


@dataclass(frozen=True, slots=True)
class ActualTable:
    """What ClickHouse has under the names of a table and its view; empty where there is nothing."""

    engine: str = ""
    sorting_key: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    view_engine: str = ""
    view_comment: str = ""
    view_columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableLayout:
    """A table for one record schema: its names, and the record's columns as (name, ClickHouse type)."""

    database: str
    table: str
    record_columns: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, database: str, table: str, schema: RecordSchema) -> TableLayout:
        """The layout for a record schema; raises TableMismatch where a field has the name of one of our own columns."""
        columns = tuple((column.name, column.clickhouse_type) for column in schema.columns())
        own = {name for name, _ in (*_BEFORE, *_AFTER, _LOADED_AT)}
        if taken := sorted(own & {name for name, _ in columns}):
            raise TableMismatch(
                f"record {schema.name} has the field {', '.join(taken)}, which is a column of every table that `load` "
                f"keeps; rename the field"
            )
        return cls(database, table, columns)

    @property
    def full_name(self) -> str:
        """The table's name, quoted for SQL."""
        return f"{quoted(self.database)}.{quoted(self.table)}"

    @property
    def view(self) -> str:
        """The name of the view that shows finished rows only."""
        return f"{self.table}_live"

    @property
    def has_own_url(self) -> bool:
        """Whether the job's URL needs a column, because the record has no field of that name."""
        return "url" not in dict(self.record_columns)

    @property
    def row_columns(self) -> tuple[tuple[str, str], ...]:
        """The columns of a row, in the order in which `load` writes them."""
        return (*_BEFORE, *((_URL,) if self.has_own_url else ()), *self.record_columns, *_AFTER)

    @property
    def marker_columns(self) -> tuple[tuple[str, str], ...]:
        """The columns of a delete marker; the others take their defaults."""
        return (*_BEFORE, *_AFTER)

    def statements(self, found: ActualTable, *, markers_only: bool = False) -> tuple[str, ...]:
        """What to run next so that the table takes rows and the view shows them; nothing when all is well.

        To be asked again after running them, as the view follows the columns that are really there.
        `markers_only` passes over the record's columns: a compensation must not fail for a column that it never writes.
        Raises TableMismatch if no statement of ours may repair it.
        """
        if not found.engine:
            return (self._create_table(),)
        self._check_engine(found)
        wanted = self.marker_columns if markers_only else self.row_columns
        if missing := [(name, kind) for name, kind in wanted if name not in found.columns]:
            return (self._add_columns(missing),)
        self._check_types(found, wanted)
        return self._view_statements(found)

    def _create_table(self) -> str:
        columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in self.row_columns)
        loaded_at = f"{quoted(_LOADED_AT[0])} {_LOADED_AT[1]} DEFAULT now64(3)"
        return (
            f"CREATE TABLE IF NOT EXISTS {self.full_name} ({columns}, {loaded_at}) "
            f"ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY job_id"
        )

    def _check_engine(self, found: ActualTable) -> None:
        if not _REPLACING.match(found.engine) or found.sorting_key != "job_id":
            raise TableMismatch(
                f"table {self.full_name} exists with the engine {found.engine} ORDER BY {found.sorting_key or 'nothing'}, "
                f"which cannot take back a row; give `load` another `table:`, or move it away and let `load` make it: "
                f"ReplacingMergeTree(_version, _deleted) ORDER BY job_id"
            )

    def _add_columns(self, missing: list[tuple[str, str]]) -> str:
        added = ", ".join(f"ADD COLUMN IF NOT EXISTS {quoted(name)} {kind}" for name, kind in missing)
        return f"ALTER TABLE {self.full_name} {added}"

    def _check_types(self, found: ActualTable, wanted: tuple[tuple[str, str], ...]) -> None:
        for name, kind in wanted:
            if not holds(found.columns[name], kind):
                raise TableMismatch(
                    f"column {name} of {self.full_name} is {found.columns[name]}, but the record needs {kind}; run "
                    f"ALTER TABLE {self.full_name} MODIFY COLUMN {quoted(name)} {kind}, or rename the record's field"
                )

    def _view_statements(self, found: ActualTable) -> tuple[str, ...]:
        shown = {name: kind for name, kind in found.columns.items() if name not in _REDACTED}
        # Types too: a view keeps those that its table had when it was made.
        if found.view_columns == shown:
            return ()
        # OR REPLACE would also replace a table of that name, with its data.
        if found.view_engine not in ("", "View"):
            raise TableMismatch(
                f"{quoted(self.database)}.{quoted(self.view)} exists and is no view; "
                f"`load` needs the name for the view of {self.full_name}: give it another `table:`"
            )
        if found.view_engine and found.view_comment != _KEPT_BY:
            return ()
        return (self._create_view(tuple(shown)),)

    def _create_view(self, shown: tuple[str, ...]) -> str:
        return (
            f"CREATE OR REPLACE VIEW {quoted(self.database)}.{quoted(self.view)} AS "
            f"SELECT {', '.join(quoted(name) for name in shown)} FROM {self.full_name} FINAL "
            f"WHERE _live = 1 AND _deleted = 0 COMMENT '{_KEPT_BY}'"
        )


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def table_name(text: str) -> str:
    """A table name made of the text, for example `shop_prices` of the pipeline shop-prices."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return name if _NAME.fullmatch(name) else f"_{name}"


def is_table_name(text: str) -> bool:
    """Whether the text can name a table or database without quotes: letters, digits, underscores."""
    return _NAME.fullmatch(text) is not None


def holds(column: str, value: str) -> bool:
    """Whether a column of one ClickHouse type takes every value of another: the same type, or a wider one."""
    column_type, column_nullable = _opened(column)
    value_type, value_nullable = _opened(value)
    if value_nullable and not column_nullable:
        return False
    if column_type == value_type or column_type in _WIDER.get(value_type, ()):
        return True
    ours, theirs = _digits(value_type), _digits(column_type)
    return bool(ours and theirs and theirs[0] >= ours[0] and theirs[1] >= ours[1])


def _opened(kind: str) -> tuple[str, bool]:
    """The type without spaces, LowCardinality and Nullable, and whether it was nullable."""
    kind, nullable = re.sub(r"\s", "", kind), False
    while wrapped := re.fullmatch(r"(LowCardinality|Nullable)\((.*)\)", kind):
        nullable = nullable or wrapped[1] == "Nullable"
        kind = wrapped[2]
    return kind, nullable


def _digits(kind: str) -> tuple[int, int] | None:
    """How many digits a decimal has before and after the point; None for anything else."""
    decimal = re.fullmatch(r"Decimal\((\d+),(\d+)\)", kind)
    return (int(decimal[1]) - int(decimal[2]), int(decimal[2])) if decimal else None
