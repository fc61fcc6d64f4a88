"""The lake and its engine: immutable Parquet snapshots, made from extracts by the rules of `models.extracts`.

The only place that knows the engine (Ibis on DuckDB), how it reads delimited text, and how a snapshot lies on disk.
Which rows are right is not decided here.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import logging
import os
import re
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from models import CallbackError
from models.canonical import REASONS, TABLES, id_column, is_referred_to, references
from models.extracts import (
    HeaderError,
    SourceFile,
    accepted_rows,
    check_header,
    first_rows,
    judge_rows,
    keys_of,
    refuse_unknown_codes,
    reject_doubled,
    rejected_rows,
    split_fault,
    table_profile,
)
from models.profile import Profile
from tasks.settings import Settings

log = logging.getLogger(__name__)

HEADER_BYTES = 1 << 20


class LakeError(CallbackError):
    """A snapshot is missing or cannot be made."""


class FramingError(LakeError):
    """The rows of a file cannot be told apart: quoting, column count or line length is broken."""


@dataclass(frozen=True)
class Tally:
    """How many rows one rule ignored or rejected, and what the rule says."""

    verdict: str
    """ignored | rejected"""
    rule: str
    column_name: str
    rows: int
    reason: str


@dataclass(frozen=True)
class SourceCount:
    """A file that went into a snapshot; its rows = accepted + ignored + rejected."""

    name: str
    sha256: str
    size_bytes: int
    rows: int
    accepted: int
    ignored: int
    rejected: int


@dataclass(frozen=True)
class IntakeResult:
    """A snapshot of one canonical table; rows = accepted + ignored + rejected."""

    table_name: str
    path: str
    """Folder below the lake."""
    content_sha256: str
    """Of the accepted rows as text (DESIGN §3.5)."""
    rejected_sha256: str
    """Of the rejected rows' numbers, files, columns, reasons and ids as text."""
    rows: int
    accepted: int
    ignored: int
    rejected: int
    tallies: list[Tally]
    files: list[SourceCount]


def connect(settings: Settings) -> Backend:
    """An engine of its own for one piece of work, within the memory and threads of the settings."""
    if settings.engine != "duckdb":
        raise LakeError(f"HUIFANG_ENGINE={settings.engine}: only duckdb is available")
    tmp = settings.home.resolve() / "tmp"
    _make_folder(tmp)
    spill = tmp / f"duckdb-{uuid.uuid4().hex}"  # the engine makes it when it has to spill, and removes it
    con = ibis.duckdb.connect(
        ":memory:", memory_limit=settings.engine_memory, threads=settings.engine_threads, temp_directory=str(spill),
        autoinstall_known_extensions=False,
    )  # fmt: skip
    con.raw_sql("SET enable_progress_bar = false")  # it prints to stdout
    return con


def take_in(
    settings: Settings,
    profile: Profile,
    table_name: str,
    files: list[SourceFile],
    *,
    as_of: date,
    known: dict[str, str],
) -> IntakeResult:
    """The snapshot of one table from its files; a second call with the same files finds the same folder.

    `known` maps each table taken in before to its lake path; those this table refers to must be among them.
    Nothing is left in the lake when it fails. Raises HeaderError, UnknownCode, FramingError, LakeError.
    """
    if not files:
        raise LakeError(f"{table_name}: no file to take in; the profile {profile.name} or --roster must name one")
    referred = sorted(set(references(table_name).values()))
    if missing := [name for name in referred if name not in known]:
        raise LakeError(
            f"{table_name} refers to {', '.join(missing)}: the profile {profile.name} must list those tables too"
        )
    names = [file.name for file in files]
    with _work_folder(settings) as work, _engine(settings) as con:
        keys = {name: con.read_parquet(str(settings.lake / known[name] / "keys.parquet")) for name in referred}
        parts = []
        for file_no, file in enumerate(files):
            header = _read_header(file, _delimiter(profile, file))
            check_header(header, file, profile)
            staged, part = work / f"text-{file_no}.parquet", work / f"judged-{file_no}.parquet"
            raw = _open_text(con, file, header, _delimiter(profile, file), staged)
            _copy(con, judge_rows(raw, header, file_no, file, profile, keys), part, "snappy")
            staged.unlink()
            parts.append(str(part))
        judged = con.read_parquet(parts)
        _refuse_unknown(judged, table_name, files, profile)
        firsts = work / "firsts.parquet"
        _copy(con, first_rows(judged, table_name), firsts)
        judged = reject_doubled(judged, con.read_parquet(str(firsts)), table_name)

        made = work / "snapshot"
        made.mkdir(mode=0o700)
        order = [id_column(table_name) or name for name in TABLES[table_name].unique]
        content = _write(con, accepted_rows(judged, table_name), made / "accepted.parquet", order)
        refused = rejected_rows(judged, names, table_name)
        rejected = _write(con, refused, made / "rejected.parquet", ["file", "row_number"])
        content_sha256 = text_sha256(con, content, is_sorted=len(order) == 1)
        rejected_sha256 = text_sha256(con, rejected)
        rest = hashlib.sha256(rejected_sha256.encode())
        if is_referred_to(table_name):
            found = keys_of(judged, table_name)
            rest.update(text_sha256(con, _write(con, found, made / "keys.parquet", found.columns)).encode())
        counts = judged.group_by("file_no", "fault").aggregate(rows=lambda t: t.count()).to_pandas()
        # Equal accepted rows may stand beside different rejected ones: the folder is named by both.
        folder = Path(table_name) / as_of.isoformat() / f"{content_sha256[:12]}-{rest.hexdigest()[:8]}"
        _publish(made, settings.lake / folder)
    result = _count(counts, table_name, files, profile, str(folder), content_sha256, rejected_sha256)
    if not result.rows:
        log.warning("intake %s: the files hold a header and no row", table_name)
    log.info(
        "intake %s: %s rows = %s accepted + %s ignored + %s rejected",
        table_name, result.rows, result.accepted, result.ignored, result.rejected,
    )  # fmt: skip
    return result


@contextmanager
def _engine(settings: Settings) -> Iterator[Backend]:
    con = connect(settings)
    try:
        yield con
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise LakeError(f"the engine stopped, nothing was written: {str(error).splitlines()[0]}") from error
    finally:
        con.disconnect()


def open_table(settings: Settings, path: str, con: Backend | None = None) -> ir.Table:
    """The accepted rows of a snapshot, on `con` where they are to be joined with others."""
    return _open(settings, path, "accepted", con or connect(settings))


def read_rejected(settings: Settings, path: str) -> pd.DataFrame:
    """The rejected rows of a snapshot: row_number (the header is row 1), file, column, reason, key."""
    with _engine(settings) as con:
        frame: pd.DataFrame = _open(settings, path, "rejected", con).to_pandas()
    return frame


def _open(settings: Settings, path: str, which: str, con: Backend) -> ir.Table:
    file = settings.lake / path / f"{which}.parquet"
    if not file.is_file():
        raise LakeError(f"{file}: the snapshot is missing; run pull again with the files it was made from")
    return con.read_parquet(str(file))


def write_table(con: Backend, expr: ir.Table, path: Path, order_by: list[str]) -> ir.Table:
    """A table as sorted Parquet, whole or not at all; the table as it then lies on disk."""
    _make_folder(path.parent)
    return _write(con, expr, path, order_by)


def text_sha256(con: Backend, expr: ir.Table, *, is_sorted: bool = False) -> str:
    """SHA-256 of a table as UTF-8 text: LF, header first, rows sorted bytewise by their first column, then whole.

    Null is empty; a field with a comma, quote, CR or LF stands in quotes. `is_sorted` says that the rows already
    come in that order (a file sorted by a unique first column), which saves the sort.
    """
    fields = []
    for name, kind in expr.schema().items():
        if kind.is_floating():
            raise TypeError(f"{name}: a float has no one text; hash a decimal, an integer or a text")
        text = expr[name] if kind.is_string() else expr[name].cast("string")
        if kind.is_string():
            quoted = ibis.literal('"') + text.replace('"', '""') + '"'
            text = text.re_search('[,"\r\n]').ifelse(quoted, text)
        fields.append(text.fill_null(""))
    lines = expr.select(first=fields[0], line=ibis.literal(",").join(fields))
    if not is_sorted:
        lines = lines.order_by("first", "line")
    lines = lines.select(line=lines.line + "\n")
    digest = hashlib.sha256((",".join(expr.columns) + "\n").encode())
    for batch in con.con.sql(_sql(con, lines)).to_arrow_reader(100_000):
        # An Arrow text column is its rows' bytes one after the other.
        column = batch.column(0).cast("large_string")
        offsets = memoryview(column.buffers()[1]).cast("q")
        start, end = offsets[column.offset], offsets[column.offset + len(column)]
        digest.update(memoryview(column.buffers()[2])[start:end])
    return digest.hexdigest()


def _sql(con: Backend, expr: ir.Table) -> str:
    # Ibis makes small in-memory tables known to the engine only in its own fetching calls.
    con._run_pre_execute_hooks(expr)
    return str(con.compile(expr))


def _copy(con: Backend, expr: ir.Table, path: Path, compression: str = "zstd") -> None:
    con.raw_sql(f"COPY ({_sql(con, expr)}) TO {_quoted(path)} (FORMAT parquet, COMPRESSION {compression})")


def _write(con: Backend, expr: ir.Table, path: Path, order_by: list[str] | tuple[str, ...]) -> ir.Table:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _copy(con, expr.order_by(*dict.fromkeys(order_by)), temporary)
        temporary.chmod(0o600)
        _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return con.read_parquet(str(path))


def _quoted(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_folder(folder: Path) -> None:
    for each in (*reversed(folder.parents), folder):
        each.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def _work_folder(settings: Settings) -> Iterator[Path]:
    """A folder of one's own beside the snapshots; what a killed run left behind is removed first."""
    root = settings.lake / ".work"
    _make_folder(root)
    for left in root.glob("intake-*"):
        with suppress(OSError), (left / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its run lives
            log.warning("removing %s, left by a run that did not end", left.name)
            shutil.rmtree(left)
    work = Path(tempfile.mkdtemp(prefix="intake-", dir=root))
    with (work / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield work
        finally:
            shutil.rmtree(work)


def _publish(made: Path, folder: Path) -> None:
    """Moves a finished snapshot to its place; what lies there already has the same content and stays."""
    _make_folder(folder.parent)
    if folder.is_dir():
        log.warning("snapshot %s is there already; kept as it is", folder.name)
        return
    _sync(made)
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # another run was faster
            raise
    _sync(folder.parent)


# ---- delimited text -----------------------------------------------------------------------------------------


def _delimiter(profile: Profile, file: SourceFile) -> str:
    return "," if file.is_canonical else profile.delimiter


def _read_header(file: SourceFile, delimiter: str) -> list[str]:
    with open(file.text_path, "rb") as text:
        start = text.read(HEADER_BYTES)
    if b"\n" not in start and b"\r" not in start and len(start) == HEADER_BYTES:
        raise HeaderError(f"{file.name}: the first line does not end within {HEADER_BYTES} bytes; this is no header")
    # The cut may fall into a character; the header ends long before.
    text_start = io.StringIO(start.decode("utf-8", errors="ignore"), newline="")
    reader = csv.reader(text_start, delimiter=delimiter, strict=True)
    try:
        header = next(reader)
    except (csv.Error, StopIteration) as error:
        raise HeaderError(f"{file.name}: no header can be read ({error}); is the delimiter {delimiter!r}?") from None
    return [name.strip(" \t\u3000") for name in header]


def _open_text(con: Backend, file: SourceFile, header: list[str], delimiter: str, staged: Path) -> ir.Table:
    """The file as text columns c0, c1, … with row_number; the header is row 1."""
    columns = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(len(header)))
    # Nothing is guessed; a line with another number of columns, or a quote that never ends, refuses the file.
    # Numbering rows while reading text would keep all later work on one thread; Parquet knows its row numbers.
    text = (
        f"read_csv({_quoted(file.text_path)}, auto_detect = false, header = true, delim = {_quoted(delimiter)}, "
        f"quote = '\"', escape = '\"', strict_mode = true, null_padding = false, compression = 'none', "
        f"columns = {{{columns}}})"
    )
    try:
        con.raw_sql(f"COPY (FROM {text}) TO {_quoted(staged)} (FORMAT parquet, COMPRESSION snappy)")
    except duckdb.InvalidInputException as error:
        if "CSV" not in str(error):
            raise
        raise _framing_error(file, error) from None
    raw = con.read_parquet(str(staged), file_row_number=True)
    return raw.mutate(row_number=raw.file_row_number + 2).drop("file_row_number")


def _framing_error(file: SourceFile, error: duckdb.Error) -> FramingError:
    # The engine's message quotes the line, which is personal data: only its number and its kind are passed on.
    message = str(error)
    line = re.search(r"CSV Error on Line: ([0-9]+)", message)
    expected = re.search(r"Expected Number of Columns: ([0-9]+) Found: ([0-9]+)", message)
    if expected:
        what = f"{expected[2]} columns where the header has {expected[1]}"
    elif "unterminated quote" in message:
        what = "a quote that does not end, or text after a closing quote"
    elif "Maximum line size" in message:
        what = "a line longer than 2 MB"
    else:
        what = "the rows cannot be told apart (mixed line ends, or quotes within quotes)"
    place = f" line {line[1]}" if line else ""
    return FramingError(f"{file.name}:{place}: {what}; the file is refused as a whole, ask for it again")


# ---- counts -------------------------------------------------------------------------------------------------


def _refuse_unknown(judged: ir.Table, table_name: str, files: list[SourceFile], profile: Profile) -> None:
    for name in [column for column in judged.columns if column.startswith("unknown:")]:
        codes = judged.filter(judged[name].notnull()).group_by(code=judged[name]).aggregate(rows=lambda t: t.count())
        counts = {str(row["code"]): int(row["rows"]) for row in codes.to_pandas().to_dict("records")}
        table = table_profile(profile, files[0])
        refuse_unknown_codes(table_name, name.removeprefix("unknown:"), counts, profile, table)


def _count(
    counts: pd.DataFrame,
    table_name: str,
    files: list[SourceFile],
    profile: Profile,
    path: str,
    content_sha256: str,
    rejected_sha256: str,
) -> IntakeResult:
    reasons = REASONS | profile.ignore_reasons()
    by_rule: Counter[tuple[str, str, str]] = Counter()
    by_file: Counter[tuple[int, str]] = Counter()
    for row in counts.to_dict("records"):
        fault = row["fault"]
        verdict = "accepted"
        if isinstance(fault, str):
            verdict, rule, column = split_fault(fault)
            by_rule[verdict, rule, column] += int(row["rows"])
        by_file[int(row["file_no"]), verdict] += int(row["rows"])
    tallies = [Tally(*key, rows, reasons[key[1]]) for key, rows in sorted(by_rule.items())]
    sources = []
    for file_no, file in enumerate(files):
        accepted, ignored, rejected = (by_file[file_no, verdict] for verdict in ("accepted", "ignored", "rejected"))
        sources.append(
            SourceCount(
                file.name, file.sha256, file.size_bytes, accepted + ignored + rejected, accepted, ignored, rejected
            )
        )
    return IntakeResult(
        table_name, path, content_sha256, rejected_sha256,
        rows=sum(s.rows for s in sources), accepted=sum(s.accepted for s in sources),
        ignored=sum(s.ignored for s in sources), rejected=sum(s.rejected for s in sources),
        tallies=tallies, files=sources,
    )  # fmt: skip


# ---- small look-ups for the flows --------------------------------------------------------------------------


def open_file(settings: Settings, path: str, con: Backend) -> ir.Table:
    """A table that write_table wrote, by its path below the lake."""
    file = settings.lake / path
    if not file.is_file():
        raise LakeError(f"{file}: is missing; restore the lake from its backup")
    return con.read_parquet(str(file))


def read_roster(settings: Settings, path: str) -> pd.DataFrame:
    """The accepted roster of a snapshot: branch_no, role, contact_name, email, valid_from, valid_to (None when open)."""
    return _read_small(settings, path)


def customers_of(settings: Settings, path: str, ids: pd.Series[str]) -> pd.DataFrame:
    """Name and phone ('' where there is none) of some customers of a snapshot, indexed by customer_id.

    Raises LakeError when one of them is not in it.
    """
    con = connect(settings)
    wanted = ibis.memtable(
        pd.DataFrame({"customer_id": pd.Series(ids, dtype="str").unique()}), schema={"customer_id": "string"}
    )
    known = (
        open_table(settings, path, con).semi_join(wanted, "customer_id").select("customer_id", "customer_name", "phone")
    )
    found: pd.DataFrame = known.to_pandas().set_index("customer_id").fillna("")
    missing = set(ids) - set(found.index)
    if missing:
        raise LakeError(
            f"{path}: {len(missing)} drawn customers are not in the snapshot they were drawn from; restore the lake"
        )
    return found


def names_of(settings: Settings, path: str, key: str, value: str) -> dict[str, str]:
    """One text column of a small snapshot by another, such as branch names by branch number."""
    found = _read_small(settings, path, [key, value])
    return dict(zip(found[key].astype(str), found[value].astype(str), strict=True))


def _read_small(settings: Settings, path: str, columns: list[str] | None = None) -> pd.DataFrame:
    """A snapshot of some thousand rows without an engine, whose start costs more than the reading; dates as dates."""
    file = settings.lake / path / "accepted.parquet"
    if not file.is_file():
        raise LakeError(f"{file}: the snapshot is missing; run pull again with the files it was made from")
    found: pd.DataFrame = pq.read_table(file, columns=columns).to_pandas(date_as_object=True)
    return found


def counts_of(settings: Settings, path: str, column: str) -> dict[str, int]:
    """Rows of a written table by the values of a column."""
    con = connect(settings)
    table = open_file(settings, path, con)
    found: pd.DataFrame = table.group_by(column).aggregate(rows=table.count()).to_pandas()
    return {str(key): int(n) for key, n in zip(found[column], found["rows"], strict=True)}
