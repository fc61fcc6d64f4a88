"""A place returns come from, whatever it is: what lies there, its bytes, and where it goes afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol

from models import CallbackError

Destination = Literal["Processed", "Rejected", "Quarantine"]
DESTINATIONS: tuple[Destination, ...] = ("Processed", "Rejected", "Quarantine")

BLOCK_BYTES = 1 << 20


class MailboxError(CallbackError):
    """The place returns come from cannot be reached or is not what its URL says."""


class ConnectionLost(MailboxError):
    """The server went away: no letter can be had before it is back, and nothing is lost."""


@dataclass(frozen=True)
class Letter:
    """One message where it lies; the four fields together are its identity there (uid_validity: IMAP only)."""

    source: str
    folder: str
    uid_validity: str
    uid: str


@dataclass(frozen=True)
class Decided:
    """A letter that was put into Quarantine and about which a person has decided since."""

    letter: Letter
    """Where it lay when it was seen; where it lies in Quarantine is the mailbox's own affair."""
    sha256: str
    size_bytes: int
    folder: Destination
    """Where it goes now."""


class Mailbox(Protocol):
    """Where returns lie. Nothing is ever deleted; moving a letter that is gone is said and harmless."""

    source: str

    def letters(self) -> Iterator[Letter]: ...

    def fetch(self, letter: Letter, to: BinaryIO) -> None: ...

    def move(self, letter: Letter, folder: Destination) -> None: ...

    def clear_quarantine(self, decided: Sequence[Decided]) -> None:
        """Move out of Quarantine what was decided about; what lies there no more is passed over, so that a run after a
        crash may be told the same again.
        """
        ...

    def count_moved(self) -> int:
        """How many letters lie in the three folders that letters are moved to."""
        ...

    def close(self) -> None: ...
