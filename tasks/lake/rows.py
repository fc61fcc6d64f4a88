"""The rows of one raw file as blocks of text columns: unpacked, cut into records, decoded, parsed.

Alone knows formats: delimited text plain, gzipped or zipped, Parquet, workbooks. What a value means is not decided here.
Blocks are cut one after the other by `blocks`; `texts` turns one into a table and may run in several threads at once.
"""

from __future__ import annotations

import gzip
import io
import lzma
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import IO, Any, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from python_calamine import CalamineError, CalamineWorkbook

from models.delivery import ARCHIVE_NAMES, read_expected
from models.extracts import Expected, SourceFile
from models.framing import (
    FramingError,
    HeaderError,
    count_records,
    cut,
    filled_records,
    header_names,
    refuse_line_ends,
    refuse_quotes,
)

READ_BYTES = 1 << 20
BLOCK_BYTES = 6 << 20
"""Text handed on at once; two workers hold a few times this in memory."""
BLOCK_ROWS = 110_000
RECORD_BYTES = 12 << 20
"""A longer record refuses the file; a shorter one that is still absurd is rejected by the lengths of its columns."""
TRAILER_BYTES = 64 << 10
HEADER_BYTES = 1 << 20
WORKBOOK_BYTES = 200 << 20
"""Unpacked size of a workbook: it is read as a whole, so it is for small tables."""
BOMB_RATIO, BOMB_BYTES = 500, 4 << 30
"""Packed text that grows beyond both is no extract: real ones shrink to a tenth, rarely to a fiftieth."""


class PackingError(FramingError):
    """A file that cannot be unpacked: cut off, damaged, a bomb, or not of the format it is said to be."""


@dataclass(frozen=True)
class Block:
    """Some consecutive records, not yet parsed."""

    first_row: int
    content: bytes | pa.Table
    records: int = 0
    """Lines of a text, empty ones among them."""


class Rows(Protocol):
    """The rows of one file."""

    header: list[str]
    expected: Expected | None
    """What the file's trailer, or the marker beside it, says; complete when the blocks have all been cut."""

    def blocks(self) -> Iterator[Block]:
        """The records in their order. Raises FramingError, PackingError."""

    def texts(self, block: Block) -> pa.Table:
        """c0, c1, … as text, row_number (the header is row 1) and, where bytes did not decode, garbled."""

    @property
    def done(self) -> float:
        """How much of the file has been cut, 0 to 1."""


@contextmanager
def open_rows(file: SourceFile) -> Iterator[Rows]:
    """The rows of a kept file, by its form. Raises HeaderError, FramingError, PackingError naming the file."""
    with ExitStack() as stack:
        raw = stack.enter_context(open(file.path, "rb"))
        try:
            if file.form.format == "parquet":
                yield _ParquetRows(file, _whole(raw, file))
            elif file.form.format == "xlsx":
                yield _WorkbookRows(file, _whole(raw, file))
            else:
                yield _TextRows(file, raw, stack.enter_context(unpacked(raw, file)))
        except (EOFError, zlib.error, lzma.LZMAError, OSError, zipfile.BadZipFile) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk, not of the packing
            raise PackingError(
                f"{file.name}: the compressed file is cut off or damaged ({error}); ask for it again"
            ) from None


def _whole(raw: IO[bytes], file: SourceFile) -> IO[bytes]:
    """A file that is read at random places; one within an archive or a stream is held in memory."""
    if not file.member:
        return raw
    with zipfile.ZipFile(raw, metadata_encoding=ARCHIVE_NAMES) as archive:
        size = archive.getinfo(file.member).file_size
        if size > WORKBOOK_BYTES:
            raise PackingError(
                f"{file.name}: unpacks to {size:,} bytes; deliver a Parquet file or workbook of that size unzipped"
            )
        with archive.open(file.member) as entry:
            return io.BytesIO(entry.read(WORKBOOK_BYTES + 1))


@contextmanager
def unpacked(raw: IO[bytes], file: SourceFile) -> Iterator[IO[bytes]]:
    """The bytes of a kept text: of an archive's entry, out of gzip, or as they lie there."""
    if file.member:
        with zipfile.ZipFile(raw, metadata_encoding=ARCHIVE_NAMES) as archive, archive.open(file.member) as entry:
            yield entry
        return
    is_gzip = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    if is_gzip:
        with gzip.GzipFile(fileobj=raw) as text:
            yield cast("IO[bytes]", text)
    else:
        yield raw


# ---- delimited text -----------------------------------------------------------------------------------------

_BOMS = {"utf-8": b"\xef\xbb\xbf", "utf-8-sig": b"\xef\xbb\xbf", "gb18030": b"\x84\x31\x95\x33", "gbk": b""}
_REPLACED = "\ufffd".encode()


class _TextRows:
    def __init__(self, file: SourceFile, raw: IO[bytes], text: IO[bytes]) -> None:
        self._file, self._raw, self._text = file, raw, text
        self._encoding = {"utf-8-sig": "utf-8", "gbk": "gb18030"}.get(
            file.form.encoding or "", file.form.encoding or "utf-8"
        )
        self._delimiter = file.form.delimiter or ","
        self._has_quotes = file.form.quote != "none"
        self._read_bytes = 0
        self._is_gb18030 = False
        self._packed = file.size_bytes
        self.expected = file.expected
        start = self._read()
        if not start:
            raise FramingError(f"{file.name}: is empty; ask for the file again")
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise HeaderError(f"{file.name}: is UTF-16 text; have it exported as {file.form.encoding}")
        if (bom := _BOMS[file.form.encoding or "utf-8"]) and start.startswith(bom):
            start = start[len(bom) :]
        self._has_lone_returns = b"\n" not in start and b"\r" in start
        self._start = self._with_line_feeds(start)
        if file.form.header is not None:
            self.header, self._first_row = list(file.form.header), 1
        else:
            self.header = self._take_header()
            self._first_row = 2 + self._empty_lines
        self._pending = self._start

    @property
    def done(self) -> float:
        return min(1.0, self._raw.tell() / max(1, self._packed))

    def _with_line_feeds(self, data: bytes) -> bytes:
        return data.replace(b"\r", b"\n") if self._has_lone_returns else data

    def _read(self, size: int = READ_BYTES) -> bytes:
        data: bytes = self._text.read(size)
        self._read_bytes += len(data)
        if self._read_bytes > max(BOMB_BYTES, BOMB_RATIO * self._packed):
            raise PackingError(
                f"{self._file.name}: unpacks to more than {BOMB_RATIO} times its size; refused as a decompression bomb"
            )
        return data

    def _take_header(self) -> list[str]:
        filled = self._start.lstrip(b"\r\n")
        self._empty_lines = self._start[: len(self._start) - len(filled)].count(b"\n")
        self._start = filled
        while (end := self._first_record_end()) == 0:
            if len(self._start) >= HEADER_BYTES:
                raise HeaderError(
                    f"{self._file.name}: the first line does not end within {HEADER_BYTES} bytes; this is no header"
                )
            more = self._with_line_feeds(self._read())
            if not more:
                end = len(self._start)
                break
            self._start += more
        line, self._start = self._start[:end], self._start[end:]
        try:
            record = line.decode(self._encoding)
        except UnicodeDecodeError as error:
            raise HeaderError(
                f"{self._file.name}: the header is not {self._file.form.encoding} at byte {error.start}; "
                "is the encoding of the profile right?"
            ) from None
        return header_names(record, self._delimiter, self._has_quotes, self._file.name)

    def _first_record_end(self) -> int:
        end = self._start.find(b"\n") + 1
        while end and self._has_quotes and self._start.count(b'"', 0, end) % 2:
            end = self._start.find(b"\n", end) + 1
        return end

    def blocks(self) -> Iterator[Block]:
        """Blocks of about BLOCK_BYTES that end with a record; the trailer, where there is one, is held back."""
        complete = self._file.form.complete
        has_trailer = complete is not None and complete.trailer is not None
        pending, row = self._pending, self._first_row
        self._start = self._pending = b""
        held = TRAILER_BYTES if has_trailer else 0
        while data := self._with_line_feeds(self._read(BLOCK_BYTES)):
            pending += data
            end = cut(pending[: len(pending) - held] if held else pending, self._has_quotes)
            if len(pending) - end > RECORD_BYTES + BLOCK_BYTES:
                self._refuse_length(pending[end:], row + count_records(pending[:end], self._has_quotes))
            if end:
                block, pending = pending[:end], pending[end:]
                records = count_records(block, self._has_quotes)
                yield Block(row, block, records)
                row += records
        rest = pending.rstrip(b"\r\n")
        if has_trailer:
            rest = self._take_trailer(rest)
        if rest:
            yield Block(row, rest + b"\n", count_records(rest, self._has_quotes))

    def _refuse_length(self, rest: bytes, row: int) -> None:
        newline = rest.find(b"\n")
        if self._has_quotes and 0 <= newline < RECORD_BYTES:
            before = rest.rfind(b"\n", 0, rest.find(b'"') + 1) + 1 if b'"' in rest else 0
            line = row + rest.count(b"\n", 0, max(before, 0))
            raise FramingError(f"{self._file.name}: line {line}: a quotation mark that is never closed; {_REFUSED}")
        megabytes = RECORD_BYTES >> 20
        raise FramingError(f"{self._file.name}: line {row}: a line longer than {megabytes} MB; {_REFUSED}")

    def _take_trailer(self, rest: bytes) -> bytes:
        complete = self._file.form.complete
        assert complete is not None
        assert complete.trailer is not None
        body, _, last = rest.rpartition(b"\n")
        line = last.decode(self._encoding, errors="replace").rstrip("\r")
        if not re.search(complete.trailer.replace("{name}", re.escape(self._file.name)), line):
            raise FramingError(
                f"{self._file.name}: the last line is not the trailer that the profile describes "
                f"({complete.trailer}); the file is cut off or not complete yet, ask for it again"
            )
        self.expected = read_expected(complete, self._file.name, line, f"the trailer of {self._file.name}")
        return body

    def texts(self, block: Block) -> pa.Table:
        data = block.content
        assert isinstance(data, bytes)
        name = self._file.name
        if (record := refuse_line_ends(data, self._has_quotes)) is not None:
            raise FramingError(
                f"{name}: line {block.first_row + record}: the rows cannot be told apart (mixed line ends); {_REFUSED}"
            )
        data, is_garbled = self._decoded(data)
        if self._has_quotes and (fault := refuse_quotes(data, self._delimiter)) is not None:
            raise FramingError(f"{name}: line {block.first_row + fault[0]}: {fault[1]}; {_REFUSED}")
        if not data.strip(b"\r\n"):
            return self._table([pa.array([], pa.string())] * len(self.header), np.empty(0, np.int64))
        names = [f"c{i}" for i in range(len(self.header))]
        try:
            parsed = pa.csv.read_csv(
                pa.BufferReader(data),
                pa.csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
                pa.csv.ParseOptions(
                    delimiter=self._delimiter, quote_char='"' if self._has_quotes else False, double_quote=True,
                    newlines_in_values=self._has_quotes and b'"' in data,
                ),
                pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), check_utf8=False, strings_can_be_null=False,
                    quoted_strings_can_be_null=False,
                ),
            )  # fmt: skip
        except pa.ArrowInvalid as error:
            raise self._uneven(error, block, filled_records(data, self._has_quotes)) from None
        numbers = np.arange(parsed.num_rows, dtype=np.int64)
        if parsed.num_rows != block.records:
            filled = filled_records(data, self._has_quotes)
            if filled is None or len(filled) != parsed.num_rows:
                raise FramingError(
                    f"{name}: line {block.first_row} and after: the rows cannot be told apart; {_REFUSED}"
                )
            numbers = filled.astype(np.int64)
        columns = [parsed.column(i).combine_chunks() for i in range(parsed.num_columns)]
        return self._table(columns, block.first_row + numbers, is_garbled)

    def _decoded(self, data: bytes) -> tuple[bytes, bool]:
        """UTF-8; what does not decode, and NUL, becomes U+FFFD: no row that holds one is accepted."""
        is_garbled = False
        if not data.isascii():
            if self._encoding == "gb18030" and not self._is_gb18030:
                self._refuse_utf8(data)
            try:
                text = data.decode(self._encoding)
            except UnicodeDecodeError:
                text = data.decode(self._encoding, errors="replace")
                data = text.encode()
            else:
                if self._encoding != "utf-8":
                    data = text.encode()
            is_garbled = _REPLACED in data
        if b"\0" in data:
            data, is_garbled = data.replace(b"\0", _REPLACED), True
        return data, is_garbled

    def _refuse_utf8(self, data: bytes) -> None:
        """UTF-8 read as GB18030 becomes other characters without a fault; a dozen that are UTF-8 are no chance."""
        try:
            found = data.decode("utf-8")
        except UnicodeDecodeError:
            self._is_gb18030 = True
            return
        if sum(sign > "\x7f" for sign in found) >= 12:
            raise FramingError(
                f"{self._file.name}: is UTF-8, and the profile says {self._file.form.encoding}; change its encoding"
            )

    def _uneven(self, error: pa.ArrowInvalid, block: Block, filled: Any) -> FramingError:
        # The parser's message quotes the line, which is personal data: only its number and its kind are passed on.
        found = re.search(r"Row #([0-9]+): Expected ([0-9]+) columns, got ([0-9]+)", str(error))
        if not found:
            return FramingError(f"{self._file.name}: the rows cannot be told apart; {_REFUSED}")
        record = int(found[1]) - 1
        if filled is not None:
            record = int(filled[min(record, len(filled) - 1)])
        return FramingError(
            f"{self._file.name}: line {block.first_row + record}: {found[3]} columns where the header has {found[2]}; "
            f"{_REFUSED}"
        )

    @staticmethod
    def _table(columns: list[pa.Array], numbers: np.ndarray[Any, Any], is_garbled: bool = False) -> pa.Table:
        table = pa.table([*columns, pa.array(numbers)], names=[*(f"c{i}" for i in range(len(columns))), "row_number"])
        if is_garbled:
            marks = [pc.match_substring(column, "\ufffd") for column in columns]
            mark = marks[0]
            for other in marks[1:]:
                mark = pc.or_(mark, other)
            table = table.append_column("garbled", mark)
        return table


_REFUSED = "the file is refused as a whole, ask for it again"


# ---- tables that know their types ---------------------------------------------------------------------------


class _ParquetRows:
    def __init__(self, file: SourceFile, raw: IO[bytes]) -> None:
        self._file = file
        try:
            self._parquet = pq.ParquetFile(raw, pre_buffer=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise PackingError(
                f"{file.name}: is no readable Parquet file ({_first_line(error)}); ask for it again"
            ) from None
        schema = self._parquet.schema_arrow
        for column in schema:
            if pa.types.is_nested(column.type):
                raise HeaderError(f"{file.name}: column {column.name} is nested ({column.type}); flatten it")
        self.header = list(schema.names)
        self.expected = file.expected
        self._rows = max(1, self._parquet.metadata.num_rows)
        self._cut = 0

    @property
    def done(self) -> float:
        return float(self._cut / self._rows)

    def blocks(self) -> Iterator[Block]:
        """Slices of BLOCK_ROWS rows; the first row is row 1, for there is no header line."""
        try:
            for batch in self._parquet.iter_batches(batch_size=BLOCK_ROWS, use_threads=False):
                yield Block(self._cut + 1, pa.Table.from_batches([batch]))
                self._cut += batch.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise PackingError(
                f"{self._file.name}: the Parquet file is damaged near row {self._cut + 1} ({_first_line(error)}); ask for it again"
            ) from None

    def texts(self, block: Block) -> pa.Table:
        table = block.content
        assert isinstance(table, pa.Table)
        columns = [_as_text(table.column(i).combine_chunks()).fill_null("") for i in range(table.num_columns)]
        is_garbled = any(_holds(column, _REPLACED) or _holds(column, b"\0") for column in columns)
        if is_garbled:
            columns = [pc.replace_substring(column, "\0", "\ufffd") for column in columns]
        numbers = block.first_row + np.arange(table.num_rows, dtype=np.int64)
        return _TextRows._table(columns, numbers, is_garbled)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120]


def _as_text(column: pa.Array) -> pa.Array:
    """As a delimited file would spell it: days and decimals in full, whole floats without a point."""
    kind = column.type
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            return column.cast(pa.string())
        except pa.ArrowInvalid:
            return pa.array(
                [None if v is None else v.decode("utf-8", errors="replace") for v in column.to_pylist()], pa.string()
            )
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp(kind.unit)).cast(pa.string())
    if pa.types.is_floating(kind):
        return pa.array([_float_text(value) for value in column.cast(pa.float64()).to_pylist()], pa.string())
    text = column.cast(pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return _as_text(text.cast(pa.binary()))
    return text


def _float_text(value: float | None) -> str | None:
    """Without exponent; no number is no value."""
    if value is None or not math.isfinite(value):
        return None if value is None or math.isnan(value) else str(value)
    return (
        str(int(value)) if value == int(value) and abs(value) < 2**53 else np.format_float_positional(value, trim="-")
    )


class _WorkbookRows:
    def __init__(self, file: SourceFile, raw: IO[bytes]) -> None:
        self._file = file
        try:
            with zipfile.ZipFile(raw) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
            if size > WORKBOOK_BYTES:
                raise PackingError(
                    f"{file.name}: the workbook unpacks to {size:,} bytes; deliver a table of that size as text or Parquet"
                )
            raw.seek(0)
            workbook = CalamineWorkbook.from_filelike(raw)
            names = workbook.sheet_names
            sheet = file.form.sheet or names[0]
            if sheet not in names:
                raise HeaderError(f"{file.name}: has no sheet {sheet}; it has {', '.join(names)}")
            grid = workbook.get_sheet_by_name(sheet).to_python(skip_empty_area=False)
        except (CalamineError, zipfile.BadZipFile, IndexError) as error:
            raise PackingError(
                f"{file.name}: is no readable workbook ({_first_line(error)}); ask for it again"
            ) from None
        rows = [(number, [_cell_text(cell) for cell in row]) for number, row in enumerate(grid, start=1)]
        rows = [(number, row) for number, row in rows if any(row)]
        if file.form.header is not None:
            self.header = list(file.form.header)
        elif rows:
            self.header = [name.strip(" \t\u3000") for name in rows.pop(0)[1]]
            while self.header and not self.header[-1]:
                self.header.pop()
        else:
            raise FramingError(f"{file.name}: sheet {sheet} is empty; ask for the file again")
        for number, row in rows:
            if any(row[len(self.header) :]):
                raise FramingError(
                    f"{file.name}: sheet {sheet}, row {number}: a value beyond the {len(self.header)} columns of the header; {_REFUSED}"
                )
        self._grid = rows
        self.expected, self.done = file.expected, 0.0

    def blocks(self) -> Iterator[Block]:
        """One block; row numbers are those of the sheet."""
        columns = [
            pa.array([row[i] if i < len(row) else "" for _, row in self._grid], pa.string())
            for i in range(len(self.header))
        ]
        self.done = 1.0
        if self._grid:
            numbers = np.array([number for number, _ in self._grid], np.int64)
            is_garbled = any(_holds(column, _REPLACED) for column in columns)
            yield Block(self._grid[0][0], _TextRows._table(columns, numbers, is_garbled))

    def texts(self, block: Block) -> pa.Table:
        assert isinstance(block.content, pa.Table)
        return block.content


def _cell_text(cell: object) -> str:
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ") if cell.time().isoformat() != "00:00:00" else cell.date().isoformat()
    if isinstance(cell, date):
        return cell.isoformat()
    if isinstance(cell, bool):
        return str(int(cell))
    if isinstance(cell, float):
        return _float_text(cell) or ""
    return str(cell)


def _holds(column: pa.Array, sign: bytes) -> bool:
    return sign in column_bytes(column)


def column_bytes(column: pa.Array) -> bytes:
    """The characters of a text column, one value after the other."""
    data = column.buffers()[2]
    if data is None or not len(column):
        return b""
    width = np.int64 if pa.types.is_large_string(column.type) else np.int32
    offsets = np.frombuffer(
        column.buffers()[1], width, count=len(column) + 1, offset=column.offset * np.dtype(width).itemsize
    )
    return bytes(data.slice(int(offsets[0]), int(offsets[-1] - offsets[0])).to_pybytes())
