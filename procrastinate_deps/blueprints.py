"""Tasks declared before there is an app for them."""

from __future__ import annotations

import functools
import logging
import sys
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, Unpack, overload

from procrastinate_deps.cron import Schedule
from procrastinate_deps.exceptions import TaskAlreadyRegistered
from procrastinate_deps.periodic import PeriodicRegistry
from procrastinate_deps.tasks import JobOptions, Task, TaskOptions, add_namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from procrastinate_deps.app import App
    from procrastinate_deps.context import JobContext

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
AnyTask = TypeVar("AnyTask", bound=Task[..., Any, ...])

# The modules whose frames stand between a user's module and Blueprint.__init__.
_OWN_MODULES = frozenset({"procrastinate_deps.app", __name__})


class Blueprint:
    """A set of tasks that an app takes over later::

        cats = Blueprint()

        @cats.task
        def feed(cat: str) -> None: ...

        app.add_tasks_from(cats, namespace="cats")  # the task's name is now "cats:package.module.feed"

    Deferring a task before that raises `UnboundTaskError`.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, Task[..., Any, ...]] = {}
        self.periodic_registry = PeriodicRegistry()
        self._taken = False
        self._warn_in_main()

    @property
    def bound_app(self) -> App | None:
        """The app itself, where this is one."""
        return None

    def add_tasks_from(self, blueprint: Blueprint, *, namespace: str) -> None:
        """Take over all tasks of `blueprint`, with `namespace:` in front of their names and aliases.

        Raises
        ------
        TaskAlreadyRegistered:
            One of the names is taken, or the blueprint's tasks belong to another one already.
        """
        if blueprint._taken or blueprint.bound_app is not None:
            raise TaskAlreadyRegistered(
                f"namespace {namespace!r}: these tasks belong to an app or a blueprint already, "
                "and a task has only one name; make another Blueprint for them"
            )
        added = {add_namespace(name, namespace): task for name, task in blueprint.tasks.items()}
        if taken := sorted(self.tasks.keys() & added.keys()):
            raise TaskAlreadyRegistered(
                f"namespace {namespace!r}: there are tasks by these names already: {', '.join(taken)}"
            )
        for task in set(blueprint.tasks.values()):
            task.add_namespace(namespace)
            task.blueprint = self
        blueprint.tasks = added
        blueprint._taken = True
        self.tasks.update(added)
        self.periodic_registry.take_over(blueprint.periodic_registry)

    def add_task_alias(self, task: Task[..., Any, ...], alias: str) -> None:
        """Let jobs that ask for `alias` (with its namespace) run `task` too: after it was renamed or moved."""
        self._check_free([alias])
        self.tasks[alias] = task
        task.aliases.append(alias)

    @overload
    def task(self, func: Callable[P, R], /) -> Task[P, R, P]: ...

    @overload
    def task(
        self, func: None = None, /, *, pass_context: Literal[False] = False, **options: Unpack[TaskOptions]
    ) -> Callable[[Callable[P, R]], Task[P, R, P]]: ...

    @overload
    def task(
        self, func: None = None, /, *, pass_context: Literal[True], **options: Unpack[TaskOptions]
    ) -> Callable[[Callable[Concatenate[JobContext, P], R]], Task[Concatenate[JobContext, P], R, P]]: ...

    def task(
        self,
        func: Callable[..., Any] | None = None,
        /,
        *,
        pass_context: bool = False,
        **options: Unpack[TaskOptions],
    ) -> Any:
        """Declare a function as a task: `@app.task`, or `@app.task(...)`.

        Parameters
        ----------
        pass_context:
            Whether the function takes the `JobContext` as its first argument. Default: False.
        options:
            See `TaskOptions`.

        Raises
        ------
        TaskAlreadyRegistered:
            The name or an alias is taken.
        """

        def register(func: Callable[..., Any]) -> Task[..., Any, ...]:
            task: Task[..., Any, ...] = Task(func, blueprint=self, pass_context=pass_context, **options)
            self._register(task)
            functools.update_wrapper(task, func, updated=())
            return task

        return register if func is None else register(func)

    def periodic(
        self,
        *,
        cron: str,
        periodic_id: str = "",
        timezone: str | ZoneInfo = "UTC",
        task_kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> Callable[[AnyTask], AnyTask]:
        """Let workers defer a task by the clock, each period once however many they are::

            @app.periodic(cron="0 3 * * *", timezone="Europe/Paris")
            @app.task
            def clean_up(timestamp: int) -> None: ...

        The task is called with `timestamp`, the period's time in seconds since the epoch.

        Parameters
        ----------
        cron:
            Minute, hour, day of the month, month, day of the week, and as wanted a sixth field, the second.
        periodic_id:
            Tells several schedules of one task apart. Default: "".
        timezone:
            Name of the time zone whose clock the schedule goes by. Default: "UTC".
        task_kwargs, options:
            As for `Task.configure`.

        Raises
        ------
        ValueError:
            The cron expression or the time zone can't be used; an option has a value that it can't have.
        TypeError:
            It doesn't stand above `@app.task`; the task takes no `timestamp`; an unknown option.
        TaskAlreadyRegistered:
            The task has a schedule with this periodic_id.
        """
        schedule = Schedule(cron, timezone)

        def register(task: AnyTask) -> AnyTask:
            self.periodic_registry.register_task(task, schedule, periodic_id, {"task_kwargs": task_kwargs, **options})
            return task

        return register

    def _register(self, task: Task[..., Any, ...]) -> None:
        names = [task.name, *task.aliases]
        self._check_free(names)
        self.tasks.update(dict.fromkeys(names, task))

    def _check_free(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self.tasks:
                raise TaskAlreadyRegistered(
                    f"there is a task named {name!r} already, {self.tasks[name].func!r}; give one of them another name="
                )

    def _warn_in_main(self) -> None:
        frame = sys._getframe(1)  # noqa: SLF001 - inspect.stack() reads the source of every frame
        while frame.f_back is not None and frame.f_globals.get("__name__") in _OWN_MODULES:
            frame = frame.f_back
        if frame.f_globals.get("__name__") != "__main__":
            return
        logger.warning(
            "This %s is made in the module that Python was started with (%s): its tasks are named __main__.something, "
            "and no worker finds them under that name. Move it to a module that can be imported.",
            type(self).__name__,
            sys.argv[0],
            extra={"action": "app_defined_in___main__"},
        )
