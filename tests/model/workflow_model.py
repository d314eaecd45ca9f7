"""
What must happen to workflows: the model of jobs, with rows that say nothing but which jobs belong together.

Counts, status and the end of a workflow are looked up from the jobs each time: there are no deltas and no folds here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tests.model.model import (
    CIRCULAR,
    ENQUEUED,
    NO_SUCH_JOB,
    NOT_FOUND,
    STARTED,
    WAITING,
    End,
    Job,
    Model,
    RefusedError,
    Retry,
    Status,
    rule_met,
)

RetryMode: TypeAlias = Literal["failed", "failed_and_downstream", "all"]
WorkflowStatus: TypeAlias = Literal["running", "succeeded", "failed", "cancelled"]

RETRY_MODES: tuple[RetryMode, ...] = ("failed", "failed_and_downstream", "all")

NO_SUCH_WORKFLOW = "PD009"
NAME_TAKEN = "PD010"
WAS_CANCELLED = "PD011"


@dataclass
class Workflow:
    id: int
    name: str = "v"
    unique: bool = False
    parent: int | None = None

    cancel_requested: bool = False
    # a job of it was claimed, ever
    started: bool = False


class WorkflowModel(Model):
    def __init__(self) -> None:
        super().__init__()
        self.workflows: dict[int, Workflow] = {}

    # What is

    def path(self, workflow: int | None) -> list[int]:
        """From the root down to itself; what there is not has none."""
        path: list[int] = []
        while workflow is not None and workflow in self.workflows:
            path.insert(0, workflow)
            workflow = self.workflows[workflow].parent
        return path

    def tree(self, workflow: int) -> set[int]:
        return {each for each in self.workflows if workflow in self.path(each)}

    def members(self, workflow: int) -> list[Job]:
        """Its jobs, and those of what is nested in it."""
        tree = self.tree(workflow)
        return [job for job in self.jobs.values() if job.workflow in tree]

    def running(self, workflow: int) -> bool:
        return any(job.live for job in self.members(workflow))

    def counts(self, workflow: int) -> dict[str, int]:
        members = self.members(workflow)
        counts = Counter("total" for _ in members)
        counts.update("cancelled" if job.cancel_kind == "manual" else job.cancel_kind or job.status for job in members)
        return dict(counts)

    def status(self, workflow: int) -> WorkflowStatus:
        ends = [job.end for job in self.members(workflow)]
        if self.running(workflow):
            return "running"
        if self.workflows[workflow].cancel_requested and not (ends and all(map(_is_well, ends))):
            return "cancelled"
        if any(status in ("failed", "aborted") or kind == "upstream" for status, kind in ends):
            return "failed"
        return "cancelled" if ("cancelled", "manual") in ends else "succeeded"

    def conflicts(self, made: Iterable[int] = ()) -> list[str]:
        """made: workflows that were just made, which have their names even if they have no jobs."""
        names = [
            each.name for each in self.workflows.values() if each.unique and (each.id in made or self.running(each.id))
        ]
        return [*super().conflicts(), *([NAME_TAKEN] if len(names) > len(set(names)) else [])]

    def _known(self, workflow: int) -> set[int]:
        if workflow not in self.workflows:
            raise RefusedError(NO_SUCH_WORKFLOW)
        return self.tree(workflow)

    # Deferring

    def defer_graph(
        self,
        workflows: Sequence[Workflow],
        batch: Sequence[Job],
        before: Mapping[int, set[int]],
        *,
        missing: bool = False,
    ) -> None:
        """
        New workflows, outer ones first, and jobs, parents first; `whole` of these names new and existing workflows.

        before: by id of a new job, the existing ones that shall depend on it.
        missing: a new job depends on one that there is not.
        """
        with self.all_or_nothing():
            old = [*self.jobs.values()]
            codes = self._refused_workflows(workflows, batch)
            self.workflows |= {each.id: each for each in workflows}
            for position, job in enumerate(batch):
                if set(self.path(job.workflow)) & job.whole:
                    codes.append(CIRCULAR)
                for workflow in job.whole:
                    tree = self.tree(workflow)
                    job.parents |= {other.id for other in (*old, *batch[:position]) if other.workflow in tree}
                    if any(other.workflow in tree for other in batch[position:]):
                        codes.append(CIRCULAR)
                job.status = "blocked" if job.parents else "todo"
                self.jobs[job.id] = job
            nodes = [(job.workflow, job.node) for job in self.jobs.values() if job.node]
            if len(nodes) > len(set(nodes)):
                codes.append(ENQUEUED)
            if missing:
                codes.append(NOT_FOUND)
            codes += self._join(old, batch, before)
            codes += self.conflicts([each.id for each in workflows])
            if codes:
                raise RefusedError(*codes)
            self.settle()

    def _refused_workflows(self, workflows: Sequence[Workflow], batch: Sequence[Job]) -> list[str]:
        made = {each.id for each in workflows}
        growing = {job.workflow for job in batch if job.workflow is not None} | {
            each.parent for each in workflows if each.parent is not None
        }
        named = growing.union(*(job.whole for job in batch))
        codes: list[str] = []
        if named - made - self.workflows.keys():
            codes.append(NO_SUCH_WORKFLOW)
        if any(self.workflows[each].cancel_requested for each in growing & self.workflows.keys()):
            codes.append(WAS_CANCELLED)
        return codes

    def _join(self, old: Sequence[Job], batch: Sequence[Job], before: Mapping[int, set[int]]) -> list[str]:
        """Existing jobs get new parents: those that are named, and who waits for the whole of a workflow that grows."""
        codes: list[str] = []
        for new in batch:
            named = before.get(new.id, set())
            if named - {job.id for job in old}:
                codes.append(NO_SUCH_JOB)
            path = set(self.path(new.workflow))
            for job in old:
                waits = job.status in WAITING and not (job.status == "todo" and job.claimed)
                if job.id in named and not waits:
                    codes.append(STARTED)
                if job.whole & path and not waits:
                    # it grew without this one, which from now on waits for no whole workflow
                    job.whole = set()
                if job.id in named or job.whole & path:
                    job.parents.add(new.id)
                    job.status = "blocked"
                    job.ignores_dependencies = False
                    if new.id in self.descendants(job.id):
                        codes.append(CIRCULAR)
        return codes

    # Running

    def fetch(self, queues: Iterable[str] | None, worker: int, most: int) -> list[int]:
        ids = super().fetch(queues, worker, most)
        for job_id in ids:
            for workflow in self.path(self.jobs[job_id].workflow):
                self.workflows[workflow].started = True
        return ids

    def drop_edges(self, edges: Mapping[int, set[int]]) -> int:
        for child_id, parents in edges.items():
            child = self.jobs[child_id]
            for parent in parents & child.parents:
                # it does not wait for the whole of that workflow any more
                child.whole -= set(self.path(self.jobs[parent].workflow))
        return super().drop_edges(edges)

    # Operations

    def cancel_workflow(self, workflow: int, *, abort: bool) -> tuple[int, int]:
        """How many were cancelled, and how many were asked to abort."""
        tree = self._known(workflow)
        waiting = [job for job in self.members(workflow) if job.status in WAITING]
        asked = [job for job in self.members(workflow) if abort and job.status == "doing" and not job.abort_requested]
        for job in waiting:
            job.status, job.cancel_kind = "cancelled", "manual"
        for job in asked:
            job.abort_requested = True
        for each in tree:
            self.workflows[each].cancel_requested = True
        self.settle()
        return len(waiting), len(asked)

    def retry_workflow(self, workflow: int, mode: RetryMode) -> int:
        with self.all_or_nothing():
            tree = self._known(workflow)
            chosen = self._to_retry(workflow, mode)
            while hopeless := {job_id for job_id in chosen if not self._may_run(self.jobs[job_id], chosen)}:
                chosen -= hopeless
            for each in tree | set(self.path(workflow)):
                self.workflows[each].cancel_requested = False
            jobs = [self.jobs[job_id] for job_id in sorted(chosen)]
            for job in jobs:
                self._put_back(job, Retry())
            self.revive(jobs)
            return len(jobs)

    def _to_retry(self, workflow: int, mode: RetryMode) -> set[int]:
        members = {job.id: job for job in self.members(workflow)}
        chosen = {
            job.id
            for job in members.values()
            if not job.live
            and (mode == "all" or job.status in ("failed", "aborted") or job.end == ("cancelled", "manual"))
        }
        if mode == "failed_and_downstream":
            frontier = list(chosen)
            while frontier:
                found = {child.id for child in self.children(frontier.pop()) if child.id in members} - chosen
                chosen |= found
                frontier += found
        return {job_id for job_id in chosen if not members[job_id].live}

    def _may_run(self, job: Job, chosen: set[int]) -> bool:
        """Once these run again: it waits for a parent, or its rule is met by how its parents have ended."""
        again = self._run_again(chosen)
        if any(self.jobs[parent].live or parent in again for parent in job.parents):
            return True
        return rule_met(job.run_when, self.ends(job))

    def _run_again(self, chosen: set[int]) -> set[int]:
        """These, and those cancelled by their rule that are decided anew because of them."""
        again = set(chosen)
        frontier = list(chosen)
        while frontier:
            found = {child.id for child in self.children(frontier.pop()) if child.resettable} - again
            again |= found
            frontier += found
        return again

    def delete_workflows(self, workflows: Iterable[int]) -> int:
        """Returns how many jobs went with them."""
        gone: set[int] = set()
        for workflow in workflows:
            gone |= self._known(workflow)
        jobs = [job.id for job in self.jobs.values() if job.workflow in gone]
        self.workflows = {each.id: each for each in self.workflows.values() if each.id not in gone}
        for job in self.jobs.values():
            job.whole -= gone
        self.delete(jobs)
        return len(jobs)

    def prune_all(self, statuses: Iterable[Status], folded_ends: Iterable[int]) -> int:
        """folded_ends: workflows that are known to have ended, as of the last fold of each."""
        statuses = set(statuses)
        ended = [
            workflow
            for workflow in folded_ends
            if self.workflows[workflow].parent is None
            and not self.running(workflow)
            and {job.status for job in self.members(workflow)} <= statuses
            and not any(child.live for job in self.members(workflow) for child in self.children(job.id))
        ]
        return self.prune(statuses) + self.delete_workflows(ended)


def _is_well(end: End) -> bool:
    status, kind = end
    return status == "succeeded" or kind == "not_needed"
