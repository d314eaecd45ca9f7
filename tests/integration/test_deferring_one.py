"""A job without parents is deferred by a function of its own: it does and refuses what the one for batches does."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest

from procrastinate_deps import statements
from procrastinate_deps.connectors import AsyncpgConnector, PsycopgConnector
from procrastinate_deps.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate_deps.jobs import JobSpec
from procrastinate_deps.jsontext import encode
from procrastinate_deps.statements.base import Statement, read_value
from procrastinate_deps.statements.deferring import job_json
from tests.semantics.database import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from procrastinate_deps.connectors import AsyncConnector

FAR = dt.datetime(2100, 1, 1, 12, tzinfo=dt.UTC)
SPECS: dict[str, dict[str, Any]] = {
    "nothing else": {},
    "everything": {
        "task_kwargs": {"a": [1, {"b": "ä \\ ' \""}], "c": None},
        "queue": "a queue",
        "priority": -3,
        "lock": "one's lock",
        "queueing_lock": "one's place",
        "scheduled_at": FAR,
        "run_when": "all_failed",
    },
    "the highest priority": {"priority": 2**31 - 1},
    "the lowest priority": {"priority": -(2**31)},
    "a time zone": {"scheduled_at": FAR.astimezone(dt.timezone(dt.timedelta(hours=-11, minutes=-30)))},
    "a time that has passed": {"scheduled_at": dt.datetime(2000, 1, 1, tzinfo=dt.UTC)},
    "the last time": {"scheduled_at": dt.datetime.max.replace(tzinfo=dt.UTC)},
    "the first time": {"scheduled_at": dt.datetime.min.replace(tzinfo=dt.UTC)},
    "names of one letter": {"task_name": "t", "queue": "q", "lock": "", "queueing_lock": ""},
}
REFUSED: dict[str, dict[str, Any]] = {
    "no queue": {"queue": ""},
    "too long a queue": {"queue": "q" * 256},
    "no task": {"task_name": ""},
    "too high a priority": {"priority": 2**31},
    "far too high a priority": {"priority": 2**70},
    "half a priority": {"priority": 1.5},
    "a NUL": {"lock": "a\x00b"},
    "a NUL in an argument": {"task_kwargs": {"a": "\x00"}},
    "an argument that is not JSON": {"task_kwargs": {"a": object()}},
    "no rule": {"run_when": "whenever"},
}


@pytest.fixture(params=["psycopg", "asyncpg"])
async def connector(dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[AsyncConnector]:
    made = PsycopgConnector(conninfo=dsn) if request.param == "psycopg" else AsyncpgConnector(dsn)
    async with made:
        yield made


def in_a_batch(spec: JobSpec) -> Statement[list[int]]:
    return Statement("defer_jobs", (f"[{job_json(spec, encode)}]",), read_value, savepoint=True)


async def outcome(connector: AsyncConnector, spec: JobSpec, *, batch: bool) -> dict[str, Any]:
    """The row but for what differs between any two, or the error."""
    try:
        statement = in_a_batch(spec) if batch else statements.defer_jobs([spec])
        assert statement.name == ("defer_jobs" if batch else "defer_job")
        [job_id] = await connector.execute_async(statement)
    except Exception as error:  # noqa: BLE001 - whichever it is, the other one must be the same
        return {"refused": type(error).__name__, "sqlstate": getattr(error, "sqlstate", None)}
    job = await connector.execute_async(statements.get_job(job_id))
    # Each in a database of its own would take too long: what is unique may be deferred again.
    await connector.execute_script_async("DELETE FROM procrastinate_deps.jobs")
    row = {name: getattr(job, name) for name in job.__slots__}
    assert row.pop("id") == job_id
    assert row.pop("created_at") is not None
    return row


@pytest.mark.parametrize("name", SPECS | REFUSED)
async def test_the_same_as_in_a_batch(connector: AsyncConnector, name: str) -> None:
    spec = JobSpec(**{"task_name": "task"} | (SPECS | REFUSED)[name])
    alone = await outcome(connector, spec, batch=False)
    assert alone == await outcome(connector, spec, batch=True)
    assert ("refused" in alone) is (name in REFUSED)


async def test_a_place_that_is_taken(connector: AsyncConnector) -> None:
    spec = JobSpec(task_name="task", queueing_lock="one's place")
    await connector.execute_async(statements.defer_jobs([spec]))
    for statement in (statements.defer_jobs([spec]), in_a_batch(spec)):
        with pytest.raises(AlreadyEnqueued, match="one's place"):
            await connector.execute_async(statement)


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_in_a_transaction_of_the_callers(dsn: str, driver: str, isolation: str) -> None:
    """Which goes on after a refusal, and commits what it had done."""
    taken = JobSpec(task_name="taken", queueing_lock="k")
    async with PsycopgConnector(conninfo=dsn) as connector:
        await connector.execute_async(statements.defer_jobs([taken]))
        if driver == "psycopg":
            async with await psycopg.AsyncConnection.connect(dsn) as theirs:
                await theirs.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}".encode())
                await _defer_some(connector, theirs, taken)
        else:
            other = await asyncpg.connect(dsn)
            try:
                level: Any = isolation.lower().replace(" ", "_")
                async with other.transaction(isolation=level):
                    await _defer_some(connector, other, taken)
            finally:
                await other.close()
        jobs = await connector.execute_async(statements.list_jobs())
    assert [job.task_name for job in jobs] == ["taken", "before", "after"]


async def _defer_some(connector: AsyncConnector, theirs: Any, taken: JobSpec) -> None:
    await connector.execute_async(statements.defer_jobs([JobSpec(task_name="before", queueing_lock="l")]), theirs)
    with pytest.raises(AlreadyEnqueued):
        await connector.execute_async(statements.defer_jobs([taken]), theirs)
    await connector.execute_async(statements.defer_jobs([JobSpec(task_name="after")]), theirs)
    jobs = await connector.execute_async(statements.list_jobs())
    assert len(jobs) == 1, "it was committed before its time"


async def test_it_is_announced_once_and_when_it_is_committed(dsn: str) -> None:
    spec = JobSpec(task_name="task", queue="its queue")
    async with PsycopgConnector(conninfo=dsn) as connector, listening(dsn) as heard:
        await connector.execute_async(statements.defer_jobs([spec]))
        assert [message["queue"] for message in await heard.heard()] == ["its queue"]
        async with await psycopg.AsyncConnection.connect(dsn) as theirs:
            await connector.execute_async(statements.defer_jobs([spec]), theirs)
            assert await heard.heard() == []
            await theirs.commit()
            assert [message["queue"] for message in await heard.heard()] == ["its queue"]
            await connector.execute_async(statements.defer_jobs([spec]), theirs)
            await theirs.rollback()
        assert await heard.heard() == []


async def test_triggers_and_checks_of_ones_own_are_kept(dsn: str) -> None:
    """A table is a user's to extend."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE procrastinate_deps.jobs ADD CONSTRAINT mine CHECK (task_name <> 'forbidden')")
    async with PsycopgConnector(conninfo=dsn) as connector:
        with pytest.raises(ConnectorException, match="mine") as refused:
            await connector.execute_async(statements.defer_jobs([JobSpec(task_name="forbidden")]))
    assert refused.value.sqlstate == "23514"
