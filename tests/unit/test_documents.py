"""What the pages show works: pipelines are linted, code runs, and every command that they name is one that there is."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from processors.cli.app import app
from processors.messages.wire import encode_saga
from tests import sagas
from tests.documents.commands import Wrong, check, lines
from tests.documents.pages import PAGES, ROOT, Block, blocks, spans

ALL = list(blocks())
CHART = ROOT / "deploy" / "helm" / "scrapesaga"
#: What a page's reader has in hand when the code begins.
IN_HAND: Mapping[str, Mapping[str, object]] = {"docs/topics.md": {"value": encode_saga(sagas.completed().state)}}
#: Commands that need neither Kafka nor anything else: they are run as they are written.
RUN = ("pipeline lint", "pipeline steps", "topics export", "simulate")
#: What a few steps of a page come after.
BEFORE = ({"use": "fetch"}, {"use": "parse", "with": {"preset": "product"}})
# Diagrams are drawn by `make docs`, which fails if one can't be.
LANGUAGES = {"sh", "console", "yaml", "python", "toml", "json", "mermaid", "text"}


def of(*languages: str) -> list[Block]:
    """The blocks of some languages that can be run."""
    return [one for one in ALL if one.language in languages and one.reason is None]


def test_there_are_pages_with_code() -> None:
    """Without them, nothing here could fail."""
    assert {"README.md", "docs/custom-steps.md", "deploy/helm/scrapesaga/README.md"} <= {one.page for one in ALL}
    assert len(PAGES) > 20
    assert len(ALL) > 20


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_says_its_language_or_why_it_is_not_run(block: Block) -> None:
    """A block that nothing here runs has a reason in the line above it: `<!-- not run: REASON -->`."""
    assert (block.language in LANGUAGES) == (block.reason is None), f"{block} is {block.language or 'of no language'}"
    assert block.reason is None or len(block.reason) > 20


@pytest.mark.parametrize("block", of("sh", "console"), ids=str)
def test_a_block_of_shell_works(block: Block) -> None:
    """Programs, commands, options, targets, chart values and files exist; what needs no broker is run."""
    for line in lines(block.text):
        try:
            check(line)
        except Wrong as wrong:
            pytest.fail(f"{block}: {line}: {wrong}", pytrace=False)


@pytest.mark.parametrize(("page", "command"), sorted(set(spans())))
def test_a_command_in_a_sentence_works(page: str, command: str) -> None:
    """What a page says to run is there, with its options."""
    try:
        check(command)
    except Wrong as wrong:
        pytest.fail(f"{page}: {command}: {wrong}", pytrace=False)


def runnable() -> list[tuple[str, str]]:
    """Every line of a block that is run as it is written."""
    found = [(str(block), line) for block in of("sh", "console") for line in lines(block.text)]
    return [(where, line) for where, line in found if line.startswith(tuple(f"scrapesaga {one}" for one in RUN))]


@pytest.mark.parametrize(("where", "line"), runnable())
def test_a_command_that_needs_nothing_is_run(
    where: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the repository's folder, with the example installed, it ends with 0."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "plugin_step"))
    words = shlex.split(line, comments=True)[1:]
    for at, path in enumerate(words):
        if path.endswith(".yaml"):
            words[at] = str(tmp_path / Path(path).name)
            Path(words[at]).write_text(yaml.safe_dump(by_module(yaml.safe_load(Path(path).read_text("utf-8")))))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, f"{where}: {result.output}"


def by_module(pipeline: Any) -> Any:
    """The same with the example's step named by its module: that its entry point works is tested in test_plugin_step.py."""
    for step in pipeline["steps"]:
        if step.get("use") == "export-json":
            step |= {"use": "export_json:ExportJson", "name": "export-json"}
    return pipeline


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_a_block_of_yaml_is_what_it_claims(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline, or the steps of one, that lint takes; or values that the chart takes, and their pipelines."""
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "plugin_step"))
    given: Any = yaml.safe_load(block.text)
    if block.page.startswith("deploy/helm"):
        values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
        jsonschema.validate(merged(values, given), json.loads((CHART / "values.schema.json").read_text("utf-8")))
        for name, schema in given.get("schemas", {}).items():
            (tmp_path / f"{name}.avsc").write_text(json.dumps(schema))
        pipelines = [{"name": name, **pipeline} for name, pipeline in given.get("pipelines", {}).items()]
    elif isinstance(given, list):
        before = [step for step in BEFORE if step["use"] not in [one["use"] for one in given]]
        pipelines = [{"name": "fragment", "record": "product", "steps": [*before, *given]}]
    else:
        # Keys without steps go into a pipeline that has some.
        pipelines = [{"name": "fragment", "record": "product", "steps": list(BEFORE), **given}]
    for pipeline in pipelines:
        path = tmp_path / f"{pipeline['name']}.yaml"
        path.write_text(yaml.safe_dump(by_module(pipeline)))
        result = CliRunner().invoke(app, ["pipeline", "lint", str(path)])
        assert result.exit_code == 0, f"{block}: {result.output}"


def merged(values: Any, given: Any) -> Any:
    """Values as Helm merges them."""
    if not isinstance(values, dict) or not isinstance(given, dict):
        return given
    return {**values, **{key: merged(values.get(key), value) for key, value in given.items()}}


@pytest.mark.parametrize("page", sorted({one.page for one in of("python")}))
def test_the_python_of_a_page_runs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first block to the last, as a reader would type them, in the repository's folder, with the example at hand."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "plugin_step"))
    names: dict[str, Any] = {"__name__": "page", **IN_HAND.get(page, {})}
    for block in [one for one in of("python") if one.page == page]:
        exec(compile(block.text, str(block), "exec"), names)
    assert len(names) > 2


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_a_block_of_json_is_json(block: Block) -> None:
    """Each line is an object, or all of it is."""
    for part in block.text.splitlines() if re.match(r"\{.*\}$", block.text, re.MULTILINE) else [block.text]:
        assert isinstance(json.loads(part), dict)


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_a_block_of_toml_is_toml(block: Block) -> None:
    """It can be read."""
    assert tomllib.loads(block.text)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("scrapesaga stats", "No such command"),
        ("scrapesaga status --nope JOB", "No such option"),
        ("scrapesaga redrive JOB --from", "requires an argument"),
        ("scrapesaga cancel ONE TWO", "takes no argument"),
        ("echo x | scrapesaga submitt", "No such command"),
        ("xargs -n 1 scrapesaga resum", "No such command"),
        ("docker run --rm scrapesaga:dev topics plam", "No such command"),
        ("make nothing", "no target"),
        ("make demo URLZ=3", "no variable"),
        ("helm install x y --set kafka.nope=1", "no value"),
        ("helm install x deploy/helm/nope", "there is no"),
        ("python -m bench --nope", "no option"),
        ("python -m benchh", "no module"),
        ("export SCRAPESAGA_NOPE=1", "no setting"),
        ("frobnicate", "neither ours nor listed"),
    ],
)
def test_a_line_that_would_not_work_is_found(line: str, says: str) -> None:
    """Each kind of slip has its sentence."""
    with pytest.raises(Wrong, match=says):
        check(line)
