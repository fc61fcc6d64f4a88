"""How much of everything a message may cost, and what stops at a limit."""

MEMORY_BYTES = 2 << 30
CPU_SECONDS = 60
READ_SECONDS, LIST_SECONDS, MEASURE_SECONDS = 10, 2, 3
"""Of CPU: for a workbook of the old kind, for the list of an archive, for all recordings and scans of a message."""
MESSAGE_BYTES = 200 << 20
UNPACKED_BYTES = 300 << 20
"""What the archives of one message may come to, all together."""
MAX_SPINS, MAX_CYCLES = 200_000, 20
"""Rounds of hashing a workbook may ask for each password that is tried (Office: 100,000), and the binary power of those
of a 7z (7-Zip: 19)."""
ZIP_BYTES, ZIP_RATIO, ZIP_MEMBERS, ZIP_MEMBER_BYTES = 100 << 20, 50, 2000, 60 << 20
SLOW_BYTES = 20 << 20
MAX_ROWS, MAX_COLUMNS, MAX_CELLS = 20_000, 300, 500_000
"""Of a worksheet; and cells of a workbook."""
MESSAGE_CELLS = 2 * MAX_CELLS
"""Cells of all workbooks of a message."""
MAX_SHEETS = 500
MAX_BLANKS = 40_000
"""Blanks that one element of an OpenDocument cell may stand for: no cell of a workbook holds more signs."""
MAX_DEPTH, MAX_LEVEL, MAX_PARTS, MAX_WORKBOOKS = 5, 2, 500, 20
"""Messages in messages, archives in archives, files, workbooks."""
MAX_LINES, MAX_COMPARED = 1_000_000, 30_000_000
"""Lines that the parser of messages reads, and those times the boundaries that each may be compared with."""
MAX_SEEN_PARTS = 2_000
"""Parts of any kind, also those of text that no file is made of."""
HEADER_SIGNS = 4096
"""Longer headers are cut, and a longer From is not believed: the parser's time grows with their square."""
PARAMETERS_SIGNS = 1 << 14
"""A longer Content-Type or Content-Disposition is cut."""

CUT_OFF = frozenset(
    f"{defect}Defect"
    for defect in (
        "CloseBoundaryNotFound",
        "StartBoundaryNotFound",
        "InvalidBase64Padding",
        "InvalidBase64Characters",
        "InvalidBase64Length",
    )
)
"""Parser defects of a message that did not arrive whole: models.returns.opened.TRUNCATED, which no child can import."""


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
