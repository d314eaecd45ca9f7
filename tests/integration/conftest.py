from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.worker_helpers import make_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from procrastinate_deps import App


@pytest.fixture(params=["psycopg", "asyncpg"])
async def app(dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[App]:
    """Open, on a fresh database, by each driver."""
    app = make_app(dsn, request.param)
    async with app.open_async():
        yield app
