"""The server dies for good, and its standby takes over: workers that know both hosts go on by themselves."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio
import anyio.to_thread
import asyncpg
import psycopg
import pytest

from procrastinate_deps import JobContext, statements
from procrastinate_deps.connectors import AsyncConnector, AsyncpgConnector, PsycopgConnector
from procrastinate_deps.exceptions import ConnectorException
from tests.integration.own_servers import DATABASE, OwnServer, own_server
from tests.integration.worker_helpers import DEADLINE_S, ended, idle, make_app, query, until, working
from tests.places import server_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procrastinate_deps._embedded.cluster import Cluster

drivers = pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])


@contextlib.contextmanager
def standby_of(primary: OwnServer) -> Iterator[OwnServer]:
    """A copy that streams; from now on no commit is answered that isn't on its disk as well."""
    cluster = dataclasses.replace(primary.cluster, directory=server_folder("pd-standby-"))
    standby = OwnServer(cluster)
    data = cluster.data
    data.mkdir(mode=0o700)
    cluster._give(data)
    try:
        source = str(primary.cluster.socket_directory)
        done = cluster.run("pg_basebackup", "-D", "data", "-R", "-h", source, "-U", "postgres", "-c", "fast")
        assert done.returncode == 0, done.stdout
        standby.start()
        query(primary.dsn, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        query(primary.dsn, "SELECT pg_reload_conf()")
        deadline = time.monotonic() + DEADLINE_S
        while not query(primary.dsn, "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'"):
            assert time.monotonic() < deadline, "the standby does not follow"
            time.sleep(0.02)
        yield standby
    finally:
        if cluster.server_pid() is not None:
            standby.crash()
        shutil.rmtree(cluster.directory)


def promote(standby: OwnServer) -> None:
    done = standby.cluster.run("pg_ctl", "promote", "-D", "data", "-w", "-s")
    assert done.returncode == 0, done.stdout


def dsn_of(*servers: OwnServer) -> str:
    hosts = ",".join(quote(str(each.cluster.socket_directory), safe="/") for each in servers)
    return f"postgresql://postgres@/{DATABASE}?host={hosts}&port=5432&target_session_attrs=read-write"


@pytest.fixture
def primary(server: Cluster) -> Iterator[OwnServer]:
    with own_server(server) as primary:
        primary.migrate()
        yield primary


@pytest.fixture
def standby(primary: OwnServer) -> Iterator[OwnServer]:
    with standby_of(primary) as standby:
        yield standby


@drivers
async def test_workers_go_on_with_the_standby(primary: OwnServer, standby: OwnServer, driver: str) -> None:
    # The standby is asked first, and passed over as long as it is one.
    app = make_app(dsn_of(standby, primary), driver, min_size=3)
    runs: list[int] = []
    release = anyio.Event()

    @app.task(name="wait", pass_context=True)
    async def wait(context: JobContext) -> None:
        runs.append(context.job.id)
        await release.wait()

    @app.task(name="step", pass_context=True)
    async def step(context: JobContext) -> None:
        runs.append(context.job.id)

    async with app.open_async(), working(app, concurrency=10, stalled_worker_timeout=60) as worker:
        await idle(worker)
        steps = await step.batch_defer_async(*[{}] * 200)
        running = await wait.batch_defer_async(*[{}] * 5)
        after = await step.configure(depends_on=[*steps, *running]).defer_async()
        await until(lambda: len(runs) > 20, "some runs")
        answered = query(primary.dsn, "SELECT id FROM procrastinate_deps.jobs WHERE status = 'succeeded'")

        await anyio.to_thread.run_sync(primary.kill)
        await anyio.to_thread.run_sync(promote, standby)
        # What was told to be over is over.
        over = query(standby.dsn, "SELECT id FROM procrastinate_deps.jobs WHERE status = 'succeeded'")
        assert set(answered) <= set(over)
        release.set()
        assert (await ended(app, after)).status == "succeeded"

        # Nothing is polled for: it listens there.
        await until(lambda: query(standby.dsn, LISTENS), "a listener")
        await idle(worker)
        last = await step.defer_async()
        assert (await ended(app, last)).status == "succeeded"
    ends = "SELECT status::text, attempts, rescues, count(*) FROM procrastinate_deps.jobs GROUP BY 1, 2, 3"
    assert query(standby.dsn, ends) == [("succeeded", 1, 0, 207)]
    assert sorted(runs) == sorted([*steps, *running, after, last])


LISTENS = "SELECT FROM pg_stat_activity WHERE query ILIKE 'listen %%'"


def make(driver: str, dsn: str, **options: Any) -> AsyncConnector:
    return PsycopgConnector(conninfo=dsn, **options) if driver == "psycopg" else AsyncpgConnector(dsn, **options)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """As of a host that was cut off: it takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@drivers
async def test_a_silent_host_does_not_use_up_the_time_of_the_next(
    server: Cluster, dsn: str, driver: str, silent_port: int
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    hosts = f"127.0.0.1,{server.socket_directory}"
    where = f"host={hosts} port={silent_port},5432 dbname={name} user=postgres connect_timeout=2"
    with anyio.fail_after(10):
        async with make(driver, where) as connector:
            assert await connector.execute_async(statements.check_connection())
        async with make(driver, where).listen("c"):
            pass


@drivers
@pytest.mark.parametrize("by", ["pairs", "url", "environment"])
async def test_several_hosts_in_every_form(
    server: Cluster, dsn: str, driver: str, by: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    hosts = f"{tmp_path},{server.socket_directory}"  # on the former there is nobody
    where = {
        "pairs": f"host={hosts} port=5432 dbname={name} user=postgres target_session_attrs=read-write",
        "url": f"postgresql://postgres@/{name}?host={quote(hosts)}&port=5432,5432&target_session_attrs=primary",
        "environment": f"dbname={name} user=postgres",
    }[by]
    if by == "environment":
        monkeypatch.setenv("PGHOST", hosts)
        monkeypatch.setenv("PGTARGETSESSIONATTRS", "read-write")
    connector = make(driver, where)
    async with connector:
        assert await connector.execute_async(statements.check_connection())
    with connector.sync_twin() as twin:
        assert twin.execute(statements.check_connection())


@drivers
async def test_no_host_is_the_one_that_was_asked_for(server: Cluster, dsn: str, driver: str, tmp_path: Any) -> None:
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    hosts = f"{tmp_path},{server.socket_directory}"
    connector = make(driver, f"host={hosts} dbname={name} user=postgres password=s3cret target_session_attrs=standby")
    with pytest.raises(ConnectorException, match="can't connect") as refused:
        await connector.open_async()
    assert str(tmp_path) in str(refused.value)
    assert "s3cret" not in str(refused.value)


async def test_asyncpgs_own_forms_of_several_hosts(server: Cluster, dsn: str, tmp_path: Any) -> None:
    name = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
    hosts = [str(tmp_path), str(server.socket_directory)]
    for port in (5432, [5432, 5432]):
        async with AsyncpgConnector(host=hosts, port=port, database=name, user="postgres") as connector:
            assert await connector.execute_async(statements.check_connection())
    refused = AsyncpgConnector(host=hosts, port=[1, 2, 3], database=name, user="postgres")
    with pytest.raises(ValueError, match="2 hosts and 3 ports"):
        await refused.open_async()


async def test_a_connect_function_of_ones_own(dsn: str) -> None:
    """As cloud providers have them for logins by token."""
    calls = []

    async def connect(*args: Any, **arguments: Any) -> asyncpg.Connection[Any]:
        calls.append(arguments["server_settings"]["application_name"])
        made: asyncpg.Connection[Any] = await asyncpg.connect(**arguments | {"dsn": dsn})
        return made

    connector = AsyncpgConnector("postgresql://nobody@nowhere.invalid/", connect=connect)
    async with connector:
        assert await connector.execute_async(statements.check_connection())
        async with connector.listen("c"):
            pass
    assert set(calls) == {"procrastinate_deps"}
    assert len(calls) == 3
