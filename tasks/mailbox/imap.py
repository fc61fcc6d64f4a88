"""Letters on an IMAP server, over verified TLS only."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import ssl
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError

from tasks.mailbox.base import BLOCK_BYTES, DESTINATIONS, ConnectionLost, Decided, Destination, Letter, MailboxError
from tasks.settings import Settings, read_secret

log = logging.getLogger(__name__)

IMAP_TIMEOUT_SECONDS = 60


class ImapMailbox:
    """Folders of an IMAP account over verified TLS; the destinations are made beside the first."""

    def __init__(self, settings: Settings) -> None:
        url = urlsplit(settings.mailbox_url)
        try:
            port = url.port or 993
        except ValueError:
            raise MailboxError(
                "HUIFANG_RETURNS_URL: the port is not a number; write imaps://user@host:port/FOLDER"
            ) from None
        if not url.hostname or not url.username:
            raise MailboxError("HUIFANG_RETURNS_URL: user or host is missing; write imaps://user@host[:port]/FOLDER")
        if url.password:
            raise MailboxError(
                "HUIFANG_RETURNS_URL holds a password; put it into a file named by HUIFANG_RETURNS_PASSWORD_FILE"
            )
        password = read_secret(settings.returns_password_file, "HUIFANG_RETURNS_PASSWORD_FILE")
        if password is None:
            raise MailboxError(
                "HUIFANG_RETURNS_PASSWORD_FILE is not set; name the file that holds the mailbox password"
            )
        self._where = f"{unquote(url.username)}@{url.hostname}:{port}"
        self.source = f"imaps:{self._where}"
        self._folders = [unquote(name) for name in url.path.strip("/").split(",") if name] or ["INBOX"]
        self._selected = ""
        self._uid_validity: dict[str, str] = {}
        try:
            context = ssl.create_default_context(
                cafile=str(settings.returns_ca_file) if settings.returns_ca_file else None
            )
            self._client = IMAPClient(
                url.hostname, port=port, ssl=True, ssl_context=context, timeout=IMAP_TIMEOUT_SECONDS, use_uid=True
            )
        except (OSError, IMAPClientError) as error:
            raise MailboxError(
                f"imaps://{self._where}: {_reason(error)}; check host, port and HUIFANG_RETURNS_CA_FILE"
            ) from None
        try:
            self._client.login(unquote(url.username), password.get_secret_value())
            for folder in self._folders:
                self._select(folder)
            self._can_move = self._client.has_capability("MOVE")
            if not self._can_move and not self._client.has_capability("UIDPLUS"):
                raise MailboxError(
                    f"imaps://{self._where}: the server can neither MOVE nor UIDPLUS, so nothing can be moved safely"
                )
        except (OSError, IMAPClientError) as error:
            self.close()
            raise MailboxError(
                f"imaps://{self._where}/{','.join(self._folders)}: {_reason(error)}; check user, password and folder"
            ) from None
        self._made: set[str] = set()

    def letters(self) -> Iterator[Letter]:
        for folder in self._folders:
            try:
                self._select(folder)
                uids = sorted(self._client.search(["UNDELETED"]))
            except (OSError, IMAPClientError) as error:
                raise _fault(error, f"{self.source}/{folder}") from None
            for uid in uids:
                yield Letter(self.source, folder, self._uid_validity[folder], str(uid))

    def fetch(self, letter: Letter, to: BinaryIO) -> None:
        """The message block by block: a 50 MB recording costs one block of memory. \\Seen is not set."""
        try:
            self._check(letter)
            for block in self._blocks(int(letter.uid)):
                to.write(block)
        except (OSError, IMAPClientError) as error:
            raise _fault(error, f"{letter.source}: message {letter.uid}") from None

    def _blocks(self, uid: int) -> Iterator[bytes]:
        """A message of the folder that is selected."""
        offset, size = 0, BLOCK_BYTES
        while size == BLOCK_BYTES:
            answer = self._client.fetch([uid], [f"BODY.PEEK[]<{offset}.{BLOCK_BYTES}>"]).get(uid)
            if answer is None:
                raise MailboxError(f"{self.source}: message {uid} is gone; somebody else took it")
            block = next((value for key, value in answer.items() if key.startswith(b"BODY[]")), b"") or b""
            yield block
            size = len(block)
            offset += size

    def move(self, letter: Letter, folder: Destination) -> None:
        try:
            self._check(letter)
            if self._client.fetch([int(letter.uid)], ["UID"]):
                self._put(int(letter.uid), folder)
            else:
                log.warning("%s: message %s was already moved", letter.source, letter.uid)
        except (OSError, IMAPClientError) as error:
            raise _fault(error, f"{letter.source}: message {letter.uid} to {folder}") from None

    def _put(self, uid: int, folder: Destination) -> None:
        """Move a message of the folder that is selected."""
        target = self._destination(folder)
        if self._can_move:
            self._client.move([uid], target)
            return
        self._client.copy([uid], target)
        self._client.delete_messages([uid])
        # With UIDPLUS only this one goes: a plain EXPUNGE would take everybody's deleted messages.
        self._client.uid_expunge([uid])

    def clear_quarantine(self, decided: Sequence[Decided]) -> None:
        # A moved message has a new number, which only the server knows; what it holds tells which it is.
        sizes = {found.size_bytes for found in decided}
        wanted = {found.sha256: found.folder for found in decided}
        aside = self._prefix + "Quarantine"
        try:
            if not self._client.folder_exists(aside):
                return
            self._select(aside)
            uids = self._client.search(["UNDELETED"])
            answers = self._client.fetch(uids, ["RFC822.SIZE"]) if uids else {}
            for uid in sorted(uid for uid, answer in answers.items() if answer[b"RFC822.SIZE"] in sizes):
                digest = hashlib.sha256()
                for block in self._blocks(uid):
                    digest.update(block)
                if (sha256 := digest.hexdigest()) in wanted:
                    self._put(uid, wanted[sha256])
        except (OSError, IMAPClientError) as error:
            raise _fault(error, f"{self.source}: {aside}") from None

    def count_moved(self) -> int:
        try:
            found = [self._prefix + folder for folder in DESTINATIONS]
            return sum(
                int(self._client.folder_status(folder, ["MESSAGES"])[b"MESSAGES"])
                for folder in found
                if self._client.folder_exists(folder)
            )
        except (OSError, IMAPClientError) as error:
            raise _fault(error, self.source) from None

    def close(self) -> None:
        try:
            self._client.logout()
        except (OSError, IMAPClientError) as error:
            log.warning("imaps:%s: logout: %s", self._where, type(error).__name__)
            with contextlib.suppress(OSError):
                self._client.shutdown()

    def _select(self, folder: str) -> None:
        self._selected = ""
        answer = self._client.select_folder(folder)
        self._selected, self._uid_validity[folder] = folder, str(answer[b"UIDVALIDITY"])

    def _check(self, letter: Letter) -> None:
        if letter.folder != self._selected:
            self._select(letter.folder)
        if letter.uid_validity != self._uid_validity[letter.folder]:
            raise MailboxError(
                f"{letter.source}: folder {letter.folder} was made anew, its numbers mean other messages; list again"
            )

    @cached_property
    def _prefix(self) -> str:
        namespace = self._client.namespace().personal if self._client.has_capability("NAMESPACE") else None
        return str(namespace[0][0]) if namespace else ""

    def _destination(self, folder: Destination) -> str:
        target = self._prefix + folder
        if target not in self._made and not self._client.folder_exists(target):
            self._client.create_folder(target)
        self._made.add(target)
        return target


def _fault(error: Exception, place: str) -> MailboxError:
    """A connection that broke is told from a server that refuses: only the first is worth connecting anew."""
    is_lost = isinstance(error, OSError | IMAPClientAbortError)
    return (ConnectionLost if is_lost else MailboxError)(f"{place}: {_reason(error)}")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
