"""`worker`: what it is told reaches the worker. How that works is tested with the worker itself."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from tests.integration.cli_process import DEADLINE_S, PROGRAM, Cli, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn, PROCRASTINATE_DEPS_APP="shop.app"))


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        yield app


def test_one_shot_runs_what_there_is_in_order(cli: Cli) -> None:
    first = cli.id("charge", '{"order": 7}')
    second = cli.id("ship", '{"order": 7}', "--depends-on", first)
    failing = cli.id("fail")
    never = cli.id("ship", '{"order": 8}', "--depends-on", failing)
    done = cli.run("worker", "--one-shot")
    assert (done.status, done.out) == (0, "order 7 is charged\norder 7 is shipped\n")
    statuses = {job["id"]: job["status"] for job in cli.json("list-jobs")}
    assert statuses == {first: "succeeded", second: "succeeded", failing: "failed", never: "cancelled"}
    assert cli.json("job-status", first)["result"] == "paid 7"
    error = cli("job-status", failing)
    assert "Traceback" in error
    assert "ValueError: out of [bold]stock[/bold]" in error


@pytest.mark.parametrize(
    ("arguments", "variable", "served"),
    [
        (["money", "other"], "", {"money", "other"}),
        (["-q", "money, other"], "", {"money", "other"}),
        (["money", "--queues", "other"], "", {"money", "other"}),
        ([], "money,other", {"money", "other"}),
        (["money"], "other", {"money"}),
        (["-q", "other"], "money", {"other"}),
        ([], "", {"money", "other", "default"}),
    ],
)
def test_the_queues(cli: Cli, app: App, arguments: list[str], variable: str, served: set[str]) -> None:
    for queue in ("money", "other", "default"):
        app.configure_task("charge", task_kwargs={"order": 1}, queue=queue).defer()
    done = cli.run("worker", *arguments, "--one-shot", PROCRASTINATE_DEPS_WORKER_QUEUES=variable)
    assert done.status == 0
    assert {job.queue for job in app.job_manager.list_jobs(status="succeeded")} == served


def test_the_log_goes_to_stderr_as_json_if_asked(cli: Cli, app: App) -> None:
    app.configure_task("charge").defer(order=7)
    app.configure_task("fail").defer()
    done = cli.run("worker", "--one-shot", "--log-format", "json")
    assert done.out == "order 7 is charged\n"
    records = [json.loads(line) for line in done.err.splitlines()]
    by_action = {record["action"]: record for record in records if "action" in record}
    assert {"choose_database", "start_worker", "job_success", "job_error", "stop_worker"} <= set(by_action)
    assert by_action["job_error"]["level"] == "error"
    assert "ValueError" in by_action["job_error"]["exception"]
    assert {"time", "level", "logger", "message"} <= set(records[0])


def test_the_log_level(cli: Cli) -> None:
    assert cli("worker", "--one-shot", "--log-level", "warning") == ""
    assert cli("--log-level", "WARNING", "worker", "--one-shot") == ""
    assert "starts" in cli.run("--log-level", "warning", "worker", "--one-shot", "--log-level", "INFO").err
    assert cli("worker", "--one-shot", PROCRASTINATE_DEPS_LOG_LEVEL="warning") == ""


def test_what_is_not_given_is_as_the_app_says(cli: Cli) -> None:
    assert "Worker from-the-app starts" in cli.run("worker", "--one-shot").err
    assert "Worker typed starts" in cli.run("worker", "--one-shot", "--name", "typed").err


def test_its_options_by_variables_as_list_workers_shows_them(cli: Cli) -> None:
    variables = {"CONCURRENCY": "7", "NAME": "w7", "QUEUES": "b,a", "SHUTDOWN_GRACEFUL_TIMEOUT": "1"}
    variables |= {"LISTEN_NOTIFY": "false", "FETCH_JOB_POLLING_INTERVAL": "0.1", "DELETE_JOBS": "successful"}
    env = cli.env | {f"PROCRASTINATE_DEPS_WORKER_{name}": value for name, value in variables.items()}
    process = subprocess.Popen(
        [sys.executable, *PROGRAM, "worker"], cwd=cli.folder, env=env, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "starts" in line:
                break
        (shown,) = cli.json("list-workers")
        assert (shown["name"], shown["concurrency"], shown["queues"]) == ("w7", 7, ["a", "b"])
        assert (shown["pid"], shown["state"]) == (process.pid, "live")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
    assert cli.json("list-workers") == []


def test_a_worker_may_not_be_lost_between_two_heartbeats(cli: Cli) -> None:
    error = cli.run("worker", "--stalled-worker-timeout", "10", "--log-level", "warning").error
    assert "stalled_worker_timeout=10.0 is not above update_heartbeat_interval=10.0" in error


def test_jobs_that_ended_are_deleted_if_asked(cli: Cli, app: App) -> None:
    app.configure_task("charge").defer(order=7)
    failing = app.configure_task("fail").defer()
    assert cli.run("worker", "--one-shot", "--delete-jobs", "successful").status == 0
    assert [job.id for job in app.job_manager.list_jobs()] == [failing]


@pytest.mark.parametrize(
    "option",
    [
        ["--concurrency", "0"],
        ["--fetch-job-polling-interval", "0"],
        ["--update-heartbeat-interval", "0"],
        ["--stalled-worker-timeout", "-1"],
        ["--max-rescues", "-1"],
        ["--shutdown-graceful-timeout", "-1"],
        ["--delete-jobs", "sometimes"],
        ["--log-level", "loud"],
    ],
    ids=lambda option: option[0],
)
def test_what_was_typed_wrong(cli: Cli, option: list[str]) -> None:
    done = cli.run("worker", *option)
    assert done.status == 2
    assert option[0] in done.err
