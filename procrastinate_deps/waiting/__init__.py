"""Waiting for the end of a job or of a workflow: told by a notification, and looked for from time to time."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NoReturn

from procrastinate_deps import statements
from procrastinate_deps.context import running_job
from procrastinate_deps.exceptions import EndlessWait, JobFailed, JobNotFound, WorkflowNotFound
from procrastinate_deps.jobs import Status
from procrastinate_deps.validation import the_one_job
from procrastinate_deps.waiting.awaiting import Awaiting
from procrastinate_deps.waiting.blocking import Blocking
from procrastinate_deps.waiting.board import Kind, Target, Wait
from procrastinate_deps.workflow_info import WorkflowStatus, check_workflow_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from procrastinate_deps.connectors.pair import ConnectorPair
    from procrastinate_deps.dependencies import HasJobId
    from procrastinate_deps.statements import JobEnd, Statement
    from procrastinate_deps.workflow_info import WorkflowInfo


class Waiting:
    """What waits for an app: all its waits share one connection that listens, those in threads another one."""

    def __init__(self, connectors: ConnectorPair) -> None:
        self._connectors = connectors
        self._awaiting = Awaiting(connectors)
        self._blocking = Blocking(connectors)

    def job(self, job: int | HasJobId, timeout_s: float | None) -> Any:
        _check_timeout(timeout_s)
        target = Target(Kind.JOB, the_one_job(job, "job"))
        self._refuse_endless(target)
        return self._result(_ended(self._blocking.wait(target, timeout_s), timeout_s))

    async def job_async(self, job: int | HasJobId, timeout_s: float | None) -> Any:
        _check_timeout(timeout_s)
        target = Target(Kind.JOB, the_one_job(job, "job"))
        await self._refuse_endless_async(target)
        return self._result(_ended(await self._awaiting.wait(target, timeout_s), timeout_s))

    def workflow(self, workflow_id: int, timeout_s: float | None, raise_on_failure: bool) -> WorkflowInfo:
        _check_timeout(timeout_s)
        target = Target(Kind.WORKFLOW, check_workflow_id(workflow_id))
        self._refuse_endless(target)
        left_s = _countdown(timeout_s)
        while True:
            _ended(self._blocking.wait(target, left_s()), timeout_s)
            info = self._connectors.execute(statements.get_workflow(workflow_id), None)
            if info.status is not WorkflowStatus.RUNNING:  # retried since
                break
        if raise_on_failure and info.status in _UNSUCCESSFUL:
            _raise_failed(info, self._connectors.execute(statements.first_unsuccessful_job(workflow_id), None))
        return info

    async def workflow_async(self, workflow_id: int, timeout_s: float | None, raise_on_failure: bool) -> WorkflowInfo:
        _check_timeout(timeout_s)
        target = Target(Kind.WORKFLOW, check_workflow_id(workflow_id))
        await self._refuse_endless_async(target)
        left_s = _countdown(timeout_s)
        while True:
            _ended(await self._awaiting.wait(target, left_s()), timeout_s)
            info = await self._connectors.execute_async(statements.get_workflow(workflow_id), None)
            if info.status is not WorkflowStatus.RUNNING:  # retried since
                break
        if raise_on_failure and info.status in _UNSUCCESSFUL:
            first = await self._connectors.execute_async(statements.first_unsuccessful_job(workflow_id), None)
            _raise_failed(info, first)
        return info

    def _result(self, wait: Wait) -> Any:
        job_id, end = wait.target.id, wait.seen
        if end.status is not Status.SUCCEEDED:
            raise _failure(job_id, end)
        return statements.read_result(end.result, self._connectors.connector.json_loads)

    def _refuse_endless(self, target: Target) -> None:
        if (question := _would_be_endless(target)) is not None:
            _say_whether_endless(target, self._connectors.execute(question, None))

    async def _refuse_endless_async(self, target: Target) -> None:
        if (question := _would_be_endless(target)) is not None:
            _say_whether_endless(target, await self._connectors.execute_async(question, None))


def _countdown(timeout_s: float | None) -> Callable[[], float | None]:
    """What is left of the time, when it is called."""
    if timeout_s is None:
        return lambda: None
    until = time.monotonic() + timeout_s
    return lambda: max(until - time.monotonic(), 0)


_UNSUCCESSFUL = frozenset({WorkflowStatus.FAILED, WorkflowStatus.CANCELLED})


def _check_timeout(given: object) -> None:
    if given is None:
        return
    if not isinstance(given, (int, float)) or isinstance(given, bool):
        raise TypeError(f"timeout={given!r}: pass seconds, or None to wait for as long as it takes")
    if math.isnan(given):
        raise ValueError(f"timeout={given!r}: pass seconds, or None to wait for as long as it takes")


def _would_be_endless(target: Target) -> Statement[str | None] | None:
    """What to ask before a running job waits; None: no job runs here."""
    job = running_job.get()
    if job is None:
        return None
    job_id, workflow_id = (target.id, None) if target.kind is Kind.JOB else (None, target.id)
    return statements.waits_for_ever(job.id, job.created_at, job_id, workflow_id)


def _say_whether_endless(target: Target, reason: str | None) -> None:
    if reason is not None:
        raise EndlessWait(
            f"to wait for {target} would never end: {reason}. Let a job that depends on it do what comes afterwards"
        )


def _ended(wait: Wait, timeout_s: float | None) -> Wait:
    """The wait, when what was waited for has ended."""
    if wait.error is not None:
        raise wait.error
    if wait.over and wait.seen is None:
        _raise_not_found(wait.target)
    if not wait.over:
        state = f"it is {wait.seen.status}" if wait.looked else "the database could not be asked"
        raise TimeoutError(f"{wait.target} has not ended within {timeout_s:g} s: {state}")
    return wait


def _raise_not_found(target: Target) -> NoReturn:
    why = "it was deleted, perhaps while it was waited for, or never deferred, or its deferral is not committed"
    if target.kind is Kind.JOB:
        raise JobNotFound(f"there is no job {target.id}: {why}", job_id=target.id)
    raise WorkflowNotFound(f"there is no workflow {target.id}: {why}", workflow_id=target.id)


def _failure(job_id: int, end: JobEnd, workflow: WorkflowInfo | None = None) -> JobFailed:
    match end.status:
        case Status.CANCELLED:
            what, why = "was cancelled", end.cancel_reason or end.cancel_kind
        case Status.ABORTED:
            what, why = "was aborted", end.error
        case _:
            what, why = "failed", end.error
    first_line = next(iter((why or "").strip().splitlines()), "")
    message = f"job {job_id} ({end.task_name}) {what}" + (f": {first_line}" if first_line else "")
    if workflow is not None:
        message = f"workflow {workflow.id} ({workflow.name}) has {_ENDED_AS[workflow.status]}: {message}"
    return JobFailed(
        message,
        job_id=job_id,
        status=end.status.value,
        error=end.error,
        cancel_kind=end.cancel_kind,
        reason=end.cancel_reason,
        workflow_id=None if workflow is None else workflow.id,
    )


_ENDED_AS = {WorkflowStatus.FAILED: "failed", WorkflowStatus.CANCELLED: "been cancelled"}


def _raise_failed(workflow: WorkflowInfo, first: tuple[int, JobEnd] | None) -> NoReturn:
    if first is not None:
        raise _failure(*first, workflow)
    raise JobFailed(
        f"workflow {workflow.id} ({workflow.name}) has {_ENDED_AS[workflow.status]}",
        status=workflow.status.value,
        workflow_id=workflow.id,
    )
