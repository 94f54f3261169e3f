"""All commands by name, and how their errors end a command."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from processors.cli import acts, jobs, run, setup
from processors.cli.audit import audit
from processors.cli.context import Context
from processors.cli.exits import EPILOG
from processors.cli.replay import replay
from processors.cli.simulate import simulate
from processors.cli.spend import spend
from processors.cli.submit import submit


class Commands(TyperGroup):
    """The root: our errors end a command with one message and their exit code, never with a traceback."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands in groups, as their `rich_help_panel` names them.

        Typer's own panels cost a quarter of a second: rich is loaded with all that it can draw.
        """
        width = max(map(len, self.commands), default=0)
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None)
            about = name.ljust(width), command.get_short_help_str(formatter.width - 6 - width)
            panels.setdefault(panel if isinstance(panel, str) else "Commands", []).append(about)
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            # Help, and commands that have said how they end.
            raise
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            from processors.cli.errors import OURS, exit_code, explain

            if not isinstance(error, OURS):
                raise
            client = ctx.obj.client_if_known if isinstance(ctx.obj, Context) else None
            typer.echo(f"scrapesaga: {explain(error, client)}", err=True)
            raise typer.Exit(exit_code(error)) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=EPILOG,
    help="scrapesaga runs scraping pipelines as sagas on Kafka: every step can be undone, and no URL is lost.",
)


@app.callback()
def root(ctx: typer.Context) -> None:
    """Give every command its context."""
    ctx.obj = Context()


_LOOK, _MEND, _RUN = "Submit and inspect", "Intervene", "Set up and run"
app.command(rich_help_panel=_LOOK, epilog=EPILOG)(submit)
app.command(rich_help_panel=_LOOK, epilog=EPILOG)(jobs.status)
app.command("list", rich_help_panel=_LOOK, epilog=EPILOG)(jobs.list_jobs)
app.command(rich_help_panel=_LOOK, epilog=EPILOG)(jobs.watch)
app.command(rich_help_panel=_MEND, epilog=EPILOG)(acts.cancel)
app.command(rich_help_panel=_MEND, epilog=EPILOG)(acts.resume)
app.command(rich_help_panel=_MEND, epilog=EPILOG)(acts.redrive)
app.add_typer(audit, name="audit", rich_help_panel=_LOOK, epilog=EPILOG)
app.command(rich_help_panel=_LOOK, epilog=EPILOG)(replay)
app.add_typer(spend, name="spend", rich_help_panel=_MEND, epilog=EPILOG)
app.add_typer(setup.topics, name="topics", rich_help_panel=_RUN, epilog=EPILOG)
app.add_typer(setup.pipeline, name="pipeline", rich_help_panel=_RUN, epilog=EPILOG)
app.command(rich_help_panel=_RUN, epilog=EPILOG)(simulate)
app.command(rich_help_panel=_RUN, epilog=EPILOG)(run.worker)
app.command(rich_help_panel=_RUN, epilog=EPILOG)(run.roles)
app.command(rich_help_panel=_RUN, epilog=EPILOG)(run.up)
app.command(rich_help_panel=_RUN, epilog=EPILOG)(run.down)
app.command(rich_help_panel=_RUN, epilog=EPILOG)(run.logs)
app.command(rich_help_panel=_RUN, epilog=EPILOG)(run.demo)
