"""Notices that came back about mails of ours, and what a return proves of the mail it answers."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd
from sqlalchemy import and_, exists, select
from sqlalchemy.orm import Session, aliased

from models.tables import Mail, MailItem, MailNotice, MailOutcome, ReturnRow, SelfCheck
from tasks.records.base import frame, latest


def mails_named(session: Session, own_ids: Collection[str]) -> list[Mail]:
    """The mails whose Message-IDs these are, in the order in which they were claimed."""
    return list(session.scalars(select(Mail).where(Mail.message_id.in_(own_ids)).order_by(Mail.id))) if own_ids else []


def outcome_of(session: Session, mail_id: int) -> str:
    """What became of a mail: its last outcome, or in_flight."""
    last = select(MailOutcome.outcome).where(MailOutcome.mail_id == mail_id).order_by(MailOutcome.id.desc()).limit(1)
    return session.scalar(last) or "in_flight"


def outcomes_of(session: Session, mail_id: int) -> pd.DataFrame:
    """outcome, code, detail, decided_by, at of everything booked about a mail, the first one first."""
    columns = (MailOutcome.outcome, MailOutcome.code, MailOutcome.detail, MailOutcome.decided_by, MailOutcome.at)
    return frame(session, select(*columns).where(MailOutcome.mail_id == mail_id).order_by(MailOutcome.id))


def is_answered(session: Session, mail_id: int) -> bool:
    """Whether a return has been accepted for something that a mail carried."""
    carried = select(MailItem).where(MailItem.mail_id == mail_id)
    calls = carried.join(
        ReturnRow, and_(MailItem.kind == "assignment", ReturnRow.assignment_id == MailItem.item_id)
    ).limit(1)
    cases = carried.join(SelfCheck, and_(MailItem.kind == "case", SelfCheck.case_id == MailItem.item_id)).limit(1)
    return session.scalar(calls) is not None or session.scalar(cases) is not None


def was_delivered(session: Session, mail_id: int) -> bool:
    """Whether a notice has said that a mail arrived."""
    said = select(MailNotice.id).where(MailNotice.mail_id == mail_id, MailNotice.kind == "delivered").limit(1)
    return session.scalar(said) is not None


def mails_proved(session: Session, branch_no: str, items: Collection[tuple[str, int]]) -> list[Mail]:
    """Unknown and bounced mails to a branch that a return for these items shows to have arrived.

    An item that another mail, sent since, carries too proves nothing of the first.
    """
    found: dict[int, Mail] = {}
    other, fate = aliased(MailItem), aliased(MailOutcome)
    elsewhere = (
        exists(select(other.mail_id).join(fate, fate.mail_id == other.mail_id))
        .where(
            other.kind == MailItem.kind,
            other.item_id == MailItem.item_id,
            other.mail_id != MailItem.mail_id,
            fate.outcome == "sent",
        )
        .correlate(MailItem)
    )
    for kind in ("assignment", "case"):
        ids = sorted({item for item_kind, item in items if item_kind == kind})
        for start in range(0, len(ids), 500):
            query = (
                select(Mail)
                .join(MailItem, MailItem.mail_id == Mail.id)
                .join(MailOutcome, MailOutcome.mail_id == Mail.id)
                .where(
                    Mail.recipient == branch_no,
                    MailItem.kind == kind,
                    MailItem.item_id.in_(ids[start : start + 500]),
                    latest(MailOutcome.id, MailOutcome.id, MailOutcome.mail_id),
                    MailOutcome.outcome.in_(("unknown", "bounced")),
                    ~elsewhere,
                )
                .distinct()
            )
            found |= {mail.id: mail for mail in session.scalars(query)}
    return [found[mail_id] for mail_id in sorted(found)]


def notices_of(session: Session, mail_id: int | None = None) -> pd.DataFrame:
    """mail_id, kind, status, booked_at, message_id of the notices that came back, of one mail or of all."""
    query = select(
        MailNotice.mail_id, MailNotice.kind, MailNotice.status, MailNotice.booked_at, MailNotice.message_id
    ).order_by(MailNotice.id)
    return frame(session, query if mail_id is None else query.where(MailNotice.mail_id == mail_id))
