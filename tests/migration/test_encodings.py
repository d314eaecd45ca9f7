"""A database that says nothing about the encoding of its texts: SQL_ASCII, as old clusters of the C locale have it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import conninfo, sql

from procrastinate_deps import App
from procrastinate_deps.connectors import AsyncpgConnector, PsycopgConnector
from procrastinate_deps.schema import SchemaManager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from procrastinate_deps.connectors.base import AsyncConnector

TEXT = "naïve – 東京 ✓"


@pytest.fixture
def ascii_dsn(admin_dsn: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
        admin.execute(create.format(sql.Identifier(name)))
    yield conninfo.make_conninfo(admin_dsn, dbname=name)
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_database_without_an_encoding_is_migrated_and_works(ascii_dsn: str, driver: str) -> None:
    connector: AsyncConnector = (
        AsyncpgConnector(dsn=ascii_dsn) if driver == "asyncpg" else PsycopgConnector(conninfo=ascii_dsn)
    )
    app = App(connector=connector)

    @app.task(name="echo")
    async def echo(text: str) -> str:
        return text

    await SchemaManager(connector).apply_async()
    async with app.open_async():
        job_id = await echo.defer_async(text=TEXT)
        await app.run_worker_async(wait=False, install_signal_handlers=False)
        job = await app.job_manager.get_job_async(job_id)
    assert (job.status, job.task_kwargs, job.result) == ("succeeded", {"text": TEXT}, TEXT)
