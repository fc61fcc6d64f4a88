"""Evidence: which files a row needs besides its cells, what a file counts as, and how it is to be named.

Must stay out: which row a file belongs to (models/returns/evidence.py), what a file holds (tasks/sandbox/), where it lies.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import Literal

from models.outcomes import Label

EvidenceKind = Literal["recording", "signature", "contact", "interview", "register"]

KINDS: dict[EvidenceKind, Label] = {
    "recording": Label("电话录音", "the recording of the call"),
    "signature": Label("客户签字的扫描件", "a scan with the customer's signature"),
    "contact": Label("再次回访的录音，面访则为客户签字的扫描件", "the recording of the second call, or a visit's signature"),
    "interview": Label("访谈记录扫描件（三方签字）", "a scan of the interview record with three signatures"),
    "register": Label("营运总监签字的登记表扫描件", "a scan of the register signed by the operations director"),
}
"""What may be asked for; the keys never change their meaning. contact: one of the first two."""

NAMED: dict[EvidenceKind, Label] = {
    "recording": Label("录音.mp3", "recording.mp3"),
    "signature": Label("客户签字.pdf", "signature.pdf"),
    "contact": Label("录音.mp3", "recording.mp3"),
    "interview": Label("访谈记录.pdf", "interview.pdf"),
    "register": Label("登记表.pdf", "register.pdf"),
}
"""What stands behind the row code in a file's name."""

SCANS: tuple[EvidenceKind, ...] = ("interview", "register", "signature")
_WORDS: dict[str, EvidenceKind] = {
    "访谈": "interview",
    "谈话": "interview",
    "interview": "interview",
    "登记": "register",
    "register": "register",
    "签字": "signature",
    "签名": "signature",
    "sign": "signature",
}

FAULTS: dict[str, Label] = {
    "empty": Label("文件为空", "the file is empty"),
    "too_short": Label("录音不足 1 秒", "the recording has less than a second"),
    "silent": Label("录音全程无声", "the recording is silent from end to end"),
    "unreadable": Label("文件无法打开或不完整", "the file cannot be opened or is not whole"),
    "blank": Label("扫描件为空白页", "the scan shows a blank page"),
}
"""Why a file counts as missing though it came; only what is beyond doubt."""

SHORTEST_SECONDS = 1.0


def file_kind(media_type: str, name: str) -> str:
    """What a file can be evidence of: recording, one of SCANS by its name, scan where its name does not say, '' for neither.

    >>> file_kind("audio/amr", ""), file_kind("image/png", "访谈记录.png"), file_kind("application/pdf", "1.pdf")
    ('recording', 'interview', 'scan')
    """
    if media_type.startswith("audio/") or media_type == "video/mp4":
        return "recording"
    if not (media_type.startswith("image/") or media_type == "application/pdf"):
        return ""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return next((kind for word, kind in _WORDS.items() if word in plain), "scan")


def still_missing(asked: Sequence[EvidenceKind], held: Collection[str]) -> tuple[EvidenceKind, ...]:
    """What of the evidence asked for has not come. A scan whose name does not say what it shows counts where one is asked for.

    >>> still_missing(["recording", "interview"], {"scan"}), still_missing(["interview", "register"], {"scan"})
    (('recording',), ('interview', 'register'))
    """
    scans = [kind for kind in asked if kind in SCANS]

    def is_held(kind: EvidenceKind) -> bool:
        if kind == "contact":
            return not {"recording", "signature"}.isdisjoint(held)
        return kind in held or ("scan" in held and scans == [kind])

    return tuple(kind for kind in asked if not is_held(kind))


def file_fault(media_type: str, size_bytes: int, seconds: float | None, told: str) -> str:
    """Why a file is no evidence, see FAULTS; '' where nothing is beyond doubt. `told` is what the sandbox found."""
    if not size_bytes:
        return "empty"
    if told:
        return told
    is_sound = file_kind(media_type, "") == "recording"
    return "too_short" if is_sound and seconds is not None and seconds < SHORTEST_SECONDS else ""


def names_written(text: str) -> tuple[str, ...]:
    """The file names that a cell lists, as they are compared.

    >>> names_written("0001.mp3；签字 2.PDF")
    ('0001.mp3', '签字2.pdf')
    """
    return tuple(bare for part in re.split(r"[、,，;；\n]+", text) if (bare := bare_name(part)))


def bare_name(name: str) -> str:
    """A file name as it is compared: one width and case, no blanks."""
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", name)).casefold()
