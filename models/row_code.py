"""The visible code that identifies a row wherever it stands: number and keyed check, made and found again.

Knows no workbook; keys come in as arguments.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from models import CallbackError

ItemKind = Literal["assignment", "case", "opinion"]


class RowKeyError(CallbackError):
    """A row-code key that is too short to protect anything."""


@dataclass(frozen=True)
class RowKey:
    """A secret that row codes are checked with; older versions stay valid for sheets that are out."""

    version: int
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) < 16:
            raise RowKeyError(f"row-code key version {self.version} has {len(self.secret)} bytes; it needs at least 16")


_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LETTERS: dict[ItemKind, str] = {"assignment": "H", "case": "Z", "opinion": "Y"}
_KINDS: dict[str, ItemKind] = {letter: kind for kind, letter in _LETTERS.items()}
# U+4E00 and U+30FC are what OCR and Chinese or Japanese input methods make of a hyphen.
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−﹘﹣－ー一─_~·"), "-")
_CONFUSED = str.maketrans("OIL", "011")
_SHAPE = re.compile(
    r"(?<![0-9A-Z])([HYZ])\s*([0-9OIL]{5,12})\s*-*\s*([0-9A-TV-Z]{5})\s*-*\s*([0-9A-TV-Z]{5})(?![0-9A-Z])"
)


def _check(kind: ItemKind, number: int, key: RowKey) -> str:
    digest = hmac.new(key.secret, f"{kind}|{number}|{key.version}".encode(), hashlib.sha256).digest()
    bits = int.from_bytes(digest[:7], "big") >> 6  # 50 bits: ten letters
    return "".join(_ALPHABET[bits >> shift & 31] for shift in range(45, -1, -5))


def row_code(kind: ItemKind, number: int, key: RowKey) -> str:
    """The visible code of one assignment, case or opinion.

    >>> row_code("assignment", 17, RowKey(1, b"an example secret"))
    'H00017-8QZRN-C83SX'
    """
    check = _check(kind, number, key)
    return f"{_LETTERS[kind]}{number:05d}-{check[:5]}-{check[5:]}"


def _shapes(text: str) -> Iterator[re.Match[str]]:
    return _SHAPE.finditer(unicodedata.normalize("NFKC", text).upper().translate(_DASHES))


def find_code(text: str, keys: Sequence[RowKey]) -> tuple[ItemKind, int] | None:
    """The first genuine row code in a text, however it was typed; None when there is none or its check fails.

    >>> find_code("见 ｈOO0I7－8qzrn–C83SX（已回访）", [RowKey(1, b"an example secret")])
    ('assignment', 17)
    """
    for shape in _shapes(text):
        letter, number, *halves = shape.groups()
        kind, value = _KINDS[letter], int(number.translate(_CONFUSED))
        check = "".join(halves).translate(_CONFUSED)
        if any(hmac.compare_digest(check, _check(kind, value, key)) for key in keys):
            return kind, value
    return None


def find_code_shape(text: str) -> ItemKind | None:
    """What a text that looks like a row code claims to be, genuine or not."""
    shape = next(_shapes(text), None)
    return _KINDS[shape[1]] if shape else None
