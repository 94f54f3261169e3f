"""How fast the auditor judges, in CPU time of one core: `python -m tests.golden.speed [JOBS]`."""

from __future__ import annotations

import resource
import sys
import time

from processors.auditor.auditor import Auditor
from processors.auditor.scope import Scope
from processors.plans import UnknownPlan
from tests.honest import CATALOGUE, PARTITIONS, Engine

AT_ONCE = 2_000


def main(jobs: int) -> int:
    """Audit the log of so many two-step jobs in the order in which it was written, and print what it took."""
    engine = Engine(1, failures=0.1)
    engine.run(jobs)
    records = sorted((one for topic in engine.topics.values() for one in topic), key=lambda one: one.timestamp_ms)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    auditor = Auditor(Scope(CATALOGUE, {partition: 0 for partition in range(PARTITIONS)}), engine.plans)
    began = time.process_time()
    for start in range(0, len(records), AT_ONCE):
        for record in records[start : start + AT_ONCE]:
            if record.topic != CATALOGUE.events.name:
                auditor.other(record)
                continue
            try:
                auditor.event(record)
            except UnknownPlan:
                auditor.unreadable(record)
        auditor.settle(engine.now)
    took = time.process_time() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{auditor.events} events of {jobs} jobs in {took:.2f} CPU s: {auditor.events / took:,.0f} events/s, "
        f"{jobs / took:,.0f} sagas/s, {grown:.0f} MiB more, {sum(auditor.broken.values())} promises broken"
    )
    return 1 if auditor.broken else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000))
