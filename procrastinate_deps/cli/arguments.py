"""Types of values on the command line."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime, timedelta
from typing import Any

import click

from procrastinate_deps.dependencies import MAX_JOB_ID
from procrastinate_deps.times import check_aware


class JobId(click.IntRange):
    """The id of a job."""

    name = "id"

    def __init__(self) -> None:
        super().__init__(min=1, max=MAX_JOB_ID)


class Moment(click.ParamType[datetime]):
    """A moment in ISO 8601, with its distance from UTC."""

    name = "ISO 8601"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time in ISO 8601, as in 2030-01-31T12:00:00Z", param, ctx)
        try:
            return check_aware(at, "the time")
        except ValueError:
            self.fail(f"{value!r} has no time zone; add Z for UTC, or a distance from it as in +01:00", param, ctx)


class Age(click.ParamType[timedelta]):
    """A distance in time: a number and its unit."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value.strip())
        if found is None:
            self.fail(f"{value!r} is not a number with one of the units s, m, h, d, w, as in 12h", param, ctx)
        number, unit = found.groups()
        try:
            return timedelta(seconds=float(number) * _UNITS_S[unit])
        except OverflowError:
            self.fail(f"{value!r} is longer than time is counted", param, ctx)


_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object; "-" reads it from stdin."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            found = json.loads(sys.stdin.read() if value == "-" else value, parse_constant=_refuse_constant)
        except ValueError as error:
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)
        if not isinstance(found, dict):
            self.fail(f'{value!r} is not a JSON object, as in \'{{"name": "value"}}\'', param, ctx)
        return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def comma_separated(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]
