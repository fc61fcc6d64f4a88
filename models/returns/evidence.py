"""Which row a file belongs to that came with a return."""

from __future__ import annotations

from collections.abc import Sequence

from models.returns.opened import TRUNCATED, Opened
from models.row_code import ItemKind, RowKey, find_code


def match_files(opened: Opened, keys: Sequence[RowKey]) -> dict[int, tuple[ItemKind, int]]:
    """The assignment or case each file's name carries, by part; files without a code, or cut off on their way, are left out."""
    if not TRUNCATED.isdisjoint(opened.defects):
        return {}
    found = {file.part: find_code(file.name, keys) for file in opened.files}
    return {part: item for part, item in found.items() if item is not None}
