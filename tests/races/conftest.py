from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.races.sessions import Race, race_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def race(dsn: str) -> AsyncIterator[Race]:
    async with race_on(dsn) as race:
        yield race
