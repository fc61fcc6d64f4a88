"""The words of every mail: both languages, nothing missing, nothing injected, nothing personal asked for."""

from __future__ import annotations

import email
import os
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from email import policy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from typer.testing import CliRunner

from cli import app
from demo.specimens import Specimen, kinds, specimens
from models.outcomes import Language
from models.standing import BRANCHES, Standing
from tasks.mail import LANGUAGES, TEMPLATES, Letter, Rendered, TemplateFault, Words, compose, render
from tasks.settings import PROJECT

SPECIMENS: dict[Language, dict[str, Specimen]] = {"zh_CN": specimens("zh_CN"), "en": specimens("en")}
MAILS: dict[str, tuple[str, dict[str, Any]]] = {
    name: (specimen.kind, dict(specimen.facts)) for name, specimen in SPECIMENS["zh_CN"].items()
}
GOLDEN = Path(__file__).parent / "golden" / "mails"
STANDING: Standing = MAILS["feedback_hq"][1]["standing"]
SILENT, BRANCH = MAILS["feedback_hq"][1]["attention"]
CASE = MAILS["feedback_compliance"][1]["cases"][0]
PROBLEM = MAILS["receipt"][1]["problems"][0]


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


def files_of(name: str, language: Language) -> dict[Path, str]:
    """A specimen's golden files and what they should hold."""
    rendered = SPECIMENS[language][name].rendered()
    parts = {"subject": rendered.subject + "\n", "txt": rendered.text, "html": rendered.html}
    return {GOLDEN / f"{name}.{language}.{suffix}": part for suffix, part in parts.items()}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", MAILS)
def test_a_mail_is_word_for_word_the_one_that_was_read_and_kept(name: str, language: Language) -> None:
    """HUIFANG_WRITE_GOLDEN=1 keeps the mails as they are now: read the difference before it is committed."""
    for path, part in files_of(name, language).items():
        if os.environ.get("HUIFANG_WRITE_GOLDEN"):
            path.write_text(part, encoding="utf-8", newline="\n")
        assert path.is_file(), f"{path}: no such file; look at the mail, then HUIFANG_WRITE_GOLDEN=1 writes it"
        assert path.read_text(encoding="utf-8") == part, path.name


def test_every_kind_of_mail_has_a_specimen_and_no_golden_file_is_left_over() -> None:
    assert {specimen.kind for specimen in SPECIMENS["zh_CN"].values()} == set(kinds())
    wanted = {path for language in SPECIMENS for name in SPECIMENS[language] for path in files_of(name, language)}
    assert set(GOLDEN.iterdir()) == wanted


def test_every_kind_of_mail_is_rendered_by_a_flow_and_shown_in_the_documents() -> None:
    flows = "\n".join(path.read_text(encoding="utf-8") for path in (PROJECT / "flows").glob("**/*.py"))
    page = (PROJECT / "docs" / "mail.md").read_text(encoding="utf-8")
    for kind in kinds():
        assert f'"{kind}"' in flows
        for language in LANGUAGES:
            assert (PROJECT / "docs" / "img" / "mails" / f"{kind}.{language}.png").is_file()
            assert f"img/mails/{kind}.{language}.png" in page


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", MAILS)
def test_every_mail_says_the_same_in_html_and_text(name: str, language: Language) -> None:
    rendered = SPECIMENS[language][name].rendered()
    assert rendered.subject
    page = re.sub(r"<style>.*?</style>|<title>.*?</title>|<!--.*?-->|<[^>]+>", " ", rendered.html, flags=re.DOTALL)
    figures, told = (set(re.findall(r"\d[\d,.%]*\d|\d", part)) for part in (page, rendered.text))
    assert figures - told == set(), "a figure of the HTML part is missing from the plain text"
    told = set(
        re.findall(r"\d[\d,.%]*\d|\d", re.sub(r"^\d+\. ", "", rendered.text[len(rendered.subject) :], flags=re.M))
    )
    assert told - figures == set(), "a figure of the plain text is missing from the HTML part"
    for rest in ("{{", "{%", "%(", "None", "Undefined", "TemplateModule"):
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
        "parts",
        "awaiting",
        "useless",
        "attachment_names",
        "key_place",
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


@pytest.mark.parametrize("name", MAILS)
def test_the_english_mail_has_no_chinese_and_the_chinese_one_no_english(name: str) -> None:
    rendered = SPECIMENS["en"][name].rendered()
    for part in (
        rendered.subject,
        rendered.text,
        re.sub(r"<style>.*?</style>|style=\"[^\"]*\"", "", rendered.html, flags=re.S),
    ):
        assert re.findall(r"[一-鿿：，。（）【】、；]+", part) == []
    rendered = SPECIMENS["zh_CN"][name].rendered()
    page = re.sub(r"<style>.*?</style>|<!--.*?-->|<[^>]+>", " ", rendered.html, flags=re.DOTALL)
    for part in (rendered.subject, rendered.text, page):
        words = set(re.findall(r"[A-Za-z]{2,}", re.sub(r"\b(?:[0-9a-f]{8}){1,8}\b|\S+@\S+|[HZ]\d{5}-\S+", "", part)))
        assert words <= {"SHA", "xlsx", "mp", "daily", "risk", "nbsp"}, "only the names of things outside our words"


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
        if "mail_subject" in facts:
            hurt["mail_subject"] = evil
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
    name, facts = MAILS["receipt"]
    problem = PROBLEM | {"sheet": '"><script>alert(1)</script>', "column": "<b>"}
    rendered = render(name, "zh_CN", **(facts | {"problems": [problem]}))
    assert "<script" not in rendered.html
    assert "<b>" not in rendered.html


def test_a_return_without_a_single_row_is_never_called_recorded() -> None:
    nothing, evidence = shown("receipt__nothing"), shown("receipt__evidence")
    assert nothing.subject.startswith("【回执·未登记】")
    assert evidence.subject.startswith("【回执·佐证】")
    for part in (nothing.html, nothing.text):
        assert "未找到可读取的登记表或没有填写任何一行，请附上填好的登记表后重新回复。" in part
    for part in (evidence.html, evidence.text):
        assert "已收到佐证 5 份" in part
        assert "未找到" not in part
    for rendered in (nothing, evidence):
        assert "全部登记" not in rendered.html + rendered.text + rendered.subject
    assert "全部登记，谢谢" in shown("receipt__clean").text


def test_a_receipt_names_the_task_of_each_problem_and_never_our_code() -> None:
    for language in LANGUAGES:
        rendered = shown("receipt", language)
        assert "1. H00007-3M8QX-K2T9P" in rendered.text
        assert "2. 回访登记表" in rendered.text
        for part in (rendered.html, rendered.text):
            assert "R07" not in part
            assert "R12" not in part
    assert "其中 3 行尚须再次回访（预约、部分完成或尝试次数不足）。" in shown("receipt__clean").text
    assert "尚须再次回访" not in shown("receipt__rejected").text


def test_headquarters_is_told_first_what_waits_and_all_clear_only_when_nothing_does() -> None:
    name, facts = MAILS["feedback_hq"]
    told = shown("feedback_hq").text.split("需要关注\n")[1].split("\n\n")[0].splitlines()
    assert told[:8] == [
        "- 93 项回访任务已逾期。",
        "- 1 家营业部未返回。",
        "- 1 件案件待自查。",
        "- 8 行登记被退回。",
        "- 1 封邮件发送失败。",
        "- 1 封邮件被退回，对方未收到。",
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
    partly = shown("reminder__partly").text
    assert "下列任务仍未完成：H00007-3M8QX-K2T9P、H00012-9PZ4R-W6N3H；其余 7 项见登记表。" in partly
    assert "拒访、空号等已了结：6" in partly
    assert "案件" not in partly
    assert "下列任务" not in shown("reminder__rejected").text
    assert "待返回自查的案件：2" in shown("reminder__self_check").text


def test_a_reason_of_the_houses_own_is_shown_as_its_code() -> None:
    name, facts = MAILS["feedback_compliance"]
    standing = replace(STANDING, excluded={"dormant": 2431, "blacklisted": 255})
    assert "剔除（blacklisted）：255" in render(name, "zh_CN", **(facts | {"standing": standing})).text


def test_a_branch_without_a_goal_is_told_none() -> None:
    idle = shown("feedback_branch__idle")
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
    name, facts = MAILS["feedback_branch"]
    rendered = render(name, "zh_CN", **facts, chart_cid="chart")
    assert re.search(r'<img[^>]*src="cid:chart"[^>]*width="600"', rendered.html)
    assert "<img" not in shown("feedback_branch").html


def test_a_preview_writes_every_mail_as_a_message_that_opens(tmp_path: Path) -> None:
    words = ["mail", "preview", "--out", str(tmp_path / "mails"), "--language", "en"]
    said = CliRunner().invoke(app, words, env={"HUIFANG_HOME": str(tmp_path / "home")}, catch_exceptions=False)
    assert said.exit_code == 0, said.output
    for name, specimen in SPECIMENS["en"].items():
        message = email.message_from_bytes((tmp_path / "mails" / f"{name}.eml").read_bytes(), policy=policy.default)
        assert message["Auto-Submitted"] == "auto-generated"
        assert message.get_body(("plain",)).get_content().splitlines() == specimen.rendered().text.splitlines()
        assert (tmp_path / "mails" / f"{name}.html").read_text(encoding="utf-8") == specimen.rendered().html
    assert not (tmp_path / "home" / "huifang.sqlite").exists()
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 2


def test_the_documents_name_the_headers_that_a_mail_carries() -> None:
    sent_at = datetime(2026, 3, 2, tzinfo=UTC)
    letter = Letter("reader@branch.example", "s", "<p>h</p>", "t", (), "<a.b@hq.example>", sent_at)
    message = email.message_from_bytes(compose(letter, from_address="a@hq.example", from_name="n"))
    page = (PROJECT / "docs" / "mail.md").read_text(encoding="utf-8").split("## Headers")[1].split("##")[0]
    named = {name for row in re.findall(r"^\| `([^|]*)` \|", page, flags=re.M) for name in row.split("`, `")}
    assert set(message.keys()) - {"MIME-Version", "Content-Type"} == named


def test_an_unknown_code_or_template_stops_the_mail() -> None:
    name, facts = MAILS["reminder"]
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
