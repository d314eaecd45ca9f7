"""The machine of jobs, with workflows: made, grown, cancelled, retried, deleted, pruned, and folded at any moment."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, LiteralString

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.model import database, workflow_database
from tests.model.comparing import placed, placed_id, same_refusal
from tests.model.draws import NewJob, few, flag, new_jobs, pick, rarely, seldom
from tests.model.machine import NEVER, STATUSES, Machine
from tests.model.model import REFUSED, TERMINAL, WAITING, Job, RefusedError, Retry, Status
from tests.model.workflow_database import COUNTS
from tests.model.workflow_model import RETRY_MODES, RetryMode, Workflow, WorkflowModel

MOST_JOBS = 16
MOST_WORKFLOWS = 6

CHANGED_WORKFLOW: LiteralString = """
UPDATE procrastinate_deps.jobs
SET workflow_id = CASE WHEN workflow_id IS NULL THEN (SELECT min(id) FROM procrastinate_deps.workflows) END
WHERE id = %s
"""
CHANGED_NODE: LiteralString = "UPDATE procrastinate_deps.jobs SET node = concat(node, 'x') WHERE id = %s"
CHANGED_COUNT: LiteralString = "UPDATE procrastinate_deps.workflows SET total = total + 1 WHERE id = %s"
CHANGED_END: LiteralString = """
UPDATE procrastinate_deps.workflows
SET finished_at = CASE WHEN finished_at IS NULL THEN now() END
WHERE id = %s
"""
CHANGED_NAME_HELD: LiteralString = """
UPDATE procrastinate_deps.workflows SET is_unique = true, holds_name = NOT holds_name WHERE id = %s
"""


@dataclass(frozen=True)
class NewWorkflow:
    name: str
    unique: bool
    # a pick among the existing ones and the earlier ones of the batch
    nested_in: int | None


@dataclass(frozen=True)
class Place:
    """Of a new job: picks among new and existing workflows, and existing jobs that shall wait for it."""

    workflow: int | None
    node: str | None
    whole: list[int]
    before: list[int]
    # whatever comes of it: mostly a refusal
    anything: bool


new_workflows = st.lists(
    st.builds(
        NewWorkflow,
        name=st.sampled_from(("v", "w")),
        unique=rarely,
        nested_in=st.sampled_from((None, None, None, 0, 1, 2)),
    ),
    min_size=1,
    max_size=2,
)
places = st.builds(
    Place,
    workflow=st.sampled_from((0, 0, 1, 1, 2, 3, None)),
    node=st.sampled_from((None, None, None, None, None, "m", "n")),
    whole=st.sampled_from(([], [], [], [0], [1], [0, 1])),
    before=st.sampled_from(([], [], [], [], [0], [1], [0, 1])),
    anything=seldom,
)
# of few of them is there something that is refused: it would be the whole graph
graph_jobs = st.builds(
    lambda new, keep: new if keep else replace(new, queueing_lock=None, of_a_deleted_one=False), new_jobs, rarely
)
ends: st.SearchStrategy[list[tuple[Status, Retry]]] = st.lists(
    st.tuples(st.sampled_from(("succeeded", "failed", "failed", "aborted", "cancelled")), st.just(Retry())),
    min_size=1,
    max_size=4,
)
placed_jobs = st.lists(st.tuples(graph_jobs, places), min_size=1, max_size=5)


class WorkflowMachine(Machine):
    model: WorkflowModel

    def __init__(self) -> None:
        super().__init__()
        self.model = WorkflowModel()
        self.deleted_workflows: set[int] = set()

    @initialize(batch=st.lists(new_jobs, min_size=1, max_size=3), made=new_workflows, graph=placed_jobs)
    def start(self, batch: list[NewJob], made: list[NewWorkflow], graph: list[tuple[NewJob, Place]]) -> None:
        workflow_database.empty(self.hand)
        super().start(batch)
        self.send(made, graph)

    def some_workflow(self, pick: int, *, living: bool) -> int:
        workflows = list(self.model.workflows)
        running = [workflow for workflow in workflows if self.model.running(workflow)]
        (workflow,) = self.choose([pick], running if living and running else workflows)
        return workflow

    # Deferring

    @precondition(lambda self: len(self.model.jobs) < MOST_JOBS and len(self.model.workflows) < MOST_WORKFLOWS)
    @rule(made=new_workflows, graph=placed_jobs)
    def defer_graph(self, made: list[NewWorkflow], graph: list[tuple[NewJob, Place]]) -> None:
        self.send(made, graph)

    @precondition(lambda self: self.model.workflows and len(self.model.jobs) < MOST_JOBS)
    @rule(graph=placed_jobs)
    def grow(self, graph: list[tuple[NewJob, Place]]) -> None:
        self.send([], graph)

    @precondition(lambda self: any(job.whole and job.status in WAITING for job in self.model.jobs.values()))
    @rule(pick=pick, new=new_jobs, place=places, by_hand=flag)
    def grow_what_is_waited_for(self, pick: int, new: NewJob, place: Place, by_hand: bool) -> None:
        """The workflow that some job depends on the whole of, or one nested in it."""
        awaited = {workflow for job in self.model.jobs.values() if job.status in WAITING for workflow in job.whole}
        nested = set().union(*map(self.model.tree, awaited))
        # what is nested is rare enough
        (workflow,) = self.choose([pick], sorted(nested - awaited or nested))
        place = replace(place, workflow=list(self.model.workflows).index(workflow))
        if by_hand:
            self.insert(new, place)
        else:
            self.send([], [(new, place)])

    @precondition(lambda self: self.model.workflows and len(self.model.jobs) < MOST_JOBS)
    @rule(pick=pick, new=new_jobs, node=st.sampled_from((None, "m", "n")))
    def insert_by_hand(self, pick: int, new: NewJob, node: str | None) -> None:
        self.insert(new, Place(workflow=pick, node=node, whole=[], before=[], anything=False))

    def insert(self, new: NewJob, place: Place) -> None:
        ((job,), _) = self.planned([replace(new, parents=[], after=[], of_a_deleted_one=False)])
        workflows = list(self.model.workflows)
        job.workflow = workflows[(place.workflow or 0) % len(workflows)]
        job.node = place.node
        note(f"INSERT {job}")
        try:
            copy.deepcopy(self.model).defer_graph([], [placed(job, NEVER)], {})
        except RefusedError as refused:
            with same_refusal(refused):
                workflow_database.insert(self.hand, job)
            return
        job_id = workflow_database.insert(self.hand, job)
        self.model.defer_graph([], [placed(job, job_id)], {})

    def send(self, made: list[NewWorkflow], graph: list[tuple[NewJob, Place]]) -> None:
        workflows, workflow_specs = self.planned_workflows(made)
        jobs, specs = self.planned([new for new, _ in graph])
        before = self.put_in_place(workflows, jobs, specs, [place for _, place in graph])
        missing = any(new.of_a_deleted_one for new, _ in graph)
        for spec in [*workflow_specs, *specs]:
            note(f"defer { ({key: value for key, value in spec.items() if value or key == 'workflow'}) }")

        def on_model(model: WorkflowModel, first_workflow: int, first_job: int, *, missing: bool) -> None:
            model.defer_graph(
                [placed_workflow(workflow, first_workflow) for workflow in workflows],
                [placed(job, first_job, first_workflow) for job in jobs],
                {placed_id(job_id, first_job): children for job_id, children in before.items()},
                missing=missing,
            )

        def on_database() -> tuple[list[int], list[int]]:
            if workflows:
                return workflow_database.defer_graph(self.hand, workflow_specs, specs)
            return [], database.defer(self.hand, specs)

        try:
            on_model(copy.deepcopy(self.model), NEVER, NEVER, missing=missing)
        except RefusedError as refused:
            with same_refusal(refused):
                on_database()
            return
        workflow_ids, job_ids = on_database()
        for ids, given in ((workflow_ids, workflows), (job_ids, jobs)):
            expected = list(range(min(ids, default=0), min(ids, default=0) + len(given)))
            assert ids == expected, f"the ids {ids} are not in the order of the batch"
        on_model(self.model, min(workflow_ids, default=0), min(job_ids, default=0), missing=False)

    def put_in_place(
        self, made: Sequence[Workflow], jobs: Sequence[Job], specs: Sequence[dict[str, Any]], where: Sequence[Place]
    ) -> dict[int, set[int]]:
        """Fills in the workflows of jobs; those without an id yet go by their position, negative. Returns `before`."""
        among = [*(workflow.id for workflow in made), *self.model.workflows]
        for job, place in zip(jobs, where, strict=True):
            if place.workflow is not None:
                job.workflow = among[place.workflow % len(among)]
                job.node = place.node
        trial = copy.deepcopy(self.model)
        trial.workflows |= {workflow.id: workflow for workflow in made}
        before: dict[int, set[int]] = {}
        for position, (job, spec, place) in enumerate(zip(jobs, specs, where, strict=True)):
            still_to_come = {workflow for other in jobs[position:] for workflow in trial.path(other.workflow)}
            may_be_whole = [workflow for workflow in among if workflow not in still_to_come]
            job.whole = set(self.choose(place.whole, among if place.anything else may_be_whole))
            waiting = [
                other.id
                for other in self.model.jobs.values()
                if other.status in WAITING and not other.claimed and other.id not in job.parents
            ]
            before[job.id] = set(self.choose(place.before, self.having() if place.anything else waiting))
            if job.workflow is not None:
                spec |= {"workflow_id": job.workflow} if job.workflow > 0 else {"workflow": -job.workflow}
            spec |= {
                "node": job.node,
                "before": sorted(before[job.id]),
                "depends_on_workflows": [workflow for workflow in job.whole if workflow > 0],
                "after_workflows": [-workflow for workflow in job.whole if workflow <= 0],
            }
        return before

    def planned_workflows(self, made: Sequence[NewWorkflow]) -> tuple[list[Workflow], list[dict[str, Any]]]:
        workflows: list[Workflow] = []
        specs: list[dict[str, Any]] = []
        for position, new in enumerate(made):
            among = [*self.model.workflows, *(-earlier for earlier in range(position))]
            parents = [] if new.nested_in is None else self.choose([new.nested_in], among)
            workflow = Workflow(id=-position, name=new.name, unique=new.unique, parent=parents[0] if parents else None)
            earlier = -parents[0] if parents and parents[0] <= 0 else None
            specs.append(workflow_database.workflow_spec(workflow, earlier))
            workflows.append(workflow)
        return workflows, specs

    # By hand

    @precondition(lambda self: self.model.workflows)
    @rule(pick=pick, abort=flag, unknown=seldom, living=flag)
    def cancel_workflow(self, pick: int, abort: bool, unknown: bool, living: bool) -> None:
        self.cancel_one(self.an_unknown_one() if unknown else self.some_workflow(pick, living=living), abort=abort)

    def cancel_one(self, workflow: int, *, abort: bool) -> None:
        self.on_both(
            f"cancel workflow {workflow}, abort={abort}",
            lambda: self.model.cancel_workflow(workflow, abort=abort),
            lambda: workflow_database.cancel(self.hand, workflow, abort=abort),
        )

    @precondition(lambda self: any(job.workflow and job.live for job in self.model.jobs.values()))
    @rule(pick=pick, most=st.integers(1, 4), times=st.integers(1, 2), abort=flag)
    def cancel_what_runs(self, pick: int, most: int, times: int, abort: bool) -> None:
        if self.model.startable():
            self.fetch(0, None, most)
        running = {
            workflow
            for job in self.model.jobs.values()
            if job.status == "doing"
            for workflow in self.model.path(job.workflow)
        }
        for workflow in self.choose([pick], sorted(running)):
            for _ in range(times):
                self.cancel_one(workflow, abort=abort)

    @precondition(lambda self: any(job.workflow and not job.live for job in self.model.jobs.values()))
    @rule(pick=pick, mode=st.sampled_from(RETRY_MODES), unknown=seldom)
    def retry_workflow(self, pick: int, mode: RetryMode, unknown: bool) -> None:
        with_ends = [
            workflow for workflow in self.model.workflows if not all(job.live for job in self.model.members(workflow))
        ]
        (workflow,) = [self.an_unknown_one()] if unknown else self.choose([pick], with_ends)
        self.on_both(
            f"retry workflow {workflow}, {mode}",
            lambda: self.model.retry_workflow(workflow, mode),
            lambda: workflow_database.retry(self.hand, workflow, mode),
        )

    @precondition(lambda self: any(job.workflow and job.live for job in self.model.jobs.values()))
    @rule(pick=pick, modes=st.lists(st.sampled_from(RETRY_MODES), min_size=1, max_size=2), said=ends, cancel=rarely)
    def run_and_retry_workflow(
        self, pick: int, modes: list[RetryMode], said: list[tuple[Status, Retry]], cancel: bool
    ) -> None:
        for each in said:
            if self.model.startable():
                self.fetch_and_finish(0, 3, [each])
        if cancel:
            self.cancel_workflow(pick, abort=True, unknown=False, living=True)
        for mode in modes:
            if any(job.workflow and not job.live for job in self.model.jobs.values()):
                self.retry_workflow(pick, mode, unknown=False)
                self.agree()
                self.agree_on_workflows()

    @precondition(lambda self: len(self.model.workflows) > 1)
    @rule(pick=pick, living=flag, unknown=seldom)
    def delete_workflow(self, pick: int, living: bool, unknown: bool) -> None:
        workflow = self.an_unknown_one() if unknown else self.some_workflow(pick, living=living)
        gone = self.model.tree(workflow)
        self.on_both(
            f"delete workflow {workflow}",
            lambda: self.model.delete_workflows([workflow]),
            lambda: workflow_database.delete(self.hand, workflow),
        )
        self.deleted_workflows |= gone

    @precondition(lambda self: len(self.model.workflows) > 1)
    @rule(picks=few)
    def delete_workflow_rows(self, picks: list[int]) -> None:
        workflows = self.choose(picks, list(self.model.workflows))
        self.deleted_workflows |= set().union(*map(self.model.tree, workflows))
        before = set(self.model.jobs)
        note(f"DELETE workflows {workflows}")
        self.model.delete_workflows(workflows)
        workflow_database.delete_rows(self.hand, workflows)
        self.deleted |= before - set(self.model.jobs)

    @precondition(lambda self: self.having(*TERMINAL))
    @rule(statuses=st.lists(st.sampled_from(TERMINAL), unique=True, min_size=1) | st.just([*TERMINAL]))
    def prune(self, statuses: list[Status]) -> None:
        before = set(self.model.workflows)
        folded_ends = [workflow for workflow, row in workflow_database.rows(self.hand).items() if row["folded_end"]]
        self.on_both(
            f"prune {statuses}, with workflows of {folded_ends}",
            lambda: self.model.prune_all(statuses, folded_ends),
            lambda: database.prune(self.hand, statuses),
        )
        self.deleted_workflows |= before - set(self.model.workflows)

    @precondition(lambda self: any(map(self.model.members, self.model.workflows)))
    @rule(
        pick=pick,
        said=ends,
        # all, or all but one that a job of it has
        kept=st.sampled_from((None, 0, 0, 1)),
        new=new_jobs,
        grow=flag,
    )
    def fold_and_prune(
        self, pick: int, said: list[tuple[Status, Retry]], kept: int | None, new: NewJob, grow: bool
    ) -> None:
        """A workflow that has just ended; of one that runs again after its end was folded nothing is pruned."""
        with_jobs = [workflow for workflow in self.model.workflows if self.model.members(workflow)]
        (workflow,) = self.choose([pick], with_jobs)
        for each in said * 4:
            if self.model.startable() and self.model.running(workflow):
                self.fetch_and_finish(0, 4, [each])
        self.fold_all()
        if grow:
            self.insert(new, Place(list(self.model.workflows).index(workflow), None, [], [], anything=False))
        statuses = sorted({job.status for job in self.model.members(workflow)}, key=["failed", *STATUSES].index)
        left_out = None if kept is None else statuses[kept % len(statuses)]
        self.prune([status for status in TERMINAL if status != left_out])

    @precondition(lambda self: self.model.workflows)
    @rule(picks=st.none() | few, most=st.sampled_from((1, 100)))
    def fold(self, picks: list[int] | None, most: int) -> None:
        """Of these, or of any; agree() then finds the same counts as before."""
        workflows = None if picks is None else self.choose(picks, list(self.model.workflows))
        note(f"fold at most {most} of {'all' if workflows is None else workflows}")
        workflow_database.fold(self.hand, workflows, most)

    @precondition(lambda self: self.model.workflows)
    @rule()
    def fold_all(self) -> None:
        """Whatever ended since the last fold is announced once; nobody else folds here."""
        before = workflow_database.rows(self.hand)
        heard = workflow_database.listen(self.hand)
        note("fold all")
        assert not workflow_database.fold(self.hand, None, 1000), "nobody else folds, but it says so"
        self.hand.execute("UNLISTEN *")
        for workflow, row in workflow_database.rows(self.hand).items():
            counts = self.model.counts(workflow)
            folded = [counts.get(name, 0) for name in COUNTS if name != "doing"]
            running = self.model.running(workflow)
            assert row["unfolded"] == 0, f"of workflow {workflow} {row['unfolded']} changes are not folded"
            assert row["folded"] == folded, f"workflow {workflow} is folded as {row['folded']} instead of {folded}"
            assert row["folded_end"] is not running, f"workflow {workflow} {'runs' if running else 'has ended'}"
            has_name = running and self.model.workflows[workflow].unique
            assert row["holds_name"] is has_name, (
                f"workflow {workflow} should {'' if has_name else 'not '}have its name"
            )
        ended = {workflow: self.model.status(workflow) for workflow in before if not self.model.running(workflow)}
        assert len(heard) == len(dict(heard)), f"announced twice: {heard}"
        assert dict(heard).items() <= ended.items(), f"announced: {heard}, though only {ended} have ended"
        newly = {workflow for workflow in ended if not before[workflow]["folded_end"]}
        assert newly <= dict(heard).keys(), f"announced: {heard}, and of {newly} there is no word"

    @precondition(lambda self: any(job.workflow for job in self.model.jobs.values()))
    @rule(pick=pick, change=st.sampled_from((CHANGED_WORKFLOW, CHANGED_NODE)))
    def change_what_is_fixed_in_a_workflow(self, pick: int, change: LiteralString) -> None:
        with same_refusal(RefusedError(REFUSED)):
            self.hand.execute(change, self.choose([pick], self.having()))

    @precondition(lambda self: self.model.workflows)
    @rule(pick=pick, change=st.sampled_from((CHANGED_COUNT, CHANGED_END, CHANGED_NAME_HELD)))
    def change_a_workflow(self, pick: int, change: LiteralString) -> None:
        with same_refusal(RefusedError(REFUSED)):
            self.hand.execute(change, self.choose([pick], list(self.model.workflows)))

    def an_unknown_one(self) -> int:
        return max(self.deleted_workflows, default=NEVER)

    # What must hold

    @invariant()
    def agree_on_workflows(self) -> None:
        if not self.workers:
            return
        listed = workflow_database.listed(self.hand)
        rows = workflow_database.rows(self.hand)
        assert listed.keys() == self.model.workflows.keys()
        for workflow in self.model.workflows.values():
            given = {**listed[workflow.id], **rows[workflow.id]}
            running = self.model.running(workflow.id)
            counts = self.model.counts(workflow.id)
            expected: dict[str, Any] = {
                **{name: counts.get(name, 0) for name in COUNTS},
                "status": self.model.status(workflow.id),
                "path": self.model.path(workflow.id),
                "parent_id": workflow.parent,
                "name": workflow.name,
                "is_unique": workflow.unique,
                "started": workflow.started,
                "finished": not running,
                "cancel_requested": workflow.cancel_requested,
                "jobs": {str(job.id): job.node for job in self.model.jobs.values() if job.workflow == workflow.id},
                "dependents": sorted(job.id for job in self.model.jobs.values() if workflow.id in job.whole),
            }
            if running:
                # an ended one has its name until it is folded
                expected["holds_name"] = workflow.unique
            for name, value in expected.items():
                assert given[name] == value, (
                    f"{name} of workflow {workflow.id} is {given[name]} instead of {value} ({given}, {counts})"
                )

    def at_the_end(self) -> None:
        super().at_the_end()
        self.fold_all()


def placed_workflow(workflow: Workflow, first: int) -> Workflow:
    parent = None if workflow.parent is None else placed_id(workflow.parent, first)
    return replace(workflow, id=placed_id(workflow.id, first), parent=parent)
