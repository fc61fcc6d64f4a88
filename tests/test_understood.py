"""What people and spreadsheets do to a sheet, done to real workbooks: what is understood all the same, and what is sent back."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from letters import KEY, SHEET, expected_calls, letter, opened
from openpyxl.worksheet.worksheet import Worksheet

from models.returns import Judgement, Opened, judge_rows
from models.row_code import row_code
from models.sheets import CALLBACK

CODE, OTHER_CODE = row_code("assignment", 17, KEY), row_code("assignment", 18, KEY)
PLACE = {column.key: number for number, column in enumerate(CALLBACK.columns, start=1)}
HEAD, FIRST, SECOND = 3, 4, 5
"""The rows of the sheet in which the titles and the two calls stand."""
Change = Callable[[Worksheet], object]


def changed(change: Change, whole: Callable[[Any], object] = lambda book: None) -> bytes:
    """The filled sheet after something was done to its table, or to the whole workbook."""
    book = openpyxl.load_workbook(io.BytesIO(SHEET))
    table = book.worksheets[1]
    table.protection.sheet = False
    table.cell(SECOND, PLACE["outcome"]).value = None  # letters.py puts a formula there
    change(table)
    whole(book)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def cell(key: str, value: object, row: int = FIRST) -> Change:
    return lambda table: setattr(table.cell(row, PLACE[key]), "value", value)


def judged(message: Opened) -> Judgement:
    return judge_rows(CALLBACK, message, expected_calls(), [KEY], branch_no="0101", as_of=date(2026, 3, 10))


def told(home: Path, *files: tuple[str, bytes]) -> list[tuple[list[int], list[tuple[str, str]]]]:
    """Of each file the calls accepted, and column and code of what is sent back."""
    found = []
    for message in opened(home, *(letter(file) for file in files)):
        judgement = judged(message)
        problems = zip(judgement.problems["column_name"], judgement.problems["code"], strict=True)
        found.append((list(judgement.accepted["assignment_id"]), list(problems)))
    return found


# ---- where rows stand


def both_filled(table: Worksheet) -> None:
    for key in PLACE:
        if PLACE[key] >= PLACE["called_on"]:
            table.cell(SECOND, PLACE[key]).value = table.cell(FIRST, PLACE[key]).value


def swap_rows(table: Worksheet) -> None:
    both_filled(table)
    first, second = ([table.cell(row, place).value for place in PLACE.values()] for row in (FIRST, SECOND))
    for place, (one, two) in enumerate(zip(first, second, strict=True), start=1):
        table.cell(FIRST, place).value, table.cell(SECOND, place).value = two, one


def to_another_sheet(book: Any) -> None:
    table, other = book.worksheets[1], book.create_sheet("我的表", 0)
    for row in table.iter_rows(values_only=True):
        other.append(["序号", *row])
    book.remove(table)


def into_old_template(book: Any) -> None:
    """Only the rows, without titles, in a workbook that says it is another month's."""
    table, other = book.worksheets[1], book.create_sheet("回访登记表（二月）")
    other.append(["2026 年 2 月回访登记表"])
    for row in table.iter_rows(min_row=FIRST, values_only=True):
        other.append(row)
    book.remove(table)


def without_identity_columns(table: Worksheet) -> None:
    table.delete_cols(PLACE["customer_name"])


def merged_in_groups(table: Worksheet) -> None:
    table.insert_rows(FIRST)
    table.cell(FIRST, 1, "第一组")
    table.merge_cells(start_row=FIRST, start_column=1, end_row=FIRST, end_column=6)


def moved_column(table: Worksheet) -> None:
    """The remark is dragged to the front."""
    values = [table.cell(row, PLACE["remark"]).value for row in range(1, table.max_row + 1)]
    table.delete_cols(PLACE["remark"])
    table.insert_cols(1)
    for row, value in enumerate(values, start=1):
        table.cell(row, 1).value = value


PLACES: dict[str, bytes] = {
    "as it was sent": changed(lambda table: None),
    "rows sorted otherwise": changed(swap_rows),
    "a column put in": changed(lambda table: table.insert_cols(PLACE["outcome"])),
    "two columns at the front": changed(lambda table: table.insert_cols(1, 2)),
    "a column moved": changed(moved_column),
    "a column that nobody needs left out": changed(lambda table: table.delete_cols(PLACE["developer"])),
    "title rows put in": changed(lambda table: table.insert_rows(1, 5)),
    "cells merged": changed(merged_in_groups),
    "the titles deleted": changed(lambda table: table.delete_rows(HEAD)),
    "the titles and what stands above deleted": changed(lambda table: table.delete_rows(1, HEAD)),
    "the titles a second time, as a printed page has them": changed(
        lambda table: (table.insert_rows(SECOND), [table.cell(SECOND, p, table.cell(HEAD, p).value) for p in PLACE.values()])
    ),
    "another sheet": changed(lambda table: None, to_another_sheet),
    "an old template without titles": changed(lambda table: None, into_old_template),
    "the sheet renamed": changed(lambda table: setattr(table, "title", "Sheet1")),
    "the sheet hidden": changed(lambda table: setattr(table, "sheet_state", "hidden")),
    "rows hidden by a filter": changed(lambda table: setattr(table.row_dimensions[FIRST], "hidden", True)),
    "other sheets beside it": changed(lambda table: None, lambda book: book.create_sheet("统计").append(["合计", 2])),
    "blank rows between": changed(lambda table: table.insert_rows(SECOND, 3)),
    "titles with blanks and line breaks": changed(
        lambda table: [
            setattr(table.cell(HEAD, p), "value", " \n".join(str(table.cell(HEAD, p).value))) for p in (PLACE["outcome"], 2)
        ]
    ),
}  # fmt: skip


def test_rows_are_found_wherever_they_stand(tmp_path: Path) -> None:
    found = dict(zip(PLACES, told(tmp_path, *((f"{name}.xlsx", file) for name, file in PLACES.items())), strict=True))
    assert found == {name: ([17], []) if name != "rows sorted otherwise" else ([18, 17], []) for name in PLACES}


def test_a_renamed_file_and_one_without_any_name_count(tmp_path: Path) -> None:
    plain = changed(lambda table: None)
    names = ("新建 Microsoft Excel 工作表.xlsx", "复件 (2) 回访登记表.xlsx.xlsx", "a.xls", "a.et", "a.dat", "0101")
    assert told(tmp_path, *((name, plain) for name in names)) == [([17], [])] * len(names)


# ---- what stands in cells

UNDERSTOOD: dict[str, Change] = {
    "phone without its zero": cell("phone", 13800001234),
    "phone as a float": cell("phone", 13800001234.0),
    "phone as 1.38E+10": cell("phone", "1.38E+10"),
    "phone as 1.4E+10": cell("phone", "1.4E+10"),
    "phone as 1.3800001234E+10": cell("phone", "1.3800001234E+10"),
    "phone in full width": cell("phone", "０１３８００００１２３４"),
    "phone with an apostrophe and dashes": cell("phone", "'138-0000-1234"),
    "phone emptied": cell("phone", None),
    "code in full width": cell("row_code", CODE.translate({n: n + 0xFEE0 for n in range(33, 127)})),
    "code in small letters with long dashes": cell("row_code", CODE.lower().replace("-", "—")),
    "code with blanks and a remark": cell("row_code", f" {CODE}（已回访）"),
    "name with a blank": cell("customer_name", "张 *"),
    "name with a full-width star": cell("customer_name", "张＊"),
    "day as a serial": cell("called_on", 46086),
    "day as a serial in text": cell("called_on", "46086"),
    "day as text": cell("called_on", "2026-03-05"),
    "day with dots": cell("called_on", "2026.3.5"),
    "day with slashes": cell("called_on", "2026/3/5"),
    "day in Chinese": cell("called_on", "2026年3月5日"),
    "day in eight digits": cell("called_on", 20260305),
    "day with a time": cell("called_on", datetime(2026, 3, 5, 14, 30)),  # noqa: DTZ001 (a cell has no zone)
    "day in full width": cell("called_on", "２０２６．３．５"),
    "time as a fraction": cell("called_at", 0.604166666666667),
    "time with a full-width colon": cell("called_at", "14：30"),
    "time in Chinese": cell("called_at", "下午2点30分"),
    "attempts as text": cell("attempts", "1次"),
    "attempts in full width": cell("attempts", "１"),
    "outcome in English": cell("outcome", "Done · clear"),
    "outcome without its dot": cell("outcome", "成功无异常"),
    "outcome with blanks": cell("outcome", "　成功 · 无异常 "),
    "channel in English": cell("channel", "phone"),
    "a formula where nothing is asked": cell("developer", "=1+1"),
}


def test_a_cell_is_understood_in_every_form_that_people_and_spreadsheets_give_it(tmp_path: Path) -> None:
    files = [(f"{number}.xlsx", changed(change)) for number, change in enumerate(UNDERSTOOD.values())]
    found = dict(zip(UNDERSTOOD, told(tmp_path, *files), strict=True))
    assert found == dict.fromkeys(UNDERSTOOD, ([17], []))


GLUED = {
    "成功·有意见建议（佣金偏高）": "佣金偏高",
    "成功·有意见建议:佣金偏高": "佣金偏高",
    "成功·有意见建议，佣金偏高。": "佣金偏高。",
    "C、成功·有意见建议（佣金偏高）": "佣金偏高",
    "3．成功·有意见建议（佣金偏高）": "佣金偏高",
    "（C）成功·有意见建议：佣金偏高": "佣金偏高",
    "③成功·有意见建议 佣金偏高": "佣金偏高",
}


@pytest.mark.parametrize("answer", GLUED)
def test_what_is_glued_to_an_answer_is_its_remark_and_what_stands_before_it_its_label(
    tmp_path: Path, answer: str
) -> None:
    (message,) = opened(tmp_path, letter(("a.xlsx", changed(cell("outcome", answer)))))
    row = judged(message).accepted.iloc[0]
    assert (row["outcome"], row["remark"]) == ("done_opinion", GLUED[answer])


# ---- what is sent back


def copied_down(*keys: str) -> Change:
    def change(table: Worksheet) -> None:
        both_filled(table)
        for key in keys:
            table.cell(SECOND, PLACE[key]).value = table.cell(FIRST, PLACE[key]).value

    return change


SENT_BACK: dict[str, tuple[Change, list[int], list[tuple[str, str]]]] = {
    "a formula for an outcome": (cell("outcome", '="成功·无异常"'), [], [("outcome", "formula")]),
    "no time": (cell("called_at", None), [], [("called_at", "missing")]),
    "a formula for a day": (cell("called_on", "=TODAY()"), [], [("called_on", "formula")]),
    "the name of another": (cell("customer_name", "王*"), [], [("customer_name", "other_customer")]),
    "the phone of another": (cell("phone", "13900001234"), [], [("phone", "other_customer")]),
    "a phone that is another one even when rounded": (cell("phone", "1.5E+10"), [], [("phone", "other_customer")]),
    "the code copied down": (copied_down("row_code"), [17], [("customer_name", "other_customer")]),
    "name and phone copied down": (copied_down("customer_name", "phone"), [17], [("customer_name", "other_customer")]),
    "code, name and phone copied down": (copied_down("row_code", "customer_name", "phone"), [17], []),
    "name and phone deleted": (
        lambda table: (cell("customer_name", None)(table), cell("phone", None)(table)), [], [("customer_name", "no_identity")],
    ),
    "a code with a wrong letter": (cell("row_code", CODE[:-1] + ("0" if CODE[-1] != "0" else "1")), [], [("row_code", "unknown_code")]),
    "a word that is not listed": (cell("outcome", "打过了"), [], [("outcome", "unknown_choice")]),
    "a day that is none": (cell("called_on", "3月5日"), [], [("called_on", "not_a_date")]),
    "a day of last year": (cell("called_on", "2025.3.5"), [], [("called_on", "date_too_early")]),
    "an error for an outcome": (cell("outcome", "#N/A"), [], [("outcome", "missing")]),
}  # fmt: skip


def test_what_cannot_be_understood_is_sent_back_by_column_and_code(tmp_path: Path) -> None:
    files = [(f"{number}.xlsx", changed(change)) for number, (change, *_) in enumerate(SENT_BACK.values())]
    found = dict(zip(SENT_BACK, told(tmp_path, *files), strict=True))
    assert found == {name: (accepted, problems) for name, (_, accepted, problems) in SENT_BACK.items()}
