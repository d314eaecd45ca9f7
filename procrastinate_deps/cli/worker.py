"""`worker`: run jobs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import anyio
import click
from click.core import ParameterSource

from procrastinate_deps.cli import logs
from procrastinate_deps.cli.arguments import comma_separated
from procrastinate_deps.cli.program import Command
from procrastinate_deps.cli.settings import Settings
from procrastinate_deps.connectors import LISTEN_DSN_VARIABLE
from procrastinate_deps.jobs import DeleteJobCondition

_POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command(
    cls=Command,
    log_level="info",
    epilog="\b\nExamples:\n"
    "  procrastinate-deps worker\n"
    "  procrastinate-deps worker default mails --concurrency 10\n"
    "  procrastinate-deps worker --processes 4 --concurrency 10\n"
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
    "--listen-dsn",
    metavar="DSN",
    envvar=LISTEN_DSN_VARIABLE,
    help="Where to listen, for an app that reaches the database through a pooler; a password in it belongs into the "
    "environment variable.  [default: as the app's connector]",
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
@click.option(
    "--update-heartbeat-interval",
    metavar="SECONDS",
    type=_POSITIVE,
    help="After how long to renew the sign that this worker lives.  [default: 10]",
)
@click.option(
    "--stalled-worker-timeout",
    metavar="SECONDS",
    type=_POSITIVE,
    help="How old that sign may become before a worker is lost and its jobs are taken back.  [default: 30]",
)
@click.option(
    "--max-rescues",
    type=click.IntRange(min=0),
    help="How many times a job is taken back from a lost worker before it fails.  [default: 3]",
)
@click.option(
    "--prune-after",
    metavar="HOURS",
    type=_POSITIVE,
    help="Delete jobs of all queues so long after their end, however they ended.  [default: never]",
)
@click.option(
    "--blocked-loop-threshold",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="How long a task may block the event loop before there is a warning; 0: no warning.  [default: 1]",
)
@click.option(
    "--sweep-interval",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="After how long one of all workers looks for damage in the tables; 0: this one never does.  [default: 600]",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Worker processes, named NAME-1, NAME-2, ...; each has the concurrency. One that dies is replaced.",
)
@click.option("--reload", is_flag=True, help="For development: start anew when a .py file of the project changes.")
@click.option(
    "--uvloop/--no-uvloop",
    default=None,
    help="Run on uvloop, or on asyncio's own event loop.  [default: uvloop where it is installed]",
)
@click.pass_context
def worker(
    ctx: click.Context,
    /,
    queue_names: tuple[str, ...],
    queues: str | None,
    one_shot: bool | None,
    processes: int,
    reload: bool,
    **options: Any,
) -> None:
    """Run the jobs of QUEUES, or of all queues, until SIGINT (Ctrl-C) or SIGTERM.

    A first signal lets the running jobs end, a second one stops at once. What is not given here is as the app's
    worker_defaults say.
    """
    # no other command needs the worker: it is a seventh of the program's start
    from procrastinate_deps.worker.line import Line
    from procrastinate_deps.worker.options import NAME

    settings = ctx.ensure_object(Settings)
    line = Line.inherited()
    if line is None and (processes > 1 or reload):
        if reload and one_shot:
            raise click.UsageError("--reload is for a worker that goes on; leave it out, or --one-shot")
        _exit(_supervise(settings, processes, reload=reload))
    names = comma_separated(queues)
    if queue_names and ctx.get_parameter_source("queues") is ParameterSource.ENVIRONMENT:
        names = []  # what was typed wins
    given = {name: value for name, value in options.items() if value is not None}
    if names or queue_names:
        given["queues"] = [*names, *queue_names]
    if one_shot is not None:
        given["wait"] = not one_shot
    if line is not None:
        ctx.call_on_close(line.close)
    app = settings.app()
    if line is not None:
        given["supervisor"] = line
        given["name"] = line.worker_name(given.get("name") or app.worker_defaults.get("name") or NAME)
        logs.speak_for(given["name"], line.lock_file)
    app.run_worker(**given)


def _supervise(settings: Settings, processes: int, *, reload: bool) -> int:
    """Run this very command in other processes; what the supervisor returns."""
    if sys.platform == "win32":
        raise click.UsageError("--processes and --reload don't work on Windows: start several workers instead")
    from procrastinate_deps.worker.processes import Supervisor
    from procrastinate_deps.worker.reload import python_changes

    changes = None
    if reload:
        named = settings.named_app()
        changes = python_changes([Path.cwd()] if named is None else [Path.cwd(), named.folder])

    async def supervise() -> int:
        return await Supervisor([sys.executable, *sys.orig_argv[1:]], processes, changes=changes).run()

    return anyio.run(supervise)


def _exit(status: int) -> NoReturn:
    """End as the worker processes did; a negative status is the signal that had to end them."""
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        signal.raise_signal(-status)
    raise click.exceptions.Exit(status)
