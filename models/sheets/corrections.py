"""The correction sheet: only rows that were sent back or stay open, what the branch wrote in them, and what is wrong.

Must stay out: why a row is sent back (models/returns/).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import date

from models.cells import read_choice, read_count, read_day, read_time
from models.outcomes import Label
from models.sheets.declared import Column, Sheet

Written = str | int | date


@dataclass(frozen=True)
class Correction:
    """What a correction sheet shows of each row beside what the list showed, by row code."""

    problems: Mapping[str, str]
    """Where it stood, and what to write."""
    written: Mapping[str, Mapping[str, Written]] = field(default_factory=dict, repr=False)
    """What the branch had written and is kept, by column: codes of choices, days, numbers, texts."""
    blamed: Mapping[str, AbstractSet[str]] = field(default_factory=dict)
    """Columns to be filled anew; they are red."""


PROBLEM = Column("problem", Label("需改正", "To correct"), 44)


def corrected(sheet: Sheet) -> Sheet:
    """A sheet with the column that says what is wrong behind its own, so that it is read as the sheet is."""
    return replace(sheet, columns=(*sheet.columns, PROBLEM))


def understood(sheet: Sheet, cells: Mapping[str, str], blamed: Collection[str]) -> dict[str, Written]:
    """What the cells of a returned row say, as far as they can be read and nothing is wrong with them."""
    found: dict[str, Written] = {}
    for column in sheet.branch_columns:
        text = cells.get(column.key, "")
        value = _meant(column, text) if text and column.key not in blamed else None
        if value is not None:
            found[column.key] = value
    return found


def _meant(column: Column, text: str) -> Written | None:
    match column.form:
        case "choice":
            choice = read_choice(column.words, text)
            return choice[0] if choice else None
        case "date":
            return read_day(text)
        case "time":
            return read_time(text)
        case "count":
            return read_count(text)
    return text
