"""What a column of texts looks like: ids, dates, numbers, codes, names; and how a text is shown without telling it.

Texts with their counts in, traits out; which canonical column one is stands in models/draft.py.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property, partial
from itertools import islice
from typing import Any

from models.canonical import CHECKED_ID, ID, MOBILE, PHONE_DIGITS, has_checksum
from models.profile import DateForm

SAMPLE = 2_000
"""Different texts of a column that are looked at."""
CODES_AT_MOST = 60
"""Different texts that a column of codes may have."""
DISTINCT_AT_MOST = 300_000
"""Different texts of a column that are remembered; the rows of others are only counted."""

_BLANKS = " \t\r\n\v\f\u00a0\u3000\ufeff"
_DATES: dict[DateForm, re.Pattern[str]] = {
    "yyyy-MM-dd": re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})( 00:00:00([.]0+)?)?"),
    "yyyy/MM/dd": re.compile(r"([0-9]{4})/([0-9]{2})/([0-9]{2})( 00:00:00([.]0+)?)?"),
    "yyyy.MM.dd": re.compile(r"([0-9]{4})[.]([0-9]{2})[.]([0-9]{2})( 00:00:00([.]0+)?)?"),
    "yyyyMMdd": re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})"),
}
_SERIALS = (date(1970, 1, 1), date(2060, 1, 1))
"""Days that a spreadsheet's serial numbers are believed to be; an amount or an id is seldom in their range by chance."""
_NO_DAYS = {"0", "00000000", "19000101", "29990101", "29991231", "99991231", "99990101", "18991231", "19000100"}
_NOTHING = {"", "-", "--", "null", "none", "nil", r"\n", "n/a", "na", "#n/a", "无", "空", "未知", "不详", "无此项"}
_HANZI = r"\u3400-\u9fff\U00020000-\U0003ffff"


def tidy(text: str) -> str:
    """A text without what exports put around it, in half-width letters; only to recognise it, never to store it."""
    text = text.strip(_BLANKS).lstrip("'").strip(_BLANKS)
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def mask(text: str) -> str:
    """A text's shape: letters become x, digits 9, Chinese characters 汉; marks and length stay.

    >>> mask("张三 13800000000 a@b.cn"), mask("2025/13/01")
    ('汉汉 99999999999 x@x.xx', '9999/99/99')
    """
    shown = []
    for sign in text:
        if sign.isdecimal() or sign.isdigit() or (sign.isnumeric() and not re.match(f"[{_HANZI}]", sign)):
            shown.append("9")
        elif re.match(f"[{_HANZI}]", sign):
            shown.append("汉")
        elif sign.isalpha():
            shown.append("x")
        else:
            shown.append(sign if sign.isprintable() else "?")
    return "".join(shown)


def show_code(text: str, *, is_code_column: bool, words: Collection[str] = ()) -> str:
    """A code as it may be shown: itself where it is short and its column is one of codes, else its shape.

    Chinese characters could be a name: only those of the given words are shown.
    """
    is_shown = is_code_column and len(text) <= 4 and text.isprintable()
    is_shown &= not re.search(f"[{_HANZI}]", text) or text in words
    return text if is_shown else mask(text[:40])


@dataclass
class Column:
    """One column of a source file: how many rows have which text."""

    name: str
    rows: int = 0
    empty: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Rows of each tidied text; of at most DISTINCT_AT_MOST different ones."""
    uncounted: int = 0
    """Rows whose text came when so many were known already."""

    def add(self, counts: Mapping[Any, int]) -> None:
        """More rows, by text as the file has it; None is empty."""
        for raw, times in counts.items():
            self.rows += times
            text = tidy(raw or "")
            if not text:
                self.empty += times
            elif text in self.counts or len(self.counts) < DISTINCT_AT_MOST:
                self.counts[text] = self.counts.get(text, 0) + times
            else:
                self.uncounted += times
        for name in [name for name in self.__dict__ if isinstance(getattr(type(self), name, None), cached_property)]:
            del self.__dict__[name]  # what was seen of fewer rows

    @property
    def counted(self) -> int:
        return self.rows - self.empty - self.uncounted

    @property
    def distinct(self) -> int:
        return len(self.counts)

    @property
    def unique_share(self) -> float:
        """Different texts for each row that has one."""
        return self.distinct / self.counted if self.counted else 0.0

    @cached_property
    def _sample(self) -> dict[str, int]:
        return dict(islice(self.counts.items(), SAMPLE))

    @cached_property
    def nothing(self) -> list[str]:
        """Texts that mean: no value."""
        return [text for text in self.counts if text.lower() in _NOTHING]

    def share(self, holds: Callable[[str], object], without: Collection[str] = ()) -> float:
        """Share of the rows with a text for which something holds."""
        rows = {text: n for text, n in self._sample.items() if text not in without and text.lower() not in _NOTHING}
        total = sum(rows.values())
        return sum(n for text, n in rows.items() if holds(text)) / total if total else 0.0

    @cached_property
    def no_days(self) -> list[str]:
        """Texts that mean: no day."""
        return [text for text in self.counts if is_no_day(text)]

    @cached_property
    def no_day_share(self) -> float:
        if not self.rows:
            return 0.0
        return (self.empty + sum(self.counts[text] for text in self.no_days)) / self.rows

    @cached_property
    def date_forms(self) -> list[DateForm]:
        """The forms of its days, the most frequent first; empty when it is no column of days."""
        no_days = set(self.no_days)
        if self.counted and len(no_days) == self.distinct and self.distinct:
            return [form for form, pattern in _DATES.items() if any(pattern.fullmatch(t) for t in no_days)]
        forms: list[DateForm] = [*_DATES, "excel"]
        shares = {form: self.share(partial(is_day, form=form), no_days) for form in forms}
        if sum(shares.values()) - shares["excel"] > 0.2:
            shares.pop("excel")
        found = sorted((form for form, share in shares.items() if share > 0.02), key=lambda form: -shares[form])
        return found if sum(shares[form] for form in found) >= 0.85 else []

    @cached_property
    def is_codes(self) -> bool:
        """Few different texts, each of many rows, that are no one's number, name in full or address."""
        return (
            0 < self.distinct <= CODES_AT_MOST
            and self.counted >= 2 * self.distinct
            and max(map(len, self.counts)) <= 30
            and not any(is_private(text) for text in self.counts)
        )

    @cached_property
    def ids(self) -> float:
        return self.share(lambda text: re.fullmatch(ID, text) and len(text) <= 40)

    @cached_property
    def bare_ids(self) -> frozenset[str]:
        """Its texts without leading zeros."""
        return frozenset(text.lstrip("0") for text in self.counts)

    @cached_property
    def digits(self) -> float:
        return self.share(lambda text: text.isascii() and text.isdigit())

    @cached_property
    def decimals(self) -> float:
        return self.share(lambda text: re.fullmatch(r"[+-]?[0-9][0-9,]*[.,][0-9]+", text))

    @cached_property
    def numbers(self) -> float:
        return self.share(lambda text: re.fullmatch(r"[+-]?[0-9][0-9,]*([.,][0-9]+)?", text))

    @cached_property
    def mobiles(self) -> float:
        return self.share(lambda text: re.fullmatch("1[3-9][0-9]{9}", text))

    @cached_property
    def phones(self) -> float:
        return self.share(lambda text: re.fullmatch(PHONE_DIGITS, text) and re.fullmatch(MOBILE, text))

    @cached_property
    def checked_ids(self) -> float:
        return self.share(lambda text: re.fullmatch(CHECKED_ID, text) and has_checksum(text))

    @cached_property
    def emails(self) -> float:
        return self.share(lambda text: re.fullmatch(r"[^@\s]+@[^@\s]+[.][^@\s]+", text))

    @cached_property
    def hanzi(self) -> float:
        return self.share(lambda text: re.search(f"[{_HANZI}]", text))

    @cached_property
    def person_names(self) -> float:
        return self.share(lambda text: re.fullmatch(f"[{_HANZI}·]{{2,4}}", text))

    @cached_property
    def wordy(self) -> float:
        """Texts of letters, with blanks and marks between them."""
        return self.share(lambda text: re.fullmatch(r"[^\W\d_][\w .'&()·,-]*", text) and not text.isdigit())

    @cached_property
    def longest(self) -> int:
        return max(map(len, self.counts), default=0)

    def lost_width(self) -> int | None:
        """The width that its ids would have with the leading zeros they may have lost; None when nothing points there."""
        lengths = {len(text) for text in self._sample if text.isascii() and text.isdigit()}
        if self.digits < 0.9 or len(lengths) < 2 or any(t.startswith("0") and t.strip("0") for t in self._sample):
            return None
        return max(lengths)

    def shape(self) -> str:
        """The shape of most texts, for a person who must say what the column is."""
        shapes: dict[str, int] = {}
        for text, times in islice(self.counts.items(), 500):
            shape = mask(text[:24])
            shapes[shape] = shapes.get(shape, 0) + times
        return max(shapes, key=lambda shape: shapes[shape], default="")


def is_no_day(text: str) -> bool:
    """Whether a text is one of those that counters write for: no day."""
    return re.sub("[-/. :]", "", text.split(" ")[0]) in _NO_DAYS


def is_day(text: str, form: DateForm) -> bool:
    """Whether a text has the form and is a day of the calendar between 1900 and 2100."""
    if form == "excel":
        found = re.fullmatch(r"([1-9][0-9]{4})([.]0+)?", text)
        return bool(found) and _SERIALS[0] <= date(1899, 12, 30) + timedelta(days=int(found[1])) < _SERIALS[1]  # type: ignore[index]
    match = _DATES[form].fullmatch(text)
    if not match or not 1900 <= int(match[1]) < 2100:
        return False
    try:
        date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return False
    return True


def is_private(text: str) -> bool:
    """Whether a text may be somebody's number or address, so that it is shown to nobody."""
    return bool(re.search(r"[0-9]{7,}|@", text))
