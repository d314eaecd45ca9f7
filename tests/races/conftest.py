from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from procrastinate_deps._embedded import keeper
from tests.chaos import servers
from tests.places import server_folder
from tests.races.sessions import Race, race_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from procrastinate_deps._embedded.cluster import Cluster


@pytest.fixture
async def race(dsn: str) -> AsyncIterator[Race]:
    async with race_on(dsn) as race:
        yield race


@pytest.fixture
async def quiet_race(server: Cluster) -> AsyncIterator[Race]:
    """On a server of its own: a migration, in whatever database, can have a server forget every session's plans."""
    cluster = servers.copied(servers.prepared(server), server_folder("pd-quiet-"))
    users = keeper.join(cluster)
    async with race_on(cluster.dsn(servers.DATABASE)) as race:
        yield race
    keeper.leave(cluster, users)
