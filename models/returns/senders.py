"""Who is believed: the branch a message is from, by its one From address or the folder it was put into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from models.returns.opened import Opened


@dataclass(frozen=True)
class Sender:
    """Whose message this is; branch_no is None unless the verdict is ok."""

    branch_no: str | None
    verdict: Literal["ok", "notice", "quarantined", "held"]
    reason: str = ""
    address: str = ""


def judge_sender(opened: Opened, roster: pd.DataFrame, own_address: str) -> Sender:
    """Whose message this is, by its one From address; notices are nobody's, what cannot be believed is quarantined.

    What nobody could look into yet, as the scanner is down or the disk full, is held.

    `roster` are the addresses valid on the day, as models/roster.py gives them.
    """
    if opened.error:
        return Sender(None, "held" if opened.error in ("unscanned", "unkept") else "quarantined", opened.error)
    address = opened.from_addresses[0].casefold() if opened.from_addresses else ""
    local = address.rpartition("@")[0]
    if opened.is_report or opened.is_null_return_path or local in ("mailer-daemon", "postmaster"):
        return Sender(None, "notice", "bounce", address)
    if opened.from_headers != 1:
        return Sender(None, "quarantined", "no_from" if opened.from_headers == 0 else "several_from_headers")
    if len(opened.from_addresses) != 1 or not local:
        return Sender(None, "quarantined", "several_from_addresses" if opened.from_addresses else "no_from")
    if opened.from_defects:
        return Sender(None, "quarantined", "from_defect", address)
    if address == own_address.casefold():
        return Sender(None, "notice", "own_mail", address)
    is_automatic = opened.auto_submitted.casefold() not in ("", "no")
    is_bulk = opened.is_list or opened.precedence.casefold() in ("bulk", "junk", "list", "auto_reply")
    if is_automatic or is_bulk:
        # An out-of-office reply carries no workbook; what does may be a return, and a person looks at it.
        if any(workbook.depth == 0 for workbook in opened.workbooks):
            return Sender(None, "quarantined", "automatic_with_workbook", address)
        return Sender(None, "notice", "auto_reply" if is_automatic else "bulk", address)
    branches = set(roster.loc[roster["email"].str.strip().str.casefold() == address, "branch_no"])
    if not branches:
        return Sender(None, "quarantined", "unknown_sender", address)
    if len(branches) > 1:
        return Sender(None, "quarantined", "sender_of_several_branches", address)
    return Sender(branches.pop(), "ok", "", address)


def judge_folder(branch_no: str, roster: pd.DataFrame) -> Sender:
    """Whose upload this is: the branch its folder belongs to, if that branch stands on the roster.

    Who may write into the folder was settled when it was made; nothing inside the file is asked.
    """
    if branch_no not in set(roster["branch_no"]):
        return Sender(None, "quarantined", "unknown_folder")
    return Sender(branch_no, "ok", "dropped")
