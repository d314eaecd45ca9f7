"""`top` in a pipe: one frame as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from procrastinate_deps.cli import top_rows
from procrastinate_deps.cli.output import aligned, moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from procrastinate_deps.cli.top import Frame


def lines(frame: Frame) -> Iterator[str]:
    yield f"{moment(frame.at)}  {top_rows.summary(frame)}"
    yield from _section("queues", top_rows.QUEUES, top_rows.queues(frame), len(frame.queues))
    yield from _section("workers", top_rows.WORKERS, top_rows.workers(frame), len(frame.workers))
    yield from _section("running", top_rows.RUNNING, top_rows.running(frame), frame.running.count)
    yield from _section("failures", top_rows.FAILURES, top_rows.failures(frame), len(frame.failures))


def _section(title: str, names: Sequence[str], rows: Sequence[Sequence[str]], count: int) -> Iterator[str]:
    yield ""
    yield f"{title}: {'none' if not rows else f'{count:,}'}"
    if rows:
        for line in aligned([[name.upper() for name in names], *map(list, rows)]):
            yield f"  {line}"
        if count > len(rows):
            yield f"  and {count - len(rows):,} more"
