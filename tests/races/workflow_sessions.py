"""What races about workflows say in few words."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import anyio

from tests.races.sessions import DEADLINE_S, SCHEMA, job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.races.sessions import Race, Session

COUNTS = "total, blocked, succeeded, failed, aborted, cancelled, upstream, not_needed"
NO_SUCH_WORKFLOW, NAME_TAKEN, WAS_CANCELLED, CYCLE, ALREADY_STARTED = "PD009", "PD010", "PD011", "PD003", "PD002"


async def graph(
    session: Session, *jobs: dict[str, Any], unique: bool = False, name: str = "race"
) -> tuple[int, list[int]]:
    """A workflow with these jobs: its id and theirs."""
    [row] = await session.do(
        "SELECT workflow_ids[1] AS workflow, job_ids FROM defer_graph($1::text::jsonb, $2::text::jsonb)",
        json.dumps([{"name": name, "unique": unique}]),
        json.dumps([{"workflow": 0, **each} for each in jobs]),
    )
    return row["workflow"], list(row["job_ids"])


async def running_graph(race: Race, *jobs: dict[str, Any], unique: bool = False) -> tuple[int, list[int]]:
    """The same, and what of it can run is running."""
    workflow, ids = await graph(race.eye, *jobs, unique=unique)
    await race.eye.fetch()
    return workflow, ids


async def grow(session: Session, workflow: int, *parents: int, **fields: Any) -> int:
    [new] = await session.defer(job(*parents, workflow_id=workflow, **fields))
    return new


async def cancel(session: Session, workflow: int, *, abort: bool = True) -> tuple[int, int]:
    [row] = await session.do("SELECT * FROM cancel_workflow($1, $2)", workflow, abort)
    return row["cancelled"], row["abort_requested"]


async def retry(session: Session, workflow: int, mode: str = "failed") -> int:
    return int(await session.value("SELECT retry_workflow($1, $2)", workflow, mode))


async def delete(session: Session, workflow: int, way: str) -> None:
    match way:
        case "verb":
            await session.do("SELECT delete_workflow($1)", workflow)
        case "plain":
            await session.do("DELETE FROM workflows WHERE id = $1", workflow)
        case _:
            raise ValueError(f"no such way to delete a workflow: {way!r}")


async def fold(session: Session, *workflows: int) -> bool:
    return bool(await session.value("SELECT fold_workflows($1)", list(workflows) or None))


async def state(race: Race, workflow: int) -> str:
    return str(await race.eye.value("SELECT status FROM workflow_states WHERE id = $1", workflow))


class Announcements:
    """The ends of workflows, as who listens hears of them."""

    def __init__(self, race: Race) -> None:
        self._race = race
        self._heard: list[dict[str, Any]] = []
        self._marked = anyio.Event()

    def hear(self, connection: object, pid: int, channel: str, payload: object) -> None:
        news = json.loads(str(payload))
        if news["type"] == "mark":
            self._marked.set()
        elif news["type"] == "workflow_ended":
            self._heard.append(news)

    async def heard(self) -> list[tuple[int, str]]:
        """Workflow and status of each end that was announced since the last call."""
        self._marked = anyio.Event()
        await self._race.eye.do("SELECT pg_notify($1, $2)", SCHEMA, json.dumps({"type": "mark"}))
        with anyio.fail_after(DEADLINE_S):
            await self._marked.wait()
        heard, self._heard = self._heard, []
        return [(news["workflow_id"], news["status"]) for news in heard]


@contextlib.asynccontextmanager
async def announcements(race: Race) -> AsyncIterator[Announcements]:
    heard = Announcements(race)
    await race.eye.connection.add_listener(SCHEMA, heard.hear)
    try:
        yield heard
    finally:
        await race.eye.connection.remove_listener(SCHEMA, heard.hear)
