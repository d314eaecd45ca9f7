"""What sending a plan asks of the database; nothing is asked before all that can be wrong with the plan was checked."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from procrastinate_deps import statements
from procrastinate_deps.exceptions import InvalidArguments, NodeNotFound, ProcrastinateException
from procrastinate_deps.jsontext import dump, dump_arguments
from procrastinate_deps.verbs.base import Call
from procrastinate_deps.workflows.arranging import Arrangement
from procrastinate_deps.workflows.plan import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from procrastinate_deps.jobs import JobSpec, WorkflowSpec
    from procrastinate_deps.jsontext import JsonDumps
    from procrastinate_deps.statements import Statement
    from procrastinate_deps.verbs.base import Steps
    from procrastinate_deps.workflow_info import DeferredGraph
    from procrastinate_deps.workflows.plan import Plan

logger = logging.getLogger(__name__)


def send(plan: Plan) -> Call[None]:
    """Send what the plan has collected, as one statement; afterwards its nodes and workflows have ids."""

    def steps(json_dumps: JsonDumps) -> Steps[None]:
        if plan.left_by is not None:
            raise ProcrastinateException(
                f"{plan.left_by} was left by an error, so that it may be incomplete: nothing was sent"
            )
        arranged = Arrangement(plan)
        if not arranged.order and not plan.workflows:
            plan.state = State.SENT
            return
        if plan.grown_id is not None and plan.existing:
            yield from _find_existing(plan, plan.grown_id)
        mean_run_s: dict[str, float] = {}
        if plan.by_critical_path:
            mean_run_s = yield statements.mean_run_times(sorted({node.task_name for node in arranged.order}))
        workflows = [each.spec for each in plan.workflows]
        jobs = arranged.job_specs(mean_run_s)
        sent: DeferredGraph = yield _statement(plan, arranged, workflows, jobs, json_dumps)
        plan.state = State.SENT
        for node, job_id in zip(arranged.order, sent.job_ids, strict=True):
            node.was_sent(job_id)
        for workflow, workflow_id in zip(plan.workflows, sent.workflow_ids, strict=True):
            workflow.was_sent(workflow_id)
        _log(plan, sent)

    return Call(steps, plan.connection)


def _find_existing(plan: Plan, workflow_id: int) -> Steps[None]:
    found: dict[str, int] = yield statements.find_nodes(workflow_id, list(plan.existing))
    if missing := [name for name in plan.existing if name not in found]:
        names = ", ".join(map(repr, missing))
        raise NodeNotFound(f"workflow {workflow_id} has no node named {names}: nothing was sent")
    for name, job in plan.existing.items():
        job.was_found(found[name])


def _statement(
    plan: Plan,
    arranged: Arrangement,
    workflows: Sequence[WorkflowSpec],
    jobs: Iterable[JobSpec],
    json_dumps: JsonDumps,
) -> Statement[DeferredGraph]:
    try:
        return statements.defer_graph(workflows, jobs, json_dumps)
    except (TypeError, ValueError, RecursionError) as error:
        for spec in workflows:
            try:
                dump(dict(spec.metadata), json_dumps)
            except (TypeError, ValueError, RecursionError) as its_error:
                message = f"workflow {spec.name!r}: its metadata can't be stored as JSON: {its_error}"
                raise InvalidArguments(message) from its_error
        for node in arranged.order:
            try:
                dump_arguments(node.task_name, node.kwargs, json_dumps)
            except InvalidArguments as its_error:
                raise InvalidArguments(f"{node}, {its_error}") from its_error.__cause__
        raise error from None


def _log(plan: Plan, sent: DeferredGraph) -> None:
    if plan.workflows:
        first = plan.workflows[0]
        logger.info(
            "Deferred workflow %d (%s): %d jobs",
            first.id,
            first.spec.name,
            len(sent.job_ids),
            extra={"action": "workflow_deferred", "workflow_ids": sent.workflow_ids, "jobs": len(sent.job_ids)},
        )
    else:
        logger.info(
            "Workflow %d has grown by %d jobs",
            plan.grown_id,
            len(sent.job_ids),
            extra={"action": "workflow_grown", "workflow_id": plan.grown_id, "job_ids": sent.job_ids},
        )
