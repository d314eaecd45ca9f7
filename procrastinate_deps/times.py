"""Moments in time as users give them: a datetime, or a distance from now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

_BEYOND = "outside of the years 1 to 9999 in UTC; pass a moment within them"
_EXAMPLE = "pass a timedelta, or a dict of its arguments, as in {'minutes': 5}"


def as_timedelta(value: timedelta | Mapping[str, Any], name: str) -> timedelta:
    """The timedelta meant by `value`: one already, or its keyword arguments ({"minutes": 5})."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, Mapping):
        try:
            return timedelta(**value)
        except TypeError as error:
            raise TypeError(f"{name}={dict(value)!r}: {error}; {_EXAMPLE}") from None
    raise TypeError(f"{name}={value!r} is no distance in time; {_EXAMPLE}")


def check_aware(value: datetime, name: str) -> datetime:
    """`value`, refused when it has no time zone, or can't be said in UTC.

    A naive one would mean another moment on each machine; one that UTC doesn't hold could be stored, but not read.
    """
    if not isinstance(value, datetime):
        raise TypeError(f"{name} takes a datetime with a time zone, not {value!r}")
    if value.utcoffset() is None:
        raise ValueError(f"{name}={value!r} has no time zone; pass an aware datetime, as in datetime.now(UTC)")
    try:
        value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{name}={value!r} is {_BEYOND}") from None
    return value


def from_now(distance: timedelta, name: str) -> datetime:
    """The moment that far from now. Raises ValueError where there is none."""
    try:
        return utc_now() + distance
    except OverflowError:
        raise ValueError(f"{name}={distance!r} from now is {_BEYOND}") from None


def utc_now() -> datetime:
    return datetime.now(UTC)
