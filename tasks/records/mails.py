"""The outbox as it is read: what was mailed to whom, and what still has to be."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import Session

from models.refusal import is_of_address
from models.tables import (
    NOT_DELIVERED,
    Approval,
    Assignment,
    AssignmentEnd,
    Audit,
    Mail,
    MailItem,
    MailOutcome,
    ReturnRow,
)
from tasks.records.base import frame, latest
from tasks.records.campaigns import answering_branch


def mails_of(session: Session, campaign_id: str | None = None) -> pd.DataFrame:
    """Every mail with its current outcome: mail_id, kind, campaign_id, recipient, role, sequence, outcome, code, at, path, message_id.

    outcome 'in_flight' has none yet.
    """
    current = select(MailOutcome).where(latest(MailOutcome.id, MailOutcome.id, MailOutcome.mail_id)).subquery()
    query = select(
        Mail.id.label("mail_id"),
        Mail.kind,
        Mail.campaign_id,
        Mail.recipient,
        Mail.role,
        Mail.sequence,
        func.coalesce(current.c.outcome, "in_flight").label("outcome"),
        current.c.code,
        current.c.at,
        Mail.path,
        Mail.message_id,
        Mail.to_address,
    ).outerjoin(current, current.c.mail_id == Mail.id)
    if campaign_id is not None:
        query = query.where(Mail.campaign_id == campaign_id)
    return frame(session, query.order_by(Mail.id))


def last_list_to(session: Session, branch_no: str) -> str | None:
    """The campaign whose list a branch was written last, if any."""
    query = select(Mail.campaign_id).where(Mail.recipient == branch_no, Mail.kind == "assignment")
    return session.scalar(query.order_by(Mail.id.desc()).limit(1))


def not_delivered() -> Select[Any]:
    """Mails that are not with their recipients: failed, bounced or recalled."""
    return select(MailOutcome.mail_id).where(
        latest(MailOutcome.id, MailOutcome.id, MailOutcome.mail_id), MailOutcome.outcome.in_(NOT_DELIVERED)
    )


def carried(item_kind: str) -> Select[Any]:
    """Items of a kind that stand in a mail that is not failed, bounced or recalled."""
    return select(MailItem.item_id).where(MailItem.kind == item_kind, MailItem.mail_id.not_in(not_delivered()))


def carried_to(branch: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether an assignment stands in a mail to that branch that was sent, is unknown or in flight; a hand-over needs a new one."""
    return exists(
        select(MailItem.item_id)
        .join(Mail, Mail.id == MailItem.mail_id)
        .where(
            MailItem.kind == "assignment",
            MailItem.item_id == Assignment.id,
            Mail.recipient == branch,
            MailItem.mail_id.not_in(not_delivered()),
        )
        .correlate(Assignment)
    )


def items_carried(session: Session, item_kind: str) -> set[int]:
    """Assignments or cases that stand in a mail sent, unknown or in flight."""
    return set(session.scalars(carried(item_kind)))


def calls_to_mail(session: Session, campaign_id: str) -> pd.DataFrame:
    """Calls a campaign's sheets have still to carry: none that stand in a mail sent, unknown or in flight, none answered or ended.

    assignment_id, customer_id, branch_no (who is to have the list: where the call lies now, HQ where headquarters
    calls), form, developer_id, due_on, call_on, caller_id, assigned_on.
    """
    branch = answering_branch()
    return frame(
        session,
        select(
            Assignment.id.label("assignment_id"),
            Assignment.customer_id,
            branch.label("branch_no"),
            Assignment.form,
            Assignment.developer_id,
            Assignment.due_on,
            Assignment.call_on,
            Assignment.caller_id,
            Assignment.assigned_on,
        )
        .where(
            Assignment.campaign_id == campaign_id,
            ~carried_to(branch),
            Assignment.id.not_in(select(ReturnRow.assignment_id)),
            Assignment.id.not_in(select(AssignmentEnd.assignment_id)),
        )
        .order_by(branch, Assignment.id),
    )


def calls_assigned(session: Session, campaign_id: str, branch_no: str, days: Collection[date]) -> list[int]:
    """Every call of some days' draws that lies with a branch now, answered or not, in order."""
    return list(
        session.scalars(
            select(Assignment.id)
            .where(
                Assignment.campaign_id == campaign_id, answering_branch() == branch_no, Assignment.assigned_on.in_(days)
            )
            .order_by(Assignment.id)
        )
    )


def lists_sent(session: Session, campaign_id: str, branch_no: str) -> list[tuple[date, set[int]]]:
    """The lists of a campaign that a branch has been sent, or may have been: the day their calls were drawn, and the calls."""
    rows = session.execute(
        select(Mail.id, Assignment.id, Assignment.assigned_on)
        .join(MailItem, MailItem.mail_id == Mail.id)
        .join(Assignment, Assignment.id == MailItem.item_id)
        .where(
            Mail.campaign_id == campaign_id,
            Mail.recipient == branch_no,
            MailItem.kind == "assignment",
            Mail.id.not_in(not_delivered()),
        )
        .order_by(Mail.id)
    )
    found: dict[int, tuple[date, set[int]]] = {}
    for mail_id, assignment_id, day in rows:
        found.setdefault(mail_id, (day, set()))[1].add(assignment_id)
    return list(found.values())


def refused_addresses(session: Session) -> set[str]:
    """Addresses whose last mail the server refused for good (5xx), at once or by a notice: not tried again before the roster changes."""
    last = frame(
        session,
        select(Mail.to_address, MailOutcome.outcome, MailOutcome.code, MailOutcome.detail)
        .join(MailOutcome, MailOutcome.mail_id == Mail.id)
        .order_by(MailOutcome.id),
    ).drop_duplicates("to_address", keep="last")
    last = last[last["outcome"].isin(("failed", "bounced")) & (last["code"].fillna(0) >= 500)]
    about = zip(last["to_address"].astype(str), last["code"].astype(int), last["detail"].astype(str), strict=True)
    return {address for address, code, detail in about if is_of_address(code, detail)}


def receipts_since(session: Session, moment: datetime) -> dict[str, int]:
    """How many receipts went out since a moment, by address; one that bounced went out, one that failed did not."""
    failed = select(MailOutcome.mail_id).where(
        latest(MailOutcome.id, MailOutcome.id, MailOutcome.mail_id), MailOutcome.outcome == "failed"
    )
    rows = session.execute(
        select(Mail.to_address, func.count())
        .where(Mail.kind == "receipt", Mail.claimed_at >= moment, Mail.id.not_in(failed))
        .group_by(Mail.to_address)
    )
    return {str(address): int(count) for address, count in rows}


def approval_of(session: Session, campaign_id: str) -> Approval | None:
    """What was last decided about a campaign's draw; None when nobody has."""
    return session.scalar(
        select(Approval).where(Approval.campaign_id == campaign_id).order_by(Approval.id.desc()).limit(1)
    )


def starters_of(session: Session, campaign_id: str) -> list[str]:
    """Who committed and drew a campaign, as the audit chain names them; a schedule stands there as flow:draw."""
    query = select(Audit.actor).where(Audit.subject == campaign_id, Audit.action.in_(("commit", "draw"))).distinct()
    return sorted(session.scalars(query))
