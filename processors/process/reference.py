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
`scrapesaga worker ROLE [ROLE...]` runs one or more roles in one process; `scrapesaga roles` lists the installed roles.
Roles communicate only through Kafka, so each role can have as many processes as its topic has partitions.
Each step name is a role. It serves every pipeline that has a step of that name.

Several roles in one process share one producer, one health server and one metrics page.
SIGTERM stops them together: records in work get `{PREFIX}DRAIN_TIMEOUT` to finish.
Finished records are committed; Kafka delivers the others again.
If one role fails, the process ends, and all its roles start again.
The auditor reads everything that the other roles write, and needs its own process.

On one machine, `scrapesaga up --processes one` runs all roles in one process.
`--processes intake+coordinator,fetch+parse` runs these four roles in two processes, and each other role in its own process.

A package can add a role with the entry-point group `{GROUP}`: see [custom roles](custom-roles.md).
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
                        _code(role.scales_by) if role.scales_by else "one process is enough",
                        "yes" if role.stateful else "",
                        "yes" if role.calls_outside else "",
                    )
                    for role in roles
                ),
            ),
            f"Topics are named without their prefix; `{STEP}` stands for the name of a step. "
            "[topics.md](topics.md) describes each topic.",
            "Which topics a step writes depends on its code: `fetch` writes `pages`, `enrich` `spend`, `notify` `records`.",
            "",
            "## Probes",
            "",
            f"Each process answers on `{PREFIX}HTTP_PORT`: `/ready` and `/live` list the problems of all its roles. "
            "Without a problem the status is 200.",
            "",
            _table(
                ("role", "ready when", "restart it when"),
                ((_code(role.name), role.ready_when, role.restarted_when) for role in roles),
            ),
            "## Settings",
            "",
            "Only these roles read these settings; every process reads the other settings. [settings.md](settings.md) describes all.",
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
