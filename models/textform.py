"""How a file of delimited text is written, found out from its first bytes: encoding, delimiter, quotes, header, trailer.

Bytes in, a form out; where they were read from and what the columns mean stay out.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from models import CallbackError
from models.framing import refuse_quotes
from models.profile import Encoding, FileForm

DELIMITERS = ("\x01", "|", "\t", ";", ",")
RECORDS = 2_000
"""Records of the sample that are looked at."""
_CONTROLS = bytes(sorted({*range(32), 127} - set(b"\t\n\r\x01\x1b")))
_KINDS = (
    (b"\xd0\xcf\x11\xe0", "an old .xls workbook or another Office file; save it as .xlsx or CSV"),
    (b"%PDF", "a PDF; ask for the table itself"),
    (b"\x89PNG", "a picture; ask for the table itself"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd; deliver it plain, as .gz or as .zip"),
    (b"BZh", "packed by bzip2; deliver it plain, as .gz or as .zip"),
    (b"7z\xbc\xaf", "a 7z archive; deliver it plain, as .gz or as .zip"),
    (b"Rar!", "a RAR archive; deliver it plain, as .gz or as .zip"),
)
_DATA = re.compile(
    r"[+-]?[0-9][0-9,]*([.][0-9]+)?|[0-9]{4}([-/.])[0-9]{1,2}\2[0-9]{1,2}.*|[0-9]{17}[0-9Xx]|.*@.*[.].*|.*[0-9]{5,}.*"
)


class FormError(CallbackError):
    """A file is no table that can be read."""


@dataclass(frozen=True)
class TextForm:
    """What the sample says of its file."""

    form: FileForm
    header: list[str]
    """The names of the columns; made up (col_1, …) where the file has no header line."""
    has_header: bool
    decoded_pct: float
    """Share of the sample's lines that decode."""
    trailer: str = ""
    """The last line where it is no row; only when the sample's end is the file's."""
    doubts: list[str] = field(default_factory=list)
    is_ascii: bool = False


def read_form(
    name: str, sample: bytes, *, is_whole: bool, known: frozenset[str] = frozenset(), tail: bytes = b""
) -> TextForm:
    """The form of a file by its first bytes; is_whole says that they are all of it, `tail` are its last where not.

    `known` are column names that sources use, lower-case; a first line that has one of them is a header. Raises
    FormError for what is empty, UTF-16 or no text.
    """
    refuse_binary(name, sample)
    doubts: list[str] = []
    encoding, decoded_pct = find_encoding(sample, is_whole=is_whole)
    if decoded_pct < 100:
        doubts.append(f"{100 - decoded_pct:.2f} % of the lines hold bytes that are not {encoding}")
    if decoded_pct < 50:
        raise FormError(f"{name}: is text neither in UTF-8 nor in GB18030; have it exported as UTF-8")
    text = sample.removeprefix(b"\xef\xbb\xbf").decode("utf-8" if encoding == "utf-8-sig" else encoding, "replace")
    if "\n" not in text:
        text = text.replace("\r", "\n")
    if not is_whole:
        text = text[: text.rfind("\n") + 1] or text
    if not text.strip():
        raise FormError(f"{name}: holds blanks only; ask for the file again")
    delimiter, records = _find_delimiter(text)
    has_quotes = _has_quotes(text, delimiter)
    if not has_quotes:
        records = _records(text, delimiter, has_quotes=False)
    widths = Counter(len(record) for record in records)
    width = widths.most_common(1)[0][0] if len(records) > 2 else len(records[0])
    if width == 1:
        doubts.append("no delimiter separates columns; the file is read as one column")
    first, body = records[0], records[1:]
    has_header, is_sure = tell_header(first, body, known)
    if not is_sure:
        doubts.append(
            "whether the first line is a header cannot be told; it is taken for a row, its texts are not shown"
        )
    header = [cell.strip(" \t\u3000\ufeff") for cell in first] if has_header else made_up_names(width)
    if len(header) != width:
        doubts.append(f"the first line has {len(header)} columns, most rows have {width}")
    form = FileForm(
        format="text", encoding=encoding, delimiter=delimiter, quote='"' if has_quotes else "none",
        header=None if has_header else header,
    )  # fmt: skip
    end = text if is_whole else tail.decode("utf-8" if encoding == "utf-8-sig" else encoding, "replace")
    trailer = _trailer(end, delimiter, width) if len(records) > 2 else ""
    return TextForm(form, header, has_header, decoded_pct, trailer, doubts, sample.isascii())


def refuse_binary(name: str, sample: bytes) -> None:
    """Raises FormError for bytes that are no text in an encoding that is read here."""
    if not sample:
        raise FormError(f"{name}: is empty; ask for the file again")
    for magic, what in _KINDS:
        if sample.startswith(magic):
            raise FormError(f"{name}: is {what}")
    head = sample[:65_536]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or max(head[::2].count(0), head[1::2].count(0)) * 3 > len(head) > 8:
        raise FormError(f"{name}: is UTF-16 text; have it exported as UTF-8 or GB18030")
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if b"\0" in head[:4_096] or controls * 100 > len(head):
        raise FormError(f"{name}: is no text; give delimited text, Parquet or a workbook (.xlsx)")


def find_encoding(sample: bytes, *, is_whole: bool) -> tuple[Encoding, float]:
    """The encoding, and the share of lines that decode in it, in per cent."""
    if sample.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig", _decoded_pct(sample[3:].split(b"\n"), "utf-8", is_whole=is_whole)
    lines = sample.split(b"\n")
    if not is_whole and len(lines) > 1:
        lines.pop()
    try:
        b"\n".join(lines).decode("utf-8")
    except UnicodeDecodeError:
        foreign = [line for line in lines if not line.isascii()]
        # A line of Chinese in GB18030 is hardly ever right UTF-8 by chance; the other way round happens.
        if _decoded_pct(foreign, "utf-8", is_whole=True) > 50:
            return "utf-8", _decoded_pct(lines, "utf-8", is_whole=True)
        return "gb18030", _decoded_pct(lines, "gb18030", is_whole=True)
    return "utf-8", 100.0


def _decoded_pct(lines: Sequence[bytes], encoding: str, *, is_whole: bool) -> float:
    lines = lines if is_whole or len(lines) < 2 else lines[:-1]
    good = 0
    for line in lines:
        try:
            line.decode(encoding)
        except UnicodeDecodeError:
            continue
        good += 1
    return 100.0 * good / max(1, len(lines))


def _records(text: str, delimiter: str, *, has_quotes: bool) -> list[list[str]]:
    lines = io.StringIO(text, newline="")
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting)
    found: list[list[str]] = []
    try:
        for record in reader:
            if record:
                found.append(record)
            if len(found) >= RECORDS:
                break
    except csv.Error:
        pass
    return found or [[""]]


def _find_delimiter(text: str) -> tuple[str, list[list[str]]]:
    """The delimiter that cuts most records into the same number of columns, and the records."""
    best: tuple[float, int, str, list[list[str]]] = (0.0, 1, ",", _records(text, ",", has_quotes=True))
    for delimiter in DELIMITERS:
        if delimiter not in text:
            continue
        records = _records(text, delimiter, has_quotes=True)
        width, times = Counter(len(record) for record in records).most_common(1)[0]
        share = times / len(records)
        if width > 1 and (round(share, 2), width) > best[:2] and share > 0.6:
            best = (round(share, 2), width, delimiter, records)
    return best[2], best[3]


def _has_quotes(text: str, delimiter: str) -> bool:
    """Whether quotation marks enclose fields; where there are none, whether such files usually have them."""
    if '"' not in text:
        return delimiter in ",;"
    if refuse_quotes(text[: text.rfind("\n") + 1].encode(), delimiter) is None:
        return True
    # Marks that stand within fields: where some fields are enclosed all the same, a person must look.
    enclosed = text.count(f'{delimiter}"') + text.count('\n"')
    return enclosed * 4 > text.count('"')


def tell_header(first: list[str], body: list[list[str]], known: frozenset[str]) -> tuple[bool, bool]:
    """Whether the first record names the columns, and whether that is certain; in doubt it is somebody's row."""
    cells = [cell.strip(" \t\u3000\ufeff") for cell in first]
    if sum(plain_name(cell) in known for cell in cells) * 4 >= len(cells):
        return True, True
    if any(not cell for cell in cells) or len(set(cells)) < len(cells) or any(_DATA.fullmatch(cell) for cell in cells):
        return False, True
    below = [[row[i] for row in body[:200] if i < len(row)] for i in range(len(cells))]
    differs = sum(
        bool(column) and sum(bool(_DATA.fullmatch(c.strip())) for c in column) * 2 > len(column) for column in below
    )
    return differs > 0, differs > 0


def plain_name(name: str) -> str:
    """A column name as names are compared: lower-case, without blanks, marks and brackets.

    >>> plain_name(" CUST_NO "), plain_name("客户号（必填）"), plain_name("openDate")
    ('custno', '客户号必填', 'opendate')
    """
    return re.sub(r"[\W_]+", "", name.lower())


def made_up_names(width: int) -> list[str]:
    """Names for the columns of a file without a header line."""
    return [f"col_{n}" for n in range(1, width + 1)]


def _trailer(text: str, delimiter: str, width: int) -> str:
    last = text.rstrip("\r\n").rpartition("\n")[2].rstrip("\r")
    cells = last.count(delimiter) + 1
    return last if cells != width and re.search("[0-9]", last) and len(last) < 500 else ""
