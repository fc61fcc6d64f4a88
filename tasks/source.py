"""Where extracts come from: a folder of delivered files; finds them, keeps each raw by its hash, decodes it to UTF-8.

Knows nothing of the rows inside; only `models.extracts` does.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import logging
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from models import CallbackError
from models.canonical import TABLES
from models.extracts import SourceFile
from models.profile import Profile
from tasks.settings import Settings

log = logging.getLogger(__name__)

BLOCK = 1 << 20


class SourceError(CallbackError):
    """A delivered file is missing, empty, unreadable or not what it should be."""


@contextmanager
def open_delivery(
    settings: Settings, profile: Profile, inbox: Path, roster: Path | None = None
) -> Iterator[dict[str, list[SourceFile]]]:
    """The files of each table of the profile, by table in the order of intake, readable until the block ends.

    Each file is copied into the lake under the hash of its bytes and read from there, so that a file that changes
    or vanishes meanwhile harms nothing. `roster` gives or replaces the table of that name; it is written in our own
    column names. Raises SourceError when a file is missing, empty, a link, cut off, or matched by two tables.
    """
    if not inbox.is_dir():
        raise SourceError(f"{inbox}: no such folder; --inbox names the folder the extracts were delivered to")
    found = {"roster": [roster]} if roster is not None else {}
    found |= {name: _find(inbox, name, profile) for name in TABLES if name in profile.tables and name not in found}
    owners: dict[Path, str] = {}
    for name, paths in found.items():
        for path in paths:
            if (other := owners.setdefault(path, name)) != name:
                raise SourceError(f"{path.name}: matches the files of both {other} and {name}; change the profile")
    scratch = settings.home.resolve() / "tmp"
    _make_folder(scratch)
    with tempfile.TemporaryDirectory(prefix="delivery-", dir=scratch) as folder:
        files: dict[str, list[SourceFile]] = {}
        for name in TABLES:
            for path in found.get(name, []):
                is_roster = roster is not None and name == "roster"
                shown = path.name if is_roster else path.relative_to(inbox).as_posix()
                encoding = "utf-8" if is_roster else profile.encoding
                kept = _keep(settings, path, shown)
                text = _decode(kept, encoding, Path(folder))
                log.info("source %s: %s bytes, sha256 %s", shown, kept.size_bytes, kept.sha256[:12])
                files.setdefault(name, []).append(
                    SourceFile(name, shown, kept.sha256, kept.size_bytes, str(text.path), text.has_bad_bytes, is_roster)
                )
        yield files


def _find(inbox: Path, table_name: str, profile: Profile) -> list[Path]:
    """The files of a table: each that is named outright, and at least one of those named by patterns."""
    patterns = profile.tables[table_name].files
    found: dict[Path, None] = {}
    for pattern in patterns:
        if pattern.startswith("/") or ".." in pattern.split("/"):
            raise SourceError(f"profile {profile.name}, tables.{table_name}.files: {pattern} leads out of the inbox")
        matches = [path for path in sorted(inbox.glob(pattern)) if not path.is_dir()]
        if not matches and not glob.has_magic(pattern):
            raise SourceError(_missing(inbox, pattern, table_name))
        for path in matches:
            if not path.parent.resolve().is_relative_to(inbox.resolve()):
                raise SourceError(f"{path.relative_to(inbox)}: lies behind a symbolic link; deliver the file itself")
        found.update(dict.fromkeys(matches))
    if patterns and not found:
        raise SourceError(_missing(inbox, " or ".join(patterns), table_name))
    return list(found)


def _missing(inbox: Path, wanted: str, table_name: str) -> str:
    names = sorted(path.name for path in inbox.iterdir())
    listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"{inbox}: no file {wanted} for table {table_name}; found {listed or 'nothing'}"


@dataclass(frozen=True)
class _Kept:
    path: Path
    name: str
    sha256: str
    size_bytes: int


def _keep(settings: Settings, path: Path, shown: str) -> _Kept:
    """The raw copy of a file, under its hash; a file that was kept before is not written again."""
    raw = settings.lake / "raw"
    _make_folder(raw)
    try:
        # O_NOFOLLOW: a link in the inbox could name any file the service may read.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise SourceError(f"{shown}: is a symbolic link; deliver the file itself") from None
        raise SourceError(f"{shown}: cannot be read: {error.strerror}") from None
    digest, size = hashlib.sha256(), 0
    with os.fdopen(handle, "rb") as source:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise SourceError(f"{shown}: is not a plain file")
        temporary, temporary_name = tempfile.mkstemp(prefix=".raw-", dir=raw)
        try:
            with os.fdopen(temporary, "wb") as copy:
                while block := source.read(BLOCK):
                    digest.update(block)
                    size += len(block)
                    copy.write(block)
                copy.flush()
                os.fsync(copy.fileno())
            kept = raw / digest.hexdigest()
            if kept.exists() and kept.stat().st_size == size:
                os.unlink(temporary_name)
            else:
                os.replace(temporary_name, kept)
                _sync_folder(raw)
        except BaseException:
            if os.path.exists(temporary_name):
                os.unlink(temporary_name)
            raise
    if size == 0:
        raise SourceError(f"{shown}: is empty; ask for the file again")
    return _Kept(kept, shown, digest.hexdigest(), size)


def _make_folder(folder: Path) -> None:
    for each in (*reversed(folder.parents), folder):
        each.mkdir(mode=0o700, exist_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class _Text:
    path: Path
    has_bad_bytes: bool


def _decode(kept: _Kept, encoding: str, folder: Path) -> _Text:
    """The file as UTF-8 text without BOM: the raw copy itself when it is that already, else a temporary file.

    A byte that does not decode becomes U+FFFD, and the file is marked: no row that holds one is accepted.
    """
    with kept.path.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
    if kept.name.endswith(".gz") and not is_gzip:
        raise SourceError(f"{kept.name}: is not gzip; deliver it again or drop .gz from its name")
    if not is_gzip and encoding.startswith("utf-8") and _is_clean(kept):
        return _Text(kept.path, has_bad_bytes=False)
    decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)(errors="replace")
    has_bad_bytes = False
    path = folder / kept.sha256
    with gzip.open(kept.path) if is_gzip else kept.path.open("rb") as source, path.open("wb") as text:
        os.fchmod(text.fileno(), 0o600)
        for block in _blocks(source, kept.name):
            decoded = decoder.decode(block)
            has_bad_bytes = has_bad_bytes or "\ufffd" in decoded
            text.write(decoded.encode())
        rest = decoder.decode(b"", final=True)
        has_bad_bytes = has_bad_bytes or "\ufffd" in rest
        text.write(rest.encode())
        if text.tell() == 0:
            raise SourceError(f"{kept.name}: is empty; ask for the file again")
    if has_bad_bytes:
        log.warning("source %s: some bytes are not %s; their rows will be rejected", kept.name, encoding)
    return _Text(path, has_bad_bytes)


def _is_clean(kept: _Kept) -> bool:
    """Whether the bytes are valid UTF-8 without a BOM."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with kept.path.open("rb") as raw:
        if raw.read(3) == codecs.BOM_UTF8:
            return False
        raw.seek(0)
        try:
            while block := raw.read(BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _blocks(source: BinaryIO | gzip.GzipFile, name: str) -> Iterator[bytes]:
    try:
        while block := source.read(BLOCK):
            yield block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{name}: the compressed file is cut off or damaged ({error}); ask for it again") from None
