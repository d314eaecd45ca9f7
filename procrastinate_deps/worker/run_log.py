"""What the log says of jobs that run."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from procrastinate_deps.jobs import Status
from procrastinate_deps.worker.outcomes import Raised, Unrunnable

if TYPE_CHECKING:
    from procrastinate_deps.jobs import Job, Outcome
    from procrastinate_deps.worker.outcomes import End
    from procrastinate_deps.worker.run import Run
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)


class RunLog:
    def __init__(self, state: WorkerState) -> None:
        self._state = state

    def put_back(self, job: Job) -> None:
        logger.info(
            "Job %d (%s) is put back, not started", job.id, job.task_name, extra=self._extra("job_put_back", job)
        )

    def abort_requested(self, job: Job) -> None:
        logger.info(
            "Job %d (%s) is asked to abort", job.id, job.task_name, extra=self._extra("job_abort_requested", job)
        )

    def lost(self, job: Job) -> None:
        logger.warning(
            "Job %d (%s) was lost with the worker's registration: how it ended is not recorded",
            job.id,
            job.task_name,
            extra=self._extra("job_lost", job),
        )

    def scope_left_open(self, job: Job) -> None:
        logger.warning(
            "Job %d (%s) has left a cancel scope or a task group open: perhaps an async generator that was not run to "
            "its end. Close it, as by contextlib.aclosing",
            job.id,
            job.task_name,
            extra=self._extra("scope_left_open", job),
        )

    def starts(self, job: Job) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        logger.info("Job %d (%s) starts", job.id, job.task_name, extra=self._extra("start_job", job))
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "Job %d has the arguments %r",
                job.id,
                job.task_kwargs,
                extra=self._extra("job_arguments", job, task_kwargs=job.task_kwargs),
            )

    def ended(self, run: Run, end: End, outcome: Outcome) -> None:
        if outcome.status is Status.SUCCEEDED and not logger.isEnabledFor(logging.INFO):
            return
        job = run.job
        lasted_s = time.monotonic() - run.started_at
        exception = end.exception if isinstance(end, Raised | Unrunnable) else None
        match outcome.status:
            case Status.SUCCEEDED:
                level, action, what = logging.INFO, "job_success", "succeeded"
            case Status.ABORTED:
                level, action, what, exception = logging.INFO, "job_aborted", "was aborted", None
            case Status.TODO if outcome.retry is not None:
                level, action, what = logging.INFO, "job_error_retry", "failed and will be retried"
            case Status.TODO:
                level, action, what, exception = logging.INFO, "job_put_back", "was stopped and is put back", None
            case _:
                level, action, what = logging.ERROR, "job_error", "failed"
        logger.log(
            level,
            "Job %d (%s) %s after %.3f s",
            job.id,
            job.task_name,
            what,
            lasted_s,
            exc_info=exception,
            extra=self._extra(action, job, duration=lasted_s),
        )

    def _extra(self, action: str, job: Job, **more: Any) -> dict[str, Any]:
        return self._state.log_extra(action, job, **more)
