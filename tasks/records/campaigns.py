"""Programme years, campaigns, draws and assignments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

import pandas as pd
from sqlalchemy import ColumnElement, ScalarSelect, and_, case, func, select
from sqlalchemy.orm import Session, aliased

from models import CallbackError
from models.campaign import Attempt, Entry
from models.tables import (
    Abort,
    Assignment,
    AssignmentEnd,
    AssignmentHandover,
    AssignmentPurpose,
    Audit,
    Campaign,
    CampaignGroup,
    CampaignStratum,
    Chain,
    Draw,
    DrawnCustomer,
    Exclusion,
    HandMade,
    Handover,
    ProgrammeYear,
    Quota,
    ReturnRow,
    Reveal,
    Revocation,
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


def _versions(programme_year_id: str) -> ScalarSelect[str]:
    """The rows of a programme year under all its plans, given one of them."""
    one, other = aliased(ProgrammeYear), aliased(ProgrammeYear)
    return (
        select(other.id)
        .join(one, and_(one.programme == other.programme, one.year == other.year))
        .where(one.id == programme_year_id)
        .scalar_subquery()
    )


def current_branch() -> ColumnElement[str]:
    """The branch that an assignment lies with now: where it was last handed over to, or where it was assigned."""
    # Hand-overs are entered in any order and lead in no circle: the last step is the one from which none goes on.
    onward = aliased(AssignmentHandover)
    last = (
        select(AssignmentHandover.to_branch)
        .where(
            AssignmentHandover.assignment_id == Assignment.id,
            ~select(onward.assignment_id)
            .where(
                onward.assignment_id == AssignmentHandover.assignment_id,
                onward.from_branch == AssignmentHandover.to_branch,
            )
            .exists(),
        )
        .correlate(Assignment)
        .scalar_subquery()
    )
    return func.coalesce(last, Assignment.branch_no)


def answering_branch() -> ColumnElement[str]:
    """Who gets an assignment's list: the branch it lies with, or HQ where headquarters calls."""
    return case((Assignment.caller == "hq", "HQ"), else_=current_branch())


def campaigns_of_year(session: Session, programme_year_id: str) -> list[Campaign]:
    """Every committed campaign of a programme year, whatever its plan, in order of period."""
    return list(
        session.scalars(
            select(Campaign)
            .where(Campaign.programme_year_id.in_(_versions(programme_year_id)))
            .order_by(Campaign.period)
        )
    )


def programme_years(session: Session, programme: str, year: int) -> list[ProgrammeYear]:
    """A programme year under each of its plans, in order of version."""
    return list(
        session.scalars(
            select(ProgrammeYear)
            .where(ProgrammeYear.programme == programme, ProgrammeYear.year == year)
            .order_by(ProgrammeYear.version)
        )
    )


def programmes_of_year(session: Session, year: int) -> list[str]:
    """The programmes with a frozen base in a year, by name."""
    query = select(ProgrammeYear.programme).where(ProgrammeYear.year == year).distinct()
    return sorted(session.scalars(query))


def later_campaigns(session: Session, programme_year_id: str, period: str) -> list[str]:
    """Campaigns of a programme year whose period comes after one."""
    return [c.id for c in campaigns_of_year(session, programme_year_id) if c.period > period]


def undrawn_campaigns(session: Session, programme_year_id: str, period: str) -> list[str]:
    """Campaigns of a programme year that were committed for an earlier period and never drawn."""
    drawn = set(drawn_campaigns(session))
    return [c.id for c in campaigns_of_year(session, programme_year_id) if c.period < period and c.id not in drawn]


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
            current_branch().label("branch_no"),
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
        .where(Campaign.programme_year_id.in_(_versions(programme_year_id)))
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
            .where(Campaign.programme_year_id.in_(_versions(programme_year_id)))
        )
        query = query.where(ReturnRow.assignment_id.in_(serving))
    return frame(session, query.order_by(ReturnRow.id))


def rows_as_of(session: Session, programme_year_id: str, until: int) -> pd.DataFrame:
    """The accepted row of each assignment as it stood when the row with that id was the last: the columns of `current_rows`."""
    serving = (
        select(AssignmentPurpose.assignment_id)
        .join(Campaign, Campaign.id == AssignmentPurpose.campaign_id)
        .where(Campaign.programme_year_id.in_(_versions(programme_year_id)))
    )
    found = frame(
        session,
        select(
            ReturnRow.id, ReturnRow.assignment_id, ReturnRow.version, ReturnRow.outcome, ReturnRow.completes,
            ReturnRow.fails, ReturnRow.is_late, ReturnRow.booked_on,
        )
        .where(ReturnRow.assignment_id.in_(serving), ReturnRow.id <= until)
        .order_by(ReturnRow.assignment_id, ReturnRow.version),
    )  # fmt: skip
    return found.drop_duplicates("assignment_id", keep="last").sort_values("id").reset_index(drop=True)


def last_row(session: Session) -> int:
    """The id of the last accepted row; 0 when there is none."""
    return session.scalar(select(func.max(ReturnRow.id))) or 0


def ends(session: Session) -> pd.DataFrame:
    """assignment_id, kind, ended_on of assignments that ended without a call."""
    return frame(session, select(AssignmentEnd.assignment_id, AssignmentEnd.kind, AssignmentEnd.ended_on))


def chain_of(session: Session, year: ProgrammeYear) -> Chain | None:
    """The commitment to a programme year's chain of seeds."""
    return session.get(Chain, programme_years(session, year.programme, year.year)[0].id)


def attempts_of(session: Session, campaign_id: str) -> list[Attempt]:
    """The attempts at a campaign, from the first; the last is the one that stands, with what was revealed for it so far.

    A link that was revealed once is known, and counts for every later attempt.
    """
    aborted = {row.attempt: row for row in session.scalars(select(Abort).where(Abort.campaign_id == campaign_id))}
    revealed = {
        (row.attempt, row.kind): row for row in session.scalars(select(Reveal).where(Reveal.campaign_id == campaign_id))
    }
    link, found = None, []
    for number in range(1, len(aborted) + 2):
        public, given_up = revealed.get((number, "public")), aborted.get(number)
        link = revealed.get((number, "link"), link)
        found.append(
            Attempt(
                number=number,
                public=public.value if public else "",
                public_on=public.public_on if public else None,
                link=link.value if link and public else "",
                aborted=given_up.reason if given_up else "",
                public_entry=Entry(public.revealed_by, public.revealed_at) if public else None,
                link_entry=Entry(link.revealed_by, link.revealed_at) if link and public else None,
                abort_entry=Entry(given_up.decided_by, given_up.decided_at) if given_up else None,
            )
        )
    return found


def hand_made(session: Session, programme: str, year: int, kind: str) -> list[HandMade]:
    """The exceptions of one kind that approvers gave for a programme year and did not revoke, in the order they were given."""
    revoked = select(Revocation.hand_made_id).where(Revocation.hand_made_id.is_not(None))
    return list(
        session.scalars(
            select(HandMade)
            .where(HandMade.programme == programme, HandMade.year == year, HandMade.kind == kind)
            .where(HandMade.id.not_in(revoked))
            .order_by(HandMade.id)
        )
    )


def handovers(session: Session) -> pd.DataFrame:
    """id, from_branch, to_branch, valid_from of every hand-over between branches that is not revoked."""
    revoked = select(Revocation.handover_id).where(Revocation.handover_id.is_not(None))
    return frame(
        session,
        select(Handover.id, Handover.from_branch, Handover.to_branch, Handover.valid_from)
        .where(Handover.id.not_in(revoked))
        .order_by(Handover.id),
    )


def planned_load(session: Session, first: date) -> pd.DataFrame:
    """Calls planned from a day on and not answered or ended: branch_no (HQ where it calls), caller_id, call_on, calls."""
    settled = select(ReturnRow.assignment_id).where(ReturnRow.completes | ReturnRow.fails)
    branch = answering_branch().label("branch_no")
    return frame(
        session,
        select(branch, Assignment.caller_id, Assignment.call_on, func.count().label("calls"))
        .where(
            Assignment.call_on >= first,
            Assignment.id.not_in(settled),
            Assignment.id.not_in(select(AssignmentEnd.assignment_id)),
        )
        .group_by(branch, Assignment.caller_id, Assignment.call_on),
    )


def last_contacts(session: Session, until: date) -> pd.DataFrame:
    """customer_id, contacted_on: the last day on which a customer was talked to, in any programme, by accepted rows."""
    talked = ("done_clear", "done_suspect", "done_opinion", "partial", "rebook", "refused")
    return frame(
        session,
        select(Assignment.customer_id, func.max(ReturnRow.called_on).label("contacted_on"))
        .join(Assignment, Assignment.id == ReturnRow.assignment_id)
        .where(ReturnRow.outcome.in_(talked), ReturnRow.called_on <= until)
        .group_by(Assignment.customer_id),
    )


def add_campaign(session: Session, campaign: Campaign, groups: pd.DataFrame, strata: pd.DataFrame) -> None:
    """The committed state, counts and places of a period."""
    session.add(campaign)
    session.flush()
    insert_rows(session, CampaignGroup, groups, campaign_id=campaign.id)
    insert_rows(session, CampaignStratum, strata, campaign_id=campaign.id)


def decisions_on(session: Session, subject: str) -> list[tuple[int, str, str]]:
    """What the audit chain says was decided on a subject, in order: place in the chain, action, hash of the payload."""
    query = select(Audit.id, Audit.action, Audit.payload_sha256).where(Audit.subject == subject).order_by(Audit.id)
    return [(row.id, row.action, row.payload_sha256) for row in session.execute(query)]


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
) -> dict[str, int]:
    """New calls, and the purposes they and the joined calls serve; the new calls' ids by customer.

    new: see models.assignment.NEW; joined: customer_id, assignment_id; replaces: failed call by the customer who takes
    its place.
    """
    served: list[tuple[int, str]] = [
        (int(row["assignment_id"]), str(row["customer_id"])) for row in joined.to_dict("records")
    ]
    calls = [
        Assignment(
            campaign_id=campaign.id,
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
    return {call.customer_id: call.id for call in calls}


def replaced_ids(session: Session, campaign_id: str) -> set[int]:
    """Failed calls of a campaign whose place another has taken."""
    taken = select(AssignmentPurpose.replaces_id).where(AssignmentPurpose.campaign_id == campaign_id)
    return {i for i in session.scalars(taken) if i is not None}


def moved_up(session: Session, campaign_id: str) -> list[tuple[str, bool]]:
    """Who took a failed call's place in a campaign, in the order of the calls, and whether another's call serves for it."""
    query = (
        select(Assignment.customer_id, Assignment.campaign_id != campaign_id)
        .join(AssignmentPurpose, AssignmentPurpose.assignment_id == Assignment.id)
        .where(AssignmentPurpose.campaign_id == campaign_id, AssignmentPurpose.replaces_id.is_not(None))
        .order_by(Assignment.id)
    )
    return [(customer, bool(joined)) for customer, joined in session.execute(query)]


def calls_of(session: Session, campaign_id: str) -> pd.DataFrame:
    """Every call that serves a campaign: assignment_id, customer_id, branch_no (where it lies now), due_on,
    carried_by (campaign), answered_by (who has its list: the branch, or HQ where headquarters calls).
    """
    return frame(
        session,
        select(
            Assignment.id.label("assignment_id"),
            Assignment.customer_id,
            current_branch().label("branch_no"),
            Assignment.due_on,
            Assignment.campaign_id.label("carried_by"),
            answering_branch().label("answered_by"),
        )
        .join(AssignmentPurpose, AssignmentPurpose.assignment_id == Assignment.id)
        .where(AssignmentPurpose.campaign_id == campaign_id)
        .order_by(Assignment.id),
    )


def due_by_branch(session: Session, campaign_id: str) -> dict[str, date]:
    """The last due date of each branch's calls in a campaign; under '' that of all calls."""
    # PostgreSQL does not see that two expressions with parameters are the same one.
    calls = select(answering_branch().label("branch_no"), Assignment.due_on).where(Assignment.campaign_id == campaign_id)
    each = calls.subquery()
    query = select(each.c.branch_no, func.max(each.c.due_on)).group_by(each.c.branch_no)
    found = {str(branch_no): due_on for branch_no, due_on in session.execute(query)}
    assert found, "a drawn campaign has calls"
    return found | {"": max(found.values())}


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
