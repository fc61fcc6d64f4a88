"""Evidence files, encrypted and filed by the hash of what they hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from tasks.settings import Settings
from tasks.vault.keys import vault_key
from tasks.vault.secret import VaultError, private_file


class NotKept(VaultError):
    """The disk takes no more evidence; its message waits."""


PIECE_BYTES = 1 << 20
"""What is locked at once: a recording of 50 MB costs a few of these in memory, not three times its size."""


def keep_evidence(settings: Settings, clear: Path) -> tuple[str, str]:
    """Put a file into the vault: the hash of its clear bytes, and its path below HUIFANG_HOME. Harmless to repeat.

    Raises NotKept on a full disk. The file is a Fernet token a line for each piece. Whether all are there and in order,
    the hash of the whole says that the file is called by; one of a single token without line end, as the vault's first
    files are, is read the same way.
    """
    with clear.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        target = settings.vault / sha256[:2] / f"{sha256}.fernet"
        if not target.exists():
            lock = Fernet(vault_key(settings))
            file.seek(0)
            try:
                with private_file(target) as locked:
                    while piece := file.read(PIECE_BYTES):
                        locked.write(lock.encrypt(piece) + b"\n")
            except OSError as error:
                raise NotKept(f"vault: {error.strerror}; free space there, the next run keeps the file") from None
    return sha256, str(target.relative_to(settings.home.resolve()))


def read_evidence(settings: Settings, path: str) -> bytes:
    """The clear bytes of an evidence file. Raises VaultError when they are not what was put in."""
    target = settings.home.resolve() / path
    lock = Fernet(vault_key(settings))
    try:
        with target.open("rb") as locked:
            content = b"".join(lock.decrypt(line.rstrip(b"\n")) for line in locked)
    except InvalidToken:
        content = None
    if content is None or hashlib.sha256(content).hexdigest() != target.stem:
        raise VaultError(f"{path}: its content does not have the hash it is filed under; restore it from the backup")
    return content
