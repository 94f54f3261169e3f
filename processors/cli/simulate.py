"""`scrapesaga simulate`: a pipeline's histories by the thousand, in which everything that can go wrong does."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from processors.cli.exits import Exit


class Levels(StrEnum):
    """What is simulated, as processors.simulation.command names it."""

    RULES = "rules"
    WHOLE = "whole"
    BOTH = "both"


def simulate(
    pipelines: Annotated[list[Path], typer.Argument(help="Pipeline files, or folders of them.", metavar="PIPELINE...")],
    seeds: Annotated[int, typer.Option(min=1, help="Histories of the rules, of each pipeline.")] = 2_000,
    whole: Annotated[
        int | None,
        typer.Option(min=1, help="Histories of the whole engine; by default a twentieth of --seeds, at least 200."),
    ] = None,
    first: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    level: Annotated[
        Levels, typer.Option(help="rules: the protocol; whole: runner, coordinator and steps.")
    ] = Levels.BOTH,
    seed: Annotated[int | None, typer.Option(min=0, help="Tell the history of this seed; with --level.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Stop after so many seconds in all; 0: never.")] = 0,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "--outside",
            help="STEP=module:attr: really run a step, on this processors.step_model.StepModel. May be repeated.",
        ),
    ] = None,
    every_fault: Annotated[
        bool, typer.Option("--every-fault", "--every-mishap", help="Fail if some kind of fault never happened.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a pipeline and level.")] = False,
) -> None:
    """Simulate pipelines: does every saga end well, whatever goes wrong?

    The rules run with a model of everything around them.
    The whole engine runs with its production runner and coordinator on a simulated Kafka, and with the code of those
    steps that name a step model (see docs/custom-steps.md); of the others the kind of their effect is modelled.
    One seed is one history, the same everywhere.

    Ends with 0 if no promise was broken; with 1 if one was, or with --every-fault if some kind never happened;
    with 3 if a pipeline or a step model can't be read.
    """
    # The engine is imported only where it is used: looking at a job must not take a second longer for it.
    from processors.simulation.command import Level, SimulationOptions, simulate_all, trace_one

    named = dict(one.partition("=")[::2] for one in model or [])
    if not all(named.values()):
        raise typer.BadParameter("say STEP=module:attr", param_hint="--model")
    asked = SimulationOptions(pipelines, seeds, whole, first, Level(level), seconds, named, as_json)
    if seed is None:
        outcome = simulate_all(asked, typer.echo)
        raise typer.Exit(Exit.REFUSED if outcome.broken or (every_fault and outcome.missing) else Exit.OK)
    if len(pipelines) != 1 or level is Levels.BOTH:
        raise typer.BadParameter("tells one pipeline's history, by --level rules or --level whole", param_hint="--seed")
    raise typer.Exit(Exit.REFUSED if trace_one(asked, seed, typer.echo) else Exit.OK)
