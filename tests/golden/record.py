"""Records the golden log of a release: `python -m tests.golden.record 0.2.0`.

Runs the whole engine over the sample shop (two minutes), lets everything happen once, checks that the log explains itself,
and writes its topics to tests/golden/0.2.0. A version that is there already is never written again: it is in somebody's
Kafka.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from processors.kafka.reader import Reader
from tests.golden import logs
from tests.golden.scenario import play, started

HERE = Path(__file__).parent


def record(folder: Path) -> int:
    """Play the scenario, and write its topics to a folder; return the number of records."""
    count = 0
    with tempfile.TemporaryDirectory() as data, started(Path(data)) as run:
        play(run)
        reader = Reader(run.client)
        for topic in run.catalogue:
            if logs.is_golden(topic.short_name):
                records = sorted(reader.records(topic.name), key=lambda one: (one.partition, one.offset))
                count += logs.write(folder, topic.short_name, records)
    return count


def main(argv: list[str]) -> int:
    """Record a version; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="the version that is being released")
    version = parser.parse_args(argv).version
    folder = HERE / version
    if folder.exists():
        print(f"{folder} is there already; a released log is not recorded again", file=sys.stderr)
        return 1
    count = record(folder)
    report = logs.replay(folder)
    if report.divergences:
        print(f"the log doesn't explain itself: {report.divergences[0]}", file=sys.stderr)
        return 4
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{count} records, {size / 1024:.0f} KiB in {folder}: {report.states} states, {report.commands} commands")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
