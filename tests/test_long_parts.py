"""A recording of 50 MB is taken apart, locked and booked in the memory of a small mail, and is the same afterwards."""

from __future__ import annotations

import base64
import email
import email.policy
import random
from email.message import Message
from pathlib import Path

import pytest
from corpus import mails, spoilt_mails
from letters import letter

from tasks.sandbox.long_parts import LongContent, LongParts


def parts_read(parts: LongParts, message: Message, target: Path) -> list[bytes | None]:
    """What each leaf holds, the long ones by way of a file."""
    found: list[bytes | None] = []
    for part in message.walk():
        if not part.is_multipart():
            content = parts.content_of(part)
            if isinstance(content, LongContent):
                with target.open("wb") as file:
                    _, size = content.write_to(file)
                assert target.stat().st_size == size
                assert target.read_bytes().startswith(content.head)
                content = target.read_bytes()
            found.append(content)
    return found


def parts_parsed(path: Path) -> list[bytes | None]:
    """The same by the library's own parser."""
    with path.open("rb") as file:
        message = email.message_from_binary_file(file, policy=email.policy.compat32)
    leaves = [part.get_payload(decode=True) for part in message.walk() if not part.is_multipart()]
    return [leaf if isinstance(leaf, bytes) else None for leaf in leaves]


def same(path: Path, raw: bytes, long_bytes: int) -> None:
    path.write_bytes(raw)
    parts = LongParts(path, long_bytes)
    assert parts_read(parts, parts.parse(), path.with_suffix(".part")) == parts_parsed(path)


@pytest.mark.parametrize("long_bytes", [1, 150, 3000])
def test_every_mail_is_read_as_the_library_reads_it(tmp_path: Path, long_bytes: int) -> None:
    for raw in (*mails().values(), *spoilt_mails(100, seed=5)):
        same(tmp_path / "a.eml", raw, long_bytes)
        same(tmp_path / "a.eml", raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), long_bytes)


ENCODED = base64.encodebytes(random.Random(1).randbytes(4001))
ODD = {
    "shifted": b"ab\n" + ENCODED,
    "broken off": ENCODED[:-10],
    "cut by an empty line": ENCODED[:1540] + b"\n" + ENCODED[1540:],
    "cut by another sign": ENCODED[:1540] + b"-\n" + ENCODED[1540:],
    "on one line": base64.b64encode(bytes(200_000)) + b"\n" + ENCODED,
    "two": ENCODED + ENCODED,
}


@pytest.mark.parametrize("encoding", ["base64", "7bit", "quoted-printable", "x-uuencode", "none"])
@pytest.mark.parametrize("body", list(ODD.values()), ids=list(ODD))
def test_what_only_looks_like_base64_is_read_as_the_library_reads_it(
    tmp_path: Path, encoding: str, body: bytes
) -> None:
    head = f'Content-Type: audio/mpeg; name="a.mp3"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'.encode()
    same(tmp_path / "a.eml", head + body, 300)
    same(
        tmp_path / "a.eml",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n" + head + body + b"\r\n--x--",
        300,
    )
    same(tmp_path / "a.eml", ENCODED + head + body, 300)


def test_a_long_part_is_named_by_its_hash_and_its_place_cannot_be_forged(tmp_path: Path) -> None:
    path = tmp_path / "a.eml"
    raw = bytes(letter(("a.mp3", bytes(5000))))
    path.write_bytes(raw)
    first, second = LongParts(path, 300), LongParts(path, 300)
    signs = {parts.parse().get_payload()[1].get_payload() for parts in (first, second)}
    assert len(signs) == 2
    assert all(len(sign) < 200 for sign in signs)
