"""Which rows of a return count, and what is wrong with the others: one loop over the columns a sheet declares.

Knows no mailbox, file, password or table of the store. Must stay out: whose message it is (senders.py).
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any, Literal

import pandas as pd

from models.cells import mask_phone, read_choice, read_count, read_day, read_time
from models.outcomes import LEGAL_CONTENTS, Language, settle
from models.returns.callers import bare_name, fault_of_caller
from models.returns.frames import FRAMES, Judgement, rows_of
from models.returns.opened import TRUNCATED, Opened
from models.row_code import ItemKind, RowKey
from models.sheets import CALLBACK, SHEETS, Column, FoundRow, Sheet, find_rows

Verdict = Literal["accepted", "partly", "rejected"]

MAX_TEXT = 2000
"""Signs a text cell may hold; a cell of a workbook ends at 32,767."""


@dataclass
class _Row:
    """One row under judgement: what was understood and what was not."""

    sheet: str
    found: FoundRow
    depth: int = 0
    """As that of its workbook: a row in the message itself counts before the same one in a message it carries."""
    values: dict[str, Any] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(column, code)"""

    def blame(self, column: str, code: str) -> None:
        if not any(blamed == column for blamed, _ in self.problems):
            self.problems.append((column, code))


def judge_rows(
    sheet: Sheet,
    opened: Opened,
    expected: pd.DataFrame,
    keys: Sequence[RowKey],
    *,
    branch_no: str,
    as_of: date,
    staff: Mapping[str, str] | None = None,
    language: Language = "zh_CN",
) -> Judgement:
    """The rows of every such sheet in a message, accepted or sent back; rows the branch left empty are neither.

    `expected` are the EXPECTED_… rows of any branch that could appear. Headquarters ("HQ") may answer every row.
    `staff` are names by staff number, by which a caller is told from somebody of the same name.
    `language` is that of the remarks glued together from several cells.
    """
    frames = FRAMES[sheet.item]
    item, glue = frames.item, "；" if language == "zh_CN" else "; "
    problems: list[dict[str, Any]] = []
    accepted: dict[int, dict[str, Any]] = {}
    conflicting: dict[int, list[dict[str, Any]]] = {}

    def send_back(place: str, row: int, column: str, code: str, number: int | None) -> None:
        problems.append({"sheet": place, "row": row, "column_name": column, "code": code, item: number})

    is_truncated = not TRUNCATED.isdisjoint(opened.defects)
    if is_truncated and opened.files and not opened.workbooks and sheet is CALLBACK:
        send_back("#1", 0, "", "truncated", None)
    is_attached = any(not workbook.depth for workbook in opened.workbooks)
    for number_of_book, workbook in enumerate(opened.workbooks, start=1):
        book = f"#{number_of_book}"
        if workbook.depth and is_attached and workbook.error and not is_truncated:
            # An old letter below the new one: only what is attached to the new one needs to be read.
            continue
        # Told once, with the callback rows: an unread workbook does not say which sheet it holds.
        if sheet is CALLBACK and (workbook.error or is_truncated):
            send_back(book, 0, "", "truncated" if is_truncated else workbook.error, None)
    rows = [] if is_truncated else _rows_of(sheet, opened, keys)
    nearest: dict[int | None, int] = {}
    for row in rows:
        nearest[row.found.number] = min(row.depth, nearest.get(row.found.number, row.depth))
    rows = [row for row in rows if row.found.number is None or row.depth == nearest[row.found.number]]
    if not rows and not problems:
        return _nothing(sheet.item)
    # Only the rows that came back are looked at: what could come back is a hundred times more.
    wanted = frames.expected.validate(expected[expected[item].isin([row.found.number for row in rows])])
    tasks = {int(task[item]): task for task in rows_of(wanted)}
    for row in rows:
        place, found = row.sheet, row.found
        task = tasks.get(found.number) if found.number is not None else None
        if task is None:
            send_back(place, found.row, "row_code", "unknown_code", None)
            continue
        number = int(task[item])
        if row.depth and branch_no == "HQ":
            # Headquarters may answer every row: what it passes on is the word of another.
            send_back(place, found.row, "row_code", "forwarded", number)
            continue
        if branch_no not in ("HQ", task["branch_no"]):
            send_back(place, found.row, "row_code", "other_branch", number)
            continue
        fault = _wrong_customer(found, task)
        if fault:
            send_back(place, found.row, *fault, number)
            continue
        _read_values(row, sheet, not_before=task[frames.not_before], as_of=as_of, glue=glue)
        _blame_what_is_owed(row, sheet)
        if sheet is CALLBACK:
            _blame_call(row, task, staff or {})
        if row.problems:
            for column, code in row.problems:
                send_back(place, found.row, column, code, number)
            continue
        values = _booked(row, sheet, task)
        entry = {
            item: number,
            "sheet": place,
            "row": found.row,
            **values,
            "is_late": as_of > task["due_on"],
            "content_sha256": content_sha256(item, number, values),
        }
        if number in conflicting or accepted.get(number, entry)["content_sha256"] != entry["content_sha256"]:
            conflicting.setdefault(number, [accepted.pop(number)] if number in accepted else []).append(entry)
        else:
            accepted.setdefault(number, entry)
    for number, entries in conflicting.items():
        for entry in entries:
            send_back(entry["sheet"], entry["row"], "row_code", "conflicting_rows", number)
    return Judgement(
        frames.accepted.validate(pd.DataFrame(list(accepted.values()), columns=list(frames.accepted.columns))),
        frames.problems.validate(pd.DataFrame(problems, columns=list(frames.problems.columns)))
        if problems
        else _nothing(sheet.item).problems,
    )


def find_returned(sheet: Sheet, opened: Opened, keys: Sequence[RowKey]) -> dict[tuple[str, int], FoundRow]:
    """The filled rows of every such sheet in a message by the place, sheet and row, that a problem of theirs names."""
    return {(row.sheet, row.found.row): row.found for row in _rows_of(sheet, opened, keys)}


def _rows_of(sheet: Sheet, opened: Opened, keys: Sequence[RowKey]) -> list[_Row]:
    rows = []
    ours = {label for declared in SHEETS.values() for label in declared.name}
    for number_of_book, workbook in enumerate(opened.workbooks, start=1):
        for number_of_sheet, table in enumerate(workbook.sheets, start=1):
            # A receipt goes out in clear: a name the sender made up may hold anything, so only ours are repeated.
            place = table.name if table.name in ours else f"#{number_of_sheet}"
            place = place if len(opened.workbooks) == 1 else f"#{number_of_book} / {place}"
            for found in find_rows(sheet, table.rows, table.formulas, keys):
                filled = {key for key, text in found.cells.items() if text} | found.formulas
                if not filled.isdisjoint(column.key for column in sheet.answer_columns):
                    rows.append(_Row(place, found, workbook.depth))
    return rows


@cache
def _nothing(kind: ItemKind) -> Judgement:
    """No row of one kind; made once, since most messages bring one kind of sheet and each validation costs 20 ms."""
    shapes = (FRAMES[kind].accepted, FRAMES[kind].problems)
    return Judgement(*(shape.validate(pd.DataFrame(columns=list(shape.columns))) for shape in shapes))


def _blame_what_is_owed(row: _Row, sheet: Sheet) -> None:
    """Cells that must not be empty, or must be, for what the deciding column says."""
    decision = row.values[sheet.deciding] if sheet.deciding else None
    if decision is None:
        return
    for column in sheet.answer_columns:
        is_filled = row.values[column.key] not in ("", None, "not_asked")
        if decision in column.required_for:
            if not is_filled:
                row.blame(column.key, column.missing)
        elif column.is_exclusive and is_filled:
            row.blame(column.key, column.unexpected)


def _blame_call(row: _Row, task: Mapping[str, Any], staff: Mapping[str, str]) -> None:
    """A caller who may not have called, and answers that contradict the outcome."""
    barred = [person for person in task["related"] if person.holds_on(row.values["called_on"])]
    if fault := fault_of_caller(row.values["caller_name"], barred, staff):
        row.blame("caller_name", fault)
    if row.values["outcome"] == "done_clear":
        for content in LEGAL_CONTENTS:
            if row.values[content] == "flagged":
                row.blame(content, "flagged_but_clear")


def _booked(row: _Row, sheet: Sheet, task: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of an accepted row: its cells, and of a call what they settle."""
    values = {
        column.key: row.values[column.key] if column.form == "date" else row.values[column.key] or ""
        for column in sheet.answer_columns
    }
    if sheet is not CALLBACK:
        return values
    answers = {content: values.pop(content) or "not_asked" for content in LEGAL_CONTENTS}
    completes, fails = settle(values["outcome"], answers, row.values["attempts"], task["attempts_required"])
    return values | {"answers": answers, "completes": completes, "fails": fails}


def _read_values(row: _Row, sheet: Sheet, *, not_before: date, as_of: date, glue: str) -> None:
    remark = sheet.remark
    glued = []
    for column in sheet.answer_columns:
        text = row.found.cells.get(column.key, "")
        row.values[column.key] = text if column.form == "text" else None
        if column.key in row.found.formulas:
            row.blame(column.key, "formula")
        elif not text:
            if column.required:
                row.blame(column.key, "missing")
        elif column.form == "choice":
            choice = read_choice(column.words, text)
            if choice is None:
                row.blame(column.key, "unknown_choice")
            else:
                row.values[column.key], rest = choice
                if rest:
                    glued.append(rest)
        elif column.form == "date":
            row.values[column.key] = _read_date(row, column, text, not_before, as_of)
        elif column.form == "text" and len(text) > MAX_TEXT:
            row.blame(column.key, "too_long")
        elif column.form != "text":
            value = read_time(text) if column.form == "time" else read_count(text)
            row.values[column.key] = value
            if value is None:
                row.blame(column.key, "not_a_time" if column.form == "time" else "not_a_count")
    if glued:
        row.values[remark] = glue.join(filter(None, [row.values[remark], *glued]))
        if len(row.values[remark]) > MAX_TEXT:
            row.blame(remark, "too_long")


def _read_date(row: _Row, column: Column, text: str, not_before: date, as_of: date) -> date | None:
    day = read_day(text)
    if day is None:
        row.blame(column.key, "not_a_date")
    elif day > as_of:
        row.blame(column.key, "date_in_future")
    elif day < not_before:
        row.blame(column.key, "date_too_early")
    return day


def _wrong_customer(found: FoundRow, task: Mapping[str, Any]) -> tuple[str, str] | None:
    name, phone = found.cells.get("customer_name", ""), found.cells.get("phone", "")
    if not name and not phone:
        return "customer_name", "no_identity"
    if name and bare_name(name) != bare_name(task["customer_name"]):
        return "customer_name", "other_customer"
    if phone and not _same_phone(phone, task["phone"]):
        return "phone", "other_customer"
    return None


def _same_phone(shown: str, expected: str) -> bool:
    """Whether a phone is the one that was shown, after what spreadsheets do to long numbers.

    >>> [_same_phone(t, "013800001234") for t in ("13800001234", "1.38E+10", "１３８-0000 1234.0", "13800001235")]
    [True, True, True, False]
    """
    shown = unicodedata.normalize("NFKC", shown).strip().lstrip("'")
    if "*" in shown:
        # A reader who does not call was shown it masked.
        return re.sub(r"\s", "", shown) == mask_phone(expected)
    digits = re.sub(r"\D", "", expected).lstrip("0")
    power = re.fullmatch(r"(\d)(?:\.(\d+))?E\+?(\d{1,2})", shown, re.IGNORECASE)
    if power:
        head = power[1] + (power[2] or "")
        exact = int(power[3]) + 1
        return len(digits) == exact >= len(head) and round(int(digits) / 10 ** (exact - len(head))) == int(head)
    return re.sub(r"\D", "", re.sub(r"\.0+$", "", shown)).lstrip("0") == digits


def content_sha256(item: str, number: int, values: Mapping[str, Any]) -> str:
    """The hash of what a row says."""
    content = json.dumps(
        {item: number, **values}, sort_keys=True, ensure_ascii=False, default=str, separators=(",", ":")
    )
    return hashlib.sha256(content.encode()).hexdigest()


def message_verdict(judgements: Sequence[Judgement], *, files_matched: int = 0) -> tuple[Verdict, str]:
    """What became of a believed message, and a reason code where it was not accepted.

    A mail that only brings evidence is accepted when a file of it names its row.
    """
    accepted = sum(len(judgement.accepted) for judgement in judgements)
    rejected = sum(judgement.rows_rejected for judgement in judgements)
    if rejected:
        return ("partly", "rows_rejected") if accepted else ("rejected", "rows_rejected")
    if accepted or files_matched:
        return "accepted", ""
    return "rejected", "no_rows"
