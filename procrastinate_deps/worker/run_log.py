"""What the log says of jobs that run."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from procrastinate_deps.jobs import Status
from procrastinate_deps.worker.outcomes import Raised, Unrunnable
from procrastinate_deps.worker.troubles import shown_on_stderr

if TYPE_CHECKING:
    from procrastinate_deps.jobs import Job, Outcome
    from procrastinate_deps.worker.outcomes import End
    from procrastinate_deps.worker.run import Run
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)


class RunLog:
    """A handler of the user's that raises is no reason for a job not to end."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state

    def put_back(self, job: Job) -> None:
        self._say(logging.INFO, "job_put_back", job, "Job %d (%s) is put back, not started")

    def abort_requested(self, job: Job) -> None:
        self._say(logging.INFO, "job_abort_requested", job, "Job %d (%s) is asked to abort")

    def lost(self, job: Job) -> None:
        self._say(
            logging.WARNING,
            "job_lost",
            job,
            "Job %d (%s) was lost with the worker's registration: how it ended is not recorded",
        )

    def scope_left_open(self, job: Job) -> None:
        self._say(
            logging.WARNING,
            "scope_left_open",
            job,
            "Job %d (%s) has left a cancel scope or a task group open: perhaps an async generator that was not run to "
            "its end. Close it, as by contextlib.aclosing",
        )

    def starts(self, job: Job) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        self._say(logging.INFO, "start_job", job, "Job %d (%s) starts")
        if logger.isEnabledFor(logging.DEBUG):
            arguments = job.task_kwargs
            self._say(
                logging.DEBUG,
                "job_arguments",
                job,
                "Job %d (%s) has the arguments %r",
                arguments,
                task_kwargs=arguments,
            )

    def ended(self, run: Run, end: End, outcome: Outcome) -> None:
        if outcome.status is Status.SUCCEEDED and not logger.isEnabledFor(logging.INFO):
            return
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
        text = "Job %d (%s) %s after %.3f s"
        self._say(level, action, run.job, text, what, lasted_s, exception=exception, duration=lasted_s)

    def _say(
        self,
        level: int,
        action: str,
        job: Job,
        text: str,
        *more: object,
        exception: BaseException | None = None,
        **extra: Any,
    ) -> None:
        if not logger.isEnabledFor(level):
            return
        # Not the exception alone: `logging` would ask it whether it is true.
        exc_info = None if exception is None else (type(exception), exception, exception.__traceback__)
        with shown_on_stderr():
            logger.log(
                level,
                text,
                job.id,
                job.task_name,
                *more,
                exc_info=exc_info,
                extra=self._state.log_extra(action, job, **extra),
                stacklevel=2,
            )
