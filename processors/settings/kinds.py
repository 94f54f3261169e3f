"""The kinds of value that a setting can have, and how each is read from text.

A reader's ValueError quotes the text, so it must never be one of a secret: reading those cannot fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from processors.durations import parse_duration, parse_size

IpNetwork = IPv4Network | IPv6Network

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_HOST_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")


class Secret:
    """A value that no log, traceback, repr or `asdict` shows; falsy when empty."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, for the one call that needs it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(***)" if self._value else "Secret()"


@dataclass(frozen=True, slots=True)
class SettingKind(Generic[T]):
    """A kind of value: what documentation calls it, and the reader, which raises ValueError for other text."""

    name: str
    read: Callable[[str], T]
    secret: bool = False


def choice(options: type[E]) -> SettingKind[E]:
    """A kind whose value is one of a few words, in upper or lower case."""
    by_word = {str(option).lower(): option for option in options}

    def read(text: str) -> E:
        try:
            return by_word[text.lower()]
        except KeyError:
            raise ValueError(f"{text!r} is not one of {', '.join(options)}") from None

    return SettingKind(" \\| ".join(options), read)


def number(least: int, most: int) -> SettingKind[int]:
    """A kind whose value is a whole number between two bounds, both allowed."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a whole number") from None
        if not least <= value <= most:
            raise ValueError(f"{value} is not between {least} and {most}")
        return value

    return SettingKind("number", read)


def duration(least: timedelta, most: timedelta) -> SettingKind[timedelta]:
    """A kind whose value is a duration between two bounds, both allowed."""

    def read(text: str) -> timedelta:
        value = parse_duration(text)
        if not least <= value <= most:
            raise ValueError(f"{text!r} is not between {least} and {most}")
        return value

    return SettingKind("duration", read)


def size(least: int, most: int) -> SettingKind[int]:
    """A kind whose value is a number of bytes between two bounds, both allowed."""

    def read(text: str) -> int:
        value = parse_size(text)
        if not least <= value <= most:
            raise ValueError(f"{text!r} is {value} bytes, not between {least} and {most}")
        return value

    return SettingKind("size", read)


def _read_servers(text: str) -> str:
    servers = [server.strip() for server in text.split(",")]
    for server in servers:
        match = _HOST_PORT.fullmatch(server)
        if match is None or not 0 < int(match[1]) < 65536:
            raise ValueError(f"{server!r} is not a server: write host:port, several separated by commas")
    return ",".join(servers)


def _read_url(text: str) -> str:
    parts = urlsplit(text) if text else None
    if parts is None:
        return ""
    if parts.username or parts.password:
        # Not the text: it holds the password.
        raise ValueError("the URL contains a user or password: give them in settings of their own")
    if not parts.scheme or not (parts.netloc or parts.path):
        raise ValueError(f"{text!r} is not a URL: write for example http://host:port")
    return text.rstrip("/")


def _read_existing(text: str) -> Path | None:
    if not text:
        return None
    path = Path(text)
    if not path.exists():
        raise ValueError(f"{text!r} does not exist")
    return path


def _read_existing_paths(text: str) -> tuple[Path, ...]:
    paths = (_read_existing(item.strip()) for item in text.split(","))
    return tuple(path for path in paths if path is not None)


def _read_names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, (item.strip() for item in text.split(",")))))


def _read_addresses(text: str) -> tuple[IpNetwork | str, ...]:
    found: list[IpNetwork | str] = []
    for item in filter(None, (item.strip() for item in text.split(","))):
        try:
            found.append(ip_network(item))
        except ValueError as error:
            # Beyond ASCII too: the step reads the name as browsers do.
            if not _HOST_NAME.fullmatch(item) or item.replace(".", "").isdigit():
                raise ValueError(
                    f"{item!r} is not an address, a network or a host name ({error}): write for example 10.1.0.0/16 or api.internal"
                ) from None
            found.append(item)
    return tuple(found)


_HOST_NAME = re.compile(r"[\w-]+(\.[\w-]+)*\.?")

TEXT = SettingKind("text", str)
SECRET = SettingKind("secret", Secret, secret=True)
SERVERS = SettingKind("host:port, ...", _read_servers)
URL = SettingKind("URL", _read_url)
PATH = SettingKind("path", Path)
EXISTING_PATH = SettingKind("path", _read_existing)
EXISTING_PATHS = SettingKind("path, ...", _read_existing_paths)
NAMES = SettingKind("name, ...", _read_names)
ADDRESSES = SettingKind("address, network or host name, ...", _read_addresses)
