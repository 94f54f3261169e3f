"""What every command needs: the settings, a reader, and where Kafka is."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from processors.kafka.reader import Reader
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


class Context:
    """The settings of one command, read when first needed."""

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises ConfigurationError."""
        return Settings.from_env(environment(os.environ))

    @cached_property
    def client(self) -> dict[str, str]:
        """Settings of a confluent client."""
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
        """Settings of a confluent client if the settings could be read, for error messages."""
        return self.client if "settings" in self.__dict__ else None


def user_name() -> str:
    """Return who asks, for the record of manual acts."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container's user need not have a name.
        return f"uid {os.getuid()}"
