"""Where one record of delimited text ends and the next begins, in bytes; and what makes that impossible to tell.

Knows quotes, line ends and their balance; nothing of columns' meaning. Positions are byte offsets, records count from 0.
"""

from __future__ import annotations

import csv
import io

import numpy as np
import numpy.typing as npt

from models import CallbackError

Positions = npt.NDArray[np.intp]

PIECE = 1 << 18

LF, CR, QUOTE = b"\n", b"\r", b'"'


class HeaderError(CallbackError):
    """The header of a file is not the one its profile describes."""


class FramingError(CallbackError):
    """The rows of a file cannot be told apart: quoting, column count, line end or line length is broken."""


def cut(data: bytes | bytearray, has_quotes: bool) -> int:
    """The offset behind the last record that ends within data, 0 when none does; data begins outside quotes.

    >>> cut(b'a,"x\\ny"\\nb,"z\\n', True), cut(b"a\\nb", False)
    (8, 2)
    """
    end = data.rfind(LF)
    if not has_quotes or QUOTE not in data:
        return end + 1
    is_inside = data.count(QUOTE, 0, end + 1) % 2 == 1
    while is_inside and end >= 0:
        before = data.rfind(LF, 0, end)
        is_inside ^= data.count(QUOTE, before + 1, end) % 2 == 1
        end = before
    return end + 1


def record_ends(data: bytes, has_quotes: bool) -> Positions:
    """The offset of each record's last byte (its LF, or the last byte of data)."""
    text = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(text == LF[0])
    if has_quotes and QUOTE in data:
        quotes = np.flatnonzero(text == QUOTE[0])
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    if len(text) and (not len(ends) or ends[-1] != len(text) - 1):
        ends = np.append(ends, len(text) - 1)
    return ends


def count_records(data: bytes, has_quotes: bool) -> int:
    """Records in data, empty lines among them."""
    if has_quotes and QUOTE in data:
        return len(record_ends(data, has_quotes))
    text = np.frombuffer(data, np.uint8)
    # Piece by piece: what stays in the cache is compared several times as fast.
    ends = sum(int(np.count_nonzero(text[at : at + PIECE] == LF[0])) for at in range(0, len(text), PIECE))
    return ends + (0 if data.endswith(LF) or not data else 1)


def filled_records(data: bytes, has_quotes: bool) -> Positions | None:
    """The numbers of the records that are no empty lines; None when no line is empty."""
    if not data.startswith((LF, CR)) and b"\n\n" not in data and b"\n\r" not in data:
        return None
    ends = record_ends(data, has_quotes)
    text = np.frombuffer(data, np.uint8)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + (text[ends] != LF[0])
    is_empty = (lengths == 0) | ((lengths == 1) & (text[starts] == CR[0]))
    return np.flatnonzero(~is_empty)


def refuse_quotes(data: bytes, delimiter: str) -> tuple[int, str] | None:
    """Record and fault of the first quotation mark that neither opens nor closes a field nor stands doubled."""
    if QUOTE not in data:
        return None
    text = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(text == QUOTE[0])
    separators = np.zeros(256, bool)
    separators[[ord(delimiter), LF[0], CR[0]]] = True
    openers, closers = quotes[0::2], quotes[1::2]
    # A doubled quotation mark reads as a field that closes and opens again at once.
    opens = (openers == 0) | separators[text[openers - 1]]
    opens[1:] |= openers[1:] - 1 == closers[: len(openers) - 1]
    closes = (closers == len(text) - 1) | separators[text[np.minimum(closers + 1, len(text) - 1)]]
    paired = min(len(closers), len(openers) - 1)
    closes[:paired] |= closers[:paired] + 1 == openers[1 : paired + 1]
    wrong = np.concatenate((openers[~opens], closers[~closes]))
    if len(wrong):
        first = int(wrong.min())
        return _record_at(data, first), "a quotation mark within a field, or text after a closing one"
    if len(quotes) % 2:
        return _record_at(data, int(quotes[-1])), "a quotation mark that is never closed"
    return None


def refuse_line_ends(data: bytes, has_quotes: bool) -> int | None:
    """The record of the first CR outside quotes that no LF follows; None when there is none."""
    if CR not in data or data.count(CR) == data.count(b"\r\n"):
        return None
    text = np.frombuffer(data, np.uint8)
    returns = np.flatnonzero(text == CR[0])
    lone = returns[(returns == len(text) - 1) | (text[np.minimum(returns + 1, len(text) - 1)] != LF[0])]
    if has_quotes and QUOTE in data:
        quotes = np.flatnonzero(text == QUOTE[0])
        lone = lone[np.searchsorted(quotes, lone) % 2 == 0]
    return _record_at(data, int(lone[0])) if len(lone) else None


def _record_at(data: bytes, offset: int) -> int:
    """Lines before an offset; a fault within a field of several lines is named by its line."""
    return data.count(LF, 0, offset)


def header_names(record: str, delimiter: str, has_quotes: bool, name: str) -> list[str]:
    """The column names of a header line, without blanks around them. Raises HeaderError when it cannot be read."""
    lines = io.StringIO(record, newline="")
    if has_quotes:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
    else:
        reader = csv.reader(lines, delimiter=delimiter, strict=True, quoting=csv.QUOTE_NONE)
    try:
        header = next(reader)
    except (csv.Error, StopIteration) as error:
        raise HeaderError(f"{name}: no header can be read ({error}); is the delimiter {delimiter!r}?") from None
    return [column.strip(" \t\u3000\ufeff") for column in header]
