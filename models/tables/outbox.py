"""The outbox, written through tasks/outbox.py by every flow that mails."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Key

NOT_DELIVERED = ("failed", "bounced", "recalled")
"""Outcomes with which a mail is not with its recipient: what it carried is carried again."""


class Mail(Base):
    """The claim of one mail of any kind, committed before the mail server is spoken to."""

    __tablename__ = "mail"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    kind: Mapped[str]
    """assignment | self_check | reminder | receipt | correction | feedback | recall"""
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"))
    recipient: Mapped[str]
    """Branch number, or HQ."""
    role: Mapped[str]
    sequence: Mapped[int] = mapped_column(BigInteger)
    to_address: Mapped[str]
    subject: Mapped[str]
    message_id: Mapped[str] = mapped_column(unique=True)
    message_sha256: Mapped[str]
    path: Mapped[str]
    """The message as it was handed to the server, below HUIFANG_HOME."""
    claimed_at: Mapped[datetime]
    claimed_by: Mapped[str]
    __table_args__ = (UniqueConstraint("kind", "campaign_id", "recipient", "role", "sequence"),)


class MailItem(Base):
    """One assignment or case that a mail carries, or that its correction sheet shows again."""

    __tablename__ = "mail_item"
    mail_id: Mapped[int] = mapped_column(ForeignKey("mail.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    """assignment | case | corrected_assignment | corrected_case"""
    item_id: Mapped[int] = mapped_column(Key, primary_key=True, index=True)


class MailOutcome(Base):
    """What became of a claimed mail; the row with the highest id counts, none means in flight."""

    __tablename__ = "mail_outcome"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    mail_id: Mapped[int] = mapped_column(ForeignKey("mail.id"), index=True)
    outcome: Mapped[str]
    """sent | failed | unknown | bounced (a notice came back) | recalled (it went to the wrong recipient)"""
    code: Mapped[int | None]
    """SMTP reply code where there was one: 4xx may be tried again, 5xx not before the address changes."""
    detail: Mapped[str] = mapped_column(Text)
    decided_by: Mapped[str]
    at: Mapped[datetime]


class MailNotice(Base):
    """What a notice that came back says of one mail; written by flows/collect with the notice's verdict."""

    __tablename__ = "mail_notice"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    mail_id: Mapped[int] = mapped_column(ForeignKey("mail.id"), index=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("message.id"))
    """The notice as it came."""
    kind: Mapped[str]
    """bounced | delayed | delivered | auto_reply | unclear"""
    status: Mapped[str]
    """As in RFC 3463, such as 5.1.1; '' where the notice has none."""
    booked_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("mail_id", "message_id"),)


class MailRecall(Base):
    """What is known of a mail that went to the wrong recipient: the record of PIPL article 57, one for each mail.

    Written by `huifang mail recall`. From then on the address is not written to for that branch, until the roster
    names it anew from a later day.
    """

    __tablename__ = "mail_recall"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    mail_id: Mapped[int] = mapped_column(ForeignKey("mail.id"), unique=True)
    recipient: Mapped[str]
    """The branch that should have had it, or HQ."""
    to_address: Mapped[str]
    data_kinds: Mapped[list[Any]]
    """Codes of models/recall.py."""
    persons: Mapped[int] = mapped_column(BigInteger)
    """Customers whom the mail concerns."""
    is_locked: Mapped[bool]
    """Whether what it carried can be opened only with the branch's key."""
    cause: Mapped[str] = mapped_column(Text)
    measures: Mapped[str] = mapped_column(Text)
    """What was done besides: the request to destroy, the block and the new list are rows of their own."""
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]


class Approval(Base):
    """That compliance lets a draw's lists go out, or takes that back; the row with the highest id counts.

    Written by `huifang approve` and the flow of the same name.
    """

    __tablename__ = "approval"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), index=True)
    sample_sha256: Mapped[str]
    """What was approved: of another sample the row says nothing."""
    decision: Mapped[str]
    """approved | withdrawn"""
    note: Mapped[str] = mapped_column(Text)
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]


class MailSwitch(Base):
    """That a person stopped all mail, or let it go on; the row with the highest id counts, none means it goes."""

    __tablename__ = "mail_switch"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    is_stopped: Mapped[bool]
    reason: Mapped[str] = mapped_column(Text)
    decided_by: Mapped[str]
    decided_at: Mapped[datetime]
