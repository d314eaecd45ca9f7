"""A graph as a page draws it: boxes and arrows, in layers. A large one by groups, each of which can be opened."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from procrastinate_deps.graphs import Graph, GraphJob
from procrastinate_deps.jobs import TERMINAL, CancelKind, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from procrastinate_deps.explanations import Doomed
    from procrastinate_deps.statements import GraphRow

MAX_BOXES = 240
"""A graph with more jobs is drawn by groups, the jobs of one task in one layer, and if need be in several layers."""

KEPT = (24, 8, 3, 1)
"""Groups not larger than the first of these are drawn job by job; the next ones hold where that is too much."""

OPENED = 150
"""So many jobs of an opened group are drawn by themselves."""

FOUND = 20
"""So many jobs that are searched for are taken out of their groups."""

_URGENCY = (
    Status.DOING,
    Status.FAILED,
    Status.ABORTED,
    Status.TODO,
    Status.BLOCKED,
    Status.CANCELLED,
    Status.SUCCEEDED,
)


@dataclass(slots=True)
class _Box:
    key: str
    task: str
    layer: int
    jobs: list[GraphJob] = field(default_factory=list)
    group: str | None = None


@dataclass(frozen=True, slots=True)
class _Around:
    """What is known of the jobs besides themselves."""

    fates: Mapping[int, Doomed]
    on_path: Collection[int]
    slack_s: Mapping[int, float]
    ready: Mapping[int, datetime]
    deciders: Mapping[int, Sequence[GraphJob]]
    focus: int | None
    now: datetime


def graph_data(
    rows: Sequence[GraphRow],
    edges: Iterable[tuple[int, int]],
    doomed: Collection[Doomed],
    *,
    now: datetime,
    opened: Collection[str] = (),
    find: str | None = None,
    focus: int | None = None,
    truncated: bool = False,
) -> dict[str, Any]:
    """What the page's graph and time line show.

    Parameters
    ----------
    opened:
        Keys of groups whose jobs are to be drawn by themselves.
    find:
        A part of the ids, nodes or tasks of jobs that are looked for. The first ones are drawn by themselves.
    focus:
        The job that the graph is about.
    truncated:
        There are more jobs than `rows`.
    """
    jobs = [
        GraphJob(
            id=row.id,
            task_name=row.task_name,
            status=row.status,
            created_at=row.created_at,
            node=row.node,
            workflow_id=row.workflow_id,
            run_when=row.run_when,
            cancel_kind=row.cancel_kind,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )
        for row in rows
    ]
    graph = Graph(jobs, list(edges))
    path = graph.critical_path(now)
    critical = [step.job.id for step in path.jobs]
    steps = set(itertools.pairwise(critical))
    fates = {fate.job_id: fate for fate in doomed}
    found = _found(graph, find)
    boxes = _boxes(graph, set(opened), set(found.shown))
    box_of = {job.id: box.key for box in boxes for job in box.jobs}
    layers = {box.key: box.layer for box in boxes}
    ready: dict[int, datetime] = {}
    arrows: dict[tuple[str, str], Counter[str]] = {}
    for parent, child in graph.edges:
        ended = graph.jobs[parent].finished_at
        if ended is not None:
            ready[child] = max(ended, ready.get(child, ended))
        ends = (box_of[parent], box_of[child])
        if layers[ends[0]] >= layers[ends[1]]:  # within layers that are drawn together
            continue
        kinds = arrows.setdefault(ends, Counter())
        kinds["count"] += 1
        kinds["unmet"] += graph.jobs[parent].status not in TERMINAL
        fate = fates.get(child)
        decides = (parent, child) in graph.deciding or (fate is not None and fate.because == parent)
        against = fate is not None or graph.jobs[child].cancel_kind in (CancelKind.UPSTREAM, CancelKind.NOT_NEEDED)
        kinds["deciding"] += decides and against
        kinds["critical"] += (parent, child) in steps
    deciders: dict[int, list[GraphJob]] = {}
    for parent, child in sorted(graph.deciding):
        deciders.setdefault(child, []).append(graph.jobs[parent])
    around = _Around(fates, set(critical), path.slack_s, ready, deciders, focus, now)
    return {
        "jobs": len(jobs),
        "truncated": truncated,
        "grouped": len(boxes) < len(jobs),
        "opened": sorted({box.group for box in boxes if box.group in opened and box.group is not None}),
        "layers": max((box.layer for box in boxes), default=-1) + 1,
        "counts": {status.value: count for status, count in graph.statuses.items()},
        "critical": {"run_s": path.run_s, "waited_s": path.waited_s, "jobs": critical},
        "doomed": len(fates),
        "found": None if find is None else {"jobs": found.count, "shown": found.shown},
        "now": now,
        "nodes": [_node(box, around) for box in boxes],
        "edges": [
            {"from": parent, "to": child, **{kind: count for kind, count in kinds.items() if count}}
            for (parent, child), kinds in arrows.items()
        ],
    }


@dataclass(frozen=True, slots=True)
class _Found:
    count: int = 0
    shown: Sequence[int] = ()


def _found(graph: Graph, find: str | None) -> _Found:
    """Those that are called exactly so come first. One that is found by its task is shown with its group."""
    if find is None:
        return _Found()
    term = find.lower()
    by_task: set[str] = {task for task in {job.task_name for job in graph.jobs.values()} if term in task.lower()}
    exact, other, count = [], [], 0
    for job_id in graph.layer:
        job = graph.jobs[job_id]
        names = (str(job_id), (job.node or "").lower())
        if term in names:
            exact.append(job_id)
        elif any(term in name for name in names):
            other.append(job_id)
        elif job.task_name not in by_task:
            continue
        count += 1
    return _Found(count, (exact + other)[:FOUND])


def _boxes(graph: Graph, opened: set[str], shown: set[int]) -> list[_Box]:
    for kept in KEPT:
        boxes = _grouped(graph, opened, shown, 1, kept)
        if _size(boxes) <= MAX_BOXES:
            return boxes
    together = 1
    while _size(boxes) > MAX_BOXES and together < len(graph.jobs):
        together *= 2
        boxes = _grouped(graph, opened, shown, together, 1)
    return boxes


def _size(boxes: Sequence[_Box]) -> int:
    """Without those that someone asked for."""
    return sum(box.group is None for box in boxes)


def _grouped(graph: Graph, opened: set[str], shown: set[int], together: int, kept: int) -> list[_Box]:
    """The jobs of one task in so many layers together, where there are more of them than `kept`."""
    groups: dict[str, _Box] = {}
    for job_id, layer in graph.layer.items():
        job = graph.jobs[job_id]
        first = layer // together * together
        key = f"g{first}:{job.task_name}"
        groups.setdefault(key, _Box(key, job.task_name, first)).jobs.append(job)
    boxes: list[_Box] = []
    for box in groups.values():
        if len(box.jobs) <= kept:
            boxes += [_Box(f"j{job.id}", box.task, box.layer, [job]) for job in box.jobs]
        else:
            boxes += _opened(box, OPENED if box.key in opened else 0, shown)
    return boxes


def _opened(box: _Box, first: int, shown: set[int]) -> list[_Box]:
    """A group whose first jobs are drawn by themselves, and those that are searched for; and the rest of it."""
    single = [job for at, job in enumerate(box.jobs) if at < first or job.id in shown]
    rest = [job for at, job in enumerate(box.jobs) if at >= first and job.id not in shown]
    boxes = [_Box(f"j{job.id}", box.task, box.layer, [job], box.key) for job in single]
    if first and rest:
        boxes.append(_Box(f"{box.key}:rest", box.task, box.layer, rest, box.key))
    elif rest:
        boxes.append(_Box(box.key, box.task, box.layer, rest))
    return boxes


def _node(box: _Box, around: _Around) -> dict[str, Any]:
    counts = Counter(job.status for job in box.jobs)
    started = [job.started_at for job in box.jobs if job.started_at is not None]
    ended = [job.finished_at for job in box.jobs if job.finished_at is not None]
    running = counts[Status.DOING] > 0
    node: dict[str, Any] = {
        "key": box.key,
        "task": box.task,
        "layer": box.layer,
        "jobs": len(box.jobs),
        "status": next(status for status in _URGENCY if counts[status]),
        "created_at": min(job.created_at for job in box.jobs),
        "started_at": min(started, default=None),
        "ended_at": around.now if running else max(ended, default=None),
        "critical": any(job.id in around.on_path for job in box.jobs),
        "doomed": sum(job.id in around.fates for job in box.jobs),
    }
    if box.group is not None:
        node["group"] = box.group
    if len(box.jobs) > 1:
        node["counts"] = {status.value: counts[status] for status in Status if counts[status]}
        return node
    [job] = box.jobs
    node["ready_at"] = max(job.created_at, around.ready.get(job.id, job.created_at))
    node |= {"id": job.id, "node": job.node, "run_when": job.run_when, "run_s": job.run_s(around.now)}
    node["slack_s"] = around.slack_s.get(job.id)
    if job.id == around.focus:
        node["focus"] = True
    fate = around.fates.get(job.id)
    if fate is not None:
        node["why"] = _why(fate)
    elif job.cancel_kind is not None:
        node["why"] = _why_cancelled(job, around.deciders.get(job.id, ()))
    return node


def _why(fate: Doomed) -> str:
    cause = "a deleted parent" if fate.because is None else f"job {fate.because}"
    if fate.root not in (None, fate.because):
        cause += f", because of job {fate.root}"
    how = "" if fate.root_status is None else f" ({fate.root_status.value})"
    return f"will be cancelled: {cause}{how}"


def _why_cancelled(job: GraphJob, deciders: Sequence[GraphJob]) -> str:
    if job.cancel_kind is CancelKind.MANUAL:
        return "cancelled by hand"
    verdict = "not needed" if job.cancel_kind is CancelKind.NOT_NEEDED else "cancelled"
    if not deciders:
        return verdict
    first = deciders[0]
    more = f" and {len(deciders) - 1} more" if len(deciders) > 1 else ""
    return f"{verdict}: {first.node or f'job {first.id}'} {first.status.value}{more}"
