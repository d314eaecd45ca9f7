"""
What must happen to jobs, in plain Python and one thread: the contract as a program.

Written from the promises about dependencies, never from the SQL. It knows no locks, counters or triggers: after each
change `settle` looks at every blocked job until nothing more follows. What the contract leaves open is not modelled.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

RunWhen: TypeAlias = Literal[
    "all_finished", "all_succeeded", "any_succeeded", "any_failed", "all_failed", "none_failed"
]
Status: TypeAlias = Literal["blocked", "todo", "doing", "succeeded", "failed", "cancelled", "aborted"]
CancelKind: TypeAlias = Literal["manual", "upstream", "not_needed"]
# How a job ended; the kind where it was cancelled
End: TypeAlias = tuple[Status, CancelKind | None]

RUN_WHEN: tuple[RunWhen, ...] = (
    "all_finished",
    "all_succeeded",
    "any_succeeded",
    "any_failed",
    "all_failed",
    "none_failed",
)
LIVE: frozenset[Status] = frozenset({"blocked", "todo", "doing"})
TERMINAL: tuple[Status, ...] = ("succeeded", "failed", "cancelled", "aborted")
WAITING: frozenset[Status] = frozenset({"blocked", "todo"})
DELETED_LIVE: End = ("cancelled", "manual")
# fewer than the default of 3, so that jobs get there
MAX_RESCUES = 1

NOT_FOUND = "PD001"
STARTED = "PD002"
CIRCULAR = "PD003"
UNMET = "PD004"
REFUSED = "PD005"
NO_SUCH_JOB = "PD007"
LOST_WORKER = "PD008"
ENQUEUED = "23505"


class RefusedError(Exception):
    """The change is refused and nothing of it happens; `codes`: the SQLSTATEs that say so, any of which will do."""

    def __init__(self, *codes: str) -> None:
        super().__init__(" or ".join(codes))
        self.codes = codes


def unsuccessful(end: End) -> bool:
    status, kind = end
    return status in ("failed", "aborted") or (status == "cancelled" and kind != "not_needed")


def stops_none_failed(end: End) -> bool:
    return end[0] in ("failed", "aborted") or end == ("cancelled", "upstream")


def rule_met(rule: RunWhen, ends: Sequence[End]) -> bool:
    """Does a job run whose parents ended like this?"""
    if not ends:
        return True
    match rule:
        case "all_finished":
            return True
        case "all_succeeded":
            return all(status == "succeeded" for status, _ in ends)
        case "any_succeeded":
            return any(status == "succeeded" for status, _ in ends)
        case "any_failed":
            return any(unsuccessful(end) for end in ends)
        case "all_failed":
            return all(unsuccessful(end) for end in ends)
        case "none_failed":
            return not any(stops_none_failed(end) for end in ends)


def unmet_kind(rule: RunWhen) -> CancelKind:
    return "not_needed" if rule in ("any_failed", "all_failed") else "upstream"


@dataclass
class Job:
    id: int
    run_when: RunWhen = "all_finished"
    queue: str = "a"
    priority: int = 0
    lock: str | None = None
    queueing_lock: str | None = None
    # its scheduled_at lies in the future
    delayed: bool = False
    parents: set[int] = field(default_factory=set)
    deleted_parents: dict[int, End] = field(default_factory=dict)
    workflow: int | None = None
    # its name in its workflow
    node: str | None = None
    # workflows on all jobs of which it depends
    whole: set[int] = field(default_factory=set)

    status: Status = "todo"
    cancel_kind: CancelKind | None = None
    claim: int = 0
    worker: int | None = None
    # since it was deferred or last revived
    claimed: bool = False
    abort_requested: bool = False
    ignores_dependencies: bool = False
    rescues: int = 0

    @property
    def live(self) -> bool:
        return self.status in LIVE

    @property
    def end(self) -> End:
        return self.status, self.cancel_kind

    @property
    def resettable(self) -> bool:
        """Does a retried parent make it wait again?"""
        if self.status == "todo":
            return not self.claimed and not self.ignores_dependencies
        return self.status == "blocked" or (self.status == "cancelled" and self.cancel_kind != "manual")


@dataclass(frozen=True)
class Retry:
    """How a job goes back to todo; None leaves as it is."""

    delayed: bool = False
    priority: int | None = None
    queue: str | None = None
    lock: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What a worker says of the run that it claimed; `todo` asks for another attempt."""

    job_id: int
    claim: int
    status: Status
    retry: Retry = Retry()


class Model:
    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.paused: set[str] = set()
        self.lost_workers: set[int] = set()

    @contextlib.contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        before = copy.deepcopy(vars(self))
        try:
            yield
            self._refuse_conflicts()
        except RefusedError as refused:
            # the database may have come upon them first
            refused.codes += tuple(self.conflicts())
            vars(self).update(before)
            raise

    def _refuse_conflicts(self) -> None:
        if codes := self.conflicts():
            raise RefusedError(*codes)

    def conflicts(self) -> list[str]:
        taken = [job.queueing_lock for job in self.jobs.values() if job.status in WAITING and job.queueing_lock]
        return [ENQUEUED] if len(taken) > len(set(taken)) else []

    # What is

    def children(self, parent: int) -> list[Job]:
        return [job for job in self.jobs.values() if parent in job.parents]

    def has_live_parent(self, job: Job) -> bool:
        return any(self.jobs[parent].live for parent in job.parents)

    def ends(self, job: Job) -> list[End]:
        return [self.jobs[parent].end for parent in job.parents] + list(job.deleted_parents.values())

    def parent_statuses(self, job: Job) -> list[tuple[int, str]]:
        present = [(parent, self.jobs[parent].status) for parent in job.parents]
        return sorted([*present, *((parent, end[0]) for parent, end in job.deleted_parents.items())])

    def descendants(self, job_id: int) -> set[int]:
        found: set[int] = set()
        frontier = [job_id]
        while frontier:
            for child in self.children(frontier.pop()):
                if child.id not in found:
                    found.add(child.id)
                    frontier.append(child.id)
        return found

    def in_line(self, job: Job) -> bool:
        """Past its parents, its schedule and the pause of its queue."""
        return job.status == "todo" and not job.delayed and job.queue not in self.paused

    def startable(self, queues: Iterable[str] | None = None) -> list[int]:
        """What a fetch of these queues (None: all) gives, best first."""
        running = {job.lock for job in self.jobs.values() if job.status == "doing" and job.lock}
        startable: list[Job] = []
        for job in sorted(filter(self.in_line, self.jobs.values()), key=lambda job: (-job.priority, job.id)):
            if job.lock is None:
                startable.append(job)
            elif job.lock not in running:
                # the others of its line wait, whether or not its own queue is asked for
                running.add(job.lock)
                startable.append(job)
        return [job.id for job in startable if queues is None or job.queue in queues]

    # What follows

    def settle(self) -> None:
        """Decides blocked jobs without live parents, and what follows from that, until nothing does."""
        changed = True
        while changed:
            changed = False
            for job in self.jobs.values():
                if job.status == "blocked" and not self.has_live_parent(job):
                    self._decide(job)
                    changed = True

    def _decide(self, job: Job) -> None:
        if rule_met(job.run_when, self.ends(job)):
            job.status = "todo"
        else:
            job.status, job.cancel_kind = "cancelled", unmet_kind(job.run_when)

    # Deferring

    def defer(self, jobs: Sequence[Job], *, missing: bool) -> None:
        """New jobs, parents first. missing: one of them depends on a job that there is not."""
        with self.all_or_nothing():
            for job in jobs:
                job.status = "blocked" if job.parents else "todo"
                self.jobs[job.id] = job
            if missing:
                raise RefusedError(NOT_FOUND, ENQUEUED)
            # A child of ended parents stands in line as one that was deferred just before they ended
            self._refuse_conflicts()
            self.settle()

    # Running

    def fetch(self, queues: Iterable[str] | None, worker: int, most: int) -> list[int]:
        if worker in self.lost_workers:
            raise RefusedError(LOST_WORKER)
        ids = self.startable(queues)[:most]
        for job in map(self.jobs.__getitem__, ids):
            job.status, job.worker, job.claimed = "doing", worker, True
            job.claim += 1
        return ids

    def finish(self, outcomes: Sequence[Outcome], delete_jobs: str = "never") -> list[int]:
        """Returns the stale ones. At most one outcome may ask for a retry of a job with a queueing lock, alone."""
        stale: list[int] = []
        ended: list[int] = []
        for outcome in outcomes:
            job = self.jobs.get(outcome.job_id)
            if job is None or job.status != "doing" or job.claim != outcome.claim:
                stale.append(outcome.job_id)
            elif outcome.status != "todo":
                job.status = outcome.status
                job.cancel_kind = "manual" if outcome.status == "cancelled" else None
                ended.append(job.id)
            elif job.abort_requested:
                job.status = "aborted"
                ended.append(job.id)
            elif not self._requeue(job, outcome.retry):
                ended.append(job.id)
        self.settle()
        self.delete(
            job_id
            for job_id in ended
            if self.jobs[job_id].workflow is None
            and (delete_jobs == "always" or (delete_jobs == "successful" and self.jobs[job_id].status == "succeeded"))
            and not any(child.live for child in self.children(job_id))
        )
        return stale

    def _requeue(self, job: Job, retry: Retry) -> bool:
        """Back to the queue, or failed where its queueing lock was taken meanwhile."""
        if job.queueing_lock and any(
            other.queueing_lock == job.queueing_lock and other.status in WAITING for other in self.jobs.values()
        ):
            job.status = "failed"
            return False
        self._put_back(job, retry)
        return True

    def _put_back(self, job: Job, retry: Retry) -> None:
        job.status = "todo"
        job.delayed = retry.delayed
        job.priority = job.priority if retry.priority is None else retry.priority
        job.queue = retry.queue or job.queue
        job.lock = retry.lock or job.lock

    def rescuable(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.status == "doing" and job.worker in self.lost_workers]

    def rescue(self, job: Job) -> None:
        if job.abort_requested:
            job.status = "aborted"
        elif job.rescues >= MAX_RESCUES:
            job.status = "failed"
        elif self._requeue(job, Retry()):
            job.rescues += 1
        self.settle()

    # By hand

    def cancel(self, job_id: int, *, abort: bool, delete: bool) -> bool:
        job = self.jobs.get(job_id)
        if job is None:
            return False
        if job.status in WAITING:
            if delete:
                self.delete([job_id])
            else:
                job.status, job.cancel_kind = "cancelled", "manual"
                self.settle()
            return True
        if job.status == "doing" and abort:
            job.abort_requested = True
            return True
        return False

    def delete(self, ids: Iterable[int]) -> None:
        """As one statement: any jobs, parents and children mixed."""
        gone = {job_id: self.jobs[job_id] for job_id in ids}
        self.jobs = {job_id: job for job_id, job in self.jobs.items() if job_id not in gone}
        for job in self.jobs.values():
            for parent in job.parents & gone.keys():
                job.deleted_parents[parent] = DELETED_LIVE if gone[parent].live else gone[parent].end
            job.parents -= gone.keys()
        self.settle()

    def prune(self, statuses: Iterable[str]) -> int:
        old = [
            job.id
            for job in self.jobs.values()
            if job.workflow is None
            and not job.live
            and job.status in statuses
            and not any(child.live for child in self.children(job.id))
        ]
        self.delete(old)
        return len(old)

    def set_status(self, ids: Iterable[int], status: Status) -> None:
        """One plain UPDATE."""
        with self.all_or_nothing():
            revived: list[Job] = []
            for job in map(self.jobs.__getitem__, ids):
                if job.status == status:
                    continue
                if status == "todo" and job.status != "blocked":
                    if not job.live:
                        revived.append(job)
                    # else one taken from its worker: it stays claimed
                    job.status = "todo"
                elif job.live and status not in LIVE:
                    job.status = status
                    job.cancel_kind = "manual" if status == "cancelled" else None
                else:
                    raise RefusedError(REFUSED, ENQUEUED)
            self.revive(revived)
            self.settle()

    def retry(
        self, job_id: int, retry: Retry = Retry(), *, reset_dependents: bool = True, ignore_dependencies: bool = False
    ) -> None:
        with self.all_or_nothing():
            job = self.jobs.get(job_id)
            if job is None:
                raise RefusedError(NO_SUCH_JOB)
            if job.status == "doing":
                if job.worker not in self.lost_workers:
                    raise RefusedError(STARTED)
                self._put_back(job, retry)
                return
            if job.status == "todo" or (job.status == "blocked" and not ignore_dependencies):
                raise RefusedError(REFUSED)
            self._put_back(job, retry)
            self.revive([job], reset_dependents=reset_dependents, ignore_dependencies=ignore_dependencies)

    def revive(self, jobs: Sequence[Job], *, reset_dependents: bool = True, ignore_dependencies: bool = False) -> None:
        """Their status is todo already; here is what follows from it."""
        for job in jobs:
            job.cancel_kind = None
            job.claimed = job.abort_requested = False
            job.rescues = 0
            job.ignores_dependencies = ignore_dependencies
        ids = {job.id for job in jobs}
        frontier = [job.id for job in jobs] if reset_dependents else []
        reset: set[int] = set()
        while frontier:
            for child in self.children(frontier.pop()):
                if child.resettable and child.id not in ids | reset:
                    child.status, child.cancel_kind = "blocked", None
                    reset.add(child.id)
                    frontier.append(child.id)
        # last: one of them may hang from another through what was just reset
        for job in jobs:
            if ignore_dependencies:
                continue
            if self.has_live_parent(job):
                job.status = "blocked"
            elif not rule_met(job.run_when, self.ends(job)):
                raise RefusedError(UNMET, ENQUEUED)

    def reschedule(self, ids: Iterable[int], *, delayed: bool) -> None:
        for job_id in ids:
            self.jobs[job_id].delayed = delayed

    # The graph

    def add_dependencies(self, child_id: int, parents: set[int]) -> None:
        with self.all_or_nothing():
            child = self.jobs.get(child_id)
            codes: list[str] = []
            if child is None:
                codes.append(NO_SUCH_JOB)
            elif child.status not in WAITING or (child.status == "todo" and child.claimed):
                codes.append(STARTED)
            if parents - self.jobs.keys():
                codes.append(NOT_FOUND)
            if parents & (self.descendants(child_id) | {child_id}):
                codes.append(CIRCULAR)
            if child is None or codes:
                raise RefusedError(*codes)
            child.parents |= parents
            child.status = "blocked"
            child.ignores_dependencies = False
            self.settle()

    def drop_edges(self, edges: Mapping[int, set[int]]) -> int:
        """Removes these parents (values) of these children (keys), deleted ones too."""
        removed = 0
        for child_id, parents in edges.items():
            child = self.jobs[child_id]
            removed += len(parents & child.parents) + len(parents & child.deleted_parents.keys())
            child.parents -= parents
            child.deleted_parents = {
                parent: end for parent, end in child.deleted_parents.items() if parent not in parents
            }
        self.settle()
        return removed
