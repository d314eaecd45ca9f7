"""When a schedule is due, above all when clocks are put forward or back."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter

from procrastinate_deps.cron import Schedule

DAY = timedelta(days=1)


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def occurrences(cron: str, timezone: str, after: str, before: str) -> list[str]:
    """Those between two moments, neither included, as the clock on the wall shows them."""
    schedule = Schedule(cron, timezone)
    found = schedule.between(at(after) + 1, at(before) - 1)
    return [datetime.fromtimestamp(each, ZoneInfo(timezone)).isoformat() for each in found]


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("* * * * *", ["10:00:00", "10:01:00", "10:02:00"]),
        ("* * * * * *", ["10:00:00", "10:00:01", "10:00:02"]),
        ("*/2 * * * * 30", ["10:00:30", "10:02:30", "10:04:30"]),
        ("*/20 * * * * */20", ["10:00:00", "10:00:20", "10:00:40"]),
        ("0 10-12 * * *", ["10:00:00", "11:00:00", "12:00:00"]),
        ("@hourly", ["10:00:00", "11:00:00", "12:00:00"]),
        ("  30 */6 * * sun ", ["12:30:00", "18:30:00", "00:30:00"]),
    ],
)
def test_the_fields_and_seconds_last(cron: str, expected: list[str]) -> None:
    schedule = Schedule(cron)
    found = itertools.islice(schedule.between(at("2026-11-22T10:00Z"), at("2030-01-01T00:00Z")), 3)
    assert [f"{datetime.fromtimestamp(each, UTC):%H:%M:%S}" for each in found] == expected


def test_after_means_after_and_fractions_count() -> None:
    schedule = Schedule("* * * * * *")
    assert schedule.next_after(100) == 101
    assert schedule.next_after(99.999) == 100
    assert list(schedule.between(99.5, 101.5)) == [100, 101]
    assert list(schedule.between(100, 101)) == [100, 101]
    assert list(schedule.between(100.1, 100.9)) == []


def test_a_time_zone_and_utc_as_the_default() -> None:
    noon = at("2026-07-01T12:00Z")
    assert Schedule("0 15 * * *").next_after(noon) == at("2026-07-01T15:00Z")
    assert Schedule("0 15 * * *", "Europe/Paris").next_after(noon) == at("2026-07-01T15:00+02:00")
    assert Schedule("0 15 * * *", ZoneInfo("Asia/Kathmandu")).next_after(noon) == at("2026-07-02T15:00+05:45")
    assert Schedule("0 15 * * *", ZoneInfo("Asia/Kathmandu")).timezone == "Asia/Kathmandu"


# Europe/Paris: on 29 March 2026 at 02:00 the clock is put forward to 03:00, on 25 October at 03:00 back to 02:00.
SPRING = ("Europe/Paris", "2026-03-29T00:59:59+01:00", "2026-03-29T04:01+02:00")
AUTUMN = ("Europe/Paris", "2026-10-25T00:59:59+02:00", "2026-10-25T04:01+01:00")


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        # not skipped, but at what the clock would have shown without the change
        ("30 2 * * *", ["03:30+02"]),
        ("0 2 * * *", ["03:00+02"]),
        ("30 1,2,3 * * *", ["01:30+01", "03:30+02"]),
        ("0,30 2-3 * * *", ["03:00+02", "03:30+02"]),
        ("15 2-4/2 * * *", ["03:15+02"]),
        ("0 */2 * * *", ["03:00+02", "04:00+02"]),
        # every hour that there is
        ("30 * * * *", ["01:30+01", "03:30+02"]),
        ("*/30 * * * *", ["01:00+01", "01:30+01", "03:00+02", "03:30+02", "04:00+02"]),
        ("59 * * * * 59", ["01:59:59+01", "03:59:59+02"]),
    ],
)
def test_the_clock_is_put_forward(cron: str, expected: list[str]) -> None:
    assert [_short(each) for each in occurrences(cron, *SPRING)] == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        # once: when the clock shows it first
        ("30 2 * * *", ["02:30+02"]),
        ("0 2 * * *", ["02:00+02"]),
        ("0 3 * * *", ["03:00+01"]),
        ("0 1-3 * * *", ["01:00+02", "02:00+02", "03:00+01"]),
        ("0 */2 * * *", ["02:00+02", "04:00+01"]),
        # every hour that there is
        ("30 * * * *", ["01:30+02", "02:30+02", "02:30+01", "03:30+01"]),
        ("*/30 1-3 * * *", ["01:00+02", "01:30+02", "02:00+02", "02:30+02", "03:00+01", "03:30+01"]),
        ("59 * * * * 59", ["01:59:59+02", "02:59:59+02", "02:59:59+01", "03:59:59+01"]),
    ],
)
def test_the_clock_is_put_back(cron: str, expected: list[str]) -> None:
    assert [_short(each) for each in occurrences(cron, *AUTUMN)] == expected


def test_every_second_of_an_hour_with_a_change() -> None:
    """An expression for all hours: each second that passes; for some hours: each that the clock shows."""
    for change in ("2026-03-29T01:00Z", "2026-10-25T01:00Z"):
        first, last = at(change) - 2 * 3600, at(change) + 4 * 3600 - 1
        assert len(list(Schedule("* * * * * *", "Europe/Paris").between(first, last))) == 6 * 3600
        # 3 hours: in spring 01, 02 (at 03) and 03 (at 03 as well), in autumn 01, 02 and 03
        expected = {"2026-03-29T01:00Z": 2 * 3600, "2026-10-25T01:00Z": 3 * 3600}[change]
        assert len(list(Schedule("* 1-3 * * * *", "Europe/Paris").between(first, last))) == expected


def _short(moment: str) -> str:
    time, sign, offset = moment.partition("T")[2].partition("+")
    return time.removesuffix(":00") + sign + offset.removesuffix(":00")


@pytest.mark.parametrize(
    ("cron", "timezone", "day", "expected"),
    [
        # half an hour forward and back
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04", ["2026-10-04T02:45:00+11:00"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-05", ["2026-04-05T01:45:00+11:00"]),
        # midnight is skipped, and the hour before it repeated
        ("0 0 * * *", "America/Santiago", "2026-09-06", ["2026-09-06T01:00:00-03:00"]),
        ("0 23 4 * *", "America/Santiago", "2026-04-04", ["2026-04-04T23:00:00-03:00"]),
        ("7 * 4 * *", "America/Santiago", "2026-04-04", ["2026-04-04T23:07:00-03:00", "2026-04-04T23:07:00-04:00"]),
        # a whole day is skipped: 30 December 2011
        ("0 12 30 * *", "Pacific/Apia", "2011-12-31", ["2011-12-31T12:00:00+14:00"]),
    ],
)
def test_unusual_changes(cron: str, timezone: str, day: str, expected: list[str]) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(timezone)).timestamp()
    found = Schedule(cron, timezone).between(start, start + 26 * 3600)
    shown = [datetime.fromtimestamp(each, ZoneInfo(timezone)).isoformat() for each in found]
    assert [each for each in shown if each.startswith(day)][-len(expected) :] == expected


@pytest.mark.parametrize(
    "timezone", ["America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Antarctica/Troll"]
)
@pytest.mark.parametrize("cron", ["30 2 * * *", "0 0 * * *", "15 1,3 * * *", "0 */4 * * *", "5 * * * *"])
def test_against_the_definition(timezone: str, cron: str) -> None:
    """Over a year: what the definition says of each local time, not how the occurrences are looked for."""
    zone = ZoneInfo(timezone)
    first, last = at("2026-01-01T00:00Z"), at("2027-01-01T00:00Z")
    local = croniter(cron, first - 2 * DAY.total_seconds())
    expected: set[int] = set()
    while (second := round(local.get_next(float))) < last + 2 * DAY.total_seconds():
        shown = datetime.fromtimestamp(second, UTC).replace(tzinfo=zone)
        if cron.split()[1] != "*":
            expected.add(round(shown.timestamp()))
            continue
        for each in (shown, shown.replace(fold=1)):
            back = datetime.fromtimestamp(each.timestamp(), zone)
            if back.replace(tzinfo=None) == each.replace(tzinfo=None):
                expected.add(round(each.timestamp()))
    found = list(Schedule(cron, timezone).between(first, last))
    assert found == sorted(each for each in expected if first <= each <= last)


def test_the_latest_occurrence() -> None:
    noon = at("2026-11-22T12:00Z")
    assert Schedule("30 * * * *").latest(noon, 3600) == noon - 1800
    assert Schedule("30 * * * *").latest(noon, 1800) == noon - 1800
    assert Schedule("30 * * * *").latest(noon, 1799) is None
    assert Schedule("* * * * * *").latest(noon + 0.7, 1e12) == noon
    assert Schedule("0 12 * * *").latest(noon, 0) == noon
    assert Schedule("0 0 29 2 *").latest(noon, float("inf")) == at("2024-02-29T00:00Z")


@pytest.mark.parametrize(
    "cron",
    ["", "bad", "* * * *", "60 * * * *", "* 24 * * *", "* * * * * 60", "* * * * * * 2030", "0 0 31 2 *", "*/0 * * * *",
     "R * * * *", "H 3 * * *", "0 1,r(2-3) * * *", "@reboot", None, 5],
)  # fmt: skip
def test_what_is_no_schedule(cron: str) -> None:
    with pytest.raises(ValueError, match="cron="):
        Schedule(cron)


@pytest.mark.parametrize("timezone", ["Paris", "Europe", "../Europe/Paris", "/etc/passwd", "", None, 5])
def test_what_is_no_time_zone(timezone: str) -> None:
    with pytest.raises(ValueError, match="timezone="):
        Schedule("* * * * *", timezone)
