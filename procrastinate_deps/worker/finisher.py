"""Records how jobs ended."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anyio import TASK_STATUS_IGNORED

from procrastinate_deps import statements
from procrastinate_deps.exceptions import (
    AppNotOpen,
    ConnectorException,
    IsolationLevelError,
    LockNotAvailable,
    WorkerNotRegistered,
)
from procrastinate_deps.jobs import Status
from procrastinate_deps.jsontext import encode, storable_text
from procrastinate_deps.statements import NOT_STORED
from procrastinate_deps.worker.troubles import Backoff, passes_by_itself
from procrastinate_deps.worker.wakeup import Wakeup

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from anyio.abc import TaskStatus

    from procrastinate_deps.jobs import Outcome, Refusal
    from procrastinate_deps.statements import Exchanged
    from procrastinate_deps.worker.state import WorkerState

logger = logging.getLogger(__name__)

MAX_BATCH = 1000
RETRY_FIRST_S = 0.05
RETRY_LIMIT_S = 1.0
# After that long it is no collision but a transaction that someone holds open.
SAY_WHO_HOLDS_AFTER_S = 5.0
# Nothing is fetched beyond: what has ended and isn't recorded would run again if the worker died.
MAX_FRESH = 2 * MAX_BATCH
MAX_PENDING = 10 * MAX_BATCH
# SQLSTATE classes: a plan of before a migration, a transaction's state, a pooler's prepared statements, passwords, a
# missing database or schema, a missing function or right, an object that is not ready, an internal error.
_SERVERS_CLASSES = ("0A", "25", "26", "28", "3D", "3F", "42", "55", "XX")


@dataclass(eq=False, slots=True)
class Pending:
    """An outcome that is not recorded yet."""

    outcome: Outcome
    backoff: Backoff = field(default_factory=lambda: Backoff(RETRY_FIRST_S, RETRY_LIMIT_S))
    due_at: float = 0.0
    waiting_since: float | None = None
    # Sent on its own: its batch failed, and the others of it shall not wait for the one that was the cause.
    alone: bool = False
    # It was sent, and no answer came: it may be recorded.
    unanswered: bool = False
    holders_logged: bool = False


class Finisher:
    """Keeps outcomes until they are recorded.

    `Exchange` takes and sends the fresh ones. What is refused for now is sent again from here, by a task of its own, so
    that nothing else waits for it.
    """

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._fresh: deque[Outcome] = deque()
        self._late: list[Pending] = []
        self._in_flight: set[tuple[int, int]] = set()
        self._postponed = Wakeup()
        self._sends_fresh = False
        self._recorded = Wakeup()

    @property
    def pending(self) -> int:
        return len(self._fresh) + len(self._late) + len(self._in_flight)

    @property
    def congested(self) -> bool:
        return len(self._fresh) >= MAX_FRESH or self.pending >= MAX_PENDING

    def pending_claims(self) -> set[tuple[int, int]]:
        """Job and claim of every run whose end is not recorded."""
        late = {(each.outcome.job_id, each.outcome.claim) for each in self._late}
        return {(each.job_id, each.claim) for each in self._fresh} | late | self._in_flight

    def add(self, outcome: Outcome) -> None:
        self._fresh.append(outcome)
        self._state.fetch.set()
        if self._sends_fresh:
            self._postponed.set()

    def take(self) -> list[Outcome]:
        """Fresh outcomes to send, of each job at most one: two claims of it in one statement would be mixed up."""
        batch: dict[int, Outcome] = {}
        while self._fresh and len(batch) < MAX_BATCH and self._fresh[0].job_id not in batch:
            outcome = self._fresh.popleft()
            batch[outcome.job_id] = outcome
        return list(batch.values())

    def take_back(self, outcomes: Sequence[Outcome]) -> None:
        """What was taken and not sent is fresh again."""
        self._fresh.extendleft(reversed(outcomes))

    def send_fresh_too(self) -> None:
        """`Exchange` has ended: whatever runs on must be recorded all the same."""
        self._sends_fresh = True
        self._postponed.set()

    async def drained(self) -> None:
        """Wait until everything is recorded."""
        while self.pending:
            self._recorded.clear()
            await self._recorded.wait()

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await self._send_late()

    async def send(self, outcomes: Sequence[Outcome]) -> None:
        """Record them, or keep them for later."""
        await self._send([Pending(outcome) for outcome in outcomes])

    async def send_and_fetch(
        self, outcomes: Sequence[Outcome], queues: list[str] | None, worker_id: int, wanted: int
    ) -> Exchanged:
        """Record outcomes and fetch jobs, both or nothing. Raises what the statement raises."""
        with self._sending(outcomes):
            answer = await self._state.execute(
                statements.finish_and_fetch(
                    outcomes, self._state.options.delete_jobs, queues, worker_id, wanted, json_dumps=str
                )
            )
            if answer.refusals:
                self._read_refusals([Pending(outcome) for outcome in outcomes], answer.refusals)
        self._recorded.set()
        return answer

    def postpone(self, outcomes: Sequence[Outcome], error: Exception) -> None:
        """Send them without a fetch, together: they failed with one by `error`, which may be the fetch's."""
        passing = _passing(error)
        if passing:
            self._say_that_it_failed(len(outcomes), error, [each.job_id for each in outcomes])
        for each in outcomes:
            self._postpone(Pending(each, unanswered=passing), None if passing else 0)

    @contextlib.contextmanager
    def _sending(self, outcomes: Sequence[Outcome]) -> Iterator[None]:
        claims = {(each.job_id, each.claim) for each in outcomes}
        self._in_flight |= claims
        try:
            yield
        finally:
            self._in_flight -= claims
            if any(each.in_workflow for each in outcomes):
                self._state.workflow_changed.set()

    async def _send_late(self) -> None:
        while True:
            self._postponed.clear()
            while self._sends_fresh and (fresh := self.take()):
                await self.send(fresh)
            now = time.monotonic()
            due = sorted((each for each in self._late if each.due_at <= now), key=lambda each: each.due_at)
            if not due:
                next_at = min((each.due_at for each in self._late), default=None)
                await self._postponed.wait(None if next_at is None else next_at - now)
                continue
            if together := _one_each(each for each in due if not each.alone)[:MAX_BATCH]:
                await self._resend(together)
            if single := [each for each in due if each.alone][:1]:
                await self._resend(single)

    async def _resend(self, batch: list[Pending]) -> None:
        taken = set(batch)
        self._late = [each for each in self._late if each not in taken]
        await self._send(batch)
        await self._say_who_holds([each for each in batch if each in self._late])

    async def _send(self, batch: list[Pending]) -> None:
        outcomes = [each.outcome for each in batch]
        with self._sending(outcomes):
            try:
                refusals = await self._state.execute(
                    statements.finish_jobs(
                        outcomes,
                        self._state.options.delete_jobs,
                        json_dumps=str,  # results are JSON text already
                    )
                )
            except AppNotOpen:
                self._late.extend(batch)
                raise
            except Exception as error:  # noqa: BLE001 - even one of the driver's own: it may be about one of them
                self._postpone_after_error(batch, error)
            except BaseException:
                for each in batch:
                    each.unanswered = True
                self._late.extend(batch)
                raise
            else:
                self._read_refusals(batch, refusals)
        self._recorded.set()
        # Even where the listener is deaf: a child, a retry or the next job of a lock may have become runnable.
        self._state.fetch.set()

    def _read_refusals(self, batch: Iterable[Pending], refusals: Iterable[Refusal]) -> None:
        refused = {each.job_id: each.reason for each in refusals}
        for each in batch:
            match refused.get(each.outcome.job_id):
                case None:
                    pass
                case "busy":
                    self._postpone(each)
                case reason:
                    self._drop(each, reason)

    def _postpone(self, pending: Pending, delay_s: float | None = None) -> None:
        now = time.monotonic()
        if pending.waiting_since is None:
            pending.waiting_since = now
        pending.due_at = now + (pending.backoff.next_s() if delay_s is None else delay_s)
        self._late.append(pending)
        self._postponed.set()

    def _postpone_after_error(self, batch: list[Pending], error: Exception) -> None:
        held = isinstance(error, LockNotAvailable)
        passing = _passing(error)
        if not held:
            self._say_that_it_failed(len(batch), error, [each.outcome.job_id for each in batch])
        for each in batch:
            if passing:
                each.unanswered = True
                self._postpone(each)
            elif len(batch) > 1:
                each.alone = True
                self._postpone(each, delay_s=0)
            else:
                each.alone = True
                if not held and not _about_the_server(error):
                    each.outcome = _without_values(each.outcome, error)
                self._postpone(each)

    def _say_that_it_failed(self, count: int, error: Exception, job_ids: list[int]) -> None:
        logger.warning(
            "Recording the end of %d job(s) failed and will be tried again: %s",
            count,
            error,
            extra=self._state.log_extra("finish_error", job_ids=job_ids),
        )

    def _drop(self, pending: Pending, reason: str) -> None:
        job_id = pending.outcome.job_id
        if pending.unanswered:
            logger.info(
                "The end of job %d was recorded by the sending whose answer was lost, or the job is no longer ours",
                job_id,
                extra=self._state.log_extra("job_end_repeated", job_id=job_id),
            )
            return
        logger.warning(
            "Job %d was lost: it is no longer this worker's, so that its end as %s is not recorded (%s)",
            job_id,
            pending.outcome.status,
            reason,
            extra=self._state.log_extra("job_lost", job_id=job_id),
        )

    async def _say_who_holds(self, late: list[Pending]) -> None:
        now = time.monotonic()
        held = {
            each.outcome.job_id: each
            for each in late
            if not each.holders_logged
            and each.waiting_since is not None
            and now - each.waiting_since >= SAY_WHO_HOLDS_AFTER_S
        }
        if not held:
            return
        try:
            holders = await self._state.execute(statements.job_holders(list(held)))
        except ConnectorException as error:
            logger.warning(
                "Who holds job(s) %s can't be asked now: %s",
                list(held),
                error,
                extra=self._state.log_extra("holders_error"),
            )
            return
        for job_id, pending in held.items():
            backends = [
                f"backend {each.pid} ({each.application_name}, {each.state}), open since {each.xact_start}"
                for each in holders
                if each.job_id == job_id
            ]
            if not backends:
                continue
            pending.holders_logged = True
            logger.warning(
                "The end of job %d has waited for %.0f s: a transaction that is still open refers to the job or to one "
                "after it: %s",
                job_id,
                now - (pending.waiting_since or now),
                "; ".join(backends),
                extra=self._state.log_extra("job_held", job_id=job_id),
            )


def _one_each(batch: Iterable[Pending]) -> list[Pending]:
    """The batch without a second end of one job: two claims of it in one statement would be mixed up."""
    first: dict[int, Pending] = {}
    for each in batch:
        first.setdefault(each.outcome.job_id, each)
    return list(first.values())


def _passing(error: Exception) -> bool:
    """Whether it has nothing to do with what was sent, which may even be recorded."""
    return not isinstance(error, LockNotAvailable) and isinstance(error, ConnectorException) and passes_by_itself(error)


def _about_the_server(error: Exception) -> bool:
    """Whether what was sent has nothing to do with it, though it does not pass by itself."""
    if isinstance(error, WorkerNotRegistered | IsolationLevelError):
        return True
    return isinstance(error, ConnectorException) and (error.sqlstate or "").startswith(_SERVERS_CLASSES)


def _without_values(outcome: Outcome, error: Exception) -> Outcome:
    """The outcome without what a task put into it: one that the database refuses must not keep the job from ending."""
    if outcome.retry is not None:
        refusal = storable_text(f"The job can't be retried as was decided: {error}")
        return dataclasses.replace(
            outcome, status=Status.FAILED, retry=None, error=f"{refusal}\n\n{outcome.error or ''}".rstrip()
        )
    return dataclasses.replace(
        outcome,
        result=None if outcome.result is None else encode({NOT_STORED: storable_text(str(error))}),
        error=outcome.error and "The error's text can't be stored; the worker's log has it.",
    )
