"""A statement's own time limit: the server keeps it, and the connection is as good as before."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import anyio
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from procrastinate_deps import App, PsycopgConnector, SyncPsycopgConnector, statements
from procrastinate_deps.connectors.errors import TIMED_OUT
from procrastinate_deps.exceptions import ConnectorException, JobNotFound
from tests.integration.worker_helpers import DEADLINE_S

if TYPE_CHECKING:
    from procrastinate_deps.statements import Statement

LIMIT_S = 0.1


def limited(statement: Statement[Any], timeout_s: float = LIMIT_S) -> Statement[Any]:
    return dataclasses.replace(statement, timeout_s=timeout_s)


def locked(dsn: str) -> psycopg.Connection[Any]:
    """Who holds the jobs, so that a statement that reads them waits."""
    connection = psycopg.connect(dsn)
    connection.execute("LOCK TABLE procrastinate_deps.jobs")
    return connection


async def test_it_ends_and_the_next_one_is_not_limited(app: App, dsn: str) -> None:
    with locked(dsn), anyio.fail_after(DEADLINE_S), pytest.raises(ConnectorException) as caught:
        await app.execute_async(limited(statements.list_jobs()))
    assert caught.value.sqlstate == TIMED_OUT
    for _ in range(3):
        assert await app.execute_async(limited(statements.list_jobs(), DEADLINE_S)) == []
        # a limit that stayed with a connection of the pool would end this one
        assert await app.execute_async(statements.list_jobs()) == []
    assert await _setting(app) == "0"


async def test_what_it_does_is_done(app: App) -> None:
    assert await app.execute_async(limited(statements.pause_queue("a"), DEADLINE_S)) is True
    assert await app.job_manager.list_paused_queues_async() == ["a"]


async def test_an_error_spoils_no_connection(app: App) -> None:
    with pytest.raises(JobNotFound):
        await app.execute_async(limited(statements.retry_job(1, None, None, None, None, True, False), DEADLINE_S))
    assert await app.execute_async(limited(statements.pause_queue("a"), DEADLINE_S)) is True
    assert await app.job_manager.list_paused_queues_async() == ["a"]


async def test_one_that_is_cancelled(app: App, dsn: str) -> None:
    with locked(dsn):
        with anyio.move_on_after(LIMIT_S):
            await app.execute_async(limited(statements.list_jobs(), DEADLINE_S))
    assert await app.execute_async(limited(statements.list_jobs(), DEADLINE_S)) == []
    assert await _setting(app) == "0"


async def test_on_a_pool_of_the_users_whose_connections_begin_transactions(dsn: str) -> None:
    async with AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False) as pool:
        app = App(PsycopgConnector())
        async with app.open_async(pool):
            with locked(dsn), pytest.raises(ConnectorException):
                await app.execute_async(limited(statements.list_jobs()))
            assert await app.execute_async(limited(statements.pause_queue("a"), DEADLINE_S)) is True
            assert await app.job_manager.list_paused_queues_async() == ["a"]


def test_sync(dsn: str) -> None:
    with SyncPsycopgConnector(conninfo=dsn) as connector:
        with locked(dsn), pytest.raises(ConnectorException) as caught:
            connector.execute(limited(statements.list_jobs()))
        assert caught.value.sqlstate == TIMED_OUT
        assert connector.execute(limited(statements.pause_queue("a"), DEADLINE_S)) is True
        assert connector.execute(statements.list_paused_queues()) == ["a"]


async def _setting(app: App) -> str:
    """The limit of the connection that the pool gives next."""
    show: Statement[Any] = dataclasses.replace(statements.backend_pid(), name="show_timeout")
    app.connector._queries = {**app.connector._queries, "show_timeout": "SELECT current_setting('statement_timeout')"}
    return str(await app.execute_async(show))
