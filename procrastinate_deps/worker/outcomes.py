"""From how a run ended to what is recorded: one `Outcome` for each run."""

from __future__ import annotations

import json
import logging
import traceback
from dataclasses import dataclass
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, TypeAlias

from procrastinate_deps.context import AbortReason
from procrastinate_deps.exceptions import JobAborted, JobRetry
from procrastinate_deps.jobs import Outcome, Status
from procrastinate_deps.jsontext import dump, encode, storable_text
from procrastinate_deps.retry import RetryDecision
from procrastinate_deps.statements import NOT_STORED
from procrastinate_deps.worker.troubles import shown_on_stderr

if TYPE_CHECKING:
    from collections.abc import Callable

    from procrastinate_deps.jobs import Job
    from procrastinate_deps.tasks import Task

logger = logging.getLogger(__name__)

MAX_ERROR_BYTES = 100_000
MAX_RESULT_BYTES = 1_000_000

# What a user's json_dumps may write and jsonb doesn't take: numbers that are none, and halves of surrogate pairs.
_SUSPICIOUS = ("NaN", "Infinity", "\\ud", "\\uD")

_GENERATORS = frozenset({GeneratorType, AsyncGeneratorType})

_tasks_warned_about: set[str] = set()


@dataclass(frozen=True, slots=True)
class Returned:
    """The task returned."""

    value: object


@dataclass(frozen=True, slots=True)
class Raised:
    """The task raised."""

    exception: BaseException


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The task was cancelled, for the run's abort reason."""


@dataclass(frozen=True, slots=True)
class Unrunnable:
    """The task could not even be called: another attempt would end the same way."""

    exception: Exception


End: TypeAlias = Returned | Raised | Cancelled | Unrunnable


def outcome_of(
    job: Job,
    task: Task[..., Any, ...] | None,
    end: End,
    abort_reason: AbortReason | None,
    json_dumps: Callable[[Any], str],
) -> Outcome:
    """What to record for a run of `job` that ended as `end`, having been asked to stop for `abort_reason`.

    A shutdown puts the job back without counting a failure. A job whose abort was requested isn't retried. Where code
    of the user's that has a say in it fails, the job has failed.
    """
    try:
        if abort_reason is None and type(end) is Returned and type(end.value) not in _GENERATORS:  # nearly always
            return _outcome(job, Status.SUCCEEDED, result=storable_result(end.value, task, json_dumps))
        return _outcome_of(job, task, end, abort_reason, json_dumps)
    except BaseException as broken:  # noqa: BLE001 - no cancellation of the worker's: nothing is awaited here
        return _failed(job, broken)


def _outcome_of(
    job: Job,
    task: Task[..., Any, ...] | None,
    end: End,
    abort_reason: AbortReason | None,
    json_dumps: Callable[[Any], str],
) -> Outcome:
    match end, abort_reason:
        case Unrunnable(exception), _:
            return _failed(job, exception)
        case Raised() | Cancelled() | Returned(), AbortReason.TIMEOUT:
            timeout = TimeoutError(f"task {job.task_name!r} ran longer than its timeout of {task and task.timeout} s")
            if isinstance(end, Raised):
                timeout.__cause__ = end.exception
            return _retried_or_failed(job, task, timeout)
        case Returned(GeneratorType() | AsyncGeneratorType()), _:
            return _failed(
                job,
                TypeError(
                    f"task {job.task_name!r} is a generator function, or returned a generator: "
                    "nothing of that has run. Loop over it in the task, and return what is to be kept"
                ),
            )
        case Returned(value), _:
            return _outcome(job, Status.SUCCEEDED, result=storable_result(value, task, json_dumps))
        case Cancelled(), AbortReason.USER_REQUEST:
            return _outcome(job, Status.ABORTED)
        case Cancelled(), _:
            return _outcome(job, Status.TODO)
        case Raised(JobAborted()), AbortReason.SHUTDOWN:
            return _outcome(job, Status.TODO)
        case Raised(JobAborted() as exception), _:
            return _outcome(job, Status.ABORTED, error=error_text(exception))
        case Raised(exception), AbortReason.USER_REQUEST:
            return _failed(job, exception)
        case Raised(exception), _:
            return _retried_or_failed(job, task, exception)
    raise TypeError(f"a run of job {job.id} ended as {end!r}")


def given_back(job: Job) -> Outcome:
    """The outcome of a job that was fetched and not started."""
    return _outcome(job, Status.TODO)


def unknown_given_back(job_id: int, claim: int) -> Outcome:
    """The same for a job of which no more is known than that this worker claimed it."""
    return Outcome(job_id=job_id, claim=claim, status=Status.TODO)


def _outcome(
    job: Job, status: Status, *, result: Any = None, error: str | None = None, retry: RetryDecision | None = None
) -> Outcome:
    in_workflow = job.workflow_id is not None
    return Outcome(
        job_id=job.id,
        claim=job.claim,
        status=status,
        result=result,
        error=error,
        retry=retry,
        in_workflow=in_workflow,
    )


def _failed(job: Job, exception: BaseException) -> Outcome:
    return _outcome(job, Status.FAILED, error=error_text(exception))


def _retried_or_failed(job: Job, task: Task[..., Any, ...] | None, exception: BaseException) -> Outcome:
    try:
        if isinstance(exception, JobRetry):
            retry = _decision(getattr(exception, "retry_decision", None), "JobRetry was raised with")
        elif task is None or task.retry_strategy is None:
            return _failed(job, exception)
        else:
            decided = task.retry_strategy.get_retry_decision(exception=exception, job=job)
            if decided is None:
                return _failed(job, exception)
            retry = _decision(decided, f"the retry strategy of task {job.task_name!r} returned")
    except BaseException as broken:  # noqa: BLE001 - a user's strategy; its error is recorded beside the task's
        if broken is not exception:
            broken.__context__ = exception
        return _failed(job, broken)
    return _outcome(job, Status.TODO, error=error_text(exception), retry=retry)


def _decision(given: object, said: str) -> RetryDecision:
    if not isinstance(given, RetryDecision):
        raise TypeError(f"{said} {given!r:.300}: a job runs again by a RetryDecision")
    return given


def error_text(exception: BaseException) -> str:
    """The exception in one line, then its traceback, as text that PostgreSQL accepts."""
    try:
        summary = "".join(traceback.format_exception_only(exception)).strip()
        lines = traceback.format_exception(type(exception), exception, _without_our_frames(exception))
    except BaseException as broken:  # noqa: BLE001 - an exception of the user's own making, at the worst
        summary = type(exception).__qualname__
        lines = [f"Its traceback can't be shown: {type(broken).__name__}"]
    return _capped(storable_text(f"{summary}\n\n{''.join(lines)}"))


def _without_our_frames(exception: BaseException) -> Any:
    """The traceback from the task's own code on, or the whole one where the task's code was never reached."""
    frame = exception.__traceback__
    while frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith(_OUR_MODULES):
        frame = frame.tb_next
    return frame or exception.__traceback__


_OUR_MODULES = ("procrastinate_deps.worker.", "procrastinate_deps.middleware", "anyio.")


def _capped(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= MAX_ERROR_BYTES:
        return text
    # The first line says what happened, the last ones where: what is between them can be spared.
    half = MAX_ERROR_BYTES // 2
    head, tail = encoded[:half].decode(errors="ignore"), encoded[-half:].decode(errors="ignore")
    return f"{head}\n[... {len(encoded) - 2 * half} bytes left out ...]\n{tail}"


def storable_result(value: object, task: Task[..., Any, ...] | None, json_dumps: Callable[[Any], str]) -> str | None:
    """`value` as JSON text.

    What can't be stored leaves a mark instead, and a warning once per task and process: it fails no job.
    """
    if value is None or task is None or not task.store_result:
        return None
    try:
        text = dump(value, json_dumps)
        if any(mark in text for mark in _SUSPICIOUS):
            dump(json.loads(text), encode)
        if (size := len(text.encode())) <= MAX_RESULT_BYTES:
            return text
        obstacle = f"it has {size} bytes, more than {MAX_RESULT_BYTES}"
    except BaseException as error:  # noqa: BLE001 - whatever a user's json_dumps raises means the same
        obstacle = f"{type(error).__name__}: {error}"
    if task.name not in _tasks_warned_about:
        _tasks_warned_about.add(task.name)
        with shown_on_stderr():
            logger.warning(
                "The result of task %s is not stored: %s. Return something that is JSON, or pass store_result=False",
                task.name,
                obstacle,
                extra={"action": "result_not_stored", "task_name": task.name},
            )
    return encode({NOT_STORED: storable_text(obstacle)})
