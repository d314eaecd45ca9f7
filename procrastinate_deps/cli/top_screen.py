"""`top` on a terminal: as much of each part as the screen has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from procrastinate_deps.cli import top_rows
from procrastinate_deps.cli.output import STATUS_COLOURS, safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from procrastinate_deps.cli.top import Frame

NARROW = 100
"""Below this width the columns that matter least are left out."""

_LEFT_OUT = {"scheduled", "locked", "host", "failures/h", "heartbeat"}
_NUMBERS = {
    "job", "worker", "ready", "doing", "scheduled", "locked", "blocked", "oldest", "runs/h", "failures/h",
    "for", "load",
}  # fmt: skip
# what gives way where there is little room, and how much of the rest it takes
_WIDE = {"queue": 2, "what": 3, "progress": 4, "error": 6, "name": 2, "queues": 3, "host": 2}
_STATES = {"paused": "yellow"}

# a part's title, its header and the empty line before it
_AROUND = 3


def print_once(frame: Frame) -> None:
    console = Console(highlight=False)
    console.print(screen(frame, console.width, None, None, ""))


def screen(frame: Frame, width: int, height: int | None, interval: float | None, problem: str) -> RenderableType:
    """height None: all of it. interval None: it is not live."""
    parts: list[tuple[str, Sequence[str], list[tuple[str, ...]], int, str]] = [
        ("queues", top_rows.QUEUES, top_rows.queues(frame), len(frame.queues), "cyan"),
        ("workers", top_rows.WORKERS, top_rows.workers(frame), len(frame.workers), "green"),
        ("running", top_rows.RUNNING, top_rows.running(frame), frame.running.count, "blue"),
        ("failures", top_rows.FAILURES, top_rows.failures(frame), len(frame.failures), "red"),
    ]
    wanted = [max(1, len(rows)) for _, _, rows, _, _ in parts]
    rooms = wanted if height is None else _share(wanted, height - 2 - _AROUND * len(parts))
    shown: list[RenderableType] = [_head(frame, width, interval, problem)]
    for (title, names, rows, count, colour), room in zip(parts, rooms, strict=True):
        shown.append(Text(""))
        if not rows:
            shown.append(Text.assemble((title, f"bold {colour}"), ("  none", "dim")))
            continue
        # a line for "and so many more" where not all of them fit
        fit = min(len(rows), room) if count <= room else max(0, min(len(rows), room - 1))
        shown.append(Text.assemble((title, f"bold {colour}"), (f"  {count:,}", "dim")))
        if fit:
            shown.append(_table(names, rows[:fit], width))
        if count > fit:
            shown.append(Text(f"  and {count - fit:,} more", style="dim"))
    return Group(*shown)


def _head(frame: Frame, width: int, interval: float | None, problem: str) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    line.add_column(no_wrap=True, justify="right")
    if problem:
        left = Text(safe(f"as of {frame.at:%H:%M:%SZ}: {problem}"), style="bold red")
    else:
        left = Text(top_rows.summary(frame), style="bold")
    live = "" if interval is None else "  q: leave" if width < NARROW else f"  every {interval:g} s, q: leave"
    line.add_row(left, Text(f" {frame.at:%H:%M:%SZ}{live}", style="dim"))
    return line


def _share(wanted: Sequence[int], room: int) -> list[int]:
    """Of the room a line to each in turn until it has what it wants: the small ones are whole."""
    shares = [min(1, each) for each in wanted]
    while sum(shares) < room and any(share < want for share, want in zip(shares, wanted, strict=True)):
        for number, want in enumerate(wanted):
            if shares[number] < want and sum(shares) < room:
                shares[number] += 1
    return shares


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table:
    kept = [number for number, name in enumerate(names) if width >= NARROW or name not in _LEFT_OUT]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for place, number in enumerate(kept):
        name = names[number]
        table.add_column(
            f"  {name}" if place == 0 else name,
            justify="right" if name in _NUMBERS else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=_WIDE.get(name),
        )
    for row in rows:
        # as Text: a name with brackets in it is no markup
        table.add_row(
            *[
                Text(f"  {row[number]}" if place == 0 else row[number], style=_style(names[number], row[number]))
                for place, number in enumerate(kept)
            ]
        )
    return table


def _style(name: str, cell: str) -> str:
    if name == "state":
        return STATUS_COLOURS.get(cell, "") or _STATES.get(cell, "")
    if name == "error":
        return "red"
    return "dim" if cell == "0" else ""
