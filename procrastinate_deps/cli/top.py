"""`top`: queues, workers, what runs and what failed, on one screen."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from procrastinate_deps.cli.output import format_option, on_terminal, print_json, print_lines
from procrastinate_deps.cli.program import Command
from procrastinate_deps.cli.waiting import is_live
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.statements import dashboard_failures, dashboard_queues, running_jobs
from procrastinate_deps.times import utc_now
from procrastinate_deps.troubles import passes_by_itself

if TYPE_CHECKING:
    from datetime import datetime

    from procrastinate_deps.app import App
    from procrastinate_deps.cli.settings import Settings
    from procrastinate_deps.jobs import WorkerInfo
    from procrastinate_deps.statements import FailureRow, QueueRow, Running

INTERVAL_S = 1.0
FAILURES = 10
READ_RUNNING = 200
LEAVE = ("q", "Q", "\x03")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """All that one screen shows, and when it was read."""

    at: datetime
    queues: list[QueueRow]
    workers: list[WorkerInfo]
    running: Running
    failures: list[FailureRow]


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps top\n"
    "  procrastinate-deps top --interval 5\n"
    "  procrastinate-deps top --once --format json",
)
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1, max=3600),
    default=INTERVAL_S,
    show_default=True,
    help="How often it looks.",
)
@click.option("--once", is_flag=True, help="Look once and print it, as it does in a pipe.")
@format_option
@click.pass_obj
def top(settings: Settings, interval: float, once: bool, output_format: str) -> None:
    """Show queues, workers, the jobs that run longest and the latest failures, live until q or Ctrl-C.

    Ready jobs and the like are counted up to 10,000; runs and failures are those of the last hour.
    """
    with settings.database().open() as app:
        if output_format == "json":
            print_json(look(app))
        elif not on_terminal():
            from procrastinate_deps.cli.top_text import lines

            print_lines(lines(look(app)))
        elif once:
            from procrastinate_deps.cli.top_screen import print_once

            print_once(look(app))
        else:
            _live(app, interval)


def look(app: App) -> Frame:
    workers = app.job_manager.list_workers()
    return Frame(
        queues=app.execute(dashboard_queues()),
        workers=sorted(workers, key=lambda each: (not is_live(each), -each.running, each.id)),
        running=app.execute(running_jobs(READ_RUNNING)),
        failures=app.execute(dashboard_failures(FAILURES)),
        at=utc_now(),
    )


def _live(app: App, interval: float) -> None:
    from rich.console import Console
    from rich.live import Live

    from procrastinate_deps.cli.keys import reading_keys
    from procrastinate_deps.cli.top_screen import screen

    console = Console(highlight=False)
    frame = look(app)  # what is wrong from the start is an error, not a picture
    problem = ""
    # Ctrl-C leaves as q does, wherever it comes
    with (
        contextlib.suppress(KeyboardInterrupt),
        reading_keys() as keys,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            live.update(screen(frame, console.width, console.height, interval, problem), refresh=True)
            if keys.wait(interval)[:1] in LEAVE:
                return
            try:
                frame = look(app)
                problem = ""
            except ConnectorException as error:
                if not passes_by_itself(error):
                    raise
                problem = " ".join(str(error).split())
