"""Ends and fetches in one statement, beside other sessions that do the same."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.races.sessions import DEADLINE_S, JOBS, SCHEMA, job

if TYPE_CHECKING:
    from tests.races.sessions import Race, Session

MARK = "nothing more is to come"


class Heard:
    """The queues in which one session hears that there is something to do."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._heard: list[str] = []
        self._marked = anyio.Event()

    @classmethod
    async def by(cls, session: Session) -> Heard:
        heard = cls(session)
        await session.connection.add_listener(SCHEMA, heard._hear)
        return heard

    def _hear(self, connection: object, pid: int, channel: str, payload: object) -> None:
        if payload == MARK:
            self._marked.set()
        else:
            self._heard.append(str(payload))

    async def queues(self) -> list[str]:
        """Of the transactions that are committed by now."""
        await self._session.do("SELECT pg_notify($1, $2)", SCHEMA, MARK)
        with anyio.fail_after(DEADLINE_S):
            await self._marked.wait()
        messages = [json.loads(payload) for payload in self._heard]
        return [message["queue"] for message in messages if message["type"] == "job_ready"]


# Locks


async def test_an_exchange_waits_for_no_fetch_that_takes_a_lock(race: Race) -> None:
    """It holds the rows of its ends meanwhile: two that waited so for each other would be a deadlock."""
    [running] = await race.running()
    first, second, free = await race.deferred(job(lock="L"), job(lock="L"), job(priority=-1))
    await race.a.begin()
    assert await race.a.fetch(1) == [first]
    exchange = race.start(race.b, race.b.exchange({running: "succeeded"}))
    fetched, left = await exchange.passes()
    assert (fetched, left) == ([free], True)
    await race.a.commit()
    assert await race.statuses(running, first, second) == ["succeeded", "doing", "todo"]
    await race.settled()


async def test_exchanges_of_jobs_with_locks_of_each_other(race: Race) -> None:
    """Each ends the job that has the lock of which the other one sees the next."""
    one, other = [(await race.running(lock=lock))[0] for lock in ("L", "M")]
    await race.deferred(*[job(lock=lock) for lock in ("M", "L", "M", "L")])
    await race.a.begin()
    assert await race.a.exchange({one: "succeeded"}) == ([], True)
    # The first one has looked at the job that the lock is handed to, but waits for nobody in its turn.
    exchange = race.start(race.b, race.b.exchange({other: "succeeded"}))
    race.step(not await exchange.over_or_waiting(), "it waits for the head of the line")
    await race.a.commit()
    assert await exchange.done() == ([], True)
    assert len(await race.eye.fetch()) == 2
    await race.settled()


# Announcements


async def test_what_an_exchange_takes_is_announced_to_nobody(race: Race) -> None:
    [running] = await race.running()
    child, delayed = await race.deferred(job(running), job(running, queue="other"))
    heard = await Heard.by(race.c)
    assert await race.a.exchange({running: "succeeded"}) == ([child, delayed], False)
    assert await heard.queues() == []
    await race.settled()


async def test_what_an_exchange_leaves_is_announced(race: Race) -> None:
    [running] = await race.running()
    ids = await race.deferred(job(running), job(running))
    heard = await Heard.by(race.c)
    assert await race.a.exchange({running: "succeeded"}, 1) == (ids[:1], False)
    assert await heard.queues() == ["default"], "nobody hears of the job that was left"
    await race.settled()


async def test_what_an_exchange_leaves_because_of_its_lock_is_announced(race: Race) -> None:
    [running] = await race.running()
    free, _ = await race.deferred(job(running), job(running, lock="L"))
    heard = await Heard.by(race.c)
    assert await race.a.exchange({running: "succeeded"}) == ([free], True)
    assert await heard.queues() == ["default"], "nobody hears of the job that was left"
    await race.settled()


async def test_what_is_in_queues_of_others_is_announced(race: Race) -> None:
    [running] = await race.running()
    mine, _ = await race.deferred(job(running, queue="mine"), job(running, queue="other"))
    heard = await Heard.by(race.c)
    assert await race.a.exchange({running: "succeeded"}, queues=["mine"]) == ([mine], False)
    assert await heard.queues() == ["other"], "nobody hears of the job that was left"
    await race.settled()


@pytest.mark.parametrize("how", ["child", "retry"])
async def test_what_has_a_time_to_wait_for_is_announced(race: Race, how: str) -> None:
    """Every worker sets its own alarm: the one that made the exchange may be gone by then."""
    [running] = await race.running()
    if how == "child":
        await race.deferred(job(running, scheduled_at="2100-01-01T00:00:00Z"))
        heard = await Heard.by(race.c)
        assert await race.a.exchange({running: "succeeded"}, queues=["default"]) == ([], False)
        queue = "default"
    else:
        heard = await Heard.by(race.c)
        retries = {running: {"retry_at": "2100-01-01T00:00:00Z"}}
        await race.a.begin()
        await race.a.do("SELECT set_config('procrastinate_deps_internal.unannounced', '{}', true)")
        assert await race.a.finish({running: "todo"}, retries=retries) == {}
        await race.a.do("SELECT FROM fetch_jobs(ARRAY['running'], $1, 10, true)", race.worker)
        await race.a.commit()
        queue = "running"
    assert await heard.queues() == [queue], "nobody hears of the job that waits for its time"
    await race.assert_sound()


async def test_what_is_hidden_behind_rows_that_others_hold_is_announced(race: Race) -> None:
    """It looks at so many jobs that others hold that it doesn't come to its own."""
    [running] = await race.running()
    held = await race.deferred(*[job(queue=queue) for queue in ("default", "other")] * 20)
    [child] = await race.deferred(job(running))
    heard = await Heard.by(race.c)
    await race.a.begin()
    assert await race.a.fetch(100, ["default", "other"]) == held
    fetched, _ = await race.start(race.b, race.b.exchange({running: "succeeded"}, 1, ["default", "other"])).passes()
    await race.a.commit()
    assert fetched == [child] or await heard.queues() == ["default"], "nobody hears of the job that was left"
    await race.settled()


# Dead entries


async def test_a_fetch_that_is_led_astray_finds_what_there_is(race: Race) -> None:
    """Its session's hint says that it begins behind the last job."""
    first, last = await race.deferred(job(), job())
    hint = {"schema": SCHEMA, "queues": None, "until": time.time() + 3600, "places": {"default": [-1, last]}}
    for session in (race.eye, race.a):
        await session.do("SELECT set_config('procrastinate_deps_internal.begin_at', $1, false)", json.dumps(hint))
    assert await race.a.fetch(1) == [first], "left where nobody looks"
    await race.settled()
    assert await race.eye.value(f"SELECT count(*) FROM {JOBS} WHERE status = 'succeeded'") == 2
