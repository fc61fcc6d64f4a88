"""The roster as it was written: each row with its place, whatever became of it, so that a person finds what to correct.

The accepted rows of a snapshot have lost their places and their odd signs; who looks for a wrong address needs both.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from models.canonical import TABLES
from models.delivery import form_for
from models.extracts import SourceFile, check_header, judge_rows, reference_columns, split_fault, table_profile
from models.profile import CANONICAL_FORM, Profile, canonical_table
from tasks.lake.engine import LakeError, open_engine
from tasks.lake.rows import open_rows
from tasks.settings import Settings

WRITTEN = "written.parquet"
ROSTER = "roster"
ROWS = pa.schema(
    [
        ("row_number", pa.int64()),
        ("file", pa.string()),
        ("branch_no", pa.string()),
        ("role", pa.string()),
        ("contact_name", pa.string()),
        ("email", pa.string()),
        ("email_written", pa.string()),
        ("valid_from", pa.date32()),
        ("valid_to", pa.date32()),
        ("reason", pa.string()),
        ("column", pa.string()),
    ]
)
"""email as the intake reads it, email_written as it stands in the file; the header is row 1. reason and column say why
the rules of a single row reject it, or nothing: whether a branch is known and whether a row stands twice is not asked here."""


def roster_rows(settings: Settings, profile: Profile, files: list[SourceFile]) -> pa.Table:
    """Every row of a roster's files but those that its profile ignores; see ROWS. Raises HeaderError, FramingError."""
    found = []
    with open_engine(settings) as con:
        for file_no, file in enumerate(files):
            with open_rows(file) as rows:
                check_header(rows.header, file, profile)
                for block in rows.blocks():
                    if (texts := rows.texts(block)).num_rows:
                        found.append(_judge(con, texts, rows.header, file_no, file, profile))
    return pa.concat_tables(found) if found else ROWS.empty_table()


def read_roster_file(settings: Settings, path: Path) -> pd.DataFrame:
    """The rows of a roster that is not pulled yet, in our own column names; see ROWS."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LakeError(f"{path}: {error.strerror}; give the path of the roster's file") from None
    profile = Profile(name=ROSTER, description=ROSTER, tables={ROSTER: canonical_table(ROSTER)})
    file = SourceFile(
        ROSTER, path.name, hashlib.sha256(content).hexdigest(), len(content), str(path),
        form_for(CANONICAL_FORM, path.name), is_canonical=True,
    )  # fmt: skip
    return to_frame(roster_rows(settings, profile, [file]))


def read_written_roster(settings: Settings, path: str) -> pd.DataFrame:
    """The rows of a snapshot's roster as they were written; of one pulled before they were kept, the accepted ones."""
    file = settings.lake / path / WRITTEN
    if file.is_file():
        return to_frame(pq.read_table(file))
    accepted = settings.lake / path / "accepted.parquet"
    if not accepted.is_file():
        raise LakeError(f"{accepted}: the snapshot is missing; run pull again with the files it was made from")
    known = pq.read_table(accepted)
    known = known.append_column("email_written", known.column("email"))
    for name in ("file", "reason", "column"):
        known = known.append_column(name, pa.repeat(pa.scalar(""), known.num_rows))
    known = known.append_column("row_number", pa.repeat(pa.scalar(0, pa.int64()), known.num_rows))
    return to_frame(known.select(ROWS.names).cast(ROWS))


def to_frame(rows: pa.Table) -> pd.DataFrame:
    """Rows as pandas has them: texts never null, dates as dates or None."""
    found: pd.DataFrame = rows.to_pandas(date_as_object=True)
    texts = [field.name for field in ROWS if field.type == pa.string()]
    return found.assign(**{name: found[name].fillna("") for name in texts})


def _judge(
    con: duckdb.DuckDBPyConnection, texts: pa.Table, header: list[str], file_no: int, file: SourceFile, profile: Profile
) -> pa.Table:
    kinds = {"row_number": "int64", "garbled": "boolean"}
    raw = ibis.table({name: kinds.get(name, "string") for name in texts.column_names}, name="block")
    # Whether a branch is known is asked later, of all branches there are; here a row is only read.
    judged = judge_rows(
        raw.mutate(**{name: ibis.null(kind) for name, kind in reference_columns(ROSTER).items()}),
        header, file_no, file, profile, None,
    )  # fmt: skip
    found = judged.select("row_number", "fault", *TABLES[ROSTER].columns)
    if source := table_profile(profile, file).column("email"):
        plain = raw.select("row_number", email_written=raw[f"c{header.index(source.source)}"])
        found = found.join(plain, "row_number")
    else:
        found = found.mutate(email_written=found.email)
    con.register("block", texts)
    rows = con.sql(str(ibis.to_sql(found.order_by("row_number"), dialect="duckdb", pretty=False))).to_arrow_table()
    con.unregister("block")
    faults = [split_fault(fault) if fault else ("", "", "") for fault in rows.column("fault").to_pylist()]
    faults = [
        ("", "", "") if rule in ("unknown_branch", "branch_not_accepted") else (v, rule, c) for v, rule, c in faults
    ]
    rows = rows.append_column("file", pa.repeat(pa.scalar(file.name), rows.num_rows))
    rows = rows.append_column("reason", pa.array([rule for _, rule, _ in faults], pa.string()))
    rows = rows.append_column("column", pa.array([column for _, _, column in faults], pa.string()))
    read = rows.filter(pa.array([verdict != "ignored" for verdict, _, _ in faults], pa.bool_()))
    return read.select(ROWS.names).cast(ROWS)
