"""Functions enqueued as in NAQ: each pattern of its dependencies, run by real workers."""

from __future__ import annotations

import functools
import math
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from procrastinate_deps import (
    AsyncpgConnector,
    DependencyNotFound,
    JobNotFound,
    PsycopgConnector,
    Status,
    SyncPsycopgConnector,
)
from procrastinate_deps.contrib.naq import (
    SyncClient,
    apps,
    enqueue,
    enqueue_sync,
    get_job_status,
    get_job_status_sync,
    naq_app,
)
from procrastinate_deps.contrib.naq.payloads import Handling
from procrastinate_deps.exceptions import FunctionPathError
from procrastinate_deps.times import utc_now
from tests.acceptance import naq_tasks
from tests.acceptance.naq_tasks import async_step, by_name, by_position, failing, ran, step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from procrastinate_deps.contrib.naq import EnqueuedJob, NaqApp

DEADLINE_S = 60
MODULE = naq_tasks.__name__
CONNECTORS: dict[str, Any] = {
    "psycopg": lambda dsn: PsycopgConnector(conninfo=dsn),
    "asyncpg": lambda dsn: AsyncpgConnector(dsn=dsn),
}


@pytest.fixture(params=CONNECTORS)
async def app(request: pytest.FixtureRequest, dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NaqApp]:
    monkeypatch.setattr(apps, "_current", apps._current)
    ran.clear()
    app = naq_app(CONNECTORS[request.param](dsn), modules=[MODULE])
    async with app.open_async():
        yield app


async def run_worker(app: NaqApp, concurrency: int = 10) -> None:
    """A worker of the two queues that stops when there is nothing left to run."""
    with anyio.fail_after(DEADLINE_S):
        await app.run_worker_async(
            queues=["default", "workflow_queue"], concurrency=concurrency, wait=False, install_signal_handlers=False
        )


def statuses(*jobs: EnqueuedJob) -> list[str]:
    return [get_job_status_sync(job)["status"] for job in jobs]


async def test_one_after_the_other(app: NaqApp) -> None:
    prepare = enqueue_sync(step, name="prepare")
    process = enqueue_sync(async_step, "process", depends_on=[prepare])
    validate = enqueue_sync(step, "validate", depends_on=[process])
    assert statuses(prepare, process, validate) == ["todo", "blocked", "blocked"]
    await run_worker(app)
    assert ran == ["prepare", "process", "validate"]
    assert statuses(prepare, process, validate) == ["succeeded"] * 3


async def test_several_converge(app: NaqApp) -> None:
    parts = [enqueue_sync(step, f"part {number}") for number in range(3)]
    report = enqueue_sync(step, "report", depends_on=parts)
    assert report.dependency_ids == tuple(part.job_id for part in parts)
    await run_worker(app)
    assert sorted(ran[:3]) == ["part 0", "part 1", "part 2"]
    assert ran[3:] == ["report"]


async def test_one_fans_out(app: NaqApp) -> None:
    prepare = enqueue_sync(step, "prepare")
    trained = [enqueue_sync(step, f"train {number}", depends_on=prepare) for number in range(2)]
    enqueue_sync(step, "validate", depends_on=trained)
    await run_worker(app)
    assert (ran[0], sorted(ran[1:3]), ran[3:]) == ("prepare", ["train 0", "train 1"], ["validate"])


async def test_by_default_only_after_success_and_else_never(app: NaqApp) -> None:
    risky = enqueue_sync(failing)
    after = enqueue_sync(step, "after", depends_on=[risky])
    after_that = enqueue_sync(step, "after that", depends_on=[after])
    await run_worker(app)
    assert ran == ["failing"]
    assert statuses(risky, after, after_that) == ["failed", "cancelled", "cancelled"]
    assert get_job_status_sync(after)["error"] == f"all_succeeded: parent {risky.job_id} failed"
    assert "SourceError: failing can't be reached" in get_job_status_sync(risky)["error"]


@pytest.mark.parametrize(("main", "end"), [(step, "succeeded"), (failing, "failed")])
async def test_run_after_failure_runs_whatever_happened(app: NaqApp, main: Callable[..., Any], end: str) -> None:
    main_job = enqueue_sync(main, "main")
    never = enqueue_sync(step, "never", depends_on=[enqueue_sync(failing)])
    cleanup = enqueue_sync(step, "cleanup", depends_on=[main_job, never], run_after_failure=True)
    await run_worker(app)
    assert statuses(main_job, never, cleanup) == [end, "cancelled", "succeeded"]
    assert ran[-1] == "cleanup"


async def test_partial_dependencies_want_one_success(app: NaqApp) -> None:
    good, bad, worse = enqueue_sync(step, "good"), enqueue_sync(failing, "bad"), enqueue_sync(failing, "worse")
    some = enqueue_sync(step, "some", depends_on=[good, bad, worse], allow_partial_dependencies=True)
    none = enqueue_sync(step, "none", depends_on=[bad, worse], allow_partial_dependencies=True)
    both = enqueue_sync(step, "both", depends_on=[bad, worse], allow_partial_dependencies=True, run_after_failure=True)
    await run_worker(app)
    assert statuses(some, none, both) == ["succeeded", "cancelled", "succeeded"]


@pytest.mark.parametrize(
    ("func", "args", "kwargs", "stored", "returned"),
    [
        (by_name, (1,), {}, {"a": 1}, [1, 2, 3]),
        (by_name, (1, 5), {"c": 6}, {"a": 1, "b": 5, "c": 6}, [1, 5, 6]),
        (by_name, (), {"b": 5, "a": 4}, {"a": 4, "b": 5}, [4, 5, 3]),
        (by_position, (1, 2), {}, {"__naq__": {"args": [1, 2]}}, [1, 2, 3, {}]),
        (
            by_position,
            (1, 2, 7, 8),
            {"c": 4, "d": {"e": [5]}},
            {"c": 4, "d": {"e": [5]}, "__naq__": {"args": [1, 2, 7, 8]}},
            [1, 2, 7, 8, 4, {"d": {"e": [5]}}],
        ),
        (
            naq_tasks.takes_self,
            (),
            {"self": 1, "func": "f", "job_id": 3},
            {"self": 1, "func": "f", "job_id": 3},
            [1, "f", 3],
        ),
    ],
)
async def test_arguments_arrive_as_they_were_given(
    app: NaqApp, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], stored: Any, returned: Any
) -> None:
    job = enqueue_sync(func, *args, **kwargs)
    assert (await app.job_manager.get_job_async(job.job_id)).task_kwargs == stored
    await run_worker(app)
    status = get_job_status_sync(job)
    assert (status["result"], status["error"]) == (returned, None)


async def test_what_the_function_does_not_take_is_refused_at_once(app: NaqApp) -> None:
    for args, kwargs, message in (
        ((), {}, "missing a required argument: 'a'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"max_retry": 3}, "unexpected keyword argument 'max_retry'"),
        ((object(),), {}, "JSON"),
        ((1,), {"max_retries": -1}, "max_retries=-1: pass a number of retries"),
        ((1,), {"retry_delay": "soon"}, "retry_delay='soon': pass seconds"),
        ((1,), {"retry_strategy": "none"}, "retry_strategy='none': pass one of linear, exponential"),
        ((1,), {"retry_on": 7}, "retry_on: pass exceptions, or their names; got 7"),
        ((1,), {"ignore_on": ValueError("one")}, "ignore_on: pass exceptions, or their names"),
        ((1,), {"retry_delay": math.inf}, "retry_delay=inf: pass seconds"),
        ((1,), {"timeout": math.inf}, "timeout=inf: pass seconds"),
        ((1,), {"queue_name": ""}, "queue_name='': pass the name of a queue"),
        ((1,), {"queue_name": None}, "queue_name=None: pass the name of a queue"),
        ((1,), {"retry_on": [7]}, "retry_on: pass exceptions, or their names; got 7"),
        ((1,), {"timeout": 0}, "timeout=0: pass seconds above 0"),
        ((1,), {"__naq__": 0}, "the argument __naq__ is taken"),
        ((1,), {"depends_on": [step]}, "got the function step: pass what enqueue returned for it"),
        ((1,), {"depends_on": [None]}, "got None"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            enqueue_sync(by_name, *args, **kwargs)
    assert await app.job_manager.list_jobs_async() == []


async def test_functions_that_no_worker_could_find_are_refused(app: NaqApp) -> None:
    def inner() -> None: ...

    for func in (inner, lambda: None, "".join, NoFunction.method, functools.partial(step), NoFunction):
        with pytest.raises(FunctionPathError, match=r"can't be enqueued|no name by which|is a class"):
            enqueue_sync(func)
    with pytest.raises(TypeError, match="takes the function to run first; got 3"):
        enqueue_sync(3)  # type: ignore[arg-type]
    assert await app.job_manager.list_jobs_async() == []


class NoFunction:
    def method(self) -> None: ...


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({}, 1),
        ({"max_retries": None}, 1),
        ({"max_retries": 2}, 3),
        ({"max_retries": 2, "retry_on": ConnectionError}, 3),
        ({"max_retries": 2, "retry_on": (ValueError, "SourceError")}, 3),
        ({"max_retries": 2, "retry_on": ["ValueError"]}, 1),
        ({"max_retries": 2, "ignore_on": [OSError]}, 1),
    ],
)
async def test_retries_are_the_jobs_own(app: NaqApp, options: dict[str, Any], runs: int) -> None:
    job = enqueue_sync(failing, "main", **options)
    child = enqueue_sync(step, "child", depends_on=job, run_after_failure=True)
    await run_worker(app)
    assert ran == ["main"] * runs + ["child"]
    assert statuses(job, child) == ["failed", "succeeded"]
    assert get_job_status_sync(job)["retry_count"] == runs - 1


@pytest.mark.parametrize(
    ("options", "waits_s"),
    [
        ({"retry_delay": 3600}, 3600),
        ({"retry_delay": [0, 7200]}, 7200),
        ({"retry_delay": [0, 0, 60]}, 60),
        ({"retry_delay": 5, "retry_strategy": "EXPONENTIAL"}, 5),
    ],
)
async def test_a_retry_waits(app: NaqApp, options: dict[str, Any], waits_s: float) -> None:
    before = utc_now()
    job_id = enqueue_sync(failing, max_retries=5, **options).job_id
    await run_worker(app)
    job = await app.job_manager.get_job_async(job_id)
    assert job.status is Status.TODO
    assert job.scheduled_at is not None
    wait = job.scheduled_at - before
    assert timedelta(seconds=waits_s) <= wait <= timedelta(seconds=waits_s + DEADLINE_S)


async def test_a_run_that_takes_too_long_has_failed(app: NaqApp) -> None:
    cancelled = enqueue_sync(naq_tasks.sleeps_for_ever, timeout=0.05, max_retries=1)
    late = enqueue_sync(naq_tasks.sleeps_a_little, timeout=0.01)
    in_time = enqueue_sync(naq_tasks.sleeps_a_little, timeout=DEADLINE_S)
    await run_worker(app)
    assert ran == ["sleeps", "sleeps"]
    assert statuses(cancelled, late, in_time) == ["failed", "failed", "succeeded"]
    assert "TimeoutError: ran longer than the job's timeout of 0.05 s" in get_job_status_sync(cancelled)["error"]


async def test_jobs_to_wait_for_in_all_their_forms(app: NaqApp) -> None:
    first = enqueue_sync(step)
    as_job = await app.job_manager.get_job_async(first.job_id)
    for given in (
        first,
        [first],
        (first, first),
        first.job_id,
        str(first.job_id),
        [str(first.job_id)],
        {first},
        as_job,
    ):
        assert enqueue_sync(step, depends_on=given).dependency_ids == (first.job_id,)
    assert enqueue_sync(step, depends_on=(job for job in [first])).dependency_ids == (first.job_id,)
    nothings: tuple[Any, ...] = (None, [], ())
    for nothing in nothings:
        assert enqueue_sync(step, depends_on=nothing).dependency_ids == ()
    with pytest.raises(DependencyNotFound):
        enqueue_sync(step, depends_on=first.job_id + 1000)


async def test_the_status_names_the_dependencies(app: NaqApp) -> None:
    good, bad = enqueue_sync(step, "good"), enqueue_sync(failing, queue_name="workflow_queue")
    child = enqueue_sync(step, "child", queue_name="workflow_queue", depends_on=[good, bad], run_after_failure=True)
    await run_worker(app)
    expected = {
        "job_id": child.job_id,
        "status": "succeeded",
        "dependencies": {good.job_id: "succeeded", bad.job_id: "failed"},
        "function": f"{MODULE}.step",
        "queue_name": "workflow_queue",
        "retry_count": 0,
        "result": "child is done",
        "error": None,
    }
    for given in (child, child.job_id, str(child.job_id)):
        assert get_job_status_sync(given) == await get_job_status(given) == expected
    for missing in (child.job_id + 1000, 0, -1, 2**70):
        with pytest.raises(JobNotFound):
            get_job_status_sync(missing)
    for nonsense in ("seven", None):
        with pytest.raises(TypeError):
            get_job_status_sync(nonsense)  # type: ignore[arg-type]


@pytest.mark.parametrize("split", [naq_tasks.split, naq_tasks.split_async])
async def test_a_running_job_enqueues_more(app: NaqApp, split: Callable[..., Any]) -> None:
    job = await enqueue(split, 3)
    await run_worker(app, concurrency=2)
    assert sorted(ran[:3]) == ["part 0", "part 1", "part 2"]
    assert ran[3:] == ["joined"]
    assert get_job_status_sync(get_job_status_sync(job)["result"])["status"] == "succeeded"


async def test_a_job_made_up_by_somebody_else_runs_nothing_but_listed_functions(
    app: NaqApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_imported.py").write_text("def harm(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    names = ["never_imported.harm", "os.system", "builtins.eval", f"{MODULE}.join", f"{MODULE}.SourceError", MODULE]
    ids = [await app.configure_task(name).defer_async() for name in names]
    # enqueueing it here is no permission either
    monkeypatch.setattr(step, "__module__", "not.listed")
    ids.append(enqueue_sync(step).job_id)
    await run_worker(app)
    for job_id in ids:
        assert "is not known to this worker's app" in get_job_status_sync(job_id)["error"]
    assert "never_imported" not in sys.modules
    assert ran == []


@pytest.mark.parametrize("extra", [3, {"max_retries": "many"}, {"import": "os"}, {"args": 7}, {"timeout": -1}])
async def test_a_payload_that_makes_no_sense_fails_once(app: NaqApp, extra: Any) -> None:
    job_id = await app.configure_task(f"{MODULE}.step").defer_async(__naq__=extra)
    await run_worker(app)
    assert get_job_status_sync(job_id)["status"] == "failed"
    assert (get_job_status_sync(job_id)["retry_count"], ran) == (0, [])


async def test_private_functions_of_a_listed_module_run_too(app: NaqApp) -> None:
    enqueue_sync(naq_tasks._private)
    await run_worker(app)
    assert ran == ["private"]


async def test_without_listed_modules_a_worker_runs_what_its_own_process_enqueued(
    dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(apps, "_current", apps._current)
    monkeypatch.delenv("PROCRASTINATE_DEPS_NAQ_MODULES", raising=False)
    ran.clear()
    app = naq_app(PsycopgConnector(conninfo=dsn))
    async with app.open_async():
        await run_worker(app)
        assert "No module is listed" in caplog.text
        enqueue_sync(step, "mine")
        await app.configure_task(f"{MODULE}.async_step").defer_async(name="another")
        await run_worker(app)
    assert ran == ["mine"]


def test_an_exponential_delay_doubles_each_time() -> None:
    handling = Handling(retry_delay=3, retry_strategy="exponential")
    assert [handling.wait_s(attempts) for attempts in range(4)] == [3, 6, 12, 24]


async def test_the_app_is_opened_when_it_is_needed(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "_current", apps._current)
    for connector in (PsycopgConnector(conninfo=dsn), SyncPsycopgConnector(conninfo=dsn), AsyncpgConnector(dsn=dsn)):
        app = naq_app(connector)
        with SyncClient() as client:
            first = client.enqueue(step)
            second = await enqueue(step, depends_on=[first])
            assert (await get_job_status(second))["dependencies"] == {first.job_id: "todo"}
        # it has closed what it opened, and what comes then opens it again
        assert enqueue_sync(step, depends_on=second).dependency_ids == (second.job_id,)
        SyncClient(app).close()
        SyncClient(app).close()
