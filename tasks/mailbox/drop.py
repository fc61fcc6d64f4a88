"""A drop folder: files that branches upload by SFTP or put on a shared drive, each in the folder of its branch.

The folder is the sender: whoever may write into it is believed to be the branch it belongs to.
"""

from __future__ import annotations

import base64
import logging
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import BinaryIO

from tasks.mailbox.base import DESTINATIONS, Decided, Destination, Letter, MailboxError
from tasks.settings import Settings

log = logging.getLogger(__name__)

PREFIX = "drop:"
"""How the source of a letter begins that lay in a drop folder; its folder is then the branch."""
_LINES_BYTES = 57 * 1024
# What upload programs and editors call a file that they have not finished.
_UNFINISHED = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".upload", ".uploading", ".swp")


class DropMailbox:
    """Uploaded files, given as letters whose folder is the branch they came from.

    A file is taken when nothing has changed it for a while, or when its marker lies beside it. Its letter is its bytes
    in a message of ours that tells branch and name, so that equal files of two branches stay two.
    """

    def __init__(self, settings: Settings) -> None:
        root = settings.drop
        if root is None or not root.is_dir():
            raise MailboxError(f"HUIFANG_DROP: {root}: no such folder; make it, with a folder for each branch")
        self._root, self.source = root, f"{PREFIX}{root.name}"
        self._is_by_name = settings.drop_by == "name"
        self._marker, self._quiet_seconds = settings.drop_marker, settings.drop_quiet_seconds

    def letters(self) -> Iterator[Letter]:
        now = time.time()
        found = []
        for branch_no, path in self._uploads():
            info = path.lstat()
            if stat.S_ISREG(info.st_mode) and self._is_complete(path, info, now):
                # Kept times may be old: what counts is when the last byte came here.
                found.append((info.st_ctime_ns, branch_no, f"{_stamp(info)}.{path.name}"))
        for _, branch_no, uid in sorted(found):
            yield Letter(self.source, branch_no, "", uid)

    def fetch(self, letter: Letter, to: BinaryIO) -> None:
        path, stamp = self._path(letter)
        try:
            # A link put here between listing and reading would have us read any file of this machine.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise MailboxError(
                f"{self.source}/{letter.folder}: {path.name}: {error.strerror}; the next run looks again"
            ) from None
        with os.fdopen(descriptor, "rb") as file:
            to.write(_envelope(letter.folder, path.name))
            while block := file.read(_LINES_BYTES):
                to.write(base64.encodebytes(block))
            if _stamp(os.fstat(descriptor)) != stamp:
                raise MailboxError(
                    f"{self.source}/{letter.folder}: {path.name} changed while it was read; the next run takes it"
                )

    def move(self, letter: Letter, folder: Destination) -> None:
        path, stamp = self._path(letter)
        try:
            if _stamp(path.lstat()) != stamp:
                log.warning("%s/%s: a file was replaced after it was read; it is another return", *_place(letter))
                return
            self._put(path, path.parent / folder)
        except FileNotFoundError:
            log.warning("%s/%s: a file was already moved", *_place(letter))
        except OSError as error:
            raise MailboxError(
                f"{self.source}/{letter.folder}: {path.name} to {folder}: {error.strerror}; let us write there"
            ) from None

    def clear_quarantine(self, decided: Sequence[Decided]) -> None:
        # Moving a file within its disk changes neither when it was written nor its size nor its number.
        wanted = {(found.letter.folder, found.letter.uid.partition(".")[0]): found for found in decided}
        for branch_no in {branch_no for branch_no, _ in wanted}:
            home = self._root if self._is_by_name else self._root / branch_no
            aside = home / "Quarantine"
            if aside.is_symlink() or not aside.is_dir():
                continue
            for path in [path for path in aside.iterdir() if not self._is_marker(path)]:
                info = path.lstat()
                found = wanted.get((branch_no, _stamp(info)))
                if found is None or not stat.S_ISREG(info.st_mode):
                    continue
                try:
                    self._put(path, home / found.folder)
                except OSError as error:
                    raise MailboxError(
                        f"{self.source}/{branch_no}: {path.name} to {found.folder}: {error.strerror}; let us write there"
                    ) from None

    def _put(self, path: Path, target: Path) -> None:
        with _folder(path.parent) as here, _folder(target, make=True) as there:
            taken, name, number = set(os.listdir(there)), path.name, 1
            while name in taken:
                number += 1
                name = f"{path.stem}.{number}{path.suffix}"
            os.rename(path.name, name, src_dir_fd=here, dst_dir_fd=there)
            with suppress(FileNotFoundError):
                if self._marker:
                    marked = (path.name + self._marker, name + self._marker)
                    os.rename(*marked, src_dir_fd=here, dst_dir_fd=there)

    def count_moved(self) -> int:
        roots = [self._root] if self._is_by_name else [path for path in self._root.iterdir() if path.is_dir()]
        moved = [path for root in roots for name in DESTINATIONS for path in (root / name).glob("*") if path.is_file()]
        return sum(not self._is_marker(path) for path in moved)

    def close(self) -> None:
        return None

    def _uploads(self) -> Iterator[tuple[str, Path]]:
        """Every file and the branch it came from."""
        if self._is_by_name:
            for path in self._files(self._root):
                branch_no, sign, _ = path.name.partition("_")
                if sign and branch_no:
                    yield branch_no, path
                else:
                    log.warning("%s: a file whose name does not begin with BRANCH_ was left where it lies", self.source)
            return
        for folder in sorted(self._root.iterdir()):
            if folder.is_symlink() or not folder.is_dir():
                if not folder.name.startswith("."):
                    log.warning("%s: a file beside the branches' folders was left where it lies", self.source)
            elif folder.name not in DESTINATIONS:
                for path in self._files(folder):
                    yield folder.name, path

    def _files(self, folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if path.name.startswith((".", "~$")) or path.is_dir() or self._is_marker(path):
                continue
            if path.is_symlink():
                log.warning("%s/%s: a link was left where it lies", self.source, folder.name)
            else:
                yield path

    def _is_marker(self, path: Path) -> bool:
        return bool(self._marker) and path.name.endswith(self._marker)

    def _is_complete(self, path: Path, info: os.stat_result, now: float) -> bool:
        if path.name.lower().endswith(_UNFINISHED):
            return False
        if self._marker:
            return path.with_name(path.name + self._marker).exists()
        return now - max(info.st_mtime, info.st_ctime) >= self._quiet_seconds

    def _path(self, letter: Letter) -> tuple[Path, str]:
        stamp, _, name = letter.uid.partition(".")
        return (self._root if self._is_by_name else self._root / letter.folder) / name, stamp


@contextmanager
def _folder(path: Path, *, make: bool = False) -> Iterator[int]:
    """A folder held open. A branch could put a link in its place, and have us write where only we may."""
    if make:
        path.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _stamp(info: os.stat_result) -> str:
    return f"{info.st_mtime_ns:x}-{info.st_size:x}-{info.st_ino:x}"


def _place(letter: Letter) -> tuple[str, str]:
    return letter.source, letter.folder


def _envelope(branch_no: str, name: str) -> bytes:
    """The head of the message a file is spooled in; it says where the file lay, and is no proof of it."""
    message = EmailMessage(policy=SMTP)
    message["X-Huifang-Drop"] = branch_no
    message["MIME-Version"] = "1.0"
    message["Content-Type"] = "application/octet-stream"
    message["Content-Transfer-Encoding"] = "base64"
    message.add_header("Content-Disposition", "attachment", filename=name.encode("utf-8", "replace").decode("utf-8"))
    return message.as_bytes()
