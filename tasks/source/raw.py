"""Raw copies: each file under the hash of its bytes, whole or not there at all, for the service alone."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.source.base import Readable, SourceError

BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Kept:
    """A raw copy."""

    path: Path
    sha256: str
    size_bytes: int
    md5: str | None = None


class RawCopies:
    """The folder of raw copies; what a killed run left half-written in it is removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_folder(folder)
        with self._locked():
            for left in folder.glob(".raw-*"):
                with suppress(FileNotFoundError):
                    handle = os.open(left, os.O_RDONLY)
                    try:
                        # Whoever writes it holds it, and a lock falls with its process.
                        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        left.unlink()
                    except BlockingIOError:
                        pass
                    finally:
                        os.close(handle)

    def keep(self, source: Readable, name: str, *, md5: bool = False) -> Kept:
        """The raw copy of what `source` brings; one that was kept before stays as it is.

        Raises SourceError when the disk is full or nothing comes; whatever `source` raises passes through. Then
        nothing is left behind.
        """
        with self._draft(name) as draft:
            digests = [hashlib.sha256()] + ([hashlib.md5(usedforsecurity=False)] if md5 else [])
            size = 0
            with _hashing(digests) as feed, draft.open("r+b", buffering=0) as copy:
                while block := source.read(BLOCK):
                    feed(block)
                    view = memoryview(block)
                    while view:
                        view = view[copy.write(view) :]
                    size += len(block)
            return self._finish(
                draft, name, Kept(draft, digests[0].hexdigest(), size, digests[-1].hexdigest() if md5 else None)
            )

    def keep_written(self, write: Callable[[Path], None], name: str) -> Kept:
        """The raw copy of a file that `write` writes to the path it is given; else as keep."""
        with self._draft(name) as draft:
            write(draft)
            with draft.open("rb") as written:
                digest = hashlib.file_digest(written, "sha256")
            return self._finish(draft, name, Kept(draft, digest.hexdigest(), draft.stat().st_size))

    def _finish(self, draft: Path, name: str, found: Kept) -> Kept:
        if found.size_bytes == 0:
            raise SourceError(f"{name}: is empty; ask for the file again")
        sync(draft)
        kept = self.folder / found.sha256
        if not kept.exists() or kept.stat().st_size != found.size_bytes:
            draft.replace(kept)
            sync(self.folder)
        return Kept(kept, found.sha256, found.size_bytes, found.md5)

    @contextmanager
    def _draft(self, name: str) -> Iterator[Path]:
        """A file beside the raw copies that is gone in the end, unless it has become one."""
        handle, draft = -1, ""
        try:
            with self._locked():
                handle, draft = tempfile.mkstemp(prefix=".raw-", dir=self.folder)
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield Path(draft)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            full = True
        else:
            full = False
        finally:
            if draft:
                with suppress(FileNotFoundError):
                    os.unlink(draft)
                os.close(handle)
        if full:
            free = shutil.disk_usage(self.folder).free
            raise SourceError(f"{self.folder}: no room for {name}: {free:,} bytes are free; make room and pull again")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


@contextmanager
def _hashing(digests: list[hashlib._Hash]) -> Iterator[Callable[[bytes], None]]:
    """Hashes in a second thread what it is fed, so that hashing and writing take their time together."""
    blocks: queue.Queue[bytes | None] = queue.Queue(maxsize=8)

    def work() -> None:
        while (block := blocks.get()) is not None:
            for digest in digests:
                digest.update(block)

    worker = threading.Thread(target=work, name="hash", daemon=True)
    worker.start()
    try:
        yield blocks.put
    finally:
        blocks.put(None)
        worker.join()


def make_folder(folder: Path) -> None:
    for each in (*reversed(folder.parents), folder):
        each.mkdir(mode=0o700, exist_ok=True)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
