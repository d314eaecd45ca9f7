"""Keeps what a job does to the task that it runs in from those that run there after it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import types
from typing import TYPE_CHECKING, Any

import anyio
from anyio._backends import _asyncio as anyio_on_asyncio

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Coroutine, Generator, Mapping

# Let through as it is, it would look as if the worker's own coroutines were closed.
RAISED_GENERATOR_EXIT = "the task raised GeneratorExit"


@types.coroutine
def in_context(
    job: Coroutine[Any, Any, Any], context: contextvars.Context, waits: Callable[[], None]
) -> Generator[Any, Any, Any]:
    """Run `job` in a context, in the task that awaits this; call `waits` when it waits for the first time."""
    try:
        awaited = context.run(job.send, None)
    except StopIteration as stop:
        return stop.value
    except GeneratorExit as error:
        raise RuntimeError(RAISED_GENERATOR_EXIT) from error
    waits()
    while True:
        try:
            value = yield awaited
        except GeneratorExit:
            context.run(job.close)
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, the job gets it
            resume: Callable[[], Any] = functools.partial(job.throw, error)
        else:
            resume = functools.partial(job.send, value)
        try:
            awaited = context.run(resume)
        except StopIteration as stop:
            return stop.value
        except GeneratorExit as error:
            raise RuntimeError(RAISED_GENERATOR_EXIT) from error


# anyio has no other way to it.
_TASK_STATES: Mapping[Any, Any] = getattr(anyio_on_asyncio, "_task_states", {})


def leave_scopes_inside(scope: anyio.CancelScope) -> bool:
    """Leave the cancel scopes that this task has entered inside of `scope` and not left; whether there were any.

    They would cancel what runs here later, and `scope` itself can't be left before them.
    """
    state = _TASK_STATES.get(asyncio.current_task())
    innermost: anyio.CancelScope | None = getattr(state, "cancel_scope", scope)
    if innermost is scope:
        return False
    with contextlib.suppress(RuntimeError):  # one that anyio takes for another task's
        while innermost is not scope and innermost is not None:
            innermost.__exit__(None, None, None)
            innermost = getattr(state, "cancel_scope", scope)
    return True


def torn_down() -> bool:
    """Whether the surroundings are cancelled, not just a slot."""
    return anyio.current_effective_deadline() == -math.inf
