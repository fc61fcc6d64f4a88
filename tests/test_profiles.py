"""Every profile that is shipped, against extracts of one brokerage in its own house's names, codes and files."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from demo.brokerage import Extracts, build_extracts
from models.canonical import TABLES
from models.profile import Profile
from tasks.lake import IntakeResult, open_table, take_in
from tasks.settings import PROJECT, Settings, read_yaml
from tasks.source import SourceError, open_delivery

YEAR_END = date(2025, 12, 31)
DIALECTS = ("canonical", "hundsun", "kingdom", "berka")
OTHERS = ("hundsun", "kingdom")


def profile_of(name: str) -> Profile:
    return read_yaml(PROJECT / "profiles" / f"{name}.yaml", Profile)


@dataclass
class Taken:
    """One delivery, taken in whole."""

    inbox: Path
    extracts: Extracts
    settings: Settings
    results: dict[str, IntakeResult]

    @classmethod
    def build(cls, folder: Path, dialect: str, *, form: str = "csv") -> "Taken":
        extracts = build_extracts(
            folder / "inbox", customers=2_000, branches=12, seed=5, year_end=YEAR_END, dialect=dialect, form=form
        )
        return cls(folder / "inbox", extracts, Settings(home=folder / "home"), {}).take(dialect)

    def take(self, dialect: str) -> "Taken":
        profile = profile_of(dialect)
        roster = None if "roster" in profile.tables else self.inbox / "contacts" / "roster.csv"
        known: dict[str, str] = {}
        with open_delivery(self.settings, profile, self.inbox, roster) as delivery:
            for table, files in delivery.items():
                result = take_in(self.settings, profile, table, files, as_of=YEAR_END, known=dict(known))
                self.results[table] = result
                known[table] = result.path
        return self

    def rejected(self) -> dict[tuple[str, str, str], int]:
        return self._tallies("rejected")

    def ignored(self) -> dict[tuple[str, str], int]:
        return {(table, rule): rows for (table, rule, _), rows in self._tallies("ignored").items()}

    def _tallies(self, verdict: str) -> dict[tuple[str, str, str], int]:
        return {
            (table, tally.rule, tally.column_name): tally.rows
            for table, result in self.results.items()
            for tally in result.tallies
            if tally.verdict == verdict
        }

    def rows_of(self, table: str) -> pd.DataFrame:
        return open_table(self.settings, self.results[table].path).to_pandas()


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Taken]:
    return {name: Taken.build(tmp_path_factory.mktemp(name), name) for name in DIALECTS}


@pytest.mark.parametrize("dialect", OTHERS)
def test_each_house_comes_to_the_same_tables_row_for_row(taken, dialect):
    ours, theirs = taken["canonical"].results, taken[dialect].results
    assert list(theirs) == list(TABLES)
    assert {t: r.content_sha256 for t, r in theirs.items()} == {t: r.content_sha256 for t, r in ours.items()}
    assert {t: r.accepted for t, r in theirs.items()} == {t: r.accepted for t, r in ours.items()}


@pytest.mark.parametrize("dialect", OTHERS)
def test_the_planted_dirt_is_rejected_for_the_same_reasons_in_each_house(taken, dialect):
    planted = taken["canonical"].extracts.planted
    assert taken[dialect].rejected() == taken["canonical"].rejected() == {
        ("transactions", "impossible_date", "traded_on"): planted["impossible_date"],
        ("transactions", "bad_number", "amount_cny"): planted["unreadable_amount"],
        ("transactions", "orphan", "customer_id"): planted["unknown_customer"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "ignored"),
    [
        ("canonical", {}),
        ("hundsun", {("customers", "internal_test_account"): 3, ("transactions", "internal_test_account"): 3}),
        ("kingdom", {("customers", "second_account"): 20}),
    ],
)
def test_what_a_house_adds_of_its_own_is_ignored_by_name_and_nothing_else_is(taken, dialect, ignored):
    assert taken[dialect].ignored() == ignored


def test_typed_parquet_comes_to_the_same_tables_as_text(taken, tmp_path):
    typed = Taken.build(tmp_path, "canonical", form="parquet")
    ours = taken["canonical"]
    assert {t: r.content_sha256 for t, r in typed.results.items()} == {
        t: r.content_sha256 for t, r in ours.results.items()
    }
    # A typed column has no room for what is no date and no number.
    planted = ours.extracts.planted
    assert typed.rejected() == {
        ("transactions", "missing", "traded_on"): planted["impossible_date"],
        ("transactions", "missing", "amount_cny"): planted["unreadable_amount"],
        ("transactions", "orphan", "customer_id"): planted["unknown_customer"],
    }


@pytest.mark.parametrize(
    ("table", "carried"),
    [
        ("branches", ["branch_no", "branch_name", "region"]),
        ("staff", ["staff_id", "staff_name", "branch_no"]),
        ("customers", ["customer_id", "customer_name", "phone", "id_no", "branch_no", "segment", "open_on"]),
        ("transactions", ["transaction_id", "customer_id", "traded_on", "kind", "amount_cny"]),
    ],
)
def test_berka_comes_to_the_same_rows_in_the_columns_it_carries(taken, table, carried):
    ours, theirs = taken["canonical"].rows_of(table)[carried], taken["berka"].rows_of(table)[carried]
    if table == "transactions":
        ours = ours[ours["kind"].isin(["deposit", "withdraw"])]
    assert len(theirs) > 10
    pd.testing.assert_frame_equal(
        theirs.sort_values(carried[0], ignore_index=True), ours.sort_values(carried[0], ignore_index=True)
    )


def test_berka_ignores_who_owns_no_account_and_the_type_whose_sense_nobody_knows(taken):
    ignored = taken["berka"].ignored()
    assert set(ignored) == {("customers", "authorised_person"), ("transactions", "undocumented_type")}
    assert ignored["customers", "authorised_person"] == 10
    assert "relations" not in taken["berka"].results
    assert taken["berka"].results["roster"].content_sha256 == taken["canonical"].results["roster"].content_sha256


@pytest.mark.parametrize("name", DIALECTS)
def test_each_rule_by_which_something_is_left_out_says_why(name):
    profile = profile_of(name)
    assert all(profile.ignore_reasons().values())
    assert not any("*" in table.ignore_columns for table in profile.tables.values())


@pytest.mark.parametrize(
    ("dialect", "file", "missing"),
    [
        ("hundsun", "client_20251231.txt", "client_20251231.txt.ok"),
        ("kingdom", "KD_CUST_TRADE.zip", "KD_EXTRACT.ctl"),
    ],
)
def test_a_delivery_without_its_marker_is_left_alone(tmp_path, dialect, file, missing):
    build_extracts(tmp_path / "inbox", customers=100, branches=2, dialect=dialect)
    assert (tmp_path / "inbox" / file).exists()
    (tmp_path / "inbox" / missing).unlink()
    with (
        pytest.raises(SourceError, match=missing),
        open_delivery(Settings(home=tmp_path / "home"), profile_of(dialect), tmp_path / "inbox"),
    ):
        pass
