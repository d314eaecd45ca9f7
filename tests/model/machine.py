"""One thing after another to the model and to the database, which must then agree."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, LiteralString

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.model import database
from tests.model.comparing import placed, same_refusal, visible
from tests.model.draws import (
    NewJob,
    fetched_queues,
    few,
    flag,
    new_jobs,
    pick,
    picks,
    priorities,
    queues,
    rarely,
    retries,
    said,
    worker_numbers,
)
from tests.model.model import (
    LIVE,
    MAX_RESCUES,
    TERMINAL,
    WAITING,
    Job,
    Model,
    Outcome,
    RefusedError,
    Retry,
    Status,
)

MOST_JOBS = 14
STATUSES: tuple[Status, ...] = ("blocked", "todo", "doing", "succeeded", "failed", "cancelled", "aborted")
# No job has ever had this id
NEVER = 1_000_000

CHANGED_ID: LiteralString = "UPDATE procrastinate_deps.jobs SET id = id + 1000000 WHERE id = %s"
CHANGED_CLAIM: LiteralString = "UPDATE procrastinate_deps.jobs SET claim = claim + 1 WHERE id = %s"
CHANGED_RULE: LiteralString = """
UPDATE procrastinate_deps.jobs
SET run_when = CASE run_when WHEN 'all_failed' THEN 'any_failed' ELSE 'all_failed' END::procrastinate_deps.run_when
WHERE id = %s
"""
CHANGED_KIND: LiteralString = """
UPDATE procrastinate_deps.jobs
SET cancel_kind = CASE cancel_kind WHEN 'upstream' THEN 'manual' ELSE 'upstream' END::procrastinate_deps.cancel_kind
WHERE id = %s
"""
NEW_EDGE: LiteralString = """
INSERT INTO procrastinate_deps.job_dependencies (child_id, parent_id)
SELECT %s, id FROM procrastinate_deps.jobs LIMIT 1
"""


class Machine(RuleBasedStateMachine):
    """`connections` is set by the test: one per worker, and a last one for what is done by hand."""

    connections: ClassVar[Sequence[database.Connection]]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        *self.workers_connections, self.hand = self.connections
        self.workers: list[int] = []
        # every claim that there was: (job id, claim)
        self.claims: list[tuple[int, int]] = []
        self.deleted: set[int] = set()

    @initialize(batch=st.lists(new_jobs, min_size=2, max_size=7))
    def start(self, batch: list[NewJob]) -> None:
        database.empty(self.hand)
        self.workers = [database.register_worker(connection) for connection in self.workers_connections]
        self.defer(batch)

    def choose(self, picks: Sequence[int], ids: Sequence[int]) -> list[int]:
        return sorted({ids[number % len(ids)] for number in picks}) if ids else []

    def having(self, *statuses: Status) -> list[int]:
        return [job.id for job in self.model.jobs.values() if not statuses or job.status in statuses]

    def on_both(self, what: str, on_model: Callable[[], object], on_database: Callable[[], object]) -> bool:
        """Does it to the model, then to the database: the same result (True), or the same refusal (False)."""
        before = set(self.model.jobs)
        note(what)
        try:
            expected = on_model()
        except RefusedError as refused:
            with same_refusal(refused):
                on_database()
            return False
        given = on_database()
        assert given == expected, f"{what} gave {given} instead of {expected}"
        self.deleted |= before - set(self.model.jobs)
        return True

    # Deferring

    @precondition(lambda self: len(self.model.jobs) < MOST_JOBS)
    @rule(batch=st.lists(new_jobs, min_size=1, max_size=3))
    def defer(self, batch: list[NewJob]) -> None:
        jobs, specs = self.planned(batch)
        missing = any(new.of_a_deleted_one for new in batch)
        try:
            copy.deepcopy(self.model).defer([placed(job, NEVER) for job in jobs], missing=missing)
        except RefusedError as refused:
            with same_refusal(refused):
                database.defer(self.hand, specs)
            return
        ids = database.defer(self.hand, specs)
        assert ids == list(range(ids[0], ids[0] + len(batch)))
        self.model.defer([placed(job, ids[0]) for job in jobs], missing=False)

    def planned(self, batch: Sequence[NewJob]) -> tuple[list[Job], list[dict[str, Any]]]:
        """Ids are given by the database, and used up by a refusal too: until then they are positions, negative."""
        present = self.having()
        specs: list[dict[str, Any]] = []
        jobs: list[Job] = []
        for position, new in enumerate(batch):
            parents = self.choose(new.parents, present)
            after = self.choose(new.after, range(position))
            job = Job(
                id=-position,
                run_when=new.run_when,
                queue=new.queue,
                priority=new.priority,
                lock=new.lock,
                queueing_lock=new.queueing_lock,
                delayed=new.delayed,
                parents={*parents, *(-earlier for earlier in after)},
            )
            gone = [max(self.deleted, default=NEVER)] if new.of_a_deleted_one else []
            specs.append(database.spec(job, [*parents, *gone], after))
            jobs.append(job)
        return jobs, specs

    # Running

    # that a fetch gives nothing where nothing can start is asked after every step
    @precondition(lambda self: self.model.startable())
    @rule(worker=worker_numbers, queues=fetched_queues, most=st.integers(1, 4))
    def fetch(self, worker: int, queues: list[str] | None, most: int) -> None:
        connection = self.workers_connections[worker]
        before = {job.id: job.claim for job in self.model.jobs.values()}
        if not self.on_both(
            f"worker {self.workers[worker]} fetches {most} of {queues}",
            lambda: self.model.fetch(queues, self.workers[worker], most),
            lambda: database.fetch(connection, queues, self.workers[worker], most),
        ):
            self.workers[worker] = database.register_worker(connection)
            return
        fetched = [(job.id, job.claim) for job in self.model.jobs.values() if job.claim > before[job.id]]
        self.claims += fetched
        if len(fetched) < most:
            assert database.next_due(connection, queues) != 0, "a worker would not sleep"

    @precondition(lambda self: self.claims)
    @rule(
        worker=worker_numbers,
        picks=picks,
        said=st.lists(said, min_size=1, max_size=3),
        of_any_claim=rarely,
        delete_jobs=st.sampled_from(("never", "never", "never", "successful", "always")),
    )
    def finish(
        self, worker: int, picks: list[int], said: list[tuple[Status, Retry]], of_any_claim: bool, delete_jobs: str
    ) -> None:
        running = [(job.id, job.claim) for job in self.model.jobs.values() if job.status == "doing"]
        of = running if running and not of_any_claim else self.claims
        chosen = dict(of[number % len(of)] for number in picks)
        together: list[Outcome] = []
        alone: list[list[Outcome]] = []
        for (job_id, claim), (status, retry) in zip(sorted(chosen.items()), said * 4, strict=False):
            job = self.model.jobs.get(job_id)
            # whether its queueing lock is free may depend on which outcome of a call comes first
            if status == "todo" and job is not None and job.queueing_lock:
                alone.append([Outcome(job_id, claim, status, retry)])
            else:
                together.append(Outcome(job_id, claim, status, retry))
        for outcomes in (together, *alone):
            self.finish_together(worker, outcomes, delete_jobs)

    def finish_together(self, worker: int, outcomes: list[Outcome], delete_jobs: str) -> None:
        connection = self.workers_connections[worker]
        late = [replace(outcome, claim=outcome.claim - 1) for outcome in outcomes]
        assert database.finish(connection, late) == [(outcome.job_id, "stale") for outcome in late]
        self.on_both(
            f"finish {outcomes}, delete {delete_jobs}",
            lambda: sorted((job_id, "stale") for job_id in self.model.finish(outcomes, delete_jobs)),
            lambda: sorted(database.finish(connection, outcomes, delete_jobs)),
        )

    @precondition(lambda self: self.model.startable())
    @rule(worker=worker_numbers, most=st.integers(1, 4), said=st.lists(said, min_size=1, max_size=3))
    def fetch_and_finish(self, worker: int, most: int, said: list[tuple[Status, Retry]]) -> None:
        """In one step, so that graphs get somewhere."""
        before = len(self.claims)
        self.fetch(worker, None, most)
        for (job_id, claim), (status, retry) in zip(self.claims[before:], said * 4, strict=False):
            self.finish_together(worker, [Outcome(job_id, claim, status, retry)], "never")

    @precondition(
        lambda self: any(job.queueing_lock and job.status in ("todo", "doing") for job in self.model.jobs.values())
    )
    @rule(worker=worker_numbers, pick=pick, new=new_jobs, retry=retries)
    def retry_when_another_waits(self, worker: int, pick: int, new: NewJob, retry: Retry) -> None:
        """With the same queueing lock, deferred while the job ran."""
        self.fetch(worker, None, 1000)
        running = [job for job in self.model.jobs.values() if job.status == "doing" and job.queueing_lock]
        if not running:
            return
        job = running[pick % len(running)]
        self.defer([replace(new, queueing_lock=job.queueing_lock)])
        self.finish_together(worker, [Outcome(job.id, job.claim, "todo", retry)], "never")

    @precondition(lambda self: self.having("doing"))
    @rule(worker=worker_numbers, unregister=rarely)
    def lose_worker(self, worker: int, unregister: bool) -> None:
        lost = self.workers[worker]
        note(f"worker {lost} is lost")
        if unregister:
            self.hand.execute("SELECT procrastinate_deps.unregister_worker(%s)", [lost])
        else:
            database.lose_worker(self.hand, lost)
        self.model.lost_workers.add(lost)
        self.rescue()

    def rescue(self) -> None:
        # one by one where the order among them may matter
        most = 1 if any(job.queueing_lock for job in self.model.jobs.values()) else 1000
        while True:
            lost = self.model.rescuable()[:most]
            for job in lost:
                self.model.rescue(job)
            note(f"rescue {[job.id for job in lost]}")
            given = database.rescue(self.hand, MAX_RESCUES, most)
            assert given == [(job.id, job.status) for job in lost]
            if not lost:
                return

    # By hand

    @precondition(lambda self: self.model.jobs)
    @rule(pick=pick, abort=flag, delete=rarely, any_status=rarely)
    def cancel(self, pick: int, abort: bool, delete: bool, any_status: bool) -> None:
        live = self.having("blocked", "todo", "doing")
        (job_id,) = self.choose([pick], self.having() if any_status or not live else live)
        self.on_both(
            f"cancel {job_id}, abort={abort}, delete_job={delete}",
            lambda: self.model.cancel(job_id, abort=abort, delete=delete),
            lambda: database.cancel(self.hand, job_id, abort=abort, delete=delete),
        )

    @precondition(lambda self: len(self.model.jobs) > 4)
    @rule(picks=few)
    def delete(self, picks: list[int]) -> None:
        ids = self.choose(picks, self.having())
        self.on_both(f"DELETE {ids}", lambda: self.model.delete(ids), lambda: database.delete(self.hand, ids))

    @precondition(lambda self: len(self.having(*TERMINAL)) > 2)
    @rule(statuses=st.lists(st.sampled_from(TERMINAL), unique=True, min_size=1))
    def prune(self, statuses: list[str]) -> None:
        self.on_both(
            f"prune {statuses}", lambda: self.model.prune(statuses), lambda: database.prune(self.hand, statuses)
        )

    @precondition(lambda self: self.having("blocked", "todo", "doing"))
    @rule(picks=few, status=st.sampled_from(TERMINAL))
    def end_by_update(self, picks: list[int], status: Status) -> None:
        self.set_status(self.choose(picks, self.having("blocked", "todo", "doing", status)), status)

    @precondition(lambda self: self.having("doing", *TERMINAL))
    @rule(picks=picks)
    def put_back_by_update(self, picks: list[int]) -> None:
        self.set_status(self.choose(picks, self.having("doing", *TERMINAL)), "todo")

    @precondition(lambda self: self.model.jobs)
    @rule(picks=few, status=st.sampled_from(STATUSES))
    def set_any_status(self, picks: list[int], status: Status) -> None:
        """Mostly what is refused."""
        self.set_status(self.choose(picks, self.having()), status)

    def set_status(self, ids: list[int], status: Status) -> None:
        # whether a request to abort outlives a job's being put back by hand, nothing promises
        ids = [job_id for job_id in ids if not self.model.jobs[job_id].abort_requested or status != "todo"]
        self.on_both(
            f"UPDATE status = {status} of {ids}",
            lambda: self.model.set_status(ids, status),
            lambda: database.set_status(self.hand, ids, status),
        )

    @precondition(lambda self: self.model.jobs)
    @rule(pick=pick, change=st.sampled_from((CHANGED_ID, CHANGED_CLAIM, CHANGED_RULE, CHANGED_KIND, NEW_EDGE)))
    def change_what_is_fixed(self, pick: int, change: LiteralString) -> None:
        with same_refusal(RefusedError("PD005")):
            self.hand.execute(change, self.choose([pick], self.having()))

    @precondition(lambda self: self.having(*TERMINAL))
    @rule(pick=pick, retry=retries, reset_dependents=flag, ignore_dependencies=rarely, any_status=rarely)
    def retry(
        self, pick: int, retry: Retry, reset_dependents: bool, ignore_dependencies: bool, any_status: bool
    ) -> None:
        (job_id,) = self.choose([pick], self.having() if any_status else self.having(*TERMINAL))
        self.retry_one(job_id, retry, reset_dependents=reset_dependents, ignore_dependencies=ignore_dependencies)

    @precondition(lambda self: self.having("blocked"))
    @rule(pick=pick, retry=retries)
    def run_anyway(self, pick: int, retry: Retry) -> None:
        (job_id,) = self.choose([pick], self.having("blocked"))
        self.retry_one(job_id, retry, reset_dependents=True, ignore_dependencies=True)

    @precondition(lambda self: self.having("doing"))
    @rule(pick=pick, retry=retries)
    def retry_lost(self, pick: int, retry: Retry) -> None:
        """One job by hand, before anybody rescues it and the others of its worker."""
        (job_id,) = self.choose([pick], self.having("doing"))
        job = self.model.jobs[job_id]
        if job.abort_requested or job.worker is None:
            return
        note(f"worker {job.worker} is lost")
        database.lose_worker(self.hand, job.worker)
        self.model.lost_workers.add(job.worker)
        self.retry_one(job_id, retry, reset_dependents=True, ignore_dependencies=False)
        self.rescue()

    def retry_one(self, job_id: int, retry: Retry, *, reset_dependents: bool, ignore_dependencies: bool) -> None:
        self.on_both(
            f"retry {job_id} {retry}, reset_dependents={reset_dependents}, ignore_dependencies={ignore_dependencies}",
            lambda: self.model.retry(
                job_id, retry, reset_dependents=reset_dependents, ignore_dependencies=ignore_dependencies
            ),
            lambda: database.retry(
                self.hand, job_id, retry, reset_dependents=reset_dependents, ignore_dependencies=ignore_dependencies
            ),
        )

    @precondition(lambda self: self.having("blocked", "todo"))
    @rule(picks=picks, delayed=flag)
    def reschedule(self, picks: list[int], delayed: bool) -> None:
        ids = self.choose(picks, self.having("blocked", "todo"))
        self.on_both(
            f"UPDATE scheduled_at of {ids}, delayed={delayed}",
            lambda: self.model.reschedule(ids, delayed=delayed),
            lambda: database.reschedule(self.hand, ids, delayed=delayed),
        )

    @precondition(lambda self: any(job.delayed for job in self.model.jobs.values()))
    @rule()
    def pass_time(self) -> None:
        self.model.reschedule(self.having(), delayed=False)
        database.pass_time(self.hand)

    @precondition(lambda self: self.having("blocked", "todo"))
    @rule(picks=few, priority=priorities)
    def set_priority(self, picks: list[int], priority: int) -> None:
        # what a raised priority means for one that stands in its lock's line already, nothing promises
        ids = self.choose(
            picks,
            [
                job.id
                for job in self.model.jobs.values()
                if job.status in WAITING and (job.lock is None or job.status == "blocked")
            ],
        )
        note(f"UPDATE priority = {priority} of {ids}")
        for job_id in ids:
            self.model.jobs[job_id].priority = priority
        database.set_priority(self.hand, ids, priority)

    @precondition(lambda self: not self.model.paused)
    @rule(queue=queues)
    def pause(self, queue: str) -> None:
        self.model.paused.add(queue)
        assert database.pause(self.hand, queue)
        assert not database.pause(self.hand, queue)

    @precondition(lambda self: self.model.paused)
    @rule()
    def resume(self) -> None:
        queue = self.model.paused.pop()
        assert database.resume(self.hand, queue)
        assert not database.resume(self.hand, queue)

    # The graph

    @precondition(lambda self: len(self.model.jobs) > 1)
    @rule(pick=pick, picks=picks, any_status=rarely)
    def add_dependencies(self, pick: int, picks: list[int], any_status: bool) -> None:
        waiting = [job.id for job in self.model.jobs.values() if job.status in WAITING and not job.claimed]
        (child,) = self.choose([pick], waiting if waiting and not any_status else self.having())
        job = self.model.jobs[child]
        parents = set(self.choose(picks, [job_id for job_id in self.having() if job_id not in job.parents]))
        self.on_both(
            f"add parents {parents} to {child}",
            lambda: self.model.add_dependencies(child, parents),
            lambda: database.add_dependencies(self.hand, child, parents),
        )

    @precondition(lambda self: any(job.parents or job.deleted_parents for job in self.model.jobs.values()))
    @rule(pick=pick, picks=few, deleted=flag)
    def remove_dependencies(self, pick: int, picks: list[int], deleted: bool) -> None:
        jobs = self.model.jobs.values()
        having_deleted = [job.id for job in jobs if job.status == "blocked" and job.deleted_parents]
        having_any = [job.id for job in jobs if job.parents or job.deleted_parents]
        (child,) = self.choose([pick], having_deleted if deleted and having_deleted else having_any)
        job = self.model.jobs[child]
        parents = set(self.choose(picks, sorted([*job.parents, *job.deleted_parents])))
        self.on_both(
            f"remove parents {parents} of {child}",
            lambda: self.model.drop_edges({child: parents}),
            lambda: database.remove_dependencies(self.hand, child, parents),
        )

    @precondition(lambda self: any(job.parents for job in self.model.jobs.values()))
    @rule(picks=few)
    def delete_edges(self, picks: list[int]) -> None:
        edges = [(parent, job.id) for job in self.model.jobs.values() for parent in sorted(job.parents)]
        chosen = sorted({edges[number % len(edges)] for number in picks})
        gone: dict[int, set[int]] = {}
        for parent, child in chosen:
            gone.setdefault(child, set()).add(parent)
        self.on_both(
            f"DELETE edges {chosen}",
            lambda: self.model.drop_edges(gone),
            lambda: database.delete_edges(self.hand, chosen),
        )

    # What must hold

    @invariant()
    def agree(self) -> None:
        if not self.workers:
            return
        given, violations = database.state(self.hand)
        expected = {str(job.id): visible(self.model, job) for job in self.model.jobs.values()}
        for job_id in given.keys() | expected.keys():
            assert given.get(job_id) == expected.get(job_id), (
                f"job {job_id} is {given.get(job_id)} instead of {expected.get(job_id)}"
            )
        assert violations == [], f"violations: {violations}"

    @invariant()
    def agree_on_what_can_start(self) -> None:
        worker = next((worker for worker in self.workers if worker not in self.model.lost_workers), None)
        if worker is None:
            return
        expected = [self.model.startable(queues) for queues in (None, ["a"], ["b"])]
        given = database.startable(self.hand, worker)
        assert given == expected, f"fetches of all queues, of a and of b would give {given} instead of {expected}"
        if expected[0]:
            assert database.next_due(self.hand, None) == 0, f"a worker would sleep, though {expected[0]} could start"

    def teardown(self) -> None:
        if self.workers and sys.exc_info()[0] is None:
            self.at_the_end()

    def at_the_end(self) -> None:
        """Everything that can run does, and nothing is left waiting."""
        for queue in sorted(self.model.paused):
            database.resume(self.hand, queue)
        self.model.paused.clear()
        self.pass_time()
        worker = database.register_worker(self.hand)
        for _ in range(len(self.model.jobs) + 1):
            outcomes = [
                Outcome(job.id, job.claim, "failed" if job.id % 3 == 0 else "succeeded")
                for job in self.model.jobs.values()
                if job.status == "doing"
            ]
            assert database.finish(self.hand, outcomes) == []
            self.model.finish(outcomes)
            self.agree()
            fetched = database.fetch(self.hand, None, worker, 3)
            assert fetched == self.model.fetch(None, worker, 3)
            if not fetched:
                break
        given, _ = database.state(self.hand)
        assert [job_id for job_id, job in given.items() if job["status"] in LIVE] == []
