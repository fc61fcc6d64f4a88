"""Workdays of the State Council with make-up days, and periods; an undeclared year is an error, never a guess.

Knows no file: a calendar is made from the package's official years and the overlays that operations wrote.
"""

from __future__ import annotations

import calendar as gregorian
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from chinese_calendar import constants
from pydantic import BaseModel, ConfigDict, Field

from models import CallbackError

SHANGHAI = ZoneInfo("Asia/Shanghai")


class MissingCalendar(CallbackError):
    """A year for which the State Council's notice is not known here."""


class BadPeriod(CallbackError):
    """A period that is not written as DESIGN §3.8 has it."""


class Overlay(BaseModel):
    """One year's notice as operations writes it, `calendars/2027.yaml`; it replaces what the package says of that year."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    year: int = Field(ge=2004, le=2199)
    source: str = Field(min_length=1)
    holidays: tuple[date, ...]
    """Days off, weekends inside a holiday need not be named."""
    workdays: tuple[date, ...] = ()
    """Make-up workdays on a Saturday or Sunday."""


@dataclass(frozen=True)
class Calendar:
    """Which days are workdays, in the years that are declared."""

    version: str
    years: frozenset[int]
    holidays: frozenset[date]
    makeup_days: frozenset[date]
    where: str = "calendars"

    def is_workday(self, day: date) -> bool:
        """Whether offices work on that day. Raises MissingCalendar outside the declared years."""
        self.require(day.year)
        if day in self.makeup_days:
            return True
        return day.weekday() < 5 and day not in self.holidays

    def require(self, year: int) -> None:
        """Raise MissingCalendar, with what to do, unless the year is declared."""
        if year not in self.years:
            raise MissingCalendar(
                f"no official workday calendar for {year}: the State Council's notice for that year is not known here. "
                f"When it is published, write {self.where}/{year}.yaml with the keys year, source (number of the notice), "
                f"holidays (list of days off) and workdays (make-up Saturdays and Sundays), or upgrade the package "
                f"chinesecalendar; known are {min(self.years)}–{max(self.years)}"
            )

    def workdays(self, first: date, last: date) -> list[date]:
        """Workdays from first to last, both included, in order."""
        days = (first + timedelta(days=n) for n in range((last - first).days + 1))
        return [day for day in days if self.is_workday(day)]

    def add(self, day: date, workdays: int) -> date:
        """The workday that lies that many workdays after day, which itself is day 0."""
        while workdays > 0:
            day += timedelta(days=1)
            if self.is_workday(day):
                workdays -= 1
        return day

    def on_or_after(self, day: date) -> date:
        """The first workday that is not before day."""
        while not self.is_workday(day):
            day += timedelta(days=1)
        return day

    def elapsed(self, since: date, until: date) -> int:
        """Workdays after since up to and including until; 0 when until is not later."""
        return len(self.workdays(since + timedelta(days=1), until)) if until > since else 0

    def day_zero(self, delivered_at: datetime, closing: time) -> date:
        """The day a delivery counts from: its day in Shanghai, or the next workday when it came after closing."""
        local = delivered_at.astimezone(SHANGHAI)
        return self.on_or_after(local.date() + timedelta(days=1) if local.time() > closing else local.date())


def official(overlays: Sequence[Overlay] = (), where: str = "calendars") -> Calendar:
    """The calendar of the package's years with the overlays of operations; its version names the data by hash."""
    replaced = {overlay.year for overlay in overlays}
    holidays = {day for day in constants.holidays if day.year not in replaced}
    makeup = {day for day in constants.workdays if day.year not in replaced}
    years = {day.year for day in constants.holidays} | replaced
    for overlay in overlays:
        strangers = sorted(day for day in (*overlay.holidays, *overlay.workdays) if day.year != overlay.year)
        if strangers:
            raise MissingCalendar(
                f"calendar {overlay.year}: {strangers[0]} lies in another year; each year has its own file"
            )
        holidays.update(overlay.holidays)
        makeup.update(overlay.workdays)
    return Calendar(_version(holidays, makeup), frozenset(years), frozenset(holidays), frozenset(makeup), where)


def _version(holidays: Iterable[date], makeup: Iterable[date]) -> str:
    text = "\n".join([*(f"{day} off" for day in sorted(holidays)), *(f"{day} on" for day in sorted(makeup))])
    return f"cn-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Period:
    """One period with its first and last day."""

    name: str
    first: date
    last: date


def period(text: str) -> Period:
    """The period a text names: a day, a ten-day part, a month, a quarter or a year (DESIGN §3.8).

    >>> period("2026-02").last, period("2026-03b").first, period("2026Q4").last
    (datetime.date(2026, 2, 28), datetime.date(2026, 3, 11), datetime.date(2026, 12, 31))
    """
    shape = re.fullmatch(r"([0-9]{4})(?:Q([1-4])|-([0-9]{2})(?:([abc])|-([0-9]{2}))?)?", text)
    try:
        if not shape:
            raise ValueError  # noqa: TRY301 (one message for every bad form)
        year, part = int(shape[1]), shape[4]
        quarter, month, day = (int(group) if group else 0 for group in shape.group(2, 3, 5))
        if shape[5]:
            return Period(text, date(year, month, day), date(year, month, day))
        if quarter:
            first_month, last_month = quarter * 3 - 2, quarter * 3
        else:
            first_month, last_month = (month, month) if shape[3] else (1, 12)
        first = date(year, first_month, 1)
        last = date(year, last_month, gregorian.monthrange(year, last_month)[1])
        if part:
            starts, ends = {"a": 1, "b": 11, "c": 21}, {"a": 10, "b": 20, "c": last.day}
            return Period(text, first.replace(day=starts[part]), first.replace(day=ends[part]))
        return Period(text, first, last)
    except ValueError:
        raise BadPeriod(
            f"period {text!r}: write a day 2026-03-05, a ten-day part 2026-03a, a month 2026-03, a quarter 2026Q1 or a year 2026"
        ) from None
