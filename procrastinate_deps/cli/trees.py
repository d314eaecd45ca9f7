"""The graph of a workflow as a tree of lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from procrastinate_deps.cli.durations import bar, counted, duration, percent
from procrastinate_deps.cli.output import STATUS_COLOURS, last_line, moment, on_terminal, safe
from procrastinate_deps.drawing import Box, draw
from procrastinate_deps.jobs import Status
from procrastinate_deps.statements import dashboard_rows
from procrastinate_deps.times import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from procrastinate_deps.app import App
    from procrastinate_deps.drawing import Drawing
    from procrastinate_deps.graphs import Graph
    from procrastinate_deps.statements import JobRow
    from procrastinate_deps.workflow_info import WorkflowInfo

DEEPEST = 24
"""Lines are indented up to this level; below it, they say their level."""

ALSO_NAMED = 3
PATH_NAMED = 8
NESTED_NAMED = 5
BAR = 30

Piece = tuple[str, str]
"""A text and its colour."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of a workflow: jobs by their ids are those that are drawn for themselves."""

    info: WorkflowInfo
    nested: Sequence[WorkflowInfo]
    graph: Graph
    drawing: Drawing
    jobs: Mapping[int, JobRow]


@dataclass(slots=True)
class _Branch:
    box: Box
    # under which it stands, and which others it has
    parent: str | None = None
    others: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)


def read_workflow(app: App, workflow_id: int, max_jobs: int) -> Shown:
    """Raises WorkflowNotFound."""
    info = app.job_manager.get_workflow(workflow_id)
    nested = app.job_manager.list_workflows(parent_id=workflow_id)
    graph = app.get_workflow(workflow_id).get_graph()
    # arrows are what the tree is made of: none is left out, nor are jobs put together for their sake alone
    drawing = draw(graph, max_jobs, max(len(graph.edges), 1))
    alone = [box.jobs[0] for box in drawing.boxes if len(box.jobs) == 1]
    return Shown(info, nested, graph, drawing, {row.id: row for row in app.execute(dashboard_rows(alone))})


def print_workflow(shown: Shown) -> None:
    lines = [*_head(shown), [], *_tree(shown)]
    if not on_terminal():
        for line in lines:
            click.echo("".join(text for text, _ in line).rstrip())
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in lines:
        console.print(Text.assemble(*line), no_wrap=True, overflow="ellipsis")


def _head(shown: Shown) -> Iterator[list[Piece]]:
    info = shown.info
    yield [(f"workflow {info.id} ", ""), (safe(repr(info.name)), "bold"), (": ", ""), _status(info.status)]
    ended = info.total - info.live
    counts = [
        piece
        for status, number in info.counts.items()
        if number
        for piece in ((", ", ""), (f"{number:,} {status}", STATUS_COLOURS[status]))
    ]
    yield [
        (f"  {bar(info.progress, BAR)} ", _colour(info.status)),
        (f"{percent(info.progress)}  {ended:,} of {counted(info.total, 'job')} ended", ""),
    ]
    if counts:
        yield [("  ", ""), *counts[1:]]
    times = [f"created {moment(info.created_at)}"]
    if info.started_at is not None:
        times.append(f"started {moment(info.started_at)}")
        until = info.finished_at or utc_now()
        took = duration((until - info.started_at).total_seconds())
        times.append(f"runs for {took}" if info.finished_at is None else f"took {took}")
    if info.cancel_requested:
        times.append("cancelled by hand")
    yield [("  " + ", ".join(times), "dim")]
    if info.metadata:
        yield [("  " + safe(", ".join(f"{name}: {value}" for name, value in info.metadata.items())), "dim")]
    if shown.nested:
        names = [f"{each.id} {safe(repr(each.name))}" for each in shown.nested[:NESTED_NAMED]]
        more = f" and {len(shown.nested) - NESTED_NAMED} more" if len(shown.nested) > NESTED_NAMED else ""
        yield [(f"  nested: {', '.join(names)}{more}", "dim")]
    path = shown.graph.critical_path(utc_now())
    if len(path.jobs) > 1:
        ids = [str(step.job.id) for step in path.jobs]
        if len(ids) > PATH_NAMED:
            ids = [*ids[: PATH_NAMED // 2], "…", *ids[-PATH_NAMED // 2 :]]
        yield [(f"  critical path, {duration(path.run_s)}: {' → '.join(ids)}", "dim")]


def _tree(shown: Shown) -> Iterator[list[Piece]]:
    branches = _branches(shown)
    now = utc_now()
    roots = [key for key, branch in branches.items() if branch.parent is None]
    # for each line: the branch, what stands before it, before its children, and its level
    stack: list[tuple[str, str, str, int]] = [(key, "", "", 0) for key in reversed(roots)]
    while stack:
        key, before, below, level = stack.pop()
        branch = branches[key]
        pieces: list[Piece] = [(before, "dim")]
        if level > DEEPEST:
            pieces.append((f"level {level}: ", "dim"))
        yield [*pieces, *_line(shown, branches, branch, now)]
        deep = level >= DEEPEST
        children = branch.children
        for number, child in reversed(list(enumerate(children))):
            last = number == len(children) - 1
            if deep:
                stack.append((child, below, below, level + 1))
            else:
                stack.append(
                    (child, f"{below}{'└─ ' if last else '├─ '}", f"{below}{'   ' if last else '│  '}", level + 1)
                )
    for note in shown.drawing.notes:
        yield [(note, "dim")]


def _branches(shown: Shown) -> dict[str, _Branch]:
    branches = {box.key: _Branch(box) for box in sorted(shown.drawing.boxes, key=lambda box: (box.layer, box.jobs[:1]))}
    parents: dict[str, list[tuple[tuple[bool, bool, int], str]]] = {}
    for arrow in shown.drawing.arrows:
        parent = branches[arrow.parent].box
        live = parent.status is not None and not parent.status.is_terminal
        # the one that decided; else one that it waits for; of these the one furthest down, whose line is nearest
        parents.setdefault(arrow.child, []).append(((arrow.deciding, live, parent.layer), arrow.parent))
    for key, branch in branches.items():
        if found := parents.get(key):
            best = max(rank for rank, _ in found)
            branch.parent = next(parent for rank, parent in found if rank == best)
            branch.others = [parent for _, parent in found if parent != branch.parent]
            branches[branch.parent].children.append(key)
    return branches


def _line(shown: Shown, branches: Mapping[str, _Branch], branch: _Branch, now: datetime) -> Iterable[Piece]:
    box = branch.box
    if box.status is None:
        return [(box.label, "dim")]
    if len(box.jobs) > 1:
        name, _, counts = box.label.partition(": ")
        line: list[Piece] = [(f"{safe(name)}  ", ""), (counts, STATUS_COLOURS[box.status])]
    else:
        job = shown.graph.jobs[box.jobs[0]]
        line = [(f"{safe(box.label)}  ", ""), _status(job.status)]
        if (took := job.run_s(now)) > 0:
            line.append((f"  {duration(took)}", "dim"))
        row = shown.jobs.get(job.id)
        if row is not None and (note := _note(row)):
            line.append((f"  {safe(note)}", "dim"))
    if branch.others:
        names = [_short(branches[key].box) for key in branch.others[:ALSO_NAMED]]
        more = f" and {len(branch.others) - ALSO_NAMED} more" if len(branch.others) > ALSO_NAMED else ""
        line.append((f"  also after {', '.join(names)}{more}", "dim"))
    return line


def _note(row: JobRow) -> str:
    match row.status:
        case Status.DOING:
            if row.progress_done is None:
                return "asked to abort" if row.abort_requested else ""
            return progress_text(row.progress_done, row.progress_total, row.progress_message)
        case Status.FAILED | Status.ABORTED:
            return last_line(row.error)
        case Status.CANCELLED:
            return row.cancel_reason or str(row.cancel_kind)
        case Status.TODO if row.gate is not None:
            return (
                f"not before {moment(row.scheduled_at)}"
                if row.gate == "scheduled"
                else f"waits for the lock {row.lock}"
            )
        case _:
            return ""


def progress_text(done: float, total: float | None, message: str | None) -> str:
    """What a task has said of its progress, in a few words."""
    shown = f"{percent(min(1.0, done / total))} ({done:g} of {total:g})" if total else f"{done:g}"
    return f"{shown} {message}" if message else shown


def _short(box: Box) -> str:
    if len(box.jobs) == 1:
        return str(box.jobs[0])
    return safe(box.label.partition(": ")[0])


def _status(status: str) -> Piece:
    return str(status), STATUS_COLOURS.get(status, "")


def _colour(status: str) -> str:
    return STATUS_COLOURS.get(status, "")
