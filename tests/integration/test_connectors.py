"""The conformance suite: every statement does the same by every connector, and on every kind of caller's connection."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from procrastinate_deps import statements
from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.exceptions import (
    AlreadyEnqueued,
    CircularDependency,
    ConnectorException,
    DependencyNotFound,
    DependencyNotMet,
    JobAlreadyStarted,
    JobNotFound,
    ProcrastinateException,
    TransitionRefused,
    WorkerNotRegistered,
)
from procrastinate_deps.jobs import CancelKind, Job, JobSpec, Outcome, Pruned, Status
from procrastinate_deps.retry import RetryDecision
from procrastinate_deps.sql import find_folder, queries
from tests.integration.ways import WAYS, Way

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

FAR = datetime(2099, 12, 31, 23, 59, 59, 123456, tzinfo=UTC)


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
async def way(dsn: str, request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Way]:
    open_way: Callable[[str], AbstractAsyncContextManager[Way]] = request.param
    async with open_way(dsn) as opened:
        yield opened


async def defer(way: Way, *specs: JobSpec) -> list[int]:
    return await way.run(statements.defer_jobs(specs or [JobSpec(task_name="task")]))


async def worker_of(way: Way, name: str = "w", queues: Sequence[str] | None = None) -> int:
    return await way.run(statements.register_worker(name, "host", 42, queues, 3, "1.0"))


async def fetch(way: Way, max_jobs: int = 100) -> list[Job]:
    return await way.run(statements.fetch_jobs(None, await worker_of(way), max_jobs))


async def end(way: Way, job: Job, status: str, **fields: Any) -> None:
    outcome = Outcome(job_id=job.id, claim=job.claim, status=status, **fields)
    assert await way.run(statements.finish_jobs([outcome])) == []


async def test_a_job_comes_back_as_it_was_deferred(way: Way) -> None:
    arguments = {
        "text": "é 漢字 🎉 \\u0000 ' \" %s $1 :name",
        "numbers": [0, -1, 2**53 + 1, 10**30, 1.5, 1e-300],
        "nested": {"a": {"b": [None, True, False, {}]}},
        "": [],
    }
    before = datetime.now(UTC) - timedelta(minutes=1)
    spec = JobSpec(
        task_name="pkg.mod.tâche",
        task_kwargs=arguments,
        queue="a queue",
        priority=-7,
        lock="l'ock",
        queueing_lock='q"lock',
        scheduled_at=FAR.astimezone(),
        run_when=RunWhen.ANY_FAILED,
    )
    [job_id] = await defer(way, spec)

    job = await way.run(statements.get_job(job_id))

    assert job.task_kwargs == arguments
    assert isinstance(job.task_kwargs["numbers"][3], int)
    assert (job.id, job.job_id, job.status, job.gate) == (job_id, job_id, Status.TODO, "scheduled")
    assert (job.queue, job.priority, job.lock, job.queueing_lock) == ("a queue", -7, "l'ock", 'q"lock')
    assert (job.task_name, job.run_when, job.scheduled_at) == ("pkg.mod.tâche", RunWhen.ANY_FAILED, FAR)
    assert (job.attempts, job.rescues, job.claim, job.worker_id) == (0, 0, 0, None)
    assert (job.abort_requested, job.ignores_dependencies) == (False, False)
    assert (job.started_at, job.finished_at, job.result, job.error) == (None, None, None, None)
    assert (job.cancel_kind, job.cancel_reason) == (None, None)
    assert before < job.created_at <= datetime.now(UTC) + timedelta(minutes=1)
    assert job.created_at.tzinfo is UTC
    assert job.scheduled_at is not None
    assert job.scheduled_at.tzinfo is UTC


async def test_defaults(way: Way) -> None:
    [job_id] = await defer(way, JobSpec(task_name="task"))
    job = await way.run(statements.get_job(job_id))
    assert (job.queue, job.priority, job.lock, job.queueing_lock) == ("default", 0, None, None)
    assert (job.task_kwargs, job.run_when, job.scheduled_at, job.gate) == ({}, RunWhen.ALL_FINISHED, None, None)


async def test_ids_come_in_the_order_of_the_batch(way: Way) -> None:
    ids = await defer(way, *(JobSpec(task_name=f"t{n}", priority=n % 3) for n in range(50)))
    jobs = await way.run(statements.list_jobs())
    assert [(job.id, job.task_name) for job in jobs] == [(ids[n], f"t{n}") for n in range(50)]


async def test_many_jobs_in_one_statement(way: Way) -> None:
    """Neither driver's limit on the number of values stands in the way."""
    assert len(set(await defer(way, *(JobSpec(task_name="t", task_kwargs={"n": n}) for n in range(40_000))))) == 40_000


async def test_edges_to_existing_jobs_and_inside_the_batch(way: Way) -> None:
    [a, b] = await defer(way, JobSpec(task_name="a"), JobSpec(task_name="b"))
    [c, d] = await defer(
        way, JobSpec(task_name="c", depends_on=[b, a, b]), JobSpec(task_name="d", depends_on=[a], after=[0])
    )

    assert await way.run(statements.get_parents(d)) == {a: Status.TODO, c: Status.BLOCKED}
    assert await way.run(statements.parent_statuses(c)) == {a: "todo", b: "todo"}
    assert await way.run(statements.get_children(a)) == {c: Status.BLOCKED, d: Status.BLOCKED}
    assert await way.run(statements.get_children(a, 1)) == {c: Status.BLOCKED}
    assert await way.run(statements.get_children(a, 1, c)) == {d: Status.BLOCKED}
    assert await way.run(statements.get_parents(d, None, a)) == {c: Status.BLOCKED}
    assert await way.run(statements.parent_statuses(a)) == {}


async def test_fetch_and_finish(way: Way) -> None:
    specs = [JobSpec(task_name=name) for name in ("succeeds", "fails", "aborts", "retries", "returns_nothing")]
    await defer(way, *specs)
    worker = await worker_of(way)
    jobs = await way.run(statements.fetch_jobs(["default", "other"], worker, 10))
    assert [job.task_name for job in jobs] == [spec.task_name for spec in specs]
    assert {(job.status, job.claim, job.worker_id, job.attempts) for job in jobs} == {(Status.DOING, 1, worker, 0)}
    assert all(job.started_at is not None for job in jobs)

    retry = RetryDecision(retry_at=FAR, priority=5, queue="other", lock="lock")
    outcomes = [
        Outcome(job_id=jobs[0].id, claim=1, status="succeeded", result={"é": [1, None]}),
        Outcome(job_id=jobs[1].id, claim=1, status=Status.FAILED, error="boom\x00 \udcff\ntraceback"),
        Outcome(job_id=jobs[2].id, claim=1, status=Status.ABORTED),
        Outcome(job_id=jobs[3].id, claim=1, status=Status.TODO, error="first", retry=retry),
        Outcome(job_id=jobs[4].id, claim=1, status=Status.SUCCEEDED),
    ]
    assert await way.run(statements.finish_jobs(outcomes)) == []

    ended = {job.task_name: job for job in await way.run(statements.list_jobs())}
    assert (ended["succeeds"].status, ended["succeeds"].result) == (Status.SUCCEEDED, {"é": [1, None]})
    assert ended["succeeds"].finished_at is not None
    assert (ended["fails"].status, ended["fails"].error) == (Status.FAILED, "boom\\x00 \\udcff\ntraceback")
    assert ended["aborts"].status == Status.ABORTED
    assert ended["returns_nothing"].result is None
    again = ended["retries"]
    assert (again.status, again.attempts, again.scheduled_at) == (Status.TODO, 1, FAR)
    assert (again.priority, again.queue, again.lock) == (5, "other", "lock")

    stale = await way.run(statements.finish_jobs(outcomes[:1]))
    assert [(refusal.job_id, refusal.reason) for refusal in stale] == [(jobs[0].id, "stale")]


async def test_a_result_that_is_not_json_fails_no_job(way: Way) -> None:
    await defer(way)
    [job] = await fetch(way)
    await end(way, job, "succeeded", result={1, 2})
    ended = await way.run(statements.get_job(job.id))
    assert ended.status == Status.SUCCEEDED
    assert "set" in ended.result.reason


async def test_finishing_and_fetching_nothing(way: Way) -> None:
    assert await way.run(statements.finish_jobs([])) == []
    worker = await worker_of(way)
    assert await way.run(statements.fetch_jobs([], worker, 10)) == []
    assert await way.run(statements.fetch_jobs(None, worker, 10)) == []
    assert await way.run(statements.next_due(None)) is None
    assert await way.run(statements.jobs_to_abort(worker)) == []
    assert await way.run(statements.job_holders([])) == []


async def test_finished_jobs_can_be_deleted_at_once(way: Way) -> None:
    await defer(way, JobSpec(task_name="good"), JobSpec(task_name="bad"))
    [good, bad] = await fetch(way)
    outcomes = [
        Outcome(job_id=good.id, claim=good.claim, status="succeeded"),
        Outcome(job_id=bad.id, claim=bad.claim, status="failed"),
    ]
    await way.run(statements.finish_jobs(outcomes, "successful"))
    assert [job.id for job in await way.run(statements.list_jobs())] == [bad.id]


async def test_list_jobs_filters_and_pages(way: Way) -> None:
    ids = await defer(
        way,
        JobSpec(task_name="a", queue="q1", lock="l1"),
        JobSpec(task_name="b", queue="q1", queueing_lock="k"),
        JobSpec(task_name="a", queue="q2", lock="l1"),
        JobSpec(task_name="c", queue="q2"),
    )
    [running] = await way.run(statements.fetch_jobs(["q1"], worker := await worker_of(way), 1))

    async def found(**filters: Any) -> list[int]:
        return [ids.index(job.id) for job in await way.run(statements.list_jobs(**filters))]

    assert await found() == [0, 1, 2, 3]
    assert await found(id=ids[2]) == [2]
    assert await found(queue="q1") == [0, 1]
    assert await found(task="a") == [0, 2]
    assert await found(status="doing") == [ids.index(running.id)]
    assert await found(lock="l1") == [0, 2]
    assert await found(queueing_lock="k") == [1]
    assert await found(worker_id=worker) == [ids.index(running.id)]
    assert await found(limit=2) == [0, 1]
    assert await found(limit=2, after=ids[1]) == [2, 3]
    assert await found(limit=None, after=ids[3]) == []
    assert await found(task="a", queue="q2", status=Status.TODO) == [2]


async def test_counts(way: Way) -> None:
    [parent, *_] = await defer(
        way,
        JobSpec(task_name="a", queue="q1", lock="l1"),
        JobSpec(task_name="b", queue="q1"),
        JobSpec(task_name="a", queue="q2", lock="l2"),
    )
    await defer(way, JobSpec(task_name="a", queue="q2", depends_on=[parent]))
    await way.run(statements.pause_queue("empty"))
    none = dict.fromkeys((status.value for status in Status), 0)

    assert await way.run(statements.list_queues()) == [
        {"name": "empty", "jobs_count": 0, **none, "paused": True},
        {"name": "q1", "jobs_count": 2, **none, "todo": 2, "paused": False},
        {"name": "q2", "jobs_count": 2, **none, "todo": 1, "blocked": 1, "paused": False},
    ]
    assert await way.run(statements.list_queues(status="blocked")) == [
        {"name": "q2", "jobs_count": 1, **none, "blocked": 1, "paused": False}
    ]
    assert await way.run(statements.list_tasks()) == [
        {"name": "a", "jobs_count": 3, **none, "todo": 2, "blocked": 1},
        {"name": "b", "jobs_count": 1, **none, "todo": 1},
    ]
    assert [counts["name"] for counts in await way.run(statements.list_tasks(queue="q2"))] == ["a"]
    assert await way.run(statements.list_locks()) == [
        {"name": "l1", "jobs_count": 1, **none, "todo": 1},
        {"name": "l2", "jobs_count": 1, **none, "todo": 1},
    ]
    assert [counts["name"] for counts in await way.run(statements.list_locks(lock="l2"))] == ["l2"]


async def test_workers(way: Way) -> None:
    first = await worker_of(way, "first", ["q1", "q2"])
    second = await worker_of(way, "second")
    await defer(way)
    await way.run(statements.fetch_jobs(None, second, 5))

    [one, two] = await way.run(statements.list_workers())
    assert (one.id, one.name, one.hostname, one.pid, one.concurrency) == (first, "first", "host", 42, 3)
    assert (one.queues, one.version, one.running, one.lost_at) == (["q1", "q2"], "1.0", 0, None)
    assert (two.queues, two.running) == (None, 1)
    assert one.heartbeat_at.tzinfo is UTC
    assert await way.run(statements.heartbeat(first)) is True
    await way.run(statements.unregister_worker(first))
    assert await way.run(statements.heartbeat(first)) is False
    assert [worker.id for worker in await way.run(statements.list_workers())] == [second]
    assert await way.run(statements.prune_workers(timedelta(0))) == []
    with pytest.raises(WorkerNotRegistered):
        await way.run(statements.fetch_jobs(None, first, 1))


async def test_stalled_jobs_and_rescue(way: Way) -> None:
    await defer(way)
    worker = await worker_of(way)
    [job] = await way.run(statements.fetch_jobs(None, worker, 1))
    assert await way.run(statements.stalled_jobs(30)) == []
    await way.run(statements.unregister_worker(worker))

    assert [stalled.id for stalled in await way.run(statements.stalled_jobs(30, "default", "task"))] == [job.id]
    assert await way.run(statements.stalled_jobs(30, "other")) == []
    [rescue] = await way.run(statements.rescue_jobs(30, 3, 100))
    assert (rescue.job_id, rescue.status) == (job.id, Status.TODO)
    rescued = await way.run(statements.get_job(job.id))
    assert (rescued.status, rescued.rescues) == (Status.TODO, 1)
    assert [event.type for event in await way.run(statements.list_events(job.id))] == ["rescued"]


async def test_cancel_and_abort(way: Way) -> None:
    [first, second] = await defer(way, JobSpec(task_name="a", priority=1), JobSpec(task_name="b"))
    worker = await worker_of(way)
    await way.run(statements.fetch_jobs(None, worker, 1))

    assert await way.run(statements.cancel_job(second)) is True
    cancelled = await way.run(statements.get_job(second))
    assert (cancelled.status, cancelled.cancel_kind) == (Status.CANCELLED, CancelKind.MANUAL)
    assert await way.run(statements.cancel_job(second)) is False
    assert await way.run(statements.cancel_job(first)) is False
    assert await way.run(statements.cancel_job(first, abort=True)) is True
    assert await way.run(statements.jobs_to_abort(worker)) == [first]
    [event] = await way.run(statements.list_events(first))
    assert (event.type, event.job_id, event.worker_id, event.detail) == ("abort_requested", first, worker, {})
    [third] = await defer(way)
    assert await way.run(statements.cancel_job(third, delete_job=True)) is True
    with pytest.raises(JobNotFound):
        await way.run(statements.get_job(third))


async def test_retry_by_hand(way: Way) -> None:
    await defer(way)
    [job] = await fetch(way)
    await end(way, job, "failed", error="boom")
    await way.run(statements.retry_job(job.id, FAR, 3, "other", "lock"))
    again = await way.run(statements.get_job(job.id))
    assert (again.status, again.scheduled_at) == (Status.TODO, FAR)
    assert (again.priority, again.queue, again.lock) == (3, "other", "lock")


async def test_prune(way: Way) -> None:
    await defer(way, *[JobSpec(task_name="t")] * 3)
    for job in await fetch(way):
        await end(way, job, "succeeded")
    nothing = Pruned(deleted=0, reached=None)
    assert await way.run(statements.prune_jobs(3600, ["succeeded"], None, 100)) == nothing
    # a second from now: inside the caller's transaction now() is when it began, and so is the jobs' end
    assert await way.run(statements.prune_jobs(-1, ["failed"], None, 100)) == nothing
    assert await way.run(statements.prune_jobs(-1, [Status.SUCCEEDED], "other", 100)) == nothing
    assert await way.run(statements.count_prunable(-1, [Status.SUCCEEDED], None)) == 3
    batch = await way.run(statements.prune_jobs(-1, [Status.SUCCEEDED], None, 2))
    assert batch.deleted == 2
    assert batch.reached is not None
    assert batch.reached.tzinfo is UTC
    rest = statements.prune_jobs(timedelta(seconds=-1), ["succeeded"], "default", 2, batch.reached, wait=False)
    assert await way.run(rest) == Pruned(deleted=1, reached=None)
    assert await way.run(statements.list_jobs()) == []


async def test_pause_and_resume(way: Way) -> None:
    await defer(way)
    assert await way.run(statements.pause_queue("default")) is True
    assert await way.run(statements.pause_queue("default")) is False
    assert await fetch(way) == []
    assert await way.run(statements.resume_queue("default")) is True
    assert await way.run(statements.resume_queue("default")) is False
    assert len(await fetch(way)) == 1


async def test_next_due(way: Way) -> None:
    await defer(way, JobSpec(task_name="t", scheduled_at=datetime.now(UTC) + timedelta(hours=1)))
    due = await way.run(statements.next_due(["default"]))
    assert due is not None
    assert 3500 < due <= 3600
    await defer(way)
    assert await way.run(statements.next_due(None)) == 0


async def test_growing_and_cutting_a_graph(way: Way) -> None:
    [a, b, child] = await defer(way, *[JobSpec(task_name="t")] * 3)
    await way.run(statements.add_dependencies(child, [a, b]))
    assert await way.run(statements.get_job_status(child)) is Status.BLOCKED
    assert await way.run(statements.remove_dependencies(child, [a, b, b])) == 2
    assert await way.run(statements.remove_dependencies(child, [])) == 0
    assert await way.run(statements.get_job_status(child)) is Status.TODO


async def test_check_connection_and_revision(way: Way) -> None:
    assert await way.run(statements.check_connection()) is True
    assert await way.run(statements.schema_revision()) == "0001"


# Errors


async def refused_as(way: Way, statement: statements.Statement[Any], error: type[ProcrastinateException]) -> Any:
    """The error of a statement; whatever the way, the connection goes on to work after it."""
    with pytest.raises(error) as refused:
        await way.run(statement)
    assert await way.run(statements.check_connection()) is True
    return refused.value


async def test_already_enqueued(way: Way) -> None:
    await defer(way, JobSpec(task_name="t", queueing_lock="the (lock)=(x)"))
    batch = [JobSpec(task_name="other"), JobSpec(task_name="t", queueing_lock="the (lock)=(x)")]
    error = await refused_as(way, statements.defer_jobs(batch), AlreadyEnqueued)
    assert error.queueing_lock == "the (lock)=(x)"
    assert [job.task_name for job in await way.run(statements.list_jobs())] == ["t"]


async def test_dependency_not_found(way: Way) -> None:
    [job_id] = await defer(way)
    missing = [job_id + 1000, job_id + 2000]
    specs = [JobSpec(task_name="t"), JobSpec(task_name="t", depends_on=[job_id, *missing])]
    error = await refused_as(way, statements.defer_jobs(specs), DependencyNotFound)
    assert error.ids == tuple(missing)
    assert str(missing[0]) in str(error)
    jobs = await way.run(statements.list_jobs())
    assert [job.id for job in jobs] == [job_id]


async def test_circular_dependency(way: Way) -> None:
    [a] = await defer(way)
    [b] = await defer(way, JobSpec(task_name="t", depends_on=[a]))
    error = await refused_as(way, statements.add_dependencies(a, [b]), CircularDependency)
    assert set(error.cycle) == {a, b}
    error = await refused_as(way, statements.add_dependencies(a, [a]), CircularDependency)
    assert a in error.cycle
    looping = [JobSpec(task_name="t", after=[1]), JobSpec(task_name="t", after=[0])]
    await refused_as(way, statements.defer_jobs(looping), CircularDependency)


async def test_job_already_started(way: Way) -> None:
    [a, b] = await defer(way, *[JobSpec(task_name="t")] * 2)
    await fetch(way)
    await refused_as(way, statements.add_dependencies(a, [b]), JobAlreadyStarted)
    await refused_as(way, statements.retry_job(a), JobAlreadyStarted)


async def test_job_not_found(way: Way) -> None:
    for statement in (
        statements.retry_job(12345),
        statements.add_dependencies(12345, [1]),
        statements.get_job(12345),
        statements.get_job_status(12345),
    ):
        error = await refused_as(way, statement, JobNotFound)
        assert error.job_id == 12345
        assert "12345" in str(error)


async def test_dependency_not_met(way: Way) -> None:
    [parent] = await defer(way)
    [child] = await defer(way, JobSpec(task_name="t", depends_on=[parent], run_when="all_succeeded"))
    [job] = await fetch(way)
    await end(way, job, "failed", error="boom")
    assert await way.run(statements.get_job_status(child)) is Status.CANCELLED
    error = await refused_as(way, statements.retry_job(child), DependencyNotMet)
    assert (error.job_id, error.parents) == (child, {parent: "failed"})


async def test_transition_refused(way: Way) -> None:
    [job_id] = await defer(way)
    await refused_as(way, statements.retry_job(job_id), TransitionRefused)


async def test_an_error_that_is_not_ours_keeps_its_code(dsn: str, way: Way) -> None:
    values: tuple[Any, ...] = ([], [], [], [], [], "{}", "sometimes")
    with pytest.raises(ConnectorException) as refused:
        await way.run(statements.Statement("finish_jobs", values, lambda rows, loads: None))
    assert refused.value.sqlstate == "22023"
    assert refused.value.__cause__ is not None


# The files


def test_every_query_has_a_statement_and_every_statement_a_query() -> None:
    import inspect

    used = set()
    for module in filter(inspect.ismodule, vars(statements).values()):
        used |= set(re.findall(r'Statement\(\s*"(\w+)"', inspect.getsource(module)))
    files = {file.stem for file in (find_folder("_sql", "sql") / "queries").glob("*.sql")}
    assert files - used == {"migration_lock"}
    assert used - files == set()


def test_queries_of_jobs_have_the_same_columns() -> None:
    lists = {}
    for name, text in queries("procrastinate_deps").items():
        if re.search(r"^    job\.claim,$", text, re.MULTILINE):
            lists[name] = re.findall(r"^    job\.(\w+(?:::text)?),?$", text, re.MULTILINE)
    claimed = {name: lists.pop(name) for name in ("fetch_jobs", "finish_and_fetch")}
    assert set(lists) == {"get_job", "list_jobs", "list_workflow_jobs", "stalled_jobs"}
    assert len({tuple(columns) for columns in lists.values()}) == 1
    # Of a job that was just claimed the rest is known.
    assert len({tuple(columns) for columns in claimed.values()}) == 1


def test_every_query_can_be_prepared(dsn: str) -> None:
    """Types and names are right, also in those that no other test runs."""
    with psycopg.connect(dsn) as connection:
        for name, text in queries("procrastinate_deps").items():
            connection.execute(f"PREPARE {name} AS {text}".encode())
