"""What the machines draw."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from tests.model.model import RUN_WHEN, Retry, RunWhen, Status

WORKERS = 3
QUEUES = ("a", "b")


@dataclass(frozen=True)
class NewJob:
    run_when: RunWhen
    queue: str
    priority: int
    lock: str | None
    queueing_lock: str | None
    delayed: bool
    # picks: see Machine.choose
    parents: list[int]
    after: list[int]
    of_a_deleted_one: bool


# A pick is a number that stands for one of however many jobs there are to choose from at that moment.
pick = st.integers(0, 15)
picks = st.lists(pick, min_size=1, max_size=4, unique=True)
few = st.lists(pick, min_size=1, max_size=2, unique=True)
flag = st.booleans()
rarely = st.sampled_from((False, False, False, False, True))
seldom = st.integers(0, 15).map(lambda number: number == 15)
worker_numbers = st.integers(0, WORKERS - 1)
queues = st.sampled_from(QUEUES)
priorities = st.integers(0, 2)
fetched_queues = st.sampled_from((None, ["a"], ["b"], ["b", "a"]))
retries = st.builds(
    Retry,
    delayed=rarely,
    priority=st.none() | priorities,
    queue=st.none() | queues,
    lock=st.sampled_from((None, None, "x")),
)
said: st.SearchStrategy[tuple[Status, Retry]] = st.tuples(
    st.sampled_from(("succeeded", "succeeded", "failed", "failed", "todo", "todo", "aborted", "cancelled")), retries
)
new_jobs = st.builds(
    NewJob,
    run_when=st.sampled_from(RUN_WHEN),
    queue=queues,
    priority=priorities,
    lock=st.sampled_from((None, "x", "y")),
    queueing_lock=st.sampled_from((None, None, "q")),
    delayed=seldom,
    parents=st.lists(pick, max_size=3, unique=True),
    after=st.lists(pick, max_size=2, unique=True),
    of_a_deleted_one=seldom,
)
