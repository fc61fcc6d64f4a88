"""A real SMTP server on loopback that can be told to fail, and an own certificate authority for its TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Counter:
    """What a mail server does with a message; replies maps a command to what it answers instead of 250."""

    def __init__(
        self,
        replies: dict[str, str] | None = None,
        silent_at: str = "",
        hang_up_at: str = "",
        slow_seconds: float = 0,
    ) -> None:
        self.replies, self.silent_at, self.hang_up_at = replies or {}, silent_at, hang_up_at
        self.slow_seconds = slow_seconds
        self.offers: list[str] = []
        """Addresses in the order in which they were named, refused ones included."""
        self.kept: list[bytes] = []
        self.greetings = 0
        self.logins = 0
        self.tls: list[bool] = []

    async def answer(self, command: str, server: SMTP) -> str:
        if command == self.silent_at:
            await asyncio.sleep(20)
        if command == self.hang_up_at:
            server.transport.abort()
        await asyncio.sleep(self.slow_seconds)
        return self.replies.get(command, "250 OK")

    async def handle_EHLO(
        self, server: SMTP, session: Any, envelope: Any, hostname: str, lines: list[str]
    ) -> list[str]:
        self.greetings += 1
        session.host_name = hostname
        return lines

    async def handle_MAIL(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        envelope.mail_from = address
        return await self.answer("MAIL", server)

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        self.offers.append(address)
        reply = await self.answer("RCPT", server)
        if reply.startswith("2"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        self.tls.append(session.ssl is not None)
        if "DATA" not in self.replies:
            self.kept.append(envelope.content)
        return await self.answer("DATA", server)

    def authenticate(self, server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.logins += 1
        is_right = isinstance(data, LoginPassword) and data == LoginPassword(b"huifang@hq.example", b"s3cret word")
        return AuthResult(success=is_right, handled=False)


@contextmanager
def serving(
    counter: Counter,
    *,
    starttls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
    size_limit_bytes: int | None = None,
) -> Iterator[int]:
    """The port of a mail server that asks for a login wherever it has TLS."""
    options: dict[str, Any] = {"tls_context": starttls, "require_starttls": starttls is not None}
    if size_limit_bytes:
        options["data_size_limit"] = size_limit_bytes
    if starttls or tls:
        options |= {"authenticator": counter.authenticate, "auth_required": True, "auth_require_tls": tls is None}
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        loop.create_server(lambda: SMTP(counter, hostname="localhost", loop=loop, **options), "127.0.0.1", 0, ssl=tls)
    )
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


@contextmanager
def scripted(talk: Callable[[socket.socket, int], None]) -> Iterator[int]:
    """The port of a server that does with each connection what talk says; talk gets the connection's number."""
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        for number in range(100):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                talk(connection, number)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


# ---- an own certificate authority --------------------------------------------------------------------------


class Authority:
    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        self.certificate = self._builder(self.name, self.key).add_extension(x509.BasicConstraints(True, None), True)
        self.certificate = self.certificate.add_extension(usage, True).sign(self.key, hashes.SHA256())
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_expired: bool = False
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC) - timedelta(days=30 if is_expired else 0)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        )

    def server(self, *names: x509.GeneralName, is_expired: bool = False) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
        certificate = self._builder(subject, key, is_expired=is_expired).add_extension(x509.SubjectAlternativeName(names), False)
        path = self.folder / f"server{time.monotonic_ns()}.pem"
        path.write_bytes(
            certificate.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        return context
