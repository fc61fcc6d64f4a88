"""Recalled mails: the record of each, what it concerned, and where the request to destroy stands."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.calendar import SHANGHAI
from models.tables import Assignment, Case, Mail, MailItem, MailRecall, RowProblem
from tasks.records.notices import outcome_of


def corrected(kind: str) -> str:
    """The kind under which a receipt's items are the rows of its correction sheet: shown again, not mailed anew.

    >>> corrected("case")
    'corrected_case'
    """
    return f"corrected_{kind}"


def persons_in(session: Session, mail_id: int) -> int:
    """How many customers a mail concerns."""
    mine = select(MailItem.item_id).where(MailItem.mail_id == mail_id)
    customers: set[str] = set()
    for kind, table in (("assignment", Assignment), ("case", Case)):
        items = mine.where(MailItem.kind.in_((kind, corrected(kind))))
        customers |= set(session.scalars(select(table.customer_id).where(table.id.in_(items))))
    role = session.scalar(select(Mail.role).where(Mail.id == mail_id, Mail.kind == "receipt")) or ""
    if role.startswith("message-"):
        # Receipts of earlier versions did not book which rows stand in the sheet attached to them.
        problems = select(RowProblem.assignment_id).where(RowProblem.message_id == int(role.removeprefix("message-")))
        customers |= set(session.scalars(select(Assignment.customer_id).where(Assignment.id.in_(problems))))
    return len(customers)


def recall_of(session: Session, mail_id: int) -> MailRecall | None:
    """The record of a recalled mail."""
    return session.scalar(select(MailRecall).where(MailRecall.mail_id == mail_id))


def recalled(session: Session) -> dict[tuple[str, str], date]:
    """Branch and address, in small letters, of every recalled mail, with the day of the last recall."""
    query = select(MailRecall.recipient, MailRecall.to_address, func.max(MailRecall.decided_at)).group_by(
        MailRecall.recipient, MailRecall.to_address
    )
    found: dict[tuple[str, str], date] = {}
    for branch_no, address, at in session.execute(query):
        key, day = (branch_no, address.casefold()), at.astimezone(SHANGHAI).date()
        found[key] = max(day, found.get(key, day))
    return found


def request_role(mail_id: int) -> str:
    """The role under which the request to destroy a mail stands in the outbox."""
    return f"mail-{mail_id}"


def request_of(session: Session, recall: MailRecall) -> str:
    """What became of the last request to destroy a recalled mail; '' when none was written."""
    last = session.scalar(
        select(Mail.id)
        .where(Mail.kind == "recall", Mail.role == request_role(recall.mail_id))
        .order_by(Mail.id.desc())
        .limit(1)
    )
    return outcome_of(session, last) if last is not None else ""


def recalls_of(session: Session, campaign_id: str | None = None) -> list[dict[str, Any]]:
    """Every recalled mail, of one campaign or of all, in plain values: mail, kind, campaign, recipient, persons,
    data_kinds, is_locked, cause, measures, by, at (Shanghai, to the minute), request (what became of it).
    """
    query = select(MailRecall, Mail).join(Mail, Mail.id == MailRecall.mail_id).order_by(MailRecall.id)
    if campaign_id is not None:
        query = query.where(Mail.campaign_id == campaign_id)
    return [
        {
            "mail": mail.id, "kind": mail.kind, "campaign": mail.campaign_id, "recipient": one.recipient,
            "persons": one.persons, "data_kinds": list(one.data_kinds), "is_locked": one.is_locked, "cause": one.cause,
            "measures": one.measures, "by": one.decided_by, "at": f"{one.decided_at.astimezone(SHANGHAI):%Y-%m-%d %H:%M}",
            "request": request_of(session, one),
        }
        for one, mail in session.execute(query).tuples()
    ]  # fmt: skip
