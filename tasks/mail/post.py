"""The post: how a message is handed to the mail server, exactly once or openly unknown.

Knows SMTP and TLS; decides neither who gets a letter nor whether one is sent again. yagmail is the transport only: it
connects, secures and logs in.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import yagmail

from models.refusal import Refusal
from tasks.mail.letters import MailError, check_address
from tasks.settings import Settings, read_secret

log = logging.getLogger(__name__)


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
    is_temporary: bool = field(default=False, compare=False)
    """Certainly not delivered, and the same message may go through later."""
    is_of_server: bool = field(default=False, compare=False)
    """Failed for a reason that meets the next message too."""


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
        check_address("from", from_address)
        check_address("to", to_address)
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
                return Delivery("failed", None, "not connected", is_temporary=True, is_of_server=True)
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
        refusal = Refusal(step, code, _words(reply))
        return Delivery(
            "failed", code, refusal.detail, is_temporary=refusal.is_temporary, is_of_server=refusal.is_of_server
        )

    def _not_connected(self, error: OSError) -> Delivery:
        code = getattr(error, "smtp_code", None)
        if isinstance(error, ssl.SSLCertVerificationError):
            reason, is_lasting = ": certificate not verified", True
        elif isinstance(error, ssl.SSLError):
            reason, is_lasting = ": no TLS", False
        elif code is not None:
            too_much = Refusal("login", code, _words(getattr(error, "smtp_error", b""))).is_too_much
            is_lasting = 530 <= code <= 539 and not too_much  # RFC 4954: the login itself
            reason = f": login refused, {code}" if is_lasting else f": refused with {code}"
        elif type(error).__name__ in ("SMTPNotSupportedError", "SMTPException"):
            reason, is_lasting = ": STARTTLS or AUTH not offered", True
        else:
            reason, is_lasting = "", False
        delivery = Delivery(
            "failed", None, "not connected" + reason, is_temporary=not is_lasting, is_of_server=True
        )
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


def _words(reply: bytes | str) -> str:
    """What a server said, to be judged; Chinese ones say it in UTF-8 or in GB."""
    if isinstance(reply, str):
        return reply
    try:
        return reply.decode()
    except UnicodeDecodeError:
        return reply.decode("gb18030", "replace")


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
