"""What each workbook looks like: its columns, dropdowns and words, declared once, and the frames it is written from.

Must stay out: how a workbook is written (written.py) and how its rows are found again (found.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Literal

import pandas as pd
import pandera.pandas as pa

from models import CallbackError
from models.cells import choice_words, plain, read_choice, read_count, read_day, read_time
from models.evidence import KINDS, EvidenceKind
from models.outcomes import (
    ANSWERS,
    CHANNELS,
    COMPLETING,
    FORMS,
    HOLDINGS,
    INTERVIEWS,
    LEGAL_CONTENTS,
    NO_WORDS,
    OUTCOMES,
    QUESTIONNAIRE,
    REPLIES,
    RESOLUTIONS,
    TRUTHS,
    VALIDITIES,
    VIOLATIONS,
    Choice,
    Label,
)
from models.row_code import ItemKind

SheetKind = Literal["callback", "hq_calls", "self_check", "opinion"]


class SheetError(CallbackError):
    """A sheet is declared or filled in a way that must not leave the house."""


@dataclass(frozen=True)
class Cue:
    """What a row asks for besides its cells, once its dropdown says something."""

    column: str
    code: str
    words: Label
    kinds: tuple[EvidenceKind, ...] = ()
    """The evidence it is; a programme says which kinds keep a row open until they are here."""


@dataclass(frozen=True)
class Column:
    """One column: who fills it, with what, and when it must not be empty."""

    key: str
    label: Label
    width: float
    form: Literal["text", "choice", "date", "time", "count", "files", "cues"] = "text"
    """files: names of files that belong to the row. cues: shown by the sheet itself as the row is filled, read by nobody."""
    choices: Mapping[str, Choice] = field(default_factory=dict)
    by_branch: bool = False
    required: bool = False
    """In every row of which the branch has filled anything."""
    required_for: AbstractSet[str] = frozenset()
    """What the sheet's deciding column says when this one is required."""
    is_exclusive: bool = False
    """Empty wherever it is not required."""
    missing: str = "missing"
    """The problem of a row that lacks it, where `required_for` asks for it."""
    unexpected: str = ""
    """The problem of a row that has it, where it is exclusive and not asked for."""
    hint: Label = NO_WORDS
    cues: tuple[Cue, ...] = ()
    since: int = 1
    """The layout of the sheet that had it first; sheets of an earlier one come back without it."""

    @cached_property
    def words(self) -> dict[str, str]:
        """Choice code by every word a branch may write for it."""
        return choice_words(self.choices)

    def understands(self, text: str) -> bool:
        """Whether a cell says what this column asks; a column of free text tells nothing."""
        match self.form:
            case "choice":
                return read_choice(self.words, text) is not None
            case "date":
                return read_day(text) is not None
            case "time":
                return read_time(text) is not None
            case "count":
                return read_count(text) is not None
            case "text" | "files" | "cues":
                return False


@dataclass(frozen=True)
class Sheet:
    """One workbook: its columns in order and the words around them."""

    kind: SheetKind
    item: ItemKind
    name: Label
    columns: tuple[Column, ...]
    progress: str
    """The column whose filled cells are counted at the top."""
    remark: str
    """The column that takes what was written behind a dropdown's word."""
    deciding: str = ""
    """The column that `required_for` of the others speaks of."""

    @property
    def branch_columns(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.by_branch)

    @property
    def answer_columns(self) -> tuple[Column, ...]:
        """What the branch says of the row; the names of its files say nothing."""
        return tuple(column for column in self.branch_columns if column.form != "files")

    def evidence_asked(self, values: Mapping[str, object], programme: Collection[EvidenceKind]) -> list[EvidenceKind]:
        """Which files a filled row needs, of those that its programme asks for, in their own order."""
        wanted = {
            kind
            for column in self.columns
            for cue in column.cues
            if values.get(cue.column) == cue.code
            for kind in cue.kinds
        }
        return [kind for kind in KINDS if kind in wanted and kind in programme]

    def column(self, key: str) -> Column:
        return next(column for column in self.columns if column.key == key)

    @cached_property
    def layouts(self) -> tuple[tuple[Column, ...], ...]:
        """The columns in every order in which they were ever sent, the present one first."""
        generations = sorted({column.since for column in self.columns}, reverse=True)
        return tuple(tuple(column for column in self.columns if column.since <= past) for past in generations)

    @cached_property
    def titles(self) -> dict[str, str]:
        """Column key by every title it may carry in a returned sheet."""
        return {plain(text): column.key for column in self.columns for text in (*column.label, column.key)}


_CODE = Column("row_code", Label("任务编码", "Row code"), 20)
_NAME = Column("customer_name", Label("客户姓名", "Customer"), 9)
_PHONE = Column("phone", Label("联系电话", "Phone"), 13)
_FORM = Column("form", Label("回访类型", "Form"), 9, "choice", FORMS)
_DUE = Column("due_on", Label("截止日期", "Due"), 11, "date")
_CALL_ON = Column("call_on", Label("计划日期", "Planned"), 11, "date", since=2)

_CALLED: tuple[Column, ...] = (
    Column(
        "called_on",
        Label("回访日期", "Called on"),
        11,
        "date",
        by_branch=True,
        required=True,
        hint=Label("实际回访日期，如 2026-3-5", "the day of the call, such as 2026-03-05"),
    ),
    Column(
        "called_at",
        Label("回访时间", "Time"),
        8,
        "time",
        by_branch=True,
        required=True,
        hint=Label("24 小时制，如 14:30", "24 hours, such as 14:30"),
    ),
    Column(
        "caller_name",
        Label("回访人", "Caller"),
        9,
        by_branch=True,
        required=True,
        hint=Label(
            "不得为该客户的开发人或服务人员；只是同名的，请写“姓名（工号）”或工号",
            "nobody who developed or serves the customer; if only the name is the same, write name (staff number) "
            "or the staff number",
        ),
    ),
    Column(
        "channel",
        Label("回访方式", "By"),
        7,
        "choice",
        CHANNELS,
        by_branch=True,
        required=True,
        hint=Label(
            "电话须留录音；面访须客户签字", "a phone call needs its recording, a visit the customer's signature"
        ),
    ),
    Column(
        "attempts",
        Label("尝试次数", "Attempts"),
        8,
        "count",
        by_branch=True,
        required=True,
        hint=Label("累计联系次数，填整数", "attempts so far, a whole number"),
    ),
    Column(
        "outcome",
        Label("回访结果", "Outcome"),
        15,
        "choice",
        OUTCOMES,
        by_branch=True,
        required=True,
        hint=Label("各结果的含义见“填写说明”", "the first worksheet says what each means"),
    ),
    *(
        Column(
            content,
            label,
            10,
            "choice",
            ANSWERS,
            by_branch=True,
            required_for=COMPLETING,
            missing="answer_missing",
            hint=QUESTIONNAIRE.questions[content],
        )
        for content, label in LEGAL_CONTENTS.items()
    ),
    Column(
        "violation",
        Label("疑似违规类型", "Suspected violation"),
        13,
        "choice",
        VIOLATIONS,
        by_branch=True,
        required_for=frozenset({"done_suspect"}),
        is_exclusive=True,
        missing="violation_missing",
        unexpected="violation_unexpected",
        hint=Label("仅“成功·疑似违规”填写", "only for a suspected violation"),
    ),
    Column(
        "remark",
        Label("情况说明", "Remark"),
        26,
        by_branch=True,
        required_for=frozenset({"done_opinion"}),
        missing="remark_missing",
        hint=Label("“成功·有意见建议”必填客户意见", "the customer's opinion, where there is one"),
    ),
)
_FILES = Column(
    "evidence_files",
    Label("佐证文件名", "Evidence files"),
    15,
    "files",
    by_branch=True,
    hint=Label(
        "文件名中没有任务编码的，在此写明文件名，多个用“；”分开",
        "names of files that do not carry the row code, parted by semicolons",
    ),
    since=4,
)
_EVIDENCE = Column(
    "evidence",
    Label("须附佐证", "Evidence"),
    15,
    "cues",
    cues=(
        Cue("channel", "phone", Label("电话录音", "the recording"), ("recording",)),
        Cue(
            "channel", "visit", Label("客户签字（无须录音）", "the customer's signature, no recording"), ("signature",)
        ),
    ),
    since=3,
)

CALLBACK = Sheet(
    "callback",
    "assignment",
    Label("回访登记表", "Callback sheet"),
    (
        _CODE,
        _NAME,
        _PHONE,
        _FORM,
        Column("developer", Label("开发人", "Developer"), 9),
        _DUE,
        _CALL_ON,
        Column("planned_caller", Label("安排回访人", "Assigned to"), 10, since=2),
        *_CALLED,
        _FILES,
        _EVIDENCE,
    ),
    progress="outcome",
    remark="remark",
    deciding="outcome",
)

SELF_CHECK = Sheet(
    "self_check",
    "case",
    Label("自查情况说明表", "Self-check statement"),
    (
        _CODE,
        _NAME,
        _PHONE,
        _FORM,
        Column("violation", Label("疑似违规类型", "Suspected violation"), 16),
        Column("stated_on", Label("回访日期", "Stated on"), 11, "date"),
        Column("statement", Label("客户陈述", "Customer's statement"), 26, since=2),
        Column("employee", Label("涉及员工", "Employee concerned"), 12, since=2),
        _DUE,
        Column(
            "checked_on",
            Label("再次回访日期", "Checked on"),
            12,
            "date",
            by_branch=True,
            required=True,
            hint=Label("再次回访客户的日期，如 2026-3-5", "the day of the second call, such as 2026-03-05"),
        ),
        Column(
            "checker_name",
            Label("自查人", "Checked by"),
            10,
            by_branch=True,
            required=True,
            hint=Label("不得为被反映的员工", "never the employee concerned"),
        ),
        Column(
            "truth",
            Label("客户陈述是否属实", "Is the statement true"),
            15,
            "choice",
            TRUTHS,
            by_branch=True,
            required=True,
        ),
        Column(
            "holdings_checked",
            Label("持仓及委托核对", "Holdings and orders"),
            14,
            "choice",
            HOLDINGS,
            by_branch=True,
            required=True,
        ),
        Column(
            "interviewed",
            Label("员工访谈", "Interview"),
            10,
            "choice",
            INTERVIEWS,
            by_branch=True,
            required=True,
            hint=Label(
                "访谈记录须员工、营运总监、营业部负责人三方签字",
                "the record is signed by employee, operations director and branch head",
            ),
        ),
        Column(
            "handling",
            Label("处理情况", "Handling"),
            40,
            by_branch=True,
            required=True,
            hint=Label("核查经过、结论与处理措施", "what was found and what was done"),
        ),
        replace(_FILES, since=3),
        Column(
            "evidence",
            Label("须附佐证", "Evidence"),
            36,
            "cues",
            cues=(
                *(
                    Cue(
                        "truth",
                        truth,
                        Label(
                            "登记表扫描件；电话附录音，面访附客户签字。",
                            "register scan; a call's recording, or a visit's signature. ",
                        ),
                        ("register", "contact"),
                    )
                    for truth in TRUTHS
                ),
                Cue(
                    "interviewed",
                    "interviewed",
                    Label(
                        "访谈记录三方签字：员工、营运总监、营业部负责人",
                        "interview record with three signatures: employee, operations director, branch head",
                    ),
                    ("interview",),
                ),
                Cue(
                    "interviewed",
                    "not_interviewed",
                    Label("在“处理情况”写明未访谈的原因", "say under Handling why there was no interview"),
                ),
            ),
            since=2,
        ),
    ),
    progress="truth",
    remark="handling",
)

HQ_CALLS = Sheet(
    "hq_calls",
    "assignment",
    Label("总部回访名单", "Headquarters call list"),
    (
        _CODE,
        _NAME,
        _PHONE,
        _FORM,
        _DUE,
        _CALL_ON,
        *_CALLED,
        _FILES,
        _EVIDENCE,
    ),
    progress="outcome",
    remark="remark",
    deciding="outcome",
)
"""The callback sheet of those who call for every branch at headquarters, who are nobody's developers; it is answered in
the same columns and read as one."""

OPINION = Sheet(
    "opinion",
    "opinion",
    Label("意见建议跟踪表", "Opinion tracker"),
    (
        _CODE,
        _NAME,
        _PHONE,
        Column("raised_on", Label("提出日期", "Raised on"), 11, "date"),
        Column("opinion", Label("意见建议内容", "Opinion"), 34),
        _DUE,
        Column(
            "validity",
            Label("意见是否成立", "Is it valid"),
            12,
            "choice",
            VALIDITIES,
            by_branch=True,
            required=True,
        ),
        Column(
            "handled_on",
            Label("处理日期", "Handled on"),
            12,
            "date",
            by_branch=True,
            required=True,
            hint=Label("实际处理日期，如 2026-3-5", "the day it was dealt with, such as 2026-03-05"),
        ),
        Column("handler_name", Label("处理人", "Handled by"), 10, by_branch=True, required=True),
        Column(
            "handling",
            Label("处理情况", "Handling"),
            34,
            by_branch=True,
            required=True,
            hint=Label("判断依据与处理措施", "why it was judged so, and what was done"),
        ),
        Column(
            "resolution",
            Label("办理结果", "Result"),
            14,
            "choice",
            RESOLUTIONS,
            by_branch=True,
            required=True,
            hint=Label("营业部不能解决的，选“需总部处理”", "what the branch cannot settle needs headquarters"),
        ),
        Column(
            "answered_on",
            Label("答复客户日期", "Answered on"),
            12,
            "date",
            by_branch=True,
            required_for=frozenset({"answered"}),
        ),
        Column(
            "answered_by",
            Label("答复方式", "Answered by"),
            10,
            "choice",
            REPLIES,
            by_branch=True,
            required_for=frozenset({"answered"}),
        ),
        Column(
            "request",
            Label("需总部处理的事项", "Asked of headquarters"),
            26,
            by_branch=True,
            required_for=frozenset({"needs_hq"}),
            is_exclusive=True,
            unexpected="request_unexpected",
            hint=Label("仅“需总部处理”填写", "only where headquarters is needed"),
        ),
        replace(_FILES, since=1),
        Column(
            "evidence",
            Label("须附佐证", "Evidence"),
            15,
            "cues",
            cues=(
                Cue("answered_by", "phone", Label("电话录音", "the recording"), ("recording",)),
                Cue(
                    "answered_by",
                    "visit",
                    Label("客户签字（无须录音）", "the customer's signature, no recording"),
                    ("signature",),
                ),
            ),
        ),
    ),
    progress="resolution",
    remark="handling",
    deciding="resolution",
)

SHEETS: dict[SheetKind, Sheet] = {sheet.kind: sheet for sheet in (CALLBACK, HQ_CALLS, SELF_CHECK, OPINION)}

_TEXT = pa.Column()
# One look at the frame's types: pandera's own costs a millisecond for each column of text, of each sheet.
_ARE_TEXTS = pa.Check(
    lambda rows: all(
        pd.api.types.is_string_dtype(rows[key]) for key in rows if not str(key).endswith("_on") and len(rows)
    ),
    error="every column but the dates holds text",
)
_DAY = pa.Column(object, pa.Check(lambda day: type(day) is date, element_wise=True, error="a date"))

_CODES = pa.Check.str_startswith
_FORMS = pa.Column(checks=pa.Check.isin(list(FORMS)))

HQ_CALL_ROWS = pa.DataFrameSchema(
    {
        "row_code": pa.Column(checks=_CODES("H"), unique=True),
        "customer_name": _TEXT,
        "phone": _TEXT,  # '' where the extract has none
        "form": _FORMS,
        "due_on": _DAY,
        "call_on": _DAY,  # the planned day
    },
    checks=_ARE_TEXTS,
    strict=True,
)
CALLBACK_ROWS = HQ_CALL_ROWS.add_columns(
    {
        "developer": _TEXT,  # '' when nobody developed the customer
        "planned_caller": _TEXT,  # '' leaves it to the branch
    }
)
SELF_CHECK_ROWS = pa.DataFrameSchema(
    {
        "row_code": pa.Column(checks=_CODES("Z"), unique=True),
        "customer_name": _TEXT,
        "phone": _TEXT,
        "form": _FORMS,
        # One code per ground of the case, joined by commas.
        "violation": pa.Column(checks=pa.Check.str_matches(rf"^({'|'.join(VIOLATIONS)})(,({'|'.join(VIOLATIONS)}))*$")),
        "stated_on": _DAY,
        "statement": pa.Column(required=False),  # '' when the caller wrote none down
        "employee": pa.Column(required=False),  # '' when nobody in particular is concerned
        "due_on": _DAY,
    },
    checks=_ARE_TEXTS,
    strict=True,
)
OPINION_ROWS = pa.DataFrameSchema(
    {
        "row_code": pa.Column(checks=_CODES("Y"), unique=True),
        "customer_name": _TEXT,
        "phone": _TEXT,
        "raised_on": _DAY,
        "opinion": _TEXT,
        "due_on": _DAY,
    },
    checks=_ARE_TEXTS,
    strict=True,
)
ROWS: dict[SheetKind, pa.DataFrameSchema] = {
    "callback": CALLBACK_ROWS,
    "hq_calls": HQ_CALL_ROWS,
    "self_check": SELF_CHECK_ROWS,
    "opinion": OPINION_ROWS,
}
