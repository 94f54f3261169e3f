"""How a step of your own is tested: no Kafka, no network, a second for all of it."""

import asyncio
from pathlib import Path

import pytest
from export_json import ExportJson
from export_json_simulated import Folder

from processors.testing import (
    Action,
    Fault,
    Faults,
    GoldenPage,
    MemorySite,
    Outcome,
    Phase,
    PipelineStory,
    every_fault,
    golden_pages,
    open_step,
    run_pipeline,
    run_step,
    step_call,
)

HERE = Path(__file__).parent
PIPELINE = HERE / "pipeline.yaml"
URL = "https://shop.example/lamp"
LAMP = (HERE / "pages" / "lamp" / "page.html").read_bytes()


def test_the_file_is_written_and_deleted(tmp_path: Path) -> None:
    """One command after the other: compensated before it ran, run twice, compensated twice."""

    async def scenario() -> None:
        call = step_call("export-json", job_id="a/b", record={"title": "Lamp"})
        async with open_step(ExportJson, {"folder": str(tmp_path)}, name="export-json") as step:
            for action in (Action.COMPENSATE, Action.EXECUTE, Action.EXECUTE):
                assert (await run_step(step, call, action=action)).outcome is Outcome.SUCCEEDED
            assert [path.name for path in tmp_path.iterdir()] == ["a%2Fb.json"]
            for action in (Action.COMPENSATE, Action.COMPENSATE):
                assert (await run_step(step, call, action=action)).outcome is Outcome.SUCCEEDED
            assert list(tmp_path.iterdir()) == []

    asyncio.run(scenario())


def test_a_missing_folder_is_an_unexpected_error(tmp_path: Path) -> None:
    """The engine would make another attempt, and compensate the step if none works."""
    params = {"folder": str(tmp_path / "missing")}
    result = asyncio.run(run_step(ExportJson, step_call("export-json"), params=params))
    assert (result.outcome, result.effect_unknown) == (Outcome.UNEXPECTED, True)
    assert isinstance(result.error, FileNotFoundError)


def run(*faults: Fault) -> PipelineStory:
    """Run the whole pipeline: the page comes from memory, the file goes to the model's folder."""
    site = MemorySite({URL: LAMP})
    return asyncio.run(run_pipeline(PIPELINE, URL, site=site, models={"export-json": Folder}, faults=faults))


def test_a_job_completes() -> None:
    """One file stands, one page and one record."""
    story = run()
    assert story.phase is Phase.COMPLETED, str(story)
    assert story.record["title"] == "Copper lamp"
    assert story.standing.outside == {"export-json": 1}
    assert len(story.standing.records) == 1


@pytest.mark.parametrize("faults", every_fault(PIPELINE), ids=str)
def test_nothing_is_left_of_a_job_that_failed(faults: Faults) -> None:
    """Whatever goes wrong, at whichever step: all of it stands, or nothing."""
    story = run(*faults)
    assert story.phase in (Phase.COMPLETED, Phase.COMPENSATED), str(story)
    assert bool(story.standing) == (story.phase is Phase.COMPLETED), str(story)


@pytest.mark.parametrize("page", golden_pages(HERE / "pages"), ids=str)
def test_a_page_makes_the_record_that_it_made(page: GoldenPage) -> None:
    """A page of the shop as it was saved, and what `parse` has to make of it."""
    asyncio.run(page.check(PIPELINE))
