"""What a statement is: sans-IO, the same for every driver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeAlias, TypeVar

from procrastinate_deps.jsontext import JsonLoads

T = TypeVar("T")

Row: TypeAlias = Sequence[Any]
"""A row, read by position only: every driver's rows can do that."""

Reader: TypeAlias = Callable[[Sequence[Row], JsonLoads], T]


@dataclass(frozen=True, slots=True)
class Statement(Generic[T]):
    """One verb, ready to be run.

    Attributes
    ----------
    name:
        Of its file in sql/queries.
    values:
        Bound to $1, $2, ...: None, bool, int, float, str, datetime and lists of these. JSON goes as text and an
        interval as seconds, both ways, so that no codec of a driver or of a caller's connection matters.
    read:
        Makes the result of the rows.
    savepoint:
        On a caller's connection it runs in a savepoint, so that its error leaves the caller's transaction usable.
    timeout_s:
        The server ends it after so many seconds, and plans it for its values. Only on connections of our own: a
        caller's transaction has its own limits. It costs two round trips more. None: no limit.
    read_only:
        With a timeout: the server refuses it to write.
    """

    name: str
    values: tuple[Any, ...]
    read: Reader[T]
    savepoint: bool = False
    timeout_s: float | None = None
    read_only: bool = False


def seconds(interval: timedelta | float) -> float:
    """An interval as a statement's value: seconds."""
    return interval.total_seconds() if isinstance(interval, timedelta) else float(interval)


def utc(moment: datetime) -> datetime:
    """`moment` in UTC: psycopg gives the session's time zone, asyncpg UTC."""
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def utc_or_none(moment: datetime | None) -> datetime | None:
    return None if moment is None else utc(moment)


def read_nothing(rows: Sequence[Row], loads: JsonLoads) -> None:
    return None


def read_value(rows: Sequence[Row], loads: JsonLoads) -> Any:
    """The first column of the only row."""
    return rows[0][0]


def read_values(rows: Sequence[Row], loads: JsonLoads) -> list[Any]:
    """The first column of all rows."""
    return [row[0] for row in rows]
