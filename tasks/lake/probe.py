"""A first look at files nobody has described yet: what each is, how it is written, which texts stand in its columns.

Reads only; what the looks mean is said by models/draft.py.
"""

from __future__ import annotations

import gzip
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from models.delivery import ARCHIVE_NAMES, Entry, check_archive, form_for
from models.extracts import SourceFile
from models.framing import FramingError, HeaderError
from models.known import ALL_NAMES
from models.matching import Look
from models.profile import Completeness, FileForm
from models.textform import FormError, TextForm, made_up_names, read_form, refuse_binary, tell_header
from models.traits import Column
from tasks.lake.rows import Rows, open_rows, unpacked

SAMPLE_BYTES = 2 << 20
TAIL_BYTES = 64 << 10
MARKER_BYTES = 4 << 10
MARKERS = [f"{stem}.{end}" for stem in ("{name}", "{stem}") for end in ("ok", "OK", "ctl", "CTL", "done", "flg", "end")]
"""How houses name the file that says that another is whole; a control file for all of them is not looked for."""
OnProgress = Callable[[str, float], None]
"""Told a file's name and the share of it that has been read."""


@dataclass(frozen=True)
class Found:
    """A table's worth of rows: a file, or one entry of an archive."""

    file: SourceFile
    """Of no table yet; its form is the one found out."""
    text: TextForm | None
    """None for Parquet and workbooks."""


def find_files(paths: list[Path]) -> list[Found]:
    """What the paths hold, archives opened. Raises FormError, DeliveryError for what cannot be read.

    A marker that lies beside another of the paths is read with that one and is no file of its own.
    """
    markers = {beside for path in paths for beside in _markers(path).values() if beside != path}
    return [found for path in paths if path not in markers for found in _find(path)]


def _find(path: Path) -> Iterator[Found]:
    size = _check_file(path)
    with path.open("rb") as raw:
        start = raw.read(4)
    plain = SourceFile("", path.name, "", size, str(path), FileForm())
    if start == b"PAR1":
        yield Found(replace(plain, form=FileForm(format="parquet")), None)
    elif start in (b"PK\x03\x04", b"PK\x05\x06"):
        entries = _entries(path, size)
        if any(entry.name == "[Content_Types].xml" for entry in entries):
            yield Found(replace(plain, form=FileForm(format="xlsx")), None)
            return
        for entry in check_archive(path.name, size, entries):
            member = replace(plain, name=f"{path.name}/{entry.name}", member=entry.name)
            form = form_for(FileForm(), entry.name)
            yield Found(replace(member, form=form), None) if form.format != "text" else _found_text(member)
    else:
        yield _found_text(plain)


def _check_file(path: Path) -> int:
    try:
        about = path.stat()
    except FileNotFoundError:
        raise FormError(f"{path}: no such file") from None
    except OSError as error:
        raise FormError(f"{path}: {error.strerror}") from None
    if stat.S_ISDIR(about.st_mode):
        raise FormError(f"{path}: is a folder; name the files in it")
    if not stat.S_ISREG(about.st_mode):
        raise FormError(f"{path}: is not a plain file")
    if not about.st_size:
        raise FormError(f"{path.name}: is empty; ask for the file again")
    if not os.access(path, os.R_OK):
        raise FormError(f"{path}: may not be read by this user")
    return about.st_size


def _entries(path: Path, size: int) -> list[Entry]:
    try:
        with zipfile.ZipFile(path, metadata_encoding=ARCHIVE_NAMES) as archive:
            return [
                Entry(info.filename, info.file_size, is_folder=info.is_dir(), is_encrypted=bool(info.flag_bits & 0x1))
                for info in archive.infolist()
            ]
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, ValueError, OSError) as error:
        raise FormError(f"{path.name}: is a damaged zip archive ({type(error).__name__}); ask for it again") from None


def _found_text(file: SourceFile) -> Found:
    try:
        with Path(file.path).open("rb") as raw, unpacked(raw, file) as data:
            sample = b""
            while len(sample) <= SAMPLE_BYTES and (piece := data.read(SAMPLE_BYTES + 1 - len(sample))):
                sample += piece
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise FormError(
            f"{file.name}: the compressed file is damaged ({type(error).__name__}); ask for it again"
        ) from None
    if sample.startswith((b"PAR1", b"PK\x03\x04")):
        raise FormError(f"{file.name}: holds Parquet or an archive within an archive; deliver that unpacked")
    refuse_binary(file.name, sample)
    is_whole = len(sample) <= SAMPLE_BYTES
    tail = b""
    if not is_whole and not file.member and not _is_packed(file):
        with Path(file.path).open("rb") as raw:
            raw.seek(-TAIL_BYTES, os.SEEK_END)
            tail = raw.read().partition(b"\n")[2]
    text = read_form(file.name, sample, is_whole=is_whole, known=ALL_NAMES, tail=tail)
    # Any last line that is no row is held back; what it says is read later.
    form = text.form.model_copy(update={"complete": Completeness(trailer=".")}) if text.trailer else text.form
    return Found(replace(file, form=form), text)


def _is_packed(file: SourceFile) -> bool:
    """Whether the file's end on disk is not the end of its text."""
    with Path(file.path).open("rb") as raw:
        return raw.read(2) == b"\x1f\x8b"


def read_look(found: Found, rows: int = 0, on_progress: OnProgress = lambda name, share: None) -> Look:
    """The texts of each column of the first `rows` rows, 0 = all. Raises HeaderError, FramingError."""
    file, text = found.file, found.text
    doubts = list(text.doubts) if text else []
    if file.form.format == "xlsx":
        file, made_up = _with_header(file)
        doubts += made_up
    has_header = file.form.header is None
    columns: list[Column] = []
    read, is_whole = 0, True
    with open_rows(file) as source:
        header = source.header
        if bad := sorted({name or "(empty)" for name in header if not name or header.count(name) > 1}):
            doubts.append(f"the header names {', '.join(bad)} more than once or not at all; a pull refuses that")
        columns = [Column(name) for name in header]
        try:
            for texts, is_cut in bounded(source, rows):
                is_whole = not is_cut
                for i, column in enumerate(columns):
                    counted = pc.value_counts(texts.column(i))
                    values, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
                    column.add(dict(zip(values, counts, strict=True)))
                read += texts.num_rows
                on_progress(file.name, source.done)
        except FramingError as error:
            doubts.append(f"reading stopped, as a pull would: {error}")
            is_whole = False
    kept: dict[str, Column] = {}
    for column in columns:
        if column.name and column.name not in kept:
            kept[column.name] = column
    outer = file.name.partition("/")[0] if file.member else file.name
    trailer = text.trailer if text and is_whole else ""
    is_ascii = text is not None and text.is_ascii
    marker, said = _marker(Path(file.path))
    return Look(
        [outer], file.form, has_header, list(kept.values()), read, is_whole, trailer, doubts, is_ascii, marker, said
    )


def _markers(path: Path) -> dict[str, Path]:
    if not path.name:
        return {}
    stem = path.name.partition(".")[0]
    return {pattern: path.with_name(pattern.format(name=path.name, stem=stem)) for pattern in MARKERS}


def _marker(path: Path) -> tuple[str, str]:
    """The pattern of the name of a file beside this one that says it is whole, and what that file says."""
    for pattern, beside in _markers(path).items():
        if beside != path and beside.is_file() and beside.stat().st_size <= MARKER_BYTES:
            return pattern, beside.read_bytes().decode("utf-8", "replace")
    return "", ""


def bounded(source: Rows, rows: int) -> Iterator[tuple[pa.Table, bool]]:
    """The first rows of a file as blocks of texts, 0 = all; with each whether rows are left that are not read."""
    left = rows
    for block in source.blocks():
        texts = source.texts(block)
        if rows and texts.num_rows >= left:
            yield texts.slice(0, left).combine_chunks(), texts.num_rows > left or source.done < 1
            return
        left -= texts.num_rows
        yield texts, False


def _with_header(file: SourceFile) -> tuple[SourceFile, list[str]]:
    """A workbook with made-up column names where its first row is no header."""
    with open_rows(file) as source:
        first = list(source.header)
        body = [
            [row[f"c{i}"] or "" for i in range(len(first))]
            for texts, _ in bounded(source, 200)
            for row in texts.to_pylist()
        ]
    has_header, is_sure = tell_header(first, body, ALL_NAMES)
    if not has_header:
        doubt = "whether the first row is a header cannot be told; it is taken for a row, its texts are not shown"
        made_up = file.form.model_copy(update={"header": made_up_names(len(first))})
        return replace(file, form=made_up), [] if is_sure else [doubt]
    return file, []


__all__ = ["Found", "HeaderError", "OnProgress", "bounded", "find_files", "read_look"]
