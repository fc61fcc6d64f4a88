"""The children that open messages: started, asked, given up and replaced."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from types import MappingProxyType

from models import CallbackError
from models.returns import Opened, OpenedError
from tasks.settings import PROJECT, Settings, bare_environment

log = logging.getLogger(__name__)

OPEN_TIMEOUT_SECONDS = 90.0
REPORT_BYTES = 64 << 20
CHILDREN = min(os.cpu_count() or 1, 4)
AHEAD = 4 * CHILDREN
"""Messages opened or being opened before their turn: while one is slow, the other children work on."""
START_TIMEOUT_SECONDS = 60.0
READY = b'{"ready": true}'
PARTS = "parts"


class SandboxError(CallbackError):
    """The child process that opens messages cannot be started."""


def open_messages(
    paths: Iterable[Path],
    passwords: Mapping[str, Sequence[str]],
    settings: Settings,
    *,
    own: Mapping[Path, Sequence[str]] = MappingProxyType({}),
    timeout_seconds: float = OPEN_TIMEOUT_SECONDS,
) -> Iterator[Opened]:
    """Each message taken apart, in the order of `paths`; what kills or stalls the child costs that one message.

    Attached files lie below the spool, in parts/ under their hashes. `passwords` are by sender's address, case folded;
    those under '' are tried whoever wrote it, and those of `own` for one message.
    """
    out_dir = settings.spool / PARTS
    out_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    idle: SimpleQueue[_Child] = SimpleQueue()

    def take_apart(path: Path) -> tuple[bytes, str]:
        try:
            child = idle.get_nowait()
        except Empty:
            child = _Child(passwords, settings.clamd)
        request = {"path": str(path), "out_dir": str(out_dir), "passwords": list(own.get(path, ()))}
        line, error = child.ask(request, timeout_seconds)
        if error:
            log.warning("message %s: %s; the child was replaced", path.stem[:12], error)
            child.close()
        else:
            idle.put(child)
        return line, error

    # Opening a locked workbook is 100,000 rounds of hashing: a child for each core. What waits is a line each, and
    # becomes a message when its turn has come.
    pending: deque[tuple[Path, Future[tuple[bytes, str]]]] = deque()
    with ThreadPoolExecutor(CHILDREN) as pool:
        try:
            for path in paths:
                pending.append((path, pool.submit(take_apart, path)))
                if len(pending) > AHEAD:
                    yield _opened(*pending.popleft())
            while pending:
                yield _opened(*pending.popleft())
        finally:
            for _, future in pending:
                future.cancel()
            pool.shutdown()
            while not idle.empty():
                idle.get().close()


def _opened(path: Path, told: Future[tuple[bytes, str]]) -> Opened:
    line, error = told.result()
    if error:
        return Opened(sha256=path.stem, error=error)
    try:
        return Opened.from_report({"sha256": path.stem, **json.loads(line)})
    except (OpenedError, ValueError, TypeError):
        log.warning("message %s: the child's report has an unknown shape", path.stem[:12])
        return Opened(sha256=path.stem, error="unreadable")


def forget_parts(settings: Settings) -> None:
    """Remove what messages were taken apart into, once it is judged: the vault keeps it locked, the spool as it came."""
    for part in (settings.spool / PARTS).glob("*"):
        part.unlink(missing_ok=True)


class _Child:
    """One running sandbox."""

    def __init__(self, passwords: Mapping[str, Sequence[str]], clamd: str) -> None:
        # No environment but what Python needs: a stranger's file finds no secret there.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tasks.sandbox"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=PROJECT,
            env=bare_environment(),
            start_new_session=True,
        )
        self._buffer = b""
        try:
            known = {address.casefold(): list(words) for address, words in passwords.items()}
            self._write({"passwords": known, "clamd": clamd})
            line = self._read_line(START_TIMEOUT_SECONDS)
        except (BrokenPipeError, TimeoutError):
            line = None
        if line != READY:
            # Told apart from a deadly message: without a child every honest return would look unreadable.
            self.close()
            raise SandboxError(
                f"the sandbox does not start: try `{sys.executable} -m tasks.sandbox </dev/null` in {PROJECT}"
            )

    def ask(self, request: Mapping[str, object], timeout_seconds: float) -> tuple[bytes, str]:
        """The line of its report, or why there is none: unreadable (the child died) or timeout."""
        try:
            self._write(request)
            line = self._read_line(timeout_seconds)
        except BrokenPipeError:
            return b"", "unreadable"
        except TimeoutError:
            return b"", "timeout"
        return (b"", self._why_it_ended()) if line is None else (line, "")

    def _why_it_ended(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "too_large"  # it lives, so its report passed what we read
        return "timeout" if code == -signal.SIGXCPU else "unreadable"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    log.debug("sandbox %s had died before it was told", self._process.pid)

    def _write(self, line: Mapping[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")
        self._process.stdin.flush()

    def _read_line(self, timeout_seconds: float) -> bytes | None:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_seconds
        descriptor = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            parts = [self._buffer]
            size = 0
            while b"\n" not in parts[-1]:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise TimeoutError
                block = os.read(descriptor, 1 << 16)
                size += len(block)
                if not block or size > REPORT_BYTES:
                    return None
                parts.append(block)
        line, _, self._buffer = b"".join(parts).partition(b"\n")
        return line
