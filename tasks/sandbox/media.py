"""How long a recording is, and whether a recording or a scan is beyond doubt no evidence: cut off, silent, blank."""

from __future__ import annotations

import sys
import warnings
import wave
from pathlib import Path

PIXELS = 40_000_000
"""A scan of more is not looked at: A4 at 600 dpi has 35 million."""
PDF_TAIL_BYTES = 64 << 10
# Bytes of a frame of 20 ms by its mode, the byte that names the mode among them (RFC 4867 §5.3).
_AMR = (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1)
_AMR_WIDE = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1)
_SOUNDS = {
    "audio/mpeg": ("mutagen.mp3", "MP3"),
    "audio/mp4": ("mutagen.mp4", "MP4"),
    "video/mp4": ("mutagen.mp4", "MP4"),
    "audio/wav": ("mutagen.wave", "WAVE"),
    "audio/flac": ("mutagen.flac", "FLAC"),
    "audio/ogg": ("mutagen", "File"),
}


def measure(path: Path, media_type: str) -> tuple[float | None, str]:
    """Seconds of a recording, None where they cannot be told; and what is wrong: '' | unreadable | silent | blank."""
    try:
        if media_type == "audio/amr":
            return _amr_seconds(path.read_bytes()), ""
        if media_type in _SOUNDS:
            seconds = _seconds(path, media_type)
            return seconds, "silent" if media_type == "audio/wav" and _is_silent(path) else ""
        if media_type in ("image/jpeg", "image/png", "image/gif", "image/tiff"):
            return None, _fault_of_image(path)
        if media_type == "application/pdf":
            return None, _fault_of_pdf(path)
    except Exception as fault:  # noqa: BLE001 (parsers on hostile bytes: the file is named, the message goes on)
        print(f"not measured: {type(fault).__name__}", file=sys.stderr)  # noqa: T201 (for whoever runs the child by hand)
        return None, "unreadable"
    return None, ""


def _seconds(path: Path, media_type: str) -> float | None:
    from importlib import import_module  # most messages bring no recording

    module, kind = _SOUNDS[media_type]
    sound = getattr(import_module(module), kind)(path)
    return None if sound is None else float(sound.info.length)


def _amr_seconds(content: bytes) -> float:
    head, sizes = (9, _AMR_WIDE) if content.startswith(b"#!AMR-WB\n") else (6, _AMR)
    at, frames = head, 0
    while at < len(content):
        size = sizes[content[at] >> 3 & 15]
        frames += at + size <= len(content)
        at += size
    return frames / 50


def _is_silent(path: Path) -> bool:
    """Whether every sample is the same; a compressed wav is not looked into."""
    try:
        with wave.open(str(path), "rb") as sound:
            first = b""
            while piece := sound.readframes(1 << 18):
                first = first or piece[:1]
                if piece.count(first) != len(piece):
                    return False
            return bool(first)
    except wave.Error:
        return False


def _fault_of_image(path: Path) -> str:
    from PIL import Image

    with warnings.catch_warnings(), Image.open(path) as scan:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        if scan.width * scan.height > PIXELS:
            return ""
        scan.draft("L", (512, 512))
        darkest, brightest = scan.convert("L").getextrema()
    return "blank" if darkest == brightest else ""


def _fault_of_pdf(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - PDF_TAIL_BYTES))
        tail = file.read()
    return "" if b"%%EOF" in tail or b"startxref" in tail else "unreadable"
