"""Putting jobs in, and joining them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from procrastinate_deps.dependencies import run_when_value
from procrastinate_deps.exceptions import InvalidArguments
from procrastinate_deps.jsontext import JsonDumps, dump_arguments, encode
from procrastinate_deps.statements.base import Statement, read_nothing, read_value, read_values, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from procrastinate_deps.jobs import JobSpec


def defer_jobs(jobs: Sequence[JobSpec], *, json_dumps: JsonDumps = encode) -> Statement[list[int]]:
    """Defer jobs and the edges between them, all or nothing; their ids in the same order.

    Raises InvalidArguments when an argument can't be stored as JSON.
    """
    if len(jobs) == 1 and jobs[0].schedule_in is None and not _is_in_a_graph(jobs[0]):
        return _defer_job(jobs[0], json_dumps)
    batch = "[" + ",".join(job_json(job, json_dumps) for job in jobs) + "]"
    # Only these can fail for a reason of ours, and a savepoint costs two round trips.
    savepoint = any(job.queueing_lock is not None or _is_in_a_graph(job) for job in jobs)
    return Statement("defer_jobs", (batch,), read_value, savepoint=savepoint)


def _is_in_a_graph(job: JobSpec) -> bool:
    return bool(
        job.depends_on
        or job.after
        or job.workflow_id is not None
        or job.before
        or job.depends_on_workflows
        or job.workflow is not None
        or job.after_workflows
        or job.node is not None
    )


def _defer_job(job: JobSpec, json_dumps: JsonDumps) -> Statement[list[int]]:
    _refuse_unstorable(job)
    values = (
        job.task_name,
        job.queue,
        # As text, as in a batch: each driver has its own idea of a float, a large number and the last datetime.
        str(job.priority),
        job.lock,
        job.queueing_lock,
        dump_arguments(job.task_name, job.task_kwargs, json_dumps),
        None if job.scheduled_at is None else job.scheduled_at.isoformat(),
        None if job.run_when is None else run_when_value(job.run_when),
    )
    return Statement("defer_job", values, read_values, savepoint=job.queueing_lock is not None)


def add_dependencies(child: int, parents: Sequence[int]) -> Statement[None]:
    """Let `child`, which has not started, wait for `parents` too."""
    return Statement("add_dependencies", (child, list(parents)), read_nothing, savepoint=True)


def remove_dependencies(child: int, parents: Sequence[int]) -> Statement[int]:
    """Let `child` no longer wait for `parents`; how many edges there were."""
    return Statement("remove_dependencies", (child, list(parents)), read_value, savepoint=True)


def job_json(job: JobSpec, json_dumps: JsonDumps) -> str:
    """One job of the batch. The user's `json_dumps` sees the arguments only, so it needs to know nothing else."""
    fields: dict[str, Any] = {"task_name": job.task_name, "queue": job.queue, "priority": job.priority}
    if job.lock is not None:
        fields["lock"] = job.lock
    if job.queueing_lock is not None:
        fields["queueing_lock"] = job.queueing_lock
    if job.schedule_in is not None:
        # A distance goes as one: this host's clock may be wrong.
        fields["schedule_in"] = seconds(job.schedule_in)
    elif job.scheduled_at is not None:
        fields["scheduled_at"] = job.scheduled_at.isoformat()
    if job.run_when is not None:
        fields["run_when"] = run_when_value(job.run_when)
    if job.depends_on:
        fields["depends_on"] = list(job.depends_on)
    if job.after:
        fields["after"] = list(job.after)
    if job.workflow_id is not None:
        fields["workflow_id"] = job.workflow_id
    if job.workflow is not None:
        fields["workflow"] = job.workflow
    if job.node is not None:
        fields["node"] = job.node
    if job.before:
        fields["before"] = list(job.before)
    if job.depends_on_workflows:
        fields["depends_on_workflows"] = list(job.depends_on_workflows)
    if job.after_workflows:
        fields["after_workflows"] = list(job.after_workflows)
    _refuse_unstorable(job)
    return f'{encode(fields)[:-1]},"args":{dump_arguments(job.task_name, job.task_kwargs, json_dumps)}}}'


def _refuse_unstorable(job: JobSpec) -> None:
    for name in ("task_name", "queue", "lock", "queueing_lock", "node"):
        value = getattr(job, name)
        if value is None or (value.isascii() and "\x00" not in value):
            continue
        try:
            value.encode()
        except UnicodeEncodeError:
            problem = f"its {name} {value!r} has half of a surrogate pair, which is no character"
            raise InvalidArguments(f"task {job.task_name!r}: {problem}") from None
        if "\x00" in value:
            problem = f"its {name} {value!r} has a NUL character, which PostgreSQL can't store"
            raise InvalidArguments(f"task {job.task_name!r}: {problem}")
