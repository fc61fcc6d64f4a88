"""What is kept under lock: branch passwords, the row-code keys, and evidence files encrypted by content hash.

Knows where secrets lie and how evidence is locked; knows no mail, no row and no branch's address. Keys never leave
the keys folder but as an argument.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet

from models import CallbackError
from models.row_code import RowKey
from tasks.settings import Settings

ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
"""No 0 O 1 I L: a branch types its password from a letter."""


class VaultError(CallbackError):
    """A key or an evidence file that cannot be read as it should."""


def branch_password(settings: Settings, branch_no: str) -> str:
    """The password of a branch's lists, made on first use: 5 groups of 4 (98 bits). Its file is never mailed."""
    fresh = "-".join("".join(secrets.choice(ALPHABET) for _ in range(4)) for _ in range(5))
    return _secret(settings.keyring / "branches" / f"{branch_no}.key", fresh)


def branch_passwords(settings: Settings) -> dict[str, str]:
    """Every password there is, by branch number."""
    return {
        path.stem: path.read_text(encoding="utf-8").strip()
        for path in sorted((settings.keyring / "branches").glob("*.key"))
    }


def row_keys(settings: Settings) -> list[RowKey]:
    """The keys of row codes, newest first; the first one is made on first use, and the vault's with it."""
    _vault_key(settings)
    _secret(settings.keyring / "row-code-1.key", secrets.token_hex(32))
    found = []
    for path in settings.keyring.glob("row-code-*.key"):
        found.append(RowKey(int(path.stem.rpartition("-")[2]), bytes.fromhex(path.read_text(encoding="ascii").strip())))
    return sorted(found, key=lambda key: -key.version)


def keep_evidence(settings: Settings, clear: Path) -> tuple[str, str]:
    """Put a file into the vault: the hash of its clear bytes, and its path below HUIFANG_HOME. Harmless to repeat."""
    content = clear.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    target = settings.vault / sha256[:2] / f"{sha256}.fernet"
    if not target.exists():
        _write_private(target, Fernet(_vault_key(settings)).encrypt(content))
    return sha256, str(target.relative_to(settings.home.resolve()))


def read_evidence(settings: Settings, path: str) -> bytes:
    """The clear bytes of an evidence file. Raises VaultError when they are not what was put in."""
    target = settings.home.resolve() / path
    content = Fernet(_vault_key(settings)).decrypt(target.read_bytes())
    if hashlib.sha256(content).hexdigest() != target.stem:
        raise VaultError(f"{path}: its content does not have the hash it is filed under; restore it from the backup")
    return content


def _vault_key(settings: Settings) -> bytes:
    return _secret(settings.keyring / "vault.key", Fernet.generate_key().decode()).encode()


def _secret(path: Path, fresh: str) -> str:
    """The secret in a file, or the fresh one written there; two runs at once agree on one."""
    if not path.exists():
        candidate = path.with_name(f".{path.name}.{os.getpid()}")
        _write_private(candidate, fresh.encode())
        try:
            os.link(candidate, path)
        except FileExistsError:
            pass
        finally:
            candidate.unlink()
    content = path.read_text(encoding="utf-8").strip()
    if not content:
        raise VaultError(f"{path}: is empty; restore it from the backup, or remove it to have a new one made")
    return content


def _write_private(path: Path, content: bytes) -> None:
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.rename(path)
