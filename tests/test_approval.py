"""Nothing of a draw is mailed before compliance approved it, and nothing at all while mail is stopped."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from house import House, at

from tasks.settings import PROJECT

pytestmark = pytest.mark.slow
CAMPAIGN = "daily_risk-2026-03"


@pytest.fixture(scope="module")
def drawn(prefect_client, tmp_path_factory):
    """A month of a programme that asks for an approval, drawn by Zhang Wei."""
    folder = tmp_path_factory.mktemp("programmes")
    for file in (PROJECT / "programmes").glob("*.yaml"):
        shutil.copy(file, folder)
    file = folder / "daily_risk.yaml"
    file.write_text(file.read_text(encoding="utf-8") + "\napproval: required\n", encoding="utf-8")
    house = House.build(tmp_path_factory.mktemp("house") / "home", prefect_client, customers=600, branches=4)
    house = house.having(HUIFANG_PROGRAMMES=str(folder))
    house.pull()
    house.having(HUIFANG_ACTOR="Zhang Wei").draw("daily_risk")
    return house


def answering(house):
    """How many have calls to answer: branches, and headquarters where all callers of a branch are barred."""
    return house.rows("select count(distinct case caller when 'hq' then 'HQ' else branch_no end) from assignment")[0][0]


def mailed(house):
    return house.rows("select count(*) from mail where kind = 'assignment'")[0][0]


def test_dispatch_refuses_what_compliance_has_not_approved_and_says_what_is_missing(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home")
    said = house.call("run", "dispatch", *at("2026-03-02"), exits=(1,)).output
    assert "1 unapproved" in said
    assert mailed(house) == 0
    waits = json.loads(house.call("status", "--json", exits=(1,)).stdout)["waiting"]
    assert [wait["what"] for one in waits if one["campaign"] == CAMPAIGN for wait in one["waits_for"]] == ["approval"]
    shown = house.call("approve", CAMPAIGN).output
    assert "not approved" in shown
    assert "Zhang Wei" in shown
    house.call("approve", CAMPAIGN, "--by", "Li Na", "--note", "counts looked at")
    house.call("run", "dispatch", *at("2026-03-02"), exits=(0,))
    assert mailed(house) == answering(house) > 0
    late = house.call("approve", CAMPAIGN, "--by", "Li Na", "--withdraw", exits=(2,)).output
    assert "mailed already" in late


@pytest.mark.parametrize("name", ["Zhang Wei", "zhang  wei", "ZHANGWEI", "flow:draw"])
def test_whoever_started_the_draw_does_not_approve_it(drawn, name):
    said = drawn.call("approve", CAMPAIGN, "--by", name, exits=(2,)).output
    assert "ApprovalRefused" in said
    assert drawn.count("approval") == 0


def test_an_approval_can_be_withdrawn_and_is_for_one_sample(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home")
    nothing = house.call("approve", CAMPAIGN, "--by", "Li Na", "--withdraw", exits=(2,)).output
    assert "no approval to withdraw" in nothing
    house.call("approve", CAMPAIGN, "--by", "Li Na")
    assert "already" in house.call("approve", CAMPAIGN, "--by", "Wu Min").output
    house.call("approve", CAMPAIGN, "--by", "Li Na", "--withdraw", "--note", "a branch is missing")
    house.call("run", "dispatch", *at("2026-03-02"), exits=(1,))
    assert mailed(house) == 0
    assert house.rows("select decision, decided_by from approval order by id") == [
        ("approved", "Li Na"), ("withdrawn", "Li Na"),
    ]  # fmt: skip


def test_a_programme_that_asks_for_no_approval_has_none(prefect_client, tmp_path):
    house = House.build(tmp_path / "home", prefect_client, customers=400, branches=2)
    house.pull()
    house.draw("daily_risk")
    said = house.call("approve", CAMPAIGN, "--by", "Li Na", exits=(2,)).output
    assert "asks for no approval" in said
    house.call("mail", "stop", "--by", "Li Na", "--reason", "a wrong roster")
    assert "nothing changed" in house.call("mail", "stop", "--by", "Wu Min", "--reason", "again").output
    said = house.call("run", "dispatch", *at("2026-03-02"), exits=(1,)).output
    assert "stopped" in said
    assert mailed(house) == 0
    assert not list((house.home / "outbox").glob("**/*.eml"))
    status = json.loads(house.call("status", "--json", exits=(1,)).stdout)
    assert (status["mail_stopped"]["by"], status["mail_stopped"]["reason"]) == ("Li Na", "a wrong roster")
    house.call("mail", "go", "--by", "Li Na", "--reason", "roster corrected")
    house.call("run", "dispatch", *at("2026-03-02"), exits=(0,))
    assert mailed(house) == answering(house) > 0
    assert house.rows("select distinct outcome from mail_outcome") == [("sent",)]


def test_another_programme_goes_on_and_a_sample_that_changed_needs_a_new_approval(drawn, tmp_path):
    house = drawn.copy(tmp_path / "home")
    house.draw("marketer_conduct")
    house.call("approve", CAMPAIGN, "--by", "Li Na")
    with closing(sqlite3.connect(house.home / "huifang.sqlite")) as store, store:
        store.execute("update draw set sample_sha256 = ? where campaign_id = ?", ("0" * 64, CAMPAIGN))
    said = house.call("run", "dispatch", *at("2026-03-02"), exits=(1,)).output
    assert "1 unapproved" in said
    assert house.rows("select distinct campaign_id from mail where kind = 'assignment'") == [
        ("marketer_conduct-2026-03",)
    ]
    assert "for another sample" in house.call("approve", CAMPAIGN).output
