"""`python -m processors.simulation PIPELINE`: for checkouts; installed, `scrapesaga simulate` does the same."""

from __future__ import annotations

import sys

from processors.simulation.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
