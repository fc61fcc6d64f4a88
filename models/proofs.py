"""What can be seen of a whole text column at once: which of its values need no cleaning and have the form asked for.

A proof only spares the engine work; it decides nothing. A value that is not proven goes through every rule, and one
that is proven would pass them with the same result. Columns are Arrow text arrays, masks numpy booleans of one length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandera.pandas as pa
import pyarrow

from models.canonical import (
    FIRM_CHECKS,
    FIRM_WEIGHTS,
    ID,
    LABEL,
    LINE,
    PHONE,
    RESIDENT_CHECKS,
    RESIDENT_WEIGHTS,
)

Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

_DIGITS = b"0123456789"
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SIGNS = bytes(set(range(0x21, 0x7F)) - set(b"'"))
"""ASCII that cleaning leaves alone wherever it stands."""
_LABEL_SIGNS = bytes(set(_SIGNS) - set(b',"*|'))


@dataclass(frozen=True)
class Layout:
    """A text column as its bytes, and where each value begins and ends in them."""

    data: Bytes
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        return self.ends - self.starts

    @cached_property
    def text(self) -> bytes:
        return self.data.tobytes()

    def has_only(self, allowed: bytes) -> Mask:
        """The values all of whose bytes are among the allowed ones."""
        if not self.text.translate(None, allowed):
            return np.ones(len(self.starts), bool)
        is_strange = np.ones(256, np.int32)
        is_strange[list(allowed)] = 0
        seen = np.concatenate(([0], np.cumsum(is_strange[self.data], dtype=np.int32)))
        return np.asarray(seen[self.ends] == seen[self.starts])

    def at(self, places: npt.NDArray[np.int64], where: Mask) -> Bytes:
        """The byte at a place of each value; 0 where the mask says that there is none."""
        found = np.zeros(len(places), np.uint8)
        found[where] = self.data[places[where]]
        return found

    def matrix(self, rows: npt.NDArray[np.intp], width: int) -> Bytes:
        """The first bytes of some values, a row each."""
        if len(rows) * width == len(self.data):
            return self.data.reshape(len(rows), width)
        return np.asarray(self.data[self.starts[rows][:, None] + np.arange(width)])


def lay_out(column: pyarrow.Array) -> Layout:
    """The bytes of a text column; a null lies there as an empty value."""
    offsets = np.frombuffer(column.buffers()[1], np.int32, count=len(column) + 1, offset=column.offset * 4).astype(
        np.int64
    )
    buffer = column.buffers()[2]
    data = np.frombuffer(buffer, np.uint8)[offsets[0] : offsets[-1]] if buffer is not None else np.empty(0, np.uint8)
    offsets -= offsets[0]
    return Layout(data, offsets[:-1], offsets[1:])


def is_clean(text: Layout) -> Mask:
    """The values that cleaning leaves as they are: ASCII without blanks and apostrophes."""
    return text.has_only(_SIGNS)


def is_id(text: Layout) -> Mask:
    """Letters, digits and _ . - behind a letter or digit, at most 40."""
    first = text.at(text.starts, text.lengths > 0)
    starts_badly = (first == ord("_")) | (first == ord(".")) | (first == ord("-"))
    return np.asarray(text.has_only(_DIGITS + _LETTERS + b"_.-") & (text.lengths <= 40) & ~starts_badly)


def is_label(text: Layout) -> Mask:
    """ASCII signs but those that need quoting, at most 20."""
    return text.has_only(_LABEL_SIGNS) & (text.lengths <= 20)


def is_line(text: Layout) -> Mask:
    """Any characters but control characters, no blank at either end, at most 120 bytes."""
    is_filled = text.lengths > 0
    first, last = text.at(text.starts, is_filled), text.at(text.ends - 1, is_filled)
    second, third = (text.at(text.starts + n, text.lengths > n) for n in (1, 2))
    before, two_before = (text.at(text.ends - n, text.lengths >= n) for n in (2, 3))
    # U+3000 is E3 80 80, U+00A0 is C2 A0, U+FEFF is EF BB BF; leading bytes of many others too, so all three are looked at.
    wide_start = (first == 0xE3) & (second == 0x80) & (third == 0x80)
    wide_end = (two_before == 0xE3) & (before == 0x80) & (last == 0x80)
    hard = ((first == 0xC2) & (second == 0xA0)) | ((before == 0xC2) & (last == 0xA0))
    mark = ((first == 0xEF) & (second == 0xBB) & (third == 0xBF)) | (
        (two_before == 0xEF) & (before == 0xBB) & (last == 0xBF)
    )
    blank = (is_filled & (first <= 0x20)) | (is_filled & (last <= 0x20))
    has_no_control = text.has_only(bytes(set(range(256)) - set(range(0x20)) - {0x7F}))
    return np.asarray(has_no_control & (text.lengths <= 120) & ~(wide_start | wide_end | hard | mark | blank))


def is_phone(text: Layout) -> Mask:
    """Seven to fifteen digits that are no mobile number of an unknown range."""
    lengths = text.lengths
    first, second = text.at(text.starts, lengths > 0), text.at(text.starts + 1, lengths > 1)
    unknown = (first == ord("1")) & (lengths >= 9) & ((lengths != 11) | (second < ord("3")))
    fits = ((lengths >= 7) & (lengths <= 15)) | (lengths == 0)
    return np.asarray(text.has_only(_DIGITS) & fits & ~unknown)


def is_id_no(text: Layout) -> Mask:
    """Letters and digits, at most 40; 18 characters that begin with 17 digits end with the right one."""
    proven = text.has_only(_DIGITS + _LETTERS) & (text.lengths <= 40)
    rows = np.flatnonzero(proven & (text.lengths == 18))
    if len(rows):
        matrix = text.matrix(rows, 18)
        digits = (matrix[:, :17] - np.uint8(ord("0"))).astype(np.int32)  # a letter is more than 9
        last = matrix[:, 17]
        last = np.where(last >= ord("a"), last - np.uint8(32), last)
        resident = np.frombuffer(RESIDENT_CHECKS.encode(), np.uint8)[digits @ np.array(RESIDENT_WEIGHTS, np.int32) % 11]
        firm = np.frombuffer(FIRM_CHECKS.encode(), np.uint8)[-(digits @ np.array(FIRM_WEIGHTS, np.int32)) % 31]
        is_checked = (digits <= 9).all(axis=1)
        proven[rows[is_checked & (last != resident) & (last != firm)]] = False
    return proven


def is_amount(text: Layout) -> Mask:
    """Digits with a leading minus or not, and none, one or two decimals; and empty ones."""
    lengths = text.lengths
    is_negative = text.at(text.starts, lengths > 0) == ord("-")
    one, two = (text.at(text.ends - n, lengths >= n) == ord(".") for n in (2, 3))
    whole = lengths - is_negative - np.where(two, 3, np.where(one, 2, 0))
    proven = text.has_only(_DIGITS + b".-") & (((whole >= 1) & (whole <= 16)) | (lengths == 0))
    for sign, times in ((b".", one.astype(np.int64) + two), (b"-", is_negative.astype(np.int64))):
        if text.text.count(sign) != int(times.sum()):
            seen = np.concatenate(([0], np.cumsum(text.data == sign[0], dtype=np.int32)))
            proven &= seen[text.ends] - seen[text.starts] == times
    return np.asarray(proven & ~(one & two))


def is_plain(text: Layout, among: Mask) -> bool:
    """Whether all amounts of a mask, proven ones, are spelled as a decimal with two places is: 0.50, -12.00."""
    lengths = text.lengths
    negative = (text.at(text.starts, lengths > 0) == ord("-")).astype(np.int64)
    first, second = (text.at(text.starts + negative + n, lengths > negative + n) for n in (0, 1))
    has_places = text.at(text.ends - 3, lengths >= 3) == ord(".")
    is_zero = negative.astype(bool) & (first == ord("0"))  # -0.00 is 0.00; -0.50 is rare enough to go with it
    return bool((has_places & ((first != ord("0")) | (second == ord("."))) & ~is_zero | ~among).all())


def is_whole(text: Layout) -> Mask:
    """Digits with a leading minus or not, at most 16, and empty ones: an amount in fen."""
    lengths = text.lengths
    is_negative = text.at(text.starts, lengths > 0) == ord("-")
    digits = lengths - is_negative
    proven = text.has_only(_DIGITS + b"-") & (((digits >= 1) & (digits <= 16)) | (lengths == 0))
    if text.text.count(b"-") != int(is_negative.sum()):
        seen = np.concatenate(([0], np.cumsum(text.data == ord("-"), dtype=np.int32)))
        proven &= seen[text.ends] - seen[text.starts] == is_negative
    return np.asarray(proven)


_BY_PATTERN: dict[str, Callable[[Layout], Mask]] = {ID: is_id, LABEL: is_label, LINE: is_line, PHONE: is_phone}


def form_of(column: pa.Column) -> Callable[[Layout], Mask] | None:
    """What proves that texts pass all checks of a canonical text column; None where nothing does."""
    if any(check.name == "has_checksum" for check in column.checks):
        return is_id_no
    patterns = [check.statistics["pattern"] for check in column.checks if check.name == "str_matches"]
    return _BY_PATTERN.get(patterns[0]) if patterns else None
