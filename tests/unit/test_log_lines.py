"""Log lines: one event, one line, its fields, its trace, and no secret."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest
from msgspec.structs import replace

from processors.errors import ConfigurationError
from processors.kafka.credentials import Security
from processors.observability import log_format as log_lines
from processors.observability.log_format import configure_logging, redact_from_logs, redacted
from processors.observability.tracing import begin_attempt
from processors.process.host import EngineHost
from processors.saga.commands import outstanding
from processors.settings.settings import Settings
from tests.sagas import running
from topics.catalogue import Catalogue

log = logging.getLogger("tests.log_lines")

# With characters that JSON escapes.
PASSWORD = 'kafka"pass\u00e9'  # noqa: S105


class Lines:
    """What was written to standard error."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured
        self._text = ""

    def text(self) -> str:
        """Return it all."""
        self._text += self._captured.readouterr().err
        return self._text

    def json(self) -> list[dict[str, Any]]:
        """Return every line as an object."""
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """Standard error, and logging as it was before afterwards."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(log_lines, "_secrets", [])
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield Lines(capsys)
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


def test_an_event_is_one_line_with_its_fields(lines: Lines) -> None:
    """Fields keep their kind, line breaks stay inside the line, empty fields are left out."""
    configure_logging("info", "json")
    log.info("saga %s\nof two lines", "done", extra={"job_id": "j-1", "seq": 7, "step": "load", "reason": ""})
    (line,) = lines.json()
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "tests.log_lines",
        "message": "saga done\nof two lines",
        "job_id": "j-1",
        "seq": 7,
        "step": "load",
    }


def test_a_traceback_is_a_field_of_its_line(lines: Lines) -> None:
    """What ends a process, and what a library warns of, come as lines of JSON too."""
    configure_logging("info", "json")
    try:
        raise ValueError("broken")
    except ValueError as error:
        log.exception("caught")
        sys.excepthook(ValueError, error, error.__traceback__)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    caught, end, warned = lines.json()
    assert "ValueError: broken" in caught["traceback"] and "ValueError: broken" in end["traceback"]
    assert end["level"] == "critical" and warned["logger"] == "py.warnings"


def test_a_line_of_an_attempt_has_its_trace(lines: Lines) -> None:
    """Whoever logs in a step needs to know nothing of traces."""
    configure_logging("info", "json")
    (command,) = outstanding(replace(running().state, trace=f"00-{'a' * 32}-{'b' * 16}-01"))

    def work() -> None:
        begin_attempt(None, command, (), "scrape.a.commands", 0)
        log.info("within")

    copy_context().run(work)
    log.info("without")
    within, without = lines.json()
    assert within["trace_id"] == "a" * 32 and "trace_id" not in without


@pytest.mark.parametrize("style", ["json", "text"])
def test_no_secret_is_in_a_line(lines: Lines, style: str) -> None:
    """Neither of the settings nor of steps: not in messages, fields or tracebacks, whatever characters it has."""
    settings = Settings.from_env(
        {
            "SCRAPESAGA_SECURITY_PROTOCOL": "SASL_SSL",
            "SCRAPESAGA_SASL_USERNAME": "ann",
            "SCRAPESAGA_SASL_PASSWORD": PASSWORD,
            "API_KEY": "step-secret",
        }
    )
    configure_logging("info", style, settings.secrets())
    host = EngineHost("enrich", settings, Security(), Catalogue(), None)  # type: ignore[arg-type]  # sends nothing
    assert host.secret("API_KEY") == "step-secret"
    try:
        raise ConfigurationError(f"no: {PASSWORD}")
    except ConfigurationError:
        log.exception("sent step-secret", extra={"headers": {"Authorization": "Bearer step-secret"}})
    assert "step-secret" not in lines.text() and "pass" not in lines.text()
    assert "no: ***" in lines.text() and "Bearer ***" in lines.text()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://ann:pw@shop.test/p?token=x#f failed", "GET https://***@shop.test/p?*** failed"),
        ("('http://shop.test/p?token=x',)", "('http://shop.test/p?***',)"),
        ("http://shop.test/p is fine", "http://shop.test/p is fine"),
        ("why? because", "why? because"),
        ("http://x/p#f?q", "http://x/p#f?q"),
        ("a://b#c://d?secret)e://f?x g?h", "a://b#c://d?***)e://f?*** g?h"),
        ("http://x/?) http://x/?", "http://x/?) http://x/?"),
    ],
)
def test_urls_are_shown_without_what_may_be_secret(text: str, shown: str) -> None:
    """Libraries quote the URL that they failed on."""
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "part", ["a-", "http://a", "http://a?", "(http://a?b)", "a://#?", "://#", "://a@", "\\u0041", "&#65;"]
)
def test_a_line_takes_time_in_proportion(part: str, lines: Lines) -> None:
    """What a site sends in a header ends up in a line: eight times as much must not take sixty times as long."""
    redact_from_logs(["sk_live_abcdef0123456789"])

    def seconds(count: int) -> float:
        text = part * count
        spent = []
        for _ in range(3):
            began = time.process_time()
            redacted(text)
            spent.append(time.process_time() - began)
        return min(spent)

    assert seconds(160_000 // len(part)) < 24 * max(seconds(20_000 // len(part)), 0.000_5)


def test_what_is_too_short_for_a_secret_is_left_alone(lines: Lines) -> None:
    """A password of two letters would redact half of every line."""
    redact_from_logs(["ab", "longer"])
    assert redacted("abc longer") == "abc ***"


def test_text_lines_are_for_people(lines: Lines) -> None:
    """Time, level and message, then the fields."""
    configure_logging("warning", "text")
    log.info("not shown")
    log.warning("look", extra={"job_id": "j-1"})
    assert lines.text().endswith("WARNING look  job_id=j-1\n") and lines.text().count("\n") == 1
