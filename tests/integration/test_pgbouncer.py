"""Through the real PgBouncer, in transaction mode: each transaction on whatever session is free."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio
import anyio.to_thread
import asyncpg
import psycopg
import pytest

from procrastinate_deps import App, JobContext, RetryStrategy, statements
from procrastinate_deps.connectors import (
    LISTEN_DSN_VARIABLE,
    AsyncpgConnector,
    PsycopgConnector,
    SyncPsycopgConnector,
)
from procrastinate_deps.exceptions import AlreadyEnqueued, ConnectorException, DependencyNotFound
from procrastinate_deps.jobs import JobSpec
from procrastinate_deps.schema import SchemaManager
from procrastinate_deps.sql import queries
from procrastinate_deps.worker import listener
from tests.integration import poolers
from tests.integration.cli_process import PROGRAM, Cli, environment
from tests.integration.worker_helpers import (
    DEADLINE_S,
    NO_POLLING_S,
    ended,
    idle,
    make_app,
    one_shot,
    query,
    until,
    working,
)
from tests.integration.worker_process import wait_for_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from procrastinate_deps._embedded.cluster import Cluster
    from tests.integration.poolers import PgBouncer

# A worker behind a pooler finds what is not announced to it by looking often.
POLLING = {"listen_notify": False, "fetch_job_polling_interval": 0.02, "abort_job_polling_interval": 0.02}

drivers = pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])


@pytest.fixture(scope="module")
def pooler(server: Cluster) -> Iterator[PgBouncer]:
    with poolers.pgbouncer(server) as pooler:
        yield pooler


@pytest.fixture
def pooled_dsn(pooler: PgBouncer, dsn: str) -> str:
    return pooler.through(dsn)


@pytest.fixture(params=["psycopg", "asyncpg"])
async def app(pooled_dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[App]:
    """With as many connections as may be, so that its statements run on either session."""
    app = make_app(pooled_dsn, request.param, prepare_statements=False, min_size=5)
    async with app.open_async():
        yield app


async def test_deferring_and_asking(app: App, pooler: PgBouncer, dsn: str) -> None:
    first = await app.configure_task("t", queueing_lock="only").defer_async(a=1)
    many = await app.configure_task("t").batch_defer_async(*[{"n": n} for n in range(300)])
    child = await app.configure_task("t", depends_on=[first, *many]).defer_async()
    assert await app.job_manager.get_job_status_async(child) == "blocked"
    parents = await app.job_manager.get_parents_async(child)
    assert list(parents) == [first, *many]
    with pytest.raises(AlreadyEnqueued):
        await app.configure_task("t", queueing_lock="only").defer_async()
    with pytest.raises(DependencyNotFound):
        await app.configure_task("t", depends_on=[first, 10**9]).defer_async()
    jobs = await app.job_manager.list_jobs_async(task="t")
    assert [job.task_kwargs for job in jobs] == [{"a": 1}, *[{"n": n} for n in range(300)], {}]
    assert pooler.sessions(dsn) <= poolers.POOL_SIZE


async def test_the_sync_twin(app: App) -> None:
    def from_a_thread() -> str:
        job_id = app.configure_task("t").defer()
        for _ in range(10):  # psycopg would prepare it
            app.job_manager.get_job_status(job_id)
        return app.job_manager.get_job_status(job_id)

    assert await anyio.to_thread.run_sync(from_a_thread) == "todo"


@pytest.mark.parametrize("by", ["polling", "listening directly"])
async def test_a_worker(app: App, dsn: str, by: str) -> None:
    """Children, retries, locks, and what tasks defer themselves."""
    order: list[str] = []
    tries: list[int] = []

    @app.task(name="note", pass_context=True)
    async def note(context: JobContext, what: str) -> None:
        order.append(f"{what} begins")
        await anyio.sleep(0.01)
        order.append(f"{what} ends")

    @app.task(name="second_time", retry=RetryStrategy(max_attempts=2))
    async def second_time() -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise ValueError

    @app.task(name="grow")
    async def grow() -> int:
        return await note.configure(lock="l").defer_async(what="grown")

    if by == "polling":
        options: dict[str, Any] = POLLING
    else:
        options = {"listen_dsn": dsn, "fetch_job_polling_interval": NO_POLLING_S}
    async with working(app, concurrency=5, **options) as worker:
        await idle(worker)
        a = await note.configure(lock="l").defer_async(what="a")
        b = await note.configure(lock="l").defer_async(what="b")
        retried = await second_time.defer_async()
        growing = await grow.configure(depends_on=[a, b, retried]).defer_async()
        assert (await ended(app, growing)).status == "succeeded"
        grown = (await app.job_manager.list_jobs_async(id=growing))[0].result
        last = await note.configure(depends_on=[grown]).defer_async(what="last")
        assert (await ended(app, last)).status == "succeeded"
    assert len(tries) == 2
    # never two of one lock at once
    assert order == [f"{what} {when}" for what in ("a", "b", "grown", "last") for when in ("begins", "ends")]


@pytest.mark.parametrize("by", ["polling", "listening directly"])
async def test_an_abort(app: App, dsn: str, by: str) -> None:
    started = anyio.Event()

    @app.task(name="endless")
    async def endless() -> None:
        started.set()
        await anyio.sleep_forever()

    options = POLLING if by == "polling" else {"listen_dsn": dsn}
    async with working(app, **options):
        job_id = await endless.defer_async()
        with anyio.fail_after(DEADLINE_S):
            await started.wait()
        await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
        assert (await ended(app, job_id)).status == "aborted"


@drivers
async def test_many_connections_over_few_sessions(pooler: PgBouncer, dsn: str, driver: str) -> None:
    """What one of them asks, no other one is told."""
    apps = [make_app(pooler.through(dsn), driver, prepare_statements=False, min_size=10) for _ in range(4)]
    seen: list[int] = []

    async def use(app: App, number: int) -> None:
        job_id = await app.configure_task("t", queue=f"q{number}").defer_async(number=number)
        for _ in range(5):
            [job] = await app.job_manager.list_jobs_async(id=job_id)
            assert (job.queue, job.task_kwargs) == (f"q{number}", {"number": number})
            assert await app.job_manager.get_job_status_async(job_id) == "todo"
        seen.append(job_id)

    async with anyio.create_task_group() as opened:
        for app in apps:
            opened.start_soon(app.connector.open_async)  # type: ignore[union-attr]
    try:
        async with anyio.create_task_group() as group:
            for number in range(80):
                group.start_soon(use, apps[number % len(apps)], number)
        assert len(set(seen)) == 80
        assert pooler.sessions(dsn) <= poolers.POOL_SIZE
    finally:
        for app in apps:
            await app.close_async()


async def test_no_session_is_left_changed(app: App, dsn: str, pooled_dsn: str) -> None:
    """Another application gets it next: nothing prepared, nothing listened to, no lock, no setting."""

    @app.task(name="t")
    async def t() -> None: ...

    parents = await t.batch_defer_async({}, {})
    await t.configure(depends_on=parents, lock="l").defer_async()
    await one_shot(app, listen_notify=False)
    for _ in range(20):
        await app.job_manager.list_queues_async()
    left = """
        SELECT (SELECT count(*) FROM pg_prepared_statements WHERE name <> ''),
            (SELECT count(*) FROM pg_listening_channels()),
            (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
            (SELECT array_agg(name) FROM pg_settings WHERE source = 'session'
                AND name NOT IN ('application_name', 'client_encoding'))
    """
    with (
        psycopg.connect(pooled_dsn, prepare_threshold=None) as one,
        psycopg.connect(pooled_dsn, prepare_threshold=None) as other,
    ):
        assert one.execute(left).fetchone() == (0, 0, 0, None)
        assert other.execute(left).fetchone() == (0, 0, 0, None)
    assert query(dsn, "SELECT count(*) FROM procrastinate_deps.jobs WHERE status <> 'succeeded'") == [(0,)]


async def test_asyncpg_asks_for_no_types_in_between(pooled_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would change a setting for that, on whatever session is free."""
    asked = []
    ask = asyncpg.Connection._introspect_types  # type: ignore[attr-defined]

    async def noted(connection: Any, *args: Any) -> Any:
        asked.append(connection.is_in_transaction())
        return await ask(connection, *args)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", noted)
    connector = AsyncpgConnector(pooled_dsn, prepare_statements=False, max_size=1)
    async with connector, connector._opened().acquire() as connection:
        for query_text in queries("procrastinate_deps").values():
            await connection.prepare(query_text)
    assert asked == [True]


async def test_a_pooler_that_comes_back(server: Cluster, dsn: str) -> None:
    with poolers.pgbouncer(server) as pooler:
        app = make_app(pooler.through(dsn), "asyncpg", prepare_statements=False)
        begun, release = anyio.Event(), anyio.Event()

        @app.task(name="wait")
        async def wait() -> None:
            begun.set()
            await release.wait()

        async with app.open_async(), working(app, concurrency=2, **POLLING):
            first = await wait.defer_async()
            await begun.wait()
            await anyio.to_thread.run_sync(pooler.stop)
            release.set()
            await anyio.to_thread.run_sync(pooler.start)
            with make_app(dsn).open() as direct:
                second = await anyio.to_thread.run_sync(direct.configure_task("wait").defer)
            for job_id in (first, second):
                job = await ended(app, job_id)
                assert (job.status, job.attempts) == ("succeeded", 1)


# What PgBouncer can't do, and what is said about it


async def _second_session(pooled_dsn: str) -> psycopg.AsyncConnection:
    """Keep the session that was used last: whoever comes next gets another one."""
    connection = await psycopg.AsyncConnection.connect(pooled_dsn, prepare_threshold=None)
    await connection.execute("SELECT 1")
    return connection


@drivers
async def test_prepared_statements_are_refused_with_the_remedy(pooled_dsn: str, driver: str) -> None:
    # psycopg prepares what comes again and again, asyncpg at once
    options = {"kwargs": {"prepare_threshold": 0}} if driver == "psycopg" else {}
    app = make_app(pooled_dsn, driver, prepare_statements=True, min_size=1, max_size=1, **options)

    async def use_both_sessions() -> None:
        async with app.open_async():
            await app.job_manager.list_queues_async()
            async with await _second_session(pooled_dsn):
                await app.job_manager.list_queues_async()

    with pytest.raises(ConnectorException, match="prepare_statements=False") as refused:
        await use_both_sessions()
    assert refused.value.sqlstate in ("26000", "42P05")


@drivers
async def test_a_pooler_is_noticed(pooled_dsn: str, dsn: str, driver: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without being told, nothing is prepared where a pooler stands between; otherwise it is."""
    caplog.set_level(logging.INFO, logger="procrastinate_deps")
    prepared = statements.Statement("prepared", (), lambda rows, loads: rows[0][0] > 0)
    for where, expected in ((pooled_dsn, False), (dsn, True)):
        caplog.clear()
        app = make_app(where, driver, max_size=1)
        connector = app.connector
        assert isinstance(connector, PsycopgConnector | AsyncpgConnector)
        connector._queries = {
            **connector._queries,
            "prepared": "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''",
        }
        async with app.open_async():
            for _ in range(10):
                await app.job_manager.list_queues_async()
            assert await connector.execute_async(prepared) is expected
            # A twin of it finds out for itself.
            await anyio.to_thread.run_sync(app.job_manager.list_queues)
        said = [record for record in caplog.records if vars(record).get("action") == "statements_not_prepared"]
        assert len(said) == (0 if expected else 2)


@drivers
async def test_a_deaf_worker_says_so(
    pooled_dsn: str, dsn: str, driver: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "ECHO_WITHIN_S", 0.2)
    monkeypatch.setattr(listener, "ECHO_GRACE_S", 0.0)
    app = make_app(pooled_dsn, driver)

    @app.task(name="t")
    async def t() -> None: ...

    def warnings() -> list[str]:
        return [record.getMessage() for record in caplog.records if vars(record).get("action") == "listen_deaf"]

    async with app.open_async():
        async with working(app, fetch_job_polling_interval=0.05) as worker:
            await until(warnings, "a warning")
            assert "listen_dsn" in warnings()[0]
            assert "0.05 s" in warnings()[0]
            # It polls meanwhile.
            assert (await ended(app, await t.defer_async())).status == "succeeded"
            assert worker.options.listen_notify
        caplog.clear()
        async with working(app, listen_dsn=dsn) as worker:
            await _heard_itself(worker)
        assert warnings() == []


async def test_a_listen_dsn_to_another_database_is_noticed(
    dsn: str, admin_dsn: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "ECHO_WITHIN_S", 0.2)
    monkeypatch.setattr(listener, "ECHO_GRACE_S", 0.0)
    app = App(AsyncpgConnector(dsn, listen_dsn=admin_dsn))
    async with app.open_async(), working(app):
        await until(lambda: "another database" in caplog.text, "a warning")


async def _heard_itself(worker: Any) -> None:
    await until(lambda: worker._shift is not None and worker._shift._listener._echo.is_set(), "an echo")


@drivers
async def test_session_mode_has_it_all(
    server: Cluster, dsn: str, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One session per client: prepared statements and listening work as without a pooler."""
    with poolers.pgbouncer(server, "session") as pooler:
        app = make_app(pooler.through(dsn), driver, prepare_statements=True, min_size=1, max_size=1)

        @app.task(name="t")
        async def t() -> None: ...

        async with app.open_async(), working(app) as worker:
            await idle(worker)
            await _heard_itself(worker)
            assert (await ended(app, await t.defer_async())).status == "succeeded"
    assert "listen_deaf" not in [vars(record).get("action") for record in caplog.records]


@drivers
@pytest.mark.parametrize("where", ["dsn", "environment"])
async def test_settings_that_it_takes_from_no_client(
    pooled_dsn: str, driver: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = "-c statement_timeout=5000"
    if where == "environment":
        monkeypatch.setenv("PGOPTIONS", setting)
    app = make_app(pooled_dsn if where == "environment" else f"{pooled_dsn}&options={quote(setting)}", driver)
    with pytest.raises(ConnectorException, match=r"unsupported startup parameter.*ignore_startup_parameters"):
        await app.open_async()


def test_migrating(pooler: PgBouncer, empty_dsn: str) -> None:
    with SyncPsycopgConnector(conninfo=pooler.through(empty_dsn)) as connector:
        manager = SchemaManager(connector)
        manager.apply()
        manager.apply()
        manager.check()
        assert connector.execute(statements.defer_jobs([JobSpec(task_name="t")]))
        manager.downgrade("base")
        assert manager.current() is None


async def test_a_connection_of_the_callers(app: App, pooled_dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(pooled_dsn, prepare_threshold=None) as connection:
        kept = await app.configure_task("t", connection=connection).defer_async()
        with pytest.raises(DependencyNotFound):
            await app.configure_task("t", connection=connection, depends_on=[10**9]).defer_async()
    other = await asyncpg.connect(pooled_dsn, statement_cache_size=0)
    async with other.transaction():
        also_kept = await app.configure_task("t", connection=other).defer_async()
    await other.close()
    assert [job.id for job in await app.job_manager.list_jobs_async()] == [kept, also_kept]


async def test_the_variables_of_the_default_connector(
    pooled_dsn: str, dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="procrastinate_deps")
    monkeypatch.setenv("PROCRASTINATE_DEPS_DSN", pooled_dsn)
    monkeypatch.setenv("PROCRASTINATE_DEPS_LISTEN_DSN", dsn.replace("postgres@", "postgres:s3cret@"))
    app = App()

    @app.task(name="t")
    async def t() -> None: ...

    async with app.open_async(), working(app) as worker:
        await idle(worker)
        await _heard_itself(worker)
        assert (await ended(app, await t.defer_async())).status == "succeeded"
    assert "password=***" in caplog.text
    assert "s3cret" not in caplog.text
    assert json.dumps([record.getMessage() for record in caplog.records]).count("Listening as") == 1


@pytest.mark.parametrize("how", ["variable", "flag"])
def test_the_command_line(pooled_dsn: str, dsn: str, tmp_path: Path, how: str) -> None:
    """It polls only every five minutes, and has the job at once."""
    cli = Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=pooled_dsn, PROCRASTINATE_DEPS_APP="shop.app"))
    arguments = [*PROGRAM, "worker", "--fetch-job-polling-interval", "300"]
    variable = {LISTEN_DSN_VARIABLE: dsn} if how == "variable" else {}
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, *arguments, *([] if variable else ["--listen-dsn", dsn])],
            cwd=tmp_path,
            env=cli.env | variable,
            stdout=log,
            stderr=log,
        )
    try:
        # the same session as the one that PgBouncer knows nothing of
        wait_for_row(dsn, "SELECT FROM pg_stat_activity WHERE query ILIKE 'listen %%' AND datname = current_database()")
        job_id = cli.id("charge", '{"order": 7}')
        wait_for_row(dsn, "SELECT FROM procrastinate_deps.jobs WHERE id = %s AND status = 'succeeded'", job_id)
        worker.terminate()
        assert worker.wait(DEADLINE_S) == 0, (tmp_path / "log").read_text()
    finally:
        worker.kill()
        worker.wait()


def test_a_malformed_listen_dsn_on_the_command_line(dsn: str, tmp_path: Path) -> None:
    cli = Cli(tmp_path, environment(PROCRASTINATE_DEPS_DSN=dsn, PROCRASTINATE_DEPS_APP="shop.app"))
    for arguments, variable in ((["--listen-dsn", "host=h s3cret"], {}), ([], {LISTEN_DSN_VARIABLE: "s3cret@host"})):
        done = cli.run("worker", "--one-shot", *arguments, **variable)
        assert done.status == 1
        last = done.err.splitlines()[-1]
        assert "LISTEN_DSN: the connection string is neither" in last.replace("listen_dsn", "LISTEN_DSN")
        assert "s3cret" not in done.out + done.err
