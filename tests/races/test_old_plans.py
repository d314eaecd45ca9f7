"""Plans are kept for as long as a session lasts, or until a table is analysed: those made while the tables were all but
empty must not read whole tables when these have grown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.races.sessions import job
from tests.races.workflow_sessions import graph, retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.races.sessions import Race, Session

BLOCKED = 3000
# What EXPLAIN says of it are the sizes of the tables as they were when it was planned.
CANARY = "SELECT FROM jobs WHERE status = 'blocked'"
TABLES = ("jobs", "job_blocks", "job_dependencies", "workflows", "workflow_deltas")
READ = "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables WHERE schemaname = 'procrastinate_deps'"


async def a_small_graph(session: Session) -> tuple[int, list[int]]:
    rule = {"run_when": "all_succeeded"}
    return await graph(session, job(), job(after=[0], **rule), job(after=[1], **rule), job(after=[0, 2], **rule))


async def fails(session: Session) -> None:
    _, [root, *_] = await a_small_graph(session)
    assert await session.fetch() == [root]
    assert await session.finish({root: "failed"}) == {}


async def succeeds(session: Session) -> None:
    _, [root, *_] = await a_small_graph(session)
    assert await session.fetch() == [root]
    assert await session.finish({root: "succeeded"}) == {}
    [child] = await session.fetch()
    assert await session.finish({child: "succeeded"}) == {}


async def is_retried(session: Session) -> None:
    _, [root, *_] = await a_small_graph(session)
    assert await session.fetch() == [root]
    assert await session.finish({root: "failed"}) == {}
    await session.retry(root)


async def is_retried_as_a_whole(session: Session) -> None:
    for mode in ("failed", "failed_and_downstream", "all"):
        workflow, [root, *_] = await a_small_graph(session)
        assert root in await session.fetch()
        assert await session.finish({root: "failed"}) == {}
        assert await retry(session, workflow, mode) > 0


async def is_explained(session: Session) -> None:
    _, ids = await a_small_graph(session)
    assert await session.value("SELECT explain_job($1)", ids[-1])


@pytest.mark.parametrize("way", [fails, succeeds, is_retried, is_retried_as_a_whole, is_explained])
async def test_an_old_plan_reads_no_whole_table(quiet_race: Race, way: Callable[[Session], Awaitable[None]]) -> None:
    race = quiet_race
    for table in TABLES:
        # one that comes while the tables grow would have the plans made anew
        await race.eye.do(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    # of its statistics: empty
    await race.eye.do(f"VACUUM (ANALYZE) {', '.join(TABLES)}")
    await race.a.do(f"PREPARE canary AS {CANARY}")
    planned = await race.a.do("EXPLAIN EXECUTE canary")
    await race.a.begin()
    await way(race.a)
    few = await race.a.value(READ)
    await race.a.rollback()

    await race.eye.defer(job(queue="elsewhere"), *[job(after=[0], queue="elsewhere")] * BLOCKED)
    await race.eye.do("UPDATE jobs SET scheduled_at = now() + interval '1 day' WHERE status = 'todo'")
    await race.a.begin()
    await way(race.a)
    many = await race.a.value(READ)
    assert await race.a.do("EXPLAIN EXECUTE canary") == planned, "the server has forgotten the old plans"
    assert many < few + BLOCKED // 2, "all that is blocked was read"
    await race.a.rollback()
    await race.assert_sound()
