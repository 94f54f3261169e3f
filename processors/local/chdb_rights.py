"""What the embedded engine lets its user do: a list of rights, and settings that nobody may change.

The engine's own access control decides: tables and views of the engines below, and nothing that leads out of it. Table
functions and engines for files, addresses, programs and other databases need rights that are not on the list.
"""

from __future__ import annotations

from pathlib import Path

from processors.local.private import write_private

CONFIG_FILE, USERS_FILE = "config.xml", "users.xml"

_RIGHTS = "SHOW, SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP, TRUNCATE, OPTIMIZE"
_ENGINES = ("MergeTree", "ReplacingMergeTree", "SummingMergeTree", "AggregatingMergeTree", "Memory", "Log", "Null")
# Settings by which a statement could name a file, an address or another language, which the checks don't know.
_FIXED = {
    "allow_python_table_function": "0",
    "allow_experimental_eval_table_function": "0",
    "allow_experimental_ai_functions": "0",
    "allow_introspection_functions": "0",
    "dialect": "clickhouse",
    "format_avro_schema_registry_url": "",
    "format_schema": "",
    "format_schema_source": "file",
    "format_template_resultset": "",
    "format_template_row": "",
    "input_format_record_errors_file_path": "",
    "output_format_schema": "",
}

_CONFIG = f"""\
<clickhouse>
  <users_config>{USERS_FILE}</users_config>
  <access_control_improvements>
    <table_engines_require_grant>true</table_engines_require_grant>
    <enable_read_write_grants>true</enable_read_write_grants>
  </access_control_improvements>
</clickhouse>
"""


def write_rights(folder: Path) -> None:
    """Write the engine's configuration into the folder in which it is started."""
    write_private(folder / CONFIG_FILE, _CONFIG)
    write_private(folder / USERS_FILE, _users())


def _users() -> str:
    grants = [
        f"GRANT {_RIGHTS} ON *.*",
        "GRANT CREATE TEMPORARY TABLE ON *.*",
        *(f"GRANT TABLE ENGINE ON {engine}" for engine in _ENGINES),
    ]
    values = "".join(f"<{name}>{value}</{name}>" for name, value in _FIXED.items())
    fixed = "".join(f"<{name}><const/></{name}>" for name in _FIXED)
    return (
        "<clickhouse>\n"
        f"<profiles><default>{values}<constraints>{fixed}</constraints></default></profiles>\n"
        "<quotas><default/></quotas>\n"
        "<users><default><password/><networks><ip>::/0</ip></networks>"
        "<profile>default</profile><quota>default</quota>\n"
        f"<grants>{''.join(f'<query>{grant}</query>' for grant in grants)}</grants></default></users>\n"
        "</clickhouse>\n"
    )
