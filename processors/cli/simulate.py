"""`scrapesaga simulate`: thousands of simulated histories of a pipeline with faults."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from processors.cli.exits import Exit


class Levels(StrEnum):
    """What is simulated."""

    RULES = "rules"
    WHOLE = "whole"
    BOTH = "both"


def simulate(
    pipelines: Annotated[
        list[Path], typer.Argument(help="Pipeline files, or folders with pipeline files.", metavar="PIPELINE...")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Number of histories of the rules, for each pipeline.")] = 2_000,
    whole: Annotated[
        int | None,
        typer.Option(min=1, help="Number of histories of the whole engine; by default --seeds / 20, at least 200."),
    ] = None,
    first: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    level: Annotated[
        Levels, typer.Option(help="rules: the protocol; whole: step worker, coordinator and steps.")
    ] = Levels.BOTH,
    seed: Annotated[int | None, typer.Option(min=0, help="Print the history of this seed; needs --level.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Stop after this many seconds in total; 0: no limit.")] = 0,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "--outside",
            help="STEP=module:attr: run the code of this step, with this StepModel; may be repeated.",
        ),
    ] = None,
    every_fault: Annotated[
        bool, typer.Option("--every-fault", "--every-mishap", help="Fail if a kind of fault never happened.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per pipeline and level.")] = False,
) -> None:
    """Simulate pipelines with faults, and check that every saga keeps the guarantees.

    Level rules runs the protocol with a model of everything around it.
    Level whole runs the production step worker and coordinator on a simulated Kafka. It runs the code of the steps that
    name a step model (see docs/custom-steps.md); for other steps it models the kind of their effect.
    The same seed gives the same history on every machine.

    Ends with 0 if no guarantee was violated; with 1 if one was, or if --every-fault finds a kind of fault that never
    happened; with 3 if a pipeline or a step model can't be read.
    """
    # Importing the engine takes a second, so only this command does it.
    from processors.simulation.command import Level, SimulationOptions, simulate_all, trace_one

    named = dict(one.partition("=")[::2] for one in model or [])
    if not all(named.values()):
        raise typer.BadParameter("write STEP=module:attr", param_hint="--model")
    asked = SimulationOptions(pipelines, seeds, whole, first, Level(level), seconds, named, as_json)
    if seed is None:
        outcome = simulate_all(asked, typer.echo)
        raise typer.Exit(Exit.REFUSED if outcome.broken or (every_fault and outcome.missing) else Exit.OK)
    if len(pipelines) != 1 or level is Levels.BOTH:
        raise typer.BadParameter("needs exactly one pipeline, and --level rules or --level whole", param_hint="--seed")
    raise typer.Exit(Exit.REFUSED if trace_one(asked, seed, typer.echo) else Exit.OK)
