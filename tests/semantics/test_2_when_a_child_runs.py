"""docs/semantics.md, sections 1 and 2: words and rules.

The table of the rules is stated here once more, in Python and from nothing but its words, and compared with what the
database decides for every way in which up to three parents can end.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.semantics.database import (
    DEPENDENCY_NOT_FOUND,
    RULES,
    SCHEMA,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.semantics.database import Database, Wakeups

ENDS = ("succeeded", "failed", "aborted", "cancelled manual", "cancelled upstream", "cancelled not_needed")


@dataclass(frozen=True)
class Kind:
    """A way in which a parent can end, and whether it is deleted, and when."""

    end: str
    deleted: str = "no"

    def __str__(self) -> str:
        return self.end if self.deleted == "no" else f"{self.end}, deleted {self.deleted}"


STAYING = tuple(Kind(end) for end in ENDS)
KINDS = (*STAYING, *(Kind(end, "after its end") for end in ENDS), Kind("cancelled manual", "live"))
LARGEST_FAMILY = 3


def families(kinds: Sequence[Kind]) -> list[tuple[Kind, ...]]:
    """All combinations of 1 to 3 parents."""
    return [
        family
        for size in range(1, LARGEST_FAMILY + 1)
        for family in itertools.combinations_with_replacement(kinds, size)
    ]


def unsuccessful(end: str) -> bool:
    """Failed, cancelled or aborted, as a rule that asks for a failure sees it: a cancel as not needed is none."""
    return end in {"failed", "aborted", "cancelled manual", "cancelled upstream"}


def decision(rule: str, ends: Sequence[str]) -> str:
    """The table: the status of a child whose parents have all ended, each like this."""
    match rule:
        case "all_finished":
            return "todo"
        case "all_succeeded":
            return "todo" if all(end == "succeeded" for end in ends) else "cancelled upstream"
        case "any_succeeded":
            return "todo" if any(end == "succeeded" for end in ends) else "cancelled upstream"
        case "any_failed":
            return "todo" if any(unsuccessful(end) for end in ends) else "cancelled not_needed"
        case "all_failed":
            return "todo" if all(unsuccessful(end) for end in ends) else "cancelled not_needed"
        case "none_failed":
            stopping = {"failed", "aborted", "cancelled upstream"}
            return "cancelled upstream" if any(end in stopping for end in ends) else "todo"
    raise AssertionError(f"no such rule: {rule}")


def deciding(rule: str, end: str) -> bool:
    """Is a parent with this end one of those for which the rule was not met?"""
    match rule:
        case "all_succeeded":
            return end != "succeeded"
        case "none_failed":
            return end in {"failed", "aborted", "cancelled upstream"}
        case "all_failed":
            return not unsuccessful(end)
        case _:
            return True


@dataclass
class Parent:
    kind: Kind
    id: int
    # the one whose end makes the database cancel this parent by its rule
    grandparent: int | None


async def defer_parents(db: Database, kinds: Sequence[Kind]) -> dict[Kind, list[Parent]]:
    """As many of each kind as the largest family has."""
    parents: dict[Kind, list[Parent]] = {kind: [] for kind in kinds}
    for kind in kinds:
        for _ in range(LARGEST_FAMILY):
            if kind.end in {"cancelled upstream", "cancelled not_needed"}:
                rule = "all_succeeded" if kind.end == "cancelled upstream" else "any_failed"
                grandparent = await db.defer()
                parents[kind].append(Parent(kind, await db.defer(grandparent, rule=rule), grandparent))
            else:
                parents[kind].append(Parent(kind, await db.defer(), None))
    return parents


async def end_parent(db: Database, parent: Parent) -> None:
    kind = parent.kind
    if kind.deleted == "live":
        await db.delete(parent.id)
        return
    if parent.grandparent is not None:
        await db.end("failed" if kind.end == "cancelled upstream" else "succeeded", parent.grandparent)
    else:
        await db.end(kind.end.removesuffix(" manual"), parent.id)
    assert await db.status(parent.id) == kind.end
    if kind.deleted == "after its end":
        await db.delete(parent.id)


def chosen(family: Sequence[Kind], parents: dict[Kind, list[Parent]]) -> list[Parent]:
    """Different parents also where a family has several of a kind."""
    taken = dict.fromkeys(family, 0)
    result = []
    for kind in family:
        result.append(parents[kind][taken[kind]])
        taken[kind] += 1
    return result


def named_parents(reason: str) -> set[int]:
    """The ids in a reason like "all_succeeded: parent 7 failed, parent 9 cancelled"."""
    rule, _, rest = reason.partition(": ")
    assert rule in RULES
    words = rest.replace(",", "").split()
    return {int(number) for word, number in itertools.pairwise(words) if word == "parent"}


@pytest.mark.parametrize("order", ["forwards", "backwards"])
@pytest.mark.parametrize("rule", RULES)
async def test_2_rule(db: Database, rule: str, order: str) -> None:
    """A rule is decided once, when all parents are terminal, by how they ended; until then the child is blocked.

    Every combination of one to three parents over every way to end, deleted ones included. A deleted parent counts as
    it ended, one deleted while live as cancelled by hand. The reason names the parents for which the rule is not met.
    """
    parents = await defer_parents(db, KINDS)
    children = [(family, chosen(family, parents)) for family in families(KINDS)]
    ids = await db.defer_batch(
        *({"depends_on": [p.id for p in of], "run_when": rule, "queue": "children"} for _, of in children)
    )
    assert set(await db.statuses(*ids)) == {"blocked"}

    ended: set[int] = set()
    in_line = [parent for kind in KINDS for parent in parents[kind]]
    for parent in in_line if order == "forwards" else in_line[::-1]:
        await end_parent(db, parent)
        ended.add(parent.id)
        now = await db.statuses(*ids)
        wrong = [
            (", ".join(map(str, family)), status, expected)
            for (family, of), status in zip(children, now, strict=True)
            if status
            != (
                expected := decision(rule, [kind.end for kind in family])
                if all(p.id in ended for p in of)
                else "blocked"
            )
        ]
        assert not wrong, f"{len(wrong)} children are wrong after the end of {parent}: {wrong[:5]}"

    rows = await db.rows(f"SELECT id, cancel_reason FROM {SCHEMA}.jobs WHERE id = ANY ($1)", ids)
    reasons = {row["id"]: row["cancel_reason"] for row in rows}
    for child, (family, of), status in zip(ids, children, await db.statuses(*ids), strict=True):
        if status == "todo":
            assert reasons[child] is None
        else:
            named = {parent.id for kind, parent in zip(family, of, strict=True) if deciding(rule, kind.end)}
            assert named_parents(reasons[child]) == named, (family, reasons[child])


@pytest.mark.parametrize("rule", RULES)
async def test_2_rule_of_parents_that_had_ended_before(db: Database, rule: str) -> None:
    """A parent that was terminal already when the child was deferred counts as it ended: no error, same outcome."""
    parents = await defer_parents(db, STAYING)
    for parent in itertools.chain.from_iterable(parents.values()):
        await end_parent(db, parent)
    children = [(family, chosen(family, parents)) for family in families(STAYING)]
    ids = await db.defer_batch(*({"depends_on": [p.id for p in of], "run_when": rule} for _, of in children))
    expected = [decision(rule, [kind.end for kind in family]) for family, _ in children]
    assert await db.statuses(*ids) == expected


@pytest.mark.parametrize("rule", RULES)
async def test_2_rule_of_ended_and_live_parents_mixed(db: Database, rule: str) -> None:
    """Parents that had ended before the child was deferred, and one that ends after, are decided together."""
    parents = await defer_parents(db, STAYING)
    last = parents[STAYING[0]].pop()
    for parent in itertools.chain.from_iterable(parents.values()):
        await end_parent(db, parent)
    of = [family for family in families(STAYING) if family.count(STAYING[0]) < LARGEST_FAMILY]
    ids = await db.defer_batch(
        *({"depends_on": [last.id, *(p.id for p in chosen(family, parents))], "run_when": rule} for family in of)
    )
    assert set(await db.statuses(*ids)) == {"blocked"}
    await end_parent(db, last)
    assert await db.statuses(*ids) == [decision(rule, ["succeeded", *(k.end for k in family)]) for family in of]


# 1. Words


async def test_1_any_number_of_parents_and_children_on_any_queue(db: Database) -> None:
    """A job may have any number of parents and of children, on any queue."""
    parents = await db.defer_batch(*({"queue": f"q{n}"} for n in range(5)))
    children = await db.defer_batch(*({"queue": f"q{n}", "depends_on": parents} for n in range(7)))
    for n, parent in enumerate(parents):
        assert set(await db.statuses(*children)) == {"blocked"}
        await db.end("succeeded" if n % 2 else "failed", parent)
    assert await db.statuses(*children) == ["todo"] * 7


async def test_1_a_job_waiting_for_a_retry_is_not_terminal(db: Database) -> None:
    """Only the last attempt ends a job: while it waits for a retry its children wait too."""
    parent = await db.defer()
    child = await db.defer(parent, rule="any_failed")
    await db.start(parent)
    assert await db.finish({parent: "todo"}, errors={parent: "boom"}) == {}
    assert await db.statuses(parent, child) == ["todo", "blocked"]
    await db.end("failed", parent)
    assert await db.status(child) == "todo"


async def test_1_a_lost_workers_job_stays_doing_until_it_is_rescued(db: Database) -> None:
    """A crashed worker's job is not terminal: its children wait for the rescue, and then for the job's end.

    RQ #2006: a child is never released when its parent is abandoned by a dead worker.
    """
    parent = await db.defer()
    child = await db.defer(parent, rule="any_failed")
    await db.start(parent)
    await db.lose_worker()
    assert await db.statuses(parent, child) == ["doing", "blocked"]
    assert await db.rescue(max_rescues=0) == {parent: "failed"}
    assert await db.status(child) == "todo"


async def test_1_blocked_is_never_fetched(db: Database) -> None:
    """A blocked job is no candidate of a fetch, whatever its priority; its parent is."""
    parent = await db.defer(priority=-5)
    child = await db.defer(parent, priority=100)
    assert await db.fetch(10) == [parent]
    assert await db.fetch(10) == []
    assert await db.status(child) == "blocked"


async def test_1_cancel_kinds_tell_skipped_from_asked_for(db: Database) -> None:
    """A cancelled job says why: by hand, because of a parent, or because no failure came to be handled.

    "Skipped" and "never reached" are indistinguishable in pg_durable (#240).
    """
    fails, works, asked = [await db.defer() for _ in range(3)]
    upstream = await db.defer(fails, rule="all_succeeded")
    not_needed = await db.defer(works, rule="any_failed")
    await db.end("failed", fails)
    await db.end("succeeded", works)
    await db.end("cancelled", asked)
    assert await db.statuses(upstream, not_needed, asked) == [
        "cancelled upstream",
        "cancelled not_needed",
        "cancelled manual",
    ]
    assert await db.column(upstream, "cancel_reason") == f"all_succeeded: parent {fails} failed"
    assert await db.column(not_needed, "cancel_reason") == f"any_failed: parent {works} succeeded"


# 2. Rules


@pytest.mark.parametrize(
    ("rule", "first_end"), [("any_succeeded", "succeeded"), ("all_succeeded", "failed"), ("any_failed", "failed")]
)
async def test_2_decided_only_when_all_parents_are_terminal(db: Database, rule: str, first_end: str) -> None:
    """Also where one end would be enough to know, the child waits for the others.

    BullMQ #4248: "continue on failure" released a parent while its siblings still ran.
    """
    first, second = await db.defer(), await db.defer()
    child = await db.defer(first, second, rule=rule)
    await db.end(first_end, first)
    assert await db.status(child) == "blocked"
    await db.start(second)
    assert await db.status(child) == "blocked"
    await db.finish({second: "succeeded"})
    assert await db.status(child) == decision(rule, [first_end, "succeeded"])


async def test_2_a_final_step_never_starts_while_part_of_its_graph_runs(db: Database) -> None:
    """A job that is cancelled by its rule has only terminal ancestors, so that what comes after it is really last."""
    fails, slow = await db.defer(), await db.defer()
    load = await db.defer(fails, slow, rule="all_succeeded")
    final = await db.defer(load)
    await db.start(fails, slow)
    await db.finish({fails: "failed"})
    assert await db.statuses(load, final) == ["blocked", "blocked"]
    await db.finish({slow: "succeeded"})
    assert await db.statuses(load, final) == ["cancelled upstream", "todo"]


async def test_2_default_is_all_finished(db: Database) -> None:
    """Without a rule the children of a failed parent do run, and can read how it ended.

    RQ #1093, #1436 and BullMQ #800: children that wait for ever for a parent that failed.
    """
    parent = await db.defer()
    [child] = await db.defer_batch({"depends_on": [parent]})
    await db.end("failed", parent)
    await db.start(child)
    assert await db.column(child, "run_when") == "all_finished"
    assert await db.parent_statuses(child) == {parent: "failed"}


async def test_2_effect_goes_on_through_the_children_by_their_rules(db: Database) -> None:
    """A job cancelled by its rule is an end like others for its own children, each deciding by its own rule."""
    root = await db.defer()
    upstream = await db.defer(root, rule="all_succeeded")
    below_upstream = {rule: await db.defer(upstream, rule=rule) for rule in RULES}
    not_needed = await db.defer(root, rule="all_failed")
    twin = await db.defer()
    unneeded = await db.defer(twin, rule="any_failed")
    below_unneeded = {rule: await db.defer(unneeded, rule=rule) for rule in RULES}
    await db.end("failed", root)
    await db.end("succeeded", twin)
    assert await db.statuses(upstream, not_needed, unneeded) == ["cancelled upstream", "todo", "cancelled not_needed"]
    for rule, child in below_upstream.items():
        assert (rule, await db.status(child)) == (rule, decision(rule, ["cancelled upstream"]))
    for rule, child in below_unneeded.items():
        assert (rule, await db.status(child)) == (rule, decision(rule, ["cancelled not_needed"]))


async def test_2_effect_is_part_of_the_transaction_that_ended_the_first_parent(db: Database, other: Database) -> None:
    """All levels are settled when the end is visible, and none before."""
    jobs = [await db.defer()]
    for rule in ["all_succeeded", "none_failed", "all_succeeded", "any_failed"]:
        jobs.append(await db.defer(jobs[-1], rule=rule))
    await db.start(jobs[0])
    async with db.transaction():
        await db.finish({jobs[0]: "failed"})
        assert await db.statuses(*jobs) == ["failed", *["cancelled upstream"] * 3, "todo"]
        assert await other.statuses(*jobs) == ["doing", *["blocked"] * 4]
    assert await other.statuses(*jobs) == ["failed", *["cancelled upstream"] * 3, "todo"]


@pytest.mark.parametrize("way", ["finish", "plain update", "delete"])
async def test_2_nothing_waits_for_ever_in_a_long_chain(db: Database, way: str) -> None:
    """3,000 levels of cancels are settled by the one end that starts them, however it comes."""
    batch: list[dict[str, object]] = [{}]
    batch += [{"after": [n], "run_when": "all_succeeded"} for n in range(3_000)]
    batch += [{"after": [3_000], "run_when": "any_failed"}]
    ids = await db.defer_batch(*batch)
    if way == "finish":
        await db.end("failed", ids[0])
    elif way == "plain update":
        await db.set_status("aborted", ids[0])
    else:
        await db.delete(ids[0])
    assert set(await db.statuses(*ids[1:-1])) == {"cancelled upstream"}
    assert await db.status(ids[-1]) == "todo"


async def test_2_wide_fan_in_runs_its_child_once(db: Database) -> None:
    """The last of 2,000 parents, ended in batches, releases the child, and it is fetched once.

    Celery #4207, #3324: the body of a large chord is never called.
    """
    parents = await db.defer_batch(*[{"queue": "wide"}] * 2_000)
    child = await db.defer(*parents, queue="join")
    for _ in range(4):
        batch = await db.fetch(500, ["wide"])
        assert len(batch) == 500
        assert await db.fetch(1, ["join"]) == []
        assert await db.finish({job: "failed" if job % 7 == 0 else "succeeded" for job in batch}) == {}
    assert await db.fetch(2, ["join"]) == [child]
    assert await db.fetch(2, ["join"]) == []


@pytest.mark.parametrize("empty", [{}, {"depends_on": []}, {"depends_on": None}, {"after": []}], ids=str)
@pytest.mark.parametrize("rule", RULES)
async def test_2_no_parents_runs_at_once_under_every_rule(
    db: Database, wakeups: Wakeups, rule: str, empty: dict[str, object]
) -> None:
    """No parents, given as nothing, null or an empty list: runnable at once, and announced.

    GoodJob and Sidekiq (#4896) had to fix what an empty batch does.
    """
    [job] = await db.defer_batch({"run_when": rule, "queue": "q", **empty})
    assert await wakeups.queues() == ["q"]
    assert await db.fetch(1) == [job]


async def test_2_duplicate_parents_collapse(db: Database) -> None:
    """An id that is named twice, also by its place in the batch, is one parent."""
    parent = await db.defer()
    first, child = await db.defer_batch({}, {"depends_on": [parent, parent], "after": [0, 0]})
    assert await db.parents(child) == [parent, first]
    await db.end("succeeded", parent)
    assert await db.status(child) == "blocked"
    await db.end("succeeded", first)
    assert await db.status(child) == "todo"


async def test_2_unknown_parents_are_refused_and_nothing_is_inserted(db: Database) -> None:
    """Ids that never existed or were deleted: all of them are named, and no job of the batch is there."""
    present, deleted = await db.defer(), await db.defer()
    await db.delete(deleted)
    before = await db.snapshot()
    with refused(DEPENDENCY_NOT_FOUND) as refusal:
        await db.defer_batch({}, {"depends_on": [present, deleted]}, {"depends_on": [10**12], "after": [0]})
    assert refusal.detail == {"ids": [deleted, 10**12]}
    assert str(deleted) in refusal.message
    assert await db.snapshot() == before


async def test_2_a_parent_whose_deferral_is_not_committed_is_not_found(db: Database, other: Database) -> None:
    """RQ #2275: parents that were created but not enqueued are silently ignored."""
    async with other.transaction():
        parent = await other.defer()
        with refused(DEPENDENCY_NOT_FOUND) as refusal:
            await db.defer(parent)
        assert refusal.detail == {"ids": [parent]}
    await db.defer(parent)
