"""A step of your own: one JSON file a job, deleted when the saga is undone."""

import json
from pathlib import Path
from urllib.parse import quote

from processors.step import Step, StepCall, StepOutput, StepParams


class ExportParams(StepParams, frozen=True):
    """`folder` must exist, and be the same for every worker that plays this step: a shared volume, for example."""

    folder: str


class ExportJson(Step):
    """Write the record to `<folder>/<job_id>.json`."""

    Params = ExportParams
    params: ExportParams
    # `scrapesaga simulate` runs this very class, on a folder of its own.
    simulated = "export_json_simulated:Folder"

    async def run(self, call: StepCall) -> StepOutput:
        """Write the file as a whole, again and again if need be."""
        path = self._path(call)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(call.record, indent=2), "utf-8")
        unfinished.replace(path)
        return StepOutput(data={"path": str(path)})

    async def compensate(self, call: StepCall) -> None:
        """Delete the file, if there is one."""
        self._path(call).unlink(missing_ok=True)

    def _path(self, call: StepCall) -> Path:
        # From the call, not from what run returned: its reply may have been lost while the file is there.
        return Path(self.params.folder, f"{quote(call.job_id, safe='')}.json")
