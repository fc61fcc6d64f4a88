"""Who may not make a call, as the newest extract of relations says."""

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from demo.brokerage import build_extracts
from flows.collect.expected import related_to
from models.profile import Profile
from models.returns import Related
from tasks.lake import names_of, take_in
from tasks.settings import PROJECT, Settings, read_yaml
from tasks.source import open_delivery


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path, dict[str, str]]:
    """A lake with the extracts of a small house, these extracts, and the path of each snapshot."""
    home = tmp_path_factory.mktemp("house")
    build_extracts(home / "inbox", customers=300, branches=4, seed=3, year_end=date(2025, 12, 31))
    settings, profile = Settings(home=home), read_yaml(PROJECT / "profiles" / "canonical.yaml", Profile)
    known: dict[str, str] = {}
    with open_delivery(settings, profile, home / "inbox", None) as files:
        for table, delivered in files.items():
            known[table] = take_in(
                settings, profile, table, delivered, as_of=date(2025, 12, 31), known=dict(known)
            ).path
    return settings, home / "inbox", known


def calls_to(customers: list[str], developer: str, programme_year: str = "daily_risk-2026") -> pd.DataFrame:
    return pd.DataFrame({"programme_year_id": programme_year, "customer_id": customers, "developer_id": developer})


def day(text: str) -> date | None:
    return date.fromisoformat(text) if text else None


def test_a_call_knows_everybody_who_ever_developed_or_served_the_customer_and_since_when(house):
    settings, inbox, known = house
    written = pd.read_csv(inbox / "relations.csv", dtype=str, keep_default_na=False)
    staff = names_of(settings, known["staff"], "staff_id", "staff_name")
    customers = list(pd.read_csv(inbox / "customers.csv", dtype=str)["customer_id"])
    found = related_to(settings, calls_to(customers, ""), {"daily_risk-2026"}, known["relations"], staff)
    assert sum(map(len, found)) == len(written) > 100
    for customer, related in zip(customers, found, strict=True):
        mine = written[written["customer_id"] == customer]
        assert set(related) == {
            Related(r.staff_id, staff[r.staff_id], day(r.valid_from), day(r.valid_to)) for r in mine.itertuples()
        }


def test_the_developer_at_the_draw_stays_off_though_no_extract_names_him_any_more(house):
    settings, inbox, known = house
    customer = str(pd.read_csv(inbox / "relations.csv", dtype=str)["customer_id"][0])
    for path in (known["relations"], None):
        [related] = related_to(settings, calls_to([customer], "000101"), {"daily_risk-2026"}, path, {"000101": "王芳"})
        assert related[0] == Related("000101", "王芳", None, None)
        assert related[0].holds_on(date(2026, 3, 5))
        assert (len(related) > 1) == (path is not None)


def test_a_programme_without_recusal_keeps_nobody_off(house):
    settings, inbox, known = house
    customers = list(pd.read_csv(inbox / "relations.csv", dtype=str)["customer_id"].unique()[:5])
    both = pd.concat([calls_to(customers, "000101"), calls_to(customers, "000101", "event-2026")], ignore_index=True)
    found = related_to(settings, both, {"daily_risk-2026"}, known["relations"], {})
    assert [bool(related) for related in found] == [True] * 5 + [False] * 5
