"""Approvals as they are read: whether a draw may be mailed, judged by its own rows and not by what is said of them."""

from __future__ import annotations

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from models.approval import what_is_missing
from models.campaign import sample_text, text_sha256
from models.programme import Programme
from models.tables import Assignment, DrawnCustomer
from tasks.records.campaigns import campaign_of, drawn_of
from tasks.records.mails import approval_of


def asks_for_approval(session: Session, campaign_id: str) -> bool:
    """Whether the plan under which a campaign was drawn says approval: required."""
    return Programme.model_validate_json(campaign_of(session, campaign_id)[1].plan).approval == "required"


def changed_sample(session: Session, campaign_id: str) -> str:
    """How sample or calls of a campaign differ from what its hash was taken over; '' when they do not."""
    found = text_sha256(sample_text(drawn_of(session, campaign_id)))
    stated = campaign_of(session, campaign_id)[2].sample_sha256
    if found != stated:
        return (
            f"its sample has the hash {found[:12]}…, the draw wrote down {stated[:12]}…; `huifang verify {campaign_id}`"
        )
    foreign = session.scalar(
        select(Assignment.customer_id).where(
            Assignment.campaign_id == campaign_id,
            ~exists().where(
                DrawnCustomer.campaign_id == campaign_id, DrawnCustomer.customer_id == Assignment.customer_id
            ),
        )
    )
    return f"it has a call of a customer who was not drawn; `huifang verify {campaign_id}`" if foreign else ""


def lacks_approval(session: Session, campaign_id: str) -> str:
    """Why nothing of a draw may be mailed; '' when it may, because it is approved or its plan asks for no approval."""
    if not asks_for_approval(session, campaign_id):
        return ""
    last, draw = approval_of(session, campaign_id), campaign_of(session, campaign_id)[2]
    if last is None:
        return what_is_missing("", "", draw.sample_sha256)
    missing = what_is_missing(last.decision, last.sample_sha256, draw.sample_sha256)
    return missing or changed_sample(session, campaign_id)
