"""Letters as .eml files in one folder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tasks.mailbox.base import BLOCK_BYTES, DESTINATIONS, Decided, Destination, Letter, MailboxError

log = logging.getLogger(__name__)


class FolderMailbox:
    """A drop folder of .eml files; moved letters lie in the subfolders Processed, Rejected and Quarantine."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise MailboxError(f"file:{root}: no such folder; make it or correct HUIFANG_RETURNS_URL")
        self._root, self.source = root, f"file:{root.name}"

    def letters(self) -> Iterator[Letter]:
        for path in sorted(self._root.iterdir(), key=lambda path: (path.lstat().st_mtime_ns, path.name)):
            if path.is_symlink():
                log.warning("%s: a link was left where it lies", self.source)
            elif path.suffix.lower() == ".eml" and path.is_file():
                yield Letter(self.source, "", "", f"{path.lstat().st_mtime_ns:x}.{path.name}")
            elif path.is_file() and not path.name.startswith("."):
                log.warning("%s: a file that is no .eml was left where it lies", self.source)

    def fetch(self, letter: Letter, to: BinaryIO) -> None:
        try:
            with self._path(letter).open("rb") as message:
                while block := message.read(BLOCK_BYTES):
                    to.write(block)
        except FileNotFoundError:
            raise MailboxError(f"{self.source}: {self._path(letter).name} is gone; somebody else took it") from None

    def move(self, letter: Letter, folder: Destination) -> None:
        try:
            self._put(self._path(letter), folder)
        except FileNotFoundError:
            log.warning("%s: a message was already moved", self.source)

    def _put(self, path: Path, folder: Destination) -> None:
        target = self._root / folder / path.name
        target.parent.mkdir(exist_ok=True)
        number = 1
        while target.exists():
            number += 1
            target = self._root / folder / f"{path.stem}.{number}.eml"
        path.rename(target)

    def clear_quarantine(self, decided: Sequence[Decided]) -> None:
        # Among letters of the same name one may have been given another: what it holds tells which it is.
        sizes = {found.size_bytes for found in decided}
        wanted = {found.sha256: found.folder for found in decided}
        for path in sorted((self._root / "Quarantine").glob("*.eml")):
            if path.is_symlink() or path.stat().st_size not in sizes:
                continue
            with path.open("rb") as message:
                sha256 = hashlib.file_digest(message, "sha256").hexdigest()
            if sha256 in wanted:
                self._put(path, wanted[sha256])

    def count_moved(self) -> int:
        return sum(path.is_file() for folder in DESTINATIONS for path in (self._root / folder).glob("*"))

    def close(self) -> None:
        return None

    def _path(self, letter: Letter) -> Path:
        # A name comes again with another month's return: the time before it keeps the two apart.
        return self._root / letter.uid.partition(".")[2]
