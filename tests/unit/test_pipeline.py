"""Pipelines as people write them: resolved to a plan, or refused with the place and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from processors.errors import PipelineError
from processors.pipeline.pipeline import find_step, load_params, read_pipeline, read_pipelines
from processors.saga.plan import Identity, Plan, Resubmit, decode_plan, encode_plan, pin
from processors.step import NOTHING_TO_UNDO, Step, StepCall, StepOutput, StepParams


class Params(StepParams, frozen=True):
    """Parameters of the steps below."""

    count: int = 1
    name: str = "x"


class Undoable(Step):
    """Has an undo."""

    Params = Params

    async def run(self, call: StepCall) -> StepOutput:
        """Do nothing."""
        return StepOutput()

    async def compensate(self, call: StepCall) -> None:
        """Undo nothing."""


class Pure(Step):
    """Declares that there is nothing to undo."""

    Params = Params
    compensate = NOTHING_TO_UNDO

    async def run(self, call: StepCall) -> StepOutput:
        """Do nothing."""
        return StepOutput()


class Silent(Step):
    """Says nothing about an undo."""

    async def run(self, call: StepCall) -> StepOutput:
        """Do nothing."""
        return StepOutput()


class Confirming(Undoable):
    """Has a confirmation."""

    async def confirm(self, call: StepCall) -> None:
        """Confirm nothing."""


class Picky(Undoable):
    """Refuses its parameters."""

    @classmethod
    def check(cls, params: Any) -> None:
        """Refuse."""
        raise PipelineError("count: it is odd")


HERE = __name__


def use(step: str, /, **more: Any) -> dict[str, Any]:
    """One entry of `steps`."""
    return {"use": f"{HERE}:{step}", **more}


def written(tmp_path: Path, *steps: dict[str, Any], **more: Any) -> Path:
    """A pipeline file."""
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump({"name": "letters", "steps": list(steps), **more}), "utf-8")
    return path


def read(tmp_path: Path, *steps: dict[str, Any], **more: Any) -> Plan:
    """The plan of a pipeline file."""
    return read_pipeline(written(tmp_path, *steps, **more))


def test_defaults_are_pinned(tmp_path: Path) -> None:
    """Everything that decides a saga's course is in the plan, the defaults too."""
    plan = read(tmp_path, use("Undoable"), use("Pure"))
    assert [(one.name, one.undoable) for one in plan.steps] == [("undoable", True), ("pure", False)]
    first = plan.steps[0]
    assert (first.timeout_ms, first.queue_timeout_ms, first.retry.attempts) == (30_000, 3_600_000, 5)
    assert first.undo_retry.attempts > first.retry.attempts
    assert first.undo_retry.total_ms > first.retry.total_ms
    assert (plan.deadline_ms, plan.retention_ms, plan.resubmit) == (86_400_000, 604_800_000, Resubmit.REJECT)
    assert '"name":"Product"' in plan.record_schema.replace(" ", "")


def test_what_is_written_counts(tmp_path: Path) -> None:
    """Every key of a pipeline file has its effect on the plan."""
    plan = read(
        tmp_path,
        use(
            "Undoable",
            name="one",
            timeout="2s",
            queue_timeout="3m",
            retry={"attempts": 7, "base": "4s", "cap": "5s", "total": "6h"},
            undo={"timeout": "8s", "retry": {"attempts": 9, "base": "10s", "cap": "11s", "total": "12h"}},
            **{"with": {"count": 13}},
        ),
        deadline="14h",
        retention="15d",
        resubmit="if-failed",
    )
    step = plan.steps[0]
    assert (step.name, step.timeout_ms, step.queue_timeout_ms, step.undo_timeout_ms) == ("one", 2_000, 180_000, 8_000)
    assert tuple(getattr(step.retry, n) for n in step.retry.__struct_fields__) == (7, 4_000, 5_000, 21_600_000)
    assert tuple(getattr(step.undo_retry, n) for n in step.retry.__struct_fields__) == (9, 10_000, 11_000, 43_200_000)
    assert (plan.deadline_ms, plan.retention_ms) == (50_400_000, 1_296_000_000)
    assert plan.resubmit is Resubmit.IF_FAILED
    assert load_params(step) == Params(count=13)


def test_only_a_step_that_others_follow_confirms(tmp_path: Path) -> None:
    """What nothing follows is visible at once."""
    plan = read(tmp_path, use("Confirming", name="one"), use("Confirming", name="two"))
    assert [one.confirms for one in plan.steps] == [True, False]


def test_the_last_step_needs_no_undo(tmp_path: Path) -> None:
    """A step without an undo that nothing follows is fine, and is never compensated."""
    plan = read(tmp_path, use("Undoable"), use("Silent"))
    assert not plan.steps[1].undoable


def test_an_irreversible_step_must_say_so(tmp_path: Path) -> None:
    """A step that can't be undone and that a failure can follow is refused, unless the pipeline means it."""
    with pytest.raises(PipelineError, match=r"steps\[0\].*declares no compensation.*irreversible: true"):
        read(tmp_path, use("Silent"), use("Undoable"))
    assert not read(tmp_path, use("Silent", irreversible=True), use("Undoable")).steps[0].undoable


@pytest.mark.parametrize(
    ("steps", "more", "says"),
    [
        ([use("Nothing")], {}, "can't be imported"),
        ([{"use": "no.such.module:Step"}], {}, "can't be imported"),
        ([{"use": "teleport"}], {}, "neither an installed step .*fetch.* nor of the form module:attr"),
        ([{"use": f"{HERE}:HERE"}], {}, "not a subclass of"),
        ([{"name": "a"}], {}, "use"),
        ([], {}, "at least one"),
        ([use("Undoable"), use("Undoable")], {}, "two steps are named 'undoable'"),
        ([use("Undoable", name="Load")], {}, "a letter or digit first"),
        ([use("Undoable", name="a/b")], {}, "a letter or digit first"),
        ([use("Undoable", name="x" * 41)], {}, "a letter or digit first"),
        ([use("Undoable", timeout="soon")], {}, r"timeout: 'soon' is not a duration"),
        ([use("Undoable", timeout=30)], {}, "timeout"),
        ([use("Undoable", retry={"attempts": 0})], {}, r"retry.attempts: at least 1"),
        ([use("Undoable", retry={"base": "1"})], {}, r"retry.base: '1' is not a duration"),
        ([use("Undoable", undo={"retry": {"total": "x"}})], {}, r"undo.retry.total: 'x' is not a duration"),
        ([use("Undoable", undo={"timeout": "x"})], {}, r"undo.timeout: 'x' is not a duration"),
        ([use("Undoable", retries=3)], {}, "retries"),
        ([use("Undoable", **{"with": {"cuont": 1}})], {}, "with: .*cuont"),
        ([use("Undoable", **{"with": {"count": "many"}})], {}, r"with: .*count"),
        ([use("Picky")], {}, "count: it is odd"),
        ([use("Undoable")], {"name": "no good"}, "a letter or digit first"),
        ([use("Undoable")], {"deadline": "x"}, "deadline: 'x' is not a duration"),
        ([use("Undoable")], {"retention": "x"}, "retention: 'x' is not a duration"),
        ([use("Undoable")], {"resubmit": "maybe"}, "resubmit"),
        ([use("Undoable")], {"record": "no-such-record"}, "record: "),
        ([use("Undoable")], {"record": "missing.avsc"}, "record: "),
        ([use("Undoable")], {"steps": "all"}, "steps"),
    ],
)
def test_what_cannot_be_planned_is_refused(tmp_path: Path, steps: Any, more: dict[str, Any], says: str) -> None:
    """Each refusal names the file and what is wrong in it."""
    with pytest.raises(PipelineError, match=says) as caught:
        read(tmp_path, *steps, **more)
    assert "pipeline.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["", "just text", "- a list", "a: [", "\0", "name: !!python/object:os.system x"])
def test_what_is_no_pipeline_file_is_refused(tmp_path: Path, text: str) -> None:
    """A file that is something else is named."""
    path = tmp_path / "bad.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(PipelineError, match=r"bad\.yaml"):
        read_pipeline(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that aren't UTF-8 are no pipeline."""
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(PipelineError, match="can't be read"):
        read_pipeline(path)


OFFER = {"type": "record", "name": "Offer", "namespace": "shop", "fields": [{"name": "sku", "type": "string"}]}


def test_a_record_is_named_from_ones_own_folder(tmp_path: Path) -> None:
    """A name is looked up among one's own schemas first, then among the bundled ones; the error says where it looked."""
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    (schemas / "offer.avsc").write_text(json.dumps(OFFER), "utf-8")
    path = written(tmp_path, use("Pure"), record="offer")
    assert json.loads(read_pipeline(path, schemas).record_schema)["name"] == "Offer"
    assert "Product" in read_pipeline(written(tmp_path, use("Pure"), record="product"), schemas).record_schema
    (schemas / "product.avsc").write_text(json.dumps(OFFER), "utf-8")
    assert read_pipelines([tmp_path / "pipeline.yaml"], schemas)["letters"].record_schema.count("Offer") == 1
    path = written(tmp_path, use("Pure"), record="other")
    with pytest.raises(PipelineError, match=r"record: .*schemas has no other\.avsc"):
        read_pipeline(path, schemas)
    with pytest.raises(PipelineError, match="SCRAPESAGA_SCHEMAS_DIR is not set"):
        read_pipeline(path)


def test_a_record_of_ones_own_that_is_no_schema_is_refused(tmp_path: Path) -> None:
    """It is not passed over for a bundled one of the same name."""
    (tmp_path / "product.avsc").write_text("{}", "utf-8")
    with pytest.raises(PipelineError, match=r"record: .*product\.avsc"):
        read_pipeline(written(tmp_path, use("Pure"), record="product"), tmp_path)


def test_folders_and_files(tmp_path: Path) -> None:
    """A folder gives all its pipelines; two of one name are refused, no pipeline at all too."""
    written(tmp_path, use("Undoable"))
    (tmp_path / "second.yml").write_text(yaml.safe_dump({"name": "more", "steps": [use("Pure")]}))
    assert set(read_pipelines([tmp_path])) == {"letters", "more"}
    (tmp_path / "third.yaml").write_text((tmp_path / "pipeline.yaml").read_text())
    with pytest.raises(PipelineError, match="a pipeline named 'letters' exists in another file"):
        read_pipelines([tmp_path])
    with pytest.raises(PipelineError, match="doesn't exist"):
        read_pipelines([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match="no pipeline in"):
        read_pipelines([tmp_path / "empty"])


# --- pinning ---------------------------------------------------------------------------------------------------------


def test_the_same_pipeline_is_the_same_plan(tmp_path: Path) -> None:
    """Reading a file twice gives one hash; any difference that matters gives another."""
    hashes = {
        read(tmp_path, use("Undoable")).hash,
        read(tmp_path, use("Undoable", timeout="30s")).hash,
        read(tmp_path, use("Undoable"), deadline="24h").hash,
    }
    assert len(hashes) == 1
    others = {
        read(tmp_path, use("Undoable", timeout="31s")).hash,
        read(tmp_path, use("Undoable", **{"with": {"count": 2}})).hash,
        read(tmp_path, use("Undoable"), resubmit="always").hash,
        read(tmp_path, use("Pure", name="undoable")).hash,
    }
    assert len(others | hashes) == 5


def test_identity_is_pinned_where_it_is_said(tmp_path: Path) -> None:
    """A plan without it has the hash that it always had; one with it is another plan, and comes back."""
    bare = read(tmp_path, use("Undoable"))
    assert b"identity" not in encode_plan(bare)
    assert read(tmp_path, use("Undoable"), identity={"sort_query": False}) == bare
    plan = read(tmp_path, use("Undoable"), identity={"sort_query": True, "ignore": ["utm_*"]})
    assert plan.identity == Identity(sort_query=True, ignore=("utm_*",))
    assert plan.hash != bare.hash
    assert decode_plan(encode_plan(plan)) == plan


@pytest.mark.parametrize(
    ("identity", "says"),
    [({"ignore": [""]}, "identity.ignore"), ({"sort": True}, "sort"), ({"ignore": "utm_*"}, "array"), ([], "identity")],
)
def test_an_identity_that_says_nothing_is_refused(tmp_path: Path, identity: Any, says: str) -> None:
    """A misspelt rule would make one job of nothing."""
    with pytest.raises(PipelineError, match=says):
        read(tmp_path, use("Undoable"), identity=identity)


def test_a_plan_comes_back(tmp_path: Path) -> None:
    """A plan is read from its topic as it was written, under its own hash."""
    plan = read(tmp_path, use("Undoable"), use("Confirming"), use("Pure"))
    assert decode_plan(encode_plan(plan)) == plan
    assert pin(plan) == plan


@pytest.mark.parametrize("damage", [lambda b: b.replace(b"letters", b"numbers"), lambda b: b[:-1], lambda b: b"{}"])
def test_a_plan_that_was_changed_is_refused(tmp_path: Path, damage: Any) -> None:
    """A plan that doesn't match its hash is no plan."""
    with pytest.raises(PipelineError):
        decode_plan(damage(encode_plan(read(tmp_path, use("Undoable")))))


def test_pinned_parameters_that_no_longer_fit_are_named(tmp_path: Path) -> None:
    """A step class that changed under a saga in flight says so, with the step's name."""
    step = read(tmp_path, use("Undoable", **{"with": {"count": 2}})).steps[0]
    changed = type(step)(**{**{n: getattr(step, n) for n in step.__struct_fields__}, "params": '{"gone": 1}'})
    with pytest.raises(PipelineError, match="'undoable' don't fit"):
        load_params(changed)


@pytest.mark.parametrize("name", ["fetch", "parse", "enrich", "load", "notify"])
def test_built_in_steps_are_installed(name: str) -> None:
    """The built-in steps come through the same door as anybody's."""
    assert issubclass(find_step(name), Step)
