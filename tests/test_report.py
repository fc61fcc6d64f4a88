"""The report headquarters reads: every figure on it, nothing fetched, both languages, the same bytes twice."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser

import pandas as pd
import pytest
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po

from models.canonical import REASONS
from models.feedback import STRATA, Estimate, clauses, estimate
from models.standing import BRANCHES, Facts, Standing, attention, outlook, stand, waits
from models.tables import (
    Assignment,
    Campaign,
    Finding,
    Message,
    ProgrammeYear,
    ReturnRow,
)
from tasks import lake, records
from tasks.board import TEMPLATES, percent, report_page, write_report
from tasks.settings import Settings
from tasks.store import open_store

WRITTEN = datetime(2026, 4, 1, 1, 30, tzinfo=UTC)


def branch(no, name, state, **counts):
    return dict.fromkeys(BRANCHES.columns, 0) | counts | {"branch_no": no, "branch_name": name, "state": state}


def estimated(*rows, draw="base", **more):
    """From rows of group, stratum, customers, taken, completed and with a finding; everybody taken was tried."""
    frame = pd.DataFrame(
        [(group, key, draw, n, taken, taken, done, found) for group, key, n, taken, done, found in rows],
        columns=list(STRATA.columns),
    )
    return estimate(frame, made_by="branch", **more)


def troubled() -> Standing:
    """Four branches: one done, one partly and overdue, one silent, one never reached; mails and messages went wrong."""
    branches = pd.DataFrame(
        [
            branch("0001", "北京西城营业部", "done", base=4323, eligible=4101, goal=411, drawn=37, reserve=19, assigned=37,
                   attempted=37, completed=35, replaced=2, completed_year=103, findings=2, cases=2, opinions=3, late=1),
            branch("0002", "上海徐汇营业部", "partly", base=3517, eligible=3302, goal=331, drawn=31, reserve=16, assigned=33,
                   attempted=21, completed=17, open=13, replaced=1, withdrawn=1, expired=1, overdue=9, completed_year=67,
                   findings=5, cases=4, opinions=1, rows_rejected=6, late=4),
            branch("0003", "广州天河营业部", "silent", base=2804, eligible=2600, goal=260, drawn=24, reserve=12, assigned=24,
                   open=24, overdue=24, completed_year=41),
            branch("0004", "成都<高新>营业部", "not_sent", base=1009, eligible=905, goal=91, drawn=8, reserve=4, assigned=8,
                   open=8),
        ]
    )  # fmt: skip
    return Standing(
        campaign="daily_risk-2026-03",
        programme="daily_risk",
        title={"zh_CN": "日常合规风险提示回访", "en": "Daily risk-warning callback"},
        period="2026-03",
        as_of=date(2026, 3, 31),
        base=11653,
        eligible=10908,
        excluded={"dormant": 612, "suspended": 131, "house_rule": 2},
        waived=0,
        goal=1093,
        drawn=100,
        reserve=51,
        assigned=102,
        attempted=58,
        completed=52,
        completed_year=211,
        open=45,
        replaced=3,
        withdrawn=1,
        expired=1,
        overdue=33,
        mails={"claimed": 29, "sent": 25, "failed": 1, "unknown": 3, "in_flight": 0},
        messages={
            "seen": 44, "accepted": 26, "partly": 6, "rejected": 4, "quarantined": 2, "notice": 3, "held": 1, "duplicate": 2,
        },
        findings=7,
        cases=6,
        opinions=4,
        outcomes={"done_clear": 42, "done_suspect": 7, "done_opinion": 3, "refused": 5, "no_answer": 14},
        violations={"password_known": 3, "promising_return": 4},
        case_results={"confirmed": 2, "unverifiable": 1, "waiting": 3},
        contradictions={"dormant_but_trading": 17},
        shortfalls={"capacity": 8},
        estimate=estimated(
            ("0001", "retail", 3800, 122, 99, 3), ("0001", "affluent", 301, 11, 4, 0), ("0002", "*", 3302, 98, 67, 5),
            ("0003", "*", 2600, 71, 41, 0), silent_periods=["2026-01"],
        ),
        frame_sha256="f" * 64,
        plan_sha256="9" * 64,
        sample_sha256="5a" * 32,
        branches=BRANCHES.validate(branches[list(BRANCHES.columns)]),
    )  # fmt: skip


def page(standing=None, language="zh_CN", **more) -> str:
    return report_page(standing or troubled(), written_at=WRITTEN, language=language, **more)


class Reader(HTMLParser):
    """What a reader gets: the texts, each element's attributes, and whether everything that is opened is closed."""

    VOID = frozenset({"meta", "input", "br", "path", "rect", "use", "stop"})

    def __init__(self, text):
        super().__init__()
        self.texts, self.elements, self.open, self.unclosed = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.unclosed.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in {"style", "script"}:
            self.texts.append(data)


def visible(text) -> str:
    return " ".join(" ".join(Reader(text).texts).split())


def numbers_of(standing):
    for name in (
        "base", "eligible", "waived", "goal", "drawn", "reserve", "assigned", "attempted", "completed", "completed_year", "open",
        "replaced", "withdrawn", "expired", "overdue", "findings", "cases", "opinions",
    ):  # fmt: skip
        yield name, getattr(standing, name)
    for group in (
        "excluded", "mails", "messages", "outcomes", "violations", "case_results", "contradictions", "shortfalls",
    ):  # fmt: skip
        for code, n in getattr(standing, group).items():
            yield f"{group}.{code}", n


def test_every_figure_of_the_standing_is_on_the_page():
    standing = troubled()
    tiles = dict(re.findall(r"<dt>(.*?)</dt><dd>([\d,]+)", page(standing)))
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th><td class="n">([\d,]+)</td></tr>', page(standing))
    shown = [*tiles.values(), *(n for _, n in rows)]
    for name, n in numbers_of(standing):
        assert f"{n:,}" in shown, name
        shown.remove(f"{n:,}")  # a figure that two names share has to stand there twice


def test_every_figure_of_every_branch_is_in_its_row():
    standing = troubled()
    found = re.findall(r'<tr data-state="(\w+)">(.*?)</tr>', page(standing))
    assert [state for state, _ in found] == list(standing.branches["state"])
    for row, (_, cells) in zip(standing.branches.to_dict("records"), found, strict=True):
        shown = re.findall(r'<td class="n[^"]*">([\d,]+)</td>', cells)
        counts = sorted(f"{n:,}" for name, n in row.items() if name not in {"branch_no", "branch_name", "state"})
        assert sorted(shown) == counts
        assert row["branch_no"] in cells


def test_an_attempt_at_the_draw_that_was_given_up_stands_on_the_page():
    given_up = {
        "number": 1,
        "public": "4032.24",
        "public_on": "2026-01-05",
        "by": "Lin",
        "at": "2026-01-05 17:00",
        "reason": "typo",
    }
    standing = replace(troubled(), given_up=[given_up])
    assert "第 1 次抽取已作废" in page(standing)
    assert "Public number 4032.24 (2026-01-05); given up by Lin on 2026-01-05 17:00; reason: typo" in page(
        standing, language="en"
    )


def test_a_recalled_mail_stands_on_the_page_with_what_the_law_asks_for():
    recall = {
        "mail": 17, "kind": "assignment", "campaign": "daily_risk-2026-03", "recipient": "0002", "persons": 96, "by": "Lin",
        "data_kinds": ["masked_name", "phone"], "is_locked": True, "cause": "<b>moved</b>", "measures": "rang him",
        "at": "2026-03-02 10:12", "request": "sent",
    }  # fmt: skip
    told = page(replace(troubled(), recalls=[recall]), language="en")
    for words in (
        "96",
        "phone numbers; the attachment is locked",
        "&lt;b&gt;moved",
        "Request to destroy: Sent",
        "rang him",
    ):
        assert words in told
    assert "recalls_unasked" not in {wait.kind for wait in waits(replace(troubled(), recalls=[recall]))}
    asked = replace(troubled(), recalls=[recall | {"request": ""}])
    assert "recalls_unasked" in {wait.kind for wait in waits(asked)}
    assert 'id="recalls"' not in page(troubled())


def test_the_page_fetches_nothing_and_carries_its_hashes():
    text = page(related=[troubled()])
    assert "http" not in re.sub(r'<meta http-equiv="[^"]*"', "", text)
    for tag, attributes in Reader(text).elements:
        assert tag not in {"link", "iframe", "img", "object", "embed", "image"}
        assert "src" not in attributes
        for name in ("href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
    assert "url(" not in re.sub(r"url\(#", "", text)
    for value in ("f" * 64, "9" * 64, "5a" * 32):
        assert value in text


def test_what_is_opened_is_closed_and_no_id_is_given_twice():
    reader = Reader(page(related=[troubled()]))
    assert (reader.open, reader.unclosed) == ([], [])
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in reader.elements:
        for name in attributes.get("aria-labelledby", "").split():
            assert name in ids


def test_a_name_with_markup_in_it_stays_text():
    assert "成都<高新>" not in page()
    assert "成都<高新>营业部" in visible(page())


def test_charts_are_named_and_have_their_numbers_in_a_table():
    text = page()
    drawings = re.findall(r"<figure>(.*?)</figure>", text, flags=re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        assert re.search(
            r'<svg [^>]*role="img" aria-labelledby="(\w+)-title \1-desc"><title [^>]+>[^<]+</title><desc', drawing
        )
        drawn = set(re.findall(r"<text[^>]*>([^<]*)</text>", drawing))
        assert drawn
        assert re.search(r"<tbody>.*<th scope=\"row\">", drawing, flags=re.DOTALL)
    outcomes = next(drawing for drawing in drawings if "outcomes-title" in drawing)
    bars = set(re.findall(r"<text[^>]*>([\d,]+)</text>", outcomes))
    assert {str(n) for n in troubled().outcomes.values()} == bars
    assert "@0" not in text


def test_every_table_has_a_caption_and_every_header_a_scope():
    reader = Reader(page(related=[troubled()]))
    tags = [tag for tag, _ in reader.elements]
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attributes for tag, attributes in reader.elements if tag == "th")
    assert dict(reader.elements)["html"]["lang"] == "zh-CN"


def test_balances_show_both_sides_and_a_broken_one_is_called_broken():
    fine, wrong = troubled(), replace(troubled(), opinions=5, open=44)
    assert "✗" not in visible(page(fine))
    assert all(balance.holds for balance in fine.balances())
    text = page(wrong)
    broken = re.findall(r'<tr class="broken">(.*?)</tr>', text)
    assert len(broken) == sum(not balance.holds for balance in wrong.balances()) == 3
    assert any('<td class="n">4</td><td class="n">5</td>' in row for row in broken)
    assert 'role="alert"' in text
    assert 'role="alert"' not in page(fine)
    assert len(re.findall(r"✓", page(fine))) == len(fine.balances())


def test_a_broken_balance_of_one_branch_opens_its_table():
    branches = troubled().branches.copy()
    branches.loc[1, "open"] += 1
    branches.loc[2, "open"] -= 1
    assert "<details open>" in page(replace(troubled(), branches=branches))
    assert "<details open>" not in page()


def test_the_answers_stand_in_the_head():
    head = visible(page().split("</header>")[0])
    for said in (
        "年度目标 1,093 户",
        "本年已完成 211 户",
        "2 家营业部逾期 33 户",
        "未返回 1 家，名单未送达 1 家",
        "疑似违规 7 件",
    ):
        assert said in head
    for wait in waits(troubled()):
        assert f"{wait.count:,}" in head


def test_the_english_page_has_no_chinese_word_of_ours():
    standing = troubled()
    english = standing.branches.assign(branch_name=["Beijing", "Shanghai", "Guangzhou", "Chengdu"])
    shown = visible(page(replace(standing, branches=english), "en", related=[replace(standing, branches=english)]))
    assert re.findall(r"[\u3000-\u9fff\uff00-\uffef]+", shown) == []
    assert "Daily risk-warning callback" in shown
    assert '<html lang="en">' in page(language="en")


def test_the_catalogue_has_each_text_of_the_report_and_no_other():
    said = set(REASONS.values())
    for path in sorted(TEMPLATES.glob("report*.j2")):
        found = extract_from_file("jinja2.ext:babel_extract", path, options={"silent": "false"})
        said |= {message for _, message, _, _ in found}
    with (TEMPLATES / "locale/en/LC_MESSAGES/report.po").open("rb") as source:
        catalogue = {entry.id: entry for entry in read_po(source, locale="en") if entry.id}
    assert set(catalogue) == said
    for text, entry in catalogue.items():
        assert entry.string, text
        for pattern in (r"%\(\w+\)s", r"{\w+}"):
            assert sorted(re.findall(pattern, text)) == sorted(re.findall(pattern, entry.string)), text


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_same_figures_and_time_give_the_same_bytes_under_the_same_name(tmp_path, language):
    first, second = (
        write_report(
            troubled(), related=[troubled()], written_at=WRITTEN, language=language, directory=tmp_path / place
        )
        for place in "ab"
    )
    assert first.read_bytes() == second.read_bytes()
    assert first.name == second.name
    assert first.name.startswith("daily_risk-2026-03_2026-03-31_20260401T0930_")
    other = write_report(replace(troubled(), opinions=9), written_at=WRITTEN, language=language, directory=first.parent)
    assert other != first
    assert sorted(first.parent.iterdir()) == sorted([first, other])


def test_a_campaign_without_calls_still_gives_a_page():
    nothing = replace(
        troubled(), **dict.fromkeys(("drawn", "reserve", "assigned", "attempted", "completed", "completed_year", "open"), 0),
        **dict.fromkeys(("replaced", "withdrawn", "expired", "overdue", "findings", "cases", "opinions", "goal"), 0),
        mails=dict.fromkeys(troubled().mails, 0), messages=dict.fromkeys(troubled().messages, 0), outcomes={}, violations={},
        case_results={}, contradictions={}, shortfalls={},
        branches=troubled().branches.assign(
            **dict.fromkeys(set(BRANCHES.columns) - {"branch_no", "branch_name", "state", "base", "eligible"}, 0),
            state="nothing_due",
        ),
    )  # fmt: skip
    shown = visible(page(nothing))
    assert "本期未设年度目标" in shown
    assert "没有逾期" in shown
    assert "没有待办" in shown


def test_the_outlook_prorates_this_period_and_ends_at_the_goal():
    standing = replace(
        troubled(), period="2026-06", completed=60, open=50, overdue=10, completed_year=500, goal=1000, eligible=9999
    )
    found = outlook(standing)  # 184 days after a period of 30; of the open calls only those not overdue count
    assert (found.low, found.high) == (500 + 60 * 184 // 30, 1000)
    assert (found.verdict, found.remaining) == ("undecided", 500)
    on_track = outlook(replace(standing, goal=868))
    assert (on_track.verdict, on_track.low, on_track.high) == ("on_track", 868, 868)
    behind = outlook(replace(standing, goal=1154))
    assert (behind.verdict, behind.high) == ("behind", 540 + 100 * 184 // 30)
    reached = outlook(replace(standing, goal=490))
    assert (reached.verdict, reached.low, reached.high) == ("reached", 500, 500)
    assert outlook(replace(standing, eligible=600)).high == 600
    assert outlook(replace(standing, period="2026Q4", goal=501)).low == 500
    assert outlook(replace(standing, period="2026-12#2", goal=501)).days_left == 0


def test_overdue_calls_do_not_make_the_goal():
    standing = replace(
        troubled(), period="2026-03", completed=1, open=900, overdue=900, completed_year=1, goal=1599, eligible=1599
    )
    found = outlook(standing)
    assert (found.verdict, found.low) == ("behind", found.high)
    assert "按已完成的进度不能完成" in visible(page(standing))
    assert outlook(replace(standing, overdue=0)).verdict == "undecided"
    assert "推算年末可达 1,599 户（100%）" in visible(page(replace(standing, completed=700, completed_year=700)))


def test_violations_stand_by_their_count_and_other_last():
    kinds = {"other": 9, "password_known": 1, "promising_return": 4}
    for text in page(replace(troubled(), violations=kinds)).split("</header>"):
        places = [text.index(name) for name in ("承诺收益", "获知密码", ">其他<")]
        assert places == sorted(places)


def test_branches_stand_in_the_order_of_their_numbers():
    def order(*numbers):
        text = page(replace(troubled(), branches=troubled().branches.assign(branch_no=numbers)))
        return re.findall(r'<tr data-state="\w+"><th scope="row"><span class="no">(\w+)</span>', text)

    assert order("10", "9", "100", "1") == ["1", "9", "10", "100"]
    assert order("A10", "A9", "100", "1") == ["1", "100", "A10", "A9"]


def test_a_column_that_is_zero_at_every_branch_is_named_and_not_shown():
    standing = troubled()
    assert "各家均为 0 的列未列出" not in page(standing)
    text = page(replace(standing, branches=standing.branches.assign(withdrawn=0, goal=0)))
    assert "各家均为 0 的列未列出：年度目标、已撤回。" in visible(text)
    head = re.search(r'<table id="branches">.*?</thead>', text, flags=re.DOTALL)[0]
    assert "已撤回" not in head
    assert "本年完成率" not in head
    assert "本年完成" in head


def test_a_chart_of_some_branches_says_so_and_its_table_has_them_all():
    standing = troubled()
    one = standing.branches.iloc[[1]]
    many = pd.concat([one.assign(branch_no=str(no)) for no in range(1, 41)], ignore_index=True)
    figures = re.findall(r"<figure>(.*?)</figure>", page(replace(standing, branches=many)), flags=re.DOTALL)
    chart = next(figure for figure in figures if "branches-title" in figure)
    assert "前 15 家，其余见下表" in chart
    assert chart.count('<th scope="row">') == 40
    assert "其余见下表" not in page(standing).split('id="by-branch"')[0].split("</header>")[1]


def test_what_waits_adds_up_and_names_who():
    found = {wait.kind: (wait.count, wait.who) for wait in waits(troubled())}
    assert found == {
        "not_sent": (1, "headquarters"), "mails_unknown": (3, "headquarters"), "mails_failed": (1, "headquarters"),
        "quarantined": (2, "headquarters"), "held": (1, "headquarters"), "silent": (1, "branch"), "overdue": (33, "branch"),
        "rows_rejected": (6, "branch"), "self_checks": (3, "operations_director"),
        "final_opinions": (3, "compliance"),
    }  # fmt: skip


def test_a_month_without_trouble_has_nobody_to_look_at():
    assert [row["branch_no"] for row in attention(troubled())] == ["0004", "0003", "0002"]
    fine = troubled().branches.assign(state="done", overdue=0, rows_rejected=0)
    assert attention(replace(troubled(), branches=fine)) == []


def test_a_share_is_never_rounded_up_to_all_of_it():
    assert [percent(*pair) for pair in ((1, 3), (9999, 10000), (5, 5), (0, 7), (3, 0), (7, 5))] == [
        "33.3%", "99.9%", "100.0%", "0.0%", "—", "140.0%",
    ]  # fmt: skip


def test_five_hundred_branches_stay_light():
    one = troubled().branches.iloc[[1]]
    many = pd.concat([one.assign(branch_no=f"{no:04d}") for no in range(500)], ignore_index=True)
    assert len(page(replace(troubled(), branches=many))) < 3_000_000


# ---- the estimate -------------------------------------------------------------------------------------------


def section_of(text) -> str:
    return re.search(r'<h2 id="estimate">.*?</section>', text, flags=re.DOTALL)[0]


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_limits_response_worst_cases_and_assumption_stand_beside_the_estimate(language):
    found = troubled().estimate
    assert isinstance(found, Estimate)
    text = section_of(page(language=language))
    for clause in clauses(found, language):
        assert clause in visible(text)
    cells = re.findall(r'<td class="n">([^<]*)</td>', text)
    assert cells == [
        "10,003", "302", "302", "211", "8", "3.6%", "1.2%", "1.8%", "7.1%", "206", "69.9%", "2.6%", "33.1%",
    ]  # fmt: skip
    assert {"zh_CN": "自报比例", "en": "as branches report it"}[language] in text


def test_five_completions_are_a_count_with_an_upper_limit_and_no_rate():
    few = estimated(("0001", "*", 4101, 9, 5, 0))
    text = visible(section_of(page(replace(troubled(), estimate=few))))
    assert "不可估计：完成回访不足 30 户" in text
    assert "已抽取 9 户、完成 5 户，其中 0 户有疑似违规" in text
    assert "95% 单侧精确上限为 45.1%" in text
    assert "标准误" not in text


def test_a_branch_without_completions_is_named_and_the_others_figures_are_shown():
    silent = estimated(("0001", "*", 900, 80, 70, 3), ("0002", "*", 100, 9, 0, 0))
    text = visible(section_of(page(replace(troubled(), estimate=silent))))
    assert "没有完成回访的层：1 个（0002/*）" in text
    assert "其余各层的客户（占应访客户 90.0%）中有疑似违规的自报比例估计为 4.3%" in text
    assert "标准误" in text


def test_a_coverage_programme_says_that_the_company_cannot_be_estimated():
    covered = estimated(("M1", "*", 80, 60, 60, 5), draw="coverage")
    for language, said in (
        ("zh_CN", "不可估计：按营销人员覆盖抽取的回访不代表公司的全体客户"),
        ("en", "not estimable: callbacks drawn to cover marketers do not stand for all customers of the company"),
    ):
        assert said in visible(section_of(page(replace(troubled(), estimate=covered), language)))


def frame_of(columns, *rows):
    return pd.DataFrame(list(rows), columns=columns.split())


def year_so_far(**more) -> Facts:
    """January, in which nobody of three answered, and March with 40 calls of 1,000 customers in one branch."""
    january = [(i, "risk-2026-01", f"C{i:03}", "0001", "0001", "*", date(2026, 1, 20)) for i in range(1, 4)]
    march = [(i, "risk-2026-03", f"C{i:03}", "0001", "0001", "*", date(2026, 3, 18)) for i in range(4, 44)]
    calls = frame_of("assignment_id campaign_id customer_id branch_no group_key stratum due_on", *january, *march)
    rows = [(i, i, 1, "done_clear", True, False, False) for i in range(4, 44)]
    return Facts(
        **{
            "campaign": "risk-2026-03", "programme": "risk", "title": {"zh_CN": "回访", "en": "Calls"}, "period": "2026-03",
            "base": 1000, "eligible": 1000, "waived": 0, "contradictions": {}, "frame_sha256": "", "plan_sha256": "",
            "sample_sha256": "", "branch_names": {}, "eligible_by_branch": {"0001": 1000},
            "quota": frame_of("group_key branch_no eligible goal", ("0001", "0001", 1000, 100)),
            "draw": "base", "caller": "branch",
            "strata": frame_of("group_key stratum customers minimum places", ("0001", "*", 1000, 0, 100)),
            "codes": calls[["customer_id", "group_key", "stratum"]],
            "completed": frame_of("assignment_id caller violation", *((i, "branch", "") for i in range(4, 44))),
            "periods": {"risk-2026-01": "2026-01", "risk-2026-03": "2026-03", "other-2026-02": "2026-02"},
            "exclusions": frame_of("branch_no reason customers"), "groups": frame_of("shortfall reason"),
            "drawn": frame_of("kind branch_no"),
            "calls": calls.loc[calls["campaign_id"] == "risk-2026-03", ["assignment_id", "branch_no", "due_on"]],
            "calls_year": calls,
            "rows": frame_of("id assignment_id version outcome completes fails is_late", *rows),
            "ends": frame_of("assignment_id kind"), "carried": set(), "findings": frame_of("branch_no violation"),
            "cases": frame_of("branch_no result"), "opinions": frame_of("branch_no"), "mails": frame_of("outcome"),
            "verdicts": frame_of("message_id verdict campaign_id"), "sightings": frame_of("message_id"),
            "rows_sent_back": {}, "signals": frame_of("branch_no caller_name signal rows reported"),
        } | more
    )  # fmt: skip


def test_the_year_so_far_is_estimated_from_every_campaign_of_it():
    completed = year_so_far().completed.copy()
    completed.loc[completed["assignment_id"].isin([4, 5]), "violation"] = "password_known"
    found = stand(year_so_far(completed=completed), date(2026, 3, 31)).estimate
    assert (found.customers, found.taken, found.attempted, found.completed, found.with_finding) == (1000, 43, 40, 40, 2)
    assert (found.rate, found.made_by, found.silent_periods) == (0.05, "branch", ("2026-01",))
    assert stand(year_so_far(), date(2026, 1, 20)).estimate.silent_periods == ()  # its calls are not due yet


def test_a_customer_called_twice_in_a_year_counts_once():
    facts = year_so_far()
    again = facts.calls_year.assign(customer_id=facts.calls_year["customer_id"].replace("C004", "C001"))
    found = stand(year_so_far(calls_year=again), date(2026, 3, 31)).estimate
    assert (found.taken, found.completed) == (42, 40)


def test_calls_are_coded_as_the_campaign_s_frame_codes_them_and_who_is_not_in_it_is_left_out():
    codes = year_so_far().codes.assign(stratum=["A"] * 20 + ["B"] * 23).iloc[:-2]
    strata = frame_of("group_key stratum customers minimum places", ("0001", "A", 400, 0, 1), ("0001", "B", 600, 0, 1))
    found = stand(year_so_far(codes=codes, strata=strata), date(2026, 3, 31)).estimate
    assert (found.customers, found.taken, found.completed) == (1000, 41, 38)
    assert found.effective_size == pytest.approx(1 / (0.16 / 17 + 0.36 / 21), abs=1e-6)


def test_who_made_the_completed_calls_is_said():
    completed = year_so_far().completed
    for callers, made_by in ((["hq"] * 40, "hq"), (["hq"] * 3 + ["branch"] * 37, "both")):
        assert (
            stand(year_so_far(completed=completed.assign(caller=callers)), date(2026, 3, 31)).estimate.made_by
            == made_by
        )
    nobody = year_so_far(completed=completed.iloc[:0], rows=year_so_far().rows.iloc[:0])
    found = stand(nobody, date(2026, 3, 31)).estimate
    assert (found.reason, found.made_by, found.silent_periods) == ("nobody_answered", "branch", ("2026-01", "2026-03"))


def test_a_coverage_programme_is_counted_and_not_estimated():
    found = stand(year_so_far(draw="coverage", strata=None, codes=None), date(2026, 3, 31)).estimate
    assert (found.reason, found.customers, found.taken, found.completed) == ("coverage", 1000, 43, 40)


def returned(number, assignment_id, version, outcome, completes, violation=""):
    return ReturnRow(
        id=number, message_id=1, assignment_id=assignment_id, version=version, sheet="s", row=number, outcome=outcome,
        called_on=date(2026, 3, 5), called_at="10:00", caller_name="", channel="phone", attempts=1, answers={},
        violation=violation, remark="", completes=completes, fails=False, is_late=False, content_sha256=str(number),
        booked_on=date(2026, 3, 6),
    )  # fmt: skip


def test_a_finding_counts_as_long_as_the_row_that_states_it_stands(tmp_path):
    year = dict.fromkeys(("plan", "plan_sha256", "frame_path", "frame_sha256", "code_version"), "")
    with open_store(Settings(home=tmp_path)).begin() as session:
        session.add(
            ProgrammeYear(id="risk-2026", programme="risk", year=2026, base_on=date(2025, 12, 31), snapshots={}, base=9,
                          eligible=9, waived=0, contradictions={}, frozen_at=WRITTEN, **year)
        )  # fmt: skip
        session.add(Message(id=1, sha256="1", path="p", size_bytes=1, first_seen_at=WRITTEN))
        session.flush()
        session.add(
            Campaign(id="risk-2026-03", programme_year_id="risk-2026", period="2026-03", as_of=date(2026, 3, 2),
                     calendar_version="", state_sha256="", committed_at=WRITTEN)
        )  # fmt: skip
        session.flush()
        for number, caller in ((1, "branch"), (2, "branch"), (3, "hq"), (4, "branch")):
            session.add(
                Assignment(id=number, campaign_id="risk-2026-03", customer_id=str(number), branch_no="0001", caller=caller,
                           form="risk_warning", developer_id="", due_on=date(2026, 3, 18), calendar_version="",
                           assigned_on=date(2026, 3, 2), assigned_at=WRITTEN)
            )  # fmt: skip
        session.flush()
        session.add_all(
            [
                returned(1, 1, 1, "done_suspect", True, "password_known"), returned(2, 1, 2, "done_clear", True),
                returned(3, 2, 1, "done_clear", True), returned(4, 2, 2, "done_suspect", True, "other"),
                returned(5, 3, 1, "done_clear", True), returned(6, 4, 1, "no_answer", False),
            ]
        )  # fmt: skip
        session.flush()
        for row, call, violation in ((1, 1, "password_known"), (4, 2, "other")):
            session.add(
                Finding(return_row_id=row, assignment_id=call, campaign_id="risk-2026-03", customer_id=str(call),
                        branch_no="0001", violation=violation, found_on=date(2026, 3, 6))
            )  # fmt: skip
        session.flush()
        found = records.calls_completed(session)
        assert records.periods_of_campaigns(session) == {"risk-2026-03": "2026-03"}
    assert list(found.itertuples(index=False, name=None)) == [(1, "branch", ""), (2, "branch", "other"), (3, "hq", "")]


def test_customers_are_coded_by_the_frame_and_strangers_left_out(tmp_path):
    settings = Settings(home=tmp_path)
    path = settings.lake / "frames" / "risk-2026" / "frame.parquet"
    path.parent.mkdir(parents=True)
    columns = "customer_id branch_no group_key stratum"
    frame_of(columns, ("2", "0001", "0001", "*"), ("1", "0001", "0001", "A"), ("9", "0002", "0002", "A")).to_parquet(
        path
    )
    found = lake.codes_of(settings, "frames/risk-2026/frame.parquet", pd.Series(["1", "2", "2", "7"]))
    assert list(found.itertuples(index=False, name=None)) == [("1", "0001", "A"), ("2", "0001", "*")]
