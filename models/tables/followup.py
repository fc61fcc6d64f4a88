"""What flows/chase.py and flows/report.py write."""

from datetime import date, datetime

from sqlalchemy import ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Key


class Case(Base):
    """All findings about one customer in one campaign: one case with its grounds."""

    __tablename__ = "suspect_case"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"))
    customer_id: Mapped[str]
    branch_no: Mapped[str]
    form: Mapped[str]
    opened_on: Mapped[date]
    __table_args__ = (UniqueConstraint("campaign_id", "customer_id"),)


class CaseGround(Base):
    """One finding as a ground of a case."""

    __tablename__ = "case_ground"
    finding_id: Mapped[int] = mapped_column(ForeignKey("finding.id"), primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("suspect_case.id"), index=True)


class CaseMerge(Base):
    """Finding and self-check side by side, with the result the rule table proposes; a person decides later."""

    __tablename__ = "case_merge"
    self_check_id: Mapped[int] = mapped_column(ForeignKey("self_check.id"), primary_key=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("suspect_case.id"), index=True)
    result: Mapped[str]
    """confirmed | contradicted | unverifiable"""
    merged_on: Mapped[date]


class AssignmentEnd(Base):
    """An assignment that ended without a call: taken back by a decision, or run out with its programme year."""

    __tablename__ = "assignment_end"
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"), primary_key=True)
    kind: Mapped[str]
    """withdrawn | expired"""
    reason: Mapped[str] = mapped_column(Text)
    ended_on: Mapped[date]
    decided_by: Mapped[str]
    """flow:chase where it ran out, flow:draw where an approver withdrew it."""


class Report(Base):
    """One HTML report, by the hash of the figures it shows."""

    __tablename__ = "report"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"))
    as_of: Mapped[date]
    figures_sha256: Mapped[str]
    path: Mapped[str]
    written_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("campaign_id", "figures_sha256"),)
