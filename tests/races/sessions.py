"""
Sessions of a race: real connections whose steps are put in order by what they are seen to do, never by the clock.

A race is a test that takes the fixture `race`. Its choreography (this one waits, that one is refused) is checked by
`step` and `waits`, its outcome by plain asserts and `settled`. A knock-out runs the same race without one of its locks:
there the choreography is expected to break, `strict` is off, and what must be seen is the damage.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import anyio
import asyncpg

from procrastinate_deps.sql import queries
from procrastinate_deps.statements import finish_and_fetch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence

    from anyio.abc import TaskGroup

SCHEMA = "procrastinate_deps"
JOBS = f"{SCHEMA}.jobs"
QUERIES = queries(SCHEMA)
DEADLINE_S = 20.0
POLL_S = 0.002
SETTINGS = {
    "statement_timeout": "30s",
    # a deadlock is a result here, not worth a second each
    "deadlock_timeout": "100ms",
    "search_path": SCHEMA,
}
ENDED_BY_RULE = "cancelled:upstream"
WAYS = ["finish", "update", "cancel", "delete"]
STRICT_CHILD = "all_succeeded"
MISSING_PARENT, CYCLE, WRONG_ISOLATION, ALREADY_STARTED = "PD001", "PD003", "PD006", "PD002"
LOCK_TIMEOUT, DEADLOCK = "55P03", "40P01"


def job(*parents: int, after: Sequence[int] = (), **fields: Any) -> dict[str, Any]:
    """One element of a batch for defer_jobs."""
    return {"task_name": "race", "depends_on": list(parents), "after": list(after), **fields}


class Session:
    """One connection, and the verbs as it speaks them."""

    def __init__(self, connection: asyncpg.Connection[Any], race: Race) -> None:
        self.connection = connection
        self.race = race
        self.pid = connection.get_server_pid()

    async def do(self, sql: str, *values: Any) -> list[Any]:
        return list(await self.connection.fetch(sql, *values))

    async def value(self, sql: str, *values: Any) -> Any:
        return await self.connection.fetchval(sql, *values)

    async def begin(self, isolation: str = "READ COMMITTED") -> None:
        await self.connection.execute(f"BEGIN ISOLATION LEVEL {isolation}")

    async def commit(self) -> None:
        await self.connection.execute("COMMIT")

    async def rollback(self) -> None:
        await self.connection.execute("ROLLBACK")

    async def defer(self, *jobs: dict[str, Any]) -> list[int]:
        ids: list[int] = await self.value("SELECT defer_jobs($1::text::jsonb)", json.dumps(jobs))
        return ids

    async def fetch(self, limit: int = 100, queues: list[str] | None = None) -> list[int]:
        rows = await self.do("SELECT id, claim FROM fetch_jobs($1, $2, $3)", queues, self.race.worker, limit)
        self.race.claims |= {row["id"]: row["claim"] for row in rows}
        return [row["id"] for row in rows]

    async def finish(
        self, outcomes: dict[int, str], *, claims: dict[int, int] | None = None, retries: dict[int, Any] | None = None
    ) -> dict[int, str]:
        """What was refused, and why: {} when all was done."""
        claims = claims or self.race.claims
        rows = await self.do(
            "SELECT job_id, refused FROM finish_jobs($1, $2, $3, $4::text[]::jsonb[], $5::text[], $6::text::jsonb)",
            list(outcomes),
            [claims[id_] for id_ in outcomes],
            list(outcomes.values()),
            [None] * len(outcomes),
            [None] * len(outcomes),
            json.dumps(retries or {}),
        )
        return {row["job_id"]: row["refused"] for row in rows}

    async def exchange(
        self, outcomes: dict[int, str], limit: int = 100, queues: list[str] | None = None
    ) -> tuple[list[int], bool]:
        """Ends jobs and fetches others by the statement that does both: what it fetched, and whether it left any."""
        statement = finish_and_fetch([], "never", queues, self.race.worker, limit)
        claims = [self.race.claims[id_] for id_ in outcomes]
        ends = (list(outcomes), claims, list(outcomes.values()), [None] * len(outcomes), [None] * len(outcomes))
        rows = await self.do(QUERIES[statement.name], *ends, *statement.values[len(ends) :])
        told = [row["refused"] for row in rows if row["refused"] is not None]
        assert set(told) <= {"left"}, f"could not be ended: {told}"
        fetched = {row["id"]: row["claim"] for row in rows if row["refused"] is None}
        self.race.claims |= fetched
        return list(fetched), bool(told)

    async def end(self, id_: int, way: str, status: str = "failed") -> None:
        """Ends one job: by finish_jobs (again while it is busy), a plain UPDATE, cancel_job or DELETE."""
        match way:
            case "finish":
                with anyio.fail_after(DEADLINE_S):
                    while "busy" in (await self.finish({id_: status})).values():
                        pass
            case "update":
                await self.do(f"UPDATE jobs SET status = '{status}' WHERE id = $1", id_)
            case "cancel":
                await self.do("SELECT cancel_job($1)", id_)
            case "delete":
                await self.do("DELETE FROM jobs WHERE id = $1", id_)
            case _:
                raise ValueError(f"no such way to end a job: {way!r}")

    async def retry(self, id_: int, **options: bool) -> None:
        given = "".join(f", {name} => {str(value).lower()}" for name, value in options.items())
        await self.do(f"SELECT retry_job($1{given})", id_)

    async def hold(self, *ids: int, strength: str = "UPDATE") -> None:
        """Locks rows of jobs, as some other statement might, in a transaction that stays open."""
        await self.begin()
        await self.do(f"SELECT FROM jobs WHERE id = ANY ($1) ORDER BY id FOR {strength}", list(ids))


class Attempt:
    """A statement that runs in its session while the test goes on."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.over = anyio.Event()
        self.result: Any = None
        self.error: asyncpg.PostgresError | None = None

    async def run(self, statement: Coroutine[Any, Any, Any]) -> None:
        try:
            self.result = await statement
        except asyncpg.PostgresError as error:
            self.error = error
        finally:
            self.over.set()

    async def over_or_waiting(self) -> bool:
        """Returns when it is over (True) or seen to wait for a lock that another session has (False)."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            # asked before the server is: a statement that is over now was so before it could wait
            over = self.over.is_set()
            if await self.session.race.eye.value("SELECT pg_blocking_pids($1) <> '{}'", self.session.pid):
                return False
            if over:
                return True
            await anyio.sleep(POLL_S)
        raise AssertionError("it neither waited nor ended")

    async def waits(self) -> None:
        """Choreography: it is seen waiting."""
        if await self.over_or_waiting():
            self.session.race.step(False, f"it waits (it did not: {self.error or self.result})")

    async def passes(self) -> Any:
        """The result of a statement that may not wait for any lock."""
        assert await self.over_or_waiting(), "it waits for an open transaction"
        return await self.done()

    async def done(self) -> Any:
        """Its result; raises its error."""
        with anyio.fail_after(DEADLINE_S):
            await self.over.wait()
        if self.error is not None:
            raise self.error
        return self.result

    async def refused(self, within_s: float = DEADLINE_S) -> str:
        """The SQLSTATE it failed with, '' when it succeeded."""
        with anyio.fail_after(within_s):
            await self.over.wait()
        return "" if self.error is None else self.error.sqlstate or type(self.error).__name__


class Race:
    def __init__(self, tasks: TaskGroup) -> None:
        self.tasks = tasks
        self.strict = True
        self.claims: dict[int, int] = {}
        self.worker = 0
        self.eye: Session
        self.a: Session
        self.b: Session
        self.c: Session

    def start(self, session: Session, statement: Coroutine[Any, Any, Any]) -> Attempt:
        attempt = Attempt(session)
        self.tasks.start_soon(attempt.run, statement)
        return attempt

    async def together(self, *statements: tuple[Session, Coroutine[Any, Any, Any]]) -> list[Any]:
        """Results of statements that are sent at the same moment."""
        attempts = [self.start(session, statement) for session, statement in statements]
        return [await attempt.done() for attempt in attempts]

    def step(self, condition: bool, what: str) -> None:
        """Choreography: how the sessions got in each other's way. What came of it is asserted apart."""
        if self.strict:
            assert condition, f"expected that {what}"

    async def register(self) -> int:
        worker: int = await self.eye.value("SELECT register_worker('race', 'localhost', 1, NULL, 1, '0')")
        return worker

    async def lose(self, worker: int) -> None:
        await self.eye.do("UPDATE workers SET heartbeat_at = now() - interval '1 h' WHERE id = $1", worker)

    async def deferred(self, *jobs: dict[str, Any]) -> list[int]:
        return await self.eye.defer(*jobs)

    async def running(self, count: int = 1, **fields: Any) -> list[int]:
        """Jobs without parents that a worker has just claimed."""
        ids = await self.eye.defer(*[job(queue="running", **fields)] * count)
        fetched = await self.eye.fetch(queues=["running"])
        assert fetched == ids, f"{ids} should have been fetched, not {fetched}"
        return ids

    async def statuses(self, *ids: int) -> list[str | None]:
        """'todo', 'cancelled:upstream', 'todo/lock', ... ; None when the job is gone."""
        rows = await self.eye.do(
            "SELECT id, concat(status, ':' || cancel_kind, '/' || gate) AS status FROM jobs WHERE id = ANY ($1)",
            list(ids),
        )
        found = {row["id"]: row["status"] for row in rows}
        return [found.get(id_) for id_ in ids]

    async def assert_sound(self) -> None:
        rows = await self.eye.do("SELECT * FROM violations()")
        assert not rows, f"violations: {[tuple(row) for row in rows]}"

    async def settled(self) -> None:
        """Nothing is broken, and when all that can run has run nothing is left waiting."""
        await self.assert_sound()
        while True:
            await self.eye.fetch()
            doing = {
                row["id"]: row["claim"]
                for row in await self.eye.do("SELECT id, claim FROM jobs WHERE status = 'doing'")
            }
            if not doing:
                break
            refused = await self.eye.finish(dict.fromkeys(doing, "succeeded"), claims=doing)
            assert not refused, f"could not be ended: {refused}"
        rows = await self.eye.do("SELECT id, status::text, gate::text FROM jobs WHERE finished_at IS NULL")
        assert not rows, f"left waiting for ever: {[tuple(row) for row in rows]}"
        await self.assert_sound()


@contextlib.asynccontextmanager
async def race_on(dsn: str) -> AsyncIterator[Race]:
    connections: list[asyncpg.Connection[Any]] = []
    async with anyio.create_task_group() as tasks:
        race = Race(tasks)
        try:
            for name in ("eye", "a", "b", "c"):
                connection = await asyncpg.connect(dsn, server_settings=SETTINGS)
                connections.append(connection)
                setattr(race, name, Session(connection, race))
            race.worker = await race.register()
            yield race
        finally:
            # what a failed race left running or open ends with its connection
            for connection in connections:
                connection.terminate()
            tasks.cancel_scope.cancel()


def pairs(*groups: Iterable[str]) -> list[tuple[str, ...]]:
    """Every combination, for parametrize."""
    combined: list[tuple[str, ...]] = [()]
    for group in groups:
        values = list(group)
        combined = [(*chosen, value) for chosen in combined for value in values]
    return combined


async def endable(race: Race, way: str, count: int = 1) -> list[int]:
    """Jobs that can be ended this way: cancel_job ends what has not started."""
    return await race.deferred(*[job()] * count) if way == "cancel" else await race.running(count)
