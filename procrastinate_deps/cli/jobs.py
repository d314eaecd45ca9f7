"""`list-jobs`, `job-status`, `cancel`, `retry`: single jobs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from procrastinate_deps.cli.arguments import JobId, Moment
from procrastinate_deps.cli.output import (
    as_json,
    format_option,
    moment,
    print_json,
    print_lines,
    print_rows,
    safe,
    status_text,
)
from procrastinate_deps.cli.program import Command, one_line
from procrastinate_deps.cli.waiting import is_live, waits
from procrastinate_deps.dependencies import MAX_JOB_ID
from procrastinate_deps.exceptions import JobNotFound, ProcrastinateException, TransitionRefused
from procrastinate_deps.jobs import Gate, Job, Status
from procrastinate_deps.statements import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from procrastinate_deps.cli.settings import Settings
    from procrastinate_deps.cli.waiting import Wait
    from procrastinate_deps.jobs import Event, WorkerInfo
    from procrastinate_deps.manager import JobManager

SHOWN_RELATIVES = 20
"""How many parents, children or things to wait for the text names; JSON has all."""

_LIST_COLUMNS: dict[str, Callable[[Job], Any]] = {
    "id": lambda job: job.id,
    "status": lambda job: job.status,
    "queue": lambda job: job.queue,
    "task": lambda job: _brief_name(job.task_name),
    "attempts": lambda job: job.attempts,
    "finished": lambda job: job.finished_at,
    "note": lambda job: _note(job),
}


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps list-jobs --queue mails --status failed\n"
    "  procrastinate-deps list-jobs --limit 100 --after 2700\n"
    "  procrastinate-deps list-jobs --status blocked --format json",
)
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--task", help="Only jobs of this task.")
@click.option("--status", type=click.Choice([each.value for each in Status]), help="Only jobs with this status.")
@click.option("--lock", help="Only jobs with this lock.")
@click.option("--queueing-lock", help="Only jobs with this queueing lock.")
@click.option("--limit", type=click.IntRange(min=1), default=PAGE_SIZE, show_default=True, help="How many at most.")
@click.option(
    "--after", type=click.IntRange(0, MAX_JOB_ID), help="Only jobs with a greater id: the last one of the page before."
)
@format_option
@click.pass_obj
def list_jobs(settings: Settings, /, limit: int, output_format: str, **filters: Any) -> None:
    """List jobs, by id."""
    with settings.database().open() as app:
        found = app.job_manager.list_jobs(limit=limit + 1, **filters)
    jobs = found[:limit]
    print_rows(jobs, _LIST_COLUMNS, output_format, nothing="no such jobs")
    if len(found) > limit:
        click.echo(f"there are more: list-jobs --after {jobs[-1].id}", err=True)


def _brief_name(task: str) -> str:
    """On a terminal the end of a long dotted name: a whole one would be folded into four lines."""
    parts = task.split(".")
    return f"..{'.'.join(parts[-2:])}" if sys.stdout.isatty() and len(parts) > 2 else task


def _note(job: Job) -> str:
    """What a person wants to know next about a job with this status."""
    match job.status:
        case Status.TODO if job.gate is Gate.SCHEDULED:
            return f"not before {moment(job.scheduled_at)}"
        case Status.TODO if job.gate is Gate.LOCK:
            return f"waits for the lock {job.lock}"
        case Status.DOING if job.abort_requested:
            return "asked to abort"
        case Status.CANCELLED:
            return job.cancel_reason or str(job.cancel_kind)
        case Status.FAILED | Status.ABORTED:
            return _last_line(job.error)
        case _:
            return ""


def _last_line(error: str | None) -> str:
    """The line of a traceback that says what it was."""
    lines = (error or "").strip().splitlines()
    return lines[-1] if lines else ""


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n  procrastinate-deps job-status 7\n  procrastinate-deps job-status 7 --format json",
)
@click.argument("job_id", metavar="ID", type=JobId())
@format_option
@click.pass_obj
def job_status(settings: Settings, job_id: int, output_format: str) -> None:
    """Show a job: what it waits for, its parents and children, its error, and what was done with it."""
    with settings.database().open() as app:
        manager = app.job_manager
        job = manager.get_job(job_id)
        parents = manager.get_parent_statuses(job_id)
        children = dict(_children(manager, job_id))
        waiting = list(waits(manager, job, parents))
        events = manager.list_events(job_id)
        worker = next((each for each in manager.list_workers() if each.id == job.worker_id), None)
    if output_format == "json":
        relatives = {"parents": parents, "children": children, "waits_for": [each.to_json() for each in waiting]}
        print_json({**as_json(job), **relatives, "worker": worker, "events": events})
        return
    print_lines(_describe(job, worker))
    print_lines(_describe_waits(job, waiting))
    print_lines(_section("parents", [f"job {parent}: {status_text(status)}" for parent, status in parents.items()]))
    print_lines(_section("children", [f"job {child}: {status_text(status)}" for child, status in children.items()]))
    print_lines(_section("events", [_describe_event(event) for event in events], limit=None))
    if job.error:
        print_lines(_section("error", safe(job.error.rstrip(), keep="\n\t").splitlines(), limit=None))


def _children(manager: JobManager, job_id: int) -> Iterator[tuple[int, Status]]:
    after: int | None = None
    while page := manager.get_children(job_id, after=after):
        yield from page.items()
        after = max(page)


def _describe(job: Job, worker: WorkerInfo | None) -> Iterator[str]:
    yield f"job {job.id}: {status_text(job.status)}"
    lines = {
        "task": job.task_name,
        "arguments": json.dumps(job.task_kwargs, ensure_ascii=False),
        "queue": job.queue,
        "priority": job.priority,
        "lock": job.lock,
        "queueing lock": job.queueing_lock,
        "run when": job.run_when,
        "created": moment(job.created_at),
        "scheduled": moment(job.scheduled_at),
        "started": moment(job.started_at),
        "finished": moment(job.finished_at),
        "attempts": job.attempts,
        "rescues": job.rescues or None,
        "worker": _describe_worker(job, worker),
        "abort": "requested" if job.abort_requested else None,
        "cancelled as": job.cancel_kind,
        "reason": job.cancel_reason,
        "result": None if job.result is None else json.dumps(job.result, ensure_ascii=False),
    }
    for name, value in lines.items():
        if value not in (None, ""):
            yield f"  {name:<14} {safe(str(value))}"


def _describe_worker(job: Job, worker: WorkerInfo | None) -> str | None:
    if job.worker_id is None or (worker is None and job.status is not Status.DOING):
        return None
    if worker is None:
        return f"{job.worker_id}, which is not known any more"
    lost = "" if is_live(worker) else ", which gives no sign of life"
    return f"{worker.id}: {worker.name} on {worker.hostname}, process {worker.pid}{lost}"


def _describe_waits(job: Job, waiting: list[Wait]) -> Iterable[str]:
    if job.status in (Status.BLOCKED, Status.TODO) and not waiting:
        return _section("waits for", ["a free slot of a worker: nothing else is in its way"])
    return _section("waits for", [safe(each.text) for each in waiting])


def _describe_event(event: Event) -> str:
    shown = {name: _last_line(value) if name == "error" else value for name, value in event.detail.items()}
    detail = ", ".join(f"{name}: {value}" for name, value in shown.items() if value not in (None, ""))
    return safe(f"{moment(event.at)} {event.type} (attempt {event.attempt}) {detail}".rstrip())


def _section(title: str, lines: list[str], limit: int | None = SHOWN_RELATIVES) -> Iterator[str]:
    if not lines:
        return
    yield title
    for line in lines[:limit]:
        yield f"  {line}"
    if limit is not None and len(lines) > limit:
        yield f"  and {len(lines) - limit} more"


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n  procrastinate-deps cancel 7 8\n  procrastinate-deps cancel --abort 7",
)
@click.argument("job_ids", metavar="ID...", type=JobId(), nargs=-1, required=True)
@click.option("--abort", is_flag=True, help="Ask running jobs to stop, too.")
@click.option("--delete", "delete_job", is_flag=True, help="Delete the jobs; their children are told of a cancel.")
@click.pass_context
def cancel(ctx: click.Context, job_ids: tuple[int, ...], abort: bool, delete_job: bool) -> None:
    """Cancel jobs that have not started. Their children are decided by their rules."""

    def act(manager: JobManager, job_id: int) -> str:
        if manager.cancel_job_by_id(job_id, abort=abort, delete_job=delete_job):
            return _after_cancel(manager, job_id)
        status = manager.get_job_status(job_id)
        if status is Status.DOING:
            raise TransitionRefused(f"job {job_id} is running; --abort asks it to stop")
        raise TransitionRefused(f"job {job_id} can't be cancelled: it is {status}")

    _for_each(ctx, job_ids, act)


def _after_cancel(manager: JobManager, job_id: int) -> str:
    try:
        status = manager.get_job_status(job_id)
    except JobNotFound:
        return "deleted"
    return "asked to abort" if status is Status.DOING else status.value


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n"
    "  procrastinate-deps retry 7\n"
    "  procrastinate-deps retry 7 8 --at 2030-01-31T12:00:00Z --no-reset-dependents",
)
@click.argument("job_ids", metavar="ID...", type=JobId(), nargs=-1, required=True)
@click.option("--at", "retry_at", metavar="ISO", type=Moment(), help="Don't start before.  [default: at once]")
@click.option("--priority", type=int, help="A new priority.")
@click.option("--queue", help="Another queue.")
@click.option("--lock", help="Another lock.")
@click.option(
    "--reset-dependents/--no-reset-dependents",
    default=True,
    show_default=True,
    help="Whether dependents that have not started wait for it again.",
)
@click.option("--ignore-dependencies", is_flag=True, help="Run it whatever its parents did or do; a blocked one, too.")
@click.pass_context
def retry(
    ctx: click.Context,
    job_ids: tuple[int, ...],
    retry_at: datetime | None,
    priority: int | None,
    queue: str | None,
    lock: str | None,
    reset_dependents: bool,
    ignore_dependencies: bool,
) -> None:
    """Run jobs again that have ended, or whose worker is lost."""

    def act(manager: JobManager, job_id: int) -> str:
        manager.retry_job_by_id(job_id, retry_at, priority, queue, lock, reset_dependents, ignore_dependencies)
        return manager.get_job_status(job_id).value

    _for_each(ctx, job_ids, act)


def _for_each(ctx: click.Context, job_ids: tuple[int, ...], act: Callable[[JobManager, int], str]) -> None:
    """Do it with each job, whatever becomes of the others, and say what it is now."""
    settings: Settings = ctx.obj
    failed = False
    with settings.database().open() as app:
        # one job, one error: the program says it; of several, each says its own
        if len(job_ids) == 1:
            click.echo(f"job {job_ids[0]}: {act(app.job_manager, job_ids[0])}")
            return
        for job_id in job_ids:
            try:
                click.echo(f"job {job_id}: {act(app.job_manager, job_id)}")
            except ProcrastinateException as error:
                failed = True
                click.echo(f"Error: {one_line(error)}", err=True)
    if failed:
        ctx.exit(1)
