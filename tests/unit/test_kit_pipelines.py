"""`run_pipeline`: the real rules and the steps' own code in memory, what goes wrong on purpose, and what stands then."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from processors.errors import BadRecord, PipelineError, StepFailed
from processors.saga.events import Cancelled, Succeeded, TimedOut
from processors.step import NOTHING_TO_UNDO, Step, StepCall, StepOutput
from processors.step_model import StepModel
from processors.testing import (
    Action,
    Answer,
    Fault,
    FaultKind,
    Faults,
    MemoryHost,
    MemorySite,
    MemoryWarehouse,
    Phase,
    PipelineStory,
    every_fault,
    plan_of,
    run_pipeline,
)
from schemas.record import RecordSchema

URL = "https://shop.example/lamp"
API = "https://api.example"
PAGE = (
    '<script type="application/ld+json">{"@type": "Product", "name": "Lamp", "sku": "L-1", '
    '"offers": {"price": "12.99", "priceCurrency": "EUR"}}</script>'
)
SHOP: Mapping[str, Any] = {
    "name": "shop",
    "steps": [
        {"use": "fetch"},
        {"use": "parse", "with": {"preset": "product"}},
        {
            "use": "enrich",
            "with": {
                "url": f"{API}/enrich",
                "cost": "0.002",
                "cancel": {"url": f"{API}/cancel", "method": "POST", "body": {"key": "{key}"}},
            },
        },
        {"use": "load", "with": {"batch_wait": "1ms"}},
        {"use": "notify"},
    ],
}


class PaidApi:
    """Charges once under a key, and takes back what it is told to."""

    def __init__(self) -> None:
        self.charged: set[str] = set()
        self.calls = 0

    def enrich(self, request: httpx.Request) -> Answer:
        """Charge."""
        self.calls += 1
        self.charged.add(request.headers["Idempotency-Key"])
        return Answer.json({"category": "light"})

    def cancel(self, request: httpx.Request) -> Answer:
        """Take back."""
        key = request.content.decode().split('"')[3]
        if key not in self.charged:
            return Answer(status=404)
        self.charged.remove(key)
        return Answer(status=204)


class Shop:
    """Everything outside of one run."""

    def __init__(self) -> None:
        self.api = PaidApi()
        self.site = MemorySite({URL: PAGE, f"{API}/enrich": self.api.enrich, f"{API}/cancel": self.api.cancel})
        self.warehouse = MemoryWarehouse()

    def run(self, *faults: Fault, **how: Any) -> PipelineStory:
        """Run the pipeline."""
        return asyncio.run(run_pipeline(SHOP, URL, site=self.site, warehouse=self.warehouse, faults=faults, **how))


class Leaky(Step):
    """Publishes a page, and forgets to take it back unless it knows what it did."""

    async def run(self, call: StepCall) -> StepOutput:
        """Publish."""
        await self.host.publish("pages", call.key.encode(), b"page")
        return StepOutput(data={"key": call.key})

    async def compensate(self, call: StepCall) -> None:
        """Take back what is known: the mistake."""
        if call.output is not None:
            await self.host.publish("pages", call.key.encode(), None)


class Wrong(Step):
    """Has a fault."""

    compensate = NOTHING_TO_UNDO

    async def run(self, call: StepCall) -> StepOutput:
        """Fail as code fails."""
        return StepOutput(record={"title": call.record["titel"]})


def leaky(*faults: Fault) -> PipelineStory:
    """Run the leaky step before one that can fail."""
    steps = [{"use": f"{__name__}:Leaky", "name": "leaky"}, {"use": f"{__name__}:Leaky", "name": "last"}]
    return asyncio.run(run_pipeline({"name": "p", "steps": steps}, URL, faults=faults))


def test_a_job_completes_with_everything_in_its_place() -> None:
    """Record, row, page and payment; the states are those of the protocol, and confirmed steps were confirmed."""
    shop = Shop()
    story = shop.run(job_id="lamp", label="monday")
    assert (story.phase, story.reason, story.failed_step) == (Phase.COMPLETED, "", "")
    assert story.asked(Action.EXECUTE) == ("fetch", "parse", "enrich", "load", "notify")
    assert story.asked(Action.CONFIRM) == ("load",)
    assert story.asked(Action.COMPENSATE) == ()
    assert story.record["title"] == "Lamp"
    assert story.record["category"] == "light"
    assert [row["title"] for row in shop.warehouse.rows("shop")] == ["Lamp"]
    (published,) = story.records("records")
    assert published.value is not None
    assert RecordSchema.load("product").decode(published.value)["sku"] == "L-1"
    assert [len(part) for part in (story.standing.pages, story.standing.records, story.standing.rows)] == [1, 1, 1]
    assert [entry.key for entry in story.standing.paid] == [f"lamp:{story.saga.run}:enrich"]
    assert (story.spent, shop.api.calls) == (Decimal("0.002"), 1)
    assert set(story.outputs) == {"fetch", "parse", "enrich", "load", "notify"}
    assert story.saga.label == "monday"
    assert len(story.states) == len({saga.seq for saga in story.states})


@pytest.mark.parametrize("faults", every_fault(SHOP), ids=str)
def test_the_built_in_steps_leave_nothing_after_any_fault(faults: Faults) -> None:
    """A job completes, or nothing of it stands outside: no page, no record, no row, no bill."""
    shop = Shop()
    story = shop.run(*faults)
    if story.phase is Phase.COMPLETED:
        assert len(shop.warehouse.rows("shop")) == len(story.standing.records) == len(shop.api.charged) == 1
    else:
        assert story.phase is Phase.COMPENSATED, str(story)
        assert not story.standing, str(story)
        assert shop.api.charged == set(), str(story)
        assert story.spent == 0
    # enrich refuses to pay for a command that was overtaken; no step's code has failed.
    assert all(isinstance(raised.error, StepFailed) for raised in story.errors)


def test_steps_are_taken_back_in_reverse() -> None:
    """The last one that was done first; one that certainly did nothing is not asked."""
    story = Shop().run(Fault("load", FaultKind.FAILS))
    assert (story.phase, story.failed_step) == (Phase.COMPENSATED, "load")
    assert story.reason == "it fails (a fault of the test)"
    assert story.asked(Action.COMPENSATE) == ("enrich", "fetch")


def test_retries_take_no_time() -> None:
    """A fault that goes away costs attempts; the waits between them pass at once."""
    story = Shop().run(Fault("fetch", FaultKind.RETRIES, attempts=3))
    assert story.phase is Phase.COMPLETED
    assert [command.attempt for command in story.commands if command.step == "fetch"] == [1, 2, 3, 4]
    assert story.took > timedelta(seconds=1)


def test_late_work_is_taken_back_again() -> None:
    """A worker that stood still does its work after the job was given up: the reply brings another compensation."""
    story = Shop().run(Fault("notify", FaultKind.LATE))
    assert story.phase is Phase.COMPENSATED
    late = next(
        place for place, event in enumerate(story.events) if isinstance(event, Succeeded) and event.step == "notify"
    )
    assert story.lines[late - 1].saga.phase is Phase.COMPENSATED
    assert any(isinstance(event, TimedOut) for event in story.events[:late])
    assert [record.value is None for record in story.records("records")] == [True, False, True]
    assert not story.standing


def test_a_cancelled_job_is_taken_back() -> None:
    """What the attempt did meanwhile goes too."""
    story = Shop().run(Fault("enrich", FaultKind.CANCELLED))
    assert story.phase is Phase.COMPENSATED
    assert any(isinstance(event, Cancelled) for event in story.events)
    assert "cancelled by a test" in story.reason


def test_a_compensation_that_gives_up_parks_the_job() -> None:
    """What stands then is told."""
    story = Shop().run(Fault("load", FaultKind.FAILS), Fault("enrich", FaultKind.FAILS, Action.COMPENSATE))
    assert story.phase is Phase.PARKED
    assert story.reason.startswith("compensation of enrich gave up")
    assert [entry.step for entry in story.standing.paid] == ["enrich"]
    assert len(story.standing.pages) == 1
    assert "paid call" in str(story)


def test_a_leaking_compensation_is_found() -> None:
    """It works where the reply came, and leaks where it was lost: two faults of three find it."""
    assert not leaky(Fault("last", FaultKind.FAILS)).standing
    for kind in (FaultKind.TIMES_OUT_AFTER_EFFECT, FaultKind.CRASHES_AFTER_EFFECT):
        story = leaky(Fault("last", kind))
        assert (story.phase, bool(story.standing)) == (Phase.COMPENSATED, True)
        assert str(story.standing) == f"page {story.saga.job_id}:{story.saga.run}:last"


def test_the_code_of_a_step_that_raises_is_shown() -> None:
    """The exception itself is kept, for each attempt; a fault of the test is not among them."""
    story = asyncio.run(run_pipeline({"name": "p", "steps": [{"use": f"{__name__}:Wrong"}]}, URL))
    assert story.phase is Phase.COMPENSATED
    assert [type(raised.error) for raised in story.errors] == [KeyError] * 5
    assert (story.errors[4].step, story.errors[4].action, story.errors[4].attempt) == ("wrong", Action.EXECUTE, 5)
    assert leaky(Fault("last", FaultKind.FAILS)).errors == ()


def test_a_stand_in_takes_a_steps_place() -> None:
    """The plan stays as it is; a step class will do."""

    class Fixed(Step):
        async def run(self, call: StepCall) -> StepOutput:
            return StepOutput(record={"category": "fixed"})

        async def compensate(self, call: StepCall) -> None:
            return None

    shop = Shop()
    story = shop.run(stand_ins={"enrich": Fixed})
    assert (story.record["category"], shop.api.calls) == ("fixed", 0)


class Shelf(StepModel):
    """Counts what a Leaky step publishes, on its own."""

    def step(self, step_class: type[Step], name: str, params: Any, host: Any) -> Step:
        """Return the step, whose pages are counted."""
        model = self

        class Counted(Leaky):
            async def run(self, call: StepCall) -> StepOutput:
                async with model.network.call("PUT"):
                    model.kept.add(call.key)
                return await super().run(call)

        return Counted(name, params, host)

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        self.kept: set[str] = set()

    def standing(self, job_id: str, run: int, key: str) -> int:
        """Count."""
        return int(key in self.kept)


def test_a_step_model_says_what_stands() -> None:
    """The models of `scrapesaga simulate` serve here too."""
    steps = [{"use": f"{__name__}:Leaky", "name": "leaky"}, {"use": "notify"}]
    pipeline = {"name": "p", "steps": steps}
    how: dict[str, Any] = {"models": {"leaky": Shelf}}
    story = asyncio.run(run_pipeline(pipeline, URL, faults=[Fault("notify", FaultKind.FAILS)], **how))
    assert story.phase is Phase.COMPENSATED
    assert story.standing.outside == {"leaky": 1}
    assert str(story.standing) == "1 effects of leaky"


def test_what_could_never_happen_is_refused() -> None:
    """A fault, a stand-in or a model of a step that isn't there would make a test that tests nothing."""
    shop = Shop()
    for fault, why in [
        (Fault("fetsh", FaultKind.FAILS), "no step 'fetsh'; it has fetch, parse"),
        (Fault("parse", FaultKind.FAILS, Action.COMPENSATE), "parse has no compensation"),
        (Fault("notify", FaultKind.FAILS, Action.CONFIRM), "notify is never confirmed"),
    ]:
        with pytest.raises(PipelineError, match=why):
            shop.run(fault)
    with pytest.raises(PipelineError, match="no step 'x' to replace"):
        shop.run(stand_ins={"x": Leaky})
    with pytest.raises(PipelineError, match="a stand-in and a model"):
        shop.run(stand_ins={"load": Leaky}, models={"load": Shelf})
    with pytest.raises(PipelineError, match="this is no pipeline"):
        plan_of({"name": "p", "step": []})


def test_intake_refuses_what_it_refuses_in_production() -> None:
    """The request goes through intake's own code."""
    with pytest.raises(BadRecord, match="ftp"):
        asyncio.run(run_pipeline(SHOP, "ftp://shop.example/1"))


def test_two_jobs_on_one_host_keep_apart() -> None:
    """What another job left doesn't stand of this one, and its payment isn't this one's."""
    host, shop = MemoryHost(), Shop()
    shop.run(host=host, job_id="a")
    story = shop.run(Fault("notify", FaultKind.FAILS), host=host, job_id="b")
    assert not story.standing, str(story)
    assert len(host.compacted("pages")) == 1


def test_the_story_can_be_read() -> None:
    """One line an event, with its time, what it led to and what was asked; faults have names for pytest."""
    lines = str(Shop().run(Fault("load", FaultKind.FAILS), job_id="lamp")).splitlines()
    assert lines[0] == (
        "job lamp of pipeline shop COMPENSATED, at load: it fails (a fault of the test); what stands: nothing"
    )
    assert lines[1].strip().startswith("0.001 s  Submitted: RUNNING -> EXECUTE fetch (seq ")
    assert any("Failed load" in line and "-> COMPENSATE enrich" in line for line in lines)
    assert str(Faults((Fault("load", FaultKind.LATE), Fault("load", FaultKind.REPEATED, Action.COMPENSATE, 1)))) == (
        "load works late, the compensation of load runs twice 1x"
    )
    assert str(every_fault(SHOP)[0]) == "no fault"
