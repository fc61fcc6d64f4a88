from datetime import UTC, date, datetime, time

import pytest

from models.calendar import BadPeriod, MissingCalendar, Overlay, official, period


def test_make_up_saturdays_are_workdays_and_the_festival_is_not():
    calendar = official()
    assert not calendar.is_workday(date(2026, 2, 17))
    assert calendar.is_workday(date(2026, 2, 14))
    assert not calendar.is_workday(date(2026, 2, 21))
    assert calendar.is_workday(date(2026, 3, 2))


def test_a_year_without_a_notice_stops_and_says_how_to_add_it():
    with pytest.raises(MissingCalendar, match=r"2027.*calendars/2027\.yaml"):
        official().is_workday(date(2027, 3, 1))
    with pytest.raises(MissingCalendar, match="2027"):
        official().add(date(2026, 12, 30), 5)


def test_an_overlay_adds_a_year_and_changes_the_version():
    notice = Overlay(year=2027, source="test", holidays=(date(2027, 1, 1),), workdays=(date(2027, 1, 2),))
    calendar = official([notice])
    assert not calendar.is_workday(date(2027, 1, 1))
    assert calendar.is_workday(date(2027, 1, 2))
    assert calendar.version != official().version


def test_an_overlay_replaces_the_package_s_year():
    moved = official([Overlay(year=2026, source="changed", holidays=(date(2026, 3, 2),))])
    assert not moved.is_workday(date(2026, 3, 2))
    assert moved.is_workday(date(2026, 2, 17))


def test_workdays_are_counted_from_day_zero():
    calendar = official()
    assert calendar.add(date(2026, 3, 5), 3) == date(2026, 3, 10)
    assert calendar.elapsed(date(2026, 3, 5), date(2026, 3, 10)) == 3
    assert calendar.elapsed(date(2026, 3, 10), date(2026, 3, 5)) == 0


def test_a_delivery_after_closing_counts_from_the_next_workday():
    calendar, closing = official(), time(17, 30)
    assert calendar.day_zero(datetime(2026, 3, 6, 9, 0, tzinfo=UTC), closing) == date(2026, 3, 6)
    assert calendar.day_zero(datetime(2026, 3, 6, 9, 31, tzinfo=UTC), closing) == date(2026, 3, 9)
    assert calendar.day_zero(datetime(2026, 3, 7, 1, 0, tzinfo=UTC), closing) == date(2026, 3, 9)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026-03-05", date(2026, 3, 5), date(2026, 3, 5)),
        ("2026-02c", date(2026, 2, 21), date(2026, 2, 28)),
        ("2026-03", date(2026, 3, 1), date(2026, 3, 31)),
        ("2026Q1", date(2026, 1, 1), date(2026, 3, 31)),
        ("2026", date(2026, 1, 1), date(2026, 12, 31)),
    ],
)
def test_periods_are_read_as_the_house_writes_them(text, first, last):
    assert (period(text).first, period(text).last) == (first, last)


@pytest.mark.parametrize(
    "text", ["2026-13", "2026-3", "03-2026", "2026Q5", "2026-02-30", "", "2026-03d", "２０２６-03"]
)
def test_other_periods_are_refused_with_the_forms(text):
    with pytest.raises(BadPeriod, match="2026-03a"):
        period(text)
