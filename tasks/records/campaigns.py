"""Programme years, campaigns, draws and assignments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

import pandas as pd
from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from models import CallbackError
from models.tables import (
    Assignment,
    AssignmentEnd,
    AssignmentPurpose,
    Campaign,
    CampaignGroup,
    CampaignStratum,
    Draw,
    DrawnCustomer,
    Exclusion,
    ProgrammeYear,
    Quota,
    ReturnRow,
    Seed,
    Stratum,
)
from tasks.records.base import frame, insert_rows, latest


class UnknownCampaign(CallbackError):
    """A campaign that was never drawn."""


def campaign_of(session: Session, campaign_id: str) -> tuple[Campaign, ProgrammeYear, Draw]:
    """A drawn campaign with its programme year. Raises UnknownCampaign naming those there are."""
    campaign = session.get(Campaign, campaign_id)
    drawn = session.get(Draw, campaign_id)
    if campaign is None or drawn is None:
        known = ", ".join(drawn_campaigns(session)) or "none"
        raise UnknownCampaign(f"no campaign {campaign_id!r} has been drawn; drawn are: {known}")
    year = session.get(ProgrammeYear, campaign.programme_year_id)
    assert year is not None, "the foreign key holds"
    return campaign, year, drawn


def drawn_campaigns(session: Session) -> list[str]:
    """Every drawn campaign, by id."""
    return list(session.scalars(select(Draw.campaign_id).order_by(Draw.campaign_id)))


def later_campaigns(session: Session, programme_year_id: str, period: str) -> list[str]:
    """Campaigns of a programme year whose period comes after one."""
    return list(
        session.scalars(
            select(Campaign.id)
            .where(Campaign.programme_year_id == programme_year_id, Campaign.period > period)
            .order_by(Campaign.id)
        )
    )


def add_programme_year(
    session: Session, year: ProgrammeYear, *, ledger: pd.DataFrame, quota: pd.DataFrame, strata: pd.DataFrame
) -> None:
    """A frozen base with its ledger (reason null = eligible, not stored), goals and strata."""
    session.add(year)
    session.flush()
    excluded = ledger[ledger["reason"].notna()]
    insert_rows(session, Exclusion, excluded, programme_year_id=year.id)
    insert_rows(session, Quota, quota, programme_year_id=year.id)
    insert_rows(session, Stratum, strata, programme_year_id=year.id)


def quota_of(session: Session, programme_year_id: str) -> pd.DataFrame:
    """group_key, branch_no, eligible, goal."""
    return frame(
        session,
        select(Quota.group_key, Quota.branch_no, Quota.eligible, Quota.goal)
        .where(Quota.programme_year_id == programme_year_id)
        .order_by(Quota.group_key),
    )


def strata_of(session: Session, programme_year_id: str) -> pd.DataFrame:
    """group_key, stratum, customers, minimum, places."""
    return frame(
        session,
        select(Stratum.group_key, Stratum.stratum, Stratum.customers, Stratum.minimum, Stratum.places)
        .where(Stratum.programme_year_id == programme_year_id)
        .order_by(Stratum.group_key, Stratum.stratum),
    )


def exclusions_of(session: Session, programme_year_id: str) -> pd.DataFrame:
    """branch_no, reason, customers."""
    return frame(
        session,
        select(Exclusion.branch_no, Exclusion.reason, Exclusion.customers).where(
            Exclusion.programme_year_id == programme_year_id
        ),
    )


def taken_of(session: Session, programme_year_id: str, *, before: str | None = None) -> pd.DataFrame:
    """Every call of a programme year: assignment_id, campaign_id, customer_id, branch_no, group_key, stratum, due_on.

    before: only campaigns of earlier periods than that campaign's.
    """
    query = (
        select(
            Assignment.id.label("assignment_id"),
            AssignmentPurpose.campaign_id,
            Assignment.customer_id,
            Assignment.branch_no,
            DrawnCustomer.group_key,
            DrawnCustomer.stratum,
            Assignment.due_on,
        )
        .join(AssignmentPurpose, AssignmentPurpose.assignment_id == Assignment.id)
        .join(Campaign, Campaign.id == AssignmentPurpose.campaign_id)
        .join(
            DrawnCustomer,
            and_(
                DrawnCustomer.campaign_id == AssignmentPurpose.campaign_id,
                DrawnCustomer.customer_id == Assignment.customer_id,
            ),
        )
        .where(Campaign.programme_year_id == programme_year_id)
        .order_by(Assignment.id)
    )
    if before is not None:
        period = session.scalar(select(Campaign.period).where(Campaign.id == before))
        query = query.where(Campaign.period < period)
    return frame(session, query)


def current_rows(session: Session, programme_year_id: str | None = None) -> pd.DataFrame:
    """The current accepted row of each assignment: assignment_id, version, outcome, completes, fails, is_late, booked_on, id."""
    query = select(
        ReturnRow.id,
        ReturnRow.assignment_id,
        ReturnRow.version,
        ReturnRow.outcome,
        ReturnRow.completes,
        ReturnRow.fails,
        ReturnRow.is_late,
        ReturnRow.booked_on,
    ).where(latest(ReturnRow.version, ReturnRow.version, ReturnRow.assignment_id))
    if programme_year_id is not None:
        serving = (
            select(AssignmentPurpose.assignment_id)
            .join(Campaign, Campaign.id == AssignmentPurpose.campaign_id)
            .where(Campaign.programme_year_id == programme_year_id)
        )
        query = query.where(ReturnRow.assignment_id.in_(serving))
    return frame(session, query.order_by(ReturnRow.id))


def ends(session: Session) -> pd.DataFrame:
    """assignment_id, kind of assignments that ended without a call."""
    return frame(session, select(AssignmentEnd.assignment_id, AssignmentEnd.kind))


def add_campaign(session: Session, campaign: Campaign, groups: pd.DataFrame, strata: pd.DataFrame) -> None:
    """The committed state, counts and places of a period."""
    session.add(campaign)
    session.flush()
    insert_rows(session, CampaignGroup, groups, campaign_id=campaign.id)
    insert_rows(session, CampaignStratum, strata, campaign_id=campaign.id)


def groups_of(session: Session, campaign_id: str) -> pd.DataFrame:
    """A campaign's groups as committed; columns of campaign_group."""
    columns = [c for c in CampaignGroup.__table__.columns if c.name != "campaign_id"]
    return frame(
        session, select(*columns).where(CampaignGroup.campaign_id == campaign_id).order_by(CampaignGroup.group_key)
    )


def campaign_strata_of(session: Session, campaign_id: str) -> pd.DataFrame:
    """A campaign's strata as committed; columns of campaign_stratum."""
    columns = [c for c in CampaignStratum.__table__.columns if c.name != "campaign_id"]
    return frame(
        session,
        select(*columns)
        .where(CampaignStratum.campaign_id == campaign_id)
        .order_by(CampaignStratum.group_key, CampaignStratum.stratum),
    )


def seed_of(session: Session, campaign_id: str) -> Seed | None:
    """The seed of a campaign's last attempt."""
    return session.scalar(select(Seed).where(Seed.campaign_id == campaign_id).order_by(Seed.attempt.desc()).limit(1))


def drawn_of(session: Session, campaign_id: str) -> pd.DataFrame:
    """Sample and reserve: the columns of drawn_customer."""
    columns = [c for c in DrawnCustomer.__table__.columns if c.name != "campaign_id"]
    return frame(
        session,
        select(*columns)
        .where(DrawnCustomer.campaign_id == campaign_id)
        .order_by(DrawnCustomer.group_key, DrawnCustomer.stratum, DrawnCustomer.rank),
    )


def add_draw(session: Session, draw: Draw, drawn: pd.DataFrame) -> None:
    """The one draw of a campaign with its sample and reserve."""
    session.add(draw)
    session.flush()
    insert_rows(session, DrawnCustomer, drawn, campaign_id=draw.campaign_id)


def open_calls_of_others(session: Session, campaign: Campaign, as_of: date) -> pd.DataFrame:
    """customer_id, assignment_id, form of calls of other programmes that are under way: not answered, ended or overdue.

    A call of the same programme, of last month or last year, is owed for itself; an overdue one has stopped moving.
    """
    own = select(ProgrammeYear.programme).where(ProgrammeYear.id == campaign.programme_year_id).scalar_subquery()
    answered = select(ReturnRow.assignment_id).where(ReturnRow.completes | ReturnRow.fails)
    ended = select(AssignmentEnd.assignment_id)
    return frame(
        session,
        select(Assignment.customer_id, Assignment.id.label("assignment_id"), Assignment.form)
        .join(Campaign, Campaign.id == Assignment.campaign_id)
        .join(ProgrammeYear, ProgrammeYear.id == Campaign.programme_year_id)
        .where(
            ProgrammeYear.programme != own,
            Assignment.due_on >= as_of,
            Assignment.id.not_in(answered),
            Assignment.id.not_in(ended),
        ),
    )


def add_assignments(
    session: Session,
    campaign: Campaign,
    new: pd.DataFrame,
    joined: pd.DataFrame,
    *,
    as_of: date,
    now: datetime,
    replaces: Mapping[str, int] | None = None,
) -> None:
    """New calls, and the purposes they and the joined calls serve; replaces: failed call by the customer who takes its place."""
    served: list[tuple[int, str]] = [
        (int(row["assignment_id"]), str(row["customer_id"])) for row in joined.to_dict("records")
    ]
    calls = [
        Assignment(
            campaign_id=campaign.id,
            caller="branch",
            calendar_version=campaign.calendar_version,
            assigned_on=as_of,
            assigned_at=now,
            **{str(k): v for k, v in row.items()},
        )
        for row in new.to_dict("records")
    ]
    session.add_all(calls)
    session.flush()
    served += [(call.id, call.customer_id) for call in calls]
    session.add_all(
        AssignmentPurpose(campaign_id=campaign.id, assignment_id=call, replaces_id=(replaces or {}).get(customer))
        for call, customer in served
    )


def replaced_ids(session: Session, campaign_id: str) -> set[int]:
    """Failed calls of a campaign whose place another has taken."""
    taken = select(AssignmentPurpose.replaces_id).where(AssignmentPurpose.campaign_id == campaign_id)
    return {i for i in session.scalars(taken) if i is not None}


def calls_of(session: Session, campaign_id: str) -> pd.DataFrame:
    """Every call that serves a campaign: assignment_id, customer_id, branch_no, due_on, carried_by."""
    return frame(
        session,
        select(
            Assignment.id.label("assignment_id"),
            Assignment.customer_id,
            Assignment.branch_no,
            Assignment.due_on,
            Assignment.campaign_id.label("carried_by"),
        )
        .join(AssignmentPurpose, AssignmentPurpose.assignment_id == Assignment.id)
        .where(AssignmentPurpose.campaign_id == campaign_id)
        .order_by(Assignment.id),
    )


def due_of(session: Session, campaign_id: str, branch_no: str) -> date:
    """The last due date of a branch's calls in a campaign; the campaign's own last one where it has none."""
    mine = session.scalar(
        select(func.max(Assignment.due_on)).where(
            Assignment.campaign_id == campaign_id, Assignment.branch_no == branch_no
        )
    )
    found = mine or session.scalar(select(func.max(Assignment.due_on)).where(Assignment.campaign_id == campaign_id))
    assert found is not None, "a drawn campaign has calls"
    return found


def expire(session: Session, campaign_id: str, *, as_of: date, reason: str) -> int:
    """End every call of a campaign that is still open; how many."""
    settled = select(ReturnRow.assignment_id).where(ReturnRow.completes | ReturnRow.fails)
    still_open = session.scalars(
        select(Assignment.id).where(
            Assignment.campaign_id == campaign_id,
            Assignment.id.not_in(settled),
            Assignment.id.not_in(select(AssignmentEnd.assignment_id)),
        )
    ).all()
    session.add_all(
        AssignmentEnd(assignment_id=i, kind="expired", reason=reason, ended_on=as_of, decided_by="flow:chase")
        for i in still_open
    )
    return len(still_open)
