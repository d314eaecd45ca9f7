"""One job: what it is, what became of it, what it waits for, and the jobs around it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from procrastinate_deps import statements
from procrastinate_deps.dashboard import discretion
from procrastinate_deps.dashboard.pages.parameters import path_id
from procrastinate_deps.dashboard.state import state_of
from procrastinate_deps.jobs import NotStored, Status
from procrastinate_deps.statements.base import utc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from starlette.requests import Request

    from procrastinate_deps.jobs import Event, Job

SHOWN_RELATIVES = 50

_TITLES = {
    "attempt_failed": "failed, to be tried again",
    "requeued": "given back, to run again",
    "rescued": "taken back from a lost worker",
    "retried": "retried by hand",
    "cancelled": "cancelled by hand",
    "abort_requested": "asked to stop",
    "ended": "ended by hand",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One entry of a job's timeline. `kind` is a status or the type of an event."""

    at: datetime
    kind: str
    title: str
    attempt: int | None = None
    worker_id: int | None = None
    after_s: float | None = None
    error: str | None = None
    detail: Mapping[str, Any] = dataclasses.field(default_factory=dict)


async def read(request: Request) -> dict[str, Any]:
    state = state_of(request)
    job_id = path_id(request, "job_id")
    manager = state.reader
    job = await manager.get_job_async(job_id)
    parents = await manager.get_parent_statuses_async(job_id)
    children = await manager.get_children_async(job_id, limit=SHOWN_RELATIVES + 1)
    workers = await manager.list_workers_async()
    events = await manager.list_events_async(job_id)
    workflow = None
    if job.workflow_id is not None:
        workflow = await state.reads.execute_async(statements.get_workflow(job.workflow_id))
        workflow = discretion.of_workflow(state.hider, workflow)
    rows = await state.reads.execute_async(
        statements.dashboard_graph_jobs([*list(parents)[:SHOWN_RELATIVES], *list(children)[:SHOWN_RELATIVES]])
    )
    hider = state.hider
    shown = discretion.of_job(hider, job)
    explanation = None if job.status.is_terminal else await manager.explain_async(job_id)
    not_stored = job.result.reason if isinstance(job.result, NotStored) else None
    return {
        "job": shown.evolve(result=None) if not_stored else shown,
        "not_stored": not_stored,
        "workflow": workflow,
        "parents": dict(list(parents.items())[:SHOWN_RELATIVES]),
        "more_parents": max(0, len(parents) - SHOWN_RELATIVES),
        "children": dict(list(children.items())[:SHOWN_RELATIVES]),
        "more_children": len(children) > SHOWN_RELATIVES,
        "relatives": {row.id: row for row in rows},
        "workers": {worker.id: worker for worker in workers},
        "explanation": None if explanation is None else discretion.of_explanation(hider, job, explanation),
        "timeline": [
            dataclasses.replace(
                step,
                error=hider.texts(job.task_name, job.task_kwargs, step.error),
                detail=hider.texts(job.task_name, job.task_kwargs, dict(step.detail)),
            )
            for step in timeline(job, events, bool(parents))
        ],
    }


def timeline(job: Job, events: Sequence[Event], has_parents: bool) -> list[Step]:
    """Everything that is known of the job's life, oldest first.

    By its attempts: what happens within one transaction has times that don't tell which came first.
    """
    deferred = "deferred, to wait for its parents" if has_parents else "deferred"
    steps = [(_Order(-1), Step(at=job.created_at, kind="blocked" if has_parents else "todo", title=deferred))]
    for event in events:
        steps += _of_event(event)
    running = job.started_at is not None and job.status is not Status.TODO
    ran = running and job.status is not Status.CANCELLED
    current = max(job.attempts, 1) if ran and job.finished_at is not None else job.attempts + 1
    if job.ready_at is not None and job.status is not Status.BLOCKED:
        steps.append((_Order(current - 1, _READY), Step(at=job.ready_at, kind="todo", title="ready to run")))
    if job.scheduled_at is not None:
        due = Step(at=job.scheduled_at, kind="scheduled", title="may start from now on")
        steps.append((_Order(current - 1, _READY), due))
    if running and job.started_at is not None:
        ready = max(each for each in (job.ready_at, job.created_at, job.scheduled_at) if each is not None)
        start = Step(
            at=job.started_at,
            kind="doing",
            title="started",
            attempt=current,
            worker_id=job.worker_id,
            after_s=max(0.0, (job.started_at - ready).total_seconds()),
        )
        steps.append((_Order(current, _START), start))
    if job.finished_at is not None:
        end = Step(
            at=job.finished_at,
            kind=job.status.value,
            title=job.status.value,
            attempt=current if ran else None,
            worker_id=job.worker_id if ran else None,
            after_s=(job.finished_at - job.started_at).total_seconds() if ran and job.started_at else None,
            detail={"reason": job.cancel_reason} if job.cancel_reason else {},
        )
        steps.append((_Order(current, _END), end))
    return [step for _, step in sorted(steps, key=lambda each: each[0])]


class _Order(NamedTuple):
    attempt: int
    phase: int = 0


_START, _NOTED, _END, _AFTER, _READY = range(5)


def _of_event(event: Event) -> Iterator[tuple[_Order, Step]]:
    """What was noted, and the run before it, which the job's row no longer shows."""
    detail = dict(event.detail)
    error, started, ended = detail.pop("error", None), _time(detail.pop("started_at", None)), detail.get("finished_at")
    detail.pop("result", None)
    attempt = event.attempt or None
    if started is not None:
        step = Step(at=started, kind="doing", title="started", attempt=attempt, worker_id=event.worker_id)
        yield _Order(event.attempt, _START), step
    if ended is not None and detail.get("from") in list(Status):
        at = _time(ended) or event.at
        yield (
            _Order(event.attempt, _END),
            Step(at=at, kind=detail["from"], title=detail["from"], attempt=attempt, error=error),
        )
        error = None
    yield (
        _Order(event.attempt, _AFTER) if event.type == "retried" else _Order(event.attempt, _NOTED),
        Step(
            at=event.at,
            kind=event.type,
            title=_TITLES.get(event.type, event.type),
            attempt=attempt,
            worker_id=event.worker_id,
            after_s=None if started is None or ended else (event.at - started).total_seconds(),
            error=error,
            detail=detail,
        ),
    )


def _time(text: Any) -> datetime | None:
    return utc(datetime.fromisoformat(text)) if isinstance(text, str) else None
