"""Fetches, ends, retries, rescues and heartbeats of several workers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.races.sessions import job

if TYPE_CHECKING:
    from tests.races.sessions import Race

RESCUE = "SELECT job_id, status FROM rescue_jobs('10 min', 3)"


async def rescues(race: Race, *ids: int) -> list[int]:
    rows = await race.eye.do("SELECT rescues FROM jobs WHERE id = ANY ($1) ORDER BY id", list(ids))
    return [row["rescues"] for row in rows]


def rows(result: list[Any]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in result]


# Fetching


@pytest.mark.parametrize("queues", [None, ["default"], ["default", "other"]])
async def test_two_fetches_never_claim_one_job_twice(race: Race, queues: list[str] | None) -> None:
    one, other, _ = await race.deferred(job(), job(), job(queue="other", priority=-1))
    await race.a.begin()
    assert await race.a.fetch(1, queues) == [one]
    fetch = race.start(race.b, race.b.fetch(1, queues))
    race.step(await fetch.over_or_waiting(), "the other one is fetched meanwhile")
    await race.a.commit()
    assert await fetch.done() == [other], "a job was claimed twice"
    await race.settled()


@pytest.mark.parametrize("queues", [["default"], ["default", "other"]])
async def test_fetch_waits_for_no_other_fetch(race: Race, queues: list[str]) -> None:
    await race.deferred(job(), job(queue="other"))
    await race.a.begin()
    assert len(await race.a.fetch(2)) == 2
    assert await race.start(race.b, race.b.fetch(2, queues)).passes() == []
    await race.a.commit()
    await race.settled()


@pytest.mark.parametrize("queues", [None, ["default"], ["default", "other"]])
async def test_a_runnable_job_is_fetched_while_a_child_is_added_to_it(race: Race, queues: list[str] | None) -> None:
    parent, _ = await race.deferred(job(), job(queue="other"))
    await race.a.begin()
    [child] = await race.a.defer(job(parent))
    fetched = await race.start(race.b, race.b.fetch(1, queues)).passes()
    assert fetched == [parent], "the runnable job was passed by"
    await race.a.commit()
    assert await race.statuses(parent, child) == ["doing", "blocked"]
    await race.settled()


@pytest.mark.parametrize("promoted", [False, True])
async def test_a_due_job_is_fetched_while_a_child_is_added_to_it(race: Race, promoted: bool) -> None:
    [parent] = await race.deferred(job(scheduled_at="2100-01-01T00:00:00Z"))
    assert await race.statuses(parent) == ["todo/scheduled"]
    # its time has come, and nobody has opened its gate yet
    await race.eye.do("SET session_replication_role = replica")
    await race.eye.do("UPDATE jobs SET scheduled_at = now() - interval '1 s' WHERE id = $1", parent)
    await race.eye.do("SET session_replication_role = origin")
    assert await race.statuses(parent) == ["todo/scheduled"]
    if promoted:
        await race.b.fetch(0)
        assert await race.statuses(parent) == ["todo"]
    await race.a.begin()
    await race.a.defer(job(parent))
    fetched = await race.start(race.b, race.b.fetch()).passes()
    assert fetched == [parent], "the due job was passed by"
    await race.a.commit()
    await race.settled()


async def test_a_job_is_passed_by_while_it_is_cancelled(race: Race) -> None:
    leaving, staying = await race.deferred(job(), job())
    await race.a.begin()
    await race.a.end(leaving, "cancel")
    assert await race.start(race.b, race.b.fetch()).passes() == [staying]
    await race.a.commit()
    assert await race.statuses(leaving) == ["cancelled:manual"]
    await race.settled()


async def test_a_job_is_cancelled_while_it_is_claimed(race: Race) -> None:
    [claimed] = await race.deferred(job())
    await race.a.begin()
    assert await race.a.fetch() == [claimed]
    cancel = race.start(race.b, race.b.value("SELECT cancel_job($1)", claimed))
    await cancel.waits()
    await race.a.commit()
    assert await cancel.done() is False
    assert await race.statuses(claimed) == ["doing"]
    await race.settled()


# Fencing


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "aborted", "todo"])
async def test_a_stale_claim_ends_nothing(race: Race, status: str) -> None:
    [lost] = await race.running()
    [child] = await race.deferred(job(lost))
    old_claims = dict(race.claims)
    await race.lose(race.worker)
    assert rows(await race.a.do(RESCUE)) == [(lost, "todo")]
    assert await race.b.finish({lost: status}, claims=old_claims) == {lost: "stale"}
    race.worker = await race.register()
    assert await race.a.fetch() == [lost]
    refused = await race.b.finish({lost: status}, claims=old_claims)
    assert await race.statuses(lost, child) == ["doing", "blocked"], "a lost worker ended its job"
    assert refused == {lost: "stale"}
    await race.settled()


async def test_two_ends_of_one_claim(race: Race) -> None:
    [running] = await race.running()
    await race.a.begin()
    assert await race.a.finish({running: "succeeded"}) == {}
    refused = await race.start(race.b, race.b.finish({running: "failed"})).passes()
    assert refused == {running: "busy"}
    await race.a.commit()
    assert await race.b.finish({running: "failed"}) == {running: "stale"}
    assert await race.statuses(running) == ["succeeded"]
    await race.settled()


# Rescue


async def test_a_late_end_meets_a_rescue(race: Race) -> None:
    [lost] = await race.running()
    await race.lose(race.worker)
    await race.a.begin()
    assert rows(await race.a.do(RESCUE)) == [(lost, "todo")]
    assert await race.start(race.b, race.b.finish({lost: "succeeded"})).passes() == {lost: "busy"}
    await race.a.commit()
    assert await race.b.finish({lost: "succeeded"}) == {lost: "stale"}
    assert await race.statuses(lost) == ["todo"]
    race.worker = await race.register()
    await race.settled()


async def test_a_rescue_meets_a_late_end(race: Race) -> None:
    [lost] = await race.running()
    await race.lose(race.worker)
    await race.a.begin()
    assert await race.a.finish({lost: "succeeded"}) == {}
    rescue = race.start(race.b, race.b.do(RESCUE))
    race.step(await rescue.over_or_waiting(), "what is being ended or rescued is passed by")
    await race.a.commit()
    await rescue.done()
    assert await race.statuses(lost) == ["succeeded"], "an ended job was put back"
    race.worker = await race.register()
    await race.settled()


async def test_two_rescuers_of_a_worker_that_stopped_beating(race: Race) -> None:
    lost = await race.running(2)
    await race.lose(race.worker)
    await race.a.begin()
    assert rows(await race.a.do(RESCUE)) == [(id_, "todo") for id_ in lost]
    rescue = race.start(race.b, race.b.do(RESCUE))
    await rescue.waits()  # for the worker's row
    await race.a.commit()
    assert await rescue.done() == []
    assert await rescues(race, *lost) == [1, 1]
    race.worker = await race.register()
    await race.settled()


async def test_two_rescuers_of_a_worker_that_took_its_leave(race: Race) -> None:
    lost = await race.running(2)
    await race.eye.do("SELECT unregister_worker($1)", race.worker)
    await race.a.begin()
    assert len(await race.a.do(RESCUE)) == 2
    rescue = race.start(race.b, race.b.do(RESCUE))
    race.step(await rescue.over_or_waiting(), "what is being ended or rescued is passed by")
    await race.a.commit()
    await rescue.done()
    assert await rescues(race, *lost) == [1, 1], "rescued twice"
    race.worker = await race.register()
    await race.settled()


async def test_a_heartbeat_meets_a_rescue(race: Race) -> None:
    [lost] = await race.running()
    await race.lose(race.worker)
    await race.a.begin()
    assert len(await race.a.do(RESCUE)) == 1
    beat = race.start(race.b, race.b.value("SELECT heartbeat($1)", race.worker))
    await beat.waits()
    await race.a.commit()
    assert await beat.done() is False, "a lost worker believes that its jobs are its own"
    assert await race.statuses(lost) == ["todo"]
    race.worker = await race.register()
    await race.settled()


async def test_a_rescue_meets_a_heartbeat(race: Race) -> None:
    [kept] = await race.running()
    await race.lose(race.worker)
    await race.a.begin()
    assert await race.a.value("SELECT heartbeat($1)", race.worker)
    rescue = race.start(race.b, race.b.do(RESCUE))
    await rescue.waits()
    await race.a.commit()
    assert await rescue.done() == []
    assert await race.statuses(kept) == ["doing"]
    assert await race.a.finish({kept: "succeeded"}) == {}
    await race.settled()


async def test_a_running_job_is_retried_by_hand_while_it_is_rescued(race: Race) -> None:
    [lost] = await race.running()
    await race.lose(race.worker)
    await race.a.begin()
    assert len(await race.a.do(RESCUE)) == 1
    retry = race.start(race.b, race.b.retry(lost))
    await retry.waits()
    await race.a.commit()
    assert await retry.refused() == "PD005"
    assert await race.statuses(lost) == ["todo"]
    race.worker = await race.register()
    await race.settled()


# Queueing locks


async def test_a_retry_in_a_batch_fails_alone_when_its_queueing_lock_is_taken(race: Race) -> None:
    again, fine, done = [(await race.running(queueing_lock=lock))[0] for lock in ("Q", "R", "S")]
    [taker] = await race.deferred(job(queueing_lock="Q"))
    assert await race.a.finish({again: "todo", fine: "todo", done: "succeeded"}) == {}
    assert await race.statuses(again, fine, done, taker) == ["failed", "todo", "succeeded", "todo"]
    assert "AlreadyEnqueued" in await race.eye.value("SELECT error FROM jobs WHERE id = $1", again)
    await race.settled()


@pytest.mark.parametrize("taken", [True, False])
async def test_a_retry_meets_an_open_deferral_with_its_queueing_lock(race: Race, taken: bool) -> None:
    again, fine = [(await race.running(queueing_lock=lock))[0] for lock in ("Q", "R")]
    [child] = await race.deferred(job(again))
    await race.a.begin()
    await race.a.defer(job(queueing_lock="Q", priority=-1))
    end = race.start(race.b, race.b.finish({again: "todo", fine: "succeeded"}))
    await end.waits()
    await (race.a.commit() if taken else race.a.rollback())
    assert await end.done() == {}
    assert await race.statuses(again, fine, child) == [
        *(["failed", "succeeded", "todo"] if taken else ["todo", "succeeded", "blocked"])
    ]
    await race.settled()


async def test_a_deferral_meets_an_open_retry_with_its_queueing_lock(race: Race) -> None:
    [again] = await race.running(queueing_lock="Q")
    await race.a.begin()
    assert await race.a.finish({again: "todo"}) == {}
    deferral = race.start(race.b, race.b.defer(job(), job(queueing_lock="Q")))
    await deferral.waits()
    await race.a.commit()
    assert await deferral.refused() == "23505"
    assert await race.eye.value("SELECT count(*) FROM jobs") == 1
    await race.settled()
