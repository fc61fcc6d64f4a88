"""What becomes of each row: cleaned, parsed, accepted, ignored by name, or rejected with a reason."""

from __future__ import annotations

from pathlib import Path

import ibis
import pandas as pd
import pytest
import yaml
from pandera.errors import SchemaError
from pydantic import ValidationError

from models.canonical import TABLES, references
from models.extracts import (
    HeaderError,
    SourceFile,
    UnknownCode,
    accepted_rows,
    check_header,
    clean_text,
    first_rows,
    judge_rows,
    keys_of,
    refuse_unknown_codes,
    reject_doubled,
    split_fault,
)
from models.profile import Profile, canonical_table
from tasks.settings import PROJECT, SettingsError, read_yaml

CANONICAL = read_yaml(PROJECT / "profiles" / "canonical.yaml", Profile)

BRANCH_KEYS = ibis.memtable(
    pd.DataFrame(
        {"key": ["0001", "0002", "0009"], "verdict": ["accepted", "accepted", "rejected"], "rule": ["", "", "missing"]}
    )
)
CUSTOMER = {
    "customer_id": "C1", "customer_name": "张三", "phone": "13800138000", "id_no": "", "branch_no": "0001",
    "segment": "普通", "risk_level": "", "status": "active", "open_on": "2020-01-31", "close_on": "",
}  # fmt: skip


def file_of(table_name: str) -> SourceFile:
    return SourceFile(table_name, f"{table_name}.csv", "0" * 64, 1, "")


def raw_table(rows: list[dict[str, str]], garbled: list[bool] | None = None) -> tuple[ibis.Table, list[str]]:
    header = list(rows[0])
    frame = pd.DataFrame([list(row.values()) for row in rows], columns=[f"c{i}" for i in range(len(header))])
    frame = frame.replace({"": None}).astype("str")
    frame.insert(0, "row_number", range(2, len(rows) + 2))
    if garbled:
        frame["garbled"] = garbled
    return ibis.memtable(frame), header


def judged_customers(
    *changes: dict[str, str], profile: Profile = CANONICAL, garbled: list[bool] | None = None
) -> pd.DataFrame:
    rows = [CUSTOMER | {"customer_id": f"C{i}"} | change for i, change in enumerate(changes, 1)]
    raw, header = raw_table(rows, garbled)
    judged = judge_rows(raw, header, 0, file_of("customers"), profile, {"branches": BRANCH_KEYS})
    judged = reject_doubled(judged, first_rows(judged, "customers"), "customers")
    return judged.order_by("row_number").to_pandas()


def customers_profile(**table: object) -> Profile:
    content = CANONICAL.model_dump(by_alias=True, exclude_unset=True)
    content["tables"]["customers"] |= table
    return Profile.model_validate(content)


@pytest.mark.parametrize(
    ("change", "column", "reason"),
    [
        ({"customer_id": ""}, "customer_id", "missing"),
        ({"customer_id": "C,1"}, "customer_id", "bad_form"),
        ({"customer_id": "../C1"}, "customer_id", "bad_form"),
        ({"customer_id": "C" * 41}, "customer_id", "bad_length"),
        ({"customer_name": "　"}, "customer_name", "missing"),
        ({"customer_name": "张\n三"}, "customer_name", "bad_form"),
        ({"customer_name": "张\0三"}, "customer_name", "bad_form"),
        ({"phone": "无"}, "phone", "bad_form"),
        ({"segment": "a,b"}, "segment", "bad_form"),
        ({"branch_no": "0404"}, "branch_no", "unknown_branch"),
        ({"branch_no": "0009"}, "branch_no", "branch_not_accepted"),
        ({"status": ""}, "status", "missing"),
        ({"open_on": "31.01.2020"}, "open_on", "bad_date"),
        ({"open_on": "2026-02-30"}, "open_on", "impossible_date"),
        ({"open_on": "0020-01-31"}, "open_on", "out_of_range"),
        ({"close_on": "20200131"}, "close_on", "bad_date"),
        ({"close_on": "2020-01-30"}, "close_on", "close_before_open"),
        ({"id_no": "110105194912310021"}, "id_no", "bad_checksum"),
        ({"id_no": "914403001922038217"}, "id_no", "bad_checksum"),
        ({"phone": "123456"}, "phone", "bad_phone"),
        ({"phone": "12800138000"}, "phone", "bad_phone"),
        ({"phone": "1380013800"}, "phone", "bad_phone"),
        ({"phone": "138001380000"}, "phone", "bad_phone"),
    ],
)
def test_a_row_with_one_fault_is_rejected_with_its_column_and_reason(
    change: dict[str, str], column: str, reason: str
) -> None:
    faults = judged_customers({}, change)["fault"]
    assert pd.isna(faults[0])
    assert split_fault(faults[1]) == ("rejected", reason, column)


@pytest.mark.parametrize(
    "change",
    [
        {"id_no": "11010519491231002X"},
        {"id_no": "11010519491231002x"},
        {"id_no": "914403001922038216"},
        {"id_no": "110105491231002"},
        {"id_no": "H10359701"},
        {"id_no": "99999919491231005X"},
        {"phone": "010-88888888-8001"},
        {"phone": "+8613800138000"},
        {"phone": "(0755) 8230 1234"},
        {"phone": "367-171-6840"},
        {"phone": "95536000"},
        {"close_on": "2020-01-31"},
    ],
)
def test_numbers_of_old_foreign_and_unknown_districts_pass(change: dict[str, str]) -> None:
    assert judged_customers(change)["fault"].isna().all()


def test_a_reason_that_a_profile_reports_lets_the_row_in_and_is_counted() -> None:
    profile = customers_profile(report={"bad_checksum": "老系统未校验"})
    rows = judged_customers({"id_no": "110105194912310021"}, {"phone": "12800138000"}, profile=profile)
    assert pd.isna(rows["fault"][0])
    assert split_fault(rows["remark"][0]) == ("rejected", "bad_checksum", "id_no")
    assert split_fault(rows["fault"][1]) == ("rejected", "bad_phone", "phone")


STAFF = {
    "staff_id": "S1", "staff_name": "孙丽", "branch_no": "0001", "kind": "caller", "valid_from": "2020-01-01",
    "valid_to": "", "phone": "13800138000",
}  # fmt: skip


def judged_staff(*changes: dict[str, str], profile: Profile = CANONICAL, without: str = "") -> pd.DataFrame:
    rows = [STAFF | {"staff_id": f"S{i}"} | change for i, change in enumerate(changes, 1)]
    raw, header = raw_table([{name: text for name, text in row.items() if name != without} for row in rows])
    check_header(header, file_of("staff"), profile)
    judged = judge_rows(raw, header, 0, file_of("staff"), profile, {"branches": BRANCH_KEYS})
    return judged.order_by("row_number").to_pandas()


def staff_profile(without: str = "", **table: object) -> Profile:
    content = CANONICAL.model_dump(by_alias=True, exclude_unset=True)
    content["tables"]["staff"] |= table
    content["tables"]["staff"]["columns"].pop(without, None)
    return Profile.model_validate(content)


def test_a_phone_of_staff_is_judged_as_a_customer_s_and_may_be_empty() -> None:
    rows = judged_staff({"phone": " １３８００１３８０００"}, {"phone": ""}, {"phone": "12800138000"}, {"phone": "无"})
    assert rows["phone"][0] == "13800138000"
    assert rows["fault"][:2].isna().all()
    assert split_fault(rows["fault"][2]) == ("rejected", "bad_phone", "phone")
    assert split_fault(rows["fault"][3]) == ("rejected", "bad_form", "phone")
    rows = judged_staff({"phone": "12800138000"}, profile=staff_profile(report={"bad_phone": "内线号码"}))
    assert rows["fault"].isna().all()
    assert split_fault(rows["remark"][0]) == ("rejected", "bad_phone", "phone")


def test_staff_without_a_column_of_phones_are_accepted_whether_the_profile_knows_it_or_not() -> None:
    for profile in (CANONICAL, staff_profile(without="phone")):
        rows = judged_staff({}, {"kind": "broker"}, profile=profile, without="phone")
        assert rows["fault"].isna().all()
        assert rows["phone"].isna().all()
        assert list(rows["kind"]) == ["caller", "broker"]


def test_only_an_optional_column_may_be_absent() -> None:
    with pytest.raises(HeaderError, match="the header has no column valid_to"):
        judged_staff({}, without="valid_to")
    with pytest.raises(ValidationError, match="say where valid_to come from"):
        staff_profile(without="valid_to")
    with pytest.raises(HeaderError, match="the profile says nothing about column phone"):
        judged_staff({}, profile=staff_profile(without="phone"))


def test_serials_dotted_dates_and_units_are_read_as_the_profile_says() -> None:
    columns = canonical_table("customers").columns | {
        "open_on": {"from": "open_on", "dates": ["excel", "yyyy.MM.dd"]}, "close_on": {"from": "close_on", "dates": ["excel"]},
    }  # fmt: skip
    rows = judged_customers(
        {"open_on": "45292", "close_on": "45293.0"}, {"open_on": "2024.01.01"}, {"open_on": "45292.5"},
        profile=customers_profile(columns=columns),
    )  # fmt: skip
    assert list(rows["open_on"].astype(str)[:2]) == ["2024-01-01", "2024-01-01"]
    assert str(rows["close_on"][0])[:10] == "2024-01-02"
    assert split_fault(rows["fault"][2]) == ("rejected", "bad_date", "open_on")


@pytest.mark.parametrize(
    ("unit", "amount", "kept"),
    [
        ("fen", "12345", "123.45"), ("fen", "-5.00", "-0.05"), ("fen", "1.5", None), ("wan_yuan", "1.23456789", None),
        ("wan_yuan", "1.234567", "12345.67"), ("fen", "99999999999999999999", None),
    ],
)  # fmt: skip
def test_amounts_are_counted_in_the_unit_of_the_profile(unit: str, amount: str, kept: str | None) -> None:
    content = CANONICAL.model_dump(by_alias=True, exclude_unset=True)
    content["tables"]["transactions"]["columns"]["amount_cny"] = {"from": "amount_cny", "unit": unit}
    row = {"transaction_id": "T", "customer_id": "A", "traded_on": "2026-01-05", "kind": "buy", "amount_cny": amount}
    raw, header = raw_table([row])
    keys = ibis.memtable(pd.DataFrame({"key": ["A"], "verdict": ["accepted"], "rule": [""]}))
    profile = Profile.model_validate(content)
    judged = judge_rows(raw, header, 0, file_of("transactions"), profile, {"customers": keys}).to_pandas().iloc[0]
    assert (None if pd.isna(judged["amount_cny"]) else str(judged["amount_cny"])) == kept
    assert pd.isna(judged["fault"]) == (kept is not None)


def test_every_row_of_an_id_after_the_first_is_rejected() -> None:
    rows = judged_customers({"customer_id": "C7"}, {}, {"customer_id": " C7"}, {"customer_id": "Ｃ７"})
    assert [None if pd.isna(f) else split_fault(f)[1] for f in rows["fault"]] == [
        None, None, "duplicate_id", "duplicate_id",
    ]  # fmt: skip


def test_full_width_digits_blanks_and_apostrophes_are_normalised_but_names_keep_theirs() -> None:
    untidy = {"branch_no": "　０００１\t", "phone": "'１３８００１３８０００", "customer_name": "　Ｏ'Neil　"}
    row = judged_customers(untidy).iloc[0]
    assert (row["branch_no"], row["phone"], row["customer_name"]) == ("0001", "13800138000", "Ｏ'Neil")
    assert pd.isna(row["fault"])


def test_cleaning_leaves_no_empty_text() -> None:
    cleaned = clean_text(ibis.memtable({"x": ["", " ", "\u3000\ufeff", "'", "a b"]}).x).execute()
    assert [None if pd.isna(x) else x for x in cleaned] == [None, None, None, None, "a b"]


def test_lost_zeros_come_back_to_the_width_the_profile_gives() -> None:
    columns = canonical_table("customers").columns | {"branch_no": {"from": "branch_no", "width": 4}}
    rows = judged_customers({"branch_no": "1"}, {"branch_no": "0002"}, profile=customers_profile(columns=columns))
    assert list(rows["branch_no"]) == ["0001", "0002"]
    assert rows["fault"].isna().all()


def test_sentinel_dates_mean_no_date() -> None:
    content = CANONICAL.model_dump(by_alias=True, exclude_unset=True)
    content |= {"dates": ["yyyyMMdd", "yyyy/MM/dd"], "sentinels": {"none": ["0", "29990101"]}}
    rows = judged_customers(
        {"open_on": "20200131", "close_on": "0"}, {"open_on": "2020/01/31", "close_on": "29990101"}, {"open_on": "0"},
        profile=Profile.model_validate(content),
    )  # fmt: skip
    assert list(rows["open_on"].astype(str)[:2]) == ["2020-01-31", "2020-01-31"]
    assert rows["close_on"].isna().all()
    assert rows["fault"].isna().tolist() == [True, True, False]
    assert split_fault(rows["fault"][2]) == ("rejected", "missing", "open_on")


def test_a_row_with_a_byte_that_did_not_decode_is_rejected_even_if_the_column_is_not_used() -> None:
    rows = judged_customers({}, {"customer_name": "张\ufffd"}, garbled=[False, True])
    assert split_fault(rows["fault"][1]) == ("rejected", "bad_byte", "")
    assert pd.isna(rows["fault"][0])


def test_a_code_counts_only_as_the_profile_translates_it_and_its_case_matters() -> None:
    status = {"from": "status", "codes": {"0A": "active", "4": "dormant"}}
    profile = customers_profile(columns=canonical_table("customers").columns | {"status": status})
    rows = judged_customers({"status": "0A"}, {"status": "4"}, {"status": "0a"}, {"status": "active"}, profile=profile)
    assert list(rows["status"][:2]) == ["active", "dormant"]
    assert [None if pd.isna(x) else x for x in rows["unknown:status"]] == [None, None, "0a", "active"]


def test_unknown_codes_stop_and_say_table_column_counts_and_what_to_write() -> None:
    with pytest.raises(UnknownCode, match=r"customers\.status .*'9' × 12, 'x' × 1.*\"9\": active.*ignore_codes"):
        refuse_unknown_codes("customers", "status", {"x": 1, "9": 12}, CANONICAL, CANONICAL.tables["customers"])


def test_rows_of_an_ignored_code_or_filter_are_ignored_before_anything_else_is_read() -> None:
    profile = customers_profile(
        filters=[{"name": "branch_two", "column": "branch_no", "in": ["0002"], "reason": "r"}],
        ignore_codes=[{"name": "test_accounts", "column": "status", "codes": ["T"], "reason": "r"}],
    )
    rows = judged_customers({"branch_no": "0002", "open_on": "x", "status": "?"}, {"status": "T"}, {}, profile=profile)
    assert split_fault(rows["fault"][0]) == ("ignored", "branch_two", "branch_no")
    assert split_fault(rows["fault"][1]) == ("ignored", "test_accounts", "status")
    assert rows["unknown:status"].isna().all()


def test_transactions_follow_their_customer() -> None:
    customers = ibis.memtable(
        pd.DataFrame(
            {
                "key": ["A", "B", "B", "I", "R"],
                "verdict": ["accepted", "accepted", "rejected", "ignored", "rejected"],
                "rule": ["", "", "duplicate_id", "authorised_person", "bad_date"],
            }
        )
    )
    ids = ["A", "B", "I", "R", "Z"]
    row = {"transaction_id": "", "customer_id": "", "traded_on": "2026-01-05", "kind": "buy", "amount_cny": "1.5"}
    raw, header = raw_table([row | {"transaction_id": f"T{i}", "customer_id": i} for i in ids])
    judged = judge_rows(raw, header, 0, file_of("transactions"), CANONICAL, {"customers": customers})
    faults = judged.order_by("row_number").to_pandas()["fault"]
    assert [None if pd.isna(f) else split_fault(f)[:2] for f in faults] == [
        None, None, ("ignored", "authorised_person"), ("rejected", "customer_not_accepted"), ("rejected", "orphan"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("amount", "kept"),
    [("1.50", "1.50"), ("-3", "-3.00"), ("1.500", "1.50"), ("1.505", None), ("1e3", None), ("x", None)],
)
def test_amounts_are_exact_or_rejected(amount: str, kept: str | None) -> None:
    row = {"transaction_id": "T", "customer_id": "A", "traded_on": "2026-01-05", "kind": "buy", "amount_cny": amount}
    raw, header = raw_table([row])
    keys = ibis.memtable(pd.DataFrame({"key": ["A"], "verdict": ["accepted"], "rule": [""]}))
    judged = judge_rows(raw, header, 0, file_of("transactions"), CANONICAL, {"customers": keys}).to_pandas().iloc[0]
    if kept is None:
        assert split_fault(judged["fault"]) == ("rejected", "bad_number", "amount_cny")
    else:
        assert (str(judged["amount_cny"]), pd.isna(judged["fault"])) == (kept, True)


def test_a_lookup_that_finds_two_accepted_customers_rejects_the_row() -> None:
    profile = read_yaml(PROJECT / "profiles" / "berka.yaml", Profile)
    keys = pd.DataFrame(
        {
            "key": ["1", "2", "3", "4"], "verdict": ["accepted", "ignored", "accepted", "accepted"],
            "rule": ["", "authorised_person", "", ""], "by:account_id": ["10", "10", "20", "20"],
        }
    )  # fmt: skip
    row = dict.fromkeys(["trans_id", "account_id", "date", "type", "amount"], "")
    row |= {"date": "2026-01-05", "type": "PRIJEM", "amount": "1"}
    raw, header = raw_table([row | {"trans_id": "1", "account_id": "10"}, row | {"trans_id": "2", "account_id": "20"}])
    rows = judge_rows(raw, header, 0, file_of("transactions"), profile, {"customers": ibis.memtable(keys)}).to_pandas()
    rows = rows.set_index("transaction_id")
    assert (rows.loc["1", "customer_id"], pd.isna(rows.loc["1", "fault"])) == ("1", True)
    assert split_fault(rows.loc["2", "fault"]) == ("rejected", "ambiguous_lookup", "customer_id")


def test_a_key_that_does_not_look_like_an_id_is_not_kept() -> None:
    raw, header = raw_table([CUSTOMER | {"customer_id": "张三"}, CUSTOMER])
    judged = judge_rows(raw, header, 0, file_of("customers"), CANONICAL, {"branches": BRANCH_KEYS})
    keys = keys_of(judged, "customers").to_pandas()
    assert sorted(keys["key"].dropna()) == ["C1"]
    assert sorted(keys["verdict"]) == ["accepted", "rejected"]


def test_what_the_engine_accepts_the_pandera_schema_accepts_and_what_it_rejects_is_refused() -> None:
    bad = [{"phone": "无"}, {"open_on": "0020-01-31"}, {"segment": "a,b"}, {"customer_id": "C" * 41}]
    for change in bad:
        raw, header = raw_table([CUSTOMER, CUSTOMER | {"customer_id": "C2"} | change])
        judged = judge_rows(raw, header, 0, file_of("customers"), CANONICAL, {"branches": BRANCH_KEYS})
        TABLES["customers"].validate(accepted_rows(judged, "customers").to_pandas())
        with pytest.raises(SchemaError):
            TABLES["customers"].validate(judged.select(*TABLES["customers"].columns).to_pandas())


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (["branch_no", "branch_name"], "no column region"),
        (["branch_no", "branch_name", "Region"], "no column region; found branch_no, branch_name, Region"),
        (["branch_no", "branch_name", "region", "region"], "names region more than once"),
        (["branch_no", "branch_name", "region", "fax"], "says nothing about column fax"),
    ],
)
def test_a_header_missing_renamed_doubled_or_unexplained_is_named(header: list[str], said: str) -> None:
    with pytest.raises(HeaderError, match=said) as refused:
        check_header(header, file_of("branches"), CANONICAL)
    assert "branches.csv" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"constants": {"status": {"value": "alive", "reason": "r"}}}, "more than once.*alive is not one of"),
        ({"columns": {"customer_id": "id"}}, "say where customer_name"),
        ({"columns": canonical_table("customers").columns | {"nick": "nick"}}, "no column nick"),
        ({"filters": [{"name": "a", "column": "x", "reason": "r"}]}, "either in or not_in"),
        ({"surprise": 1}, "surprise: unknown key"),
        ({"filters": [{"name": "a", "column": "x", "in": [1], "reason": "r"}]}, "filters.0.in.0: .*put it in quotes"),
        ({"filters": [{"name": "orphan", "column": "x", "in": ["1"], "reason": "r"}]}, "no rule can be named orphan"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused_by_key(tmp_path: Path, change: dict[str, object], said: str) -> None:
    content = CANONICAL.model_dump(by_alias=True, exclude_unset=True)
    content["tables"]["customers"] |= change
    path = tmp_path / "house.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(SettingsError, match=said):
        read_yaml(path, Profile)


def test_a_table_comes_after_the_tables_it_refers_to() -> None:
    order = list(TABLES)
    assert all(order.index(other) < order.index(name) for name in TABLES for other in references(name).values())


def test_a_first_line_that_is_a_row_is_not_shown() -> None:
    with pytest.raises(HeaderError) as refused:
        check_header(["C1", "张三", "13800138000"], file_of("branches"), CANONICAL)
    assert "张三" not in str(refused.value)
    assert "13800138000" not in str(refused.value)
    assert "Is the first line a header?" in str(refused.value)


@pytest.mark.parametrize(
    ("form", "amount", "kept"),
    [
        ({"thousands": ","}, "1,234,567.50", "1234567.50"), ({"thousands": ","}, "12,34.5", None),
        ({"thousands": ","}, "1,,234", None), ({"thousands": ","}, ",5", None), ({"thousands": ","}, "1234.5", "1234.50"),
        ({"thousands": ".", "decimal": ","}, "1.234,50", "1234.50"), ({"thousands": ".", "decimal": ","}, "12.34", None),
        ({"thousands": ".", "decimal": ","}, "-12,34", "-12.34"), ({"decimal": ","}, "1,5", "1.50"),
    ],
)  # fmt: skip
def test_separators_count_only_where_they_should_stand(form: dict[str, str], amount: str, kept: str | None) -> None:
    content = CANONICAL.model_dump(by_alias=True, exclude_unset=True)
    content["tables"]["transactions"]["columns"]["amount_cny"] = {"from": "amount_cny"} | form
    row = {"transaction_id": "T", "customer_id": "A", "traded_on": "2026-01-05", "kind": "buy", "amount_cny": amount}
    raw, header = raw_table([row])
    keys = ibis.memtable(pd.DataFrame({"key": ["A"], "verdict": ["accepted"], "rule": [""]}))
    profile = Profile.model_validate(content)
    judged = judge_rows(raw, header, 0, file_of("transactions"), profile, {"customers": keys}).to_pandas().iloc[0]
    assert (None if pd.isna(judged["amount_cny"]) else str(judged["amount_cny"])) == kept


def test_a_column_that_holds_no_codes_is_told_by_its_shapes() -> None:
    with pytest.raises(UnknownCode) as refused:
        refuse_unknown_codes(
            "customers", "status", {"13800138000": 1, "张三丰": 1}, CANONICAL, CANONICAL.tables["customers"]
        )
    assert "13800138000" not in str(refused.value)
    assert "张三" not in str(refused.value)
    with pytest.raises(UnknownCode, match="'休眠户' × 300"):
        refuse_unknown_codes("customers", "status", {"休眠户": 300}, CANONICAL, CANONICAL.tables["customers"])
