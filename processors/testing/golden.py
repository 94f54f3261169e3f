"""Golden pages: saved pages with the records that a pipeline has to make of them, compared without a network.

    tests/pages/lamp/page.html         the page, as the site sent it
    tests/pages/lamp/expected.json     {"url": "https://shop.example/lamp", "record": {"title": "Lamp", ...}}

    @pytest.mark.parametrize("page", golden_pages("tests/pages"), ids=str)
    def test_page(page):
        asyncio.run(page.check("pipelines/prices.yaml"))

A page that must be refused has `"failed": "the reason"` in the place of `"record"`. `"content_type"` is what the site
said it is, `"fetched_at"` when it was fetched, for pages that say "3 days ago".
SCRAPESAGA_TEST_GOLDEN=rewrite writes what comes out now into expected.json, for a person to look through.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from processors.errors import ConfigurationError, PipelineError
from processors.pipeline.pipeline import find_step
from processors.roles.failures import failure_of
from processors.saga.plan import Plan, pin
from processors.saga.state import Phase
from processors.step import Json, StepCall, StepOutput
from processors.steps.fetch import Fetch
from processors.steps.parse import Parse
from processors.testing.memory import MemoryHost
from processors.testing.pipelines import run_pipeline
from processors.testing.plans import plan_of
from processors.testing.site import Answer, MemorySite

PAGE = "page.html"
EXPECTED = "expected.json"
REWRITE = "SCRAPESAGA_TEST_GOLDEN"


class Expectation(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What expected.json says."""

    url: str
    content_type: str = "text/html"
    fetched_at: str = ""
    record: dict[str, Any] | None = None
    failed: str = ""


@dataclass(frozen=True, slots=True)
class GoldenPage:
    """A folder with a page and what is expected of it."""

    folder: Path

    def __str__(self) -> str:
        return self.folder.name

    async def check(
        self,
        pipeline: Plan | Mapping[str, Any] | str | Path,
        *,
        through: str = "",
        host: MemoryHost | None = None,
        schemas: Path | None = None,
    ) -> None:
        """Run the pipeline on the page through the step `through`, and compare the record; rewrite it when told to.

        By default that is the last step that uses `parse`. Raises AssertionError with the difference, ConfigurationError
        if the folder is not as it should be, PipelineError for a pipeline that can't be planned.
        """
        expected = self._expectation()
        found = await self._run(_cut(plan_of(pipeline, schemas), through), expected, host)
        if _rewriting():
            self._write(found)
            return
        if expected.record is None and not expected.failed:
            raise AssertionError(
                f"{self.folder / EXPECTED} has neither `record` nor `failed`; to write what comes out now, run once with "
                f"{REWRITE}=rewrite, and look through it:\n{_text(found)}"
            )
        if found != expected:
            lines = difflib.unified_diff(
                _text(expected).splitlines(), _text(found).splitlines(), "expected", "found", lineterm=""
            )
            raise AssertionError(
                f"{self.folder}: the pipeline makes something else of the page; if that is right, run once with "
                f"{REWRITE}=rewrite\n" + "\n".join(lines)
            )

    async def _run(self, plan: Plan, expected: Expectation, host: MemoryHost | None) -> Expectation:
        answer = Answer((self.folder / PAGE).read_bytes(), headers={"Content-Type": expected.content_type})
        site = MemorySite({expected.url: answer})
        stand_ins = {}
        if expected.fetched_at:
            fetching = [step.name for step in plan.steps if issubclass(find_step(step.use), Fetch)]
            stand_ins = dict.fromkeys(fetching, _fetch_at(expected.fetched_at))
        story = await run_pipeline(plan, expected.url, host=host, site=site, stand_ins=stand_ins)
        for raised in story.errors:
            if not failure_of(raised.error).expected:
                # A fault of the step's code, not something that it says of the page.
                raise raised.error
        done = story.phase is Phase.COMPLETED
        return msgspec.structs.replace(
            expected, record=dict(story.record) if done else None, failed="" if done else story.reason
        )

    def _expectation(self) -> Expectation:
        path = self.folder / EXPECTED
        try:
            return msgspec.json.decode(path.read_bytes(), type=Expectation)
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigurationError(
                f"{path} can't be read: {error}; it needs at least "
                f'{{"url": "https://..."}}, the address of {PAGE} beside it'
            ) from error

    def _write(self, found: Expectation) -> None:
        (self.folder / EXPECTED).write_text(_text(found) + "\n", "utf-8")


def golden_pages(folder: str | Path) -> list[GoldenPage]:
    """Return the golden pages in a folder, by name. Raises ConfigurationError if there is none."""
    pages = [GoldenPage(path.parent) for path in sorted(Path(folder).glob(f"*/{PAGE}"))]
    if not pages:
        raise ConfigurationError(
            f"{folder} has no golden pages: a page is {folder}/NAME/{PAGE}, with {EXPECTED} beside it"
        )
    return pages


def _cut(plan: Plan, through: str) -> Plan:
    """Return the plan up to a step."""
    if through:
        last = plan.index(through)
    else:
        last = max(
            (place for place, step in enumerate(plan.steps) if issubclass(find_step(step.use), Parse)), default=-1
        )
    if last < 0:
        missing = repr(through) if through else "that uses parse"
        raise PipelineError(
            f"pipeline {plan.pipeline} has no step {missing}; say by `through` which step makes the record: "
            f"{', '.join(step.name for step in plan.steps)}"
        )
    return pin(msgspec.structs.replace(plan, steps=plan.steps[: last + 1]))


def _fetch_at(moment: str) -> type[Fetch]:
    class FetchThen(Fetch):
        """fetch, as it would have been at that moment."""

        async def run(self, call: StepCall) -> StepOutput:
            output = await super().run(call)
            return StepOutput({**output.data, "fetched_at": moment}, output.record, output.note)

    return FetchThen


def _rewriting() -> bool:
    said = os.environ.get(REWRITE, "")
    if said not in ("", "rewrite"):
        raise ConfigurationError(f"{REWRITE}={said}: the only value is `rewrite`")
    if said and os.environ.get("CI"):
        raise ConfigurationError(
            f"{REWRITE}=rewrite in CI would make every test pass: rewrite expectations at your desk"
        )
    return bool(said)


def _text(expected: Expectation) -> str:
    value: Json = msgspec.to_builtins(expected)
    if expected.record is not None:
        # A record's order says nothing: without it a difference shows what differs.
        value["record"] = json.loads(json.dumps(expected.record, sort_keys=True))
    return json.dumps(value, indent=2, ensure_ascii=False)
