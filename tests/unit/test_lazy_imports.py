"""What is loaded: operations without a terminal, help without a client, a job's status without the code of pipelines."""

from __future__ import annotations

import subprocess
import sys

_LOADED = (
    "import sys\n{}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}} | set(sys.modules)), sep='\\n')"
)
_HELP = "from processors.cli.app import app\ntry:\n    app(['{}', '--help'])\nexcept SystemExit:\n    pass"
_OPERATIONS = """
from importlib import import_module
from pkgutil import iter_modules
import processors.operations as room
for module in iter_modules(room.__path__, "processors.operations."):
    import_module(module.name)
"""


def loaded(code: str) -> set[str]:
    """Return the modules that a process has loaded once it ran some code."""
    ran = subprocess.run([sys.executable, "-P", "-c", _LOADED.format(code)], capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines())


def test_operations_know_no_terminal() -> None:
    """Whatever face calls them, they bring no typer, no rich and no part of the command line."""
    assert not loaded(_OPERATIONS) & {"typer", "click", "rich", "processors.cli"}


def test_help_loads_no_client() -> None:
    """Reading what a command does takes a tenth of a second, without Kafka's clients or what draws tables."""
    for command in ("list", "audit"):
        assert not loaded(_HELP.format(command)) & {"confluent_kafka", "rich", "faust", "yaml", "fastavro", "asyncio"}


def test_looking_at_a_job_loads_no_more_than_it_needs() -> None:
    """No Faust, no pipelines, no auditor, no HTTP."""
    code = "import processors.cli.app\nfrom processors.cli import show\nfrom processors.operations import queries"
    assert not loaded(code) & {"faust", "aiokafka", "aiohttp", "httpx", "yaml", "processors.pipeline.pipeline"}
