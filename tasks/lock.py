"""A workbook under a password. Imports next to nothing: processes start with this module to lock many at once."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from msoffcrypto.format.ooxml import OOXMLFile

WORTH_PROCESSES = 8
PROJECT = Path(__file__).resolve().parents[1]


def lock_workbook(content: bytes, password: str) -> bytes:
    """An xlsx workbook under a password (OOXML agile encryption, 100,000 rounds of SHA-512)."""
    locked = io.BytesIO()
    OOXMLFile(io.BytesIO(content)).encrypt(password, locked)
    return locked.getvalue()


def lock_workbooks(clear: Sequence[tuple[bytes, str]]) -> Iterator[bytes]:
    """Workbooks under their passwords, in order; a process for each core where there are many.

    The rounds of hashing hold the interpreter, so threads would take turns. Raises RuntimeError when a process fails.
    """
    count = min(os.cpu_count() or 1, 8)
    if len(clear) < WORTH_PROCESSES or count == 1:
        yield from (lock_workbook(content, password) for content, password in clear)
        return
    shares = [clear[first::count] for first in range(count)]
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "tasks.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT
        )
        for _ in shares
    ]
    locked = []
    try:
        for child, share in zip(children, shares, strict=True):
            assert child.stdin is not None, "it is a pipe"
            pickle.dump(list(share), child.stdin)
            child.stdin.close()
            child.stdin = None
        for child in children:
            output, _ = child.communicate()
            if child.returncode:
                raise RuntimeError(f"a process that locks workbooks ended with {child.returncode}")
            locked.append(pickle.loads(output))  # noqa: S301 (our own child's)
    finally:
        for child in children:
            child.kill()
            child.wait()
    for place in range(len(clear)):
        yield locked[place % count][place // count]


def main() -> None:
    """Lock the workbooks that standard input brings, as one process of lock_workbooks."""
    clear: list[tuple[bytes, str]] = pickle.load(sys.stdin.buffer)  # noqa: S301 (our own parent's)
    pickle.dump([lock_workbook(content, password) for content, password in clear], sys.stdout.buffer)


if __name__ == "__main__":
    main()
