"""What a pull would make of files, by the same rules, without a lake or a store: a trial in a folder that is removed.

Counts, places and shapes come out, never a text of a row.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa
import pyarrow.compute as pc
from ibis.backends.duckdb import Backend

from models import CallbackError
from models.canonical import REASONS, TABLES, allowed_codes, id_column, references
from models.delivery import DeliveryError, form_for, marker_of, matches, read_claims
from models.extracts import (
    DUPLICATE,
    SourceFile,
    canonical_texts,
    first_rows,
    judge_rows,
    keys_of,
    reject_doubled,
    split_fault,
)
from models.framing import FramingError, HeaderError
from models.known import ALL_NAMES, MEANINGS
from models.matching import find_table
from models.profile import Profile
from models.textform import plain_name, tell_header
from models.traits import Column, mask, show_code
from tasks.lake.engine import connect
from tasks.lake.probe import Found, OnProgress, bounded, read_look
from tasks.lake.rows import open_rows
from tasks.settings import Settings

LOOK_ROWS = 5_000
"""Rows by which the table of a file is told that no pattern names."""


@dataclass(frozen=True)
class Finding:
    """Rows that one rule ignores, rejects or reports."""

    verdict: str
    rule: str
    column: str
    rows: int
    first_row: int
    reason: str
    example: str = ""
    """The shape of the source's text in the first of the rows."""


@dataclass
class Trial:
    """One file through the profile."""

    name: str
    table: str
    """Empty when no table of the profile takes it."""
    mapped: dict[str, str] = field(default_factory=dict)
    """Source column by canonical one."""
    missing: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    """Why a pull would stop at this file."""
    notes: list[str] = field(default_factory=list)
    rows: int = 0
    is_whole: bool = True
    findings: list[Finding] = field(default_factory=list)
    unknown: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """Per canonical column the codes that the profile does not know, as they may be shown, with their rows."""
    rows_of_unknown: int = 0
    padded: dict[str, int] = field(default_factory=dict)
    """Per canonical column the ids that get lost zeros back."""
    blanked: dict[str, int] = field(default_factory=dict)
    """Per canonical column the texts that mean: no value."""
    not_compared: list[str] = field(default_factory=list)
    """Tables that this one refers to and that are not among the files, or were not read whole."""

    def count(self, verdict: str) -> int:
        return sum(finding.rows for finding in self.findings if finding.verdict == verdict)

    @property
    def accepted(self) -> int:
        return self.rows - self.count("ignored") - self.count("rejected") - self.rows_of_unknown

    @property
    def is_fine(self) -> bool:
        # A note on what could not be compared is nothing wrong with the file.
        return not (
            self.missing or self.unexplained or self.refusals or self.notes or self.unknown
            or self.count("rejected") or self.count("reported") or not self.table
        )  # fmt: skip


def try_files(
    settings: Settings,
    profile: Profile,
    found: list[Found],
    *,
    table: str | None = None,
    rows: int = 0,
    on_progress: OnProgress = lambda name, share: None,
) -> list[Trial]:
    """Each file through the profile, the first `rows` rows of each (0 = all). Raises CallbackError on wrong input.

    Nothing of it is kept: the engine works in a folder of its own that is removed.
    """
    if table is not None and table not in profile.tables:
        raise HeaderError(f"--table {table}: the profile {profile.name} has {', '.join(profile.tables)}")
    trials: list[Trial] = []
    by_table: dict[str, list[tuple[Trial, Found]]] = {}
    given = {Path(each.file.path).name for each in found}
    said = [complete for name in profile.tables if (complete := profile.form_of(name).complete) is not None]
    markers = {marker_of(complete, name) for complete in said for name in given}
    for each in found:
        if Path(each.file.path).name in markers:
            continue  # read beside the file that it is for
        trial = Trial(each.file.name, table or _table_of(profile, each))
        trials.append(trial)
        if not trial.table:
            trial.notes.append("no table of the profile takes it; a pull leaves it alone. Name it with --table")
            continue
        by_table.setdefault(trial.table, []).append((trial, each))
    folder = Path(tempfile.mkdtemp(prefix="huifang-check-"))
    try:
        con = connect(settings.model_copy(update={"home": folder, "engine": "duckdb"}))
        present = set(by_table)
        try:
            for name in (name for name in TABLES if name in by_table):
                _Table(con, profile, name, by_table[name], present, rows, on_progress).judge()
        finally:
            con.disconnect()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return trials


def _table_of(profile: Profile, found: Found) -> str:
    """The table whose patterns name the file, else the one that its columns tell; empty where there is none."""
    outer = Path(found.file.path).name
    named = [
        table
        for table, declared in profile.tables.items()
        if any(matches(pattern.rpartition("/")[2], outer) for pattern in declared.files)
    ]
    if len(named) > 1:
        raise DeliveryError(f"{outer}: matches the files of both {named[0]} and {named[1]}; change the profile")
    if named:
        return named[0]
    table, _ = find_table(read_look(found, LOOK_ROWS))
    return table if table in profile.tables else ""


class _Table:
    """All files of one table, judged into the engine; what later tables need of it stays there."""

    def __init__(
        self,
        con: Backend,
        profile: Profile,
        table: str,
        files: list[tuple[Trial, Found]],
        present: set[str],
        rows: int,
        on_progress: OnProgress,
    ) -> None:
        self._con, self._profile, self._name, self._files = con, profile, table, files
        self._declared, self._schema = profile.tables[table], TABLES[table]
        self._present, self._limit, self._on_progress = present, rows, on_progress
        self._examples: dict[tuple[int, str], str] = {}
        self._codes: dict[tuple[int, str], Column] = {}
        self._is_made = False

    @property
    def _engine(self) -> duckdb.DuckDBPyConnection:
        engine: duckdb.DuckDBPyConnection = self._con.con
        return engine

    def judge(self) -> None:
        for file_no, (trial, found) in enumerate(self._files):
            file = self._described(trial, found)
            trial.not_compared = [t for t in dict.fromkeys(references(self._name).values()) if t not in self._present]
            try:
                self._read(file_no, trial, file)
            except CallbackError as error:
                trial.refusals.append(str(error))
                trial.is_whole = False
        if self._is_made:
            self._finish()
        else:
            self._present.discard(self._name)

    def _described(self, trial: Trial, found: Found) -> SourceFile:
        """The file as a pull would open it, with what a marker beside it says."""
        form = self._profile.form_of(self._name)
        outer = Path(found.file.path)
        form = form_for(form, found.file.name)
        if form.format != (found.file.form.format or "text"):
            trial.notes.append(f"is {found.file.form.format or 'text'}; the profile reads it as {form.format}")
        text = found.text
        if text is not None and form.format == "text":
            same = {"utf-8-sig": "utf-8", "gbk": "gb18030"}
            ours, theirs = (same.get(e or "", e) for e in (form.encoding, text.form.encoding))
            if ours != theirs and not text.is_ascii:
                trial.notes.append(f"looks like {theirs}; the profile says {ours}")
            if form.delimiter != text.form.delimiter and len(text.header) > 1:
                trial.notes.append(
                    f"columns are separated by {text.form.delimiter!r}; the profile says {form.delimiter!r}"
                )
            if text.has_header and form.header is not None:
                trial.notes.append(
                    "the first line looks like column names; the profile says that there is no such line"
                )
        file = replace(found.file, table_name=self._name, form=form)
        complete = form.complete
        marker = marker_of(complete, outer.name) if complete is not None else None
        if complete is None or marker is None:
            return file
        beside = outer.parent / marker
        if not beside.is_file():
            trial.refusals.append(f"is not complete yet: {marker} does not lie beside it")
            return file
        try:
            said = beside.read_bytes()[: 1 << 20].decode(form.encoding or "utf-8", "replace")
            claims = read_claims(complete, outer.name, said, marker)
            hashes = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
            if claims.md5 or claims.sha256:
                with outer.open("rb") as raw:
                    while block := raw.read(1 << 20):
                        for digest in hashes.values():
                            digest.update(block)
            claims.check_bytes(
                outer.name,
                size_bytes=file.size_bytes,
                md5=hashes["md5"].hexdigest() if claims.md5 else None,
                sha256=hashes["sha256"].hexdigest() if claims.sha256 else claims.sha256 or "",
            )
        except DeliveryError as error:
            trial.refusals.append(str(error))
            return file
        return replace(file, expected=claims.expected)

    def _read(self, file_no: int, trial: Trial, file: SourceFile) -> None:
        with open_rows(file) as source:
            if not self._check_columns(trial, source.header):
                return
            statements: dict[bool, tuple[str, str]] = {}
            for texts, is_cut in bounded(source, self._limit):
                trial.is_whole = not is_cut
                is_garbled = "garbled" in texts.column_names
                if is_garbled not in statements:
                    statements[is_garbled] = self._statements(source.header, file_no, file, is_garbled)
                self._judge_block(file_no, trial, source.header, texts, statements[is_garbled])
                trial.rows += texts.num_rows
                self._on_progress(file.name, source.done)
            expected = source.expected
            if trial.is_whole and expected is not None and expected.rows not in (None, trial.rows):
                trial.refusals.append(f"{expected.said_by} says {expected.rows:,} rows, the file has {trial.rows:,}")

    def _check_columns(self, trial: Trial, header: list[str]) -> bool:
        """Compares the header with the profile; whether the rows can be judged at all."""
        declared = self._declared.as_found(self._name, header)
        needed = list(dict.fromkeys([*declared.used_columns(), *self._profile.looked_up_by(self._name)]))
        trial.missing = [name for name in needed if name not in header]
        strange = [name for name in header if name not in needed and name not in declared.ignore_columns]
        # A first line that is no header could be anybody's row.
        is_header, _ = tell_header(header, [], ALL_NAMES | {plain_name(name) for name in needed})
        shown = strange if is_header else [mask(name) for name in strange]
        trial.unexplained = [] if "*" in declared.ignore_columns else shown
        trial.mapped = {
            name: source.source
            for name in self._schema.columns
            if (source := declared.column(name)) is not None and source.source in header
        }
        if not is_header and trial.missing:
            trial.notes.append(
                "the first line looks like data and not like column names; give form.header in the profile"
            )
        if gone := [name for name in declared.ignore_columns if name != "*" and name not in header]:
            trial.refusals.append(f"ignore_columns names {', '.join(gone)}, which the header lacks")
        if len(set(header)) < len(header):
            trial.refusals.append("the header names a column more than once")
            return False
        return not trial.missing

    def _statements(self, header: list[str], file_no: int, file: SourceFile, is_garbled: bool) -> tuple[str, str]:
        """The SQL that judges a block, and the SQL that counts what its texts are turned into."""
        columns = {f"c{i}": "string" for i in range(len(header))} | {"row_number": "int64"}
        columns |= {"garbled": "boolean"} if is_garbled else {}
        raw = ibis.table(columns, name="block")
        known = {
            referred: ibis.table(self._key_columns(referred), name=f"keys_{referred}")
            for referred in references(self._name).values()
        }
        judged = judge_rows(raw, header, file_no, file, self._profile, known)
        kept = [*self._schema.unique, *(c for c in judged.columns if c.startswith(("unknown:", "by:")))]
        judged = judged.select("file_no", "row_number", "fault", "remark", *dict.fromkeys(kept))
        texts = canonical_texts(raw, header, file, self._profile)
        counts: dict[str, Any] = {"rows": texts.count()}
        declared = self._declared.as_found(self._name, header)
        for name in self._schema.columns:
            source = declared.column(name)
            if source is None or source.codes or allowed_codes(self._schema.columns[name]) is not None:
                continue
            text, value = texts[f"text:{name}"], texts[f"value:{name}"]
            counts[f"blank:{name}"] = (text.notnull() & value.isnull()).sum()
            if source.width:
                counts[f"width:{name}"] = (value.length() > text.length()).sum()
        refer = {f"value:{name}": texts[f"value:{name}"] for name in references(self._name)}
        self._refer = str(ibis.to_sql(texts.select(**refer), dialect="duckdb", pretty=False)) if refer else ""
        return (
            str(ibis.to_sql(judged, dialect="duckdb", pretty=False)),
            str(ibis.to_sql(texts.aggregate(**counts), dialect="duckdb", pretty=False)),
        )

    def _key_columns(self, referred: str) -> dict[str, str]:
        by = self._profile.looked_up_by(referred)
        return {"key": "string", "verdict": "string", "rule": "string"} | {f"by:{column}": "string" for column in by}

    def _judge_block(
        self, file_no: int, trial: Trial, header: list[str], texts: pa.Table, statements: tuple[str, str]
    ) -> None:
        judge, count = statements
        self._engine.register("block", texts)
        self._stand_in()
        make = "INSERT INTO" if self._is_made else "CREATE TABLE"
        into = f'{make} "judged_{self._name}"{"" if self._is_made else " AS"}'
        first = texts.column("row_number")[0].as_py() if texts.num_rows else 0
        self._engine.execute(f"{into} {judge}")
        self._is_made = True
        counted = self._engine.sql(count).to_arrow_table().to_pylist()[0]
        for key, times in counted.items():
            kind, _, name = key.partition(":")
            if kind in ("blank", "width") and times:
                target = trial.blanked if kind == "blank" else trial.padded
                target[name] = target.get(name, 0) + int(times)
        for name in self._schema.columns:
            source = self._declared.column(name)
            if source is not None and allowed_codes(self._schema.columns[name]) is not None:
                column = self._codes.setdefault((file_no, name), Column(source.source))
                counts = pc.value_counts(texts.column(header.index(source.source)))
                column.add(
                    dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
                )
        self._take_examples(file_no, header, texts, first)
        self._engine.unregister("block")

    def _stand_in(self) -> None:
        """For a table that is not among the files, the ids that this block names: all of them are taken for accepted."""
        for name, referred in references(self._name).items():
            if referred in self._present:
                continue
            value = f'"value:{name}"'
            by = "".join(f', {value} AS "by:{column}"' for column in self._profile.looked_up_by(referred))
            self._engine.execute(
                f"CREATE OR REPLACE TABLE \"keys_{referred}\" AS SELECT DISTINCT {value} AS key, 'accepted' AS verdict, "
                f"'' AS rule{by} FROM ({self._refer}) WHERE {value} IS NOT NULL"
            )

    def _take_examples(self, file_no: int, header: list[str], texts: pa.Table, first: int) -> None:
        rows = self._engine.execute(
            f'SELECT fault, min(row_number) FROM "judged_{self._name}" WHERE file_no = ? AND row_number >= ? '
            "AND fault LIKE 'rejected%' GROUP BY fault UNION ALL "
            f'SELECT remark, min(row_number) FROM "judged_{self._name}" WHERE file_no = ? AND row_number >= ? '
            "AND remark IS NOT NULL AND fault IS NULL GROUP BY remark",
            [file_no, first, file_no, first],
        ).fetchall()
        for fault, row in rows:
            _, _, name = split_fault(fault)
            source = self._declared.column(name) if name else None
            lookup = self._declared.lookups.get(name)
            text_column = source.source if source else lookup.source if lookup else None
            if (file_no, fault) in self._examples or text_column is None:
                continue
            at = pc.index(texts.column("row_number"), row).as_py()
            self._examples[file_no, fault] = mask((texts.column(header.index(text_column))[at].as_py() or "")[:40])

    def _finish(self) -> None:
        table = self._con.table(f"judged_{self._name}")
        final = reject_doubled(table, first_rows(table, self._name), self._name)
        sql = str(ibis.to_sql(final, dialect="duckdb", pretty=False))
        self._engine.execute(f'CREATE TABLE "final_{self._name}" AS {sql}')
        for file_no, (trial, _) in enumerate(self._files):
            self._count(file_no, trial)
        if not all(trial.is_whole for trial, _ in self._files):
            self._present.discard(self._name)  # an id may stand in the rows that were not read
        elif id_column(self._name) is not None:
            keys = keys_of(self._con.table(f"final_{self._name}"), self._name)
            sql = str(ibis.to_sql(keys, dialect="duckdb", pretty=False))
            self._engine.execute(f'CREATE OR REPLACE TABLE "keys_{self._name}" AS {sql}')
        self._engine.execute(f'DROP TABLE "judged_{self._name}"; DROP TABLE "final_{self._name}"')

    def _count(self, file_no: int, trial: Trial) -> None:
        reasons: Mapping[str, str] = REASONS | self._profile.ignore_reasons()
        coded = [f'"unknown:{name}"' for number, name in self._codes if number == file_no]
        is_known = f"coalesce({', '.join(coded)}) IS NULL" if coded else "true"
        (trial.rows_of_unknown,) = self._engine.execute(
            f'SELECT count(*) FILTER (NOT ({is_known})) FROM "final_{self._name}" WHERE file_no = ?', [file_no]
        ).fetchone() or (0,)
        for column, is_remark in (("fault", False), ("remark", True)):
            only = " AND fault IS NULL" if is_remark else ""
            for fault, rows, first in self._engine.execute(
                f'SELECT {column}, count(*), min(row_number) FROM "final_{self._name}" '
                f"WHERE file_no = ? AND {is_known} AND {column} IS NOT NULL{only} GROUP BY 1 ORDER BY 2 DESC, 1",
                [file_no],
            ).fetchall():
                verdict, rule, name = split_fault(fault)
                verdict = "reported" if is_remark else verdict
                example = "" if fault.startswith(DUPLICATE) else self._examples.get((file_no, fault), "")
                trial.findings.append(Finding(verdict, rule, name, rows, first, reasons.get(rule, rule), example))
        for (number, name), codes in self._codes.items():
            if number != file_no:
                continue
            unknown = self._engine.execute(
                f'SELECT "unknown:{name}", count(*) FROM "final_{self._name}" WHERE file_no = ? '
                f'AND "unknown:{name}" IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1',
                [file_no],
            ).fetchall()
            words = MEANINGS.get((self._name, name), {})
            if unknown:
                trial.unknown[name] = [
                    (show_code(code, is_code_column=codes.is_codes, words=words), times) for code, times in unknown
                ]
        rejected = trial.count("rejected")
        if rejected * 100 > self._profile.stop_above_rejected_pct * max(1, trial.rows):
            trial.refusals.append(
                f"{rejected:,} of {trial.rows:,} rows are rejected, more than the "
                f"{self._profile.stop_above_rejected_pct:g} % of stop_above_rejected_pct"
            )


__all__ = ["Finding", "FramingError", "Trial", "try_files"]
