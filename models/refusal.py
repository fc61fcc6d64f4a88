"""What a mail server's no means: for now or for good, and whether it is about the recipient or about us."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")
TOO_MUCH = re.compile(
    r"frequen|too many (?!hops|recipients|received)|too (fast|often)|rate.?limit|throttl|QuotaExceededException|"
    r"number of (allowed )?(outgoing|sent) messages|(daily|hourly|sending|outgoing)( \w+)? (limit|quota)|"
    r"MI:SFQ|MI:STC|RP:QRC|RP:TRC|频率|频繁|过多|过快|发信量",
    re.IGNORECASE,
)
"""Mail houses say "you send too much" with codes that stand for ever: QQ 550 "Connection frequency limited" and "Ip
frequency limited", NetEase 554 MI:SFQ (15 minutes), MI:STC (the day), RP:QRC, Exchange 554 SubmissionQuotaExceeded.
The same mail goes through later."""


@dataclass(frozen=True)
class Refusal:
    """A no to one message. words are the server's own, looked at and never kept: they may name anybody."""

    step: str
    """MAIL, RCPT, DATA, or the end of DATA"""
    code: int
    words: str = field(repr=False)

    @property
    def status(self) -> str:
        """The enhanced status code (RFC 3463), or nothing."""
        found = STATUS.match(self.words)
        return found[0] if found else ""

    @property
    def is_too_much(self) -> bool:
        return bool(TOO_MUCH.search(self.words))

    @property
    def is_temporary(self) -> bool:
        """Whether the same message may go through later.

        >>> Refusal("RCPT", 451, "4.7.1 greylisted").is_temporary
        True
        >>> Refusal("RCPT", 550, "5.1.1 no such user").is_temporary
        False
        >>> Refusal("RCPT", 550, "Connection frequency limited").is_temporary
        True
        """
        return self.code < 500 or self.is_too_much

    @property
    def is_of_server(self) -> bool:
        """Whether the next message would fare alike: MAIL names no recipient, 421 closes the line, too much is too much."""
        return self.step == "MAIL" or self.code == 421 or self.is_too_much

    @property
    def detail(self) -> str:
        """What the store keeps of it."""
        if self.is_too_much:
            return f"put off at {self.step}: too much mail" + (f", {self.status}" if self.status else "")
        return f"refused at {self.step}" + (f", {self.status}" if self.status else "")


def is_of_address(code: int | None, detail: str) -> bool:
    """Whether a kept refusal was for good and about the recipient's address, which then gets no mail until it changes.

    At RCPT it always is. What comes after DATA may be about the message: its size, its content, the sender's standing
    (RFC 3463: 5.3 to 5.7); without a status it is taken to be about the address.

    >>> is_of_address(550, "refused at RCPT, 5.7.1"), is_of_address(550, "refused at the end of DATA")
    (True, True)
    >>> is_of_address(554, "refused at the end of DATA, 5.7.1"), is_of_address(553, "refused at MAIL")
    (False, False)
    """
    if code is None or code < 500:
        return False
    about = re.fullmatch(r"refused at (MAIL|RCPT|DATA|the end of DATA)(?:, (\d\.\d+)\.\d+)?", detail)
    if about is None:
        return not detail.startswith("put off")
    step, status = about[1], about[2] or ""
    return step == "RCPT" or (step != "MAIL" and status in ("", "5.1", "5.2"))
