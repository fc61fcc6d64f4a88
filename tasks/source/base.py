"""What every kind of inbox shares: its error, what is seen of a file without reading it, when a call is tried again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from models import CallbackError

log = logging.getLogger(__name__)

DELAYS = (1.0, 4.0, 15.0)
"""Seconds before the second, third and fourth try of a call that crosses the network."""

Answer = TypeVar("Answer")


class SourceError(CallbackError):
    """A delivered file is missing, empty, unreadable or not what it should be."""


class Transient(Exception):
    """The network failed; the same call may succeed a moment later. The message holds no secret."""


@dataclass(frozen=True)
class Seen:
    """A file as a listing shows it; two that are equal are taken for the same bytes."""

    size_bytes: int
    modified_at: float | None = None
    """Seconds since 1970, by the clock of whoever keeps the file."""
    version: str = ""
    """The ETag, where a store has one."""
    kind: Literal["file", "link", "other"] = "file"


class Readable(Protocol):
    """Bytes in blocks of about the size asked for; an empty one is the end."""

    def read(self, size: int, /) -> bytes: ...


class Inbox(Protocol):
    """A folder, here or elsewhere; names are relative to it, parts joined by /."""

    shown: str
    """Its address without anything secret."""

    def list_files(self, reaches: Callable[[str], bool]) -> dict[str, Seen]:
        """The files of the folder and of those below it for which `reaches` holds; hidden folders are left alone."""

    def see(self, name: str) -> Seen | None:
        """One file as it is now; None when it is gone."""

    def open(self, name: str) -> AbstractContextManager[Readable]:
        """The bytes of a file. Raises SourceError when it cannot be read."""

    def close(self) -> None:
        """Let go of the connection; the next call makes a new one."""


def persist(
    call: Callable[[], Answer],
    what: str,
    *,
    close: Callable[[], None],
    delays: tuple[float, ...] = DELAYS,
) -> Answer:
    """The answer of a call that crosses the network, tried again after each delay while the network fails.

    `close` is called before each new try: what was open is not to be trusted.
    """
    for delay in (*delays, None):
        try:
            return call()
        except Transient as failure:
            if delay is None:
                raise SourceError(
                    f"{what}: {failure}; tried {len(delays) + 1} times, the next run will try again"
                ) from None
            log.warning("%s: %s; again in %s s", what, failure, delay)
            close()
            time.sleep(delay)
    raise AssertionError("the last delay is None")
