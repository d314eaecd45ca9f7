"""Workers in processes of their own: signals, sudden death, and waking from the dead."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from procrastinate_deps import App, SyncPsycopgConnector
from tests.integration.worker_helpers import query
from tests.integration.worker_process import EFFECTS, wait_for_row, worker_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = {"update_heartbeat_interval": 0.2, "stalled_worker_timeout": 3}
STARTED = "SELECT pid FROM effects WHERE job_id = %s AND what = 'start'"
STATUS = "SELECT 1 FROM procrastinate_deps.jobs WHERE id = %s AND status = %s"


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    query(dsn, EFFECTS)
    app = App(connector=SyncPsycopgConnector(conninfo=dsn))
    with app.open():
        yield app


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def uvloop(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(autouse=True)
def _hangup_as_in_a_terminal() -> Iterator[None]:
    """Also where the tests are run by nohup: what a process ignores its children ignore."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_lets_the_running_job_end_and_starts_no_other(
    app: App, dsn: str, tmp_path: Path, signum: signal.Signals, uvloop: bool
) -> None:
    with worker_process(dsn, tmp_path / "log", uvloop=uvloop) as worker:
        running = app.configure_task("wait_for_go").defer()
        wait_for_row(dsn, STARTED, running)
        worker.send(signum)
        worker.wait_for("stopping, running jobs are waited for")
        waiting = app.configure_task("wait_for_go").defer()
        query(dsn, "INSERT INTO go VALUES (%s)", running)
        assert worker.wait() == 0
    assert query(dsn, "SELECT status::text FROM procrastinate_deps.jobs ORDER BY id") == [("succeeded",), ("todo",)]
    assert query(dsn, "SELECT FROM effects WHERE job_id = %s", waiting) == []
    assert query(dsn, "SELECT FROM procrastinate_deps.workers") == []


def test_a_second_signal_ends_at_once_and_puts_the_job_back(app: App, dsn: str, tmp_path: Path, uvloop: bool) -> None:
    with worker_process(dsn, tmp_path / "log", uvloop=uvloop) as worker:
        job_id = app.configure_task("wait_for_go").defer()
        wait_for_row(dsn, STARTED, job_id)
        worker.send(signal.SIGTERM)
        worker.wait_for("stopping, running jobs are waited for")
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    assert query(dsn, "SELECT status::text FROM procrastinate_deps.jobs") == [("todo",)]
    assert query(dsn, "SELECT FROM procrastinate_deps.workers") == []


def test_a_hangup_is_no_second_signal(app: App, dsn: str, tmp_path: Path) -> None:
    with worker_process(dsn, tmp_path / "log") as worker:
        job_id = app.configure_task("wait_for_go").defer()
        wait_for_row(dsn, STARTED, job_id)
        worker.send(signal.SIGTERM)
        worker.wait_for("stopping, running jobs are waited for")
        worker.send(signal.SIGHUP)
        query(dsn, "INSERT INTO go VALUES (%s)", job_id)
        assert worker.wait() == 0
    assert query(dsn, "SELECT status::text FROM procrastinate_deps.jobs") == [("succeeded",)]


def test_a_hangup_that_is_ignored_stays_so(app: App, dsn: str, tmp_path: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with worker_process(dsn, tmp_path / "log") as worker:
        worker.wait_for("starts")
        worker.send(signal.SIGHUP)
        job_id = app.configure_task("step").defer()
        wait_for_row(dsn, STATUS, job_id, "succeeded")
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
        assert "SIGHUP" not in worker.log.read_text()


def test_a_second_signal_ends_even_where_a_thread_goes_on(app: App, dsn: str, tmp_path: Path, uvloop: bool) -> None:
    with worker_process(dsn, tmp_path / "log", uvloop=uvloop) as worker:
        job_id = app.configure_task("deaf_thread").defer()
        wait_for_row(dsn, STARTED, job_id)
        worker.send(signal.SIGTERM)
        worker.wait_for("stopping, running jobs are waited for")
        worker.send(signal.SIGTERM)
        assert worker.wait() == -signal.SIGTERM
    assert query(dsn, "SELECT status::text FROM procrastinate_deps.jobs") == [("todo",)]


def test_a_killed_workers_job_is_run_by_another(app: App, dsn: str, tmp_path: Path) -> None:
    with worker_process(dsn, tmp_path / "log1", **QUICK) as first:
        job_id = app.configure_task("wait_for_go").defer()
        (first_pid,) = wait_for_row(dsn, STARTED, job_id)
        with worker_process(dsn, tmp_path / "log2", **QUICK) as second:
            second.wait_for("Worker worker starts")
            first.send(signal.SIGKILL)
            first.wait()
            wait_for_row(dsn, STARTED + " AND pid <> %s", job_id, first_pid)
            query(dsn, "INSERT INTO go VALUES (%s)", job_id)
            wait_for_row(dsn, STATUS, job_id, "succeeded")
            # and its row goes with its last job
            wait_for_row(
                dsn, "SELECT 1 WHERE NOT EXISTS (SELECT FROM procrastinate_deps.workers WHERE pid = %s)", first_pid
            )
    assert query(dsn, "SELECT rescues, claim FROM procrastinate_deps.jobs") == [(1, 2)]


def test_the_late_end_of_a_worker_that_slept_changes_nothing(app: App, dsn: str, tmp_path: Path) -> None:
    """It is stopped, its job is run and ended by another, then it wakes and ends the job too."""
    with worker_process(dsn, tmp_path / "log1", **QUICK) as first:
        job_id = app.configure_task("wait_for_go").defer()
        (first_pid,) = wait_for_row(dsn, STARTED, job_id)
        first.send(signal.SIGSTOP)
        with worker_process(dsn, tmp_path / "log2", **QUICK) as second:
            (second_pid,) = wait_for_row(dsn, STARTED + " AND pid <> %s", job_id, first_pid)
            query(dsn, "INSERT INTO go VALUES (%s)", job_id)
            wait_for_row(dsn, STATUS, job_id, "succeeded")
            second.send(signal.SIGTERM)
            second.wait()
        ended = query(dsn, "SELECT * FROM procrastinate_deps.jobs")
        first.send(signal.SIGCONT)
        first.wait_for("Registered again")
        # it is a good worker again
        again = app.configure_task("step").defer()
        wait_for_row(dsn, STATUS, again, "succeeded")
        assert query(dsn, "SELECT * FROM procrastinate_deps.jobs WHERE id = %s", job_id) == ended
        assert query(dsn, "SELECT result FROM procrastinate_deps.jobs WHERE id = %s", job_id) == [(second_pid,)]
        first.wait_for("was lost")
