"""What flows/pull.py writes of a delivery, and the waiver that a person gives over it."""

from datetime import date, datetime

from sqlalchemy import BigInteger, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Key


class Pull(Base):
    """One intake of one delivery; the same files under the same profile again, after no others, are the same pull."""

    __tablename__ = "pull"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    as_of: Mapped[date]
    profile: Mapped[str]
    profile_sha256: Mapped[str]
    manifest_sha256: Mapped[str]
    code_version: Mapped[str]
    pulled_at: Mapped[datetime]
    supersedes_id: Mapped[int | None] = mapped_column(ForeignKey("pull.id"))
    """The pull of the same day that this corrected delivery takes the place of; both are kept."""
    __table_args__ = (UniqueConstraint("as_of", "supersedes_id"),)


class Snapshot(Base):
    """One canonical table of one pull: immutable Parquet in the lake, with counts that balance."""

    __tablename__ = "snapshot"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    pull_id: Mapped[int] = mapped_column(ForeignKey("pull.id"))
    table_name: Mapped[str]
    as_of: Mapped[date]
    path: Mapped[str]
    """Folder below the lake, holding accepted.parquet, rejected.parquet and reported.parquet."""
    content_sha256: Mapped[str]
    """Of the accepted rows as text (DESIGN §3.5), not of Parquet bytes."""
    rejected_sha256: Mapped[str]
    """Of the rejected row numbers, columns and reasons as text: what a waiver is given over."""
    rows: Mapped[int]
    accepted: Mapped[int]
    ignored: Mapped[int]
    rejected: Mapped[int]
    reported: Mapped[int]
    """Accepted rows that say something odd; no part of the balance."""
    __table_args__ = (UniqueConstraint("pull_id", "table_name"),)


class SourceFile(Base):
    """One file that went into a snapshot, kept raw in the lake under its hash."""

    __tablename__ = "source_file"
    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshot.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int]
    accepted: Mapped[int]
    ignored: Mapped[int]
    rejected: Mapped[int]


class SetAside(Base):
    """A file of a delivery that was not read, and why."""

    __tablename__ = "set_aside"
    pull_id: Mapped[int] = mapped_column(ForeignKey("pull.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    table_name: Mapped[str]
    """Empty where no table takes it."""
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)


class IntakeTally(Base):
    """How many rows of a snapshot one rule ignored, rejected or reported."""

    __tablename__ = "intake_tally"
    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshot.id"), primary_key=True)
    verdict: Mapped[str] = mapped_column(primary_key=True)
    """ignored | rejected | reported"""
    rule: Mapped[str] = mapped_column(primary_key=True)
    column_name: Mapped[str] = mapped_column(primary_key=True)
    rows: Mapped[int]
    reason: Mapped[str] = mapped_column(Text)


class Waiver(Base):
    """An approver lets a year-end base be frozen although rows of its extract were rejected."""

    __tablename__ = "waiver"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshot.id"), unique=True)
    rejected_sha256: Mapped[str]
    rows: Mapped[int]
    approver: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)
    given_at: Mapped[datetime]
