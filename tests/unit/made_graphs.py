"""Jobs of graphs that were never in a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from procrastinate_deps.graphs import GraphJob
from procrastinate_deps.jobs import Status

START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = START + timedelta(seconds=1_000)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def job(job_id: int, started: float | None = None, finished: float | None = None, **fields: Any) -> GraphJob:
    """A job that started and ended so many seconds after START; without an end it runs, without a start it waits."""
    status = Status.SUCCEEDED if finished is not None else Status.TODO if started is None else Status.DOING
    return GraphJob(
        **{
            "id": job_id,
            "task_name": f"task{job_id}",
            "created_at": START,
            "started_at": None if started is None else at(started),
            "finished_at": None if finished is None else at(finished),
            "status": status,
            **fields,
        }
    )
