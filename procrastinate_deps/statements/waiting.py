"""Waiting for jobs to end, and what their ends were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from procrastinate_deps.jobs import Status
from procrastinate_deps.statements.base import Row, Statement, read_nothing, read_value
from procrastinate_deps.statements.rows import read_status
from procrastinate_deps.workflow_info import WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from procrastinate_deps.jsontext import JsonLoads


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """A job as who waits for it has seen it last. Of one that is not terminal only the status is known; `result` is
    JSON text."""

    status: Status
    task_name: str | None = None
    result: str | None = None
    error: str | None = None
    cancel_kind: str | None = None
    cancel_reason: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.status.is_terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSeen:
    """A workflow as who waits for it has seen it last."""

    status: WorkflowStatus

    @property
    def has_ended(self) -> bool:
        return self.status is not WorkflowStatus.RUNNING


def watch_jobs(ids: Sequence[int], for_s: float) -> Statement[dict[int, int]]:
    """Let the ends of these jobs be announced for so long; for each job the row that says so."""
    return Statement("watch_jobs", (list(ids), for_s), _read_rows)


def unwatch_jobs(wait_ids: Sequence[int]) -> Statement[None]:
    """Take back what `watch_jobs` has asked for, by its rows."""
    return Statement("unwatch_jobs", (list(wait_ids),), read_nothing)


def look_at_jobs(ids: Sequence[int]) -> Statement[dict[int, JobEnd]]:
    """The jobs as they are now; those that are not there are left out."""
    return Statement("look_at_jobs", (list(ids),), _read_ends)


def look_at_workflows(ids: Sequence[int]) -> Statement[dict[int, WorkflowSeen]]:
    """The workflows as they are now; those that are not there are left out."""
    return Statement("look_at_workflows", (list(ids),), _read_workflows)


def first_unsuccessful_job(workflow_id: int) -> Statement[tuple[int, JobEnd] | None]:
    """Of a workflow that has not succeeded the job that says why: the first that failed, else was aborted, else was
    cancelled by its rule, else by hand."""
    return Statement("first_unsuccessful_job", (workflow_id,), _read_first_end)


def waits_for_ever(
    running_id: int, created_at: datetime, job_id: int | None, workflow_id: int | None
) -> Statement[str | None]:
    """Why the end of a job, or of a workflow, can't come while this job runs; None: nothing is known against it.

    A job of the same id in another database, which was created at another time, is not meant.
    """
    return Statement("waits_for_ever", (running_id, created_at, job_id, workflow_id), read_value)


def _read_rows(rows: Sequence[Row], loads: JsonLoads) -> dict[int, int]:
    return {row[0]: row[1] for row in rows}


def _read_workflows(rows: Sequence[Row], loads: JsonLoads) -> dict[int, WorkflowSeen]:
    return {row[0]: WorkflowSeen(status=WorkflowStatus(row[1])) for row in rows}


def _read_first_end(rows: Sequence[Row], loads: JsonLoads) -> tuple[int, JobEnd] | None:
    return next(iter(_read_ends(rows, loads).items()), None)


def _read_ends(rows: Sequence[Row], loads: JsonLoads) -> dict[int, JobEnd]:
    return {
        row[0]: JobEnd(
            status=read_status(row[1]),
            task_name=row[2],
            result=row[3],
            error=row[4],
            cancel_kind=row[5],
            cancel_reason=row[6],
        )
        for row in rows
    }
