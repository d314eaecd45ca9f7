"""A worker in a process of its own.

Its tasks write what they do into the table `effects`, which the tests read, and wait for rows in the table `go`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import psycopg

from procrastinate_deps import App, JobContext, PsycopgConnector
from procrastinate_deps.eventloop import backend_options

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

REPO = Path(__file__).parents[2]
DEADLINE_S = 60.0
EFFECTS = """
    CREATE TABLE effects (
        id bigint GENERATED ALWAYS AS IDENTITY,
        job_id bigint, what text, pid int, at timestamptz DEFAULT clock_timestamp()
    );
    CREATE TABLE go (job_id bigint)
"""

DSN = "WORKER_PROCESS_DSN"
OPTIONS = "WORKER_PROCESS_OPTIONS"

dsn = os.environ.get(DSN, "")
app = App(connector=PsycopgConnector(conninfo=dsn))
_effects: list[psycopg.AsyncConnection] = []


async def _note(conn: psycopg.AsyncConnection, job_id: int, what: str) -> None:
    await conn.execute("INSERT INTO effects (job_id, what, pid) VALUES (%s, %s, %s)", (job_id, what, os.getpid()))


@app.task(name="step", pass_context=True)
async def step(context: JobContext) -> None:
    await _note(_effects[0], context.job.id, "start")
    await _note(_effects[0], context.job.id, "end")


@app.task(name="wait_for_go", pass_context=True)
async def wait_for_go(context: JobContext) -> int:
    """Runs until there is a row for it in `go`."""
    # A connection of its own: it may be cancelled in the middle of a statement.
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        await _note(conn, context.job.id, "start")
        while True:
            cursor = await conn.execute("SELECT FROM go WHERE job_id = %s", (context.job.id,))
            if await cursor.fetchone() is not None:
                break
            await anyio.sleep(0.02)
        await _note(conn, context.job.id, "end")
    return os.getpid()


@app.task(name="deaf_thread", pass_context=True)
def deaf_thread(context: JobContext) -> None:
    """Hears nothing and never ends."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("INSERT INTO effects (job_id, what, pid) VALUES (%s, 'start', %s)", (context.job.id, os.getpid()))
    while True:
        time.sleep(1)


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    options = json.loads(os.environ[OPTIONS])
    loop = backend_options(options.pop("uvloop", False))
    anyio.run(lambda: work(**options), backend_options=loop)


async def work(**options: Any) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn, app.open_async():
        _effects.append(conn)
        await app.run_worker_async(**options)


class WorkerProcess:
    """One such process, with its log."""

    def __init__(self, dsn: str, log: Path, **options: Any) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from tests.integration.worker_process import main; main()"],
                cwd=REPO,
                env=os.environ | {DSN: dsn, OPTIONS: json.dumps(options)},
                stdout=out,
                stderr=out,
            )

    def send(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.log.read_text():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"no {text!r} in the worker's output:\n{self.log.read_text()}")
            time.sleep(0.01)

    def wait(self) -> int:
        """Its exit status, negative for a signal."""
        return self.process.wait(DEADLINE_S)


@contextlib.contextmanager
def worker_process(dsn: str, log: Path, **options: Any) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(dsn, log, **options)
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()


def wait_for_row(dsn: str, sql: str, *values: Any) -> tuple[Any, ...]:
    """The first row of the query, once there is one."""
    deadline = time.monotonic() + DEADLINE_S
    with psycopg.connect(dsn, autocommit=True) as conn:
        while True:
            row = conn.execute(sql.encode(), values or None).fetchone()
            if row is not None:
                return row
            if time.monotonic() > deadline:
                jobs = conn.execute(
                    "SELECT id, status, worker_id, error FROM procrastinate_deps.jobs LIMIT 20"
                ).fetchall()
                raise AssertionError(f"no row within {DEADLINE_S} s: {sql} {values}; jobs: {jobs}")
            time.sleep(0.01)
