"""An inbox elsewhere: SFTP, S3-like stores and whatever else fsspec reaches, by URL.

The secrets are handed over here, and never shown.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec
from pydantic import SecretStr

from models import CallbackError
from tasks.settings import Settings, read_secret
from tasks.source.base import Readable, Seen, SourceError, Transient

BLOCK = 8 << 20
"""Bytes of one request to a store; each costs an answer's time."""
PIECE = 1 << 20
"""Bytes taken at once from an SFTP file, which joins small pieces at a cost that grows with their sum."""
TIMEOUT_SECONDS = 60
WINDOW = 64 << 20
"""Bytes asked for ahead of reading; asking for a whole file ahead would keep a list of all its parts in memory."""

_NO_IDENTITY = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound")


class Remote:
    """A folder behind a URL."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url, self._settings = url, settings
        parts = urlsplit(url)
        self._scheme = parts.scheme.lower()
        self.shown = parts._replace(query="", fragment="").geturl()
        self._fs: Any = None
        self._root = ""
        self._path = unquote(parts.path)
        self._parts = parts

    def _store(self) -> Any:
        """The store, connected when it is first needed and again after close."""
        if self._fs is None:
            secret = read_secret(self._settings.inbox_password_file, "HUIFANG_INBOX_PASSWORD_FILE")
            if self._scheme in ("sftp", "ssh"):
                self._fs, root = self._sftp(), self._path
            elif self._scheme in ("s3", "s3a"):
                self._fs, root = self._s3(secret), (self._parts.hostname or "") + self._path
            else:
                more = {"password": secret.get_secret_value()} if secret else {}
                self._fs, root = fsspec.url_to_fs(self._url, skip_instance_cache=True, **more)
            self._root = root.rstrip("/")
        self._fs.invalidate_cache()
        return self._fs

    def _sftp(self) -> Any:
        from tasks.source.sftp import connect

        return connect(self._parts, self._settings, timeout_seconds=TIMEOUT_SECONDS)

    def _s3(self, secret: SecretStr | None) -> Any:
        if (secret is None) != (self._parts.username is None):
            raise SourceError(
                f"{self.shown}: give both the access key in the URL, s3://KEY@BUCKET/PREFIX, and its secret in "
                "HUIFANG_INBOX_PASSWORD_FILE, or neither where the machine has an identity of its own"
            )
        try:
            s3fs = importlib.import_module("s3fs")
        except ImportError:
            raise SourceError(f"{self.shown}: needs s3fs; pip install 'huifang[s3]'") from None
        return s3fs.S3FileSystem(
            key=self._parts.username,
            secret=secret.get_secret_value() if secret else None,
            endpoint_url=self._settings.inbox_endpoint_url or None,
            config_kwargs={"connect_timeout": 30, "read_timeout": TIMEOUT_SECONDS},
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def list_files(self, reaches: Callable[[str], bool]) -> dict[str, Seen]:
        found: dict[str, Seen] = {}
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with self._telling("cannot be listed"):
                    store = self._store()
                    where = f"{self._root}/{folder}".rstrip("/") or "/"
                    entries = store.ls(where, detail=True)
            except FileNotFoundError:
                if folder:
                    continue
                raise SourceError(f"{self.shown}: no such folder; HUIFANG_INBOX says where extracts lie") from None
            for entry in entries:
                base = entry["name"].rstrip("/").rpartition("/")[2]
                name = f"{folder}/{base}" if folder else base
                if base in ("", ".", "..") or entry["name"].strip("/") == where.strip("/"):
                    continue
                if entry["type"] == "directory":
                    if reaches(name) and not base.startswith("."):
                        folders.append(name)
                else:
                    found[name] = _seen(entry)
        return found

    def see(self, name: str) -> Seen | None:
        try:
            with self._telling(f"{name} cannot be looked at"):
                store = self._store()
                return _seen(store.info(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None

    @contextmanager
    def open(self, name: str) -> Iterator[Readable]:
        try:
            with self._telling(f"{name} cannot be opened"):
                store = self._store()
                file = store.open(f"{self._root}/{name}", "rb", block_size=BLOCK, cache_type="none")
        except FileNotFoundError:
            raise SourceError(f"{name}: has vanished; the next run will look again") from None
        try:
            yield _Reading(file, self, name)
        finally:
            with suppress(Exception):
                file.close()

    def close(self) -> None:
        client = getattr(self._fs, "client", None)
        if client is not None:
            with suppress(Exception):
                client.close()
        self._fs = None

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Errors of the store as they are told: Transient where the network failed, else SourceError."""
        try:
            yield
        except (FileNotFoundError, CallbackError, Transient):
            raise
        except ImportError as error:
            raise SourceError(f"{self.shown}: {self._scheme}:// needs the package {error.name}; install it") from None
        except UnicodeDecodeError:
            raise SourceError(f"{self.shown}: a file's name is not UTF-8; have it named in plain letters") from None
        except Exception as error:  # noqa: BLE001 (each store has errors of its own)
            said = f"{self.shown}: {what}: {_words(error)}"
            if isinstance(error, PermissionError) or type(error).__name__ in _NO_IDENTITY:
                raise SourceError(f"{said}; may this account read there?") from None
            if type(error).__name__ == "FileExpired":
                raise SourceError(f"{self.shown}: {what}: it has changed; the next run will take it") from None
            if isinstance(error, OSError | EOFError) or _is_of_the_network(error):
                raise Transient(said) from None
            raise SourceError(said) from None


class _Reading:
    """A remote file whose failures are told as ours."""

    def __init__(self, file: Any, inbox: Remote, name: str) -> None:
        self._file, self._inbox, self._name = file, inbox, name
        self._at = self._asked_to = 0

    def read(self, _: int, /) -> bytes:
        try:
            with self._inbox._telling(f"{self._name} cannot be read"):
                block: bytes = self._file.read(self._room())
        except FileNotFoundError:
            raise SourceError(f"{self._name}: has vanished while it was read; the next run will look again") from None
        self._at += len(block)
        return block

    def _room(self) -> int:
        """Bytes to read next; over SFTP they are asked for ahead, else each 32 kB would wait for an answer."""
        if not hasattr(self._file, "prefetch"):
            return BLOCK
        if self._at >= self._asked_to:
            self._asked_to = min(self._at + WINDOW, self._file.stat().st_size)
            if self._asked_to <= self._at:
                return 0
            self._file.prefetch(self._asked_to)  # with a limit of its own paramiko waits in a loop that sleeps
        return min(PIECE, self._asked_to - self._at)


def _seen(info: dict[str, Any]) -> Seen:
    times = (info.get(key) for key in ("mtime", "LastModified", "last_modified", "modified", "updated", "created"))
    modified = next((time for time in times if time), None)
    if isinstance(modified, datetime):
        modified = modified.timestamp()
    return Seen(
        info.get("size") or 0,
        float(modified) if isinstance(modified, int | float) else None,
        str(info.get("ETag") or info.get("etag") or ""),
        kind=info["type"] if info["type"] in ("file", "link") else "other",
    )


def _words(error: Exception) -> str:
    """The error's own words on one line, or its class where it has none."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200] or type(error).__name__


def _is_of_the_network(error: Exception) -> bool:
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return bool(modules & {"paramiko", "aiohttp", "botocore", "aiobotocore"})
