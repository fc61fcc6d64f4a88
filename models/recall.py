"""A mail that went to the wrong recipient: what is recorded of it, and to whom nothing goes any more.

The record is what article 57 of the Personal Information Protection Law asks for: kinds of data, cause, possible harm,
measures. Knows no mail server and no table of the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import pandas as pd

from models import CallbackError
from models.outcomes import Label


class RecallRefused(CallbackError):
    """A mail that cannot be recalled, or not again."""


DATA_KINDS: Mapping[str, Label] = {
    "masked_name": Label("客户姓名（部分隐去）", "customers' names, masked"),
    "phone": Label("联系电话", "phone numbers"),
    "call_plan": Label("回访安排", "the plan of the calls"),
    "staff": Label("员工姓名或工号", "names or numbers of staff"),
    "suspicion": Label("疑似违规情形及客户陈述", "suspected violations and what customers said"),
    "row_code": Label("任务编码", "row codes"),
}
"""What a mail may tell about people; the codes never change their meaning."""
_CARRIED: Mapping[str, tuple[str, ...]] = {
    "assignment": ("masked_name", "phone", "call_plan", "staff", "row_code"),
    "self_check": ("masked_name", "phone", "suspicion", "staff", "row_code"),
    "correction": ("masked_name", "phone", "call_plan", "staff", "row_code"),
    "receipt": ("masked_name", "phone", "call_plan", "staff", "row_code"),
    "reminder": ("row_code",),
    "feedback": ("row_code",),
    "commitment": (),
}
LOCKED = frozenset({"assignment", "self_check", "correction", "receipt"})
"""Mails whose data stand only in a workbook locked with the branch's key, which is never mailed."""


def data_kinds(mail_kind: str, *, has_sheet: bool = True) -> list[str]:
    """What a kind of mail tells about people; see DATA_KINDS. A receipt without a correction sheet names row codes alone.

    >>> data_kinds("reminder"), data_kinds("commitment"), data_kinds("receipt", has_sheet=False)
    (['row_code'], [], ['row_code'])
    """
    return ["row_code"] if mail_kind == "receipt" and not has_sheet else list(_CARRIED.get(mail_kind, DATA_KINDS))


def is_locked(mail_kind: str, *, has_sheet: bool) -> bool:
    """Whether what a mail tells about people can be read only with the branch's key."""
    return mail_kind in LOCKED and (has_sheet or mail_kind != "receipt")


def check_recall(number: int, kind: str, outcome: str, earlier: str, request: str = "") -> None:
    """Raise RecallRefused unless a mail is or may be with somebody.

    earlier: who has recalled it and when, or ''; request: what became of the request to destroy it.
    """
    if earlier:
        advice = (
            "; a run ended while it was going out: call the recipient, and say by `huifang mail resolve` what became of "
            "it; as failed, the same command asks again"
        )
        state = f"; its request to destroy is {request}" if request else ""
        raise RecallRefused(
            f"mail {number}: was recalled {earlier}{state}{advice if request in ('unknown', 'in_flight') else ''}"
        )
    if kind == "recall":
        raise RecallRefused(f"mail {number}: is itself a request to destroy, which has nothing to recall")
    if outcome == "in_flight":
        raise RecallRefused(
            f"mail {number}: a run is sending it, or was when it ended; `huifang mail stop` holds what is left, "
            "recall this one when the run is over"
        )
    if outcome in ("failed", "bounced"):
        raise RecallRefused(
            f"mail {number}: is {outcome}, so nobody has it and there is nothing to recall; correct the roster"
        )


def without_recalled(roster: pd.DataFrame, recalled: Mapping[tuple[str, str], date]) -> pd.DataFrame:
    """The roster without the rows whose address a mail for that branch was recalled from.

    recalled: the last day of a recall by branch and address in small letters. A row that begins after that day is a
    new word about the address, and stays.
    """
    if not recalled:
        return roster
    pairs = zip(roster["branch_no"].astype(str), roster["email"].astype(str), roster["valid_from"], strict=True)
    stays = [
        (day := recalled.get((branch, address.strip().casefold()))) is None or since > day
        for branch, address, since in pairs
    ]
    return roster.loc[pd.Series(stays, index=roster.index, dtype=bool)]
