"""A verb: what it asks of the database, written once; and how it becomes a method, sync or async."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from procrastinate_deps.statements import Statement

if TYPE_CHECKING:
    from procrastinate_deps.jsontext import JsonDumps

P = ParamSpec("P")
T = TypeVar("T")

Steps: TypeAlias = Generator[Statement[Any], Any, T]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """What a verb asks for: statements, one after the other, and the connection to run them on (None: one of ours)."""

    steps: Callable[[JsonDumps], Steps[T]]
    connection: Any


def one(statement: Statement[T], connection: Any = None) -> Call[T]:
    """The call of a verb that is a single statement."""

    def steps(json_dumps: JsonDumps) -> Steps[T]:
        result: T = yield statement
        return result

    return Call(steps, connection)


class Manager(Protocol):
    """What runs a call: the job manager."""

    def run(self, call: Call[T]) -> T: ...

    async def run_async(self, call: Call[T]) -> T: ...


class SyncVerb(Generic[P, T]):
    """A verb as a method that is not async."""

    def __init__(self, verb: Callable[P, Call[T]]) -> None:
        self._verb = verb
        self.__doc__ = verb.__doc__

    @overload
    def __get__(self, manager: None, owner: type) -> SyncVerb[P, T]: ...
    @overload
    def __get__(self, manager: Manager, owner: type) -> Callable[P, T]: ...
    def __get__(self, manager: Manager | None, owner: type) -> SyncVerb[P, T] | Callable[P, T]:
        if manager is None:
            return self

        def method(*args: P.args, **kwargs: P.kwargs) -> T:
            return manager.run(self._verb(*args, **kwargs))

        return update_wrapper(method, self._verb)


class AsyncVerb(Generic[P, T]):
    """A verb as a coroutine method."""

    def __init__(self, verb: Callable[P, Call[T]]) -> None:
        self._verb = verb
        self.__doc__ = verb.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, manager: None, owner: type) -> AsyncVerb[P, T]: ...
    @overload
    def __get__(self, manager: Manager, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, manager: Manager | None, owner: type) -> AsyncVerb[P, T] | Callable[P, Coroutine[Any, Any, T]]:
        if manager is None:
            return self

        async def method(*args: P.args, **kwargs: P.kwargs) -> T:
            return await manager.run_async(self._verb(*args, **kwargs))

        # Like a bound method, but made once: this is in the path of every deferral.
        method = update_wrapper(method, self._verb)
        if getattr(type(manager), self._name, None) is self:  # not by super(), from a class that overrides it
            vars(manager)[self._name] = method
        return method
