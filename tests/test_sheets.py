"""A sheet goes out as declared, and its rows are known again whatever was done to them."""

from __future__ import annotations

import io
import random
from datetime import date, datetime
from typing import Any

import openpyxl
import pandas as pd
import pandera.errors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.cells import choice_words, mask_name, read_choice, read_day, read_time
from models.outcomes import ANSWERS, LEGAL_CONTENTS, OUTCOMES, Label, Questionnaire, QuestionnaireError, settle
from models.row_code import RowKey, RowKeyError, find_code, find_code_shape, row_code
from models.sheets import CALLBACK, SELF_CHECK, SheetError, find_rows, staff_words, write_sheet

KEY = RowKey(1, b"a secret for the tests")
OLD_KEY = RowKey(0, b"the secret of last year")
KINDS = st.sampled_from(["assignment", "case"])
NUMBERS = st.integers(1, 9_999_999)


def calls(count: int = 5, name: str = "张*") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row_code": [row_code("assignment", number, KEY) for number in range(1, count + 1)],
            "customer_name": [name] * count,
            "phone": [f"013800{number:06d}" for number in range(1, count + 1)],
            "form": ["risk_warning"] * count,
            "developer": ["", *["李建国"] * (count - 1)],
            "due_on": [date(2026, 3, 20)] * count,
            "call_on": [date(2026, 3, 9)] * count,
            "planned_caller": ["", *["王芳(010102)"] * (count - 1)],
        }
    )


def cases() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row_code": [row_code("case", 3, KEY)],
            "customer_name": ["张*"],
            "phone": ["13800001234"],
            "form": ["conduct"],
            "violation": ["password_known,sharing_profit"],
            "stated_on": [date(2026, 3, 5)],
            "due_on": [date(2026, 3, 10)],
        }
    )


def written(kind: Any = "callback", rows: pd.DataFrame | None = None, language: Any = "zh_CN") -> bytes:
    return write_sheet(
        kind,
        rows if rows is not None else calls() if kind == "callback" else cases(),
        campaign="daily_risk-2026-03",
        title="日常合规风险提示回访",
        branch_no="0101",
        branch_name="=1+1 营业部",
        language=language,
        issued_on=date(2026, 3, 2),
    )


def table_of(content: bytes, place: int = 1) -> list[list[str | None]]:
    book = openpyxl.load_workbook(io.BytesIO(content))
    return [
        [None if cell is None else str(cell) for cell in row]
        for row in book.worksheets[place].iter_rows(values_only=True)
    ]


# ---- row codes


@given(KINDS, NUMBERS)
def test_a_code_is_found_in_any_text_however_it_was_typed(kind: Any, number: int) -> None:
    code = row_code(kind, number, KEY)
    full_width = "".join(chr(ord(letter) + 0xFEE0) if letter.isalnum() else "－" for letter in code.lower())
    for typed in (
        code,
        code.lower(),
        f"编码：{code}（已回访）",
        full_width,
        code.replace("-", "–"),
        code.replace("-", ""),
    ):
        assert find_code(typed, [OLD_KEY, KEY]) == (kind, number)
    assert find_code(code.replace("0", "O").replace("1", "I"), [KEY]) == (kind, number)


@given(KINDS, NUMBERS, st.data())
def test_no_code_with_one_wrong_letter_is_genuine(kind: Any, number: int, data: st.DataObject) -> None:
    code = row_code(kind, number, KEY)
    place = data.draw(st.sampled_from([at for at, letter in enumerate(code) if letter != "-"]))
    wrong = data.draw(
        st.sampled_from([letter for letter in "0123456789ABCDEFGHJKMNPQRSTVWXYZ" if letter != code[place]])
    )
    assert find_code(code[:place] + wrong + code[place + 1 :], [KEY]) is None


def test_a_code_made_with_an_unknown_key_has_the_shape_but_is_not_genuine() -> None:
    code = row_code("assignment", 7, OLD_KEY)
    assert find_code(code, [KEY]) is None
    assert find_code_shape(code) == "assignment"


@given(st.text())
def test_texts_carry_no_code_by_chance(text: str) -> None:
    assert find_code(text, [KEY]) is None


def test_a_short_key_is_refused() -> None:
    with pytest.raises(RowKeyError, match="16"):
        RowKey(2, b"short")


# ---- codes and questions


def test_a_questionnaire_that_lacks_a_legal_content_is_refused() -> None:
    questions = {content: Label("问", "ask") for content in LEGAL_CONTENTS}
    Questionnaire("x", questions)
    for content, label in LEGAL_CONTENTS.items():
        with pytest.raises(QuestionnaireError, match=label.zh):
            Questionnaire("x", {key: words for key, words in questions.items() if key != content})


def test_partial_completes_only_with_five_answers_and_no_answer_fails_only_after_its_attempts() -> None:
    five = dict.fromkeys(LEGAL_CONTENTS, "clear")
    assert settle("partial", five, 1, 3) == (True, False)
    assert settle("partial", five | {"identity": "not_asked"}, 1, 3) == (False, False)
    assert settle("done_clear", five | {"identity": "not_asked"}, 1, 3) == (False, False)
    assert [settle("no_answer", {}, attempts, 3) for attempts in (2, 3)] == [(False, False), (False, True)]
    assert {code for code in OUTCOMES if settle(code, {}, 1, 3)[1]} == {"refused", "bad_number", "left_frame"}
    assert {code for code in OUTCOMES if settle(code, five, 1, 3)[0]} == {
        "done_clear",
        "done_suspect",
        "done_opinion",
        "partial",
    }


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("张三", "张*"),
        ("欧阳娜娜", "欧***"),
        ("John Smith", "J*** S***"),
        ("南京市某某有限公司", "南***"),
        ("张", "张*"),
        ("", ""),
    ],
)
def test_a_masked_name_keeps_the_first_character_of_each_word(name: str, masked: str) -> None:
    assert mask_name(name) == masked


@given(st.dates(date(1990, 1, 1), date(2099, 12, 31)))
def test_a_day_is_read_in_every_form_branches_write(day: date) -> None:
    y, m, d = day.year, day.month, day.day
    serial = str((day - date(1899, 12, 30)).days)
    forms = (
        f"{y}.{m}.{d}",
        f"{y}/{m}/{d}",
        f"{y}年{m}月{d}日",
        f"{y}-{m:02d}-{d:02d}",
        f"{y}{m:02d}{d:02d}",
        f" {y}－{m}－{d} ",
        serial,
    )
    assert {read_day(form) for form in forms} == {day}
    assert [read_day(form) for form in ("2026-02-30", "3月5日", "5/3/2026", "昨天", "12")] == [None] * 5


@given(st.times())
def test_a_time_is_read_in_every_form_branches_write(moment: Any) -> None:
    shown = f"{moment.hour:02d}:{moment.minute:02d}"
    forms = (
        shown,
        f"{moment.hour}：{moment.minute:02d}",
        f"{moment.hour}点{moment.minute}分",
        f"{shown}:00",
        f"2026-03-05 {shown}:00",
    )
    assert {read_time(form) for form in forms} == {shown}


def test_every_label_of_every_dropdown_is_read_back_in_both_languages() -> None:
    for sheet in (CALLBACK, SELF_CHECK):
        for column in sheet.columns:
            for choice in column.choices.values():
                assert [read_choice(column.words, f" {label} ") for label in choice.label] == [(choice.code, "")] * 2
    assert read_choice(choice_words(ANSWERS), "已核") is None


# ---- writing


@pytest.mark.parametrize("language", ["zh_CN", "en"])
@pytest.mark.parametrize("kind", ["callback", "self_check"])
def test_a_sheet_has_instructions_first_then_a_protected_table_that_prints_on_a4(kind: Any, language: Any) -> None:
    book = openpyxl.load_workbook(io.BytesIO(written(kind, language=language)))
    sheet = CALLBACK if kind == "callback" else SELF_CHECK
    assert len(book.worksheets) == 2
    table = book.worksheets[1]
    assert [cell.value.rstrip("*") for cell in table[3]] == [column.label.text(language) for column in sheet.columns]
    assert table.protection.sheet
    assert table.protection.sort, "openpyxl's sort=True means that sorting is locked"
    assert [cell.protection.locked for cell in table[4]] == [not column.by_branch for column in sheet.columns]
    assert (table.page_setup.orientation, table.page_setup.paperSize, table.print_title_rows) == (
        "landscape",
        9,
        "$3:$3",
    )
    assert table.freeze_panes == "C4"
    lists = {str(rule.sqref): rule.formula1 for rule in table.data_validations.dataValidation if rule.type == "list"}
    assert len(lists) == sum(bool(column.choices) for column in sheet.branch_columns)


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_a_callback_sheet_says_on_which_day_each_call_is_planned_and_who_makes_it(language: Any) -> None:
    book = openpyxl.load_workbook(io.BytesIO(written(language=language)))
    instructions, table = book.worksheets
    place = {column.key: number for number, column in enumerate(CALLBACK.columns, start=1)}
    titles = [CALLBACK.column(key).label.text(language) for key in ("call_on", "planned_caller")]
    planned, assigned = (table.cell(5, place[key]) for key in ("call_on", "planned_caller"))
    assert (planned.value, planned.number_format) == (datetime(2026, 3, 9), "yyyy-mm-dd")  # noqa: DTZ001 (a day)
    assert assigned.value == "王芳(010102)"
    assert not table.cell(4, place["planned_caller"]).value, "left to the branch"
    assert {cell.fill.fgColor.rgb for cell in (planned, assigned)} == {table.cell(5, place["due_on"]).fill.fgColor.rgb}
    words = " ".join(str(row[1]) for row in instructions.iter_rows(values_only=True))
    assert all(title in words for title in titles)


def test_no_text_from_an_extract_becomes_a_formula() -> None:
    book = openpyxl.load_workbook(io.BytesIO(written(rows=calls(name='=HYPERLINK("http://x")'))))
    assert [cell.data_type for cell in book.worksheets[1]["B"][3:]] == ["s"] * 5
    assert book.worksheets[0]["A1"].data_type == "s"
    assert book.worksheets[1]["C4"].value == "013800000001", "a leading zero stays"
    assert book.worksheets[1]["C4"].number_format == "@"


def test_the_same_rows_give_the_same_bytes() -> None:
    assert written() == written()


def test_a_frame_with_a_column_too_many_or_a_foreign_code_is_refused() -> None:
    with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
        written(rows=calls().assign(id_no="110101"))
    with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
        written("callback", rows=calls().assign(row_code=[row_code("case", n, KEY) for n in range(5)]))


def test_a_branch_without_rows_gets_no_sheet() -> None:
    with pytest.raises(SheetError, match="no row"):
        written(rows=calls().iloc[:0])


# ---- finding rows again


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans(), st.integers(0, 3), st.booleans())
def test_rows_are_found_after_sorting_inserting_columns_and_title_rows(
    chance: random.Random, with_header: bool, junk: int, shuffle_columns: bool
) -> None:
    header, *body = table_of(SHEET)[2:]
    for row in body:
        row[OUTCOME] = f"结果{row[0]}"
    chance.shuffle(body)
    rows = [header, *body] if with_header else body
    if with_header and shuffle_columns:
        order = list(range(len(header)))
        chance.shuffle(order)
        rows = [[row[at] for at in order] for row in rows]
    rows = [["备注", *row] for row in rows]
    rows = [[None] * len(rows[0]) for _ in range(junk)] + rows
    found = find_rows(CALLBACK, rows, frozenset(), [KEY])
    assert sorted(row.number or 0 for row in found) == [1, 2, 3, 4, 5]
    for row in found:
        assert row.cells["phone"] == f"013800{row.number:06d}"
        assert row.cells["outcome"] == f"结果{row.cells['row_code']}"


@pytest.mark.parametrize("with_header", [True, False])
@pytest.mark.parametrize("later", [True, False])
def test_a_sheet_sent_before_the_planned_columns_were_there_is_still_read(later: bool, with_header: bool) -> None:
    answered = {
        "called_on": "2026-03-05 00:00:00",
        "called_at": "14:30",
        "caller_name": "王芳",
        "channel": "电话",
        "attempts": "1",
        "outcome": "无人接听",
        "remark": "改日再打",
    }
    columns = [column for column in CALLBACK.columns if later or not column.is_later]
    header, *body = table_of(SHEET)[2:]
    rows = []
    for row in body:
        shown = {column.key: text for column, text in zip(CALLBACK.columns, row, strict=True) if text} | answered
        rows.append([shown.get(column.key) for column in columns])
    titles = [title for column, title in zip(CALLBACK.columns, header, strict=True) if column in columns]
    found = find_rows(CALLBACK, [titles, *rows] if with_header else rows, frozenset(), [KEY])
    assert [row.number for row in found] == [1, 2, 3, 4, 5]
    for row in found:
        assert {key: row.cells[key] for key in answered} == answered
        assert row.cells.get("call_on", "") == ("2026-03-09 00:00:00" if later else "")


def test_a_callback_code_is_no_row_of_a_self_check_statement() -> None:
    assert find_rows(SELF_CHECK, table_of(SHEET), frozenset(), [KEY]) == []


def test_staff_of_the_same_name_are_told_apart_by_their_numbers() -> None:
    assert staff_words({"010101": "王芳", "010102": "李建国", "020203": "王芳"}) == {
        "010101": "王芳(010101)",
        "010102": "李建国",
        "020203": "王芳(020203)",
    }


SHEET = written()
OUTCOME = [column.key for column in CALLBACK.columns].index("outcome")
