"""Golden pages: a saved page, and the record that a pipeline has to make of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from processors.errors import ConfigurationError, PipelineError
from processors.step import NOTHING_TO_UNDO, Step, StepCall, StepOutput
from processors.testing import golden_pages

URL = "https://shop.example/lamp"
PIPELINE: Mapping[str, Any] = {
    "name": "prices",
    "steps": [
        {"use": "fetch"},
        {"use": "parse", "with": {"fields": {"title": {"css": "h1", "required": True}, "description": ".text"}}},
        {"use": "load"},
    ],
}
LAMP = "<h1>Lamp</h1><p class=text>Light.</p>"
RECORD = {"url": URL, "title": "Lamp", "description": "Light."}


@pytest.fixture(autouse=True)
def at_a_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CI, nothing to rewrite, unless a test says so."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("SCRAPESAGA_TEST_GOLDEN", raising=False)


def page(folder: Path, html: str | bytes = LAMP, name: str = "lamp", **expected: Any) -> Path:
    """Save a page; return what is expected of it."""
    case = folder / name
    case.mkdir()
    (case / "page.html").write_bytes(html if isinstance(html, bytes) else html.encode())
    path = case / "expected.json"
    path.write_text(json.dumps({"url": URL, **expected}))
    return path


def check(folder: Path, pipeline: Mapping[str, Any] = PIPELINE, **how: Any) -> None:
    """Check the one page in a folder."""
    (found,) = golden_pages(folder)
    asyncio.run(found.check(pipeline, **how))


def test_a_page_that_makes_what_is_expected_passes(tmp_path: Path) -> None:
    """Only the steps through parse run: no warehouse is needed, and no network."""
    page(tmp_path, record=RECORD)
    check(tmp_path)
    assert [str(one) for one in golden_pages(tmp_path)] == ["lamp"]


def test_another_record_fails_with_the_difference(tmp_path: Path) -> None:
    """Line by line, and with what to do if it is right. Nothing is written."""
    path = page(tmp_path, record={**RECORD, "title": "Lamps"})
    before = path.read_bytes()
    with pytest.raises(AssertionError) as caught:
        check(tmp_path)
    assert '-    "title": "Lamps",' in str(caught.value)
    assert '+    "title": "Lamp",' in str(caught.value)
    assert "SCRAPESAGA_TEST_GOLDEN=rewrite" in str(caught.value)
    assert path.read_bytes() == before


def test_a_page_that_has_to_be_refused(tmp_path: Path) -> None:
    """The reason is expected like a record; a record in its place fails."""
    path = page(tmp_path, "<p>Not found</p>", failed="")
    with pytest.raises(AssertionError, match="neither `record` nor `failed`") as caught:
        check(tmp_path)
    reason = json.loads(str(caught.value).partition("look through it:\n")[2])["failed"]
    assert "title" in reason
    path.write_text(json.dumps({"url": URL, "failed": reason}))
    check(tmp_path)
    (path.parent / "page.html").write_text(LAMP)
    with pytest.raises(AssertionError, match="Lamp"):
        check(tmp_path)


def test_expectations_are_rewritten_on_purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the address alone a page is begun; what was said of it stays."""
    path = page(tmp_path, content_type="text/html; charset=utf-8", record={"title": "old"})
    monkeypatch.setenv("SCRAPESAGA_TEST_GOLDEN", "rewrite")
    check(tmp_path)
    monkeypatch.delenv("SCRAPESAGA_TEST_GOLDEN")
    assert json.loads(path.read_text()) == {
        "url": URL,
        "content_type": "text/html; charset=utf-8",
        "record": {**RECORD},
    }
    check(tmp_path)


@pytest.mark.parametrize(("said", "ci", "why"), [("rewrite", "true", "in CI"), ("1", "", "the only value is")])
def test_nothing_is_rewritten_by_accident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, ci: str, why: str
) -> None:
    """In CI every test would pass; another value is a mistake."""
    path = page(tmp_path, record={})
    monkeypatch.setenv("SCRAPESAGA_TEST_GOLDEN", said)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(ConfigurationError, match=why):
        check(tmp_path)
    assert json.loads(path.read_text())["record"] == {}


def test_a_page_keeps_its_charset_and_its_day(tmp_path: Path) -> None:
    """The type is what the site said; "3 days ago" counts from the day on which the page was fetched."""
    schema = {
        "type": "record",
        "name": "T",
        "fields": [
            {"name": "title", "type": "string"},
            {"name": "seen", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None},
        ],
    }
    (tmp_path / "t.avsc").write_text(json.dumps(schema))
    fields = {"title": "h1", "seen": {"css": ".seen", "type": "date"}}
    steps = [{"use": "fetch"}, {"use": "parse", "with": {"fields": fields}}]
    pipeline = {"name": "p", "record": str(tmp_path / "t.avsc"), "steps": steps}
    page(
        tmp_path,
        "<h1>Лампа</h1><p class=seen>3 days ago</p>".encode("koi8-r"),
        content_type="text/html; charset=koi8-r",
        fetched_at="2024-05-06T07:08:09+00:00",
        record={"title": "Лампа", "seen": "2024-05-03"},
    )
    check(tmp_path, pipeline)


class Mistaken(Step):
    """A step with a mistake."""

    compensate = NOTHING_TO_UNDO

    async def run(self, call: StepCall) -> StepOutput:
        """Fail as code fails."""
        raise KeyError("titel")


def test_a_mistake_in_a_step_is_no_expectation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error is raised as it is, and never written down as the page's."""
    path = page(tmp_path)
    before = path.read_bytes()
    monkeypatch.setenv("SCRAPESAGA_TEST_GOLDEN", "rewrite")
    with pytest.raises(KeyError, match="titel"):
        check(
            tmp_path,
            {"name": "p", "steps": [{"use": "fetch"}, {"use": f"{__name__}:{Mistaken.__name__}"}]},
            through="mistaken",
        )
    assert path.read_bytes() == before


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    """A folder without pages would be a test that tests nothing."""
    with pytest.raises(ConfigurationError, match="has no golden pages"):
        golden_pages(tmp_path)
    path = page(tmp_path, record=RECORD)
    with pytest.raises(PipelineError, match="no step 'parze'; say by `through`"):
        check(tmp_path, through="parze")
    with pytest.raises(PipelineError, match="no step that uses parse; say by `through`"):
        check(tmp_path, {"name": "p", "steps": [{"use": "fetch"}]})
    path.write_text('{"record": {}}')
    with pytest.raises(ConfigurationError, match=r"expected\.json can't be read.*url"):
        check(tmp_path)
