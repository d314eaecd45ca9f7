from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procrastinate_deps.waiting import board
from tests.integration.worker_helpers import NO_POLLING_S, make_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from procrastinate_deps import App


@pytest.fixture(params=["psycopg", "asyncpg"])
async def app(dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[App]:
    """Open, on a fresh database, by each driver."""
    app = make_app(dsn, request.param)
    async with app.open_async():
        yield app


@pytest.fixture
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends is heard of by who waits for it, or never known."""
    monkeypatch.setattr(board, "POLL_FIRST_S", NO_POLLING_S)
    monkeypatch.setattr(board, "POLL_LIMIT_S", NO_POLLING_S)
    monkeypatch.setattr(board, "EARLY", 0.0)
