"""docs/semantics.md, section 8: what is bound to happen, against every way in which it may happen."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest

from tests.semantics.database import RULES, SCHEMA

if TYPE_CHECKING:
    from tests.semantics.database import Database

ENDS = ("succeeded", "failed", "cancelled", "not_needed")


async def test_8_1_a_rule_is_certain_when_no_end_of_the_live_parents_changes_it(db: Database) -> None:
    """All rules, up to two ended parents of each kind and three live ones, each of which may end in any way."""
    cases: list[tuple[str, int, int, int, int, int]] = [
        (rule, live, s, f, c, n)
        for rule in RULES
        for live in range(4)
        for s, f, c, n in itertools.product(range(3), repeat=4)
        if live + s + f + c + n > 0
    ]
    ends_of = {
        live: sorted({tuple(map(ends.count, ENDS)) for ends in itertools.product(ENDS, repeat=live)})
        for live in range(4)
    }
    met = {
        (row["rule"], *row["counts"]): row["met"]
        for row in await db.rows(
            f"SELECT rule::text, ARRAY[s, f, c, n] AS counts, {SCHEMA}.rule_met(rule, s, f, c, n) AS met"
            f" FROM unnest(enum_range(NULL::{SCHEMA}.run_when)) AS rule, generate_series(0, 5) AS s,"
            " generate_series(0, 5) AS f, generate_series(0, 5) AS c, generate_series(0, 5) AS n"
        )
    }
    said = await db.rows(
        f"SELECT {SCHEMA}.rule_outcome(u.rule::{SCHEMA}.run_when, u.live, u.s, u.f, u.c, u.n) AS outcome"
        " FROM unnest($1::text[], $2::int[], $3::int[], $4::int[], $5::int[], $6::int[])"
        " WITH ORDINALITY AS u (rule, live, s, f, c, n, nth) ORDER BY u.nth",
        *map(list, zip(*cases, strict=True)),
    )
    open_ones = 0
    for (rule, live, *counts), row in zip(cases, said, strict=True):
        possible = {met[(rule, *(a + b for a, b in zip(counts, ends, strict=True)))] for ends in ends_of[live]}
        assert row["outcome"] is (possible.pop() if len(possible) == 1 else None), (rule, live, counts)
        open_ones += row["outcome"] is None
    assert 0 < open_ones < len(cases)


def met(rule: str, ends: list[str]) -> bool:
    """The rule as docs/semantics.md has it; "upstream" counts as failed."""
    unsuccessful = ends.count("failed") + ends.count("cancelled")
    return {
        "all_finished": True,
        "all_succeeded": all(end == "succeeded" for end in ends),
        "any_succeeded": "succeeded" in ends,
        "any_failed": unsuccessful > 0,
        "all_failed": unsuccessful == len(ends),
        "none_failed": "failed" not in ends,
    }[rule]


def bound_to_be_cancelled(graph: dict[int, tuple[str, list[int]]], ended: dict[int, str]) -> dict[int, str]:
    """The definition, word for word: of each job all ways in which its parents may end, until nothing changes."""
    doomed: dict[int, str] = {}
    while True:
        before = len(doomed)
        for job, (rule, parents) in graph.items():
            if not parents or job in ended or job in doomed:
                continue
            ways = [
                [ended[parent]] if parent in ended else [doomed[parent]] if parent in doomed else list(ENDS)
                for parent in parents
            ]
            if not any(met(rule, list(ends)) for ends in itertools.product(*ways)):
                doomed[job] = "not_needed" if rule in ("any_failed", "all_failed") else "failed"
        if len(doomed) == before:
            return doomed


@pytest.mark.parametrize("seed", range(25))
async def test_8_1_what_is_bound_to_be_cancelled_is_the_fixed_point_and_comes_true(db: Database, seed: int) -> None:
    """Random graphs with some jobs ended: exactly what the definition says is doomed, and however the rest ends, just
    these are cancelled, and so.
    """
    rng = random.Random(seed)
    roots = rng.randint(2, 5)
    shape: list[tuple[str, list[int]]] = [("all_finished", []) for _ in range(roots)]
    for position in range(roots, roots + 14):
        parents = rng.sample(range(position), min(position, rng.choice([1, 1, 2, 2, 3, 4])))
        shape.append((rng.choice(RULES), parents))
    jobs = await db.defer_batch(*[{"run_when": rule, "after": parents} for rule, parents in shape])
    graph = {
        job: (rule, [jobs[parent] for parent in parents]) for job, (rule, parents) in zip(jobs, shape, strict=True)
    }
    doomed_ever: dict[int, str] = {}
    while True:
        rows = await db.rows(
            f"SELECT id, status::text, {SCHEMA}.parent_outcome(status, cancel_kind) AS outcome FROM {SCHEMA}.jobs"
        )
        ended = {row["id"]: row["outcome"] for row in rows if row["outcome"] != "live"}
        expected = bound_to_be_cancelled(graph, ended)
        found = await db.rows(f"SELECT * FROM {SCHEMA}.doomed_jobs($1)", jobs)
        kinds = {row["job_id"]: "failed" if row["kind"] == "upstream" else row["kind"] for row in found}
        assert kinds == expected
        for row in found:
            assert row["because"] in graph[row["job_id"]][1]
            assert row["because"] in ended or row["because"] in kinds
            assert row["root"] in ended
            assert row["root_status"] == (await db.status(row["root"]) or "").split()[0]
        doomed_ever |= expected
        todo = [row["id"] for row in rows if row["status"] == "todo"]
        if not todo:
            break
        await db.set_status(rng.choice(["succeeded", "failed", "cancelled", "aborted"]), rng.choice(todo))
    for job, kind in doomed_ever.items():
        assert await db.status(job) == f"cancelled {'upstream' if kind == 'failed' else kind}"
    assert await db.rows(f"SELECT FROM {SCHEMA}.jobs WHERE status = 'blocked'") == []


async def test_8_2_less_than_everything_looked_at_says_less_and_nothing_wrong(db: Database) -> None:
    """The failed root is five levels up: who looks at three jobs only doesn't know of it."""
    root, beside = await db.defer_batch({}, {})
    chain = [await db.defer(root, beside, rule="all_succeeded")]
    for _ in range(4):
        chain.append(await db.defer(chain[-1], rule="all_succeeded"))
    assert await db.rows(f"SELECT * FROM {SCHEMA}.doomed_jobs($1)", chain) == []
    await db.set_status("failed", root)
    everything = await db.rows(f"SELECT job_id, because, root FROM {SCHEMA}.doomed_jobs($1)", [chain[-1]])
    assert [tuple(row) for row in everything] == [(chain[-1], chain[-2], root)]
    assert await db.rows(f"SELECT job_id FROM {SCHEMA}.doomed_jobs($1, 3)", [chain[-1]]) == []
    assert len(await db.rows(f"SELECT job_id FROM {SCHEMA}.doomed_jobs($1)", [*chain, root, 10**9])) == 5
