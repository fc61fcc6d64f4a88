"""Whether a draw may be mailed: what an approval is given over, who may give it, and what is missing without one.

Knows no store and no mail; a row of the store is the gate, and dispatch asks here what it is worth.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from models import CallbackError
from models.campaign import is_same_person

SCHEDULE = "flow:draw"
"""How the audit chain names a draw that the timetable started; it is nobody's name."""


class ApprovalRefused(CallbackError):
    """An approval that cannot be given, or taken back, by this person or any more."""


def read_name(campaign: str, text: str) -> str:
    """A person's name as it was typed, in one line. Raises ApprovalRefused where there is none.

    >>> read_name("daily_risk-2026-03", " Ｌｉ　Na ")
    'Li Na'
    """
    name = " ".join(unicodedata.normalize("NFKC", text).split())
    if ":" in name or not any(sign.isalpha() for sign in name):
        raise ApprovalRefused(f"{campaign}: {text!r} is no person's name; an approval needs one")
    return name


def check_approver(campaign: str, name: str, starters: Iterable[str]) -> None:
    """Raise ApprovalRefused for whoever committed or drew the campaign: four eyes are two people.

    >>> check_approver("daily_risk-2026-03", "Li Na", ["flow:draw"])
    """
    read_name(campaign, name)
    for starter in starters:
        if starter != SCHEDULE and is_same_person(name, starter):
            raise ApprovalRefused(f"{campaign}: {name} started the draw; somebody else of compliance approves it")


def what_is_missing(decision: str, approved_sha256: str, sample_sha256: str) -> str:
    """Why a draw that needs an approval may not be mailed; '' when it may. decision is '' where nobody decided.

    >>> what_is_missing("approved", "aa", "aa"), what_is_missing("", "", "aa")
    ('', 'compliance has not approved it')
    >>> what_is_missing("approved", "aa", "bb")
    'the approval is for another sample; it needs a new one'
    """
    if not decision:
        return "compliance has not approved it"
    if decision == "withdrawn":
        return "its approval was withdrawn"
    return "" if approved_sha256 == sample_sha256 else "the approval is for another sample; it needs a new one"
