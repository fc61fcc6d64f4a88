"""The branches' passwords with their versions, and the keys that row codes and evidence are made with."""

from __future__ import annotations

import csv
import logging
import os
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Literal, NamedTuple

from cryptography.fernet import Fernet

from models.row_code import RowKey
from tasks.settings import Settings
from tasks.vault.secret import VaultError, secret, write_private

log = logging.getLogger(__name__)

ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
"""No 0 O 1 I L: a branch types its password from a letter."""
BRANCH_NO = re.compile(r"[\w-]{1,40}")


class BranchKeyError(VaultError):
    """One branch's key cannot be used; every other branch's can."""


@dataclass(frozen=True)
class BranchKey:
    """How it stands with the key of one branch; never the key."""

    branch_no: str
    version: int
    state: Literal["ok", "missing", "damaged"]
    made_at: datetime | None


class Rotation(NamedTuple):
    """One exchange of a branch's key, from a version to the next."""

    branch_no: str
    version: int
    at: str
    by: str
    reason: str


def branch_password(settings: Settings, branch_no: str) -> str:
    """The password of a branch's lists, made on first use: 5 groups of 4 (98 bits). Its file is never mailed.

    Raises BranchKeyError when the file holds none that could be used.
    """
    create_key(settings, branch_no)
    return _read(_current(settings, branch_no))


def branch_passwords(settings: Settings) -> dict[str, list[str]]:
    """Every password that may open a return, by branch number, the present one first; unusable files are named and left out."""
    folder = settings.keyring / "branches"
    found: dict[str, list[str]] = {}
    former = sorted((folder / "former").glob("*.key"), key=lambda path: -_version(path))
    for path in (*sorted(folder.glob("*.key")), *former):
        branch_no = path.stem if path.parent == folder else path.stem.rpartition("-")[0]
        try:
            password = _read(path)
        except BranchKeyError as error:
            log.warning("%s", error)
            continue
        if password not in found.setdefault(branch_no, []):
            found[branch_no].append(password)
    return found


def branch_keys(settings: Settings, branches: set[str]) -> list[BranchKey]:
    """How it stands with the keys of some branches and of all that have one, by branch number."""
    there = {path.stem for path in (settings.keyring / "branches").glob("*.key")}
    found = []
    for branch_no in sorted(there | branches):
        path = _current(settings, branch_no)
        state: Literal["ok", "missing", "damaged"] = "ok"
        if not path.exists():
            found.append(BranchKey(branch_no, 0, "missing", None))
            continue
        try:
            _read(path)
        except BranchKeyError:
            state = "damaged"
        made_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        found.append(BranchKey(branch_no, len(_former(settings, branch_no)) + 1, state, made_at))
    return found


def create_key(settings: Settings, branch_no: str) -> bool:
    """Make a branch's first key; False when it has one, which stays as it is."""
    path = _current(settings, branch_no)
    if path.exists():
        return False
    secret(path, _fresh())
    return True


def begin_rotation(settings: Settings, branch_no: str) -> int:
    """The version that the next key of a branch will have; nothing is changed. Raises BranchKeyError without a first key."""
    path = _current(settings, branch_no)
    if not path.exists():
        raise BranchKeyError(
            f"branch {branch_no}: has no key yet; `huifang keys create {branch_no}` makes the first one"
        )
    former = _former(settings, branch_no)
    # A rotation that was cut short has put the present key aside already.
    is_aside = bool(former) and former[-1].read_bytes() == path.read_bytes()
    return len(former) + (1 if is_aside else 2)


def rotate_key(settings: Settings, branch_no: str, *, now: datetime, by: str, reason: str) -> int:
    """Give a branch a new key, the version of which is returned; the one before still opens what was locked with it."""
    version, path = begin_rotation(settings, branch_no), _current(settings, branch_no)
    aside = path.parent / "former" / f"{branch_no}-{version - 1}.key"
    if not aside.exists():
        write_private(aside, path.read_bytes())
    line = StringIO()
    csv.writer(line, lineterminator="\n").writerow(Rotation(branch_no, version, now.isoformat(), by, reason))
    descriptor = os.open(_history(settings), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(line.getvalue())
        handle.flush()
        os.fsync(handle.fileno())
    write_private(path, _fresh().encode())
    return version


def rotations(settings: Settings) -> list[Rotation]:
    """Every rotation in order: which branch, to which version, when, by whom and why."""
    path = _history(settings)
    if not path.exists():
        return []
    rows = csv.reader(StringIO(path.read_text(encoding="utf-8"), newline=""))
    return [Rotation(branch_no, int(version), at, by, reason) for branch_no, version, at, by, reason in rows]


def row_keys(settings: Settings) -> list[RowKey]:
    """The keys of row codes, newest first; the first one is made on first use, and the vault's with it."""
    vault_key(settings)
    secret(settings.keyring / "row-code-1.key", secrets.token_hex(32))
    found = []
    for path in settings.keyring.glob("row-code-*.key"):
        found.append(RowKey(_version(path), bytes.fromhex(path.read_text(encoding="ascii").strip())))
    return sorted(found, key=lambda key: -key.version)


def vault_key(settings: Settings) -> bytes:
    """The key of the evidence files, made on first use."""
    return secret(settings.keyring / "vault.key", Fernet.generate_key().decode()).encode()


def message_id_key(settings: Settings) -> bytes:
    """The key of our Message-IDs, made on first use: nobody who has not had a mail can name it. Lost, only new ids differ."""
    return secret(settings.keyring / "message-id.key", secrets.token_hex(32)).encode()


def _current(settings: Settings, branch_no: str) -> Path:
    if not BRANCH_NO.fullmatch(branch_no):
        raise BranchKeyError(f"{branch_no!r} is no branch number; it has letters, digits, _ and - only")
    return settings.keyring / "branches" / f"{branch_no}.key"


def _former(settings: Settings, branch_no: str) -> list[Path]:
    """The files of a branch's former keys, oldest first."""
    folder = settings.keyring / "branches" / "former"
    return sorted((path for path in folder.glob(f"{branch_no}-*.key") if _is_of(path, branch_no)), key=_version)


def _is_of(path: Path, branch_no: str) -> bool:
    return path.stem.rpartition("-")[0] == branch_no


def _version(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _history(settings: Settings) -> Path:
    return settings.keyring / "branches" / "rotations.csv"


def _fresh() -> str:
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(4)) for _ in range(5))


def _read(path: Path) -> str:
    """The password in a branch's key file. Raises BranchKeyError, which never shows what the file holds."""
    branch_no = path.stem
    cure = "restore it from the backup, or give the branch a new one: `huifang keys rotate`, then `huifang keys letter`"
    try:
        password = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise BranchKeyError(f"branch {branch_no}: its key file {path} cannot be read as text; {cure}") from None
    if not password:
        raise BranchKeyError(f"branch {branch_no}: its key file {path} is empty; {cure}")
    if len(password) < 12 or not password.isprintable() or " " in password:
        raise BranchKeyError(f"branch {branch_no}: its key file {path} holds no password of 12 signs or more; {cure}")
    return password
