"""Waiting for jobs in threads, by each connector that code which is not async may have."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from procrastinate_deps import App, AsyncpgConnector, JobFailed, JobNotFound, PsycopgConnector, SyncPsycopgConnector
from procrastinate_deps.connectors.default import DSN_VARIABLE
from procrastinate_deps.exceptions import AppNotOpen
from tests.integration.waiting_helpers import end, listening, until_no_trace, wait_until_heard, waited_for
from tests.integration.worker_helpers import DEADLINE_S, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONNECTORS: dict[str, Callable[[str], Any]] = {
    "sync": lambda dsn: SyncPsycopgConnector(conninfo=dsn),
    "twin of psycopg": lambda dsn: PsycopgConnector(conninfo=dsn),
    "twin of asyncpg": AsyncpgConnector,
}


@pytest.fixture(params=CONNECTORS)
def app(request: pytest.FixtureRequest, dsn: str) -> Iterator[App]:
    with App(CONNECTORS[request.param](dsn)).open() as app:
        yield app


class Waiter(threading.Thread):
    def __init__(self, app: App, job_id: int, timeout_s: float | None = DEADLINE_S) -> None:
        super().__init__(daemon=True)
        self._app, self._job_id, self._timeout_s = app, job_id, timeout_s
        self.result: Any = None

    def run(self) -> None:
        try:
            self.result = self._app.wait_for_job(self._job_id, self._timeout_s)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.result = error


@contextlib.contextmanager
def waiting(*waiters: Waiter) -> Iterator[None]:
    for waiter in waiters:
        waiter.start()
    yield
    for waiter in waiters:
        waiter.join(DEADLINE_S)
        assert not waiter.is_alive()


def defer(app: App) -> int:
    return app.configure_task("t").defer()


def test_what_has_ended_already_needs_no_connection(app: App, dsn: str) -> None:
    succeeded, failed = defer(app), defer(app)
    end(dsn, succeeded, result=4)
    end(dsn, failed, status="failed", result=None, error="ValueError: no\n\nTraceback")
    assert app.wait_for_job(succeeded) == 4
    assert app.wait_for_job(app.job_manager.get_job(succeeded), timeout=0) == 4
    with pytest.raises(JobFailed, match="ValueError: no"):
        app.wait_for_job(failed, timeout=DEADLINE_S)
    with pytest.raises(JobNotFound):
        app.wait_for_job(10**12, timeout=DEADLINE_S)
    until_no_trace(dsn)


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_the_time_is_over(app: App, dsn: str, timeout: float) -> None:
    job_id = defer(app)
    with pytest.raises(TimeoutError, match=rf"job {job_id} has not ended within {timeout} s: it is todo"):
        app.wait_for_job(job_id, timeout)
    until_no_trace(dsn)


def test_a_closed_app_says_so(dsn: str) -> None:
    with pytest.raises(AppNotOpen):
        App(SyncPsycopgConnector(conninfo=dsn)).wait_for_job(1, timeout=DEADLINE_S)


@pytest.mark.usefixtures("no_polling")
def test_told_by_a_notification(app: App, dsn: str) -> None:
    for result in range(3):
        job_id = defer(app)
        with waiting(waiter := Waiter(app, job_id)):
            wait_until_heard(dsn, job_id)
            end(dsn, job_id, result=result)
        assert waiter.result == result
    until_no_trace(dsn)


@pytest.mark.usefixtures("no_polling")
def test_many_threads_share_one_connection(app: App, dsn: str) -> None:
    """And those who come later wake the one that serves them all."""
    job_ids = [defer(app) for _ in range(30)]
    waiters = [Waiter(app, job_id) for job_id in job_ids]
    with waiting(*waiters):
        wait_until_heard(dsn, *job_ids)
        (pid,) = listening(dsn)
        # The first one serves: another one goes on.
        end(dsn, job_ids[0])
        waiters[0].join(DEADLINE_S)
        assert listening(dsn) == [pid]
        late = defer(app)
        with waiting(Waiter(app, late)):
            wait_until_heard(dsn, late)
            end(dsn, late)
        assert listening(dsn) == [pid]
        end(dsn, *job_ids[1:])
    assert [waiter.result for waiter in waiters] == [1] * 30
    until_no_trace(dsn)


def test_polling_finds_an_end_that_began_before_the_wait(app: App, dsn: str) -> None:
    """The statement that ends the job has not seen who waits, and tells nobody."""
    job_id = defer(app)
    with psycopg.connect(dsn) as other:
        other.execute(
            "UPDATE procrastinate_deps.jobs SET status = 'succeeded', finished_at = now() WHERE id = %s", [job_id]
        )
        with waiting(waiter := Waiter(app, job_id)):
            wait_until_heard(dsn, job_id)
            assert waiter.is_alive()
            other.commit()
    assert waiter.result is None


@pytest.mark.usefixtures("no_polling")
def test_a_lost_connection_is_made_again(app: App, dsn: str) -> None:
    first, second = defer(app), defer(app)
    waiters = [Waiter(app, first), Waiter(app, second)]
    with waiting(*waiters):
        wait_until_heard(dsn, first, second)
        lost = listening(dsn)
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", [lost])
            other.execute(
                "UPDATE procrastinate_deps.jobs SET status = 'succeeded', finished_at = now() WHERE id = %s", [first]
            )
        waiters[0].join(DEADLINE_S)
        deadline = time.monotonic() + DEADLINE_S
        while not set(listening(dsn)) - set(lost):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        end(dsn, second)
    assert [waiter.result for waiter in waiters] == [None, 1]


def test_without_a_connection_that_listens_there_is_polling(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """A twin listens where the async connector would."""
    nowhere = "postgresql://nobody@127.0.0.1:1/nowhere"
    for connector in (
        SyncPsycopgConnector(conninfo=dsn, listen_dsn=nowhere),
        PsycopgConnector(conninfo=dsn, listen_dsn=nowhere),
        AsyncpgConnector(dsn, listen_dsn=nowhere),
    ):
        caplog.clear()
        with App(connector).open() as app:
            job_id = defer(app)
            with waiting(waiter := Waiter(app, job_id)):
                deadline = time.monotonic() + DEADLINE_S
                while "Not listening" not in caplog.text:
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                end(dsn, job_id)
            assert waiter.result == 1
    assert waited_for(dsn) == []


def test_the_default_connector_waits_too(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DSN_VARIABLE, dsn)
    with App().open() as app:
        job_id = defer(app)
        with waiting(waiter := Waiter(app, job_id)):
            wait_until_heard(dsn, job_id)
            end(dsn, job_id)
        assert waiter.result == 1


async def test_in_a_thread_of_async_code(dsn: str) -> None:
    """The twin is opened by the wait."""
    app = App(AsyncpgConnector(dsn))
    async with app.open_async():
        job_id = await app.configure_task("t").defer_async()
        with waiting(waiter := Waiter(app, job_id)):
            wait_until_heard(dsn, job_id)
            end(dsn, job_id)
        assert waiter.result == 1
    until_no_trace(dsn)


def test_rows_of_those_who_died_go(app: App, dsn: str) -> None:
    query(
        dsn,
        "INSERT INTO procrastinate_deps.job_waits (job_id, until)"
        " VALUES (1, now() - interval '1 s'), (2, now() + interval '1 h')",
    )
    job_id = defer(app)
    with pytest.raises(TimeoutError):
        app.wait_for_job(job_id, 0)
    assert waited_for(dsn) == [2]
