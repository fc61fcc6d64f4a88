"""An inbox that is a folder of this machine; links are never followed below it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from tasks.source.base import Readable, Seen, SourceError


class Folder:
    """A local folder."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise SourceError(f"{path}: no such folder; --inbox names the folder the extracts were delivered to")
        self._path = path
        self._real: dict[str, str] = {}
        """What a file is called on disk, where that is not UTF-8."""
        self.shown = str(path)

    def list_files(self, reaches: Callable[[str], bool]) -> dict[str, Seen]:
        found: dict[str, Seen] = {}
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self._path / self._real.get(folder, folder)) as entries:
                    for entry in entries:
                        name = self._named(folder, entry.name)
                        if entry.is_dir(follow_symlinks=False):
                            if reaches(name) and not entry.name.startswith("."):
                                folders.append(name)
                        elif (seen := self.see(name)) is not None:
                            found[name] = seen
            except OSError as error:
                raise SourceError(f"{self._path / folder}: cannot be listed: {error.strerror}") from None
        return found

    def see(self, name: str) -> Seen | None:
        try:
            facts = os.lstat(self._path / self._real.get(name, name))
        except FileNotFoundError:
            return None
        return Seen(facts.st_size, facts.st_mtime_ns / 1e9, kind=_kind(facts.st_mode))

    def _named(self, folder: str, base: str) -> str:
        shown = base
        try:
            base.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(base).decode("gb18030", errors="replace")
        name = f"{folder}/{shown}" if folder else shown
        if folder in self._real or shown != base:
            self._real[name] = os.path.join(self._real.get(folder, folder), base)
        return name

    @contextmanager
    def open(self, name: str) -> Iterator[Readable]:
        handle = _open_beneath(self._path, self._real.get(name, name), name)
        with os.fdopen(handle, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise SourceError(f"{name}: is not a plain file")
            yield _Reading(file, name)

    def close(self) -> None:
        """Nothing is held."""


class _Reading:
    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name

    def read(self, size: int, /) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise SourceError(f"{self._name}: cannot be read: {error.strerror}") from None


def _open_beneath(folder: Path, real: str, name: str) -> int:
    """A file below a folder, opened part by part so that no link is followed, not even one laid a moment ago."""
    *folders, base = real.split("/")
    # O_NOFOLLOW: a link in the inbox could name any file the service may read. O_NONBLOCK: a pipe would never open.
    careful = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folders:
            below = os.open(part, careful | os.O_DIRECTORY, dir_fd=held)
            os.close(held)
            held = below
        return os.open(base, careful, dir_fd=held)
    except FileNotFoundError:
        raise SourceError(f"{name}: has vanished; the next run will look again") from None
    except OSError as error:
        if (folder / real).is_symlink():
            raise SourceError(f"{name}: is a symbolic link; deliver the file itself") from None
        raise SourceError(f"{name}: cannot be read: {error.strerror}") from None
    finally:
        os.close(held)


def _kind(mode: int) -> Literal["file", "link", "other"]:
    return "file" if stat.S_ISREG(mode) else "link" if stat.S_ISLNK(mode) else "other"
