"""Mail out: how a letter is worded, composed and handed to the mail server, exactly once or openly unknown.

Knows MIME, SMTP, TLS and the templates; knows no table, roster or campaign, and decides neither who gets a letter
nor whether one is sent again. yagmail is the transport only: it connects, secures and logs in; messages come from
the standard library.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import re
import ssl
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from functools import cache
from io import BytesIO
from typing import Any, Literal, cast
from urllib.parse import unquote, urlsplit

import css_inline
import yagmail
from babel import Locale
from babel.dates import format_date, format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent
from babel.support import NullTranslations, Translations
from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    Undefined,
    select_autoescape,
)
from markupsafe import Markup

from models import CallbackError
from tasks.settings import PROJECT, Settings, read_secret

log = logging.getLogger(__name__)

SHANGHAI = timezone(timedelta(hours=8))  # no summer time since 1991
TEMPLATES = PROJECT / "templates"
LANGUAGES = ("zh_CN", "en")

ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
DOMAIN = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
MESSAGE_ID = re.compile(r"<[A-Za-z0-9._+=-]+@[A-Za-z0-9.-]+>")
MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]*/[a-z0-9][a-z0-9.+-]*")
STATUS = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")


class MailError(CallbackError):
    """A letter that cannot be composed, or a mail server that must not be used as set."""


class TemplateFault(CallbackError):
    """A template is missing, or names a fact that it was not given."""


# ---- letters -----------------------------------------------------------------------------------------------


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


def message_id(kind: str, campaign: str, recipient: str, role: str, sequence: int, domain: str) -> str:
    """The Message-ID of a claim: equal keys give the equal id, in every process.

    >>> message_id("assignment", "daily_risk-2026-03", "0001", "operations_director", 1, "hq.example")
    '<assignment.e4ed931b22a51fcccc374eef26ac6a7b@hq.example>'
    """
    if not DOMAIN.fullmatch(domain):
        raise MailError(f"Message-ID: {domain!r} is no domain; look at HUIFANG_MAIL_FROM")
    if not re.fullmatch(r"[a-z_]+", kind):
        raise MailError(f"Message-ID: {kind!r} is no kind of mail")
    key = "\x1f".join((kind, campaign, recipient, role, str(sequence)))
    return f"<{kind}.{hashlib.sha256(key.encode()).hexdigest()[:32]}@{domain}>"


def compose(letter: Letter, *, from_address: str, from_name: str) -> bytes:
    """The message as it goes to the server: CRLF, 7 bit, one To; the same letter gives the same bytes.

    MailError on anything but exactly one address on either side, and on control characters in whatever becomes a
    header. A Chinese file name stands in Content-Disposition after RFC 2231, its ASCII form in Content-Type for
    readers that know only that; html and text both say the whole.
    """
    _check_address("to", letter.to_address)
    _check_address("from", from_address)
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


def _check_address(side: str, address: str) -> None:
    if not ADDRESS.fullmatch(address) or len(address) > 254:
        raise MailError(f"{side} address: give exactly one, plain, such as name@branch.example; look at the roster")


def _check_line(field: str, value: str) -> None:
    if any(_is_control(character) for character in value):
        raise MailError(f"{field}: a line break or control character in what becomes a header")


def _is_control(character: str) -> bool:
    # Cf holds the marks that turn the reading direction round, with which a file name hides its suffix.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")


# ---- the mail server ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Delivery:
    """What became of one message; detail carries neither the server's words nor an address.

    failed with a code: refused by the server. failed without one: certainly not delivered, because DATA was never
    sent; later is another chance. unknown: the connection was lost after DATA began, and only a person, a bounce or
    a return can tell.
    """

    outcome: Literal["sent", "failed", "unknown"]
    code: int | None
    detail: str


class _Wire(yagmail.Client):  # type: ignore[misc]
    """yagmail kept to one connection: its own login() opens another one for every call and forgets the old."""

    smtp: Any

    def login(self) -> None:
        if self.smtp:
            return
        try:
            super().login()
            self.smtp.ehlo_or_helo_if_needed()
        except BaseException:
            self.drop()  # half open: without TLS or without login it must never carry a message
            raise

    def drop(self) -> None:
        connection, self.smtp, self.is_closed = self.smtp, None, True
        if connection is not None:
            connection.close()

    def close(self) -> None:
        try:
            if self.smtp is not None:
                self.smtp.quit()
        except OSError:
            log.debug("the mail server had hung up already")
        finally:
            self.drop()


class Post:
    """An open way to one mail server; one connection, opened at the first message and again after a drop."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._turn = threading.Lock()  # smtplib mixes up the replies of two threads
        self._fault: Delivery | None = None

    def send(self, message: bytes, from_address: str, to_address: str) -> Delivery:
        """The message's fate; handed over at most once, whatever happens.

        A connection found dead before DATA is replaced once. A certificate or login that was refused is not tried
        again by this Post: a hundred wrong logins lock the account. Never raises for what the network does.
        """
        _check_address("from", from_address)
        _check_address("to", to_address)
        with self._turn:
            if self._fault is not None:
                return self._fault
            try:
                return self._offer(message, from_address, to_address)
            except BaseException:
                self._wire.drop()  # interrupted half-way through a message: not another word on this connection
                raise

    def _offer(self, message: bytes, from_address: str, to_address: str) -> Delivery:
        is_reused = self._wire.smtp is not None
        try:
            self._wire.login()
        except OSError as error:  # every error of smtplib, ssl and socket is one
            return self._not_connected(error)
        smtp = self._wire.smtp
        size = [f"size={len(message)}"] if smtp.has_extn("size") else []
        steps: tuple[tuple[str, Callable[[], tuple[int, bytes]]], ...] = (
            ("MAIL", lambda: smtp.mail(from_address, size)),
            ("RCPT", lambda: smtp.rcpt(to_address)),
        )
        for step, ask in steps:
            try:
                code, reply = ask()
            except OSError:
                code, reply = -1, b""
            if code == -1 or (code == 421 and is_reused):  # 421: the server hangs up
                self._wire.drop()
                if is_reused:
                    log.info("the mail server closed an idle connection; connecting again")
                    return self._offer(message, from_address, to_address)
                return Delivery("failed", None, "not connected")
            if code // 100 != 2:
                return self._refused(step, code, reply)
        try:
            code, reply = smtp.data(message)
        except OSError as error:
            code, reply = getattr(error, "smtp_code", -1), getattr(error, "smtp_error", b"")
            if smtp.sock is not None and 400 <= code < 600:
                return self._refused("DATA", code, reply)
            self._wire.drop()
            return Delivery("unknown", None, "connection lost after DATA")
        if code // 100 == 2:
            return Delivery("sent", code, "accepted")
        if 400 <= code < 600:
            return self._refused("the end of DATA", code, reply)
        self._wire.drop()
        return Delivery("unknown", None, "no understandable reply after DATA")

    def _refused(self, step: str, code: int, reply: bytes) -> Delivery:
        try:
            if code == 421:
                self._wire.drop()
            else:
                self._wire.smtp.rset()
        except OSError:
            self._wire.drop()
        status = STATUS.match(reply)
        return Delivery("failed", code, f"refused at {step}" + (f", {status[0].decode()}" if status else ""))

    def _not_connected(self, error: OSError) -> Delivery:
        code = getattr(error, "smtp_code", None)
        if isinstance(error, ssl.SSLCertVerificationError):
            reason, is_lasting = ": certificate not verified", True
        elif isinstance(error, ssl.SSLError):
            reason, is_lasting = ": no TLS", False
        elif code is not None:
            is_lasting = 530 <= code <= 539  # RFC 4954: the login itself
            reason = f": login refused, {code}" if is_lasting else f": refused with {code}"
        elif type(error).__name__ in ("SMTPNotSupportedError", "SMTPException"):
            reason, is_lasting = ": STARTTLS or AUTH not offered", True
        else:
            reason, is_lasting = "", False
        delivery = Delivery("failed", None, "not connected" + reason)
        log.warning("mail server: %s (%s)", delivery.detail, type(error).__name__)
        if is_lasting:
            self._fault = delivery
        return delivery


@contextmanager
def open_post(settings: Settings, url: str) -> Iterator[Post]:
    """A Post for smtp://127.0.0.1:port, smtp+starttls://user@host:port or smtps://user@host:port.

    MailError when the URL asks for what must not be: plain text beyond this machine, a password in the URL, a user
    without HUIFANG_SMTP_PASSWORD_FILE. Certificates are always verified, against HUIFANG_SMTP_CA_FILE where it is
    set. Nothing is connected before the first message.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")  # what a look-up of the name would trip over later
    except ValueError:
        raise MailError("HUIFANG_SMTP_URL: the host or the port is not one") from None
    scheme, host = parts.scheme, parts.hostname
    shape = "smtp+starttls://user@host:587, smtps://user@host:465 or smtp://127.0.0.1:port"
    if scheme not in ("smtp", "smtp+starttls", "smtps") or not host or parts.path not in ("", "/") or parts.query:
        raise MailError(f"HUIFANG_SMTP_URL: expected {shape}")
    if parts.password is not None:
        raise MailError("HUIFANG_SMTP_URL: no password in the URL; name its file in HUIFANG_SMTP_PASSWORD_FILE")
    is_plain = scheme == "smtp"
    if is_plain and not _is_loopback(host):
        raise MailError(f"HUIFANG_SMTP_URL: plain text to {host} is refused; use smtp+starttls:// or smtps://")

    user = unquote(parts.username or "")
    secret = read_secret(settings.smtp_password_file, "HUIFANG_SMTP_PASSWORD_FILE") if user else None
    password = secret.get_secret_value() if secret else ""
    if user and not password:
        raise MailError("HUIFANG_SMTP_PASSWORD_FILE: a user is named in HUIFANG_SMTP_URL, but there is no password")
    if not (user.isascii() and password.isascii()):
        raise MailError("HUIFANG_SMTP_URL: user and password must be ASCII; the mail servers' login knows no other")

    wire = _Wire(
        user=user or "nobody@localhost",
        password=password,
        host=host,
        port=port or {"smtp": 25, "smtp+starttls": 587, "smtps": 465}[scheme],
        smtp_ssl=scheme == "smtps",
        smtp_starttls={"context": _tls(settings)} if scheme == "smtp+starttls" else False,
        smtp_skip_login=not user,
        soft_email_validation=False,
        timeout=settings.smtp_timeout_seconds,
        **({"context": _tls(settings)} if scheme == "smtps" else {}),
    )
    wire.user = user  # yagmail makes x@gmail.com of a login name without @
    post = Post(wire)
    try:
        yield post
    finally:
        wire.close()


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(settings.smtp_ca_file) if settings.smtp_ca_file else None)
    except OSError as error:
        raise MailError(f"HUIFANG_SMTP_CA_FILE: {settings.smtp_ca_file} is no readable PEM file") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ---- words -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rendered:
    subject: str
    html: str
    text: str


class Words:
    """The words of one language: zh_CN as the templates have them, en through templates/locale.

    Called with a Chinese text that stands in the catalogue, it gives that text's translation.
    """

    def __init__(self, language: str) -> None:
        if language not in LANGUAGES:
            raise TemplateFault(f"language {language!r}: there are {', '.join(LANGUAGES)}")
        self.language = language
        self._locale = Locale.parse(language)
        self._translations = _catalogue(language)
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
            undefined=StrictUndefined,
            extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
            finalize=_one_line,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._environment.install_gettext_translations(self._translations, newstyle=True)  # type: ignore[attr-defined]
        self._environment.globals["language"] = language
        for write in (self.number, self.percent, self.bar, self.day, self.moment, self.period):
            self._environment.filters[write.__name__] = _given(write)
        self._inliner = css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)

    def __call__(self, text: str) -> str:
        return str(self._translations.gettext(text))

    def render(self, name: str, /, **facts: Any) -> Rendered:
        """One mail's subject, HTML and plain text; the head of each template lists the facts that it needs.

        Every mail needs `title` (the programme's name), `period` (its code) and `sender_name`; the feedback mails take
        the first two from `standing`, a models.standing.Standing. No fact may be personal. TemplateFault names a
        missing fact or template.
        """
        try:
            page = self._environment.get_template(f"{name}.subject.j2").render(facts)
            subject = " ".join(_one_line(page).split())
            html = self._environment.get_template(f"{name}.html.j2").render(facts, subject=subject)
            text = self._environment.get_template(f"{name}.txt.j2").render(facts, subject=subject)
        except TemplateNotFound as error:
            raise TemplateFault(f"templates/{error.name}: no such template") from None
        except TemplateError as error:
            raise TemplateFault(f"templates/{name}.*.j2: {error.message}") from None
        return Rendered(subject, self._inliner.inline(html), re.sub(r"\n{3,}", "\n\n", text).strip() + "\n")

    def number(self, value: int) -> str:
        return str(format_decimal(int(value), locale=self._locale))

    def percent(self, ratio: float | None) -> str:
        """A ratio to one decimal of a percent; a dash where there was nothing to divide by."""
        return "—" if ratio is None else str(format_percent(ratio, format="#,##0.0%", locale=self._locale))

    def bar(self, ratio: float) -> int:
        """A ratio's length in whole percents, from 1 to 100, so that little is still seen."""
        return min(max(round(ratio * 100), 1), 100)

    def day(self, value: date) -> str:
        form = "y年M月d日（EEE）" if self.language == "zh_CN" else "EEE, d MMM y"
        return str(format_date(value, form, locale=self._locale))

    def moment(self, value: datetime) -> str:
        """A time of day in Shanghai, to the minute."""
        if value.tzinfo is None:
            raise TemplateFault("a time without zone cannot be shown")
        form = "y年M月d日 HH:mm" if self.language == "zh_CN" else "d MMM y, HH:mm 'CST (UTC+8)'"
        return str(format_datetime(value.astimezone(SHANGHAI), form, locale=self._locale))

    def period(self, code: str) -> str:
        """A period's code in words: 2026-03, 2026-03a, 2026-03-05, 2026Q1 or 2026."""
        found = re.fullmatch(r"(\d{4})(?:Q([1-4])|-(\d\d)(?:([abc])|-(\d\d))?)?", code)
        if not found:
            raise TemplateFault(f"period {code!r}: expected such as 2026-03, 2026-03a, 2026-03-05, 2026Q1 or 2026")
        year, quarter, month, third, day_of_month = found.groups()
        if day_of_month:
            return self.day(date(int(year), int(month), int(day_of_month)))
        chinese = self.language == "zh_CN"
        if quarter:
            return f"{year}年第{'一二三四'[int(quarter) - 1]}季度" if chinese else f"Q{quarter} {year}"
        if not month:
            return f"{year}年" if chinese else year
        name = str(format_date(date(int(year), int(month), 1), "y年M月" if chinese else "MMMM y", locale=self._locale))
        if not third:
            return name
        if chinese:
            return name + {"a": "上旬", "b": "中旬", "c": "下旬"}[third]
        return f"{name}, {({'a': 'days 1–10', 'b': 'days 11–20', 'c': 'from day 21'})[third]}"


def render(name: str, language: str, /, **facts: Any) -> Rendered:
    """One mail in one language; see Words.render."""
    return _words(language).render(name, **facts)


@cache
def _words(language: str) -> Words:
    return Words(language)


def _catalogue(language: str) -> NullTranslations:
    if language == "zh_CN":
        return NullTranslations()
    path = TEMPLATES / "locale" / language / "LC_MESSAGES" / "huifang.po"
    with path.open("rb") as source:
        catalog = read_po(source, locale=language)
    compiled = BytesIO()
    write_mo(compiled, catalog)
    compiled.seek(0)
    return Translations(compiled)


def _given(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def write_given(value: Any) -> Any:
        if isinstance(value, Undefined):
            str(value)  # StrictUndefined raises, and names the fact
        return write(value)

    return write_given


def _one_line(value: Any) -> Any:
    """A fact without line breaks and control characters, so that a branch's name cannot write lines of its own."""
    if isinstance(value, Markup):  # a piece of a page: its own line breaks are only spaces there
        return Markup("".join(" " if _is_control(c) and c != "\n" else c for c in value))  # noqa: S704 (escaped already)
    if isinstance(value, str):
        return "".join(" " if _is_control(c) else c for c in value)
    return value
