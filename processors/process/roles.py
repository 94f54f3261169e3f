"""Every role that a process here can play: the built-in ones, those of steps, those that packages bring."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from processors.errors import ConfigurationError
from processors.process.auditor import AUDITOR as AUDITOR_ROLE
from processors.process.coordinator import COORDINATOR as COORDINATOR_ROLE
from processors.process.intake import INTAKE as INTAKE_ROLE
from processors.process.role import Role
from processors.process.step import step_role

GROUP = "scrapesaga.roles"

#: The built-in roles by name, but for those of steps.
ROLES: Mapping[str, Role] = MappingProxyType(
    {role.name: role for role in (INTAKE_ROLE, COORDINATOR_ROLE, AUDITOR_ROLE)}
)
INTAKE, COORDINATOR, AUDITOR = INTAKE_ROLE.name, COORDINATOR_ROLE.name, AUDITOR_ROLE.name

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@cache
def installed_roles() -> Mapping[str, EntryPoint]:
    """Return the entry points of roles that packages bring, by name; nothing is imported."""
    return {point.name: point for point in entry_points(group=GROUP)}


def known_roles(steps: Iterable[str]) -> tuple[str, ...]:
    """Return the names of all roles where these steps are served. Raises ConfigurationError if two have one name."""
    names = (*ROLES, *steps, *installed_roles())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"two roles are named {', '.join(twice)}: a step, or a role of the entry-point group {GROUP}, must have "
            f"another name than {', '.join(ROLES)} and than each other"
        )
    return names


def find_roles(names: Sequence[str], steps: Sequence[str]) -> tuple[Role, ...]:
    """Return the roles that one process is to play, each once. Raises ConfigurationError that says what would do."""
    known = known_roles(steps)
    for name in names:
        if name not in known:
            raise ConfigurationError(f"no role {name!r}; there are: {', '.join(known)}")
    roles = tuple(_find(name, steps) for name in dict.fromkeys(names))
    for role in roles:
        if role.alone and len(roles) > 1:
            raise ConfigurationError(f"{role.name} needs a process of its own: {role.does}")
    return roles


def _find(name: str, steps: Sequence[str]) -> Role:
    if name in ROLES:
        return ROLES[name]
    return step_role(name) if name in steps else load_role(installed_roles()[name])


def load_role(point: EntryPoint) -> Role:
    """Import a role that a package brings. Raises ConfigurationError."""
    try:
        role = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"role {point.name!r} can't be imported from {point.value}: {error}") from error
    if not isinstance(role, Role):
        raise ConfigurationError(f"role {point.name!r}: {point.value} is {role!r}, not a processors.process.role.Role")
    if role.name != point.name or not _NAME.fullmatch(role.name) or role.kind not in ("", role.name):
        raise ConfigurationError(
            f"role {point.name!r}: {point.value} is named {role.name!r}, of kind {role.kind!r}. "
            "Use the same name for both, with a-z, 0-9, '-' and '_', and leave out the kind."
        )
    return role
