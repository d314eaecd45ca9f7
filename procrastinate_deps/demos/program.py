"""The command line of the demos: a table of them, and a command for each."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import anyio
import click

from procrastinate_deps.cli import logs
from procrastinate_deps.cli.output import print_rows, tolerate_any_text
from procrastinate_deps.cli.program import ENVIRONMENT_PREFIX, LOG_LEVELS, Failure, failing_in_one_line
from procrastinate_deps.cli.settings import Settings
from procrastinate_deps.demos import catalogue
from procrastinate_deps.demos.demo_app import app
from procrastinate_deps.exceptions import ProcrastinateException

if TYPE_CHECKING:
    from procrastinate_deps.demos.catalogue import Demo

VARIABLE_PREFIX = f"{ENVIRONMENT_PREFIX}_DEMO"
ALL = "all"

# Those who tell which database is used, and when it has to be started first.
_TELLING_LOGGERS = ("procrastinate_deps.connectors.default", "procrastinate_deps.embedded")

LOG_LEVEL_OPTION = click.Option(
    ["--log-level"],
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    envvar=f"{VARIABLE_PREFIX}_LOG_LEVEL",
    show_envvar=True,
    help="What is logged.",
)
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


def configure_log(level: str | None) -> None:
    logs.configure(level or "warning", "text", text_format="%(message)s" if level is None else logs.TEXT_FORMAT)
    if level is None:
        for name in _TELLING_LOGGERS:
            logging.getLogger(name).setLevel(logging.INFO)
        # a job that fails belongs to the show; its error stands in the table
        runner = logging.getLogger("procrastinate_deps.worker.run_log")
        runner.addFilter(lambda record: getattr(record, "action", None) != "job_error")


async def perform(demo: Demo, options: dict[str, Any]) -> None:
    """Run a demo on a database that has the tables. Raises Failure when something is not as it should be."""
    async with app.open_async():
        await app.schema_manager.apply_async()
        await demo.run(**options)


def command(demo: Demo) -> click.Command:
    def run(log_level: str | None, **options: Any) -> None:
        configure_log(log_level)
        with failing_in_one_line(Settings(log_level=log_level)):
            anyio.run(perform, demo, options)

    text = (
        f"{demo.text}\n\nThe database is that of PROCRASTINATE_DEPS_DSN or of libpq's variables (PGHOST ...), else "
        "the embedded server, which is started. Its schema is migrated. Status 0: all was as it should be."
    )
    return click.Command(
        demo.name,
        params=[*demo.options, LOG_LEVEL_OPTION],
        callback=run,
        help=text,
        short_help=demo.summary,
        context_settings=CONTEXT,
    )


class Demos(click.Group):
    """Loads a demo when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*catalogue.NAMES, ALL]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == ALL:
            return run_all
        return command(catalogue.load(cmd_name)) if cmd_name in catalogue.NAMES else None


@click.group(cls=Demos, invoke_without_command=True, context_settings=CONTEXT)
@click.pass_context
def program(ctx: click.Context) -> None:
    """Run a demo of workflows, or without a name list them. Each is a module too: `-m procrastinate_deps.demos.ml`."""
    if ctx.invoked_subcommand is None:
        rows = [(group, catalogue.load(name)) for group, names in catalogue.GROUPS.items() for name in names]
        columns = {"name": lambda row: row[1].name, "group": lambda row: row[0], "what": lambda row: row[1].summary}
        print_rows(rows, columns, "text", nothing="there are no demos")


@click.command(
    ALL, short_help="Run all of them, one after the other", params=[LOG_LEVEL_OPTION], context_settings=CONTEXT
)
def run_all(log_level: str | None) -> None:
    """Run all demos, one after the other. Status 0: all was as it should be in each of them."""
    configure_log(log_level)
    with failing_in_one_line(Settings(log_level=log_level)):
        anyio.run(_perform_all)


async def _perform_all() -> None:
    failed = []
    async with app.open_async():
        await app.schema_manager.apply_async()
        for name in catalogue.NAMES:
            demo = catalogue.load(name)
            click.echo(f"\n== {name}: {demo.summary}")
            try:
                await demo.run(**_options(demo))
            except (Failure, ProcrastinateException) as error:
                click.echo(f"Error: {error}", err=True)
                failed.append(name)
    if failed:
        raise Failure(f"{len(failed)} of {len(catalogue.NAMES)} demos failed: {', '.join(failed)}")
    click.echo(f"\nAll {len(catalogue.NAMES)} demos were as expected.")


def _options(demo: Demo) -> dict[str, Any]:
    """Those of the environment, else the defaults."""
    with command(demo).make_context(demo.name, [], auto_envvar_prefix=_prefix(demo.name)) as ctx:
        return {name: value for name, value in ctx.params.items() if name != "log_level"}


def _prefix(name: str) -> str:
    return f"{VARIABLE_PREFIX}_{name.upper()}"


def main(name: str | None = None, *, prefix: str | None = None) -> None:
    """Run this command line, or with a name that demo; `prefix` is that of its environment variables."""
    tolerate_any_text(sys.stdout, sys.stderr)
    if name is None:
        program.main(prog_name=f"python -m {catalogue.PACKAGE}", auto_envvar_prefix=VARIABLE_PREFIX)
    command(catalogue.load(name)).main(
        prog_name=f"python -m {catalogue.module_name(name)}", auto_envvar_prefix=prefix or _prefix(name)
    )
