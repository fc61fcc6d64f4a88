"""Findings, cases and self-checks: what opens a case, when it is due, and what finding and self-check come to together.

A merged result is a proposal by rule; the final opinion is compliance's. Knows no mail and no workbook.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

import pandas as pd

from models import CallbackError
from models.calendar import Calendar

MERGED = {"true": "confirmed", "false": "contradicted", "unverifiable": "unverifiable"}
"""Result by the branch's judgement of the customer's statement (属实 · 不属实 · 无法核实)."""


class UnknownTruth(CallbackError):
    """A self-check with a judgement outside the three."""


def cases_of(findings: pd.DataFrame) -> pd.DataFrame:
    """One case per campaign and customer with its grounds: campaign_id, customer_id, branch_no, form, finding_ids.

    findings: finding_id, campaign_id, customer_id, branch_no, form; three signals about one customer are one case.
    """
    columns = ["campaign_id", "customer_id", "branch_no", "form"]
    if findings.empty:
        return pd.DataFrame(columns=[*columns, "finding_ids"])
    ordered = findings.sort_values("finding_id")
    return (
        ordered.groupby(["campaign_id", "customer_id"], sort=True)
        .agg(branch_no=("branch_no", "last"), form=("form", "last"), finding_ids=("finding_id", list))
        .reset_index()[[*columns, "finding_ids"]]
    )


def self_check_due(delivered_at: datetime, calendar: Calendar, workdays: int, closing: time) -> date:
    """The day a self-check is due: so many workdays after the day the request was delivered in Shanghai."""
    return calendar.add(calendar.day_zero(delivered_at, closing), workdays)


def case_due(
    delivered_at: datetime | None, opened_on: date, calendar: Calendar, workdays: int, closing: time
) -> date:
    """The day a case is due; while no request is known to have arrived, as many days after it was opened."""
    if delivered_at is None or pd.isna(delivered_at):
        return opened_on + timedelta(days=workdays)
    return self_check_due(delivered_at, calendar, workdays, closing)


def merge(truth: str) -> str:
    """The result proposed for a case: confirmed | contradicted | unverifiable."""
    try:
        return MERGED[truth]
    except KeyError:
        raise UnknownTruth(f"self-check judgement {truth!r}: known are {', '.join(MERGED)}") from None
