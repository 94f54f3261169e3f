"""Whether a line of shell in a page would work: its program's commands and options exist, and the files that it names."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import typer
import yaml

from processors.cli.app import app
from processors.settings.environment import PREFIX, READ_ELSEWHERE
from processors.settings.settings import SETTINGS
from tests.documents.pages import ROOT

#: Programs of others, of which nothing is ours to check; the pages that use them say what they need.
OTHERS = {
    "bash",
    "docker",
    "echo",
    "kcat",
    "kubectl",
    "pip",
    "tar",
    "zstd",
    "gzip",
    "wc",
    "xargs",
    "git",
    "pre-commit",
    "python3",
}
_VALUES = ROOT / "deploy" / "helm" / "scrapesaga" / "values.yaml"
# A value of these is named by whoever installs.
_OPEN_VALUES = ("pipelines", "schemas", "settings", "steps", "recordSchemas")


class Wrong(Exception):
    """A line that would not work; says why."""


def lines(text: str) -> Iterator[str]:
    """Yield the commands of a block: prompts and comments taken off, continued lines joined, answers left out."""
    prompted = re.search(r"^\$ ", text, re.MULTILINE) is not None
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in _whole(joined.splitlines()):
        if prompted and not line.startswith("$ "):
            continue
        yield line.removeprefix("$ ")


def _whole(parts: Sequence[str]) -> Iterator[str]:
    """Yield lines, those joined that a quote holds together; without comments."""
    held = ""
    for part in parts:
        held = f"{held}\n{part}" if held else part
        try:
            words = shlex.split(held, comments=True)
        except ValueError:
            continue
        if words:
            yield held
        held = ""
    if held:
        raise Wrong(f"a quote is not closed: {held}")


def check(line: str) -> None:
    """Check each command of a line. Raises Wrong."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;"):
            _check_command(command)
            command = []
        else:
            command.append(word)


def _check_command(words: list[str]) -> None:
    words = _without_redirections(words)
    while words and (words[0] == "export" or re.match(r"[A-Z_]+=", words[0])):
        _check_variable(words.pop(0))
    if not words:
        return
    program, arguments = Path(words[0]).name, words[1:]
    if "scrapesaga" in arguments and program in OTHERS:
        # xargs and kubectl exec run ours.
        arguments = arguments[arguments.index("scrapesaga") + 1 :]
        program = "scrapesaga"
    if program == "docker" and arguments[:1] == ["run"] and "--entrypoint" not in arguments:
        # What follows the image goes to scrapesaga.
        image = next((at for at, word in enumerate(arguments) if word.startswith("scrapesaga:")), len(arguments))
        program, arguments = "scrapesaga", arguments[image + 1 :]
    checks = {"scrapesaga": check_scrapesaga, "make": _check_make, "helm": _check_helm, "python": _check_python}
    if program in checks:
        checks[program](arguments)
    elif program not in OTHERS:
        raise Wrong(f"{program} is neither ours nor listed in tests/documents/commands.py")
    _check_paths(arguments)


def _without_redirections(words: list[str]) -> list[str]:
    found: list[str] = []
    skip = False
    for word in words:
        if skip or set(word) <= set("<>"):
            skip = not skip
            continue
        found.append(word)
    return found


def _check_variable(assignment: str) -> None:
    name = assignment.partition("=")[0]
    known = {variable for setting in SETTINGS for variable in setting.variables} | {
        PREFIX + one for one in READ_ELSEWHERE
    }
    if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_") and name not in known:
        raise Wrong(f"{name} is no setting")


def check_scrapesaga(words: Sequence[str]) -> None:
    """Parse the words as the command line does. Raises Wrong."""
    # In a sentence brackets say that a part may be left out.
    rest = [re.sub(r"[\[\]]", "", word) for word in words]
    command: Any = typer.main.get_command(app)
    path = "scrapesaga"
    try:
        while hasattr(command, "commands"):
            if not rest:
                # A group by its name: what is in it is told.
                return
            context = command.make_context(path, list(rest))
            rest = [*context._protected_args, *context.args]
            name, command, rest = command.resolve_command(context, rest)
            path = f"{path} {name}"
        _, extra, _ = command.make_parser(command.context_class(command, info_name=path)).parse_args(list(rest))
    except typer.Exit:
        # --help, or nothing after a group's name.
        return
    except Exception as error:
        # Typer brings a click of its own, whose errors have no common base with click's.
        raise Wrong(f"{path}: {error}") from error
    if extra:
        raise Wrong(f"{path} takes no argument {extra[0]}")


@cache
def _makefile() -> tuple[frozenset[str], frozenset[str]]:
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z][\w-]*):(?!=)", text, re.MULTILINE)
    variables = re.findall(r"^([A-Z_]+) *[?:]?=", text, re.MULTILINE) + re.findall(r"\$\(([A-Z_]+)\)", text)
    return frozenset(targets), frozenset([*variables, *re.findall(r"\$\(if \$\(([A-Z_]+)\)", text)])


def _check_make(words: Sequence[str]) -> None:
    targets, variables = _makefile()
    for word in words:
        name, is_variable, _ = word.partition("=")
        if name not in (variables if is_variable else targets):
            raise Wrong(f"the Makefile has no {'variable' if is_variable else 'target'} {name}")


def _check_helm(words: Sequence[str]) -> None:
    for option, given in zip(words, words[1:], strict=False):
        if option in ("--set", "--set-string", "--set-file"):
            for one in re.split(r"(?<!\\),", given):
                _check_value(one.partition("=")[0])


def _check_value(path: str) -> None:
    known: Any = yaml.safe_load(_VALUES.read_text("utf-8"))
    for part in path.split("."):
        if not isinstance(known, dict) or part not in known:
            raise Wrong(f"the chart has no value {path}")
        if part in _OPEN_VALUES:
            return
        known = known[part]


def _check_python(words: Sequence[str]) -> None:
    if words[:1] == ["-m"]:
        module, options = words[1], [word for word in words[2:] if word.startswith("--")]
        if module != "pytest" and importlib.util.find_spec(module) is None:
            raise Wrong(f"there is no module {module}")
        offered = _help("-m", module) if options else ""
    elif words and words[0].endswith(".py"):
        options = [word for word in words[1:] if word.startswith("--")]
        offered = _help(words[0]) if options else ""
    else:
        return
    for option in options:
        if option not in offered:
            raise Wrong(f"{' '.join(words[:2])} has no option {option}")


@cache
def _help(*what: str) -> str:
    found = subprocess.run([sys.executable, *what, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if found.returncode:
        raise Wrong(f"python {' '.join(what)} --help fails: {found.stderr[-300:]}")
    return found.stdout


def _check_paths(words: Sequence[str]) -> None:
    """A path into the repository has to be there."""
    for word in words:
        path = word.removeprefix("./")
        if (
            re.match(r"(\.ci|deploy|docs|examples|schemas|tests|bench|processors)/[\w./-]+$", path)
            and not (ROOT / path).exists()
        ):
            raise Wrong(f"there is no {word}")
