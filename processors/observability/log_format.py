"""What log lines look like: one event, one line, its fields beside its message, and no secret in any of them.

What code passes as `extra` becomes fields. A line that is logged in the course of a traced attempt gets its trace_id.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import TracebackType

from processors.observability.tracing import current
from processors.redaction import REDACTED, SHORTEST_REDACTED, one_line
from processors.redaction.secret_search import redact_known, remember

# Attributes that every LogRecord has; what is beyond them was passed as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

# User names, passwords and queries of URLs, as errors of libraries quote them. No character is looked at twice: a site
# chooses the text, and what takes the square of its length holds up everything else in the process.
_USER_INFO = re.compile(r"(?<=://)[^\s/?#@'\"]+@")
_WORD = re.compile(r"[^\s'\"<>]+")

# A broker that is away for an hour made 288,000 lines a process; one in ten seconds still shows that it goes on.
_EVERY_S = 10.0

# Longest first: one secret may be the beginning of another.
_secrets: list[str] = []


def redact_from_logs(values: Iterable[str]) -> None:
    """Redact these values in every line from now on; skip short ones, which are no secrets."""
    found = {value for value in values if len(value) >= SHORTEST_REDACTED}
    remember(found)
    if not found <= set(_secrets):
        _secrets[:] = sorted({*_secrets, *found}, key=len, reverse=True)


def redacted(text: str) -> str:
    """Return a text without known secrets, in any spelling, and without what may be secret in its URLs."""
    text = redact_known(text)
    # The short ones as they are: a line that loses a word too many is still read, a page is not.
    for secret in _secrets:
        text = text.replace(secret, REDACTED)
    if "://" in text:
        text = _WORD.sub(_without_queries, _USER_INFO.sub(f"{REDACTED}@", text))
    return text


def _without_queries(found: re.Match[str]) -> str:
    word, done, place, mark = found[0], [], 0, -1
    while (scheme := word.find("://", place)) >= 0:
        if mark < scheme:
            mark = word.find("?", scheme)
        if mark < 0:
            break
        fragment = word.find("#", scheme, mark)
        if fragment >= 0:
            done.append(word[place : fragment + 1])
            place = fragment + 1
            continue
        end = word.find(")", mark)
        end = len(word) if end < 0 else end
        done.append(word[place : mark + 1] + (REDACTED if end > mark + 1 else ""))
        place = end
    return "".join(done) + word[place:]


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in vars(record).items():
        if name in _STANDARD or value == "":
            continue
        # Numbers stay numbers; whatever else it is, its text is what would be shown.
        found[name] = value if isinstance(value, int | float) or value is None else redacted(str(value))
    context = current()
    if context is not None:
        found.setdefault("trace_id", context.trace_id)
    return found


class JsonLines(logging.Formatter):
    """One event, one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        line |= _fields(record)
        if record.exc_info:
            line["traceback"] = redacted(self.formatException(record.exc_info))
        return json.dumps(line)


class TextLines(logging.Formatter):
    """The same for people: time, level, message, fields; a traceback follows."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        # A site's words are in messages and fields: they must not look like lines of ours. A traceback has lines.
        message = one_line(redacted(record.getMessage()))
        told = f"{self.formatTime(record)} {record.levelname:<7} {message}" + (
            f"  {one_line(fields)}" if fields else ""
        )
        if record.exc_info:
            lines = redacted(self.formatException(record.exc_info)).splitlines()
            told = "\n".join([told, *map(one_line, lines)])
        return told


class Repeats(logging.Filter):
    """Passes a message of a library at most once in ten seconds, then with how many like it were held back.

    Messages are alike if they were made from the same text, and have the same `first` arguments.
    """

    def __init__(self, library: str, first: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(library)
        self._first = first
        self._clock = clock
        self._passed: dict[tuple[str, int, str], float] = {}
        self._held_back: dict[tuple[str, int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a record."""
        if not super().filter(record):
            return True
        args = record.args[: self._first] if isinstance(record.args, tuple) else ()
        key, now = (record.name, record.levelno, f"{record.msg} {args}"), self._clock()
        last = self._passed.get(key)
        if last is not None and now - last < _EVERY_S:
            self._held_back[key] = self._held_back.get(key, 0) + 1
            return False
        self._passed[key] = now
        if held_back := self._held_back.pop(key, 0):
            record.msg, record.args = f"{record.getMessage()} ({held_back} more like it)", ()
        return True


def configure_logging(level: str, style: str, secrets: Iterable[str] = ()) -> None:
    """Send log lines to standard error in the given style, "text" or "json", without the secrets.

    Warnings of libraries and what ends the process come as lines too.
    """
    redact_from_logs(secrets)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else TextLines())
    handler.addFilter(Repeats("aiokafka"))
    # Its one text is "%s [%s] %s"; the first of these is what kind of event it is.
    handler.addFilter(Repeats("librdkafka", first=1))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    sys.excepthook = _log_the_end
    # A line for each request would drown ours, and would show URLs with their query.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def _log_the_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger(__name__).critical("the process ends: %r", error, exc_info=(kind, error, trace))
