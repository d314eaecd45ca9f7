"""`@app.periodic`: what is registered, and what is refused where it is written."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any

import pytest

from procrastinate_deps import App, Blueprint, JobContext, PsycopgConnector
from procrastinate_deps.exceptions import TaskAlreadyRegistered


@pytest.fixture
def app() -> App:
    return App(PsycopgConnector())


def tick(timestamp: int) -> None: ...


def test_it_stands_above_the_task_and_gives_the_task(app: App) -> None:
    @app.periodic(cron="*/5 * * * *", timezone="Europe/Paris", queue="q", priority=3, task_kwargs={"a": 1})
    @app.task(name="t")
    def task(timestamp: int, a: int) -> int:
        return timestamp + a

    assert app.tasks["t"] is task
    assert task(timestamp=1, a=2) == 3
    (periodic,) = app.periodic_registry.periodic_tasks.values()
    assert periodic.key == ("t", "")
    assert (periodic.schedule.cron, periodic.schedule.timezone) == ("*/5 * * * *", "Europe/Paris")
    spec = periodic.spec()
    assert (spec.job.task_name, spec.job.queue, spec.job.priority) == ("t", "q", 3)
    assert spec.job.task_kwargs == {"a": 1}


def test_a_schedule_in_counts_from_each_deferral(app: App) -> None:
    app.periodic(cron="* * * * *", schedule_in={"minutes": 5})(app.task(name="t")(tick))
    (periodic,) = app.periodic_registry.periodic_tasks.values()
    first, second = (periodic.spec().job.scheduled_at for _ in range(2))
    assert first is not None
    assert second is not None
    assert timedelta(0) < second - first < timedelta(minutes=1)


def test_two_schedules_of_a_task_need_ids(app: App) -> None:
    task = app.task(name="t")(tick)
    app.periodic(cron="0 0 * * *", periodic_id="night")(app.periodic(cron="0 12 * * *")(task))
    assert set(app.periodic_registry.periodic_tasks) == {("t", ""), ("t", "night")}
    with pytest.raises(TaskAlreadyRegistered, match="'t' has a schedule with the periodic_id 'night'"):
        app.periodic(cron="0 1 * * *", periodic_id="night")(task)


def test_a_blueprints_tasks_have_their_names_of_the_app(app: App) -> None:
    inner, outer = Blueprint(), Blueprint()
    inner.periodic(cron="* * * * *", queue="q")(inner.task(name="t")(tick))
    outer.add_tasks_from(inner, namespace="in")
    app.add_tasks_from(outer, namespace="out")
    assert set(app.periodic_registry.periodic_tasks) == {("out:in:t", "")}
    (periodic,) = app.periodic_registry.periodic_tasks.values()
    assert periodic.spec().job.task_name == "out:in:t"


def test_invalid_schedules_are_refused_where_they_are_written(app: App) -> None:
    with pytest.raises(ValueError, match=r"cron='61 \* \* \* \*'"):
        app.periodic(cron="61 * * * *")
    with pytest.raises(ValueError, match="timezone='Europe/Atlantis'"):
        app.periodic(cron="* * * * *", timezone="Europe/Atlantis")


def test_below_the_task_or_on_a_function_it_is_refused(app: App) -> None:
    with pytest.raises(TypeError, match=r"write it above @app\.task"):
        app.periodic(cron="* * * * *")(tick)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"nonsense": 1}, TypeError, "nonsense"),
        ({"connection": object()}, TypeError, "connection="),
        ({"schedule_in": 5}, TypeError, "schedule_in"),
        ({"run_when": "never"}, ValueError, "run_when"),
    ],
)
def test_options_are_refused_where_they_are_written(
    app: App, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        app.periodic(cron="* * * * *", **options)(app.task(name="t")(tick))
    assert app.periodic_registry.periodic_tasks == {}


def test_a_task_must_take_the_timestamp(app: App) -> None:
    def no_timestamp(when: int) -> None: ...

    def by_position(timestamp: int, /) -> None: ...

    def any_keyword(**kwargs: Any) -> None: ...

    def with_context(context: JobContext, timestamp: int) -> None: ...

    periodic = app.periodic(cron="* * * * *")
    for number, function in enumerate([no_timestamp, by_position]):
        with pytest.raises(TypeError, match=r"takes no 'timestamp'"):
            periodic(app.task(name=f"refused{number}")(function))
    with pytest.raises(TypeError, match=r"takes no 'timestamp'"):
        # the context's name is the user's choice
        periodic(app.task(name="refused", pass_context=True)(tick))  # type: ignore[arg-type]
    periodic(app.task(name="any_keyword")(any_keyword))
    periodic(app.task(name="with_context", pass_context=True)(with_context))
    periodic(app.task(name="partial")(functools.partial(lambda a, timestamp: None, 1)))


def test_the_apps_defaults() -> None:
    assert App(PsycopgConnector()).periodic_defaults.max_delay == 600
    assert App(PsycopgConnector(), periodic_defaults={"max_delay": 5}).periodic_defaults.max_delay == 5
    with pytest.raises(ValueError, match="max_delay=-1"):
        App(PsycopgConnector(), periodic_defaults={"max_delay": -1})
    with pytest.raises(TypeError, match="maximum"):
        App(PsycopgConnector(), periodic_defaults={"maximum": 5})
