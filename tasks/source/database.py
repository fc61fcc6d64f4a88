"""An inbox that is a database: each table's query, read in one read-only transaction, kept as Parquet of text.

A value is spelled as a careful export to CSV would spell it, so that one profile serves files and queries alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, CursorResult, NullPool, create_engine, make_url, select, table, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.sql.expression import quoted_name

from models.calendar import SHANGHAI
from tasks.settings import Settings, read_secret
from tasks.source.base import SourceError, Transient

ROWS_AT_ONCE = 20_000
ROWS_IN_GROUP = 100_000
"""Of the Parquet file; with the rows in hand, what stays in memory."""
NAME_AT_MOST = 120

_NAME = r'(?:[^\W\d][\w$#]*|"[^"]+")'
_TABLE = re.compile(rf"{_NAME}(?:\.{_NAME}){{0,2}}")
_READ_ONLY = {
    # One snapshot for all tables, so that they agree with each other while the house goes on working.
    "postgresql": ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",),
    "mysql": ("SET SESSION TRANSACTION READ ONLY",),
    "mariadb": ("SET SESSION TRANSACTION READ ONLY",),
    "oracle": ("SET TRANSACTION READ ONLY",),
    "sqlite": ("PRAGMA query_only = ON", "BEGIN"),
}
_PATIENCE = {
    # A server that dies without a word is noticed within minutes, not hours.
    "postgresql": {"connect_timeout": 30, "keepalives_idle": 60, "keepalives_interval": 15, "keepalives_count": 4},
}
_UNREACHED = re.compile(
    "refused|timed out|timeout|unreachable|reset by peer|closed the connection|terminating connection|starting up|"
    "could not translate|resolve|lost connection|gone away|connection is lost|broken pipe",
    re.IGNORECASE,
)


def is_database(url: str) -> bool:
    """Whether a URL's scheme is that of a database."""
    try:
        make_url(url).get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        return False
    return True


class Database:
    """A database behind a URL."""

    def __init__(self, url: str, settings: Settings) -> None:
        parsed = make_url(url)
        self.shown = parsed.set(query={}).render_as_string(hide_password=True)
        if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
            raise SourceError(f"{self.shown}: no such file; HUIFANG_INBOX says where the database lies")
        if password := read_secret(settings.inbox_password_file, "HUIFANG_INBOX_PASSWORD_FILE"):
            parsed = parsed.set(password=password.get_secret_value())
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        try:
            self._engine = create_engine(
                parsed,
                poolclass=NullPool,
                hide_parameters=True,
                connect_args=_PATIENCE.get(parsed.get_backend_name(), {}),
            )
        except ImportError as error:
            raise SourceError(f"{self.shown}: needs the package {error.name}; install it") from None
        except (SQLAlchemyError, TypeError, ValueError):
            raise SourceError(f"{self.shown}: is no database URL; see HUIFANG_INBOX in .env.example") from None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that can only read, ended without a trace. Raises Transient when the network fails."""
        try:
            with self._engine.connect() as connection:
                for statement in _READ_ONLY.get(connection.dialect.name, ()):
                    connection.execute(text(statement))
                try:
                    yield connection
                finally:
                    if not connection.invalidated:
                        connection.rollback()
        except DBAPIError as error:
            said = f"{self.shown}: {_words(error)}"
            if error.connection_invalidated or (error.statement is None and _UNREACHED.search(str(error.orig))):
                raise Transient(said) from None
            raise SourceError(f"{said}; check HUIFANG_INBOX and its password file") from None

    def write(self, connection: Connection, query: str, where: str, path: Path) -> None:
        """The rows of a query as a Parquet file of text columns. Raises SourceError naming the column in the way."""
        name = shown_query(query)
        try:
            _write(_execute(connection, query, where), name, path)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            raise SourceError(f"{name}: {_words(error)}; check {where}") from None

    def close(self) -> None:
        self._engine.dispose()


def shown_query(query: str) -> str:
    """A query on one line, cut where it is long.

    >>> shown_query("select *\\n  from crm.customers")
    'select * from crm.customers'
    """
    line = " ".join(query.split())
    return line if len(line) <= NAME_AT_MOST else line[: NAME_AT_MOST - 1] + "…"


def _execute(connection: Connection, query: str, where: str) -> CursorResult[Any]:
    statement = query.strip().rstrip(";").rstrip()
    # no_parameters: a % or a : in a query is itself.
    reading = connection.execution_options(
        stream_results=True, max_row_buffer=ROWS_AT_ONCE, no_parameters=True, sqlite_raw_colnames=True
    )
    if _TABLE.fullmatch(statement):
        *schema, name = [part.strip('"') for part in re.findall(_NAME, statement)]
        known = table(quoted_name(name, _is_quoted(statement)), schema=".".join(schema) or None)
        return reading.execute(select(text("*")).select_from(known))
    if not re.match(r"(?:select|with)\b", statement, re.IGNORECASE):
        raise SourceError(f"{where}: is neither a SELECT nor the name of a table")
    return reading.exec_driver_sql(statement)


def _is_quoted(statement: str) -> bool | None:
    return True if statement.endswith('"') else None


def _write(result: CursorResult[Any], name: str, path: Path) -> None:
    columns = [str(key) for key in result.keys()]  # noqa: SIM118 (it is no dictionary)
    if doubled := sorted({column for column in columns if columns.count(column) > 1}):
        raise SourceError(f"{name}: brings {', '.join(doubled)} more than once; name the columns in the query")
    schema = pa.schema([(column, pa.string()) for column in columns])
    with path.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        held: list[pa.RecordBatch] = []
        for rows in result.partitions(ROWS_AT_ONCE):
            values = [
                pa.array(_texts(cells, column, name), pa.string())
                for column, cells in zip(columns, zip(*rows, strict=True), strict=True)
            ]
            held.append(pa.record_batch(values, schema=schema))
            if sum(batch.num_rows for batch in held) >= ROWS_IN_GROUP:
                writer.write_table(pa.Table.from_batches(held, schema), row_group_size=ROWS_IN_GROUP)
                held = []
        if held:
            writer.write_table(pa.Table.from_batches(held, schema), row_group_size=ROWS_IN_GROUP)


def _texts(cells: Sequence[Any], column: str, name: str) -> Sequence[str | None]:
    kinds = set(map(type, cells))
    if kinds <= {str, type(None)}:
        return cells
    spell: dict[type, Callable[[Any], str]] = {}
    for kind in kinds:
        found = next((_SPELLINGS[each] for each in kind.__mro__ if each in _SPELLINGS), None)
        if found is None and kind is not type(None):
            raise SourceError(
                f"{name}: column {column} holds {kind.__name__}, which has no spelling as text; cast it in the query"
            )
        if found is not None:
            spell[kind] = found
    try:
        return [None if cell is None else spell[type(cell)](cell) for cell in cells]
    except _Unspeakable as why:
        raise SourceError(f"{name}: column {column} holds {why}; cast it in the query") from None


class _Unspeakable(Exception):
    pass


def _spell_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise _Unspeakable("a number that is none (NaN or infinite)")
    return format(value, "f")


def _spell_float(value: float) -> str:
    # The shortest digits that lead back to the same number; from 2**53 on, whole numbers are no longer told apart.
    if not abs(value) < 2**53:
        raise _Unspeakable("a floating-point number too big to be exact, or none at all")
    shortest = repr(value + 0.0)  # no minus before a zero
    return format(Decimal(shortest), "f") if "e" in shortest else shortest.removesuffix(".0")


def _spell_datetime(value: datetime) -> str:
    # A moment is told in the zone of the house, not in that of whichever session reads it.
    local = value.astimezone(SHANGHAI).replace(tzinfo=None) if value.tzinfo else value
    return local.isoformat(" ")


_SPELLINGS: dict[type, Callable[[Any], str]] = {
    str: str,
    bool: lambda value: "1" if value else "0",
    int: str,
    Decimal: _spell_decimal,
    float: _spell_float,
    datetime: _spell_datetime,
    date: date.isoformat,
    time: time.isoformat,
    UUID: str,
}


def _words(error: DBAPIError) -> str:
    """What the database says, without the values of rows that some of its messages quote."""
    state = getattr(error.orig, "sqlstate", None)
    # SQLSTATE class 22: a value that does not fit; PostgreSQL quotes it.
    if state is not None and state.startswith("22"):
        return f"{type(error.orig).__name__} ({state}): a value does not fit its type"
    first = str(error.orig).strip().partition("\n")[0].partition(" with text ")[0]
    return first[:300] or type(error.orig).__name__
