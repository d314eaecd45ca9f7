"""`list-queues`, `list-tasks`, `list-locks`, `list-workers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from procrastinate_deps.statements import register_worker
from tests.integration.cli_process import Cli, environment
from tests.integration.worker_helpers import query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNTS = {"blocked": 0, "todo": 0, "doing": 0, "succeeded": 0, "failed": 0, "cancelled": 0, "aborted": 0}


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn))


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        first = app.configure_task("a", queue="q1", lock="l1").defer()
        app.configure_task("b", queue="q1", lock="l2", depends_on=first).defer()
        app.configure_task("b", queue="q2").defer()
        yield app


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        ("list-queues", {"q1": (1, 1), "q2": (0, 1)}),
        ("list-tasks", {"a": (0, 1), "b": (1, 1)}),
        ("list-locks", {"l1": (0, 1), "l2": (1, 0)}),
    ],
)
def test_counts_by_status(cli: Cli, app: App, command: str, rows: dict[str, tuple[int, int]]) -> None:
    listed = cli.json(command)
    for row in listed:
        row.pop("paused", None)
    assert listed == [
        {"name": name, "jobs_count": blocked + todo, **COUNTS, "blocked": blocked, "todo": todo}
        for name, (blocked, todo) in rows.items()
    ]
    header, *lines = cli(command).splitlines()
    assert header.split()[0] == command.removeprefix("list-").removesuffix("s").upper()
    assert [line.split()[0] for line in lines] == list(rows)
    status, screen = cli.on_terminal(command)
    assert status == 0
    assert "───" in screen
    assert "blocked" in screen


def test_the_filters_of_the_counts(cli: Cli, app: App) -> None:
    assert [row["name"] for row in cli.json("list-queues", "--task", "a")] == ["q1"]
    assert [row["name"] for row in cli.json("list-tasks", "--queue", "q2")] == ["b"]
    assert [row["name"] for row in cli.json("list-locks", "--status", "blocked")] == ["l2"]
    assert [row["name"] for row in cli.json("list-queues", "--lock", "l1")] == ["q1"]


def test_a_paused_queue(cli: Cli, app: App) -> None:
    app.job_manager.pause_queue("q2")
    assert [(row["name"], row["paused"]) for row in cli.json("list-queues")] == [("q1", False), ("q2", True)]
    assert [line.split()[:2] for line in cli("list-queues").splitlines()[1:]] == [["q1", "-"], ["q2", "yes"]]


def test_workers_live_stalled_and_lost(cli: Cli, app: App, dsn: str) -> None:
    for name, queues in (("good", None), ("silent", ["q1", "q2"]), ("gone", ["q1"])):
        app.execute(register_worker(name, "host", 42, queues, 3, "1.2"))
    old = "heartbeat_at = now() - interval '1 h'"
    query(dsn, f"UPDATE procrastinate_deps.workers SET {old} WHERE name = 'silent'")
    query(dsn, f"UPDATE procrastinate_deps.workers SET {old}, lost_at = now() WHERE name = 'gone'")
    workers = cli.json("list-workers")
    assert [(each["name"], each["state"], each["queues"]) for each in workers] == [
        ("good", "live", None),
        ("silent", "stalled", ["q1", "q2"]),
        ("gone", "lost", ["q1"]),
    ]
    assert {(each["hostname"], each["pid"], each["concurrency"], each["running"]) for each in workers} == {
        ("host", 42, 3, 0)
    }
    lines = cli("list-workers").splitlines()
    assert lines[1].split()[:7] == ["1", "good", "live", "all", "0", "of", "3"]
    assert "q1, q2" in lines[2]
