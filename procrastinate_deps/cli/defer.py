"""`defer`: make a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from procrastinate_deps.cli.arguments import JobId, JsonObject, Moment
from procrastinate_deps.cli.program import Command
from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.exceptions import AlreadyEnqueued

if TYPE_CHECKING:
    from datetime import datetime

    from procrastinate_deps.cli.settings import Settings


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps defer shop.charge '{\"order\": 7}'\n"
    "  procrastinate-deps defer shop.ship '{\"order\": 7}' --depends-on 1 --depends-on 2 --run-when all_succeeded\n"
    "  procrastinate-deps defer shop.report --in 3600 --queue nightly",
)
@click.argument("task")
@click.argument("task_kwargs", metavar="[JSON]", type=JsonObject(), required=False)
@click.option("--queue", help="Queue of the job.  [default: the task's]")
@click.option("--lock", help="No two jobs with the same lock run at the same time.")
@click.option("--queueing-lock", help="No two jobs with the same queueing lock wait at the same time.")
@click.option(
    "-i", "--ignore-already-enqueued", is_flag=True, help="It is no error when a job with this queueing lock waits."
)
@click.option("--at", "schedule_at", metavar="ISO", type=Moment(), help="Don't start before, as 2030-01-31T12:00:00Z.")
@click.option("--in", "seconds", metavar="SECONDS", type=float, help="Don't start before so many seconds from now.")
@click.option("--priority", type=int, help="Higher starts earlier.  [default: the task's]")
@click.option("--unknown", is_flag=True, help="The task may be one that the app here doesn't know.")
@click.option("--depends-on", type=JobId(), multiple=True, help="A job that must end first; give it once for each.")
@click.option(
    "--run-when",
    type=click.Choice([rule.value for rule in RunWhen]),
    help="With which ends of those jobs it runs.  [default: the task's]",
)
@click.pass_obj
def defer(
    settings: Settings,
    /,
    task: str,
    task_kwargs: dict[str, Any] | None,
    schedule_at: datetime | None,
    seconds: float | None,
    unknown: bool,
    ignore_already_enqueued: bool,
    depends_on: tuple[int, ...],
    **options: Any,
) -> None:
    """Defer a job of TASK with the arguments in JSON, an object ("-" reads it from stdin), and print its id."""
    if schedule_at is not None and seconds is not None:
        raise click.UsageError("--at and --in: give only one of them")
    app = settings.database() if unknown else settings.app()
    job = app.configure_task(
        task,
        allow_unknown=unknown,
        task_kwargs=task_kwargs or {},
        schedule_at=schedule_at,
        schedule_in=None if seconds is None else {"seconds": seconds},
        depends_on=depends_on,
        **options,
    )
    with app.open():
        try:
            click.echo(job.defer())
        except AlreadyEnqueued as error:
            if not ignore_already_enqueued:
                raise
            click.echo(f"nothing deferred: {error}", err=True)
