"""How a row of jobs is read. The queries that give one list the same columns in the same order: a test sees to it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.exceptions import InvalidArguments
from procrastinate_deps.jobs import CancelKind, Gate, Job, NotStored, Progress, Status, UnreadableJob
from procrastinate_deps.jsontext import decode
from procrastinate_deps.statements.base import Row, utc, utc_or_none

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from procrastinate_deps.jsontext import JsonLoads

NOT_STORED = "$not_stored"
"""The key of the mark that stands as the result of a job whose own result could not be stored; its value says why."""

# As jsonb writes it.
_MARK_START = f'{{"{NOT_STORED}": "'

# Looked up by value: a call of the enum costs three times as much, and fetch reads four for each job.
_STATUS = {status.value: status for status in Status}
_RUN_WHEN = {rule.value: rule for rule in RunWhen}
_GATE: dict[str | None, Gate | None] = {None: None, **{gate.value: gate for gate in Gate}}
_CANCEL_KIND: dict[str | None, CancelKind | None] = {None: None, **{kind.value: kind for kind in CancelKind}}


def read_status(value: str) -> Status:
    return _STATUS[value]


def read_job(row: Row, loads: JsonLoads) -> Job:
    """A `Job` of the columns that the job queries give."""
    (
        id_, claim, status, queue, task_name, args, priority, lock, queueing_lock, attempts, rescues, run_when, gate,
        worker_id, abort_requested, ignores_dependencies, created_at, scheduled_at, ready_at, started_at, finished_at,
        result, error, cancel_kind, cancel_reason, workflow_id, node, done, total, message, told_at,
    ) = row  # fmt: skip
    return Job(
        id=id_,
        claim=claim,
        status=_STATUS[status],
        queue=queue,
        task_name=task_name,
        task_kwargs=loads(args),
        priority=priority,
        lock=lock,
        queueing_lock=queueing_lock,
        attempts=attempts,
        rescues=rescues,
        run_when=_RUN_WHEN[run_when],
        gate=_GATE[gate],
        worker_id=worker_id,
        abort_requested=abort_requested,
        ignores_dependencies=ignores_dependencies,
        created_at=utc(created_at),
        scheduled_at=utc_or_none(scheduled_at),
        ready_at=utc_or_none(ready_at),
        started_at=utc_or_none(started_at),
        finished_at=utc_or_none(finished_at),
        result=read_result(result, loads),
        error=error,
        cancel_kind=_CANCEL_KIND[cancel_kind],
        cancel_reason=cancel_reason,
        workflow_id=workflow_id,
        node=node,
        progress=None if done is None else _progress(done, total, message, told_at),
    )


def read_result(text: str | None, loads: JsonLoads) -> Any:
    """A job's result. The mark of one that could not be stored is a `NotStored`, which nobody can take for data."""
    if text is None:
        return None
    if text.startswith(_MARK_START):
        mark = decode(text)
        if len(mark) == 1:
            return NotStored(mark[NOT_STORED])
    return loads(text)


def _progress(done: float, total: float | None, message: str | None, told_at: datetime) -> Progress:
    return Progress(
        done=_whole(done), total=None if total is None else _whole(total), message=message, updated_at=utc(told_at)
    )


def _whole(number: float) -> float:
    """What was counted in whole numbers is shown so."""
    return int(number) if number.is_integer() else number


def read_jobs(rows: Sequence[Row], loads: JsonLoads) -> list[Job]:
    return [read_job(row, loads) for row in rows]


def claimed_jobs_reader(worker_id: int) -> Callable[[Sequence[Row], JsonLoads], list[Job]]:
    """Reads the rows of jobs that this worker just claimed: what is the same for all of them is not sent.

    One whose arguments `json_loads` refuses is read as an `UnreadableJob`: it must not take the others with it.
    """

    def read_claimed_jobs(rows: Sequence[Row], loads: JsonLoads) -> list[Job]:
        jobs: list[Job] = []
        for row in rows:
            (
                id_, claim, queue, task_name, args, priority, lock, queueing_lock, attempts, rescues, run_when,
                abort_requested, ignores_dependencies, created_at, scheduled_at, ready_at, started_at, error,
                workflow_id, node, _,
            ) = row  # fmt: skip
            job = _Draft()
            job.id = id_
            job.claim = claim
            job.status = Status.DOING
            job.queue = queue
            job.task_name = task_name
            job.priority = priority
            job.lock = lock
            job.queueing_lock = queueing_lock
            job.attempts = attempts
            job.rescues = rescues
            job.run_when = _RUN_WHEN[run_when]
            job.gate = None
            job.worker_id = worker_id
            job.abort_requested = abort_requested
            job.ignores_dependencies = ignores_dependencies
            job.created_at = utc(created_at)
            job.scheduled_at = None if scheduled_at is None else utc(scheduled_at)
            job.ready_at = None if ready_at is None else utc(ready_at)
            job.started_at = utc(started_at)
            job.finished_at = None
            job.result = None
            job.error = error
            job.cancel_kind = None
            job.cancel_reason = None
            job.workflow_id = workflow_id
            job.node = node
            job.progress = None
            try:
                job.task_kwargs = loads(args)
            except Exception as cause:  # noqa: BLE001 - whatever a user's json_loads raises
                job.task_kwargs = {}
                jobs.append(_unreadable(_finished(job), cause))
            else:
                jobs.append(_finished(job))
        return jobs

    return read_claimed_jobs


class _Draft:
    """A job that is not frozen yet, and becomes one in place.

    A frozen dataclass's own `__init__` sets each field by a call: 3 µs of the 20 that a job costs a worker.
    """

    __slots__ = Job.__slots__

    if TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None: ...


def _finished(draft: _Draft) -> Job:
    draft.__class__ = Job  # type: ignore[assignment]
    return cast("Job", draft)


def _unreadable(job: Job, cause: Exception) -> UnreadableJob:
    problem = InvalidArguments(f"the arguments of job {job.id} can't be read: {type(cause).__name__}: {cause}")
    problem.__cause__ = cause
    return UnreadableJob(problem=problem, **{field.name: getattr(job, field.name) for field in dataclasses.fields(Job)})
