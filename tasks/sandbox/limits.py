"""How much of everything a message may cost, and what stops at a limit."""

MEMORY_BYTES = 2 << 30
CPU_SECONDS = 60
MESSAGE_BYTES = 200 << 20
UNPACKED_BYTES = 300 << 20
"""What the archives of one message may come to, all together."""
ZIP_BYTES, ZIP_RATIO, ZIP_MEMBERS, ZIP_MEMBER_BYTES = 100 << 20, 50, 2000, 60 << 20
SLOW_BYTES = 20 << 20
MAX_ROWS, MAX_COLUMNS, MAX_CELLS = 20_000, 300, 500_000
MAX_DEPTH, MAX_LEVEL, MAX_PARTS, MAX_WORKBOOKS = 5, 2, 500, 20
"""Messages in messages, archives in archives, files, workbooks."""
HEADER_SIGNS = 4096
"""Longer headers are cut, and a longer From is not believed: the parser's time grows with their square."""


class TooLarge(Exception):
    """A container beyond the limits; costs its workbook, never the message."""


class TooMany(Exception):
    """More parts, or parts deeper within each other, than a return has: what follows is not looked at."""


class WrongPassword(Exception):
    """No password of this sender opens it."""


class LockedOds(Exception):
    """An OpenDocument spreadsheet locked in a way that we do not undo: Blowfish, PGP."""


class Unkept(Exception):
    """The disk takes no file; no fault of the message, which waits."""
