"""Each kind of damage is counted, is mended, and then every job runs to its end."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from procrastinate_deps import statements
from procrastinate_deps.invariants import INVARIANTS
from procrastinate_deps.jobs import JobSpec, WorkflowSpec
from tests.integration.worker_helpers import one_shot, query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procrastinate_deps import App

S = "procrastinate_deps"
END = "cancel_kind = NULL, finished_at = now()"
BACK = "cancel_kind = NULL, finished_at = NULL"


@dataclass(frozen=True)
class Damage:
    """What is done with all triggers off, what it breaks (what else it breaks is not asked), how the jobs end then."""

    sql: str
    breaks: tuple[str, ...]
    ends: Mapping[str, str]


# Each job of the graph by its name: first is todo, second waits for it, third for second, join for third and aside;
# w1 and w2 (after w1) are a unique workflow's, whole depends on all of it; held runs with the lock "l", parked1 and
# parked2 wait for it; over has failed, and unmet is cancelled because of it.
GRAPH: dict[str, dict[str, Any]] = {
    "first": {},
    "aside": {},
    "second": {"after": ["first"], "run_when": "all_succeeded"},
    "third": {"after": ["second"], "run_when": "none_failed"},
    "join": {"after": ["third", "aside"]},
    "held": {"lock": "l"},
    "parked1": {"lock": "l"},
    "parked2": {"lock": "l"},
    "over": {},
    "unmet": {"after": ["over"], "run_when": "all_succeeded"},
    "w1": {"workflow": 0},
    "w2": {"workflow": 0, "after": ["w1"], "node": "last"},
    "whole": {"after_workflows": [0]},
}
HEALTHY = dict.fromkeys(GRAPH, "succeeded") | {"over": "failed", "unmet": "cancelled upstream"}

DAMAGES = {
    "counters lost": Damage(
        f"DELETE FROM {S}.job_blocks WHERE job_id IN (:second, :join)", ("a blocked job has counters",), HEALTHY
    ),
    "counters too high": Damage(
        f"UPDATE {S}.job_blocks SET live = live + 1", ("the counters of a blocked job are right",), HEALTHY
    ),
    "counters with an end that never was": Damage(
        f"UPDATE {S}.job_blocks SET failed = 1 WHERE job_id = :third",
        ("the counters of a blocked job are right",),
        HEALTHY,
    ),
    "counters with another rule": Damage(
        f"UPDATE {S}.job_blocks SET run_when = 'all_failed' WHERE job_id = :second",
        ("the counters of a blocked job are right",),
        HEALTHY,
    ),
    "a parent that ended and nobody heard of it": Damage(
        f"UPDATE {S}.jobs SET status = 'succeeded', {END} WHERE id = :first",
        ("a blocked job has a live parent", "the counters of a blocked job are right"),
        HEALTHY,
    ),
    "a parent that failed and nobody heard of it": Damage(
        f"UPDATE {S}.jobs SET status = 'failed', {END} WHERE id = :first",
        ("a blocked job has a live parent", "the counters of a blocked job are right"),
        HEALTHY | {"first": "failed", "second": "cancelled upstream", "third": "cancelled upstream"},
    ),
    "a blocked job that became todo": Damage(
        f"UPDATE {S}.jobs SET status = 'todo' WHERE id = :second; DELETE FROM {S}.job_blocks WHERE job_id = :second",
        ("a todo job that was not claimed has no live parent",),
        HEALTHY,
    ),
    "counters of a job that is not blocked": Damage(
        f"UPDATE {S}.jobs SET status = 'todo' WHERE id = :second",
        ("only a blocked job has counters", "a todo job that was not claimed has no live parent"),
        HEALTHY,
    ),
    "counters of no job": Damage(
        f"INSERT INTO {S}.job_blocks VALUES (999999, 'all_finished', 1, 0, 0, 0, 0)",
        ("counters belong to a job",),
        HEALTHY,
    ),
    "a chain cancelled by its rule while its parent lives": Damage(
        f"UPDATE {S}.jobs SET status = 'cancelled', cancel_kind = 'upstream', cancel_reason = 'no', finished_at = now()"
        f" WHERE id IN (:second, :third); DELETE FROM {S}.job_blocks WHERE job_id IN (:second, :third)",
        ("a job cancelled by its rule has no live parent", "the counters of a blocked job are right"),
        HEALTHY,
    ),
    "a parent that lives again": Damage(
        f"UPDATE {S}.jobs SET status = 'todo', {BACK} WHERE id = :over",
        ("a job cancelled by its rule has no live parent",),
        HEALTHY | {"over": "succeeded", "unmet": "succeeded"},
    ),
    "cancelled as another kind": Damage(
        f"UPDATE {S}.jobs SET cancel_kind = 'not_needed' WHERE id = :unmet",
        ("a job cancelled by its rule has the kind of its rule",),
        HEALTHY,
    ),
    "a parent that is gone without a word": Damage(
        f"DELETE FROM {S}.jobs WHERE id = :first",
        ("an edge joins two jobs", "the counters of a blocked job are right"),
        HEALTHY | {"first": "", "second": "cancelled upstream", "third": "cancelled upstream"},
    ),
    "a child that is gone without a word": Damage(
        f"DELETE FROM {S}.jobs WHERE id = :third",
        ("an edge joins two jobs", "counters belong to a job"),
        HEALTHY | {"third": ""},
    ),
    "a parent on record as deleted that is there": Damage(
        f"DELETE FROM {S}.job_dependencies WHERE child_id = :second;"
        f" INSERT INTO {S}.deleted_parents VALUES (:second, :first, 'failed', NULL, false);"
        f" UPDATE {S}.job_blocks SET live = 0, failed = 1 WHERE job_id = :second",
        ("a deleted parent is gone",),
        HEALTHY,
    ),
    "a deleted parent's record without the child": Damage(
        f"INSERT INTO {S}.deleted_parents VALUES (999999, 888888, 'failed', NULL, false)",
        ("a deleted parent had a child that is there",),
        HEALTHY,
    ),
    "no lock has a holder": Damage(
        f"DELETE FROM {S}.locks",
        ("a running job holds its lock", "a job parked for a lock waits for somebody"),
        HEALTHY,
    ),
    "a waiting job has the lock of the running one": Damage(
        f"UPDATE {S}.locks SET job_id = :parked1",
        ("a running job holds its lock", "a job parked for a lock waits for somebody"),
        HEALTHY,
    ),
    "a job that is not there has a lock": Damage(
        f"UPDATE {S}.locks SET job_id = 999999; DELETE FROM {S}.jobs WHERE id = :held",
        ("who holds a lock runs or may start",),
        HEALTHY | {"held": ""},
    ),
    "an ended job has a lock": Damage(
        f"UPDATE {S}.jobs SET status = 'succeeded', {END} WHERE id = :held",
        ("who holds a lock runs or may start",),
        HEALTHY,
    ),
    "nobody has a lock, and the jobs of it are parked": Damage(
        f"DELETE FROM {S}.locks; UPDATE {S}.jobs SET status = 'succeeded', {END} WHERE id = :held",
        ("a job parked for a lock waits for somebody",),
        HEALTHY,
    ),
    "wrong counts of a workflow": Damage(
        f"UPDATE {S}.workflows SET total = total + 2, blocked = blocked + 1, failed = failed + 1",
        ("the counts of a workflow are those of its jobs",),
        HEALTHY,
    ),
    "ends noted that never were, so that it seems to have finished": Damage(
        f"INSERT INTO {S}.workflow_deltas (workflow_id, blocked, succeeded) SELECT id, -1, 2 FROM {S}.workflows",
        ("the counts of a workflow are those of its jobs",),
        HEALTHY,
    ),
    "the same, and folded": Damage(
        f"INSERT INTO {S}.workflow_deltas (workflow_id, blocked, succeeded) SELECT id, -1, 2 FROM {S}.workflows;"
        f" SELECT {S}.fold_workflows()",
        ("the counts of a workflow are those of its jobs",),
        HEALTHY,
    ),
    "changes of counts of no workflow": Damage(
        f"INSERT INTO {S}.workflow_deltas (workflow_id, total) VALUES (999999, 1)",
        ("changes of counts belong to a workflow",),
        HEALTHY,
    ),
    "a unique workflow that lost its name": Damage(
        f"UPDATE {S}.workflows SET holds_name = false", ("a live unique workflow has its name",), HEALTHY
    ),
    "an edge to a job of a whole workflow lost": Damage(
        f"DELETE FROM {S}.job_dependencies WHERE child_id = :whole AND parent_id = :w2",
        ("a blocked job that depends on a whole workflow waits for each live job of it",),
        HEALTHY,
    ),
    "rows of jobs that are gone": Damage(
        f"INSERT INTO {S}.workflow_dependents SELECT id, 999999 FROM {S}.workflows;"
        f" INSERT INTO {S}.job_progress (job_id, claim, done) VALUES (999999, 1, 1);"
        f" INSERT INTO {S}.job_events (job_id, attempt, type) VALUES (999999, 1, 'retried')",
        ("who depends on a whole workflow is a job", "progress is that of a job", "an event is that of a job"),
        HEALTHY,
    ),
}


async def run(app: App, statement: Any) -> Any:
    return await app.connector.execute_async(statement)  # type: ignore[union-attr]


async def make_graph(app: App) -> dict[str, int]:
    names = list(GRAPH)
    specs = [
        JobSpec(task_name=name, queue=name, **{**options, "after": [names.index(each) for each in options["after"]]})
        if "after" in options
        else JobSpec(task_name=name, queue=name, **options)
        for name, options in GRAPH.items()
    ]
    made = await run(app, statements.defer_graph([WorkflowSpec(name="w", unique=True)], specs))
    jobs = dict(zip(names, made.job_ids, strict=True))
    worker = await run(app, statements.register_worker("w", "host", 1, None, 1, "1"))
    (held,) = await run(app, statements.fetch_jobs(["held"], worker, 1))
    assert held.id == jobs["held"]
    # seen by a fetch: parked behind the one that runs
    assert await run(app, statements.fetch_jobs(["parked1", "parked2"], worker, 2)) == []
    query(app_dsn(app), f"UPDATE {S}.jobs SET status = 'failed' WHERE id = {jobs['over']}")
    assert await app.job_manager.check_async() == []
    return jobs


def app_dsn(app: App) -> str:
    parameters = app.connector.connection_parameters()
    return psycopg.conninfo.make_conninfo(**parameters)


def do_damage(dsn: str, sql: str, jobs: Mapping[str, int]) -> None:
    """By a superuser with all triggers off; `:name` is a job's id."""
    sql = re.sub(r":(\w+)", lambda match: str(jobs[match[1]]), sql)
    with psycopg.connect(dsn) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(sql.encode())


async def ends(app: App, dsn: str, jobs: Mapping[str, int]) -> dict[str, str]:
    """Runs all that is there, but for the lost worker's job, which succeeded: it is ended by hand."""
    query(dsn, f"UPDATE {S}.jobs SET status = 'succeeded' WHERE id = %s AND status = 'doing'", jobs["held"])
    for name in GRAPH:
        app.task(name=name)(lambda: None)
    await one_shot(app, listen_notify=False)
    rows = query(dsn, f"SELECT task_name, concat_ws(' ', status, cancel_kind) FROM {S}.jobs")
    return dict.fromkeys(GRAPH, "") | dict(rows)


@pytest.mark.parametrize("what", DAMAGES)
async def test_damage_is_counted_and_mended(app: App, dsn: str, what: str) -> None:
    damage = DAMAGES[what]
    jobs = await make_graph(app)
    do_damage(dsn, damage.sql, jobs)
    broken = await app.job_manager.check_async()
    assert set(damage.breaks) <= {each.invariant for each in broken}
    assert all(each.jobs >= len(each.examples) > 0 for each in broken)

    repaired = await app.job_manager.repair_async()
    assert {each.invariant for each in repaired} & set(damage.breaks)
    assert await app.job_manager.check_async() == []
    assert await app.job_manager.repair_async() == []

    assert await ends(app, dsn, jobs) == damage.ends
    assert await app.job_manager.check_async() == []
    assert query(dsn, f"SELECT count(*) FROM {S}.locks") == [(0,)]
    assert query(dsn, f"SELECT status FROM {S}.workflow_states") == [("succeeded",)]


async def test_without_damage_everything_runs_as_it_should(app: App, dsn: str) -> None:
    jobs = await make_graph(app)
    assert await app.job_manager.repair_async() == []
    assert await ends(app, dsn, jobs) == HEALTHY


async def test_every_invariant_has_its_damage_and_its_repair(app: App, dsn: str) -> None:
    """What is counted can be mended, and is known to who repairs."""
    source = (Path(__file__).parents[2] / "sql/functions/broken_invariants.sql").read_text()
    assert all(f"SELECT '{invariant}'" in source for invariant in INVARIANTS)
    assert source.count("        SELECT '") == len(INVARIANTS)
    assert {name for damage in DAMAGES.values() for name in damage.breaks} == set(INVARIANTS)
    for invariant in INVARIANTS:
        assert await run(app, statements.repair(invariant, [1, 2])) == []
    with pytest.raises(Exception, match="there is no invariant 'none'"):
        await run(app, statements.repair("none", [1]))


async def test_who_is_at_work_there_is_not_waited_for_long(app: App, dsn: str) -> None:
    """Whatever is held stays broken, without an error, and is mended the next time."""
    jobs = await make_graph(app)
    do_damage(dsn, DAMAGES["counters too high"].sql, jobs)
    with psycopg.connect(dsn) as other:
        other.execute(f"SELECT FROM {S}.jobs WHERE id = {jobs['third']} FOR UPDATE".encode())
        wanted = ("the counters of a blocked job are right", [jobs["second"], jobs["third"]])
        assert query(dsn, f"SELECT {S}.repair(%s, %s, 50)", *wanted) == [([],)]
    assert query(dsn, f"SELECT {S}.repair(%s, %s, 50)", *wanted) == [(wanted[1],)]


async def test_two_running_jobs_of_one_lock_can_not_both_have_it(app: App, dsn: str) -> None:
    jobs = await make_graph(app)
    do_damage(
        dsn,
        f"UPDATE {S}.jobs SET status = 'doing', gate = NULL, claim = 1, started_at = now(), worker_id = 1"
        " WHERE id = :parked1",
        jobs,
    )
    assert [each.examples for each in await app.job_manager.check_async()] == [[jobs["parked1"]]]
    assert await app.job_manager.repair_async() == []
    query(dsn, f"UPDATE {S}.jobs SET status = 'succeeded' WHERE id = %s", jobs["parked1"])
    assert await app.job_manager.check_async() == []
    assert await ends(app, dsn, jobs) == HEALTHY


async def test_a_child_with_a_queueing_lock_that_is_taken_stays_cancelled(app: App, dsn: str) -> None:
    parent = await app.configure_task("t").defer_async()
    child = await app.configure_task("t", depends_on=parent, run_when="all_succeeded", queueing_lock="q").defer_async()
    query(dsn, f"UPDATE {S}.jobs SET status = 'failed' WHERE id = %s", parent)
    other = await app.configure_task("t", queueing_lock="q").defer_async()
    do_damage(dsn, f"UPDATE {S}.jobs SET status = 'todo', {BACK} WHERE id = :parent", {"parent": parent})
    assert await app.job_manager.repair_async() == []
    assert [each.examples for each in await app.job_manager.check_async()] == [[child]]
    await app.job_manager.cancel_job_by_id_async(other)
    assert [each.examples for each in await app.job_manager.repair_async()] == [[child]]
    assert await app.job_manager.get_job_status_async(child) == "blocked"


async def test_one_whose_workflow_has_lost_its_name_stays_cancelled_and_the_others_do_not(app: App, dsn: str) -> None:
    nightly = [WorkflowSpec(name="nightly", unique=True)]
    after = JobSpec(task_name="t", after=[0], run_when="all_succeeded")
    jobs = [JobSpec(task_name="t"), dataclasses.replace(after, workflow=0), after]
    parent, named, unnamed = (await app.job_manager.defer_graph_async(nightly, jobs)).job_ids
    query(dsn, f"UPDATE {S}.jobs SET status = 'failed' WHERE id = %s", parent)
    await app.job_manager.defer_graph_async(nightly, [JobSpec(task_name="t", workflow=0)])
    do_damage(dsn, f"UPDATE {S}.jobs SET status = 'todo', {BACK} WHERE id = :parent", {"parent": parent})
    assert [each.examples for each in await app.job_manager.repair_async()] == [[unnamed]]
    assert await app.job_manager.get_job_status_async(named) == "cancelled"
    assert await app.job_manager.get_job_status_async(unnamed) == "blocked"


async def test_much_damage_is_mended_in_batches(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("procrastinate_deps.verbs.checking.BATCH", 7)
    parent = await app.configure_task("t").defer_async()
    await app.configure_task("t", depends_on=parent).batch_defer_async(*({} for _ in range(40)))
    do_damage(dsn, f"UPDATE {S}.job_blocks SET live = 9", {})
    (counted,) = await app.job_manager.check_async()
    assert (counted.jobs, len(counted.examples)) == (40, 5)
    (mended,) = await app.job_manager.repair_async()
    assert (mended.jobs, mended.examples) == (40, counted.examples)
