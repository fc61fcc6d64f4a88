"""Evidence files, encrypted and filed by the hash of what they hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.fernet import Fernet

from tasks.settings import Settings
from tasks.vault.keys import vault_key
from tasks.vault.secret import VaultError, write_private


def keep_evidence(settings: Settings, clear: Path) -> tuple[str, str]:
    """Put a file into the vault: the hash of its clear bytes, and its path below HUIFANG_HOME. Harmless to repeat."""
    content = clear.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    target = settings.vault / sha256[:2] / f"{sha256}.fernet"
    if not target.exists():
        write_private(target, Fernet(vault_key(settings)).encrypt(content))
    return sha256, str(target.relative_to(settings.home.resolve()))


def read_evidence(settings: Settings, path: str) -> bytes:
    """The clear bytes of an evidence file. Raises VaultError when they are not what was put in."""
    target = settings.home.resolve() / path
    content = Fernet(vault_key(settings)).decrypt(target.read_bytes())
    if hashlib.sha256(content).hexdigest() != target.stem:
        raise VaultError(f"{path}: its content does not have the hash it is filed under; restore it from the backup")
    return content
