"""The ways in which a parent ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.semantics.database import Database

WAYS_TO_END = ["finished", "cancelled", "cancelled by plain SQL", "deleted", "rescued"]


async def end_somehow(db: Database, job: int, way: str) -> None:
    """Ends a job that `prepare` made ready for it."""
    match way:
        case "finished":
            assert await db.finish({job: "failed"}) == {}
        case "cancelled":
            assert await db.cancel(job)
        case "cancelled by plain SQL":
            await db.set_status("cancelled", job)
        case "deleted":
            await db.delete(job)
        case "rescued":
            assert await db.rescue(max_rescues=0) == {job: "failed"}


async def prepare(db: Database, job: int, way: str) -> None:
    if way in {"finished", "rescued"}:
        await db.start(job)
    if way == "rescued":
        await db.lose_worker()
