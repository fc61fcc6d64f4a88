"""Columns of an extract before any house has put them in its own words: days, cents, codes, texts.

Alone knows how each becomes text or a typed array, dirt included. Knows neither the brokerage nor its dialects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.profile import DateForm

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_DECADES = np.frombuffer(b"".join(b"%04d" % n for n in range(10_000)), np.uint32)
"""The four digits of each number below 10,000, as one machine word."""
_FIRST_SERIAL = -25_569
"""Day 0 of spreadsheets, 1899-12-30, counted from 1970-01-01."""


def texts(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, pa.string())


def repeated(value: str, size: int) -> pa.Array:
    """The same text in every row."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(size, np.int32)), texts([value]))


def plain(column: pa.Array) -> pa.Array:
    """A column of codes as texts; any other as it is."""
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def digits_of(numbers: Ints, width: int) -> npt.NDArray[np.uint8]:
    """The decimal digits as ASCII codes, a row per number, zeros in front."""
    groups = -(-width // 4)
    words = np.empty((len(numbers), groups), np.uint32)
    for column in range(groups - 1, 0, -1):
        rest = numbers // 10_000
        words[:, column] = _DECADES[numbers - rest * 10_000]
        numbers = rest
    words[:, 0] = _DECADES[numbers]
    return words.view(np.uint8)[:, groups * 4 - width :]


def ascii_texts(characters: npt.NDArray[np.uint8]) -> pa.Array:
    """One text per row of a matrix of ASCII codes."""
    length, width = characters.shape
    offsets = np.arange(0, (length + 1) * width, width, dtype=np.int32)
    return pa.StringArray.from_buffers(length, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(characters)))


def padded(numbers: Ints, width: int) -> pa.Array:
    """Numbers as texts of one width, zeros in front."""
    return ascii_texts(digits_of(numbers, width))


def mask_of(size: int, positions: Ints) -> Mask:
    mask = np.zeros(size, np.bool_)
    mask[positions] = True
    return mask


@dataclass(frozen=True)
class Days:
    """Dates, counted in days since 1970."""

    days: Ints
    missing: Mask | None = None
    impossible: Ints | None = None
    """Positions where the calendar has no such day: the 32nd of the month of `last`."""

    def __len__(self) -> int:
        return len(self.days)

    def text(self, form: DateForm = "yyyy-MM-dd", none: str | None = None) -> pa.Array:
        """The dates as a source writes them; `none` where there is none."""
        first, last = int(self.days.min(initial=0)), int(self.days.max(initial=0))
        words = _calendar(first, last, form)
        size = len(words)
        month = str(np.datetime64(last, "D"))[:7]
        words = pa.concat_arrays([words, texts([_shaped(f"{month}-32", form), none])])
        picks = self.days - first
        if self.impossible is not None and len(self.impossible):
            picks[self.impossible] = size
        if self.missing is not None:
            picks = np.where(self.missing, size + 1, picks)
        return words.take(pa.array(picks))

    def typed(self) -> pa.Array:
        """As date32; an impossible date is none there."""
        absent = np.zeros(len(self.days), np.bool_) if self.missing is None else self.missing.copy()
        if self.impossible is not None:
            absent[self.impossible] = True
        return pa.array(self.days.astype(np.int32), pa.int32(), mask=absent).cast(pa.date32())

    def serial(self) -> pa.Array:
        """As spreadsheets count days."""
        return pa.array(self.days - _FIRST_SERIAL, mask=self.missing)


@lru_cache(maxsize=16)
def _calendar(first: int, last: int, form: DateForm) -> pa.Array:
    if form == "excel":
        return texts([str(day - _FIRST_SERIAL) for day in range(first, last + 1)])
    return texts(
        [_shaped(day, form) for day in np.arange(first, last + 1).astype("datetime64[D]").astype(str).tolist()]
    )


def _shaped(iso: str, form: DateForm) -> str:
    return iso.replace("-", {"yyyy-MM-dd": "-", "yyyyMMdd": "", "yyyy/MM/dd": "/", "yyyy.MM.dd": "."}.get(form, "-"))


@dataclass(frozen=True)
class Cents:
    """Amounts in hundredths of a yuan."""

    cents: Ints
    unreadable: Ints | None = None
    """Positions where a letter stands among the digits."""

    def __len__(self) -> int:
        return len(self.cents)

    def yuan(self) -> pa.Array:
        whole = self.cents // 100
        hundredths = _hundredths().take(pa.array(self.cents - whole * 100))
        amounts = pc.binary_join_element_wise(pa.array(whole).cast(pa.string()), hundredths, ".")
        return self._spoilt(amounts, "1O0.00")

    def fen(self) -> pa.Array:
        return self._spoilt(pa.array(self.cents).cast(pa.string()), "1O000")

    def typed(self) -> pa.Array:
        """As decimal(18, 2); an unreadable amount is none there."""
        halves = np.empty((len(self.cents), 2), np.int64)
        halves[:, 0], halves[:, 1] = self.cents, self.cents >> 63
        amounts = pa.Array.from_buffers(pa.decimal128(18, 2), len(self.cents), [None, pa.py_buffer(halves)])
        if self.unreadable is None or not len(self.unreadable):
            return amounts
        is_lost = pa.array(mask_of(len(self.cents), self.unreadable))
        return pc.if_else(is_lost, pa.scalar(None, pa.decimal128(18, 2)), amounts)

    def total(self) -> int:
        """Cents of the readable amounts, which is what a source's control total adds up."""
        lost = 0 if self.unreadable is None else int(self.cents[self.unreadable].sum())
        return int(self.cents.sum()) - lost

    def _spoilt(self, amounts: pa.Array, text: str) -> pa.Array:
        if self.unreadable is None or not len(self.unreadable):
            return amounts
        return pc.if_else(pa.array(mask_of(len(self.cents), self.unreadable)), text, amounts)


@lru_cache(maxsize=1)
def _hundredths() -> pa.Array:
    return texts([f"{n:02d}" for n in range(100)])


Column: TypeAlias = "pa.Array | Days | Cents"
Rows = dict[str, Column]
"""Rows of a canonical table by column."""


def recoded(column: pa.DictionaryArray, codes: Mapping[str, Sequence[str]], none: str | None = None) -> pa.Array:
    """Canonical codes in a house's own; where a house has several for one of ours, they take turns."""
    words = column.dictionary.to_pylist()
    own = [code for word in words for code in codes[word]]
    counts = np.array([len(codes[word]) for word in words])
    firsts = np.cumsum(counts) - counts
    picks = column.indices.fill_null(0).to_numpy(zero_copy_only=False)
    turn = np.arange(len(picks)) % counts[picks] if counts.max(initial=1) > 1 else 0
    found = firsts[picks] + turn
    if column.null_count:
        found = np.where(column.indices.is_null().to_numpy(zero_copy_only=False), len(own), found)
    return pa.DictionaryArray.from_arrays(pa.array(found.astype(np.int32)), texts([*own, none]))
