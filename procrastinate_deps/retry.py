"""When a task that failed runs again. The names and the formula are procrastinate's."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from procrastinate_deps.times import as_timedelta, check_aware, from_now
from procrastinate_deps.validation import check_new_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from procrastinate_deps.jobs import Job

# An exponential wait outgrows every calendar (the year 9999, then a float) within a few dozen attempts.
MAX_WAIT_S = 100 * 365 * 24 * 3600


class RetryDecision:
    """A job that failed runs again: when, and with what changed.

    Parameters
    ----------
    retry_at:
        An aware datetime before which the job doesn't start. Default: at once.
    retry_in:
        The same as a distance from now, by the database's clock: a timedelta, or a dict of its arguments. Not together
        with retry_at, which then says what that is by the clock of this host.
    priority, queue, lock:
        New values for the job. Default: they stay as they are.

    Raises
    ------
    TypeError, ValueError:
        A value that no job can have: a naive datetime, or one outside of the years 1 to 9999 in UTC; a priority that is
        no whole number of 32 bits; a queue's name of no or more than 255 characters; a lock of more than 2,000 bytes.
    """

    __slots__ = ("lock", "priority", "queue", "retry_at", "retry_in")

    retry_at: datetime | None
    retry_in: timedelta | None
    priority: int | None
    queue: str | None
    lock: str | None

    def __init__(
        self,
        *,
        retry_at: datetime | None = None,
        retry_in: timedelta | Mapping[str, Any] | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        if retry_at is not None and retry_in is not None:
            raise ValueError(f"retry_at={retry_at!r} and retry_in={retry_in!r} were both given; give one of them")
        self.retry_in = None if retry_in is None else as_timedelta(retry_in, "retry_in")
        if self.retry_in is not None:
            retry_at = from_now(self.retry_in, "retry_in")
        self.retry_at = None if retry_at is None else check_aware(retry_at, "retry_at")
        self.priority, self.queue, self.lock = check_new_values(priority, queue, lock)

    def _values(self) -> tuple[datetime | None, int | None, str | None, str | None]:
        return self.retry_at, self.priority, self.queue, self.lock

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, RetryDecision) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        changes = f"priority={self.priority!r}, queue={self.queue!r}, lock={self.lock!r}"
        return f"RetryDecision(retry_at={self.retry_at!r}, {changes})"


class BaseRetryStrategy(ABC):
    """The base of strategies of your own: write `get_retry_decision`."""

    @abstractmethod
    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Decide about `job`, which `exception` has just ended; `job.attempts` counts the runs before this one.

        Returns None when it shall not run again: it has failed.
        """


@dataclass(frozen=True, kw_only=True)
class RetryStrategy(BaseRetryStrategy):
    """The usual strategies, which can be mixed.

    The wait before the next run, in seconds, where `attempts` counts the runs before the one that failed
    (0 in the first run), is::

        wait + linear_wait * attempts + exponential_wait ** (attempts + 1)

    Parameters
    ----------
    max_attempts:
        How many retries there are at most. Default (None, and 0): no limit.
    wait:
        Seconds before every retry: 3 waits 3, 3, 3, ...
    linear_wait:
        Seconds that each retry adds: 3 waits 0, 3, 6, ...
    exponential_wait:
        Base of an exponential wait in seconds: 3 waits 3, 9, 27, ...
    retry_exceptions:
        Only these exceptions, and their subclasses, are retried. Default: all.
    jitter:
        A fraction from 0 to 1: the wait is drawn at random from `wait * (1 - jitter)` to `wait * (1 + jitter)`, so
        that jobs that failed together don't return together. Default: 0.
    """

    max_attempts: int | None = None
    wait: float = 0
    linear_wait: float = 0
    exponential_wait: float = 0
    retry_exceptions: Iterable[type[BaseException]] | None = None
    jitter: float = 0

    def __post_init__(self) -> None:
        for name in ("max_attempts", "wait", "linear_wait", "exponential_wait"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"RetryStrategy: {name}={value!r} is negative")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"RetryStrategy: jitter={self.jitter!r} is not a fraction from 0 to 1")
        if self.retry_exceptions is not None:
            object.__setattr__(self, "retry_exceptions", tuple(self.retry_exceptions))

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if self.max_attempts and job.attempts >= self.max_attempts:
            return None
        if self.retry_exceptions and not isinstance(exception, tuple(self.retry_exceptions)):
            return None
        wait_s = self.wait_s(job.attempts)
        return RetryDecision(retry_in=timedelta(seconds=wait_s)) if wait_s else RetryDecision()

    def wait_s(self, attempts: int) -> float:
        """Seconds to wait when a run failed that had `attempts` runs before it."""
        try:
            wait_s = self.wait + self.linear_wait * attempts + self.exponential_wait ** (attempts + 1)
        except OverflowError:
            return MAX_WAIT_S
        if self.jitter:
            wait_s *= random.uniform(1 - self.jitter, 1 + self.jitter)
        return min(wait_s, MAX_WAIT_S)


RetryValue: TypeAlias = bool | int | BaseRetryStrategy | None
"""What `retry=` takes: False or None (never), True (always), a number of retries, or a strategy."""


def get_retry_strategy(retry: RetryValue) -> BaseRetryStrategy | None:
    if retry is None or retry is False or retry == 0:
        return None
    if retry is True:
        return RetryStrategy()
    if isinstance(retry, int):
        return RetryStrategy(max_attempts=retry)
    if isinstance(retry, BaseRetryStrategy):
        return retry
    raise TypeError(
        f"retry={retry!r}: pass True, a number of retries, or an instance of RetryStrategy or another BaseRetryStrategy"
    )
