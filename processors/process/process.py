"""A process that plays roles: what `scrapesaga worker` and local child processes run."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from processors.errors import ConfigurationError
from processors.observability.log_format import configure_logging
from processors.pipeline.pipeline import read_pipelines
from processors.process.provisioning import steps_served, verify_topics
from processors.process.role import Process
from processors.process.roles import find_roles
from processors.settings.settings import Settings

log = logging.getLogger(__name__)


def run_roles(settings: Settings, names: Sequence[str]) -> int:
    """Play roles until a signal or a crash; return the process's exit code. Raises ConfigurationError."""
    configure_logging(settings.log_level.value, settings.log_format.value, settings.secrets())
    pipelines = read_pipelines(settings.pipelines, settings.schemas_dir)
    steps = steps_served(settings, pipelines.values())
    roles = find_roles(names, steps)
    catalogue = settings.catalogue(steps)
    verify_topics(settings, catalogue)
    process = Process(settings, catalogue, pipelines, [role.name for role in roles])
    for role in roles:
        role.start(process)

    async def announce() -> None:
        log.info("ready", extra={"roles": ",".join(role.name for role in roles)})

    return process.run(announce)


def main(argv: Sequence[str]) -> int:
    """Play the roles in `argv` with the settings of the environment: what local child processes run."""
    try:
        return run_roles(Settings.from_env(os.environ), argv)
    except ConfigurationError as error:
        log.error("%s", error)
        return 3
