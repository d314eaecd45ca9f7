"""The job manager's verbs: each does the same whether it is called sync or async."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from procrastinate_deps import statements
from procrastinate_deps.connectors import AsyncpgConnector, PsycopgConnector, SyncPsycopgConnector
from procrastinate_deps.exceptions import (
    InvalidArguments,
    JobNotFound,
    LockNotAvailable,
    SyncConnectorConfigurationError,
    TransitionRefused,
)
from procrastinate_deps.jobs import Job, JobSpec, Status
from procrastinate_deps.manager import JobManager
from procrastinate_deps.verbs.base import AsyncVerb, Call, SyncVerb, one
from procrastinate_deps.verbs.pruning import PRUNE_BATCH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FAR = datetime(2099, 1, 1, tzinfo=UTC)


class Either:
    """A job manager whose verbs are awaited by one name, whichever twin is called."""

    def __init__(
        self, manager: JobManager, connector: PsycopgConnector | AsyncpgConnector | SyncPsycopgConnector
    ) -> None:
        self.manager = manager
        self.connector = connector
        self.is_async = not isinstance(connector, SyncPsycopgConnector)

    async def __call__(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        names = (f"{verb}_async", verb) if self.is_async else (verb, f"{verb}_sync")
        wanted = AsyncVerb if self.is_async else SyncVerb
        [name] = [name for name in names if isinstance(inspect.getattr_static(JobManager, name, None), wanted)]
        result = getattr(self.manager, name)(*args, **kwargs)
        return await result if self.is_async else result

    async def run(self, statement: statements.Statement[Any]) -> Any:
        if isinstance(self.connector, SyncPsycopgConnector):
            return self.connector.execute(statement)
        return await self.connector.execute_async(statement)

    async def fetch(self) -> list[Job]:
        worker = await self.run(statements.register_worker("w", "h", 1, None, 1, "0"))
        jobs: list[Job] = await self.run(statements.fetch_jobs(None, worker, 100))
        return jobs


@pytest.fixture(params=["psycopg", "asyncpg", "sync"])
async def manager(dsn: str, request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Either]:
    if request.param == "sync":
        with SyncPsycopgConnector(conninfo=dsn) as sync_connector:
            yield Either(JobManager(sync_connector), sync_connector)
        return
    connector = PsycopgConnector(conninfo=dsn) if request.param == "psycopg" else AsyncpgConnector(dsn)
    async with connector:
        yield Either(JobManager(connector), connector)


async def test_reading(manager: Either) -> None:
    [a, b] = await manager("defer_jobs", [JobSpec(task_name="a", lock="l"), JobSpec(task_name="b", after=[0])])

    assert (await manager("get_job", b)).task_name == "b"
    assert await manager("get_job_status", b) == Status.BLOCKED
    assert [job.id for job in await manager("list_jobs", status="blocked")] == [b]
    assert [job.id for job in await manager("list_jobs", limit=1, after=a)] == [b]
    assert [queue["jobs_count"] for queue in await manager("list_queues")] == [2]
    assert [task["name"] for task in await manager("list_tasks", task="b")] == ["b"]
    assert [lock["name"] for lock in await manager("list_locks")] == ["l"]
    assert await manager("list_workers") == []
    assert await manager("list_events", a) == []
    assert await manager("get_parents", b) == {a: Status.TODO}
    assert await manager("get_children", a) == {b: Status.BLOCKED}
    assert await manager("get_parent_statuses", b) == {a: "todo"}
    assert await manager("check_connection") is True
    with pytest.raises(JobNotFound):
        await manager("get_job_status", b + 1)


async def test_dependencies_take_ids_and_jobs(manager: Either) -> None:
    [a, b, c] = await manager("defer_jobs", [JobSpec(task_name="t")] * 3)
    parent = await manager("get_job", a)
    child = await manager("get_job", c)
    await manager("add_dependencies", child, [parent, b])
    assert await manager("get_parents", c) == {a: Status.TODO, b: Status.TODO}
    assert await manager("remove_dependencies", c, parent) == 1
    with pytest.raises(TypeError, match="pass one job"):
        await manager("add_dependencies", [a, b], c)
    with pytest.raises(TypeError, match="got the bool True"):
        await manager("add_dependencies", c, True)


async def test_acting(manager: Either) -> None:
    [a, b] = await manager("defer_jobs", [JobSpec(task_name="t")] * 2)
    assert await manager("cancel_job_by_id", a) is True
    assert await manager("cancel_job_by_id", a) is False
    await manager("retry_job_by_id", a, retry_at=FAR, priority=2)
    assert (await manager("get_job", a)).scheduled_at == FAR
    assert await manager("cancel_job_by_id", b, delete_job=True) is True
    with pytest.raises(JobNotFound):
        await manager("get_job", b)
    with pytest.raises(ValueError, match="time zone"):
        await manager("retry_job_by_id", a, retry_at=datetime(2099, 1, 1))  # noqa: DTZ001
    assert await manager("pause_queue", "q") is True
    assert await manager("resume_queue", "q") is True


async def test_finish_and_retry_a_job(manager: Either, dsn: str) -> None:
    [job_id] = await manager("defer_jobs", [JobSpec(task_name="t")])
    [job] = await manager.fetch()
    with psycopg.connect(dsn) as holder:
        holder.execute("SELECT FROM procrastinate_deps.jobs FOR KEY SHARE")
        with pytest.raises(LockNotAvailable, match="still open"):
            await manager("finish_job", job, "failed")
    await manager("finish_job", job, Status.FAILED, error="by hand")
    assert (await manager("get_job", job_id)).error == "by hand"
    with pytest.raises(TransitionRefused, match="not running any more"):
        await manager("finish_job", job, "succeeded")
    await manager("retry_job", job)
    [again] = await manager.fetch()
    assert (again.id, again.claim) == (job_id, 2)
    await manager("finish_job", again, "succeeded", delete_job=True)
    with pytest.raises(JobNotFound):
        await manager("get_job", job_id)


async def test_stalled_jobs_and_workers(manager: Either) -> None:
    await manager("defer_jobs", [JobSpec(task_name="t")])
    [job] = await manager.fetch()
    assert await manager("get_stalled_jobs") == []
    assert [stalled.id for stalled in await manager("get_stalled_jobs", seconds_since_heartbeat=-1)] == [job.id]
    assert await manager("get_stalled_jobs", -1, task_name="other") == []
    assert await manager("prune_stalled_workers", -1) == []
    await manager.run(statements.rescue_jobs(-1, 3, 100))  # declares the worker lost
    assert await manager("prune_stalled_workers", 60) == []
    assert await manager("prune_stalled_workers", -1) == ["w"]


async def test_delete_old_jobs(manager: Either, dsn: str) -> None:
    many = PRUNE_BATCH + 5  # more than one statement takes
    with psycopg.connect(dsn) as connection:
        for status, count in (("succeeded", many), ("failed", 1), ("cancelled", 1), ("aborted", 1)):
            connection.execute(
                "INSERT INTO procrastinate_deps.jobs (task_name) SELECT %s FROM generate_series(1, %s)", [status, count]
            )
        connection.execute("UPDATE procrastinate_deps.jobs SET status = task_name::procrastinate_deps.job_status")
        connection.execute("UPDATE procrastinate_deps.jobs SET finished_at = now() - interval '2 hours'")

    assert await manager("delete_old_jobs", 3, include_failed=True) == 0
    assert await manager("delete_old_jobs", 1, queue="other") == 0
    assert await manager("delete_old_jobs", 1) == many
    assert await manager("delete_old_jobs", 1, include_failed=True, include_cancelled=True) == 2
    assert await manager("delete_old_jobs", 1, include_aborted=True) == 1


async def test_arguments_that_are_not_json(manager: Either) -> None:
    with pytest.raises(InvalidArguments, match=r"'t'.*'bad'.*set"):
        await manager("defer_jobs", [JobSpec(task_name="t", task_kwargs={"bad": {1}})])


async def test_on_the_callers_connection(dsn: str) -> None:
    manager = JobManager(AsyncpgConnector(dsn))
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        [job_id] = await manager.defer_jobs_async([JobSpec(task_name="t")], connection=connection)
        assert await manager.get_job_status_async(job_id, connection=connection) == Status.TODO
        assert await manager.cancel_job_by_id_async(job_id, connection=connection) is True
        await connection.rollback()
    sync_manager = JobManager(SyncPsycopgConnector(conninfo=dsn))
    with psycopg.connect(dsn) as sync_connection, pytest.raises(JobNotFound):
        sync_manager.get_job_status(job_id, connection=sync_connection)


async def test_the_wrong_twin_is_refused() -> None:
    with pytest.raises(SyncConnectorConfigurationError, match="PsycopgConnector is async"):
        JobManager(PsycopgConnector()).list_jobs()
    with pytest.raises(SyncConnectorConfigurationError, match="SyncPsycopgConnector is sync"):
        await JobManager(SyncPsycopgConnector()).list_jobs_async()


def test_every_verb_has_a_twin_and_says_what_it_does() -> None:
    verbs = {name: verb for name, verb in vars(JobManager).items() if isinstance(verb, (SyncVerb, AsyncVerb))}
    assert len(verbs) > 40
    for name, verb in verbs.items():
        twins = [f"{name}_async"] if isinstance(verb, SyncVerb) else [f"{name}_sync"]
        twins.append(name.removesuffix("_async").removesuffix("_sync"))
        found = [verbs[twin] for twin in twins if twin in verbs and verbs[twin] is not verb]
        assert len(found) == 1, name
        assert type(found[0]) is not type(verb), name
        assert verb.__doc__, name
        method = getattr(JobManager(SyncPsycopgConnector()), name)
        assert method.__doc__ == verb.__doc__
        assert inspect.iscoroutinefunction(method) == isinstance(verb, AsyncVerb)
        assert "job_id" in inspect.signature(JobManager(SyncPsycopgConnector()).get_job).parameters


class OwnManager(JobManager):
    """With a verb of a user's own in the place of one of ours."""

    @staticmethod
    def _own_status(job_id: int, connection: Any = None) -> Call[Status]:
        return one(statements.get_job_status(job_id + 1), connection)

    get_job_status_async = AsyncVerb(_own_status)

    async def of_both(self, job_id: int) -> list[Status]:
        return [await self.get_job_status_async(job_id), await super().get_job_status_async(job_id)]


async def test_an_async_verb_is_made_once_and_can_be_overridden(dsn: str) -> None:
    async with PsycopgConnector(conninfo=dsn) as connector:
        ours, own = JobManager(connector), OwnManager(connector)
        assert ours.get_job_status_async is ours.get_job_status_async
        assert ours.get_job_status_async is not JobManager(connector).get_job_status_async
        assert (ours.get_job_async.__doc__ or "").startswith("The job as it is now")
        first, second = await ours.defer_jobs_async([JobSpec(task_name="t"), JobSpec(task_name="t")])
        await ours.cancel_job_by_id_async(second)
        assert second == first + 1
        for _ in range(2):  # what super() gave is not what the manager gives from then on
            assert await own.of_both(first) == ["cancelled", "todo"]
