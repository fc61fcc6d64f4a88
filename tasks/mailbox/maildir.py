"""Letters in a Maildir."""

from __future__ import annotations

import logging
import mailbox as stdlib_mailbox
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tasks.mailbox.base import BLOCK_BYTES, DESTINATIONS, Decided, Destination, Letter, MailboxError

log = logging.getLogger(__name__)


class MaildirMailbox:
    """A Maildir whose root is the inbox; moved letters lie in .Processed, .Rejected and .Quarantine."""

    def __init__(self, root: Path) -> None:
        self.source = f"maildir:{root.name}"
        try:
            self._box = stdlib_mailbox.Maildir(root, factory=None, create=True)
        except OSError as error:
            raise MailboxError(
                f"maildir:{root}: {error.strerror}; give a Maildir or a folder that can be made"
            ) from None
        self._root = root

    def letters(self) -> Iterator[Letter]:
        # In the order of arrival: which version of a row is the last must not hang on a file's name.
        arrived = []
        for key in list(self._box.iterkeys()):
            with suppress(KeyError, FileNotFoundError):
                found = (self._root / str(self._box._lookup(key))).lstat()  # type: ignore[attr-defined]
                if stat.S_ISREG(found.st_mode):
                    arrived.append((found.st_mtime_ns, key))
                else:
                    log.warning("%s: %s is no plain file and was left where it lies", self.source, key)
        for _, key in sorted(arrived):
            yield Letter(self.source, "INBOX", "", key)

    def fetch(self, letter: Letter, to: BinaryIO) -> None:
        try:
            with self._path(letter).open("rb") as message:
                while block := message.read(BLOCK_BYTES):
                    to.write(block)
        except (KeyError, FileNotFoundError):
            raise MailboxError(f"{self.source}: message {letter.uid} is gone; somebody else took it") from None
        except PermissionError:
            raise MailboxError(f"{self.source}: message {letter.uid} may not be read; correct its owner") from None

    def move(self, letter: Letter, folder: Destination) -> None:
        try:
            self._put(self._path(letter), folder)
        except (KeyError, FileNotFoundError):
            log.warning("%s: message %s was already moved", self.source, letter.uid)

    def _put(self, path: Path, folder: Destination) -> None:
        self._box.add_folder(folder)
        path.rename(self._root / f".{folder}" / "cur" / (path.name if ":" in path.name else f"{path.name}:2,S"))

    def clear_quarantine(self, decided: Sequence[Decided]) -> None:
        # A letter keeps its name when it is moved; behind the colon stand flags, which mail programs change.
        aside = self._root / ".Quarantine"
        lying = {path.name.partition(":")[0]: path for part in ("cur", "new") for path in (aside / part).glob("*")}
        for found in decided:
            if (path := lying.pop(found.letter.uid, None)) is not None:
                self._put(path, found.folder)

    def count_moved(self) -> int:
        folders = [self._root / f".{folder}" / part for folder in DESTINATIONS for part in ("cur", "new")]
        return sum(len(list(folder.iterdir())) for folder in folders if folder.is_dir())

    def close(self) -> None:
        self._box.close()

    def _path(self, letter: Letter) -> Path:
        # The stdlib class writes whole messages in memory; the file itself is read and renamed here.
        self._box.keys()
        return self._root / str(self._box._lookup(letter.uid))  # type: ignore[attr-defined]
