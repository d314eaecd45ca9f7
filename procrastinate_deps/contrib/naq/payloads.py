"""What enqueue is told, as a job's arguments hold it: JSON, of which nothing is ever imported."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from procrastinate_deps.contrib.naq.paths import class_path
from procrastinate_deps.retry import MAX_WAIT_S, BaseRetryStrategy, RetryDecision

if TYPE_CHECKING:
    from collections.abc import Callable

    from procrastinate_deps.jobs import Job

KEY = "__naq__"
"""In a job's arguments, beside those of the function: what is to be done with this one job."""

_ARGS = "args"
_STRATEGIES = ("linear", "exponential")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """How a worker handles one job: retries, and how long a run may take.

    Attributes
    ----------
    max_retries:
        How often it runs again after a failure.
    retry_delay:
        Seconds before a retry; a sequence: before the first, the second, ..., the last one for all further ones.
    retry_strategy:
        "linear": the same delay each time. "exponential": twice as long each time.
    retry_on, ignore_on:
        Names of exceptions: only these are retried; these are not.
    timeout:
        Seconds. None: no limit.
    """

    max_retries: int = 0
    retry_delay: float | Sequence[float] = 0
    retry_strategy: str = "linear"
    retry_on: Sequence[str] = ()
    ignore_on: Sequence[str] = ()
    timeout: float | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.max_retries, int) or self.max_retries < 0:
            raise ValueError(f"max_retries={self.max_retries!r}: pass a number of retries, 0 or more")
        delays: Sequence[Any] = self.retry_delay if isinstance(self.retry_delay, (list, tuple)) else [self.retry_delay]
        if not delays or not all(_is_number(each, (int, float)) and 0 <= each < math.inf for each in delays):
            raise ValueError(f"retry_delay={self.retry_delay!r}: pass seconds, 0 or more, or a list of them")
        if self.retry_strategy not in _STRATEGIES:
            raise ValueError(f"retry_strategy={self.retry_strategy!r}: pass one of {', '.join(_STRATEGIES)}")
        for name in ("retry_on", "ignore_on"):
            names = getattr(self, name)
            if not isinstance(names, (list, tuple)) or not all(isinstance(each, str) for each in names):
                raise TypeError(f"{name}={names!r}: pass exceptions, or their names")
        if self.timeout is not None and (not _is_number(self.timeout, (int, float)) or not 0 < self.timeout < math.inf):
            raise ValueError(f"timeout={self.timeout!r}: pass seconds above 0, or None for no limit")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """From what enqueue was given."""
        given = dict(given)
        for name in ("retry_on", "ignore_on"):
            if name in given:
                given[name] = exception_names(name, given[name])
        if given.get("max_retries", 0) is None:
            del given["max_retries"]
        if (strategy := given.get("retry_strategy")) is not None:
            given["retry_strategy"] = str(getattr(strategy, "value", strategy)).lower()
        return cls(**given)

    @classmethod
    def read(cls, task_kwargs: Mapping[str, Any]) -> Self:
        """From a job's arguments, which anybody may have written. Raises ValueError or TypeError."""
        stored = task_kwargs.get(KEY, {})
        if not isinstance(stored, Mapping):
            raise TypeError(f"the argument {KEY} is {stored!r}, not an object")
        return cls(**{name: value for name, value in stored.items() if name != _ARGS})

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults."""
        plain = type(self)()
        return {name: value for name, value in asdict(self).items() if value != getattr(plain, name)}

    def wait_s(self, attempts: int) -> float:
        """Seconds to wait when a run has failed that had `attempts` runs before it."""
        if isinstance(self.retry_delay, Sequence):
            return min(self.retry_delay[min(attempts, len(self.retry_delay) - 1)], MAX_WAIT_S)
        factor = 2 ** min(attempts, 64) if self.retry_strategy == "exponential" else 1
        return min(self.retry_delay * factor, MAX_WAIT_S)


HANDLING_NAMES = frozenset(each.name for each in fields(Handling))


class PerJobRetry(BaseRetryStrategy):
    """Retries as each job's own arguments say."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        try:
            handling = Handling.read(job.task_kwargs)
        except (TypeError, ValueError):
            # the run has failed with it, and would again
            return None
        names = _names_of(exception)
        if job.attempts >= handling.max_retries or not names.isdisjoint(handling.ignore_on):
            return None
        if handling.retry_on and names.isdisjoint(handling.retry_on):
            return None
        wait_s = handling.wait_s(job.attempts)
        return RetryDecision(retry_in={"seconds": wait_s}) if wait_s else RetryDecision()


def exception_names(option: str, given: Any) -> tuple[str, ...]:
    """Exceptions by their dotted paths, so that a worker knows them without importing anything."""
    if given is not None and not isinstance(given, (type, str, Iterable)):
        raise TypeError(f"{option}: pass exceptions, or their names; got {given!r}")
    each_given = [given] if isinstance(given, (type, str)) else list(given or ())
    for each in each_given:
        if not isinstance(each, str) and not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"{option}: pass exceptions, or their names; got {each!r}")
    return tuple(each if isinstance(each, str) else class_path(each) for each in each_given)


def _names_of(exception: BaseException) -> set[str]:
    kinds = [kind for kind in type(exception).__mro__ if issubclass(kind, BaseException)]
    return {class_path(kind) for kind in kinds} | {kind.__name__ for kind in kinds}


def payload(
    path: str, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], handling: Handling
) -> dict[str, Any]:
    """A job's arguments: the function's by their names, and what has none (`*args`) as a list.

    Raises TypeError when the function can't be called so: better here than in the worker.
    """
    if KEY in kwargs:
        raise TypeError(f"{path}: the argument {KEY} is taken; give it another name")
    try:
        bound = inspect.signature(func).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{path} can't be called like that: {error}") from error
    except ValueError:  # some functions written in C don't say what they take
        positional, named = list(args), dict(kwargs)
    else:
        positional, named = _split(bound)
    extra = handling.to_json() | ({_ARGS: positional} if positional else {})
    return named | ({KEY: extra} if extra else {})


def _split(bound: inspect.BoundArguments) -> tuple[list[Any], dict[str, Any]]:
    """What is to be passed by position, and what by name: all of it, where every argument has a name."""
    kinds = {bound.signature.parameters[name].kind for name in bound.arguments}
    if kinds & {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL}:
        return list(bound.args), bound.kwargs
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        else:
            named[name] = value
    return [], named


def call_arguments(task_kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """What `payload` was made of."""
    named = {name: value for name, value in task_kwargs.items() if name != KEY}
    return list(task_kwargs.get(KEY, {}).get(_ARGS, [])), named


def _is_number(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
