"""Which row a file belongs to that came with a return, and which rows stay open until their evidence is here."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from models.evidence import EvidenceKind, bare_name, names_written, still_missing
from models.outcomes import LEGAL_CONTENTS
from models.returns.frames import FRAMES
from models.returns.judged import content_sha256
from models.returns.opened import TRUNCATED, File, Opened
from models.row_code import ItemKind, RowKey, find_code
from models.sheets import CALLBACK, OPINION, SELF_CHECK, Sheet, find_rows

SHEET_OF: dict[ItemKind, Sheet] = {"assignment": CALLBACK, "case": SELF_CHECK, "opinion": OPINION}


def match_files(opened: Opened, keys: Sequence[RowKey]) -> dict[int, tuple[ItemKind, int]]:
    """The row each file belongs to, by part; files that name none, or were cut off on their way, are left out.

    By the row code in the file's name, else in the name of the nearest folder or archive it lay in, else by the row in
    whose evidence column its name is written; a name that several rows claim says nothing.
    """
    if not TRUNCATED.isdisjoint(opened.defects):
        return {}
    found: dict[int, tuple[ItemKind, int]] = {}
    nameless: list[File] = []
    for file in opened.files:
        codes = (find_code(name, keys) for name in (file.name, *reversed(file.folders)))
        item = next((code for code in codes if code is not None), None)
        if item is not None:
            found[file.part] = item
        elif file.name and not file.is_workbook:
            nameless.append(file)
    if nameless:
        claims = _claimed(opened, keys)
        for file in nameless:
            rows = claims.get(bare_name(file.name)) or claims.get(bare_name(file.name.rpartition(".")[0])) or set()
            if len(rows) == 1:
                found[file.part] = next(iter(rows))
    return found


def _claimed(opened: Opened, keys: Sequence[RowKey]) -> dict[str, set[tuple[ItemKind, int]]]:
    """The rows in whose evidence column a file name is written."""
    claims: dict[str, set[tuple[ItemKind, int]]] = {}
    for kind, sheet in SHEET_OF.items():
        for table in (table for workbook in opened.workbooks for table in workbook.sheets):
            for row in find_rows(sheet, table.rows, table.formulas, keys):
                if row.number is not None:
                    for name in names_written(row.cells.get("evidence_files", "")):
                        claims.setdefault(name, set()).add((kind, row.number))
    return claims


def hold_open(
    accepted: pd.DataFrame,
    sheet: Sheet,
    asked: Mapping[int, Collection[EvidenceKind]],
    held: Mapping[int, Collection[str]],
) -> pd.DataFrame:
    """Accepted rows with `awaits`: the kinds of evidence that are missing, joined by commas; such a row does not complete.

    asked: what the programme of each task asks for; held: what came for it already and now, see models.evidence.file_kind.
    """
    item = FRAMES[sheet.item].item
    rows = accepted.to_dict("records")
    for row in rows:
        number = int(row[item])
        missing = evidence_missing(sheet, row, asked.get(number, ()), held.get(number, ()))
        row["awaits"] = ",".join(missing)
        if missing:
            row["content_sha256"] = content_awaiting(row["content_sha256"], row["awaits"])
            if "completes" in row:
                row["completes"] = False
    return pd.DataFrame(rows, columns=[*accepted.columns, "awaits"])


def evidence_missing(
    sheet: Sheet, row: Mapping[Any, Any], asked: Collection[EvidenceKind], held: Collection[str]
) -> tuple[EvidenceKind, ...]:
    """What a row lacks; one that would not complete its task needs no evidence."""
    if not row.get("completes", True):
        return ()
    return still_missing(sheet.evidence_asked({str(key): value for key, value in row.items()}, asked), held)


def content_awaiting(content: str, awaits: str) -> str:
    """The hash of a row's content while evidence is missing, so that the same row with its evidence is another version."""
    return hashlib.sha256(f"{content}|{awaits}".encode()).hexdigest() if awaits else content


def content_of_booked(sheet: Sheet, number: int, row: Mapping[str, Any]) -> str:
    """The hash of a booked row's content as it was returned."""
    values = {column.key: row[column.key] for column in sheet.answer_columns if column.key not in LEGAL_CONTENTS}
    if sheet is CALLBACK:
        values |= {key: row[key] for key in ("answers", "completes", "fails")}
    return content_sha256(FRAMES[sheet.item].item, number, values)
