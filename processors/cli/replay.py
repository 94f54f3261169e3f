"""`scrapesaga replay`: what a topic said from a time or an offset on, to look at or to feed to another topic."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import typer

from processors.cli.context import Context
from processors.cli.errors import CommandRefused
from processors.cli.records import Decoded, decode
from processors.durations import parse_duration
from processors.kafka.reader import Reader
from processors.kafka.sync_producer import SyncProducer
from processors.operations.queries import Newest
from topics.catalogue import Catalogue


class Start(NamedTuple):
    """Where a replay begins: an offset of every partition, or a time."""

    offset: int
    since_ms: int


def read_start(text: str, now: datetime) -> Start:
    """Return where to begin: digits are an offset, else a moment as `read_moment` reads it.

    Raises ValueError.
    """
    if text.isdigit():
        return Start(int(text), 0)
    try:
        return Start(0, read_moment(text, now))
    except ValueError as error:
        raise ValueError(f"{error}, or an offset such as 0") from None


def read_moment(text: str, now: datetime) -> int:
    """Return a moment in milliseconds: "2h" is a duration ago, else an ISO 8601 time, in UTC if it says no zone.

    Raises ValueError.
    """
    try:
        moment = now - parse_duration(text)
    except (ValueError, OverflowError):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r}: give a duration ago such as 2h, or a time such as 2026-01-31T06:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(1, int(moment.timestamp() * 1000))


def replay(
    ctx: typer.Context,
    begin: Annotated[
        str,
        typer.Option(
            "--from", help="Where to start: an offset, a duration ago, or an ISO time.", metavar="TIME|OFFSET"
        ),
    ],
    topic: Annotated[str, typer.Option(help="The topic, with or without its prefix.")] = "events",
    job: Annotated[str | None, typer.Option(help="Only records of this job.")] = None,
    label: Annotated[str | None, typer.Option(help="Only records of jobs with this label.")] = None,
    to_topic: Annotated[
        str | None, typer.Option(help="Produce the records to this topic, with key, value and headers.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per record.")] = False,
) -> None:
    """Read a topic from a point to its current end. Print the records, or produce them to another topic."""
    try:
        start = read_start(begin, datetime.now(UTC))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--from") from error
    if job is not None and label is not None:
        raise typer.BadParameter("can't be used with --job: a job has one label", param_hint="--label")
    if to_topic is not None and as_json:
        raise typer.BadParameter("can't be used with --to-topic", param_hint="--json")
    context: Context = ctx.obj
    source = full_name(context, topic)
    target = None if to_topic is None else target_name(context.catalogue, context.reader, source, to_topic)
    wanted = chooser(context, job, label)
    sender = None if target is None else SyncProducer(context.client)
    count = 0
    for record in context.reader.records(source, offset=start.offset, since_ms=start.since_ms):
        one = decode(record)
        if not wanted(one):
            continue
        count += 1
        if sender is not None and target is not None:
            sender.send(target, record.value, key=record.key, headers=record.headers)
        else:
            typer.echo(one.json() if as_json else one.line())
    if sender is not None:
        sender.finish()
    typer.echo(f"{count} records of {source}" + (f" produced to {target}" if target else ""), err=True)


def full_name(context: Context, topic: str) -> str:
    """Return a topic's name on Kafka, where it was given with or without the prefix. Raises TopicMissing."""
    prefixed = f"{context.settings.topic_prefix}.{topic}"
    name = prefixed if prefixed in context.reader.topics() else topic
    context.reader.partitions(name)
    return name


def target_name(catalogue: Catalogue, reader: Reader, source: str, topic: str) -> str:
    """Return the topic to produce to. Raises CommandRefused for one that only the engine may write to."""
    prefixed = f"{catalogue.prefix}.{topic}"
    name = prefixed if prefixed in reader.topics() else topic
    if name == source:
        raise CommandRefused(f"{name} can't be replayed to itself; give another --to-topic")
    owned = {one.name for one in catalogue} - {catalogue.urls.name}
    if name in owned:
        raise CommandRefused(
            f"only the engine may write to {name}; replay to {catalogue.urls.name}, or to a topic of your own"
        )
    reader.partitions(name)
    return name


def chooser(context: Context, job: str | None, label: str | None) -> Callable[[Decoded], bool]:
    """Return which records are wanted; a label is the records' own, else that of the job that they belong to."""
    if job is not None:
        key = job.encode()
        return lambda one: one.record.key == key or one.job_id == job
    if label is None:
        return lambda one: True
    states = Newest(context.reader.records(context.catalogue.sagas.name)).all()
    jobs = {state["job_id"] for state in states if state["label"] == label}

    def labelled(one: Decoded) -> bool:
        if one.label:
            return one.label == label
        key = (one.record.key or b"").decode("utf-8", "replace")
        return (one.job_id or key) in jobs

    return labelled
