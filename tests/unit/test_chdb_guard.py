"""The statements that are refused before the embedded engine sees them, and those that must not be."""

from __future__ import annotations

import time

import pytest

from processors.local.chdb_guard import StatementRefused, check

LEAVES_THE_ENGINE = [
    "SELECT file('/etc/passwd')",
    "SELECT file ( '/etc/passwd' )",
    "SELECT file/* a comment */('/etc/passwd')",
    "SELECT file -- a comment\n('/etc/passwd')",
    "SELECT `file`('/etc/passwd')",
    "SELECT \"file\"('/etc/passwd')",
    r"SELECT `\x66ile`('/etc/passwd')",
    "SELECT 'it''s', file('/etc/passwd')",
    r"SELECT 'it\'s', file('/etc/passwd'), ''",
    "SELECT ‘'’, file('/etc/passwd'), ‘'’",
    "SELECT $x$ ' $x$, file('/etc/passwd'), ' '",
    "SELECT arrayMap(file, ['/etc/passwd'])",
    "SELECT arrayMap(x -> file(x), ['/etc/passwd'])",
    "SELECT * APPLY file FROM paths",
    "SELECT * APPLY(file) FROM paths",
    "INSERT INTO t VALUES (file('/etc/passwd'))",
    "INSERT INTO t SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "INSERT INTO FUNCTION file('/tmp/out', 'TSV', 'a String') SELECT 'x'",
    "SELECT 1; SELECT file('/etc/passwd')",
    "SELECT * FROM Python(engine)",
    "SELECT * FROM executable('x', 'TSV', 'a String')",
    "CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local, path = '/tmp/x/')",
    "SELECT 1 INTO OUTFILE '/tmp/out'",
    "SELECT 1 into /* x */ outfile '/tmp/out'",
    "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT LineAsString",
    "ATTACH TABLE t FROM '/tmp/x/' (a String) ENGINE = MergeTree ORDER BY a",
    "/* x */ ATTACH DATABASE d ENGINE = Filesystem('/')",
    "SELECT 1; ATTACH TABLE t",
]

STAYS_IN_IT = [
    "SELECT 1",
    "SELECT 'file(1)', \"into\", `outfile` FROM t",
    "SELECT file, url FROM pages WHERE file != '' AND url LIKE '%attach%'",
    "SELECT count(file), coalesce(file, 'none') FROM pages",
    "CREATE TABLE pages (file String, python String, disk UInt8) ENGINE = MergeTree ORDER BY file",
    "INSERT INTO pages (file, url) VALUES ('file(', 'SELECT 1 INTO OUTFILE ''x''')",
    "INSERT INTO `pages` (`file`, `disk`) FORMAT Native",
    "ALTER TABLE pages ATTACH PARTITION 1",
    "-- file('/etc/passwd')\nSELECT 1",
    "SELECT profile(1), file_name FROM t",
    r"SELECT 'a\\b', 'it\'s file(1)'",
]


@pytest.mark.parametrize("statement", LEAVES_THE_ENGINE)
def test_what_leaves_the_engine_is_refused(statement: str) -> None:
    """However it is written, the function, clause or statement is recognised and named."""
    with pytest.raises(StatementRefused, match="turned off here|with a backslash"):
        check(statement.encode())


@pytest.mark.parametrize("statement", STAYS_IN_IT)
def test_what_stays_in_it_is_let_through(statement: str) -> None:
    """Columns, texts and comments that only look like it are nothing to refuse."""
    check(statement.encode())


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "unit", ["file ", "'file(", "/* file ", "$a$ file", "`file", "INSERT INTO t (file, ", "\\ file"]
)
def test_the_time_grows_with_the_statement_and_no_faster(unit: str) -> None:
    """Nothing in a statement makes the check quadratic: eight times the bytes take at most sixteen times the processor."""

    def seconds(count: int) -> float:
        statement, best = (unit * count).encode(), 60.0
        for _ in range(3):
            began = time.process_time()
            try:
                check(statement)
            except StatementRefused:
                pass
            best = min(best, time.process_time() - began)
        return best

    assert seconds(16_000) < 16 * seconds(2_000) + 0.05
