"""The database goes away: every connection is terminated, the server crashes, the network loses answers."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.chaos import fire
from tests.chaos.network import Network
from tests.chaos.sizes import DRIVERS, acts
from tests.places import server_folder

if TYPE_CHECKING:
    from procrastinate_deps._embedded.cluster import Cluster
    from tests.chaos.trial import NewTrial


@pytest.mark.parametrize("driver", DRIVERS)
def test_connections_are_terminated(trial: NewTrial, driver: str) -> None:
    made = trial(acts=acts(6), loses_answers=True)
    for name in ("a", "b"):
        made.crew.start(name, driver)
    made.crew.wait_until_working()
    made.burn(lambda: fire.terminate_connections(made))
    made.judge()
    assert made.crew.count("listen_again") > 0, "nobody lost a connection"


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_server_crashes(trial: NewTrial, driver: str) -> None:
    made = trial(acts=acts(3), loses_answers=True)
    for name in ("a", "b"):
        made.crew.start(name, driver)
    made.crew.wait_until_working()
    made.burn(lambda: fire.restart_server(made))
    made.judge()


@pytest.mark.parametrize("driver", DRIVERS)
def test_answers_are_lost(trial: NewTrial, burning_server: Cluster, driver: str) -> None:
    """The statement is done and nobody hears of it: jobs that were fetched, ends that were recorded."""
    folder = server_folder("pd-net-")
    network = Network(folder, burning_server.socket_directory)
    try:
        made = trial(acts=acts(6), loses_answers=True, dsn=network.dsn)
        for name in ("a", "b"):
            made.crew.start(name, driver)
        made.crew.wait_until_working()

        def act() -> None:
            made.wait_for_row("running jobs", fire.SOMETHING_RUNS)
            network.lose_answers()

        made.burn(act)
        made.judge()
        assert network.answers_lost > 0
    finally:
        network.close()
        shutil.rmtree(folder)
