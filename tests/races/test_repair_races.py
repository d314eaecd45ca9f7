"""Repairing while everything goes on: it does nothing to a healthy database, and mends one that is being damaged."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from procrastinate_deps.invariants import INVARIANTS
from tests.races.stress import LOG, SCHEMA, World, drain, run_client, stress
from tests.races.test_stress import CLIENTS, DRAIN_S, SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SWEEPS = (("sweep_blocked", 0), ("sweep_locks", ""), ("sweep_workflows", 0))
SOMEBODY_ELSE = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)


class Repairer:
    """Sweeps, and mends whatever anybody may think broken, as fast as it can."""

    def __init__(self, dsn: str, seed: int) -> None:
        self.dsn = dsn
        self.rng = random.Random(seed)
        self.repaired: Counter[str] = Counter()
        self.rounds = 0
        self.stopping = False

    async def sweep(self, connection: asyncpg.Connection[Any]) -> None:
        for name, start in SWEEPS:
            after = start
            while after is not None:
                row = await connection.fetchrow(f"SELECT reached, repaired::text FROM {SCHEMA}.{name}($1, 50)", after)
                assert row is not None
                after = row["reached"]
                if row["repaired"] != "{}":
                    self.repaired[f"{name}: {row['repaired']}"] += 1

    async def repair_anything(self, connection: asyncpg.Connection[Any]) -> None:
        """As if all jobs were broken in every way."""
        ids = [row[0] for row in await connection.fetch(f"SELECT id FROM {SCHEMA}.jobs ORDER BY random() LIMIT 40")]
        invariant = self.rng.choice(INVARIANTS)
        mended = await connection.fetchval(f"SELECT {SCHEMA}.repair($1, $2, 50)", invariant, ids)
        if mended:
            self.repaired[f"{invariant}: {mended}"] += 1

    async def run(self, *steps: Callable[[asyncpg.Connection[Any]], Awaitable[None]]) -> None:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(self.dsn)
        try:
            while not self.stopping:
                for step in steps:
                    with contextlib.suppress(*SOMEBODY_ELSE):
                        await step(connection)
                self.rounds += 1
                await asyncio.sleep(0)
        finally:
            await connection.close()


@pytest.mark.timeout(SECONDS + DRAIN_S)
async def test_nothing_is_repaired_in_a_healthy_database(dsn: str) -> None:
    repairer = Repairer(dsn, 7)
    async with asyncio.TaskGroup() as group:
        group.create_task(repairer.run(repairer.sweep, repairer.repair_anything))
        world = await stress(dsn, SECONDS, 11, CLIENTS)
        repairer.stopping = True
    assert repairer.repaired == {}
    assert repairer.rounds > 10
    assert not world.violations, world.violations[:10]
    assert not world.unexpected, world.unexpected[:10]
    assert world.done["started"] > 0


async def break_something(connection: asyncpg.Connection[Any]) -> None:
    """Jobs that wait for one parent more than they have, and locks that nobody has: both would stand for ever."""
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(f"UPDATE {SCHEMA}.job_blocks SET live = live + 1 WHERE random() < 0.2")
    await connection.execute(f"DELETE FROM {SCHEMA}.locks WHERE random() < 0.2")
    await asyncio.sleep(0.05)


@pytest.mark.timeout(SECONDS + DRAIN_S)
async def test_what_is_damaged_while_everything_runs_is_mended(dsn: str) -> None:
    """When the damage ends and one more repair is done, nothing is broken, and whatever waits runs to its end."""
    world = World(dsn, random.Random(13))
    breaker, repairer = Repairer(dsn, 1), Repairer(dsn, 2)
    connection: asyncpg.Connection[Any] = await asyncpg.connect(dsn)
    try:
        await connection.execute(LOG)
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(run_client(world))
            group.create_task(breaker.run(break_something))
            group.create_task(repairer.run(repairer.sweep))
            await asyncio.sleep(SECONDS / 2)
            world.stopping = breaker.stopping = repairer.stopping = True
        assert repairer.repaired
        for _ in range(10):
            broken = await connection.fetch(
                f"SELECT invariant, array_agg(id) AS ids FROM {SCHEMA}.broken_invariants() GROUP BY invariant"
            )
            if not broken:
                break
            for row in broken:
                await connection.fetchval(f"SELECT {SCHEMA}.repair($1, $2)", row["invariant"], row["ids"])
    finally:
        await connection.close()
    # two that ran with one lock, since the damage gave it to both, have ended by now
    await drain(world)
    assert not world.violations, world.violations[:10]
    assert not world.unexpected, world.unexpected[:10]
    assert world.done["started"] > 0
