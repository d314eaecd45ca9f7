"""What is waited for, when to look at it next, and what to ask the database: sans-IO, the same for sync and async."""

from __future__ import annotations

import heapq
import itertools
import json
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from procrastinate_deps import statements
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.troubles import Backoff

if TYPE_CHECKING:
    from procrastinate_deps.statements import JobEnd, Statement, WorkflowSeen

POLL_FIRST_S = 0.05
POLL_LIMIT_S = 5.0
# What is due soon is looked at together with what is due now: by this part of its pause too early.
EARLY = 0.25
# So long the ends of jobs are announced for a process that may have died, ...
ANNOUNCED_S = 60.0
# ... and so long before that it asks again.
RENEW_AFTER_S = 40.0
ERROR_FIRST_S = 0.1
ERROR_LIMIT_S = 5.0
# Results may be large.
MAX_BATCH = 500
# What a wait without time looks for at the longest.
MIN_LOOK_S = 1.0
ANSWER_WITHIN_S = 30.0
RECONNECT_FIRST_S = 0.1
RECONNECT_LIMIT_S = 10.0
# What the last words of the last one may take.
FAREWELL_S = 1.0


class Kind(Enum):
    JOB = "job"
    WORKFLOW = "workflow"


class Target(NamedTuple):
    """What is waited for."""

    kind: Kind
    id: int

    def __str__(self) -> str:
        return f"{self.kind.value} {self.id}"


@dataclass(eq=False, slots=True)
class Wait:
    """One wait of one caller.

    Attributes
    ----------
    wake:
        Tells the caller that something has changed: it is over, or it is its turn to look.
    looked:
        The target was looked at since the wait began.
    seen:
        The target as it was then; None: it is not there.
    over:
        It has ended, or is not there, or `error` says why it can't be known.
    """

    target: Target
    wake: Callable[[], None]
    looked: bool = False
    seen: Any = None
    over: bool = False
    error: Exception | None = None


@dataclass(eq=False, slots=True)
class _Watched:
    target: Target
    waits: list[Wait] = field(default_factory=list)
    # Infinite: it is being looked at.
    due_at: float = 0.0
    pause_s: float = POLL_FIRST_S
    # Those who get the answer to the look that is under way: what it sees may be older than who comes meanwhile.
    asking: list[Wait] = field(default_factory=list)
    # The row by which its end is announced, and when that is to be renewed.
    row: int | None = None
    renew_at: float = 0.0


Round: TypeAlias = Generator["Statement[Any]", Any, None]


def no_answer(statement: str) -> ConnectorException:
    return ConnectorException(
        f"no answer to {statement} within {ANSWER_WITHIN_S:g} s: from the server, on the way to it, or for want of a "
        "free connection in the pool"
    )


class Board:
    """Waits for the same target share one look at it, and one round of statements looks at all that is due."""

    def __init__(self) -> None:
        self._watched: dict[Target, _Watched] = {}
        self._queue: list[tuple[float, int, _Watched]] = []
        self._order = itertools.count()
        self._rows_not_needed: list[int] = []
        self._errors = Backoff(ERROR_FIRST_S, ERROR_LIMIT_S)
        self._not_before = 0.0

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, wait: Wait) -> None:
        watched = self._watched.get(wait.target)
        if watched is None:
            watched = self._watched[wait.target] = _Watched(wait.target)
        watched.waits.append(wait)
        watched.pause_s = POLL_FIRST_S
        self._schedule(watched, 0.0)

    def remove(self, wait: Wait) -> None:
        watched = self._watched[wait.target]
        watched.waits.remove(wait)
        if not watched.waits:
            del self._watched[wait.target]
            self._forget_announcement(watched)

    def wake_one(self) -> None:
        """Tell one of those who wait that it is its turn to look, where there is one."""
        for watched in self._watched.values():
            for wait in watched.waits:
                if not wait.over:
                    wait.wake()
                    return

    def hear(self, payload: str) -> bool:
        """Whether this notification makes something due."""
        try:
            message = json.loads(payload)
        except (ValueError, RecursionError):  # somebody else uses the channel
            return False
        match message:
            case {"type": "job_ended", "job_id": int(id_)}:
                target = Target(Kind.JOB, id_)
            case {"type": "workflow_ended", "workflow_id": int(id_)}:
                target = Target(Kind.WORKFLOW, id_)
            case _:
                return False
        watched = self._watched.get(target)
        if watched is None:
            return False
        self._schedule(watched, 0.0)
        return True

    def look_at_all(self) -> None:
        """Who has just begun to listen has missed what was announced before."""
        for watched in self._watched.values():
            self._schedule(watched, 0.0)

    def due_in_s(self) -> float:
        """Seconds until there is something to do; infinite where nothing is waited for."""
        while self._queue and not self._is_current(*self._queue[0]):
            heapq.heappop(self._queue)
        if not self._queue:
            return math.inf
        return max(self._queue[0][0], self._not_before) - time.monotonic()

    def round(self) -> Round:
        """The statements to run now; each yield gets the statement's result."""
        due = self._take_due()
        try:
            yield from self.farewell()
            jobs = [watched for watched in due if watched.target.kind is Kind.JOB]
            if jobs:
                yield from self._announce(jobs)
                self._saw(jobs, (yield statements.look_at_jobs([each.target.id for each in jobs])))
            workflows = [watched for watched in due if watched.target.kind is Kind.WORKFLOW]
            if workflows:
                self._saw(workflows, (yield statements.look_at_workflows([each.target.id for each in workflows])))
        except BaseException:  # closed, too: what was not looked at is due again
            for watched in due:
                if watched.due_at == math.inf:
                    self._schedule(watched, 0.0)
            raise
        self._errors.reset()

    def farewell(self) -> Round:
        """Let nothing be announced any more that nobody waits for."""
        if self._rows_not_needed:
            rows, self._rows_not_needed = self._rows_not_needed, []
            yield statements.unwatch_jobs(rows)

    def failed_for_now(self) -> float:
        """Look again later; in how many seconds."""
        pause_s = self._errors.next_s()
        self._not_before = time.monotonic() + pause_s
        self.look_at_all()
        return pause_s

    def failed(self, error: Exception) -> None:
        """End all waits: what stands against one look stands against all."""
        for watched in self._watched.values():
            watched.due_at = math.inf
            for wait in watched.waits:
                wait.error, wait.over = error, True
                wait.wake()

    def _take_due(self) -> list[_Watched]:
        now = time.monotonic()
        due: list[_Watched] = []
        while self._queue and len(due) < MAX_BATCH:
            at, _, watched = entry = self._queue[0]
            if not self._is_current(*entry):
                heapq.heappop(self._queue)
            elif at - EARLY * watched.pause_s <= now:
                heapq.heappop(self._queue)
                watched.due_at = math.inf
                watched.asking = list(watched.waits)
                due.append(watched)
            else:
                break
        return due

    def _announce(self, jobs: Iterable[_Watched]) -> Round:
        """Let the ends be announced before they are looked at: one between the two is noticed by one of them.

        But for one whose statement began before: it doesn't see who waits, and polling finds it.
        """
        now = time.monotonic()
        unannounced = [watched for watched in jobs if watched.renew_at <= now]
        if not unannounced:
            return
        rows = yield statements.watch_jobs([watched.target.id for watched in unannounced], ANNOUNCED_S)
        for watched in unannounced:
            self._forget_announcement(watched)
            watched.row, watched.renew_at = rows[watched.target.id], now + RENEW_AFTER_S
            if not watched.waits:  # since then
                self._forget_announcement(watched)

    def _forget_announcement(self, watched: _Watched) -> None:
        if watched.row is not None:
            self._rows_not_needed.append(watched.row)
            watched.row = None

    def _saw(self, looked_at: Iterable[_Watched], found: Mapping[int, JobEnd | WorkflowSeen]) -> None:
        now = time.monotonic()
        for watched in looked_at:
            seen = found.get(watched.target.id)
            over = seen is None or seen.has_ended
            for wait in watched.asking:
                wait.looked, wait.seen, wait.over = True, seen, over
                wait.wake()
            if not over and watched.due_at == math.inf:  # nothing was heard of it meanwhile
                self._schedule(watched, now + watched.pause_s)
                watched.pause_s = min(2 * watched.pause_s, POLL_LIMIT_S)

    def _schedule(self, watched: _Watched, at: float) -> None:
        watched.due_at = at
        heapq.heappush(self._queue, (at, next(self._order), watched))

    def _is_current(self, at: float, _order: int, watched: _Watched) -> bool:
        return watched.due_at == at and self._watched.get(watched.target) is watched
