"""Limits for parsers of which a stranger's file decides how long they take: of CPU time, or a process of their own."""

from __future__ import annotations

import os
import pickle
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tasks.sandbox.limits import READ_SECONDS, TooLarge


class _OutOfTime(BaseException):
    """No Exception: parsers catch those and go on."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TooLarge where the block takes more CPU time; it must be written in Python and run in the main thread."""

    def stop(*_: object) -> None:
        raise _OutOfTime

    signal.signal(signal.SIGVTALRM, stop)
    try:
        # Again after a while: one raised where Python ignores it, in the end of an object, stops nothing.
        signal.setitimer(signal.ITIMER_VIRTUAL, max(seconds, 0.001), 0.2)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except _OutOfTime:
        raise TooLarge from None


def apart(read: Callable[..., Any], *given: object) -> Any:
    """What `read` returns, read by a process of its own: what kills it, or keeps it busy, costs only what it reads."""
    ours, theirs = os.pipe()
    reader = os.fork()
    if not reader:
        try:
            os.close(ours)
            resource.setrlimit(resource.RLIMIT_CPU, (READ_SECONDS, READ_SECONDS + 1))
            try:
                said = (True, read(*given))
            except Exception as fault:  # noqa: BLE001 (raised again where it was asked)
                said = (False, type(fault).__name__)
            with os.fdopen(theirs, "wb") as pipe:
                pickle.dump(said, pipe)
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        told = pipe.read()
    os.waitpid(reader, 0)
    try:
        is_read, found = pickle.loads(told)  # noqa: S301 (our own process wrote it)
    except (EOFError, pickle.UnpicklingError):
        raise TooLarge from None
    if is_read:
        return found
    raise TooLarge if found in ("TooLarge", "MemoryError", "RecursionError") else ValueError(found)
