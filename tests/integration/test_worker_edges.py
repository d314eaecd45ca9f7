"""What tasks, arguments and results can do to a worker: each is an outcome of its job, and the next job runs."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from procrastinate_deps import App, NotStored
from procrastinate_deps.exceptions import JobRetry
from procrastinate_deps.retry import BaseRetryStrategy, RetryDecision
from procrastinate_deps.worker.outcomes import MAX_ERROR_BYTES
from tests.integration.cli_process import Cli, environment
from tests.integration.worker_helpers import ended, make_app, one_shot, query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from procrastinate_deps.jobs import Job

S = "procrastinate_deps"
DEEP = 5_000


async def outcome(app: App, job_id: int) -> Job:
    """How the job ends, on a worker that then runs another one."""
    if "next" not in app.tasks:

        @app.task(name="next", priority=-1)
        async def go_on() -> str:
            return "ran"

    after = await app.tasks["next"].defer_async()
    await one_shot(app)
    assert (await ended(app, after)).result == "ran"
    return await ended(app, job_id)


async def outcome_of(app: App, function: Callable[..., Any], retry: int | None = None) -> Job:
    task = app.task(name="odd", retry=retry)(function)
    return await outcome(app, await task.defer_async())


# What tasks raise


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even its text")

    __repr__ = __str__


class Unspeakable(BaseException):
    def __str__(self) -> str:
        raise SystemExit(5)


class Fatal(BaseException):
    pass


def circular() -> BaseException:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


def nested_groups() -> BaseException:
    error: Exception = ValueError("innermost")
    for _ in range(DEEP):
        error = ExceptionGroup("group", [error])
    return error


def long_chain() -> BaseException:
    error = ValueError("first")
    for number in range(DEEP):
        following = ValueError(f"number {number}")
        following.__cause__ = error
        error = following
    return error


RAISED: dict[str, tuple[Callable[[], BaseException], str]] = {
    "unprintable": (UnprintableError, "UnprintableError: <exception str() failed>"),
    "unspeakable": (Unspeakable, "Unspeakable: <exception str() failed>"),
    "of no text": (lambda: ValueError(""), "ValueError"),
    "of many lines": (lambda: ValueError("one\ntwo"), "ValueError: one\ntwo"),
    "10 MB of text": (lambda: ValueError("x" * 10_000_000), "ValueError: xxx"),
    "a NUL and half a character": (lambda: ValueError("a\0b\ud800"), "ValueError: a\\x00b\\ud800"),
    "SystemExit": (lambda: SystemExit(3), "SystemExit: 3"),
    "KeyboardInterrupt": (KeyboardInterrupt, "KeyboardInterrupt"),
    "GeneratorExit": (GeneratorExit, "GeneratorExit"),
    "CancelledError": (asyncio.CancelledError, "CancelledError"),
    "another BaseException": (lambda: Fatal("bad"), "Fatal: bad"),
    "StopIteration": (lambda: StopIteration(1), "StopIteration"),
    "StopAsyncIteration": (StopAsyncIteration, "StopAsyncIteration"),
    "MemoryError": (MemoryError, "MemoryError"),
    "RecursionError": (RecursionError, "RecursionError"),
    "circular causes": (circular, "ValueError: one"),
    "nested groups": (nested_groups, "ExceptionGroup: group (1 sub-exception)"),
    "a long chain": (long_chain, f"ValueError: number {DEEP - 1}"),
    "a group of all kinds": (
        lambda: BaseExceptionGroup("many", [ValueError("a"), Fatal(), UnprintableError()]),
        "BaseExceptionGroup: many (3 sub-exceptions)",
    ),
}


# A coroutine's KeyboardInterrupt would be taken for a person's Ctrl-C here: see test_an_interrupt_of_the_tasks_own.
RAISED_WHERE = [(raised, where) for raised in RAISED for where in ("coroutine", "thread")]
RAISED_WHERE.remove(("KeyboardInterrupt", "coroutine"))


@pytest.mark.parametrize(("raised", "where"), RAISED_WHERE)
async def test_whatever_a_task_raises_is_its_jobs_error(app: App, raised: str, where: str) -> None:
    make, expected = RAISED[raised]

    async def coroutine() -> None:
        raise make()

    def function() -> None:
        raise make()

    job = await outcome_of(app, function if where == "thread" else coroutine)
    assert job.status == "failed"
    assert job.error is not None
    assert expected in job.error[:500]
    assert len(job.error.encode()) < MAX_ERROR_BYTES + 100


def test_an_interrupt_of_the_tasks_own_is_its_error(dsn: str, tmp_path: Path) -> None:
    """Where the worker has SIGINT's handler, as it does on the command line."""
    cli = Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn, PROCRASTINATE_DEPS_APP="rude.app"))
    (tmp_path / "rude.py").write_text(
        "from procrastinate_deps import App\n"
        "app = App()\n"
        "@app.task(name='rude')\n"
        "async def rude(): raise KeyboardInterrupt\n"
        "@app.task(name='next')\n"
        "async def go_on(): return 'ran'\n"
    )
    rude, after = cli.id("rude"), cli.id("next")
    assert cli.run("worker", "--one-shot").status == 0
    assert cli.json("job-status", rude)["error"].startswith("KeyboardInterrupt")
    assert cli.json("job-status", after)["result"] == "ran"


async def test_endless_recursion_is_an_error_of_the_task(app: App) -> None:
    def endless(depth: int = 0) -> int:
        return endless(depth + 1) + 1

    async def task() -> int:
        return endless()

    job = await outcome_of(app, task)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.startswith("RecursionError: maximum recursion depth exceeded")


async def test_what_can_not_be_printed_can_be_retried(app: App) -> None:
    async def task() -> None:
        raise UnprintableError

    job = await outcome_of(app, task, retry=1)
    assert (job.status, job.attempts) == ("failed", 2)


async def test_a_nul_in_the_log_hurts_nobody(app: App) -> None:
    async def task() -> None:
        logging.getLogger(__name__).warning("a\0b \ud800 %s", "c\0d")

    assert (await outcome_of(app, task)).status == "succeeded"


# What decides about their retries


class Deciding(BaseRetryStrategy):
    def __init__(self, decide: Callable[[], Any]) -> None:
        self.decide = decide

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        decided: RetryDecision | None = self.decide()
        return decided


class RetryWithoutDecision(JobRetry):
    def __init__(self) -> None: ...


class NeitherTrueNorFalseError(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("it will not say")


def raising(exception: BaseException) -> Callable[[], Any]:
    def decide() -> None:
        raise exception

    return decide


DECISIONS: dict[str, tuple[Callable[[], Any], str]] = {
    "cancelled": (raising(asyncio.CancelledError()), "CancelledError"),
    "exit": (raising(SystemExit(3)), "SystemExit: 3"),
    "closed": (raising(GeneratorExit()), "GeneratorExit"),
    "interrupt": (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "bool": (
        lambda: True,
        "TypeError: the retry strategy of task 'odd' returned True: a job runs again by a RetryDecision",
    ),
    "distance": (
        lambda: timedelta(3),
        "TypeError: the retry strategy of task 'odd' returned datetime.timedelta(days=3)",
    ),
}


@pytest.mark.parametrize("decision", DECISIONS)
async def test_a_strategy_that_does_not_decide_fails_its_job(app: App, decision: str) -> None:
    decide, error = DECISIONS[decision]

    @app.task(name="odd", retry=Deciding(decide))
    async def odd() -> None:
        raise ValueError("the task's own")

    job = await outcome(app, await odd.defer_async())
    assert (job.status, job.attempts) == ("failed", 1)
    assert job.error is not None
    assert error in job.error.splitlines()[0]
    assert "the task's own" in job.error


ASKING: dict[str, tuple[Callable[[], BaseException], str]] = {
    "none": (lambda: JobRetry(None), "TypeError: JobRetry was raised with None: a job runs again by a RetryDecision"),  # type: ignore[arg-type]
    "no init": (RetryWithoutDecision, "TypeError: JobRetry was raised with None: a job runs again by a RetryDecision"),
    "not asked": (NeitherTrueNorFalseError, "NeitherTrueNorFalseError"),
}


@pytest.mark.parametrize("asked", ASKING)
async def test_an_exception_that_can_not_be_asked_fails_its_job(app: App, asked: str) -> None:
    make, error = ASKING[asked]

    async def task() -> None:
        raise make()

    job = await outcome_of(app, task)
    assert (job.status, job.attempts) == ("failed", 1)
    assert job.error is not None
    assert error in job.error.splitlines()[0]


# What the user's logging does


class AwayHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.__dict__.get("task_name"):
            raise ConnectionError("the log server is away")


@pytest.mark.parametrize("fails", [False, True])
async def test_a_log_handler_that_raises_keeps_no_job_from_ending(
    app: App, fails: bool, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async def task() -> Any:
        return 1 / 0 if fails else object()  # which is not JSON, and said to be

    logger, away = logging.getLogger("procrastinate_deps.worker"), AwayHandler()
    logger.addHandler(away)
    try:
        with caplog.at_level(logging.DEBUG, logger.name):
            job = await outcome_of(app, task)
    finally:
        logger.removeHandler(away)
    assert job.status == ("failed" if fails else "succeeded")
    assert "the log server is away" in capsys.readouterr().err


# What tasks return


def endless_list() -> list[Any]:
    contained: list[Any] = []
    contained.append(contained)
    return contained


def deep_list() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


RETURNED: dict[str, tuple[Callable[[], Any], str]] = {
    "an object": (object, "object is not JSON serializable"),
    "not a number": (lambda: float("nan"), "Out of range float"),
    "an endless list": (endless_list, "Circular reference"),
    "a deep list": (deep_list, "RecursionError"),
    "half a character": (lambda: ["\ud800"], "half of a surrogate pair"),
    "a NUL": (lambda: {"a": "\0"}, "NUL character"),
    "a key that is none": (lambda: {(1, 2): 3}, "keys must be str"),
    "bytes": (lambda: b"abc", "bytes is not JSON serializable"),
    "2 MB": (lambda: "x" * 2_000_000, "2000002 bytes"),
}


@pytest.mark.parametrize("returned", RETURNED)
async def test_a_result_that_can_not_be_stored_leaves_a_mark_on_a_success(app: App, returned: str) -> None:
    make, why = RETURNED[returned]

    async def task() -> Any:
        return make()

    job = await outcome_of(app, task)
    assert job.status == "succeeded"
    assert isinstance(job.result, NotStored)
    assert why in job.result.reason


@pytest.mark.parametrize(
    "text", ["[" * 50_000 + "]" * 50_000, "1e999999", "{not json", "", '"\\u0000"', "[1, 2"], ids=lambda text: text[:9]
)
async def test_json_of_ones_own_that_the_database_refuses(dsn: str, text: str) -> None:
    app = make_app(dsn, json_dumps=lambda value: text if value == "the result" else json.dumps(value))

    async def task() -> str:
        return "the result"

    async with app.open_async():
        job = await outcome_of(app, task)
    assert job.status == "succeeded"
    assert isinstance(job.result, NotStored)


# What is no function as others are


async def test_a_coroutine_that_a_function_returns_is_awaited_in_the_loop(app: App) -> None:
    async def inner() -> str:
        await anyio.lowlevel.checkpoint()
        return "done"

    assert (await outcome_of(app, lambda: inner())).result == "done"


async def test_a_coroutine_that_a_coroutine_returns_is_awaited(app: App) -> None:
    async def inner() -> str:
        await anyio.lowlevel.checkpoint()
        return "done"

    async def outer() -> Any:
        return inner()

    assert (await outcome_of(app, outer)).result == "done"


async def test_a_generator_fails_because_nothing_of_it_has_run(app: App) -> None:
    def generator() -> Any:
        yield 1

    async def async_generator() -> Any:
        yield 1

    for function in (generator, async_generator):
        job = await outcome(app, await app.task(name=function.__name__)(function).defer_async())
        assert job.status == "failed"
        assert job.error is not None
        assert job.error.startswith(f"TypeError: task '{function.__name__}' is a generator")


# What jobs ask for


async def test_an_unknown_task(app: App) -> None:
    job = await outcome(app, await app.configure_task("nobody.knows\0it".replace("\0", "_")).defer_async())
    assert job.status == "failed"
    assert job.error is not None
    assert "task 'nobody.knows_it' is not known to this worker's app" in job.error


@pytest.mark.parametrize("args", ["{}", '{"a": 1, "b": 2}', '{"self": 1}', '{"": 1}', '{"a b": 1}'])
async def test_arguments_that_do_not_fit(app: App, dsn: str, args: str) -> None:
    @app.task(name="strict", retry=True)
    async def strict(a: int) -> None: ...

    [(job_id,)] = query(dsn, f"INSERT INTO {S}.jobs (task_name, args) VALUES ('strict', %s) RETURNING id", args)
    job = await outcome(app, job_id)
    assert (job.status, job.attempts) == ("failed", 1)
    assert job.error is not None
    assert job.error.startswith("TypeError: ")


async def test_arguments_nested_deeper_than_python_reads(app: App, dsn: str) -> None:
    """One such job in a batch fails; the others of the batch run."""

    @app.task(name="plain", retry=True)
    async def plain(a: Any = None) -> str:
        return "ran"

    before = await plain.defer_async()
    nested = '{"a": ' + "[" * DEEP + "]" * DEEP + "}"
    [(job_id,)] = query(dsn, f"INSERT INTO {S}.jobs (task_name, args) VALUES ('plain', %s) RETURNING id", nested)
    after = await plain.defer_async()
    await one_shot(app, concurrency=10)
    rows = dict(query(dsn, f"SELECT id, status::text FROM {S}.jobs"))
    assert rows == {before: "succeeded", job_id: "failed", after: "succeeded"}
    [(error, attempts)] = query(dsn, f"SELECT error, attempts FROM {S}.jobs WHERE id = %s", job_id)
    assert attempts == 1
    assert error.startswith("procrastinate_deps.exceptions.InvalidArguments: the arguments of job")
    assert "RecursionError" in error


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_json_loads_that_fails_for_one_job_fails_that_job_alone(dsn: str, driver: str) -> None:
    def loads(text: str) -> Any:
        if "poison" in text:
            raise KeyError("of a user's json_loads")
        return json.loads(text)

    app = make_app(dsn, driver, json_loads=loads)

    @app.task(name="plain", retry=True)
    async def plain(a: str) -> str:
        return a

    async with app.open_async():
        # many batches, so that one comes by each way in which jobs are fetched
        names = ["poison" if number % 5 == 0 else "fine" for number in range(50)]
        await plain.batch_defer_async(*[{"a": name} for name in names])
        await one_shot(app, concurrency=7)
    ends = query(
        dsn, f"SELECT args ->> 'a', status::text, attempts, count(*) FROM {S}.jobs GROUP BY 1, 2, 3 ORDER BY 1"
    )
    assert ends == [("fine", "succeeded", 1, 40), ("poison", "failed", 1, 10)]
    errors = {error.splitlines()[0] for (error,) in query(dsn, f"SELECT error FROM {S}.jobs WHERE error IS NOT NULL")}
    assert len(errors) == 10
    for error in errors:
        assert error.endswith("can't be read: KeyError: \"of a user's json_loads\"")
