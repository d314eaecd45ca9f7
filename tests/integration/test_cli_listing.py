"""`list-queues`, `list-tasks`, `list-locks`, `list-workers`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from procrastinate_deps.jobs import JobSpec, PeriodicSpec
from procrastinate_deps.statements import defer_periodic_job, fetch_jobs, register_periodic_tasks, register_worker
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
    assert re.search(r"  \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  36\d\d s ago  -$", lines[2])


def test_what_workers_are_doing(cli: Cli, app: App, dsn: str) -> None:
    for _ in range(29):
        app.configure_task("c", queue="q3").defer()
    worker = app.execute(register_worker("busy", "host", 42, ["q3"], 30, "1.2"))
    started = [job.id for job in app.execute(fetch_jobs(["q3"], worker, 25))]
    [shown] = cli.json("list-workers")
    assert (shown["running"], shown["concurrency"]) == (25, 30)
    assert shown["jobs"] == {str(job_id): "c" for job_id in started[:20]}
    assert 0 <= shown["heartbeat_age_s"] < 30
    named = ", ".join(f"{job_id} c" for job_id in started[:3])
    assert cli("list-workers").splitlines()[1].endswith(f"  {named}, and 22 more")


def test_periodic_tasks(cli: Cli, app: App) -> None:
    done = cli.run("list-periodic")
    assert (done.status, done.out) == (0, "")
    assert "workers make theirs known" in done.err
    night = PeriodicSpec(
        periodic_id="n", cron="0 3 * * *", timezone="Asia/Tokyo", job=JobSpec(task_name="t", queue="q")
    )
    app.execute(
        register_periodic_tasks(
            [night, PeriodicSpec(periodic_id="", cron="@daily", timezone="UTC", job=JobSpec(task_name="u"))]
        )
    )
    job_id = app.execute(defer_periodic_job(night, 86_400)).job_id
    first, second = cli.json("list-periodic")
    assert {name: first[name] for name in ("task_name", "periodic_id", "cron", "timezone", "queue", "last_at")} == {
        "task_name": "t", "periodic_id": "n", "cron": "0 3 * * *", "timezone": "Asia/Tokyo", "queue": "q",
        "last_at": "1970-01-02T00:00:00+00:00",
    }  # fmt: skip
    assert (first["last_job_id"], first["last_job_status"]) == (job_id, "todo")
    assert first["next_at"].endswith("T18:00:00+00:00")
    assert (second["last_at"], second["next_at"][11:]) == (None, "00:00:00+00:00")
    _, line, other = cli("list-periodic").splitlines()
    assert "  1970-01-02 00:00:00Z  " in line
    assert other.split()[:2] == ["u", "-"]
