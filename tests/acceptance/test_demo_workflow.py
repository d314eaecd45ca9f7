"""The workflow demo as a new user runs it: in a pipe, on a terminal, and in two steps."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from procrastinate_deps.demos.demo_app import QUEUE
from tests.integration.cli_process import DEADLINE_S, PROGRAM, REPO, environment, on_terminal
from tests.integration.worker_process import wait_for_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEMO = ("-m", "procrastinate_deps.demos.demo_workflow")
TASKS = ["extract users", "extract orders", "extract prices", "process_data", "publish", "clean_up"]
# by id, in a database where the demo's jobs are the first
FINAL = {
    1: 'extract users: succeeded ("rows of users")',
    2: "extract orders: failed (ConnectionError: orders can't be reached)",
    3: 'extract prices: succeeded ("rows of prices")',
    4: 'process_data: succeeded ({"without": [2], "complete": false})',
    5: "publish: cancelled (all_succeeded: parent 2 failed)",
    6: "clean_up: succeeded",
}
STATUSES = {1: "succeeded", 2: "failed", 3: "succeeded", 4: "succeeded", 5: "cancelled", 6: "succeeded"}
TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        yield app


def run(*command: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def statuses(app: App) -> dict[int, str]:
    return {job.id: job.status.value for job in app.job_manager.list_jobs()}


def final_lines() -> str:
    lines = "".join(f"  job {job_id} {line}\n" for job_id, line in FINAL.items())
    return f"\nFinal statuses:\n{lines}All as expected.\n"


def test_in_a_pipe_each_change_is_a_line(empty_dsn: str, tmp_path: Path) -> None:
    # it makes the tables itself
    done = run(*DEMO, cwd=tmp_path, PROCRASTINATE_DEPS_DSN=empty_dsn)
    assert done.returncode == 0, done
    assert done.stdout.endswith(final_lines())
    assert "\x1b" not in done.stdout
    said = done.stderr.splitlines()
    assert "PROCRASTINATE_DEPS_DSN" in said[0]
    assert said[1:] == ["Parent jobs [2] failed, handling gracefully"]

    changes = [line.partition(" s  ")[2] for line in done.stdout.partition("\nFinal")[0].splitlines()]
    order = {line: number for number, line in enumerate(changes)}
    for parent, child in ((1, 4), (2, 4), (3, 4), (4, 5), (4, 6), (5, 6)):
        waiting = [line for line in changes if line.startswith(f"job {child} ") and "blocked" in line]
        assert order[f"job {parent} {FINAL[parent]}"] < order[f"job {child} {FINAL[child]}"]
        assert order[waiting[-1]] < order[f"job {parent} {FINAL[parent]}"]


def test_on_a_terminal_a_table_moves(dsn: str, app: App, tmp_path: Path) -> None:
    status, screen = on_terminal(*DEMO, cwd=tmp_path, env=environment(PROCRASTINATE_DEPS_DSN=dsn), columns=120)
    assert status == 0, screen
    assert "\x1b[1A" in screen, "nothing was drawn over"
    text = TERMINAL_CODES.sub("", screen).replace("\r", "")
    assert text.endswith(final_lines())
    frames = text.split(" of 6 jobs have ended")
    assert len(frames) > 3
    assert frames[0].endswith("0")
    assert frames[-2].endswith("6")
    for word in ("▶ doing", "✔ succeeded", "✘ failed", "⊘ cancelled", "⏸ blocked", "waits for 1, 2, 3"):
        assert word in text, word
    assert all(task in frames[-1] for task in TASKS)
    assert "Parent jobs [2] failed, handling gracefully" in text
    assert "\x1b[?25h" in screen, "the cursor stays hidden"
    assert statuses(app) == STATUSES


def test_in_two_steps_by_the_printed_command(dsn: str, app: App, tmp_path: Path) -> None:
    done = run(*DEMO, "--defer-only", cwd=tmp_path, PROCRASTINATE_DEPS_DSN=dsn)
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert lines[1:7] == [
        "  job 1 extract users",
        "  job 2 extract orders",
        "  job 3 extract prices",
        "  job 4 process_data (after 1, 2, 3)",
        "  job 5 publish (after 2, 4)",
        "  job 6 clean_up (after 4, 5)",
    ]
    assert statuses(app) == {1: "todo", 2: "todo", 3: "todo", 4: "blocked", 5: "blocked", 6: "blocked"}

    (command,) = [line.strip() for line in lines if line.endswith(" worker")]
    assert command.endswith("-m procrastinate_deps --app procrastinate_deps.demos.demo_app.app worker")
    worker = run(*shlex.split(command)[1:], "--one-shot", cwd=tmp_path, PROCRASTINATE_DEPS_DSN=dsn)
    assert worker.returncode == 0, worker
    assert statuses(app) == STATUSES
    assert app.job_manager.get_job(4).result == {"complete": False, "without": [2]}


def test_in_the_repository_the_bare_worker_knows_the_demo(dsn: str, app: App) -> None:
    assert run(*DEMO, "--defer-only", cwd=REPO, PROCRASTINATE_DEPS_DSN=dsn).returncode == 0
    worker = run(*PROGRAM, "worker", "--one-shot", cwd=REPO, PROCRASTINATE_DEPS_DSN=dsn)
    assert worker.returncode == 0, worker
    assert statuses(app) == STATUSES
    listed = run(*PROGRAM, "list-jobs", "--queue", QUEUE, cwd=REPO, PROCRASTINATE_DEPS_DSN=dsn).stdout
    assert listed.count("demo_app") == len(FINAL)


def test_other_jobs_are_left_alone(dsn: str, app: App, tmp_path: Path) -> None:
    other = app.configure_task("somebody.elses").defer()
    # left over from a run before: it is of the demo's queue, so it is run, but it is not counted
    app.configure_task("procrastinate_deps.demos.demo_app.clean_up", queue=QUEUE).defer()
    done = run(*DEMO, cwd=tmp_path, PROCRASTINATE_DEPS_DSN=dsn)
    assert done.returncode == 0, done
    assert done.stdout.count("job ") > len(FINAL)
    assert not re.search(r"job [12] ", done.stdout)
    assert app.job_manager.get_job(other).attempts == 0
    assert app.job_manager.get_job_status(other) == "todo"


def test_status_1_when_it_ended_otherwise(dsn: str, app: App, tmp_path: Path) -> None:
    app.job_manager.pause_queue(QUEUE)
    with subprocess.Popen(
        [sys.executable, *DEMO],
        cwd=tmp_path,
        env=environment(PROCRASTINATE_DEPS_DSN=dsn, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "clean_up" in line:
                    break
            # one of the jobs is taken away, and the others go on
            app.job_manager.cancel_job_by_id(3, delete_job=True)
            app.job_manager.resume_queue(QUEUE)
            out, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert process.returncode == 1, (out, err)
    assert "job 3 extract prices: deleted" in out
    error = err.splitlines()[-1]
    assert error.startswith("Error: not as expected: ")
    assert "job 3 was deleted" in error


def test_status_1_when_it_is_stopped(dsn: str, app: App, tmp_path: Path) -> None:
    app.job_manager.pause_queue(QUEUE)
    with subprocess.Popen(
        [sys.executable, *DEMO],
        cwd=tmp_path,
        env=environment(PROCRASTINATE_DEPS_DSN=dsn, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            # its worker listens: by then it takes signals, too
            wait_for_row(
                dsn, "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            )
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert process.returncode == 1, err
    assert err.splitlines()[-1].startswith("Error: stopped before 6 of its 6 jobs had ended")


def test_status_1_without_a_database(tmp_path: Path) -> None:
    done = run(*DEMO, cwd=tmp_path, PROCRASTINATE_DEPS_DSN="postgresql://u:s3cret@127.0.0.1:1/x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("Error: can't connect")
    assert "s3cret" not in done.stderr
