"""Each race is worth something: with its lock taken out it is seen to fail."""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.races.knockouts import KNOCKOUTS, Knockout
from tests.races.workflow_knockouts import OLD_PLAN_KNOCKOUTS, WORKFLOW_KNOCKOUTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _pytest.mark.structures import ParameterSet

    from tests.races.sessions import Race

ALL = [*KNOCKOUTS, *WORKFLOW_KNOCKOUTS]


def by_name(knockouts: Iterable[Knockout]) -> list[ParameterSet]:
    return [pytest.param(knockout, id=knockout.name.replace(" ", "-")) for knockout in knockouts]


@pytest.mark.parametrize("knockout", by_name(ALL))
async def test_the_race_fails_without_its_lock(race: Race, knockout: Knockout) -> None:
    await see_it_fail(race, knockout)


@pytest.mark.parametrize("knockout", by_name(OLD_PLAN_KNOCKOUTS))
async def test_an_old_plan_reads_whole_tables_without_its_look_ups(quiet_race: Race, knockout: Knockout) -> None:
    await see_it_fail(quiet_race, knockout)


async def see_it_fail(race: Race, knockout: Knockout) -> None:
    await race.eye.connection.execute(knockout.text())
    if knockout.also:
        await race.eye.connection.execute(knockout.also)
    race.strict = False
    with pytest.raises((AssertionError, asyncpg.PostgresError, TimeoutError)) as failure:
        await knockout.race(race)
    seen = "".join(traceback.format_exception_only(failure.type, failure.value))
    assert re.search(knockout.damage, seen), f"expected to see {knockout.damage!r}, saw {seen}"


@pytest.mark.parametrize("knockout", by_name(knockout for knockout in ALL if knockout.also))
async def test_the_race_passes_with_the_lock_alone(race: Race, knockout: Knockout) -> None:
    """Where something else had to go with the lock, it was not that which mattered."""
    await race.eye.connection.execute(knockout.also)
    await knockout.race(race)
