"""Who made a call, as a cell names him, and whether he may have: nobody calls whom he developed or serves."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple


class Related(NamedTuple):
    """One of the staff who developed or served a customer from a day to a day, both included; None sets no limit."""

    staff_id: str
    name: str
    valid_from: date | None = None
    valid_to: date | None = None

    def holds_on(self, day: date | None) -> bool:
        """Whether it was so on a day; of a day that could not be read, whether it was so always."""
        if day is None:
            return self.valid_from is None and self.valid_to is None
        return (self.valid_from is None or self.valid_from <= day) and (self.valid_to is None or day <= self.valid_to)


def fault_of_caller(text: str, barred: Sequence[Related], staff: Mapping[str, str]) -> str:
    """Why those whom a cell names may not have called: '' | recusal | unknown_staff.

    A staff number that belongs to the name beside it, or stands alone, says who is meant; any other says nothing.

    >>> barred, staff = [Related("0101", "王芳")], {"0101": "王芳", "0203": "王芳", "0204": "李建国"}
    >>> [fault_of_caller(text, barred, staff) for text in ("王芳", "王芳(0203)", "203", "李建国", "李建国、工号101")]
    ['recusal', '', '', '', 'recusal']
    >>> [fault_of_caller(text, barred, staff) for text in ("王芳(0204)", "王芳(0999)", "0999")]
    ['recusal', 'recusal', 'unknown_staff']
    """
    barred_numbers, barred_names = {_number(who.staff_id) for who in barred}, {_own_name(who.name) for who in barred}
    fault = ""
    for person in re.split(r"[、,;/]+", unicodedata.normalize("NFKC", text).casefold()):
        given = [_number(number) for number in _STAFF_NUMBER.findall(person)]
        words = _STAFF_NUMBER.sub(" ", person)
        spoken = re.sub(r"[\s()]", "", words)
        if not barred_numbers.isdisjoint(given):
            return "recusal"
        if given and any(
            _number(staff_id) in given and spoken in ("", _own_name(name)) for staff_id, name in staff.items()
        ):
            continue
        if _names(words) & barred_names:
            return "recusal"
        if given and staff and not spoken:
            fault = "unknown_staff"
    return fault


_STAFF_NUMBER = re.compile(r"(?:工号)?[\s:#]*([a-z0-9-]*\d[a-z0-9-]*)(?:\.0+(?!\d))?")


def _number(staff_id: str) -> str:
    """A staff number as it is compared: a spreadsheet may have taken its leading zeros."""
    return bare_name(staff_id).lstrip("0")


def _own_name(name: str) -> str:
    """A name as it is compared, without what stands in brackets behind it."""
    return bare_name(re.split(r"[(（]", name, maxsplit=1)[0])


def _names(text: str) -> set[str]:
    """Everyone a cell may name: a blank parts two people, or stands inside one name.

    >>> _names("王芳、李 建国(经纪人)") == {"王芳", "李建国", "李", "建国", "经纪人"}
    True
    """
    parts = re.split(r"[、,;/()（）]+", unicodedata.normalize("NFKC", text))
    return {bare_name(name) for part in parts for name in (part, *part.split()) if name.strip()}


def bare_name(name: str) -> str:
    """A name as it is compared: without blanks, in one width and case."""
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", name)).casefold()
