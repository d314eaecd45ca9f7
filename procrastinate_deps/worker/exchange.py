"""Brings outcomes to the database and jobs back."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

import anyio
from anyio import TASK_STATUS_IGNORED

from procrastinate_deps import statements
from procrastinate_deps.exceptions import (
    ConnectorException,
    LockNotAvailable,
    WorkerNotRegistered,
)
from procrastinate_deps.worker.outcomes import unknown_given_back
from procrastinate_deps.worker.pace import Pace
from procrastinate_deps.worker.troubles import Backoff, passes_by_itself

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskStatus

    from procrastinate_deps.jobs import Outcome
    from procrastinate_deps.worker.finisher import Finisher
    from procrastinate_deps.worker.runner import Runner
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

# A job that could run now but for a row that someone holds for a moment.
HELD_RETRY_FIRST_S = 0.01
ERROR_RETRY_FIRST_S = 0.1
ERROR_RETRY_LIMIT_S = 5.0
# So long the database isn't asked when the next job is due: a job that ends meanwhile fetches for itself. What becomes
# runnable is announced, and waits for none of this.
QUIET_S = 0.005
# Jobs with a lock are not fetched by the statement that ends others (see fetch_jobs.sql). Where one was left, that many
# exchanges are made of two statements.
SEPARATE = 20


class Exchange:
    """One statement at a time ends jobs, fetches as many as slots are free, or both: one round trip and one commit.

    So batches form by themselves under load (what ends while a statement is under way goes with the next), and a lone
    job is ended, and its child fetched, at once.
    """

    def __init__(self, state: WorkerState, runner: Runner, finisher: Finisher, stop: Callable[[], None]) -> None:
        self._state = state
        self._runner = runner
        self._finisher = finisher
        self._stop = stop
        self._held = Backoff(HELD_RETRY_FIRST_S, state.options.fetch_job_polling_interval)
        self._errors = Backoff(ERROR_RETRY_FIRST_S, ERROR_RETRY_LIMIT_S)
        self._next_fetch_at = 0.0
        # When to look for jobs whose fetch was not answered; a statement may be committed long after its connection was
        # given up, so from the first such answer on this is asked now and then.
        self._look_at = math.inf
        # While jobs with locks are about, outcomes and fetches go separately.
        self._separate = 0
        # How many jobs ended while the last exchange was under way: so many slots, and no more than there are, will be
        # free when the answer to the next one comes.
        self._ended_meanwhile = 0
        # Jobs that don't wait end between two exchanges, all of them: how many more would, if there were any.
        self._pace = Pace(runner)
        self._unregistered: int | None = None
        # Set when the worker stops and nothing more can come.
        self.fetched_last = anyio.Event()
        self.sleeping = False

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            # Before anything is looked at: what is announced from here on wakes the wait below.
            self._state.fetch.clear()
            pause_s = await self._step()
            if (late_after_s := self._runner.late_after_s) is not None:
                pause_s = late_after_s if pause_s is None else min(pause_s, late_after_s)
            if self._look_at < math.inf and self._looks:
                look_after_s = max(self._look_at - time.monotonic(), 0)
                pause_s = look_after_s if pause_s is None else min(pause_s, look_after_s)
            if pause_s is None or pause_s > 0:
                self.sleeping = True
                await self._state.fetch.wait(pause_s)
                self.sleeping = False

    async def _step(self) -> float | None:
        """Returns how many seconds to wait for a reason to look again, None for as long as it takes."""
        state = self._state
        if state.stopping:
            self.fetched_last.set()
        if time.monotonic() >= self._look_at and self._looks and state.worker_id is not None:
            await self._look_for_unknown_claims(state.worker_id)
        if self._runner.give_back_late():
            self._ended_meanwhile = 0
            self._pace.reset()
        outcomes = self._finisher.take()
        wanted = self._wanted(bool(outcomes))
        if wanted == 0:
            # Whatever ends that sets `fetch`.
            if outcomes:
                await self._send(outcomes)
                return 0
            return None
        wait_s = self._next_fetch_at - time.monotonic()
        if wait_s > 0:
            if outcomes:
                await self._send(outcomes)
                return 0
            return wait_s
        if outcomes and self._separate > 0:
            self._separate -= 1
            await self._send(outcomes)
            outcomes = []
            wanted = self._wanted(False)
            if wanted == 0:  # since then
                return 0
        worker_id = state.worker_id
        if worker_id is None:  # since then
            self._finisher.take_back(outcomes)
            return 0
        try:
            return await self._fetch(worker_id, outcomes, wanted)
        except WorkerNotRegistered:
            # The heartbeat registers again, and then sets `fetch`. It may have done so before this was heard.
            self._unregistered = worker_id
            state.lost.set()
            self._finisher.take_back(outcomes)
            return 0
        except Exception as error:
            if not isinstance(error, LockNotAvailable):
                self._look_at = 0
            if outcomes:
                # It may be their fault, or fetching's: each goes on without the other.
                self._finisher.postpone(outcomes, error)
                self._ended_meanwhile = 0
                self._pace.reset()
                return 0
            if not isinstance(error, ConnectorException) or not passes_by_itself(error):
                raise
            pause_s = self._errors.next_s()
            self._next_fetch_at = time.monotonic() + pause_s
            logger.warning(
                "Fetching failed, next try in %.1f s: %s", pause_s, error, extra=state.log_extra("fetch_error")
            )
            return pause_s
        except BaseException:
            self._finisher.take_back(outcomes)
            raise

    def _wanted(self, with_outcomes: bool) -> int:
        """How many jobs to fetch: ahead only where the statement leaves jobs with locks, which block others."""
        state = self._state
        if state.stopping or state.worker_id in (None, self._unregistered) or self._finisher.congested:
            return 0
        if self._separate > 0 or not with_outcomes:
            return self._runner.free()
        return self._runner.free(min(max(self._ended_meanwhile, self._pace.per_statement), state.options.concurrency))

    async def _send(self, outcomes: list[Outcome]) -> None:
        self._ended_meanwhile = 0
        await self._finisher.send(outcomes)

    async def _fetch(self, worker_id: int, outcomes: list[Outcome], wanted: int) -> float | None:
        state, queues = self._state, self._state.options.queue_names
        nothing_pending = self._runner.running == 0 and self._finisher.pending == 0 and not outcomes
        ended_before = self._runner.ended
        with self._runner.expecting_jobs(), self._pace.statement():
            if outcomes:
                answer = await self._finisher.send_and_fetch(outcomes, queues, worker_id, wanted)
                outcomes.clear()  # what fails from here on has nothing to do with them
                jobs = answer.jobs
                if answer.left:
                    self._separate = SEPARATE
                    state.fetch.set()
            else:
                jobs = await state.execute(statements.fetch_jobs(queues, worker_id, wanted))
            self._errors.reset()
            self._ended_meanwhile = self._runner.ended - ended_before
            if state.stopping or state.worker_id != worker_id:
                self._runner.give_back(jobs)
                return 0
            self._runner.start(jobs)
        if len(jobs) == wanted or await state.fetch.wait(QUIET_S):
            return 0
        due_s = await state.execute(statements.next_due(queues))
        if jobs or due_s != 0:
            self._held.reset()
        if not state.options.wait and not jobs and due_s != 0:
            if nothing_pending:
                self._stop()
                return 0
            if self._runner.running == 0 and self._finisher.pending == 0:
                return 0
        interval_s = state.options.fetch_job_polling_interval
        if due_s is None:
            return interval_s
        return self._held.next_s() if due_s == 0 else min(due_s, interval_s)

    @property
    def _looks(self) -> bool:
        """Whether what it claimed unknowingly is its own to put back."""
        return not self._state.stopping and self._state.worker_id not in (None, self._unregistered)

    async def _look_for_unknown_claims(self, worker_id: int) -> None:
        """Put back jobs whose fetch was committed, but its answer never came: nobody else would, while we live."""
        known = self._known_claims()
        try:
            claims = await self._state.execute(statements.claimed_jobs(worker_id))
        except ConnectorException as error:
            if not passes_by_itself(error):
                raise
            pause_s = self._errors.next_s()
            self._look_at = self._next_fetch_at = time.monotonic() + pause_s
            logger.warning(
                "Which jobs this worker has claimed can't be asked now, next try in %.1f s: %s",
                pause_s,
                error,
                extra=self._state.log_extra("fetch_error"),
            )
            return
        known |= self._known_claims()
        self._look_at = time.monotonic() + self._state.options.update_heartbeat_interval
        for job_id, claim in claims:
            if (job_id, claim) not in known:
                logger.warning(
                    "Job %d was fetched by a statement whose answer was lost: it is put back",
                    job_id,
                    extra=self._state.log_extra("job_put_back", job_id=job_id),
                )
                self._finisher.add(unknown_given_back(job_id, claim))

    def _known_claims(self) -> set[tuple[int, int]]:
        return {(job.id, job.claim) for job in self._runner.jobs()} | self._finisher.pending_claims()
