"""The list of jobs, by its filters, page by page."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from procrastinate_deps import statements
from procrastinate_deps.dashboard import discretion
from procrastinate_deps.dashboard.pages.overview import counts_by_status
from procrastinate_deps.dashboard.pages.parameters import choice, number, text, trail
from procrastinate_deps.dashboard.state import state_of
from procrastinate_deps.jobs import Status
from procrastinate_deps.statements import ARGUMENT_LIMIT, SCAN_LIMIT, JobFilter, JobRow

if TYPE_CHECKING:
    from starlette.requests import Request

    from procrastinate_deps.dashboard.hiding import Hider
    from procrastinate_deps.dashboard.state import State
    from procrastinate_deps.statements import Count

PAGE = 50
MANY = 2000
MAX_IDS = statements.COUNT_CAP
WAITS_FOR = ("ready", "scheduled", "lock")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A page of jobs.

    Attributes
    ----------
    older:
        Where the next page begins: give it as `before`. None: this is the last one.
    searched:
        How many jobs were looked at, where that was limited; None: all of them.
    """

    jobs: list[JobRow]
    older: int | None
    searched: int | None


async def read(request: Request) -> dict[str, Any]:
    state = state_of(request)
    job_id, before = number(request, "id"), number(request, "before")
    chosen, argument = _chosen(request)
    counts = await counts_by_status(state)
    if job_id is not None:
        found = Found(
            jobs=await state.reads.execute_async(statements.dashboard_rows([job_id])), older=None, searched=None
        )
    else:
        found = await _find(state, chosen, before, counts, PAGE)
    return {
        "jobs": [discretion.of_row(state.hider, job) for job in found.jobs],
        "older": found.older,
        "before": before,
        "trail": trail(request),
        "searched": found.searched,
        "argument_limit": ARGUMENT_LIMIT if chosen.by_argument and chosen.workflow_id is None else None,
        "counts": counts,
        "filter": {
            "id": job_id,
            "status": chosen.status,
            "waits_for": chosen.gate,
            "queue": chosen.queue,
            "task": chosen.task,
            "workflow": chosen.workflow_id,
            "argument": argument,
        },
        "queue_names": [queue.name for queue in await state.reads.execute_async(statements.dashboard_queues())],
        "task_names": sorted(state.app.tasks),
    }


async def read_ids(request: Request) -> dict[str, Any]:
    """The ids of all jobs that the filters fit, of no more than can be acted on at once."""
    state = state_of(request)
    chosen, _ = _chosen(request)
    if chosen.by_argument or chosen.gate is not None:
        ids = await _ids_by_pages(state, chosen)
    else:
        selection = statements.JobSelection(
            status=chosen.status, queue=chosen.queue, task=chosen.task, workflow_id=chosen.workflow_id
        )
        ids = await state.reads.execute_async(statements.select_jobs(selection, MAX_IDS + 1))
    return {"ids": ids[:MAX_IDS], "more": len(ids) > MAX_IDS, "limit": MAX_IDS}


async def _ids_by_pages(state: State, chosen: JobFilter) -> list[int]:
    """By what only the pages look for."""
    counts = await counts_by_status(state)
    ids: list[int] = []
    before: int | None = None
    while len(ids) <= MAX_IDS:
        found = await _find(state, chosen, before, counts, MANY)
        ids += [job.id for job in found.jobs]
        before = found.older
        if before is None:
            break
    return ids


def _chosen(request: Request) -> tuple[JobFilter, str | None]:
    """What the address says, and the argument as it was typed."""
    argument = text(request, "argument")
    chosen = JobFilter(
        status=choice(request, "status", Status, [each.value for each in Status]),
        gate=choice(request, "waits_for", str, WAITS_FOR),
        queue=text(request, "queue"),
        task=text(request, "task"),
        workflow_id=number(request, "workflow"),
        **argument_filter(argument),
    )
    if chosen.gate is not None and chosen.status is None:
        chosen = dataclasses.replace(chosen, status=Status.TODO)
    return chosen, argument


def argument_filter(given: str | None) -> dict[str, Any]:
    """What was typed: `order=7`, `customer.name=Ada` or any text."""
    if given is None:
        return {}
    path, equals, value = given.partition("=")
    if equals and path.strip():
        return {"argument_path": tuple(path.strip().split(".")), "argument_value": value.strip().strip('"')}
    return {"argument_text": given}


async def _find(state: State, chosen: JobFilter, before: int | None, counts: dict[str, Count], size: int) -> Found:
    run = state.reads.execute_async
    # What is found by hidden arguments only is left out afterwards, and must not be all that was looked at.
    wanted = 1 + (max(size, MANY) if chosen.by_argument and state.hider.hides_something else size)
    if chosen.workflow_id is not None:
        jobs = await run(statements.dashboard_of_workflow(chosen, wanted, before))
        return _page(jobs, chosen, state.hider, size)
    down_to = await run(statements.dashboard_window(None, ARGUMENT_LIMIT)) if chosen.by_argument else None
    if chosen.status is not None and counts[chosen.status.value].exact:
        jobs = await run(statements.dashboard_few(chosen, wanted, before, down_to))
        return _page(jobs, chosen, state.hider, size)
    jobs = await run(statements.dashboard_jobs(chosen, wanted, before, down_to))
    if len(jobs) > size or chosen.by_argument:
        return _page(jobs, chosen, state.hider, size)
    # Not a full page: is that all, or was there more than is looked through at once?
    end = await run(statements.dashboard_window(before, SCAN_LIMIT))
    if end is None or await run(statements.dashboard_window(end, 1)) is None:
        return Found(jobs=jobs, older=None, searched=None)
    return Found(jobs=jobs, older=end, searched=SCAN_LIMIT)


def _page(jobs: list[JobRow], chosen: JobFilter, hider: Hider, size: int) -> Found:
    # First of all: that there are more must not tell of what is hidden.
    shown = _unhidden(jobs, chosen, hider)
    older = shown[size - 1].id if len(shown) > size else None
    return Found(jobs=shown[:size], older=older, searched=None)


def _unhidden(jobs: list[JobRow], chosen: JobFilter, hider: Hider) -> list[JobRow]:
    """Without those that were found by what is hidden: else a search would tell it."""
    if not (chosen.by_argument and hider.hides_something):
        return jobs
    return [job for job in jobs if _fits(hider(job.task_name, job.task_kwargs), chosen)]


def _fits(arguments: Any, chosen: JobFilter) -> bool:
    if chosen.argument_text is not None:
        return chosen.argument_text.lower() in _searchable(arguments).lower()
    for name in chosen.argument_path:
        if isinstance(arguments, dict):
            arguments = arguments.get(name)
        elif isinstance(arguments, list) and name.isdigit() and int(name) < len(arguments):
            arguments = arguments[int(name)]
        else:
            return False
    return chosen.argument_value == (arguments if isinstance(arguments, str) else _searchable(arguments))


def _searchable(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
