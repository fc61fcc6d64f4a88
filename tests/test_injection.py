"""Texts from outside cannot write markup, lines, headers or formulas, whatever they hold."""

from __future__ import annotations

import email
import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from email import policy
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openpyxl
import pandas as pd
import pytest
from house import House, at
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_lists import mails as list_mails

from demo.specimens import kinds, specimens
from models.outcomes import Language
from models.row_code import RowKey, row_code
from models.sheets import SHEETS, Addressee, SheetKind, write_sheet
from models.standing import Standing
from tasks.mail import LANGUAGES, Letter, compose, message_id, render
from tasks.mail.letters import is_control
from tasks.mail.words import SUBJECT_SIGNS

LIVELY = (
    "西城", "张三", "<img src=http://evil.example/x onerror=alert(1)>", "<script>alert(1)</script>", "</td></tr></table>",
    '"><b style="x', "' onload='x", "<!--", "-->", "<![endif]-->", "]]>", "<![CDATA[", "&lt;b&gt;", "&#10;", "&", "<", "</title>",
    "\r\nBcc: all@evil.example", "\r\n\r\n<html>", "\nSubject: other", "\r", "\x00", "\x0b", "\x1b[31m", "\x85", "\u2028", "\u2029",
    "\u202e", "\u2066", "\u200b", "\ufeff", "\ud800", "\ufffe", "=?utf-8?B?QmNj?=", "{{ 7*7 }}", "{% raw %}", "{#", "%(n)s",
    "%s", "{0}", "${x}", "=HYPERLINK(\"http://evil.example\")", "=cmd|' /C calc'!A0", "+1", "-1+2", "@SUM(A1)", "\t=1", "&R&8",
    "_x000D_", "javascript:alert(1)", "长" * 400, "x" * 3_000,
)  # fmt: skip
HOSTILE = st.lists(st.sampled_from(LIVELY) | st.text(max_size=6), min_size=1, max_size=5).map("".join)
HONEST = {
    kind: [
        (specimen, specimen.rendered())
        for language in LANGUAGES
        for specimen in specimens(language).values()
        if specimen.kind == kind
    ]
    for kind in kinds()
}
CODES = {"period", "state", "result", "violations", "code", "return_address", "chart_cid"}
"""Facts that are codes of ours, not texts: an unknown one stops the mail."""


def hurt(value: Any, text: str, key: str = "") -> Any:
    """A fact with every text in it replaced."""
    if isinstance(value, str):
        return value if key in CODES or not value else text
    if isinstance(value, Mapping):
        return {name: hurt(inner, text, str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return value if key in CODES else [hurt(inner, text) for inner in value]
    if isinstance(value, SimpleNamespace):
        return SimpleNamespace(**hurt(vars(value), text))
    if isinstance(value, Standing):
        return replace(value, title=hurt(value.title, text))
    return value


class Skeleton(HTMLParser):
    """A page without its texts: tags with their attributes, comments and declarations in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[Any] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, attrs))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", data))

    def handle_decl(self, decl: str) -> None:
        self.found.append(("declaration", decl))


@pytest.mark.parametrize("kind", kinds())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=HOSTILE, place=st.integers(0, 99))
def test_a_mail_of_hostile_facts_has_the_markup_lines_and_headers_of_an_honest_one(
    kind: str, text: str, place: int
) -> None:
    specimen, honest = HONEST[kind][place % len(HONEST[kind])]
    facts = {key: hurt(value, text, "code" if key in ("sheet", "evidence") else key) for key, value in specimen.facts.items()}
    rendered = render(kind, specimen.language, **facts)

    assert Skeleton(rendered.html).found == Skeleton(honest.html).found
    assert len(rendered.text.split("\n")) == len(honest.text.split("\n"))
    for part in (rendered.subject, rendered.text, rendered.html):
        assert not [sign for sign in part if is_control(sign) and sign != "\n"]
    assert 0 < len(rendered.subject) <= SUBJECT_SIGNS
    assert len(rendered.subject.splitlines()) == 1

    own_id = message_id(kind, "c", "0001", "reader", 1, "hq.example")
    content = [
        compose(
            Letter("reader@branch.example", words.subject, words.html, words.text, (), own_id, datetime(2026, 3, 2, tzinfo=UTC)),
            from_address="huifang@hq.example", from_name="客服中心回访组",
        )
        for words in (honest, rendered)
    ]  # fmt: skip
    before, after = (email.message_from_bytes(message, policy=policy.default) for message in content)
    assert after.keys() == before.keys()
    for name in set(before.keys()) - {"Subject", "Content-Type"}:
        assert after.get_all(name) == before.get_all(name)
    # The standard library may lose a space between two encoded words where it folds.
    assert "".join(str(after["Subject"]).split()) == "".join(rendered.subject.split())
    assert [part.get_content_type() for part in after.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert not [part.defects for part in after.walk() if part.defects]
    assert max(len(line) for line in content[1].split(b"\r\n")) <= 998


@pytest.mark.parametrize("kind", SHEETS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=HOSTILE.map(lambda text: text.replace("\ud800", "")), language=st.sampled_from(LANGUAGES))
def test_a_sheet_of_hostile_texts_has_the_formulas_of_an_honest_one_and_no_link(
    kind: SheetKind, text: str, language: Language
) -> None:
    honest, hostile = (
        openpyxl.load_workbook(io.BytesIO(sheet_with(kind, words, language))) for words in ("西城", text)
    )
    for before, after in zip(honest.worksheets, hostile.worksheets, strict=True):
        assert formulas(after) == formulas(before)
        assert not [cell for row in after.iter_rows() for cell in row if cell.hyperlink]
        for place in ("oddHeader", "oddFooter"):
            for side in ("left", "center", "right"):
                is_said = [getattr(getattr(page, place), side).text for page in (before, after)]
                assert bool(is_said[0]) == bool(is_said[1]), "a branch's name writes no code of the printed header"
    assert [sheet.sheet_state for sheet in hostile] == [sheet.sheet_state for sheet in honest]
    assert sorted(hostile.defined_names) == sorted(honest.defined_names)


def formulas(sheet: Any) -> dict[str, str]:
    return {cell.coordinate: cell.value for row in sheet.iter_rows() for cell in row if cell.data_type == "f"}


def sheet_with(kind: SheetKind, text: str, language: Language) -> bytes:
    """A sheet of two rows whose every text from outside is the same."""
    sheet = SHEETS[kind]
    row = {
        "customer_name": text, "phone": "13800000001", "form": "conduct", "developer": text, "planned_caller": text,
        "due_on": date(2026, 3, 31), "call_on": date(2026, 3, 9), "violation": "other", "stated_on": date(2026, 3, 5),
        "statement": text, "employee": text, "raised_on": date(2026, 3, 5), "opinion": text,
    }  # fmt: skip
    shown = [column.key for column in sheet.columns if not column.by_branch and column.key in row]
    rows = pd.DataFrame(
        [
            {"row_code": row_code(sheet.item, n, RowKey(1, b"a secret for tests"))} | {key: row[key] for key in shown}
            for n in (1, 2)
        ]
    )
    return write_sheet(
        kind, rows, campaign="daily_risk-2026-03", title=text, branch_no="0001", branch_name=text, language=language,
        issued_on=date(2026, 3, 2), addressee=Addressee("hq_service" if kind == "hq_calls" else "operations_director", "c/0001-1"),
    )  # fmt: skip


@pytest.mark.slow
def test_hostile_names_in_the_extracts_reach_mails_and_sheets_as_text_alone(prefect_client: str, tmp_path: Path) -> None:
    house = House.build(tmp_path / "home", prefect_client, customers=400, branches=2)
    nasty = '=HYPERLINK("http://evil.example","x")<img src=http://evil.example/x>{{7*7}}%(n)s\u202e'
    for table, column in (("customers", "customer_name"), ("branches", "branch_name"), ("staff", "staff_name")):
        file = house.home / "inbox" / f"{table}.csv"
        rows = pd.read_csv(file, dtype=str, keep_default_na=False)
        rows[column] = [f"{nasty}{n}" for n in range(len(rows))]
        rows.to_csv(file, index=False)
    house.pull()
    house.draw("daily_risk")
    house.call("run", "dispatch", *at("2026-03-02"))
    lists = list_mails(house)
    assert lists
    for path in (house.home / "outbox").glob("**/*.eml"):
        message = email.message_from_bytes(path.read_bytes(), policy=policy.default)
        page, words = (message.get_body((part,)).get_content() for part in ("html", "plain"))  # type: ignore[union-attr]
        assert "<img" not in page
        assert "&lt;img src=http" in page, "the branch's name is shown"
        assert "{{7*7}}" in words, "and never evaluated"
        assert "\u202e" not in page + words + message["Subject"]
        assert len(message["Subject"]) <= SUBJECT_SIGNS
    for _, _, book in lists.values():
        written = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
        assert not [cell.coordinate for cell in written if cell.data_type == "f" and "evil" in str(cell.value)]
        assert not [cell.coordinate for cell in written if cell.hyperlink]
        assert [cell for cell in written if cell.data_type == "s" and str(cell.value).startswith("=")], "the names are there"
