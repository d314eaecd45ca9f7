"""How a verb about a workflow, written once, becomes a method of it, sync or async."""

from __future__ import annotations

from functools import update_wrapper
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from procrastinate_deps.verbs.base import Call
    from procrastinate_deps.workflows.handle import Workflow

P = ParamSpec("P")
T = TypeVar("T")


class SyncMethod(Generic[P, T]):
    """A verb as a method that is not async."""

    def __init__(self, verb: Callable[Concatenate[Workflow, P], Call[T]]) -> None:
        self._verb = verb
        self.__doc__ = verb.__doc__

    @overload
    def __get__(self, workflow: None, owner: type) -> SyncMethod[P, T]: ...
    @overload
    def __get__(self, workflow: Workflow, owner: type) -> Callable[P, T]: ...
    def __get__(self, workflow: Workflow | None, owner: type) -> SyncMethod[P, T] | Callable[P, T]:
        if workflow is None:
            return self

        def method(*args: P.args, **kwargs: P.kwargs) -> T:
            return workflow.app.job_manager.run(self._verb(workflow, *args, **kwargs))

        return update_wrapper(method, self._verb)


class AsyncMethod(Generic[P, T]):
    """A verb as a coroutine method."""

    def __init__(self, verb: Callable[Concatenate[Workflow, P], Call[T]]) -> None:
        self._verb = verb
        self.__doc__ = verb.__doc__

    @overload
    def __get__(self, workflow: None, owner: type) -> AsyncMethod[P, T]: ...
    @overload
    def __get__(self, workflow: Workflow, owner: type) -> Callable[P, Coroutine[None, None, T]]: ...
    def __get__(
        self, workflow: Workflow | None, owner: type
    ) -> AsyncMethod[P, T] | Callable[P, Coroutine[None, None, T]]:
        if workflow is None:
            return self

        async def method(*args: P.args, **kwargs: P.kwargs) -> T:
            return await workflow.app.job_manager.run_async(self._verb(workflow, *args, **kwargs))

        return update_wrapper(method, self._verb)
