"""What runs now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from procrastinate_deps.statements.base import Row, Statement, utc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from procrastinate_deps.jsontext import JsonLoads


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob:
    """A job that runs. `run_s` is for how long, by the database's clock; the three fields of its progress are None
    where its task has said nothing."""

    id: int
    task_name: str
    queue: str
    node: str | None
    workflow_id: int | None
    worker_id: int
    attempts: int
    abort_requested: bool
    started_at: datetime
    run_s: float
    progress_done: float | None
    progress_total: float | None
    progress_message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The jobs that run longest, longest first, and how many there are in all."""

    jobs: list[RunningJob]
    count: int


def running_jobs(limit: int, workflow_id: int | None = None) -> Statement[Running]:
    """What runs, of all or of a workflow and those nested in it."""
    return Statement("running_jobs", (workflow_id, limit), _read_running)


def _read_running(rows: Sequence[Row], loads: JsonLoads) -> Running:
    jobs = [
        RunningJob(
            id=row[0],
            task_name=row[1],
            queue=row[2],
            node=row[3],
            workflow_id=row[4],
            worker_id=row[5],
            attempts=row[6],
            abort_requested=row[7],
            started_at=utc(row[8]),
            run_s=max(0.0, row[9]),
            progress_done=row[10],
            progress_total=row[11],
            progress_message=row[12],
        )
        for row in rows
    ]
    return Running(jobs=jobs, count=rows[0][13] if rows else 0)
