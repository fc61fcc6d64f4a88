"""How much of everything a message may cost."""

from __future__ import annotations

MEMORY_BYTES = 2 << 30
CPU_SECONDS = 60
MESSAGE_BYTES = 200 << 20
ZIP_BYTES, ZIP_RATIO, ZIP_MEMBERS, ZIP_MEMBER_BYTES = 100 << 20, 50, 2000, 60 << 20
MAX_ROWS, MAX_COLUMNS, MAX_CELLS = 20_000, 300, 500_000
MAX_DEPTH, MAX_PARTS, MAX_WORKBOOKS = 5, 500, 20


class TooLarge(Exception):
    """A container beyond the limits; costs its workbook, never the message."""
