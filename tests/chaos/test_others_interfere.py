"""Others take the connections, or leave transactions open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from procrastinate_deps.jobs import JobSpec
from tests.chaos import fire, servers
from tests.chaos.graphs import Node
from tests.chaos.sizes import DRIVERS, acts

if TYPE_CHECKING:
    from tests.chaos.trial import NewTrial, Trial

# A heartbeat that comes late because of them is no reason to run a job twice.
PATIENT = {"stalled_worker_timeout": 20.0}


def nobody_was_lost(made: Trial) -> None:
    """Each attempt that the plan wants is one run, and there is no other."""
    evidence = made.judge()
    assert evidence.count("rescued") == 0
    for job in evidence.job.values():
        ends = [event.type for event in evidence.claim_ends[job.id]]
        # What was given back was fetched to be there early, and never ran.
        assert len(evidence.runs_of[job.id]) == ends.count("attempt_failed") + job.ended_by_run, job


class Hoard:
    """Other users of the server, who take whatever connection is left."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connections: list[psycopg.Connection] = []

    def fill(self) -> None:
        for _ in range(servers.MAX_CONNECTIONS):
            try:
                self._connections.append(psycopg.connect(self._dsn))
            except psycopg.OperationalError as error:
                # No SQLSTATE where connecting failed.
                if "too many clients" not in str(error):
                    raise
                return

    def release(self) -> None:
        while self._connections:
            self._connections.pop().close()


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_server_has_no_connection_left(trial: NewTrial, driver: str) -> None:
    """Who needs one more than it has is refused, and who loses one doesn't get it back, until others let go."""
    made = trial(acts=acts(3), defaults=PATIENT)
    for name in ("a", "b"):
        made.crew.start(name, driver)
    made.crew.wait_until_working()
    hoard = Hoard(made.dsn)

    def act() -> None:
        made.wait_for_row("running jobs", fire.SOMETHING_RUNS)
        before = made.crew.refused()
        hoard.fill()
        while min(now - then for now, then in zip(made.crew.refused(), before, strict=True)) == 0:
            # Whoever was quicker than the others is thrown out again.
            made.query(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
                " WHERE application_name = ANY (%s) AND query LIKE 'LISTEN%%'",
                list(made.crew.hands),
            )
            hoard.fill()
        hoard.release()

    try:
        made.burn(act)
    finally:
        hoard.release()
    nobody_was_lost(made)


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_pool_has_one_connection(trial: NewTrial, driver: str) -> None:
    """Ten jobs at a time defer others and read their parents' ends by the pool that the worker itself uses.

    Plain functions have another one, of one connection too.
    """
    made = trial(acts=2, concurrency=10, defaults=PATIENT)
    for name in ("a", "b"):
        made.crew.start(name, driver, max_size=1)
    made.crew.wait_until_working()

    def act() -> None:
        made.wait_for_row("running jobs", fire.SOMETHING_RUNS)
        ((most,),) = made.query(MOST_CONNECTIONS, list(made.crew.hands))
        # of the pool, of that for plain functions, and one that listens
        assert most <= 3, f"{most} connections"

    made.burn(act)
    nobody_was_lost(made)


def test_a_snapshot_is_held(trial: NewTrial) -> None:
    """Nothing that dies meanwhile can be cleaned up."""
    made = trial(acts=2, defaults=PATIENT)
    made.crew.start("a", "asyncpg")
    made.crew.start("b", "psycopg")
    made.crew.wait_until_working()
    with psycopg.connect(made.dsn) as idle:
        idle.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        idle.execute("SELECT txid_current()")
        assert idle.execute("SELECT count(*) FROM procrastinate_deps.jobs").fetchone() == (0,)
        made.burn(lambda: None)
        made.wait_until_ended()
        assert idle.execute("SELECT count(*) FROM procrastinate_deps.jobs").fetchone() == (0,)
    nobody_was_lost(made)


@pytest.mark.parametrize("how", ["commit", "rollback"])
def test_a_transaction_holds_parents(trial: NewTrial, how: str) -> None:
    """It has deferred a child of jobs that run: their ends wait for it, and nothing else does."""
    made = trial(acts=2, defaults=PATIENT)
    held = [Node(number=-n, kind="held", queue="fast", priority=9) for n in (1, 2, 3)]
    made.nodes = [*held, *made.nodes]
    made.waves = [held, *made.waves]
    made.crew.start("a", "asyncpg")
    made.crew.start("b", "psycopg")
    made.crew.wait_until_working()
    steps = iter(["hold", "nothing", "nothing"])
    with psycopg.connect(made.dsn) as holder:

        def act() -> None:
            if next(steps) == "nothing":
                return
            numbers = [node.number for node in held]
            made.wait_for_row("the parents running", HELD_RUN, numbers, len(held))
            ids = made.ids_of(numbers)
            made.app.job_manager.defer_jobs(
                [JobSpec(task_name="steady_async", task_kwargs={"node": -4, "work_ms": 1}, depends_on=ids)],
                connection=holder,
            )
            with psycopg.connect(made.ledger_dsn, autocommit=True) as ledger:
                ledger.cursor().executemany("INSERT INTO go VALUES (%s)", [(number,) for number in numbers])

        made.burn(act)
        parents = [made.ids[node.number] for node in held]
        made.wait_until_ended(but=parents)
        made.crew.hands["a"].wait_until(lambda: made.crew.count("job_held") > 0, "it didn't say who holds the parents")
        assert made.query("SELECT DISTINCT status::text FROM procrastinate_deps.jobs WHERE id = ANY (%s)", parents) == [
            ("doing",)
        ]
        holder.commit() if how == "commit" else holder.rollback()
    if how == "commit":
        child = Node(number=-4, parents=(-1, -2, -3))
        made.nodes.append(child)
        ((made.ids[-4],),) = made.query("SELECT id FROM procrastinate_deps.jobs WHERE args ->> 'node' = '-4'")
    nobody_was_lost(made)


MOST_CONNECTIONS = """
    SELECT coalesce(max(connections), 0) FROM (
        SELECT count(*) AS connections FROM pg_stat_activity WHERE application_name = ANY (%s) GROUP BY application_name
    ) AS of_each
"""
HELD_RUN = """
    SELECT FROM (
        SELECT count(*) AS running FROM procrastinate_deps.jobs
        WHERE status = 'doing' AND (args ->> 'node')::int = ANY (%s)) AS held
    WHERE running = %s
"""
