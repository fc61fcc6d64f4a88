"""The rows of a sheet from the store's frames, as each sheet is declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import pandas as pd

from models.cells import mask_name
from models.row_code import RowKey, row_code
from models.sheets.declared import SheetKind
from models.sheets.written import staff_words


def call_rows(
    kind: SheetKind, calls: pd.DataFrame, customers: pd.DataFrame, staff: Mapping[str, str], key: RowKey
) -> pd.DataFrame:
    """The rows of a call list: CALLBACK_ROWS, or HQ_CALL_ROWS for headquarters.

    calls: assignment_id, customer_id, form, due_on, call_on, developer_id, caller_id; customers by number, with
    customer_name and phone; staff are names by staff number.
    """
    known, callers = customers.loc[calls["customer_id"]], staff_words(staff)
    rows = pd.DataFrame(
        {
            "row_code": [row_code("assignment", int(i), key) for i in calls["assignment_id"]],
            "customer_name": [mask_name(name) for name in known["customer_name"]],
            "phone": known["phone"].fillna("").astype(str).to_list(),
            "form": calls["form"].to_list(),
            "due_on": calls["due_on"].to_list(),
            "call_on": [
                due if pd.isna(day) else day for day, due in zip(calls["call_on"], calls["due_on"], strict=True)
            ],
        }
    )
    if kind == "hq_calls":
        return rows
    return rows.assign(
        developer=[staff.get(developer, developer) for developer in calls["developer_id"]],
        planned_caller=[callers.get(caller, caller) for caller in calls["caller_id"]],
    )


def case_rows(
    cases: pd.DataFrame, customers: pd.DataFrame, staff: Mapping[str, str], due_on: Sequence[date], key: RowKey
) -> pd.DataFrame:
    """The rows of a self-check statement, SELF_CHECK_ROWS.

    cases: case_id, customer_id, form, violation, stated_on, statement, developer_id.
    """
    known, callers = customers.loc[cases["customer_id"]], staff_words(staff)
    return pd.DataFrame(
        {
            "row_code": [row_code("case", int(i), key) for i in cases["case_id"]],
            "customer_name": [mask_name(name) for name in known["customer_name"]],
            "phone": known["phone"].fillna("").astype(str).to_list(),
            "form": cases["form"].to_list(),
            "violation": cases["violation"].to_list(),
            "stated_on": cases["stated_on"].to_list(),
            "statement": cases["statement"].to_list(),
            "employee": [callers.get(developer, developer) for developer in cases["developer_id"]],
            "due_on": list(due_on),
        }
    )
