"""The words of every mail: both languages, nothing missing, nothing injected, nothing personal asked for."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from models.feedback import STRATA, estimate
from models.standing import BRANCHES, Standing
from tasks.mail import LANGUAGES, TEMPLATES, Rendered, TemplateFault, Words, render

BRANCH = {
    "branch_no": "0001",
    "branch_name": "北京西城证券营业部",
    "base": 12345,
    "eligible": 11002,
    "goal": 1101,
    "drawn": 96,
    "reserve": 30,
    "assigned": 96,
    "attempted": 90,
    "completed": 81,
    "open": 9,
    "replaced": 4,
    "withdrawn": 1,
    "expired": 1,
    "overdue": 3,
    "completed_year": 255,
    "findings": 2,
    "cases": 2,
    "opinions": 5,
    "rows_rejected": 4,
    "late": 6,
    "state": "partly",
}
SILENT = BRANCH | {
    "branch_no": "0002",
    "branch_name": "上海徐汇证券营业部",
    "attempted": 0,
    "completed": 0,
    "open": 90,
    "overdue": 90,
    "state": "silent",
    "findings": 0,
    "cases": 0,
    "opinions": 0,
}
GIVEN_UP = {
    "number": 1, "public": "4032.24", "public_on": "2026-01-05", "by": "林合规", "at": "2026-01-05 17:00", "reason": "录入有误",
}  # fmt: skip
STANDING = Standing(
    given_up=[GIVEN_UP],
    campaign="daily_risk-2026-03",
    programme="daily_risk",
    title={"zh_CN": "日常合规风险提示回访", "en": "Daily risk-warning callbacks"},
    period="2026-03",
    as_of=date(2026, 3, 31),
    base=24690,
    eligible=22004,
    excluded={"dormant": 2431, "suspended": 255, "minor": 0},
    waived=0,
    goal=2202,
    drawn=192,
    reserve=60,
    assigned=192,
    attempted=90,
    completed=81,
    completed_year=510,
    open=99,
    replaced=8,
    withdrawn=2,
    expired=2,
    overdue=93,
    mails={"claimed": 43, "sent": 40, "failed": 1, "unknown": 2, "in_flight": 0},
    messages={
        "seen": 31,
        "accepted": 22,
        "partly": 4,
        "rejected": 1,
        "quarantined": 2,
        "notice": 1,
        "held": 0,
        "duplicate": 1,
    },
    findings=2,
    cases=2,
    opinions=5,
    outcomes={"done_clear": 74, "done_suspect": 2, "done_opinion": 5},
    violations={"password_known": 1, "sharing_profit": 1},
    case_results={"confirmed": 1, "waiting": 1},
    contradictions={"dormant_but_trading": 3},
    shortfalls={"exhausted": 4},
    estimate=estimate(
        pd.DataFrame([("0101", "*", "base", 22004, 510, 500, 480, 6)], columns=list(STRATA.columns)), made_by="branch"
    ),
    frame_sha256="a3" * 32,
    plan_sha256="b7" * 32,
    sample_sha256="c9" * 32,
    branches=BRANCHES.validate(pd.DataFrame([BRANCH, SILENT])),
)
COMMON = {
    "branch_name": "北京西城证券营业部",
    "title": "日常合规风险提示回访",
    "period": "2026-03",
    "due_on": date(2026, 3, 31),
    "return_address": "huifang@hq.example",
    "sender_name": "客服中心回访组",
}
LIST = COMMON | {"attachment_name": "回访登记表_0001_2026-03.xlsx", "key_place": "总部回访组密函"}
REMINDER = COMMON | {
    "number": 1,
    "assigned": 96,
    "completed": 81,
    "open": 9,
    "failed": 6,
    "tasks": ["C00007-3M8QX-K2T9P", "C00012-9PZ4R-W6N3H"],
    "tasks_left_off": 7,
    "rows_rejected": 4,
    "cases_overdue": 2,
    "is_overdue": False,
}
PROBLEM = {
    "task": "C00007-3M8QX-K2T9P",
    "sheet": "回访登记表",
    "row": 17,
    "column": "回访日期",
    "code": "R07",
    "advice": "请填写 2026-3-5 这样的日期",
}
RECEIPT = COMMON | {
    "sheet": "callback_sheet",
    "received_at": datetime(2026, 3, 30, 1, 5, tzinfo=UTC),
    "reference": "9f2c41ab",
    "accepted": 81,
    "rejected": 4,
    "files": 0,
    "open_again": 3,
    "problems": [
        PROBLEM,
        PROBLEM | {"task": "", "row": 21, "column": "联系电话", "code": "R12", "advice": "与名单不符，请勿改动"},
    ],
    "problems_left_off": 0,
    "is_late": False,
}
CASE = SimpleNamespace(
    code="Z00003-7K3QX-M2T9P",
    branch_name="北京西城证券营业部",
    violations=["password_known", "other"],
    result="waiting",
)
MAILS: dict[str, tuple[str, dict[str, Any]]] = {
    "assignment": ("assignment", LIST | {"rows": 96, "supplement": 0}),
    "assignment_supplement": ("assignment", LIST | {"rows": 4, "supplement": 2}),
    "self_check": (
        "self_check",
        LIST | {"cases": 2, "workdays": 3, "attachment_name": "自查情况说明表_0001_2026-03.xlsx"},
    ),
    "commitment": (
        "commitment",
        {
            "title": "日常合规风险提示回访",
            "period": "2026-01",
            "number": 2,
            "programme_year": "daily_risk-2026",
            "frame_sha256": "775a6fefa2be37a072569b4dbdda75e93238f6b382166e2ad1a2bdb213b738ab",
            "plan_sha256": "ec20ed47de684fcbaffb51c89706e074723f14f1f206c28bd7efb34c3ea14885",
            "k0": "5" * 64,
            "state_sha256": "02d58b0c508d33d9caff1f91f0e62ff0b6a9fa0aa873ca0d1aeed6b2e04e11ab",
            "committed_at": datetime(2026, 1, 4, 0, 0, tzinfo=UTC),
            "public": "上证综指收盘价",
            "given_up": [
                {
                    "number": 1,
                    "public": "4032.24",
                    "public_on": date(2026, 1, 5),
                    "reason": "录入有误",
                    "by": "林合规",
                    "at": datetime(2026, 1, 5, 9, 0, tzinfo=UTC),
                }
            ],
            "sender_name": "客服中心回访组",
        },
    ),
    "commitment_first": (
        "commitment",
        {
            "title": "日常合规风险提示回访",
            "period": "2026-01",
            "number": 1,
            "programme_year": "daily_risk-2026",
            "frame_sha256": "775a6fefa2be37a072569b4dbdda75e93238f6b382166e2ad1a2bdb213b738ab",
            "plan_sha256": "ec20ed47de684fcbaffb51c89706e074723f14f1f206c28bd7efb34c3ea14885",
            "k0": "5" * 64,
            "state_sha256": "02d58b0c508d33d9caff1f91f0e62ff0b6a9fa0aa873ca0d1aeed6b2e04e11ab",
            "committed_at": datetime(2026, 1, 4, 0, 0, tzinfo=UTC),
            "public": "上证综指收盘价",
            "given_up": [],
            "sender_name": "客服中心回访组",
        },
    ),
    "reminder_silent": ("reminder", REMINDER | {"state": "silent", "completed": 0, "open": 90}),
    "reminder_partly": ("reminder", REMINDER | {"state": "partly", "is_overdue": True, "number": 2}),
    "reminder_rejected": ("reminder", REMINDER | {"state": "rejected", "tasks": [], "tasks_left_off": 0}),
    "reminder_self_check": ("reminder", REMINDER | {"state": "self_check", "is_overdue": True}),
    "receipt_partly": ("receipt", RECEIPT | {"is_late": True, "problems_left_off": 12}),
    "receipt_clean": ("receipt", RECEIPT | {"rejected": 0, "problems": []}),
    "receipt_rejected": ("receipt", RECEIPT | {"accepted": 0, "open_again": 0, "sheet": "self_check"}),
    "receipt_nothing": ("receipt", RECEIPT | {"accepted": 0, "rejected": 0, "open_again": 0, "problems": []}),
    "receipt_evidence": (
        "receipt",
        RECEIPT | {"accepted": 0, "rejected": 0, "open_again": 0, "files": 5, "problems": []},
    ),
    "feedback_branch": (
        "feedback_branch",
        {
            "standing": STANDING,
            "branch": BRANCH,
            "completion": 81 / 96,
            "median_completion": 0.42,
            "year_completion": 255 / 1101,
            "sender_name": "客服中心回访组",
        },
    ),
    "feedback_branch_idle": (
        "feedback_branch",
        {
            "standing": STANDING,
            "branch": BRANCH | {"assigned": 0, "goal": 0},
            "completion": None,
            "median_completion": None,
            "year_completion": None,
            "sender_name": "客服中心回访组",
            "chart_cid": "chart",
        },
    ),
    "feedback_hq": (
        "feedback_hq",
        {
            "standing": STANDING,
            "completion": 81 / 192,
            "year_completion": 510 / 2202,
            "median_completion": 0.42,
            "states": {"done": 0, "partly": 1, "silent": 1, "not_sent": 0, "nothing_due": 0},
            "attention": [SILENT, BRANCH],
            "attention_left_off": 3,
            "silent": 1,
            "quarantined": 6,
            "sender_name": "客服中心回访组",
        },
    ),
    "feedback_compliance": (
        "feedback_compliance",
        {
            "standing": STANDING,
            "cases": [CASE],
            "cases_left_off": 1,
            "sender_name": "客服中心回访组",
        },
    ),
}


OPTIONS = {"silent": "false", "extensions": "jinja2.ext.do"}


def texts_of_the_templates() -> set[str]:
    # The report page has a catalogue and a test of its own.
    methods = [("report*.j2", "ignore"), ("**.j2", "jinja2.ext:babel_extract")]
    found = extract_from_dir(TEMPLATES, methods, {"**.j2": OPTIONS})
    return {message if isinstance(message, str) else message[0] for _, _, message, _, _ in found}


def english() -> dict[str, str]:
    with (TEMPLATES / "locale/en/LC_MESSAGES/huifang.po").open("rb") as source:
        return {str(entry.id): str(entry.string) for entry in read_po(source) if entry.id and not entry.fuzzy}


def shown(mail: str, language: str = "zh_CN") -> Rendered:
    name, facts = MAILS[mail]
    return render(name, language, **facts)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("mail", MAILS)
def test_every_mail_says_the_same_in_html_and_text(mail: str, language: str) -> None:
    name, facts = MAILS[mail]
    rendered = render(name, language, **facts)
    assert rendered.subject
    assert "\n" not in rendered.subject
    assert "\r" not in rendered.subject
    page = re.sub(r"<style>.*?</style>|<title>.*?</title>|<!--.*?-->|<[^>]+>", " ", rendered.html, flags=re.DOTALL)
    figures = set(re.findall(r"\d[\d,.%]*\d|\d", page))
    told = set(re.findall(r"\d[\d,.%]*\d|\d", rendered.text))
    assert figures - told == set(), "a figure of the HTML part is missing from the plain text"
    for rest in ("{{", "{%", "%(", "None", "Undefined"):
        assert rest not in rendered.html
        assert rest not in rendered.text


@pytest.mark.parametrize("mail", MAILS)
def test_a_missing_fact_stops_the_mail_and_is_named(mail: str) -> None:
    name, facts = MAILS[mail]
    said = {}
    for fact in facts:
        try:
            render(name, "zh_CN", **{key: value for key, value in facts.items() if key != fact})
        except TemplateFault as fault:
            said[fact] = str(fault)
    assert {fact for fact, message in said.items() if fact not in message} == set()
    # What only the other branch of a choice shows may be missing.
    assert set(facts) - set(said) <= {
        "chart_cid",
        "assigned",
        "completed",
        "open",
        "rows_rejected",
        "problems_left_off",
        "cases_overdue",
        "failed",
        "tasks",
        "tasks_left_off",
    }


def test_no_text_of_the_templates_lacks_its_english() -> None:
    translated = english()
    assert {text for text in texts_of_the_templates() if not translated.get(text)} == set()


def test_no_english_stands_without_its_text_in_the_templates() -> None:
    assert set(english()) - texts_of_the_templates() == set()


def test_a_translation_names_the_same_facts_as_its_text() -> None:
    for text, translation in english().items():
        assert sorted(re.findall(r"%\(\w+\)s", text)) == sorted(re.findall(r"%\(\w+\)s", translation)), text


@pytest.mark.parametrize("mail", MAILS)
def test_the_english_mail_has_no_chinese_but_the_facts(mail: str) -> None:
    def latin(value: Any) -> Any:
        if isinstance(value, str):
            return "X" if re.search(r"[一-鿿]", value) else value
        if isinstance(value, dict):
            return {key: latin(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [latin(inner) for inner in value]
        if isinstance(value, SimpleNamespace):
            return SimpleNamespace(**latin(vars(value)))
        return value

    name, facts = MAILS[mail]
    rendered = render(name, "en", **latin(facts))
    for part in (rendered.subject, rendered.text, re.sub(r"<!--.*?-->", "", rendered.html, flags=re.DOTALL)):
        assert re.findall(r"[一-鿿：，。（）【】、；]+", part) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_branch_name_cannot_write_html_or_lines_of_its_own(language: str) -> None:
    evil = "西城<img src=http://evil.example/x>\r\nBcc: all@evil.example\n\n密码请回复\u202excod.exe\u2028"
    evil += "{{ 7*7 }}%(n)s"
    for name, facts in MAILS.values():
        hurt = dict(facts)
        if "branch_name" in facts:
            hurt["branch_name"] = evil
        if "branch" in facts:
            hurt["branch"] = facts["branch"] | {"branch_name": evil}
        if "public" in facts:
            hurt["public"] = evil
        if "attention" in facts:
            hurt["attention"] = [SILENT | {"branch_name": evil}]
        if "cases" in facts and isinstance(facts["cases"], list):
            hurt["cases"] = [SimpleNamespace(**(vars(CASE) | {"branch_name": evil}))]
        rendered = render(name, language, **hurt)
        assert "<img src=http" not in rendered.html
        assert "&lt;img src=http" in rendered.html
        assert "\u202e" not in rendered.html + rendered.text + rendered.subject
        assert "\n" not in rendered.subject
        assert not any(line.startswith(("Bcc:", "密码请回复")) for line in rendered.text.splitlines())
        assert "{{ 7*7 }}%(n)s" in rendered.text, "the name is shown as it stands, never evaluated"


def test_what_a_branch_wrote_is_shown_and_never_live() -> None:
    name, facts = MAILS["receipt_partly"]
    problem = PROBLEM | {"sheet": '"><script>alert(1)</script>', "column": "<b>"}
    rendered = render(name, "zh_CN", **(facts | {"problems": [problem]}))
    assert "<script" not in rendered.html
    assert "<b>" not in rendered.html


def test_a_return_without_a_single_row_is_never_called_recorded() -> None:
    nothing, evidence = shown("receipt_nothing"), shown("receipt_evidence")
    assert nothing.subject.startswith("【回执·未登记】")
    assert evidence.subject.startswith("【回执·佐证】")
    for part in (nothing.html, nothing.text):
        assert "未找到可读取的登记表或没有填写任何一行，请附上填好的登记表后重新回复。" in part
    for part in (evidence.html, evidence.text):
        assert "已收到佐证 5 份" in part
        assert "未找到" not in part
    for rendered in (nothing, evidence):
        assert "全部登记" not in rendered.html + rendered.text + rendered.subject
    assert "全部登记，谢谢" in shown("receipt_clean").text


def test_a_receipt_names_the_task_of_each_problem_and_never_our_code() -> None:
    for language in LANGUAGES:
        rendered = shown("receipt_partly", language)
        assert "1. C00007-3M8QX-K2T9P" in rendered.text
        assert "2. 回访登记表" in rendered.text
        for part in (rendered.html, rendered.text):
            assert "R07" not in part
            assert "R12" not in part
    assert "其中 3 行尚须再次回访（预约、部分完成或尝试次数不足）。" in shown("receipt_clean").text
    assert "尚须再次回访" not in shown("receipt_rejected").text


def test_headquarters_is_told_first_what_waits_and_all_clear_only_when_nothing_does() -> None:
    name, facts = MAILS["feedback_hq"]
    told = shown("feedback_hq").text.split("需要关注\n")[1].split("\n\n")[0].splitlines()
    assert told[:7] == [
        "- 93 项回访任务已逾期。",
        "- 1 家营业部未返回。",
        "- 1 件案件待自查。",
        "- 8 行登记被退回。",
        "- 1 封邮件发送失败。",
        "- 2 封邮件发送结果不明，需人工判定。",
        "- 6 封邮件被隔离，需人工判断。",
    ]
    done = BRANCH | {"open": 0, "overdue": 0, "completed": 90, "rows_rejected": 0, "state": "done"}
    idle = dict.fromkeys(("base", "assigned", "completed", "open", "replaced", "findings", "opinions"), 0)
    calm = replace(
        STANDING,
        **idle | {key: done[key] for key in idle},
        eligible=9659,
        excluded={"dormant": 2686},
        withdrawn=1,
        expired=1,
        overdue=0,
        mails=dict.fromkeys(STANDING.mails, 0),
        messages=dict.fromkeys(STANDING.messages, 0),
        case_results={"confirmed": 2},
        contradictions={},
        shortfalls={},
        branches=BRANCHES.validate(pd.DataFrame([done])),
    )
    clear = facts | {"standing": calm, "silent": 0, "quarantined": 0}
    assert "没有待处理的事项。" in render(name, "zh_CN", **clear).text
    for fact in ("silent", "quarantined"):
        assert "没有待处理的事项" not in render(name, "zh_CN", **(clear | {fact: 1})).text


def test_a_reminder_lists_open_tasks_and_speaks_of_cases_only_when_they_are_due() -> None:
    partly = shown("reminder_partly").text
    assert "下列任务仍未完成：C00007-3M8QX-K2T9P、C00012-9PZ4R-W6N3H；其余 7 项见登记表。" in partly
    assert "拒访、空号等已了结：6" in partly
    assert "案件" not in partly
    assert "下列任务" not in shown("reminder_rejected").text
    assert "待返回自查的案件：2" in shown("reminder_self_check").text


def test_a_branch_without_a_goal_is_told_none() -> None:
    idle = shown("feedback_branch_idle")
    for part in (idle.html, idle.text):
        assert "全年应完成" not in part
        assert "全年进度" not in part
    assert "全年应完成：1,101" in shown("feedback_branch").text


def test_the_page_survives_mail_programs_that_drop_style_sheets() -> None:
    rendered = shown("feedback_hq")
    assert "<!--[if mso]>" in rendered.html
    body = re.sub(r"<!--.*?-->", "", rendered.html.split("<body", 1)[1], flags=re.DOTALL)
    assert not re.search(r"position:|float:|<link|<script|@import|url\(|https?://", rendered.html.split("<head>")[1])
    for cell in re.findall(r"<td[^>]*>", body):
        assert "font-family" in cell, "Outlook takes no font from outside a cell"
    assert not re.search(r"#(?:fff|000)(?:[0-9a-f]{3})?\b", rendered.html.lower()), "dark modes invert white and black"


def test_a_chart_is_an_inline_picture_with_its_size_and_never_remote() -> None:
    rendered = shown("feedback_branch_idle")
    assert re.search(r'<img[^>]*src="cid:chart"[^>]*width="600"', rendered.html)
    assert "<img" not in shown("feedback_branch").html


def test_an_unknown_code_or_template_stops_the_mail() -> None:
    name, facts = MAILS["reminder_silent"]
    with pytest.raises(TemplateFault, match="lost"):
        render(name, "zh_CN", **(facts | {"state": "lost"}))
    with pytest.raises(TemplateFault, match="no such template"):
        render("greeting", "zh_CN")
    with pytest.raises(TemplateFault, match="language"):
        Words("fr")


def test_figures_dates_and_periods_are_written_as_the_language_writes_them() -> None:
    chinese, english_words = Words("zh_CN"), Words("en")
    assert [chinese.period(code) for code in ("2026-03", "2026-03b", "2026Q1", "2026", "2026-03-05")] == [
        "2026年3月",
        "2026年3月中旬",
        "2026年第一季度",
        "2026年",
        "2026年3月5日（周四）",
    ]
    assert [english_words.period(code) for code in ("2026-03", "2026-03c", "2026Q1", "2026")] == [
        "March 2026",
        "March 2026, from day 21",
        "Q1 2026",
        "2026",
    ]
    assert chinese.day(date(2026, 3, 5)) == "2026年3月5日（周四）"
    assert english_words.day(date(2026, 3, 5)) == "Thu, 5 Mar 2026"
    assert chinese.moment(datetime(2026, 3, 4, 16, 30, tzinfo=UTC)) == "2026年3月5日 00:30"
    assert chinese.number(1234567) == "1,234,567"
    assert [chinese.percent(ratio) for ratio in (0.8437, 1.0, None)] == ["84.4%", "100.0%", "—"]
    with pytest.raises(TemplateFault, match="2026-3"):
        chinese.period("2026-3")
    assert english_words("休眠") == "dormant"
