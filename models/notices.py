"""What a notice says of a mail of ours: that it bounced, waits, arrived, or that a machine answered it.

Judges what the sandbox read out of a notice, in the standard's forms (RFC 3464, RFC 8098) and in those that providers
write instead. What may be believed stands in docs/decisions/0022. Knows no mailbox and no table of the store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Kind = Literal["bounced", "delayed", "delivered", "auto_reply", "unclear"]


@dataclass(frozen=True)
class Report:
    """What a delivery report says of one recipient, as it stands there."""

    action: str = ""
    status: str = ""
    final: str = ""
    """Final-Recipient: where the mail was to go in the end."""


@dataclass(frozen=True)
class Notice:
    """What a message says of mails of ours, whoever wrote it."""

    own_ids: Sequence[str] = ()
    """Message-IDs in the form of ours that stand anywhere in it: headers, reports, returned mails, texts."""
    reports: Sequence[Report] = ()
    disposition: str = ""
    """What a read receipt says became of the mail: displayed, deleted …; '' when it is none."""
    disposition_of: str = ""
    """Final-Recipient of the read receipt."""
    failed_recipients: Sequence[str] = ()
    """X-Failed-Recipients."""
    words: str = field(default="", repr=False)
    """Its own text, without what it gives back."""

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> Notice:
        """The notice of a sandbox report."""
        return cls(**{**report, "reports": [Report(**block) for block in report.get("reports", ())]})


class Reading(NamedTuple):
    """What a notice says of one mail; status as in RFC 3463, '' where it has none."""

    kind: Kind
    status: str = ""


_STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_REPLY_CODE = re.compile(r"(?<![\d.:])5[0-5]\d(?=[ -])")
_WAITING = re.compile(
    r"still being (?:tried|retried)|will (?:be retried|keep trying|continue to try|try again)|has been delayed|"
    r"delivery (?:is|was) delayed|not yet been delivered|do not need to resend|继续尝试|稍后重试|仍在投递|投递延迟|邮件延迟|暂未送达",
    re.IGNORECASE,
)
_FAILED = re.compile(
    r"退信|退回|未能送达|无法送达|投递失败|无法投递|发送失败|undeliver|returned mail|returned to sender|failure notice|"
    r"delivery (?:has |to the following recipients? )?failed|could not be delivered|wasn't delivered|permanent(?:ly)? (?:error|fail)",
    re.IGNORECASE,
)
_NOBODY = re.compile(
    r"用户不存在|不存在该用户|账[号户]不存在|邮箱不存在|地址不存在|无此用户|查无此人|user (?:unknown|not found|does ?n[o']t exist)|"
    r"no such user|unknown user|mailbox (?:not found|unavailable)|address (?:does not exist|not found|rejected)",
    re.IGNORECASE,
)


def read_notice(notice: Notice, *, is_daemon: bool, sender: str, to_address: str) -> Reading:
    """What a notice says of the mail to one address of ours.

    is_daemon: it comes as mail servers write, not as somebody's absence reply. A notice that speaks of another address
    than the mail's own says nothing of the mail: forwarded on, it may have arrived and bounced behind it.
    """
    address, is_own = to_address.casefold(), sender.casefold() == to_address.casefold()
    if is_daemon and notice.reports:
        return _read_reports([one for one in notice.reports if address_of(one.final) == address])
    if is_daemon and notice.disposition:
        is_seen = notice.disposition == "displayed" and address_of(notice.disposition_of) == address
        return Reading("delivered" if is_seen else "unclear")
    if is_own or not is_daemon:  # absence replies, too, come with an empty return path
        return Reading("auto_reply" if is_own else "unclear")
    named = {address_of(one) for one in notice.failed_recipients}
    if address not in named and not _names(notice.words, address):
        return Reading("unclear")
    return _read_words(notice.words, is_named_as_failed=address in named)


def _read_reports(reports: Sequence[Report]) -> Reading:
    readings = {_read_report(one) for one in reports}
    return readings.pop() if len(readings) == 1 else Reading("unclear")


def _read_report(report: Report) -> Reading:
    found = _STATUS.search(report.status)
    status, action = found[0] if found else "", report.action.strip().casefold()
    if action == "failed" and not status.startswith("2"):
        return Reading("bounced", status)
    if action == "delayed" and not status.startswith(("2", "5")):
        return Reading("delayed", status)
    if action == "delivered" and not status.startswith(("4", "5")):
        return Reading("delivered", status)
    return Reading("unclear", status)  # relayed and expanded: nobody reports any further


def _read_words(words: str, *, is_named_as_failed: bool) -> Reading:
    statuses = [found[0] for found in _STATUS.finditer(words)]
    lasting = next((status for status in statuses if status.startswith("5")), "")
    if _WAITING.search(words) and not lasting:
        return Reading("delayed", statuses[0] if statuses else "")
    if not (is_named_as_failed or _FAILED.search(words)):
        return Reading("unclear", statuses[0] if statuses else "")
    if not lasting and _NOBODY.search(words):
        lasting = "5.1.1"
    elif not lasting and _REPLY_CODE.search(words):
        lasting = "5.0.0"
    return Reading("bounced", lasting or (statuses[0] if statuses else ""))


def address_of(value: str) -> str:
    """The address of a recipient field, folded.

    >>> address_of("rfc822; <Director.0001@Branch.example>")
    'director.0001@branch.example'
    """
    return value.rpartition(";")[2].strip().strip("<>").strip().casefold()


def _names(words: str, address: str) -> bool:
    return re.search(rf"(?<![\w.+-]){re.escape(address)}(?![\w-]|\.\w)", words.casefold()) is not None


class Settled(NamedTuple):
    """The outcome that a notice gives a mail."""

    outcome: Literal["sent", "bounced"]
    code: int | None
    """550 for what lasts: the address is not written to again; None for what the next run may try again."""


def settle_by(reading: Reading, *, outcome: str, is_answered: bool, was_delivered: bool) -> Settled | None:
    """What becomes of a mail by a notice; None when it stays as it is.

    outcome: the mail's now; is_answered: a return has come in for what it carried; was_delivered: another notice says so.
    A mail that was answered or delivered has not bounced, whatever says so; what a person settled is past notices.

    >>> settle_by(Reading("bounced", "5.1.1"), outcome="sent", is_answered=False, was_delivered=False)
    Settled(outcome='bounced', code=550)
    >>> settle_by(Reading("bounced", "5.1.1"), outcome="sent", is_answered=True, was_delivered=False)
    """
    if reading.kind == "bounced" and outcome in ("sent", "unknown") and not is_answered and not was_delivered:
        return Settled("bounced", None if reading.status.startswith("4") else 550)
    if reading.kind == "delivered" and outcome == "unknown":
        return Settled("sent", None)
    return None
