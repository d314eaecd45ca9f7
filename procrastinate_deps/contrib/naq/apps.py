"""The app behind `enqueue`: plain functions as tasks, and only those of the modules that an operator lists."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio

from procrastinate_deps.app import App
from procrastinate_deps.contrib.naq.paths import function_path
from procrastinate_deps.contrib.naq.payloads import Handling, PerJobRetry, call_arguments
from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.exceptions import FunctionPathError, LoadFromPathError, ProcrastinateException
from procrastinate_deps.middleware import is_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

    from procrastinate_deps.connectors.base import AsyncConnector, SyncConnector

logger = logging.getLogger(__name__)

MODULES_VARIABLE = "PROCRASTINATE_DEPS_NAQ_MODULES"

_importing: ContextVar[str | None] = ContextVar("importing", default=None)


class NaqApp(App):
    """An app whose tasks are plain functions; made by `naq_app`."""

    def __init__(
        self,
        connector: AsyncConnector | SyncConnector | None = None,
        *,
        modules: Iterable[str] | None = None,
        worker_defaults: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(modules, str):
            raise TypeError(f"modules={modules!r}: pass a list of names, as [{modules!r}]")
        super().__init__(connector, worker_defaults=worker_defaults)
        self._modules = None if modules is None else tuple(modules)
        self._registered: set[str] = set()

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules whose functions a worker runs."""
        if self._modules is not None:
            return self._modules
        return tuple(name for each in os.environ.get(MODULES_VARIABLE, "").split(",") if (name := each.strip()))

    def perform_import_paths(self) -> None:
        super().perform_import_paths()
        for name in self.modules:
            if name not in self._registered:
                self._registered.add(name)
                self._register_module(_import(name))
        if not self.modules and not any(isinstance(task.func, _Run) for task in self.tasks.values()):
            logger.warning(
                "No module is listed, so no job that enqueue() made can run here: set %s=package.module,... or make "
                "the worker's app by naq_app(modules=[...])",
                MODULES_VARIABLE,
                extra={"action": "naq_no_modules"},
            )

    def register(self, path: str, func: Callable[..., Any]) -> None:
        """Let workers of this very process run a function that it has enqueued, where no modules are listed."""
        if not self.modules:
            self._add(path, func)

    def _register_module(self, module: ModuleType) -> None:
        for name, value in vars(module).items():
            if not callable(value) or isinstance(value, type):
                continue
            # one that was only imported into it belongs to another module
            with contextlib.suppress(FunctionPathError):
                path = function_path(value)
                if path == f"{module.__name__}.{name}":
                    self._add(path, value)

    def _add(self, path: str, func: Callable[..., Any]) -> None:
        known = self.tasks.get(path)
        if known is None:
            run = _RunAsync(path, func) if is_async(func) else _Run(path, func)
            self.task(name=path, retry=PerJobRetry(), run_when=RunWhen.ALL_SUCCEEDED)(run)
        elif isinstance(known.func, _Run):
            # the same one, or a newer one by its name, in an interpreter that has loaded the module again
            known.func.wrapped = func


class _Run:
    """What a task calls: the function, with the arguments that enqueue was given."""

    def __init__(self, path: str, func: Callable[..., Any]) -> None:
        self.__module__, _, self.__name__ = path.rpartition(".")
        self.__qualname__ = self.__name__
        self.__doc__ = func.__doc__
        self.wrapped = func

    def __call__(self, /, **task_kwargs: Any) -> Any:
        timeout = Handling.read(task_kwargs).timeout
        args, kwargs = call_arguments(task_kwargs)
        began = time.monotonic()
        result = self.wrapped(*args, **kwargs)
        # A thread can't be interrupted: that it took too long is known when it has ended.
        if timeout is not None and time.monotonic() - began > timeout:
            raise _too_long(timeout)
        return result


class _RunAsync(_Run):
    async def __call__(self, /, **task_kwargs: Any) -> Any:
        timeout = Handling.read(task_kwargs).timeout
        args, kwargs = call_arguments(task_kwargs)
        result = None
        with anyio.move_on_after(timeout) as scope:
            result = await self.wrapped(*args, **kwargs)
        if timeout is not None and scope.cancelled_caught:
            raise _too_long(timeout)
        return result


def _too_long(timeout: float) -> TimeoutError:
    return TimeoutError(f"ran longer than the job's timeout of {timeout} s")


def _import(name: str) -> ModuleType:
    token = _importing.set(name)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise LoadFromPathError(
            f"{MODULES_VARIABLE} or naq_app(modules=[...]): module {name!r} can't be imported: {error}"
        ) from error
    finally:
        _importing.reset(token)


def refuse_while_importing() -> None:
    """A module that enqueues when it is imported would do so in every worker that lists it."""
    if (name := _importing.get()) is not None:
        raise ProcrastinateException(
            f"module {name} enqueues jobs when it is imported, and each worker that lists it would do it again: "
            'put that under `if __name__ == "__main__":`, or the functions into a module of their own'
        )


app = NaqApp()
"""The app that `enqueue` uses where `naq_app` makes no other. The environment names its database and its modules."""

_current = app


def naq_app(
    connector: AsyncConnector | SyncConnector | None = None,
    *,
    modules: Iterable[str] | None = None,
    worker_defaults: Mapping[str, Any] | None = None,
) -> NaqApp:
    """Make the app of a worker; `enqueue` in this process uses it from now on.

    Parameters
    ----------
    connector, worker_defaults:
        As for `App`.
    modules:
        The modules ("package.module") whose functions a worker runs: those that are defined in them, under any name.
        A job that asks for another function fails as an unknown task. Default: those of the environment variable
        PROCRASTINATE_DEPS_NAQ_MODULES, separated by commas.
    """
    global _current
    _current = NaqApp(connector, modules=modules, worker_defaults=worker_defaults)
    return _current


def current_app() -> NaqApp:
    return _current
