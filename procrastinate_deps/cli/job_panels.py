"""A job on a terminal: panels, and the unfinished jobs that it waits for as a tree."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from procrastinate_deps.cli.job_status import SHOWN_RELATIVES, describe_event
from procrastinate_deps.cli.output import STATUS_COLOURS, safe
from procrastinate_deps.obstacles import Running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import RenderableType

    from procrastinate_deps.cli.job_status import Found
    from procrastinate_deps.explanations import BriefJob, Explanation


def print_panels(found: Found, lines: Mapping[str, str]) -> None:
    """What `job-status` shows a person. `lines` are the job's own."""
    job = found.job
    console = Console(highlight=False)
    title = Text.assemble(f" job {job.id}  ", (f"{job.status} ", f"bold {_colour(job.status)}"))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in lines.items():
        # as Text: a name with brackets in it is no markup
        grid.add_row(name, Text(value))
    console.print(_panel(grid, title, _colour(job.status)))
    if not found.explanation.status.is_terminal:
        console.print(_panel(Group(*_why(found.explanation)), "why"))
    relatives = [
        _relatives(name, {job_id: str(status) for job_id, status in jobs.items()})
        for name, jobs in (("parents", found.parents), ("children", found.children))
        if jobs
    ]
    if relatives:
        columns = Table.grid(expand=True, padding=(0, 1, 0, 0))
        for _ in relatives:
            columns.add_column(ratio=1)
        columns.add_row(*relatives)
        console.print(columns)
    if found.events:
        console.print(_panel(Text("\n".join(map(describe_event, found.events))), "events"))
    if job.error:
        console.print(_panel(Text(safe(job.error.rstrip(), keep="\n\t")), "error", "red"))


def _panel(what: RenderableType, title: str | Text, colour: str = "dim") -> Panel:
    return Panel(what, title=title, title_align="left", border_style=colour, box=box.ROUNDED)


def _colour(status: str) -> str:
    return STATUS_COLOURS.get(status, "")


def _why(explanation: Explanation) -> Iterator[RenderableType]:
    bound = explanation.bound
    if bound is not None:
        yield Text(safe(f"{bound.text} (run_when {explanation.run_when})"), style="magenta")
    for obstacle in explanation.obstacles:
        yield Text(safe(obstacle.text if isinstance(obstacle, Running) else f"waits for {obstacle.text}"))
    if explanation.roots:
        more = "" if explanation.counted_all else " or more"
        roots = Tree(f"what it comes down to: {explanation.root_count:,}{more}", guide_style="dim")
        for root in explanation.roots:
            branch = roots.add(_brief(root))
            for obstacle in root.obstacles:
                branch.add(Text(safe(f"{'' if isinstance(obstacle, Running) else 'waits for '}{obstacle.text}")))
        if explanation.root_count > len(explanation.roots):
            roots.add(f"and {explanation.root_count - len(explanation.roots):,} more")
        yield roots
    if explanation.ancestors:
        above = Tree("the unfinished jobs above it, nearest first", guide_style="dim")
        for level, ancestors in itertools.groupby(explanation.ancestors, lambda each: each.level):
            node = above.add(Text("its parents" if level == 1 else f"{level} levels up", style="dim"))
            for each in ancestors:
                line = _brief(each)
                if each.will_be is not None:
                    line.append(f", will be cancelled as {each.will_be}", style="magenta")
                node.add(line)
        if (left := explanation.ancestor_count - len(explanation.ancestors)) > 0 or not explanation.counted_all:
            above.add(f"and {'' if explanation.counted_all else 'more than '}{left:,} more")
        yield above


def _brief(job: BriefJob) -> Text:
    node = "" if job.node is None else f" {job.node!r}"
    return Text.assemble(
        safe(f"job {job.id}{node} ({job.task_name}) "), (job.status.value, _colour(job.status)), style="default"
    )


def _relatives(title: str, jobs: Mapping[int, str]) -> Panel:
    lines = [
        Text.assemble(f"job {job_id}  ", (status, _colour(status)))
        for job_id, status in itertools.islice(jobs.items(), SHOWN_RELATIVES)
    ]
    if len(jobs) > SHOWN_RELATIVES:
        lines.append(Text(f"and {len(jobs) - SHOWN_RELATIVES:,} more", style="dim"))
    return _panel(Group(*lines), f"{title}: {len(jobs):,}")
