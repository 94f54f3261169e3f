"""Changed pipeline files: noticed once they are written, taken up when they are right, left alone when they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from processors.errors import PipelineError
from processors.local import reload
from processors.local.engine import LocalEngine
from processors.local.reload import PipelineWatch, fingerprint, steps_of, take_up_pipelines
from processors.pipeline.pipeline import read_pipelines
from processors.process.roles import COORDINATOR, INTAKE

ONE = "name: one\nsteps:\n  - {use: fetch, timeout: 5s}\n  - {use: parse, with: {preset: product}}\n"


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalEngine:
    """An engine that is not started: what would be done is noted."""
    (tmp_path / "one.yaml").write_text(ONE)
    told: list[str] = []
    made = LocalEngine(
        tmp_path / "data",
        [tmp_path],
        bootstrap_servers="127.0.0.1:1",
        clickhouse_url="http://127.0.0.1:2",
        tell=told.append,
    )
    made.plans = read_pipelines(made.pipelines)
    made.steps = steps_of(made.plans.values())
    done: list[str] = []
    monkeypatch.setattr(reload, "apply_topics", lambda _settings, catalogue: done.append(f"topics {catalogue.steps}"))
    monkeypatch.setattr(made.supervisor, "restart", lambda name: done.append(f"restart {name}"))
    monkeypatch.setattr(made, "start_process", lambda name: done.append(f"start {name}"))
    monkeypatch.setattr(made, "process_of", lambda role: role)
    monkeypatch.setattr(made, "wait_until_ready", lambda: None)
    monkeypatch.setattr(made, "_write_addresses", lambda: None)
    monkeypatch.setattr(made, "told", told, raising=False)
    monkeypatch.setattr(made, "done", done, raising=False)
    return made


def done(engine: LocalEngine) -> list[str]:
    return engine.done  # type: ignore[attr-defined,no-any-return]  # set by the fixture


def test_the_fingerprint_is_of_every_file_and_its_content(tmp_path: Path) -> None:
    """A change, a new file, a lost one: each is another fingerprint; other files and dates are not."""
    seen = set()
    for change in (
        lambda: (tmp_path / "a.yaml").write_text("a"),
        lambda: (tmp_path / "a.yaml").write_text("b"),
        lambda: (tmp_path / "b.yml").write_text("a"),
        lambda: (tmp_path / "b.yml").rename(tmp_path / "c.yml"),
        lambda: (tmp_path / "c.yml").unlink(),
    ):
        change()
        seen.add(fingerprint([tmp_path]))
    # Without c.yml it is as it was before b.yml.
    assert len(seen) == 4
    before = fingerprint([tmp_path])
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "a.yaml").touch()
    assert fingerprint([tmp_path]) == before
    assert fingerprint([tmp_path / "missing.yaml"]) != fingerprint([tmp_path / "a.yaml"])


def test_a_changed_parameter_restarts_intake_alone(engine: LocalEngine, tmp_path: Path) -> None:
    """Workers read a plan with each command: only new requests need another one."""
    (tmp_path / "one.yaml").write_text(ONE.replace("5s", "7s"))
    assert take_up_pipelines(engine) == "taken up: one"
    assert done(engine) == ["topics ('fetch', 'parse')", f"restart {INTAKE}"]


def test_a_new_step_gets_topics_and_a_worker_before_anybody_sends_to_it(engine: LocalEngine, tmp_path: Path) -> None:
    """Topics, worker, then the coordinator, which learns its name, then intake; a step that went is served on."""
    (tmp_path / "one.yaml").write_text(ONE.replace("{use: parse, with: {preset: product}}", "{use: notify}"))
    assert take_up_pipelines(engine) == "taken up: one; new steps: notify; for sagas in flight alone: parse"
    assert done(engine) == [
        "topics ('fetch', 'notify', 'parse')",
        "start notify",
        f"restart {COORDINATOR}",
        f"restart {INTAKE}",
    ]
    # Whatever is started again from now on knows the step that went.
    assert engine.settings().retired_steps == ("parse",)
    done(engine).clear()
    # Back again: it has its worker still.
    (tmp_path / "one.yaml").write_text(ONE)
    assert take_up_pipelines(engine) == "taken up: one; for sagas in flight alone: notify"
    assert done(engine) == ["topics ('fetch', 'parse', 'notify')", f"restart {INTAKE}"]
    assert engine.settings().retired_steps == ("notify",)


def test_a_comment_changes_nothing(engine: LocalEngine, tmp_path: Path) -> None:
    """The same plans are no reason to restart anything."""
    (tmp_path / "one.yaml").write_text("# about it\n" + ONE)
    assert take_up_pipelines(engine) == "" and done(engine) == []


def test_a_wrong_file_is_told_and_changes_nothing(engine: LocalEngine, tmp_path: Path) -> None:
    """The reason is told once; a right file after it is taken up."""
    watch = PipelineWatch(engine)
    (tmp_path / "one.yaml").write_text("name: one\nsteps: [{use: fecth}]\n")
    for _ in range(4):
        watch.look()
    told: list[str] = engine.told  # type: ignore[attr-defined]  # set by the fixture
    assert len(told) == 1 and told[0].startswith("the changed pipelines are not taken up: ") and "fecth" in told[0]
    assert done(engine) == [] and engine.steps == ("fetch", "parse")
    with pytest.raises(PipelineError):
        take_up_pipelines(engine)
    (tmp_path / "one.yaml").write_text(ONE.replace("5s", "7s"))
    for _ in range(3):
        watch.look()
    assert told[1:] == ["taken up: one"]


def test_a_file_that_is_being_written_is_waited_for(engine: LocalEngine, tmp_path: Path) -> None:
    """A change is taken up once it was the same for two looks."""
    watch = PipelineWatch(engine)
    text = ONE.replace("5s", "7s")
    for size in (5, 20, len(text)):
        (tmp_path / "one.yaml").write_text(text[:size])
        watch.look()
    assert engine.told == []  # type: ignore[attr-defined]  # set by the fixture
    watch.look()
    assert engine.told == ["taken up: one"]  # type: ignore[attr-defined]  # set by the fixture
