"""`top`: one frame in a pipe, a live screen on a terminal."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from procrastinate_deps.jobs import Outcome
from procrastinate_deps.statements import fetch_jobs, finish_jobs, register_worker
from tests.integration.cli_process import DEADLINE_S, PROGRAM, Cli, environment, terminal
from tests.integration.worker_helpers import query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn))


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        yield app


@pytest.fixture
def busy(app: App) -> App:
    """A failure, a job that runs, one that is ready and one that is blocked, and a paused queue."""
    ids = app.configure_task("pkg.mails.send", queue="mails").batch_defer(*[{}] * 3)
    app.configure_task("pkg.mails.send", queue="mails", depends_on=ids).defer()
    worker = app.execute(register_worker("lonely\x1b[2J", "host", 42, ["mails"], 4, "1"))
    failed, _ = app.execute(fetch_jobs(None, worker, 2))
    outcome = Outcome(job_id=failed.id, claim=failed.claim, status="failed", error="Traceback:\nValueError: no \x1b[2J")
    assert app.execute(finish_jobs([outcome], "never", app.json_dumps)) == []
    app.job_manager.pause_queue("reports")
    return app


def sections(text: str) -> dict[str, list[list[str]]]:
    """The words of each line, by section."""
    found: dict[str, list[list[str]]] = {}
    for part in text.split("\n\n")[1:]:
        title, *lines = part.splitlines()
        found[title] = [line.split() for line in lines]
    return found


def test_a_frame_of_an_empty_database(cli: Cli) -> None:
    text = cli("top", "--once")
    assert "0 live workers with 0 slots, 0 doing, 0 ready, 0 blocked" in text
    assert list(sections(text)) == ["queues: none", "workers: none", "running: none", "failures: none"]


def test_a_frame_in_a_pipe(cli: Cli, busy: App) -> None:
    text = cli("top")
    assert "1 live worker with 4 slots, 1 doing, 1 ready, 1 blocked" in text
    found = sections(text)
    assert found["queues: 2"][1][:7] == ["mails", "-", "1", "1", "0", "0", "1"]
    assert found["queues: 2"][2][:3] == ["reports", "paused", "0"]
    assert found["workers: 1"][1][:6] == ["1", r"lonely\x1b[2J", "live", "1", "of", "4"]
    assert found["running: 1"][1][:4] == ["2", "mails.send", "mails", "1"]
    assert found["failures: 1"][1][-3:] == ["ValueError:", "no", r"\x1b[2J"]


def test_a_frame_as_json(cli: Cli, busy: App) -> None:
    found = cli.json("top")
    assert [queue["name"] for queue in found["queues"]] == ["mails", "reports"]
    assert found["running"]["count"] == 1
    assert found["running"]["jobs"][0]["id"] == 2
    assert [failure["id"] for failure in found["failures"]] == [1]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_frame_fits_its_terminal(cli: Cli, busy: App, columns: int) -> None:
    status, screen = cli.on_terminal("top", "--once", columns=columns)
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in screen.splitlines()]
    assert status == 0
    assert max(map(len, lines)) <= columns
    assert any("paused" in line for line in lines)
    assert "\x1b[2J" not in screen


def read_until(master: int, wanted: str) -> str:
    seen = ""
    while wanted not in seen:
        chunk = os.read(master, 65536)
        assert chunk, seen
        seen += chunk.decode()
    return seen


@pytest.mark.parametrize("by_key", [True, False])
def test_the_live_screen(cli: Cli, busy: App, dsn: str, by_key: bool) -> None:
    command = (*PROGRAM, "top", "--interval", "0.2")
    with terminal(*command, cwd=cli.folder, env=cli.env, columns=100, lines=24) as (process, master):
        seen = read_until(master, "mails.send")
        assert "\x1b[?1049h" in seen, "a screen of its own"
        query(dsn, "SELECT procrastinate_deps.defer_job('t', 'brand-new', 0, NULL, NULL, '{}', NULL, NULL)")
        read_until(master, "brand-new")
        if by_key:
            os.write(master, b"q")
        else:
            process.send_signal(signal.SIGINT)
        read_until(master, "\x1b[?1049l")
        assert process.wait(DEADLINE_S) == 0


def test_many_queues_leave_room_for_the_rest(cli: Cli, busy: App) -> None:
    for number in range(40):
        busy.configure_task("t", queue=f"queue-{number}").defer()
    command = (*PROGRAM, "top")
    with terminal(*command, cwd=cli.folder, env=cli.env, columns=100, lines=24) as (process, master):
        seen = read_until(master, "ValueError")
        assert re.search(r"and \d+ more", seen)
        assert len(re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", seen).rstrip().splitlines()) <= 24
        os.write(master, b"q")
        assert process.wait(DEADLINE_S) == 0
