"""Fetching returns and having them opened: IMAP, Maildir or drop folder on one side, the sandboxed child on the other.

Raw bytes are spooled under their hash before anything is judged; messages are moved, never deleted. Knows no sheet,
roster or store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mailbox as stdlib_mailbox
import os
import selectors
import ssl
import stat
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO, Literal, Protocol
from urllib.parse import unquote, urlsplit

from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError

from models import CallbackError
from models.returns import Opened, OpenedError
from tasks.settings import PROJECT, Settings, bare_environment, read_secret

log = logging.getLogger(__name__)

Destination = Literal["Processed", "Rejected", "Quarantine"]
DESTINATIONS: tuple[Destination, ...] = ("Processed", "Rejected", "Quarantine")

BLOCK_BYTES = 1 << 20
IMAP_TIMEOUT_SECONDS = 60
OPEN_TIMEOUT_SECONDS = 90.0
REPORT_BYTES = 64 << 20
CHILDREN = min(os.cpu_count() or 1, 4)
START_TIMEOUT_SECONDS = 60.0
READY = b'{"ready": true}'


class MailboxError(CallbackError):
    """The place returns come from cannot be reached or is not what its URL says."""


class SandboxError(CallbackError):
    """The child process that opens messages cannot be started."""


@dataclass(frozen=True)
class Letter:
    """One message where it lies; the four fields together are its identity there (uid_validity: IMAP only)."""

    source: str
    folder: str
    uid_validity: str
    uid: str


@dataclass(frozen=True)
class Spooled:
    """The raw bytes of one message, safe on disk."""

    sha256: str
    path: Path
    size_bytes: int


class Mailbox(Protocol):
    """Where returns lie. Nothing is ever deleted; moving a letter that is gone is said and harmless."""

    def letters(self) -> Iterator[Letter]: ...

    def fetch(self, letter: Letter, to: BinaryIO) -> None: ...

    def move(self, letter: Letter, folder: Destination) -> None: ...

    def close(self) -> None: ...


def open_mailbox(settings: Settings) -> Mailbox:
    """The mailbox of `settings.mailbox_url`: maildir:DIR, file:DIR or imaps://user@host[:port]/FOLDER."""
    url = settings.mailbox_url
    scheme, _, rest = url.partition(":")
    if scheme == "maildir" and rest:
        return MaildirMailbox(Path(rest))
    if scheme == "file" and rest:
        return FolderMailbox(Path(rest[2:] if rest.startswith("//") else rest))
    if scheme == "imaps":
        return ImapMailbox(settings)
    raise MailboxError(
        f"HUIFANG_RETURNS_URL: {scheme}: is no kind of mailbox; write maildir:DIR, file:DIR or imaps://user@host/FOLDER"
    )


class MaildirMailbox:
    """A Maildir whose root is the inbox; moved letters lie in .Processed, .Rejected and .Quarantine."""

    def __init__(self, root: Path) -> None:
        self._source = f"maildir:{root.name}"
        try:
            self._box = stdlib_mailbox.Maildir(root, factory=None, create=True)
        except OSError as error:
            raise MailboxError(
                f"maildir:{root}: {error.strerror}; give a Maildir or a folder that can be made"
            ) from None
        self._root = root

    def letters(self) -> Iterator[Letter]:
        # In the order of arrival: which version of a row is the last must not hang on a file's name.
        arrived = []
        for key in list(self._box.iterkeys()):
            with suppress(KeyError, FileNotFoundError):
                found = (self._root / str(self._box._lookup(key))).lstat()  # type: ignore[attr-defined]
                if stat.S_ISREG(found.st_mode):
                    arrived.append((found.st_mtime_ns, key))
                else:
                    log.warning("%s: %s is no plain file and was left where it lies", self._source, key)
        for _, key in sorted(arrived):
            yield Letter(self._source, "INBOX", "", key)

    def fetch(self, letter: Letter, to: BinaryIO) -> None:
        try:
            with self._path(letter).open("rb") as message:
                while block := message.read(BLOCK_BYTES):
                    to.write(block)
        except (KeyError, FileNotFoundError):
            raise MailboxError(f"{self._source}: message {letter.uid} is gone; somebody else took it") from None
        except PermissionError:
            raise MailboxError(f"{self._source}: message {letter.uid} may not be read; correct its owner") from None

    def move(self, letter: Letter, folder: Destination) -> None:
        self._box.add_folder(folder)
        try:
            path = self._path(letter)
            target = self._root / f".{folder}" / "cur" / (path.name if ":" in path.name else f"{path.name}:2,S")
            path.rename(target)
        except (KeyError, FileNotFoundError):
            log.warning("%s: message %s was already moved", self._source, letter.uid)

    def close(self) -> None:
        self._box.close()

    def _path(self, letter: Letter) -> Path:
        # The stdlib class writes whole messages in memory; the file itself is read and renamed here.
        self._box.keys()
        return self._root / str(self._box._lookup(letter.uid))  # type: ignore[attr-defined]


class FolderMailbox:
    """A drop folder of .eml files; moved letters lie in the subfolders Processed, Rejected and Quarantine."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise MailboxError(f"file:{root}: no such folder; make it or correct HUIFANG_RETURNS_URL")
        self._root, self._source = root, f"file:{root.name}"

    def letters(self) -> Iterator[Letter]:
        for path in sorted(self._root.iterdir(), key=lambda path: (path.lstat().st_mtime_ns, path.name)):
            if path.is_symlink():
                log.warning("%s: a link was left where it lies", self._source)
            elif path.suffix.lower() == ".eml" and path.is_file():
                yield Letter(self._source, "", "", path.name)
            elif path.is_file() and not path.name.startswith("."):
                log.warning("%s: a file that is no .eml was left where it lies", self._source)

    def fetch(self, letter: Letter, to: BinaryIO) -> None:
        try:
            with (self._root / letter.uid).open("rb") as message:
                while block := message.read(BLOCK_BYTES):
                    to.write(block)
        except FileNotFoundError:
            raise MailboxError(f"{self._source}: {letter.uid} is gone; somebody else took it") from None

    def move(self, letter: Letter, folder: Destination) -> None:
        target = self._root / folder / letter.uid
        target.parent.mkdir(exist_ok=True)
        number = 1
        while target.exists():
            number += 1
            target = self._root / folder / f"{Path(letter.uid).stem}.{number}.eml"
        try:
            (self._root / letter.uid).rename(target)
        except FileNotFoundError:
            log.warning("%s: a message was already moved", self._source)

    def close(self) -> None:
        return None


class ImapMailbox:
    """One folder of an IMAP account over verified TLS; the destinations are made beside it."""

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
        self._folder = unquote(url.path.strip("/")) or "INBOX"
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
            selected = self._client.select_folder(self._folder)
            self._uid_validity = str(selected[b"UIDVALIDITY"])
            self._can_move = self._client.has_capability("MOVE")
            if not self._can_move and not self._client.has_capability("UIDPLUS"):
                raise MailboxError(
                    f"imaps://{self._where}: the server can neither MOVE nor UIDPLUS, so nothing can be moved safely"
                )
        except (OSError, IMAPClientError) as error:
            self.close()
            raise MailboxError(
                f"imaps://{self._where}/{self._folder}: {_reason(error)}; check user, password and folder"
            ) from None
        self._made: set[str] = set()

    def letters(self) -> Iterator[Letter]:
        for uid in sorted(self._client.search(["UNDELETED"])):
            yield Letter(f"imaps:{self._where}", self._folder, self._uid_validity, str(uid))

    def fetch(self, letter: Letter, to: BinaryIO) -> None:
        """The message block by block: a 50 MB recording costs one block of memory. \\Seen is not set."""
        self._check(letter)
        uid, offset = int(letter.uid), 0
        try:
            while True:
                answer = self._client.fetch([uid], [f"BODY.PEEK[]<{offset}.{BLOCK_BYTES}>"]).get(uid)
                if answer is None:
                    raise MailboxError(f"{letter.source}: message {letter.uid} is gone; somebody else took it")
                block = next((value for key, value in answer.items() if key.startswith(b"BODY[]")), b"") or b""
                to.write(block)
                offset += len(block)
                if len(block) < BLOCK_BYTES:
                    return
        except (OSError, IMAPClientError) as error:
            raise MailboxError(f"{letter.source}: message {letter.uid}: {_reason(error)}") from None

    def move(self, letter: Letter, folder: Destination) -> None:
        self._check(letter)
        try:
            target = self._destination(folder)
            if not self._client.fetch([int(letter.uid)], ["UID"]):
                log.warning("%s: message %s was already moved", letter.source, letter.uid)
            elif self._can_move:
                self._client.move([int(letter.uid)], target)
            else:
                self._client.copy([int(letter.uid)], target)
                self._client.delete_messages([int(letter.uid)])
                # With UIDPLUS only this one goes: a plain EXPUNGE would take everybody's deleted messages.
                self._client.uid_expunge([int(letter.uid)])
        except (OSError, IMAPClientError) as error:
            raise MailboxError(f"{letter.source}: message {letter.uid} to {folder}: {_reason(error)}") from None

    def close(self) -> None:
        try:
            self._client.logout()
        except (OSError, IMAPClientError) as error:
            log.warning("imaps:%s: logout: %s", self._where, type(error).__name__)
            with contextlib.suppress(OSError):
                self._client.shutdown()

    def _check(self, letter: Letter) -> None:
        if letter.uid_validity != self._uid_validity:
            raise MailboxError(
                f"{letter.source}: folder {letter.folder} was made anew, its numbers mean other messages; list again"
            )

    def _destination(self, folder: Destination) -> str:
        namespace = self._client.namespace().personal if self._client.has_capability("NAMESPACE") else None
        prefix = namespace[0][0] if namespace else ""
        target = f"{prefix}{folder}"
        if target not in self._made and not self._client.folder_exists(target):
            self._client.create_folder(target)
        self._made.add(target)
        return target


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


# ---- the spool -------------------------------------------------------------------------------------------


def spool(mailbox: Mailbox, letter: Letter, folder: Path) -> Spooled:
    """The raw bytes of a letter under their hash, written whole or not at all; a second call finds the same file."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = hashlib.sha256(
        "|".join((letter.source, letter.folder, letter.uid_validity, letter.uid)).encode()
    ).hexdigest()
    partial = folder / f"{name[:24]}.{os.getpid()}.tmp"
    try:
        with partial.open("wb") as file:
            os.chmod(partial, 0o600)
            mailbox.fetch(letter, file)
            file.flush()
            os.fsync(file.fileno())
        digest = hashlib.sha256()
        with partial.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        sha256, size = digest.hexdigest(), partial.stat().st_size
        path = folder / f"{sha256}.eml"
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return Spooled(sha256, path, size)


# ---- the sandbox -----------------------------------------------------------------------------------------


def open_messages(
    paths: Iterable[Path],
    passwords: Mapping[str, Sequence[str]],
    settings: Settings,
    *,
    timeout_seconds: float = OPEN_TIMEOUT_SECONDS,
) -> Iterator[Opened]:
    """Each message taken apart, in the order of `paths`; what kills or stalls the child costs that one message.

    Attached files lie below the spool, in parts/ under their hashes. `passwords` are by sender's address, case folded;
    those under '' are tried whoever wrote it.
    """
    out_dir = settings.spool / "parts"
    out_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    idle: SimpleQueue[_Child] = SimpleQueue()

    def take_apart(path: Path) -> Opened:
        try:
            child = idle.get_nowait()
        except Empty:
            child = _Child(passwords)
        report, error = child.ask({"path": str(path), "out_dir": str(out_dir)}, timeout_seconds)
        if error:
            log.warning("message %s: %s; the child was replaced", path.stem[:12], error)
            child.close()
            return Opened(sha256=path.stem, error=error)
        idle.put(child)
        try:
            return Opened.from_report({"sha256": path.stem, **report})
        except OpenedError:
            log.warning("message %s: the child's report has an unknown shape", path.stem[:12])
            return Opened(sha256=path.stem, error="unreadable")

    # Opening a locked workbook is 100,000 rounds of hashing: a child for each core, and no more reports in memory than are asked for.
    pending: deque[Future[Opened]] = deque()
    with ThreadPoolExecutor(CHILDREN) as pool:
        try:
            for path in paths:
                pending.append(pool.submit(take_apart, path))
                if len(pending) > CHILDREN:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            pool.shutdown()
            while not idle.empty():
                idle.get().close()


class _Child:
    """One running sandbox."""

    def __init__(self, passwords: Mapping[str, Sequence[str]]) -> None:
        # No environment but what Python needs: a stranger's file finds no secret there.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tasks.sandbox"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=PROJECT,
            env=bare_environment(),
            start_new_session=True,
        )
        self._buffer = b""
        try:
            self._write({"passwords": {address.casefold(): list(words) for address, words in passwords.items()}})
            line = self._read_line(START_TIMEOUT_SECONDS)
        except (BrokenPipeError, TimeoutError):
            line = None
        if line != READY:
            # Told apart from a deadly message: without a child every honest return would look unreadable.
            self.close()
            raise SandboxError(
                f"the sandbox does not start: try `{sys.executable} -m tasks.sandbox </dev/null` in {PROJECT}"
            )

    def ask(self, request: Mapping[str, str], timeout_seconds: float) -> tuple[dict[str, object], str]:
        """The report, or why there is none: unreadable (the child died) or timeout."""
        try:
            self._write(request)
            line = self._read_line(timeout_seconds)
        except BrokenPipeError:
            return {}, "unreadable"
        except TimeoutError:
            return {}, "timeout"
        if line is None:
            return {}, "unreadable"
        try:
            report = json.loads(line)
        except ValueError:
            return {}, "unreadable"
        return (report, "") if isinstance(report, dict) else ({}, "unreadable")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    log.debug("sandbox %s had died before it was told", self._process.pid)

    def _write(self, line: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")
        self._process.stdin.flush()

    def _read_line(self, timeout_seconds: float) -> bytes | None:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_seconds
        descriptor = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            parts = [self._buffer]
            size = 0
            while b"\n" not in parts[-1]:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise TimeoutError
                block = os.read(descriptor, 1 << 16)
                size += len(block)
                if not block or size > REPORT_BYTES:
                    return None
                parts.append(block)
        line, _, self._buffer = b"".join(parts).partition(b"\n")
        return line
