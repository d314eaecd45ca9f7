"""What the clients of the stress do with workflows: whole graphs, growth, cancelling, retrying, deleting, folding."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections import deque
    from collections.abc import Sequence

    from tests.races.stress import Client

SCHEMA = "procrastinate_deps"
# no such workflow, its name is taken, it was cancelled
EXPECTED = {"PD009", "PD010", "PD011"}


def in_a_workflow(rng: random.Random, job: dict[str, Any], known: Sequence[int], waiting: list[int]) -> None:
    """A job of a batch may belong to a workflow, wait for the whole of another, or be what a waiting job waits for."""
    if known and rng.random() < 0.2:
        job["workflow_id"] = rng.choice(known)
        if rng.random() < 0.3:
            job["node"] = f"node {rng.randint(1, 500)}"
    if known and rng.random() < 0.05:
        job["depends_on_workflows"] = [rng.choice(known)]
    if waiting and rng.random() < 0.04:
        job["before"] = rng.sample(waiting, min(len(waiting), rng.choice([1, 2])))


async def play(client: Client) -> None:
    rng, known = client.rng, client.world.workflows
    kind = rng.random()
    if kind < 0.35 or not known:
        await _graph(client)
    elif kind < 0.5:
        await client.call("cancel workflow", f"SELECT {SCHEMA}.cancel_workflow($1, $2)", rng.choice(known), _coin(rng))
    elif kind < 0.75:
        mode = rng.choice(["failed", "failed_and_downstream", "all"])
        await client.call("retry workflow", f"SELECT {SCHEMA}.retry_workflow($1, $2)", rng.choice(known), mode)
    elif kind < 0.78:
        await client.call("delete workflow", f"SELECT {SCHEMA}.delete_workflow($1)", _forget(rng, known))
    elif kind < 0.80:
        await client.call("plain delete workflow", f"DELETE FROM {SCHEMA}.workflows WHERE id = $1", _forget(rng, known))
    elif kind < 0.88:
        await client.call(
            "plain insert",
            f"INSERT INTO {SCHEMA}.jobs (task_name, workflow_id) VALUES ('stress', $1) RETURNING id",
            rng.choice(known),
        )
    else:
        some = None if _coin(rng) else rng.sample(list(known), min(3, len(known)))
        await client.call("fold", f"SELECT {SCHEMA}.fold_workflows($1)", some)


async def _graph(client: Client) -> None:
    rng, known = client.rng, client.world.workflows
    workflows: list[dict[str, Any]] = []
    for position in range(rng.choice([1, 1, 2, 3])):
        workflow: dict[str, Any] = {"name": f"name {rng.randint(1, 8)}", "unique": rng.random() < 0.4}
        if position and _coin(rng):
            workflow["parent"] = rng.randrange(position)
        elif known and rng.random() < 0.2:
            workflow["parent_id"] = rng.choice(known)
        workflows.append(workflow)
    batch = client.batch()
    for job in batch:
        job.pop("workflow_id", None)
        job.pop("node", None)
        if rng.random() < 0.9:
            job["workflow"] = rng.randrange(len(workflows))
    rows = await client.call(
        "graph",
        f"SELECT workflow_ids, job_ids FROM {SCHEMA}.defer_graph($1::text::jsonb, $2::text::jsonb)",
        json.dumps(workflows),
        json.dumps(batch),
    )
    for row in rows or []:
        known.extend(row["workflow_ids"])
        client.world.recent.extend(row["job_ids"])


def _forget(rng: random.Random, known: deque[int]) -> int:
    workflow = rng.choice(known)
    known.remove(workflow)
    return workflow


def _coin(rng: random.Random) -> bool:
    return rng.random() < 0.5
