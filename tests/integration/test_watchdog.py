"""Who blocks the event loop is named, while it is blocked."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from procrastinate_deps import App
from procrastinate_deps.worker import Worker, watchdog
from tests.integration.worker_helpers import DEADLINE_S, make_app, one_shot, until, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

THRESHOLD_S = 0.1
OFTEN: dict[str, Any] = {"blocked_loop_threshold": THRESHOLD_S}


@pytest.fixture
async def app(dsn: str) -> AsyncIterator[App]:
    app = make_app(dsn)
    async with app.open_async():
        yield app


class Warnings(logging.Handler):
    """The watchdog's, heard by the thread that says them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.said = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.said.set()

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    def of_jobs(self) -> list[logging.LogRecord]:
        """On a busy machine the worker's own code may be slow, too."""
        return [record for record in self.records if "job_id" in record.__dict__]


@pytest.fixture
def warnings() -> Iterator[Warnings]:
    handler = Warnings()
    watchdog.logger.addHandler(handler)
    yield handler
    watchdog.logger.removeHandler(handler)


def blocked_until(condition: Callable[[], object]) -> None:
    """Block whoever calls this."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_a_task_that_blocks_the_loop_is_named_while_it_does(app: App, warnings: Warnings) -> None:
    @app.task(name="greedy")
    async def greedy() -> None:
        blocked_until(warnings.said.is_set)

    job_id = await greedy.defer_async()
    await one_shot(app, **OFTEN)
    [record] = warnings.of_jobs()
    text = record.getMessage()
    assert re.search(
        rf"blocked for 0\.\d s by job {job_id} \(task greedy\), at test_watchdog\.py:\d+ \(\S*greedy\)", text
    )
    assert re.search(r"in test_watchdog.py:\d+ \(blocked_until\)", text)
    said: dict[str, Any] = record.__dict__
    assert (said["action"], said["job_id"], said["task_name"]) == ("loop_blocked", job_id, "greedy")
    assert said["blocked_s"] >= THRESHOLD_S


async def test_one_that_has_waited_before_is_named_too(app: App, warnings: Warnings) -> None:
    @app.task(name="patient")
    async def patient() -> None:
        await anyio.sleep(0.01)

    @app.task(name="greedy")
    async def greedy() -> None:
        await anyio.sleep(0.01)
        blocked_until(warnings.said.is_set)

    await patient.batch_defer_async(*[{}] * 5)
    job_id = await greedy.defer_async()
    await one_shot(app, concurrency=10, **OFTEN)
    assert [record.__dict__["job_id"] for record in warnings.of_jobs()] == [job_id]


async def test_a_task_that_does_it_again_and_again_is_named_once_in_a_while(
    app: App, warnings: Warnings, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked: list[str] = []

    @app.task(name="first")
    async def first() -> None:
        blocked.append("first")
        time.sleep(3 * THRESHOLD_S)  # noqa: ASYNC251 - what is warned about

    @app.task(name="other")
    async def other() -> None:
        blocked.append("other")
        time.sleep(3 * THRESHOLD_S)  # noqa: ASYNC251 - what is warned about

    async with working(app, **OFTEN):
        await first.batch_defer_async({}, {}, {})
        await until(lambda: len(blocked) == 3, "three blocks")
        await other.defer_async()
        await until(lambda: len(warnings.of_jobs()) == 2, "the other task's warning")
        assert [record.__dict__["task_name"] for record in warnings.of_jobs()] == ["first", "other"]
        monkeypatch.setattr(watchdog, "REPEAT_AFTER_S", 0)
        await first.defer_async()
        await until(lambda: len(warnings.of_jobs()) == 3, "a warning anew")
    assert "(2 more time(s) since the last warning)" in warnings.of_jobs()[2].getMessage()


async def test_what_blocks_without_being_a_job_is_named_by_its_place(app: App, warnings: Warnings) -> None:
    def callback() -> None:
        blocked_until(warnings.said.is_set)

    @app.task(name="harmless")
    async def harmless() -> None:
        asyncio.get_running_loop().call_soon(callback)

    await harmless.defer_async()
    async with working(app, **OFTEN):
        await until(lambda: any("blocked_until" in text for text in warnings.texts), "the warning")
    assert warnings.of_jobs() == []
    assert any("code that is not a job's, at" in text for text in warnings.texts)


async def test_a_loop_that_waits_and_one_with_threads_are_not_blocked(app: App, warnings: Warnings) -> None:
    over = threading.Event()

    @app.task(name="in_thread")
    def in_thread() -> None:
        over.wait(DEADLINE_S)

    await in_thread.defer_async()
    began = time.monotonic()
    async with working(app, blocked_loop_threshold=0.5):
        await until(lambda: time.monotonic() > began + 1.5, "some time")
        over.set()
    assert warnings.texts == []


@pytest.mark.parametrize("threshold", [None, 0])
async def test_it_can_be_turned_off(app: App, warnings: Warnings, threshold: float | None) -> None:
    @app.task(name="greedy")
    async def greedy() -> None:
        assert "watchdog" not in {thread.name for thread in threading.enumerate()}

    await greedy.defer_async()
    await one_shot(app, blocked_loop_threshold=threshold)
    with pytest.raises(ValueError, match="blocked_loop_threshold=-1 is negative"):
        Worker(app, blocked_loop_threshold=-1)


PROGRAM = """
import logging, sys, threading, time
import anyio
from procrastinate_deps import App, PsycopgConnector, eventloop
from procrastinate_deps.worker import watchdog

app = App(PsycopgConnector(conninfo=sys.argv[1]))
said = threading.Event()

class Told(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), flush=True)
        said.set()

watchdog.logger.addHandler(Told())

@app.task(name="greedy")
async def greedy():
    print(eventloop.running(), flush=True)
    said.wait(30)

@app.task(name="stopped")
async def stopped():
    print("ready", flush=True)
    await anyio.sleep(1)

with app.open():
    app.tasks[sys.argv[3]].defer()
app.run_worker(wait=False, blocked_loop_threshold=0.1, uvloop=sys.argv[2] == "uvloop")
"""


def worker_process(dsn: str, loop: str, task: str, folder: Path) -> subprocess.Popen[str]:
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(folder / "program.py"), dsn, loop, task]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_on_either_event_loop(dsn: str, loop: str, tmp_path: Path) -> None:
    with worker_process(dsn, loop, "greedy", tmp_path) as process:
        out, err = process.communicate(timeout=DEADLINE_S)
    lines = out.splitlines()
    assert process.returncode == 0, err
    assert lines[0].startswith(loop)
    assert "by job 1 (task greedy), at program.py:" in lines[1]


def test_a_process_that_was_stopped_as_a_whole_has_not_been_blocked(dsn: str, tmp_path: Path) -> None:
    with worker_process(dsn, "asyncio", "stopped", tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        began = time.monotonic()
        blocked_until(lambda: time.monotonic() > began + 0.5)
        os.kill(process.pid, signal.SIGCONT)
        out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (0, ""), err
