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


def check_engine(environ: Mapping[str, str], settings: Settings) -> None:
    """Raise LocalError where a local engine is meant and there is none, instead of waiting for its Kafka."""
    if environ.get(SERVERS):
        return
    from processors.local.claim import holder_of
    from processors.local.errors import LocalError

    folder = Path(environ.get(DATA_DIR) or DEFAULT_DATA_DIR).absolute()
    if (folder / ADDRESSES).exists():
        # A Kafka of somebody else's may well be there without the engine.
        password = environment(environ).get("SCRAPESAGA_SASL_PASSWORD_FILE", "")
        if Path(password).parent == folder / "kafka" and holder_of(folder) is None:
            raise LocalError(f"The engine in {folder} isn't running: start it with `scrapesaga up`.")
    elif not _answers(settings.bootstrap_servers):
        raise LocalError(
            f"No engine here: there is no {folder / ADDRESSES}, and nothing listens at {settings.bootstrap_servers}. Use "
            f"the folder where `scrapesaga up` was started, or set {DATA_DIR} to it, or set {SERVERS} to your own Kafka."
        )


def _answers(address: str) -> bool:
    import socket

    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except OSError:
        return False


class Context:
    """The settings of one command, read when first needed, and the engine that they lead to."""

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises ConfigurationError."""
        from processors.settings.settings import Settings

        return Settings.from_env(environment(os.environ))

    def check(self) -> None:
        """Raise LocalError if a local engine is meant and there is none."""
        check_engine(os.environ, self.settings)

    @cached_property
    def engine(self) -> Engine:
        """The engine that operations are asked of. Raises LocalError if there is none here."""
        from processors.operations.engine import Engine

        self.check()
        return Engine(self.settings)

    def run(self, work: Callable[[Engine], Awaitable[T]]) -> T:
        """Return what an operation returns; Ctrl-C stops what it reads."""
        import asyncio

        return asyncio.run(self._run(work))

    async def _run(self, work: Callable[[Engine], Awaitable[T]]) -> T:
        async with self.engine as engine:
            return await work(engine)

    @property
    def client_if_known(self) -> Mapping[str, str] | None:
        """Settings of a confluent client if they were needed and could be read, for error messages."""
        engine: Engine | None = self.__dict__.get("engine")
        return None if engine is None else engine.client


def user_name() -> str:
    """Return who asks, for the record of operator actions."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container's user need not have a name.
        return f"uid {os.getuid()}"
