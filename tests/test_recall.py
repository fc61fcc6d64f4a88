"""A mail that went to the wrong recipient is put on record, asked back, and never followed by another one there."""

import email
import json
from datetime import date
from email.policy import default

import pandas as pd
import pytest
from house import House, at

from models.recall import DATA_KINDS, RecallRefused, check_recall, data_kinds, without_recalled
from models.tables import Mail
from tasks.settings import Settings
from tasks.store import open_store


@pytest.mark.parametrize(
    ("kind", "outcome", "earlier", "said"),
    [
        ("assignment", "failed", "", "nobody has it"),
        ("assignment", "bounced", "", "nobody has it"),
        ("assignment", "in_flight", "", "mail stop"),
        ("assignment", "recalled", "by Li Na on 2026-03-02 10:00", "by Li Na"),
        ("recall", "sent", "", "nothing to recall"),
    ],
)
def test_what_nobody_has_is_not_recalled(kind, outcome, earlier, said):
    with pytest.raises(RecallRefused, match=said):
        check_recall(7, kind, outcome, earlier)


@pytest.mark.parametrize("request_is", ["unknown", "in_flight"])
def test_a_recall_said_again_names_a_request_of_which_nobody_knows_what_became(request_is):
    with pytest.raises(RecallRefused, match=f"request to destroy is {request_is}; .*`huifang mail resolve`"):
        check_recall(7, "assignment", "recalled", "by Li Na on 2026-03-02 10:00", request_is)


@pytest.mark.parametrize("outcome", ["sent", "unknown"])
def test_what_somebody_has_or_may_have_is_recalled(outcome):
    check_recall(7, "assignment", outcome, "")


def test_every_kind_of_mail_says_what_it_tells_about_people():
    kinds = [word.strip() for word in str(Mail.kind.doc or "").split("|")]
    for kind in (
        "assignment",
        "self_check",
        "reminder",
        "receipt",
        "correction",
        "feedback",
        "commitment",
        *filter(None, kinds),
    ):
        assert set(data_kinds(kind)) <= set(DATA_KINDS)
    assert data_kinds("a kind that nobody has described") == list(DATA_KINDS), "in doubt everything"


def test_a_blocked_address_is_free_again_when_the_roster_names_it_anew():
    rows = [
        ("0001", "a@b.example", date(2025, 1, 1)), ("0001", "A@b.example", date(2026, 3, 3)),
        ("0001", "c@b.example", date(2025, 1, 1)), ("0002", "a@b.example", date(2025, 1, 1)),
    ]  # fmt: skip
    roster = pd.DataFrame(rows, columns=["branch_no", "email", "valid_from"])
    left = without_recalled(roster, {("0001", "a@b.example"): date(2026, 3, 2)})
    assert list(left.itertuples(index=False, name=None)) == rows[1:]
    assert without_recalled(roster, {}) is roster


@pytest.fixture(scope="module")
def mailed(prefect_client, tmp_path_factory):
    """A month whose lists are out."""
    house = House.build(tmp_path_factory.mktemp("house") / "home", prefect_client, customers=600, branches=4)
    house.pull()
    with pytest.MonkeyPatch.context() as chance:
        chance.setattr("flows.draw.seed.secrets.token_hex", lambda n: "5eed" * (n // 2))
        house.draw("daily_risk")
    house.call("run", "dispatch", *at("2026-03-02"))
    return house


BY = ("--by", "Li Na", "--reason", "the roster named a director who had moved")


@pytest.mark.slow
def test_a_misdirected_list_is_recorded_asked_back_and_sent_to_the_right_address(mailed, tmp_path):
    house = mailed.copy(tmp_path / "home")
    first, branch, wrong = house.rows("select id, recipient, to_address from mail where recipient != 'HQ' order by id")[
        0
    ]
    persons = house.rows(f"select count(*) from mail_item where mail_id = {first}")[0][0]
    said = house.call(
        "mail", "recall", str(first), *BY, "--measures", "called him, he had not opened it", exits=(0,)
    ).output
    assert f"{persons} persons" in said
    assert "request to destroy is sent" in said
    [record] = house.rows(
        "select mail_id, recipient, to_address, persons, is_locked, cause, decided_by from mail_recall"
    )
    assert record == (first, branch, wrong, persons, 1, BY[-1], "Li Na")
    [(path, to)] = house.rows("select path, to_address from mail where kind = 'recall'")
    assert to == wrong
    asked = email.message_from_bytes((house.home / path).read_bytes(), policy=default)
    words = str(asked["Subject"]) + asked.get_body(("plain",)).get_content() + asked.get_body(("html",)).get_content()
    assert "请销毁" in words
    assert not list(asked.iter_attachments())
    for (customer,) in house.rows("select customer_id from assignment"):
        assert customer not in words
    assert "is recalled" not in house.call("mail", "recall", str(first), *BY, exits=(2,)).output

    house.call("run", "dispatch", *at("2026-03-03"), exits=(1,))
    lists = house.rows(f"select to_address from mail where kind = 'assignment' and recipient = '{branch}'")
    assert lists == [(wrong,)], "nothing more goes to the wrong address"
    found = house.status("2026-03-03")
    assert [(one["mail"], one["persons"], one["request"]) for one in found["recalls"]] == [(first, persons, "sent")]
    [campaign] = found["campaigns"]
    assert campaign["mails"]["recalled"] == 1
    assert {row["state"] for row in campaign["branches"] if row["branch_no"] == branch} == {"not_sent"}
    shown = house.call("mail", "show", str(first)).output
    for word in (BY[-1], "called him", "phone numbers", "request to destroy: sent"):
        assert word in shown
    house.call("run", "report", *at("2026-03-03"))
    [page] = (house.home / "reports").glob("daily_risk*.html")
    assert f'data-recall="{first}"' in page.read_text(encoding="utf-8")

    contacts = house.home / "inbox" / "roster.csv"
    contacts.write_text(
        contacts.read_text(encoding="utf-8").replace(wrong, "right.director@branch.example"), encoding="utf-8"
    )
    house.call(
        "run", "pull", "--profile", "profiles/canonical.yaml", "--inbox", str(house.home / "inbox"), *at("2026-03-04")
    )
    house.call("run", "dispatch", *at("2026-03-04"), exits=(0,))
    again = house.rows(
        f"select m.to_address, count(*) from mail m join mail_item i on i.mail_id = m.id"
        f" where m.kind = 'assignment' and m.recipient = '{branch}' group by m.id order by m.id"
    )
    assert again == [(wrong, persons), ("right.director@branch.example", persons)]


@pytest.mark.slow
def test_a_recall_is_on_record_though_its_request_must_wait(mailed, tmp_path):
    house = mailed.copy(tmp_path / "home")
    [(first,)] = house.rows("select min(id) from mail where kind = 'assignment'")
    missing = house.call("mail", "recall", "999", *BY, exits=(2,)).output
    assert "not there" in missing
    [(second,)] = house.rows("select max(id) from mail where kind = 'assignment'")
    with open_store(Settings(home=house.home)).exclusive("outbox"):
        busy = house.call("mail", "recall", str(second), *BY, exits=(1,)).output
    assert "is recalled by Li Na" in busy
    assert "request to destroy waits" in busy
    assert "is sent" in house.call("mail", "recall", str(second), *BY, exits=(0,)).output
    house.call("mail", "stop", "--by", "Li Na", "--reason", "a wrong roster")
    waits = house.call("mail", "recall", str(first), *BY, exits=(1,)).output
    assert "request to destroy waits" in waits
    assert house.count("mail_recall") == 2
    assert json.loads(house.call("status", "--json", exits=(1,)).stdout)["recalls"][1]["request"] == ""
    house.call("mail", "go", "--by", "Li Na", "--reason", "corrected")
    said = house.call("mail", "recall", str(first), *BY, exits=(0,)).output
    assert "is sent" in said
    assert house.count("mail_recall") == 2
    assert house.rows("select count(*) from mail where kind = 'recall'") == [(2,)]
