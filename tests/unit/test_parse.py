"""`parse` turns an archived page into record fields, or says which selector or field is in the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
import zstandard
from msgspec.structs import replace

from processors.errors import PipelineError, StepFailed
from processors.extraction.readers import PageReaders
from processors.step import NOTHING_TO_UNDO, StepCall, StepOutput
from processors.steps.parse import Parse, ParseParams
from processors.testing import MemoryHost, run_step, step_call
from schemas.record import RecordSchema

URL = "https://shop.example/p/1"
PAGE = """<html><body><h1> Copper  Lamp </h1><p class=price>1.299,00 €</p>
<img src="/1.jpg"><span class=seen>3 days ago</span></body></html>"""
FIELDS = {"title": "h1", "price": {"css": ".price", "type": "money"}}


async def archive(host: MemoryHost, html: str | bytes = PAGE, key: str = "a:1:fetch", **data: Any) -> dict[str, Any]:
    """What the step `fetch` leaves behind for a page."""
    body = html if isinstance(html, bytes) else html.encode()
    address = await host.publish("pages", key.encode(), zstandard.ZstdCompressor().compress(body))
    return {
        "page": address.to_json(),
        "page_key": key,
        "url": URL,
        "content_type": "text/html; charset=utf-8",
        "fetched_at": "2024-05-06T07:08:09.123+00:00",
        **data,
    }


def call(outputs: Mapping[str, Mapping[str, Any]], schema: str = "product", **record: Any) -> StepCall:
    """A command of the step."""
    return step_call(
        "parse",
        job_id="a",
        pipeline="shop-prices",
        seq=3,
        url="https://shop.example/short",
        earlier={name: StepOutput(data=data) for name, data in outputs.items()},
        record=record,
        record_schema=schema,
    )


def parsed(
    html: str | bytes = PAGE, schema: str = "product", record: Mapping[str, Any] | None = None, **params: Any
) -> StepOutput:
    """The step's output for a page; what it raises is raised."""

    async def scenario() -> StepOutput:
        host = MemoryHost()
        command = call({"fetch": await archive(host, html)}, schema, **(record or {}))
        return (await run_step(Parse, command, params=ParseParams(**params), host=host)).returned()

    return asyncio.run(scenario())


def one(avro_type: object, name: str = "seen") -> str:
    """A record schema of a single field, as a plan pins it."""
    return json.dumps({"type": "record", "name": "T", "fields": [{"name": name, "type": avro_type}]})


def test_a_page_becomes_record_fields_that_json_can_carry() -> None:
    """Only what was found is in the output, with the address that was fetched in the end."""
    output = parsed(fields=FIELDS)
    assert output.record == {
        "url": URL,
        "title": "Copper Lamp",
        "price": {"amount": "1299.0000", "currency": "EUR"},
    }
    assert json.loads(json.dumps(output.record)) == output.record
    assert output.data == {"encoding": "utf-8"}


def test_there_is_nothing_to_undo() -> None:
    """The engine sends no compensation."""
    assert Parse.compensate is NOTHING_TO_UNDO


def test_a_preset_brings_its_own_fields() -> None:
    """`preset: product` needs no selector."""
    html = '<script type="application/ld+json">{"@type": "Product", "name": "Lamp", "sku": "L-1"}</script>'
    record = parsed(html, preset="product").record
    assert (record["title"], record["sku"]) == ("Lamp", "L-1")


def test_bytes_are_read_by_their_charset() -> None:
    """The Content-Type may lie about nothing: a page's own <meta> counts where the header says nothing."""

    async def scenario() -> StepOutput:
        host = MemoryHost()
        body = "<meta charset=koi8-r><h1>Лампа</h1>".encode("koi8-r")
        fetched = await archive(host, body, content_type="text/html")
        return await Parse("parse", ParseParams(fields={"title": "h1"}), host).run(call({"fetch": fetched}))

    output = asyncio.run(scenario())
    assert (output.record["title"], output.data["encoding"]) == ("Лампа", "koi8-r")


def test_relative_dates_count_from_when_the_page_was_fetched() -> None:
    """Parsing an archived page again years later gives the same date."""
    schema = one({"type": "int", "logicalType": "date"})
    assert parsed(schema=schema, fields={"seen": {"css": ".seen", "type": "date"}}).record == {"seen": "2024-05-03"}


def test_relative_links_count_from_the_final_address() -> None:
    """Not from the address that was submitted."""
    record = parsed(fields={**FIELDS, "images": {"css": "img", "attr": "src", "type": "list", "items": "url"}}).record
    assert record["images"] == ["https://shop.example/1.jpg"]


def test_the_step_to_read_from_can_be_named() -> None:
    """With two archived pages the first is read, unless `page` names the other one."""

    async def scenario(page: str) -> object:
        host = MemoryHost()
        outputs = {
            "other": {"status": 200},
            "fetch": await archive(host, "<h1>First</h1>"),
            "details": await archive(host, "<h1>Second</h1>", key="a:1:details"),
        }
        step = Parse("parse", ParseParams(fields={"title": "h1"}, page=page), host)
        return (await step.run(call(outputs))).record["title"]

    assert asyncio.run(scenario("")) == "First"
    assert asyncio.run(scenario("details")) == "Second"


def test_a_page_of_an_earlier_run_is_read_by_its_own_key() -> None:
    """After a redrive from parse the page still lies under the key of the run that fetched it."""

    async def scenario() -> StepOutput:
        host = MemoryHost()
        fetched = await archive(host, key="a:1:fetch")
        again = call({"fetch": fetched})
        return await Parse("parse", ParseParams(fields=FIELDS), host).run(replace(again, run=2, key="a:2:parse"))

    assert asyncio.run(scenario()).record["title"] == "Copper Lamp"


def test_what_an_earlier_step_said_counts_for_the_schema() -> None:
    """A field that another step has filled need not be on the page, and is not repeated."""
    output = parsed("<p class=price>1 €</p>", record={"title": "Known"}, fields={"price": FIELDS["price"]})
    assert "title" not in output.record


def test_a_missing_field_names_its_selector() -> None:
    """The saga fails for good, with the page's address and what was looked for."""
    with pytest.raises(StepFailed, match=r"page https://shop\.example/p/1: required field title.*h2\.name"):
        parsed(fields={"title": "h2.name"})


def test_a_value_that_does_not_fit_names_its_field() -> None:
    """The record schema checks what parse found."""
    with pytest.raises(StepFailed, match="seen: 'Copper Lamp' is not a number"):
        parsed(schema=one("int"), fields={"seen": "h1"})


def test_a_pipeline_without_a_record_schema_is_told_so() -> None:
    """The error says what to add."""
    with pytest.raises(StepFailed, match="add `record: product`"):
        parsed(schema="", fields=FIELDS)


def test_a_page_that_is_gone_is_told_with_the_way_out() -> None:
    """A compacted page fails the saga for good: only fetching again helps."""

    async def scenario() -> None:
        host = MemoryHost()
        fetched = await archive(host)
        await archive(host, "<h1>Newer</h1>")
        host.compact("pages")
        await Parse("parse", ParseParams(fields=FIELDS), host).run(call({"fetch": fetched}))

    with pytest.raises(StepFailed, match="redrive from the step that fetches it"):
        asyncio.run(scenario())


@pytest.mark.parametrize(("page", "says"), [("", "put `use: fetch` first"), ("details", "details archived no page")])
def test_without_a_page_there_is_nothing_to_parse(page: str, says: str) -> None:
    """The error says what the pipeline lacks."""
    step = Parse("parse", ParseParams(fields=FIELDS, page=page), MemoryHost())
    with pytest.raises(StepFailed, match=says):
        asyncio.run(step.run(call({"other": {"status": 200}})))


def test_a_decompression_bomb_is_refused() -> None:
    """A page that unpacks to more than 64 MiB fails the saga, whatever its frame claims."""
    with pytest.raises(StepFailed, match="over 67108864 bytes"):
        parsed(b"\0" * (64 * 1024 * 1024 + 1), fields=FIELDS)


def test_bytes_that_are_no_zstd_fail_the_saga() -> None:
    """Nothing else is ever archived; trying again would not help."""

    async def scenario() -> None:
        host = MemoryHost()
        fetched = await archive(host)
        address = await host.publish("pages", b"a:1:fetch", b"<html>")
        await Parse("parse", ParseParams(fields=FIELDS), host).run(
            call({"fetch": {**fetched, "page": address.to_json()}})
        )

    with pytest.raises(StepFailed, match="is not zstd"):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (ParseParams(), "there are no fields"),
        (ParseParams(fields={"title": "h1["}), "title"),
        (ParseParams(fields={"price": {"css": ".p", "type": "monney"}}), "types are"),
        (ParseParams(preset="products"), "no preset 'products'"),
    ],
)
def test_parameters_that_cannot_work_are_refused_by_lint(params: ParseParams, says: str) -> None:
    """Before anything runs, with the field's name; a step cannot be made of them either."""
    with pytest.raises(PipelineError, match=says):
        Parse.check(params)
    with pytest.raises(PipelineError, match=says):
        Parse("parse", params, MemoryHost())


def test_lint_compares_the_fields_with_the_record_schema() -> None:
    """A field that the record does not have is named, with those that it has."""
    product = RecordSchema.load("product")
    Parse.check_record(ParseParams(fields=FIELDS, preset="product"), product)
    with pytest.raises(PipelineError, match="colour not in the record .*availability"):
        Parse.check_record(ParseParams(fields={**FIELDS, "colour": ".c"}), product)


async def test_a_large_page_is_read_by_a_process_that_ends_with_the_step() -> None:
    """Two steps of a worker share it; the last one to close ends it."""
    host = MemoryHost()
    html = PAGE.replace("<img", "<p>" + "x" * 100_000 + "</p><img")
    steps = [Parse(name, ParseParams(fields=FIELDS), host) for name in ("parse", "again")]
    outputs = [await step.run(call({"fetch": await archive(host, html)})) for step in steps]
    assert [output.record["title"] for output in outputs] == ["Copper Lamp"] * 2
    shared = PageReaders.joined(1)
    (process,) = shared.idle
    await shared.leave()
    await steps[0].close()
    assert process.returncode is None
    await steps[1].close()
    assert process.returncode == 0


async def test_an_expression_of_the_pipeline_that_takes_for_ever_fails_its_job() -> None:
    """However small the page is; the reason says what may be slow, and the next page is read."""
    host = MemoryHost()
    step = Parse("parse", ParseParams(fields={"title": {"regex": "(a+)+$", "default": "none"}}), host)
    with pytest.raises(StepFailed, match=r"page https://shop\.example/p/1: the page takes over 2 s of computing"):
        await step.run(call({"fetch": await archive(host, "a" * 40 + "b")}))
    assert (await step.run(call({"fetch": await archive(host, "<p>b")}))).record["title"] == "none"
    await step.close()


def test_a_page_that_only_sends_browsers_on_is_no_record() -> None:
    """Its title would be "Redirecting"; the reason names the address to submit."""
    with pytest.raises(StepFailed, match=r"only sends browsers on to https://shop\.example/real: submit that address"):
        parsed('<title>Redirecting...</title><meta http-equiv="refresh" content="0;url=/real">', fields=FIELDS)


async def test_a_page_over_the_budget_fails_its_job_with_the_limit() -> None:
    """The reason says of what there is too much."""
    host = MemoryHost()
    step = Parse("parse", ParseParams(fields=FIELDS), host)
    with pytest.raises(StepFailed, match=r"has some 160,002 tags, over the 150,000 that are read"):
        await step.run(call({"fetch": await archive(host, "<p><b>x" * 80_001)}))
    await step.close()
