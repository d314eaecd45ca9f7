"""How much of it: little by default, as much as one likes by the environment.

PROCRASTINATE_DEPS_CHAOS_JOBS       jobs of a graph (default 300; `make chaos`: 5000)
PROCRASTINATE_DEPS_CHAOS_ROUNDS     how often each test runs, each time with the next seed (default 1)
PROCRASTINATE_DEPS_CHAOS_SEED       of the first round (default 1)
"""

from __future__ import annotations

import os

JOBS = int(os.environ.get("PROCRASTINATE_DEPS_CHAOS_JOBS", "300"))
ROUNDS = int(os.environ.get("PROCRASTINATE_DEPS_CHAOS_ROUNDS", "1"))
SEED = int(os.environ.get("PROCRASTINATE_DEPS_CHAOS_SEED", "1"))
# What is stuck is noticed by the test itself, and shown; this is for what it didn't think of.
TIMEOUT_S = 180 + JOBS / 5

DRIVERS = ["asyncpg", "psycopg"]


def acts(short: int) -> int:
    """How often to strike: so many times in a small graph, more often in a large one."""
    return max(short, short * JOBS // 1500)
