"""A graph of jobs as Mermaid, DOT or JSON. A large one is drawn by groups, and what is left out is said there."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from procrastinate_deps.jobs import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from procrastinate_deps.graphs import Graph, GraphJob

MAX_NODES = 500
"""How many boxes are drawn, unless told: a person sees nothing in more of them."""

MAX_EDGES = 500
"""How many arrows are drawn, unless told: what Mermaid draws where nobody allows it more (its setting maxEdges)."""

LABEL_CHARACTERS = 48

COLOURS = {
    Status.BLOCKED: ("#eceff3", "#8792a2"),
    Status.TODO: ("#fff4d6", "#c08a00"),
    Status.DOING: ("#d9e8ff", "#2563c9"),
    Status.SUCCEEDED: ("#d6f2dd", "#23814a"),
    Status.FAILED: ("#ffdcd9", "#c3291c"),
    Status.CANCELLED: ("#efe3f7", "#7d4aa3"),
    Status.ABORTED: ("#ffe3cc", "#bd5b00"),
}
"""Filling and border of each status."""

# A group shows the first of these that it has.
_URGENCY = (
    Status.FAILED,
    Status.ABORTED,
    Status.DOING,
    Status.TODO,
    Status.BLOCKED,
    Status.CANCELLED,
    Status.SUCCEEDED,
)
# What a Mermaid label holds as it is; everything else goes as the number of its character.
_PLAIN = re.compile(r"[^\w \-.,:/()×…+=]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A job or a group of jobs in a drawing; `status` is None for what stands for those that are not drawn."""

    key: str
    label: str
    status: Status | None
    jobs: Sequence[int]
    layer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """An edge or several between the jobs of two boxes; `deciding` if one of them decided, `edges` is how many."""

    parent: str
    child: str
    deciding: bool
    edges: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What is drawn of a graph. `notes` say what is not: the jobs and the edges that were put together or left out."""

    boxes: Sequence[Box]
    arrows: Sequence[Arrow]
    notes: Sequence[str]


def draw(graph: Graph, max_nodes: int = MAX_NODES, max_edges: int = MAX_EDGES) -> Drawing:
    """What is drawn of `graph`: each job, or in a larger graph the jobs of one task and layer together.

    Parameters
    ----------
    max_nodes, max_edges:
        How many boxes and arrows at most. Beyond that jobs are put together, and then those of the last layers left
        out. Default: 500.
    """
    if max_nodes < 1 or max_edges < 0:
        raise ValueError(f"max_nodes={max_nodes}, max_edges={max_edges}: pass at least 1 node, and no negative number")
    layer = graph.layer
    notes: list[str] = []
    if len(graph.jobs) <= max_nodes and len(graph.edges) <= max_edges:
        boxes = [_single(job, layer[job.id]) for job in graph.jobs.values()]
    else:
        boxes = _groups(graph, layer, keep_named=True)
        if len(boxes) > max_nodes or len(_arrows(graph, boxes)) > max_edges:
            boxes = _groups(graph, layer, keep_named=False)
        if len(boxes) < len(graph.jobs):
            notes.append(f"{len(graph.jobs):,} jobs drawn as {len(boxes):,} boxes: a task's in one layer are one box")
    left = boxes[max_nodes:]
    boxes = boxes[:max_nodes]
    arrows = _arrows(graph, boxes)
    if left:
        count = sum(len(box.jobs) for box in left)
        text = f"… {count:,} more jobs"
        notes.append(text)
        last = max(box.layer for box in left)
        boxes.append(Box(key="more", label=text, status=None, jobs=(), layer=last))
    if len(arrows) > max_edges:
        notes.append(f"… {sum(arrow.edges for arrow in arrows[max_edges:]):,} more edges")
        arrows = arrows[:max_edges]
    return Drawing(boxes=boxes, arrows=arrows, notes=notes)


def to_mermaid(graph: Graph, *, max_nodes: int = MAX_NODES, max_edges: int = MAX_EDGES, direction: str = "LR") -> str:
    """The graph as a Mermaid flowchart: boxes coloured by status, thick arrows from the parents that decided.

    Parameters
    ----------
    max_nodes, max_edges:
        See `draw`.
    direction:
        "LR", from left to right, or "TD", from top to bottom. Default: "LR".
    """
    drawing = draw(graph, max_nodes, max_edges)
    lines = [f"flowchart {_direction(direction)}"]
    lines += [f'    {box.key}["{_mermaid_text(box.label)}"]' for box in drawing.boxes]
    if notes := "; ".join(note for note in drawing.notes if not note.endswith("more jobs")):
        lines.append(f'    note["{_mermaid_text(notes)}"]')
    lines += [f"    {arrow.parent} {'==>' if arrow.deciding else '-->'} {arrow.child}" for arrow in drawing.arrows]
    for status, (fill, border) in COLOURS.items():
        if keys := [box.key for box in drawing.boxes if box.status is status]:
            lines.append(f"    classDef {status} fill:{fill},stroke:{border},color:#1c2430")
            lines.append(f"    class {','.join(keys)} {status}")
    return "\n".join(lines) + "\n"


def to_dot(graph: Graph, *, max_nodes: int = MAX_NODES, max_edges: int = MAX_EDGES, direction: str = "LR") -> str:
    """The graph in Graphviz' language; see `to_mermaid`."""
    drawing = draw(graph, max_nodes, max_edges)
    lines = [
        "digraph workflow {",
        f"    rankdir={_direction(direction).replace('TD', 'TB')};",
        '    node [shape=box, style="rounded,filled", fontname="sans-serif", fillcolor="#ffffff"];',
        '    edge [color="#8792a2"];',
    ]
    if drawing.notes:
        lines.append(f'    label="{_dot_text("; ".join(drawing.notes))}";')
    for box in drawing.boxes:
        fill, border = ("#ffffff", "#8792a2") if box.status is None else COLOURS[box.status]
        lines.append(f'    {box.key} [label="{_dot_text(box.label)}", fillcolor="{fill}", color="{border}"];')
    for arrow in drawing.arrows:
        marked = ' [penwidth=2.5, color="#1c2430"]' if arrow.deciding else ""
        lines.append(f"    {arrow.parent} -> {arrow.child}{marked};")
    return "\n".join([*lines, "}"]) + "\n"


def to_dict(graph: Graph, now: datetime, *, max_nodes: int = MAX_NODES, max_edges: int = MAX_EDGES) -> dict[str, Any]:
    """The graph as JSON can hold it.

    Returns
    -------
    `statuses`: how many jobs have each. `nodes`: each with `key`, `label`, `status`, `layer` and how many `jobs` it
    stands for; one that stands for a single job also with its `id`, `task`, `node`, times, `slack_s`, and whether it is
    `critical`. `edges`: `parent` and `child` (keys), whether it was `deciding`, and how many `edges` it stands for.
    `layers`: the keys by layer. `critical_path`: ids. `notes`: what was put together or left out.
    """
    drawing = draw(graph, max_nodes, max_edges)
    path = graph.critical_path(now)
    critical = {step.job.id for step in path.jobs}
    layers: list[list[str]] = [[] for _ in range(max((box.layer for box in drawing.boxes), default=-1) + 1)]
    for box in drawing.boxes:
        layers[box.layer].append(box.key)
    return {
        "statuses": {str(status): count for status, count in graph.statuses.items()},
        "nodes": [_node(graph, box, path.slack_s, critical) for box in drawing.boxes],
        "edges": [
            {"parent": arrow.parent, "child": arrow.child, "deciding": arrow.deciding, "edges": arrow.edges}
            for arrow in drawing.arrows
        ],
        "layers": layers,
        "critical_path": [step.job.id for step in path.jobs],
        "critical_path_s": path.run_s,
        "notes": list(drawing.notes),
    }


def to_json(graph: Graph, now: datetime, *, max_nodes: int = MAX_NODES, max_edges: int = MAX_EDGES) -> str:
    """`to_dict` as text."""
    return json.dumps(to_dict(graph, now, max_nodes=max_nodes, max_edges=max_edges), ensure_ascii=False)


# -- boxes and arrows


def _single(job: GraphJob, layer: int) -> Box:
    name = job.node or job.task_name.rpartition(".")[2] or job.task_name
    return Box(key=f"j{job.id}", label=f"{_cut(name)} ({job.id})", status=job.status, jobs=(job.id,), layer=layer)


def _groups(graph: Graph, layer: Mapping[int, int], *, keep_named: bool) -> list[Box]:
    """The jobs of one task and one layer as one box; named ones for themselves, if wanted."""
    members: dict[tuple[int, str, int | None], list[GraphJob]] = {}
    for job in graph.jobs.values():
        alone = job.id if keep_named and job.node is not None else None
        members.setdefault((layer[job.id], job.task_name, alone), []).append(job)
    boxes = []
    for (its_layer, task_name, _), jobs in sorted(members.items(), key=lambda item: item[0][0]):
        if len(jobs) == 1:
            boxes.append(_single(jobs[0], its_layer))
            continue
        counts = Counter(job.status for job in jobs)
        statuses = ", ".join(f"{counts[status]:,} {status}" for status in Status if counts[status])
        name = _cut(task_name.rpartition(".")[2] or task_name)
        boxes.append(
            Box(
                key=f"g{jobs[0].id}",
                label=f"{name} × {len(jobs):,}: {statuses}",
                status=next(status for status in _URGENCY if counts[status]),
                jobs=[job.id for job in jobs],
                layer=its_layer,
            )
        )
    return boxes


def _arrows(graph: Graph, boxes: Sequence[Box]) -> list[Arrow]:
    box_of = {job_id: box.key for box in boxes for job_id in box.jobs}
    edges: Counter[tuple[str, str]] = Counter()
    deciding: set[tuple[str, str]] = set()
    for edge in graph.edges:
        parent, child = box_of.get(edge[0]), box_of.get(edge[1])
        if parent is None or child is None:
            continue
        edges[parent, child] += 1
        if edge in graph.deciding:
            deciding.add((parent, child))
    return [
        Arrow(parent=parent, child=child, deciding=(parent, child) in deciding, edges=count)
        for (parent, child), count in edges.items()
    ]


def _node(graph: Graph, box: Box, slack_s: Mapping[int, float], critical: set[int]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "key": box.key,
        "label": box.label,
        "status": None if box.status is None else str(box.status),
        "layer": box.layer,
        "jobs": len(box.jobs),
    }
    if len(box.jobs) != 1:
        return found
    job = graph.jobs[box.jobs[0]]
    times = {name: getattr(job, name) for name in ("created_at", "started_at", "finished_at")}
    return {
        **found,
        "id": job.id,
        "task": job.task_name,
        "node": job.node,
        "workflow_id": job.workflow_id,
        **{name: None if at is None else at.isoformat() for name, at in times.items()},
        "slack_s": slack_s[job.id],
        "critical": job.id in critical,
    }


# -- text


def _cut(text: str) -> str:
    text = _CONTROL.sub(" ", text).strip() or "-"
    return text if len(text) <= LABEL_CHARACTERS else text[: LABEL_CHARACTERS - 1] + "…"


def _mermaid_text(text: str) -> str:
    return _PLAIN.sub(lambda found: f"#{ord(found[0])};", _CONTROL.sub(" ", text))


def _dot_text(text: str) -> str:
    text = _CONTROL.sub(" ", text)
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')


def _direction(direction: str) -> str:
    if direction not in ("LR", "TD"):
        raise ValueError(f'direction={direction!r}: pass "LR", from left to right, or "TD", from top to bottom')
    return direction
