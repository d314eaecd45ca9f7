"""Tasks that are deferred by the clock: `@app.periodic(cron=...)`."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from typing import TYPE_CHECKING, Any, cast

from procrastinate_deps.exceptions import TaskAlreadyRegistered
from procrastinate_deps.jobs import PeriodicSpec
from procrastinate_deps.tasks import Task, configure_job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from procrastinate_deps.app import App
    from procrastinate_deps.cron import Schedule

logger = logging.getLogger(__name__)

MAX_DELAY_S = 600.0
TIMESTAMP = "timestamp"
"""The argument that a periodic task is called with."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicDefaults:
    """What `App(periodic_defaults=...)` takes.

    max_delay:
        Seconds. A period that nobody could defer for longer is left out. Default: 600.
    """

    max_delay: float = MAX_DELAY_S

    def __post_init__(self) -> None:
        if not self.max_delay >= 0:
            raise ValueError(f"periodic_defaults: max_delay={self.max_delay!r}; pass a number of seconds, 0 or more")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicTask:
    """A task, when it is deferred, and how: `options` are those of `Task.configure`."""

    task: Task[..., Any, ...]
    schedule: Schedule
    periodic_id: str
    options: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        return self.task.name, self.periodic_id

    def spec(self) -> PeriodicSpec:
        """What the database is told; a `schedule_in` counts from now."""
        return PeriodicSpec(
            periodic_id=self.periodic_id,
            cron=self.schedule.cron,
            timezone=self.schedule.timezone,
            job=self.task.configure(**self.options).job_spec(),
        )


class PeriodicRegistry:
    """The periodic tasks of an app or a blueprint.

    Attributes
    ----------
    periodic_tasks:
        By the name of the task and its periodic_id.
    """

    def __init__(self) -> None:
        self.periodic_tasks: dict[tuple[str, str], PeriodicTask] = {}

    def register_task(
        self, task: Task[..., Any, ...], schedule: Schedule, periodic_id: str, options: Mapping[str, Any]
    ) -> None:
        if not isinstance(task, Task):
            raise TypeError(f"@periodic was given {task!r}, which is no task: write it above @app.task, not below")
        _check_options(task, options)
        _check_takes_timestamp(task)
        self._add(PeriodicTask(task=task, schedule=schedule, periodic_id=periodic_id, options=options))

    def take_over(self, other: PeriodicRegistry) -> None:
        """Those of a blueprint, when their tasks have the names that they have from here on."""
        for each in other.periodic_tasks.values():
            self._add(each)

    def _add(self, periodic: PeriodicTask) -> None:
        if periodic.key in self.periodic_tasks:
            raise TaskAlreadyRegistered(
                f"task {periodic.task.name!r} has a schedule with the periodic_id {periodic.periodic_id!r} already; "
                "give each of its schedules a periodic_id of its own"
            )
        self.periodic_tasks[periodic.key] = periodic
        logger.debug(
            "Task %s is periodic: %s, %s",
            periodic.task.name,
            periodic.schedule.cron,
            periodic.schedule.timezone,
            extra={"action": "registering_periodic_task", "task_name": periodic.task.name}
            | {"periodic_id": periodic.periodic_id, "cron": periodic.schedule.cron},
        )


def _check_options(task: Task[..., Any, ...], options: Mapping[str, Any]) -> None:
    """Raise here, where they are written, and not when a worker starts."""
    if options.get("connection") is not None:
        raise TypeError("connection= is for jobs that you defer; periodic jobs are deferred by workers")
    # There may be no app yet, and none is needed: nothing is deferred.
    configure_job(cast("App", None), task, task.default_spec(), **options)


def _check_takes_timestamp(task: Task[..., Any, ...]) -> None:
    try:
        parameters = list(inspect.signature(task.func).parameters.values())
    except ValueError:  # a builtin without a signature
        return
    by_name = [each for each in parameters[task.pass_context :] if each.kind is not each.POSITIONAL_ONLY]
    if not any(each.name == TIMESTAMP or each.kind is each.VAR_KEYWORD for each in by_name):
        raise TypeError(
            f"task {task.name!r} takes no {TIMESTAMP!r}: a periodic task is called with {TIMESTAMP}=..., "
            "the period's time in seconds since the epoch"
        )
