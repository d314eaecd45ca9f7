"""`prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from tests.integration.cli_process import Cli, environment
from tests.integration.worker_helpers import query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD = ("prune", "--older-than", "1h")


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn))


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    """Of each kind of end a job that ended 2 hours ago, and in the queue q one more that succeeded; and a young one."""
    statuses = ("succeeded", "failed", "cancelled", "aborted")
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        for status in statuses:
            app.configure_task(status).defer()
        app.configure_task("succeeded", queue="q").defer()
        for status in statuses:
            query(
                dsn,
                "UPDATE procrastinate_deps.jobs SET status = %s::procrastinate_deps.job_status WHERE task_name = %s",
                status,
                status,
            )
        query(dsn, "UPDATE procrastinate_deps.jobs SET finished_at = now() - interval '2 h'")
        app.job_manager.cancel_job_by_id(app.configure_task("young").defer())
        yield app


def left(app: App) -> list[str]:
    return [job.task_name for job in app.job_manager.list_jobs()]


def test_it_counts_and_asks_first(cli: Cli, app: App) -> None:
    status, screen = cli.on_terminal(*OLD, typed="n\n")
    assert status == 1
    assert "delete 5 jobs: aborted, cancelled, failed, succeeded? [y/N]:" in screen
    assert len(left(app)) == 6
    status, screen = cli.on_terminal(*OLD, typed="y\n")
    assert (status, screen.endswith(" 5 jobs deleted\r\n")) == (0, True)
    assert left(app) == ["young"]
    assert cli(*OLD) == "no such jobs\n"


def test_it_asks_nobody(cli: Cli, app: App) -> None:
    error = cli.run(*OLD, stdin="y\n").error
    assert error.startswith("delete 5 jobs: ")
    assert "--yes" in error
    assert cli(*OLD, "--dry-run") == "would delete 5 jobs: aborted, cancelled, failed, succeeded\n"
    assert len(left(app)) == 6


def test_it_does_not_ask_if_told(cli: Cli, app: App) -> None:
    assert cli(*OLD, "--yes") == "5 jobs deleted\n"
    assert cli(*OLD, "--yes") == "0 jobs deleted\n"
    assert left(app) == ["young"]


def test_only_some_of_them(cli: Cli, app: App) -> None:
    assert cli(*OLD, "--queue", "q", "--dry-run").startswith("would delete 1 job of queue 'q': ")
    assert cli(*OLD, "--status", "failed", "--status", "aborted", "-y") == "2 jobs deleted\n"
    assert cli(*OLD, "--queue", "q", "-y") == "1 job deleted\n"
    assert left(app) == ["succeeded", "cancelled", "young"]
    assert cli("prune", "--older-than", "1d", "-y") == "0 jobs deleted\n"
    assert cli("prune", "-y", PROCRASTINATE_DEPS_PRUNE_OLDER_THAN="0.5h") == "2 jobs deleted\n"


@pytest.mark.parametrize("age", ["", "3", "3 days", "-1h", "h", "1h30m", "99999999999w"])
def test_an_age_that_is_none(cli: Cli, age: str) -> None:
    done = cli.run("prune", "--older-than", age)
    assert done.status == 2
    assert "--older-than" in done.err


def test_what_is_to_be_deleted_must_have_ended(cli: Cli) -> None:
    assert cli.run("prune").status == 2
    assert "'doing' is not one of 'succeeded'" in cli.run(*OLD, "--status", "doing").err
