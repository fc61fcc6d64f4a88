"""The raw bytes of letters, safe on disk before anything is judged."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from tasks.mailbox.base import Letter, Mailbox, MailboxError


class NotKept(MailboxError):
    """The disk takes no more of a letter; nothing is lost, for it stays in its mailbox."""


@dataclass(frozen=True)
class Spooled:
    """The raw bytes of one message, safe on disk."""

    sha256: str
    path: Path
    size_bytes: int


def spool(mailbox: Mailbox, letter: Letter, folder: Path) -> Spooled:
    """The raw bytes of a letter under their hash, written whole or not at all; a second call finds the same file."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = hashlib.sha256(
        "|".join((letter.source, letter.folder, letter.uid_validity, letter.uid)).encode()
    ).hexdigest()
    # One collect runs at a time: what a killed one left half written is written over.
    partial = folder / f"{name[:24]}.tmp"
    try:
        with partial.open("wb") as file:
            os.chmod(partial, 0o600)
            kept = _Kept(file)
            mailbox.fetch(letter, cast(BinaryIO, kept))
            file.flush()
            os.fsync(file.fileno())
        path = folder / f"{kept.digest.hexdigest()}.eml"
        partial.replace(path)
    except OSError as error:
        raise NotKept(_why(error)) from None
    finally:
        partial.unlink(missing_ok=True)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return Spooled(path.stem, path, kept.size_bytes)


class _Kept:
    """What a mailbox writes a letter to. A disk that is full is told from a connection that broke: both are OSError."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest, self.size_bytes = file, hashlib.sha256(), 0

    def write(self, block: bytes) -> int:
        try:
            self._file.write(block)
        except OSError as error:
            raise NotKept(_why(error)) from None
        self.digest.update(block)
        self.size_bytes += len(block)
        return len(block)


def _why(error: OSError) -> str:
    return f"spool: {error.strerror}; free space there: the letter stays where it lies, and the next run takes it"
