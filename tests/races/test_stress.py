"""Everything at once, in short; `python -m tests.races.stress` does it for as long as one likes."""

from __future__ import annotations

import os

import pytest

from tests.races.stress import stress

SEED = 20251
# For a longer run, also with another seed: PROCRASTINATE_DEPS_STRESS_S=120 PROCRASTINATE_DEPS_STRESS_SEED=7
SECONDS = float(os.environ.get("PROCRASTINATE_DEPS_STRESS_S", "8"))
CLIENTS = 12
# the drain may take its time after the run
DRAIN_S = 150


@pytest.mark.timeout(SECONDS + DRAIN_S)
async def test_everything_at_once(dsn: str) -> None:
    seed = int(os.environ.get("PROCRASTINATE_DEPS_STRESS_SEED", SEED))
    world = await stress(dsn, SECONDS, seed, CLIENTS)
    assert not world.violations, world.violations[:10]
    assert not world.unexpected, world.unexpected[:10]
    # it did something: a stress that meets only errors proves nothing
    jobs = ("started", "defer", "finish", "cancel", "retry", "add edges", "delete", "plain end", "checks")
    for what in (*jobs, "graph", "cancel workflow", "retry workflow", "fold"):
        assert world.done[what] > 0, f"no {what!r} in {dict(world.done)}; refused: {dict(world.errors)}"
