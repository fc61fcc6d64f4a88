"""What is found out of files nobody has described, and the profile drafted from it: pure rules."""

import csv
import io
from collections import Counter

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.canonical import TABLES
from models.draft import ASK, Draft, draft_profile
from models.known import ALL_NAMES, MEANINGS, NAMES, hinted_table
from models.matching import Look, find_table, match_columns
from models.profile import FileForm, Profile
from models.textform import FormError, plain_name, read_form
from models.traits import Column, is_private, mask, show_code

CUSTOMERS = {
    "客户号": [f"{n:08}" for n in range(100, 160)],
    "客户姓名": ["张三", "李四", "王小五", "欧阳娜娜", "赵六"] * 12,
    "手机号码": [f"138{n:08}" for n in range(60)],
    "证件号码": ["11010519491231002X"] * 60,
    "开户营业部": ["0001", "0002", "0003"] * 20,
    "客户类别": ["普通客户", "高净值客户"] * 30,
    "客户状态": ["正常", "正常", "休眠", "销户"] * 15,
    "开户日期": [f"2020{1 + n % 12:02}{1 + n % 28:02}" for n in range(60)],
    "销户日期": ["0"] * 45 + ["20250601", "20250602", "20250603"] * 5,
}


def look(name: str, columns: dict[str, list[str]], *, has_header: bool = True, **more: object) -> Look:
    found = []
    for column, texts in columns.items():
        found.append(Column(column))
        found[-1].add(Counter(texts))
    form = FileForm(format="text", encoding="utf-8", delimiter=",", quote='"')
    return Look([name], form, has_header, found, rows=len(next(iter(columns.values()))), **more)


def csv_text(rows: list[tuple[str, ...]], delimiter: str) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return file.getvalue()


def lines(columns: dict[str, list[str]], delimiter: str, *, has_header: bool = True) -> str:
    rows = list(zip(*columns.values(), strict=True))
    return csv_text([tuple(columns), *rows] if has_header else rows, delimiter)


def load(draft: Draft) -> Profile:
    return Profile.model_validate(yaml.safe_load(draft.yaml))


# ---- how a file is written ----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("delimiter", [",", "|", "\t", "\x01", ";"])
@pytest.mark.parametrize("has_header", [True, False])
def test_encoding_delimiter_and_header_are_found(encoding, delimiter, has_header):
    text = lines(CUSTOMERS, delimiter, has_header=has_header)
    found = read_form("x.txt", text.encode(encoding), is_whole=True, known=ALL_NAMES)
    assert (found.form.encoding, found.form.delimiter, found.has_header) == (encoding, delimiter, has_header)
    assert found.header == (list(CUSTOMERS) if has_header else [f"col_{n}" for n in range(1, 10)])
    assert found.decoded_pct == 100
    assert not found.trailer


def test_a_sample_cut_within_a_character_is_still_utf_8():
    data = lines(CUSTOMERS, ",").encode() * 3
    assert read_form("x.csv", data[:-2], is_whole=False, known=ALL_NAMES).form.encoding == "utf-8"
    assert read_form("x.csv", data[:301], is_whole=False, known=ALL_NAMES).form.encoding == "utf-8"


def test_a_few_bytes_that_do_not_decode_do_not_change_the_encoding_and_are_told():
    data = lines(CUSTOMERS, ",").encode() + b"00000999,\xff\xfe,,,,,,,\n"
    found = read_form("x.csv", data, is_whole=True, known=ALL_NAMES)
    assert found.form.encoding == "utf-8"
    assert 98 < found.decoded_pct < 100
    assert "not utf-8" in found.doubts[0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "UTF-16"),
        (bytes(range(256)) * 4, "no text"),
        (b"\xd0\xcf\x11\xe0 old", "old .xls"),
        (b"\n \n", "blanks only"),
    ],
)
def test_what_is_no_table_is_refused_with_a_word_on_what_to_do(data, said):
    with pytest.raises(FormError, match=said):
        read_form("x.csv", data, is_whole=True)


def test_marks_within_fields_are_no_quotes():
    text = 'client_id|client_name|open_date\n1|AB "C" D|20200101\n2|5" disk|20200102\n'
    assert read_form("x.txt", text.encode(), is_whole=True, known=ALL_NAMES).form.quote == "none"
    quoted = 'client_id,client_name\n1,"Smith, ""J."""\n2,"Lee, K"\n'
    assert read_form("x.txt", quoted.encode(), is_whole=True, known=ALL_NAMES).form.quote == '"'


def test_a_last_line_of_another_width_is_told_as_a_trailer():
    data = lines(CUSTOMERS, "|").encode() + b"TRAILER|60|1234.50\n"
    assert read_form("x.txt", data, is_whole=True, known=ALL_NAMES).trailer == "TRAILER|60|1234.50"
    assert read_form("x.txt", data[:500], is_whole=False, known=ALL_NAMES, tail=data[-90:]).trailer.startswith(
        "TRAILER"
    )


def test_a_first_line_that_could_be_somebodys_row_is_not_taken_for_names():
    found = read_form("x.csv", "张三,上海\n李四,北京\n".encode(), is_whole=True, known=ALL_NAMES)
    assert found.header == ["col_1", "col_2"]
    assert "header cannot be told" in found.doubts[0]


# ---- what a column looks like -------------------------------------------------------------------------------


@given(st.text(max_size=60))
def test_a_mask_keeps_the_length_and_tells_no_letter_and_no_digit(text):
    shown = mask(text)
    assert len(shown) == len(text)
    for sign, before in zip(shown, text, strict=True):
        assert sign in "x9汉?" or (sign == before and not sign.isalnum())


def test_a_code_is_shown_only_where_it_is_short_and_one_of_a_column_of_codes():
    assert show_code("0A", is_code_column=True) == "0A"
    assert show_code("0A", is_code_column=False) == "9x"
    assert show_code("PRIJEM", is_code_column=True) == "xxxxxx"
    assert show_code("张三", is_code_column=True, words={"正常": "active"}) == "汉汉"
    assert show_code("正常", is_code_column=True, words={"正常": "active"}) == "正常"


@pytest.mark.parametrize(
    ("texts", "forms"),
    [
        (["20200101", "20210230", "20220303", *["20200105"] * 20], ["yyyyMMdd"]),
        (["2020-01-01", "2020/01/02"], ["yyyy-MM-dd", "yyyy/MM/dd"]),
        (["2020.01.01 00:00:00", "29991231"], ["yyyy.MM.dd"]),
        (["43831", "43832"], ["excel"]),
        (["181.70", "20.00"], []),
        (["138000001", "138000002"], []),
    ],
)
def test_the_forms_of_days_are_found_and_amounts_are_none(texts, forms):
    column = Column("x")
    column.add(Counter(texts))
    assert column.date_forms == forms


def test_texts_that_mean_no_day_and_no_value_are_found():
    column = Column("x")
    column.add(Counter(["20200101", "0", "29991231", "1900/01/01", "NULL", " ", "－"]))
    assert column.no_days == ["0", "29991231", "1900/01/01"]
    assert column.nothing == ["NULL", "-"]
    assert column.empty == 1


# ---- which table, which column ------------------------------------------------------------------------------


@pytest.mark.parametrize("table", list(TABLES))
def test_each_list_of_names_is_of_columns_there_are_and_names_each_once(table):
    assert set(NAMES[table]) == set(TABLES[table].columns)
    for names in NAMES[table].values():
        assert len(set(names)) == len(names)
        assert all(plain_name(name) == name for name in names)
    for (owner, column), words in MEANINGS.items():
        if owner == table:
            allowed = TABLES[table].columns[column].checks[0].statistics["allowed_values"]
            assert set(words.values()) <= set(allowed)


def test_a_table_with_chinese_names_is_told_and_mapped():
    found = draft_profile([look("kh.csv", CUSTOMERS)])
    assert list(found.tables) == ["customers"]
    assert {name: match.column.name for name, match in found.tables["customers"].matches.items()} == {
        "customer_id": "客户号", "customer_name": "客户姓名", "phone": "手机号码", "id_no": "证件号码",
        "branch_no": "开户营业部", "segment": "客户类别", "status": "客户状态", "open_on": "开户日期", "close_on": "销户日期",
    }  # fmt: skip
    profile = load(found)  # nothing a person must fill in: every code is a word that says what it means
    assert found.gaps == []
    assert profile.codes["customers_status"] == {"正常": "active", "休眠": "dormant", "销户": "closed"}
    assert profile.sentinels.none == ["0"]
    assert profile.dates == ["yyyyMMdd"]
    assert profile.tables["customers"].constants["risk_level"].value is None


def test_a_file_of_no_table_is_not_forced_into_one():
    other = look("weather.csv", {"day": ["2020-01-01", "2020-01-02"] * 5, "wind": [str(n) for n in range(10)]})
    assert find_table(other)[0] is None
    found = draft_profile([other])
    assert [look.files for look, _ in found.unknown] == [["weather.csv"]]
    assert not found.is_fine


def test_a_header_without_rows_still_tells_its_table():
    empty = look("liushui.csv", {"流水号": [], "客户号": [], "交易日期": [], "交易类型": [], "发生金额": []})
    found = draft_profile([empty])
    assert list(found.tables) == ["transactions"]
    assert [gap.where for gap in found.gaps] == ["tables.transactions.columns.amount_cny.unit"]
    assert "no row was read" in found.doubts[0]


def test_names_of_files_point_to_tables():
    pointed = {name: hinted_table(name) for name in ("clientbroker_1.txt", "hisfundjour_1.txt", "KD_EMP.xlsx", "x.csv")}
    assert list(pointed.values()) == ["relations", "transactions", "staff", None]


def test_content_alone_maps_what_is_beyond_doubt_and_leaves_twins_to_a_person():
    days = [f"2020-{1 + n % 12:02}-{1 + n % 28:02}" for n in range(60)]
    plain = {f"col_{n}": texts for n, texts in enumerate(CUSTOMERS.values(), start=1)} | {"col_10": days}
    plain["col_8"] = days[::-1]
    found = match_columns("customers", look("khxx.txt", plain, has_header=False), {})
    assert found.matches["phone"].column.name == "col_3"
    assert found.matches["id_no"].column.name == "col_4"
    assert "open_on" not in found.matches
    assert sorted(found.rivals["open_on"]) == ["col_10", "col_8"]
    assert "status" not in found.matches  # codes are never told by content


def test_a_number_that_another_file_shares_is_looked_up():
    accounts = [f"A{n}" for n in range(60)]
    trades = {
        "trans_id": [str(n) for n in range(1000, 1120)], "account_id": accounts * 2,
        "date": ["2026-01-05"] * 60 + ["2026-01-06"] * 60, "type": ["buy", "sell"] * 60, "amount": ["10.50", "3.25"] * 60,
    }  # fmt: skip
    found = draft_profile([look("trades.csv", trades), look("kh.csv", CUSTOMERS | {"account_id": accounts})])
    lookup = load(found).tables["transactions"].lookups["customer_id"]
    assert (lookup.source, lookup.key, lookup.value) == ("account_id", "account_id", "customer_id")


# ---- the draft ----------------------------------------------------------------------------------------------


def test_a_code_of_unknown_meaning_keeps_the_draft_from_loading_and_the_message_says_where():
    found = draft_profile([look("kh.csv", CUSTOMERS | {"客户状态": ["0", "0", "1", "正常"] * 15})])
    assert f'"0": {ASK}   # 30 行' in found.yaml
    assert '"正常": active' in found.yaml
    assert [gap.where for gap in found.gaps] == ["codes.customers_status"]
    with pytest.raises(
        ValidationError, match=rf"tables\.customers\.columns\.status: codes lead to {ASK}; allowed are active"
    ):
        load(found)


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=8, unique=True))
def test_no_code_becomes_active_that_does_not_say_so(codes):
    found = draft_profile([look("kh.csv", CUSTOMERS | {"客户状态": [codes[n % len(codes)] for n in range(60)]})])
    content = yaml.safe_load(found.yaml)
    for code, means in (content.get("codes") or {}).get("customers_status", {}).items():
        assert means == ASK or MEANINGS["customers", "status"].get(code.lower()) == means or code == means


def test_ranks_whose_order_may_be_reversed_are_left_to_a_person():
    found = draft_profile([look("kh.csv", CUSTOMERS | {"风险等级": ["A", "B", "C"] * 20})])
    with pytest.raises(ValidationError, match=r"codes\.customers_risk_level\.A\s+Input should be a valid string"):
        load(found)
    ours = draft_profile([look("kh.csv", CUSTOMERS | {"风险等级": ["C1", "C2", "C3"] * 20})])
    assert load(ours).tables["customers"].columns["risk_level"] == "风险等级"


def test_a_column_that_must_be_there_and_is_not_keeps_the_draft_from_loading():
    found = draft_profile([look("kh.csv", {k: v for k, v in CUSTOMERS.items() if k != "客户状态"})])
    with pytest.raises(ValidationError, match=r"tables\.customers: say where status come from"):
        load(found)
    filled = found.yaml.replace('# status: {value: "", reason: ""}', 'status: {value: active, reason: "只含在用客户"}')
    assert Profile.model_validate(yaml.safe_load(filled)).tables["customers"].constants["status"].value == "active"


def test_every_column_without_a_use_is_listed_with_what_to_ask():
    found = draft_profile([look("kh.csv", CUSTOMERS | {"柜员备注": ["好", "忙"] * 30})])
    assert load(found).tables["customers"].ignore_columns["柜员备注"].startswith(f"{ASK}：")


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        (["1050", "325"], "unit"),
        (["10.5000", "3.1234"], "unit"),
        (["1,234.50", "3.25"], {"thousands": ","}),
        (["1234,50", "3,25"], {"decimal": ","}),
        (["1234.50", "3.25"], {}),
    ],
)
def test_what_an_amount_is_counted_in_is_not_guessed(amounts, expected):
    trades = {
        "流水号": [f"T{n}" for n in range(60)], "客户号": CUSTOMERS["客户号"], "交易日期": ["2026-01-05", "2026-01-06"] * 30,
        "交易类型": ["买入", "卖出"] * 30, "发生金额": amounts * 30,
    }  # fmt: skip
    found = draft_profile([look("ls.csv", trades)])
    if expected == "unit":
        with pytest.raises(ValidationError, match=r"unit\s+Input should be 'yuan', 'fen' or 'wan_yuan'"):
            load(found)
        return
    source = load(found).tables["transactions"].column("amount_cny")
    assert source is not None
    assert {key: getattr(source, key) for key in expected} == expected


def test_ids_get_the_width_that_another_file_writes():
    branches = {
        "营业部号": ["0001", "0002", "0003"], "营业部名称": ["上海一路营业部", "北京二路营业部", "广州三路营业部"],
        "区域": ["华东", "华北", "华南"],
    }  # fmt: skip
    found = draft_profile([
        look("yyb.csv", branches),
        look("kh.csv", CUSTOMERS | {"开户营业部": ["1", "2", "3"] * 20}),
    ])  # fmt: skip
    branch_no = load(found).tables["customers"].column("branch_no")
    assert branch_no is not None
    assert branch_no.width == 4


def test_parts_of_one_table_give_their_codes_together():
    second = CUSTOMERS | {"客户号": [f"{n:08}" for n in range(500, 560)], "客户状态": ["冻结"] * 60}
    found = draft_profile([look("kh_0001.csv", CUSTOMERS), look("kh_0002.csv", second)])
    assert set(load(found).codes["customers_status"]) == {"正常", "休眠", "销户", "冻结"}
    assert load(found).tables["customers"].files == ["kh_*.csv"]
    assert found.tables["customers"].look.rows == 120


def test_a_trailer_becomes_a_pattern_that_finds_the_number_of_rows():
    found = draft_profile([look("kh.csv", CUSTOMERS, trailer="合计,60,1234567.89")])
    complete = load(found).form_of("customers").complete
    assert complete is not None
    assert complete.trailer == r"^合计,(?P<rows>[0-9]+),[^,]*$"
    assert complete.pattern == complete.trailer


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=6, unique=True))
def test_a_draft_is_yaml_whatever_the_columns_are_called(names):
    columns = CUSTOMERS | {name: ["a", "b"] * 30 for name in names if name not in CUSTOMERS}
    content = yaml.safe_load(draft_profile([look("kh.csv", columns)]).yaml)
    mapped = content["tables"]["customers"]
    assert set(names) <= set(mapped["ignore_columns"]) | {str(v) for v in mapped["columns"].values()} | set(columns)


def test_a_draft_tells_nobodys_name_number_or_address():
    text = draft_profile([look("kh.csv", CUSTOMERS | {"备用电话": CUSTOMERS["手机号码"]})]).yaml
    for column in ("客户号", "客户姓名", "手机号码", "证件号码"):
        assert not any(value in text for value in CUSTOMERS[column]), column
    assert is_private("13800000000")
