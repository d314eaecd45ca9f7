"""docs/semantics.md, section 3: the recorded times, too, say that a child starts after its parents have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.semantics.database import SCHEMA

if TYPE_CHECKING:
    from tests.semantics.database import Database


async def test_a_child_started_by_a_transaction_older_than_its_parents_end(db: Database, other: Database) -> None:
    parent = await db.defer()
    child = await db.defer(parent)
    await db.start(parent)
    async with other.connection.transaction():
        began_at = await other.value("SELECT now()")
        assert await db.finish({parent: "succeeded"}) == {}
        await other.start(child)
    ended_at = await db.value(f"SELECT finished_at FROM {SCHEMA}.jobs WHERE id = $1", parent)
    started_at = await db.value(f"SELECT started_at FROM {SCHEMA}.jobs WHERE id = $1", child)
    assert began_at < ended_at <= started_at
