"""Who is believed: the branch a message is from, by its one From address or the folder it was put into."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from models.outcomes import Label
from models.returns.opened import Opened


@dataclass(frozen=True)
class Sender:
    """Whose message this is; branch_no is None unless the verdict is ok."""

    branch_no: str | None
    verdict: Literal["ok", "notice", "quarantined", "held"]
    reason: str = ""
    address: str = ""


@dataclass(frozen=True)
class OwnServer:
    """The mail server whose Authentication-Results are believed."""

    ids: AbstractSet[str]
    """What it calls itself there, in small letters."""
    received_above: int = 1
    """Received lines that stand above them at most: those of the servers between it and the mailbox."""


REASONS: dict[str, Label] = {
    "no_from": Label("没有发件人地址", "no sender's address"),
    "several_from_headers": Label("有多个发件人字段", "more than one From header"),
    "several_from_addresses": Label("发件人字段中有多个地址", "more than one address in From"),
    "from_defect": Label("发件人字段的写法有误，可能是伪造", "From is not written as it should be; it may be forged"),
    "from_shows_another": Label(
        "发件人名称中出现另一个地址，可能是伪造", "the sender's name shows another address; it may be forged"
    ),
    "from_group": Label("发件人是一个组，而不是一个人", "From is a group, not one sender"),
    "header_defect": Label(
        "邮件头残缺、自相矛盾或含控制字符", "headers that are broken, say two things or hold control signs"
    ),
    "other_sender": Label("由其他域名的地址代为发送", "sent by an address of another domain in the sender's name"),
    "resent": Label("由他人转寄", "sent on by somebody else"),
    "auth_missing": Label(
        "没有本单位邮件服务器的身份验证结果", "no result of our own mail server about whether it is genuine"
    ),
    "auth_failed": Label(
        "未通过本单位邮件服务器的身份验证（DMARC、DKIM、SPF）",
        "our own mail server did not find it genuine (DMARC, DKIM, SPF)",
    ),
    "unknown_sender": Label("发件人不在当日花名册中", "the sender is not on the roster of that day"),
    "sender_of_several_branches": Label(
        "该地址登记在多个营业部名下", "the address is registered for more than one branch"
    ),
    "automatic_with_workbook": Label("自动发送的邮件带有工作簿", "an automatic mail that carries a workbook"),
    "unknown_folder": Label("上传目录不属于任何营业部", "the folder belongs to no branch"),
    "too_large": Label("超过大小限制", "beyond the limits of size"),
    "timeout": Label("打开超时", "it took too long to open"),
    "unreadable": Label("无法打开", "it cannot be opened"),
    "infected": Label("查出病毒", "the scanner found something"),
    "unscannable": Label("过大，无法查毒", "too large for the scanner"),
}
"""Why a message is quarantined, in words; the codes never change their meaning."""


def judge_sender(opened: Opened, roster: pd.DataFrame, own_address: str, own_server: OwnServer | None = None) -> Sender:
    """Whose message this is, by its one From address; notices are nobody's, what cannot be believed is quarantined.

    What nobody could look into yet, as the scanner is down or the disk full, is held.

    `roster` are the addresses valid on the day, as models/roster.py gives them. With `own_server` a return must have been
    found genuine by it.
    """
    if opened.error:
        return Sender(None, "held" if opened.error in ("unscanned", "unkept") else "quarantined", opened.error)
    address = _compared(opened.from_addresses[0]) if opened.from_addresses else ""
    local = address.rpartition("@")[0]
    if opened.is_report or opened.is_null_return_path or local in ("mailer-daemon", "postmaster"):
        return Sender(None, "notice", "bounce", address)
    if fault := _fault_of_head(opened):
        return Sender(None, "quarantined", fault, address if len(opened.from_addresses) == 1 else "")
    if address == own_address.casefold():
        return Sender(None, "notice", "own_mail", address)
    is_bulk = opened.is_list or opened.precedence.casefold() in ("bulk", "junk", "list", "auto_reply")
    # An out-of-office reply carries no workbook; what does may be a return, and a person looks at it.
    has_workbook = any(workbook.depth == 0 for workbook in opened.workbooks)
    is_automatic = opened.auto_submitted.casefold() not in ("", "no") or (
        # Not every provider marks its automatic answers, and a person may answer one and attach a return.
        not has_workbook and _AUTOMATIC_SUBJECT.match(opened.subject) is not None
    )
    if is_automatic or is_bulk:
        if has_workbook:
            return Sender(None, "quarantined", "automatic_with_workbook", address)
        return Sender(None, "notice", "auto_reply" if is_automatic else "bulk", address)
    registered = roster["email"].str.strip().map(_compared)
    branches = set(roster.loc[registered == address, "branch_no"])
    if not branches:
        return Sender(None, "quarantined", "unknown_sender", address)
    if len(branches) > 1:
        return Sender(None, "quarantined", "sender_of_several_branches", address)
    colleagues = {address, *registered[roster["branch_no"].isin(branches)]}
    if any(_compared(other) not in colleagues for other in opened.resent_addresses):
        return Sender(None, "quarantined", "resent", address)
    if any(
        _compared(other) not in colleagues and _domain(other) != _domain(address) for other in opened.sender_addresses
    ):
        return Sender(None, "quarantined", "other_sender", address)
    if own_server is not None and (fault := _fault_of_authentication(opened, _domain(address), own_server)):
        return Sender(None, "quarantined", fault, address)
    return Sender(branches.pop(), "ok", "", address)


# As QQ, NetEase, Exchange and Foxmail begin the subject of an automatic answer.
_AUTOMATIC_SUBJECT = re.compile(
    r"\s*(自动回复|自动答复|自動回覆|系统自动|auto(matic)?[- ]?repl(y|ied)|auto[- ]?response|out of (the )?office)",
    re.IGNORECASE,
)


def _compared(address: str) -> str:
    """An address as it is compared. Small letters of ſ and K (Kelvin) are s and k: outside ASCII nothing is folded."""
    return address.casefold() if address.isascii() else unicodedata.normalize("NFC", address)


def _domain(address: str) -> str:
    return _compared(address).rpartition("@")[2].rstrip(".")


def _fault_of_head(opened: Opened) -> str:
    """What is wrong with how a message says who it is from."""
    if opened.from_headers != 1:
        return "no_from" if opened.from_headers == 0 else "several_from_headers"
    if "Group" in opened.from_defects:
        return "from_group"
    if len(opened.from_addresses) > 1:
        return "several_from_addresses"
    if set(opened.from_defects) == {"AnotherAddress"}:
        return "from_shows_another"
    if opened.from_defects:
        return "from_defect"
    if not opened.from_addresses or not opened.from_addresses[0].rpartition("@")[0]:
        return "no_from"
    return "header_defect" if opened.header_defects else ""


def _fault_of_authentication(opened: Opened, domain: str, own_server: OwnServer) -> str:
    """Why our own server does not vouch that a message is from a domain; '' where it does (RFC 8601 §5).

    It does by dmarc=pass for that domain; where the domain has no DMARC record, by a signature (DKIM) or an envelope
    (SPF) of that very domain.
    """
    said = opened.authentication
    if said is None or not said.is_readable or said.authserv_id.casefold() not in own_server.ids:
        return "auth_missing"
    if said.received_above > own_server.received_above:
        # It stands where our server cannot have written it.
        return "auth_missing"
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for found in said.results:
        by_method.setdefault(str(found["method"]), []).append(found)
    dmarc = by_method.get("dmarc", [])
    if any(found["result"] == "pass" for found in dmarc):
        is_ours = all(found["result"] == "pass" and _value(found, "header.from") == domain for found in dmarc)
        return "" if is_ours else "auth_failed"
    # Exchange writes bestguesspass where there is no record and an aligned pass all the same.
    if any(found["result"] not in ("none", "bestguesspass") for found in dmarc):
        return "auth_failed"
    for method, names in (("dkim", ("header.d", "header.i")), ("spf", ("smtp.mailfrom",))):
        for found in by_method.get(method, []):
            if found["result"] == "pass" and domain == next(filter(None, (_value(found, name) for name in names)), ""):
                return ""
    return "auth_failed"


def _value(found: Mapping[str, Any], name: str) -> str:
    """The domain that a property of a result names; '' where it stands not at all or more than once."""
    values = [value for own, value in found["properties"] if own == name]
    return _domain(str(values[0])) if len(values) == 1 else ""


def judge_folder(branch_no: str, roster: pd.DataFrame) -> Sender:
    """Whose upload this is: the branch its folder belongs to, if that branch stands on the roster.

    Who may write into the folder was settled when it was made; nothing inside the file is asked.
    """
    if branch_no not in set(roster["branch_no"]):
        return Sender(None, "quarantined", "unknown_folder")
    return Sender(branch_no, "ok", "dropped")
