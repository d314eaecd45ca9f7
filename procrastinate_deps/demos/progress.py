"""A workflow's progress: a table that changes on a terminal, one line per change elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import click
from rich import box
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from procrastinate_deps.cli.output import STATUS_COLOURS, safe, status_text
from procrastinate_deps.jobs import TERMINAL, Job, Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from procrastinate_deps.workflow_info import WorkflowInfo

SYMBOLS = {
    Status.BLOCKED: "⏸",
    Status.TODO: "·",
    Status.DOING: "▶",
    Status.SUCCEEDED: "✔",
    Status.FAILED: "✘",
    Status.CANCELLED: "⊘",
    Status.ABORTED: "⊘",
}

Jobs = Mapping[int, Job]


@dataclass(frozen=True, slots=True)
class Step:
    """A job of the workflow, and what its fields are to be in the end."""

    job_id: int
    name: str
    parents: Sequence[int]
    expected: Mapping[str, Any]

    def is_over(self, jobs: Jobs) -> bool:
        """Whether nothing will change any more: it is terminal, or someone deleted it."""
        return self.job_id not in jobs or jobs[self.job_id].status in TERMINAL

    def differences(self, jobs: Jobs) -> list[str]:
        """What is not as expected."""
        job = jobs.get(self.job_id)
        if job is None:
            return [f"job {self.job_id} was deleted"]
        return [
            f"job {self.job_id}: {field} is {getattr(job, field)!s}, not {value!s}"
            for field, value in self.expected.items()
            if getattr(job, field) != value
        ]


def remark(step: Step, jobs: Jobs) -> str:
    """What there is to say about a job besides its status."""
    job = jobs.get(step.job_id)
    if job is None:
        return "deleted"
    match job.status:
        case Status.BLOCKED:
            live = [str(parent) for parent in step.parents if parent in jobs and jobs[parent].status not in TERMINAL]
            return f"waits for {', '.join(live)}" if live else ""
        case Status.FAILED:
            return safe((job.error or "").strip().rpartition("\n")[2])
        case Status.CANCELLED:
            return safe(job.cancel_reason or "")
        case _:
            return "" if job.result is None else json.dumps(job.result)


class View(Protocol):
    """Shows how the jobs stand, each time that it is told."""

    def show(self, jobs: Jobs) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...


def view(steps: Sequence[Step]) -> View:
    """The one that fits stdout."""
    console = Console()
    return LiveTable(steps, console) if _moves(console) else Lines(steps)


class Lines:
    """One line for each change that was seen."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._shown: dict[int, Status] = {}
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    def show(self, jobs: Jobs) -> None:
        for step in self._steps:
            job = jobs.get(step.job_id)
            if job is None or self._shown.get(step.job_id) == job.status:
                continue
            self._shown[step.job_id] = job.status
            what = f"job {step.job_id} {step.name}: {described(step, jobs)}"
            click.echo(f"{time.monotonic() - self._began:5.2f} s  {what}")


class LiveTable:
    """A table in place, redrawn as the jobs go on."""

    def __init__(self, steps: Sequence[Step], console: Console) -> None:
        self._steps = steps
        self._began = time.monotonic()
        self._symbols = _can_write(console.encoding, "".join(SYMBOLS.values()))
        # drawn when there is something to show, not by a thread that would skip what is short
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, jobs: Jobs) -> None:
        over = sum(step.is_over(jobs) for step in self._steps)
        seconds = time.monotonic() - self._began
        table = Table(
            box=box.SIMPLE_HEAD,
            title=f"{over} of {len(self._steps)} jobs have ended, {seconds:.1f} s",
            title_justify="left",
        )
        for name in ("job", "task", "after", "status", ""):
            table.add_column(name, overflow="fold", justify="right" if name == "job" else "left")
        for step in self._steps:
            after = ", ".join(map(str, step.parents))
            table.add_row(str(step.job_id), step.name, after, self._status(step, jobs), Text(remark(step, jobs)))
        self._live.update(table, refresh=True)

    def _status(self, step: Step, jobs: Jobs) -> Text:
        job = jobs.get(step.job_id)
        if job is None:
            return Text("deleted")
        symbol = f"{SYMBOLS[job.status]} " if self._symbols else ""
        return Text(f"{symbol}{job.status}", style=STATUS_COLOURS[job.status])


class Bar:
    """How far a large workflow is: a bar with its counts on a terminal, elsewhere a line now and then."""

    LINE_INTERVAL_S = 2.0

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._next_line_at = 0.0
        console = Console()
        self._live = Live(console=console, auto_refresh=False) if _moves(console) else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, info: WorkflowInfo) -> None:
        seconds = time.monotonic() - self._began
        ended = info.total - info.live
        if self._live is not None:
            self._live.update(self._drawn(info, ended, seconds), refresh=True)
        elif seconds >= self._next_line_at or info.live == 0:
            self._next_line_at = seconds + self.LINE_INTERVAL_S
            counts = ", ".join(f"{count:,} {status}" for status, count in info.counts.items() if count)
            click.echo(f"{seconds:6.1f} s  {ended:,} of {info.total:,} have ended: {counts}")

    def _drawn(self, info: WorkflowInfo, ended: int, seconds: float) -> Table:
        table = Table.grid(padding=(0, 1))
        rate = ended / seconds if seconds else 0
        table.add_row(
            ProgressBar(total=max(info.total, 1), completed=ended, width=40),
            f"{ended:,} of {info.total:,} jobs have ended, {seconds:.1f} s, {rate:,.0f} a second",
        )
        counts = [Text(f"{count:,} {status}", STATUS_COLOURS[status]) for status, count in info.counts.items() if count]
        table.add_row("", Text("  ").join(counts))
        return table


def _moves(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


def _can_write(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def described(step: Step, jobs: Jobs) -> str:
    """The status, and what there is to say besides."""
    job = jobs.get(step.job_id)
    if job is None:
        return "deleted"
    more = remark(step, jobs)
    return status_text(job.status) + (f" ({more})" if more else "")
