"""The command line of chaos runs: `python -m tests.chaos --minutes 2 --seed 7`."""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from pathlib import Path

from tests.chaos.run import Options, run


def main() -> int:
    """Read the options and run; each that is left out has a default that says so."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long things are broken")
    parser.add_argument("--seed", type=int, help="decides what is broken and when; drawn and printed if left out")
    parser.add_argument("--in-flight", type=int, default=40, help="jobs under way at a time")
    parser.add_argument("--least-kills", type=int, default=0, help="fail if fewer processes were killed")
    parser.add_argument("--data-dir", type=Path, default=Path(".scrapesaga/chaos"), help="folder of all runs")
    parser.add_argument(
        "--late-charges", action="store_true", help="the paid API charges some calls after their cancellation"
    )
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "processors.local.supervisor"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    folder = given.data_dir / f"{seed}-{time.strftime('%Y%m%d%H%M%S')}"
    return run(
        Options(
            given.minutes, seed, folder, given.in_flight, least_kills=given.least_kills, late_charges=given.late_charges
        )
    )


if __name__ == "__main__":
    sys.exit(main())
