"""Writes docs/settings.md from the table of settings."""

from __future__ import annotations

from itertools import groupby

from processors.settings.environment import PREFIX, READ_ELSEWHERE
from processors.settings.settings import SETTINGS

_INTRODUCTION = f"""\
# Settings

Every process reads its settings once, at its start, from environment variables named `{PREFIX}*`.
A wrong value, a contradiction or an unknown `{PREFIX}*` variable stops the process; the message lists all mistakes.
An empty variable counts as not set.

- Write a duration with its unit: `250ms`, `30s`, `1m30s`, `2h`, `7d`.
- Write a size as `10MB` (1 MB is 1000 x 1000 bytes), `10MiB` (1 MiB is 1024 x 1024 bytes) or in bytes.
- A secret can be in a file, as Kubernetes mounts it: `{PREFIX}SASL_PASSWORD_FILE=/run/secrets/kafka`.
  A newline at the end of the file is not part of the secret.
- The pipeline gives the name of a secret that a *step* needs, such as the key of a paid API.
  The value is the environment variable of that name, or the file of that name in `{PREFIX}SECRETS_DIR`.
"""


def reference() -> str:
    """Return docs/settings.md."""
    parts = [_INTRODUCTION]
    for section, settings in groupby(SETTINGS, key=lambda setting: setting.section):
        rows = [
            f"| `{setting.variable}` | {setting.kind.name} | {f'`{setting.default}`' if setting.default else ''} "
            f"| {setting.doc} |"
            for setting in settings
        ]
        head = [f"## {section}", "", "| variable | kind | default | what it does |", "|---|---|---|---|"]
        parts.append("\n".join([*head, *rows, ""]))
    elsewhere = [f"| `{PREFIX}{name}` | {doc} |" for name, doc in READ_ELSEWHERE.items()]
    parts.append("\n".join(["## The local runtime", "", "| variable | what it does |", "|---|---|", *elsewhere, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    print(reference(), end="")
