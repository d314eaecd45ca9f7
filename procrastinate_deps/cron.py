"""When something periodic is due: cron expressions in a time zone."""

from __future__ import annotations

import math
import re
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_S = 86_400
# 29 February is the rarest day: none in the eight years around 2100.
RAREST_S = 9 * 366 * DAY_S
MAX_FIELDS = 6
_HOUR = 1
# croniter's H and R choose by a hash or by chance: no two workers would agree.
_CHOSEN_BY_CHANCE = re.compile(r"(^|[\s,])[hr]($|[\s,(/])", re.IGNORECASE)


class Schedule:
    """The seconds at which the clock on the wall of a time zone shows what a cron expression asks for.

    An expression that runs in every hour of the day (its hour field is `*`) goes by the time that passes: an hour that
    the clock shows twice has its occurrences twice, an hour that it skips has none. Every other occurrence happens
    exactly once: a local time that is skipped counts as the clock would show it without the change (02:30 is then at
    03:30), and one that is shown twice counts when it is shown first. Both as RFC 5545 has it, in section 3.3.5.

    Parameters
    ----------
    cron:
        Minute, hour, day of the month, month, day of the week, and as wanted a sixth field, the second; or "@daily" and
        the like. In the syntax of croniter.
    timezone:
        Its name in the IANA database. Default: "UTC".

    Raises
    ------
    ValueError:
        It is no cron expression, or one that never comes; the time zone is unknown.
    """

    def __init__(self, cron: str, timezone: str | ZoneInfo = "UTC") -> None:
        # It takes longer to import than the rest of an app.
        from croniter import croniter

        self.cron = cron
        self._zone = _zone(timezone)
        self.timezone = str(self._zone)
        try:
            if _CHOSEN_BY_CHANCE.search(cron):
                raise ValueError("H and R mean other times for each worker")
            self._croniter = croniter(cron, 0)
            if (fields := len(self._croniter.expanded)) > MAX_FIELDS:
                raise ValueError(f"{fields} fields are more than {MAX_FIELDS}")
            self._croniter.get_next(float)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"cron={cron!r} can't be used ({error}); pass minute, hour, day of month, month, day of week, and as "
                "wanted second, as in '*/5 * * * *', '0 3 * * mon-fri' or '* * * * * */10'"
            ) from error
        self._every_hour = self._croniter.expanded[_HOUR] == ["*"]
        # croniter keeps where it is; workers in several threads may share an app.
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Schedule({self.cron!r}, {self.timezone!r})"

    def next_after(self, moment: float) -> int:
        """The first occurrence after `moment`. All moments are in seconds since the epoch."""
        second = math.floor(moment) + 1
        while True:
            offset = self._offset(second)
            change = self._next_change(second, offset)
            found = self._next_by(offset, second, change)
            # In the hours after a change the skipped local times come by the clock from before it.
            before = self._offset(second - DAY_S)
            nearest = found if before == offset else min(found, self._next_by(before, second, min(found, change)))
            if nearest < change:
                return nearest
            # Where nothing comes for long there is no need to look at each day; but a clock that is put back shows
            # again what lies behind.
            second = max(change, found - 2 * DAY_S) if self._offset(change) == offset else change

    def between(self, first: float, last: float) -> Iterator[int]:
        """The occurrences from `first` to `last`, both included, in order."""
        second = self.next_after(math.ceil(first) - 1)
        while second <= last:
            yield second
            second = self.next_after(second)

    def latest(self, moment: float, within_s: float) -> int | None:
        """The last occurrence up to `moment`, if it is not longer ago than that."""
        within_s = min(within_s, RAREST_S)
        window_s = 1.0
        while True:
            window_s = min(window_s, within_s)
            found = max(self.between(moment - window_s, moment), default=None)
            if found is not None or window_s >= within_s:
                return found
            window_s *= 2

    def _next_by(self, offset: int, first: int, end: int) -> int:
        """The next occurrence by a clock with this offset from UTC; what comes at `end` or later is not looked at."""
        found = self._next_local(first - 1 + offset) - offset
        while found < end and not self._counts(found, offset):
            found = self._next_local(found + offset) - offset
        return found

    def _counts(self, second: int, offset: int) -> bool:
        """Whether it is by a clock with this offset that the local time of `second` counts."""
        if self._every_hour:
            return self._offset(second) == offset
        # zoneinfo's fold=0 is the offset before the change for skipped local times and for repeated ones
        local = datetime.fromtimestamp(second + offset, UTC).replace(tzinfo=self._zone, fold=0)
        return _seconds_of(local) == offset

    def _next_local(self, local: int) -> int:
        with self._lock:
            return round(self._croniter.get_next(float, start_time=local))

    def _next_change(self, second: int, offset: int) -> int:
        """When the offset changes, or a second before that and at least a day away."""
        low, high = second, second + DAY_S
        if self._offset(high) == offset:
            return high
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle) == offset:
                low = middle
            else:
                high = middle
        return high

    def _offset(self, second: int) -> int:
        return _seconds_of(datetime.fromtimestamp(second, self._zone))


def _seconds_of(local: datetime) -> int:
    offset = local.utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _zone(timezone: str | ZoneInfo) -> ZoneInfo:
    if isinstance(timezone, ZoneInfo):
        return timezone
    try:
        return ZoneInfo(timezone)
    # KeyError: there is none. The others: it names a folder, or a place outside of the database.
    except (KeyError, ValueError, OSError, TypeError, AttributeError) as error:
        raise ValueError(
            f"timezone={timezone!r}: no such time zone is known here; pass a name as 'Europe/Paris'. "
            "Where the system has no time zones, install the package tzdata"
        ) from error
