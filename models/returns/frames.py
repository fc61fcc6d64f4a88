"""What returned rows are compared with, and what became of them: the frames of expected, accepted and refused rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd
import pandera.pandas as pa

from models.returns.callers import Related
from models.returns.problems import PROBLEMS
from models.row_code import ItemKind


def _is_day(value: object) -> bool:
    return type(value) is date


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


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame by column; pandas' own way goes cell by cell and takes twenty times as long."""
    names = [str(name) for name in frame.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*(frame[name].tolist() for name in frame), strict=True)]


@dataclass(frozen=True)
class Frames:
    """What rows of one kind of task are compared with and become."""

    item: str
    """The column that names the task."""
    not_before: str
    """The column with the day before which nothing can have been done."""
    expected: pa.DataFrameSchema
    accepted: pa.DataFrameSchema
    problems: pa.DataFrameSchema


FRAMES: dict[ItemKind, Frames] = {
    "assignment": Frames("assignment_id", "assigned_on", EXPECTED_ASSIGNMENTS, ACCEPTED_CALLS, CALL_PROBLEMS),
    "case": Frames("case_id", "opened_on", EXPECTED_CASES, ACCEPTED_SELF_CHECKS, SELF_CHECK_PROBLEMS),
    "opinion": Frames("opinion_id", "raised_on", EXPECTED_OPINIONS, ACCEPTED_OPINIONS, OPINION_PROBLEMS),
}
