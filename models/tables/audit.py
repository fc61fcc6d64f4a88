"""The audit chain, written through tasks/store.py."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Key


class Audit(Base):
    """One decision of a person or a flow, chained by hash to the one before."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    prev_sha256: Mapped[str] = mapped_column(unique=True)
    sha256: Mapped[str] = mapped_column(unique=True)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    payload_sha256: Mapped[str]
    at: Mapped[datetime]
