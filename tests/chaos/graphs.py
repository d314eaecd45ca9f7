"""Random graphs of jobs, the same for the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from procrastinate_deps.dependencies import RunWhen
from procrastinate_deps.jobs import JobSpec

QUEUES = ("default", "default", "fast", "slow")
LOCKS = 5
MAX_WORK_MS = 20
MAX_DELAY_S = 1.5
# A parent is looked for among so many nodes before: near enough that some have ended and some wait.
REACH = 60
RULES = (
    [RunWhen.ALL_FINISHED] * 4
    + [RunWhen.ALL_SUCCEEDED] * 3
    + [RunWhen.NONE_FAILED] * 2
    + [RunWhen.ANY_SUCCEEDED, RunWhen.ANY_FAILED, RunWhen.ALL_FAILED]
)


@dataclass(frozen=True, slots=True)
class Node:
    """A job of the plan.

    Attributes
    ----------
    number:
        Its place in the plan, and its argument `node`: by it the job is found again.
    kind:
        steady succeeds; flaky fails `failures` times and is retried at once; patient is the same with a wait before
        each retry; doomed fails always; grower defers jobs and makes `join` wait for them; join is a grower's child;
        held waits for a row in the ledger; later defers a job for a moment later.
    delay_s:
        It is scheduled so many seconds after it is deferred.
    cancelled:
        Someone cancels it, right after it was deferred: too late, now and then.
    """

    number: int
    kind: str = "steady"
    sync: bool = False
    parents: tuple[int, ...] = ()
    rule: RunWhen = RunWhen.ALL_FINISHED
    queue: str = "default"
    priority: int = 0
    lock: str | None = None
    queueing_lock: str | None = None
    delay_s: float = 0
    work_ms: int = 0
    failures: int = 0
    cancelled: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {"node": self.number, "work_ms": self.work_ms}
        return arguments | {"failures": self.failures} if self.kind in ("flaky", "patient") else arguments

    def spec(self, ids: dict[int, int], wave: dict[int, int]) -> JobSpec:
        """What to defer. ids: of the nodes that were deferred before; wave: positions of those of the same batch."""
        return JobSpec(
            task_name=f"{self.kind}_{'sync' if self.sync else 'async'}",
            task_kwargs=self.arguments,
            queue=self.queue,
            priority=self.priority,
            lock=self.lock,
            queueing_lock=self.queueing_lock,
            scheduled_at=datetime.now(UTC) + timedelta(seconds=self.delay_s) if self.delay_s else None,
            run_when=self.rule,
            depends_on=[ids[parent] for parent in self.parents if parent in ids],
            after=[wave[parent] for parent in self.parents if parent in wave],
        )


class _Planner:
    def __init__(self, seed: int, jobs: int) -> None:
        self._chance = random.Random(seed)
        self._jobs = jobs
        self.nodes: list[Node] = []

    def plan(self) -> None:
        shapes = [self._chain, self._fan, self._layers, self._grown, self._loose]
        while len(self.nodes) < self._jobs:
            self._chance.choice(shapes)()

    def _add(self, *parents: int, **fields: Any) -> int:
        chance = self._chance
        number = len(self.nodes)
        node = Node(
            number,
            kind=chance.choices(["steady", "flaky", "patient", "doomed"], [80, 8, 4, 8])[0],
            sync=chance.random() < 0.3,
            parents=tuple(dict.fromkeys(parents)),
            rule=chance.choice(RULES) if parents else RunWhen.ALL_FINISHED,
            queue=chance.choice(QUEUES),
            priority=chance.choice([0, 0, 0, 1, 5]),
            lock=f"lock {chance.randrange(LOCKS)}" if chance.random() < 0.15 else None,
            queueing_lock=f"node {number}" if chance.random() < 0.1 else None,
            delay_s=chance.uniform(0.1, MAX_DELAY_S) if chance.random() < 0.06 else 0,
            work_ms=chance.randint(0, MAX_WORK_MS),
            cancelled=chance.random() < 0.02,
        )
        node = replace(node, **fields)
        if node.kind in ("flaky", "patient"):
            node = replace(node, failures=chance.randint(1, 2))
        self.nodes.append(node)
        return number

    def _near(self, most: int) -> list[int]:
        """Some nodes not far before the next one."""
        end = len(self.nodes)
        begin = max(0, end - REACH)
        return self._chance.sample(range(begin, end), min(end - begin, self._chance.randint(0, most)))

    def _chain(self) -> None:
        lock = f"chain {len(self.nodes)}" if self._chance.random() < 0.3 else None
        last = self._add(*self._near(1))
        for _ in range(self._chance.randint(4, 10)):
            last = self._add(last, rule=RunWhen.ALL_FINISHED, lock=lock)

    def _fan(self) -> None:
        source = self._add(*self._near(1))
        middle = [self._add(source) for _ in range(self._chance.randint(6, 14))]
        self._add(*middle)

    def _layers(self) -> None:
        layer = [self._add() for _ in range(4)]
        for _ in range(3):
            layer = [self._add(*layer) for _ in layer]

    def _grown(self) -> None:
        """What is deferred while the first one runs stands between it and the second."""
        grower = self._add(*self._near(1), kind="grower", cancelled=False, delay_s=0)
        self._add(grower, kind="join", cancelled=False)

    def _loose(self) -> None:
        for _ in range(self._chance.randint(3, 10)):
            self._add(*self._near(4))


def random_graph(seed: int, jobs: int) -> list[Node]:
    """At least so many nodes, parents before their children. Each join is its grower's only child of that kind."""
    planner = _Planner(seed, jobs)
    planner.plan()
    return planner.nodes


def in_waves(nodes: list[Node], count: int) -> list[list[Node]]:
    """The nodes in `count` batches of about the same size, in their order; a grower and its join stay together."""
    waves: list[list[Node]] = [[]]
    size = -(-len(nodes) // count)
    for node in nodes:
        if len(waves[-1]) >= size and node.kind != "join":
            waves.append([])
        waves[-1].append(node)
    return waves
