"""Why branches did not get their lists: headquarters' tasks until a list has gone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.roster_findings import Finding
from models.tables import DispatchGap, Mail
from tasks.records.mails import calls_to_mail

Gaps = dict[str, list[Finding]]
"""By branch."""


def open_gaps(session: Session, campaign_id: str) -> Gaps:
    """What stops branches of a campaign that calls still wait for, as the last dispatch found it."""
    waiting = set(calls_to_mail(session, campaign_id)["branch_no"])
    last: dict[str, tuple[datetime, list[Finding]]] = {}
    query = select(DispatchGap).where(DispatchGap.campaign_id == campaign_id).order_by(DispatchGap.id)
    for gap in session.scalars(query):
        found = Finding(gap.code, True, gap.branch_no, gap.role, gap.file, gap.row_number, detail=gap.detail)
        if gap.branch_no in last and last[gap.branch_no][0] == gap.found_at:
            last[gap.branch_no][1].append(found)
        else:
            last[gap.branch_no] = (gap.found_at, [found])
    claims = select(Mail.recipient, Mail.claimed_at).where(Mail.campaign_id == campaign_id, Mail.kind == "assignment")
    went = {recipient for recipient, at in session.execute(claims) if recipient in last and at > last[recipient][0]}
    return {branch_no: found for branch_no, (_, found) in sorted(last.items()) if branch_no in waiting - went}


def add_gaps(session: Session, campaign_id: str, found: Iterable[Finding], at: datetime) -> None:
    """What a dispatch found; of a branch of which that is known already nothing is added."""
    before = open_gaps(session, campaign_id)
    fresh: Gaps = {}
    for gap in found:
        fresh.setdefault(gap.branch_no, []).append(gap)
    for branch_no, gaps in fresh.items():
        if _kept(before.get(branch_no, [])) != _kept(gaps):
            session.add_all(
                DispatchGap(
                    campaign_id=campaign_id, branch_no=branch_no, role=gap.role, code=gap.code, file=gap.file,
                    row_number=gap.row, detail=gap.detail, found_at=at,
                )
                for gap in gaps
            )  # fmt: skip


def _kept(gaps: Iterable[Finding]) -> set[tuple[str, str, str, int, str]]:
    return {(gap.role, gap.code, gap.file, gap.row, gap.detail) for gap in gaps}
