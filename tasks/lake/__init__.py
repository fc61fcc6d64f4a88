"""The lake and its engine: immutable Parquet snapshots, made from extracts by the rules of `models.extracts`.

The only place that knows the engine, how raw files are read, and how a snapshot lies on disk. Which rows are right is
not decided here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from math import floor
from pathlib import Path
from types import MappingProxyType

import duckdb
import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from models import sampling
from models.canonical import REASONS, references
from models.extracts import SourceFile, split_fault
from models.frame import activity, contradictions, drawing_frame, with_staff_phone
from models.framing import FramingError
from models.profile import Profile
from models.recall import without_recalled
from models.roster import usable_on
from tasks.lake.engine import (
    LakeError,
    cluster,
    connect,
    connect_here,
    engine,
    is_cluster,
    keep,
    make_folder,
    sql_of,
    sync,
    text_pieces,
    text_sha256,
    write_in_order,
    write_table,
)
from tasks.lake.intake import Outcome, fill_snapshot
from tasks.lake.probe import OnProgress, find_files, read_look
from tasks.lake.trial import Trial, try_files
from tasks.lake.written import ROSTER, WRITTEN, read_roster_file, read_written_roster, roster_rows
from tasks.settings import Settings

__all__ = [
    "FramingError", "IntakeResult", "LakeError", "OnProgress", "SourceCount", "Tally", "Trial", "codes_of", "connect",
    "counts_of", "customers_of", "draw_from", "find_files", "keep", "names_of", "open_activity", "open_file", "open_table",
    "read_look", "read_rejected", "read_reported", "read_roster", "read_roster_file", "read_staff",
    "read_text", "read_written_roster", "relations_of", "sql_of",
    "staff_phones_of", "take_in", "text_pieces", "text_sha256", "try_files", "usable_contacts", "write_in_order", "write_table",
    "write_text",
]  # fmt: skip

log = logging.getLogger(__name__)

LARGE_FRAME = 1_000_000
"""Customers; the engine alone is as fast on fewer."""
SEED_BYTES = 64
"""A seed of DRAW 14 and 15, whose hash with an id takes two blocks; the first is the same for everybody."""


@dataclass(frozen=True)
class Tally:
    """How many rows one rule ignored, rejected or reported, and what the rule says."""

    verdict: str
    """ignored | rejected | reported"""
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
    reported: int = 0
    """Accepted rows that say something odd; no part of the balance."""


def take_in(
    settings: Settings,
    profile: Profile,
    table_name: str,
    files: list[SourceFile],
    *,
    as_of: date,
    known: dict[str, str],
    on_progress: Callable[[float], None] | None = None,
) -> IntakeResult:
    """The snapshot of one table from its files; a second call with the same files finds the same folder.

    `known` maps each table taken in before to its lake path; those this table refers to must be among them.
    `on_progress` is told the share of the bytes read. Nothing is left in the lake when it fails. Raises HeaderError,
    UnknownCode, FramingError, LakeError.
    """
    if not files:
        raise LakeError(f"{table_name}: no file to take in; the profile {profile.name} or --roster must name one")
    referred = sorted(set(references(table_name).values()))
    if missing := [name for name in referred if name not in known]:
        raise LakeError(
            f"{table_name} refers to {', '.join(missing)}: the profile {profile.name} must list those tables too"
        )
    with _work_folder(settings) as work, _engine_errors(settings):
        made = work / "snapshot"
        made.mkdir(mode=0o700)
        folders = {name: settings.lake / known[name] for name in referred}
        fill = cluster(settings).fill_snapshot if is_cluster(settings) else fill_snapshot
        outcome = fill(settings, profile, table_name, files, folders, made, work, on_progress or (lambda share: None))
        if table_name == "transactions" and not (made / "activity.parquet").exists():
            with engine(settings) as con:
                traded = activity(con.read_parquet(str(made / "accepted.parquet")))
                write_table(con, traded, made / "activity.parquet", ["customer_id"])
        if table_name == ROSTER:
            pq.write_table(roster_rows(settings, profile, files), made / WRITTEN)
        with engine(settings, here=True) as con:
            rejected_sha256 = _hash_of(con, made / "rejected.parquet")
            # Equal accepted rows may stand beside different others: the folder is named by all of them.
            rest = hashlib.sha256(rejected_sha256.encode())
            for name in ("others", "lookups", "reported", "written"):
                if (made / f"{name}.parquet").exists():
                    rest.update(_hash_of(con, made / f"{name}.parquet").encode())
        for file in made.iterdir():
            file.chmod(0o600)
            sync(file)
        folder = Path(table_name) / as_of.isoformat() / f"{outcome.content_sha256[:12]}-{rest.hexdigest()[:8]}"
        _publish(made, settings.lake / folder)
    result = _count(outcome, table_name, files, profile, str(folder), rejected_sha256)
    if not result.rows:
        log.warning("intake %s: the files hold a header and no row", table_name)
    log.info(
        "intake %s: %s rows = %s accepted + %s ignored + %s rejected%s",
        table_name, result.rows, result.accepted, result.ignored, result.rejected,
        "" if outcome.was_sorted else " (ids did not rise; sorted)",
    )  # fmt: skip
    return result


@contextmanager
def _engine_errors(settings: Settings) -> Iterator[None]:
    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException, pa.ArrowMemoryError) as error:
        raise LakeError(f"the engine stopped, nothing was written: {str(error).splitlines()[0]}") from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        free = shutil.disk_usage(settings.lake).free
        raise LakeError(
            f"{settings.lake}: the disk is full ({free:,} bytes free), nothing was written; make room and pull again"
        ) from error


def _hash_of(con: Backend, file: Path) -> str:
    """The text hash of a small file; of an empty one without the engine, whose start costs more."""
    if pq.read_metadata(file).num_rows == 0:
        return hashlib.sha256((",".join(pq.read_schema(file).names) + "\n").encode()).hexdigest()
    return text_sha256(con, con.read_parquet(str(file)))


def open_table(settings: Settings, path: str, con: Backend | None = None) -> ir.Table:
    """The accepted rows of a snapshot, on `con` where they are to be joined with others."""
    return _open(settings, path, "accepted", con or connect(settings))


def read_rejected(settings: Settings, path: str, first: int | None = None) -> pd.DataFrame:
    """The rejected rows of a snapshot: row_number (the header is row 1), file, column, reason, key; by file and row."""
    return _read_listed(settings, path, "rejected", first)


def read_reported(settings: Settings, path: str, first: int | None = None) -> pd.DataFrame:
    """The accepted rows of a snapshot that say something odd, in the columns of `read_rejected`."""
    return _read_listed(settings, path, "reported", first)


def _read_listed(settings: Settings, path: str, which: str, first: int | None) -> pd.DataFrame:
    file = settings.lake / path / f"{which}.parquet"
    if not file.is_file():
        raise LakeError(f"{file}: the snapshot is missing; run pull again with the files it was made from")
    with pq.ParquetFile(file) as listed:
        batches = listed.iter_batches(batch_size=first or 65_536)
        rows = list(batches if first is None else itertools.islice(batches, 1))
        frame: pd.DataFrame = pa.Table.from_batches(rows, listed.schema_arrow).to_pandas()
    return frame


def write_contradictions(
    settings: Settings, customers: str, transactions: str | None, as_of: date
) -> tuple[dict[str, int], Path]:
    """How many customers of a snapshot contradict themselves, by kind, and the file that names them: kind, customer_id."""
    with engine(settings) as con:
        traded = open_activity(settings, transactions, con) if transactions else None
        kinds = contradictions(open_table(settings, customers, con), traded, as_of)
        named = ibis.union(
            *(t.mutate(kind=ibis.literal(kind)).select("kind", "customer_id") for kind, t in kinds.items())
        )
        place = "-".join(path.rsplit("/", 1)[-1] for path in (customers, transactions) if path)
        file = settings.lake / "contradictions" / as_of.isoformat() / f"{place}.parquet"
        written = write_table(con, named, file, ["kind", "customer_id"])
        counts = written.group_by("kind").aggregate(customers=written.count()).to_pandas()
    return dict(zip(counts["kind"], (int(n) for n in counts["customers"]), strict=True)), file


def open_activity(settings: Settings, path: str, con: Backend) -> ir.Table:
    """What each customer did in a snapshot of transactions; see `models.frame.activity`."""
    return _open(settings, path, "activity", con)


def _open(settings: Settings, path: str, which: str, con: Backend) -> ir.Table:
    file = settings.lake / path / f"{which}.parquet"
    if not file.is_file():
        raise LakeError(f"{file}: the snapshot is missing; run pull again with the files it was made from")
    return con.read_parquet(str(file))


@contextmanager
def _work_folder(settings: Settings) -> Iterator[Path]:
    """A folder of one's own beside the snapshots; what a killed run left behind is removed first."""
    root = settings.lake / ".work"
    make_folder(root)
    with ExitStack() as ours:
        with _alone(root):  # nobody is between making a folder and locking it
            for left in root.glob("intake-*"):
                if not _is_held(left):
                    log.warning("removing %s, left by a run that did not end", left.name)
                    shutil.rmtree(left)
            work = Path(tempfile.mkdtemp(prefix="intake-", dir=root))
            fcntl.flock(ours.enter_context((work / "lock").open("wb")), fcntl.LOCK_EX)
        try:
            yield work
        finally:
            with _alone(root):
                shutil.rmtree(work)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One process at a time makes and removes work folders."""
    (root / "lock").touch(mode=0o600)
    with (root / "lock").open("rb") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        yield


def _is_held(work: Path) -> bool:
    """Whether the run that made a work folder lives: it holds the lock in it to its end."""
    try:
        with (work / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # killed before it was locked, or while it was removed
        return False
    return False


def _publish(made: Path, folder: Path) -> None:
    """Moves a finished snapshot to its place; what lies there already has the same content and stays."""
    make_folder(folder.parent)
    if folder.is_dir():
        log.warning("snapshot %s is there already; kept as it is", folder.name)
        return
    sync(made)
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # another run was faster
            raise
    sync(folder.parent)


# ---- counts -------------------------------------------------------------------------------------------------


def _count(
    outcome: Outcome, table_name: str, files: list[SourceFile], profile: Profile, path: str, rejected_sha256: str
) -> IntakeResult:
    reasons = REASONS | profile.ignore_reasons()
    by_rule: Counter[tuple[str, str, str]] = Counter()
    sources = []
    for file_no, file in enumerate(files):
        counts: Counter[str] = Counter()
        for fault, rows in outcome.faults[file_no].items():
            verdict, rule, column = split_fault(fault)
            by_rule[verdict, rule, column] += rows
            counts[verdict] += rows
        rows = outcome.rows[file_no]
        accepted = rows - counts["ignored"] - counts["rejected"]
        sources.append(
            SourceCount(file.name, file.sha256, file.size_bytes, rows, accepted, counts["ignored"], counts["rejected"])
        )
    for remark, rows in outcome.remarks.items():
        _, rule, column = split_fault(remark)
        by_rule["reported", rule, column] += rows
    return IntakeResult(
        table_name, path, outcome.content_sha256, rejected_sha256,
        rows=sum(s.rows for s in sources), accepted=sum(s.accepted for s in sources),
        ignored=sum(s.ignored for s in sources), rejected=sum(s.rejected for s in sources),
        reported=sum(outcome.remarks.values()),
        tallies=[Tally(*key, rows, reasons[key[1]]) for key, rows in sorted(by_rule.items())], files=sources,
    )  # fmt: skip


# ---- small look-ups for the flows --------------------------------------------------------------------------


def open_file(settings: Settings, path: str, con: Backend) -> ir.Table:
    """A table that write_table wrote, by its path below the lake."""
    file = settings.lake / path
    if not file.is_file():
        raise LakeError(f"{file}: is missing; restore the lake from its backup")
    return con.read_parquet(str(file))


def draw_from(
    settings: Settings, path: str, con: Backend, taken: ir.Table, places: pd.DataFrame, seed: str
) -> ir.Table:
    """What `models.sampling.draw` draws from the frame at a path; of a large one it is given only the low tickets."""
    frozen, file = open_file(settings, path, con), settings.lake / path
    customers = pq.read_metadata(file).num_rows
    if con.name == "duckdb" and customers >= LARGE_FRAME and len(seed.encode()) == SEED_BYTES:
        low = _low_tickets(settings, file, frozen, customers, taken, places, seed)
        if low is not None:
            return sampling.draw(low, taken, ibis.memtable(places), seed, slack=None)
    return sampling.draw(drawing_frame(frozen, None), taken, ibis.memtable(places), seed)


def _low_tickets(
    settings: Settings, file: Path, frozen: ir.Table, customers: int, taken: ir.Table, places: pd.DataFrame, seed: str
) -> ir.Table | None:
    """The customers below the bound of their stratum; None where a stratum's may not suffice."""
    from tasks.lake import tickets  # with a compiler whose start takes half a second

    def count(table: ir.Table) -> dict[tuple[str, str], int]:
        counted = table.group_by(tickets.STRATUM).aggregate(customers=table.count()).execute()
        return {(group, key): int(n) for group, key, n in counted.itertuples(index=False)}

    sizes = count(frozen)
    # Counting who is left takes as long as hashing all. A stratum may have lost twice the share that all have lost.
    lost = Fraction(2 * int(taken.count().execute()), customers)
    needed = {
        (group, key): sample + reserve
        for group, key, sample, reserve in places[[*tickets.STRATUM, "places", "reserve"]].itertuples(index=False)
        if sample + reserve and (group, key) in sizes
    }
    bounds = {key: sampling.ticket_bound(n, floor(sizes[key] * (1 - lost))) for key, n in needed.items()}
    low = ibis.memtable(tickets.low_rows(file, seed, bounds, settings.engine_threads))
    found = count(low.anti_join(taken, tickets.ID))
    is_whole = 2**32
    if any(bounds[key] < is_whole and found.get(key, 0) < n for key, n in needed.items()):
        log.warning("%s: some strata lost far more customers than others; the engine hashes all", file.parent.name)
        return None
    return low


def read_roster(settings: Settings, path: str) -> pd.DataFrame:
    """The accepted roster of a snapshot: branch_no, role, contact_name, email, valid_from, valid_to (None when open)."""
    return _read_small(settings, path)


def usable_contacts(
    settings: Settings,
    roster_path: str,
    staff_path: str | None,
    day: date,
    recalled: Mapping[tuple[str, str], date] = MappingProxyType({}),
) -> pd.DataFrame:
    """Who may be written to on a day by the snapshots of roster and staff; see models.roster.usable_on.

    recalled: addresses that a branch's mail was recalled from; see models.recall.without_recalled.
    """
    staff = read_staff(settings, staff_path) if staff_path else None
    named = without_recalled(_read_small(settings, roster_path), recalled)
    return usable_on(named, day, staff=staff, domains=settings.company_domains)


def customers_of(settings: Settings, path: str, ids: pd.Series[str]) -> pd.DataFrame:
    """Name and phone ('' where there is none) of some customers of a snapshot, indexed by customer_id.

    Raises LakeError when one of them is not in it.
    """
    con = connect_here(settings)
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


def relations_of(settings: Settings, path: str, ids: pd.Series[str]) -> pd.DataFrame:
    """The relations of some customers in a snapshot: customer_id, staff_id, kind, valid_from, valid_to (None when open)."""
    con = connect_here(settings)
    wanted = ibis.memtable(
        pd.DataFrame({"customer_id": pd.Series(ids, dtype="str").unique()}), schema={"customer_id": "string"}
    )
    columns = ["customer_id", "staff_id", "kind", "valid_from", "valid_to"]
    held = open_table(settings, path, con).semi_join(wanted, "customer_id").select(columns)
    found: pd.DataFrame = held.to_pandas()
    return found.sort_values(columns[:4], ignore_index=True)


def staff_phones_of(
    settings: Settings, path: str, staff_path: str, ids: pd.Series[str]
) -> list[tuple[str, date | None, date | None]]:
    """Some customers of a snapshot whose phone is one of staff: number, first and last day of that person, None if open.

    No phone leaves the engine.
    """
    con = connect_here(settings)
    wanted = ibis.memtable(
        pd.DataFrame({"customer_id": pd.Series(ids, dtype="str").unique()}), schema={"customer_id": "string"}
    )
    asked = open_table(settings, path, con).semi_join(wanted, "customer_id")
    found = with_staff_phone(asked, open_table(settings, staff_path, con)).to_pyarrow().to_pylist()
    return sorted(((row["customer_id"], row["valid_from"], row["valid_to"]) for row in found), key=str)


def read_staff(settings: Settings, path: str) -> pd.DataFrame:
    """The accepted staff of a snapshot: staff_id, staff_name, branch_no, kind, valid_from, valid_to (None when open)."""
    return _read_small(settings, path, ["staff_id", "staff_name", "branch_no", "kind", "valid_from", "valid_to"])


def write_text(settings: Settings, path: str, text: str) -> None:
    """A text of the lake, whole or not at all; a second call with the same text changes nothing."""
    file = settings.lake / path
    make_folder(file.parent)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.chmod(0o600)
        sync(temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def read_text(settings: Settings, path: str) -> str:
    """A text that write_text wrote. Raises LakeError when it is missing or no text."""
    file = settings.lake / path
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LakeError(f"{file}: cannot be read ({error}); restore the lake from its backup") from None


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


def codes_of(settings: Settings, path: str, ids: pd.Series[str]) -> pd.DataFrame:
    """Group and stratum of some customers as a frame has them: customer_id, group_key, stratum; others are left out."""
    con = connect_here(settings)
    wanted = ibis.memtable(
        pd.DataFrame({"customer_id": pd.Series(ids, dtype="str").unique()}), schema={"customer_id": "string"}
    )
    frozen = open_file(settings, path, con).semi_join(wanted, "customer_id")
    found: pd.DataFrame = frozen.select("customer_id", "group_key", "stratum").to_pandas()
    return found.sort_values("customer_id", ignore_index=True)


def counts_of(settings: Settings, path: str, column: str) -> dict[str, int]:
    """Rows of a written table by the values of a column."""
    con = connect_here(settings)
    table = open_file(settings, path, con)
    found: pd.DataFrame = table.group_by(column).aggregate(rows=table.count()).to_pandas()
    return {str(key): int(n) for key, n in zip(found[column], found["rows"], strict=True)}
