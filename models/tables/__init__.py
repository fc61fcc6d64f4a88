"""The tables of the store and who writes each; knows no query and opens no connection.

Facts are added, never edited: *sent*, *returned* and *final* are rows, *overdue* is a query, a correction is a
row with a higher version. The unique keys make a second run harmless. Personal data stay in the lake and in the
columns marked so here. One file per writer.
"""

from models.tables.audit import Audit
from models.tables.base import Base, Key, UtcDateTime
from models.tables.dispatch import DispatchGap
from models.tables.draw import (
    Abort,
    Assignment,
    AssignmentHandover,
    AssignmentPurpose,
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
    Reveal,
    Revocation,
    Seed,
    Stratum,
)
from models.tables.followup import AssignmentEnd, Case, CaseGround, CaseMerge, Report
from models.tables.intake import IntakeTally, Pull, SetAside, Snapshot, SourceFile, Waiver
from models.tables.outbox import (
    NOT_DELIVERED,
    Approval,
    Mail,
    MailItem,
    MailNotice,
    MailOutcome,
    MailRecall,
    MailSwitch,
)
from models.tables.returns import (
    Evidence,
    Finding,
    Message,
    Opinion,
    ReturnRow,
    RowProblem,
    SelfCheck,
    Sighting,
    Verdict,
)

__all__ = [
    "NOT_DELIVERED",
    "Abort",
    "Approval",
    "Assignment",
    "AssignmentEnd",
    "AssignmentHandover",
    "AssignmentPurpose",
    "Audit",
    "Base",
    "Campaign",
    "CampaignGroup",
    "CampaignStratum",
    "Case",
    "CaseGround",
    "CaseMerge",
    "Chain",
    "DispatchGap",
    "Draw",
    "DrawnCustomer",
    "Evidence",
    "Exclusion",
    "Finding",
    "HandMade",
    "Handover",
    "IntakeTally",
    "Key",
    "Mail",
    "MailItem",
    "MailNotice",
    "MailOutcome",
    "MailRecall",
    "MailSwitch",
    "Message",
    "Opinion",
    "ProgrammeYear",
    "Pull",
    "Quota",
    "Report",
    "ReturnRow",
    "Reveal",
    "Revocation",
    "RowProblem",
    "Seed",
    "SelfCheck",
    "SetAside",
    "Sighting",
    "Snapshot",
    "SourceFile",
    "Stratum",
    "UtcDateTime",
    "Verdict",
    "Waiver",
]
