"""The worker on uvloop: which loop is chosen, and that what depends on the loop works on both.

The worker's other tests run on asyncio's own loop.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from procrastinate_deps import App, PsycopgConnector, eventloop
from tests.integration.cli_process import REPO, Cli, environment

# Here they run on uvloop: cancellation, timeouts, threads, signals, lost connections.
from tests.integration.test_worker import (  # noqa: F401
    test_a_task_that_cancels_itself_fails_and_the_worker_lives,
    test_a_task_that_exits_fails_and_the_worker_lives,
    test_a_task_that_runs_too_long_fails,
    test_plain_functions_run_in_threads_at_the_same_time,
)
from tests.integration.test_worker_stopping import (  # noqa: F401
    test_a_cancelled_worker_stops_gracefully_and_is_then_cancelled,
    test_a_second_cancellation_stops_at_once,
    test_a_signal_stops_the_worker_and_the_handlers_from_before_come_back,
    test_after_the_graceful_timeout_jobs_are_stopped_and_put_back,
    test_an_aborted_coroutine_is_cancelled_and_not_retried,
    test_an_aborted_thread_is_told,
    test_one_shot_runs_what_becomes_runnable_and_leaves_what_is_scheduled,
)
from tests.integration.test_worker_threads import test_a_thread_for_each_slot_and_no_more  # noqa: F401
from tests.integration.test_worker_waking import (  # noqa: F401
    test_a_job_starts_when_its_time_comes,
    test_a_worker_outlives_the_loss_of_all_its_connections,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


async def test_these_run_on_uvloop() -> None:
    assert eventloop.running() == "uvloop"


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn, PROCRASTINATE_DEPS_APP="shop.app"))


@pytest.fixture
def without_uvloop(cli: Cli) -> Cli:
    missing = cli.folder / "missing"
    missing.mkdir()
    (missing / "uvloop.py").write_text("raise ImportError('not here')\n")
    cli.env["PYTHONPATH"] = f"{missing}:{REPO}"
    return cli


@pytest.mark.parametrize(
    ("options", "variable", "loop"),
    [
        ([], {}, "uvloop"),
        (["--no-uvloop"], {}, "asyncio"),
        ([], {"PROCRASTINATE_DEPS_WORKER_UVLOOP": "0"}, "asyncio"),
        (["--uvloop"], {"PROCRASTINATE_DEPS_WORKER_UVLOOP": "0"}, "uvloop"),
        (["--processes", "2"], {}, "uvloop"),
        (["--processes", "2", "--no-uvloop"], {}, "asyncio"),
    ],
)
def test_the_command_says_which_loop_it_runs_on(
    cli: Cli, options: list[str], variable: dict[str, str], loop: str
) -> None:
    done = cli.run("worker", "--one-shot", *options, **variable)
    assert done.status == 0
    starts = [line for line in done.err.splitlines() if " starts: " in line]
    assert starts
    assert all(line.endswith(f", on {loop}") for line in starts)


def test_without_uvloop_the_worker_runs_on_asyncio(without_uvloop: Cli) -> None:
    done = without_uvloop.run("worker", "--one-shot")
    assert (done.status, ", on asyncio" in done.err) == (0, True)
    error = without_uvloop.run("worker", "--one-shot", "--uvloop", "--log-level", "warning").error
    assert "install procrastinate-deps[uvloop]" in error


@pytest.mark.parametrize(("uvloop", "loop"), [(None, "uvloop"), (True, "uvloop"), (False, "asyncio")])
def test_run_worker_makes_the_loop(dsn: str, caplog: pytest.LogCaptureFixture, uvloop: bool | None, loop: str) -> None:
    caplog.set_level(logging.INFO)
    App(PsycopgConnector(conninfo=dsn)).run_worker(uvloop=uvloop, wait=False)
    assert [record.event_loop for record in caplog.records if hasattr(record, "event_loop")] == [loop]


async def test_run_worker_async_runs_in_the_loop_that_is_there(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with App(PsycopgConnector(conninfo=dsn)).open_async() as here:
        await here.run_worker_async(wait=False)
    assert [record.event_loop for record in caplog.records if hasattr(record, "event_loop")] == ["uvloop"]
