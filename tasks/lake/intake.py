"""A table's files into one snapshot, block by block: the rules of `models.extracts`, on both cores, in bounded memory.

Blocks are judged independently and arrive in the order of the file. As long as their ids rise, which the sources'
serial numbers do, the accepted rows are written as they come: sorted, and none twice. Otherwise each block becomes a
sorted run, and the runs are merged range by range.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import duckdb
import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.canonical import TABLES, id_column, is_referred_to, references
from models.extracts import (
    DUPLICATE,
    SourceFile,
    canonical_texts,
    check_header,
    clean_text,
    judge_rows,
    plain_number,
    reference_columns,
    refuse_unknown_codes,
    split_fault,
    table_profile,
)
from models.framing import FramingError
from models.profile import ColumnSource, Profile
from tasks.lake.engine import column_buffer, open_engine, quoted
from tasks.lake.proven import Proven, Prover, hashes_of
from tasks.lake.referred import OTHERS, References, build_references
from tasks.lake.rows import Block, Rows, column_bytes, open_rows
from tasks.lake.traded import Activity, Trades
from tasks.settings import Settings

ROW_GROUP = 131_072
RUN_ROW_GROUP = 16_384
"""Small, so that a range of a run is read without much beside it."""
RANGE_ROWS = 500_000
WORKER_MEMORY = "160MB"

REJECTED = pa.schema(
    [
        ("row_number", pa.int64()),
        ("file", pa.string()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("key", pa.string()),
    ]
)
PLACES = pa.schema([("_file", pa.int32()), ("_row", pa.int64())])
"""Where a row came from: the file's number in the delivery, and its row."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Judged:
    """One block after the rules."""

    rows: int
    totals: dict[str, tuple[Decimal, int]]
    """Per source column with a control total: the sum, and how many values are no numbers."""
    accepted: pa.Table | None = None
    """The canonical columns and PLACES; in the order of the file where it rises, else of the first column."""
    lines: pa.Array | None = None
    """The accepted rows as the text that is hashed, one `whole_text`, as long as all ids have risen."""
    owners: Any = None
    """Places of the accepted rows' customers among the References, where they are known."""
    trades: Any = None
    """What the rows add to their customers' activity."""
    rejected: pa.Table | None = None
    reported: pa.Table | None = None
    others: pa.Table | None = None
    lookups: pa.Table | None = None
    faults: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    unknown: dict[str, Counter[str]] = field(default_factory=dict)
    first: str = ""
    last: str = ""
    is_rising: bool = True


@dataclass
class Outcome:
    """What became of all rows of a table."""

    content_sha256: str
    faults: dict[int, Counter[str]]
    """By file."""
    remarks: Counter[str]
    rows: dict[int, int]
    was_sorted: bool


def fill_snapshot(
    settings: Settings,
    profile: Profile,
    table_name: str,
    files: list[SourceFile],
    folders: Mapping[str, Path],
    made: Path,
    work: Path,
    on_progress: Callable[[float], None],
) -> Outcome:
    """Writes the Parquet files of a snapshot into `made`; folders are those of the tables referred to.

    Raises HeaderError, FramingError, UnknownCode; what was written by then is of no use.
    """
    # The system's allocator gives memory back; the default one keeps what a block once took, twice over.
    pa.set_memory_pool(pa.system_memory_pool())
    engines = Engines(settings)
    try:
        with closing(open_engine(settings, threads=1, memory=WORKER_MEMORY)) as con:  # its memory goes with it
            known = _references(con, table_name, profile, files, folders)
        owners = known.get("customer_id") if table_name == "transactions" else None
        counts = Activity(owners) if owners is not None and owners.values is None else None
        sink = Sink(table_name, profile, files, made, work, counts)
        sizes = [file.size_bytes for file in files]
        with ThreadPoolExecutor(settings.engine_threads, thread_name_prefix="intake") as pool:
            try:
                for file_no, file in enumerate(files):
                    with open_rows(file) as rows:
                        check_header(rows.header, file, profile)
                        judge = _Judge(rows, file_no, file, profile, known, engines, sink)
                        for judged in in_order(pool, judge, rows.blocks()):
                            sink.add(file_no, judged)
                            on_progress((sum(sizes[:file_no]) + rows.done * sizes[file_no]) / max(1, sum(sizes)))
                        sink.check_totals(file_no, file, rows)
                sink.refuse_unknown()
                known.clear()
                del owners, counts
                return sink.finish(pool, engines)
            except BaseException:
                sink.abandon()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    finally:
        engines.close()


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 2
) -> Iterator[Result]:
    """function(item) for each item, in their order; a few are worked on ahead, no more."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Engines:
    """One connection per thread, on one thread each: the blocks are what is worked on side by side."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._local = settings, threading.local()
        self._all: list[duckdb.DuckDBPyConnection] = []

    def own(self) -> duckdb.DuckDBPyConnection:
        con: duckdb.DuckDBPyConnection | None = getattr(self._local, "con", None)
        if con is None:
            con = self._local.con = open_engine(self._settings, threads=1, memory=WORKER_MEMORY)
            # A prepared statement outlives the rows it was planned over; what they were must not be planned in.
            con.execute("SET disabled_optimizers = 'statistics_propagation'")
            self._local.prepared = set()
            self._all.append(con)
        return con

    @property
    def prepared(self) -> set[str]:
        """The statements prepared on this thread's connection."""
        found: set[str] = self._local.prepared
        return found

    def close(self) -> None:
        for con in self._all:
            con.close()


def _references(
    con: duckdb.DuckDBPyConnection,
    table_name: str,
    profile: Profile,
    files: list[SourceFile],
    folders: Mapping[str, Path],
) -> dict[str, References]:
    lookups = table_profile(profile, files[0]).lookups
    found = {}
    for name, referred in references(table_name).items():
        key = id_column(referred)
        assert key is not None
        found[name] = build_references(con, folders[referred], key, lookups.get(name))
    return found


# ---- one block ----------------------------------------------------------------------------------------------


FEW_ROWS = 20_000


def control_totals(
    con: duckdb.DuckDBPyConnection, rows: Rows, file: SourceFile, profile: Profile, texts: pa.Table
) -> dict[str, tuple[Decimal, int]]:
    """Of a block, per source column that a marker or trailer totals: the sum, and how many values are no numbers."""
    complete, table = file.form.complete, table_profile(profile, file)
    names = set(file.expected.totals) if file.expected else set()
    if complete is not None and complete.pattern:
        names |= {name for name in rows.header if f"(?P<{name}>" in complete.pattern}
    found = {}
    for name in sorted(names & set(rows.header)):
        spelled = (table.column(column) for column in table.columns)
        source = next((s for s in spelled if s is not None and s.source == name), ColumnSource(source=name))
        column = ibis.table({"t": "string"}, name="column_block")
        numbers = column.select(number=plain_number(clean_text(column.t), source))
        con.register("column_block", pa.table({"t": texts.column(rows.header.index(name))}))
        row = con.execute(
            f"SELECT coalesce(sum(n), 0), count(*) FILTER (n IS NULL) FROM (SELECT try_cast(number AS DECIMAL(28, 6)) AS n "
            f"FROM ({ibis.to_sql(numbers, dialect='duckdb', pretty=False)}) WHERE number IS NOT NULL)"
        ).fetchall()[0]
        found[name] = (Decimal(row[0]), int(row[1]))
    return found


class _Judge:
    """The rules for the blocks of one file: proven rows at once, the others through the engine."""

    def __init__(
        self,
        rows: Rows,
        file_no: int,
        file: SourceFile,
        profile: Profile,
        known: Mapping[str, References],
        engines: Engines,
        sink: Sink,
    ) -> None:
        self._rows, self._file_no, self._file, self._profile = rows, file_no, file, profile
        self._known, self._engines, self._sink = known, engines, sink
        self._sql: dict[bool, tuple[str, str]] = {}
        self._lock = threading.Lock()
        self._by = [] if file.is_canonical else profile.looked_up_by(file.table_name)
        self._prover = Prover(rows.header, file, profile, known, self._by)
        self._schema = accepted_schema(file.table_name)

    def __call__(self, block: Block) -> Judged:
        texts = self._rows.texts(block)
        con = self._engines.own()
        result = Judged(rows=texts.num_rows, totals=control_totals(con, self._rows, self._file, self._profile, texts))
        if not texts.num_rows:
            return result
        proven = self._prover.prove(texts, con)
        if proven is None:
            proven = Proven(np.zeros(texts.num_rows, bool), {}, {})
        if not proven.mask.all():
            doubtful = texts.filter(pa.array(~proven.mask)) if proven.columns else texts
            self._split(self._judge(con, doubtful), result)
        if proven.mask.any():
            self._take_proven(con, proven, texts, result)
        if any(result.unknown.values()):
            result.accepted = None  # the intake stops; the rest is read only to count
        self._order(result)
        return result

    def _take_proven(self, con: duckdb.DuckDBPyConnection, proven: Proven, texts: pa.Table, result: Judged) -> None:
        """The proven rows, and the few accepted ones that the engine judged at their places between them."""
        name = self._file.table_name
        rows = texts.column("row_number").chunk(0)
        accepted = pa.table([proven.columns[column] for column in self._schema.names], schema=self._schema)
        lines = lines_of(accepted, name, proven.texts) if self._sink.is_rising else None
        by = pa.table({f"by:{column}": proven.by[column] for column in self._by}) if self._by else None
        owners = proven.places.get("customer_id")
        if not proven.mask.all():
            mask = pa.array(proven.mask)
            accepted, rows = accepted.filter(mask), rows.filter(mask)
            lines = lines.filter(mask) if lines is not None else None
            by = by.filter(mask) if by is not None else None
            owners = owners[proven.mask] if owners is not None else None
        file_no = pa.repeat(pa.scalar(self._file_no, pa.int32()), len(rows))
        accepted = accepted.append_column("_file", file_no).append_column("_row", rows)
        if by is not None:
            places = accepted.select([id_column(name) or "", *PLACES.names]).rename_columns(["key", *PLACES.names])
            for column in by.column_names:
                places = places.append_column(column, by.column(column))
            result.lookups = pa.concat_tables([places, result.lookups]) if result.lookups is not None else places
        if result.accepted is not None and result.accepted.num_rows:
            late = result.accepted
            late_lines = lines_of(late, name) if lines is not None else None
            order = pa.array(np.argsort(np.concatenate([_only(accepted, "_row"), _only(late, "_row")]), kind="stable"))
            accepted = pa.concat_tables([accepted, late]).combine_chunks().take(order)
            lines = pa.concat_arrays([lines, late_lines]).take(order) if lines is not None else None
            if owners is not None:
                ids = _only(late, "customer_id")
                late_owners = self._known["customer_id"].place(ids, hashes_of(con, ids))
                owners = np.concatenate((owners, late_owners))[order.to_numpy()]
        result.accepted, result.lines, result.owners = accepted.combine_chunks(), lines, owners
        if owners is not None and self._sink.activity is not None:
            result.trades = Trades.of(result.accepted)

    def _judge(self, con: duckdb.DuckDBPyConnection, texts: pa.Table) -> pa.Table:
        """Every rule over some rows."""
        is_garbled = "garbled" in texts.column_names
        refer, judge = self._statements(is_garbled)
        if refer:
            asked = self._ask(con, f"refer_{self._file_no}_{is_garbled:d}", refer, texts)
            for name, found in self._known.items():
                hashes = _only(asked, f"hash:{name}").to_numpy()
                for field_name, column in found.find(_only(asked, name), hashes).items():
                    texts = texts.append_column(f"{name}:{field_name}", column)
        return self._ask(con, f"judge_{self._file_no}_{is_garbled:d}", judge, texts)

    def _ask(self, con: duckdb.DuckDBPyConnection, name: str, sql: str, rows: pa.Table) -> pa.Table:
        """The engine's answer over some rows, which its SQL calls block, in one chunk a column.

        Of few rows by a statement that is planned once: that takes longer than to judge some hundred of them.
        """
        con.register("block", rows)
        if rows.num_rows > FEW_ROWS:
            found: pa.Table = con.sql(sql).to_arrow_table()
        else:
            if name not in self._engines.prepared:
                con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM block LIMIT 0")
                con.execute(f"PREPARE {name} AS " + sql.replace('FROM "block" AS', f"FROM {name} AS"))
                self._engines.prepared.add(name)
            con.execute(f"TRUNCATE {name}")
            con.execute(f"INSERT INTO {name} BY NAME FROM block")
            found = con.execute(f"EXECUTE {name}").to_arrow_table()
        con.unregister("block")
        return found.combine_chunks()

    def _statements(self, is_garbled: bool) -> tuple[str, str]:
        """The SQL that gives the ids referred to with their hashes, and the SQL that judges."""
        with self._lock:
            if is_garbled not in self._sql:
                header, name = self._rows.header, self._file.table_name
                columns = {f"c{i}": "string" for i in range(len(header))} | {"row_number": "int64"}
                columns |= {"garbled": "boolean"} if is_garbled else {}
                refer = ""
                if self._known:
                    rows = canonical_texts(ibis.table(columns, name="block"), header, self._file, self._profile)
                    picked = rows.select(**{column: rows[f"value:{column}"] for column in self._known})
                    asked = ", ".join(f'"{column}", hash("{column}") AS "hash:{column}"' for column in self._known)
                    refer = f"SELECT {asked} FROM ({ibis.to_sql(picked, dialect='duckdb', pretty=False)})"
                raw = ibis.table(columns | reference_columns(name), name="block")
                judged = judge_rows(raw, header, self._file_no, self._file, self._profile, None)
                self._sql[is_garbled] = refer, str(ibis.to_sql(judged, dialect="duckdb", pretty=False))
            return self._sql[is_garbled]

    def _split(self, judged: pa.Table, result: Judged) -> None:
        """Judged rows into accepted ones, rejected ones and what later tables need of either."""
        name, fault = self._file.table_name, _only(judged, "fault")
        result.faults, result.remarks = _counted(fault), _counted(_only(judged.filter(fault.is_null()), "remark"))
        result.unknown = {
            column.removeprefix("unknown:"): _counted(_only(judged, column))
            for column in judged.column_names
            if column.startswith("unknown:")
        }
        good, bad = judged.filter(fault.is_null()), judged.filter(fault.is_valid())
        file_no = pa.repeat(pa.scalar(self._file_no, pa.int32()), good.num_rows)
        accepted = good.select(self._schema.names).append_column("_file", file_no)
        accepted = accepted.append_column("_row", good.column("row_number"))
        result.accepted = accepted.cast(accepted_schema(name, with_places=True)).combine_chunks()
        result.rejected = self._listed(bad.filter(pc.starts_with(bad.column("fault"), "rejected")), "fault")
        result.reported = self._listed(good.filter(good.column("remark").is_valid()), "remark")
        if not is_referred_to(name):
            return
        parts = [split_fault(f) for f in _only(bad, "fault").to_pylist()]
        result.others = pa.table(
            {
                "key": self._safe_keys(bad),
                "verdict": pa.array([p[0] for p in parts], pa.string()),
                "rule": pa.array([p[1] for p in parts], pa.string()),
                **{f"by:{c}": bad.column(f"by:{c}") for c in self._by},
            }
        )
        if self._by:
            places = {column: result.accepted.column(column) for column in PLACES.names}
            by = {f"by:{c}": good.column(f"by:{c}") for c in self._by}
            result.lookups = pa.table({"key": result.accepted.column(id_column(name)), **places, **by})

    def _order(self, judged: Judged) -> None:
        if judged.accepted is None or not judged.accepted.num_rows:
            return
        keys = sort_keys(judged.accepted, self._file.table_name)
        if keys is None:
            judged.is_rising = False
        else:
            judged.first, judged.last = keys[0].as_py(), keys[-1].as_py()
            judged.is_rising = bool(pc.all(pc.less(keys.slice(0, len(keys) - 1), keys.slice(1))).as_py())
        if not judged.is_rising:
            judged.lines = None
            order = pc.sort_indices(judged.accepted.column(0))
            judged.accepted = judged.accepted.take(order).combine_chunks()
        elif judged.lines is None and self._sink.is_rising:
            judged.lines = lines_of(judged.accepted, self._file.table_name)
        if judged.lines is not None:
            judged.lines = whole_text(judged.lines)

    def _safe_keys(self, rows: pa.Table) -> pa.Array:
        """Ids of rows; null where a text does not look like one: in a shifted row it could be anything, also a name."""
        keys = _only(rows, TABLES[self._file.table_name].unique[0])
        return pc.if_else(
            pc.fill_null(pc.match_substring_regex(keys, "^[0-9A-Za-z][0-9A-Za-z_.-]{0,39}$"), False), keys, None
        )

    def _listed(self, rows: pa.Table, source: str) -> pa.Table:
        parts = [split_fault(f) for f in _only(rows, source).to_pylist()]
        return pa.table(
            [
                rows.column("row_number"), pa.repeat(pa.scalar(self._file.name), rows.num_rows),
                pa.array([p[2] for p in parts], pa.string()), pa.array([p[1] for p in parts], pa.string()),
                self._safe_keys(rows),
            ],
            schema=REJECTED,
        )  # fmt: skip


def _only(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks() if column.num_chunks else pa.array([], column.type)


def _counted(column: pa.Array) -> Counter[str]:
    if column.null_count == len(column):
        return Counter()
    return Counter({row["values"]: row["counts"] for row in column.drop_null().value_counts().to_pylist()})


def accepted_schema(table_name: str, *, with_places: bool = False) -> pa.Schema:
    """The Arrow types of a canonical table; with_places adds the file's number and the row's."""
    kinds = ibis.schema({name: _kind(column) for name, column in TABLES[table_name].columns.items()})
    fields = [pa.field(name, kind) for name, kind in zip(kinds.names, kinds.to_pyarrow().types, strict=True)]
    return pa.schema([*fields, *(PLACES if with_places else [])])


def _kind(column: Any) -> str:
    text = str(column.dtype)
    if text.startswith("datetime"):
        return "date"
    if text.startswith("Decimal"):
        return f"decimal({column.dtype.precision}, {column.dtype.scale})"
    return "string"


def sort_keys(accepted: pa.Table, table_name: str) -> pa.Array | None:
    """One text per row by which rows are unique and in the order of their text; None where the two differ."""
    unique: list[str] = TABLES[table_name].unique
    if list(TABLES[table_name].columns)[: len(unique)] != unique:
        return None
    if len(unique) == 1:
        return _only(accepted, unique[0])
    return pc.binary_join_element_wise(*(_field_text(_only(accepted, name)) for name in unique), ",")


def lines_of(accepted: pa.Table, table_name: str, texts: Mapping[str, pa.Array] = MappingProxyType({})) -> pa.Array:
    """The rows as the text that is hashed, without line ends (DESIGN §3.5); texts are columns known already."""
    names = list(TABLES[table_name].columns)
    fields = [texts[name] if name in texts else _field_text(_only(accepted, name)) for name in names]
    return pc.binary_join_element_wise(*fields, ",")


def whole_text(lines: pa.Array) -> pa.Array:
    """Lines, each with its line end, as one text."""
    if not len(lines):
        return pa.array([""])
    whole = pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines)
    return pc.binary_join_element_wise(pc.binary_join(whole, "\n"), "\n", "")


def _field_text(column: pa.Array) -> pa.Array:
    text = column if pa.types.is_string(column.type) else column.cast(pa.string())
    if text is column and any(sign in column_bytes(text) for sign in (b",", b'"', b"\r", b"\n")):
        doubled = pc.binary_join_element_wise('"', pc.replace_substring(text, '"', '""'), '"', "")
        text = pc.if_else(pc.match_substring_regex(text, '[,"\r\n]'), doubled, text)
    return text.fill_null("") if text.null_count else text


# ---- all blocks ---------------------------------------------------------------------------------------------


class _Spill:
    """A Parquet file written piece by piece; made even when nothing comes."""

    def __init__(self, path: Path, schema: pa.Schema, row_group: int = ROW_GROUP) -> None:
        self.path, self._schema, self._row_group = path, schema, row_group
        few = [field.name for field in schema if pa.types.is_date(field.type) or field.name in _FEW]
        self._writer = pq.ParquetWriter(
            path, schema, compression="zstd", use_dictionary=few, store_decimal_as_integer=True
        )
        path.chmod(0o600)
        self.rows = 0
        self._written: Future[None] | None = None

    def write(self, table: pa.Table) -> None:
        if table.num_rows:
            self._writer.write_table(table.cast(self._schema), row_group_size=self._row_group)
            self.rows += table.num_rows

    def hand_over(self, table: pa.Table, pool: ThreadPoolExecutor) -> None:
        """Writes in a thread beside; one table is written and none waits, so memory stays as it is."""
        if self._written is not None:
            self._written.result()
        self._written = pool.submit(self.write, table)

    def close(self) -> None:
        try:
            if self._written is not None:
                self._written.result()
        finally:
            self._written = None
            self._writer.close()


_FEW = {
    "kind",
    "status",
    "segment",
    "risk_level",
    "branch_no",
    "role",
    "verdict",
    "rule",
    "reason",
    "column",
    "file",
    "staff_id",
}
"""Text columns with few distinct values; a dictionary of ids would be as large as the ids."""


@dataclass
class Sink:
    """Where judged blocks go, in their order."""

    table_name: str
    profile: Profile
    files: list[SourceFile]
    made: Path
    work: Path
    activity: Activity | None
    is_rising: bool = True
    _faults: dict[int, Counter[str]] = field(default_factory=dict)
    _rows: dict[int, int] = field(default_factory=dict)
    _remarks: Counter[str] = field(default_factory=Counter)
    _unknown: dict[str, Counter[str]] = field(default_factory=dict)
    _totals: dict[int, dict[str, tuple[Decimal, int]]] = field(default_factory=dict)
    _last: str | None = None
    _runs: list[Path] = field(default_factory=list)
    _open: list[_Spill] = field(default_factory=list)

    def __post_init__(self) -> None:
        by = [] if self.files[0].is_canonical else self.profile.looked_up_by(self.table_name)
        looked_up = [pa.field(f"by:{name}", pa.string()) for name in by]
        self._faults = {n: Counter() for n in range(len(self.files))}
        self._rows = dict.fromkeys(range(len(self.files)), 0)
        self._totals = {n: {} for n in range(len(self.files))}
        self._digest = hashlib.sha256((",".join(TABLES[self.table_name].columns) + "\n").encode())
        self._accepted = self._spill(self.made / "accepted.parquet", accepted_schema(self.table_name))
        self._rejected = self._spill(self.work / "rejected.parquet", REJECTED)
        self._reported = self._spill(self.work / "reported.parquet", REJECTED)
        self._others = self._lookups = None
        if is_referred_to(self.table_name):
            self._others = self._spill(self.made / "others.parquet", pa.schema([*OTHERS, *looked_up]))
            if by:
                self._lookups = self._spill(
                    self.work / "lookups.parquet", pa.schema([OTHERS.field("key"), *PLACES, *looked_up])
                )
        self._doubled = self._spill(self.work / "doubled.parquet", PLACES)
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="write")

    def _spill(self, path: Path, schema: pa.Schema, row_group: int = ROW_GROUP) -> _Spill:
        spill = _Spill(path, schema, row_group)
        self._open.append(spill)
        return spill

    def abandon(self) -> None:
        """Ends what is open; what a writer still has to say of its own failure no longer matters."""
        self._beside.shutdown(wait=True)
        for spill in self._open:
            with suppress(Exception):
                spill.close()

    def add(self, file_no: int, judged: Judged) -> None:
        self._faults[file_no] += judged.faults
        self._remarks += judged.remarks
        self._rows[file_no] += judged.rows
        for name, codes in judged.unknown.items():
            self._unknown.setdefault(name, Counter()).update(codes)
        for name, (total, lost) in judged.totals.items():
            before = self._totals[file_no].get(name, (Decimal(0), 0))
            self._totals[file_no][name] = (before[0] + total, before[1] + lost)
        for spill, table in (
            (self._rejected, judged.rejected), (self._reported, judged.reported),
            (self._others, judged.others), (self._lookups, judged.lookups),
        ):  # fmt: skip
            if spill is not None and table is not None:
                spill.write(table)
        if judged.accepted is None or not judged.accepted.num_rows:
            return
        if (
            self.is_rising
            and judged.is_rising
            and judged.lines is not None
            and (self._last is None or judged.first > self._last)
        ):
            self._last = judged.last
            self._accepted.hand_over(judged.accepted.drop_columns(["_file", "_row"]), self._beside)
            self._digest.update(column_buffer(judged.lines))
            if self.activity is not None and judged.owners is not None:
                self.activity.add(judged.owners, judged.trades)
            elif judged.owners is None:
                self.activity = None
            return
        self.is_rising = False
        run = self._spill(self.work / f"run-{len(self._runs):05}.parquet", accepted_schema(self.table_name, with_places=True),
                          ROW_GROUP if judged.is_rising else RUN_ROW_GROUP)  # fmt: skip
        run.write(judged.accepted)
        run.close()
        self._runs.append(run.path)

    def check_totals(self, file_no: int, file: SourceFile, rows: Rows) -> None:
        """Raises FramingError unless a file holds what its marker or trailer says."""
        expected = rows.expected
        if expected is None:
            return
        ask = f"the file is refused as a whole, ask for it and {expected.said_by or 'its marker'} again"
        if expected.rows is not None and expected.rows != self._rows[file_no]:
            raise FramingError(
                f"{file.name}: {expected.said_by} says {expected.rows:,} rows, the file has {self._rows[file_no]:,}; {ask}"
            )
        for name, total in expected.totals.items():
            if name not in rows.header:
                raise FramingError(
                    f"{file.name}: {expected.said_by} gives a total of {name}, which is no column; found {', '.join(rows.header)}"
                )
            found, lost = self._totals[file_no].get(name, (Decimal(0), 0))
            if found != total:
                no_numbers = f" ({lost} values are no numbers)" if lost else ""
                raise FramingError(
                    f"{file.name}: {expected.said_by} says {total:,f} in total for {name}, the rows add up to "
                    f"{found.normalize():,f}{no_numbers}; {ask}"
                )

    def refuse_unknown(self) -> None:
        for name, codes in self._unknown.items():
            refuse_unknown_codes(self.table_name, name, codes, self.profile, table_profile(self.profile, self.files[0]))

    def finish(self, pool: ThreadPoolExecutor, engines: Engines) -> Outcome:
        was_sorted = self.is_rising
        if was_sorted and self.activity is not None and self.activity.is_exact:
            pq.write_table(self.activity.table(), self.made / "activity.parquet", compression="zstd")
        if not self.is_rising:
            self._merge(pool, engines)
        for spill in self._open:
            spill.close()
        self._beside.shutdown()
        con = engines.own()
        for spill in (self._rejected, self._reported):
            _sort(con, spill, self.made / spill.path.name, "file, row_number")
        if self._lookups is not None:
            # A row whose id had come before is not kept, and what it was looked up by leads to no accepted row.
            con.execute(
                f"COPY (SELECT l.key, if(d._row IS NULL, 'accepted', 'rejected') AS verdict, "
                f"if(d._row IS NULL, '', 'duplicate_id') AS rule, l.* EXCLUDE (key, _file, _row) "
                f"FROM read_parquet({quoted(self._lookups.path)}) l "
                f"LEFT JOIN read_parquet({quoted(self._doubled.path)}) d USING (_file, _row) ORDER BY ALL) "
                f"TO {quoted(self.made / 'lookups.parquet')} (FORMAT parquet, COMPRESSION zstd)"
            )
        return Outcome(self._digest.hexdigest(), self._faults, self._remarks, self._rows, was_sorted)

    def _merge(self, pool: ThreadPoolExecutor, engines: Engines) -> None:
        """Sorts the runs into one file; of the rows of one id the first by file and row stays."""
        self._accepted.close()
        if self._accepted.rows:
            first = self.work / "run-first.parquet"
            self._accepted.path.rename(first)
            self._runs.insert(0, first)  # rose by itself and came first: it loses no row
        self._open.remove(self._accepted)
        self._accepted = self._spill(self.made / "accepted.parquet", accepted_schema(self.table_name))
        self._digest = hashlib.sha256((",".join(TABLES[self.table_name].columns) + "\n").encode())
        bounds = _bounds(self._runs)

        def merge(span: tuple[str | None, str | None]) -> tuple[pa.Table, pa.Array, pa.Table]:
            return _merge_range(engines.own(), self._runs, self.table_name, span)

        for kept, lines, doubled in in_order(pool, merge, itertools.pairwise([None, *bounds, None])):
            self._accepted.hand_over(kept, self._beside)
            self._digest.update(column_buffer(whole_text(lines)))
            if not doubled.num_rows:
                continue
            key = TABLES[self.table_name].unique[0]
            self._doubled.write(doubled.select(PLACES.names))
            file_nos = doubled.column("_file").to_pylist()
            for file_no in file_nos:
                self._faults[file_no][f"{DUPLICATE}{key}"] += 1
            constant = [pa.repeat(pa.scalar(text), doubled.num_rows) for text in (key, "duplicate_id")]
            names = pa.array([self.files[n].name for n in file_nos], pa.string())
            self._rejected.write(
                pa.table([doubled.column("_row"), names, *constant, doubled.column(key)], schema=REJECTED)
            )


def _bounds(runs: list[Path]) -> list[str]:
    """First values at which to cut the runs into ranges of about RANGE_ROWS rows, from the row groups' statistics."""
    starts: list[tuple[str, int]] = []
    for run in runs:
        metadata = pq.read_metadata(run)
        for n in range(metadata.num_row_groups):
            group = metadata.row_group(n)
            starts.append((group.column(0).statistics.min, group.num_rows))
    bounds: list[str] = []
    rows = 0
    for start, group_rows in sorted(starts):
        if rows >= RANGE_ROWS and (not bounds or start > bounds[-1]):
            bounds.append(start)
            rows = 0
        rows += group_rows
    return bounds


def _merge_range(
    con: duckdb.DuckDBPyConnection, runs: list[Path], table_name: str, span: tuple[str | None, str | None]
) -> tuple[pa.Table, pa.Array, pa.Table]:
    """The rows of a range of first values in order with their text, and those that bear an id a second time."""
    columns, unique = list(TABLES[table_name].columns), TABLES[table_name].unique
    first = columns[0]
    where = [f"{first} >= {quoted(span[0])}"] if span[0] is not None else []
    where += [f"{first} < {quoted(span[1])}"] if span[1] is not None else []
    paths = ", ".join(quoted(run) for run in runs)
    rows = con.sql(
        f"SELECT * EXCLUDE (_file, _row), coalesce(_file, -1) AS _file, coalesce(_row, 0) AS _row "
        f"FROM read_parquet([{paths}], union_by_name = true) {'WHERE ' + ' AND '.join(where) if where else ''}"
    ).to_arrow_table().combine_chunks()  # fmt: skip
    rows = rows.cast(accepted_schema(table_name, with_places=True))
    key = _only(rows, unique[0])
    if len(unique) > 1:
        key = pc.binary_join_element_wise(*(_field_text(_only(rows, name)) for name in unique), ",")
    # Runs come in the order of the files, each sorted without moving equal ids: a stable sort keeps the first one first.
    order = pc.sort_indices(key)
    rows, key = rows.take(order).combine_chunks(), key.take(order)
    is_doubled = np.zeros(len(key), bool)
    if len(key) > 1:
        is_doubled[1:] = pc.equal(key.slice(1), key.slice(0, len(key) - 1)).to_numpy(zero_copy_only=False)
    doubled = rows.filter(pa.array(is_doubled))
    kept = (rows.filter(pa.array(~is_doubled)) if doubled.num_rows else rows).select(columns).combine_chunks()
    lines = lines_of(kept, table_name)
    if columns[: len(unique)] != unique:
        order = pc.sort_indices(lines)
        kept, lines = kept.take(order).combine_chunks(), lines.take(order)
    return kept, lines, doubled


def _sort(con: duckdb.DuckDBPyConnection, spill: _Spill, path: Path, order: str) -> None:
    if not spill.rows:
        spill.path.rename(path)
        return
    con.execute(
        f"COPY (FROM read_parquet({quoted(spill.path)}) ORDER BY {order}) TO {quoted(path)} (FORMAT parquet, COMPRESSION zstd)"
    )
