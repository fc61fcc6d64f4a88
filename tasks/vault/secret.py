"""Files that hold one secret each: made once, readable by the service user alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from models import CallbackError


class VaultError(CallbackError):
    """A key or an evidence file that cannot be read as it should."""


def secret(path: Path, fresh: str) -> str:
    """The secret in a file, or the fresh one written there; two runs at once agree on one."""
    if not path.exists():
        candidate = path.with_name(f".{path.name}.{os.getpid()}")
        write_private(candidate, fresh.encode())
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


def write_private(path: Path, content: bytes) -> None:
    with private_file(path) as handle:
        handle.write(content)


@contextmanager
def private_file(path: Path) -> Iterator[BinaryIO]:
    """A file to be written for the service user alone; it has its name only when it is whole and on the disk."""
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
