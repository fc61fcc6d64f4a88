"""The raw bytes of letters, safe on disk before anything is judged."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from tasks.mailbox.base import BLOCK_BYTES, Letter, Mailbox


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
