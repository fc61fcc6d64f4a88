"""The engine on one machine: DuckDB, and what it needs told; Parquet and text hashes of its tables."""

from __future__ import annotations

import hashlib
import os
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import ModuleType

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from models import CallbackError
from tasks.settings import Settings

BATCH_ROWS = 100_000
"""Handed on at once."""


# Copying a few rows once more is cheaper than planning their statement twice, which the other way does.
warnings.filterwarnings("ignore", "Arrow output on a DB-API result", UserWarning)


class LakeError(CallbackError):
    """A snapshot is missing or cannot be made."""


def connect(settings: Settings) -> Backend:
    """An engine of its own for one piece of work, within the memory and threads of the settings."""
    if is_cluster(settings):
        return cluster(settings).connect(settings)
    if settings.engine != "duckdb":
        raise LakeError(f"HUIFANG_ENGINE={settings.engine}: only duckdb and spark://HOST:PORT are available")
    return connect_here(settings)


def connect_here(settings: Settings) -> Backend:
    """An engine on this machine, whatever the settings say: for look-ups in one file of the lake."""
    return ibis.duckdb.from_connection(open_engine(settings))


def is_cluster(settings: Settings) -> bool:
    """Whether the big tables are worked on by a cluster."""
    return settings.engine.startswith("spark://")


def cluster(settings: Settings) -> ModuleType:
    """`tasks.lake.spark`, which only an installation with the extra can import."""
    try:
        from tasks.lake import spark
    except ModuleNotFoundError as error:
        raise LakeError(
            f"HUIFANG_ENGINE={settings.engine}: the package {error.name} is missing; "
            "install it with `pip install -r requirements-spark.txt` or the extra huifang[spark]"
        ) from error
    return spark


def open_engine(
    settings: Settings, *, threads: int | None = None, memory: str | None = None
) -> duckdb.DuckDBPyConnection:
    """A bare connection of the engine; what does not fit its memory goes to a folder that it makes and removes."""
    tmp = settings.home.resolve() / "tmp"
    make_folder(tmp)
    con = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": memory or settings.engine_memory,
            "threads": threads or settings.engine_threads,
            "temp_directory": str(tmp / f"duckdb-{uuid.uuid4().hex}"),
            "autoinstall_known_extensions": False,
        },
    )
    con.execute("SET enable_progress_bar = false")  # it prints to stdout
    return con


@contextmanager
def engine(settings: Settings, *, here: bool = False) -> Iterator[Backend]:
    """`connect`, or `connect_here`, for a block; what stops the engine is a LakeError."""
    con = connect_here(settings) if here else connect(settings)
    try:
        with nullcontext() if con.name == "duckdb" else cluster(settings).cluster_errors(settings):
            yield con
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise LakeError(f"the engine stopped, nothing was written: {str(error).splitlines()[0]}") from error
    finally:
        con.disconnect()


def text_sha256(con: Backend, expr: ir.Table, *, is_sorted: bool = False) -> str:
    """SHA-256 of a table as UTF-8 text: LF, header first, rows sorted bytewise by their first column, then whole.

    Null is empty; a field with a comma, quote, CR or LF stands in quotes. `is_sorted` says that the rows already
    come in that order (a file sorted by a unique first column), which saves the sort.
    """
    digest = hashlib.sha256()
    for piece in text_pieces(con, expr, is_sorted=is_sorted):
        digest.update(piece)
    return digest.hexdigest()


def text_pieces(con: Backend, expr: ir.Table, *, is_sorted: bool = False) -> Iterator[bytes | memoryview]:
    """A table as the text that `text_sha256` hashes, piece by piece."""
    yield _header_of(expr)
    if is_sorted and con.name == "duckdb" and all(kind.is_string() for kind in expr.schema().types):
        yield from map(_text_of, batches(con, expr))
        return
    lines = text_lines(expr)
    lines = lines.mutate(ended=lines.line + "\n")
    # A cluster reads a file in no order of its own.
    order = None if is_sorted and con.name == "duckdb" else ["first", "line"]
    for batch in batches(con, lines, order, columns=["ended"]):
        yield column_buffer(batch.column(0))


def _header_of(expr: ir.Table) -> bytes:
    return (",".join(expr.columns) + "\n").encode()


def batches(
    con: Backend, expr: ir.Table, order_by: list[str] | None = None, *, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a table, in order where one is asked for, without holding them all; on either engine."""
    if con.name != "duckdb":
        yield from con.batches(expr, order_by, columns)
        return
    ordered = expr.order_by(*order_by) if order_by else expr
    picked = ordered.select(columns) if columns else ordered
    yield from con.con.sql(sql_of(con, picked)).to_arrow_reader(BATCH_ROWS)


def keep(con: Backend, name: str, expr: ir.Table) -> ir.Table:
    """A table computed once, for as long as the connection is used; on either engine."""
    if con.name != "duckdb":
        return con.keep(name, expr)
    return con.create_table(name, expr, temp=True)


def text_lines(expr: ir.Table) -> ir.Table:
    """Each row as text, without its line end: `first` column and whole `line`."""
    return expr.select(first=_field_of(expr, expr.columns[0]), line=line_of(expr, list(expr.columns)))


def line_of(expr: ir.Table, columns: list[str]) -> ir.StringValue:
    """Some columns of each row as one line of text, without its end."""
    return ibis.literal(",").join([_field_of(expr, name) for name in columns])


def _field_of(expr: ir.Table, name: str) -> ir.StringValue:
    kind = expr.schema()[name]
    if kind.is_floating():
        raise TypeError(f"{name}: a float has no one text; hash a decimal, an integer or a text")
    text = expr[name] if kind.is_string() else expr[name].cast("string")
    if kind.is_string():
        quoted = ibis.literal('"') + text.replace('"', '""') + '"'
        # Four plain searches take half the time of one regular expression.
        is_special = text.contains(",") | text.contains('"') | text.contains("\r") | text.contains("\n")
        text = is_special.ifelse(quoted, text)
    return text.fill_null("")


def column_buffer(column: pa.Array) -> memoryview:
    """The bytes of a text column, one value after the other: an Arrow text column lies so in memory."""
    column = column.cast("large_string")
    offsets = memoryview(column.buffers()[1]).cast("q")
    start, end = offsets[column.offset], offsets[column.offset + len(column)]
    data = column.buffers()[2]
    return memoryview(data)[start:end] if data is not None else memoryview(b"")


def sql_of(con: Backend, expr: ir.Table) -> str:
    """The engine's SQL of an expression."""
    # Ibis makes small in-memory tables known to the engine only in its own fetching calls.
    con._run_pre_execute_hooks(expr)
    return str(con.compile(expr))


def write_table(con: Backend, expr: ir.Table, path: Path, order_by: list[str]) -> ir.Table:
    """A table as sorted Parquet, whole or not at all; the table as it then lies on disk."""
    order_by = list(dict.fromkeys(order_by))
    with _in_place_of(path) as file:
        if con.name == "duckdb":
            sql = sql_of(con, expr.order_by(*order_by))
            con.raw_sql(f"COPY ({sql}) TO {quoted(file)} (FORMAT parquet, COMPRESSION zstd)")
        else:
            with pq.ParquetWriter(file, expr.schema().to_pyarrow(), compression="zstd") as written:
                for batch in batches(con, expr, order_by):
                    written.write_table(pa.Table.from_batches([batch]).cast(written.schema))
    return con.read_parquet(str(path))


def write_in_order(con: Backend, expr: ir.Table, path: Path) -> tuple[ir.Table, str]:
    """A table of texts as Parquet, sorted by its unique first column, and the hash that `text_sha256` gives of it.

    It is made row by row from a table that was written in this order, so both can be made while the rows come, and no
    sort holds them all; if that does not hold, it is sorted all the same.
    """
    with suppress(_OutOfOrderError):
        with _in_place_of(path) as file:
            sha256 = _write_as_they_come(con, expr, file)
        return con.read_parquet(str(path)), sha256
    written = write_table(con, expr, path, [expr.columns[0]])
    return written, text_sha256(con, written, is_sorted=True)


class _OutOfOrderError(Exception):
    """Rows that do not rise by their first column."""


def _write_as_they_come(con: Backend, expr: ir.Table, file: Path) -> str:
    if con.name != "duckdb":
        raise _OutOfOrderError
    digest = hashlib.sha256(_header_of(expr))
    # With more threads DuckDB keeps the order of a file through a filter, not through a join.
    ((threads,),) = con.raw_sql("SELECT current_setting('threads')").fetchall()
    con.raw_sql("SET threads = 1")
    try:
        with (
            con.con.sql(sql_of(con, expr)).to_arrow_reader(BATCH_ROWS) as rows,
            pq.ParquetWriter(file, rows.schema, compression="zstd", use_dictionary=list(expr.columns[1:])) as written,
            ThreadPoolExecutor(2) as beside,
        ):
            before, waiting = pa.array([], rows.schema.field(0).type), list[Future[None]]()
            for batch in rows:
                keys = pa.concat_arrays([before, batch.column(0)])
                if not pc.all(pc.less(keys[:-1], keys[1:]), skip_nulls=False).as_py():
                    raise _OutOfOrderError
                before = keys[-1:]
                for each in waiting:
                    each.result()
                waiting = [
                    beside.submit(written.write_batch, batch),
                    beside.submit(lambda batch: digest.update(_text_of(batch)), batch),
                ]
            for each in waiting:
                each.result()
    finally:
        con.raw_sql(f"SET threads = {threads}")
    return digest.hexdigest()


def _text_of(rows: pa.RecordBatch) -> memoryview:
    """Rows of texts as `text_sha256` hashes them."""
    text = pa.BufferOutputStream()
    try:
        # This writer quotes every text or none, and then raises where one needs quotes.
        pa.csv.write_csv(rows, text, pa.csv.WriteOptions(include_header=False, quoting_style="none"))
    except pa.ArrowInvalid:
        lines = pc.binary_join_element_wise(
            *(_quote(column) for column in rows.columns), ",", null_handling="replace", null_replacement=""
        )
        return column_buffer(pc.binary_join_element_wise(lines, "", "\n"))
    return memoryview(text.getvalue())


def _quote(texts: pa.Array) -> pa.Array:
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', "")
    return pc.if_else(pc.match_substring_regex(texts, '[,"\r\n]'), quoted, texts)


@contextmanager
def _in_place_of(path: Path) -> Iterator[Path]:
    """A file to write to, which takes the other's place once the block has ended well."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.chmod(0o600)
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def quoted(text: object) -> str:
    """A text of SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def sync(path: Path) -> None:
    """What was written to a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """A folder, and those above it, that only the service may read."""
    for each in (*reversed(folder.parents), folder):
        each.mkdir(mode=0o700, exist_ok=True)
