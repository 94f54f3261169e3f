"""The process's environment variables: which are settings, which are unknown, and where secrets come from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from processors.errors import ConfigurationError
from processors.settings.kinds import SettingKind

PREFIX = "SCRAPESAGA_"

#: Variables that are read before there are settings, by the local runtime.
READ_ELSEWHERE = MappingProxyType(
    {
        "CACHE": "folder for the jars of the local Kafka; by default `scrapesaga` in the user's cache folder",
        "MAVEN": "URL of a Maven mirror for the jars of the local Kafka",
    }
)
#: Removed settings, with what to do if one is set.
REMOVED = MappingProxyType(
    {
        "TRANSPORT": "there is only one transport now, the former `fast`: unset this variable",
    }
)
# The test suite's own, which workers inherit that a test starts.
_TEST_SUITE = "TEST_"

# What Kubernetes adds to every container for a Service named scrapesaga or scrapesaga-...
_SERVICE_LINK = re.compile(r"(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
_SERVICE_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")

_SECRET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its field in Settings, its kind, its default as one would write it, and what it does."""

    field: str
    kind: SettingKind[Any]
    default: str
    doc: str
    section: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.field.upper()

    @property
    def variables(self) -> tuple[str, ...]:
        """All environment variables that can set it: a secret's value may lie in a file."""
        return (self.variable, f"{self.variable}_FILE") if self.kind.secret else (self.variable,)


class Environment:
    """Environment variables as they were at the start; never shown, as they hold secrets."""

    __slots__ = ("_variables",)

    def __init__(self, variables: Mapping[str, str] = MappingProxyType({})) -> None:
        self._variables = dict(variables)

    def __repr__(self) -> str:
        return "Environment(***)"

    def text(self, setting: Setting) -> str:
        """Return what is written for a setting, or in the file that is named for it; empty if nothing is.

        Raises ValueError, without the value, for what cannot be meant.
        """
        text = self._variables.get(setting.variable, "")
        if not setting.kind.secret:
            if setting.field.endswith("port") and _SERVICE_LINK_VALUE.match(text):
                raise ValueError(
                    "Kubernetes set this variable for a Service of that name: set enableServiceLinks: false"
                )
            return text
        path = self._variables.get(f"{setting.variable}_FILE", "")
        if text and path:
            raise ValueError("is set, and its _FILE too: unset one of them")
        return _file_text(Path(path)) if path else text

    def unknown(self, settings: Sequence[Setting]) -> Iterator[str]:
        """Yield a sentence about each SCRAPESAGA_* variable that is none of the settings."""
        known = {variable for setting in settings for variable in setting.variables}
        known |= {PREFIX + name for name in READ_ELSEWHERE}
        for variable in sorted(self._variables):
            name = variable.removeprefix(PREFIX)
            if name == variable or variable in known or name.startswith(_TEST_SUITE) or _SERVICE_LINK.fullmatch(name):
                continue
            gone = REMOVED.get(name)
            yield f"{variable}: {gone}." if gone else f"{variable}: no such setting{nearest(variable, settings)}"

    def secret(self, name: str, folder: Path | None) -> str:
        """Return a secret that a step names: the variable of that name, else the content of that file in the folder.

        Raises ConfigurationError if there is neither. A worker's own settings are no secrets of steps.
        """
        if not _SECRET_NAME.fullmatch(name) or name.startswith(PREFIX):
            raise ConfigurationError(
                f"{name!r} is not the name of a secret: use A-Z, a-z, 0-9, '.', '_', '-', not {PREFIX}."
            )
        value = self._variables.get(name, "")
        if value:
            return value
        if folder is None:
            raise ConfigurationError(f"Secret {name}: set the variable {name}, or {PREFIX}SECRETS_DIR.")
        try:
            return _file_text(folder / name)
        except ValueError as error:
            raise ConfigurationError(
                f"Secret {name}: set the variable {name}, or correct its file: {error}."
            ) from error


def nearest(variable: str, settings: Sequence[Setting]) -> str:
    """Return the end of a sentence that suggests the setting with the most similar name."""
    names = [name.removeprefix(PREFIX) for setting in settings for name in setting.variables]
    found = get_close_matches(variable.removeprefix(PREFIX), names, n=1)
    return f"; did you mean {PREFIX}{found[0]}?" if found else "; see docs/settings.md for all."


def _file_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        # The decoder's message quotes the content, so it is not used.
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"cannot read {path} ({reason})") from None
    # Editors and here-documents end a file with a newline that no password has.
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError(f"{path} is empty")
    return text
