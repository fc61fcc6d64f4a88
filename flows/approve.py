"""Approve: compliance lets a draw's lists go out, or takes that back; dispatch checks the row, not this form."""

from datetime import datetime

from prefect import flow, get_run_logger

from models import approval
from models.tables import NOT_DELIVERED, Approval
from tasks import board, records
from tasks.records import approvals
from tasks.settings import Settings
from tasks.store import Store, open_store, record


@flow(name="approve", flow_run_name="{campaign} · approve", validate_parameters=True)
def approve_draw(campaign: str, approver: str, sample_sha256: str, note: str = "", withdraw: bool = False) -> str:
    """What is true now. sample_sha256: its first 12 signs or more, as dispatch and `huifang approve` show them."""
    settings, now = Settings(), board.run_clock()
    said = decide(
        open_store(settings), campaign.strip(), by=approval.read_name(campaign, approver), sample=sample_sha256.strip(),
        note=note.strip(), withdraw=withdraw, now=now,
    )  # fmt: skip
    get_run_logger().info("%s", said)
    return said


def decide(
    store: Store, campaign_id: str, *, by: str, sample: str | None, note: str, withdraw: bool, now: datetime
) -> str:
    """Book an approval of a drawn campaign, or its withdrawal, with a row of the audit chain; what is true now.

    sample: the start of the hash that the person means; None takes the one that was drawn. Raises ApprovalRefused.
    """
    with store.exclusive("outbox"), store.begin() as session:
        draw = records.campaign_of(session, campaign_id)[2]
        if not approvals.asks_for_approval(session, campaign_id):
            raise approval.ApprovalRefused(f"{campaign_id}: its plan asks for no approval; nothing was booked")
        if sample is not None and (len(sample) < 12 or not draw.sample_sha256.startswith(sample.lower())):
            raise approval.ApprovalRefused(
                f"{campaign_id}: {sample!r} is not the sample that was drawn, which begins with {draw.sample_sha256[:12]}; "
                "look at it with `huifang approve` first"
            )
        if not withdraw and (changed := approvals.changed_sample(session, campaign_id)):
            raise approval.ApprovalRefused(f"{campaign_id}: {changed}; nothing was approved")
        approval.check_approver(campaign_id, by, records.starters_of(session, campaign_id))
        last = records.approval_of(session, campaign_id)
        decision = "withdrawn" if withdraw else "approved"
        holds = last is not None and last.decision == "approved" and last.sample_sha256 == draw.sample_sha256
        if withdraw and not holds:
            raise approval.ApprovalRefused(f"{campaign_id}: there is no approval to withdraw")
        mails = records.mails_of(session, campaign_id)
        if withdraw and ((mails["kind"] == "assignment") & ~mails["outcome"].isin(NOT_DELIVERED)).any():
            raise approval.ApprovalRefused(
                f"{campaign_id}: lists were mailed already; stop what is left with `huifang mail stop`"
            )
        if not withdraw and holds and last is not None:
            return f"{campaign_id}: is approved already, by {last.decided_by}; nothing changed"
        session.add(
            Approval(
                campaign_id=campaign_id, sample_sha256=draw.sample_sha256, decision=decision, note=note, decided_by=by,
                decided_at=now,
            )
        )  # fmt: skip
        record(
            session, actor=by, action=decision, subject=campaign_id,
            payload={"sample": draw.sample_sha256, "note": note}, at=now,
        )  # fmt: skip
    then = "dispatch waits again" if withdraw else "the next dispatch mails its lists"
    return f"{campaign_id}: {decision} by {by}, sample {draw.sample_sha256[:12]}…; {then}"
