"""What a worker does: fetch, end and rescue jobs, and tell that it lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from procrastinate_deps.jobs import DeleteJobCondition, Job, JobHolder, Outcome, Refusal, Rescue
from procrastinate_deps.jsontext import JsonDumps, JsonLoads, dump, encode, storable_text
from procrastinate_deps.statements.base import (
    Row,
    Statement,
    read_nothing,
    read_value,
    read_values,
    seconds,
    utc_or_none,
)
from procrastinate_deps.statements.rows import NOT_STORED, claimed_jobs_reader, read_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from procrastinate_deps.retry import RetryDecision


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """What became of outcomes that were sent together with a fetch: those refused, the jobs fetched, and whether jobs
    that could start were left because of their locks."""

    refusals: list[Refusal]
    jobs: list[Job]
    left: bool


def fetch_jobs(queues: Iterable[str] | None, worker_id: int, max_jobs: int) -> Statement[list[Job]]:
    """Claim up to `max_jobs` jobs that can start now; `queues=None`: of all queues."""
    return Statement("fetch_jobs", (_list_or_none(queues), worker_id, max_jobs), claimed_jobs_reader(worker_id))


def finish_and_fetch(
    outcomes: Sequence[Outcome],
    delete_jobs: DeleteJobCondition | str,
    queues: Iterable[str] | None,
    worker_id: int,
    max_jobs: int,
    json_dumps: JsonDumps = encode,
) -> Statement[Exchanged]:
    """`finish_jobs`, then `fetch_jobs`, as one transaction: both happen or neither.

    Of the jobs that can start those with a lock are left; whether there were any is told.
    """
    finish = finish_jobs(outcomes, delete_jobs, json_dumps)
    values = (*finish.values, _list_or_none(queues), worker_id, max_jobs)
    read_claimed = claimed_jobs_reader(worker_id)

    def read(rows: Sequence[Row], loads: JsonLoads) -> Exchanged:
        told = [row for row in rows if row[-1] is not None]
        return Exchanged(
            refusals=[Refusal(row[0], row[-1]) for row in told if row[0] is not None],
            jobs=read_claimed(rows if not told else [row for row in rows if row[-1] is None], loads),
            left=any(row[0] is None for row in told),
        )

    return Statement("finish_and_fetch", values, read)


def finish_jobs(
    outcomes: Sequence[Outcome],
    delete_jobs: DeleteJobCondition | str = DeleteJobCondition.NEVER,
    json_dumps: JsonDumps = encode,
) -> Statement[list[Refusal]]:
    """End these runs; which of them were refused.

    A result that can't be stored as JSON is replaced by `{"$not_stored": why}`: it turns no success into a failure.
    """
    retries = {str(outcome.job_id): _changes(outcome.retry) for outcome in outcomes if outcome.retry is not None}
    values = (
        [outcome.job_id for outcome in outcomes],
        [outcome.claim for outcome in outcomes],
        [outcome.status for outcome in outcomes],
        _unless_all_null(None if each.result is None else _result(each.result, json_dumps) for each in outcomes),
        _unless_all_null(None if each.error is None else storable_text(each.error) for each in outcomes),
        encode(retries),
        DeleteJobCondition(delete_jobs).value,
    )
    return Statement("finish_jobs", values, _read_refusals)


def rescue_jobs(stalled_after: timedelta | float, max_rescues: int, max_jobs: int) -> Statement[list[Rescue]]:
    """Take back jobs whose worker gave no sign of life for `stalled_after` (seconds, or a timedelta)."""
    return Statement("rescue_jobs", (seconds(stalled_after), max_rescues, max_jobs), _read_rescues)


def register_worker(
    name: str, hostname: str, pid: int, queues: Iterable[str] | None, concurrency: int, version: str
) -> Statement[int]:
    """Make a worker known; its id."""
    return Statement("register_worker", (name, hostname, pid, _list_or_none(queues), concurrency, version), read_value)


def heartbeat(worker_id: int) -> Statement[bool]:
    """Tell that the worker lives. False: the database has given it up, and its jobs may run elsewhere by now."""
    return Statement("heartbeat", (worker_id,), read_value)


def unregister_worker(worker_id: int) -> Statement[None]:
    return Statement("unregister_worker", (worker_id,), read_nothing)


def prune_workers(lost_for: timedelta | float) -> Statement[list[str]]:
    """Forget workers that were declared lost so long ago and hold no jobs any more; their names."""
    return Statement("prune_workers", (seconds(lost_for),), read_values)


def next_due(queues: Iterable[str] | None) -> Statement[float | None]:
    """Seconds until a fetch could return something; 0: now, though the last fetch left it; None: nothing in sight."""
    return Statement("next_due", (_list_or_none(queues),), read_value)


def jobs_to_abort(worker_id: int) -> Statement[list[int]]:
    """Ids of the worker's running jobs that someone asked to stop."""
    return Statement("jobs_to_abort", (worker_id,), read_values)


def job_holders(ids: Sequence[int]) -> Statement[list[JobHolder]]:
    """The open transactions that keep these jobs from being ended."""
    return Statement("job_holders", (list(ids),), _read_holders)


def _unless_all_null(values: Iterable[str | None]) -> list[str | None]:
    """No value at all where all are NULL: unnest() fills up with them, and drivers look at each value of an array."""
    given = list(values)
    return [] if given.count(None) == len(given) else given


def _list_or_none(names: Iterable[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _changes(retry: RetryDecision) -> dict[str, Any]:
    # A distance goes as one: this host's clock may be wrong.
    at = retry.retry_at if retry.retry_in is None else None
    changes = {
        "retry_at": None if at is None else at.isoformat(),
        "retry_in": None if retry.retry_in is None else seconds(retry.retry_in),
        "priority": retry.priority,
        "queue": retry.queue,
        "lock": retry.lock,
    }
    return {name: value for name, value in changes.items() if value is not None}


def _result(value: Any, json_dumps: JsonDumps) -> str:
    try:
        return dump(value, json_dumps)
    except (TypeError, ValueError, RecursionError) as error:
        return encode({NOT_STORED: storable_text(f"{type(error).__name__}: {error}")})


def _read_refusals(rows: Sequence[Row], loads: JsonLoads) -> list[Refusal]:
    return [Refusal(row[0], row[1]) for row in rows]


def _read_rescues(rows: Sequence[Row], loads: JsonLoads) -> list[Rescue]:
    return [Rescue(job_id=row[0], status=read_status(row[1])) for row in rows]


def _read_holders(rows: Sequence[Row], loads: JsonLoads) -> list[JobHolder]:
    return [
        JobHolder(
            job_id=row[0],
            pid=row[1],
            application_name=row[2],
            state=row[3],
            xact_start=utc_or_none(row[4]),
        )
        for row in rows
    ]
