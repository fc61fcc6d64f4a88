"""Workbooks written and put under their passwords, on every core; children start with this module and stay for a run."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha512
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from msoffcrypto.format.ooxml import OOXMLFile
from msoffcrypto.method.ecma376_agile import ECMA376Agile

from models import CallbackError

if TYPE_CHECKING:
    import pandas as pd

    from models.sheets import SheetKind

WORTH_CHILDREN = 8
"""Sheets from which on children are started: each takes a second to import what writes a workbook."""
PROJECT = Path(__file__).resolve().parents[1]


class LockError(CallbackError):
    """A workbook could not be written or locked."""


@dataclass(frozen=True)
class Order:
    """One sheet to be written and locked: what models.sheets.write_sheet is given, and the password."""

    kind: SheetKind
    rows: pd.DataFrame
    password: str = field(repr=False)
    words: Mapping[str, Any]


def lock_workbook(content: bytes, password: str) -> bytes:
    """An xlsx workbook under a password (OOXML agile encryption, AES-256, 100,000 rounds of SHA-512)."""
    locked = io.BytesIO()
    OOXMLFile(io.BytesIO(content)).encrypt(password, locked)
    return locked.getvalue()


def write_locked(order: Order) -> bytes:
    """One ordered sheet, written and locked."""
    from models.sheets import write_sheet

    return lock_workbook(write_sheet(order.kind, order.rows, **order.words), order.password)


@contextmanager
def locksmiths(sheets: int) -> Iterator[Locksmiths]:
    """Whoever writes and locks so many sheets: children for every core, or this process alone where they are few."""
    count = min(os.cpu_count() or 1, 8)
    smiths = Locksmiths(count if sheets >= WORTH_CHILDREN and count > 1 else 0)
    try:
        yield smiths
    finally:
        smiths.close()


class Locksmiths:
    """Children that write and lock sheets side by side; see locksmiths."""

    def __init__(self, count: int) -> None:
        self._children = [
            subprocess.Popen(
                [sys.executable, "-m", "tasks.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT
            )
            for _ in range(count)
        ]
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for child in self._children:
            self._idle.put(child)
        self._threads = ThreadPoolExecutor(max(count, 1))

    def locked(self, orders: Iterable[Order]) -> Iterator[bytes]:
        """The ordered sheets under their passwords, in order; few are in memory at once. Raises LockError and SheetError."""
        if not self._children:
            yield from map(write_locked, orders)
            return
        waiting: deque[Future[bytes]] = deque()
        for order in orders:
            waiting.append(self._threads.submit(self._hand_on, order))
            if len(waiting) > 3 * len(self._children):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for child in self._children:
            child.kill()
            child.communicate()

    def _hand_on(self, order: Order) -> bytes:
        child = self._idle.get()
        assert child.stdin is not None, "it is a pipe"
        assert child.stdout is not None, "it is a pipe"
        try:
            pickle.dump(order, child.stdin)
            child.stdin.flush()
            made = pickle.load(child.stdout)  # noqa: S301 (our own child's)
        except (OSError, EOFError):
            raise LockError("a process that writes and locks sheets has ended; run the flow again") from None
        self._idle.put(child)
        if isinstance(made, Exception):
            raise made
        assert isinstance(made, bytes), "a child answers with a workbook or with what went wrong"
        return made


@cache
def _counters(rounds: int) -> tuple[bytes, ...]:
    return tuple(struct.pack("<I", number) for number in range(rounds))


def stretch_password(password: str, salt: bytes, algorithm: str, rounds: int) -> Any:
    """The hash that msoffcrypto derives a file's keys from: the library's own value, round for round, in less time.

    It packs each round's number anew and keeps a hash object where the digest is enough (docs/decisions/0018).
    """
    if algorithm != "SHA512" or not rounds:
        return LIBRARY_STRETCH(password, salt, algorithm, rounds)
    *numbers, last = _counters(rounds)
    value = sha512(salt + password.encode("UTF-16LE")).digest()
    for number in numbers:
        value = sha512(number + value).digest()
    return sha512(last + value)


LIBRARY_STRETCH = ECMA376Agile._derive_iterated_hash_from_password
ECMA376Agile._derive_iterated_hash_from_password = staticmethod(stretch_password)


def main() -> None:
    """Write and lock what standard input orders, one after the other, until it ends."""
    orders, made = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing a library prints may get between the workbooks
    while True:
        try:
            order: Order = pickle.load(orders)  # noqa: S301 (our own parent's)
        except (EOFError, pickle.UnpicklingError):  # the second where the parent was killed in the middle of an order
            return
        answer: bytes | Exception
        try:
            answer = write_locked(order)
        except CallbackError as error:
            answer = error
        except Exception as error:  # noqa: BLE001 (the parent is told of whatever it was, but no cell of it)
            answer = LockError(f"a sheet could not be written: {type(error).__name__}")
        pickle.dump(answer, made)
        made.flush()


if __name__ == "__main__":
    # Orders name the class by its module's own name, not by __main__.
    from tasks.lock import main as serve_orders

    serve_orders()
