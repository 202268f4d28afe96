"""Schedules: which moments a text means, and which texts mean none."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcluster import schedules

NOON = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)  # a Monday


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("* * * * *", "2026-11-23T12:01"),
        ("*/15 * * * *", "2026-11-23T12:15"),
        ("5/20 * * * *", "2026-11-23T12:05"),
        ("0 9-17/4 * * *", "2026-11-23T13:00"),
        ("30 6 1,15 * *", "2026-12-01T06:30"),
        ("0 0 29 feb ?", "2028-02-29T00:00"),
        ("0 8 * * mon-fri", "2026-11-24T08:00"),
        ("0 8 * * SUN", "2026-11-29T08:00"),
        ("0 0 13 * fri", "2026-11-27T00:00"),
        ("0 0 */2 * fri", "2026-11-25T00:00"),
        ("@hourly", "2026-11-23T13:00"),
        ("@weekly", "2026-11-29T00:00"),
        ("@yearly", "2027-01-01T00:00"),
    ],
)
def test_the_next_moment_of_a_schedule(text: str, due: str) -> None:
    found = schedules.parse(text).after(NOON, UTC)

    assert found is not None
    assert found.strftime("%Y-%m-%dT%H:%M") == due


def test_a_schedule_that_never_comes_has_no_next_moment() -> None:
    assert schedules.parse("0 0 30 2 *").after(NOON, UTC) is None


def test_an_interval_counts_from_the_last_time() -> None:
    assert schedules.parse("@every 1h30m").after(NOON, UTC) == NOON + timedelta(minutes=90)


def test_clocks_of_a_zone_decide() -> None:
    berlin = ZoneInfo("Europe/Berlin")

    assert schedules.parse("0 13 * * *").after(NOON, berlin) == datetime(2026, 11, 24, 12, tzinfo=UTC)
    # On 29 March 2026 half past two does not exist.
    spring = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert schedules.parse("30 2 * * *").after(spring, berlin) == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)
    # On 25 October 2026 it comes twice.
    first = schedules.parse("30 2 * * *").after(datetime(2026, 10, 24, 12, tzinfo=UTC), berlin)
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert schedules.parse("30 2 * * *").after(first, berlin) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 7", "*/0 * * * *", "5-1 * * * *",
     "a * * * *", "1,,2 * * * *", "@sometimes", "@every 5", "@every 0s", "@every x"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(schedules.ScheduleError):
        schedules.parse(text)


@given(st.integers(0, 59), st.integers(0, 23), st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)))
def test_a_daily_schedule_comes_within_a_day_at_its_time(minute: int, hour: int, moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    found = schedules.parse(f"{minute} {hour} * * *").after(aware, UTC)

    assert found is not None
    assert aware < found <= aware + timedelta(days=1)
    assert (found.hour, found.minute) == (hour, minute)
