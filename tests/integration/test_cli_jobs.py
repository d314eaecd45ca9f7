"""`list-jobs`, `job-status`, `cancel`, `retry`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from procrastinate_deps import App, Job, SyncPsycopgConnector
from procrastinate_deps.jobs import Outcome
from procrastinate_deps.statements import fetch_jobs, finish_jobs, register_worker
from tests.integration.cli_process import PROGRAM, Cli, environment, on_terminal
from tests.integration.worker_helpers import query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    """Without an app: none of these needs one."""
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn))


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        yield app


def defer(app: App, task: str = "t", **options: object) -> int:
    return app.configure_task(task, **options).defer()  # type: ignore[arg-type]


def worker(app: App) -> int:
    return app.execute(register_worker("w", "host", 42, None, 1, "1"))


def start(app: App, worker_id: int) -> Job:
    (job,) = app.execute(fetch_jobs(None, worker_id, 1))
    return job


def end(app: App, job: Job, status: str, error: str | None = None) -> None:
    outcome = Outcome(job_id=job.id, claim=job.claim, status=status, error=error)
    assert app.execute(finish_jobs([outcome], "never", app.json_dumps)) == []


def fail(app: App, error: str = "Traceback (most recent call last):\n  somewhere\nValueError: no") -> Job:
    job = start(app, worker(app))
    end(app, job, "failed", error)
    return job


def obstacles(cli: Cli, job_id: int) -> list[dict[str, Any]]:
    return list(cli.json("job-status", job_id)["explanation"]["obstacles"])


# list-jobs


def test_a_list_in_a_pipe_is_plain_text(cli: Cli, app: App) -> None:
    defer(app, "first", queue="a")
    fail(app)
    defer(app, "second", queue="b", depends_on=defer(app, "third", lock="l"))
    lines = cli("list-jobs").splitlines()
    assert lines[0].split() == ["ID", "STATUS", "QUEUE", "TASK", "ATTEMPTS", "FINISHED", "NOTE"]
    assert lines[1].split()[:5] == ["1", "failed", "a", "first", "1"]
    assert lines[1].endswith("  ValueError: no")
    assert [line.split() for line in lines[2:]] == [
        ["2", "todo", "default", "third", "0", "-", "-"],
        ["3", "blocked", "b", "second", "0", "-", "-"],
    ]


def test_a_list_on_a_terminal_is_a_table(cli: Cli, app: App) -> None:
    defer(app, "pkg.module.task", queue="[bold]q")
    status, screen = cli.on_terminal("list-jobs")
    assert status == 0
    assert "───" in screen
    assert "..module.task" in screen
    assert "[bold]q" in screen
    assert "\x1b[36mtodo" in screen


def test_a_list_as_json_has_all_fields(cli: Cli, app: App) -> None:
    defer(app, "first", task_kwargs={"a": [1, "ü"]}, lock="l")
    (job,) = cli.json("list-jobs")
    assert job["task_kwargs"] == {"a": [1, "ü"]}
    assert set(job) == set(Job.__dataclass_fields__)


def test_the_filters_of_the_list(cli: Cli, app: App) -> None:
    defer(app, "a", queue="q1", lock="l")
    defer(app, "b", queue="q2", queueing_lock="ql")
    defer(app, "b", queue="q1", depends_on=1)
    for filters, ids in (
        (["--queue", "q1"], [1, 3]),
        (["--task", "b"], [2, 3]),
        (["--status", "blocked"], [3]),
        (["--lock", "l"], [1]),
        (["--queueing-lock", "ql"], [2]),
        (["--workflow", "7"], []),
        (["--queue", "q1", "--task", "b"], [3]),
        (["--after", "1"], [2, 3]),
    ):
        assert [job["id"] for job in cli.json("list-jobs", *filters)] == ids


def test_a_list_that_goes_on_says_where(cli: Cli, app: App) -> None:
    for _ in range(3):
        defer(app)
    done = cli.run("list-jobs", "--limit", "2", "--format", "json")
    assert [job["id"] for job in done.json] == [1, 2]
    assert "--after 2" in done.err
    assert cli.run("list-jobs", "--limit", "2", "--after", "1").err == ""


def test_an_empty_list(cli: Cli) -> None:
    done = cli.run("list-jobs")
    assert (done.status, done.out, done.err) == (0, "", "no such jobs\n")
    assert cli.json("list-jobs") == []


def test_names_can_not_write_on_the_terminal(cli: Cli, app: App) -> None:
    defer(app, "evil\x1b[2J", queue="two\nlines")
    lines = cli("list-jobs").splitlines()
    assert len(lines) == 2
    assert r"evil\x1b[2J" in lines[1]
    assert r"two\nlines" in lines[1]
    assert "\x1b" not in cli("job-status", 1)


# job-status


def test_the_status_of_a_blocked_job_names_what_it_waits_for(cli: Cli, app: App) -> None:
    first, second = defer(app), defer(app)
    fail(app)
    child = defer(app, "child", depends_on=[first, second], task_kwargs={"a": 1})
    grandchild = defer(app, depends_on=child)
    worker(app)
    text = cli("job-status", child)
    assert text.startswith(f"job {child}: blocked\n")
    assert "why\n  waits for 1 parent to end\n" in text
    assert f"what it comes down to: 1 job\n    job {second} (t, todo)\n" in text
    assert f"parents\n  job {first}: failed\n  job {second}: todo\n" in text
    assert f"children\n  job {grandchild}: blocked\n" in text
    status = cli.json("job-status", child)
    assert (status["status"], status["task_name"], status["task_kwargs"]) == ("blocked", "child", {"a": 1})
    assert status["parents"] == {str(first): "failed", str(second): "todo"}
    assert status["children"] == {str(grandchild): "blocked"}
    why = status["explanation"]
    assert [each["kind"] for each in why["obstacles"]] == ["parents"]
    assert [(each["id"], each["status"]) for each in why["roots"]] == [(second, "todo")]


def test_a_job_that_can_start_waits_for_a_worker_only(cli: Cli, app: App) -> None:
    defer(app, queue="q")
    (wait,) = obstacles(cli, 1)
    assert (wait["kind"], wait["queue"]) == ("worker", "q")
    worker(app)
    assert [each["kind"] for each in obstacles(cli, 1)] == ["slot"]
    assert "waits for a free slot: 1 worker with 1 slot" in cli("job-status", 1)


def test_a_worker_that_gives_no_sign_of_life_is_none(cli: Cli, app: App, dsn: str) -> None:
    defer(app, queue="q")
    worker(app)
    query(dsn, "UPDATE procrastinate_deps.workers SET heartbeat_at = now() - interval '1 h'")
    assert [each["kind"] for each in obstacles(cli, 1)] == ["worker"]


def test_a_scheduled_job_in_a_paused_queue(cli: Cli, app: App) -> None:
    defer(app, queue="q", schedule_in={"days": 3})
    worker(app)
    app.job_manager.pause_queue("q")
    schedule, queue = obstacles(cli, 1)
    assert (schedule["kind"], queue["kind"], queue["queue"]) == ("schedule", "paused", "q")
    assert schedule["until"] == cli.json("job-status", 1)["scheduled_at"]
    assert "its queue 'q', which is paused" in cli("job-status", 1)
    assert "not before" in cli("list-jobs")


def test_a_job_that_waits_for_a_lock_names_the_holder(cli: Cli, app: App) -> None:
    defer(app, lock="l")
    worker_id = worker(app)
    holder = start(app, worker_id)
    other = defer(app, lock="l")
    (wait,) = obstacles(cli, other)
    assert (wait["kind"], wait["lock"], wait["holder"], wait["holder_status"]) == ("lock", "l", holder.id, "doing")
    assert f"the lock 'l', which job {holder.id} (t, doing) has" in cli("job-status", other)


def test_a_lock_that_was_granted_to_a_job_that_has_not_started(cli: Cli, app: App) -> None:
    defer(app, lock="l")
    worker_id = worker(app)
    running = start(app, worker_id)
    best, later = defer(app, lock="l", priority=5), defer(app, lock="l")
    # whoever looks for jobs sees them wait behind the running one
    assert app.execute(fetch_jobs(None, worker_id, 1)) == []
    end(app, running, "succeeded")
    (wait,) = obstacles(cli, later)
    assert (wait["kind"], wait["holder"], wait["holder_status"], wait["ahead"]) == ("lock", best, "todo", 0)


def test_a_running_job_names_its_worker(cli: Cli, app: App, dsn: str) -> None:
    defer(app)
    start(app, worker(app))
    assert "w on host, process 42\n" in cli("job-status", 1)
    assert cli.json("job-status", 1)["worker"]["name"] == "w"
    assert [each["kind"] for each in obstacles(cli, 1)] == ["running"]
    query(dsn, "UPDATE procrastinate_deps.workers SET heartbeat_at = now() - interval '1 h'")
    assert "gives no sign of life" in cli("job-status", 1)


def test_a_failed_job_shows_its_traceback_and_its_events(cli: Cli, app: App) -> None:
    defer(app)
    fail(app, "Traceback:\n  first\nKeyError: 'a'")
    app.job_manager.retry_job_by_id(1)
    fail(app, "Traceback:\n  second\nKeyError: 'b'")
    text = cli("job-status", 1)
    assert text.endswith("error\n  Traceback:\n    second\n  KeyError: 'b'\n")
    assert "retried (attempt 1) from: failed, error: KeyError: 'a'" in text
    status = cli.json("job-status", 1)
    assert status["error"] == "Traceback:\n  second\nKeyError: 'b'"
    assert [event["type"] for event in status["events"]] == ["retried"]


def test_a_cancelled_job_shows_why(cli: Cli, app: App) -> None:
    parent = defer(app)
    defer(app, depends_on=parent, run_when="all_succeeded")
    fail(app)
    text = cli("job-status", 2)
    assert "cancelled as   upstream" in text
    assert f"all_succeeded: parent {parent} failed" in text


def test_many_children_are_all_in_json(cli: Cli, app: App) -> None:
    parent = defer(app)
    ids = app.configure_task("child", depends_on=parent).batch_defer(*[{}] * 1200)
    assert list(cli.json("job-status", parent)["children"]) == [str(child) for child in ids]
    assert "  and 1180 more\n" in cli("job-status", parent)


def test_on_a_terminal_a_job_is_shown_in_panels(cli: Cli, app: App) -> None:
    parent = defer(app, "par[bold]ent")
    child = defer(app, depends_on=parent, task_kwargs={"a": "\x1b[2J"})
    status, screen = cli.on_terminal("job-status", child, columns=80)
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in screen.splitlines()]
    assert status == 0
    assert {len(line) for line in lines} == {80}
    assert f"job {child}  blocked" in lines[0]
    assert any(f"── job {parent} (par[bold]ent) todo" in line for line in lines)
    assert any("waits for a worker for its queue 'default': none is running" in line for line in lines)
    assert "\x1b[2J" not in screen
    _, plain = on_terminal(*PROGRAM, "job-status", child, cwd=cli.folder, env=cli.env | {"NO_COLOR": "1"}, columns=80)
    assert not re.search(r"\x1b\[[\d;]*3\dm", plain)


def test_an_error_on_a_terminal(cli: Cli, app: App) -> None:
    defer(app)
    fail(app, "Traceback:\n  [red]there[/red]\nValueError: no")
    app.job_manager.retry_job_by_id(1)
    fail(app)
    _, screen = cli.on_terminal("job-status", 1)
    assert "events" in screen
    assert "retried (attempt 1)" in screen
    assert "ValueError: no" in screen


@pytest.mark.parametrize("command", ["job-status", "cancel", "retry"])
def test_an_unknown_id(cli: Cli, command: str) -> None:
    assert "no job 99" in cli.run(command, "99").error


# cancel and retry


def test_cancel_settles_the_children(cli: Cli, app: App) -> None:
    parent = defer(app)
    child = defer(app, depends_on=parent, run_when="all_succeeded")
    assert cli("cancel", parent) == f"job {parent}: cancelled\n"
    assert app.job_manager.get_job_status(child) == "cancelled"
    assert "is cancelled" in cli.run("cancel", parent).error


def test_cancel_of_a_running_job_needs_abort(cli: Cli, app: App) -> None:
    defer(app)
    start(app, worker(app))
    assert "--abort" in cli.run("cancel", "1").error
    assert not app.job_manager.get_job(1).abort_requested
    assert cli("cancel", "--abort", "1") == "job 1: asked to abort\n"
    assert app.job_manager.get_job(1).abort_requested
    assert "abort_requested" in cli("job-status", 1)


def test_cancel_can_delete(cli: Cli, app: App) -> None:
    defer(app)
    assert cli("cancel", "--delete", "1") == "job 1: deleted\n"
    assert app.job_manager.list_jobs() == []


def test_cancel_of_several_does_what_can_be_done(cli: Cli, app: App) -> None:
    defer(app)
    defer(app)
    done = cli.run("cancel", "1", "99", "2")
    assert done.out == "job 1: cancelled\njob 2: cancelled\n"
    assert "no job 99" in done.error


def test_retry_runs_a_job_again_with_new_values(cli: Cli, app: App) -> None:
    defer(app)
    fail(app)
    options = ["--at", "2099-01-01T00:00:00Z", "--set-priority", "4", "--set-queue", "q", "--set-lock", "l"]
    assert cli("retry", "1", *options) == "job 1: todo\n"
    job = cli.json("job-status", 1)
    assert (job["scheduled_at"], job["priority"]) == ("2099-01-01T00:00:00+00:00", 4)
    assert (job["queue"], job["lock"]) == ("q", "l")


@pytest.mark.parametrize(("option", "status"), [([], "blocked"), (["--no-reset-dependents"], "todo")])
def test_retry_resets_the_dependents_unless_told(cli: Cli, app: App, option: list[str], status: str) -> None:
    parent = defer(app)
    child = defer(app, depends_on=parent)
    fail(app)
    cli("retry", parent, *option)
    assert app.job_manager.get_job_status(child) == status


def test_retry_is_refused_while_the_rule_is_not_met(cli: Cli, app: App) -> None:
    parent = defer(app)
    child = defer(app, depends_on=parent, run_when="all_succeeded")
    fail(app)
    assert f"parent {parent} failed" in cli.run("retry", child).error
    assert cli("retry", child, "--ignore-dependencies") == f"job {child}: todo\n"


def test_retry_of_several_does_what_can_be_done(cli: Cli, app: App) -> None:
    defer(app)
    fail(app)
    defer(app)
    done = cli.run("retry", "2", "1")
    assert done.out == "job 1: todo\n"
    assert "job 2" in done.error
