"""What each of the chaos tests gets."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from procrastinate_deps._embedded import keeper
from tests.chaos import servers
from tests.chaos.ledger import TABLES
from tests.chaos.sizes import JOBS, ROUNDS, SEED, TIMEOUT_S
from tests.chaos.trial import Trial
from tests.integration.worker_helpers import query
from tests.places import server_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from procrastinate_deps._embedded.cluster import Cluster
    from tests.chaos.trial import NewTrial


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(SEED, SEED + ROUNDS))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "trial" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))
            item.add_marker(pytest.mark.chaos)


@pytest.fixture(scope="session")
def prepared_server(server: Cluster) -> Cluster:
    return servers.prepared(server)


@pytest.fixture
def burning_server(prepared_server: Cluster) -> Iterator[Cluster]:
    """A server of the test's own."""
    cluster = servers.copied(prepared_server, server_folder("pd-chaos-"))
    users = keeper.join(cluster)
    yield cluster
    keeper.leave(cluster, users)


@pytest.fixture
def trial(burning_server: Cluster, empty_dsn: str, tmp_path: Path, seed: int) -> Iterator[NewTrial]:
    """Makes the test's trial."""
    query(empty_dsn, TABLES)
    with contextlib.ExitStack() as stack:

        def make(*, acts: int, **options: Any) -> Trial:
            options.setdefault("dsn", burning_server.dsn(servers.DATABASE))
            made = Trial(burning_server, empty_dsn, tmp_path, seed=seed, jobs=JOBS, acts=acts, **options)
            stack.callback(made.close)
            return made

        yield make
