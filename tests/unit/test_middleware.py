"""Which middleware is accepted, and around which task it goes. That it does its work: tests/integration."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from procrastinate_deps import App, PsycopgConnector
from procrastinate_deps.exceptions import MiddlewareKindMismatch
from procrastinate_deps.middleware import Wrapping
from procrastinate_deps.worker import Worker


def sync_one(call_next: Any, context: Any, worker: Any) -> Any:
    return call_next()


async def async_one(call_next: Any, context: Any, worker: Any) -> Any:
    return await call_next()


class AsyncObject:
    async def __call__(self, call_next: Any, context: Any, worker: Any) -> Any:
        return await call_next()


async def labelled(label: str, call_next: Any, context: Any, worker: Any) -> Any:
    return await call_next()


async def async_job() -> None: ...


def sync_job() -> None: ...


ASYNC: list[Any] = [async_one, AsyncObject(), functools.partial(labelled, "a")]


@pytest.fixture
def app() -> App:
    return App(PsycopgConnector())


@pytest.mark.parametrize("middleware", ASYNC)
def test_async_middleware_is_for_async_tasks(app: App, middleware: Any) -> None:
    assert app.task(name="a", task_middleware=[middleware])(async_job).task_middleware == (middleware,)
    with pytest.raises(MiddlewareKindMismatch, match=r"is async, task 's' is sync"):
        app.task(name="s", task_middleware=[middleware])(sync_job)
    assert "s" not in app.tasks


def test_sync_middleware_is_for_sync_tasks(app: App) -> None:
    assert app.task(name="s", task_middleware=[sync_one])(sync_job).task_middleware == (sync_one,)
    with pytest.raises(MiddlewareKindMismatch, match=r"sync_one is sync, task 'a' is async"):
        app.task(name="a", task_middleware=[async_one, sync_one])(async_job)


def test_a_task_without_any(app: App) -> None:
    assert app.task(async_job).task_middleware == ()


@pytest.mark.parametrize("middleware", [[None], ["name"], sync_one, "name", {sync_one: 1}])
def test_what_is_no_list_of_functions(app: App, middleware: Any) -> None:
    with pytest.raises(TypeError, match="task_middleware"):
        app.task(task_middleware=middleware)(sync_job)
    with pytest.raises(TypeError, match="task_middleware"):
        Worker(app, task_middleware=middleware)
    with pytest.raises(TypeError, match="worker_middleware"):
        Worker(app, worker_middleware=middleware)


def test_a_worker_takes_tasks_middleware_of_both_kinds_and_async_for_jobs(app: App) -> None:
    Worker(app, task_middleware=[sync_one, async_one], worker_middleware=ASYNC)
    with pytest.raises(MiddlewareKindMismatch, match="sync_one is sync"):
        Worker(app, worker_middleware=[async_one, sync_one])


def test_nothing_is_put_around_a_task_that_has_no_middleware(app: App) -> None:
    bare = app.task(name="bare")(async_job)
    own = app.task(name="own", task_middleware=[async_one])(async_job)
    sync = app.task(name="sync")(sync_job)
    worker = Worker(app)
    wrapping = Wrapping(worker, None, None)
    assert wrapping.of(bare) is None
    assert wrapping.of(own) is not None
    only_sync = Wrapping(worker, [sync_one], None)
    assert only_sync.of(bare) is None
    assert only_sync.of(sync) is not None
    around_jobs = Wrapping(worker, None, [async_one])
    assert around_jobs.of(bare) is not None


def test_it_is_composed_once_for_each_task(app: App) -> None:
    task = app.task(task_middleware=[async_one])(async_job)
    wrapping = Wrapping(Worker(app), None, None)
    assert wrapping.of(task) is wrapping.of(task)
