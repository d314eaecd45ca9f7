"""docs/semantics.md, sections 2, 4 and 5 at once: random acts on one graph, against a model of the rules in Python.

The model has no locks, counters or waves: after each act it looks at all jobs until nothing is left to decide. One
session acts, so that every outcome is known; tests/races has many at once.
"""

from __future__ import annotations

import copy
import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.semantics.database import (
    ALREADY_STARTED,
    CIRCULAR,
    RULE_NOT_MET,
    RULES,
    SCHEMA,
)
from tests.semantics.test_2_when_a_child_runs import decision

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from tests.semantics.database import Database

ACTS = 150
JOBS = 14
# more graphs than a usual run tries: SEMANTICS_SEEDS=500 pytest tests/semantics/test_model.py
SEEDS = range(int(os.environ.get("SEMANTICS_SEEDS", "8")))
LIVE = {"blocked", "todo", "doing"}
ENDS = ["succeeded", "failed", "aborted", "cancelled manual"]


class RefusedError(Exception):
    """The rules refuse this act, with this SQLSTATE."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


@dataclass
class Node:
    """A job of the model. A status is written as `Database.status` does: a cancel with its kind."""

    status: str
    rule: str
    parents: set[int]
    deleted_parents: dict[int, str] = field(default_factory=dict)
    was_claimed: bool = False
    ignores_parents: bool = False

    @property
    def is_live(self) -> bool:
        return self.status in LIVE


@dataclass
class Model:
    jobs: dict[int, Node] = field(default_factory=dict)

    def ends(self, job: int) -> list[str]:
        """How the parents of a job stand, deleted ones included."""
        node = self.jobs[job]
        return [self.jobs[parent].status for parent in node.parents] + list(node.deleted_parents.values())

    def decided(self, job: int) -> str:
        """What its rule says of a job, by how its parents stand now."""
        ends = self.ends(job)
        if any(end in LIVE for end in ends):
            return "blocked"
        return decision(self.jobs[job].rule, ends) if ends else "todo"

    def settle(self) -> None:
        waiting = True
        while waiting:
            waiting = False
            for job, node in self.jobs.items():
                if node.status == "blocked" and (now := self.decided(job)) != "blocked":
                    node.status = now
                    waiting = True

    def children(self, jobs: Iterable[int]) -> set[int]:
        parents = set(jobs)
        return {job for job, node in self.jobs.items() if node.parents & parents}

    # the acts

    def defer(self, job: int, parents: Iterable[int], rule: str) -> None:
        self.jobs[job] = Node("blocked", rule, set(parents))
        self.settle()

    def start(self, job: int) -> None:
        self.jobs[job].status = "doing"
        self.jobs[job].was_claimed = True

    def end(self, ends: dict[int, str]) -> None:
        for job, status in ends.items():
            self.jobs[job].status = status
        self.settle()

    def delete(self, jobs: Iterable[int]) -> None:
        gone = {job: self.jobs.pop(job) for job in jobs}
        for node in self.jobs.values():
            for parent in node.parents & gone.keys():
                node.deleted_parents[parent] = "cancelled manual" if gone[parent].is_live else gone[parent].status
                node.parents.remove(parent)
        self.settle()

    def drop_parents(self, child: int, parents: Iterable[int]) -> None:
        self.jobs[child].parents -= set(parents)
        for parent in parents:
            self.jobs[child].deleted_parents.pop(parent, None)
        self.settle()

    def add_parents(self, child: int, parents: Iterable[int]) -> None:
        node = self.jobs[child]
        below, todo = {child}, {child}
        while todo := self.children(todo) - below:
            below |= todo
        if below & set(parents):
            raise RefusedError(CIRCULAR)
        if node.status not in {"blocked", "todo"} or (node.status == "todo" and node.was_claimed):
            raise RefusedError(ALREADY_STARTED)
        node.parents |= set(parents)
        node.status = "blocked"
        node.ignores_parents = False
        self.settle()

    def revive(self, jobs: list[int], ignore_dependencies: bool = False) -> None:
        for job in jobs:
            node = self.jobs[job]
            node.status = "todo"
            node.was_claimed = False
            node.ignores_parents = ignore_dependencies
        changed = set(jobs)
        while changed:
            dependents = self.children(changed) - set(jobs)
            changed = set()
            for job in dependents:
                node = self.jobs[job]
                if node.status in {"cancelled upstream", "cancelled not_needed"}:
                    changed.add(job)
                    node.status = "blocked"
                elif node.status == "todo" and not node.was_claimed and not node.ignores_parents:
                    node.status = "blocked"
        if not ignore_dependencies:
            now = {job: self.decided(job) for job in jobs}
            if any(status.startswith("cancelled") for status in now.values()):
                raise RefusedError(RULE_NOT_MET)
            for job, status in now.items():
                self.jobs[job].status = status
        self.settle()

    def ignore(self, job: int) -> None:
        self.jobs[job].status = "todo"
        self.jobs[job].was_claimed = False
        self.jobs[job].ignores_parents = True


class Walk:
    """One random walk: each act is done to the model and to the database, and both must agree."""

    def __init__(self, db: Database, seed: int) -> None:
        self.db = db
        self.random = random.Random(seed)
        self.model = Model()
        self.log: list[str] = []

    def some(self, jobs: Iterable[int], most: int) -> list[int]:
        """At least one of these, in any order."""
        jobs = sorted(jobs)
        return self.random.sample(jobs, min(len(jobs), self.random.randint(1, most)))

    def with_status(self, *statuses: str) -> list[int]:
        return [job for job, node in self.model.jobs.items() if node.status.partition(" ")[0] in statuses]

    async def both(self, what: str, act: Callable[[Model], None], do: Callable[[], Awaitable[object]]) -> None:
        self.log.append(what)
        after = copy.deepcopy(self.model)
        expected = None
        try:
            act(after)
            self.model = after
        except RefusedError as refusal:
            expected = refusal.sqlstate
        got = None
        try:
            await do()
        except asyncpg.PostgresError as error:
            got = error.sqlstate
        assert got == expected, self.story()

    def story(self) -> str:
        return "\n".join(["", *self.log[-40:]])

    async def step(self) -> None:
        acts = [self.defer] * 3 + [self.start] * 3 + [self.finish] * 4
        acts += [self.requeue, self.end_by_hand, self.delete, self.delete_edges, self.remove_dependencies]
        acts += [self.add_dependencies, self.retry, self.revive_by_hand, self.ignore_dependencies]
        await self.random.choice(acts)()

    async def defer(self) -> None:
        if len(self.model.jobs) >= JOBS:
            return
        rule = self.random.choice(RULES)
        parents = self.some(self.model.jobs, 3) if self.model.jobs else []
        job = await self.db.defer(*parents, rule=rule)
        self.log.append(f"defer {job}: {rule} of {parents}")
        self.model.defer(job, parents, rule)

    async def start(self) -> None:
        if todo := self.with_status("todo"):
            job = self.random.choice(todo)
            await self.both(f"start {job}", lambda model: model.start(job), lambda: self.db.start(job))

    async def finish(self) -> None:
        if doing := self.with_status("doing"):
            ends = {job: self.random.choice(["succeeded", "failed", "aborted"]) for job in self.some(doing, 3)}
            await self.both(f"finish {ends}", lambda model: model.end(ends), lambda: self.db.finish(ends))

    async def requeue(self) -> None:
        if doing := self.with_status("doing"):
            ends = dict.fromkeys(self.some(doing, 2), "todo")
            await self.both(f"finish {ends}", lambda model: model.end(ends), lambda: self.db.finish(ends))

    async def end_by_hand(self) -> None:
        if live := self.with_status(*LIVE):
            status, jobs = self.random.choice(ENDS), self.some(live, 4)
            await self.both(
                f"update {jobs} to {status}",
                lambda model: model.end(dict.fromkeys(jobs, status)),
                lambda: self.db.set_status(status.split()[0], *jobs),
            )

    async def delete(self) -> None:
        if self.model.jobs:
            jobs = self.some(self.model.jobs, 4)
            await self.both(f"delete {jobs}", lambda model: model.delete(jobs), lambda: self.db.delete(*jobs))

    async def delete_edges(self) -> None:
        edges = [(parent, child) for child, node in self.model.jobs.items() for parent in sorted(node.parents)]
        if edges:
            chosen = self.random.sample(edges, min(len(edges), self.random.randint(1, 3)))

            def act(model: Model) -> None:
                for parent, child in chosen:
                    model.jobs[child].parents.remove(parent)
                model.settle()

            await self.both(
                f"delete edges {chosen}",
                act,
                lambda: self.db.execute(
                    f"DELETE FROM {SCHEMA}.job_dependencies WHERE (parent_id, child_id)"
                    " IN (SELECT * FROM unnest($1::bigint[], $2::bigint[]))",
                    [parent for parent, _ in chosen],
                    [child for _, child in chosen],
                ),
            )

    async def remove_dependencies(self) -> None:
        children = {job: {*node.parents, *node.deleted_parents} for job, node in self.model.jobs.items()}
        if children := {job: parents for job, parents in children.items() if parents}:
            child = self.random.choice(list(children))
            parents = self.some(children[child], 2)
            await self.both(
                f"remove_dependencies {child} from {parents}",
                lambda model: model.drop_parents(child, parents),
                lambda: self.db.remove_dependencies(child, *parents),
            )

    async def add_dependencies(self) -> None:
        if self.model.jobs:
            child, parents = self.random.choice(list(self.model.jobs)), self.some(self.model.jobs, 2)
            await self.both(
                f"add_dependencies {child} to {parents}",
                lambda model: model.add_parents(child, parents),
                lambda: self.db.add_dependencies(child, *parents),
            )

    async def retry(self) -> None:
        if ended := self.with_status("succeeded", "failed", "aborted", "cancelled"):
            job, anyway = self.random.choice(ended), self.random.random() < 0.2
            await self.both(
                f"retry {job}{' anyway' if anyway else ''}",
                lambda model: model.revive([job], anyway),
                lambda: self.db.retry(job, ignore_dependencies=anyway),
            )

    async def revive_by_hand(self) -> None:
        if ended := self.with_status("succeeded", "failed", "aborted", "cancelled"):
            jobs = self.some(ended, 4)
            await self.both(
                f"update {jobs} to todo", lambda model: model.revive(jobs), lambda: self.db.set_status("todo", *jobs)
            )

    async def ignore_dependencies(self) -> None:
        if blocked := self.with_status("blocked"):
            job = self.random.choice(blocked)
            await self.both(
                f"retry blocked {job} anyway",
                lambda model: model.ignore(job),
                lambda: self.db.retry(job, ignore_dependencies=True),
            )

    async def compare(self) -> None:
        jobs = list(self.model.jobs)
        expected = {job: self.model.jobs[job].status for job in jobs}
        assert dict(zip(jobs, await self.db.statuses(*jobs), strict=True)) == expected, self.story()
        if jobs:
            child = self.random.choice(jobs)
            node = self.model.jobs[child]
            parents = {parent: self.model.jobs[parent].status for parent in node.parents} | node.deleted_parents
            statuses = {parent: parents[parent].split()[0] for parent in sorted(parents)}
            assert await self.db.parent_statuses(child) == statuses, self.story()


@pytest.mark.parametrize("seed", SEEDS)
async def test_2_4_5_random_acts_agree_with_the_rules(db: Database, seed: int) -> None:
    """Whatever is done to a graph, by functions or by plain SQL, every job stands as the rules say."""
    walk = Walk(db, seed)
    for act in range(ACTS):
        await walk.step()
        await walk.compare()
        if act % 10 == 0:
            assert await db.violations() == [], walk.story()
