"""Letters: how a mail is composed, byte for byte the same each time, and what must not become a header of it.

Messages come from the standard library; knows MIME and neither server nor template.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from typing import cast

from models import CallbackError

SHANGHAI = timezone(timedelta(hours=8))  # no summer time since 1991

ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
DOMAIN = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
MESSAGE_ID = re.compile(r"<[A-Za-z0-9._+=-]+@[A-Za-z0-9.-]+>")
MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*")


class MailError(CallbackError):
    """A letter that cannot be composed, or a mail server that must not be used as set."""


@dataclass(frozen=True)
class Attachment:
    filename: str
    content: bytes
    media_type: str


@dataclass(frozen=True)
class Letter:
    """One mail to one address; inline holds (content id, PNG bytes) that the HTML shows as <img src="cid:…">."""

    to_address: str
    subject: str
    html: str
    text: str
    attachments: tuple[Attachment, ...]
    message_id: str
    sent_at: datetime
    inline: tuple[tuple[str, bytes], ...] = ()


def message_id(
    kind: str, campaign: str, recipient: str, role: str, sequence: int, domain: str, secret: bytes = b""
) -> str:
    """The Message-ID of a claim: equal keys give the equal id, in every process that has the secret.

    >>> message_id("assignment", "daily_risk-2026-03", "0001", "operations_director", 1, "hq.example")
    '<assignment.e4ed931b22a51fcccc374eef26ac6a7b@hq.example>'
    """
    if not DOMAIN.fullmatch(domain):
        raise MailError(f"Message-ID: {domain!r} is no domain; look at HUIFANG_MAIL_FROM")
    if not re.fullmatch(r"[a-z_]+", kind):
        raise MailError(f"Message-ID: {kind!r} is no kind of mail")
    key = "\x1f".join((kind, campaign, recipient, role, str(sequence))).encode()
    digest = hmac.new(secret, key, hashlib.sha256) if secret else hashlib.sha256(key)
    return f"<{kind}.{digest.hexdigest()[:32]}@{domain}>"


def compose(letter: Letter, *, from_address: str, from_name: str) -> bytes:
    """The message as it goes to the server: CRLF, 7 bit, one To; the same letter gives the same bytes.

    MailError on anything but exactly one address on either side, and on control characters in whatever becomes a
    header. A Chinese file name stands in Content-Disposition after RFC 2231, its ASCII form in Content-Type for
    readers that know only that; html and text both say the whole.
    """
    check_address("to", letter.to_address)
    check_address("from", from_address)
    for field, value in (("subject", letter.subject), ("from name", from_name)):
        _check_line(field, value)
    if not letter.subject.strip():
        raise MailError("subject: empty")
    if not MESSAGE_ID.fullmatch(letter.message_id):
        raise MailError(f"Message-ID: {letter.message_id!r} is not of the form <id@domain>")
    if letter.sent_at.tzinfo is None:
        raise MailError("Date: the time has no zone")

    message = EmailMessage(policy=policy.SMTP)
    message["From"] = Address(display_name=from_name, addr_spec=from_address)
    message["To"] = Address(addr_spec=letter.to_address)
    message["Subject"] = letter.subject
    message["Message-ID"] = letter.message_id
    message["Date"] = letter.sent_at.astimezone(SHANGHAI)
    # RFC 3834, and Exchange's own header: out-of-office replies would land among the returns.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    # base64 throughout: an 8-bit body needs a server that announces 8BITMIME.
    message.set_content(letter.text, cte="base64")
    message.add_alternative(letter.html, subtype="html", cte="base64")
    if letter.inline:
        page = cast(EmailMessage, message.get_body(("html",)))
        for cid, png in letter.inline:
            if not re.fullmatch(r"[A-Za-z0-9._@-]+", cid):
                raise MailError(f"content id {cid!r}: letters, digits, dot, dash, underscore and @ only")
            page.add_related(png, "image", "png", cid=f"<{cid}>", disposition="inline", filename=f"{cid}.png")
    for number, attachment in enumerate(letter.attachments, start=1):
        _attach(message, attachment, number)

    # Random boundaries would give a re-composed letter another hash than the one stored with its claim.
    seed = hashlib.sha256(letter.message_id.encode()).hexdigest()[:24]
    for number, part in enumerate(p for p in message.walk() if p.is_multipart()):
        part.set_boundary(f"=_{seed}_{number}")
    return message.as_bytes()


def _attach(message: EmailMessage, attachment: Attachment, number: int) -> None:
    name = attachment.filename
    _check_line("attachment", name)
    if not name or "/" in name or "\\" in name or len(name) > 120:
        raise MailError(f"attachment {number}: {name!r} is no file name")
    if not MEDIA_TYPE.fullmatch(attachment.media_type):
        raise MailError(f"attachment {name}: {attachment.media_type!r} is no media type")
    if not attachment.content:
        raise MailError(f"attachment {name}: empty")
    maintype, _, subtype = attachment.media_type.partition("/")
    message.add_attachment(
        attachment.content, maintype, subtype, filename=name, params={"name": _ascii_name(name, number)}
    )


def _ascii_name(name: str, number: int) -> str:
    stem, dot, suffix = name.rpartition(".") if "." in name else (name, "", "")
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-")
    return (plain or f"attachment_{number}") + dot + re.sub(r"[^A-Za-z0-9]+", "", suffix)


def check_address(side: str, address: str) -> None:
    if not ADDRESS.fullmatch(address) or len(address) > 254:
        raise MailError(f"{side} address: give exactly one, plain, such as name@branch.example; look at the roster")


def _check_line(field: str, value: str) -> None:
    if any(is_control(character) for character in value):
        raise MailError(f"{field}: a line break or control character in what becomes a header")


def is_control(character: str) -> bool:
    # Cf holds the marks that turn the reading direction round, with which a file name hides its suffix.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
