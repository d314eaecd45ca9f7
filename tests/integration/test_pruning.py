"""Jobs that ended long ago are deleted: by hand, by a task, by a worker."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
import psycopg
import pytest

from procrastinate_deps import builtin_tasks, statements
from procrastinate_deps.jobs import TERMINAL, Pruned, Status
from procrastinate_deps.worker import Worker, pruner
from tests.integration.worker_helpers import ended, one_shot, query, until, working

if TYPE_CHECKING:
    from procrastinate_deps import App

HOUR_S = 3600.0


def end_long_ago(dsn: str, hours: float = 100, **jobs: int) -> None:
    """Jobs without a run, which ended so many hours ago; each a status and how many."""
    for status, count in jobs.items():
        query(
            dsn,
            "INSERT INTO procrastinate_deps.jobs (task_name, queue)"
            " SELECT %s, CASE WHEN n %% 2 = 0 THEN 'even' ELSE 'odd' END FROM generate_series(1, %s) AS n",
            status,
            count,
        )
        query(
            dsn,
            "UPDATE procrastinate_deps.jobs SET status = %s::procrastinate_deps.job_status WHERE task_name = %s",
            status,
            status,
        )
        query(
            dsn,
            "UPDATE procrastinate_deps.jobs SET finished_at = now() - make_interval(secs => %s + id)"
            " WHERE task_name = %s",
            hours * HOUR_S,
            status,
        )


def left(dsn: str) -> dict[str, int]:
    return dict(query(dsn, "SELECT status::text, count(*) FROM procrastinate_deps.jobs GROUP BY 1"))


# By hand


async def test_old_jobs_are_deleted_as_asked_for(app: App, dsn: str) -> None:
    end_long_ago(dsn, succeeded=4, failed=2, cancelled=2, aborted=2)
    manager = app.job_manager
    assert await manager.delete_old_jobs(101) == 0
    assert await manager.delete_old_jobs(99, queue="odd") == 2
    assert await manager.delete_old_jobs(99) == 2
    assert left(dsn) == {"failed": 2, "cancelled": 2, "aborted": 2}
    assert await manager.delete_old_jobs(99, include_cancelled=True) == 2
    assert await manager.count_prunable_jobs_async(99 * HOUR_S) == 4
    assert await manager.prune_jobs_async(99 * HOUR_S, ["failed"]) == 2
    assert await manager.prune_jobs_async(99 * HOUR_S) == 2
    assert left(dsn) == {}


async def test_more_than_a_batch_in_spite_of_jobs_that_stay(
    app: App, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("procrastinate_deps.verbs.pruning.PRUNE_BATCH", 3)
    end_long_ago(dsn, succeeded=20)
    oldest = query(dsn, "SELECT id FROM procrastinate_deps.jobs ORDER BY finished_at LIMIT 5")
    # the oldest ones stay: an unfinished child has them
    child = await app.configure_task("t", depends_on=[job_id for (job_id,) in oldest]).defer_async()
    assert await app.job_manager.count_prunable_jobs_async(HOUR_S) == 15
    assert await app.job_manager.prune_jobs_async(HOUR_S) == 15
    assert left(dsn) == {"succeeded": 5, "todo": 1}
    await app.job_manager.cancel_job_by_id_async(child)
    assert await app.job_manager.prune_jobs_async(HOUR_S) == 5


async def test_a_job_that_someone_holds_is_left_and_the_others_go(app: App, dsn: str) -> None:
    end_long_ago(dsn, succeeded=9)
    with psycopg.connect(dsn) as holder:
        # more than a batch of them, the oldest
        holder.execute("SELECT FROM procrastinate_deps.jobs ORDER BY finished_at LIMIT 4 FOR UPDATE")
        first = await app.connector.execute_async(statements.prune_jobs(HOUR_S, TERMINAL, None, 3))  # type: ignore[union-attr]
        assert first.deleted == 0
        second = statements.prune_jobs(HOUR_S, TERMINAL, None, 100, first.reached)
        assert await app.connector.execute_async(second) == Pruned(deleted=5, reached=None)  # type: ignore[union-attr]
        assert await app.job_manager.prune_jobs_async(HOUR_S) == 0
    assert await app.job_manager.prune_jobs_async(HOUR_S) == 4


async def test_who_does_not_want_to_wait_leaves_it_to_the_other(app: App, dsn: str) -> None:
    end_long_ago(dsn, succeeded=2)
    with psycopg.connect(dsn) as other:
        assert other.execute("SELECT pruned FROM procrastinate_deps.prune_jobs('1 h', max_jobs => 1)").fetchone() == (
            1,
        )
        statement = statements.prune_jobs(HOUR_S, TERMINAL, None, 10, wait=False)
        assert await app.connector.execute_async(statement) == Pruned(deleted=None, reached=None)  # type: ignore[union-attr]
    assert await app.job_manager.prune_jobs_async(HOUR_S) == 1


# By a task


async def test_the_builtin_task_deletes_old_jobs(app: App, dsn: str) -> None:
    end_long_ago(dsn, succeeded=2, failed=2, aborted=2)
    name = "procrastinate_deps.builtin_tasks.remove_old_jobs"
    job_id = await app.configure_task(name, allow_unknown=False).defer_async(max_hours=72, remove_failed=True)
    await one_shot(app)
    job = await ended(app, job_id)
    assert (job.status, job.queue, job.result) == ("succeeded", "builtin", 4)
    assert left(dsn) == {"aborted": 2, "succeeded": 1}


async def test_the_builtin_task_in_a_periodic_task_of_ones_own(app: App, dsn: str) -> None:
    """As procrastinate's documentation has it."""
    end_long_ago(dsn, succeeded=2, aborted=2)

    @app.task(pass_context=True)
    async def every_night(context, timestamp):  # type: ignore[no-untyped-def]
        return await builtin_tasks.remove_old_jobs(context, max_hours=72, remove_aborted=True, timestamp=timestamp)

    job_id = await every_night.defer_async(timestamp=0)
    await one_shot(app)
    assert (await ended(app, job_id)).result == 4


# By workers


async def test_workers_delete_old_jobs(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruner, "INTERVAL_S", 0.1)
    monkeypatch.setattr(pruner, "MAX_BATCH", 5)
    monkeypatch.setattr(pruner, "MIN_PAUSE_S", 0.01)
    end_long_ago(dsn, hours=5, succeeded=20, failed=20)
    young = await app.configure_task("t").defer_async()
    await app.job_manager.cancel_job_by_id_async(young)
    async with working(app, prune_after=4), working(app, prune_after=4):
        await until(lambda: left(dsn) == {"cancelled": 1}, "the old jobs are gone")
        end_long_ago(dsn, hours=3, aborted=1)
        end_long_ago(dsn, hours=5, failed=1)
        await until(lambda: "failed" not in left(dsn), "those of later, too")
    assert Status(await app.job_manager.get_job_status_async(young)) is Status.CANCELLED


async def test_a_worker_deletes_nothing_unless_told(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruner, "INTERVAL_S", 0.01)
    end_long_ago(dsn, succeeded=1)
    slept = anyio.Event()

    @app.task
    async def sleep() -> None:
        for _ in range(20):
            await anyio.sleep(0.01)
        slept.set()

    async with working(app):
        await sleep.defer_async()
        await slept.wait()
    assert left(dsn)["succeeded"] == 2


async def test_after_how_long_is_in_hours_or_a_timedelta(app: App) -> None:
    assert Worker(app, prune_after=0.5).options.prune_after_s == 1800
    assert Worker(app, prune_after=timedelta(minutes=30)).options.prune_after_s == 1800
    for never in (0, -1, timedelta(0)):
        with pytest.raises(ValueError, match="prune_after="):
            Worker(app, prune_after=never)
