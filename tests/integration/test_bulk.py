"""Acts on many jobs at once: cancel_jobs, retry_jobs, delete_jobs, and select_jobs, which finds them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from procrastinate_deps import App, Status, SyncPsycopgConnector
from procrastinate_deps.jobs import JobSpec, Outcome, WorkflowSpec
from procrastinate_deps.statements import JobSelection, fetch_jobs, finish_jobs, register_worker
from procrastinate_deps.times import utc_now
from procrastinate_deps.verbs import bulk
from tests.integration.worker_helpers import query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procrastinate_deps.jobs import Job


@pytest.fixture
def sync_app(dsn: str) -> Iterator[App]:
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        yield app
        assert app.job_manager.check() == []


def defer(app: App, task: str = "t", **options: object) -> int:
    return app.configure_task(task, **options).defer()  # type: ignore[arg-type]


def start(app: App) -> Job:
    worker = app.execute(register_worker("w", "host", 42, None, 1, "1"))
    (job,) = app.execute(fetch_jobs(None, worker, 1))
    return job


def end(app: App, status: str, times: int = 1) -> None:
    for _ in range(times):
        job = start(app)
        outcome = Outcome(job_id=job.id, claim=job.claim, status=status)
        assert app.execute(finish_jobs([outcome], "never", app.json_dumps)) == []


def statuses(app: App) -> dict[int, str]:
    return {job.id: str(job.status) for job in app.job_manager.list_jobs()}


async def test_cancel_by_each_driver(app: App) -> None:
    ids = await app.configure_task("t").batch_defer_async({}, {}, {})
    outcome = await app.job_manager.cancel_jobs_async([ids[2], ids[0], 99])
    assert outcome.cancelled == [ids[0], ids[2]]
    assert "no job 99" in outcome.refused[99]
    assert (await app.job_manager.retry_jobs_async(ids)).retried == [ids[0], ids[2]]
    await app.job_manager.cancel_jobs_async(ids)
    assert (await app.job_manager.delete_jobs_async(ids)).deleted == ids
    assert await app.job_manager.list_jobs_async() == []


# cancel


def test_cancel_settles_children_and_hands_locks_on(sync_app: App) -> None:
    parent = defer(sync_app)
    cut = defer(sync_app, depends_on=parent, run_when="all_succeeded")
    runs = defer(sync_app, depends_on=parent)
    both = defer(sync_app, depends_on=cut)
    outcome = sync_app.job_manager.cancel_jobs([parent, both])
    assert (outcome.cancelled, outcome.refused) == ([parent, both], {})
    assert statuses(sync_app) == {parent: "cancelled", cut: "cancelled", runs: "todo", both: "cancelled"}
    kinds = {job.id: str(job.cancel_kind) for job in sync_app.job_manager.list_jobs(status="cancelled")}
    assert kinds == {parent: "manual", cut: "upstream", both: "manual"}
    assert [each.type for each in sync_app.job_manager.list_events(parent)] == ["cancelled"]


def test_running_and_ended_jobs(sync_app: App) -> None:
    ended, running, waiting = defer(sync_app), defer(sync_app), defer(sync_app)
    end(sync_app, "succeeded")
    start(sync_app)
    outcome = sync_app.job_manager.cancel_jobs([ended, running])
    assert outcome.done == []
    assert outcome.refused[ended] == f"job {ended} has ended: it is succeeded"
    assert "is running" in outcome.refused[running]
    outcome = sync_app.job_manager.cancel_jobs([running, waiting], abort=True)
    assert (outcome.abort_requested, outcome.cancelled) == ([running], [waiting])
    assert sync_app.job_manager.get_job(running).abort_requested
    assert sync_app.job_manager.cancel_jobs([running], abort=True).abort_requested == [running], "told again"
    assert [each.type for each in sync_app.job_manager.list_events(running)] == ["abort_requested"]


def test_the_batches_of_a_large_act(sync_app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)
    ids = sync_app.configure_task("t").batch_defer(*[{}] * 5)
    assert sync_app.job_manager.cancel_jobs([*ids, *ids]).cancelled == ids


# retry


def test_a_parent_and_its_child_are_retried_together(sync_app: App) -> None:
    # the child has the smaller id
    child, parent = defer(sync_app, run_when="all_succeeded"), defer(sync_app)
    sync_app.job_manager.add_dependencies(child, parent)
    end(sync_app, "failed")
    assert statuses(sync_app) == {child: "cancelled", parent: "failed"}
    outcome = sync_app.job_manager.retry_jobs([child, parent])
    assert (outcome.retried, outcome.refused) == ([child, parent], {})
    assert statuses(sync_app) == {child: "blocked", parent: "todo"}


def test_each_refusal_has_its_reason(sync_app: App) -> None:
    parent = defer(sync_app)
    child = defer(sync_app, depends_on=parent, run_when="all_succeeded")
    end(sync_app, "failed")
    todo = defer(sync_app)
    blocked = defer(sync_app, depends_on=todo)
    failed = defer(sync_app, priority=9)
    end(sync_app, "failed")
    running = defer(sync_app, priority=8)
    start(sync_app)
    outcome = sync_app.job_manager.retry_jobs([child, todo, blocked, running, failed, 99])
    assert outcome.retried == [failed]
    assert f"parent {parent} failed" in outcome.refused[child]
    assert "it is todo" in outcome.refused[todo]
    assert "ignore_dependencies" in outcome.refused[blocked]
    assert "running on worker" in outcome.refused[running]
    assert "no job 99" in outcome.refused[99]
    anyway = sync_app.job_manager.retry_jobs([child, blocked], ignore_dependencies=True)
    assert anyway.retried == [child, blocked]
    assert [statuses(sync_app)[each] for each in (child, blocked)] == ["todo", "todo"]


def test_a_taken_queueing_lock_refuses_that_job_alone(sync_app: App) -> None:
    parent = defer(sync_app)
    child = defer(sync_app, depends_on=parent, run_when="all_succeeded")
    first, second = (defer_failed(sync_app, queueing_lock="q") for _ in range(2))
    end(sync_app, "failed")
    outcome = sync_app.job_manager.retry_jobs([parent, child, first, second])
    assert outcome.retried == [parent, child, first]
    assert "queueing lock" in outcome.refused[second]
    assert statuses(sync_app) == {parent: "todo", child: "blocked", first: "todo", second: "failed"}


def test_a_taken_workflow_name_refuses_that_job_alone(sync_app: App) -> None:
    nightly, job = [WorkflowSpec(name="nightly", unique=True)], [JobSpec(task_name="t", workflow=0)]
    other = defer_failed(sync_app)
    [ended] = sync_app.job_manager.defer_graph(nightly, job).job_ids
    end(sync_app, "failed")
    [live] = sync_app.job_manager.defer_graph(nightly, job).job_ids
    outcome = sync_app.job_manager.retry_jobs([ended, other])
    assert outcome.retried == [other]
    assert "'nightly' is live already" in outcome.refused[ended]
    assert statuses(sync_app) == {other: "todo", ended: "failed", live: "todo"}


def test_a_refusal_changes_nothing_of_what_becomes_of_others(sync_app: App) -> None:
    """The child has the smaller id, and the parent's retry lets its rule be met."""
    child, parent = defer(sync_app, run_when="all_succeeded"), defer(sync_app)
    sync_app.job_manager.add_dependencies(child, parent)
    sync_app.job_manager.cancel_job_by_id(child)
    end(sync_app, "failed")
    first, second = (defer_failed(sync_app, queueing_lock="q") for _ in range(2))
    outcome = sync_app.job_manager.retry_jobs([child, parent, first, second])
    assert (outcome.retried, list(outcome.refused)) == ([child, parent, first], [second])
    assert statuses(sync_app)[child] == "blocked"


def test_a_refusal_changes_nothing_for_who_ignores_its_parents(sync_app: App) -> None:
    parent = defer(sync_app)
    child = defer(sync_app, depends_on=parent, run_when="all_succeeded")
    end(sync_app, "failed")
    first, second = (defer_failed(sync_app, queueing_lock="q") for _ in range(2))
    outcome = sync_app.job_manager.retry_jobs([parent, child, first, second], ignore_dependencies=True)
    assert (outcome.retried, list(outcome.refused)) == ([parent, child, first], [second])
    assert statuses(sync_app)[child] == "todo"


@pytest.mark.parametrize("verb", ["retry_jobs", "cancel_jobs", "delete_jobs"])
def test_no_id_at_all_is_passed_by(sync_app: App, dsn: str, verb: str) -> None:
    job = defer_failed(sync_app)
    rows = query(dsn, f"SELECT job_id FROM procrastinate_deps.{verb}(ARRAY[NULL, {job}]::bigint[])")
    assert [row[0] for row in rows] == [job]


def defer_failed(app: App, **options: str) -> int:
    job_id = defer(app, "t", priority=9, **options)
    end(app, "failed")
    return job_id


def test_new_values_and_dependents(sync_app: App) -> None:
    parent = defer(sync_app, lock="l")
    child = defer(sync_app, depends_on=parent)
    end(sync_app, "failed")
    at = utc_now() + timedelta(days=1)
    assert sync_app.job_manager.retry_jobs(
        [parent], at, priority=4, queue="q", lock="k", reset_dependents=False
    ).retried == [parent]
    job = sync_app.job_manager.get_job(parent)
    assert (job.scheduled_at, job.priority, job.queue, job.lock) == (at, 4, "q", "k")
    assert statuses(sync_app)[child] == "todo"


def test_a_job_of_a_lost_worker_is_taken_back(sync_app: App, dsn: str) -> None:
    lost = defer(sync_app, lock="l")
    start(sync_app)
    query(dsn, "UPDATE procrastinate_deps.workers SET heartbeat_at = now() - interval '1 h'")
    assert sync_app.job_manager.retry_jobs([lost]).retried == [lost]
    job = sync_app.job_manager.get_job(lost)
    assert (job.status, job.attempts) == ("todo", 1)


# delete


def test_delete_leaves_what_is_live_or_had_by_an_unfinished_child(sync_app: App) -> None:
    parent, lone = defer(sync_app), defer(sync_app)
    child = defer(sync_app, depends_on=parent)
    end(sync_app, "succeeded", 2)
    outcome = sync_app.job_manager.delete_jobs([parent, lone, child])
    assert outcome.deleted == [lone]
    assert "unfinished child" in outcome.refused[parent]
    assert "it is todo" in outcome.refused[child]
    assert sync_app.job_manager.delete_jobs([parent, child], force=True).deleted == [parent, child]
    assert statuses(sync_app) == {}


def test_a_live_job_deleted_by_force_counts_as_cancelled(sync_app: App) -> None:
    parent = defer(sync_app)
    child = defer(sync_app, depends_on=parent, run_when="all_succeeded")
    sync_app.job_manager.delete_jobs([parent], force=True)
    job = sync_app.job_manager.get_job(child)
    assert (job.status, job.cancel_kind) == ("cancelled", "upstream")


# select


def found(app: App, **filters: object) -> list[int]:
    return app.job_manager.select_jobs(JobSelection(**filters))  # type: ignore[arg-type]


def test_each_filter(sync_app: App, dsn: str) -> None:
    failed = defer(sync_app, "a", queue="q", lock="l")
    end(sync_app, "failed")
    later = defer(sync_app, "a", schedule_in={"days": 1})
    todo = defer(sync_app, "b", queue="q")
    blocked = defer(sync_app, "b", depends_on=todo)
    graph = sync_app.job_manager.defer_graph(
        [WorkflowSpec(name="w"), WorkflowSpec(name="nested", parent=0)],
        [JobSpec(task_name="b", workflow=0), JobSpec(task_name="b", workflow=1)],
    )
    inside = graph.job_ids
    everything = [failed, later, todo, blocked, *inside]
    assert found(sync_app) == everything
    assert found(sync_app, status=Status.FAILED) == [failed]
    assert found(sync_app, status=Status.TODO) == [later, todo, *inside]
    assert found(sync_app, status=Status.BLOCKED) == [blocked]
    assert found(sync_app, status=Status.DOING) == []
    assert found(sync_app, queue="q") == [failed, todo]
    assert found(sync_app, queue="q", status=Status.TODO) == [todo]
    assert found(sync_app, task="a") == [failed, later]
    assert found(sync_app, lock="l") == [failed]
    assert found(sync_app, workflow_id=graph.workflow_ids[0]) == inside
    assert found(sync_app, workflow_id=graph.workflow_ids[0], status=Status.FAILED) == []
    assert found(sync_app, first_id=later, last_id=blocked) == [later, todo, blocked]
    query(dsn, "UPDATE procrastinate_deps.jobs SET finished_at = now() - interval '2 h' WHERE id = %s", failed)
    assert found(sync_app, older_than=utc_now() - timedelta(hours=1)) == [failed]


def test_pages_of_a_selection(sync_app: App) -> None:
    ids = sync_app.configure_task("t").batch_defer(*[{}] * 5)
    select = sync_app.job_manager.select_jobs
    for selection in (JobSelection(), JobSelection(status=Status.TODO)):
        assert select(selection, limit=2) == ids[:2]
        assert select(selection, limit=2, after=ids[1]) == ids[2:4]
    assert sync_app.job_manager.last_job_id() == ids[-1]
