"""What export-json changes, for `scrapesaga simulate`: a folder that is thrown away after each history."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import msgspec

from processors.step import Host, Step
from processors.step_model import Network, StepModel


class Folder(StepModel):
    """A folder in the place of the one that the pipeline names."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self._folder = TemporaryDirectory()

    def step(self, step_class: type[Step], name: str, params: Any, host: Host) -> Step:
        """Return the step as it is, writing here."""
        return step_class(name, msgspec.structs.replace(params, folder=self._folder.name), host)

    def standing(self, job_id: str, run: int, key: str) -> int:
        """Count the job's files: one once it is completed, none once it is compensated."""
        return sum(path.name.startswith(quote(job_id, safe="") + ".") for path in Path(self._folder.name).iterdir())

    def close(self) -> None:
        """Throw the folder away."""
        self._folder.cleanup()
