"""What flows/collect writes: messages, verdicts, accepted rows and what follows from them."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Key


class Message(Base):
    """One message, by the hash of its bytes, spooled before anything is judged."""

    __tablename__ = "message"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    first_seen_at: Mapped[datetime]


class Sighting(Base):
    """One message lying in one mailbox; a second sighting of the same bytes is a duplicate."""

    __tablename__ = "sighting"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"), index=True)
    source: Mapped[str]
    folder: Mapped[str]
    uid_validity: Mapped[str]
    uid: Mapped[str]
    seen_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("source", "folder", "uid_validity", "uid"),)


class Verdict(Base):
    """What was decided about a message; the highest version counts."""

    __tablename__ = "verdict"
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    verdict: Mapped[str]
    """accepted | partly | rejected | quarantined | notice | held | duplicate"""
    reason: Mapped[str]
    branch_no: Mapped[str]
    campaign_id: Mapped[str | None] = mapped_column(ForeignKey("campaign.id"))
    rows_accepted: Mapped[int]
    rows_rejected: Mapped[int]
    is_late: Mapped[bool]
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]


class ReturnRow(Base):
    """One accepted row of a returned callback sheet; per assignment the highest version counts."""

    __tablename__ = "return_row"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"), index=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"))
    version: Mapped[int]
    sheet: Mapped[str]
    row: Mapped[int]
    outcome: Mapped[str]
    called_on: Mapped[date]
    called_at: Mapped[str]
    caller_name: Mapped[str]
    channel: Mapped[str]
    attempts: Mapped[int]
    answers: Mapped[dict[str, Any]]
    """Answer code per legal content: clear | flagged | not_asked."""
    violation: Mapped[str]
    remark: Mapped[str] = mapped_column(Text)
    """Free text of the branch: personal."""
    completes: Mapped[bool]
    fails: Mapped[bool]
    """The attempt is final without completion: the place passes on."""
    is_late: Mapped[bool]
    awaits: Mapped[str] = mapped_column(server_default="")
    """Kinds of evidence that are missing, joined by commas: the row says enough and completes only with them."""
    content_sha256: Mapped[str]
    booked_on: Mapped[date]
    __table_args__ = (
        UniqueConstraint("assignment_id", "version"),
        UniqueConstraint("assignment_id", "content_sha256"),
    )


class RowProblem(Base):
    """One row that was sent back, by place and code, never by value."""

    __tablename__ = "row_problem"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"), index=True)
    sheet: Mapped[str]
    row: Mapped[int]
    column_name: Mapped[str]
    code: Mapped[str]
    assignment_id: Mapped[int | None]


class Finding(Base):
    """A suspected violation stated in one accepted row."""

    __tablename__ = "finding"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    return_row_id: Mapped[int] = mapped_column(ForeignKey("return_row.id"), unique=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"))
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"))
    customer_id: Mapped[str]
    branch_no: Mapped[str]
    violation: Mapped[str]
    found_on: Mapped[date]


class Opinion(Base):
    """An opinion or suggestion of a customer stated in one accepted row."""

    __tablename__ = "opinion"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    return_row_id: Mapped[int] = mapped_column(ForeignKey("return_row.id"), unique=True)
    assignment_id: Mapped[int] = mapped_column(ForeignKey("assignment.id"))
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"))
    branch_no: Mapped[str]
    raised_on: Mapped[date]


class Evidence(Base):
    """One file that came with a return, kept encrypted in the vault under the hash of its clear bytes."""

    __tablename__ = "evidence"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"))
    part: Mapped[int]
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str]
    item_kind: Mapped[str]
    """assignment | case | '' when it names no row of the sender"""
    item_id: Mapped[int | None] = mapped_column(index=True)
    path: Mapped[str]
    kind: Mapped[str] = mapped_column(server_default="")
    """recording | interview | register | signature | scan | '' for neither, by models/evidence.py"""
    seconds: Mapped[float | None]
    """Of a recording; null where it cannot be told."""
    fault: Mapped[str] = mapped_column(server_default="")
    """Why it counts as missing though it came, a code of models/evidence.py's FAULTS."""
    __table_args__ = (UniqueConstraint("message_id", "part"),)


class SelfCheck(Base):
    """One accepted row of a returned self-check statement; per case the highest version counts."""

    __tablename__ = "self_check"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"), index=True)
    case_id: Mapped[int] = mapped_column(ForeignKey("suspect_case.id"))
    version: Mapped[int]
    sheet: Mapped[str]
    row: Mapped[int]
    truth: Mapped[str]
    """true | false | unverifiable: the branch's judgement of the customer's statement"""
    holdings_checked: Mapped[str]
    interviewed: Mapped[str]
    handling: Mapped[str] = mapped_column(Text)
    checked_on: Mapped[date]
    checker_name: Mapped[str]
    is_late: Mapped[bool]
    awaits: Mapped[str] = mapped_column(server_default="")
    """Kinds of evidence that are missing, joined by commas; the case waits for them."""
    content_sha256: Mapped[str]
    booked_on: Mapped[date]
    __table_args__ = (UniqueConstraint("case_id", "version"), UniqueConstraint("case_id", "content_sha256"))
