"""Each race is worth something: with its lock taken out it is seen to fail."""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.races.knockouts import KNOCKOUTS, Knockout
from tests.races.workflow_knockouts import WORKFLOW_KNOCKOUTS

if TYPE_CHECKING:
    from tests.races.sessions import Race

ALL = [*KNOCKOUTS, *WORKFLOW_KNOCKOUTS]


@pytest.mark.parametrize("knockout", [pytest.param(k, id=k.name.replace(" ", "-")) for k in ALL])
async def test_the_race_fails_without_its_lock(race: Race, knockout: Knockout) -> None:
    await race.eye.connection.execute(knockout.text())
    if knockout.also:
        await race.eye.connection.execute(knockout.also)
    race.strict = False
    with pytest.raises((AssertionError, asyncpg.PostgresError, TimeoutError)) as failure:
        await knockout.race(race)
    seen = "".join(traceback.format_exception_only(failure.type, failure.value))
    assert re.search(knockout.damage, seen), f"expected to see {knockout.damage!r}, saw {seen}"


@pytest.mark.parametrize("knockout", [pytest.param(k, id=k.name.replace(" ", "-")) for k in ALL if k.also])
async def test_the_race_passes_with_the_lock_alone(race: Race, knockout: Knockout) -> None:
    """Where something else had to go with the lock, it was not that which mattered."""
    await race.eye.connection.execute(knockout.also)
    await knockout.race(race)
