"""Looks at a run from outside: topics by a plain consumer, the warehouse by SQL, the API by its invoices."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import httpx

from processors.kafka.reader import Reader
from processors.local.engine import WarehouseLogin
from processors.messages.dead_letters import source_of
from processors.operations.queries import all_states
from processors.saga.invariants import LogPosition


def dead_letters(reader: Reader, topic: str) -> dict[LogPosition, str]:
    """Return every record that was set aside, by where it lay, with the reason.

    By its place: records may have no key, and a process that was killed sets the same record aside once more.
    """
    found = {}
    for record in reader.records(topic):
        source = source_of(record.headers)
        if source is None:
            found[LogPosition(record.topic, record.partition, record.offset)] = ""
        else:
            found[LogPosition(source.topic, source.partition, source.offset)] = source.reason
    return found


def compacted(reader: Reader, topic: str) -> dict[bytes, bytes]:
    """Return the last value of every key of a topic, tombstones taken away: what a compacted view shows."""
    view: dict[bytes, bytes] = {}
    for record in reader.records(topic):
        key = record.key or b""
        if record.value is None:
            view.pop(key, None)
        else:
            view[key] = record.value
    return view


def live_keys(reader: Reader, topic: str) -> frozenset[str]:
    """Return the keys of a topic's compacted view, without holding its values: pages are large."""
    live: dict[bytes, bool] = {}
    for record in reader.records(topic):
        live[record.key or b""] = record.value is not None
    return frozenset(key.decode("utf-8", "replace") for key, kept in live.items() if kept)


def saga_states(reader: Reader, topic: str) -> dict[str, dict[str, Any]]:
    """Return the latest state of every job; a stale owner's late write (lower seq) doesn't count."""
    return {state["job_id"]: state for state in all_states(reader, topic).all()}


def warehouse_jobs(warehouse: WarehouseLogin, view: str) -> frozenset[str]:
    """Return the job_ids that users see in a view; none before the first load has made it."""
    where = urlsplit(warehouse.url)
    client = clickhouse_connect.get_client(
        host=where.hostname, port=where.port, username=warehouse.user, password=warehouse.password
    )
    try:
        if not client.command(f"EXISTS TABLE {view}"):
            return frozenset()
        return frozenset(row[0] for row in client.query(f"SELECT job_id FROM {view}").result_rows)
    finally:
        client.close()


def wait_for_late_charges(api_url: str, within_s: float) -> None:
    """Return once the paid API has charged all that it charges late, or that time is over: before, the books lie."""
    give_up = time.monotonic() + within_s
    while asked(f"{api_url}/_stats")["to_charge"] and time.monotonic() < give_up:
        time.sleep(0.5)


def invoices(api_url: str) -> tuple[Mapping[str, object], ...]:
    """Return the paid API's ledger."""
    return tuple(asked(f"{api_url}/_invoices"))


def asked(url: str) -> Any:
    """Return the JSON that the sample shop or API answers on one of its own pages, such as /_stats."""
    answer = httpx.get(url, timeout=30)
    answer.raise_for_status()
    return answer.json()
