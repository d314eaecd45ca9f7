"""Checked by mypy, never run: a task keeps the signature of its function.

What is wrong on purpose carries the error's code as an ignored one; mypy refuses an ignore that ignores nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

from procrastinate_deps import App, Blueprint, JobContext, PsycopgConnector
from procrastinate_deps.tasks import JobDeferrer

app = App(PsycopgConnector())
blueprint = Blueprint()


@app.task
def bare(a: int, b: str = "x") -> float:
    return a * len(b) / 2


@app.task(queue="other", retry=3, run_when="all_succeeded", timeout=5)
async def coroutine(*, a: int) -> str:
    return "x" * a


@blueprint.task(pass_context=True)
async def with_context(context: JobContext, path: str, *, size: int = 1) -> dict[int, str]:
    return await context.get_parent_statuses_async()


@app.task(pass_context=True)
async def untyped_context(context) -> None:  # type: ignore[no-untyped-def]
    await context.get_parent_statuses_async()


# A task is the function that it was.
assert_type(bare(1, "y"), float)
bare("1")  # type: ignore[arg-type]

# It is deferred with the function's own arguments.
assert_type(bare.defer(a=1), int)
assert_type(bare.defer(1, "y"), int)
assert_type(bare.batch_defer({"a": 1}, {"a": 2}), list[int])
bare.defer()  # type: ignore[call-arg]
bare.defer(a="1")  # type: ignore[arg-type]
bare.defer(a=1, c=2)  # type: ignore[call-arg]


async def awaited() -> None:
    assert_type(await coroutine(a=1), str)
    assert_type(await coroutine.defer_async(a=1), int)
    assert_type(await coroutine.batch_defer_async({"a": 1}), list[int])
    await coroutine.defer_async(1)  # type: ignore[call-arg]
    await coroutine.defer_async(a="1")  # type: ignore[arg-type]

    # The context is the worker's business: it is no argument of the job, but of the function.
    assert_type(await with_context.defer_async(path="p"), int)
    assert_type(await with_context.defer_async(path="p", size=2), int)
    await with_context.defer_async()  # type: ignore[call-arg]
    await with_context.defer_async(path="p", context=None)  # type: ignore[call-arg]
    await with_context(path="p")  # type: ignore[call-arg]
    assert_type(await untyped_context.defer_async(), int)

    # configure keeps the signature,
    parent = await bare.defer_async(a=1)
    child = with_context.configure(depends_on=[parent], run_when="any_failed", schedule_in={"minutes": 5})
    assert_type(await child.defer_async(path="p"), int)
    await child.defer_async(path=1)  # type: ignore[arg-type]
    await child.defer_async()  # type: ignore[call-arg]
    assert_type(await child.batch_defer_async({"path": "p"}), list[int])

    # unless it has arguments already: then any may be left.
    rest = with_context.configure(task_kwargs={"path": "p"})
    assert_type(await rest.defer_async(), int)

    with_context.configure(depend_on=[parent])  # type: ignore[call-overload]
    with_context.configure(depends_on=["7"])  # type: ignore[list-item]
    with_context.configure(depends_on=7, schedule_in=timedelta(1), queue="q", priority=3, lock="l", queueing_lock="ql")

    # What is known by name only takes anything.
    by_name = app.configure_task("somewhere.else")
    assert_type(by_name, JobDeferrer[...])
    assert_type(await by_name.defer_async(anything=1), int)


# An option that no task has.
@app.task(quue="x")  # type: ignore[call-overload, untyped-decorator]
def misspelt() -> None: ...


# Apps open either way.
async def opened() -> None:
    assert_type(await app.open_async(), App)
    async with app.open_async() as same:
        assert_type(same, App)


with app.open() as opened_app:
    assert_type(opened_app, App)


def deferrer(task: JobDeferrer[Any]) -> int:
    return task.defer()
