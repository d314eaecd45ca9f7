"""`cancel`, `abort`, `retry`, `delete`, `pause`, `resume`: by ids and by filters, told first and asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from procrastinate_deps.cli import acting, targets
from procrastinate_deps.jobs import JobSpec, Outcome, WorkflowSpec
from procrastinate_deps.statements import JobSelection, fetch_jobs, finish_jobs, register_worker
from tests.integration.cli_process import Cli, environment
from tests.integration.worker_helpers import query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from procrastinate_deps.manager import JobManager
    from procrastinate_deps.verbs.bulk import BulkOutcome


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn))


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        yield app


def defer(app: App, task: str = "t", **options: object) -> int:
    return app.configure_task(task, **options).defer()  # type: ignore[arg-type]


def run(app: App, status: str | None = None) -> int:
    """Start the next job, and end it so; None: it runs."""
    worker = app.execute(register_worker("w", "host", 42, None, 1, "1"))
    (job,) = app.execute(fetch_jobs(None, worker, 1))
    if status is not None:
        outcome = Outcome(job_id=job.id, claim=job.claim, status=status, error="Traceback:\nValueError: no")
        assert app.execute(finish_jobs([outcome], "never", app.json_dumps)) == []
    return job.id


def statuses(app: App) -> list[str]:
    return [str(job.status) for job in app.job_manager.list_jobs()]


@pytest.mark.parametrize("command", ["cancel", "abort", "retry", "delete"])
def test_who_says_nothing_means_nothing(cli: Cli, command: str) -> None:
    done = cli.run(command)
    assert done.status == 2
    assert "--all" in done.err
    both = cli.run(command, "7", "--queue", "q")
    assert both.status == 2
    assert "not both" in both.err
    assert cli(command, "--queue", "q", "--yes") == "no such jobs\n"


def test_a_filter_asks_on_a_terminal(cli: Cli, app: App) -> None:
    mails = [defer(app, queue="mails") for _ in range(3)]
    defer(app, queue="other")
    status, screen = cli.on_terminal("cancel", "--queue", "mails", typed="n\n")
    assert status == 1
    assert "cancel 3 jobs? [y/N]:" in screen
    assert statuses(app) == ["todo"] * 4
    status, screen = cli.on_terminal("cancel", "--queue", "mails", typed="y\n")
    assert (status, screen.endswith("3 jobs cancelled\r\n")) == (0, True)
    assert statuses(app) == [*["cancelled"] * len(mails), "todo"]


def test_a_filter_in_a_pipe_needs_a_yes(cli: Cli, app: App) -> None:
    defer(app, queue="mails")
    error = cli.run("cancel", "--queue", "mails", stdin="y\n").error
    assert error.startswith("cancel 1 job? ")
    assert "--yes" in error
    assert cli("cancel", "--queue", "mails", "--dry-run") == "would cancel 1 job: 1\n"
    assert statuses(app) == ["todo"]
    assert cli("cancel", "--queue", "mails", "-y") == "1 job cancelled\n"


def test_a_dry_run_by_ids(cli: Cli, app: App) -> None:
    ended, todo = defer(app), defer(app)
    run(app, "failed")
    text = cli("cancel", todo, ended, 99, "--dry-run")
    assert text == f"would cancel 1 job: {todo}\njob {ended} would stay: it is failed\nthere is no job 99\n"
    assert cli("retry", ended, "--dry-run") == f"would retry 1 job: {ended}\n"
    assert statuses(app) == ["failed", "todo"]


def test_each_filter(cli: Cli, app: App, dsn: str) -> None:
    graph = app.job_manager.defer_graph([WorkflowSpec(name="w")], [JobSpec(task_name="t", workflow=0)])
    for options in ({"queue": "q"}, {"lock": "l"}, {"task": "other"}, {}):
        defer(app, **options)
    query(dsn, "UPDATE procrastinate_deps.jobs SET created_at = now() - interval '2 h' WHERE id = 5")
    for filters, ids in (
        (["--queue", "q"], "2"),
        (["--lock", "l"], "3"),
        (["--task", "other"], "4"),
        (["--workflow", graph.workflow_ids[0]], "1"),
        (["--from-id", 3, "--to-id", 4], "3, 4"),
        (["--older-than", "1h"], "5"),
        (["--all"], "1, 2, 3, 4, 5"),
    ):
        assert cli("cancel", *filters, "--dry-run").endswith(f"job{'s' if ', ' in ids else ''}: {ids}\n")
    assert cli("cancel", "--all", "--status", "blocked", "--dry-run") == "would cancel no job\n"
    assert cli("cancel", "--all", "--dry-run", PROCRASTINATE_DEPS_CANCEL_QUEUE="q") == "would cancel 1 job: 2\n"


def test_what_was_deferred_after_the_question_is_not_meant(app: App) -> None:
    first = [defer(app), defer(app)]
    chosen = targets.Targets((), (JobSelection(),), yes=True, dry_run=False)
    up_to = app.job_manager.last_job_id()
    defer(app)
    assert list(chosen.pages(app.job_manager, up_to)) == [first]


def test_many_are_counted_to_a_cap(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.configure_task("t").batch_defer(*[{}] * 12)
    chosen = targets.Targets((), (JobSelection(),), yes=True, dry_run=False)
    assert targets.listed(*chosen.count(app.job_manager)) == "12 jobs: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more"
    monkeypatch.setattr(targets, "COUNT_CAP", 11)
    count, first = chosen.count(app.job_manager)
    assert (count, first) == (12, list(range(1, 11)))
    assert targets.listed(count, first) == "more than 11 jobs: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and more"


def test_abort_by_filter_is_for_what_runs(cli: Cli, app: App) -> None:
    running = defer(app)
    run(app)
    defer(app)
    assert cli("abort", "--all", "--yes") == "1 job asked to abort\n"
    assert app.job_manager.get_job(running).abort_requested
    assert statuses(app) == ["doing", "todo"]
    assert cli("abort", running) == f"job {running}: asked to abort\n"


def test_what_runs_is_not_cancelled_by_a_filter(cli: Cli, app: App) -> None:
    assert "--abort" in cli.run("cancel", "--status", "doing", "--yes").err
    assert cli.run("cancel", "--status", "doing", "--yes").status == 2


def test_what_has_moved_on_since_it_was_selected_is_no_error(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = defer(app), defer(app)

    def run_meanwhile(manager: JobManager, ids: Sequence[int]) -> BulkOutcome:
        run(app)
        return manager.cancel_jobs(ids)

    chosen = targets.Targets((), (JobSelection(),), yes=True, dry_run=False)
    act = acting.Act("cancel", acting.WAITING, run_meanwhile, always_can=True)
    refused = acting.act_on_selection(app, chosen, act)
    assert list(refused) == [first]
    assert capsys.readouterr().out == "1 job cancelled, 1 job had moved on\n"
    assert statuses(app) == ["doing", "cancelled"]
    assert second > first


def test_retry_by_filter_is_for_what_went_wrong(cli: Cli, app: App) -> None:
    for status in ("succeeded", "failed", "failed"):
        defer(app)
        run(app, status)
    child = defer(app, depends_on=2, run_when="all_succeeded")
    assert cli("retry", "--all", "--yes", "--set-queue", "slow") == "2 jobs retried\n"
    assert statuses(app) == ["succeeded", "todo", "todo", "blocked"]
    assert [job.id for job in app.job_manager.list_jobs(queue="slow")] == [2, 3]
    assert child == 4


def test_parents_are_retried_before_what_was_cancelled_because_of_them(cli: Cli, app: App) -> None:
    parent = defer(app)
    defer(app, depends_on=parent, run_when="all_succeeded")
    run(app, "failed")
    assert cli("retry", "--status", "cancelled", "--status", "failed", "--yes") == "1 job retried\n"
    assert statuses(app) == ["todo", "blocked"]


def test_a_refusal_is_said_and_is_a_failure(cli: Cli, app: App) -> None:
    for _ in range(2):
        defer(app, queueing_lock="l")
        run(app, "failed")
    done = cli.run("retry", "--status", "failed", "--yes")
    assert (done.status, done.out) == (1, "1 job retried, 1 job left as it is\n")
    assert "queueing lock" in done.error


def test_delete_leaves_what_is_needed(cli: Cli, app: App) -> None:
    parent, lone = defer(app), defer(app)
    child = defer(app, depends_on=parent)
    run(app, "succeeded")
    run(app, "succeeded")
    assert cli("delete", lone) == f"job {lone}: deleted\n"
    assert "--force" in cli.run("delete", parent).error
    assert "--force" in cli.run("delete", child).error
    done = cli.run("delete", "--all", "--yes")
    assert (done.status, done.out) == (1, "1 job left as it is\n")
    assert cli("delete", "--all", "--force", "--yes") == "2 jobs deleted\n"
    assert statuses(app) == []


def test_cancel_and_delete_touches_nothing_that_has_ended(cli: Cli, app: App) -> None:
    ended, waiting = defer(app), defer(app)
    run(app, "succeeded")
    assert f"job {ended} has ended" in cli.run("cancel", "--delete", ended).error
    assert cli("cancel", "--delete", "--all", "--yes") == "1 job deleted\n"
    assert [job.id for job in app.job_manager.list_jobs()] == [ended]
    assert waiting != ended


def test_pause_and_resume(cli: Cli, app: App) -> None:
    defer(app, queue="a")
    defer(app, queue="b\x1b[2J")
    assert cli("pause", "a", "c") == "queue a: paused\nqueue c: paused\n"
    assert cli("pause", "a") == "queue a: was paused already\n"
    assert app.job_manager.list_paused_queues() == ["a", "c"]
    assert "--yes" in cli.run("pause", "--all").error
    assert cli("pause", "--all", "--dry-run") == "would pause 1 queue: b\\x1b[2J\n"
    assert cli("pause", "--all", "--yes") == "queue b\\x1b[2J: paused\n"
    assert cli("resume", "--all", "--yes").splitlines()[0] == "queue a: goes on"
    assert cli("resume", "a") == "queue a: was not paused\n"
    assert cli("resume", "--all", "--yes") == "no such queues\n"
    assert cli.run("pause").status == 2
    assert cli.run("pause", "a", "--all").status == 2
