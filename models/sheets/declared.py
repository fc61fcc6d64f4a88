"""What each workbook looks like: its columns, dropdowns and words, declared once, and the frames it is written from.

Must stay out: how a workbook is written (written.py) and how its rows are found again (found.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Literal

import pandera.pandas as pa

from models import CallbackError
from models.cells import choice_words, plain, read_choice, read_count, read_day, read_time
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
    TRUTHS,
    VIOLATIONS,
    Choice,
    Label,
)
from models.row_code import ItemKind

SheetKind = Literal["callback", "self_check"]


class SheetError(CallbackError):
    """A sheet is declared or filled in a way that must not leave the house."""


@dataclass(frozen=True)
class Column:
    """One column: who fills it, with what, and when it must not be empty."""

    key: str
    label: Label
    width: float
    form: Literal["text", "choice", "date", "time", "count"] = "text"
    choices: Mapping[str, Choice] = field(default_factory=dict)
    by_branch: bool = False
    required: bool = False
    """In every row of which the branch has filled anything."""
    required_for: AbstractSet[str] = frozenset()
    """Outcomes that make it required."""
    hint: Label = NO_WORDS
    is_later: bool = False
    """Sheets that were sent before it was there come back without it."""

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
            case "text":
                return False


@dataclass(frozen=True)
class Sheet:
    """One workbook: its columns in order and the words around them."""

    kind: SheetKind
    item: ItemKind
    name: Label
    columns: tuple[Column, ...]

    @property
    def branch_columns(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.by_branch)

    def column(self, key: str) -> Column:
        return next(column for column in self.columns if column.key == key)

    @cached_property
    def titles(self) -> dict[str, str]:
        """Column key by every title it may carry in a returned sheet."""
        return {plain(text): column.key for column in self.columns for text in (*column.label, column.key)}


_CODE = Column("row_code", Label("任务编码", "Row code"), 20)
_NAME = Column("customer_name", Label("客户姓名", "Customer"), 9)
_PHONE = Column("phone", Label("联系电话", "Phone"), 13)
_FORM = Column("form", Label("回访类型", "Form"), 9, "choice", FORMS)
_DUE = Column("due_on", Label("截止日期", "Due"), 11, "date")

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
        Column("call_on", Label("计划日期", "Planned"), 11, "date", is_later=True),
        Column("planned_caller", Label("安排回访人", "Assigned to"), 10, is_later=True),
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
                9,
                "choice",
                ANSWERS,
                by_branch=True,
                required_for=COMPLETING,
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
            hint=Label("仅“成功·疑似违规”填写", "only for a suspected violation"),
        ),
        Column(
            "remark",
            Label("情况说明", "Remark"),
            26,
            by_branch=True,
            required_for=frozenset({"done_opinion"}),
            hint=Label("“成功·有意见建议”必填客户意见", "the customer's opinion, where there is one"),
        ),
    ),
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
    ),
)

SHEETS: dict[SheetKind, Sheet] = {sheet.kind: sheet for sheet in (CALLBACK, SELF_CHECK)}

_TEXT = pa.Column(str)
_DAY = pa.Column(object, pa.Check(lambda day: type(day) is date, element_wise=True, error="a date"))

CALLBACK_ROWS = pa.DataFrameSchema(
    {
        "row_code": pa.Column(str, pa.Check.str_startswith("H"), unique=True),
        "customer_name": _TEXT,  # masked
        "phone": _TEXT,  # '' where the extract has none
        "form": pa.Column(str, pa.Check.isin(list(FORMS))),
        "developer": _TEXT,  # '' when nobody developed the customer
        "due_on": _DAY,
        "call_on": _DAY,  # the planned day
        "planned_caller": _TEXT,  # '' leaves it to the branch
    },
    strict=True,
)
SELF_CHECK_ROWS = pa.DataFrameSchema(
    {
        "row_code": pa.Column(str, pa.Check.str_startswith("Z"), unique=True),
        "customer_name": _TEXT,
        "phone": _TEXT,
        "form": pa.Column(str, pa.Check.isin(list(FORMS))),
        # One code per ground of the case, joined by commas.
        "violation": pa.Column(str, pa.Check.str_matches(rf"^({'|'.join(VIOLATIONS)})(,({'|'.join(VIOLATIONS)}))*$")),
        "stated_on": _DAY,
        "due_on": _DAY,
    },
    strict=True,
)
ROWS: dict[SheetKind, pa.DataFrameSchema] = {"callback": CALLBACK_ROWS, "self_check": SELF_CHECK_ROWS}
