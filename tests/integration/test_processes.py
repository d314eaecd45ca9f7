"""`worker --processes N`: one supervisor, real worker processes, signals and sudden deaths."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from tests.integration.supervised import (
    NOBODY,
    QUICK_RESCUE,
    STARTED,
    children_of,
    let_go,
    statuses,
    supervised,
    wait_until_gone,
)
from tests.integration.worker_helpers import query
from tests.integration.worker_process import EFFECTS, wait_for_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TWO = ("--processes", "2", "--name", "w")


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    query(dsn, EFFECTS)
    app = App(connector=SyncPsycopgConnector(conninfo=dsn))
    with app.open():
        yield app


@pytest.fixture(autouse=True)
def _hangup_as_in_a_terminal() -> Iterator[None]:
    """Also where the tests are run by nohup: what a process ignores its children ignore."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def two_running(app: App, dsn: str, task: str = "wait_for_go") -> tuple[list[int], set[int]]:
    """Two jobs that run at the same time, and the processes that run them."""
    jobs = [app.configure_task(task).defer() for _ in range(2)]
    pids = {int(wait_for_row(dsn, STARTED, job_id)[0]) for job_id in jobs}
    assert len(pids) == 2, "one process ran both"
    return jobs, pids


def test_each_process_is_a_worker_of_its_own_and_the_log_says_which(app: App, dsn: str, tmp_path: Path) -> None:
    with supervised(dsn, tmp_path, *TWO) as command:
        pids = {command.worker("w-1"), command.worker("w-2")}
        assert pids == set(children_of(command.pid))
        # A terminal's signals go to the supervisor's process group, these are in others.
        assert command.pid not in {os.getpgid(pid) for pid in pids}
        _, ran = two_running(app, dsn)
        assert ran == pids
        assert "[w-1]" in command.wait_for("Worker w-1 starts")
        assert "[w-2]" in command.wait_for("Worker w-2 starts")
        command.wait_for(r"\[w-1\] .*Job \d+ \(wait_for_go\) starts")
        command.wait_for(r"\[w-2\] .*Job \d+ \(wait_for_go\) starts")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_lets_the_running_jobs_end_and_starts_no_others(
    app: App, dsn: str, tmp_path: Path, signum: signal.Signals
) -> None:
    with supervised(dsn, tmp_path, *TWO, "--log-level", "debug") as command:
        jobs, _ = two_running(app, dsn)
        command.send(signum)
        command.wait_for(f"{signum.name}: stopping, running jobs are waited for")
        command.wait_for("Ordered to stop", times=2)
        if signum is signal.SIGHUP:
            command.send(signum)  # as a shell does besides the terminal
        app.configure_task("wait_for_go").defer()
        let_go(dsn, *jobs)
        assert command.wait() == 0
    assert statuses(dsn) == ["succeeded", "succeeded", "todo"]
    assert query(dsn, "SELECT FROM procrastinate_deps.workers") == []


def test_a_second_signal_ends_all_at_once_and_puts_the_jobs_back(app: App, dsn: str, tmp_path: Path) -> None:
    with supervised(dsn, tmp_path, *TWO) as command:
        two_running(app, dsn)
        command.send(signal.SIGTERM)
        command.wait_for("stopping, running jobs are waited for")
        command.send(signal.SIGTERM)
        assert command.wait() == 0
    assert statuses(dsn) == ["todo", "todo"]
    assert query(dsn, "SELECT FROM procrastinate_deps.workers") == []


def test_a_second_signal_ends_even_where_threads_go_on(app: App, dsn: str, tmp_path: Path) -> None:
    with supervised(dsn, tmp_path, *TWO) as command:
        _, pids = two_running(app, dsn, "deaf_thread")
        command.send(signal.SIGINT)
        command.wait_for("stopping, running jobs are waited for")
        command.send(signal.SIGINT)
        assert command.wait() == -signal.SIGINT
        for pid in pids:
            wait_until_gone(pid)
    assert statuses(dsn) == ["todo", "todo"]


def test_a_worker_that_hangs_is_killed_after_the_second_signal(app: App, dsn: str, tmp_path: Path) -> None:
    with supervised(dsn, tmp_path, *TWO) as command:
        first = command.worker("w-1")
        command.worker("w-2")
        os.kill(first, signal.SIGSTOP)
        command.send(signal.SIGTERM)
        command.wait_for("stopping, running jobs are waited for")
        command.send(signal.SIGTERM)
        command.wait_for(rf"worker process 1 \(pid {first}\) does not stop and is killed")
        assert command.wait() == -signal.SIGTERM
        wait_until_gone(first)


def test_a_signal_that_reaches_the_workers_too_counts_once(app: App, dsn: str, tmp_path: Path) -> None:
    """As systemd sends it, to every process of the service."""
    with supervised(dsn, tmp_path, *TWO, "--log-level", "debug") as command:
        jobs, pids = two_running(app, dsn)
        for pid in [command.pid, *pids]:
            os.kill(pid, signal.SIGTERM)
        command.wait_for("SIGTERM: stopping, running jobs are waited for", times=3)
        command.wait_for("Ordered to stop", times=2)
        let_go(dsn, *jobs)
        assert command.wait() == 0
        assert "at once" not in command.log.replace("another signal stops at once", "")
    assert statuses(dsn) == ["succeeded", "succeeded"]


def test_a_killed_worker_is_replaced_and_its_job_run_again(app: App, dsn: str, tmp_path: Path) -> None:
    with supervised(dsn, tmp_path, *TWO, *QUICK_RESCUE) as command:
        (first, second), pids = two_running(app, dsn)
        (killed,) = wait_for_row(dsn, STARTED, first)
        (name,) = wait_for_row(dsn, "SELECT name FROM procrastinate_deps.workers WHERE pid = %s", killed)
        os.kill(killed, signal.SIGKILL)
        command.wait_for(rf"worker process \d \(pid {killed}\) was ended by SIGKILL; another starts in 0.[2-5] s")
        replacement = command.worker(name, other_than=killed)
        assert replacement not in pids
        wait_for_row(dsn, f"{STARTED} AND pid <> %s", first, killed)
        let_go(dsn, first, second)
        wait_for_row(
            dsn, "SELECT 1 WHERE 2 = (SELECT count(*) FROM procrastinate_deps.jobs WHERE status = 'succeeded')"
        )
        command.send(signal.SIGTERM)
        assert command.wait() == 0
    assert query(dsn, "SELECT rescues FROM procrastinate_deps.jobs ORDER BY id") == [(1,), (0,)]


def test_a_job_that_may_not_be_taken_back_fails_with_its_worker(app: App, dsn: str, tmp_path: Path) -> None:
    with supervised(dsn, tmp_path, *TWO, *QUICK_RESCUE, "--max-rescues", "0"):
        job_id = app.configure_task("wait_for_go").defer()
        (pid,) = wait_for_row(dsn, STARTED, job_id)
        os.kill(pid, signal.SIGKILL)
        wait_for_row(dsn, "SELECT FROM procrastinate_deps.jobs WHERE id = %s AND status = 'failed'", job_id)


def test_a_worker_that_is_told_to_stop_alone_is_replaced(app: App, dsn: str, tmp_path: Path) -> None:
    with supervised(dsn, tmp_path, *TWO) as command:
        jobs, _ = two_running(app, dsn)
        first = command.worker("w-1")
        let_go(dsn, *jobs)
        os.kill(first, signal.SIGTERM)
        command.wait_for(rf"\(pid {first}\) ended with status 0; another starts")
        command.worker("w-1", other_than=first)
        command.send(signal.SIGTERM)
        assert command.wait() == 0


def test_without_their_supervisor_workers_end_their_jobs_and_stop(app: App, dsn: str, tmp_path: Path) -> None:
    with supervised(dsn, tmp_path, *TWO) as command:
        jobs, pids = two_running(app, dsn)
        command.send(signal.SIGKILL)
        assert command.wait() == -signal.SIGKILL
        command.wait_for("The supervisor is gone: stopping", times=2)
        app.configure_task("wait_for_go").defer()
        let_go(dsn, *jobs)
        wait_for_row(dsn, NOBODY)
        for pid in pids:
            wait_until_gone(pid)
    assert statuses(dsn) == ["succeeded", "succeeded", "todo"]


def test_one_shot_ends_when_every_process_has_found_nothing_more(app: App, dsn: str, tmp_path: Path) -> None:
    jobs = [app.configure_task("wait_for_go").defer() for _ in range(5)]
    let_go(dsn, *jobs)
    with supervised(dsn, tmp_path, *TWO, "--one-shot") as command:
        assert command.wait() == 0
        command.wait_for("Worker w-1 has stopped")
        command.wait_for("Worker w-2 has stopped")
        assert "another starts" not in command.log
    assert statuses(dsn) == ["succeeded"] * 5
