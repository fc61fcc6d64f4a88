"""Long attachments, which are decoded from the message's file to a file and never stand in memory.

The parser of the standard library takes ten times what it reads. It is given a sign in place of each long run of
base64 lines; whoever asks for the content of a part gets what the sign stands for.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.feedparser import FeedParser
from email.message import Message
from email.policy import Compat32
from pathlib import Path
from typing import Any, BinaryIO

from tasks.sandbox.limits import MAX_COMPARED, MAX_LINES, PARAMETERS_SIGNS, TooLarge

LONG_BYTES = 1 << 20
"""A run of base64 lines from this length on is left in the file; shorter ones are cheaper read."""
_LINE_BYTES, _BLOCK_BYTES = 1 << 16, 1 << 18
_WHOLE_LINE = re.compile(rb"(?:[A-Za-z0-9+/]{4})+\r?\n")
_PREFIX_BYTES, _NUMBER_BYTES = 18, 6  # multiples of three: in base64 each is whole signs


class _Part(Message):
    """A message or a part, of which a parameter in pieces that contradict each other is none, where the library fails."""

    def get_param(self, param: str, failobj: Any = None, header: str = "content-type", unquote: bool = True) -> Any:
        try:
            return super().get_param(param, failobj, header, unquote)
        except (TypeError, ValueError):
            return failobj


class _Bounded(Compat32):
    """Headers as ever, but cut where parsing them would take long: the time for parameters grows with their square."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:PARAMETERS_SIGNS] if name.strip(" \t").lower() in _WITH_PARAMETERS else value


_WITH_PARAMETERS = ("content-type", "content-disposition")


@dataclass(frozen=True)
class LongContent:
    """What a long part holds; its first bytes tell its kind."""

    head: bytes
    pieces: tuple[bytes | tuple[int, int], ...]
    """Bytes, or from where to where the base64 of the next bytes stands in the message's file."""
    source: Path

    def write_to(self, file: BinaryIO) -> tuple[str, int]:
        """Write it to a file: its SHA-256 and its size."""
        digest, size = hashlib.sha256(), 0
        for block in self._blocks():
            digest.update(block)
            size += len(block)
            file.write(block)
        return digest.hexdigest(), size

    def _blocks(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                yield from _decoded(self.source, *piece)


class _Weighed(FeedParser):
    """The parser, given no more than it can read in time: it compares each line with every boundary that is open."""

    def __init__(self) -> None:
        super().__init__(_Part, policy=_Bounded())
        self._lines, self._edges = 0, 1

    def feed(self, data: str) -> None:
        self._lines += data.count("\n")
        self._edges += data.lower().count("boundary")
        if self._lines > MAX_LINES or self._lines * self._edges > MAX_COMPARED:
            raise TooLarge
        super().feed(data)


def parse_whole(content: bytes) -> Message:
    """A message that came as a file in another. Raises TooLarge."""
    parser = _Weighed()
    parser.feed(
        io.IncrementalNewlineDecoder(None, translate=True).decode(content.decode("ascii", "surrogateescape"), True)
    )
    return parser.close()


class LongParts:
    """One message file, and where in it the long runs lie."""

    def __init__(self, path: Path, long_bytes: int = LONG_BYTES) -> None:
        self._path, self._long_bytes = path, long_bytes
        # Nobody who writes a message knows it.
        self._prefix = os.urandom(_PREFIX_BYTES)
        self._runs: list[tuple[int, int]] = []
        prefix = base64.b64encode(self._prefix).decode()
        self._in_text = re.compile(re.escape(prefix) + rf"([A-Za-z0-9+/]{{{_NUMBER_BYTES * 4 // 3}}})\n?")
        self._in_bytes = re.compile(re.escape(self._prefix) + b"(.{%d})" % _NUMBER_BYTES, re.DOTALL)

    def parse(self) -> Message:
        """The message, with signs in place of its long runs. Raises TooLarge."""
        parser = _Weighed()
        # As the library's own parser of binary files reads them: every line end is \n.
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("ascii")("surrogateescape"), translate=True)
        with self._path.open("rb") as file:
            for chunk in self._chunks(file):
                parser.feed(decoder.decode(chunk))
        parser.feed(decoder.decode(b"", final=True))
        return parser.close()

    def content_of(self, part: Message) -> bytes | LongContent | None:
        """What a part holds, decoded; None for a part of parts."""
        text = part._payload  # type: ignore[attr-defined]  # get_payload would replace 8-bit signs
        content = part.get_payload(decode=True)
        if not isinstance(text, str) or not (signs := self._in_text.findall(text)):
            return content if isinstance(content, bytes) else None
        if isinstance(content, bytes) and len(self._in_bytes.findall(content)) == len(signs):
            pieces: list[bytes | tuple[int, int]] = []
            for place, piece in enumerate(self._in_bytes.split(content)):
                pieces.append(self._runs[int.from_bytes(piece, "big")] if place % 2 else piece)
            start = next(piece for piece in pieces if piece)
            head = start if isinstance(start, bytes) else next(_decoded(self._path, *start))
            return LongContent(head, tuple(pieces), self._path)
        # No base64 after all, or base64 that is shifted: such a part is read as ever.
        part.set_payload(self.restore(text))
        content = part.get_payload(decode=True)
        return content if isinstance(content, bytes) else None

    def restore(self, text: str) -> str:
        """A text of the message with what its signs stand for."""

        def run(sign: re.Match[str]) -> str:
            start, end = self._runs[int.from_bytes(base64.b64decode(sign[1]), "big")]
            with self._path.open("rb") as file:
                file.seek(start)
                return file.read(end - start).decode("ascii").replace("\r\n", "\n")

        return self._in_text.sub(run, text)

    def _chunks(self, file: io.BufferedReader) -> Iterator[bytes]:
        """The bytes of the file in pieces, a sign in place of each long run."""
        if os.fstat(file.fileno()).st_size < self._long_bytes:
            yield file.read()
            return
        held: list[bytes] = []
        held_bytes, place, start = 0, 0, -1
        while line := file.readline(_LINE_BYTES):
            is_run = _WHOLE_LINE.fullmatch(line) is not None
            if is_run and start < 0 and held:
                yield b"".join(held)
                held, held_bytes = [], 0
            if is_run and start < 0:
                start = place
            elif not is_run and start >= 0:
                yield self._sign(start, place) if place - start >= self._long_bytes else b"".join(held)
                held, held_bytes, start = [], 0, -1
            place += len(line)
            if start < 0 or place - start < self._long_bytes:
                held.append(line)
                held_bytes += len(line)
            else:
                held.clear()
            if start < 0 and held_bytes >= _BLOCK_BYTES:
                yield b"".join(held)
                held, held_bytes = [], 0
        yield self._sign(start, place) if start >= 0 and place - start >= self._long_bytes else b"".join(held)

    def _sign(self, start: int, end: int) -> bytes:
        self._runs.append((start, end))
        number = (len(self._runs) - 1).to_bytes(_NUMBER_BYTES, "big")
        return base64.b64encode(self._prefix + number) + b"\n"


def _decoded(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes that whole lines of base64 stand for."""
    with path.open("rb") as file:
        file.seek(start)
        left, over = end - start, b""
        while left:
            block = file.read(min(left, _BLOCK_BYTES))
            if not block:
                return
            left -= len(block)
            signs = over + block.translate(None, b"\r\n")
            whole = len(signs) - len(signs) % 4
            over = signs[whole:]
            yield base64.b64decode(signs[:whole])
