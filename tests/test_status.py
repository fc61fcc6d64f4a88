"""`huifang status` before a month is drawn: what a frozen year or a committed month waits for, and who has to act."""

import json
import shutil

import pytest
import yaml
from house import House, at

from tasks.settings import PROJECT

pytestmark = pytest.mark.slow

CHAIN = {
    "kind": "chain",
    "public": {
        "name": {"zh_CN": "上证综指收盘价", "en": "SSE Composite close"},
        "available_at": "15:30",
        "pattern": r"[0-9]+\.[0-9]{2}",
    },
}


@pytest.fixture(scope="module")
def pulled(prefect_client, tmp_path_factory):
    house = House.build(tmp_path_factory.mktemp("status") / "home", prefect_client, customers=300, branches=2)
    house.pull()
    return house


@pytest.fixture
def chained(pulled, tmp_path):
    folder = tmp_path / "programmes"
    shutil.copytree(PROJECT / "programmes", folder)
    content = yaml.safe_load((folder / "daily_risk.yaml").read_text(encoding="utf-8"))
    (folder / "daily_risk.yaml").write_text(yaml.safe_dump(content | {"seed": CHAIN}, allow_unicode=True), "utf-8")
    return pulled.copy(tmp_path / "home").having(HUIFANG_PROGRAMMES=str(folder), HUIFANG_LANGUAGE="en")


def draw(house, *, now="07:30", exits=(1,)):
    house.call("run", "draw", "--programme", "daily_risk", "--period", "2026-01", *at("2026-01-04", now), exits=exits)


def waiting(house, exits):
    """Where the only thing that waits stands, for what, and what the page says of it."""
    found = json.loads(house.call("status", "--json", "--as-of", "2026-01-05", exits=(exits,)).stdout)["waiting"]
    page = " ".join(house.call("status", "--as-of", "2026-01-05", exits=(exits,)).output.split())
    if not found:
        return "", [], page
    (one,) = found
    return one["stands"], [wait["what"] for wait in one["waits_for"]], page


def test_each_step_of_a_month_with_a_chain_is_shown_with_what_it_waits_for(chained):
    house = chained
    assert waiting(house, 0)[:2] == ("", [])
    draw(house)
    stands, what, page = waiting(house, 1)
    assert (stands, what) == ("frozen", ["chain", "draw"])
    assert "daily_risk-2026: frozen on" in page
    assert "huifang chain daily_risk 2026 --out FILE" in page

    file = house.home / "links.txt"
    now = ("--now", "2026-01-04T09:00+0800")
    house.call("chain", "daily_risk", "2026", "--out", str(file), "--by", "合规甲", *now, exits=(0,))
    stands, what, page = waiting(house, 0)
    assert (stands, what) == ("frozen", ["draw"])
    assert "huifang run draw --programme daily_risk --period 2026-01" in page

    draw(house, now="10:00")
    stands, what, page = waiting(house, 1)
    assert (stands, what) == ("committed", ["public", "link", "draw"])
    assert "SSE Composite close), the first one known after the commitment of 2026-01-04 10:00" in page
    assert "no campaign has been drawn yet" not in page

    later = ("--now", "2026-01-05T16:00+0800")
    words = ("reveal", "daily_risk-2026-01", "--public", "4023.42", "--on", "2026-01-05", "--by", "运营乙", *later)
    house.call(*words, exits=(0,))
    assert waiting(house, 1)[1] == ["link", "draw"]
    house.call("abort", "daily_risk-2026-01", "--by", "运营乙", "--reason", "写错", *later, exits=(0,))
    stands, what, page = waiting(house, 1)
    assert what == ["commitment_mail", "commitment_mail", "public", "link", "draw"]
    assert "attempt 2" in page
    assert "known after attempt 1 was given up" in page
    assert "mail to compliance: not written yet" in page


def test_a_random_month_that_is_drawn_waits_for_nothing(pulled, tmp_path):
    house = pulled.copy(tmp_path / "home")
    draw(house, exits=(0, 1))
    assert waiting(house, 0)[:2] == ("", [])


def test_a_commitment_that_nobody_could_be_mailed_is_somebodys_business(chained):
    house = chained
    house.call("run", "draw", "--programme", "daily_risk", "--period", "2026-01", *at("2026-01-04", "07:30"), exits=(1,))
    lines = (house.home / "inbox" / "roster.csv").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("HQ,compliance")]
    assert len(kept) < len(lines)
    (house.home / "inbox" / "roster.csv").write_text("\n".join(kept) + "\n", encoding="utf-8")
    house.pull()
    now = ("--now", "2026-01-04T09:00+0800")
    house.call("chain", "daily_risk", "2026", "--out", str(house.home / "l"), "--by", "合规甲", *now, exits=(0,))
    draw(house, now="10:00")
    _, what, page = waiting(house, 1)
    assert what == ["commitment_mail", "public", "link", "draw"]
    assert "the commitment's mail to compliance: not written yet; the next draw mails it" in page
