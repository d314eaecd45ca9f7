"""Looks for running jobs that someone asked to abort, should the announcement have been missed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from anyio import TASK_STATUS_IGNORED

from procrastinate_deps import statements
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.worker.troubles import passes_by_itself
from procrastinate_deps.worker.wakeup import Wakeup

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from procrastinate_deps.worker.runner import Runner
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)


class Aborter:
    def __init__(self, state: WorkerState, runner: Runner) -> None:
        self._state = state
        self._runner = runner
        self._wakeup = Wakeup()

    def look_now(self) -> None:
        self._wakeup.set()

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            await self._wakeup.wait(self._state.options.abort_job_polling_interval)
            self._wakeup.clear()
            if self._state.worker_id is None or not self._runner.running:
                continue
            try:
                job_ids = await self._state.execute(statements.jobs_to_abort(self._state.worker_id))
            except ConnectorException as error:
                if not passes_by_itself(error):
                    raise
                logger.warning(
                    "Which jobs to abort can't be asked now: %s", error, extra=self._state.log_extra("abort_poll_error")
                )
            else:
                self._runner.abort(job_ids)
