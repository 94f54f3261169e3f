"""A role of your own: counts what is written to `scrape.records`, and shows it as a metric."""

from collections.abc import AsyncIterator

from prometheus_client import Counter

from processors.kafka.record import Batch
from processors.process.role import Process, Role

counted = Counter("count_records_total", "Records seen, and withdrawals of records.", ["what"])


def _start(process: Process) -> None:
    """Read the topic in a consumer group of this role's own, wherever the role is played."""

    async def count(batches: AsyncIterator[Batch]) -> None:
        async for batch in batches:
            for record in batch.records:
                # A compensated saga's record is withdrawn by a tombstone.
                counted.labels("withdrawn" if record.value is None else "written").inc()
            # Only now: after a crash the batch comes again, and is counted again.
            batch.done()

    process.add_agent(process.app(COUNT_RECORDS), process.catalogue.records, count)


COUNT_RECORDS = Role(
    name="count-records",
    does="counts the records that were written and withdrawn",
    reads=("records",),
    writes=(),
    start=_start,
    scales_by="records",
)
