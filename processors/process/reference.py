"""docs/roles.md, made from the declarations of the roles: `python -m processors.process.reference > docs/roles.md`."""

from __future__ import annotations

from collections.abc import Iterable

from processors.process.role import STEP, Role
from processors.process.roles import GROUP, ROLES
from processors.process.step import step_role
from processors.settings.environment import PREFIX
from processors.settings.settings import SETTINGS

_INTRODUCTION = f"""\
# Roles

A role is what a process does.
`scrapesaga worker ROLE [ROLE...]` plays one role or several; `scrapesaga roles` lists those that are installed.
Roles share nothing but Kafka, so each may have as many processes as its topic has partitions.
Each step of a pipeline is a role of its own, by the step's name; it serves every pipeline that has a step of that name.

Several roles in one process share one producer, one health server and one page of metrics.
SIGTERM stops them together: records in work get `{PREFIX}DRAIN_TIMEOUT` to finish, what is done is committed, the rest is delivered again.
If one role fails, the process ends, and all of them start again.
The auditor reads everything that the others write, and needs a process of its own.

On one machine `scrapesaga up --processes one` puts all roles into one process.
`--processes intake+coordinator,fetch+parse` makes two processes of those, and one of each other role.

A package may bring a role, by the entry-point group `{GROUP}`: see [roles of your own](custom-roles.md).
"""


def reference() -> str:
    """Return docs/roles.md."""
    roles = (*ROLES.values(), step_role(STEP))
    return "\n".join(
        [
            _INTRODUCTION,
            _table(
                ("role", "what it does", "reads", "writes", "scales by the lag of", "keeps on disk", "calls outside"),
                (
                    (
                        _code(role.name),
                        role.does,
                        _codes(role.reads),
                        _codes(role.writes),
                        _code(role.scales_by) if role.scales_by else "one is enough",
                        "yes" if role.stateful else "",
                        "yes" if role.calls_outside else "",
                    )
                    for role in roles
                ),
            ),
            f"Topics are named without their prefix; `{STEP}` stands for a step's name. "
            "What each topic holds is in [topics.md](topics.md).",
            "A step writes what its code publishes: `fetch` to `pages`, `enrich` to `spend`, `notify` to `records`.",
            "",
            "## Probes",
            "",
            f"Each process answers on `{PREFIX}HTTP_PORT`: `/ready` and `/live` list the reasons against, of all its roles; "
            "without a reason the status is 200.",
            "",
            _table(
                ("role", "`/ready` says yes when", "`/live` says no when"),
                ((_code(role.name), role.ready_when, role.restarted_when) for role in roles),
            ),
            "## Settings",
            "",
            "What only some roles read; every process reads the others. [settings.md](settings.md) says what each does.",
            "",
            _table(("role", "settings"), ((_code(role.name), _settings(role)) for role in roles)),
        ]
    )


def _settings(role: Role) -> str:
    return _codes(setting.variable for setting in SETTINGS if setting.field in role.settings)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = tuple(head)
    lines = [f"| {' | '.join(cells)} |" for cells in (names, ("---",) * len(names), *rows)]
    return "\n".join([*lines, ""])


def _code(text: str) -> str:
    return f"`{text}`"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(map(_code, names))


if __name__ == "__main__":
    print(reference(), end="")
