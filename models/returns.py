"""What is believed of a return: whose it is, which rows count, and what is wrong with the others.

Judges what the sandbox read out of one message. Knows no mailbox, file, password or table of the store.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any, Literal, NamedTuple

import pandas as pd
import pandera.pandas as pa

from models import CallbackError
from models.cells import mask_phone, read_choice, read_count, read_day, read_time
from models.outcomes import LEGAL_CONTENTS, Label, Language, settle
from models.row_code import ItemKind, RowKey, find_code
from models.sheets import CALLBACK, OPINION, SELF_CHECK, SHEETS, Column, FoundRow, Sheet, find_rows

Verdict = Literal["accepted", "partly", "rejected"]


class OpenedError(CallbackError):
    """The sandbox reported something that is no opened message."""


# ---- what the sandbox found ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """One worksheet as text, row by row from A1."""

    name: str
    rows: Sequence[Sequence[str | None]]
    formulas: AbstractSet[tuple[int, int]] = frozenset()
    """(row, column) of every cell with a formula, both from 1."""


@dataclass(frozen=True)
class Workbook:
    """One workbook of a message; with an error it has no sheets."""

    name: str
    sheets: Sequence[Table] = ()
    was_encrypted: bool = False
    depth: int = 0
    """0 in the message itself, 1 and more in messages it carries."""
    error: str = ""
    """'' | wrong_password | too_large | too_many_parts | unreadable | unsupported | archive | partial"""


@dataclass(frozen=True)
class File:
    """One part that is no text, kept as bytes; zip members count as parts."""

    part: int
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    path: str
    is_workbook: bool = False
    depth: int = 0


@dataclass(frozen=True)
class Opened:
    """One message taken apart."""

    sha256: str = ""
    from_headers: int = 0
    from_addresses: Sequence[str] = ()
    from_defects: Sequence[str] = ()
    message_id: str = ""
    subject: str = field(default="", repr=False)
    auto_submitted: str = ""
    precedence: str = ""
    is_list: bool = False
    is_report: bool = False
    """multipart/report: a delivery notice."""
    is_null_return_path: bool = False
    defects: Sequence[str] = ()
    """Parser defects of the message's structure and bodies."""
    workbooks: Sequence[Workbook] = ()
    files: Sequence[File] = ()
    error: str = ""
    """'' or why nothing could be read: unreadable | too_large | timeout | infected | unscannable, or not yet: unscanned | unkept"""

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> Opened:
        """The message a sandbox report describes."""
        try:
            content = dict(report)
            content["workbooks"] = [
                Workbook(
                    **workbook
                    | {
                        "sheets": [
                            Table(
                                sheet["name"],
                                sheet["rows"],
                                frozenset((row, column) for row, column in sheet["formulas"]),
                            )
                            for sheet in workbook["sheets"]
                        ]
                    }
                )
                for workbook in report.get("workbooks", ())
            ]
            content["files"] = [File(**part) for part in report.get("files", ())]
            return cls(**content)
        except (TypeError, KeyError, ValueError) as error:
            raise OpenedError(
                f"the sandbox reported an unknown shape: {error}; the versions of parent and child differ"
            ) from None


# ---- who is believed -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sender:
    """Whose message this is; branch_no is None unless the verdict is ok."""

    branch_no: str | None
    verdict: Literal["ok", "notice", "quarantined", "held"]
    reason: str = ""
    address: str = ""


def judge_sender(opened: Opened, roster: pd.DataFrame, own_address: str) -> Sender:
    """Whose message this is, by its one From address; notices are nobody's, what cannot be believed is quarantined.

    What nobody could look into yet, as the scanner is down or the disk full, is held.

    `roster` are the addresses valid on the day, as models/roster.py gives them.
    """
    if opened.error:
        return Sender(None, "held" if opened.error in ("unscanned", "unkept") else "quarantined", opened.error)
    address = opened.from_addresses[0].casefold() if opened.from_addresses else ""
    local = address.rpartition("@")[0]
    if opened.is_report or opened.is_null_return_path or local in ("mailer-daemon", "postmaster"):
        return Sender(None, "notice", "bounce", address)
    if opened.from_headers != 1:
        return Sender(None, "quarantined", "no_from" if opened.from_headers == 0 else "several_from_headers")
    if len(opened.from_addresses) != 1 or not local:
        return Sender(None, "quarantined", "several_from_addresses" if opened.from_addresses else "no_from")
    if opened.from_defects:
        return Sender(None, "quarantined", "from_defect", address)
    if address == own_address.casefold():
        return Sender(None, "notice", "own_mail", address)
    is_automatic = opened.auto_submitted.casefold() not in ("", "no")
    is_bulk = opened.is_list or opened.precedence.casefold() in ("bulk", "junk", "list", "auto_reply")
    if is_automatic or is_bulk:
        # An out-of-office reply carries no workbook; what does may be a return, and a person looks at it.
        if any(workbook.depth == 0 for workbook in opened.workbooks):
            return Sender(None, "quarantined", "automatic_with_workbook", address)
        return Sender(None, "notice", "auto_reply" if is_automatic else "bulk", address)
    branches = set(roster.loc[roster["email"].str.strip().str.casefold() == address, "branch_no"])
    if not branches:
        return Sender(None, "quarantined", "unknown_sender", address)
    if len(branches) > 1:
        return Sender(None, "quarantined", "sender_of_several_branches", address)
    return Sender(branches.pop(), "ok", "", address)


def judge_folder(branch_no: str, roster: pd.DataFrame) -> Sender:
    """Whose upload this is: the branch its folder belongs to, if that branch stands on the roster.

    Who may write into the folder was settled when it was made; nothing inside the file is asked.
    """
    if branch_no not in set(roster["branch_no"]):
        return Sender(None, "quarantined", "unknown_folder")
    return Sender(branch_no, "ok", "dropped")


# ---- what is wrong with a row ----------------------------------------------------------------------------

MAX_TEXT = 2000
"""Signs a text cell may hold; a cell of a workbook ends at 32,767."""

PROBLEMS: dict[str, Label] = {
    "too_long": Label("文字过长：请控制在 2000 字以内", "the text is too long: keep it within 2,000 signs"),
    "unknown_code": Label(
        "任务编码有误或不在当前任务中：请从派发的原表复制任务编码",
        "the row code is not one of ours: copy it from the sheet you were sent",
    ),
    "other_branch": Label("此任务不属于贵营业部：请删除该行", "this row belongs to another branch: remove it"),
    "other_customer": Label(
        "与任务编码对应的客户不符，可能串行：请按派发的原表核对后重填该行",
        "is not the customer of this row code: compare with the sheet you were sent and fill the row again",
    ),
    "no_identity": Label(
        "缺少客户姓名和联系电话，无法核对：请保留派发表中的这两列",
        "name and phone are missing: keep both columns of the sheet you were sent",
    ),
    "formula": Label("含公式：请改为直接填写的内容", "holds a formula: write the value itself"),
    "missing": Label("未填写：请补填", "is empty: fill it in"),
    "unknown_choice": Label(
        "不是下拉列表中的内容：请从下拉列表中选择", "is not one of the listed words: choose from the list"
    ),
    "not_a_date": Label("不是日期：请按 2026-3-5 的形式填写", "is not a date: write it like 2026-03-05"),
    "date_in_future": Label("晚于今天：请填写实际日期", "lies in the future: write the actual day"),
    "date_too_early": Label("早于任务下发日期：请填写实际日期", "lies before the assignment: write the actual day"),
    "not_a_time": Label("不是时间：请按 14:30 的形式填写", "is not a time: write it like 14:30"),
    "not_a_count": Label(
        "不是次数：请填写 1 至 99 的整数", "is not a number of attempts: write a whole number from 1 to 99"
    ),
    "recusal": Label(
        "回访人是该客户的开发人或服务人员：请由他人重新回访；若只是同名，请写“姓名（工号）”",
        "the caller developed or serves the customer: somebody else must call; if only the name is the same, write name "
        "(staff number)",
    ),
    "unknown_staff": Label(
        "工号不在员工名单中：请填写姓名，或“姓名（工号）”",
        "is a staff number that is not on the staff list: write the name, or name (staff number)",
    ),
    "violation_missing": Label(
        "结果为“成功·疑似违规”时必填：请选择疑似违规类型", "is needed for a suspected violation: choose which"
    ),
    "violation_unexpected": Label(
        "仅在结果为“成功·疑似违规”时填写：请改正回访结果或清空该格",
        "is only for a suspected violation: correct the outcome or empty the cell",
    ),
    "request_unexpected": Label(
        "仅在办理结果为“需总部处理”时填写：请改正办理结果或清空该格",
        "is only for what needs headquarters: correct the result or empty the cell",
    ),
    "remark_missing": Label(
        "结果为“成功·有意见建议”时必填：请写明客户意见", "is needed for an opinion: write what the customer said"
    ),
    "answer_missing": Label(
        "结果为“成功”时五项内容须全部核实：请补填，或将结果改为“部分完成”",
        "is needed for a call that is done: fill it in, or change the outcome to Partly done",
    ),
    "flagged_but_clear": Label(
        "为“已核·有异常”，而结果为“成功·无异常”：请改正其中之一",
        "is Flagged while the outcome is Done · clear: correct one of them",
    ),
    "conflicting_rows": Label(
        "同一任务编码在本次返回中出现多次且内容不同：请只保留正确的一行",
        "comes twice in this return with different content: keep the right row only",
    ),
    "truncated": Label("邮件附件不完整：请重新发送", "the attachment arrived incomplete: send it again"),
    "wrong_password": Label(
        "工作簿无法解密：请使用贵营业部的密码，或不加密返回", "cannot be decrypted: use your branch's password or none"
    ),
    "too_large": Label(
        "工作簿过大或异常：请将填好的表复制到新工作簿后返回",
        "is too large or odd: copy the filled table to a new workbook",
    ),
    "unreadable": Label(
        "工作簿无法读取：请另存为 .xlsx 后重新发送", "cannot be read: save it as .xlsx and send it again"
    ),
    "too_many_parts": Label(
        "附件过多或层层嵌套：请将填好的工作簿直接作为附件返回",
        "holds too many files, or files too deep within each other: attach the filled workbook itself",
    ),
    "archive": Label(
        "不支持 RAR 等压缩格式：请直接附上工作簿，或改用 zip、7z 压缩",
        "is an archive of a kind we cannot open, such as RAR: attach the workbook itself, or a zip or 7z",
    ),
    "partial": Label(
        "邮件被拆分为多封：请关闭邮件拆分，或分成几封各自完整的邮件发送",
        "is one piece of a split message: switch splitting off, or send several messages that are each whole",
    ),
    "forwarded": Label(
        "来自被转发的邮件：请将工作簿直接作为附件返回", "stands in a forwarded message: attach the workbook itself"
    ),
    "unsupported": Label(
        "不支持该文件格式：请另存为 .xlsx 后重新发送", "is of a kind we cannot read: save it as .xlsx and send it again"
    ),
    "no_rows": Label(
        "没有找到已填写的任务行：请填写派发的工作簿并作为附件返回",
        "no filled row was found: fill the workbook and attach it",
    ),
}
"""Every code a row or workbook is sent back with, and what to do about it; the codes never change their meaning."""

TRUNCATED = frozenset(
    f"{defect}Defect"
    for defect in (
        "CloseBoundaryNotFound",
        "StartBoundaryNotFound",
        "InvalidBase64Padding",
        "InvalidBase64Characters",
        "InvalidBase64Length",
    )
)


def problem_message(code: str, language: Language, *, sheet: str = "", row: int = 0, column_name: str = "") -> str:
    """One sentence that names the place and what to write; never a value.

    >>> problem_message("missing", "zh_CN", sheet="回访登记表", row=12, column_name="called_on")
    '工作表“回访登记表”第 12 行“回访日期”：未填写：请补填'
    """
    titles = {column.key: column.label for declared in SHEETS.values() for column in declared.columns}
    title = titles[column_name].text(language) if column_name in titles else column_name
    if language == "zh_CN":
        place = (
            (f"工作表“{sheet}”" if sheet else "") + (f"第 {row} 行" if row else "") + (f"“{title}”" if title else "")
        )
        return f"{place}：{PROBLEMS[code].zh}" if place else PROBLEMS[code].zh
    place = ", ".join(
        filter(None, (f"sheet “{sheet}”" if sheet else "", f"row {row}" if row else "", f"“{title}”" if title else ""))
    )
    return f"{place}: {PROBLEMS[code].en}" if place else PROBLEMS[code].en


def place_words(sheet: str, row: int, language: Language) -> str:
    """Where a problem stands, in words: attachments and worksheets by number unless the name is one of ours.

    >>> place_words("#2 / #1", 7, "zh_CN"), place_words("#1", 0, "en"), place_words("回访登记表", 7, "zh_CN")
    ('附件 2，第 1 张工作表', 'attachment 1', '回访登记表')
    """
    attachment, table = ("附件 %s", "第 %s 张工作表") if language == "zh_CN" else ("attachment %s", "worksheet %s")
    *book, place = sheet.split(" / ")
    if place.startswith("#"):
        place = (table if row else attachment) % place[1:]
    return ("，" if language == "zh_CN" else ", ").join([*(attachment % part[1:] for part in book), place])


# ---- frames ----------------------------------------------------------------------------------------------


def _is_day(value: object) -> bool:
    return type(value) is date


class Related(NamedTuple):
    """One of the staff who developed or served a customer from a day to a day, both included; None sets no limit."""

    staff_id: str
    name: str
    valid_from: date | None = None
    valid_to: date | None = None

    def holds_on(self, day: date | None) -> bool:
        """Whether it was so on a day; of a day that could not be read, whether it was so always."""
        if day is None:
            return self.valid_from is None and self.valid_to is None
        return (self.valid_from is None or self.valid_from <= day) and (self.valid_to is None or day <= self.valid_to)


def _are_related(people: object) -> bool:
    return isinstance(people, tuple) and all(isinstance(person, Related) for person in people)


_DAY = pa.Column(object, pa.Check(_is_day, element_wise=True, error="a date"))
_COUNT = pa.Column(int, coerce=True)
_FLAG = pa.Column(bool, coerce=True)
_TEXT = pa.Column(str, coerce=True)

EXPECTED_ASSIGNMENTS = pa.DataFrameSchema(
    {
        "assignment_id": pa.Column(int, unique=True, coerce=True),
        "branch_no": _TEXT,
        "campaign_id": _TEXT,
        "customer_name": _TEXT,  # masked, as the sheet shows it
        "phone": _TEXT,  # as the sheet shows it; '' where none is shown
        "due_on": _DAY,
        "assigned_on": _DAY,
        "attempts_required": _COUNT,
        # Every Related of the customer, his developer at the draw among them; nobody where the programme has no recusal.
        "related": pa.Column(object, pa.Check(_are_related, element_wise=True, error="a tuple of Related")),
    },
    strict="filter",
)
EXPECTED_CASES = pa.DataFrameSchema(
    {
        "case_id": pa.Column(int, unique=True, coerce=True),
        "branch_no": _TEXT,
        "campaign_id": _TEXT,
        "customer_name": _TEXT,
        "phone": _TEXT,
        "due_on": _DAY,
        "opened_on": _DAY,
    },
    strict="filter",
)
EXPECTED_OPINIONS = pa.DataFrameSchema(
    {
        "opinion_id": pa.Column(int, unique=True, coerce=True),
        "branch_no": _TEXT,
        "campaign_id": _TEXT,
        "customer_name": _TEXT,
        "phone": _TEXT,
        "due_on": _DAY,
        "raised_on": _DAY,
    },
    strict="filter",
)
ACCEPTED_CALLS = pa.DataFrameSchema(
    {
        "assignment_id": _COUNT,
        "sheet": _TEXT,
        "row": _COUNT,
        "outcome": _TEXT,
        "called_on": _DAY,
        "called_at": _TEXT,
        "caller_name": _TEXT,
        "channel": _TEXT,
        "attempts": _COUNT,
        "answers": pa.Column(object),  # answer code per legal content
        "violation": _TEXT,
        "remark": _TEXT,
        "completes": _FLAG,
        "fails": _FLAG,
        "is_late": _FLAG,
        "content_sha256": _TEXT,
    },
    strict=True,
    unique=["assignment_id"],
)
ACCEPTED_SELF_CHECKS = pa.DataFrameSchema(
    {
        "case_id": _COUNT,
        "sheet": _TEXT,
        "row": _COUNT,
        "truth": _TEXT,
        "holdings_checked": _TEXT,
        "interviewed": _TEXT,
        "handling": _TEXT,
        "checked_on": _DAY,
        "checker_name": _TEXT,
        "is_late": _FLAG,
        "content_sha256": _TEXT,
    },
    strict=True,
    unique=["case_id"],
)


ACCEPTED_OPINIONS = pa.DataFrameSchema(
    {
        "opinion_id": _COUNT,
        "sheet": _TEXT,
        "row": _COUNT,
        "validity": _TEXT,
        "handled_on": _DAY,
        "handler_name": _TEXT,
        "handling": _TEXT,
        "resolution": _TEXT,
        "answered_on": pa.Column(object, nullable=True),  # a date; None where headquarters is to answer
        "answered_by": _TEXT,
        "request": _TEXT,
        "is_late": _FLAG,
        "content_sha256": _TEXT,
    },
    strict=True,
    unique=["opinion_id"],
)


def _problem_rows(item: str) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(
        {
            "sheet": _TEXT,
            "row": _COUNT,  # 0 when the whole workbook is meant
            "column_name": _TEXT,
            "code": pa.Column(str, pa.Check.isin(list(PROBLEMS)), coerce=True),
            item: pa.Column("Int64", nullable=True, coerce=True),
        },
        strict=True,
    )


CALL_PROBLEMS = _problem_rows("assignment_id")
SELF_CHECK_PROBLEMS = _problem_rows("case_id")
OPINION_PROBLEMS = _problem_rows("opinion_id")


@dataclass(frozen=True)
class Judgement:
    """What one message's rows of one kind amount to; a row stands in exactly one of the two frames.

    A row with several faults has one line per fault in `problems`.
    """

    accepted: pd.DataFrame
    problems: pd.DataFrame

    @property
    def rows_rejected(self) -> int:
        """Rows sent back, and workbooks that could not be read."""
        return len(self.problems[["sheet", "row"]].drop_duplicates())


# ---- judging ---------------------------------------------------------------------------------------------


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


def judge_callback_rows(
    opened: Opened,
    expected: pd.DataFrame,
    keys: Sequence[RowKey],
    *,
    branch_no: str,
    as_of: date,
    staff: Mapping[str, str] | None = None,
    language: Language = "zh_CN",
) -> Judgement:
    """The rows of every callback sheet in a message, accepted or sent back; rows the branch left empty are neither.

    `expected` are EXPECTED_ASSIGNMENTS of any branch that could appear. Headquarters ("HQ") may answer every row.
    `staff` are names by staff number, by which a caller is told from somebody of the same name.
    `language` is that of the remarks glued together from several cells.
    """
    staff = staff or {}

    def judge(row: _Row, task: Mapping[str, Any]) -> dict[str, Any]:
        values = row.values
        outcome, answers = values["outcome"], {content: values[content] or "not_asked" for content in LEGAL_CONTENTS}
        barred = [person for person in task["related"] if person.holds_on(values["called_on"])]
        if fault := _fault_of_caller(values["caller_name"], barred, staff):
            row.blame("caller_name", fault)
        if outcome is not None:
            for column in CALLBACK.branch_columns:
                if outcome in column.required_for and values[column.key] in ("", None, "not_asked"):
                    row.blame(
                        column.key,
                        {"violation": "violation_missing", "remark": "remark_missing"}.get(
                            column.key, "answer_missing"
                        ),
                    )
            if outcome != "done_suspect" and values["violation"]:
                row.blame("violation", "violation_unexpected")
            if outcome == "done_clear":
                for content in (content for content, answer in answers.items() if answer == "flagged"):
                    row.blame(content, "flagged_but_clear")
        if row.problems:
            return {}
        completes, fails = settle(outcome, answers, values["attempts"], task["attempts_required"])
        keep = ("outcome", "called_on", "called_at", "caller_name", "channel", "attempts", "violation", "remark")
        return {key: values[key] or "" for key in keep} | {"answers": answers, "completes": completes, "fails": fails}

    return _judge_rows(
        opened,
        CALLBACK,
        EXPECTED_ASSIGNMENTS,
        expected,
        "assignment_id",
        "assigned_on",
        keys,
        judge,
        ACCEPTED_CALLS,
        CALL_PROBLEMS,
        branch_no,
        as_of,
        "；" if language == "zh_CN" else "; ",
    )


def judge_self_check_rows(
    opened: Opened,
    expected: pd.DataFrame,
    keys: Sequence[RowKey],
    *,
    branch_no: str,
    as_of: date,
    language: Language = "zh_CN",
) -> Judgement:
    """The rows of every self-check statement in a message, as `judge_callback_rows`; `expected` are EXPECTED_CASES."""

    def judge(row: _Row, task: Mapping[str, Any]) -> dict[str, Any]:
        return {} if row.problems else {column.key: row.values[column.key] for column in SELF_CHECK.branch_columns}

    return _judge_rows(
        opened,
        SELF_CHECK,
        EXPECTED_CASES,
        expected,
        "case_id",
        "opened_on",
        keys,
        judge,
        ACCEPTED_SELF_CHECKS,
        SELF_CHECK_PROBLEMS,
        branch_no,
        as_of,
        "；" if language == "zh_CN" else "; ",
    )


def judge_opinion_rows(
    opened: Opened,
    expected: pd.DataFrame,
    keys: Sequence[RowKey],
    *,
    branch_no: str,
    as_of: date,
    language: Language = "zh_CN",
) -> Judgement:
    """The rows of every opinion tracker in a message, as `judge_callback_rows`; `expected` are EXPECTED_OPINIONS."""

    def judge(row: _Row, task: Mapping[str, Any]) -> dict[str, Any]:
        for column in OPINION.branch_columns:
            is_filled = row.values[column.key] not in ("", None)
            if row.values["resolution"] in column.required_for:
                if not is_filled:
                    row.blame(column.key, "missing")
            elif column.is_exclusive and is_filled and row.values["resolution"] is not None:
                row.blame(column.key, "request_unexpected")
        if row.problems:
            return {}
        return {
            column.key: row.values[column.key] if column.form == "date" else row.values[column.key] or ""
            for column in OPINION.branch_columns
        }

    return _judge_rows(
        opened,
        OPINION,
        EXPECTED_OPINIONS,
        expected,
        "opinion_id",
        "raised_on",
        keys,
        judge,
        ACCEPTED_OPINIONS,
        OPINION_PROBLEMS,
        branch_no,
        as_of,
        "；" if language == "zh_CN" else "; ",
    )


def _judge_rows(
    opened: Opened,
    sheet: Sheet,
    expected_schema: pa.DataFrameSchema,
    expected: pd.DataFrame,
    item: str,
    not_before: str,
    keys: Sequence[RowKey],
    judge: Callable[[_Row, Mapping[str, Any]], dict[str, Any]],
    accepted_schema: pa.DataFrameSchema,
    problem_schema: pa.DataFrameSchema,
    branch_no: str,
    as_of: date,
    glue: str,
) -> Judgement:
    rows: list[_Row] = []
    problems: list[dict[str, Any]] = []
    accepted: dict[int, dict[str, Any]] = {}
    conflicting: dict[int, list[dict[str, Any]]] = {}

    def send_back(place: str, row: int, column: str, code: str, number: int | None) -> None:
        problems.append({"sheet": place, "row": row, "column_name": column, "code": code, item: number})

    is_truncated = not TRUNCATED.isdisjoint(opened.defects)
    if is_truncated and opened.files and not opened.workbooks and sheet is CALLBACK:
        send_back("#1", 0, "", "truncated", None)
    is_attached = any(not workbook.depth for workbook in opened.workbooks)
    ours = {label for declared in SHEETS.values() for label in declared.name}
    for number_of_book, workbook in enumerate(opened.workbooks, start=1):
        book = f"#{number_of_book}"
        if workbook.depth and is_attached and workbook.error and not is_truncated:
            # An old letter below the new one: only what is attached to the new one needs to be read.
            continue
        if workbook.error or is_truncated:
            # Told once, with the callback rows: an unread workbook does not say which sheet it holds.
            if sheet is CALLBACK:
                send_back(book, 0, "", "truncated" if is_truncated else workbook.error, None)
            continue
        for number_of_sheet, table in enumerate(workbook.sheets, start=1):
            # A receipt goes out in clear: a name the sender made up may hold anything, so only ours are repeated.
            place = table.name if table.name in ours else f"#{number_of_sheet}"
            place = place if len(opened.workbooks) == 1 else f"{book} / {place}"
            for found in find_rows(sheet, table.rows, table.formulas, keys):
                filled = {key for key, text in found.cells.items() if text} | found.formulas
                if not filled.isdisjoint(column.key for column in sheet.branch_columns):
                    rows.append(_Row(place, found, workbook.depth))
    nearest: dict[int | None, int] = {}
    for row in rows:
        nearest[row.found.number] = min(row.depth, nearest.get(row.found.number, row.depth))
    rows = [row for row in rows if row.found.number is None or row.depth == nearest[row.found.number]]
    if not rows and not problems:
        return _nothing(item)
    # Only the rows that came back are looked at: what could come back is a hundred times more.
    wanted = expected_schema.validate(expected[expected[item].isin([row.found.number for row in rows])])
    tasks = {int(task[item]): {str(key): value for key, value in task.items()} for task in wanted.to_dict("records")}
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
        _read_values(row, sheet, not_before=task[not_before], as_of=as_of, glue=glue)
        values = judge(row, task)
        if row.problems:
            for column, code in row.problems:
                send_back(place, found.row, column, code, number)
            continue
        entry = {
            item: number,
            "sheet": place,
            "row": found.row,
            **values,
            "is_late": as_of > task["due_on"],
            "content_sha256": _content_sha256(item, number, values),
        }
        if number in conflicting or accepted.get(number, entry)["content_sha256"] != entry["content_sha256"]:
            conflicting.setdefault(number, [accepted.pop(number)] if number in accepted else []).append(entry)
        else:
            accepted.setdefault(number, entry)
    for number, entries in conflicting.items():
        for entry in entries:
            send_back(entry["sheet"], entry["row"], "row_code", "conflicting_rows", number)
    return Judgement(
        accepted_schema.validate(pd.DataFrame(list(accepted.values()), columns=list(accepted_schema.columns))),
        problem_schema.validate(pd.DataFrame(problems, columns=list(problem_schema.columns)))
        if problems
        else _nothing(item).problems,
    )


@cache
def _nothing(item: str) -> Judgement:
    """No row of one kind; made once, since most messages bring one kind of sheet and each validation costs 20 ms."""
    shapes = {
        "assignment_id": (ACCEPTED_CALLS, CALL_PROBLEMS),
        "case_id": (ACCEPTED_SELF_CHECKS, SELF_CHECK_PROBLEMS),
        "opinion_id": (ACCEPTED_OPINIONS, OPINION_PROBLEMS),
    }
    return Judgement(*(shape.validate(pd.DataFrame(columns=list(shape.columns))) for shape in shapes[item]))


def _read_values(row: _Row, sheet: Sheet, *, not_before: date, as_of: date, glue: str) -> None:
    remark = sheet.remark
    glued = []
    for column in sheet.branch_columns:
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
    if name and _bare(name) != _bare(task["customer_name"]):
        return "customer_name", "other_customer"
    if phone and not _same_phone(phone, task["phone"]):
        return "phone", "other_customer"
    return None


def _bare(name: str) -> str:
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", name)).casefold()


def _fault_of_caller(text: str, barred: Sequence[Related], staff: Mapping[str, str]) -> str:
    """Why those whom a cell names may not have called: '' | recusal | unknown_staff.

    A staff number that belongs to the name beside it, or stands alone, says who is meant; any other says nothing.

    >>> barred, staff = [Related("0101", "王芳")], {"0101": "王芳", "0203": "王芳", "0204": "李建国"}
    >>> [_fault_of_caller(text, barred, staff) for text in ("王芳", "王芳(0203)", "203", "李建国", "李建国、工号101")]
    ['recusal', '', '', '', 'recusal']
    >>> [_fault_of_caller(text, barred, staff) for text in ("王芳(0204)", "王芳(0999)", "0999")]
    ['recusal', 'recusal', 'unknown_staff']
    """
    barred_numbers, barred_names = {_number(who.staff_id) for who in barred}, {_own_name(who.name) for who in barred}
    fault = ""
    for person in re.split(r"[、,;/]+", unicodedata.normalize("NFKC", text).casefold()):
        given = [_number(number) for number in _STAFF_NUMBER.findall(person)]
        words = _STAFF_NUMBER.sub(" ", person)
        spoken = re.sub(r"[\s()]", "", words)
        if not barred_numbers.isdisjoint(given):
            return "recusal"
        if given and any(
            _number(staff_id) in given and spoken in ("", _own_name(name)) for staff_id, name in staff.items()
        ):
            continue
        if _names(words) & barred_names:
            return "recusal"
        if given and staff and not spoken:
            fault = "unknown_staff"
    return fault


_STAFF_NUMBER = re.compile(r"(?:工号)?[\s:#]*([a-z0-9-]*\d[a-z0-9-]*)(?:\.0+(?!\d))?")


def _number(staff_id: str) -> str:
    """A staff number as it is compared: a spreadsheet may have taken its leading zeros."""
    return _bare(staff_id).lstrip("0")


def _own_name(name: str) -> str:
    """A name as it is compared, without what stands in brackets behind it."""
    return _bare(re.split(r"[(（]", name, maxsplit=1)[0])


def _names(text: str) -> set[str]:
    """Everyone a cell may name: a blank parts two people, or stands inside one name.

    >>> _names("王芳、李 建国(经纪人)") == {"王芳", "李建国", "李", "建国", "经纪人"}
    True
    """
    parts = re.split(r"[、,;/()（）]+", unicodedata.normalize("NFKC", text))
    return {_bare(name) for part in parts for name in (part, *part.split()) if name.strip()}


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


def _content_sha256(item: str, number: int, values: Mapping[str, Any]) -> str:
    content = json.dumps(
        {item: number, **values}, sort_keys=True, ensure_ascii=False, default=str, separators=(",", ":")
    )
    return hashlib.sha256(content.encode()).hexdigest()


# ---- the message as a whole ------------------------------------------------------------------------------


def match_files(opened: Opened, keys: Sequence[RowKey]) -> dict[int, tuple[ItemKind, int]]:
    """The assignment or case each file's name carries, by part; files without a code, or cut off on their way, are left out."""
    if not TRUNCATED.isdisjoint(opened.defects):
        return {}
    found = {file.part: find_code(file.name, keys) for file in opened.files}
    return {part: item for part, item in found.items() if item is not None}


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
