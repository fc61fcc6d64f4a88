"""Whose return it is, which rows count, and what the others are told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.outcomes import LEGAL_CONTENTS, OUTCOMES
from models.returns import (
    PROBLEMS,
    File,
    Judgement,
    Opened,
    OpenedError,
    Related,
    Table,
    Workbook,
    judge_rows,
    judge_sender,
    match_files,
    message_verdict,
    problem_message,
)
from models.row_code import RowKey, row_code
from models.sheets import CALLBACK, SELF_CHECK, Sheet

KEY = RowKey(1, b"a secret for the tests")
AS_OF = date(2026, 3, 10)
CODE = row_code("assignment", 17, KEY)
FILLED = {
    "row_code": CODE,
    "customer_name": "张*",
    "phone": "013800001234",
    "form": "风险提示",
    "developer": "李建国",
    "due_on": "2026-03-20",
    "call_on": "2026-03-05",
    "planned_caller": "王芳",
    "called_on": "2026-03-05",
    "called_at": "14:30",
    "caller_name": "王芳",
    "channel": "电话",
    "attempts": "1",
    "outcome": "成功·无异常",
    **dict.fromkeys(LEGAL_CONTENTS, "已核·无异常"),
    "violation": None,
    "remark": None,
}
CHECKED = {
    "row_code": row_code("case", 3, KEY),
    "customer_name": "张*",
    "phone": "013800001234",
    "form": "执业行为",
    "violation": "代客操作",
    "stated_on": "2026-03-05",
    "due_on": "2026-03-10",
    "checked_on": "2026-03-09",
    "checker_name": "赵敏",
    "truth": "不属实",
    "holdings_checked": "相符",
    "interviewed": "已访谈",
    "handling": "客户误解，已说明",
}


def expected(**more: Any) -> pd.DataFrame:
    first = {
        "assignment_id": 17,
        "branch_no": "0101",
        "campaign_id": "daily_risk-2026-03",
        "customer_name": "张*",
        "phone": "013800001234",
        "due_on": date(2026, 3, 20),
        "assigned_on": date(2026, 3, 2),
        "attempts_required": 3,
        "related": (Related("010105", "李建国"),),
    }
    second = first | {"assignment_id": 18, "customer_name": "李*", "phone": "0755-83990011", "related": ()}
    third = first | {"assignment_id": 19, "branch_no": "0202", "customer_name": "赵**", "phone": ""}
    return pd.DataFrame([first | more, second, third])


CASES = pd.DataFrame(
    [
        {
            "case_id": 3,
            "branch_no": "0101",
            "campaign_id": "daily_risk-2026-03",
            "customer_name": "张*",
            "phone": "013800001234",
            "due_on": date(2026, 3, 9),
            "opened_on": date(2026, 3, 6),
        }
    ]
)


def returned(
    *rows: dict[str, Any], sheet: Sheet = CALLBACK, formulas: Sequence[tuple[int, int]] = (), **more: Any
) -> Opened:
    header = [column.label.zh + ("*" if column.required else "") for column in sheet.columns]
    table = Table(
        sheet.name.zh, [header, *([row.get(c.key) for c in sheet.columns] for row in rows)], frozenset(formulas)
    )
    return Opened(workbooks=[Workbook("a.xlsx", [table])], **more)


def judged(*rows: dict[str, Any], **more: Any) -> Judgement:
    return judge_rows(CALLBACK, returned(*rows, **more), expected(), [KEY], branch_no="0101", as_of=AS_OF)


def faults(judgement: Judgement) -> list[tuple[str, str]]:
    return list(zip(judgement.problems["column_name"], judgement.problems["code"], strict=True))


# ---- rows


def test_an_honest_row_is_accepted_with_everything_it_says() -> None:
    judgement = judged(FILLED)
    assert judgement.problems.empty
    row = judgement.accepted.iloc[0].to_dict()
    assert row.pop("content_sha256")
    assert row == {
        "assignment_id": 17,
        "sheet": "回访登记表",
        "row": 2,
        "outcome": "done_clear",
        "called_on": date(2026, 3, 5),
        "called_at": "14:30",
        "caller_name": "王芳",
        "channel": "phone",
        "attempts": 1,
        "answers": dict.fromkeys(LEGAL_CONTENTS, "clear"),
        "violation": "",
        "remark": "",
        "completes": True,
        "fails": False,
        "is_late": False,
    }


BLANK = dict.fromkeys(LEGAL_CONTENTS)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"row_code": CODE[:-1] + ("0" if CODE[-1] != "0" else "1")}, ("row_code", "unknown_code")),
        ({"row_code": row_code("assignment", 999, KEY)}, ("row_code", "unknown_code")),
        ({"row_code": row_code("assignment", 19, KEY)}, ("row_code", "other_branch")),
        ({"customer_name": "李*"}, ("customer_name", "other_customer")),
        ({"phone": "13900001234"}, ("phone", "other_customer")),
        ({"customer_name": None, "phone": None}, ("customer_name", "no_identity")),
        ({"called_on": None}, ("called_on", "missing")),
        ({"caller_name": "  "}, ("caller_name", "missing")),
        ({"outcome": "打过了"}, ("outcome", "unknown_choice")),
        ({"identity": "已核"}, ("identity", "unknown_choice")),
        ({"called_on": "昨天"}, ("called_on", "not_a_date")),
        ({"called_on": "2026-03-11"}, ("called_on", "date_in_future")),
        ({"called_on": "2026-03-01"}, ("called_on", "date_too_early")),
        ({"called_at": "午饭后"}, ("called_at", "not_a_time")),
        ({"attempts": "许多"}, ("attempts", "not_a_count")),
        ({"caller_name": "王芳、李 建国"}, ("caller_name", "recusal")),
        ({"outcome": "成功·疑似违规"}, ("violation", "violation_missing")),
        ({"violation": "代客操作"}, ("violation", "violation_unexpected")),
        ({"outcome": "成功·有意见建议"}, ("remark", "remark_missing")),
        ({"full_mandate": None}, ("full_mandate", "answer_missing")),
        ({"full_mandate": "未核"}, ("full_mandate", "answer_missing")),
        ({"full_mandate": "已核·有异常"}, ("full_mandate", "flagged_but_clear")),
    ],
)
def test_a_wrong_row_is_sent_back_with_its_column_and_code(change: dict[str, Any], fault: tuple[str, str]) -> None:
    judgement = judged(FILLED | change)
    assert judgement.accepted.empty
    assert faults(judgement) == [fault]
    assert (judgement.problems["sheet"][0], judgement.problems["row"][0]) == ("回访登记表", 2)


STAFF = {"010105": "李建国", "010107": "赵敏", "010108": "王芳", "020203": "李建国", "020204": "赵敏"}
SERVED = (
    Related("010105", "李建国"),  # the developer at the draw
    Related("010107", "赵敏", date(2024, 1, 1), date(2026, 3, 4)),
    Related("010108", "王芳", date(2026, 3, 6), None),
)


def told(**change: str) -> list[tuple[str, str]]:
    """The faults of a call to a customer with the relations of SERVED."""
    rows = expected(related=SERVED)
    return faults(
        judge_rows(CALLBACK, returned(FILLED | change), rows, [KEY], branch_no="0101", as_of=AS_OF, staff=STAFF)
    )


RECUSED = [("caller_name", "recusal")]


@pytest.mark.parametrize(
    ("called_on", "caller_name", "told_so"),
    [
        ("2026-03-04", "赵敏", RECUSED),  # the last day on which he served
        ("2026-03-05", "赵敏", []),
        ("2026-03-05", "王芳", []),
        ("2026-03-06", "王芳", RECUSED),  # the first day on which she serves
        ("2026-03-05", "李建国", RECUSED),  # whoever developed the customer stays off, whatever the day
        ("2026-03-06", "孙丽、王 芳", RECUSED),
    ],
)
def test_nobody_calls_whom_he_serves_on_the_day_of_the_call(
    called_on: str, caller_name: str, told_so: list[tuple[str, str]]
) -> None:
    assert told(called_on=called_on, caller_name=caller_name) == told_so


@pytest.mark.parametrize(
    "caller_name",
    ["李建国(020203)", "李建国（020203）", "李 建国 工号：020203", "020203", "20203", "王芳、李建国(020203)"],
)
def test_another_person_of_the_same_name_may_call_under_his_staff_number(caller_name: str) -> None:
    assert told(caller_name=caller_name) == []


@pytest.mark.parametrize(
    ("caller_name", "code"),
    [
        ("010105", "recusal"),
        ("10105", "recusal"),  # without the zero that a spreadsheet took
        ("李建国(010105)", "recusal"),
        ("孙丽(010105)", "recusal"),
        ("李建国(020204)", "recusal"),  # the number is somebody else's
        ("李建国(999999)", "recusal"),  # the number is nobody's
        ("王芳 李建国(020203)", "recusal"),  # whose number it is cannot be told
        ("李建国、李建国(020203)", "recusal"),
        ("999999", "unknown_staff"),
    ],
)
def test_a_staff_number_excuses_nobody_but_its_owner(caller_name: str, code: str) -> None:
    assert told(caller_name=caller_name) == [("caller_name", code)]


def test_a_call_without_a_readable_day_is_compared_with_the_developer_of_the_draw_only() -> None:
    assert told(called_on="昨天", caller_name="王芳") == [("called_on", "not_a_date")]
    assert told(called_on="昨天", caller_name="李建国") == [("called_on", "not_a_date"), *RECUSED]


def test_where_nobody_is_related_anybody_may_call() -> None:
    for caller_name in ("李建国", "010105"):
        rows = expected(related=())
        opened = returned(FILLED | {"caller_name": caller_name})
        assert faults(judge_rows(CALLBACK, opened, rows, [KEY], branch_no="0101", as_of=AS_OF)) == []


def test_every_fault_of_a_row_is_told_at_once() -> None:
    assert faults(judged(FILLED | {"called_on": None, "attempts": "x", "identity": None})) == [
        ("called_on", "missing"),
        ("attempts", "not_a_count"),
        ("identity", "answer_missing"),
    ]


def test_a_formula_in_a_result_cell_is_refused_and_one_elsewhere_is_not() -> None:
    outcome = [column.key for column in CALLBACK.columns].index("outcome") + 1
    assert faults(judged(FILLED, formulas=[(2, outcome)])) == [("outcome", "formula")]
    assert len(judged(FILLED, formulas=[(2, 5)]).accepted) == 1


def test_a_row_without_any_branch_cell_is_neither_accepted_nor_sent_back() -> None:
    untouched = {c.key: FILLED[c.key] for c in CALLBACK.columns if c.key in FILLED and not c.by_branch}
    judgement = judged(untouched)
    assert judgement.accepted.empty
    assert judgement.problems.empty
    assert message_verdict([judgement]) == ("rejected", "no_rows")


@pytest.mark.parametrize(
    "phone", ["13800001234", "13800001234.0", "1.38E+10", "138 0000 1234", "'013800001234", "１３８００００１２３４"]
)
def test_a_phone_that_a_spreadsheet_maimed_is_still_the_same_phone(phone: str) -> None:
    assert len(judged(FILLED | {"phone": phone}).accepted) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"called_on": "2026.3.5"},
        {"called_on": "46086"},
        {"called_on": "2026年3月5日"},
        {"called_at": "14：30"},
        {"called_at": "0.604166666666667"},
        {"outcome": "　成功 • 无异常"},
        {"outcome": "Done · clear"},
        {"attempts": "1.0"},
        {"attempts": "１次"},
        {"channel": "phone"},
        {"row_code": CODE.lower().replace("-", "–")},
        {"customer_name": "张＊"},
        {"phone": None},
    ],
)
def test_the_same_answer_written_otherwise_is_the_same_content(change: dict[str, Any]) -> None:
    assert list(judged(FILLED | change).accepted["content_sha256"]) == list(judged(FILLED).accepted["content_sha256"])


def test_a_remark_glued_to_an_answer_is_kept_as_remark() -> None:
    row = judged(FILLED | {"outcome": "成功·有意见建议（佣金偏高）"}).accepted.iloc[0]
    assert (row["outcome"], row["remark"]) == ("done_opinion", "佣金偏高")


def test_one_code_twice_counts_once_when_equal_and_not_at_all_when_not() -> None:
    same = judged(FILLED, FILLED)
    assert (len(same.accepted), len(same.problems)) == (1, 0)
    other = judged(FILLED, FILLED | {"called_at": "15:00"}, FILLED)
    assert other.accepted.empty
    assert [code for _, code in faults(other)] == ["conflicting_rows"] * 3


def test_copied_down_results_of_another_customer_are_refused_by_name_and_phone() -> None:
    copied = FILLED | {"row_code": row_code("assignment", 18, KEY)}
    judgement = judged(FILLED, copied)
    assert list(judgement.accepted["assignment_id"]) == [17]
    assert faults(judgement) == [("customer_name", "other_customer")]
    assert message_verdict([judgement]) == ("partly", "rows_rejected")


def test_no_answer_passes_the_place_on_only_after_the_programmes_attempts() -> None:
    missed = FILLED | BLANK | {"outcome": "无人接听"}
    assert [bool(judged(missed | {"attempts": n}).accepted["fails"][0]) for n in ("2", "3")] == [False, True]


def test_a_row_after_its_due_date_is_accepted_and_marked_late() -> None:
    late = judge_rows(CALLBACK, returned(FILLED), expected(), [KEY], branch_no="0101", as_of=date(2026, 3, 21))
    assert list(late.accepted["is_late"]) == [True]


def test_headquarters_may_answer_for_a_branch_and_another_branch_may_not() -> None:
    results = {
        branch: len(judge_rows(CALLBACK, returned(FILLED), expected(), [KEY], branch_no=branch, as_of=AS_OF).accepted)
        for branch in ("HQ", "0101", "0202")
    }
    assert results == {"HQ": 1, "0101": 1, "0202": 0}


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(OUTCOMES)),
    st.lists(st.sampled_from(["已核·无异常", "已核·有异常", "未核", None]), min_size=5, max_size=5),
)
def test_a_completed_row_always_has_five_answers(outcome: str, answers: list[str | None]) -> None:
    row = FILLED | dict(zip(LEGAL_CONTENTS, answers, strict=True)) | {"outcome": outcome, "remark": "客户意见"}
    judgement = judged(row | {"violation": "代客操作" if outcome == "done_suspect" else None})
    assert len(judgement.accepted) + (not judgement.problems.empty) == 1
    for accepted in judgement.accepted.to_dict("records"):
        assert not accepted["completes"] or "not_asked" not in accepted["answers"].values()
        assert not (accepted["completes"] and accepted["fails"])


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from([column.key for column in CALLBACK.columns]), st.none() | st.text(max_size=30)))
def test_whatever_stands_in_the_cells_a_row_is_judged_and_never_twice(change: dict[str, str | None]) -> None:
    judgement = judged(FILLED | change)
    assert len(judgement.accepted) + judgement.rows_rejected <= 1


def test_an_unreadable_or_truncated_workbook_is_told_by_its_number() -> None:
    locked = Opened(workbooks=[Workbook("a.xlsx", error="wrong_password")])
    judgement = judge_rows(CALLBACK, locked, expected(), [KEY], branch_no="0101", as_of=AS_OF)
    assert judgement.problems[["sheet", "row", "code"]].to_numpy().tolist() == [["#1", 0, "wrong_password"]]
    assert judge_rows(SELF_CHECK, locked, CASES, [KEY], branch_no="0101", as_of=AS_OF).problems.empty, "told once"
    cut = judged(FILLED, defects=["CloseBoundaryNotFoundDefect"])
    assert cut.accepted.empty
    assert faults(cut) == [("", "truncated")]


def test_a_self_check_is_judged_like_a_call() -> None:
    def judge(change: dict[str, Any]) -> Judgement:
        return judge_rows(
            SELF_CHECK, returned(CHECKED | change, sheet=SELF_CHECK), CASES, [KEY], branch_no="0101", as_of=AS_OF
        )

    row = judge({}).accepted.iloc[0].to_dict()
    assert row.pop("content_sha256")
    assert row == {
        "case_id": 3,
        "sheet": "自查情况说明表",
        "row": 2,
        "truth": "false",
        "holdings_checked": "match",
        "interviewed": "interviewed",
        "handling": "客户误解，已说明",
        "checked_on": date(2026, 3, 9),
        "checker_name": "赵敏",
        "is_late": True,
    }
    assert faults(judge({"truth": None, "checked_on": "2026-03-05"})) == [
        ("checked_on", "date_too_early"),
        ("truth", "missing"),
    ]


def test_every_problem_has_a_sentence_in_both_languages_that_names_the_place() -> None:
    for code in PROBLEMS:
        chinese = problem_message(code, "zh_CN", sheet="回访登记表", row=12, column_name="called_on")
        assert re.match(r"工作表“回访登记表”第 12 行“回访日期”：\S", chinese)
        english = problem_message(code, "en", sheet="Callback sheet", row=12, column_name="called_on")
        assert re.match(r"sheet “Callback sheet”, row 12, “Called on”: \S", english)


# ---- senders

ROSTER = pd.DataFrame(
    {
        "branch_no": ["0101", "0101", "0202", "0303", "HQ"],
        "role": ["operations_director", "deputy", "operations_director", "deputy", "hq_service"],
        "email": [
            "B0101@branch.example",
            "b0101@Branch.example",
            "b0202@branch.example",
            "b0202@branch.example",
            "hq@hq.example",
        ],
    }
)


def sender(address: str = "b0101@branch.example", **more: Any) -> tuple[str | None, str, str]:
    letter = Opened(**{"from_headers": 1, "from_addresses": [address], **more})
    found = judge_sender(letter, ROSTER, "huifang@hq.example")
    return found.branch_no, found.verdict, found.reason


def test_a_registered_address_speaks_for_its_branch() -> None:
    assert sender() == ("0101", "ok", "")
    assert sender("HQ@hq.example") == ("HQ", "ok", "")


@pytest.mark.parametrize(
    ("more", "verdict", "reason"),
    [
        ({"address": "x@evil.example"}, "quarantined", "unknown_sender"),
        ({"address": "b0202@branch.example"}, "quarantined", "sender_of_several_branches"),
        ({"from_headers": 2}, "quarantined", "several_from_headers"),
        ({"from_headers": 0, "from_addresses": []}, "quarantined", "no_from"),
        ({"from_addresses": ["b0101@branch.example", "x@evil.example"]}, "quarantined", "several_from_addresses"),
        ({"from_defects": ["InvalidHeaderDefect"]}, "quarantined", "from_defect"),
        ({"error": "timeout"}, "quarantined", "timeout"),
        ({"address": "huifang@HQ.example"}, "notice", "own_mail"),
        ({"is_report": True}, "notice", "bounce"),
        ({"is_null_return_path": True}, "notice", "bounce"),
        ({"address": "MAILER-DAEMON@mx.example"}, "notice", "bounce"),
        ({"auto_submitted": "auto-replied"}, "notice", "auto_reply"),
        ({"precedence": "bulk"}, "notice", "bulk"),
        (
            {"auto_submitted": "auto-generated", "workbooks": [Workbook("a.xlsx")]},
            "quarantined",
            "automatic_with_workbook",
        ),
    ],
)
def test_nobody_else_speaks_for_a_branch(more: dict[str, Any], verdict: str, reason: str) -> None:
    assert sender(**more) == (None, verdict, reason)


def test_a_mail_that_only_brings_evidence_named_by_its_row_is_accepted() -> None:
    files = [
        File(1, f"录音_{CODE}.mp3", "audio/mpeg", 9, "0" * 64, "x"),
        File(2, "logo.png", "image/png", 9, "1" * 64, "y"),
    ]
    matched = match_files(Opened(files=files), [KEY])
    assert matched == {1: ("assignment", 17)}
    assert message_verdict([], files_matched=len(matched)) == ("accepted", "")


def test_a_report_of_another_shape_is_no_message() -> None:
    with pytest.raises(OpenedError):
        Opened.from_report({"from": "x"})


def test_no_name_the_sender_made_up_is_repeated() -> None:
    page = Table("张三13912345678", [["任务编码"], ["H00099-AAAAA-AAAAA", "x"]])
    books = [Workbook("身份证110108197009066182.xlsx", [page]), Workbook("b.xlsx", error="unreadable")]
    found = judge_rows(CALLBACK, Opened(workbooks=books), expected(), [KEY], branch_no="0101", as_of=AS_OF)
    assert not any("139" in place or "110108" in place for place in found.problems["sheet"])
    assert "#2" in set(found.problems["sheet"])


def test_a_text_no_workbook_could_hold_is_sent_back() -> None:
    assert faults(judged(FILLED | {"remark": "好" * 2001})) == [("remark", "too_long")]
    assert faults(judged(FILLED | {"remark": "好" * 2000})) == []
