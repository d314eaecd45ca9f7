"""One session with the database, in the words in which the rules of docs/semantics.md speak."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import asyncpg
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from anyio.streams.memory import MemoryObjectReceiveStream

T = TypeVar("T")

SCHEMA = "procrastinate_deps"
RULES = ("all_finished", "all_succeeded", "any_succeeded", "any_failed", "all_failed", "none_failed")
PATIENCE_S = 10.0

# The SQLSTATEs by which the database refuses
DEPENDENCY_NOT_FOUND = "PD001"
ALREADY_STARTED = "PD002"
CIRCULAR = "PD003"
RULE_NOT_MET = "PD004"
TRANSITION_REFUSED = "PD005"
ISOLATION_LEVEL = "PD006"
NO_SUCH_JOB = "PD007"
WORKER_LOST = "PD008"
ALREADY_ENQUEUED = "23505"
SERIALIZATION_FAILURE = "40001"
LOCK_NOT_AVAILABLE = "55P03"

_numbers = itertools.count(1)
ENDED = ("succeeded", "failed", "aborted", "cancelled")


class Database:
    """Verbs over one connection, with a registered worker of its own.

    Unless told otherwise each job is deferred to a queue of its own, so that `start` can claim exactly that job.
    """

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], worker: int) -> None:
        self.connection = connection
        self.worker = worker
        self.claims: dict[int, int] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, dsn: str) -> AsyncIterator[Database]:
        connection = await asyncpg.connect(dsn)
        try:
            database = cls(connection, 0)
            database.worker = await database.register_worker()
            yield database
        finally:
            await connection.close(timeout=PATIENCE_S)

    # plain SQL

    async def execute(self, sql: str, *values: object) -> str:
        return await self.connection.execute(sql, *values)

    async def value(self, sql: str, *values: object) -> Any:
        return await self.connection.fetchval(sql, *values)

    async def rows(self, sql: str, *values: object) -> list[asyncpg.Record]:
        return await self.connection.fetch(sql, *values)

    async def event_types(self, job: int) -> list[str]:
        rows = await self.rows(f"SELECT type FROM {SCHEMA}.job_events WHERE job_id = $1 ORDER BY id", job)
        return [row["type"] for row in rows]

    async def set_status(self, status: str, *jobs: int) -> None:
        """By a plain UPDATE, as a person in psql would."""
        await self.execute(f"UPDATE {SCHEMA}.jobs SET status = $1 WHERE id = ANY ($2)", status, jobs)

    async def delete(self, *jobs: int) -> None:
        """By one plain DELETE, in the physical order of the rows."""
        await self.execute(f"DELETE FROM {SCHEMA}.jobs WHERE id = ANY ($1)", jobs)

    async def delete_edge(self, parent: int, child: int) -> None:
        await self.execute(
            f"DELETE FROM {SCHEMA}.job_dependencies WHERE parent_id = $1 AND child_id = $2", parent, child
        )

    # deferring

    async def defer(self, *depends_on: int, rule: str = "all_finished", **fields: object) -> int:
        """One job after these."""
        return (await self.defer_batch({"depends_on": list(depends_on), "run_when": rule, **fields}))[0]

    async def defer_batch(self, *jobs: Mapping[str, object]) -> list[int]:
        batch = [{"task_name": "task", "queue": f"queue-{next(_numbers)}", **job} for job in jobs]
        ids = await self.value(f"SELECT {SCHEMA}.defer_jobs($1::text::jsonb)", json.dumps(batch))
        assert isinstance(ids, list)
        return ids

    # what a worker does

    async def register_worker(self) -> int:
        worker = await self.value(f"SELECT {SCHEMA}.register_worker('worker', 'host', 1, NULL, 1, '0')")
        assert isinstance(worker, int)
        return worker

    async def fetch(self, n: int = 1, queues: Sequence[str] | None = None, worker: int | None = None) -> list[int]:
        """Claims up to n jobs; their claims are remembered for `finish`."""
        fetched = await self.rows(
            f"SELECT id, claim FROM {SCHEMA}.fetch_jobs($1, $2, $3)", queues, worker or self.worker, n
        )
        self.claims.update({row["id"]: row["claim"] for row in fetched})
        return [row["id"] for row in fetched]

    async def start(self, *jobs: int) -> None:
        """Claims just these jobs."""
        for job in jobs:
            fetched = await self.fetch(1, [await self.queue(job)])
            assert fetched == [job], f"job {job} is {await self.status(job)} and could not be started: {fetched}"

    async def finish(
        self,
        ends: Mapping[int, str],
        *,
        results: Mapping[int, object] | None = None,
        errors: Mapping[int, str] | None = None,
        retries: Mapping[int, Mapping[str, object]] | None = None,
        delete_jobs: str = "never",
        claims: Mapping[int, int] | None = None,
    ) -> dict[int, str]:
        """Ends (or requeues: `todo`) claimed jobs; returns what was refused, and why."""
        known = claims or self.claims
        results, errors = results or {}, errors or {}
        refused = await self.rows(
            f"SELECT job_id, refused FROM {SCHEMA}.finish_jobs($1, $2, $3, $4, $5, $6, $7)",
            list(ends),
            [known[job] for job in ends],
            list(ends.values()),
            [json.dumps(results[job]) if job in results else None for job in ends],
            [errors.get(job) for job in ends],
            json.dumps({str(job): retry for job, retry in (retries or {}).items()}),
            delete_jobs,
        )
        return {row["job_id"]: row["refused"] for row in refused}

    async def end(self, status: str, *jobs: int) -> None:
        """Claims these jobs and ends them so; `cancelled` is a cancel before the start."""
        if status == "cancelled":
            for job in jobs:
                assert await self.cancel(job)
            return
        await self.start(*jobs)
        assert await self.finish(dict.fromkeys(jobs, status)) == {}

    async def heartbeat(self, worker: int | None = None) -> bool:
        return bool(await self.value(f"SELECT {SCHEMA}.heartbeat($1)", worker or self.worker))

    async def lose_worker(self, worker: int | None = None) -> None:
        """Makes a worker's last heartbeat an hour old."""
        await self.execute(
            f"UPDATE {SCHEMA}.workers SET heartbeat_at = now() - interval '1 h' WHERE id = $1", worker or self.worker
        )

    async def rescue(self, max_rescues: int = 3) -> dict[int, str]:
        rows = await self.rows(f"SELECT job_id, status FROM {SCHEMA}.rescue_jobs('30 s', $1)", max_rescues)
        return {row["job_id"]: row["status"] for row in rows}

    # what a person does

    async def cancel(self, job: int, *, abort: bool = False, delete_job: bool = False) -> bool:
        return bool(await self.value(f"SELECT {SCHEMA}.cancel_job($1, $2, $3)", job, abort, delete_job))

    async def retry(
        self, job: int, *, reset_dependents: bool = True, ignore_dependencies: bool = False, **fields: object
    ) -> None:
        await self.execute(
            f"SELECT {SCHEMA}.retry_job($1, $2, $3, $4, $5, $6, $7)",
            job,
            fields.get("retry_at"),
            fields.get("priority"),
            fields.get("queue"),
            fields.get("lock"),
            reset_dependents,
            ignore_dependencies,
        )

    async def add_dependencies(self, child: int, *parents: int) -> None:
        await self.execute(f"SELECT {SCHEMA}.add_dependencies($1, $2)", child, parents)

    async def remove_dependencies(self, child: int, *parents: int) -> int:
        removed = await self.value(f"SELECT {SCHEMA}.remove_dependencies($1, $2)", child, parents)
        assert isinstance(removed, int)
        return removed

    async def prune(self, *statuses: str) -> int:
        """Whatever ended before this statement."""
        pruned = await self.value(
            f"SELECT pruned FROM {SCHEMA}.prune_jobs(interval '0', $1)",
            statuses or ("succeeded", "failed", "cancelled", "aborted"),
        )
        assert isinstance(pruned, int)
        return pruned

    async def pause(self, queue: str) -> bool:
        return bool(await self.value(f"SELECT {SCHEMA}.pause_queue($1)", queue))

    async def resume(self, queue: str) -> bool:
        return bool(await self.value(f"SELECT {SCHEMA}.resume_queue($1)", queue))

    # how things stand

    async def column(self, job: int, name: str) -> Any:
        return await self.value(f"SELECT {name} FROM {SCHEMA}.jobs WHERE id = $1", job)

    async def queue(self, job: int) -> str:
        queue = await self.column(job, "queue")
        assert isinstance(queue, str), f"there is no job {job}"
        return queue

    async def status(self, job: int) -> str | None:
        """The status, `cancelled` with its kind ("cancelled upstream"); None: there is no such job."""
        status = await self.column(job, "concat_ws(' ', status, cancel_kind)")
        assert status is None or isinstance(status, str)
        return status

    async def statuses(self, *jobs: int) -> list[str | None]:
        rows = await self.rows(
            f"SELECT id, concat_ws(' ', status, cancel_kind) AS status FROM {SCHEMA}.jobs WHERE id = ANY ($1)", jobs
        )
        found = {row["id"]: row["status"] for row in rows}
        return [found.get(job) for job in jobs]

    async def parent_statuses(self, child: int) -> dict[int, str]:
        rows = await self.rows(f"SELECT parent_id, status FROM {SCHEMA}.parent_statuses($1)", child)
        return {row["parent_id"]: row["status"] for row in rows}

    async def parents(self, child: int) -> list[int]:
        rows = await self.rows(
            f"SELECT parent_id FROM {SCHEMA}.job_dependencies WHERE child_id = $1 ORDER BY parent_id", child
        )
        return [row["parent_id"] for row in rows]

    async def count(self) -> int:
        count = await self.value(f"SELECT count(*) FROM {SCHEMA}.jobs")
        assert isinstance(count, int)
        return count

    async def snapshot(self) -> list[asyncpg.Record]:
        """Everything that a refused act must leave as it was."""
        return await self.rows(
            f"SELECT to_jsonb(j)::text AS row FROM {SCHEMA}.jobs AS j"
            f" UNION ALL SELECT to_jsonb(d)::text FROM {SCHEMA}.job_dependencies AS d"
            f" UNION ALL SELECT to_jsonb(b)::text FROM {SCHEMA}.job_blocks AS b"
            f" UNION ALL SELECT to_jsonb(l)::text FROM {SCHEMA}.locks AS l ORDER BY 1"
        )

    async def violations(self) -> list[tuple[str, list[int]]]:
        """The database's own check of its invariants, and the job that each names."""
        rows = await self.rows(f"SELECT invariant, examples FROM {SCHEMA}.violations()")
        return [(row["invariant"], row["examples"]) for row in rows]

    # other sessions

    @contextlib.asynccontextmanager
    async def transaction(self, isolation: str | None = None) -> AsyncIterator[None]:
        level: Any = isolation
        async with self.connection.transaction(isolation=level):
            yield

    async def until_waiting(self, other: Database) -> None:
        """Returns when the other session waits for a lock."""
        pid = other.connection.get_server_pid()
        with anyio.fail_after(PATIENCE_S):
            # the server tells nobody that a session began to wait: it has to be asked
            while not await self.value("SELECT pg_blocking_pids($1) <> '{}'", pid):  # noqa: ASYNC110
                await anyio.sleep(0.002)


class Later(Generic[T]):
    """What a statement of another session gives, once it no longer has to wait."""

    def __init__(self, call: Callable[[], Awaitable[T]]) -> None:
        self.call = call
        self.error: asyncpg.PostgresError | None = None
        self._values: list[T] = []

    async def run(self) -> None:
        try:
            self._values.append(await self.call())
        except asyncpg.PostgresError as error:
            self.error = error

    @property
    def value(self) -> T:
        if self.error is not None:
            raise self.error
        return self._values[0]

    @property
    def sqlstate(self) -> str | None:
        return None if self.error is None else self.error.sqlstate


class Refusal:
    """Filled in when the block of `refused` is left."""

    message: str
    detail: Any


@contextlib.contextmanager
def refused(sqlstate: str) -> Iterator[Refusal]:
    """The database refuses what is done inside, with this SQLSTATE."""
    refusal = Refusal()
    with pytest.raises(asyncpg.PostgresError) as caught:
        yield refusal
    assert caught.value.sqlstate == sqlstate, caught.value
    refusal.message = caught.value.args[0]
    detail = getattr(caught.value, "detail", None)
    refusal.detail = json.loads(detail) if sqlstate.startswith("PD") and detail else detail


class Wakeups:
    """What idle workers hear."""

    def __init__(
        self, connection: asyncpg.Connection[asyncpg.Record], stream: MemoryObjectReceiveStream[dict[str, Any]]
    ) -> None:
        self._connection = connection
        self._stream = stream

    async def heard(self) -> list[dict[str, Any]]:
        """All notifications of transactions that were committed since the last call."""
        mark = next(_numbers)
        await self._connection.execute("SELECT pg_notify($1, $2)", SCHEMA, json.dumps({"mark": mark}))
        heard: list[dict[str, Any]] = []
        with anyio.fail_after(PATIENCE_S):
            async for payload in self._stream:
                if payload == {"mark": mark}:
                    break
                heard.append(payload)
        return heard

    async def queues(self) -> list[str]:
        """The queues in which a job became ready."""
        return sorted({payload["queue"] for payload in await self.heard() if payload["type"] == "job_ready"})


@contextlib.asynccontextmanager
async def listening(dsn: str) -> AsyncIterator[Wakeups]:
    connection = await asyncpg.connect(dsn)
    send, receive = anyio.create_memory_object_stream[dict[str, Any]](10_000)

    def hear(connection: object, pid: int, channel: str, payload: object) -> None:
        send.send_nowait(json.loads(str(payload)))

    try:
        with send, receive:
            await connection.add_listener(SCHEMA, hear)
            yield Wakeups(connection, receive)
            await connection.remove_listener(SCHEMA, hear)
    finally:
        await connection.close(timeout=PATIENCE_S)
