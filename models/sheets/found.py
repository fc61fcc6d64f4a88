"""The rows of a returned table found again, whatever was done to it: sorted, columns moved, header gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from models.cells import plain
from models.row_code import RowKey, find_code, find_code_shape
from models.sheets.declared import SHEETS, Column, Sheet


@dataclass(frozen=True)
class FoundRow:
    """One row of a returned table that carries a row code, its cells by column key."""

    row: int
    """1-based, as the spreadsheet shows it."""
    number: int | None
    """Of the assignment or case; None when the code's check fails."""
    cells: Mapping[str, str]
    formulas: AbstractSet[str]
    """Keys of the columns whose cell holds a formula."""


def find_rows(
    sheet: Sheet, rows: Sequence[Sequence[str | None]], formulas: AbstractSet[tuple[int, int]], keys: Sequence[RowKey]
) -> list[FoundRow]:
    """The rows of a table that carry one of this sheet's codes in any cell, in the table's order.

    Columns are told by their titles in either language, wherever they stand; where no header is left, by the declared
    order counted from the code, in that layout of the sheets of its item which fits the cells best. Formulas are
    (row, column), both from 1.
    """
    titles = sheet.titles
    header: dict[str, int] = {}
    # Most cells of a sheet hold one of a dozen words: each is looked at once.
    key_of: dict[str | None, str | None] = {None: None, "": None}
    has_code: dict[str | None, bool] = {None: False, "": False}
    found = []
    for number, cells in enumerate(rows, start=1):
        named: dict[str, int] = {}
        for place, cell in enumerate(cells):
            if cell not in key_of:
                # No title is longer, even written with blanks between its letters.
                key_of[cell] = titles.get(plain(cell)) if len(cell or "") <= 40 else None
            key = key_of[cell]
            if key is not None:
                named.setdefault(key, place)
        if len(named) >= max(3, len(header)):
            header = named
            continue
        at = None
        for place, cell in enumerate(cells):
            if cell not in has_code:
                has_code[cell] = find_code_shape(cell or "") == sheet.item
            if has_code[cell]:
                at = place
                break
        if at is None:
            continue
        code = find_code(cells[at] or "", keys)
        places = header or _places_from(at, sheet, cells)
        found.append(
            FoundRow(
                number,
                code[1] if code and code[0] == sheet.item else None,
                {key: (cells[place] or "").strip() if place < len(cells) else "" for key, place in places.items()},
                frozenset(key for key, place in places.items() if (number, place + 1) in formulas),
            )
        )
    return found


def _places_from(at: int, sheet: Sheet, cells: Sequence[str | None]) -> dict[str, int]:
    """Where the columns of a row without header stand, its code at a place."""
    layouts = [layout for other in SHEETS.values() if other.item == sheet.item for layout in other.layouts]

    def fitting(columns: Iterable[Column]) -> int:
        return sum(column.understands(cell or "") for column, cell in zip(columns, cells[at:], strict=False))

    return {column.key: at + offset for offset, column in enumerate(max(layouts, key=fitting))}
