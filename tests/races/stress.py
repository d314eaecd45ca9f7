"""Clients that do everything at once to one database, while every invariant is checked.

    python -m tests.races.stress DSN [--seconds 30] [--seed N] [--clients 16]

Each client defers jobs and whole workflows, fetches, ends, retries, cancels, deletes, adds and removes edges, pauses
queues, leaves transactions open for a moment, and types plain SQL. `violations()` holds in every committed state, so it
is asked while they run; at the end everything is drained and nothing may be left waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.races import stress_workflows

SCHEMA = "procrastinate_deps"
RULES = ["all_finished"] * 4 + ["all_succeeded"] * 4 + ["any_succeeded", "any_failed", "all_failed", "none_failed"]
QUEUES = ["default", "default", "default", "other", "third"]
DEADLOCK, SERIALIZATION, LOCK_TIMEOUT = "40P01", "40001", "55P03"
RETRIED = {DEADLOCK, SERIALIZATION, LOCK_TIMEOUT}
# missing parent, started, cycle, rule unmet, refused transition, missing job, queueing lock taken
EXPECTED = {"PD001", "PD002", "PD003", "PD004", "PD005", "PD007", "23505"} | stress_workflows.EXPECTED
MAX_LIVE_JOBS = 1500
LOOK = f"""
(SELECT id FROM {SCHEMA}.jobs WHERE status IN ('blocked', 'todo') AND started_at IS NULL ORDER BY random() LIMIT 1)
UNION (SELECT id FROM {SCHEMA}.jobs ORDER BY random() LIMIT $1)
"""
FETCH = "SELECT id, claim FROM fetch_logged($1, $2, $3)"
# Each start is logged with what was true when it was claimed. By a function, statement by statement: a single statement
# would read the parents with a snapshot older than the claim's.
LOG = f"""
CREATE TABLE IF NOT EXISTS starts (job_id bigint, claim bigint, at timestamptz, early boolean, unmet boolean);
CREATE OR REPLACE FUNCTION fetch_logged(queues text[], worker bigint, n int) RETURNS TABLE (id bigint, claim bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE ids bigint[];
BEGIN
    ids := ARRAY(SELECT f.id FROM {SCHEMA}.fetch_jobs(queues, worker, n) AS f);
    INSERT INTO starts
    SELECT j.id, j.claim, j.started_at,
        EXISTS (
            SELECT FROM {SCHEMA}.job_dependencies AS d JOIN {SCHEMA}.jobs AS p ON p.id = d.parent_id
            WHERE d.child_id = j.id AND {SCHEMA}.is_live(p.status) AND NOT EXISTS (
                -- retried on the understanding that its dependents stay as they are
                SELECT FROM {SCHEMA}.job_events AS e
                WHERE e.job_id = p.id AND e.detail ->> 'reset_dependents' = 'false')),
        c.live = 0 AND NOT {SCHEMA}.rule_met(j.run_when, c.succeeded, c.failed, c.cancelled, c.not_needed)
    FROM {SCHEMA}.count_parents(ids) AS c JOIN {SCHEMA}.jobs AS j ON j.id = c.job_id
    WHERE j.attempts = 0 AND j.rescues = 0 AND NOT j.ignores_dependencies
        -- a run that was given back counts as no attempt, and yet the job was claimed
        AND NOT EXISTS (SELECT FROM {SCHEMA}.job_events AS e WHERE e.job_id = j.id AND e.type = 'requeued');
    RETURN QUERY SELECT j.id, j.claim FROM {SCHEMA}.jobs AS j WHERE j.id = ANY (ids);
END $$;
CREATE TABLE IF NOT EXISTS excused (child_id bigint);
TRUNCATE starts, excused;
"""


@dataclass
class World:
    """What the clients share."""

    dsn: str
    rng: random.Random
    recent: collections.deque[int] = field(default_factory=lambda: collections.deque(maxlen=250))
    workflows: collections.deque[int] = field(default_factory=lambda: collections.deque(maxlen=25))
    running: collections.deque[int] = field(default_factory=lambda: collections.deque(maxlen=60))
    done: collections.Counter[str] = field(default_factory=collections.Counter)
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    unexpected: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    live: int = 0  # of jobs, when last checked
    stopping: bool = False

    def note(self, what: str, error: asyncpg.PostgresError) -> str:
        state = error.sqlstate or type(error).__name__
        self.errors[f"{what} {state}"] += 1
        if state not in EXPECTED | RETRIED:
            self.unexpected.append(f"{what}: {state} {error}"[:300])
        return state

    def pick(self, count: int) -> list[int]:
        pool = list(self.running) if self.running and self.rng.random() < 0.4 else list(self.recent)
        return self.rng.sample(pool, min(count, len(pool)))


class Client:
    def __init__(self, world: World, connection: asyncpg.Connection[Any], worker_id: int) -> None:
        self.world = world
        self.rng = world.rng
        self.connection = connection
        self.worker_id = worker_id
        self.held: list[tuple[int, int]] = []

    def batch(self) -> list[dict[str, Any]]:
        rng, jobs = self.rng, []
        for position in range(rng.choice([1, 1, 2, 4, 8, 15])):
            job: dict[str, Any] = {
                "task_name": "stress",
                "queue": rng.choice(QUEUES),
                "priority": rng.randint(0, 2),
                "run_when": rng.choice(RULES),
            }
            if rng.random() < 0.6:
                job["depends_on"] = self.world.pick(rng.choice([1, 1, 2, 3, 6]))
            if position and rng.random() < 0.7:
                job["after"] = rng.sample(range(position), min(position, rng.choice([1, 1, 2, 3])))
            if rng.random() < 0.25:
                job["lock"] = f"lock {rng.randint(1, 12)}"
            if rng.random() < 0.05:
                job["queueing_lock"] = f"queueing {rng.randint(1, 200)}"
            stress_workflows.in_a_workflow(rng, job, self.world.workflows, self.world.pick(3))
            jobs.append(job)
        return jobs

    async def call(self, what: str, sql: str, *values: Any) -> list[Any] | None:
        """One statement, tried again where another session was in the way; None when it was refused."""
        for _ in range(8):
            try:
                rows = await self.connection.fetch(sql, *values)
            except asyncpg.PostgresError as error:
                if self.world.note(what, error) not in RETRIED:
                    return None
            else:
                self.world.done[what] += 1
                return list(rows)
        return None

    async def defer(self) -> None:
        sql = f"SELECT unnest({SCHEMA}.defer_jobs($1::text::jsonb))"
        if self.rng.random() < 0.75:
            rows = await self.call("defer", sql, json.dumps(self.batch()))
            self.world.recent.extend(row[0] for row in rows or [])
            return
        ids: list[int] = []
        transaction = self.connection.transaction()
        await transaction.start()
        try:
            for _ in range(self.rng.choice([2, 3])):
                ids += [row[0] for row in await self.connection.fetch(sql, json.dumps(self.batch()))]
                await asyncio.sleep(self.rng.random() * 0.01)
        except asyncpg.PostgresError as error:
            self.world.note("defer in a transaction", error)
            await transaction.rollback()
            return
        if self.rng.random() < 0.15:
            await transaction.rollback()
        else:
            await transaction.commit()
            self.world.recent.extend(ids)
            self.world.done["defer in a transaction"] += 1

    async def work(self, *, drain: bool = False) -> bool:
        queues = None if drain or self.rng.random() < 0.5 else self.rng.choice([["default"], ["other", "third"]])
        rows = await self.call("fetch", FETCH, queues, self.worker_id, self.rng.choice([1, 3, 10, 30])) or []
        self.held += [(row[0], row[1]) for row in rows]
        self.world.running.extend(row[0] for row in rows)
        self.world.done["started"] += len(rows)
        if rows and not drain and self.rng.random() < 0.3:
            await asyncio.sleep(self.rng.random() * 0.005)
        if self.held and (drain or len(self.held) > 20 or self.rng.random() < 0.8):
            await self.finish(drain=drain)
        return bool(rows)

    async def finish(self, *, drain: bool) -> None:
        self.rng.shuffle(self.held)
        count = self.rng.choice([1, 3, len(self.held), len(self.held)])
        part, self.held = self.held[:count], self.held[count:]
        weights = [70, 18, 4, 3, 0 if drain else 5]
        kinds = ["succeeded", "failed", "aborted", "cancelled", "todo"]
        statuses = self.rng.choices(kinds, weights, k=len(part))
        if not drain and self.rng.random() < 0.03:
            part = [(job, claim - 1) for job, claim in part]  # a worker that lost its jobs
        retries = {str(job): {"queue": "other"} for job, _ in part if self.rng.random() < 0.3}
        rows = await self.call(
            "finish",
            f"SELECT job_id, refused FROM {SCHEMA}.finish_jobs($1, $2, $3, $4::text[]::jsonb[], $5, $6::text::jsonb)",
            [job for job, _ in part],
            [claim for _, claim in part],
            statuses,
            [None] * len(part),
            [None] * len(part),
            json.dumps(retries),
        )
        claims = dict(part)
        if rows is None:
            self.held += part
        else:
            self.held += [(row[0], claims[row[0]]) for row in rows if row[1] == "busy"]

    async def edges(self) -> None:
        jobs = self.world.pick(self.rng.choice([2, 3]))
        if self.rng.random() < 0.7:
            # most jobs at hand have started or are gone: one that still waits, and parents that are still there
            rows = await self.call("look", LOOK, self.rng.choice([1, 1, 2]))
            jobs = [row[0] for row in rows or []]
        if len(jobs) < 2:
            return
        child = jobs[0] if self.rng.random() < 0.3 else max(jobs)
        parents = [job for job in jobs if job != child]
        if self.rng.random() < 0.6:
            await self.call("add edges", f"SELECT {SCHEMA}.add_dependencies($1, $2)", child, parents)
            return
        # a todo child stays todo when an edge goes, so its rule proves nothing from here on
        await self.call("note", "INSERT INTO excused VALUES ($1)", child)
        if self.rng.random() < 0.5:
            rows = await self.call(
                "parents", f"SELECT parent_id FROM {SCHEMA}.job_dependencies WHERE child_id = $1", child
            )
            known = [row[0] for row in rows or []]
            await self.call("remove edges", f"SELECT {SCHEMA}.remove_dependencies($1, $2)", child, known[:2])
        else:
            await self.call("delete edges", f"DELETE FROM {SCHEMA}.job_dependencies WHERE child_id = $1", child)

    async def by_hand(self) -> None:
        kind, jobs = self.rng.random(), self.world.pick(self.rng.choice([1, 2, 4]))
        table, edges = f"{SCHEMA}.jobs", f"{SCHEMA}.job_dependencies"
        if kind < 0.25:
            await self.call(
                "plain end",
                f"UPDATE {table} SET status = (ARRAY['succeeded', 'failed', 'cancelled', 'aborted'])"
                f"[1 + floor(random() * 4)::int]::{SCHEMA}.job_status"
                " WHERE id = ANY ($1) AND status IN ('blocked', 'todo', 'doing')",
                jobs,
            )
        elif kind < 0.5:
            await self.call(
                "plain revival",
                f"UPDATE {table} SET status = 'todo'"
                " WHERE id = ANY ($1) AND status IN ('succeeded', 'failed', 'cancelled', 'aborted')",
                jobs,
            )
        elif kind < 0.6:
            await self.call(
                "plain reschedule",
                f"UPDATE {table} SET scheduled_at = now() + $2::float8 * interval '1 s'"
                " WHERE id = ANY ($1) AND status = 'todo'",
                jobs,
                self.rng.choice([-1.0, 0.05, 0.5]),
            )
        elif kind < 0.7:
            await self.call(
                "plain move",
                f"UPDATE {table} SET lock = $2, priority = $3 WHERE id = ANY ($1) AND status = 'todo'",
                jobs,
                f"lock {self.rng.randint(1, 12)}",
                self.rng.randint(0, 3),
            )
        elif kind < 0.85:
            await self.call("delete", f"DELETE FROM {table} WHERE id = ANY ($1)", jobs)
        else:
            await self.call(
                "delete many",
                f"DELETE FROM {table} WHERE id = ANY ($1)"
                f" OR id IN (SELECT child_id FROM {edges} WHERE parent_id = ANY ($1) AND random() < .5)"
                f" OR id IN (SELECT parent_id FROM {edges} WHERE child_id = ANY ($1) AND random() < .2)",
                jobs,
            )

    async def operate(self) -> None:
        kind, jobs = self.rng.random(), self.world.pick(1)
        if not jobs:
            return
        if kind < 0.35:
            await self.call("cancel", f"SELECT {SCHEMA}.cancel_job($1, $2)", jobs[0], self.rng.random() < 0.5)
        elif kind < 0.75:
            reset = self.rng.random() < 0.8
            if not reset:
                # its dependents stay as they were decided, whatever it ends as the next time
                await self.call(
                    "note",
                    f"INSERT INTO excused SELECT child_id FROM {SCHEMA}.job_dependencies WHERE parent_id = $1",
                    jobs[0],
                )
            await self.call(
                "retry",
                f"SELECT {SCHEMA}.retry_job($1, reset_dependents => $2, ignore_dependencies => $3)",
                jobs[0],
                reset,
                self.rng.random() < 0.1,
            )
        elif kind < 0.85:
            await self.call("prune", f"SELECT {SCHEMA}.prune_jobs('1 s', '{{succeeded,failed}}', NULL, 20)")
        elif kind < 0.92:
            await self.call("pause", f"SELECT {SCHEMA}.pause_queue('third')")
        else:
            await self.call("resume", f"SELECT {SCHEMA}.resume_queue('third')")

    async def lose_worker(self) -> None:
        """Dies: declared lost, its jobs are rescued; whatever it held it can no longer end."""
        table = f"{SCHEMA}.workers"
        await self.call(
            "lose", f"UPDATE {table} SET heartbeat_at = now() - interval '1 h' WHERE id = $1", self.worker_id
        )
        await self.call("rescue", f"SELECT * FROM {SCHEMA}.rescue_jobs('30 min', 1000)")
        self.held = []
        self.worker_id = await register(self.connection)

    async def step(self) -> None:
        kind = self.rng.random()
        if kind < 0.26 and self.world.live < MAX_LIVE_JOBS:
            await self.defer()
        elif kind < 0.76:
            await self.work()
        elif kind < 0.82:
            await self.operate()
        elif kind < 0.87:
            await stress_workflows.play(self)
        elif kind < 0.91:
            await self.edges()
        elif kind < 0.99:
            await self.by_hand()
        else:
            await self.lose_worker()


async def register(connection: asyncpg.Connection[Any]) -> int:
    worker_id: int = await connection.fetchval(
        f"SELECT {SCHEMA}.register_worker('stress', 'localhost', 1, NULL, 1, '0')"
    )
    return worker_id


@contextlib.asynccontextmanager
async def client_of(world: World) -> AsyncIterator[Client]:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(world.dsn)
    try:
        yield Client(world, connection, await register(connection))
    finally:
        await connection.close()


async def run_client(world: World) -> None:
    async with client_of(world) as client:
        while not world.stopping:
            await client.step()
        while client.held:
            await client.finish(drain=True)


async def check(world: World, connection: asyncpg.Connection[Any]) -> None:
    rows = await connection.fetch(f"SELECT * FROM {SCHEMA}.violations()")
    world.violations += [str(tuple(row)) for row in rows]
    world.done["checks"] += 1
    world.live = await connection.fetchval(
        f"SELECT count(*) FROM {SCHEMA}.jobs WHERE status IN ('blocked', 'todo', 'doing')"
    )


async def drain(world: World) -> None:
    """Runs all that is left: whatever still waits then would wait for ever."""
    async with client_of(world) as client:
        await client.call("resume", f"SELECT {SCHEMA}.resume_queue('third')")
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            while await client.work(drain=True) or client.held:
                pass
            await client.call(
                "lose", f"UPDATE {SCHEMA}.workers SET heartbeat_at = now() - interval '1 h' WHERE id <> $1",
                client.worker_id,
            )  # fmt: skip
            rows = await client.call("rescue", f"SELECT * FROM {SCHEMA}.rescue_jobs('30 min', 1000)")
            wait = await client.call("next due", f"SELECT {SCHEMA}.next_due(NULL)")
            if not rows and wait and wait[0][0] is None:
                break
            await asyncio.sleep(min(wait[0][0] or 0.0, 1.0) if wait else 0.0)
        await check(world, client.connection)
        for row in await client.connection.fetch(
            f"SELECT status::text, gate::text, count(*), min(id) FROM {SCHEMA}.jobs"
            " WHERE status IN ('blocked', 'todo', 'doing') GROUP BY 1, 2"
        ):
            world.violations.append(f"left over: {tuple(row)}")
        for row in await client.connection.fetch("SELECT * FROM starts WHERE early"):
            world.violations.append(f"started before its parents had ended: {tuple(row)}")
        for row in await client.connection.fetch(
            "SELECT * FROM starts WHERE unmet AND job_id NOT IN (SELECT child_id FROM excused)"
        ):
            world.violations.append(f"started against its rule: {tuple(row)}")
        for row in await client.connection.fetch(
            "SELECT job_id, claim, count(*) FROM starts GROUP BY 1, 2 HAVING count(*) > 1"
        ):
            world.violations.append(f"claimed twice: {tuple(row)}")


async def stress(dsn: str, seconds: float, seed: int, clients: int = 16) -> World:
    world = World(dsn, random.Random(seed))
    connection: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
    await connection.execute(LOG)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(run_client(world))
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and not world.violations and not world.unexpected:
                await asyncio.sleep(0.5)
                await check(world, connection)
            world.stopping = True
        await drain(world)
    finally:
        await connection.close()
    return world


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dsn")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    world = asyncio.run(stress(options.dsn, options.seconds, options.seed, options.clients))
    print(f"seed {options.seed}\ndone {dict(world.done)}\nerrors {dict(world.errors)}")
    for line in (*world.violations, *world.unexpected[:10]):
        print("VIOLATION", line)
    print("FAIL" if world.violations or world.unexpected else "PASS")
    sys.exit(bool(world.violations or world.unexpected))


if __name__ == "__main__":
    main()
