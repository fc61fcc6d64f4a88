"""The embedded mail server: real SMTP on loopback into one Maildir, for as long as its caller needs it.

For the demo and for a first look without a mail server; anybody on this machine may hand in mail, and nothing is
relayed. Knows nothing of campaigns, nor of what the mails carry.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from models import CallbackError
from tasks.settings import Settings

log = logging.getLogger(__name__)

SIZE_LIMIT_BYTES = 100 * 1024 * 1024


class PostOfficeError(CallbackError):
    """The embedded mail server cannot start."""


def folder_of(maildir: Path, address: str) -> Path:
    """The Maildir++ folder of an address that is not our own; case does not count.

    Two addresses that differ only in signs other than letters, digits, @, + and - share a folder.

    >>> folder_of(Path("maildir"), "Director.0001@branch.example").name
    '.director_0001@branch_example'
    """
    return maildir / ("." + re.sub(r"[^a-z0-9@+-]", "_", address.casefold()))


@contextmanager
def post_office(maildir: Path, own_address: str) -> Iterator[str]:
    """The URL of a mail server on loopback that keeps what it accepts: our own mail in the INBOX, others' in folders.

    A message is in new/ under its name only when it is whole and on disk. Names sort by arrival within one opening;
    between openings the files' times tell. The bytes are those handed in. Stops taking mail on leaving.
    """
    try:
        listener = socket.create_server(("127.0.0.1", 0))
        _make_folder(maildir)
    except OSError as error:
        raise PostOfficeError(f"embedded mail server: {error.strerror} ({maildir}); look at HUIFANG_HOME") from error
    loop = asyncio.new_event_loop()
    counter = _Counter(maildir, own_address)
    server = loop.run_until_complete(
        loop.create_server(
            lambda: SMTP(counter, hostname="localhost", ident="huifang", data_size_limit=SIZE_LIMIT_BYTES, loop=loop),
            sock=listener,
        )
    )
    thread = threading.Thread(target=loop.run_forever, name="post-office", daemon=True)
    thread.start()
    try:
        yield f"smtp://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
        log.info("embedded mail server: %d messages kept", counter.kept)


async def _close(server: asyncio.Server) -> None:
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class _Counter:
    """Takes messages over the counter; aiosmtpd calls the handle_… methods by name."""

    def __init__(self, maildir: Path, own_address: str) -> None:
        self._maildir = maildir
        self._own_address = own_address.casefold()
        self._numbers = itertools.count(1)
        self.kept = 0

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        if not re.fullmatch(r"[!-?A-~]+@[A-Za-z0-9.-]+", address) or len(address) > 254:
            return "553 5.1.3 not an address"
        if envelope.rcpt_tos:
            return "452 4.5.3 one recipient for each message"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        address, content = envelope.rcpt_tos[0], cast(bytes, envelope.content)  # decode_data is off
        own = address.casefold() == self._own_address
        try:
            self._keep(self._maildir if own else folder_of(self._maildir, address), content)
        except OSError:
            log.exception("embedded mail server: a message was not kept")
            return "452 4.3.1 cannot keep the message"
        self.kept += 1
        return "250 2.0.0 kept"

    def _keep(self, folder: Path, content: bytes) -> None:
        _make_folder(folder)
        if folder != self._maildir:
            (folder / "maildirfolder").touch()  # Maildir++: a folder, not a mailbox of its own
        name = f"{next(self._numbers):08d}.{uuid.uuid4().hex}.localhost"
        draft, final = folder / "tmp" / name, folder / "new" / name
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(final)
        directory = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # the rename itself
        finally:
            os.close(directory)


def _make_folder(folder: Path) -> None:
    for part in ("tmp", "new", "cur"):
        (folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def outgoing(settings: Settings) -> Iterator[str]:
    """Where mail goes out: HUIFANG_SMTP_URL, or the embedded post office for as long as the block runs."""
    if settings.smtp_url:
        yield settings.smtp_url
    else:
        with post_office(settings.maildir, settings.mail_from) as url:
            yield url
