"""One message as the sandbox took it apart: who it says it is from, its workbooks as text, its files.

Must stay out: what is believed of it (senders.py, judged.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from models import CallbackError
from models.notices import Notice


class OpenedError(CallbackError):
    """The sandbox reported something that is no opened message."""


@dataclass(frozen=True)
class Table:
    """One worksheet as text, row by row from A1."""

    name: str
    rows: Sequence[Sequence[str | None]]
    formulas: AbstractSet[tuple[int, int]] = frozenset()
    """(row, column) of every cell with a formula, both from 1."""


@dataclass(frozen=True)
class Workbook:
    """One workbook of a message; with an error it has no sheets."""

    name: str
    sheets: Sequence[Table] = ()
    was_encrypted: bool = False
    depth: int = 0
    """0 in the message itself, 1 and more in messages it carries."""
    error: str = ""
    """'' | wrong_password | too_large | too_many_parts | unreadable | unsupported | locked_ods | archive | partial"""


@dataclass(frozen=True)
class File:
    """One part that is no text, kept as bytes; zip members count as parts."""

    part: int
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    path: str
    is_workbook: bool = False
    depth: int = 0
    folders: Sequence[str] = ()
    """The archives and their folders it lay in, the outermost first."""
    seconds: float | None = None
    """Of a recording; None where it cannot be told."""
    fault: str = ""
    """Why it is no evidence: '' or a code of models/evidence.py's FAULTS."""


@dataclass(frozen=True)
class Authentication:
    """What the topmost Authentication-Results of a message say, whoever wrote them."""

    authserv_id: str
    received_above: int
    """Received lines above it: the servers that passed the message on after it was written."""
    results: Sequence[Mapping[str, Any]] = ()
    """method, result, and properties as pairs such as (header.from, branch.example)."""
    is_readable: bool = True


@dataclass(frozen=True)
class Opened:
    """One message taken apart."""

    sha256: str = ""
    from_headers: int = 0
    from_addresses: Sequence[str] = ()
    from_defects: Sequence[str] = ()
    sender_addresses: Sequence[str] = ()
    """Of Sender: who sent it for another."""
    resent_addresses: Sequence[str] = ()
    """Of Resent-From and Resent-Sender: who sent it on as it was."""
    header_defects: Sequence[str] = ()
    authentication: Authentication | None = None
    message_id: str = ""
    subject: str = field(default="", repr=False)
    auto_submitted: str = ""
    precedence: str = ""
    is_list: bool = False
    is_report: bool = False
    """multipart/report: a delivery notice."""
    is_null_return_path: bool = False
    defects: Sequence[str] = ()
    """Parser defects of the message's structure and bodies."""
    workbooks: Sequence[Workbook] = ()
    files: Sequence[File] = ()
    notice: Notice = field(default_factory=Notice)
    """What it says of mails of ours."""
    error: str = ""
    """'' or why nothing could be read: unreadable | too_large | timeout | infected | unscannable, or not yet: unscanned | unkept"""

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> Opened:
        """The message a sandbox report describes."""
        try:
            content = dict(report)
            content["workbooks"] = [
                Workbook(
                    **workbook
                    | {
                        "sheets": [
                            Table(
                                sheet["name"],
                                sheet["rows"],
                                frozenset((row, column) for row, column in sheet["formulas"]),
                            )
                            for sheet in workbook["sheets"]
                        ]
                    }
                )
                for workbook in report.get("workbooks", ())
            ]
            content["files"] = [File(**part) for part in report.get("files", ())]
            content["notice"] = Notice.from_report(report.get("notice", {}))
            if report.get("authentication") is not None:
                content["authentication"] = Authentication(**report["authentication"])
            return cls(**content)
        except (TypeError, KeyError, ValueError) as error:
            raise OpenedError(
                f"the sandbox reported an unknown shape: {error}; the versions of parent and child differ"
            ) from None


TRUNCATED = frozenset(
    f"{defect}Defect"
    for defect in (
        "CloseBoundaryNotFound",
        "StartBoundaryNotFound",
        "InvalidBase64Padding",
        "InvalidBase64Characters",
        "InvalidBase64Length",
    )
)
