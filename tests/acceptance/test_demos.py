"""The demos as a new user runs them: each a process, of which we read what it prints."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from procrastinate_deps.cli.program import Failure
from procrastinate_deps.demos import catalogue, stage, wide
from procrastinate_deps.demos.progress import Step
from procrastinate_deps.jobs import CancelKind, Status
from tests.integration.cli_process import DEADLINE_S, REPO, environment, on_terminal
from tests.integration.worker_process import wait_for_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from procrastinate_deps.jobs import Job

ALL_DEADLINE_S = 300

# What each prints of its jobs in the end, in its order; "s": succeeded. test_demo_workflow.py has the first one.
UPSTREAM = "cancelled (all_succeeded: parent N "
NOT_NEEDED = "cancelled (any_failed: parent N succeeded)"
FINAL: dict[str, dict[str, str]] = {
    "sequential": {
        "prepare": 's ("user_activity is ready")',
        "process": 's ("sum of user_activity")',
        "validate": "s (true)",
    },
    "convergence": {
        "prepare sales": "s (5000)",
        "prepare users": "s (8000)",
        "prepare products": "s (3000)",
        "report": 's ("the monthly report")',
    },
    "cleanup": {
        "process orders": 's ("orders is processed")',
        "clean up orders": 's ("cleaned up after it had succeeded")',
        "process prices": "failed (ValueError: prices is damaged)",
        "clean up prices": 's ("cleaned up after it had failed")',
    },
    "fan_out": {
        "prepare": "s",
        "analysis": 's ("analysis is done")',
        "transformation": 's ("transformation is done")',
        "validation": 's ("validation is done")',
        "export": 's ("export is done")',
        "report": "s",
    },
    "etl": {
        "extract users": 's ("rows of users")',
        "transform users": "s",
        "validate users": "s",
        "extract orders": 's ("rows of orders")',
        "transform orders": "s",
        "validate orders": "s",
        "extract prices": 's ("rows of prices")',
        "transform prices": "failed (ValueError: prices: row 17 is damaged)",
        "validate prices": f"{UPSTREAM}failed)",
        "extract stock": 's ("rows of stock")',
        "transform stock": "s",
        "validate stock": "s",
        "load": f"{UPSTREAM}cancelled)",
        "notify": 's ("load: cancelled")',
    },
    "ml": {
        "prepare": "s",
        "engineer features": "s",
        "train linear": 's ("linear")',
        "train forest": 's ("forest")',
        "train network": 's ("network")',
        "evaluate linear": 's ({"model": "linear", "score": 0.81})',
        "evaluate forest": 's ({"model": "forest", "score": 0.93})',
        "evaluate network": 's ({"model": "network", "score": 0.88})',
        "deploy": 's ({"model": "forest", "score": 0.93})',
        "notify": 's ("forest is live")',
    },
    "conditional": {
        "validate good": "s",
        "process valid": "s",
        "handle invalid": NOT_NEEDED,
        "notify": 's (["succeeded", "cancelled"])',
        "validate bad": "failed (ValueError: 7 rows are too few)",
        "process invalid": f"{UPSTREAM}failed)",
        "handle the invalid": "s",
        "notify of it": 's (["cancelled", "succeeded"])',
    },
    "propagation": {
        "extract": "failed (ConnectionError: the archive can't be reached)",
        "process": f"{UPSTREAM}failed)",
        "validate": f"{UPSTREAM}cancelled)",
        "clean up": "s",
    },
    "recovery": {
        "extract": "s",
        "process orders": "failed (MemoryError: orders is too large for this)",
        "process orders simply": "s",
        "validate orders": "s",
        "process users": "s",
        "process users simply": NOT_NEEDED,
        "validate users": "s",
    },
    "partial": {
        "extract reliable": "s (100)",
        "extract medium": "s (100)",
        "extract unreliable": "failed (ConnectionError: unreliable can't be reached)",
        "extract backup": "s (100)",
        "aggregate": "s (300)",
        "alert": "s ([N])",
    },
    "circuit_breaker": {
        "call payments": "failed (TimeoutError: payments doesn't answer)",
        "fall back for payments": 's ("cached")',
        "call mails": 's ("live")',
        "fall back for mails": NOT_NEEDED,
        "call search": "failed (TimeoutError: search doesn't answer)",
        "fall back for search": 's ("cached")',
        "call maps": "failed (TimeoutError: maps doesn't answer)",
        "fall back for maps": 's ("cached")',
        "call weather": 's ("live")',
        "fall back for weather": NOT_NEEDED,
        "aggregate": 's ({"live": 2, "cached": 3, "circuit": "open"})',
    },
    "map_list": {
        **{f"count rows of inbox/{number}.csv": "s (100)" for number in range(1, 6)},
        "report": "s (500)",
    },
    "recursion": {"add up 1 to 1000": "s", "total": "s (500500)"},
    "deleted_parent": {
        "extract orders": "s",
        "publish": f"{UPSTREAM}cancelled)",
        "aggregate": "s",
        "notify": 's (["cancelled", "succeeded"])',
    },
    "cycle": {"a": "s", "b": "s", "c": "s"},
}  # fmt: skip
# What they say besides.
SAYS = {
    "convergence": "of the 3 preparations ran at the same time.",
    "fan_out": "of the 4 operations ran at the same time.",
    "etl": "of the 4 transformations ran at the same time.",
    "ml": "of the 3 trainings ran at the same time.",
    "map_list": "of the 5 files ran at the same time.",
    "recursion": "15 jobs have split themselves; 16 added up their numbers, and then the total ran.",
    "deleted_parent": "Job 1 (extract users) is deleted; three jobs wait for it.",
    "cycle": "Refused: job 2 would wait for itself: 2 -> 2",
}


def run(*command: str, cwd: Path, deadline_s: float = DEADLINE_S, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )


def final_lines(printed: str) -> list[str]:
    """The last list of statuses: `name: status (remark)`, with N for the id of a parent."""
    last = printed.rpartition("Final statuses:\n")[2].partition("All as expected.")[0]
    lines = [re.sub(r"^  job \d+ ", "", line) for line in last.splitlines()]
    return [re.sub(r"parent \d+ ", "parent N ", re.sub(r"\(\[\d+\]\)", "([N])", line)) for line in lines]


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    with App(SyncPsycopgConnector(conninfo=dsn)).open() as app:
        yield app


@pytest.mark.parametrize("name", FINAL)
def test_each_demo_ends_as_it_should(name: str, dsn: str, tmp_path: Path) -> None:
    done = run(f"procrastinate_deps.demos.{name}", cwd=tmp_path, PROCRASTINATE_DEPS_DSN=dsn)
    assert done.returncode == 0, done
    ends = {job: f"succeeded{end[1:]}" if end[:2] in ("s", "s ") else end for job, end in FINAL[name].items()}
    expected = [f"{job}: {end}" for job, end in ends.items()]
    assert final_lines(done.stdout) == expected
    assert SAYS.get(name, "All as expected.") in done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr  # which database it is
    assert "PROCRASTINATE_DEPS_DSN" in done.stderr


def test_all_are_there() -> None:
    assert {"demo_workflow", *FINAL, "wide"} == set(catalogue.NAMES)
    folder = REPO / "procrastinate_deps" / "demos"
    demos = {file.stem for file in folder.glob("*.py") if "\nasync def demo(" in file.read_text()}
    assert demos == set(catalogue.NAMES)


def test_the_table(tmp_path: Path) -> None:
    done = run("procrastinate_deps.demos", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["NAME", "GROUP", "WHAT"]
    assert [line.split()[0] for line in lines[1:]] == list(catalogue.NAMES)
    for name, line in zip(catalogue.NAMES, lines[1:], strict=True):
        assert line.endswith(catalogue.load(name).summary)
    unknown = run("procrastinate_deps.demos", "nothing", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "No such command 'nothing'" in unknown.stderr


@pytest.mark.timeout(ALL_DEADLINE_S)
def test_all_of_them_after_another_run_on_the_same_database(empty_dsn: str, tmp_path: Path) -> None:
    env: dict[str, Any] = {"PROCRASTINATE_DEPS_DSN": empty_dsn, "PROCRASTINATE_DEPS_DEMO_WIDE_JOBS": "60"}
    for name in ("cycle", "deleted_parent"):
        assert run("procrastinate_deps.demos", name, cwd=tmp_path, **env).returncode == 0
    done = run("procrastinate_deps.demos", "all", cwd=tmp_path, deadline_s=ALL_DEADLINE_S, **env)
    assert done.returncode == 0, done
    assert re.findall(r"^== (\w+): ", done.stdout, re.MULTILINE) == list(catalogue.NAMES)
    assert done.stdout.endswith(f"\nAll {len(catalogue.NAMES)} demos were as expected.\n")
    assert "0 of 60 have ended" in done.stdout


@pytest.mark.parametrize("options", [(), ("--processes", "2", "--concurrency", "3", "--pause", "0.001")])
def test_a_wide_graph(options: tuple[str, ...], dsn: str, app: App, tmp_path: Path) -> None:
    done = run("procrastinate_deps.demos.wide", "--jobs", "601", *options, cwd=tmp_path, PROCRASTINATE_DEPS_DSN=dsn)
    assert done.returncode == 0, done
    *_, counts, edges = done.stdout.splitlines()
    # 3 regions with 295 stores, of which those numbered 130 and 260 are broken; no alert for the first region
    assert counts == "596 succeeded, 2 failed, 3 cancelled."
    assert edges == "Each of 1,186 edges was kept: no job started before its parents had ended."
    kinds = [job.cancel_kind for job in app.job_manager.list_jobs(status=Status.CANCELLED)]
    assert sorted(map(str, kinds)) == [CancelKind.NOT_NEEDED, CancelKind.UPSTREAM, CancelKind.UPSTREAM]
    workers = app.job_manager.list_workers()
    assert workers == [], "a worker was left behind"


def test_an_interrupted_demo_says_so(dsn: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "procrastinate_deps.demos.sequential"],
        cwd=tmp_path,
        env=environment(PROCRASTINATE_DEPS_DSN=dsn),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_for_row(dsn, "SELECT FROM procrastinate_deps.jobs WHERE status = 'doing'")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert process.returncode == 1, (out, err)
    assert re.fullmatch(r"Error: stopped before \d of its 3 jobs had ended: .*", err.splitlines()[-1])


def test_of_an_interrupted_wide_graph_nothing_is_left_to_the_next_one(dsn: str, app: App, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "procrastinate_deps.demos.wide", "--jobs", "100", "--pause", "1"],
        cwd=tmp_path,
        env=environment(PROCRASTINATE_DEPS_DSN=dsn),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_for_row(dsn, "SELECT FROM procrastinate_deps.jobs WHERE status = 'doing'")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert process.returncode == 1, (out, err)
    assert err.splitlines()[-1].startswith("Error: not as expected: ")
    jobs = app.job_manager.list_jobs()
    assert len(jobs) == 100
    # the first one may just have been fetched: then it was put back, and cancelled with the others
    assert {job.status for job in jobs} - {Status.SUCCEEDED} == {Status.CANCELLED}


def test_a_wide_graph_on_a_terminal(dsn: str, tmp_path: Path) -> None:
    status, screen = on_terminal(
        "-m", "procrastinate_deps.demos.wide", "--jobs", "50",
        cwd=tmp_path, env=environment(PROCRASTINATE_DEPS_DSN=dsn), columns=120,
    )  # fmt: skip
    assert status == 0, screen
    assert "50 of 50 jobs have ended" in screen
    assert "\x1b[1A" in screen, "nothing was drawn over"
    assert "\x1b[?25h" in screen, "the cursor stays hidden"


def test_a_graph_of_any_size_has_so_many_jobs() -> None:
    for jobs in [*range(wide.MIN_JOBS, 1500), wide.JOBS, 99_999]:
        sizes = wide.region_sizes(jobs)
        assert 2 + sum(3 + 2 * size for size in sizes) == jobs
        assert 1 <= min(sizes) <= max(sizes) <= min(sizes) + 1


def test_a_demo_that_ends_otherwise_says_so(dsn: str, app: App, tmp_path: Path) -> None:
    app.job_manager.pause_queue("demo_sequential")
    with subprocess.Popen(
        [sys.executable, "-m", "procrastinate_deps.demos", "sequential"],
        cwd=tmp_path,
        env=environment(PROCRASTINATE_DEPS_DSN=dsn, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "validate" in line:
                    break
            app.job_manager.cancel_job_by_id(1)
            out, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert process.returncode == 1, (out, err)
    error = err.splitlines()[-1]
    assert error.startswith("Error: not as expected: job 1: status is cancelled, not succeeded; job 1: result is None")
    assert "job 3: status is cancelled, not succeeded" in error
    assert "All as expected" not in out


def test_all_names_those_that_failed(dsn: str, app: App, tmp_path: Path) -> None:
    # without its tables' rights to change anything a demo can't do much
    done = run("procrastinate_deps.demos", "all", cwd=tmp_path, PROCRASTINATE_DEPS_DSN=f"{dsn}", PGOPTIONS=READ_ONLY)
    assert done.returncode == 1
    assert f"{len(catalogue.NAMES)} of {len(catalogue.NAMES)} demos failed: demo_workflow, sequential" in done.stderr


READ_ONLY = "-c default_transaction_read_only=on"


@pytest.fixture
def two_jobs(app: App) -> tuple[Job, Job]:
    ids = [app.configure_task("task").defer() for _ in range(2)]
    parent, child = (app.job_manager.get_job(job_id) for job_id in ids)
    return parent, child


def test_the_checks_of_order_and_overlap_can_fail(
    two_jobs: tuple[Job, Job], capsys: pytest.CaptureFixture[str]
) -> None:
    parent, child = two_jobs
    at = parent.created_at

    def ran(job: Job, start_s: float, end_s: float | None) -> Job:
        end = None if end_s is None else at + timedelta(seconds=end_s)
        return job.evolve(started_at=at + timedelta(seconds=start_s), finished_at=end)

    def jobs(*both: Job) -> dict[int, Job]:
        return {job.id: job for job in both}

    steps = [stage.succeeded("parent", parent), stage.succeeded("child", child, after=[parent])]
    stage.check_order(steps, jobs(ran(parent, 0, 1), ran(child, 1, 2)))
    stage.check_order(steps, jobs(child))  # a parent that was deleted
    for early in (jobs(ran(parent, 0, 2), ran(child, 1, 3)), jobs(ran(parent, 0, None), ran(child, 1, 3))):
        with pytest.raises(Failure, match=rf"job {child.id} \(child\) started at "):
            stage.check_order(steps, early)

    stage.check_overlap("jobs", [parent, child], jobs(ran(parent, 0, 2), ran(child, 1, 3)))
    assert capsys.readouterr().out == "2 of the 2 jobs ran at the same time.\n"
    with pytest.raises(Failure, match="jobs ran one after the other"):
        stage.check_overlap("jobs", [parent, child], jobs(ran(parent, 0, 1), ran(child, 1, 2)))


def test_what_is_not_as_expected_is_named(two_jobs: tuple[Job, Job]) -> None:
    parent, child = two_jobs
    ended: dict[str, Any] = {"status": Status.CANCELLED, "cancel_kind": CancelKind.UPSTREAM}
    as_cancelled = stage.cancelled("child", child, CancelKind.UPSTREAM, after=[parent])
    assert as_cancelled.differences({child.id: child.evolve(**ended)}) == []
    step = replace(as_cancelled, expected={**as_cancelled.expected, "cancel_kind": CancelKind.MANUAL})
    assert isinstance(step, Step)
    assert step.differences({child.id: child.evolve(**ended)}) == [
        f"job {child.id}: cancel_kind is upstream, not manual"
    ]
    assert step.differences({}) == [f"job {child.id} was deleted"]
