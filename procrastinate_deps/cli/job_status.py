"""`job-status`: one job, and why it waits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from procrastinate_deps.cli.arguments import JobId
from procrastinate_deps.cli.output import (
    as_json,
    format_option,
    last_line,
    moment,
    on_terminal,
    print_json,
    print_lines,
    safe,
)
from procrastinate_deps.cli.program import Command
from procrastinate_deps.cli.waiting import is_live
from procrastinate_deps.jobs import NotStored, Progress, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from procrastinate_deps.cli.settings import Settings
    from procrastinate_deps.explanations import Explanation
    from procrastinate_deps.jobs import Event, Job, WorkerInfo
    from procrastinate_deps.manager import JobManager

SHOWN_RELATIVES = 20
"""How many parents or children the text names; JSON has all."""


@dataclass(frozen=True, slots=True)
class Found:
    """All that is shown of a job."""

    job: Job
    worker: WorkerInfo | None
    explanation: Explanation
    parents: Mapping[int, str]
    children: Mapping[int, Status]
    events: Sequence[Event]


@click.command(
    cls=Command,
    epilog="\b\nExamples:\n  procrastinate-deps job-status 7\n  procrastinate-deps job-status 7 --format json",
)
@click.argument("job_id", metavar="ID", type=JobId())
@format_option
@click.pass_obj
def job_status(settings: Settings, job_id: int, output_format: str) -> None:
    """Show a job: why it waits, what is bound to happen, its parents and children, its error, what was done with it."""
    with settings.database().open() as app:
        manager = app.job_manager
        job = manager.get_job(job_id)
        parents = manager.get_parent_statuses(job_id)
        children = dict(_children(manager, job_id))
        explanation = manager.explain(job_id)
        events = manager.list_events(job_id)
        worker = next((each for each in manager.list_workers() if each.id == job.worker_id), None)
    if output_format == "json":
        relatives = {"parents": parents, "children": children, "explanation": explanation.as_dict()}
        print_json({**as_json(job), **relatives, "worker": worker, "events": events})
        return
    found = Found(job, worker, explanation, parents, children, events)
    if on_terminal():
        from procrastinate_deps.cli.job_panels import print_panels

        print_panels(found, dict(describe(job, worker)))
    else:
        print_lines(_text(found))


def _text(found: Found) -> Iterator[str]:
    job, explanation = found.job, found.explanation
    yield f"job {job.id}: {job.status}"
    for name, value in describe(job, found.worker):
        yield f"  {name:<14} {value}"
    if not explanation.status.is_terminal:  # of one that has ended the lines above have said it
        yield from _section("why", [safe(line) for line in explanation.reasons()], limit=None)
    yield from _section("parents", [f"job {parent}: {status}" for parent, status in found.parents.items()])
    yield from _section("children", [f"job {child}: {status}" for child, status in found.children.items()])
    yield from _section("events", [describe_event(event) for event in found.events], limit=None)
    if job.error:
        yield from _section("error", safe(job.error.rstrip(), keep="\n\t").splitlines(), limit=None)


def _children(manager: JobManager, job_id: int) -> Iterator[tuple[int, Status]]:
    after: int | None = None
    while page := manager.get_children(job_id, after=after):
        yield from page.items()
        after = max(page)


def describe(job: Job, worker: WorkerInfo | None) -> Iterator[tuple[str, str]]:
    """Names and values of what there is to say about it."""
    workflow = "" if job.workflow_id is None else f"{job.workflow_id}{f', as {job.node!r}' if job.node else ''}"
    lines = {
        "task": job.task_name,
        "arguments": json.dumps(job.task_kwargs, ensure_ascii=False),
        "queue": job.queue,
        "workflow": workflow,
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
        "progress": None if job.progress is None else _describe_progress(job.progress),
        "result": _describe_result(job.result),
    }
    for name, value in lines.items():
        if value not in (None, ""):
            yield name, safe(str(value))


def _describe_progress(progress: Progress) -> str:
    amount = f"{progress.done:g}" if progress.total is None else f"{progress.done:g} of {progress.total:g}"
    share = "" if progress.fraction is None else f" ({progress.fraction:.0%})"
    what = f": {progress.message}" if progress.message else ""
    return f"{amount}{share}, {moment(progress.updated_at)}{what}"


def _describe_result(result: Any) -> str | None:
    if isinstance(result, NotStored):
        return f"not stored: {result.reason}"
    return None if result is None else json.dumps(result, ensure_ascii=False)


def _describe_worker(job: Job, worker: WorkerInfo | None) -> str | None:
    if job.worker_id is None or (worker is None and job.status is not Status.DOING):
        return None
    if worker is None:
        return f"{job.worker_id}, which is not known any more"
    lost = "" if is_live(worker) else ", which gives no sign of life"
    return f"{worker.id}: {worker.name} on {worker.hostname}, process {worker.pid}{lost}"


def describe_event(event: Event) -> str:
    shown = {name: last_line(value) if name == "error" else value for name, value in event.detail.items()}
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
