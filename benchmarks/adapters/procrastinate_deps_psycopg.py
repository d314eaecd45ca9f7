"""procrastinate_deps by psycopg instead of asyncpg; all else as in its other adapter."""

from __future__ import annotations

import procrastinate_deps
from benchmarks.adapters.adapter import run
from benchmarks.adapters.procrastinate_deps import ProcrastinateDeps
from procrastinate_deps.connectors.base import AsyncConnector


class ProcrastinateDepsPsycopg(ProcrastinateDeps):
    def connector(self) -> AsyncConnector:
        return procrastinate_deps.PsycopgConnector(conninfo=self.dsn)


if __name__ == "__main__":
    run(ProcrastinateDepsPsycopg)
