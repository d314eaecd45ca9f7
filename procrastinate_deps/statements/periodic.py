"""Periodic tasks: what workers know of them, and which of their periods were deferred."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from procrastinate_deps.cron import Schedule
from procrastinate_deps.exceptions import TaskNotFound
from procrastinate_deps.jobs import PeriodicDeferral, PeriodicOutcome, PeriodicState, PeriodicTaskInfo
from procrastinate_deps.jsontext import JsonDumps, encode
from procrastinate_deps.statements.base import Row, Statement, read_value, utc, utc_or_none
from procrastinate_deps.statements.deferring import job_json
from procrastinate_deps.statements.rows import read_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procrastinate_deps.jobs import PeriodicSpec
    from procrastinate_deps.jsontext import JsonLoads


def register_periodic_tasks(
    tasks: Sequence[PeriodicSpec], *, json_dumps: JsonDumps = encode
) -> Statement[PeriodicState]:
    """Make periodic tasks known; what was deferred last of each, and the time.

    Raises InvalidArguments when an argument of a job can't be stored as JSON.
    """
    values = ("[" + ",".join(_periodic_json(each, json_dumps) for each in tasks) + "]",)
    return Statement("register_periodic_tasks", values, _read_state)


def defer_periodic_job(
    task: PeriodicSpec, period: int, *, json_dumps: JsonDumps = encode
) -> Statement[PeriodicDeferral]:
    """Defer the job of one period (seconds since the epoch), unless that was done or is too early."""
    return Statement("defer_periodic_job", (_periodic_json(task, json_dumps), period), _read_deferral)


def run_periodic_task(task_name: str, periodic_id: str = "") -> Statement[int]:
    """Defer a job of the task now, besides its schedule; the job's id. Raises TaskNotFound."""
    values = (task_name, periodic_id)
    return Statement("run_periodic_task", values, partial(_read_run, *values))


def forget_periodic_task(task_name: str, periodic_id: str = "") -> Statement[bool]:
    """Remove what is known of a task that no worker has any more. False: nothing is known of it."""
    return Statement("forget_periodic_task", (task_name, periodic_id), read_value)


def list_periodic_tasks() -> Statement[list[PeriodicTaskInfo]]:
    """The periodic tasks that workers have made known, by name and periodic_id."""
    return Statement("list_periodic_tasks", (), _read_tasks)


def get_clock() -> Statement[float]:
    """The database's time, in seconds since the epoch."""
    return Statement("get_clock", (), read_value)


def _periodic_json(task: PeriodicSpec, json_dumps: JsonDumps) -> str:
    fields = {
        "task_name": task.job.task_name,
        "periodic_id": task.periodic_id,
        "cron": task.cron,
        "timezone": task.timezone,
    }
    return f'{encode(fields)[:-1]},"job":{job_json(task.job, json_dumps)}}}'


def _read_state(rows: Sequence[Row], loads: JsonLoads) -> PeriodicState:
    return PeriodicState(clock=rows[0][3], last={(row[0], row[1]): row[2] for row in rows})


def _read_deferral(rows: Sequence[Row], loads: JsonLoads) -> PeriodicDeferral:
    outcome, job_id, clock = rows[0]
    return PeriodicDeferral(outcome=PeriodicOutcome(outcome), job_id=job_id, clock=clock)


def _read_run(task_name: str, periodic_id: str, rows: Sequence[Row], loads: JsonLoads) -> int:
    job_id: int | None = rows[0][0]
    if job_id is None:
        raise TaskNotFound(
            f"there is no periodic task {task_name!r} with the periodic_id {periodic_id!r}; "
            "workers make theirs known when they start"
        )
    return job_id


def _read_tasks(rows: Sequence[Row], loads: JsonLoads) -> list[PeriodicTaskInfo]:
    return [_read_task(row) for row in rows]


def _read_task(row: Row) -> PeriodicTaskInfo:
    task_name, periodic_id, cron, timezone, queue, registered_at, last, deferred_at, job_id, status, clock = row
    return PeriodicTaskInfo(
        task_name=task_name,
        periodic_id=periodic_id,
        cron=cron,
        timezone=timezone,
        queue=queue,
        registered_at=utc(registered_at),
        last_at=_moment(last),
        last_deferred_at=utc_or_none(deferred_at),
        last_job_id=job_id,
        last_job_status=None if status is None else read_status(status),
        next_at=_next(cron, timezone, clock),
    )


def _next(cron: str, timezone: str, clock: Any) -> datetime | None:
    try:
        return _moment(Schedule(cron, timezone).next_after(clock))
    except ValueError:
        # made known by another version of this package, or where other time zones are known
        return None


def _moment(second: int | None) -> datetime | None:
    return None if second is None else datetime.fromtimestamp(second, UTC)
