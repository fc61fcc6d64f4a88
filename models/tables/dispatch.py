"""What flows/dispatch writes beside the outbox: why a branch did not get its list."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Key


class DispatchGap(Base):
    """One reason why a branch's list stayed at headquarters; the rows of one found_at belong together, the newest count.

    Added only when they differ from those before. Closed by a list that went to the branch since.
    """

    __tablename__ = "dispatch_gap"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign_id: Mapped[str] = mapped_column(ForeignKey("campaign.id"), index=True)
    branch_no: Mapped[str]
    """HQ where headquarters calls."""
    role: Mapped[str]
    """Who would have had the list."""
    code: Mapped[str]
    """Of models/roster_findings.py."""
    file: Mapped[str]
    row_number: Mapped[int] = mapped_column(BigInteger)
    """Row of the roster's file, the header is row 1; 0 where no row is at fault."""
    detail: Mapped[str] = mapped_column(Text)
    found_at: Mapped[datetime]
