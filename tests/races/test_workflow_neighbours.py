"""Workflows that are in each other's way: nested ones, those of one name, and many at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.races.sessions import job
from tests.races.workflow_sessions import NAME_TAKEN, NO_SUCH_WORKFLOW, delete, fold, graph, running_graph, state

if TYPE_CHECKING:
    from tests.races.sessions import Race, Session

NEEDS_READ_COMMITTED = "PD006"
OLD_SNAPSHOTS = pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])


async def nest(session: Session, parent: int, *, jobs: int = 1) -> int:
    workflow: int = await session.value(
        "SELECT workflow_ids[1] FROM defer_graph($1::text::jsonb, $2::text::jsonb)",
        json.dumps([{"name": "nested", "parent_id": parent}]),
        json.dumps([{"task_name": "race", "workflow": 0}] * jobs),
    )
    return workflow


@pytest.mark.parametrize("way", ["verb", "plain"])
@pytest.mark.parametrize("jobs", [0, 1])
async def test_nesting_waits_for_an_open_delete_and_is_refused(race: Race, way: str, jobs: int) -> None:
    workflow, _ = await graph(race.eye, job())
    await race.a.begin()
    await delete(race.a, workflow, way)
    nesting = race.start(race.b, nest(race.b, workflow, jobs=jobs))
    await nesting.waits()
    await race.a.commit()
    assert await nesting.refused() == NO_SUCH_WORKFLOW
    await race.settled()


@pytest.mark.parametrize("way", ["verb", "plain"])
async def test_a_delete_waits_for_an_open_nesting_and_takes_it_along(race: Race, way: str) -> None:
    workflow, _ = await graph(race.eye, job())
    await race.a.begin()
    await nest(race.a, workflow)
    deletion = race.start(race.b, delete(race.b, workflow, way))
    await deletion.waits()
    await race.a.commit()
    await deletion.done()
    assert await race.eye.value("SELECT count(*) FROM workflows") == 0
    assert await race.eye.value("SELECT count(*) FROM jobs") == 0
    await race.settled()


@OLD_SNAPSHOTS
async def test_an_old_snapshot_takes_no_name_from_a_workflow_that_has_grown(race: Race, isolation: str) -> None:
    """As it saw it the workflow had ended; it has grown since, and is live."""
    workflow, [one] = await running_graph(race, job(), unique=True)
    assert await race.eye.finish({one: "succeeded"}) == {}
    await race.a.begin(isolation)
    await race.a.do("SELECT FROM jobs")
    await race.eye.defer(job(workflow_id=workflow))
    refused = await race.start(race.a, graph(race.a, job(), unique=True)).refused()
    await race.a.rollback() if refused else await race.a.commit()
    assert await race.eye.value("SELECT count(*) FROM workflows") == 1, "two live workflows have one name"
    assert refused == NEEDS_READ_COMMITTED
    await race.settled()


@OLD_SNAPSHOTS
async def test_an_old_snapshot_tells_of_a_live_workflow_of_that_name(race: Race, isolation: str) -> None:
    await graph(race.eye, job(), unique=True)
    await race.a.begin(isolation)
    assert await race.start(race.a, graph(race.a, job(), unique=True)).refused() == NAME_TAKEN
    await race.a.rollback()
    await race.a.begin(isolation)
    await graph(race.a, job(), unique=True, name="another")
    await race.a.commit()
    await race.settled()


async def test_workflows_that_someone_holds_do_not_keep_folds_from_the_others(race: Race) -> None:
    held = [(await graph(race.eye, job()))[0] for _ in range(3)]
    free, _ = await graph(race.eye, job())
    await race.eye.do("UPDATE jobs SET status = 'succeeded'")
    await race.a.begin()
    await race.a.do("SELECT FROM workflows WHERE id = ANY ($1) FOR NO KEY UPDATE", held)
    # each fold begins somewhere: that a hundred never come by is out of the question
    for _ in range(100):
        assert await race.b.value("SELECT fold_workflows(NULL, $1)", len(held)) is True
        if await race.eye.value("SELECT finished_at IS NOT NULL FROM workflows WHERE id = $1", free):
            break
    else:
        raise AssertionError("a workflow that nobody held was never folded")
    await race.a.rollback()
    await fold(race.b)
    assert [await state(race, workflow) for workflow in held] == ["succeeded"] * 3
    await race.settled()


async def test_pruning_locks_no_workflow_that_stays(race: Race) -> None:
    """There is room for some thousand of such locks on a server: with more failed workflows nothing could be pruned."""
    await graph(race.eye, job())
    await race.eye.do("UPDATE jobs SET status = 'failed'")
    parent, [one] = await graph(race.eye, job())
    await race.eye.do("UPDATE jobs SET status = 'succeeded' WHERE id = $1", one)
    child, _ = await graph(race.eye, job(one))
    gone, [other] = await graph(race.eye, job())
    await race.eye.do("UPDATE jobs SET status = 'succeeded' WHERE id = $1", other)
    await fold(race.eye)
    await race.a.begin()
    assert await race.a.value("SELECT pruned FROM prune_jobs('0 s')") == 1
    # prune_key, and the one that goes
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = $1"
    assert await race.eye.value(locks, race.a.pid) == 2
    await race.a.commit()
    left = {row["id"] for row in await race.eye.do("SELECT id FROM workflows")}
    assert gone not in left
    assert {parent, child} <= left
    await race.eye.do("UPDATE jobs SET status = 'succeeded' WHERE workflow_id = $1", child)
    await race.settled()
