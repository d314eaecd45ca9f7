"""The lines of locks: granted, parked, handed over, paused and left, by several sessions at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.races.sessions import job

if TYPE_CHECKING:
    from tests.races.sessions import Race

PARKED, FUTURE = "todo/lock", "todo/scheduled"
# what can take a parked job out of its line
LEAVE = {
    "cancel": ("SELECT cancel_job($1)", "cancelled:manual"),
    "delete": ("DELETE FROM jobs WHERE id = $1", None),
    "reschedule": ("UPDATE jobs SET scheduled_at = now() + interval '1 h' WHERE id = $1", FUTURE),
}


async def line(race: Race, *queues: str) -> list[int]:
    """A running job that has the lock, and one per queue parked behind it."""
    [holder] = await race.running(lock="L")
    parked = await race.deferred(*[job(lock="L", queue=queue) for queue in queues])
    assert await race.eye.fetch() == []
    assert await race.statuses(*parked) == [PARKED] * len(parked)
    return [holder, *parked]


async def holder_of(race: Race, lock: str = "L") -> int | None:
    holder: int | None = await race.eye.value("SELECT job_id FROM locks WHERE lock = $1", lock)
    return holder


async def everything_may_start(race: Race) -> None:
    await race.eye.do("UPDATE jobs SET scheduled_at = NULL WHERE status = 'todo' AND scheduled_at IS NOT NULL")


@pytest.mark.parametrize("leave", LEAVE)
async def test_the_head_of_a_line_leaves_while_the_lock_is_handed_over(race: Race, leave: str) -> None:
    sql, status = LEAVE[leave]
    holder, head, next_ = await line(race, "default", "default")
    await race.a.begin()
    await race.a.do(sql, head)
    end = race.start(race.b, race.b.finish({holder: "succeeded"}))
    await end.waits()
    await race.a.commit()
    assert await end.done() == {}
    await race.assert_sound()
    assert await race.statuses(head, next_) == [status, "todo"]
    assert await holder_of(race) == next_
    await everything_may_start(race)
    await race.settled()


@pytest.mark.parametrize("leave", LEAVE)
async def test_the_head_of_a_line_stays_after_all_and_gets_the_lock(race: Race, leave: str) -> None:
    holder, head, next_ = await line(race, "default", "default")
    await race.a.begin()
    await race.a.do(LEAVE[leave][0], head)
    end = race.start(race.b, race.b.finish({holder: "succeeded"}))
    await end.waits()
    await race.a.rollback()
    assert await end.done() == {}
    assert await race.statuses(head, next_) == ["todo", PARKED]
    assert await holder_of(race) == head
    await race.settled()


@pytest.mark.parametrize("leave", LEAVE)
async def test_a_job_leaves_its_line_while_it_is_granted_the_lock(race: Race, leave: str) -> None:
    sql, status = LEAVE[leave]
    holder, head, next_ = await line(race, "default", "default")
    await race.a.begin()
    assert await race.a.finish({holder: "succeeded"}) == {}
    left = race.start(race.b, race.b.do(sql, head))
    await left.waits()
    await race.a.commit()
    await left.done()
    await race.assert_sound()
    assert await race.statuses(head, next_) == [status, "todo"]
    assert await holder_of(race) == next_
    await everything_may_start(race)
    await race.settled()


@pytest.mark.parametrize("leave", LEAVE)
async def test_a_granted_job_leaves_while_it_is_fetched(race: Race, leave: str) -> None:
    """The fetch passes both by: the job that is leaving, and the line that is changing hands."""
    sql, status = LEAVE[leave]
    holder, head, next_ = await line(race, "default", "default")
    assert await race.a.finish({holder: "succeeded"}) == {}
    await race.a.begin()
    await race.a.do(sql, head)
    assert await race.start(race.b, race.b.fetch()).passes() == []
    await race.a.commit()
    assert await race.statuses(head, next_) == [status, "todo"]
    assert await race.b.fetch() == [next_]
    await everything_may_start(race)
    await race.settled()


async def test_two_holders_leave_one_after_the_other_in_open_transactions(race: Race) -> None:
    holder, head, next_ = await line(race, "default", "default")
    await race.a.begin()
    assert await race.a.finish({holder: "succeeded"}) == {}
    cancel = race.start(race.b, race.b.end(head, "cancel"))
    await cancel.waits()
    assert await race.start(race.c, race.c.fetch()).passes() == []
    await race.a.commit()
    await cancel.done()
    assert await holder_of(race) == next_
    await race.settled()


async def test_the_holder_ends_while_a_fetch_parks_behind_it(race: Race) -> None:
    [holder] = await race.running(lock="L")
    [waiting] = await race.deferred(job(lock="L"))
    await race.a.begin()
    assert await race.a.fetch() == []
    end = race.start(race.b, race.b.finish({holder: "succeeded"}))
    await end.waits()
    await race.a.commit()
    assert await end.done() == {}
    await race.assert_sound()
    assert await race.statuses(waiting) == ["todo"]
    await race.settled()


async def test_a_fetch_parks_nothing_while_the_holder_ends(race: Race) -> None:
    [holder] = await race.running(lock="L")
    [waiting] = await race.deferred(job(lock="L"))
    await race.a.begin()
    assert await race.a.finish({holder: "succeeded"}) == {}
    assert await race.start(race.b, race.b.fetch()).passes() == []
    await race.a.commit()
    await race.assert_sound()
    assert await race.statuses(waiting) == ["todo"]
    assert await race.b.fetch() == [waiting]
    await race.settled()


async def test_a_fetch_parks_nothing_behind_a_row_that_is_about_to_go(race: Race) -> None:
    """The finisher found nobody in line; who is deferred now must not be parked behind the row that it deletes."""
    [holder] = await race.running(lock="L")
    await race.a.begin()
    assert await race.a.finish({holder: "succeeded"}) == {}
    [late] = await race.deferred(job(lock="L"))
    assert await race.start(race.b, race.b.fetch()).passes() == []
    await race.a.commit()
    await race.assert_sound()
    assert await race.statuses(late) == ["todo"]
    await race.settled()


async def test_a_fetch_parks_nothing_while_the_finisher_waits_for_the_head(race: Race) -> None:
    holder, head = await line(race, "default")
    await race.c.begin()
    await race.c.end(head, "delete")
    end = race.start(race.a, race.a.finish({holder: "succeeded"}))
    await end.waits()
    [late] = await race.deferred(job(lock="L"))
    assert await race.start(race.b, race.b.fetch()).passes() == []
    await race.c.commit()
    assert await end.done() == {}
    await race.assert_sound()
    assert await race.statuses(late) == ["todo"]
    await race.settled()


async def test_two_fetches_never_run_one_lock_twice(race: Race) -> None:
    """The second waits for the commit of the first, which is just creating the lock's row."""
    one, other = await race.deferred(job(lock="L"), job(lock="L"))
    await race.a.begin()
    assert await race.a.fetch(1) == [one]
    fetch = race.start(race.b, race.b.fetch(1))
    await fetch.waits()
    await race.a.commit()
    assert await fetch.done() == []
    assert await race.b.fetch(1) == []
    assert await race.statuses(one, other) == ["doing", PARKED]
    await race.settled()


async def test_a_fetch_whose_lock_was_taken_and_given_back_is_tried_again(race: Race) -> None:
    one, other = await race.deferred(job(lock="L"), job(lock="L"))
    await race.a.begin()
    assert await race.a.fetch(1) == [one]
    fetch = race.start(race.b, race.b.fetch(1))
    await fetch.waits()
    await race.a.rollback()
    fetched = await fetch.done()
    assert len({*fetched, *await race.b.fetch(2)}) == 1
    await race.assert_sound()
    await race.settled()
    assert await race.statuses(one, other) == ["succeeded", "succeeded"]


# Fetch waits for nobody


async def test_fetch_does_not_wait_for_an_open_cancel_of_another_job_of_the_lock(race: Race) -> None:
    head, next_ = await race.deferred(job(lock="L"), job(lock="L"))
    await race.a.begin()
    await race.a.end(head, "cancel")
    await race.start(race.b, race.b.fetch()).passes()
    await race.a.commit()
    await race.assert_sound()
    assert await race.statuses(next_) == ["todo"]
    assert await race.b.fetch() == [next_]
    await race.settled()


async def test_fetch_does_not_wait_for_an_open_cancel_of_a_parked_job(race: Race) -> None:
    _, head, _ = await line(race, "default", "default")
    [late] = await race.deferred(job(lock="L", priority=9))
    await race.a.begin()
    await race.a.end(head, "cancel")
    assert await race.start(race.b, race.b.fetch()).passes() == []
    await race.a.commit()
    await race.assert_sound()
    assert await race.statuses(late) == ["todo"]
    await race.settled()


async def test_fetch_does_not_wait_for_a_head_that_is_raised_in_another_queue(race: Race) -> None:
    head, mine = await race.deferred(job(lock="L", queue="other", priority=5), job(lock="L"))
    await race.a.begin()
    await race.a.do("UPDATE jobs SET priority = 9 WHERE id = $1", head)
    await race.start(race.b, race.b.fetch(queues=["default"])).passes()
    await race.a.commit()
    await race.assert_sound()
    assert await race.statuses(mine) == ["todo"]
    assert await race.b.fetch() == [head]
    await race.settled()


# Pausing


async def test_a_queue_is_paused_while_a_lock_is_handed_to_it(race: Race) -> None:
    holder, paused, next_ = await line(race, "b", "a")
    await race.a.begin()
    assert await race.a.value("SELECT pause_queue('b')")
    end = race.start(race.b, race.b.finish({holder: "succeeded"}))
    await end.waits()
    await race.a.commit()
    assert await end.done() == {}
    await race.assert_sound()
    assert await race.statuses(next_) == ["todo"]
    assert await holder_of(race) == next_
    assert await race.b.fetch() == [next_]
    assert await race.b.value("SELECT resume_queue('b')")
    await race.settled()
    assert await race.statuses(paused) == ["succeeded"]


async def test_a_lock_is_handed_to_a_queue_while_it_is_paused(race: Race) -> None:
    holder, paused, next_ = await line(race, "b", "a")
    await race.a.begin()
    assert await race.a.finish({holder: "succeeded"}) == {}
    pause = race.start(race.b, race.b.value("SELECT pause_queue('b')"))
    await pause.waits()
    await race.a.commit()
    assert await pause.done()
    await race.assert_sound()
    assert await race.statuses(next_) == ["todo"]
    assert await holder_of(race) == next_
    assert await race.b.value("SELECT resume_queue('b')")
    await race.settled()
    assert await race.statuses(paused) == ["succeeded"]


async def test_a_queue_is_paused_while_a_fetch_grants_it_a_lock(race: Race) -> None:
    """The best of the line stands in the queue that is being paused; the fetch is for another one."""
    head, mine = await race.deferred(job(lock="L", queue="b", priority=5), job(lock="L", queue="a"))
    await race.a.begin()
    assert await race.a.value("SELECT pause_queue('b')")
    assert await race.start(race.b, race.b.fetch(queues=["a"])).passes() == []
    await race.a.commit()
    await race.assert_sound()
    assert await race.b.fetch(queues=["a"]) == [mine]
    assert await race.b.value("SELECT resume_queue('b')")
    await race.settled()
    assert await race.statuses(head) == ["succeeded"]


async def test_a_queue_is_resumed_while_the_holder_of_its_lock_ends(race: Race) -> None:
    holder, parked = await line(race, "b")
    assert await race.a.value("SELECT pause_queue('b')")
    await race.a.begin()
    assert await race.a.finish({holder: "succeeded"}) == {}
    resume = race.start(race.b, race.b.value("SELECT resume_queue('b')"))
    await resume.waits()
    await race.a.commit()
    assert await resume.done()
    await race.assert_sound()
    assert await race.b.fetch() == [parked]
    await race.settled()
