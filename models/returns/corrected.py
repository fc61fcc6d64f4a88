"""What goes back to the branch: the rows to correct or without their evidence, in words and as it had filled them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from models.evidence import KINDS
from models.outcomes import LEGAL_CONTENTS, Language
from models.returns.evidence import SHEET_OF
from models.returns.problems import evidence_message, place_words, problem_message
from models.row_code import ItemKind, RowKey, row_code
from models.sheets import Correction, FoundRow, Sheet, Written, understood

NOBODY_S = frozenset({"unknown_code", "other_branch"})
"""Rows that are not the branch's to correct."""
OF_ANOTHER = frozenset({"other_customer", "conflicting_rows"})
"""Rows of which nothing is believed: what stands there may be another customer's."""

Item = tuple[ItemKind, int]
Returned = Mapping[ItemKind, Mapping[tuple[str, int], FoundRow]]


class ToCorrect(NamedTuple):
    """The rows of one kind that go back, and what a correction sheet shows of them."""

    ids: tuple[int, ...]
    correction: Correction


def correct_rows(
    problems: pd.DataFrame,
    kept_open: Mapping[Item, Mapping[str, Any]],
    returned: Returned,
    language: Language,
    key: RowKey,
) -> dict[ItemKind, ToCorrect]:
    """What goes back of one message, by kind of row.

    problems: sheet, row, column_name, code, assignment_id; kept_open: the booked rows that await evidence; returned: the
    message's rows by their place, see find_returned.
    """
    lines: dict[Item, list[str]] = {}
    blamed: dict[Item, set[str]] = {}
    written: dict[Item, dict[str, Written]] = {}
    for _, faults in problems[problems["row"] > 0].groupby(["sheet", "row"], sort=False):
        place, row = str(faults["sheet"].iloc[0]), int(faults["row"].iloc[0])
        item = _item_at(place, row, faults, returned)
        codes = set(faults["code"])
        if item is None or not NOBODY_S.isdisjoint(codes):
            continue
        where = place_words(place, row, language)
        for column, code in zip(faults["column_name"], faults["code"], strict=True):
            said = problem_message(code, language, sheet=where, row=row, column_name=column)
            lines.setdefault(item, []).append(said)
            blamed.setdefault(item, set()).add(column)
        found = returned.get(item[0], {}).get((place, row))
        if found is not None and OF_ANOTHER.isdisjoint(codes):
            written[item] = understood(SHEET_OF[item[0]], found.cells, blamed[item])
    for item, booked in kept_open.items():
        kinds = [kind for kind in KINDS if kind in booked["awaits"].split(",")]
        lines.setdefault(item, []).append(evidence_message(kinds, row_code(*item, key), language))
        written.setdefault(item, _as_booked(SHEET_OF[item[0]], booked))
    return {
        kind: ToCorrect(
            tuple(sorted(number for of, number in lines if of == kind)),
            Correction(
                {
                    row_code(*item, key): "\n".join(dict.fromkeys(said))
                    for item, said in lines.items()
                    if item[0] == kind
                },
                {row_code(*item, key): cells for item, cells in written.items() if item[0] == kind},
                {row_code(*item, key): columns for item, columns in blamed.items() if item[0] == kind},
            ),
        )
        for kind in SHEET_OF
        if any(of == kind for of, _ in lines)
    }


def _item_at(place: str, row: int, faults: pd.DataFrame, returned: Returned) -> Item | None:
    named = faults["assignment_id"].dropna()
    if len(named):
        return "assignment", int(named.iloc[0])
    for kind, rows in returned.items():
        found = rows.get((place, row))
        if kind != "assignment" and found is not None and found.number is not None:
            return kind, found.number
    return None


def _as_booked(sheet: Sheet, booked: Mapping[str, Any]) -> dict[str, Written]:
    """What an accepted row said, by column."""
    said = {**booked, **{content: booked["answers"][content] for content in LEGAL_CONTENTS if "answers" in booked}}
    return {column.key: said[column.key] for column in sheet.answer_columns if said.get(column.key) not in ("", None)}
