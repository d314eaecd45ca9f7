"""What a task and a deferrer are, before anything is sent."""

from __future__ import annotations

import functools
import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from procrastinate_deps import App, Blueprint, JobContext, PsycopgConnector, RetryStrategy, RunWhen, builtin_tasks
from procrastinate_deps.exceptions import FunctionPathError, TaskAlreadyRegistered, TaskNotFound, UnboundTaskError
from procrastinate_deps.jobs import JobSpec

if TYPE_CHECKING:
    from pathlib import Path

    from procrastinate_deps.tasks import Task


@pytest.fixture
def app() -> App:
    return App(PsycopgConnector())


def double(number: int) -> int:
    """Twice as much."""
    return 2 * number


def test_a_task_is_still_the_function(app: App) -> None:
    task = app.task(double)
    assert task(4) == 8
    assert task.__name__ == "double"
    assert task.__doc__ == "Twice as much."


def own(app: App) -> dict[str, Task[..., Any, ...]]:
    """Its tasks, without those that every app has."""
    return {name: task for name, task in app.tasks.items() if task.queue != builtin_tasks.QUEUE}


def test_with_and_without_parentheses(app: App) -> None:
    bare = app.task(double)
    called = app.task(name="called")(double)
    assert (bare.name, called.name) == (f"{__name__}.double", "called")
    assert own(app) == {bare.name: bare, "called": called}


def test_defaults(app: App) -> None:
    task = app.task(double)
    assert task.configure().job_spec(number=1) == JobSpec(
        task_name=task.name,
        task_kwargs={"number": 1},
        queue="default",
        priority=0,
        lock=None,
        queueing_lock=None,
        scheduled_at=None,
        run_when=RunWhen.ALL_FINISHED,
        depends_on=[],
    )
    assert task.retry_strategy is None
    assert task.timeout is None
    assert task.store_result
    assert not task.pass_context


def options_of(spec: JobSpec) -> tuple[Any, ...]:
    return spec.queue, spec.priority, spec.lock, spec.queueing_lock, spec.run_when


def test_a_tasks_own_options_and_configures(app: App) -> None:
    task = app.task(
        queue="q",
        priority=3,
        lock="l",
        queueing_lock="ql",
        retry=2,
        run_when="all_succeeded",
        timeout=2.5,
        store_result=False,
    )(double)
    spec = task.configure().job_spec(number=1)
    assert options_of(spec) == ("q", 3, "l", "ql", "all_succeeded")
    assert task.retry_strategy == RetryStrategy(max_attempts=2)
    assert (task.timeout, task.store_result) == (2.5, False)

    spec = task.configure(
        queue="q2", priority=0, lock="l2", queueing_lock="ql2", run_when=RunWhen.ANY_FAILED, depends_on=[4, 3, 4]
    ).job_spec(number=1)
    assert options_of(spec) == ("q2", 0, "l2", "ql2", "any_failed")
    assert spec.depends_on == [4, 3]


@pytest.mark.parametrize("depends_on", [None, [], ()])
def test_no_parents(app: App, depends_on: Any) -> None:
    assert app.task(double).configure(depends_on=depends_on).job_spec(number=1).depends_on == []


def test_a_task_as_a_parent_is_refused_before_anything_is_sent(app: App) -> None:
    task = app.task(double)
    with pytest.raises(TypeError, match="defer"):
        task.configure(depends_on=[task])  # type: ignore[list-item]


def test_an_unknown_rule_names_the_six(app: App) -> None:
    with pytest.raises(ValueError, match="'sometimes'") as configured:
        app.task(double).configure(run_when="sometimes")
    with pytest.raises(ValueError, match="'sometimes'") as declared:
        app.task(name="other", run_when="sometimes")(double)
    for rule in RunWhen:
        assert rule.value in str(configured.value)
        assert rule.value in str(declared.value)
    assert "other" not in app.tasks


def test_arguments_of_defer_win_over_configures(app: App) -> None:
    deferrer = app.configure_task("somewhere.task", task_kwargs={"a": 1, "b": 1})
    assert deferrer.job_spec(b=2, c=2).task_kwargs == {"a": 1, "b": 2, "c": 2}
    assert deferrer.job_spec().task_kwargs == {"a": 1, "b": 1}


def test_a_moment(app: App) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    assert app.task(double).configure(schedule_at=moment).job_spec(number=1).scheduled_at == moment


@pytest.mark.parametrize("distance", [timedelta(hours=1), {"hours": 1}])
def test_a_distance_counts_from_the_call_of_defer(app: App, distance: Any) -> None:
    deferrer = app.task(double).configure(schedule_in=distance)
    before = datetime.now(UTC)
    first = deferrer.job_spec(number=1).scheduled_at
    second = deferrer.job_spec(number=1).scheduled_at
    assert first is not None
    assert second is not None
    assert before + timedelta(hours=1) <= first < second


def test_both_a_moment_and_a_distance_are_refused(app: App) -> None:
    with pytest.raises(ValueError, match="schedule_in"):
        app.task(double).configure(schedule_at=datetime.now(UTC), schedule_in={"seconds": 0})


def test_a_moment_without_a_time_zone_is_refused(app: App) -> None:
    with pytest.raises(ValueError, match="time zone"):
        app.task(double).configure(schedule_at=datetime(2030, 1, 1))  # noqa: DTZ001 - a naive one is the point


def test_a_schedule_takes_no_moment_that_could_not_be_read_again(app: App) -> None:
    task = app.task(double)
    for given in datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), datetime.max.replace(tzinfo=timezone.min):
        with pytest.raises(ValueError, match=r"schedule_at=.* outside of the years 1 to 9999 in UTC; pass"):
            task.configure(schedule_at=given)
    with pytest.raises(ValueError, match=r"schedule_in=.* outside of the years 1 to 9999 in UTC; pass"):
        task.configure(schedule_in=timedelta.max).job_spec(number=1)


def test_an_unknown_option_is_refused(app: App) -> None:
    with pytest.raises(TypeError, match="depend_on"):
        app.task(double).configure(depend_on=[1])  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="quue"):
        app.task(quue="x")(double)  # type: ignore[call-overload]


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_is_a_time(app: App, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        app.task(timeout=timeout)(double)


def test_arguments_by_position_get_their_names(app: App) -> None:
    @app.task(pass_context=True)
    def copy(context: JobContext, source: str, target: str, *, force: bool = False) -> None: ...

    assert copy.configure().job_spec("a", "b").task_kwargs == {"source": "a", "target": "b"}
    assert copy.configure().job_spec("a", target="b", force=True).task_kwargs == {
        "source": "a",
        "target": "b",
        "force": True,
    }
    with pytest.raises(TypeError, match="source, target"):
        copy.configure().job_spec("a", "b", True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="both by position and by keyword: source"):
        copy.configure().job_spec("a", source="b", target="c")  # type: ignore[misc]
    with pytest.raises(TypeError, match="by keyword"):
        app.configure_task("somewhere.task").job_spec("a")


async def coroutine() -> None: ...


class Callable:
    __name__ = "Callable"

    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (coroutine, True),
        (functools.wraps(coroutine)(functools.partial(coroutine)), True),
        (Callable(), True),
        (double, False),
    ],
)
def test_which_functions_are_coroutines(app: App, function: Any, is_async: bool) -> None:
    assert app.task(function).is_async is is_async


def test_a_function_without_a_name_needs_one(app: App) -> None:
    nameless = functools.partial(double, 4)
    with pytest.raises(FunctionPathError, match="name="):
        app.task(nameless)
    assert app.task(name="four")(nameless)() == 8


def test_names_are_unique(app: App) -> None:
    app.task(name="one", aliases=["uno"])(double)
    before = dict(app.tasks)
    for names in ({"name": "one"}, {"name": "uno"}, {"name": "two", "aliases": ["dos", "one"]}):
        with pytest.raises(TaskAlreadyRegistered, match=r"'(one|uno)'.*double"):
            app.task(**names)(double)
    assert app.tasks == before


def test_a_blueprints_tasks_get_the_namespace(app: App) -> None:
    blueprint = Blueprint()
    task = blueprint.task(name="feed", aliases=["nourish"])(double)
    blueprint.add_task_alias(task, "fatten")
    app.add_tasks_from(blueprint, namespace="cats")
    assert own(app) == dict.fromkeys(["cats:feed", "cats:nourish", "cats:fatten"], task)
    assert (task.name, task.aliases) == ("cats:feed", ["cats:nourish", "cats:fatten"])
    assert task.configure().job_spec(number=1).task_name == "cats:feed"


def test_blueprints_nest(app: App) -> None:
    inner, outer = Blueprint(), Blueprint()
    task = inner.task(name="t")(double)
    outer.add_tasks_from(inner, namespace="inner")
    with pytest.raises(UnboundTaskError):
        task.configure()
    app.add_tasks_from(outer, namespace="outer")
    assert list(own(app)) == ["outer:inner:t"]
    assert task.app is app


def test_an_alias_of_an_app(app: App) -> None:
    task = app.task(double)
    app.add_task_alias(task, "cats:feed")
    assert app.tasks["cats:feed"] is task
    with pytest.raises(TaskAlreadyRegistered, match="cats:feed"):
        app.add_task_alias(task, "cats:feed")


async def test_an_unbound_task_can_be_called_but_not_deferred() -> None:
    task = Blueprint().task(double)
    assert task(2) == 4
    with pytest.raises(UnboundTaskError, match=r"add_tasks_from.*namespace"):
        task.defer(number=1)
    with pytest.raises(UnboundTaskError):
        await task.defer_async(number=1)


def test_a_namespace_that_is_taken_changes_nothing(app: App) -> None:
    first, second = Blueprint(), Blueprint()
    first.task(name="t")(double)
    task = second.task(name="t")(double)
    app.add_tasks_from(first, namespace="ns")
    with pytest.raises(TaskAlreadyRegistered, match="ns:t"):
        app.add_tasks_from(second, namespace="ns")
    app.add_tasks_from(second, namespace="other")
    assert task.name == "other:t"


def test_tasks_have_one_app(app: App) -> None:
    blueprint = Blueprint()
    task = blueprint.task(name="t")(double)
    app.add_tasks_from(blueprint, namespace="ns")
    other = App(PsycopgConnector())
    for source in (blueprint, app):
        with pytest.raises(TaskAlreadyRegistered, match="another Blueprint"):
            other.add_tasks_from(source, namespace="ns")
    assert (task.name, task.app, own(other)) == ("ns:t", app, {})


def test_a_task_by_name(app: App) -> None:
    task = app.task(name="known", queue="q")(double)
    assert app.configure_task("known", task_kwargs={"number": 1}).job_spec().queue == task.queue == "q"
    assert app.configure_task("unknown", priority=2).job_spec(a=1) == JobSpec(
        task_name="unknown", task_kwargs={"a": 1}, priority=2, depends_on=[]
    )


def test_a_task_by_an_unknown_name(app: App) -> None:
    app.task(name="package.known")(double)
    with pytest.raises(TaskNotFound, match=r"did you mean 'package\.known'"):
        app.configure_task("package.knwon", allow_unknown=False)
    with pytest.raises(TaskNotFound, match="import_paths"):
        app.configure_task("x", allow_unknown=False)


def test_import_paths_bring_their_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apps_of_a_test.py").write_text(
        "from procrastinate_deps import App, PsycopgConnector\n"
        "app = App(PsycopgConnector(), import_paths=['tasks_of_a_test'])\n"
    )
    (tmp_path / "tasks_of_a_test.py").write_text(
        "from apps_of_a_test import app\n@app.task(name='elsewhere')\ndef task(): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    app = App.from_path("apps_of_a_test.app")
    assert own(app) == {}
    app.configure_task("elsewhere", allow_unknown=False)
    assert list(own(app)) == ["elsewhere"]


def test_no_warning_for_an_app_in_a_module(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        App(PsycopgConnector())
        Blueprint()
    assert caplog.records == []


@pytest.mark.parametrize("name", ["App(PsycopgConnector())", "Blueprint()"])
def test_a_warning_in_main(name: str) -> None:
    script = (
        "import logging; logging.basicConfig(format='%(levelname)s %(action)s %(message)s')\n"
        f"from procrastinate_deps import *; {name}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.startswith("WARNING app_defined_in___main__ This ")
    assert len(done.stderr.splitlines()) == 1
