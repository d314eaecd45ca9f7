"""
One graph executed by several connections at once, each job ending as was said beforehand.

The ends are fixed for each job, and rules are decided from the ends of all parents: whatever the order, there is only
one final state, and the model knows it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

from psycopg import errors

from tests.model import database, workflow_database
from tests.model.model import Job, Outcome, RunWhen, Status
from tests.model.workflow_model import Workflow, WorkflowModel, WorkflowStatus

LONGEST_WAIT_S = 20.0

BEGUN_TOO_EARLY = """
SELECT d.child_id, d.parent_id
FROM procrastinate_deps.job_dependencies AS d
JOIN procrastinate_deps.jobs AS p ON p.id = d.parent_id
WHERE d.child_id = ANY (%s) AND p.finished_at IS NULL
"""


# A job of the plan by its position; one that a job adds while it runs by its node, "<position> <number>"
Key: TypeAlias = int | str


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
    # a position among the plan's workflows
    workflow: int | None = None
    # positions of workflows on all jobs of which it depends: earlier ones of the plan, and added ones
    whole: frozenset[int] = frozenset()
    # in its first run it adds jobs that end like this to its workflow, as parents of its own children
    grows: tuple[Status, ...] = ()
    # in its first run it cancels this workflow, all jobs of which are after it
    cancels: int | None = None

    @property
    def runs(self) -> int:
        return self.retries + 1


@dataclass(frozen=True)
class Plan:
    jobs: Sequence[PlannedJob]
    # of each workflow the position of the one, earlier, that it is nested in
    workflows: Sequence[int | None] = ()

    def children(self, position: int) -> list[int]:
        return [other for other, job in enumerate(self.jobs) if position in job.after]

    def end_and_retries(self, key: Key) -> tuple[Status, int]:
        if isinstance(key, int):
            return self.jobs[key].end, self.jobs[key].retries
        position, number = map(int, key.split())
        return self.jobs[position].grows[number], 0


@dataclass(frozen=True)
class Ends:
    # how each job ended, and how often it was claimed
    jobs: Mapping[Key, tuple[str, str | None, int]]
    # how each workflow ended, with its counts
    workflows: Sequence[tuple[WorkflowStatus, Mapping[str, int]]]


def added(plan: Plan, key: Key) -> list[tuple[str, Job]]:
    """What a job adds in its first run, by node."""
    if isinstance(key, str):
        return []
    job = plan.jobs[key]
    nodes = [f"{key} {number}" for number in range(len(job.grows))]
    return [(node, Job(id=0, queue=job.queue, node=node)) for node in nodes]


def expected(plan: Plan) -> Ends:
    model = WorkflowModel()
    keys: dict[int, Key] = {position: position for position in range(len(plan.jobs))}
    model.defer_graph(
        [Workflow(id=position, parent=parent) for position, parent in enumerate(plan.workflows)],
        [
            Job(
                id=position,
                run_when=job.run_when,
                queue=job.queue,
                priority=job.priority,
                parents=set(job.after),
                workflow=job.workflow,
                whole=set(job.whole),
            )
            for position, job in enumerate(plan.jobs)
        ],
        {},
    )
    while ids := model.fetch(None, 1, len(model.jobs)):
        for job_id in ids:
            key = keys[job_id]
            for node, job in added(plan, key):
                job.id = max(model.jobs) + 1
                job.workflow = model.jobs[job_id].workflow
                keys[job.id] = node
                model.defer_graph([], [job], {job.id: set(plan.children(job_id))})
            if isinstance(key, int) and (workflow := plan.jobs[key].cancels) is not None:
                model.cancel_workflow(workflow, abort=True)
        model.finish([Outcome(job_id, 1, plan.end_and_retries(keys[job_id])[0]) for job_id in ids])
    return Ends(
        jobs={
            key: (
                model.jobs[job_id].status,
                model.jobs[job_id].cancel_kind,
                (plan.end_and_retries(key)[1] + 1) * model.jobs[job_id].claim,
            )
            for job_id, key in keys.items()
        },
        workflows=[(model.status(each), model.counts(each)) for each in model.workflows],
    )


@dataclass
class Progress:
    """What the workers tell each other: whether it makes sense to look again."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    version: int = 0
    busy: int = 0
    failed: bool = False
    runs: Counter[int] = field(default_factory=Counter)

    def note_failure(self) -> None:
        with self.changed:
            self.failed = True
            self.changed.notify_all()

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
            if at_once or self.failed:
                return not self.failed
            self.changed.wait_for(lambda: self.failed or self.version > seen or self.busy == 0, LONGEST_WAIT_S)
            return self.version > seen and not self.failed


def execute(
    connections: Sequence[database.Connection], plan: Plan, queues: Sequence[Sequence[str] | None]
) -> tuple[Ends, Mapping[Key, int]]:
    """Runs it all; gives how everything ended, and how often each job was run."""
    specs = [
        database.spec(
            Job(id=0, run_when=job.run_when, queue=job.queue, priority=job.priority, lock=job.lock), [], job.after
        )
        | ({} if job.workflow is None else {"workflow": job.workflow})
        | {"after_workflows": sorted(job.whole)}
        for job in plan.jobs
    ]
    if plan.workflows:
        workflows, ids = workflow_database.defer_graph(
            connections[0], [workflow_database.workflow_spec(Workflow(id=0), each) for each in plan.workflows], specs
        )
    else:
        workflows, ids = [], database.defer(connections[0], specs)
    run = Run(plan, ids, workflows)
    with ThreadPoolExecutor(len(connections)) as pool:
        for worker in [
            pool.submit(_work, connection, run, of) for connection, of in zip(connections, queues, strict=True)
        ]:
            worker.result()
    state, violations = database.state(connections[0])
    if violations:
        raise AssertionError(violations)
    keys = run.keys(connections[0], map(int, state))
    listed = workflow_database.listed(connections[0])
    return Ends(
        jobs={keys[int(job_id)]: (job["status"], job["cancel_kind"], job["claim"]) for job_id, job in state.items()},
        workflows=[
            (
                listed[each]["status"],
                {name: listed[each][name] for name in workflow_database.COUNTS if listed[each][name]},
            )
            for each in workflows
        ],
    ), {keys[job_id]: runs for job_id, runs in run.progress.runs.items()}


@dataclass(frozen=True)
class Run:
    plan: Plan
    # of the plan's jobs and workflows, by position
    ids: Sequence[int]
    workflows: Sequence[int]
    progress: Progress = field(default_factory=Progress)

    def keys(self, connection: database.Connection, ids: Iterable[int]) -> dict[int, Key]:
        ids = list(ids)
        positions: dict[int, Key] = {job_id: position for position, job_id in enumerate(self.ids)}
        nodes = {} if positions.keys() >= set(ids) else workflow_database.nodes(connection, ids)
        return {job_id: positions.get(job_id, nodes.get(job_id, "")) for job_id in ids}


def _work(connection: database.Connection, run: Run, queues: Sequence[str] | None) -> None:
    try:
        _work_on(connection, run, queues)
    except BaseException:
        # the others don't wait for what will not come
        run.progress.note_failure()
        raise


def _work_on(connection: database.Connection, run: Run, queues: Sequence[str] | None) -> None:
    worker = database.register_worker(connection)
    progress = run.progress
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
        keys = run.keys(connection, claims)
        outcomes: list[Outcome] = []
        for job_id, claim in claims.items():
            if claim == 1:
                _act(connection, run, job_id, keys[job_id])
            end, retries = run.plan.end_and_retries(keys[job_id])
            outcomes.append(Outcome(job_id, claim, end if claim > retries else "todo"))
        _finish(connection, outcomes)
        if run.workflows:
            _patiently(lambda: workflow_database.fold(connection, None, 100))
        progress.note_finished()


def _act(connection: database.Connection, run: Run, job_id: int, key: Key) -> None:
    """What it does in its first run: it adds jobs, and cancels a workflow."""
    if isinstance(key, str):
        return
    planned = run.plan.jobs[key]
    if planned.grows and planned.workflow is not None:
        children = [run.ids[child] for child in run.plan.children(key)]
        batch = [
            database.spec(job, [], [])
            | {"node": node, "workflow_id": run.workflows[planned.workflow], "before": children}
            for node, job in added(run.plan, key)
        ]
        _patiently(lambda: database.defer(connection, batch))
    if planned.cancels is not None:
        workflow = run.workflows[planned.cancels]
        _patiently(lambda: workflow_database.cancel(connection, workflow, abort=True))


def _patiently(act: Callable[[], object]) -> None:
    """Again after a deadlock, as our own statements are."""
    while True:
        try:
            act()
        except errors.DeadlockDetected:
            continue
        return


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
