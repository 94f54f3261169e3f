"""What every command needs: the settings, and the operations on the engine that they name.

Commands import what they call when they are called: looking at a job must not take a second longer for the code that
checks pipelines, and `--help` none at all.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from processors.operations.engine import Engine
    from processors.settings.settings import Settings

T = TypeVar("T")

SERVERS = "SCRAPESAGA_BOOTSTRAP_SERVERS"
DATA_DIR = "SCRAPESAGA_DATA_DIR"
DEFAULT_DATA_DIR = ".scrapesaga"
# What `scrapesaga up` writes into its data folder.
ADDRESSES = "up.env"


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to read settings from: those of a local engine too, where no Kafka was named.

    What is set wins over what the local engine wrote.
    """
    given = {name: value for name, value in environ.items() if value}
    if SERVERS in given:
        return dict(given)
    path = Path(given.get(DATA_DIR, DEFAULT_DATA_DIR)) / ADDRESSES
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return dict(given)
    found = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {**found, **given}


class Context:
    """The settings of one command, read when first needed, and the engine that they lead to."""

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises ConfigurationError."""
        from processors.settings.settings import Settings

        return Settings.from_env(environment(os.environ))

    def run(self, work: Callable[[Engine], Awaitable[T]]) -> T:
        """Return what an operation returns; Ctrl-C stops what it reads."""
        import asyncio

        return asyncio.run(self._run(work))

    async def _run(self, work: Callable[[Engine], Awaitable[T]]) -> T:
        from processors.operations.engine import Engine

        async with Engine(self.settings) as engine:
            return await work(engine)

    @property
    def client_if_known(self) -> dict[str, str] | None:
        """Settings of a confluent client if the settings could be read, for error messages."""
        if "settings" not in self.__dict__:
            return None
        from processors.operations.engine import Engine

        return Engine(self.settings).client


def user_name() -> str:
    """Return who asks, for the record of manual acts."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container's user need not have a name.
        return f"uid {os.getuid()}"
