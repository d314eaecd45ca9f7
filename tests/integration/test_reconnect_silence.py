"""A network that falls silent without a word: no connection is closed, and nothing comes any more."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import psycopg
import pytest

from procrastinate_deps import App, statements
from procrastinate_deps.connectors import AsyncpgConnector, PsycopgConnector
from procrastinate_deps.exceptions import ConnectorException
from procrastinate_deps.worker import listener
from procrastinate_deps.worker.options import WorkerOptions
from procrastinate_deps.worker.state import WorkerState
from tests.integration.own_servers import Network, network
from tests.integration.worker_helpers import (
    DEADLINE_S,
    ended,
    idle,
    job_when,
    make_app,
    query,
    until,
    working,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procrastinate_deps._embedded.cluster import Cluster

# A statement is given up after the former, a heartbeat after (3 - 0.5) / 2.
IMPATIENT = {"stalled_worker_timeout": 3, "update_heartbeat_interval": 0.5}

drivers = pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])


@pytest.fixture
def between(server: Cluster) -> Iterator[Network]:
    with network(server) as between:
        yield between


@pytest.fixture
def dsn_between(between: Network, dsn: str) -> str:
    return between.dsn(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])  # type: ignore[arg-type]


def prober_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "PROBE_AFTER_S", 0.3)
    monkeypatch.setattr(listener, "ECHO_WITHIN_S", 0.5)
    monkeypatch.setattr(listener, "ECHO_GRACE_S", 0.2)


@drivers
async def test_a_worker_gives_up_its_connections_and_makes_others(
    between: Network,
    dsn_between: str,
    dsn: str,
    driver: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="procrastinate_deps")
    prober_in_a_hurry(monkeypatch)
    app = make_app(dsn_between, driver, min_size=4)
    begun, release = anyio.Event(), anyio.Event()

    @app.task(name="wait")
    async def wait() -> None:
        begun.set()
        await release.wait()

    async with app.open_async(), working(app, concurrency=2, **IMPATIENT) as worker:
        await idle(worker)
        first = await wait.defer_async()
        await begun.wait()
        registered = query(dsn, "SELECT id FROM procrastinate_deps.workers")
        await until(lambda: _heard(worker), "a notification that it sent to itself")

        between.fall_silent()
        release.set()
        with make_app(dsn).open() as direct:
            second = await anyio.to_thread.run_sync(direct.configure_task("wait").defer)
            both = f"SELECT 1 FROM procrastinate_deps.jobs WHERE id IN ({first}, {second}) AND status = 'succeeded'"
            await until(lambda: len(query(dsn, both)) == 2, "the ends of both jobs")
            # It listens again, so that nothing has to be polled for.
            await until(lambda: "Listening again" in caplog.text, "a new listener")
            await idle(worker)
            third = await anyio.to_thread.run_sync(direct.configure_task("wait").defer)
        assert (await ended(app, third)).status == "succeeded"
        # Nobody took it for lost, and nothing ran twice.
        assert query(dsn, "SELECT id FROM procrastinate_deps.workers") == registered
        assert query(dsn, "SELECT DISTINCT attempts, rescues FROM procrastinate_deps.jobs") == [(1, 0)]
        between.speak_again()


def _heard(worker: Any) -> bool:
    return worker._shift is not None and bool(worker._shift._listener._echo.is_set())


@drivers
async def test_a_worker_that_was_cut_off_for_too_long_begins_anew(
    between: Network, dsn_between: str, dsn: str, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(f"{dsn_between}&connect_timeout=2", driver)
    starts: list[int] = []
    release = anyio.Event()

    @app.task(name="wait")
    async def wait() -> None:
        starts.append(len(starts))
        await release.wait()

    async with app.open_async(), working(app, **IMPATIENT, fetch_job_polling_interval=0.2) as worker:
        await idle(worker)
        job_id = await wait.defer_async()
        await until(lambda: starts, "the job's start")
        between.fall_silent(for_all=True)
        # what runs is stopped, since by now others may run it
        await until(lambda: f"Job {job_id} (wait) was lost" in caplog.text, "the job's stop")
        between.speak_again()
        await until(lambda: len(starts) == 2, "another run of it")
        release.set()
        job = await ended(app, job_id)
        assert (job.status, job.rescues) == ("succeeded", 1)
        [[worker_id]] = query(dsn, "SELECT id FROM procrastinate_deps.workers WHERE lost_at IS NULL")
        assert job.worker_id == worker_id


@drivers
async def test_a_job_that_was_claimed_without_the_workers_knowledge_is_put_back(
    between: Network, dsn_between: str, dsn: str, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By a fetch that was held up on the way and came to the database when its connection had been given up."""
    app = make_app(dsn_between, driver)

    @app.task(name="t", queue="q")
    async def t() -> None: ...

    options = {"fetch_job_polling_interval": 0.1, "listen_notify": False}
    async with app.open_async(), working(app, queues=["q"], **IMPATIENT, **options) as worker:
        await idle(worker)
        [[worker_id]] = query(dsn, "SELECT id FROM procrastinate_deps.workers")
        between.fall_silent()
        await until(lambda: "Fetching failed" in caplog.text, "a fetch without an answer")
        # That one finds nothing when it arrives; this stands for one that does.
        job_id = await t.configure(queue="other").defer_async()
        assert query(dsn, f"SELECT id FROM procrastinate_deps.fetch_jobs(NULL, {worker_id}, 1)") == [(job_id,)]
        job = await job_when(app, job_id, "todo")
        assert (job.attempts, job.rescues) == (0, 0)


def impatient_state(app: App) -> WorkerState:
    options = WorkerOptions(stalled_worker_timeout=0.5, update_heartbeat_interval=0.1)
    connector = app.connector
    assert isinstance(connector, PsycopgConnector | AsyncpgConnector)
    return WorkerState(app, connector, options)


@drivers
async def test_one_silent_connection_costs_one_statement(between: Network, dsn_between: str, driver: str) -> None:
    """None of the others is tried after it, and none is lost to the pool."""
    app = make_app(dsn_between, driver, min_size=3, max_size=3)
    async with app.open_async():
        state = impatient_state(app)
        for _ in range(4):  # more often than there are connections
            between.fall_silent()
            with pytest.raises(ConnectorException, match=r"no answer to list_workers within 0\.5 s"):
                await state.execute(statements.list_workers(), 0.5)
            with anyio.fail_after(DEADLINE_S):
                async with anyio.create_task_group() as group:
                    for _ in range(6):
                        group.start_soon(state.execute, statements.list_workers(), DEADLINE_S)


@drivers
async def test_a_statement_that_takes_long_gets_more_time(dsn: str, driver: str) -> None:
    app = make_app(dsn, driver, max_size=1)
    async with app.open_async():
        state = impatient_state(app)
        assert isinstance(state.connector, PsycopgConnector | AsyncpgConnector)
        state.connector._queries = {**state.connector._queries, "slow": "SELECT 7 FROM pg_sleep(0.8)"}
        slow = statements.Statement("slow", (), lambda rows, loads: rows[0][0])
        with pytest.raises(ConnectorException, match=r"no answer to slow within 0\.5 s"):
            await state.execute(slow)
        assert await state.execute(slow) == 7
        with pytest.raises(ConnectorException, match=r"no answer to slow within 0\.5 s"):
            await state.execute(slow)


@drivers
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", {"on": 1, "idle": 10, "interval": 5, "count": 3, "user": 20_000}),
        ("&keepalives_idle=77&tcp_user_timeout=5000", {"on": 1, "idle": 77, "interval": 5, "count": 3, "user": 5000}),
        ("&keepalives=0&tcp_user_timeout=0", {"on": 0, "user": 0}),
    ],
)
async def test_the_system_notices_a_peer_that_vanished(
    dsn_between: str, driver: str, parameters: str, expected: dict[str, int]
) -> None:
    names = {
        "on": (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        "idle": (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        "interval": (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        "count": (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        "user": (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    }

    def options_of(descriptor: int) -> dict[str, int]:
        with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as sock:
            return {name: sock.getsockopt(*names[name]) for name in expected}

    connector: Any
    if driver == "psycopg":
        connector = PsycopgConnector(conninfo=dsn_between + parameters)
        async with connector, connector._opened().connection() as connection:
            assert options_of(connection.fileno()) == expected
    else:
        connector = AsyncpgConnector(dsn_between + parameters)
        async with connector, connector._opened().acquire() as connection:
            assert options_of(connection._transport.get_extra_info("socket").fileno()) == expected
    async with connector.listen("c") as listening:
        connection = listening._connection
        sock = connection if driver == "psycopg" else connection._transport.get_extra_info("socket")
        assert options_of(sock.fileno()) == expected
