"""`shell`: by lines of a pipe, by arguments, and on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from tests.integration.cli_process import Cli, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn))


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        app.configure_task("send", queue="mails", lock="l\x1b[2J").defer(to="me")
        app.configure_task("render", queue="reports", priority=3).defer()
        yield app


def test_lists(cli: Cli, app: App) -> None:
    assert cli("shell", "list_jobs") == "#1 send on mails - [todo]\n#2 render on reports - [todo]\n"
    assert cli("shell", "list_jobs", "queue=reports", "details") == (
        "#2 render on reports - [todo] (attempts=0, priority=3, scheduled_at=None, lock=None, queueing_lock=None, "
        "args={})\n"
    )
    assert cli("shell", "list_jobs", "id=1", "status=todo", "task=send") == "#1 send on mails - [todo]\n"
    assert cli("shell", "list_queues") == "mails: 1 job\nreports: 1 job\n"
    assert cli("shell", "list_tasks", "queue=mails", "details") == (
        "send: 1 job (blocked: 0, todo: 1, doing: 0, succeeded: 0, failed: 0, cancelled: 0, aborted: 0)\n"
    )
    assert cli("shell", "list_locks") == "l\\x1b[2J: 1 job\n"


def test_lines_of_a_pipe(cli: Cli, app: App) -> None:
    assert cli("shell", stdin="cancel 1\nretry 1\n\nexit\nlist_jobs\n") == (
        "#1 send on mails - [cancelled]\n#1 send on mails - [todo]\n"
    )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["fly"], "there is no command 'fly': help lists them"),
        (["cancel"], "cancel takes the id of one job, as in: cancel 7"),
        (["retry", "x"], "retry takes the id of one job, as in: retry 7"),
        (["cancel", "99"], "there is no job 99: it was deleted, or never deferred"),
        (
            ["list_jobs", "status=odd"],
            "'status=odd': status is blocked, todo, doing, succeeded, failed, cancelled, aborted",
        ),
        (["list_jobs", "id=x"], "'id=x': id is a number"),
        (["list_queues", "id=1"], "'id=1' is no filter: queue=..., task=..., status=..., lock=..., or details"),
    ],
)
def test_what_is_not_understood(cli: Cli, app: App, words: list[str], error: str) -> None:
    assert cli.run("shell", *words).error == error


def test_an_error_stops_no_further_lines(cli: Cli, app: App) -> None:
    done = cli.run("shell", stdin="retry 1\ncancel 2\n")
    assert "job 1 can not be retried" in done.error
    assert done.out == "#2 render on reports - [cancelled]\n"


def test_on_a_terminal(cli: Cli, app: App) -> None:
    status, screen = cli.on_terminal("shell", typed="list_queues\nfly\nhelp cancel\nexit\n")
    assert status == 0
    assert "exit leaves" in screen
    assert "procrastinate-deps> " in screen
    assert "mails: 1 job" in screen
    assert "Error: there is no command 'fly'" in screen
    assert "cancel ID: cancel a job that has not started." in screen
