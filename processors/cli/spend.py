"""`scrapesaga spend`: show the ledger of paid calls, and remove entries that no saga needs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from processors.cli import show
from processors.cli.context import Context
from processors.cli.errors import CommandRefused
from processors.durations import parse_duration
from processors.errors import BadRecord
from processors.kafka.sync_producer import SyncProducer
from processors.operations.queries import all_states
from processors.spend.book import COUNTED, SpendBook, SpendEntry
from processors.spend.pruning import AT_ONCE, carried_key, carry, forgettable, sums, taken_over

spend = typer.Typer(no_args_is_help=True, help="Show and prune the ledger of paid calls.")


class _Ledger:
    """The spend topic as it is now."""

    def __init__(self, context: Context) -> None:
        self.book = SpendBook()
        self._keys: set[str] = set()
        self._next = 0
        self._topic = context.catalogue.spend.name
        self._reader = context.reader
        self.read()

    def read(self) -> None:
        """Read on to the end. Raises BadRecord."""
        for record in self._reader.records(self._topic, offset=self._next):
            key = (record.key or b"").decode()
            self._next = record.offset + 1
            self._keys.add(key)
            self.book.fold(record.offset, key, None if record.value is None else SpendEntry.decode(record.value))

    def entries(self) -> list[SpendEntry]:
        """Return every entry that stands."""
        return [entry for key in self._keys if (entry := self.book.entry(key)) is not None]


@spend.command("show")
def show_spend(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False,
) -> None:
    """Show for each pipeline the money spent or reserved, and the number of entries."""
    ledger = _Ledger(ctx.obj)
    table = Table("pipeline", "spent", "entries", "by state", box=None, pad_edge=False)
    for pipeline, by_state in sorted(sums(ledger.entries()).items()):
        count = sum(one for one, _ in by_state.values())
        spent = ledger.book.total(pipeline)
        states = {state.value.lower(): {"entries": one, "cost": str(cost)} for state, (one, cost) in by_state.items()}
        if as_json:
            typer.echo(show.as_json({"pipeline": pipeline, "spent": str(spent), "entries": count, "states": states}))
        told = ", ".join(f"{one} {state.lower()}" for state, (one, _) in sorted(by_state.items()))
        table.add_row(pipeline, str(spent), str(count), told)
    if not as_json:
        show.console().print(table)


@spend.command("forget")
def forget(
    ctx: typer.Context,
    older_than: Annotated[
        str, typer.Option(help="Remove entries that did not change for this long, such as 90d.", metavar="AGE")
    ],
    give_back: Annotated[
        bool, typer.Option("--give-back", help="Subtract their cost from the sum too: the cap has room again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
) -> None:
    """Remove old entries whose sagas are forgotten. Their cost stays in the sum, unless you use --give-back.

    A removed result is not reused: the same request is paid for again.
    """
    context: Context = ctx.obj
    try:
        age = parse_duration(older_than)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from error
    # A command that is still on its topic may be delivered again, and must find what it has paid for.
    least = context.settings.retention_commands
    if age < least:
        raise CommandRefused(
            f"--older-than {older_than}: use at least {least.days}d, the retention of commands (SCRAPESAGA_RETENTION_COMMANDS)"
        )
    now = datetime.now(UTC)
    # The ledger first: a saga that begins after it can't be missed among those that need an entry of it.
    ledger = _Ledger(context)
    live = {state["job_id"] for state in all_states(context.reader, context.catalogue.sagas.name).all()}
    found = forgettable(ledger.entries(), now - age, live, carried=give_back)
    for pipeline, entries in sorted(found.items()):
        cost = sum(entry.cost for entry in entries if entry.state in COUNTED)
        typer.echo(
            f"{pipeline}: {len(entries)} entries, {cost} {'subtracted from the sum' if give_back else 'kept in the sum'}"
        )
        if not dry_run:
            for start in range(0, len(entries), AT_ONCE):
                _forget(context, ledger, pipeline, entries[start : start + AT_ONCE], now, give_back)


def _forget(
    context: Context, ledger: _Ledger, pipeline: str, entries: list[SpendEntry], now: datetime, give_back: bool
) -> None:
    topic = context.catalogue.spend.name
    carried = ledger.book.entry(carried_key(pipeline))
    done = taken_over(carried)
    going = [entry for entry in entries if entry.key not in done]
    sender = SyncProducer(context.client)
    if going and not give_back:
        entry = carry(carried, pipeline, going, now)
        # Carried before it is forgotten: in between a cost counts twice, never not at all.
        sender.send(topic, entry.encode(), key=entry.key.encode(), partition=0)
        sender.finish()
        ledger.read()
        if not ledger.book.stands(entry, sender.last_offset):
            raise BadRecord(
                f"another process removes entries of {pipeline} at the same time; run this again when it has ended"
            )
    for entry in entries:
        sender.send(topic, None, key=entry.key.encode(), partition=0)
    sender.finish()
    ledger.read()
    settled = ledger.book.entry(carried_key(pipeline))
    if settled is not None and taken_over(settled):
        # They are gone: should one of the keys ever come back, it counts for itself.
        settled = carry(settled, pipeline, (), now)
        sender.send(topic, settled.encode(), key=settled.key.encode(), partition=0)
        sender.finish()
        ledger.read()
