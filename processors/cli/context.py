"""What every command needs: settings, a reader, and the address of Kafka."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from processors.kafka.reader import Reader
from processors.local.claim import holder_of
from processors.local.errors import LocalError
from processors.process.provisioning import kafka_security
from processors.settings.settings import Settings
from topics.catalogue import Catalogue

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
    folder = Path(environ.get(DATA_DIR) or DEFAULT_DATA_DIR).absolute()
    if (folder / ADDRESSES).exists():
        # A Kafka of somebody else's may well be there without the engine.
        password = environment(environ).get("SCRAPESAGA_SASL_PASSWORD_FILE", "")
        if Path(password).parent == folder / "kafka" and holder_of(folder) is None:
            raise LocalError(f"The engine in {folder} isn't running: start it with `scrapesaga up`.")
    elif not _answers(settings.bootstrap_servers):
        raise LocalError(
            f"No engine here: there is no {folder / ADDRESSES}, and nothing listens at {settings.bootstrap_servers}. Go to "
            f"where `scrapesaga up` was started, or name its folder by {DATA_DIR}, or a Kafka of your own by {SERVERS}."
        )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except OSError:
        return False


class Context:
    """The settings of one command, read when first needed."""

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises ConfigurationError."""
        return Settings.from_env(environment(os.environ))

    def check(self) -> None:
        """Raise LocalError if a local engine is meant and there is none."""
        check_engine(os.environ, self.settings)

    @cached_property
    def client(self) -> dict[str, str]:
        """Settings of a confluent client. Raises LocalError if there is no engine here."""
        self.check()
        return {"bootstrap.servers": self.settings.bootstrap_servers, **kafka_security(self.settings).for_confluent()}

    @cached_property
    def reader(self) -> Reader:
        """Reads the topics."""
        return Reader(self.client)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The topics by their names, with the steps that are on the broker."""
        return self.settings.catalogue(self.reader.steps(self.settings.topic_prefix))

    @property
    def client_if_known(self) -> dict[str, str] | None:
        """Settings of a confluent client if they were needed and could be read, for error messages."""
        return self.__dict__.get("client")


def user_name() -> str:
    """Return who asks, for the record of operator actions."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container's user need not have a name.
        return f"uid {os.getuid()}"
