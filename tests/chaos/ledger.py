"""What the jobs of the chaos tests did, written by themselves, on another server than the one that is set on fire."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import psycopg

if TYPE_CHECKING:
    from datetime import datetime

    from procrastinate_deps import JobContext

# One row per run: a job and its claim. No primary key: a claim that runs twice is to be found, not to be refused.
TABLES = """
    CREATE TABLE runs (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        job_id bigint NOT NULL, claim bigint NOT NULL, worker text NOT NULL, pid int NOT NULL,
        started_at timestamptz NOT NULL DEFAULT clock_timestamp(), ended_at timestamptz,
        parents text, outcome text, notes text[] NOT NULL DEFAULT '{}'
    );
    CREATE TABLE go (node int)
"""
BEGIN = "INSERT INTO runs (job_id, claim, worker, pid) VALUES (%s, %s, %s, %s) RETURNING id"
END = "UPDATE runs SET ended_at = clock_timestamp(), outcome = %s, parents = %s WHERE id = %s"
NOTE = "UPDATE runs SET notes = notes || %s::text WHERE id = %s"
GO = "SELECT FROM go WHERE node = %s"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run, as it recorded itself; ended_at is None where it was killed or cancelled."""

    job_id: int
    claim: int
    worker: str
    pid: int
    started_at: datetime
    ended_at: datetime | None
    parents: dict[int, str] | None
    outcome: str | None
    notes: list[str] = field(default_factory=list)


def read_runs(dsn: str) -> list[Recorded]:
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(
            "SELECT job_id, claim, worker, pid, started_at, ended_at, parents, outcome, notes FROM runs ORDER BY id"
        ).fetchall()
    return [
        Recorded(job_id, claim, worker, pid, started_at, ended_at, _statuses(parents), outcome, notes)
        for job_id, claim, worker, pid, started_at, ended_at, parents, outcome, notes in rows
    ]


def _statuses(text: str | None) -> dict[int, str] | None:
    return None if text is None else {int(id_): status for id_, status in json.loads(text).items()}


class AsyncLedger:
    """Of coroutine tasks: one connection, which a cancelled task leaves intact."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._lock = anyio.Lock()
        self._connection: psycopg.AsyncConnection | None = None

    async def begin(self, context: JobContext) -> int:
        (run_id,) = (await self._execute(BEGIN, *_who(context)))[0]
        return int(run_id)

    async def end(self, run_id: int, outcome: str, parents: dict[int, str]) -> None:
        await self._execute(END, outcome, json.dumps(parents), run_id)

    async def note(self, run_id: int, text: str) -> None:
        await self._execute(NOTE, text, run_id)

    async def may_go(self, node: int) -> bool:
        return bool(await self._execute(GO, node))

    async def _execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        # Shielded: a statement that is cancelled half-way costs the connection.
        rows: list[tuple[Any, ...]] = []
        with anyio.CancelScope(shield=True):
            async with self._lock:
                if self._connection is None:
                    self._connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)
                cursor = await self._connection.execute(statement.encode(), values)
                if cursor.description is not None:
                    rows = await cursor.fetchall()
        return rows


class SyncLedger:
    """Of tasks in threads, which share its connection."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._lock = threading.Lock()
        self._connection: psycopg.Connection | None = None

    def begin(self, context: JobContext) -> int:
        return int(self._execute(BEGIN, *_who(context))[0][0])

    def end(self, run_id: int, outcome: str, parents: dict[int, str]) -> None:
        self._execute(END, outcome, json.dumps(parents), run_id)

    def note(self, run_id: int, text: str) -> None:
        self._execute(NOTE, text, run_id)

    def _execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            if self._connection is None:
                self._connection = psycopg.connect(self._dsn, autocommit=True)
            cursor = self._connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description is not None else []


def _who(context: JobContext) -> tuple[Any, ...]:
    return context.job.id, context.job.claim, context.worker_name, os.getpid()
