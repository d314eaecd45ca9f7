"""How a row of jobs is read. The queries that give one list the same columns in the same order: a test sees to it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.exceptions import InvalidArguments
from procrastinate_deps.jobs import CancelKind, Gate, Job, Status, UnreadableJob
from procrastinate_deps.statements.base import Row, utc, utc_or_none

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from procrastinate_deps.jsontext import JsonLoads

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
        result, error, cancel_kind, cancel_reason,
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
        result=None if result is None else loads(result),
        error=error,
        cancel_kind=_CANCEL_KIND[cancel_kind],
        cancel_reason=cancel_reason,
    )


def read_jobs(rows: Sequence[Row], loads: JsonLoads) -> list[Job]:
    return [read_job(row, loads) for row in rows]


def claimed_jobs_reader(worker_id: int) -> Callable[[Sequence[Row], JsonLoads], list[Job]]:
    """Reads the rows of jobs that this worker just claimed: what is the same for all of them is not sent.

    One whose arguments `json_loads` refuses is read as an `UnreadableJob`: it must not take the others with it.
    """

    def read_claimed_jobs(rows: Sequence[Row], loads: JsonLoads) -> list[Job]:
        jobs = []
        for row in rows:
            (
                id_, claim, queue, task_name, args, priority, lock, queueing_lock, attempts, rescues, run_when,
                abort_requested, ignores_dependencies, created_at, scheduled_at, ready_at, started_at, error, _,
            ) = row  # fmt: skip
            kind: Callable[..., Job] = Job
            try:
                task_kwargs = loads(args)
            except Exception as cause:  # noqa: BLE001 - whatever a user's json_loads raises
                task_kwargs = {}
                kind = functools.partial(UnreadableJob, problem=_unreadable(id_, cause))
            jobs.append(
                kind(
                    id=id_,
                    claim=claim,
                    status=Status.DOING,
                    queue=queue,
                    task_name=task_name,
                    task_kwargs=task_kwargs,
                    priority=priority,
                    lock=lock,
                    queueing_lock=queueing_lock,
                    attempts=attempts,
                    rescues=rescues,
                    run_when=_RUN_WHEN[run_when],
                    gate=None,
                    worker_id=worker_id,
                    abort_requested=abort_requested,
                    ignores_dependencies=ignores_dependencies,
                    created_at=utc(created_at),
                    scheduled_at=utc_or_none(scheduled_at),
                    ready_at=utc_or_none(ready_at),
                    started_at=utc_or_none(started_at),
                    finished_at=None,
                    result=None,
                    error=error,
                    cancel_kind=None,
                    cancel_reason=None,
                )
            )
        return jobs

    return read_claimed_jobs


def _unreadable(job_id: int, cause: Exception) -> InvalidArguments:
    problem = InvalidArguments(f"the arguments of job {job_id} can't be read: {type(cause).__name__}: {cause}")
    problem.__cause__ = cause
    return problem
