"""`run_step` and `open_step`: one command, and what the engine would make of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

import httpx
import pytest

from processors.errors import ConfigurationError, DeliveryFailed, PipelineError, RecordGone, RetryLater, StepFailed
from processors.step import NOTHING_TO_UNDO, Address, Step, StepCall, StepOutput, StepParams
from processors.steps.enrich import Enrich
from processors.steps.fetch import Fetch
from processors.testing import (
    Action,
    Answer,
    MemoryHost,
    MemorySite,
    MemoryWarehouse,
    Outcome,
    StepResult,
    open_step,
    run_step,
    step_call,
)
from topics.errors import UnknownTopic


class PublishParams(StepParams, frozen=True):
    """What it publishes."""

    value: str = "v"


class Publish(Step):
    """Publishes a page, and raises what the call's payload says."""

    Params: ClassVar[type[StepParams]] = PublishParams
    params: PublishParams
    opened: ClassVar[list[str]] = []

    async def open(self) -> None:
        """Note it."""
        self.opened.append(self.name)

    async def close(self) -> None:
        """Note it."""
        self.opened.remove(self.name)

    async def run(self, call: StepCall) -> StepOutput:
        """Publish, then raise."""
        await self.host.publish("pages", call.key.encode(), self.params.value.encode())
        await _raise(call.payload)
        return StepOutput(data={"cost": Decimal("1.50"), "path": ("a", "b")}, record={"title": "T"}, note="done")

    async def compensate(self, call: StepCall) -> None:
        """Take it back."""
        await self.host.publish("pages", call.key.encode(), None)


async def _raise(payload: Mapping[str, Any]) -> None:
    match payload.get("raises"):
        case "failed":
            raise StepFailed("no such page", effect_unknown=True)
        case "later":
            raise RetryLater("busy", after=timedelta(minutes=3))
        case "hangs":
            await asyncio.sleep(60)
        case "setting":
            raise ConfigurationError("the secret X is not set")
        case "delivery":
            raise DeliveryFailed("Kafka is away")
        case "bug":
            raise KeyError("title")


def run(raises: str = "", **how: Any) -> StepResult:
    """Run the step once."""
    call = step_call("publish", payload={"raises": raises}, timeout=timedelta(seconds=0.05))
    return asyncio.run(run_step(Publish, call, **how))


def test_a_step_that_works_returns_what_later_steps_would_see() -> None:
    """Outputs went through JSON: decimals are text, tuples are lists. What was published is there, with its topic."""
    result = run(params={"value": "page"})
    assert result.outcome is Outcome.SUCCEEDED
    assert result.returned() == StepOutput({"cost": "1.50", "path": ["a", "b"]}, {"title": "T"}, "done")
    (record,) = result.records("pages")
    assert (record.topic, record.key, record.value) == ("pages", b"job-1:1:publish", b"page")
    assert result.published == (record,)
    assert result.records("records") == ()
    assert Publish.opened == []


@pytest.mark.parametrize(
    ("raises", "outcome", "effect_unknown", "retry_after", "reason"),
    [
        ("failed", Outcome.FAILED, True, None, "no such page"),
        ("later", Outcome.RETRY, False, timedelta(minutes=3), "busy"),
        ("hangs", Outcome.TIMED_OUT, True, None, "the attempt ran out of time"),
        ("setting", Outcome.RETRY, False, None, "ConfigurationError: the secret X is not set"),
        ("bug", Outcome.UNEXPECTED, True, None, "unexpected error: KeyError('title')"),
    ],
)
def test_what_a_step_raises_is_an_outcome(
    raises: str, outcome: Outcome, effect_unknown: bool, retry_after: timedelta | None, reason: str
) -> None:
    """It says what the engine would do; the exception itself is there for its traceback."""
    result = run(raises)
    assert (result.outcome, result.effect_unknown, result.retry_after) == (outcome, effect_unknown, retry_after)
    assert result.reason == reason
    assert result.output is None
    assert len(result.records("pages")) == 1
    assert result.error is not None
    with pytest.raises(type(result.error)):
        result.returned()


def test_what_stops_a_worker_is_raised() -> None:
    """A record that Kafka didn't take is nothing that the step says of its attempt."""
    with pytest.raises(DeliveryFailed):
        run("delivery")


def test_an_output_that_no_event_can_carry_fails() -> None:
    """The engine's limit holds here too."""

    class Large(Step):
        compensate = NOTHING_TO_UNDO

        async def run(self, call: StepCall) -> StepOutput:
            return StepOutput(data={"page": "x" * 300_000})

    result = asyncio.run(run_step(Large))
    assert (result.outcome, result.effect_unknown) == (Outcome.FAILED, True)
    assert "archive what is large" in result.reason


def test_a_compensation_follows_on_the_same_step() -> None:
    """An open step takes one command after the other; nothing stands then."""

    async def scenario() -> tuple[MemoryHost, StepResult]:
        host = MemoryHost()
        async with open_step(Publish, name="publish", host=host) as step:
            assert Publish.opened == ["publish"]
            done = await run_step(step, step_call("publish"))
            assert list(host.compacted("pages")) == [b"job-1:1:publish"]
            return host, await run_step(step, done.call, action=Action.COMPENSATE)

    host, undone = asyncio.run(scenario())
    assert undone.outcome is Outcome.SUCCEEDED
    assert [record.value for record in undone.published] == [None]
    assert host.compacted("pages") == {}
    with pytest.raises(ValueError, match="COMPENSATE returns no output"):
        undone.returned()


def test_a_step_without_the_action_has_nothing_to_do() -> None:
    """As in the engine: it is asked, and answers at once."""
    result = asyncio.run(run_step(Publish, action=Action.CONFIRM))
    assert (result.outcome, result.published) == (Outcome.SUCCEEDED, ())


def test_params_are_read_as_from_a_pipeline() -> None:
    """A key that there isn't, or a type that doesn't fit, is the pipeline's error."""
    with pytest.raises(PipelineError, match="valu"):
        run(params={"valu": "x"})
    with pytest.raises(PipelineError, match="soon.*is not a duration"):
        asyncio.run(run_step(Fetch, params={"host_delay": "soon"}))


def test_an_open_step_keeps_what_it_was_opened_with() -> None:
    """To give it another host with a command would do nothing, so it is refused."""

    async def scenario() -> None:
        async with open_step(Publish) as step:
            await run_step(step, host=MemoryHost())

    with pytest.raises(TypeError, match="open_step"):
        asyncio.run(scenario())


def test_a_call_is_what_the_engine_would_send() -> None:
    """Fields of earlier steps are merged in order, their data is kept by name; the key names job, run and step."""
    earlier = {
        "fetch": StepOutput(data={"page": 1}, record={"title": "a", "url": "u"}),
        "parse": StepOutput(record={"title": "b"}),
    }
    call = step_call("load", job_id="j", run=3, earlier=earlier, record={"sku": "s"})
    assert call.key == "j:3:load"
    assert call.record == {"title": "b", "url": "u", "sku": "s"}
    assert call.outputs == {"fetch": {"page": 1}, "parse": {}}
    assert '"name": "Product"' in call.record_schema
    assert step_call(record_schema="").record_schema == ""


async def test_a_site_answers_by_url_and_method() -> None:
    """The step's own code follows the redirect; what is not there is 404, and an error is raised on the way."""
    site = MemorySite(
        {
            "https://shop.example/old": Answer(status=301, headers={"Location": "/new"}),
            "https://shop.example/new": "<h1>Lamp</h1>",
            "https://shop.example/away": httpx.ConnectError("no route"),
            "POST https://shop.example/post": "only for POST",
        }
    )
    async with open_step(Fetch, host=MemoryHost(), site=site) as step:
        found = await run_step(step, step_call(url="https://shop.example/old"))
        assert found.returned().data["final_url"] == "https://shop.example/new"
        missing = await run_step(step, step_call(url="https://shop.example/post"))
        assert (missing.outcome, "404" in missing.reason) == (Outcome.FAILED, True)
        away = await run_step(step, step_call(url="https://shop.example/away"))
        assert (away.outcome, "no route" in away.reason) == (Outcome.RETRY, True)
    assert [str(request.url) for request in site.requests][:2] == [
        "https://shop.example/old",
        "https://shop.example/new",
    ]


async def test_a_paid_call_shows_what_was_spent() -> None:
    """The real ledger keeps the books: paid once, freed by the cancellation."""

    async def bought(request: httpx.Request) -> Answer:
        return Answer.json({"category": request.headers["Idempotency-Key"]})

    url = "https://api.example/enrich"
    site = MemorySite({f"POST {url}": bought, f"DELETE {url}/job-1:1:step": Answer(status=204)})
    params = {"url": url, "cost": "0.002", "cancel": {"method": "DELETE", "url": url + "/{key}"}}
    async with open_step(Enrich, params, site=site) as step:
        first = await run_step(step, step_call(record={"title": "Lamp"}))
        assert (first.returned().record, first.spent) == ({"category": "job-1:1:step"}, Decimal("0.002"))
        again = await run_step(step, step_call(record={"title": "Lamp"}))
        assert (again.returned().note, again.spent) == ("paid before", Decimal(0))
        undone = await run_step(step, step_call(record={"title": "Lamp"}, seq=2), action=Action.COMPENSATE)
        assert (undone.outcome, undone.spent) == (Outcome.SUCCEEDED, Decimal("-0.002"))


async def test_a_warehouse_keeps_the_highest_version() -> None:
    """A row waits unseen until it is confirmed; a delete marker stays above a write that comes late."""
    from processors.steps.load import Load

    warehouse = MemoryWarehouse()
    record = {"url": "https://shop.example/1", "title": "Lamp"}
    async with open_step(Load, {"table": "prices"}, warehouse=warehouse) as step:
        await run_step(step, step_call(record=record, seq=2, confirms=True))
        assert warehouse.rows("prices") == []
        await run_step(step, step_call(record=record, seq=3), action=Action.CONFIRM)
        assert [(row["job_id"], row["title"]) for row in warehouse.rows("prices")] == [("job-1", "Lamp")]
        await run_step(step, step_call(record=record, seq=5), action=Action.COMPENSATE)
        late = await run_step(step, step_call(record=record, seq=4))
        assert late.outcome is Outcome.SUCCEEDED
    assert warehouse.rows("prices") == []
    assert warehouse.rows_of("job-1") == []


async def test_the_host_keeps_the_promises_of_a_real_one() -> None:
    """Topics are the catalogue's; a claim check is good for this very record; a tombstone hides what was there."""
    host = MemoryHost(secrets={"TOKEN": "t"}, settings={"A": "b"})
    address = await host.publish("pages", b"k", b"v", headers={"h": b"1"})
    assert await host.read(address, b"k") == b"v"
    assert await host.sibling().read(address, b"k") == b"v"
    for wrong, key in [
        (address, b"other"),
        (Address(**{**address.to_json(), "sha256": "0"}), b"k"),
        (Address(**{**address.to_json(), "offset": 7}), b"k"),
        (Address(**{**address.to_json(), "topic": "scrape.nothing"}), b"k"),
    ]:
        with pytest.raises(RecordGone):
            await host.read(wrong, key)
    await host.publish("pages", b"k", None)
    host.compact("pages")
    with pytest.raises(RecordGone):
        await host.read(address, b"k")
    with pytest.raises(UnknownTopic, match="pagse"):
        await host.publish("pagse", b"k", b"v")
    assert (host.secret("TOKEN"), host.setting("A"), host.setting("B", "c")) == ("t", "b", "c")
    with pytest.raises(ConfigurationError, match="MemoryHost"):
        host.secret("OTHER")
