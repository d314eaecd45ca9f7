"""
One graph executed by several connections at once, each job ending as was said beforehand.

The ends are fixed for each job, and rules are decided from the ends of all parents: whatever the order, there is only
one final state, and the model knows it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from psycopg import errors

from tests.model import database
from tests.model.model import CancelKind, Job, Model, Outcome, RunWhen, Status

LONGEST_WAIT_S = 20.0

BEGUN_TOO_EARLY = """
SELECT d.child_id, d.parent_id
FROM procrastinate_deps.job_dependencies AS d
JOIN procrastinate_deps.jobs AS p ON p.id = d.parent_id
WHERE d.child_id = ANY (%s) AND p.finished_at IS NULL
"""


@dataclass(frozen=True)
class PlannedJob:
    run_when: RunWhen
    queue: str
    priority: int
    lock: str | None
    # positions of earlier jobs
    after: frozenset[int]
    # how its runs end: retries, then once for good
    retries: int
    end: Status

    @property
    def runs(self) -> int:
        return self.retries + 1


def expected(plan: Sequence[PlannedJob]) -> list[tuple[Status, CancelKind | None, int]]:
    """How each job ends and how often it runs."""
    model = Model()
    model.defer(
        [
            Job(id=position, run_when=job.run_when, queue=job.queue, priority=job.priority, parents=set(job.after))
            for position, job in enumerate(plan)
        ],
        missing=False,
    )
    while ids := model.fetch(None, 1, len(plan)):
        model.finish([Outcome(job_id, 1, plan[job_id].end) for job_id in ids])
    return [(job.status, job.cancel_kind, plan[job.id].runs * job.claim) for job in model.jobs.values()]


@dataclass
class Progress:
    """What the workers tell each other: whether it makes sense to look again."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    version: int = 0
    busy: int = 0
    runs: Counter[int] = field(default_factory=Counter)

    def seen(self) -> int:
        with self.changed:
            self.busy += 1
            return self.version

    def note_fetched(self, ids: Sequence[int]) -> None:
        with self.changed:
            self.runs.update(ids)

    def note_finished(self) -> None:
        with self.changed:
            self.version += 1
            self.busy -= 1
            self.changed.notify_all()

    def wait_for_news(self, seen: int, *, at_once: bool) -> bool:
        """After a fetch that gave nothing. False: nobody runs anything, so that nothing will come."""
        with self.changed:
            self.busy -= 1
            self.changed.notify_all()
            if at_once:
                return True
            self.changed.wait_for(lambda: self.version > seen or self.busy == 0, LONGEST_WAIT_S)
            return self.version > seen


def execute(
    connections: Sequence[database.Connection], plan: Sequence[PlannedJob], queues: Sequence[Sequence[str] | None]
) -> tuple[list[tuple[str, str | None, int]], Mapping[int, int]]:
    """Runs it all; gives how each job ended with how often it was claimed, and how often each was run."""
    specs = [
        database.spec(
            Job(id=0, run_when=job.run_when, queue=job.queue, priority=job.priority, lock=job.lock), [], job.after
        )
        for job in plan
    ]
    ids = database.defer(connections[0], specs)
    plans = dict(zip(ids, plan, strict=True))
    progress = Progress()
    with ThreadPoolExecutor(len(connections)) as pool:
        for worker in [
            pool.submit(_work, connection, plans, progress, of)
            for connection, of in zip(connections, queues, strict=True)
        ]:
            worker.result()
    state, violations = database.state(connections[0])
    if violations:
        raise AssertionError(violations)
    ends = [
        (state[str(job_id)]["status"], state[str(job_id)]["cancel_kind"], state[str(job_id)]["claim"]) for job_id in ids
    ]
    return ends, {position: progress.runs[job_id] for position, job_id in enumerate(ids)}


def _work(
    connection: database.Connection,
    plans: Mapping[int, PlannedJob],
    progress: Progress,
    queues: Sequence[str] | None,
) -> None:
    worker = database.register_worker(connection)
    while True:
        seen = progress.seen()
        claims = _fetch(connection, queues, worker)
        if not claims:
            # a job that two fetches at once left to each other is there still
            if progress.wait_for_news(seen, at_once=database.next_due(connection, queues) == 0):
                continue
            return
        progress.note_fetched(list(claims))
        too_early = connection.execute(BEGUN_TOO_EARLY, [list(claims)]).fetchall()
        if too_early:
            raise AssertionError(f"begun before a parent had ended: (child, parent) {too_early}")
        outcomes = [
            Outcome(job_id, claim, plans[job_id].end if claim > plans[job_id].retries else "todo")
            for job_id, claim in claims.items()
        ]
        _finish(connection, outcomes)
        progress.note_finished()


def _fetch(connection: database.Connection, queues: Sequence[str] | None, worker: int) -> dict[int, int]:
    """Claims by job id."""
    while True:
        try:
            return dict(
                connection.execute(
                    "SELECT id, claim FROM procrastinate_deps.fetch_jobs(%s::text[], %s, 3)",
                    [None if queues is None else list(queues), worker],
                ).fetchall()
            )
        except errors.DeadlockDetected:
            continue


def _finish(connection: database.Connection, outcomes: Sequence[Outcome]) -> None:
    """As a worker does: again with what somebody held, and with all after a deadlock."""
    left = list(outcomes)
    while left:
        try:
            refused = dict(database.finish(connection, left))
        except (errors.DeadlockDetected, errors.LockNotAvailable):
            continue
        if "stale" in refused.values():
            raise AssertionError(f"nobody else has these claims, but some are stale: {refused}")
        left = [outcome for outcome in left if outcome.job_id in refused]
