"""What flows/draw/ writes: the frozen year, its campaigns, seeds, samples and calls, and what people decide about them."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Key


class ProgrammeYear(Base):
    """One programme on one frozen base under one plan: frame, plan and quota, committed once.

    A programme changed within the year adds a row with the next version (DRAW 12); its campaigns point to the row they
    were drawn under.
    """

    __tablename__ = "programme_year"
    id: Mapped[str] = mapped_column(primary_key=True)
    """daily_risk-2026, and daily_risk-2026.2 for the plan's second version."""
    programme: Mapped[str]
    year: Mapped[int]
    version: Mapped[int] = mapped_column(default=1)
    """1, 2, … within the year."""
    from_period: Mapped[str] = mapped_column(default="")
    """The first period drawn under it; '' in years frozen before versions were kept."""
    base_on: Mapped[date]
    snapshots: Mapped[dict[str, Any]]
    """Snapshot id per canonical table the frame was made from."""
    plan: Mapped[str] = mapped_column(Text)
    plan_sha256: Mapped[str]
    frame_path: Mapped[str]
    frame_sha256: Mapped[str]
    ledger_sha256: Mapped[str] = mapped_column(default="")
    """Of the excluded customers with their reasons as text; '' in years frozen before it was kept."""
    base: Mapped[int]
    """Year-end customers: eligible + excluded by reason + waived."""
    eligible: Mapped[int]
    waived: Mapped[int]
    contradictions: Mapped[dict[str, Any]]
    """Count per kind of contradiction that was reported and not repaired."""
    code_version: Mapped[str]
    frozen_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("programme", "year", "version"),)


class Exclusion(Base):
    """The ledger of exclusions in counts; the customers themselves stand in the lake beside the frame."""

    __tablename__ = "exclusion"
    programme_year_id: Mapped[str] = mapped_column(ForeignKey("programme_year.id"), primary_key=True)
    branch_no: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    customers: Mapped[int]


class Quota(Base):
    """What one group owes in the programme year."""

    __tablename__ = "quota"
    programme_year_id: Mapped[str] = mapped_column(ForeignKey("programme_year.id"), primary_key=True)
    group_key: Mapped[str] = mapped_column(primary_key=True)
    branch_no: Mapped[str]
    eligible: Mapped[int]
    goal: Mapped[int]


class Stratum(Base):
    """One stratum of a group with its share of the year's goal (DRAW 3, 4)."""

    __tablename__ = "stratum"
    programme_year_id: Mapped[str] = mapped_column(ForeignKey("programme_year.id"), primary_key=True)
    group_key: Mapped[str] = mapped_column(primary_key=True)
    stratum: Mapped[str] = mapped_column(primary_key=True)
    customers: Mapped[int]
    minimum: Mapped[int]
    places: Mapped[int]


class Campaign(Base):
    """One period's issue of a programme year, committed before its seed exists (DRAW 14)."""

    __tablename__ = "campaign"
    id: Mapped[str] = mapped_column(primary_key=True)
    programme_year_id: Mapped[str] = mapped_column(ForeignKey("programme_year.id"))
    period: Mapped[str]
    as_of: Mapped[date]
    calendar_version: Mapped[str]
    state_sha256: Mapped[str]
    state_path: Mapped[str] = mapped_column(default="")
    """The committed text below the lake; '' in campaigns committed before it was kept."""
    developers_path: Mapped[str] = mapped_column(default="")
    """Coverage: the developer of each frame customer on the day of the commitment, below the lake."""
    rows_until: Mapped[int] = mapped_column(Key, default=0)
    """The last return row that the state counts."""
    committed_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("programme_year_id", "period"),)


class CampaignGroup(Base):
    """A group's state and what it owes this period, as committed (DRAW 6)."""

    __tablename__ = "campaign_group"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    group_key: Mapped[str] = mapped_column(primary_key=True)
    branch_no: Mapped[str] = mapped_column(default="")
    eligible: Mapped[int] = mapped_column(default=0)
    goal: Mapped[int] = mapped_column(default=0)
    completed: Mapped[int]
    open: Mapped[int]
    failed: Mapped[int]
    capacity: Mapped[int] = mapped_column(default=0)
    owed: Mapped[int]
    share: Mapped[int]
    places: Mapped[int]
    shortfall: Mapped[int]
    reason: Mapped[str]
    """Why places fell short: '' | capacity | exhausted; of a marketer without eligible customers: excluded | no_customers."""


class CampaignStratum(Base):
    """A stratum's state as committed, and the places and reserve it was dealt (DRAW 5, 7, 9)."""

    __tablename__ = "campaign_stratum"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    group_key: Mapped[str] = mapped_column(primary_key=True)
    stratum: Mapped[str] = mapped_column(primary_key=True)
    customers: Mapped[int]
    minimum: Mapped[int]
    state: Mapped[int]
    left: Mapped[int]
    places: Mapped[int]
    reserve: Mapped[int]


class Chain(Base):
    """The commitment to a programme year's chain of seeds, made before the first month (DRAW 13)."""

    __tablename__ = "chain"
    programme_year_id: Mapped[str] = mapped_column(ForeignKey("programme_year.id"), primary_key=True)
    """The year's first version."""
    links: Mapped[int]
    k0: Mapped[str]
    frame_sha256: Mapped[str]
    plan_sha256: Mapped[str]
    committed_by: Mapped[str]
    committed_at: Mapped[datetime]


class Reveal(Base):
    """The public number, or the link of the chain, as a person entered it for one attempt at a campaign (DRAW 14)."""

    __tablename__ = "reveal"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    """public | link"""
    value: Mapped[str]
    public_on: Mapped[date | None]
    """The day whose number it is."""
    revealed_by: Mapped[str]
    revealed_at: Mapped[datetime]


class Abort(Base):
    """An attempt at a campaign that was given up before its draw, and why; the next attempt needs the next public number."""

    __tablename__ = "abort"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]


class HandMade(Base):
    """An exception from the rules that an approver answers for; the draw applies it and never another."""

    __tablename__ = "hand_made"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    programme: Mapped[str]
    year: Mapped[int]
    kind: Mapped[str]
    """exclude | withdraw | capacity | reopen"""
    customer_id: Mapped[str] = mapped_column(default="")
    """exclude, withdraw: whom."""
    period: Mapped[str] = mapped_column(default="")
    """capacity, reopen: in which period."""
    group_key: Mapped[str] = mapped_column(default="")
    stratum: Mapped[str] = mapped_column(default="")
    calls: Mapped[int] = mapped_column(default=0)
    """capacity: calls that the group takes on in the period."""
    reason_code: Mapped[str] = mapped_column(default="")
    """exclude: one of the programme's reasons given by hand; withdraw: exempt, …"""
    turn: Mapped[int] = mapped_column(default=1)
    """1, 2, …: which exception for its subject it is; those before it were revoked."""
    note: Mapped[str] = mapped_column(Text)
    approver: Mapped[str]
    given_at: Mapped[datetime]
    __table_args__ = (
        UniqueConstraint(
            "programme", "year", "kind", "customer_id", "period", "group_key", "stratum", "turn",
            name="uq_hand_made_subject",
        ),
    )  # fmt: skip


class Handover(Base):
    """That one branch stands for another from a day on, because it was merged or closed."""

    __tablename__ = "handover"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    from_branch: Mapped[str]
    to_branch: Mapped[str]
    valid_from: Mapped[date]
    turn: Mapped[int] = mapped_column(default=1)
    """1, 2, …: which hand-over of the branch from that day it is; those before it were revoked."""
    reason: Mapped[str] = mapped_column(Text)
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("from_branch", "valid_from", "turn"),)


class Revocation(Base):
    """That a person took back an exception or a hand-over: no later draw applies it."""

    __tablename__ = "revocation"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    hand_made_id: Mapped[int | None] = mapped_column(ForeignKey("hand_made.id"), unique=True)
    handover_id: Mapped[int | None] = mapped_column(ForeignKey("handover.id"), unique=True)
    reason: Mapped[str] = mapped_column(Text)
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]


class AssignmentHandover(Base):
    """That a call under way passed to another branch; the row with the highest hand-over counts."""

    __tablename__ = "assignment_handover"
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"), primary_key=True)
    handover_id: Mapped[int] = mapped_column(ForeignKey("handover.id"), primary_key=True)
    from_branch: Mapped[str]
    to_branch: Mapped[str]
    handed_over_on: Mapped[date]


class Seed(Base):
    """The seed of one attempt at a campaign, stored before anything is drawn with it."""

    __tablename__ = "seed"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    seed: Mapped[str]
    origin: Mapped[str]
    """random | chain"""
    stored_at: Mapped[datetime]


class Draw(Base):
    """That a campaign was drawn, once, and the hash of what came out."""

    __tablename__ = "draw"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    attempt: Mapped[int]
    sample_sha256: Mapped[str]
    drawn: Mapped[int]
    reserve: Mapped[int]
    code_version: Mapped[str]
    drawn_at: Mapped[datetime]


class DrawnCustomer(Base):
    """One customer of a campaign's sample or reserve."""

    __tablename__ = "drawn_customer"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    customer_id: Mapped[str] = mapped_column(primary_key=True)
    branch_no: Mapped[str]
    group_key: Mapped[str]
    stratum: Mapped[str]
    ticket: Mapped[str]
    rank: Mapped[int]
    """1 … within its stratum, sample first, reserve after."""
    kind: Mapped[str]
    """sample | reserve"""
    form: Mapped[str]
    """risk_warning | conduct, frozen at the draw"""
    developer_id: Mapped[str]
    """Staff who developed the customer at the draw; '' when nobody did."""


class Assignment(Base):
    """One customer to be called by someone by a date."""

    __tablename__ = "assignment"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"))
    """The campaign whose sheet carries it; what it serves stands in assignment_purpose."""
    customer_id: Mapped[str] = mapped_column(index=True)
    branch_no: Mapped[str]
    caller: Mapped[str]
    """branch | hq"""
    caller_id: Mapped[str] = mapped_column(default="")
    """Staff who is to call; '' leaves it to the branch."""
    caller_reason: Mapped[str] = mapped_column(default="")
    """Why headquarters calls: '' | recusal."""
    call_on: Mapped[date | None]
    """The workday it is planned for."""
    form: Mapped[str]
    developer_id: Mapped[str]
    due_on: Mapped[date]
    calendar_version: Mapped[str]
    assigned_on: Mapped[date]
    assigned_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("campaign_id", "customer_id"),)


class AssignmentPurpose(Base):
    """That a call serves a campaign; one contact may serve several."""

    __tablename__ = "assignment_purpose"
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), primary_key=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"), primary_key=True)
    replaces_id: Mapped[int | None] = mapped_column(ForeignKey("assignment.id"))
    """The failed call of this campaign whose place this one takes."""
    __table_args__ = (UniqueConstraint("campaign_id", "replaces_id"),)
