"""Waiting for jobs in async code: what comes of it, by which way, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import psycopg
import pytest

from procrastinate_deps import App, Job, JobFailed, JobNotFound, NotStored, RetryStrategy
from procrastinate_deps.exceptions import AppNotOpen, ConnectorException
from tests.integration.waiting_helpers import (
    end,
    kill,
    listening,
    until_no_trace,
    wait_until_heard,
    waited_for,
)
from tests.integration.worker_helpers import DEADLINE_S, make_app, one_shot, query, until, working

if TYPE_CHECKING:
    from procrastinate_deps.tasks import Task

END = "UPDATE procrastinate_deps.jobs SET status = 'succeeded', finished_at = now(), result = '\"late\"' WHERE id = %s"


def declare(app: App) -> Task[..., Any, ...]:
    @app.task(name="give")
    async def give(value: Any = None) -> Any:
        if isinstance(value, str):
            raise ValueError(value)
        return value

    return give


async def heard(dsn: str, *job_ids: int) -> None:
    await anyio.to_thread.run_sync(wait_until_heard, dsn, *job_ids)


class Waiter:
    """A wait that goes on in a task of its own."""

    def __init__(self, app: App, job_id: int, timeout_s: float | None = DEADLINE_S) -> None:
        self._app, self._job_id, self._timeout_s = app, job_id, timeout_s
        self.result: Any = None
        self.over = False
        self.scope = anyio.CancelScope()

    async def run(self) -> None:
        with self.scope:
            try:
                self.result = await self._app.wait_for_job_async(self._job_id, self._timeout_s)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.result = error
        self.over = True


# What comes of it


async def test_the_result_of_a_job_that_a_worker_runs(app: App) -> None:
    give = declare(app)
    async with working(app):
        values: list[Any] = [{"rows": [1, 2]}, None, 0, []]
        for value in values:
            assert await app.wait_for_job_async(await give.defer_async(value=value), timeout=DEADLINE_S) == value


async def test_a_job_that_has_ended_already_needs_no_connection(app: App, dsn: str) -> None:
    give = declare(app)
    job_id = await give.defer_async(value=7)
    await one_shot(app)
    job: Job = await app.job_manager.get_job_async(job_id)
    for timeout in (None, 0, 5):
        assert await app.wait_for_job_async(job, timeout) == 7
    until_no_trace(dsn)


async def test_a_failed_job_raises_its_stored_error(app: App) -> None:
    give = declare(app)
    job_id = await give.defer_async(value="order 13")
    async with working(app):
        with pytest.raises(JobFailed, match=rf"^job {job_id} \(give\) failed: ValueError: order 13\n") as raised:
            await app.wait_for_job_async(job_id, timeout=DEADLINE_S)
    error = raised.value
    assert (error.job_id, error.status, error.cancel_kind, error.reason) == (job_id, "failed", None, None)
    assert error.error == (await app.job_manager.get_job_async(job_id)).error
    stored = error.error or ""
    assert "Traceback (most recent call last)" in stored
    assert stored.rstrip() in "".join(error.__notes__)


async def test_cancelled_and_aborted_jobs_raise_too(app: App, dsn: str) -> None:
    give = declare(app)
    by_hand, parent, aborted = await give.defer_async(), await give.defer_async(value="x"), await give.defer_async()
    by_rule = await give.configure(depends_on=parent, run_when="all_succeeded").defer_async()
    await app.job_manager.cancel_job_by_id_async(by_hand)
    end(dsn, aborted, status="aborted", result=None, error="JobAborted: enough")
    await one_shot(app)
    for job_id, status, kind, message in (
        (by_hand, "cancelled", "manual", "was cancelled"),
        (by_rule, "cancelled", "upstream", f"was cancelled: .*{parent}"),
        (aborted, "aborted", None, "was aborted: JobAborted: enough"),
    ):
        with pytest.raises(JobFailed, match=message) as raised:
            await app.wait_for_job_async(job_id)
        assert (raised.value.job_id, raised.value.status, raised.value.cancel_kind) == (job_id, status, kind)


async def test_a_job_that_is_retried_has_not_ended(app: App) -> None:
    runs: list[int] = []

    @app.task(name="flaky", retry=RetryStrategy(max_attempts=3, wait=0))
    async def flaky() -> str:
        runs.append(1)
        if len(runs) < 3:
            raise ValueError(len(runs))
        return "at last"

    job_id = await flaky.defer_async()
    async with working(app):
        assert await app.wait_for_job_async(job_id, timeout=DEADLINE_S) == "at last"
    assert len(runs) == 3


async def test_a_result_that_could_not_be_stored(app: App) -> None:
    @app.task(name="set")
    async def a_set() -> set[int]:
        return {1}

    job_id = await a_set.defer_async()
    async with working(app):
        assert isinstance(await app.wait_for_job_async(job_id, timeout=DEADLINE_S), NotStored)


@pytest.mark.parametrize("within_s", [0, 0.05])
async def test_the_time_is_over(app: App, dsn: str, within_s: float) -> None:
    job_id = await declare(app).defer_async()
    with pytest.raises(TimeoutError, match=rf"job {job_id} has not ended within {within_s} s: it is todo"):
        await app.wait_for_job_async(job_id, within_s)
    until_no_trace(dsn)


@pytest.mark.parametrize("job", [10**12, 0, -1, 2**70], ids=str)
async def test_a_job_that_never_was(app: App, job: int) -> None:
    with pytest.raises(JobNotFound, match=str(job)) as raised:
        await app.wait_for_job_async(job, timeout=DEADLINE_S)
    assert raised.value.job_id == job


@pytest.mark.parametrize("job", [True, None, "7", [7]], ids=str)
async def test_what_is_no_job(app: App, job: Any) -> None:
    with pytest.raises(TypeError, match="pass one job"):
        await app.wait_for_job_async(job)


@pytest.mark.parametrize("time", [float("nan"), "5", True], ids=str)
async def test_what_is_no_time(app: App, time: Any) -> None:
    for wait in (app.wait_for_job_async(1, time), app.wait_for_workflow_async(1, time)):
        with pytest.raises((TypeError, ValueError), match=f"timeout={time!r}: pass seconds"):
            await wait


async def test_a_closed_app_says_so(dsn: str) -> None:
    for driver in ("psycopg", "asyncpg"):
        with pytest.raises(AppNotOpen):
            await make_app(dsn, driver).wait_for_job_async(1, timeout=DEADLINE_S)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_wait_that_is_cancelled_after_its_app_was_closed(dsn: str, driver: str) -> None:
    """Its last words find no connection, which is nobody's error."""
    app = make_app(dsn, driver)
    async with anyio.create_task_group() as group:
        async with app.open_async():
            job_id = await declare(app).defer_async()
            group.start_soon(app.wait_for_job_async, job_id)
            await heard(dsn, job_id)
        group.cancel_scope.cancel()


@pytest.mark.usefixtures("no_polling")
async def test_a_job_that_is_deleted_while_it_is_waited_for(app: App, dsn: str) -> None:
    job_id = await declare(app).defer_async()
    async with anyio.create_task_group() as group:
        waiter = Waiter(app, job_id)
        group.start_soon(waiter.run)
        await heard(dsn, job_id)
        query(dsn, "DELETE FROM procrastinate_deps.jobs WHERE id = %s", job_id)
    assert isinstance(waiter.result, JobNotFound)
    until_no_trace(dsn)


@pytest.mark.usefixtures("no_polling")
async def test_a_worker_that_deletes_what_has_ended(app: App, dsn: str) -> None:
    job_id = await declare(app).defer_async(value=1)
    async with anyio.create_task_group() as group:
        waiter = Waiter(app, job_id)
        group.start_soon(waiter.run)
        await heard(dsn, job_id)
        await one_shot(app, delete_jobs="always")
    assert isinstance(waiter.result, JobNotFound)
    assert "deleted" in str(waiter.result)


# By which way


@pytest.mark.usefixtures("no_polling")
async def test_told_by_a_notification(app: App, dsn: str) -> None:
    give = declare(app)
    for _ in range(3):
        job_id = await give.defer_async(value=3)
        async with anyio.create_task_group() as group:
            waiter = Waiter(app, job_id)
            group.start_soon(waiter.run)
            await heard(dsn, job_id)
            await one_shot(app)
        assert waiter.result == 3
    until_no_trace(dsn)


async def test_polling_finds_an_end_that_began_before_the_wait(app: App, dsn: str) -> None:
    """The statement that ends the job has not seen who waits, and tells nobody."""
    job_id = await declare(app).defer_async()
    with psycopg.connect(dsn) as other:
        other.execute(END, [job_id])
        async with anyio.create_task_group() as group:
            waiter = Waiter(app, job_id)
            group.start_soon(waiter.run)
            await heard(dsn, job_id)
            assert not waiter.over
            other.commit()
    assert waiter.result == "late"


@pytest.mark.usefixtures("no_polling")
async def test_a_lost_connection_is_made_again(app: App, dsn: str) -> None:
    """What ended meanwhile is found when it is."""
    job_id, later = await declare(app).defer_async(), await declare_again(app)
    async with anyio.create_task_group() as group:
        waiters = [Waiter(app, job_id), Waiter(app, later)]
        for waiter in waiters:
            group.start_soon(waiter.run)
        await heard(dsn, job_id, later)
        lost = listening(dsn)
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", [lost])
            other.execute(END, [job_id])
        await until(lambda: waiters[0].over, "an end found after the connection was lost")
        await until(lambda: set(listening(dsn)) - set(lost), "a new connection")
        end(dsn, later)
    assert [waiter.result for waiter in waiters] == ["late", 1]


async def declare_again(app: App) -> int:
    return await app.configure_task("give").defer_async()


async def test_without_a_connection_that_listens_there_is_polling(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    for driver in ("psycopg", "asyncpg"):
        caplog.clear()
        app = make_app(dsn, driver, listen_dsn="postgresql://nobody@127.0.0.1:1/nowhere")
        give = declare(app)
        async with app.open_async():
            job_id = await give.defer_async(value=5)
            async with anyio.create_task_group() as group:
                waiter = Waiter(app, job_id)
                group.start_soon(waiter.run)
                await until(lambda: "Not listening" in caplog.text, "a warning")
                await one_shot(app, listen_notify=False)
            assert waiter.result == 5
        assert waited_for(dsn) == []


async def test_all_connections_lost_at_once(app: App, dsn: str) -> None:
    """Statements fail for a while, too; the wait goes on."""
    job_id = await declare(app).defer_async()
    async with anyio.create_task_group() as group:
        waiter = Waiter(app, job_id)
        group.start_soon(waiter.run)
        await heard(dsn, job_id)
        kill(dsn, [row[0] for row in query(dsn, OTHERS)])
        end(dsn, job_id)
    assert waiter.result == 1


OTHERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


async def test_what_does_not_pass_by_itself_ends_the_wait(app: App, dsn: str) -> None:
    job_id = await declare(app).defer_async()
    query(dsn, "ALTER TABLE procrastinate_deps.job_waits RENAME TO gone")
    with pytest.raises(ConnectorException, match="job_waits"):
        await app.wait_for_job_async(job_id, timeout=DEADLINE_S)


# What it costs


@pytest.mark.usefixtures("no_polling")
async def test_a_thousand_waits_share_one_connection(app: App, dsn: str) -> None:
    give = declare(app)
    job_ids = await give.batch_defer_async(*[{"value": None}] * 1000)
    waiters = [Waiter(app, job_id) for job_id in job_ids]
    async with anyio.create_task_group() as group:
        for waiter in waiters:
            group.start_soon(waiter.run)
        await heard(dsn, *job_ids)
        (pid,) = listening(dsn)
        # One after the other, so that whoever serves the others leaves again and again.
        for batch in (job_ids[:1], job_ids[1:300], job_ids[300:999]):
            end(dsn, *batch)
            last = waiters[job_ids.index(batch[-1])]
            await until(lambda last=last: last.over, "the end of a batch")  # type: ignore[misc]
            assert listening(dsn) == [pid]
        end(dsn, job_ids[-1])
    assert [waiter.result for waiter in waiters] == [1] * 1000
    until_no_trace(dsn)


@pytest.mark.usefixtures("no_polling")
async def test_several_waits_for_one_job(app: App, dsn: str) -> None:
    """One of them gives up; the others are told."""
    job_id = await declare(app).defer_async()
    waiters = [Waiter(app, job_id) for _ in range(5)]
    async with anyio.create_task_group() as group:
        for waiter in waiters:
            group.start_soon(waiter.run)
        await heard(dsn, job_id)
        assert waited_for(dsn) == [job_id]
        waiters[0].scope.cancel()
        await until(lambda: waiters[0].over, "the cancelled wait")
        end(dsn, job_id, result=9)
    assert [waiter.result for waiter in waiters] == [None, 9, 9, 9, 9]


@pytest.mark.usefixtures("no_polling")
async def test_a_wait_that_serves_others_runs_out_of_time(app: App, dsn: str) -> None:
    give = declare(app)
    first, second = await give.defer_async(), await give.defer_async()
    waiters = [Waiter(app, first, 0.3), Waiter(app, second)]
    async with anyio.create_task_group() as group:
        for waiter in waiters:
            group.start_soon(waiter.run)
        await heard(dsn, second)
        await until(lambda: waiters[0].over, "the end of the first one's time")
        end(dsn, second)
    assert isinstance(waiters[0].result, TimeoutError)
    assert waiters[1].result == 1


async def test_a_cancelled_wait_leaves_nothing_behind(app: App, dsn: str) -> None:
    job_id = await declare(app).defer_async()
    waiter = Waiter(app, job_id)
    async with anyio.create_task_group() as group:
        group.start_soon(waiter.run)
        await heard(dsn, job_id)
        waiter.scope.cancel()
    until_no_trace(dsn)
