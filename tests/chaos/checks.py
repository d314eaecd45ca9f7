"""The verdict: what the tables, the ledger and the logs say, held against the plan and the contract.

Each check is a generator of problems, in words; none means that all is well.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from tests.chaos import oracle
from tests.chaos.graphs import Node
from tests.chaos.ledger import Recorded
from tests.chaos.oracle import End
from tests.chaos.tasks import DOOMED_RETRIES, PARTS, PATIENCE_S, TOO_LATE

# Each claim of a job ends by one of these events, or by the job's end.
CLAIM_ENDS = ("attempt_failed", "requeued", "rescued")
# What a worker may log as an error: a task that failed, and that it was taken for lost.
EXPECTED_ERRORS = ("job_error", "worker_lost")


class JobRow(NamedTuple):
    id: int
    task_name: str
    node: int | None
    grower: int | None
    grower_claim: int | None
    status: str
    cancel_kind: str | None
    rule: str
    claim: int
    attempts: int
    rescues: int
    lock: str | None
    finished_at: datetime | None
    result_claim: int | None
    error: str | None

    @property
    def end(self) -> End:
        return self.status, self.cancel_kind

    @property
    def ended_by_run(self) -> bool:
        """Whether its last claim ended it: not who cancelled it, and not what followed from a rescue or a retry."""
        by_others = ("WorkerLost", "AlreadyEnqueued")
        return self.status in ("succeeded", "failed", "aborted") and not (self.error or "").startswith(by_others)

    def __str__(self) -> str:
        return f"job {self.id} ({self.task_name}, node {self.node}, {self.status})"


class Event(NamedTuple):
    job_id: int
    type: str
    at: datetime
    worker_id: int


@dataclass
class Evidence:
    nodes: Sequence[Node]
    ids: Mapping[int, int]
    schedules: Mapping[int, datetime]
    cancels: Mapping[int, bool | None]
    killed: set[int]
    loses_answers: bool
    jobs: list[tuple[Any, ...]]
    edges: list[tuple[Any, ...]]
    events: list[tuple[Any, ...]]
    violations: list[tuple[Any, ...]]
    left_over: list[tuple[Any, ...]]
    runs: list[Recorded]
    logs: Mapping[str, list[dict[str, Any]]]

    JOBS: ClassVar[str] = """
        SELECT id, task_name, (args ->> 'node')::int, (args ->> 'grower')::bigint, (args ->> 'claim')::bigint,
            status::text, cancel_kind::text, run_when::text, claim, attempts, rescues, lock, finished_at,
            (result ->> 'claim')::bigint, error
        FROM procrastinate_deps.jobs ORDER BY id
    """
    EVENTS: ClassVar[str] = "SELECT job_id, type, at, worker_id FROM procrastinate_deps.job_events ORDER BY id"
    LEFT_OVER: ClassVar[str] = """
        SELECT 'lock', lock FROM procrastinate_deps.locks
        UNION ALL SELECT 'block', job_id::text FROM procrastinate_deps.job_blocks
    """

    @cached_property
    def job(self) -> dict[int, JobRow]:
        return {row[0]: JobRow(*row) for row in self.jobs}

    @cached_property
    def parents(self) -> dict[int, list[int]]:
        found = collections.defaultdict(list)
        for parent, child in self.edges:
            found[child].append(parent)
        return found

    @cached_property
    def claim_ends(self) -> dict[int, list[Event]]:
        """How the first claim of each job ended, the second one, and so on; the one that ended the job is not there."""
        found = collections.defaultdict(list)
        for row in self.events:
            if row[1] in CLAIM_ENDS:
                found[row[0]].append(Event(*row))
        return found

    @cached_property
    def runs_of(self) -> dict[int, list[Recorded]]:
        found = collections.defaultdict(list)
        for run in self.runs:
            found[run.job_id].append(run)
        return found

    def end_of_claim(self, job: JobRow, claim: int) -> Event | None:
        """None: it ended with the job."""
        events = self.claim_ends[job.id]
        return events[claim - 1] if claim <= len(events) else None

    @cached_property
    def lost_workers(self) -> set[int]:
        """Those that the scenario killed, and those that say themselves that they were lost."""
        said = {
            record["worker_id"]
            for records in self.logs.values()
            for record in records
            if record.get("action") == "worker_lost"
        }
        return self.killed | said

    def summary(self) -> str:
        statuses = collections.Counter(job.status for job in self.job.values())
        events = collections.Counter(row[1] for row in self.events)
        return (
            f"{len(self.jobs)} jobs, {len(self.edges)} edges, {len(self.runs)} runs; {dict(statuses)}; {dict(events)}"
        )

    def count(self, event_type: str) -> int:
        return sum(row[1] == event_type for row in self.events)


def problems(evidence: Evidence) -> list[str]:
    return [problem for check in CHECKS for problem in check(evidence)]


def invariants_hold(evidence: Evidence) -> Iterator[str]:
    for row in evidence.violations:
        yield f"violated: {row}"
    for row in evidence.left_over:
        yield f"left over: {row}"


def graph_is_there(evidence: Evidence) -> Iterator[str]:
    for node in evidence.nodes:
        job = evidence.job.get(evidence.ids[node.number])
        if job is None:
            yield f"node {node.number} has no job"
            continue
        wanted = {evidence.ids[parent] for parent in node.parents}
        there = set(evidence.parents[job.id])
        grown = {id_ for id_ in there - wanted if evidence.job[id_].task_name == "part"}
        if there - grown != wanted or (grown and node.kind != "join"):
            yield f"{job} has the parents {sorted(there)}, not {sorted(wanted)}"


def ends_are_right(evidence: Evidence) -> Iterator[str]:
    nodes = {node.number: node for node in evidence.nodes}
    for job in evidence.job.values():
        if job.status not in oracle.TERMINAL:
            yield f"{job} is not terminal"
            continue
        node = None if job.node is None else nodes[job.node]
        cancelled = evidence.cancels.get(job.node, False) if job.node is not None else False
        parents = [evidence.job[id_].end for id_ in evidence.parents[job.id]]
        if cancelled:
            expected = [oracle.MANUAL]
        elif not oracle.runs(job.rule, parents):
            expected = [oracle.cancelled_as(job.rule)]
        else:
            expected = [oracle.FAILED if node is not None and node.kind == "doomed" else oracle.SUCCEEDED]
        if cancelled is None:
            expected.append(oracle.MANUAL)
        if job.task_name == "ping" and (job.error or "").startswith("AlreadyEnqueued") and evidence.claim_ends[job.id]:
            expected = [oracle.FAILED]  # it could not go back to its queue, where the next one waited already
        if job.end not in expected:
            yield f"{job} ended as {job.end}, not {expected}; {job.rule} of {parents}; {(job.error or '')[:200]}"


def claims_are_explained(evidence: Evidence) -> Iterator[str]:
    nodes = {node.number: node for node in evidence.nodes}
    for job in evidence.job.values():
        ends = [event.type for event in evidence.claim_ends[job.id]]
        if job.claim != len(ends) + job.ended_by_run:
            yield f"{job} was claimed {job.claim} times, but its claims ended as {ends} + {int(job.ended_by_run)}"
        counted = len(ends) - ends.count("requeued") + job.ended_by_run
        if job.attempts != counted:
            yield f"{job} counts {job.attempts} attempts, its claims {counted}: {ends}"
        node = None if job.node is None else nodes[job.node]
        planned = 0 if node is None else DOOMED_RETRIES if node.kind == "doomed" else node.failures
        if ends.count("attempt_failed") > planned:
            yield f"{job} was to fail {planned} times and be retried, but: {ends}"
        if job.end in (oracle.UPSTREAM, oracle.NOT_NEEDED) and job.claim:
            yield f"{job} was cancelled by its rule, but claimed {job.claim} times"
        if job.status == "succeeded" and job.result_claim != job.claim:
            yield f"{job} has the result of claim {job.result_claim}, but was ended by claim {job.claim}"


def losses_are_explained(evidence: Evidence) -> Iterator[str]:
    for row in evidence.events:
        event = Event(*row)
        if event.type == "rescued" and event.worker_id not in evidence.lost_workers:
            yield (
                f"job {event.job_id} was taken back from worker {event.worker_id}, which nobody killed, and which "
                f"doesn't say that it was lost; killed were {sorted(evidence.killed)}"
            )


def runs_are_explained(evidence: Evidence) -> Iterator[str]:
    for (job_id, claim), count in collections.Counter((run.job_id, run.claim) for run in evidence.runs).items():
        if count > 1:
            yield f"job {job_id} ran {count} times under claim {claim}"
    for job in evidence.job.values():
        recorded = {run.claim: run for run in evidence.runs_of[job.id]}
        for claim in range(1, job.claim + 1):
            event, run = evidence.end_of_claim(job, claim), recorded.pop(claim, None)
            how = job.status if event is None else event.type
            if how == "requeued" and run is not None:
                yield f"{job} was given back by claim {claim}, which ran it: {run}"
            if how in ("rescued", "requeued"):
                continue
            if run is None or run.ended_at is None:
                yield f"{job}: claim {claim} ended as {how}, but its effect is not recorded: {run}"
            elif run.outcome != ("failed" if how == "attempt_failed" else how):
                yield f"{job}: claim {claim} ended as {how}, but recorded {run.outcome}"
        for run in recorded.values():
            yield f"{job} ran under a claim that it never had: {run}"


def order_is_kept(evidence: Evidence) -> Iterator[str]:
    scheduled = {evidence.ids[number]: at for number, at in evidence.schedules.items()}
    for job in evidence.job.values():
        runs = sorted(evidence.runs_of[job.id], key=lambda run: run.claim)
        if not runs:
            continue
        start = min(run.started_at for run in runs)
        for parent in (evidence.job[id_] for id_ in evidence.parents[job.id]):
            ends = [run.ended_at for run in evidence.runs_of[parent.id] if run.claim == parent.claim]
            for end in (*ends, parent.finished_at):
                if end is not None and start <= end:
                    yield f"{job} started at {start}, before the end of its parent {parent} at {end}"
        if job.id in scheduled and start < scheduled[job.id]:
            yield f"{job} started at {start}, but was scheduled at {scheduled[job.id]}"
        if job.task_name.startswith("patient"):
            yield from _waits_are_kept(evidence, job, runs)


def _waits_are_kept(evidence: Evidence, job: JobRow, runs: list[Recorded]) -> Iterator[str]:
    for before, after in itertools.pairwise(runs):
        event = evidence.end_of_claim(job, before.claim)
        if (
            before.ended_at is None
            or event is None
            or event.type != "attempt_failed"
            or after.claim != before.claim + 1
        ):
            continue
        waited = after.started_at - before.ended_at
        if waited < timedelta(seconds=PATIENCE_S):
            yield f"{job} was retried after {waited}, not after {PATIENCE_S} s"


def parents_were_seen(evidence: Evidence) -> Iterator[str]:
    for run in evidence.runs:
        truth = {id_: evidence.job[id_].status for id_ in evidence.parents[run.job_id]}
        if run.parents is not None and run.parents != truth:
            yield f"{evidence.job[run.job_id]} saw its parents as {run.parents}, but they are {truth}"


def locks_are_exclusive(evidence: Evidence) -> Iterator[str]:
    """
    No two runs of a lock overlap. A claim has its lock until it ends, or is taken back: what a worker that was given up
    does from then on (it runs until it notices) is nobody's, so that such a run counts until its rescue only.
    """
    held = collections.defaultdict(list)
    for run in evidence.runs:
        job = evidence.job[run.job_id]
        if job.lock is None:
            continue
        event = evidence.end_of_claim(job, run.claim)
        end = run.ended_at
        if event is not None and event.type == "rescued":
            end = event.at if end is None else min(end, event.at)
        if end is not None and end > run.started_at:
            held[job.lock].append((run.started_at, end, run))
    for lock, intervals in held.items():
        intervals.sort(key=lambda each: each[0])
        for (_, end, one), (start, _, other) in itertools.pairwise(intervals):
            if start < end:
                yield f"{lock!r}: claim {one.claim} of job {one.job_id} ran until {end}, while {other} started"


def growth_is_there(evidence: Evidence) -> Iterator[str]:
    parts = collections.Counter((job.grower, job.grower_claim) for job in evidence.job.values() if job.grower)
    for (grower_id, claim), count in parts.items():
        if count > PARTS and not evidence.loses_answers:
            yield f"claim {claim} of grower {grower_id} has {count} parts, not {PARTS}"
    for node in evidence.nodes:
        if node.kind != "join":
            continue
        (grower_number,) = node.parents
        grower = evidence.job[evidence.ids[grower_number]]
        if grower.status != "succeeded":
            continue
        waited_for = [evidence.job[id_] for id_ in evidence.parents[evidence.ids[node.number]]]
        mine = [each for each in waited_for if each.grower == grower.id and each.grower_claim == grower.claim]
        if len(mine) < PARTS:
            yield f"node {node.number} waited for {len(mine)} parts that claim {grower.claim} of {grower} deferred"
    for run in evidence.runs:
        event = evidence.end_of_claim(evidence.job[run.job_id], run.claim)
        if TOO_LATE in run.notes and (event is None or event.type != "rescued"):
            yield f"{run} could not add parents to its own child, though its claim was its own"


def logs_are_clean(evidence: Evidence) -> Iterator[str]:
    for name, records in evidence.logs.items():
        for record in records:
            if "action" not in record and "level" not in record:
                yield f"{name}: not logged, but printed: {record['message']}"
            elif record["level"] in ("error", "critical") and record.get("action") not in EXPECTED_ERRORS:
                yield f"{name}: {record['level']}: {record['message'][:300]}"


CHECKS = [
    invariants_hold,
    graph_is_there,
    ends_are_right,
    claims_are_explained,
    losses_are_explained,
    runs_are_explained,
    order_is_kept,
    parents_were_seen,
    locks_are_exclusive,
    growth_is_there,
    logs_are_clean,
]
