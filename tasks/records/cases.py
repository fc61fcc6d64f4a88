"""Findings, cases, opinions and reports."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import date
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from models.tables import (
    Assignment,
    Campaign,
    Case,
    CaseGround,
    CaseMerge,
    Finding,
    MailItem,
    MailOutcome,
    Opinion,
    Report,
    ReturnRow,
    SelfCheck,
)
from tasks.records.base import frame, latest
from tasks.records.mails import carried, not_delivered


def findings_without_case(session: Session) -> pd.DataFrame:
    """finding_id, campaign_id, customer_id, branch_no, form."""
    return frame(
        session,
        select(
            Finding.id.label("finding_id"), Finding.campaign_id, Finding.customer_id, Finding.branch_no, Assignment.form
        )
        .join(Assignment, Assignment.id == Finding.assignment_id)
        .where(Finding.id.not_in(select(CaseGround.finding_id))),
    )


def add_cases(session: Session, cases: pd.DataFrame, *, opened_on: date) -> int:
    """Cases with their grounds; a customer's open case of the same campaign takes a new ground. How many are new."""
    new = 0
    for row in cases.to_dict("records"):
        case = session.scalar(
            select(Case).where(Case.campaign_id == row["campaign_id"], Case.customer_id == row["customer_id"])
        )
        if case is None:
            case = Case(
                campaign_id=row["campaign_id"],
                customer_id=row["customer_id"],
                branch_no=row["branch_no"],
                form=row["form"],
                opened_on=opened_on,
            )
            session.add(case)
            session.flush()
            new += 1
        session.add_all(CaseGround(finding_id=int(finding), case_id=case.id) for finding in row["finding_ids"])
    return new


def cases_to_mail(session: Session, campaign_id: str) -> pd.DataFrame:
    """Cases no self-check request has carried yet: case_id, customer_id, branch_no, form, stated_on, violation (of all grounds),
    statement (what the callers wrote down), developer_id, programme_year_id.
    """
    return _cases_listed(session, Case.campaign_id == campaign_id, Case.id.not_in(carried("case")))


def cases_listed(session: Session, ids: Collection[int]) -> pd.DataFrame:
    """Some cases as a statement shows them: the columns of `cases_to_mail`."""
    return _cases_listed(session, Case.id.in_(list(ids)))


def _cases_listed(session: Session, *conditions: ColumnElement[bool]) -> pd.DataFrame:
    found = frame(
        session,
        select(
            Case.id.label("case_id"),
            Case.customer_id,
            Case.branch_no,
            Case.form,
            Finding.violation,
            ReturnRow.called_on.label("stated_on"),
            ReturnRow.remark.label("statement"),
            Assignment.developer_id,
            Finding.id.label("finding_id"),
            Campaign.programme_year_id,
        )
        .join(Campaign, Campaign.id == Case.campaign_id)
        .join(CaseGround, CaseGround.case_id == Case.id)
        .join(Finding, Finding.id == CaseGround.finding_id)
        .join(ReturnRow, ReturnRow.id == Finding.return_row_id)
        .join(Assignment, Assignment.id == ReturnRow.assignment_id)
        .where(*conditions)
        .order_by(Case.branch_no, Case.id, Finding.id),
    )
    if found.empty:
        return found.drop(columns="finding_id")
    return (
        found.groupby(["branch_no", "case_id"], sort=True)
        .agg(
            customer_id=("customer_id", "last"),
            form=("form", "last"),
            stated_on=("stated_on", "last"),
            violation=("violation", lambda grounds: ",".join(dict.fromkeys(grounds))),
            statement=("statement", lambda said: "；".join(dict.fromkeys(filter(None, said)))),
            developer_id=("developer_id", "last"),
            programme_year_id=("programme_year_id", "last"),
        )
        .reset_index()
    )


def self_checks_to_merge(session: Session) -> pd.DataFrame:
    """Current self-checks with all their evidence and without a merged result: self_check_id, case_id, truth."""
    return frame(
        session,
        select(SelfCheck.id.label("self_check_id"), SelfCheck.case_id, SelfCheck.truth).where(
            latest(SelfCheck.version, SelfCheck.version, SelfCheck.case_id),
            SelfCheck.awaits == "",
            SelfCheck.id.not_in(select(CaseMerge.self_check_id)),
        ),
    )


def add_merges(session: Session, merges: Iterable[Mapping[str, Any]], *, merged_on: date) -> None:
    """Merged results."""
    session.add_all(CaseMerge(merged_on=merged_on, **merge) for merge in merges)


def cases_due(session: Session, campaign_id: str) -> pd.DataFrame:
    """Cases asked about and without a self-check, or without its evidence: case_id, branch_no, delivered_at."""
    return frame(
        session,
        select(Case.id.label("case_id"), Case.branch_no, func.max(MailOutcome.at).label("delivered_at"))
        .join(MailItem, and_(MailItem.item_id == Case.id, MailItem.kind == "case"))
        .join(MailOutcome, MailOutcome.mail_id == MailItem.mail_id)
        .where(
            Case.campaign_id == campaign_id,
            MailOutcome.outcome == "sent",
            MailItem.mail_id.not_in(not_delivered()),  # what bounced or was recalled starts no clock
            Case.id.not_in(select(SelfCheck.case_id).where(SelfCheck.awaits == "")),
        )
        .group_by(Case.id, Case.branch_no)
        .order_by(Case.id),
    )


def cases_of_campaign(session: Session, campaign_id: str) -> pd.DataFrame:
    """case_id, branch_no, opened_on, has_self_check, result (null while it waits)."""
    answered = (
        select(SelfCheck.case_id, func.max(SelfCheck.id).label("last_id"))
        .where(SelfCheck.awaits == "")
        .group_by(SelfCheck.case_id)
        .subquery()
    )
    return frame(
        session,
        select(
            Case.id.label("case_id"),
            Case.branch_no,
            Case.opened_on,
            answered.c.last_id.is_not(None).label("has_self_check"),
            CaseMerge.result,
        )
        .outerjoin(answered, answered.c.case_id == Case.id)
        .outerjoin(CaseMerge, CaseMerge.self_check_id == answered.c.last_id)
        .where(Case.campaign_id == campaign_id)
        .order_by(Case.id),
    )


def cases_shown(session: Session, campaign_id: str) -> pd.DataFrame:
    """case_id, branch_no, violations (of all grounds, joined by commas), result (null while it waits)."""
    cases = cases_of_campaign(session, campaign_id)[["case_id", "branch_no", "result"]]
    grounds = frame(
        session,
        select(CaseGround.case_id, Finding.violation)
        .join(Finding, Finding.id == CaseGround.finding_id)
        .where(Finding.campaign_id == campaign_id)
        .order_by(Finding.id),
    )
    joined = grounds.groupby("case_id")["violation"].agg(lambda v: ",".join(dict.fromkeys(v))).rename("violations")
    return cases.merge(joined, on="case_id", how="left")


def findings_of(session: Session, campaign_id: str) -> pd.DataFrame:
    """finding_id, branch_no, violation."""
    return frame(
        session,
        select(Finding.id.label("finding_id"), Finding.branch_no, Finding.violation).where(
            Finding.campaign_id == campaign_id
        ),
    )


def calls_completed(session: Session) -> pd.DataFrame:
    """Calls whose current row completes them: assignment_id, caller, violation ('' where that row states none)."""
    return frame(
        session,
        select(ReturnRow.assignment_id, Assignment.caller, func.coalesce(Finding.violation, "").label("violation"))
        .join(Assignment, Assignment.id == ReturnRow.assignment_id)
        .outerjoin(Finding, Finding.return_row_id == ReturnRow.id)
        .where(latest(ReturnRow.version, ReturnRow.version, ReturnRow.assignment_id), ReturnRow.completes)
        .order_by(ReturnRow.assignment_id),
    )


def periods_of_campaigns(session: Session) -> dict[str, str]:
    """The period of every campaign, by its id."""
    return {campaign.id: campaign.period for campaign in session.scalars(select(Campaign))}


def opinions_of(session: Session, campaign_id: str) -> pd.DataFrame:
    """opinion_id, branch_no."""
    return frame(
        session, select(Opinion.id.label("opinion_id"), Opinion.branch_no).where(Opinion.campaign_id == campaign_id)
    )


def report_with(session: Session, campaign_id: str, figures_sha256: str) -> Report | None:
    """The report that shows exactly these figures."""
    return session.scalar(
        select(Report).where(Report.campaign_id == campaign_id, Report.figures_sha256 == figures_sha256)
    )
