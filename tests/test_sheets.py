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
from openpyxl.utils import get_column_letter

from models.cells import choice_words, clean_text, mask_name, read_choice, read_day, read_time
from models.outcomes import ANSWERS, LEGAL_CONTENTS, OUTCOMES, Label, Questionnaire, QuestionnaireError, settle
from models.returns import Opened, Table, Workbook, judge_rows
from models.row_code import RowKey, RowKeyError, find_code, find_code_shape, row_code
from models.sheets import (
    CALLBACK,
    HQ_CALLS,
    OPINION,
    PHONES,
    ROLES,
    SELF_CHECK,
    SHEETS,
    Addressee,
    SheetError,
    find_rows,
    staff_words,
    write_sheet,
)

KEY = RowKey(1, b"a secret for the tests")
OLD_KEY = RowKey(0, b"the secret of last year")
KINDS = st.sampled_from(["assignment", "case", "opinion"])
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
            "statement": ["客户称曾将交易密码告知=李建国"],
            "employee": ["李建国(010102)"],
            "due_on": [date(2026, 3, 10)],
        }
    )


def opinions() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row_code": [row_code("opinion", number, KEY) for number in (4, 5)],
            "customer_name": ["王*", "赵*"],
            "phone": ["13800001234", ""],
            "raised_on": [date(2026, 3, 5)] * 2,
            "opinion": ["希望降低佣金费率。", "+1 建议"],
            "due_on": [date(2026, 3, 12)] * 2,
        }
    )


ROWS = {
    "callback": lambda: calls(),
    "hq_calls": lambda: calls().drop(columns=["developer", "planned_caller"]),
    "self_check": lambda: cases(),
    "opinion": lambda: opinions(),
}
DIRECTOR = Addressee("operations_director", "daily_risk-2026-03/0101-1")
MANAGER = Addressee("customer_service_manager", "daily_risk-2026-03/0101-2")


def written(
    kind: Any = "callback",
    rows: pd.DataFrame | None = None,
    language: Any = "zh_CN",
    addressee: Addressee | None = None,
    branch_name: str = "=1+1 营业部",
) -> bytes:
    return write_sheet(
        kind,
        rows if rows is not None else ROWS[kind](),
        campaign="daily_risk-2026-03",
        title="日常合规风险提示回访",
        branch_no="0101",
        branch_name=branch_name,
        language=language,
        issued_on=date(2026, 3, 2),
        addressee=addressee,
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
    for sheet in SHEETS.values():
        for column in sheet.columns:
            for choice in column.choices.values():
                assert [read_choice(column.words, f" {label} ") for label in choice.label] == [(choice.code, "")] * 2
    assert read_choice(choice_words(ANSWERS), "已核") is None


# ---- writing


@pytest.mark.parametrize("language", ["zh_CN", "en"])
@pytest.mark.parametrize("kind", list(SHEETS))
def test_a_sheet_has_instructions_first_then_a_protected_table_that_prints_on_a4(kind: Any, language: Any) -> None:
    book = openpyxl.load_workbook(io.BytesIO(written(kind, language=language)))
    sheet = SHEETS[kind]
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
        written("callback", rows=calls().assign(phone=13800000000))
    with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
        written("callback", rows=calls().assign(developer=None))
    with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
        written("callback", rows=calls().assign(row_code=[row_code("case", n, KEY) for n in range(5)]))


def test_a_branch_without_rows_gets_no_sheet() -> None:
    with pytest.raises(SheetError, match="no row"):
        written(rows=calls().iloc[:0])


NASTY = {
    '=HYPERLINK("http://x.example","点")': '=HYPERLINK("http://x.example","点")',
    "+1": "+1",
    "@SUM(A1)": "@SUM(A1)",
    "-2+3|cmd": "-2+3|cmd",
    "张\u202e三\u200f": "张三",
    "王\x07\x0b\n芳": "王 芳",
    "李👨\u200d👩\u200d👧": "李👨\u200d👩\u200d👧",
    "_x0041_&amp;": "_x0041_&amp;",
    "长" * 300: "长" * 39 + "…",
    "http://x.example/a": "http://x.example/a",
}


def test_names_from_outside_are_text_in_one_visible_line_whatever_they_hold() -> None:
    rows = calls(len(NASTY), name="张*").assign(developer=list(NASTY), planned_caller=list(NASTY))
    book = openpyxl.load_workbook(io.BytesIO(written(rows=rows, addressee=DIRECTOR)))
    place = {column.key: number for number, column in enumerate(CALLBACK.columns, start=1)}
    for key, limit in (("developer", 40), ("planned_caller", 500)):
        cells = [book.worksheets[1].cell(row, place[key]) for row in range(4, 4 + len(NASTY))]
        assert {cell.data_type for cell in cells} == {"s"}
        assert [cell.value for cell in cells] == [clean_text(name, limit) for name in NASTY]
        assert not any(cell.hyperlink for cell in cells)
    assert [clean_text(name, 40) for name in NASTY] == list(NASTY.values())


@pytest.mark.parametrize("name", NASTY)
def test_a_branch_name_writes_no_formula_and_no_code_of_the_printed_header(name: str) -> None:
    book = openpyxl.load_workbook(io.BytesIO(written(branch_name=f"&R{name}&&8", addressee=DIRECTOR)))
    table = book.worksheets[1]
    formulas = [cell.coordinate for row in table.iter_rows() for cell in row if cell.data_type == "f"]
    evidence = [f"{get_column_letter(len(CALLBACK.columns))}{row}" for row in range(4, 9)]
    assert sorted(formulas) == sorted(["A2", *evidence])
    assert "2026-03-02" in table.oddHeader.left.text
    assert not table.oddHeader.right.text


@pytest.mark.parametrize("kind", list(SHEETS))
def test_a_role_that_calls_sees_phones_and_another_one_sees_them_masked(kind: Any) -> None:
    assert set(PHONES[kind]) <= set(ROLES)
    phone = [column.key for column in SHEETS[kind].columns].index("phone")
    for role, shown in PHONES[kind].items():
        content = written(kind, addressee=Addressee(role, "c/0101-1"))
        phones = [row[phone] for row in table_of(content)[3:]]
        assert (phones == list(ROWS[kind]()["phone"])) == (shown == "full")
        assert shown == "full" or all("****" in (seen or "****") for seen in phones)


def test_a_sheet_is_not_written_for_a_role_it_is_not_declared_for() -> None:
    with pytest.raises(SheetError, match="intern"):
        written(addressee=Addressee("intern", "c/0101-1"))
    with pytest.raises(SheetError, match="operations_director"):
        written("hq_calls", addressee=DIRECTOR)


def test_a_name_that_was_not_masked_is_masked_all_the_same() -> None:
    assert {row[1] for row in table_of(written(rows=calls(name="欧阳娜娜")))[3:]} == {"欧***"}


@pytest.mark.parametrize(("language", "role"), [("zh_CN", "客户服务部经理"), ("en", "customer-service manager")])
def test_whose_copy_it_is_stands_on_the_screen_on_paper_and_in_the_properties(language: Any, role: str) -> None:
    part = Addressee(MANAGER.role, MANAGER.mail_number, 2, 3)
    content = written("opinion", language=language, addressee=part, branch_name="城东营业部")
    book = openpyxl.load_workbook(io.BytesIO(content))
    table = book.worksheets[1]
    words = [cell for row in table.iter_rows(max_row=2, values_only=True) for cell in row if cell]
    assert words[0].endswith(" 2/3")
    for place in (words[-1], table.oddHeader.left.text, book.custom_doc_props["huifang_copy"].value):
        assert all(fact in place for fact in ("城东营业部", "0101", role, "2026-03-02", part.mail_number, "2/3"))


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_a_row_says_which_evidence_it_needs_as_it_is_filled(language: Any) -> None:
    for kind, key in (("callback", "channel"), ("hq_calls", "channel"), ("self_check", "interviewed")):
        table = openpyxl.load_workbook(io.BytesIO(written(kind, language=language))).worksheets[1]
        sheet = SHEETS[kind]
        formula = str(table.cell(4, len(sheet.columns)).value)
        for choice in sheet.column(key).choices.values():
            assert (f'"{choice.label.text(language)}"' in formula) == (choice.code != "not_needed")


def test_a_sheet_holds_no_identity_number_and_no_amount() -> None:
    words = ("id_no", "idno", "证件号", "asset", "balance", "金额", "资产", "余额")
    for sheet in SHEETS.values():
        for column in sheet.columns:
            assert not any(word in f"{column.key} {column.label.zh}".lower() for word in words), column.key


# ---- finding rows again


@pytest.mark.parametrize("with_header", [True, False])
def test_what_headquarters_returns_is_read_as_callback_rows(with_header: bool) -> None:
    answered = {
        "called_on": "2026-03-05",
        "called_at": "14:30",
        "caller_name": "王芳",
        "channel": "电话",
        "outcome": "拒访",
    }
    header, *body = table_of(written("hq_calls"))[2:]
    place = {column.key: number for number, column in enumerate(HQ_CALLS.columns)}
    for row in body:
        for key, text in answered.items():
            row[place[key]] = text
    found = find_rows(CALLBACK, [header, *body] if with_header else body, frozenset(), [KEY])
    assert [row.number for row in found] == [1, 2, 3, 4, 5]
    assert all({key: row.cells[key] for key in answered} == answered for row in found)


def test_an_opinion_tracker_is_found_by_its_own_codes() -> None:
    rows = table_of(written("opinion"))
    assert [row.number for row in find_rows(OPINION, rows, frozenset(), [KEY])] == [4, 5]
    assert find_rows(CALLBACK, rows, frozenset(), [KEY]) == find_rows(SELF_CHECK, rows, frozenset(), [KEY]) == []


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
    columns = [column for column in CALLBACK.columns if later or column.since == 1]
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


def judged_opinions(**cells: str) -> tuple[list[str], dict[str, Any]]:
    """The problems of a tracker's first row filled in so, and what was accepted of it."""
    filled = {
        "validity": "成立",
        "handled_on": "2026-3-9",
        "handler_name": "周敏",
        "handling": "已解释佣金标准",
        "resolution": "已答复客户",
        "answered_on": "2026-3-10",
        "answered_by": "电话",
    } | cells
    rows = table_of(written("opinion"))
    for place, column in enumerate(OPINION.columns):
        rows[3][place] = filled.get(column.key, rows[3][place])
    opened = Opened(workbooks=(Workbook("x.xlsx", (Table("意见建议跟踪表", rows),)),))
    expected = pd.DataFrame(
        {
            "opinion_id": [4],
            "branch_no": ["0101"],
            "campaign_id": ["c"],
            "customer_name": ["王*"],
            "phone": ["13800001234"],
            "due_on": [date(2026, 3, 12)],
            "raised_on": [date(2026, 3, 5)],
        }
    )
    judged = judge_rows(OPINION, opened, expected, [KEY], branch_no="0101", as_of=date(2026, 3, 12))
    problems = [f"{row.column_name} {row.code}" for row in judged.problems.itertuples()]
    return problems, judged.accepted.to_dict("records")[0] if len(judged.accepted) else {}


def test_an_opinion_is_accepted_with_its_answer_or_with_what_headquarters_is_asked() -> None:
    problems, answered = judged_opinions(validity="部分成立（只是周末）")
    assert problems == []
    assert (answered["opinion_id"], answered["validity"], answered["answered_on"]) == (4, "partly", date(2026, 3, 10))
    assert answered["handling"] == "已解释佣金标准；只是周末"
    problems, asked = judged_opinions(resolution="需总部处理", answered_on="", answered_by="", request="修改软件")
    assert problems == []
    assert (asked["resolution"], asked["answered_on"], asked["request"]) == ("needs_hq", None, "修改软件")
    assert judged_opinions(answered_on="", answered_by="写信")[0] == [
        "answered_by unknown_choice",
        "answered_on missing",
    ]
    assert judged_opinions(resolution="需总部处理")[0] == ["request missing"]
    assert judged_opinions(request="也看看")[0] == ["request request_unexpected"]
    assert judged_opinions(phone="138****1234")[0] == []
    assert judged_opinions(phone="138****1235")[0] == ["phone other_customer"]


def test_staff_of_the_same_name_are_told_apart_by_their_numbers() -> None:
    assert staff_words({"010101": "王芳", "010102": "李建国", "020203": "王芳"}) == {
        "010101": "王芳(010101)",
        "010102": "李建国",
        "020203": "王芳(020203)",
    }


SHEET = written()
OUTCOME = [column.key for column in CALLBACK.columns].index("outcome")
