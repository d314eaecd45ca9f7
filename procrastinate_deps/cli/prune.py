"""`prune`: delete jobs that ended long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from procrastinate_deps.cli.arguments import Age
from procrastinate_deps.cli.program import Command
from procrastinate_deps.jobs import TERMINAL, Status

if TYPE_CHECKING:
    from datetime import timedelta

    from procrastinate_deps.cli.settings import Settings


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps prune --older-than 30d\n"
    "  procrastinate-deps prune --older-than 12h --status succeeded --queue mails --yes",
)
@click.option(
    "--older-than", metavar="AGE", type=Age(), required=True, help="Of jobs that ended so long ago: 30d, 12h."
)
@click.option(
    "--status",
    "statuses",
    type=click.Choice([each.value for each in Status if each in TERMINAL]),
    multiple=True,
    help="Only of jobs that ended so; can be given several times.  [default: however they ended]",
)
@click.option("--queue", help="Only of this queue.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.pass_obj
def prune(settings: Settings, older_than: timedelta, statuses: tuple[str, ...], queue: str | None, yes: bool) -> None:
    """Delete jobs that ended long ago. Those that an unfinished child still has stay."""
    wanted = [Status(each) for each in statuses] or sorted(TERMINAL)
    with settings.database().open() as app:
        if not yes:
            count = app.job_manager.count_prunable_jobs(older_than, wanted, queue)
            if count == 0:
                click.echo("no such jobs")
                return
            of = "" if queue is None else f" of queue {queue!r}"
            click.confirm(f"delete {count} job(s){of}: {', '.join(wanted)}?", abort=True)
        deleted = app.job_manager.prune_jobs(older_than, wanted, queue)
    click.echo(f"{deleted} job(s) deleted")
