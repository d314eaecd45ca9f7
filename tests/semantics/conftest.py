"""A session per test; at its end every invariant of the database is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.semantics.database import Database, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.semantics.database import Wakeups


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    async with Database.open(dsn) as database:
        yield database
        assert await database.violations() == []


@pytest.fixture
async def other(dsn: str, db: Database) -> AsyncIterator[Database]:
    """A second session."""
    async with Database.open(dsn) as database:
        yield database


@pytest.fixture
async def wakeups(dsn: str, db: Database) -> AsyncIterator[Wakeups]:
    async with listening(dsn) as heard:
        yield heard
