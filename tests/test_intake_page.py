"""The page about an intake: every count on it, both sides of each equation, every reason in words, nothing fetched."""

import copy
import re
from datetime import UTC, datetime

import pandas as pd
import pytest
from test_report import Reader, visible

from models.canonical import REASONS, TABLES
from tasks.board import write_intake
from tasks.board.intake import LISTED_ROWS, intake_page
from tasks.board.words import share, size, words_in
from tasks.settings import PROJECT

WRITTEN = datetime(2026, 3, 1, 1, 30, tzinfo=UTC)
COLUMNS = ["row_number", "file", "column", "reason", "key"]
RULES = {"internal_test_account": "内部测试户，不是客户；其流水随之忽略"}


def file(name, accepted, ignored=0, rejected=0, size_bytes=1_234_567):
    sha256 = f"{sum(name.encode()) * 7919:064x}"
    rows = accepted + ignored + rejected
    return {
        "name": name, "sha256": sha256, "size_bytes": size_bytes, "rows": rows, "accepted": accepted, "ignored": ignored,
        "rejected": rejected,
    }  # fmt: skip


def table(name, files, ignored_by=None, rejected_by=None, reported_by=None):
    totals = {key: sum(f[key] for f in files) for key in ("rows", "accepted", "ignored", "rejected")}
    return {
        "table": name, **totals, "reported": sum((reported_by or {}).values()), "ignored_by": ignored_by or {},
        "rejected_by": rejected_by or {}, "reported_by": reported_by or {}, "reasons": REASONS | RULES, "files": files,
        "content_sha256": f"{sum(name.encode()) * 104729:064x}", "path": f"{name}/2026-02-28/0a1b2c3d4e5f-01234567",
    }  # fmt: skip


def pull_of(*tables, set_aside=(), supersedes=None):
    totals = {key: sum(t[key] for t in tables) for key in ("rows", "accepted", "ignored", "rejected")}
    return {
        "pull": 12, "as_of": "2026-02-28", "profile": "kingdom", "supersedes": supersedes, **totals,
        "tables": list(tables), "set_aside": list(set_aside),
    }  # fmt: skip


def aside(name, reason, table_name="", size_bytes=2048):
    return {"name": name, "table": table_name, "reason": reason, "size_bytes": size_bytes}


def troubled():
    """A corrected delivery with rows rejected and reported in several files, and files that were left aside."""
    return pull_of(
        table("branches", [file("ORG_20260228.csv", 503, size_bytes=20_114)]),
        table("roster", [file("roster.csv", 1516, rejected=2, size_bytes=98_001)],
              rejected_by={"email: bad_form": 1, "valid_to: to_before_from": 1}),
        table("staff", [file("STAFF_20260228.csv", 4021, size_bytes=300_500)]),
        table("customers", [file("CUST_20260228_1.csv.gz", 1_204_111, 37, 5), file("CUST_20260228_2.csv.gz", 795_803, 22, 22)],
              {"internal_test_account": 59},
              {"id_no: bad_form": 9, "open_on: impossible_date": 7, "branch_no: unknown_branch": 4, ": bad_byte": 3,
               "customer_name: missing": 2, "customer_id: duplicate_id": 2},
              {"id_no: bad_checksum": 311, "phone: bad_phone": 1208, "close_on: close_before_open": 4}),
        table("transactions", [file(f"LOG_202602{day:02d}.zip/LOG.csv", 700_000 + day, 3, day % 4, 45_000_111) for day in range(1, 29)],
              {"internal_test_account": 84}, {"customer_id: customer_not_accepted": 30, "amount_cny: bad_number": 12}),
        set_aside=[
            aside("CUST_20260228_2 (copy).csv.gz", "the same bytes as CUST_20260228_2.csv.gz", "customers", 1_234_567),
            aside("LOG_20260301.csv.filepart", "still being written, as its name says; left alone"),
            aside("readme <new>.txt", "no table of profile kingdom takes it"),
        ],
        supersedes=9,
    )  # fmt: skip


def rows_of(entry, verdict):
    """A list of an entry's rows as the lake gives it, at most as long as the page shows."""
    found = []
    for column_and_reason, n in entry[f"{verdict}_by"].items():
        column, _, reason = column_and_reason.rpartition(": ")
        for _ in range(n):
            at = len(found)
            name = entry["files"][at % len(entry["files"])]["name"]
            found.append((2 + 41 * at, name, column, reason, None if reason == "bad_byte" else f"C{at:05d}"))
    return pd.DataFrame(found[:LISTED_ROWS], columns=COLUMNS)


def lists_of(pull):
    return {
        verdict: {t["table"]: rows_of(t, verdict) for t in pull["tables"] if t[verdict]}
        for verdict in ("rejected", "reported")
    }


def page(pull=None, language="zh_CN"):
    pull = pull or troubled()
    return intake_page(pull, **lists_of(pull), written_at=WRITTEN, language=language)


def cells(text, place):
    """The rows of the table in the region that a heading names."""
    region = re.search(rf'<h2 id="{place}">.*?<tbody>(.*?)</tbody>', text, flags=re.DOTALL)[1]
    return [
        [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in region.split("</tr>")[:-1]
    ]


def test_every_count_of_tables_and_files_is_in_its_row():
    pull, words = troubled(), words_in("zh_CN")
    found = {row[0]: row[1:] for row in cells(page(pull), "tables")}
    for entry in pull["tables"]:
        assert found[words[f"tables.{entry['table']}"]] == [
            f"{len(entry['files']):,}", *(f"{entry[k]:,}" for k in ("rows", "accepted", "ignored", "rejected", "reported")),
            "✓ 成立",
        ]  # fmt: skip
    assert found["开发与服务关系"] == ["本次没有"]
    assert found["合计"][1:5] == [f"{pull[k]:,}" for k in ("rows", "accepted", "ignored", "rejected")]
    files = {row[0]: row[1:] for row in cells(page(pull), "files")}
    for entry in pull["tables"]:
        for one in entry["files"]:
            shown = [f"{one[k]:,}" for k in ("rows", "accepted", "ignored", "rejected")]
            assert files[one["name"]] == [words[f"tables.{entry['table']}"], size(one["size_bytes"]), *shown, "✓ 成立"]


def test_the_answers_stand_in_the_head():
    head = visible(page().split("</header>")[0])
    for said in (
        "2026年2月28日的提取", "第 12 次提取", "来源配置 kingdom", "取代同一日期的第 9 次提取", "到了 5 张表，21,606,574 行全部对平",
        "全部 6 张表中，本次没有 1 张。", "开发与服务关系 本次没有", "客户 2 个文件 2,000,000 ✓",
        "拒收 71 行（<0.1%）", "交易流水 · 客户编号 客户在文件中但未被接收 30", "报告 1,523 行",
        "客户 · 电话 不像电话号码（位数或号段不对） 1,208", "搁置 3 个文件", "readme <new>.txt 来源配置 kingdom 中没有表取用它",
        "客户表有拒收行时不能冻结年度基数",
    ):  # fmt: skip
        assert said in head


def test_an_intake_without_fault_says_so():
    head = page(pull_of(*(table(name, [file(f"{name}.csv", 10)]) for name in TABLES))).split("</header>")[0]
    for said in ("全部 6 张表都到了", "没有拒收", "没有疑点", "没有搁置"):
        assert said in head
    assert head.count('class="answer good"') == 4
    assert "取代" not in head
    assert "冻结" not in head


def test_a_table_with_a_header_and_no_row_is_named():
    head = page(pull_of(*(table(name, [file(f"{name}.csv", 10 * (name != "relations"))]) for name in TABLES)))
    assert "只有表头、没有数据行：开发与服务关系。" in visible(head)
    assert 'class="answer late"' in head


def broken_pulls():
    def change(where, key):
        pull = copy.deepcopy(troubled())
        where(pull)[key] += 1
        return pull

    yield "total", change(lambda p: p, "accepted"), 2
    yield "table", change(lambda p: p["tables"][3], "rejected"), 4
    yield "file", change(lambda p: p["tables"][3]["files"][1], "rows"), 2
    yield "rule", change(lambda p: p["tables"][3]["ignored_by"], "internal_test_account"), 1
    yield "report", change(lambda p: p["tables"][3], "reported"), 1


@pytest.mark.parametrize(
    ("where", "pull", "times"), list(broken_pulls()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_does_not_balance_is_called_broken_with_both_sides(where, pull, times):
    text = page(pull)
    equations = text.split('id="balances"')[1]
    assert len(re.findall(r'<tr class="broken">', equations)) == times
    assert 'role="alert"' in text
    assert f"有 {times} 项账目不平" in visible(text)
    assert f"账不平：{times} 项等式不成立" in visible(text)
    assert "全部对平" not in text
    if where == "file":
        assert "33 个文件，不平 1 个" in visible(text)
        assert [row[-1] for row in cells(text, "files") if row[0] == "CUST_20260228_2.csv.gz"] == ["✗ 不平"]
        assert [row[-1] for row in cells(text, "tables") if row[0] == "客户"] == ["✗ 不平"]
    assert "✗" not in page()
    assert 'role="alert"' not in page()


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_every_reason_is_said_in_words(language):
    every = table(
        "customers", [file("c.csv", 0, rejected=len(REASONS))], rejected_by={f"id_no: {r}": 1 for r in REASONS}
    )
    pull = pull_of(every)
    shown = visible(page(pull, language))
    for reason, said in words_in(language).codes["faults"].items():
        assert shown.count(said) >= 2, reason  # in the table of reasons, and at its row
        assert bool(re.search(r"[\u4e00-\u9fff]", said)) == (language == "zh_CN"), reason


def test_the_english_page_has_no_chinese_word_of_ours():
    pull = troubled()
    for entry in pull["tables"]:
        entry["reasons"]["internal_test_account"] = "a test account of the house"
    shown = visible(page(pull, "en"))
    assert re.findall(r"[\u3000-\u9fff\uff00-\uffef]+", shown) == []
    assert "Intake of 28 February 2026" in shown
    assert "This pull takes the place of pull no. 9 of the same day." in shown
    assert "a test account of the house" in shown
    assert '<html lang="en">' in page(language="en")


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_tables_and_their_columns_have_names(language):
    codes = words_in(language).codes
    assert set(codes["tables"]) == set(TABLES)
    assert set(codes["fields"]) == {column for schema in TABLES.values() for column in schema.columns}


def test_the_sentences_about_files_set_aside_are_those_of_the_source():
    source = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "tasks" / "source").glob("*.py"))
    for sentence, said in words_in("en").codes["asides"].items():
        assert said == sentence
        for fixed in sentence.split("{name}"):
            assert fixed in source, sentence


def test_a_reason_that_nobody_knows_stays_as_it_was_said():
    pull = pull_of(
        table("customers", [file("c.csv", 3, 1, 1)], {"house": 1}, {"id_no: unheard_of": 1}),
        set_aside=[aside("x.csv", "the moon was full")],
    )
    pull["tables"][0]["reasons"] = {"house": "本公司规定"}
    shown = visible(page(pull))
    for said in ("unheard_of", "本公司规定", "the moon was full"):
        assert said in shown


def test_a_list_shows_the_first_rows_and_says_how_many_there_are_and_where():
    text = page()
    assert "客户 ：共 1,523 行，列出 500 行" in visible(text)
    assert "customers/2026-02-28/0a1b2c3d4e5f-01234567/reported.parquet" in text
    assert "customers/2026-02-28/0a1b2c3d4e5f-01234567/rejected.parquet" in text
    assert "branches/2026-02-28/0a1b2c3d4e5f-01234567/rejected.parquet" not in text
    reported = text.split("<h2>只报告的行</h2>")[1].split("<h2")[0]
    assert reported.count('<tr><th scope="row"') == LISTED_ROWS
    pull = troubled()
    much = {t["table"]: pd.concat([rows_of(t, "rejected")] * 40) for t in pull["tables"] if t["rejected"]}
    cut = intake_page(pull, rejected=much, reported={}, written_at=WRITTEN, language="zh_CN")
    assert cut.split("<h2>拒收的行</h2>")[1].split("<h2")[0].count('<tr><th scope="row"') == LISTED_ROWS * 2 + 80
    assert "共 1,523 行，列出 0 行" in visible(cut)


def test_rows_show_place_reason_and_id_and_an_unsafe_id_stays_out():
    rows = re.findall(r"<tr>.*?</tr>", page().split("<h2>拒收的行</h2>")[1].split("<h2")[0])
    shown = [visible(row) for row in rows]
    assert "CUST_20260228_1.csv.gz 2 证件号码 不符合规定格式 C00000" in shown
    assert "CUST_20260228_1.csv.gz 822 整行 该行含无法解码的字节 —" in shown
    for verdict, frames in lists_of(troubled()).items():
        for frame in frames.values():
            assert list(frame.columns) == COLUMNS, verdict


def test_files_set_aside_beyond_the_first_are_counted():
    many = [aside(f"{n:04d}.tmp", "no table of profile kingdom takes it") for n in range(LISTED_ROWS + 7)]
    shown = visible(page(pull_of(table("branches", [file("b.csv", 3)]), set_aside=many)))
    assert "搁置 507 个文件" in shown
    assert "其余 502 个见下表" in shown
    assert "共 507 个，列出 500 个。" in shown
    assert "0506.tmp" not in shown


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_the_page_fetches_nothing_and_needs_no_script(language):
    text = page(language=language)
    assert "http" not in re.sub(r'<meta http-equiv="[^"]*"', "", text)
    assert "url(" not in text
    for tag, attributes in Reader(text).elements:
        assert tag not in {"link", "iframe", "img", "object", "embed", "script"}
        assert not {"src", "href"} & set(attributes)
    assert "script-src" not in text
    for entry in troubled()["tables"]:
        assert entry["content_sha256"] in text
        assert all(one["sha256"] in text for one in entry["files"])


def test_what_is_opened_is_closed_and_every_table_is_named():
    reader = Reader(page())
    assert (reader.open, reader.unclosed) == ([], [])
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in reader.elements:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
        assert tag != "th" or "scope" in attributes
    tags = [tag for tag, _ in reader.elements]
    assert tags.count("table") == tags.count("caption")
    assert "readme <new>.txt" not in page()


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_the_same_intake_and_time_give_the_same_bytes_under_the_same_name(tmp_path, language):
    first, second = (
        write_intake(
            troubled(), **lists_of(troubled()), written_at=WRITTEN, language=language, directory=tmp_path / place
        )
        for place in "ab"
    )
    assert first.read_bytes() == second.read_bytes()
    assert first.name == second.name
    assert first.name.startswith("intake_2026-02-28_12_20260301T0930_")
    clean = pull_of(table("branches", [file("b.csv", 3)]))
    other = write_intake(clean, rejected={}, reported={}, written_at=WRITTEN, language=language, directory=first.parent)
    assert sorted(first.parent.iterdir()) == sorted([first, other])


def test_a_share_that_is_there_is_not_shown_as_nothing():
    assert [share(*pair) for pair in ((71, 21_606_574), (1, 1000), (0, 7), (99_999, 100_000))] == [
        "<0.1%", "0.1%", "0.0%", "99.9%",
    ]  # fmt: skip
    assert [size(n) for n in (999, 1_500, 999_950, 2_340_000_000)] == ["999 B", "1.5 kB", "1.0 MB", "2.3 GB"]


def test_contradictions_are_shown_beside_the_reported_rows_and_unbalance_nothing():
    pull = troubled()
    pull["tables"][3]["reported_by"]["status: dormant_but_trading"] = 17
    shown, english = visible(page(pull)), visible(page(pull, "en"))
    assert "报告 1,523 行，照常接收 客户数据自相矛盾 17 处。" in shown
    assert "客户 · 客户状态 休眠而有交易 17" in shown
    assert "contradictions/2026-02-28" in shown
    assert "✗" not in shown
    assert "Customers contradicting themselves: 17" in english
    assert "数据矛盾" not in visible(page())
    alone = pull_of(table("customers", [file("c.csv", 3)]))
    alone["tables"][0]["reported_by"]["status: dormant_but_trading"] = 2
    assert "接收了、但有疑点的？ 客户数据自相矛盾 2 处" in visible(page(alone))
    assert "✗" not in page(alone)
