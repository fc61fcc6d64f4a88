"""Exceptions and hand-overs: given once, told in full, listed, and taken back while no month has used them."""

import json

import pytest
from house import House, at

pytestmark = pytest.mark.slow

BY = ("--by", "合规甲", "--reason", "诉讼中")
BACK = ("--by", "合规乙", "--reason", "写错")


@pytest.fixture(scope="module")
def drawn(prefect_client, tmp_path_factory):
    house = House.build(tmp_path_factory.mktemp("exceptions") / "home", prefect_client, customers=600, branches=3)
    house.pull()
    house.draw("daily_risk", period="2026-03")
    return house


@pytest.fixture
def house(drawn, tmp_path):
    return drawn.copy(tmp_path / "home")


def said(house, *words, exits=0):
    return " ".join(house.call(*words, exits=(exits,)).output.split())


def listed(house, word="exception"):
    return [
        (one["number"], one["stands"])
        for one in json.loads(house.call(word, "list", "--json", exits=(0,)).stdout)
    ]


def customer_of(house, branch="0001"):
    (row,) = house.rows(
        f"select customer_id from assignment where branch_no = '{branch}' order by customer_id limit 1"
    )
    return row[0]


def test_an_exception_is_told_in_full_listed_and_taken_back_while_no_month_has_used_it(house):
    capacity = ("exception", "capacity", "daily_risk", "2026-04", "0001", "--calls")
    told = said(house, *capacity, "5", *BY)
    for words in ("exception 1", "daily_risk 2026", "0001 takes on 5 calls in 2026-04", "合规甲", "诉讼中",
                  "commits daily_risk-2026-04", "huifang exception revoke 1"):  # fmt: skip
        assert words in told
    assert "says this already" in said(house, *capacity, "5", *BY)
    other = said(house, *capacity, "7", *BY, exits=2)
    assert "0001 takes on 5 calls in 2026-04" in other
    assert "huifang exception revoke 1" in other
    assert "Traceback" not in other
    assert house.count("hand_made") == 1

    assert "It said that 0001 takes on 5 calls" in said(house, "exception", "revoke", "1", *BACK)
    assert listed(house) == [(1, "revoked")]
    assert "taken back already, by 合规乙" in said(house, "exception", "revoke", "1", *BACK, exits=2)
    said(house, *capacity, "7", *BY)
    assert listed(house) == [(1, "revoked"), (2, "open")]
    page = said(house, "exception", "list", "daily_risk", "2026")
    for words in ("exception 1", "revoked: by 合规乙", "写错", "exception 2", "not used yet"):
        assert words in page
    assert "no exception is given" in said(house, "exception", "list", "marketer_conduct", "2026")

    house.call("run", "draw", "--programme", "daily_risk", "--period", "2026-04", *at("2026-04-02", "07:30"))
    ((set_to, places),) = house.rows(
        "select capacity, places from campaign_group where campaign_id = 'daily_risk-2026-04' and group_key = '0001'"
    )
    assert set_to == 7 >= places
    assert listed(house)[1] == (2, "used")
    assert "daily_risk-2026-04 is committed with it" in said(house, "exception", "revoke", "2", *BACK, exits=2)
    assert "there is none of this number" in said(house, "exception", "revoke", "99", *BACK, exits=2)
    house.call("verify", "daily_risk-2026-04", exits=(0,))


def test_a_call_is_not_taken_back_by_an_exception_that_was_revoked(house):
    first, second = customer_of(house, "0001"), customer_of(house, "0002")
    for customer in (first, second):
        told = said(house, "exception", "withdraw", "daily_risk", "2026", customer, "--reason-code", "litigation", *BY)
        assert f"customer {customer} is taken back as litigation" in told
        assert "daily_risk-2026-03" in told
    said(house, "exception", "revoke", "1", *BACK)
    house.call("run", "draw", "--programme", "daily_risk", "--period", "2026-03", *at("2026-03-03", "07:30"))
    ended = house.rows(
        "select a.customer_id from assignment_end e join assignment a on a.id = e.assignment_id where e.kind = 'withdrawn'"
    )
    assert ended == [(second,)]
    assert listed(house) == [(1, "revoked"), (2, "used")]
    assert "the call was taken back on 2026-03-03" in said(house, "exception", "revoke", "2", *BACK, exits=2)
    again = ("exception", "withdraw", "daily_risk", "2026", second, "--reason-code", "complaint", *BY)
    assert "as litigation" in said(house, *again, exits=2)


@pytest.mark.parametrize("code", ["", "  "])
def test_a_reason_code_of_nothing_is_refused(house, code):
    words = ("exception", "withdraw", "daily_risk", "2026", customer_of(house), "--reason-code", code, *BY)
    assert "name the reason" in said(house, *words, exits=2)


def test_more_calls_than_anybody_makes_are_refused(house):
    words = ("exception", "capacity", "daily_risk", "2026-04", "0001", *BY, "--calls")
    assert "100000" in said(house, *words, "100001", exits=2)
    said(house, *words, "100000")


def test_a_marketer_whom_nobody_knows_is_given_no_capacity(house):
    house.draw("marketer_conduct", period="2026-03")
    words = ("exception", "capacity", "marketer_conduct", "2026-04")
    assert "staff extract of 2025-12-31 has no" in said(house, *words, "nobody", "--calls", "3", *BY, exits=2)
    ((marketer,),) = house.rows("select group_key from campaign_group where campaign_id like 'marketer%' limit 1")
    assert f"{marketer} takes on 3 calls" in said(house, *words, marketer, "--calls", "3", *BY)


def test_a_hand_over_is_told_in_full_and_taken_back_before_a_draw_has_applied_it(house):
    told = said(house, "handover", "0002", "0003", "--from", "2026-04-01", *BY)
    for words in ("hand-over 1", "2026-04-01", "stands for 0002", "合规甲", "诉讼中", "huifang handover revoke 1"):
        assert words in told
    assert "hand-over 1" in said(house, "handover", "give", "0002", "0001", "--from", "2026-04-01", *BY, exits=2)
    assert "is taken back by 合规乙" in said(house, "handover", "revoke", "1", *BACK)
    said(house, "handover", "give", "0002", "0001", "--from", "2026-04-01", *BY)
    assert listed(house, "handover") == [(1, "revoked"), (2, "open")]
    house.call("run", "draw", "--programme", "daily_risk", "--period", "2026-04", *at("2026-04-02", "07:30"))
    assert house.rows("select distinct to_branch from assignment_handover") == [("0001",)]
    assert not house.rows("select 1 from assignment where assigned_on >= '2026-04-01' and branch_no = '0002'")
    passed = said(house, "handover", "revoke", "2", *BACK, exits=2)
    assert "calls have passed" in passed
    assert "--passed-calls-stay" in passed
    said(house, "handover", "revoke", "2", *BACK, "--passed-calls-stay")
    stands = json.loads(house.call("handover", "list", "--json", exits=(0,)).stdout)[1]
    assert stands["stands"] == "revoked"
    assert "calls have passed" in stands["because"]
    before = house.rows("select * from assignment_handover")
    house.call("run", "draw", "--programme", "daily_risk", "--period", "2026-05", *at("2026-05-06", "07:30"))
    assert house.rows("select * from assignment_handover") == before
    assert house.rows("select 1 from assignment where assigned_on >= '2026-05-01' and branch_no = '0002'")


def test_a_circle_of_hand_overs_is_refused_on_whatever_day_it_would_close(house):
    said(house, "handover", "0001", "0002", "--from", "2026-06-01", *BY)
    refused = said(house, "handover", "0002", "0001", "--from", "2026-04-01", *BY, exits=2)
    assert "circle: 0001 → 0002 → 0001 on 2026-06-01" in refused
    assert "hand-over 1 (0001 to 0002 from 2026-06-01)" in refused
    assert "huifang handover revoke" in refused
    assert house.count("handover") == 1
    said(house, "handover", "revoke", "1", *BACK)
    said(house, "handover", "0002", "0001", "--from", "2026-04-01", *BY)
    assert "there is none of this number" in said(house, "handover", "revoke", "9", *BACK, exits=2)
