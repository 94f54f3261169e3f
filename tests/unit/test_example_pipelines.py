"""The pipelines in examples/ can be planned as they are, and their steps agree with their record schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from processors.pipeline.pipeline import find_step, load_params, read_pipeline
from processors.steps.load import Load, LoadParams
from processors.steps.notify import Notify, NotifyParams
from processors.steps.parse import Parse, ParseParams
from schemas.record import RecordSchema

PIPELINES = sorted((Path(__file__).parents[2] / "examples" / "pipelines").glob("*.yaml"))


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_an_example_can_be_planned(path: Path) -> None:
    """Selectors, record fields, table and key all fit together; the file is named as its pipeline."""
    plan = read_pipeline(path)
    schema = RecordSchema.parse(plan.record_schema)
    assert plan.pipeline == path.stem
    checked = set()
    for planned in plan.steps:
        params = load_params(planned)
        match params:
            case ParseParams():
                Parse.check_record(params, schema)
            case LoadParams():
                Load.check_record(params, schema)
            case NotifyParams():
                Notify.check_record(params, schema)
            case _:
                continue
        checked.add(find_step(planned.use))
    assert checked == {Parse, Load, Notify}


def test_rows_wait_for_the_end_of_the_saga() -> None:
    """`load` is followed by a step that can fail, so its rows are confirmed; only parse has nothing to undo."""
    (shop_prices,) = (read_pipeline(path) for path in PIPELINES if path.stem == "shop-prices")
    assert [step.name for step in shop_prices.steps] == ["fetch", "parse", "enrich", "classify", "load", "notify"]
    assert [step.name for step in shop_prices.steps if step.confirms] == ["load"]
    assert [step.name for step in shop_prices.steps if not step.undoable] == ["parse"]
