"""The engine on a cluster: Spark, evened out to read expressions as DuckDB does, and an intake judged by its workers.

Files are opened, cut, decoded and counted on the machine that runs the flow, by the code of the other engine; rows
lie as Parquet in the lake, which every worker must see at the same path. No Python runs on a worker.
"""

from __future__ import annotations

import atexit
import re
import shutil
import socket
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlglot.expressions as sge
from ibis.backends.pyspark import Backend as PySparkBackend
from ibis.backends.pyspark.datatypes import PySparkSchema
from ibis.backends.sql.compilers.pyspark import PySparkCompiler
from py4j.protocol import Py4JError
from pyspark import SparkConf
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.functions import lit

from models.canonical import TABLES, id_column, is_referred_to, references
from models.extracts import (
    DUPLICATE,
    SourceFile,
    check_header,
    first_rows,
    judge_rows,
    keys_of,
    reject_doubled,
    rejected_rows,
    table_profile,
)
from models.profile import Lookup, Profile
from tasks.lake.engine import BATCH_ROWS, LakeError, line_of, make_folder
from tasks.lake.intake import (
    PLACES,
    REJECTED,
    Engines,
    Judged,
    Outcome,
    Sink,
    accepted_schema,
    control_totals,
    in_order,
    lines_of,
    sort_keys,
    whole_text,
)
from tasks.lake.referred import OTHERS
from tasks.lake.rows import Block, Rows, open_rows
from tasks.settings import Settings

ANSWER_SECONDS = 10
"""For the master to answer at all."""
WORKER_SECONDS = 90
"""For a first worker to start its executor."""
SCRATCH_ROW_GROUP_BYTES = 32 << 20
"""Of what passes from the workers to the driver: it holds one such group at a time."""


# ---- the engine ---------------------------------------------------------------------------------------------


def connect(settings: Settings) -> Backend:
    """An Ibis backend with temporary views of its own, on the one Spark application of this process.

    Raises LakeError when Java is missing or the master or its workers do not answer.
    """
    con = Backend().connect(_application(settings).newSession())
    con.scratch = settings.home.resolve() / "tmp"
    assert isinstance(con, Backend)
    return con


class Compiler(PySparkCompiler):  # type: ignore[misc]
    """Spark's SQL with the meaning that the expressions have on DuckDB."""

    __slots__ = ()

    def visit_RegexSearch(self, op: Any, *, arg: Any, pattern: Any) -> Any:
        return self.f.rlike(arg, _java(pattern))

    def visit_RegexExtract(self, op: Any, *, arg: Any, pattern: Any, index: Any) -> Any:
        return self.f.regexp_extract(arg, _java(pattern), index)

    def visit_RegexReplace(self, op: Any, *, arg: Any, pattern: Any, replacement: Any) -> Any:
        return self.f.regexp_replace(arg, _java(pattern), replacement)

    def visit_ScalarUDF(self, op: Any, **arguments: Any) -> Any:
        if self.__sql_name__(op) == "sha256":
            return self.f.sha2(*arguments.values(), 256)
        return super().visit_ScalarUDF(op, **arguments)


def _java(pattern: sge.Literal) -> sge.Literal:
    """A regular expression of RE2 as Java reads it alike: `$` is the very end, and only a line feed ends a line."""
    found = re.sub(
        r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\$", lambda part: r"\z" if part[0] == "$" else part[0], pattern.this
    )
    return sge.Literal.string(f"(?d){found}")


class Backend(PySparkBackend):  # type: ignore[misc]
    """Ibis on Spark; hands rows over in order and in bounded memory, through files that the workers write."""

    compiler = Compiler()
    scratch: Path

    def disconnect(self) -> None:
        """Lets go of what was kept; the application goes on until the process ends."""
        self._session.catalog.clearCache()

    def read_parquet(self, path: str | Path, **words: Any) -> ir.Table:
        # A bare path would be looked for in the cluster's default file system.
        return super().read_parquet(f"file://{Path(path).resolve()}", **words)

    def keep(self, name: str, expr: ir.Table) -> ir.Table:
        """A table computed once, in the memory and on the disks of the workers."""
        self._frame(expr).cache().createOrReplaceTempView(name)
        return self.table(name)

    def write_parts(self, expr: ir.Table, folder: Path, order_by: list[str] | None = None) -> None:
        """The rows as Parquet files of the workers, one after the other in order."""
        frame = self._frame(expr)
        if order_by:
            frame = frame.orderBy(*(frame[f"`{name}`"].asc_nulls_last() for name in order_by))
        frame.write.option("parquet.block.size", SCRATCH_ROW_GROUP_BYTES).parquet(f"file://{folder}")

    def batches(
        self, expr: ir.Table, order_by: list[str] | None = None, columns: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows, in order where one is asked for; Spark's own iterator would collect them all."""
        make_folder(self.scratch)
        folder = Path(tempfile.mkdtemp(prefix="spark-", dir=self.scratch))
        try:
            self.write_parts(expr, folder / "rows", order_by)
            parts = (folder / "rows").glob("part-*.parquet")
            for part in sorted(parts, key=lambda path: int(path.name.split("-")[1].split(".")[0])):
                with pq.ParquetFile(part) as file:
                    yield from file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)
                part.unlink()
        finally:
            shutil.rmtree(folder)

    def _register_in_memory_table(self, op: Any) -> None:
        rows = op.data.to_pyarrow(op.schema)
        if rows.num_rows:
            frame = self._session.createDataFrame(rows)
        else:
            # Spark would have Python on a worker turn no rows into its own.
            kinds = PySparkSchema.from_ibis(op.schema)
            frame = self._session.range(0).select(*(lit(None).cast(kind.dataType).alias(kind.name) for kind in kinds))
        frame.createOrReplaceTempView(op.name)

    def _frame(self, expr: ir.Table) -> Any:
        self._run_pre_execute_hooks(expr)
        return self._session.sql(self.compile(expr))


@dataclass
class _Running:
    """The application that this process runs, if any: Spark allows one."""

    master: str = ""
    session: Any = None
    lock: Any = field(default_factory=threading.Lock)


_RUNNING = _Running()


def _application(settings: Settings) -> Any:
    master = settings.engine
    with _RUNNING.lock:
        if _RUNNING.session is not None and _RUNNING.session.sparkContext._jsc.sc().isStopped():
            _RUNNING.session = None
        if _RUNNING.session is not None and _RUNNING.master != master:
            stop()
        if _RUNNING.session is None:
            _RUNNING.session, _RUNNING.master = _start(settings), master
            atexit.register(stop)
        return _RUNNING.session


def stop() -> None:
    """Ends this process's Spark application, if it has one; the next `connect` starts another."""
    session, _RUNNING.session = _RUNNING.session, None
    if session is not None:
        atexit.unregister(stop)
        with suppress(Py4JError, OSError):
            session.stop()


def _start(settings: Settings) -> Any:
    master = settings.engine
    hosts = [place.rpartition(":") for place in master.removeprefix("spark://").split(",")]
    if not all(host and port.isdecimal() for host, _, port in hosts):
        raise LakeError(f"HUIFANG_ENGINE={master}: write it as spark://HOST:PORT")
    if not any(_answers(host, int(port)) for host, _, port in hosts):
        raise LakeError(
            f"HUIFANG_ENGINE={master}: no master answers within {ANSWER_SECONDS} s; start it, or take "
            "HUIFANG_ENGINE=duckdb: both make the same snapshots"
        )
    scratch = settings.home.resolve() / "tmp"
    make_folder(scratch)
    conf = SparkConf(loadDefaults=True).setMaster(master).setAppName("huifang")
    if all(_is_loopback(host) for host, _, _ in hosts):
        conf.set("spark.driver.bindAddress", "127.0.0.1").set("spark.driver.host", "127.0.0.1")
    if memory := _mebibytes(settings.engine_memory):
        conf.set("spark.driver.memory", f"{memory}m")
    for key, value in {
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": f"file://{scratch}/warehouse",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        # Java compiles no method beyond this size, and interprets the rules' one big one fifty times slower.
        "spark.sql.codegen.hugeMethodLimit": "8000",
        "spark.sql.ansi.enabled": "true",  # what cannot be is an error, and null where it is tried
        "spark.sql.caseSensitive": "true",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
        "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    }.items():
        conf.set(key, value)
    try:
        session = SparkSession.builder.config(conf=conf).getOrCreate()
        _await_worker(session, master)
    except (PySparkException, Py4JError, OSError) as error:
        if "JAVA_GATEWAY_EXITED" in str(error):
            raise LakeError(
                f"HUIFANG_ENGINE={master}: no Java 17 or newer starts here; install openjdk-17-jre-headless, "
                "or set JAVA_HOME"
            ) from error
        raise LakeError(f"HUIFANG_ENGINE={master}: Spark does not start: {_said(error)}") from error
    return session


def _await_worker(session: Any, master: str) -> None:
    """A first small job, given up when no worker takes it."""
    context = session.sparkContext
    group = uuid.uuid4().hex
    given_up = threading.Timer(WORKER_SECONDS, context.cancelJobGroup, [group])
    given_up.daemon = True
    context.setJobGroup(group, "huifang: is a worker there?")
    given_up.start()
    try:
        session.range(1).count()
    except (PySparkException, Py4JError) as error:
        session.stop()
        raise LakeError(
            f"HUIFANG_ENGINE={master}: the master answers, but no worker took a first job within {WORKER_SECONDS} s "
            f"({_said(error)}); start a worker with a free core and memory"
        ) from error
    finally:
        given_up.cancel()
    context.setLocalProperty("spark.jobGroup.id", None)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host.strip("[]"), port), timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _mebibytes(memory: str) -> int | None:
    """2GB, 512MiB, …; None for anything else, such as a share."""
    found = re.fullmatch(r"\s*([0-9]+(?:[.][0-9]+)?)\s*([KMGT])i?B\s*", memory, re.IGNORECASE)
    return int(float(found[1]) * 1024 ** ("KMGT".index(found[2].upper()) - 1)) if found else None


def _said(error: BaseException) -> str:
    """What Spark says, without the values that it likes to quote."""
    text = str(error)
    if lost := re.search(r"executor [^)]*\): ([A-Za-z0-9_.$]+)", text):
        return f"a task failed on a worker with {lost[1]}"
    if isinstance(error, PySparkException) and error.getCondition():
        return str(error.getCondition())
    if causes := re.findall(r"^(?:: |Caused by: )([A-Za-z0-9_.$]+)", text, re.MULTILINE):
        return str(causes[-1])
    return re.sub(r"\s+", " ", text.splitlines()[0] if text else type(error).__name__)[:160]


@contextmanager
def cluster_errors(settings: Settings) -> Iterator[None]:
    """What stops the cluster is a LakeError."""
    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise LakeError(f"the cluster {settings.engine} stopped, nothing was written: {_said(error)}") from error


# ---- intake -------------------------------------------------------------------------------------------------


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
    """The same snapshot as `intake.fill_snapshot` writes, its rows judged and sorted by the workers.

    Raises HeaderError, FramingError, UnknownCode, LakeError; what was written by then is of no use.
    """
    engines = Engines(settings)
    try:
        sink = Sink(table_name, profile, files, made, work, activity=None)
        with ThreadPoolExecutor(settings.engine_threads, thread_name_prefix="intake") as pool:
            try:
                with cluster_errors(settings):
                    con = connect(settings)
                    headers = _stage(pool, engines, sink, profile, files, work, on_progress)
                    judged = _judge(con, profile, table_name, files, headers, folders, work, on_progress)
                    if judged is not None:
                        _add_counts(sink, judged)
                        sink.refuse_unknown()
                        _add_rows(con, sink, judged, table_name, files, work)
                    con.disconnect()
                return sink.finish(pool, engines)
            except BaseException:
                sink.abandon()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    finally:
        engines.close()


def _stage(
    pool: ThreadPoolExecutor,
    engines: Engines,
    sink: Sink,
    profile: Profile,
    files: list[SourceFile],
    work: Path,
    on_progress: Callable[[float], None],
) -> dict[int, list[str]]:
    """Each file's blocks as Parquet of texts, counted and held against what the file should hold; headers by file."""
    size, before = max(1, sum(file.size_bytes for file in files)), 0
    headers = {}
    for file_no, file in enumerate(files):
        folder = work / f"raw-{file_no}"
        folder.mkdir(mode=0o700)
        with open_rows(file) as rows:
            check_header(rows.header, file, profile)
            lay_down = _lay_down(rows, file, profile, engines, folder)
            for counted in in_order(pool, lay_down, rows.blocks()):
                sink.add(file_no, counted)
                on_progress((before + rows.done * file.size_bytes) / size / 2)
            sink.check_totals(file_no, file, rows)
        before += file.size_bytes
        if any(folder.iterdir()):
            headers[file_no] = rows.header
    return headers


def _lay_down(
    rows: Rows, file: SourceFile, profile: Profile, engines: Engines, folder: Path
) -> Callable[[Block], Judged]:
    by = [] if file.is_canonical else profile.looked_up_by(file.table_name)
    needed = {*table_profile(profile, file).used_columns(), *by}
    used = [f"c{n}" for n, name in enumerate(rows.header) if name in needed]

    def lay(block: Block) -> Judged:
        texts = rows.texts(block)
        counted = _judged(rows=texts.num_rows, totals=control_totals(engines.own(), rows, file, profile, texts))
        if "garbled" not in texts.column_names:
            texts = texts.append_column("garbled", pa.repeat(pa.scalar(False), texts.num_rows))
        if texts.num_rows:
            texts = texts.select([*used, "row_number", "garbled"])
            pq.write_table(texts, folder / f"{block.first_row:015}.parquet", compression="snappy", use_dictionary=False)
        return counted

    return lay


def _judge(
    con: Backend,
    profile: Profile,
    table_name: str,
    files: list[SourceFile],
    headers: Mapping[int, list[str]],
    folders: Mapping[str, Path],
    work: Path,
    on_progress: Callable[[float], None],
) -> ir.Table | None:
    """All rows after the rules, as files of the workers; None where there is no row."""
    known = {}
    for name, referred in references(table_name).items():
        known[referred] = _keys(con, folders[referred], referred, table_profile(profile, files[0]).lookups.get(name))
    parts = []
    for done, (file_no, header) in enumerate(headers.items(), start=1):
        raw = work / f"raw-{file_no}"
        judged = judge_rows(con.read_parquet(raw), header, file_no, files[file_no], profile, known)
        con.write_parts(judged, work / f"judged-{file_no}")
        shutil.rmtree(raw)
        parts.append(con.read_parquet(work / f"judged-{file_no}"))
        on_progress(0.5 + done / len(headers) / 2)
    return ibis.union(*parts) if parts else None


def _keys(con: Backend, folder: Path, referred: str, lookup: Lookup | None) -> ir.Table:
    """What `models.extracts.reference` asks of a snapshot that either engine made."""
    others = con.read_parquet(folder / "others.parquet")
    if lookup is not None:
        columns = [*OTHERS.names, f"by:{lookup.key}"]
        return con.read_parquet(folder / "lookups.parquet").select(columns).union(others.select(columns))
    accepted = con.read_parquet(folder / "accepted.parquet")
    accepted = accepted.select(
        key=accepted[id_column(referred)],
        verdict=ibis.literal("accepted", "string"),
        rule=ibis.literal("", "string"),
    )
    return accepted.union(others.select(OTHERS.names))


def _add_counts(sink: Sink, judged: ir.Table) -> None:
    """How many rows each rule met, and the codes that the profile does not know."""
    unknown = [column for column in judged.columns if column.startswith("unknown:")]
    counted = judged.group_by("file_no", "fault", "remark").aggregate(
        rows=judged.count(), **{column: judged[column].count() for column in unknown}
    )
    found = counted.to_pandas()
    for file_no, fault, remark, rows in zip(
        found["file_no"], found["fault"], found["remark"], found["rows"], strict=True
    ):
        faults = Counter({fault: int(rows)} if isinstance(fault, str) else {})
        remarks = Counter({remark: int(rows)} if isinstance(remark, str) and not faults else {})
        sink.add(int(file_no), _judged(faults=faults, remarks=remarks))
    for column in unknown:
        if found[column].sum():
            strange = judged.filter(judged[column].notnull())
            codes = strange.group_by(code=strange[column]).aggregate(rows=strange.count()).to_pandas()
            times = Counter({str(code): int(n) for code, n in zip(codes["code"], codes["rows"], strict=True)})
            sink.add(0, _judged(unknown={column.removeprefix("unknown:"): times}))


def _add_rows(con: Backend, sink: Sink, judged: ir.Table, table_name: str, files: list[SourceFile], work: Path) -> None:
    names = [file.name for file in files]
    has_bad = any(sink._faults.values())
    if has_bad:
        for batch in con.batches(rejected_rows(judged, names, table_name)):
            sink.add(0, _judged(rejected=_table(batch, REJECTED)))
    good = judged.filter(judged.fault.isnull())
    if sink._remarks:
        remarked = good.filter(good.remark.notnull())
        for batch in con.batches(rejected_rows(remarked.mutate(fault=remarked.remark), names, table_name)):
            sink.add(0, _judged(reported=_table(batch, REJECTED)))
    if is_referred_to(table_name):
        if has_bad:
            bad = judged.filter(judged.fault.notnull()).order_by("file_no", "row_number")
            for batch in con.batches(keys_of(bad, table_name)):
                sink.add(0, _judged(others=pa.Table.from_batches([batch])))
        if by := [column for column in judged.columns if column.startswith("by:")]:
            for batch in con.batches(good.select("row_number", "file_no", *by, key=good[id_column(table_name)])):
                looked_up = pa.Table.from_batches([batch]).rename_columns({"file_no": "_file", "row_number": "_row"})
                sink.add(0, _judged(lookups=looked_up.select(["key", *PLACES.names, *by])))
    good = _without_doubled(con, sink, good, table_name, names, work)
    columns, unique = list(TABLES[table_name].columns), list(TABLES[table_name].unique)
    rows = good.select(*columns, _file=good.file_no, _row=good.row_number)
    if columns[: len(unique)] != unique:
        rows, unique = rows.mutate(_line=line_of(rows, columns)), ["_line"]
    for batch in con.batches(rows, unique):
        _add_accepted(sink, _table(batch, accepted_schema(table_name, with_places=True)), table_name)


def _without_doubled(
    con: Backend, sink: Sink, good: ir.Table, table_name: str, names: list[str], work: Path
) -> ir.Table:
    """The rows without those that bear an id a second time, which the sink is told of."""
    con.write_parts(first_rows(good, table_name), work / "firsts")
    if not sum(pq.read_metadata(part).num_rows for part in (work / "firsts").glob("part-*.parquet")):
        return good
    firsts = con.read_parquet(work / "firsts")
    key = TABLES[table_name].unique[0]
    marked = reject_doubled(good, firsts, table_name)
    doubled = marked.filter(marked.fault == f"{DUPLICATE}{key}").select("file_no", "row_number", key)
    for batch in con.batches(doubled):
        file_nos = batch.column("file_no").to_pylist()
        constant = [pa.repeat(pa.scalar(text), batch.num_rows) for text in (key, "duplicate_id")]
        named = pa.array([names[n] for n in file_nos], pa.string())
        listed = pa.table([batch.column("row_number"), named, *constant, batch.column(key)], schema=REJECTED)
        sink.add(0, _judged(rejected=listed))
        sink._doubled.write(pa.table([batch.column("file_no"), batch.column("row_number")], schema=PLACES))
        for file_no, rows in Counter(file_nos).items():
            sink.add(file_no, _judged(faults=Counter({f"{DUPLICATE}{key}": rows})))
    return marked.filter(marked.fault.isnull())


def _add_accepted(sink: Sink, accepted: pa.Table, table_name: str) -> None:
    """Rows in their order; should a batch not follow the one before, the sink sorts and merges as it does on DuckDB."""
    if not accepted.num_rows:
        return
    accepted = accepted.combine_chunks()
    lines = lines_of(accepted, table_name)
    keys = sort_keys(accepted, table_name)
    keys = lines if keys is None else keys
    judged = _judged(accepted=accepted, lines=whole_text(lines))
    judged.first, judged.last = keys[0].as_py(), keys[-1].as_py()
    judged.is_rising = bool(pc.all(pc.less(keys.slice(0, len(keys) - 1), keys.slice(1))).as_py())
    sink.add(0, judged)


def _judged(**found: Any) -> Judged:
    fields: dict[str, Any] = {"rows": 0, "totals": {}, **found}
    return Judged(**fields)


def _table(batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_batches([batch]).select(schema.names).cast(schema)
