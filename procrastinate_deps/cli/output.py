"""What commands print: tables on a terminal, aligned text in a pipe, JSON for programs."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

import click

from procrastinate_deps.jobs import NotStored, Status
from procrastinate_deps.statements import NOT_STORED
from procrastinate_deps.times import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

NOTHING = "-"
"""An empty cell in a pipe, so that columns can be counted."""

NARROW = 20
"""A column up to so many characters wide is not folded on a terminal: the others give way."""

STATUS_COLOURS: dict[str, str] = {
    Status.BLOCKED: "yellow",
    Status.TODO: "cyan",
    Status.DOING: "blue",
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "magenta",
    Status.ABORTED: "magenta",
    # of workflows
    "running": "blue",
    # of workers
    "live": "green",
    "stalled": "yellow",
    "lost": "red",
}

format_option = click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the output is written.",
)


def tolerate_any_text(*streams: TextIO) -> None:
    """Let the streams write what their encoding has no character for as an escape, not fail."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def safe(text: str, *, keep: str = "") -> str:
    """`text` without what would move a terminal's cursor or recolour it: names and errors are other people's."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def moment(at: datetime | None) -> str:
    """A time as the tables show it, in UTC."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%SZ}"


def last_line(error: str | None) -> str:
    """The line of a traceback that says what it was."""
    lines = (error or "").strip().splitlines()
    return lines[-1] if lines else ""


def on_terminal() -> bool:
    """Whether what is printed is looked at by a person."""
    return sys.stdout.isatty()


def as_json(value: Any) -> Any:
    """`value` as JSON can hold it: dataclasses as objects, times in ISO 8601."""
    if isinstance(value, NotStored):
        return {NOT_STORED: value.reason}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(inner) for inner in value]
    return value


def print_json(value: Any) -> None:
    click.echo(json.dumps(as_json(value), indent=2))


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def status_text(status: str) -> str:
    """A status in its colour; in a pipe click takes the colour away."""
    return click.style(status, fg=STATUS_COLOURS.get(status))


def print_rows(
    rows: Sequence[Any], columns: Mapping[str, Callable[[Any], Any]], output_format: str, *, nothing: str
) -> None:
    """A list: as JSON all that is known of each row, as text the given columns.

    nothing: what to say on stderr when there are no rows; JSON says `[]`.
    """
    if output_format == "json":
        print_json(list(rows))
    elif not rows:
        click.echo(nothing, err=True)
    else:
        terminal = sys.stdout.isatty()
        cells = [[_cell(read(row), brief=terminal) for read in columns.values()] for row in rows]
        if terminal:
            _print_table(list(columns), cells)
        else:
            print_lines(aligned([[name.upper() for name in columns], *cells]))


def _cell(value: Any, *, brief: bool) -> str:
    if isinstance(value, datetime):
        return f"{value:%H:%M:%SZ}" if brief and value.date() == utc_now().date() else moment(value)
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else safe(str(value))


def aligned(lines: list[list[str]]) -> Iterable[str]:
    filled = [[cell or NOTHING for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    for line in filled:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _print_table(names: list[str], lines: list[list[str]]) -> None:
    # rich takes longer to import than a command takes to run
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, name in enumerate(names):
        numeric = all(line[number].isdecimal() or not line[number] for line in lines)
        narrow = max(len(line[number]) for line in lines) <= NARROW
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=narrow)
    for line in lines:
        # as Text: a name with brackets in it is no markup
        table.add_row(*[Text(cell, style=_style(name, cell)) for name, cell in zip(names, line, strict=True)])
    Console().print(table)


def _style(column: str, cell: str) -> str:
    return STATUS_COLOURS.get(cell, "") if column in ("status", "state") else ""
