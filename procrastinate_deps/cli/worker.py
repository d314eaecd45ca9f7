"""`worker`: run jobs."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from procrastinate_deps.cli.arguments import comma_separated
from procrastinate_deps.cli.program import Command
from procrastinate_deps.cli.settings import Settings
from procrastinate_deps.jobs import DeleteJobCondition

_POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command(
    cls=Command,
    log_level="info",
    epilog="\b\nExamples:\n"
    "  procrastinate-deps worker\n"
    "  procrastinate-deps worker default mails --concurrency 10\n"
    "  procrastinate-deps worker -q default,mails --one-shot --log-level warning",
)
@click.argument("queue_names", metavar="[QUEUES]...", nargs=-1)
@click.option("-q", "--queues", metavar="A,B,...", help="Queues to serve, separated by commas.  [default: all]")
@click.option("-c", "--concurrency", type=click.IntRange(min=1), help="Jobs to run at the same time.  [default: 1]")
@click.option("-n", "--name", help="Name of the worker in the log and in list-workers.  [default: worker]")
@click.option(
    "--one-shot/--wait", "one_shot", default=None, help="Stop when no job is left that can be run.  [default: wait]"
)
@click.option(
    "--shutdown-graceful-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="How long a stopping worker waits for its running jobs before it aborts them.  [default: no limit]",
)
@click.option(
    "--delete-jobs",
    type=click.Choice([each.value for each in DeleteJobCondition]),
    help="Which jobs to delete when they end.  [default: never]",
)
@click.option(
    "-l/ ",
    "--listen-notify/--no-listen-notify",
    default=None,
    help="Listen for jobs on a connection of its own, or only poll.  [default: listen]",
)
@click.option(
    "-p",
    "--fetch-job-polling-interval",
    metavar="SECONDS",
    type=_POSITIVE,
    help="After how long to look for jobs that nobody announced.  [default: 5]",
)
@click.option(
    "--abort-job-polling-interval",
    metavar="SECONDS",
    type=_POSITIVE,
    help="After how long to look for requests to abort that nobody announced.  [default: 5]",
)
@click.pass_context
def worker(
    ctx: click.Context, /, queue_names: tuple[str, ...], queues: str | None, one_shot: bool | None, **options: Any
) -> None:
    """Run the jobs of QUEUES, or of all queues, until SIGINT (Ctrl-C) or SIGTERM.

    A first signal lets the running jobs end, a second one stops at once. What is not given here is as the app's
    worker_defaults say.
    """
    names = comma_separated(queues)
    if queue_names and ctx.get_parameter_source("queues") is ParameterSource.ENVIRONMENT:
        names = []  # what was typed wins
    given = {name: value for name, value in options.items() if value is not None}
    if names or queue_names:
        given["queues"] = [*names, *queue_names]
    if one_shot is not None:
        given["wait"] = not one_shot
    ctx.ensure_object(Settings).app().run_worker(**given)
