"""The synthetic brokerage: what its extracts promise to whoever tests against them."""

import hashlib
import time
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli import app
from demo.brokerage import COLUMNS, BrokerageError, Extracts, build_extracts
from models import CallbackError
from models.profile import Profile
from tasks.lake import take_in
from tasks.settings import PROJECT, Settings, read_yaml
from tasks.source import open_delivery

WEIGHTS = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
CREDIT_WEIGHTS = [1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28]
CREDIT_SIGNS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
YEAR_END = date(2025, 12, 31)


def read(directory: Path, table: str) -> pd.DataFrame:
    return pd.read_csv(directory / f"{table}.csv", dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Extracts]:
    directory = tmp_path_factory.mktemp("extracts")
    return directory, build_extracts(directory, customers=20_000, branches=20, seed=7, year_end=YEAR_END)


def test_each_file_has_the_canonical_header_and_the_rows_it_says(built):
    directory, extracts = built
    for table, columns in COLUMNS.items():
        content = read(directory, table)
        assert list(content.columns) == columns
        assert len(content) == extracts.rows[table] > 0
    assert extracts.rows["customers"] == 20_000
    assert extracts.rows["branches"] == 20


def test_every_person_has_an_identity_number_whose_check_character_is_right(built):
    customers = read(built[0], "customers")
    people = customers[customers["segment"] != "institution"]
    for number in people["id_no"].sample(2_000, random_state=1):
        assert len(number) == 18
        assert "10X98765432"[sum(w * int(d) for w, d in zip(WEIGHTS, number[:17], strict=True)) % 11] == number[17]
        date.fromisoformat(f"{number[6:10]}-{number[10:12]}-{number[12:14]}")
    assert people["id_no"].is_unique


def test_every_firm_has_a_credit_code_whose_two_check_characters_are_right(built):
    customers = read(built[0], "customers")
    codes = customers.loc[customers["segment"] == "institution", "id_no"]
    assert codes.is_unique
    assert len(codes) > 300
    for code in codes:
        assert set(code) <= set(CREDIT_SIGNS)
        values = [CREDIT_SIGNS.index(sign) for sign in code]
        assert (sum(w * v for w, v in zip(CREDIT_WEIGHTS, values, strict=False)) + values[17]) % 31 == 0
        own = sum(w * int(sign, 36) for w, sign in zip([3, 7, 9, 10, 5, 8, 4, 2], code[8:16], strict=True))
        assert "0X987654321"[own % 11] == code[16]


def test_phones_are_distinct_mobile_numbers_once_full_width_digits_are_normalised(built):
    directory, extracts = built
    phones = read(directory, "customers")["phone"]
    normal = phones.str.normalize("NFKC")
    assert normal.str.fullmatch(r"1[3-9][0-9]{9}").all()
    of_staff = read(directory, "staff")["phone"]
    assert of_staff.str.fullmatch(r"1[3-9][0-9]{9}").all()
    assert of_staff.is_unique
    assert normal[~normal.isin(of_staff)].is_unique
    assert (phones != normal).sum() == extracts.planted["full_width_phone"]


def test_numbers_keep_their_leading_zeros(built):
    customers = read(built[0], "customers")
    assert customers["customer_id"].str.fullmatch(r"0[0-9]{9}").all()
    assert customers["customer_id"].is_unique
    assert customers["branch_no"].str.fullmatch(r"00[0-9]{2}").all()
    assert set(customers["branch_no"]) == set(read(built[0], "branches")["branch_no"])


def test_customers_are_skewed_as_in_a_real_house(built):
    customers = read(built[0], "customers")
    shares = customers["status"].value_counts(normalize=True)
    assert shares.round(2).to_dict() == pytest.approx(
        {"active": 0.80, "dormant": 0.12, "closed": 0.05, "suspended": 0.03}, abs=0.02
    )
    sizes = customers["branch_no"].value_counts()
    assert sizes.max() > 2.5 * sizes.min()
    assert customers["segment"].value_counts().index[0] == "retail"
    assert set(customers["risk_level"]) == {"C1", "C2", "C3", "C4", "C5", ""}


def test_accounts_open_before_the_year_end_and_only_closed_ones_have_closed_before_it(built):
    customers = read(built[0], "customers")
    is_closed = customers["status"] == "closed"
    assert (customers["close_on"] != "").equals(is_closed)
    closed = customers[is_closed]
    assert (closed["open_on"] < closed["close_on"]).all()
    assert (closed["close_on"] < "2025-12-31").all()
    assert customers["open_on"].between("2006-01-01", "2025-12-31").all()


def test_developers_are_brokers_or_marketers_of_the_customers_own_branch(built):
    relations = read(built[0], "relations")
    joined = relations.merge(read(built[0], "customers"), on="customer_id", how="left", validate="m:1")
    joined = joined.merge(read(built[0], "staff"), on="staff_id", how="left", suffixes=("", "_staff"), validate="m:1")
    assert joined["branch_no"].equals(joined["branch_no_staff"])
    developed = joined[joined["kind"] == "developer"]
    assert set(developed["kind_staff"]) <= {"broker", "marketer"}
    assert developed["customer_id"].is_unique
    assert 0.33 < len(developed) / 20_000 < 0.37
    ended = developed[developed["valid_to"] != ""]
    assert 0.03 < len(ended) / len(developed) < 0.15
    assert (ended["valid_from"] <= ended["valid_to"]).all()
    assert "server" in set(joined["kind"])


def test_some_callers_serve_customers_so_that_others_must_call_these(built):
    staff = read(built[0], "staff").set_index("staff_id")
    relations = read(built[0], "relations")
    callers = staff[staff["kind"] == "caller"]
    served = relations[relations["staff_id"].isin(callers.index)]
    assert set(served["kind"]) == {"server"}
    assert served.groupby(served["staff_id"].str[:4])["staff_id"].nunique().to_dict() == {
        f"{n:04d}": 1 for n in range(1, 21)
    }
    per_branch = callers.groupby("branch_no").size()
    assert set(per_branch) == {1, 2}, "where there is one, headquarters calls"
    assert 0.2 < len(served) / (relations["kind"] == "server").sum() < 0.5


def test_each_branch_has_three_to_eight_staff_and_every_role_but_some_deputies(built):
    staff, roster = read(built[0], "staff"), read(built[0], "roster")
    assert staff["staff_id"].is_unique
    assert not staff.duplicated(["branch_no", "staff_name"]).any()
    assert staff.groupby("branch_no").size().between(3, 8).all()
    assert (staff.groupby("branch_no")["kind"].agg(set) >= {"caller"}).all()
    current = roster[roster["valid_to"] == ""]
    assert not current.duplicated(["branch_no", "role"]).any()
    roles = current[current["branch_no"] != "HQ"].groupby("role").size()
    assert roles.to_dict() == {
        "operations_director": 20,
        "customer_service_manager": 20,
        "branch_head": 20,
        "deputy": 16,
    }
    assert set(roster.loc[roster["branch_no"] == "HQ", "role"]) == {"compliance", "operations_management", "hq_service"}
    assert "director.0001@branch.example" in set(current["email"])


def test_planted_dirt_is_there_in_exactly_the_counts_named(built):
    directory, extracts = built
    customers, transactions = read(directory, "customers"), read(directory, "transactions")
    joined = transactions.merge(customers[["customer_id", "status", "open_on"]], on="customer_id", how="left")
    dates = pd.to_datetime(joined["traded_on"], format="%Y-%m-%d", errors="coerce")
    bad_date, bad_amount = dates.isna(), ~joined["amount_cny"].str.fullmatch(r"[0-9]+\.[0-9]{2}")
    stranger = joined["status"].isna()
    names = customers["customer_name"]
    assert {
        "impossible_date": bad_date.sum(),
        "unreadable_amount": bad_amount.sum(),
        "unknown_customer": stranger.sum(),
        "padded_name": (names.str.startswith("\u3000") | names.str.endswith("\u3000")).sum(),
        "full_width_phone": (~customers["phone"].str.isascii()).sum(),
        "dormant_trading": joined.loc[joined["status"] == "dormant", "customer_id"].nunique(),
        "staff_phone": customers["phone"].isin(read(directory, "staff")["phone"]).sum(),
    } == extracts.planted
    assert (bad_date.astype(int) + bad_amount + stranger).max() == 1
    good = joined[~bad_date & ~stranger]
    assert set(good["status"]) == {"active", "dormant"}
    assert (good["traded_on"] >= good["open_on"]).all()
    assert good["traded_on"].between("2025-12-01", "2025-12-31").all()
    assert transactions["transaction_id"].is_unique


def test_a_phone_shared_with_staff_is_that_of_somebody_who_serves_the_customer_s_own_branch(built):
    customers, staff = read(built[0], "customers"), read(built[0], "staff")
    shared = customers.merge(staff, on="phone", suffixes=("", "_staff"), validate="m:1")
    assert len(shared) == 20
    assert set(shared["status"]) == {"active"}
    assert shared["branch_no"].equals(shared["branch_no_staff"])
    assert set(shared["valid_to"]) == {""}
    assert shared["staff_id"].nunique() > 10


def test_active_customers_trade_about_five_times_with_a_heavy_tail(built):
    transactions = read(built[0], "transactions")
    assert 3.5 < len(transactions) / (20_000 * 0.8) < 6.5
    per_customer = transactions["customer_id"].value_counts()
    assert per_customer.max() > 20 * per_customer.median()


def test_intake_rejects_exactly_the_planted_rows_and_no_customer(built, tmp_path):
    directory, extracts = built
    settings, rules = Settings(home=tmp_path), read_yaml(PROJECT / "profiles" / "canonical.yaml", Profile)
    known: dict[str, str] = {}
    rejected: dict[tuple[str, str], int] = {}
    with open_delivery(settings, rules, directory, None) as files:
        for table, delivered in files.items():
            result = take_in(settings, rules, table, delivered, as_of=YEAR_END, known=dict(known))
            known[table] = result.path
            assert result.rows == extracts.rows[table]
            rejected |= {(table, tally.rule): tally.rows for tally in result.tallies}
    assert rejected == {
        ("transactions", "impossible_date"): extracts.planted["impossible_date"],
        ("transactions", "bad_number"): extracts.planted["unreadable_amount"],
        ("transactions", "orphan"): extracts.planted["unknown_customer"],
    }


def hashes(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_house(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_extracts(tmp_path / name, customers=500, branches=3, seed=seed)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert hashes(tmp_path / "a")["customers.csv"] != hashes(tmp_path / "c")["customers.csv"]


def test_the_bytes_are_the_same_however_many_processes_write_them(tmp_path):
    for dialect in ("canonical", "hundsun"):
        for workers in (1, 2):
            extracts = build_extracts(
                tmp_path / f"{dialect}{workers}",
                customers=4_000,
                dialect=dialect,
                workers=workers,
                chunk_customers=1_500,
            )
        assert hashes(tmp_path / f"{dialect}1") == hashes(tmp_path / f"{dialect}2")
        assert extracts.rows["customers"] == 4_000


@pytest.mark.parametrize(("customers", "branches"), [(10, 1), (60, 6), (1_234, 30)])
def test_small_houses_carry_their_dirt_in_full_too(tmp_path, customers, branches):
    extracts = build_extracts(tmp_path, customers=customers, branches=branches)
    assert len(read(tmp_path, "customers")) == customers
    assert (
        sum(read(tmp_path, "transactions")["traded_on"].str.endswith("-32")) == extracts.planted["impossible_date"] == 2
    )


@pytest.mark.parametrize(("customers", "branches"), [(9, 1), (100, 0), (100_000, 1_000)])
def test_a_house_that_cannot_be_made_is_refused(tmp_path, customers, branches):
    with pytest.raises(BrokerageError, match="branches"):
        build_extracts(tmp_path / "none", customers=customers, branches=branches)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("customers", "transactions"), [(10, 10), (5_000, 50_000), (5_000, 600_000)])
def test_as_many_transactions_come_as_were_asked_for_and_a_few_customers_have_most(tmp_path, customers, transactions):
    extracts = build_extracts(tmp_path, customers=customers, branches=1, transactions=transactions)
    written = read(tmp_path, "transactions")
    assert len(written) == extracts.rows["transactions"] == transactions
    assert written["transaction_id"].is_unique
    dates, amounts = written["traded_on"], written["amount_cny"]
    assert dates.str.endswith("-32").sum() == extracts.planted["impossible_date"]
    assert (amounts == "1O0.00").sum() == extracts.planted["unreadable_amount"]
    if customers == 5_000:
        per_customer = written["customer_id"].value_counts()
        active = (read(tmp_path, "customers")["status"] == "active").sum()
        assert 0.15 < 1 - len(per_customer) / active < 0.25  # no trade at all, though not dormant
        assert per_customer.head(len(per_customer) // 10).sum() > 0.35 * transactions


def test_parquet_holds_the_same_rows_typed_and_dirt_that_has_no_type_as_nothing(tmp_path):
    for form in ("csv", "parquet"):
        extracts = build_extracts(tmp_path / form, customers=3_000, form=form)
    for table in COLUMNS:
        text = read(tmp_path / "csv", table)
        typed = pq.read_table(sorted((tmp_path / "parquet").glob(f"{table}*.parquet")))
        assert typed.num_rows == extracts.rows[table]
        kinds = {str(field.type) for field in typed.schema}
        assert kinds <= {"string", "date32[day]", "decimal128(18, 2)"}
        for name in COLUMNS[table]:
            spelt = typed[name].cast("string").fill_null("").to_pandas()
            expected = text[name].mask(text[name].str.endswith("-32") | (text[name] == "1O0.00"), "")
            assert spelt.tolist() == expected.tolist()
    transactions = pq.read_table(tmp_path / "parquet" / "transactions_0001.parquet")
    assert transactions["traded_on"].null_count == extracts.planted["impossible_date"]
    assert transactions["amount_cny"].null_count == extracts.planted["unreadable_amount"]


def test_a_smaller_delivery_leaves_no_part_of_a_larger_one(tmp_path):
    build_extracts(tmp_path, customers=3_000, form="parquet", workers=1, chunk_customers=1_000)
    extracts = build_extracts(tmp_path, customers=1_000, form="parquet", workers=1)
    assert sorted(tmp_path.iterdir()) == sorted(extracts.files)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"dialect": "hengsheng"}, "canonical, hundsun, kingdom, berka"),
        ({"dialect": "kingdom", "form": "parquet"}, "parquet is for canonical"),
        ({"transactions": 99}, "1 to 300 per customer"),
    ],
)
def test_an_order_that_cannot_be_written_is_refused_before_anything_is(tmp_path, asked, said):
    with pytest.raises(CallbackError, match=said):
        build_extracts(tmp_path / "none", customers=100, branches=1, **asked)
    assert not (tmp_path / "none").exists()


def test_the_command_writes_extracts_alone_and_says_how_to_take_them_in(tmp_path):
    words = ["demo", "--extracts", str(tmp_path / "new"), "--profile", "kingdom", "--customers", "1000"]
    environment = {"HUIFANG_HOME": str(tmp_path / "home"), "COLUMNS": "300"}
    result = CliRunner().invoke(app, words, env=environment)
    assert result.exit_code == 0, result.output
    assert "customers │ 1,000" in " ".join(result.stdout.replace("│ customers", "customers").split())
    profile = PROJECT / "profiles" / "kingdom.yaml"
    assert f"huifang run pull --profile {profile} --inbox {tmp_path / 'new'} --as-of 2025-12-31" in result.stdout
    assert not (tmp_path / "home").exists()

    again = CliRunner().invoke(app, words, env=environment)
    assert again.exit_code == 2
    assert "new or empty folder" in " ".join(again.output.split())


@pytest.mark.parametrize(
    "words", [("--profile", "hengsheng"), ("--profile", "hundsun", "--format", "parquet"), ("--transactions", "5")]
)
def test_the_demo_refuses_what_it_cannot_write_before_it_wipes_anything(tmp_path, words):
    (tmp_path / "DEMO").write_text("")
    (tmp_path / "kept").write_text("")
    result = CliRunner().invoke(app, ["demo", *words], env={"HUIFANG_HOME": str(tmp_path)})
    assert result.exit_code == 2
    assert (tmp_path / "kept").exists()


@pytest.mark.long
def test_ids_and_counts_hold_across_chunks_at_260_000_customers_in_seconds(tmp_path):
    began = time.monotonic()
    extracts = build_extracts(tmp_path, customers=260_000, branches=500)
    assert time.monotonic() - began < 20  # 2 s on two idle cores
    customers = pd.read_csv(
        tmp_path / "customers.csv",
        dtype=str,
        keep_default_na=False,
        usecols=["customer_id", "phone", "id_no", "segment"],
    )
    assert len(customers) == 260_000
    assert customers["customer_id"].is_monotonic_increasing
    assert customers["customer_id"].is_unique
    assert customers["phone"].str.normalize("NFKC").duplicated().sum() <= extracts.planted["staff_phone"] == 260
    assert customers.loc[customers["segment"] != "institution", "id_no"].is_unique
    transactions = pd.read_csv(tmp_path / "transactions.csv", dtype=str, usecols=["transaction_id", "traded_on"])
    assert transactions["transaction_id"].is_unique
    assert transactions["traded_on"].str.endswith("-32").sum() == extracts.planted["impossible_date"] == 130
