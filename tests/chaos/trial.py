"""One test: a graph, workers that run it, something that goes wrong meanwhile, and a verdict."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import psycopg

from procrastinate_deps import App, SyncPsycopgConnector
from procrastinate_deps.exceptions import ConnectorException
from tests.chaos.checks import Evidence, problems
from tests.chaos.crew import Crew
from tests.chaos.graphs import Node, in_waves, random_graph
from tests.chaos.ledger import read_runs
from tests.chaos.servers import DATABASE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from procrastinate_deps._embedded.cluster import Cluster
    from tests.chaos.crew import Hand

# Nothing moved for so long: it is stuck. The workers look again after their stalled timeout of seconds.
STUCK_S = 40.0
RECONNECT_S = 60.0
POLL_S = 0.05
SHOWN = 25

# Quick to notice a dead worker, and yet not so quick that a busy machine kills one by mistake.
DEFAULTS: dict[str, Any] = {
    "update_heartbeat_interval": 0.4,
    "stalled_worker_timeout": 2.0,
    "fetch_job_polling_interval": 2.0,
    # A job that is unlucky each time must not fail for it: the oracle knows nothing of luck.
    "max_rescues": 1000,
}

STUCK = """
    SELECT j.id, j.task_name, j.status::text, j.gate::text, j.claim, j.worker_id, w.name, w.pid, w.lost_at,
        age(clock_timestamp(), w.heartbeat_at)::text, j.lock, l.job_id AS lock_holder, j.scheduled_at::text,
        ARRAY(SELECT d.parent_id FROM procrastinate_deps.job_dependencies AS d
              JOIN procrastinate_deps.jobs AS p ON p.id = d.parent_id AND p.finished_at IS NULL
              WHERE d.child_id = j.id) AS waits_for
    FROM procrastinate_deps.jobs AS j
    LEFT JOIN procrastinate_deps.workers AS w ON w.id = j.worker_id AND j.status = 'doing'
    LEFT JOIN procrastinate_deps.locks AS l ON l.lock = j.lock
    WHERE j.finished_at IS NULL
    ORDER BY j.status = 'blocked', j.id
    LIMIT %s
"""
BACKENDS = """
    SELECT pid, application_name, state, wait_event, age(clock_timestamp(), xact_start)::text, left(query, 80)
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class NewTrial(Protocol):
    """Makes the trial of a test."""

    def __call__(self, *, acts: int, **options: Any) -> Trial: ...


class Trial:
    """
    Attributes
    ----------
    dsn:
        How the workers reach their server.
    acts:
        How many times the scenario strikes; the graph is deferred in as many waves.
    ids:
        The job of each node.
    cancels:
        What the cancelling of a node said; None: the answer was lost.
    killed:
        Ids of the workers that the scenario killed, or stopped.
    loses_answers:
        Whether statements of the workers' tasks may be done and their answers lost: they may defer twice then.
    may_die:
        Whether a worker may end by itself, and is started again: one that starts while the server is away does.
    """

    def __init__(
        self,
        cluster: Cluster,
        ledger_dsn: str,
        folder: Path,
        *,
        dsn: str,
        seed: int,
        jobs: int,
        acts: int,
        concurrency: int = 4,
        loses_answers: bool = False,
        may_die: bool = False,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.cluster = cluster
        self.dsn = cluster.dsn(DATABASE)
        self.ledger_dsn = ledger_dsn
        self.seed = seed
        self.acts = acts
        self.loses_answers = loses_answers
        self.may_die = may_die
        self.nodes = random_graph(seed, jobs)
        self.waves = in_waves(self.nodes, acts)
        self.ids: dict[int, int] = {}
        self.schedules: dict[int, datetime] = {}
        self.cancels: dict[int, bool | None] = {}
        self.killed: set[int] = set()
        self.crew = Crew(folder, dsn, ledger_dsn, concurrency=concurrency, defaults=DEFAULTS | dict(defaults or {}))
        self.app = App(SyncPsycopgConnector(conninfo=self.dsn, kwargs={"application_name": "feeder"}))
        self._connection: psycopg.Connection | None = None

    # -- the database

    def query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Of a statement that may be done twice: it is sent again until there is an answer."""
        deadline = time.monotonic() + RECONNECT_S
        while True:
            try:
                if self._connection is None:
                    self._connection = psycopg.connect(self.dsn, autocommit=True, application_name="watch")
                cursor = self._connection.execute(statement.encode(), values or None)
                return cursor.fetchall() if cursor.description is not None else []
            except psycopg.OperationalError:
                self._connection = None
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)

    def wait_for_row(self, what: str, statement: str, *values: Any) -> tuple[Any, ...]:
        deadline = time.monotonic() + STUCK_S
        while not (rows := self.query(statement, *values)):
            self.look_after_the_hands()
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {STUCK_S} s\n{self.report()}")
            time.sleep(POLL_S)
        return rows[0]

    def ids_of(self, numbers: Sequence[int]) -> list[int]:
        """A job may run before its deferral's answer is here."""
        deadline = time.monotonic() + STUCK_S
        while not self.ids.keys() >= set(numbers):
            if time.monotonic() > deadline:
                raise AssertionError(f"jobs {numbers}: not deferred within {STUCK_S} s\n{self.report()}")
            time.sleep(POLL_S)
        return [self.ids[number] for number in numbers]

    # -- what happens

    def burn(self, act: Callable[[], None]) -> None:
        """Defer the waves, and strike once during each."""
        with self.app.open(), ThreadPoolExecutor(1) as feeder:
            for wave in self.waves:
                fed = feeder.submit(self.feed, wave)
                act()
                while not fed.done():
                    self.look_after_the_hands()
                    time.sleep(POLL_S)
                fed.result()

    def feed(self, wave: Sequence[Node]) -> None:
        positions = {node.number: position for position, node in enumerate(wave)}
        specs = [node.spec(self.ids, positions) for node in wave]
        self.ids |= dict(zip(positions, self._deferred(specs, list(positions)), strict=True))
        self.schedules |= {
            node.number: spec.scheduled_at
            for node, spec in zip(wave, specs, strict=True)
            if spec.scheduled_at is not None
        }
        for node in wave:
            if node.cancelled:
                self.cancels[node.number] = self._cancelled(self.ids[node.number])

    def _deferred(self, specs: list[Any], numbers: list[int]) -> list[int]:
        """The ids of a batch. Where the answer was lost it is looked up whether it is there: whole, or not at all."""
        while True:
            try:
                return self.app.job_manager.defer_jobs(specs)
            except ConnectorException:
                rows = self.query(
                    "SELECT (args ->> 'node')::int, id FROM procrastinate_deps.jobs"
                    " WHERE (args ->> 'node')::int = ANY (%s)",
                    numbers,
                )
                if rows:
                    found: dict[int, int] = dict(rows)
                    assert len(rows) == len(numbers), f"{len(rows)} of a batch of {len(numbers)} jobs are there"
                    return [found[number] for number in numbers]

    def _cancelled(self, job_id: int) -> bool | None:
        try:
            return self.app.job_manager.cancel_job_by_id(job_id)
        except ConnectorException:
            return None

    def look_after_the_hands(self) -> None:
        for hand in self.crew.dead():
            if not self.may_die:
                raise AssertionError(f"worker {hand.name} ended by itself\n{self.report()}")
            self.crew.replace(hand.name)

    def wait_until_working(self) -> None:
        """One that has just taken the place of another may not know yet what a signal means to it."""
        deadline = time.monotonic() + STUCK_S
        while True:
            self.look_after_the_hands()
            if all(hand.count("start_worker") for hand in self.crew.hands.values()):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"not all workers have started within {STUCK_S} s\n{self.report()}")
            time.sleep(POLL_S)

    def wait_until_ended(self, but: Sequence[int] = ()) -> None:
        """Until every job is terminal, but for those of the given ids. Whoever is stuck is shown."""
        seen, moved_at = None, time.monotonic()
        while True:
            (state,) = self.query(
                "SELECT count(*) FILTER (WHERE finished_at IS NULL AND id <> ALL (%s)), count(*), sum(claim)"
                " FROM procrastinate_deps.jobs",
                list(but),
            )
            if state[0] == 0:
                return
            if state != seen:
                seen, moved_at = state, time.monotonic()
            if time.monotonic() - moved_at > STUCK_S:
                raise AssertionError(f"{state[0]} job(s) did not end: nothing moved for {STUCK_S} s\n{self.report()}")
            self.look_after_the_hands()
            time.sleep(POLL_S)

    # -- the end

    def judge(self) -> Evidence:
        """Have all end, stop the workers, and check everything."""
        self.wait_until_ended()
        self.wait_until_working()
        statuses = self.crew.stop()
        evidence = self.evidence()
        found = [f"worker {name} ended with {status}" for name, status in statuses.items() if status != 0]
        found += problems(evidence)
        if found:
            shown = "\n".join(f"  {problem}" for problem in found[:SHOWN])
            raise AssertionError(f"{len(found)} problem(s), the first:\n{shown}\n{self.report()}")
        print(evidence.summary())  # shown by `pytest -rP`
        return evidence

    def evidence(self) -> Evidence:
        hands = [*self.crew.gone, *self.crew.hands.values()]
        return Evidence(
            nodes=self.nodes,
            ids=self.ids,
            schedules=self.schedules,
            cancels=self.cancels,
            killed=self.killed,
            loses_answers=self.loses_answers,
            jobs=self.query(Evidence.JOBS),
            edges=self.query("SELECT parent_id, child_id FROM procrastinate_deps.job_dependencies"),
            events=self.query(Evidence.EVENTS),
            violations=self.query("SELECT * FROM procrastinate_deps.violations()"),
            left_over=self.query(Evidence.LEFT_OVER),
            runs=read_runs(self.ledger_dsn),
            logs={hand.log.name: hand.records() for hand in hands},
        )

    def report(self) -> str:
        """Enough to do it again, and to see what is stuck."""
        try:
            stuck = self.query(STUCK, SHOWN)
            backends = self.query(BACKENDS)
        except psycopg.Error as error:
            stuck, backends = [(f"the database doesn't answer: {error}",)], []
        lines = [
            f"seed {self.seed}, {len(self.nodes)} jobs in {self.acts} waves",
            f"jobs that didn't end: {len(stuck)}",
        ]
        lines += [f"  {row}" for row in stuck]
        lines += ["backends:", *(f"  {row}" for row in backends), "workers' logs:", self.crew.logs()]
        return "\n".join(lines)

    def close(self) -> None:
        self.crew.kill()
        if self._connection is not None:
            self._connection.close()

    def hand_of(self, pid: int) -> Hand:
        return next(hand for hand in self.crew.hands.values() if hand.pid == pid)
