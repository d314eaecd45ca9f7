"""Several worker processes on one large graph: the whole promise in one run."""

from __future__ import annotations

import contextlib
import random
import signal
from typing import TYPE_CHECKING

from procrastinate_deps import App, SyncPsycopgConnector
from procrastinate_deps.jobs import JobSpec
from tests.integration.worker_helpers import query
from tests.integration.worker_process import EFFECTS, wait_for_row, worker_process

if TYPE_CHECKING:
    from pathlib import Path

PROCESSES = 3
JOBS = 2000
BATCH = 250
MAX_PARENTS = 4
SEED = 20240607


def test_every_job_of_a_graph_runs_once_and_after_its_parents(dsn: str, tmp_path: Path) -> None:
    query(dsn, EFFECTS)
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(worker_process(dsn, tmp_path / f"log{n}", name=f"w{n}", concurrency=5))
            for n in range(PROCESSES)
        ]
        for worker in workers:
            worker.wait_for("starts")
        # Deferred while they run: some parents have ended, some run, some wait.
        edges = _defer_graph(dsn)
        wait_for_row(
            dsn,
            "SELECT 1 WHERE NOT EXISTS"
            " (SELECT FROM procrastinate_deps.jobs WHERE status IN ('blocked', 'todo', 'doing'))",
        )
        for worker in workers:
            worker.send(signal.SIGTERM)
        assert [worker.wait() for worker in workers] == [0] * PROCESSES

    assert query(dsn, "SELECT status::text, count(*) FROM procrastinate_deps.jobs GROUP BY 1") == [("succeeded", JOBS)]
    assert query(dsn, "SELECT what, count(*), count(DISTINCT job_id) FROM effects GROUP BY 1 ORDER BY 1") == [
        ("end", JOBS, JOBS),
        ("start", JOBS, JOBS),
    ]
    early = query(
        dsn,
        "SELECT d.parent_id, d.child_id FROM procrastinate_deps.job_dependencies AS d"
        " JOIN effects AS p ON p.job_id = d.parent_id AND p.what = 'end'"
        " JOIN effects AS c ON c.job_id = d.child_id AND c.what = 'start'"
        " WHERE c.at <= p.at",
    )
    assert early == []
    assert query(dsn, "SELECT count(*) FROM procrastinate_deps.job_dependencies") == [(edges,)]
    assert len(query(dsn, "SELECT DISTINCT pid FROM effects")) == PROCESSES, "some process did nothing"
    for table in ("job_blocks", "locks", "workers"):
        assert query(dsn, f"SELECT count(*) FROM procrastinate_deps.{table}") == [(0,)], table
    # On a machine that is busy otherwise a job that was fetched ahead may be put back: nothing else happened to any.
    assert query(dsn, "SELECT DISTINCT type FROM procrastinate_deps.job_events") in ([], [("requeued",)])


def _defer_graph(dsn: str) -> int:
    """Defer jobs with random parents, of the same batch and of earlier ones; how many edges that makes."""
    chance = random.Random(SEED)
    app = App(connector=SyncPsycopgConnector(conninfo=dsn))
    ids: list[int] = []
    edges = 0
    with app.open():
        while len(ids) < JOBS:
            specs = []
            for position in range(BATCH):
                after = chance.sample(range(position), min(position, chance.randint(0, MAX_PARENTS)))
                before = chance.sample(ids, min(len(ids), chance.randint(0, MAX_PARENTS)))
                edges += len(after) + len(before)
                specs.append(JobSpec(task_name="step", depends_on=before, after=after, priority=chance.randint(0, 2)))
            ids += app.job_manager.defer_jobs(specs)
    return edges
