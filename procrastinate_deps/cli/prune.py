"""`prune`: delete jobs that ended long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from procrastinate_deps.cli.arguments import Age
from procrastinate_deps.cli.durations import counted
from procrastinate_deps.cli.program import Command
from procrastinate_deps.cli.targets import COUNT_CAP, agree, dry_run_option, jobs_counted, yes_option
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
@yes_option
@dry_run_option
@click.pass_obj
def prune(
    settings: Settings, older_than: timedelta, statuses: tuple[str, ...], queue: str | None, yes: bool, dry_run: bool
) -> None:
    """Delete jobs that ended long ago. Those that an unfinished child still has stay."""
    wanted = [Status(each) for each in statuses] or sorted(TERMINAL)
    with settings.database().open() as app:
        if not yes or dry_run:
            count = app.job_manager.count_prunable_jobs(older_than, wanted, queue, COUNT_CAP + 1)
            of = "" if queue is None else f" of queue {queue!r}"
            what = f"delete {jobs_counted(count)}{of}: {', '.join(wanted)}"
            if dry_run or count == 0:
                click.echo(f"would {what}" if dry_run else "no such jobs")
                return
            agree(f"{what}?", yes=yes)
        deleted = app.job_manager.prune_jobs(older_than, wanted, queue)
    click.echo(f"{counted(deleted, 'job')} deleted")
