"""Assignments: one customer to be called by someone by a date, what it serves, and how far it has come.

Knows which drawn customer becomes a call of his own and which joins an open one, and the five states of the balance.
Knows neither mails nor workbooks.
"""

from __future__ import annotations

from datetime import date

import pandas as pd
import pandera.pandas as pa

STATES = ("completed", "open", "replaced", "withdrawn", "expired")
"""Every assignment is in exactly one; *replaced* means failed, its place has passed to the reserve or the next draw."""

NEW = pa.DataFrameSchema(
    {
        "customer_id": pa.Column(str),
        "branch_no": pa.Column(str),
        "form": pa.Column(str, pa.Check.isin(["risk_warning", "conduct"])),
        "developer_id": pa.Column(str),
        "due_on": pa.Column("object"),
    },
    strict=True,
    unique=["customer_id"],
)

PROGRESS = pa.DataFrameSchema(
    {
        "assignment_id": pa.Column(int),
        "branch_no": pa.Column(str),
        "state": pa.Column(str, pa.Check.isin(STATES)),
        "attempted": pa.Column(bool),
        "is_overdue": pa.Column(bool),
    },
    strict=True,
    unique=["assignment_id"],
)


def assign(drawn: pd.DataFrame, *, due_on: date) -> pd.DataFrame:
    """New assignments, one per drawn customer, in row order; see NEW.

    drawn: customer_id, branch_no, form, developer_id.
    """
    new = drawn[["customer_id", "branch_no", "form", "developer_id"]].reset_index(drop=True)
    new["due_on"] = pd.Series([due_on] * len(new), dtype="object")
    return NEW.validate(new)


def joined_calls(drawn: pd.DataFrame, open_calls: pd.DataFrame) -> pd.DataFrame:
    """Drawn customers whom somebody is already to call: customer_id, assignment_id (one contact serves several purposes).

    open_calls: customer_id, assignment_id, form of open assignments of other campaigns. A call joins only one whose
    form fits, and the oldest of several.
    """
    both = drawn[["customer_id", "form"]].merge(open_calls, on=["customer_id", "form"], how="inner")
    oldest = both.sort_values("assignment_id").drop_duplicates("customer_id")
    return oldest[["customer_id", "assignment_id"]].reset_index(drop=True)


def progress(assignments: pd.DataFrame, rows: pd.DataFrame, ends: pd.DataFrame, as_of: date) -> pd.DataFrame:
    """The state of each assignment on a day; see PROGRESS.

    assignments: assignment_id, branch_no, due_on; rows: the current accepted row of each assignment that has one
    (assignment_id, completes, fails); ends: assignment_id, kind.
    """
    found = (
        assignments[["assignment_id", "branch_no", "due_on"]]
        .merge(rows[["assignment_id", "completes", "fails"]], on="assignment_id", how="left")
        .merge(ends[["assignment_id", "kind"]], on="assignment_id", how="left")
    )
    completes, fails = found["completes"].eq(True), found["fails"].eq(True)
    state = pd.Series("open", index=found.index, dtype="str")
    state = state.mask(fails, "replaced")
    state = state.mask(found["kind"].notna(), found["kind"])
    state = state.mask(completes, "completed")
    due = pd.Series([day < as_of for day in found["due_on"]], index=found.index, dtype=bool)
    return PROGRESS.validate(
        pd.DataFrame(
            {
                "assignment_id": found["assignment_id"].astype(int),
                "branch_no": found["branch_no"].astype(str),
                "state": state.astype(str),
                "attempted": found["completes"].notna(),
                "is_overdue": state.eq("open") & due,
            }
        )
    )
