"""Schedules of CronJobs: five fields, names, steps and macros, as Kubernetes' parser (robfig/cron) reads them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_UNITS = {"h": 3600, "m": 60, "s": 1}
# A schedule without a moment in so many years has none (30 February).
_YEARS_LOOKED_AT = 5


class ScheduleError(ValueError):
    """A text is no schedule; the message says which part."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something is due: sets of minutes, hours, days, months and days of the week (0 is Sunday).

    `any_day`, `any_weekday`: the field is a star. If neither is, one of both has to fit (crontab(5)).
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def after(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The first moment after `moment` (aware) that is due by the clocks of `zone`, in UTC; None: there is none.

        Times that a clock skips in spring do not happen; those that it repeats in autumn happen twice.
        """
        found = moment.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        last_year = found.year + _YEARS_LOOKED_AT
        while found.year <= last_year:
            local = found.astimezone(zone)
            if local.month not in self.months:
                year, month = divmod(local.year * 12 + local.month, 12)
                found = datetime(year, month + 1, 1, tzinfo=zone).astimezone(UTC)
            elif not self._is_day(local):
                tomorrow = local.date() + timedelta(days=1)
                found = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone).astimezone(UTC)
            elif local.hour not in self.hours:
                found += timedelta(minutes=60 - local.minute)
            elif local.minute not in self.minutes:
                found += timedelta(minutes=1)
            else:
                return found
        return None

    def _is_day(self, local: datetime) -> bool:
        by_day = local.day in self.days
        by_weekday = local.isoweekday() % 7 in self.weekdays
        return by_day and by_weekday if self.any_day or self.any_weekday else by_day or by_weekday


@dataclass(frozen=True, slots=True)
class Interval:
    """`@every 1h30m`: due at equal distances."""

    length: timedelta

    def after(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The moment one interval later, in UTC."""
        return (moment + self.length).astimezone(UTC).replace(microsecond=0)


def parse(text: str) -> Schedule | Interval:
    """The schedule that `text` means. Raises ScheduleError."""
    stripped = text.strip()
    if stripped.startswith("@every "):
        return Interval(_duration(stripped.removeprefix("@every ").strip()))
    if stripped.startswith("@"):
        if stripped.lower() not in _MACROS:
            raise ScheduleError(f"unrecognized descriptor: {stripped}")
        stripped = _MACROS[stripped.lower()]
    fields = stripped.split()
    if len(fields) != 5:
        raise ScheduleError(f"expected exactly 5 fields, found {len(fields)}: {text}")
    minutes, _ = _field(fields[0], 0, 59)
    hours, _ = _field(fields[1], 0, 23)
    days, any_day = _field(fields[2], 1, 31)
    months, _ = _field(fields[3], 1, 12, _MONTHS)
    weekdays, any_weekday = _field(fields[4], 0, 6, _DAYS)
    return Schedule(minutes, hours, days, months, weekdays, any_day, any_weekday)


def _field(text: str, low: int, high: int, names: tuple[str, ...] = ()) -> tuple[frozenset[int], bool]:
    """The numbers of a field, and whether it is a star."""
    found: set[int] = set()
    any_value = False
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = _number(step_text, text) if slash else 1
        if step == 0:
            raise ScheduleError(f"step of range should be a positive number: {part}")
        first_text, dash, last_text = span.partition("-")
        if first_text in ("*", "?") and not dash:
            first, last = low, high
            any_value = any_value or step == 1
        else:
            first = _value(first_text, low, names, text)
            last = _value(last_text, low, names, text) if dash else (high if slash else first)
        if first < low or last > high:
            raise ScheduleError(f"{part}: {low} to {high} are allowed")
        if first > last:
            raise ScheduleError(f"beginning of range ({first}) beyond end of range ({last}): {part}")
        found.update(range(first, last + 1, step))
    return frozenset(found), any_value


def _value(text: str, low: int, names: tuple[str, ...], field: str) -> int:
    if text.lower() in names:
        return names.index(text.lower()) + low
    return _number(text, field)


def _number(text: str, field: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ScheduleError(f"failed to parse int from {text!r} in {field!r}")
    return int(text)


def _duration(text: str) -> timedelta:
    """A duration as Go writes it, of hours, minutes and seconds; at least a second."""
    seconds, digits = 0, ""
    for letter in text:
        if letter.isascii() and letter.isdigit():
            digits += letter
        elif letter in _UNITS and digits:
            seconds, digits = seconds + int(digits) * _UNITS[letter], ""
        else:
            raise ScheduleError(f"failed to parse duration @every {text}")
    if digits or not seconds:
        raise ScheduleError(f"failed to parse duration @every {text}")
    return timedelta(seconds=seconds)
