"""Workers are killed, or sleep for too long."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING

import pytest

from tests.chaos import fire
from tests.chaos.sizes import DRIVERS, acts

if TYPE_CHECKING:
    from tests.chaos.trial import NewTrial


@pytest.mark.parametrize("driver", DRIVERS)
def test_workers_are_killed(trial: NewTrial, driver: str) -> None:
    made = trial(acts=acts(4))
    for name in ("a", "b", "c"):
        made.crew.start(name, driver)
    made.crew.wait_until_working()
    made.burn(lambda: fire.kill_one(made))
    evidence = made.judge()
    assert evidence.count("rescued") > 0, "nobody was killed while jobs ran"


def test_a_worker_sleeps_for_too_long(trial: NewTrial) -> None:
    """It wakes when its jobs have been run by others: whatever it then says of them changes nothing."""
    made = trial(acts=acts(2))
    made.crew.start("a", "asyncpg")
    made.crew.start("b", "psycopg")
    made.crew.wait_until_working()

    def act() -> None:
        hand, worker_id = fire.stop_one(made)
        made.wait_for_row("the rescue of all that it ran", fire.ALL_RESCUED, worker_id, worker_id)
        taken = [job_id for (job_id,) in made.query(fire.RESCUED_FROM, worker_id)]
        # Those that no other sleeper holds end elsewhere, while it sleeps.
        made.wait_for_row("the end of what it ran", fire.ALL_ENDED, taken)
        ended = made.query(fire.ROWS, taken)
        hand.send(signal.SIGCONT)
        hand.wait_for("worker_registered", len(slept_in[hand.name]) + 1)
        slept_in[hand.name].append(worker_id)
        assert made.query(fire.ROWS, taken) == ended, "the ends of a worker that was given up changed a job"

    slept_in: dict[str, list[int]] = {"a": [], "b": []}
    made.burn(act)
    evidence = made.judge()
    assert evidence.count("rescued") > 0, "nobody slept while jobs ran"


@pytest.mark.parametrize("driver", DRIVERS)
def test_everything_at_once(trial: NewTrial, driver: str, seed: int) -> None:
    """Workers are killed, connections are terminated, and half-way through the server crashes."""
    made = trial(acts=acts(6), loses_answers=True, may_die=True)
    made.crew.start("a", driver)
    made.crew.start("b", DRIVERS[1 - DRIVERS.index(driver)])
    made.crew.start("c", driver, queues=["default", "fast"])
    made.crew.wait_until_working()
    chance = random.Random(seed)
    strikes = iter(range(made.acts))

    def act() -> None:
        if next(strikes) == made.acts // 2:
            fire.restart_server(made)
        else:
            chance.choice([fire.kill_one, fire.kill_one, fire.terminate_connections])(made)

    made.burn(act)
    evidence = made.judge()
    assert evidence.count("rescued") > 0, "nobody was killed while jobs ran"
