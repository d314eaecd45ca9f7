"""Fetching past the index entries of jobs that were claimed, which stay as long as anyone holds an old snapshot."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.semantics.database import SCHEMA, Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

HINT = "procrastinate_deps_internal.begin_at"
CONSUMED = 20_000
FINISH_ALL = f"""
    SELECT count(*) FROM {SCHEMA}.finish_jobs(
        (SELECT array_agg(id) FROM {SCHEMA}.jobs WHERE status = 'doing'),
        (SELECT array_agg(claim) FROM {SCHEMA}.jobs WHERE status = 'doing'),
        (SELECT array_agg('succeeded'::text) FROM {SCHEMA}.jobs WHERE status = 'doing'),
        (SELECT array_agg(NULL::jsonb) FROM {SCHEMA}.jobs WHERE status = 'doing'),
        (SELECT array_agg(NULL::text) FROM {SCHEMA}.jobs WHERE status = 'doing'))
"""


async def add(db: Database, count: int, queue: str = "default", priority: int = 0) -> list[int]:
    sql = f"""
        SELECT {SCHEMA}.defer_jobs(jsonb_agg(
            jsonb_build_object('task_name', 'task', 'queue', $2::text, 'priority', $3::integer)))
        FROM generate_series(1, $1)
    """
    ids: list[int] = await db.value(sql, count, queue, priority)
    return ids


async def hint(db: Database) -> dict[str, Any] | None:
    kept = await db.value(f"SELECT current_setting('{HINT}', true)")
    found: dict[str, Any] | None = json.loads(kept) if kept else None
    return found


async def prolong(db: Database, by_s: float = 3600) -> None:
    """The hint's time is not over before the test is; or it is over now."""
    kept = await hint(db)
    assert kept is not None, "no dead entries were skipped"
    await db.execute(f"SELECT set_config('{HINT}', $1, false)", json.dumps(kept | {"until": time.time() + by_s}))


async def pages(db: Database, n: int, queues: Sequence[str] | None = None) -> tuple[int, list[int]]:
    """How many pages of the index a fetch reads, and what it fetches."""
    async with db.transaction():
        before = await db.value(f"SELECT {SCHEMA}.fetch_pages_read()")
        fetched = await db.fetch(n, queues)
        return await db.value(f"SELECT {SCHEMA}.fetch_pages_read()") - before, fetched


@pytest.fixture
async def snapshot(dsn: str, db: Database) -> AsyncIterator[None]:
    """Someone holds one from before anything was deferred."""
    async with Database.open(dsn) as someone, someone.transaction("repeatable_read"):
        await someone.count()
        yield


async def consume(db: Database, *queues: str) -> None:
    for queue in queues:
        await add(db, CONSUMED // len(queues), queue)
    while await db.fetch(5000):
        await db.value(FINISH_ALL)


@pytest.fixture
async def dead(db: Database, snapshot: None) -> None:
    await consume(db, "default")


@pytest.fixture
async def dead_in_two(db: Database, snapshot: None) -> None:
    await consume(db, "a", "b")


@pytest.mark.usefixtures("dead")
@pytest.mark.parametrize("queues", [None, ["default"], ["default", "empty"]])
async def test_a_fetch_reads_few_pages_and_everything_is_found(db: Database, queues: list[str] | None) -> None:
    ids = await add(db, 200)
    first, fetched = await pages(db, 10, queues)
    assert first > 80, "there are no dead entries: this test says nothing"
    await prolong(db)
    found = list(fetched)
    while True:
        read, fetched = await pages(db, 10, queues)
        found += fetched
        if len(fetched) < 10:
            break
        assert read < 24
    assert found == ids
    # what finds less than it wants has looked from the start
    assert read > 80


@pytest.mark.usefixtures("dead")
async def test_its_time_is_over_after_a_second_at_most(db: Database) -> None:
    await add(db, 20_000)  # more than can be fetched in that second
    before = time.time()
    await db.fetch(1)
    kept = await hint(db)
    assert kept is not None
    assert kept["until"] <= time.time() + 1
    urgent = (await add(db, 1, priority=5))[0]
    with anyio.fail_after(20):
        while (await db.fetch(1)) != [urgent]:
            pass
    assert time.time() - before < 10
    assert await db.fetch(1000) != []


@pytest.mark.usefixtures("dead")
async def test_what_comes_in_before_the_place_waits_for_the_next_full_look(db: Database) -> None:
    ids = await add(db, 100)
    assert await db.fetch(1) == ids[:1]
    await prolong(db)
    urgent = (await add(db, 1, priority=5))[0]
    assert await db.fetch(1) == ids[1:2]
    await prolong(db, by_s=-1)
    assert await db.fetch(1) == [urgent]
    # and then strictly in order again
    assert await db.fetch(2) == ids[2:4]


@pytest.mark.usefixtures("dead")
async def test_a_fetch_that_finds_too_little_looks_from_the_start_at_once(db: Database) -> None:
    ids = await add(db, 3)
    assert await db.fetch(1) == ids[:1]
    await prolong(db)
    urgent = await add(db, 2, priority=5)
    assert sorted(await db.fetch(10)) == sorted([*ids[1:], *urgent])
    assert await db.fetch(10) == []


@pytest.mark.usefixtures("dead")
@pytest.mark.parametrize("how", ["promoted", "retried", "released", "resumed", "revived"])
async def test_older_jobs_that_become_runnable_are_found(db: Database, how: str) -> None:
    match how:
        case "promoted":
            older = await db.defer(queue="default", scheduled_at="2100-01-01T00:00:00Z")
        case "released":
            parent = await db.defer(queue="other")
            older = await db.defer(parent, queue="default")
            await db.start(parent)
        case "resumed":
            older = await db.defer(queue="paused")
            await db.pause("paused")
        case _:
            older = await db.defer(queue="other")
            await db.start(older)
    ids = await add(db, 20)
    assert await db.fetch(1) == ids[:1]
    await prolong(db)
    match how:
        case "promoted":
            await db.execute("SET session_replication_role = replica")
            await db.execute(f"UPDATE {SCHEMA}.jobs SET scheduled_at = now() - interval '1 s' WHERE id = $1", older)
            await db.execute("SET session_replication_role = origin")
        case "retried":
            assert await db.finish({older: "todo"}, retries={older: {"queue": "default"}}) == {}
        case "released":
            assert await db.finish({parent: "succeeded"}) == {}
        case "resumed":
            await db.resume("paused")
        case "revived":
            assert await db.finish({older: "failed"}) == {}
            await db.retry(older, queue="default")
    # Those that are left are not enough for this one.
    assert sorted(await db.fetch(20)) == sorted([older, *ids[1:]])


@pytest.mark.usefixtures("dead_in_two")
@pytest.mark.parametrize("queues", [None, ["a", "b"]])
async def test_several_queues_are_served_in_one_order(db: Database, queues: list[str] | None) -> None:
    ids = []
    for _ in range(30):
        ids += [await db.defer(queue="a"), await db.defer(queue="b")]
    read, found = await pages(db, 4, queues)
    assert read > 60
    await prolong(db)
    while len(found) < len(ids):
        read, fetched = await pages(db, 4, queues)
        assert read < 40
        found += fetched
    assert found == ids


@pytest.mark.usefixtures("dead_in_two")
@pytest.mark.parametrize("queues", [None, ["a", "b"]])
async def test_a_queue_that_is_paused_meanwhile_is_left_alone(db: Database, queues: list[str] | None) -> None:
    ids = {queue: await add(db, 20, queue) for queue in ("a", "b")}
    assert await db.fetch(2, queues) == ids["a"][:2]
    await prolong(db)
    await db.pause("a")
    assert await db.fetch(5, queues) == ids["b"][:5]
    await db.pause("b")
    await add(db, 2, "c")
    # Where all queues of the hint are paused, others are looked for.
    assert len(await db.fetch(1, queues)) == (1 if queues is None else 0)
    await db.resume("a")
    await prolong(db) if await hint(db) else None
    assert set(await db.fetch(100, queues)) >= set(ids["a"][2:])


@pytest.mark.usefixtures("dead_in_two")
async def test_the_hint_of_a_session_is_for_one_list_of_queues(db: Database) -> None:
    """Sessions are shared, where there is a pooler."""
    ids = {queue: await add(db, 20, queue) for queue in ("a", "b")}
    assert await db.fetch(1, ["a"]) == ids["a"][:1]
    await prolong(db)
    urgent = {queue: (await add(db, 1, queue, priority=5))[0] for queue in ("a", "b")}
    assert await db.fetch(1, ["b"]) == [urgent["b"]]
    # which has made the session forget the other one
    assert await db.fetch(1, ["a"]) == [urgent["a"]]
    assert await db.fetch(1) == ids["a"][1:2]


@pytest.mark.usefixtures("dead")
async def test_jobs_with_locks_that_were_left_stay_in_reach(db: Database) -> None:
    ids = await add(db, 2)
    locked = await db.defer(queue="default", lock="one")
    more = await add(db, 50)
    assert await db.fetch(1) == ids[:1]
    await prolong(db)
    sql = f"SELECT id, claim FROM {SCHEMA}.fetch_jobs(NULL, $1, 3, true)"
    fetched = [row["id"] for row in await db.rows(sql, db.worker)]
    assert fetched == [ids[1], more[0]]
    assert await db.fetch(2) == [locked, more[1]]


@pytest.mark.parametrize("queues", [None, "all of them"])
@pytest.mark.parametrize(("count", "wanted"), [(60, 10), (1, 4000)])
async def test_without_dead_entries_the_order_is_strict(
    db: Database, count: int, wanted: int, queues: str | None
) -> None:
    """However many queues there are, and however many jobs are fetched."""
    names = [f"a queue with a rather long name, number {n}" for n in range(count)]
    for name in names:
        await add(db, 6000 // count, name)
    await db.execute("VACUUM ANALYZE procrastinate_deps.jobs")
    wanted_queues = None if queues is None else names
    assert len(await db.fetch(wanted, wanted_queues)) == wanted
    assert await hint(db) is None
    urgent = (await add(db, 1, names[-1], priority=5))[0]
    assert await db.fetch(1, wanted_queues) == [urgent]
