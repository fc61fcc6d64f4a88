"""What a person decides about a message that was not believed, and what the next collect makes of it."""

import email
import re

import pytest
from house import House, at

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def returned(prefect_client, tmp_path_factory):
    """A month whose lists were answered; the returns of some branches came from addresses that nobody registered only."""
    house = House.build(tmp_path_factory.mktemp("house") / "home", prefect_client, customers=600, branches=6)
    house.pull()
    with pytest.MonkeyPatch.context() as chance:
        # By lot, nobody may answer the few calls of the branch whose return goes astray.
        chance.setattr("flows.draw.seed.secrets.token_hex", lambda n: "5eed" * (n // 2))
        house.draw("daily_risk")
    house.call("run", "dispatch", *at("2026-03-02"))
    house.answer("2026-03-20")
    letters = {
        path: str(email.message_from_bytes(path.read_bytes())["From"]) for path in house.home.glob("maildir/new/*")
    }
    away = {found[1] for sender in letters.values() if (found := re.search(r"\.(\d+)@mailbox", sender))}
    for path, sender in letters.items():
        if "@mailbox.example" not in sender and any(branch in sender for branch in away):
            path.unlink()
    house.call("run", "collect", *at("2026-03-21"))
    return house


def strangers(house):
    """The numbers of the quarantined messages, by reason."""
    return house.rows(
        "select message_id, reason from verdict v where verdict = 'quarantined' and version ="
        " (select max(version) from verdict w where w.message_id = v.message_id) order by 1"
    )


def collected(house, day):
    """The counts of a collect."""
    shown = re.findall(r"(\w+)\W+(\d+)", house.call("run", "collect", *at(day)).output)
    return {name: int(number) for name, number in shown}


def where_lies(house, number):
    """The folders of the Maildir in which a message lies, told by its bytes."""
    (path,) = house.rows(f"select path from message where id = {number}")[0]
    content = (house.home / path).read_bytes()
    lying = (path for path in (house.home / "maildir").glob("**/*") if path.is_file())
    return [path.parent.parent.name for path in lying if path.read_bytes() == content]


def test_a_released_message_counts_for_the_branch_that_was_named_and_once(returned, tmp_path):
    house = returned.copy(tmp_path / "home")
    number, branch = stray(house)
    before = house.status()["campaigns"][0]["completed"]
    refused = house.call(
        "quarantine", "release", str(number), "--branch", "9999", "--by", "Li Na", "--reason", "x", exits=(2,)
    )
    assert "9999" in refused.output
    house.call("quarantine", "release", str(number), "--branch", branch, "--by", "Li Na", "--reason", "called back")
    assert where_lies(house, number) == [".Quarantine"]
    assert collected(house, "2026-03-22")["unreconciled"] == 0
    assert where_lies(house, number) == [".Processed"]
    assert house.status()["campaigns"][0]["completed"] > before
    assert house.rows(f"select verdict, decided_by from verdict where message_id = {number} order by version")[-2:] == [
        ("held", "Li Na"), ("accepted", "flow:collect"),
    ]  # fmt: skip
    after = house.status()
    house.call("run", "collect", *at("2026-03-23"))
    assert house.status()["campaigns"] == after["campaigns"]
    again = house.call(
        "quarantine", "release", str(number), "--branch", branch, "--by", "Li Na", "--reason", "x", exits=(2,)
    )
    assert "only a quarantined one" in again.output


def test_a_message_released_as_another_branchs_brings_no_row(returned, tmp_path):
    house = returned.copy(tmp_path / "home")
    number, branch = stray(house)
    other = next(no for (no,) in house.rows("select distinct branch_no from assignment") if no != branch)
    before = house.status()["campaigns"][0]["completed"]
    house.call("quarantine", "release", str(number), "--branch", other, "--by", "Li Na", "--reason", "mistaken")
    house.call("run", "collect", *at("2026-03-22"))
    assert house.status()["campaigns"][0]["completed"] == before
    assert house.rows(f"select verdict from verdict where message_id = {number} order by version")[-1] == ("rejected",)


def test_a_discarded_message_is_rejected_answered_to_nobody_and_kept(returned, tmp_path):
    house = returned.copy(tmp_path / "home")
    number, _ = stray(house)
    receipts = house.count("mail")
    house.call("quarantine", "discard", str(number), "--by", "Li Na", "--reason", "advertisement")
    assert collected(house, "2026-03-22")["unreconciled"] == 0
    assert where_lies(house, number) == [".Rejected"]
    assert house.count("mail") == receipts
    (path,) = house.rows(f"select path from message where id = {number}")[0]
    assert (house.home / path).is_file()
    said = house.rows(f"select verdict, reason from verdict where message_id = {number} order by version")
    assert said[-1] == ("rejected", "discarded")


def test_a_message_that_is_judged_again_and_not_believed_again_stays_in_quarantine(returned, tmp_path):
    house = returned.copy(tmp_path / "home")
    number, _ = stray(house)
    house.call("quarantine", "retry", str(number), "--by", "Li Na", "--reason", "looked again")
    assert collected(house, "2026-03-22")["unreconciled"] == 0
    assert where_lies(house, number) == [".Quarantine"]


def test_answers_go_to_the_registered_address_only_and_two_machines_do_not_answer_each_other_for_ever(
    returned, tmp_path
):
    house = returned.copy(tmp_path / "home").having(HUIFANG_RECEIPTS_PER_DAY="3")
    ((address,),) = house.rows("select to_address from mail where kind = 'assignment' order by 1 limit 1")
    before = house.count("mail")
    for number in range(5):
        head = f"From: {address}\nReply-To: x@evil.example\nSender: {address}\nMessage-ID: <{number}@a.b>\nSubject: {number}"
        (house.home / "maildir" / "new" / f"{number}.eml").write_text(f"{head}\n\nhello\n", encoding="utf-8")
    counts = collected(house, "2026-03-22")
    assert (counts["receipts_sent"], counts["receipts_put_off"]) == (3, 2)
    assert "2 receipts_put_off" in house.said()
    again = collected(house, "2026-03-22")
    assert (again["receipts_sent"], again["receipts_put_off"]) == (0, 2)
    next_day = collected(house, "2026-03-23")
    assert (next_day["receipts_sent"], next_day["receipts_put_off"]) == (2, 0)
    sent = house.rows(f"select distinct to_address from mail where kind = 'receipt' and id > {before}")
    assert sent == [(address,)]


def test_show_names_parts_and_history_and_no_cell(returned):
    number, _ = stray(returned)
    shown = returned.call("quarantine", "show", str(number)).output
    assert "unknown_sender" in shown
    assert "unknown_sender: 发件人不在当日花名册中" in returned.call("quarantine", "list").output
    assert ".xlsx" in shown
    assert "=?utf-8?" not in shown.lower(), "headers are shown in the signs they stand for"
    names = [name for (name,) in returned.rows("select distinct customer_id from assignment")]
    assert not any(name in shown for name in names)
    missing = returned.call("quarantine", "show", "99999", exits=(2,))
    assert "not there" in missing.output


def stray(house):
    """The number of the honest return from an unknown address, and the branch that wrote it."""
    for number, reason in strangers(house):
        if reason == "unknown_sender":
            shown = house.call("quarantine", "show", str(number)).output
            for (branch,) in house.rows("select distinct branch_no from assignment"):
                if f".{branch}@mailbox.example" in shown:
                    return number, branch
    raise AssertionError("no branch wrote from an address of its own")
