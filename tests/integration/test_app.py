"""Opening, closing and finding the database."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import psycopg
import psycopg_pool
import pytest

from procrastinate_deps import App, AppNotOpen, AsyncpgConnector, PsycopgConnector, SyncPsycopgConnector
from procrastinate_deps.exceptions import LoadFromPathError, SyncConnectorConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


async def test_async_with(dsn: str) -> None:
    app = App(PsycopgConnector(conninfo=dsn))
    async with app.open_async() as same:
        assert same is app
        assert await app.configure_task("t").defer_async() > 0
    with pytest.raises(AppNotOpen):
        await app.configure_task("t").defer_async()


async def test_await(dsn: str) -> None:
    app = App(AsyncpgConnector(dsn=dsn))
    assert await app.open_async() is app
    try:
        assert await app.configure_task("t").defer_async() > 0
    finally:
        await app.close_async()
    with pytest.raises(AppNotOpen):
        await app.configure_task("t").defer_async()


def test_with(dsn: str) -> None:
    app = App(AsyncpgConnector(dsn=dsn))
    with app.open() as same:
        assert same is app
        assert app.configure_task("t").defer() > 0
    with pytest.raises(AppNotOpen):
        app.configure_task("t").defer()


def test_open_and_close_again(dsn: str) -> None:
    app = App(PsycopgConnector(conninfo=dsn))
    for _ in range(2):
        app.open()
        assert app.configure_task("t").defer() > 0
        app.close()


async def test_an_app_that_was_never_open_says_what_to_call() -> None:
    app = App(PsycopgConnector())
    with pytest.raises(AppNotOpen, match="open_async"):
        await app.configure_task("t").defer_async()
    with pytest.raises(AppNotOpen, match=r"app\.open\(\)"):
        app.configure_task("t").defer()


async def test_no_connections_stay_behind(dsn: str, admin_dsn: str) -> None:
    app = App(PsycopgConnector(conninfo=dsn))
    async with app.open_async():
        app.configure_task("t").defer()  # by the twin, which opens itself
        assert backends(dsn, admin_dsn) >= 2
    assert all_left(dsn, admin_dsn)


def all_left(dsn: str, admin_dsn: str) -> bool:
    """A backend is listed for a moment after its client has gone."""
    deadline = time.monotonic() + 10
    while backends(dsn, admin_dsn):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def backends(dsn: str, admin_dsn: str) -> int:
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(admin_dsn) as admin:
        row = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'", [name]
        ).fetchone()
    assert row is not None
    return int(row[0])


async def test_an_external_pool_stays_open(dsn: str) -> None:
    app = App(PsycopgConnector())
    async with psycopg_pool.AsyncConnectionPool(dsn, min_size=1, open=False) as pool:
        async with app.open_async(pool):
            job_id = await app.configure_task("t").defer_async()
            # the twin goes where the pool goes
            assert app.job_manager.get_job_status(job_id) == "todo"
        async with pool.connection() as connection:
            cursor = await connection.execute("SELECT id FROM procrastinate_deps.jobs")
            assert await cursor.fetchall() == [(job_id,)]


def test_an_external_sync_pool_stays_open(dsn: str) -> None:
    app = App(SyncPsycopgConnector())
    with psycopg_pool.ConnectionPool(dsn, min_size=1, open=False) as pool:
        with app.open(pool):
            job_id = app.configure_task("t").defer()
        with pool.connection() as connection:
            assert connection.execute("SELECT id FROM procrastinate_deps.jobs").fetchall() == [(job_id,)]


async def test_replace_connector(dsn: str) -> None:
    app = App(before := SyncPsycopgConnector())
    task = app.task(name="t")(lambda: None)
    with app.replace_connector(PsycopgConnector(conninfo=dsn)) as same:
        assert same is app
        async with app.open_async():
            assert await task.defer_async() > 0
    assert app.connector is before
    with pytest.raises(SyncConnectorConfigurationError):
        await task.defer_async()


async def test_an_app_with_a_sync_connector_runs_no_async_verbs(dsn: str) -> None:
    app = App(SyncPsycopgConnector(conninfo=dsn))
    with pytest.raises(SyncConnectorConfigurationError, match="SyncPsycopgConnector is not async"):
        await app.open_async()
    with app.open(), pytest.raises(SyncConnectorConfigurationError, match="_async"):
        await app.job_manager.list_jobs_async()


@pytest.mark.parametrize("connector", ["postgresql://", object(), PsycopgConnector])
def test_what_is_no_connector_is_refused(connector: Any) -> None:
    with pytest.raises(TypeError, match="pass a connector"):
        App(connector)


async def test_check_connection(dsn: str, admin_dsn: str) -> None:
    app = App(PsycopgConnector(conninfo=dsn))
    async with app.open_async():
        assert await app.check_connection_async() is True
        assert app.check_connection() is True
    with app.replace_connector(PsycopgConnector(conninfo=admin_dsn)), app.open():
        assert app.check_connection() is False


def test_from_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_with_an_app.py").write_text(
        "from procrastinate_deps import App, PsycopgConnector\napp, other = App(PsycopgConnector()), 7\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(App.from_path("module_with_an_app.app"), App)
    with pytest.raises(LoadFromPathError, match=r"'module_with_an_app\.other' is not an App but 7"):
        App.from_path("module_with_an_app.other")


def test_run_worker_opens_the_app_and_closes_it(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "app_of_a_worker.py").write_text(
        "from procrastinate_deps import App, PsycopgConnector\n"
        f"app = App(PsycopgConnector(conninfo={dsn!r}), import_paths=['tasks_of_a_worker'],\n"
        "          worker_defaults={'wait': False, 'name': 'default', 'install_signal_handlers': False})\n"
    )
    (tmp_path / "tasks_of_a_worker.py").write_text(
        "from app_of_a_worker import app\n"
        "@app.task(name='who', pass_context=True)\n"
        "def who(context):\n"
        "    return context.worker_name\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    app = App.from_path("app_of_a_worker.app")
    results = []
    given: list[dict[str, Any]] = [{}, {"name": "given"}]
    for options in given:
        with app.open():
            job_id = app.configure_task("who").defer()
        app.run_worker(**options)
        with pytest.raises(AppNotOpen):
            app.job_manager.get_job(job_id)
        with app.open():
            results.append(app.job_manager.get_job(job_id).result)
    assert results == ["default", "given"]


async def test_many_threads_share_one_pool(dsn: str) -> None:
    pools: list[psycopg_pool.ConnectionPool[Any]] = []

    def new_pool(*args: Any, **options: Any) -> psycopg_pool.ConnectionPool[Any]:
        pools.append(psycopg_pool.ConnectionPool(*args, **options))
        return pools[-1]

    class Twinned(PsycopgConnector):
        def sync_twin(self) -> SyncPsycopgConnector:
            return SyncPsycopgConnector(conninfo=dsn, pool_factory=new_pool)

    app = App(Twinned(conninfo=dsn))
    together = threading.Barrier(8)
    ids: list[int] = []

    def defer() -> None:
        together.wait()
        ids.append(app.configure_task("t").defer())

    async with app.open_async():
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(anyio.to_thread.run_sync, defer)
        assert [pool.closed for pool in pools] == [False]
    assert [pool.closed for pool in pools] == [True]
    assert len(set(ids)) == 8
